"""Axes of time, channels and z, in any order and any files, become stacks that numpy agrees with."""

from __future__ import annotations

import itertools
import math
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from tests.conftest import examples
from wkdask.errors import CorruptImageError, InputError, UnsupportedImageDataError
from wkdask.images import ConversionLayerMapping, FoundLayer, Selection, find, find_images, find_layers, stack
from wkdask.images.channels import default_color
from wkdask.images.picture import Form, forget_parsed


@dataclass
class ArrayPicture:
    """A picture whose pages lie in memory; it counts what is read."""

    pixels: NDArray[Any]  # axes of `dims`, then y, x, sample
    dims: tuple[tuple[str, int], ...]
    colour: str
    row_step: int = 4
    column_step: int = 1000
    voxel_size: tuple[float, float, float] | None = None
    channel_colors: tuple[tuple[int, int, int], ...] = ()
    channel_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    decoded_bytes: int = 0
    reads: list[tuple[int, Any, Any]] = field(default_factory=list)

    @property
    def form(self) -> Form:
        height, width, samples = self.pixels.shape[-3:]
        return Form(height, width, samples, self.pixels.dtype.name)

    @property
    def pages(self) -> int:
        return math.prod(extent for _, extent in self.dims)

    def read(self, source: Any, page: int, rows: tuple[int, int], columns: tuple[int, int], out: NDArray[Any]) -> None:
        self.reads.append((page, rows, columns))
        assert out.flags.c_contiguous and 0 <= page < self.pages
        planes = self.pixels.reshape(-1, *self.pixels.shape[-3:])
        out[...] = planes[page, slice(*rows), slice(*columns)]


Add = Callable[..., ArrayPicture]


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Add:
    """Give a function that puts an image of any axes into `tmp_path`: a file's name, its axes and extents."""
    known: dict[str, ArrayPicture] = {}

    def parsed(path: str, status: object = None) -> ArrayPicture:
        return known[path]

    monkeypatch.setattr(find, "parsed", parsed)
    monkeypatch.setattr(stack, "parsed", parsed)

    def add(name: str, axes: dict[str, int], samples: int = 1, dtype: str = "uint8", **more: Any) -> ArrayPicture:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        shape = (*axes.values(), 6, 7, samples)
        pixels = np.random.default_rng(len(known)).integers(0, 255, shape).astype(dtype)
        dims = tuple((axis, extent) for axis, extent in axes.items() if extent > 1)
        more.setdefault("colour", {3: "rgb", 4: "rgba", 1: "grey"}.get(samples, "samples"))
        known[os.path.abspath(path)] = ArrayPicture(pixels, dims, **more)
        return known[os.path.abspath(path)]

    return add


def as_tczyx(picture: ArrayPicture, axes: dict[str, int]) -> NDArray[Any]:
    """Return all channels (those of planes, then of samples) of a picture as (t, c, z, y, x)."""
    pixels, names = picture.pixels, list(axes)
    for name in "tcz":
        if name not in names:
            pixels, names = pixels[None], [name, *names]
    ordered = np.moveaxis(pixels, [names.index(name) for name in "tcz"], [0, 1, 2])  # t c z y x s
    t, c, z, y, x, s = ordered.shape
    return np.moveaxis(ordered, 5, 2).reshape(t, c * s, z, y, x)


def whole(layer: FoundLayer) -> NDArray[Any]:
    """Return all of a layer as (t, c, z, y, x)."""
    depth, height, _ = layer.stack.shape
    return np.stack([layer.stack.read(0, depth, 0, height, t=t).transpose(3, 0, 1, 2) for t in range(layer.stack.times)])


ORDERS = [axes for size in range(4) for axes in itertools.permutations("tcz", size)]


@pytest.mark.parametrize("axes", ORDERS, ids="".join)
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_every_order_of_axes(tmp_path: Path, add: Add, axes: tuple[str, ...], dtype: str) -> None:
    extents = {axis: {"t": 2, "c": 4, "z": 3}[axis] for axis in axes}
    picture = add("a.tif", extents, dtype=dtype)
    expected = as_tczyx(picture, extents)
    layers = find_layers(tmp_path / "a.tif")
    assert [layer.name for layer in layers] == (["a"] if "c" not in axes else [f"a__channel{i}" for i in range(4)])
    for channel, layer in enumerate(layers):
        assert layer.stack.shape == expected.shape[2:]
        assert (layer.stack.times, layer.stack.channels, layer.stack.dtype) == (expected.shape[0], 1, dtype)
        assert layer.stack.bytes * len(layers) == expected.nbytes
        assert np.array_equal(whole(layer), expected[:, channel : channel + 1])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(60))
@given(data=st.data())
def test_windows_of_several_files_equal_numpy(tmp_path: Path, add: Add, data: st.DataObject) -> None:
    axes = data.draw(st.sampled_from(ORDERS))
    samples = data.draw(st.sampled_from([1, 2, 3, 4]))
    extents = {axis: data.draw(st.integers(1, 3)) for axis in axes}
    numbers = sorted(data.draw(st.sets(st.integers(1, 5), min_size=1, max_size=3)))
    missing = data.draw(st.sampled_from(["zeros", "repeat", "close"]))
    for old in tmp_path.glob("*"):
        old.unlink()
    pictures, slices = {}, []
    for number in numbers:
        mine = extents | ({"z": data.draw(st.integers(1, 3))} if extents.get("z", 1) > 1 and pictures else {})
        pictures[number] = add(f"s{number}.tif", mine, samples)
        slices.append(as_tczyx(pictures[number], mine))
    filled = [slices[0]]
    for before, number in itertools.pairwise(numbers):
        gap = 0 if missing == "close" else number - before - 1
        filled += [filled[-1] * (missing == "repeat")] * gap + [slices[numbers.index(number)]]
    volume = np.concatenate(filled, axis=2)
    layers = find_layers(tmp_path, Selection(missing=missing, merge=True, truncate_rgba_to_rgb=data.draw(st.booleans())))
    assert sum(layer.stack.channels for layer in layers) in {volume.shape[1], volume.shape[1] * 3 // 4}
    for layer in layers:
        shown = layer.stack
        assert (shown.times, shown.shape) == (volume.shape[0], volume.shape[2:])
        again = pickle.loads(pickle.dumps(shown))
        assert again == shown
        windows = [sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in shown.shape]
        (z0, z1), (y0, y1), (x0, x1) = windows
        t = data.draw(st.integers(0, shown.times - 1))
        first = shown.part.first_channel
        expected = volume[t, first : first + shown.channels, z0:z1, y0:y1, x0:x1].transpose(1, 2, 3, 0)
        for picture in pictures.values():
            picture.reads.clear()
        result = again.read(z0, z1, y0, y1, x0, x1, t=t)
        assert np.array_equal(result, expected) and result.flags.c_contiguous
        for picture in pictures.values():
            pages = [page for page, _, _ in picture.reads]
            assert len(pages) == len(set(pages)), "a page was decoded twice"
            assert all((rows, columns) == ((y0, y1), (x0, x1)) for _, rows, columns in picture.reads)


def test_no_page_is_decoded_twice(tmp_path: Path, add: Add, monkeypatch: pytest.MonkeyPatch) -> None:
    first, last = add("s1.tif", {"c": 3, "z": 2}), add("s4.tif", {"c": 3, "z": 2})
    opened, names = stack.opened, []

    def counting(path: str, **options: Any) -> Any:
        names.append(os.path.basename(path))
        return opened(path, **options)

    monkeypatch.setattr(stack, "opened", counting)
    shown = find_layers(tmp_path, Selection(merge=True, missing="repeat"))[0].stack
    result = shown.read(1, 8, 0, 2, 3, 5)
    assert np.array_equal(result[:5], result[[0, 1, 0, 1, 0]])
    assert sorted(page for page, _, _ in first.reads) == sorted(page for page, _, _ in last.reads) == list(range(6))
    assert names == ["s1.tif", "s4.tif"]


@pytest.mark.parametrize(
    ("samples", "planes", "dtype", "colour", "expected"),
    [
        (1, 1, "uint16", "grey", [(0, 1)]),
        (3, 1, "uint8", "rgb", [(0, 3)]),
        (4, 1, "uint8", "rgba", [(0, 3)]),
        (1, 3, "uint8", "grey", [(0, 3)]),
        (3, 1, "uint8", "samples", [(0, 3)]),
        (2, 1, "uint8", "samples", [(0, 1), (1, 1)]),
        (1, 2, "uint8", "grey", [(0, 1), (1, 1)]),
        (1, 4, "uint8", "grey", [(0, 1), (1, 1), (2, 1), (3, 1)]),
        (1, 3, "uint16", "grey", [(0, 1), (1, 1), (2, 1)]),
        (3, 1, "uint16", "rgb", [(0, 1), (1, 1), (2, 1)]),
        (4, 1, "uint16", "rgba", [(0, 1), (1, 1), (2, 1)]),
        (3, 2, "uint8", "rgb", [(0, 3), (3, 3)]),
        (4, 2, "uint8", "rgba", [(0, 3), (4, 3)]),
        (4, 2, "uint16", "rgba", [(0, 1), (1, 1), (2, 1), (4, 1), (5, 1), (6, 1)]),
        (3, 2, "uint8", "samples", [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1), (5, 1)]),
        (5, 1, "float32", "samples", [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1)]),
    ],
)
def test_channels_become_layers(
    tmp_path: Path, add: Add, samples: int, planes: int, dtype: str, colour: str, expected: list[tuple[int, int]]
) -> None:
    axes = {"c": planes, "z": 2}
    picture = add("a.tif", axes, samples, dtype, colour=colour)
    layers = find_layers(tmp_path / "a.tif")
    assert [(layer.stack.part.first_channel, layer.stack.channels) for layer in layers] == expected
    for (first, count), layer in zip(expected, layers, strict=True):
        assert np.array_equal(whole(layer)[0], as_tczyx(picture, axes)[0, first : first + count])
        assert layer.stack.colour == ("rgb" if count == 3 else "grey")
        assert ("alpha was left out" in layer.stack.notes) == (colour == "rgba")
    several = len(expected) > 1
    assert [layer.name for layer in layers] == ([f"a__channel{i}" for i in range(len(expected))] if several else ["a"])
    assert [layer.color is not None for layer in layers] == [several and count == 1 for _, count in expected]
    if several:
        with pytest.raises(UnsupportedImageDataError, match=rf"a\.tif' has {samples * planes} channels of {dtype}, .*0 to"):
            find_images(tmp_path / "a.tif")
    else:
        assert find_images(tmp_path / "a.tif") == layers[0].stack


def test_alpha_that_is_kept(tmp_path: Path, add: Add) -> None:
    picture = add("a.tif", {}, 4)
    layers = find_layers(tmp_path / "a.tif", Selection(truncate_rgba_to_rgb=False))
    assert [layer.name for layer in layers] == [f"a__channel{i}" for i in range(4)]
    assert np.array_equal(whole(layers[3])[0, 0, 0], picture.pixels[..., 3])
    with pytest.raises(UnsupportedImageDataError, match="4 channels of uint8, which are rgba"):
        find_layers(tmp_path / "a.tif", Selection(truncate_rgba_to_rgb=False, allow_multiple_layers=False))


def test_one_channel_is_chosen(tmp_path: Path, add: Add) -> None:
    picture = add("a.tif", {"c": 2, "z": 3}, 3, channel_names=("nuclei", "membrane"))
    for channel in range(6):
        [layer] = find_layers(tmp_path / "a.tif", Selection(channel=channel, allow_multiple_layers=False))
        assert layer.name == "a" and layer.color is None
        assert np.array_equal(whole(layer)[0, 0], as_tczyx(picture, {"c": 2, "z": 3})[0, channel])
    for wrong in (-1, 6):
        with pytest.raises(InputError, match=f"no channel {wrong}; it has 6"):
            find_layers(tmp_path / "a.tif", Selection(channel=wrong))


def test_channels_are_named_in_the_error(tmp_path: Path, add: Add) -> None:
    add("a.tif", {"c": 2}, channel_names=("nuclei", "membrane"))
    with pytest.raises(UnsupportedImageDataError, match=r"2 channels \('nuclei', 'membrane'\) of uint8"):
        find_images(tmp_path / "a.tif")


def test_one_time_point_is_chosen(tmp_path: Path, add: Add) -> None:
    axes = {"z": 2, "t": 3}
    picture = add("a.tif", axes)
    for t in range(3):
        [layer] = find_layers(tmp_path / "a.tif", Selection(timepoint=t))
        assert layer.stack.times == 1
        assert np.array_equal(whole(layer)[0], as_tczyx(picture, axes)[t])
    for wrong in (-1, 3):
        with pytest.raises(InputError, match=f"no time point {wrong}; it has 3"):
            find_layers(tmp_path / "a.tif", Selection(timepoint=wrong))
    with pytest.raises(InputError, match="t 3 leaves the image stack"):
        find_images(tmp_path / "a.tif").read(0, 1, 0, 1, t=3)


def test_colours_of_channels(tmp_path: Path, add: Add) -> None:
    told = ((10, 20, 30), (40, 50, 60), (70, 80, 90), (1, 2, 3))
    cases = [(told, list(told)), ((), None), (told[:3], None), (((255, 255, 255),) * 4, None)]
    for colors, expected in cases:
        add("a.tif", {"c": 4}, channel_colors=colors)
        found = [layer.color for layer in find_layers(tmp_path / "a.tif")]
        assert found == (expected or [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 223, 0)])
    assert find_layers(tmp_path / "a.tif", Selection(channel=2))[0].color == (255, 255, 255)
    assert len({default_color(index) for index in range(40)}) == 40


def test_files_whose_axes_differ(tmp_path: Path, add: Add) -> None:
    merged = Selection(merge=True)
    for other, samples, words in [
        ({"c": 2, "z": 2}, 1, "3 along c, 2 along z.*2 along c, 2 along z"),
        ({"t": 2, "c": 3, "z": 2}, 1, "2 along t"),
        ({"z": 2, "c": 3}, 1, "3 along c, 2 along z.*2 along z, 3 along c"),
        ({"z": 2}, 1, "3 along c, 2 along z.*2 along z"),
        ({"c": 3, "z": 2}, 3, "3 channels"),
    ]:
        add("s1.tif", {"c": 3, "z": 2})
        add("s2.tif", {"c": 3})
        add("s3.tif", other, samples)
        with pytest.raises(
            UnsupportedImageDataError, match=rf"Slices differ: '.*s1\.tif' has .*, '.*s3\.tif' has .*{words}|{words}"
        ):
            find_layers(tmp_path, merged)


def test_a_volume_among_slices(tmp_path: Path, add: Add) -> None:
    add("s1.tif", {})
    add("s2.tif", {"z": 3})
    with pytest.raises(
        UnsupportedImageDataError, match=r"s1\.tif' has 7 x 6 voxels, 1 channel, uint8, '.*s2\.tif' has .*, 3 along z"
    ):
        find_layers(tmp_path)
    add("s1.tif", {"z": 2})
    add("s3.tif", {})
    assert find_images(tmp_path).shape == (6, 6, 7)


@pytest.mark.parametrize("mapping", [ConversionLayerMapping.INSPECT_SINGLE_FILE, ConversionLayerMapping.INSPECT_EVERY_FILE])
def test_files_with_an_axis_of_time_are_deep_and_channels_are_not(
    tmp_path: Path, add: Add, mapping: ConversionLayerMapping
) -> None:
    for axis, names in [("t", ["f_s1.tif", "f_s2.tif"]), ("z", ["f_s1.tif", "f_s2.tif"]), ("c", ["f"])]:
        for number in (1, 2):
            add(f"f/s{number}.tif", {axis: 3})
        assert [layer.name for layer in find_layers(tmp_path, Selection(mapping=mapping))] == names


def test_colours_that_differ(tmp_path: Path, add: Add) -> None:
    add("s1.tif", {}, 3)
    add("s2.tif", {}, 3, colour="samples")
    with pytest.raises(UnsupportedImageDataError, match=r"3 channels, uint8 rgb, .*3 channels, uint8 samples"):
        find_layers(tmp_path)


def test_voxel_sizes(tmp_path: Path, add: Add) -> None:
    add("s1.tif", {})
    add("s2.tif", {}, voxel_size=(4.0, 4.0, 35.0))
    [layer] = find_layers(tmp_path)
    assert layer.voxel_size == (4, 4, 35) and layer.stack.notes == ()
    add("s3.tif", {}, voxel_size=(4.0, 4.0, 40.0))
    [layer] = find_layers(tmp_path)
    assert layer.voxel_size == (4, 4, 35)
    assert layer.stack.notes == ("'s2.tif' and 's3.tif' tell different voxel sizes; the first counts",)


def test_what_is_decoded_together(tmp_path: Path, add: Add) -> None:
    add("s1.tif", {}, row_step=2, column_step=3, decoded_bytes=10, notes=("one",))
    add("s2.tif", {}, row_step=3, column_step=2, decoded_bytes=99, notes=("two", "one"))
    [layer] = find_layers(tmp_path)
    shown = layer.stack
    assert (shown.row_step, shown.column_step, shown.decoded_bytes, shown.notes) == (6, 6, 99, ("one", "two"))
    assert shown.rows_alone and shown.columns_alone
    add("s2.tif", {}, row_step=6, column_step=7)
    [layer] = find_layers(tmp_path)
    assert not layer.stack.rows_alone and not layer.stack.columns_alone


def test_many_different_notes_are_cut(tmp_path: Path, add: Add) -> None:
    for number in range(30):
        add(f"s{number}.tif", {}, notes=(f"note {number:02}", "all alike"))
    notes = find_layers(tmp_path)[0].stack.notes
    assert len(notes) == 21 and notes[:2] == ("all alike", "note 00") and notes[-1] == "and 11 more notes on single files"


def test_a_file_whose_axes_change_afterwards(tmp_path: Path, add: Add) -> None:
    add("a.tif", {"t": 2, "z": 3})
    shown = find_images(tmp_path / "a.tif")
    add("a.tif", {"t": 3, "z": 2})
    with pytest.raises(CorruptImageError, match="was changed: it has 6 pages"):
        shown.read(0, 1, 0, 1)


PLAIN_AXES = ["TZCYX", "ZCYX", "CZYX", "TZYX", "TYX", "CYX", "TCYX", "TCZYX"]
IMAGEJ_AXES = ["TZCYX", "ZCYX", "TZYX", "TYX", "CYX", "TCYX"]  # ImageJ writes channels fastest


@pytest.mark.parametrize(
    ("kind", "axes"),
    [*itertools.product(["plain", "ome"], PLAIN_AXES), *itertools.product(["imagej"], IMAGEJ_AXES)],
)
def test_axes_of_tiff_files(tmp_path: Path, kind: str, axes: str) -> None:
    forget_parsed()
    shape = [{"T": 2, "C": 4, "Z": 3, "Y": 5, "X": 6}[axis] for axis in axes]
    expected = np.random.default_rng(3).integers(0, 999, shape).astype("uint16")
    more: dict[str, Any] = {"ome": {"ome": True}, "imagej": {"imagej": True}, "plain": {}}[kind]
    tifffile.imwrite(tmp_path / "a.tif", expected, photometric="minisblack", metadata={"axes": axes}, **more)
    layers = find_layers(tmp_path / "a.tif")
    lacking = [axis for axis in "TCZ" if axis not in axes]
    tczyx = expected[(None,) * len(lacking)]
    tczyx = tczyx.transpose([("".join(lacking) + axes).index(axis) for axis in "TCZYX"])
    found = np.concatenate([whole(layer) for layer in layers], axis=1)
    assert np.array_equal(found, tczyx)


def test_rgba_pictures(tmp_path: Path) -> None:
    forget_parsed()
    expected = np.random.default_rng(3).integers(0, 255, (3, 5, 6, 4)).astype("uint8")
    for z, plane in enumerate(expected):
        Image.fromarray(plane).save(tmp_path / f"{z}.png")
    [layer] = find_layers(tmp_path)
    assert np.array_equal(layer.stack.read(0, 3, 0, 5), expected[..., :3])
    assert "alpha was left out" in layer.stack.notes
