"""What becomes of the voxels' values when they are converted: another dtype, another range, light for dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from wkdask.errors import InputError
from wkdask.operations.probe import percentile_window

Array = npt.NDArray[Any]
Window = tuple[float, float]
"""The values of the source that become the least and the greatest of the target; ints where they are to be exact."""

TARGETS = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32")
CHUNK_VOXELS = 1 << 16
"""Voxels that are reckoned at once: temporaries then stay in a core's cache."""
PERCENTILES = (0.1, 99.9)
NO_WINDOW = (math.inf, -math.inf)
"""The window of no voxels at all."""
WIDE, SMALL = 1e290, 2.0**-100
"""Where windows are that wide, all is reckoned with at a small scale, as float64 would overflow."""


@dataclass(frozen=True, slots=True)
class Rescale:
    """Which window of values a conversion is to take.

    Parameters
    ----------
    method
        ``window`` for values, ``percentiles`` of samples, or ``per-slice``.
    low, high
        The values or percentiles; of no meaning for ``per-slice``.
    """

    method: Literal["window", "percentiles", "per-slice"]
    low: float = 0
    high: float = 0


@dataclass(frozen=True, slots=True)
class ValueMap:
    """How the values of voxels change.

    Without a window, values stay, in a dtype that holds them all; of float64 in float32 the nearest is taken, infinite beyond
    its range. With a window from *low* to *high*, a value v becomes ``least + (v - low) * (greatest - least) / (high - low)``,
    where *least* and *greatest* are those of the target's dtype, and 0 and 1 for floats. Values outside the window are taken to
    its nearer end. What lies between two integers goes to the nearest, and to the even one of two that are equally near.
    This is reckoned in float64: exactly for windows of whole numbers, sources of up to 32 bits and targets of up to 16.

    NaN, and all of a slice that has one value only, hold no picture: they become *least*, inverted or not. Without a
    window NaN stays.

    Parameters
    ----------
    source, target
        Names of dtypes.
    window
        The values that become the target's least and greatest.
    per_slice
        Whether each slice along z has the window of its own least and greatest value.
    invert
        Whether light becomes dark. With a window, v becomes ``greatest + least - v`` in the target. Without, it is so for
        integers before they are widened (255 - v for uint8, -1 - v for signed ones), and floats become -v.

    Raises
    ------
    InputError
        Where the dtypes have no place in a layer, or the target does not hold all values and there is no window.

    Examples
    --------
    >>> ValueMap("uint16", "uint8", window=(1000, 2000)).apply(np.array([999, 1000, 1500, 2000, 9999], "uint16")).tolist()
    [0, 0, 128, 255, 255]
    >>> ValueMap("uint8", "uint8", invert=True).apply(np.array([0, 1, 255], "uint8")).tolist()
    [255, 254, 0]
    """

    source: str
    target: str
    window: Window | None = None
    per_slice: bool = False
    invert: bool = False

    def __post_init__(self) -> None:
        _check_dtypes(self.source, self.target, rescaled=self.window is not None or self.per_slice)
        if self.window is not None:
            if self.per_slice:
                raise InputError(f"There is a window {self.window}, and each slice is to have its own. Give one of both.")
            _check_window(self.window)

    def __str__(self) -> str:
        low, high = self.window or NO_WINDOW
        scaled = ", each slice rescaled" if self.per_slice else f", {low:g} to {high:g} rescaled" if self.window else ""
        return f"{self.source} to {self.target}{scaled}{', inverted' if self.invert else ''}"

    @property
    def changes(self) -> bool:
        """Whether any voxel may come out as something else."""
        return self.invert or self.per_slice or self.window is not None or self.source != self.target

    @np.errstate(over="ignore", invalid="ignore")  # float64 too large for float32, and signalling NaNs
    def apply(self, block: Array, windows: Sequence[Window] | None = None) -> Array:
        """Return a block's voxels as they are in the target.

        Parameters
        ----------
        block
            Voxels of the source's dtype, of any shape; where slices matter, z is the first axis, as in stacks of images.
        windows
            For `per_slice` alone: one for each slice of the block, from `slice_windows` of the whole slices. Without, the
            block's own are taken, which is right only for a block of whole slices.

        Returns
        -------
        Array
            A new array in the block's order of memory; the block itself where nothing changes.

        Raises
        ------
        InputError
            Where the block has another dtype, or the number of windows is not that of the slices.

        Examples
        --------
        >>> ValueMap("int16", "uint8", per_slice=True).apply(np.array([[0, 10], [-5, 5]], "int16")).tolist()
        [[0, 255], [0, 255]]
        """
        if block.dtype != np.dtype(self.source):
            raise InputError(f"The block holds {block.dtype}, this map is for {self.source}. Plan one for {block.dtype}.")
        if windows is not None and not self.per_slice:
            raise InputError(f"There are {len(windows)} windows for slices, but this map has one for all. Leave them out.")
        if not self.changes:
            return block
        out = np.empty_like(block, self.target)
        if not self.per_slice:
            _fill(block, out, self._function(self.window, block.size))
            return out
        windows = slice_windows(block) if windows is None else windows
        if len(windows) != len(block):
            raise InputError(f"There are {len(windows)} windows for {len(block)} slices. Give one for each.")
        for z, window in enumerate(windows):
            one = slice(z, z + 1)
            _fill(block[one], out[one], self._function(window, block[one].size))
        return out

    def _function(self, window: Window | None, voxels: int) -> Callable[[Array, Array], None]:
        """Return what writes the new values of some voxels; one table for many voxels of few values."""
        if window is None:
            return self._cast
        bits = 8 * np.dtype(self.source).itemsize
        if bits > 16 or voxels < 1 << bits:
            return lambda values, out: _rescale(values, out, window, self.invert)
        table, index = _table(self, window), f"uint{bits}"

        def look_up(values: Array, out: Array) -> None:
            table.take(values.view(index), out=out, mode="clip")  # none is outside; "clip" spares a buffer

        return look_up

    def _cast(self, values: Array, out: Array) -> None:
        if self.invert:
            values = -values if values.dtype.kind == "f" else ~values
        out[...] = values


def _fill(block: Array, out: Array, function: Callable[[Array, Array], None]) -> None:
    """Apply a function to some voxels at a time, in the order of memory."""
    use: Any = [["readonly", "contig"], ["writeonly"]]
    with np.nditer([block, out], ["external_loop", "buffered", "zerosize_ok"], use, buffersize=CHUNK_VOXELS) as parts:
        for values, to in parts:
            if values.size:
                function(values, to)


@lru_cache(maxsize=16)
def _table(values: ValueMap, window: Window) -> Array:
    """Return what becomes of each pattern of 8 or 16 bits."""
    bits = 8 * np.dtype(values.source).itemsize
    table = np.empty(1 << bits, values.target)
    _rescale(np.arange(1 << bits, dtype=f"uint{bits}").view(values.source), table, window, values.invert)
    return table


def _rescale(values: Array, out: Array, window: Window, invert: bool) -> None:
    """Write what a window makes of values."""
    least, greatest = _range(out.dtype)
    low, high = window
    if not -math.inf < low < high < math.inf:
        out[...] = least
        return
    if float(high) - float(low) > WIDE:
        values, low, high = values * np.float64(SMALL), low * SMALL, high * SMALL
    new = _above(values, low, high)
    new *= greatest - least
    new /= float(high - low)
    if out.dtype.kind != "f":
        np.rint(new, out=new)
    if invert:
        np.subtract(greatest - least, new, out=new)
    if values.dtype.kind == "f":
        np.copyto(new, 0, where=np.isnan(new))
    new += least
    out[...] = new


def _above(values: Array, low: float, high: float) -> npt.NDArray[np.float64]:
    """Return how far values are above the window's lower end, those outside taken to its nearer end."""
    if values.dtype.itemsize == 8 and values.dtype.kind in "iu" and isinstance(low, int) and isinstance(high, int):
        bounds = np.iinfo(values.dtype)
        if bounds.min <= low and high <= bounds.max:  # exact, where float64 would know 53 of 64 bits
            inside = values.clip(low, high).view(np.uint64)
            return np.asarray(inside - np.uint64(low % 2**64), np.float64)
    new = values.astype(np.float64)
    np.clip(new, low, high, out=new)
    new -= low
    return new


def _range(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return the values that the ends of a window become."""
    if dtype.kind == "f":
        return 0.0, 1.0
    return float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)


def slice_windows(block: Array) -> list[Window]:
    """Return the least and the greatest finite value of each slice along the first axis, all channels together.

    Where slices are read in tiles, the least of the lower ends and the greatest of the upper ones are those of the slice.

    Parameters
    ----------
    block
        Voxels, of any shape; z is the first axis.

    Returns
    -------
    list of tuple
        Ints where voxels are, else floats; ``(inf, -inf)`` for a slice without a finite value.

    Examples
    --------
    >>> slice_windows(np.array([[1, 3], [7, 5]]))
    [(1, 3), (5, 7)]
    """
    return [_extent(block[z : z + 1]) for z in range(len(block))]


def _extent(plane: Array) -> Window:
    low, high = NO_WINDOW
    part: Any
    for part in np.nditer(plane, ["external_loop", "buffered", "zerosize_ok"], ["readonly"], buffersize=CHUNK_VOXELS):
        voxels = part[np.isfinite(part)] if plane.dtype.kind == "f" else part
        if voxels.size:
            low, high = min(low, voxels.min().item()), max(high, voxels.max().item())
    return low, high


def parse_rescale(text: str) -> Rescale:
    """Read how values are to be rescaled.

    Parameters
    ----------
    text
        ``MIN,MAX``, ``percentiles`` (0.1 and 99.9), ``percentiles:LOW,HIGH`` or ``per-slice``.

    Raises
    ------
    InputError
        Where it is none of these, or its numbers are no range.

    Examples
    --------
    >>> parse_rescale("0,4095")
    Rescale(method='window', low=0.0, high=4095.0)
    >>> parse_rescale("percentiles:1,99")
    Rescale(method='percentiles', low=1.0, high=99.0)
    """
    if text == "per-slice":
        return Rescale("per-slice")
    if text == "percentiles":
        return Rescale("percentiles", *PERCENTILES)
    name, colon, numbers = text.rpartition(":")
    try:
        low, high = (float(part) for part in numbers.split(","))
    except ValueError:
        low, high = NO_WINDOW
    if name == "percentiles" and 0 <= low < high <= 100:
        return Rescale("percentiles", low, high)
    if not colon and -math.inf < low < high < math.inf:
        return Rescale("window", low, high)
    raise InputError(
        f"{text!r} is no way to rescale. Use MIN,MAX (MIN below MAX; --invert exchanges light and dark), percentiles, "
        "percentiles:LOW,HIGH (from 0 to 100), or per-slice."
    )


def plan_values(
    source_dtype: str,
    target_dtype: str | None,
    rescale: Rescale | None,
    invert: bool,
    sample: Callable[[], Iterable[Array]],
) -> ValueMap:
    """Choose what becomes of values.

    Parameters
    ----------
    source_dtype, target_dtype
        What there is and what is wanted; None: the same.
    rescale
        The window; None: values stay.
    invert
        Whether light becomes dark.
    sample
        Returns blocks of voxels, such as those of `sample_planes`; called for percentiles alone.

    Raises
    ------
    InputError
        Where the dtypes have no place in a layer, or the target does not hold all values and there is no window.

    Examples
    --------
    >>> print(plan_values("uint16", "uint8", parse_rescale("percentiles:0,100"), False, lambda: [np.array([7, 900])]))
    uint16 to uint8, 7 to 900 rescaled
    """
    source = _dtype_name(source_dtype)
    target = source if target_dtype is None else _dtype_name(target_dtype)
    _check_dtypes(source, target, rescaled=rescale is not None)
    if rescale is None or rescale.method == "per-slice":
        return ValueMap(source, target, per_slice=rescale is not None, invert=invert)
    ends = (rescale.low, rescale.high)
    window = ends if rescale.method == "window" else percentile_window(sample(), *ends)
    return ValueMap(source, target, window, invert=invert)


def _dtype_name(dtype: str) -> str:
    """Return the name of a dtype without its byte order."""
    try:
        return np.dtype(dtype).name
    except (TypeError, ValueError, SyntaxError):
        raise InputError(f"There is no dtype {dtype!r}. Use one of {', '.join(TARGETS)}.") from None


def _check_dtypes(source: str, target: str, *, rescaled: bool) -> None:
    """Refuse dtypes of which no layer is made, and those between which values would be lost."""
    if source not in (*TARGETS, "bool", "float16", "float64"):
        raise InputError(f"Voxels of {source} can not be converted. Make them one of {', '.join(TARGETS)} first.")
    if target not in TARGETS:
        fitting = {"bool": "uint8", "float16": "float32", "float64": "float32"}.get(target, "one of " + ", ".join(TARGETS))
        raise InputError(f"Voxels of {target} have no place in a layer. Give --dtype {fitting}.")
    if rescaled and target in ("uint64", "int64"):
        raise InputError(f"Values can not be rescaled to {target}, but to 32 bits at most. Give --dtype {target[:-2]}32.")
    if not rescaled and (source, target) != ("float64", "float32") and not np.can_cast(source, target, "safe"):
        raise InputError(
            f"Voxels of {source} do not all fit into {target}. Give --rescale MIN,MAX for the values that become the least "
            "and the greatest, --rescale percentiles, or --rescale per-slice."
        )


def _check_window(window: Window) -> None:
    low, high = window
    if not -math.inf < low < high < math.inf:
        raise InputError(f"The window {window} is no range of finite values. Give the lesser one first, and the greater one.")
