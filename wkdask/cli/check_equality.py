"""``wkdask check-equality``."""

from __future__ import annotations

from typing import Annotated

import typer

from wkdask.cli import options as o
from wkdask.cli import reading as r


def check_equality(
    source: Annotated[str, typer.Argument(help="Folder of a dataset.")],
    target: Annotated[str, typer.Argument(help="Folder of the dataset that is compared with it.")],
    layer_name: r.LayerNames = None,
    mag: r.Mags = None,
    every: Annotated[bool, typer.Option("--all", help="Go on after the first difference, and count all that differ.")] = False,
    jobs: o.Jobs = None,
    distribution_strategy: o.Strategy = "threads",
    job_resources: o.JobResources = None,
    memory_limit: o.MemoryLimit = None,
    as_json: o.AsJson = False,
    progress: o.Progress = o.Show.auto,
    verbose: o.Verbose = False,
    quiet: o.Quiet = False,
) -> None:
    """Compare two datasets: layers, boxes, magnifications, dtypes, voxel sizes, and every voxel, however they are stored.

    Nothing is written. The exit code is 0 where they are equal, and 1 where they differ.
    """
    from wkdask.cli.output import emit
    from wkdask.operations.equality import check_equality as compared
    from wkdask.storage import Location

    show = o.Show.none if quiet else progress
    where = distribution_strategy, jobs, memory_limit, job_resources
    with r.running(where, show, verbose) as run:
        chosen = r.chosen_of(layer_name, mag)
        found = compared(Location.of(source), Location.of(target), chosen, every=every, run=run)
    if as_json or not quiet:
        emit(found.to_dict() if as_json else found, "check-equality", as_json)
    if not found.equal:
        raise typer.Exit(1)
