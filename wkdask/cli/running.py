"""Running plans for a command: says what would be done, or does it and tells how it goes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from wkdask.cli.again import Again, again
from wkdask.cli.options import Show
from wkdask.cli.output import emit, report_json, show_progress
from wkdask.plan.disk import check_disk
from wkdask.plan.estimate import Probe, estimate
from wkdask.plan.explain import compared, explain, notes_of
from wkdask.plan.receipt import format_bytes, format_seconds

if TYPE_CHECKING:
    from wkdask.operations import Storage
    from wkdask.plan import Plan, Pool, Report


@dataclass(frozen=True)
class Telling:
    """What is printed, and whether anything is done."""

    command: str
    dry_run: bool = False
    as_json: bool = False
    progress: Show = Show.auto
    verbose: bool = False
    quiet: bool = False
    probe: int | None = None
    replaces: bool = False
    """Whether what is at the target goes first, so that a dry run can not know what will be free."""


def storage_of(
    data_format: str,
    chunk_shape: str | None,
    shard_shape: str | None,
    per_shard: str | None,
    compress: bool,
    codec: str | None,
) -> Storage:
    """Return how voxels are to lie on disk, from the options that say so."""
    from wkdask.cli.options import shape_of
    from wkdask.dataset import arguments
    from wkdask.errors import InputError
    from wkdask.formats import parse_codec

    chunk, shard, chunks = (shape_of(text) if text else None for text in (chunk_shape, shard_shape, per_shard))
    if chunks and shard:
        raise InputError("Both --chunks-per-shard and --shard-shape were given. Give one of them.")
    if codec and not compress:
        raise InputError("Both --codec and --no-compress were given. Give one of them.")
    compressor = compress and (parse_codec(codec) if codec else True)
    return arguments.storage_of(data_format, chunk, shard, compressor or False, chunks_per_shard=chunks)


def pool_of(strategy: str, jobs: int | None, memory_limit: str | None, job_resources: str | None) -> tuple[Pool, int | None]:
    """Return where tasks run, and how much memory they may take; None where this machine's decides."""
    from wkdask.clusters import open_pool
    from wkdask.plan import parse_bytes

    limit = parse_bytes(memory_limit) if memory_limit else None
    pool = open_pool(strategy, jobs, limit, job_resources)
    return pool, limit or getattr(pool, "memory_limit", None)


def run_all(plans: Sequence[Plan], pool: Pool, limit: int | None, telling: Telling) -> None:
    """Run plans one after the other, or only print them."""
    for plan in plans:
        plan.check_memory(limit, pool.slots, pool.processes)
        plan.setup.check()
        if not (telling.dry_run and telling.replaces):
            check_disk(plan)
    probes = [plan.probe(telling.probe) if telling.probe and not again.get() else None for plan in plans]
    if telling.dry_run:
        _tell_plans(plans, probes, pool.processes, telling)
        return
    for note in _notes(plans, probes) if not telling.quiet else ():
        typer.echo(f"note: {note}", err=True)
    reports: list[Report] = []
    running = again.get() or Again("")
    if running.joins:
        from wkdask.plan import LeasePool

        pool = LeasePool(pool.slots, begins=False)
    for plan, probe in zip(plans, probes, strict=True):
        with show_progress(telling.progress.value if not telling.quiet else "none", telling.verbose, pool) as tell:
            reports.append(plan.run(pool=pool, memory_limit=limit, progress=tell, verify=running.verify, probe=probe))
    if telling.as_json:
        documents = [report_json(report, plan) for report, plan in zip(reports, plans, strict=True)]
        emit(_together(documents), telling.command, as_json=True)
    elif not telling.quiet:
        emit(_joined(reports), telling.command, as_json=False)
        for report in reports if telling.verbose else ():
            typer.echo(compared(report))


def _tell_plans(plans: Sequence[Plan], probes: Sequence[Probe | None], processes: int, telling: Telling) -> None:
    """Print what would be done."""
    both, name = list(zip(plans, probes, strict=True)), f"{telling.command} --dry-run"
    if telling.as_json:
        emit(_together([plan.describe(probe, processes) for plan, probe in both]), name, as_json=True)
    else:
        emit(_joined([explain(plan, probe, processes) for plan, probe in both]), name, as_json=False)


def _notes(plans: Sequence[Plan], probes: Sequence[Probe | None]) -> Iterator[str]:
    """Yield what users should know before plans run, each once; first what a probe found."""
    found = list[str]()
    for plan, probe in zip(plans, probes, strict=True):
        if probe:
            costs = estimate(plan, probe)
            found.append(f"{plan.name}: about {format_seconds(costs.seconds)}, {format_bytes(costs.file_bytes)} on disk")
        found += notes_of(plan, probe)
    yield from dict.fromkeys(found)


def _together(documents: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one document for one layer, a list of them for several or none."""
    return documents[0] if len(documents) == 1 else {"layers": documents}


def _joined(results: Sequence[object]) -> str:
    return "\n".join(map(str, results)) or "Nothing to do."
