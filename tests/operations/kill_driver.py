"""Run as a program: a small conversion is killed after its k-th change, for every k, and taken up again.

Each run is a forked child of a process that has imported everything and started nothing, so that hundreds take seconds.
Prints how many kills there were. Usage: kill_driver.py SOURCE FOLDER
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from pathlib import Path

import zstandard  # noqa: F401 - loaded once, here

from wkdask.geometry import Mag
from wkdask.images import find_images
from wkdask.metadata import VoxelSize
from wkdask.operations import Into, Running, Sampling, Storage, plan_convert
from wkdask.plan import Journal
from wkdask.storage import WORK_FOLDER, Location, observe

CHANGES = ("publish", "append", "commit", "delete")


def plan(source: str, target: Path):
    """Two threads, several units and parts, two stages that write."""
    storage = Storage((16, 16, 16), (32, 32, 32))
    sampling = Sampling(coarsest=Mag(8))
    options = {"into": Into("color", "color", "ds"), "storage": storage, "sampling": sampling, "running": Running(2)}
    return plan_convert(find_images(source), target, VoxelSize((4, 4, 35)), **options)


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


def check_listed(target: Path, reference: dict[str, bytes]) -> None:
    """Every magnification that the JSON lists must be complete."""
    document = target / "datasource-properties.json"
    if not document.exists():
        return
    now = files(target)
    for mag in json.loads(document.read_bytes())["dataLayers"][0]["mags"]:
        prefix = mag["path"].removeprefix("./") + "/"
        wanted = {name for name in reference if name.startswith(prefix)}
        if any(now.get(name) != reference[name] for name in wanted):
            raise AssertionError(f"{prefix} is listed, but not complete")


def resume(source: str, target: Path, journalled: int) -> None:
    """Go on; all that was journalled must be kept, and no file be written that is there."""
    there = {str(path): path.stat().st_mtime_ns for path in target.rglob("*") if path.is_file() and "/c/" in str(path)}
    report = plan(source, target).run()
    if report.kept != journalled:
        raise AssertionError(f"{report.kept} of {journalled} finished tasks were kept")
    again = [name for name, when in there.items() if Path(name).stat().st_mtime_ns != when]
    if len(again) > 8:  # two tasks in flight, of at most four units each
        raise AssertionError(f"{len(again)} units were written twice: {again}")


def main(source: str, folder: Path) -> None:
    """Kill after every change."""
    if in_child(lambda: plan(source, folder / "whole").run() and None):
        raise SystemExit("the undisturbed run failed")
    reference = files(folder / "whole")
    k = 0
    while True:
        k += 1
        target = folder / f"killed-{k}"
        status = run_killed(source, target, k)
        if status == 0:
            break
        if status != -signal.SIGKILL:
            raise SystemExit(f"the run to be killed after change {k} ended with {status}")
        check_listed(target, reference)
        journal = Journal(Location(str(target)), "color")
        done = len({(r.stage, r.number) for r in journal.read()})
        complete = journal.document() is None and (target / "datasource-properties.json").exists()
        if not complete and in_child(lambda target=target, done=done: resume(source, target, done)):
            raise SystemExit(f"the run after the kill at change {k} failed")
        now = files(target)
        if now != reference:
            names = sorted(name for name in {*now, *reference} if now.get(name) != reference.get(name))
            raise SystemExit(f"after the kill at change {k} these differ: {names}")
    print(k - 1)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
