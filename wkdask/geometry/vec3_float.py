"""Vectors of three floats along x, y and z."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Self, TypeAlias, Union

from wkdask.errors import GeometryError
from wkdask.geometry.vec import Vec3Int

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Vec3FloatLike: TypeAlias = Union["Vec3Float", Iterable[float], str]


class Vec3Float(tuple[float, float, float]):
    """Three floats along x, y and z, such as the size of a voxel; a tuple whose arithmetic is element by element.

    Parameters
    ----------
    x
        The first number; or, alone, a sequence or array of three, or text such as ``"4,4,35"``.
    y, z
        The other two numbers.

    Raises
    ------
    GeometryError
        Where these are not three numbers.

    Examples
    --------
    >>> Vec3Float(11.24, 11.24, 28).z
    28.0
    >>> Vec3Float("4,4,35") / 2 == (2, 2, 17.5)
    True
    """

    __slots__ = ()

    def __new__(cls, x: Vec3FloatLike | float, y: float | None = None, z: float | None = None) -> Self:
        """Read any spelling."""
        given: Any = x if y is None and z is None else (x, y, z)
        if isinstance(given, str):
            given = given.strip().strip("()[]").split(",")
        try:
            values = tuple(map(float, given))
        except (TypeError, ValueError, OverflowError):
            raise GeometryError(f"{given!r} is no sequence of numbers. Give three, along x, y and z.") from None
        if len(values) != 3:
            raise GeometryError(f"{given!r} has {len(values)} numbers. A vector needs three, along x, y and z.")
        return super().__new__(cls, values)

    @classmethod
    def from_xyz(cls, x: float, y: float, z: float) -> Self:
        """Make a vector of three numbers."""
        return cls(x, y, z)

    @classmethod
    def from_str(cls, string: str) -> Self:
        """Read text such as ``1.5,2,3``."""
        return cls(string)

    @classmethod
    def full(cls, value: float) -> Self:
        """Return one number three times."""
        return cls(value, value, value)

    @classmethod
    def zeros(cls) -> Self:
        """Return three zeros."""
        return cls.full(0)

    @classmethod
    def ones(cls) -> Self:
        """Return three ones."""
        return cls.full(1)

    @property
    def x(self) -> float:
        """The number along x."""
        return self[0]

    @property
    def y(self) -> float:
        """The number along y."""
        return self[1]

    @property
    def z(self) -> float:
        """The number along z."""
        return self[2]

    def with_x(self, new_x: float) -> Self:
        """Return the vector with another x."""
        return type(self)(new_x, self.y, self.z)

    def with_y(self, new_y: float) -> Self:
        """Return the vector with another y."""
        return type(self)(self.x, new_y, self.z)

    def with_z(self, new_z: float) -> Self:
        """Return the vector with another z."""
        return type(self)(self.x, self.y, new_z)

    def to_tuple(self) -> tuple[float, float, float]:
        """Return a plain tuple."""
        return (self[0], self[1], self[2])

    def to_list(self) -> list[float]:
        """Return a list."""
        return list(self)

    def to_np(self) -> npt.NDArray[np.float64]:
        """Return an array of float64."""
        import numpy as np

        return np.array(self, dtype=np.float64)

    def to_vec3_int(self) -> Vec3Int:
        """Return the whole numbers towards 0."""
        return Vec3Int.from_vec3_float(self)

    def prod(self) -> float:
        """Return the product of the three numbers."""
        return math.prod(self)

    def pairmax(self, other: Vec3FloatLike | float) -> Self:
        """Return the larger number of each pair."""
        return self._pairwise(max, other)

    def pairmin(self, other: Vec3FloatLike | float) -> Self:
        """Return the smaller number of each pair."""
        return self._pairwise(min, other)

    def _pairwise(self, function: Callable[[float, float], float], other: Any) -> Self:
        other = other.tolist() if hasattr(other, "tolist") else other
        numbers = type(self)(other) if hasattr(other, "__iter__") else type(self).full(other)
        return type(self)(*map(function, self, numbers))

    def __add__(self, other: Iterable[float] | float) -> Self:  # type: ignore[override]
        return self._pairwise(operator.add, other)

    __radd__ = __add__

    def __sub__(self, other: Iterable[float] | float) -> Self:
        return self._pairwise(operator.sub, other)

    def __rsub__(self, other: Iterable[float] | float) -> Self:
        return self._pairwise(lambda a, b: b - a, other)

    def __mul__(self, other: Iterable[float] | float) -> Self:  # type: ignore[override]
        return self._pairwise(operator.mul, other)

    __rmul__ = __mul__  # type: ignore[assignment]

    def __truediv__(self, other: Iterable[float] | float) -> Self:
        return self._pairwise(operator.truediv, other)

    def __neg__(self) -> Self:
        return type(self)(-self[0], -self[1], -self[2])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self[0]!r}, {self[1]!r}, {self[2]!r})"
