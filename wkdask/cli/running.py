"""Running plans for a command: says what would be done, or does it and tells how it goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from wkdask.cli.options import Show
from wkdask.cli.output import emit, report_json, show_progress

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


def storage_of(
    data_format: str, chunk_shape: str, shard_shape: str | None, per_shard: str | None, compress: bool, codec: str | None
) -> Storage:
    """Return how voxels are to lie on disk, from the options that say so."""
    from wkdask.cli.options import shape_of
    from wkdask.errors import InputError
    from wkdask.formats import parse_codec
    from wkdask.operations import Storage

    chunk = shape_of(chunk_shape)
    if per_shard and shard_shape:
        raise InputError("Both --chunks-per-shard and --shard-shape were given. Give one of them.")
    shard = shape_of(shard_shape) if shard_shape else None
    if per_shard:
        x, y, z = shape_of(per_shard)
        shard = (chunk[0] * x, chunk[1] * y, chunk[2] * z)
    return Storage(chunk, shard, (parse_codec(codec) if codec else "usual") if compress else None, data_format)


def run_all(plans: Sequence[Plan], pool: Pool, limit: int | None, telling: Telling) -> None:
    """Run plans one after the other, or only print them."""
    for plan in plans:
        plan.check_memory(limit, pool.slots, pool.processes)
        plan.setup.check()
    if telling.dry_run:
        name = f"{telling.command} --dry-run"
        emit(_together([plan.describe() for plan in plans]) if telling.as_json else _joined(plans), name, telling.as_json)
        return
    for note in dict.fromkeys(note for plan in plans for note in plan.notes) if not telling.quiet else ():
        typer.echo(f"note: {note}", err=True)
    reports: list[Report] = []
    for plan in plans:
        with show_progress(telling.progress.value if not telling.quiet else "none", telling.verbose, pool) as tell:
            reports.append(plan.run(pool=pool, memory_limit=limit, progress=tell))
    if telling.as_json:
        documents = [report_json(report, plan) for report, plan in zip(reports, plans, strict=True)]
        emit(_together(documents), telling.command, as_json=True)
    elif not telling.quiet:
        emit(_joined(reports), telling.command, as_json=False)


def _together(documents: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one document for one layer, a list of them for several or none."""
    return documents[0] if len(documents) == 1 else {"layers": documents}


def _joined(results: Sequence[object]) -> str:
    return "\n".join(map(str, results)) or "Nothing to do."
