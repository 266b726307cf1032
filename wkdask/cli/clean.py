"""``wkdask clean``: deletes what interrupted runs left in a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from wkdask.cli import options as o

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wkdask.operations.cleaning import Leftover


def clean(
    target: Annotated[str, typer.Argument(help="Folder or URL of a dataset.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    as_json: o.AsJson = False,
) -> None:
    """Delete what interrupted runs left in a dataset, which gives up what is unfinished; wkdask resume would go on instead."""
    from wkdask.cli.output import emit
    from wkdask.cli.status import require_dataset
    from wkdask.errors import InputError
    from wkdask.operations.cleaning import delete_leftovers, find_leftovers
    from wkdask.storage import Location

    place = Location.of(target)
    require_dataset(place)
    if as_json and not (yes or dry_run):
        raise InputError("With --json nobody can be asked. Give --yes or --dry-run too.")
    found = find_leftovers(place)
    if not as_json:
        typer.echo(_as_text(found))
    deletes = any(not one.kept for one in found) and not dry_run
    if deletes and not yes:
        deletes = typer.confirm("Delete these?")
    if deletes:
        delete_leftovers(place, found)
    if as_json:
        rows = [{"path": str(one.place), "bytes": one.bytes, "what": one.what, "kept": one.kept} for one in found]
        emit({"target": str(place), "deleted": deletes, "leftovers": rows}, "clean", as_json=True)


def _as_text(found: Iterable[Leftover]) -> str:
    from wkdask.plan import format_bytes

    lines = [
        f"{format_bytes(one.bytes):>10}  {one.place}: {one.what}" + (f"; kept, as {one.kept}" if one.kept else "")
        for one in found
    ]
    total = sum(one.bytes for one in found if not one.kept)
    return "\n".join([*lines, f"{format_bytes(total):>10}  in all"]) if lines else "Nothing to clean."
