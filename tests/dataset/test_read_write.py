"""Reading and writing boxes of voxels by every way to name one."""

from __future__ import annotations

import numpy as np
import pytest

import wkdask as wk
from wkdask.errors import InputError, ReadOnlyError

START = np.array((8, 4, 2))


def cut(voxels, absolute, size):
    """The voxels of a mag-1 box, given from the dataset's origin; 0 where nothing was written."""
    result = np.zeros(size, voxels.dtype)
    for index in np.ndindex(*size):
        at = np.array(absolute) + index - START
        if (at >= 0).all() and (at < voxels.shape).all():
            result[index] = voxels[tuple(at)]
    return result


@pytest.mark.parametrize(
    ("named", "absolute", "size"),
    [
        ({}, (8, 4, 2), (40, 24, 20)),
        ({"absolute_offset": (10, 5, 3), "size": (4, 5, 6)}, (10, 5, 3), (4, 5, 6)),
        ({"relative_offset": (10, 5, 3), "size": (4, 5, 6)}, (18, 9, 5), (4, 5, 6)),
        ({"relative_offset": (10, 5, 3)}, (18, 9, 5), (30, 19, 17)),
        ({"absolute_offset": (10, 5, 3)}, (10, 5, 3), (38, 23, 19)),
        ({"absolute_bounding_box": wk.BoundingBox((10, 5, 3), (4, 5, 6))}, (10, 5, 3), (4, 5, 6)),
        ({"relative_bounding_box": wk.BoundingBox((10, 5, 3), (4, 5, 6))}, (18, 9, 5), (4, 5, 6)),
        ({"offset": (10, 5, 3), "size": (4, 5, 6)}, (10, 5, 3), (4, 5, 6)),
        ({"size": (4, 5, 6)}, (8, 4, 2), (4, 5, 6)),
        ({"absolute_offset": (0, 0, 0), "size": (9, 6, 4)}, (0, 0, 0), (9, 6, 4)),
        ({"absolute_offset": (44, 20, 18), "size": (30, 30, 30)}, (44, 20, 18), (30, 30, 30)),
        ({"absolute_offset": (900, 900, 900), "size": (2, 2, 2)}, (900, 900, 900), (2, 2, 2)),
    ],
)
def test_read_by_every_spelling(mag, voxels, named, absolute, size):
    found = mag.read(**named)
    assert found.shape == (1, *size)
    assert found.flags.f_contiguous
    np.testing.assert_array_equal(found[0], cut(voxels, absolute, size))


def test_read_in_a_coarser_mag(layer):
    coarse = layer.get_mag("2-2-1")
    values = np.random.default_rng(0).integers(1, 255, (20, 12, 20)).astype("uint8")
    coarse.write(values)
    assert coarse.bounding_box == wk.BoundingBox((8, 4, 2), (40, 24, 20))
    np.testing.assert_array_equal(coarse.read()[0], values)
    np.testing.assert_array_equal(coarse.read(absolute_offset=(12, 6, 3), size=(8, 4, 5))[0], values[2:6, 1:3, 1:6])
    np.testing.assert_array_equal(coarse.read(offset=(6, 3, 3), size=(4, 2, 5))[0], values[2:6, 1:3, 1:6])
    np.testing.assert_array_equal(coarse.read(size=(4, 2, 5))[0], values[:4, :2, :5])
    for wrong in [{"absolute_offset": (13, 6, 3), "size": (8, 4, 5)}, {"relative_offset": (0, 0, 0), "size": (8, 3, 5)}]:
        with pytest.raises(InputError, match=r"whole voxels of mag 2-2-1 along"):
            coarse.read(**wrong)


BOX = wk.BoundingBox((8, 4, 2), (4, 4, 4))


@pytest.mark.parametrize("verb", ["read", "write"])
@pytest.mark.parametrize(
    "named",
    [
        {"absolute_offset": (8, 4, 2), "relative_offset": (0, 0, 0)},
        {"offset": (8, 4, 2), "absolute_offset": (8, 4, 2)},
        {"absolute_bounding_box": BOX, "relative_bounding_box": BOX},
        {"absolute_bounding_box": BOX, "offset": (0, 0, 0)},
    ],
)
def test_several_positions_are_refused(mag, voxels, verb, named):
    with pytest.raises(InputError, match="Several positions"):
        mag.read(**named) if verb == "read" else mag.write(np.zeros((4, 4, 4), "uint8"), **named)
    np.testing.assert_array_equal(mag.read()[0], voxels)


@pytest.mark.parametrize(
    ("named", "at"),
    [
        ({}, (8, 4, 2)),
        ({"absolute_offset": (11, 9, 7)}, (11, 9, 7)),
        ({"relative_offset": (11, 9, 7)}, (19, 13, 9)),
        ({"offset": (11, 9, 7)}, (11, 9, 7)),
        ({"absolute_bounding_box": wk.BoundingBox((11, 9, 7), (5, 6, 7))}, (11, 9, 7)),
        ({"relative_bounding_box": wk.BoundingBox((11, 9, 7), (5, 6, 7))}, (19, 13, 9)),
    ],
)
@pytest.mark.parametrize("channel", [True, False])
def test_write_by_every_spelling(mag, voxels, named, at, channel):
    piece = np.full((5, 6, 7), 255, "uint8")
    mag.write(piece[None] if channel else piece, **named)
    expected = voxels.copy()
    expected[tuple(slice(a, a + n) for a, n in zip(np.array(at) - START, piece.shape, strict=True))] = 255
    np.testing.assert_array_equal(mag.read()[0], expected)


@pytest.mark.parametrize(
    ("data", "named", "said"),
    [
        (np.zeros((4, 4, 4), "uint16"), {}, "uint16"),
        (np.zeros((4, 4, 4), "float32"), {}, "float32"),
        (np.zeros((4, 4), "uint8"), {}, "shape"),
        (np.zeros((2, 4, 4, 4), "uint8"), {}, "shape"),
        (np.zeros((1, 1, 4, 4, 4), "uint8"), {}, "shape"),
        (np.zeros((4, 4, 4), "uint8"), {"absolute_bounding_box": wk.BoundingBox((8, 4, 2), (4, 4, 5))}, "equal"),
        (np.zeros((4, 4, 4), "uint8"), {"absolute_offset": (0, 0, 0)}, "allow_resize"),
        (np.zeros((4, 4, 4), "uint8"), {"absolute_offset": (46, 4, 2)}, "allow_resize"),
        (np.zeros((4, 4, 4), "uint8"), {"absolute_offset": (-1, 4, 2), "allow_resize": True}, "below 0"),
    ],
)
def test_what_write_refuses(mag, voxels, data, named, said):
    with pytest.raises(InputError, match=said):
        mag.write(data, **named)
    np.testing.assert_array_equal(mag.read()[0], voxels)
    assert mag.layer.bounding_box == wk.BoundingBox((8, 4, 2), (40, 24, 20))


def test_write_of_unaligned_boxes_in_a_coarser_mag(layer):
    with pytest.raises(InputError, match="whole voxels"):
        layer.get_mag("2-2-1").write(np.ones((2, 2, 2), "uint8"), absolute_offset=(9, 4, 2))


def test_growing_keeps_the_voxels_of_every_mag(layer, mag, voxels):
    coarse = layer.get_mag("2-2-1")
    values = voxels[::2, ::2]
    coarse.write(values)
    piece = np.full((3, 4, 5), 77, "uint8")
    mag.write(piece, absolute_offset=(120, 70, 50), allow_resize=True)
    assert layer.bounding_box == wk.BoundingBox((8, 4, 2), (115, 70, 53))
    assert mag.bounding_box == layer.bounding_box
    np.testing.assert_array_equal(mag.read(absolute_offset=(120, 70, 50), size=(3, 4, 5))[0], piece)
    np.testing.assert_array_equal(mag.read(absolute_offset=(8, 4, 2), size=voxels.shape)[0], voxels)
    np.testing.assert_array_equal(coarse.read(absolute_offset=(8, 4, 2), size=voxels.shape)[0], values)
    mag.write(piece, absolute_offset=(0, 0, 0), allow_resize=True)
    assert layer.bounding_box == wk.BoundingBox((0, 0, 0), (123, 74, 55))
    coarse.write(piece[:2], absolute_offset=(200, 0, 0), allow_resize=True)
    assert layer.bounding_box.size == (204, 74, 55)
    np.testing.assert_array_equal(mag.read(absolute_offset=(8, 4, 2), size=voxels.shape)[0], voxels)


def test_a_view_sees_what_others_let_grow(mag, voxels):
    other = wk.Dataset.open(mag.layer._store.location).get_layer("em").get_mag(1)
    mag.read()
    piece = np.full((4, 4, 4), 9, "uint8")
    other.write(piece, absolute_offset=(100, 100, 100), allow_resize=True)
    assert (mag.read(absolute_offset=(100, 100, 100), size=(4, 4, 4)) == 9).all()
    mag.write(piece + 1, absolute_offset=(99, 100, 100))
    assert (other.read(absolute_offset=(99, 100, 100), size=(4, 4, 4)) == 10).all()


def test_an_empty_layer_grows_from_nothing(dataset):
    mag = dataset.add_layer("new", "color", dtype="float32", num_channels=2).add_mag(1, chunk_shape=16, shard_shape=32)
    data = np.random.default_rng(0).normal(size=(2, 10, 11, 12)).astype("float32")
    assert mag.read().shape == (2, 0, 0, 0)
    mag.write(data, absolute_offset=(5, 6, 7), allow_resize=True)
    assert mag.layer.bounding_box == wk.BoundingBox((5, 6, 7), (10, 11, 12))
    np.testing.assert_array_equal(mag.read(), data)
    with pytest.raises(InputError, match="shape"):
        mag.write(data[0])


def test_voxels_elsewhere_are_read_but_not_written(dataset, mag, voxels, tmp_path):
    import json

    other = wk.Dataset(tmp_path / "other", (4, 4, 35))
    layer = other.add_layer("em", "color", bounding_box=mag.layer.bounding_box)
    layer.add_mag(1)
    place = tmp_path / "other" / "datasource-properties.json"
    document = json.loads(place.read_bytes())
    document["dataLayers"][0]["mags"][0]["path"] = str(tmp_path / "ds" / "em" / "1")
    place.write_text(json.dumps(document))
    found = wk.Dataset.open(tmp_path / "other").get_layer("em")
    np.testing.assert_array_equal(found.get_mag(1).read()[0], voxels)
    before = {p: p.read_bytes() for p in (tmp_path / "ds").rglob("*") if p.is_file()}
    with pytest.raises(ReadOnlyError, match="outside the dataset"):
        found.get_mag(1).write(voxels)
    found.bounding_box = wk.BoundingBox((0, 0, 0), (500, 500, 500))
    assert {p: p.read_bytes() for p in (tmp_path / "ds").rglob("*") if p.is_file()} == before


def test_bytes_on_disk(layer, mag, tmp_path):
    units = [path for path in (tmp_path / "ds/em/1/c").rglob("*") if path.is_file()]
    assert len(units) == 2
    assert mag.bytes_on_disk() == sum(path.stat().st_size for path in units)
    assert layer.get_mag("2-2-1").bytes_on_disk() == 0
