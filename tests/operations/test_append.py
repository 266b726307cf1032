"""Sections appended to a layer: it becomes the layer that all sections make at once, and nobody sees anything between."""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
import threading
import tracemalloc
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import tifffile
from hypothesis import example, given, settings
from hypothesis import strategies as st

import wkdask as wk
from tests.conftest import examples
from wkdask.errors import (
    DatasetNotFoundError,
    InputError,
    LayerNotFoundError,
    LockedError,
    MagNotFoundError,
    PlanRefusedError,
    ReadOnlyError,
)
from wkdask.formats import ArraySpec, Zarr3
from wkdask.geometry.grid import Box
from wkdask.images import Selection, find_images
from wkdask.metadata import VoxelSize
from wkdask.operations import Coarser, Into, Orientation, Running, Sampling, Storage, ValueMap, plan_convert
from wkdask.operations.append import Behind, plan_append
from wkdask.operations.level import Level
from wkdask.operations.source import FromImages
from wkdask.operations.tiles import WriteTiles
from wkdask.plan import Journal, ThreadPool
from wkdask.plan.execute import lease
from wkdask.storage import Location, observe

HERE = Path(__file__).parent
SMALL = Storage((8, 8, 8), (16, 16, 16))
EM = Into("em")


def sections(folder, volume, begin=0, end=None):
    """Write (c, x, y, z) sections as a TIFF each and return their folder."""
    folder.mkdir(parents=True)
    for z in range(volume.shape[3])[begin:end]:
        plane = volume[..., z].transpose(2, 1, 0)
        rgb = len(volume) == 3
        tifffile.imwrite(folder / f"s{z:04}.tif", plane if rgb else plane[..., 0], photometric="rgb" if rgb else "minisblack")
    return folder


def noise(size, channels=1, dtype="uint8", seed=0, low=20, high=200):
    """Voxels with ends of their range that are met by chance."""
    return np.random.default_rng(seed).integers(low, high, (channels, *size)).astype(dtype)


def convert(source, target, mags=(), into=EM, storage=SMALL, mode="default"):
    """Make a layer of sections, and coarser magnifications of it."""
    into = replace(into, dataset="ds")
    plan = plan_convert(
        find_images(source), target, VoxelSize((4, 4, 35)), into=into, storage=storage, sampling=Sampling(False)
    )
    plan.run(pool=ThreadPool(2))
    layer = wk.Dataset.open(target).get_layer("em")
    if mags:
        coarser = Coarser(into.mag, tuple(map(wk.Mag, mags)))
        shapes = {"chunk_shape": storage.chunk, "shard_shape": storage.shard, "compress": storage.codec is not None}
        layer.plan_downsample(coarser, Sampling(interpolation=mode), **shapes).run(pool=ThreadPool(2))
    return layer


def properties(folder):
    """Return the layer's JSON."""
    return json.loads((folder / "datasource-properties.json").read_bytes())["dataLayers"][0]


def voxels(folder):
    """Return all voxels of all magnifications."""
    layer = wk.Dataset.open(folder).get_layer("em")
    arrays = [layer.get_mag(mag).array for mag in layer.mags]
    return {array.name: array.read(array.box) for array in arrays}


def stored(folder):
    """Return the bytes and times of all files but those of our own work folder."""
    found = (path for path in folder.rglob("*") if path.is_file() and ".wkdask" not in path.parts)
    return {str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_mtime_ns, p.stat().st_ino) for p in found}


def assert_same(folder, whole):
    """Compare all that readers see."""
    assert properties(folder) == properties(whole)
    wanted = voxels(whole)
    np.testing.assert_equal(voxels(folder), wanted)
    return wanted


CHAINS = [(), ("2-2-1",), ("2-2-1", "4-4-1"), ("2-2-1", "4-4-1", "8-8-2"), ("2", "4", "8"), ("4",), ("1-1-2", "2-2-8")]
KINDS = ["zarr3", "zarr3-raw", "zarr3-rgb", "zarr3-segmentation", "zarr3-flat", "wkw", "wkw-raw", "wkw-rgb"]


@settings(max_examples=examples(12))
@given(
    size=st.tuples(st.integers(1, 37), st.integers(1, 37)),
    cuts=st.lists(st.integers(1, 40), min_size=2, max_size=4),
    topleft=st.sampled_from([(0, 0, 0), (3, 5, 7), (0, 1, 16), (15, 16, 9)]),
    mags=st.sampled_from(CHAINS),
    kind=st.sampled_from(KINDS),
    tile_bytes=st.sampled_from([1, 1 << 11, 1 << 26]),
    orientation=st.sampled_from([Orientation(), Orientation((True, False, False)), Orientation((False, True, False), True)]),
    seed=st.integers(0, 99),
)
def test_the_layer_is_that_of_all_sections(size, cuts, topleft, mags, kind, tile_bytes, orientation, seed):
    data_format, _, more = kind.partition("-")
    codec = {"codec": None} if more == "raw" else {}
    shard = (32, 32, 8) if more == "flat" else (16, 16, 16)
    storage = Storage((8, 8, 8), shard, data_format=data_format, **codec)
    category = "segmentation" if more == "segmentation" else "color"
    into = Into("em", category, topleft=topleft, orientation=orientation)
    ends = np.cumsum(cuts).tolist()
    volume = noise((*size, ends[-1]), 3 if more == "rgb" else 1, seed=seed)
    volume[..., seed % ends[-1]] = 0  # chunks without any voxel
    with tempfile.TemporaryDirectory() as place, mock.patch("wkdask.operations.convert.TILE_BYTES", tile_bytes):
        folder = Path(place)
        convert(sections(folder / "all", volume), folder / "whole", mags, into, storage)
        layer = convert(sections(folder / "0", volume, 0, ends[0]), folder / "ds", mags, into, storage)
        for begin, end in itertools.pairwise(ends):
            images = sections(folder / str(begin), volume, begin, end)
            plan = layer.plan_append_images(images, orientation=orientation, running=Running(2))
            report = plan.run(pool=ThreadPool(2))
            assert (report.done, report.failed) == (plan.tasks, 0)
        assert_same(folder / "ds", folder / "whole")
        assert tuple(layer.bounding_box.size)[2] == ends[-1]


@pytest.mark.parametrize(("finest", "mags"), [("2", ["4"]), ("2-2-1", ["4-4-2"]), ("4-4-8", [])])
@pytest.mark.parametrize("old", [7, 8, 16])
def test_the_finest_mag_need_not_be_1(tmp_path, finest, mags, old):
    volume = noise((20, 17, 24))
    into = Into("em", mag=wk.Mag(finest), topleft=(4, 8, 8))
    convert(sections(tmp_path / "all", volume), tmp_path / "whole", mags, into)
    layer = convert(sections(tmp_path / "a", volume, 0, old), tmp_path / "ds", mags, into)
    layer.append_images(sections(tmp_path / "b", volume, old))
    assert_same(tmp_path / "ds", tmp_path / "whole")


def test_coarser_units_begin_before_finer_ones(tmp_path):
    """A unit of mag 4 holds what four units of mag 1 do, of which only the last is read again."""
    volume = noise((33, 60, 90))
    convert(sections(tmp_path / "all", volume), tmp_path / "whole", ["2", "4"])
    layer = convert(sections(tmp_path / "a", volume, 0, 50), tmp_path / "ds", ["2", "4"])
    layer.plan_append_images(sections(tmp_path / "b", volume, 50), running=Running(1)).run()
    assert_same(tmp_path / "ds", tmp_path / "whole")


@pytest.mark.parametrize("mode", ["median", "max", "nearest"])
def test_the_kernel_is_the_one_that_is_asked_for(tmp_path, mode):
    volume = noise((20, 17, 24))
    convert(sections(tmp_path / "all", volume), tmp_path / "whole", ["2", "8"], mode=mode)
    layer = convert(sections(tmp_path / "a", volume, 0, 9), tmp_path / "ds", ["2", "8"], mode=mode)
    layer.append_images(sections(tmp_path / "b", volume, 9), interpolation_mode=mode)
    assert_same(tmp_path / "ds", tmp_path / "whole")


def test_new_sections_may_be_mirrored_along_z(tmp_path):
    volume = noise((20, 17, 24))
    layer = convert(sections(tmp_path / "a", volume, 0, 9), tmp_path / "ds")
    layer.append_images(sections(tmp_path / "b", volume, 9), orientation=Orientation((False, False, True)))
    expected = np.concatenate([volume[..., :9], volume[..., :8:-1]], axis=3)
    np.testing.assert_array_equal(layer.get_mag(1).read(), expected)


def test_values_are_mapped_as_those_of_the_layer(tmp_path):
    volume = noise((20, 17, 24), dtype="uint16", low=0, high=4000)
    values = ValueMap("uint16", "uint8", per_slice=True, invert=True)
    into = Into("em", values=values)
    convert(sections(tmp_path / "all", volume), tmp_path / "whole", ["2"], into)
    layer = convert(sections(tmp_path / "a", volume, 0, 9), tmp_path / "ds", ["2"], into)
    layer.append_images(sections(tmp_path / "b", volume, 9), values=values)
    assert_same(tmp_path / "ds", tmp_path / "whole")


@pytest.mark.parametrize("category", ["color", "segmentation"])
@pytest.mark.parametrize("wider", [True, False])
def test_window_and_largest_id_only_grow(tmp_path, category, wider):
    old, new = noise((9, 9, 16), low=50, high=100), noise((9, 9, 5), low=10 if wider else 60, high=200 if wider else 80)
    layer = convert(sections(tmp_path / "a", old), tmp_path / "ds", into=Into("em", category))
    layer.append_images(sections(tmp_path / "b", new))
    found, both = properties(tmp_path / "ds"), np.concatenate([old, new], axis=3)
    if category == "color":
        window = found["defaultViewConfiguration"]
        assert (window["min"], window["max"]) == (both.min(), both.max())
    else:
        assert found["largestSegmentId"] == both.max()


def test_what_is_not_known_is_not_made_up(tmp_path):
    layer = convert(sections(tmp_path / "a", noise((9, 9, 5))), tmp_path / "ds", into=Into("em", "segmentation"))
    document = json.loads((tmp_path / "ds/datasource-properties.json").read_bytes())
    del document["dataLayers"][0]["largestSegmentId"]
    (tmp_path / "ds/datasource-properties.json").write_text(json.dumps(document))
    layer = wk.Dataset.open(tmp_path / "ds").get_layer("em")
    layer.append_images(sections(tmp_path / "b", noise((9, 9, 5))))
    assert properties(tmp_path / "ds").get("largestSegmentId") is None
    assert layer.bounding_box.size.z == 10


@pytest.mark.parametrize("data_format", ["zarr3", "wkw"])
@pytest.mark.parametrize("old", [16, 23, 24, 31, 32])
def test_only_the_units_at_the_end_are_written(tmp_path, data_format, old):
    volume = noise((40, 20, old + 3))
    storage = replace(SMALL, data_format=data_format)
    layer = convert(sections(tmp_path / "a", volume, 0, old), tmp_path / "ds", ["2-2-1"], storage=storage)
    before = stored(tmp_path / "ds")
    layer.append_images(sections(tmp_path / "b", volume, old))
    after = stored(tmp_path / "ds")
    place = 2 if data_format == "wkw" else -1  # z in the name of a unit
    for name, was in before.items():
        number = [int(part) for part in name.replace(".wkw", "").replace("z", "", 1).split("/")[2:] if part.isdigit()]
        if name.endswith(("json", "header.wkw")):
            continue
        z = int(name.split("/")[place].strip("z")) if data_format == "wkw" else number[-1]
        assert (after[name] == was) == (z < old // 16), name
    assert len(after) - len(before) == (8 if old % 16 in (0, 14, 15) else 0)


def test_time_points_grow_together(tmp_path):
    volume = noise((2, 9, 17, 20))[0]  # (t, z, y, x)
    for name, part in (("all", volume), ("a", volume[:, :5]), ("b", volume[:, 5:])):
        (tmp_path / name).mkdir()
        tifffile.imwrite(tmp_path / name / "film.ome.tif", part, metadata={"axes": "TZYX"})
    convert(tmp_path / "all/film.ome.tif", tmp_path / "whole", ["2"])
    layer = convert(tmp_path / "a/film.ome.tif", tmp_path / "ds", ["2"])
    layer.append_images(tmp_path / "b/film.ome.tif")
    found = assert_same(tmp_path / "ds", tmp_path / "whole")
    np.testing.assert_array_equal(found["em/1"][:, 0], volume.transpose(0, 3, 2, 1))


@pytest.fixture
def volume():
    return noise((20, 17, 30))


@pytest.fixture
def layer(tmp_path, volume):
    return convert(sections(tmp_path / "a", volume, 0, 13), tmp_path / "ds", ["2-2-1"], Into("em", topleft=(3, 5, 7)))


@pytest.fixture
def more(tmp_path, volume):
    return sections(tmp_path / "b", volume, 13)


def refused(layer, folder, error, match, *arguments, **options):
    """Expect an error, and that nothing was written: no file is another one, and no change was told."""
    before = stored(folder)
    with pytest.raises(error, match=match), observe(lambda event, url: pytest.fail(f"{event} of {url}")):
        layer.append_images(*arguments, **options)
    assert stored(folder) == before and not (folder / ".wkdask/jobs/em").exists()


def test_sections_that_do_not_fit(tmp_path, layer):
    for number, (size, channels, dtype, words) in enumerate(
        [
            ((20, 18, 3), 1, "uint8", r"width and height \(20, 18\), layer 'em' has \(20, 17\) in its finest mag 1"),
            ((17, 20, 3), 1, "uint8", r"width and height \(17, 20\), layer 'em' has \(20, 17\)"),
            ((20, 17, 3), 1, "uint16", "dtype uint16, layer 'em' has uint8"),
            ((20, 17, 3), 3, "uint8", "channels 3, layer 'em' has 1"),
        ]
    ):
        images = sections(tmp_path / f"bad{number}", noise(size, channels, dtype))
        refused(layer, tmp_path / "ds", InputError, words, images)
    turned = sections(tmp_path / "turned", noise((17, 20, 3)))
    layer.append_images(turned, orientation=Orientation(swap_xy=True))
    film = tmp_path / "film.ome.tif"
    tifffile.imwrite(film, noise((2, 3, 17, 20))[0], metadata={"axes": "TZYX"})
    refused_words = "time points 2, layer 'em' has 1"
    with pytest.raises(InputError, match=refused_words):
        layer.append_images(film)


def test_layers_that_can_not_grow(tmp_path, layer, more):
    ds = tmp_path / "ds"
    refused(wk.Dataset.open(ds, read_only=True).get_layer("em"), ds, ReadOnlyError, "read", more)
    empty = wk.Dataset.open(ds).add_layer("none", "color", bounding_box=layer.bounding_box)
    refused(empty, ds, MagNotFoundError, "none", more)
    document = json.loads((ds / "datasource-properties.json").read_bytes())
    (ds / "datasource-properties.json").write_text(json.dumps({**document, "dataLayers": []}))
    refused(layer, ds, LayerNotFoundError, "em", more)


def test_an_end_inside_of_a_voxel(tmp_path, volume, more):
    layer = convert(sections(tmp_path / "c", volume, 0, 8), tmp_path / "ds", into=Into("em", mag=wk.Mag("1-1-2")))
    layer.bounding_box = wk.BoundingBox((0, 0, 0), (20, 17, 15))
    refused(layer, tmp_path / "ds", InputError, "ends at 15 along z, inside of a voxel of its finest mag 1-1-2", more)


def edit(folder, change):
    """Change the layer's JSON and open it again."""
    place = folder / "datasource-properties.json"
    document = json.loads(place.read_bytes())
    change(document["dataLayers"][0])
    place.write_text(json.dumps(document))
    return wk.Dataset.open(folder).get_layer("em")


def test_arrays_of_other_datasets_are_not_written(tmp_path, layer, more):
    (tmp_path / "ds").rename(tmp_path / "theirs")
    (tmp_path / "ds").mkdir()
    (tmp_path / "theirs/datasource-properties.json").rename(tmp_path / "ds/datasource-properties.json")

    def elsewhere(found):
        for mag in found["mags"]:
            mag["path"] = str(tmp_path / "theirs" / mag["path"].removeprefix("./"))

    ours = edit(tmp_path / "ds", elsewhere)
    before = stored(tmp_path / "theirs")
    refused(ours, tmp_path / "ds", ReadOnlyError, "Mag 1 of layer 'em' lies outside the dataset", more)
    assert stored(tmp_path / "theirs") == before


def test_arrays_behind_links_are_not_written(tmp_path, layer, more):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "ds/em").rename(tmp_path / "theirs/em")
    (tmp_path / "ds/em").symlink_to(tmp_path / "theirs/em", target_is_directory=True)
    before = stored(tmp_path / "theirs")
    refused(layer, tmp_path / "ds", ReadOnlyError, "The folder of layer 'em' in .* is a link to", more)
    assert stored(tmp_path / "theirs") == before


def test_arrays_that_are_two_mags_are_not_written(tmp_path, layer, more):
    def same(found):
        found["mags"][1]["path"] = found["mags"][0]["path"]

    refused(edit(tmp_path / "ds", same), tmp_path / "ds", InputError, "lies where em/", more)


@pytest.mark.parametrize("channel", [0, 1])
def test_arrays_that_are_not_ours_alone(tmp_path, volume, more, channel):
    rgb = noise((20, 17, 5), 3)
    convert(sections(tmp_path / "rgb", rgb), tmp_path / "ds")

    def one_channel(found):
        found |= {"numChannels": 1, "elementClass": "uint8"}
        for mag in found["mags"]:
            mag["channelIndex"] = channel

    one = edit(tmp_path / "ds", one_channel)
    refused(one, tmp_path / "ds", InputError, "is 1 of the 3 channels of", more)


def test_foreign_zarr_is_read_but_not_written(tmp_path, layer, more):
    place = tmp_path / "ds/em/1/zarr.json"
    document = json.loads(place.read_bytes())
    document["codecs"][0]["configuration"]["codecs"].append({"name": "numcodecs.zlib", "configuration": {"level": 1}})
    place.write_text(json.dumps(document))
    refused(layer, tmp_path / "ds", InputError, "can not be written", more)


def test_several_channels_are_not_one_layer(tmp_path, layer):
    film = tmp_path / "two.ome.tif"
    tifffile.imwrite(film, noise((2, 3, 17, 20))[0].transpose(1, 0, 2, 3), metadata={"axes": "ZCYX"})
    refused(layer, tmp_path / "ds", InputError, "2 channels that would be layers", film)
    layer.append_images(film, selection=Selection(channel=1))
    assert layer.bounding_box.size.z == 16


class Stop(BaseException):
    """Ends a run in the middle, as a kill would, but in this process."""


def stop(plan, after):
    """Run a plan until so many tasks are done, at most until all are, but nothing is in the box yet."""

    def tell(plan, report, receipt):
        if report.done >= min(after, plan.tasks):
            raise Stop

    with pytest.raises(Stop):
        plan.run(progress=tell, pool=ThreadPool(1))


def test_another_call_is_refused_until_the_first_is_done_or_given_up(tmp_path, layer, volume, more):
    other = sections(tmp_path / "other", 255 - volume, 13, 15)
    box, first = layer.bounding_box, layer.plan_append_images(more)
    stop(first, first.tasks - 2)
    assert (tmp_path / "ds/em/1/c/0/0/0/2").exists()  # behind all that the other call adds
    before = stored(tmp_path / "ds")
    for words, call in [
        (r"another one: append b to ds/em\. Finish that first", lambda: layer.append_images(other)),
        ("kernel was 'median', now 'max'", lambda: layer.append_images(more, interpolation_mode="max")),
        ("orientation was", lambda: layer.append_images(more, orientation=Orientation((True, False, False)))),
        ("another one: append b", layer.downsample),
    ]:
        with pytest.raises(PlanRefusedError, match=words):
            call()
    assert stored(tmp_path / "ds") == before and layer.bounding_box == box
    layer.append_images(other, allow_overwrite=True)
    convert(
        sections(tmp_path / "all", np.concatenate([volume[..., :13], 255 - volume[..., 13:15]], axis=3)),
        tmp_path / "whole",
        ["2-2-1"],
        Into("em", topleft=(3, 5, 7)),
    )
    assert_same(tmp_path / "ds", tmp_path / "whole")
    assert {name for name in stored(tmp_path / "ds")} == {name for name in stored(tmp_path / "whole")}


def test_mended_images_are_taken(tmp_path, layer, more, volume):
    good = (more / "s0020.tif").read_bytes()
    (more / "s0020.tif").write_bytes(good[:-100] + bytes(100))
    stop(layer.plan_append_images(more), 2)
    (more / "s0020.tif").write_bytes(good + b" ")
    with pytest.raises(PlanRefusedError, match="allow_overwrite=True"):
        layer.append_images(more)
    layer.append_images(more, allow_overwrite=True)
    np.testing.assert_array_equal(layer.get_mag(1).read(), volume)


def test_sections_in_the_box_are_never_given_up(tmp_path, layer, more, volume):
    other = sections(tmp_path / "other", 255 - volume, 13, 17)
    plan = layer.plan_append_images(more)
    with mock.patch.object(type(plan.journal), "remove", side_effect=Stop), pytest.raises(Stop):
        plan.run()
    assert layer.bounding_box.size.z == 30
    with pytest.raises(PlanRefusedError, match="Finish that first"):
        layer.append_images(other, allow_overwrite=True)
    layer.append_images(more)
    assert layer.bounding_box.size.z == 30
    np.testing.assert_array_equal(layer.get_mag(1).read(), volume)
    layer.append_images(other)
    assert layer.bounding_box.size.z == 34


def test_a_plan_is_of_the_box_that_it_was_made_for(tmp_path, layer, more, volume):
    other = sections(tmp_path / "other", 255 - volume, 13, 20)
    first, second, same = (layer.plan_append_images(images) for images in (more, other, more))
    coarser = layer.plan_downsample(Coarser(mags=(wk.Mag("4-4-1"),)))
    anew = layer.plan_downsample(Coarser(wk.Mag(1), (wk.Mag("2-2-1"),), (), True))
    first.run()
    before = stored(tmp_path / "ds")
    for stale in (second, same, coarser, anew):
        with pytest.raises(PlanRefusedError, match=r"box \(3, 5, 7\), \(20, 17, 30\); when this plan .* \(20, 17, 13\)\. Make"):
            stale.run()
    with pytest.raises(PlanRefusedError, match="Make the plan anew"):
        second.compute()
    assert stored(tmp_path / "ds") == before and not (tmp_path / "ds/.wkdask/jobs/em").exists()
    np.testing.assert_array_equal(layer.get_mag(1).read(), volume)


@pytest.mark.parametrize(("depth", "then"), [(14, 30), (40, 40)])
def test_a_box_that_others_extend_meanwhile_stays(tmp_path, layer, more, volume, depth, then):
    plan = layer.plan_append_images(more)

    def tell(plan, report, receipt):
        if report.done == 2:
            layer.bounding_box = wk.BoundingBox((1, 5, 7), (30, 18, depth))

    plan.run(progress=tell, pool=ThreadPool(1))
    assert layer.bounding_box == wk.BoundingBox((1, 5, 7), (30, 18, then))
    layer.bounding_box = wk.BoundingBox((3, 5, 7), (20, 17, 30))
    np.testing.assert_array_equal(layer.get_mag(1).read(), volume)


@pytest.mark.parametrize("after", [0, 3, 10**6])
def test_a_deleted_json_does_not_come_back_empty(tmp_path, layer, more, after):
    plan, document = layer.plan_append_images(more), tmp_path / "ds/datasource-properties.json"
    content = document.read_bytes()

    def tell(plan, report, receipt):
        if report.done >= min(after, plan.tasks):
            document.unlink(missing_ok=True)

    with pytest.raises(DatasetNotFoundError, match=r"datasource-properties\.json is gone"):
        plan.run(progress=tell, pool=ThreadPool(1))
    assert not document.exists()
    with pytest.raises(DatasetNotFoundError, match=r"datasource-properties\.json is missing"):
        plan.run()
    document.write_bytes(content)
    report = layer.plan_append_images(more).run()
    assert report.kept and report.kept + report.done == plan.tasks


@settings(max_examples=examples(10))
@given(
    box=st.tuples(*[st.tuples(st.integers(0, 18), st.integers(1, 22))] * 2, st.tuples(st.integers(0, 12), st.integers(1, 18))),
    depth=st.integers(1, 20),
    kind=st.sampled_from(["zarr3", "zarr3-raw", "zarr3-flat", "wkw", "wkw-raw"]),
    tile_bytes=st.sampled_from([1, 1 << 26]),
    channels=st.sampled_from([1, 3]),
    given_up=st.none() | st.tuples(st.integers(1, 20), st.integers(1, 12)),
    mags=st.sampled_from([(), ("2-2-1",)]),
)
@example(box=((0, 1),) * 3, depth=1, kind="wkw", tile_bytes=1, channels=1, given_up=(16, 4), mags=())  # units further on
def test_what_lies_beyond_the_box_stays(box, depth, kind, tile_bytes, channels, given_up, mags):
    """Of the finest magnification nothing but the sections' own voxels changes, nor when they take the place of others."""
    data_format, _, more = kind.partition("-")
    codec = {"codec": None} if more == "raw" else {}
    storage = Storage((8, 8, 8), (32, 16, 8) if more == "flat" else (16, 16, 16), data_format=data_format, **codec)
    ends = [(a, a + n) for a, n in box]
    inside = (slice(None), *(slice(a, b) for a, b in ends[:2]))
    at = ends[2][1]
    volume = noise((40, 40, 50), channels)
    new = noise((box[0][1], box[1][1], depth), channels, seed=1)
    with tempfile.TemporaryDirectory() as place, mock.patch("wkdask.operations.convert.TILE_BYTES", tile_bytes):
        folder = Path(place)
        layer = convert(sections(folder / "0", volume), folder / "ds", mags, storage=storage)
        smaller = layer.properties.with_bounding_box((tuple(a for a, _ in box), tuple(n for _, n in box)))
        layer._store.update(lambda old: old.with_layer(smaller))  # as another program makes it, which erases nothing
        lost = 0
        if given_up:
            lost, after = given_up
            plan = layer.plan_append_images(sections(folder / "1", noise((*new.shape[1:3], lost), channels, seed=2)))
            stop(plan, min(after, plan.tasks))
        layer.append_images(sections(folder / "2", new), allow_overwrite=True)
        assert layer.bounding_box.size.z == box[2][1] + depth
        layer.bounding_box = wk.BoundingBox((0, 0, 0), (40, 40, 50))
        found = layer.get_mag(1).read()
    expected = volume.copy()
    expected[(*inside, slice(at, at + depth))] = new[..., : 50 - at]
    behind = (*inside, slice(at + depth, max(at + depth, at + lost)))
    undone = found[behind]
    assert ((undone == 0) | (undone == expected[behind])).all()  # what a run that was given up had not reached is as it was
    expected[behind] = undone
    np.testing.assert_array_equal(found, expected)


def test_giving_up_a_run_keeps_what_the_box_holds(tmp_path, layer, more, volume):
    before = {mag: layer.get_mag(mag).read() for mag in layer.mags}
    stop(layer.plan_append_images(more), 10**6)
    seen = []

    def tell(plan, report, receipt):
        if receipt is None:
            seen.extend(layer.mags)
            assert layer.bounding_box.size.z == 13
            np.testing.assert_array_equal(layer.get_mag(1).read(), before[wk.Mag(1)])
            assert layer.get_mag("2-2-1").read()[..., :13].any(axis=(0, 1, 2)).all()
            raise Stop

    other = plan_append(
        Location(str(tmp_path / "ds")),
        "em",
        FromImages(find_images(sections(tmp_path / "c", volume, 13, 15))),
        overwrite=True,
    )
    with pytest.raises(Stop):
        other.run(progress=tell)
    assert seen


def test_voxels_that_others_wrote_behind_an_unfinished_run_stay(tmp_path, layer, more, volume):
    other = sections(tmp_path / "other", 255 - volume, 13, 15)
    stop(layer.plan_append_images(more), 3)
    written = noise((20, 17, 4), seed=5)
    layer.get_mag(1).write(written, absolute_offset=(3, 5, 20), allow_resize=True)
    assert layer.bounding_box.size.z == 17
    with pytest.raises(PlanRefusedError, match="Finish that first"):
        layer.append_images(other)
    with pytest.raises(PlanRefusedError, match=r"another one|differs"):
        layer.append_images(more, orientation=Orientation((True, False, False)))
    layer.append_images(other, allow_overwrite=True)
    assert layer.bounding_box.size.z == 19
    expected = np.concatenate([volume[..., :13], written, 255 - volume[..., 13:15]], axis=3)
    np.testing.assert_array_equal(layer.get_mag(1).read(), expected)


def test_what_was_given_up_does_not_come_back(tmp_path, layer, volume):
    """Sections of a run that was given up, behind those that took their place, are zero when the box reaches there."""
    stop(layer.plan_append_images(sections(tmp_path / "b", volume, 13), running=Running(1)), 10**6)
    layer.append_images(sections(tmp_path / "c", volume, 13, 15), allow_overwrite=True)
    layer.bounding_box = wk.BoundingBox((3, 5, 7), (20, 17, 30))
    for mag, depth in ((1, 15), ("2-2-1", 15)):
        found = layer.get_mag(mag).read()
        assert found[..., :depth].any(axis=(0, 1, 2)).all() and not found[..., depth:].any()
    assert {name for name in stored(tmp_path / "ds") if "/c/" in name} == {
        f"em/{mag}/c/0/{x}/{y}/{z}"
        for mag, width in (("1", 2), ("2-2-1", 1))
        for x in range(width)
        for y in range(width)
        for z in (0, 1)
    }


def test_other_voxels_of_the_same_files_are_another_run(tmp_path, layer):
    film = tmp_path / "two.ome.tif"
    tifffile.imwrite(film, noise((2, 3, 17, 20))[0].transpose(1, 0, 2, 3), metadata={"axes": "ZCYX"})
    first = layer.plan_append_images(film, selection=Selection(channel=0))
    other = layer.plan_append_images(film, selection=Selection(channel=1))
    assert first.fingerprint != other.fingerprint
    stop(first, 2)
    with pytest.raises(PlanRefusedError, match=r"channels was \[0, 1\], now \[1, 2\]"):
        layer.append_images(film, selection=Selection(channel=1))
    layer.append_images(film, selection=Selection(channel=0))


def test_gaps_elsewhere_are_another_run(tmp_path, layer, more):
    for number, (first, second) in enumerate([(0, 0), (1, 2), (3, 3)]):
        (more / f"s{13 + number:04}.tif").rename(tmp_path / f"a{first}b{second}.tif")
    plans = [
        layer.plan_append_images(str(tmp_path / "a*.tif"), selection=Selection(missing="zeros", z_from_name=pattern))
        for pattern in (r"a(\d)", r"b(\d)", r"b(\d)")
    ]
    assert plans[0].identity == plans[1].identity and plans[1].fingerprint == plans[2].fingerprint
    assert plans[0].fingerprint != plans[1].fingerprint


@pytest.mark.parametrize("dtype", ["uint8", "uint64"])
@pytest.mark.parametrize("old", [0, 1, 16, 31])
def test_memory_of_reading_behind_an_array(tmp_path, dtype, old):
    images = find_images(sections(tmp_path / "b", noise((512, 256, 32))))
    array = Zarr3().at(
        Location(str(tmp_path / "1")), ArraySpec((1, 512, 256, 64), dtype, tuple("cxyz"), (1, 32, 32, 32), (1, 512, 256, 32))
    )
    array = Zarr3().create(array.location, array.spec)
    source = Behind(
        array,
        FromImages(images, Orientation((True, False, False)), (0, 0, old), ValueMap("uint8", dtype)),
        old,
        array.spec.itemsize,
    )
    box = Box((0, 0, 0, 0), (1, 512, 256, 32))
    source.read(Box((0, 0, 0, 0), (1, 8, 8, 32)))  # loads what the first reading needs
    write = WriteTiles(source, (Level("em/1", array, box, (1,) * 4, "max"),), box.shape, Journal(Location(str(tmp_path)), "em"))
    tracemalloc.start()
    try:
        source.read(box)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= write.bytes_needed - (8 << 20) + (1 << 20)
    keeping = replace(write, levels=(replace(write.levels[0], keeps=True),))
    assert keeping.bytes_needed == write.bytes_needed + 256 * 256 * 32 * array.spec.itemsize  # chunks that are merged at once


def test_other_jobs_come_first(tmp_path, layer, more):
    stop(layer.plan_downsample(Coarser(mags=(wk.Mag("4-4-1"), wk.Mag("8-8-1")))), 1)
    for overwrite in (False, True):
        with pytest.raises(PlanRefusedError, match="another one: downsample ds/em"):
            layer.append_images(more, allow_overwrite=overwrite)
    with lease(layer.plan_downsample()), pytest.raises(LockedError):
        layer.append_images(more)


def test_a_plan_may_go_on_with_other_threads_and_memory(tmp_path, layer, more, volume):
    with mock.patch("wkdask.operations.convert.TILE_BYTES", 1):
        first = layer.plan_append_images(more, running=Running(2))
        stop(first, 4)
    report = layer.plan_append_images(more, running=Running(5, 10**9)).run()
    assert report.kept >= 4 and report.kept + report.done == first.tasks
    convert(sections(tmp_path / "all", volume), tmp_path / "whole", ["2-2-1"], Into("em", topleft=(3, 5, 7)))
    assert_same(tmp_path / "ds", tmp_path / "whole")


@pytest.mark.parametrize("data_format", ["zarr3", "wkw"])
def test_readers_see_the_old_box_until_the_end(tmp_path, volume, more, data_format):
    storage, ds = replace(SMALL, data_format=data_format), tmp_path / "ds"
    layer = convert(sections(tmp_path / "a", volume, 0, 13), ds, ["2-2-1"], storage=storage)
    over, errors, reads = threading.Event(), [], []

    def watch():
        kept = wk.Dataset.open(ds, read_only=True).get_layer("em").get_mag(1)  # opened before the layer grew
        while not over.is_set():
            try:
                seen = wk.Dataset.open(ds, read_only=True).get_layer("em")
                for view in (seen.get_mag(1), kept):
                    found = view.read()
                    assert found.shape[-1] in (13, 30)
                    np.testing.assert_array_equal(found, volume[..., : found.shape[-1]])
                reads.append(seen.get_mag("2-2-1").read())
            except BaseException as error:  # noqa: BLE001 - told below
                errors.append(error)
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    waited = threading.Event()

    def tell(plan, report, receipt):
        target = len(reads) + 2
        assert layer.bounding_box.size.z == 13  # even when the last task is done, and no magnification before it
        while len(reads) < target and watcher.is_alive():  # it reads between any two tasks
            waited.wait(0.001)

    try:
        with mock.patch("wkdask.operations.convert.TILE_BYTES", 1):
            layer.plan_append_images(more).run(progress=tell)
    finally:
        over.set()
        watcher.join()
    assert not errors, errors
    assert len(reads) > 20 and layer.bounding_box.size.z == 30


@pytest.mark.timeout(300)
@pytest.mark.parametrize("data_format", ["zarr3", "wkw"])
def test_kill_after_changes(tmp_path, data_format, kill):
    volume = noise((10, 9, 15))
    sections(tmp_path / "more", volume, 6)
    into, storage = Into("color", topleft=(3, 5, 7)), replace(SMALL, data_format=data_format)
    plan_convert(
        find_images(sections(tmp_path / "old", volume, 0, 6)),
        tmp_path / "ds",
        VoxelSize((4, 4, 35)),
        into=replace(into, dataset="whole"),
        storage=storage,
        sampling=Sampling(coarsest=wk.Mag(2)),
    ).run()
    changes = kill(__file__, str(tmp_path / "ds"), str(tmp_path / "runs"))
    assert 20 < changes < 90


def killed_runs():
    """Be the program that `test_kill_after_changes` runs: see ``kill_driver``, whose cases this adds one to."""
    import kill_driver as driver

    from wkdask.operations import convert as module

    sys.argv[3:] = []
    driver.CASE, module.TILE_BYTES = "append", 1
    go_on = driver.resume

    def plan(source, target):
        layer = wk.Dataset.open(target).get_layer("color")
        return layer.plan_append_images(Path(source).parent / "more", running=Running(2))

    def resume(source, target, journalled, before):
        check_finest(target, Path(source))
        go_on(source, target, journalled, before)

    driver.plan, driver.resume = plan, resume
    driver.main(sys.argv[1], Path(sys.argv[2]))


def check_finest(target, source):
    """The box is the old one, or all of the new one is there; the finest voxels of the old box are the old ones."""
    now, was = (wk.Dataset.open(place).get_layer("color") for place in (target, source))
    old = was.get_mag(1).read()
    found = now.get_mag(1).read()
    np.testing.assert_array_equal(found[..., : old.shape[-1]], old)
    if now.bounding_box != was.bounding_box:
        volume = noise((10, 9, 15))
        np.testing.assert_array_equal(found, volume)


if __name__ == "__main__":
    killed_runs()
