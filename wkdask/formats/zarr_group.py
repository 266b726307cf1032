"""Zarr groups: the documents that let other readers find a layer's magnifications."""

from __future__ import annotations

import json
from typing import Any

from wkdask.metadata import LayerProperties, VoxelSize
from wkdask.metadata.ome import is_allowed, is_conventional, ome_attributes, omero_channels
from wkdask.storage import Location
from wkdask.storage.document import exclusively, turns_of


def image_attributes(layer: LayerProperties, voxel_size: VoxelSize, version: str) -> dict[str, Any]:
    """Return the OME-NGFF attributes of a layer's group: of all magnifications that lie in the layer's own folder.

    There are none where the specification does not allow the stored order of the axes. Where that ends with z, y, x, the
    channels of a colour layer have colours and windows, as its view configuration has them.

    Parameters
    ----------
    layer, voxel_size
        As the dataset's JSON has them.
    version
        Of OME-NGFF: "0.5" (Zarr 3) or "0.4" (Zarr 2).
    """
    own = f"./{layer.name}/"
    pairs = [(mag.mag, (mag.path or own + mag.name).removeprefix(own)) for mag in layer.mags]
    pairs = [(mag, path) for mag, path in pairs if "/" not in path]
    axes = layer.axes()
    if not pairs or not is_allowed(axes):
        return {}
    shown = _shown(layer) if is_conventional(axes) and layer.category == "color" and "c" in axes else ()
    return ome_attributes(axes, voxel_size, pairs, name=layer.name, version=version, channels=shown)


def _shown(layer: LayerProperties) -> list[dict[str, Any]]:
    view = layer.default_view_configuration
    color, window = (view.color, view.intensity_range) if view else (None, None)
    if view and window is None and view.min is not None and view.max is not None:
        window = (view.min, view.max)
    return omero_channels(layer.name, layer.num_channels, layer.dtype, color, window)


def write_group(document: Location, attributes: dict[str, Any], locks: Location) -> None:
    """Write the ``zarr.json`` of a group; attributes that others wrote stay, and so does the document where nothing changes."""
    with exclusively(locks, turns_of(document, locks)):
        group = _parsed(document)
        merged = {**group.get("attributes", {}), **attributes}
        new = {**group, "zarr_format": 3, "node_type": "group"} | ({"attributes": merged} if merged else {})
        if new != group:
            document.write_bytes(json.dumps(new, indent=4).encode(), locks)


def _parsed(document: Location) -> dict[str, Any]:
    """Return a group's document; an empty one where it is none, as it is ours to write."""
    try:
        group = json.loads(document.read_if_there() or b"{}")
    except ValueError:
        return {}
    good = isinstance(group, dict) and isinstance(group.get("attributes", {}), dict)
    return group if good else {}
