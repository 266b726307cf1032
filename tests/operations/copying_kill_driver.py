"""Run as a program: a small copy, or a layer stored anew, is killed after its k-th change, and taken up again.

Each run is a forked child of a process that has started nothing. Prints how many kills there were.
Usage: copying_kill_driver.py SOURCE FOLDER CASE [few], where the case is files, tiles, compress or rechunk, and the source a
dataset with a layer ``em``. With ``few`` the kills are those beside changes of the dataset's JSON and some others; else there
is one after every change.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import traceback
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import zstandard  # noqa: F401 - loaded once, here

import wkdask as wk
from wkdask.operations import Running, copying_stages
from wkdask.operations.compressing import is_needed, plan_rechunk
from wkdask.operations.copying import Origin, plan_copy_layer
from wkdask.operations.copying_shape import Wishes
from wkdask.plan import Journal
from wkdask.storage import WORK_FOLDER, Location, observe

CASE = sys.argv[3] if len(sys.argv) > 3 else "files"
IN_PLACE = CASE in ("compress", "rechunk")
WISHES = {
    "files": Wishes(),
    "tiles": Wishes("wkw"),
    "compress": Wishes(codec="compressed"),
    "rechunk": Wishes(chunk=(8, 4, 8), shard=(16, 32, 16)),
}


def run(source: str, target: Path) -> None:
    """Copy, or store anew, on two threads."""
    copying_stages.TILE_BYTES = 1  # several tiles, and parts of units to join
    if IN_PLACE:
        plan = plan_rechunk(Location(str(target)), "em", WISHES[CASE], running=Running(2))
        if is_needed(plan):
            plan.run()
        return
    plan = plan_copy_layer(Origin(Location(source), "em"), Location(str(target)), None, WISHES[CASE], running=Running(2))
    if plan.stages:
        plan.run()


def in_child(work) -> int:
    """Fork, do the work, and return the exit status, or minus the signal."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 - a child of a fork must not return
            traceback.print_exc()
            os._exit(99)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run_killed(source: str, target: Path, k: int) -> None:
    """Run until the k-th change, then die at once."""
    seen = 0

    def kill(event: str, url: str) -> None:
        nonlocal seen
        seen += 1
        if seen >= k:
            os.kill(os.getpid(), signal.SIGKILL)

    with observe(kill):
        run(source, target)


def chosen(source: str, target: Path) -> Iterator[int]:
    """Yield after which changes to kill: after all, one by one; or beside commits, and three others."""
    if sys.argv[4:] != ["few"]:
        yield from count(1)
    events = target.with_name("events")

    def told() -> None:
        seen = []
        with observe(lambda event, url: seen.append(event)):
            run(source, target)
        events.write_text(" ".join(seen))

    if in_child(told):
        raise SystemExit("the undisturbed run failed")
    seen = events.read_text().split()
    after = {k + step for k, event in enumerate(seen, 1) if event == "commit" for step in (-1, 0, 2)}
    yield from sorted({3, len(seen) // 3, len(seen) - 3} | after)


def voxels(target: Path) -> dict[str, np.ndarray]:
    """All voxels of all magnifications that the JSON lists."""
    if not (target / "datasource-properties.json").exists():
        return {}
    layers = wk.Dataset.open(target).layers
    views = layers["em"].mags.values() if "em" in layers else ()
    return {view.name: view.array.read(view.array.box) for view in views}


def check(source: str, target: Path, *, complete: bool) -> None:
    """What is listed has the voxels of the source; in place, all is listed at any time."""
    wanted, found = voxels(Path(source)), voxels(target)
    if (complete or IN_PLACE) and wanted.keys() != found.keys():
        raise AssertionError(f"{sorted(found)} are listed")
    for name, volume in found.items():
        if not np.array_equal(volume, wanted[name]):
            raise AssertionError(f"the voxels of mag {name} differ")


def files(target: Path) -> dict[str, bytes]:
    """All files of a dataset but those of our own work folder, which hold times."""
    found = (path for path in target.rglob("*") if path.is_file() and WORK_FOLDER not in path.parts)
    return {str(path.relative_to(target)): path.read_bytes() for path in found}


def main(source: str, folder: Path) -> None:
    """Kill after every change."""

    def fresh(name: str) -> Path:
        if IN_PLACE:
            shutil.copytree(source, folder / name / "ds")
        return folder / name / "ds"

    whole = fresh("whole")
    if in_child(lambda: run(source, whole)):
        raise SystemExit("the undisturbed run failed")
    reference, kills = files(whole), 0
    for k in chosen(source, fresh("watched")):
        target = fresh(f"killed-{k}")
        status = in_child(lambda target=target, k=k: run_killed(source, target, k))
        if status == 0:
            break
        if status != -signal.SIGKILL:
            raise SystemExit(f"the run to be killed after change {k} ended with {status}")
        if in_child(lambda target=target: check(source, target, complete=False)):
            raise SystemExit(f"after the kill at change {k} a reader saw other voxels")
        if in_child(lambda target=target: run(source, target)):
            raise SystemExit(f"the run after the kill at change {k} failed")
        if in_child(lambda target=target: check(source, target, complete=True)):
            raise SystemExit(f"the run after the kill at change {k} made other voxels")
        now = files(target)
        if now != reference:
            names = sorted(name for name in {*now, *reference} if now.get(name) != reference.get(name))
            raise SystemExit(f"after the kill at change {k} these differ: {names}")
        if Journal(Location(str(target)), "em").document() is not None:  # receipts of a job that is over may lie about
            raise SystemExit(f"after the kill at change {k} the job was left")
        kills += 1
    print(kills)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
