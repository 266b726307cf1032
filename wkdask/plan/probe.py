"""Probes: some tasks of a plan, done to a folder that is discarded, to learn how long they take and how voxels compress."""

from __future__ import annotations

import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from wkdask.errors import InputError
from wkdask.plan.estimate import Measured, Probe
from wkdask.plan.journal import Journal
from wkdask.plan.stage import Operation, Stage
from wkdask.storage import Location

if TYPE_CHECKING:
    from wkdask.plan.plan import Plan


def run_probe(plan: Plan, tasks: int) -> Probe:
    """Do some tasks of each stage that reads what is there already; see `Plan.probe`."""
    if tasks < 1:
        raise InputError(f"A probe of {tasks} tasks measures nothing. Give 1 or more.")
    found, notes = dict[int, Measured](), list[str]()
    with TemporaryDirectory(prefix="wkdask-probe-", dir=_folder(plan)) as folder:
        journal = Journal(Location(folder) / "dataset", plan.journal.key)
        for index, stage in enumerate(plan.stages):
            why = _why_not(stage)
            moved = None if why else _moved(stage.operation, journal)
            if moved is not None:
                found[index] = _measured(moved, index, tasks, journal)
            elif stage.operation.bytes_in:
                notes.append(f"{stage.name} was not measured: {why or 'its tasks can not be done apart from the plan'}")
    return Probe(found, tuple(notes))


def _folder(plan: Plan) -> str | None:
    """Return where the folder of a probe may lie: where the user wants scratch; None: where temporary files do."""
    elsewhere = plan.journal.elsewhere
    if not (elsewhere and Location(elsewhere).is_local):
        return None
    Path(elsewhere).mkdir(parents=True, exist_ok=True)
    return os.path.abspath(elsewhere)


def _why_not(stage: Stage) -> str:
    if not stage.count or not stage.operation.bytes_in:
        return "it reads nothing"
    for number in _spread(stage.count, 3):
        if any(True for _ in stage.operation.dependencies(number)):
            return "it reads what earlier stages write"
    return ""


def _moved(operation: Operation, journal: Journal) -> Operation | None:
    """Return the operation writing elsewhere; None where it can not: operations that can have a method ``moved``."""
    move = getattr(operation, "moved", None)
    moved: Operation | None = move(journal) if move else None
    return moved


def _spread(count: int, tasks: int) -> list[int]:
    """Return numbers of some tasks, as far from each other as may be.

    Examples
    --------
    >>> _spread(100, 4), _spread(2, 5)
    ([12, 37, 62, 87], [0, 1])
    """
    tasks = min(count, tasks)
    return [(2 * i + 1) * count // (2 * tasks) for i in range(tasks)]


def _measured(operation: Operation, stage: int, tasks: int, journal: Journal) -> Measured:
    """Do some tasks, the first one twice, as that loads libraries; what they write is deleted after each.

    Tasks at the ends of a box are smaller, so times are weighed by what was read.
    """
    numbers = _spread(operation.count, tasks)
    operation.run(stage, numbers[0])
    seconds, read, written = 0.0, 0, 0
    for number in numbers:
        journal.target.delete()
        start = time.perf_counter()
        receipt = operation.run(stage, number)
        seconds += time.perf_counter() - start
        read += receipt.bytes_in
        written += sum(max(0, record.size) for record in receipt.files)
    share = read / operation.bytes_in if read else len(numbers) / operation.count
    voxels = operation.bytes_out * share
    return Measured(len(numbers), seconds / share, written / voxels if voxels else None)
