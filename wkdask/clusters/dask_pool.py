"""A window of batches on a Dask cluster: one of this machine, one of Slurm, or one that is there already."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from wkdask.clusters.launcher import Launcher, Started, cancel_all
from wkdask.clusters.worker_check import UNFIT, Expected, execute_where_fit, require_fit
from wkdask.errors import PlanError
from wkdask.plan import Batch, Plan
from wkdask.plan.cancelling import StopMark

log = logging.getLogger("wkdask.clusters")

MOST_UNFIT = 3
"""Workers that come and can not do our tasks, one after the other without any batch done between, until we give up."""


class DaskPool:
    """Runs batches by a `distributed.Client`.

    Parameters
    ----------
    launcher
        What gives the client.
    """

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher
        self.dashboard = ""
        self._sent: tuple[Plan, Any, Expected, StopMark] | None = None
        self._unfit = 0
        self._failure = ""

    @property
    def slots(self) -> int:
        """Tasks that run at once."""
        return self.launcher.slots

    @property
    def processes(self) -> int:
        """Processes that run them or wait for them."""
        return self.launcher.processes

    @property
    def memory_limit(self) -> int | None:
        """Bytes that all tasks may take, where the memory of this machine says nothing about it."""
        return self.launcher.memory_limit

    @property
    def failure(self) -> str:
        """Why no further task will ever run; empty while all is well."""
        return self._failure or self.launcher.failure

    def __enter__(self) -> DaskPool:
        self._unfit, self._failure = 0, ""
        self._started = Started(self.launcher)
        self._started.__enter__()
        self.dashboard = self.launcher.client.dashboard_link
        self.launcher.client.subscribe_topic(UNFIT, self._hear)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None and self._sent is not None:
            self._sent[3].set()  # it stays with the job, as we do not wait for those whom it tells
        self._sent = None
        failure = self.failure
        self._started.__exit__(kind, error, trace)
        if failure and kind is None:
            raise PlanError(failure)

    def submit(self, plan: Plan, batch: Batch) -> Any:
        """Start a batch; the plan travels once, as the result of a task, which any worker can do again.

        Raises
        ------
        PlanError
            Where no task will ever run.
        InputError
            Before the first task: where a worker has other versions, or does not see the dataset.
        """
        client = self.launcher.client
        if self.failure:
            raise PlanError(self.failure)
        if self._sent is None or self._sent[0] is not plan:
            expected = Expected.of(plan)
            require_fit(client, expected)
            sent = client.submit(_same, plan, key=f"plan-{plan.fingerprint}", pure=False)
            self._sent = plan, sent, expected, StopMark(plan.journal)
        name = f"{plan.stages[batch.stage].name}-{plan.fingerprint[:8]}-{batch.stage}-{batch.numbers[0]}"
        future = client.submit(execute_where_fit, self._sent[1], batch, *self._sent[2:], key=name, pure=False, retries=0)
        future.add_done_callback(self._count_done)
        return future

    def _count_done(self, future: Any) -> None:
        if future.status == "finished":
            self._unfit = 0

    async def _hear(self, event: tuple[float, Mapping[str, str]]) -> None:
        """Tell of a worker that leaves as it is not fit; give up where only such ones come, or none is left."""
        said = f"worker {event[1]['worker']} {event[1]['words']}"
        log.warning("%s; it leaves the cluster, others do its tasks", said)
        self._unfit += 1
        client = self.launcher.client
        there = (await client.scheduler.identity(n_workers=-1))["workers"]
        if self._unfit >= MOST_UNFIT or not (self.launcher.replaces_workers or set(there) - {event[1]["worker"]}):
            self._failure = (
                f"Only workers that can not do this have come: {said}. Give all of them the environment of this process, and a "
                "folder that all machines share; then run the same again to go on."
            )
            await cancel_all(client, asynchronous=True)


def _same(plan: Plan) -> Plan:
    return plan
