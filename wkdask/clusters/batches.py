"""A function over ranges of numbers, run by dask, by a client or by any executor; results come in order."""

from __future__ import annotations

import contextlib
import pickle
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Protocol, TypeVar, runtime_checkable

from wkdask.clusters.unguarded import UnguardedPool, without_main
from wkdask.errors import InputError

MOST_BATCHES = 1024
"""Batches of one run: enough for every worker, few enough for any scheduler."""

FOREIGN_BATCHES = 64
"""Batches for executors that are not dask's, each of which may become a job of a cluster."""

SCHEDULERS = {
    "threads": "threads",
    "threading": "threads",
    "sync": "sync",
    "synchronous": "sync",
    "single-threaded": "sync",
    "sequential": "sync",
    "processes": "processes",
    "multiprocessing": "processes",
    "distributed": "distributed",
}

Result = TypeVar("Result")


@runtime_checkable
class Submits(Protocol):
    """What `concurrent.futures` executors and those like them offer."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Any:
        """Start a call, and return its future."""
        ...


class CallFailedError(Exception):
    """Brings a user's error home: where it happened, in words, and the error itself, even where that does not pickle."""

    def __init__(self, where: str, error: BaseException) -> None:
        super().__init__(where, error)
        self.where, self.error = where, error

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.where, _portable(self.error))


def _portable(error: BaseException) -> BaseException:
    """Return an error, or where it can not travel, another one of its words."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - errors of users fail to pickle in many ways
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def ranges(count: int, most: int = MOST_BATCHES) -> list[range]:
    """Cut the numbers below ``count`` to at most ``most`` runs of nearly equal length.

    Examples
    --------
    >>> ranges(5, 2), ranges(2, 9)
    ([range(0, 2), range(2, 5)], [range(0, 1), range(1, 2)])
    """
    runs = min(count, most)
    return [range(count * i // runs, count * (i + 1) // runs) for i in range(runs)]


def in_order(task: Callable[[range], Result], count: int, executor: Any = None, name: str = "chunks") -> Iterator[Result]:
    """Call a function for all numbers below ``count``, a range at a time, and yield what it returns, first range first.

    Parameters
    ----------
    task
        Called with ranges; pickled where workers are other processes.
    count
        How many numbers there are.
    executor
        None: the scheduler that dask would take now, which is threads of this process unless a client or another one was
        set. A `distributed.Client`, the name of one of dask's schedulers, or anything with ``submit``.
    name
        What dashboards call the tasks.

    Raises
    ------
    InputError
        Where the executor is none of these.

    Examples
    --------
    >>> list(in_order(list, 5, "sequential")) == [[0], [1], [2], [3], [4]]
    True
    """
    if executor is None or isinstance(executor, str) or is_client(executor):
        return iter(_by_dask(task, count, scheduler_of(executor), name))
    if isinstance(executor, Submits):
        return _by_futures(task, count, executor)
    raise no_executor(executor)


def no_executor(executor: Any) -> InputError:
    """Return what is to be said of something that can not run anything."""
    return InputError(
        f"{executor!r} runs nothing: it has no submit. Give None, a distributed.Client, an executor, or one of "
        f"{', '.join(sorted(SCHEDULERS))}."
    )


def is_client(executor: Any) -> bool:
    """Whether something is a `distributed.Client`, which is not imported to find that out."""
    return any(kind.__name__ == "Client" and kind.__module__.startswith("distributed") for kind in type(executor).__mro__)


def scheduler_of(executor: Any) -> Any:
    """Return the one name that a scheduler of dask has here, whatever it is called; what is no name stays.

    Raises
    ------
    InputError
        Where there is none of the name.
    """
    if not isinstance(executor, str):
        return executor
    if executor not in SCHEDULERS:
        raise InputError(f"There is no scheduler {executor!r}. Use one of {', '.join(sorted(SCHEDULERS))}.")
    return SCHEDULERS[executor]


def _by_dask(task: Callable[[range], Result], count: int, scheduler: Any, name: str) -> tuple[Result, ...]:
    import dask

    if scheduler is None and SCHEDULERS.get(dask.config.get("scheduler", None)) == "processes":
        scheduler = "processes"
    if scheduler == "processes":
        from dask.system import CPU_COUNT

        with UnguardedPool(min(count, dask.config.get("num_workers", None) or CPU_COUNT)) as pool:
            return _computed(task, count, name, scheduler=scheduler, pool=pool)
    return _computed(task, count, name, scheduler=scheduler)


def _computed(task: Callable[[range], Result], count: int, name: str, **where: Any) -> tuple[Result, ...]:
    import dask

    token = uuid.uuid4().hex  # the same call may find other voxels the next time
    call = dask.delayed(task, pure=False, traverse=False)
    calls = [call(run, dask_key_name=f"{name}-{token}-{i}") for i, run in enumerate(ranges(count))]
    found: tuple[Result, ...] = dask.compute(*calls, optimize_graph=False, **where)
    return found


def _by_futures(task: Callable[[range], Result], count: int, executor: Submits) -> Iterator[Result]:
    futures = [submit(executor, task, run) for run in ranges(count, FOREIGN_BATCHES)]
    try:
        for i, future in enumerate(futures):
            yield future.result()
            futures[i] = None
    finally:
        for future in filter(None, futures):
            with contextlib.suppress(AttributeError):
                future.cancel()


def submit(executor: Submits, function: Callable[..., Any], /, *arguments: Any) -> Any:
    """Start a call by an executor, and return its future.

    Processes of this machine take functions that a script defines, and lambdas, and do not run the script again, whatever they
    are started by; of executors that are not known, that is their own matter.
    """
    if not isinstance(executor, ProcessPoolExecutor):
        return executor.submit(function, *arguments)
    import cloudpickle

    call = cloudpickle.dumps((function, arguments))
    with without_main():
        return executor.submit(_call_sent, call)


def _call_sent(call: bytes) -> Any:
    function, arguments = pickle.loads(call)
    return function(*arguments)


def call_or_tell(function: Callable[[Any], Result], argument: Any, where: str) -> Result:
    """Call a user's function; its errors become a `CallFailedError` that knows where it happened."""
    try:
        return function(argument)
    except Exception as error:
        raise CallFailedError(where, error) from error
