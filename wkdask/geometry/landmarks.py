"""Maps of space that pairs of landmarks define: the affine one that fits best, and the thin-plate spline through all of them.

Nothing here knows what the points are measured in: callers give both sides in the units that they want to map between.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wkdask.errors import InputError

Floats = npt.NDArray[np.float64]

MAX_LANDMARKS = 5000
"""Of a spline, whose matrix has the square of that many numbers: 200 MB."""
FLAT = 1e-9
"""Landmarks are flat where their extent along one direction is smaller than this part of that along another."""
_BLOCK_VALUES = 1 << 22


def points_of(points: Any, what: str = "points") -> Floats:
    """Return points as an array of (n, 3) finite numbers.

    Raises
    ------
    InputError
        They are something else.

    Examples
    --------
    >>> points_of([(1, 2, 3)]).shape, points_of([]).shape
    ((1, 3), (0, 3))
    """
    try:
        found = np.asarray(points, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"The {what} are not numbers. Give x, y, z of each.") from None
    if not found.size and found.ndim < 3:
        return found.reshape(0, 3)
    if found.ndim != 2 or found.shape[1] != 3 or not np.isfinite(found).all():
        raise InputError(f"The {what} have the shape {found.shape}, expected n × 3 finite numbers. Give x, y, z of each.")
    return found


def fit_affine(source: Any, target: Any) -> Floats:
    """Return the affine map that brings landmarks nearest to their targets: the sum of squared distances is least.

    Parameters
    ----------
    source, target
        (n, 3) points each, n at least 4, the source's not in one plane.

    Returns
    -------
    (4, 4) matrix for column vectors (x, y, z, 1).

    Raises
    ------
    InputError
        The landmarks do not define such a map.

    Examples
    --------
    >>> corners = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    >>> fit_affine(corners, [(2 * x + 5, y, z) for x, y, z in corners]).round(9).tolist()[0]
    [2.0, 0.0, 0.0, 5.0]
    """
    a, b = _pairs(source, target)
    middle, goal = a.mean(axis=0), b.mean(axis=0)
    linear = np.linalg.lstsq(a - middle, b - goal, rcond=None)[0].T
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = linear, goal - linear @ middle
    return matrix


@dataclass(frozen=True, slots=True, eq=False)
class ThinPlateSpline:
    """The smoothest map through landmarks: its bending is least, with the kernel r² log r.

    Get one from `ThinPlateSpline.through`.

    Parameters
    ----------
    centres
        (n, 3): the source's landmarks, moved by ``middle`` and divided by ``extent``, so that the numbers are near 1.
    weights, linear
        (n, 3) of the landmarks, and (4, 3) of 1, x, y, z.
    middle, extent
        Of the source's landmarks.
    """

    centres: Floats
    weights: Floats
    linear: Floats
    middle: Floats
    extent: float

    @classmethod
    def through(cls, source: Any, target: Any) -> ThinPlateSpline:
        """Return the spline that maps each landmark to its target.

        Raises
        ------
        InputError
            There are fewer than 4 or more than 5000, two have the same source, or all of these lie in one plane.

        Examples
        --------
        >>> corners = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)]
        >>> spline = ThinPlateSpline.through(corners, [(x, y, z + x * y) for x, y, z in corners])
        >>> spline.apply([(1, 1, 1)]).round(9).tolist()
        [[1.0, 1.0, 2.0]]
        """
        a, b = _pairs(source, target)
        count = len(a)
        if count > MAX_LANDMARKS:
            raise InputError(
                f"There are {count} landmarks; a spline can have {MAX_LANDMARKS}. Give fewer, or fit an affine map."
            )
        if len(np.unique(a, axis=0)) < count:
            raise InputError("Two landmarks have the same source, which a spline can not map to two targets. Remove one.")
        middle = (a.min(axis=0) + a.max(axis=0)) / 2
        extent = float(np.abs(a - middle).max())
        centres = (a - middle) / extent
        plane = np.column_stack([np.ones(count), centres])
        system = np.zeros((count + 4, count + 4))
        for rows, values in _kernel(centres, centres):
            system[:count, :count][rows] = values
        system[:count, count:], system[count:, :count] = plane, plane.T
        try:
            solved: Floats = np.linalg.solve(system, np.vstack([b, np.zeros((4, 3))])).astype(np.float64)
        except np.linalg.LinAlgError:
            raise InputError("The landmarks define no spline: some of them are too near to each other. Remove those.") from None
        return cls(centres, solved[:count], solved[count:], middle, extent)

    def apply(self, points: Any) -> Floats:
        """Return where (n, 3) points are mapped to."""
        found = (points_of(points) - self.middle) / self.extent
        mapped = np.column_stack([np.ones(len(found)), found]) @ self.linear
        for rows, values in _kernel(found, self.centres):
            mapped[rows] += values @ self.weights
        return mapped


def _pairs(source: Any, target: Any) -> tuple[Floats, Floats]:
    a, b = points_of(source, "source landmarks"), points_of(target, "target landmarks")
    if len(a) != len(b):
        raise InputError(f"There are {len(a)} source landmarks and {len(b)} target landmarks. Give pairs.")
    if len(a) < 4:
        raise InputError(f"There are {len(a)} landmarks; a map of space needs at least 4. Add some.")
    spread = np.linalg.svd(a - a.mean(axis=0), compute_uv=False)
    if spread[2] <= FLAT * spread[0]:
        raise InputError("All source landmarks lie in one plane, so they do not say where space beside it goes. Add others.")
    return a, b


def _kernel(points: Floats, centres: Floats) -> Any:
    """Yield r² log r between points and centres in blocks of rows, so that memory stays bounded."""
    step = max(1, _BLOCK_VALUES // max(1, len(centres)))
    for start in range(0, len(points), step):
        rows = slice(start, start + step)
        squared = np.zeros((len(points[rows]), len(centres)))
        for axis in range(3):
            squared += np.subtract.outer(points[rows, axis], centres[:, axis]) ** 2
        yield rows, squared * np.log(np.where(squared > 0, squared, 1)) / 2
