"""Datasets and layers: making, opening, adding, changing, refusing."""

from __future__ import annotations

import json
import os
import pickle
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import wkdask as wk
from wkdask.errors import (
    DatasetExistsError,
    DatasetNotFoundError,
    InputError,
    LayerExistsError,
    LayerNotFoundError,
    MagExistsError,
    MagNotFoundError,
    ReadOnlyError,
)

SIZE = wk.VoxelSize((0.004, 0.004, 0.035), wk.LengthUnit.MICROMETER)
BOX = wk.BoundingBox((0, 0, 0), (32, 32, 32))


def test_a_new_dataset(tmp_path):
    dataset = wk.Dataset(tmp_path / "a" / "ds", (4, 4, 35))
    assert (dataset.name, dataset.voxel_size, dict(dataset.layers)) == ("ds", (4, 4, 35), {})
    assert wk.Dataset(tmp_path / "b", voxel_size_with_unit=SIZE, name="B").name == "B"
    assert wk.Dataset.open(tmp_path / "b").voxel_size_with_unit == SIZE
    assert wk.Dataset.open(tmp_path / "b").voxel_size == pytest.approx((4, 4, 35))
    assert wk.Dataset(tmp_path / "b").name == "B"


def test_what_the_constructor_refuses(tmp_path, dataset):
    place = tmp_path / "ds"
    for options in [{"exist_ok": False}, {"exist_ok": True, "name": "other"}]:
        with pytest.raises(DatasetExistsError, match=str(place)):
            wk.Dataset(place, (4, 4, 35), **options)
    with pytest.raises(DatasetExistsError, match="voxels of 4 x 4 x 35 nanometer, not 1 x 1 x 1"):
        wk.Dataset(place, (1, 1, 1), exist_ok=True)
    assert wk.Dataset(place, (4, 4, 35), exist_ok=True).name == "ds"
    with pytest.raises(DatasetNotFoundError):
        wk.Dataset(tmp_path / "none")
    with pytest.raises(DatasetNotFoundError):
        wk.Dataset(tmp_path / "none", (1, 1, 1), read_only=True)
    with pytest.raises(DatasetNotFoundError):
        wk.Dataset.open(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    for wrong in [(1, 1), (1, 1, 0), (1, 1, float("nan")), (1, 1, "x"), 4, (-1, 1, 1)]:
        with pytest.raises(InputError):
            wk.Dataset(tmp_path / "none", wrong)
    with pytest.raises(InputError, match="Both"):
        wk.Dataset(tmp_path / "none", (1, 1, 1), voxel_size_with_unit=SIZE)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DatasetExistsError):
        wk.Dataset(tmp_path / "file", (1, 1, 1))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(DatasetExistsError):
        wk.Dataset(tmp_path / "full", (1, 1, 1))


def test_names_are_saved(dataset, tmp_path):
    dataset.name = "renamed"
    assert json.loads((tmp_path / "ds" / "datasource-properties.json").read_bytes())["id"]["name"] == "renamed"
    assert wk.Dataset.open(tmp_path / "ds").name == dataset.name == "renamed"


def test_add_layer(dataset, tmp_path):
    color = dataset.add_layer("em", "color", dtype="uint16", num_channels=3, bounding_box=BOX)
    segments = dataset.add_layer("seg", "segmentation", dtype=np.uint32)
    assert (color.dtype, color.num_channels, color.category, color.bounding_box) == (np.uint16, 3, "color", BOX)
    assert isinstance(segments, wk.SegmentationLayer)
    assert not isinstance(color, wk.SegmentationLayer)
    assert segments.dtype == np.uint32
    assert list(wk.Dataset.open(tmp_path / "ds").layers) == ["em", "seg"]
    assert dataset.calculate_bounding_box() == BOX
    assert dataset.add_layer("c", "color").dtype == np.uint8


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"layer_name": "em"}, LayerExistsError),
        ({"layer_name": "a/b"}, InputError),
        ({"layer_name": ".."}, InputError),
        ({"layer_name": ""}, InputError),
        ({"category": "mask"}, InputError),
        ({"dtype": "text"}, InputError),
        ({"dtype": "complex64"}, InputError),
        ({"num_channels": 0}, InputError),
        ({"data_format": "tiff"}, InputError),
        ({"dtype": "uint8", "dtype_per_channel": "uint8"}, InputError),
        ({"bounding_box": wk.BoundingBox((-1, 0, 0), (4, 4, 4))}, InputError),
    ],
)
def test_what_add_layer_refuses(dataset, tmp_path, wrong, kind):
    dataset.add_layer("em", "color")
    before = (tmp_path / "ds" / "datasource-properties.json").read_bytes()
    with pytest.raises(kind):
        dataset.add_layer(**{"layer_name": "new", "category": "color", **wrong})
    assert (tmp_path / "ds" / "datasource-properties.json").read_bytes() == before


def test_missing_layers_and_mags_say_what_there_is(dataset, layer):
    with pytest.raises(LayerNotFoundError, match="em"):
        dataset.get_layer("nope")
    with pytest.raises(MagNotFoundError, match=r"has 1.*2-2-1"):
        layer.get_mag(8)
    with pytest.raises(MagExistsError):
        layer.add_mag("2-2-1")
    with pytest.raises(InputError):
        layer.get_mag(3)


def test_mags_in_any_spelling(layer):
    assert [str(mag) for mag in layer.mags] == ["1", "2-2-1"]
    for spelling in ("2-2-1", (2, 2, 1), wk.Mag("2-2-1")):
        assert layer.get_mag(spelling).name == "2-2-1"
    assert layer.get_finest_mag().name == "1"


def test_add_mag(dataset, tmp_path):
    box = wk.BoundingBox((0, 0, 0), (100, 100, 50))
    layer = dataset.add_layer("em", "color", dtype="uint16", num_channels=3, bounding_box=box)
    spec = layer.add_mag(2, chunk_shape=(16, 16, 8), shard_shape=32, compress=False).spec
    assert (spec.chunk, spec.unit, spec.codec, spec.dtype) == ((3, 16, 16, 8), (3, 32, 32, 32), None, "uint16")
    assert spec.shape == (3, 64, 64, 32)
    assert (tmp_path / "ds" / "em" / "2" / "zarr.json").is_file()
    usual = layer.add_mag(1).spec
    assert (usual.chunk[1:], str(usual.codec)) == ((32, 32, 32), "zstd:5")
    for wrong in [{"chunk_shape": 30}, {"chunk_shape": 32, "shard_shape": 16}, {"chunk_shape": 0}, {"chunk_shape": (1, 2)}]:
        with pytest.raises(InputError):
            layer.add_mag(4, **wrong)
    assert [str(mag) for mag in layer.mags] == ["1", "2"]


def test_read_only_refuses_every_change(dataset, mag, tmp_path):
    dataset.add_layer("seg", "segmentation")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    found = wk.Dataset.open(tmp_path / "ds", read_only=True)
    layer, segments = found.get_layer("em"), found.get_layer("seg")
    changes = [
        lambda: found.add_layer("new", "color"),
        lambda: setattr(found, "name", "new"),
        lambda: layer.add_mag(4),
        lambda: setattr(layer, "bounding_box", wk.BoundingBox((0, 0, 0), (500, 500, 500))),
        lambda: layer.extend_bounding_box(wk.BoundingBox((0, 0, 0), (500, 500, 500))),
        lambda: setattr(segments, "largest_segment_id", 5),
        lambda: layer.get_mag(1).write(np.zeros((40, 24, 20), "uint8")),
        lambda: layer.get_mag(1).write(np.zeros((90, 24, 20), "uint8"), allow_resize=True),
    ]
    for change in changes:
        with pytest.raises(ReadOnlyError, match="read-only"):
            change()
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    assert layer.get_mag(1).read().any()


def test_largest_segment_id(dataset, tmp_path):
    layer = dataset.add_layer("seg", "segmentation", dtype="uint64")
    assert layer.largest_segment_id is None
    for value in (7, np.uint64(2**63 + 5), 0, None):
        layer.largest_segment_id = value
        assert wk.Dataset.open(tmp_path / "ds").get_layer("seg").largest_segment_id == value
    for wrong in (1.5, "many", -1, True, float("nan")):
        with pytest.raises(InputError, match="segment id"):
            layer.largest_segment_id = wrong


def test_the_box_of_a_layer(layer, mag, voxels):
    layer.bounding_box = wk.BoundingBox((0, 0, 0), (100, 60, 70))
    assert layer.bounding_box == wk.BoundingBox((0, 0, 0), (100, 60, 70))
    assert mag.read(absolute_offset=(8, 4, 2), size=voxels.shape)[0].tolist() == voxels.tolist()
    assert layer.get_mag(1).spec.shape[1:] == (128, 64, 96)
    assert layer.get_mag("2-2-1").spec.shape[1:] == (64, 32, 96)
    with pytest.raises(InputError):
        layer.bounding_box = wk.BoundingBox((-1, 0, 0), (8, 8, 8))
    layer.extend_bounding_box(wk.BoundingBox((0, 0, 0), (10, 90, 10)))
    assert layer.bounding_box.size == (100, 90, 70)


def test_unknown_keys_survive_every_verb(dataset, layer, tmp_path, voxels):
    place = tmp_path / "ds" / "datasource-properties.json"
    document = json.loads(place.read_bytes())
    document["lab"] = {"room": [1, None, "é"]}
    document["id"]["owner"] = "us"
    document["scale"]["measured"] = True
    document["dataLayers"][0]["stain"] = "osmium"
    document["dataLayers"][0]["boundingBox"]["why"] = "cut"
    document["dataLayers"][0]["mags"][0]["credit"] = 0.0
    place.write_text(json.dumps(document))

    def unknown():
        now = json.loads(place.read_bytes())
        first = now["dataLayers"][0]
        mag = next(m for m in first["mags"] if "credit" in m)
        return (
            now["lab"],
            now["id"]["owner"],
            now["scale"]["measured"],
            first["stain"],
            first["boundingBox"]["why"],
            mag["credit"],
        )

    expected = unknown()
    import tifffile

    (tmp_path / "slices").mkdir()
    tifffile.imwrite(tmp_path / "slices" / "0.tif", np.ones((8, 8), "uint8"))
    verbs = [
        lambda: dataset.add_layer("b", "segmentation"),
        lambda: setattr(dataset.get_layer("b"), "largest_segment_id", 3),
        lambda: layer.add_mag(4),
        lambda: layer.get_mag(1).write(voxels, absolute_offset=(64, 64, 64), allow_resize=True),
        lambda: setattr(layer, "bounding_box", wk.BoundingBox((0, 0, 0), (200, 200, 200))),
        lambda: setattr(dataset, "name", "new"),
        lambda: wk.Dataset.from_images(tmp_path / "slices", tmp_path / "ds", (4, 4, 35), layer_name="c", downsample=True),
    ]
    for verb in verbs:
        verb()
        assert unknown() == expected


def test_pickles_open_elsewhere(dataset, layer, mag, voxels, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    relative = wk.Dataset.open("ds", read_only=True)
    things = (relative, relative.get_layer("em"), relative.get_layer("em").get_mag(1))
    assert all(len(pickle.dumps(thing)) < 4096 for thing in things)
    script = (
        "import pickle, sys; ds, layer, mag = pickle.load(sys.stdin.buffer); "
        "assert ds.read_only and layer.read_only and 'em' in ds.layers and len(layer.mags) == 2; "
        "sys.stdout.buffer.write(mag.read().tobytes('C'))"
    )
    done = subprocess.run([sys.executable, "-c", script], input=pickle.dumps(things), capture_output=True, cwd="/", check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == voxels.tobytes("C")


def test_reprs_say_what_one_wants_to_know(dataset, layer, mag):
    for text in (repr(layer), repr(dataset)):
        assert all(word in text for word in ("'em'", "color", "uint8", "(8, 4, 2)", "(40, 24, 20)", "1, 2-2-1"))
    assert all(word in repr(dataset) for word in ("'ds'", dataset.path, "4 x 4 x 35 nanometer"))
    assert all(
        word in repr(mag) for word in ("em/1", "uint8", "1 x 40 x 24 x 20", "(1, 16, 16, 16)", "(1, 32, 32, 32)", "zstd")
    )
    assert "mags none" in repr(dataset.add_layer("empty", "segmentation"))


@pytest.mark.skipif(os.name != "posix", reason="modes and groups of POSIX")
def test_files_get_the_umask_and_the_group_of_their_folder(tmp_path):
    parent = tmp_path / "shared"
    parent.mkdir()
    group = 54321 if os.geteuid() == 0 else parent.stat().st_gid
    os.chown(parent, -1, group)
    before = os.umask(0o027)
    try:
        dataset = wk.Dataset(parent / "ds", (1, 1, 1))
        mag = dataset.add_layer("em", "color", bounding_box=BOX).add_mag(1)
        mag.write(np.ones((32, 32, 32), "uint8"))
    finally:
        os.umask(before)
    found = [path for path in (parent / "ds").rglob("*") if not path.name.endswith(".lock")]
    assert len(found) > 8
    for path in [parent / "ds", *found]:
        mode = 0o750 if path.is_dir() else 0o640
        assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_gid) == (mode, group), path


def test_the_path_may_be_any_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in ("plain", Path("path"), f"file://{tmp_path}/url", "ünï cödé #1?%41"):
        dataset = wk.Dataset(place, (1, 1, 1))
        mag = dataset.add_layer("em", "color", bounding_box=BOX).add_mag(1)
        mag.write(np.full((32, 32, 32), 9, "uint8"))
        assert (wk.Dataset.open(dataset.path).get_layer("em").get_mag(1).read() == 9).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["plain", "path", "url", "ünï cödé #1?%41"])
