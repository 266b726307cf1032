"""Asking a run to stop, from any terminal that sees the dataset: by a file in the job's folder, which drivers look for.

A driver that ends early tells its own tasks in the same way, where they may be in other processes or on other machines.
"""

from __future__ import annotations

import getpass
import json
import os
import secrets
import socket
import time
from contextlib import suppress
from typing import Any

from wkdask.errors import InterruptedRunError, StorageError
from wkdask.plan.journal import Journal
from wkdask.storage import Location

CHECK_SECONDS = 1.0
"""How often a process looks for a request, at most."""

_looked: dict[str, float] = {}
"""When this process last looked, by job."""


def _place(journal: Journal) -> Location:
    return journal.folder / "cancel.json"


def ask_to_stop(journal: Journal) -> None:
    """Ask whoever works on a job to stop; the request stands until a run takes the job up again."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        user = str(os.getuid()) if hasattr(os, "getuid") else ""
    said = {"host": socket.gethostname(), "pid": os.getpid(), "user": user, "at": round(time.time(), 1)}
    _place(journal).write_bytes(json.dumps(said).encode())


def is_asked(journal: Journal) -> bool:
    """Whether somebody asked those who work on a job to stop."""
    return _place(journal).is_file()


def forget_request(journal: Journal) -> None:
    """Drop a request that an earlier run was given; for who takes the job up while nobody else works on it."""
    if is_asked(journal):
        _place(journal).delete()


def stop_if_cancelled(journal: Journal) -> None:
    """Raise `InterruptedRunError` where the run was asked to stop. Cheap: it looks once a second at most.

    Examples
    --------
    >>> stop_if_cancelled(Journal(Location("memory://cancelling/ds"), "color"))
    """
    now, job = time.monotonic(), journal.folder.url
    if now - _looked.get(job, -CHECK_SECONDS) < CHECK_SECONDS:
        return
    _looked[job] = now
    try:
        asked = is_asked(journal)
    except StorageError:  # a folder that can not be read for a moment ends no run
        return
    if asked:
        raise InterruptedRunError("Stopped by wkdask cancel. Run the same again to go on.")


class StopMark:
    """Whether one run is over, for its tasks in whatever process and on whatever machine: by a file in the job's folder.

    It travels with the tasks, which ask it by `wkdask.plan.stage.until`; others of the same job have marks of their own.

    Parameters
    ----------
    journal
        The job's.

    Examples
    --------
    >>> mark = StopMark(Journal(Location("memory://cancelling/ds"), "color"))
    >>> mark.set()
    >>> mark.is_set()
    True
    >>> mark.clear()
    """

    def __init__(self, journal: Journal) -> None:
        self._place = journal.folder / f"over-{secrets.token_hex(6)}.json"
        self._due, self._set = 0.0, False

    def set(self) -> None:
        """Tell all tasks; a folder that takes no file leaves them in the dark, so that they go on to the end of their batch."""
        with suppress(StorageError):
            self._place.write_bytes(b"{}")

    def clear(self) -> None:
        """Take the file away, when no task is left that could see it."""
        with suppress(StorageError):
            self._place.delete()

    def is_set(self) -> bool:
        """Whether the run is over. Cheap: it looks once a second at most."""
        now = time.monotonic()
        if not self._set and now >= self._due:
            self._due = now + CHECK_SECONDS
            with suppress(StorageError):
                self._set = self._place.is_file()
        return self._set

    def __reduce__(self) -> tuple[Any, ...]:
        return _mark_at, (self._place,)


def _mark_at(place: Location) -> StopMark:
    """Return a mark as it arrives in another process, whose clock is another one."""
    mark = StopMark.__new__(StopMark)
    mark._place, mark._due, mark._set = place, 0.0, False
    return mark
