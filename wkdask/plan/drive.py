"""The window loop: keeps a pool's workers busy, retries, commits each milestone as soon as it is complete."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from wkdask.errors import InterruptedRunError, PlanRefusedError, StorageError
from wkdask.formats import close_files
from wkdask.plan.cancelling import stop_if_cancelled
from wkdask.plan.counting import Counting, Progress
from wkdask.plan.estimate import Probe, estimate
from wkdask.plan.execute import begin, finish, lease, raise_failures
from wkdask.plan.notebook import notebook_progress
from wkdask.plan.plan import Plan
from wkdask.plan.pool import LeasePool, Pool, ThreadPool
from wkdask.plan.receipt import Report
from wkdask.plan.stage import Batch, Milestone
from wkdask.storage import changes_at_once, taken_requests, taken_retries

usual_pool: ContextVar[Callable[[Plan], Pool] | None] = ContextVar("usual_pool", default=None)
"""What makes the pool of a plan that is run without one; see `wkdask.clusters.executors`."""


def run(
    plan: Plan,
    *,
    pool: Pool | None = None,
    memory_limit: int | None = None,
    progress: Progress | None = None,
    verify: bool = False,
    probe: Probe | None = None,
) -> Report:
    """Run a plan and commit what it makes.

    Parameters
    ----------
    plan
        What to do.
    pool
        Where; default: what the verb that runs it was given as executor, else as many threads as the plan was laid out for.
    memory_limit
        Bytes that all tasks may take; default: what the pool says, where it has machines of its own, else 0.6 of this machine's
        or container's memory.
    progress
        Called after each task; default: what draws a bar in a notebook, nothing elsewhere.
    verify
        Whether all that an earlier run has done is read and compared with its checksums, before it is believed.
    probe
        What `Plan.probe` measured, for what the report says was predicted.

    Raises
    ------
    PlanRefusedError
        Where the plan does not fit, or another is unfinished at its target; nothing was written.
    LockedError
        Where another run works on the same dataset.
    UnitsFailedError
        Where tasks failed; all others are done.
    InterruptedRunError
        When the user stopped it; the next run goes on.
    """
    pool = pool or (usual_pool.get() or _threads)(plan)
    if pool.most_batches:
        plan = replace(plan, most_batches=pool.most_batches)
    if plan.target.url.startswith("memory://") and pool.processes > 1:
        raise PlanRefusedError(f"{plan.target} is the memory of this process, which others can not write. Use threads.")
    plan.setup.check()
    limit = memory_limit or getattr(pool, "memory_limit", None)
    if isinstance(pool, ThreadPool):
        pool.suit(plan, limit)
    plan.check_memory(limit, pool.slots, pool.processes)
    costs = estimate(plan, probe, pool.slots, pool.processes)
    report = Report(
        plan.name,
        predicted_bytes=plan.predicted_bytes(pool.slots, pool.processes),
        predicted_bytes_out=costs.file_bytes,
        predicted_seconds=costs.seconds,
        predicted_files=costs.files,
        predicted_requests=costs.requests,
        predicted_worker_bytes=costs.worker_bytes,
    )
    start = time.perf_counter()
    taken_requests(), taken_retries()  # of before
    tell: Progress = progress or notebook_progress() or (lambda *_: None)
    drive = _drive_alone if not isinstance(pool, LeasePool) else _drive_shared
    try:
        drive(plan, pool, report, tell, verify)
    except (KeyboardInterrupt, InterruptedRunError):
        raise InterruptedRunError(
            f"Stopped after {report.done + report.kept} of {plan.tasks} tasks. Run the same again to go on."
        ) from None
    finally:
        close_files()  # else disks stay in use, and the room of files that are deleted is not free
    report.seconds = time.perf_counter() - start
    report.requests += taken_requests()
    report.retries += taken_retries()
    raise_failures(plan, report)
    return report


def _threads(plan: Plan) -> Pool:
    return ThreadPool(plan.workers, asked=plan.asked)


def _drive_alone(plan: Plan, pool: Pool, report: Report, tell: Progress, verify: bool) -> None:
    try:
        with lease(plan):
            with pool:  # first, so that nothing is begun where there is no cluster
                begun = begin(plan, verify=verify)
                report.kept = sum(len(numbers) for numbers in begun.done.values())
                report.bytes_kept = begun.bytes_in
                mine = _Run(plan, pool, report, tell, begun.done)
                mine.low, mine.high = begun.low, begun.high
                mine.loop()
            if not report.failed:
                finish(plan)
    except StorageError:  # of giving up the lease, for instance
        if not report.failed:  # which says more, as the same is in the way of both
            raise


def _drive_shared(plan: Plan, pool: Any, report: Report, tell: Progress, verify: bool) -> None:
    from wkdask.plan.leases import share

    share(plan, pool, report, tell, verify)


class _Run(Counting):
    """One run of the window loop."""

    def loop(self) -> None:
        """Run all batches, then commit what is left to commit."""
        self.tell(None)
        self._commit_at_once()
        while self._start_some():
            stop_if_cancelled(self.plan.journal)
            self.take(0.5)  # short, so that Ctrl-C is heard on every system
            self._commit_at_once()
        self.skip_rest()

    def _commit_at_once(self) -> None:
        with changes_at_once():
            self.commit()

    def _start_some(self) -> bool:
        """Keep the workers busy, unless others have found that it would be in vain; return whether any batch is under way."""
        batches: list[Batch] = []
        while not self.hopeless and self.running + len(batches) < self.pool.room and (batch := self.window.take()):
            batches.append(batch)
        self.start(batches)
        self.tell_lost()
        return self.running > 0

    def again(self, batch: Batch) -> None:
        """Take back tasks that failed, to be run when nothing else can."""
        self.window.put_back(batch)

    def commit_one(self, number: int, milestone: Milestone) -> None:  # noqa: ARG002
        """Make it visible."""
        milestone.commit(self.low, self.high)
