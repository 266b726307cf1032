"""Mag arrays as lazy dask arrays, whose blocks begin and end where the chunks on disk do."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import dask
import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.utils import parse_bytes

from wkdask.arrays.mag_array import MagArray
from wkdask.errors import InputError
from wkdask.geometry.grid import Box, Grid, Index

AxisChunks: TypeAlias = int | str | Sequence[int] | None
Chunks: TypeAlias = AxisChunks | Sequence[AxisChunks] | Mapping[Hashable, AxisChunks]


@dataclass(frozen=True, slots=True)
class ReadBlock:
    """Reads one block of a dask array; all that a worker must unpickle.

    Parameters
    ----------
    array
        Where to read.
    cuts
        Where blocks begin along each axis, in array coordinates; the first may lie before the box.
    """

    array: MagArray
    cuts: tuple[Sequence[int], ...]

    def __call__(self, block_id: Index) -> np.ndarray[Any, Any]:
        """Read the block at a coordinate."""
        start, stop = [], []
        for i, cuts, first, end in zip(block_id, self.cuts, self.array.box.start, self.array.box.stop, strict=True):
            start.append(max(cuts[i], first))
            stop.append(cuts[i + 1] if i + 1 < len(cuts) else end)
        return self.array.read(Box(tuple(start), tuple(stop)))

    def chunks(self) -> tuple[tuple[int, ...], ...]:
        """Return the sizes of the blocks along each axis."""
        sizes = []
        for cuts, first, end in zip(self.cuts, self.array.box.start, self.array.box.stop, strict=True):
            borders = [first, *cuts[1:], end]
            sizes.append(tuple(b - a for a, b in pairwise(borders)))
        return tuple(sizes)


def to_dask(array: MagArray, chunks: Chunks = "auto") -> da.Array:
    """Return the bounding box of a mag array as a lazy dask array.

    Its graph is one layer without a source array, so that a million blocks are defined in milliseconds. Equal arrays have
    equal names.

    Parameters
    ----------
    array
        What to read; axes stay in stored order.
    chunks
        ``"auto"``: blocks of whole chunks of the disk that divide the unit (the shard, the file), as near to dask's
        ``array.chunk-size`` as they come without exceeding it; text such as ``"64 MiB"`` gives another limit. A number, or
        one for each axis (a sequence, or a mapping of axis names): blocks begin at multiples of it, counted from the
        dataset's origin. ``-1`` or None: the whole axis in one. A sequence of sizes for an axis: exactly those.

    Raises
    ------
    InputError
        The chunks name an axis that the array does not have, or do not fit the box.

    Examples
    --------
    >>> from wkdask.formats import ArraySpec, Zarr3
    >>> from wkdask.storage import Location
    >>> spec = ArraySpec((1, 64, 64, 32), "uint8", ("c", "x", "y", "z"), (1, 16, 16, 16), (1, 32, 32, 32))
    >>> handle = Zarr3().create(Location("memory://dask-view/color/1"), spec)
    >>> array = MagArray(handle, (1, 1, 1), Box((0, 10, 0, 0), (1, 50, 50, 20)))
    >>> to_dask(array, {"x": 16, "z": -1}).chunks
    ((1,), (6, 16, 16, 2), (32, 18), (20,))
    """
    read = plan_blocks(array, chunks)
    lazy: da.Array = da.map_blocks(
        read,
        chunks=read.chunks(),
        dtype=array.dtype,
        meta=np.empty((0,) * len(array.axes), array.dtype),
        name=f"{array.name.replace('/', '-') or 'mag'}-{tokenize(read)}",
    )
    return lazy


def plan_blocks(array: MagArray, chunks: Chunks = "auto") -> ReadBlock:
    """Return what reads the blocks of `to_dask`, and knows their sizes."""
    return ReadBlock(array, tuple(_cuts(array, _by_axis(array, chunks))))


def auto_chunk(grid: Grid, itemsize: int, limit: int) -> Index:
    """Return the shape of blocks of whole chunks, of at most `limit` bytes where one chunk is not more already.

    The shortest edge is doubled as long as the block divides the unit. Where each chunk is a file of its own, blocks are whole
    numbers of them.

    Examples
    --------
    >>> auto_chunk(Grid((1, 4096, 4096, 4096), (1, 32, 32, 32), (1, 1024, 1024, 1024)), 1, 2**25)
    (1, 512, 256, 256)
    """
    block = list(grid.chunk)
    single = grid.unit == grid.chunk
    while True:
        grown = [
            (edge, axis)
            for axis, (edge, unit, size) in enumerate(zip(block, grid.unit, grid.shape, strict=True))
            if edge < size and (single or unit % (2 * edge) == 0)
        ]
        filled = math.prod(map(min, block, grid.shape))
        if not grown or 2 * filled * itemsize > limit:
            return tuple(block)
        block[min(grown)[1]] *= 2


def _by_axis(array: MagArray, chunks: Chunks) -> dict[str, AxisChunks]:
    if isinstance(chunks, Mapping):
        unknown = [axis for axis in chunks if axis not in array.axes]
        if unknown:
            raise InputError(f"The chunks name the axes {unknown}, but the array has {array.axes}. Name some of those.")
        return {axis: chunks.get(axis, "auto") for axis in array.axes}
    if chunks is None or isinstance(chunks, (int, str)):
        return dict.fromkeys(array.axes, chunks)
    if len(chunks) != len(array.axes):
        raise InputError(f"There are chunks for {len(chunks)} axes, but the array has {array.axes}. Give one for each.")
    return dict(zip(array.axes, chunks, strict=True))


def _limit(chunks: Mapping[str, AxisChunks]) -> int:
    given = {value for value in chunks.values() if isinstance(value, str) and value != "auto"}
    return int(min(map(parse_bytes, given or {str(dask.config.get("array.chunk-size"))})))


def _cuts(array: MagArray, chunks: Mapping[str, AxisChunks]) -> list[Sequence[int]]:
    spec = array.handle.spec
    auto = auto_chunk(Grid(array.shape, spec.chunk, spec.unit), spec.itemsize, _limit(chunks))
    cuts: list[Sequence[int]] = []
    for axis, edge, start, stop in zip(array.axes, auto, array.box.start, array.box.stop, strict=True):
        wanted = chunks[axis]
        if wanted is None or wanted == -1 or stop <= start:
            cuts.append((start,))
        elif isinstance(wanted, str):
            cuts.append(_multiples(edge, start, stop))
        elif isinstance(wanted, int):
            if wanted < 1:
                raise InputError(f"Chunks of {wanted} voxels along {axis} are not possible. Give 1 or more, or -1 for all.")
            cuts.append(_multiples(wanted, start, stop))
        else:
            cuts.append(_explicit(axis, wanted, start, stop))
    return cuts


def _multiples(edge: int, start: int, stop: int) -> range:
    return range(start // edge * edge, stop, edge)


def _explicit(axis: str, sizes: Sequence[int], start: int, stop: int) -> tuple[int, ...]:
    if sum(sizes) != stop - start or min(sizes) < 0:
        raise InputError(f"The chunks along {axis} have {sum(sizes)} voxels, but the box has {stop - start}. Give as many.")
    cuts = [start]
    for size in sizes[:-1]:
        cuts.append(cuts[-1] + size)
    return tuple(cuts)
