"""Datasets on stores: what is asked for, and what may be a second old."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

import wkdask as wk
from tests.formats.served import serving
from wkdask.formats.kept import INDEXES
from wkdask.storage import Location

VOXELS = np.random.default_rng(0).integers(1, 255, (64, 64, 64)).astype("uint8")


def brain(folder: Path) -> wk.Layer:
    layer = wk.Dataset(str(folder / "brain"), voxel_size=(4, 4, 35)).add_layer(
        "color", "color", bounding_box=wk.BoundingBox((0, 0, 0), (64, 64, 64))
    )
    layer.add_mag(1).write(VOXELS)
    INDEXES.clear()
    return layer


def test_a_cut_out_asks_once_for_the_json(tmp_path: Path) -> None:
    brain(tmp_path)
    with serving(tmp_path) as served:
        mag = wk.Dataset.open(f"{served.url}/brain").get_layer("color").get_mag(1)
        mag.read(absolute_offset=(0, 0, 0), size=(32, 32, 32))
        served.forget()
        found = mag.read(absolute_offset=(32, 0, 0), size=(32, 32, 32))
        asked = Counter((method, path.rpartition("/")[2]) for method, path, _ in served.seen)
    np.testing.assert_array_equal(found[0], VOXELS[32:, :32, :32])
    assert asked == {("HEAD", "datasource-properties.json"): 1, ("GET", "0"): 1}


def test_what_others_changed_counts_for_the_next_read(tmp_path: Path) -> None:
    """Though it begins with what the JSON said before."""
    layer = brain(tmp_path)
    with serving(tmp_path) as served:
        mag = wk.Dataset.open(f"{served.url}/brain").get_layer("color").get_mag(1)
        np.testing.assert_array_equal(mag.read()[0], VOXELS)
        layer.bounding_box = wk.BoundingBox((8, 0, 0), (24, 64, 64))
        np.testing.assert_array_equal(mag.read()[0], VOXELS[8:32])

        document = tmp_path / "brain" / "datasource-properties.json"
        (tmp_path / "brain" / "color" / "1").rename(tmp_path / "brain" / "color" / "moved")
        document.write_text(document.read_text().replace("./color/1", "./color/moved"))
        np.testing.assert_array_equal(mag.read()[0], VOXELS[8:32])  # not the zeros of a place where nothing is any more

        layer.dataset.delete_layer("color")
        with pytest.raises(wk.errors.LayerNotFoundError):
            mag.read()
        document.unlink()
        with pytest.raises(wk.errors.DatasetNotFoundError):
            mag.read()


def test_a_read_that_fails_by_an_outdated_json_is_done_again(tmp_path: Path) -> None:
    layer = brain(tmp_path)
    with serving(tmp_path) as served:
        store = wk.Dataset.open(f"{served.url}/brain")._store
        before = store.properties
        layer.bounding_box = wk.BoundingBox((8, 0, 0), (24, 64, 64))
        seen = []

        def read() -> int:
            seen.append(store.properties)
            if seen[-1] == before:
                raise ValueError("outdated")
            return 7

        assert store.read(read) == 7 and len(seen) == 2
        before = store.properties
        with pytest.raises(ValueError, match="outdated"):
            store.read(read)
        assert len(seen) == 3


def test_voxels_are_asked_for_once_where_the_server_tells_no_versions(tmp_path: Path) -> None:
    brain(tmp_path)
    with serving(tmp_path) as served:
        served.version = lambda _: ""
        mag = wk.Dataset.open(f"{served.url}/brain").get_layer("color").get_mag(1)
        mag.read(absolute_offset=(0, 0, 0), size=(32, 32, 32))
        served.forget()
        mag.read(absolute_offset=(32, 0, 0), size=(32, 32, 32))
        asked = Counter(path.rpartition("/")[2] for method, path, _ in served.seen if method == "GET")
    assert asked["0"] == 2, asked  # index, which no version tells to be the same, and chunk


def test_opening_asks_once_for_the_json(tmp_path: Path) -> None:
    brain(tmp_path)
    with serving(tmp_path) as served:
        mag = wk.Dataset.open(f"{served.url}/brain").get_layer("color").get_mag(1)
        assert mag.bounding_box.size == (64, 64, 64) and mag.layer.dataset.name == "brain"
        assert [(method, path.rpartition("/")[2]) for method, path, _ in served.seen] == [("GET", "datasource-properties.json")]


def test_attributes_are_those_of_a_second_ago_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this process changed, and what was not there, is looked for at once."""
    brain(tmp_path)
    with serving(tmp_path) as served:
        dataset = wk.Dataset.open(f"{served.url}/brain")
        layer = dataset.get_layer("color")
        document = tmp_path / "brain" / "datasource-properties.json"
        said = document.read_text()
        document.write_text(said.replace('"width": 64', '"width": 32'))  # by others
        assert layer.bounding_box.size == (64, 64, 64)
        monkeypatch.setattr("wkdask.dataset.store.FRESH_SECONDS", 0.0)
        assert layer.bounding_box.size == (32, 64, 64)
        monkeypatch.undo()
        wk.Dataset.open(str(tmp_path / "brain")).get_layer("color").bounding_box = wk.BoundingBox((0, 0, 0), (48, 64, 64))
        assert layer.bounding_box.size == (48, 64, 64)

        document.write_text(document.read_text().replace('"name": "color"', '"name": "other"'))
        assert dataset.get_layer("other").name == "other"
        with pytest.raises(wk.errors.LayerNotFoundError):
            dataset.get_layer("color")
        with pytest.raises(wk.errors.MagNotFoundError):
            dataset.get_layer("other").get_mag(2)


def test_boxes_are_resized_by_what_the_json_says_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by that of a second ago: another process has let the box grow, and what it has written there must not come back."""
    place = Location(f"memory://{uuid4().hex}/brain")
    small, large = (wk.BoundingBox((0, 0, 0), (edge, 8, 8)) for edge in (8, 32))
    wk.Dataset(place, (4, 4, 35)).add_layer("color", "color", bounding_box=small).add_mag(1, chunk_shape=8, shard_shape=8)
    mine, other = (wk.Dataset.open(place).get_layer("color") for _ in range(2))
    monkeypatch.setattr("wkdask.dataset.store.last_change", lambda: 0)  # as of another process, it is not heard of
    monkeypatch.setattr("wkdask.dataset.store.FRESH_SECONDS", 100)
    assert mine.bounding_box == other.bounding_box == small
    other.bounding_box = large
    other.get_mag(1).write(np.full((32, 8, 8), 7, "uint8"))
    mine.bounding_box = wk.BoundingBox((0, 0, 0), (16, 8, 8))  # smaller than that, not larger than what we saw
    found = wk.Dataset.open(place).get_layer("color")
    found.bounding_box = large
    voxels = found.get_mag(1).read()[0]
    assert (voxels[:16] == 7).all() and not voxels[16:].any()
