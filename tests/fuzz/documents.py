"""Slots of what lies above arrays: the JSON of datasets, and the documents of volumes that are imported."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import zarr

from tests.fuzz.arrays import CHUNK, SHAPE, copied, made, new_place, voxels
from tests.fuzz.damage import Finding, Slot
from wkdask.dataset.dataset import Dataset
from wkdask.formats import ArraySpec, find_format
from wkdask.geometry import BoundingBox
from wkdask.images import Selection, find_layers
from wkdask.metadata import Properties
from wkdask.storage import Location

FEW_VOXELS = 1 << 20


def datasets(folder: Path) -> Iterator[Slot]:
    """``datasource-properties.json``."""
    local = new_place(folder, "local")
    dataset = Dataset(local, voxel_size=(4, 4, 35), name="fuzz")
    for name, category, form in (("color", "color", "zarr3"), ("seg", "segmentation", "wkw"), ("n5", "color", "n5")):
        box = BoundingBox((0, 0, 0), (16, 16, 16))
        layer = dataset.add_layer(name, category, dtype="uint32", data_format=form, bounding_box=box)
        for mag in (1, 2):
            layer.add_mag(mag).write(voxels((16 // mag,) * 3, "uint32"))
    for place in (local, copied(Path(local.url), new_place(folder, "memory"))):
        document = place / "datasource-properties.json"
        label = f"dataset {'local' if place.is_local else 'memory'}"
        yield Slot(label, document, document.read_bytes(), place, _look_at_dataset, also=("Layer '",))


def _look_at_dataset(slot: Slot) -> None:
    dataset = slot.attempt(lambda: Dataset.open(slot.root))
    if dataset is None:
        return
    properties = dataset.properties
    again = Properties.from_json(properties.to_json())
    if again != properties:
        raise Finding("the document is another after it was read and written")
    for show in (repr, lambda d: d._repr_html_(), lambda d: d.voxel_size, lambda d: d.calculate_bounding_box()):
        slot.attempt(lambda show=show: show(dataset))
    for layer in (slot.attempt(lambda: list(dataset.layers.values())) or [])[:8]:
        slot.attempt(lambda layer=layer: (repr(layer), layer.bounding_box, layer.dtype, layer.num_channels))
        for mag in (slot.attempt(lambda layer=layer: list(layer.mags.values())) or [])[:4]:
            slot.attempt(lambda mag=mag: (repr(mag), mag.bounding_box))
            slot.attempt(lambda mag=mag: _corner(mag))


def _corner(mag: Any) -> None:
    box = mag.bounding_box
    size = tuple(min(n, 2 * m) for n, m in zip(box.size, mag.mag.to_tuple(), strict=True))
    mag.read(absolute_bounding_box=BoundingBox(box.topleft, size))


def volumes(folder: Path) -> Iterator[Slot]:
    """Documents of OME-Zarr of two versions, of N5 and precomputed trees, and zip files of them."""
    folder = folder / uuid4().hex
    for version in (3, 2):
        root = _ome(folder / f"ome{version}.zarr", version)
        names = ["zarr.json", "0/zarr.json", "labels/zarr.json"] if version == 3 else [".zattrs", ".zgroup", "0/.zarray"]
        for name in names:
            yield _of_tree(root, name)
    packed = folder / "image.ozx"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as file:
        for inner in sorted((folder / "ome3.zarr").rglob("*")):
            if inner.is_file():
                file.write(inner, inner.relative_to(folder / "ome3.zarr"))
    yield _of_tree(packed, "")
    yield _of_tree(_n5(folder / "tree.n5"), "s0/attributes.json")
    yield _of_tree(folder / "tree.n5", "attributes.json")
    yield _of_tree(_precomputed(folder / "volume.precomputed"), "info")


def _of_tree(root: Path, name: str) -> Slot:
    place = Location(str(root / name if name else root))
    return Slot(f"volume {root.name} {name}", place, place.read_bytes(), Location(str(root)), _look_at_volume)


def _look_at_volume(slot: Slot) -> None:
    several = Selection(allow_multiple_layers=True)
    for layer in (slot.attempt(lambda: find_layers(slot.root.url, several)) or [])[:8]:
        stack = layer.stack
        slot.attempt(lambda layer=layer: repr(layer)[:1000])
        slot.attempt(lambda stack=stack: (stack.shape, stack.chunk, stack.bytes, stack.times, list(islice(stack.paths, 9))))
        slot.attempt(lambda stack=stack: stack.stamp(0))
        slot.attempt(lambda stack=stack: stack.identity())
        depth, height, width = (min(2, n) for n in stack.shape)
        found = slot.attempt(lambda stack=stack, d=depth, h=height, w=width: stack.read(0, d, 0, h, 0, w))
        if found is not None and (found.shape[:3] != (depth, height, width) or found.dtype != np.dtype(stack.dtype)):
            raise Finding(f"{found.shape} {found.dtype} was read")


def _ome(root: Path, version: int) -> Path:
    axes = [{"name": "c", "type": "channel"}, *({"name": a, "type": "space", "unit": "micrometer"} for a in "zyx")]
    steps = [{"type": "scale", "scale": [1, 0.5, 0.25, 0.25]}, {"type": "translation", "translation": [0, 1, 2, 3]}]
    channel = {"color": "FF0000", "label": "red", "active": True, "window": {"start": 0, "end": 99, "min": 0, "max": 255}}
    datasets = [{"path": "0", "coordinateTransformations": steps}]
    multiscale = {"axes": axes, "datasets": datasets, "name": "image", "version": "0.4"}
    ome = {"multiscales": [multiscale], "omero": {"channels": [channel, {**channel, "color": "00FF00", "label": "green"}]}}
    attributes: dict[str, Any] = {"ome": {"version": "0.5", **ome}} if version == 3 else ome
    group = zarr.create_group(str(root), zarr_format=version, attributes=attributes)
    group.create_array("0", data=voxels((2, 8, 9, 10), "uint16"), chunks=(1, 4, 8, 8))
    listed = {"labels": ["cells"]}
    labels = group.create_group("labels", attributes={"ome": {"version": "0.5", **listed}} if version == 3 else listed)
    told: dict[str, Any] = {"multiscales": [{**multiscale, "axes": axes[1:], "datasets": [{"path": "0"}]}]}
    told["multiscales"][0]["datasets"][0]["coordinateTransformations"] = [{"type": "scale", "scale": [0.5, 0.25, 0.25]}]
    cells = labels.create_group("cells", attributes={"ome": {"version": "0.5", **told}} if version == 3 else told)
    cells.create_array("0", data=voxels((8, 9, 10), "uint32"), chunks=(4, 8, 8))
    return root


def _n5(root: Path) -> Path:
    made(find_format("n5"), Location(str(root / "s0")), "gzip:1")
    attributes = json.loads((root / "s0/attributes.json").read_bytes())
    edges = {"resolution": [1, 4, 4, 40], "units": ["", "nm", "nm", "nm"]}
    told = {**edges, "axes": ["c", "x", "y", "z"], "downsamplingFactors": [1, 1, 1, 1]}
    pixel = {"pixelResolution": {"dimensions": [1, 4, 4, 40], "unit": "nm"}}
    (root / "s0/attributes.json").write_text(json.dumps({**attributes, **told}))
    (root / "attributes.json").write_text(json.dumps({"n5": "2.0.0", "downsamplingFactors": [[1, 1, 1, 1]], **pixel}))
    return root


def _precomputed(root: Path) -> Path:
    form = find_format("neuroglancerPrecomputed")
    array = form.create(Location(str(root / "1")), ArraySpec(SHAPE, "uint16", tuple("cxyz"), CHUNK, CHUNK))
    array.write(array.spec.grid.box, voxels(SHAPE, "uint16"))
    document = json.loads((root / "1/scale.json").read_bytes())
    document["scales"][0] |= {"resolution": [4, 4, 40]}
    (root / "info").write_text(json.dumps(document))
    return root
