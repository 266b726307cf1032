"""Which voxels are stored at all: zero that was written, beside zero because nothing was."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from wkdask.formats import ArrayHandle
from wkdask.formats.shard import MISSING
from wkdask.formats.zarr3 import Zarr3Array
from wkdask.geometry.grid import Box, Index

Presence = np.ndarray[Any, np.dtype[np.bool_]]


def stored_voxels(array: ArrayHandle, box: Box) -> Presence:
    """Return for each voxel of a box, counted from the dataset's origin, whether the chunk that it lies in is stored.

    In Zarr 3 the index of each shard says it. In other formats what is stored is a file: of a chunk, or in WKW of all chunks
    that are in it.

    Examples
    --------
    >>> from wkdask.formats import ArraySpec, Zarr3
    >>> from wkdask.storage import Location
    >>> spec = ArraySpec((1, 4, 1, 1), "uint8", ("c", "x", "y", "z"), (1, 2, 1, 1), (1, 4, 1, 1))
    >>> array = Zarr3().create(Location("memory://presence/color/1"), spec)
    >>> array.write(Box((0, 0, 0, 0), (1, 1, 1, 1)), np.ones((1, 1, 1, 1), "uint8"))
    >>> stored_voxels(array, Box((0, 0, 0, 0), (1, 5, 1, 1))).ravel().tolist()
    [True, True, False, False, False]
    """
    spec = array.spec
    found = np.zeros(box.shape, bool, order="F")
    inside = box.intersect(spec.box)
    if not inside.size:
        return found
    own = inside.relative_to(spec.offset)
    units = spec.grid.units(own)
    for index in units.cells_of():
        wanted = units.box_at(index)
        for part in _stored_parts(array, index, wanted):
            found[part.shifted(spec.offset).relative_to(box.start).slices] = True
    return found


def stored_box(array: ArrayHandle, index: Index) -> Box | None:
    """Return the least box of whole chunks, counted from the array's first voxel, that holds all which a unit stores.

    Of a unit whose format does not say which chunks are stored it is the whole unit, None where nothing is stored at all.

    Examples
    --------
    >>> from wkdask.formats import ArraySpec, Zarr3
    >>> from wkdask.storage import Location
    >>> spec = ArraySpec((1, 8, 1, 1), "uint8", ("c", "x", "y", "z"), (1, 2, 1, 1), (1, 8, 1, 1))
    >>> array = Zarr3().create(Location("memory://presence/color/2"), spec)
    >>> array.write(Box((0, 2, 0, 0), (1, 3, 1, 1)), np.ones((1, 1, 1, 1), "uint8"))
    >>> stored_box(array, (0, 0, 0, 0))
    Box(start=(0, 2, 0, 0), stop=(1, 4, 1, 1))
    """
    unit = array.spec.grid.unit_box(index)
    there = _stored_chunks(array, index)
    if there is None:
        return unit if array.unit_location(index).is_file() else None
    cells = np.argwhere(there)
    if not len(cells):
        return None
    start, stop = cells.min(axis=0).tolist(), (cells.max(axis=0) + 1).tolist()
    return Box(tuple(start), tuple(stop)).refined(array.spec.chunk).shifted(unit.start)


def _stored_parts(array: ArrayHandle, index: Index, wanted: Box) -> list[Box]:
    """Return the boxes, within what is wanted of a unit, that are stored."""
    spec = array.spec
    there = _stored_chunks(array, index)
    if there is None:
        return [wanted] if array.unit_location(index).is_file() else []
    unit, cells = spec.grid.unit_box(index), wanted.coarsened(spec.chunk)
    first = unit.coarsened(spec.chunk).start
    parts = []
    for cell in product(*(range(a, b) for a, b in zip(cells.start, cells.stop, strict=True))):
        if there[tuple(i - f for i, f in zip(cell, first, strict=True))]:
            parts.append(Box(cell, tuple(i + 1 for i in cell)).refined(spec.chunk).intersect(wanted))
    return parts


def _stored_chunks(array: ArrayHandle, index: Index) -> Presence | None:
    """Return for each chunk of a unit whether its index lists it; None where units have no such index."""
    if not (isinstance(array, Zarr3Array) and array.layout.index):
        return None
    chunks = array.spec.grid.chunks_per_unit
    entries = array.entries(index, known=True)
    if entries is None:
        return np.zeros(chunks, bool)
    there: Presence = (entries[:, 0] != MISSING).reshape(chunks)
    return there
