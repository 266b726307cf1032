"""Who does which batch of a job that several processes share: small files in the job's folder, each made by one process alone.

``workers/`` has a lease of each process, renewed while it lives. ``claims/`` has a file for each batch that is being done,
``STAGE-BATCH-GENERATION.json``, which names the worker; whoever makes the file has the batch. Where that worker is gone, the
next generation's file is free to be made, again by one alone. A claim is deleted when its batch is in the journal. ``failed/``
tells which batches were tried in vain, and why.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import time
from collections.abc import Iterable, Iterator

from wkdask.errors import StorageError
from wkdask.plan.journal import Journal
from wkdask.plan.receipt import Receipt
from wkdask.plan.window import Key
from wkdask.storage import WORK_FOLDER, Lease, Location
from wkdask.storage.lease import Owner, current_owner

TRUST_SECONDS = 2.0
"""How long a worker that was seen alive is believed to be."""

MOST_BYTES = 1 << 20
"""A file that says more about a failure is not ours."""


def living_workers(journal: Journal) -> list[Owner]:
    """Return the processes that share a job just now."""
    folder = journal.folder / "workers"
    owners = (current_owner(folder / name) for name in folder.names() if name.endswith(".json"))
    return [owner for owner in owners if owner is not None and owner.alive]


def living_workers_of(target: Location) -> list[Owner]:
    """Return the processes that share any job of a dataset."""
    folder = target / WORK_FOLDER / "jobs"
    return [owner for key in folder.names() for owner in living_workers(Journal(target, key))]


class Claims:
    """The claims of one process.

    Parameters
    ----------
    journal
        Of the job.
    work
        A few words for others who look.
    """

    def __init__(self, journal: Journal, work: str) -> None:
        self._folder, self._failed = journal.folder / "claims", journal.folder / "failed"
        self._workers, self._committed = journal.folder / "workers", journal.folder / "committed"
        self._name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._lease = Lease(self._workers / f"{self._name}.json", work)
        self._held: dict[Key, tuple[int, str]] = {}
        self._mine: dict[Key, Location] = {}
        self._owners: dict[str, str] = {}
        self._trusted: dict[str, tuple[float, bool]] = {}
        self._told: set[str] = set()

    def clear(self) -> None:
        """Forget what processes that are gone have claimed, failed and committed."""
        for folder in (self._folder, self._failed, self._workers, self._committed):
            folder.delete()

    def enter(self) -> None:
        """Become one of the workers."""
        self._lease.__enter__()
        self._folder.make_folder()

    def leave(self) -> None:
        """Give back what is claimed, and be none of the workers any more."""
        for key in list(self._mine):
            self.release(key)
        self._lease.__exit__(None, None, None)

    def look(self) -> None:
        """See what is claimed now."""
        self._held = {}
        names = set(self._folder.names())
        for name in names:
            found = re.fullmatch(r"(\d{1,9})-(\d{1,9})-(\d{1,9})\.json", name)
            if found:
                key, generation = (int(found[1]), int(found[2])), int(found[3])
                if key not in self._held or self._held[key][0] < generation:
                    self._held[key] = generation, name
        self._owners = {name: owner for name, owner in self._owners.items() if name in names}

    def is_free(self, key: Key) -> bool:
        """Whether a batch was not claimed when we looked, or by a worker that is gone."""
        if key not in self._held:
            return True
        worker = self._worker(self._held[key][1])
        return worker is not None and not self._is_living(worker)

    def take(self, key: Key) -> bool:
        """Claim a batch that is free; return whether it is ours now."""
        generation = self._held[key][0] + 1 if key in self._held else 0
        place = self._folder / f"{key[0]}-{key[1]}-{generation}.json"
        mine = place.create(json.dumps({"worker": self._name, "since": round(time.time(), 1)}).encode())
        if mine:
            self._mine[key] = place
        return mine

    def release(self, key: Key) -> None:
        """Give a batch back: it is in the journal, or others may have it."""
        self._mine.pop(key).delete()

    def tell_failed(self, key: Key, receipts: Iterable[Receipt]) -> None:
        """Tell the other workers that a batch was tried in vain."""
        self._told.add(f"{key[0]}-{key[1]}.json")
        rows = [[r.number, r.error[:1000]] for r in receipts if r.state == "failed"]
        (self._failed / f"{key[0]}-{key[1]}.json").write_bytes(json.dumps(rows).encode()[:MOST_BYTES])

    def failures(self) -> Iterator[tuple[Key, list[Receipt]]]:
        """Yield what other workers tried in vain since we asked last."""
        for name in self._failed.names():
            found = re.fullmatch(r"(\d{1,9})-(\d{1,9})\.json", name)
            if found and name not in self._told:
                self._told.add(name)
                key = int(found[1]), int(found[2])
                if key not in self._mine:
                    yield key, _failed(key[0], (self._failed / name).read_bytes(0, MOST_BYTES))

    def _worker(self, claim: str) -> str | None:
        """Return who made a claim; None where it is gone since we looked, no name where it says none."""
        if claim not in self._owners:
            place = self._folder / claim
            if not place.is_file():
                return None
            try:
                self._owners[claim] = str(json.loads(place.read_bytes(0, 4096))["worker"])
            except StorageError:
                return None
            except (ValueError, KeyError, TypeError):
                self._owners[claim] = ""
        return self._owners[claim]

    def _is_living(self, worker: str) -> bool:
        until, living = self._trusted.get(worker, (0.0, False))
        if time.monotonic() >= until and re.fullmatch(r"[\w.-]+", worker):
            owner = current_owner(self._workers / f"{worker}.json")
            living = owner is not None and owner.alive
            self._trusted[worker] = time.monotonic() + TRUST_SECONDS, living
        return living


def _failed(stage: int, data: bytes) -> list[Receipt]:
    try:
        return [Receipt(stage, int(number), "failed", error=str(error)) for number, error in json.loads(data)]
    except (ValueError, TypeError):
        return []
