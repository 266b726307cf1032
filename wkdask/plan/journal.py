"""The journal of a plan: which tasks are done, whoever did them.

It lies in ``.wkdask/jobs/<key>/`` of the dataset: ``plan.json`` says what is being made, ``journal/`` has a file for each
writing process with a line for each finished task (on stores: an object for each batch), ``failures/`` the same of tasks that
failed, ``cancel.json`` asks the run to stop, ``parts/`` holds the parts of units that are not joined yet, ``tmp/`` what is
being written. Lines that a crash tore are ignored.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from wkdask.errors import PlanRefusedError, StorageError
from wkdask.plan.receipt import Receipt
from wkdask.storage import WORK_FOLDER, Location, together

FETCHED_AT_ONCE = 16
"""Objects of a journal on a store; each takes the store's time to answer."""

_token = ""
_token_lock = threading.Lock()


def writer_name() -> str:
    """Return a name that no other process has: host, process and a token; made anew in a process that was forked."""
    global _token  # noqa: PLW0603 - one name for each process
    with _token_lock:
        mine = f"{socket.gethostname()}-{os.getpid()}-"
        if not _token.startswith(mine):
            _token = mine + secrets.token_hex(4)
        return _token


@lru_cache(256)
def _own_file(target: Location, key: str, name: str, writer: str) -> tuple[Location, Location]:
    """Return the folder for lines of one kind, and this process's file in it; remembered, as each finished task asks."""
    folder = Journal(target, key).folder / name
    return folder, folder / f"{writer}.jsonl"


@dataclass(frozen=True, slots=True)
class Journal:
    """The journal of one job.

    Parameters
    ----------
    target
        The dataset.
    key
        The job's name in it: that of the layer which it makes.
    elsewhere
        A folder for what is being written, in a folder of its own there; default: in the job's own.
    instead_of
        Fingerprint of an unfinished job that this one supersedes.
    """

    target: Location
    key: str
    elsewhere: str = ""
    instead_of: str = ""

    @property
    def folder(self) -> Location:
        """Where the job keeps all that is its own."""
        return self.target / WORK_FOLDER / "jobs" / self.key

    @property
    def parts(self) -> Location:
        """Where parts of units lie until they are joined."""
        return self.folder / "parts"

    @property
    def scratch(self) -> Location:
        """Where files are written before they are published."""
        if not self.elsewhere:
            return self.folder / "tmp"
        own = hashlib.sha256(self.folder.url.encode()).hexdigest()[:16]
        return Location(self.elsewhere) / f"wkdask-{own}"

    @property
    def spool(self) -> Location:
        """Where what is decoded once and read several times lies meanwhile."""
        if not self.elsewhere:
            return self.folder / "spool"
        return Location(f"{self.scratch.url}-spool")

    def write(self, receipts: Iterable[Receipt]) -> None:
        """Add receipts of finished tasks; those of tasks that failed go to a list of their own, which nothing rests on."""
        receipts = tuple(receipts)
        failures = b"".join(r.to_failure_line() for r in receipts if r.state == "failed")
        if failures:
            with suppress(StorageError):  # such as a full disk, which may be why they failed
                self._add("failures", failures)
        data = b"".join(r.to_line() for r in receipts if r.state == "done")
        if data:
            self._add("journal", data)

    def _add(self, name: str, data: bytes) -> None:
        data = b"\n" + data  # ends a line that a full disk tore
        folder, file = _own_file(self.target, self.key, name, writer_name())
        folder.make_folder()
        if folder.is_local:
            file.append(data)
        else:
            (folder / f"{writer_name()}-{secrets.token_hex(6)}.jsonl").write_bytes(data)

    def read(self) -> Iterator[Receipt]:
        """Yield all receipts, each process's in the order of writing."""
        folder = self.folder / "journal"
        names = [name for name in folder.names() if name.endswith(".jsonl")]
        for data in map(_bytes_of(folder), names) if folder.is_local else _fetched(folder, names):
            for line in data.splitlines():
                receipt = Receipt.of_line(line)
                if receipt is not None:
                    yield receipt

    def keep(self, done: Mapping[int, frozenset[int]]) -> None:
        """Forget all receipts but those of some tasks, given by stage, so that whoever reads on believes no others."""
        folder = self.folder / "journal"
        names = folder.names()
        if all(receipt.number in done.get(receipt.stage, ()) for receipt in self.read()):
            return
        with (folder / f"{writer_name()}-{secrets.token_hex(6)}.jsonl").writer(self.folder / "tmp") as out:
            for receipt in self.read():
                if receipt.number in done.get(receipt.stage, ()):
                    out.write(receipt.to_line())
            out.publish()
        for name in names:
            (folder / name).delete()

    def document(self) -> dict[str, Any] | None:
        """Return what ``plan.json`` says, or None where no job is under way."""
        data = (self.folder / "plan.json").read_if_there()
        if data is None:
            return None
        try:
            found = json.loads(data)
            return found if isinstance(found, dict) else {}
        except ValueError:
            return {}

    def layout(self) -> list[tuple[tuple[int, ...], int]]:
        """Return the tiles that a run which is under way began with, and how many levels each reading serves."""
        found = None if self.instead_of else self.document()
        rows = (found or {}).get("layout")
        if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) > 1 for row in rows):
            return []
        if not all(type(n) is int and n > 0 for row in rows for n in row):
            return []
        return [(tuple(row[:-1]), row[-1]) for row in rows]

    @property
    def superseding(self) -> bool:
        """Whether the job that this one supersedes is still under way."""
        found = self.document() if self.instead_of else None
        return found is not None and str(found.get("fingerprint")) == self.instead_of

    def begin(self, document: dict[str, Any], anew: str) -> bool:
        """Write ``plan.json``, or find that this very job is under way; return whether it was.

        Parameters
        ----------
        document
            The plan.
        anew
            How users give up an unfinished run: flag and parameter.

        Raises
        ------
        PlanRefusedError
            Where another job for the same layer is unfinished; the message says how it differs. Where it is this job, but began
            in other tiles after this plan was made, so that the numbers of its tasks mean others.
        """
        document = json.loads(json.dumps(document | {"begun": round(time.time(), 1), "scratch": self.elsewhere}))
        found, names = together(self.target, (self.document, self.folder.names))
        if found is None or self.superseding:
            for name in names:  # what is left of a job that ended; its receipts say nothing of this one
                if name != "plan.json":  # last, so that a run which is given up is known until this one is
                    (self.folder / name).delete()
            (self.folder / "plan.json").write_bytes(json.dumps(document, indent=1).encode())
            return False
        if found.get("fingerprint") == document["fingerprint"]:
            if any(found.get(key) != document[key] for key in ("layout", "tasks")):
                raise PlanRefusedError(
                    f"{self.target} holds an unfinished run for layer '{self.key}' that began in other tiles after this plan "
                    "was made. Make the plan anew: it will go on with those."
                )
            return True
        if found.get("name") != document["name"]:
            command = f": {found['command']}" if found.get("command") else ""
            raise PlanRefusedError(
                f"{self.target} holds an unfinished run for layer '{self.key}', which is another one: {found.get('name')}. "
                f"Finish that first{command}."
            )
        differences = "; ".join(_differences(found.get("settings") or {}, document["settings"]))
        raise PlanRefusedError(
            f"{self.target} holds an unfinished run for layer '{self.key}' that differs from this one: "
            f"{differences or 'its input files changed, or other library versions wrote it'}. "
            f"Run it with the settings that it began with, or start anew with {anew}."
        )

    def remove(self) -> None:
        """Delete the job, when all that it made is committed; first what says that it is under way."""
        self.folder.delete_files(["plan.json"])
        if self.elsewhere:  # else it lies in the folder
            self.spool.delete()
        self.folder.delete()


def _bytes_of(folder: Location) -> Callable[[str], bytes]:
    return lambda name: (folder / name).read_bytes()


def _fetched(folder: Location, names: Sequence[str]) -> Iterator[bytes]:
    """Yield the content of small objects in their order, some fetched while the first of them is on its way."""
    with ThreadPoolExecutor(FETCHED_AT_ONCE) as pool:
        for start in range(0, len(names), FETCHED_AT_ONCE):
            yield from pool.map(_bytes_of(folder), names[start : start + FETCHED_AT_ONCE])


def _differences(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    for key in sorted({*old, *new}):
        if old.get(key) != new.get(key):
            yield f"{key} was {old.get(key)!r}, now {new.get(key)!r}"


def unfinished_jobs(target: Location) -> dict[str, dict[str, Any]]:
    """Return the jobs that are under way, or were left, in a dataset: ``plan.json`` by key."""
    folder = target / WORK_FOLDER / "jobs"
    found = {key: Journal(target, key).document() for key in folder.names()}
    return {key: document for key, document in found.items() if document is not None}
