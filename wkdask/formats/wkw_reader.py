"""Reading boxes of WKW arrays: runs of blocks that follow each other in a file are read at once, decoded, and placed."""

from __future__ import annotations

import math
import mmap
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from wkdask.errors import DamagedError
from wkdask.formats.codecs import decode
from wkdask.formats.wkw_file import DataFile, Numbers, in_curve_order
from wkdask.formats.wkw_header import CODECS, Header
from wkdask.geometry.grid import Box, Tiling
from wkdask.storage import Location, Stat
from wkdask.storage.location import explained

if TYPE_CHECKING:
    from wkdask.formats.wkw import WkwArray

PIECE_BYTES = 2 << 20
"""Decoded blocks that a thread holds at once, where one block is not larger."""
GAP_BYTES = 256 << 10
"""On stores, reading so many unwanted bytes takes less time than another request."""
SHARE_BYTES = {False: 16 << 20, True: 1 << 20}
"""Decoded bytes for which another thread pays, of raw and of compressed files."""
THREADS = max(1, min(4, os.cpu_count() or 1))

Array = np.ndarray[Any, Any]
_per_thread = threading.local()


def read_box(array: WkwArray, box: Box) -> Array:
    """Read a box that lies within an array, Fortran-ordered; what is not stored is 0."""
    channels = array.spec.chunk[0]
    if box.shape[0] != channels:  # they lie side by side in each voxel
        whole = read_box(array, Box((0, *box.start[1:]), (channels, *box.stop[1:])))
        return np.asfortranarray(whole[box.slices[0]])
    out = np.empty(box.shape, array.spec.dtype, order="F")
    units = array.spec.grid.units(box)
    for number in units.covering(box):
        index = units.cell(number)
        unit = array.spec.grid.unit_box(index)
        hit = unit.intersect(box)
        part = out[hit.relative_to(box.start).slices]
        file = array.file(index, known=True)
        if file is None:
            part[...] = 0
        else:
            read_file(file, hit.relative_to(unit.start), part)
    return out


def read_file(file: DataFile, box: Box, out: Array) -> None:
    """Read a box of a file's voxels, all channels of them, counted from the file's first voxel, into an array.

    Raises
    ------
    DamagedError
        Naming the file and the block.
    """
    header = file.header
    cells = Box(box.start[1:], box.stop[1:]).coarsened((header.block,) * 3)
    size = cells.size * header.block_bytes
    threads = min(THREADS, size // SHARE_BYTES[header.compressed])
    pieces = _pieces(cells, header.block_bytes, min(PIECE_BYTES, size // (2 * threads) if threads > 1 else size))
    if threads < 2:
        _fill(file, pieces, box, out)
        return
    shared = _Shared(pieces)
    others = [_pool().submit(_fill, file, shared, box, out) for _ in range(threads - 1)]
    try:
        _fill(file, shared, box, out)
    finally:
        failures = [future.exception() for future in others]  # waits for all of them: they write into our array
    for failure in filter(None, failures):
        raise failure


def _pieces(cells: Box, block_bytes: int, limit: int) -> Iterator[Box]:
    """Yield a box of blocks in pieces of limited size."""
    left = max(1, limit // block_bytes)
    if cells.size <= left:
        return iter([cells])
    shape = [1, 1, 1]
    for axis, n in enumerate(cells.shape):
        shape[axis] = max(1, min(n, left // math.prod(shape)))
    tiles = Tiling(cells.relative_to(cells.start), tuple(shape))
    return (tiles.box(number).shifted(cells.start) for number in range(len(tiles)))


class _Shared:
    """An iterator that several threads draw from."""

    def __init__(self, items: Iterator[Box]) -> None:
        self._items, self._lock = items, threading.Lock()

    def __iter__(self) -> Iterator[Box]:
        return self

    def __next__(self) -> Box:
        with self._lock:
            return next(self._items)


def _fill(file: DataFile, pieces: Iterator[Box], box: Box, out: Array) -> None:
    """Read pieces, boxes of blocks, and place them."""
    header = file.header
    source = Source(file)
    for cells in pieces:
        numbers, order = in_curve_order(cells)
        if header.block_bytes > PIECE_BYTES:  # then a piece is one block
            _place_large(source, int(numbers[0]), cells, box, out)
            continue
        if header.compressed:
            blocks = _collected(source.decoded(numbers), len(numbers) * header.block_bytes)
        elif file.place.is_local:
            blocks = source.all_raw()
        else:
            blocks = _collected(source.encoded(numbers), len(numbers) * header.block_bytes)
        slots = np.empty(cells.size, np.intp)
        slots[order] = numbers if blocks.size > cells.size * header.block_bytes else np.arange(cells.size)
        _place(header, blocks, slots.reshape(cells.shape[::-1]), cells, box, out)


def _place(header: Header, blocks: Array, slots: Array, cells: Box, box: Box, out: Array) -> None:
    """Place what is wanted of a box of blocks, whose places among ``blocks`` are in ``slots``, by (z, y, x).

    A row of a block, along x, is moved as one element: for short rows that takes a third of the time of slices.
    """
    edge, row = header.block, header.block * header.itemsize
    low = [max(a, i * edge) for a, i in zip(box.start[1:], cells.start, strict=True)]
    high = [min(b, i * edge) for b, i in zip(box.stop[1:], cells.stop, strict=True)]
    x, y, z = (range(a - i * edge, b - i * edge) for a, b, i in zip(low, high, cells.start, strict=True))
    planes = _rows_of_planes(slots, edge, y)
    rows = _scratch("rows", len(z) * planes.shape[1] * 8).view(np.int64).reshape(len(z), -1)
    for i, plane in enumerate(planes):
        inside = range(max(z.start, i * edge), min(z.stop, i * edge + edge))
        at = slice(inside.start - z.start, inside.stop - z.start)
        np.add(plane, np.arange(inside.start % edge, inside.start % edge + len(inside))[:, None] * edge, out=rows[at])
    found = _scratch("found", rows.size * row)
    kind = np.dtype((np.void, row))
    blocks.view(kind).take(rows, out=found.view(kind).reshape(rows.shape), mode="clip")
    item, line = header.itemsize, np.dtype((np.void, len(x) * header.itemsize))
    wanted = found.reshape(len(z), len(y), -1)[:, :, x.start * item : x.stop * item].view(line)
    target = tuple(slice(a - o, b - o) for a, b, o in zip(low, high, box.start[1:], strict=True))
    lines = out[(slice(None), *target)].transpose().reshape(len(z), len(y), -1, copy=False)
    lines.view(line)[...] = wanted


def _rows_of_planes(slots: Array, edge: int, y: range) -> Array:
    """Return, for the first plane of each layer of blocks, where its rows lie, y by y, and along x."""
    at = np.arange(y.start, y.stop)
    rows = (slots * edge**2)[:, at // edge] + (at % edge)[:, None]
    return rows.reshape(len(slots), -1)


def _collected(blocks: Iterable[bytes | memoryview], size: int) -> Array:
    """Return blocks one after the other; each is moved while the processor still holds it."""
    found = _scratch("blocks", size)
    target, at = found.data, 0
    for block in blocks:
        target[at : at + len(block)] = block
        at += len(block)
    return found


def _scratch(name: str, size: int) -> Array:
    """Return some bytes that this thread uses again and again: fresh ones would cost more than what is done with them."""
    kept: dict[str, Array] = _per_thread.__dict__
    if name not in kept or len(kept[name]) < size:
        kept[name] = np.empty(size, np.uint8)
    return kept[name][:size]


def _place_large(source: Source, number: int, cells: Box, box: Box, out: Array) -> None:
    """Place what is wanted of one block, with no copy in between."""
    [data] = source.decoded([number])
    edge = source.file.header.block
    region = cells.refined((edge,) * 3)
    hit = region.intersect(Box(box.start[1:], box.stop[1:]))
    target = hit.relative_to(box.start[1:]).slices
    out[(slice(None), *target)] = voxels_of(source.file.header, data)[(slice(None), *hit.relative_to(region.start).slices)]


def voxels_of(header: Header, raw: bytes | bytearray | memoryview) -> Array:
    """Return decoded bytes of a block, or of some planes of it, as voxels in stored axes."""
    shape = (-1, header.block, header.block, header.channels)
    array: Array = np.frombuffer(raw, np.dtype(header.dtype).newbyteorder("<")).reshape(shape)
    return array.transpose()


class Source:
    """The stored bytes of a file's blocks."""

    def __init__(self, file: DataFile) -> None:
        self.file = file
        self._mapped = _mapped(file.place, file.stat) if file.place.is_local else None

    def all_raw(self) -> Array:
        """Return all blocks of a raw local file, none of which is read yet."""
        header = self.file.header
        return np.frombuffer(self._bytes(header.offset, header.offset + header.block_count * header.block_bytes), np.uint8)

    def encoded(self, numbers: Sequence[int] | Numbers) -> Iterator[memoryview]:
        """Yield blocks as they are stored; on stores, runs of blocks that lie near each other are read at once."""
        wanted = np.asarray(numbers)
        at = list(zip(self.file.starts(wanted).tolist(), self.file.starts(wanted + 1).tolist(), strict=True))
        if self._mapped is not None:
            yield from (self._mapped[a:b] for a, b in at)
            return
        cuts = [n for n in range(1, len(at)) if at[n][0] - at[n - 1][1] > GAP_BYTES or at[n][1] - at[0][0] > 8 * PIECE_BYTES]
        for i, k in zip([0, *cuts], [*cuts, len(at)], strict=True):
            first = at[i][0]
            data = self._bytes(first, at[k - 1][1])
            yield from (data[a - first : b - first] for a, b in at[i:k])

    def decoded(self, numbers: Sequence[int] | Numbers) -> Iterator[bytes | memoryview]:
        """Yield decoded blocks.

        Raises
        ------
        DamagedError
            Where one does not decode to a block's size; the file and the block are named.
        """
        codec, size = CODECS[self.file.header.kind - 1], self.file.header.block_bytes
        for number, data in zip(numbers, self.encoded(numbers), strict=True):
            try:
                yield decode(codec, data, size)
            except DamagedError as error:
                raise DamagedError(f"{self.file.place} is damaged: in block {number}, {error}. Write it again.") from None

    def _bytes(self, start: int, stop: int) -> memoryview:
        data = memoryview(self.file.place.read_bytes(start, stop)) if self._mapped is None else self._mapped[start:stop]
        if len(data) != stop - start:
            raise DamagedError(f"{self.file.place} is cut off: it ends before byte {stop}. Write it again.")
        return data


@lru_cache(maxsize=16)
def _mapped(place: Location, stat: Stat) -> memoryview:
    """Return a local file's bytes, mapped: what is not wanted is not read, and what is wanted is copied once."""
    with explained(place, "read"), open(place.url, "rb") as file:
        if os.fstat(file.fileno()).st_size < stat.size:
            raise DamagedError(f"{place} was just made shorter than its {stat.size} bytes. Read it again.")
        return memoryview(mmap.mmap(file.fileno(), stat.size, access=mmap.ACCESS_READ))


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    """Return the threads that decode for all readers of this process; their work waits for nothing, so they always go on."""
    return ThreadPoolExecutor(THREADS, "wkdask-wkw")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # its threads stayed behind
