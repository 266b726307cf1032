from __future__ import annotations

import pickle
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wkdask.errors import InputError
from wkdask.geometry import BoundingBox, Mag, NDBoundingBox, Vec3Int

small = st.integers(-20, 20)
sizes = st.integers(0, 20)
boxes = st.builds(BoundingBox, st.tuples(small, small, small), st.tuples(sizes, sizes, sizes))
filled = boxes.filter(lambda box: not box.is_empty())
mags = st.tuples(*[st.sampled_from([1, 2, 4, 8])] * 3).map(Mag)
ND = NDBoundingBox((0, 1, 2, 3, 4), (7, 1, 10, 20, 30), ("t", "c", "x", "y", "z"), (0, 1, 2, 3, 4))


def voxels(box: BoundingBox) -> set[tuple[int, ...]]:
    return set(product(*(range(a, b) for a, b in zip(box.topleft, box.bottomright, strict=True))))


def test_negative_size_is_turned_around() -> None:
    assert BoundingBox((5, 5, 5), (-2, 1, 1)) == BoundingBox((3, 5, 5), (2, 1, 1))


def test_wrong_values_are_refused() -> None:
    for topleft, size in (((0, 0), (1, 1, 1)), ((0, 0, 0.5), (1, 1, 1)), ("a", (1, 1, 1))):
        with pytest.raises(InputError):
            BoundingBox(topleft, size)  # type: ignore[arg-type]
    with pytest.raises(InputError):
        NDBoundingBox((0, 0, 0), (1, 1), ("x", "y", "z"), (0, 1, 2))
    with pytest.raises(InputError):
        NDBoundingBox((0, 0, 0), (1, 1, 1), ("x", "y", "y"), (0, 1, 2))


@given(boxes, mags)
def test_alignment(box: BoundingBox, mag: Mag) -> None:
    outer, inner = box.align_with_mag(mag, ceil=True), box.align_with_mag(mag)
    if not box.is_empty():
        assert outer.contains_bbox(box) and box.contains_bbox(inner)
    for aligned in (outer, inner):
        assert aligned.in_mag(mag).from_mag_to_mag1(mag) == aligned
        assert aligned.align_with_mag(mag) == aligned.align_with_mag(mag, ceil=True) == aligned


def test_alignment_of_formats_example() -> None:
    box = BoundingBox((3, 3, 3), (7, 6, 5))
    assert box.align_with_mag(Mag(2), ceil=True) == BoundingBox((2, 2, 2), (8, 8, 6))
    assert box.align_with_mag(Mag(4), ceil=True) == BoundingBox((0, 0, 0), (12, 12, 8))
    assert box.align_with_mag(Mag(8)).is_empty()
    with pytest.raises(InputError, match="not aligned"):
        box.in_mag(Mag(2))


@given(filled, st.tuples(*[st.integers(1, 9)] * 3), st.booleans(), st.tuples(*[st.integers(1, 2)] * 3))
def test_chunks_tile_once(box: BoundingBox, align: tuple[int, ...], aligned: bool, times: tuple[int, ...]) -> None:
    shape = Vec3Int(align) * times
    chunks = list(box.chunk(shape, align if aligned else None))
    assert sum(chunk.volume() for chunk in chunks) == box.volume()
    assert set().union(*map(voxels, chunks)) == voxels(box)
    assert [chunk.topleft for chunk in chunks] == sorted(chunk.topleft for chunk in chunks)
    assert list(box.iter_chunk_toplefts(shape, align if aligned else None)) == [chunk.topleft for chunk in chunks]
    if aligned:
        assert all(t % a == 0 or t == b for chunk in chunks for t, a, b in zip(chunk.topleft, align, box.topleft, strict=True))


def test_chunk_order_and_errors() -> None:
    box = BoundingBox((1, 2, 3), (10, 20, 30))
    assert [c.topleft for c in box.chunk((8, 8, 8), (4, 4, 4))][:3] == [(1, 2, 3), (1, 2, 8), (1, 2, 16)]
    assert len(list(box.chunk((8, 8, 8), (4, 4, 4)))) == 30
    for shape, align in (((8, 8, 8), (3, 3, 3)), ((0, 8, 8), None)):
        with pytest.raises(InputError):
            list(box.chunk(shape, align))


@given(boxes, boxes)
def test_sets(a: BoundingBox, b: BoundingBox) -> None:
    both = a.intersected_with(b, dont_assert=True)
    assert voxels(both) == voxels(a) & voxels(b)
    around = a.extended_by(b)
    assert voxels(a) | voxels(b) <= voxels(around)
    assert a.contains_bbox(b) == (voxels(b) <= voxels(a))
    if a.is_empty():
        assert around == b or b.is_empty()
    if both.is_empty():
        with pytest.raises(InputError):
            a.intersected_with(b)


@given(boxes, st.tuples(small, small, small))
def test_moves(box: BoundingBox, by: tuple[int, int, int]) -> None:
    assert box.offset(by).offset(-Vec3Int(by)) == box
    assert box.with_bottomright(box.bottomright) == box
    assert box.padded_with_margins(by).volume() >= 0
    grown = box.padded_with_margins((1, 2, 3), (4, 5, 6))
    assert grown.padded_with_margins((-1, -2, -3), (-4, -5, -6)) == box
    assert type(grown) is BoundingBox and type(grown.topleft) is Vec3Int


@given(filled)
def test_spellings(box: BoundingBox) -> None:
    ways = [box.to_csv(), box.to_config_dict(), box.to_wkw_dict(), box.to_tuple6(), (box.topleft, box.size), box]
    assert all(BoundingBox.from_auto(way) == box for way in ways)
    assert BoundingBox.from_checkpoint_name(box.to_checkpoint_name()) == box
    assert BoundingBox.from_points([box.topleft, box.bottomright - 1]) == box
    assert pickle.loads(pickle.dumps(box)) == box and hash(pickle.loads(pickle.dumps(box))) == hash(box)


def test_wkw_dict() -> None:
    entry = {"topLeft": [1, 2, 3], "width": 4, "height": 5, "depth": 6}
    assert BoundingBox.from_wkw_dict({**entry, "axisOrder": {"c": 0}}).to_wkw_dict() == entry
    assert ND.to_wkw_dict()["additionalAxes"] == [{"name": "t", "bounds": [0, 7], "index": 0}]
    for wrong in ({"topLeft": [0, 0, 0]}, {"size": [1, 1, 1]}, "{", "1,2,3", [1, 2, 3]):
        with pytest.raises(InputError):
            BoundingBox.from_auto(wrong)


def test_values() -> None:
    box = BoundingBox((1, 2, 3), (10, 20, 30))
    assert box.with_bounds_x(5) == BoundingBox((5, 2, 3), (10, 20, 30))
    assert box.with_bounds_y(None, 3) == BoundingBox((1, 2, 3), (10, 3, 30))
    assert box.with_bounds_z(5, 3) == BoundingBox((1, 2, 5), (10, 20, 3))
    assert box.contains((1.5, 2, 3)) and not box.contains((11, 2, 3))
    assert box == NDBoundingBox((1, 2, 3), (10, 20, 30), ("x", "y", "z"), (0, 1, 2))
    assert box.to_slices() == (slice(1, 11), slice(2, 22), slice(3, 33))
    assert BoundingBox((1, 0, 0), (1, 2, 3)).slice_array(np.zeros((4, 4, 4))).shape == (1, 2, 3)
    assert BoundingBox.empty().is_empty() and eval(repr(box)) == box
    with pytest.raises(AttributeError):
        box.topleft = (0, 0, 0)  # type: ignore[misc]


def test_named_axes() -> None:
    assert ND.align_with_mag(Mag(2), ceil=True).size == (7, 1, 10, 22, 30)
    assert ND.align_with_mag(Mag(2), ceil=True).in_mag(Mag(2)).topleft == (0, 1, 1, 1, 2)
    assert [c.topleft for c in ND.chunk((8, 8, 8))][:2] == [(0, 1, 2, 3, 4), (0, 1, 2, 3, 12)]
    assert next(ND.chunk((8, 8, 8))).size == (1, 1, 8, 8, 8)
    assert ND.offset((1, 1, 1)).topleft == (0, 1, 3, 4, 5)
    assert ND.padded_with_margins((1, 1, 1)).size == (7, 1, 12, 22, 32)
    assert ND.with_bounds("t", 1, 2).get_bounds("t") == (1, 3)
    assert ND.get_shape("t") == 7 and ND.volume() == 42000
    assert ND.with_size_xyz((1, 1, 1)).with_topleft_xyz((0, 0, 0)).bottomright_xyz == (1, 1, 1)
    assert ND.with_bottomright_xyz((3, 4, 5)).size == (7, 1, 1, 1, 1)
    assert BoundingBox.from_ndbbox(ND) == BoundingBox((2, 3, 4), (10, 20, 30))
    assert NDBoundingBox.from_axes(("t", "x", "y", "z"), (1, 2, 3, 4)).index == (0, 1, 2, 3)
    assert pickle.loads(pickle.dumps(ND)) == ND and ND.index_xyz == (2, 3, 4)
    for wrong in (lambda: ND.intersected_with(BoundingBox.empty()), lambda: ND.get_shape("q"), lambda: ND.offset((1, 1))):
        with pytest.raises(InputError):
            wrong()


def test_grouping() -> None:
    a, b = BoundingBox((1, 1, 1), (2, 2, 2)), BoundingBox((2, 2, 2), (2, 2, 2))
    assert NDBoundingBox.group_boxes_with_aligned_mag([a, b], Mag(4)) == {BoundingBox((0, 0, 0), (4, 4, 4)): [a, b]}
