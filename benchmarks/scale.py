"""Measure what a plan costs beside its work: describing it, laying out its batches, and each task that does nothing.

    python benchmarks/scale.py --tasks 1000000
    python benchmarks/scale.py --tasks 20000 --strategy leases

Every task of the plan is journalled, with a line of its own. Memory is what the process had at most beyond what it had before.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measuring import machine, print_rows

from wkdask.clusters import open_pool
from wkdask.formats import ArraySpec, Zarr3
from wkdask.geometry.grid import Box
from wkdask.operations.level import Level
from wkdask.operations.pyramid import Room, build_stages
from wkdask.plan import Journal, Plan, Receipt, Stage
from wkdask.plan.window import Done, Window
from wkdask.storage import Location


@dataclass(frozen=True)
class Idle:
    """Tasks that do nothing and leave nothing."""

    count: int

    bytes_needed = bytes_in = bytes_out = scratch_needed = parts_bytes = 0

    def run(self, stage: int, number: int) -> Receipt:
        """Do nothing."""
        return Receipt(stage, number)

    def dependencies(self, number: int) -> tuple[()]:  # noqa: ARG002
        """Return nothing."""
        return ()

    consumes = dependencies

    def retire(self, number: int) -> None:
        """Do nothing."""

    def is_intact(self, record: object) -> bool:  # noqa: ARG002
        """Return True."""
        return True

    def describe(self) -> str:
        """Return what is done."""
        return "nothing"


class Empty:
    """A source that costs nothing to describe; see `wkdask.operations.tiles.Source`."""

    growth, is_there = "xyz", True

    def bytes_read(self, box: Box) -> int:
        """Return the voxels of a box."""
        return box.size

    bytes_beside = bytes_read

    def needs(self, box: Box) -> tuple[()]:  # noqa: ARG002
        """Return nothing."""
        return ()

    def describe(self, tile: object) -> str:  # noqa: ARG002
        """Return what is read."""
        return "nothing"


class NoSetup:
    """Nothing has to be there."""

    restart_by = ""

    def check(self) -> None:
        """Accept everything."""

    clear = create = check

    def sweep(self, keep: object) -> None:
        """Delete nothing."""

    finish = sweep


def pyramid(shape: tuple[int, int, int], unit: int, tile_bytes: int) -> Plan:
    """Return the plan of a volume with eight further magnifications."""
    journal, levels, box = Journal(Location("memory://scale"), "color"), [], Box((0, 0, 0, 0), (1, *shape))
    for number, factor in enumerate([(1, 1, 1, 1), *[(1, 2, 2, 2)] * 8]):
        box = box.coarsened(factor)
        size = tuple(-(-n // u) * u for n, u in zip(box.stop, (1, unit, unit, unit), strict=True))
        spec = ArraySpec(size, "uint8", ("c", "x", "y", "z"), (1, 32, 32, 32), (1, unit, unit, unit))
        array = Zarr3().at(journal.target / "color" / str(number), spec)
        levels.append(Level(f"color/{number}", array, box, factor, "max"))
    stages, _ = build_stages(Empty(), levels, Room(2, tile_bytes), journal)
    return Plan("pyramid", journal, {}, "", tuple(stages), (), NoSetup())


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Return what a call returns, its seconds, and by how many MB the process grew."""
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    found = work()
    return found, time.perf_counter() - start, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3


def walk(plan: Plan) -> int:
    """Take all batches of a plan, as if each were done at once; return how many there are."""
    done = Done((stage.count for stage in plan.stages), {})
    window, taken = Window(plan, done), 0
    while batch := window.take():
        taken += 1
        window.finished(window.key(batch))
    return taken


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=1_000_000, help="that do nothing (default 1000000)")
    parser.add_argument("--strategy", default="threads", help="where they run (default threads)")
    parser.add_argument("--jobs", type=int, default=2, help="tasks at once (default 2)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    rows: list[tuple[str, int, float, float, float]] = []
    huge, seconds, grown = timed(lambda: pyramid((150_000, 150_000, 10_000), 32, 1 << 20))
    (_, more, further) = timed(lambda: (str(huge), huge.describe()))
    rows.append(
        ("describe a pyramid, a unit", huge.tasks, seconds + more, (seconds + more) / huge.tasks * 1e6, grown + further)
    )
    for shape, unit in (((8192, 8192, 4096), 64), ((2048, 2048, 1024), 64)):
        plan = pyramid(shape, unit, 1 << 18)
        taken, seconds, grown = timed(lambda plan=plan: walk(plan))
        rows.append((f"batches of a pyramid of {plan.tasks} tasks", taken, seconds, seconds / taken * 1e6, grown))
    with tempfile.TemporaryDirectory() as folder:
        idle = (Stage("idle", Idle(options.tasks)),)
        plan = Plan("idle", Journal(Location(str(Path(folder) / "ds")), "idle"), {}, "", idle, (), NoSetup(), options.jobs)
        before = time.process_time()
        _, seconds, grown = timed(lambda: plan.run(pool=open_pool(options.strategy, options.jobs)))
        used = time.process_time() - before
    rows.append((f"idle tasks, {options.strategy}", options.tasks, seconds, seconds / options.tasks * 1e6, grown))
    rows.append(("the same, processor seconds here", options.tasks, used, used / options.tasks * 1e6, grown))
    if options.json:
        print(
            json.dumps([dict(zip(("what", "count", "seconds", "microseconds each", "MB"), row, strict=True)) for row in rows])
        )
        return
    print(machine())
    shown = [(name, str(count), f"{a:.2f}", f"{b:.2f}", f"{c:.0f}") for name, count, a, b, c in rows]
    print_rows([("what", "count", "seconds", "us each", "MB more"), *shown])


if __name__ == "__main__":
    main()
