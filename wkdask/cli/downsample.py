"""``wkdask downsample``."""

from __future__ import annotations

from typing import Annotated

import typer

from wkdask.cli import options as o
from wkdask.cli.groups import Layout, Means, Output, with_groups

STORAGE_OPTIONS = {
    "chunk_shape": "chunk",
    "shard_shape": "shard",
    "chunks_per_shard": "shard",
    "compress": "codec",
    "codec": "codec",
}


@with_groups
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
    *,
    layout: Layout,
    means: Means,
    output: Output,
) -> None:
    """Make the coarser magnifications of a dataset's layers, each of the one before.

    Layers without any magnification are left out, unless they are named. Stopped or killed at any moment, the same command
    goes on where it was.
    """
    from wkdask.arrays.opening import read_properties
    from wkdask.cli.running import run_all
    from wkdask.geometry import Mag
    from wkdask.operations import Coarser, Sampling, SamplingModes, plan_downsample
    from wkdask.storage import Location

    place = Location.of(target)
    properties = read_properties(place)
    coarsest = Mag(coarsest_mag) if coarsest_mag else None
    sampling = Sampling(True, coarsest, SamplingModes.parse(sampling_mode), interpolation_mode)
    pool, limit = means.pool()
    running = means.running(pool, limit)
    chosen = frozenset(what for option, what in STORAGE_OPTIONS.items() if was_typed(context, option))
    plans = []
    aligned = {layer.name: [Mag(mag.mag) for mag in layer.mags] for layer in properties.data_layers}
    for name in dict.fromkeys(layer_name or properties.layer_names):
        layer = properties.layer(name)
        if not layer.mags and not layer_name:
            if not output.quiet:
                typer.echo(f"note: layer '{name}' has no magnification to start from, so it is left out", err=True)
            continue
        storage = layout.storage(str(layer.data_format))
        others = tuple(mag for other, mags in aligned.items() if other != name for mag in mags) if align else ()
        coarser = Coarser(Mag(from_mag) if from_mag else None, (), others, overwrite_existing, chosen=chosen)
        plan = plan_downsample(place, name, coarser, storage=storage, sampling=sampling, running=running)
        aligned[name] += [Mag(mag) for mag in plan.settings["mags"]]
        if plan.stages:
            plans.append(plan)
    run_all(plans, pool, limit, output.telling("downsample"))


def was_typed(context: typer.Context, option: str) -> bool:
    """Whether an option was typed, rather than left at its default."""
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"
