"""The parts of a layer: magnifications, bounding box, further axes, attachments.

Everything spatial is in mag-1 voxels, order x, y, z.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, StrictStr
from pydantic_core import PydanticCustomError

from wkdask.errors import InputError, MetadataError
from wkdask.geometry import BoundingBox, Mag, NDBoundingBox
from wkdask.metadata.document import Count, Document, Int, Positive
from wkdask.metadata.path import PathKind, classify_path, resolve_relative, validate_layer_name

Triple = tuple[int, int, int]


def mag_triple(mag: Any) -> Triple:
    """Return the three factors of a magnification in any spelling.

    Parameters
    ----------
    mag
        An int, a text ("2", "2-2-1"), three ints, or a `Mag`.

    Raises
    ------
    InputError
        It is none of these.

    Examples
    --------
    >>> mag_triple("2-2-1"), mag_triple(4)
    ((2, 2, 1), (4, 4, 4))
    """
    if isinstance(mag, str):
        parts = [int(part) for part in mag.split("-")] if re.fullmatch(r"[0-9]{1,9}(-[0-9]{1,9}){0,2}", mag) else []
    else:
        parts = list(mag) if isinstance(mag, Iterable) else [mag]
    parts = parts * 3 if len(parts) == 1 else parts
    try:
        x, y, z = (part.__index__() for part in parts if not isinstance(part, bool))
    except (AttributeError, ValueError):
        x = y = z = 0
    if min(x, y, z) < 1:
        raise InputError(f"{mag!r} is not a magnification. Give for example 2, '2-2-1' or [2, 2, 1].")
    return (x, y, z)


def mag_name(mag: Any, *, long: bool = False) -> str:
    """Return the short name of a magnification, or the long one.

    Examples
    --------
    >>> mag_name((2, 2, 2)), mag_name((2, 2, 1)), mag_name(1, long=True)
    ('2', '2-2-1', '1-1-1')
    """
    x, y, z = mag_triple(mag)
    return f"{x}" if x == y == z and not long else f"{x}-{y}-{z}"


def mag_order(mag: Triple) -> tuple[int, ...]:
    """Return the key by which magnifications are sorted: finest first."""
    x, y, z = mag
    return (max(mag), x * y * z, x, y, z)


def _powers_of_two(mag: Triple) -> Triple:
    if any(factor & (factor - 1) for factor in mag):
        raise PydanticCustomError("mag", "three powers of two")
    return mag


class MagProperties(Document):
    """One magnification of a layer.

    Examples
    --------
    >>> mag = MagProperties.new("2-2-1", path="./color/2-2-1")
    >>> mag.mag, mag.name, mag.relative_path("color")
    ((2, 2, 1), '2-2-1', 'color/2-2-1')
    """

    always_written: ClassVar[frozenset[str]] = frozenset({"mag"})

    mag: Annotated[tuple[Positive, Positive, Positive], AfterValidator(_powers_of_two)]
    path: StrictStr | None = None
    cube_length: Positive | None = None
    axis_order: dict[str, Count] | None = None
    channel_index: Count = 0

    @classmethod
    def new(
        cls,
        mag: Any,
        *,
        path: str | None = None,
        axis_order: dict[str, int] | None = None,
        cube_length: int | None = None,
        channel_index: int = 0,
    ) -> Self:
        """Return a magnification, its mag in any spelling.

        Raises
        ------
        InputError
            A value is not allowed.
        """
        return cls(
            mag=mag_triple(mag),
            path=path,
            axis_order=axis_order,
            cube_length=cube_length,
            channel_index=channel_index,
        )

    @property
    def path_kind(self) -> PathKind | None:
        """Where the path starts; None where there is no path."""
        return None if self.path is None else classify_path(self.path)

    @property
    def name(self) -> str:
        """Short name of the magnification: ``2``, ``2-2-1``."""
        return mag_name(self.mag)

    def to_mag(self) -> Mag:
        """Return the magnification as a value."""
        return Mag(self.mag)

    def candidates(self, layer_name: str) -> tuple[str, ...]:
        """Return where the magnification may lie, as seen from the dataset's folder, likeliest first.

        Raises
        ------
        MetadataError
            The path is absolute, a URL, or leaves the dataset; or no layer may have this name.

        Examples
        --------
        >>> MagProperties.new(1).candidates("color")
        ('color/1', 'color/1-1-1')
        """
        try:
            validate_layer_name(layer_name)
        except InputError as error:
            raise MetadataError(f"The magnifications of this layer can not be found: {error}") from None
        if self.path is not None:
            return (resolve_relative(self.path),)
        names = dict.fromkeys((self.name, mag_name(self.mag, long=True)))
        return tuple(f"{layer_name}/{name}" for name in names)

    def relative_path(self, layer_name: str) -> str:
        """Return the first of the `candidates`: the only one where the document has a path."""
        return self.candidates(layer_name)[0]


class BoundingBoxProperties(Document):
    """A box in mag-1 voxels.

    Examples
    --------
    >>> BoundingBoxProperties.new((0, 0, 0), (128, 128, 64)).to_dict()
    {'topLeft': [0, 0, 0], 'width': 128, 'height': 128, 'depth': 64}
    """

    top_left: tuple[Int, Int, Int]
    width: Count
    height: Count
    depth: Count

    @classmethod
    def new(cls, topleft: Iterable[int], size: Iterable[int]) -> Self:
        """Return the box of a corner and a size.

        Raises
        ------
        InputError
            These are not three whole numbers each, the size is negative, or the corner is: no array can store that.
        """
        corner, extent = _whole(topleft), _whole(size)
        if len(corner) != 3 or len(extent) != 3 or min(*corner, *extent) < 0:
            raise InputError(
                f"The box of top left {corner} and size {extent} can not be a layer's bounding box. "
                "Give three whole numbers from 0 on for each; a layer can not start below 0."
            )
        return cls(top_left=(corner[0], corner[1], corner[2]), width=extent[0], height=extent[1], depth=extent[2])

    @classmethod
    def of(cls, box: Any) -> Self:
        """Return the x, y, z of a box, or of a pair of top left and size."""
        if isinstance(box, cls):
            return cls.new(box.top_left, box.size)
        if isinstance(box, NDBoundingBox):
            return cls.new(box.topleft_xyz, box.size_xyz)
        try:
            topleft, size = box
        except (TypeError, ValueError):
            raise InputError(f"{box!r} is not a bounding box. Give a BoundingBox, or a top left and a size.") from None
        return cls.new(topleft, size)

    def to_box(self) -> BoundingBox:
        """Return the box as a value."""
        return BoundingBox(self.top_left, self.size)

    @property
    def size(self) -> Triple:
        """Voxels along x, y, z."""
        return (self.width, self.height, self.depth)

    @property
    def bottom_right(self) -> Triple:
        """First voxel behind the box along x, y, z."""
        x, y, z = self.top_left
        return (x + self.width, y + self.height, z + self.depth)


def _whole(numbers: Iterable[Any]) -> tuple[int, ...]:
    try:
        return tuple(number.__index__() for number in numbers)
    except (AttributeError, TypeError):
        raise InputError(f"{numbers!r} are not whole numbers. Give voxels.") from None


class AxisProperties(Document):
    """An axis beside c, x, y and z: absolute bounds, half-open, and its place in the stored array.

    Examples
    --------
    >>> AxisProperties(name="t", bounds=(0, 7), index=0).to_dict()
    {'name': 't', 'bounds': [0, 7], 'index': 0}
    """

    name: StrictStr
    bounds: tuple[Int, Int]
    index: Count


class AttachmentProperties(Document):
    """A file or folder that belongs to a segmentation: meshes, agglomerates and so on.

    Examples
    --------
    >>> AttachmentProperties(name="mesh", path="./seg/meshes/mesh", data_format="zarr3").relative_path()
    'seg/meshes/mesh'
    """

    name: StrictStr
    path: StrictStr
    data_format: StrictStr

    @property
    def path_kind(self) -> PathKind:
        """Where the path starts."""
        return classify_path(self.path)

    def relative_path(self) -> str:
        """Return the path as seen from the dataset's folder.

        Raises
        ------
        MetadataError
            The path is absolute, a URL, or leaves the dataset.
        """
        return resolve_relative(self.path)


class AttachmentsProperties(Document):
    """All attachments of a layer."""

    meshes: tuple[AttachmentProperties, ...] = ()
    agglomerates: tuple[AttachmentProperties, ...] = ()
    connectomes: tuple[AttachmentProperties, ...] = ()
    segment_index: AttachmentProperties | None = None
    segment_statistics: AttachmentProperties | None = None
    cumsum: AttachmentProperties | None = None
