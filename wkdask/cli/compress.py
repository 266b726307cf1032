"""``wkdask compress`` and ``wkdask rechunk``: storing magnifications in another way, in their place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from wkdask.cli import options as o
from wkdask.cli.copy_dataset import ChunkShape, Codec, Compress, DataFormat, Restart, ShardShape, wishes_of
from wkdask.cli.groups import Means, Output, with_groups

if TYPE_CHECKING:
    from wkdask.cli.running import Telling
    from wkdask.operations.copying_shape import Wishes

LayerName = Annotated[list[str] | None, typer.Option(help="Only this layer; may be given several times.")]
Mags = Annotated[list[str] | None, typer.Option("--mag", help="Only this magnification; may be given several times.")]


@dataclass(frozen=True)
class Chosen:
    """Which magnifications of a dataset: names of layers and mags, none for all."""

    target: str
    layers: Sequence[str]
    mags: Sequence[str]


@with_groups
def compress(
    target: Annotated[str, typer.Argument(help="Folder of a dataset.")],
    layer_name: LayerName = None,
    mag: Mags = None,
    codec: Codec = None,
    restart: Restart = False,
    *,
    means: Means,
    output: Output,
) -> None:
    """Compress the magnifications of a dataset that are not compressed, in their place.

    What is compressed is written beside the old files, and takes their place at once when all of a layer is complete. Stopped
    or killed at any moment, the same command goes on where it was.
    """
    wishes = wishes_of(None, None, None, None, True, codec)
    _rewrite(Chosen(target, layer_name or (), mag or ()), wishes, means, output.telling("compress"), restart)


@with_groups
def rechunk(
    target: Annotated[str, typer.Argument(help="Folder of a dataset.")],
    layer_name: LayerName = None,
    mag: Mags = None,
    data_format: DataFormat = None,
    chunk_shape: ChunkShape = None,
    shard_shape: ShardShape = None,
    chunks_per_shard: o.ChunksPerShard = None,
    compress: Compress = None,
    codec: Codec = None,
    restart: Restart = False,
    *,
    means: Means,
    output: Output,
) -> None:
    """Store magnifications in other chunks, shards, compression or format, in their place.

    What is new is written beside the old files, and takes their place at once when all of a layer is complete. Stopped or
    killed at any moment, the same command goes on where it was.
    """
    wishes = wishes_of(data_format, chunk_shape, shard_shape, chunks_per_shard, compress, codec)
    _rewrite(Chosen(target, layer_name or (), mag or ()), wishes, means, output.telling("rechunk"), restart)


def _rewrite(chosen: Chosen, wishes: Wishes, means: Means, telling: Telling, restart: bool) -> None:
    """Plan for each layer, and run."""
    from wkdask.arrays.opening import read_properties
    from wkdask.cli.running import run_all
    from wkdask.geometry import Mag
    from wkdask.operations.compressing import is_needed, plan_rechunk
    from wkdask.storage import Location

    place = Location.of(chosen.target)
    names = dict.fromkeys(chosen.layers or read_properties(place).layer_names)
    pool, limit = means.pool()
    running = means.running(pool, limit, restart=restart)
    mags = tuple(map(Mag, chosen.mags))
    plans = [plan_rechunk(place, name, wishes, mags, running=running) for name in names]
    run_all([plan for plan in plans if is_needed(plan)], pool, limit, telling)
