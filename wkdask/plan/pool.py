"""Where batches run: what a pool is, and the threads of this process."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Protocol

from wkdask.plan.estimate import cost_of
from wkdask.plan.execute import execute
from wkdask.plan.plan import Plan
from wkdask.plan.receipt import Receipt
from wkdask.plan.stage import Batch, until

WAITING_PER_CORE, MOST_WAITING = 4, 16
"""Threads of plans that read from a store or write to one, most of which wait for its answers."""

Result = Sequence[Receipt] | Exception
"""What came of a batch: a receipt of each task, or why there is none."""


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

    @property
    def most_batches(self) -> int:
        """Batches that a plan is cut into at most, see `Plan.most_batches`; 0: as many as usual."""
        return 0

    @property
    def room(self) -> int:
        """Batches that may be under way at once: those that run, and as many that wait, so that no worker does."""
        return 2 * self.slots

    def __enter__(self) -> Pool: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def start(self, plan: Plan, batches: Sequence[Batch]) -> Sequence[Any]:
        """Start batches; return a future of each, with ``result`` and ``add_done_callback``."""
        ...

    def results(self, futures: Sequence[Any]) -> Sequence[Result]:
        """Return what came of batches that have ended, given by their futures."""
        return [result_of(future) for future in futures]


def result_of(future: Any) -> Result:
    """Return what came of one batch."""
    try:
        receipts: Sequence[Receipt] = future.result()
    except Exception as error:  # noqa: BLE001 - whatever happened, the others go on
        return error
    return receipts


class ThreadPool(Pool):
    """Threads of this process; the default.

    Parameters
    ----------
    slots
        How many.
    asked
        Whether the user chose that; else there are more of them while they wait for a store, as far as the memory suffices.
    """

    slots = processes = 1  # the protocol's properties could not be set

    def __init__(self, slots: int, *, asked: bool = True) -> None:
        self.slots, self._usual, self._asked = slots, slots, asked

    def suit(self, plan: Plan, limit: int | None) -> None:
        """Take as many threads as suit a plan, before the pool is entered."""
        self.slots = self._usual
        if not self._asked and (not plan.target.is_local or any(cost_of(stage).waiting for stage in plan.stages)):
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

    def start(self, plan: Plan, batches: Sequence[Batch]) -> Sequence[Future[tuple[Receipt, ...]]]:
        """Start batches."""
        return [self._executor.submit(self._execute, plan, batch) for batch in batches]

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
