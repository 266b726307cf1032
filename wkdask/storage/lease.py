"""A lease: who works on a target just now. It is for politeness; safety never rests on it."""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from dataclasses import asdict, dataclass, replace
from types import TracebackType

from wkdask.errors import LockedError, StorageError
from wkdask.storage.location import Location

RENEW_SECONDS = 20.0
VOID_SECONDS = 3 * RENEW_SECONDS


def _started(pid: int) -> float:
    """Return when a process began, so that a reused process id is not mistaken; 0 where it does not live."""
    import psutil

    try:
        return round(float(psutil.Process(pid).create_time()), 2)
    except psutil.Error:
        return 0.0


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds a lease: host, process and when it began, what it does, since when, and when it last said so (unix seconds)."""

    host: str
    pid: int
    started: float
    work: str
    token: str
    since: float
    renewed: float

    @classmethod
    def of_bytes(cls, data: bytes) -> Owner | None:
        """Read a lease file; None where it is not one."""
        try:
            owner = cls(**json.loads(data))
            times = (owner.started, owner.since, owner.renewed)
            return owner if type(owner.pid) is int and all(isinstance(t, int | float) for t in times) else None
        except (ValueError, TypeError):
            return None

    @property
    def alive(self) -> bool:
        """Whether the owner still counts: renewed of late, and living where we can tell."""
        if time.time() - self.renewed > VOID_SECONDS:
            return False
        return self.host != socket.gethostname() or abs(_started(self.pid) - self.started) < 1.0

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"process {self.pid} on {self.host}, since {since} ({self.work})"


class Lease:
    """Holds a target for one run while a ``with`` block lasts.

    Parameters
    ----------
    place
        The lease's file.
    work
        A few words for the one who finds it taken.

    Raises
    ------
    LockedError
        On entering, when a living owner has it; the message names it.

    Examples
    --------
    >>> with Lease(Location("memory://lease/run.json"), "an example"):
    ...     pass
    """

    def __init__(self, place: Location, work: str) -> None:
        now = time.time()
        self._place = place
        self._owner = Owner(socket.gethostname(), os.getpid(), _started(os.getpid()), work, secrets.token_hex(8), now, now)
        self._over = threading.Event()
        self._renewer = threading.Thread(target=self._renew, daemon=True, name="wkdask-lease")

    def __enter__(self) -> Lease:
        self._place.parent.make_folder()
        if not self._place.create(self._bytes()):
            owner = current_owner(self._place)
            if owner and owner.alive:
                raise LockedError(f"{self._place.parent.parent} is in use by {owner}. Wait for it to end, or stop it.")
            self._place.write_bytes(self._bytes())
            holder = current_owner(self._place)
            if holder is None or holder.token != self._owner.token:
                raise LockedError(f"{self._place.parent.parent} was just taken by {holder}. Wait for it to end, or stop it.")
        self._renewer.start()
        return self

    def _bytes(self) -> bytes:
        return json.dumps(asdict(self._owner)).encode()

    def _renew(self) -> None:
        while not self._over.wait(RENEW_SECONDS):
            try:
                holder = current_owner(self._place)
                if holder is None or holder.token != self.token:
                    return
                self._owner = replace(self._owner, renewed=time.time())
                self._place.write_bytes(self._bytes())
            except StorageError:  # a full disk must not end the run: the lease is for politeness
                continue

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._renewer.join()
        self.release(self.token)

    @property
    def token(self) -> str:
        """What tells this holder from all others."""
        return self._owner.token

    def release(self, token: str) -> None:
        """Give up the lease that is held under a token, by whatever process took it."""
        owner = current_owner(self._place)
        if owner and owner.token == token:
            self._place.delete()


def current_owner(place: Location) -> Owner | None:
    """Return who holds a lease, alive or not; None where nobody does."""
    return Owner.of_bytes(place.read_bytes()) if place.is_file() else None
