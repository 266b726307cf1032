"""A lease: who works on a target just now. It is for politeness; safety never rests on it."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from types import TracebackType

from wkdask.errors import LockedError, StorageError
from wkdask.storage.faults import may_pass
from wkdask.storage.location import Location
from wkdask.storage.retries import FIRST_PAUSE, retry_seconds, without_retries

RENEW_SECONDS = 20.0
VOID_SECONDS = 3 * RENEW_SECONDS
ATTEMPTS = 20

MOST_TIME = 1e11
"""Unix seconds that no clock tells."""

_given_up: set[str] = set()
"""Tokens of leases that are over in this process, though their files could not be deleted."""


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
    def here(cls, work: str) -> Owner:
        """Return this process as the owner of something, under a new token."""
        now = time.time()
        return cls(socket.gethostname(), os.getpid(), _started(os.getpid()), work, secrets.token_hex(8), now, now)

    @classmethod
    def of_bytes(cls, data: bytes) -> Owner | None:
        """Read a lease file; None where it is not one."""
        try:
            owner = cls(**json.loads(data))
            words, times = (owner.host, owner.work, owner.token), (owner.started, owner.since, owner.renewed)
            fits = all(isinstance(w, str) for w in words) and all(abs(t) < MOST_TIME for t in times)
            return owner if type(owner.pid) is int and fits else None
        except (ValueError, TypeError, RecursionError):
            return None

    @property
    def alive(self) -> bool:
        """Whether the owner still counts: renewed of late, as far as clocks agree, and living where we can tell."""
        if abs(time.time() - self.renewed) > VOID_SECONDS or self.token in _given_up:
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
        self._place = place
        self._owner = Owner.here(work)
        self._over = threading.Event()
        self._renewer = threading.Thread(target=self._renew, daemon=True, name="wkdask-lease")

    def __enter__(self) -> Lease:
        self._place.parent.make_folder()
        for _ in range(ATTEMPTS):
            if self._place.create(self._bytes()):
                break
            left = self._place.read_if_there()
            if left is not None:  # else it was given up since
                self._refuse_if_alive(_believed(left, self._place))
                if self._take_over(left):
                    break
        else:
            raise LockedError(f"{self._place.parent.parent} was taken by others {ATTEMPTS} times in a row. Try again.")
        self._renewer.start()
        return self

    def _refuse_if_alive(self, owner: Owner | None) -> None:
        if owner and owner.alive:
            raise LockedError(f"{self._place.parent.parent} is in use by {owner}. Wait for it to end, or stop it.")

    def _take_over(self, left: bytes) -> bool:
        """Replace the lease of an owner that is gone, unless another does; return whether it is ours now.

        Whoever makes the claim to those very bytes may replace them, after another look. Where it died meanwhile, the next
        generation of the claim is free to be made.
        """
        folder, stem = self._place.parent, f"{self._place.name}.{hashlib.sha256(left).hexdigest()[:16]}"
        pattern = re.compile(re.escape(stem) + r"\.(\d{1,9})\.tmp")
        claims = {int(found[1]): folder / name for name in folder.names() if (found := pattern.fullmatch(name))}
        last = max(claims, default=-1)
        if last in claims:
            self._refuse_if_alive(current_owner(claims[last]))
        mine = folder / f"{stem}.{last + 1}.tmp"
        if not mine.create(self._bytes()):
            return False
        try:
            if self._place.read_if_there() != left:
                return False
            self._place.write_bytes(self._bytes())
            return True
        finally:
            for claim in (*claims.values(), mine):
                claim.delete()

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
        try:
            self.release(self.token)
        except StorageError:
            if error is None:  # else that says more
                raise

    @property
    def token(self) -> str:
        """What tells this holder from all others."""
        return self._owner.token

    def release(self, token: str) -> None:
        """Give up the lease that is held under a token, by whatever process took it."""
        _given_up.add(token)
        end = time.monotonic() + retry_seconds()
        owner = current_owner(self._place)
        while owner and owner.token == token:
            try:
                with without_retries():  # which could delete the lease of whoever takes it when it is gone
                    self._place.parent.delete_files([self._place.name])
                break
            except StorageError as error:
                if self._place.is_local or time.monotonic() > end or not may_pass(error):
                    raise
                time.sleep(FIRST_PAUSE)
                owner = current_owner(self._place)
        _given_up.discard(token)


def current_owner(place: Location) -> Owner | None:
    """Return who holds a lease, alive or not; None where nobody does."""
    data = place.read_if_there()
    return None if data is None else _believed(data, place)


def _believed(data: bytes, place: Location) -> Owner | None:
    """Return what a lease says; where it was renewed in the future, by a clock that goes wrong, the file's own time counts.

    Else such a lease would live until that time comes.
    """
    owner = Owner.of_bytes(data)
    if owner is None or owner.renewed <= time.time() + VOID_SECONDS:
        return owner
    stat = place.stat()
    return None if stat is None else replace(owner, renewed=stat.mtime_ns / 1e9)


@contextmanager
def alone(turns: Location, work: str) -> Iterator[None]:
    """Let writers take turns at a store that refuses no write.

    Each leaves an object, looks whether there are others, and steps back where there are.

    Parameters
    ----------
    turns
        A folder for those objects.
    work
        A few words for the one who has to wait.

    Raises
    ------
    LockedError
        Where others have it for longer than the living ever do.
    """
    begun = time.monotonic()
    while True:
        owner = Owner.here(work)
        mine = turns / f"{owner.token}.json"
        mine.write_bytes(json.dumps(asdict(owner)).encode())
        try:
            others = list(_others(turns, mine.name))
        except BaseException:
            with suppress(StorageError):  # what kept us from looking says more
                mine.delete()
            raise
        if not others:
            break
        mine.delete()
        if time.monotonic() - begun > VOID_SECONDS:
            raise LockedError(f"{turns.parent.parent} is in use by {others[0]}. Wait for it to end, or stop it.")
        time.sleep(random.uniform(0.02, 0.5))
    try:
        yield
    finally:
        mine.delete()


def _others(turns: Location, mine: str) -> Iterator[Owner]:
    """Yield who else is there and lives; what the dead left is deleted."""
    for name in turns.names():
        if name != mine:
            owner = current_owner(turns / name)
            if owner and owner.alive:
                yield owner
            elif owner:
                (turns / name).delete()
