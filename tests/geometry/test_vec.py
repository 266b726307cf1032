from __future__ import annotations

import pickle

import numpy as np
import pytest

from wkdask.errors import InputError
from wkdask.geometry import Vec3Float, Vec3Int


@pytest.mark.parametrize(
    "given",
    [(1, 2, 3), [1, 2, 3], "1,2,3", "(1, 2, 3)", np.array([1, 2, 3], "u1"), (1.0, np.float32(2), np.int8(3)), range(1, 4)],
)
def test_spellings(given: object) -> None:
    vector = Vec3Int(given)
    assert vector == (1, 2, 3)
    assert hash(vector) == hash((1, 2, 3))
    assert all(type(c) is int for c in vector)
    assert pickle.loads(pickle.dumps(vector)) == vector
    assert type(pickle.loads(pickle.dumps(vector))) is Vec3Int


@pytest.mark.parametrize(
    "given", [(1, 2), (1, 2, 3, 4), 3, "1-2-3", "", (1.5, 2, 3), ("a", 1, 2), (True, 1, 1), None, (float("nan"), 1, 1)]
)
def test_nonsense_is_refused(given: object) -> None:
    with pytest.raises(InputError):
        Vec3Int(given)


def test_two_numbers_are_refused() -> None:
    with pytest.raises(InputError):
        Vec3Int(1, 2)


def test_arithmetic() -> None:
    v, ones = Vec3Int(5, -6, 7), (1, 1, 1)
    assert v + 1 == (6, -5, 8)
    assert ones + v == (6, -5, 8)
    assert v - (1, 2, 3) == (4, -8, 4)
    assert 10 - v == (5, 16, 3)
    assert 2 * v == v * (2, 2, 2) == v * np.array([2, 2, 2]) == v * np.int64(2) == (10, -12, 14)
    assert v // 2 == (2, -3, 3)
    assert v % 4 == (1, 2, 3)
    assert -v == (-5, 6, -7)
    assert v.ceildiv(2) == (3, -3, 4)
    assert v.pairmax(0) == (5, 0, 7)
    assert v.pairmin((9, 9, 1)) == (5, -6, 1)
    assert sum([v, v]) == v * 2
    assert type(ones + v) is Vec3Int
    with pytest.raises(InputError):
        v * 1.5
    with pytest.raises(TypeError):
        v + None  # type: ignore[operator]


def test_parts() -> None:
    v = Vec3Int.from_xyz(1, 2, 3)
    assert (v.x, v.y, v.z) == v.to_tuple() == (1, 2, 3)
    assert (v.with_x(9), v.with_y(9), v.with_z(9)) == ((9, 2, 3), (1, 9, 3), (1, 2, 9))
    assert v.prod() == 6
    assert v.contains(3) and not v.contains(4)
    assert Vec3Int.zeros().is_positive() and not Vec3Int.zeros().is_positive(strictly_positive=True)
    assert Vec3Int.full(4).is_uniform() and not v.is_uniform()
    assert v.to_np().dtype == np.int64 and v.to_list() == [1, 2, 3]
    assert repr(v) == "Vec3Int(1, 2, 3)"


def test_floats() -> None:
    assert Vec3Float("11.24, 11.24, 28") == (11.24, 11.24, 28.0)
    assert Vec3Float(np.array([1, 2, 3])) == Vec3Float(1, 2, 3)
    assert pickle.loads(pickle.dumps(Vec3Float(1, 2, 3))).z == 3.0
    for wrong in ("a,b,c", (1, 2), 3):
        with pytest.raises(InputError):
            Vec3Float(wrong)  # type: ignore[arg-type]
