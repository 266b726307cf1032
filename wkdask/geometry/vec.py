"""Vectors of whole numbers along named axes, most of them x, y and z."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self, SupportsIndex, TypeAlias, Union

from wkdask.errors import GeometryError, GeometryKeyError
from wkdask.geometry.whole_numbers import to_whole, to_wholes

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from wkdask.geometry.vec3_float import Vec3Float

XYZ = ("x", "y", "z")
VecIntLike: TypeAlias = Union["VecInt", Iterable[SupportsIndex], str]
Vec3IntLike: TypeAlias = Union["Vec3Int", Iterable[SupportsIndex], str]
_Operand: TypeAlias = SupportsIndex | Iterable[SupportsIndex]


class VecInt(tuple[int, ...]):
    """Whole numbers along named axes; a tuple whose arithmetic is element by element.

    Each operator takes a number or as many as there are axes. Equality, order and hash are those of a tuple, whatever the
    axes are called.

    Parameters
    ----------
    values
        One number for each axis; or, alone, a sequence or array of them, or text such as ``"1,2,3"``.
    axes
        Names of the axes; default: those of a vector that is given.
    named
        Instead of both: numbers by the names of their axes.

    Raises
    ------
    GeometryError
        Where these are not whole numbers, or not as many as axes.

    Examples
    --------
    >>> VecInt(1, 2, 3, 4, axes=("t", "x", "y", "z")) * 2 + (1, 0, 0, 0)
    VecInt(3, 4, 6, 8, axes=('t', 'x', 'y', 'z'))
    >>> VecInt(x=5, y=6, z=7, t=8).ceildiv(2).xyz
    Vec3Int(3, 3, 4)
    """

    _axes: tuple[str, ...] = ()

    def __new__(cls, *values: VecIntLike | SupportsIndex, axes: Iterable[str] | None = None, **named: int) -> Self:
        """Read any spelling."""
        numbers, names = _read_vector(values, axes, named)
        if len(numbers) != len(names) or len(set(names)) < len(names):
            raise GeometryError(
                f"{numbers} have {len(numbers)} numbers for the axes {names}. Give one for each, by axes=(...)."
            )
        made = super().__new__(cls, numbers)
        made.__dict__["_axes"] = names
        return made

    def __getnewargs_ex__(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (tuple(self),), {"axes": self._axes}

    def _like(self, values: Iterable[Any]) -> Self:
        """Return other numbers along the same axes."""
        return type(self)(tuple(values), axes=self._axes)

    @classmethod
    def from_str(cls, string: str) -> VecInt:
        """Read text such as ``1,2,3`` or ``(1, 2, 3)``; without names of axes it is one along x, y and z."""
        return Vec3Int(string)

    @classmethod
    def full(cls, an_int: int, axes: Iterable[str]) -> Self:
        """Return one number for all axes."""
        names = tuple(axes)
        return cls((an_int,) * len(names), axes=names)

    @classmethod
    def zeros(cls, axes: Iterable[str]) -> Self:
        """Return 0 for all axes."""
        return cls.full(0, axes)

    @classmethod
    def ones(cls, axes: Iterable[str]) -> Self:
        """Return 1 for all axes."""
        return cls.full(1, axes)

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes."""
        return self._axes

    @property
    def x(self) -> int:
        """The number along x."""
        return self.get("x")

    @property
    def y(self) -> int:
        """The number along y."""
        return self.get("y")

    @property
    def z(self) -> int:
        """The number along z."""
        return self.get("z")

    @property
    def c(self) -> int:
        """The number along c."""
        return self.get("c")

    @property
    def xyz(self) -> Vec3Int:
        """The numbers along x, y and z."""
        return Vec3Int(self.x, self.y, self.z)

    def get(self, axis: str, default: int | None = None) -> int:
        """Return the number along an axis, or the default where there is no such axis."""
        if axis in self._axes:
            return self[self._axes.index(axis)]
        if default is None:
            raise GeometryKeyError(f"{self!r} has no axis {axis!r}; it has {self._axes}. Name one of those, or give a default.")
        return default

    def with_replaced(self, axis: str | int, new_element: int) -> Self:
        """Return the vector with another number along an axis, which is a name or a position."""
        if axis not in self._axes and axis not in range(-len(self), len(self)):
            raise GeometryKeyError(f"{self!r} has no axis {axis!r}; it has {self._axes}. Name one of those, or its position.")
        at = self._axes.index(axis) if isinstance(axis, str) else axis % len(self)
        return self._like(new_element if i == at else value for i, value in enumerate(self))

    def with_x(self, new_x: int) -> Self:
        """Return the vector with another x."""
        return self.with_replaced("x", new_x)

    def with_y(self, new_y: int) -> Self:
        """Return the vector with another y."""
        return self.with_replaced("y", new_y)

    def with_z(self, new_z: int) -> Self:
        """Return the vector with another z."""
        return self.with_replaced("z", new_z)

    def with_c(self, new_c: int) -> Self:
        """Return the vector with another c."""
        return self.with_replaced("c", new_c)

    def with_xyz(self, new_xyz: Vec3IntLike) -> Self:
        """Return the vector with other numbers along x, y and z."""
        return self._like(
            dict(zip(XYZ, Vec3Int(new_xyz), strict=True)).get(a, v) for a, v in zip(self._axes, self, strict=True)
        )

    def moveaxis(self, source: int | Sequence[int], target: int | Sequence[int]) -> Self:
        """Return the numbers in another order: those at the positions `source` go to `target`; the axes keep their names.

        Examples
        --------
        >>> VecInt(1, 2, 3, axes="txy").moveaxis(0, -1).to_tuple()
        (2, 3, 1)
        """
        sources, targets = ([n] if isinstance(n, int) else list(n) for n in (source, target))
        places = range(len(self))
        try:
            moved = {places[t]: places[s] for s, t in zip(sources, targets, strict=True)}
        except (IndexError, ValueError):
            moved = {}
        if len(set(moved.values())) != len(sources):
            raise GeometryError(f"{source} can not be moved to {target} in {len(self)} axes. Give positions, each once.")
        rest = (i for i in places if i not in set(moved.values()))
        return self._like(self[moved[i] if i in moved else next(rest)] for i in places)

    def to_tuple(self) -> tuple[int, ...]:
        """Return a plain tuple."""
        return tuple(self)

    def to_list(self) -> list[int]:
        """Return a list."""
        return list(self)

    def to_np(self) -> npt.NDArray[np.int64]:
        """Return an array of int64."""
        import numpy as np

        return np.array(self, dtype=np.int64)

    def prod(self) -> int:
        """Return the product of the numbers."""
        return math.prod(self)

    def contains(self, needle: int) -> bool:
        """Tell whether one of the numbers is this one."""
        return needle in self

    def is_positive(self, strictly_positive: bool = False) -> bool:
        """Tell whether no number is negative; with `strictly_positive`, none is 0 either."""
        return min(self) > 0 if strictly_positive else min(self) >= 0

    def is_uniform(self) -> bool:
        """Tell whether all are equal."""
        return len(set(self)) <= 1

    def add_or_none(self, other: VecIntLike | None) -> Self | None:
        """Return the sum, or None where there is nothing to add."""
        return None if other is None else self + other  # type: ignore[operator]

    def pairmax(self, other: VecIntLike | SupportsIndex) -> Self:
        """Return the larger number of each pair."""
        return self._pairwise(max, other)

    def pairmin(self, other: VecIntLike | SupportsIndex) -> Self:
        """Return the smaller number of each pair."""
        return self._pairwise(min, other)

    def ceildiv(self, other: VecIntLike | SupportsIndex) -> Self:
        """Divide and round up."""
        return self._pairwise(lambda a, b: -(-a // b), other)

    def _pairwise(self, function: Callable[[int, int], int], other: Any) -> Self:
        other = other.tolist() if hasattr(other, "tolist") else other
        numbers = to_wholes(other) if hasattr(other, "__iter__") else (to_whole(other),) * len(self)
        if len(numbers) != len(self):
            raise GeometryError(f"{other!r} has {len(numbers)} numbers, {self!r} has {len(self)}. Give as many.")
        return self._like(map(function, self, numbers))

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
        return self._like(-value for value in self)

    def __repr__(self) -> str:
        return f"VecInt({', '.join(map(str, self))}, axes={self._axes})"


class Vec3Int(VecInt):
    """Three ints along x, y and z; a tuple whose arithmetic is element by element.

    Each operator takes a number or three of them. Equality, order and hash are those of a tuple.

    Parameters
    ----------
    values
        Three numbers; or, alone, a sequence or array of three, or text such as ``"1,2,3"``.
    axes
        In which order the numbers are given.
    named
        Instead of both: ``x``, ``y`` and ``z``.

    Raises
    ------
    GeometryError
        Where these are not three whole numbers.

    Examples
    --------
    >>> Vec3Int(1, 2, 3) * 2 + (1, 0, 0)
    Vec3Int(3, 4, 6)
    >>> Vec3Int("5,6,7").ceildiv(2)
    Vec3Int(3, 3, 4)
    >>> Vec3Int(z=3, y=2, x=1) == (1, 2, 3)
    True
    """

    __slots__ = ()
    _axes = XYZ

    def __new__(cls, *values: Vec3IntLike | SupportsIndex, axes: Iterable[str] = XYZ, **named: int) -> Self:
        """Read any spelling."""
        numbers, names = _read_vector(values, axes, named)
        if len(numbers) != 3:
            raise GeometryError(f"{numbers} have {len(numbers)} numbers. A vector needs three, along x, y and z.")
        if names != XYZ:
            if sorted(names) != list(XYZ):
                raise GeometryError(f"The axes are {names}; expected x, y and z, each once. Name those.")
            numbers = tuple(numbers[names.index(axis)] for axis in XYZ)
        return tuple.__new__(cls, numbers)

    def _like(self, values: Iterable[Any]) -> Self:
        return type(self)(tuple(values))

    def __getnewargs_ex__(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (tuple(self),), {}

    @classmethod
    def from_xyz(cls, x: int, y: int, z: int) -> Self:
        """Make a vector of three numbers."""
        return cls(x, y, z)

    @classmethod
    def from_vec3_float(cls, vec: Vec3Float | Iterable[float]) -> Self:
        """Make a vector of three floats, whose fractions are cut off."""
        return cls(tuple(int(value) for value in vec))

    @classmethod
    def from_vec_or_int(cls, vec_or_int: Vec3IntLike | int) -> Self:
        """Make a vector of three numbers, or of one that stands for all."""
        return cls.full(vec_or_int) if isinstance(vec_or_int, int) else cls(vec_or_int)

    @classmethod
    def full(cls, an_int: int, _axes: Iterable[str] = XYZ) -> Self:
        """Return one number three times."""
        return cls(an_int, an_int, an_int)

    @classmethod
    def zeros(cls, _axes: Iterable[str] = XYZ) -> Self:
        """Return three zeros."""
        return cls(0, 0, 0)

    @classmethod
    def ones(cls, _axes: Iterable[str] = XYZ) -> Self:
        """Return three ones."""
        return cls(1, 1, 1)

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

    def to_tuple(self) -> tuple[int, int, int]:
        """Return a plain tuple."""
        return (self[0], self[1], self[2])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self[0]}, {self[1]}, {self[2]})"


def _read_vector(values: Any, axes: Iterable[str] | None, named: dict[str, int]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Read numbers and names of axes in any spelling."""
    if named:
        if values:
            raise GeometryError(f"Both the numbers {values} and those of {tuple(named)} were given. Give one of both.")
        return tuple(map(to_whole, named.values())), tuple(named)
    if len(values) != 1:
        return tuple(map(to_whole, values)), tuple(axes or ())
    [alone] = values
    numbers = to_wholes(alone) if hasattr(alone, "__iter__") else (to_whole(alone),)
    return numbers, tuple(axes if axes is not None else getattr(alone, "axes", ()))
