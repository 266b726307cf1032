"""Datasets made by each verb open in the reference library with equal voxels; and the reverse."""

from __future__ import annotations

import json
import subprocess
import zlib

import numpy as np
import pytest

import wkdask as wk

READ = """
import json, sys, warnings, zlib
import numpy as np, webknossos
warnings.simplefilter("ignore")
told = {}
for place in sys.argv[1:]:
    dataset = webknossos.Dataset.open(place)
    told[place] = {"name": dataset.name, "voxel_size": list(dataset.voxel_size), "layers": {}}
    for name, layer in dataset.layers.items():
        box = layer.bounding_box
        told[place]["layers"][name] = {
            "category": layer.category, "dtype": str(np.dtype(layer.dtype)), "box": [*box.topleft, *box.size],
            "largest": getattr(layer, "largest_segment_id", None),
            "mags": {str(m): zlib.crc32(np.ascontiguousarray(v.read(absolute_bounding_box=v.bounding_box).T))
                     for m, v in layer.mags.items()},
        }
print(json.dumps(told))
"""

MAKE = """
import json, os, sys, warnings
import numpy as np, webknossos
warnings.simplefilter("ignore")
if __name__ == "__main__":
    place = sys.argv[1]
    dataset = webknossos.Dataset(place, voxel_size=(4, 4, 35), name="theirs")
    voxels = np.arange(40 * 24 * 20, dtype="uint32").reshape(40, 24, 20)
    options = {"chunk_shape": (32, 32, 32), "shard_shape": (64, 64, 64)}
    for form in ("zarr3", "wkw", "zarr"):
        shapes = options if form != "zarr" else {"chunk_shape": (32, 32, 32)}
        dataset.write_layer(form, "segmentation", voxels, data_format=form, downsample=False, **shapes)
    told = json.load(open(f"{place}/datasource-properties.json"))
    json.dump(told, open(f"{place}-told.json", "w"))
    told["dataLayers"] = []
    json.dump(told, open(f"{place}/datasource-properties.json", "w"))
    errors = {}
    for name, options in json.loads(sys.argv[2]).items():
        try:
            webknossos.Dataset(f"{place}-{options.pop('at')}", **options)
        except BaseException as error:
            errors[name] = [kind.__name__ for kind in type(error).__mro__]
        else:
            errors[name] = []
    print(json.dumps(errors))
"""

BOX = wk.BoundingBox((0, 0, 0), (40, 24, 20))


def run(python, code, *arguments):
    done = subprocess.run([python, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def seen_by_us(place):
    dataset = wk.Dataset.open(place)
    layers = {
        name: {
            "category": layer.category,
            "dtype": str(layer.dtype),
            "box": [*layer.bounding_box.topleft, *layer.bounding_box.size],
            "largest": layer.properties.largest_segment_id,
            "mags": {str(m): zlib.crc32(np.ascontiguousarray(view.read().T)) for m, view in layer.mags.items()},
        }
        for name, layer in dataset.layers.items()
    }
    return {"name": dataset.name, "voxel_size": list(dataset.voxel_size), "layers": layers}


@pytest.mark.oracle("webknossos")
def test_the_reference_opens_what_each_verb_made(tmp_path, webknossos_python):
    rng = np.random.default_rng(5)
    dataset = wk.Dataset(tmp_path / "ours", (4, 4, 35), "ours")
    small = {"chunk_shape": 32, "shard_shape": 64}
    em = dataset.write_layer("em", "color", rng.integers(0, 255, (300, 70, 40)).astype("uint8"), **small)
    ids = rng.integers(0, 2**62, (40, 24, 20)).astype("uint64")
    dataset.write_layer("ids", "segmentation", ids, absolute_offset=(7, 8, 9), **small)
    dataset.write_layer("old", "color", ids.astype("uint16"), data_format="wkw", downsample=False, **small)
    dataset.add_layer_like(em, "like").add_mag(1, **small)
    dataset.add_layer_as_copy(em, "copy", chunk_shape=32, shard_shape=32, compress=False)
    dataset.get_or_add_layer("empty", "segmentation", dtype="int32")
    dataset.delete_layer("copy")
    (tmp_path / "ours" / "em").rename(tmp_path / "ours" / "found")
    dataset.delete_layer("em")
    dataset.add_layer_for_existing_files("found", "color")
    dataset.downsample(coarsest_mag=4)
    dataset.compress()
    dataset.shallow_copy_dataset(tmp_path / "references", "by reference", layers_to_ignore=["old"])
    dataset.shallow_copy_dataset(tmp_path / "links", make_relative=True)
    dataset.copy_dataset(tmp_path / "copy", layers_to_ignore=["empty"])
    places = [tmp_path / name for name in ("ours", "references", "links", "copy")]
    theirs = run(webknossos_python, READ, *places)
    for place in places:
        assert theirs[str(place)] == seen_by_us(place)
    assert list(theirs[str(tmp_path / "ours")]["layers"]) == ["ids", "old", "like", "empty", "found"]
    assert list(theirs[str(tmp_path / "references")]["layers"]) == ["ids", "like", "empty", "found"]
    assert theirs[str(tmp_path / "links")]["layers"]["ids"]["largest"] == int(ids.max())


CONSTRUCTED = {
    "nothing there": {"at": "new"},
    "opened or made without a voxel size": {"at": "new", "exist_ok": True},
    "there": {"at": "there", "voxel_size": [1, 1, 1], "exist_ok": False},
    "there, other voxels": {"at": "there", "voxel_size": [1, 1, 2], "exist_ok": True},
    "there, other name": {"at": "there", "voxel_size": [1, 1, 1], "name": "x", "exist_ok": True},
    "there, without a voxel size": {"at": "there", "exist_ok": True},
    "there, the same": {"at": "there", "voxel_size": [1, 1, 1], "exist_ok": True},
    "a file": {"at": "file", "voxel_size": [1, 1, 1]},
    "a full folder": {"at": "full", "voxel_size": [1, 1, 1]},
    "read-only, nothing there": {"at": "new", "read_only": True},
}


@pytest.mark.oracle("webknossos")
def test_we_open_what_the_reference_made_and_refuse_what_it_does(tmp_path, webknossos_python):
    place = tmp_path / "ds"
    wk.Dataset(f"{place}-there", (1, 1, 1))
    (tmp_path / "ds-file").write_text("mine")
    (tmp_path / "ds-full").mkdir()
    (tmp_path / "ds-full" / "thesis.txt").write_text("mine")
    errors = run(webknossos_python, MAKE, place, json.dumps(CONSTRUCTED))
    told = {layer["name"]: layer for layer in json.loads((tmp_path / "ds-told.json").read_bytes())["dataLayers"]}
    dataset = wk.Dataset.open(place)
    expected = np.arange(40 * 24 * 20, dtype="uint32").reshape(40, 24, 20)
    for form in ("zarr3", "wkw", "zarr"):
        layer = dataset.add_layer_for_existing_files(form, "segmentation")
        assert layer.data_format == form
        assert layer.bounding_box.contains_bbox(BOX)
        assert layer.properties.mags[0].to_dict() | {"path": None} == told[form]["mags"][0] | {"path": None}
        np.testing.assert_array_equal(layer.get_mag(1).read(absolute_bounding_box=BOX)[0], expected)
    for name, options in CONSTRUCTED.items():
        given = {k: v for k, v in options.items() if k != "at"}
        ours = []
        try:
            wk.Dataset(f"{place}-{options['at']}", **given)
        except wk.WkdaskError as error:
            ours = [kind.__name__ for kind in type(error).__mro__]
        assert set(errors[name][:1]) <= set(ours), f"{name}: {errors[name][:1]} there, {ours} here"
        assert bool(ours) == bool(errors[name]), name
