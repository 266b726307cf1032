"""Grids: how an array's voxels fall into chunks and units.

A *chunk* is the smallest piece that can be read, a *unit* the smallest piece that one file holds (a shard, or a chunk where
there are no shards). All numbers are voxels of the array itself (one magnification), one number for each stored axis; boxes
are half-open. Everything here is arithmetic: a grid of 10^8 units costs as little as one of ten.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

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
        return tuple(max(0, b - a) for a, b in zip(self.start, self.stop, strict=True))

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
        return Box(start, tuple(max(a, min(p, q)) for a, p, q in zip(start, self.stop, other.stop, strict=True)))

    def shifted(self, offset: Sequence[int]) -> Box:
        """Return the box moved by an offset."""
        return Box(
            tuple(a + o for a, o in zip(self.start, offset, strict=True)),
            tuple(b + o for b, o in zip(self.stop, offset, strict=True)),
        )

    def relative_to(self, origin: Sequence[int]) -> Box:
        """Return the box as seen from an origin."""
        return self.shifted([-o for o in origin])

    def coarsened(self, factor: Sequence[int]) -> Box:
        """Return the smallest box of coarse voxels that covers this one."""
        return Box(
            tuple(a // f for a, f in zip(self.start, factor, strict=True)),
            tuple(-(-b // f) for b, f in zip(self.stop, factor, strict=True)),
        )

    def refined(self, factor: Sequence[int]) -> Box:
        """Return the box of fine voxels that this box of coarse ones covers."""
        return Box(
            tuple(a * f for a, f in zip(self.start, factor, strict=True)),
            tuple(b * f for b, f in zip(self.stop, factor, strict=True)),
        )


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

    def __post_init__(self) -> None:
        cells = self.over.coarsened(self.shape) if self.over.size else Box(self.over.start, self.over.start)
        object.__setattr__(self, "cells", cells)

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
        start = tuple(i * s for i, s in zip(cell, self.shape, strict=True))
        return Box(start, tuple(a + s for a, s in zip(start, self.shape, strict=True))).intersect(self.over)

    def covering(self, box: Box) -> Iterator[int]:
        """Yield, in ascending order, the numbers of the tiles that a box meets."""
        box = box.intersect(self.over)
        if not box.size:
            return
        cells = box.coarsened(self.shape)
        stack: list[Index] = [()]
        while stack:
            head = stack.pop()
            axis = len(head)
            if axis == len(self.shape):
                yield self.number(head)
            else:
                stack += [(*head, i) for i in range(cells.stop[axis] - 1, cells.start[axis] - 1, -1)]


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
