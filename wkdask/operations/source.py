"""Images as a source of tiles: seen in the axes, orientation, place and values that the layer has."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import numpy as np

from wkdask.geometry.grid import Box, Index
from wkdask.images import ImageStack, Stack
from wkdask.operations.tiles import Array
from wkdask.operations.values import NO_WINDOW, ValueMap, Window, slice_windows

BAND_VOXELS = 4 << 20


@dataclass(frozen=True, slots=True)
class Orientation:
    """How images lie in the layer.

    An image's columns are x and its rows y; `swap_xy` makes its rows x. After that, `flip` mirrors the named axes of the
    result within its box.

    Examples
    --------
    >>> Orientation(swap_xy=True).extent((32, 100, 200))
    (100, 200, 32)
    """

    flip: tuple[bool, bool, bool] = (False, False, False)
    swap_xy: bool = False

    def extent(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return the extent along x, y, z of a stack of shape (z, y, x)."""
        z, y, x = shape
        return (y, x, z) if self.swap_xy else (x, y, z)


@dataclass(frozen=True, slots=True)
class FromImages:
    """A source of tiles: a stack of images, whose (t, z, y, x, c) is seen as (t, c, x, y, z).

    Parameters
    ----------
    stack
        The images.
    orientation
        How they lie.
    origin
        Where their first voxel lies, in voxels of the first level along x, y, z.
    values
        What becomes of their values; None: they stay.
    """

    stack: ImageStack
    orientation: Orientation = Orientation()
    origin: tuple[int, int, int] = (0, 0, 0)
    values: ValueMap | None = None

    is_there = True
    """No task of a plan writes what is read."""

    def read(self, box: Box) -> Array:
        """Return a box of the layer's first level, in stored axes, Fortran-ordered."""
        channels = slice(box.start[-4], box.stop[-4])
        ranges = self._in_stack(box)
        times = range(box.start[0], box.stop[0]) if len(box.start) == 5 else (None,)
        blocks = [self._block(0 if t is None else t, ranges)[channels] for t in times]
        if times == (None,):
            return blocks[0]
        return blocks[0][None] if len(blocks) == 1 else np.asfortranarray(np.stack(blocks))

    def _in_stack(self, box: Box) -> list[tuple[int, int]]:
        """Return the ranges along x, y, z of the unflipped result that a box needs."""
        extent = self.orientation.extent(self.stack.shape)
        found = []
        for a, b, o, n, flip in zip(box.start[-3:], box.stop[-3:], self.origin, extent, self.orientation.flip, strict=True):
            found.append((n - (b - o), n - (a - o)) if flip else (a - o, b - o))
        return found

    def _block(self, t: int, ranges: list[tuple[int, int]]) -> Array:
        """Return (c, x, y, z) of one time point."""
        x, y, z = ranges
        rows, columns = (x, y) if self.orientation.swap_xy else (y, x)
        block = self.stack.read(*z, *rows, *columns, t=t)
        if self.values is not None:
            whole = block.shape[1:3] == self.stack.shape[1:]
            windows = [slice_window(self.stack, t, i) for i in range(*z)] if self.values.per_slice and not whole else None
            block = self.values.apply(block, windows)
        block = block.transpose()
        if self.orientation.swap_xy:
            block = block.transpose(0, 2, 1, 3)
        mirror = [slice(None, None, -1 if flip else 1) for flip in self.orientation.flip]
        return np.asfortranarray(block[:, *mirror])

    def bytes_read(self, box: Box) -> int:
        """Return the bytes of voxels of a box."""
        return box.size * int(np.dtype(self.stack.dtype).itemsize)

    def bytes_beside(self, box: Box) -> int:
        """Memory for decoding pages whose rows can not be decoded alone, and for further copies where voxels move or change."""
        moved = any(self.orientation.flip) or self.orientation.swap_xy
        before = np.dtype(self.stack.dtype).itemsize
        after = np.dtype(self.values.target).itemsize if self.values else before
        band = BAND_VOXELS * self.stack.channels * before if self.values is not None and self.values.per_slice else 0
        copies = (after if moved else 0) + (before if self.values is not None and before == after else 0)
        return self.stack.decoded_bytes + box.size * copies + band

    @property
    def growth(self) -> str:
        """Images are read plane by plane, by rows, so their tiles grow within the plane only."""
        return "yx" if self.orientation.swap_xy else "xy"

    def needs(self, box: Box) -> Iterable[tuple[int, int]]:  # noqa: ARG002
        """Return nothing: images are there."""
        return ()

    def describe(self, tile: Index) -> str:
        """Return what is read, and how often each page is decoded."""
        pages = self.stack.shape[0] * self.stack.times
        times = self.stack.decodes(tile[-3 if self.orientation.swap_xy else -2])
        return f"{pages} page{'s' if pages != 1 else ''}, each decoded {said_times(times)},"


def said_times(times: float) -> str:
    """Return how often something is done, in words."""
    return "once" if times <= 1 else f"{times:.3g} times"


MOST_WINDOWS = 1 << 16
_windows: dict[Hashable, Window] = {}


def slice_window(stack: Stack, t: int, z: int) -> Window:
    """Return the least and the greatest value of a whole slice, which is read in bands, once in a process.

    Slices that are decoded together are looked at together.
    """
    key = (*stack.stamp(z), t, stack.part)
    if key not in _windows:
        if len(_windows) + stack.depth_step > MOST_WINDOWS:
            _windows.clear()
        first = z - z % stack.depth_step
        last = min(first + stack.depth_step, stack.shape[0])
        for at, window in zip(range(first, last), _read_windows(stack, t, first, last), strict=True):
            _windows[*stack.stamp(at), t, stack.part] = window
    return _windows[key]


def _read_windows(stack: Stack, t: int, z0: int, z1: int) -> list[Window]:
    _, height, width = stack.shape
    step = -(-max(1, BAND_VOXELS // (width * (z1 - z0))) // stack.row_step) * stack.row_step
    found = [NO_WINDOW] * (z1 - z0)
    for y in range(0, height, step):
        bands = slice_windows(stack.read(z0, z1, y, min(y + step, height), t=t))
        found = [(min(low, a), max(high, b)) for (low, high), (a, b) in zip(found, bands, strict=True)]
    return found
