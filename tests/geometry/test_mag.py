from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wkdask.errors import InputError
from wkdask.geometry import Mag, Vec3Int

mags = st.tuples(*[st.integers(0, 12).map(lambda e: 2**e)] * 3).map(Mag)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (1, "1"),
        ("2", "2"),
        ("02", "2"),
        (np.int64(8), "8"),
        (np.array(4), "4"),
        ("2-2-1", "2-2-1"),
        ("4-4-4", "4"),
        ([2, 2, 1], "2-2-1"),
        ((4, 4, 4), "4"),
        (np.array([1, 1, 2]), "1-1-2"),
        (Vec3Int(2, 4, 8), "2-4-8"),
        (Mag("2-2-1"), "2-2-1"),
    ],
)
def test_spellings(given: object, name: str) -> None:
    mag = Mag(given)
    assert str(mag) == mag.to_layer_name() == name
    assert mag == given
    assert Mag(mag.to_long_layer_name()) == mag
    assert eval(repr(mag)) == mag


@pytest.mark.parametrize(
    "given",
    [0, -2, 3, "3", "2-2", "2-2-3", "2,2,1", "", " 2 ", "a", 2.0, np.float64(2), (2, 2), [2], (2, 2, 0), None, True, "2-2-1-1"],
)
def test_nonsense_is_refused(given: object) -> None:
    with pytest.raises(InputError):
        Mag(given)
    assert Mag(2) != given


def test_order_is_by_largest_component() -> None:
    a, b = Mag("2-2-1"), Mag(2)
    assert not a < b and not a > b and a <= b and a >= b and a != b
    assert Mag(1) < a < Mag("1-1-4") and Mag(4) > "2-2-1" and Mag(4) >= 4
    assert a.sort_key < b.sort_key


@given(mags, mags)
def test_values(a: Mag, b: Mag) -> None:
    assert (a == b) == (a.to_tuple() == b.to_tuple()) == (a.sort_key == b.sort_key)
    assert (a * b) // b == a
    assert pickle.loads(pickle.dumps(a)) == copy.deepcopy(a) == a
    assert hash(Mag(a.to_list())) == hash(a)
    assert a.max_dim == max(a) == 2**a.max_dim_log2
    assert len({a, b}) == (1 if a == b else 2)


def test_mag_is_frozen() -> None:
    mag = Mag(2)
    with pytest.raises(AttributeError):
        mag.x = 4  # type: ignore[misc]
    with pytest.raises(AttributeError):
        mag._xyz = Vec3Int(1, 1, 1)
    assert (mag.x, mag.y, mag.z, *mag.to_np().tolist()) == (2,) * 6


def test_division_below_one_is_refused() -> None:
    with pytest.raises(InputError):
        Mag(2) // 4


def test_geometry_does_not_import_numpy() -> None:
    code = "import sys, wkdask.geometry as g; g.Mag('2-2-1'); g.BoundingBox((0,0,0),(1,1,1)); sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
