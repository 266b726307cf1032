"""The window loop: keeps a pool's workers busy, retries, commits each milestone as soon as it is complete."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Protocol

from wkdask.errors import InterruptedRunError, PlanRefusedError, WkdaskError
from wkdask.plan.execute import Begun, begin, execute, finish, lease
from wkdask.plan.memory import used_bytes
from wkdask.plan.plan import Plan
from wkdask.plan.receipt import Receipt, Report
from wkdask.plan.stage import Batch, stopping

RETRIES = 2

Progress = Callable[[Plan, Report, Receipt | None], None]
"""Called with the plan, the report so far, and each receipt (None at the beginning)."""


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
    """Threads of this process; the default."""

    processes = 1

    def __init__(self, slots: int) -> None:
        self.slots = slots

    def __enter__(self) -> ThreadPool:
        stopping.clear()
        self._executor = ThreadPoolExecutor(self.slots, "wkdask")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            stopping.set()
        self._executor.shutdown(wait=True, cancel_futures=True)
        stopping.clear()

    def submit(self, plan: Plan, batch: Batch) -> Future[tuple[Receipt, ...]]:
        """Start a batch."""
        return self._executor.submit(execute, plan, batch)


class _Window:
    """Which batches are ready, running, or wait for others."""

    def __init__(self, plan: Plan, begun: Begun) -> None:
        self.plan = plan
        self.left = {index: stage.count - len(begun.done.get(index, ())) for index, stage in enumerate(plan.stages)}
        batches = list(plan.batches(begun.done))
        size = plan.batch_size
        home = {(batch.stage, batch.numbers[0] // size): at for at, batch in enumerate(batches)}
        self._waits: dict[int, int] = {}
        self._wakes: dict[int, list[int]] = defaultdict(list)
        self.lost: set[int] = set()
        self.ready: deque[tuple[int, Batch]] = deque()
        self.batches = batches
        for at, batch in enumerate(batches):
            operation = plan.stages[batch.stage].operation
            keys = {(stage, need // size) for n in batch.numbers for stage, need in operation.dependencies(n)}
            needs = {home[key] for key in keys if key in home}
            self._waits[at] = len(needs)
            for need in needs:
                self._wakes[need].append(at)
            if not needs:
                self.ready.append((at, batch))

    def finished(self, at: int, failed: bool) -> list[int]:
        """Free what waited for a batch; return the batches that can never run because it failed."""
        doomed: list[int] = []
        for other in self._wakes.pop(at, ()):
            if failed and other not in self.lost:
                self.lost.add(other)
                doomed += [other, *self.finished(other, failed=True)]
            self._waits[other] -= 1
            if not self._waits[other] and other not in self.lost:
                self.ready.appendleft((other, self.batches[other]))
        return doomed


def run(plan: Plan, *, pool: Pool | None = None, memory_limit: int | None = None, progress: Progress | None = None) -> Report:
    """Run a plan and commit what it makes.

    Parameters
    ----------
    plan
        What to do.
    pool
        Where; default: as many threads as the plan was laid out for.
    memory_limit
        Bytes that one process may take; default: 0.6 of the machine's or the container's.
    progress
        Called after each task.

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
    pool = pool or ThreadPool(plan.workers)
    if plan.target.url.startswith("memory://") and pool.processes > 1:
        raise PlanRefusedError(f"{plan.target} is the memory of this process, which others can not write. Use threads.")
    plan.setup.check()
    plan.check_memory(memory_limit, pool.slots, pool.processes)
    report = Report(plan.name, predicted_bytes=plan.predicted_bytes(pool.slots, pool.processes))
    start = time.perf_counter()
    with lease(plan):
        try:
            with pool:  # first, so that nothing is begun where there is no cluster
                begun = begin(plan)
                report.kept = sum(len(numbers) for numbers in begun.done.values())
                report.bytes_kept = begun.bytes_in
                _Run(plan, pool, begun, report, progress).loop()
        except (KeyboardInterrupt, InterruptedRunError):
            raise InterruptedRunError(
                f"Stopped after {report.done + report.kept} of {plan.tasks} tasks. Run the same again to go on."
            ) from None
        report.seconds = time.perf_counter() - start
        report.raise_failures()
        finish(plan)
    return report


class _Run:
    """One run of the window loop."""

    def __init__(self, plan: Plan, pool: Pool, begun: Begun, report: Report, progress: Progress | None) -> None:
        self._plan, self._pool, self._report = plan, pool, report
        self._tell: Progress = progress or (lambda *_: None)
        self._low, self._high = begun.low, begun.high
        self._window = _Window(plan, begun)
        self._finished: SimpleQueue[tuple[int, Any]] = SimpleQueue()
        self._tries: dict[int, int] = defaultdict(int)
        self._committed = 0
        self._running = 0
        self._hopeless = False

    def loop(self) -> None:
        """Run all batches, then commit what is left to commit."""
        self._tell(self._plan, self._report, None)
        self._commit()
        while self._startable or self._running:
            while self._startable and self._running < 2 * self._pool.slots:
                self._start(*self._window.ready.popleft())
            self._take(*self._next())
            self._report.peak_bytes = max(self._report.peak_bytes, used_bytes())
        if self._hopeless:
            report = self._report
            report.skipped = self._plan.tasks - report.done - report.kept - report.failed

    @property
    def _startable(self) -> bool:
        """Whether a batch can be started, and others have not found that it would be in vain."""
        return bool(self._window.ready) and not self._hopeless

    def _next(self) -> tuple[int, Any]:
        while True:
            try:
                return self._finished.get(timeout=0.5)  # short, so that Ctrl-C is heard on every system
            except Empty:
                continue

    def _start(self, at: int, batch: Batch) -> None:
        self._running += 1
        future = self._pool.submit(self._plan, batch)
        future.add_done_callback(lambda done: self._finished.put((at, done)))

    def _take(self, at: int, future: Any) -> None:
        self._running -= 1
        batch = self._window.batches[at]
        try:
            receipts = future.result()
        except InterruptedRunError:
            raise
        except Exception as error:  # noqa: BLE001 - a worker died, or the batch could not travel
            said = str(error) if isinstance(error, WkdaskError) else f"{type(error).__name__}: {error}"
            receipts = tuple(Receipt(batch.stage, n, "failed", error=said, again=True) for n in batch.numbers)
        failed = [r for r in receipts if r.state == "failed"]
        self._tries[at] += 1
        if failed and all(r.again for r in failed) and self._tries[at] <= RETRIES:
            self._count([r for r in receipts if r.state == "done"])
            self._window.batches[at] = Batch(batch.stage, tuple(r.number for r in failed))
            self._window.ready.append((at, self._window.batches[at]))
            return
        self._count(receipts)
        self._hopeless = self._hopeless or any(r.hopeless for r in failed)
        for lost in self._window.finished(at, bool(failed)):
            skipped = self._window.batches[lost]
            self._count([Receipt(skipped.stage, n, "skipped") for n in skipped.numbers])
        self._commit()

    def _count(self, receipts: Any) -> None:
        for receipt in receipts:
            self._report.add(receipt)
            if receipt.state == "done":
                self._window.left[receipt.stage] -= 1
                if receipt.low is not None:
                    self._low = receipt.low if self._low is None else min(self._low, receipt.low)
                    self._high = receipt.high if self._high is None else max(self._high, receipt.high)
            self._tell(self._plan, self._report, receipt)

    def _commit(self) -> None:
        """Commit, in order, the milestones whose stages, and all before them, are complete."""
        while self._committed < len(self._plan.milestones):
            milestone = self._plan.milestones[self._committed]
            if self._window.left[milestone.stage]:
                return
            milestone.commit(self._low, self._high)
            self._committed += 1
