"""Make the inputs of the benchmarks, of any size; the same size always gives the same bytes.

``em`` is a folder of uncompressed uint8 TIFF slices whose texture compresses as electron microscopy does (zstd-5 on chunks of
32^3: to some 0.70 of its size). ``labels`` is one multi-page uint32 TIFF, deflated, of cells some 40 voxels wide (zstd-5: some
70 times smaller).

    python benchmarks/data.py em --size 1024,1024,128
"""

from __future__ import annotations

import argparse
import functools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

Array = np.ndarray[Any, Any]
Size = tuple[int, int, int]

TILE = 512
TILES = 6
FADE = 16
"""Slices over which one tile turns into the next."""

CELL = 40


def default_work() -> Path:
    """Return the folder where inputs are kept between runs."""
    return Path(tempfile.gettempdir()) / "wkdask-benchmarks"


def parse_size(text: str) -> Size:
    """Read ``x,y,z``."""
    x, y, z = map(int, text.split(","))
    return x, y, z


def smoothed(noise: Array, length: float) -> Array:
    """Blur periodic noise by a Gaussian of some length in voxels, to a standard deviation of 1."""
    down, across = (np.fft.fftfreq(noise.shape[0]), np.fft.rfftfreq(noise.shape[1]))
    gains = [np.exp(-2 * (np.pi * length * frequency) ** 2).astype(np.float32) for frequency in (down, across)]
    blurred = np.fft.irfft2(np.fft.rfft2(noise) * gains[0][:, None] * gains[1])
    return (blurred - blurred.mean()) / blurred.std()


@functools.cache
def tile(number: int) -> Array:
    """Return a tile of texture: dark membranes, and matter between them."""
    noise = iter(np.random.default_rng(number).standard_normal((4, TILE, TILE), dtype=np.float32))
    membranes = np.exp(-((smoothed(next(noise), 14) / 0.12) ** 2)) + np.exp(-((smoothed(next(noise), 30) / 0.06) ** 2))
    matter = 14 * smoothed(next(noise), 4) + 10 * smoothed(next(noise), 2)
    return np.clip(138 - 50 * membranes + matter, 1, 255)


def em_slice(z: int, shape: tuple[int, int]) -> Array:
    """Return one slice (y, x): two tiles of texture, one fading into the other, drifting from slice to slice."""
    first, second = (tile((z // FADE + i) % TILES) for i in range(2))
    weight = z % FADE / FADE
    blend = ((1 - weight) * first + weight * np.roll(second, z, 1)).astype(np.uint8)
    repeated = np.tile(np.roll(blend, (3 * z, 5 * z), (0, 1)), [-(-n // TILE) for n in shape])
    return repeated[: shape[0], : shape[1]]


def label_slices(size: Size, dtype: str = "uint32", start: Size = (0, 0, 0), cell: int = CELL) -> Iterator[Array]:
    """Yield slices (y, x) of a box of cells with wavy walls, each cell with a number of its own.

    Parameters
    ----------
    size, start
        Of the box, along x, y, z.
    dtype
        Of the numbers, which fill its lower bits evenly.
    cell
        Voxels across a cell.
    """
    x, y = (np.arange(at, at + n, dtype=np.float32) for at, n in zip(start[:2], size[:2], strict=True))
    across, down = (x + 9 * np.sin(x / 53))[None, :], (y + 8 * np.sin(y / 61))[:, None]
    wave_x, wave_y = 12 * np.sin(x / 43)[None, :], 11 * np.sin(y / 37)[:, None]
    for z in range(start[2], start[2] + size[2]):
        columns = ((across + wave_y + 9 * np.sin(z / 23) + 64) // cell).astype(np.uint64)
        rows = ((down + wave_x + 8 * np.sin(z / 19) + 64) // cell).astype(np.uint64)
        layers = ((z + wave_x + wave_y + 64) // cell).astype(np.uint64)
        number = (layers * np.uint64(4099) + rows) * np.uint64(4099) + columns
        number *= np.uint64(0x9E3779B97F4A7C15)  # spreads the numbers over all bits
        yield (number >> np.uint64(40)).astype(dtype) + np.array(1, dtype)


def make_em(folder: Path, size: Size) -> None:
    """Write a folder of slices, whose numbers have no leading zeros."""
    folder.mkdir(parents=True)
    for z in range(size[2]):
        tifffile.imwrite(folder / f"slice_{z}.tif", em_slice(z, (size[1], size[0])))


def make_labels(folder: Path, size: Size) -> None:
    """Write one file with a deflated page for each slice."""
    folder.mkdir(parents=True)
    with tifffile.TiffWriter(folder / "labels.tif") as out:
        for page in label_slices(size):
            out.write(page, compression="zlib", photometric="minisblack", contiguous=False, metadata=None)


MAKERS = {"em": make_em, "labels": make_labels}


def prepared(kind: str, size: Size, work: Path) -> Path:
    """Return the folder with an input, made if it is not there yet."""
    folder = work / f"{kind}-{'x'.join(map(str, size))}"
    if not folder.exists():
        begun = folder.with_name(f"{folder.name}.{os.getpid()}")
        shutil.rmtree(begun, ignore_errors=True)
        MAKERS[kind](begun, size)
        begun.rename(folder)
    return folder


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=sorted(MAKERS))
    parser.add_argument("--size", type=parse_size, default=(1024, 1024, 128), help="x,y,z voxels (default 1024,1024,128)")
    parser.add_argument("--work", type=Path, default=default_work(), help="folder of the inputs (default %(default)s)")
    options = parser.parse_args()
    print(prepared(options.kind, options.size, options.work))


if __name__ == "__main__":
    main()
