"""Grids: how an array's voxels fall into chunks and units.

A *chunk* is the smallest piece that can be read, a *unit* the smallest piece that one file holds (a shard, or a chunk where
there are no shards). All numbers are voxels of the array itself (one magnification), one number for each stored axis; boxes
are half-open. Everything here is arithmetic: a grid of 10^8 units costs as little as one of ten.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import add, mul

Index = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Box:
    """A half-open box of voxels, one interval for each stored axis.

    Examples
    --------
    >>> Box((0, 10), (4, 20)).intersect(Box((2, 0), (9, 15)))
    Box(start=(2, 10), stop=(4, 15))
    """

    start: Index
    stop: Index

    @property
    def shape(self) -> Index:
        """Voxels along each axis."""
        return tuple([b - a if b > a else 0 for a, b in zip(self.start, self.stop, strict=True)])

    @property
    def size(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)

    @property
    def slices(self) -> tuple[slice, ...]:
        """The box as an index of an array that starts at 0."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    def intersect(self, other: Box) -> Box:
        """Return what both boxes cover; an empty box where they do not meet."""
        start = tuple(map(max, self.start, other.start))
        ends = zip(start, self.stop, other.stop, strict=True)
        return Box(start, tuple([p if a <= p <= q else max(a, min(p, q)) for a, p, q in ends]))

    def shifted(self, offset: Sequence[int]) -> Box:
        """Return the box moved by an offset."""
        return Box(
            tuple([a + o for a, o in zip(self.start, offset, strict=True)]),
            tuple([b + o for b, o in zip(self.stop, offset, strict=True)]),
        )

    def relative_to(self, origin: Sequence[int]) -> Box:
        """Return the box as seen from an origin."""
        return self.shifted([-o for o in origin])

    def coarsened(self, factor: Sequence[int]) -> Box:
        """Return the smallest box of coarse voxels that covers this one."""
        return Box(
            tuple([a // f for a, f in zip(self.start, factor, strict=True)]),
            tuple([-(-b // f) for b, f in zip(self.stop, factor, strict=True)]),
        )

    def refined(self, factor: Sequence[int]) -> Box:
        """Return the box of fine voxels that this box of coarse ones covers."""
        return Box(tuple(map(mul, self.start, factor)), tuple(map(mul, self.stop, factor)))


@dataclass(frozen=True, slots=True)
class Tiling:
    """Tiles of one shape over a box, aligned to the array's origin and clipped to the box.

    Tiles are numbered from 0, the first axis slowest (C order).

    Examples
    --------
    >>> tiles = Tiling(Box((5, 0), (20, 8)), (8, 8))
    >>> len(tiles), tiles.box(0), tiles.box(2)
    (3, Box(start=(5, 0), stop=(8, 8)), Box(start=(16, 0), stop=(20, 8)))
    """

    over: Box
    shape: Index
    cells: Box = field(init=False, repr=False, compare=False)
    """The tiles' own coordinates: box // shape, rounded outwards."""
    _strides: Index = field(init=False, repr=False, compare=False)
    """By how much a tile's number grows along each axis."""

    def __post_init__(self) -> None:
        self._lay(self.over.coarsened(self.shape) if self.over.size else Box(self.over.start, self.over.start))

    def _lay(self, cells: Box) -> None:
        object.__setattr__(self, "cells", cells)
        shape = cells.shape
        object.__setattr__(self, "_strides", tuple([math.prod(shape[axis + 1 :]) for axis in range(len(shape))]))

    def __len__(self) -> int:
        return self.cells.size

    def cell(self, number: int) -> Index:
        """Return the coordinate of a tile, counted from the array's origin."""
        if not 0 <= number < self.cells.size:
            raise IndexError(f"There is no tile {number} in a tiling of {self.cells.size}.")
        at = []
        for n in reversed(self.cells.shape):
            number, i = divmod(number, n)
            at.append(i)
        return tuple(i + o for i, o in zip(reversed(at), self.cells.start, strict=True))

    def number(self, cell: Sequence[int]) -> int:
        """Return the number of the tile at a coordinate; the inverse of `cell`."""
        number = 0
        for i, o, n in zip(cell, self.cells.start, self.cells.shape, strict=True):
            number = number * n + i - o
        return number

    def box(self, number: int) -> Box:
        """Return the voxels of a tile."""
        return self.box_at(self.cell(number))

    def box_at(self, cell: Sequence[int]) -> Box:
        """Return the voxels of the tile at a coordinate."""
        return self.voxels(Box(tuple(cell), tuple(i + 1 for i in cell)))

    def voxels(self, cells: Box) -> Box:
        """Return the voxels of all tiles with coordinates in a box."""
        return cells.refined(self.shape).intersect(self.over)

    def meeting(self, box: Box) -> Box:
        """Return the coordinates of the tiles that a box meets; it must have some voxels in common with all tiles."""
        return box.intersect(self.over).coarsened(self.shape)

    def boxes(self, numbers: range) -> Iterator[Box]:
        """Yield the voxels of adjacent tiles as few boxes, which do not overlap.

        Examples
        --------
        >>> list(Tiling(Box((0, 0), (6, 6)), (2, 2)).boxes(range(2, 6)))
        [Box(start=(0, 4), stop=(2, 6)), Box(start=(2, 0), stop=(4, 6))]
        """
        at, shape, strides, over, origin = numbers.start, self.cells.shape, self._strides, self.over, self.cells.start
        while at < numbers.stop:
            left = numbers.stop - at
            axis = 0
            while strides[axis] > left or at % strides[axis]:  # as much as fits
                axis += 1
            low = [at // stride % n for stride, n in zip(strides, shape, strict=True)]
            high = [i + 1 for i in low]
            high[axis] = min(low[axis] + left // strides[axis], shape[axis])
            high[axis + 1 :] = shape[axis + 1 :]
            at += (high[axis] - low[axis]) * strides[axis]
            start = map(max, map(mul, map(add, low, origin), self.shape), over.start)
            yield Box(tuple(start), tuple(map(min, map(mul, map(add, high, origin), self.shape), over.stop)))

    def runs(self, box: Box) -> Iterator[range]:
        """Yield the numbers of the tiles that a box meets, in ascending order, as runs of adjacent ones.

        Examples
        --------
        >>> list(Tiling(Box((0, 0), (6, 6)), (2, 2)).runs(Box((1, 2), (3, 6))))
        [range(1, 3), range(4, 6)]
        """
        over, length = self.over, 0
        if not self.cells.size:
            return
        firsts: list[range] = []
        ends = zip(map(max, box.start, over.start), map(min, box.stop, over.stop), strict=True)
        for (low, high), edge, origin, stride in zip(ends, self.shape, self.cells.start, self._strides, strict=True):
            if low >= high:
                return
            first, last = low // edge - origin, -(-high // edge) - origin
            length = last - first
            firsts.append(range(first * stride, last * stride, stride))
        firsts[-1:] = [firsts[-1][:1]]
        for number in map(sum, itertools.product(*firsts)):
            yield range(number, number + length)

    def covering(self, box: Box) -> Iterator[int]:
        """Yield, in ascending order, the numbers of the tiles that a box meets."""
        return itertools.chain.from_iterable(self.runs(box))

    def cells_of(self, box: Box | None = None) -> Iterator[Index]:
        """Yield the coordinates of the tiles that a box (default: any) meets, in the order of their numbers.

        Examples
        --------
        >>> list(Tiling(Box((0, 0), (6, 6)), (2, 2)).cells_of(Box((1, 2), (3, 4))))
        [(0, 1), (1, 1)]
        """
        if box is not None and not box.intersect(self.over).size:
            return iter(())
        cells = self.cells if box is None else self.meeting(box)
        return itertools.product(*map(range, cells.start, cells.stop))


@dataclass(frozen=True, slots=True)
class Grid:
    """The chunks and units of one array.

    Parameters
    ----------
    shape
        Voxels along each stored axis.
    chunk, unit
        Voxels of a chunk and of a unit; each edge of a unit is a multiple of the chunk's.
    """

    shape: Index
    chunk: Index
    unit: Index

    def __post_init__(self) -> None:
        if not len(self.shape) == len(self.chunk) == len(self.unit):
            raise ValueError(f"A grid needs as many axes for its shape {self.shape}, chunk {self.chunk} and unit {self.unit}.")
        if any(c < 1 or u < 1 or u % c for c, u in zip(self.chunk, self.unit, strict=True)):
            raise ValueError(f"Each edge of a unit must be a multiple of the chunk's: chunk {self.chunk}, unit {self.unit}.")

    @property
    def box(self) -> Box:
        """All voxels of the array."""
        return Box((0,) * len(self.shape), self.shape)

    @property
    def chunks_per_unit(self) -> Index:
        """Chunks of a unit along each axis."""
        return tuple(u // c for u, c in zip(self.unit, self.chunk, strict=True))

    def units(self, box: Box | None = None) -> Tiling:
        """Return the units that a box (default: the whole array) meets."""
        return Tiling(box or self.box, self.unit)

    def chunks(self, box: Box | None = None) -> Tiling:
        """Return the chunks that a box (default: the whole array) meets."""
        return Tiling(box or self.box, self.chunk)

    def unit_box(self, index: Sequence[int]) -> Box:
        """Return the voxels of a unit, beyond the array's end too where it is not a multiple."""
        start = tuple(i * u for i, u in zip(index, self.unit, strict=True))
        return Box(start, tuple(a + u for a, u in zip(start, self.unit, strict=True)))
