"""Statistics of all voxels of a mag array, as tree reductions that dask computes when they are asked for.

NaN is left out everywhere, and counted beside. Infinities are values like others, but bins of a histogram whose range is not
given end with the finite ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from wkdask.arrays import MagArray
from wkdask.errors import InputError
from wkdask.operations.blocks import Blocks, Pass

if TYPE_CHECKING:
    from collections.abc import Sequence

    import dask.array

Array = np.ndarray[Any, Any]

SLAB = 1 << 20
"""Voxels that are looked at at once, as they are widened to eight bytes each."""

FINE_BINS = 1 << 16
"""Bins from which percentiles of wide dtypes are read."""


@dataclass(frozen=True, slots=True)
class Moments:
    """What is known of some voxels; exact for ints, but for the squares of those wider than 16 bits."""

    count: int
    nans: int
    low: Any
    high: Any
    total: Fraction | float
    squares: float
    finite: tuple[float, float] | None
    infinities: tuple[int, int] = (0, 0)

    @property
    def mean(self) -> float:
        """Mean; NaN of nothing."""
        return float(self.total / self.count) if self.count else math.nan

    @property
    def std(self) -> float:
        """Standard deviation of all voxels, not of a sample."""
        return math.sqrt(self.squares / self.count) if self.count else math.nan


def merged(one: Moments, two: Moments) -> Moments:
    """Return the moments of both; squares by Chan's formula."""
    if not one.count or not two.count:
        return replace(two if two.count else one, nans=one.nans + two.nans)
    count = one.count + two.count
    apart = float(two.total / two.count - one.total / one.count)
    squares = one.squares + two.squares + apart * apart * one.count / count * two.count
    ends = [ends for ends in (one.finite, two.finite) if ends]
    return Moments(
        count,
        one.nans + two.nans,
        min(one.low, two.low),
        max(one.high, two.high),
        one.total + two.total,
        squares,
        (min(a for a, _ in ends), max(b for _, b in ends)) if ends else None,
        (one.infinities[0] + two.infinities[0], one.infinities[1] + two.infinities[1]),
    )


def moments(blocks: Blocks, number: int) -> Moments:
    """Measure one block."""
    block = blocks.read(number)
    if block is None:
        return of_one(blocks.background, blocks.box(number).size)
    flat = block.ravel("K")
    found = [_of_slab(flat[i : i + SLAB]) for i in range(0, flat.size, SLAB)]
    result = found[0]
    for part in found[1:]:
        result = merged(result, part)
    return result


def of_one(value: Any, count: int) -> Moments:
    """Return the moments of one value, many times."""
    one = _of_slab(np.full(1, value))
    infinities = one.infinities[0] * count, one.infinities[1] * count
    return replace(one, count=one.count * count, nans=one.nans * count, total=one.total * count, infinities=infinities)


def _of_slab(flat: Array) -> Moments:
    if flat.dtype.kind == "f":
        return _of_floats(flat)
    low, high = flat.min(), flat.max()
    shifted = flat.astype(np.int64 if flat.dtype.kind == "i" else np.uint64) - low  # wraps where it must, and back again
    shifted = shifted.view(np.uint64)
    above = int((shifted >> np.uint64(32)).sum()) * 2**32 + int((shifted & np.uint64(2**32 - 1)).sum())
    deviation = shifted.astype(np.float64) - above / flat.size
    ends = float(low), float(high)
    return Moments(flat.size, 0, low, high, Fraction(int(low) * flat.size + above), float(deviation @ deviation), ends)


def _of_floats(flat: Array) -> Moments:
    values = flat[~np.isnan(flat)]
    nans = flat.size - values.size
    if not values.size:
        return Moments(0, nans, None, None, 0.0, 0.0, None)
    wide = values.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        total = float(wide.sum())
        deviation = wide - total / wide.size
        squares = float(deviation @ deviation)
    finite = wide[np.isfinite(wide)]
    ends = (float(finite.min()), float(finite.max())) if finite.size else None
    infinities = int((wide == -np.inf).sum()), int((wide == np.inf).sum())
    return Moments(values.size, nans, values.min(), values.max(), total, squares, ends, infinities)


def tally(blocks: Blocks, number: int) -> Array:
    """Count each value of a dtype of at most 16 bits in a block, the least value first."""
    dtype = blocks.array.dtype
    unsigned, least = np.dtype(f"u{dtype.itemsize}"), int(np.iinfo(dtype).min)
    counts = np.zeros(1 << 8 * dtype.itemsize, np.int64)
    block = blocks.read(number)
    if block is None:
        counts[int(blocks.background) - least] = blocks.box(number).size
        return counts
    flat = block.ravel("K")
    for i in range(0, flat.size, SLAB):
        counts += np.bincount(flat[i : i + SLAB].view(unsigned), minlength=counts.size)
    return np.roll(counts, -least)


def moments_of_tally(counts: Array, dtype: np.dtype[Any]) -> Moments:
    """Return the moments that counts of all values tell, exactly."""
    found = np.flatnonzero(counts)
    values = (found + int(np.iinfo(dtype).min)).tolist()
    times = counts[found].tolist()
    count = sum(times)
    total = sum(v * n for v, n in zip(values, times, strict=True))
    squares = sum(v * v * n for v, n in zip(values, times, strict=True)) - Fraction(total * total, count)
    low, high = dtype.type(values[0]), dtype.type(values[-1])
    return Moments(count, 0, low, high, Fraction(total), float(squares), (float(values[0]), float(values[-1])))


def histogram_of(blocks: Blocks, number: int, edges: Array) -> Array:
    """Count the voxels of a block between edges, as `numpy.histogram` does."""
    block = blocks.read(number)
    if block is None:
        return np.histogram([blocks.background], edges)[0] * blocks.box(number).size
    flat, counts = block.ravel("K"), np.zeros(len(edges) - 1, np.int64)
    for i in range(0, flat.size, SLAB):
        counts += np.histogram(flat[i : i + SLAB], edges)[0]
    return counts


def edges_of(ends: Moments, bins: int, limits: tuple[float, float] | None) -> Array:
    """Return the edges of bins over a range, or over the finite values.

    They are those of `numpy.histogram_bin_edges`, but bins narrower than numbers can tell apart are empty, and not refused.
    """
    low, high = (float(end) for end in limits or ends.finite or (0.0, 1.0))
    if low == high:
        low, high = low - 0.5, high + 0.5
    halves = np.linspace(low / 2, high / 2, bins + 1)  # the distance of the greatest float64 to the least is none
    return halves * 2 if math.isinf(high - low) else np.linspace(low, high, bins + 1)


def exact_percentiles(counts: Array, dtype: np.dtype[Any], q: Array) -> Array:
    """Return percentiles, by linear interpolation between neighbours in order, of counts of all values."""
    rank = q / 100 * (int(counts.sum()) - 1)
    below = np.cumsum(counts)
    low, high = (np.searchsorted(below, f(rank), side="right") for f in (np.floor, np.ceil))
    least = int(np.iinfo(dtype).min)
    return np.asarray(low + least + (high - low) * (rank - np.floor(rank)), np.float64)


def binned_percentiles(counts: Array, edges: Array, known: Moments, q: Array) -> Array:
    """Return percentiles read from a histogram of the finite values: off by the width of a bin at most."""
    rank = q / 100 * max(0, known.count - 1) - known.infinities[0]
    inside = int(counts.sum())
    below = np.concatenate([[0], np.cumsum(counts)])
    bin_ = np.clip(np.searchsorted(below, rank, side="right") - 1, 0, len(counts) - 1)
    share = (rank - below[bin_]) / np.maximum(counts[bin_], 1)
    found = edges[bin_] + np.clip(share, 0, 1) * (edges[bin_ + 1] - edges[bin_])
    found = np.where(rank < 0, -np.inf, np.where(rank > inside - 1 if known.infinities[1] else rank > inside, np.inf, found))
    return np.asarray(found if known.count else np.full(q.shape, np.nan), np.float64)


class VoxelStatistics:
    """Statistics of all voxels of an array's box, all channels together. Nothing is read before something is computed.

    What is computed together reads the voxels once, as does `compute`. `histogram` and `percentile` of dtypes wider than 16
    bits read them once more, as they need the extremes first.

    Parameters
    ----------
    array
        Of which. Its box has voxels.

    Examples
    --------
    >>> from wkdask import Dataset
    >>> found = Dataset.open("brain").get_layer("color").get_mag(1).statistics()
    >>> int(found.max.compute()), found.compute().mean
    (129, 64.5)
    >>> found.percentile([0, 50]).compute().tolist()
    [0.0, 64.5]
    """

    def __init__(self, array: MagArray) -> None:
        if not array.box.size:
            raise InputError(f"{array.name} has no voxels in its box {array.box}, so no statistics. Choose another box.")
        import dask

        self._blocks, self._dtype = Blocks(array), array.dtype
        self._counted = array.dtype.kind in "iu" and array.dtype.itemsize <= 2
        if self._counted:
            self._counts = Pass(self._blocks, tally, np.add).lazily("tally")
            self._moments = dask.delayed(moments_of_tally)(self._counts, self._dtype)
        else:
            self._moments = Pass(self._blocks, moments, merged).lazily("moments")

    def _scalar(self, name: str, dtype: Any) -> dask.array.Array:
        import dask.array

        value = dask.delayed(_attribute)(self._moments, name, np.dtype(dtype))
        found: dask.array.Array = dask.array.from_delayed(value, (), dtype)
        return found

    @property
    def min(self) -> dask.array.Array:
        """The least voxel, of the array's dtype; NaN where there is nothing else."""
        return self._scalar("low", self._dtype)

    @property
    def max(self) -> dask.array.Array:
        """The greatest voxel."""
        return self._scalar("high", self._dtype)

    @property
    def mean(self) -> dask.array.Array:
        """The mean; of ints the float64 next to the exact one."""
        return self._scalar("mean", np.float64)

    @property
    def std(self) -> dask.array.Array:
        """The standard deviation, of all voxels and not of a sample."""
        return self._scalar("std", np.float64)

    @property
    def count(self) -> dask.array.Array:
        """Voxels that are not NaN."""
        return self._scalar("count", np.int64)

    def compute(self, **options: Any) -> Moments:
        """Return all of them at once; options are those of `dask.compute`."""
        found: Moments = self._moments.compute(**options)
        return found

    def histogram(self, bins: int = 256, range: tuple[float, float] | None = None) -> tuple[dask.array.Array, dask.array.Array]:
        """Return counts and edges of bins of equal width, as `numpy.histogram` does.

        Parameters
        ----------
        bins
            How many.
        range
            First and last edge; default: the least and the greatest finite voxel.
        """
        import dask.array

        if not 1 <= bins <= 1 << 24 or (range is not None and not -math.inf < range[0] <= range[1] < math.inf):
            raise InputError(f"{bins} bins over {range} are not possible. Give 1 to 16777216 over finite (low, high).")
        edges = dask.delayed(edges_of)(self._moments, bins, range)
        if self._counted:
            values = np.arange(np.iinfo(self._dtype).min, np.iinfo(self._dtype).max + 1)
            counts = dask.delayed(_weighted)(values, edges, self._counts)
        else:
            counts = Pass(self._blocks, histogram_of, np.add).lazily("histogram", edges)
        both = dask.array.from_delayed(counts, (bins,), np.int64), dask.array.from_delayed(edges, (bins + 1,), np.float64)
        return both[0], both[1]

    def percentile(self, q: float | Sequence[float]) -> dask.array.Array:
        """Return percentiles.

        Exact, with linear interpolation as of `numpy.percentile`, for ints of at most 16 bits. Others are read from a
        histogram of 65536 bins between the least and the greatest finite voxel, and are off by the width of a bin at most.

        Parameters
        ----------
        q
            From 0 to 100, one or several.
        """
        import dask.array

        wanted = np.asarray(q, np.float64)
        if not ((wanted >= 0) & (wanted <= 100)).all():
            raise InputError(f"The percentiles {q} are not all from 0 to 100. Give such.")
        if self._counted:
            found = dask.delayed(exact_percentiles)(self._counts, self._dtype, wanted)
        else:
            edges = dask.delayed(edges_of)(self._moments, FINE_BINS, None)
            counts = Pass(self._blocks, histogram_of, np.add).lazily("histogram", edges)
            found = dask.delayed(binned_percentiles)(counts, edges, self._moments, wanted)
        lazy: dask.array.Array = dask.array.from_delayed(found, wanted.shape, np.float64)
        return lazy


def _attribute(known: Moments, name: str, dtype: np.dtype[Any]) -> Any:
    value = getattr(known, name)
    return dtype.type(math.nan if value is None else value)


def _weighted(values: Array, edges: Array, counts: Array) -> Array:
    return np.asarray(np.histogram(values, edges, weights=counts)[0], np.int64)
