"""Run as a program: verbs are killed after their k-th change and taken up again; or damaged in between.

Each run is a forked child of a process that has imported everything and started nothing, so that hundreds take seconds.

Usage: verb_driver.py FOLDER VERB..., where FOLDER/VERB/begin is what a verb begins with. Prints for each verb how many kills
and damages there were, as JSON. The environment variable WKDASK_KILLS, a number, asks for so many kills, spread over all
changes; else there is one for each.
"""

from __future__ import annotations

import itertools
import json
import os
import pickle
import random
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import zstandard  # noqa: F401 - loaded once, here

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.operations.verbs import VERBS, Verb
from wkdask import Dataset
from wkdask.operations.verify import verify
from wkdask.plan import Journal, Receipt, unfinished_jobs
from wkdask.storage import WORK_FOLDER, Location, observe

CHANGES = ("publish", "append", "commit", "delete")


def in_child(work: Callable[[], object], folder: Path) -> int | object:
    """Fork, do the work, and return what it returns; or minus the signal that killed it."""
    sys.stdout.flush()
    answer = folder / "answer"
    pid = os.fork()
    if pid == 0:
        try:
            answer.write_bytes(pickle.dumps(work()))
        except BaseException:  # noqa: BLE001 - a child of a fork must not return
            traceback.print_exc()
            os._exit(99)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status > 0:
        raise SystemExit(f"a run in {folder} failed with {status}")
    return pickle.loads(answer.read_bytes()) if status == 0 else status


def run(verb: Verb, folder: Path, verify_done: bool = False) -> tuple[int, bool]:
    """Run a verb; return how many tasks were kept, and whether it was to finish another plan."""
    plan = verb.plan(folder)
    if not verb.is_needed(plan):
        return 0, True
    superseding = plan.journal.superseding
    return plan.run(verify=verify_done).kept, superseding


def run_counted(verb: Verb, folder: Path, stop_at: int = 0) -> int:
    """Run, and die at once after a change; return how many there were."""
    seen = 0

    def note(event: str, url: str) -> None:
        nonlocal seen
        if event in CHANGES:
            seen += 1
            if seen == stop_at:
                os.kill(os.getpid(), signal.SIGKILL)

    with observe(note):
        run(verb, folder)
    return seen


Listed = dict[tuple[str, str], tuple[tuple[int, ...], np.ndarray]]


def listed(folder: Path, dataset: str = "ds") -> Listed:
    """Return where the voxels of each listed magnification begin, and the voxels."""
    if not (folder / dataset / "datasource-properties.json").exists():
        return {}
    layers = Dataset.open(folder / dataset).layers.values()
    arrays = {(layer.name, name): view.array for layer in layers for name, view in layer.mags.items()}
    return {(layer, str(name)): (array.box.start, array.read(array.box)) for (layer, name), array in arrays.items()}


def check_listed(now: Listed, before: Listed, after: Listed) -> None:
    """What is listed has the voxels that it had, or is to get; what was not listed before, only these."""
    for mag, (start, voxels) in now.items():
        wanted, old = after[mag], before.get(mag)
        good = voxels == _cut(wanted, start, voxels.shape)
        if old is not None:
            good |= voxels == _cut(old, start, voxels.shape)
        if not good.all():
            raise SystemExit(f"mag {mag} is listed, and has {(~good).sum()} wrong voxels")
    if not before.keys() <= now.keys():
        raise SystemExit(f"{sorted(before.keys() - now.keys())} are no longer listed")


def _cut(of: tuple[tuple[int, ...], np.ndarray], start: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    """Return a box of voxels, which must begin where they do."""
    begin, voxels = of
    if begin != start:
        raise SystemExit(f"a box begins at {start} instead of {begin}")
    found = np.zeros(shape, np.int64) - 1
    inside = tuple(slice(0, min(a, b)) for a, b in zip(shape, voxels.shape, strict=True))
    found[inside] = voxels[inside]
    return found


def files(folder: Path) -> dict[str, bytes]:
    """All files of the dataset but those of our own work folder, which hold times."""
    found = (path for path in (folder / "ds").rglob("*") if path.is_file() and WORK_FOLDER not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def journalled(folder: Path) -> list[Receipt]:
    """Return the latest receipt of each finished task of the unfinished job."""
    place = Location(folder / "ds")
    receipts = [receipt for key in unfinished_jobs(place) for receipt in Journal(place, key).read()]
    return list({(receipt.stage, receipt.number): receipt for receipt in receipts}.values())


class Trial:
    """A verb, how it ends undisturbed, and folders in which it is disturbed."""

    def __init__(self, verb: Verb, folder: Path) -> None:
        self.verb, self.folder, self._number = verb, folder, 0
        self.before = in_child(lambda: listed(folder / "begin"), folder)
        whole = self.fresh()
        self.changes = in_child(lambda: run_counted(verb, whole), folder)
        self.reference = files(whole)
        self.after = in_child(lambda: listed(whole), folder)

    def fresh(self, of: Path | None = None) -> Path:
        """Return a copy of a folder, of the one to begin with by default, with the times of its files."""
        self._number += 1
        return Path(shutil.copytree(of or self.folder / "begin", self.folder / str(self._number)))

    def killed(self, k: int) -> Path | None:
        """Return a folder where the verb was killed after a change; None where it had ended before."""
        folder = self.fresh()
        status = in_child(lambda: run_counted(self.verb, folder, k), self.folder)
        return folder if status == -signal.SIGKILL else None

    def check_resumed(self, folder: Path, *, verify_done: bool = False) -> tuple[int, bool]:
        """Go on, and compare with the undisturbed run."""

        def work() -> tuple[int, bool]:
            found = run(self.verb, folder, verify_done)
            report = verify(Location(folder / "ds"))
            if not report.ok:
                raise AssertionError(str(report))
            return found

        ended = not unfinished_jobs(Location(folder / "ds")) and files(folder) == self.reference
        kept = (0, True) if ended else in_child(work, self.folder)
        now = files(folder)
        if now != self.reference:
            names = sorted(n for n in {*now, *self.reference} if now.get(n) != self.reference.get(n))
            raise SystemExit(f"these differ in {folder}: {names}")
        if left := unfinished_jobs(Location(folder / "ds")):
            raise SystemExit(f"in {folder} jobs are left: {left}")
        return kept


def kill(trial: Trial) -> int:
    """Kill after changes, look, and go on."""
    kills = 0
    for k in _chosen(trial.changes):
        folder = trial.killed(k)
        if folder is None:
            break
        check_listed(in_child(lambda folder=folder: listed(folder), trial.folder), trial.before, trial.after)
        done = len(journalled(folder))
        kept, superseding = trial.check_resumed(folder)
        if not superseding and kept != done:
            raise SystemExit(f"after the kill at change {k}, {kept} of {done} finished tasks were kept")
        shutil.rmtree(folder)
        kills += 1
    return kills


def _chosen(changes: int) -> Iterator[int]:
    """Return after which changes to kill: all, and one that never comes; or some, one in each part of the run."""
    few = int(os.environ.get("WKDASK_KILLS") or 0)
    if not few or few >= changes:
        return itertools.count(1)
    rng, edges = random.Random(changes), [1 + changes * i // few for i in range(few + 1)]
    return iter([rng.randrange(a, b) for a, b in itertools.pairwise(edges)])


def truncate(path: Path) -> None:
    """Cut the end off."""
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    """Leave nothing in it."""
    path.write_bytes(b"")


def replace(path: Path) -> None:
    """Write equal bytes, later."""
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 10**9))


def flip(path: Path) -> None:
    """Flip a bit in the middle; size and time stay."""
    stat, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


DAMAGES: tuple[Callable[[Path], None], ...] = (truncate, empty, replace, Path.unlink, flip)


def damage(trial: Trial) -> int:
    """Kill late, damage a file that a finished task has left, go on: the task is done again."""
    for k in range(trial.changes * 4 // 5, 0, -1):
        killed = trial.killed(k)
        receipts = journalled(killed) if killed else []
        paths = {record.path for receipt in receipts for record in receipt.files if record.size > 0}
        lost = {path for path in paths if trial.verb.keeps and (trial.folder / "begin/ds" / path).exists()}
        there = sorted(path for path in paths - lost if (killed / "ds" / path).is_file())
        if there:
            break
    else:
        raise SystemExit("no finished task has left a file")
    rng, few = random.Random(trial.verb.name), int(os.environ.get("WKDASK_DAMAGES") or len(DAMAGES))
    chosen = rng.sample(DAMAGES, few)  # others for other verbs
    for how in chosen:
        folder = trial.fresh(killed)
        path = rng.choice(there)
        how(folder / "ds" / path)
        kept, _ = trial.check_resumed(folder, verify_done=how is flip)
        if kept >= len(receipts) and not path.endswith(".part"):  # which may have been joined, but not yet deleted
            raise SystemExit(f"after {how.__name__} of {path}, all {kept} tasks were kept")
        shutil.rmtree(folder)
    return few


def disturb(name: str, folder: Path) -> tuple[int, int]:
    """Disturb a verb in all ways."""
    try:
        trial = Trial(VERBS[name], folder)
        return kill(trial), damage(trial)
    except SystemExit as error:
        raise SystemExit(f"{name}: {error}") from error


if __name__ == "__main__":
    print(json.dumps({name: disturb(name, Path(sys.argv[1]) / name) for name in sys.argv[2:]}))
