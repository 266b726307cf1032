"""Where views read and write: errors of the reference's kinds, older spellings, and axes in any stored order."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wkdask as wk
from tests.conftest import examples
from wkdask.errors import BoxError, InputError

SIZE = (24, 20, 12)
ORDERS = [("c", "x", "y", "z"), ("c", "z", "y", "x"), ("z", "c", "x", "y"), ("x", "y", "z", "c")]


def reordered(place, axes, channels=2):
    """A layer whose array has its axes in some stored order."""
    layer = wk.Dataset(place, (1, 1, 1)).add_layer(
        "em", "color", dtype="uint16", num_channels=channels, bounding_box=wk.BoundingBox((0, 0, 0), SIZE)
    )
    layer.add_mag(1, chunk_shape=8, shard_shape=16)
    document = json.loads((place / "datasource-properties.json").read_bytes())
    lengths = {"c": channels, "x": 32, "y": 32, "z": 16}
    document["dataLayers"][0]["mags"][0]["axisOrder"] = {axis: i for i, axis in enumerate(axes)}
    (place / "datasource-properties.json").write_text(json.dumps(document))
    array = json.loads((place / "em/1/zarr.json").read_bytes())
    array["shape"] = [lengths[axis] for axis in axes]
    array["dimension_names"] = list(axes)
    array["chunk_grid"]["configuration"]["chunk_shape"] = [channels if a == "c" else 16 for a in axes]
    inner = [channels if a == "c" else 8 for a in axes]
    array["codecs"][0]["configuration"]["chunk_shape"] = inner
    (place / "em/1/zarr.json").write_text(json.dumps(array))
    return wk.Dataset.open(place).get_layer("em").get_mag(1)


@settings(max_examples=examples(6))
@given(st.sampled_from(ORDERS), st.data())
def test_canonical_axes_whatever_is_stored(tmp_path_factory, axes, data):
    mag = reordered(tmp_path_factory.mktemp("axes") / "ds", axes)
    assert mag.array.axes == axes
    voxels = np.random.default_rng(0).integers(1, 1 << 16, (2, *SIZE)).astype("uint16")
    mag.write_cxyz(voxels)
    start = [data.draw(st.integers(0, n - 1)) for n in SIZE]
    size = [data.draw(st.integers(1, n - a)) for n, a in zip(SIZE, start, strict=True)]
    inside = tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))
    part = voxels[(slice(None), *inside)].copy()
    found = mag.read_cxyz(absolute_offset=start, size=size)
    np.testing.assert_array_equal(found, part)
    assert found.flags.f_contiguous
    np.testing.assert_array_equal(mag.read(absolute_offset=start, size=size), part.transpose(["cxyz".index(a) for a in axes]))
    view = mag.get_view(absolute_offset=start, size=size)
    view.write_cxyz(part + np.uint16(1))
    voxels[(slice(None), *inside)] += np.uint16(1)
    np.testing.assert_array_equal(mag.read_cxyz(), voxels)
    with pytest.deprecated_call(match="read_cxyz"):
        np.testing.assert_array_equal(view.read_xyz(), part + np.uint16(1))


BOX = wk.BoundingBox((8, 4, 2), (0, 4, 4))
PIECE = np.ones((4, 4, 4), "uint8")


@pytest.mark.parametrize(
    ("verb", "kind"),
    [
        (lambda m: m.read(absolute_offset=(-2, 4, 2), size=(4, 4, 4)), AssertionError),
        (lambda m: m.read(absolute_bounding_box=BOX), AssertionError),
        (lambda m: m.read(relative_offset=(0, 0, 0), size=(4, 0, 4)), AssertionError),
        (lambda m: m.read(relative_offset=(0, 0, 0), size=(4, -4, 4)), AssertionError),
        (lambda m: m.read(relative_offset=(40, 0, 0)), AssertionError),
        (lambda m: m.read_cxyz(relative_offset=(60, 0, 0)), AssertionError),
        (lambda m: m.layer.get_mag("2-2-1").read(absolute_offset=(9, 4, 2), size=(4, 4, 4)), AssertionError),
        (lambda m: m.get_view(absolute_offset=(0, 0, 0), size=(9, 9, 9)), AssertionError),
        (lambda m: m.get_view(absolute_offset=(8, 4, 2), size=(0, 9, 9), read_only=True), AssertionError),
        (
            lambda m: m.get_view(absolute_offset=(8, 4, 2), size=(8, 8, 8)).write(PIECE, absolute_offset=(14, 4, 2)),
            AssertionError,
        ),
        (lambda m: m.write(PIECE, absolute_offset=(46, 4, 2)), ValueError),
        (lambda m: m.write_cxyz(PIECE, absolute_offset=(46, 4, 2)), ValueError),
        (lambda m: m.write(PIECE.astype("float32")), TypeError),
        (lambda m: m.write_cxyz(PIECE.astype("uint16")), TypeError),
        (lambda m: m.write(np.stack([PIECE] * 3)), AssertionError),
        (lambda m: m.write_cxyz(np.stack([PIECE] * 3)), AssertionError),
        (lambda m: m.write(PIECE[0]), ValueError),
        (lambda m: m.write_cxyz(PIECE[0]), ValueError),
    ],
)
def test_errors_are_of_the_reference_and_ours(mag, voxels, verb, kind):
    with pytest.raises(kind) as error:
        verb(mag)
    assert isinstance(error.value, InputError)
    np.testing.assert_array_equal(mag.read()[0], voxels)


def test_older_spellings_count_voxels_of_the_mag(layer):
    mag = layer.get_mag("2-2-1")
    mag.write(np.random.default_rng(0).integers(1, 255, (20, 12, 20)).astype("uint8"))
    view = mag.get_view(absolute_offset=(12, 8, 4), size=(16, 8, 8))
    for one, start in ((mag, (10, 8, 3)), (view, (12 + 10, 8 + 8, 4 + 3))):
        with pytest.deprecated_call(match="absolute_offset or relative_offset") as warned:
            found = one.read(offset=(5, 4, 3), size=(2, 1, 4))
        assert warned[0].filename == __file__
        np.testing.assert_array_equal(found, one.read(absolute_offset=start, size=(4, 2, 4)))
    with pytest.deprecated_call(match="relative_offset"):
        np.testing.assert_array_equal(view.read((2, 2, 2)), view.read(relative_offset=(0, 0, 0), size=(4, 4, 2)))
    with pytest.deprecated_call(match="absolute_offset"):
        mag.write(np.full((2, 2, 2), 9, "uint8"), offset=(6, 4, 3))
    assert (mag.read(absolute_offset=(12, 8, 3), size=(4, 4, 2)) == 9).all()


@pytest.mark.parametrize(
    ("box", "match"),
    [
        ({"topLeft": [-1, 0, 0], "width": 16, "height": 16, "depth": 16}, "begins below 0"),
        ({"topLeft": [0, 0, 0], "width": 16, "height": 16, "depth": 0}, "has no voxels"),
    ],
)
def test_boxes_that_a_layer_itself_has_wrong(tmp_path, box, match):
    """The error names the layer; all of it can be read."""
    layer = wk.Dataset(tmp_path / "ds", (1, 1, 1)).add_layer(
        "em", "color", dtype="uint8", bounding_box=wk.BoundingBox((0, 0, 0), (16, 16, 16))
    )
    layer.add_mag(1).write(np.ones((16, 16, 16), "uint8"))
    document = json.loads((tmp_path / "ds/datasource-properties.json").read_bytes())
    document["dataLayers"][0]["boundingBox"] = box
    (tmp_path / "ds/datasource-properties.json").write_text(json.dumps(document))
    mag = wk.Dataset.open(tmp_path / "ds").get_layer("em").get_mag(1)
    assert mag.read().shape == (1, box["width"], box["height"], box["depth"])
    with pytest.raises(BoxError, match=f"^Layer 'em', mag 1: The box at .* {match}"):
        mag.read(absolute_bounding_box=mag.bounding_box)


def test_more_voxels_than_the_machine_has_memory_for(tmp_path):
    layer = wk.Dataset(tmp_path / "ds", (1, 1, 1)).add_layer(
        "em", "color", dtype="uint8", bounding_box=wk.BoundingBox((0, 0, 0), (2**20, 2**20, 2**20))
    )
    mag = layer.add_mag(1)
    with pytest.raises(InputError, match=r"^Layer 'em', mag 1: the box .* has [0-9.]+ PB of voxels, .* Read smaller boxes"):
        mag.read()
    assert not mag.read(absolute_offset=(2**19,) * 3, size=(4, 4, 4)).any()
    assert mag.to_dask().shape == (1, 2**20, 2**20, 2**20)
