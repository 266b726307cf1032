"""The lease loop: processes that share only the dataset's folder take batches of one journalled plan, without a scheduler.

The first begins the plan, further ones join. Which batches are done they read in the journal, which are being done in the
claims; the dataset's own lease is held just for moments: to begin or join, to commit a magnification, to finish.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from wkdask.errors import LockedError, PlanRefusedError, StorageError
from wkdask.plan.cancelling import stop_if_cancelled
from wkdask.plan.claims import Claims, living_workers
from wkdask.plan.counting import Counting, Progress
from wkdask.plan.execute import begin, finish, lease_place
from wkdask.plan.following import Follower
from wkdask.plan.plan import Plan
from wkdask.plan.pool import LeasePool
from wkdask.plan.receipt import Receipt, Report
from wkdask.plan.stage import Batch, Milestone
from wkdask.plan.window import Key
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


class _Shared(Counting):
    """One process's part of a run that others share."""

    def __init__(self, plan: Plan, pool: LeasePool, claims: Claims, report: Report, tell: Progress) -> None:
        super().__init__(plan, pool, report, tell, {})
        self._claims = claims
        self._follower = Follower(plan.journal)
        self._mine: set[Key] = set()
        self._theirs: set[Key] = set()
        self._again: deque[Batch] = deque()
        self._pause, self._looked = PAUSES[0], 0.0

    @property
    def complete(self) -> bool:
        """Whether every task is done."""
        return not any(self.done.left)

    def loop(self) -> None:
        """Take batches until none is left that anybody does."""
        self.tell(None)
        self._look()
        while True:
            self._start_some()
            self.tell_lost()
            self.commit()
            if not self.running and (not self._theirs or self.hopeless):
                break
            if not self.running and not _is_under_way(self.plan):
                self.report.kept = self.plan.tasks - self.report.done
                return
            self._wait()
        self.skip_rest()

    def _start_some(self) -> None:
        while not self.hopeless and self.running < self.pool.slots:
            batch = self._claimed() or (self._again.popleft() if self._again else None)
            if batch is None:
                return
            self.start([batch])

    def _claimed(self) -> Batch | None:
        """Return what is left of a batch that is ours now; those that others have are looked at again later."""
        while (batch := self.window.take()) is not None:
            key = self.window.key(batch)
            if not self._try_claim(key):
                self._theirs.add(key)
                continue
            self._follow()  # its last owner may have done it, or found that it can not be done
            if self.window.is_open(key) and _is_under_way(self.plan):
                self._mine.add(key)
                return self.window.batch(key)
            self._claims.release(key)
        return None

    def _try_claim(self, key: Key) -> bool:
        try:
            return self._claims.is_free(key) and self._claims.take(key)
        except StorageError:
            if _is_under_way(self.plan):
                raise
            return False  # the folder went away meanwhile, as others have finished

    def _wait(self) -> None:
        """Take what threads of ours finished, and look now and then at what the others did."""
        stop_if_cancelled(self.plan.journal)
        self._pause = PAUSES[0] if self.take(self._pause) else min(1.5 * self._pause, PAUSES[1])
        if time.monotonic() >= self._looked + self._pause:
            self._look()

    def _look(self) -> None:
        """See what others have claimed, done, or given back."""
        self._claims.look()
        self._follow()
        self._looked = time.monotonic()
        for key in list(self._theirs):
            if not self.window.is_open(key):
                self._theirs.discard(key)
            elif self._claims.is_free(key):
                self._theirs.discard(key)
                self.window.put_back(self.window.batch(key))

    def _follow(self) -> None:
        """Read what is new in the journal, and what others tried in vain."""
        touched: set[Key] = set()
        for receipt in self._follower.new():
            if not self.window.has(receipt):
                continue
            self.see(receipt)
            key = receipt.stage, receipt.number // self.window.size
            if key not in self._mine and self.done.add(receipt.stage, receipt.number):
                touched.add(key)
                self.report.kept += 1
                self.report.bytes_kept += receipt.bytes_in
                self.tell(receipt)
        for key in touched:
            self._pause = PAUSES[0]
            if not self.window.batch(key).numbers:
                self.window.finished(key)
        for key, receipts in self._claims.failures():
            if key not in self._mine and self.window.is_batch(key) and self.window.is_open(key):
                self.count(receipts)
                self.window.finished(key, failed=True)

    def again(self, batch: Batch) -> None:
        """Take back tasks that failed; the batch stays ours."""
        self._again.append(batch)

    def ended(self, key: Key, receipts: Sequence[Receipt]) -> None:
        """Give a batch back; where it failed, tell the others why."""
        if any(r.state == "failed" for r in receipts) and not self.hopeless:
            self._claims.tell_failed(key, receipts)
        self._mine.discard(key)
        self._claims.release(key)

    def commit_one(self, number: int, milestone: Milestone) -> None:
        """Make it visible, unless another worker has."""
        with turn(self.plan):
            told = self.plan.journal.folder / "committed" / str(number)
            if _is_under_way(self.plan) and not told.is_file():
                milestone.commit(self.low, self.high)
                told.write_bytes(b"")
