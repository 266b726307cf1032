"""Coordinate transformations are values: they chain, invert, survive JSON, and map points as other programs do."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wkdask as wk
from wkdask.errors import InputError, MetadataError
from wkdask.geometry.landmarks import MAX_LANDMARKS, ThinPlateSpline, fit_affine
from wkdask.metadata import OtherCoordinateTransformation
from wkdask.metadata.chain import chained
from wkdask.metadata.transformation import parse_transformations

Affine, Spline = wk.AffineCoordinateTransformation, wk.ThinPlateSplineCoordinateTransformation

numbers = st.floats(-50, 50, allow_nan=False).map(lambda x: round(x, 3))
points = st.tuples(numbers, numbers, numbers)
CORNERS = [(0, 0, 0), (10, 0, 0), (0, 10, 0), (0, 0, 10), (10, 10, 10)]


@st.composite
def affines(draw):
    """Well conditioned ones: rotations, scales and shifts."""
    found = Affine.identity()
    for _ in range(draw(st.integers(1, 3))):
        found = found.rotate(draw(st.sampled_from("xyz")), draw(st.floats(-180, 180)))
        found = found.scale(draw(st.tuples(*[st.sampled_from([0.5, 1, 2, -1])] * 3)))
        found = found.translate(draw(points))
    return found


@st.composite
def landmarks(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    source = np.vstack([CORNERS, rng.uniform(0, 10, (draw(st.integers(0, 12)), 3))])
    return source, source + rng.normal(0, 1, source.shape)


def homogeneous(matrix, found):
    return (np.array(matrix) @ np.column_stack([found, np.ones(len(found))]).T).T[:, :3]


@given(affines(), affines(), st.lists(points, max_size=5))
def test_affine_ones_chain_and_invert_as_matrices_do(a, b, found) -> None:
    found = np.array(found, float).reshape(-1, 3)
    assert np.allclose(a.apply(found), homogeneous(a.matrix, found))
    both = a.then(b)
    assert isinstance(both, Affine)
    assert np.allclose(both.apply(found), b.apply(a.apply(found)), atol=1e-6)
    assert np.allclose(both.matrix, np.array(b.matrix) @ np.array(a.matrix))
    assert b @ a == both == a.chain(b)
    assert np.allclose(a.inverse().apply(a.apply(found)), found, atol=1e-6)


def test_what_each_constructor_does() -> None:
    moved = Affine.from_translation((1, 2, 3))
    assert moved.apply([(10, 20, 30)]).tolist() == [[11, 22, 33]]
    assert Affine.from_scale((2, 3, 4)).apply([(1, 1, 1)]).tolist() == [[2, 3, 4]]
    assert Affine.identity().matrix == ((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1))
    for axis, start, end in (("x", (0, 1, 0), (0, 0, 1)), ("y", (0, 0, 1), (1, 0, 0)), ("z", (1, 0, 0), (0, 1, 0))):
        assert np.allclose(Affine.from_rotation(axis, 90).apply([start]), [end])
    assert moved.flip("y").apply([(0, 0, 0)]).tolist() == [[1, -2, 3]]
    assert moved.scale(2).apply([(0, 0, 0)]).tolist() == [[2, 4, 6]]


@given(affines(), landmarks())
def test_least_squares_find_the_best_affine_map(true, pairs) -> None:
    source, noisy = pairs
    exact = Affine.from_pairs(zip(source.tolist(), true.apply(source).tolist(), strict=True))
    assert np.allclose(exact.matrix, true.matrix, atol=1e-6)
    oracle, *_ = np.linalg.lstsq(np.column_stack([source, np.ones(len(source))]), noisy, rcond=None)
    assert np.allclose(fit_affine(source, noisy)[:3], oracle.T, atol=1e-6)


@given(landmarks(), affines(), st.sampled_from([1, 1e-4, 1e6]))
def test_splines_meet_their_landmarks_at_any_size(pairs, moved, size) -> None:
    source, target = (side * size + size for side in pairs)
    spline = Spline(source, target)
    assert np.allclose(spline.apply(source), target, rtol=1e-6, atol=1e-6 * size)
    assert np.allclose(spline.inverse().apply(target), source, rtol=1e-6, atol=1e-6 * size)
    flat = Spline(source, moved.apply(source))  # what is affine is not bent
    between = np.random.default_rng(0).uniform(-20, 20, (7, 3)) * size
    assert np.allclose(flat.apply(between), moved.apply(between), rtol=1e-5, atol=1e-4 * size)


@given(landmarks())
def test_splines_are_those_that_the_plain_formula_gives(pairs) -> None:
    """Kernel r² log r and a linear part, solved in one go in the points' own units."""
    source, target = pairs
    n = len(source)
    distance = np.linalg.norm(source[:, None] - source[None], axis=2)
    kernel = np.where(distance > 0, distance**2 * np.log(np.where(distance > 0, distance, 1)), 0)
    linear = np.column_stack([np.ones(n), source])
    system = np.block([[kernel, linear], [linear.T, np.zeros((4, 4))]])
    solved = np.linalg.solve(system, np.vstack([target, np.zeros((4, 3))]))
    found = np.random.default_rng(1).uniform(-20, 30, (50, 3))
    far = np.linalg.norm(found[:, None] - source[None], axis=2)
    expected = far**2 * np.log(far) @ solved[:n] + np.column_stack([np.ones(50), found]) @ solved[n:]
    assert np.allclose(ThinPlateSpline.through(source, target).apply(found), expected, rtol=1e-6, atol=1e-5)


def test_a_spline_is_evaluated_in_blocks(monkeypatch) -> None:
    monkeypatch.setattr("wkdask.geometry.landmarks._BLOCK_VALUES", 12)
    spline = ThinPlateSpline.through(CORNERS, Affine.from_translation((1, 2, 3)).apply(CORNERS))
    found = np.arange(33.0).reshape(-1, 3)
    assert np.allclose(spline.apply(found), found + np.array([1, 2, 3]))


def test_mixed_steps_stay_a_chain_and_lead_back() -> None:
    bent = Spline(CORNERS, [*CORNERS[:4], (10, 10, 13)])
    moved = Affine.from_translation((5, 0, 0))
    both = moved.then(bent, moved, moved)
    assert [type(step) for step in both.steps] == [Affine, Spline, Affine]
    assert both == moved.then(bent).then(moved.then(moved)) and hash(both) == hash(both.then())
    assert np.allclose(both.apply([(5, 10, 10)]), [(20, 10, 13)])
    assert np.allclose(both.inverse().apply([(20, 10, 13)]), [(5, 10, 10)])
    assert pickle.loads(pickle.dumps(both)) == both
    assert chained([]).apply([(1, 2, 3)]).tolist() == [[1, 2, 3]]


@given(affines(), landmarks(), st.dictionaries(st.text(min_size=1, max_size=3).map("x".__add__), st.integers(), max_size=2))
def test_json_is_kept_as_it_is(affine, pairs, others) -> None:
    source, target = (side.round(3).tolist() for side in pairs)
    raw = [
        {"type": "affine", "matrix": [list(row) for row in affine.matrix], **others},
        {"type": "thin_plate_spline", "correspondences": {"source": source, "target": target, **others}, **others},
        {"type": "warp", **others},
    ]
    found = parse_transformations(raw, "a layer")
    assert [type(step) for step in found] == [Affine, Spline, OtherCoordinateTransformation]
    for step, said in zip(found, raw, strict=True):
        assert json.dumps(step.to_dict()) == json.dumps(said)
        assert pickle.loads(pickle.dumps(step)) == copy.deepcopy(step) == step
    assert found[1].pairs == tuple(zip(map(tuple, source), map(tuple, target), strict=True))
    with pytest.raises(Exception, match="frozen"):
        found[0].matrix = ()


def test_unknown_keys_of_neighbours_are_not_lost_in_a_product() -> None:
    marked = Affine.from_scale(2).model_copy(update={"note": "mine"})
    assert len(marked.then(Affine.identity()).steps) == 2


FOUR = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Affine.from_pairs([]), "0 landmarks"),
        (lambda: Affine.from_pairs([(p, p) for p in FOUR[:3]]), "3 landmarks"),
        (lambda: Affine.from_pairs([((x, y, 7), (x, y, 7)) for x in range(3) for y in range(3)]), "one plane"),
        (lambda: Spline([FOUR[0], *FOUR], [FOUR[1], *FOUR]).apply([]), "same source"),
        (lambda: Spline(FOUR, FOUR[:3]), "4 source points and 3 target points"),
        (lambda: Spline(FOUR, [(0, 0)] * 4), r"target\[0\]"),
        (lambda: Spline.from_pairs([(1, 2, 3)]), "no pair"),
        (lambda: Affine.from_scale((1, 0, 1)).inverse(), "no inverse"),
        (lambda: Affine(np.ones((4, 4))), "last row"),
        (lambda: Affine(np.ones((3, 4))), "matrix"),
        (lambda: Affine([[float("nan")] * 4] * 3 + [[0, 0, 0, 1]]), "number"),
        (lambda: Affine.identity().apply([(1, 2)]), r"n × 3"),
        (lambda: Affine.identity().apply([(1, 2, float("inf"))]), "finite"),
        (lambda: Affine.from_rotation("t", 3), "no axis"),
        (lambda: Affine.from_translation((1, 2)), "three numbers"),
        (lambda: parse_transformations([{"type": "warp"}], "a")[0].apply([]), "'warp' can not be applied"),
        (parse_transformations([{"type": "warp"}], "a")[0].inverse, "'warp' can not be inverted"),
    ],
)
def test_what_is_refused(make, said) -> None:
    with pytest.raises(InputError, match=said):
        make()


def test_a_spline_has_so_many_landmarks_at_most() -> None:
    many = np.random.default_rng(0).random((MAX_LANDMARKS + 1, 3))
    with pytest.raises(InputError, match=f"{MAX_LANDMARKS + 1} landmarks"):
        ThinPlateSpline.through(many, many)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (["affine"], r"coordinateTransformations\[0\] is 'affine'"),
        ([{}], "no key 'type'"),
        ([{"type": 3}], "type is 3"),
        ([{"type": "warp"}, {"type": "affine"}], r"coordinateTransformations\[1\].*no key 'matrix'"),
        ([{"type": "affine", "matrix": [[1, 0, 0, 0]] * 4}], "last row"),
        ([{"type": "thin_plate_spline", "correspondences": {"source": [[1, 2, 3]], "target": []}}], "1 source points and 0"),
    ],
)
def test_bad_json_is_named(raw, said) -> None:
    with pytest.raises(MetadataError, match=said):
        parse_transformations(raw, "layer 'a'")
