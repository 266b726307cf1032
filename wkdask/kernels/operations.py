"""What numba compiles: plain loops over rows, one kernel for each mode.

A kernel takes ``(source, target, geometry, place, rows)``, as `wkdask.kernels.compiled` describes them. Nothing here is for
Python to run. Ints stay in their own type ``T``: numba would make a float of uint64 and int64 together, and narrow types give
wide vector instructions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload, register_jitable


@register_jitable
def _pieces(geometry: Any, rows: Any) -> Any:
    """Return into how many pieces, each no longer than a row, the target falls: parts of one line, or some whole ones."""
    lines, length, width = geometry[0] * geometry[1], geometry[2] * geometry[3], rows.shape[1]
    if length > width:
        return lines * ((length + width - 1) // width)
    at_once = width // length
    return (lines + at_once - 1) // at_once


@register_jitable
def _gather(source: Any, target: Any, geometry: Any, place: Any, rows: Any, piece: Any) -> Any:
    """Fill the rows with a piece's windows; return its part of the target."""
    n1, pixel, f0, f1, f2 = geometry[1], geometry[3], geometry[4], geometry[5], geometry[6]
    length, width = geometry[2] * pixel, rows.shape[1]
    if length > width:
        per_line = (length + width - 1) // width
        first, start = piece // per_line, piece % per_line * width
        last, n = first + 1, min(width, length - start)
    else:
        first, start, n = piece * (width // length), 0, length
        last = min(first + width // length, geometry[0] * n1)
    for line in range(first, last):
        i, j, to = line // n1, line % n1, (line - first) * n
        for k in range(f0 * f1):
            at = ((i * f0 + k // f1) * (n1 * f1) + j * f1 + k % f1) * length * f2 + start * f2
            if f2 == 1:
                rows[place[k], to : to + n] = source[at : at + n]
            else:
                even, odd = rows[place[2 * k], to : to + n], rows[place[2 * k + 1], to : to + n]
                _split(source[at : at + 2 * n], even, odd, pixel)
    return target[first * length + start : (last - 1) * length + start + n]


@register_jitable
def _split(line: Any, even: Any, odd: Any, pixel: Any) -> None:
    """Copy a line's pixels to two rows in turn."""
    if pixel == 1:
        for t in range(even.size):
            even[t] = line[2 * t]
            odd[t] = line[2 * t + 1]
        return
    for p in range(even.size // pixel):
        at = p * pixel
        for c in range(pixel):
            even[at + c] = line[2 * at + c]
            odd[at + c] = line[2 * at + pixel + c]


def _low(a: Any, b: Any) -> Any:
    """Return the smaller value; NaN where one is."""


def _high(a: Any, b: Any) -> Any:
    """Return the larger value; NaN where one is."""


def _middle(a: Any, b: Any) -> Any:
    """Return the mean of two values; of ints truncated toward zero, without overflow."""


def _quarter(total: Any, rest: Any, shift: Any) -> Any:
    """Return the mean from the sums of quotients and remainders."""


@overload(_low, strict=False)
def _low_of(a: Any, b: Any) -> Callable[..., Any]:
    if isinstance(a, types.Float):
        return lambda a, b: a if (a < b) | (a != a) else b
    return lambda a, b: a if a < b else b


@overload(_high, strict=False)
def _high_of(a: Any, b: Any) -> Callable[..., Any]:
    if isinstance(a, types.Float):
        return lambda a, b: a if (a > b) | (a != a) else b
    return lambda a, b: a if a > b else b


@overload(_middle, strict=False)
def _middle_of(a: Any, b: Any) -> Callable[..., Any]:
    T = a
    if isinstance(T, types.Float):
        return lambda a, b: T(T(a + b) * T(0.5))
    if not T.signed:
        return lambda a, b: T(T(a & b) + T(T(a ^ b) >> T(1)))

    def middle(a: Any, b: Any) -> Any:
        odd = T(a ^ b)
        half = T(T(a & b) + T(odd >> T(1)))
        return T(half + (T(odd & T(1)) if half < T(0) else T(0)))

    return middle


@overload(_quarter, strict=False)
def _quarter_of(total: Any, rest: Any, shift: Any) -> Callable[..., Any]:
    T = total
    if not T.signed:
        return lambda total, rest, shift: T(total + T(rest >> shift))

    def quarter(total: Any, rest: Any, shift: Any) -> Any:
        down = T(total + T(rest >> shift))
        return T(down + (T(1) if (down < T(0)) & (T(rest & T(T(T(1) << shift) - T(1))) != T(0)) else T(0)))

    return quarter


@register_jitable
def _sort4(a: Any, b: Any, c: Any, d: Any) -> Any:
    a, b, c, d = _low(a, b), _high(a, b), _low(c, d), _high(c, d)
    a, c, b, d = _low(a, c), _high(a, c), _low(b, d), _high(b, d)
    return a, _low(b, c), _high(b, c), d


@register_jitable
def _median(rows: Any, out: Any) -> None:
    a, b = rows[0], rows[1]
    if rows.shape[0] == 2:
        for i in range(out.size):
            out[i] = _middle(a[i], b[i])
        return
    c, d = rows[2], rows[3]
    if rows.shape[0] == 4:
        for i in range(out.size):
            lower = _high(_low(a[i], b[i]), _low(c[i], d[i]))
            out[i] = _middle(lower, _low(_high(a[i], b[i]), _high(c[i], d[i])))
        return
    e, f, g, h = rows[4], rows[5], rows[6], rows[7]
    for i in range(out.size):
        p0, p1, p2, p3 = _sort4(a[i], b[i], c[i], d[i])
        q0, q1, q2, q3 = _sort4(e[i], f[i], g[i], h[i])
        lower = _high(_high(_low(p0, q3), _low(p1, q2)), _high(_low(p2, q1), _low(p3, q0)))
        upper = _low(_low(_high(p0, q3), _high(p1, q2)), _low(_high(p2, q1), _high(p3, q0)))
        out[i] = _middle(lower, upper)


@register_jitable
def _mode(rows: Any, out: Any) -> None:
    if rows.shape[0] == 2:
        out[:] = rows[0, : out.size]
        return
    a, b, c, d = rows[0], rows[1], rows[2], rows[3]
    if rows.shape[0] == 4:
        for i in range(out.size):
            later = c[i] if c[i] == d[i] else a[i]
            later = b[i] if (b[i] == c[i]) | (b[i] == d[i]) else later
            out[i] = a[i] if (a[i] == b[i]) | (a[i] == c[i]) | (a[i] == d[i]) else later
        return
    e, f, g, h = rows[4], rows[5], rows[6], rows[7]
    for i in range(out.size):
        v0, v1, v2, v3, v4, v5, v6, v7 = a[i], b[i], c[i], d[i], e[i], f[i], g[i], h[i]
        most = (
            _count(v0, v1) + _count(v0, v2) + _count(v0, v3) + _count(v0, v4) + _count(v0, v5) + _count(v0, v6) + _count(v0, v7)
        )
        best = v0
        n = _count(v1, v2) + _count(v1, v3) + _count(v1, v4) + _count(v1, v5) + _count(v1, v6) + _count(v1, v7)
        best, most = (v1 if n > most else best), max(n, most)
        n = _count(v2, v3) + _count(v2, v4) + _count(v2, v5) + _count(v2, v6) + _count(v2, v7)
        best, most = (v2 if n > most else best), max(n, most)
        n = _count(v3, v4) + _count(v3, v5) + _count(v3, v6) + _count(v3, v7)
        best, most = (v3 if n > most else best), max(n, most)
        n = _count(v4, v5) + _count(v4, v6) + _count(v4, v7)
        best, most = (v4 if n > most else best), max(n, most)
        n = _count(v5, v6) + _count(v5, v7)
        best, most = (v5 if n > most else best), max(n, most)
        out[i] = v6 if _count(v6, v7) > most else best


@register_jitable
def _count(a: Any, b: Any) -> Any:
    return types.int32(1) if a == b else types.int32(0)


def _mean(rows: Any, out: Any) -> None:
    """Write the means of the rows."""


@overload(_mean, strict=False)
def _mean_of(rows: Any, out: Any) -> Callable[..., None]:
    return _mean_floats if isinstance(out.dtype, types.Float) else _mean_ints(out.dtype)


def _mean_floats(rows: Any, out: Any) -> None:
    number = rows.shape[0]
    a, b = rows[0], rows[1]
    if number == 2:
        for i in range(out.size):
            out[i] = (np.float64(a[i]) + np.float64(b[i])) / 2
        return
    c, d = rows[2], rows[3]
    if number == 4:
        for i in range(out.size):
            out[i] = (np.float64(a[i]) + np.float64(b[i]) + np.float64(c[i]) + np.float64(d[i])) / 4
        return
    e, f, g, h = rows[4], rows[5], rows[6], rows[7]
    for i in range(out.size):
        first = np.float64(a[i]) + np.float64(b[i]) + np.float64(c[i]) + np.float64(d[i])
        out[i] = (first + np.float64(e[i]) + np.float64(f[i]) + np.float64(g[i]) + np.float64(h[i])) / 8


def _mean_ints(T: Any) -> Callable[..., None]:
    """Add quotients and remainders of the division by the number of rows, a power of two: no sum overflows."""

    def mean(rows: Any, out: Any) -> None:
        number = rows.shape[0]
        shift = T(1 if number == 2 else 2 if number == 4 else 3)
        mask = T(number - 1)
        a, b = rows[0], rows[1]
        if number == 2:
            for i in range(out.size):
                out[i] = _middle(a[i], b[i])
            return
        c, d = rows[2], rows[3]
        if number == 4:
            for i in range(out.size):
                whole = T(T(a[i] >> shift) + T(b[i] >> shift) + T(c[i] >> shift) + T(d[i] >> shift))
                rest = T(T(a[i] & mask) + T(b[i] & mask) + T(c[i] & mask) + T(d[i] & mask))
                out[i] = _quarter(whole, rest, shift)
            return
        e, f, g, h = rows[4], rows[5], rows[6], rows[7]
        for i in range(out.size):
            whole = T(T(a[i] >> shift) + T(b[i] >> shift) + T(c[i] >> shift) + T(d[i] >> shift))
            whole = T(whole + T(e[i] >> shift) + T(f[i] >> shift) + T(g[i] >> shift) + T(h[i] >> shift))
            rest = T(T(a[i] & mask) + T(b[i] & mask) + T(c[i] & mask) + T(d[i] & mask))
            rest = T(rest + T(e[i] & mask) + T(f[i] & mask) + T(g[i] & mask) + T(h[i] & mask))
            out[i] = _quarter(whole, rest, shift)

    return mean


def median(source: Any, target: Any, geometry: Any, place: Any, rows: Any) -> None:
    """Write the medians of windows of 2, 4 or 8."""
    for piece in range(_pieces(geometry, rows)):
        _median(rows, _gather(source, target, geometry, place, rows, piece))


def mode(source: Any, target: Any, geometry: Any, place: Any, rows: Any) -> None:
    """Write the first most frequent values of windows of 2, 4 or 8."""
    for piece in range(_pieces(geometry, rows)):
        _mode(rows, _gather(source, target, geometry, place, rows, piece))


def mean(source: Any, target: Any, geometry: Any, place: Any, rows: Any) -> None:
    """Write the means of windows of 2, 4 or 8."""
    for piece in range(_pieces(geometry, rows)):
        _mean(rows, _gather(source, target, geometry, place, rows, piece))


def maximum(source: Any, target: Any, geometry: Any, place: Any, rows: Any) -> None:
    """Write the largest values of windows."""
    for piece in range(_pieces(geometry, rows)):
        out = _gather(source, target, geometry, place, rows, piece)
        out[:] = rows[0, : out.size]
        for k in range(1, rows.shape[0]):
            row = rows[k]
            for i in range(out.size):
                out[i] = _high(out[i], row[i])


def minimum(source: Any, target: Any, geometry: Any, place: Any, rows: Any) -> None:
    """Write the smallest values of windows."""
    for piece in range(_pieces(geometry, rows)):
        out = _gather(source, target, geometry, place, rows, piece)
        out[:] = rows[0, : out.size]
        for k in range(1, rows.shape[0]):
            row = rows[k]
            for i in range(out.size):
                out[i] = _low(out[i], row[i])


KERNELS: dict[str, Callable[..., None]] = {"median": median, "mode": mode, "mean": mean, "max": maximum, "min": minimum}
