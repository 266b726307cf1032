"""``wkdask status``: how far the unfinished runs of a dataset are, and who works on them."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wkdask.cli import options as o

if TYPE_CHECKING:
    from wkdask.plan.standing import Standing, Watch
    from wkdask.storage import Location, Owner

WATCH_SECONDS = 2.0


def status(
    target: Annotated[str, typer.Argument(help="Folder or URL of a dataset.")],
    watch: Annotated[bool, typer.Option("--watch", help="Look every two seconds, until nobody works on it any more.")] = False,
    as_json: o.AsJson = False,
) -> None:
    """Say how far the unfinished runs of a dataset are, and who works on them, from any terminal that sees it."""
    from wkdask.plan.standing import Watch
    from wkdask.storage import Location

    place = Location.of(target)
    require_dataset(place)
    looks = _looks(Watch(place), watch)
    if as_json:
        _tell_json(looks, watch)
    elif watch and sys.stdout.isatty():
        _redraw(looks)
    else:
        for jobs, owner in looks:
            typer.echo(as_text(place, jobs, owner))


def require_dataset(place: Location) -> None:
    """Raise `DatasetNotFoundError` where there is neither a dataset nor a run that makes one."""
    from wkdask.errors import DatasetNotFoundError
    from wkdask.metadata import FILE_NAME
    from wkdask.storage import WORK_FOLDER

    if not (place / FILE_NAME).is_file() and not (place / WORK_FOLDER).is_folder():
        raise DatasetNotFoundError(f"{place} is no dataset: {FILE_NAME} is missing. Check the path.")


def _looks(watch: Watch, again: bool) -> Iterator[tuple[Sequence[Standing], Owner | None]]:
    """Yield what there is to see: once, or every few seconds until nobody is at work."""
    while True:
        jobs, owner = watch.look(), watch.owner
        yield jobs, owner
        if not again or not (any(job.alive for job in jobs) or (owner and owner.alive)):
            return
        threading.Event().wait(WATCH_SECONDS)


def _tell_json(looks: Iterator[tuple[Sequence[Standing], Owner | None]], lines: bool) -> None:
    import json

    from wkdask.cli.output import JSON_VERSION, emit

    for jobs, owner in looks:
        document = {"run": owner_json(owner), "jobs": [job_json(job) for job in jobs]}
        if lines:
            typer.echo(json.dumps({"wkdask": JSON_VERSION, "command": "status", **document}))
        else:
            emit(document, "status", as_json=True)


def _redraw(looks: Iterator[tuple[Sequence[Standing], Owner | None]]) -> None:
    from rich.live import Live
    from rich.text import Text

    with Live(auto_refresh=False) as live:
        for jobs, owner in looks:
            live.update(Text("\n".join(_lines(jobs, owner))), refresh=True)


def job_json(job: Standing) -> dict[str, Any]:
    """Return how far a job is, as JSON."""
    return {
        "layer": job.key,
        "name": job.name,
        "command": job.command,
        "begun": job.begun,
        "alive": job.alive,
        "tasks": job.tasks,
        "tasks_done": job.done,
        "tasks_failed": job.failed,
        "stages": [{"name": s.name, "tasks": s.tasks, "tasks_done": s.done, "tasks_failed": s.failed} for s in job.stages],
        "bytes": job.bytes_in,
        "bytes_done": job.bytes_done,
        "bytes_per_second": round(job.rate),
        "seconds_left": None if job.seconds_left is None else round(job.seconds_left, 1),
        "last_task": job.last,
        "committed": list(job.committed),
        "to_come": list(job.to_come),
        "errors": list(job.errors),
        "owner": owner_json(job.owner),
        "workers": [owner_json(worker) for worker in job.workers],
    }


def owner_json(owner: Owner | None) -> dict[str, Any] | None:
    """Return who works, as JSON."""
    if owner is None:
        return None
    facts = {"host": owner.host, "pid": owner.pid, "work": owner.work, "since": owner.since, "renewed": owner.renewed}
    return {**facts, "alive": owner.alive}


def as_text(place: Location, jobs: Sequence[Standing], owner: Owner | None) -> str:
    """Return how far the jobs of a dataset are, for people."""
    return "\n".join([f"{place}:", *_lines(jobs, owner)])


def _lines(jobs: Sequence[Standing], owner: Owner | None) -> Iterator[str]:
    if owner and owner.alive and all(job.owner is None for job in jobs):
        yield f"in use by {owner}"
    elif not jobs:
        yield "nothing is unfinished"
    for job in jobs:
        yield from _lines_of(job)


def _lines_of(job: Standing) -> Iterator[str]:
    from wkdask.plan import format_bytes

    yield f"{job.key}: {job.name or 'a run of no name'}"
    yield f"  begun {_clock(job.begun)} {f'by {job.command}' if job.command else 'in Python'}"
    yield from (f"  {line}" for line in _who(job))
    width = max((len(stage.name) for stage in job.stages), default=0)
    for stage in job.stages:
        failed = f", {stage.failed} failed" if stage.failed else ""
        yield f"  {stage.name:<{width}}  {stage.done} of {stage.tasks} tasks{failed}"
    share = f", {format_bytes(job.bytes_done)} of {format_bytes(job.bytes_in)}" if job.bytes_in else ""
    speed = f", {format_bytes(job.rate)}/s" if job.alive and job.rate else ""
    left = f", {duration(job.seconds_left)} left" if job.seconds_left is not None else ""
    last = f"; the last one ended {_clock(job.last)}" if job.last else ""
    yield f"  {job.done} of {job.tasks} tasks{share}{speed}{left}{last}"
    for what, names in (("complete", job.committed), ("to come", job.to_come)):
        if names:
            yield f"  {what}: {', '.join(names)}"
    yield from (f"  failed: {error}" for error in job.errors)


def _who(job: Standing) -> Iterator[str]:
    """Yield who works on a job, or that nobody does."""
    for owner in job.workers:
        yield f"at work: process {owner.pid} on {owner.host}, since {_clock(owner.since)}"
    if job.owner and job.owner.alive:
        renewed = max(0.0, time.time() - job.owner.renewed)
        since = _clock(job.owner.since)
        yield f"at work: process {job.owner.pid} on {job.owner.host}, since {since}, heard of {renewed:.0f} s ago"
    elif job.owner:
        yield f"dead: process {job.owner.pid} on {job.owner.host}, last heard of {_clock(job.owner.renewed)}"
    if not job.alive:
        yield "nobody works on it; wkdask resume goes on" if job.command else "nobody works on it; the same call goes on"


def _clock(seconds: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else "at a time that is not known"
    except (ValueError, OverflowError, OSError):
        return "at a time that is not known"


def duration(seconds: float) -> str:
    """Return a time for people.

    Examples
    --------
    >>> duration(42), duration(4000), duration(400_000)
    ('42 s', '1 h 6 min', '4 d 15 h')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if minutes < 60:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{days} d {hours % 24} h"
