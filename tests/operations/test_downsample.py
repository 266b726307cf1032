"""Coarser magnifications of a layer: voxels equal a reduction of whole arrays, whatever the tiles; runs go on when stopped."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wkdask as wk
from tests.conftest import examples
from wkdask.errors import (
    DatasetExistsError,
    InputError,
    LayerExistsError,
    LockedError,
    MagExistsError,
    MagNotFoundError,
    PlanRefusedError,
    ReadOnlyError,
)
from wkdask.images import find_images
from wkdask.metadata import LayerProperties, VoxelSize
from wkdask.operations import Coarser, Into, Running, Sampling, Storage, plan_convert
from wkdask.plan import ThreadPool
from wkdask.plan.execute import lease
from wkdask.storage import WORK_FOLDER, observe

HERE = Path(__file__).parent
SMALL = {"chunk_shape": 8, "shard_shape": 16}
CHAINS = [("2-2-1", "4-4-2"), ("2", "4", "8"), ("4",), ("4-2-1", "8-8-4"), ("1-1-2", "2-4-8"), ("8-1-2",), ("16",)]


def triple(mag):
    return wk.Mag(mag).to_tuple()


def windows(volume, start, factor):
    """The voxels of each window as a last axis, in scan order: y fastest, then x, then z; ends mirrored."""
    pads = [(a % f, -(a + n) % f) for n, a, f in zip(volume.shape, start, factor, strict=True)]
    padded = np.pad(volume, pads, mode="symmetric")
    split = [n for size, f in zip(padded.shape, factor, strict=True) for n in (size // f, f)]
    dims = len(factor)
    inner = [2 * axis + 1 for axis in range(dims)]
    c, x, y, z, *t = inner
    blocks = padded.reshape(split).transpose([2 * axis for axis in range(dims)] + [c, *t, z, x, y])
    return blocks.reshape(*blocks.shape[:dims], -1)


def exact(seen, mode):
    """Reduce a window, given in scan order."""
    if mode == "mode":
        counts = {v: seen.count(v) for v in seen}
        return max(seen, key=lambda v: counts[v])  # the first of several
    ordered, half = sorted(seen), len(seen) // 2
    if mode == "median" and len(seen) > 1:
        a, b = ordered[half - 1], ordered[half]
        return (a + b) / 2 if isinstance(a, float) else (a + b) // 2
    if mode == "bilinear":
        return sum(seen) / len(seen) if isinstance(seen[0], float) else sum(seen) // len(seen)
    return {"median": ordered[0], "max": ordered[-1], "min": ordered[0], "nearest": seen[0]}[mode]


def expected(volume, start, mags, mode, finest="1"):
    """All magnifications of a volume in (c, x, y, z[, t]) that starts at a voxel of mag ``finest``."""
    found, finer = {}, triple(finest)
    for mag in mags:
        factor = (1, *(m // f for m, f in zip(triple(mag), finer, strict=True)), *(1,) * (volume.ndim - 4))
        seen = windows(volume, start, factor)
        flat = [exact(row, mode) for row in seen.reshape(-1, seen.shape[-1]).tolist()]
        volume = np.array(flat, volume.dtype).reshape(seen.shape[:-1])
        start, finer = tuple(a // f for a, f in zip(start, factor, strict=True)), triple(mag)
        found[mag] = volume
    return found


def noise(shape, dtype, seed):
    """Few values in uneven shares, and the ends of the dtype's range; floats that add up exactly."""
    rng = np.random.default_rng(seed)
    if dtype == "float32":
        return (rng.integers(-9, 9, shape) / 8).astype(dtype)
    some = np.array([0, 1, 2, 7, np.iinfo(dtype).max, np.iinfo(dtype).max - 2], dtype)
    return rng.choice(some, shape)


def make(folder, box, volume, *, data_format="zarr3", compress=True, category="color", times=0, finest="1"):
    """A dataset with one layer of small chunks and shards, whose finest magnification holds the volume."""
    dataset = wk.Dataset(folder, (4, 4, 35))
    axes = [("t", (0, times), 4)] if times else []
    layer = LayerProperties.new("em", category, str(volume.dtype), volume.shape[0], data_format, box, axes)
    dataset._store.update(lambda old: old.with_layer(layer))
    mag = dataset.get_layer("em").add_mag(finest, compress=compress, **SMALL)
    mag.array.handle.write(mag.array.box, volume)
    return dataset.get_layer("em")


def voxels(layer, mag):
    """All voxels of a magnification, its box rounded outwards."""
    array = layer.get_mag(mag).array
    return array.read(array.box)


def check(layer, wanted):
    for mag, volume in wanted.items():
        np.testing.assert_array_equal(voxels(layer, mag), volume, err_msg=mag)


def small_tiles(tile_bytes):
    """Let tasks hold few voxels, so that there are many, and parts to join."""
    return mock.patch("wkdask.operations.downsample.TILE_BYTES", tile_bytes)


boxes = st.tuples(st.tuples(*[st.integers(0, 21)] * 3), st.tuples(*[st.integers(1, 37)] * 3))


@settings(max_examples=examples(25))
@given(
    box=boxes,
    mags=st.sampled_from(CHAINS),
    mode=st.sampled_from(["median", "mode", "max", "min", "nearest", "bilinear"]),
    dtype=st.sampled_from(["uint8", "uint16", "uint64", "float32"]),
    kind=st.sampled_from([("zarr3", 1), ("zarr3", 3), ("zarr3-time", 1), ("wkw", 1), ("wkw", 3), ("wkw-raw", 1)]),
    shard=st.sampled_from([8, 16, 32]),
    tile_bytes=st.sampled_from([1, 1 << 11, 1 << 15, 1 << 26]),
    workers=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_voxels_are_those_of_whole_arrays(box, mags, mode, dtype, kind, shard, tile_bytes, workers, seed):
    (data_format, _, more), channels = kind[0].partition("-"), kind[1]
    times = 2 if more == "time" else 0
    volume = noise((channels, *box[1], *(times,) * bool(times)), dtype, seed)
    with tempfile.TemporaryDirectory() as folder, small_tiles(tile_bytes):
        layer = make(Path(folder) / "ds", box, volume, data_format=data_format, compress=more != "raw", times=times)
        plan = layer.plan_downsample(
            Coarser(mags=tuple(map(wk.Mag, mags))),
            Sampling(interpolation=mode),
            chunk_shape=8,
            shard_shape=shard,
            compress=more != "raw",
            running=Running(workers),
        )
        report = plan.run(pool=ThreadPool(2))
        assert report.done == plan.tasks and not report.failed
        check(layer, expected(volume, (0, *box[0], *(0,) * bool(times)), mags, mode))
        assert [str(mag) for mag in layer.mags] == ["1", *mags]
        assert wk.Dataset.open(Path(folder) / "ds").get_layer("em").get_mag(mags[-1]).spec.unit[1] == shard


@settings(max_examples=examples(10))
@given(box=boxes, finest=st.sampled_from(["2", "4-4-1", "1-1-8"]), seed=st.integers(0, 99))
def test_the_finest_mag_need_not_be_1(box, finest, seed):
    start = tuple(a // m for a, m in zip(box[0], triple(finest), strict=True))
    size = tuple(-(-(a + n) // m) - s for a, n, m, s in zip(*box, triple(finest), start, strict=True))
    volume = noise((1, *size), "uint8", seed)
    with tempfile.TemporaryDirectory() as folder:
        layer = make(Path(folder) / "ds", box, volume, finest=finest)
        layer.downsample_mag_list(finest, ["16", "8"])
        check(layer, expected(volume, (0, *start), ["8", "16"], "median", finest))


def test_memory_limits_change_tiles_and_nothing_else(tmp_path):
    volume = noise((1, 100, 90, 40), "uint64", 1)
    layouts, files, found = set(), [], []
    for i, running in enumerate([Running(1), Running(3, 2 << 20), Running(64)]):
        layer = make(tmp_path / str(i), ((1, 2, 3), volume.shape[1:]), volume, category="segmentation")
        coarser = Coarser(mags=(wk.Mag(2), wk.Mag(4)))
        plan = layer.plan_downsample(coarser, chunk_shape=8, shard_shape=64, running=running)
        layouts.add(json.dumps(plan.layout))
        plan.run(pool=ThreadPool(2))
        files.append(set(stored(tmp_path / str(i))))
        found.append({mag: voxels(layer, mag) for mag in names(layer)})
    assert len(layouts) == 3
    assert files[0] == files[1] == files[2]
    for other in found[1:]:
        np.testing.assert_equal(other, found[0])


def stored(folder):
    """The bytes of all files but those of our own work folder, which may change while we look."""
    tops = (top for top in folder.iterdir() if top.name != WORK_FOLDER)
    found = (path for top in tops for path in (top, *top.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found if path.name != "datasource-properties.json"}


@pytest.fixture
def volume():
    return noise((1, 41, 30, 21), "uint8", 5)


@pytest.fixture
def layer(tmp_path, volume):
    return make(tmp_path / "ds", ((3, 5, 1), (41, 30, 21)), volume)


START = (0, 3, 5, 1)


def names(layer):
    return [str(mag) for mag in layer.mags]


def test_the_usual_pyramid(layer, volume):
    layer.downsample(coarsest_mag=8, **SMALL)
    assert names(layer) == ["1", "2-2-1", "4-4-1", "8-8-1"]
    check(layer, expected(volume, START, ["2-2-1", "4-4-1", "8-8-1"], "median"))
    layer.downsample(coarsest_mag=16, sampling_mode="isotropic", interpolation_mode="max")
    assert names(layer)[-1] == "16-16-2"
    with observe(lambda event, url: pytest.fail(f"{event} of {url} where there is nothing to do")):
        layer.downsample(coarsest_mag=16)
        layer.downsample(coarsest_mag=4)  # coarser ones are there already


def test_segmentations_take_the_mode(tmp_path, volume):
    layer = make(tmp_path / "ds", ((3, 5, 1), (41, 30, 21)), volume, category="segmentation")
    layer.downsample(coarsest_mag=4)
    check(layer, expected(volume, START, names(layer)[1:], "mode"))


def test_sections_stay_sections(tmp_path):
    layer = make(tmp_path / "ds", ((0, 0, 7), (41, 30, 1)), noise((1, 41, 30, 1), "uint8", 0))
    layer.downsample(coarsest_mag=4, sampling_mode="isotropic")
    assert names(layer) == ["1", "2-2-1", "4-4-1"]


def test_mags_of_other_layers_are_taken(tmp_path, volume, layer):
    other = wk.Dataset.open(tmp_path / "ds").add_layer("other", "color", bounding_box=layer.bounding_box)
    other.add_mag(1)
    other.add_mag("2-2-2")
    plain = make(tmp_path / "plain", ((3, 5, 1), (41, 30, 21)), volume)
    layer.downsample(coarsest_mag=4)
    assert names(layer) == ["1", "2", "4-4-2"]
    plain.downsample(coarsest_mag=4)
    assert names(plain) == ["1", "2-2-1", "4-4-1"]
    third = make(tmp_path / "third", ((3, 5, 1), (41, 30, 21)), volume)
    third.downsample(coarsest_mag=2, align_with_other_layers=wk.Dataset.open(tmp_path / "ds"))
    assert names(third) == ["1", "2"]
    wk.Dataset.open(tmp_path / "ds").get_layer("other").downsample(coarsest_mag=4, align_with_other_layers=False)
    assert names(wk.Dataset.open(tmp_path / "ds").get_layer("other")) == ["1", "2", "4-4-2"]


def test_empty_mags_are_filled_later(layer, volume):
    layer.downsample(coarsest_mag=4, only_setup_mags=True, **SMALL)
    assert names(layer) == ["1", "2-2-1", "4-4-1"]
    assert not voxels(layer, "2-2-1").any() and layer.get_mag("4-4-1").spec.chunk == (1, 8, 8, 8)
    layer.downsample_mag(1, 8, only_setup_mag=True)
    layer.downsample_mag_list(1, [16], only_setup_mags=True, **SMALL)
    assert layer.get_mag(16).spec.unit == (1, 16, 16, 16)
    assert not voxels(layer, 8).any()
    layer.downsample(from_mag=1, coarsest_mag=4, allow_overwrite=True)
    check(layer, expected(volume, START, ["2-2-1", "4-4-1"], "median"))
    assert layer.get_mag("4-4-1").spec.chunk == (1, 8, 8, 8)


@pytest.mark.parametrize("data_format", ["zarr3", "wkw"])
@pytest.mark.parametrize("tile_bytes", [1, 1 << 26])
def test_mags_are_made_anew(tmp_path, volume, data_format, tile_bytes):
    layer = make(tmp_path / "ds", ((3, 5, 1), (41, 30, 21)), volume, data_format=data_format)
    with small_tiles(tile_bytes):
        layer.downsample_mag_list(1, ["2", "4"], compress=False)
        codecs = [layer.get_mag(mag).spec.codec for mag in (2, 4)]
        changed = noise((1, 41, 30, 21), "uint8", 6)
        changed[:, :20] = 0  # whole units are gone
        layer.get_mag(1).write(changed)
        with pytest.raises(MagExistsError, match=r"has a magnification 2 already.*allow_overwrite=True"):
            layer.downsample(from_mag=1, coarsest_mag=4, sampling_mode="isotropic")
        layer.redownsample()
        check(layer, expected(changed, START, ["2", "4"], "median"))
        assert [layer.get_mag(mag).spec.codec for mag in (2, 4)] == codecs
        layer.downsample_mag(1, 4, "max", allow_overwrite=True)
        check(layer, expected(changed, START, ["4"], "max"))


def test_anew_means_the_same_files(tmp_path, layer, volume):
    layer.downsample(coarsest_mag=4, **SMALL)
    before = stored(tmp_path / "ds")
    layer.get_mag(1).write(255 - volume)
    layer.redownsample()
    assert stored(tmp_path / "ds") != before
    layer.get_mag(1).write(volume)
    layer.redownsample()
    assert stored(tmp_path / "ds") == before


def test_what_can_not_be_made(layer):
    layer.downsample_mag(1, "2-2-1")
    for call, words in [
        (lambda: layer.downsample_mag("2-2-1", "1-1-2"), "can not be made of mag 2-2-1: it is no coarser multiple"),
        (lambda: layer.downsample_mag(1, 1, allow_overwrite=True), "Mag 1 can not be made of mag 1"),
        (lambda: layer.downsample_mag_list(1, ["4-4-1", "1-1-4"]), "Choose mags each of which is a multiple"),
        (lambda: layer.downsample_mag_list(1, []), "The list of magnifications is empty"),
        (lambda: layer.downsample(from_mag="2-2-1", coarsest_mag=1), "Mag 1 is not coarser than mag 2-2-1"),
        (lambda: layer.downsample_mag(1, 4, "cubic"), "no interpolation mode 'cubic'"),
        (lambda: layer.downsample(sampling_mode="round"), "no sampling mode 'round'"),
        (lambda: layer.downsample_mag(1, 3), "powers of two"),
    ]:
        with pytest.raises(InputError, match=words):
            call()
    with pytest.raises(MagNotFoundError, match=r"1, 2-2-1"):
        layer.downsample(from_mag=8)
    with pytest.raises(MagExistsError, match=r"--overwrite-existing"):
        layer.downsample_mag(1, "2-2-1")
    assert names(layer) == ["1", "2-2-1"]


def test_nothing_to_start_from(tmp_path):
    empty = wk.Dataset(tmp_path / "ds", (1, 1, 1)).add_layer("em", "color", bounding_box=wk.BoundingBox((0, 0, 0), (9, 9, 9)))
    with pytest.raises(MagNotFoundError, match="has no magnification 1"):
        empty.downsample()
    empty.redownsample()


def test_a_folder_in_the_way_is_kept(tmp_path, layer):
    (tmp_path / "ds/em/2-2-1").mkdir()
    (tmp_path / "ds/em/2-2-1/notes.txt").write_text("mine")
    with pytest.raises(
        DatasetExistsError, match=r"em/2-2-1 exists, but is no magnification of layer 'em'\. Delete that folder"
    ):
        layer.downsample(coarsest_mag=4)
    assert names(layer) == ["1"] and (tmp_path / "ds/em/2-2-1/notes.txt").read_text() == "mine"


def test_read_only_datasets_are_not_touched(tmp_path, layer):
    layer.downsample_mag(1, 2)
    closed = wk.Dataset.open(tmp_path / "ds", read_only=True).get_layer("em")
    before = stored(tmp_path / "ds")
    for call in (
        closed.downsample,
        closed.redownsample,
        lambda: closed.downsample_mag(1, 4),
        lambda: closed.downsample_mag_list(1, [4]),
        lambda: closed.update_pyramid(closed.bounding_box),
        lambda: closed.downsample(only_setup_mags=True),
    ):
        with pytest.raises(ReadOnlyError):
            call()
    assert stored(tmp_path / "ds") == before


def foreign(folder, mag):
    """Let the layer's magnification lie in another dataset."""
    (folder / "ds").rename(folder / "theirs")
    (folder / "ds").mkdir()
    document = json.loads((folder / "theirs/datasource-properties.json").read_bytes())
    for found in document["dataLayers"][0]["mags"]:
        found["path"] = str(folder / "theirs" / found["path"].removeprefix("./"))
    (folder / "ds/datasource-properties.json").write_text(json.dumps(document))
    return wk.Dataset.open(folder / "ds").get_layer("em")


def test_mags_of_other_datasets_are_read_but_not_written(tmp_path, layer, volume):
    layer.downsample_mag(1, 2)
    ours = foreign(tmp_path, 1)
    before = stored(tmp_path / "theirs")
    ours.downsample_mag(2, 4)
    check(ours, expected(volume, START, ["2", "4"], "median"))
    assert (tmp_path / "ds/em/4/zarr.json").is_file()
    for call in (
        ours.redownsample,
        lambda: ours.update_pyramid(ours.bounding_box),
        lambda: ours.downsample_mag(1, 2, allow_overwrite=True),
    ):
        with pytest.raises(ReadOnlyError, match=r"Mag 2 of layer 'em' lies outside the dataset, at .*theirs/em/2"):
            call()
    assert stored(tmp_path / "theirs") == before


def test_a_second_run_is_locked_out(tmp_path, layer):
    running = layer.plan_downsample()
    with lease(running):
        for call in (layer.downsample, lambda: layer.downsample(only_setup_mags=True), running.compute):
            with pytest.raises(LockedError, match="downsample ds/em from mag 1"):
                call()
    assert names(layer) == ["1"]
    layer.downsample()


class Stop(BaseException):
    """Ends a run in the middle, as a kill would, but in this process."""


def stop(plan, after):
    """Run a plan until so many tasks are done."""

    def tell(plan, report, receipt):
        if report.done >= after:
            raise Stop

    with pytest.raises(Stop):
        plan.run(progress=tell, pool=ThreadPool(1))


def planned(layer, mode="median", **coarser):
    coarser = Coarser(wk.Mag(1), (wk.Mag(2), wk.Mag(4)), **coarser)
    return layer.plan_downsample(coarser, Sampling(interpolation=mode), chunk_shape=8, shard_shape=16, running=Running(2))


def test_a_stopped_run_goes_on(layer, volume):
    total = planned(layer).tasks
    stop(planned(layer), total - 4)
    journal = planned(layer).journal
    finished = len({(r.stage, r.number) for r in journal.read()})
    report = planned(layer).run()
    assert (report.kept, report.done) == (finished, total - finished) and finished >= total - 4
    check(layer, expected(volume, START, ["2", "4"], "median"))


def test_overwriting_goes_on_and_keeps_listed_units(tmp_path, layer, volume):
    planned(layer).run()
    layer.get_mag(1).write(255 - volume)
    stop(planned(layer, overwrite=True), 5)
    assert {path for path in stored(tmp_path / "ds") if path.startswith("em/2/c")}
    units = set(stored(tmp_path / "ds"))
    seen = []
    report = planned(layer, overwrite=True).run(progress=lambda *_: seen.append(units <= set(stored(tmp_path / "ds"))))
    assert all(seen) and report.kept >= 5
    check(layer, expected(255 - volume, START, ["2", "4"], "median"))
    assert json.loads((tmp_path / "ds/.wkdask/receipts/em/2.json").read_bytes())["units"]


def test_a_changed_source_is_refused_until_all_is_made_anew(layer, volume):
    stop(planned(layer), 5)
    layer.get_mag(1).write(255 - volume)
    with pytest.raises(
        PlanRefusedError, match=r"input files changed.*start anew with --overwrite-existing.*allow_overwrite=True"
    ):
        planned(layer).run()
    with pytest.raises(PlanRefusedError, match="unfinished run for layer 'em': downsample ds/em from mag 1"):
        layer.downsample(coarsest_mag=16, only_setup_mags=True)
    report = planned(layer, overwrite=True).run()
    assert report.kept == 0
    check(layer, expected(255 - volume, START, ["2", "4"], "median"))
    assert planned(layer, overwrite=True).journal.document() is None


def test_other_shards_supersede_those_of_a_stopped_run(layer, volume):
    stop(planned(layer), 6)
    other = layer.plan_downsample(
        Coarser(wk.Mag(1), (wk.Mag(2), wk.Mag(4)), overwrite=True), chunk_shape=16, shard_shape=32, compress=False
    )
    stop(other, 1)
    listed = {mag: voxels(layer, mag) for mag in names(layer)[1:]}
    assert other.run().kept  # the same plan goes on, though it was made to supersede
    check(layer, listed | expected(volume, START, ["2", "4"], "median"))
    assert layer.get_mag(4).spec.unit[1:] == (32,) * 3


def test_what_was_half_made_anew_is_not_forgotten(layer, volume):
    planned(layer).run()
    layer.get_mag(1).write(255 - volume)
    stop(planned(layer, overwrite=True), 5)
    with pytest.raises(PlanRefusedError, match=r"makes mags 2, 4 of layer 'em' was stopped.*would leave some.*redownsample"):
        layer.downsample_mag(1, 2, allow_overwrite=True)  # would leave mag 4 as a mixture that nothing tells of
    with pytest.raises(PlanRefusedError, match=r"makes mags 2, 4 of layer 'em' was stopped.*redownsample"):
        layer.update_pyramid(wk.BoundingBox((3, 5, 1), (1, 1, 1)))
    layer.redownsample()
    check(layer, expected(255 - volume, START, ["2", "4"], "median"))


def test_a_conversion_that_was_stopped_comes_first(make_stack, tmp_path):
    source, _ = make_stack((40, 50, 40))
    options = {
        "into": Into("em", dataset="ds"),
        "storage": Storage((8, 8, 8), (16, 16, 16)),
        "running": Running(2, command="c x"),
    }
    sampling = Sampling(coarsest=wk.Mag(4))

    def convert(**more):
        return plan_convert(find_images(source), tmp_path / "ds", VoxelSize((4, 4, 35)), sampling=sampling, **options | more)

    def stop_at_commit(event, url):
        if event == "commit":
            raise Stop

    whole = convert()
    with observe(stop_at_commit), pytest.raises(Stop):
        whole.run()
    layer = wk.Dataset.open(tmp_path / "ds").get_layer("em")
    before = stored(tmp_path / "ds")
    for call in (
        lambda: layer.downsample(coarsest_mag=64),
        lambda: layer.downsample_mag(1, 8, allow_overwrite=True),
        lambda: layer.downsample(coarsest_mag=64, only_setup_mags=True),
    ):
        with pytest.raises(PlanRefusedError, match=r"unfinished run for layer 'em'.*convert stack-0 to ds/em\..*first"):
            call()
    assert stored(tmp_path / "ds") == before
    assert convert().run().kept == whole.tasks
    more = layer.plan_downsample(Coarser(mags=(wk.Mag(8), wk.Mag(16))))
    stop(more, 1)
    with pytest.raises(LayerExistsError, match=r"Layer 'em' in .* exists"):  # as it is complete, whatever goes on with it
        convert().run()
    assert more.run().kept == 1


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("case", "most"), [("downsample", 80), ("redownsample", 80), ("update", 60)])
def test_kill_after_changes(tmp_path, case, most, kill):
    dataset = wk.Dataset(tmp_path / "whole", (4, 4, 35))
    layer = dataset.add_layer("color", "color", bounding_box=wk.BoundingBox((3, 5, 1), (30, 14, 9)))
    finest = layer.add_mag(1, **SMALL)
    finest.write(noise((30, 14, 9), "uint8", 1))
    if case != "downsample":
        layer.downsample(coarsest_mag=4, sampling_mode="isotropic", **SMALL)
        finest.write(noise((17, 14, 9), "uint8", 2))
    changes = kill(str(HERE / "kill_driver.py"), str(tmp_path / "whole"), str(tmp_path / "runs"), case)
    assert 15 < changes < most


def test_one_of_several_channels_of_an_array(tmp_path):
    dataset = wk.Dataset(tmp_path / "ds", voxel_size=(4, 4, 4))
    whole = dataset.add_layer("rgb", "color", num_channels=3, bounding_box=wk.BoundingBox((0, 0, 0), (32, 32, 32)))
    voxels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 32), "uint8")
    whole.add_mag(1, chunk_shape=8, shard_shape=16).write(voxels)
    path = tmp_path / "ds" / "datasource-properties.json"
    document = json.loads(path.read_bytes())
    (layer,) = document["dataLayers"]
    green = {**layer, "name": "green", "elementClass": "uint8", "numChannels": 1}
    document["dataLayers"].append({**green, "mags": [{**layer["mags"][0], "channelIndex": 1}]})
    path.write_text(json.dumps(document))
    green = wk.Dataset.open(tmp_path / "ds").get_layer("green")
    green.downsample(coarsest_mag=2, interpolation_mode="max", chunk_shape=8, shard_shape=16)
    expected = voxels[1].reshape(16, 2, 16, 2, 16, 2).max((1, 3, 5))
    np.testing.assert_array_equal(green.get_mag(2).read()[0], expected)
    document["dataLayers"][1]["mags"].append({**document["dataLayers"][1]["mags"][0], "mag": [4, 4, 4]})
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match="1 of the 3 channels"):
        wk.Dataset.open(tmp_path / "ds").get_layer("green").redownsample()
