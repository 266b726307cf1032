"""Run in the environment of the OME-NGFF readers: what each of them sees of some images, as JSON."""

from __future__ import annotations

import hashlib
import json
import sys
import warnings

import numpy as np

warnings.simplefilter("ignore")


def digest(voxels: object) -> str:
    return hashlib.sha256(np.ascontiguousarray(voxels).tobytes()).hexdigest()[:16]


def by_models(path: str) -> dict[str, object]:
    import zarr
    from ome_zarr_models import open_ome_zarr

    group = open_ome_zarr(zarr.open_group(path, mode="r"))
    attributes = getattr(group.attributes, "ome", group.attributes)
    multiscale = attributes.multiscales[0]
    found = {axis: [] for axis in ("scale", "translation")}
    for dataset in multiscale.datasets:
        for transformation in dataset.coordinateTransformations:
            found[transformation.type].append(getattr(transformation, transformation.type))
    omero = getattr(attributes, "omero", None) or {}
    channels = (omero if isinstance(omero, dict) else omero.model_dump()).get("channels", [])
    return {
        "axes": [axis.name for axis in multiscale.axes],
        "units": [axis.unit for axis in multiscale.axes],
        "scales": found["scale"],
        "translations": found["translation"],
        "channels": [[c["label"], c["color"], c["window"]["start"], c["window"]["end"]] for c in channels],
        "version": type(group).__module__.split(".")[1],
    }


def by_ngff_zarr(path: str) -> dict[str, object]:
    import ngff_zarr

    images = ngff_zarr.from_ngff_zarr(path, validate=False).images
    return {
        "axes": list(images[0].dims),
        "scales": [[image.scale.get(d, 1.0) for d in image.dims] for image in images],
        "shapes": [list(image.data.shape) for image in images],
        "voxels": [digest(image.data.compute()) for image in images],
    }


def by_ome_zarr(path: str) -> dict[str, object]:
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    node = next(iter(Reader(parse_url(path))()))
    return {
        "axes": [axis["name"] for axis in node.metadata["axes"]],
        "scales": [steps[0]["scale"] for steps in node.metadata["coordinateTransformations"]],
        "shapes": [list(level.shape) for level in node.data],
        "voxels": [digest(level.compute()) for level in node.data],
    }


READERS = {"ome-zarr-models": by_models, "ngff-zarr": by_ngff_zarr, "ome-zarr-py": by_ome_zarr}

if __name__ == "__main__":
    print(json.dumps({path: {name: read(path) for name, read in READERS.items()} for path in sys.argv[1:]}))
