"""Affine transformations of coordinates: linear maps with a shift."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from wkdask.errors import InputError
from wkdask.metadata.chain import Pair, SingleTransformation, plain_numbers, split_pairs
from wkdask.metadata.document import Number

if TYPE_CHECKING:
    from wkdask.geometry.landmarks import Floats

Row = tuple[Number, Number, Number, Number]
Axis = Literal["x", "y", "z"]


def _affine_rows(matrix: tuple[Row, Row, Row, Row]) -> tuple[Row, Row, Row, Row]:
    if matrix[3] != (0, 0, 0, 1):
        raise PydanticCustomError("found", "the last row is {row}, expected 0, 0, 0, 1", {"row": str(list(matrix[3]))})
    return matrix


class AffineCoordinateTransformation(SingleTransformation):
    """A linear map and a shift.

    Parameters
    ----------
    matrix
        4 rows of 4 numbers, for column vectors (x, y, z, 1); the last row is 0, 0, 0, 1.

    Examples
    --------
    >>> half = AffineCoordinateTransformation.from_scale((0.5, 0.5, 1))
    >>> half.apply([(8, 8, 8)]).tolist(), half.inverse().apply([(4, 4, 8)]).tolist()
    ([[4.0, 4.0, 8.0]], [[8.0, 8.0, 8.0]])
    >>> half.to_dict()["matrix"][0]
    [0.5, 0.0, 0.0, 0.0]
    """

    always_written: ClassVar[frozenset[str]] = frozenset({"type"})

    type: Literal["affine"] = "affine"
    matrix: Annotated[tuple[Row, Row, Row, Row], AfterValidator(_affine_rows)]

    def __init__(self, matrix: Any, **others: Any) -> None:
        super().__init__(matrix=plain_numbers(matrix), **others)

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def identity(cls) -> Self:
        """Return the transformation that changes nothing."""
        return cls.from_scale(1)

    @classmethod
    def from_translation(cls, translation: Sequence[float]) -> Self:
        """Return a shift, in voxels along x, y, z."""
        return cls(_matrix(((1, 0, 0), (0, 1, 0), (0, 0, 1)), translation))

    @classmethod
    def from_scale(cls, scale: float | Sequence[float]) -> Self:
        """Return an enlargement about the origin, by one factor or one each along x, y, z."""
        x, y, z = _three(scale)
        return cls(_matrix(((x, 0, 0), (0, y, 0), (0, 0, z)), (0, 0, 0)))

    @classmethod
    def from_rotation(cls, axis: Axis, angle: float) -> Self:
        """Return a rotation about an axis through the origin, in degrees; about z by 90 it leads from x to y."""
        first = (_axis(axis) + 1) % 3
        second = (first + 1) % 3
        sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
        rows = [[float(i == k) for k in range(3)] for i in range(3)]
        rows[first][first] = rows[second][second] = cosine
        rows[second][first], rows[first][second] = sine, -sine
        return cls(_matrix(rows, (0, 0, 0)))

    @classmethod
    def from_pairs(cls, pairs: Iterable[Pair]) -> Self:
        """Return the transformation that brings landmarks nearest to their targets, by least squares.

        Parameters
        ----------
        pairs
            Source and target of each landmark; at least 4, the sources not in one plane.

        Raises
        ------
        InputError
            The landmarks do not define one.

        Examples
        --------
        >>> corners = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
        >>> found = AffineCoordinateTransformation.from_pairs((p, (p[0] + 5, *p[1:])) for p in corners)
        >>> found.apply([(1, 1, 1)]).round(9).tolist()
        [[6.0, 1.0, 1.0]]
        """
        from wkdask.geometry.landmarks import fit_affine

        return cls(fit_affine(*split_pairs(pairs)))

    def apply(self, points: Any) -> Floats:
        """Return where (n, 3) points are mapped to."""
        import numpy as np

        from wkdask.geometry.landmarks import points_of

        matrix = np.array(self.matrix, dtype=np.float64)
        moved: Floats = points_of(points) @ matrix[:3, :3].T + matrix[:3, 3]
        return moved

    def inverse(self) -> Self:
        """Return the transformation back.

        Raises
        ------
        InputError
            The matrix makes space flat, so that there is none.
        """
        import numpy as np

        try:
            found = np.linalg.inv(np.array(self.matrix, dtype=np.float64)[:3, :3])
        except np.linalg.LinAlgError:
            found = np.full((3, 3), np.inf)
        if not np.isfinite(found).all():
            raise InputError("The transformation has no inverse: its matrix makes space flat. Correct its matrix.")
        shift = -found @ np.array([row[3] for row in self.matrix[:3]], dtype=np.float64)
        return type(self)(_matrix(found.tolist(), shift.tolist()))

    def translate(self, translation: Sequence[float]) -> Self:
        """Return this transformation followed by a shift, in voxels along x, y, z."""
        return self._followed(type(self).from_translation(translation))

    def scale(self, scale: float | Sequence[float]) -> Self:
        """Return this transformation followed by an enlargement about the origin."""
        return self._followed(type(self).from_scale(scale))

    def rotate(self, axis: Axis, angle: float) -> Self:
        """Return this transformation followed by a rotation about an axis through the origin, in degrees."""
        return self._followed(type(self).from_rotation(axis, angle))

    def flip(self, axis: Axis) -> Self:
        """Return this transformation followed by a reflection at the origin, along an axis."""
        mirror = [1.0, 1.0, 1.0]
        mirror[_axis(axis)] = -1.0
        return self.scale(mirror)

    def product(self, following: SingleTransformation) -> SingleTransformation | None:
        """Return the product with a following affine transformation, where both have no keys that would be lost."""
        if not isinstance(following, AffineCoordinateTransformation) or self.model_extra or following.model_extra:
            return None
        return self._followed(following)

    def _followed(self, other: AffineCoordinateTransformation) -> Self:
        import numpy as np

        product = np.array(other.matrix, dtype=np.float64) @ np.array(self.matrix, dtype=np.float64)
        return type(self)([*product[:3].tolist(), [0, 0, 0, 1]])


def _matrix(linear: Sequence[Sequence[float]], shift: Sequence[float]) -> list[list[float]]:
    moved = _three(shift)
    return [*([*map(float, row), s] for row, s in zip(linear, moved, strict=True)), [0.0, 0.0, 0.0, 1.0]]


def _axis(axis: str) -> int:
    if axis not in ("x", "y", "z"):
        raise InputError(f"{axis!r} is no axis. Give 'x', 'y' or 'z'.")
    return "xyz".index(axis)


def _three(value: Any) -> tuple[float, float, float]:
    """Return three numbers; one stands for all."""
    try:
        x, y, z = map(float, value if isinstance(value, Iterable) else (value,) * 3)
    except (TypeError, ValueError):
        raise InputError(f"{value!r} are not three numbers. Give x, y, z.") from None
    return x, y, z
