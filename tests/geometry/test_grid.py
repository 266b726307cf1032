"""Grids tile: every voxel lies in exactly one tile, and finding tiles is arithmetic."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wkdask.geometry.grid import Box, Grid, Tiling


@st.composite
def boxes(draw: st.DrawFn, axes: int, low: int = -12, high: int = 12, most: int = 9) -> Box:
    start = tuple(draw(st.integers(low, high)) for _ in range(axes))
    return Box(start, tuple(a + draw(st.integers(0, most)) for a in start))


@st.composite
def tilings(draw: st.DrawFn) -> Tiling:
    axes = draw(st.integers(1, 4))
    most = {1: 30, 2: 14, 3: 8, 4: 4}[axes]
    over = draw(boxes(axes, most=most))
    return Tiling(over, tuple(draw(st.integers(1, most)) for _ in range(axes)))


def voxels(box: Box) -> set[tuple[int, ...]]:
    return set(itertools.product(*map(range, box.start, box.stop)))


@given(tilings())
def test_tiles_cover_each_voxel_once(tiles: Tiling) -> None:
    count = np.zeros(tiles.over.shape, int)
    for number in range(len(tiles)):
        box = tiles.box(number)
        assert box.size > 0
        assert all(0 < n <= s for n, s in zip(box.shape, tiles.shape, strict=True))
        count[box.relative_to(tiles.over.start).slices] += 1
    assert (count == 1).all()


@given(tilings())
def test_tiles_are_aligned_to_the_origin_of_the_array(tiles: Tiling) -> None:
    for number in range(len(tiles)):
        cell, box = tiles.cell(number), tiles.box(number)
        assert all(
            a // s == i and -(-b // s) == i + 1 for a, b, s, i in zip(box.start, box.stop, tiles.shape, cell, strict=True)
        )


@given(tilings())
def test_number_is_the_inverse_of_cell(tiles: Tiling) -> None:
    cells = [tiles.cell(number) for number in range(len(tiles))]
    assert cells == sorted(cells)  # C order
    assert len(set(cells)) == len(cells)
    assert [tiles.number(cell) for cell in cells] == list(range(len(tiles)))
    for beyond in (-1, len(tiles)):
        with pytest.raises(IndexError):
            tiles.cell(beyond)


@given(st.data())
def test_covering_equals_brute_force(data: st.DataObject) -> None:
    tiles = data.draw(tilings())
    box = data.draw(boxes(len(tiles.shape), low=-20, high=20, most=25))
    expected = [n for n in range(len(tiles)) if tiles.box(n).intersect(box).size]
    assert list(tiles.covering(box)) == expected


@given(st.data())
def test_intersection_is_that_of_the_voxels(data: st.DataObject) -> None:
    a, b = (data.draw(boxes(2, low=-4, high=4, most=6)) for _ in range(2))
    assert voxels(a.intersect(b)) == voxels(a) & voxels(b)
    assert a.intersect(b).size == len(voxels(a) & voxels(b))


@given(st.data())
def test_coarse_boxes_are_the_smallest_that_cover(data: st.DataObject) -> None:
    axes = data.draw(st.integers(1, 3))
    box = data.draw(boxes(axes, most=7).filter(lambda box: box.size > 0))
    factor = tuple(data.draw(st.integers(1, 5)) for _ in range(axes))
    coarse = box.coarsened(factor)
    assert voxels(coarse) == {tuple(v // f for v, f in zip(at, factor, strict=True)) for at in voxels(box)}
    fine = coarse.refined(factor)
    assert fine.intersect(box) == box
    assert fine.coarsened(factor) == coarse
    assert fine.size == coarse.size * np.prod(factor)


@given(st.data())
def test_shifting_there_and_back(data: st.DataObject) -> None:
    box = data.draw(boxes(3))
    offset = tuple(data.draw(st.integers(-9, 9)) for _ in range(3))
    assert box.shifted(offset).relative_to(offset) == box
    assert box.relative_to(box.start) == Box((0, 0, 0), box.shape)


def test_units_and_chunks_of_a_grid() -> None:
    grid = Grid((1, 100, 40), (1, 8, 8), (1, 32, 16))
    assert len(grid.units()) == 4 * 3 and len(grid.chunks()) == 13 * 5
    assert grid.chunks_per_unit == (1, 4, 2)
    assert grid.unit_box((0, 3, 2)) == Box((0, 96, 32), (1, 128, 48))
    assert grid.units().box_at((0, 3, 2)) == Box((0, 96, 32), (1, 100, 40))
    inside = Box((0, 30, 0), (1, 34, 1))
    assert [grid.units(inside).cell(n) for n in range(len(grid.units(inside)))] == [(0, 0, 0), (0, 1, 0)]
    assert list(grid.units().covering(inside)) == [0, 3]


@pytest.mark.parametrize(
    ("shape", "chunk", "unit"),
    [
        ((4, 4), (2, 2), (4,)),
        ((4,), (2, 2), (4, 4)),
        ((4,), (3,), (4,)),
        ((4,), (0,), (4,)),
        ((4,), (4,), (0,)),
        ((4,), (-2,), (4,)),
    ],
)
def test_impossible_grids_are_refused(shape: tuple[int, ...], chunk: tuple[int, ...], unit: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\d"):
        Grid(shape, chunk, unit)


def test_a_huge_grid_costs_nothing() -> None:
    grid = Grid((2**40,) * 4, (1, 32, 32, 32), (1, 1024, 1024, 1024))
    units = grid.units()
    last = 2**40 * (2**30) ** 3 - 1
    assert units.cell(last) == (2**40 - 1, *(2**30 - 1,) * 3)
    assert units.number(units.cell(last)) == last
    far = Box((7, 2**39, 0, 1000), (8, 2**39 + 1, 1, 1030))
    assert [units.cell(n) for n in units.covering(far)] == [(7, 2**29, 0, 0), (7, 2**29, 0, 1)]
    with pytest.raises(IndexError):
        units.cell(last + 1)


def test_an_empty_array_has_no_tiles() -> None:
    tiles = Grid((1, 0, 8), (1, 4, 4), (1, 8, 8)).units()
    assert len(tiles) == 0
    assert list(tiles.covering(Box((0, 0, 0), (1, 9, 9)))) == []


def test_grids_pickle() -> None:
    grid = Grid((5, 5), (2, 2), (4, 4))
    assert pickle.loads(pickle.dumps(grid)) == grid
    assert pickle.loads(pickle.dumps(grid.units())) == grid.units()


@given(st.data())
def test_boxes_of_adjacent_tiles_are_those_tiles(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    tiles = Tiling(Box((0,) * len(shape), shape), (1,) * len(shape))
    first = data.draw(st.integers(0, len(tiles)))
    numbers = range(first, data.draw(st.integers(first, len(tiles))))
    found = sorted(n for box in tiles.boxes(numbers) for n in tiles.covering(box))
    assert found == list(numbers)
