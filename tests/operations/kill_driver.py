"""Run as a program: a small conversion, or another case, is killed after its k-th change, for every k, and taken up again.

Each run is a forked child of a process that has imported everything and started nothing, so that hundreds take seconds.
Prints how many changes there are. Usage: kill_driver.py SOURCE FOLDER [CASE]

The environment variable WKDASK_KILLS, a number, asks for so many kills, spread over all changes; else there is one for each.

The source is a folder of images, or for the cases ``downsample``, ``redownsample`` and ``update`` a dataset with a layer
``color``, a copy of which is changed each time.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import zstandard  # noqa: F401 - loaded once, here

from wkdask.geometry import BoundingBox, Mag
from wkdask.images import find_images
from wkdask.metadata import VoxelSize
from wkdask.operations import (
    Coarser,
    Into,
    Running,
    Sampling,
    SamplingModes,
    Storage,
    downsample,
    plan_convert,
    plan_downsample,
)
from wkdask.plan import Journal
from wkdask.storage import WORK_FOLDER, Location, observe

CHANGES = ("publish", "append", "commit", "delete")


CASE = sys.argv[3] if len(sys.argv) > 3 else "convert"
ANEW = (Mag(1), (Mag(2), Mag(4)), (), True)
COARSER = {
    "downsample": Coarser(Mag(1)),
    "redownsample": Coarser(*ANEW),
    "update": Coarser(*ANEW, BoundingBox((0, 0, 0), (20, 40, 40))),
}


def plan(source: str, target: Path):
    """Two threads, several units and parts, two stages that write."""
    if CASE != "convert":
        downsample.TILE_BYTES = 1  # several tiles, and parts of units to join
        storage, sampling = Storage((8, 8, 8), (16, 16, 16)), Sampling(coarsest=Mag(4), mode=SamplingModes.ISOTROPIC)
        options = {"storage": storage, "sampling": sampling, "running": Running(2)}
        return plan_downsample(Location(str(target)), "color", COARSER[CASE], **options)
    storage = Storage((16, 16, 16), (32, 32, 32))
    sampling = Sampling(coarsest=Mag(8))
    options = {"into": Into("color", "color", "ds"), "storage": storage, "sampling": sampling, "running": Running(2)}
    return plan_convert(find_images(source), target, VoxelSize((4, 4, 35)), **options)


def begin_with(source: str, target: Path) -> Path:
    """Make what the case begins with."""
    if CASE != "convert":
        shutil.copytree(source, target)
    return target


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


def files(target: Path) -> dict[str, bytes]:
    """All files of a dataset but those of our own work folder, which hold times."""
    found = (path for path in target.rglob("*") if path.is_file() and WORK_FOLDER not in path.parts)
    return {str(path.relative_to(target)): path.read_bytes() for path in found}


def run_killed(source: str, target: Path, k: int) -> int:
    """Run until the k-th change, then die at once."""
    seen = 0

    def kill(event: str, url: str) -> None:
        nonlocal seen
        if event in CHANGES:
            seen += 1
            if seen >= k:
                os.kill(os.getpid(), signal.SIGKILL)

    def work() -> None:
        with observe(kill):
            plan(source, target).run()

    return in_child(work)


def check_listed(target: Path, reference: dict[str, bytes], before: dict[str, bytes]) -> None:
    """Every magnification that the JSON lists must be complete; each unit of one that is made anew is old or new."""
    document = target / "datasource-properties.json"
    if not document.exists():
        return
    now = files(target)
    for mag in json.loads(document.read_bytes())["dataLayers"][0]["mags"]:
        prefix = mag["path"].removeprefix("./") + "/"
        listed = f'"./{prefix[:-1]}"'.encode() in before.get("datasource-properties.json", b"")
        wanted = {name for name in (*reference, *before) if name.startswith(prefix)}
        if any(now.get(name) not in {reference.get(name), *({before.get(name)} if listed else ())} for name in wanted):
            raise AssertionError(f"{prefix} is listed, but not complete")


def resume(source: str, target: Path, journalled: int, before: dict[str, bytes]) -> None:
    """Go on; all that was journalled must be kept, and no file be written that is there."""
    new = (target / name for name, data in files(target).items() if "/c/" in name and before.get(name) != data)
    there = {str(path): path.stat().st_mtime_ns for path in new}
    report = plan(source, target).run()
    if report.kept != journalled:
        raise AssertionError(f"{report.kept} of {journalled} finished tasks were kept")
    again = [name for name, when in there.items() if Path(name).stat().st_mtime_ns != when]
    if len(again) > 8:  # two tasks in flight, of at most four units each
        raise AssertionError(f"{len(again)} units were written twice: {again}")


def run_counted(source: str, target: Path, count: Path) -> None:
    """Run undisturbed, and leave the number of changes in a file."""
    seen = []

    def note(event: str, url: str) -> None:
        if event in CHANGES:
            seen.append(event)

    with observe(note):
        plan(source, target).run()
    count.write_text(str(len(seen)))


def chosen(changes: int) -> Iterator[int]:
    """Return after which changes to kill: all, and one that never comes; or some, one in each part of the run."""
    few = int(os.environ.get("WKDASK_KILLS") or 0)
    if not few or few >= changes:
        return itertools.count(1)
    rng, edges = random.Random(changes), [1 + changes * i // few for i in range(few + 1)]
    return iter([rng.randrange(a, b) for a, b in itertools.pairwise(edges)])


def main(source: str, folder: Path) -> None:
    """Kill after every change that is chosen."""
    whole = begin_with(source, folder / "whole")
    before = files(whole) if whole.exists() else {}
    if in_child(lambda: run_counted(source, whole, folder / "changes")):
        raise SystemExit("the undisturbed run failed")
    reference, changes = files(whole), int((folder / "changes").read_text())
    for k in chosen(changes):
        target = begin_with(source, folder / f"killed-{k}" / "whole")
        status = run_killed(source, target, k)
        if status == 0:
            break
        if status != -signal.SIGKILL:
            raise SystemExit(f"the run to be killed after change {k} ended with {status}")
        check_listed(target, reference, before)
        journal = Journal(Location(str(target)), "color")
        done = len({(r.stage, r.number) for r in journal.read()})
        complete = journal.document() is None and files(target) == reference
        if not complete and in_child(lambda target=target, done=done: resume(source, target, done, before)):
            raise SystemExit(f"the run after the kill at change {k} failed")
        now = files(target)
        if now != reference:
            names = sorted(name for name in {*now, *reference} if now.get(name) != reference.get(name))
            raise SystemExit(f"after the kill at change {k} these differ: {names}")
        shutil.rmtree(target.parent)
    print(changes)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
