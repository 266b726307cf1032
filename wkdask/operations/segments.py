"""Tables of segments: how many voxels each id has, and where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np

from wkdask.arrays import MagArray
from wkdask.clusters.batches import in_order
from wkdask.errors import InputError
from wkdask.geometry import BoundingBox
from wkdask.geometry.grid import Box
from wkdask.operations.blocks import Blocks, Pass

Array = np.ndarray[Any, Any]

SLAB = 1 << 18
"""Voxels that are looked at at once: where each differs from the next, they take a hundred bytes each."""


@dataclass(frozen=True, slots=True, eq=False)
class SegmentTable:
    """Segments by ascending id; 0, which is background, is not among them.

    Parameters
    ----------
    ids
        Of the layer's dtype.
    voxels
        How many each has, in voxels of the magnification that was read.
    topleft, bottomright
        In mag-1 voxels, (segment, axis) for x, y, z: the first voxel of each, and the first one beyond.
    """

    ids: Array
    voxels: Array
    topleft: Array
    bottomright: Array

    def __len__(self) -> int:
        return len(self.ids)

    def _row(self, segment: int) -> int:
        row = int(np.searchsorted(self.ids, segment)) if len(self.ids) else 0
        if row == len(self.ids) or int(self.ids[row]) != segment:
            raise InputError(f"There is no segment {segment} among {len(self)}. See ids for those that there are.")
        return row

    def size(self, segment: int) -> int:
        """Return how many voxels a segment has."""
        return int(self.voxels[self._row(segment)])

    def bounding_box(self, segment: int) -> BoundingBox:
        """Return where a segment lies, in mag-1 voxels."""
        row = self._row(segment)
        return BoundingBox(self.topleft[row], self.bottomright[row] - self.topleft[row])

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame` whose index is the id.

        Raises
        ------
        InputError
            Where pandas is not installed.
        """
        try:
            import pandas as pd  # type: ignore[import-untyped,import-not-found,unused-ignore]
        except ImportError:
            raise InputError("pandas is not installed. Install it, or use the arrays ids, voxels, topleft.") from None
        columns = {"voxels": self.voxels}
        for name, corner in (("topleft", self.topleft), ("bottomright", self.bottomright)):
            columns |= {f"{name}_{axis}": corner[:, i] for i, axis in enumerate("xyz")}
        return pd.DataFrame(columns, index=pd.Index(self.ids, name="id"))


def table_of(blocks: Blocks, number: int) -> SegmentTable:
    """Return the segments of one block; corners in voxels of the array's mag."""
    block = blocks.read(number)
    found = _empty(blocks.array.dtype)
    box = blocks.box(number)
    if block is None and blocks.background == 0:
        return found
    if block is None:
        block = np.full(box.shape, blocks.background)
    order: Literal["C", "F"] = "C" if block.flags.c_contiguous and not block.flags.f_contiguous else "F"
    flat = block.ravel(order)
    for start in range(0, flat.size, SLAB):
        found = merged(found, _table_of_slab(flat[start : start + SLAB], start, box, blocks.array.axes, order))
    return found


def _table_of_slab(flat: Array, start: int, box: Box, axes: Sequence[str], order: Literal["C", "F"]) -> SegmentTable:
    """Return the segments of some voxels that follow each other in memory, the first one ``start`` behind the box's."""
    inwards = range(len(axes)) if order == "F" else range(len(axes) - 1, -1, -1)
    along = next((axis for axis in inwards if box.shape[axis] > 1), 0)  # an axis of length one makes no rows
    row = box.shape[along]
    begins = flat[1:] != flat[:-1]
    begins[row - 1 - start % row :: row] = True
    first = np.concatenate([[0], np.flatnonzero(begins) + 1])
    length = np.diff(first, append=flat.size)
    ids = flat[first]
    kept = ids != 0
    ids, first, length = ids[kept], first[kept], length[kept]
    places = dict(zip(axes, np.unravel_index(first + start, box.shape, order), strict=True))
    begin = dict(zip(axes, box.start, strict=True))
    topleft = np.stack([places[a] + begin[a] for a in "xyz"], -1).astype(np.int64)
    bottomright = topleft + 1
    if axes[along] in "xyz":
        bottomright[:, "xyz".index(axes[along])] += length - 1
    return _grouped(SegmentTable(ids, length.astype(np.int64), topleft, bottomright))


def _empty(dtype: np.dtype[Any]) -> SegmentTable:
    corners = np.zeros((0, 3), np.int64)
    return SegmentTable(np.zeros(0, dtype), np.zeros(0, np.int64), corners, corners)


def _grouped(table: SegmentTable) -> SegmentTable:
    """Return a table in which each id comes once."""
    if not len(table):
        return table
    order = np.argsort(table.ids, kind="stable")
    ids = table.ids[order]
    first = np.concatenate([[0], np.flatnonzero(ids[1:] != ids[:-1]) + 1])
    return SegmentTable(
        ids[first],
        np.add.reduceat(table.voxels[order], first),
        np.minimum.reduceat(table.topleft[order], first),
        np.maximum.reduceat(table.bottomright[order], first),
    )


def merged(one: SegmentTable, two: SegmentTable) -> SegmentTable:
    """Return the table of both."""
    if not len(one) or not len(two):
        return one if len(one) else two
    return _grouped(SegmentTable(*(np.concatenate([getattr(one, f.name), getattr(two, f.name)]) for f in fields(one))))


def segment_table(array: MagArray, executor: Any = None) -> SegmentTable:
    """Go once through an array, and return its segments. Memory is some blocks, and some tables of the ids that they have.

    Parameters
    ----------
    array
        Of ints.
    executor
        See `wkdask.clusters.batches.in_order`.
    """
    blocks = Blocks(array)
    found = _empty(array.dtype)
    for part in in_order(Pass(blocks, table_of, merged), len(blocks), executor, "segments"):
        found = merged(found, part)
    mag = np.array(array.mag)
    return SegmentTable(found.ids, found.voxels, found.topleft * mag, found.bottomright * mag)


def largest_in(blocks: Blocks, number: int) -> int:
    """Return the largest id of a block."""
    block = blocks.read(number)
    return int(blocks.background if block is None else block.max())


def largest_id(array: MagArray, shape: tuple[int, ...] = (), executor: Any = None) -> int | None:
    """Return the largest voxel, exactly; None where the box has none.

    Parameters
    ----------
    array
        Of ints.
    shape
        Of what is read at once, for each stored axis; default a few megabytes.
    executor
        See `wkdask.clusters.batches.in_order`.
    """
    blocks = Blocks(array, shape)
    return max(in_order(Pass(blocks, largest_in, max), len(blocks), executor, "largest-id"), default=None)
