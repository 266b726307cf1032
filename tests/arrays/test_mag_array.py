"""`MagArray.read` is the one primitive: it must answer any box."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.arrays.memory_handle import huge_array, memory_array
from wkdask.errors import InputError
from wkdask.geometry.grid import Box

AXES = ("cxyz", "czyx", "xyz", "ctzyx", "tcxyz")


@settings(deadline=None)
@given(st.data())
def test_read_equals_a_dense_model(data: st.DataObject) -> None:
    axes = data.draw(st.sampled_from(AXES))
    shape = tuple(data.draw(st.integers(1, 6)) for _ in axes)
    array = memory_array(shape, axes)
    start = tuple(data.draw(st.integers(-5, 8)) for _ in axes)
    stop = tuple(a + data.draw(st.integers(0, 6)) for a in start)
    pad = 16
    dense = np.pad(array.handle.read(array.handle.spec.grid.box), pad)
    expected = dense[tuple(slice(a + pad, b + pad) for a, b in zip(start, stop, strict=True))]
    found = array.read(Box(start, stop))
    assert found.dtype == array.dtype
    assert found.flags.f_contiguous
    np.testing.assert_array_equal(found, expected)


def test_read_outside_does_not_ask_the_handle() -> None:
    array = memory_array((1, 4, 4, 4))
    assert not array.read(Box((0, 100, 0, 0), (1, 104, 4, 4))).any()
    assert array.read(Box((0, 2, 0, 0), (1, 2, 4, 4))).shape == (1, 0, 4, 4)


def test_attributes_and_pickle() -> None:
    array = huge_array((1, 4096, 4096, 1024))
    assert array.shape == (1, 4096, 4096, 1024)
    assert array.spacing == (None, 22.48, 22.48, 25.0)
    assert array.dtype == np.uint8
    blob = pickle.dumps(array)
    assert len(blob) < 1000
    assert pickle.loads(blob) == array


def test_box_must_have_an_interval_for_each_axis() -> None:
    with pytest.raises(InputError, match="one interval for each stored axis"):
        memory_array((1, 4, 4, 4), box=Box((0, 0, 0), (4, 4, 4)))


def test_importing_it_loads_no_heavy_library() -> None:
    code = "import sys, wkdask.arrays; print([m for m in ('dask', 'xarray', 'tensorstore', 'pandas') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
