"""Checking units: decoding all chunks of each piece by piece, or asking each for its size and digest."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from wkdask.errors import DamagedError, InterruptedRunError
from wkdask.formats import ArrayHandle, ArraySpec
from wkdask.formats.trailing import has_trailing
from wkdask.geometry.grid import Box, Index, Tiling
from wkdask.operations.presence import stored_box
from wkdask.plan import FileRecord, Receipt, stop_if_asked
from wkdask.plan.checksum import content_checksum
from wkdask.storage import Location

COPIES = 3
"""Of a piece in memory, at most: its encoded chunks, the decoded ones, and the result."""


@dataclass(frozen=True, slots=True)
class Checked(Receipt):
    """What became of checking one unit: kind and reason of its fault, or neither; the bytes of its file; those decoded."""

    fault: tuple[str, str] | None = None
    stored: int = 0
    decoded: int = 0


@dataclass(frozen=True, slots=True)
class CheckUnits:
    """Checks one unit of an array with each task; see `wkdask.plan.Operation`.

    Parameters
    ----------
    array
        The array.
    units
        Grid coordinates of the units that are stored, one row each.
    piece_bytes
        Decoded bytes to read at once, where one chunk is not larger.
    digests
        Whether units are only asked for size and digest, which the receipts then say.
    content
        Whether their files are read then, too, for the checksum of all bytes.
    """

    array: ArrayHandle
    units: np.ndarray[Any, np.dtype[np.int64]] = field(compare=False, repr=False)
    piece_bytes: int
    digests: bool = False
    content: bool = False

    bytes_out = scratch_needed = parts_bytes = 0

    @property
    def count(self) -> int:
        """Units."""
        return len(self.units)

    @property
    def piece(self) -> Index:
        """Voxels of a piece: whole chunks."""
        return piece_shape(self.array.spec, self.piece_bytes)

    @property
    def bytes_needed(self) -> int:
        """A piece, and the index of a unit."""
        spec = self.array.spec
        index = 2 * 16 * math.prod(spec.grid.chunks_per_unit)
        return index + (0 if self.digests else COPIES * math.prod(self.piece) * spec.itemsize)

    @property
    def bytes_in(self) -> int:
        """Bytes of the units' voxels that lie in the array."""
        if self.digests:
            return 0
        spec = self.array.spec
        start = self.units * np.array(spec.unit, np.int64)
        edges = np.minimum(start + spec.unit, spec.shape) - start
        return int(edges.astype(float).prod(axis=1).sum()) * spec.itemsize

    def index(self, number: int) -> Index:
        """Return the grid coordinate of a task's unit."""
        return tuple(map(int, self.units[number]))

    def box(self, index: Index) -> Box:
        """Return the voxels of a unit that lie in the array, counted from its first."""
        spec = self.array.spec
        return spec.grid.unit_box(index).intersect(spec.grid.box)

    def run(self, stage: int, number: int) -> Receipt:
        """Check one unit; whatever is wrong with it is in the receipt."""
        index, stored, decoded = self.index(number), 0, 0
        files: tuple[FileRecord, ...] = ()
        fault = None
        try:
            stored = self._size(index)
            if self.digests:
                files = self._recorded(index)
            else:
                decoded = self._decode(index)
                self._require_end(index)
        except (InterruptedRunError, MemoryError):
            raise
        except DamagedError as error:
            fault = "damaged", str(error)
        except Exception as error:  # noqa: BLE001 - whatever a library says of one unit, the others go on
            fault = "unreadable", str(error) or type(error).__name__
        checked = 0 if self.digests else self.box(index).size * self.array.spec.itemsize
        return Checked(stage, number, files=files, bytes_in=checked, fault=fault, stored=stored, decoded=decoded)

    def _recorded(self, index: Index) -> tuple[FileRecord, ...]:
        written = self.array.inspect(index)
        if written is None:
            return ()
        place = self.array.unit_location(index)
        record = FileRecord.of(place.name, written)
        return (replace(record, content=content_checksum(place)) if self.content else record,)

    def _decode(self, index: Index) -> int:
        """Decode what is stored of a unit, of a sparse shard that is little however large it is; return its bytes."""
        stored = stored_box(self.array, index)
        box = self.box(index).intersect(stored) if stored else None
        for piece in pieces(box, self.piece) if box else ():
            stop_if_asked()
            self.array.read(piece, keep=False)
        return box.size * self.array.spec.itemsize if box else 0

    def _require_end(self, index: Index) -> None:
        if has_trailing(self.array, index):
            place = self.array.unit_location(index)
            raise DamagedError(f"{place} has bytes behind its data, which readers pass over. Write it again, or restore it.")

    def _size(self, index: Index) -> int:
        """Return the bytes of a unit's file; refuse pipes and devices, which hang, and chunks that would fill the memory."""
        place, spec = self.array.unit_location(index), self.array.spec
        stat = place.stat()
        if stat is None:
            raise DamagedError(f"{place} is no file, but bears the name of one. Restore it.")
        if not stat.size:
            raise DamagedError(f"{place} is empty. Write it again, or restore it.")
        most = 2 * math.prod(spec.unit) * spec.itemsize + (64 << 10)
        if spec.chunk == spec.unit and stat.size > most and self.array.unit_of(self._below(place)) is not None:
            raise DamagedError(
                f"{place} has {stat.size} bytes, expected {most} at most for a chunk of {spec.unit} {spec.dtype}. "
                "Write it again, or restore it."
            )
        return stat.size

    def _below(self, place: Location) -> str:
        return place.url.removeprefix(f"{self.array.location.url}/")

    def dependencies(self, number: int) -> Iterable[tuple[int, int]]:  # noqa: ARG002
        """Return nothing: each unit is checked on its own."""
        return ()

    def consumes(self, number: int) -> Iterable[str]:  # noqa: ARG002
        """Return nothing."""
        return ()

    def retire(self, number: int) -> None:
        """Do nothing."""

    def is_intact(self, record: FileRecord) -> bool:  # noqa: ARG002
        """Return False: nothing that was checked once counts the next time."""
        return False

    def describe(self) -> str:
        """Return what the tasks do."""
        return "sizes and digests" if self.digests else f"decoded in pieces of {self.piece}"


def pieces(box: Box, shape: Index) -> Iterator[Box]:
    """Yield a box in pieces of a shape, aligned to the array's first voxel.

    Examples
    --------
    >>> [piece.start for piece in pieces(Box((0, 8), (4, 20)), (4, 8))]
    [(0, 8), (0, 16)]
    """
    tiles = Tiling(box, shape)
    return (tiles.box(number) for number in range(len(tiles)))


def piece_shape(spec: ArraySpec, limit: int) -> Index:
    """Return the voxels of a piece: a chunk, doubled along each axis in turn while it is smaller than the unit and the limit.

    Examples
    --------
    >>> spec = ArraySpec((1, 1024, 1024, 1024), "uint8", tuple("cxyz"), (1, 32, 32, 32), (1, 1024, 1024, 1024))
    >>> piece_shape(spec, 64 << 20), piece_shape(spec, 1)
    ((1, 512, 512, 256), (1, 32, 32, 32))
    """
    shape, growing = list(spec.chunk), list(range(len(spec.chunk)))
    while growing:
        axis = min(growing, key=lambda i: (shape[i] / spec.chunk[i], i))
        longer = min(2 * shape[axis], spec.unit[axis])
        larger = math.prod(shape) // shape[axis] * longer * spec.itemsize
        if longer == shape[axis] or larger > limit:
            growing.remove(axis)
        else:
            shape[axis] = longer
    return tuple(shape)
