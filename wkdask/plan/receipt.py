"""What is known of work that was done: receipts of single tasks, and the report of a run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any

from wkdask.errors import UnitsFailedError
from wkdask.formats import Written

USED_UP = -1

MOST_OF_ERROR = 2000
"""Characters of an error that are kept."""


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file that a task published: its path below the dataset, and what it must still be to count.

    A size of 0 stands for a file that is not there because all its voxels are zero, `USED_UP` for one that was not written
    because the task that would use it up is done. ``content`` is the CRC-32C of all its bytes, where that is known.
    """

    path: str
    size: int
    stamp: int
    digest: int
    content: int | None = None

    @classmethod
    def of(cls, path: str, written: Written) -> FileRecord:
        """Describe a file that a unit writer published."""
        return cls(path, written.size, written.stamp, written.digest)

    def __reduce__(self) -> tuple[type[FileRecord], tuple[Any, ...]]:
        return type(self), _values(self)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one task of a stage.

    ``state`` is ``done``, ``failed`` or ``skipped`` (because what it needs failed). ``low`` and ``high`` are the least and the
    greatest voxel seen, where the stage looks for them; bytes are those of voxels read, and of files written. Of a failure,
    ``again`` says that trying once more may help, ``hopeless`` that all other tasks would fail alike, as on a full disk.
    ``worker`` is the process that did the task, ``peak_bytes`` the memory that it was seen to take; the last receipt of a batch
    has both, and ``requests``, those to stores that this process made since it told last, with the ``retries`` among them.
    ``at`` is when the journal's line was written, in seconds since 1970.
    """

    stage: int
    number: int
    state: str = "done"
    files: tuple[FileRecord, ...] = ()
    seconds: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    low: float | None = None
    high: float | None = None
    error: str = ""
    again: bool = False
    hopeless: bool = False
    worker: str = field(default="", compare=False)
    peak_bytes: int = field(default=0, compare=False)
    retries: int = field(default=0, compare=False)
    requests: int = field(default=0, compare=False)
    at: float = field(default=0.0, compare=False)

    def __reduce__(self) -> tuple[type[Receipt], tuple[Any, ...]]:
        return type(self), _values(self)  # in half the time that dataclasses take, as each task sends one

    def to_line(self) -> bytes:
        """Return the receipt as a line of a journal."""
        rows = [[f.path, f.size, f.stamp, f.digest, f.content] for f in self.files]
        files = json.dumps(rows, separators=(",", ":")) if rows else "[]"
        low = "null" if self.low is None else json.dumps(self.low)
        high = "null" if self.high is None else json.dumps(self.high)
        return (  # by hand, as a plan has up to 10^8 of them
            f'{{"stage":{self.stage},"number":{self.number},"files":{files},"seconds":{round(self.seconds, 4)},'
            f'"in":{self.bytes_in},"out":{self.bytes_out},"low":{low},"high":{high},"at":{self.at or round(time.time(), 1)}}}\n'
        ).encode()

    def to_failure_line(self) -> bytes:
        """Return a receipt of a task that failed as a line of the list of failures."""
        row = {"stage": self.stage, "number": self.number, "error": self.error[:MOST_OF_ERROR], "at": round(time.time(), 1)}
        return json.dumps(row, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def of_failure_line(cls, line: bytes) -> Receipt | None:
        """Read a line of the list of failures; None where it is torn."""
        try:
            row = json.loads(line)
            return cls(int(row["stage"]), int(row["number"]), "failed", error=str(row["error"]), at=float(row["at"]))
        except (ValueError, KeyError, TypeError, OverflowError):
            return None

    @classmethod
    def of_line(cls, line: bytes) -> Receipt | None:
        """Read a journal's line; None where it is torn."""
        try:
            row = json.loads(line.decode())  # of text, as that of bytes is guessed first
            files = tuple([_record(*file) for file in row["files"]])
            numbers = int(row["stage"]), int(row["number"])
            seconds, read, written = float(row["seconds"]), int(row["in"]), int(row["out"])
            at = float(row.get("at") or 0.0)
            return cls(*numbers, "done", files, seconds, read, written, row["low"], row["high"], at=at)
        except (ValueError, KeyError, TypeError, OverflowError):
            return None


_getters: dict[Any, Callable[[object], tuple[Any, ...]]] = {}


def _values(one: FileRecord | Receipt) -> tuple[Any, ...]:
    """Return the values of all fields, which may be more than those of the class that is known here."""
    kind: Any = type(one)
    if kind not in _getters:
        _getters[kind] = attrgetter(*(each.name for each in fields(kind)))
    return _getters[kind](one)


def _record(path: object, size: int, stamp: int, digest: int, content: int | None = None) -> FileRecord:
    """Return what a journal's line says of a file; those of earlier versions have no checksum of its content."""
    return FileRecord(str(path), int(size), int(stamp), int(digest), None if content is None else int(content))


def extremes(receipts: Iterable[Receipt]) -> tuple[float | None, float | None]:
    """Return the least and the greatest voxel that any of the receipts saw."""
    seen = [(r.low, r.high) for r in receipts if r.low is not None and r.high is not None]
    return (min(low for low, _ in seen), max(high for _, high in seen)) if seen else (None, None)


@dataclass(slots=True)
class Report:
    """The outcome of a run: tasks done now, found done before, failed, skipped; seconds; bytes.

    ``bytes_in`` are those of voxels read now, ``bytes_kept`` those that the tasks found done had read. ``peak_bytes`` is what
    this process took; with other processes beside it, it is not all: ``workers`` has what each process was seen to take.
    ``requests`` are those to stores, by all processes, ``retries`` those among them that were repeated.
    ``files`` are those that tasks wrote now, parts that were joined later included. What was predicted is of the whole plan,
    also where an earlier run had done a part of it.

    Examples
    --------
    >>> print(Report("convert", done=8, seconds=2.0, bytes_in=4_000_000))
    convert: 8 tasks done in 2.0 s, 4.0 MB of voxels read, 0 B written
    """

    name: str
    done: int = 0
    kept: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    bytes_in: int = 0
    bytes_kept: int = 0
    bytes_out: int = 0
    predicted_bytes: int = 0
    predicted_bytes_out: int = 0
    predicted_seconds: float = 0.0
    predicted_files: int = 0
    predicted_requests: int = 0
    predicted_worker_bytes: int = 0
    peak_bytes: int = 0
    files: int = 0
    retries: int = 0
    requests: int = 0
    workers: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def add(self, receipt: Receipt) -> None:
        """Count a receipt."""
        self.retries += receipt.retries
        self.requests += receipt.requests
        if receipt.worker:
            self.workers[receipt.worker] = max(receipt.peak_bytes, self.workers.get(receipt.worker, 0))
        if receipt.state == "done":
            self.done += 1
            self.bytes_in += receipt.bytes_in
            self.bytes_out += receipt.bytes_out
            self.files += sum(record.size > 0 for record in receipt.files)
        elif receipt.state == "failed":
            self.failed += 1
            if receipt.error not in self.errors:
                self.errors.append(receipt.error)
        else:
            self.skipped += 1

    @property
    def worker_bytes(self) -> int:
        """What the hungriest of the processes that did tasks was seen to take."""
        return max(self.workers.values(), default=self.peak_bytes)

    def raise_failures(self) -> None:
        """Raise `UnitsFailedError` where a task failed."""
        if self.failed:
            shown = "\n".join(f"  - {error}" for error in self.errors[:10])
            raise UnitsFailedError(
                f"{self.failed} tasks failed, {self.skipped} that need them were skipped, {self.done + self.kept} are done.\n"
                f"{shown}\nRun the same again: it tries just those. Where the input must be mended first, begin anew."
            )

    def __str__(self) -> str:
        text = f"{self.name}: {self.done} tasks done in {self.seconds:.1f} s, {format_bytes(self.bytes_in)} of voxels read, "
        text += f"{format_bytes(self.bytes_out)} written"
        if self.kept:
            text += f"; {self.kept} tasks were done before"
        if self.requests:
            text += f", {self.requests} requests"
        if self.retries:
            text += f"; {self.retries} retries"
        if self.failed:
            text += f"; {self.failed} failed, {self.skipped} skipped"
        return text


def format_bytes(count: float) -> str:
    """Return a number of bytes for people, in powers of ten.

    Examples
    --------
    >>> format_bytes(268_435_456), format_bytes(12)
    ('268.4 MB', '12 B')
    """
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(count) < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} PB"


def format_seconds(seconds: float) -> str:
    """Return a time for people.

    Examples
    --------
    >>> format_seconds(0.25), format_seconds(90), format_seconds(7300), format_seconds(900000)
    ('0.2 s', '1.5 min', '2.0 h', '10.4 days')
    """
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
