"""What a verification found: faults, notes, and how much was checked."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from html import escape
from typing import Any

from wkdask.plan import format_bytes

Triple = tuple[int, int, int]

KINDS = {
    "document": "a JSON document or header is not sound",
    "missing": "something that a document names is not there",
    "contradiction": "the dataset's JSON and an array say different things",
    "damaged": "a unit does not decode, or fails a checksum",
    "unreadable": "the system refuses to read or list it",
    "leftover": "a temporary file or folder that no run uses",
    "foreign": "a file in an array's folder that is no unit of it",
    "changed": "a unit is not what it was when it was recorded",
    "vanished": "a unit that was recorded is gone",
    "appeared": "a unit is there that was not recorded",
    "unfinished": "a run is under way, or was stopped",
    "unchecked": "it could not be checked here",
}
"""The kinds of findings, and what each means."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that was found.

    Parameters
    ----------
    kind
        A key of `KINDS`.
    path
        The file or folder.
    reason
        What is wrong with it.
    layer, mag
        Whose it is; empty where it is the dataset's or the layer's.
    box
        First voxel and size of the unit, in mag-1 voxels along x, y, z; None where it is no unit.

    Examples
    --------
    >>> print(Fault("damaged", "brain/color/2/c/0/0/0/0", "Its index is cut off.", "color", "2", ((0, 0, 0), (64, 64, 64))))
    damaged: brain/color/2/c/0/0/0/0 (color/2, voxels (0, 0, 0) + (64, 64, 64)): Its index is cut off.
    """

    kind: str
    path: str
    reason: str
    layer: str = ""
    mag: str = ""
    box: tuple[Triple, Triple] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        box = None if self.box is None else {"topleft": list(self.box[0]), "size": list(self.box[1])}
        return {**asdict(self), "box": box}

    @property
    def place(self) -> str:
        """Layer, mag and voxels."""
        name = "/".join(filter(None, (self.layer, self.mag)))
        return name if self.box is None else f"{name}, voxels {self.box[0]} + {self.box[1]}"

    def __str__(self) -> str:
        place = f" ({self.place})" if self.place else ""
        return f"{self.kind}: {self.path}{place}: {self.reason}"


@dataclass(frozen=True, slots=True)
class CheckedMag:
    """How much of a magnification was checked, and how many faults it has.

    ``bytes`` are those of the voxels that were decoded: of a sparse shard those in the least box that holds all its chunks.
    """

    layer: str
    mag: str
    units: int
    bytes_on_disk: int
    bytes: int
    faults: int


@dataclass(frozen=True)
class Verification:
    """The outcome of a verification.

    Parameters
    ----------
    path
        The dataset.
    checked
        One for each magnification that could be opened, in the order of the dataset's JSON.
    faults
        All that is wrong: by layer and mag, documents first, then units in the order of their coordinates.
    notes
        What is no damage, but should be known: unfinished runs, what could not be checked from here.
    digests
        Whether units were compared with their receipts, rather than decoded.
    seconds
        How long it took.

    Examples
    --------
    >>> found = Verification("brain", (CheckedMag("color", "1", 8, 1_000_000, 2_000_000, 0),), seconds=0.5)
    >>> found.ok
    True
    >>> print(found)
    brain: sound. 8 units of 1 magnification decoded, 1.0 MB on disk, 2.0 MB of voxels in 0.5 s (4.0 MB/s)
    """

    path: str
    checked: tuple[CheckedMag, ...] = ()
    faults: tuple[Fault, ...] = ()
    notes: tuple[Fault, ...] = ()
    digests: bool = False
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether no fault was found; notes do not count."""
        return not self.faults

    @property
    def units(self) -> int:
        """Units that were checked."""
        return sum(mag.units for mag in self.checked)

    @property
    def bytes_on_disk(self) -> int:
        """Bytes of the files of these units."""
        return sum(mag.bytes_on_disk for mag in self.checked)

    @property
    def bytes(self) -> int:
        """Bytes of the voxels of these units; 0 where none was decoded."""
        return sum(mag.bytes for mag in self.checked)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "path": self.path,
            "ok": self.ok,
            "digests": self.digests,
            "checked": [asdict(mag) for mag in self.checked],
            "units": self.units,
            "bytes_on_disk": self.bytes_on_disk,
            "bytes": self.bytes,
            "seconds": self.seconds,
            "faults": [fault.to_dict() for fault in self.faults],
            "notes": [note.to_dict() for note in self.notes],
        }

    @property
    def _summary(self) -> str:
        doubt = any(note.kind == "unchecked" for note in self.notes)
        verdict = ("no fault, but see the notes" if doubt else "sound") if self.ok else _counted(len(self.faults), "fault")
        mags = _counted(len(self.checked), "magnification")
        text = f"{self.path}: {verdict}. {_counted(self.units, 'unit')} of {mags} "
        if self.digests:
            return f"{text}compared with their receipts in {self.seconds:.1f} s"
        speed = f" ({format_bytes(self.bytes / self.seconds)}/s)" if self.bytes and self.seconds else ""
        text += f"decoded, {format_bytes(self.bytes_on_disk)} on disk, "
        return f"{text}{format_bytes(self.bytes)} of voxels in {self.seconds:.1f} s{speed}"

    def __str__(self) -> str:
        return "\n".join([*(f"note: {note}" for note in self.notes), *map(str, self.faults), self._summary])

    def _repr_html_(self) -> str:
        findings = [("note: " + note.kind, note) for note in self.notes] + [(fault.kind, fault) for fault in self.faults]
        rows = "".join(_row(kind, found.place, found.path, found.reason) for kind, found in findings[:HTML_ROWS])
        more = len(findings) - HTML_ROWS
        return f"<p>{escape(self._summary)}</p><table>{rows}</table>" + (f"<p>and {more} more</p>" if more > 0 else "")


HTML_ROWS = 100
"""More would make notebooks slow."""


def _row(*cells: str) -> str:
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")
