"""N5 groups: the attributes by which other readers find a layer's magnifications and their resolution.

All lists have a number for each stored axis, in stored order.

- ``n5`` at the root: the version of the format (https://github.com/saalfeldlab/n5#file-system-specification).
- ``downsamplingFactors`` of the layer, a list of lists, and ``scales``, the same as n5-viewer named it first: read by
  BigDataViewer (https://github.com/bigdataviewer/bigdataviewer-core/blob/master/BDV%20N5%20format.md) and Neuroglancer
  (https://neuroglancer-docs.web.app/datasource/n5/).
- ``downsamplingFactors`` of a magnification, a list: read by Neuroglancer and n5-viewer
  (https://github.com/saalfeldlab/n5-viewer#container-structure).
- ``pixelResolution`` of both: read by n5-viewer and Neuroglancer. It is that of mag 1: readers multiply it with the factors.
- ``resolution``, ``units`` and ``axes`` of both: read by Neuroglancer and tensorstore.

Those readers take the levels of a pyramid from folders named ``s0``, ``s1`` and so on. Ours are named by magnification, ``1``,
``2-2-1``: each opens by itself, at its place and resolution. For a pyramid in one view, link ``s0`` to ``1`` and so on.
"""

from __future__ import annotations

import json
from typing import Any

from wkdask.metadata import LayerProperties, VoxelSize
from wkdask.metadata.mag import mag_order
from wkdask.storage import WORK_FOLDER, Location, update_document

VERSION = "2.5.0"
"""Of the format; readers take any with their own first number or a lower one."""


def write_groups(dataset: Location, layer: LayerProperties, voxel_size: VoxelSize) -> None:
    """Write the attributes of dataset and layer, and of the magnifications that lie in the layer's folder; others' stay."""
    locks, document = dataset / WORK_FOLDER / "tmp", "attributes.json"
    _add(dataset / document, {"n5": VERSION}, locks, first=False)
    own = f"./{layer.name}/"
    pairs = [(mag.mag, (mag.path or own + mag.name).removeprefix(own)) for mag in layer.mags]
    pairs = sorted([(mag, path) for mag, path in pairs if "/" not in path], key=lambda pair: mag_order(pair[0]))
    axes, space = layer.axes(), _space(layer.axes(), voxel_size)
    factors = [_along(axes, mag) for mag, _ in pairs]
    pyramid = {"downsamplingFactors": factors, "scales": factors} if pairs else {}
    _add(dataset / layer.name / document, {**pyramid, **space}, locks)
    for (_, path), factor in zip(pairs, factors, strict=True):
        _add(dataset / layer.name / path / document, {"downsamplingFactors": factor, **space}, locks, array=True)


def _space(axes: tuple[str, ...], voxel_size: VoxelSize) -> dict[str, Any]:
    resolution = _along(axes, voxel_size.to_nanometer())
    return {
        "axes": list(axes),
        "resolution": resolution,
        "units": ["nm" if axis in ("x", "y", "z") else "" for axis in axes],
        "pixelResolution": {"dimensions": resolution, "unit": "nm"},
    }


def _along(axes: tuple[str, ...], triple: tuple[float, float, float]) -> list[float]:
    """Return numbers for x, y, z as numbers for the stored axes; 1 for all others."""
    return [dict(zip("xyz", triple, strict=True)).get(axis, 1) for axis in axes]


def _add(place: Location, attributes: dict[str, Any], locks: Location, *, first: bool = True, array: bool = False) -> None:
    """Write attributes into a document: before those that it has, or just those that it lacks; to arrays if they are there."""

    def added(old: bytes | None) -> bytes | None:
        try:
            found = json.loads(old or b"{}")
        except (ValueError, RecursionError):
            found = {}
        found = found if isinstance(found, dict) else {}
        new = {**found, **attributes} if first else {**attributes, **found}
        return None if new == found or (array and "dimensions" not in found) else json.dumps(new, indent=4).encode()

    update_document(place, added, locks)
