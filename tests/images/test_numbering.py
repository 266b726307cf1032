"""Names become an order, gaps in their numbers are noticed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wkdask.errors import InputError
from wkdask.images.numbering import (
    natural_order,
    numbers_by_pattern,
    packed_names,
    packed_numbers,
    packed_plan,
    place_slices,
    unpacked_names,
    unpacked_numbers,
    unpacked_plan,
    varying_numbers,
)


def placed(names: list[str], missing: str | None) -> tuple[Any, tuple[str, ...]]:
    return place_slices(names, missing, varying_numbers(names))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a1.tif", "a2.tif"], [1, 2]),
        (["a1_b5.tif", "a1_b7.tif"], [5, 7]),
        (["1.png", "2.PNG"], [1, 2]),
        (["a1_b5.tif", "a2_b7.tif"], None),
        (["x.tif", "y1.tif"], None),
        (["a1.tif", "a01.tif"], [1, 1]),
        (["a.tif"], None),
    ],
)
def test_the_varying_number(names: list[str], expected: list[int] | None) -> None:
    assert varying_numbers(names) == expected


def test_many_gaps_are_named_shortly() -> None:
    with pytest.raises(InputError, match=r"'s1\.tif' to 's99\.tif' leave gaps: 2, 3, 4, 5, 6 and 91 more are missing.*zeros"):
        placed(["s1.tif", "s98.tif", "s99.tif"], None)
    with pytest.raises(InputError, match="gaps: 412 is missing"):
        placed(["slice_0411", "slice_0413"], None)


def test_doubles_are_refused_whatever_is_missing() -> None:
    for missing in (None, "zeros", "repeat", "close"):
        with pytest.raises(InputError, match="same number 1"):
            placed(natural_order(["s01.tif", "s1.tif", "s2.tif"]), missing)


def test_time_stamps_do_not_become_billions_of_planes() -> None:
    with pytest.raises(InputError, match="too many to be filled"):
        placed(["s20260101.tif", "s20270101.tif"], "zeros")


@given(st.sets(st.integers(0, 40), min_size=2), st.booleans())
def test_filled_plans(numbers: set[int], padded: bool) -> None:
    names = natural_order([f"a_{number:03}.tif" if padded else f"a_{number}.tif" for number in numbers])
    first, last = min(numbers), max(numbers)
    zeros, _ = placed(names, "zeros")
    repeat, _ = placed(names, "repeat")
    assert [names[i] for i in zeros if i >= 0] == names
    assert [z + first for z, i in enumerate(zeros) if i < 0] == sorted(set(range(first, last + 1)) - numbers)
    assert list(repeat) == [sum(number <= z for number in numbers) - 1 for z in range(first, last + 1)]
    for plan in (zeros, repeat, range(5)):
        assert unpacked_plan(packed_plan(plan)) == plan


@given(st.lists(st.text(st.characters(exclude_characters="\0/"), min_size=1), min_size=1))
def test_any_names_survive_packing(names: list[str]) -> None:
    assert unpacked_names(packed_names(names)) == tuple(names)


@given(st.lists(st.integers(0, 3000), min_size=1), st.integers(0, 5), st.sampled_from(["", "s", "s1_", "10"]))
def test_numbered_names_survive_packing(numbers: list[int], width: int, before: str) -> None:
    names = [f"{before}{number:0{width}}.tif" for number in numbers]
    assert unpacked_names(packed_names(names)) == tuple(names)


def test_a_hundred_thousand_names_are_small() -> None:
    texts, widths, [numbers] = packed_names([f"s{z}.tif" for z in range(100_000)])
    assert (texts, widths) == (("s", ".tif"), (0,))
    assert len(numbers) < 50


def test_names_in_folders_are_small() -> None:
    packed = packed_names([f"part{z // 1000:02}/s{z % 1000}.tif" for z in range(100_000)])
    texts, widths, columns = packed
    assert (texts, widths) == (("part", "/s", ".tif"), (2, 0))
    assert sum(map(len, map(bytes, columns))) < 200


@given(st.lists(st.integers(-(2**62), 2**62)))
def test_numbers_survive_packing(numbers: list[int]) -> None:
    assert unpacked_numbers(packed_numbers(numbers)) == tuple(numbers)


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), min_size=1),
    st.sampled_from(["a{:02}/{}", "%{}d{}.tif", "{}{}\u0663"]),
)
def test_names_with_several_numbers_survive_packing(numbers: list[tuple[int, int]], pattern: str) -> None:
    names = [pattern.format(*pair) for pair in numbers]
    assert unpacked_names(packed_names(names)) == tuple(names)


@given(st.lists(st.tuples(st.integers(-999, 999), st.sampled_from(["a", "q/b"])), min_size=1))
def test_numbers_by_pattern(rows: list[tuple[int, str]]) -> None:
    names = [f"z9/{name}_z{number:+}.tif" for number, name in rows]
    assert numbers_by_pattern(names, r"z([+-]?\d+)") == [number for number, _ in rows]


@given(st.permutations([f"{a}/s{b}.tif" for a in ("1", "10", "2", "a b", "a", "a.b") for b in (1, 2, 10)]))
def test_natural_order_goes_folder_by_folder(names: list[str]) -> None:
    folders = ["1", "2", "10", "a", "a b", "a.b"]
    assert natural_order(names) == [f"{a}/s{b}.tif" for a in folders for b in (1, 2, 10)]
