"""A Dask cluster of this machine, on the loopback interface."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

from wkdask.clusters.interrupts import held_back
from wkdask.clusters.launcher import CLOSE_SECONDS
from wkdask.clusters.unguarded import without_main
from wkdask.plan import default_limit
from wkdask.plan.stage import stopping

STOP_SECONDS = 1.0
"""How long workers of our own may take to stop; then they are killed, which costs what is in flight."""


class Local:
    """Some processes of several threads each.

    Parameters
    ----------
    jobs
        Tasks at once.
    memory_limit
        Bytes for all of them together.
    threads_per_process
        More share one interpreter, and what it holds in memory.
    """

    failure = ""
    replaces_workers = False

    def __init__(self, jobs: int, memory_limit: int | None, threads_per_process: int) -> None:
        self._memory = memory_limit or default_limit()
        self._workers = max(1, jobs // threads_per_process)
        self._threads = -(-jobs // self._workers)
        self.slots = self._workers * self._threads
        self.processes = 1 + self._workers
        self.memory_limit = memory_limit
        self.client: Any = None

    def start(self) -> None:
        """Start the processes."""
        from distributed import Client, LocalCluster
        from distributed.utils import LoopRunner

        self._loop = LoopRunner()
        with held_back():
            self._loop.start()
        with without_main():
            self._cluster = LocalCluster(
                n_workers=self._workers,
                threads_per_worker=self._threads,
                memory_limit=2 * self._memory // self._workers,  # ours is the bound; the nanny's only catches runaways
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.CRITICAL,
                loop=self._loop.loop,
            )
        self.client = Client(self._cluster, set_as_default=False)

    @property
    def pids(self) -> list[int]:
        """The worker processes."""
        return [nanny.pid for nanny in self._cluster.workers.values() if nanny.pid]

    def close(self, *, at_once: bool) -> None:
        """End the processes."""
        if at_once:
            self._stop()
        else:
            self.client.close(timeout=CLOSE_SECONDS)
            self._cluster.close(timeout=CLOSE_SECONDS)
        self._loop.stop()

    def _stop(self) -> None:
        """Ask our own workers to stop what they do, and kill those that do not."""
        import psutil

        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        workers = [psutil.Process(pid) for pid in self.pids]
        with suppress(Exception):  # whatever is wrong with the cluster, it is to end
            self.client.run(stopping.set, wait=False, on_error="ignore")
        with suppress(Exception):
            self.client.close(timeout=STOP_SECONDS / 2)
        with suppress(Exception):
            self._cluster.close(timeout=STOP_SECONDS)
        for worker in workers:
            with suppress(psutil.Error):
                worker.kill()
