"""``wkdask hash``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wkdask.cli import options as o
from wkdask.cli import reading as r


def content_hash(
    dataset: Annotated[str, typer.Argument(help="Folder of a dataset.")],
    layer_name: r.LayerNames = None,
    mag: r.Mags = None,
    content_only: Annotated[
        bool, typer.Option("--content-only", help="Of the layers' content alone: not of their names, nor of the voxel size.")
    ] = False,
    save: Annotated[Path | None, typer.Option(metavar="FILE", help="Save the hashes of all cells, for wkdask diff.")] = None,
    jobs: o.Jobs = None,
    distribution_strategy: o.Strategy = "threads",
    job_resources: o.JobResources = None,
    memory_limit: o.MemoryLimit = None,
    as_json: o.AsJson = False,
    progress: o.Progress = o.Show.auto,
    verbose: o.Verbose = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print the hash of the dataset alone.")] = False,
) -> None:
    """Hash the voxels of a dataset. The hash is the same in any format, with any chunks, shards, compression and order of axes.

    Nothing is written to the dataset.
    """
    from wkdask.cli.output import emit
    from wkdask.operations.content_hash import content_tree
    from wkdask.operations.tree_file import save_tree
    from wkdask.storage import Location

    where = distribution_strategy, jobs, memory_limit, job_resources
    with r.running(where, o.Show.none if quiet else progress, verbose) as run:
        tree = content_tree(Location.of(dataset), r.chosen_of(layer_name, mag), run)
    if save is not None:
        save_tree(tree, save)
    if as_json:
        emit(tree.to_dict(content_only), "hash", as_json)
    elif quiet:
        typer.echo(tree.content if content_only else tree.hash)
    else:
        emit(tree.told(content_only), "hash", as_json)
