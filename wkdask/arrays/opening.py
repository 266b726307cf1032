"""Opening the arrays of a dataset by its JSON; nothing is read but documents."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from wkdask.arrays.mag_array import MagArray
from wkdask.errors import DatasetNotFoundError, MetadataError
from wkdask.formats import open_array
from wkdask.geometry.grid import Box
from wkdask.metadata import FILE_NAME, LayerProperties, MagProperties, MetadataWarning, PathKind, Properties
from wkdask.storage import Location


def read_properties(location: Location) -> Properties:
    """Return what the JSON of a dataset says.

    Raises
    ------
    DatasetNotFoundError
        Where there is none.
    """
    document = location / FILE_NAME
    if not document.is_file():
        raise DatasetNotFoundError(f"{location} is no dataset: {FILE_NAME} is missing. Check the path.")
    return Properties.from_json(document.read_bytes(), str(document))


def open_mag_arrays(location: Location) -> dict[str, dict[str, MagArray]]:
    """Open all magnifications of all layers of a dataset: layer name, short mag name, array."""
    properties = read_properties(location)
    return {
        layer.name: {mag.name: open_mag_array(location, properties, layer, mag.mag) for mag in layer.mags}
        for layer in properties.data_layers
    }


def open_mag_array(location: Location, properties: Properties, layer: LayerProperties, mag: tuple[int, int, int]) -> MagArray:
    """Open one magnification of a layer.

    The JSON says where the array lies and what its axes are; where both disagree on the dtype, the array wins, with a warning.

    Raises
    ------
    MagNotFoundError
        Where the layer does not have it.
    """
    found = layer.mag(mag)
    ends = layer_ends(layer, found.mag, found.channel_index)
    handle = open_array(_place(location, layer.name, found), layer.data_format, [ends[axis][1] for axis in "xyz"])
    if handle.spec.dtype != layer.dtype:
        warnings.warn(
            f"Layer '{layer.name}' is {layer.dtype} by the dataset's JSON, but {handle.spec.dtype} in the array of mag "
            f"{found.name}; the array is right.",
            MetadataWarning,
            stacklevel=2,
        )
    axes = layer.axes()
    if len(axes) == len(handle.spec.shape) and handle.spec.axes != axes:
        handle = handle.with_axes(axes)
    voxel = properties.voxel_size
    pairs = [ends.get(axis, (0, n)) for axis, n in zip(handle.spec.axes, handle.spec.shape, strict=True)]
    box = Box(tuple(a for a, _ in pairs), tuple(b for _, b in pairs))
    return MagArray(handle, found.mag, box, voxel.factor, str(voxel.unit), f"{layer.name}/{found.name}")


def _place(location: Location, layer: str, mag: MagProperties) -> Location:
    if mag.path is not None and mag.path_kind is not PathKind.RELATIVE:
        return Location.of(mag.path)
    try:
        candidates = mag.candidates(layer)
    except MetadataError as error:
        raise MetadataError(f"{location / FILE_NAME}, layer '{layer}', mag {mag.name}: {error}") from None
    for path in candidates:
        if (location / path).is_folder():
            return location / path
    return location / candidates[0]


def layer_ends(layer: LayerProperties, mag: Sequence[int], channel: int = 0) -> dict[str, tuple[int, int]]:
    """Return, for each of a layer's axes, where its box begins and ends in voxels of a mag, rounded outwards.

    Parameters
    ----------
    layer
        The layer.
    mag
        Mag-1 voxels of a voxel, along x, y, z.
    channel
        The first of its channels in the array.
    """
    box = layer.bounding_box
    ends = {a: (t // m, -(-b // m)) for a, t, b, m in zip("xyz", box.top_left, box.bottom_right, mag, strict=True)}
    ends["c"] = (channel, channel + layer.num_channels)
    return ends | {axis.name: axis.bounds for axis in layer.additional_axes or ()}
