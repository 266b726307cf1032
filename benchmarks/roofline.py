"""Hold `wkdask convert` and `wkdask downsample` against the least that their work can cost.

Each step of a job is measured alone on the same bytes, in one thread, in processor seconds, the page cache warm:

read     the bytes of the files, from the page cache
decode   decompressing the images, or the chunks of the finest magnification
place    copying decoded chunks to where they belong (only where chunks are read)
kernel   reducing each magnification to the next, compiled kernels warmed up
reorder  copying voxels into chunks, of all magnifications
encode   the compressor itself on these chunks, its context reused
write    encoded chunks and indexes to files, and copying those that the plan writes in parts and joins

Their sum is the roofline. Then the real command runs on the same input as a process with threads. From its processor seconds
(user and system, of all its processes) start-up is taken off: what the same command takes for 64^3 voxels of the same kind;
and, in jobs that use them, what loading the compiled kernels from their cache takes. What is left, over the sum, is the
ratio: 1.25 is the aim, 1.5 the most. It is taken for each turn, roofline and command one after the other, as the processor's
speed wanders; what is shown is the median. The flat command runs in each turn too, for the ratio of wall seconds of pyramid
and flat (aim: at most 1.7).

    python benchmarks/roofline.py convert-em --size 2048,2048,64 --codec zstd:5 --runs 3
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import shutil
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median as middle
from typing import Any

import numpy as np
from data import Size, default_work, parse_size, prepared
from measuring import Run, machine, median, print_rows, run, wkdask

from wkdask import kernels
from wkdask.formats import Zarr3Array, parse_codec
from wkdask.formats.codecs import decode, encoder
from wkdask.formats.shard import MISSING, ShardIndex
from wkdask.formats.wkw_file import block_number
from wkdask.geometry.grid import Box
from wkdask.images import ImageStack, find_images
from wkdask.images.picture import parsed
from wkdask.metadata import VoxelSize
from wkdask.operations import Into, Sampling, Storage, plan_convert, plan_downsample
from wkdask.operations.level import Level
from wkdask.operations.tiles import WriteTiles
from wkdask.plan import Plan
from wkdask.storage import Location

WKW = ("--data-format", "wkw")
JOBS = {
    "convert-em": ("em", ("--layer-name", "color")),
    "convert-em-flat": ("em", ("--layer-name", "color", "--no-downsample")),
    "convert-em-wkw": ("em", ("--layer-name", "color", *WKW)),
    "convert-labels": ("labels", ("--layer-name", "seg", "--category", "segmentation")),
    "downsample-em": ("em", ("--layer-name", "color")),
    "downsample-em-wkw": ("em", ("--layer-name", "color", *WKW)),
    "downsample-labels": ("labels", ("--layer-name", "seg", "--category", "segmentation")),
}
STEPS = ("read", "decode", "place", "kernel", "reorder", "encode", "write")
AT_ONCE = 64
"""Chunks that are reordered, then encoded, between two looks at the clock."""

SLAB_BYTES = 8 << 20
"""Voxels that are reduced at once."""

LOAD_KERNELS = """
import time, numpy
from wkdask import kernels
begin = time.process_time()
kernels.reduce(numpy.zeros((1, 4, 4, 4), {dtype!r}, "F"), (1, 2, 2, 1), {mode!r}, large=True)
print(time.process_time() - begin)
"""


@dataclass
class Clock:
    """Processor seconds of this thread, by step."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Count what happens inside the block."""
        begin = time.thread_time()
        yield
        self.seconds[step] += time.thread_time() - begin


def read_slab(stack: ImageStack, planes: range, out: np.ndarray[Any, Any], clock: Clock) -> None:
    """Read and decode some planes, straight to where they belong."""
    for z in planes:
        file_index, page = divmod(z, stack.depths[0])
        path = os.path.join(stack.folder, stack.files[stack.plan[file_index]])
        picture: Any = parsed(path)
        target = out[z - planes.start].reshape(-1).view(np.uint8)
        done = 0
        file = os.open(path, os.O_RDONLY)
        for offset, count in zip(picture.offsets[page].tolist(), picture.counts[page].tolist(), strict=True):
            if picture.layout.raw:
                with clock("read"):
                    done += os.preadv(file, [target[done : done + count]], offset)
                continue
            with clock("read"):
                data = os.pread(file, count, offset)
            step = min(picture.layout.segment[0] * picture.layout.row_bytes, len(target) - done)
            with clock("decode"):
                inflated(data, target[done : done + step])
            done += step
        os.close(file)


def inflated(data: bytes, out: np.ndarray[Any, Any]) -> None:
    """Decompress by the fastest library that is installed."""
    try:
        from imagecodecs import deflate_decode
    except ImportError:
        out[:] = np.frombuffer(zlib.decompress(data), np.uint8)
    else:
        deflate_decode(data, out=out)


def read_volume(stack: ImageStack, clock: Clock) -> np.ndarray[Any, Any]:
    """Return all voxels as (c, x, y, z), read twice by slabs: the first time fills the page cache and the memory."""
    z, y, x = stack.shape
    volume = np.empty((z, y, x, stack.channels), stack.dtype)
    for timer in (Clock(), clock):
        for start in range(0, z, 32):
            stop = min(start + 32, z)
            read_slab(stack, range(start, stop), volume[start:stop], timer)
    return volume.transpose()


def decode_volume(array: Any, box: Box, clock: Clock) -> np.ndarray[Any, Any]:
    """Return a box of an array that starts at 0: files read whole, chunks decoded one by one, then placed."""
    spec = array.spec
    out = np.zeros(box.shape, spec.dtype, order="F")
    for index in array.written_units():
        data = memoryview(array.unit_location(index).read_bytes())  # fills the page cache
        with clock("read"):
            data = memoryview(array.unit_location(index).read_bytes())
        unit = spec.grid.unit_box(index)
        for cell, offset, size in stored_chunks(array, index):
            with clock("decode"):
                chunk = decode(spec.codec, data[offset : offset + size], math.prod(spec.chunk) * spec.itemsize)
            start = tuple(u + i * c for u, i, c in zip(unit.start, cell, spec.chunk, strict=True))
            hit = Box(start, tuple(a + c for a, c in zip(start, spec.chunk, strict=True))).intersect(box)
            voxels = np.frombuffer(chunk, spec.dtype).reshape(spec.chunk[::-1])
            with clock("place"):
                out.T[hit.slices[::-1]] = voxels[tuple(slice(0, n) for n in hit.shape[::-1])]
    return out


def stored_chunks(array: Any, index: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], int, int]]:
    """Yield place in the unit, offset and bytes of each stored chunk of a unit."""
    per_unit = array.spec.grid.chunks_per_unit
    if isinstance(array, Zarr3Array):
        for number, (offset, size) in enumerate(array.entries(index).tolist()):
            if offset != MISSING:
                yield tuple(int(i) for i in np.unravel_index(number, per_unit)), offset, size
        return
    file = array.file(index)
    for cell in itertools.product(*map(range, per_unit)):
        number = block_number(cell)
        start, stop = file.start(number), file.start(number + 1)
        yield cell, start, stop - start


def reduced(block: np.ndarray[Any, Any], level: Level, clock: Clock) -> np.ndarray[Any, Any]:
    """Reduce a magnification to the next, by slabs; odd ends are repeated before the clock runs."""
    odd = [(0, -n % f) for n, f in zip(block.shape, level.factor, strict=True)]
    if any(more for _, more in odd):
        block = np.asfortranarray(np.pad(block, odd, mode="edge"))
    out = np.empty([n // f for n, f in zip(block.shape, level.factor, strict=True)], block.dtype, order="F")
    factor = level.factor[3]
    kernels.reduce(block[..., :factor], level.factor, level.mode, large=True)
    depth = factor * max(1, SLAB_BYTES * block.shape[3] // block.nbytes // factor)
    for start in range(0, block.shape[3], depth):
        slab = block[..., start : start + depth]
        with clock("kernel"):
            small = kernels.reduce(slab, level.factor, level.mode, large=True)
        out[..., start // factor : start // factor + small.shape[3]] = small
    return out


def write_level(level: Level, block: np.ndarray[Any, Any], folder: Path, clock: Clock) -> int:
    """Reorder, encode and write all units of a magnification; return the bytes."""
    folder.mkdir(parents=True)
    spec, written = level.array.spec, 0
    encode = encoder(spec.codec)
    room = np.zeros((AT_ONCE, *spec.chunk[::-1]), spec.dtype)
    for number in range(len(level.units)):
        unit = spec.grid.unit_box(level.units.cell(number)).intersect(level.box)
        encoded: list[Any] = []
        chunks = itertools.product(*(range(a, b, c) for a, b, c in zip(unit.start, unit.stop, spec.chunk, strict=True)))
        while some := list(itertools.islice(chunks, AT_ONCE)):
            with clock("reorder"):
                reorder(block, some, room)
            with clock("encode"):
                encoded += [encode(chunk.reshape(-1).view(np.uint8).data) for chunk in room[: len(some)]]
        with clock("write"):
            written += write_file(folder / str(number), encoded, math.prod(spec.grid.chunks_per_unit), joined=not level.direct)
    return written


def reorder(block: np.ndarray[Any, Any], origins: list[tuple[int, ...]], room: np.ndarray[Any, Any]) -> None:
    """Copy the chunks at some origins behind each other."""
    stored, shape = block.transpose(), room.shape[:0:-1]
    for chunk, origin in zip(room, origins, strict=False):
        stop = tuple(min(o + c, n) for o, c, n in zip(origin, shape, block.shape, strict=True))
        piece = stored[Box(origin, stop).slices[::-1]]
        if piece.shape == chunk.shape:
            chunk[...] = piece
        else:
            chunk[...] = 0
            chunk[tuple(map(slice, piece.shape))] = piece


def write_file(path: Path, encoded: list[Any], chunks: int, *, joined: bool) -> int:
    """Write encoded chunks and an index; where it is a part, copy that within the file system and delete it."""
    sizes = np.array([len(data) for data in encoded], np.uint64)
    entries = np.stack([np.arange(len(sizes), dtype=np.uint64), np.cumsum(sizes) - sizes, sizes], axis=1)
    with open(path, "wb") as file:
        for data in encoded:
            file.write(data)
        file.write(ShardIndex().build(entries, chunks))
        size = file.tell()
    if joined:
        with open(path, "rb") as part, open(path.with_suffix(".whole"), "wb") as whole:
            left = size
            while left:
                left -= os.copy_file_range(part.fileno(), whole.fileno(), left)
        path.unlink()
    return size


def roofline(plan: Plan, folder: Path) -> dict[str, float]:
    """Return the processor seconds of each step for all that a plan does."""
    shutil.rmtree(folder, ignore_errors=True)
    writes = [stage.operation for stage in plan.stages if isinstance(stage.operation, WriteTiles)]
    clock = Clock()
    source: Any = writes[0].source
    stack = getattr(source, "stack", None)
    block = read_volume(stack, clock) if stack else decode_volume(source.array, source.box, clock)
    for number, level in enumerate(level for write in writes for level in write.levels):
        if number or not stack:
            block = reduced(block, level, clock)
        write_level(level, block, folder / str(number), clock)
    shutil.rmtree(folder)
    return {step: clock.seconds.get(step, 0.0) for step in STEPS}


def planned(job: str, source: Path, target: Path, codec: str) -> Plan:
    """Return the plan that the command makes."""
    kind, arguments = JOBS[job]
    storage = Storage(codec=parse_codec(codec), data_format="wkw" if WKW[1] in arguments else "zarr3")
    into = Into("seg", "segmentation") if kind == "labels" else Into("color", "color")
    if job.startswith("downsample"):
        return plan_downsample(Location(str(flat_dataset(job, source, codec))), str(into.layer), storage=storage)
    size, sampling = VoxelSize.parse("4,4,35"), Sampling("--no-downsample" not in arguments)
    return plan_convert(find_images(source), target, size, into=into, storage=storage, sampling=sampling)


def flat_dataset(job: str, source: Path, codec: str) -> Path:
    """Return a dataset of the images without a pyramid, made once."""
    place = source.with_name(f"{source.name}-{job}-{codec.replace(':', '-')}-flat")
    if not place.exists():
        part = place.with_name(f"{place.name}.part")
        converted(job.replace("downsample", "convert"), source, part, codec, "--no-downsample")
        part.rename(place)
    return place


def converted(job: str, source: Path, target: Path, codec: str, *more: str) -> Run:
    """Run the command, into a place that it finds empty."""
    shutil.rmtree(target, ignore_errors=True)
    if job.startswith("downsample"):
        shutil.copytree(flat_dataset(job, source, codec), target)
        os.sync()
        return run([*wkdask("downsample", target, "--codec", codec, "--json", "--progress", "none"), *more])
    os.sync()
    command = wkdask("convert", source, target, "--voxel-size", "4,4,35", "--codec", codec, "--json", "--progress", "none")
    return run([*command, *JOBS[job][1], *more])


def startup(job: str, work: Path, codec: str, plan: Plan, runs: int) -> tuple[float, float]:
    """Return the processor seconds of start-up, and of loading the compiled kernels where the job uses them."""
    kind, arguments = JOBS[job]
    tiny = prepared(kind, (64, 64, 64), work)
    base = middle(converted(job, tiny, work / "out-tiny", codec).cpu for _ in range(runs))
    level = next(stage.operation for stage in plan.stages if isinstance(stage.operation, WriteTiles)).levels[0]
    if not level.large or "--no-downsample" in arguments:
        return base, 0.0
    code = LOAD_KERNELS.format(dtype=level.array.spec.dtype, mode=level.mode)
    command = [wkdask()[0], "-c", code]
    run(command)
    return base, middle(float(run(command).out) for _ in range(runs))


def measure(job: str, size: Size, codec: str, work: Path, runs: int) -> dict[str, Any]:
    """Return all figures of a job: medians of several runs, roofline and command in turn."""
    if WKW[1] in JOBS[job][1] and codec.startswith("zstd"):
        codec = "lz4hc"
    source = prepared(JOBS[job][0], size, work)
    target = work / f"out-{job}"
    plan = planned(job, source, target, codec)
    flat = job.endswith("-flat") or job.startswith("downsample")
    converted(job, source, target, codec)
    tops, ours, flats = [], [], []
    for _ in range(runs):
        tops.append(roofline(plan, work / f"roofline-{job}"))
        ours.append(converted(job, source, target, codec))
        flats += [] if flat else [converted(job, source, target, codec, "--no-downsample")]
    steps = {step: middle(top[step] for top in tops) for step in STEPS}
    one, (start, load) = median(ours), startup(job, work, codec, plan, runs)
    total, left = sum(steps.values()), one.cpu - start - load
    ratio = middle((one_run.cpu - start - load) / sum(top.values()) for one_run, top in zip(ours, tops, strict=True))
    shutil.rmtree(target)
    found = {"job": job, "size": size, "codec": codec, "runs": runs, "bytes": plan.stages[0].operation.bytes_in, "steps": steps}
    found |= {"sum": total, "cpu": one.cpu, "startup": start, "kernels": load, "left": left, "ratio": ratio}
    found |= {"wall": one.wall, "peak": one.peak, "predicted": json.loads(one.out)["predicted_bytes"]}
    if flats:
        other, by_flat = median(flats), [pyramid.wall / beside.wall for pyramid, beside in zip(ours, flats, strict=True)]
        found |= {"flat_wall": other.wall, "flat_cpu": other.cpu, "pyramid_by_flat": middle(by_flat)}
    return found


def show(found: dict[str, Any]) -> None:
    """Print the figures of a job as a table."""
    print(f"{found['job']} {'x'.join(map(str, found['size']))}, {found['codec']}, medians of {found['runs']}; {machine()}")
    megabytes = found["bytes"] / 1e6
    rows = [(step, f"{spent:.2f}", f"{megabytes / spent:.0f}" if spent else "") for step, spent in found["steps"].items()]
    rows += [("sum", f"{found['sum']:.2f}", f"{megabytes / found['sum']:.0f}")]
    rows += [(f"wkdask {found['job'].partition('-')[0]}", f"{found['cpu']:.2f}", f"{megabytes / found['cpu']:.0f}")]
    rows += [("- start-up (64^3)", f"{found['startup']:.2f}", ""), ("- loading kernels", f"{found['kernels']:.2f}", "")]
    rows += [("left", f"{found['left']:.2f}", f"{megabytes / found['left']:.0f}"), ("left / sum", f"{found['ratio']:.2f}", "")]
    print_rows([("step", "cpu s", "MB/s of input"), *rows])
    memory = f"peak {found['peak'] / 1e6:.0f} MB of {found['predicted'] / 1e6:.0f} MB predicted"
    print(f"wall {found['wall']:.2f} s, {memory}")
    if "flat_wall" in found:
        ratio = f"pyramid/flat {found['pyramid_by_flat']:.2f}"
        print(f"flat: wall {found['flat_wall']:.2f} s, cpu {found['flat_cpu']:.2f} s; {ratio}")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", nargs="*", help=f"of {', '.join(JOBS)} (default: all)")
    parser.add_argument("--size", type=parse_size, default=(1024, 1024, 256), help="x,y,z voxels (default 1024,1024,256)")
    parser.add_argument("--codec", default="zstd:5", help="as of wkdask convert (default zstd:5; lz4hc in WKW)")
    parser.add_argument("--runs", type=int, default=3, help="of which medians are taken (default 3)")
    parser.add_argument("--work", type=Path, default=default_work(), help="folder of inputs and results (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    if unknown := set(options.jobs) - set(JOBS):
        parser.error(f"there is no job {', '.join(sorted(unknown))}; there are {', '.join(JOBS)}")
    found = []
    for job in options.jobs or JOBS:
        found.append(measure(job, options.size, options.codec, options.work, options.runs))
        if not options.json:
            show(found[-1])
    if options.json:
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
