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
from wkdask.formats.wkw_blocks import block_decoder
from wkdask.formats.wkw_file import DataFile, Numbers, numbers_of
from wkdask.formats.wkw_header import Header
from wkdask.geometry.grid import Box, Index, Tiling
from wkdask.storage import Location, Stat
from wkdask.storage.explained import explained
from wkdask.storage.local import may_map

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
Flat = np.ndarray[tuple[int], np.dtype[np.uint8]]
Stored = tuple[int, int, int]
"""A block's number, and address and size of its stored bytes."""
Hit = tuple[slice, slice]
"""What is wanted of a block along an axis: where it lies in the block, and in the result."""


def read_box(array: WkwArray, box: Box) -> Array:
    """Read a box that lies within an array, Fortran-ordered; what is not stored is 0."""
    channels = array.spec.chunk[0]
    if box.shape[0] != channels:  # they lie side by side in each voxel
        whole = read_box(array, Box((0, *box.start[1:]), (channels, *box.stop[1:])))
        return np.asfortranarray(whole[box.slices[0]])
    out = np.empty(box.shape, array.spec.dtype, order="F")
    for index, hit in by_unit(array, box) if out.size else ():
        part = out if hit == box else out[hit.relative_to(box.start).slices]
        file = array.file(index, known=True)
        if file is None:
            part[...] = 0
        else:
            read_file(file, hit.relative_to(tuple(map(mul, index, array.spec.unit))), part)
    return out


def named(place: Location, number: int, error: DamagedError) -> DamagedError:
    """Return an error about a block's bytes that names the file and the block."""
    return DamagedError(f"{place} is damaged: in block {number}, {error}. Write it again.")


def by_unit(array: WkwArray, box: Box) -> Iterator[tuple[Index, Box]]:
    """Yield the units that a box meets, and what it has of each."""
    cells = box.coarsened(array.spec.unit)
    if cells.size == 1:  # as most are
        yield cells.start, box
        return
    grid = array.spec.grid
    for index in grid.units(box).cells_of():
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
    room: _Room | None = None
    with opened(file) as source:
        for cells in pieces:
            if room is None or room.columns != cells.shape[0]:
                room = _Room(file.header, cells.shape[0])
            _place(source, cells, box, out, room)


class _Room:
    """Where blocks that lie behind each other along x are decoded, and then put side by side, in what a core's cache holds.

    Parameters
    ----------
    header
        Of their file.
    columns
        How many they are.
    """

    def __init__(self, header: Header, columns: int) -> None:
        edge = header.block
        row = np.dtype((np.void, edge * header.itemsize))
        self.edge, self.columns, self.row_bytes, self.block_bytes = edge, columns, row.itemsize, header.block_bytes
        self.blocks = np.empty(columns * edge * edge, row)
        self.address: int = self.blocks.ctypes.data
        self._rows, self._decoded = _indexes(edge, columns)
        self._index = np.empty(self._rows.size, np.intp)
        self._side_by_side = np.empty(self._rows.size, row)

    def decoded(self, planes: slice, lines: slice) -> Array:
        """Return the bytes of some lines of some planes of the decoded blocks side by side, in order (z, y, x)."""
        return self._taken(self.blocks, self._decoded[planes, lines])

    def raw(self, blocks: Array, numbers: Numbers, planes: slice, lines: slice) -> Array:
        """Return the same of blocks that lie elsewhere, by the number of each column's."""
        rows = self._rows[planes, lines]
        index = self._index[: rows.size].reshape(len(rows), -1)
        np.add(rows.reshape(index.shape), np.tile(numbers * (self.edge * self.edge), rows.shape[1]), index)
        return self._taken(blocks, index.reshape(rows.shape))

    def _taken(self, blocks: Array, index: Array) -> Array:
        """Return rows of blocks.

        A row is moved as one element of numpy's ``void``: gathered by an index, short rows take a fourth of the time that they
        take by slices.
        """
        found = self._side_by_side[: index.size].reshape(index.shape)
        blocks.take(index, None, found, "clip")
        return found.view(np.uint8)


@lru_cache(maxsize=64)
def _indexes(edge: int, columns: int) -> tuple[Array, Array]:
    """Return, for each row of blocks side by side, its number in its block, and where blocks lie behind each other."""
    rows = np.arange(edge * edge).repeat(columns).reshape(edge, edge, columns)
    return rows, rows + np.arange(columns) * (edge * edge)


def _place(source: Source, cells: Box, box: Box, out: Array, room: _Room) -> None:
    """Decode a box of blocks and place what is wanted of them, blocks that lie behind each other along x at once."""
    edge, row = room.edge, room.row_bytes
    item = row // edge
    begin = max(box.start[1], cells.start[0] * edge) - cells.start[0] * edge
    end = min(box.stop[1], cells.stop[0] * edge) - cells.start[0] * edge
    line = np.dtype((np.void, (end - begin) * item))
    first = cells.start[0] * edge + begin - box.start[1]
    target = out[:, first : first + end - begin].transpose()
    lines = target.reshape(*target.shape[:2], -1, copy=False).view(line)[:, :, 0]
    rows = list(
        product(
            _hits(cells.start[2], cells.stop[2], box.start[3], box.stop[3], edge),
            _hits(cells.start[1], cells.stop[1], box.start[2], box.stop[2], edge),
        )
    )
    for ((_, to_z), (_, to_y)), found in zip(rows, _side_by_side(source, cells, rows, room), strict=True):
        lines[to_z, to_y] = found[:, :, begin * item : end * item].view(line)[:, :, 0]


def _side_by_side(source: Source, cells: Box, rows: Iterable[tuple[Hit, Hit]], room: _Room) -> Iterator[Array]:
    """Yield the wanted bytes of blocks that lie behind each other along x, in order (z, y, x), until the next.

    Those of mapped raw files are taken from where they lie, others are decoded first.
    """
    edge, row = room.edge, room.row_bytes
    if source.raw is not None:
        numbers = numbers_of(cells).reshape(-1, room.columns)
        blocks = source.raw.view(room.blocks.dtype)
        for ((at_z, _), (at_y, _)), few in zip(rows, numbers, strict=True):
            yield room.raw(blocks, few, at_z, at_y)
        return
    stored, decode = iter(source.encoded(cells)), source.decode
    places = range(room.address, room.address + room.columns * room.block_bytes, room.block_bytes)
    for (at_z, _), (at_y, _) in rows:
        start, stop = (at_z.start * edge + at_y.start) * row, ((at_z.stop - 1) * edge + at_y.stop) * row
        decode(stored, places, start, stop)
        yield room.decoded(at_z, at_y)


def _hits(first: int, end: int, start: int, stop: int, edge: int) -> Iterator[Hit]:
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
        yield Source(file, place.read_bytes)
    elif may_map(place.url.rpartition("/")[0]):
        yield Source(file, _mapped(place, file.stat))
    else:
        with explained(place, "read"), open(place.url, "rb", buffering=0) as descriptor:

            def read(start: int, stop: int) -> bytes:
                descriptor.seek(start)
                return descriptor.read(stop - start)

            yield Source(file, read)


class Source:
    """The stored bytes of a file's blocks.

    Parameters
    ----------
    file
        The file.
    content
        All its bytes, mapped, or what returns them from a start to a stop.
    """

    def __init__(self, file: DataFile, content: Flat | Callable[[int, int], bytes]) -> None:
        self.file, self._content = file, content
        self._decode = block_decoder(file.header)
        self._gap, self._most = NEAR_BYTES[file.place.is_local]
        self._held: list[Flat] = []
        self.raw: Flat | None = None
        """All blocks of a raw file, which was found to hold them, where they are mapped."""
        header = file.header
        if isinstance(content, np.ndarray) and not header.compressed:
            self.raw = content[header.offset : header.offset + header.block_count * header.block_bytes]

    def encoded(self, cells: Box) -> Iterable[Stored]:
        """Return where the stored bytes of each block of a box are, until the next call, in C order of (z, y, x)."""
        numbers = numbers_of(cells)
        starts, stops = self.file.starts(numbers), self.file.starts(numbers + 1)
        if isinstance(self._content, np.ndarray):
            if stops.max() > len(self._content):
                raise self._cut_off(int(stops.max()))
            addresses = starts + self._content.ctypes.data
        else:
            order = numbers.argsort()
            addresses = np.empty_like(starts)
            addresses[order] = self._fetched(self._content, starts[order].tolist(), stops[order].tolist())
        return zip(numbers.tolist(), addresses.tolist(), (stops - starts).tolist(), strict=True)

    def _fetched(self, read: Callable[[int, int], bytes], starts: list[int], stops: list[int]) -> list[int]:
        """Read blocks, those that lie near each other at once, and return their addresses."""
        first, count = 0, len(starts)
        addresses: list[int] = []
        self._held = []
        while first < count:
            last, base = first, starts[first]
            while last + 1 < count and starts[last + 1] - stops[last] <= self._gap and stops[last + 1] - base <= self._most:
                last += 1
            data = np.frombuffer(read(base, stops[last]), np.uint8)
            if len(data) != stops[last] - base:
                raise self._cut_off(stops[last])
            self._held.append(data)
            address = data.ctypes.data
            addresses += [address + start - base for start in starts[first : last + 1]]
            first = last + 1
        return addresses

    def decode(self, stored: Iterator[Stored], targets: Iterable[int], start: int, stop: int) -> None:
        """Decode at least some bytes of the next blocks to their places in memory for all of each; see `wkw_blocks.Decode`.

        Raises
        ------
        DamagedError
            Where one does not hold them; the file and the block are named.
        """
        decode, number = self._decode, -1
        try:
            for target in targets:
                number, address, size = next(stored)
                decode(address, size, target, start, stop)
        except DamagedError as error:
            raise named(self.file.place, number, error) from None

    def _cut_off(self, stop: int) -> DamagedError:
        return DamagedError(f"{self.file.place} is cut off: it ends before byte {stop}. Write it again.")


@lru_cache(maxsize=16)
def _mapped(place: Location, stat: Stat) -> Flat:
    """Return a local file's bytes, mapped: what is wanted is copied once, not twice."""
    with explained(place, "read"), open(place.url, "rb") as file:
        if os.fstat(file.fileno()).st_size < stat.size:
            raise DamagedError(f"{place} was just made shorter than its {stat.size} bytes. Read it again.")
        return np.frombuffer(mmap.mmap(file.fileno(), stat.size, access=mmap.ACCESS_READ), np.uint8)


def close_files() -> None:
    """Close the files that are kept open because they may be read again; each is closed when its last reader ends."""
    _mapped.cache_clear()


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    """Return the threads that decode for all readers of this process; their work waits for nothing, so they always go on."""
    return ThreadPoolExecutor(THREADS, "wkdask-wkw")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # its threads stayed behind
