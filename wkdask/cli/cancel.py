"""``wkdask cancel``: asks a run that works on a dataset to stop."""

from __future__ import annotations

import os
import signal
import socket
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wkdask.cli import options as o

if TYPE_CHECKING:
    from wkdask.plan.standing import Standing
    from wkdask.storage import Location, Owner


def cancel(
    target: Annotated[str, typer.Argument(help="Folder or URL of a dataset.")],
    layer_name: Annotated[list[str] | None, typer.Option(help="Only this layer; may be given several times.")] = None,
    as_json: o.AsJson = False,
) -> None:
    """Ask those who work on a dataset to stop, as Ctrl-C does: what is done stays done, and wkdask resume goes on."""
    from wkdask.cli.output import emit
    from wkdask.cli.status import require_dataset
    from wkdask.plan.standing import Watch
    from wkdask.storage import Location

    place = Location.of(target)
    require_dataset(place)
    jobs = [job for job in Watch(place).look() if job.alive and (not layer_name or job.key in layer_name)]
    asked = [_ask(place, job) for job in jobs]
    if as_json:
        emit({"asked": asked}, "cancel", as_json=True)
    else:
        typer.echo("\n".join(map(_said, asked)) or "Nothing is running.")


def _ask(place: Location, job: Standing) -> dict[str, Any]:
    """Ask all that work on a job, and say whom and how: by the file that drivers look for, and here by a signal too."""
    from wkdask.plan import Journal
    from wkdask.plan.cancelling import ask_to_stop

    ask_to_stop(Journal(place, job.key))
    living = [job.owner] if job.owner and job.owner.alive else []
    signalled = {owner.pid for owner in living if job.command and interrupt(owner)}
    owners = {(owner.host, owner.pid): owner for owner in (*living, *job.workers)}
    processes = [{"host": o.host, "pid": o.pid, "signalled": o.pid in signalled} for o in owners.values()]
    return {"layer": job.key, "name": job.name, "processes": processes}


def interrupt(owner: Owner) -> bool:
    """Send SIGINT to a process of this host, if it is still the one that wrote itself down; return whether it was sent.

    A process that began a job in Python may be a notebook or a worker of Dask, where a signal means something else: for
    those there is the file.
    """
    if owner.host != socket.gethostname() or owner.pid == os.getpid() or not owner.alive:
        return False
    try:
        os.kill(owner.pid, signal.SIGINT)
    except OSError:  # it has just ended, or is another user's
        return False
    return True


def _said(asked: dict[str, Any]) -> str:
    lines = [f"{asked['layer']}: {asked['name']}"]
    for process in asked["processes"]:
        how = "was told to stop" if process["signalled"] else "will stop when it looks, within a second or a task"
        lines.append(f"  process {process['pid']} on {process['host']} {how}")
    return "\n".join(lines)
