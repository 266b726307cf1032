"""Writing units and parts of units, for formats whose units are files of encoded chunks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from wkdask.storage.explained import explained
from wkdask.storage.location import Writer

GROUP_BYTES = 4 << 20
"""Chunks that are copied at once where two along each axis are not more."""
ROW_BYTES = 16
"""Rows that an index is worth while for; it takes 8 bytes for each."""


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
    """Chunks of one size, numbered along the Z-order curve, so that several that follow each other are appended at once."""

    def append_run(self, first: int, data: memoryview) -> None:
        """Add chunks by the number of the first."""
        ...


@runtime_checkable
class Ordered(Protocol):
    """Chunks that can be laid out at once if they come by ascending numbers."""

    def expect_ascending(self) -> None:
        """Lay out what comes from now on as it comes, unless there were chunks before."""
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
        self._whole = spec.grid.unit_box(self._index).intersect(spec.grid.box)
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
            if isinstance(self._file, Ordered) and region.intersect(self._whole) == self._whole:
                self._file.expect_ascending()
            for cells, voxels in _gathered(region, block.transpose(), self._spec.chunk, 4 if self._run else 2):
                kept = [n for n, first in enumerate(voxels[:, 0].tolist()) if first or _any(voxels[n])]
                if self._run and len(kept) == len(cells):  # along the curve, so that the ends tell whether there are gaps
                    first = self.number(cells[0])
                    if self.number(cells[-1]) == first + len(cells) - 1:
                        self._run(first, voxels.reshape(-1).data)
                        continue
                for n in kept:
                    self._file.append(self.number(cells[n]), self._encode(voxels[n].data))

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
    region: Box, stored: np.ndarray[Any, Any], chunk: Index, most: int = 2
) -> Iterator[tuple[list[Index], np.ndarray[Any, np.dtype[np.uint8]]]]:
    """Yield the chunks that a region meets, along the Z-order curve: their coordinates, and the bytes of each as one row.

    Two or four chunks along each axis follow each other on the curve, and are copied at once: their rows lie side by side in
    the region, so that each of its cache lines is fetched once. The rows that are yielded are overwritten by the next.

    Parameters
    ----------
    region
        Voxels of the array. What it lacks of its chunks is 0.
    stored
        Its voxels, in reversed axes.
    chunk
        Voxels of a chunk.
    most
        Chunks along each axis that are copied at once, where they are not too large: 1, 2 or 4.
    """
    item = stored.itemsize * math.prod(chunk)
    cells = region.coarsened(chunk)
    while most > 1 and item * math.prod(min(n, most) for n in cells.shape) > GROUP_BYTES:
        most //= 2
    room = np.empty(item * math.prod(min(n, most) for n in cells.shape), np.uint8)
    edges, origin = chunk[::-1], region.start[::-1]
    indexes: dict[Any, np.ndarray[Any, Any] | None] = {}
    for group in _groups(cells, most):
        first, counts = group.start[::-1], group.shape[::-1]
        start = [i * edge - a for i, edge, a in zip(first, edges, origin, strict=True)]
        voxels = _padded(stored, start, tuple(map(mul, counts, edges)))
        halves = [(2, 2) if n == 4 else (1, n) for n in counts]  # the curve passes through one half after the other
        voxels = voxels.reshape(
            [n for (high, low), edge in zip(halves, edges, strict=True) for n in (high, low, edge)], copy=False
        )
        voxels = voxels.transpose([i for k in range(3) for i in range(k, voxels.ndim, 3)])
        rows = room[: voxels.nbytes].reshape(-1, item)
        _copy_rows(rows.view(stored.dtype).reshape(voxels.shape), voxels, indexes)
        highs, lows = ([range(pair[k]) for pair in halves] for k in range(2))
        yield (
            [
                tuple([i + 2 * h + n for i, h, n in zip(first, high, low, strict=True)])[::-1]
                for high in itertools.product(*highs)
                for low in itertools.product(*lows)
            ],
            rows,
        )


def _groups(cells: Box, most: int) -> Iterator[Box]:
    """Yield a box of cells in groups of one, two or four along each axis, which lie on the Z-order curve one after the other.

    Examples
    --------
    >>> [(group.start, group.shape) for group in _groups(Box((0, 0), (6, 1)), 4)]
    [((0, 0), (4, 1)), ((4, 0), (2, 1))]
    """
    shape = (most,) * len(cells.start)
    for at in in_morton_order(cells.coarsened(shape)):
        group = Box(at, tuple(i + 1 for i in at)).refined(shape).intersect(cells)
        if any(n == 3 or (n == 2 and a % 2) for a, n in zip(group.start, group.shape, strict=True)):
            yield from _groups(group, 2)
        else:
            yield group


def _padded(stored: np.ndarray[Any, Any], start: Sequence[int], shape: Index) -> np.ndarray[Any, Any]:
    """Return a box of an array that may begin before it and end behind it; what lies outside is 0."""
    found = stored[tuple([slice(max(0, a), a + n) for a, n in zip(start, shape, strict=True)])]
    if found.shape == shape:
        return found
    whole = np.zeros(shape, stored.dtype)
    whole[tuple([slice(max(0, -a), max(0, -a) + n) for a, n in zip(start, found.shape, strict=True)])] = found
    return whole


def _copy_rows(
    out: np.ndarray[Any, Any], voxels: np.ndarray[Any, Any], indexes: dict[Any, np.ndarray[Any, Any] | None]
) -> None:
    """Copy voxels into a contiguous array, by rows of those that lie side by side.

    Numpy gathers short rows by an index in a third of the time that it takes by strides. ``indexes`` keeps those that were
    made, by the layout that they are for.
    """
    axis = _row_axis(voxels)
    rows = _rows(voxels, axis)
    layout = rows.shape, rows.strides
    if layout not in indexes:
        indexes[layout] = _row_index(rows)
    index = indexes[layout]
    if index is None:
        np.copyto(_rows(out, axis), rows)
        return
    between = np.lib.stride_tricks.as_strided(rows, (int(index[-1]) + 1,), (rows.itemsize,))  # from the first to the last row
    between.take(index, None, out.reshape(-1).view(rows.dtype), "clip")


def _row_index(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
    """Return where the elements of an array lie in memory, counted in elements from the first; None where they do not so."""
    size = rows.itemsize
    if size < ROW_BYTES or rows.size < 2 or any(stride < 0 or stride % size for stride in rows.strides):
        return None
    at = np.zeros(1, np.intp)
    for stride, n in zip(rows.strides, rows.shape, strict=True):
        at = np.add.outer(at, np.arange(n) * (stride // size))
    return at.reshape(-1)


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

    def cells(self) -> Iterable[Index]:
        """Return the coordinates, in the array, of those that may be stored."""
        ...

    def encoded(self, cell: Index) -> bytes | None:
        """Return a chunk, by its coordinate in the array, as it lies on disk; None where it is not stored."""
        ...

    def decoded(self, cell: Index) -> np.ndarray[Any, Any] | None:
        """Return the voxels of a whole chunk; None where it is not stored."""
        ...


def merge_unit(array: ArrayHandle, index: Index, box: Box, block: np.ndarray[Any, Any], stored: StoredUnit) -> None:
    """Write the voxels of a box that lie in one unit, and keep all others of the unit; the caller holds its lock.

    Chunks beyond the array's end, which were left there when it was larger, are not kept.
    """
    grid = array.spec.grid
    chunks = grid.chunks(grid.unit_box(index).intersect(grid.box))
    start, stop = chunks.cells.start, chunks.cells.stop
    wanted = {cell for cell in stored.cells() if all(a <= i < b for a, i, b in zip(start, cell, stop, strict=True))}
    if not _is_fill(block, array.spec):  # which changes nothing where nothing is stored
        wanted.update(chunks.cells_of(box))
    cells = sorted(wanted)
    with array.unit(index, array.scratch) as out:
        for cell in (cells[i] for i in morton_order(cells)):
            region = chunks.box_at(cell)
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


def _is_fill(block: np.ndarray[Any, Any], spec: ArraySpec) -> bool:
    """Whether a block is one voxel's value, all over by its strides, and that of voxels that are not stored."""
    return not any(block.strides) and block.size > 0 and block.flat[0].tobytes() == np.asarray(spec.fill, spec.dtype).tobytes()


def in_morton_order(cells: Box) -> list[Index]:
    """Return all coordinates of a box of cells, along the Z-order curve."""
    found = list(itertools.product(*map(range, cells.start, cells.stop)))
    return [found[i] for i in morton_order(found)]
