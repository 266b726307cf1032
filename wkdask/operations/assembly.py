"""Plans that make magnifications of a layer, assembled of their stages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from wkdask.operations.choices import Running
from wkdask.operations.inputs import Inputs
from wkdask.operations.pyramid import Reduced, chosen_tiles
from wkdask.operations.target import CommitLevel, LayerTarget, NewLayer
from wkdask.operations.tiles import WriteTiles
from wkdask.plan import Plan, Stage


def assemble(
    target: LayerTarget,
    built: tuple[Sequence[Stage], Sequence[int]],
    running: Running,
    *,
    name: str,
    settings: dict[str, Any],
    identity: str | Inputs,
    notes: tuple[str, ...] = (),
) -> Plan:
    """Return the plan that writes the levels of a target and commits each when it is complete.

    Parameters
    ----------
    target
        What is written. Its levels are replaced by those of the stages, which know how they are written.
    built
        The stages, and for each level the one that completes it; see `wkdask.operations.pyramid.build_stages`.
    running
        Threads, and the command to go on with.
    name
        Of the plan, for people.
    settings
        All that decides the bytes that are written.
    identity
        What is read, which must stay as it is; or a digest of it.
    notes
        What users should know.
    """
    stages, last = built
    written = tuple(level for s in stages if isinstance(s.operation, WriteTiles) for level in s.operation.levels)
    setup = replace(target, levels=written)
    read = dict.fromkeys(_read_from_input(stages), identity) if isinstance(identity, Inputs) else {}
    return Plan(
        name=name,
        journal=target.journal,
        settings=settings | ({"new": True} if isinstance(target, NewLayer) else {}),
        identity=identity.digest if isinstance(identity, Inputs) else identity,
        stages=tuple(stages),
        milestones=tuple(CommitLevel(setup, n, stage, read.get(written[n].name)) for n, stage in enumerate(last)),
        setup=setup,
        workers=running.threads,
        asked=bool(running.workers),
        layout=chosen_tiles(stages),
        command=running.command,
        notes=notes,
    )


def _read_from_input(stages: Sequence[Stage]) -> Iterator[str]:
    """Yield the levels that are made of what the plan finds, not of what it writes; of several by one reading the first."""
    for stage in stages:
        operation = stage.operation
        if isinstance(operation, WriteTiles) and not (isinstance(operation.source, Reduced) and operation.source.made):
            yield operation.levels[0].name
