"""Magnifications and layers that lie elsewhere: found, shown, and never written or deleted from here."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest

import wkdask as wk
from wkdask.errors import (
    InputError,
    LayerExistsError,
    MagExistsError,
    MagNotFoundError,
    NotLocalError,
    ReadOnlyError,
    WkdaskError,
)
from wkdask.storage import Location

BOX = wk.BoundingBox((0, 0, 0), (40, 24, 20))
WAYS = ["link of the layer", "link of the mag", "absolute path", "relative path", "URL"]


def data(seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 255, (40, 24, 20)).astype("uint8")


def made(place, data_format: str = "zarr3", category: str = "color", name: str = "em"):
    layer = wk.Dataset(place, (4, 4, 35)).add_layer(name, category, dtype="uint8", data_format=data_format, bounding_box=BOX)
    layer.add_mag(1, chunk_shape=16, shard_shape=None if data_format in ("zarr", "n5") else 16).write(data())
    return layer


def files(folder) -> dict:
    if isinstance(folder, Location):
        found, left = {}, [folder]
        while left:
            place = left.pop()
            if place.is_file():
                found[place.url] = place.read_bytes()
            else:
                left += [place / name for name in place.names() if name != ".wkdask"]
        return found
    return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file() and ".wkdask" not in p.parts}


def elsewhere(way: str, tmp_path, category: str = "color", data_format: str = "zarr3"):
    """Return a layer 'here' whose mag 1 lies elsewhere, and the folder where it lies."""
    here = wk.Dataset(tmp_path / "here", (4, 4, 35))
    if way == "URL":
        url = f"memory://{tmp_path.name}-elsewhere"
        source, place = made(url, data_format, category), Location(url)
    elif way == "relative path":
        here.add_layer("other", category, dtype="uint8", data_format=data_format, bounding_box=BOX)
        layer = here.get_layer("other")
        layer.add_mag(1, chunk_shape=16, shard_shape=None if data_format in ("zarr", "n5") else 16).write(data())
        source, place = layer, tmp_path / "here" / "other"
    else:
        source, place = made(tmp_path / "there", data_format, category), tmp_path / "there"
    if way == "link of the layer":
        return here.add_symlink_layer(source, new_layer_name="view"), place
    layer = here.add_layer("view", category, dtype="uint8", data_format=data_format)
    (layer.add_symlink_mag if way == "link of the mag" else layer.add_mag_as_ref)(source.get_mag(1))
    return layer, place


VERBS = {
    "write": lambda layer: layer.get_mag(1).write(np.zeros((4, 4, 4), "uint8")),
    "write and grow": lambda layer: layer.get_mag(1).write(
        np.zeros((4, 4, 4), "uint8"), absolute_offset=(90, 90, 90), allow_resize=True
    ),
    "write a view": lambda layer: layer.get_mag(1).get_view(size=(8, 8, 8)).write(np.zeros((8, 8, 8), "uint8")),
    "shrink": lambda layer: setattr(layer, "bounding_box", wk.BoundingBox((0, 0, 0), (8, 8, 8))),
    "grow": lambda layer: layer.extend_bounding_box(wk.BoundingBox((0, 0, 0), (500, 500, 500))),
    "rename": lambda layer: setattr(layer, "name", "renamed"),
    "delete_mag": lambda layer: layer.delete_mag(1),
    "delete_layer": lambda layer: layer.dataset.delete_layer("view"),
    "downsample": lambda layer: layer.downsample(coarsest_mag=4),
    "downsample_mag": lambda layer: layer.downsample_mag(1, 2),
    "redownsample": lambda layer: (layer.downsample_mag(1, 2), layer.redownsample("max")),
    "update_pyramid": lambda layer: (layer.downsample_mag(1, 2), layer.update_pyramid(((0, 0, 0), (8, 8, 8)), "max")),
    "make anew": lambda layer: layer.downsample_mag_list(1, [2], allow_overwrite=True),
    "add_mag": lambda layer: layer.add_mag(8),
    "new_mag": lambda layer: layer.new_mag(8).__enter__(),
    "copy": lambda layer: layer.add_mag_as_copy(layer.get_mag(1), mag=8),
    "compress": lambda layer: layer.compress(),
    "rechunk": lambda layer: layer.rechunk(chunk_shape=8),
    "rechunk the mag": lambda layer: layer.get_mag(1).rechunk(chunk_shape=8),
    "move an array": lambda layer: layer.add_mag_from_zarrarray(8, layer.get_mag(1).array.handle.location.url),
    "write_dask": lambda layer: layer.write_dask(layer.get_mag(1).to_dask() // 2, allow_overwrite=True),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("verb", VERBS)
def test_nothing_is_written_through_links_and_references(tmp_path, way, verb):
    layer, place = elsewhere(way, tmp_path)
    before = files(place)
    assert before and layer.is_mag_view_foreign(1)
    try:
        VERBS[verb](layer)
        refused = False
    except (WkdaskError, AttributeError) as error:
        refused = isinstance(error, ReadOnlyError)
        if isinstance(error, AttributeError) and "delete_layer" not in str(error):
            raise
    assert files(place) == before
    if way == "link of the layer" and verb not in ("delete_layer", "move an array", "copy"):
        assert refused == (verb != "compress"), verb  # which it is already
    if verb in ("write", "write and grow", "write a view", "make anew"):
        assert refused or verb == "make anew"
    if verb == "delete_mag" and not refused:
        assert not layer.mags
        assert not os.path.lexists(tmp_path / "here" / "view" / "1")


@pytest.mark.parametrize("data_format", ["zarr", "wkw", "n5", "neuroglancerPrecomputed"])
@pytest.mark.parametrize("verb", ["add_mag", "shrink", "downsample", "rename", "delete_mag"])
def test_nor_in_other_formats(tmp_path, data_format, verb):
    layer, place = elsewhere("absolute path", tmp_path, data_format=data_format)
    before = files(place)
    VERBS[verb](layer)
    assert files(place) == before


@pytest.mark.parametrize("way", WAYS)
def test_what_lies_elsewhere_is_read(tmp_path, way):
    layer, _ = elsewhere(way, tmp_path)
    assert layer.is_foreign
    assert layer.read_only == (way == "link of the layer")
    assert layer.bounding_box == BOX
    found = wk.Dataset.open(tmp_path / "here").get_layer("view")
    np.testing.assert_array_equal(found.get_mag(1).read()[0], data())
    said = json.loads((tmp_path / "here" / "datasource-properties.json").read_bytes())["dataLayers"][-1]["mags"][0]["path"]
    assert (
        said
        == {
            "link of the layer": "./view/1",
            "link of the mag": "./view/1",
            "absolute path": f"{tmp_path}/there/em/1",
            "relative path": "./other/1",
            "URL": f"memory://{tmp_path.name}-elsewhere/em/1",
        }[way]
    )
    found.dataset.name = "saved"
    again = json.loads((tmp_path / "here" / "datasource-properties.json").read_bytes())
    assert again["dataLayers"][-1]["mags"][0]["path"] == said


@pytest.mark.parametrize("relative", [False, True])
def test_relative_links_move_with_both_datasets(tmp_path, relative, monkeypatch):
    (tmp_path / "both").mkdir()
    source = made(tmp_path / "both" / "there")
    here = wk.Dataset(tmp_path / "both" / "here", (4, 4, 35))
    monkeypatch.chdir(tmp_path / "both")
    here.add_symlink_layer("there/em", relative, "a")
    here.add_layer("b", "color").add_symlink_mag("there/em/1", make_relative=relative)
    shutil.move(tmp_path / "both", tmp_path / "moved")
    found = wk.Dataset.open(tmp_path / "moved" / "here")
    for name in ("a", "b"):
        link = tmp_path / "moved" / "here" / ("a" if name == "a" else "b/1")
        assert os.path.isabs(os.readlink(link)) == (not relative)
        if relative:
            np.testing.assert_array_equal(found.get_layer(name).get_mag(1).read()[0], data())
    del source


@pytest.mark.parametrize("linked", [False, True])
def test_a_layer_of_another_dataset_keeps_what_its_json_says(tmp_path, linked):
    source = made(tmp_path / "there", category="segmentation")
    document = tmp_path / "there" / "datasource-properties.json"
    said = json.loads(document.read_bytes())
    said["dataLayers"][0] |= {"stain": [1], "largestSegmentId": 2**60, "coordinateTransformations": [{"type": "odd"}]}
    said["dataLayers"][0]["attachments"] = {"meshes": [{"name": "m", "path": "./em/meshes/m", "dataFormat": "hdf5", "x": 1}]}
    document.write_text(json.dumps(said))
    here = wk.Dataset(tmp_path / "here", (4, 4, 35))
    layer = here.add_symlink_layer(source) if linked else here.add_layer_as_ref(tmp_path / "there" / "em")
    found = json.loads((tmp_path / "here" / "datasource-properties.json").read_bytes())["dataLayers"][0]
    prefix = "./em" if linked else f"{tmp_path}/there/em"
    expected = json.loads(document.read_bytes())["dataLayers"][0]
    expected["mags"][0]["path"] = f"{prefix}/1"
    expected["attachments"]["meshes"][0]["path"] = f"{prefix}/meshes/m"
    found["largestSegmentId"] = expected["largestSegmentId"] = None
    assert found == expected
    assert layer.largest_segment_id == 2**60
    assert isinstance(layer, wk.SegmentationLayer)
    if not linked:
        layer.add_mag(2, chunk_shape=16, shard_shape=16).write(data()[::2, ::2, ::2])
        np.testing.assert_array_equal(layer.get_mag(2).read()[0], data()[::2, ::2, ::2])
        assert (tmp_path / "here" / "em" / "2" / "zarr.json").is_file()
        assert (layer.is_foreign, layer.is_mag_view_foreign(1), layer.is_mag_view_foreign(2)) == (False, True, False)


def test_layers_that_can_not_be_added(tmp_path):
    source = made(tmp_path / "there")
    here = wk.Dataset(tmp_path / "here", (4, 4, 35))
    here.add_layer("em", "color")
    (tmp_path / "here" / "folder").mkdir()
    remote = wk.Dataset(f"memory://{tmp_path.name}-remote", (4, 4, 35))
    before = files(tmp_path)
    for call, error in [
        (lambda: here.add_layer_as_ref(source), LayerExistsError),
        (lambda: here.add_symlink_layer(source), LayerExistsError),
        (lambda: here.add_layer_as_ref(source, "a/b"), InputError),
        (lambda: here.add_layer_as_ref(source, "b", storage_options={"key": "of what is open"}), InputError),
        (lambda: here.add_layer_as_copy(source, "b", storage_options={"key": "of what is open"}), InputError),
        (lambda: here.get_layer("em").add_mag_as_ref(source.get_mag(1), storage_options={"key": "x"}), InputError),
        (lambda: here.add_symlink_layer(source, new_layer_name="folder"), InputError),
        (lambda: source.dataset.add_layer_as_ref(source, "b"), InputError),
        (lambda: source.dataset.add_symlink_layer(source, False, "b"), InputError),
        (lambda: remote.add_symlink_layer(source), NotLocalError),
        (lambda: here.add_symlink_layer("memory://none/em", new_layer_name="b"), NotLocalError),
        (lambda: source.add_symlink_mag("memory://none/em/1", mag=2), NotLocalError),
        (lambda: here.add_layer_as_ref(tmp_path / "there" / "none"), IndexError),
        (lambda: wk.Dataset.open(tmp_path / "here", read_only=True).add_layer_as_ref(source, "b"), ReadOnlyError),
        (lambda: wk.Dataset.open(tmp_path / "here", read_only=True).add_symlink_layer(source, False, "b"), ReadOnlyError),
    ]:
        with pytest.raises(error):
            call()
    assert files(tmp_path) == before
    assert sorted(os.listdir(tmp_path / "here")) == [".wkdask", "datasource-properties.json", "folder"]


def test_mags_that_can_not_be_added(tmp_path):
    source = made(tmp_path / "there").get_mag(1)
    here = wk.Dataset(tmp_path / "here", (4, 4, 35))
    layers = {
        "dtype": here.add_layer("a", "color", "uint16"),
        "number of channels": here.add_layer("b", "color", num_channels=3),
        "format": here.add_layer("c", "color", data_format="wkw"),
    }
    for what, layer in layers.items():
        for call in (layer.add_mag_as_ref, layer.add_symlink_mag):
            with pytest.raises(InputError, match=what):
                call(source)
        assert not layer.mags
    layer = here.add_layer("d", "color")
    layer.add_mag_as_ref(source)
    for call in (layer.add_mag_as_ref, layer.add_symlink_mag):
        with pytest.raises(MagExistsError):
            call(tmp_path / "there" / "em" / "1")
    with pytest.raises(MagNotFoundError):
        layer.add_mag_as_ref(tmp_path / "there" / "em" / "2", mag=4)
    (tmp_path / "here" / "d").mkdir(exist_ok=True)
    (tmp_path / "here" / "d" / "2").mkdir()
    with pytest.raises(InputError, match="exists already"):
        layer.add_symlink_mag(source, mag=2)
    assert [str(mag) for mag in layer.mags] == ["1"]


def test_under_another_mag_the_box_grows_with_it(tmp_path):
    source = made(tmp_path / "there").get_mag(1)
    layer = wk.Dataset(tmp_path / "here", (4, 4, 35)).add_layer("em", "color")
    layer.add_mag_as_ref(source, mag=2, extend_layer_bounding_box=False)
    assert layer.bounding_box.is_empty()
    mag = layer.add_symlink_mag(source, mag="4-4-1")
    assert layer.bounding_box == wk.BoundingBox((0, 0, 0), (160, 96, 20))
    np.testing.assert_array_equal(mag.read()[0], data())
    np.testing.assert_array_equal(layer.get_mag(2).read(absolute_offset=(0, 0, 0), size=(80, 48, 20))[0], data()[:, :, :10])


@pytest.mark.parametrize("move", [False, True])
@pytest.mark.parametrize("data_format", ["zarr", "zarr3"])
def test_an_array_becomes_a_magnification(tmp_path, data_format, move):
    made(tmp_path / "there", data_format)
    layer = wk.Dataset(tmp_path / "here", (4, 4, 35)).add_layer("em", "color", data_format=data_format)
    mag = layer.add_mag_from_zarrarray(2, tmp_path / "there" / "em" / "1", move=move)
    ends = [2 * n for n in mag.spec.shape[1:]]
    assert layer.bounding_box == wk.BoundingBox((0, 0, 0), ends)
    np.testing.assert_array_equal(mag.read(absolute_offset=(0, 0, 0), size=(80, 48, 40))[0], data())
    assert (tmp_path / "there" / "em" / "1").exists() != move
    assert (tmp_path / "here" / "em" / "2").is_dir() == move
    assert layer.is_mag_view_foreign(mag) != move
    if move:
        mag.write(np.zeros((4, 4, 4), "uint8"))
    for wrong, form, dtype in [(tmp_path, data_format, "uint8"), (mag.array.handle.location.url, data_format, "uint16")]:
        other = layer.dataset.add_layer(f"other-{dtype}", "color", dtype=dtype, data_format=form)
        with pytest.raises(InputError):
            other.add_mag_from_zarrarray(1, wrong)
    with pytest.raises(InputError, match="Zarr"):
        layer.dataset.add_layer("wkw", "color", data_format="wkw").add_mag_from_zarrarray(1, mag.array.handle.location.url)
    with pytest.raises(MagExistsError):
        layer.add_mag_from_zarrarray(2, tmp_path / "there" / "em" / "1", move=True)
    (tmp_path / "link").symlink_to("here/em/2" if move else "there/em/1")  # relative: it would lead nowhere from elsewhere
    moved = layer.dataset.add_layer("moved", "color", data_format=data_format)
    with pytest.raises(InputError, match="is a link to"):
        moved.add_mag_from_zarrarray(1, tmp_path / "link", move=True)
    assert (tmp_path / "link").is_symlink() and not (tmp_path / "here" / "moved").exists()
