"""The one function that does work, wherever it runs; and what comes before the first task and after the last."""

from __future__ import annotations

import errno
import math
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from wkdask.errors import ConflictError, DamagedError, InputError, InterruptedRunError, LockedError, StorageError, WkdaskError
from wkdask.plan.cancelling import forget_request
from wkdask.plan.checksum import has_content, with_content
from wkdask.plan.claims import living_workers_of
from wkdask.plan.disk import check_disk
from wkdask.plan.journal import writer_name
from wkdask.plan.memory import release_unused, used_bytes
from wkdask.plan.plan import Plan
from wkdask.plan.receipt import Receipt, Report, extremes
from wkdask.plan.stage import Batch, stop_if_asked
from wkdask.storage import WORK_FOLDER, Lease, Location, taken_requests, taken_retries

HOPELESS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES})
"""What the system says when no task can write any more."""

JOURNAL_SECONDS = 0.02
"""What may be lost of work that is done."""


@dataclass(frozen=True, slots=True)
class Begun:
    """Where a plan stands when a run takes it up: tasks that are done, by stage, the extremes and the bytes that they saw."""

    done: Mapping[int, frozenset[int]]
    low: float | None = None
    high: float | None = None
    bytes_in: int = 0


def lease_place(plan: Plan) -> Location:
    """Return where the lease of the plan's dataset lies."""
    return plan.target / WORK_FOLDER / "run.json"


class _Alone(Lease):
    """The lease of a run that shares its dataset with none, workers of the lease loop included."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(lease_place(plan), plan.name)
        self._target = plan.target

    def __enter__(self) -> Lease:
        super().__enter__()
        workers = living_workers_of(self._target)
        if workers:
            self.__exit__(None, None, None)
            raise LockedError(f"{self._target} is in use by {workers[0]}. Wait for it to end, or join it by: wkdask work.")
        return self


def lease(plan: Plan) -> Lease:
    """Return the lease of the plan's dataset, for a run that has it for itself."""
    return _Alone(plan)


def begin(plan: Plan, *, verify: bool = False) -> Begun:
    """Check the target, create what is missing, and find out what an earlier run has done.

    Files of that run that are not what its journal says are deleted, so that the tasks which make them run again. With
    ``verify`` each is read for that; else sizes, times and indexes are believed.
    """
    plan.setup.check()
    check_disk(plan)
    if plan.journal.superseding:
        plan.setup.clear()
    resumed = plan.journal.begin(plan.document(), plan.setup.restart_by)
    if resumed:
        forget_request(plan.journal)
    plan.setup.create()
    if not resumed:
        return Begun({})
    receipts: dict[tuple[int, int], Receipt] = {}
    for receipt in plan.journal.read():
        key = receipt.stage, receipt.number
        if 0 <= receipt.stage < len(plan.stages) and 0 <= receipt.number < plan.stages[receipt.stage].count:
            receipts[key] = max(receipt, receipts.get(key, receipt), key=_written_at)
    done, intact = _standing(plan, receipts, verify)
    plan.setup.sweep(frozenset(intact))
    low, high = extremes(receipts[key] for key in done)
    by_stage: dict[int, set[int]] = defaultdict(set)
    for stage, number in done:
        by_stage[stage].add(number)
    read = sum(receipts[key].bytes_in for key in done)
    return Begun({stage: frozenset(numbers) for stage, numbers in by_stage.items()}, low, high, read)


def _written_at(receipt: Receipt) -> int:
    """Of files on stores no time is known; the line of the journal has one."""
    return max((record.stamp for record in receipt.files if record.stamp > 0), default=round(receipt.at * 1e9))


def _standing(plan: Plan, receipts: Mapping[tuple[int, int], Receipt], verify: bool) -> tuple[set[tuple[int, int]], set[str]]:
    """Return the tasks whose files are all there, or were used up by such a task, and the paths of the files.

    A task that leaves no files stands where all those do that it waited for: what it used up is missed if one must run again.
    """
    done: set[tuple[int, int]] = set()
    intact: set[str] = set()
    used: set[str] = set()

    def turn(key: tuple[int, int]) -> tuple[int, bool]:
        """After tasks that use up its files; where it leaves none, after those that it waited for."""
        if receipts[key].files:
            return key[0], False
        waited = (stage for stage, _ in plan.stages[key[0]].operation.dependencies(key[1]))
        return min(waited, default=key[0]) - 1, True

    for key in sorted(receipts, key=turn, reverse=True):
        operation, files = plan.stages[key[0]].operation, receipts[key].files
        good = [record for record in files if operation.is_intact(record) and (not verify or has_content(plan.target, record))]
        intact.update(record.path for record in good if record.path not in used)
        there = all(record in good or record.path in used for record in files)
        if there and (files or done.issuperset(operation.dependencies(key[1]))):
            done.add(key)
            used.update(operation.consumes(key[1]))
    return done, intact


def execute(plan: Plan, batch: Batch) -> tuple[Receipt, ...]:
    """Do the tasks of a batch, write them into the journal, and say what became of them. Tasks never raise.

    The journal is written when `JOURNAL_SECONDS` are over since it was written last, and at the end, so that whoever dies loses
    what it was doing, and no more than that of what it had done before. On stores, where each writing makes an object, it is
    written at the end only.

    Raises
    ------
    InterruptedRunError
        When the user stopped the run.
    """
    receipts: list[Receipt] = []
    begin, told, due = time.perf_counter(), 0, JOURNAL_SECONDS if plan.target.is_local else math.inf
    try:
        for number in batch.numbers:
            stop_if_asked()
            receipts.append(_attempt(plan, batch.stage, number))
            now = time.perf_counter() - begin
            if now >= due:
                receipts[told:] = _journalled(plan, receipts[told:])
                told, due = len(receipts), now + JOURNAL_SECONDS
    finally:
        receipts[told:] = _journalled(plan, receipts[told:])
    if receipts:
        peak, requests, retries = used_bytes(), taken_requests(), taken_retries()
        receipts[-1] = replace(receipts[-1], worker=writer_name(), peak_bytes=peak, requests=requests, retries=retries)
    release_unused(time.perf_counter() - begin)
    return tuple(receipts)


def _attempt(plan: Plan, stage: int, number: int) -> Receipt:
    start = time.perf_counter()
    try:
        receipt = plan.stages[stage].operation.run(stage, number)
        if not receipt.files:
            return receipt
        return replace(receipt, files=tuple(with_content(plan.target, record) for record in receipt.files))
    except InterruptedRunError:
        raise
    except DamagedError as error:
        return _done_before(plan, stage, number) or _failed(stage, number, error, time.perf_counter() - start)
    except Exception as error:  # noqa: BLE001 - whatever a task does, the others go on
        return _failed(stage, number, error, time.perf_counter() - start)


def _done_before(plan: Plan, stage: int, number: int) -> Receipt | None:
    """Return the receipt of a task that used up its files, and is done again because its worker died before it could tell."""
    operation = plan.stages[stage].operation
    if not any(True for _ in operation.consumes(number)):
        return None
    earlier = (r for r in plan.journal.read() if (r.stage, r.number) == (stage, number))
    return next((r for r in earlier if all(map(operation.is_intact, r.files))), None)


def _journalled(plan: Plan, receipts: Sequence[Receipt]) -> Sequence[Receipt]:
    try:
        plan.journal.write(receipts)
        for receipt in receipts:
            if receipt.state == "done":
                plan.stages[receipt.stage].operation.retire(receipt.number)
    except StorageError as error:
        return [_failed(r.stage, r.number, error) for r in receipts]
    return receipts


def _failed(stage: int, number: int, error: Exception, seconds: float = 0.0) -> Receipt:
    cause = error.__cause__ if isinstance(error, StorageError) else None
    hopeless = isinstance(cause, OSError) and cause.errno in HOPELESS
    again = not hopeless and _may_pass(error)
    return Receipt(stage, number, "failed", seconds=seconds, error=said_of(error), again=again, hopeless=hopeless)


def said_of(error: Exception) -> str:
    """Return what a receipt tells of an error."""
    return str(error) if isinstance(error, WkdaskError) else f"{type(error).__name__}: {error}"


def _may_pass(error: Exception) -> bool:
    """Whether trying again may help: not for wrong input, nor where memory does not suffice."""
    return isinstance(error, ConflictError) or not isinstance(error, InputError | MemoryError)


def raise_failures(plan: Plan, report: Report) -> None:
    """Raise what kept a plan from its end: that an input changed, which may be why tasks failed; else that they did."""
    if report.failed:
        for milestone in plan.milestones:
            with suppress(StorageError):  # of an input that can not be looked at, as the tasks will have found
                milestone.check()
        report.raise_failures()


def finish(plan: Plan) -> None:
    """Condense the journal of a complete plan, and delete the job."""
    plan.setup.finish(sorted(plan.journal.read(), key=_written_at))  # of a unit that was written twice, the later one counts
    plan.journal.remove()
