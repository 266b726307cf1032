"""All verbs of datasets: nothing in the JSON is lost, read-only ones refuse, shallow copies share files and are independent."""

from __future__ import annotations

import inspect
import json
import os
import shutil

import numpy as np
import pytest
import tifffile

import wkdask as wk
from wkdask.errors import DatasetExistsError, LayerNotFoundError, NotLocalError, ReadOnlyError

SIZE = (4, 4, 4)
BOX = wk.BoundingBox((0, 0, 0), (16, 16, 16))
UNKNOWN = {"list": [1, {"a": None}], "big": 2**70, "text": "µ", "nothing": None, "half": 0.5}


def document_of(place):
    return json.loads((place / "datasource-properties.json").read_bytes())


@pytest.fixture
def brain(tmp_path):
    """A dataset of two layers and the files of another, with keys that nobody knows at all levels of its JSON."""
    place = tmp_path / "ds"
    dataset = wk.Dataset(place, SIZE)
    small = {"chunk_shape": 16, "shard_shape": 32, "downsample": False}
    dataset.write_layer("em", "color", np.arange(4096, dtype="uint16").reshape(16, 16, 16), **small, compress=False)
    dataset.write_layer("cells", "segmentation", np.full((16, 16, 16), 9, "uint32"), **small)
    told = document_of(place)
    for part in levels(told):
        part["unknown"] = UNKNOWN
    (place / "datasource-properties.json").write_text(json.dumps(told))
    shutil.copytree(place / "em", place / "again")  # files that no layer has
    return dataset


def levels(told):
    """Yield all objects of a document that may have further keys."""
    yield told
    yield told["id"]
    yield told["scale"]
    told["defaultViewConfiguration"] = {"zoom": 1}
    yield told["defaultViewConfiguration"]
    for layer in told["dataLayers"]:
        yield layer
        yield layer["boundingBox"]
        layer.setdefault("defaultViewConfiguration", {"alpha": 1})
        yield layer["defaultViewConfiguration"]
        yield from layer["mags"]


@pytest.fixture
def images(tmp_path):
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images" / "0.tif", np.ones((16, 16), "uint8"))
    return tmp_path / "images"


def foreign(dataset):
    """Return the layer of another dataset."""
    place = f"{dataset.path}-other"
    return (wk.Dataset.open(place) if os.path.isdir(place) else dataset.copy_dataset(place)).get_layer("em")


MUTATORS = {
    "name": lambda d, _: setattr(d, "name", "renamed"),
    "add_layer": lambda d, _: d.add_layer("new", "color"),
    "get_or_add_layer": lambda d, _: d.get_or_add_layer("new", "color"),
    "add_layer_like": lambda d, _: d.add_layer_like(d.get_layer("em"), "new"),
    "add_layer_for_existing_files": lambda d, _: d.add_layer_for_existing_files("again", "color"),
    "write_layer": lambda d, _: d.write_layer("new", "color", np.ones((4, 4, 4), "uint8")),
    "delete_layer": lambda d, _: d.delete_layer("cells"),
    "add_layer_as_copy": lambda d, _: d.add_layer_as_copy(d.get_layer("em"), "new"),
    "plan_add_layer_as_copy": lambda d, _: d.plan_add_layer_as_copy(d.get_layer("em"), "new").run(),
    "add_copy_layer": lambda d, _: d.add_copy_layer(d.get_layer("em"), "new"),
    "add_fs_copy_layer": lambda d, _: d.add_fs_copy_layer(d.get_layer("em"), "new"),
    "add_layer_from_images": lambda d, images: d.add_layer_from_images(images, "new"),
    "merge_layers": lambda d, _: d.merge_layers("new", d.get_layer("em"), d.get_layer("em")),
    "plan_merge_layers": lambda d, _: d.plan_merge_layers("new", d.get_layer("em"), d.get_layer("em")).run(),
    "add_layer_as_ref": lambda d, _: d.add_layer_as_ref(foreign(d), "new"),
    "add_remote_layer": lambda d, _: d.add_remote_layer(foreign(d), "new"),
    "add_symlink_layer": lambda d, _: d.add_symlink_layer(foreign(d), False, "new"),
    "default_view_configuration": lambda d, _: setattr(
        d, "default_view_configuration", d.default_view_configuration.updated(zoom=2)
    ),
    "compress": lambda d, _: d.compress(),
    "downsample": lambda d, _: d.downsample(coarsest_mag=2),
}
READERS = {
    "ConversionLayerMapping", "calculate_bounding_box", "content_hash", "copy_dataset", "create", "from_images",
    "fs_copy_dataset", "get_color_layer", "get_color_layers", "get_layer", "get_or_create", "get_segmentation_layer",
    "get_segmentation_layers", "layers", "location", "open", "path", "plan_from_images", "plans_from_images", "properties",
    "read_only", "resolved_path", "scale", "shallow_copy_dataset", "verify", "voxel_size", "voxel_size_with_unit",
}  # fmt: skip
SERVER = {
    "announce_manual_upload", "download", "get_remote_datasets", "open_remote", "publish_to_preliminary_dataset",
    "trigger_dataset_import", "trigger_reload_in_datastore", "upload",
}  # fmt: skip


def test_every_name_is_a_reader_or_a_mutator():
    found = {name for name, _ in inspect.getmembers(wk.Dataset) if not name.startswith("_")}
    assert found == {*MUTATORS, *READERS, *SERVER}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("verb", MUTATORS)
def test_read_only_datasets_refuse(brain, images, tmp_path, verb):
    assert not brain.read_only
    closed = wk.Dataset.open(tmp_path / "ds", read_only=True)
    before = {p: p.read_bytes() for p in (tmp_path / "ds").rglob("*") if p.is_file()}
    for kind in (ReadOnlyError, RuntimeError):
        with pytest.raises(kind, match="read-only"):
            MUTATORS[verb](closed, images)
    assert {p: p.read_bytes() for p in (tmp_path / "ds").rglob("*") if p.is_file()} == before


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("verb", MUTATORS)
def test_no_verb_loses_what_it_does_not_know(brain, images, tmp_path, verb):
    before = document_of(tmp_path / "ds")
    MUTATORS[verb](brain, images)
    after = document_of(tmp_path / "ds")
    assert after != before
    keep = {layer["name"]: layer for layer in after["dataLayers"]}
    if verb == "default_view_configuration":
        assert after.pop("defaultViewConfiguration") == {**before.pop("defaultViewConfiguration"), "zoom": 2}
    assert {k: v for k, v in after.items() if k not in ("dataLayers", "id")} == {
        k: v for k, v in before.items() if k not in ("dataLayers", "id")
    }
    assert after["id"] == before["id"] | ({"name": "renamed"} if verb == "name" else {})
    for layer in before["dataLayers"]:
        if verb == "delete_layer" and layer["name"] == "cells":
            continue
        found = keep[layer["name"]]
        assert {k: v for k, v in found.items() if k != "mags"} == {k: v for k, v in layer.items() if k != "mags"}
        for mag in layer["mags"]:
            [same] = [m for m in found["mags"] if m["mag"] == mag["mag"]]
            assert {k: v for k, v in same.items() if k != "path"} == {k: v for k, v in mag.items() if k != "path"}
    if verb in (
        "add_layer_as_copy",
        "add_copy_layer",
        "add_fs_copy_layer",
        "add_layer_like",
        "add_layer_as_ref",
        "add_symlink_layer",
    ):
        assert keep["new"]["unknown"] == UNKNOWN
        assert keep["new"]["defaultViewConfiguration"] == before["dataLayers"][0]["defaultViewConfiguration"]


COPIES = {
    "copy_dataset": lambda d, place: d.copy_dataset(place),
    "references": lambda d, place: d.shallow_copy_dataset(place),
    "links": lambda d, place: d.shallow_copy_dataset(place, make_relative=True),
}


@pytest.mark.parametrize("copy", COPIES)
def test_copies_say_all_that_their_originals_do(brain, tmp_path, monkeypatch, copy):
    expected = brain.content_hash()
    monkeypatch.chdir(tmp_path)
    made = COPIES[copy](brain, "copy")
    monkeypatch.chdir("/")
    before, after = document_of(tmp_path / "ds"), document_of(tmp_path / "copy")
    for told in (before, after):
        for layer in told["dataLayers"]:
            for mag in layer["mags"]:
                mag.pop("path")
    assert after == before | {"id": before["id"] | {"name": "copy"}}
    assert (made.name, made.content_hash()) == ("copy", expected)
    assert wk.Dataset.open(tmp_path / "copy").content_hash() == expected


# ------------------------------------------------------------------------------------------------- shallow copies


@pytest.mark.parametrize("make_relative", [False, True])
def test_shallow_copies_share_files_and_leave_them_alone(brain, tmp_path, make_relative):
    files = {p: p.read_bytes() for p in (tmp_path / "ds").rglob("*") if p.is_file()}
    copy = brain.shallow_copy_dataset(tmp_path / "deep" / "copy", "mine", make_relative, layers_to_ignore=["cells"])
    assert (copy.name, list(copy.layers), copy.voxel_size) == ("mine", ["em"], SIZE)
    copy.name = "other"
    copy.write_layer("own", "color", np.ones((4, 4, 4), "uint8"))
    assert list(brain.layers) == ["em", "cells"]
    np.testing.assert_array_equal(copy.get_layer("em").get_mag(1).read(), brain.get_layer("em").get_mag(1).read())
    if make_relative:
        assert os.readlink(tmp_path / "deep" / "copy" / "em") == "../../ds/em"
        shutil.move(tmp_path / "deep", tmp_path / "away")
        (tmp_path / "moved").mkdir()
        shutil.move(tmp_path / "away", tmp_path / "moved" / "deep")
        shutil.copytree(tmp_path / "ds", tmp_path / "moved" / "ds")
        shutil.move(tmp_path / "ds", tmp_path / "gone")
        assert wk.Dataset.open(tmp_path / "moved" / "deep" / "copy").get_layer("em").get_mag(1).read().any()
        shutil.move(tmp_path / "gone", tmp_path / "ds")
        copy = wk.Dataset.open(tmp_path / "moved" / "deep" / "copy")
    else:
        assert not (tmp_path / "deep" / "copy" / "em").exists()
        assert copy.get_layer("em").properties.mags[0].path == str(tmp_path / "ds" / "em" / "1")
    copy.delete_layer("em")
    assert {p: p.read_bytes() for p in (tmp_path / "ds").rglob("*") if p.is_file()} == files


@pytest.mark.parametrize("make_relative", [False, True])
def test_shallow_copies_find_what_lies_elsewhere(brain, tmp_path, make_relative):
    told = document_of(tmp_path / "ds")
    em, cells = told["dataLayers"]
    shutil.move(tmp_path / "ds" / "em" / "1", tmp_path / "elsewhere")
    em["mags"][0]["path"] = str(tmp_path / "elsewhere")
    shutil.move(tmp_path / "ds" / "cells" / "1", tmp_path / "ds" / "attic")
    cells["mags"][0]["path"] = "./attic"
    inside = {"name": "m", "path": "./cells/meshes/m", "dataFormat": "hdf5", "unknown": UNKNOWN}
    cells["attachments"] = {"meshes": [inside], "cumsum": {**inside, "path": "./sum.json"}, "unknown": UNKNOWN}
    cells["attachments"]["connectomes"] = [{**inside, "path": "https://host/c"}]
    (tmp_path / "ds" / "datasource-properties.json").write_text(json.dumps(told))
    copy = brain.shallow_copy_dataset(tmp_path / "copy", make_relative=make_relative)
    assert copy.content_hash() == brain.content_hash()
    found = document_of(tmp_path / "copy")["dataLayers"][1]["attachments"]
    mesh = "./cells/meshes/m" if make_relative else str(tmp_path / "ds" / "cells" / "meshes" / "m")
    expected = {"meshes": [{**inside, "path": mesh}], "cumsum": {**inside, "path": str(tmp_path / "ds" / "sum.json")}}
    assert found == {**expected, "connectomes": cells["attachments"]["connectomes"], "unknown": UNKNOWN}


def test_what_shallow_copies_refuse(brain, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "ds", tmp_path / "full", tmp_path / "file"):
        with pytest.raises(DatasetExistsError):
            brain.shallow_copy_dataset(place)
    for copied in (brain.shallow_copy_dataset, brain.copy_dataset):
        with pytest.raises(LayerNotFoundError, match=r"'none'.*em"):
            copied(tmp_path / "copy", layers_to_ignore=["none"])
    for kind in (NotLocalError, RuntimeError, AssertionError):
        with pytest.raises(kind):
            brain.shallow_copy_dataset("memory://shallow", make_relative=True)
    assert not (tmp_path / "copy").exists()
    remote = wk.Dataset("memory://shallow-source", SIZE)
    remote.write_layer("em", "color", np.ones((4, 4, 4), "uint8"))
    copy = remote.shallow_copy_dataset(tmp_path / "copy")
    assert int(copy.get_layer("em").get_mag(1).read().sum()) == 64
    assert copy.get_layer("em").properties.mags[0].path == "memory://shallow-source/em/1"


def test_read_only_datasets_have_copies(brain, tmp_path):
    closed = wk.Dataset.open(tmp_path / "ds", read_only=True)
    assert not closed.shallow_copy_dataset(tmp_path / "a").read_only
    assert list(closed.copy_dataset(tmp_path / "b", layers_to_ignore=["em"]).layers) == ["cells"]
    assert brain.calculate_bounding_box() == BOX
