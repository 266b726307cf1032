"""Compare pyramids with those of other programs: 1024 x 1024 x 256 voxels of uint8, halved along all axes five times.

Each program reads uncompressed voxels in a form of its own, and writes its coarser magnifications in a format of its own,
with its own default codec: the figures say what it takes to get a pyramid, not how good a codec is. tinybrain alone does not
read or write: it holds the volume and the pyramid in memory. Wall and processor seconds and peak memory are those of the
whole process, imports included.

    python benchmarks/pyramid_peers.py --setup
    python benchmarks/pyramid_peers.py --only wkdask,tensorstore --methods mean
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from data import Size, default_work, em_slice, parse_size
from measuring import machine, median, print_rows, run, wkdask

import wkdask as wk

PACKAGES = {"igneous": ["igneous-pipeline", "tinybrain"], "peers": ["ngff-zarr[dask]", "zarr"]}
LEVELS = 5

TENSORSTORE = """
import sys, tensorstore as ts
source, target, method, levels = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": source}}
for level in range(1, levels + 1):
    how = {"driver": "downsample", "downsample_factors": [1, 2, 2, 2], "downsample_method": method}
    finer = ts.open({**how, "base": spec}).result()
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{target}/{level}"}}
    codecs = [{"name": "zstd", "configuration": {"level": 1}}]
    chunks = {"name": "regular", "configuration": {"chunk_shape": [1, 128, 128, 128]}}
    metadata = {"shape": finer.shape, "data_type": "uint8", "chunk_grid": chunks, "codecs": [{"name": "bytes"}, *codecs]}
    ts.open({**spec, "metadata": metadata}, create=True).result().write(finer).result()
"""

NGFF_ZARR = """
import sys, numpy as np, ngff_zarr as nz
source, target, method, levels = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
image = nz.to_ngff_image(np.load(source, mmap_mode="r"), dims=["z", "y", "x"])
pyramid = nz.to_multiscales(image, scale_factors=[2 ** n for n in range(1, levels + 1)], method=nz.Methods[method], chunks=128)
nz.to_ngff_zarr(target, pyramid)
"""

TINYBRAIN = """
import sys, numpy as np, tinybrain
source, method, levels = sys.argv[1], sys.argv[3], int(sys.argv[4])
getattr(tinybrain, method)(np.asfortranarray(np.load(source).T), (2, 2, 2), num_mips=levels)
"""

MAKE_PRECOMPUTED = """
import sys, numpy as np
from cloudvolume import CloudVolume
voxels = np.load(sys.argv[1], mmap_mode="r").T
info = CloudVolume.create_new_info(1, "image", "uint8", "raw", (4, 4, 4), (0, 0, 0), voxels.shape, chunk_size=(128, 128, 128))
volume = CloudVolume("file://" + sys.argv[2], info=info, progress=False, compress=False)
volume.commit_info()
volume[:] = voxels[..., None]
"""


class Inputs:
    """The same voxels in the forms that the programs read, made when first asked for."""

    def __init__(self, work: Path, size: Size, oracles: Path) -> None:
        self.folder, self.size, self.oracles = work / f"peers-{'-'.join(map(str, size))}", size, oracles
        self.folder.mkdir(parents=True, exist_ok=True)

    def python(self, name: str) -> Path:
        """Return the Python of an environment, or say how to make it."""
        found = self.oracles / name / "bin/python"
        if not found.exists():
            raise FileNotFoundError(f"{found} is not there: run with --setup")
        return found

    def _made(self, name: str, make: Callable[[Path], object]) -> Path:
        place = self.folder / name
        if not place.exists():
            part = self.folder / f"new-{name}"
            shutil.rmtree(part, ignore_errors=True)
            make(part)
            part.rename(place)
        return place

    def npy(self) -> Path:
        """Return a NumPy file with axes z, y, x."""
        x, y, z = self.size
        return self._made("voxels.npy", lambda place: _save(place, np.stack([em_slice(n, (x, y)) for n in range(z)])))

    def dataset(self) -> Path:
        """Return a dataset with mag 1 alone, in raw chunks of 32³ and shards of 512³."""
        return self._made("dataset", lambda place: _add_dataset(place, np.load(self.npy(), mmap_mode="r")))

    def precomputed(self) -> Path:
        """Return a precomputed volume, by cloud-volume."""
        command = [self.python("igneous"), "-c", MAKE_PRECOMPUTED, self.npy()]
        return self._made("precomputed", lambda place: run([*command, place]))


def _save(place: Path, voxels: np.ndarray) -> None:
    with place.open("wb") as file:
        np.save(file, voxels)


def _add_dataset(place: Path, voxels: np.ndarray) -> None:
    layer = wk.Dataset(place, (4, 4, 4)).add_layer("em", "color", dtype="uint8", data_format="zarr3")
    mag = layer.add_mag(1, chunk_shape=32, shard_shape=512, compress=False)
    mag.write(voxels.T, absolute_offset=(0, 0, 0), allow_resize=True)


def _wkdask(inputs: Inputs, target: Path, method: str) -> list[object]:
    shutil.copytree(inputs.dataset(), target)
    return wkdask(
        "downsample", target, "--interpolation-mode", method, "--sampling-mode", "isotropic", "--coarsest-mag", 2**LEVELS
    )


def _tensorstore(inputs: Inputs, target: Path, method: str) -> list[object]:
    return [sys.executable, "-c", TENSORSTORE, inputs.dataset() / "em/1", target, method, LEVELS]


def _igneous(inputs: Inputs, target: Path, method: str) -> list[object]:
    shutil.copytree(inputs.precomputed(), target)
    program = inputs.python("igneous").with_name("igneous")
    how = ["--volumetric", "--num-mips", LEVELS, "--method", method]
    return [program, "-p", os.cpu_count() or 1, "image", "downsample", f"file://{target}", *how]


def _tinybrain(inputs: Inputs, target: Path, method: str) -> list[object]:
    return [inputs.python("igneous"), "-c", TINYBRAIN, inputs.npy(), target, method, LEVELS]


def _ngff_zarr(inputs: Inputs, target: Path, method: str) -> list[object]:
    return [inputs.python("peers"), "-c", NGFF_ZARR, inputs.npy(), target, method, LEVELS]


Command = Callable[[Inputs, Path, str], list[object]]

PROGRAMS: dict[str, tuple[Command, dict[str, str]]] = {
    "wkdask": (_wkdask, {"mean": "bilinear", "mode": "mode", "max": "max"}),
    "tensorstore": (_tensorstore, {"mean": "mean", "mode": "mode", "max": "max"}),
    "igneous": (_igneous, {"mean": "avg", "mode": "mode", "max": "max"}),
    "tinybrain": (
        _tinybrain,
        {"mean": "downsample_with_averaging", "mode": "downsample_segmentation", "max": "downsample_with_max_pooling"},
    ),
    "ngff-zarr": (_ngff_zarr, {"mean": "ITKWASM_BIN_SHRINK", "mode": "ITKWASM_LABEL_IMAGE"}),
}
"""What each program is called by, and its own name of each method that it has."""


def set_up(oracles: Path) -> None:
    """Make the environments of the other programs."""
    for name, packages in PACKAGES.items():
        python = oracles / name / "bin/python"
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", oracles / name], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)


def measure(inputs: Inputs, program: str, method: str, runs: int) -> list[object]:
    """Return a row of the table; a program that fails says so, others go on."""
    command, names = PROGRAMS[program]
    if method not in names:
        return [program, method, "-", "-", "-"]
    found = []
    try:
        for _ in range(runs):
            with tempfile.TemporaryDirectory(dir=inputs.folder) as folder:
                found.append(run(command(inputs, Path(folder) / "out", names[method])))
    except (FileNotFoundError, RuntimeError) as error:
        print(f"{program}, {method}: {error}", file=sys.stderr)
        return [program, method, *["failed"] * 3]
    took = median(found)
    return [program, method, f"{took.wall:.1f} s", f"{took.cpu:.1f} s", f"{took.peak / (1 << 20):.0f} MiB"]


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setup", action="store_true", help="install the other programs first, each in an environment")
    parser.add_argument("--only", default=",".join(PROGRAMS), help="programs, separated by commas")
    parser.add_argument("--methods", default="mean,mode,max", help="separated by commas")
    parser.add_argument("--size", type=parse_size, default=(1024, 1024, 256), help="x,y,z (default 1024,1024,256)")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--work", type=Path, default=default_work())
    parser.add_argument("--oracles", type=Path, default=Path.home() / ".cache/wkdask-oracles/pyramids")
    options = parser.parse_args()
    if options.setup:
        set_up(options.oracles)
    inputs = Inputs(options.work, options.size, options.oracles)
    print(machine(), flush=True)
    rows: list[list[object]] = [["program", "method", "wall", "cpu", "peak"]]
    for method in options.methods.split(","):
        rows += [measure(inputs, program, method, options.runs) for program in options.only.split(",")]
    print_rows(rows)


if __name__ == "__main__":
    main()
