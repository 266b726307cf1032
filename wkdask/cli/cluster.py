"""``wkdask cluster doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wkdask.cli import options as o

cluster = typer.Typer(name="cluster", help="Look at where plans would run.", no_args_is_help=True)


@cluster.callback()
def group() -> None:
    """Look at where plans would run."""


@cluster.command()
def doctor(
    distribution_strategy: Annotated[
        str, typer.Option(help="Which cluster: local, slurm, slurm+batching, tcp://HOST:PORT, or a profile.")
    ] = "local",
    jobs: o.Jobs = None,
    job_resources: o.JobResources = None,
    folder: Annotated[
        Path, typer.Option(metavar="PATH", help="Where a dataset would be: a file is made there, and all workers look for it.")
    ] = Path(),
    timeout: Annotated[float, typer.Option(metavar="SECONDS", min=0, help="How long to wait for workers.")] = 120.0,
    as_json: o.AsJson = False,
) -> None:
    """Say what is here, what will be asked for, and whether each worker is fit; then end what was started.

    The exit code is 0 where all is well, and 1 where something is wrong.
    """
    from wkdask.cli.output import emit
    from wkdask.clusters.doctor import diagnose
    from wkdask.clusters.settings import Choice

    found = diagnose(Choice(distribution_strategy, jobs, job_resources), folder.absolute(), timeout)
    emit(found.to_dict() if as_json else found, "cluster doctor", as_json)
    if not found.ok:
        raise typer.Exit(1)
