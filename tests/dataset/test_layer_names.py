"""Layers get other names: what they hold moves with them, and nothing is lost on the way."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

import wkdask as wk
from wkdask.errors import DatasetError, InputError, LayerNotFoundError, PlanRefusedError, ReadOnlyError
from wkdask.storage import observe

NAME = "datasource-properties.json"


class Killed(BaseException):
    """As if the process were gone."""


def document(dataset) -> dict:
    with open(f"{dataset.path}/{NAME}") as file:
        return json.load(file)


def test_all_follows_the_name(dataset, layer, mag, voxels, tmp_path):
    place = tmp_path / "ds" / NAME
    said = json.loads(place.read_bytes())
    said["defaultViewConfiguration"] = {"layers": {"em": {"alpha": 5}}, "colorLayerOrder": ["em"], "why": ["em"]}
    said["dataLayers"][0]["stain"] = "osmium"
    del said["dataLayers"][0]["mags"][1]["path"]
    elsewhere = [{"name": "m", "path": "./em/meshes/m", "dataFormat": "hdf5", "by": 1}]
    said["dataLayers"][0]["attachments"] = {"meshes": elsewhere, "cumsum": {**elsewhere[0], "path": "/other/em/c"}, "new": [3]}
    said["dataLayers"].append({**said["dataLayers"][0], "name": "view", "attachments": {}})
    said["dataLayers"][1]["mags"] = [{**said["dataLayers"][0]["mags"][0], "path": f"{tmp_path}/ds/em/1"}]
    place.write_text(json.dumps(said))
    layer.name = "tissue"
    now = document(dataset)
    first, second = now["dataLayers"]
    assert (layer.name, first["name"], first["stain"], list(dataset.layers)) == (
        "tissue",
        "tissue",
        "osmium",
        ["tissue", "view"],
    )
    assert [found["path"] for found in first["mags"]] == ["./tissue/1", "./tissue/2-2-1"]
    assert second["mags"][0]["path"] == "./tissue/1"
    assert first["attachments"] == {
        "meshes": [{**elsewhere[0], "path": "./tissue/meshes/m"}],
        "cumsum": {**elsewhere[0], "path": "/other/em/c"},
        "new": [3],
    }
    assert now["defaultViewConfiguration"] == {"layers": {"tissue": {"alpha": 5}}, "colorLayerOrder": ["tissue"], "why": ["em"]}
    assert not (tmp_path / "ds" / "em").exists()
    np.testing.assert_array_equal(layer.get_mag(1).read()[0], voxels)
    np.testing.assert_array_equal(wk.Dataset.open(tmp_path / "ds").get_layer("view").get_mag(1).read()[0], voxels)
    with pytest.raises(LayerNotFoundError):
        dataset.get_layer("em")


def test_a_magnification_whose_folder_has_the_long_name(dataset, layer, mag, voxels, tmp_path):
    """Where the JSON does not say where it lies, as older ones do not."""
    place = tmp_path / "ds" / NAME
    said = json.loads(place.read_bytes())
    for one in said["dataLayers"][0]["mags"]:
        os.rename(tmp_path / "ds" / one.pop("path"), tmp_path / "ds/em" / "-".join(map(str, one["mag"])))
    place.write_text(json.dumps(said))
    wk.Dataset.open(tmp_path / "ds").get_layer("em").name = "tissue"
    found = wk.Dataset.open(tmp_path / "ds").get_layer("tissue").get_mag(1)
    assert np.array_equal(found.read()[0], voxels) and str(found.path).endswith("tissue/1-1-1")


@pytest.mark.parametrize("relative", [False, True])
def test_links_within_the_dataset_follow(dataset, layer, mag, voxels, tmp_path, relative):
    view = dataset.add_layer("view", "color", dtype="uint8")
    view.add_symlink_mag(mag, make_relative=relative)
    layer.add_symlink_mag(mag, mag=8, make_relative=relative)
    other = wk.Dataset(tmp_path / "em", (1, 1, 1)).add_layer("em", "color", dtype="uint8")
    other.add_mag(1, chunk_shape=16, shard_shape=32)
    view.add_symlink_mag(other.get_mag(1), mag=2, make_relative=relative)
    outside = os.readlink(tmp_path / "ds" / "view" / "2")
    for name in ("tissue", "em-2"):
        layer.name = name
        links = [tmp_path / "ds" / "view" / "1", tmp_path / "ds" / name / "8"]
        assert [os.path.realpath(link) for link in links] == [str(tmp_path / "ds" / name / "1")] * 2
        assert [os.path.isabs(os.readlink(link)) for link in links] == [not relative] * 2
        assert os.readlink(tmp_path / "ds" / "view" / "2") == outside
        np.testing.assert_array_equal(view.get_mag(1).read()[0], voxels)
    view.name = "shown"
    np.testing.assert_array_equal(view.get_mag(1).read()[0], voxels)


@pytest.mark.parametrize("again", ["tissue", "third"])
def test_killed_at_any_step_it_is_readable_and_goes_on(tmp_path, voxels, again):
    def begun(steps):
        dataset = wk.Dataset(tmp_path / f"{steps}", (1, 1, 1))
        layer = dataset.add_layer("em", "color", bounding_box=wk.BoundingBox((0, 0, 0), voxels.shape))
        layer.add_mag(1, chunk_shape=16, shard_shape=32).write(voxels)
        seen = []

        def kill(event, url):
            seen.append(event)
            if len(seen) > steps:
                raise Killed

        try:
            with observe(kill):
                layer.name = "tissue"
        except Killed:
            pass
        return dataset, len(seen)

    last = begun(100)[1]
    assert last >= 3
    for steps in range(last):
        found = wk.Dataset.open(begun(steps)[0].path)
        [layer] = found.layers.values()
        np.testing.assert_array_equal(layer.get_mag(1).read()[0], voxels)
        assert not layer.is_mag_view_foreign(1)
        layer.name = again
        assert document(found)["dataLayers"][0]["mags"][0]["path"] == f"./{again}/1"
        np.testing.assert_array_equal(wk.Dataset.open(found.path).get_layer(again).get_mag(1).read()[0], voxels)
        assert sorted(name for name in os.listdir(found.path) if name != ".wkdask") == sorted([again, NAME, "zarr.json"])


@pytest.mark.parametrize("wrong", ["", "a/b", "..", ".em", "a b", "seg", "there", 7])
def test_names_that_are_refused(dataset, layer, mag, tmp_path, wrong):
    dataset.add_layer("seg", "segmentation")
    (tmp_path / "ds" / "there").mkdir()
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file() and ".wkdask" not in p.parts}
    with pytest.raises(InputError):
        layer.name = wrong
    assert layer.name == "em"
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file() and ".wkdask" not in p.parts} == before


def test_where_no_name_can_be_changed(dataset, layer, mag, tmp_path):
    with pytest.raises(ReadOnlyError):
        wk.Dataset.open(tmp_path / "ds", read_only=True).get_layer("em").name = "b"
    remote = wk.Dataset("memory://names", (1, 1, 1)).add_layer("em", "color")
    with pytest.raises(DatasetError, match="local"):
        remote.name = "b"
    job = tmp_path / "ds" / ".wkdask" / "jobs" / "em"
    job.mkdir(parents=True)
    (job / "plan.json").write_text('{"fingerprint": "x", "name": "downsample", "settings": {}}')
    with pytest.raises(PlanRefusedError, match="'em'"):
        layer.name = "b"


def test_the_same_name_changes_nothing(dataset, layer, mag):
    before = document(dataset)
    layer.name = "em"
    assert document(dataset) == before
