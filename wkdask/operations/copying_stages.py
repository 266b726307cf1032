"""The stages that write magnifications as copies of others, each by the cheapest way that there is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from wkdask._version import __version__
from wkdask.arrays import MagArray
from wkdask.formats import ArrayHandle, find_format
from wkdask.geometry import Mag
from wkdask.geometry.grid import Index
from wkdask.metadata import LayerProperties
from wkdask.operations.choices import Running, codec_settings
from wkdask.operations.copying_tasks import CopyChunks, CopyUnits, FromArray, same_chunks, same_files
from wkdask.operations.level import Level
from wkdask.operations.pyramid import TILE_BYTES, Room, build_levels, build_stages
from wkdask.operations.tiles import WriteTiles
from wkdask.plan import Journal, Stage


@dataclass(frozen=True, slots=True)
class Rewriting:
    """Magnifications, and what they are to be: the arrays that are read, and those that are written."""

    sources: Mapping[Mag, MagArray]
    arrays: Mapping[Mag, ArrayHandle]
    data_format: str


def rewriting_stages(
    layer: LayerProperties, rewriting: Rewriting, journal: Journal, running: Running, before: Sequence[Stage] = ()
) -> tuple[list[Stage], list[int], tuple[Level, ...]]:
    """Return the stages that write magnifications, for each the stage that completes it, and what each is.

    Parameters
    ----------
    layer
        Whose box they have.
    rewriting
        The arrays.
    journal, running
        Of the run.
    before
        Stages to put before.
    """
    stages, last, levels = list(before), list[int](), list[Level]()
    chosen = journal.layout()
    same_format = rewriting.data_format == str(layer.data_format)
    for mag, array in rewriting.arrays.items():
        source = rewriting.sources[mag]
        level = build_levels(layer, {mag: array}, "nearest")[0]
        whole = _same_channels(source, array)
        if same_format and whole and same_files(source.handle, array, rewriting.data_format):
            stages.append(Stage(f"copy {mag}", CopyUnits(source.handle, level, journal)))
        elif same_format and whole and same_chunks(source.handle, array):
            stages.append(Stage(f"copy {mag}", CopyChunks(source.handle, level, journal)))
        else:
            read = FromArray(source.handle, array.spec.axes, _channel(source))
            room = _room(source, array, running)
            built, _ = build_stages(read, [level], room, journal, chosen[:1], stages)
            write = built[len(stages)].operation
            if isinstance(write, WriteTiles):
                built[len(stages)] = replace(built[len(stages)], operation=replace(write, extremes=False))
                level = write.levels[0]
            stages, chosen = built, chosen[1:]
        levels.append(level)
        last.append(len(stages) - 1)
    return stages, last, tuple(levels)


def _channel(source: MagArray) -> int:
    return source.box.start[source.axes.index("c")] if "c" in source.axes else 0


def _same_channels(source: MagArray, array: ArrayHandle) -> bool:
    """Whether the layer has all channels of an array."""
    at = source.axes.index("c") if "c" in source.axes else None
    return at is None or (source.box.start[at] == 0 and source.handle.spec.shape[at] == array.spec.shape[at])


def _room(source: MagArray, array: ArrayHandle, running: Running) -> Room:
    """Return what tasks may use: tiles that are whole chunks of both arrays, so that none is decoded twice, if they fit."""
    spec, limit = array.spec, min(TILE_BYTES, running.tile_bytes)
    read = dict(zip(source.axes, source.handle.spec.chunk, strict=True))
    both = tuple(math.lcm(n, read.get(axis, 1)) for axis, n in zip(spec.axes, spec.chunk, strict=True))
    fits = math.prod(map(min, both, spec.shape)) * spec.itemsize <= limit
    least: Index = both if fits else spec.chunk
    return Room(running.threads, limit, least, fused=False)


def array_settings(layer: LayerProperties, levels: Sequence[Level]) -> dict[str, Any]:
    """Return what decides how arrays lie on disk."""
    return {
        "format": find_format(str(layer.data_format)).name,
        "chunks": [level.array.spec.chunk for level in levels],
        "shards": [level.array.spec.unit for level in levels],
        "codecs": [codec_settings(level.array.spec.codec) for level in levels],
        "wkdask": __version__,
    }
