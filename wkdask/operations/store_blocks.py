"""Blocks of a dask array as tiles of a magnification: their borders moved to those of chunks, each written by one task."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import numpy as np

from wkdask.arrays.dask_view import auto_chunk
from wkdask.errors import InputError, PlanRefusedError
from wkdask.formats import ArraySpec
from wkdask.geometry.grid import Box, Grid, Index, Tiling
from wkdask.operations.tiles import Array, WriteTiles
from wkdask.plan import Journal, format_bytes

if TYPE_CHECKING:
    import dask.array as da


def aligned_cuts(sizes: Sequence[int], start: int, chunk: int) -> tuple[int, ...]:
    """Return where blocks begin along an axis when each border between two is moved to the nearest border of chunks.

    Blocks that are smaller than a chunk so become one with their neighbours. No border moves by more than half a chunk.

    Parameters
    ----------
    sizes
        Of the blocks, in voxels.
    start
        Where the first block begins, in voxels of the array that is written.
    chunk
        Edge of its chunks.

    Examples
    --------
    >>> aligned_cuts((30, 30, 30), start=5, chunk=16)
    (5, 32, 64)
    >>> aligned_cuts((5, 5, 5, 5), start=0, chunk=16)
    (0, 16)
    """
    _, *borders, stop = accumulate(sizes, initial=start)
    nearest = {(border + (chunk - 1) // 2) // chunk * chunk for border in borders}
    return (start, *sorted(border for border in nearest if start < border < stop))


@dataclass(frozen=True, slots=True)
class Blocks(Tiling):
    """Tiles of any shapes: `shape` is that of the largest, ``cuts`` say where tiles begin along each axis.

    Examples
    --------
    >>> blocks = Blocks.of(((5, 32, 64), (0,)), Box((5, 0), (90, 8)))
    >>> len(blocks), blocks.shape, blocks.box(1), list(blocks.covering(Box((0, 0), (33, 1))))
    (3, (32, 8), Box(start=(32, 0), stop=(64, 8)), [0, 1])
    """

    cuts: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, cuts: tuple[tuple[int, ...], ...], over: Box) -> Blocks:
        """Return the tiles that begin at the cuts and end with a box."""
        sizes = [[b - a for a, b in pairwise((*c, stop))] for c, stop in zip(cuts, over.stop, strict=True)]
        return cls(over, tuple(map(max, sizes)), cuts)

    def __post_init__(self) -> None:
        self._lay(Box((0,) * len(self.cuts), tuple(map(len, self.cuts))))

    @property
    def chunks(self) -> tuple[tuple[int, ...], ...]:
        """Sizes of the tiles along each axis, as dask has them."""
        ends = zip(self.cuts, self.over.stop, strict=True)
        return tuple(tuple(b - a for a, b in pairwise((*cuts, stop))) for cuts, stop in ends)

    def voxels(self, cells: Box) -> Box:
        """Return the voxels of all tiles with coordinates in a box."""
        ends = list(zip(cells.start, cells.stop, self.cuts, self.over.stop, strict=True))
        return Box(tuple(c[i] for i, _, c, _ in ends), tuple((*c, stop)[i] for _, i, c, stop in ends))

    def meeting(self, box: Box) -> Box:
        """Return the coordinates of the tiles that a box meets; it must have some voxels in common with all tiles."""
        box = box.intersect(self.over)
        start = tuple(bisect_right(cuts, a) - 1 for cuts, a in zip(self.cuts, box.start, strict=True))
        return Box(start, tuple(bisect_left(cuts, b) for cuts, b in zip(self.cuts, box.stop, strict=True)))

    def boxes(self, numbers: range) -> Iterator[Box]:
        """Yield the voxels of tiles, one box each, as they are of any shapes.

        Examples
        --------
        >>> list(Blocks.of(((0, 5, 32),), Box((0,), (40,))).boxes(range(1, 3)))
        [Box(start=(5,), stop=(32,)), Box(start=(32,), stop=(40,))]
        """
        return map(self.box, numbers)

    def runs(self, box: Box) -> Iterator[range]:
        """Yield the numbers of the tiles that a box meets, in ascending order.

        Examples
        --------
        >>> list(Blocks.of(((0, 5, 32),), Box((0,), (40,))).runs(Box((6,), (33,))))
        [range(1, 2), range(2, 3)]
        """
        return (range(number, number + 1) for number in map(self.number, self.cells_of(box)))

    def divide(self, pieces: Index) -> bool:
        """Whether no border between two tiles cuts a piece, such as a unit, so that each is met by one tile."""
        return not any(cut % n for cuts, n in zip(self.cuts, pieces, strict=True) for cut in cuts[1:])


def align(array: da.Array, start: Index, chunk: Index) -> tuple[da.Array, Blocks]:
    """Return an array whose blocks begin and end where chunks do, or where it does, and the blocks' places.

    Nothing is computed. Blocks are neither split nor merged further than that takes.

    Parameters
    ----------
    array
        In stored axes.
    start
        Where its first voxel lies in the array that is written.
    chunk
        Shape of that array's chunks.
    """
    over = Box(start, tuple(a + n for a, n in zip(start, array.shape, strict=True)))
    blocks = Blocks.of(tuple(map(aligned_cuts, array.chunks, start, chunk)), over)
    if blocks.chunks != array.chunks:  # in one step: the usual intermediate ones would move voxels twice
        array = array.rechunk(blocks.chunks, threshold=1 << 40, method="tasks")
    return array, blocks


def require_small(blocks: Blocks, spec: ArraySpec, most: int, order: Sequence[int]) -> None:
    """Raise `PlanRefusedError` where the largest block does not fit a worker's share of memory.

    Parameters
    ----------
    blocks
        After they were aligned.
    spec
        Of the array that is written.
    most
        Bytes that a block may have.
    order
        For each axis of the user's own array, its place among the stored axes.
    """
    size = math.prod(blocks.shape) * spec.itemsize
    if size <= most:
        return
    limit, fitting = most, spec.chunk
    while limit:
        fitting = auto_chunk(Grid(blocks.over.shape, spec.chunk, spec.unit), spec.itemsize, limit)
        grown = (f if a % c == 0 else f + c for f, a, c in zip(fitting, blocks.over.start, spec.chunk, strict=True))
        if math.prod(map(min, grown, blocks.over.shape)) * spec.itemsize <= most:
            break
        limit //= 2
    shape = tuple(min(fitting[i], blocks.over.shape[i]) for i in order)
    raise PlanRefusedError(
        f"The array's largest block has {format_bytes(size)} when it begins and ends where chunks do, but a block may have "
        f"{format_bytes(most)}, a third of a worker thread's memory. Make smaller ones first: array.rechunk({shape})."
    )


@dataclass(frozen=True, slots=True)
class GivenBlocks:
    """A source whose voxels are handed to the task: blocks of an array that somebody else computes.

    Parameters
    ----------
    dtype
        Of the voxels.
    block
        The one that was handed over; None in a plan.
    """

    dtype: str
    block: Array | None = None

    def read(self, box: Box) -> Array:
        """Return the block, after checking that it is as it was announced."""
        if self.block is None:
            raise PlanRefusedError("A task got no block, as its files were there when it was planned. Run the same again.")
        block = np.asarray(self.block)
        if block.shape != box.shape or block.dtype != self.dtype:
            raise InputError(
                f"A block of the array is {block.dtype} of the shape {block.shape}; it was announced as {self.dtype} of "
                f"{box.shape}. Correct the function that makes it, or the dtype and chunks that are given for it."
            )
        return block.astype(self.dtype, copy=False)

    def bytes_read(self, box: Box) -> int:
        """Return the bytes of a box."""
        return box.size * int(np.dtype(self.dtype).itemsize)

    def bytes_beside(self, box: Box) -> int:  # noqa: ARG002
        """Return nothing: what computing a block takes is not known here."""
        return 0

    @property
    def growth(self) -> str:
        """Blocks are as they are."""
        return ""

    def needs(self, box: Box) -> Iterable[tuple[int, int]]:  # noqa: ARG002
        """Return nothing: what computes a block is no task of the plan's own."""
        return ()

    def describe(self, tile: Index) -> str:  # noqa: ARG002
        """Return what is written."""
        return "a dask array"


@dataclass(frozen=True, slots=True)
class WriteBlocks(WriteTiles):
    """Each task writes one block of an array; see `WriteTiles`."""

    blocks: Blocks = field(kw_only=True)

    @property
    def tiles(self) -> Tiling:
        """The blocks."""
        return self.blocks

    def moved(self, journal: Journal) -> None:
        """Return nothing: without the graph that computes them, there are no blocks to write elsewhere."""
