"""Boxes of layers: arrays follow them, and what they leave out does not come back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import wkdask as wk
from tests.conftest import examples
from wkdask.dataset.resizing import beside, erase_beside
from wkdask.errors import InputError
from wkdask.formats import ArraySpec, Zarr3
from wkdask.geometry.grid import Box
from wkdask.storage import Location

FORMATS = ["zarr3", "zarr", "wkw", "n5", "neuroglancerPrecomputed"]
EDGE = 40
BOXES = st.tuples(*[st.tuples(st.integers(0, EDGE), st.integers(0, EDGE)).map(sorted)] * 3)


def box_of(ends) -> wk.BoundingBox:
    return wk.BoundingBox([a for a, _ in ends], [b - a for a, b in ends])


def volume(seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 255, (EDGE,) * 3).astype("uint8")


@pytest.mark.parametrize("data_format", FORMATS)
@settings(max_examples=examples(6), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(boxes=st.lists(BOXES, min_size=1, max_size=3))
def test_voxels_that_a_box_left_out_are_0_for_ever(tmp_path_factory, data_format, boxes):
    dataset = wk.Dataset(tmp_path_factory.mktemp("shrunk") / "ds", (1, 1, 1))
    whole = wk.BoundingBox((0, 0, 0), (EDGE,) * 3)
    layer = dataset.add_layer("em", "color", data_format=data_format, bounding_box=whole)
    shards = {"shard_shape": 32} if data_format in ("zarr3", "wkw") else {}
    fine, coarse = (layer.add_mag(mag, chunk_shape=8 if data_format == "wkw" else 16, **shards) for mag in (1, 4))
    data = volume()
    fine.write(data)
    coarse.write(data[::4, ::4, ::4])
    expected, expected_coarse = data.copy(), data[::4, ::4, ::4].copy()
    for ends in boxes:
        layer.bounding_box = box_of(ends)
        kept = np.zeros_like(expected, bool)
        kept[tuple(slice(a, b) for a, b in ends)] = True
        expected[~kept] = 0
        kept_coarse = np.zeros_like(expected_coarse, bool)
        kept_coarse[tuple(slice(a // 4, -(-b // 4)) for a, b in ends)] = True
        expected_coarse[~kept_coarse] = 0
    layer.bounding_box = whole
    np.testing.assert_array_equal(fine.read()[0], expected)
    if all(a < b for ends in boxes for a, b in ends):
        np.testing.assert_array_equal(coarse.read()[0], expected_coarse)


def test_shrinking_touches_nothing_beyond_the_box_that_was(tmp_path, monkeypatch):
    """Files of WKW reach far beyond it."""
    box = wk.BoundingBox((0, 0, 0), (EDGE,) * 3)
    layer = wk.Dataset(tmp_path / "ds", (1, 1, 1)).add_layer("em", "color", data_format="wkw", bounding_box=box)
    mag = layer.add_mag(1, chunk_shape=32, shard_shape=1024)
    mag.write(volume())
    written = []
    handle = type(mag.array.handle)
    write = handle.write
    monkeypatch.setattr(handle, "write", lambda self, box, data: (written.append(box), write(self, box, data))[1])
    layer.bounding_box = wk.BoundingBox((0, 0, 0), (16, 16, 16))
    assert sum(part.size for part in written) == EDGE**3 - 16**3
    np.testing.assert_array_equal(mag.read()[0], volume()[:16, :16, :16])


def test_arrays_end_with_the_box_again(layer, mag, voxels):
    layer.bounding_box = wk.BoundingBox((0, 0, 0), (20, 20, 20))
    assert [m.spec.shape[1:] for m in layer.mags.values()] == [(32, 32, 32), (32, 32, 32)]
    assert sorted(mag.array.handle.written_units()) == [(0, 0, 0, 0)]
    np.testing.assert_array_equal(mag.read(absolute_offset=(8, 4, 2), size=(12, 16, 18))[0], voxels[:12, :16, :18])
    assert layer.dataset.verify().ok


def test_growing_erases_nothing(layer, mag, voxels):
    layer.bounding_box = wk.BoundingBox((0, 0, 0), (100, 100, 100))
    layer.extend_bounding_box(wk.BoundingBox((0, 0, 0), (10, 10, 200)))
    assert layer.bounding_box == wk.BoundingBox((0, 0, 0), (100, 100, 200))
    np.testing.assert_array_equal(mag.read(absolute_offset=(8, 4, 2), size=voxels.shape)[0], voxels)


def test_boxes_below_0_change_nothing(layer, mag, voxels):
    with pytest.raises(InputError, match="below 0"):
        layer.bounding_box = wk.BoundingBox((-4, 0, 0), (8, 8, 8))
    np.testing.assert_array_equal(mag.read()[0], voxels)


def test_a_layer_of_some_channels_of_an_array_leaves_the_others(dataset, tmp_path):
    both = dataset.add_layer("both", "color", num_channels=2, bounding_box=wk.BoundingBox((0, 0, 0), (32, 32, 32)))
    array = both.add_mag(1, chunk_shape=16, shard_shape=32)
    data = np.random.default_rng(1).integers(1, 255, (2, 32, 32, 32)).astype("uint8")
    array.write(data)
    one = dataset.properties.layer("both").mags[0].updated(channel_index=1)
    properties = (
        dataset.properties.layer("both").model_copy(update={"mags": (one,)}).updated(element_class="uint8", num_channels=1)
    )
    dataset._store.update(lambda old: old.with_layer(properties))
    layer = dataset.get_layer("both")
    layer.bounding_box = wk.BoundingBox((0, 0, 0), (8, 32, 32))
    layer.bounding_box = wk.BoundingBox((0, 0, 0), (32, 32, 32))
    found = array.array.handle.read(array.spec.grid.box)
    np.testing.assert_array_equal(found[0], data[0])
    np.testing.assert_array_equal(found[1, :8], data[1, :8])
    assert not found[1, 8:].any()


@given(box=BOXES, kept=BOXES)
def test_what_is_beside(box, kept):
    grid = np.zeros((EDGE,) * 3, int)
    for part in beside(*(Box(*map(tuple, zip(*ends, strict=True))) for ends in (box, kept))):
        assert part.size
        grid[part.slices] += 1
    expected = np.zeros_like(grid)
    expected[tuple(slice(a, b) for a, b in box)] = 1
    if all(a < b for a, b in kept):
        expected[tuple(slice(a, b) for a, b in kept)] = 0
    np.testing.assert_array_equal(grid, expected)


def test_what_is_erased_has_the_fill_value(tmp_path):
    spec = ArraySpec((1, 32, 16, 16), "uint8", tuple("cxyz"), (1, 8, 8, 8), (1, 16, 16, 16), fill=7)
    array = Zarr3().create(Location(str(tmp_path / "em" / "1")), spec)
    array.write(spec.grid.box, np.ones(spec.shape, "uint8"))
    erase_beside(array, Box((0, 3, 0, 0), (1, 10, 16, 16)), spec.grid.box)
    found = array.read(spec.grid.box)
    assert (found[0, 3:10] == 1).all() and (found[0, :3] == 7).all() and (found[0, 10:] == 7).all()
    assert list(array.written_units()) == [(0, 0, 0, 0)]
