"""Magnifications: how many voxels of the finest level one voxel covers along x, y and z."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn, SupportsIndex, TypeAlias, Union

from wkdask.errors import GeometryError
from wkdask.geometry.vec import Vec3Int
from wkdask.geometry.whole_numbers import to_whole

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MagLike: TypeAlias = Union["Mag", SupportsIndex, str, Iterable[SupportsIndex]]

_NAME = re.compile(r"[0-9]+(-[0-9]+-[0-9]+)?", re.ASCII)


class Mag:
    """A magnification; its three components are powers of two.

    ``<``, ``<=``, ``>`` and ``>=`` compare the largest component only, ``==`` compares all three: 2-2-1 and 2 are neither
    ``<`` nor ``==``. Sort with ``key=Mag.sort_key.fget``, or by `sort_key`, where the order must be one. Any spelling compares
    equal, but only a `Mag` hashes like one.

    Parameters
    ----------
    mag
        A number for all three axes, its text, text such as ``"2-2-1"``, three numbers, or a `Mag`.

    Raises
    ------
    GeometryError
        Where this is no such thing, or a component is no power of two.

    Examples
    --------
    >>> Mag("2-2-1").to_tuple(), str(Mag([4, 4, 4]))
    ((2, 2, 1), '4')
    >>> sorted([Mag(2), Mag("2-2-1"), Mag(1)], key=lambda mag: mag.sort_key)
    [Mag('1'), Mag('2-2-1'), Mag('2')]
    >>> Mag("2-2-1") * 2
    Mag('4-4-2')
    """

    __slots__ = ("_xyz",)
    _xyz: Vec3Int

    def __init__(self, mag: MagLike) -> None:
        object.__setattr__(self, "_xyz", _parse(mag))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"A Mag can not change: {name!r} is fixed. Make another one.")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"A Mag can not change: {name!r} is fixed. Make another one.")

    def __reduce__(self) -> tuple[type[Mag], tuple[str]]:
        return type(self), (self.to_layer_name(),)

    @property
    def x(self) -> int:
        """Finest voxels along x."""
        return self._xyz.x

    @property
    def y(self) -> int:
        """Finest voxels along y."""
        return self._xyz.y

    @property
    def z(self) -> int:
        """Finest voxels along z."""
        return self._xyz.z

    @property
    def max_dim(self) -> int:
        """The largest component."""
        return max(self._xyz)

    @property
    def max_dim_log2(self) -> int:
        """The largest component's power of two."""
        return self.max_dim.bit_length() - 1

    @property
    def sort_key(self) -> tuple[int, int, int, int, int]:
        """A total order: by largest component, product, x, y, z."""
        return (self.max_dim, self._xyz.prod(), *self._xyz.to_tuple())

    def to_layer_name(self) -> str:
        """Return the short name, which is the folder's: ``2-2-1``, or ``2`` where all are equal."""
        return str(self.x) if self._xyz.is_uniform() else self.to_long_layer_name()

    def to_long_layer_name(self) -> str:
        """Return the name with three numbers always: ``2-2-2``."""
        return "-".join(map(str, self._xyz))

    def to_vec3_int(self) -> Vec3Int:
        """Return the components as a vector."""
        return self._xyz

    def to_tuple(self) -> tuple[int, int, int]:
        """Return the components as a tuple."""
        return self._xyz.to_tuple()

    def to_list(self) -> list[int]:
        """Return the components as a list."""
        return list(self._xyz)

    def to_np(self) -> npt.NDArray[np.int64]:
        """Return the components as an array."""
        return self._xyz.to_np()

    def __iter__(self) -> Iterator[int]:
        return iter(self._xyz)

    def __mul__(self, other: MagLike) -> Mag:
        return Mag(self._xyz * _factors(other))

    def __floordiv__(self, other: MagLike) -> Mag:
        return Mag(self._xyz // _factors(other))

    def __lt__(self, other: MagLike) -> bool:
        return self.max_dim < Mag(other).max_dim

    def __le__(self, other: MagLike) -> bool:
        return self.max_dim <= Mag(other).max_dim

    def __gt__(self, other: MagLike) -> bool:
        return self.max_dim > Mag(other).max_dim

    def __ge__(self, other: MagLike) -> bool:
        return self.max_dim >= Mag(other).max_dim

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Mag):
            return self._xyz == other._xyz
        try:
            return self._xyz == _parse(other)
        except GeometryError:
            return NotImplemented

    def __hash__(self) -> int:
        return hash(self._xyz)

    def __str__(self) -> str:
        return self.to_layer_name()

    def __repr__(self) -> str:
        return f"Mag({self.to_layer_name()!r})"


def _factors(other: MagLike) -> Vec3Int:
    """Read what a magnification is multiplied with or divided by."""
    return other.to_vec3_int() if isinstance(other, Mag) else _vector(other)


def _parse(mag: Any) -> Vec3Int:
    if isinstance(mag, Mag):
        return mag.to_vec3_int()
    xyz = _vector(mag)
    if any(c < 1 or c & (c - 1) for c in xyz):
        raise GeometryError(f"{mag!r} is no magnification: its numbers must be powers of two. Use one such as 1, 2 or 4-4-2.")
    return xyz


def _vector(mag: Any) -> Vec3Int:
    """Read any spelling, without a look at the values."""
    hint = "Give an int, three ints, or text such as '2' or '2-2-1'."
    if hasattr(mag, "tolist"):
        mag = mag.tolist()
    if isinstance(mag, str):
        if not _NAME.fullmatch(mag):
            raise GeometryError(f"{mag!r} is no magnification. {hint}")
        numbers = [int(part) for part in mag.split("-")]
    elif isinstance(mag, float):
        raise GeometryError(f"{mag!r} is no magnification, as it is a float. {hint}")
    else:
        try:
            numbers = [to_whole(part) for part in mag] if hasattr(mag, "__iter__") else [to_whole(mag)]
        except GeometryError:
            raise GeometryError(f"{mag!r} is no magnification. {hint}") from None
    if len(numbers) not in (1, 3) or (len(numbers) == 1 and hasattr(mag, "__iter__") and not isinstance(mag, str)):
        raise GeometryError(f"{mag!r} is no magnification, as it has {len(numbers)} numbers. {hint}")
    return Vec3Int(numbers) if len(numbers) == 3 else Vec3Int.full(numbers[0])
