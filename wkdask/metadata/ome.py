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
    channels: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """Return the attributes of the group that holds a layer's magnifications.

    Where the axes end with z, y, x, as the specification recommends, each coarser magnification also has a translation: the
    centre of its first voxel lies (mag - 1) / 2 voxels behind that of the finest. For other orders, the attributes are those
    that the reference writes.

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
    channels
        How each channel is shown, from `omero_channels`; none: that is left out.

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
        {"path": path, "coordinateTransformations": _transformations(axes, voxel_size, mag)} for mag, path in pairs
    ]
    group: dict[str, Any] = {"multiscales": [multiscale]}
    if channels:
        group["omero"] = {"channels": list(channels)} | ({"version": version} if version == "0.4" else {})
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


def is_conventional(axes: Sequence[str]) -> bool:
    """Whether the stored order is the one that the specification recommends: z, y, x last.

    Examples
    --------
    >>> is_conventional("czyx"), is_conventional("cxyz")
    (True, False)
    """
    return tuple(axes[-3:]) == ("z", "y", "x")


def is_allowed(axes: Sequence[str]) -> bool:
    """Whether the specification allows axes: two to five, time before channels and others, these before space.

    Examples
    --------
    >>> is_allowed("tcxyz"), is_allowed("ctzyx")
    (True, False)
    """
    ranks = [{"time": 0, "space": 2}.get(_TYPES.get(axis, ""), 1) for axis in axes]
    return 2 <= len(ranks) <= 5 and ranks == sorted(ranks)


def omero_channels(
    name: str, channels: int, dtype: str, color: Sequence[float] | None = None, window: tuple[float, float] | None = None
) -> list[dict[str, Any]]:
    """Return how each channel of an image is shown by other viewers.

    Parameters
    ----------
    name
        Of the layer.
    channels, dtype
        How many, and the voxels' type, whose range the window lies in.
    color
        Red, green, blue from 0 to 255; by default white, and for three channels red, green and blue.
    window
        The values that are shown as black and as full colour; by default the range of the dtype.

    Examples
    --------
    >>> omero_channels("em", 1, "uint8", window=(10, 200))
    [{'label': 'em', 'active': True, 'color': 'FFFFFF', 'window': {'min': 0, 'max': 255, 'start': 10, 'end': 200}}]
    """
    whole = (0, 1) if dtype.startswith("float") else _int_range(dtype)
    start, end = window or whole
    rgb = channels == 3 and color is None
    tints = ["FF0000", "00FF00", "0000FF"] if rgb else [_hex(color or (255, 255, 255))] * channels
    labels = [name] if channels == 1 else [f"{name} {i}" for i in range(channels)]
    low, high = min(whole[0], start), max(whole[1], end)
    return [
        {"label": label, "active": True, "color": tint, "window": {"min": low, "max": high, "start": start, "end": end}}
        for label, tint in zip(labels, tints, strict=True)
    ]


def _int_range(dtype: str) -> tuple[int, int]:
    bits = int(dtype.lstrip("uint"))
    return (0, 2**bits - 1) if dtype.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _hex(color: Sequence[float]) -> str:
    return "".join(f"{min(255, max(0, round(part))):02X}" for part in color)


def _transformations(axes: Sequence[str], voxel_size: VoxelSize, mag: tuple[int, int, int]) -> list[dict[str, Any]]:
    nanometer = voxel_size.to_nanometer()
    edges = {axis: edge * m for axis, edge, m in zip("xyz", nanometer, mag, strict=True)}
    found: list[dict[str, Any]] = [{"type": "scale", "scale": [edges.get(axis, 1.0) for axis in axes]}]
    if is_conventional(axes) and mag != (1, 1, 1):
        centres = {axis: edge * (m - 1) / 2 for axis, edge, m in zip("xyz", nanometer, mag, strict=True)}
        found.append({"type": "translation", "translation": [centres.get(axis, 0.0) for axis in axes]})
    return found
