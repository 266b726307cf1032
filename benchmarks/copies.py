"""Hold `wkdask copy-dataset` and `wkdask compress` against the least that their work can cost.

As in ``roofline.py``, each step is measured alone on the same bytes, in one thread, in processor seconds, the page cache warm:
read, decode, place, reorder, encode and write of all chunks; where files are copied as they are, copying them within the file
system, and check, the checksum of each that the journal keeps. Their sum is the roofline. From the processor seconds of the
command, that of the same command on 64^3 voxels is taken off; what is left, over the sum, is the ratio: 1.5 is the most.

    python benchmarks/copies.py copy-wkw-zarr3 --size 1024,1024,256 --runs 3
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path
from statistics import median as middle
from typing import Any

from data import Size, default_work, parse_size, prepared
from measuring import Run, machine, median, print_rows, run, wkdask
from roofline import STEPS, Clock, decode_volume, write_level

from wkdask.operations.compressing import plan_rechunk
from wkdask.operations.copying import Origin, plan_copy_layer
from wkdask.operations.copying_shape import Wishes
from wkdask.operations.copying_tasks import CopyUnits
from wkdask.operations.tiles import WriteTiles
from wkdask.plan import Plan
from wkdask.plan.checksum import content_checksum
from wkdask.storage import Location

ZARR3, WKW = ("--codec", "zstd:5"), ("--data-format", "wkw")
JOBS = {
    "compress-wkw": ((*WKW, "--no-compress"), Wishes(codec="compressed")),
    "copy-wkw-zarr3": (WKW, Wishes("zarr3")),
    "copy-zarr3-wkw": (ZARR3, Wishes("wkw")),
    "copy-zarr3-zarr3": (ZARR3, Wishes("zarr3")),
}


def dataset(job: str, size: Size, work: Path) -> Path:
    """Return a dataset of one magnification, made once."""
    images, options = prepared("em", size, work), JOBS[job][0]
    place = images.with_name(f"{images.name}-{job}")
    if not place.exists():
        part = place.with_name(f"{place.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        usual = ("--voxel-size", "4,4,35", "--layer-name", "color", "--no-downsample", "--progress", "none")
        run([*wkdask("convert", images, part), *usual, *options])
        part.rename(place)
    return place


def done(job: str, source: Path, target: Path) -> Run:
    """Run the command, into a place that it finds empty, or on a dataset of its own."""
    shutil.rmtree(target, ignore_errors=True)
    quiet = ("--json", "--progress", "none")
    if job.startswith("compress"):
        shutil.copytree(source, target)
        os.sync()
        return run([*wkdask("compress", target), *quiet])
    os.sync()
    return run([*wkdask("copy-dataset", source, target, "--data-format", JOBS[job][1].data_format), *quiet])


def planned(job: str, source: Path, target: Path) -> Plan:
    """Return the plan that the command makes."""
    place, wishes = Location(str(source)), JOBS[job][1]
    if job.startswith("compress"):
        return plan_rechunk(place, "color", wishes)
    return plan_copy_layer(Origin(place, "color"), Location(str(target)), None, wishes)


def roofline(plan: Plan, folder: Path) -> dict[str, float]:
    """Return the processor seconds of each step for all that a plan does."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    clock = Clock()
    for number, operation in enumerate(stage.operation for stage in plan.stages):
        if isinstance(operation, CopyUnits):
            copy_files(operation, folder, clock)
        elif isinstance(operation, WriteTiles):
            source: Any = operation.source
            level = operation.levels[0]
            write_level(level, decode_volume(source.array, level.box, clock), folder / str(number), clock)
    shutil.rmtree(folder)
    return {step: clock.seconds.get(step, 0.0) for step in (*STEPS, "check")}


def copy_files(operation: CopyUnits, folder: Path, clock: Clock) -> None:
    """Copy files within the file system."""
    for number, index in enumerate(operation.source.written_units()):
        name = str(operation.source.unit_location(index))
        with clock("write"), open(name, "rb") as old, open(folder / str(number), "wb") as new:
            left = os.fstat(old.fileno()).st_size
            while left:
                left -= os.copy_file_range(old.fileno(), new.fileno(), left)
        with clock("check"):
            content_checksum(Location(str(folder / str(number))))


def measure(job: str, size: Size, work: Path, runs: int) -> dict[str, Any]:
    """Return all figures of a job: medians of several runs, roofline and command in turn."""
    source, target = dataset(job, size, work), work / f"out-{job}"
    plan = planned(job, source, target)
    done(job, source, target)
    tops, ours = [], []
    for _ in range(runs):
        tops.append(roofline(plan, work / f"roofline-{job}"))
        ours.append(done(job, source, target))
    start = middle(done(job, dataset(job, (64, 64, 64), work), target).cpu for _ in range(runs))
    shutil.rmtree(target)
    steps, one = {step: middle(top[step] for top in tops) for step in tops[0]}, median(ours)
    ratio = middle((each.cpu - start) / sum(top.values()) for each, top in zip(ours, tops, strict=True))
    found = {"job": job, "size": size, "runs": runs, "bytes": plan.stages[0].operation.bytes_in, "steps": steps}
    found |= {"sum": sum(steps.values()), "cpu": one.cpu, "startup": start, "left": one.cpu - start, "ratio": ratio}
    return found | {"wall": one.wall, "peak": one.peak}


def show(found: dict[str, Any]) -> None:
    """Print the figures of a job as a table."""
    print(f"{found['job']} {'x'.join(map(str, found['size']))}, medians of {found['runs']}; {machine()}")
    rows = [(step, f"{spent:.2f}") for step, spent in found["steps"].items() if spent]
    rows += [(name, f"{found[key]:.2f}") for name, key in (("sum", "sum"), ("wkdask", "cpu"), ("- start-up (64^3)", "startup"))]
    print_rows([("step", "cpu s"), *rows, ("left", f"{found['left']:.2f}"), ("left / sum", f"{found['ratio']:.2f}")])
    print(f"wall {found['wall']:.2f} s, peak {found['peak'] / 1e6:.0f} MB")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", nargs="*", help=f"of {', '.join(JOBS)} (default: all)")
    parser.add_argument("--size", type=parse_size, default=(1024, 1024, 256), help="x,y,z voxels (default 1024,1024,256)")
    parser.add_argument("--runs", type=int, default=3, help="of which medians are taken (default 3)")
    parser.add_argument("--work", type=Path, default=default_work(), help="folder of inputs and results (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    if unknown := set(options.jobs) - set(JOBS):
        parser.error(f"there is no job {', '.join(sorted(unknown))}; there are {', '.join(JOBS)}")
    found = []
    for job in options.jobs or JOBS:
        found.append(measure(job, options.size, options.work, options.runs))
        if not options.json:
            show(found[-1])
    if options.json:
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
