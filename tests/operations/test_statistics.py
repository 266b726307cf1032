"""Statistics of voxels and of segments, against numpy."""

from __future__ import annotations

import tracemalloc

import dask
import fsspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wkdask as wk
from tests.conftest import examples
from wkdask.arrays import MagArray
from wkdask.errors import InputError
from wkdask.formats import FORMATS, ArraySpec, find_format
from wkdask.geometry.grid import Box
from wkdask.operations import blocks as blocks_module
from wkdask.operations import segments
from wkdask.operations.blocks import Blocks
from wkdask.operations.segments import largest_id, segment_table, table_of
from wkdask.operations.statistics import VoxelStatistics
from wkdask.storage import Location
from wkdask.testing.strategies import voxels

SHAPE = (1, 23, 17, 12)
BOX = Box((0, 3, 1, 0), (1, 22, 17, 11))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Many blocks, slabs that end within one, and a tree of several levels."""
    from wkdask.operations import statistics

    monkeypatch.setattr(blocks_module, "BLOCK_BYTES", 512)
    monkeypatch.setattr(blocks_module, "FAN_IN", 3)
    monkeypatch.setattr(statistics, "SLAB", 100)
    monkeypatch.setattr(segments, "SLAB", 37)
    with dask.config.set(scheduler="sync"):
        yield


def stored(place, data, form="zarr3", axes=("c", "x", "y", "z"), box=BOX):
    """An array that holds some voxels; of a block that is 0, nothing is stored."""
    unit = 8 if find_format(form).sharded else 4
    units = (1, unit, unit, unit)
    whole = tuple(-(-n // u) * u for n, u in zip(data.shape, units, strict=True))
    shape = data.shape if find_format(form).exact else whole
    spec = ArraySpec(shape, str(data.dtype), axes, (1, 4, 4, 4), units, find_format(form).usual_codec)
    handle = find_format(form).create(place, spec)
    handle.write(Box((0,) * 4, data.shape), data)
    return MagArray(handle, (1, 1, 1), box)


numbers = iter(range(10**9))


def place():
    """A new folder; those before it go, as looking for a file in a full memory takes long."""
    memory = fsspec.filesystem("memory")
    if memory.exists("/statistics"):
        memory.rm("/statistics", recursive=True)
    return Location(f"memory://statistics/{next(numbers)}/layer/1")


DTYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"]


@settings(max_examples=examples(20))
@given(st.data(), st.sampled_from(DTYPES))
def test_statistics_are_those_of_numpy(data, dtype):
    block = data.draw(voxels(SHAPE, dtype))
    if dtype.startswith("f"):
        block = np.clip(block, -1e6, 1e6)  # keeps NaN; sums of any larger ones depend on their order
    cut = block[BOX.slices]
    found = VoxelStatistics(stored(place(), block))
    known = cut[~np.isnan(cut)] if dtype.startswith("f") else cut.ravel()
    low, high, count, mean, std = dask.compute(found.min, found.max, found.count, found.mean, found.std)
    assert count == known.size
    if not known.size:
        assert np.isnan([low, high, mean, std]).all()
        return
    assert low.dtype == high.dtype == block.dtype and low == known.min() and high == known.max()
    if dtype.startswith("f"):
        assert mean == pytest.approx(float(known.astype("float64").mean()), rel=1e-9, abs=1e-9)
        assert std == pytest.approx(float(known.astype("float64").std()), rel=1e-9, abs=1e-9)
        return
    exact = [int(v) for v in known]
    assert mean == sum(exact) / len(exact)
    mean_square = sum((v * len(exact) - sum(exact)) ** 2 for v in exact) / len(exact) ** 3
    assert std == pytest.approx(mean_square**0.5, rel=1e-9)


@settings(max_examples=examples(20))
@given(st.data(), st.sampled_from(DTYPES), st.integers(1, 40), st.booleans())
def test_histograms_are_those_of_numpy(data, dtype, bins, ranged):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    block = (rng.normal(size=SHAPE) * 30).astype("int8").astype(dtype)
    limits = (-20.5, 17.0) if ranged else None
    cut = block[BOX.slices]
    counts, edges = dask.compute(*VoxelStatistics(stored(place(), block)).histogram(bins, limits))
    expected, expected_edges = np.histogram(cut, np.histogram_bin_edges(cut.astype("float64"), bins, limits))
    np.testing.assert_array_equal(edges, expected_edges)
    np.testing.assert_array_equal(counts, expected)


@settings(max_examples=examples(20))
@given(st.data(), st.sampled_from(DTYPES), st.lists(st.floats(0, 100), min_size=1, max_size=5))
def test_percentiles(data, dtype, q):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    block = (rng.normal(size=SHAPE) * 30).astype("int8").astype(dtype)
    cut = block[BOX.slices].astype("float64")
    found = VoxelStatistics(stored(place(), block)).percentile(q).compute()
    if np.dtype(dtype).itemsize <= 2:
        np.testing.assert_allclose(found, np.percentile(cut, q), rtol=1e-12, atol=1e-9)
    else:  # between the neighbours in order, and one bin
        width = (cut.max() - cut.min()) / 65536
        for value, share in zip(found, q, strict=True):
            low, high = (np.percentile(cut, share, method=m) for m in ("lower", "higher"))
            below = np.sort(cut.ravel())[max(0, int(share / 100 * (cut.size - 1)) - 1)]
            assert below - width <= value <= high + width + 1e-9, (value, low, high)


def test_nan_and_infinities():
    block = np.zeros(SHAPE, "float32")
    block[0, :, 0, 0] = np.nan
    block[0, 5, 5, 5], block[0, 6, 5, 5], block[0, 7, 5, 5] = np.inf, -np.inf, 8
    found = VoxelStatistics(stored(place(), block, box=Box((0,) * 4, SHAPE)))
    known = found.compute()
    assert (known.count, known.nans, known.low, known.high) == (block.size - 23, 23, -np.inf, np.inf)
    assert np.isnan(known.mean) and np.isnan(known.std)
    counts, edges = dask.compute(*found.histogram(4))
    assert edges.tolist() == [0, 2, 4, 6, 8] and counts.tolist() == [block.size - 26, 0, 0, 1]
    ends = found.percentile([0, 50, 100]).compute()
    assert ends[0] == -np.inf and ends[2] == np.inf and abs(ends[1]) < 0.01
    nothing = VoxelStatistics(stored(place(), np.full(SHAPE, np.nan, "float32")))
    assert np.isnan(nothing.min.compute()) and np.isnan(nothing.percentile(3).compute()) and nothing.count.compute() == 0


@pytest.mark.parametrize("fill", [np.nan, np.inf, -np.inf, 2.5])
def test_voxels_that_are_not_stored_are_the_fill_value(fill):
    spec = ArraySpec((1, 16, 8, 8), "float32", tuple("cxyz"), (1, 4, 4, 4), (1, 8, 8, 8), fill=fill)
    handle = find_format("zarr3").create(place(), spec)
    handle.write(Box((0, 0, 0, 0), (1, 8, 8, 8)), np.ones((1, 8, 8, 8), "float32"))
    found = VoxelStatistics(MagArray(handle, (1, 1, 1), spec.box))
    known = found.compute()
    whole = np.concatenate([np.ones(512), np.full(512, fill)])
    assert (known.count, known.nans) == (np.isfinite(whole).sum() + np.isinf(whole).sum(), np.isnan(whole).sum())
    assert (known.low, known.high) == (np.nanmin(whole), np.nanmax(whole))
    np.testing.assert_equal(known.mean, np.nanmean(whole))
    assert found.histogram(4)[0].compute().sum() == np.isfinite(whole).sum()
    np.testing.assert_allclose(found.percentile(100).compute(), np.nanmax(whole), rtol=1e-4)


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("uint64", [2**64 - 1, 2**64 - 3]),
        ("uint64", [2**63 + 1]),
        ("float64", [1.0, 1 + 2**-52]),
        ("float64", [-1.7e308, 1.7e308]),
    ],
)
def test_values_nearer_or_farther_than_bins_can_be(dtype, values):
    block = np.resize(np.array(values, dtype), SHAPE)
    found = VoxelStatistics(stored(place(), block))
    assert found.histogram(4)[0].compute().sum() == BOX.size
    low, high = found.percentile([0, 100]).compute()
    assert low == pytest.approx(float(min(values))) and high == pytest.approx(float(max(values)))
    assert found.min.compute() == min(values) and found.max.compute() == max(values)


def test_channels_and_further_axes_count_together(tmp_path):
    data = np.random.default_rng(3).integers(0, 200, (3, 9, 8, 7)).astype("uint8")
    layer = wk.Dataset(tmp_path / "ds", (1, 1, 1)).add_layer(
        "color", "color", dtype="uint8", num_channels=3, bounding_box=wk.BoundingBox((0, 0, 0), (9, 8, 7))
    )
    mag = layer.add_mag(1, chunk_shape=4, shard_shape=8)
    mag.write(data)
    found = mag.statistics()
    assert (found.count.compute(), found.mean.compute()) == (data.size, data.mean())
    times = np.random.default_rng(4).choice(np.array([0, 3, 2**60], "uint64"), (5, 1, 8, 8, 8))
    spec = ArraySpec(times.shape, "uint64", tuple("tcxyz"), (2, 1, 4, 4, 4), (2, 1, 8, 8, 8))
    handle = find_format("zarr3").create(place(), spec)
    handle.write(Box((0,) * 5, times.shape), times)
    array = MagArray(handle, (1, 1, 1), spec.box)
    table = segment_table(array)
    for row, segment in enumerate((3, 2**60)):
        at = np.argwhere(times == segment)[:, 2:]
        assert (table.ids[row], table.voxels[row]) == (segment, len(at))
        assert table.topleft[row].tolist() == at.min(0).tolist() and table.bottomright[row].tolist() == (at.max(0) + 1).tolist()
    assert VoxelStatistics(array).count.compute() == times.size


def test_memory_of_a_table_is_bounded_by_ids(monkeypatch):
    """Voxels that all differ from their neighbours take more than their own size; not all of a block's at once."""
    noise = np.random.default_rng(5).integers(1, 200, (1, 128, 128, 64)).astype("uint8")
    handle = find_format("zarr3").create(place(), ArraySpec(noise.shape, "uint8", tuple("cxyz"), noise.shape, noise.shape))
    handle.write(Box((0,) * 4, noise.shape), noise)
    blocks = Blocks(MagArray(handle, (1, 1, 1), Box((0,) * 4, noise.shape)))
    monkeypatch.setattr(segments, "SLAB", 1 << 14)
    table_of(blocks, 0)
    tracemalloc.start()
    try:
        table = table_of(blocks, 0)
        assert tracemalloc.get_traced_memory()[1] < 6 * noise.size
    finally:
        tracemalloc.stop()
    assert table.voxels.sum() == noise.size


def test_what_is_refused():
    array = stored(place(), np.ones(SHAPE, "uint8"))
    with pytest.raises(InputError, match="no voxels"):
        VoxelStatistics(MagArray(array.handle, (1, 1, 1), Box((0,) * 4, (1, 0, 3, 3))))
    found = VoxelStatistics(array)
    for bins, limits in ((0, None), (3, (2, 1)), (3, (0, np.inf))):
        with pytest.raises(InputError, match="not possible"):
            found.histogram(bins, limits)
    with pytest.raises(InputError, match="from 0 to 100"):
        found.percentile([3, 101])


def count_reads(monkeypatch):
    reads = []
    read = MagArray.read
    monkeypatch.setattr(MagArray, "read", lambda self, box: reads.append(box) or read(self, box))
    return reads


@pytest.mark.parametrize("dtype", ["uint8", "uint64", "float32"])
def test_one_lazy_pass_that_skips_what_is_not_stored(monkeypatch, dtype):
    block = np.zeros(SHAPE, dtype)
    block[0, 9, 9, 9] = 5
    array = stored(place(), block)
    reads = count_reads(monkeypatch)
    found = VoxelStatistics(array)
    assert not reads
    low, high, count = dask.compute(found.min, found.max, found.count)
    assert (low, high, count) == (0, 5, BOX.size)
    unit = Box((0, 8, 8, 8), (1, 16, 16, 12)).intersect(BOX)
    assert reads and len({box.start for box in reads}) == len(reads)
    assert all(box.intersect(unit) == box for box in reads)


# ------------------------------------------------------------------------------------------------------------- segments


def table_by_numpy(cut, origin, mag=(1, 1, 1)):
    found = {}
    for one in np.unique(cut).tolist():
        if one:
            at = np.argwhere(cut == one)[:, 1:] + origin
            found[one] = (len(at), (at.min(0) * mag).tolist(), ((at.max(0) + 1) * mag).tolist())
    return found


def rows(table):
    columns = (table.ids, table.voxels, table.topleft, table.bottomright)
    return {i: (n, a, b) for i, n, a, b in zip(*(column.tolist() for column in columns), strict=True)}


@settings(max_examples=examples(20))
@given(st.data(), st.sampled_from(["uint8", "uint32", "int16", "uint64"]), st.sampled_from([None, "sync", "threads"]))
def test_segments_are_those_of_numpy(data, dtype, executor):
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    ids = np.array([0, 0, 1, 2, 3, np.iinfo(dtype).max, np.iinfo(dtype).max - 1], dtype)
    coarse = rng.choice(ids, SHAPE)
    runs = data.draw(st.integers(1, 5))
    block = np.repeat(coarse, runs, axis=data.draw(st.integers(1, 3)))[: SHAPE[0], : SHAPE[1], : SHAPE[2], : SHAPE[3]]
    block = np.asfortranarray(block) if data.draw(st.booleans()) else block
    array = stored(place(), block)
    array = MagArray(array.handle, (4, 4, 1), BOX)
    cut = block[BOX.slices]
    table = segment_table(array, executor)
    assert rows(table) == table_by_numpy(cut, BOX.start[1:], (4, 4, 1))
    assert table.ids.dtype == block.dtype and (np.diff(table.ids.astype(object)) > 0).all()
    assert largest_id(array, (), executor) == int(cut.max())


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("dtype", ["uint8", "uint64"])
def test_every_format(form, dtype, tmp_path):
    rng = np.random.default_rng(0)
    layer = wk.Dataset(tmp_path / "ds", (1, 1, 1)).add_layer(
        "cells", "segmentation", dtype, data_format=form, bounding_box=wk.BoundingBox((5, 3, 1), (20, 16, 12))
    )
    unit = 8 if find_format(form).sharded else 4
    mag = layer.add_mag(1, chunk_shape=4, shard_shape=unit)
    data = rng.choice(np.array([0, 0, 4, np.iinfo(dtype).max], dtype), (20, 16, 12))
    data[:8] = 0
    mag.write(data)
    assert rows(layer.segment_sizes()) == table_by_numpy(data[None], (5, 3, 1))
    layer.refresh_largest_segment_id()
    assert wk.Dataset.open(tmp_path / "ds").get_layer("cells").largest_segment_id == np.iinfo(dtype).max
    found = mag.statistics().compute()
    assert (found.low, found.high, found.count) == (0, np.iinfo(dtype).max, data.size)
    assert found.mean == sum(map(int, data.ravel())) / data.size
    view = mag.get_view(relative_offset=(8, 0, 0), size=(3, 5, 7))
    assert view.statistics().mean.compute() == sum(map(int, data[8:11, :5, :7].ravel())) / 105


def test_any_order_of_axes():
    rng = np.random.default_rng(1)
    data = rng.choice(np.array([0, 1, 9], "uint16"), (1, 12, 16, 20))
    array = stored(place(), data, axes=("c", "z", "y", "x"), box=Box((0,) * 4, data.shape))
    assert rows(segment_table(array)) == table_by_numpy(data.transpose(0, 3, 2, 1), (0, 0, 0))


def segmentation(tmp_path, **options):
    dataset = wk.Dataset(tmp_path / "ds", (1, 1, 1))
    return dataset.add_layer("cells", "segmentation", dtype="uint64", **options)


def test_the_largest_id_is_noted(tmp_path):
    layer = segmentation(tmp_path, bounding_box=wk.BoundingBox((0, 0, 0), (32, 32, 32)))
    layer.add_mag(1, chunk_shape=8, shard_shape=16).write(np.full((3, 3, 3), 2**64 - 1, "uint64"), absolute_offset=(29, 29, 29))
    layer.add_mag(2, chunk_shape=8, shard_shape=16)
    layer.refresh_largest_segment_id((16, 16, 16), "sync")
    assert layer.largest_segment_id == 2**64 - 1
    with pytest.raises(InputError, match="multiple"):
        layer.refresh_largest_segment_id((12, 16, 16))
    layer.get_mag(1).write(np.zeros((32, 32, 32), "uint64"))
    layer.refresh_largest_segment_id()
    assert layer.largest_segment_id == 0
    assert len(layer.segment_sizes()) == 0 and len(layer.segment_boxes(2)) == 0


def test_layers_without_voxels_have_no_largest_id(tmp_path):
    layer = segmentation(tmp_path, bounding_box=wk.BoundingBox((0, 0, 0), (0, 0, 0)))
    layer.add_mag(1)
    layer.largest_segment_id = 7
    layer.refresh_largest_segment_id()
    assert layer.largest_segment_id is None


def test_rows_of_a_table(tmp_path):
    layer = segmentation(tmp_path, bounding_box=wk.BoundingBox((0, 0, 0), (32, 32, 32)))
    layer.add_mag(2).write(np.full((3, 2, 1), 77, "uint64"), absolute_offset=(4, 6, 8))
    table = layer.segment_boxes()
    assert (table.size(77), table.bounding_box(77)) == (6, wk.BoundingBox((4, 6, 8), (6, 4, 2)))
    for absent in (0, 5, 99):
        with pytest.raises(InputError, match=f"no segment {absent}"):
            table.size(absent)
    pandas = pytest.importorskip("pandas", reason="needs pandas: pip install pandas")
    frame = table.to_pandas()
    assert isinstance(frame, pandas.DataFrame) and frame.loc[77].tolist() == [6, 4, 6, 8, 10, 10, 10]
