"""Measure how fast folders and stacks of images are found and read.

``python benchmarks/images.py`` makes its own files; give paths to measure those instead.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from wkdask.images import find_images
from wkdask.images.picture import forget_parsed


def timed(call: Callable[[], Any]) -> tuple[float, float, Any]:
    """Return (seconds, processor seconds, result)."""
    wall, processor = time.perf_counter(), time.process_time()
    result = call()
    return time.perf_counter() - wall, time.process_time() - processor, result


def measure(source: Path, planes: int, rows: int) -> None:
    """Print what finding a source costs, and reading all of it in bands into one buffer."""
    find_images(source)
    forget_parsed()
    seconds, processor, stack = timed(lambda: find_images(source))
    each = max(len(stack.files), len(stack.plan))
    print(f"{source}: z, y, x = {stack.shape}, {stack.dtype}, row step {stack.row_step}")
    print(f"  find  {seconds * 1e3:8.1f} ms, {processor / each * 1e3:.3f} processor ms a slice")
    depth, height, width = stack.shape
    buffer = np.empty((planes, rows, width, stack.channels), stack.dtype)

    def read_all() -> None:
        for z in range(0, depth, planes):
            for y in range(0, height, rows):
                z1, y1 = min(z + planes, depth), min(y + rows, height)
                whole = (z1 - z, y1 - y) == (planes, rows)
                stack.read(z, z1, y, y1, out=buffer if whole else None)

    read_all()
    seconds, processor, _ = timed(read_all)
    speed = (stack.bytes / time_taken / 1e9 for time_taken in (seconds, processor))
    print("  read  {:8.2f} GB/s, {:.2f} GB per processor second".format(*speed))


def make(folder: Path, slices: int, edge: int) -> list[Path]:
    """Write a folder of uncompressed slices, a deflated stack, and a stack of many tiny pages."""
    random = np.random.default_rng(0)
    (folder / "em").mkdir()
    texture = random.normal(128, 20, (slices, edge, edge)).clip(0, 255).astype("uint8")
    for z, plane in enumerate(texture):
        tifffile.imwrite(folder / "em" / f"slice_{z}.tif", plane)
    tifffile.imwrite(folder / "texture_deflate.tif", texture, compression="zlib", rowsperstrip=64, photometric="minisblack")
    labels = np.repeat(np.repeat(random.integers(0, 2**20, (slices, edge // 32, edge // 32), "uint32"), 32, 1), 32, 2)
    tifffile.imwrite(folder / "labels_deflate.tif", labels, compression="zlib", rowsperstrip=64, photometric="minisblack")
    with tifffile.TiffWriter(folder / "many_pages.tif") as writer:
        for _ in range(10_000):
            writer.write(texture[0, :8, :8], compression="zlib", metadata=None)
    return sorted(folder.iterdir())


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="*", type=Path, help="image files or folders of them")
    parser.add_argument("--slices", type=int, default=64, help="of the files made here (default 64)")
    parser.add_argument("--edge", type=int, default=1024, help="rows and columns of the files made here (default 1024)")
    parser.add_argument("--planes", type=int, default=32, help="planes read at once (default 32)")
    parser.add_argument("--rows", type=int, default=256, help="rows read at once (default 256)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for source in options.sources or make(Path(folder), options.slices, options.edge):
            measure(source, options.planes, options.rows)


if __name__ == "__main__":
    main()
