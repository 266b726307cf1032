"""A magnification's voxels in one order of axes, whatever the stored one, and the tiles in which they are looked through."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, product
from typing import Any

import numpy as np

from wkdask.arrays.mag_array import SPACE, MagArray, read_filled
from wkdask.errors import PlanRefusedError
from wkdask.formats import ArraySpec
from wkdask.formats.stored import stored_indexes
from wkdask.geometry.grid import Box, Index, Tiling
from wkdask.operations.cell_hash import CELL
from wkdask.plan import stop_if_asked
from wkdask.plan.plan import MAX_TASKS

Array = np.ndarray[Any, Any]
Rows = np.ndarray[tuple[int, int], np.dtype[np.int64]]

TILE_BYTES = 16 << 20
"""A task looks at so much at least, where there is so much."""


@dataclass(frozen=True, slots=True)
class Canonical:
    """A magnification with its axes in the order: c and further ones by name, then z, y, x.

    Boxes are in voxels of the magnification, counted from the dataset's origin; channels are counted from the layer's first,
    and an array without channels has one.

    Examples
    --------
    >>> from wkdask import Dataset
    >>> seen = Canonical(Dataset.open("brain").get_layer("color").get_mag(1).array)
    >>> seen.axes, seen.box.stop
    (('c', 'z', 'y', 'x'), (1, 20, 48, 64))
    >>> seen.read(Box((0, 0, 0, 0), (1, 1, 1, 4))).tolist()
    [[[[0, 1, 2, 3]]]]
    """

    array: MagArray

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes."""
        return (*sorted({"c", *self.array.axes}.difference(SPACE)), *reversed(SPACE))

    @property
    def box(self) -> Box:
        """The layer's box."""
        return self._seen(self.array.box, (0, 1))

    @property
    def spec(self) -> ArraySpec:
        """What the array is, with its axes as stored."""
        return self.array.handle.spec

    @property
    def chunk(self) -> Index:
        """Voxels of a chunk."""
        return self._in_order(self.spec.chunk, 1)

    @property
    def unit(self) -> Index:
        """Voxels of a unit."""
        return self._in_order(self.spec.unit, 1)

    def read(self, box: Box) -> Array:
        """Read a box, in these axes; a view where the stored order allows it."""
        spec, own = self.spec, []
        for axis in spec.axes:
            i, first = self.axes.index(axis), self._first(axis)
            own.append((box.start[i] + first, box.stop[i] + first))
        block = read_filled(self.array.handle, Box(tuple(a for a, _ in own), tuple(b for _, b in own)), keep=False)
        if "c" not in spec.axes:
            block = block[None]
        have = spec.axes if "c" in spec.axes else ("c", *spec.axes)
        return block.transpose([have.index(axis) for axis in self.axes])

    def stored(self) -> Rows:
        """Return where units begin that may have other voxels than 0 in the layer's box: one row of these axes each."""
        spec, d = self.spec, len(self.spec.axes)
        if np.array(spec.fill, spec.dtype).tobytes().strip(b"\0"):
            whole = spec.grid.units()
            _limit(len(whole), self.array.name)
            units: Iterator[Index] = map(whole.cell, range(len(whole)))
        else:
            units = stored_indexes(self.array.handle)
        rows = np.fromiter(chain.from_iterable(units), np.int64).reshape(-1, d)
        rows = rows * np.array(spec.unit) + np.array(spec.offset)
        box = self.array.box
        met = ((rows < box.stop) & (rows + np.array(spec.unit) > box.start)).all(axis=1)
        rows = rows[met] - [self._first(axis) for axis in spec.axes]
        if "c" not in spec.axes:
            rows = np.insert(rows, 0, 0, axis=1)
        have = spec.axes if "c" in spec.axes else ("c", *spec.axes)
        return rows[:, [have.index(axis) for axis in self.axes]]

    def _first(self, axis: str) -> int:
        """Return where an axis of the layer begins in the array, for those that are counted from there."""
        return self.array.box.start[self.spec.axes.index(axis)] if axis == "c" else 0

    def _in_order(self, numbers: Sequence[Any], other: Any) -> tuple[Any, ...]:
        of = dict(zip(self.spec.axes, numbers, strict=True))
        return tuple(of.get(axis, other) for axis in self.axes)

    def _seen(self, box: Box, other: tuple[int, int]) -> Box:
        pairs = list(zip(box.start, box.stop, strict=True))
        pairs = [(a - self._first(n), b - self._first(n)) for n, (a, b) in zip(self.spec.axes, pairs, strict=True)]
        seen = self._in_order(pairs, other)
        return Box(tuple(a for a, _ in seen), tuple(b for _, b in seen))


@dataclass(frozen=True, slots=True)
class Tiles:
    """The tiles that hold all that is stored of one magnification, or of two that are compared.

    Parameters
    ----------
    over
        The box that is looked at.
    shape
        Voxels of a tile: whole cells along z, y, x.
    rows
        Coordinates of the tiles, sorted, one row each.
    piece
        Voxels that are read at once.
    """

    over: Box
    shape: Index
    rows: Rows
    piece: Index

    @classmethod
    def of(cls, mags: Sequence[Canonical], room: int) -> Tiles:
        """Lay tiles over magnifications of the same axes and box, with pieces of so many bytes at most, if chunks allow it."""
        over, itemsize = mags[0].box, max(mag.spec.itemsize for mag in mags)
        chunk, unit = _largest([mag.chunk for mag in mags]), _largest([mag.unit for mag in mags])
        shape = _enlarged(unit, over.shape, TILE_BYTES // itemsize)
        piece = _enlarged(chunk, shape, room // itemsize)
        rows = [_met(mag.stored(), mag.unit, over, shape) for mag in mags]
        return cls(over, shape, np.unique(np.concatenate(rows), axis=0), piece)

    def box(self, number: int) -> Box:
        """Return the voxels of a tile."""
        return Tiling(self.over, self.shape).box_at(tuple(map(int, self.rows[number])))

    def pieces(self, number: int) -> Iterator[Box]:
        """Yield the pieces of a tile; between two, a run can be stopped."""
        pieces = Tiling(self.box(number), self.piece)
        for n in range(len(pieces)):
            stop_if_asked()
            yield pieces.box(n)

    @property
    def voxels(self) -> int:
        """Voxels of all tiles."""
        start = self.rows * np.array(self.shape)
        edges = np.minimum(start + self.shape, self.over.stop) - np.maximum(start, self.over.start)
        return int(edges.astype(float).prod(axis=1).sum())

    @property
    def cells(self) -> int:
        """Cells of all tiles, at most."""
        return len(self.rows) * math.prod(self.shape) // CELL**3


def _largest(shapes: Sequence[Index]) -> Index:
    """Return the longest edges of shapes, along z, y and x rounded up to whole cells."""
    edges = [max(lengths) for lengths in zip(*shapes, strict=True)]
    return (*edges[:-3], *(-(-n // CELL) * CELL for n in edges[-3:]))


def _enlarged(shape: Index, within: Index, most: int) -> Index:
    """Return a shape with its shortest edges along z, y and x doubled, while it has fewer voxels and something is beyond it.

    Examples
    --------
    >>> _enlarged((1, 32, 32, 32), (1, 20, 1000, 500), 1 << 19)
    (1, 32, 128, 128)
    """
    edges = list(shape)
    while True:
        growing = [i for i in range(len(edges) - 3, len(edges)) if edges[i] < within[i]]
        if not growing or 2 * math.prod(edges) > most:
            return tuple(edges)
        edges[min(growing, key=lambda i: (edges[i], -i))] *= 2


def _met(starts: Rows, unit: Index, over: Box, shape: Index) -> Rows:
    """Return the tiles that units meet, which are not larger than tiles: so at most two along each axis."""
    low = np.maximum(starts, over.start) // np.array(shape)
    high = (np.minimum(starts + np.array(unit), over.stop) - 1) // np.array(shape)
    rows = [np.where(np.array(corner, bool), high, low) for corner in product((0, 1), repeat=len(shape))]
    return np.unique(np.concatenate(rows), axis=0)


def _limit(count: int, name: str) -> None:
    if count > MAX_TASKS:
        raise PlanRefusedError(
            f"{name} has {count} units that may have voxels, at most {MAX_TASKS} can be looked at. Choose another --mag."
        )
