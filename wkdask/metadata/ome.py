"""OME-NGFF attributes of a layer's group, so that other viewers find its magnifications.

Specification: https://ngff.openmicroscopy.org/0.5/ (and 0.4, whose attributes lie one level higher).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from wkdask.errors import InputError
from wkdask.metadata.mag import mag_name, mag_order, mag_triple
from wkdask.metadata.units import VoxelSize

_TYPES = {"c": "channel", "t": "time", "x": "space", "y": "space", "z": "space"}


def ome_attributes(
    axes: Sequence[str],
    voxel_size: VoxelSize,
    mags: Iterable[Any],
    *,
    name: str | None = None,
    version: str = "0.5",
) -> dict[str, Any]:
    """Return the attributes of the group that holds a layer's magnifications.

    Parameters
    ----------
    axes
        Names of the stored axes in stored order.
    voxel_size
        Of mag 1; written in nanometer.
    mags
        In any spelling; a pair (mag, path) where the array does not lie at the mag's short name.
    name
        Of the image.
    version
        "0.5" (Zarr 3) or "0.4" (Zarr 2).

    Raises
    ------
    InputError
        The version is another one.

    Examples
    --------
    >>> ome = ome_attributes(("c", "x", "y", "z"), VoxelSize((4, 4, 35)), [1, "2-2-1"])["ome"]
    >>> ome["version"], [dataset["path"] for dataset in ome["multiscales"][0]["datasets"]]
    ('0.5', ['1', '2-2-1'])
    """
    if version not in ("0.4", "0.5"):
        raise InputError(f"OME-NGFF {version!r} is not known here. Use '0.5' or '0.4'.")
    pairs = sorted((_mag_and_path(mag) for mag in mags), key=lambda pair: mag_order(pair[0]))
    multiscale: dict[str, Any] = {} if name is None else {"name": name}
    if version == "0.4":
        multiscale["version"] = version
    multiscale["axes"] = [_axis(axis) for axis in axes]
    multiscale["datasets"] = [
        {"path": path, "coordinateTransformations": [{"type": "scale", "scale": _scale(axes, voxel_size, mag)}]}
        for mag, path in pairs
    ]
    group = {"multiscales": [multiscale]}
    return {"ome": {"version": version, **group}} if version == "0.5" else group


def _mag_and_path(mag: Any) -> tuple[tuple[int, int, int], str]:
    if isinstance(mag, tuple) and len(mag) == 2 and isinstance(mag[1], str):
        return mag_triple(mag[0]), mag[1]
    return mag_triple(mag), mag_name(mag)


def _axis(name: str) -> dict[str, str]:
    axis = {"name": name}
    if name in _TYPES:
        axis["type"] = _TYPES[name]
    if axis.get("type") == "space":
        axis["unit"] = "nanometer"
    return axis


def _scale(axes: Sequence[str], voxel_size: VoxelSize, mag: tuple[int, int, int]) -> list[float]:
    edges = {axis: edge * m for axis, edge, m in zip("xyz", voxel_size.to_nanometer(), mag, strict=True)}
    return [edges.get(axis, 1.0) for axis in axes]
