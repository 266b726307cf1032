"""``wkdask copy-dataset``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from wkdask.cli import options as o
from wkdask.cli.groups import Means, Output, with_groups

if TYPE_CHECKING:
    from wkdask.operations.copying_shape import Wishes

DataFormat = Annotated[
    str | None, typer.Option(help="zarr3, wkw, zarr, n5 or neuroglancerPrecomputed. Default: that of each layer.")
]
ChunkShape = Annotated[str | None, typer.Option(metavar="X,Y,Z", help="Voxels of a chunk. Default: as they are.")]
ShardShape = Annotated[str | None, typer.Option(metavar="X,Y,Z", help="Voxels of a shard or WKW file. Default: as they are.")]
Compress = Annotated[
    bool | None, typer.Option("--compress/--no-compress", help="Whether chunks are compressed. Default: as they are.")
]
Codec = Annotated[
    str | None, typer.Option("--codec", metavar="NAME[:LEVEL]", help="Compressor. Default: as it is, or what is usual.")
]
Restart = Annotated[bool, typer.Option(help="Whether an unfinished run is given up and begun anew.")]


def wishes_of(
    data_format: str | None,
    chunk_shape: str | None,
    shard_shape: str | None,
    per_shard: str | None,
    compress: bool | None,
    codec: str | None,
) -> Wishes:
    """Return what of the storage is asked for, from the options that say so."""
    from wkdask.dataset.copying import wishes_of as parsed
    from wkdask.errors import InputError
    from wkdask.formats import parse_codec

    if codec and compress is False:
        raise InputError("Both --codec and --no-compress were given. Give one of them.")
    chunk, shard, chunks = (o.shape_of(text) if text else None for text in (chunk_shape, shard_shape, per_shard))
    found = parse_codec(codec) if codec else compress
    return parsed(data_format, chunk, shard, chunks, False if codec and found is None else found)


@with_groups
def copy_dataset(
    source: Annotated[str, typer.Argument(help="Folder of a dataset.")],
    target: Annotated[str, typer.Argument(help="Folder of the copy: new, or one that holds a copy that was begun.")],
    data_format: DataFormat = None,
    chunk_shape: ChunkShape = None,
    shard_shape: ShardShape = None,
    chunks_per_shard: o.ChunksPerShard = None,
    compress: Compress = None,
    codec: Codec = None,
    layer_name: Annotated[list[str] | None, typer.Option(help="Only this layer; may be given several times.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the copy. Default: that of its folder.")] = None,
    exists_ok: Annotated[
        bool, typer.Option(help="Whether there may be a dataset; what it has stays, what it lacks is copied.")
    ] = False,
    restart: Restart = False,
    *,
    means: Means,
    output: Output,
) -> None:
    """Copy a dataset, in the same or another format, with all that its JSON says and all attachments.

    What stays as it is is copied file by file. Stopped or killed at any moment, the same command goes on where it was.
    """
    from wkdask.arrays.opening import read_properties
    from wkdask.cli.running import run_all
    from wkdask.operations.copying import create_dataset, plan_copy_dataset
    from wkdask.storage import Location

    wishes = wishes_of(data_format, chunk_shape, shard_shape, chunks_per_shard, compress, codec)
    place, copy = Location.of(source), Location.of(target)
    like = read_properties(place).with_name(name or copy.name)
    pool, limit = means.pool()
    running = means.running(pool, limit, restart=restart)
    plans = plan_copy_dataset(
        place, copy, wishes, layers=layer_name or None, dataset=like, exists_ok=exists_ok, running=running
    )
    run_all(plans, pool, limit, output.telling("copy-dataset"))
    if not output.dry_run:
        create_dataset(copy, like)
