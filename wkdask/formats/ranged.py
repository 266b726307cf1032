"""Reading arrays from any store by ranges: index, ranges, fetch, decode, place."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from wkdask.errors import DamagedError
from wkdask.formats.codecs import decode
from wkdask.formats.shard import MISSING, parse_shard_index
from wkdask.formats.spec import ArraySpec
from wkdask.geometry.grid import Box
from wkdask.storage import Location, Stat

if TYPE_CHECKING:
    from wkdask.formats.zarr3 import Zarr3Array


def shard_entries(place: Location, chunks: int, sharded: bool, *, known: bool = False) -> np.ndarray[Any, Any] | None:
    """Return (offset, bytes) of each chunk of a unit's file, in C order; None where there is no file.

    Where ``known``, an index read before will do as long as the file's size and time are the same. That is for readers:
    a unit that is written twice within one tick of the clock may keep both.
    """
    stat = place.stat()
    if stat is None:
        return None
    if not sharded:
        return np.array([[0, stat.size]], np.uint64)
    return _known_entries(place, stat, chunks) if known and stat.mtime_ns else _shard_entries(place, stat, chunks)


def _shard_entries(place: Location, stat: Stat, chunks: int) -> np.ndarray[Any, Any]:
    start = max(0, stat.size - chunks * 16 - 4)
    return parse_shard_index(place.read_bytes(start, stat.size), chunks, stat.size, place)


_known_entries = lru_cache(maxsize=64)(_shard_entries)


def chunk_view(spec: ArraySpec, data: bytes | memoryview) -> np.ndarray[Any, Any]:
    """Return decoded bytes as a chunk in stored axes: Fortran order, little endian."""
    array: np.ndarray[Any, Any] = np.frombuffer(data, np.dtype(spec.dtype).newbyteorder("<")).reshape(spec.chunk[::-1])
    return array.transpose()


def read_chunk(spec: ArraySpec, place: Location, cell: tuple[int, ...], offset: int, length: int) -> bytes | memoryview:
    """Return the decoded bytes of a chunk that lies in a range of a file.

    Raises
    ------
    DamagedError
        Naming the file and the chunk.
    """
    size = math.prod(spec.chunk) * spec.itemsize
    try:
        if length > 2 * size + 4096:  # more than any compressor makes of noise
            raise DamagedError(f"{length} bytes are too many for the {size} of a chunk")
        return decode(spec.codec, place.read_bytes(offset, offset + length), size)
    except DamagedError as error:
        raise DamagedError(f"{place} is damaged: in chunk {cell}, {error}. Write it again.") from None


def read_box(array: Zarr3Array, box: Box) -> np.ndarray[Any, Any]:
    """Read a box that lies within an array of our own layout; chunks that are not stored are 0."""
    spec = array.spec
    out = np.zeros(box.shape, spec.dtype, order="F")
    units = spec.grid.units(box)
    for number in units.covering(box):
        index = units.cell(number)
        entries = array.entries(index, known=True)
        if entries is not None:
            _read_unit(array, index, entries, box, out)
    return out


def _read_unit(
    array: Zarr3Array, index: tuple[int, ...], entries: np.ndarray[Any, Any], box: Box, out: np.ndarray[Any, Any]
) -> None:
    spec, place = array.spec, array.unit_location(index)
    per_unit = spec.grid.chunks_per_unit
    wanted = spec.grid.unit_box(index).intersect(box)
    chunks = spec.grid.chunks(wanted)
    for number in chunks.covering(wanted):
        cell = chunks.cell(number)
        row = 0
        for i, n in zip(cell, per_unit, strict=True):
            row = row * n + i % n
        offset, length = map(int, entries[row])
        if offset == int(MISSING):
            continue
        data = read_chunk(spec, place, cell, offset, length)
        origin = tuple(i * c for i, c in zip(cell, spec.chunk, strict=True))
        hit = Box(origin, tuple(o + c for o, c in zip(origin, spec.chunk, strict=True))).intersect(box)
        out[hit.relative_to(box.start).slices] = chunk_view(spec, data)[hit.relative_to(origin).slices]
