"""Every parameter of `Dataset.from_images` and `add_layer_from_images` does what it says, in both formats, against numpy."""

from __future__ import annotations

import inspect
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tifffile

import wkdask as wk
from wkdask.errors import InputError, LayerExistsError, PlanRefusedError, UnsupportedImageDataError, WkdaskError
from wkdask.formats import Codec
from wkdask.metadata import VoxelSize
from wkdask.storage import observe

Mapping = wk.Dataset.ConversionLayerMapping
SHAPE = (5, 21, 34)
"""Of a stack, as z, y, x."""
FORMATS = ["zarr3", "wkw"]


def noise(*shape: int, dtype: str = "uint8", seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 200, shape).astype(dtype)


def slices(folder: Path, volume: np.ndarray, names: list[str] | None = None) -> Path:
    """Write (z, y, x[, c]) as a file for each z."""
    folder.mkdir(parents=True, exist_ok=True)
    photometric = "rgb" if volume.ndim == 4 else "minisblack"
    for z, plane in enumerate(volume):
        tifffile.imwrite(folder / (names[z] if names else f"s{z:02}.tif"), plane, photometric=photometric)
    return folder


def voxels(dataset: wk.Dataset, layer: str, mag: object = 1) -> np.ndarray:
    """Return (z, y, x) of a layer of one channel."""
    return dataset.get_layer(layer).get_mag(mag).read()[0].transpose()


@pytest.fixture
def volume():
    return noise(*SHAPE)


@pytest.fixture
def source(tmp_path, volume):
    return slices(tmp_path / "em", volume)


@pytest.fixture
def made(tmp_path, source):
    """Convert the stack, or another source, with small chunks; return the dataset."""
    count = iter(range(100))

    def make(images: object = source, **options: object) -> wk.Dataset:
        usual = {"voxel_size": (4, 4, 35), "chunk_shape": 8, "shard_shape": 16, "jobs": 1}
        if "chunks_per_shard" in options:
            del usual["shard_shape"]
        return wk.Dataset.from_images(images, tmp_path / f"ds{next(count)}", **{**usual, **options})

    return make


def spec(dataset):
    return dataset.get_layer("em").get_mag(1).spec


def first_mag(dataset):
    return next(iter(dataset.get_layer("em").mags.values())).read()[0].transpose()


UM = VoxelSize((0.004, 0.004, 0.035), wk.LengthUnit.MICROMETER)

# parameter, value, what is looked at, and what it is then (from the stack's voxels, where it depends on them)
TABLE = [
    ("voxel_size", (1, 2, 3), lambda d: d.voxel_size, (1, 2, 3)),
    ("voxel_size", "1,2,3", lambda d: d.voxel_size, (1, 2, 3)),
    ("name", "my data", lambda d: d.name, "my data"),
    ("layer_name", "color", lambda d: list(d.layers), ["color"]),
    ("layer_category", "segmentation", lambda d: d.get_layer("em").category, "segmentation"),
    ("layer_category", None, lambda d: d.get_layer("em").category, "color"),
    ("data_format", "wkw", lambda d: str(d.get_layer("em").data_format), "wkw"),
    ("data_format", wk.DataFormat.Zarr3, lambda d: str(d.get_layer("em").data_format), "zarr3"),
    ("chunk_shape", 16, lambda d: spec(d).chunk, (1, 16, 16, 16)),
    ("chunk_shape", (4, 8, 16), lambda d: spec(d).chunk, (1, 4, 8, 16)),
    ("shard_shape", (32, 16, 8), lambda d: spec(d).unit, (1, 32, 16, 8)),
    ("chunks_per_shard", (4, 2, 1), lambda d: spec(d).unit, (1, 32, 16, 8)),
    ("axis_order", "czyx", lambda d: (spec(d).axes, spec(d).shape), (tuple("czyx"), (1, 5, 21, 34))),
    ("compress", False, lambda d: spec(d).codec, None),
    ("compress", True, lambda d: spec(d).codec, Codec("zstd", 5)),
    ("compress", Codec("gzip", 3), lambda d: spec(d).codec, Codec("gzip", 3)),
    ("topleft", (7, 8, 9), lambda d: d.get_layer("em").bounding_box.topleft.to_tuple(), (7, 8, 9)),
    ("mag", "2-2-1", lambda d: d.get_layer("em").bounding_box.size.to_tuple(), (68, 42, 5)),
    ("mag", 2, lambda d: [str(mag) for mag in d.get_layer("em").mags], ["2"]),
    ("swap_xy", True, first_mag, lambda v: v.transpose(0, 2, 1)),
    ("flip_x", True, first_mag, lambda v: v[:, :, ::-1]),
    ("flip_y", True, first_mag, lambda v: v[:, ::-1]),
    ("flip_z", True, first_mag, lambda v: v[::-1]),
    ("use_bioformats", False, first_mag, lambda v: v),
    ("max_layers", 1, first_mag, lambda v: v),
    ("batch_size", 16, first_mag, lambda v: v),
    ("missing", "zeros", first_mag, lambda v: v),
    ("dtype", "uint16", first_mag, lambda v: v.astype("uint16")),
    ("dtype", np.float32, first_mag, lambda v: v.astype("float32")),
    ("rescale", "50,305", first_mag, lambda v: np.maximum(v, 50) - 50),
    ("rescale", (50, 305), first_mag, lambda v: np.maximum(v, 50) - 50),
    ("invert", True, first_mag, lambda v: 255 - v),
    ("channel", 0, first_mag, lambda v: v),
    ("timepoint", 0, first_mag, lambda v: v),
    ("allow_multiple_layers", False, first_mag, lambda v: v),
    ("truncate_rgba_to_rgb", False, first_mag, lambda v: v),
    ("z_slices_sort_key", lambda path: -int(path.name[1:3]), first_mag, lambda v: v[::-1]),
    ("z_from_name", r"s(\d+)", first_mag, lambda v: v),
    ("map_filepath_to_layer_name", Mapping.ENFORCE_LAYER_PER_FILE, lambda d: len(d.layers), 5),
    ("map_filepath_to_layer_name", lambda path: f"at{int(path.name[1:3]) // 3}", lambda d: list(d.layers), ["at0", "at1"]),
    ("downsample", True, lambda d: [str(mag) for mag in d.get_layer("em").mags], ["1", "2-2-1", "4-4-1"]),
    ("jobs", 3, first_mag, lambda v: v),
    ("memory_limit", 4 << 30, first_mag, lambda v: v),
    ("memory_limit", "4GiB", first_mag, lambda v: v),
    ("restart", True, first_mag, lambda v: v),
    ("executor", "sync", first_mag, lambda v: v),
]
ELSEWHERE = {
    "axes",
    "scale",
    "input_path",
    "output_path",
    "voxel_size_with_unit",
    "coarsest_mag",
    "sampling_mode",
    "interpolation_mode",
    "input_storage_options",
    "storage_options",
}


@pytest.mark.parametrize(("name", "value", "look", "expected"), TABLE, ids=lambda v: v if isinstance(v, str) else "")
def test_parameters(made, volume, name, value, look, expected):
    found = look(made(**{name: value}))
    wanted = expected(volume) if callable(expected) else expected
    if isinstance(wanted, np.ndarray):
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)
    else:
        assert found == wanted


def test_all_parameters_are_tested():
    assert {row[0] for row in TABLE} | ELSEWHERE == set(inspect.signature(wk.Dataset.from_images).parameters)


def test_shards_of_chunks_that_are_no_cubes(made):
    dataset = made(chunk_shape=(4, 8, 16), chunks_per_shard=(8, 2, 1))
    assert (spec(dataset).chunk, spec(dataset).unit) == ((1, 4, 8, 16), (1, 32, 16, 16))


def test_voxel_size_with_unit(made):
    assert made(voxel_size=None, voxel_size_with_unit=UM).voxel_size_with_unit == UM
    with pytest.raises(InputError, match=r"Both voxel_size and voxel_size_with_unit were given\. Give one"):
        made(voxel_size_with_unit=UM)


def test_pyramids(made, volume):
    dataset = made(downsample=True, coarsest_mag=4, sampling_mode="isotropic", interpolation_mode="max")
    assert [str(mag) for mag in dataset.get_layer("em").mags] == ["1", "2", "4"]
    padded = np.pad(volume, [(0, 1), (0, 1), (0, 0)], mode="edge").reshape(3, 2, 11, 2, 17, 2)
    np.testing.assert_array_equal(voxels(dataset, "em", 2), padded.max(axis=(1, 3, 5)))


def test_sources(made, tmp_path, source, volume):
    """A folder, a file of pages, a pattern, a list in its own order."""
    tifffile.imwrite(tmp_path / "all.tif", volume, photometric="minisblack")
    files = sorted(source.iterdir())
    for images, expected in [
        (str(source), volume),
        (tmp_path / "all.tif", volume),
        (f"{source}/s0[0-2].tif", volume[:3]),
        (files[::-1], volume[::-1]),
    ]:
        dataset = made(images, layer_name="em")
        np.testing.assert_array_equal(voxels(dataset, "em"), expected)


@pytest.mark.parametrize("data_format", FORMATS)
def test_missing_slices(made, source, volume, data_format):
    (source / "s01.tif").unlink()
    (source / "s03.tif").unlink()
    for missing in (None, "error"):
        with pytest.raises(InputError, match=r"1, 3|missing"):
            made(missing=missing)
    zero = np.zeros_like(volume[:1])
    for missing, planes in {
        "zeros": [volume[:1], zero, volume[2:3], zero, volume[4:]],
        "repeat": [volume[:1], volume[:1], volume[2:3], volume[2:3], volume[4:]],
        "close": [volume[::2]],
        "ignore": [volume[::2]],
    }.items():
        np.testing.assert_array_equal(voxels(made(missing=missing, data_format=data_format), "em"), np.concatenate(planes))


def test_numbers_from_names(made, tmp_path, volume):
    names = [f"{99 - z}_z{z + 7:03}.tif" for z in range(len(volume))]
    source = slices(tmp_path / "named", volume, names)
    np.testing.assert_array_equal(voxels(made(source, z_from_name=r"_z(\d+)"), "named"), volume)
    (source / names[2]).unlink()
    filled = voxels(made(source, z_from_name=r"_z(\d+)", missing="zeros"), "named")
    np.testing.assert_array_equal(filled, volume * (np.arange(5) != 2)[:, None, None])
    with pytest.raises(InputError, match="does not match"):
        made(source, z_from_name=r"slice(\d+)")
    with pytest.raises(InputError, match="Give one of them"):
        made(source, z_from_name=r"_z(\d+)", z_slices_sort_key=str)


TREE = ["a/one/1.tif", "a/one/2.tif", "a/two/1.tif", "b/1.tif", "b/2.tif"]
LAYERS = {
    Mapping.ENFORCE_LAYER_PER_FILE: ["a_one_1.tif", "a_one_2.tif", "a_two_1.tif", "b_1.tif", "b_2.tif"],
    Mapping.ENFORCE_SINGLE_LAYER: ["tree"],
    Mapping.ENFORCE_LAYER_PER_FOLDER: ["a_one", "a_two", "b"],
    Mapping.ENFORCE_LAYER_PER_TOPLEVEL_FOLDER: ["a", "b"],
    Mapping.INSPECT_EVERY_FILE: ["a_one", "a_two", "b"],
    Mapping.INSPECT_SINGLE_FILE: ["one", "two", "b"],
}


@pytest.mark.parametrize("mapping", LAYERS, ids=lambda mapping: mapping.value)
def test_mappings(made, tmp_path, mapping):
    planes = {name: noise(9, 8, seed=number) for number, name in enumerate(TREE)}
    for name, plane in planes.items():
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(tmp_path / "tree" / name, plane)
    dataset = made(tmp_path / "tree", map_filepath_to_layer_name=mapping, missing="close")
    assert list(dataset.layers) == LAYERS[mapping]
    layers = iter([voxels(dataset, name) for name in dataset.layers])
    np.testing.assert_array_equal(np.concatenate(list(layers)), np.stack(list(planes.values())))
    prefixed = made(tmp_path / "tree", map_filepath_to_layer_name=mapping, layer_name="x", missing="close")
    alone = len(LAYERS[mapping]) == 1
    assert list(prefixed.layers) == ["x" if alone else f"x_{name}" for name in LAYERS[mapping]]
    if not alone:
        with pytest.raises(InputError, match=r"would become \d layers; 1 at most"):
            made(tmp_path / "tree", map_filepath_to_layer_name=mapping, max_layers=1, missing="close")


@pytest.mark.parametrize("data_format", FORMATS)
def test_rescaling(made, tmp_path, data_format):
    volume = np.random.default_rng(0).integers(0, 4000, SHAPE).astype("uint16")
    source = slices(tmp_path / "deep", volume)
    for rescale, invert in [("100,3000", False), ("per-slice", True), ("percentiles", False), ("percentiles:5,90", True)]:
        axis = (1, 2) if rescale == "per-slice" else None
        ends = {"100,3000": (100, 3000), "percentiles": np.percentile(volume, [0.1, 99.9])}
        ends |= {"percentiles:5,90": np.percentile(volume, [5, 90])}
        ends |= {"per-slice": (volume.min(axis, keepdims=True).astype(float), volume.max(axis, keepdims=True))}
        low, high = ends[rescale]
        expected = np.rint((volume.astype(float).clip(low, high) - low) * 255 / (high - low))
        dataset = made(source, dtype="uint8", rescale=rescale, invert=invert, data_format=data_format)
        found = voxels(dataset, "deep")
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, 255 - expected if invert else expected)


# ---------------------------------------------------------------------------------------------------------- channels


@pytest.fixture
def channels(tmp_path):
    """Two channels of 16 bits, (z, c, y, x)."""
    volume = noise(3, 2, 12, 17, dtype="uint16")
    tifffile.imwrite(tmp_path / "cells.tif", volume, metadata={"axes": "ZCYX"}, photometric="minisblack")
    return tmp_path / "cells.tif", volume


def color_of(dataset, name):
    return dataset.get_layer(name).properties.to_dict()["defaultViewConfiguration"].get("color")


def test_channels(made, channels):
    source, volume = channels
    both = made(source)
    assert list(both.layers) == ["cells__channel0", "cells__channel1"]
    for channel, color in enumerate([[255, 0, 0], [0, 255, 0]]):
        np.testing.assert_array_equal(voxels(both, f"cells__channel{channel}"), volume[:, channel])
        assert color_of(both, f"cells__channel{channel}") == color
    np.testing.assert_array_equal(voxels(made(source, channel=1, layer_name="only"), "only"), volume[:, 1])
    with pytest.raises(InputError, match="no channel 2; it has 2"):
        made(source, channel=2)
    with pytest.raises(UnsupportedImageDataError):
        made(source, allow_multiple_layers=False)
    with pytest.raises(InputError, match="become 2 layers; 1 at most"):
        made(source, max_layers=1)


def test_colours_of_more_than_8_bits_are_layers(made, tmp_path):
    volume = noise(2, 9, 10, 3, dtype="uint16")
    dataset = made(slices(tmp_path / "rgb", volume))
    for channel, color in enumerate(np.diag([255] * 3).tolist()):
        np.testing.assert_array_equal(voxels(dataset, f"rgb__channel{channel}"), volume[..., channel])
        assert color_of(dataset, f"rgb__channel{channel}") == color


def test_alpha(made, tmp_path):
    from PIL import Image

    (tmp_path / "rgba").mkdir()
    plane = noise(9, 10, 4)
    Image.fromarray(plane).save(tmp_path / "rgba" / "1.png")
    dataset = made(tmp_path / "rgba")
    np.testing.assert_array_equal(dataset.get_layer("rgba").get_mag(1).read()[..., 0], plane[..., :3].transpose(2, 1, 0))
    assert color_of(dataset, "rgba") is None
    every = made(tmp_path / "rgba", truncate_rgba_to_rgb=False)
    for channel in range(4):
        np.testing.assert_array_equal(voxels(every, f"rgba__channel{channel}")[0], plane[..., channel])


def test_plans_are_what_would_run(tmp_path, channels):
    source, _ = channels
    plans = wk.Dataset.plans_from_images(source, tmp_path / "ds", (4, 4, 35))
    assert [plan.milestones[0].name for plan in plans] == ["cells__channel0/1", "cells__channel1/1"]
    with pytest.raises(InputError, match=r"2 layers \(cells__channel0, .*\), expected one\. Use plans_from_images"):
        wk.Dataset.plan_from_images(source, tmp_path / "ds", (4, 4, 35))
    assert wk.Dataset.plan_from_images(source, tmp_path / "ds", (4, 4, 35), channel=0).journal.key == "cells"
    assert not (tmp_path / "ds").exists()


# ------------------------------------------------------------------------------------------- layers of existing datasets


@pytest.mark.parametrize("data_format", FORMATS)
def test_adding_layers(tmp_path, source, volume, data_format):
    dataset = wk.Dataset(tmp_path / "ds", (4, 4, 35))
    options = {"data_format": data_format, "mag": "2", "chunk_size": 8, "chunks_per_shard": 2, "topleft": (2, 4, 6)}
    layer = dataset.add_layer_from_images(source, "a", flip_x=True, dtype="uint16", **options)
    assert (layer.name, layer.category, str(layer.data_format), str(layer.dtype)) == ("a", "color", data_format, "uint16")
    assert layer.bounding_box == wk.BoundingBox((2, 4, 6), (68, 42, 10))
    assert (layer.get_mag(2).spec.chunk, layer.get_mag(2).spec.unit) == ((1, 8, 8, 8), (1, 16, 16, 16))
    np.testing.assert_array_equal(voxels(dataset, "a", 2), volume[:, :, ::-1])
    other = dataset.add_layer_from_images(source, "b", "segmentation", data_format, compress=False)
    assert (other.category, other.get_mag(1).spec.codec) == ("segmentation", None)
    assert list(wk.Dataset.open(tmp_path / "ds").layers) == ["a", "b"]
    with pytest.raises(LayerExistsError, match="'a'"):
        dataset.add_layer_from_images(source, "a")


def test_categories_of_added_layers_are_guessed(tmp_path, source):
    dataset = wk.Dataset(tmp_path / "ds", (4, 4, 35))
    assert (
        dataset.add_layer_from_images(slices(tmp_path / "x", noise(2, 8, 9, dtype="uint64")), "a", None).category
        == "segmentation"
    )
    assert dataset.add_layer_from_images(source, "b", category=None).category == "color"


class Killed(BaseException):
    """Nobody catches this."""


def test_an_unfinished_conversion_is_given_up(tmp_path, source, volume):
    def convert(**options):
        return wk.Dataset.from_images(source, tmp_path / "ds", (4, 4, 35), layer_name="em", jobs=1, **options)

    def kill(event, url):
        if event == "publish" and "/em/1/c/" in url:
            raise Killed

    with observe(kill), pytest.raises(Killed):
        convert()
    with pytest.raises(PlanRefusedError, match="restart=True"):
        convert(flip_z=True)
    np.testing.assert_array_equal(voxels(convert(flip_z=True, restart=True), "em"), volume[::-1])


def test_adding_channels(tmp_path, channels):
    """They must be allowed to be several; the first layer is returned, also where an earlier run made it."""
    source, volume = channels
    dataset = wk.Dataset(tmp_path / "ds", (4, 4, 35))
    with pytest.raises(UnsupportedImageDataError):
        dataset.add_layer_from_images(source, "c")

    def kill(event, url):
        if event == "publish" and "c__channel1/1/" in url:
            raise Killed

    with observe(kill), pytest.raises(Killed):
        dataset.add_layer_from_images(source, "c", allow_multiple_layers=True, jobs=1)
    assert list(wk.Dataset.open(tmp_path / "ds").layers) == ["c__channel0"]
    assert dataset.add_layer_from_images(source, "c", allow_multiple_layers=True, jobs=1).name == "c__channel0"
    for channel in range(2):
        np.testing.assert_array_equal(voxels(dataset, f"c__channel{channel}"), volume[:, channel])
    assert dataset.add_layer_from_images(source, "d", channel=1).name == "d"


def test_many_folders_are_one_added_layer(tmp_path):
    volume = noise(4, 8, 9)
    slices(tmp_path / "s" / "a", volume[:2], ["z0.tif", "z1.tif"])
    slices(tmp_path / "s" / "b", volume[2:], ["z2.tif", "z3.tif"])
    dataset = wk.Dataset(tmp_path / "ds", (4, 4, 35))
    assert dataset.add_layer_from_images(tmp_path / "s", "em").name == "em"
    np.testing.assert_array_equal(voxels(dataset, "em"), volume)


# ------------------------------------------------------------------------------------------------------------- errors

WRONG = [
    ({"use_bioformats": True}, r"use_bioformats=True was given, but readers are built in .*tif.*\. Leave it out"),
    ({"voxel_size": (1, 2)}, r"\(1, 2\) is not a voxel size\. Give three"),
    ({"voxel_size": 4}, r"voxel size 4 is not three numbers\. Give"),
    ({"layer_category": "mask"}, r"no category 'mask'\. Use color or segmentation"),
    ({"layer_category": "segmentation", "dtype": "float32"}, r"voxels would be float32; a segmentation layer holds .*\. Give"),
    ({"data_format": "tiff"}, r"no format 'tiff' here; there are .*wkw.*zarr3\. Use one"),
    ({"data_format": "wkw", "compress": Codec("zstd", 3)}, r"format wkw has no codec 'zstd'; it has .*\. Use one"),
    ({"compress": Codec("lz4")}, r"format zarr3 has no codec 'lz4'; it has .*\. Use one"),
    ({"compress": "gzip"}, r"compress is 'gzip'; expected True, False or a codec\. Give"),
    ({"chunk_shape": 12}, r"chunk shape \(12, 12, 12\) .* no power of two\. Use"),
    ({"chunks_per_shard": 2, "shard_shape": 16}, r"Both chunks_per_shard and shard_shape were given\. Give one"),
    ({"batch_size": 12}, r"batch size 12 is no multiple of .* 8 slices\. Give one"),
    ({"batch_size": -8}, r"batch size -8 is less than 0\. Give"),
    ({"jobs": -1}, r"jobs -1 is less than 0\. Give"),
    ({"memory_limit": -1}, r"'?-1'? is no amount of memory\. Write it like"),
    ({"memory_limit": "much"}, r"'much' is no amount of memory\. Write it like"),
    ({"rescale": (9, 3)}, r"'9,3' is no way to rescale\. Use"),
    ({"voxel_size": "4,4"}, r"is not a voxel size\. Give three"),
    ({"data_format": "Zarr3"}, r"no format 'Zarr3' here; there are .*wkw.*zarr3\. Use one"),
    ({"chunk_shape": 1024, "shard_shape": 1024}, r"chunk of \(1024, 1024, 1024\) has 1073741824 voxels, more than .*\. Make"),
    ({"shard_shape": 2**40}, r"shard of .* has .* chunks, more than 16777216\. Use"),
    ({"missing": "guess"}, r"missing is 'guess'; expected one of .*\. Use one"),
    ({"map_filepath_to_layer_name": "files"}, r"mapping is 'files'; expected one of .*\. Use one"),
    ({"rescale": "9,3"}, r"'9,3' is no way to rescale\. Use"),
    ({"dtype": "uint8x"}, r"uint8x"),
    ({"dtype": "int8"}, r"uint8 do not all fit into int8\. Give"),
    ({"sampling_mode": "x", "downsample": True}, r"x"),
    ({"interpolation_mode": "cubic", "downsample": True}, r"no interpolation mode 'cubic' here; there are .*\. Use one"),
    ({"timepoint": 1}, r"no time point 1; it has 1, counted from 0\. Choose"),
    ({"layer_name": "a/b"}, r"a/b"),
]


@pytest.mark.parametrize(("options", "words"), WRONG, ids=lambda value: "-".join(value) if isinstance(value, dict) else "")
def test_wrong_values(made, tmp_path, options, words):
    with pytest.raises(WkdaskError, match=words) as error:
        made(**options)
    assert str(error.value).count(". ") >= 1, "found and expected first, then what to do"
    assert not list(tmp_path.glob("ds*"))


def test_too_little_memory(made, tmp_path):
    with pytest.raises(PlanRefusedError, match=r"limit is 1\.0 MB"):
        made(memory_limit=10**6)
    assert not list(tmp_path.glob("ds*"))


def test_czi(tmp_path, source):
    dataset = wk.Dataset(tmp_path / "ds", (4, 4, 35))
    with pytest.raises(InputError, match=r"CZI files, which can not be read here\. Convert them"):
        dataset.add_layer_from_images(source, "em", czi_channel=0)


def test_datasets_that_are_only_read_take_no_layer(tmp_path, source):
    wk.Dataset(tmp_path / "ds", (4, 4, 35))
    with pytest.raises(WkdaskError, match="read"):
        wk.Dataset.open(tmp_path / "ds", read_only=True).add_layer_from_images(source, "em")


# ---------------------------------------------------------------------------------------------------- other libraries

READ = """
import json, sys
import numpy as np, webknossos
dataset = webknossos.Dataset.open(sys.argv[1])
found = {}
for name, layer in dataset.layers.items():
    view = next(iter(layer.mags.values()))
    voxels = view.read(absolute_bounding_box=view.bounding_box)
    np.save(f"{sys.argv[2]}/{name}.npy", voxels)
    found[name] = [list(map(str, view.bounding_box.axes)), layer.data_format.value]
print(json.dumps(found))
"""


@pytest.mark.oracle("webknossos")
def test_the_reference_reads_time_wkw_and_places(tmp_path, webknossos_python):
    film = noise(3, 4, 21, 34)
    tifffile.imwrite(tmp_path / "film.tif", film, metadata={"axes": "TZYX"}, photometric="minisblack")
    small = {"chunk_shape": 16, "shard_shape": 32, "flip_y": True, "topleft": (6, 4, 2)}
    dataset = wk.Dataset.from_images(tmp_path / "film.tif", tmp_path / "ds", (4, 4, 35), **small)
    dataset.add_layer_from_images(tmp_path / "film.tif", "wkw", data_format="wkw", timepoint=1, mag=2, **small)
    code = [webknossos_python, "-c", READ, tmp_path / "ds", tmp_path]
    done = subprocess.run(list(map(str, code)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert {*found["film"][0]} - {"c"} == {"t", "x", "y", "z"}
    assert found["wkw"][1] == "wkw"
    theirs = np.load(tmp_path / "film.npy")
    order = [a for a in found["film"][0] if a != "c"]
    expected = np.transpose(film[:, :, ::-1], ["tzyx".index(axis) for axis in order])
    np.testing.assert_array_equal(theirs.reshape(expected.shape), expected)
    np.testing.assert_array_equal(np.load(tmp_path / "wkw.npy")[0], film[1, :, ::-1].transpose())
