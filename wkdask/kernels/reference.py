"""The operations on numpy: what they mean, and fast enough for small jobs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wkdask.kernels.window import empty_like, memory_order, scan

Array = npt.NDArray[Any]

_SLAB_BYTES = 1 << 18
"""Source voxels that are reduced at once: they and all temporaries then stay in a core's second cache."""
_LEAST = 4096
"""Windows that are reduced at once at least: fewer would cost more in calls than in work."""
_COUNTED = 32
"""Voxels of a window up to which the most frequent is found by counting; beyond, by sorting."""
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
        for region in _slabs(out, math.prod(factor)):
            parts = [
                block[tuple(slice(r.start * f + o, r.stop * f, f) for r, f, o in zip(region, factor, offset, strict=True))]
                for offset in offsets
            ]
            out[region] = operation([part.copy("K") for part in parts])  # vector instructions want neighbours
    return out


def like(block: Array, part: Array) -> Array:
    """Return a copy of a part of a block in the block's memory order."""
    out = empty_like(block, part.shape)
    out[...] = part
    return out


def _slabs(out: Array, window: int) -> Iterator[tuple[slice, ...]]:
    """Yield regions that cover an array in memory order, each made of about a slab of windows of so many voxels."""
    order = memory_order(out)
    tile, room = [1] * out.ndim, max(_LEAST, _SLAB_BYTES // (out.itemsize * window))
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
    if len(parts) == 8:
        return _midpoint(*_middle_of_8(parts))
    small = parts[0].dtype.kind in "iu" and parts[0].itemsize < 4  # numpy sorts those of 4 bytes by vector instructions
    ordered = np.sort(np.stack(parts, axis=-1, dtype=f"{parts[0].dtype.kind}4" if small else None))
    ordered = np.moveaxis(ordered, -1, 0)
    at = len(parts) // 2
    middle = ordered[at].copy() if len(parts) % 2 else _midpoint(ordered[at - 1], ordered[at])
    if middle.dtype.kind == "f":
        middle[np.isnan(ordered[-1])] = np.nan
    return middle


def _sorted_4(a: Array, b: Array, c: Array, d: Array) -> tuple[Array, Array, Array, Array]:
    """Sort four values; where one is NaN, all become NaN that are compared with it."""
    low, high = np.minimum, np.maximum
    a, b, c, d = low(a, b), high(a, b), low(c, d), high(c, d)
    a, c, b, d = low(a, c), high(a, c), low(b, d), high(b, d)
    return a, low(b, c), high(b, c), d


def _middle_of_8(parts: list[Array]) -> tuple[Array, Array]:
    """Return the fourth and the fifth of eight values: two halves are sorted, then merged no further than is needed."""
    low, high = np.minimum, np.maximum
    p, q = _sorted_4(*parts[:4]), _sorted_4(*parts[4:])[::-1]
    lower = high(high(low(p[0], q[0]), low(p[1], q[1])), high(low(p[2], q[2]), low(p[3], q[3])))
    upper = low(low(high(p[0], q[0]), high(p[1], q[1])), low(high(p[2], q[2]), high(p[3], q[3])))
    return lower, upper


def _replace(values: Array, others: Array, where: Array) -> None:
    """Put other values in some places: without a branch for each, which noise would make slow."""
    if values.dtype.kind == "f":
        bits = f"u{values.itemsize}"
        values, others = values.view(bits), others.view(bits)
    values ^= (values ^ others) * where.view(np.uint8)


def _mode(parts: list[Array]) -> Array:
    if len(parts) == 2:
        return parts[0]
    if len(parts) == 4:
        a, b, c, d = parts
        later = a.copy()
        _replace(later, c, c == d)
        _replace(later, b, (b == c) | (b == d))
        _replace(later, a, (a == b) | (a == c) | (a == d))
        return later
    if len(parts) == 8:
        return _first_most_frequent(parts)
    best = parts[0].copy()
    mixed = np.logical_or.reduce([part != best for part in parts])  # most windows of most segmentations are not
    among = _first_most_frequent if len(parts) <= _COUNTED else _first_longest_run
    best[mixed] = among([part[mixed] for part in parts])
    return best


def _first_most_frequent(parts: list[Array]) -> Array:
    counts = np.min_scalar_type(len(parts))
    best, most = parts[0].copy(), np.zeros(parts[0].shape, counts)
    for i, part in enumerate(parts):
        count = np.zeros_like(most)
        for other in parts[i + 1 :]:
            count += (part == other).view(np.uint8)
        _replace(best, part, count > most)
        np.maximum(most, count, out=most)
    return best


def _first_longest_run(parts: list[Array]) -> Array:
    """Return the same as `_first_most_frequent`, by sorting: its work grows with the square of a window's voxels."""
    values, places = _ranked(parts)
    counts = np.min_scalar_type(len(parts))
    run, first = np.ones(parts[0].shape, counts), places[0]
    most, at = run.copy(), first.copy()
    for i in range(1, len(parts)):
        same = values[i] == values[i - 1]
        run = run * same + counts.type(1)
        first = np.where(same, first, places[i])
        better = (run > most) | ((run == most) & (first < at))
        _replace(most, run, better)
        _replace(at, first, better)
    return np.asarray(np.take_along_axis(np.stack(parts), at[None].astype(np.intp), axis=0)[0])


def _ranked(parts: list[Array]) -> tuple[Array, Array]:
    """Return the values of each window in order, and where in the window each was; equal ones stay in scan order."""
    stacked = np.stack(parts, axis=-1)
    bits = 8 * stacked.itemsize
    if stacked.dtype.kind == "f" or bits == 64:
        places = np.argsort(stacked, axis=-1, kind="stable")
        values = np.take_along_axis(stacked, places, axis=-1)
    else:  # values and places in one int are sorted by vector instructions
        wide = np.dtype("u4" if bits + (len(parts) - 1).bit_length() <= 32 else "u8")
        shift = wide.type(8 * wide.itemsize - bits)
        keys = stacked.view(f"u{stacked.itemsize}").astype(wide) << shift
        keys |= np.arange(len(parts), dtype=wide)
        keys.sort(axis=-1)
        values, places = keys >> shift, keys & ((wide.type(1) << shift) - wide.type(1))
    return np.ascontiguousarray(np.moveaxis(values, -1, 0)), np.ascontiguousarray(np.moveaxis(places, -1, 0))


def _mean(parts: list[Array]) -> Array:
    number, dtype = len(parts), parts[0].dtype
    if dtype.kind == "f":
        total = parts[0].astype(np.float64)
        for part in parts[1:]:
            total += part
        return total / number
    fitting = [size for size in (2, 4, 8) if size > dtype.itemsize and number <= 1 << 8 * (size - dtype.itemsize)]
    if not fitting:
        return _mean_of_quotients(parts)
    total = parts[0].astype(f"{dtype.kind}{fitting[0]}")
    for part in parts[1:]:
        total += part
    if dtype.kind == "i":
        total += (total < 0) * total.dtype.type(number - 1)
    return total // total.dtype.type(number)


def _mean_of_quotients(parts: list[Array]) -> Array:
    """Return means of ints, where no type holds their sum: quotients and remainders are added apart."""
    number, wide = len(parts), np.uint64 if parts[0].dtype.kind == "u" else np.int64
    whole, rest = np.zeros(parts[0].shape, wide), np.zeros(parts[0].shape, wide)
    for part in parts:
        quotient = part // wide(number)
        whole += quotient
        rest += part - quotient * wide(number)
    quotient = rest // wide(number)
    whole += quotient
    return whole + ((whole < 0) & (rest > quotient * wide(number)))


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
