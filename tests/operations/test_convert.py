"""Conversion: every voxel of every magnification equals numpy's, whatever the tiles, the threads and the strategy."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

import wkdask as wk
from wkdask.clusters import open_pool
from wkdask.errors import DatasetExistsError, InputError, LayerExistsError, PlanRefusedError
from wkdask.formats import Codec
from wkdask.images import find_images
from wkdask.metadata import VoxelSize
from wkdask.operations import Into, Running, Sampling, SamplingModes, Storage, plan_convert
from wkdask.storage import WORK_FOLDER, Location, observe

SIZE = VoxelSize((4, 4, 35))
SMALL = Storage((16, 16, 16), (64, 64, 64))


def convert(source, target, **options):
    """Plan with small shards, so that a small stack has several units and parts."""
    options = {"into": Into("color"), "storage": SMALL, "running": Running(workers=2), **options}
    return plan_convert(find_images(source), target, options.pop("voxel_size", SIZE), **options)


def check(target, volume, expected_pyramid, mode="median", layer="color"):
    """Compare all magnifications with numpy's."""
    found = wk.Dataset.open(target).get_layer(layer)
    names = [str(mag) for mag in found.mags]
    for name, voxels in expected_pyramid(volume, names, mode).items():
        view = found.get_mag(name)
        np.testing.assert_array_equal(view.array.read(view.array.box), voxels, err_msg=f"mag {name}")
    return names


@pytest.mark.parametrize("size", [(70, 100, 45), (64, 64, 64), (1, 1, 1), (33, 2, 17), (130, 31, 1)])
@pytest.mark.parametrize("voxel", [(4, 4, 35), (1, 1, 1), (16, 16, 4)])
def test_pyramid_equals_numpy(make_stack, tmp_path, expected_pyramid, size, voxel):
    source, volume = make_stack(size)
    plan = convert(source, tmp_path / "ds", voxel_size=VoxelSize(voxel), sampling=Sampling(coarsest=wk.Mag(8)))
    report = plan.run()
    assert report.done == plan.tasks
    names = check(tmp_path / "ds", volume, expected_pyramid)
    assert len(names) > 1
    assert not (tmp_path / "ds" / WORK_FOLDER / "jobs" / "color").exists()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int8", "int16", "int32", "float32"])
@pytest.mark.parametrize("channels", [1, 3])
def test_dtypes_and_channels(make_stack, tmp_path, expected_pyramid, dtype, channels):
    if channels == 3 and dtype != "uint8":
        return  # three layers, not one
    source, volume = make_stack((40, 50, 20), dtype, channels)
    convert(source, tmp_path / "ds").run()
    check(tmp_path / "ds", volume, expected_pyramid)


def test_segmentation_takes_the_mode_and_the_largest_id(make_stack, tmp_path, expected_pyramid):
    source, volume = make_stack((40, 50, 20), "uint32", labels=True)
    convert(source, tmp_path / "ds", into=Into("seg", "segmentation")).run()
    check(tmp_path / "ds", volume, expected_pyramid, "mode", "seg")
    assert wk.Dataset.open(tmp_path / "ds").get_layer("seg").largest_segment_id == volume.max()


def test_axes_of_an_asymmetric_picture(make_stack, tmp_path):
    source, volume = make_stack((12, 7, 3))
    convert(source, tmp_path / "ds").run()
    import tifffile

    image = tifffile.imread(source / "slice_2.tif")
    voxels = wk.Dataset.open(tmp_path / "ds").get_layer("color").get_mag(1).read()
    assert voxels.shape == (1, 12, 7, 3)
    np.testing.assert_array_equal(voxels[0, :, :, 2], image.T)


@pytest.mark.parametrize("tile_bytes", [1 << 14, 1 << 17, 1 << 20, 1 << 26])
@pytest.mark.parametrize("workers", [1, 5])
def test_tiles_do_not_change_voxels(make_stack, tmp_path, expected_pyramid, monkeypatch, tile_bytes, workers):
    from wkdask.operations import convert as module

    monkeypatch.setattr(module, "TILE_BYTES", tile_bytes)
    source, volume = make_stack((150, 90, 70))
    plan = convert(source, tmp_path / "ds", running=Running(workers=workers), sampling=Sampling(coarsest=wk.Mag(16)))
    plan.run()
    check(tmp_path / "ds", volume, expected_pyramid)


def test_batches_of_slices_do_not_change_voxels(make_stack, tmp_path, expected_pyramid):
    source, volume = make_stack((40, 50, 100))
    sampling = Sampling(coarsest=wk.Mag(8), mode=SamplingModes.ISOTROPIC)
    for batch_size in (48, 80, 256):
        running = Running(workers=1, batch_size=batch_size)
        convert(source, tmp_path / str(batch_size), running=running, sampling=sampling).run()
        check(tmp_path / str(batch_size), volume, expected_pyramid)


@pytest.mark.parametrize("strategy", ["threads", "processes", "sequential", "local"])
def test_strategies_are_voxel_identical(make_stack, tmp_path, expected_pyramid, strategy):
    source, volume = make_stack()
    pool = open_pool(strategy, 2)
    report = convert(source, tmp_path / "ds").run(pool=pool)
    assert report.failed == 0
    check(tmp_path / "ds", volume, expected_pyramid)


@pytest.mark.parametrize("target", ["memory://convert/ds", None])
def test_plan_is_a_dask_collection(make_stack, tmp_path, expected_pyramid, target):
    import dask

    source, volume = make_stack()
    target = target or tmp_path / "ds"
    plan = convert(source, target)
    assert dask.is_dask_collection(plan)
    report = plan.compute()
    assert (report.done, report.failed) == (plan.tasks, 0)
    check(target, volume, expected_pyramid)
    assert not (Location.of(target) / WORK_FOLDER / "run.json").is_file()


def test_plan_on_a_distributed_client(make_stack, tmp_path, expected_pyramid):
    from distributed import Client

    source, volume = make_stack()
    with Client(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as client:
        report = client.compute(convert(source, tmp_path / "a")).result()
        assert report.failed == 0
        started = convert(source, tmp_path / "b").persist()
        assert started.compute().failed == 0
    check(tmp_path / "a", volume, expected_pyramid)
    check(tmp_path / "b", volume, expected_pyramid)


def test_making_a_plan_writes_nothing(make_stack, tmp_path):
    source, _ = make_stack()
    before = sorted(tmp_path.rglob("*"))
    with observe(lambda *event: pytest.fail(f"{event} while planning")):
        plan = convert(source, tmp_path / "ds")
        text = str(plan)
        json.dumps(plan.describe())
    assert sorted(tmp_path.rglob("*")) == before
    assert all(word in text for word in ("tasks", "batches", "memory", "color/1"))


def test_plans_pickle_and_operations_are_small(make_stack, tmp_path):
    source, volume = make_stack()
    plan = convert(source, tmp_path / "ds")
    assert pickle.loads(pickle.dumps(plan)).fingerprint == plan.fingerprint
    for stage in plan.stages:
        assert len(pickle.dumps(stage.operation)) < 4096


def test_each_file_has_one_writing_task(make_stack, tmp_path):
    source, _ = make_stack((150, 90, 70))
    plan = convert(source, tmp_path / "ds")
    published = []
    with observe(lambda event, url: published.append(url) if event == "publish" else None):
        plan.run()
    units = [url for url in published if "/c/0/" in url or url.endswith(".part")]
    assert len(units) > 20
    assert len(units) == len(set(units))


def test_second_layer_joins_the_dataset(make_stack, tmp_path, expected_pyramid):
    source, volume = make_stack()
    labels, ids = make_stack((40, 50, 20), "uint32", labels=True)
    convert(source, tmp_path / "ds").run()
    convert(labels, tmp_path / "ds", into=Into("seg", "segmentation")).run()
    assert list(wk.Dataset.open(tmp_path / "ds").layers) == ["color", "seg"]
    check(tmp_path / "ds", volume, expected_pyramid)
    check(tmp_path / "ds", ids, expected_pyramid, "mode", "seg")


def test_existing_things_are_refused(make_stack, tmp_path):
    source, _ = make_stack((20, 20, 5))
    convert(source, tmp_path / "ds").run()
    with pytest.raises(LayerExistsError, match="--overwrite-existing"):
        convert(source, tmp_path / "ds").run()
    with pytest.raises(InputError, match="voxels of 4 x 4 x 35"):
        convert(source, tmp_path / "ds", into=Into("b"), voxel_size=VoxelSize((5, 5, 5))).run()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(DatasetExistsError, match=r"thesis\.txt"):
        convert(source, tmp_path / "other").run()
    assert (tmp_path / "other" / "thesis.txt").read_text() == "mine"
    with pytest.raises(DatasetExistsError, match="is a file"):
        convert(source, tmp_path / "other" / "thesis.txt").run()


def test_chunks_and_shards_must_fit(make_stack, tmp_path):
    source, _ = make_stack((20, 20, 5))
    with pytest.raises(InputError, match="power of two"):
        convert(source, tmp_path / "ds", storage=Storage((30, 32, 32)))
    with pytest.raises(InputError, match="multiple of the chunk"):
        convert(source, tmp_path / "ds", storage=Storage((32, 32, 32), (16, 64, 64)))
    assert not (tmp_path / "ds").exists()


def test_a_plan_that_does_not_fit_is_refused(make_stack, tmp_path):
    source, _ = make_stack((200, 200, 40))
    plan = convert(source, tmp_path / "ds", storage=Storage())
    with pytest.raises(PlanRefusedError, match="limit"):
        plan.run(memory_limit=1 << 20)
    assert not (tmp_path / "ds").exists()


def test_codec_levels_are_used(make_stack, tmp_path):
    source, _ = make_stack((64, 64, 32), "uint16", labels=True)
    sizes = {}
    for codec in (None, Codec("zstd", 1), Codec("zstd", 5), Codec("gzip", 6)):
        convert(source, tmp_path / str(codec), storage=Storage(codec=codec), sampling=Sampling(downsample=False)).run()
        view = wk.Dataset.open(tmp_path / str(codec)).get_layer("color").get_mag(1)
        assert view.spec.codec == codec
        sizes[codec] = view.bytes_on_disk()
    assert sizes[Codec("zstd", 5)] <= sizes[Codec("zstd", 1)] < sizes[None]


def test_zero_units_are_not_stored(make_stack, tmp_path):
    source, volume = make_stack((64, 64, 32))
    import tifffile

    for z in range(32):
        tifffile.imwrite(source / f"slice_{z}.tif", np.zeros((64, 64), np.uint8))
    convert(source, tmp_path / "ds").run()
    layer = wk.Dataset.open(tmp_path / "ds").get_layer("color")
    assert [list(mag.array.handle.written_units()) for mag in layer.mags.values()] == [[]] * len(layer.mags)
    assert not layer.get_mag(1).read().any()


def test_defaults_are_those_of_the_reference(make_stack, tmp_path):
    source, _ = make_stack((300, 300, 40))
    plan = plan_convert(find_images(source), tmp_path / "ds", SIZE)
    plan.run()
    layer = wk.Dataset.open(tmp_path / "ds").get_layer(source.name)
    assert [str(mag) for mag in layer.mags] == ["1", "2-2-1", "4-4-1"]
    assert layer.get_mag(1).spec.unit == (1, 4096, 4096, 32)
    assert layer.get_mag("4-4-1").spec.unit == (1, 1024, 1024, 1024)
    document = json.loads(Path(tmp_path / "ds" / "datasource-properties.json").read_bytes())
    assert set(document["dataLayers"][0]["defaultViewConfiguration"]) == {"min", "max"}
    receipts = json.loads((tmp_path / "ds" / WORK_FOLDER / "receipts" / source.name / "1.json").read_bytes())
    assert sorted(receipts["units"]) == ["c/0/0/0/0", "c/0/0/0/1"]


def test_large_chunks_have_large_default_shards(make_stack, tmp_path, expected_pyramid):
    source, volume = make_stack((70, 70, 70))
    convert(source, tmp_path / "ds", storage=Storage((64, 64, 64))).run()
    assert wk.Dataset.open(tmp_path / "ds").get_layer("color").get_mag(1).spec.unit == (1, 4096, 4096, 64)
    check(tmp_path / "ds", volume, expected_pyramid)


def test_memory_of_one_process_is_not_written_by_others(make_stack):
    source, _ = make_stack((20, 20, 5))
    with pytest.raises(PlanRefusedError, match="Use threads"):
        convert(source, "memory://elsewhere/ds").run(pool=open_pool("processes", 2))
