"""Simulate a conversion on many workers from measured constants, and say what saturates first.

    python benchmarks/simulate.py                           # 1 TB, 100 TB, 1 PB on 10, 100, 1000 workers; --markdown
    python benchmarks/simulate.py --measure /shared/folder  # constants of a file system
    python benchmarks/simulate.py --check                   # what is simulated against small real runs here

Each worker asks for a batch, opens files, moves their bytes, computes, and writes its line into the journal, again and again.
Workers compute beside each other; whoever hands out batches, the server of names (metadata), and the shared file system serve
one request after the other, in the order in which they come. Give the figures of your own site as options.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import random
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from measuring import print_rows

from wkdask.clusters.dask_pool import MOST_BATCHES

CYCLES = 12
"""Batches of each worker that are simulated; the others repeat them."""

SERVERS = ("scheduler", "metadata", "file system")


@dataclass(frozen=True)
class Site:
    """Round figures of an ordinary site, each with the command that measures it.

    Parameters
    ----------
    compute
        Processor seconds for a GB of voxels, all levels, decoding and encoding: ``roofline.py convert-em``, "left".
    batch
        Processor seconds of client and scheduler for a batch: ``throughput.py --strategies local --processes 4 --tasks 20000``.
    task
        Seconds of it for each further task of a batch: the same, with more tasks.
    operation
        Seconds that the server of names takes for a file that is made, renamed, or opened: ``simulate.py --measure``.
    bandwidth
        GB/s of the shared file system, reading and writing together: ``simulate.py --measure``, or what its makers say.
    """

    compute: float = 16.0
    batch: float = 1.2e-3
    task: float = 16e-6
    operation: float = 50e-6
    bandwidth: float = 5.0


@dataclass(frozen=True)
class Load:
    """What is to be done: tasks, and of each the GB of voxels read, the GB moved, and the files opened."""

    tasks: int
    voxels: float
    moved: float
    files: float

    @property
    def batches(self) -> int:
        """How many the plan has."""
        return min(self.tasks, MOST_BATCHES)


def load_of(voxels: float, shard: int, ratio: float) -> Load:
    """Return the load of converting slices of uint8 to shards, with all further magnifications.

    Each task reads its window of as many slices as its shard is thick, and makes and renames its files.

    Parameters
    ----------
    voxels
        GB.
    shard
        Edge of a shard, in voxels.
    ratio
        Bytes on disk for each byte of voxels.
    """
    whole, pyramid = shard**3 / 1e9, 8 / 7
    return Load(max(1, round(voxels / whole)), whole, whole * (1 + ratio * pyramid), shard + 2 * pyramid)


def simulate(load: Load, site: Site, workers: int) -> tuple[float, dict[str, float]]:
    """Return seconds of the whole run, and what share of them each server, and the workers, are busy."""
    size = load.tasks / load.batches
    cycles = min(CYCLES, max(1, load.batches // workers))
    steps = (
        ("scheduler", site.batch + size * site.task),
        ("metadata", size * (load.files + 1) * site.operation),  # one more for the journal
        ("file system", size * load.moved / site.bandwidth),
        ("", size * load.voxels * site.compute),
    )
    dice = random.Random(0)
    free, busy = dict.fromkeys(SERVERS, 0.0), dict.fromkeys((*SERVERS, "workers"), 0.0)
    active = min(workers, load.batches)
    events = [(0.0, worker, 0) for worker in range(active)]
    end = 0.0
    while events:
        now, worker, at = heapq.heappop(events)
        if at == cycles * len(steps):
            end = max(end, now)
            continue
        name, seconds = steps[at % len(steps)]
        seconds *= dice.uniform(0.8, 1.2)
        begin = max(now, free[name]) if name else now
        if name:
            free[name] = begin + seconds
        busy[name or "workers"] += seconds / (1 if name else workers)
        heapq.heappush(events, (begin + seconds, worker, at + 1))
    return end * load.batches / (active * cycles), {name: spent / end for name, spent in busy.items()}


def measure_folder(folder: Path) -> tuple[float, float]:
    """Return seconds for a file that is made and renamed, and GB/s of writing and reading 512 MB once."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        begin, count = time.perf_counter(), 2000
        for number in range(count):
            Path(place, "new").write_bytes(b"x")
            os.replace(Path(place, "new"), Path(place, f"{number}"))
        operation = (time.perf_counter() - begin) / count / 2
        data, begin = os.urandom(64 << 20), time.perf_counter()
        with open(Path(place, "large"), "wb", buffering=0) as file:
            for _ in range(8):
                file.write(data)
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        with open(Path(place, "large"), "rb", buffering=0) as file:
            while file.read(64 << 20):
                pass
        return operation, 2 * 8 * len(data) / 1e9 / (time.perf_counter() - begin)


def check(site: Site) -> None:
    """Run idle tasks on processes, and a conversion by one and by two workers; print both beside what is simulated."""
    from clusters import convert
    from data import default_work, prepared
    from throughput import handed_out

    rows: list[tuple[str, str, str]] = []
    counts = (20_000, 200_000)  # on four processes, as batches travel in groups where many are under way
    cpu = [min(handed_out("local", 4, count).spent[1] for _ in range(2)) for count in counts]
    task = (cpu[1] - cpu[0]) / (counts[1] - counts[0])
    site = replace(site, batch=cpu[0] / MOST_BATCHES - 2 * task, task=task, operation=0, bandwidth=1e9)
    idle = Load(100_000, 1, 0, 0)
    for processes in (1, 2, 4):
        real, here, workers = handed_out("local", processes, idle.tasks).spent
        simulated = simulate(idle, replace(site, compute=workers / idle.tasks), processes)[0]
        simulated = max(simulated, (here + workers) / (os.cpu_count() or 1))  # they all share this machine
        rows.append((f"{idle.tasks} tasks, {processes} processes", f"{real:.1f}", f"{simulated:.1f}"))
    images = prepared("em", (1024, 1024, 64), default_work())
    times = {}
    for strategy in ("sequential", "threads"):
        with tempfile.TemporaryDirectory(dir=default_work()) as folder:
            times[strategy] = convert(strategy, images, Path(folder) / "ds", "")
    gigabytes = 1024 * 1024 * 64 / 1e9
    one = times["sequential"]
    own = replace(site, compute=one["cpu"] / gigabytes, batch=0, task=0)
    tasks = int(one["tasks"])
    for strategy, workers in (("sequential", 1), ("threads", 2)):
        simulated = simulate(Load(tasks, gigabytes / tasks, 0, 0), own, workers)[0]
        rows.append((f"convert, {workers} workers", f"{times[strategy]['wall']:.1f}", f"{simulated:.1f}"))
    print(f"a batch {site.batch * 1e6:.0f} us, a task {site.task * 1e6:.1f} us")
    print_rows([("what", "real s", "simulated s"), *rows])


def table(site: Site, options: argparse.Namespace) -> list[dict[str, object]]:
    """Return a row for each size and number of workers."""
    rows: list[dict[str, object]] = []
    for terabytes in map(float, options.terabytes.split(",")):
        load = load_of(terabytes * 1e3, options.shard, options.ratio)
        for workers in map(int, options.workers.split(",")):
            seconds, shares = simulate(load, site, workers)
            first = max(SERVERS, key=shares.__getitem__)
            row: dict[str, object] = {"TB": f"{terabytes:g}", "workers": workers, "tasks": load.tasks}
            row |= {"hours": f"{seconds / 3600:.1f}"} | {name: f"{shares[name]:.1%}" for name in SERVERS}
            rows.append(row | {"first": first, "full at workers": round(workers * shares["workers"] / shares[first])})
    return rows


def main() -> None:
    """Run from the command line."""
    site = Site()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--terabytes", default="1,100,1000", help="of voxels (default 1,100,1000)")
    parser.add_argument("--workers", default="10,100,1000", help="cores (default 10,100,1000)")
    parser.add_argument("--shard", type=int, default=1024, help="edge in voxels (default 1024)")
    parser.add_argument("--ratio", type=float, default=0.7, help="bytes on disk for a byte of voxels (default 0.7)")
    for name, unit in (("compute", "processor s/GB"), ("batch", "s"), ("task", "s"), ("operation", "s"), ("bandwidth", "GB/s")):
        parser.add_argument(f"--{name}", type=float, default=getattr(site, name), help=f"{unit} (default %(default)s)")
    parser.add_argument("--measure", type=Path, metavar="FOLDER", help="measure operation and bandwidth there")
    parser.add_argument("--check", action="store_true", help="compare with small real runs")
    parser.add_argument("--markdown", action="store_true", help="print the rows as docs/scale.md holds them")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    options = parser.parse_args()
    site = Site(options.compute, options.batch, options.task, options.operation, options.bandwidth)
    if options.measure:
        operation, bandwidth = measure_folder(options.measure)
        print(f"--operation {operation:.2g} --bandwidth {bandwidth:.2g}")
    elif options.check:
        check(site)
    elif options.json:
        print(json.dumps(table(site, options)))
    else:
        rows = table(site, options)
        cells = [list(rows[0]), *(list(row.values()) for row in rows)]
        if options.markdown:
            cells.insert(1, ["---:"] * len(rows[0]))
            print(*(f"| {' | '.join(map(str, row))} |" for row in cells), sep="\n")
        else:
            print_rows(cells)


if __name__ == "__main__":
    main()
