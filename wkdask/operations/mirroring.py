"""Reading with a margin: what lies beyond the edges of an array is mirrored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import le

import numpy as np

from wkdask.geometry.grid import Box
from wkdask.operations.tiles import Array


def with_halo(box: Box, halo: Sequence[int]) -> Box:
    """Return a box grown at both ends of each axis."""
    return Box(box.relative_to(halo).start, box.shifted(halo).stop)


def mirrored(start: int, stop: int, low: int, high: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Return, for each position, the one inside [low, high) that stands for it when the edges are mirrors.

    The voxel at the edge is its own mirror image, as in numpy's ``symmetric`` padding.

    Examples
    --------
    >>> mirrored(-2, 6, 0, 4).tolist()
    [1, 0, 0, 1, 2, 3, 3, 2]
    """
    at = (np.arange(start, stop) - low) % (2 * (high - low))
    return low + np.minimum(at, 2 * (high - low) - 1 - at)


def mirrored_range(box: Box, domain: Box) -> Box:
    """Return the part of a domain that stands for a box when the domain's edges are mirrors: of an empty one, nothing."""
    if all(map(le, domain.start, box.start)) and all(map(le, box.stop, domain.stop)):
        return box  # as most are; an empty domain has none but empty ones
    if not domain.size:
        return Box(domain.start, domain.start)
    ends = []
    for a, b, low, high in zip(box.start, box.stop, domain.start, domain.stop, strict=True):
        if low <= a and b <= high:
            ends.append((a, b))
        else:
            at = mirrored(a, b, low, high)
            ends.append((int(at.min()), int(at.max()) + 1))
    return Box(tuple(a for a, _ in ends), tuple(b for _, b in ends))


def read_mirrored(read: Callable[[Box], Array], box: Box, domain: Box) -> Array:
    """Read a box whose voxels outside a domain are mirrored, or zero where it is empty; Fortran-ordered."""
    inside = mirrored_range(box, domain)
    block = read(inside)
    if not domain.size:  # the box of a coarser magnification is rounded outwards, so it may have voxels all the same
        return np.zeros(box.shape, block.dtype, order="F")
    for axis, (a, b) in enumerate(zip(box.start, box.stop, strict=True)):
        at = mirrored(a, b, domain.start[axis], domain.stop[axis]) - inside.start[axis]
        if len(at) != block.shape[axis] or not np.array_equal(at, np.arange(len(at))):
            block = np.take(block.transpose(), at, axis=block.ndim - 1 - axis).transpose()
    return block
