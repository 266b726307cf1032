"""Dask clusters: one of this machine, or one that is there already."""

from __future__ import annotations

import logging
import socket
from contextlib import suppress
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from wkdask.clusters.interrupts import held_back
from wkdask.errors import InputError
from wkdask.plan import Batch, Plan, default_limit
from wkdask.plan.execute import execute
from wkdask.plan.stage import stopping

THREADS_PER_PROCESS = 4
CONNECT_SECONDS = 15
STOP_SECONDS = 1.0
"""How long workers of our own may take to stop; then they are killed, which costs what is in flight."""

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

    Raises
    ------
    InputError
        Where nobody listens at the address.
    """

    def __init__(self, address: str | None, jobs: int, memory_limit: int | None = None) -> None:
        if address:
            _require_listener(address)
        self._address, self._memory = address, memory_limit or default_limit()
        self._workers = 1 if address else max(1, jobs // THREADS_PER_PROCESS)
        self._threads = -(-jobs // self._workers)
        self.slots = self._workers * self._threads
        self.processes = 1 if address else 1 + self._workers
        self._sent: tuple[Plan, Any] | None = None
        self.dashboard = ""

    def __enter__(self) -> DaskPool:
        import dask
        import distributed  # noqa: F401 - before the settings, which else were all of its own

        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what goes wrong, receipts tell
        self._config = dask.config.set(NO_SPILL)
        self._config.__enter__()
        try:
            self._connect(self._address) if self._address else self._start()
        except BaseException:
            self._config.__exit__(None, None, None)
            raise
        self.dashboard = self._client.dashboard_link
        return self

    def _connect(self, address: str) -> None:
        from distributed import Client

        try:
            self._client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise _nobody(address, error) from error
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        self.slots = sum(worker["nthreads"] for worker in workers) or 1

    def _start(self) -> None:
        from distributed import Client, LocalCluster
        from distributed.utils import LoopRunner

        self._loop = LoopRunner()
        with held_back():
            self._loop.start()
        self._cluster = LocalCluster(
            n_workers=self._workers,
            threads_per_worker=self._threads,
            memory_limit=2 * self._memory // self._workers,  # ours is the bound; the nanny's only catches runaways
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
            loop=self._loop.loop,
        )
        self._client = Client(self._cluster, set_as_default=False)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._sent = None
        if self._address is None and kind is not None:
            self._stop()
        else:
            self._client.close(timeout=1 if kind else 10)
            if self._address is None:
                self._cluster.close(timeout=10)
        if self._address is None:
            self._loop.stop()
        self._config.__exit__(None, None, None)

    def _stop(self) -> None:
        """Ask our own workers to stop what they do, and kill those that do not."""
        import psutil

        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        workers = [psutil.Process(nanny.pid) for nanny in self._cluster.workers.values() if nanny.pid]
        with suppress(Exception):  # whatever is wrong with the cluster, it is to end
            self._client.run(stopping.set, wait=False, on_error="ignore")
        with suppress(Exception):
            self._client.close(timeout=STOP_SECONDS / 2)
        with suppress(Exception):
            self._cluster.close(timeout=STOP_SECONDS)
        for worker in workers:
            with suppress(psutil.Error):
                worker.kill()

    def submit(self, plan: Plan, batch: Batch) -> Any:
        """Start a batch; the plan travels once, as the result of a task, which any worker can do again."""
        if self._sent is None or self._sent[0] is not plan:
            self._sent = plan, self._client.submit(_same, plan, key=f"plan-{plan.fingerprint}", pure=False)
        name = f"{plan.stages[batch.stage].name}-{plan.fingerprint[:8]}-{batch.stage}-{batch.numbers[0]}"
        return self._client.submit(execute, self._sent[1], batch, key=name, pure=False, retries=0)


def _same(plan: Plan) -> Plan:
    return plan


def _require_listener(address: str) -> None:
    """Refuse an address where nobody listens; dask itself would knock until its time is over."""
    try:
        place = urlsplit(address)
        if place.scheme in ("tcp", "tls"):
            if not place.hostname or not place.port:
                raise ValueError("it has no host and port, such as tcp://10.0.0.1:8786")
            socket.create_connection((place.hostname, place.port), timeout=CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise _nobody(address, error) from error


def _nobody(address: str, error: Exception) -> InputError:
    said = str(error) or type(error).__name__
    return InputError(f"No Dask scheduler answers at {address}: {said}. Check the address.")
