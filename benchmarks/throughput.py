"""Measure how many tasks that do nothing run in a second: on one process and more, and by leases.

    python benchmarks/throughput.py --tasks 200000 --processes 1,2,4,8
    python benchmarks/throughput.py --strategies local,leases --processes 2 --tasks 1000000

Every task is journalled. Start-up is apart: seconds count from the first task that is done to the last. The last columns are
processor time and memory of the process that hands out batches: of threads they hold the tasks, too, of a Dask cluster its
scheduler. Of leases the time is that of all processes, with their tasks, and the memory that of the largest.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from measuring import forget_peak, machine, peak_megabytes, print_rows
from scale import Idle, NoSetup

from wkdask.clusters import open_pool
from wkdask.clusters.dask_pool import MOST_BATCHES
from wkdask.plan import Journal, LeasePool, Plan, Pool, Stage
from wkdask.plan.plan import MAX_BATCHES
from wkdask.storage import Location

STRATEGIES = ("threads", "processes", "local", "leases")


@dataclass
class Clock:
    """Progress of a run that notes when the first and the last task was done, and the processor seconds between."""

    pool: Any = None
    begun: tuple[float, float, float] = (0.0, 0.0, 0.0)
    ended: tuple[float, float, float] = (0.0, 0.0, 0.0)
    tasks: int = field(default=-1)

    def _now(self) -> tuple[float, float, float]:
        client = self.pool.launcher.client if hasattr(self.pool, "launcher") else None
        workers = sum(client.run(time.process_time).values()) if client else 0.0
        return time.perf_counter(), time.process_time(), workers

    def __call__(self, plan: Plan, report: object, receipt: object) -> None:  # noqa: ARG002
        """Note the time."""
        if receipt is None:
            return
        self.tasks += 1
        if not self.tasks:
            self.begun = self._now()
        if self.tasks + 1 == plan.tasks:
            self.ended = self._now()

    @property
    def spent(self) -> tuple[float, float, float]:
        """Seconds, and processor seconds of this process and of a cluster's workers."""
        wall, here, workers = (after - before for before, after in zip(self.begun, self.ended, strict=True))
        return wall, here, workers


def idle_plan(target: Path, tasks: int) -> Plan:
    """Return a plan of tasks that do nothing."""
    return Plan("idle", Journal(Location(str(target)), "idle"), {}, "", (Stage("idle", Idle(tasks)),), (), NoSetup())


def pool_of(strategy: str, processes: int) -> Pool:
    """Return a pool of so many processes of one thread each; of threads, as many of those."""
    if strategy == "local":
        import dask

        with dask.config.set({"wkdask.local.threads-per-process": 1}):
            return open_pool(strategy, processes)
    return open_pool(strategy, processes)


def handed_out(strategy: str, processes: int, tasks: int) -> Clock:
    """Run a plan on a pool; return what it took."""
    clock = Clock(pool_of(strategy, processes))
    forget_peak()
    with tempfile.TemporaryDirectory() as folder:
        idle_plan(Path(folder) / "ds", tasks).run(pool=clock.pool, progress=clock)
    return clock


def work(target: Path, tasks: int) -> None:
    """Be one of the processes that share a plan by leases: begin when told, and say what it took."""
    plan = idle_plan(target, tasks)
    print("ready", flush=True)
    sys.stdin.readline()
    begin, cpu = time.perf_counter(), time.process_time()
    plan.run(pool=LeasePool(1))
    print(json.dumps([time.perf_counter() - begin, time.process_time() - cpu, peak_megabytes()]))


def shared(processes: int, tasks: int) -> tuple[float, float, float]:
    """Run a plan by leases; return seconds of the slowest process, processor seconds of all, and megabytes of the largest."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, __file__, "--work", str(Path(folder) / "ds"), "--tasks", str(tasks)]
        workers = [subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
        for worker in workers:
            worker.stdout.readline()  # type: ignore[union-attr]
        for worker in workers:
            worker.stdin.write("go\n")  # type: ignore[union-attr]
            worker.stdin.flush()  # type: ignore[union-attr]
        said = [worker.communicate()[0] for worker in workers]
    found: list[tuple[float, float, float]] = [json.loads(text) for text in said]
    return max(row[0] for row in found), sum(row[1] for row in found), max(row[2] for row in found)


def measure(strategy: str, processes: int, tasks: int) -> dict[str, Any]:
    """Return the figures of one run."""
    if strategy == "leases":
        seconds, cpu, megabytes = shared(processes, tasks)
    else:
        (seconds, cpu, _), megabytes = handed_out(strategy, processes, tasks).spent, peak_megabytes()
    batches = -(-tasks // max(1, -(-tasks // (MOST_BATCHES if strategy == "local" else MAX_BATCHES))))
    return {
        "strategy": strategy,
        "processes": processes,
        "tasks a second": round(tasks / seconds),
        "batches a second": round(batches / seconds),
        "microseconds a task": round(cpu / tasks * 1e6, 1),
        "microseconds a batch": round(cpu / batches * 1e6),
        "MB": round(megabytes),
    }


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=200_000, help="that do nothing (default 200000)")
    parser.add_argument("--processes", default="1,2,4,8", help="how many (default 1,2,4,8)")
    parser.add_argument("--strategies", default=",".join(STRATEGIES), help="which (default: all)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work, options.tasks)
        return
    counts = [int(count) for count in options.processes.split(",")]
    rows = [measure(strategy, count, options.tasks) for strategy in options.strategies.split(",") for count in counts]
    if options.json:
        print(json.dumps(rows))
        return
    print(f"{options.tasks} tasks; {machine()}")
    print_rows([list(rows[0]), *(list(row.values()) for row in rows)])


if __name__ == "__main__":
    main()
