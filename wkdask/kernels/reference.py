"""The operations on numpy: what they mean, and fast enough for small jobs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wkdask.kernels.window import empty_like, memory_order, scan

Array = npt.NDArray[Any]

_SLAB_BYTES = 1 << 18
"""Voxels that are reduced at once: temporaries then stay in a core's cache."""
_NARROW = 16
"""A fastest axis shorter than this is walked from outside, as numpy's inner loops would be that short."""


def reduce(block: Array, factor: Sequence[int], mode: str, axes: Sequence[str]) -> Array:
    """Reduce a block; its shape is a multiple of the factor, the mode is none but those of `_OPERATIONS`.

    Parameters
    ----------
    block
        Ints or floats.
    factor, axes
        One for each axis.
    mode
        Such as ``median``.

    Examples
    --------
    >>> reduce(np.array([[3, 3], [2, 2]]), (2, 2), "mode", ("x", "y")).tolist()
    [[3]]
    """
    shape = tuple(n // f for n, f in zip(block.shape, factor, strict=True))
    out, offsets, operation = empty_like(block, shape), scan(factor, axes), _OPERATIONS[mode]
    with np.errstate(invalid="ignore", over="ignore"):
        for region in _slabs(out):
            parts = [
                block[tuple(slice(r.start * f + o, r.stop * f, f) for r, f, o in zip(region, factor, offset, strict=True))]
                for offset in offsets
            ]
            out[region] = operation(parts)
    return out


def like(block: Array, part: Array) -> Array:
    """Return a copy of a part of a block in the block's memory order."""
    out = empty_like(block, part.shape)
    out[...] = part
    return out


def _slabs(out: Array) -> Iterator[tuple[slice, ...]]:
    """Yield regions that cover an array in memory order, each about as large as a slab."""
    order = memory_order(out)
    tile, room = [1] * out.ndim, max(1, _SLAB_BYTES // out.itemsize)
    wide = [i for i in reversed(order) if out.shape[i] > 1]
    narrow = len(wide) > 1 and out.shape[wide[0]] < _NARROW
    for axis in wide[1:] if narrow else wide:
        tile[axis] = min(out.shape[axis], room)
        room = max(1, room // tile[axis])
    steps = [range(0, out.shape[i], tile[i]) for i in order]
    for starts in itertools.product(*steps):
        at = dict(zip(order, starts, strict=True))
        yield tuple(slice(at[i], min(at[i] + tile[i], out.shape[i])) for i in range(out.ndim))


def _midpoint(a: Array, b: Array) -> Array:
    """Return the mean of two values; of ints exactly, truncated toward zero, and without overflow."""
    if a.dtype.kind == "f":
        return np.asarray((a + b) * a.dtype.type(0.5))
    odd = a ^ b
    half = (a & b) + (odd >> 1)
    return half + ((half < 0) & odd) if a.dtype.kind == "i" else half


def _median(parts: list[Array]) -> Array:
    low, high = np.minimum, np.maximum
    if len(parts) == 2:
        return _midpoint(*parts)
    if len(parts) == 4:
        a, b, c, d = parts
        return _midpoint(high(low(a, b), low(c, d)), low(high(a, b), high(c, d)))
    ordered = np.sort(np.stack(parts), axis=0)
    at = len(parts) // 2
    middle = ordered[at].copy() if len(parts) % 2 else _midpoint(ordered[at - 1], ordered[at])
    if middle.dtype.kind == "f":
        middle[np.isnan(ordered[-1])] = np.nan
    return middle


def _mode(parts: list[Array]) -> Array:
    if len(parts) == 2:
        return parts[0]
    if len(parts) == 4:
        a, b, c, d = parts
        later = np.where((b == c) | (b == d), b, np.where(c == d, c, a))
        return np.where((a == b) | (a == c) | (a == d), a, later)
    best, most = parts[0].copy(), np.zeros(parts[0].shape, np.int32)
    for i, part in enumerate(parts):
        count = np.zeros(part.shape, np.int32)
        for other in parts[i + 1 :]:
            count += part == other
        better = count > most
        np.copyto(best, part, where=better)
        np.copyto(most, count, where=better)
    return best


def _mean(parts: list[Array]) -> Array:
    number = len(parts)
    if parts[0].dtype.kind == "f":
        total = parts[0].astype(np.float64)
        for part in parts[1:]:
            total += part
        return total / number
    wide = np.uint64 if parts[0].dtype.kind == "u" else np.int64
    whole, rest = np.zeros(parts[0].shape, wide), np.zeros(parts[0].shape, wide)
    for part in parts:
        quotient, remainder = np.divmod(part.astype(wide), wide(number))
        whole += quotient
        rest += remainder
    quotient, remainder = np.divmod(rest, wide(number))
    whole += quotient
    return whole + ((whole < 0) & (remainder > 0))


def _pairwise(function: Callable[[Array, Array], Array]) -> Callable[[list[Array]], Array]:
    def operation(parts: list[Array]) -> Array:
        found = parts[0]
        for part in parts[1:]:
            found = function(found, part)
        return found

    return operation


_OPERATIONS: dict[str, Callable[[list[Array]], Array]] = {
    "median": _median,
    "mode": _mode,
    "mean": _mean,
    "max": _pairwise(np.maximum),
    "min": _pairwise(np.minimum),
}
