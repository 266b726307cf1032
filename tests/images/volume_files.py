"""Volumes as other programs write them: OME-Zarr by the letter of the specification, bare Zarr, zip files."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import zarr

TYPES = {"t": "time", "c": "channel"}


def noise(axes: str, sizes: dict[str, int], dtype: str = "uint16") -> np.ndarray:
    """Random voxels along the axes, of the sizes."""
    rng = np.random.default_rng(len(axes))
    return rng.integers(1, 250, [sizes[axis] for axis in axes]).astype(dtype)


def write_array(place: Path, voxels: np.ndarray, version: int = 3, **options: Any) -> Path:
    """Write an array by zarr-python, in chunks of 16 along each axis unless others are asked for."""
    usual = {"chunks": tuple(min(16, n) for n in voxels.shape), **options}
    array = zarr.create_array(place, shape=voxels.shape, dtype=voxels.dtype, zarr_format=version, overwrite=True, **usual)
    array[...] = voxels
    return place


def axis(name: str, unit: str | None = "micrometer") -> dict[str, str]:
    """An axis as OME-NGFF tells it."""
    told = {"name": name, "type": TYPES.get(name, "space")}
    return told | ({"unit": unit} if unit and name in "xyz" else {})


def write_ome(
    place: Path,
    voxels: np.ndarray,
    axes: str,
    version: str = "0.5",
    *,
    scale: dict[str, float] | None = None,
    translation: dict[str, float] | None = None,
    unit: str | None = "micrometer",
    coarser: bool = True,
    more: dict[str, Any] | None = None,
    attributes: dict[str, Any] | None = None,
    **options: Any,
) -> Path:
    """Write an image of one or two levels; the second holds zeros, so that a reader of it is found out."""
    form = 3 if version == "0.5" else 2
    scale = scale or {}
    levels = [{a: scale.get(a, 1.0) * (f if a in "xyz" else 1) for a in axes} for f in ((1, 2) if coarser else (1,))]
    datasets = []
    for number, factors in enumerate(levels):
        steps: list[dict[str, Any]] = [{"type": "scale", "scale": [factors[a] for a in axes]}]
        if translation:
            steps.append({"type": "translation", "translation": [translation.get(a, 0.0) for a in axes]})
        datasets.append({"path": str(number), "coordinateTransformations": steps})
    multiscale = {"axes": [axis(a, unit) for a in axes], "datasets": datasets, **(more or {})}
    ome = {"multiscales": [multiscale], **(attributes or {})}
    write_group(place, ome, version)
    write_array(place / "0", voxels, form, **options)
    if coarser:
        step = tuple(slice(None, None, 2 if a in "xyz" else 1) for a in axes)
        write_array(place / "1", np.zeros_like(voxels[step]), form)
    return place


def write_group(place: Path, ome: dict[str, Any], version: str = "0.5") -> Path:
    """Write a group with OME attributes, by hand."""
    place.mkdir(parents=True, exist_ok=True)
    if version == "0.5":
        attributes = {"ome": {"version": "0.5", **ome}}
        (place / "zarr.json").write_text(json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes}))
    else:
        for multiscale in ome.get("multiscales", ()):
            multiscale["version"] = version
        (place / ".zgroup").write_text('{"zarr_format": 2}')
        (place / ".zattrs").write_text(json.dumps(ome))
    return place


def zipped(folder: Path, path: Path, top: str = "", method: int = zipfile.ZIP_STORED) -> Path:
    """Pack a folder."""
    with zipfile.ZipFile(path, "w", method) as file:
        for found in sorted(folder.rglob("*")):
            if found.is_file():
                file.write(found, f"{top}{found.relative_to(folder).as_posix()}")
    return path


def write_n5(place: Path, voxels: np.ndarray, block: int = 16, **attributes: Any) -> Path:
    """Write an array whose axes are in N5's order, the first one closest together, by tensorstore."""
    import tensorstore

    metadata = {"compression": {"type": "gzip"}, "dataType": str(voxels.dtype), "dimensions": list(voxels.shape)}
    metadata["blockSize"] = [min(block, n) for n in voxels.shape]
    store = {"driver": "file", "path": f"{place}/"}
    spec = {"driver": "n5", "kvstore": store, "metadata": metadata}
    tensorstore.open(spec, create=True, delete_existing=True).result().write(voxels).result()
    document = place / "attributes.json"
    document.write_text(json.dumps({**json.loads(document.read_text()), **attributes}))
    return place


def write_precomputed(place: Path, voxels: np.ndarray, kind: str = "image", offset=(0, 0, 0), resolution=(4, 4, 40)) -> Path:
    """Write (x, y, z, c) by tensorstore."""
    import tensorstore

    scale = {
        "size": voxels.shape[:3],
        "encoding": "raw",
        "chunk_size": [16, 16, 16],
        "resolution": resolution,
        "voxel_offset": offset,
        "key": "fine",
    }
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": f"{place}/"},
        "multiscale_metadata": {"type": kind, "data_type": str(voxels.dtype), "num_channels": voxels.shape[3]},
        "scale_metadata": scale,
    }
    store = tensorstore.open(spec, create=True, delete_existing=True).result()
    store[...].write(voxels).result()
    return place
