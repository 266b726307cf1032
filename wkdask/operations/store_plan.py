"""The plan that stores a dask array: its graph is the array's own, each block fused with the task that writes it.

Beside `wkdask.plan.graph` the only module that knows dask's task classes.
"""

from __future__ import annotations

import multiprocessing
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import dask
from dask._task_spec import DataNode, GraphNode, Task, TaskRef, convert_legacy_graph

from wkdask.errors import InterruptedRunError
from wkdask.operations.store_blocks import GivenBlocks, WriteBlocks
from wkdask.plan import Batch, Plan, Receipt, Report, Stage
from wkdask.plan.execute import Begun, begin, execute, lease
from wkdask.plan.graph import build_graph

Standing = tuple[Begun, float, str]
"""Where a plan stands, when it began, and the token of its lease: what the graph's tasks must know."""


@dataclass(frozen=True)
class StorePlan(Plan):
    """A plan whose first stage writes the blocks of a dask array, which whoever runs the graph computes.

    ``plan.compute()``, ``client.compute(plan)`` and ``plan.persist()`` work as for every plan; ``plan.run()`` is ``compute()``.

    Parameters
    ----------
    array
        Whose blocks are those of the first stage, in stored axes.
    standing
        Where it stands, of a plan that has begun.
    """

    array: Any = field(default=None, compare=False, repr=False)
    standing: Standing | None = field(default=None, compare=False, repr=False)

    @property
    def batch_size(self) -> int:
        """One: each block is a task of its own already."""
        return 1

    def compute(self, *, verify: bool = False, **options: Any) -> Report:
        """Compute the array and store it, on dask's ambient scheduler; ``options`` go to `dask.compute`.

        With ``verify`` all that an earlier run has done is read and compared with its checksums, before it is believed.

        Raises
        ------
        LockedError
            Where another run works on the same dataset.
        UnitsFailedError
            Where blocks could not be written. What the array's own functions raise comes as it is.
        """
        self.setup.check()
        with lease(self) as held:
            standing = begin(self, verify=verify), time.time(), held.token
            try:
                (report,) = dask.compute(replace(self, standing=standing), **options)
            except BaseException:
                _writing.end(held.token)
                raise
        return report  # type: ignore[no-any-return]

    def run(self, **options: Any) -> Report:
        """Do what `compute` does."""
        return self.compute(**options)

    def __dask_graph__(self) -> dict[Hashable, Any]:
        return _graph(self)


class _Writing:
    """Blocks that threads of this process are writing, by run: dask does not wait for them when a run fails."""

    def __init__(self) -> None:
        self._running: Counter[str] = Counter()
        self._over: set[str] = set()
        self._changed = threading.Condition()

    @contextmanager
    def of(self, token: str) -> Iterator[None]:
        """Let a block of a run be written, unless that is over."""
        with self._changed:
            if token in self._over:
                raise InterruptedRunError("The run that this block belongs to has failed. Run the same again to go on.")
            self._running[token] += 1
        try:
            yield
        finally:
            with self._changed:
                self._running[token] -= 1
                self._changed.notify_all()

    def end(self, token: str) -> None:
        """Let no further block of a run be written, and wait for those that are."""
        with self._changed:
            self._over.add(token)
            self._changed.wait_for(lambda: not self._running[token])


_writing = _Writing()


class Guard:
    """Held by a worker with what the graph's first task returned; releases the lease when a graph that failed is forgotten."""

    def __init__(self, plan: Plan, token: str) -> None:
        self._finalizer = weakref.finalize(self, _release, plan, token)

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return object, ()  # a copy elsewhere guards nothing


def _release(plan: Plan, token: str) -> None:
    lease(plan).release(token)


class Guarded(tuple[Begun, float, str]):
    """A `Standing` with its guard."""

    guard: Guard | None = None


def _guarded(plan: Plan, begun: Standing) -> Guarded:
    """Return where a plan stands, with what holds the lease.

    A process that is not dask's worker, but made for this run, holds nothing: its lease is void when it ends.
    """
    guarded = Guarded(begun)
    if multiprocessing.parent_process() is None or _is_dask_worker():
        guarded.guard = Guard(plan, begun[2])
    return guarded


def _is_dask_worker() -> bool:
    if "distributed" not in sys.modules:
        return False
    from distributed import get_worker

    try:
        get_worker()
    except ValueError:
        return False
    return True


def _graph(plan: StorePlan) -> dict[Hashable, Any]:
    """Return the graph of the plan, with that of the array's blocks which are still to be written."""
    small = replace(plan, array=None, standing=None)  # what workers get
    graph = build_graph(small)
    at_plan, at_begin, *keys, _ = map(str, graph)
    operation = _blocks(plan)
    done = plan.standing[0].done.get(0, frozenset()) if plan.standing else finished(plan)
    cells = {n: (plan.array.name, *operation.blocks.cell(n)) for n in range(operation.count) if n not in done}
    theirs = _optimized(plan.array, list(cells.values()))
    used = Counter(need for node in theirs.values() for need in node.dependencies)
    for batch, key in zip(small.batches(), keys, strict=True):
        if batch.stage:
            break
        number = batch.numbers[0]
        block = TaskRef(cells[number]) if number in cells else None
        write: GraphNode = Task(key, _write, TaskRef(at_plan), number, TaskRef(at_begin), block)
        node = theirs.get(cells[number]) if number in cells else None
        if type(node) is Task and not used[node.key]:  # nobody else wants the block, so it need not travel
            write = Task.fuse(theirs.pop(node.key), write, key=key)
        graph[key] = write
    if plan.standing:
        graph[at_begin] = DataNode(at_begin, plan.standing)
    else:
        graph[at_begin] = Task(at_begin, _guarded, TaskRef(at_plan), graph[at_begin])
    return {**theirs, **graph}


def _blocks(plan: Plan) -> WriteBlocks:
    operation = plan.stages[0].operation
    if not isinstance(operation, WriteBlocks):
        raise TypeError(f"The first stage of {plan.name} writes no blocks but is {operation!r}.")
    return operation


def _optimized(array: Any, keys: list[Any]) -> dict[Hashable, Any]:
    """Return the tasks that some blocks of an array take, optimized as dask does it."""
    if not keys:
        return {}
    return dict(convert_legacy_graph(dict(array.__dask_optimize__(array.__dask_graph__(), keys))))


def finished(plan: Plan) -> frozenset[int]:
    """Return the blocks that an earlier run of the plan has written, so that they need not be computed.

    Whether they count is found out again when the graph begins, in the same way, after the files have been swept.
    """
    if (plan.journal.document() or {}).get("fingerprint") != plan.fingerprint:
        return frozenset()
    latest = {(receipt.stage, receipt.number): receipt for receipt in plan.journal.read()}
    used: set[str] = set()
    for (stage, number), receipt in latest.items():
        if 0 < stage < len(plan.stages) and 0 <= number < plan.stages[stage].count:
            operation = plan.stages[stage].operation
            if receipt.files and all(map(operation.is_intact, receipt.files)):
                used.update(operation.consumes(number))
    intact = plan.stages[0].operation.is_intact
    receipts = [receipt for (stage, _), receipt in latest.items() if stage == 0]
    return frozenset(r.number for r in receipts if r.files and all(f.path in used or intact(f) for f in r.files))


def _write(plan: Plan, number: int, begun: Standing, block: Any = None) -> tuple[Receipt, ...]:
    """Write a block, unless an earlier run did."""
    if number in begun[0].done.get(0, ()):
        return ()
    operation = _blocks(plan)
    first = Stage(plan.stages[0].name, replace(operation, source=GivenBlocks(operation.levels[0].array.spec.dtype, block)))
    with _writing.of(begun[2]):
        return execute(replace(plan, stages=(first, *plan.stages[1:])), Batch(0, (number,)))
