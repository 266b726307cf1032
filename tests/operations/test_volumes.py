"""Volumes become layers as stacks of images do: the same axes, places and values, in tiles of whole chunks."""

from __future__ import annotations

import itertools
import json
import math
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import wkdask as wk
from tests.conftest import examples
from tests.images.volume_files import noise, write_array, write_group, write_n5, write_ome, write_precomputed, zipped
from wkdask.errors import InputError, LayerExistsError, UnsupportedImageFormatError, WkdaskError
from wkdask.geometry.grid import Box
from wkdask.images import Selection, find_layers
from wkdask.metadata import VoxelSize
from wkdask.operations import Orientation, Running, Sampling, Storage, Treatment, plan_imports, run_plans
from wkdask.operations.source import FromImages
from wkdask.operations.values import ValueMap
from wkdask.operations.volume_source import FromVolume, source_of
from wkdask.storage import Location

SIZES = {"t": 3, "c": 3, "z": 21, "y": 34, "x": 19}
SIZE = VoxelSize((4, 4, 35))
FLAT = Sampling(downsample=False)
SMALL = Storage((16, 16, 16), (32, 32, 32))
KINDS = ("images", "zarr3", "zarr2", "zip", "n5", "precomputed")


def turned(volume: np.ndarray, orientation: Orientation) -> np.ndarray:
    """Return (z, y, x, c) as (c, x, y, z) the way numpy turns it."""
    found = volume.transpose(3, 2, 1, 0)
    found = found.swapaxes(1, 2) if orientation.swap_xy else found
    for axis, flip in enumerate(orientation.flip, 1):
        found = np.flip(found, axis) if flip else found
    return found


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """The same voxels (z, y, x, c) as images and as all kinds of volumes."""
    folder = tmp_path_factory.mktemp("sources")
    voxels = noise("zyxc", SIZES, "uint8")
    (folder / "images").mkdir()
    for z, plane in enumerate(voxels):
        tifffile.imwrite(folder / "images" / f"{z:03}.tif", plane, photometric="rgb")
    write_ome(folder / "zarr3", voxels.transpose(3, 0, 1, 2), "czyx", chunks=(1, 10, 12, 7))
    write_ome(folder / "zarr2", voxels.transpose(2, 1, 3, 0), "xycz", "0.4", chunks=(8, 16, 3, 4))
    zipped(folder / "zarr3", folder / "zip.ozx")
    write_n5(folder / "n5" / "s0", voxels.transpose(2, 1, 0, 3))
    write_precomputed(folder / "precomputed", voxels.transpose(2, 1, 0, 3))
    places = {kind: folder / ("zip.ozx" if kind == "zip" else kind) for kind in KINDS}
    return {kind: find_layers(place)[0].stack for kind, place in places.items()}, voxels


MAPS = {"dark": {"window": (20, 200), "invert": True}, "slices": {"per_slice": True}}


def mapped(volume: np.ndarray, how: str) -> np.ndarray:
    wide = volume.astype(np.float64)
    low, high = (20, 200) if how == "dark" else (f(wide, axis=(1, 2, 3), keepdims=True) for f in (np.min, np.max))
    new = np.rint((wide.clip(low, high) - low) * 255 / (high - low)).astype(np.uint8)
    return 255 - new if how == "dark" else new


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_boxes_of_all_kinds_of_sources_are_numpys(sources, data):
    stacks, voxels = sources
    kind = data.draw(st.sampled_from(KINDS))
    orientation = Orientation(data.draw(st.tuples(*[st.booleans()] * 3)), data.draw(st.booleans()))
    origin = data.draw(st.tuples(*[st.integers(0, 70)] * 3))
    how = data.draw(st.sampled_from(["stay", *MAPS]))
    values = None if how == "stay" else ValueMap("uint8", "uint8", **MAPS[how])
    source = source_of(stacks[kind], orientation, origin, values)
    assert type(source) is (FromImages if kind == "images" else FromVolume)
    wanted = turned(voxels if values is None else mapped(voxels, how), orientation)
    ends = [data.draw(st.tuples(st.integers(0, n - 1), st.integers(1, n))) for n in wanted.shape]
    start, stop = (tuple(f(pair) for pair in ends) for f in (min, max))
    stop = tuple(max(a + 1, b) for a, b in zip(start, stop, strict=True))
    found = source.read(Box(start, stop).shifted((0, *origin)))
    np.testing.assert_array_equal(found, wanted[Box(start, stop).slices])


USUAL = Treatment()


def imported(source, target, treatment=USUAL, selection=None, size=SIZE, **options):
    usual = {"storage": SMALL, "sampling": FLAT, "running": Running(2), **options}
    plans = plan_imports(find_layers(source, selection), Location.of(target), size, treatment, **usual)
    run_plans(plans)
    return plans


def voxels_of(target, layer):
    view = wk.Dataset.open(target).get_layer(layer).get_mag(1)
    return view.read()


def test_a_volume_with_all_that_its_metadata_say(tmp_path):
    voxels = noise("czyx", SIZES | {"c": 2})
    omero = {
        "channels": [
            {"label": "red", "color": "FF8000", "window": {"start": 7, "end": 99}},
            {"label": "x", "color": "00FF00"},
        ]
    }
    scale, place = {"x": 0.01, "y": 0.02, "z": 0.05}, {"x": 0.05, "z": 1.0}
    write_ome(tmp_path / "a.zarr", voxels, "czyx", scale=scale, translation=place, attributes={"omero": omero})
    plans = imported(tmp_path / "a.zarr", tmp_path / "ds", size=None)
    assert any("begins at (5, 0, 20)" in note for note in plans[0].notes)
    dataset = wk.Dataset.open(tmp_path / "ds")
    assert dataset.voxel_size == pytest.approx((10, 20, 50))
    assert list(dataset.layers) == ["a_red", "a_x"]
    for index, name in enumerate(dataset.layers):
        layer = dataset.get_layer(name)
        assert layer.bounding_box.topleft.to_tuple() == (5, 0, 20)
        np.testing.assert_array_equal(voxels_of(tmp_path / "ds", name)[0], voxels[index].transpose(2, 1, 0))
    views = [layer["defaultViewConfiguration"] for layer in document(tmp_path / "ds")["dataLayers"]]
    assert views[0]["color"] == [255, 128, 0] and views[0]["intensityRange"] == [7, 99]
    assert views[1]["color"] == [0, 255, 0] and "intensityRange" not in views[1]


def document(target):
    return json.loads((target / "datasource-properties.json").read_text())


@pytest.mark.parametrize(
    ("treatment", "begin"),
    [
        (Treatment(topleft=(0, 0, 0)), (0, 0, 0)),
        (Treatment(mag=wk.Mag(2)), (10, 12, 14)),
        (Treatment(orientation=Orientation(swap_xy=True)), (6, 5, 7)),
    ],
)
def test_a_volume_begins_where_it_says_unless_told_otherwise(tmp_path, treatment, begin):
    voxels = noise("xyzc", SIZES | {"c": 1})
    write_precomputed(tmp_path / "a", voxels, offset=(5, 6, 7))
    imported(tmp_path / "a", tmp_path / "ds", treatment)
    layer = wk.Dataset.open(tmp_path / "ds").get_layer("a")
    assert layer.bounding_box.topleft.to_tuple() == begin
    wanted = voxels[..., 0].swapaxes(0, 1) if treatment.orientation.swap_xy else voxels[..., 0]
    np.testing.assert_array_equal(layer.get_mag(treatment.mag).read()[0], wanted)


def test_time_is_an_axis_and_wkw_has_none(tmp_path):
    voxels = noise("tzyx", SIZES)
    write_ome(tmp_path / "film.zarr", voxels, "tzyx")
    with pytest.raises(InputError, match="3 time points"):
        imported(tmp_path / "film.zarr", tmp_path / "wkw", storage=Storage(data_format="wkw"))
    assert not (tmp_path / "wkw").exists()
    imported(tmp_path / "film.zarr", tmp_path / "ds", size=VoxelSize((1, 1, 1)))
    view = wk.Dataset.open(tmp_path / "ds").get_layer("film").get_mag(1)
    np.testing.assert_array_equal(view.array.read(view.array.box)[:, 0], voxels.transpose(0, 3, 2, 1))


def test_values_are_mapped_and_samples_stand_for_all(tmp_path):
    voxels = noise("zyx", SIZES).astype("float32") * 100
    write_array(tmp_path / "a.zarr", voxels, chunks=(4, 10, 10))
    from wkdask.operations import parse_rescale

    imported(tmp_path / "a.zarr", tmp_path / "ds", Treatment(dtype="uint8", rescale=parse_rescale("percentiles:0,100")))
    found = voxels_of(tmp_path / "ds", "a")[0]
    assert found.dtype == np.uint8 and found.max() == 255 and found.min() == 0
    np.testing.assert_array_equal(np.diff(found.ravel()[np.argsort(voxels.transpose(2, 1, 0).ravel())].astype(int)) >= 0, True)


def test_labels_are_segmentations_on_the_command_line_too(tmp_path):
    place = write_ome(tmp_path / "em.zarr", noise("zyx", SIZES, "uint8"), "zyx", unit="nanometer")
    write_group(place / "labels", {"labels": ["cells"]})
    write_ome(place / "labels" / "cells", noise("zyx", SIZES, "uint16"), "zyx", unit="nanometer")
    command = [sys.executable, "-m", "wkdask", "convert", str(place), str(tmp_path / "ds"), "--no-downsample", "--dry-run"]
    assert subprocess.run(command, check=False).returncode == 0 and not (tmp_path / "ds").exists()
    assert subprocess.run(command[:-1], check=False).returncode == 0
    layers = document(tmp_path / "ds")["dataLayers"]
    assert [(layer["name"], layer["category"]) for layer in layers] == [("em", "color"), ("em_cells", "segmentation")]
    assert layers[1]["largestSegmentId"] == noise("zyx", SIZES, "uint16").max()


def test_python_takes_volumes(tmp_path):
    voxels = noise("xyz", SIZES)
    write_array(tmp_path / "a.zarr", voxels)
    dataset = wk.Dataset.from_images(tmp_path / "a.zarr", tmp_path / "ds", (4, 4, 4), axes="xyz", downsample=True)
    np.testing.assert_array_equal(dataset.get_layer("a").get_mag(1).read()[0], voxels)
    layer = dataset.add_layer_from_images(tmp_path / "a.zarr", "again", axes="xyz", topleft=(7, 0, 0), flip_y=True)
    np.testing.assert_array_equal(layer.get_mag(1).read()[0], voxels[:, ::-1])
    layer.append_images(tmp_path / "a.zarr", selection=Selection(axes="xyz"))
    np.testing.assert_array_equal(layer.get_mag(1).read()[0, ..., 21:], voxels)
    with pytest.raises(LayerExistsError):
        dataset.add_layer_from_images(tmp_path / "a.zarr", "again")


@pytest.mark.parametrize("data_format", ["zarr3", "zarr", "n5"])
def test_what_we_write_is_read_again(tmp_path, data_format):
    voxels = noise("czyx", SIZES, "uint8")
    write_ome(tmp_path / "a.zarr", voxels, "czyx", unit="nanometer", scale={"z": 3})
    storage = Storage((16, 16, 16), (32, 32, 32) if data_format == "zarr3" else None, data_format=data_format)
    imported(tmp_path / "a.zarr", tmp_path / "one", size=None, storage=storage, sampling=Sampling())
    imported(tmp_path / "one" / "a", tmp_path / "two", size=None)
    assert wk.Dataset.open(tmp_path / "two").voxel_size == (1, 1, 3)
    found = voxels_of(tmp_path / "two", "a")
    wanted = voxels.transpose(0, 3, 2, 1)
    inside = tuple(slice(0, n) for n in wanted.shape)
    np.testing.assert_array_equal(found[inside], wanted)  # arrays of Zarr 3 end with a whole shard
    assert np.count_nonzero(found) == np.count_nonzero(wanted)


def test_what_can_not_be_a_layer_is_refused_before_anything_is_written(tmp_path):
    write_array(tmp_path / "f.zarr", noise("zyx", SIZES, "float64"))
    with pytest.raises(InputError, match="float64"):
        imported(tmp_path / "f.zarr", tmp_path / "ds")
    zarr.create_group(tmp_path / "empty.zarr")
    with pytest.raises(UnsupportedImageFormatError, match="group without arrays"):
        imported(tmp_path / "empty.zarr", tmp_path / "ds")
    with pytest.raises(InputError, match="voxel size was not given"):
        write_array(tmp_path / "b.zarr", noise("zyx", SIZES))
        imported(tmp_path / "b.zarr", tmp_path / "ds", size=None)
    assert not (tmp_path / "ds").exists()


def test_a_chunk_that_is_damaged_fails_its_tile_by_name(tmp_path):
    place = write_array(tmp_path / "a.zarr", noise("zyx", SIZES))
    (place / "c/1/2/1").write_bytes(b"nothing")
    with pytest.raises(WkdaskError, match=r"c/1/2/1|a\.zarr"):
        imported(place, tmp_path / "ds")


def test_a_changed_volume_is_another_input(tmp_path):
    place = write_array(tmp_path / "a.zarr", noise("zyx", SIZES))
    options = {"storage": SMALL, "sampling": FLAT}
    [first] = plan_imports(find_layers(place), Location.of(tmp_path / "ds"), SIZE, **options)
    [same] = plan_imports(find_layers(place), Location.of(tmp_path / "ds"), SIZE, **options)
    shutil.rmtree(place / "c" / "0")
    [other] = plan_imports(find_layers(place), Location.of(tmp_path / "ds"), SIZE, **options)
    assert first.fingerprint == same.fingerprint != other.fingerprint


# --------------------------------------------------------------------------------------------------- tiles and memory


class Grid:
    """A volume of any size that is never read."""

    channels, dtype = 1, "uint8"

    def __init__(self, shape, chunk):
        self.shape, self.chunk = shape, chunk


@settings(max_examples=examples(300))
@given(
    st.tuples(*[st.integers(1, 3000)] * 3),
    st.tuples(*[st.integers(1, 200)] * 3),
    st.tuples(*[st.sampled_from([16, 32, 64])] * 3),
    st.tuples(*[st.integers(0, 100)] * 3),
    st.tuples(*[st.booleans()] * 4),
    st.integers(18, 26),
)
def test_tiles_are_whole_chunks_that_fit(shape, chunk, target, origin, turns, bits):
    chunk, swap, flip = tuple(map(min, chunk, shape)), turns[3], turns[:3]
    source = FromVolume(Grid(shape, chunk), Orientation(flip, swap), origin)
    tile = source.least_tile(target, 1 << bits)
    assert all(t % n == 0 for t, n in zip(tile, target, strict=True))
    extent, chunks = (Orientation(swap_xy=swap).extent(n) for n in (shape, chunk))
    held = math.prod(map(min, tile, extent))
    assert held <= 1 << bits or held == math.prod(map(min, target, extent))
    together = [math.lcm(t, c) for t, c in zip(target, chunks, strict=True)]
    if math.prod(map(min, together, extent)) <= 1 << bits and not any(
        (o + f * n) % t for o, f, n, t in zip(origin, flip, extent, together, strict=True)
    ):
        touched = sum_of_touched(tile, chunks, extent, origin, flip)
        assert touched == math.prod(-(-n // c) for n, c in zip(extent, chunks, strict=True))
        assert "decoded once" in source.describe(tile)


def sum_of_touched(tile, chunk, extent, origin, flip):
    """Count the chunks that each tile meets, all together."""
    total = 1
    for t, c, n, o, mirrored in zip(tile, chunk, extent, origin, flip, strict=True):
        cuts = sorted({o, o + n, *range(-(-o // t) * t, o + n, t)})
        ends = [o + n - cut for cut in reversed(cuts)] if mirrored else [cut - o for cut in cuts]
        total *= sum(-(-b // c) - a // c for a, b in itertools.pairwise(ends))
    return total


MEASURED = """
import sys
import wkdask as wk
wk.Dataset.from_images(sys.argv[1], sys.argv[2], (4, 4, 4), memory_limit="300M", jobs=2)
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


def test_a_gibibyte_takes_less_than_300_megabytes(tmp_path):
    array = zarr.create_array(tmp_path / "a.zarr", shape=(1024, 1024, 1024), chunks=(128, 128, 128), dtype="uint8")
    for corner in ((0, 0, 0), (512, 384, 896)):
        array[tuple(slice(a, a + 128) for a in corner)] = 7
    command = [sys.executable, "-c", MEASURED, str(tmp_path / "a.zarr"), str(tmp_path / "ds")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[-1]) * 1024 <= 300e6
    view = wk.Dataset.open(tmp_path / "ds").get_layer("a").get_mag(1)
    assert view.array.read(Box((0, 896, 384, 512), (1, 898, 386, 514))).min() == 7
