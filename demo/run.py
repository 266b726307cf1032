"""A first dataset: make a stack of images, convert it, check every voxel, and draw what came out.

    .venv/bin/python demo/run.py --output demo-output --size 384,320,96

Everything lies in the output folder: the images in ``images/``, the dataset in ``dataset/``, the picture in
``contact_sheet.png``. A second run replaces them. The last line that is printed is the path of the picture.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import xarray as xr
from contact_sheet import draw, spacing
from tissue import VOXEL_NM, write_stacks

Array = np.ndarray[Any, Any]
Size = tuple[int, int, int]

MARK = "made-by-wkdask-demo"
"""A file that says that the output folder is the demo's own, to be replaced by the next run."""
SLAB = 32
"""Slices that are compared at once."""
SAMPLE = 3000
"""Windows of a segmentation's magnification whose mode is counted voxel by voxel."""


def main() -> int:
    """Run the demo and return its exit code."""
    parser = argparse.ArgumentParser(description="Convert a made-up stack of images, check every voxel, and draw it.")
    parser.add_argument("--output", type=Path, default=Path("demo-output"), help="where everything goes")
    parser.add_argument("--size", type=parsed_size, default=(384, 320, 96), metavar="X,Y,Z", help="voxels of the stack")
    options = parser.parse_args()
    output: Path = options.output
    prepare(output)
    images, dataset, sheet = output / "images", output / "dataset", output / "contact_sheet.png"

    start = time.perf_counter()
    write_stacks(options.size, images / "raw", images / "segmentation.tif")
    shape = " x ".join(map(str, options.size))
    say(f"Made {shape} voxels of tissue: {images / 'raw'}, {images / 'segmentation.tif'} ({time.perf_counter() - start:.1f} s)")

    voxel, shared = ",".join(f"{edge:g}" for edge in VOXEL_NM), ["--max-mag", "8", "--distribution-strategy", "local"]
    wkdask("convert", images / "raw", dataset, "--voxel-size", voxel, "--layer-name", "em", *shared)
    wkdask("convert", images / "segmentation.tif", dataset, "--voxel-size", voxel, "--category", "segmentation", *shared)
    wkdask("info", dataset)

    say("\nOpened with xarray, and compared with the images:")
    tree = xr.open_datatree(dataset, engine="wkdask")
    wrong = sum([check_source(tree, images), check_medians(tree["em"]), check_modes(tree["segmentation"])])
    if wrong:
        say(f"{wrong:,} voxels are wrong.")
        return 1
    draw(tree["em"], tree["segmentation"], f"wkdask demo: {shape} voxels, one slice in each magnification", sheet)
    say(f"\nEverything is equal. One column for each magnification, raw and segmented:\n{sheet.resolve()}")
    return 0


def parsed_size(text: str) -> Size:
    """Read ``x,y,z``."""
    numbers = [int(part) for part in text.split(",")]
    if len(numbers) != 3 or min(numbers) < 16:
        raise argparse.ArgumentTypeError(f"{text!r} is no size. Write three numbers of 16 or more, such as 384,320,96.")
    x, y, z = numbers
    return x, y, z


def prepare(output: Path) -> None:
    """Make the output folder empty; one that is not ours is refused."""
    if output.exists():
        there = os.listdir(output) if output.is_dir() else [output.name]
        if there and MARK not in there:
            sys.exit(f"error: {output} exists and is not of this demo. Give another folder: --output DIR.")
        for name in ("images", "dataset"):
            shutil.rmtree(output / name, ignore_errors=True)
        (output / "contact_sheet.png").unlink(missing_ok=True)
    output.mkdir(parents=True, exist_ok=True)
    (output / MARK).touch()


def say(text: str) -> None:
    """Print at once, so that lines stand in order with those of the commands."""
    print(text, flush=True)


def wkdask(*arguments: object) -> None:
    """Show a command as it can be pasted, and run it; where it fails the demo ends with its exit code."""
    program = Path(sys.executable).with_name("wkdask")
    here = Path.cwd()
    command = [str(program.relative_to(here) if program.is_relative_to(here) else program), *map(str, arguments)]
    say(f"\n$ {shlex.join(command)}")
    try:
        code = subprocess.run(command, check=False).returncode
    except FileNotFoundError:
        sys.exit(f"error: there is no {command[0]}. Install wkdask into this environment: {sys.executable} -m pip install .")
    if code:
        sys.exit(code)


def variable(layer: xr.DataTree, mag: str) -> xr.DataArray:
    """Return the voxels of a magnification, (x, y, z), lazily."""
    return layer[f"{mag}/{layer.name}"].isel(c=0)


def tell(layer: xr.DataTree, mag: str, what: str, wrong: int) -> int:
    """Print what was compared, and return how many voxels are wrong."""
    array = variable(layer, mag)
    shape, edges = " x ".join(map(str, array.shape)), " x ".join(f"{spacing(array, axis):g}" for axis in "xyz")
    outcome = f"{wrong:,} WRONG" if wrong else "equal"
    say(f"  {layer.name + ' ' + mag:<20} {shape:>14} voxels of {edges + ' nm:':<16} {what}: {outcome}")
    return wrong


def check_source(tree: xr.DataTree, images: Path) -> int:
    """Compare every voxel of mag 1 with the image that it comes from."""
    slices = sorted((images / "raw").iterdir())
    layer = variable(tree["em"], "1")
    wrong = 0 if len(slices) == layer.sizes["z"] else layer.size
    for z in range(0, len(slices), SLAB):
        source = np.stack([tifffile.imread(path) for path in slices[z : z + SLAB]])
        wrong += different(layer.isel(z=slice(z, z + SLAB)).values, source.transpose(2, 1, 0))
    found = tell(tree["em"], "1", f"all {layer.size:,} with {len(slices)} images", wrong)

    layer, wrong = variable(tree["segmentation"], "1"), 0
    with tifffile.TiffFile(images / "segmentation.tif") as file:
        wrong = 0 if len(file.pages) == layer.sizes["z"] else layer.size
        for z in range(0, len(file.pages), SLAB):
            source = np.stack([page.asarray() for page in file.pages[z : z + SLAB]])
            wrong += different(layer.isel(z=slice(z, z + SLAB)).values, source.transpose(2, 1, 0))
        return found + tell(tree["segmentation"], "1", f"all {layer.size:,} with {len(file.pages)} pages", wrong)


def different(found: Array, expected: Array) -> int:
    """Return how many voxels differ; all of them where shape or dtype does."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return max(found.size, expected.size, 1)
    return int((found != expected).sum())


def steps(layer: xr.DataTree) -> Iterator[tuple[str, str, Size]]:
    """Yield each magnification with the one that it was made of, and the factor between them."""
    mags = list(layer.children)
    for fine, coarse in pairwise(mags):
        of = [variable(layer, mag).attrs["mag"] for mag in (fine, coarse)]
        x, y, z = (b // a for a, b in zip(*of, strict=True))
        yield fine, coarse, (x, y, z)


def windows(block: Array, factor: Size) -> Array:
    """Return the voxels that become one, along the last axis: in the order y, then x, then z."""
    x, y, z = (n // f for n, f in zip(block.shape, factor, strict=True))
    fx, fy, fz = factor
    split = block[: x * fx, : y * fy, : z * fz].reshape(x, fx, y, fy, z, fz)
    return split.transpose(0, 2, 4, 5, 1, 3).reshape(x, y, z, -1)


def check_medians(layer: xr.DataTree) -> int:
    """Compare the coarser magnifications of the raw layer with numpy's median, which is rounded down to whole numbers."""
    total = 0
    for fine, coarse, factor in steps(layer):
        finer, found, wrong, count = variable(layer, fine), variable(layer, coarse), 0, 0
        for z in range(0, found.sizes["z"], SLAB):
            block = finer.isel(z=slice(z * factor[2], (z + SLAB) * factor[2])).values
            expected = np.median(windows(block, factor), axis=-1).astype(block.dtype)
            part = found.isel(z=slice(z, z + SLAB)).values[tuple(slice(n) for n in expected.shape)]
            wrong += different(part, expected)
            count += expected.size
        total += tell(layer, coarse, f"{count:,} with numpy's median of mag {fine}", wrong)
    return total


def check_modes(layer: xr.DataTree) -> int:
    """Compare samples of the segmentation's coarser magnifications with the most frequent label, the first one of several."""
    total, random = 0, np.random.default_rng(1)
    for fine, coarse, factor in steps(layer):
        split = windows(variable(layer, fine).values, factor)
        found = variable(layer, coarse).values[tuple(slice(n) for n in split.shape[:3])]
        mixed = np.argwhere((split != split[..., :1]).any(axis=-1))  # where cells meet, and the mode is not obvious
        chosen = random.permutation(mixed)[:SAMPLE]
        expected = [Counter(split[x, y, z].tolist()).most_common(1)[0][0] for x, y, z in chosen]
        wrong = int((found[tuple(chosen.T)] != np.array(expected, found.dtype)).sum())
        plain = (split == split[..., :1]).all(axis=-1)
        wrong += int((found[plain] != split[plain][:, 0]).sum())
        what = f"{int(plain.sum()):,} uniform and {len(chosen):,} mixed with the mode of mag {fine}"
        total += tell(layer, coarse, what, wrong)
    return total


if __name__ == "__main__":
    sys.exit(main())
