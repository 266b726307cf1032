"""Layers as they would be elsewhere: cut, mirrored, turned and moved. Nothing is read until voxels are wanted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from wkdask.arrays import MagArray
from wkdask.arrays.mag_array import read_filled
from wkdask.errors import InputError
from wkdask.geometry.grid import Box, Index
from wkdask.operations.presence import stored_voxels
from wkdask.operations.tiles import Array

SPACE = ("x", "y", "z")


@dataclass(frozen=True, slots=True)
class Move:
    """Where the voxels along one axis come from.

    Parameters
    ----------
    axis
        Which axis of the source they lie along.
    shift
        Where the source has voxel 0: position p is the source's ``p + shift``, or where `backwards`, ``shift - 1 - p``.
    backwards
        Whether the source has them in reverse.

    Examples
    --------
    >>> Move("x").flipped(10, 14).source(10, 11)
    (13, 14)
    """

    axis: str
    shift: int = 0
    backwards: bool = False

    def source(self, start: int, stop: int) -> tuple[int, int]:
        """Return the half-open interval of the source that an interval shows."""
        if self.backwards:
            return self.shift - stop, self.shift - start
        return start + self.shift, stop + self.shift

    def flipped(self, start: int, stop: int) -> Move:
        """Return the move after which an interval is mirrored in itself."""
        turned = self.shift - start - stop if self.backwards else self.shift + start + stop
        return replace(self, shift=turned, backwards=not self.backwards)

    def translated(self, by: int) -> Move:
        """Return the move after which all voxels lie further along."""
        return replace(self, shift=self.shift + by if self.backwards else self.shift - by)


@dataclass(frozen=True, slots=True)
class MovedArray(MagArray):
    """A magnification seen in another place; it has no voxels outside its box.

    Parameters
    ----------
    names
        What the stored axes are called here, in stored order.
    moves
        Where the voxels along each of them come from, in voxels of this magnification.
    cast
        The dtype that voxels become; none: their own.
    """

    names: tuple[str, ...] = ()
    moves: tuple[Move, ...] = ()
    cast: str = ""

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes, in stored order."""
        return self.names

    @property
    def dtype(self) -> np.dtype[Any]:
        """The voxels' type."""
        return np.dtype(self.cast or self.handle.spec.dtype)

    def read(self, box: Box) -> Array:
        """Read any box, in stored axes; what lies outside the bounding box is zero."""
        return self.voxels(box, keep=True)

    def voxels(self, box: Box, *, keep: bool = False) -> Array:
        """Read any box; ``keep`` is what `wkdask.formats.ArrayHandle.read` takes it for."""
        inside = box.intersect(self.box)
        if not inside.size:
            return np.zeros(box.shape, self.dtype, order="F")
        block = cast_exactly(read_filled(self.handle, self.source_box(inside), keep=keep), self.dtype)[self._turns]
        if inside == box:
            return block
        whole = np.zeros(box.shape, self.dtype, order="F")
        whole[inside.relative_to(box.start).slices] = block
        return whole

    def stored(self, box: Box) -> Array:
        """Return, for each voxel of a box, whether its chunk is stored."""
        inside = box.intersect(self.box)
        found = np.zeros(box.shape, bool, order="F")
        if inside.size:
            there = stored_voxels(self.handle, self.source_box(inside))
            found[inside.relative_to(box.start).slices] = there[self._turns]
        return found

    def source_box(self, box: Box) -> Box:
        """Return the box of the stored array, counted from the dataset's origin, that a box shows."""
        pairs = [move.source(a, b) for move, a, b in zip(self.moves, box.start, box.stop, strict=True)]
        return Box(tuple(a for a, _ in pairs), tuple(b for _, b in pairs))

    @property
    def _turns(self) -> tuple[slice, ...]:
        return tuple(slice(None, None, -1 if move.backwards else 1) for move in self.moves)


def cast_exactly(block: Array, dtype: np.dtype[Any]) -> Array:
    """Return a block in another dtype in which every voxel has its value.

    Raises
    ------
    InputError
        Where one has not.

    Examples
    --------
    >>> cast_exactly(np.array([1, 255], "uint16"), np.dtype("uint8")).tolist()
    [1, 255]
    """
    rounds = block.dtype.kind in "iu" and dtype.kind == "f"  # numpy calls int64 to float64 safe, and compares them as floats
    if block.dtype == dtype or (np.can_cast(block.dtype, dtype) and not (rounds and block.dtype.itemsize == 8)):
        return block.astype(dtype, copy=False)
    with np.errstate(invalid="ignore"):
        cast = block.astype(dtype)
    wrong = cast != block
    if rounds:
        beyond = cast >= 2.0 ** (8 * block.dtype.itemsize - (block.dtype.kind == "i"))
        wrong = beyond | (np.where(beyond, 0, cast).astype(block.dtype) != block)
    if wrong.any():
        value = block[tuple(int(i[0]) for i in np.nonzero(wrong))]
        raise InputError(
            f"A voxel is {value}, which {dtype} can not hold. Choose a dtype that can, or change the values first."
        )
    return cast


@dataclass(frozen=True, slots=True)
class FromView:
    """A source of tiles: a magnification seen in another place, in the axes of an array that is written.

    Parameters
    ----------
    array
        What is read.
    wanted
        The axes, in order. Those that the array lacks are there with length 1; of those that `wanted` lacks, the first voxel
        is read.
    """

    array: MovedArray
    wanted: tuple[str, ...]

    def own(self, box: Box) -> Box:
        """Return a box of the wanted axes in those of the array."""
        ends = dict(zip(self.wanted, zip(box.start, box.stop, strict=True), strict=True))
        pairs = [ends.get(axis, (a, a + 1)) for axis, a in zip(self.array.axes, self.array.box.start, strict=True)]
        return Box(tuple(a for a, _ in pairs), tuple(b for _, b in pairs))

    def arranged(self, block: Array) -> Array:
        """Return a block in the array's axes as one in the wanted axes."""
        axes = list(self.array.axes)
        block = block[tuple(slice(None) if axis in self.wanted else 0 for axis in axes)]
        axes = [axis for axis in axes if axis in self.wanted]
        block = block.transpose([axes.index(axis) for axis in self.wanted if axis in axes])
        return block[tuple(slice(None) if axis in axes else None for axis in self.wanted)]

    def read(self, box: Box) -> Array:
        """Return a box in the wanted axes, Fortran-ordered."""
        return np.asfortranarray(self.arranged(self.array.voxels(self.own(box))))

    @property
    def _is_plain(self) -> bool:
        return self.array.axes == self.wanted and not any(move.backwards for move in self.array.moves)

    def bytes_read(self, box: Box) -> int:
        """Return the bytes of voxels of a box, as they are stored."""
        return box.size * self.array.handle.spec.itemsize

    def bytes_beside(self, box: Box) -> int:
        """Return the memory of what is cast, and of a second copy where voxels change their order."""
        stored, own = self.array.handle.spec.itemsize, self.array.dtype.itemsize
        return box.size * ((0 if self._is_plain else own) + (own + 2 if self.array.cast and stored != own else 0))

    @property
    def growth(self) -> str:
        """Tiles may grow along all axes of space."""
        return "xyz"

    def needs(self, box: Box) -> Iterable[tuple[int, int]]:  # noqa: ARG002
        """Return nothing: the magnification is there."""
        return ()

    def describe(self, tile: Index) -> str:  # noqa: ARG002
        """Return what is read."""
        return f"voxels of {self.array.name}"
