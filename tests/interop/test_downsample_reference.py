"""The same magnifications with the same voxels as the reference library makes, of its datasets; and it reads ours.

Kernels that interpolate are left out: the reference's depend on the buffers in which it happens to read.
"""

from __future__ import annotations

import json
import random
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest

import wkdask as wk
from wkdask.operations import Coarser, Sampling

MAKE = """
import json, shutil, sys
import numpy as np
from cluster_tools import get_executor
from webknossos import BoundingBox, Dataset, Mag

if __name__ == "__main__":
    for case in json.loads(open(sys.argv[1]).read()):
        voxels = np.load(case["voxels"])
        dataset = Dataset(case["ours"], voxel_size=case["voxel_size"])
        largest = {"largest_segment_id": int(voxels.max())} if case["category"] == "segmentation" else {}
        layer = dataset.add_layer(
            "em", case["category"], dtype_per_channel=str(voxels.dtype), num_channels=voxels.shape[0],
            data_format=case["format"], bounding_box=BoundingBox(case["topleft"], voxels.shape[1:]), **largest,
        )
        mag = layer.add_mag(1, chunk_shape=8, shard_shape=32, compress=case["compress"])
        mag.write(voxels, absolute_offset=case["topleft"], allow_unaligned=True)
        shutil.copytree(case["ours"], case["theirs"])
        layer = Dataset.open(case["theirs"]).get_layer("em")
        with get_executor("sequential") as here:
            options = {"interpolation_mode": case["interpolation"], "compress": case["compress"], "executor": here}
            options |= {"chunk_shape": 16, "shard_shape": 32}
            if case["mags"]:
                layer.downsample_mag_list(Mag(1), [Mag(mag) for mag in case["mags"]], **options)
            else:
                layer.downsample(coarsest_mag=Mag(case["coarsest"]), sampling_mode=case["sampling"], **options)
"""

READ = """
import json, sys, zlib
import numpy as np, webknossos

found = []
for case in json.loads(open(sys.argv[1]).read()):
    layer = webknossos.Dataset.open(case["ours"]).get_layer("em")
    mags = {}
    for mag, view in layer.mags.items():
        voxels = view.read(absolute_bounding_box=view.bounding_box)
        shapes = [list(view.info.chunk_shape), list(view.info.shard_shape)]
        mags[str(mag)] = [list(voxels.shape), zlib.crc32(np.ascontiguousarray(voxels.T)), *shapes]
    found.append(mags)
print(json.dumps(found))
"""

SIZES = [(4, 4, 35), (11.24, 11.24, 28), (1, 1, 1), (10, 10, 25), (30, 7, 7), (9, 8, 3)]
CHAINS = [["2", "4"], ["4-4-1", "8-8-4"], ["1-1-2", "2-2-4"], ["4"]]


def cases(folder: Path, seed: int, count: int) -> list[dict]:
    """Random layers and ways to downsample them; all formats, categories and kernels occur."""
    rng, made = random.Random(seed), []
    for i in range(count):
        category = ("color", "segmentation")[i % 2]
        dtype = rng.choice(["uint8", "uint16", "float32"] if category == "color" else ["uint8", "uint32", "uint64"])
        channels = 3 if category == "color" and dtype == "uint8" and i % 4 == 0 else 1
        size = tuple(rng.randint(5, 50) for _ in range(3))
        values = np.random.default_rng(seed + i).integers(0, (6, 250)[i % 3 == 0], (channels, *size)).astype(dtype)
        np.save(folder / f"{i}.npy", values)
        made.append(
            {
                "ours": str(folder / f"ours-{i}"),
                "theirs": str(folder / f"theirs-{i}"),
                "voxels": str(folder / f"{i}.npy"),
                "category": category,
                "format": ("zarr3", "wkw")[i // 2 % 2],
                "compress": i % 5 != 4,
                "topleft": [rng.randint(0, 20) for _ in range(3)],
                "voxel_size": rng.choice(SIZES),
                "sampling": ("anisotropic", "isotropic", "constant_z")[i % 3],
                "interpolation": ("default", "median", "mode", "default", "max", "min")[i % 6],
                "coarsest": rng.choice([4, 8]),
                "mags": rng.choice(CHAINS) if i % 4 == 3 else [],
            }
        )
    return made


def downsample(case: dict) -> None:
    layer = wk.Dataset.open(case["ours"]).get_layer("em")
    options = {"compress": case["compress"], "chunk_shape": 16, "shard_shape": 32}
    if case["mags"]:
        coarser = Coarser(wk.Mag(1), tuple(map(wk.Mag, case["mags"])))
        layer.plan_downsample(coarser, Sampling(interpolation=case["interpolation"]), **options).run()
    else:
        options |= {"interpolation_mode": case["interpolation"], "sampling_mode": case["sampling"]}
        layer.downsample(coarsest_mag=case["coarsest"], **options)


def run(python: Path, code: str, *arguments: object) -> str:
    """Run code in the reference's environment, from a file, as its processes import it."""
    script = Path(str(arguments[0])).with_suffix(f".{zlib.crc32(code.encode())}.py")
    script.write_text(code)
    done = subprocess.run([python, script, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def mags(folder: str) -> dict[str, wk.MagView]:
    return {str(mag): view for mag, view in wk.Dataset.open(folder).get_layer("em").mags.items()}


@pytest.mark.oracle("webknossos")
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore:Mag .* can not be reached")
def test_both_make_the_same_pyramid(webknossos_python, tmp_path):
    todo = cases(tmp_path, seed=1, count=8)
    (tmp_path / "cases.json").write_text(json.dumps(todo))
    run(webknossos_python, MAKE, tmp_path / "cases.json")
    for case in todo:
        downsample(case)
    seen = json.loads(run(webknossos_python, READ, tmp_path / "cases.json"))
    for case, theirs in zip(todo, seen, strict=True):
        ours, reference = mags(case["ours"]), mags(case["theirs"])
        assert list(ours) == list(reference), case
        for mag, view in reference.items():
            np.testing.assert_array_equal(
                ours[mag].array.read(ours[mag].array.box), view.array.read(view.array.box), err_msg=f"{mag} {case}"
            )
        for mag, view in ours.items():
            voxels = view.read()
            facts = [
                list(voxels.shape),
                zlib.crc32(np.ascontiguousarray(voxels.T)),
                *(list(s[1:]) for s in (view.spec.chunk, view.spec.unit)),
            ]
            assert theirs[mag] == facts, (mag, case)
        assert list(theirs) == list(ours)
