"""``wkdask diff``."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from wkdask.cli import options as o
from wkdask.cli import reading as r

if TYPE_CHECKING:
    from wkdask.operations.content_hash import Chosen
    from wkdask.operations.content_tree import ContentTree
    from wkdask.operations.read_only import Run


def diff(
    a: Annotated[str, typer.Argument(help="Folder of a dataset, or a file that wkdask hash --save wrote.")],
    b: Annotated[str, typer.Argument(help="The other one.")],
    layer_name: r.LayerNames = None,
    mag: r.Mags = None,
    most: Annotated[int, typer.Option("--most", min=1, help="Name so many differences at most.")] = 1000,
    jobs: o.Jobs = None,
    distribution_strategy: o.Strategy = "threads",
    job_resources: o.JobResources = None,
    memory_limit: o.MemoryLimit = None,
    as_json: o.AsJson = False,
    progress: o.Progress = o.Show.auto,
    verbose: o.Verbose = False,
    quiet: o.Quiet = False,
) -> None:
    """Name the cells of 32^3 voxels in which two datasets, or their saved hashes, differ.

    Nothing is written. The exit code is 0 where they do not differ, and 1 where they do.
    """
    from wkdask.cli.output import emit
    from wkdask.operations.content_tree import differences

    where = distribution_strategy, jobs, memory_limit, job_resources
    with r.running(where, o.Show.none if quiet else progress, verbose) as run:
        chosen = r.chosen_of(layer_name, mag)
        trees = [_tree(place, chosen, run) for place in (a, b)]
    found = list(islice(differences(*trees), most + 1))
    named, more = found[:most], len(found) > most
    if as_json:
        emit({"equal": not found, "differences": [x.to_dict() for x in named], "more": more}, "diff", as_json)
    elif not quiet:
        lines = [*map(str, named), *(["and more; --most names them"] if more else [])]
        emit("\n".join(lines) or f"{a} and {b} do not differ", "diff", as_json)
    if found:
        raise typer.Exit(1)


def _tree(place: str, chosen: Chosen, run: Run) -> ContentTree:
    """Return the tree of a dataset, or that of a file, with no more of it than was chosen."""
    from wkdask.operations.content_hash import content_tree
    from wkdask.operations.tree_file import load_tree
    from wkdask.storage import Location

    where = Location.of(place)
    if where.is_local and where.is_file():
        return load_tree(where.local_path).only(chosen.layers, [m.to_layer_name() for m in chosen.mags])
    return content_tree(where, chosen, run)
