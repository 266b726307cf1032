"""Magnifications by physical size: the choice against a search of all of them, and what is no resolution."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wkdask as wk
from wkdask.dataset.resolution import choose_mag, parse_resolution
from wkdask.errors import InputError, MagNotFoundError
from wkdask.geometry import Mag, Vec3Float
from wkdask.metadata import LengthUnit

ALL_MAGS = [Mag(m) for m in itertools.product((1, 2, 4, 8), repeat=3)]

sizes = st.sampled_from([1, 3, 4, 11.24, 35, 100])
voxel_sizes = st.tuples(sizes, sizes, sizes)


def edges_of(mags, voxel):
    return {mag: Vec3Float(*(n * e for n, e in zip(mag, voxel, strict=True))) for mag in mags}


@given(st.sets(st.sampled_from(ALL_MAGS), min_size=1, max_size=8), voxel_sizes, st.tuples(*[st.floats(0.1, 1000)] * 3))
def test_no_other_mag_is_better(mags, voxel, wanted):
    edges = edges_of(mags, voxel)
    chosen = choose_mag(edges, Vec3Float(*wanted))
    best = [min(edge[a] for edge in edges.values()) for a in range(3)]

    def excess(mag):
        return max(e / max(w, b) for e, w, b in zip(edges[mag], wanted, best, strict=True))

    fine = [mag for mag in mags if excess(mag) <= 1 + 1e-6]
    if fine:
        assert excess(chosen) <= 1 + 1e-6
        assert math.prod(edges[chosen]) == pytest.approx(max(math.prod(edges[mag]) for mag in fine))
    else:
        assert math.prod(edges[chosen]) == pytest.approx(min(math.prod(edge) for edge in edges.values()))


@given(st.sets(st.sampled_from(ALL_MAGS), min_size=1, max_size=8), voxel_sizes)
def test_the_own_size_of_a_mag_finds_it_or_one_as_coarse(mags, voxel):
    edges = edges_of(mags, voxel)
    for edge in edges.values():
        assert math.prod(edges[choose_mag(edges, edge)]) >= math.prod(edge) * (1 - 1e-9)


def test_rounding_of_floats_does_not_matter():
    edges = {Mag(1): Vec3Float(0.15, 0.15, 0.15), Mag(2): Vec3Float(*[0.1 * 3] * 3)}
    assert choose_mag(edges, Vec3Float(0.3, 0.3, 0.3)) == Mag(2)


@given(voxel_sizes, st.floats(0.1, 1000), st.sampled_from([1, 1000, 1 / 3]))
def test_the_unit_does_not_matter(voxel, wanted, factor):
    edges, scaled = edges_of(ALL_MAGS, voxel), edges_of(ALL_MAGS, [e * factor for e in voxel])
    assert choose_mag(edges, Vec3Float(*[wanted] * 3)) == choose_mag(scaled, Vec3Float(*[wanted * factor] * 3))


@given(st.floats(1e-3, 1e6), st.sampled_from(list(LengthUnit)))
def test_text_says_what_numbers_say(number, unit):
    nanometer = number * unit.in_nanometer
    for text in (f"{number!r} {unit}", f" {number!r}{unit} ", f"{number!r}, {number!r} x {number!r} {unit}"):
        assert parse_resolution(text) == pytest.approx((nanometer,) * 3)


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        (32, (32, 32, 32)),
        ("32", (32, 32, 32)),
        (np.float32(8), (8, 8, 8)),
        (np.array(8), (8, 8, 8)),
        (np.array([4, 5, 6]), (4, 5, 6)),
        ([4, 5.5, 6], (4, 5.5, 6)),
        (Vec3Float(1, 2, 3), (1, 2, 3)),
        ("0.1 µm", (100, 100, 100)),
        ("0.1 μm", (100, 100, 100)),  # the Greek letter
        ("40 Å", (4, 4, 4)),
        ("1e3nm", (1000, 1000, 1000)),
        ("4 × 4 × 35 nm", (4, 4, 35)),
        ("4,4,35 nanometer", (4, 4, 35)),
    ],
)
def test_spellings(given_, expected):
    assert parse_resolution(given_) == pytest.approx(expected)


@pytest.mark.parametrize(
    "nonsense",
    [
        *(0, -4, math.nan, math.inf, True, None, 10**400, {}, object()),
        *("", "nm", "-4 nm", "0 nm", "4 4", "1,2", "4 nm 5 nm", "nan", "1e999", "9" * 10**6),
        *((1, 2), (1, 2, 3, 4), (1, 0, 1), (1, math.nan, 1), (1, "a", 1), [8], np.ones((3, 3))),
    ],
    ids=lambda value: str(value)[:20],
)
def test_nonsense_is_refused_with_its_value(nonsense):
    with pytest.raises(InputError, match="is no resolution") as caught:
        parse_resolution(nonsense)
    assert len(str(caught.value)) < 400


def test_unknown_units_are_told():
    with pytest.raises(InputError, match="'parrots' is not a unit of length"):
        parse_resolution("4 parrots")


@pytest.fixture
def layer(tmp_path):
    """Voxels of 0.004 x 0.004 x 0.035 µm."""
    size = wk.VoxelSize((0.004, 0.004, 0.035), LengthUnit.MICROMETER)
    dataset = wk.Dataset(tmp_path / "ds", voxel_size_with_unit=size)
    layer = dataset.add_layer("em", "color", bounding_box=wk.BoundingBox((0, 0, 0), (64, 64, 16)))
    for mag in ("8-8-1", 1, "16-16-2", "2-2-1", "4-4-1"):
        layer.add_mag(mag, chunk_shape=16, shard_shape=32)
    return layer


def test_voxel_sizes_are_in_nanometer(layer):
    assert layer.voxel_size == pytest.approx((4, 4, 35))
    assert layer.get_mag("8-8-1").voxel_size == pytest.approx((32, 32, 35))
    assert layer.get_mag("16-16-2").voxel_size == pytest.approx((64, 64, 70))


@pytest.mark.parametrize(
    ("resolution", "name"),
    [
        *((4, "1"), (7.99, "1"), (8, "2-2-1"), (32, "8-8-1"), ("32 nm", "8-8-1"), (64, "8-8-1"), (70, "16-16-2")),
        *(("1 mm", "16-16-2"), ((4, 1000, 1000), "1"), ((1000, 8, 1000), "2-2-1"), ((1000, 1000, 35), "8-8-1")),
        ("0.07 micrometer", "16-16-2"),
    ],
)
def test_at(layer, resolution, name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = layer.at(resolution)
    assert isinstance(found, wk.MagView)
    assert found.name == name


def test_the_finest_with_a_warning_where_all_its_edges_are_longer(layer):
    with pytest.warns(UserWarning, match=r"no voxels as small as \(3.9, 3.9, 3.9\) nm.*mag 1") as told:
        assert layer.at(3.9).name == "1"
    assert told[0].filename == __file__


def test_a_layer_without_mags(tmp_path):
    layer = wk.Dataset(tmp_path / "ds", (4, 4, 35)).add_layer("em", "color")
    with pytest.raises(MagNotFoundError):
        layer.at(32)
