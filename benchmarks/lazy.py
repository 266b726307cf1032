"""What lazy views cost: seconds and peak memory of defining arrays of 10^9 voxels along one axis, and of 10^6 blocks.

Run it from the repository: ``python -m benchmarks.lazy``.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import xarray as xr

from tests.arrays.memory_handle import huge_array
from wkdask.arrays.coarsen import coarsen

LONG = 10**9


def measure(name: str, work: Callable[[], Any]) -> None:
    """Print the best of five times, and the peak of one run."""
    work()
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f"{name:34} {1000 * min(seconds):9.2f} ms {peak / 1e6:9.2f} MB")


def main() -> None:
    """Measure all."""
    long = huge_array((1, LONG, 2, 2), chunk=64, unit=2**26)
    view = long.to_xarray()
    wide = huge_array((1, 2**17, 2**17, 2**15))
    million = {"x": 1024, "y": 1024, "z": 512}
    halves = [view.isel(x=slice(0, LONG // 2)), view.isel(x=slice(LONG // 2, None))]
    measure("to_dask, 2^20 blocks", lambda: wide.to_dask(million))
    measure("to_dask, auto", wide.to_dask)
    measure("to_xarray", long.to_xarray)
    measure("sel slice", lambda: view.sel(x=slice(1e9, 2e9)))
    measure("sel nearest", lambda: view.sel(x=[1e9, 2e9], method="nearest"))
    measure("isel slice", lambda: view.isel(x=slice(5, -5)))
    measure("isel every third", lambda: view.isel(x=slice(5, None, 3)))
    measure("coarsen by 2, mean", lambda: view.coarsen(x=2).mean())
    measure("coarsen of a dataset", lambda: coarsen(view.to_dataset(name="a"), {"x": 2}).mean())
    measure("add", lambda: view + view)
    measure("concat", lambda: xr.concat(halves, "x"))
    measure("repr", lambda: repr(view))


if __name__ == "__main__":
    main()
