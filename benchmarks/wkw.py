"""Compare reading and writing WKW with the `wkw` library, whose core is Rust.

The same boxes of the same files, and the same cubes of voxels, in turn: one round of each task by us, then by the library in
a process of its own (it lies in another environment). Medians of wall and processor seconds of all threads; theirs divided by
ours, so that above 1 means that ours is better.

    python benchmarks/wkw.py --theirs peer/bin/python
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from data import Size, default_work, em_slice, parse_size
from measuring import machine, print_rows, timed

from wkdask.formats import ArraySpec, Wkw, open_array, parse_codec
from wkdask.geometry.grid import Box
from wkdask.storage import Location

KINDS = {"raw": ("none", 1), "lz4": ("lz4", 2), "lz4hc": ("lz4hc", 3)}
EDGE = 1024
Array = np.ndarray[Any, Any]

THEIRS = """
import json, os, shutil, sys, time
import numpy as np, wkw

voxels = np.load(sys.argv[1], mmap_mode="r")

def read(folder, boxes):
    dataset = wkw.Dataset.open(folder)
    return sum(int(dataset.read(start, size)[..., ::16].sum(dtype=np.uint64)) for start, size in boxes)

def write(folder, kind):
    dataset = wkw.Dataset.create(folder, wkw.Header(np.uint8, block_type=kind))
    dataset.write((0, 0, 0), cube if kind > 1 else cube[:, :, :, :voxels.shape[3]])
    return os.path.getsize(folder + "/z0/y0/x0.wkw")

cube = np.zeros((1, 1024, 1024, 1024), np.uint8, order="F")
cube[:, :, :, :voxels.shape[3]] = voxels
for line in sys.stdin:
    task, *given = json.loads(line)
    wall, cpu = time.perf_counter(), time.process_time()
    result = {"read": read, "write": write}[task](*given)
    print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu, result]), flush=True)
"""

Took = tuple[float, float, int]


class Library:
    """The `wkw` library, in a process of its own that waits for tasks."""

    def __init__(self, python: str, voxels: Path) -> None:
        command = [python, "-c", THEIRS, str(voxels)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, task: str, *given: object) -> Took:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps([task, *given]) + "\n")
        self._process.stdin.flush()
        wall, cpu, result = json.loads(self._process.stdout.readline())
        return wall, cpu, result

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def volume(size: Size, work: Path) -> Path:
    """Return a file of voxels that compress as electron microscopy does, made once."""
    path = work / f"wkw-{'x'.join(map(str, size))}.npy"
    if not path.exists():
        work.mkdir(parents=True, exist_ok=True)
        voxels = np.empty((1, *size), np.uint8, order="F")
        for z in range(size[2]):
            voxels[0, :, :, z] = em_slice(z, (size[1], size[0])).T
        np.save(path, voxels)
    return path


def boxes(size: Size, cuts: int, edge: int) -> list[Box]:
    """Return boxes at random places, always the same."""
    draw, found = random.Random(1), []
    for _ in range(cuts):
        start = [draw.randint(0, n - min(edge, n)) for n in size]
        found.append(Box((0, *start), (1, *(a + min(edge, n) for a, n in zip(start, size, strict=True)))))
    return found


def read(folder: Path, wanted: list[Box]) -> int:
    """Read boxes, and add up some voxels of each."""
    array = open_array(Location(str(folder)), "wkw")
    return sum(int(array.read(box)[..., ::16].sum(dtype=np.uint64)) for box in wanted)


def write(folder: Path, codec: str, voxels: Array) -> int:
    """Write voxels as one cube; return the file's size."""
    spec = ArraySpec(voxels.shape, "uint8", tuple("cxyz"), (1, 32, 32, 32), (1, EDGE, EDGE, EDGE), parse_codec(codec))
    array = Wkw().create(Location(str(folder)), spec)
    with array.unit((0, 0, 0, 0), array.scratch) as out:
        out.put(spec.grid.box, voxels)
    return out.written.size


def fresh(folder: Path) -> Path:
    """Return a folder that is not there, in one that is."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder


def turn(theirs: Library, voxels: Array, work: Path, wanted: dict[str, list[Box]]) -> dict[str, tuple[Took, Took]]:
    """Do each task once, by us and by them: writes, then reads of what they wrote."""
    found = {}
    for kind, (codec, number) in KINDS.items():
        ours_at, theirs_at = fresh(work / "ours" / kind / "1"), fresh(work / "theirs" / kind / "1")
        found[f"write {kind}"] = (
            timed(lambda at=ours_at, c=codec: write(at, c, voxels)),
            theirs("write", str(theirs_at), number),
        )
    for kind in KINDS:
        folder = work / "theirs" / kind / "1"
        for name, some in wanted.items():
            given = [(box.start[1:], box.shape[1:]) for box in some]
            found[f"{name}, {kind}"] = timed(lambda at=folder, s=some: read(at, s)), theirs("read", str(folder), given)
    return found


def measure(python: str, size: Size, cuts: int, edge: int, runs: int, work: Path) -> dict[str, dict[str, float]]:
    """Return medians for each task, and the result: bytes written, or the checksum of what was read."""
    path = volume(size, work)
    voxels = np.load(path)
    wanted = {f"{cuts} cut-outs": boxes(size, cuts, edge), "whole": [Box((0, 0, 0, 0), (1, *size))]}
    theirs = Library(python, path)
    try:
        turns = [turn(theirs, voxels, work / "wkw", wanted) for _ in range(runs)]
    finally:
        theirs.close()
        shutil.rmtree(work / "wkw", ignore_errors=True)
    found = {}
    for task in turns[0]:
        ours, other = zip(*(one[task] for one in turns), strict=True)
        if not task.startswith("write") and len({took[2] for took in (*ours, *other)}) != 1:
            raise ValueError(f"{task}: the voxels read differ: {ours}, {other}")
        middle = [median(took[i] for took in who) for who in (ours, other) for i in range(3)]
        found[task] = dict(zip(("wall", "cpu", "result", "their wall", "their cpu", "their result"), middle, strict=True))
    return found


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--theirs", required=True, help="Python of an environment with the wkw library")
    parser.add_argument("--size", type=parse_size, default=(1024, 1024, 256), help="x,y,z voxels (default 1024,1024,256)")
    parser.add_argument("--cuts", type=int, default=200, help="how many cut-outs (default 200)")
    parser.add_argument("--edge", type=int, default=128, help="voxels along each axis of a cut-out (default 128)")
    parser.add_argument("--runs", type=int, default=3, help="of which medians are taken (default 3)")
    parser.add_argument("--work", type=Path, default=default_work(), help="folder of inputs and datasets (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    if max(options.size) > EDGE:
        parser.error(f"the size {options.size} is larger than one file of {EDGE}^3")
    found = measure(options.theirs, options.size, options.cuts, options.edge, options.runs, options.work)
    if options.json:
        print(json.dumps(found, indent=1))
        return
    print(f"{'x'.join(map(str, options.size))} uint8, medians of {options.runs}; {machine()}")
    rows: list[tuple[object, ...]] = [("task", "wall s", "cpu s", "theirs", "cpu s", "wall ratio", "cpu ratio", "MB", "theirs")]
    for task, r in found.items():
        sizes = [f"{r[k] / 1e6:.1f}" if task.startswith("write") else "" for k in ("result", "their result")]
        seconds = [f"{r[k]:.3f}" for k in ("wall", "cpu", "their wall", "their cpu")]
        rows.append((task, *seconds, f"{r['their wall'] / r['wall']:.2f}", f"{r['their cpu'] / r['cpu']:.2f}", *sizes))
    print_rows(rows)


if __name__ == "__main__":
    main()
