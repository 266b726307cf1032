"""What tasks of plans that make layers of layers allocate is what the plans say."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import wkdask as wk
from wkdask.operations import Running, Sampling
from wkdask.operations.tiles import WriteTiles
from wkdask.operations.upsample import Finer
from wkdask.plan import ThreadPool

EDGE = 192
FLAT = Sampling(downsample=False)


@pytest.fixture
def dataset(tmp_path):
    """Two layers of 7 MB, and a coarse one."""
    made = wk.Dataset(tmp_path / "ds", (4, 4, 4))
    box = wk.BoundingBox((0, 0, 0), (EDGE,) * 3)
    for seed, name in enumerate(["a", "b"]):
        voxels = np.random.default_rng(seed).integers(0, 3, (EDGE,) * 3).astype("uint8")
        made.add_layer(name, "segmentation", bounding_box=box).add_mag(1).write(voxels)
    made.add_layer("coarse", "segmentation", dtype="uint32", bounding_box=box).add_mag(2).write(
        np.ones((EDGE // 2,) * 3, "uint32")
    )
    return made


PLANS = {
    "upsample": lambda ds: ds.get_layer("coarse").plan_upsample(Finer(wk.Mag(2)), running=Running(1)),
    "store": lambda ds: (
        ds.get_layer("a")
        .lazy()
        .flip("x")
        .swap("y", "z")
        .cast("uint32")
        .plan_store(ds, "new", sampling=FLAT, running=Running(1))
    ),
    "merge": lambda ds: ds.plan_merge_layers(
        "new", ds.get_layer("a"), ds.get_layer("b"), ds.get_layer("a"), sampling=FLAT, running=Running(1)
    ),
}


@pytest.mark.parametrize("kind", sorted(PLANS))
def test_a_task_takes_what_its_plan_says(dataset, kind):
    plan = PLANS[kind](dataset)
    writes = [stage.operation for stage in plan.stages if isinstance(stage.operation, WriteTiles)]
    needed, tile = max(write.bytes_needed for write in writes), max(write.scratch_needed for write in writes)
    tracemalloc.start()
    try:
        assert plan.run(pool=ThreadPool(1)).failed == 0
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert tile < peak <= needed
