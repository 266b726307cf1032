"""Looks at a cluster as a run would use it: what is here, what will be asked for, whether each worker is fit."""

from __future__ import annotations

import os
import platform
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wkdask.clusters import slurm_commands
from wkdask.clusters.job_script import job_script
from wkdask.clusters.launch import CLUSTERS, default_jobs, launcher_of
from wkdask.clusters.launcher import Launcher, Started
from wkdask.clusters.settings import Choice
from wkdask.clusters.slurm import Slurm
from wkdask.clusters.worker_check import Expected, unfit, versions
from wkdask.errors import InputError, WkdaskError
from wkdask.plan import default_limit, format_bytes


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Parameters
    ----------
    what
        Such as ``partition main``.
    words
        What was found.
    ok
        Whether it is as it should be.
    """

    what: str
    words: str
    ok: bool = True

    def __str__(self) -> str:
        return f"{'ok   ' if self.ok else 'WRONG'} {self.what}: {self.words}"


@dataclass
class Diagnosis:
    """All findings, and the script of a job where there are jobs."""

    findings: list[Finding] = field(default_factory=list)
    script: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return all(finding.ok for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        findings = [{"what": f.what, "words": f.words, "ok": f.ok} for f in self.findings]
        return {"ok": self.ok, "findings": findings, "job_script": self.script or None}

    def __str__(self) -> str:
        script = f"\njob script:\n{self.script}" if self.script else ""
        return "\n".join(map(str, self.findings)) + script


def diagnose(choice: Choice, folder: Path, seconds: float) -> Diagnosis:
    """Look at everything, start the cluster, and run a task on each worker; at the end nothing is left running.

    Parameters
    ----------
    choice
        What to run on.
    folder
        Where a dataset would be; workers look for a file that is made in it for a moment.
    seconds
        How long to wait for workers.
    """
    found = Diagnosis([*_here()])
    try:
        launcher = launcher_of(choice)
        if launcher is None:
            raise InputError(f"{choice.strategy!r} is no cluster. Give one of {', '.join(CLUSTERS)}, or a profile.")
        if isinstance(launcher, Slurm):
            found.findings += _slurm(launcher)
            found.script = job_script(launcher.request)
        with Started(launcher) as started:
            found.findings += _workers(started, folder, seconds)
    except WkdaskError as error:
        found.findings.append(Finding("cluster", str(error), ok=False))
    return found


def _here() -> Iterator[Finding]:
    yield Finding("this machine", f"{socket.gethostname()}, {default_jobs()} cores, {format_bytes(default_limit())} to be used")
    job = os.environ.get("SLURM_JOB_ID")
    nodes = os.environ.get("SLURM_JOB_NODELIST", "unknown nodes")
    yield Finding("allocation", f"in job {job} of Slurm, on {nodes}" if job else "none: this is not run inside a job")
    yield Finding("versions", ", ".join(f"{name} {version}" for name, version in versions().items()))


def _slurm(launcher: Slurm) -> Iterator[Finding]:
    """Yield what Slurm offers, and what will be asked for."""
    lines = slurm_commands.call("sinfo", "--noheader", "--format=%P|%a|%l|%D|%T|%c|%m").splitlines()
    for line in lines:
        name, up, limit, nodes, state, cores, mebibytes = (line.strip().split("|") + [""] * 7)[:7]
        words = f"{up}, {nodes} nodes {state}, {cores} cores and {mebibytes} MiB each, jobs up to {limit}"
        yield Finding(f"partition {name}", words, ok=up == "up")
    request = launcher.request
    yield Finding(
        "asked for",
        f"{launcher.jobs} jobs of {request.workers} workers, each with {request.cores} cores and "
        f"{format_bytes(request.memory)}, {launcher.slots} tasks at once in all; "
        + (f"each job ends after {request.seconds} s and is replaced" if request.seconds else "no time limit"),
    )
    yield Finding("network", request.interface or "the default one; wkdask.slurm.interface chooses another")


def _workers(launcher: Launcher, folder: Path, seconds: float) -> Iterator[Finding]:
    """Wait for workers, and run a task on each."""
    client = launcher.client
    yield Finding("scheduler", f"{client.scheduler.address}, dashboard {client.dashboard_link}")
    wanted = max(1, launcher.processes - 1)
    deadline = time.monotonic() + seconds
    while (there := len(client.scheduler_info(n_workers=-1)["workers"])) < wanted and time.monotonic() < deadline:
        if launcher.failure:
            yield Finding("workers", launcher.failure, ok=False)
            return
        time.sleep(0.2)
    yield Finding("workers", f"{there} of {wanted} were there within {seconds:g} s", ok=there >= wanted)
    mark = folder / f".wkdask-doctor-{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        mark.touch()
    except OSError as error:
        yield Finding("shared folder", f"nothing can be written to {folder}: {error.strerror or error}", ok=False)
        return
    try:
        answers = client.run(_look, Expected.of(), str(mark), on_error="return")
    finally:
        with suppress(OSError):
            mark.unlink()
    for address, answer in sorted(answers.items()):
        words, ok = answer if isinstance(answer, tuple) else (f"{type(answer).__name__}: {answer}", False)
        yield Finding(f"worker {address}", words, ok=ok)


def _look(expected: Expected, mark: str) -> tuple[str, bool]:
    """Return what a worker is, and whether it is fit."""
    here = f"{platform.node()}, job {os.environ.get('SLURM_JOB_ID', 'none')}"
    if wrong := unfit(expected):
        return f"{here}: it {wrong}", False
    if not Path(mark).exists():
        return f"{here}: it does not see the folder {Path(mark).parent}, or not what was just written there", False
    return f"{here}: same versions, sees {Path(mark).parent}", True
