"""Compare the memory that a plan predicts with what its process takes.

shard   one shard of uint64 cells, made on the fly (default 1024^3, 8 GiB of voxels), written in parts that are joined
em      `wkdask convert` of images, with its pyramid
labels  `wkdask convert` of labels, with its pyramid

Each runs as a process of its own, whose anonymous and shared memory is sampled every 20 ms. The prediction is what the process
has taken before its first task, and what each of its threads may need. ``--limit`` makes the exit status 1 where a shard takes
more.

    python benchmarks/memory.py shard --edge 1024 --limit 1.5GiB
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data import Size, default_work, label_slices, parse_size, prepared
from measuring import machine, print_rows, run, wkdask

CASES = ("shard", "em", "labels")
COARSE = 8
"""The cells of a shard are made for every eighth voxel along each axis, so that making them costs little."""


@dataclass(frozen=True)
class Cells:
    """A source of tiles: cells with a number each, from nothing; see `wkdask.operations.tiles.Source`."""

    def read(self, box: Any) -> Any:
        """Return a box; nothing as large as the box is held beside it."""
        import numpy as np

        out = np.empty(box.shape, "uint64", order="F")
        start, size = ([n // COARSE for n in row[1:]] for row in (box.start, box.shape))
        slices = label_slices((size[0], size[1], size[2]), "uint64", (start[0], start[1], start[2]), cell=6)
        blocks = out[0].transpose().reshape(size[2], COARSE, size[1], COARSE, size[0], COARSE)
        for block, coarse in zip(blocks, slices, strict=True):
            block[...] = coarse[:, None, :, None]
        return out

    def bytes_read(self, box: Any) -> int:
        """Return the bytes of a box."""
        return int(box.size) * 8

    def bytes_beside(self, box: Any) -> int:  # noqa: ARG002
        """Return 0: no memory but that of the voxels."""
        return 0

    @property
    def growth(self) -> str:
        """Tiles may grow along all axes."""
        return "xyz"

    def needs(self, box: Any) -> Iterable[tuple[int, int]]:  # noqa: ARG002
        """Return nothing: cells are always there."""
        return ()

    def describe(self, _tile: object) -> str:
        """Return what is read."""
        return "cells"


@dataclass(frozen=True)
class OneArray:
    """The setup of a plan that makes an array and nothing around it; see `wkdask.plan.Setup`."""

    array: Any

    restart_by = ""

    def check(self) -> None:
        """Accept any target."""

    def create(self) -> None:
        """Make the empty array."""
        from wkdask.formats import Zarr3

        Zarr3().create(self.array.location, self.array.spec)

    def sweep(self, keep: frozenset[str]) -> None:
        """Never resumed."""

    def finish(self, journal: Iterable[Any]) -> None:
        """Leave nothing."""


def shard_plan(target: Path, edge: int, threads: int) -> Any:
    """Return the plan that writes one shard."""
    from wkdask.formats import ArraySpec, Zarr3, parse_codec
    from wkdask.geometry.grid import Box
    from wkdask.operations import Running
    from wkdask.operations.level import Level
    from wkdask.operations.pyramid import TILE_BYTES, Room, build_stages
    from wkdask.plan import Journal, Plan
    from wkdask.storage import Location

    place, shape = Location(str(target)), (1, edge, edge, edge)
    spec = ArraySpec(shape, "uint64", ("c", "x", "y", "z"), (1, 32, 32, 32), shape, parse_codec("zstd:5"))
    array = Zarr3().at(place / "cells" / "1", spec)
    level = Level("cells/1", array, Box((0,) * 4, shape), (1,) * 4, "mode")
    room = Room(threads, min(TILE_BYTES, Running(workers=threads).tile_bytes))
    journal = Journal(place, "cells")
    stages, _ = build_stages(Cells(), [level], room, journal)
    return Plan("write cells", journal, {"edge": edge}, "cells", tuple(stages), (), OneArray(array), threads)


def write_shard(target: Path, edge: int, threads: int) -> None:
    """Write a shard in this process, and print what was predicted."""
    plan = shard_plan(target, edge, threads)
    print(f"{plan}", file=sys.stderr)
    report = plan.run()
    files = [path for path in (target / "cells" / "1" / "c").rglob("*") if path.is_file()]
    parts = plan.stages[0].count if len(plan.stages) > 1 else 0
    print(json.dumps({"predicted_bytes": report.predicted_bytes, "parts": parts, "files": len(files)}))


def measure(case: str, work: Path, size: Size, edge: int, threads: int) -> dict[str, Any]:
    """Run one case; return what was predicted and measured, in bytes."""
    with tempfile.TemporaryDirectory(dir=work) as folder:
        target = Path(folder) / "out"
        if case == "shard":
            command: list[object] = [sys.executable, __file__, "--write-shard", target, "--edge", edge, "--threads", threads]
        else:
            layer = ("--layer-name", case, "--category", "segmentation" if case == "labels" else "color")
            command = wkdask("convert", prepared(case, size, work), target, "--voxel-size", "4,4,35", *layer, "--json")
            command += ["--jobs", threads, "--progress", "none"]
        took = run(command)
        shutil.rmtree(target)
    said = json.loads(took.out)
    predicted = said.pop("predicted_bytes")
    figures = {"case": case, "predicted": predicted, "measured": took.peak, "ratio": took.peak / predicted, "wall": took.wall}
    return figures | {name: said[name] for name in ("parts", "files") if name in said}


def parse_limit(text: str) -> int:
    """Read an amount of memory."""
    from wkdask.plan import parse_bytes

    return parse_bytes(text)


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)} (default: all)")
    parser.add_argument("--edge", type=int, default=1024, help="voxels along each axis of the shard (default 1024)")
    parser.add_argument("--size", type=parse_size, default=(2048, 2048, 64), help="x,y,z of the images (default 2048,2048,64)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of each process (default: the cores)")
    parser.add_argument("--limit", type=parse_limit, default=0, help="of what the shard may take, such as 1.5GiB")
    parser.add_argument("--work", type=Path, default=default_work(), help="folder of inputs and results (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--write-shard", type=Path, metavar="FOLDER", help="only write a shard, in this process")
    options = parser.parse_args()
    if options.write_shard:
        write_shard(options.write_shard, options.edge, options.threads)
        return 0
    if unknown := set(options.cases) - set(CASES):
        parser.error(f"there is no case {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    options.work.mkdir(parents=True, exist_ok=True)
    cases = options.cases or CASES
    found = [measure(case, options.work, options.size, options.edge, options.threads) for case in cases]
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        print(f"{options.threads} threads; {machine()}")
        rows: list[tuple[object, ...]] = [("case", "predicted MB", "measured MB", "measured / predicted", "wall s")]
        for one in found:
            megabytes = [f"{one[name] / 1e6:.0f}" for name in ("predicted", "measured")]
            rows.append((one["case"], *megabytes, f"{one['ratio']:.2f}", f"{one['wall']:.1f}"))
        print_rows(rows)
    return int(any(options.limit and one["case"] == "shard" and one["measured"] > options.limit for one in found))


if __name__ == "__main__":
    sys.exit(main())
