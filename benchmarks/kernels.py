"""Measure the kernels of both paths: GB of input per processor second, one core, on arrays that no cache holds.

python benchmarks/kernels.py --modes median,mode --dtypes uint8,uint32
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np

from wkdask import kernels

FACTORS = ((2, 2, 1), (2, 2, 2), (1, 1, 2), (2, 1, 1))
Array = np.ndarray[Any, Any]


def make(dtype: str, edge: int, mebibytes: int, channels: int, labels: bool) -> Array:
    """Make a block of noise, or of cubes of labels 16 voxels wide, that is Fortran-ordered with axes c, x, y, z."""
    depth = max(2, (mebibytes << 20) // (np.dtype(dtype).itemsize * channels * edge * edge) // 2 * 2)
    shape, rng = (channels, edge, edge, depth), np.random.default_rng(0)
    if labels:
        x, y, z = (np.arange(n) // 16 for n in shape[1:])
        cells = x[:, None, None] + y[None, :, None] * 7 + z[None, None, :] * 31 + 1
        return np.asfortranarray(np.broadcast_to(cells % 251, shape).astype(dtype))
    return np.asfortranarray(rng.integers(0, 256, shape, np.uint8).astype(dtype))


def speed(block: Array, factor: tuple[int, ...], mode: str, large: bool, runs: int) -> float:
    """Return GB per processor second, the best of some runs after one that is not counted."""
    seconds = []
    for _ in range(runs + 1):
        start = time.process_time()
        kernels.reduce(block, factor, mode, axes=("c", "x", "y", "z"), large=large)
        seconds.append(time.process_time() - start)
    return float(block.nbytes / max(min(seconds[1:]), 1e-9) / 1e9)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modes", default="median,mode,mean,max,min,nearest", help="separated by commas")
    parser.add_argument("--dtypes", default="uint8,uint16,uint32,uint64,float32", help="separated by commas")
    parser.add_argument("--edge", type=int, default=512, help="voxels along x and y (default 512)")
    parser.add_argument("--mebibytes", type=int, default=256, help="of each block (default 256)")
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--labels", action="store_true", help="reduce cells instead of noise")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    found = []
    for dtype in options.dtypes.split(","):
        block = make(dtype, options.edge, options.mebibytes, options.channels, options.labels)
        for mode in options.modes.split(","):
            for factor in FACTORS:
                paths = [speed(block, (1, *factor), mode, large, options.runs) for large in (False, True)]
                found.append(
                    {"dtype": dtype, "mode": mode, "factor": "-".join(map(str, factor)), "numpy": paths[0], "numba": paths[1]}
                )
    if options.json:
        print(json.dumps(found, indent=1))
        return
    print(f"{'dtype':8} {'mode':8} {'factor':8} {'numpy':>8} {'numba':>8}   GB per processor second")
    for row in found:
        print("{dtype:8} {mode:8} {factor:8} {numpy:8.2f} {numba:8.2f}".format(**row))


if __name__ == "__main__":
    main()
