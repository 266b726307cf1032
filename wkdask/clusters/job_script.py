"""Job scripts of workers, written by dask-jobqueue."""

from __future__ import annotations

import importlib
import os
import shlex
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from wkdask.clusters.encryption import encryption
from wkdask.clusters.job_resources import parse_job_resources, slurm_bytes, slurm_seconds
from wkdask.clusters.worker_settings import THREADS_PER_PROCESS, WORKER_ENVIRONMENT
from wkdask.errors import InputError

SYSTEMS = {"slurm": "SLURM", "pbs": "PBS", "sge": "SGE", "lsf": "LSF"}

MOST_WORKERS = 100_000


@dataclass(frozen=True)
class JobRequest:
    """What each job asks for.

    Parameters
    ----------
    name
        Of the jobs.
    memory
        Bytes of each worker.
    cores
        Of each worker.
    seconds
        Until the job is ended; None where nobody says.
    workers
        In one job; more than one with Slurm only.
    system
        One of `SYSTEMS`.
    log_directory
        For what jobs print, seen by all nodes.
    interface, death_timeout
        See ``wkdask.yaml``.
    options
        Further options of sbatch.
    """

    name: str
    memory: int
    cores: int = 1
    seconds: int | None = None
    workers: int = 1
    system: str = "slurm"
    log_directory: str = ""
    interface: str | None = None
    death_timeout: str = "60s"
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def processes(self) -> int:
        """Processes of a worker, each with some threads."""
        return max(1, self.cores // THREADS_PER_PROCESS)

    @property
    def slots(self) -> int:
        """Tasks that run at once in a job."""
        return self.cores // self.processes * self.processes * self.workers


def request_of(name: str, settings: Mapping[str, Any], resources: Any, *, system: str = "slurm") -> JobRequest:
    """Return what jobs ask for: what was given, else what is in wkdask's settings, else in those of dask-jobqueue.

    Raises
    ------
    InputError
        Where nobody says how much memory, or something is no amount.
    """
    import dask

    import_jobqueue()

    def usual(key: str) -> Any:
        return dask.config.get(f"jobqueue.{system}.{key}", None)

    wanted = parse_job_resources(settings.get("job-resources")) | parse_job_resources(resources)
    per_core = wanted.pop("mem-per-cpu", None)
    memory = wanted.pop("mem", None) or usual("job-mem")
    cores = _number(wanted.pop("cpus-per-task", None) or usual("job-cpu") or usual("cores") or 1, "cpus-per-task")
    workers = _number(wanted.pop("ntasks", 1), "ntasks")
    if per_core:
        needed = slurm_bytes(str(per_core)) * cores
    elif memory:
        needed = slurm_bytes(str(memory))
    elif usual("memory"):
        needed = dask.utils.parse_bytes(usual("memory"))
    else:
        raise InputError(
            f"Nobody says how much memory a job of {system} takes. Give --job-resources mem=10G,time=02:00:00, or set "
            "wkdask.slurm.job-resources in dask's configuration."
        )
    walltime = wanted.pop("time", None) or usual("walltime")
    return JobRequest(
        name,
        needed,
        cores,
        slurm_seconds(str(walltime)) if walltime else None,
        workers,
        system,
        str(settings.get("log-directory") or usual("log-directory") or Path("~/.cache/wkdask") / system),
        settings.get("interface") or usual("interface"),
        str(settings.get("death-timeout") or "60s"),
        wanted,
    )


def job_script(request: JobRequest, address: str = "tcp://SCHEDULER:PORT") -> str:
    """Return the script of one job, whose workers look for a scheduler at an address.

    Examples
    --------
    >>> print(job_script(JobRequest("wkdask", 2**30, 2, 3600, options={"partition": "long"})))  # doctest: +ELLIPSIS
    #!/usr/bin/env bash
    <BLANKLINE>
    #SBATCH -J wkdask
    ...
    """
    job_class = getattr(import_jobqueue(), f"{SYSTEMS[request.system]}Cluster").job_cls
    options = dict(request.options)
    job = job_class(
        address,
        name="$SLURM_JOB_ID-$SLURM_PROCID" if request.system == "slurm" else request.name,
        cores=request.cores,
        memory=request.memory,
        processes=request.processes,
        interface=request.interface,
        death_timeout=request.death_timeout,
        log_directory=log_directory(request),
        job_name=request.name,
        job_script_prologue=_prologue(request.system),
        worker_extra_args=_lifetime(request.seconds, request.system),
        security=encryption() if address.startswith("tls://") else None,
        **_limits(request, options),
    )
    script = str(job.job_script())
    return _in_each_task(script) if request.workers > 1 else script


def _limits(request: JobRequest, options: dict[str, str]) -> dict[str, Any]:
    """Return what the classes of dask-jobqueue call differently, and options that they do not know."""
    found: dict[str, Any] = {"queue": options.pop("partition", None)}
    if request.system in ("slurm", "pbs"):
        found["account"] = options.pop("account", None)
    if request.seconds:
        hours, rest = divmod(request.seconds, 3600)
        clock = (hours, rest // 60, rest % 60)
        found["walltime"] = "{:02}:{:02}".format(*clock) if request.system == "lsf" else "{:02}:{:02}:{:02}".format(*clock)
    import dask

    extra = list(dask.config.get(f"jobqueue.{request.system}.job-extra-directives", []) or [])
    if request.system == "slurm":
        mebibytes = -(-request.memory // 2**20)
        extra += [f"--{name}={value}" if value else f"--{name}" for name, value in options.items()]
        if request.workers > 1:  # on any number of nodes
            extra += [f"--ntasks={request.workers}", f"--mem-per-cpu={-(-mebibytes // request.cores)}M"]
            found["job_directives_skip"] = ["#SBATCH -n 1", "#SBATCH --mem="]
        else:
            found["job_mem"] = f"{mebibytes}M"
    elif options:
        raise InputError(f"{', '.join(options)} are options of sbatch, which {request.system} does not know. Leave them out.")
    found["job_extra_directives"] = extra
    return found


def _prologue(system: str) -> list[str]:
    import dask

    usual = list(dask.config.get(f"jobqueue.{system}.job-script-prologue", []) or [])
    return [*usual, *(f"export {name}={value}" for name, value in WORKER_ENVIRONMENT.items())]


def _lifetime(seconds: int | None, system: str) -> list[str]:
    """Return the options that end workers before their job is ended, not all at the same moment."""
    import dask

    usual = list(dask.config.get(f"jobqueue.{system}.worker-extra-args", []) or [])
    if not seconds or "--lifetime" in usual:
        return usual
    stagger = min(300, seconds // 10)
    return [*usual, "--lifetime", f"{seconds - min(300, seconds // 5) - stagger}s", "--lifetime-stagger", f"{stagger}s"]


def _in_each_task(script: str) -> str:
    """Return a script that starts its last command in each task of the job."""
    head, _, command = script.rstrip().rpartition("\n")
    return f"{head}\nsrun --kill-on-bad-exit=0 bash -c {shlex.quote('exec ' + command)}\n"


def log_directory(request: JobRequest) -> str:
    """Return the folder for what jobs print, made where it is missing.

    Raises
    ------
    InputError
        Where nothing can be written there; jobs would end at once without a word.
    """
    folder = Path(request.log_directory or ".").expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".wkdask-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"Jobs can not write their logs to {folder}: {error.strerror or error}. Set wkdask.{request.system}.log-directory "
            "in dask's configuration to a folder that all nodes can write."
        ) from error
    return str(folder)


def _number(given: Any, name: str) -> int:
    try:
        number = int(given)
    except (TypeError, ValueError):
        number = 0
    if not 0 < number <= MOST_WORKERS:
        raise InputError(f"{name}={given} is no number from 1 to {MOST_WORKERS}. Give one.")
    return number


@cache
def import_jobqueue() -> Any:
    """Return dask-jobqueue, which has brought its settings.

    Importing it takes Ctrl-C away from the program, and fails in any thread but the first; so it is kept from doing that.

    Raises
    ------
    InputError
        Where it is not installed.
    """
    with patch.object(signal, "signal"):
        try:
            return importlib.import_module("dask_jobqueue")
        except ImportError:
            raise InputError('dask-jobqueue is not installed. Install it: pip install "wkdask[slurm]".') from None
