"""Reading boxes of WKW arrays: runs of blocks that follow each other in a file are read at once, decoded, and placed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from wkdask.errors import DamagedError
from wkdask.formats.codecs import decode
from wkdask.formats.wkw_file import DataFile, in_curve_order
from wkdask.formats.wkw_header import CODECS, Header
from wkdask.geometry.grid import Box
from wkdask.storage import Location
from wkdask.storage.location import explained

if TYPE_CHECKING:
    from wkdask.formats.wkw import WkwArray

RUN_BYTES = 4 << 20
"""Blocks that are fetched at once; all threads together hold a few times as much."""
GAP_BYTES = 256 << 10
"""On stores, reading so many unwanted bytes takes less time than another request."""
SHARE_BYTES = 1 << 20
"""Decoded bytes for which another thread pays."""
THREADS = max(1, min(4, (os.cpu_count() or 1)))

Array = np.ndarray[Any, Any]
Fetch = Callable[[int, int], bytes | memoryview]


def read_box(array: WkwArray, box: Box) -> Array:
    """Read a box that lies within an array, Fortran-ordered; what is not stored is 0."""
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
    """Read a box of a file's voxels, in stored axes and counted from the file's first voxel, into an array.

    Raises
    ------
    DamagedError
        Naming the file and the block.
    """
    header = file.header
    xyz = Box(box.start[1:], box.stop[1:])
    numbers, cells = in_curve_order(xyz.coarsened((header.block,) * 3))
    runs = list(_runs(file, numbers))
    target = _Target(file, numbers.tolist(), cells.tolist(), box, out)
    threads = min(THREADS, len(runs), 1 + len(numbers) * header.block_bytes // SHARE_BYTES) if header.compressed else 1
    if threads < 2:
        target.fill(runs)
        return
    others = [_submit(target.fill, runs[n::threads]) for n in range(1, threads)]
    try:
        target.fill(runs[::threads])
    finally:
        failures = [future.exception() for future in others]  # waits for all of them: they write into our array
    for failure in filter(None, failures):
        raise failure


def _runs(file: DataFile, numbers: Array) -> Iterator[tuple[int, int]]:
    """Yield slices of ascending block numbers whose bytes lie side by side, or nearly so on stores, of limited size."""
    breaks = np.flatnonzero(np.diff(numbers) > 1) + 1
    if file.ends is None:
        starts, stops = (file.header.offset + (numbers + n) * file.header.block_bytes for n in (0, 1))
    else:
        starts, stops = file.ends[numbers], file.ends[numbers + 1]
    if not file.place.is_local:
        breaks = breaks[starts[breaks] - stops[breaks - 1] > GAP_BYTES]
    for first, last in zip((0, *breaks.tolist()), (*breaks.tolist(), len(numbers)), strict=True):
        a = first
        while a < last:
            b = max(a + 1, a + int(np.searchsorted(stops[a:last], starts[a] + RUN_BYTES, "right")))
            yield a, b
            a = b


class _Target:
    """An array that blocks of a file are placed in."""

    def __init__(self, file: DataFile, numbers: list[int], cells: list[list[int]], box: Box, out: Array) -> None:
        self._file, self._numbers, self._cells, self._box, self._out = file, numbers, cells, box, out
        header = file.header
        self._dtype = np.dtype(header.dtype).newbyteorder("<")
        self._shape = (header.block, header.block, header.block, header.channels)

    def fill(self, runs: list[tuple[int, int]]) -> None:
        """Read some runs of blocks and place them."""
        file = self._file
        with opened(file.place) as fetch:
            for a, b in runs:
                start, stop = file.start(self._numbers[a]), file.start(self._numbers[b - 1] + 1)
                data = memoryview(fetch(start, stop))
                if len(data) != stop - start:
                    raise DamagedError(f"{file.place} is cut off: it ends before byte {stop}. Write it again.")
                for n in range(a, b):
                    number = self._numbers[n]
                    self._place(n, data[file.start(number) - start : file.start(number + 1) - start])

    def _place(self, n: int, data: memoryview) -> None:
        """Decode a block and copy what is wanted of it."""
        voxels = block_view(self._file, self._numbers[n], data)
        block = self._shape[0]
        target, source = [slice(None)], [slice(None)]
        for i, a, b in zip(self._cells[n], self._box.start[1:], self._box.stop[1:], strict=True):
            at = i * block
            low, high = max(a, at), min(b, at + block)
            target.append(slice(low - a, high - a))
            source.append(slice(low - at, high - at))
        self._out[tuple(target)] = voxels[tuple(source)]


def block_view(file: DataFile, number: int, data: memoryview) -> Array:
    """Return a stored block as voxels in stored axes.

    Raises
    ------
    DamagedError
        Where it does not decode to a block's size; the file and the block are named.
    """
    header = file.header
    try:
        raw = decode(CODECS[header.kind - 1], data, header.block_bytes)
    except DamagedError as error:
        raise DamagedError(f"{file.place} is damaged: in block {number}, {error}. Write it again.") from None
    return voxels_of(header, raw)


def voxels_of(header: Header, raw: bytes | bytearray | memoryview) -> Array:
    """Return decoded bytes of a block as voxels in stored axes."""
    shape = (header.block, header.block, header.block, header.channels)
    array: Array = np.frombuffer(raw, np.dtype(header.dtype).newbyteorder("<")).reshape(shape)
    return array.transpose()


@contextmanager
def opened(place: Location) -> Iterator[Fetch]:
    """Give a function that returns the bytes from one position up to another; it is for one thread."""
    if not place.is_local:
        yield place.read_bytes
        return
    with explained(place, "read"), open(place.url, "rb", buffering=0) as file:

        def fetch(start: int, stop: int) -> bytes:
            file.seek(start)
            found: bytes = file.read(stop - start)
            return found

        yield fetch


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    """Return the threads that decode for all readers of this process; their work waits for nothing, so they always go on."""
    return ThreadPoolExecutor(THREADS, "wkdask-wkw")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # its threads stayed behind


def _submit(call: Callable[..., None], *arguments: object) -> Future[None]:
    return _pool().submit(call, *arguments)
