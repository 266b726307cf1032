"""Other programs' readers of OME-NGFF open our layers: axes, scales, centres, colours and voxels are right."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tifffile

import wkdask as wk
from wkdask.arrays.opening import open_mag_arrays
from wkdask.storage import Location

pytestmark = [pytest.mark.oracle("ome"), pytest.mark.slow]

SHAPE = (9, 40, 70)
"""z, y, x."""
VOXEL = {"z": 35.0, "y": 4.0, "x": 5.0}
CASES = {
    f"{data_format}-{order}-{kind}": (data_format, order, kind)
    for data_format in ("zarr3",)
    for order in ("czyx", "cxyz")
    for kind in ("grey", "rgb", "film")
}


def source(folder: Path, kind: str) -> np.ndarray:
    """Write images and return their voxels as (t, c, z, y, x)."""
    rng = np.random.default_rng(len(kind))
    times, channels = (3, 1) if kind == "film" else (1, 3 if kind == "rgb" else 1)
    voxels = rng.integers(1, 200, (times, channels, *SHAPE), "uint8")
    folder.mkdir(parents=True)
    if kind == "film":
        tifffile.imwrite(folder / "film.ome.tif", voxels[:, 0], metadata={"axes": "TZYX"}, ome=True)
    else:
        for z in range(SHAPE[0]):
            plane = voxels[0, :, z].transpose(1, 2, 0)
            tifffile.imwrite(folder / f"{z:02}.tif", plane if channels == 3 else plane[..., 0])
    return voxels


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, ome_python: Path) -> dict[str, tuple[Path, np.ndarray, dict]]:
    folder = tmp_path_factory.mktemp("ome")
    made = {}
    for name, (data_format, order, kind) in CASES.items():
        voxels = source(folder / name / "in", kind)
        wk.Dataset.from_images(
            folder / name / "in",
            folder / name / "ds",
            tuple(VOXEL[axis] for axis in "xyz"),
            layer_name="em",
            data_format=data_format,
            axis_order=order,
            chunk_shape=16,
            downsample=True,
            coarsest_mag=4,
            shard_shape=32 if data_format == "zarr3" else None,
        )
        made[str(folder / name / "ds" / "em")] = (name, voxels)
    script = Path(__file__).with_name("ome_oracle.py")
    done = subprocess.run([ome_python, script, *made], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(done.stderr[-3000:])
    found = json.loads(done.stdout.splitlines()[-1])
    return {name: (Path(path), voxels, found[path]) for path, (name, voxels) in made.items()}


@pytest.mark.parametrize("name", CASES)
def test_other_readers_see_what_we_wrote(seen, name):
    path, voxels, readers = seen[name]
    data_format, order, kind = CASES[name]
    axes = [*("t" if kind == "film" else ""), *order]
    mags = wk.Dataset.open(path.parent).get_layer("em").mags
    scales = [
        [VOXEL[a] * dict(zip("xyz", mag.to_tuple(), strict=True))[a] if a in VOXEL else 1.0 for a in axes] for mag in mags
    ]
    for reader, found in readers.items():
        assert found["axes"] == axes, reader
        assert found["scales"] == scales, reader
    models = readers["ome-zarr-models"]
    assert models["version"] == {"zarr3": "v05", "zarr": "v04"}[data_format]
    assert models["units"] == ["nanometer" if a in VOXEL else None for a in axes]
    for reader in ("ngff-zarr", "ome-zarr-py"):
        assert readers[reader]["voxels"] == [digest_of(path, mag, axes) for mag in mags], reader


def digest_of(path: Path, mag: wk.Mag, axes: list[str]) -> str:
    """Return the digest of a whole stored array, from our own reader."""
    handle = open_mag_arrays(Location.of(path.parent))["em"][str(mag)].handle
    assert list(handle.spec.axes) == axes
    return hashlib.sha256(np.ascontiguousarray(handle.read(handle.spec.grid.box)).tobytes()).hexdigest()[:16]


@pytest.mark.parametrize("name", [name for name in CASES if "czyx" in name])
def test_conventional_layers_are_whole(seen, name):
    path, voxels, readers = seen[name]
    kind = CASES[name][2]
    expected = voxels if kind == "film" else voxels[0]
    finest = hashlib.sha256(np.ascontiguousarray(expected).tobytes()).hexdigest()[:16]
    for reader in ("ngff-zarr", "ome-zarr-py"):
        assert readers[reader]["shapes"][0] == list(expected.shape)
        assert readers[reader]["voxels"][0] == finest
    models = readers["ome-zarr-models"]
    coarser = [mag.to_tuple() for mag in wk.Dataset.open(path.parent).get_layer("em").mags][1:]
    axes = models["axes"]
    centres = [[VOXEL[a] * (m["xyz".index(a)] - 1) / 2 if a in VOXEL else 0.0 for a in axes] for m in coarser]
    assert models["translations"] == centres
    colors = ["FF0000", "00FF00", "0000FF"] if kind == "rgb" else ["FFFFFF"]
    assert [channel[1:] for channel in models["channels"]] == [[c, 1, 199] for c in colors]


def test_an_order_that_the_specification_does_not_know_is_not_described(tmp_path):
    source(tmp_path / "in", "film")
    wk.Dataset.from_images(tmp_path / "in", tmp_path / "ds", (4, 4, 35), layer_name="em", axis_order="zcyx")
    assert "attributes" not in json.loads((tmp_path / "ds/em/zarr.json").read_bytes())
