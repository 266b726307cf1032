"""A window of batches on a Dask cluster: one of this machine, one of Slurm, or one that is there already."""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

from wkdask.clusters.launcher import Launcher, Started, cancel_all
from wkdask.clusters.worker_check import UNFIT, Expected, Sent, execute_where_fit, require_fit
from wkdask.errors import PlanError
from wkdask.plan import Batch, Plan, Pool
from wkdask.plan.cancelling import StopMark
from wkdask.plan.pool import Result, result_of

log = logging.getLogger("wkdask.clusters")

MOST_UNFIT = 3
"""Workers that come and can not do our tasks, one after the other without any batch done between, until we give up."""


AHEAD_SECONDS, MOST_AHEAD = 0.25, 64
"""How much work waits at the workers, and how many batches for each task that runs at once."""

MOST_BATCHES = 10_000
"""Half as many as elsewhere: each takes the client and the scheduler some 2 ms of a processor."""

_numbers = itertools.count()
"""Of the tasks of this process: one that is tried again is another one."""


class DaskPool(Pool):
    """Runs batches by a `distributed.Client`.

    Parameters
    ----------
    launcher
        What gives the client.
    """

    most_batches = MOST_BATCHES

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher
        self.dashboard = ""
        self._sent: tuple[Plan, StopMark, Any] | None = None
        self._unfit = 0
        self._rate = self._noted = 0.0
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
        self._rate, self._noted = 0.0, time.monotonic()
        self._started = Started(self.launcher)
        self._started.__enter__()
        try:
            self.dashboard = self.launcher.client.dashboard_link
            self.launcher.client.subscribe_topic(UNFIT, self._hear)
        except BaseException as error:  # such as a Ctrl-C
            self._started.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None and self._sent is not None:
            self._sent[1].set()  # it stays with the job, as we do not wait for those whom it tells
        self._sent = None
        failure = self.failure
        self._started.__exit__(kind, error, trace)
        if failure and kind is None:
            raise PlanError(failure)

    def start(self, plan: Plan, batches: Sequence[Batch]) -> Sequence[Any]:
        """Start batches; the plan travels once, as the result of a task, which any worker can do again.

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
            expected, mark = Expected.of(plan), StopMark(plan.journal)
            require_fit(client, expected)
            key = f"plan-{plan.fingerprint}-{next(_numbers)}"
            self._sent = plan, mark, client.submit(_same, Sent(plan, expected, mark), key=key, pure=False)
        futures: list[Any] = client.map(
            execute_where_fit,
            batches,
            sent=self._sent[2],
            key=[_name(plan, batch) for batch in batches],
            pure=False,
            retries=0,
        )
        return futures

    @property
    def room(self) -> int:
        """Batches that may be under way: where they are short, those of a quarter of a second, so that many travel at once."""
        return max(2 * self.slots, min(MOST_AHEAD * self.slots, int(AHEAD_SECONDS * self._rate)))

    def results(self, futures: Sequence[Any]) -> Sequence[Result]:
        """Return what came of batches that have ended; those of all that went well in one request."""
        good = [future for future in futures if future.status == "finished"]
        self._note_rate(len(futures))
        if good:
            self._unfit = 0
        got: dict[str, Result] = {}
        with suppress(Exception):  # one was lost since: each is asked for alone
            got = dict(zip([future.key for future in good], self.launcher.client.gather(good), strict=True))
        return [got[future.key] if future.key in got else result_of(future) for future in futures]

    def _note_rate(self, ended: int) -> None:
        """Follow how many batches end in a second, over the last second or so."""
        now = time.monotonic()
        passed = max(now - self._noted, 1e-6)
        self._noted = now
        self._rate += (ended / passed - self._rate) * (1 - math.exp(-passed))

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


def _name(plan: Plan, batch: Batch) -> str:
    """Return what dask calls a task; what is before the hexadecimal digits, its dashboard shows."""
    return f"{plan.stages[batch.stage].name}-{plan.fingerprint[:8]}-{batch.stage}-{batch.numbers[0]}-{next(_numbers)}"


def _same(sent: Sent) -> Sent:
    return sent
