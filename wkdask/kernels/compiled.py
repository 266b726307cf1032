"""The operations compiled by numba: one kernel for each mode and dtype, whatever the factors of 1 and 2.

A kernel copies the voxels of some windows to as many short rows (first voxels, second voxels …, in scan order), which stay in
the fastest cache, and then works row against row, which LLVM turns into vector instructions. It holds no GIL.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from wkdask.kernels import operations
from wkdask.kernels.window import empty_like, memory_order, scan

Array = npt.NDArray[Any]
Axis = tuple[int, int, str]
"""Voxels, factor, name."""

_ROW_BYTES = 2048
_WIDE = 64
"""So many voxels behind the last reduced axis are a row of their own."""

_lock = threading.Lock()
_kernels: dict[tuple[str, str], Callable[..., None]] = {}
_dispatchers: dict[str, Any] = {}


def build(folder: str | None) -> None:
    """Make the kernels, which are compiled when a dtype first needs them.

    Parameters
    ----------
    folder
        Where to keep what is compiled; `None` keeps nothing.
    """
    config: Any = numba.config
    before = config.CACHE_DIR
    config.CACHE_DIR = folder or before
    try:
        for mode, function in operations.KERNELS.items():
            _dispatchers[mode] = numba.njit(nogil=True, cache=folder is not None)(function)
    finally:
        config.CACHE_DIR = before


def reduce(block: Array, factor: Sequence[int], mode: str, axes: Sequence[str]) -> Array | None:
    """Reduce a block as `wkdask.kernels.reduce` says; `None` for factors and dtypes that have no kernel.

    Parameters
    ----------
    block
        Ints or floats.
    factor, axes
        One for each axis.
    mode
        Such as ``median``.
    """
    dtype = block.dtype
    if max(factor) > 2 or dtype.kind not in "iuf" or not dtype.isnative or dtype.itemsize not in _SIZES[dtype.kind]:
        return None
    order = memory_order(block)
    layout = _Layout.of([(block.shape[i], factor[i], axes[i]) for i in order])
    if layout is None:
        return None
    out = empty_like(block, [n // f for n, f in zip(block.shape, factor, strict=True)])
    source = np.ascontiguousarray(block.transpose(order)).reshape(layout.outer, -1)
    source.flags.writeable = False
    target = out.transpose(order).reshape(layout.outer, -1)
    kernel, rows = _kernel(mode, dtype), layout.rows(dtype)
    for i in range(layout.outer):
        kernel(source[i], target[i], layout.geometry, layout.place, rows)
    return out


_SIZES = {"i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (4, 8)}


def _kernel(mode: str, dtype: np.dtype[Any]) -> Callable[..., None]:
    """Return a kernel that is compiled for a dtype; one thread compiles, the others wait."""
    key = (mode, dtype.str)
    if key not in _kernels:
        with _lock:
            if key not in _kernels:
                voxel = numba.from_dtype(dtype)
                source = numba.types.Array(voxel, 1, "C", readonly=True)
                numbers = numba.types.Array(numba.int64, 1, "C", readonly=True)
                _dispatchers[mode].compile((source, voxel[::1], numbers, numbers, voxel[:, ::1]))
                _kernels[key] = _dispatchers[mode]
    return _kernels[key]


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a kernel walks a block that is contiguous in memory.

    Parameters
    ----------
    outer
        How often the kernel is called.
    geometry
        Voxels along the two slow axes, of a reduced row and of a pixel in it, then the factors of the three axes.
    place
        The row for each voxel of a window, counted as it lies in memory.
    """

    outer: int
    geometry: npt.NDArray[np.int64]
    place: npt.NDArray[np.int64]

    @classmethod
    def of(cls, axes: list[Axis]) -> _Layout | None:
        """Find the layout for axes, the slowest first; `None` where the reduced ones lie too far apart."""
        merged: list[Axis] = []
        for n, f, name in axes:
            if n == 1:
                continue
            if merged and f == 1 == merged[-1][1]:
                merged[-1] = (merged[-1][0] * n, 1, "")
            else:
                merged.append((n, f, name))
        pixel = 1
        if merged[-1][1] == 1 and (merged[-1][0] < _WIDE or len(merged) > 3):
            pixel = merged.pop()[0]
        walked = [(1, 1, "")] * (3 - len(merged)) + merged[-3:]
        outer = merged[:-3]
        if any(f > 1 for _, f, _ in outer):
            return None
        factor, names = [f for _, f, _ in walked], [name for *_, name in walked]
        ranks = {offset: rank for rank, offset in enumerate(scan(factor, names))}
        place = [ranks[offset] for offset in itertools.product(*(range(f) for f in factor))]
        (n0, f0, _), (n1, f1, _), (n2, f2, _) = walked
        geometry = np.array([n0 // f0, n1 // f1, n2 // f2, pixel, f0, f1, f2], np.int64)
        numbers = np.array(place, np.int64)
        geometry.flags.writeable = numbers.flags.writeable = False
        return cls(math.prod(n for n, *_ in outer), geometry, numbers)

    def rows(self, dtype: np.dtype[Any]) -> Array:
        """Return room for the rows, whole pixels each."""
        lines, length = int(self.geometry[0] * self.geometry[1]), int(self.geometry[2] * self.geometry[3])
        pixel, room = int(self.geometry[3]), _ROW_BYTES // dtype.itemsize
        width = room // length * length or max(1, room // pixel) * pixel
        return np.empty((len(self.place), min(width, lines * length)), dtype)
