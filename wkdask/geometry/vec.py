"""Vectors of three numbers along x, y and z."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Self, SupportsIndex, TypeAlias, Union

from wkdask.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Vec3IntLike: TypeAlias = Union["Vec3Int", Iterable[SupportsIndex], str]
Vec3FloatLike: TypeAlias = Union["Vec3Float", Iterable[float], str]
_Operand: TypeAlias = SupportsIndex | Iterable[SupportsIndex]


def to_whole(value: Any) -> int:
    """Return a number as int, where it is whole.

    Raises
    ------
    InputError
        For anything else: fractions, booleans, text.

    Examples
    --------
    >>> to_whole(3.0)
    3
    """
    if type(value) is int:
        return value
    if isinstance(value, bool):
        raise InputError(f"{value!r} is no whole number. Give an int.")
    try:
        return operator.index(value)
    except TypeError:
        pass
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if hasattr(value, "tolist") and not isinstance(value.tolist(), (list, type(value))):
        return to_whole(value.tolist())
    raise InputError(f"{value!r} is no whole number. Give an int.")


def to_wholes(values: Any) -> tuple[int, ...]:
    """Return a sequence, array or comma separated text of whole numbers as ints.

    Raises
    ------
    InputError
        Where there are no numbers, or fractions.

    Examples
    --------
    >>> to_wholes("(1, 2, 3, 4)")
    (1, 2, 3, 4)
    """
    if isinstance(values, str):
        try:
            return tuple(int(part) for part in values.strip().strip("()[]").split(","))
        except ValueError:
            raise InputError(f"{values!r} is no list of whole numbers. Write it like '1,2,3'.") from None
    if hasattr(values, "tolist"):
        values = values.tolist()
    try:
        return tuple(map(to_whole, values))
    except TypeError:
        raise InputError(f"{values!r} is no sequence of whole numbers. Give as many ints as there are axes.") from None


class Vec3Int(tuple[int, int, int]):
    """Three ints along x, y and z; a tuple whose arithmetic is element by element.

    Each operator takes a number or three of them. Equality, order and hash are those of a tuple.

    Parameters
    ----------
    x
        The first number; or, alone, a sequence or array of three, or text such as ``"1,2,3"``.
    y, z
        The other two numbers.

    Raises
    ------
    InputError
        Where these are not three whole numbers.

    Examples
    --------
    >>> Vec3Int(1, 2, 3) * 2 + (1, 0, 0)
    Vec3Int(3, 4, 6)
    >>> Vec3Int("5,6,7").ceildiv(2)
    Vec3Int(3, 3, 4)
    """

    __slots__ = ()

    def __new__(cls, x: Vec3IntLike | SupportsIndex, y: SupportsIndex | None = None, z: SupportsIndex | None = None) -> Self:
        """Read any spelling."""
        if y is None and z is None:
            values = to_wholes(x)
            if len(values) != 3:
                raise InputError(f"{x!r} has {len(values)} numbers. A vector needs three, along x, y and z.")
        elif y is None or z is None:
            raise InputError(f"A vector needs three numbers, along x, y and z; got {x!r}, {y!r}, {z!r}. Give all of them.")
        else:
            values = (to_whole(x), to_whole(y), to_whole(z))
        return super().__new__(cls, values)

    @classmethod
    def from_xyz(cls, x: int, y: int, z: int) -> Self:
        """Make a vector of three numbers."""
        return cls(x, y, z)

    @classmethod
    def from_str(cls, text: str) -> Self:
        """Read text such as ``1,2,3`` or ``(1, 2, 3)``."""
        return cls(text)

    @classmethod
    def zeros(cls) -> Self:
        """Return three zeros."""
        return cls(0, 0, 0)

    @classmethod
    def ones(cls) -> Self:
        """Return three ones."""
        return cls(1, 1, 1)

    @classmethod
    def full(cls, value: int) -> Self:
        """Return one number three times."""
        return cls(value, value, value)

    @property
    def x(self) -> int:
        """The number along x."""
        return self[0]

    @property
    def y(self) -> int:
        """The number along y."""
        return self[1]

    @property
    def z(self) -> int:
        """The number along z."""
        return self[2]

    def with_x(self, x: int) -> Self:
        """Return the vector with another x."""
        return type(self)(x, self[1], self[2])

    def with_y(self, y: int) -> Self:
        """Return the vector with another y."""
        return type(self)(self[0], y, self[2])

    def with_z(self, z: int) -> Self:
        """Return the vector with another z."""
        return type(self)(self[0], self[1], z)

    def to_tuple(self) -> tuple[int, int, int]:
        """Return a plain tuple."""
        return (self[0], self[1], self[2])

    def to_list(self) -> list[int]:
        """Return a list."""
        return list(self)

    def to_np(self) -> npt.NDArray[np.int64]:
        """Return an array of int64."""
        import numpy as np

        return np.array(self, dtype=np.int64)

    def prod(self) -> int:
        """Return the product of the three numbers."""
        return self[0] * self[1] * self[2]

    def contains(self, value: int) -> bool:
        """Tell whether one of the numbers is this one."""
        return value in self

    def is_positive(self, strictly_positive: bool = False) -> bool:
        """Tell whether no number is negative; with `strictly_positive`, none is 0 either."""
        return min(self) > 0 if strictly_positive else min(self) >= 0

    def is_uniform(self) -> bool:
        """Tell whether all three are equal."""
        return self[0] == self[1] == self[2]

    def pairmax(self, other: Vec3IntLike | SupportsIndex) -> Self:
        """Return the larger number of each pair."""
        return self._pairwise(max, other)

    def pairmin(self, other: Vec3IntLike | SupportsIndex) -> Self:
        """Return the smaller number of each pair."""
        return self._pairwise(min, other)

    def ceildiv(self, other: Vec3IntLike | SupportsIndex) -> Self:
        """Divide and round up."""
        return self._pairwise(lambda a, b: -(-a // b), other)

    def _pairwise(self, function: Callable[[int, int], int], other: Any) -> Self:
        other = other.tolist() if hasattr(other, "tolist") else other
        return type(self)(*map(function, self, Vec3Int(other) if hasattr(other, "__iter__") else Vec3Int.full(other)))

    def _operator(self, function: Callable[[int, int], int], other: Any) -> Self:
        if isinstance(other, str) or not any(hasattr(other, name) for name in ("__iter__", "__index__", "__float__")):
            unsupported: Any = NotImplemented
            return unsupported  # type: ignore[no-any-return]
        return self._pairwise(function, other)

    def __add__(self, other: _Operand) -> Self:  # type: ignore[override]
        return self._operator(operator.add, other)

    __radd__ = __add__

    def __sub__(self, other: _Operand) -> Self:
        return self._operator(operator.sub, other)

    def __rsub__(self, other: _Operand) -> Self:
        return self._operator(lambda a, b: b - a, other)

    def __mul__(self, other: _Operand) -> Self:
        return self._operator(operator.mul, other)

    __rmul__ = __mul__

    def __floordiv__(self, other: _Operand) -> Self:
        return self._operator(operator.floordiv, other)

    def __mod__(self, other: _Operand) -> Self:
        return self._operator(operator.mod, other)

    def __neg__(self) -> Self:
        return type(self)(-self[0], -self[1], -self[2])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self[0]}, {self[1]}, {self[2]})"


class Vec3Float(tuple[float, float, float]):
    """Three floats along x, y and z, such as the size of a voxel.

    Examples
    --------
    >>> Vec3Float(11.24, 11.24, 28).z
    28.0
    >>> Vec3Float("4,4,35") == (4, 4, 35)
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
        except (TypeError, ValueError):
            raise InputError(f"{given!r} is no sequence of numbers. Give three, along x, y and z.") from None
        if len(values) != 3:
            raise InputError(f"{given!r} has {len(values)} numbers. A vector needs three, along x, y and z.")
        return super().__new__(cls, values)

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

    def to_tuple(self) -> tuple[float, float, float]:
        """Return a plain tuple."""
        return (self[0], self[1], self[2])

    def to_np(self) -> npt.NDArray[np.float64]:
        """Return an array of float64."""
        import numpy as np

        return np.array(self, dtype=np.float64)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self[0]!r}, {self[1]!r}, {self[2]!r})"
