"""Compare ways to read an array: cut-outs at random places, and all of it.

MagView      `MagView.read`, as users call it
tensorstore  tensorstore by hand, one open array
ranged       our own ranged reader, which serves arrays on stores, on the same local files (of Zarr 3)

All read the same boxes in turn, in one process, and must return the same voxels. Wall and processor seconds of all threads.

    python benchmarks/reads.py --data-format n5 --cuts 200 --edge 128
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median as middle
from typing import Any

import numpy as np
from data import Size, default_work, parse_size, prepared
from measuring import machine, print_rows, run, timed, wkdask

from wkdask import Dataset, MagView
from wkdask.formats.ranged import read_box
from wkdask.geometry.grid import Box

Reader = Callable[[Box], Any]


DRIVERS = {"zarr3": "zarr3", "zarr": "zarr", "n5": "n5"}
"""What tensorstore calls our formats."""


def dataset(size: Size, work: Path, data_format: str) -> Path:
    """Return a flat dataset made of the benchmark's images, made once."""
    target = work / f"flat-{data_format}-{'x'.join(map(str, size))}"
    if not (target / "datasource-properties.json").exists():
        source = prepared("em", size, work)
        arguments = ("--voxel-size", "4,4,35", "--layer-name", "color", "--no-downsample", "--overwrite-existing")
        arguments += ("--data-format", data_format)
        run(wkdask("convert", source, target, *arguments))
    return target


def readers(mag: MagView) -> dict[str, Reader]:
    """Return the ways to read, each a function of a box in stored axes."""
    import tensorstore

    handle: Any = mag.array.handle
    data_format = str(mag.layer.data_format)
    spec = {"driver": DRIVERS[data_format], "kvstore": {"driver": "file", "path": handle.location.url + "/"}}
    store = tensorstore.open(spec, open=True, read=True).result()
    found: dict[str, Reader] = {
        "MagView": lambda box: mag.read(absolute_offset=box.start[1:], size=box.shape[1:]),
        "tensorstore": lambda box: store[box.slices].read(order="F").result(),
    }
    if data_format == "zarr3":
        found["ranged"] = lambda box: read_box(handle, box)
    return found


def boxes(mag: MagView, cuts: int, edge: int) -> list[Box]:
    """Return boxes at random places, always the same."""
    draw, size = random.Random(1), mag.bounding_box.size
    found = []
    for _ in range(cuts):
        shape = [min(edge, n) for n in size]
        start = [draw.randint(0, n - s) for n, s in zip(size, shape, strict=True)]
        found.append(Box((0, *start), (1, *(a + s for a, s in zip(start, shape, strict=True)))))
    return found


def checksum(read: Reader, wanted: list[Box]) -> int:
    """Read boxes, and add up some voxels of each."""
    return sum(int(read(box)[..., ::16].sum(dtype=np.uint64)) for box in wanted)


def measure(mag: MagView, cuts: int, edge: int, runs: int) -> dict[str, dict[str, float]]:
    """Return wall and processor seconds for each way and task, medians of several runs."""
    whole = Box((0, 0, 0, 0), (1, *mag.bounding_box.size))
    tasks = {f"{cuts} cut-outs": boxes(mag, cuts, edge), "whole": [whole]}
    ways = readers(mag)
    found: dict[str, dict[str, float]] = {}
    for task, wanted in tasks.items():
        for read in ways.values():
            checksum(read, wanted[:4])
        taken = [{way: timed(partial(checksum, read, wanted)) for way, read in ways.items()} for _ in range(runs)]
        if len({total for turn in taken for *_, total in turn.values()}) != 1:
            raise ValueError(f"the ways to read differ in what they read: {taken}")
        for way in ways:
            seconds = {what: middle(turn[way][i] for turn in taken) for i, what in enumerate(("wall", "cpu"))}
            found[f"{task}, {way}"] = seconds | {"megabytes": sum(box.size for box in wanted) / 1e6}
    return found


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=parse_size, default=(1024, 1024, 256), help="x,y,z voxels (default 1024,1024,256)")
    parser.add_argument("--data-format", choices=DRIVERS, default="zarr3", help="of the array (default %(default)s)")
    parser.add_argument("--cuts", type=int, default=200, help="how many cut-outs (default 200)")
    parser.add_argument("--edge", type=int, default=128, help="voxels along each axis of a cut-out (default 128)")
    parser.add_argument("--runs", type=int, default=3, help="of which medians are taken (default 3)")
    parser.add_argument("--work", type=Path, default=default_work(), help="folder of inputs and datasets (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    mag = Dataset.open(dataset(options.size, options.work, options.data_format)).get_layer("color").get_mag("1")
    found = measure(mag, options.cuts, options.edge, options.runs)
    if options.json:
        print(json.dumps(found, indent=1))
        return
    print(f"{'x'.join(map(str, options.size))} uint8, {options.data_format}, medians of {options.runs}; {machine()}")
    rows = [(name, f"{r['wall']:.3f}", f"{r['cpu']:.3f}", f"{r['megabytes'] / r['wall']:.0f}") for name, r in found.items()]
    print_rows([("what", "wall s", "cpu s", "MB/s"), *rows])


if __name__ == "__main__":
    main()
