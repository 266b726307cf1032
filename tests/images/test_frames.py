"""Arrays and sequences of frames become layers as files do: which axes, voxels and channels, and what is refused."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

import wkdask as wk
from tests.images.volume_files import noise, write_ome
from wkdask.errors import InputError, PlanRefusedError, UnitsFailedError, UnsupportedImageDataError
from wkdask.images import Selection, find_layers

SIZES = {"t": 3, "c": 2, "z": 70, "y": 34, "x": 19}


class Film:
    """Frames as readers of films hand them out: by their number alone, which counts."""

    def __init__(self, voxels, spoilt=None):
        self.voxels, self.spoilt, self.taken = voxels, spoilt, []

    def __len__(self):
        return len(self.voxels)

    def __getitem__(self, number):
        self.taken.append(int(number))
        return self.spoilt if self.spoilt is not None and number == 50 else self.voxels[number]


def as_zarr(voxels):
    array = zarr.create_array({}, shape=voxels.shape, chunks=voxels.shape, dtype=voxels.dtype)
    array[:] = voxels
    return array


FORMS = {"array": lambda v: v, "big-endian": lambda v: v.astype(v.dtype.newbyteorder(">")), "list": list, "film": Film,
         "tuple of Fortran order": lambda v: tuple(map(np.asfortranarray, v)), "zarr": as_zarr}  # fmt: skip


@given(
    st.sets(st.sampled_from("tcz")).map(lambda more: ["x", "y", *sorted(more)]).flatmap(st.permutations).map("".join),
    st.sampled_from(sorted(FORMS)),
    st.data(),
)
def test_boxes_of_all_axes(axes, form, data):
    voxels = noise(axes, SIZES).astype("uint16") << 3
    layers = find_layers(FORMS[form](voxels), Selection(axes=axes, layer_name="a"))
    order = [axes.index(a) for a in "tzyxc" if a in axes]
    wanted = voxels.transpose(order).reshape([SIZES[a] if a in axes else 1 for a in "tzyxc"])
    assert [layer.name for layer in layers] == (["a__channel0", "a__channel1"] if "c" in axes else ["a"])
    ranges = [sorted(data.draw(st.tuples(*[st.integers(0, n)] * 2))) for n in wanted.shape[1:4]]
    t = data.draw(st.integers(0, wanted.shape[0] - 1))
    window = (t, *(slice(*ends) for ends in ranges))
    for channel, layer in enumerate(layers):
        stack = pickle.loads(pickle.dumps(layer.stack))
        assert (stack.shape, stack.times, stack.identity()) == (wanted.shape[1:4], wanted.shape[0], layer.stack.identity())
        found = stack.read(*(end for ends in ranges for end in ends), t=t)
        assert found.dtype == "uint16"
        np.testing.assert_array_equal(found[..., 0], wanted[window][..., channel])


@pytest.mark.parametrize("form", ["array", "list", "film"])
def test_layers_of_them_are_those_of_files(tmp_path, form):
    voxels = noise("zyx", SIZES)
    dataset = wk.Dataset(tmp_path / "ds", (4, 4, 35))
    options = {"chunk_shape": 16, "shard_shape": 32, "topleft": (32, 0, 0), "flip_y": True, "downsample": True}
    source = FORMS[form](voxels)
    layer = dataset.add_layer_from_images(source, "em", **options)
    np.testing.assert_array_equal(layer.get_mag(1).read()[0], voxels.T[:, ::-1])
    assert layer.bounding_box == wk.BoundingBox((32, 0, 0), (19, 34, 70))
    assert len(layer.mags) > 1
    if form == "film":
        assert max(map(source.taken.count, range(1, 70))) <= 3  # to choose the codec, to look at it, to convert it
    rgb = noise("zyxc", SIZES | {"c": 3, "z": 3}, "uint8")
    np.testing.assert_array_equal(
        dataset.add_layer_from_images(FORMS[form](rgb), "rgb").get_mag(1).read(), rgb.transpose(3, 2, 1, 0)
    )
    with pytest.raises(InputError, match="scale is 1"):
        dataset.add_layer_from_images(source, "b", scale=1)


def test_a_run_that_was_stopped_begins_anew(tmp_path):
    voxels = noise("zyx", SIZES)
    dataset = wk.Dataset(tmp_path / "ds", (4, 4, 35))
    options = {"chunk_shape": 16, "shard_shape": 32}
    with pytest.raises(UnitsFailedError, match=r"Frame 50 .*\(3, 3\).*expected uint16 of \(34, 19\)"):
        dataset.add_layer_from_images(Film(voxels, np.zeros((3, 3), "uint8")), "em", **options)
    assert not dataset.layers
    with pytest.raises(PlanRefusedError):
        dataset.add_layer_from_images(Film(voxels), "em", **options)
    layer = dataset.add_layer_from_images(Film(voxels), "em", restart=True, **options)
    np.testing.assert_array_equal(layer.get_mag(1).read()[0], voxels.T)


@pytest.mark.parametrize(
    ("source", "selection", "named"),
    [
        (np.zeros(5), {}, "shape"),
        (np.zeros((2, 2, 2, 2, 2)), {}, "axes='tzyx'"),
        (np.zeros((0, 4, 4)), {}, "shape"),
        ([np.zeros((0, 4))], {}, "shape"),
        (np.zeros((2, 2, 2)), {"axes": "yx"}, "axes are yx"),
        (np.zeros((2, 2, 2, 9), "uint8"), {"allow_multiple_layers": False}, "9 channels"),
        (np.zeros((2, 2, 2)), {"axes": "tyx", "timepoint": 2}, "time point 2"),
    ],
)
def test_what_is_refused(source, selection, named):
    with pytest.raises((InputError, UnsupportedImageDataError), match=named):
        find_layers(source, Selection(**selection))


def test_levels_of_ome_zarr(tmp_path):
    voxels = noise("zyx", {"z": 4, "y": 8, "x": 6})
    place = write_ome(tmp_path / "a.zarr", voxels, "zyx", unit="nanometer")  # whose coarse level holds zeros
    for scale, wanted in ((0, voxels), (1, np.zeros((2, 4, 3)))):
        dataset = wk.Dataset.from_images(place, tmp_path / f"ds{scale}", scale=scale)
        [layer] = dataset.layers.values()
        np.testing.assert_array_equal(layer.get_mag(1).read()[0], wanted.T)
        assert dataset.voxel_size == (1 + scale,) * 3
    for scale in (2, -1):
        with pytest.raises(InputError, match="levels 0"):
            find_layers(place, Selection(scale=scale))
    with pytest.raises(InputError, match="no OME-Zarr image"):
        find_layers(place / "1", Selection(scale=1))
