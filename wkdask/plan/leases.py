"""The lease loop: processes that share only the dataset's folder take batches of one journalled plan, without a scheduler.

The first begins the plan, further ones join. Which batches are done they read in the journal, which are being done in the
claims; the dataset's own lease is held just for moments: to begin or join, to commit a magnification, to finish.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any

from wkdask.errors import LockedError, PlanRefusedError, StorageError
from wkdask.plan.cancelling import stop_if_cancelled
from wkdask.plan.claims import Claims, living_workers
from wkdask.plan.drive import RETRIES, LeasePool, Progress, outcome
from wkdask.plan.execute import begin, finish, lease_place
from wkdask.plan.following import Follower
from wkdask.plan.memory import used_bytes
from wkdask.plan.plan import Plan, log_unit
from wkdask.plan.receipt import Receipt, Report
from wkdask.plan.stage import Batch
from wkdask.plan.window import Done, Key, Window
from wkdask.storage import Lease, refuses_conflicts
from wkdask.storage.lease import current_owner

SHARED = ", by one of several workers"
"""Ends what the lease says of a process that holds it for a moment only."""

PAUSES = 0.05, 2.0
"""Seconds between two looks at what the others did: after news, and at most."""


@contextmanager
def turn(plan: Plan) -> Iterator[None]:
    """Hold the dataset's lease for a moment, after other workers.

    Raises
    ------
    LockedError
        Where an ordinary run has it.
    """
    while True:
        held = Lease(lease_place(plan), plan.name + SHARED)
        try:
            held.__enter__()
            break
        except LockedError:
            owner = current_owner(lease_place(plan))
            if owner is not None and owner.alive and not owner.work.endswith(SHARED):
                raise
            time.sleep(PAUSES[0])
    try:
        yield
    finally:
        held.__exit__(None, None, None)


def share(plan: Plan, pool: LeasePool, report: Report, tell: Progress, verify: bool) -> None:
    """Do what can be done of a plan together with other processes, until nothing is left; see `wkdask.plan.drive.run`."""
    if not refuses_conflicts(plan.target):
        raise PlanRefusedError(
            f"The store of {plan.target} lets one writer overwrite what another has just written (it ignores conditions), so "
            "processes can not share work by leases there. Use another distribution strategy."
        )
    claims = Claims(plan.journal, plan.name)
    if not _join(plan, claims, pool.begins, verify):
        report.kept = plan.tasks
        return
    try:
        with pool:
            shared = _Shared(plan, pool, claims, report, tell)
            shared.loop()
        _end(plan, shared.complete)
    finally:
        claims.leave()


def _end(plan: Plan, complete: bool) -> None:
    """Finish a complete plan, unless another worker has; what was claimed after that is deleted."""
    try:
        with turn(plan):
            if complete and _is_under_way(plan):
                _finish(plan)
            elif plan.journal.document() is None:
                plan.journal.folder.delete()
    except LockedError:  # by an ordinary run, which begins after this one
        if _is_under_way(plan):
            raise


def _is_under_way(plan: Plan) -> bool:
    document = plan.journal.document()
    return document is not None and document.get("fingerprint") == plan.fingerprint


def _finish(plan: Plan) -> None:
    """Finish; a worker that does not know it yet may claim something in the folder while that is being deleted."""
    try:
        finish(plan)
    except StorageError:
        if plan.journal.document() is not None:
            raise
        plan.journal.folder.delete()


def _join(plan: Plan, claims: Claims, begins: bool, verify: bool) -> bool:
    """Begin the plan, or join those who did; return False where it is done meanwhile, and was not to be begun."""
    with turn(plan):
        others = living_workers(plan.journal) if plan.journal.document() is not None else []
        if others and plan.journal.superseding:
            raise LockedError(f"{plan.target} is in use by {others[0]}, so its run can not be given up. Stop it first.")
        if others:
            plan.setup.check()
            plan.journal.begin(plan.document(), plan.setup.restart_by)
        elif begins or _is_under_way(plan):
            claims.clear()
            done = begin(plan, verify=verify).done
            plan.journal.keep(done)
        else:
            return False
        claims.enter()
        return True


class _Shared:
    """One process's part of a run."""

    def __init__(self, plan: Plan, pool: LeasePool, claims: Claims, report: Report, tell: Progress) -> None:
        self._plan, self._pool, self._claims, self._report, self._tell = plan, pool, claims, report, tell
        self._done = Done((stage.count for stage in plan.stages), {})
        self._window = Window(plan, self._done)
        self._follower = Follower(plan.journal)
        self._finished: SimpleQueue[tuple[Batch, Any]] = SimpleQueue()
        self._mine: set[Key] = set()
        self._theirs: set[Key] = set()
        self._again: deque[Batch] = deque()
        self._tries: dict[Key, int] = defaultdict(int)
        self._low: float | None = None
        self._high: float | None = None
        self._committed = self._running = 0
        self._hopeless = False
        self._pause, self._looked = PAUSES[0], 0.0

    @property
    def complete(self) -> bool:
        """Whether every task is done."""
        return not any(self._done.left)

    def loop(self) -> None:
        """Take batches until none is left that anybody does."""
        self._tell(self._plan, self._report, None)
        self._look()
        while True:
            self._start_some()
            self._tell_lost()
            self._commit()
            if not self._running and (not self._theirs or self._hopeless):
                break
            if not self._running and not _is_under_way(self._plan):
                self._report.kept = self._plan.tasks - self._report.done
                return
            self._wait()
        if self._hopeless:
            report = self._report
            report.skipped = self._plan.tasks - report.done - report.kept - report.failed

    def _start_some(self) -> None:
        while not self._hopeless and self._running < self._pool.slots:
            batch = self._claimed() or (self._again.popleft() if self._again else None)
            if batch is None:
                return
            self._start(batch)

    def _start(self, batch: Batch) -> None:
        self._running += 1
        future = self._pool.submit(self._plan, batch)
        future.add_done_callback(lambda done: self._finished.put((batch, done)))

    def _claimed(self) -> Batch | None:
        """Return what is left of a batch that is ours now; those that others have are looked at again later."""
        while (batch := self._window.take()) is not None:
            key = self._window.key(batch)
            if not self._try_claim(key):
                self._theirs.add(key)
                continue
            self._follow()  # its last owner may have done it, or found that it can not be done
            if self._window.is_open(key) and _is_under_way(self._plan):
                self._mine.add(key)
                return self._window.batch(key)
            self._claims.release(key)
        return None

    def _try_claim(self, key: Key) -> bool:
        try:
            return self._claims.is_free(key) and self._claims.take(key)
        except StorageError:
            if _is_under_way(self._plan):
                raise
            return False  # the folder went away meanwhile, as others have finished

    def _wait(self) -> None:
        """Take what a thread of ours finished, and look now and then at what the others did."""
        stop_if_cancelled(self._plan.journal)
        try:
            batch, future = self._finished.get(timeout=self._pause)
            self._take(batch, future)
        except Empty:
            self._pause = min(1.5 * self._pause, PAUSES[1])
        if time.monotonic() >= self._looked + self._pause:
            self._look()
        self._report.peak_bytes = max(self._report.peak_bytes, used_bytes())

    def _look(self) -> None:
        """See what others have claimed, done, or given back."""
        self._claims.look()
        self._follow()
        self._looked = time.monotonic()
        for key in list(self._theirs):
            if not self._window.is_open(key):
                self._theirs.discard(key)
            elif self._claims.is_free(key):
                self._theirs.discard(key)
                self._window.put_back(self._window.batch(key))

    def _follow(self) -> None:
        """Read what is new in the journal, and what others tried in vain."""
        touched: set[Key] = set()
        for receipt in self._follower.new():
            if not self._window.has(receipt):
                continue
            self._see(receipt)
            key = receipt.stage, receipt.number // self._window.size
            if key not in self._mine and self._done.add(receipt.stage, receipt.number):
                touched.add(key)
                self._report.kept += 1
                self._report.bytes_kept += receipt.bytes_in
                self._tell(self._plan, self._report, receipt)
        for key in touched:
            self._pause = PAUSES[0]
            if not self._window.batch(key).numbers:
                self._window.finished(key)
        for key, receipts in self._claims.failures():
            if key not in self._mine and self._window.is_batch(key) and self._window.is_open(key):
                self._count(receipts)
                self._window.finished(key, failed=True)

    def _take(self, batch: Batch, future: Any) -> None:
        self._running -= 1
        key, receipts = self._window.key(batch), outcome(batch, future)
        failed = [r for r in receipts if r.state == "failed"]
        self._tries[key] += 1
        self._pause = PAUSES[0]
        if failed and all(r.again for r in failed) and self._tries[key] <= RETRIES:
            self._count(r for r in receipts if r.state == "done")
            self._again.append(Batch(batch.stage, tuple(r.number for r in failed)))
            return
        self._count(receipts)
        self._hopeless = self._hopeless or any(r.hopeless for r in failed)
        self._window.finished(key, bool(failed))
        if failed and not self._hopeless:
            self._claims.tell_failed(key, receipts)
        self._mine.discard(key)
        self._claims.release(key)

    def _tell_lost(self) -> None:
        while self._window.lost:
            skipped = self._window.lost.popleft()
            self._count(Receipt(skipped.stage, n, "skipped") for n in skipped.numbers)

    def _count(self, receipts: Iterable[Receipt]) -> None:
        for receipt in receipts:
            self._report.add(receipt)
            log_unit(self._plan, receipt)
            if receipt.state == "done":
                self._done.add(receipt.stage, receipt.number)
                self._see(receipt)
            self._tell(self._plan, self._report, receipt)

    def _see(self, receipt: Receipt) -> None:
        if receipt.low is not None and receipt.high is not None:
            self._low = receipt.low if self._low is None else min(self._low, receipt.low)
            self._high = receipt.high if self._high is None else max(self._high, receipt.high)

    def _commit(self) -> None:
        """Commit, in order, the milestones whose stages are complete, unless another worker has."""
        while self._committed < len(self._plan.milestones):
            milestone = self._plan.milestones[self._committed]
            if self._done.left[milestone.stage]:
                return
            with turn(self._plan):
                told = self._plan.journal.folder / "committed" / str(self._committed)
                if _is_under_way(self._plan) and not told.is_file():
                    milestone.commit(self._low, self._high)
                    told.write_bytes(b"")
            self._committed += 1
