"""``wkdask verify``."""

from __future__ import annotations

from typing import Annotated

import typer

from wkdask.cli import options as o


def verify(
    target: Annotated[str, typer.Argument(help="Folder of a dataset.")],
    layer_name: Annotated[
        list[str] | None, typer.Option("--layer-name", "--layer", help="Only this layer; may be given several times.")
    ] = None,
    mag: Annotated[list[str] | None, typer.Option(help="Only this magnification; may be given several times.")] = None,
    digests: Annotated[
        bool, typer.Option("--digests", help="Compare units with what was recorded when they were made; decode none.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Count notes as faults: unfinished runs, what could not be checked.")
    ] = False,
    jobs: o.Jobs = None,
    distribution_strategy: o.Strategy = "threads",
    job_resources: o.JobResources = None,
    memory_limit: o.MemoryLimit = None,
    as_json: o.AsJson = False,
    progress: o.Progress = o.Show.auto,
    verbose: o.Verbose = False,
    quiet: o.Quiet = False,
) -> None:
    """Check that every unit of a dataset can be read, and that its documents and files agree.

    Nothing is written. The exit code is 0 where all is sound, and 5 where there is any fault.
    """
    from wkdask.cli.output import emit, show_progress
    from wkdask.cli.running import pool_of
    from wkdask.errors import DamagedError
    from wkdask.geometry import Mag
    from wkdask.operations.verify import Selected
    from wkdask.operations.verify import verify as checked
    from wkdask.storage import Location

    pool, limit = pool_of(distribution_strategy, jobs, memory_limit, job_resources)
    selected = Selected(tuple(layer_name or ()), tuple(map(Mag, mag or ())), digests)
    with show_progress(progress.value if not quiet else "none", verbose, pool) as tell:
        found = checked(Location.of(target), selected, pool=pool, memory_limit=limit, progress=tell)
    if as_json or not quiet or not found.ok:
        emit(found.to_dict() if as_json else found, "verify", as_json)
    if not found.ok or (strict and found.notes):
        raise typer.Exit(DamagedError.exit_code)
