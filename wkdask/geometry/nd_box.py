"""Boxes of voxels with named axes, half-open, in mag-1 voxels where nothing else is said."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from wkdask.errors import GeometryError, GeometryKeyError
from wkdask.geometry.mag import Mag, MagLike
from wkdask.geometry.slices import Slices
from wkdask.geometry.vec import XYZ, Vec3Int, Vec3IntLike, VecInt, VecIntLike
from wkdask.geometry.whole_numbers import to_whole, to_wholes

if TYPE_CHECKING:
    from wkdask.geometry.normalized_box import NormalizedBoundingBox

UNNAMED = "Unnamed Bounding Box"
Color: TypeAlias = tuple[float, float, float, float]
Index: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False, repr=False, init=False)
class NDBoundingBox(Slices):
    """A half-open box of voxels with named axes; x, y and z are always among them.

    A negative size is turned around: what counts are the voxels. Magnifications touch x, y and z only. Where a method takes a
    vector, it takes one number for each axis, or three for x, y and z. Axes are sorted by `index`. Boxes are equal where
    corner, size and axes are.

    Parameters
    ----------
    topleft
        The first voxel, one number for each axis.
    size
        Voxels along each axis.
    axes
        Names of the axes, such as ``("t", "x", "y", "z")``.
    index
        Where each axis lies in the stored array; default: in this order from 0.
    name, is_visible, color
        How the box is shown, as a box of an annotation; color is red, green, blue and alpha from 0 to 1.

    Raises
    ------
    GeometryError
        Where the lengths differ, an axis is named twice, or x, y or z is missing.

    Examples
    --------
    >>> box = NDBoundingBox((0, 1, 2, 3), (7, 8, 8, 8), ("t", "x", "y", "z"), (0, 2, 3, 4))
    >>> box.align_with_mag(Mag(2), ceil=True)
    NDBoundingBox(topleft=(0, 0, 2, 2), size=(7, 10, 8, 10), axes=('t', 'x', 'y', 'z'), index=(0, 2, 3, 4))
    >>> box.with_bounds("t", 3, 1).to_slices()[0], box.size_xyz
    (slice(3, 4, None), Vec3Int(8, 8, 8))
    """

    topleft: VecInt
    size: VecInt
    axes: tuple[str, ...]
    index: VecInt
    name: str | None
    is_visible: bool
    color: Color | None

    def __init__(
        self,
        topleft: VecIntLike,
        size: VecIntLike,
        axes: Iterable[str],
        index: VecIntLike | None = None,
        name: str | None = UNNAMED,
        is_visible: bool = True,
        color: Color | None = None,
    ) -> None:
        self._place(to_wholes(topleft), to_wholes(size), tuple(axes), index)
        for what, value in (("name", name), ("is_visible", is_visible), ("color", color)):
            object.__setattr__(self, what, value)

    def _place(self, topleft: Index, size: Index, axes: tuple[str, ...], order: VecIntLike | None) -> None:
        """Set where the box lies, after checking that it is one."""
        index = tuple(range(len(axes))) if order is None else to_wholes(order)
        if not len(topleft) == len(size) == len(axes) == len(index):
            raise GeometryError(
                f"A box needs as many numbers as axes: topleft {topleft}, size {size}, axes {axes}, index {index}."
            )
        if len(set(axes)) != len(axes) or not set(XYZ) <= set(axes):
            raise GeometryError(f"A box needs the axes x, y and z, each once; got {axes}. Name all of them.")
        start, voxels = [a + min(n, 0) for a, n in zip(topleft, size, strict=True)], list(map(abs, size))
        rows = sorted(zip(index, axes, start, voxels, strict=True), key=lambda row: row[0])
        object.__setattr__(self, "axes", tuple(row[1] for row in rows))
        for what, at in (("topleft", 2), ("size", 3), ("index", 0)):
            object.__setattr__(self, what, self._vector(row[at] for row in rows))  # type: ignore[misc]

    def _vector(self, values: Iterable[int]) -> VecInt:
        return VecInt(tuple(values), axes=self.axes)

    def _spread(self, values: VecIntLike, other: int) -> tuple[int, ...]:
        """Return one number for each axis, where three are those of x, y and z, and `other` is that of the others."""
        numbers = to_wholes(values)
        if len(numbers) == 3 < self.ndim:
            return tuple(numbers[XYZ.index(a)] if a in XYZ else other for a in self.axes)
        if len(numbers) != self.ndim:
            raise GeometryError(f"{values!r} has {len(numbers)} numbers, the box has the axes {self.axes}. Give one for each.")
        return numbers

    def _factor(self, mag: MagLike) -> tuple[int, ...]:
        return self._spread(Mag(mag).to_vec3_int(), 1)

    def _moved(self, topleft: Iterable[int], size: Iterable[int]) -> Self:
        """Return a box with the same axes elsewhere."""
        return replace(self, topleft=tuple(topleft), size=tuple(size))  # type: ignore[arg-type]

    def _between(self, start: Iterable[int], stop: Iterable[int]) -> Self:
        """Return a box between two corners; empty where they are the wrong way round."""
        start = tuple(start)
        return self._moved(start, (max(0, b - a) for a, b in zip(start, stop, strict=True)))

    def _same_axes(self, other: NDBoundingBox) -> NDBoundingBox:
        """Return another box with the axes of this one, where it has these."""
        if self.axes != other.axes:
            raise GeometryError(f"Two boxes need the same axes in the same order, got {self.axes} and {other.axes}.")
        return other

    @classmethod
    def from_axes(cls, axes: Iterable[str], sizes: Iterable[int]) -> Self:
        """Make a box at 0 whose axes are stored in this order."""
        names = tuple(axes)
        return cls((0,) * len(names), tuple(sizes), names)

    @classmethod
    def group_boxes_with_aligned_mag(
        cls, bounding_boxes: Iterable[NDBoundingBox], aligning_mag: MagLike
    ) -> dict[NDBoundingBox, list[NDBoundingBox]]:
        """Group boxes by the aligned box (outwards) that covers them."""
        groups: dict[NDBoundingBox, list[NDBoundingBox]] = defaultdict(list)
        for box in bounding_boxes:
            groups[box.align_with_mag(aligning_mag, ceil=True)].append(box)
        return dict(groups)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.axes)

    @property
    def bottomright(self) -> VecInt:
        """The first voxel beyond the box, along each axis."""
        return self._vector(a + n for a, n in zip(self.topleft, self.size, strict=True))

    @property
    def topleft_xyz(self) -> Vec3Int:
        """The first voxel along x, y and z."""
        return self._xyz(self.topleft)

    @property
    def size_xyz(self) -> Vec3Int:
        """Voxels along x, y and z."""
        return self._xyz(self.size)

    @property
    def bottomright_xyz(self) -> Vec3Int:
        """The first voxel beyond the box along x, y and z."""
        return self._xyz(self.bottomright)

    @property
    def index_xyz(self) -> Vec3Int:
        """Where x, y and z lie in the stored array."""
        return self._xyz(self.index)

    def _xyz(self, values: Sequence[int]) -> Vec3Int:
        return Vec3Int(values[self.axes.index(a)] for a in XYZ)

    def _axis(self, axis: str) -> int:
        if axis not in self.axes:
            raise GeometryKeyError(f"The box has no axis {axis!r}; it has {self.axes}. Name one of those.")
        return self.axes.index(axis)

    def get_shape(self, axis_name: str) -> int:
        """Return the size along one axis."""
        return self.size[self._axis(axis_name)]

    def get_bounds(self, axis: str) -> tuple[int, int]:
        """Return first voxel and end along one axis."""
        at = self._axis(axis)
        return self.topleft[at], self.bottomright[at]

    def with_topleft(self, new_topleft: VecIntLike) -> Self:
        """Return a box of the same size elsewhere."""
        return self._moved(to_wholes(new_topleft), self.size)

    def with_size(self, new_size: VecIntLike) -> Self:
        """Return a box of another size at the same corner."""
        return self._moved(self.topleft, to_wholes(new_size))

    def with_bottomright(self, new_bottomright: VecIntLike) -> Self:
        """Return a box from the same corner to another end."""
        return self._moved(self.topleft, (b - a for a, b in zip(self.topleft, to_wholes(new_bottomright), strict=True)))

    def with_index(self, new_index: VecIntLike) -> Self:
        """Return the box with its axes stored elsewhere, and sorted by that."""
        return replace(self, index=to_wholes(new_index))  # type: ignore[arg-type]

    def with_index_xyz(self, new_xyz: Vec3IntLike) -> Self:
        """Return the box with x, y and z stored elsewhere, and its axes sorted by that."""
        return self.with_index(self._with_xyz(self.index, new_xyz))

    def with_name(self, name: str | None) -> Self:
        """Return the box with another name."""
        return replace(self, name=name)

    def with_is_visible(self, is_visible: bool) -> Self:
        """Return the box shown or hidden."""
        return replace(self, is_visible=is_visible)

    def with_color(self, color: Color) -> Self:
        """Return the box in another color: red, green, blue and alpha from 0 to 1."""
        return replace(self, color=color)

    def _with_xyz(self, values: Sequence[int], new: Vec3IntLike) -> tuple[int, ...]:
        xyz = Vec3Int(new)
        return tuple(xyz[XYZ.index(a)] if a in XYZ else v for a, v in zip(self.axes, values, strict=True))

    def with_topleft_xyz(self, new_xyz: Vec3IntLike) -> Self:
        """Return the box with another corner along x, y and z."""
        return self._moved(self._with_xyz(self.topleft, new_xyz), self.size)

    def with_size_xyz(self, new_xyz: Vec3IntLike) -> Self:
        """Return the box with another size along x, y and z."""
        return self._moved(self.topleft, self._with_xyz(self.size, new_xyz))

    def with_bottomright_xyz(self, new_xyz: Vec3IntLike) -> Self:
        """Return the box with another end along x, y and z."""
        return self.with_bottomright(self._with_xyz(self.bottomright, new_xyz))

    def with_bounds(self, axis: str, new_topleft: int | None = None, new_size: int | None = None) -> Self:
        """Return the box with another start, size or both along one axis."""
        at, topleft, size = self._axis(axis), list(self.topleft), list(self.size)
        topleft[at] = topleft[at] if new_topleft is None else to_whole(new_topleft)
        size[at] = size[at] if new_size is None else to_whole(new_size)
        return self._moved(topleft, size)

    def with_bounds_x(self, new_topleft_x: int | None = None, new_size_x: int | None = None) -> Self:
        """Return the box with another start, size or both along x."""
        return self.with_bounds("x", new_topleft_x, new_size_x)

    def with_bounds_y(self, new_topleft_y: int | None = None, new_size_y: int | None = None) -> Self:
        """Return the box with another start, size or both along y."""
        return self.with_bounds("y", new_topleft_y, new_size_y)

    def with_bounds_z(self, new_topleft_z: int | None = None, new_size_z: int | None = None) -> Self:
        """Return the box with another start, size or both along z."""
        return self.with_bounds("z", new_topleft_z, new_size_z)

    def offset(self, vector: VecIntLike) -> Self:
        """Return the box moved by a vector."""
        return self._moved((a + o for a, o in zip(self.topleft, self._spread(vector, 0), strict=True)), self.size)

    def padded_with_margins(self, margins_left: VecIntLike, margins_right: VecIntLike | None = None) -> Self:
        """Return the box grown (or, with negative margins, shrunk) at both ends; the right margins default to the left ones."""
        left = self._spread(margins_left, 0)
        right = left if margins_right is None else self._spread(margins_right, 0)
        start = (a - m for a, m in zip(self.topleft, left, strict=True))
        return self._between(start, (b + m for b, m in zip(self.bottomright, right, strict=True)))

    def intersected_with(self, other: NDBoundingBox, dont_assert: bool = False) -> Self:
        """Return what both boxes cover; `GeometryError` where that is nothing, or with `dont_assert` an empty box."""
        other = self._same_axes(other)
        box = self._between(map(max, self.topleft, other.topleft), map(min, self.bottomright, other.bottomright))
        if box.is_empty():
            if not dont_assert:
                raise GeometryError(f"{self} and {other} do not meet. Choose boxes that do, or pass dont_assert=True.")
            return box._moved(box.topleft, (0,) * self.ndim)
        return box

    def extended_by(self, other: NDBoundingBox) -> Self:
        """Return the smallest box around both; an empty box adds nothing."""
        other = self._same_axes(other)
        if other.is_empty():
            return self
        if self.is_empty():
            return self._moved(other.topleft, other.size)
        return self._between(map(min, self.topleft, other.topleft), map(max, self.bottomright, other.bottomright))

    def is_empty(self) -> bool:
        """Tell whether there is no voxel in the box."""
        return 0 in self.size

    def volume(self) -> int:
        """Return the number of voxels."""
        return math.prod(self.size)

    def contains(self, coord: Iterable[float]) -> bool:
        """Tell whether a point, which may lie between voxels, is in the box."""
        numbers = tuple(coord)
        if len(numbers) != self.ndim:
            raise GeometryError(f"{coord!r} has {len(numbers)} numbers, the box has the axes {self.axes}. Give one for each.")
        return all(a <= c < b for a, c, b in zip(self.topleft, numbers, self.bottomright, strict=True))

    def contains_bbox(self, inner_bbox: NDBoundingBox) -> bool:
        """Tell whether all voxels of another box are in this one; an empty one always is."""
        inner = self._same_axes(inner_bbox)
        return inner.is_empty() or self.intersected_with(inner, dont_assert=True) == inner

    def in_mag(self, mag: MagLike) -> Self:
        """Return the box in voxels of a magnification; `GeometryError` where it is not aligned to that."""
        factor = self._factor(mag)
        if any(a % f or n % f for a, n, f in zip(self.topleft, self.size, factor, strict=True)):
            raise GeometryError(f"{self} is not aligned to mag {Mag(mag)}. Use align_with_mag first.")
        return self._moved(
            (a // f for a, f in zip(self.topleft, factor, strict=True)),
            (n // f for n, f in zip(self.size, factor, strict=True)),
        )

    def from_mag_to_mag1(self, from_mag: MagLike) -> Self:
        """Return the mag-1 box of a box that is in voxels of a magnification."""
        factor = self._factor(from_mag)
        return self._moved(
            (a * f for a, f in zip(self.topleft, factor, strict=True)), (n * f for n, f in zip(self.size, factor, strict=True))
        )

    def align_with_mag(self, mag: MagLike | Vec3Int, ceil: bool = False) -> Self:
        """Return the box rounded inwards to multiples of a magnification, or outwards with `ceil`."""
        factor = mag if isinstance(mag, Vec3Int) else Mag(mag).to_vec3_int()
        edges = list(zip(self.topleft, self.bottomright, self._spread(factor, 1), strict=True))
        if ceil:
            return self._between((a // f * f for a, _, f in edges), (-(-b // f) * f for _, b, f in edges))
        return self._between((-(-a // f) * f for a, _, f in edges), (b // f * f for _, b, f in edges))

    def chunk(self, chunk_shape: VecIntLike, chunk_border_alignments: VecIntLike | None = None) -> Iterator[Self]:
        """Yield the boxes of a tiling, the first axis slowest.

        Tiles start at the box's corner, or, with alignments, at the multiple of these before it. Three numbers are those of
        x, y and z; other axes then have tiles of 1.

        Examples
        --------
        >>> [box.topleft[0] for box in NDBoundingBox((3, 0, 0), (10, 1, 1), "xyz", (1, 2, 3)).chunk((8, 8, 8), (8, 8, 8))]
        [3, 8]
        """
        shape = self._spread(chunk_shape, 1)
        align = shape if chunk_border_alignments is None else self._spread(chunk_border_alignments, 1)
        if any(s < 1 or a < 1 or s % a for s, a in zip(shape, align, strict=True)):
            raise GeometryError(f"Chunks of {shape} must be positive multiples of the alignments {align}. Choose others.")
        bounds = list(zip(self.topleft, self.bottomright, shape, align, strict=True))
        first = [a if chunk_border_alignments is None else a // by * by for a, _, _, by in bounds]
        for start in itertools.product(*(range(f, b, s) for f, (_, b, s, _) in zip(first, bounds, strict=True))):
            stop = tuple(min(f + s, b) for f, (_, b, s, _) in zip(start, bounds, strict=True))
            yield self._between(map(max, start, self.topleft), stop)

    def normalize_axes(self, num_channels: int) -> NormalizedBoundingBox:
        """Return the box with an axis of channels, where it has none but x, y and z; one of several axes keeps them.

        Examples
        --------
        >>> from wkdask.geometry import BoundingBox
        >>> BoundingBox((1, 2, 3), (4, 5, 6)).normalize_axes(3).size
        VecInt(3, 4, 5, 6, axes=('c', 'x', 'y', 'z'))
        """
        from wkdask.geometry.normalized_box import normalized

        return normalized(self, num_channels)

    def denormalize(self) -> NDBoundingBox:
        """Return the box without the axis of channels that `normalize_axes` added; others stay as they are."""
        return self

    def to_config_dict(self) -> dict[str, Any]:
        """Return ``{"topleft": …, "size": …, "axes": …}``."""
        return {"topleft": list(self.topleft), "size": list(self.size), "axes": list(self.axes)}

    def to_wkw_dict(self) -> dict[str, Any]:
        """Return the box as ``datasource-properties.json`` has it, other axes than x, y, z and c in ``additionalAxes``."""
        width, height, depth = self.size_xyz
        entry: dict[str, Any] = {"topLeft": list(self.topleft_xyz), "width": width, "height": height, "depth": depth}
        axes = zip(self.axes, self.topleft, self.bottomright, self.index, strict=True)
        extra = [{"name": name, "bounds": [a, b], "index": i} for name, a, b, i in axes if name not in ("c", *XYZ)]
        return {**entry, "additionalAxes": extra} if extra else entry

    def to_checkpoint_name(self) -> str:
        """Return all numbers joined by underscores."""
        return "_".join(map(str, (*self.topleft, *self.size)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, NDBoundingBox):
            return NotImplemented
        return (self.topleft, self.size, self.axes) == (other.topleft, other.size, other.axes)

    def __hash__(self) -> int:
        return hash((tuple(self.topleft), tuple(self.size), self.axes))

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(topleft={tuple(self.topleft)}, size={tuple(self.size)}, axes={self.axes}, "
            f"index={tuple(self.index)})"
        )
