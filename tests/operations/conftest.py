"""Small stacks of images, and the pyramid that numpy makes of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

Volume = np.ndarray


def _stack(folder: Path, volume: Volume, **options: object) -> Path:
    """Write a (c, x, y, z) volume as one TIFF a slice; numbers without padding, so that order matters."""
    folder.mkdir(parents=True)
    for z in range(volume.shape[3]):
        plane = volume[..., z].transpose(2, 1, 0)  # (y, x, c)
        options = {"photometric": "rgb" if plane.shape[2] == 3 else "minisblack", **options}
        tifffile.imwrite(folder / f"slice_{z}.tif", plane if plane.shape[2] == 3 else plane[..., 0], **options)
    return folder


@pytest.fixture
def make_stack(tmp_path: Path) -> Callable[..., tuple[Path, Volume]]:
    """Return a function that makes a stack of a (x, y, z) size and returns its folder and its (c, x, y, z) voxels."""

    def make(
        size: tuple[int, int, int] = (70, 100, 45),
        dtype: str = "uint8",
        channels: int = 1,
        seed: int = 0,
        labels: bool = False,
        **options: object,
    ) -> tuple[Path, Volume]:
        rng = np.random.default_rng(seed)
        if labels:
            cells = rng.integers(1, 2**20, [n // 7 + 1 for n in size])
            volume = cells[np.ix_(*(np.arange(n) // 7 for n in size))][None].astype(dtype)
        elif dtype.startswith("float"):
            volume = rng.normal(size=(channels, *size)).astype(dtype)
        else:
            volume = rng.integers(0, np.iinfo(dtype).max, (channels, *size), endpoint=True).astype(dtype)
        return _stack(tmp_path / f"stack-{len(list(tmp_path.iterdir()))}", volume, **options), volume

    return make


def _mode(block: Volume) -> int:
    """Return the most frequent voxel of an (x, y, z) block; of several, the one met first, y fastest, then x, then z."""
    seen = block.transpose(2, 0, 1).ravel()
    counts = {int(v): int((seen == v).sum()) for v in seen}
    return max(counts, key=lambda v: (counts[v], -int(np.argmax(seen == v))))


def reduced(volume: Volume, factor: tuple[int, int, int], mode: str) -> Volume:
    """Return the next magnification of a volume whose box begins at 0: ends mirrored, then median or mode of each block."""
    pads = [(0, 0), *((0, -n % f) for n, f in zip(volume.shape[1:], factor, strict=True))]
    padded = np.pad(volume, pads, mode="symmetric")
    c, x, y, z = padded.shape
    fx, fy, fz = factor
    blocks = padded.reshape(c, x // fx, fx, y // fy, fy, z // fz, fz).transpose(0, 1, 3, 5, 2, 4, 6)
    if mode == "mode":
        flat = blocks.reshape(-1, fx, fy, fz)
        return np.array([_mode(block) for block in flat], volume.dtype).reshape(blocks.shape[:4])
    return np.median(blocks.reshape(*blocks.shape[:4], -1), axis=-1).astype(volume.dtype)


@pytest.fixture
def expected_pyramid() -> Callable[..., dict[str, Volume]]:
    """Return a function that makes all magnifications of a volume with numpy alone."""

    def make(volume: Volume, names: list[str], mode: str) -> dict[str, Volume]:
        found, finer, now = {}, (1, 1, 1), volume
        for name in names:
            mag = tuple(map(int, name.split("-"))) * (3 if "-" not in name else 1)
            factor = tuple(m // f for m, f in zip(mag, finer, strict=True))
            now = now if factor == (1, 1, 1) else reduced(now, factor, mode)
            found[name], finer = now, mag
        return found

    return make


@pytest.fixture(params=[pytest.param("6", id="some"), pytest.param("", id="every", marks=pytest.mark.soak)])
def kill(request: pytest.FixtureRequest) -> Callable[..., int]:
    """Return a function that runs a driver of kills, after some changes or after every one, and returns how many there are."""

    def run(program: str | Path, *arguments: object) -> int:
        command = [sys.executable, str(program), *map(str, arguments)]
        environment = {**os.environ, "WKDASK_KILLS": request.param}
        done = subprocess.run(
            command, env=environment, check=False, capture_output=True, text=True, timeout=None if request.param == "" else 280
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return int(done.stdout)

    return run
