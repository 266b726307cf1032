"""``executor=`` of the verbs: where their plans run, said in any of the ways that scripts have for it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

from wkdask.clusters.batches import FOREIGN_BATCHES, SCHEDULERS, Submits, is_client, no_executor, scheduler_of, submit
from wkdask.clusters.pools import Sequential
from wkdask.errors import InputError
from wkdask.plan import Batch, Plan, Pool, Receipt, ThreadPool
from wkdask.plan.cancelling import StopMark
from wkdask.plan.drive import usual_pool
from wkdask.plan.execute import execute
from wkdask.plan.stage import Mark, until

MakesPool = Callable[[Plan], Pool]


@contextmanager
def running_on(executor: Any = None) -> Iterator[None]:
    """Let plans that are run in the block, and are given no pool, run by an executor.

    Parameters
    ----------
    executor
        None: what an outer block says, else the scheduler that dask would take now, which is threads of this process unless a
        client or another one was set. A `distributed.Client`, the name of one of dask's schedulers, or anything with
        ``submit``, which gets few and large batches.

    Raises
    ------
    InputError
        Where the executor is none of these.

    Examples
    --------
    >>> from wkdask import Dataset
    >>> with running_on("sequential"):
    ...     Dataset.open("brain").get_layer("color").plan_downsample().run().failed
    0
    """
    if executor is None and usual_pool.get() is not None:
        yield
        return
    token = usual_pool.set(pool_maker(executor))
    try:
        yield
    finally:
        usual_pool.reset(token)


def pool_maker(executor: Any) -> MakesPool:
    """Return what makes the pool of a plan, for an executor; see `running_on`. Nothing is started."""
    chosen = _ambient() if executor is None else scheduler_of(executor)
    if chosen == "threads":
        return lambda plan: ThreadPool(plan.workers, asked=plan.asked)
    if chosen == "sync":
        return lambda plan: Sequential()  # noqa: ARG005 - all makers are called alike
    if chosen == "processes":
        from wkdask.clusters.processes import ProcessPool

        return lambda plan: ProcessPool(plan.workers)
    if chosen == "distributed":
        chosen = _current_client()
    if is_client(chosen):
        return lambda plan: _client_pool(chosen)  # noqa: ARG005
    if isinstance(chosen, Submits):
        return lambda plan: SubmitPool(chosen)  # noqa: ARG005
    raise no_executor(executor)


def _client_pool(client: Any) -> Pool:
    """Return a pool on the cluster of a client: with a client of its own, so that nothing of the user's is ever cancelled."""
    from wkdask.clusters.connected import Connected
    from wkdask.clusters.dask_pool import DaskPool

    if client.status != "running":
        raise InputError(f"The client {client!r} is {client.status}, so that it runs nothing. Give one that is connected.")
    return DaskPool(Connected(client.scheduler.address, client.security))


def _current_client() -> Any:
    from distributed import get_client

    try:
        return get_client()
    except ValueError:
        raise InputError("There is no distributed.Client to run on. Make one, or name another scheduler.") from None


def _ambient() -> Any:
    """Return what dask would run on now: a client, or the name of a scheduler; or an executor that calls it."""
    import dask

    if "distributed" not in sys.modules and not dask.config.get("scheduler", None):
        return "threads"  # without the second that an import takes to find that there is no client
    try:
        get = dask.base.get_scheduler()
    except (RuntimeError, ValueError) as error:
        raise InputError(f"Dask's setting 'scheduler' can not be used: {error}. Correct it.") from None
    if get is None:
        return "threads"
    client = getattr(get, "__self__", None)
    if is_client(client):
        return client
    name = next((name for name, known in dask.base.named_schedulers.items() if known is get), None)
    return SCHEDULERS[name] if name in SCHEDULERS else _Calls(get)


class _Calls:
    """An executor that calls one of dask's schedulers that is a function."""

    def __init__(self, get: Callable[..., Any]) -> None:
        self._get = get

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        """Make the call now."""
        from dask._task_spec import DataNode, Task

        future: Future[Any] = Future()
        graph = {"run": Task("run", _call, DataNode(None, (function, arguments)))}
        try:
            future.set_result(self._get(graph, ["run"])[0])
        except Exception as error:  # noqa: BLE001 - whoever waits for the result hears of it
            future.set_exception(error)
        return future


def _call(what: tuple[Callable[..., Any], tuple[Any, ...]]) -> Any:
    function, arguments = what
    return function(*arguments)


class SubmitPool(Pool):
    """Runs batches by anything with ``submit``; few and large ones, as each may become a job of a cluster.

    Parameters
    ----------
    executor
        Its futures have ``result``, and may have ``add_done_callback`` and ``cancel``. It is not shut down.
    """

    slots = processes = 1
    most_batches = FOREIGN_BATCHES

    def __init__(self, executor: Submits) -> None:
        self._executor = executor
        workers = getattr(executor, "_max_workers", None)
        here = isinstance(executor, ThreadPoolExecutor | ProcessPoolExecutor)
        self.slots = workers if here and isinstance(workers, int) else FOREIGN_BATCHES
        self.processes = 1 if isinstance(executor, ThreadPoolExecutor | _Calls) else 1 + self.slots
        self.memory_limit = None if here else sys.maxsize  # of machines that nothing is known of

    def __enter__(self) -> SubmitPool:
        self._futures: list[Any] = []
        self._marks: dict[str, StopMark] = {}
        self._over = threading.Event()
        self._waiting = ThreadPoolExecutor(FOREIGN_BATCHES, "wkdask-waiting")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Give up what has not begun, tell the rest to stop, and wait for it, as nobody else may write meanwhile."""
        if kind is not None:
            self._over.set()
            for mark in self._marks.values():
                mark.set()
        for future in self._futures:
            with suppress(AttributeError):
                future.cancel()
        for future in self._futures:
            with suppress(Exception, CancelledError):
                future.result()
        self._waiting.shutdown()
        if kind is not None:
            for mark in self._marks.values():
                mark.clear()

    def start(self, plan: Plan, batches: Sequence[Batch]) -> Sequence[Any]:
        """Start batches."""
        return [self._start(plan, batch) for batch in batches]

    def _start(self, plan: Plan, batch: Batch) -> Any:
        future = submit(self._executor, _execute_until, plan, batch, self._mark_of(plan))
        self._futures.append(future)
        return future if hasattr(future, "add_done_callback") else self._waiting.submit(future.result)

    def _mark_of(self, plan: Plan) -> Mark:
        """Return what tells the tasks of a plan that the run is over, where they are."""
        if isinstance(self._executor, ThreadPoolExecutor):
            return self._over
        job = plan.journal.folder.url
        if job not in self._marks:
            self._marks[job] = StopMark(plan.journal)
        return self._marks[job]


def _execute_until(plan: Plan, batch: Batch, over: Mark) -> tuple[Receipt, ...]:
    with until(over):
        return execute(plan, batch)
