"""Evenly spaced voxel centres as arithmetic: pure numbers, no array, nothing of xarray."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from wkdask.errors import InputError

_SLACK = 1e-3
"""Parts of a voxel by which grids of different mags may differ by rounding and still count as one."""


@dataclass(frozen=True, slots=True)
class VoxelCentres:
    """The centres ``(first + k * step) * spacing / 2`` for k from 0 to size - 1.

    Positions count half voxels, so that voxel `i` lies at ``2 * i + 1`` and all that slicing and coarsening do is exact.

    Parameters
    ----------
    first, step
        In half voxels from the dataset's origin; `step` is even, and negative where the axis was reversed.
    size
        How many.
    spacing
        Distance of neighbouring voxels.

    Examples
    --------
    >>> centres = VoxelCentres.of_voxels(start=2, size=4, spacing=10.0)
    >>> centres.values().tolist(), centres.coarsened(2).values().tolist()
    ([25.0, 35.0, 45.0, 55.0], [30.0, 50.0])
    """

    first: int
    step: int
    size: int
    spacing: float

    @classmethod
    def of_voxels(cls, start: int, size: int, spacing: float) -> VoxelCentres:
        """Return the centres of `size` voxels from the absolute index `start` on."""
        if not (spacing > 0 and math.isfinite(spacing) and size >= 0):
            raise InputError(f"Voxels need a spacing above 0 and a size from 0 on; found {spacing} and {size}.")
        return cls(2 * int(start) + 1, 2, int(size), float(spacing))

    def __str__(self) -> str:
        if not self.size:
            return "no voxels"
        step = self.step * self.spacing / 2
        return f"{self.size} voxels, {self.one(0):.6g} to {self.one(self.size - 1):.6g}, step {step:.6g}"

    def one(self, position: int) -> float:
        """Return the centre at a position, which may lie outside."""
        return (self.first + position * self.step) * (self.spacing / 2)

    def at(self, positions: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the centres at positions."""
        return np.asarray((self.first + positions * self.step) * (self.spacing / 2), "float64")

    def values(self) -> np.ndarray[Any, Any]:
        """Return all centres, in memory."""
        return self.at(np.arange(self.size))

    def position(self, labels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the positions, not rounded, of coordinates."""
        return np.asarray((labels / (self.spacing / 2) - self.first) / self.step)

    def nearest(self, labels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the position of the nearest centre; on a border that of the larger coordinate."""
        exact = self.position(labels.astype("float64"))
        rounded = np.floor(exact + 0.5) if self.step > 0 else np.ceil(exact - 0.5)
        return np.asarray(np.nan_to_num(np.clip(rounded, 0, max(0, self.size - 1))), "int64")

    def sliced(self, part: slice) -> VoxelCentres:
        """Return the centres at a slice of positions."""
        chosen = range(self.size)[part]
        return VoxelCentres(self.first + chosen.start * self.step, self.step * chosen.step, len(chosen), self.spacing)

    def between(self, low: Any, high: Any, stride: Any = None) -> slice:
        """Return the slice of the positions with low ≤ centre < high; None leaves a side open."""
        low, high, stride = (plain_number(bound) for bound in (low, high, stride))
        if stride is not None and (int(stride) != stride or stride < 1):
            raise InputError(f"A slice of voxel coordinates takes every so many voxels, not {stride}. Give 1 or more.")
        start = 0 if low is None else self._below(low)
        stop = max(start, self.size if high is None else self._below(high))
        if self.step < 0:
            start, stop = self.size - stop, self.size - start
        return slice(start, stop, None if stride is None else int(stride))

    def _below(self, bound: float) -> int:
        """Return how many centres are smaller than a bound, by the very comparison of floats that users see."""
        ascending = self if self.step > 0 else self.sliced(slice(None, None, -1))
        guess = float(ascending.position(np.asarray(float(bound))))
        count = int(min(max(math.ceil(guess) if math.isfinite(guess) else guess, 0), self.size))
        while count > 0 and ascending.one(count - 1) >= bound:
            count -= 1
        while count < self.size and ascending.one(count) < bound:
            count += 1
        return count

    def coarsened(self, window: int, boundary: str = "exact", side: str = "left") -> VoxelCentres:
        """Return the means of `window` centres each.

        Raises
        ------
        InputError
            The size is no multiple of the window, and the boundary is ``"exact"``.
        """
        if window < 1 or boundary not in ("exact", "trim", "pad") or (boundary == "exact" and self.size % window):
            raise InputError(
                f"{self.size} voxels can not be coarsened by {window} with boundary {boundary!r}. "
                "Give a divisor, or boundary 'trim' or 'pad'."
            )
        size = -(-self.size // window) if boundary == "pad" else self.size // window
        skipped = self.size - size * window if side == "right" else 0
        first = self.first + skipped * self.step + (window - 1) * (self.step // 2)
        return VoxelCentres(first, self.step * window, size, self.spacing)

    def like(self, other: VoxelCentres) -> VoxelCentres | None:
        """Return the same centres counted in the other's half voxels; None where they do not lie on its grid."""
        if self.spacing == other.spacing:
            same = self
        else:
            ratio = self.spacing / other.spacing
            first, step = round(self.first * ratio), round(self.step * ratio)
            if step == 0 or step % 2:
                return None
            same = VoxelCentres(first, step, self.size, other.spacing)
            ends = (0, max(0, self.size - 1))
            if any(abs(same.one(k) - self.one(k)) > _SLACK * other.spacing for k in ends):
                return None
        if self.size and other.size and (same.first - other.first) % other.step:
            return None
        return None if self.size > 1 and other.size > 1 and same.step != other.step else same

    def same_as(self, other: VoxelCentres) -> bool:
        """Whether both have equal centres, but for rounding."""
        if self.size != other.size:
            return False
        mine = other.like(self)
        return self.size == 0 or (mine is not None and mine.first == self.first and (self.size == 1 or mine.step == self.step))

    def steps_to(self, other: VoxelCentres) -> int:
        """Return the position here of the other's first centre, which must be `like` this."""
        return (other.first - self.first) // self.step

    def joined(self, other: VoxelCentres, how: str) -> VoxelCentres:
        """Return the overlap (``inner``) or the hull (``outer``) with centres that are `like` these."""
        if how not in ("inner", "outer"):
            raise InputError(f"Voxel coordinates are joined 'inner' or 'outer', not {how!r}. Use one of those.")
        start = self.steps_to(other)
        stop = start + other.size
        if how == "outer":
            if not other.size:
                return self
            if not self.size:
                return other
            first, last = min(0, start), max(self.size, stop)
        else:
            first, last = max(0, start), min(self.size, stop)
        return VoxelCentres(self.first + first * self.step, self.step, max(0, last - first), self.spacing)

    def followed_by(self, other: VoxelCentres) -> VoxelCentres | None:
        """Return both pieces as one; None where the other does not begin where this one ends."""
        if not other.size:
            return self
        if not self.size:
            return other
        mine = other.like(self)
        if mine is None or self.steps_to(mine) != self.size:
            return None
        return VoxelCentres(self.first, self.step, self.size + mine.size, self.spacing)


def plain_number(bound: Any) -> float | None:
    """Return the number that the bound of a slice is; None stays None."""
    if getattr(bound, "ndim", None) == 0:
        bound = bound.item()
    if bound is not None and (not isinstance(bound, (int, float)) or math.isnan(bound)):
        raise InputError(f"A slice of voxel coordinates needs numbers, not {bound!r}. Give bounds in the axis' unit.")
    return cast("float | None", bound)
