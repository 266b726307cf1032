from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.conftest import examples
from wkdask import kernels
from wkdask.errors import InputError

INTS = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8"]
FLOATS = ["f4", "f8"]
COMPILED = ["u1", "u4", "u8", "i2", "f4"]
"""Each takes seconds to compile in each mode; the others are compiled of the same lines."""
WINDOWED = [mode for mode in kernels.MODES if mode != "bicubic"]
CXYZ = ("c", "x", "y", "z")


def expected(window: list[Any], mode: str, dtype: np.dtype[Any]) -> Any:
    """Say what a window, its voxels in scan order, becomes."""
    if mode == "mode":
        counts = [sum(i == j or bool(v == w) for j, w in enumerate(window)) for i, v in enumerate(window)]  # NaN: itself
        return window[counts.index(max(counts))]
    if dtype.kind == "f":
        function = {"median": np.median, "max": np.max, "min": np.min}.get(mode)
        with np.errstate(all="ignore"):
            if function is not None:
                return function(np.array(window, dtype))
            total = 0.0
            for v in window:
                total += float(v)
            return np.float64(total / len(window)).astype(dtype)
    ints = sorted(int(v) for v in window)
    if mode == "mean":
        return math.trunc(Fraction(sum(ints), len(ints)))
    half = len(ints) // 2
    middle = ints[half] if len(ints) % 2 else math.trunc(Fraction(ints[half - 1] + ints[half], 2))
    return {"max": ints[-1], "min": ints[0], "median": middle}[mode]


def oracle(block: np.ndarray, factor: tuple[int, ...], mode: str, axes: tuple[str, ...]) -> np.ndarray:
    out = np.empty([n // f for n, f in zip(block.shape, factor, strict=True)], block.dtype)
    order = sorted(
        itertools.product(*map(range, factor)), key=lambda o: [dict(zip(axes, o, strict=True)).get(a, 0) for a in "zxy"]
    )
    for at in np.ndindex(out.shape):
        window = [block[tuple(i * f + o for i, f, o in zip(at, factor, offset, strict=True))] for offset in order]
        out[at] = window[0] if mode == "nearest" else expected(window, mode, block.dtype)
    return out


@st.composite
def jobs(draw: st.DrawFn, factors: list[int], dtypes: list[str]) -> tuple[np.ndarray, tuple[int, ...], tuple[str, ...]]:
    axes = tuple(draw(st.sampled_from([CXYZ, ("c", "z", "y", "x"), ("x", "y", "z"), ("y", "x"), ("t", "c", "x", "y", "z")])))
    factor = tuple(draw(st.sampled_from(factors)) if a in "xyz" else 1 for a in axes)
    shape = tuple(f * draw(st.integers(1, 3)) for f in factor)
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    whole = hnp.from_dtype(dtype)
    few = st.sampled_from(np.array([0, 1, 2, 3, 100], dtype).tolist())
    block = draw(hnp.arrays(dtype, shape, elements=draw(st.sampled_from([whole, few])), fill=st.nothing()))
    layout = draw(st.sampled_from(["C", "F", "permuted", "view"]))
    if layout == "permuted":
        order = draw(st.permutations(range(len(shape))))
        block = np.ascontiguousarray(block.transpose(order)).transpose(np.argsort(order))
    elif layout == "view":
        block = np.stack([block, block], axis=-1)[..., 0]
    else:
        block = np.asarray(block, order=layout)
    block.flags.writeable = draw(st.booleans()) or layout == "view"
    return block, factor, axes


@pytest.mark.parametrize("mode", WINDOWED)
@settings(max_examples=examples(80), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(job=jobs([1, 2, 2, 3, 4], INTS + FLOATS))
def test_numpy(job: tuple[np.ndarray, tuple[int, ...], tuple[str, ...]], mode: str) -> None:
    block, factor, axes = job
    found = kernels.reduce(block, factor, mode, axes=axes, large=False)
    np.testing.assert_array_equal(found, oracle(block, factor, mode, axes))
    assert found.dtype == block.dtype and found.flags.writeable


@settings(max_examples=examples(30), deadline=None)
@given(
    dtype=st.sampled_from([*INTS, *FLOATS, ">u2"]),
    factor=st.sampled_from([(4, 4, 4), (8, 8, 1), (8, 8, 8), (3, 4, 5)]),
    values=st.sampled_from([2, 5, 40]),
    seed=st.integers(0, 999),
)
def test_modes_of_large_windows(dtype: str, factor: tuple[int, ...], values: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    limits = np.iinfo(dtype) if np.dtype(dtype).kind != "f" else np.iinfo("i1")
    palette = np.array(
        [limits.min, limits.max, 0, *rng.integers(limits.min, limits.max, values, np.dtype(limits.dtype).newbyteorder("="))],
        dtype,
    )
    if palette.dtype.kind == "f":
        palette[:2] = np.nan, -0.0
    block = rng.choice(palette, [n * f for n, f in zip((2, 1, 1), factor, strict=True)])
    found = kernels.reduce(block, factor, "mode", large=False)
    wanted = oracle(block, factor, "mode", ("x", "y", "z"))
    np.testing.assert_array_equal(found.view(f"u{found.itemsize}"), wanted.view(f"u{wanted.itemsize}"))  # also the sign of 0


@pytest.mark.parametrize("mode", WINDOWED)
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(job=jobs([1, 2], COMPILED))
def test_numba(job: tuple[np.ndarray, tuple[int, ...], tuple[str, ...]], mode: str) -> None:
    block, factor, axes = job
    found = kernels.reduce(block, factor, mode, axes=axes, large=True)
    np.testing.assert_array_equal(found, oracle(block, factor, mode, axes))
    assert found.dtype == block.dtype


@pytest.mark.parametrize("factor", [f for f in itertools.product([1, 2], repeat=3) if f != (1, 1, 1)])
@pytest.mark.parametrize("mode", ["median", "mode", "mean", "max", "min"])
def test_both_are_equal_on_larger_blocks(mode: str, factor: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(1)
    for dtype, channels, width in (("u1", 1, 5000), ("u1", 3, 90), ("f4", 2, 70), ("u4", 80, 6)):
        block = np.asfortranarray(rng.integers(0, 4, (channels, width, 6, 10)).astype(dtype))
        if dtype == "f4":
            block[rng.random(block.shape) < 0.1] = np.nan
        one, two = (kernels.reduce(block, (1, *factor), mode, large=large) for large in (True, False))
        np.testing.assert_array_equal(one, two)
        assert one.flags.f_contiguous and two.flags.f_contiguous


@pytest.mark.parametrize("large", [False, True])
def test_examples(large: bool) -> None:
    def of(values: list[Any], dtype: str, factor: tuple[int, ...], mode: str) -> Any:
        return kernels.reduce(np.array(values, dtype).reshape(factor), factor, mode, large=large).item()

    assert of([200, 201], "u1", (2, 1, 1), "median") == 200
    assert of([-1, -2], "i1", (2, 1, 1), "median") == -1
    assert of([2**63 + 2] * 2, "u8", (2, 1, 1), "median") == 2**63 + 2
    assert of([2**64 - 1] * 4, "u8", (2, 2, 1), "mean") == 2**64 - 1
    assert of([-(2**63), -(2**63) + 1], "i8", (2, 1, 1), "mean") == -(2**63) + 1
    assert of([-(2**63), 2**63 - 1], "i8", (2, 1, 1), "median") == 0
    assert math.isnan(of([1, math.nan, 1, 1], "f4", (2, 2, 1), "median"))
    assert math.isnan(of([-math.inf, math.inf], "f8", (2, 1, 1), "median"))
    assert of([math.inf, math.inf, 1, math.inf], "f8", (2, 2, 1), "median") == math.inf


@pytest.mark.parametrize("large", [False, True])
def test_ties_of_mode(large: bool) -> None:
    distinct = np.arange(1, 9).reshape(1, 2, 2, 2)
    assert kernels.reduce(distinct, (1, 2, 2, 2), "mode", large=large).item() == distinct[0, 0, 0, 0]
    tie = np.array([[1, 3], [2, 9]], np.uint32)
    tie[1, 1] = 3
    assert kernels.reduce(tie, (2, 2), "mode", large=large).item() == 3
    block = np.zeros((1, 2, 2, 2), np.uint32)
    block[0, 0, 0, 0], block[0, 1, 1, 1] = 7, 8
    block[0, 1, 0, 0], block[0, 1, 0, 1] = 2, 2
    block[0, 0, 1, 0], block[0, 0, 1, 1] = 3, 3
    block[0, 0, 0, 1], block[0, 1, 1, 0] = 5, 6
    assert kernels.reduce(block, (1, 2, 2, 2), "mode", large=large).item() == 3


def test_other_types() -> None:
    flags = np.array([[True, True], [False, True]])
    assert kernels.reduce(flags, (2, 2), "mode").dtype == np.bool_
    assert kernels.reduce(flags, (2, 2), "median").item() is True
    assert kernels.reduce(np.array([1, 2], "c8").reshape(2, 1), (2, 1), "nearest").item() == 1
    assert kernels.reduce(np.array([[1, 2]], ">u2"), (1, 2), "max", large=True).item() == 2
    half = np.array([[1, 2], [3, 4]], np.float16)
    assert kernels.reduce(half, (2, 2), "mean", large=True).item() == 2.5
    assert kernels.reduce(np.zeros((1, 0, 4, 4)), (1, 2, 2, 2), "median").shape == (1, 0, 2, 2)
    same = np.arange(4).reshape(2, 2)
    assert not np.shares_memory(kernels.reduce(same, (1, 1), "median"), same)


def test_wrong_values_are_refused() -> None:
    block = np.zeros((1, 4, 4, 4), np.uint8)
    for given_block, factor, mode in (
        (block, (1, 2, 2, 2), "average"),
        (block, (1, 3, 2, 2), "median"),
        (block, (1, 0, 2, 2), "median"),
        (block, (2, 2), "median"),
        (np.zeros((2, 4, 4, 4)), (2, 2, 2, 2), "median"),
        (block.astype("c8"), (1, 2, 2, 2), "median"),
    ):
        with pytest.raises(InputError):
            kernels.reduce(given_block, factor, mode)


@pytest.mark.parametrize("large", [False, True])
def test_mode_counts_each_nan_once(large: bool) -> None:
    for values, wanted in (([np.nan, 0.0], np.nan), ([0.0, np.nan], 0.0), ([np.nan, 5.0, 5.0, np.nan], 5.0)):
        block = np.array(values, np.float32).reshape(1, 1, -1, 1)
        factor = (1, 1, 2, 1) if len(values) == 2 else (1, 2, 2, 1)
        block = block if len(values) == 2 else block.reshape(1, 2, 2, 1)
        np.testing.assert_array_equal(kernels.reduce(block, factor, "mode", large=large).ravel(), [wanted])
