"""Workers in jobs of Slurm, and the scheduler in this process."""

from __future__ import annotations

import logging
import secrets
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from wkdask.clusters import slurm_commands
from wkdask.clusters.encryption import encryption
from wkdask.clusters.interrupts import LAST, held_back
from wkdask.clusters.job_keeper import JobKeeper
from wkdask.clusters.job_script import JobRequest, job_script, log_directory, request_of
from wkdask.clusters.launcher import CLOSE_SECONDS, cancel_all
from wkdask.errors import InputError, WkdaskError

GONE_SECONDS = 20.0
"""How long we wait for cancelled jobs to be gone."""

STOP_SECONDS = 1.0
"""How long a process that ends waits for a job that is just being submitted."""

MEMORY_SHARE = 0.9
"""What of a job's memory tasks may take; the rest is for what watches over the workers."""


class Slurm:
    """Keeps jobs with workers alive.

    Parameters
    ----------
    settings
        Those of ``wkdask.slurm``.
    jobs
        How many workers; None as the settings say.
    resources
        What each job asks for, see `wkdask.clusters.job_resources.parse_job_resources`.
    batching
        Whether all workers are in one job, unless ``ntasks`` says how many.

    Raises
    ------
    InputError
        Where the resources can not be read, or no memory is given; with ``batching``, where nobody says how many workers.
    """

    replaces_workers = True

    def __init__(self, settings: Mapping[str, Any], jobs: int | None, resources: Any, *, batching: bool = False) -> None:
        workers = int(jobs or settings["jobs"])
        name = f"wkdask-{secrets.token_hex(4)}"
        told = jobs is not None or "ntasks" in {**_read(settings["job-resources"]), **_read(resources)}
        if batching:
            settings = {**settings, "job-resources": {"ntasks": workers, **_read(settings["job-resources"])}}
        self.request: JobRequest = request_of(name, settings, resources)
        if batching and not told:
            raise InputError(
                "slurm+batching puts several workers into a job, but nobody says how many. Give --jobs N for N workers in one "
                "job, or --job-resources with ntasks=M for M in each; --distribution-strategy slurm makes a job of each worker."
            )
        self.jobs = -(-workers // self.request.workers)
        self._settings = settings
        self.slots = self.jobs * self.request.slots
        self.processes = 1 + self.jobs * self.request.workers * self.request.processes
        self.memory_limit: int | None = int(self.jobs * self.request.workers * self.request.memory * MEMORY_SHARE)
        self.client: Any = None
        self.keeper: JobKeeper | None = None
        self.failure = ""

    def start(self) -> None:
        """Start the scheduler here, submit the jobs; workers come as Slurm runs them."""
        from distributed import Client
        from distributed.utils import LoopRunner

        LAST[self.request.name] = self._end_in_the_middle
        self._loop = LoopRunner()
        with held_back():
            self._loop.start()
        try:
            self._open(Client)
        except BaseException:
            with suppress(WkdaskError):  # what went wrong first says more
                self._close(1.0)
            raise

    def _open(self, client_class: Any) -> None:
        import dask
        from dask.utils import parse_timedelta
        from distributed import Scheduler
        from distributed.deploy.spec import SpecCluster

        logs = log_directory(self.request)
        options = {"dashboard_address": ":0", **(dask.config.get("jobqueue.slurm.scheduler-options", {}) or {})}
        if self.request.interface and "host" not in options:
            options.setdefault("interface", self.request.interface)
        if security := encryption():
            options |= {"protocol": "tls://", "security": security}
        self._cluster: Any = None
        self._cluster = SpecCluster(
            workers={},
            scheduler={"cls": Scheduler, "options": options},
            security=security,
            silence_logs=logging.CRITICAL,
            loop=self._loop.loop,
        )
        self.client = client_class(self._cluster, set_as_default=False)
        self.keeper = JobKeeper(
            self.request.name,
            job_script(self.request, self._cluster.scheduler_address),
            self._wanted,
            self._arrived,
            self._give_up,
            int(self._settings["failures"]),
            float(parse_timedelta(self._settings["poll-interval"])),
            logs,
            self._retire,
        )
        self.keeper.start()

    def _wanted(self) -> int:
        if not self._settings["adaptive"]:
            return self.jobs
        tasks = self._cluster.sync(self._unfinished)
        return int(min(self.jobs, max(1, -(-tasks // self.request.slots))))

    async def _unfinished(self) -> int:
        """Return how many tasks run or could run."""
        scheduler = self._cluster.scheduler
        given = sum(len(worker.processing) for worker in scheduler.workers.values())
        return given + len(scheduler.queued) + len(scheduler.unrunnable)

    def _retire(self, many: int) -> set[str]:
        """End jobs whose workers all have nothing to do, at most so many; return their numbers."""
        retired: set[str] = self._cluster.sync(self._retire_idle, many)
        return retired

    async def _retire_idle(self, many: int) -> set[str]:
        jobs: dict[str, list[Any]] = defaultdict(list)
        for worker in self._cluster.scheduler.workers.values():
            jobs[job_of(worker.name)].append(worker)
        idle = [number for number, workers in jobs.items() if not any(worker.processing for worker in workers)]
        chosen = sorted(idle)[:many]
        addresses = [worker.address for number in chosen for worker in jobs[number]]
        await self._cluster.scheduler.retire_workers(addresses, close_workers=True)
        return set(chosen)

    def _arrived(self) -> set[str]:
        """Return the jobs whose workers are there, or were since we looked last."""
        workers = self._cluster.sync(self._workers)
        return {job_of(name) for name in workers}

    async def _workers(self) -> list[str]:
        return [str(worker.name) for worker in self._cluster.scheduler.workers.values()]

    def _give_up(self, reason: str) -> None:
        """Let all who wait for results know that there will be none."""
        self.failure = reason
        with suppress(Exception):  # the cluster may be closing at the same time
            cancel_all(self.client)

    def _end_in_the_middle(self) -> None:
        """Cancel the jobs, where this process ends and nobody closes the cluster."""
        if self.keeper is not None:
            self.keeper.stop(STOP_SECONDS)  # else it would replace them
        slurm_commands.cancel(self.request.name)

    def close(self, *, at_once: bool) -> None:
        """Cancel the jobs, and wait until they are gone."""
        if at_once and self.keeper is not None:
            with suppress(Exception):  # first, as whoever pressed Ctrl-C waits no second
                self.keeper.cancel()
        self._close(1.0 if at_once else CLOSE_SECONDS)

    def _close(self, seconds: float) -> None:
        """End all of it, whatever of it fails; then say that jobs could not be cancelled, where that is so."""
        keeper, wrong = self.keeper, None
        if keeper is not None:
            keeper.stop()
        with suppress(Exception):
            self.client.close(timeout=seconds)
        try:
            if keeper is not None:
                keeper.cancel()
        except WkdaskError as error:
            wrong = error
        with suppress(Exception):
            self._cluster.close(timeout=seconds)
        with suppress(Exception):
            self._loop.stop()
        if keeper is not None and keeper.submitted and not wrong:
            with suppress(WkdaskError):
                _wait_until_gone(self.request.name, looks=2 if keeper.unheard else 1)
        self.keeper = None
        LAST.pop(self.request.name, None)
        if wrong:
            raise wrong


def job_of(worker: object) -> str:
    """Return the number of the job that a worker's name begins with.

    Examples
    --------
    >>> job_of("17-0-1")
    '17'
    """
    return str(worker).partition("-")[0]


def _read(resources: Any) -> dict[str, str]:
    from wkdask.clusters.job_resources import parse_job_resources

    return parse_job_resources(resources)


def _wait_until_gone(name: str, looks: int) -> None:
    """Wait until so many looks find no job of a name; one that was on its way when we cancelled them is cancelled, too."""
    deadline = time.monotonic() + GONE_SECONDS
    while time.monotonic() < deadline:
        left = [job for job in slurm_commands.jobs_of(name).values() if not job.ended or job.state == "COMPLETING"]
        looks -= not left
        if not looks:
            return
        if not all(job.ended for job in left):
            slurm_commands.cancel(name)
        time.sleep(0.2)
    logging.getLogger("wkdask.clusters").warning("Slurm has not ended %s yet", ", ".join(map(str, left)))
