"""Opening the arrays of a dataset by its JSON; nothing is read but documents."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import suppress

from wkdask.arrays.mag_array import MagArray
from wkdask.errors import DatasetNotFoundError, InputError, MetadataError, NotListedError
from wkdask.formats import FORMATS, ArrayHandle, open_array
from wkdask.geometry.grid import Box
from wkdask.metadata import FILE_NAME, LayerProperties, MagProperties, MetadataWarning, PathKind, Properties
from wkdask.storage import Location

MAX_JSON_BYTES = 256 << 20
"""Of a dataset's JSON."""


def read_properties(location: Location) -> Properties:
    """Return what the JSON of a dataset says.

    Raises
    ------
    DatasetNotFoundError
        Where there is none.
    """
    document = location / FILE_NAME
    found = document.read_range(0, MAX_JSON_BYTES)
    if found is None:
        raise DatasetNotFoundError(f"{location} is no dataset: {FILE_NAME} is missing. Check the path.")
    if found.size > MAX_JSON_BYTES:
        raise MetadataError(f"{document} has {found.size} bytes, expected at most {MAX_JSON_BYTES}. Restore the file.")
    return Properties.from_json(found.data, str(document))


def open_mag_arrays(location: Location) -> dict[str, dict[str, MagArray]]:
    """Open all magnifications of all layers of a dataset: layer name, short mag name, array."""
    properties = read_properties(location)
    return {
        layer.name: {mag.name: open_mag_array(location, properties, layer, mag.mag) for mag in layer.mags}
        for layer in properties.data_layers
    }


def open_mag_array(location: Location, properties: Properties, layer: LayerProperties, mag: tuple[int, int, int]) -> MagArray:
    """Open one magnification of a layer.

    The JSON says where the array lies and what its axes are; where both disagree on the dtype, or on axes that the array knows,
    the array wins, with a warning.
    Channels that the array lacks are zero, those that it has beyond are read, with a warning too; a magnification that has a
    ``channelIndex`` is of some channels only.

    Raises
    ------
    MagNotFoundError
        Where the layer does not have it.
    DatasetNotFoundError
        Where there is no array.
    """
    found = layer.mag(mag)
    ends = layer_ends(layer, found.mag, found.channel_index)
    try:
        handle = open_array(place_of(location, layer.name, found), layer.data_format, [ends[axis][1] for axis in "xyz"])
    except DatasetNotFoundError as error:
        if found.path is None or found.path_kind is PathKind.RELATIVE:
            raise
        where = f"{location / FILE_NAME} has mag {found.name} of layer '{layer.name}' at {found.path!r}"
        raise DatasetNotFoundError(f"{where}, but {error}") from None
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
    if len(axes) == len(handle.spec.shape) and handle.spec.axes != axes:  # of a format in which arrays say it themselves
        warnings.warn(
            f"Layer '{layer.name}' has the axes {axes} by the dataset's JSON, but {handle.spec.axes} in the array of mag "
            f"{found.name}; the array is right. Correct axisOrder.",
            MetadataWarning,
            stacklevel=2,
        )
    channels = channels_of(handle)
    if ends["c"][1] > channels:
        warnings.warn(
            f"Layer '{layer.name}' has {ends['c'][1]} channels by the dataset's JSON, but the array of mag {found.name} has "
            f"{channels}; those that it lacks are zero. Correct numChannels.",
            MetadataWarning,
            stacklevel=2,
        )
    elif has_unsaid_channels(handle, layer, found):
        warnings.warn(
            f"Layer '{layer.name}' has {ends['c'][1]} channels by the dataset's JSON, but the array of mag {found.name} has "
            f"{channels}; all of them are read. Correct numChannels, or say by channelIndex which are the layer's.",
            MetadataWarning,
            stacklevel=2,
        )
        ends["c"] = (0, channels)
    voxel = properties.voxel_size
    pairs = [ends.get(axis, (0, n)) for axis, n in zip(handle.spec.axes, handle.spec.shape, strict=True)]
    box = Box(tuple(a for a, _ in pairs), tuple(b for _, b in pairs))
    return MagArray(handle, found.mag, box, voxel.factor, str(voxel.unit), f"{layer.name}/{found.name}")


def channels_of(handle: ArrayHandle) -> int:
    """Return how many channels an array has."""
    return dict(zip(handle.spec.axes, handle.spec.shape, strict=True)).get("c", 1)


def has_unsaid_channels(handle: ArrayHandle, layer: LayerProperties, mag: MagProperties) -> bool:
    """Whether an array has more channels than the layer by the JSON, which does not say which ones are the layer's."""
    return channels_of(handle) > layer.num_channels and "channel_index" not in mag.model_fields_set


def place_of(location: Location, layer: str, mag: MagProperties) -> Location:
    """Return where the array of a magnification lies; where nothing says it, in the folder of its name that there is.

    Raises
    ------
    MetadataError
        Where its path can lead nowhere.
    """
    try:
        if mag.path is not None and mag.path_kind is not PathKind.RELATIVE:
            return location.linked(mag.path)
        candidates = mag.candidates(layer)
    except (InputError, MetadataError) as error:
        raise MetadataError(f"{location / FILE_NAME}, layer '{layer}', mag {mag.name}: {error}") from None
    moved = f"{layer}/{candidates[0].rpartition('/')[2]}"  # where it is when a change of the layer's name was killed half-way
    places = [location / path for path in dict.fromkeys((*candidates, moved))]
    return next(filter(_is_there, places), places[0]) if len(places) > 1 else places[0]


def _is_there(place: Location) -> bool:
    """Whether an array may lie at a place; of stores that list nothing, its documents are asked for."""
    if place.lists:
        with suppress(NotListedError):
            return place.is_folder()
    return any((place / name).is_file() for form in FORMATS.values() for name in sorted(form.documents))


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
