"""Reading boxes of WKW arrays: runs of blocks that follow each other in a file are read at once, decoded, and placed."""

from __future__ import annotations

import math
import mmap
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from itertools import product
from operator import mul
from typing import TYPE_CHECKING, Any

import numpy as np

from wkdask.errors import DamagedError
from wkdask.formats.codecs import decoder
from wkdask.formats.wkw_file import DataFile, Numbers, numbers_of
from wkdask.formats.wkw_header import CODECS, Header
from wkdask.geometry.grid import Box, Index, Tiling
from wkdask.storage import Location, Stat
from wkdask.storage.local import may_map
from wkdask.storage.location import explained

if TYPE_CHECKING:
    from wkdask.formats.wkw import WkwArray

NEAR_BYTES = {True: (0, 256 << 10), False: (256 << 10, 16 << 20)}
"""Gaps that are read rather than skipped, and bytes that are read at once: locally, what a core's cache holds; on stores, what
takes as long as a request."""
PIECE_BYTES = 4 << 20
"""Decoded blocks that a thread reads at once, where one block is not larger."""
SHARE_BYTES = {False: 16 << 20, True: 4 << 20}
"""Decoded bytes for which another thread pays, of raw and of compressed files."""
THREADS = max(1, min(4, os.cpu_count() or 1))

Array = np.ndarray[Any, Any]
Bytes = bytes | memoryview


def read_box(array: WkwArray, box: Box) -> Array:
    """Read a box that lies within an array, Fortran-ordered; what is not stored is 0."""
    channels = array.spec.chunk[0]
    if box.shape[0] != channels:  # they lie side by side in each voxel
        whole = read_box(array, Box((0, *box.start[1:]), (channels, *box.stop[1:])))
        return np.asfortranarray(whole[box.slices[0]])
    out = np.empty(box.shape, array.spec.dtype, order="F")
    for index, hit in _by_unit(array, box) if out.size else ():
        part = out if hit == box else out[hit.relative_to(box.start).slices]
        file = array.file(index, known=True)
        if file is None:
            part[...] = 0
        else:
            read_file(file, hit.relative_to(tuple(map(mul, index, array.spec.unit))), part)
    return out


def _by_unit(array: WkwArray, box: Box) -> Iterator[tuple[Index, Box]]:
    """Yield the units that a box meets, and what it has of each."""
    cells = box.coarsened(array.spec.unit)
    if cells.size == 1:  # as most are
        yield cells.start, box
        return
    grid = array.spec.grid
    for number in (units := grid.units(box)).covering(box):
        index = units.cell(number)
        yield index, grid.unit_box(index).intersect(box)


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
    """Yield a box of blocks in pieces of limited size, as long along x as may be."""
    left = max(1, limit // block_bytes)
    if cells.size <= left:
        return iter((cells,))
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
    header, room = file.header, np.empty((0, 0, 0), np.uint8)
    row = np.dtype((np.void, header.block * header.itemsize))
    with opened(file) as source:
        for cells in pieces:
            if room.shape[2] != cells.shape[0]:
                room = np.empty((header.block, header.block, cells.shape[0]), row)
            _place(source, cells, box, out, room)


def _place(source: Source, cells: Box, box: Box, out: Array, room: Array) -> None:
    """Decode a box of blocks and place what is wanted of them.

    Blocks that lie behind each other along x are put together first, in ``room``, which a core's cache holds, so that what
    is written to the result is as long as may be. A row of a block is moved as one element of numpy's ``void``: for short rows
    that takes a third of the time of slices.
    """
    edge, columns, row = room.shape[0], room.shape[2], room.dtype
    item = row.itemsize // edge
    begin = max(box.start[1], cells.start[0] * edge) - cells.start[0] * edge
    end = min(box.stop[1], cells.stop[0] * edge) - cells.start[0] * edge
    line = np.dtype((np.void, (end - begin) * item))
    wanted = room.view(np.uint8)[:, :, begin * item : end * item].view(line)[:, :, 0]
    first = cells.start[0] * edge + begin - box.start[1]
    target = out[:, first : first + end - begin].transpose()
    lines = target.reshape(*target.shape[:2], -1, copy=False).view(line)[:, :, 0]
    rows = product(
        _hits(cells.start[2], cells.stop[2], box.start[3], box.stop[3], edge),
        _hits(cells.start[1], cells.stop[1], box.start[2], box.stop[2], edge),
    )
    stored, decode = iter(source.encoded(cells)), source.decoded
    for (at_z, to_z), (at_y, to_y) in rows:
        side_by_side = room[at_z, at_y]
        for column in range(columns):
            side_by_side[:, :, column] = np.ndarray((edge, edge), row, decode(*next(stored)))[at_z, at_y]
        lines[to_z, to_y] = wanted[at_z, at_y]


def _hits(first: int, end: int, start: int, stop: int, edge: int) -> Iterator[tuple[slice, slice]]:
    """Yield what is wanted of each block along an axis: where it lies in the block, and in the result."""
    for i in range(first, end):
        low, high = max(start, i * edge), min(stop, i * edge + edge)
        yield slice(low - i * edge, high - i * edge), slice(low - start, high - start)


def voxels_of(header: Header, raw: bytes | bytearray | memoryview) -> Array:
    """Return decoded bytes of a block, or of some planes of it, as voxels in stored axes."""
    shape = (-1, header.block, header.block, header.channels)
    array: Array = np.frombuffer(raw, np.dtype(header.dtype).newbyteorder("<")).reshape(shape)
    return array.transpose()


@contextmanager
def opened(file: DataFile) -> Iterator[Source]:
    """Give the source of a file's blocks: mapped where that is safe, else read by its descriptor or from its store."""
    place = file.place
    if not place.is_local:
        yield Source(file, lambda start, stop: memoryview(place.read_bytes(start, stop)))
    elif may_map(place.url.rpartition("/")[0]):
        mapped = _mapped(place, file.stat)
        yield Source(file, lambda start, stop: mapped[start:stop], runs=False)
    else:
        with explained(place, "read"), open(place.url, "rb", buffering=0) as descriptor:

            def read(start: int, stop: int) -> memoryview:
                descriptor.seek(start)
                return memoryview(descriptor.read(stop - start))

            yield Source(file, read)


class Source:
    """The stored bytes of a file's blocks.

    Parameters
    ----------
    file
        The file.
    read
        Returns its bytes from a start to a stop.
    runs
        Whether reading several blocks at once pays.
    """

    def __init__(self, file: DataFile, read: Callable[[int, int], memoryview], *, runs: bool = True) -> None:
        self.file, self._read, self._runs = file, read, runs
        self._decode = decoder(CODECS[file.header.kind - 1], file.header.block_bytes) if file.header.compressed else None
        self._gap, self._most = NEAR_BYTES[file.place.is_local]

    def encoded(self, cells: Box) -> Iterable[tuple[int, memoryview]]:
        """Return number and stored bytes of each block of a box, in C order of (z, y, x); see `wkw_file.numbers_of`."""
        numbers = numbers_of(cells)
        if not self._runs:
            starts, ends = self.file.starts(numbers).tolist(), self.file.starts(numbers + 1).tolist()
            return zip(numbers.tolist(), map(self._bytes, starts, ends), strict=True)
        order = numbers.argsort()
        found: list[Any] = [None] * len(numbers)
        for block, data in zip(order.tolist(), self._in_runs(numbers[order]), strict=True):
            found[block] = data
        return zip(numbers.tolist(), found, strict=True)

    def _in_runs(self, numbers: Numbers) -> Iterator[memoryview]:
        """Yield blocks by their ascending numbers; runs of blocks that lie near each other are read at once."""
        starts, ends = self.file.starts(numbers).tolist(), self.file.starts(numbers + 1).tolist()
        first, count = 0, len(starts)
        while first < count:
            last = first
            while (
                last + 1 < count and starts[last + 1] - ends[last] <= self._gap and ends[last + 1] - starts[first] <= self._most
            ):
                last += 1
            base = starts[first]
            data = self._bytes(base, ends[last])
            yield from (
                data[a - base : b - base] for a, b in zip(starts[first : last + 1], ends[first : last + 1], strict=True)
            )
            first = last + 1

    def decoded(self, number: int, data: Bytes) -> Bytes:
        """Return a block that was read, decoded.

        Raises
        ------
        DamagedError
            Where it does not decode to a block's size; the file and the block are named.
        """
        if self._decode is None:
            return data
        try:
            return self._decode(data)
        except DamagedError as error:
            raise DamagedError(f"{self.file.place} is damaged: in block {number}, {error}. Write it again.") from None

    def _bytes(self, start: int, stop: int) -> memoryview:
        data = self._read(start, stop)
        if len(data) != stop - start:
            raise DamagedError(f"{self.file.place} is cut off: it ends before byte {stop}. Write it again.")
        return data


@lru_cache(maxsize=16)
def _mapped(place: Location, stat: Stat) -> memoryview:
    """Return a local file's bytes, mapped: what is wanted is copied once, not twice."""
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
