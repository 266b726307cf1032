"""What the commands share that only read: which layers and magnifications, and where tasks run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from wkdask.cli.options import Show, Where

if TYPE_CHECKING:
    from wkdask.operations.content_hash import Chosen
    from wkdask.operations.read_only import Run

LayerNames = Annotated[
    list[str] | None, typer.Option("--layer-name", "--layer", help="Only this layer; may be given several times.")
]
Mags = Annotated[list[str] | None, typer.Option("--mag", help="Only this magnification; may be given several times.")]


def chosen_of(layer_names: list[str] | None, mags: list[str] | None) -> Chosen:
    """Return what was chosen of a dataset."""
    from wkdask.geometry import Mag
    from wkdask.operations.content_hash import Chosen

    return Chosen(tuple(layer_names or ()), tuple(map(Mag, mags or ())))


@contextmanager
def running(where: Where, show: Show, verbose: bool = False) -> Iterator[Run]:
    """Give where tasks run, with what shows their progress."""
    from wkdask.cli.output import show_progress
    from wkdask.cli.running import pool_of
    from wkdask.operations.read_only import Run

    pool, limit = pool_of(*where)
    with show_progress(show.value, verbose, pool) as tell:
        yield Run(pool, limit, tell)
