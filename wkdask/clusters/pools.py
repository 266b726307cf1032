"""Pools by the names of ``--distribution-strategy``."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, Any

from wkdask.clusters.launch import default_jobs, launcher_of
from wkdask.clusters.settings import Choice, resolved
from wkdask.errors import InputError
from wkdask.plan import Batch, LeasePool, Plan, Pool, Receipt, ThreadPool
from wkdask.plan.execute import execute

if TYPE_CHECKING:
    from collections.abc import Sequence

STRATEGIES = ("threads", "processes", "sequential", "leases", "local", "slurm", "slurm+batching", "tcp://HOST:PORT")
ALIASES = {"multiprocessing": "processes", "sync": "sequential"}
LATER = ("kubernetes",)


def open_pool(
    strategy: str,
    jobs: int | None = None,
    memory_limit: int | None = None,
    job_resources: str | Mapping[str, Any] | None = None,
) -> Pool:
    """Return the pool of a name; nothing is started until it is entered.

    Parameters
    ----------
    strategy
        One of `STRATEGIES`, an alias, or a profile of dask's configuration; or the address of a Dask scheduler.
    jobs
        Tasks at once, by default as many as there are cores; of Slurm: workers.
    memory_limit
        Bytes for all of them; default: see `wkdask.plan.default_limit`.
    job_resources
        What a job of Slurm asks for.

    Raises
    ------
    InputError
        Where there is none of this name.

    Examples
    --------
    >>> open_pool("sequential").slots
    1
    """
    choice = resolved(Choice(ALIASES.get(strategy, strategy), jobs, job_resources))
    name, count = ALIASES.get(choice.strategy, choice.strategy), choice.jobs
    if count is not None and count < 1:
        raise InputError(f"{count} jobs can not run. Give a number from 1 up.")
    if launcher := launcher_of(choice, memory_limit):
        from wkdask.clusters.dask_pool import DaskPool

        return DaskPool(launcher)
    if name == "threads":
        return ThreadPool(count or default_jobs(), asked=count is not None)
    if name == "sequential":
        return Sequential()
    if name == "leases":
        return LeasePool(count or default_jobs())
    if name == "processes":
        from wkdask.clusters.processes import ProcessPool

        return ProcessPool(count or default_jobs())
    if name in LATER:
        raise InputError(f"The strategy {name} is not available yet. Use one of {', '.join(STRATEGIES)}.")
    raise InputError(f"There is no strategy {strategy!r}. Use one of {', '.join(STRATEGIES)}.")


class Sequential(Pool):
    """One task after the other, in the calling thread: for debugging."""

    slots = processes = 1

    def __enter__(self) -> Sequential:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None

    def start(self, plan: Plan, batches: Sequence[Batch]) -> Sequence[Future[Sequence[Receipt]]]:
        """Run batches now."""
        futures: list[Future[Sequence[Receipt]]] = [Future() for _ in batches]
        for future, batch in zip(futures, batches, strict=True):
            future.set_result(execute(plan, batch))
        return futures
