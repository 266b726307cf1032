"""Functions over blocks: equal to the function of the whole layer wherever the halo is deep enough."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wkdask as wk
from tests.conftest import examples
from wkdask.errors import InputError, LayerExistsError, PlanRefusedError
from wkdask.operations.store_map import BlockMap
from wkdask.plan import ThreadPool

SMALL = {"chunk_shape": 8, "shard_shape": 16}


def voxels(shape, dtype="uint8", seed=0):
    return np.random.default_rng(seed).integers(1, 200, shape).astype(dtype)


def box_filter(block, reach):
    """Mean over a cube of neighbours, by sums of shifted blocks; wraps at the ends."""
    total = np.zeros(block.shape, "float32")
    for axis in (1, 2, 3):
        source = block.astype("float32") if axis == 1 else total
        total = sum(np.roll(source, step, axis) for step in range(-reach, reach + 1))
    return total


def whole(volume, reach):
    """What `box_filter` makes of a volume whose ends are mirrors."""
    padded = np.pad(volume[None], [(0, 0), *[(reach, reach)] * 3], mode="symmetric")
    return box_filter(padded, reach)[(slice(None), *[slice(reach, -reach)] * 3)][0]


@pytest.fixture
def layer(tmp_path):
    return wk.store(voxels((37, 21, 18)), tmp_path / "ds", "em", voxel_size=(4, 4, 35), absolute_offset=(3, 8, 1), **SMALL)


@settings(max_examples=examples(10))
@given(data=st.data())
def test_equal_to_the_function_of_the_whole(data, tmp_path_factory):
    shape = data.draw(st.tuples(*[st.integers(4, 35)] * 3))
    reach, volume = data.draw(st.integers(1, 4)), voxels(shape)
    offset = data.draw(st.tuples(*[st.integers(0, 20)] * 3))
    folder = tmp_path_factory.mktemp("map")
    layer = wk.store(volume, folder, "em", voxel_size=(4, 4, 35), absolute_offset=offset, **SMALL)
    mapping = BlockMap(lambda block: box_filter(block, reach), "mean", depth=reach, chunks=(8, 16, 8))
    plan = layer.plan_map_blocks(mapping, downsample=True, **SMALL)
    plan.run()
    made = wk.Dataset.open(folder).get_layer("mean")
    assert made.dtype == "float32" and made.bounding_box == layer.bounding_box
    assert np.array_equal(made.get_mag(1).read()[0], whole(volume, reach))
    assert wk.Dataset.open(folder).verify().ok


def test_on_dask_too(layer):
    plan = layer.plan_map_blocks(BlockMap(lambda block: block // 2, "half", chunks=(16, 8, 8)), **SMALL)
    plan.compute(scheduler="threads", num_workers=2)
    assert np.array_equal(
        wk.Dataset.open(layer._store.location).get_layer("half").get_mag(1).read()[0], voxels((37, 21, 18)) // 2
    )


def test_one_line(layer):
    made = layer.map_blocks(np.clip, a_min=20, a_max=90)
    assert made.name == "em_clip"
    assert np.array_equal(made.get_mag(1).read()[0], np.clip(voxels((37, 21, 18)), 20, 90))
    with pytest.raises(LayerExistsError):
        layer.map_blocks(np.clip, a_min=20, a_max=90)


def test_channels_axes_and_coarser_mags(tmp_path):
    volume = voxels((2, 3, 20, 17, 9))
    layer = wk.store(volume, tmp_path / "ds", "t", voxel_size=(4, 4, 4), axes="tcxyz", downsample=True, **SMALL)
    mag = [*layer.mags][1]
    made = layer.map_blocks(lambda block: block + 1, name="more", mag=mag)
    assert list(made.mags) == [mag]
    assert np.array_equal(made.get_mag(mag).read(), layer.get_mag(mag).read() + 1)


def test_labels_of_a_threshold(layer):
    made = layer.map_blocks(lambda block: block > 100, name="bright", category="segmentation")
    assert (made.dtype, made.largest_segment_id) == ("uint8", 1)
    assert np.array_equal(made.get_mag(1).read()[0], voxels((37, 21, 18)) > 100)


@pytest.mark.parametrize(
    ("function", "options", "said"),
    [
        (lambda block: block[:, 1:], {"depth": 1}, r"\(1, 9, 10, 10\) of one of the shape \(1, 10, 10, 10\)"),
        (lambda block: block.sum(), {}, r"shape \(\)"),
        (lambda block: block / 2, {}, "float64; a color layer"),
        (lambda block: block.astype("uint16"), {"dtype": "uint8"}, "uint16, which uint8 can not hold"),
        (lambda block: block, {"depth": {"w": 1}}, "'w'"),
        (lambda block: block, {"depth": -1}, "-1"),
        (lambda block: block, {"chunks": 9}, "whole chunks"),
    ],
)
def test_what_does_not_fit_is_refused(function, options, said, layer):
    with pytest.raises(InputError, match=said):
        layer.map_blocks(function, name="new", **options)
    assert list(wk.Dataset.open(layer._store.location).layers) == ["em"]


def test_float64_may_become_float32(layer):
    assert layer.map_blocks(np.sqrt, dtype="float32").dtype == "float32"


class Stop(BaseException):
    """Ends a run in the middle."""


def test_a_stopped_run_goes_on_or_gives_way(layer):
    def tell(plan, report, receipt):
        if report.done >= 4:
            raise Stop

    def plan(function):
        return layer.plan_map_blocks(BlockMap(function, "new", chunks=(8, 8, 8)), **SMALL)

    with pytest.raises(Stop):
        plan(np.invert).run(progress=tell, pool=ThreadPool(1))
    assert "given up" in plan(np.negative).notes[0]
    assert not plan(np.invert).notes
    with pytest.raises(PlanRefusedError, match="another one"):
        wk.store(np.zeros((8, 8, 8), "uint8"), layer._store.location, "new")
    report = plan(np.invert).run()
    assert report.kept >= 4
    assert np.array_equal(wk.Dataset.open(layer._store.location).get_layer("new").get_mag(1).read()[0], ~voxels((37, 21, 18)))
