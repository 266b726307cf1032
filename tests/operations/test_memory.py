"""What commands take of memory, against what they predicted, and the limit that they were given."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

from wkdask import Dataset
from wkdask.plan.memory import PROCESS_BYTES

DRIVER = Path(__file__).with_name("memory_driver.py")
SHAPES = {"cube": ((320, 320, 320), "uint8"), "plate": ((3072, 2048, 8), "uint8"), "column": ((128, 192, 640), "uint16")}
LIMIT = 256 << 20


def took(*args):
    """Run a command with two tasks at once within the limit; return its report."""
    limited = "--memory-limit", str(LIMIT), "--jobs", "2"
    done = subprocess.run([sys.executable, DRIVER, *map(str, args), *limited], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module", params=SHAPES)
def dataset(request, tmp_path_factory):
    """A volume of noise, which does not become smaller, and a dataset of it without coarser magnifications."""
    shape, dtype = SHAPES[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    array = zarr.create_array(
        folder / "volume.zarr", shape=shape, chunks=(128, 128, 8), dtype=dtype, dimension_names=("x", "y", "z")
    )
    tile = np.random.default_rng(0).integers(0, 200, (256, 256, 64), np.uint8).astype(dtype)
    array[...] = np.tile(tile, [-(-n // m) for n, m in zip(shape, tile.shape, strict=True)])[tuple(map(slice, shape))]
    Dataset.from_images(folder / "volume.zarr", folder / "ds", (4, 4, 4), layer_name="em", downsample=False)
    return folder


RUNS = 5
"""Of which one must have two tasks at their largest at once, as was predicted: they take milliseconds."""


@pytest.mark.parametrize("verb", ["convert", "downsample", "copy-dataset"])
def test_memory_is_as_predicted(dataset, tmp_path, verb):
    """With libraries loaded, tasks take no more than was predicted of them, and the prediction is no mere guess."""
    times = list[float]()
    while min(times, default=math.inf) > 3 and len(times) < RUNS:
        folder = tmp_path / str(len(times))
        if verb == "downsample":
            shutil.copytree(dataset / "ds", folder)
        report = took(
            *{
                "convert": ("convert", dataset / "volume.zarr", folder, "--voxel-size", "4,4,4"),
                "downsample": ("downsample", folder),
                "copy-dataset": ("copy-dataset", dataset / "ds", folder, "--data-format", "wkw"),
            }[verb]
        )
        seen, began, predicted = (report[name] for name in ("seen", "began", "predicted_bytes"))
        assert seen <= predicted <= LIMIT
        times.append((predicted - PROCESS_BYTES) / (seen - began))
    assert min(times) <= 3
