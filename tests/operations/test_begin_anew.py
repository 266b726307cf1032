"""What must not be mixed, lost or believed: runs that differ, images beside the target, journals that lie."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import tifffile

import wkdask as wk
from wkdask.errors import DatasetExistsError, LayerExistsError, PlanRefusedError
from wkdask.operations import Running
from wkdask.plan.execute import begin, execute

SIZE = (4, 4, 35)
RESTART = Running(restart=True)
VOXELS = np.random.default_rng(3).integers(0, 200, (6, 3, 40, 30), "uint8")  # z, c, y, x


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "em"
    folder.mkdir()
    for z, plane in enumerate(VOXELS[:, 0]):
        tifffile.imwrite(folder / f"s{z}.tif", plane)
    return folder


def begun(plan, batches=1, commits=0):
    """Leave a run as a kill would."""
    begin(plan)
    for batch in list(plan.batches())[:batches]:
        execute(plan, batch)
    for milestone in plan.milestones[:commits]:
        milestone.commit(None, None)


def convert(*options):
    command = [sys.executable, "-m", "wkdask", "convert", *map(str, options)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.returncode, done.stderr


def test_another_channel_does_not_go_on(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", np.concatenate([VOXELS, VOXELS[:, :1]], 1), metadata={"axes": "ZCYX"}, photometric="minisblack"
    )
    options = {"layer_name": "color", "chunk_shape": 8, "shard_shape": 16}
    plan = wk.Dataset.plan_from_images(tmp_path / "a.tif", tmp_path / "ds", SIZE, channel=0, **options)
    begun(plan)
    with pytest.raises(PlanRefusedError, match="channels was"):
        wk.Dataset.from_images(tmp_path / "a.tif", tmp_path / "ds", SIZE, channel=2, **options)
    dataset = wk.Dataset.from_images(tmp_path / "a.tif", tmp_path / "ds", SIZE, channel=0, **options)
    np.testing.assert_array_equal(dataset.get_layer("color").get_mag(1).read()[0], VOXELS[:, 0].transpose(2, 1, 0))


@pytest.mark.parametrize("data_format", ["zarr3", "wkw"])
def test_a_unit_that_becomes_zero_goes(tmp_path, data_format):
    layer = wk.Dataset(tmp_path / "ds", voxel_size=(4, 4, 4)).add_layer(
        "color", "color", data_format=data_format, bounding_box=wk.BoundingBox((0, 0, 0), (96, 32, 32))
    )
    mag = layer.add_mag(1, chunk_shape=8, shard_shape=32)
    mag.write(np.full((96, 32, 32), 7, "uint8"))
    layer.downsample(coarsest_mag=4, chunk_shape=8, shard_shape=32)
    mag.write(np.zeros((64, 32, 32), "uint8"), absolute_offset=(0, 0, 0))
    layer.redownsample()
    for coarse in (2, 4):
        found = layer.get_mag(coarse).read()[0]
        assert not found[: 64 // coarse].any()
        assert (found[64 // coarse :] == 7).all()


def test_restart_gives_up_what_was_made(tmp_path, images):
    options = {"layer_name": "em", "downsample": True, "chunk_shape": 8, "shard_shape": 32}
    begun(wk.Dataset.plan_from_images(images, tmp_path / "ds", SIZE, **options), commits=1)
    tifffile.imwrite(images / "s2.tif", 255 - VOXELS[2, 0])
    with pytest.raises(PlanRefusedError, match="restart=True"):
        wk.Dataset.from_images(images, tmp_path / "ds", SIZE, **options)
    dataset = wk.Dataset.from_images(images, tmp_path / "ds", SIZE, restart=True, **options)
    expected = VOXELS[:, 0].transpose(2, 1, 0).copy()
    expected[..., 2] = 255 - expected[..., 2]
    np.testing.assert_array_equal(dataset.get_layer("em").get_mag(1).read()[0], expected)
    assert not (tmp_path / "ds" / ".wkdask" / "jobs" / "em").exists()


MAKERS = {
    "copy": lambda ds, other: ds.plan_add_layer_as_copy(other, "em", running=RESTART),
    "store": lambda ds, other: other.lazy().plan_store(ds, "em", running=RESTART),
    "merge": lambda ds, other: ds.plan_merge_layers("em", other, other, running=RESTART),
    "convert": lambda ds, other: wk.Dataset.plan_from_images(f"{ds.path}-images", ds.path, SIZE, layer_name="em", restart=True),
}


@pytest.mark.parametrize("maker", MAKERS)
def test_restart_keeps_a_layer_that_the_unfinished_run_did_not_make(tmp_path, maker):
    dataset = wk.Dataset(tmp_path / "ds", SIZE)
    for name, value in {"em": 1, "other": 2}.items():
        layer = dataset.add_layer(name, "color", bounding_box=wk.BoundingBox((0, 0, 0), (40, 40, 4)))
        layer.add_mag(1, chunk_shape=8, shard_shape=16).write(np.full((40, 40, 4), value, "uint8"))
    begun(dataset.get_layer("em").plan_downsample(wk.operations.Coarser(wk.Mag(1), (wk.Mag(2),))))
    (tmp_path / "ds-images").mkdir()
    tifffile.imwrite(tmp_path / "ds-images" / "a.tif", VOXELS[0, 0])
    plan = MAKERS[maker](dataset, dataset.get_layer("other"))
    with pytest.raises(LayerExistsError):
        plan.run()
    assert (dataset.get_layer("em").get_mag(1).read() == 1).all()


def test_restart_keeps_folders_that_the_unfinished_run_did_not_make(tmp_path):
    dataset = wk.Dataset(tmp_path / "ds", SIZE)
    for name in ("em", "other"):
        layer = dataset.add_layer(name, "color", bounding_box=wk.BoundingBox((0, 0, 0), (40, 40, 4)))
        layer.add_mag(1, chunk_shape=8, shard_shape=16).write(np.ones((40, 40, 4), "uint8"))
    begun(dataset.get_layer("em").plan_downsample(wk.operations.Coarser(wk.Mag(1), (wk.Mag(2),))))
    (tmp_path / "ds" / "em" / "4").mkdir()
    (tmp_path / "ds" / "em" / "4" / "notes.txt").write_text("mine")
    plan = dataset.get_layer("em").plan_add_mag_as_copy(dataset.get_layer("other").get_mag(1), 4, running=RESTART)
    with pytest.raises(DatasetExistsError):
        plan.run()
    assert (tmp_path / "ds" / "em" / "4" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("source", ["", "*/raw/s*.tif", "ds"])
def test_images_in_the_target_are_never_deleted(tmp_path, images, source):
    wk.Dataset(tmp_path / "par" / "ds", voxel_size=SIZE)
    images.rename(tmp_path / "par" / "ds" / "raw")
    code, said = convert(tmp_path / "par" / source, tmp_path / "par" / "ds", "--overwrite-existing", "--voxel-size", "4,4,35")
    assert code == 2 and "would be deleted first" in said
    assert len(list((tmp_path / "par" / "ds" / "raw").iterdir())) == len(VOXELS)


def test_a_deleted_dataset_says_nothing_of_the_new_one(tmp_path, images):
    wk.Dataset(tmp_path / "ds", voxel_size=SIZE)
    code, said = convert(images, tmp_path / "ds", "--overwrite-existing")
    assert code == 2 and "voxel size was not given" in said
    assert wk.Dataset.open(tmp_path / "ds").voxel_size == SIZE


@pytest.mark.parametrize(
    "layout", [5, ["abc"], [[0, 0, 0, 0, 0]], [[1, 64, 64]], [[1, 64, 64, 32, 0]], [[1, 7, 7, 7, 1]], [[]]]
)
def test_layouts_that_lie(tmp_path, images, layout):
    options = {"layer_name": "em", "chunk_shape": 8, "shard_shape": 32}
    begun(wk.Dataset.plan_from_images(images, tmp_path / "ds", SIZE, **options))
    place = tmp_path / "ds" / ".wkdask" / "jobs" / "em" / "plan.json"
    place.write_text(json.dumps({**json.loads(place.read_bytes()), "layout": layout}))
    with pytest.raises(PlanRefusedError, match="other tiles"):
        wk.Dataset.from_images(images, tmp_path / "ds", SIZE, **options)
    dataset = wk.Dataset.from_images(images, tmp_path / "ds", SIZE, restart=True, **options)
    np.testing.assert_array_equal(dataset.get_layer("em").get_mag(1).read()[0], VOXELS[:, 0].transpose(2, 1, 0))


def test_more_tasks_than_can_be_laid_out(tmp_path):
    layer = wk.Dataset(tmp_path / "ds", voxel_size=SIZE).add_layer(
        "color", "color", bounding_box=wk.BoundingBox((0, 0, 0), (1 << 20, 1 << 20, 1 << 20))
    )
    layer.add_mag(1)
    with pytest.raises(PlanRefusedError, match="tasks, at most"):
        layer.downsample(coarsest_mag=2)
    assert [str(mag) for mag in layer.mags] == ["1"]
