"""Whether a worker can do our tasks: it has the same versions, and sees the dataset."""

from __future__ import annotations

import platform
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NoReturn

from wkdask._version import __version__
from wkdask.errors import InputError, WkdaskError
from wkdask.plan import Batch, Journal, Plan, Receipt
from wkdask.plan.execute import execute
from wkdask.plan.stage import Mark, until

LIBRARIES = ("dask", "distributed", "numpy", "numcodecs", "zstandard", "lz4", "imagecodecs")
"""What carries tasks, and what decides the bytes that they write."""

NAMED = 5
"""Unfit workers that an error names."""


@lru_cache(maxsize=1)
def versions() -> Mapping[str, str]:
    """Return the versions that must be the same everywhere; of libraries that are not installed, none."""
    found = {"wkdask": __version__, "Python": ".".join(platform.python_version_tuple()[:2])}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@dataclass(frozen=True)
class Expected:
    """What a worker must have.

    Parameters
    ----------
    versions
        Of wkdask and the libraries.
    journal
        The job that it must see; None where it does not matter.
    fingerprint
        Of the plan that the journal holds.
    """

    versions: tuple[tuple[str, str], ...]
    journal: Journal | None = None
    fingerprint: str = ""

    @classmethod
    def of(cls, plan: Plan | None = None) -> Expected:
        """Return what this process has, and what it sees of a plan that writes."""
        same = tuple(sorted(versions().items()))
        if plan is None or not plan.milestones or _fingerprint(plan.journal) != plan.fingerprint:
            return cls(same)
        return cls(same, plan.journal, plan.fingerprint)


def unfit(expected: Expected) -> str:
    """Return what is wrong with this process, in words; nothing where it is fit."""
    here = versions()
    other = [
        f"{name} {here.get(name, 'not at all')}, where {wanted} is expected"
        for name, wanted in expected.versions
        if here.get(name) != wanted
    ]
    if other:
        return f"has {'; '.join(other)}"
    if expected.journal is None:
        return ""
    try:
        found = _fingerprint(expected.journal)
    except (WkdaskError, OSError) as error:
        return f"can not read {expected.journal.target}: {error}"
    return "" if found == expected.fingerprint else f"does not see what this process sees in {expected.journal.target}"


def _fingerprint(journal: Journal) -> str:
    return str((journal.document() or {}).get("fingerprint") or "")


def require_fit(client: Any, expected: Expected) -> None:
    """Refuse a cluster with a worker that could not do what is asked of it, before anything is.

    Raises
    ------
    InputError
        With the names of such workers, and what is wrong.
    """
    answers = client.run(_look, expected, on_error="return")
    said = {address: _said(answer) for address, answer in sorted(answers.items())}
    wrong = [f"worker {address}{words}" for address, words in said.items() if words]
    if wrong:
        more = f", and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        raise InputError(
            f"Not all workers can do this: {', '.join(wrong[:NAMED])}{more}. Give all of them the environment of this process, "
            "and a folder that all machines share."
        )


def _look(expected: Expected) -> str:
    return f" on {socket.gethostname()} {wrong}" if (wrong := unfit(expected)) else ""


def _said(answer: object) -> str:
    return answer if isinstance(answer, str) else f" failed: {type(answer).__name__}: {answer}"


UNFIT = "wkdask-unfit"
"""Topic of dask's events in which workers tell that they can not do our tasks."""

_fit: set[Expected] = set()
"""What this worker process was found to be fit for."""

_left: set[str] = set()
"""Addresses at which this process was a worker, and has asked to leave."""


@dataclass(frozen=True)
class Sent:
    """What all tasks of a run share: the plan, what their workers must have, and what says that the run is over."""

    plan: Plan
    expected: Expected
    over: Mark


def execute_where_fit(batch: Batch, sent: Sent) -> tuple[Receipt, ...]:
    """Do a batch; a worker that has come later is looked at before its first one.

    Where it is not fit, it tells the client why, leaves the cluster, and the batch is done by another one.

    Raises
    ------
    distributed.Reschedule
        Where this worker is not fit.
    """
    expected = sent.expected
    key = Expected(expected.versions, None, expected.fingerprint)
    if key not in _fit:
        if wrong := unfit(expected):
            _leave(wrong)
        _fit.add(key)
    with until(sent.over):
        return execute(sent.plan, batch)


def _leave(wrong: str) -> NoReturn:
    from distributed import Reschedule, get_worker

    worker = get_worker()
    if worker.address not in _left:
        _left.add(worker.address)
        worker.log_event(UNFIT, {"worker": worker.address, "words": f"on {socket.gethostname()} {wrong}"})
        worker.loop.add_callback(worker.close_gracefully)
    raise Reschedule
