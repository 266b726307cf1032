"""New layers made of layers that are there: what each magnification is read from, as one plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from wkdask._version import __version__
from wkdask.errors import InputError
from wkdask.formats import find_format
from wkdask.geometry import Mag
from wkdask.metadata import LayerProperties, VoxelSize
from wkdask.operations.assembly import assemble
from wkdask.operations.choices import Running, Sampling, Storage, codec_settings
from wkdask.operations.inputs import Inputs
from wkdask.operations.level import Level
from wkdask.operations.mag_list import calculate_mags_to_downsample, default_coarsest_mag, sampling_mode_for
from wkdask.operations.pyramid import TILE_BYTES, Room, build_levels, build_stages, new_arrays
from wkdask.operations.target import NewLayer, dumped
from wkdask.operations.tiles import Source, WriteTiles
from wkdask.plan import Journal, Plan, Stage
from wkdask.storage import Location


@dataclass(frozen=True, slots=True)
class Derived:
    """A new layer.

    Parameters
    ----------
    name
        Of the plan, for people.
    layer
        The layer, without magnifications, its axes in the order in which they are to be stored.
    voxel_size
        Of the dataset.
    mags
        Its magnifications, finest first.
    sources
        What the finest, and some others, are read from; those that have none are made of the one before.
    settings
        As `Plan` has them: what only this kind of plan has.
    inputs
        What the sources read.
    share
        Bytes that a task takes for each byte of a tile.
    """

    name: str
    layer: LayerProperties
    voxel_size: VoxelSize
    mags: tuple[Mag, ...]
    sources: Mapping[Mag, Source]
    settings: Mapping[str, Any]
    inputs: Inputs
    share: int = 2


def plan_derived(derived: Derived, target: Location, *, storage: Storage, sampling: Sampling, running: Running) -> Plan:
    """Plan a new layer. Nothing is written.

    Parameters
    ----------
    derived
        The layer, and what it is read from.
    target
        The dataset; made where it does not exist.
    storage, sampling, running
        How voxels lie on disk, by which kernel magnifications are reduced, threads and memory.
    """
    layer, mags = derived.layer, derived.mags
    journal = Journal(target, layer.name, running.scratch)
    if running.restart and (unfinished := journal.document()) is not None:
        journal = replace(journal, instead_of=str(unfinished.get("fingerprint")))
    for fine, coarse in pairwise(mags):
        if coarse not in derived.sources and any(c % f for c, f in zip(coarse.to_tuple(), fine.to_tuple(), strict=True)):
            raise InputError(f"Mag {coarse} can not be made of mag {fine}: it is no multiple of it. Do not keep it.")
    kernel = sampling.kernel(layer.category)
    levels: list[Level] = []
    arrays = new_arrays(layer, target / layer.name, mags, storage)
    groups = _groups(derived)
    for group in groups:
        levels += build_levels(layer, {mag: arrays[mag] for mag in group}, kernel)
    room = Room(running.threads, min(TILE_BYTES, running.tile_bytes * 2 // derived.share))
    own = {
        "layer": layer.to_dict(),
        "voxel_size": str(derived.voxel_size),
        "mags": [level.name.rpartition("/")[2] for level in levels],
        "chunks": [level.array.spec.chunk for level in levels],
        "shards": [level.array.spec.unit for level in levels],
        "kernel": kernel,
        "wkdask": __version__,
        **codec_settings(levels[0].array.spec.codec),
    }
    triples = tuple(mag.to_tuple() for mag in mags)
    return assemble(
        NewLayer(journal, derived.voxel_size, dumped(layer), (), triples, target.name),
        _stages([derived.sources[group[0]] for group in groups], groups, levels, room, journal),
        running,
        name=derived.name,
        settings=own | dict(derived.settings),
        identity=derived.inputs,
    )


def _groups(derived: Derived) -> list[list[Mag]]:
    """Return the magnifications in groups, each of which begins with one that has a source."""
    groups: list[list[Mag]] = []
    for mag in derived.mags:
        if mag in derived.sources:
            groups.append([])
        groups[-1].append(mag)
    return groups


def _stages(
    sources: Sequence[Source], groups: Sequence[Sequence[Mag]], levels: Sequence[Level], room: Room, journal: Journal
) -> tuple[list[Stage], list[int]]:
    """Return the stages of all groups, and for each level the one that completes it."""
    stages: list[Stage] = []
    last: list[int] = []
    chosen = journal.layout()
    for source, group in zip(sources, groups, strict=True):
        written = sum(isinstance(stage.operation, WriteTiles) for stage in stages)
        mine = levels[len(last) : len(last) + len(group)]
        stages, ends = build_stages(source, mine, room, journal, chosen[written:], stages)
        last += ends
    return stages, last


def usual_mags(layer: LayerProperties, first: Mag, voxel_size: VoxelSize, sampling: Sampling) -> list[Mag]:
    """Return the magnifications that a pyramid above one has, and that one."""
    if not sampling.downsample:
        return [first]
    size = layer.bounding_box.size
    coarsest = sampling.coarsest or default_coarsest_mag(size)
    if not coarsest > first:
        return [first]
    coarsest = Mag([max(a, b) for a, b in zip(coarsest.to_tuple(), first.to_tuple(), strict=True)])
    mode = sampling_mode_for(size, sampling.mode)
    return [first, *calculate_mags_to_downsample(first, coarsest, voxel_size.to_nanometer(), mode)]


def in_storage(layer: LayerProperties, storage: Storage) -> LayerProperties:
    """Return a layer without magnifications as a format and an order of axes have it: further axes come first."""
    further = [axis.name for axis in layer.additional_axes or ()]
    if further and not find_format(storage.data_format).further_axes:
        raise InputError(
            f"The layer has the axes {', '.join(further)}, which the format {storage.data_format} can not store. "
            "Use the format zarr3."
        )
    return layer if storage.axis_order == "cxyz" else layer.with_axis_order((*further, *storage.axis_order))
