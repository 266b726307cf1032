"""Compare the compressors of `wkdask convert` on electron microscopy: wall and processor seconds, memory, bytes on disk.

Each line is a conversion with its pyramid. With ``--theirs``, the command line of the webknossos library converts the same
images in turn with ours (its codec is zstd:5), and its figures are divided by ours: above 1 means that ours is better.

    python benchmarks/codecs.py --codecs zstd:1,zstd:5
    python benchmarks/codecs.py --theirs peer/bin/webknossos --runs 1
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from data import default_work, parse_size, prepared
from measuring import Run, bytes_on_disk, machine, median, print_rows, run, wkdask

ARGUMENTS = ("--voxel-size", "4,4,35", "--data-format", "zarr3", "--layer-name", "color")
THEIRS = "theirs zstd:5"


@dataclass(frozen=True)
class Row:
    """What a codec took, and the bytes of its result."""

    took: Run
    disk: int


def convert(command: list[object], target: Path) -> Row:
    """Convert into a place that is empty before and after."""
    shutil.rmtree(target, ignore_errors=True)
    took = run(command)
    disk = bytes_on_disk(target)
    shutil.rmtree(target)
    return Row(took, disk)


def measure(source: Path, target: Path, codecs: list[str], theirs: str | None, runs: int) -> dict[str, Row]:
    """Run all of them in turn; the first run of ours is not counted."""
    tail = [source, target, *ARGUMENTS]
    commands = {codec: wkdask("convert", *tail, "--codec", codec) for codec in codecs}
    convert(commands[codecs[0]], target)
    if theirs:
        commands[THEIRS] = [theirs, "convert", *tail]
    turns = [{name: convert(command, target) for name, command in commands.items()} for _ in range(runs)]
    return {name: Row(median([turn[name].took for turn in turns]), turns[0][name].disk) for name in commands}


def show(found: dict[str, Row], megabytes: float) -> None:
    """Print the figures, and theirs by ours."""
    rows: list[tuple[object, ...]] = [("codec", "wall s", "cpu s", "peak MB", "disk MB", "MB/s")]
    for name, row in found.items():
        took = row.took
        sizes = f"{took.peak / 1e6:.0f}", f"{row.disk / 1e6:.1f}", f"{megabytes / took.wall:.0f}"
        rows.append((name, f"{took.wall:.2f}", f"{took.cpu:.2f}", *sizes))
    theirs, ours = found.get(THEIRS), found.get("zstd:5")
    if theirs and ours:
        ratios = (theirs.took.wall / ours.took.wall, theirs.took.cpu / ours.took.cpu, theirs.took.peak / ours.took.peak)
        rows.append(("theirs / ours, zstd:5", *(f"{ratio:.2f}" for ratio in (*ratios, theirs.disk / ours.disk)), ""))
    print_rows(rows)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codecs", default="zstd:1,zstd:5", help="separated by commas (default %(default)s)")
    parser.add_argument("--theirs", help="command line of the webknossos library")
    parser.add_argument("--size", type=parse_size, default=(1024, 1024, 256), help="x,y,z voxels (default 1024,1024,256)")
    parser.add_argument("--runs", type=int, default=3, help="of which medians are taken (default 3)")
    parser.add_argument("--work", type=Path, default=default_work(), help="folder of inputs and results (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    source = prepared("em", options.size, options.work)
    found = measure(source, options.work / "out-codecs", options.codecs.split(","), options.theirs, options.runs)
    if options.json:
        print(json.dumps({name: asdict(row.took) | {"disk": row.disk, "out": ""} for name, row in found.items()}, indent=1))
        return
    x, y, z = options.size
    print(f"{x}x{y}x{z}, medians of {options.runs}; {machine()}")
    show(found, x * y * z / 1e6)


if __name__ == "__main__":
    main()
