"""Reading many chunks of a Neuroglancer volume at once, by few requests.

Of a shard first the entries of the minishards that are wanted are read, then their indexes, then the chunks; each for all
shards together. What no index lists, and what has no file, is not stored.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from wkdask.errors import DamagedError
from wkdask.formats.fetching import Piece, concurrently, fetch, fetch_whole, read_parts, steadily
from wkdask.formats.kept import INDEXES
from wkdask.formats.precomputed_chunks import decode_file, decode_sharded, most_bytes, naming, require_length
from wkdask.formats.precomputed_info import Scale
from wkdask.formats.precomputed_minishard import index_span, parse_index, span_in
from wkdask.formats.precomputed_shard import Sharding
from wkdask.formats.spec import ArraySpec
from wkdask.formats.tensorstore_reader import is_kept
from wkdask.geometry.grid import Box, Index
from wkdask.storage import Location
from wkdask.storage.ranges import Range

if TYPE_CHECKING:
    from wkdask.formats.precomputed import PrecomputedArray

Array = np.ndarray[Any, Any]
Unit = tuple[Location, Index, Index]
"""The file of a chunk, or the shard that holds it; its coordinate, and its shape, cut off where the array ends."""
Key = tuple[Location, int]
"""A shard, and one of its minishards."""


def read_box(array: PrecomputedArray, box: Box, *, keep: bool = True) -> Array:
    """Read a box that lies within an array, Fortran-ordered; what is not stored is 0. See `wkdask.formats.ranged.read_box`."""
    keep = keep and is_kept(box, array.spec)
    out = np.zeros(box.shape, array.spec.dtype, order="F")
    return read_parts(partial(_read_part, array, keep), box, array.spec.chunk, out)


def _read_part(array: PrecomputedArray, keep: bool, box: Box, out: Array) -> None:
    out[...] = 0  # where a shard was replaced meanwhile, by one with fewer chunks

    def take(index: Index, voxels: Array) -> None:
        region = array.region(index)
        hit = region.intersect(box)
        out[hit.relative_to(box.start).slices] = voxels[hit.relative_to(region.start).slices]

    indexes = array.spec.grid.units(box).cells_of()
    wanted = ((array.unit_location(index), index, array.region(index).shape) for index in indexes)
    read_units(array.spec, array.scale, wanted, take, keep=keep)


def read_units(
    spec: ArraySpec, scale: Scale, units: Iterable[Unit], take: Callable[[Index, Array], None], *, keep: bool = False
) -> None:
    """Read chunks, and hand each that is stored to a function, in any thread; ``keep`` is what `fetch` takes it for.

    Raises
    ------
    DamagedError
        Where a file does not hold what it should; it is named.
    ChangedError
        Where a shard was replaced since its index was read.
    """

    def taken(unit: Unit, decode: Callable[..., Array], data: bytes | memoryview) -> None:
        place, index, shape = unit
        with naming(place, index if scale.sharding else ()):
            voxels = decode(spec, scale, place, data, shape)
        take(index, voxels)

    if scale.sharding is None:
        fetch_whole((unit[0], most_bytes(spec, unit[2]), partial(taken, unit, decode_file)) for unit in units)
        return
    counts = spec.grid.chunks().cells.shape[1:]
    wanted: dict[Key, list[tuple[int, Unit]]] = defaultdict(list)
    for unit in units:
        number, minishard = scale.sharding.minishard_of(unit[1][1:], counts)
        wanted[unit[0], minishard].append((number, unit))

    def pieces(key: Key, index: Array, version: str) -> list[Piece]:
        found = []
        for number, unit in wanted[key]:
            span = span_in(index, number)
            if span:
                with naming(unit[0], unit[1]):
                    require_length(spec, span[1] - span[0], unit[2])
                found.append(Piece(unit[0], version, *span, partial(taken, unit, decode_sharded)))
        return found

    known: dict[Key, list[Piece]] = {}
    for key in wanted:
        if index := INDEXES.get(key):
            with suppress(DamagedError):  # as of a volume of before, whose chunks were larger
                known[key] = pieces(key, *index)
    anew = read_minishards(scale.sharding, [key for key in wanted if not known.get(key)])
    known |= {key: pieces(key, *found) for key, found in anew.items()}
    fetch([piece for found in known.values() for piece in found], keep=keep)


def read_unit(spec: ArraySpec, scale: Scale, unit: Unit) -> Array | None:
    """Return the voxels of a chunk; None where it is not stored. See `read_units`."""
    found: list[Array] = []
    steadily(lambda: read_units(spec, scale, [unit], lambda _, voxels: found.append(voxels)))
    return found[-1] if found else None


def read_minishards(sharding: Sharding, keys: Sequence[Key]) -> dict[Key, tuple[Array, str]]:
    """Read the indexes of minishards, several at once; those without chunks are left out."""
    by_place: dict[Location, list[int]] = defaultdict(list)
    for place, minishard in keys:
        INDEXES.forget((place, minishard))
        by_place[place].append(minishard)
    spans: list[Piece] = []
    indexes: dict[Key, tuple[Array, str]] = {}

    def take(key: Key, answer: Range, data: memoryview) -> None:
        with naming(key[0], ()):
            index = parse_index(data, sharding, key[1], answer.size)
        INDEXES.put(key, index, answer.version, index.nbytes)
        indexes[key] = index, answer.version

    def read_entries(place: Location, minishards: list[int]) -> None:
        first = min(minishards)
        answer = place.read_range(16 * first, 16 * max(minishards) + 16)
        if answer is None:
            return
        for minishard in minishards:
            at = 16 * (minishard - first)
            with naming(place, ()):
                span = index_span(answer.data[at : at + 16], sharding, minishard, answer.size)
            if span:
                spans.append(Piece(place, answer.version, *span, partial(take, (place, minishard), answer)))

    asked = [(place, part) for place, numbers in by_place.items() for part in near_numbers(sorted(numbers))]
    concurrently((16 * (part[-1] - part[0] + 1), partial(read_entries, place, part)) for place, part in asked)
    fetch(spans)
    return indexes


def near_numbers(numbers: Sequence[int], most: int = 1 << 14) -> Iterable[list[int]]:
    """Yield ascending numbers in runs whose ends differ by less than ``most``.

    Examples
    --------
    >>> list(near_numbers([1, 2, 7, 30], most=10))
    [[1, 2, 7], [30]]
    """
    run: list[int] = []
    for number in numbers:
        if run and number - run[0] >= most:
            yield run
            run = []
        run.append(number)
    if run:
        yield run
