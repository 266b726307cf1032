from __future__ import annotations

import math
import statistics

import lz4.block
import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from wkdask.errors import InputError
from wkdask.geometry.grid import Box
from wkdask.operations.probe import guess_category, percentile_window, prefer_lz4, sample_planes

# ------------------------------------------------------------------------------------------------------ samples


@given(st.integers(0, 500) | st.integers(2**40, 2**60), st.integers(1, 40))
@example(16, 16)
@example(17, 16)
@example(1, 16)
def test_planes_are_evenly_spaced(depth: int, most: int) -> None:
    read: list[int] = []
    planes = sample_planes(lambda z: read.append(z) or np.zeros(1), depth, most)
    assert not read  # nothing is held that is not asked for
    assert len(list(planes)) == len(read) == min(depth, most)
    if len(read) > 1:
        assert read[0] == 0 and read[-1] == depth - 1
        gaps = np.diff(np.array(read, object))
        assert min(gaps) >= 1 and max(gaps) - min(gaps) <= 1


@given(
    st.lists(st.lists(st.floats(allow_nan=True) | st.integers(-9, 9).map(float), max_size=30), max_size=5),
    st.integers(0, 99),
    st.integers(1, 100),
)
def test_percentiles_are_those_of_all_finite_voxels(samples: list[list[float]], low: int, high: int) -> None:
    assume(low < high)
    voxels = sorted(v for sample in samples for v in sample if math.isfinite(v))
    assume(not voxels or max(map(abs, voxels)) < 1e150)
    arrays = [np.array(sample) for sample in samples]
    if len(voxels) < 2 or voxels[0] == voxels[-1]:
        with pytest.raises(InputError, match=r"\. Give the values themselves: --rescale MIN,MAX\."):
            percentile_window(arrays, low, high)
        return
    cuts = [voxels[0], *statistics.quantiles(voxels, n=100, method="inclusive"), voxels[-1]]
    if not cuts[low] < cuts[high]:
        return
    size = max(map(abs, voxels))
    assert percentile_window(arrays, low, high) == pytest.approx((cuts[low], cuts[high]), rel=1e-12, abs=1e-12 * size)


@pytest.mark.parametrize("dtype", ["float16", "float32", "uint8", "int8", "uint64"])
def test_percentiles_are_reckoned_in_float64(dtype: str) -> None:
    most = np.finfo(dtype).max if dtype.startswith("float") else np.iinfo(dtype).max
    least = -most if dtype.startswith("float") else np.iinfo(dtype).min
    window = percentile_window([np.array([[least], [most]], dtype)], 25, 75)
    span = float(most) - float(least)
    assert window == pytest.approx((float(least) + span / 4, float(least) + span * 3 / 4))


def test_percentiles_leave_outliers_away() -> None:
    plane = np.tile(np.arange(1000, 2000, dtype="uint16"), 100)
    plane[:50], plane[-50:] = 0, 65535
    low, high = percentile_window([plane.reshape(100, 1000)])
    assert 1000 <= low <= 1001 and 1998 <= high <= 1999


@pytest.mark.parametrize("width", [512, 1000, 1024, 2048])
def test_large_planes_are_thinned_across_their_columns(width: int) -> None:
    plane = np.broadcast_to(np.arange(width, dtype="uint16"), (4_000_000 // width, width))
    assert percentile_window([plane], 0, 100) == (0, width - 1)
    assert percentile_window([plane], 10, 90) == pytest.approx((0.1 * width, 0.9 * width), rel=0.02)


@pytest.mark.parametrize("value", [0, 7])
def test_constant_samples_have_no_range(value: int) -> None:
    with pytest.raises(InputError, match=rf"are both {value}, not a range\. Give "):
        percentile_window([np.full((9, 9), value, "uint8")])


def test_samples_without_a_finite_voxel() -> None:
    for samples in ([], [np.full(4, np.nan), np.array([np.inf])]):
        with pytest.raises(InputError, match=r"hold no finite voxel.*\. Give the values themselves"):
            percentile_window(samples)


# ----------------------------------------------------------------------------------------------------- category


def guess(volume: np.ndarray, **options: object) -> str:
    return guess_category(lambda box: volume[box.slices], volume.shape, str(volume.dtype), **options)


def em(shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    """Make noise around a smooth brightness."""
    rng = np.random.default_rng(seed)
    bright = np.add.outer(np.linspace(80, 120, shape[0]), np.linspace(0, 40, shape[1]))[..., None]
    top = min(1e4, float(np.iinfo(dtype).max))
    return ((bright + rng.normal(0, 12, shape)) / 255 * top).clip(0, top).astype(dtype)


def labels(shape: tuple[int, ...], dtype: str, seed: int, edge: int = 8, empty: float = 0.3) -> np.ndarray:
    """Make cubes of random ids, some of them of none."""
    rng = np.random.default_rng(seed)
    many = [n // edge + 1 for n in shape]
    ids = rng.integers(1, min(2**20, int(np.iinfo(dtype).max)), many) * (rng.random(many) > empty)
    return ids[np.ix_(*(np.arange(n) // edge for n in shape))].astype(dtype)


shapes = st.tuples(*[st.integers(16, 60)] * 3)
ints = st.sampled_from(["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"])


@given(shapes, ints, st.integers(0, 99))
def test_noise_is_color(shape: tuple[int, ...], dtype: str, seed: int) -> None:
    assert guess(em(shape, dtype, seed)) == "color"


@given(shapes, ints, st.integers(0, 99))
def test_ids_are_a_segmentation(shape: tuple[int, ...], dtype: str, seed: int) -> None:
    volume = labels(shape, dtype, seed, edge=16, empty=0)
    volume[:2, :2, :2] = 5
    assert guess(volume) == "segmentation"


@pytest.mark.parametrize(("values", "category"), [(20, "segmentation"), (21, "color")])
def test_one_value_for_200_voxels_is_the_limit(values: int, category: str) -> None:
    """In boxes of 4000 voxels that count: those of 4096 but for 96."""
    volume = np.zeros((16, 16, 16), "uint16")
    volume.ravel()[:4000] = 1 + np.arange(4000) % values
    assert guess(volume) == category
    volume[volume == 0] = 65535
    assert guess(volume) == category


def test_boxes_with_few_voxels_weigh_little() -> None:
    """A box with one voxel in it has one value for one voxel."""
    volume = np.zeros((16, 16, 400), "uint32")
    volume[:, :, 200:] = 3
    volume[8, 8, :200:8] = np.arange(25) + 10
    assert guess(volume) == "segmentation"


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint64"])
def test_volumes_without_evidence_are_color(dtype: str) -> None:
    volume = np.zeros((40, 40, 40), dtype)
    assert guess(volume) == "color"
    volume[10:30] = np.iinfo(dtype).max
    assert guess(volume) == "color"
    assert guess(volume[:0]) == "color"


def test_what_needs_no_reading() -> None:
    def unread(box: Box) -> np.ndarray:
        raise AssertionError("nothing is to be read")

    assert guess_category(unread, (9, 9, 9), "float32") == "color"
    assert guess_category(unread, (9, 9, 9), "uint8", channels=3) == "color"
    assert guess_category(unread, (9, 9, 9), "bool") == "segmentation"
    assert guess_category(unread, (9, 0, 9), "uint8") == "color"


@given(st.lists(st.integers(1, 20) | st.integers(1, 2**50), min_size=1, max_size=4), st.integers(0, 2**32))
@example([1, 1, 1], 0)
@example([17, 16, 15], 3)
def test_boxes_are_few_small_and_always_the_same(shape: list[int], seed: int) -> None:
    def boxes(seed: int) -> list[Box]:
        read: list[Box] = []
        guess_category(lambda box: read.append(box) or np.ones(box.shape, "uint8"), shape, "uint8", rng_seed=seed)
        return read

    read = boxes(seed)
    assert 1 <= len(read) <= 20 and len(set(read)) == len(read)
    for box in read:
        assert box.shape == tuple(min(n, 16) for n in shape)
        assert all(a >= 0 and b <= n for a, b, n in zip(box.start, box.stop, shape, strict=True))
    assert boxes(seed) == read
    if max(shape) > 2**40:
        assert len(read) == 20 and boxes(seed + 1) != read


def test_boxes_reach_both_ends() -> None:
    read: set[int] = set()
    for seed in range(9):
        guess_category(lambda box: read.add(box.start[0]) or np.ones(box.shape, "uint8"), (18, 4), "uint8", rng_seed=seed)
    assert read == {0, 1, 2}


@given(st.integers(0, 99))
def test_tiny_volumes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert guess(rng.integers(1, 200, (3, 2, 1), "uint8")) == "color"  # 6 voxels have more than 6 / 200 values
    assert guess(np.full((7, 7, 7), 1 + seed, "uint8")) == "segmentation"


# -------------------------------------------------------------------------------------------------------- codec


def sizes(blocks: list[np.ndarray]) -> tuple[int, int]:
    modes = ({"mode": "default"}, {"mode": "high_compression", "compression": 9})
    quick, small = (sum(len(lz4.block.compress(b.tobytes("A"), store_size=False, **mode)) for b in blocks) for mode in modes)
    return quick, small


def test_lz4_where_it_loses_next_to_nothing() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 32), "uint8")
    one_id = np.full((32, 32, 32), 77, "uint32")
    assert prefer_lz4([noise]) and prefer_lz4([one_id]) and prefer_lz4(iter([noise, one_id]))
    small_cells = [labels((32, 32, 32), "uint32", seed, edge=5) for seed in range(3)]
    quick, small = sizes(small_cells)
    assert quick > 1.05 * small
    assert not prefer_lz4(small_cells)
    assert not prefer_lz4([])


@given(st.integers(0, 99), st.sampled_from([2, 3, 5, 8, 32]), st.integers(0, 40))
def test_two_percent_are_the_limit(seed: int, edge: int, noise: int) -> None:
    rng = np.random.default_rng(seed)
    blocks = [labels((32, 32, 32), "uint32", seed, edge), rng.integers(0, 256, noise << 10, "uint8")]
    quick, small = sizes(blocks)
    assert prefer_lz4(blocks) == (100 * quick <= 102 * small)


def test_chunks_are_compressed_as_they_lie() -> None:
    """Along one axis this chunk hardly changes, along the other it does at each voxel."""
    rng = np.random.default_rng(0)
    chunk = np.repeat(rng.integers(0, 2**32, (64, 1), "uint32"), 64, axis=1)
    for block in (chunk, np.asfortranarray(chunk), chunk[::-1]):
        quick, small = sizes([block])
        assert prefer_lz4([block]) == (100 * quick <= 102 * small)
