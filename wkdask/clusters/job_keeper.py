"""Watches the jobs of a cluster: replaces those that are lost, says why others wait, gives up where none comes to life."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from wkdask.clusters import slurm_commands as slurm
from wkdask.clusters.slurm_commands import Job
from wkdask.errors import WkdaskError

log = logging.getLogger("wkdask.clusters")

LOG_LINES = 3
LOG_BYTES = 20_000

LOOKS_TOO_MANY = 3
"""Looks in a row that find more jobs than are wanted, until one is ended: to start it anew costs more than a moment's rest."""


@dataclass
class JobKeeper:
    """Keeps a number of jobs alive.

    Parameters
    ----------
    name
        Of all jobs of this cluster, and of no other one.
    script
        Of each job.
    wanted
        Called for how many jobs there should be now.
    arrived
        Called for the numbers of the jobs whose workers are there.
    give_up
        Called with the reason when no job comes to life.
    failures
        Jobs that end before their worker is there, one after the other, until it gives up.
    interval
        Seconds between looks at the queue.
    logs
        Folder of what the jobs print.
    retire
        Called with how many jobs are too many; ends so many of those that have nothing to do, and returns their numbers.
    alive
        Numbers of the jobs that are there.
    submitted, unheard
        Whether Slurm was asked for a job at all, and whether it was once not heard what became of that: the job may be there.
    """

    name: str
    script: str
    wanted: Callable[[], int]
    arrived: Callable[[], set[str]]
    give_up: Callable[[str], None]
    failures: int = 3
    interval: float = 5.0
    logs: str = ""
    retire: Callable[[int], set[str]] = lambda _: set()
    alive: set[str] = field(default_factory=set)
    submitted: bool = False
    unheard: bool = False
    _seen: set[str] = field(default_factory=set)
    _failed: list[Job] = field(default_factory=list)
    _retired: set[str] = field(default_factory=set)
    _too_many: int = 0
    _said: str = ""
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Submit the jobs; what Slurm says against the first is raised, and nothing is left."""
        try:
            while len(self.alive) < self.wanted():
                self._submit()
        except BaseException:
            with suppress(WkdaskError):  # what went wrong first says more
                self.cancel()
            raise
        self._thread = threading.Thread(target=self._watch, daemon=True, name="wkdask-jobs")
        self._thread.start()

    def stop(self, seconds: float | None = None) -> None:
        """Look no more, and submit nothing; wait for what is just being done, for some seconds at most."""
        self._over.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(seconds)

    def cancel(self) -> None:
        """Cancel all jobs."""
        if self.submitted:
            slurm.cancel(self.name)

    def _submit(self) -> None:
        self.submitted = True
        try:
            self.alive.add(slurm.submit(self.script))
        except BaseException:  # a refusal, perhaps; or a Ctrl-C, or a controller that is late
            self.unheard = True
            raise

    def _watch(self) -> None:
        while not self._over.wait(self.interval):
            try:
                self.look()
            except WkdaskError as error:  # the controller restarts, or is busy: the workers go on meanwhile
                self._say(str(error))

    def look(self) -> None:
        """Compare what should be there with what is there, once."""
        known = slurm.jobs_of(self.name)
        arrived = self.arrived()
        if arrived - self._seen:
            self._failed.clear()
            self._seen |= arrived
        for number in sorted(self.alive):
            job = known.get(number, Job(number, "COMPLETED", "", ""))
            if job.ended:
                self._lost(job)
        waiting = [known[number] for number in sorted(self.alive) if number in known and known[number].state == "PENDING"]
        hopeless = [job for job in waiting if job.reason in slurm.HOPELESS]
        if len(self._failed) >= self.failures or hopeless:
            self._end(hopeless or self._failed)
            return
        self._tell_waiting(waiting)
        self._adjust({job.number for job in waiting})

    def _adjust(self, waiting: set[str]) -> None:
        """Submit the jobs that are missing; end those that are too many, first those that wait."""
        wanted, staying = self.wanted(), self.alive - self._retired
        self._too_many = self._too_many + 1 if len(staying) > wanted else 0
        if self._too_many >= LOOKS_TOO_MANY:
            for number in sorted(waiting & staying)[: len(staying) - wanted]:
                slurm.cancel_job(number)
                self._retired.add(number)
            if left := len(self.alive - self._retired) - wanted:
                self._retired |= self.retire(left)
        while len(self.alive - self._retired) < wanted and not self._over.is_set():
            self._submit()

    def _lost(self, job: Job) -> None:
        self.alive.discard(job.number)
        if job.number in self._retired:
            self._retired.discard(job.number)
            log.info("%s is over, as there was nothing to do for it", job)
            return
        if job.number not in self._seen:
            self._failed.append(job)
        log.warning("%s is over%s", job, "" if job.number in self._seen else " before its worker was there")

    def _tell_waiting(self, waiting: list[Job]) -> None:
        if waiting:
            reasons = ", ".join(sorted({job.reason for job in waiting if job.reason != "None"}))
            if reasons:
                self._say(f"{len(waiting)} of {len(self.alive)} jobs wait in the queue of Slurm: {reasons}")
        else:
            self._said = ""

    def _say(self, words: str) -> None:
        """Log something, once until it changes."""
        if words != self._said:
            self._said = words
            log.warning("%s", words)

    def _end(self, jobs: list[Job]) -> None:
        self._over.set()
        try:
            self.cancel()
        finally:
            tail = self._printed(jobs[-1])
            self.give_up(
                f"Slurm runs none of our jobs: {', '.join(map(str, jobs))}.{tail} Change --job-resources, or see the logs in "
                f"{self.logs}; then run the same again to go on."
            )

    def _printed(self, job: Job) -> str:
        """Return the last lines that a job printed."""
        try:
            with (Path(self.logs) / f"{self.name}-{job.number}.err").open("rb") as file:
                file.seek(max(0, file.seek(0, 2) - LOG_BYTES))
                lines = file.read(LOG_BYTES).decode(errors="replace").split("\n")
        except OSError:
            return ""
        said = " / ".join([line.strip()[:200] for line in lines if line.strip()][-LOG_LINES:])
        return f" The last one said: {said}." if said else ""
