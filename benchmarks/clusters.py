"""Measure what a cluster costs beside the work: `wkdask convert` on threads, on processes of Dask, and in jobs of Slurm.

    python benchmarks/clusters.py --size 2048,2048,128
    eval "$(tests/services/slurm-up --env)"; python benchmarks/clusters.py --strategies local,slurm

Processor seconds are those between the moment when all workers are there, with all libraries loaded, and the last task.
Scheduling is what the process spends that hands out batches, with Dask's scheduler in it. Ratios are to the first strategy,
medians of runs in turn. For Slurm start two nodes of one core: ``WKDASK_SLURM_CPUS=1 tests/services/slurm-up 2``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from data import default_work, parse_size, prepared
from measuring import machine, print_rows

JOBS = 2
STRATEGIES = ("threads", "local")


def loaded() -> float:
    """Load what tasks need; return the processor seconds of this process so far."""
    import numcodecs.zstd  # noqa: F401
    import tifffile  # noqa: F401

    import wkdask.kernels.compiled
    import wkdask.operations.pyramid  # noqa: F401

    return time.process_time()


class Meter:
    """Progress that measures a run: from its beginning, when all workers are there, to its last task."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.wall = self.here = self.workers = 0.0

    def _spent(self) -> tuple[float, float, float]:
        client = self._client()
        workers = sum(client.run(loaded).values()) if client else 0.0
        return time.perf_counter(), time.process_time(), workers

    def __call__(self, plan: Any, report: Any, receipt: object) -> None:
        """Note what was spent so far, at the beginning and at the end."""
        if receipt is None:
            if client := self._client():
                client.wait_for_workers(JOBS, timeout=300)
            loaded()
            self._begun = self._spent()
        elif report.done == plan.tasks:
            spent = (after - before for before, after in zip(self._begun, self._spent(), strict=True))
            self.wall, self.here, self.workers = spent


def convert(strategy: str, images: Path, target: Path, resources: str) -> dict[str, float]:
    """Convert images in this process by a strategy; return what it took."""
    import dask

    import wkdask as wk
    from wkdask.clusters import open_pool
    from wkdask.images import find_images
    from wkdask.operations import Into, Running, plan_convert

    plan = plan_convert(find_images(images), target, wk.VoxelSize((4, 4, 35)), into=Into("em"), running=Running(JOBS))
    with dask.config.set({"wkdask.local.threads-per-process": 1}):
        pool = open_pool(strategy, JOBS, None, resources if strategy.startswith("slurm") else None)
    meter = Meter(lambda: pool.launcher.client if hasattr(pool, "launcher") else None)
    plan.run(pool=pool, progress=meter)
    total = meter.here + meter.workers
    return {"wall": meter.wall, "cpu": total, "scheduling": meter.here / total if meter.workers else 0.0, "tasks": plan.tasks}


def measured(strategy: str, images: Path, options: argparse.Namespace) -> dict[str, float]:
    """Return what a conversion takes, in a process of its own."""
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        words = [sys.executable, __file__, "--one", strategy, "--images", images, "--target", Path(folder) / "ds"]
        words += ["--job-resources", options.job_resources]
        said = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)
    if said.returncode:
        raise SystemExit(said.stderr)
    found: dict[str, float] = json.loads(said.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=parse_size, default=(1024, 1024, 128), help="x,y,z voxels (default 1024,1024,128)")
    parser.add_argument("--strategies", default=",".join(STRATEGIES), help="in turn (default threads,local); also slurm")
    parser.add_argument("--job-resources", default="mem=1500M,time=00:30:00", help="of each job of Slurm")
    parser.add_argument("--runs", type=int, default=3, help="of which medians are taken (default 3)")
    parser.add_argument("--work", type=Path, default=default_work(), help="folder of inputs and results (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    for hidden in ("--one", "--images", "--target"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(convert(options.one, Path(options.images), Path(options.target), options.job_resources)))
        return
    images, strategies = prepared("em", options.size, options.work), options.strategies.split(",")
    runs = [{strategy: measured(strategy, images, options) for strategy in strategies} for _ in range(options.runs)]
    rows = []
    for strategy in strategies:
        middle = {name: statistics.median(run[strategy][name] for run in runs) for name in runs[0][strategy]}
        ratio = statistics.median(run[strategy]["cpu"] / run[strategies[0]]["cpu"] for run in runs)
        rows.append({"strategy": strategy, **middle, "ratio": ratio})
    if options.json:
        print(json.dumps(rows))
        return
    print(f"convert {'x'.join(map(str, options.size))}, {rows[0]['tasks']:.0f} tasks, medians of {options.runs}; {machine()}")
    shown = [
        (row["strategy"], *(f"{row[key]:.2f}" for key in ("wall", "cpu", "ratio")), f"{row['scheduling']:.1%}") for row in rows
    ]
    print_rows([("strategy", "wall s", "processor s", f"/ {strategies[0]}", "scheduling"), *shown])


if __name__ == "__main__":
    main()
