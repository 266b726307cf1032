"""Reading arrays from any store by ranges: index, ranges, fetch, decode, place."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from operator import add, itemgetter, mul
from typing import TYPE_CHECKING, Any

import numpy as np

from wkdask.errors import DamagedError, MetadataError
from wkdask.formats.fetching import Piece, concurrently, fetch, fetch_whole, read_parts
from wkdask.formats.kept import INDEXES
from wkdask.formats.shard import MISSING, ShardIndex
from wkdask.formats.spec import ArraySpec
from wkdask.formats.tensorstore_reader import is_kept
from wkdask.formats.zarr3_codecs import Chain, worst_case
from wkdask.formats.zarr3_nested import Source
from wkdask.geometry.grid import Box, Index
from wkdask.storage import Location, Stat
from wkdask.storage.explained import explained

if TYPE_CHECKING:
    from wkdask.formats.zarr3 import Zarr3Array

TOGETHER_BYTES = 4 << 20
"""Of voxels that are decoded at once."""


def shard_entries(
    place: Location, chunks: int, index: ShardIndex | None, *, known: bool = False
) -> np.ndarray[Any, Any] | None:
    """Return (offset, bytes) of each chunk of a unit's file, in C order; None where there is no file.

    Where ``known``, an index read before will do as long as the file's size and time are the same. That is for readers:
    a unit that is written twice within one tick of the clock may keep both.
    """
    stat = place.stat()
    if stat is None:
        return None
    if index is None:
        return np.array([[0, stat.size]], np.uint64)
    read = _known_entries if known and stat.mtime_ns else _shard_entries
    return read(place, stat, chunks, index)


def _shard_entries(place: Location, stat: Stat, chunks: int, index: ShardIndex) -> np.ndarray[Any, Any]:
    return index.parse(place.read_bytes(*index.span(chunks, stat.size)), chunks, stat.size, place)


_known_entries = lru_cache(maxsize=64)(_shard_entries)


@dataclass(frozen=True, slots=True)
class KnownIndex:
    """The index of a shard: (offset, bytes) of each chunk, in C order.

    ``full`` says that it accounts for each byte of the file once; see `has_strange_bytes`.
    """

    entries: np.ndarray[Any, Any]
    full: bool


def read_chunk(
    spec: ArraySpec, chain: Chain, place: Location, cell: tuple[int, ...], span: tuple[int, int]
) -> np.ndarray[Any, Any]:
    """Return the voxels of a chunk, in stored axes, that lies in a range (offset, bytes) of a file.

    Raises
    ------
    DamagedError
        Naming the file and the chunk.
    """
    offset, length = span
    with _naming(place, cell):
        _require_length(spec, length)
        return chain.decode(place.read_bytes(offset, offset + length), spec.chunk)


def _require_length(spec: ArraySpec, length: int) -> None:
    """Refuse more bytes than any codec makes of a chunk, before they are read."""
    size = math.prod(spec.chunk) * spec.itemsize
    if length > worst_case(size):
        raise DamagedError(f"{length} bytes are too many for the {size} of a chunk")


@contextmanager
def _naming(place: Location, cell: Index) -> Iterator[None]:
    try:
        yield
    except DamagedError as error:
        raise DamagedError(f"{place} is damaged: in chunk {cell}, {error}. Write it again.") from None


def read_box(array: Zarr3Array, box: Box, *, keep: bool = True) -> np.ndarray[Any, Any]:
    """Read a box that lies within an array whose codecs are ours; chunks that are not stored have the fill value.

    ``keep`` says that its chunks, and those between them in their files, may soon be wanted.
    """
    spec = array.spec
    keep = keep and is_kept(box, spec)
    out = np.full(box.shape, spec.fill, spec.dtype, order=array.layout.memory_order)
    return read_parts(partial(_read_part, array, keep), box, spec.chunk, out)


def _read_part(array: Zarr3Array, keep: bool, box: Box, out: np.ndarray[Any, Any]) -> None:
    spec, chain = array.spec, array.chain("read")
    out[...] = spec.fill  # where a shard was replaced meanwhile, by one with fewer chunks

    def unpack(data: Sequence[memoryview]) -> Sequence[Any]:
        try:
            return chain.decode_all(data, spec.chunk)
        except DamagedError:  # each is decoded alone, then, which tells of what chunk it is
            return data

    def place_chunk(place: Location, cell: Index, data: bytes | memoryview | np.ndarray[Any, Any]) -> None:
        voxels = data
        if not isinstance(voxels, np.ndarray):
            with _naming(place, cell):
                voxels = chain.decode(voxels, spec.chunk)
        origin = tuple(map(mul, cell, spec.chunk))
        hit = Box(origin, tuple(map(add, origin, spec.chunk))).intersect(box)
        out[hit.relative_to(box.start).slices] = voxels[hit.relative_to(origin).slices]

    cells = list(spec.grid.units(box).cells_of())
    if array.layout.index is None:
        most = worst_case(math.prod(spec.chunk) * spec.itemsize)
        places = ((array.unit_location(cell), cell) for cell in cells)
        fetch_whole((place, most, partial(place_chunk, place, cell)) for place, cell in places)
    else:
        fetch(_pieces(array, cells, box, place_chunk, unpack), keep=keep)


def _pieces(
    array: Zarr3Array,
    units: Sequence[Index],
    box: Box,
    take: Callable[[Location, Index, Any], None],
    unpack: Callable[[Sequence[memoryview]], Sequence[Any]],
) -> list[Piece]:
    """Return what is wanted of shards, after reading the indexes that are not known.

    Those of which nothing is wanted are read too: no answer would tell that they are outdated.
    """

    def stored(place: Location, index: KnownIndex, version: str) -> list[Piece]:
        chunks = _stored(array, places[place], index.entries, box)
        several = (unpack, together) if index.full and array.chain("read").by_frames else ()
        return [Piece(place, version, a, a + n, partial(take, place, cell), *several) for cell, a, n in chunks]

    together = max(1, TOGETHER_BYTES // (math.prod(array.spec.chunk) * array.spec.itemsize))
    places = {array.unit_location(index): index for index in units}
    pieces: list[Piece] = []
    anew, chunks = [], math.prod(array.spec.grid.chunks_per_unit)
    for place in places:
        known, found = INDEXES.get(place), []
        if known and len(known[0].entries) == chunks:  # else of an array of before
            with suppress(DamagedError):  # as of an array of before, whose chunks were larger
                found = stored(place, *known)
        pieces += found
        if not found:
            anew.append(place)
    indexes = read_indexes(anew, chunks, array.layout.index or ShardIndex())
    return [*pieces, *(piece for place, found in indexes.items() for piece in stored(place, *found))]


def _stored(array: Zarr3Array, index: Index, entries: np.ndarray[Any, Any], box: Box) -> list[tuple[Index, int, int]]:
    """Return which chunks of a unit that a box meets are stored: coordinate, offset and bytes."""
    spec, per_unit = array.spec, array.spec.grid.chunks_per_unit
    cells = spec.grid.unit_box(index).intersect(box).coarsened(spec.chunk)
    inside = cells.relative_to([i * n for i, n in zip(index, per_unit, strict=True)])
    rows = entries.reshape(*per_unit, 2)[inside.slices].reshape(-1, 2)
    there = np.flatnonzero(rows[:, 0] != MISSING)
    at = (np.stack(np.unravel_index(there, inside.shape), axis=1) + cells.start).tolist()
    found = [(tuple(cell), start, size) for cell, (start, size) in zip(at, rows[there].tolist(), strict=True)]
    cell, _, most = max(found, key=itemgetter(2), default=((), 0, 0))
    with _naming(array.unit_location(index), cell):
        _require_length(spec, most)
    return found


def read_indexes(places: Sequence[Location], chunks: int, index: ShardIndex) -> dict[Location, tuple[KnownIndex, str]]:
    """Read the indexes of shards, several at once; return each with the version of its file, if there is one."""
    found: dict[Location, tuple[KnownIndex, str]] = {}

    def read(place: Location) -> None:
        INDEXES.forget(place)
        if answer := _read_index(place, chunks, index):
            found[place] = answer
            INDEXES.put(place, *answer, answer[0].entries.nbytes)

    concurrently((index.size(chunks), partial(read, place)) for place in places)
    return found


def _read_index(place: Location, chunks: int, index: ShardIndex) -> tuple[KnownIndex, str] | None:
    """Return the index of a shard and the version of its file, of one answer, as the file may be replaced meanwhile."""
    size = index.size(chunks)
    answer = place.read_range(0, size) if index.first else place.read_range(-size)
    if answer is None:
        return None
    entries = index.parse(answer.data, chunks, answer.size, place)
    full = int(entries[entries[:, 0] != MISSING, 1].sum()) + size == answer.size
    return KnownIndex(entries, full), answer.version


def read_units(array: Zarr3Array, box: Box) -> np.ndarray[Any, Any]:
    """Read a box that lies within an array whose units are only read, by the reader of its layout.

    Raises
    ------
    DamagedError
        Where a unit does not decode; its file is named.
    MetadataError
        Where zarr-python does not take the array's codecs.
    """
    spec = array.spec
    reader = array.layout.reader
    out = np.full(box.shape, spec.fill, spec.dtype, order="F")
    units = spec.grid.units(box)
    for index in units.cells_of():
        place, hit = array.unit_location(index), units.box_at(index)
        stat = place.stat()
        if stat is None or reader is None:
            continue
        try:
            wanted = hit.relative_to(spec.grid.unit_box(index).start)
            voxels = reader.read(Source(place, 0, stat.size), spec.unit, wanted, spec.fill)
        except DamagedError as error:
            said = str(error).removesuffix(" Write it again.").removesuffix(".")
            raise DamagedError(f"{place} is damaged: {said}. Write it again, or restore it.") from None
        except MetadataError as error:
            raise MetadataError(f"{array.location / 'zarr.json'}: {error} Restore it.") from None
        out[hit.relative_to(box.start).slices] = voxels
    return out


def has_strange_bytes(array: Zarr3Array, box: Box) -> bool:
    """Whether a local shard that a box meets has bytes that its index does not account for, or for more than one chunk.

    That is allowed, but rare: where something was inserted into a file, or cut out of it, it is so too, and a chunk's place may
    hold the sound bytes of another one, with something behind them, which some readers pass over.
    """
    chunks, index = math.prod(array.spec.grid.chunks_per_unit), array.layout.index
    if index is None:
        return False
    for cell in array.spec.grid.units(box).cells_of():
        place = array.unit_location(cell)
        stat = place.stat()
        if stat is not None and not _is_full(place, stat, chunks, index):
            return True
    return False


@lru_cache(maxsize=1024)
def _is_full(place: Location, stat: Stat, chunks: int, index: ShardIndex) -> bool:  # noqa: ARG001 - stat: looked at anew
    found = _read_index(place, chunks, index)
    return found is None or found[0].full


def require_sizes(array: Zarr3Array, box: Box) -> None:
    """Refuse a local array's chunks whose Blosc headers declare more than a chunk holds.

    Other readers take the memory that is declared, and fill it: from some kilobytes, Blosc makes gigabytes.
    """
    spec = array.spec
    most = worst_case(math.prod(spec.chunk) * spec.itemsize)
    units, per_unit = spec.grid.units(box), spec.grid.chunks_per_unit
    for index in units.cells_of():
        place = array.unit_location(index)
        stat, entries = place.stat(), array.entries(index, known=True)
        if stat is None or entries is None:
            continue
        cells = units.box_at(index).coarsened(spec.chunk)
        inside = cells.relative_to([i * n for i, n in zip(index, per_unit, strict=True)])
        found = _sound(place, stat, len(entries))
        numbers = np.arange(len(entries)).reshape(per_unit)[inside.slices].reshape(-1)
        numbers = numbers[~found[numbers] & (entries[numbers, 0] != MISSING)]
        if not numbers.size:
            continue
        with explained(place, "read"), open(place.url, "rb", buffering=0) as file:
            for offset in entries[numbers, 0].tolist():
                declared = int.from_bytes(os.pread(file.fileno(), 4, offset + 4), "little")
                if declared > most:
                    raise DamagedError(f"{place} is damaged: a chunk declares {declared} bytes. Write it again.")
        found[numbers] = True


@lru_cache(maxsize=64)
def _sound(place: Location, stat: Stat, chunks: int) -> np.ndarray[Any, np.dtype[np.bool_]]:  # noqa: ARG001 - what is kept is of them
    """Return, to be changed, which chunks of a file were found sound."""
    return np.zeros(chunks, bool)
