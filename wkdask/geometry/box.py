"""Boxes of voxels along x, y and z, half-open, in mag-1 voxels where nothing else is said."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

from wkdask.errors import GeometryError, GeometryKeyError
from wkdask.geometry.nd_box import UNNAMED, Color, NDBoundingBox
from wkdask.geometry.vec import XYZ, Vec3Int, Vec3IntLike, VecIntLike
from wkdask.geometry.whole_numbers import to_wholes

__all__ = ["BoundingBox", "NDBoundingBox"]


class BoundingBox(NDBoundingBox):
    """A half-open box of voxels along x, y and z.

    Parameters
    ----------
    topleft
        The first voxel.
    size
        Voxels along x, y and z; negative numbers turn the box around.
    axes
        x, y and z, in this order.
    index
        Where these lie in the stored array.
    name, is_visible, color
        How the box is shown, as a box of an annotation; color is red, green, blue and alpha from 0 to 1.

    Raises
    ------
    GeometryError
        Where these are not three whole numbers each.

    Examples
    --------
    >>> from wkdask.geometry import Mag
    >>> box = BoundingBox((3, 3, 3), (7, 6, 5))
    >>> box.align_with_mag(Mag(2), ceil=True)
    BoundingBox(topleft=(2, 2, 2), size=(8, 8, 6))
    >>> box.intersected_with(BoundingBox((5, 0, 0), (-2, 9, 9))).volume()
    60
    >>> len(list(BoundingBox((0, 0, 0), (10, 10, 10)).chunk((8, 8, 8)))), box.contains((9, 8, 7)), box.contains((10, 8, 7))
    (8, True, False)
    """

    __slots__ = ()

    topleft: Vec3Int
    size: Vec3Int
    index: Vec3Int

    def __init__(
        self,
        topleft: Vec3IntLike,
        size: Vec3IntLike,
        axes: Iterable[str] = XYZ,
        index: VecIntLike = (1, 2, 3),
        name: str | None = UNNAMED,
        is_visible: bool = True,
        color: Color | None = None,
    ) -> None:
        if tuple(axes) != XYZ:
            raise GeometryError(f"The axes are {tuple(axes)}; expected x, y and z. Use NDBoundingBox for others.")
        super().__init__(Vec3Int(topleft), Vec3Int(size), XYZ, (1, 2, 3), name, is_visible, color)
        object.__setattr__(self, "index", Vec3Int(index))

    def _vector(self, values: Iterable[int]) -> Vec3Int:
        return Vec3Int(values)

    def _same_axes(self, other: NDBoundingBox) -> NDBoundingBox:
        return super()._same_axes(other.denormalize())

    @property
    def bottomright(self) -> Vec3Int:
        """The first voxel beyond the box, along each axis."""
        return self.topleft + self.size

    @classmethod
    def empty(cls) -> Self:
        """Return a box without voxels at 0."""
        return cls((0, 0, 0), (0, 0, 0))

    @classmethod
    def from_ndbbox(cls, bbox: NDBoundingBox) -> Self:
        """Return what a box covers along x, y and z."""
        return cls(bbox.topleft_xyz, bbox.size_xyz)

    @classmethod
    def from_points(cls, points: Iterable[Vec3IntLike]) -> Self:
        """Return the smallest box around voxels, each of which is in it."""
        vectors = [Vec3Int(point) for point in points]
        if not vectors:
            raise GeometryError("A box around points needs one at least; got none. Give voxels.")
        start, stop = vectors[0], vectors[0]
        for vector in vectors:
            start, stop = start.pairmin(vector), stop.pairmax(vector)
        return cls(start, stop - start + 1)

    @classmethod
    def from_tuple2(cls, tuple2: tuple[Vec3IntLike, Vec3IntLike]) -> Self:
        """Make a box of ``(topleft, size)``."""
        return cls(*tuple2)

    @classmethod
    def from_tuple6(cls, tuple6: Iterable[int]) -> Self:
        """Make a box of six numbers: topleft, then size."""
        numbers = to_wholes(tuple6)
        if len(numbers) != 6:
            raise GeometryError(f"{tuple6!r} has {len(numbers)} numbers. A box needs six: x, y, z, width, height, depth.")
        return cls(numbers[:3], numbers[3:])

    @classmethod
    def from_csv(cls, csv_bbox: str) -> Self:
        """Read ``x,y,z,width,height,depth``."""
        return cls.from_tuple6(to_wholes(csv_bbox))

    @classmethod
    def from_checkpoint_name(cls, checkpoint_name: str) -> Self:
        """Read ``x_y_z_width_height_depth``, which may stand behind other words."""
        found = re.search(r"-?\d+(_-?\d+){5}$", checkpoint_name, re.ASCII)
        if found is None:
            raise GeometryError(f"{checkpoint_name!r} does not end in six numbers with underscores between. Check the name.")
        return cls.from_csv(found[0].replace("_", ","))

    @classmethod
    def from_config_dict(cls, bbox: Mapping[str, Any]) -> Self:
        """Read ``{"topleft": …, "size": …}``."""
        if not {"topleft", "size"} <= set(bbox):
            raise GeometryKeyError(f"A box needs 'topleft' and 'size'; got {sorted(bbox)}. Give both.")
        return cls(bbox["topleft"], bbox["size"])

    @classmethod
    def from_wkw_dict(cls, bbox: Mapping[str, Any]) -> Self:
        """Read a box of ``datasource-properties.json``: topLeft, width, height, depth; other keys are ignored."""
        try:
            return cls(bbox["topLeft"], (bbox["width"], bbox["height"], bbox["depth"]))
        except KeyError:
            raise GeometryKeyError(
                f"A box needs topLeft, width, height and depth; got {sorted(bbox)}. Give all of them."
            ) from None

    @classmethod
    def from_auto(cls, obj: NDBoundingBox | str | Mapping[str, Any] | Iterable[Any]) -> Self:
        """Read any spelling: csv or JSON text, either kind of dict, two vectors or six numbers.

        Examples
        --------
        >>> BoundingBox.from_auto("1,2,3,4,5,6") == BoundingBox.from_auto('{"topleft": [1, 2, 3], "size": [4, 5, 6]}')
        True
        """
        if isinstance(obj, NDBoundingBox):
            return cls.from_ndbbox(obj)
        if isinstance(obj, str):
            try:
                return cls.from_auto(json.loads(obj)) if obj.lstrip().startswith(("{", "[")) else cls.from_csv(obj)
            except json.JSONDecodeError as error:
                raise GeometryError(f"{obj!r} is no box, as it is no JSON: {error}. Write it like '0,0,0,10,10,10'.") from None
        if isinstance(obj, Mapping):
            return cls.from_wkw_dict(obj) if "topLeft" in obj else cls.from_config_dict(obj)
        try:
            items = tuple(obj)
        except TypeError:
            raise GeometryError(f"{obj!r} is no box. Write it like '0,0,0,10,10,10', as two vectors, or as a dict.") from None
        return cls(items[0], items[1]) if len(items) == 2 else cls.from_tuple6(items)

    def to_tuple6(self) -> tuple[int, int, int, int, int, int]:
        """Return six numbers: topleft, then size."""
        return (*self.topleft.to_tuple(), *self.size.to_tuple())

    def to_csv(self) -> str:
        """Return ``x,y,z,width,height,depth``."""
        return ",".join(map(str, self.to_tuple6()))

    def to_config_dict(self) -> dict[str, Any]:
        """Return ``{"topleft": …, "size": …}``."""
        return {"topleft": list(self.topleft), "size": list(self.size)}

    def iter_chunk_toplefts(
        self,
        chunk_shape: Vec3IntLike,
        chunk_border_alignments: Vec3IntLike | None = None,
        clip_to: BoundingBox | None = None,
    ) -> Iterator[tuple[int, int, int]]:
        """Yield the corners of `chunk`'s boxes, of those alone that meet `clip_to` where it is given."""
        for box in self.chunk(chunk_shape, chunk_border_alignments):
            if clip_to is None or not box.intersected_with(clip_to, dont_assert=True).is_empty():
                yield box.topleft.to_tuple()

    def __repr__(self) -> str:
        return f"BoundingBox(topleft={self.topleft.to_tuple()}, size={self.size.to_tuple()})"
