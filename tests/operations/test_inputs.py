"""An input that changes while a plan runs: nothing that is made of it is listed, and the file is named."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

import wkdask as wk
from wkdask.errors import InputChangedError, PlanRefusedError
from wkdask.geometry import Mag
from wkdask.images import find_images
from wkdask.metadata import VoxelSize
from wkdask.operations import Coarser, Into, Running, Sampling, Storage, plan_convert, plan_downsample
from wkdask.operations.copying import plan_copy_dataset
from wkdask.operations.copying_shape import Wishes
from wkdask.operations.upsample import Finer, plan_upsample
from wkdask.storage import Location

SMALL = Storage((8, 8, 8), (16, 16, 16))
BOX = wk.BoundingBox((0, 0, 0), (32, 32, 32))


def dataset(folder, mag):
    layer = wk.Dataset(folder / "in", (4, 4, 4)).add_layer("color", "color", bounding_box=BOX)
    made = layer.add_mag(mag, chunk_shape=8, shard_shape=16)
    made.write(np.random.default_rng(0).integers(1, 99, [32 // mag] * 3).astype("uint8"))
    return Location(folder / "in"), next(p for p in sorted((folder / "in/color").rglob("*")) if "/c/" in str(p) and p.is_file())


def convert(folder):
    (folder / "in").mkdir()
    for z in range(20):
        tifffile.imwrite(folder / "in" / f"{z:02}.tif", np.full((20, 30), z, "uint8"))
    options = {"into": Into("color"), "storage": SMALL, "sampling": Sampling(coarsest=Mag(2)), "running": Running(1)}
    target = folder / "out"
    return lambda: plan_convert(find_images(str(folder / "in")), target, VoxelSize((4, 4, 4)), **options), folder / "in/03.tif"


def downsample(folder):
    place, unit = dataset(folder, 1)
    return lambda: plan_downsample(place, "color", Coarser(Mag(1), (Mag(2), Mag(4))), storage=SMALL, running=Running(1)), unit


def upsample(folder):
    place, unit = dataset(folder, 4)
    return lambda: plan_upsample(place, "color", Finer(Mag(4)), storage=SMALL, running=Running(1)), unit


def copy(folder):
    place, unit = dataset(folder, 1)
    return lambda: plan_copy_dataset(place, Location(folder / "out"), Wishes(), running=Running(1))[0], unit


def listed(folder):
    places = [path.parent for path in folder.glob("*/datasource-properties.json")]
    layers = [(place.name, layer) for place in places for layer in wk.Dataset.open(place).layers.values()]
    return {(name, layer.name, str(mag)) for name, layer in layers for mag in layer.mags}


def touch(path: Path) -> None:
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))


def put_other(path: Path) -> None:
    (path.parent / "new").write_bytes(path.read_bytes())
    os.replace(path.parent / "new", path)


@pytest.mark.parametrize("change", [touch, put_other])
@pytest.mark.parametrize("make", [convert, downsample, upsample, copy])
def test_nothing_is_listed_that_was_made_of_a_changed_input(tmp_path, make, change):
    planned, file = make(tmp_path)
    before, changed = listed(tmp_path), []

    def tell(plan, report, receipt):
        if receipt is not None and not changed:
            changed.append(change(file))

    with pytest.raises(InputChangedError, match=file.name):
        planned().run(progress=tell)
    assert changed and listed(tmp_path) == before
    with pytest.raises(PlanRefusedError, match=r"input files changed|was stopped, and is not this one"):
        planned().run()
    assert listed(tmp_path) == before
