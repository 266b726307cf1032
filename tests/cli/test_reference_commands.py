"""The commands of the reference, with all of their flags, make of real voxels what the reference's own commands make.

All commands run twice, ours in this process, the reference's in one process of its own; the reference reads what both made.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

import wkdask as wk

RUN_AND_READ = """
import contextlib, importlib.metadata, json, sys, warnings, zlib
import numpy as np, webknossos
warnings.simplefilter("ignore")

def layer(it):
    box = it.bounding_box
    mags = {str(m): [zlib.crc32(np.ascontiguousarray(v.read(absolute_bounding_box=v.bounding_box).T)),
                     v.info.compression_mode] for m, v in it.mags.items()}
    info = it.get_finest_mag().info  # the reference stores coarser ones in its usual chunks, whatever was asked for
    shapes = [list(info.chunk_shape), list(info.shard_shape)]
    return {"category": it.category, "dtype": str(np.dtype(it.dtype)), "box": [*box.topleft, *box.size],
            "format": str(it.data_format.value), "mags": mags, "shapes": shapes}

def dataset(place):
    it = webknossos.Dataset.open(place)
    size = [*it.voxel_size_with_unit.factor, it.voxel_size_with_unit.unit.value]
    return {"name": it.name, "voxel_size": size, "layers": {n: layer(l) for n, l in it.layers.items()}}

if __name__ == "__main__":
    [entry] = importlib.metadata.entry_points(group="console_scripts", name="webknossos")
    app, told = entry.load(), {"codes": {}}
    commands, places = json.load(open(sys.argv[1]))
    with contextlib.redirect_stdout(sys.stderr):
        for name, words in commands.items():
            try:
                told["codes"][name] = app(words, standalone_mode=False) or 0
            except (Exception, SystemExit) as error:
                told["codes"][name] = repr(error)
        told["datasets"] = {}
        for place in places:
            try:
                told["datasets"][place] = dataset(place)
            except Exception as error:
                told["datasets"][place] = repr(error)
    print(json.dumps(told))
"""

RUN = "--distribution-strategy sequential"
NEW = "--voxel-size 11.24,11.24,25 --unit nanometer --chunk-shape 16 --overwrite-existing"
PYRAMID = "--downsample --max-mag 2 --interpolation-mode default --sampling-mode isotropic --compress"
SHARDS = "--data-format wkw --shard-shape 64"
SERVER = "--token none --transfer-mode http"
UPLOAD = f"--no-upload --webknossos-url http://nowhere {SERVER} --folder mine"
# The reference mirrors each shard of convert-zarr by itself, and its kernel nearest depends on what it happens to read at once:
# so that shard holds all, and kernels are those that look at a voxel's own block alone.
COMMANDS = {
    "convert": f"convert {{images}} {{convert}} --layer-name em --category color --name b {NEW} {SHARDS} {PYRAMID} {UPLOAD}",
    "batches": f"convert {{images}} {{batches}} --layer-name em {NEW} --data-format zarr3 --chunks-per-shard 4 --no-compress "
    "--no-downsample --batch-size 64",
    "raw": f"convert-raw {{raw}} {{raw-made}} --shape 97,83,11 --dtype uint8 --order F --layer-name em {NEW} {SHARDS} "
    f"{PYRAMID}",
    "flipped": f"convert-raw {{c-order}} {{flipped}} --shape 97,83,11 --source-dtype uint8 --order C --flip-axes 1,2,3 {NEW} "
    f"{SHARDS} {PYRAMID}",
    "rescaled": f"convert-raw {{wide}} {{rescaled}} --shape 97,83,11 --dtype uint8 --source-dtype uint16 "
    f"--rescale-min-max 0,999 {NEW} {SHARDS} --no-downsample",
    "zarr": f"convert-zarr {{array}} {{zarr}} --layer-name em {NEW} {SHARDS} {PYRAMID}",
    "labels": f"convert-zarr {{array}} {{labels}} --is-segmentation-layer --flip-axes 1,2,3 {NEW} --data-format zarr3 "
    "--chunks-per-shard 8 --no-compress --no-downsample",
    "copy": "copy-dataset {plain} {copy} --data-format zarr3 --chunk-shape 8 --shard-shape 32 --no-exists-ok",
    "compress": "compress {plain-1} --layer-name em --mag 1 --mag 2-2-1",
    "downsample": f"downsample {{plain-2}} --layer-name em --sampling-mode isotropic --coarsest-mag 2 {SERVER} "
    "--access-mode proxy_path",
    "upsample": f"upsample {{coarse}} --layer-name em --from-mag 2 --sampling-mode isotropic {SERVER}",
    "equal": "check-equality {plain} {plain} --layer-name em",
    "unequal": "check-equality {plain} {coarse}",
}
MADE = ["convert", "batches", "raw-made", "flipped", "zarr", "labels", "copy", "plain-1", "plain-2", "coarse"]


@pytest.fixture(scope="module")
def both(fixtures_folder, webknossos_python, tmp_path_factory):
    """Run every command of both; return what each ended with, and the folders of both."""
    home = tmp_path_factory.mktemp("commands")
    inputs = made_inputs(fixtures_folder, home)
    words = {}
    for side in ("ours", "theirs"):
        shutil.copytree(home / "prepared", home / side)
        names = {name: home / side / name for name in (*MADE, "rescaled", "plain")} | inputs
        words[side] = {name: f"{line} {RUN}".format_map(names).split() for name, line in COMMANDS.items()}
    codes = {name: ours(line) for name, line in words["ours"].items()}
    places = [str(home / side / name) for side in ("ours", "theirs") for name in (*MADE, "rescaled")]
    (home / "job.json").write_text(json.dumps([words["theirs"], places]))
    (home / "job.py").write_text(RUN_AND_READ)
    command = [webknossos_python, home / "job.py", home / "job.json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return home, codes, json.loads(done.stdout.splitlines()[-1])


def made_inputs(fixtures: Path, home: Path) -> dict[str, Path]:
    """Make images, raw files, an array and datasets of a real micrograph, whose planes lie a little aside of each other."""
    plane = tifffile.imread(fixtures / "tiff" / "test.0000.tiff")
    volume = np.stack([plane[z : 83 + z, 2 * z : 97 + 2 * z].T for z in range(11)], axis=-1)
    (home / "images").mkdir()
    for z in range(11):
        tifffile.imwrite(home / "images" / f"{z:02}.tif", volume[..., z].T)
    (home / "f.raw").write_bytes(volume.tobytes("F"))
    (home / "c.raw").write_bytes(volume.tobytes("C"))
    (home / "wide.raw").write_bytes((volume.astype("uint16") * 3).tobytes("F"))
    zarr.create_array(str(home / "array.zarr"), shape=volume.shape, chunks=(20, 30, 8), dtype="uint8", zarr_format=2)[:] = (
        volume
    )
    for name, mag in (("plain", 1), ("plain-1", 1), ("plain-2", 1), ("coarse", 2)):
        dataset = wk.Dataset(home / "prepared" / name, voxel_size=(11.24, 11.24, 25))
        size = wk.Vec3Int(volume.shape) * mag
        form, shapes = ("wkw", {"chunk_shape": 32, "shard_shape": 64}) if mag == 1 else ("zarr", {"chunk_shape": 32})
        layer = dataset.add_layer("em", "color", bounding_box=wk.BoundingBox((0, 0, 0), size), data_format=form)
        view = layer.add_mag(mag, **shapes, compress=False)
        view.write(volume)
        if name == "plain-1":
            layer.downsample_mag_list(1, ["2-2-1"], compress=False)
    keys = {"images": "images", "raw": "f.raw", "c-order": "c.raw", "wide": "wide.raw", "array": "array.zarr"}
    return {key: home / name for key, name in keys.items()}


def ours(words: list[str]) -> int:
    from wkdask.cli.app import run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["wkdask", *words, "--quiet"])
        return run()


def test_all_commands_take_the_flags_and_end_alike(both):
    _, codes, told = both
    assert {name: code for name, code in codes.items() if code} == {"unequal": 1}
    assert {name: code for name, code in told["codes"].items() if code} == {"unequal": told["codes"]["unequal"]}


@pytest.mark.parametrize("name", MADE)
def test_both_make_the_same(both, name):
    home, _, told = both
    mine, theirs = (told["datasets"][str(home / side / name)] for side in ("ours", "theirs"))
    assert mine["layers"]
    assert mine == theirs


def test_rescaled_values_are_the_nearest(both):
    home, _, _ = both
    mine, theirs = (
        wk.Dataset.open(home / side / "rescaled").get_layer("color").get_mag(1).read()[0] for side in ("ours", "theirs")
    )
    wide = np.fromfile(home / "wide.raw", "uint16").reshape(mine.shape, order="F")
    np.testing.assert_array_equal(mine, np.rint(wide * (255 / 999)))
    assert np.abs(mine.astype(int) - theirs).max() == 1  # the reference cuts off what is behind the point
