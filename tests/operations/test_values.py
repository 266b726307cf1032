"""What becomes of values, against plain Python: fractions are exact."""

from __future__ import annotations

import math
import pickle
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wkdask.errors import InputError
from wkdask.operations.values import TARGETS, Rescale, ValueMap, parse_rescale, plan_values, slice_windows

SOURCES = (*TARGETS, "float16", "float64")
INTS = tuple(name for name in TARGETS if "int" in name)
FLOATS = ("float16", "float32", "float64")
NARROW = tuple(name for name in TARGETS if not name.endswith("64"))
MANY = 70_000
"""Voxels enough for a table of 16 bits."""


def extremes(dtype: str) -> tuple[float, float]:
    """Return the values between which a window maps; exact, and of floats 0 and 1."""
    return (0, 1) if dtype in FLOATS else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))


def exact(value: float, window: tuple[float, float], target: str) -> Fraction:
    """Return where a value lies in the target before it is rounded."""
    least, greatest = map(Fraction, extremes(target))
    low, high = map(Fraction, window)
    inside = low if value == -math.inf else high if value == math.inf else min(max(Fraction(value), low), high)
    return least + (inside - low) * (greatest - least) / (high - low)


def flipped(value: float, target: str) -> float:
    return sum(extremes(target)) - value


def blocks(dtype: str, **elements: object) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=4, max_side=6), elements=elements or None)


def same(found: np.ndarray, expected: np.ndarray) -> bool:
    return found.dtype == expected.dtype and np.array_equal(found, expected, equal_nan=found.dtype.kind == "f")


# ---------------------------------------------------------------------------------------------- without a window


@pytest.mark.parametrize("source", [*SOURCES, "bool"])
@given(data=st.data())
def test_values_stay_or_are_refused(source: str, data: st.DataObject) -> None:
    block = data.draw(blocks(source))
    for target in TARGETS:
        check_cast(block, source, target)


def check_cast(block: np.ndarray, source: str, target: str) -> None:
    low, high = extremes(target)
    ints = source in INTS
    mantissa = 2**24 if target == "float32" else math.inf
    fits = (
        source in (target, "bool")
        or (source in FLOATS and target == "float32")
        or (ints and target in INTS and low <= extremes(source)[0] and extremes(source)[1] <= high)
        or (ints and target == "float32" and extremes(source)[1] <= mantissa)
    )
    if not fits:
        with pytest.raises(InputError, match=rf"^Voxels of {source} do not all fit into {target}\. Give --rescale "):
            ValueMap(source, target)
        return
    with np.errstate(over="ignore"):
        expected = np.array([np.float32(v) if target == "float32" else int(v) for v in block.ravel().tolist()], target)
    assert same(ValueMap(source, target).apply(block).ravel(), expected)


@pytest.mark.parametrize("dtype", TARGETS)
@given(data=st.data())
def test_inverting_twice_changes_nothing(dtype: str, data: st.DataObject) -> None:
    block = data.draw(blocks(dtype))
    invert = ValueMap(dtype, dtype, invert=True)
    once = invert.apply(block)
    assert same(invert.apply(once), block)
    if dtype in INTS:
        assert once.ravel().tolist() == [flipped(v, dtype) for v in block.ravel().tolist()]
    else:
        assert same(once, -block)


def test_integers_are_inverted_before_they_are_widened() -> None:
    block = np.array([0, 1, 255], "uint8")
    for target in ("uint16", "int16", "float32"):
        assert ValueMap("uint8", target, invert=True).apply(block).tolist() == [255, 254, 0]
    assert ValueMap("int8", "int32", invert=True).apply(np.array([-128, 0], "int8")).tolist() == [127, -1]
    assert ValueMap("bool", "uint8", invert=True).apply(np.array([False, True])).tolist() == [1, 0]


def test_large_float64_become_infinite() -> None:
    assert ValueMap("float64", "float32").apply(np.array([1e300, -1e300, 0.1])).tolist() == [
        math.inf,
        -math.inf,
        np.float32(0.1),
    ]


def test_a_map_that_changes_nothing_gives_the_block_itself() -> None:
    block = np.arange(3, dtype="uint8")
    keep = ValueMap("uint8", "uint8")
    assert not keep.changes and keep.apply(block) is block
    others = [ValueMap("uint8", "uint16"), ValueMap("uint8", "uint8", (0, 9)), ValueMap("uint8", "uint8", per_slice=True)]
    for other in (*others, ValueMap("uint8", "uint8", invert=True)):
        assert other.changes and other.apply(block) is not block
    assert block.tolist() == [0, 1, 2]


# ------------------------------------------------------------------------------------------------- with a window


@pytest.mark.parametrize("source", [name for name in INTS if not name.endswith("64")])
@given(data=st.data(), invert=st.booleans())
def test_whole_windows_are_exact(source: str, data: st.DataObject, invert: bool) -> None:
    block = data.draw(blocks(source))
    ends = st.integers(-(2**33), 2**33) | st.integers(-300, 300) | st.sampled_from(extremes(source))
    low, high = sorted(data.draw(st.lists(ends, min_size=2, max_size=2, unique=True)))
    for target in ("uint8", "int8", "uint16", "int16"):
        found = ValueMap(source, target, (float(low), float(high)), invert=invert).apply(block)
        expected = [round(exact(v, (low, high), target)) for v in block.ravel().tolist()]  # ties to even
        assert found.dtype == target
        assert found.ravel().tolist() == [flipped(v, target) if invert else v for v in expected]


@pytest.mark.parametrize("target", ["uint8", "int8", "uint16"])
@pytest.mark.parametrize("source", ["uint16", "int16", "uint32", "float32"])
def test_ties_go_to_the_even_value(source: str, target: str) -> None:
    steps = extremes(target)[1] - extremes(target)[0]
    block = np.arange(0, 2 * steps + 1, 1 if steps == 255 else 1001).astype(source)
    block = block[block >= 0]
    found = ValueMap(source, target, (0, 2 * steps)).apply(block)
    expected = [round(exact(v, (0, 2 * steps), target)) for v in block.tolist()]
    assert found.tolist() == expected
    assert any(Fraction(v) != exact(b, (0, 2 * steps), target) for v, b in zip(expected, block.tolist(), strict=True))


@pytest.mark.parametrize("source", SOURCES)
@given(data=st.data(), invert=st.booleans())
def test_any_window_is_as_near_as_float64_tells(source: str, data: st.DataObject, invert: bool) -> None:
    block = data.draw(blocks(source))
    finite = [v for v in block.ravel().tolist() if math.isfinite(v)]
    ends = st.floats(-1e6, 1e6) | (st.sampled_from(finite).map(float) if finite else st.nothing())
    low, high = sorted(data.draw(st.lists(ends, min_size=2, max_size=2, unique=True)))
    for target in NARROW:
        found = ValueMap(source, target, (low, high), invert=invert).apply(block)
        check_near(block, found, (low, high), invert)


def check_near(block: np.ndarray, found: np.ndarray, window: tuple[float, float], invert: bool) -> None:
    """Check that voxels are where exact reckoning has them, but for rounding and the last bits of float64."""
    target = str(found.dtype)
    least, greatest = extremes(target)
    lost = 1 + Fraction(max(map(abs, window))) / (Fraction(window[1]) - Fraction(window[0]))  # digits, by subtraction
    rounding = Fraction(1, 2**24) if target == "float32" else Fraction(1, 2)
    tolerance = rounding + (greatest - least) * lost / 2**50
    for value, new in zip(block.ravel().tolist(), found.ravel().tolist(), strict=True):
        if math.isnan(value):
            assert new == least
            continue
        expected = exact(value, window, target)
        assert abs(Fraction(new) - (flipped(expected, target) if invert else expected)) <= tolerance


@pytest.mark.parametrize("source", ["uint8", "int8", "uint16", "int16", "float16"])
@given(data=st.data(), invert=st.booleans(), target=st.sampled_from(NARROW))
def test_many_voxels_become_what_few_do(source: str, data: st.DataObject, invert: bool, target: str) -> None:
    patterns = np.arange(2 ** (8 * np.dtype(source).itemsize)).astype(f"uint{8 * np.dtype(source).itemsize}").view(source)
    low = data.draw(st.integers(-200, 200))
    values = ValueMap(source, target, (low, low + data.draw(st.integers(1, 40_000))), invert=invert)
    found = values.apply(np.resize(patterns, MANY))
    pieces = [values.apply(patterns[i : i + 200]) for i in range(0, patterns.size, 200)]
    assert same(found, np.resize(np.concatenate(pieces), MANY))


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("source", FLOATS)
@pytest.mark.parametrize(("target", "ends"), [("uint8", (0, 255)), ("int16", (-32768, 32767)), ("float32", (0, 1))])
def test_nan_is_least_and_infinities_are_ends(source: str, target: str, ends: tuple[int, int], invert: bool) -> None:
    low, high = ends[::-1] if invert else ends
    values = ValueMap(source, target, (-1, 1), invert=invert)
    block = np.array([np.nan, -np.inf, -2, 2, np.inf, -np.nan], source)
    expected = [ends[0], low, low, high, high, ends[0]]
    assert values.apply(block).tolist() == expected
    assert values.apply(np.resize(block, MANY)).tolist() == np.resize(expected, MANY).tolist()


@pytest.mark.parametrize("source", ["float64", "uint8"])
def test_windows_too_wide_for_float64(source: str) -> None:
    most = 1.7e308
    values = ValueMap(source, "uint8", (-most, most))
    block = np.array([0, 1], source) if source == "uint8" else np.array([-np.inf, -most, -most / 2, 0, most / 2, most])
    assert values.apply(block).tolist() == ([128, 128] if source == "uint8" else [0, 0, 64, 128, 191, 255])


@given(blocks("uint16"), st.sampled_from(["uint8", "uint16", "int16"]))
def test_the_whole_range_as_window_inverts_to_itself(block: np.ndarray, target: str) -> None:
    """Inverted twice, one of them by the window's map, is the map alone."""
    once = ValueMap("uint16", target, (7, 5000), invert=True).apply(block)
    assert same(ValueMap(target, target, invert=True).apply(once), ValueMap("uint16", target, (7, 5000)).apply(block))


# ---------------------------------------------------------------------------------------------------- per slice


@pytest.mark.parametrize("source", SOURCES)
@given(data=st.data(), invert=st.booleans(), target=st.sampled_from(NARROW))
def test_each_slice_has_its_own_window(source: str, data: st.DataObject, invert: bool, target: str) -> None:
    block = data.draw(blocks(source))
    found = ValueMap(source, target, per_slice=True, invert=invert).apply(block)
    for plane, new in zip(block, found, strict=True):
        finite = [v for v in plane.ravel().tolist() if math.isfinite(v)]
        if finite and min(finite) < max(finite):
            check_near(plane, new, (min(finite), max(finite)), invert)
        else:
            assert new.ravel().tolist() == [extremes(target)[0]] * plane.size


@pytest.mark.parametrize("dtype", ["uint64", "int64"])
@pytest.mark.parametrize("at", [0, 2**53 + 1, 2**62])
def test_slices_of_large_integers_are_exact(dtype: str, at: int) -> None:
    plane = [[at + i for i in (0, 1, 2, 254, 255)]]
    assert ValueMap(dtype, "uint8", per_slice=True).apply(np.array(plane, dtype)).tolist() == [[0, 1, 2, 254, 255]]
    if dtype == "int64":
        below = [[v - 2**63 for v in plane[0]]]
        assert ValueMap(dtype, "uint8", per_slice=True).apply(np.array(below, dtype)).tolist() == [[0, 1, 2, 254, 255]]


@given(st.sampled_from(["uint8", "int16", "float32", "uint64"]).flatmap(lambda d: hnp.arrays(d, (3, 4, 5))), st.integers(0, 5))
def test_tiles_with_the_windows_of_whole_slices_are_the_slices(block: np.ndarray, cut: int) -> None:
    values = ValueMap(str(block.dtype), "uint8", per_slice=True)
    parts = [part for part in (block[:, :, :cut], block[:, :, cut:]) if part.size]
    ends = [slice_windows(part) for part in parts]
    windows = [(min(w[0] for w in both), max(w[1] for w in both)) for both in zip(*ends, strict=True)]
    assert windows == slice_windows(block)
    tiles = [values.apply(part, windows) for part in parts]
    assert same(np.concatenate(tiles, axis=2), values.apply(block))


@given(st.sampled_from(SOURCES).flatmap(blocks))
def test_slice_windows_are_least_and_greatest(block: np.ndarray) -> None:
    for plane, window in zip(block, slice_windows(block), strict=True):
        finite = [v for v in plane.ravel().tolist() if math.isfinite(v)]
        assert window == ((min(finite), max(finite)) if finite else (math.inf, -math.inf))
        assert not finite or type(window[0]) is type(finite[0])


def test_slice_windows_look_at_every_voxel_of_large_planes() -> None:
    block = np.ones((2, 300, 500), "uint16")
    block[0, 299, 499], block[1, 0, 0] = 9, 0
    assert slice_windows(block) == [(1, 9), (0, 1)]


# ------------------------------------------------------------------------------------------------------- arrays


@given(
    hnp.arrays("uint16", hnp.array_shapes(min_dims=3, max_dims=3, max_side=5), elements=st.integers(0, 900)),
    st.permutations(range(3)),
    st.tuples(*[st.sampled_from([1, 2, -1])] * 3),
    st.booleans(),
)
def test_the_order_of_memory_is_kept(base: np.ndarray, axes: list[int], steps: tuple[int, ...], per_slice: bool) -> None:
    values = ValueMap("uint16", "uint8", None if per_slice else (0, 900), per_slice)
    view = base[tuple(slice(None, None, step) for step in steps)].transpose(axes)
    plain = values.apply(np.ascontiguousarray(view))
    before = view.copy()
    found = values.apply(view)
    assert same(found, plain) and found.flags.owndata and np.array_equal(view, before)
    in_order = base.transpose(axes)
    new = values.apply(in_order)
    assert new.flags.c_contiguous == in_order.flags.c_contiguous and new.flags.f_contiguous == in_order.flags.f_contiguous


@pytest.mark.parametrize("per_slice", [False, True])
@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 4, 5)])
def test_blocks_of_no_voxels(shape: tuple[int, ...], per_slice: bool) -> None:
    values = ValueMap("float32", "uint8", None if per_slice else (0, 1), per_slice)
    assert same(values.apply(np.empty(shape, "float32")), np.empty(shape, "uint8"))


@pytest.mark.parametrize(
    "values",
    [
        ValueMap("uint16", "uint8", (0, 999)),
        ValueMap("uint32", "uint8", (0, 999), invert=True),
        ValueMap("float32", "uint16", per_slice=True),
        ValueMap("uint8", "int32", invert=True),
    ],
    ids=str,
)
def test_temporaries_are_small(values: ValueMap) -> None:
    block = np.arange(4 << 20).reshape(4, 1024, 1024).astype(values.source)
    tracemalloc.start()
    try:
        out = values.apply(block)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most - out.nbytes < 4 << 20


def test_blocks_and_windows_that_do_not_belong_are_refused() -> None:
    whole, own = ValueMap("uint16", "uint8", (0, 9)), ValueMap("uint16", "uint8", per_slice=True)
    block = np.zeros((2, 3), "uint16")
    with pytest.raises(InputError, match=r"holds uint8, this map is for uint16\. "):
        whole.apply(block.astype("uint8"))
    with pytest.raises(InputError, match=r"2 windows for slices, but .* one for all\. "):
        whole.apply(block, [(0, 1), (0, 1)])
    with pytest.raises(InputError, match=r"1 windows for 2 slices\. "):
        own.apply(block, [(0, 1)])


@pytest.mark.parametrize("window", [(1, 1), (2, 1), (0, math.inf), (math.nan, 1), (-math.inf, 0)])
def test_windows_are_ranges(window: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="no range of finite values"):
        ValueMap("uint8", "uint8", window)
    own = ValueMap("uint8", "int8", per_slice=True)
    assert own.apply(np.array([[0, 255]], "uint8"), [window]).tolist() == [[-128, -128]]


def test_one_window_or_one_for_each_slice() -> None:
    with pytest.raises(InputError, match="each slice is to have its own"):
        ValueMap("uint8", "uint8", (0, 1), per_slice=True)


def test_maps_are_small_values() -> None:
    values = ValueMap("uint16", "uint8", (0, 999), invert=True)
    values.apply(np.zeros(MANY, "uint16"))
    again = pickle.loads(pickle.dumps(values))
    assert again == values and hash(again) == hash(values)
    assert len(pickle.dumps(values)) < 300
    assert str(values) == "uint16 to uint8, 0 to 999 rescaled, inverted"
    assert str(ValueMap("uint8", "uint8", per_slice=True)) == "uint8 to uint8, each slice rescaled"


# ----------------------------------------------------------------------------------------------------- planning


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=2, unique=True))
@example([-5.0, 1e308])
def test_windows_are_read_as_they_are_written(ends: list[float]) -> None:
    low, high = sorted(ends)
    assert parse_rescale(f"{low!r},{high!r}") == Rescale("window", low, high)
    with pytest.raises(InputError):
        parse_rescale(f"{high!r},{low!r}")


def test_methods_are_read() -> None:
    assert parse_rescale("percentiles") == Rescale("percentiles", 0.1, 99.9)
    assert parse_rescale("percentiles:0,100") == Rescale("percentiles", 0, 100)
    assert parse_rescale("per-slice").method == "per-slice"


@pytest.mark.parametrize(
    "text",
    [
        *("", ",", "1", "1,2,3", "5,5", "2,1", "nan,1", "0,inf", "a,b", "percentile", "percentiles:", "percentiles:1", "x:1,2"),
        *(
            "percentiles:-1,50",
            "percentiles:1,101",
            "percentiles:9,1",
            "percentiles:1,99:1,99",
            "per-slice:1,2",
            ":1,2",
            "PER-SLICE",
        ),
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"is no way to rescale\. Use MIN,MAX .* percentiles"):
        parse_rescale(text)


def unread() -> list[np.ndarray]:
    raise AssertionError("no samples are needed")


def test_plans() -> None:
    assert plan_values("uint8", None, None, False, unread) == ValueMap("uint8", "uint8")
    assert plan_values(">u2", "float32", None, True, unread) == ValueMap("uint16", "float32", invert=True)
    assert plan_values("uint16", "uint8", Rescale("window", 5, 9), False, unread) == ValueMap("uint16", "uint8", (5, 9))
    assert plan_values("float64", "uint8", Rescale("per-slice"), True, unread) == ValueMap("float64", "uint8", None, True, True)
    samples = [np.arange(0, 51), np.arange(51, 101).reshape(5, 10)]
    found = plan_values("uint16", None, Rescale("percentiles", 2, 75), False, lambda: samples)
    assert found == ValueMap("uint16", "uint16", (2, 75))


@pytest.mark.parametrize(
    ("source", "target", "rescale", "message"),
    [
        ("uint16", "uint8", None, r"^Voxels of uint16 do not all fit into uint8\. Give --rescale "),
        ("float32", "int16", None, r"^Voxels of float32 do not all fit into int16\. Give --rescale "),
        ("uint8", "int8", None, r"^Voxels of uint8 do not all fit into int8\. Give --rescale "),
        ("float64", None, None, r"^Voxels of float64 have no place in a layer\. Give --dtype float32\."),
        ("float64", None, Rescale("percentiles", 1, 99), r"^Voxels of float64 have .*\. Give --dtype float32\."),
        ("float16", None, None, r"\. Give --dtype float32\."),
        ("bool", None, None, r"\. Give --dtype uint8\."),
        ("uint8", "complex64", None, r"^Voxels of complex64 have no place in a layer\. Give --dtype one of "),
        ("complex64", None, None, r"^Voxels of complex64 can not be converted\. "),
        ("complex64", "uint8", Rescale("window", 0, 1), r"^Voxels of complex64 can not be converted\. "),
        ("object", None, None, r"can not be converted\. "),
        ("uint8", "uint8,uint8", None, r"no place in a layer\. "),
        ("uint8", "int7", None, r"^There is no dtype 'int7'\. Use one of uint8, "),
        ("uint8", "", None, r"^There is no dtype ''\. "),
        ("uint8", "uint64", Rescale("window", 0, 1), r"to uint64, but to 32 bits at most\. Give --dtype uint32\."),
        ("int64", None, Rescale("percentiles", 0, 1), r"to int64, but to 32 bits at most\. Give --dtype int32\."),
    ],
)
def test_plans_that_are_refused(source: str, target: str | None, rescale: Rescale | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan_values(source, target, rescale, False, unread)
