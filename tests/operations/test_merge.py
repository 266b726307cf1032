"""Layers laid over another one: voxels are those of numpy's where, whatever the tiles, formats and boxes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wkdask as wk
from tests.conftest import examples
from wkdask.errors import InputError, LayerExistsError, ReadOnlyError
from wkdask.formats import FORMATS
from wkdask.metadata import LayerProperties
from wkdask.operations import Running, Sampling, Storage
from wkdask.operations.presence import stored_voxels
from wkdask.operations.pyramid import new_arrays
from wkdask.operations.target import mag_properties
from wkdask.plan import ThreadPool
from wkdask.storage import Location

HERE = Path(__file__).parent
FLAT = Sampling(downsample=False)
KINDS = [("zarr3", "cxyz"), ("zarr3", "czyx"), ("wkw", "cxyz"), ("zarr", "czyx"), ("n5", "cxyz")]


def storage(data_format="zarr3", order="cxyz"):
    shard = (16, 16, 16) if FORMATS[data_format].sharded else (8, 8, 8)
    return Storage((8, 8, 8), shard, data_format=data_format, axis_order=order)


def add(dataset, name, box, *, kind=("zarr3", "cxyz"), channels=1, times=0, dtype="uint8", seed=0):
    """A layer whose voxels are 0 for a half."""
    axes = [("t", (0, times), 0)] if times else []
    layer = LayerProperties.new(name, "color", dtype, channels, kind[0], box, axes)
    if kind[1] != "cxyz":
        layer = layer.with_axis_order((*("t" for _ in axes), *kind[1]))
    target = Location.of(dataset.path)
    array = new_arrays(layer, target / name, [wk.Mag(1)], storage(*kind))[wk.Mag(1)]
    FORMATS[kind[0]].create(array.location, array.spec)
    layer = layer.with_mag(mag_properties(target, array, (1, 1, 1), kind[0]))
    dataset._store.update(lambda old: old.with_layer(layer))
    view = dataset.get_layer(name).get_mag(1)
    rng = np.random.default_rng(seed)
    voxels = rng.integers(1, 255, view.array.shape) * rng.integers(0, 2, view.array.shape)
    view.array.handle.write(view.array.box, voxels.astype(dtype))
    return dataset.get_layer(name)


SPAN = 40


def spread(layer):
    """All of space as (t, c, x, y, z), and which of it is the layer's."""
    array = layer.get_mag(1).array
    names = [axis for axis in ("t", "c", "x", "y", "z") if axis in array.axes]
    block = array.read(array.box).transpose([array.axes.index(axis) for axis in names])
    block = block if "t" in names else block[None]
    whole = np.zeros((*block.shape[:2], SPAN, SPAN, SPAN), block.dtype)
    inside = np.zeros(whole.shape, bool)
    at = tuple(
        slice(int(a), int(b)) for a, b in zip(layer.bounding_box.topleft_xyz, layer.bounding_box.bottomright_xyz, strict=True)
    )
    whole[:, :, *at], inside[:, :, *at] = block, True
    return whole, inside


boxes = st.tuples(st.tuples(*[st.integers(0, 15)] * 3), st.tuples(*[st.integers(1, 24)] * 3))


@settings(max_examples=examples(10))
@given(
    where=st.tuples(boxes, boxes, boxes, boxes),
    kinds=st.tuples(*[st.sampled_from(KINDS)] * 5),
    more=st.sampled_from([(1, 0), (3, 0), (1, 2)]),
    masked=st.sampled_from(["voxels", "layer", "layer of one channel"]),
    tile_bytes=st.sampled_from([1, 1 << 10, 1 << 12, 1 << 14, 1 << 26]),
    workers=st.integers(1, 9),
)
def test_voxels_are_those_of_where(where, kinds, more, masked, tile_bytes, workers):
    channels, times = more
    kinds = [("zarr3", order) for _, order in kinds] if times else kinds
    both = {"channels": channels, "times": times}
    with tempfile.TemporaryDirectory() as folder, mock.patch("wkdask.operations.derived.TILE_BYTES", tile_bytes):
        dataset = wk.Dataset(Path(folder) / "a", (4, 4, 35))
        low, mid, high = (
            add(dataset, name, box, kind=kind, seed=seed, **both)
            for seed, (name, box, kind) in enumerate(zip(["low", "mid", "high"], where, kinds, strict=False))
        )
        mask, values = None, {}
        if masked != "voxels":
            both = {"channels": 1, "times": 0} if masked != "layer" else both
            if times and masked == "layer":
                both = {"channels": 1, "times": times}
            mask = add(dataset, "mask", where[3], kind=kinds[3], dtype="uint16", seed=9, **both)
            values["mask"] = spread(mask)[0].any(axis=1, keepdims=True)
        plan = dataset.plan_merge_layers(
            "new", [high, mid], low, mask, storage=storage(*kinds[4]), sampling=FLAT, running=Running(workers)
        )
        assert plan.run(pool=ThreadPool(2)).failed == 0
        wanted, _ = spread(low)
        for layer in (mid, high):
            voxels, inside = spread(layer)
            counts = values.get("mask", voxels.any(axis=1, keepdims=True))
            wanted = np.where(counts & inside, voxels, wanted)
        new = dataset.get_layer("new")
        np.testing.assert_array_equal(spread(new)[0], wanted)
        spaces = [wk.BoundingBox.from_ndbbox(layer.bounding_box) for layer in (low, mid, high, new)]
        assert spaces[3] == spaces[0].extended_by(spaces[1]).extended_by(spaces[2])


@pytest.mark.parametrize("data_format", ["zarr3", "zarr", "n5", "wkw"])
def test_stored_zeros_erase_and_absent_ones_do_not(tmp_path, data_format):
    """What a volume annotation says of its fallback: bucket by bucket."""
    dataset = wk.Dataset(tmp_path / "a", (4, 4, 4))
    box = wk.BoundingBox((0, 0, 0), (32, 32, 16))
    below = dataset.add_layer("below", "segmentation", bounding_box=box)
    below.add_mag(1).write(np.full((32, 32, 16), 7, "uint8"))
    above = dataset.add_layer("above", "segmentation", bounding_box=box, data_format=data_format)
    shard = 16 if data_format in ("zarr3", "wkw") else 8
    view = above.add_mag(1, chunk_shape=8, shard_shape=shard)
    voxels = np.zeros((8, 8, 8), "uint8")
    voxels[0, 0, 0] = 3
    view.write(voxels, absolute_offset=(8, 0, 0))
    there = stored_voxels(view.array.handle, view.array.box)[0]
    edge = 16 if data_format == "wkw" else 8
    first = 0 if data_format == "wkw" else 8
    assert there[first : first + edge, :edge, :edge].all() and there.sum() == edge**3
    merged = dataset.merge_layers("merged", above, below, "stored", sampling=FLAT)
    wanted = np.full((32, 32, 16), 7)
    wanted[first : first + edge, :edge, :edge] = 0
    wanted[8, 0, 0] = 3
    np.testing.assert_array_equal(merged.get_mag(1).read()[0], wanted)
    plain = dataset.merge_layers("plain", above, below, sampling=FLAT)
    np.testing.assert_array_equal(plain.get_mag(1).read()[0], np.where(wanted == 3, 3, 7))
    turned = dataset.merge_layers("turned", above.lazy().flip("x"), below.lazy().flip("x"), "stored", sampling=FLAT)
    np.testing.assert_array_equal(turned.get_mag(1).read()[0], wanted[::-1])


def test_the_pyramid_is_that_of_a_new_layer(tmp_path):
    dataset = wk.Dataset(tmp_path / "a", (4, 4, 35))
    box = ((0, 0, 0), (32, 32, 16))
    merged = dataset.merge_layers("m", add(dataset, "a", box), add(dataset, "b", box, seed=1), storage=storage())
    assert [str(mag) for mag in merged.mags] == ["1", "2-2-1", "4-4-1"]
    found = merged.get_mag("4-4-1").read()
    merged.redownsample()
    np.testing.assert_array_equal(merged.get_mag("4-4-1").read(), found)


def test_what_does_not_fit_is_said(tmp_path):
    dataset = wk.Dataset(tmp_path / "a", (4, 4, 35))
    box = ((0, 0, 0), (9, 9, 9))
    low, wide, rgb = add(dataset, "low", box), add(dataset, "wide", box, dtype="uint16"), add(dataset, "rgb", box, channels=3)
    with pytest.raises(InputError, match="'wide' has the dtype uint16, but 'low'"):
        dataset.merge_layers("new", wide, low)
    with pytest.raises(InputError, match="'rgb' has the channels 3"):
        dataset.merge_layers("new", rgb, low)
    with pytest.raises(InputError, match="further axes"):
        dataset.merge_layers("new", add(dataset, "time", box, times=2), low)
    with pytest.raises(InputError, match="voxel size"):
        dataset.merge_layers("new", low.lazy().swap("x", "z"), low)
    with pytest.raises(InputError, match="no mask 'present'"):
        dataset.merge_layers("new", low, low, "present")
    with pytest.raises(InputError, match="2 masks were given for 1 layers"):
        dataset.merge_layers("new", [low], low, [None, None])
    with pytest.raises(LayerExistsError):
        dataset.merge_layers("wide", low, low)
    with pytest.raises(ReadOnlyError):
        wk.Dataset.open(tmp_path / "a", read_only=True).merge_layers("new", low, low)
    assert "new" not in dataset.layers


@pytest.mark.timeout(300)
def test_kill_after_changes(tmp_path, kill):
    dataset = wk.Dataset(tmp_path / "a", (4, 4, 35))
    add(dataset, "low", ((3, 5, 1), (9, 6, 5)))
    add(dataset, "high", ((1, 5, 1), (9, 6, 5)), seed=1)
    changes = kill(str(HERE / "kill_derived.py"), str(tmp_path / "a"), str(tmp_path / "runs"), "merge")
    assert 10 < changes < 200
