"""A layer of a dataset, as ``datasource-properties.json`` describes it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, PlainValidator, PrivateAttr, StrictInt, StrictStr, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from wkdask.errors import InputError, MagNotFoundError, MetadataError
from wkdask.geometry import NDBoundingBox
from wkdask.metadata.document import Document, plain, shorten
from wkdask.metadata.element_class import from_element_class, to_element_class
from wkdask.metadata.mag import (
    AttachmentsProperties,
    AxisProperties,
    BoundingBoxProperties,
    MagProperties,
    mag_name,
    mag_order,
    mag_triple,
)
from wkdask.metadata.path import validate_layer_name
from wkdask.metadata.view import LayerViewConfiguration

LayerCategoryType = Literal["color", "segmentation"]
COLOR_CATEGORY: LayerCategoryType = "color"
SEGMENTATION_CATEGORY: LayerCategoryType = "segmentation"

DEFAULT_AXES = ("c", "x", "y", "z")
_LARGEST_PLAIN = 2**53 - 1


class DataFormat(StrEnum):
    """How the voxels of a layer are stored."""

    WKW = "wkw"
    Zarr = "zarr"
    Zarr3 = "zarr3"
    N5 = "n5"
    Precomputed = "neuroglancerPrecomputed"


def _format(value: Any) -> DataFormat | str:
    """Return the name of a format, known or not, as an installed package may know it when an array is opened."""
    if not isinstance(value, str) or not value:
        raise PydanticCustomError("data_format", "the name of a format")
    return next((known for known in DataFormat if known.value == value), value)


def _segment_id(value: Any) -> Any:
    if isinstance(value, dict) and value.get("customJsonEncoding") == "bigint":
        text = value.get("value")
        if isinstance(text, str) and re.fullmatch(r"-?[0-9]{1,40}", text):
            return int(text)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise PydanticCustomError("segment_id", "a whole number, plain or as bigint envelope")


SegmentId = Annotated[StrictInt, BeforeValidator(_segment_id)]


class LayerProperties(Document):
    """One layer.

    Examples
    --------
    >>> layer = LayerProperties.new("seg", "segmentation", "uint32", 1, "zarr3", ((0, 0, 0), (64, 64, 32)))
    >>> layer.dtype, layer.num_channels, layer.axes()
    ('uint32', 1, ('c', 'x', 'y', 'z'))
    """

    always_written: ClassVar[frozenset[str]] = frozenset({"numChannels"})

    name: StrictStr
    category: LayerCategoryType
    bounding_box: BoundingBoxProperties
    element_class: StrictStr
    data_format: Annotated[DataFormat | str, PlainValidator(_format)]
    """A `DataFormat`, or the text of another name; opening an array says where no such format is installed."""
    mags: tuple[MagProperties, ...]
    num_channels: Annotated[StrictInt, Field(ge=1, lt=2**31)] = 1
    additional_axes: tuple[AxisProperties, ...] | None = None
    coordinate_transformations: list[Any] | None = None
    default_view_configuration: LayerViewConfiguration | None = None
    admin_view_configuration: LayerViewConfiguration | None = None
    largest_segment_id: SegmentId | None = None
    mappings: tuple[StrictStr, ...] | None = None
    attachments: AttachmentsProperties | None = None

    _envelope: Any = PrivateAttr(default=None)

    @model_validator(mode="wrap")
    @classmethod
    def _check(cls, data: Any, handler: Any, info: ValidationInfo) -> Any:
        layer = handler(data)
        if isinstance(data, dict):
            layer._envelope = data.get("largestSegmentId")
        try:
            from_element_class(layer.element_class, layer.num_channels)
        except InputError as error:
            raise PydanticCustomError("found", "{problem}", {"problem": str(error).rstrip(".")}) from None
        seen = set()
        for mag in layer.mags:
            if mag.mag in seen:
                raise PydanticCustomError("found", "mag {mag} is listed twice, expected once", {"mag": mag.name})
            seen.add(mag.mag)
        return layer

    @classmethod
    def new(
        cls,
        name: str,
        category: str,
        dtype: object,
        num_channels: int,
        data_format: str,
        bounding_box: Any,
        additional_axes: Iterable[AxisProperties | tuple[str, tuple[int, int], int]] = (),
    ) -> Self:
        """Return a layer without magnifications.

        Parameters
        ----------
        name
            Letters, digits and ``_ $ @ - .``, no dot at the start.
        category
            ``"color"`` or ``"segmentation"``.
        dtype, num_channels
            dtype of one channel, by name or as numpy has it; how many channels.
        data_format
            Text of a `DataFormat`, or the name of another format.
        bounding_box
            In mag-1 voxels, not below 0: a box, or a top left and a size.
        additional_axes
            Axes beside c, x, y, z: name, bounds, place in the stored array. By default those of the box.

        Raises
        ------
        InputError
            A value is not allowed.
        """
        axes = [a if isinstance(a, AxisProperties) else _axis(a) for a in additional_axes or further_axes(bounding_box)]
        raw = {
            "name": validate_layer_name(name),
            "category": category,
            "boundingBox": BoundingBoxProperties.of(bounding_box).to_dict(),
            "elementClass": to_element_class(dtype, num_channels),
            "dataFormat": plain(data_format),
            "mags": [],
            "numChannels": num_channels,
        }
        if axes:
            raw["additionalAxes"] = plain(axes)
        return cls._validated(raw, "LayerProperties.new(...)", InputError)

    @property
    def dtype(self) -> str:
        """Name of the dtype of one channel."""
        return from_element_class(self.element_class, self.num_channels)[0]

    def axes(self, default: Sequence[str] = DEFAULT_AXES) -> tuple[str, ...]:
        """Return the names of the stored axes in stored order.

        Parameters
        ----------
        default
            The order where the document has none, without the additional axes.

        Raises
        ------
        MetadataError
            The magnifications disagree, or the places are not 0, 1, 2 and so on.

        Examples
        --------
        >>> layer = LayerProperties.new("a", "color", "uint8", 1, "zarr3", ((0, 0, 0), (8, 8, 8)), [("t", (0, 7), 0)])
        >>> layer.axes()
        ('t', 'c', 'x', 'y', 'z')
        """
        extra = {axis.name: axis.index for axis in self.additional_axes or ()}
        order = self._axis_order()
        if order is None:
            rest = iter(axis for axis in default if axis not in extra)
            at = {index: name for name, index in extra.items()}
            total = len({*default, *extra})
            names = tuple(at[i] if i in at else next(rest, "") for i in range(total))
            places = {name: i for i, name in enumerate(names)} if "" not in names else extra
        else:
            places = {**order, **extra}
            if "c" not in places and 0 not in places.values():
                places["c"] = 0
        if sorted(places.values()) != list(range(len(places))) or len(places) != len({*places, *extra}):
            raise MetadataError(
                f"Layer {self.name!r} has its axes at the places {places}; they must be 0, 1, 2 and so on, each once. "
                "Correct axisOrder and additionalAxes."
            )
        return tuple(sorted(places, key=lambda name: places[name]))

    def with_axis_order(self, axes: Sequence[str]) -> Self:
        """Return a layer without magnifications whose arrays are to have their axes in another stored order.

        The order stands in the box until there is a magnification that says it.

        Examples
        --------
        >>> layer = LayerProperties.new("a", "color", "uint8", 1, "zarr3", ((0, 0, 0), (8, 8, 8)))
        >>> layer.with_axis_order("czyx").axes()
        ('c', 'z', 'y', 'x')
        """
        if self.mags or sorted(axes) != sorted(self.axes()):
            raise InputError(
                f"Layer {self.name!r} has the axes {self.axes()} and {len(self.mags)} magnifications; it can not get the order "
                f"{tuple(axes)}. Give each of the axes once, before there are magnifications."
            )
        order = {axis: place for place, axis in enumerate(axes) if axis in DEFAULT_AXES}
        extra = tuple(axis.updated(index=list(axes).index(axis.name)) for axis in self.additional_axes or ())
        return self.model_copy(
            update={
                "bounding_box": self.bounding_box.model_copy(update={"axisOrder": order}),
                "additional_axes": extra or self.additional_axes,
            }
        )

    def _axis_order(self) -> dict[str, int] | None:
        orders = {mag.name: mag.axis_order for mag in self.mags if mag.axis_order is not None}
        if not orders and not self.mags:
            left = (self.bounding_box.model_extra or {}).get("axisOrder")
            good = isinstance(left, dict) and all(type(place) is int for place in left.values())
            return dict(left) if good and left else None
        if not orders and self.additional_axes:
            raise MetadataError(f"Layer {self.name!r} has additionalAxes, but its mags have no axisOrder. Add it to each mag.")
        if not orders:
            return None
        (first, order), *others = orders.items()
        for name, other in others:
            if other != order:
                raise MetadataError(
                    f"Layer {self.name!r} has axisOrder {order} in mag {first} and {other} in mag {name}; "
                    "they must be the same. Correct the document."
                )
        return dict(order)

    @property
    def finest_first(self) -> tuple[MagProperties, ...]:
        """The magnifications, sorted; the document may have any order."""
        return tuple(sorted(self.mags, key=lambda mag: mag_order(mag.mag)))

    def mag(self, mag: Any) -> MagProperties:
        """Return a magnification, given in any spelling.

        Raises
        ------
        MagNotFoundError
            The layer does not have it.
        """
        wanted = mag_triple(mag)
        for found in self.mags:
            if found.mag == wanted:
                return found
        there = ", ".join(m.name for m in self.mags) or "none"
        raise MagNotFoundError(
            f"Layer {self.name!r} has no magnification {mag_name(wanted)}; it has {there}. "
            f"{'Open one of those or make it' if self.mags else 'Add one'} first."
        )

    def with_mag(self, mag: MagProperties) -> Self:
        """Return the layer with a magnification more, or another one in its place; sorted, finest first.

        Examples
        --------
        >>> layer = LayerProperties.new("a", "color", "uint8", 1, "zarr3", ((0, 0, 0), (8, 8, 8)))
        >>> [m.name for m in layer.with_mag(MagProperties.new(2)).with_mag(MagProperties.new(1)).mags]
        ['1', '2']
        """
        others = [m for m in self.mags if m.mag != mag.mag]
        update: dict[str, Any] = {"mags": tuple(sorted([*others, mag], key=lambda m: mag_order(m.mag)))}
        if mag.axis_order is not None and "axisOrder" in (self.bounding_box.model_extra or {}):
            box = self.bounding_box.to_dict()
            update["bounding_box"] = BoundingBoxProperties(**{key: box[key] for key in box if key != "axisOrder"})
        return self.model_copy(update=update)

    def without_mag(self, mag: Any) -> Self:
        """Return the layer without a magnification that it has."""
        gone = self.mag(mag)
        return self.model_copy(update={"mags": tuple(m for m in self.mags if m is not gone)})

    def without_mags(self) -> Self:
        """Return the layer without any magnification."""
        return self.model_copy(update={"mags": ()})

    def with_view_configuration(self, **changes: Any) -> Self:
        """Return the layer with other values in its default view configuration; None takes one away.

        Examples
        --------
        >>> layer = LayerProperties.new("a", "color", "uint8", 1, "zarr3", ((0, 0, 0), (8, 8, 8)))
        >>> layer.with_view_configuration(alpha=20).default_view_configuration.alpha
        20
        """
        view = self.default_view_configuration or LayerViewConfiguration()
        return self.model_copy(update={"default_view_configuration": view.updated(**changes)})

    def box(self) -> NDBoundingBox:
        """Return the bounding box as a value: a BoundingBox, or where there are additional axes one with these.

        Examples
        --------
        >>> LayerProperties.new("a", "color", "uint8", 1, "zarr3", ((0, 0, 0), (8, 8, 4))).box()
        BoundingBox(topleft=(0, 0, 0), size=(8, 8, 4))
        """
        if not self.additional_axes:
            return self.bounding_box.to_box()
        order = self.axes()
        start = dict(zip("xyz", self.bounding_box.top_left, strict=True))
        stop = dict(zip("xyz", self.bounding_box.bottom_right, strict=True))
        for axis in self.additional_axes:
            start[axis.name], stop[axis.name] = axis.bounds
        names = tuple(name for name in order if name in start)
        return NDBoundingBox(
            tuple(start[name] for name in names),
            tuple(stop[name] - start[name] for name in names),
            names,
            tuple(order.index(name) for name in names),
        )

    def with_bounding_box(self, box: Any) -> Self:
        """Return the layer with another box (mag-1 voxels, not below 0); unknown keys of the old one stay.

        Where the box has additional axes of the layer, their bounds change too.
        """
        new = BoundingBoxProperties.of(box)
        changed = self.bounding_box.updated(top_left=new.top_left, width=new.width, height=new.height, depth=new.depth)
        update: dict[str, Any] = {"bounding_box": changed}
        bounds = {name: bounds for name, bounds, _ in further_axes(box)}
        if self.additional_axes and bounds:
            update["additional_axes"] = tuple(
                axis.updated(bounds=bounds.get(axis.name, axis.bounds)) for axis in self.additional_axes
            )
        return self.model_copy(update=update)

    def _plain(self, name: str, value: Any) -> Any:
        if name != "largest_segment_id" or value is None:
            return plain(value)
        if isinstance(self._envelope, dict) and _segment_id(self._envelope) == value:
            return self._envelope
        big = abs(value) > _LARGEST_PLAIN
        return {"customJsonEncoding": "bigint", "value": str(value)} if big else value


def further_axes(box: Any) -> list[tuple[str, tuple[int, int], int]]:
    """Return name, bounds and index of a box's axes beside c, x, y and z.

    Examples
    --------
    >>> further_axes(NDBoundingBox((0, 1, 2, 3), (7, 8, 8, 8), ("t", "x", "y", "z"), (0, 2, 3, 4)))
    [('t', (0, 7), 0)]
    """
    if not isinstance(box, NDBoundingBox):
        return []
    rows = zip(box.axes, box.topleft, box.size, box.index, strict=True)
    return [(name, (start, start + size), index) for name, start, size, index in rows if name not in DEFAULT_AXES]


def _axis(axis: Any) -> AxisProperties:
    try:
        name, (first, end), index = axis
    except (TypeError, ValueError):
        raise InputError(f"{shorten(axis)} is not an axis. Give its name, its bounds and its index.") from None
    return AxisProperties(name=name, bounds=(first, end), index=index)
