"""Measure how long the command line takes to say anything, and the package to import.

Each line is the median of several new processes: wall and processor seconds, and the memory that was resident at most.

    python benchmarks/startup.py --runs 15
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from measuring import Run, machine, median, print_rows, run, wkdask

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "wkdask --version": wkdask("--version"),
    "wkdask --help": wkdask("--help"),
    "wkdask convert --help": wkdask("convert", "--help"),
    "import wkdask": [sys.executable, "-c", "import wkdask"],
    "import all names of wkdask": [sys.executable, "-c", "from wkdask import *"],
}


def measure(runs: int) -> dict[str, Run]:
    """Run each command once uncounted, then all of them in turn."""
    for command in COMMANDS.values():
        run(command, sampled=False)
    turns = [{name: run(command, sampled=False) for name, command in COMMANDS.items()} for _ in range(runs)]
    return {name: median([turn[name] for turn in turns]) for name in COMMANDS}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9, help="of each command (default 9)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    found = measure(options.runs)
    if options.json:
        print(json.dumps({name: asdict(one) | {"out": ""} for name, one in found.items()}, indent=1))
        return
    print(machine())
    rows = [(name, f"{one.wall:.3f}", f"{one.cpu:.3f}", f"{one.resident / 1e6:.0f}") for name, one in found.items()]
    print_rows([("command", "wall s", "cpu s", "resident MB"), *rows])


if __name__ == "__main__":
    main()
