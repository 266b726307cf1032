"""Reading boxes of WKW arrays on stores: headers and jump tables of all files at once, then their blocks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product
from operator import mul
from typing import TYPE_CHECKING, Any

import numpy as np

from wkdask.errors import DamagedError
from wkdask.formats.codecs import decode
from wkdask.formats.fetching import Piece, concurrently, fetch, read_parts
from wkdask.formats.kept import INDEXES
from wkdask.formats.tensorstore_reader import is_kept
from wkdask.formats.wkw_file import DataFile, numbers_of, open_ranged
from wkdask.formats.wkw_header import CODECS
from wkdask.formats.wkw_reader import by_unit, named, voxels_of
from wkdask.geometry.grid import Box, Index
from wkdask.storage import Location

if TYPE_CHECKING:
    from wkdask.formats.wkw import WkwArray

Array = np.ndarray[Any, Any]


def read_ranged(array: WkwArray, box: Box, *, keep: bool = True) -> Array:
    """Read a box that lies within an array, Fortran-ordered; what is not stored is 0. See `wkdask.formats.ranged.read_box`."""
    keep = keep and is_kept(box, array.spec)
    out = np.empty(box.shape, array.spec.dtype, order="F")
    return read_parts(partial(_read_part, array, keep), box, array.spec.chunk, out)


def _read_part(array: WkwArray, keep: bool, box: Box, out: Array) -> None:
    out[...] = 0
    units = {array.unit_location(index): (index, hit) for index, hit in by_unit(array, box)}
    known = ((place, INDEXES.get(place)) for place in units)
    files = {place: found for place, found in known if found and found[0].header.is_like(array.header)}  # no array of before

    def read_header(place: Location) -> None:
        found = open_ranged(place, array.header)
        if found:
            files[place] = found
            table = found[0].ends
            INDEXES.put(place, *found, 0 if table is None else table.nbytes)

    size = array.header.data_start
    concurrently((size, partial(read_header, place)) for place in units if place not in files)
    pieces = [piece for place, found in files.items() for piece in _pieces_of(*found, array, units[place], box, out)]
    fetch(pieces, keep=keep)


def _pieces_of(file: DataFile, version: str, array: WkwArray, unit: tuple[Index, Box], box: Box, out: Array) -> Iterator[Piece]:
    """Yield the blocks of a file that a box meets; each is decoded to its place in an array."""
    index, hit = unit
    header, edge = file.header, file.header.block
    first = tuple(map(mul, index, array.spec.unit))
    inside = hit.relative_to(first)
    cells = Box(inside.start[1:], inside.stop[1:]).coarsened((edge,) * 3)

    def place_block(number: int, start: Index, data: memoryview) -> None:
        try:
            voxels = voxels_of(header, decode(CODECS[header.kind - 1], data, header.block_bytes))
        except DamagedError as error:
            raise named(file.place, number, error) from None
        origin = (0, *start)
        wanted = Box(origin, (header.channels, *(a + edge for a in start))).intersect(box)
        out[wanted.relative_to(box.start).slices] = voxels[wanted.relative_to(origin).slices]

    numbers = numbers_of(cells)
    starts, stops = file.starts(numbers).tolist(), file.starts(numbers + 1).tolist()
    places = product(*(range(a, b) for a, b in zip(cells.start[::-1], cells.stop[::-1], strict=True)))
    for number, (z, y, x), start, stop in zip(numbers.tolist(), places, starts, stops, strict=True):
        corner = tuple(o + i * edge for o, i in zip(first[1:], (x, y, z), strict=True))
        yield Piece(file.place, version, start, stop, partial(place_block, number, corner))
