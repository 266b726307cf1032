"""What commands print: results, JSON documents, progress."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from wkdask.cli.again import again
from wkdask.cli.stores import without_options
from wkdask.plan.receipt import format_bytes

if TYPE_CHECKING:
    from wkdask.plan import Plan, Pool, Receipt, Report
    from wkdask.plan.counting import Progress

JSON_VERSION = 1
PLAIN_SECONDS = 30.0
JSON_SECONDS = 1.0


def emit(result: Any, command: str, as_json: bool) -> None:
    """Print a result: as it is, or as a JSON document that says its version and command."""
    if as_json:
        typer.echo(json.dumps({"wkdask": JSON_VERSION, "command": command, **result}, indent=1, default=str))
    else:
        typer.echo(str(result))


def report_json(report: Report, plan: Plan) -> dict[str, Any]:
    """Return a report as JSON."""
    counts = "done", "kept", "failed", "skipped", "files", "requests", "retries"
    names = (*counts, "seconds", "bytes_in", "bytes_out", "peak_bytes")
    return {
        "target": str(plan.target),
        "milestones": [m.name for m in plan.milestones],
        **{n: getattr(report, n) for n in names},
        "predicted_bytes": report.predicted_bytes,
        "predicted_bytes_out": report.predicted_bytes_out,
        "predicted_seconds": round(report.predicted_seconds, 2),
        "predicted_files": report.predicted_files,
        "predicted_requests": report.predicted_requests,
        "predicted_worker_bytes": report.predicted_worker_bytes,
        "worker_bytes": report.worker_bytes,
        "workers": [{"name": name, "peak_bytes": peak} for name, peak in sorted(report.workers.items())],
    }


def typed_command() -> str:
    """Return what the user typed, so that it can be pasted; of a command that runs again, what was typed then.

    Storage options are left out, as journals keep it.
    """
    if (running := again.get()) is not None:
        return running.command
    return shlex.join([Path(sys.argv[0]).name.replace("__main__.py", "wkdask"), *without_options(sys.argv[1:])])


@contextmanager
def show_progress(how: str, verbose: bool = False, pool: Pool | None = None) -> Iterator[Progress | None]:
    """Give the function that a run tells its progress to; everything goes to stderr, a cluster's dashboard first."""
    if how == "auto":
        how = "rich" if sys.stderr.isatty() else "plain"
    if how == "none":
        yield None
    elif how == "plain":
        yield _first_say_where(pool, _plain(verbose))
    elif how == "json":
        yield _json_lines(pool)
    else:
        with _bar(verbose) as tell:
            yield _first_say_where(pool, tell)


def _first_say_where(pool: Pool | None, tell: Progress) -> Progress:
    """Print the address of the dashboard, where there is one, when a run begins."""

    def both(plan: Plan, report: Report, receipt: Receipt | None) -> None:
        dashboard = getattr(pool, "dashboard", "")
        if receipt is None and dashboard:
            typer.echo(f"dashboard: {dashboard}", err=True)
        tell(plan, report, receipt)

    return both


def _share(plan: Plan, report: Report) -> tuple[float, float]:
    """Return bytes of voxels that are done, those of an earlier run included, and in all."""
    return min(report.bytes_kept + report.bytes_in, plan.bytes_in), plan.bytes_in


def _plain(verbose: bool) -> Progress:
    start = last = time.monotonic()

    def tell(plan: Plan, report: Report, receipt: Receipt | None) -> None:
        nonlocal last
        finished = report.done + report.kept
        if verbose and receipt is not None:
            typer.echo(
                f"{plan.stages[receipt.stage].name} {receipt.number}: {receipt.state} in {receipt.seconds:.2f} s", err=True
            )
        if receipt is not None and time.monotonic() - last < PLAIN_SECONDS and finished < plan.tasks:
            return
        last = time.monotonic()
        done, total = _share(plan, report)
        rest = (last - start) * (total - done) / report.bytes_in if report.bytes_in else 0.0
        left = f", {rest:.0f} s left" if report.bytes_in and finished < plan.tasks else ""
        typer.echo(
            f"{plan.name}: {100 * done / max(1, total):.0f} %, {format_bytes(done)} of {format_bytes(total)}, "
            f"{finished} of {plan.tasks} tasks{left}",
            err=True,
        )

    return tell


def _json_lines(pool: Pool | None) -> Progress:
    """Write an object on a line of its own: when a run begins, each second, for each failed task, when all tasks are done."""
    start = last = time.monotonic()

    def tell(plan: Plan, report: Report, receipt: Receipt | None) -> None:
        nonlocal last
        finished, now = report.done + report.kept, time.monotonic()
        event = "begin" if receipt is None else "done" if finished == plan.tasks else receipt.state
        if event == "done" and finished < plan.tasks:
            event = "progress"
        if event in ("progress", "skipped") and now - last < JSON_SECONDS:
            return
        last = now
        done, total = _share(plan, report)
        rest = round((now - start) * (total - done) / report.bytes_in, 1) if report.bytes_in else None
        row = {"wkdask": JSON_VERSION, "event": event, "name": plan.name, "target": str(plan.target), "tasks": plan.tasks}
        row |= {"tasks_done": finished, "tasks_failed": report.failed, "bytes": total, "bytes_done": done}
        row |= {"seconds": round(now - start, 2), "seconds_left": rest, "dashboard": getattr(pool, "dashboard", "")}
        if receipt is not None and receipt.state == "failed":
            row["error"] = receipt.error
        typer.echo(json.dumps(row), err=True)

    return tell


@contextmanager
def _bar(verbose: bool) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("{task.fields[tasks]}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task: Any = None

        def tell(plan: Plan, report: Report, receipt: Receipt | None) -> None:
            nonlocal task
            done, total = _share(plan, report)
            if task is None:
                task = bar.add_task(plan.name, total=total, tasks="")
            bar.update(task, completed=done, tasks=f"{report.done + report.kept}/{plan.tasks} tasks")
            if verbose and receipt is not None:
                bar.console.print(f"{plan.stages[receipt.stage].name} {receipt.number}: {receipt.state}")

        yield tell
