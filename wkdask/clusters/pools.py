"""Pools by the names of ``--distribution-strategy``."""

from __future__ import annotations

import os
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING

from wkdask.errors import InputError
from wkdask.plan import Batch, Plan, Pool, Receipt, ThreadPool
from wkdask.plan.execute import execute

if TYPE_CHECKING:
    from collections.abc import Sequence

STRATEGIES = ("threads", "processes", "sequential", "local", "tcp://HOST:PORT")
ALIASES = {"multiprocessing": "processes", "sync": "sequential"}
LATER = ("slurm", "kubernetes")


def open_pool(strategy: str, jobs: int | None = None, memory_limit: int | None = None) -> Pool:
    """Return the pool of a name; nothing is started until it is entered.

    Parameters
    ----------
    strategy
        One of `STRATEGIES`, or an alias; or the address of a Dask scheduler.
    jobs
        Tasks at once; default: as many as there are cores.
    memory_limit
        Bytes for all of them; default: see `wkdask.plan.default_limit`.

    Raises
    ------
    InputError
        Where there is none of this name.

    Examples
    --------
    >>> open_pool("sequential").slots
    1
    """
    name = ALIASES.get(strategy, strategy)
    count = jobs or os.cpu_count() or 1
    if count < 1:
        raise InputError(f"{jobs} jobs can not run. Give a number from 1 up.")
    if name == "threads":
        return ThreadPool(count)
    if name == "sequential":
        return Sequential()
    if name == "processes":
        from wkdask.clusters.processes import ProcessPool

        return ProcessPool(count)
    if name == "local" or "://" in name:
        from wkdask.clusters.dask_pool import DaskPool

        return DaskPool(None if name == "local" else name, count, memory_limit)
    if name in LATER:
        raise InputError(f"The strategy {name} is not available yet. Use one of {', '.join(STRATEGIES)}.")
    raise InputError(f"There is no strategy {strategy!r}. Use one of {', '.join(STRATEGIES)}.")


class Sequential:
    """One task after the other, in the calling thread: for debugging."""

    slots = processes = 1

    def __enter__(self) -> Sequential:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None

    def submit(self, plan: Plan, batch: Batch) -> Future[Sequence[Receipt]]:
        """Run a batch now."""
        future: Future[Sequence[Receipt]] = Future()
        future.set_result(execute(plan, batch))
        return future
