"""What is known of work that was done: receipts of single tasks, and the report of a run."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from wkdask.errors import UnitsFailedError
from wkdask.formats import Written

USED_UP = -1


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file that a task published: its path below the dataset, and what it must still be to count.

    A size of 0 stands for a file that is not there because all its voxels are zero, `USED_UP` for one that was not written
    because the task that would use it up is done.
    """

    path: str
    size: int
    mtime_ns: int
    digest: int

    @classmethod
    def of(cls, path: str, written: Written) -> FileRecord:
        """Describe a file that a unit writer published."""
        return cls(path, written.size, written.mtime_ns, written.digest)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one task of a stage.

    ``state`` is ``done``, ``failed`` or ``skipped`` (because what it needs failed). ``low`` and ``high`` are the least and the
    greatest voxel seen, where the stage looks for them; bytes are those of voxels read, and of files written. Of a failure,
    ``again`` says that trying once more may help, ``hopeless`` that all other tasks would fail alike, as on a full disk.
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

    def to_line(self) -> bytes:
        """Return the receipt as a line of a journal."""
        files = [[f.path, f.size, f.mtime_ns, f.digest] for f in self.files]
        row = {"stage": self.stage, "number": self.number, "files": files, "seconds": round(self.seconds, 4)}
        row |= {"in": self.bytes_in, "out": self.bytes_out, "low": self.low, "high": self.high}
        return json.dumps(row, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def of_line(cls, line: bytes) -> Receipt | None:
        """Read a journal's line; None where it is torn."""
        try:
            row = json.loads(line)
            files = tuple(FileRecord(str(p), int(s), int(m), int(d)) for p, s, m, d in row["files"])
            numbers = int(row["stage"]), int(row["number"])
            seconds, read, written = float(row["seconds"]), int(row["in"]), int(row["out"])
            return cls(*numbers, "done", files, seconds, read, written, row["low"], row["high"])
        except (ValueError, KeyError, TypeError):
            return None


def extremes(receipts: Iterable[Receipt]) -> tuple[float | None, float | None]:
    """Return the least and the greatest voxel that any of the receipts saw."""
    seen = [(r.low, r.high) for r in receipts if r.low is not None and r.high is not None]
    return (min(low for low, _ in seen), max(high for _, high in seen)) if seen else (None, None)


@dataclass(slots=True)
class Report:
    """The outcome of a run: tasks done now, found done before, failed, skipped; seconds; bytes.

    ``bytes_in`` are those of voxels read now, ``bytes_kept`` those that the tasks found done had read. ``peak_bytes`` is what
    this process took; with other processes beside it, it is not all.

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
    peak_bytes: int = 0
    errors: list[str] = field(default_factory=list)

    def add(self, receipt: Receipt) -> None:
        """Count a receipt."""
        if receipt.state == "done":
            self.done += 1
            self.bytes_in += receipt.bytes_in
            self.bytes_out += receipt.bytes_out
        elif receipt.state == "failed":
            self.failed += 1
            if receipt.error not in self.errors:
                self.errors.append(receipt.error)
        else:
            self.skipped += 1

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
