"""What both loops that drive a plan do alike: start batches, count what came of them, try again, commit what is complete."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

from wkdask.errors import InterruptedRunError
from wkdask.plan.execute import said_of
from wkdask.plan.memory import used_bytes
from wkdask.plan.plan import Plan, log_unit
from wkdask.plan.pool import Pool, Result
from wkdask.plan.receipt import Receipt, Report
from wkdask.plan.stage import Batch, Milestone
from wkdask.plan.window import Done, Key, Window

RETRIES = 2

Progress = Callable[[Plan, Report, Receipt | None], None]
"""Called with the plan, the report so far, and each receipt (None at the beginning)."""


class Counting(ABC):
    """One process's part of a run.

    Parameters
    ----------
    plan, pool, report, tell
        See `wkdask.plan.drive.run`.
    done
        Tasks that are done already, by stage.
    """

    def __init__(self, plan: Plan, pool: Pool, report: Report, tell: Progress, done: Mapping[int, Iterable[int]]) -> None:
        self.plan, self.pool, self.report, self._progress = plan, pool, report, tell
        self.done = Done((stage.count for stage in plan.stages), done)
        self.window = Window(plan, self.done)
        self.running = 0
        self.hopeless = False
        self.low: float | None = None
        self.high: float | None = None
        self._finished: SimpleQueue[tuple[Batch, Any]] = SimpleQueue()
        self._tries: dict[Key, int] = defaultdict(int)
        self._committed = 0

    @abstractmethod
    def again(self, batch: Batch) -> None:
        """Take back tasks that failed, to be tried once more."""

    def ended(self, key: Key, receipts: Sequence[Receipt]) -> None:  # noqa: B027 - nothing by default
        """Note that a batch will not be tried again; ``receipts`` are those of its last try."""

    @abstractmethod
    def commit_one(self, number: int, milestone: Milestone) -> None:
        """Commit a milestone whose stage, and all before it, are complete."""

    def tell(self, receipt: Receipt | None) -> None:
        """Tell how far the run is."""
        self._progress(self.plan, self.report, receipt)

    def start(self, batches: Sequence[Batch]) -> None:
        """Start batches."""
        self.running += len(batches)
        for batch, future in zip(batches, self.pool.start(self.plan, batches) if batches else (), strict=True):
            future.add_done_callback(lambda done, batch=batch: self._finished.put((batch, done)))

    def take(self, seconds: float) -> bool:
        """Count what has ended, waiting for it if need be; return whether anything has."""
        ended: list[tuple[Batch, Any]] = []
        with suppress(Empty):
            ended.append(self._finished.get(timeout=seconds))
            while True:
                ended.append(self._finished.get_nowait())
        results = self.pool.results([future for _, future in ended])
        batches = [batch for batch, _ in ended]
        del ended  # and the futures, as results stay where they are while those live
        for batch, result in zip(batches, results, strict=True):
            self.running -= 1
            self._settle(batch, _receipts(batch, result))
        self.report.peak_bytes = max(self.report.peak_bytes, used_bytes())
        return bool(batches)

    def _settle(self, batch: Batch, receipts: Sequence[Receipt]) -> None:
        key = self.window.key(batch)
        failed = [r for r in receipts if r.state == "failed"]
        self._tries[key] += 1
        if failed and all(r.again for r in failed) and self._tries[key] <= RETRIES:
            self.count(r for r in receipts if r.state == "done")
            self.again(Batch(batch.stage, tuple(r.number for r in failed)))
            return
        self.count(receipts)
        self.hopeless = self.hopeless or any(r.hopeless for r in failed)
        self.window.finished(key, bool(failed))
        self.ended(key, receipts)

    def count(self, receipts: Iterable[Receipt]) -> None:
        """Count receipts of tasks that were done here, or never will be."""
        for receipt in receipts:
            self.report.add(receipt)
            log_unit(self.plan, receipt)
            if receipt.state == "done":
                self.done.add(receipt.stage, receipt.number)
                self.see(receipt)
            self.tell(receipt)

    def see(self, receipt: Receipt) -> None:
        """Note the extremes of the voxels that a task saw."""
        if receipt.low is not None and receipt.high is not None:
            self.low = receipt.low if self.low is None else min(self.low, receipt.low)
            self.high = receipt.high if self.high is None else max(self.high, receipt.high)

    def tell_lost(self) -> None:
        """Count the tasks that can not be done since those failed that they wait for."""
        while self.window.lost:
            skipped = self.window.lost.popleft()
            self.count(Receipt(skipped.stage, n, "skipped") for n in skipped.numbers)

    def skip_rest(self) -> None:
        """Where all further tasks would be in vain, count them."""
        if self.hopeless:
            report = self.report
            report.skipped = self.plan.tasks - report.done - report.kept - report.failed

    def commit(self) -> None:
        """Commit, in order, the milestones whose stages, and all before them, are complete."""
        while self._committed < len(self.plan.milestones):
            milestone = self.plan.milestones[self._committed]
            if self.done.left[milestone.stage]:
                return
            self.commit_one(self._committed, milestone)
            self._committed += 1


def _receipts(batch: Batch, result: Result) -> Sequence[Receipt]:
    """Return the receipts of a batch; where its worker died, or it could not travel, such as say so."""
    if isinstance(result, InterruptedRunError):
        raise result
    if isinstance(result, Exception):
        return [Receipt(batch.stage, n, "failed", error=said_of(result), again=True) for n in batch.numbers]
    return result
