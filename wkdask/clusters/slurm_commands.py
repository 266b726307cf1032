"""Slurm's own programs: what they answer, and their words where they refuse."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

from wkdask.errors import InputError, StorageError

SECONDS = 60
"""What a busy controller may take to answer."""

ENDED = frozenset(
    (
        *("BOOT_FAIL", "CANCELLED", "COMPLETED", "COMPLETING", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY"),
        *("PREEMPTED", "REVOKED", "TIMEOUT"),
    )
)
"""States of jobs whose worker is gone."""

HOPELESS = frozenset(
    (
        *("AccountNotAllowed", "AssocNotAllowed", "BadConstraints", "DependencyNeverSatisfied", "InvalidAccount", "InvalidQOS"),
        *("PartitionConfig", "PartitionNodeLimit", "PartitionTimeLimit", "QOSNotAllowed"),
    )
)
"""Reasons for waiting that no waiting ends."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job as squeue shows it."""

    number: str
    state: str
    reason: str
    nodes: str

    @property
    def ended(self) -> bool:
        """Whether its worker is gone, or never was there."""
        return self.state in ENDED

    def __str__(self) -> str:
        """Return the job in words, such as ``job 7 (FAILED, NonZeroExitCode, on node2)``."""
        why = [self.state, *([self.reason] if self.reason not in ("", "None") else [])]
        return f"job {self.number} ({', '.join([*why, *([f'on {self.nodes}'] if self.nodes else [])])})"


def call(*words: str, given: str | None = None) -> str:
    """Run one of Slurm's programs and return what it prints.

    Raises
    ------
    InputError
        Where there is no such program, or it refuses; with its own words.
    StorageError
        Where it does not answer.
    """
    try:
        done = subprocess.run(
            words,
            input=given,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
            start_new_session=True,  # a Ctrl-C is for us
            env=_environment(),
        )
    except FileNotFoundError:
        raise InputError(
            f"There is no Slurm here: the program {words[0]} was not found. Run this on a node that submits jobs, or use "
            "another --distribution-strategy."
        ) from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StorageError(f"{words[0]} did not answer within {SECONDS} s: {error}. Ask whether Slurm is well.") from error
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())[:2000] or f"exit code {done.returncode}"
        raise InputError(f"Slurm refused {words[0]}: {said}. Change --job-resources, or ask those who run the cluster.")
    return done.stdout


def _environment() -> dict[str, str]:
    """Return our environment without what the job that we may run in asked for; new jobs would ask for the same."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SLURM_") or name == "SLURM_CONF"}


def submit(script: str) -> str:
    """Submit a job script, and return the number of the job."""
    return call("sbatch", "--parsable", given=script).strip().partition(";")[0]


def jobs_of(name: str) -> dict[str, Job]:
    """Return all jobs of a name that Slurm still knows, those that have ended included."""
    found = {}
    for line in call("squeue", "--noheader", "--states=all", f"--name={name}", "--format=%A|%T|%r|%N").splitlines():
        number, state, reason, nodes = (line.strip().split("|") + [""] * 4)[:4]
        found[number] = Job(number, state, reason, nodes)
    return found


def cancel(name: str) -> None:
    """Cancel all jobs of a name."""
    call("scancel", f"--name={name}")


def cancel_job(number: str) -> None:
    """Cancel one job."""
    call("scancel", number)
