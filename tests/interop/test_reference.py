"""What we write, the reference library opens, with equal voxels; and the reverse."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tifffile

import wkdask as wk
from wkdask.images import find_images
from wkdask.metadata import VoxelSize
from wkdask.operations import Into, Sampling, Storage, plan_convert

READ = """
import json, sys, zlib
import numpy as np, webknossos
dataset = webknossos.Dataset.open(sys.argv[1])
found = {"voxel_size": list(dataset.voxel_size), "layers": {}}
for name, layer in dataset.layers.items():
    mags = {}
    for mag, view in layer.mags.items():
        box = view.bounding_box
        voxels = view.read(absolute_bounding_box=box)
        mags[str(mag)] = {
            "box": [*box.topleft, *box.size], "shape": voxels.shape, "crc": zlib.crc32(np.ascontiguousarray(voxels.T)),
            "chunk": list(view.info.chunk_shape), "shard": list(view.info.shard_shape),
        }
    found["layers"][name] = {
        "category": layer.category, "dtype": str(np.dtype(layer.dtype)), "channels": layer.num_channels, "mags": mags,
        "largest": getattr(layer, "largest_segment_id", None),
    }
print(json.dumps(found))
"""

CONVERT = """
import sys, webknossos
from cluster_tools import get_executor
target, shape = sys.argv[1], (64, 64, 64)
for name, category, source in (argument.split("=") for argument in sys.argv[2:]):
    with get_executor("sequential") as here:
        options = {"layer_name": name, "chunk_shape": (32, 32, 32), "shard_shape": shape, "compress": True, "executor": here}
        made = webknossos.Dataset.from_images(source, f"{target}-{name}", (4, 4, 35), layer_category=category, **options)
        made.get_layer(name).downsample(shard_shape=shape, executor=here)
"""


def run(python: Path, code: str, *arguments: object) -> str:
    done = subprocess.run([python, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def seen_by_us(target: Path) -> dict:
    """The same facts, through our own reading."""
    import zlib

    dataset = wk.Dataset.open(target)
    layers = {}
    for name, layer in dataset.layers.items():
        mags = {}
        for mag, view in layer.mags.items():
            voxels = view.read()
            mags[str(mag)] = {
                "box": [*view.bounding_box.topleft, *view.bounding_box.size],
                "shape": list(voxels.shape),
                "crc": zlib.crc32(np.ascontiguousarray(voxels.T)),
                "chunk": list(view.spec.chunk[1:]),
                "shard": list(view.spec.unit[1:]),
            }
        layers[name] = {
            "category": layer.category,
            "dtype": str(layer.dtype),
            "channels": layer.num_channels,
            "mags": mags,
            "largest": layer.properties.largest_segment_id,
        }
    return {"voxel_size": list(dataset.voxel_size), "layers": layers}


def smooth(shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    """Voxels that are neither constant nor noise, in (z, y, x[, c])."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, min(np.iinfo(dtype).max, 5000), [n // 6 + 2 for n in shape[:3]] + list(shape[3:]))
    fine = coarse[np.ix_(*(np.arange(n) // 6 for n in shape[:3]))]
    return (fine + rng.integers(0, 9, fine.shape)).astype(dtype)


@pytest.fixture
def stacks(tmp_path: Path) -> dict[str, Path]:
    """One stack of each kind that both tools convert, of odd sizes."""
    shape = (37, 90, 131)
    kinds = {
        "gray8": smooth(shape, "uint8", 0),
        "gray16": smooth(shape, "uint16", 1),
        "rgb": smooth((*shape, 3), "uint8", 2),
        "labels": smooth(shape, "uint32", 3) // 16,
    }
    for name, volume in kinds.items():
        (tmp_path / name).mkdir()
        for z, plane in enumerate(volume):
            photometric = "rgb" if plane.ndim == 3 else "minisblack"
            tifffile.imwrite(tmp_path / name / f"{z}.tif", plane, photometric=photometric)
    return {name: tmp_path / name for name in kinds}


@pytest.mark.oracle("webknossos")
@pytest.mark.timeout(300)
def test_the_reference_reads_what_we_write(webknossos_python, stacks, tmp_path):
    target = tmp_path / "ours"
    for name, source in stacks.items():
        category = "segmentation" if name == "labels" else "color"
        sampling = Sampling(coarsest=wk.Mag(8))
        plan_convert(find_images(source), target, VoxelSize((4, 4, 35)), into=Into(name, category), sampling=sampling).run()
    theirs = json.loads(run(webknossos_python, READ, target))
    ours = seen_by_us(target)
    assert theirs == ours
    assert set(theirs["layers"]) == set(stacks)
    assert len(theirs["layers"]["labels"]["mags"]) == 4


@pytest.mark.oracle("webknossos")
@pytest.mark.timeout(300)
def test_both_make_the_same_datasets(webknossos_python, stacks, tmp_path):
    categories = {"gray8": "color", "labels": "segmentation"}
    script = tmp_path / "convert.py"
    script.write_text(CONVERT)
    given = [f"{name}={category}={stacks[name]}" for name, category in categories.items()]
    command = [webknossos_python, script, tmp_path / "theirs", *given]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for name, category in categories.items():
        target, reference = tmp_path / f"ours-{name}", tmp_path / f"theirs-{name}"
        storage = Storage(shard=(64, 64, 64))
        plan_convert(find_images(stacks[name]), target, VoxelSize((4, 4, 35)), into=Into(name, category), storage=storage).run()
        ours, theirs = seen_by_us(target), seen_by_us(reference)
        for found in (ours, theirs):
            found["layers"][name].pop("largest")
        assert ours == theirs
        documents = [json.loads((place / name / "1" / "zarr.json").read_bytes()) for place in (target, reference)]
        assert documents[0] == documents[1] | {"attributes": {}}
