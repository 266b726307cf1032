"""The document ``datasource-properties.json`` at the root of a dataset.

Format: https://docs.webknossos.org/webknossos/data/concepts.html and, for the details, the models here.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, StrictStr, model_validator
from pydantic_core import PydanticCustomError

from wkdask.errors import InputError, LayerNotFoundError, MetadataError
from wkdask.metadata.document import Document, Number, check_depth, dump_json, listed, load_json, shorten
from wkdask.metadata.element_class import MetadataWarning, from_element_class
from wkdask.metadata.layer import LayerProperties
from wkdask.metadata.legacy import modernised
from wkdask.metadata.path import validate_layer_name
from wkdask.metadata.units import LengthUnit, VoxelSize
from wkdask.metadata.view import DatasetViewConfiguration

FILE_NAME = "datasource-properties.json"
VERSION = 1


def _version(value: Any) -> int:
    if type(value) is not int or value != VERSION:
        problem = f"version {shorten(value)}, this wkdask reads {VERSION}"
        raise PydanticCustomError("found", "{problem}", {"problem": problem})
    return value


def _unit(value: Any) -> LengthUnit:
    try:
        return LengthUnit.parse(value)
    except InputError:
        raise PydanticCustomError("unit", "the full name of a unit of length, such as nanometer") from None


class IdProperties(Document):
    """Name and team of a dataset; servers take both from elsewhere."""

    always_written: ClassVar[frozenset[str]] = frozenset({"name", "team"})

    name: StrictStr = ""
    team: StrictStr = ""


class ScaleProperties(Document):
    """Edges of one mag-1 voxel along x, y, z, and their unit.

    Examples
    --------
    >>> ScaleProperties(factor=(4, 4, 35)).voxel_size.factor
    Vec3Float(4.0, 4.0, 35.0)
    """

    always_written: ClassVar[frozenset[str]] = frozenset({"unit"})

    factor: tuple[Number, Number, Number]
    unit: Annotated[LengthUnit, BeforeValidator(_unit)] = LengthUnit.NANOMETER

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            VoxelSize(self.factor, self.unit)
        except InputError as error:
            raise PydanticCustomError("found", "{problem}", {"problem": str(error).rstrip(".")}) from None
        return self

    @property
    def voxel_size(self) -> VoxelSize:
        """The same as a value."""
        return VoxelSize(self.factor, self.unit)


class Properties(Document):
    """A dataset: its name, voxel size and layers.

    Examples
    --------
    >>> props = Properties.new("brain", VoxelSize((4, 4, 35)))
    >>> Properties.from_json(props.to_json(), "datasource-properties.json") == props
    True
    """

    always_written: ClassVar[frozenset[str]] = frozenset({"id", "version"})

    id: IdProperties = IdProperties()
    scale: ScaleProperties
    data_layers: tuple[LayerProperties, ...]
    default_view_configuration: DatasetViewConfiguration | None = None
    admin_view_configuration: DatasetViewConfiguration | None = None
    version: Annotated[int, BeforeValidator(_version)] = VERSION

    @model_validator(mode="after")
    def _check(self) -> Self:
        seen = set()
        for layer in self.data_layers:
            if layer.name in seen:
                raise PydanticCustomError("found", "two layers are named {name}, expected one", {"name": repr(layer.name)})
            seen.add(layer.name)
        return self

    @classmethod
    def new(cls, name: str, voxel_size: VoxelSize) -> Self:
        """Return a dataset without layers."""
        factor = [int(edge) if edge == int(edge) and edge < 2**53 else edge for edge in voxel_size.factor]
        return cls(
            id=IdProperties(name=name),
            scale=ScaleProperties(factor=(factor[0], factor[1], factor[2]), unit=voxel_size.unit),
            data_layers=(),
        )

    @classmethod
    def from_json(cls, data: bytes, where: str = FILE_NAME) -> Self:
        """Return what the bytes of a document say; older forms are understood.

        Parameters
        ----------
        data
            Content of the file.
        where
            What messages call it: its path or URL.

        Raises
        ------
        MetadataError
            It is not such a document; the message says where, what was found and what was expected.

        Warns
        -----
        MetadataWarning
            A layer's elementClass does not fit its channels.

        Examples
        --------
        >>> Properties.from_json(b'{"scale": [1, 1, 1], "dataLayers": []}').voxel_size.unit.value
        'nanometer'
        """
        return cls._of_trusted(load_json(data, where), where)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str = FILE_NAME) -> Self:
        """Return what a parsed document says; see `from_json`."""
        check_depth(data, where)
        return cls._of_trusted(copy.deepcopy(data), where)

    @classmethod
    def _of_trusted(cls, raw: Any, where: str) -> Self:
        if isinstance(raw, dict) and "version" in raw:
            _checked_version(raw["version"], where)
        properties = cls._validated(modernised(raw), where, MetadataError)
        for i, (before, layer) in enumerate(zip(raw["dataLayers"], properties.data_layers, strict=True)):
            doubt = from_element_class(layer.element_class, before.get("numChannels"))[2]
            if doubt:
                warnings.warn(f"{where}: dataLayers[{i}] ({layer.name!r}): {doubt}.", MetadataWarning, stacklevel=3)
        return properties

    def to_json(self) -> bytes:
        """Return the document as UTF-8 with 4 spaces of indentation.

        Raises
        ------
        MetadataError
            A value, such as NaN, can not be said in JSON.
        """
        return dump_json(self.to_dict(), FILE_NAME)

    @property
    def name(self) -> str:
        """Name of the dataset, as the document has it."""
        return self.id.name

    @property
    def voxel_size(self) -> VoxelSize:
        """Size of a mag-1 voxel."""
        return self.scale.voxel_size

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the layers, in their order."""
        return tuple(layer.name for layer in self.data_layers)

    def layer(self, name: str) -> LayerProperties:
        """Return a layer.

        Raises
        ------
        LayerNotFoundError
            There is none of this name.
        """
        for layer in self.data_layers:
            if layer.name == name:
                return layer
        there = listed(map(repr, self.layer_names))
        raise LayerNotFoundError(f"There is no layer {name!r}; the dataset has {there}. Use one of those or add it.")

    def with_layer(self, layer: LayerProperties) -> Self:
        """Return the dataset with a layer more, or another one in the place of that name.

        Raises
        ------
        InputError
            No new layer may have this name.

        Examples
        --------
        >>> layer = LayerProperties.new("color", "color", "uint8", 1, "zarr3", ((0, 0, 0), (64, 64, 32)))
        >>> Properties.new("brain", VoxelSize((4, 4, 35))).with_layer(layer).layer_names
        ('color',)
        """
        if layer.name in self.layer_names:
            layers = tuple(layer if old.name == layer.name else old for old in self.data_layers)
        else:
            validate_layer_name(layer.name)
            layers = (*self.data_layers, layer)
        return self.model_copy(update={"data_layers": layers})

    def without_layer(self, name: str) -> Self:
        """Return the dataset without a layer; LayerNotFoundError where there is none of this name."""
        gone = self.layer(name)
        return self.model_copy(update={"data_layers": tuple(layer for layer in self.data_layers if layer is not gone)})

    def with_name(self, name: str) -> Self:
        """Return the dataset under another name."""
        return self.model_copy(update={"id": self.id.updated(name=name)})

    def with_voxel_size(self, voxel_size: VoxelSize) -> Self:
        """Return the dataset with other voxels."""
        changed = self.scale.updated(factor=voxel_size.factor, unit=voxel_size.unit)
        return self.model_copy(update={"scale": changed})

    def with_view_configuration(self, **changes: Any) -> Self:
        """Return the dataset with other values in its default view configuration; None takes one away."""
        view = self.default_view_configuration or DatasetViewConfiguration()
        return self.model_copy(update={"default_view_configuration": view.updated(**changes)})


def _checked_version(found: Any, where: str) -> None:
    if type(found) is not int or found != VERSION:
        raise MetadataError(
            f"{where} has version {shorten(found)}, this wkdask reads {VERSION}. Use a newer wkdask, or restore the document."
        )
