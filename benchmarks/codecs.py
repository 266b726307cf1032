"""Compare the compressors of `wkdask convert` on electron microscopy: wall and processor seconds, memory, bytes on disk.

Each line is a conversion with its pyramid. With ``--theirs``, the command line of the webknossos library converts the same
images in turn with ours (its codec is zstd:5), and its figures are divided by ours: above 1 means that ours is better.

    python benchmarks/codecs.py --codecs zstd:1,zstd:5
    python benchmarks/codecs.py --theirs peer/bin/webknossos --runs 1

With ``--encoding``, chunks alone are encoded: by each codec's library, by our encoder, and by the writer of a unit, which also
gathers the chunks from the volume and writes the file: processor seconds of one thread, best of the runs.

    python benchmarks/codecs.py --encoding --codecs none,zstd:5,gzip:5,blosc-lz4:5,blosc-zstd:3
"""

from __future__ import annotations

import argparse
import json
import shutil
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import zstandard
from data import Array, default_work, em_slice, parse_size, prepared
from measuring import Run, bytes_on_disk, machine, median, print_rows, run, timed, wkdask
from numcodecs import blosc

from wkdask.formats import ArraySpec, Codec, Zarr3, parse_codec
from wkdask.formats.codecs import encoder
from wkdask.storage import Location

ARGUMENTS = ("--voxel-size", "4,4,35", "--data-format", "zarr3", "--layer-name", "color")
THEIRS = "theirs zstd:5"


@dataclass(frozen=True)
class Row:
    """What a codec took, and the bytes of its result."""

    took: Run
    disk: int


def convert(command: list[object], target: Path) -> Row:
    """Convert into a place that is empty before and after."""
    shutil.rmtree(target, ignore_errors=True)
    took = run(command)
    disk = bytes_on_disk(target)
    shutil.rmtree(target)
    return Row(took, disk)


def measure(source: Path, target: Path, codecs: list[str], theirs: str | None, runs: int) -> dict[str, Row]:
    """Run all of them in turn; the first run of ours is not counted."""
    tail = [source, target, *ARGUMENTS]
    commands = {codec: wkdask("convert", *tail, "--codec", codec) for codec in codecs}
    convert(commands[codecs[0]], target)
    if theirs:
        commands[THEIRS] = [theirs, "convert", *tail]
    turns = [{name: convert(command, target) for name, command in commands.items()} for _ in range(runs)]
    return {name: Row(median([turn[name].took for turn in turns]), turns[0][name].disk) for name in commands}


def show(found: dict[str, Row], megabytes: float) -> None:
    """Print the figures, and theirs by ours."""
    rows: list[tuple[object, ...]] = [("codec", "wall s", "cpu s", "peak MB", "disk MB", "MB/s")]
    for name, row in found.items():
        took = row.took
        sizes = f"{took.peak / 1e6:.0f}", f"{row.disk / 1e6:.1f}", f"{megabytes / took.wall:.0f}"
        rows.append((name, f"{took.wall:.2f}", f"{took.cpu:.2f}", *sizes))
    theirs, ours = found.get(THEIRS), found.get("zstd:5")
    if theirs and ours:
        ratios = (theirs.took.wall / ours.took.wall, theirs.took.cpu / ours.took.cpu, theirs.took.peak / ours.took.peak)
        rows.append(("theirs / ours, zstd:5", *(f"{ratio:.2f}" for ratio in (*ratios, theirs.disk / ours.disk)), ""))
    print_rows(rows)


def library(codec: Codec | None) -> Callable[[memoryview], object]:
    """Return what the codec's own library does with a chunk of bytes."""
    if codec is None:
        return bytes
    if codec.name == "gzip":
        return lambda data: zlib.compress(data, codec.level, 31)
    if codec.name == "zstd":
        return zstandard.ZstdCompressor(level=codec.level, write_checksum=True).compress
    name = codec.name.removeprefix("blosc-").encode()
    return lambda data: blosc.compress(data, name, codec.level, blosc.BITSHUFFLE, typesize=1)


def encode_unit(volume: Array, codec: Codec | None, target: Path) -> None:
    """Write a volume as one shard."""
    shutil.rmtree(target, ignore_errors=True)
    spec = ArraySpec(volume.shape, "uint8", tuple("cxyz"), (1, 32, 32, 32), volume.shape, codec)
    with Zarr3().at(Location(str(target)), spec).unit((0, 0, 0, 0)) as unit:
        unit.put(spec.grid.box, volume)


def encoding(codecs: list[str], target: Path, runs: int) -> None:
    """Print megabytes of voxels encoded in a second, by the libraries and by us."""
    slices = [em_slice(z, (256, 256)) for z in range(256)]
    volume = np.asfortranarray(np.stack(slices, axis=-1).swapaxes(0, 1)[None])
    cells = np.ndindex(8, 8, 8)
    parts = [volume[0, 32 * x : 32 * x + 32, 32 * y : 32 * y + 32, 32 * z : 32 * z + 32] for x, y, z in cells]
    chunks = [memoryview(part.tobytes(order="F")) for part in parts]
    rows: list[tuple[object, ...]] = [("codec", "library MB/s", "encoder MB/s", "/ library", "unit MB/s", "/ library")]
    for text in codecs:
        codec = parse_codec(text)
        encode, ours = library(codec), encoder(codec)
        found = []
        for _ in range(runs):  # in turn, so that other work on the machine meets both
            bare, own = (timed(lambda one=one: [one(chunk) for chunk in chunks])[1] for one in (encode, ours))
            found.append((bare, own, timed(lambda codec=codec: encode_unit(volume, codec, target))[1]))
        bare, own, unit = (volume.size / 1e6 / min(one) for one in zip(*found, strict=True))
        rows.append((text, f"{bare:.0f}", f"{own:.0f}", f"{own / bare:.2f}", f"{unit:.0f}", f"{unit / bare:.2f}"))
    shutil.rmtree(target, ignore_errors=True)
    print_rows(rows)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codecs", default="zstd:1,zstd:5", help="separated by commas (default %(default)s)")
    parser.add_argument("--theirs", help="command line of the webknossos library")
    parser.add_argument("--size", type=parse_size, default=(1024, 1024, 256), help="x,y,z voxels (default 1024,1024,256)")
    parser.add_argument("--runs", type=int, default=3, help="of which medians are taken (default 3)")
    parser.add_argument("--work", type=Path, default=default_work(), help="folder of inputs and results (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--encoding", action="store_true", help="encode chunks alone, by the libraries and by us")
    options = parser.parse_args()
    if options.encoding:
        print(f"processor seconds of one thread; {machine()}")
        encoding(options.codecs.split(","), options.work / "out-encoding", options.runs)
        return
    source = prepared("em", options.size, options.work)
    found = measure(source, options.work / "out-codecs", options.codecs.split(","), options.theirs, options.runs)
    if options.json:
        print(json.dumps({name: asdict(row.took) | {"disk": row.disk, "out": ""} for name, row in found.items()}, indent=1))
        return
    x, y, z = options.size
    print(f"{x}x{y}x{z}, medians of {options.runs}; {machine()}")
    show(found, x * y * z / 1e6)


if __name__ == "__main__":
    main()
