"""Finer magnifications of a coarse one: every voxel fills its whole block, whatever the tiles; runs go on when stopped."""

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
from wkdask.errors import InputError, MagExistsError, MagNotFoundError, PlanRefusedError, ReadOnlyError
from wkdask.formats import FORMATS
from wkdask.metadata import LayerProperties
from wkdask.operations import Running, Sampling, SamplingModes, Storage
from wkdask.operations.pyramid import new_arrays
from wkdask.operations.target import mag_properties
from wkdask.operations.upsample import Finer, plan_upsample
from wkdask.plan import ThreadPool
from wkdask.storage import Location

HERE = Path(__file__).parent
SMALL = {"chunk_shape": 8, "shard_shape": 16}
NAMES = list(FORMATS)


def stored(data_format, shard=16):
    """Storage in small pieces, as far as a format has them."""
    sharded = FORMATS[data_format].sharded
    return Storage((8, 8, 8), (shard,) * 3 if sharded else (8, 8, 8), data_format=data_format)


def make(folder, box, mag, *, dtype="uint8", data_format="zarr3", order="cxyz", channels=1, times=0, seed=0):
    """A dataset with one layer of one magnification, and its voxels in stored axes."""
    dataset = wk.Dataset(folder, (1, 1, 1))
    axes = [("t", (0, times), 0)] if times else []
    layer = LayerProperties.new("em", "color", dtype, channels, data_format, box, axes)
    if order != "cxyz":
        layer = layer.with_axis_order((*("t" for _ in axes), *order))
    mag = wk.Mag(mag)
    target = Location.of(folder)
    array = new_arrays(layer, target / "em", [mag], stored(data_format))[mag]
    form = FORMATS[data_format]
    form.create(array.location, array.spec)
    listed = mag_properties(target, array, mag.to_tuple(), data_format)
    dataset._store.update(lambda old: old.with_layer(layer.with_mag(listed)))
    view = dataset.get_layer("em").get_mag(mag)
    voxels = np.random.default_rng(seed).integers(1, 255, view.array.shape).astype(dtype)
    view.array.handle.write(view.array.box, voxels)
    return dataset.get_layer("em"), voxels


def repeated(voxels, axes, box, mag, finer):
    """Each voxel in its whole block, cut to the box rounded outwards: by numpy's repeat."""
    for axis, a, n, m, f in zip("xyz", *box, wk.Mag(mag), wk.Mag(finer), strict=True):
        at = axes.index(axis)
        voxels = np.repeat(voxels, m // f, axis=at)
        first = a // m * m // f
        voxels = voxels.take(range(a // f - first, -(-(a + n) // f) - first), axis=at)
    return voxels


def check(layer, voxels, box, mag, made):
    for finer in made:
        array = layer.get_mag(finer).array
        wanted = repeated(voxels, array.axes, box, mag, finer)
        np.testing.assert_array_equal(array.read(array.box), wanted, err_msg=finer)


def small_tiles(tile_bytes):
    return mock.patch("wkdask.operations.upsample.TILE_BYTES", tile_bytes)


boxes = st.tuples(st.tuples(*[st.integers(0, 21)] * 3), st.tuples(*[st.integers(1, 33)] * 3))


@settings(max_examples=examples(25))
@given(
    box=boxes,
    mag=st.tuples(*[st.sampled_from([1, 2, 4, 8, 16])] * 3),
    finest=st.tuples(*[st.sampled_from([1, 2, 4])] * 3),
    dtype=st.sampled_from(["uint8", "uint16", "uint32"]),
    kind=st.sampled_from([("zarr3", "cxyz"), ("zarr3", "czyx"), ("wkw", "cxyz"), ("zarr", "czyx"), ("n5", "cxyz")]),
    times=st.sampled_from([0, 2]),
    tile_bytes=st.sampled_from([1, 1 << 11, 1 << 15, 1 << 26]),
    shard=st.sampled_from([8, 16, 32]),
    workers=st.integers(1, 9),
)
def test_every_voxel_fills_its_block(box, mag, finest, dtype, kind, times, tile_bytes, shard, workers):
    finest = tuple(map(min, mag, finest))
    with tempfile.TemporaryDirectory() as folder, small_tiles(tile_bytes):
        times = times if kind[0] == "zarr3" else 0
        layer, voxels = make(Path(folder) / "ds", box, mag, dtype=dtype, data_format=kind[0], order=kind[1], times=times)
        finer, sampling = Finer(wk.Mag(mag), wk.Mag(finest)), Sampling(mode=SamplingModes.ISOTROPIC)
        plan = plan_upsample(
            Location.of(Path(folder) / "ds"),
            "em",
            finer,
            storage=stored(kind[0], shard),
            sampling=sampling,
            running=Running(workers),
        )
        made = plan.settings["mags"]
        assert (str(wk.Mag(finest)) in made) == (mag != finest)
        if made:
            assert plan.run(pool=ThreadPool(2)).failed == 0
        check(layer, voxels, box, mag, made)
        assert {str(found) for found in layer.mags} == {*made, str(wk.Mag(mag))}


@pytest.mark.parametrize("data_format", NAMES)
def test_all_formats_by_factors_of_4_and_8(tmp_path, data_format):
    box = ((3, 5, 1), (29, 18, 11))
    layer, voxels = make(tmp_path / "ds", box, "8-4-2", data_format=data_format)
    layer.upsample("8-4-2", "1-1-1", sampling_mode="isotropic", chunk_shape=8, shard_shape=stored(data_format).shard)
    check(layer, voxels, box, "8-4-2", ["1"])
    assert layer.bounding_box == wk.BoundingBox(*box)


@pytest.mark.parametrize(
    ("size", "made"), [((11, 11, 25), ["8-8-4", "4-4-2", "2-2-1", "1"]), ((1, 1, 1), ["8", "4", "2", "1"])]
)
def test_mags_are_those_of_the_way_up_reversed(tmp_path, size, made):
    dataset = wk.Dataset(tmp_path / "ds", size)
    layer = dataset.add_layer("em", "color", bounding_box=wk.BoundingBox((0, 0, 0), (32, 32, 32)))
    layer.add_mag(16, **SMALL)
    assert plan_upsample(Location.of(tmp_path / "ds"), "em", Finer(wk.Mag(16))).settings["mags"] == made


def test_mags_of_other_layers_are_taken(tmp_path):
    layer, _ = make(tmp_path / "ds", ((0, 0, 0), (32, 32, 32)), "8")
    other = wk.Dataset.open(tmp_path / "ds").add_layer("cells", "segmentation", bounding_box=layer.bounding_box)
    other.add_mag("2-2-1")
    assert layer.plan_upsample(Finer(wk.Mag(8))).settings["mags"] == ["4", "2", "1"]
    layer.upsample(8, **SMALL)
    assert [str(mag) for mag in layer.mags] == ["1", "2-2-1", "4", "8"]


@settings(max_examples=examples(12))
@given(factor=st.tuples(*[st.sampled_from([1, 2, 4])] * 3), cells=st.tuples(*[st.integers(1, 5)] * 3))
def test_nearest_of_upsampled_is_what_it_was(factor, cells):
    """Where the box is made of whole coarse voxels."""
    if factor == (1, 1, 1):
        return
    with tempfile.TemporaryDirectory() as folder:
        box = (tuple(f * 3 for f in factor), tuple(f * n for f, n in zip(factor, cells, strict=True)))
        layer, voxels = make(Path(folder) / "ds", box, factor)
        layer.upsample(factor, **SMALL, sampling_mode="isotropic")
        layer.downsample_mag(1, factor, "nearest", allow_overwrite=True)
        np.testing.assert_array_equal(layer.get_mag(factor).read(), voxels)


def test_channels_in_a_shared_array(tmp_path):
    layer, voxels = make(tmp_path / "ds", ((2, 0, 0), (14, 9, 5)), "2", channels=3)
    layer.upsample(2, **SMALL)
    check(layer, voxels, ((2, 0, 0), (14, 9, 5)), "2", ["1"])


def test_a_magnification_that_exists_is_kept_or_made_anew(tmp_path):
    box = ((1, 2, 3), (20, 20, 20))
    layer, voxels = make(tmp_path / "ds", box, "4")
    layer.add_mag(2, **SMALL).write(np.full((11, 10, 11), 9, "uint8"))
    with pytest.raises(MagExistsError, match="a magnification 2 already"):
        layer.upsample(4)
    assert int(layer.get_mag(2).read().min()) == 9
    layer.upsample(4, allow_overwrite=True)
    check(layer, voxels, box, "4", ["2", "1"])
    with pytest.raises(InputError, match="has the chunk"):
        layer.upsample(4, chunk_shape=32, allow_overwrite=True)


def test_what_can_not_be_made_is_said(tmp_path):
    layer, _ = make(tmp_path / "ds", ((0, 0, 0), (16, 16, 16)), "4-4-1")
    with pytest.raises(MagNotFoundError, match="no magnification 8"):
        layer.upsample(8)
    with pytest.raises(InputError, match="coarser than mag 4-4-1 of layer 'em' along an axis"):
        layer.upsample("4-4-1", "2-2-2")
    with pytest.raises(ReadOnlyError):
        wk.Dataset.open(tmp_path / "ds", read_only=True).get_layer("em").upsample("4-4-1")
    layer.upsample("4-4-1", "4-4-1")
    assert [str(mag) for mag in layer.mags] == ["4-4-1"]


class Stop(BaseException):
    """Ends a run in the middle, as a kill would, but in this process."""


def test_another_run_is_refused_until_the_first_is_done_or_given_up(tmp_path):
    box = ((0, 0, 0), (32, 32, 32))
    layer, voxels = make(tmp_path / "ds", box, "4")

    def tell(plan, report, receipt):
        if report.done >= 3:
            raise Stop

    with pytest.raises(Stop), small_tiles(1):
        layer.plan_upsample(Finer(wk.Mag(4)), **SMALL, running=Running(1)).run(progress=tell, pool=ThreadPool(1))
    with pytest.raises(PlanRefusedError):
        layer.upsample(4, chunk_shape=16, shard_shape=16)
    layer.upsample(4, chunk_shape=16, shard_shape=16, allow_overwrite=True)
    check(layer, voxels, box, "4", ["2", "1"])
    assert layer.get_mag(1).spec.chunk == (1, 16, 16, 16)


@pytest.mark.timeout(300)
def test_kill_after_changes(tmp_path, kill):
    dataset = wk.Dataset(tmp_path / "whole", (4, 4, 4))
    layer = dataset.add_layer("color", "color", bounding_box=wk.BoundingBox((3, 5, 1), (17, 6, 4)))
    layer.add_mag(4, **SMALL).write(np.random.default_rng(0).integers(1, 255, (5, 2, 2)).astype("uint8"))
    changes = kill(str(HERE / "kill_derived.py"), str(tmp_path / "whole"), str(tmp_path / "runs"), "upsample")
    assert 15 < changes < 200
