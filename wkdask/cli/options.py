"""Options that several commands have."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Show(StrEnum):
    """How progress is shown."""

    auto = "auto"
    rich = "rich"
    plain = "plain"
    json = "json"
    none = "none"


VoxelSize = Annotated[
    str | None,
    typer.Option("--voxel-size", metavar="X,Y,Z", help="Edges of one voxel, such as 11.24,11.24,28. Default: the dataset's."),
]
Unit = Annotated[str, typer.Option(help="Unit of the voxel size, by its full name.")]
DatasetName = Annotated[str | None, typer.Option("--name", help="Name of a new dataset. Default: the name of the target.")]
DataFormat = Annotated[str, typer.Option(help="zarr3, wkw, zarr, n5 or neuroglancerPrecomputed.")]
FlipAxes = Annotated[
    str,
    typer.Option("--flip-axes", "--flip", metavar="AXES", help="Axes to mirror, such as 1,2,3, which are x, y and z; or xz."),
]
Downsample = Annotated[bool, typer.Option(help="Whether coarser magnifications are made.")]
OverwriteExisting = Annotated[bool, typer.Option(help="Delete the dataset at the target first.")]
Restart = Annotated[
    bool, typer.Option("--restart", help="Give up an unfinished conversion into the same layer, and begin anew.")
]
ChunkShape = Annotated[
    str | None,
    typer.Option(metavar="X,Y,Z", help="Voxels of a chunk, such as 32 or 32,32,32. Default: 32; N5 and precomputed: 64."),
]
ShardShape = Annotated[
    str | None,
    typer.Option(
        metavar="X,Y,Z",
        help="Voxels of a shard or WKW file. Default: 1024; for images and flat layers in Zarr 3 4096,4096,32.",
    ),
]
ChunksPerShard = Annotated[str | None, typer.Option(metavar="X,Y,Z", help="Instead of --shard-shape: chunks of a shard.")]
Compress = Annotated[bool, typer.Option(help="Whether chunks are compressed.")]
CodecName = Annotated[
    str | None,
    typer.Option(
        "--codec",
        metavar="NAME[:LEVEL]",
        help="Compressor, or none. Zarr: zstd (default zstd:5), gzip, blosc-lz4 and the like; N5 also lz4 (default gzip:5). "
        "WKW: lz4hc, lz4 (default lz4hc; lz4 for segmentations that it makes as small). Neuroglancer: "
        "compressed_segmentation, png.",
    ),
]
MaxMag = Annotated[str | None, typer.Option(help="Coarsest magnification, such as 16 or 16-16-8.")]
SamplingMode = Annotated[str, typer.Option(help="anisotropic, isotropic or constant_z.")]
Interpolation = Annotated[
    str,
    typer.Option(
        help="default (median for color, mode for segmentation), median, mode, mean (or bilinear), bicubic, nearest, max, min."
    ),
]
Jobs = Annotated[int | None, typer.Option(min=1, help="Tasks at once. Default: cores, 4 x as many to stores. Of Slurm: jobs.")]
Strategy = Annotated[
    str,
    typer.Option(
        help="Where tasks run: threads, processes, sequential, leases, local, slurm, slurm+batching, tcp://HOST:PORT, PROFILE."
    ),
]
JobResources = Annotated[
    str | None,
    typer.Option(
        metavar="NAME=VALUE,...",
        help="What a job of Slurm asks for, by long options of sbatch, such as mem=10G,time=02:00:00; or as JSON.",
    ),
]
MemoryLimit = Annotated[
    str | None, typer.Option(metavar="BYTES", help="Memory to use, such as 4GB. Default: 60 % of what there is.")
]
Scratch = Annotated[Path | None, typer.Option(help="Folder for what is being written. Default: a hidden one in the target.")]
DryRun = Annotated[bool, typer.Option(help="Only say what would be done.")]
Probe = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", help="First do N tasks of each stage that reads, to a folder that is discarded, and measure."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Progress = Annotated[Show, typer.Option(help="A bar, a line now and then, lines of JSON, or nothing.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Say more.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but errors.")]


Where = tuple[str, int | None, str | None, str | None]
"""Strategy, jobs, memory limit and job resources, as typed."""


def shape_of(text: str) -> tuple[int, int, int]:
    """Read ``32`` or ``32,32,32``.

    Examples
    --------
    >>> shape_of("32"), shape_of("64,64,32")
    ((32, 32, 32), (64, 64, 32))
    """
    from wkdask.errors import InputError

    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 3):
        raise InputError(f"{text!r} is no shape. Write it as 32 or 32,32,32.")
    x, y, z = numbers * 3 if len(numbers) == 1 else numbers
    return (x, y, z)
