"""Raw files are read by boxes as numpy maps them, and what does not fit is refused before anything is read."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wkdask.errors import CorruptImageError, InputError
from wkdask.images import find_raw
from wkdask.images.volume_raw import ORDERS
from wkdask.storage import Location

DTYPES = ["|u1", "<u2", ">u2", "<i4", ">f4", "<f8", ">u8"]


@st.composite
def boxes(draw):
    """A shape (x, y, z), and a box within it."""
    shape = tuple(draw(st.integers(1, 9)) for _ in range(3))
    ranges = [sorted((draw(st.integers(0, n)), draw(st.integers(0, n)))) for n in shape]
    return shape, ranges


@pytest.mark.parametrize("order", ORDERS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(boxes(), st.sampled_from(DTYPES), st.integers(0, 33))
def test_boxes_are_what_numpy_maps(tmp_path, order, given_box, dtype, header):
    shape, ((x0, x1), (y0, y1), (z0, z1)) = given_box
    voxels = np.random.default_rng(header).integers(0, 255, shape).astype(dtype)
    (tmp_path / "em.raw").write_bytes(bytes(header) + voxels.tobytes(order))
    found = find_raw(tmp_path / "em.raw", shape, dtype, order, header=header)
    stack = pickle.loads(pickle.dumps(found.stack))
    assert (stack.shape, stack.dtype, stack.channels) == (shape[::-1], np.dtype(dtype).name, 1)
    mapped = np.memmap(tmp_path / "em.raw", dtype, "r", header, shape, order)
    read = stack.read(z0, z1, y0, y1, x0, x1)
    np.testing.assert_array_equal(read[..., 0], mapped[x0:x1, y0:y1, z0:z1].T)
    assert read.dtype.isnative


def test_few_runs_are_read_where_boxes_are_whole(tmp_path, monkeypatch):
    """Whole planes of a file lie together, and are one run each, or one in all."""
    np.zeros((6, 5, 4), "uint8").tofile(tmp_path / "em.raw")
    stack = find_raw(tmp_path / "em.raw", (4, 5, 6), "uint8").stack
    filled = []
    monkeypatch.setattr(type(stack.array), "_fill", lambda self, file, view: filled.append(len(view)))
    stack.read(1, 5, 0, 5)
    stack.read(1, 3, 1, 4)
    stack.read(1, 2, 1, 2, 1, 3)
    assert filled == [80, 12, 12, 2]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"shape": (4, 5, 7)}, r"has 120 bytes, but \(4, 5, 7\) of uint8 are 140. Check shape and dtype"),
        ({"shape": (2**40, 2**40, 2**40)}, "Check shape and dtype"),
        ({"shape": (4, 0, 6)}, "expected voxels along all axes"),
        ({"dtype": "uint16"}, "has 120 bytes, but .* of uint16 are 240"),
        ({"dtype": "O"}, "'O' is no dtype of voxels"),
        ({"dtype": "u1,u1"}, "is no dtype of voxels"),
        ({"dtype": "("}, "is no dtype of voxels"),
        ({"dtype": "M8[s]"}, "is no dtype of voxels"),
        ({"order": "A"}, "The order is 'A'; expected F"),
        ({"header": 1}, "has 120 bytes, but .* are 121"),
        ({"header": -1}, "after -1 bytes"),
        ({"path": "other.raw"}, "is no file"),
        ({"path": "."}, "is no file"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, options, said):
    (tmp_path / "em.raw").write_bytes(bytes(120))
    usual = {"path": "em.raw", "shape": (4, 5, 6), "dtype": "uint8"} | options
    with pytest.raises(InputError, match=said):
        find_raw(tmp_path / usual.pop("path"), **usual)


def test_larger_files_are_noted_and_shorter_ones_are_damage(tmp_path):
    path = tmp_path / "em.raw"
    path.write_bytes(bytes(121))
    stack = find_raw(path, (4, 5, 6), "uint8").stack
    [note] = stack.notes
    assert "1 bytes more than are read" in note
    before = stack.identity()
    path.write_bytes(bytes(100))
    assert stack.identity() != before
    assert stack.array.unit_location((0, 0, 0)) == Location.of(path)
    with pytest.raises(CorruptImageError, match="ends 20 bytes too early"):
        stack.read(0, 6, 0, 5)
