"""Writing units and parts of units, for formats whose units are files of encoded chunks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from operator import mul
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np

from wkdask.errors import InputError
from wkdask.formats.codecs import encoder
from wkdask.formats.shard import NOTHING, morton_order
from wkdask.formats.spec import ArrayHandle, ArraySpec, Written
from wkdask.geometry.grid import Box, Index
from wkdask.storage import Location
from wkdask.storage.location import Writer, explained

GROUP_BYTES = 4 << 20
"""Chunks that are copied at once where two along each axis are not more."""


class Chunks(Protocol):
    """Collects the encoded chunks of a unit or part, by their numbers, and publishes them as one file."""

    def append(self, chunk: int, data: bytes | memoryview) -> None:
        """Add a chunk by its number in the unit."""
        ...

    def publish(self) -> Written:
        """Publish the file; where it would hold nothing, that may be none."""
        ...

    def close(self) -> None:
        """Let go of what was collected, published or not."""
        ...


@runtime_checkable
class Runs(Protocol):
    """Chunks that all have the same size, so that several that follow each other are appended at once."""

    def append_run(self, first: int, data: memoryview) -> None:
        """Add chunks by the number of the first."""
        ...


class UnitFile:
    """The writer of one unit, or of a part of one; see `wkdask.formats.spec.UnitWriter`.

    After the ``with`` block `written` says what was published. Chunks that are zero throughout are not stored; a unit without
    any chunk leaves no file, and removes the one that was there.

    Parameters
    ----------
    spec, index, place, scratch
        Of the array, of the unit, of its file, and of the unfinished file.
    chunks
        Makes the file's content, given the writer of its bytes.
    number
        Returns a chunk's number in its unit, by its coordinate in the unit.
    """

    def __init__(
        self,
        spec: ArraySpec,
        index: Sequence[int],
        place: Location,
        scratch: Location | None,
        chunks: Callable[[Writer], Chunks],
        number: Callable[[Sequence[int]], int],
    ) -> None:
        self._spec, self._index, self._place, self._scratch = spec, tuple(index), place, scratch
        self._chunks, self._number = chunks, number
        self._per_unit = spec.grid.chunks_per_unit
        self._stack = ExitStack()
        self.written = NOTHING

    def __enter__(self) -> Self:
        self._encode = encoder(self._spec.codec)
        self._file = self._chunks(self._stack.enter_context(self._place.writer(self._scratch)))
        self._run = self._file.append_run if isinstance(self._file, Runs) else None
        self._stack.callback(self._file.close)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._stack:
            if kind is not None:
                return
            self.written = self._file.publish()
        if not self.written.size and self._place.is_file():
            self._place.delete()

    def put(self, region: Box, block: np.ndarray[Any, Any]) -> None:
        """Encode and append whole chunks.

        Parameters
        ----------
        region
            Voxels of the array. Chunks that it does not fill are filled up with 0, so it must be all that is written of them.
        block
            Its voxels, in stored axes.
        """
        require_fit(block, region, self._spec.dtype)
        with explained(self._place, "written"):
            for cells, voxels in _gathered(region, block.transpose(), self._spec.chunk):
                kept = [n for n, first in enumerate(voxels[:, 0].tolist()) if first or _any(voxels[n])]
                numbers = [self.number(cells[n]) for n in kept]
                if self._run and numbers and numbers == list(range(numbers[0], numbers[0] + len(cells))):
                    self._run(numbers[0], voxels.reshape(-1).data)
                    continue
                for n, number in zip(kept, numbers, strict=True):
                    self._file.append(number, self._encode(voxels[n].data))

    def put_encoded(self, chunk: Sequence[int], data: bytes | memoryview) -> None:
        """Append a chunk, by its coordinate in the array, as it lies on disk."""
        with explained(self._place, "written"):
            self._file.append(self.number(chunk), data)

    def number(self, cell: Sequence[int]) -> int:
        """Return a chunk's number in its unit, by its coordinate in the array."""
        inside = []
        for i, n, u in zip(cell, self._per_unit, self._index, strict=True):
            if i // n != u:
                raise InputError(f"Chunk {tuple(cell)} is not of unit {self._index}. Give each unit its own chunks.")
            inside.append(i % n)
        return self._number(inside)


def _gathered(
    region: Box, stored: np.ndarray[Any, Any], chunk: Index
) -> Iterator[tuple[list[Index], np.ndarray[Any, np.dtype[np.uint8]]]]:
    """Yield the chunks that a region meets, along the Z-order curve: their coordinates, and the bytes of each as one row.

    Two chunks along each axis follow each other on the curve, and are copied at once: their rows lie side by side in the
    region, so that each of its cache lines is fetched once. The rows that are yielded are overwritten by the next.

    Parameters
    ----------
    region
        Voxels of the array. What it lacks of its chunks is 0.
    stored
        Its voxels, in reversed axes.
    chunk
        Voxels of a chunk.
    """
    item = stored.itemsize * math.prod(chunk)
    pair = 2 if item << len(chunk) <= GROUP_BYTES else 1
    cells = region.coarsened(chunk)
    groups = cells.coarsened((pair,) * len(chunk))
    ranges = [
        [range(max(i * pair, a), min(i * pair + pair, b)) for i in range(first, end)]
        for a, b, first, end in zip(cells.start, cells.stop, groups.start, groups.stop, strict=True)
    ]
    room = np.empty(item * pair ** len(chunk), np.uint8)
    edges, origin = chunk[::-1], region.start[::-1]
    for group in in_morton_order(groups):
        some = [along[i - first] for along, i, first in zip(ranges, group, groups.start, strict=True)][::-1]
        counts = [len(r) for r in some]
        start = [r.start * edge - a for r, edge, a in zip(some, edges, origin, strict=True)]
        voxels = _padded(stored, start, tuple(map(mul, counts, edges)))
        voxels = voxels.reshape([n for both in zip(counts, edges, strict=True) for n in both], copy=False)
        voxels = voxels.transpose(*range(0, voxels.ndim, 2), *range(1, voxels.ndim, 2))
        rows = room[: voxels.nbytes].reshape(-1, item)
        axis = _row_axis(voxels)
        np.copyto(_rows(rows.view(stored.dtype).reshape(voxels.shape), axis), _rows(voxels, axis))
        yield [cell[::-1] for cell in itertools.product(*some)], rows  # of two along each axis: the curve's order


def _padded(stored: np.ndarray[Any, Any], start: Sequence[int], shape: Index) -> np.ndarray[Any, Any]:
    """Return a box of an array that may begin before it and end behind it; what lies outside is 0."""
    found = stored[tuple([slice(max(0, a), a + n) for a, n in zip(start, shape, strict=True)])]
    if found.shape == shape:
        return found
    whole = np.zeros(shape, stored.dtype)
    whole[tuple([slice(max(0, -a), max(0, -a) + n) for a, n in zip(start, found.shape, strict=True)])] = found
    return whole


def _row_axis(array: np.ndarray[Any, Any]) -> int:
    """Return the first of the last axes along which elements lie side by side."""
    axis, size = array.ndim, array.itemsize
    while axis and (array.strides[axis - 1] == size or array.shape[axis - 1] == 1):
        axis -= 1
        size *= array.shape[axis]
    return axis


def _rows(array: np.ndarray[Any, Any], axis: int) -> np.ndarray[Any, Any]:
    """Return an array whose elements from an axis on are one element: numpy copies short rows faster that way."""
    rows = array.reshape(*array.shape[:axis], -1, copy=False)
    return rows.view(np.dtype((np.void, rows.shape[-1] * rows.itemsize)))


def require_fit(block: np.ndarray[Any, Any], box: Box, dtype: str) -> None:
    """Refuse a block that has another shape or dtype than what it is written to."""
    if block.shape != box.shape or block.dtype != dtype:
        raise InputError(f"A block of {block.shape} {block.dtype} is not one of {box.shape} {dtype}. Cut or cast it.")


def _any(flat: np.ndarray[Any, np.dtype[np.uint8]]) -> bool:
    """Whether any bit is set; -0.0 counts as a value."""
    return bool((flat.view(np.uint64) if flat.size % 8 == 0 else flat).any())


class StoredUnit(Protocol):
    """The chunks of a unit as they are stored now."""

    def encoded(self, cell: Index) -> bytes | None:
        """Return a chunk, by its coordinate in the array, as it lies on disk; None where it is not stored."""
        ...

    def decoded(self, cell: Index) -> np.ndarray[Any, Any] | None:
        """Return the voxels of a whole chunk; None where it is not stored."""
        ...


def merge_unit(array: ArrayHandle, index: Index, box: Box, block: np.ndarray[Any, Any], stored: StoredUnit) -> None:
    """Write the voxels of a box that lie in one unit, and keep all others of the unit; the caller holds its lock."""
    grid = array.spec.grid
    chunks = grid.chunks(grid.unit_box(index).intersect(grid.box))
    with array.unit(index, array.scratch) as out:
        for cell in in_morton_order(chunks.cells):
            region = grid.chunks().box_at(cell)
            hit = region.intersect(box)
            if not hit.size:
                data = stored.encoded(cell)
                if data is not None:
                    out.put_encoded(cell, data)
                continue
            voxels = np.zeros(region.shape, array.spec.dtype, order="F")
            whole = stored.decoded(cell) if hit != region else None
            if whole is not None:
                voxels[...] = whole[tuple(map(slice, region.shape))]
            voxels[hit.relative_to(region.start).slices] = block[hit.relative_to(box.start).slices]
            out.put(region, voxels)


def in_morton_order(cells: Box) -> list[Index]:
    """Return all coordinates of a box of cells, along the Z-order curve."""
    found = list(itertools.product(*map(range, cells.start, cells.stop)))
    return [found[i] for i in morton_order(found)]
