"""Dask clusters: one of this machine, or one that is there already."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Any

from wkdask.errors import InputError
from wkdask.plan import Batch, Plan, default_limit
from wkdask.plan.execute import execute

THREADS_PER_PROCESS = 4

NO_SPILL = {
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": 0.95,
    "distributed.worker.memory.terminate": 0.98,
    "distributed.comm.timeouts.connect": "15s",
}
"""No task leaves voxels in a worker's memory, so there is nothing to spill."""


class DaskPool:
    """A window of batches on a `distributed.Client`.

    Parameters
    ----------
    address
        Of a scheduler, such as ``tcp://10.0.0.1:8786``; None starts a cluster on this machine, on the loopback interface.
    jobs
        Tasks at once, of a local cluster.
    memory_limit
        Bytes for all of them together.
    """

    def __init__(self, address: str | None, jobs: int, memory_limit: int | None = None) -> None:
        self._address, self._memory = address, memory_limit or default_limit()
        self._processes = max(1, jobs // THREADS_PER_PROCESS)
        self.threads = -(-jobs // self._processes)
        self.slots = self._processes * self.threads
        self._sent: tuple[Plan, Any] | None = None
        self.dashboard = ""

    def __enter__(self) -> DaskPool:
        import dask
        from distributed import Client, LocalCluster

        logging.getLogger("distributed").setLevel(logging.ERROR)
        self._config = dask.config.set(NO_SPILL)
        self._config.__enter__()
        if self._address:
            try:
                self._client = Client(self._address, timeout=15, set_as_default=False)
            except (OSError, ValueError) as error:
                raise InputError(f"No Dask scheduler answers at {self._address}: {error}. Check the address.") from error
            workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
            self.slots = sum(worker["nthreads"] for worker in workers) or 1
            self.threads = max((worker["nthreads"] for worker in workers), default=1)
        else:
            self._client = Client(
                LocalCluster(
                    n_workers=self._processes,
                    threads_per_worker=self.threads,
                    memory_limit=2 * self._memory // self._processes,  # ours is the bound; the nanny's only catches runaways
                    host="127.0.0.1",
                    dashboard_address="127.0.0.1:0",
                ),
                set_as_default=False,
            )
        self.dashboard = self._client.dashboard_link
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._sent = None
        cluster = self._client.cluster
        self._client.close(timeout=1 if kind else 10)
        if self._address is None and cluster is not None:
            cluster.close(timeout=1 if kind else 10)
        self._config.__exit__(None, None, None)

    def submit(self, plan: Plan, batch: Batch) -> Any:
        """Start a batch; the plan travels once."""
        if self._sent is None or self._sent[0] is not plan:
            self._sent = plan, self._client.scatter(plan, broadcast=True, hash=False)
        name = f"{plan.stages[batch.stage].name}-{plan.fingerprint[:8]}-{batch.stage}-{batch.numbers[0]}"
        return self._client.submit(execute, self._sent[1], batch, key=name, pure=False, retries=0)
