"""The journal of a plan: which tasks are done, whoever did them.

It lies in ``.wkdask/jobs/<key>/`` of the dataset: ``plan.json`` says what is being made, ``journal/`` has a file for each
writing process with a line for each finished task (on stores: an object for each batch), ``parts/`` the parts of units that
are not joined yet, ``tmp/`` what is being written. Lines that a crash tore are ignored.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import socket
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from wkdask.errors import PlanRefusedError
from wkdask.plan.receipt import Receipt
from wkdask.storage import WORK_FOLDER, Location

_token = ""
_token_lock = threading.Lock()


def _writer_name() -> str:
    """Return a name that no other process has; made anew in a process that was forked."""
    global _token  # noqa: PLW0603 - one name for each process
    with _token_lock:
        mine = f"{socket.gethostname()}-{os.getpid()}-"
        if not _token.startswith(mine):
            _token = mine + secrets.token_hex(4)
        return _token


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
        """Add receipts of finished tasks."""
        data = b"".join(r.to_line() for r in receipts if r.state == "done")
        if not data:
            return
        data = b"\n" + data  # ends a line that a full disk tore
        folder = (self.folder / "journal").make_folder()
        if folder.is_local:
            (folder / f"{_writer_name()}.jsonl").append(data)
        else:
            (folder / f"{_writer_name()}-{secrets.token_hex(6)}.jsonl").write_bytes(data)

    def read(self) -> Iterator[Receipt]:
        """Yield all receipts, each process's in the order of writing."""
        folder = self.folder / "journal"
        for name in folder.names():
            if name.endswith(".jsonl"):
                for line in (folder / name).read_bytes().splitlines():
                    receipt = Receipt.of_line(line)
                    if receipt is not None:
                        yield receipt

    def document(self) -> dict[str, Any] | None:
        """Return what ``plan.json`` says, or None where no job is under way."""
        place = self.folder / "plan.json"
        if not place.is_file():
            return None
        try:
            found = json.loads(place.read_bytes())
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
        document = json.loads(json.dumps(document))
        found = self.document()
        if found is None or self.superseding:
            for name in self.folder.names():  # what is left of a job that ended; its receipts say nothing of this one
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
        (self.folder / "plan.json").delete()
        self.spool.delete()
        self.folder.delete()


def _differences(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    for key in sorted({*old, *new}):
        if old.get(key) != new.get(key):
            yield f"{key} was {old.get(key)!r}, now {new.get(key)!r}"


def unfinished_jobs(target: Location) -> dict[str, dict[str, Any]]:
    """Return the jobs that are under way, or were left, in a dataset: ``plan.json`` by key."""
    folder = target / WORK_FOLDER / "jobs"
    found = {key: Journal(target, key).document() for key in folder.names()}
    return {key: document for key, document in found.items() if document is not None}
