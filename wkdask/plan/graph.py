"""Plans as dask graphs; the one module that knows dask's task classes."""

from __future__ import annotations

import time
from collections.abc import Hashable
from typing import Any

from dask._task_spec import DataNode, List, Task, TaskRef

from wkdask.errors import InterruptedRunError
from wkdask.plan.cancelling import stop_if_cancelled
from wkdask.plan.execute import Begun, begin, execute, finish, lease, raise_failures
from wkdask.plan.plan import Plan, log_unit
from wkdask.plan.receipt import Receipt, Report, extremes
from wkdask.plan.stage import Batch
from wkdask.plan.window import Key, batch_needs


def build_graph(plan: Plan) -> dict[Hashable, Any]:
    """Return the graph: begin, then batches as soon as those that they read are done, then one commit, the only key."""
    token = plan.fingerprint
    at_plan, at_begin, at_commit = f"plan-{token}", f"begin-{token}", f"commit-{token}"
    graph: dict[Hashable, Any] = {
        at_plan: DataNode(at_plan, plan),
        at_begin: Task(at_begin, _begin, TaskRef(at_plan)),
    }
    size = plan.batch_size
    home: dict[Key, str] = {}
    keys: list[str] = []
    for batch in plan.batches():
        key = f"{plan.stages[batch.stage].name}-{token}-{batch.stage}-{batch.numbers[0]}"
        needs = sorted({home[need] for need in batch_needs(plan, batch, size)})
        graph[key] = Task(key, _run_batch, TaskRef(at_plan), batch, TaskRef(at_begin), List(*map(TaskRef, needs)))
        home[batch.stage, batch.numbers[0] // size] = key
        keys.append(key)
    graph[at_commit] = Task(at_commit, _commit, TaskRef(at_plan), TaskRef(at_begin), List(*map(TaskRef, keys)))
    return graph


def _begin(plan: Plan) -> tuple[Begun, float, str]:
    held = lease(plan)
    held.__enter__()
    try:
        return begin(plan), time.time(), held.token
    except BaseException:
        held.release(held.token)
        raise


def _run_batch(
    plan: Plan, batch: Batch, begun: tuple[Begun, float, str], needs: list[tuple[Receipt, ...]]
) -> tuple[Receipt, ...]:
    done = begun[0].done.get(batch.stage, frozenset())
    left = tuple(n for n in batch.numbers if n not in done)
    if any(receipt.state != "done" for receipts in needs for receipt in receipts):
        return tuple(Receipt(batch.stage, n, "skipped") for n in left)
    try:
        stop_if_cancelled(plan.journal)
        return execute(plan, Batch(batch.stage, left))
    except InterruptedRunError:
        lease(plan).release(begun[2])  # the commit, which does it else, never comes
        raise


def _commit(plan: Plan, begun: tuple[Begun, float, str], results: list[tuple[Receipt, ...]]) -> Report:
    standing, start, token = begun
    try:
        report = Report(plan.name, kept=sum(map(len, standing.done.values())), bytes_kept=standing.bytes_in)
        left: dict[int, int] = {i: s.count - len(standing.done.get(i, ())) for i, s in enumerate(plan.stages)}
        receipts = [receipt for batch in results for receipt in batch]
        for receipt in receipts:
            report.add(receipt)
            log_unit(plan, receipt)
            left[receipt.stage] -= receipt.state == "done"
        low, high = extremes([*receipts, Receipt(0, 0, low=standing.low, high=standing.high)])
        for milestone in plan.milestones:
            if left[milestone.stage]:
                break
            milestone.commit(low, high)
        report.seconds = time.time() - start
        raise_failures(plan, report)
        finish(plan)
        return report
    finally:
        lease(plan).release(token)


class Started:
    """A persisted plan: a dask collection of its report."""

    def __init__(self, graph: Any, key: str) -> None:
        self._graph, self._key = graph, key

    @classmethod
    def rebuild(cls, graph: Any, key: str, *, rename: dict[str, str] | None = None) -> Started:
        """Return the collection after dask replaced its graph by futures."""
        return cls(graph, (rename or {}).get(key, key))

    def compute(self, **options: Any) -> Report:
        """Wait for the report."""
        import dask

        (report,) = dask.compute(self, **options)
        return report  # type: ignore[no-any-return]

    def __dask_graph__(self) -> Any:
        return self._graph

    def __dask_keys__(self) -> list[str]:
        return [self._key]

    __dask_optimize__ = None  # the graph is what it should be

    def __dask_tokenize__(self) -> str:
        return self._key

    def __dask_postcompute__(self) -> tuple[Any, tuple[()]]:
        return (lambda results: results[0]), ()

    def __dask_postpersist__(self) -> tuple[Any, tuple[str]]:
        return Started.rebuild, (self._key,)

    __dask_scheduler__ = staticmethod(Plan.__dask_scheduler__)
