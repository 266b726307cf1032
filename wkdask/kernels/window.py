"""Windows of voxels: in which order they are met, and how a block lies in memory."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Offset = tuple[int, ...]


def scan(factor: Sequence[int], axes: Sequence[str]) -> list[Offset]:
    """Return the offsets of a window's voxels in scan order: y fastest, then x, then z, then the others.

    Examples
    --------
    >>> scan((2, 2), ("x", "y"))
    [(0, 0), (0, 1), (1, 0), (1, 1)]
    """
    speed = {"y": 2, "x": 1, "z": 0}
    slow_to_fast = sorted(range(len(axes)), key=lambda i: (speed.get(axes[i], -1), i))
    windows = itertools.product(*(range(f) for f in factor))
    return sorted(windows, key=lambda offset: [offset[i] for i in slow_to_fast])


def memory_order(block: npt.NDArray[Any]) -> tuple[int, ...]:
    """Return the axes from the slowest to the fastest in memory.

    Examples
    --------
    >>> memory_order(np.zeros((2, 3, 4), order="F"))
    (2, 1, 0)
    """
    if block.flags.f_contiguous:
        return tuple(reversed(range(block.ndim)))
    if block.flags.c_contiguous:
        return tuple(range(block.ndim))
    return tuple(sorted(reversed(range(block.ndim)), key=lambda i: -abs(block.strides[i])))


def empty_like(block: npt.NDArray[Any], shape: Sequence[int]) -> npt.NDArray[Any]:
    """Return a new array of another shape in the block's dtype and memory order."""
    order = memory_order(block)
    return np.empty([shape[i] for i in order], block.dtype).transpose(np.argsort(order))
