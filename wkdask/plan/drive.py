"""The window loop: keeps a pool's workers busy, retries, commits each milestone as soon as it is complete."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import replace
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Protocol

from wkdask.errors import InterruptedRunError, PlanRefusedError
from wkdask.formats import close_files
from wkdask.plan.cancelling import stop_if_cancelled
from wkdask.plan.estimate import Probe, estimate
from wkdask.plan.execute import Begun, begin, execute, finish, lease, raise_failures, said_of
from wkdask.plan.memory import used_bytes
from wkdask.plan.notebook import notebook_progress
from wkdask.plan.plan import Plan, log_unit
from wkdask.plan.receipt import Receipt, Report
from wkdask.plan.stage import Batch, until
from wkdask.plan.window import Done, Key, Window
from wkdask.storage import taken_requests, taken_retries

RETRIES = 2

Progress = Callable[[Plan, Report, Receipt | None], None]
"""Called with the plan, the report so far, and each receipt (None at the beginning)."""

usual_pool: ContextVar[Callable[[Plan], Pool] | None] = ContextVar("usual_pool", default=None)
"""What makes the pool of a plan that is run without one; see `wkdask.clusters.executors`."""


WAITING_PER_CORE, MOST_WAITING = 4, 16
"""Threads that write to a store, most of which wait for its answers."""


class Pool(Protocol):
    """Where batches run: threads, processes, or a cluster."""

    @property
    def slots(self) -> int:
        """Tasks that run at once."""
        ...

    @property
    def processes(self) -> int:
        """Processes of this machine that run them or wait for them."""
        ...

    def __enter__(self) -> Pool: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def submit(self, plan: Plan, batch: Batch) -> Any:
        """Start a batch; return a future with ``result`` and ``add_done_callback``."""
        ...


class ThreadPool:
    """Threads of this process; the default.

    Parameters
    ----------
    slots
        How many.
    asked
        Whether the user chose that; else there are more of them while they wait for a store, as far as the memory suffices.
    """

    processes = 1

    def __init__(self, slots: int, *, asked: bool = True) -> None:
        self.slots, self._usual, self._asked = slots, slots, asked

    def suit(self, plan: Plan, limit: int | None) -> None:
        """Take as many threads as suit a plan, before the pool is entered."""
        self.slots = self._usual
        if not self._asked and not plan.target.is_local:
            wanted = max(self._usual, min(MOST_WAITING, WAITING_PER_CORE * self._usual))
            self.slots = next((n for n in range(wanted, self._usual, -1) if plan.fits(limit, n)), self._usual)

    def __enter__(self) -> ThreadPool:
        self._over = threading.Event()
        self._executor = ThreadPoolExecutor(self.slots, "wkdask")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            self._over.set()
        self._executor.shutdown(wait=True, cancel_futures=True)

    def submit(self, plan: Plan, batch: Batch) -> Future[tuple[Receipt, ...]]:
        """Start a batch."""
        return self._executor.submit(self._execute, plan, batch)

    def _execute(self, plan: Plan, batch: Batch) -> tuple[Receipt, ...]:
        with until(self._over):
            return execute(plan, batch)


class LeasePool(ThreadPool):
    """Threads of one of several processes that share a plan through the dataset's folder; see `wkdask.plan.leases`.

    Parameters
    ----------
    slots
        Tasks that run at once in this process.
    begins
        Whether this process may begin the plan; else it joins one that is under way.
    """

    def __init__(self, slots: int, begins: bool = True) -> None:
        super().__init__(slots)
        self.begins = begins


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
    if most := getattr(pool, "most_batches", 0):
        plan = replace(plan, most_batches=most)
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
    with lease(plan):
        with pool:  # first, so that nothing is begun where there is no cluster
            begun = begin(plan, verify=verify)
            report.kept = sum(len(numbers) for numbers in begun.done.values())
            report.bytes_kept = begun.bytes_in
            _Run(plan, pool, begun, report, tell).loop()
        if not report.failed:
            finish(plan)


def _drive_shared(plan: Plan, pool: Any, report: Report, tell: Progress, verify: bool) -> None:
    from wkdask.plan.leases import share

    share(plan, pool, report, tell, verify)


def outcome(batch: Batch, future: Any) -> tuple[Receipt, ...]:
    """Return the receipts of a batch; where its worker died, or it could not travel, such as say so."""
    try:
        receipts: tuple[Receipt, ...] = future.result()
    except InterruptedRunError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever happened, the others go on
        return tuple(Receipt(batch.stage, n, "failed", error=said_of(error), again=True) for n in batch.numbers)
    return receipts


class _Run:
    """One run of the window loop."""

    def __init__(self, plan: Plan, pool: Pool, begun: Begun, report: Report, tell: Progress) -> None:
        self._plan, self._pool, self._report, self._tell = plan, pool, report, tell
        self._low, self._high = begun.low, begun.high
        self._done = Done((stage.count for stage in plan.stages), begun.done)
        self._window = Window(plan, self._done)
        self._finished: SimpleQueue[tuple[Batch, Any]] = SimpleQueue()
        self._tries: dict[Key, int] = defaultdict(int)
        self._committed = 0
        self._running = 0
        self._hopeless = False

    def loop(self) -> None:
        """Run all batches, then commit what is left to commit."""
        self._tell(self._plan, self._report, None)
        self._commit()
        while self._start_some() or self._running:
            stop_if_cancelled(self._plan.journal)
            self._take(*self._next())
            self._report.peak_bytes = max(self._report.peak_bytes, used_bytes())
        if self._hopeless:
            report = self._report
            report.skipped = self._plan.tasks - report.done - report.kept - report.failed

    def _start_some(self) -> bool:
        """Keep the workers busy, unless others have found that it would be in vain; return whether any batch was started."""
        before = self._running
        while not self._hopeless and self._running < 2 * self._pool.slots and (batch := self._window.take()):
            self._start(batch)
        self._tell_lost()
        return self._running > before

    def _next(self) -> tuple[Batch, Any]:
        while True:
            try:
                return self._finished.get(timeout=0.5)  # short, so that Ctrl-C is heard on every system
            except Empty:
                stop_if_cancelled(self._plan.journal)

    def _start(self, batch: Batch) -> None:
        self._running += 1
        future = self._pool.submit(self._plan, batch)
        future.add_done_callback(lambda done: self._finished.put((batch, done)))

    def _take(self, batch: Batch, future: Any) -> None:
        self._running -= 1
        key = self._window.key(batch)
        receipts = outcome(batch, future)
        failed = [r for r in receipts if r.state == "failed"]
        self._tries[key] += 1
        if failed and all(r.again for r in failed) and self._tries[key] <= RETRIES:
            self._count([r for r in receipts if r.state == "done"])
            self._window.put_back(Batch(batch.stage, tuple(r.number for r in failed)))
            return
        self._count(receipts)
        self._hopeless = self._hopeless or any(r.hopeless for r in failed)
        self._window.finished(key, bool(failed))
        self._tell_lost()
        self._commit()

    def _tell_lost(self) -> None:
        while self._window.lost:
            skipped = self._window.lost.popleft()
            self._count([Receipt(skipped.stage, n, "skipped") for n in skipped.numbers])

    def _count(self, receipts: Any) -> None:
        for receipt in receipts:
            self._report.add(receipt)
            log_unit(self._plan, receipt)
            if receipt.state == "done":
                self._done.add(receipt.stage, receipt.number)
                if receipt.low is not None:
                    self._low = receipt.low if self._low is None else min(self._low, receipt.low)
                    self._high = receipt.high if self._high is None else max(self._high, receipt.high)
            self._tell(self._plan, self._report, receipt)

    def _commit(self) -> None:
        """Commit, in order, the milestones whose stages, and all before them, are complete."""
        while self._committed < len(self._plan.milestones):
            milestone = self._plan.milestones[self._committed]
            if self._done.left[milestone.stage]:
                return
            milestone.commit(self._low, self._high)
            self._committed += 1
