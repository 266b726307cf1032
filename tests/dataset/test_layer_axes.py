"""Boxes of layers with further axes, as t: what they say, how they are set and grow, and what views make of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wkdask as wk
from tests.conftest import examples
from wkdask.dataset.positions import spread
from wkdask.errors import BoxError, UnfitError

AXES = ("t", "x", "y", "z")


def box(first: int, times: int, topleft=(0, 0, 0), size=(24, 20, 16)) -> wk.NDBoundingBox:
    return wk.NDBoundingBox((first, *topleft), (times, *size), AXES, (1, 2, 3, 4))


@pytest.fixture
def film(tmp_path: Path) -> wk.Layer:
    return wk.Dataset(tmp_path / "ds", (4, 4, 35)).add_layer("film", "color", bounding_box=box(0, 3))


@pytest.fixture
def mag(film: wk.Layer) -> wk.MagView:
    mag = film.add_mag(1, chunk_shape=32, shard_shape=32)
    mag.write(frames())
    return mag


def frames() -> np.ndarray:
    return np.random.default_rng(3).integers(1, 255, (1, 3, 24, 20, 16)).astype("uint8")


def test_the_box_has_the_axes_that_it_was_given(film):
    assert isinstance(film.bounding_box, wk.NDBoundingBox) and film.bounding_box == box(0, 3)
    assert film.bounding_box.index == (1, 2, 3, 4)
    assert film.dataset.get_layer("film").bounding_box == box(0, 3)


def test_normalized_boxes_have_channels_too(film, mag):
    expected = wk.NDBoundingBox((0, 0, 0, 0, 0), (1, 3, 24, 20, 16), ("c", *AXES))
    for found in (film.normalized_bounding_box, mag.normalized_bounding_box):
        assert isinstance(found, wk.NormalizedBoundingBox) and found == expected


def test_a_layer_of_x_y_z_has_a_normalized_box(tmp_path):
    plain = wk.BoundingBox((1, 2, 3), (4, 5, 6))
    layer = wk.Dataset(tmp_path / "ds", (1, 1, 1)).add_layer("rgb", "color", num_channels=3, bounding_box=plain)
    assert layer.normalized_bounding_box == plain.normalize_axes(3)
    assert layer.normalized_bounding_box.denormalize() == layer.bounding_box == plain


@pytest.mark.parametrize("first", [0, 1])
def test_time_points_that_a_box_left_out_are_0_for_ever(film, mag, first):
    film.bounding_box = box(first, 2 - first, size=(24, 10, 16))
    film.bounding_box = box(0, 5)
    expected = np.zeros((1, 5, 24, 20, 16), "uint8")
    expected[:, first:2, :, :10] = frames()[:, first:2, :, :10]
    np.testing.assert_array_equal(mag.read(), expected)
    assert film.bounding_box == box(0, 5)


def test_a_box_of_x_y_z_leaves_further_axes_as_they_are(film, mag):
    film.bounding_box = wk.BoundingBox((0, 0, 0), (12, 20, 16))
    assert film.bounding_box == box(0, 3, size=(12, 20, 16))
    film.extend_bounding_box(wk.BoundingBox((0, 0, 0), (40, 8, 8)))
    assert film.bounding_box == box(0, 3, size=(40, 20, 16))


def test_a_box_with_an_axis_that_the_layer_lacks_is_refused(film):
    strange = wk.NDBoundingBox((0, 0, 0, 0), (3, 4, 4, 4), ("angle", "x", "y", "z"))
    with pytest.raises(UnfitError, match="Leave out angle"):
        film.bounding_box = strange
    with pytest.raises(UnfitError, match="below 0"):
        film.bounding_box = box(-1, 3)
    assert film.bounding_box == box(0, 3)


def test_writing_beyond_the_last_time_point_needs_a_box_that_may_grow(film, mag):
    one = np.full((1, 1, 24, 20, 16), 9, "uint8")
    with pytest.raises(BoxError, match="allow_resize"):
        mag.write(one, absolute_bounding_box=box(4, 1))
    with pytest.raises(BoxError, match="beyond"):
        mag.get_view(absolute_bounding_box=box(1, 1)).write(one, absolute_bounding_box=box(2, 1))
    mag.write(one, absolute_bounding_box=box(4, 1), allow_resize=True)
    assert film.bounding_box == box(0, 5)
    found = mag.read()
    np.testing.assert_array_equal(found[:, :3], frames())
    assert not found[:, 3].any() and (found[:, 4] == 9).all()


def test_views_say_which_time_points_they_have(film, mag):
    view = mag.get_view(absolute_bounding_box=film.bounding_box.with_bounds("t", 1, 2))
    assert view.bounding_box == box(1, 2)
    np.testing.assert_array_equal(view.read(), frames()[:, 1:])
    inner = view.get_view(relative_bounding_box=box(1, 1, (4, 0, 0), (8, 20, 16)))
    assert inner.bounding_box == box(2, 1, (4, 0, 0), (8, 20, 16))
    np.testing.assert_array_equal(inner.read(), frames()[:, 2:, 4:12])
    assert mag.get_view(absolute_offset=(4, 0, 0), size=(8, 20, 16)).bounding_box == box(0, 3, (4, 0, 0), (8, 20, 16))
    for chunk in view.chunk((8, 20, 16), read_only=True):
        assert chunk.bounding_box.get_bounds("t") == (1, 3)
    with pytest.raises(BoxError, match="read_only=True"):
        mag.get_view(absolute_bounding_box=box(2, 2))


def test_copies_let_the_box_grow_along_all_axes(film, mag):
    other = film.dataset.add_layer("other", "color", bounding_box=box(0, 1, size=(8, 8, 8)))
    other.add_mag_as_copy(mag)
    assert other.bounding_box == box(0, 3)
    np.testing.assert_array_equal(other.get_mag(1).read(), frames())


def test_the_box_of_all_layers_is_one_of_x_y_z(film):
    film.dataset.add_layer("em", "color", bounding_box=wk.BoundingBox((8, 8, 8), (40, 8, 8)))
    assert film.dataset.calculate_bounding_box() == wk.BoundingBox((0, 0, 0), (48, 20, 16))


PAIRS = st.tuples(st.integers(0, 9), st.integers(1, 9))


@settings(max_examples=examples(30))
@given(PAIRS, PAIRS, st.booleans())
def test_a_box_is_spread_over_the_axes_that_it_lacks(times, other, named):
    whole = box(*times)
    part = box(*other, (1, 2, 3), (4, 5, 6)) if named else wk.BoundingBox((1, 2, 3), (4, 5, 6))
    found = spread(part, whole)
    assert (found.axes, found.topleft_xyz, found.size_xyz) == (AXES, (1, 2, 3), (4, 5, 6))
    assert found.get_bounds("t") == (part if named else whole).get_bounds("t")
