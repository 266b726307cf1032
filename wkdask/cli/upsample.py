"""``wkdask upsample``."""

from __future__ import annotations

from typing import Annotated

import typer

from wkdask.cli import options as o
from wkdask.cli.downsample import STORAGE_OPTIONS, was_typed
from wkdask.cli.groups import Layout, Means, Output, with_groups


@with_groups
def upsample(
    context: typer.Context,
    target: Annotated[str, typer.Argument(help="Folder of a dataset.")],
    from_mag: Annotated[str, typer.Option(help="What to start from, such as 4 or 4-4-1.")],
    layer_name: Annotated[
        list[str] | None, typer.Option(help="Only this layer; may be given several times. Default: all that have that mag.")
    ] = None,
    finest_mag: Annotated[str, typer.Option(help="Where to end.")] = "1",
    sampling_mode: o.SamplingMode = "anisotropic",
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
    """Make finer magnifications of a dataset's layers: every voxel of a coarse one fills its whole block of finer ones.

    Stopped or killed at any moment, the same command goes on where it was.
    """
    from wkdask.arrays.opening import read_properties
    from wkdask.cli.running import run_all
    from wkdask.geometry import Mag
    from wkdask.operations import Sampling, SamplingModes
    from wkdask.operations.upsample import Finer, plan_upsample
    from wkdask.storage import Location

    place, start, finest = Location.of(target), Mag(from_mag), Mag(finest_mag)
    properties = read_properties(place)
    sampling = Sampling(mode=SamplingModes.parse(sampling_mode))
    pool, limit = means.pool()
    running = means.running(pool, limit)
    chosen = frozenset(what for option, what in STORAGE_OPTIONS.items() if was_typed(context, option))
    plans = []
    for name in dict.fromkeys(layer_name or properties.layer_names):
        layer = properties.layer(name)
        if not layer_name and start not in {Mag(mag.mag) for mag in layer.mags}:
            if not output.quiet:
                typer.echo(f"note: layer '{name}' has no magnification {start}, so it is left out", err=True)
            continue
        storage = layout.storage(str(layer.data_format))
        others = [Mag(mag.mag) for other in properties.data_layers if other.name != name for mag in other.mags]
        finer = Finer(start, finest, tuple(others) if align else (), overwrite_existing, chosen)
        plan = plan_upsample(place, name, finer, storage=storage, sampling=sampling, running=running)
        if plan.stages:
            plans.append(plan)
    run_all(plans, pool, limit, output.telling("upsample"))
