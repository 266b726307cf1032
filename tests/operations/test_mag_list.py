from __future__ import annotations

import json
import random
import subprocess
import warnings
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wkdask.errors import InputError
from wkdask.geometry import Mag, Vec3Int
from wkdask.operations.mag_list import (
    SamplingModes,
    calculate_mags_to_downsample,
    calculate_mags_to_upsample,
    default_coarsest_mag,
    sampling_mode_for,
)

mags = st.tuples(*[st.integers(0, 6).map(lambda e: 2**e)] * 3).map(Mag)
voxels = st.tuples(*[st.sampled_from([1, 2, 4, 3, 3.5, 11.24, 28, 35, 1e3]) | st.floats(0.1, 1e4)] * 3)


def names(*args: object) -> list[str]:
    return [str(mag) for mag in calculate_mags_to_downsample(*args)]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ((1, 64, (1, 1, 1)), "2 4 8 16 32 64"),
        ((1, 64, (4, 4, 4.5)), "2 4 8 16 32 64"),
        ((1, 64, (11, 11, 25)), "2-2-1 4-4-2 8-8-4 16-16-8 32-32-16 64-64-32"),
        ((1, 64, (11.24, 11.24, 28)), "2-2-1 4-4-2 8-8-4 16-16-8 32-32-16 64-64-32"),
        ((1, 64, (11.24, 11.240000001, 28)), "2-2-1 4-4-2 8-8-4 16-16-8 32-32-16 64-64-32"),
        ((1, 64, (6, 6, 30)), "2-2-1 4-4-1 8-8-2 16-16-4 32-32-8 64-64-16"),
        ((1, 64, (1, 1, 3)), "2-2-1 4-4-1 8-8-2 16-16-4 32-32-8 64-64-16"),
        ((1, 64, (4, 4, 35)), "2-2-1 4-4-1 8-8-1 16-16-2 32-32-4 64-64-8"),
        ((1, 64, (4, 4, 40)), "2-2-1 4-4-1 8-8-1 16-16-2 32-32-4 64-64-8"),
        ((1, 16, (3, 3, 1)), "1-1-2 1-1-4 2-2-8 4-4-16"),
        ((1, 16, (16, 16, 4)), "1-1-2 1-1-4 2-2-8 4-4-16"),
        ((1, 16, (1, 2, 4)), "2-1-1 4-2-1 8-4-2 16-8-4"),
        (("8-8-1", 64, (8, 8, 8)), "16 32 64"),
        (("4-4-2", 16, (1, 1, 1)), "8 16"),
        ((1, 4, (4, 4, 40)), "2-2-1 4-4-1"),
        (("1-1-2", 4, (1, 1, 1), "isotropic"), "2-2-4"),
        ((1, 8, (1, 1, 1), "constant_z"), "2-2-1 4-4-1 8-8-1"),
        ((1, 8, (1, 1, 1), "auto", ["1", "2-2-1", "4-4-2"]), "2-2-1 4-4-2 8"),
        ((4, 4, (1, 1, 1)), ""),
    ],
)
def test_lists(args: tuple[object, ...], expected: str) -> None:
    assert names(*args) == expected.split()


def test_upsample() -> None:
    assert [str(m) for m in calculate_mags_to_upsample(16, 1, (11, 11, 25))] == ["8-8-4", "4-4-2", "2-2-1", "1"]
    assert calculate_mags_to_upsample(2, 2, (1, 1, 1)) == []


def test_wrong_values_are_refused() -> None:
    for args in (
        (4, 2, (1, 1, 1)),
        ("1-1-2", "4-4-1", (1, 1, 1)),
        (1, 4, (1, 1, 0)),
        ("2-2-1", 8, (1, 1, 1), "auto", ["1-1-4"]),
        (1, 4, (1, 1, 1), "quick"),
    ):
        with pytest.raises(InputError):
            names(*args)


def test_unreachable_ends_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="ends at mag 4-4-1"):
        assert names(1, "4-4-16", (1, 1, 100)) == ["2-2-1", "4-4-1"]


def test_modes() -> None:
    assert SamplingModes.parse("AUTO") is SamplingModes.parse("anisotropic") is SamplingModes.ANISOTROPIC
    assert sampling_mode_for((9, 9, 1), "isotropic") is SamplingModes.CONSTANT_Z
    assert sampling_mode_for((9, 9, 2), SamplingModes.ISOTROPIC) is SamplingModes.ISOTROPIC


@pytest.mark.parametrize(
    ("size", "mag"),
    [
        ((10, 10), 4),
        ((400, 400), 4),
        ((401, 400), 8),
        ((1000, 100), 16),
        ((1600, 1), 16),
        ((5000, 3000), 64),
        ((100000, 80000), 1024),
    ],
)
def test_default_coarsest(size: tuple[int, int], mag: int) -> None:
    assert default_coarsest_mag((*size, 10**6)) == Mag(mag)


@given(mags, mags, voxels, st.sampled_from(SamplingModes))
def test_every_list(finest: Mag, coarsest: Mag, voxel_size: tuple[float, ...], mode: SamplingModes) -> None:
    coarsest = Mag(coarsest.to_vec3_int().pairmax(finest.to_vec3_int()))
    uniform = Mag(coarsest.max_dim)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [finest, *calculate_mags_to_downsample(finest, coarsest, voxel_size, mode)]
        even = [finest, *calculate_mags_to_downsample(finest, uniform, voxel_size, mode)]
    for steps in (found, even):
        assert all(not any(b.to_vec3_int() % a.to_vec3_int()) and a != b for a, b in pairwise(steps))
    assert all(m.to_vec3_int().pairmax(coarsest.to_vec3_int()) == coarsest.to_vec3_int() for m in found)
    if mode is not SamplingModes.CONSTANT_Z:
        assert all(b.max_dim == 2 * a.max_dim for a, b in pairwise(even))
        assert even[-1].max_dim == uniform.max_dim
    else:
        assert {m.z for m in found} == {finest.z}


ORACLE = """
import importlib, json, sys, webknossos
module = importlib.import_module("webknossos.dataset.layer._downsampling_utils")
Mag, out = webknossos.Mag, []
for start, stop, voxel in json.load(sys.stdin):
    try:
        out.append([str(m) for m in module.calculate_mags_to_downsample(Mag(start), Mag(stop), None, voxel and tuple(voxel))])
    except Exception as error:
        out.append(type(error).__name__)
json.dump(out, sys.stdout)
"""


@pytest.mark.oracle("webknossos")
def test_reference_has_the_same_lists(webknossos_python: Path) -> None:
    rng = random.Random(1)
    jobs = []
    for _ in range(600):
        start = Vec3Int([2 ** rng.randrange(4) for _ in range(3)])
        stop = start * [2 ** rng.randrange(5) for _ in range(3)] if rng.random() < 0.5 else Vec3Int.full(128)
        sizes = [rng.choice([1, 2, 3, 4, 4.5, 6, 11.24, 28, 30, 35, 40]) for _ in range(3)]
        jobs.append((list(start), list(stop), rng.choice([None, sizes, sizes, sizes])))
    done = subprocess.run([webknossos_python, "-c", ORACLE], input=json.dumps(jobs), capture_output=True, text=True, check=True)
    for job, expected in zip(jobs, json.loads(done.stdout), strict=True):
        start, stop, sizes = job
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = names(start, stop, sizes or (1, 1, 1), "anisotropic" if sizes else "isotropic")
        if isinstance(expected, str):
            assert (expected, len(caught)) == ("RuntimeError", 1), job
        else:
            assert (found, len(caught)) == (expected, 0), job


def test_of_several_mags_to_align_with_the_mode_decides_else_the_first():
    voxel = (4, 4, 35)  # by itself 2-2-1, 4-4-1
    for aligned in (["2", "2-2-1"], ["2-2-1", "2"]):
        assert calculate_mags_to_downsample(1, 2, voxel, aligned=aligned) == [Mag("2-2-1")]
        assert calculate_mags_to_downsample(1, 2, voxel, "isotropic", aligned) == [Mag(2)]
    for first, second in (("2-1-1", "1-2-1"), ("1-2-1", "2-1-1")):
        assert calculate_mags_to_downsample(1, 2, voxel, aligned=[first, second]) == [Mag(first)]
    assert calculate_mags_to_downsample("1-1-2", 4, voxel, aligned=["2-2-1", "4-4-2", "4-2-4"])[-1] == Mag("4-4-2")
    with pytest.raises(InputError, match=r"4-4-1 of another layer can not be made of mag 1-2-2"):
        calculate_mags_to_downsample("1-2-2", 4, voxel, aligned=["4-4-1", "4-1-4"])
