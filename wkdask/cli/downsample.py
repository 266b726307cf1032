"""``wkdask downsample``."""

from __future__ import annotations

from typing import Annotated

import typer

from wkdask.cli import options as o

STORAGE_OPTIONS = {
    "chunk_shape": "chunk",
    "shard_shape": "shard",
    "chunks_per_shard": "shard",
    "compress": "codec",
    "codec": "codec",
}


def downsample(
    context: typer.Context,
    target: Annotated[str, typer.Argument(help="Folder of a dataset.")],
    layer_name: Annotated[list[str] | None, typer.Option(help="Only this layer; may be given several times.")] = None,
    from_mag: Annotated[str | None, typer.Option(help="What to start from. Default: the coarsest that there is.")] = None,
    coarsest_mag: Annotated[
        str | None,
        typer.Option("--coarsest-mag", "--max-mag", help="Where to end. Default: where x and y have 100 voxels at most."),
    ] = None,
    sampling_mode: o.SamplingMode = "anisotropic",
    interpolation_mode: o.Interpolation = "default",
    align: Annotated[bool, typer.Option(help="Whether to take the magnifications that other layers have.")] = True,
    overwrite_existing: Annotated[
        bool,
        typer.Option(help="Whether magnifications that exist are made anew, in their chunks, and an unfinished run given up."),
    ] = False,
    chunk_shape: o.ChunkShape = "32",
    shard_shape: o.ShardShape = None,
    chunks_per_shard: o.ChunksPerShard = None,
    compress: o.Compress = True,
    codec: o.CodecName = None,
    jobs: o.Jobs = None,
    distribution_strategy: o.Strategy = "threads",
    memory_limit: o.MemoryLimit = None,
    scratch: o.Scratch = None,
    dry_run: o.DryRun = False,
    as_json: o.AsJson = False,
    progress: o.Progress = o.Show.auto,
    verbose: o.Verbose = False,
    quiet: o.Quiet = False,
) -> None:
    """Make the coarser magnifications of a dataset's layers, each of the one before.

    Layers without any magnification are left out, unless they are named. Stopped or killed at any moment, the same command
    goes on where it was.
    """
    from wkdask.arrays.opening import read_properties
    from wkdask.cli.output import typed_command
    from wkdask.cli.running import Telling, run_all, storage_of
    from wkdask.clusters import open_pool
    from wkdask.geometry import Mag
    from wkdask.operations import Coarser, Running, Sampling, SamplingModes, plan_downsample
    from wkdask.plan import parse_bytes
    from wkdask.storage import Location

    place = Location.of(target)
    properties = read_properties(place)
    coarsest = Mag(coarsest_mag) if coarsest_mag else None
    sampling = Sampling(True, coarsest, SamplingModes.parse(sampling_mode), interpolation_mode)
    limit = parse_bytes(memory_limit) if memory_limit else None
    pool = open_pool(distribution_strategy, jobs, limit)
    running = Running(pool.slots, limit or 0, typed_command(), 0, str(scratch) if scratch else "")
    chosen = frozenset(what for option, what in STORAGE_OPTIONS.items() if _was_typed(context, option))
    plans = []
    aligned = {layer.name: [Mag(mag.mag) for mag in layer.mags] for layer in properties.data_layers}
    for name in dict.fromkeys(layer_name or properties.layer_names):
        layer = properties.layer(name)
        if not layer.mags and not layer_name:
            if not quiet:
                typer.echo(f"note: layer '{name}' has no magnification to start from, so it is left out", err=True)
            continue
        storage = storage_of(str(layer.data_format), chunk_shape, shard_shape, chunks_per_shard, compress, codec)
        others = tuple(mag for other, mags in aligned.items() if other != name for mag in mags) if align else ()
        coarser = Coarser(Mag(from_mag) if from_mag else None, (), others, overwrite_existing, chosen=chosen)
        plan = plan_downsample(place, name, coarser, storage=storage, sampling=sampling, running=running)
        aligned[name] += [Mag(mag) for mag in plan.settings["mags"]]
        if plan.stages:
            plans.append(plan)
    run_all(plans, pool, limit, Telling("downsample", dry_run, as_json, progress, verbose, quiet))


def _was_typed(context: typer.Context, option: str) -> bool:
    """Whether an option was typed, rather than left at its default."""
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"
