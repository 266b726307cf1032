"""Making coarser magnifications of a layer that is there, or mending those under a box that changed: one plan."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from wkdask._version import __version__
from wkdask.arrays import MagArray
from wkdask.arrays.opening import open_mag_array, read_properties
from wkdask.errors import InputError, MagExistsError, PlanRefusedError, ReadOnlyError
from wkdask.formats import ArrayHandle
from wkdask.geometry import BoundingBox, Mag
from wkdask.geometry.grid import Box
from wkdask.metadata import LayerProperties, Properties, mag_name
from wkdask.operations.choices import Running, Sampling, Storage, codec_settings
from wkdask.operations.level import Level
from wkdask.operations.mag_list import calculate_mags_to_downsample, default_coarsest_mag, sampling_mode_for
from wkdask.operations.probe import diagonal, with_probed_codec
from wkdask.operations.pyramid import TILE_BYTES, Reduced, Room, build_levels, build_stages, chosen_tiles
from wkdask.operations.target import CommitLevel, MoreMags, dumped
from wkdask.operations.tiles import WriteTiles
from wkdask.plan import Journal, Plan
from wkdask.plan.execute import lease
from wkdask.storage import Location


@dataclass(frozen=True, slots=True)
class Coarser:
    """Which magnifications are wanted.

    Parameters
    ----------
    from_mag
        What they are made of; default: the coarsest that there is.
    mags
        Exactly these; default: those that the sampling mode gives.
    aligned
        Mags of other layers to agree with; see `wkdask.operations.mag_list.calculate_mags_to_downsample`.
    overwrite
        Whether those that exist are made anew.
    within
        The box, in mag-1 voxels, under which existing ones are made anew; default: all.
    """

    from_mag: Mag | None = None
    mags: tuple[Mag, ...] = ()
    aligned: tuple[Mag, ...] = ()
    overwrite: bool = False
    within: BoundingBox | None = None


def plan_downsample(
    target: Location,
    layer_name: str,
    coarser: Coarser = Coarser(),
    *,
    storage: Storage | None = None,
    sampling: Sampling = Sampling(),
    running: Running = Running(),
) -> Plan:
    """Plan the coarser magnifications of a layer. Nothing is written.

    Parameters
    ----------
    target
        The dataset.
    layer_name
        Its layer.
    coarser
        Which magnifications.
    storage
        How their voxels lie on disk; default: as the reference would have them, compressed.
    sampling
        By which mode and kernel, and up to which.
    running
        Threads and memory.

    Returns
    -------
    Plan
        Without any task where the layer has all of them.

    Raises
    ------
    LayerNotFoundError, MagNotFoundError
        Where there is nothing to start from.
    MagExistsError
        Where a magnification exists and is not to be made anew.
    """
    journal = Journal(target, layer_name, running.scratch)
    plan = _plan(journal, coarser, storage, sampling, running)
    unfinished = journal.document()
    if unfinished is None or unfinished.get("fingerprint") == plan.fingerprint or not plan.stages:
        return plan
    began = _began(journal)
    if coarser.within is not None and began:
        raise PlanRefusedError(
            f"An earlier run that makes mags {', '.join(began['mags'])} of layer '{layer_name}' was stopped, and is not this "
            "one, or the finest voxels have changed since. Run that again, or make all mags anew with redownsample()."
        )
    if coarser.overwrite and began and set(began["anew"]) <= set(plan.settings["mags"]):
        return _plan(replace(journal, instead_of=unfinished["fingerprint"]), coarser, storage, sampling, running)
    return plan


def _plan(journal: Journal, coarser: Coarser, storage: Storage | None, sampling: Sampling, running: Running) -> Plan:
    """Return the plan that goes on where the journal stands; where it stands instead of another one, that of a fresh run."""
    target, layer_name = journal.target, journal.key
    properties = read_properties(target)
    layer = properties.layer(layer_name)
    began = {} if journal.instead_of else _began(journal)
    under_way = frozenset(map(Mag, began.get("mags", ()))) - frozenset(map(Mag, began.get("anew", ())))
    start = _start(layer, coarser, under_way)
    source = open_mag_array(target, properties, layer, start.to_tuple())
    coarser = _clipped(layer, coarser)
    mags = _mags(layer, start, properties, coarser, sampling)
    there = {Mag(mag.mag) for mag in layer.mags} - under_way
    anew = [mag for mag in mags if mag in there]
    if anew and not coarser.overwrite:
        raise MagExistsError(
            f"Layer '{layer_name}' has a magnification {anew[0]} already. To make it anew, pass allow_overwrite=True, or "
            "--overwrite-existing on the command line."
        )
    storage = storage or Storage(data_format=str(layer.data_format))
    storage = with_probed_codec(storage, layer.category, partial(_chunks, source, storage.chunk))
    levels = build_levels(layer, target / layer_name, mags, start, storage, sampling.kernel(layer.category))
    arrays = {mag: _own_array(target, properties, layer, mag) for mag in anew}
    levels = [
        replace(level, array=arrays.get(mag, level.array), replaces=mag in arrays)
        for level, mag in zip(levels, mags, strict=True)
    ]
    if coarser.within is not None:
        levels = under(levels, mags, coarser.within)
    room = Room(running.threads, min(TILE_BYTES, running.tile_bytes), fused=coarser.within is None)
    stages, last = build_stages(_reduced(source, levels), levels, room, journal, journal.layout()) if levels else ([], [])
    written = tuple(level for s in stages if isinstance(s.operation, WriteTiles) for level in s.operation.levels)
    again = frozenset(mag.to_tuple() for mag in anew)
    triples = tuple(mag.to_tuple() for mag in mags)
    setup = MoreMags(journal, properties.voxel_size, dumped(layer), written, triples, again)
    return Plan(
        name=f"downsample {target.name}/{layer_name} from mag {start}",
        journal=journal,
        settings=_settings(layer, start, levels, coarser) | {"anew": [mag_name(mag.to_tuple()) for mag in anew]},
        identity=array_identity(source.handle),
        stages=tuple(stages),
        milestones=tuple(CommitLevel(setup, number, stage) for number, stage in enumerate(last)),
        setup=setup,
        workers=running.threads,
        layout=chosen_tiles(stages),
        command=running.command,
    )


def _chunks(source: MagArray, chunk: tuple[int, int, int]) -> Iterator[np.ndarray[Any, Any]]:
    """Yield some chunks along the diagonal of a magnification."""
    edges = dict(zip("xyz", chunk, strict=True))
    return (source.read(box) for box in diagonal(source.box, [edges.get(axis, 1) for axis in source.axes]))


def _began(journal: Journal) -> dict[str, list[str]]:
    """Return which mags an unfinished run of this kind makes (some may be listed already), and which of them anew."""
    settings = (journal.document() or {}).get("settings")
    if not isinstance(settings, dict) or "from" not in settings:
        return {}
    return {key: [str(name) for name in settings.get(key) or ()] for key in ("mags", "anew")}


def _clipped(layer: LayerProperties, coarser: Coarser) -> Coarser:
    """Return the choice with its box cut to the layer's."""
    if coarser.within is None:
        return coarser
    whole = BoundingBox(layer.bounding_box.top_left, layer.bounding_box.size)
    met = whole.intersected_with(coarser.within, dont_assert=True)
    if met.is_empty():
        raise InputError(
            f"The box {coarser.within} has no voxel in common with the layer's box {whole}. Give one that meets it, in "
            "mag-1 voxels."
        )
    return replace(coarser, within=met)


def _own_array(target: Location, properties: Properties, layer: LayerProperties, mag: Mag) -> ArrayHandle:
    """Return the array of a mag that is to be made anew; those of other datasets are theirs."""
    handle = open_mag_array(target, properties, layer, mag.to_tuple()).handle
    if not handle.location.url.startswith(f"{target.url}/"):
        raise ReadOnlyError(
            f"Mag {mag} of layer '{layer.name}' lies outside the dataset, at {handle.location}, so it is not made anew from "
            "here. Open the dataset that it belongs to, or make other mags."
        )
    channels = dict(zip(handle.spec.axes, handle.spec.shape, strict=True)).get("c", 1)
    if channels != layer.num_channels:
        raise InputError(
            f"Mag {mag} of layer '{layer.name}' is {layer.num_channels} of the {channels} channels of {handle.location}, so it "
            "is not made anew: the others would be lost. Make other mags."
        )
    return handle


def _start(layer: LayerProperties, coarser: Coarser, under_way: frozenset[Mag]) -> Mag:
    """Return the mag to start from: the one asked for, or the coarsest that no unfinished run has made."""
    if coarser.from_mag is not None:
        return Mag(layer.mag(coarser.from_mag.to_tuple()).mag)
    there = sorted((Mag(mag.mag) for mag in layer.mags), key=lambda mag: mag.sort_key)
    usable = [mag for mag in there if mag not in under_way]
    if not usable:
        layer.mag((1, 1, 1))  # says which there are
        raise InputError(f"Layer '{layer.name}' has no magnification to start from. Add one first.")
    return usable[-1]


def _mags(layer: LayerProperties, start: Mag, properties: Properties, coarser: Coarser, sampling: Sampling) -> list[Mag]:
    """Return the mags to make, finest first."""
    if coarser.mags:
        return _chain(start, coarser.mags)
    size = layer.bounding_box.size
    coarsest = sampling.coarsest or default_coarsest_mag(size)
    if not coarsest > start:
        reached = coarser.from_mag is None and any(max(mag.mag) == coarsest.max_dim for mag in layer.mags)
        if sampling.coarsest is None or reached or coarsest == start:
            return []
        raise InputError(f"Mag {coarsest} is not coarser than mag {start} of layer '{layer.name}'. Choose a coarser one.")
    mode = sampling_mode_for(size, sampling.mode)
    coarsest = Mag([max(a, b) for a, b in zip(coarsest.to_tuple(), start.to_tuple(), strict=True)])
    return calculate_mags_to_downsample(start, coarsest, properties.voxel_size.to_nanometer(), mode, coarser.aligned)


def _chain(start: Mag, wanted: tuple[Mag, ...]) -> list[Mag]:
    """Return mags sorted, after checking that each can be made of the one before."""
    mags = sorted(set(wanted), key=lambda mag: mag.sort_key)
    for fine, coarse in zip([start, *mags], mags, strict=False):
        if fine == coarse or any(c % f for c, f in zip(coarse.to_tuple(), fine.to_tuple(), strict=True)):
            raise InputError(
                f"Mag {coarse} can not be made of mag {fine}: it is no coarser multiple of it. Choose mags each of which is a "
                "multiple of the one before, or make them one by one with downsample_mag()."
            )
    return mags


def under(levels: list[Level], mags: list[Mag], box: BoundingBox) -> list[Level]:
    """Return levels cut to the units that a change in a mag-1 box reaches; their whole boxes stay what mirrors at the ends."""
    cut: list[Level] = []
    met = _in_voxels(box, levels[0], mags[0])
    for level in levels:
        met = met.coarsened(level.factor) if cut else met
        met = _mirrored(met.intersect(level.box), level)
        units = met.coarsened(level.array.spec.unit).refined(level.array.spec.unit)
        cut.append(replace(level, box=units.intersect(level.box), domain=level.box))
    return cut


def _in_voxels(box: BoundingBox, level: Level, mag: Mag) -> Box:
    """Return a mag-1 box in voxels of a level, rounded outwards."""
    ends = {a: (t // m, -(-b // m)) for a, t, b, m in zip("xyz", box.topleft, box.bottomright, mag.to_tuple(), strict=True)}
    axes = level.array.spec.axes
    pairs = [ends.get(axis, (a, b)) for axis, a, b in zip(axes, level.box.start, level.box.stop, strict=True)]
    return Box(tuple(a for a, _ in pairs), tuple(b for _, b in pairs))


def _mirrored(met: Box, level: Level) -> Box:
    """Return a box with the voxels at its level's ends that may see it in the mirror, as they do with factors beyond 2."""
    start, stop = list(met.start), list(met.stop)
    for axis, factor in enumerate(level.factor):
        if factor > 2:
            start[axis] -= start[axis] == level.box.start[axis] + 1
            stop[axis] += stop[axis] == level.box.stop[axis] - 1
    return Box(tuple(start), tuple(stop))


def _reduced(source: MagArray, levels: list[Level]) -> Reduced:
    first, channel = levels[0], source.box.start[source.axes.index("c")] if "c" in source.axes else 0
    return Reduced(source.handle, source.box, first.factor, first.mode, None, first.large, channel)


def _settings(layer: LayerProperties, start: Mag, levels: list[Level], coarser: Coarser) -> dict[str, Any]:
    """Return all that decides the bytes that are written."""
    box = layer.bounding_box
    return {
        "layer": [layer.name, layer.category, layer.dtype, box.top_left, box.size],
        "from": mag_name(start.to_tuple()),
        "within": None if coarser.within is None else [*coarser.within.topleft, *coarser.within.size],
        "mags": [level.name.rpartition("/")[2] for level in levels],
        "chunks": [level.array.spec.chunk for level in levels],
        "shards": [level.array.spec.unit for level in levels],
        "kernel": levels[0].mode if levels else "",
        "wkdask": __version__,
        **codec_settings(levels[0].array.spec.codec if levels else None),
    }


def array_identity(array: ArrayHandle) -> str:
    """Return a digest of the units of an array, their sizes and times, to notice a change of the input."""
    digest = hashlib.sha256()
    for index in sorted(array.written_units()):
        stat = array.unit_location(index).stat()
        digest.update(repr((index, stat and (stat.size, stat.mtime_ns))).encode())
    return digest.hexdigest()


def set_up(plan: Plan) -> None:
    """Make and list the magnifications of a plan, empty."""
    plan.setup.check()
    unfinished = plan.journal.document()
    if unfinished is not None:
        raise PlanRefusedError(
            f"{plan.target} holds an unfinished run for layer '{plan.journal.key}': {unfinished.get('name')}. Run that again "
            "first, so that its magnifications are complete."
        )
    with lease(plan):
        plan.setup.create()
        for milestone in plan.milestones:
            milestone.commit(None, None)
