"""Reducing by a cubic filter, which looks beyond each window: separable, on the absolute grid of voxels."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wkdask.kernels.window import empty_like

Array = npt.NDArray[Any]

_EDGE = 64
"""Source voxels along each axis that are reduced at once, so that float64 temporaries stay small."""


def halo(factor: int) -> int:
    """Return how many voxels the filter sees on each side of a window.

    Examples
    --------
    >>> [halo(f) for f in (1, 2, 3, 4)]
    [0, 3, 4, 6]
    """
    return 3 * factor // 2 if factor > 1 else 0


def weights(factor: int) -> list[float]:
    """Return the weights of the voxels of a window and its halo: Keys' cubic with a = -1/2, stretched by the factor.

    They sum to 1, for factors that are powers of two without any rounding.

    Examples
    --------
    >>> [round(256 * w) for w in weights(2)]
    [-3, -9, 29, 111, 111, 29, -9, -3]
    """
    reach = halo(factor)
    distances = [abs(2 * i + 1 - factor) / (2 * factor) for i in range(-reach, factor + reach)]
    found = [_keys(d) / factor for d in distances]
    return [w / sum(found) for w in found]


def _keys(t: float) -> float:
    if t < 1:
        return (1.5 * t - 2.5) * t * t + 1
    return ((-0.5 * t + 2.5) * t - 4) * t + 2 if t < 2 else 0.0


def reduce(block: Array, factor: Sequence[int], axes: Sequence[str]) -> Array:
    """Reduce a block that has its halo around it.

    Parameters
    ----------
    block
        Ints or floats; along each axis a multiple of the factor, and the halo at both ends.
    factor, axes
        One for each axis.

    Returns
    -------
    ndarray
        Of the block's dtype, which ints are rounded to, half to even, and clipped to.

    Examples
    --------
    >>> block = np.full((10, 1), 7, np.uint8)
    >>> reduce(block, (2, 1), ("x", "y")).tolist()
    [[7], [7]]
    """
    reaches = [halo(f) for f in factor]
    out = empty_like(block, [(n - 2 * r) // f for n, f, r in zip(block.shape, factor, reaches, strict=True)])
    order = sorted(
        (i for i, f in enumerate(factor) if f > 1), key=lambda i: axes[i], reverse=True
    )  # x lies closest: least of it
    edges = [max(8, _EDGE // f) for f in factor]
    for starts in itertools.product(*(range(0, n, edge) for n, edge in zip(out.shape, edges, strict=True))):
        region = tuple(slice(a, min(a + edge, n)) for a, n, edge in zip(starts, out.shape, edges, strict=True))
        seen = tuple(slice(r.start * f, r.stop * f + 2 * h) for r, f, h in zip(region, factor, reaches, strict=True))
        values = block[seen].astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            for axis in order:
                values = _along(values, axis, factor[axis])
            out[region] = _fitted(values, out.dtype)
    return out


def _along(values: Array, axis: int, factor: int) -> Array:
    """Filter and reduce one axis; voxels at the same distance are added first, so that mirrored input stays mirrored."""
    taps, last = weights(factor), factor + 2 * halo(factor) - 1
    length = values.shape[axis] - last
    total: Array | None = None
    for i in range((last + 1) // 2):
        first, second = _strided(values, axis, i, length, factor), _strided(values, axis, last - i, length, factor)
        part = first + second
        part *= taps[i]
        total = part if total is None else np.add(total, part, out=total)
    if last % 2 == 0:
        middle = _strided(values, axis, last // 2, length, factor) * taps[last // 2]
        total = middle if total is None else np.add(total, middle, out=total)
    return values if total is None else total


def _strided(values: Array, axis: int, start: int, length: int, step: int) -> Array:
    at = slice(start, start + length, step)
    return values[(*(slice(None),) * axis, at)]


def _fitted(values: Array, dtype: np.dtype[Any]) -> Array:
    """Return values as a dtype: ints rounded and clipped, also where float64 has not its largest value."""
    if dtype.kind == "f":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    low, high = float(limits.min), float(limits.max)
    rounded = np.rint(values)
    fitting = np.clip(rounded, low, np.nextafter(high, 0.0) if int(high) > limits.max else high).astype(dtype)
    fitting[rounded >= high] = limits.max
    return fitting
