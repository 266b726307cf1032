"""Writing and reading slice by slice, against numpy and against the reference."""

from __future__ import annotations

import json
import subprocess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wkdask as wk
from wkdask.errors import InputError, ReadOnlyError
from wkdask.formats import FORMATS, find_format

SIZE = (20, 13, 18)
OTHERS = {"x": (1, 2), "y": (0, 2), "z": (0, 1)}


@pytest.fixture(scope="module")
def layers(tmp_path_factory):
    dataset = wk.Dataset(tmp_path_factory.mktemp("slices") / "ds", (1, 1, 1))
    made = {}
    for form in FORMATS:
        for channels in (1, 3):
            layer = dataset.add_layer(
                f"{form}-{channels}",
                "color",
                dtype="uint8",
                num_channels=channels,
                data_format=form,
                bounding_box=wk.BoundingBox((6, 4, 2), SIZE),
            )
            layer.add_mag(1, chunk_shape=4, shard_shape=8 if find_format(form).sharded else 4)
            made[form, channels] = layer.get_mag(1)
    return made


@given(st.data())
def test_slices_land_where_they_are_sent(layers, data):
    mag = layers[data.draw(st.sampled_from(sorted(layers)))]
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    channels = mag.num_channels
    before = rng.integers(1, 255, (channels, *SIZE), dtype="uint8")
    mag.write(before)
    axis = data.draw(st.sampled_from("xyz"))
    across, (a, b) = "xyz".index(axis), OTHERS[axis]
    offset = [data.draw(st.integers(0, n - 1)) for n in SIZE]
    count = data.draw(st.integers(0, SIZE[across] - offset[across]))
    room = data.draw(st.integers(1, 9))
    most = [SIZE[i] - offset[i] for i in (a, b)]
    shapes = [[data.draw(st.integers(max(1, n - 2), n)) for n in most] for _ in range(count)]
    planes = [rng.integers(1, 255, (channels, *shape), dtype="uint8") for shape in shapes]
    expected = np.moveaxis(before.copy(), [1 + a, 1 + b, 1 + across], [1, 2, 3])
    start = 6, 4, 2
    first = start[across] + offset[across]
    for k in range(count):  # a buffer ends on each multiple of its size: there, the largest slice counts
        together = [i for i in range(count) if (first + i) // room == (first + k) // room]
        width, height = (max(shapes[i][j] for i in together) for j in (0, 1))
        whole = np.zeros((channels, width, height), "uint8")
        whole[:, : shapes[k][0], : shapes[k][1]] = planes[k]
        expected[:, offset[a] : offset[a] + width, offset[b] : offset[b] + height, offset[across] + k] = whole
    dimension = data.draw(st.sampled_from([axis, across]))
    with mag.get_buffered_slice_writer(room, dimension, relative_offset=offset, allow_unaligned=True) as writer:
        for plane in planes:
            writer.send(plane if channels > 1 or data.draw(st.booleans()) else plane[0])
    np.testing.assert_array_equal(np.moveaxis(mag.read(), [1 + a, 1 + b, 1 + across], [1, 2, 3]), expected)
    with mag.get_buffered_slice_reader(data.draw(st.integers(1, 9)), dimension) as found:
        np.testing.assert_array_equal(np.stack(list(found), -1), expected)


def test_in_a_coarser_mag(layer):
    """Positions are in mag-1 voxels, slices in voxels of the mag."""
    mag = layer.get_mag("2-2-1")
    values = np.random.default_rng(0).integers(1, 255, (20, 12, 20)).astype("uint8")
    with mag.get_buffered_slice_writer(7, "x", allow_unaligned=True) as writer:
        for plane in values[:9]:
            writer.send(plane)
    with mag.get_buffered_slice_writer(7, "x", absolute_offset=(26, 4, 2), allow_unaligned=True) as writer:
        for plane in values[9:]:
            writer.send(plane)
    np.testing.assert_array_equal(mag.read()[0], values)
    box = wk.BoundingBox((4, 2, 3), (6, 8, 5))
    with mag.get_buffered_slice_reader(relative_bounding_box=box) as found:
        np.testing.assert_array_equal(np.stack([p[0] for p in found], -1), values[2:5, 1:5, 3:8])


def test_what_was_sent_is_written_on_errors(mag, voxels):
    with pytest.raises(KeyError):
        with mag.get_buffered_slice_writer(allow_unaligned=True) as writer:
            writer.send(np.full((40, 24), 255, "uint8"))
            raise KeyError
    voxels[..., 0] = 255
    np.testing.assert_array_equal(mag.read()[0], voxels)


def test_reset_offset(mag, voxels):
    with mag.get_buffered_slice_writer(4, allow_unaligned=True) as writer:
        writer.send(np.full((40, 24), 1, "uint8"))
        writer.reset_offset(relative_offset=(4, 4, 10))
        writer.send(np.full((3, 2), 2, "uint8"))
        writer.reset_offset(absolute_offset=(8, 4, 21))
        writer.send(np.full((40, 24), 3, "uint8"))
    voxels[..., 0], voxels[4:7, 4:6, 10], voxels[..., 19] = 1, 2, 3
    np.testing.assert_array_equal(mag.read()[0], voxels)


def test_buffers_are_written_once(mag, monkeypatch):
    """One buffer is in memory, and aligned ones meet each shard once."""
    written = []
    monkeypatch.setattr(wk.View, "write", lambda self, data, **k: written.append((k["absolute_offset"].z, data.shape)))
    view = mag.get_view(absolute_offset=(8, 4, 2), size=(40, 24, 20))
    with view.get_buffered_slice_writer(8, allow_unaligned=True) as writer:
        for _ in range(20):
            writer.send(np.ones((40, 24), "uint8"))
    assert written == [(2, (1, 40, 24, 6)), (8, (1, 40, 24, 8)), (16, (1, 40, 24, 6))]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "shards"),
        ({"buffer_size": 8, "absolute_offset": (8, 4, 0)}, "is beyond"),
        ({"buffer_size": 0, "allow_unaligned": True}, "holds none"),
        ({"dimension": 3}, "no slices along 3"),
        ({"dimension": "c"}, "no slices along 'c'"),
        ({"relative_offset": (0, 0, 0), "absolute_offset": (8, 4, 2)}, "Several positions"),
    ],
)
def test_what_the_writer_refuses(mag, options, said):
    with pytest.raises(ValueError, match=said):
        mag.get_buffered_slice_writer(**options)


def test_alignment(dataset):
    layer = dataset.add_layer("a", "color", bounding_box=wk.BoundingBox((0, 0, 0), (16, 16, 64)))
    mag = layer.add_mag(1, chunk_shape=8, shard_shape=16)
    mag.get_buffered_slice_writer()
    mag.get_buffered_slice_writer(32, relative_offset=(0, 0, 16))
    for size, z in ((8, 0), (16, 8), (24, 0)):
        with pytest.raises(ValueError, match="Use multiples of that"):
            mag.get_buffered_slice_writer(size, relative_offset=(0, 0, z))


@pytest.mark.parametrize(
    ("plane", "said"),
    [
        (np.ones((40, 24), "uint16"), "uint16"),
        (np.ones((41, 24), "uint8"), "shape"),
        (np.ones((40, 25), "uint8"), "shape"),
        (np.ones((2, 40, 24), "uint8"), "shape"),
        (np.ones(40, "uint8"), "shape"),
        (np.ones((0, 24), "uint8"), "shape"),
    ],
)
def test_slices_that_do_not_fit(mag, voxels, plane, said):
    with mag.get_buffered_slice_writer(allow_unaligned=True) as writer:
        with pytest.raises(InputError, match=said):
            writer.send(plane)
    np.testing.assert_array_equal(mag.read()[0], voxels)


def test_more_slices_than_the_box_has(mag):
    box = wk.BoundingBox((8, 4, 2), (40, 24, 3))
    with mag.get_buffered_slice_writer(absolute_bounding_box=box, allow_unaligned=True) as writer:
        for _ in range(3):
            writer.send(np.full((40, 24), 9, "uint8"))
        with pytest.raises(InputError, match="has 3 slices"):
            writer.send(np.full((40, 24), 9, "uint8"))
    assert (mag.read()[0, 0, 0, :4] == 9).tolist() == [True] * 3 + [False]


def test_read_only_views(mag):
    view = mag.get_view(read_only=True)
    with pytest.raises(ReadOnlyError):
        view.get_buffered_slice_writer(allow_unaligned=True)
    with view.get_buffered_slice_reader() as slices:
        assert len(list(slices)) == 20
    with pytest.raises(InputError, match="holds none"):
        view.get_buffered_slice_reader(0)


REFERENCE = """
import json, sys
import numpy as np, webknossos, cluster_tools
dataset = webknossos.Dataset.open(sys.argv[1])
layer = dataset.get_layer("em")
mag = layer.get_mag(sys.argv[2])
values = np.load(sys.argv[3])
with mag.get_buffered_slice_writer(buffer_size=8, dimension=sys.argv[4], allow_unaligned=True) as writer:
    for plane in np.moveaxis(values, "xyz".index(sys.argv[4]), 0):
        writer.send(plane)
with mag.get_buffered_slice_reader(buffer_size=8, dimension=sys.argv[4]) as slices:
    shapes = [plane.shape for plane in slices]
one = cluster_tools.get_executor("sequential")
boxes = mag.map_chunk(lambda v: [*v.bounding_box.topleft, *v.bounding_box.size], executor=one)
print(json.dumps([shapes, boxes]))
"""


@pytest.mark.oracle("webknossos")
@pytest.mark.parametrize(("name", "axis"), [("1", "z"), ("2-2-1", "x")])
def test_as_the_reference_does(webknossos_python, layer, tmp_path, name, axis):
    mag = layer.get_mag(name)
    shape = [n // m for n, m in zip((40, 24, 20), mag.mag, strict=True)]
    values = np.random.default_rng(0).integers(1, 255, shape).astype("uint8")
    np.save(tmp_path / "values.npy", values)
    place = tmp_path / "ds"
    done = subprocess.run(
        [webknossos_python, "-c", REFERENCE, place, name, tmp_path / "values.npy", axis],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    shapes, boxes = json.loads(done.stdout.splitlines()[-1])
    np.testing.assert_array_equal(mag.read()[0], values)
    with mag.get_buffered_slice_reader(8, axis) as slices:
        found = list(slices)
    assert [list(plane.shape) for plane in found] == shapes
    np.testing.assert_array_equal(np.stack([p[0] for p in found], "xyz".index(axis)), values)
    ours = mag.map_chunk(lambda v: [*v.bounding_box.topleft, *v.bounding_box.size])
    assert ours == sorted(boxes)  # theirs come as they are done
