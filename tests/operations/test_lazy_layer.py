"""Layers seen in other places, and stored: voxels are those that numpy moves, in every magnification, whatever the tiles."""

from __future__ import annotations

import pickle
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
from wkdask.operations import Running, Storage
from wkdask.operations.pyramid import new_arrays
from wkdask.operations.target import mag_properties
from wkdask.operations.views import cast_exactly
from wkdask.plan import ThreadPool
from wkdask.storage import Location

HERE = Path(__file__).parent
EDGE = 64
KINDS = [("zarr3", "cxyz"), ("zarr3", "czyx"), ("wkw", "cxyz"), ("zarr", "czyx"), ("n5", "cxyz")]


def storage(data_format, order="cxyz", shard=16):
    return Storage(
        (8, 8, 8), (shard,) * 3 if FORMATS[data_format].sharded else (8, 8, 8), data_format=data_format, axis_order=order
    )


def make(folder, box, *, kind=("zarr3", "cxyz"), channels=1, times=0, mags=("1",), dtype="uint8", seed=0):
    """A layer with noise in each of some magnifications, not made of each other, so that any exchange is noticed."""
    dataset = wk.Dataset(folder, (4, 4, 35), exist_ok=True)
    axes = [("t", (0, times), 0)] if times else []
    layer = LayerProperties.new("em", "color", dtype, channels, kind[0], box, axes)
    if kind[1] != "cxyz":
        layer = layer.with_axis_order((*("t" for _ in axes), *kind[1]))
    arrays = new_arrays(layer, Location.of(folder) / "em", list(map(wk.Mag, mags)), storage(*kind))
    for mag, array in arrays.items():
        FORMATS[kind[0]].create(array.location, array.spec)
        layer = layer.with_mag(mag_properties(Location.of(folder), array, mag.to_tuple(), kind[0]))
    dataset._store.update(lambda old: old.with_layer(layer))
    rng = np.random.default_rng(seed)
    for view in dataset.get_layer("em").mags.values():
        view.array.handle.write(view.array.box, rng.integers(1, 255, view.array.shape).astype(dtype))
    return dataset.get_layer("em")


def canonical(array):
    """All voxels of a magnification as (t, c, x, y, z)."""
    names = [axis for axis in ("t", "c", "x", "y", "z") if axis in array.axes]
    block = array.read(array.box).transpose([array.axes.index(axis) for axis in names])
    return block if "t" in names else block[None]


class Canvas:
    """What numpy makes of it: all of space, with nan where there is no layer."""

    def __init__(self, layer):
        box = layer.bounding_box
        voxels = canonical(layer.get_finest_mag().array)
        self.start, self.voxels = tuple(box.topleft_xyz), voxels

    def crop(self, box):
        ends = zip(self.start, self.voxels.shape[2:], box.topleft, box.bottomright, strict=True)
        cut = [(max(a, lo), min(a + n, hi)) for a, n, lo, hi in ends]
        at = tuple(slice(lo - a, hi - a) for (lo, hi), a in zip(cut, self.start, strict=True))
        self.voxels, self.start = self.voxels[:, :, *at], tuple(lo for lo, _ in cut)

    def flip(self, axis):
        self.voxels = np.flip(self.voxels, 2 + "xyz".index(axis))

    def swap(self, a, b):
        i, j = "xyz".index(a), "xyz".index(b)
        self.voxels, start = np.swapaxes(self.voxels, 2 + i, 2 + j), list(self.start)
        start[i], start[j] = start[j], start[i]
        self.start = tuple(start)

    def translate(self, by):
        self.start = tuple(a + b for a, b in zip(self.start, by, strict=True))


names = st.sampled_from("xyz")
operations = st.one_of(
    st.tuples(st.just("flip"), names),
    st.tuples(st.just("swap"), names, names),
    st.tuples(st.just("translate"), st.tuples(*[st.integers(0, 9)] * 3)),
    st.tuples(st.just("crop"), st.tuples(*[st.integers(0, 12)] * 3), st.tuples(*[st.integers(1, 30)] * 3)),
)


def moved(layer, steps):
    """A layer after some operations, and what numpy makes of it; crops are relative, and such as meet the box."""
    lazy, canvas = layer.lazy(), Canvas(layer)
    for verb, *how in steps:
        if verb == "crop":
            box = lazy.bounding_box
            corner = [t + min(o, n - 1) for t, o, n in zip(box.topleft_xyz, how[0], box.size_xyz, strict=True)]
            how[:] = [wk.BoundingBox(corner, how[1])]
        lazy = getattr(lazy, verb)(*how)
        getattr(canvas, verb)(*how)
    return lazy, canvas


boxes = st.tuples(st.tuples(*[st.integers(0, 9)] * 3), st.tuples(*[st.integers(1, 25)] * 3))


@settings(max_examples=examples(25))
@given(
    box=boxes,
    steps=st.lists(operations, max_size=6),
    kind=st.sampled_from(KINDS),
    to=st.sampled_from([*KINDS, ("neuroglancerPrecomputed", "cxyz")]),
    more=st.sampled_from([(1, 0), (3, 0), (1, 2)]),
    tile_bytes=st.sampled_from([1, 1 << 10, 1 << 12, 1 << 14, 1 << 26]),
    workers=st.integers(1, 9),
)
def test_voxels_are_where_numpy_moves_them(box, steps, kind, to, more, tile_bytes, workers):
    channels, times = more
    if times:
        kind, to = ("zarr3", kind[1]), ("zarr3", to[1])
    with tempfile.TemporaryDirectory() as folder, mock.patch("wkdask.operations.derived.TILE_BYTES", tile_bytes):
        lazy, canvas = moved(make(Path(folder) / "a", box, kind=kind, channels=channels, times=times), steps)
        start, size = canvas.start, canvas.voxels.shape[2:]
        assert (lazy.bounding_box.topleft_xyz, lazy.bounding_box.size_xyz) == (start, size)
        seen = lazy.read()
        np.testing.assert_array_equal(seen, canvas.voxels if times else canvas.voxels[0])
        lazily = lazy.to_xarray()
        np.testing.assert_array_equal(lazily.values, seen)
        np.testing.assert_allclose(lazily.x.values[0], (start[0] + 0.5) * lazy.voxel_size.factor[0])
        around = wk.BoundingBox([a - 2 for a in start], [n + 3 for n in size])
        padded = np.pad(seen, [(0, 0)] * (seen.ndim - 3) + [(2, 1)] * 3)
        np.testing.assert_array_equal(lazy.read(around), padded)
        plan = lazy.plan_store(Path(folder) / "b", "new", False, storage=storage(*to), running=Running(workers))
        assert plan.run(pool=ThreadPool(2)).failed == 0
        stored = wk.Dataset.open(Path(folder) / "b").get_layer("new")
        found = stored.bounding_box
        assert (found.topleft_xyz, found.size_xyz, stored.num_channels) == (start, size, channels)
        np.testing.assert_array_equal(canonical(stored.get_mag(1).array), canvas.voxels)


@settings(max_examples=examples(15))
@given(
    box=boxes,
    by=st.tuples(*[st.sampled_from([0, 1, 2, 4, 8])] * 3),
    turns=st.lists(names, max_size=3),
    cut=st.tuples(*[st.integers(0, 4)] * 3),
)
def test_magnifications_are_kept_where_they_lie_on_their_grid(box, by, turns, cut):
    with tempfile.TemporaryDirectory() as folder:
        layer = make(Path(folder) / "a", box, mags=("1", "2", "4"))
        steps = [("translate", by), *(("flip", axis) for axis in turns), ("crop", cut, (99, 99, 99)), ("swap", "x", "z")]
        lazy, canvas = moved(layer, steps)
        lazy.store(Path(folder) / "b", "new", "keep", storage=storage("zarr3"))
        stored = wk.Dataset.open(Path(folder) / "b").get_layer("new")
        assert [str(mag) for mag in stored.mags] == ["1", "2", "4"]
        again = wk.Dataset(Path(folder) / "c", tuple(stored.voxel_size))
        single = moved(layer, steps)[0]
        single.store(again, "new", False, storage=storage("zarr3"))
        rebuilt = again.get_layer("new")
        rebuilt.downsample_mag_list(1, ["2", "4"])
        for mag in (2, 4):
            found = canonical(stored.get_mag(mag).array)
            if wk.Mag(mag) in lazy.mags:
                whole = canonical(layer.get_mag(mag).array)
                for axis in ("x", "y", "z"):
                    at = 2 + "xyz".index(axis)
                    whole = np.flip(whole, at) if turns.count(axis) % 2 else whole
                start = [(t + b) // mag for t, b in zip(box[0], by, strict=True)]
                inside = [t // mag for t in (lazy.bounding_box.topleft[i] for i in (2, 1, 0))]
                at = tuple(slice(i - s, i - s + n) for i, s, n in zip(inside, start, found.shape[:1:-1], strict=True))
                np.testing.assert_array_equal(found, np.swapaxes(whole[:, :, *at], 2, 4))
            elif wk.Mag(2) not in lazy.mags:
                np.testing.assert_array_equal(found, canonical(rebuilt.get_mag(mag).array))


def test_a_copy_keeps_everything(tmp_path):
    layer = make(tmp_path / "a", ((3, 5, 1), (30, 14, 9)), mags=("1", "2", "4"))
    assert [str(mag) for mag in layer.lazy().mags] == ["1", "2", "4"]
    layer.lazy().store(tmp_path / "b", "copy", "keep")
    copy = wk.Dataset.open(tmp_path / "b").get_layer("copy")
    for mag in (1, 2, 4):
        np.testing.assert_array_equal(copy.get_mag(mag).read(), layer.get_mag(mag).read())


def test_coarser_ones_are_made_as_for_a_new_layer(tmp_path):
    layer = make(tmp_path / "a", ((0, 0, 0), (32, 32, 16)))
    layer.lazy().flip("y").store(tmp_path / "b", "em", storage=storage("zarr3"))
    stored = wk.Dataset.open(tmp_path / "b").get_layer("em")
    assert [str(mag) for mag in stored.mags] == ["1", "2-2-1", "4-4-1"]
    found = stored.get_mag("4-4-1").read()
    stored.redownsample()
    np.testing.assert_array_equal(stored.get_mag("4-4-1").read(), found)
    assert found.any()


def test_the_finest_magnification_stays_on_its_grid(tmp_path):
    layer = make(tmp_path / "a", ((4, 4, 4), (17, 16, 16)), mags=("2",)).lazy()
    with pytest.raises(InputError, match=r"moved by \(1, 0, 0\).*mag 2 would lie between"):
        layer.translate((1, 0, 0))
    with pytest.raises(InputError, match="flipped along x"):
        layer.flip("x")
    assert layer.flip("y").translate((2, 0, 4)).read().shape == (1, 9, 8, 8)


def test_casts_are_exact_or_refused(tmp_path):
    layer = make(tmp_path / "a", ((0, 0, 0), (9, 9, 9)), dtype="uint16").lazy()
    np.testing.assert_array_equal(layer.cast("uint8").read(), layer.read())
    assert layer.cast("uint8").read().dtype == "uint8"
    layer.cast("float32").store(tmp_path / "b", "new", False)
    assert wk.Dataset.open(tmp_path / "b").get_layer("new").dtype == "float32"
    big = make(tmp_path / "c", ((0, 0, 0), (9, 9, 9)), dtype="uint16")
    big.get_mag(1).write(np.full((1, 1, 1), 256, "uint16"))
    with pytest.raises(InputError, match="A voxel is 256, which uint8 can not hold"):
        big.lazy().cast("uint8").read()
    with pytest.raises(InputError):
        layer.cast("complex64")


def test_what_can_not_be_seen_or_stored_is_said(tmp_path):
    source = make(tmp_path / "a", ((3, 3, 3), (9, 9, 9)), mags=("1", "4"))
    layer = source.lazy()
    with pytest.raises(InputError, match="no voxel in common"):
        layer.crop(wk.BoundingBox((12, 0, 0), (5, 5, 5)))
    with pytest.raises(InputError, match="no axis 'c'"):
        layer.flip("c")
    with pytest.raises(InputError, match="Mag 4 can not be seen; 1 can"):
        layer.translate((1, 0, 0)).read(mag=4)
    with pytest.raises(InputError, match="can not begin below 0"):
        layer.translate((-4, 0, 0)).store(tmp_path / "b", "new")
    with pytest.raises(InputError, match="has voxels of"):
        layer.swap("x", "z").store(tmp_path / "a", "new")
    with pytest.raises(LayerExistsError):
        layer.store(tmp_path / "a", "em")
    with pytest.raises(ReadOnlyError):
        layer.store(wk.Dataset.open(tmp_path / "a", read_only=True), "new")
    with pytest.raises(InputError, match="no magnification"):
        wk.Dataset.open(tmp_path / "a").add_layer("empty", "color").lazy()
    assert pickle.loads(pickle.dumps(layer)).bounding_box == layer.bounding_box


def test_words_of_the_json_that_still_hold_are_kept(tmp_path):
    layer = make(tmp_path / "a", ((0, 0, 0), (16, 16, 8)))
    said = {
        "coordinateTransformations": [{"type": "affine", "matrix": [[1, 0], [0, 1]]}],
        "adminViewConfiguration": {"alpha": 7},
    }
    changed = LayerProperties.from_dict({**layer.properties.to_dict(), **said}, "em")
    layer._store.update(lambda old: old.with_layer(changed))
    part = layer.lazy().crop(wk.BoundingBox((2, 2, 2), (8, 8, 4)))
    views = {"cropped": part, "back": part.translate((4, 0, 0)).translate((-4, 0, 0)).flip("z").flip("z")}
    views |= {"moved": part.translate((0, 0, 8)), "flipped": part.flip("x"), "turned": part.swap("x", "y")}
    for name, view in views.items():
        view.store(tmp_path / name, "em", downsample=False)
        found = wk.Dataset.open(tmp_path / name).get_layer("em").properties.to_dict()
        assert found["adminViewConfiguration"] == said["adminViewConfiguration"]
        kept = said["coordinateTransformations"] if name in ("cropped", "back") else None
        assert found.get("coordinateTransformations") == kept, name


@pytest.mark.timeout(300)
def test_kill_after_changes(tmp_path, kill):
    make(tmp_path / "a", ((3, 5, 1), (9, 6, 5)), mags=("1", "2", "4"))
    changes = kill(str(HERE / "kill_derived.py"), str(tmp_path / "a"), str(tmp_path / "runs"), "store")
    assert 15 < changes < 200


@given(st.integers(-(1 << 63), (1 << 64) - 1) | st.integers(-(1 << 25), 1 << 25), st.sampled_from(["float32", "float64"]))
def test_whole_numbers_become_floats_only_where_these_hold_them(value, dtype):
    block = np.array([value], "uint64" if value >= 1 << 63 else "int64")
    exact = int(np.dtype(dtype).type(block[0])) == value
    if exact:
        assert int(cast_exactly(block, np.dtype(dtype))[0]) == value
    else:
        with pytest.raises(InputError, match=str(value)):
            cast_exactly(block, np.dtype(dtype))
