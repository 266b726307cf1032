"""``wkdask work``: joins what is under way in a dataset, beside the processes that work on it already."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wkdask.cli import options as o

if TYPE_CHECKING:
    from wkdask.storage import Location

LOOK_SECONDS = 0.5

Jobs = dict[str, dict[str, Any]]


def work(
    target: Annotated[str, typer.Argument(help="Folder or URL of a dataset.")],
    layer_name: Annotated[list[str] | None, typer.Option(help="Only this layer; may be given several times.")] = None,
    wait: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long to wait for work, where there is none.")
    ] = 0.0,
    jobs: o.Jobs = None,
    memory_limit: o.MemoryLimit = None,
    as_json: o.AsJson = False,
    progress: o.Progress = o.Show.auto,
    verbose: o.Verbose = False,
    quiet: o.Quiet = False,
) -> None:
    """Take part in what is under way in a dataset, or was left unfinished, beside other processes that do.

    Processes on any number of machines that see the folder share the work, without a scheduler.
    """
    from wkdask.cli.output import emit
    from wkdask.cli.resume import commands_of, spoken
    from wkdask.storage import Location

    place = Location.of(target)
    words = spoken({"--jobs": jobs, "--distribution-strategy": "leases", "--memory-limit": memory_limit})
    words += spoken({"--progress": progress.value}, {"--json": as_json, "--verbose": verbose, "--quiet": quiet})
    seen: set[str] = set()
    left = _wait_for_jobs(place, layer_name, wait, quiet)
    while new := {key: job for key, job in left.items() if str(job.get("fingerprint")) not in seen}:
        seen |= {str(job.get("fingerprint")) for job in new.values()}
        for command, folder in list(commands_of(place, new)):
            _join(place, new, command, folder, words)
        left = _jobs(place, layer_name)
    if not seen and not quiet:
        emit({"layers": []} if as_json else "Nothing to do.", "work", as_json)


def _jobs(place: Location, layers: list[str] | None) -> Jobs:
    from wkdask.plan import unfinished_jobs

    return {key: job for key, job in unfinished_jobs(place).items() if not layers or key in layers}


def _wait_for_jobs(place: Location, layers: list[str] | None, seconds: float, quiet: bool) -> Jobs:
    """Return what is under way, as soon as anything is, or nothing when the time is over."""
    from wkdask.cli.resume import require_there

    until = time.monotonic() + seconds
    found = _jobs(place, layers)
    if not found and seconds and not quiet:
        typer.echo(f"{place}: nothing to do yet; waiting for {seconds:g} s at most.", err=True)
    while not found and time.monotonic() < until:
        time.sleep(LOOK_SECONDS)
        found = _jobs(place, layers)
    require_there(place)
    return found


def _join(place: Location, jobs: Jobs, command: tuple[str, ...], folder: str, words: list[str]) -> None:
    """Run a command again, to join only; that others end the job meanwhile is as good as any end."""
    from wkdask.cli.resume import run_again
    from wkdask.errors import InterruptedRunError, UnitsFailedError, WkdaskError

    try:
        run_again(command, folder, words, joins=True)
    except (InterruptedRunError, UnitsFailedError):
        raise
    except WkdaskError:
        if _jobs(place, list(jobs)):
            raise
