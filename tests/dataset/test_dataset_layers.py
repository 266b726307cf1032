"""Adding layers to datasets, and deleting them: all parameters, all errors, oracles, hostile names."""

from __future__ import annotations

import json
import os
import shutil
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wkdask as wk
from tests.conftest import examples
from wkdask.errors import (
    ConflictingArgumentsError,
    InputError,
    LayerExistsError,
    LayerFilesNotFoundError,
    LayerMismatchError,
    LayerNameError,
    LayerNotFoundError,
    UnknownCategoryError,
)

SIZE = (4, 4, 4)
BOX = wk.BoundingBox((8, 0, 16), (40, 24, 20))
COLOR = {"uint8", "uint16", "uint32", "int8", "int16", "int32", "float32"}
SEGMENTATION = {"uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"}
DTYPES = sorted(COLOR | SEGMENTATION | {"float16", "float64", "bool", "complex64", "U3"})


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return wk.Dataset(tmp_path_factory.mktemp("scratch") / "ds", SIZE)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("category", ["color", "segmentation"])
def test_which_dtypes_there_are(scratch, category, dtype):
    name = f"{category}-{dtype}"
    if dtype in (COLOR if category == "color" else SEGMENTATION):
        for n, spelling in enumerate([dtype, np.dtype(dtype), np.dtype(dtype).type, np.dtype(dtype).newbyteorder(">")]):
            assert scratch.add_layer(f"{name}-{n}", category, dtype=spelling).dtype == dtype
    else:
        with pytest.raises(InputError):
            scratch.add_layer(name, category, dtype=dtype)
        with pytest.raises(InputError):
            scratch.write_layer(name, category, np.zeros((2, 2, 2), dtype))
        assert name not in scratch.layers


@pytest.mark.parametrize(
    ("channels", "dtype", "warned"), [(1, "uint16", False), (3, "uint8", False), (3, "uint16", True), (2, "uint8", True)]
)
def test_layers_that_webknossos_can_not_show_are_warned_of(dataset, channels, dtype, warned):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dataset.add_layer("em", "color", dtype=dtype, num_channels=channels)
        dataset.get_or_add_layer("other", "color", dtype=dtype, num_channels=channels)
    assert [w.filename for w in caught] == [__file__] * (2 * warned)
    assert dataset.get_layer("em").num_channels == channels


def test_every_parameter_of_add_layer(dataset):
    layer = dataset.add_layer(
        "cells", "segmentation", None, None, 2, "zarr", BOX, dtype="uint32", largest_segment_id=2**60, mappings=["a", "b"]
    )
    assert (layer.category, layer.dtype, layer.num_channels, layer.data_format) == ("segmentation", "uint32", 2, "zarr")
    assert (layer.bounding_box, layer.largest_segment_id, layer.properties.mappings) == (BOX, 2**60, ("a", "b"))
    empty = dataset.add_layer("em", "color")
    assert (empty.dtype, empty.num_channels, empty.data_format, empty.bounding_box.is_empty()) == ("uint8", 1, "zarr3", True)


@pytest.mark.parametrize(
    ("spelling", "dtype"),
    [
        ({"dtype_per_layer": "uint24", "num_channels": 3}, "uint8"),
        ({"dtype_per_layer": "uint16", "num_channels": 2}, "uint8"),
        ({"dtype_per_layer": np.uint32, "num_channels": 2}, "uint16"),
        ({"dtype_per_layer": "uint16"}, "uint16"),
        ({"dtype_per_channel": "uint16", "num_channels": 2}, "uint16"),
    ],
)
@pytest.mark.parametrize("verb", ["add_layer", "get_or_add_layer"])
@pytest.mark.filterwarnings("ignore:Layer")
def test_older_names_of_the_dtype(dataset, verb, spelling, dtype):
    [old] = set(spelling) - {"num_channels"}
    with pytest.warns(DeprecationWarning, match=f"{old} is deprecated. Give dtype") as caught:
        layer = getattr(dataset, verb)("em", "color", **spelling)
    assert (layer.dtype, layer.num_channels) == (dtype, spelling.get("num_channels", 1))
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("wrong", "kinds"),
    [
        ({"layer_name": "em"}, (LayerExistsError, IndexError)),
        ({"category": "mask"}, (UnknownCategoryError, RuntimeError, ValueError)),
        ({"category": "mask", "dtype": "float64"}, (UnknownCategoryError,)),
        ({"layer_name": "a/b"}, (LayerNameError, ValueError, AssertionError)),
        ({"layer_name": ".a"}, (LayerNameError,)),
        ({"dtype": "uint8", "dtype_per_channel": "uint8"}, (ConflictingArgumentsError, AttributeError, ValueError)),
        ({"dtype_per_layer": "uint8", "dtype_per_channel": "uint8"}, (ConflictingArgumentsError,)),
        ({"dtype_per_layer": "uint8", "num_channels": 3}, (InputError,)),
        ({"data_format": "tiff"}, (InputError,)),
        ({"num_channels": 0}, (InputError,)),
        ({"largest_segment_id": 1}, (InputError,)),
        ({"mappings": ["a"]}, (InputError,)),
        ({"category": "segmentation", "largest_segment_id": "many"}, (InputError,)),
        ({"bounding_box": wk.BoundingBox((-1, 0, 0), (4, 4, 4))}, (InputError,)),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("verb", ["add_layer", "get_or_add_layer"])
def test_what_is_refused(dataset, tmp_path, verb, wrong, kinds):
    dataset.add_layer("em", "segmentation")
    before = (tmp_path / "ds" / "datasource-properties.json").read_bytes()
    if verb == "get_or_add_layer" and "layer_name" in wrong and kinds[0] is LayerExistsError:
        kinds = (LayerMismatchError, AssertionError)
    for kind in kinds:
        with pytest.raises(kind):
            getattr(dataset, verb)(**{"layer_name": "new", "category": "color", **wrong})
    assert (tmp_path / "ds" / "datasource-properties.json").read_bytes() == before


@given(name=st.one_of(st.text(max_size=6), st.text("aZ0_$@-./\\ ", max_size=6)))
def test_layer_names(scratch, name):
    letters = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_$@-.")
    if name and set(name) <= letters and name[0] != ".":
        if name not in scratch.layers:
            assert scratch.add_layer(name, "color").name == name
        scratch.delete_layer(name)
    else:
        with pytest.raises(LayerNameError):
            scratch.add_layer(name, "color")
    assert name not in scratch.layers


@pytest.mark.parametrize(
    ("asked", "fits"),
    [
        ({}, True),
        ({"dtype": "uint16"}, True),
        ({"dtype": np.uint16, "num_channels": 1}, True),
        ({"data_format": "wkw", "bounding_box": BOX}, True),
        ({"category": "color"}, False),
        ({"dtype": "uint8"}, False),
        ({"num_channels": 3}, False),
    ],
)
def test_get_or_add_layer_gets_what_fits(dataset, asked, fits):
    dataset.add_layer("cells", "segmentation", dtype="uint16")
    before = dataset.properties
    given_ = {"category": "segmentation", **asked}
    if fits:
        assert dataset.get_or_add_layer("cells", **given_).dtype == "uint16"
    else:
        with pytest.raises(LayerMismatchError, match="not") as refused:
            dataset.get_or_add_layer("cells", **given_)
        assert isinstance(refused.value, AssertionError)
    assert dataset.properties == before


def test_get_or_add_layer_of_read_only_datasets_gets(dataset, tmp_path):
    dataset.add_layer("em", "color")
    assert wk.Dataset.open(tmp_path / "ds", read_only=True).get_or_add_layer("em", "color").name == "em"


def test_add_layer_like(dataset, tmp_path):
    ndbox = wk.NDBoundingBox((0, 8, 0, 16), (3, 40, 24, 20), ("t", "x", "y", "z"), (0, 2, 3, 4))
    old = dataset.add_layer("old", "segmentation", dtype="uint32", bounding_box=ndbox, largest_segment_id=7)
    old.add_mag(1, chunk_shape=16, shard_shape=32)
    document = tmp_path / "ds" / "datasource-properties.json"
    told = json.loads(document.read_bytes())
    told["dataLayers"][0] |= {
        "defaultViewConfiguration": {"alpha": 3, "x": [1]},
        "attachments": {"meshes": []},
        "own": {"a": 1},
    }
    document.write_text(json.dumps(told))
    other = wk.Dataset(tmp_path / "other", SIZE)
    new = other.add_layer_like(dataset.get_layer("old"), "new")
    made = json.loads((tmp_path / "other" / "datasource-properties.json").read_bytes())["dataLayers"][0]
    [like] = json.loads(document.read_bytes())["dataLayers"]
    assert new.properties.axes() == old.properties.axes()
    box = made.pop("boundingBox")
    assert {k: box[k] for k in like["boundingBox"]} == like.pop("boundingBox")
    assert made == {**{k: v for k, v in like.items() if k != "attachments"}, "name": "new", "mags": []}
    with pytest.raises(LayerExistsError):
        dataset.add_layer_like(old, "old")
    with pytest.raises(LayerNameError):
        dataset.add_layer_like(old, "../x")


# ------------------------------------------------------------------------------------------------ existing files


def forgotten(dataset, name):
    """Let the JSON forget a layer whose files stay."""
    document = dataset._store.document
    told = json.loads(document.read_bytes())
    [gone] = [layer for layer in told["dataLayers"] if layer["name"] == name]
    told["dataLayers"].remove(gone)
    document.write_bytes(json.dumps(told).encode())
    return gone


@pytest.mark.parametrize("data_format", ["zarr3", "zarr", "wkw", "n5"])
def test_existing_files_become_the_layer_that_they_were(dataset, tmp_path, voxels, data_format):
    layer = dataset.add_layer("em", "color", data_format=data_format, bounding_box=BOX)
    shard = {"shard_shape": 32} if data_format in ("zarr3", "wkw") else {}
    layer.add_mag(1, chunk_shape=16, **shard).write(voxels)
    layer.add_mag("2-2-1", chunk_shape=16, **shard)
    gone = forgotten(dataset, "em")
    (tmp_path / "ds" / "em" / "notes").mkdir()
    (tmp_path / "ds" / "em" / "8").mkdir()  # named like a magnification, but empty
    found = dataset.add_layer_for_existing_files("em", "color")
    assert [mag.to_dict() for mag in found.properties.mags] == gone["mags"]
    assert (found.dtype, found.num_channels, found.data_format) == ("uint8", 1, data_format)
    box = found.bounding_box
    assert box.contains_bbox(BOX)
    assert max(box.bottomright) <= 64
    if data_format == "wkw":  # whole files of 32^3: the first begins at 0, 0, 0
        assert box == wk.BoundingBox((0, 0, 0), (64, 32, 64))
    np.testing.assert_array_equal(found.get_mag(1).read(absolute_bounding_box=BOX)[0], voxels)
    assert wk.Dataset.open(tmp_path / "ds").get_layer("em").properties == found.properties


def test_wkw_files_far_from_the_origin_give_their_box(dataset):
    layer = dataset.add_layer("em", "color", data_format="wkw", bounding_box=wk.BoundingBox((0, 0, 0), (300, 300, 300)))
    mag = layer.add_mag(2, chunk_shape=8, shard_shape=16)
    for corner in [(64, 96, 128), (100, 120, 200)]:
        mag.write(np.ones((4, 4, 4), "uint8"), absolute_offset=corner)
    forgotten(dataset, "em")
    box = dataset.add_layer_for_existing_files("em", "color").bounding_box
    assert box == wk.BoundingBox((64, 96, 128), (64, 32, 96))


def test_what_is_given_of_existing_files_counts(dataset, layer, mag):
    del mag
    forgotten(dataset, "em")
    given_ = {"bounding_box": BOX, "num_channels": 1, "dtype": "int8", "data_format": "zarr3", "largest_segment_id": 3}
    found = dataset.add_layer_for_existing_files("em", "segmentation", mappings=["m"], **given_)
    assert (found.bounding_box, found.dtype, found.largest_segment_id) == (BOX, "int8", 3)
    assert found.properties.mappings == ("m",)
    forgotten(dataset, "em")
    with pytest.warns(DeprecationWarning, match="dtype_per_channel") as caught:
        assert dataset.add_layer_for_existing_files("em", "color", dtype_per_channel="int8").dtype == "int8"
    assert caught[0].filename == __file__
    assert layer.name == "em"


def test_existing_files_that_are_no_layer(dataset, layer, tmp_path):
    assert layer.name == "em"
    with pytest.raises(LayerMismatchError) as refused:
        dataset.add_layer_for_existing_files("em", "color")
    assert isinstance(refused.value, AssertionError)
    for kind in (LayerFilesNotFoundError, FileNotFoundError, AssertionError):
        with pytest.raises(kind):
            dataset.add_layer_for_existing_files("none", "color")
    with pytest.raises(LayerNameError):
        dataset.add_layer_for_existing_files("../ds/em", "color")
    forgotten(dataset, "em")
    with pytest.raises(UnknownCategoryError):
        dataset.add_layer_for_existing_files("em", "mask")
    with pytest.raises(LayerFilesNotFoundError, match="wkw"):
        dataset.add_layer_for_existing_files("em", "color", data_format="wkw")
    shutil.copytree(tmp_path / "ds" / "em" / "1", tmp_path / "ds" / "em" / "1-1-1")
    with pytest.raises(InputError, match="both hold mag 1"):
        dataset.add_layer_for_existing_files("em", "color")
    shutil.rmtree(tmp_path / "ds" / "em" / "1-1-1")
    wkw = dataset.add_layer("wkw", "color", data_format="wkw")
    wkw.add_mag(4)
    shutil.copytree(tmp_path / "ds" / "wkw" / "4", tmp_path / "ds" / "em" / "4")
    with pytest.raises(InputError, match="wkw, zarr3"):
        dataset.add_layer_for_existing_files("em", "color")
    assert list(dataset.layers) == ["wkw"]


# --------------------------------------------------------------------------------------------------- write_layer


@settings(max_examples=examples(12))
@given(
    size=st.tuples(*[st.integers(1, 20)] * 3),
    channels=st.sampled_from([None, 1, 3]),
    corner=st.tuples(*[st.integers(0, 9)] * 3),
    data_format=st.sampled_from(["zarr3", "wkw", "zarr"]),
    mag=st.sampled_from([1, 2]),
)
@pytest.mark.filterwarnings("ignore:Layer")
def test_written_layers_are_what_they_were_made_of(tmp_path_factory, size, channels, corner, data_format, mag):
    dataset = wk.Dataset(tmp_path_factory.mktemp("written") / "ds", SIZE)
    rng = np.random.default_rng(1)
    data = rng.integers(0, 200, size if channels is None else (channels, *size)).astype("uint8")
    offset = tuple(n * mag for n in corner)
    layer = dataset.write_layer("em", "color", data, data_format=data_format, absolute_offset=offset, mag=mag, chunk_shape=16)
    assert layer.bounding_box == wk.BoundingBox(offset, tuple(n * mag for n in size))
    assert (layer.data_format, layer.num_channels) == (data_format, channels or 1)
    np.testing.assert_array_equal(layer.get_mag(mag).read(), data if channels else data[None])
    coarsest = max(max(m) for m in layer.mags)
    assert coarsest >= mag
    assert layer.get_mag(mag).spec.chunk[-3:] == (16, 16, 16)


def test_segments_written_are_known(dataset):
    data = np.zeros((60, 10, 130, 200), "uint64")
    data[3, 4, 5, 6] = 2**63 + 5
    layer = dataset.write_layer("cells", "segmentation", data[3], axes="zyx", shard_shape=64, chunk_shape=32, compress=False)
    assert layer.largest_segment_id == 2**63 + 5
    assert layer.bounding_box.size == (200, 130, 10)
    assert (layer.get_mag(1).spec.unit, layer.get_mag(1).spec.codec) == ((1, 64, 64, 64), None)
    assert len(layer.mags) > 1
    np.testing.assert_array_equal(layer.get_mag(1).read()[0], data[3].T)
    assert list(dataset.write_layer("flat", "color", np.zeros((300, 300, 1), "uint8"), downsample=False).mags) == [wk.Mag(1)]


def test_arrays_that_are_no_layers(dataset):
    for wrong, kind in [
        ({"data": np.zeros((2, 2), "uint8")}, InputError),
        ({"data": np.zeros((2, 2, 2, 2, 2), "uint8")}, InputError),
        ({"category": "mask"}, UnknownCategoryError),
        ({"layer_name": "../a"}, LayerNameError),
        ({"axes": "xy"}, InputError),
        ({"absolute_offset": (-1, 0, 0)}, InputError),
    ]:
        with pytest.raises(kind):
            dataset.write_layer(**{"layer_name": "a", "category": "color", "data": np.zeros((2, 2, 2), "uint8"), **wrong})
    dataset.add_layer("em", "color")
    with pytest.raises(LayerExistsError):
        dataset.write_layer("em", "color", np.zeros((2, 2, 2), "uint8"))
    assert list(dataset.layers) == ["em"]


# -------------------------------------------------------------------------------------------------- delete_layer


def test_deleted_layers_are_gone(dataset, layer, mag, tmp_path):
    layer.downsample(coarsest_mag=4)
    dataset.add_layer("other", "color", bounding_box=BOX).add_mag(1)
    dataset.delete_layer("em")
    assert list(dataset.layers) == ["other"]
    assert sorted(p.name for p in (tmp_path / "ds").iterdir() if p.name != ".wkdask") == [
        "datasource-properties.json",
        "other",
        "zarr.json",
    ]
    assert not [p for p in (tmp_path / "ds" / ".wkdask").rglob("*") if "em" in p.relative_to(tmp_path / "ds").parts]
    for kind in (LayerNotFoundError, IndexError):
        with pytest.raises(kind):
            dataset.delete_layer("em")
    assert mag.name == "1"
    again = dataset.write_layer("em", "color", np.ones((8, 8, 8), "uint8"))
    assert int(again.get_mag(1).read().sum()) == 512


def everything(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file() and ".wkdask" not in p.parts}


@pytest.mark.parametrize("kind", ["layer link", "mag link", "absolute", "inner link"])
def test_nothing_is_deleted_through_links_and_references(dataset, layer, mag, tmp_path, kind):
    assert mag.layer.name == layer.name
    other = wk.Dataset(tmp_path / "other", SIZE)
    theirs = tmp_path / "ds" / "em"
    mine = tmp_path / "other" / "em"
    if kind == "layer link":
        mine.symlink_to(theirs)
    elif kind == "mag link":
        mine.mkdir()
        (mine / "1").symlink_to(theirs / "1")
    elif kind == "inner link":
        shutil.copytree(theirs, mine)
        (mine / "2-2-1" / "deep").symlink_to(theirs)
    document = json.loads((tmp_path / "ds" / "datasource-properties.json").read_bytes())
    if kind == "absolute":
        for found in document["dataLayers"][0]["mags"]:
            found["path"] = str(theirs / found["path"].rpartition("/")[2])
    (tmp_path / "other" / "datasource-properties.json").write_text(json.dumps(document))
    before = everything(tmp_path / "ds")
    assert other.get_layer("em").get_mag(1).read().any()
    other.delete_layer("em")
    assert everything(tmp_path / "ds") == before
    assert not list(other.layers)
    assert not os.path.lexists(mine)


def test_files_that_another_layer_uses_stay(dataset, layer, mag, tmp_path):
    expected = mag.read()
    document = tmp_path / "ds" / "datasource-properties.json"
    told = json.loads(document.read_bytes())
    told["dataLayers"].append({**told["dataLayers"][0], "name": "twin", "mags": told["dataLayers"][0]["mags"][:1]})
    document.write_text(json.dumps(told))
    dataset.delete_layer(layer.name)
    np.testing.assert_array_equal(dataset.get_layer("twin").get_mag(1).read(), expected)
    assert sorted(p.name for p in (tmp_path / "ds" / "em").iterdir()) == ["1"]


def test_attachments_that_another_layer_uses_stay(dataset, tmp_path):
    (tmp_path / "coarse").mkdir()
    (tmp_path / "coarse" / "0").write_bytes(b"mesh")
    one, two = (dataset.add_layer(name, "segmentation").attachments for name in ("one", "two"))
    for name in ("used", "unused"):
        given_ = wk.MeshAttachment.from_path_and_name(tmp_path / "coarse", name, data_format="zarr3")
        one.add_attachment_as_copy(given_)
    two.add_attachment_as_ref(next(found for found in one.meshes if found.name == "used"))
    dataset.delete_layer("one")
    [left] = two.meshes
    assert (left.location / "0").read_bytes() == b"mesh"
    assert [p.name for p in (tmp_path / "ds" / "one" / "meshes").iterdir()] == ["used"]


def test_a_link_to_another_layer_of_the_dataset_is_not_followed(dataset, layer, mag, tmp_path):
    assert layer.get_mag(1).name == mag.name
    (tmp_path / "ds" / "twin").symlink_to(tmp_path / "ds" / "em")
    document = tmp_path / "ds" / "datasource-properties.json"
    told = json.loads(document.read_bytes())
    paths = [{**found, "path": found["path"].replace("em", "twin")} for found in told["dataLayers"][0]["mags"]]
    told["dataLayers"].append({**told["dataLayers"][0], "name": "twin", "mags": paths})
    document.write_text(json.dumps(told))
    before = everything(tmp_path / "ds" / "em")
    dataset.delete_layer("twin")
    assert everything(tmp_path / "ds" / "em") == before
    assert not os.path.lexists(tmp_path / "ds" / "twin")


def test_hostile_names_delete_nothing(dataset, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    document = tmp_path / "ds" / "datasource-properties.json"
    dataset.add_layer("em", "color")
    told = json.loads(document.read_bytes())
    for name in ("..", ".", "../../x", "", "/"):
        told["dataLayers"][0]["name"] = name
        document.write_text(json.dumps(told))
        with pytest.raises(LayerNameError):
            dataset.delete_layer(name)
        assert (tmp_path / "thesis.txt").is_file()
        assert document.is_file()
