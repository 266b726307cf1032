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
    none = "none"


ChunkShape = Annotated[str, typer.Option(metavar="X,Y,Z", help="Voxels of a chunk, such as 32 or 32,32,32.")]
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
        help="Compressor: zstd, gzip or none in Zarr 3 (default zstd:5); lz4hc, lz4 or none in WKW "
        "(default lz4hc; lz4 for segmentations that it makes as small).",
    ),
]
MaxMag = Annotated[str | None, typer.Option(help="Coarsest magnification, such as 16 or 16-16-8.")]
SamplingMode = Annotated[str, typer.Option(help="anisotropic, isotropic or constant_z.")]
Interpolation = Annotated[
    str, typer.Option(help="default (median for color, mode for segmentation), median, mode, nearest, bilinear, max, min.")
]
Jobs = Annotated[int | None, typer.Option(min=1, help="Tasks at once. Default: the number of cores.")]
Strategy = Annotated[str, typer.Option(help="Where tasks run: threads, processes, sequential, local, or tcp://HOST:PORT.")]
MemoryLimit = Annotated[
    str | None, typer.Option(metavar="BYTES", help="Memory to use, such as 4GB. Default: 60 % of what there is.")
]
Scratch = Annotated[Path | None, typer.Option(help="Folder for what is being written. Default: a hidden one in the target.")]
DryRun = Annotated[bool, typer.Option(help="Only say what would be done.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Progress = Annotated[Show, typer.Option(help="A bar, a line now and then, or nothing.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Say more.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but errors.")]


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
