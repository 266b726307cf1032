"""The verbs by which a dataset takes in what was computed."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest

import wkdask as wk
from wkdask.errors import InputError, ReadOnlyError


def test_store_into_an_open_dataset(dataset, voxels):
    layer = wk.store(da.from_array(voxels, chunks=11), dataset, "em", chunk_shape=16, shard_shape=32)
    assert isinstance(layer, wk.Layer)
    assert np.array_equal(dataset.get_layer("em").get_mag(1).read()[0], voxels)
    assert layer.get_mag(1).spec.unit == (1, 32, 32, 32)


def test_segmentations_know_their_largest_id(dataset, voxels):
    layer = wk.store(voxels.astype("uint32"), dataset, "labels", category="segmentation")
    assert isinstance(layer, wk.SegmentationLayer)
    assert layer.largest_segment_id == voxels.max()


def test_other_mags_and_voxels_of_a_layer_that_is_there(dataset, voxels):
    wk.store(voxels, dataset, "em", downsample=True, coarsest_mag=2)
    layer = wk.store(voxels + 1, dataset, "em", allow_overwrite=True)
    assert np.array_equal(layer.get_mag(1).read()[0], voxels + 1)
    coarse = layer.get_mag("2-2-1").read()[0]
    layer.write_dask(coarse[:, :, ::2], 2, absolute_offset=(0, 0, 0))
    assert [str(mag) for mag in layer.mags] == ["1", "2-2-1", "2"]
    assert np.array_equal(layer.get_mag(2).read()[0], coarse[:, :, ::2])


def test_read_only_datasets_are_left_alone(mag, layer, voxels):
    closed = wk.Dataset.open(layer._store.location, read_only=True)
    with pytest.raises(ReadOnlyError):
        wk.store(voxels, closed, "new")
    with pytest.raises(ReadOnlyError):
        closed.get_layer("em").write_dask(voxels, 4)
    with pytest.raises(ReadOnlyError):
        closed.get_layer("em").map_blocks(np.invert)


def test_plans_do_nothing_by_themselves(dataset, voxels):
    plan = wk.store(voxels, dataset, "em", compute=False)
    assert plan.tasks and not dataset.layers
    layer = dataset.add_layer("b", "color")
    assert layer.write_dask(voxels, compute=False).tasks and not layer.mags
    plan.run()
    assert list(dataset.layers) == ["b", "em"]


def test_unknown_options_are_refused(layer, voxels):
    with pytest.raises(InputError, match="no option axis"):
        layer.write_dask(voxels, axis="xyz")


def test_the_sum_of_two_layers_whatever_their_chunks(mag, layer, dataset, voxels):
    other = wk.store(voxels, dataset, "other", absolute_offset=(8, 4, 2), chunk_shape=8, shard_shape=64).get_mag(1)
    total = dataset.add_layer("sum", "color", dtype="uint16").write_dask(
        mag.to_dask().astype("uint16") + other.to_dask(), absolute_offset=(8, 4, 2)
    )
    assert np.array_equal(total.read()[0], voxels.astype("uint16") * 2)
