"""Fuzz all targets, two at a time: ``python -m tests.fuzz.campaign --seconds 600 --folder FOLDER [NAME ...]``.

A process that dies is begun again as long as there is time. What was found lies in FOLDER/NAME, and the inputs of which a
process died in FOLDER/NAME/death-*; the search goes on from the inputs in FOLDER/NAME/corpus the next time.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from tests.fuzz.fuzz_target import LAST
from tests.fuzz.targets import TARGETS

OPTIONS = ("-max_len=16384", "-timeout=30", "-rss_limit_mb=3072", "-print_final_stats=1", "-len_control=0", "-reduce_inputs=0")
MOST_DEATHS = 20
STATE = re.compile(r"#(\d+)\s.*?cov: (\d+) ft: (\d+) corp: (\d+)")


def fuzz(name: str, folder: Path, seconds: float) -> str:
    """Fuzz a target, and return one line that says what came of it."""
    work = folder / name
    work.mkdir(parents=True, exist_ok=True)
    end, deaths, runs, state = time.monotonic() + seconds, 0, 0, ("0",) * 4
    first: tuple[str, ...] | None = None
    while (left := int(end - time.monotonic())) > 0 and deaths < MOST_DEATHS:
        command = ["nice", "-n", "19", sys.executable, "-m", "tests.fuzz.fuzz_target", name, str(work)]
        with open(work / "log", "ab+") as log:
            begin = log.seek(0, 2)
            command += [f"-max_total_time={left}", *OPTIONS]
            code = subprocess.run(command, stdout=log, stderr=log, check=False).returncode
            log.seek(begin)
            states = [found.groups() for found in STATE.finditer(log.read().decode(errors="replace"))]
        if code:
            deaths += 1
            with suppress(FileNotFoundError):
                (work / LAST).rename(work / f"death-{int(time.time())}")
        if states:
            first, state = first or states[0], states[-1]
            runs += int(state[0])
    found = len(list((work / "findings").glob("*.txt"))) + deaths
    features = f"{first[2] if first else 0} -> {state[2]} features"
    return f"{name}: {runs} executions, {state[1]} edges, {features}, {state[3]} inputs, {found} findings ({deaths} deaths)"


def main() -> int:
    """Fuzz, print a line for each target, and return 1 where anything was found."""
    parser = argparse.ArgumentParser(description="Fuzz formats and documents.")
    parser.add_argument("--seconds", type=float, default=600, help="for each target")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("names", nargs="*", default=list(TARGETS), metavar="NAME", help=f"of {', '.join(TARGETS)}")
    asked = parser.parse_args()
    sound = True
    with ThreadPoolExecutor(asked.jobs) as pool:
        for line in pool.map(lambda name: fuzz(name, asked.folder, asked.seconds), asked.names or list(TARGETS)):
            print(line, flush=True)
            sound &= " 0 findings" in line
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
