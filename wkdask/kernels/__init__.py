"""Reducing blocks of voxels: numpy in, numpy out.

`reduce` is the only door. Small jobs run on numpy, large ones on kernels that numba compiles; both give the same voxels, as
every operation is defined on one window of voxels alone, whatever the block it lies in.

======== ==========================================================================================================
median   The middle value; of an even number of voxels the mean of the two middle ones, for ints truncated toward zero
         and exact up to 64 bits. NaN where the window has one.
mode     The most frequent value; of several such, the one met first going along y, then x, then z. 0 is a value like
         any other, NaN equals nothing.
mean     The mean; for ints exact, truncated toward zero. Floats are added in float64, along y, then x, then z.
max, min The extremes; NaN where the window has one.
nearest  The window's first voxel.
bicubic  Keys' cubic filter (a = -1/2), stretched by the factor, about the window's centre, separably in float64; ints
         are rounded, half to even, and clipped to their range, and those beyond 2^53 are as exact as float64 is. It
         looks beyond the window: the block has the voxels of `halo` around it.
======== ==========================================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wkdask.errors import InputError
from wkdask.kernels import cubic, loader, reference
from wkdask.kernels.loader import worth_compiling

__all__ = ["MODES", "halo", "reduce", "worth_compiling"]

MODES = ("median", "mode", "max", "min", "nearest", "mean", "bicubic")

_DEFAULT_AXES = {2: ("x", "y"), 3: ("x", "y", "z"), 4: ("c", "x", "y", "z")}


def halo(mode: str, factor: Sequence[int]) -> tuple[int, ...]:
    """Return how many voxels beyond its windows, on each side along each axis, `reduce` needs in a block.

    Examples
    --------
    >>> halo("bicubic", (1, 2, 2, 1)), halo("median", (1, 2, 2, 1))
    ((0, 3, 3, 0), (0, 0, 0, 0))
    """
    return tuple([cubic.halo(f) for f in factor]) if mode == "bicubic" else (0,) * len(factor)


def reduce(
    block: npt.NDArray[Any],
    factor: Sequence[int],
    mode: str,
    *,
    axes: Sequence[str] | None = None,
    large: bool | None = None,
) -> npt.NDArray[Any]:
    """Reduce a block by whole factors.

    Parameters
    ----------
    block
        Any array of ints, floats or booleans (for `nearest`: of anything), in any memory order.
    factor
        One int for each axis, which divides the block's shape there, without the halo at both ends. Only x, y and z may
        have others than 1.
    mode
        One of `MODES`.
    axes
        Names of the axes; by default ``("c", "x", "y", "z")`` of four, x, y and z of three, x and y of two.
    large
        Whether to use the compiled kernels; by default once this process has reduced much.

    Returns
    -------
    ndarray
        Of the block's dtype, in its memory order.

    Raises
    ------
    InputError
        Where the factor does not fit, or the mode or dtype is none of these.

    Examples
    --------
    >>> block = np.array([[200, 201], [0, 255]], np.uint8)
    >>> reduce(block, (2, 2), "median").item(), reduce(block, (2, 2), "max").item()
    (200, 255)
    """
    factor = tuple(int(f) for f in factor)
    names = tuple(axes) if axes is not None else _DEFAULT_AXES.get(block.ndim, ())
    _check(block, factor, mode, names)
    if mode == "bicubic" and math.prod(factor) > 1:
        return cubic.reduce(block, factor, names)
    if mode == "nearest" or math.prod(factor) == 1 or not block.size:
        return reference.like(block, block[tuple(slice(None, None, f) for f in factor)])
    if block.dtype == np.bool_:
        return reduce(block.view(np.uint8), factor, mode, axes=names, large=large).view(np.bool_)
    compiled = loader.compiled_for(block.nbytes, large)
    if compiled is not None:
        reduced: npt.NDArray[Any] | None = compiled.reduce(block, factor, mode, names)
        if reduced is not None:
            return reduced
    return reference.reduce(block, factor, mode, names)


def _check(block: npt.NDArray[Any], factor: tuple[int, ...], mode: str, axes: tuple[str, ...]) -> None:
    if mode not in MODES:
        raise InputError(f"There is no interpolation mode {mode!r}; there are {', '.join(MODES)}. Use one of those.")
    if not block.ndim == len(factor) == len(axes):
        raise InputError(f"A block of shape {block.shape} needs as many factors and axes, got {factor} and {axes}.")
    reaches = halo(mode, factor)
    if any(f < 1 or n < 2 * h or (n - 2 * h) % f for n, f, h in zip(block.shape, factor, reaches, strict=True)):
        beside = f", and {reaches} more at both ends" if any(reaches) else ""
        raise InputError(
            f"A block of shape {block.shape} can not be reduced by {factor} ({mode}). Give multiples of the factor{beside}."
        )
    if any(f > 1 and a not in "xyz" for a, f in zip(axes, factor, strict=True)):
        raise InputError(f"Only x, y and z can be reduced, not by {factor} along {axes}. Give 1 for other axes.")
    if mode != "nearest" and block.dtype.kind not in ("iuf" if mode == "bicubic" else "biuf"):
        raise InputError(f"The mode {mode} needs ints or floats, not {block.dtype}. Use the mode nearest.")
