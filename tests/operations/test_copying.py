"""Copies: the same voxels and the same words in the JSON, whatever the formats, chunks and tiles; runs go on when stopped."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wkdask as wk
from tests.conftest import examples
from tests.operations.copies import BOX, check, make, noise
from wkdask.errors import (
    DatasetExistsError,
    InputError,
    LayerExistsError,
    MagExistsError,
    ReadOnlyError,
    StorageError,
)
from wkdask.formats import FORMATS, ArraySpec, find_format, parse_codec
from wkdask.metadata import FILE_NAME, LayerProperties
from wkdask.operations import Running
from wkdask.operations.copying import Origin, plan_copy_layer
from wkdask.operations.copying_shape import Wishes
from wkdask.operations.copying_tasks import CopyChunks, CopyUnits
from wkdask.operations.copying_trees import files_below
from wkdask.operations.tiles import WriteTiles
from wkdask.storage import Location, copy_file

HERE = Path(__file__).parent


def copied(source, target, wishes=Wishes(), **options):
    plan = plan_copy_layer(Origin(Location(source), "em"), Location(target), None, wishes, **options)
    if plan.stages:
        plan.run()
    return plan


def ways(plan):
    return [type(s.operation) for s in plan.stages if isinstance(s.operation, CopyUnits | WriteTiles)]


@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("target", FORMATS)
def test_each_pair_of_formats(tmp_path, source, target):
    wanted = make(tmp_path / "a", BOX, source)
    plan = copied(tmp_path / "a", tmp_path / "b", Wishes(target))
    layer = check(tmp_path / "b", wanted)
    assert str(layer.data_format) == target
    assert (ways(plan) == [CopyUnits] * 2) == (source == target)
    again = copied(tmp_path / "a", tmp_path / "b", Wishes(target))
    assert not again.stages


boxes = st.tuples(st.tuples(*[st.integers(0, 9)] * 3), st.tuples(*[st.integers(1, 30)] * 3))
shapes = st.sampled_from([None, 4, 8, 16])


@settings(max_examples=examples(25))
@given(
    box=boxes,
    forms=st.tuples(st.sampled_from(sorted(FORMATS)), st.sampled_from(sorted(FORMATS))),
    chunk=shapes,
    shards=st.sampled_from([None, 1, 2, 4]),
    compress=st.sampled_from([None, True, False]),
    channels=st.sampled_from([1, 3]),
    tile_bytes=st.sampled_from([1, 1 << 12, 1 << 26]),
    workers=st.integers(1, 9),
)
def test_voxels_do_not_depend_on_chunks_or_tiles(box, forms, chunk, shards, compress, channels, tile_bytes, workers):
    form = find_format(forms[1])
    per_shard = (shards,) * 3 if shards and form.sharded else None
    with tempfile.TemporaryDirectory() as folder, mock.patch("wkdask.operations.copying_stages.TILE_BYTES", tile_bytes):
        wanted = make(Path(folder) / "a", box, forms[0], channels=channels, dtype="uint16", compress=compress is not False)
        codec = {None: "keep", True: "compressed", False: None}[compress]
        wishes = Wishes(forms[1], chunk and (chunk,) * 3, None, per_shard, codec)
        copied(Path(folder) / "a", Path(folder) / "b", wishes, running=Running(workers))
        layer = check(Path(folder) / "b", wanted)
        spec = layer.get_mag(1).spec
        assert chunk is None or spec.chunk[1:] == (chunk,) * 3
        assert per_shard is None or spec.unit[1:] == tuple(n * shards for n in spec.chunk[1:])
        assert compress is not False or spec.codec is None


@pytest.mark.parametrize("shard", [8, 32, (32, 16, 8)])
def test_other_shards_are_made_of_encoded_chunks(tmp_path, shard):
    wanted = make(tmp_path / "a", BOX)
    with mock.patch("wkdask.formats.zarr3.Zarr3Array.read", side_effect=AssertionError("nothing is to be decoded")):
        plan = copied(tmp_path / "a", tmp_path / "b", Wishes(shard=shard if isinstance(shard, tuple) else (shard,) * 3))
    assert ways(plan) == [CopyChunks] * 2
    assert check(tmp_path / "b", wanted).verify().ok


@pytest.mark.parametrize(
    ("box", "form"), [(((0, 0, 0), (1, 1, 1)), "wkw"), (((7, 7, 0), (20, 9, 1)), "zarr3"), (((0, 0, 0), (16, 16, 16)), "n5")]
)
@pytest.mark.parametrize("target", ["zarr3", "wkw", "neuroglancerPrecomputed"])
def test_small_and_flat_layers(tmp_path, box, form, target):
    wanted = make(tmp_path / "a", box, form, dtype="uint32", category="segmentation")
    copied(tmp_path / "a", tmp_path / "b", Wishes(target, codec="compressed"))
    check(tmp_path / "b", wanted)


@pytest.mark.parametrize("target", FORMATS)
def test_further_axes(tmp_path, target):
    wanted = make(tmp_path / "a", BOX, times=3)
    if find_format(target).further_axes:
        copied(tmp_path / "a", tmp_path / "b", Wishes(target))
        assert check(tmp_path / "b", wanted).get_mag(1).array.axes == tuple("tcxyz")
    else:
        with pytest.raises(InputError, match=f"axis t beside c, x, y and z, which the format {target} can not store"):
            copied(tmp_path / "a", tmp_path / "b", Wishes(target))
        assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("target", FORMATS)
def test_axes_in_another_order(tmp_path, target):
    dataset = wk.Dataset(tmp_path / "a", (4, 4, 35))
    layer = LayerProperties.new("em", "color", "uint8", 1, "zarr3", BOX).with_axis_order("czyx")
    dataset._store.update(lambda old: old.with_layer(layer))
    array = dataset.get_layer("em").add_mag(1, chunk_shape=8, shard_shape=16).array
    wanted = noise(array.box.shape, "uint8")
    array.handle.write(array.box, wanted)
    copied(tmp_path / "a", tmp_path / "b", Wishes(target))
    found = wk.Dataset.open(tmp_path / "b").get_layer("em").get_mag(1).array
    kept = find_format(target).further_axes
    assert found.axes == tuple("czyx" if kept else "cxyz")
    np.testing.assert_array_equal(found.read(found.box), wanted if kept else wanted.transpose(0, 3, 2, 1))


def test_all_words_of_the_json_stay(tmp_path):
    make(tmp_path / "a", BOX, category="segmentation", dtype="uint32")
    place = tmp_path / "a" / FILE_NAME
    document = json.loads(place.read_text())
    layer = document["dataLayers"][0]
    (tmp_path / "a/em/agglomerates/v1/deep").mkdir(parents=True)
    (tmp_path / "a/em/agglomerates/v1/deep/x").write_bytes(b"tree")
    (tmp_path / "mesh.hdf5").write_bytes(b"mesh")
    layer["attachments"] = {
        "agglomerates": [{"name": "v1", "path": "./em/agglomerates/v1", "dataFormat": "zarr3", "odd": 1}],
        "meshes": [{"name": "m", "path": str(tmp_path / "mesh.hdf5"), "dataFormat": "hdf5"}],
    }
    layer |= {"largestSegmentId": 77, "mappings": ["m1"], "odd": {"deep": [1, {"x": None}]}}
    layer |= {"coordinateTransformations": [{"type": "affine", "matrix": [[1, 0], [0, 1]]}]}
    layer["mags"][0]["odd"] = "kept"
    document |= {"odd": [1, 2], "defaultViewConfiguration": {"zoom": 2}}
    place.write_text(json.dumps(document))
    wk.Dataset.open(tmp_path / "a").copy_dataset(tmp_path / "b", data_format="wkw")
    found = json.loads((tmp_path / "b" / FILE_NAME).read_text())
    new = found["dataLayers"][0]
    assert (tmp_path / "b/em/agglomerates/v1/deep/x").read_bytes() == b"tree"
    assert (tmp_path / "b/em/meshes/mesh.hdf5").read_bytes() == b"mesh"
    assert new["attachments"]["agglomerates"][0] == {
        "name": "v1",
        "path": "./em/agglomerates/v1",
        "dataFormat": "zarr3",
        "odd": 1,
    }
    assert new["attachments"]["meshes"][0]["path"] == "./em/meshes/mesh.hdf5"
    for gone in ("attachments", "mags", "dataFormat"):
        new.pop(gone), layer.pop(gone)
    assert new == layer
    for gone in ("dataLayers", "id"):
        found.pop(gone), document.pop(gone)
    assert found == document
    assert json.loads((tmp_path / "b" / FILE_NAME).read_text())["dataLayers"][0]["mags"][0]["odd"] == "kept"


def test_layers_without_mags_and_datasets_without_layers(tmp_path):
    dataset = wk.Dataset(tmp_path / "a", (4, 4, 35))
    assert list(dataset.copy_dataset(tmp_path / "b").layers) == []
    dataset.add_layer("empty", "color", bounding_box=wk.BoundingBox((1, 2, 3), (4, 5, 6)))
    copy = dataset.copy_dataset(tmp_path / "c")
    assert copy.get_layer("empty").bounding_box == dataset.get_layer("empty").bounding_box
    assert list(dataset.copy_dataset(tmp_path / "c", exists_ok=True).layers) == ["empty"]


def test_relative_targets_open_from_elsewhere(tmp_path, monkeypatch):
    wanted = make(tmp_path / "a", BOX)
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    wk.Dataset.open("../a").copy_dataset("b")
    monkeypatch.chdir(tmp_path)
    check(tmp_path / "deep/b", wanted)
    paths = [mag["path"] for mag in json.loads((tmp_path / "deep/b" / FILE_NAME).read_text())["dataLayers"][0]["mags"]]
    assert paths == ["./em/1", "./em/2-2-1"]


def test_what_is_there_stays(tmp_path):
    wanted = make(tmp_path / "a", BOX)
    make(tmp_path / "b", BOX, mags=("2-2-1",))
    with pytest.raises(DatasetExistsError, match="is a dataset already"):
        wk.Dataset.open(tmp_path / "a").copy_dataset(tmp_path / "b")
    other, own = wk.Dataset.open(tmp_path / "b"), noise((1, 17, 14, 20), "uint8", 0)
    with pytest.raises(LayerExistsError, match="exists_ok=True"):
        other.add_layer_as_copy(tmp_path / "a/em")
    other.add_layer_as_copy(tmp_path / "a/em", exists_ok=True)
    check(tmp_path / "b", {"1": wanted["1"], "2-2-1": own})
    with pytest.raises(InputError, match="onto itself"):
        other.add_layer_as_copy(tmp_path / "b/em", "em")
    with pytest.raises(ReadOnlyError):
        wk.Dataset.open(tmp_path / "b", read_only=True).add_layer_as_copy(tmp_path / "a/em", "more")


def test_a_mag_becomes_another(tmp_path):
    wanted = make(tmp_path / "a", ((0, 0, 0), (32, 16, 8)), mags=("1",))
    foreign = wk.Dataset.open(tmp_path / "a").get_layer("em").get_mag(1)
    layer = wk.Dataset(tmp_path / "b", (4, 4, 35)).add_layer("em", "color")
    layer.add_mag_as_copy(foreign, mag=2)
    assert layer.bounding_box == wk.BoundingBox((0, 0, 0), (64, 32, 16))
    check(tmp_path / "b", {"2": wanted["1"]})
    with pytest.raises(MagExistsError):
        layer.add_mag_as_copy(foreign, mag=2)
    assert layer.add_mag_as_copy(foreign, mag=2, exists_ok=True).name == "2"
    half = wk.Dataset(tmp_path / "c", (4, 4, 35)).add_layer("em", "color", bounding_box=wk.BoundingBox((0, 0, 0), (9, 9, 9)))
    half.add_mag_as_copy(foreign, extend_layer_bounding_box=False)
    np.testing.assert_array_equal(half.get_mag(1).read()[..., :8], wanted["1"][:, :9, :9])


def test_damaged_files_are_not_copied(tmp_path):
    make(tmp_path / "a", BOX)
    unit = next(path for path in (tmp_path / "a/em/1/c").rglob("*") if path.is_file())
    unit.write_bytes(unit.read_bytes()[:-3])
    with pytest.raises(wk.errors.UnitsFailedError, match=r"damaged|cut off"):
        copied(tmp_path / "a", tmp_path / "b")
    assert not (tmp_path / "b" / FILE_NAME).exists() or "em" not in wk.Dataset.open(tmp_path / "b").layers


def test_files_that_change_while_they_are_copied_are_refused(tmp_path, monkeypatch):
    make(tmp_path / "a", BOX)

    def grown(source, *rest):
        source.write_bytes(source.read_bytes() + b"more")
        return copy_file(source, *rest)

    monkeypatch.setattr("wkdask.operations.copying_tasks.copy_file", grown)
    with pytest.raises(wk.errors.InputChangedError, match=r"written last is .*/em/1/c/"):
        copied(tmp_path / "a", tmp_path / "b")


def test_fill_and_foreign_layouts(tmp_path):
    wanted = make(tmp_path / "a", BOX, mags=("1",))
    place = tmp_path / "a/em/1"
    spec = wk.Dataset.open(tmp_path / "a").get_layer("em").get_mag(1).spec
    for path in sorted(place.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    filled = ArraySpec(spec.shape, "uint8", spec.axes, spec.chunk, spec.unit, parse_codec("gzip:1"), fill=9)
    array = find_format("zarr3").create(Location(place), filled)
    array.write(wk.Dataset.open(tmp_path / "a").get_layer("em").get_mag(1).array.box, np.maximum(wanted["1"], 9))
    for target in ("zarr3", "wkw"):
        copied(tmp_path / "a", tmp_path / target, Wishes(target))
        check(tmp_path / target, {"1": np.maximum(wanted["1"], 9)})
    assert wk.Dataset.open(tmp_path / "zarr3").get_layer("em").get_mag(1).spec.fill == 9


@pytest.mark.parametrize("store", ["local", "memory"])
def test_pieces_of_two_files_are_never_put_together(store, tmp_path, monkeypatch):
    monkeypatch.setattr("wkdask.storage.copying.COPY_BYTES", 4)
    monkeypatch.setattr("wkdask.storage.copying.STORE_BYTES", 4)
    source = Location(tmp_path / "a") if store == "local" else Location(f"memory://{tmp_path.name}/a")
    target = Location(tmp_path / "b")
    source.write_bytes(b"older..." * 2)
    target.write_bytes(b"what was there")
    asked = []

    def between():
        asked.append(1)
        if len(asked) == 2:
            source.write_bytes(b"newer, and longer" * 2)

    with pytest.raises(StorageError, match="was changed while it was copied"):
        copy_file(source, target, between=between)
    assert target.read_bytes() == b"what was there"
    assert copy_file(source, target, between=between).size == 34 and target.read_bytes() == source.read_bytes()


def test_files_are_copied_with_their_holes(tmp_path):
    place = tmp_path / "holes"
    with open(place, "wb") as file:
        file.seek(1 << 20)
        file.write(b"here")
        file.truncate(4 << 20)
    stat = copy_file(Location(place), Location(tmp_path / "copy"))
    assert stat.size == 4 << 20 and (tmp_path / "copy").read_bytes() == place.read_bytes()
    assert os.stat(tmp_path / "copy").st_blocks <= os.stat(place).st_blocks + 16
    copy_file(Location(place), Location("memory://copying/holes"))
    copy_file(Location("memory://copying/holes"), Location(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == place.read_bytes()


def test_links_in_attachments_are_refused(tmp_path):
    (tmp_path / "tree/deep").mkdir(parents=True)
    (tmp_path / "tree/deep/file").write_bytes(b"1")
    assert list(files_below(Location(tmp_path / "tree"))) == ["deep/file"]
    (tmp_path / "tree/deep/loop").symlink_to(tmp_path / "tree")
    with pytest.raises(InputError, match="loop is a link"):
        list(files_below(Location(tmp_path / "tree")))


@pytest.mark.parametrize(("old", "new"), [("1", "2"), ("2-2-1", "1"), ("2-2-1", "4-4-2"), ("2-2-1", "2-2-1")])
def test_a_mag_of_a_box_that_is_no_multiple_becomes_another(tmp_path, old, new):
    wanted = make(tmp_path / "source", BOX)[old]
    layer = wk.Dataset(tmp_path / "target", (4, 4, 35)).add_layer("em", "color")
    found = layer.add_mag_as_copy(wk.Dataset.open(tmp_path / "source").get_layer("em").get_mag(old), mag=new).array
    np.testing.assert_array_equal(found.read(found.box), wanted)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_copy_that_is_refused_leaves_the_box(tmp_path, dtype):
    make(tmp_path / "source", BOX)
    box = wk.BoundingBox((0, 0, 0), (8, 8, 8))
    layer = wk.Dataset(tmp_path / "target", (4, 4, 35)).add_layer("em", "color", dtype=dtype, bounding_box=box)
    layer.add_mag(1)
    with pytest.raises((MagExistsError, InputError)):
        layer.add_mag_as_copy(wk.Dataset.open(tmp_path / "source").get_layer("em").get_mag(1), mag=1 if dtype == "uint8" else 2)
    assert layer.bounding_box == box
