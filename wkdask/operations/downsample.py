"""Making coarser magnifications of a layer that is there, or mending those under a box that changed: one plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from wkdask import kernels
from wkdask._version import __version__
from wkdask.arrays import MagArray
from wkdask.arrays.opening import open_mag_array, read_properties
from wkdask.errors import InputError, MagExistsError, PlanRefusedError
from wkdask.geometry import BoundingBox, Mag
from wkdask.geometry.grid import Box
from wkdask.metadata import LayerProperties, Properties, mag_name
from wkdask.operations.assembly import assemble
from wkdask.operations.choices import Running, Sampling, Storage, codec_settings
from wkdask.operations.existing import UnfinishedMags, open_to_replace, require_as_said, require_chosen
from wkdask.operations.inputs import Inputs
from wkdask.operations.level import Level
from wkdask.operations.mag_list import calculate_mags_to_downsample, default_coarsest_mag, sampling_mode_for
from wkdask.operations.mirroring import mirrored_range, with_halo
from wkdask.operations.probe import diagonal, with_probed_codec
from wkdask.operations.pyramid import (
    TILE_BYTES,
    Reduced,
    Room,
    build_levels,
    build_stages,
    new_arrays,
)
from wkdask.operations.target import MoreMags, dumped
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
    chosen
        What of the storage the user chose, of ``chunk``, ``shard`` and ``codec``: existing mags must have it.
    """

    from_mag: Mag | None = None
    mags: tuple[Mag, ...] = ()
    aligned: tuple[Mag, ...] = ()
    overwrite: bool = False
    within: BoundingBox | None = None
    chosen: frozenset[str] = frozenset()


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
    InputError, ReadOnlyError
        Where one can not be made anew, or not as chosen.
    PlanRefusedError
        Where an earlier run was stopped, and this one would leave mags of it as they are.
    """
    journal = Journal(target, layer_name, running.scratch)
    plan = _plan(journal, coarser, storage, sampling, running)
    unfinished, began = journal.document() or {}, UnfinishedMags.of(journal)
    if began is None or unfinished.get("fingerprint") == plan.fingerprint:
        return plan
    if coarser.overwrite and coarser.within is None:
        instead = replace(journal, instead_of=str(unfinished.get("fingerprint") or ""))
        plan = _plan(instead, coarser, storage, sampling, running)
        listed = {Mag(mag.mag) for mag in read_properties(target).layer(layer_name).mags}
        if began.mags & listed <= {Mag(name) for name in plan.settings["mags"]}:
            return plan
    elif coarser.within is None and (plan.stages or not began.anew):
        return plan  # which is refused when it begins, as another one
    names = ", ".join(str(mag) for mag in sorted(began.mags, key=lambda mag: mag.sort_key))
    raise PlanRefusedError(
        f"An earlier run that makes mags {names} of layer '{layer_name}' was stopped, and is not this one, or the finest "
        "voxels have changed since; this one would leave some of those as they are. Run that again, or make all mags anew with "
        "redownsample()."
    )


def _plan(journal: Journal, coarser: Coarser, storage: Storage | None, sampling: Sampling, running: Running) -> Plan:
    """Return the plan that goes on where the journal stands; where it stands instead of another one, that of a fresh run."""
    target, layer_name = journal.target, journal.key
    properties = read_properties(target)
    layer = properties.layer(layer_name)
    began = UnfinishedMags.of(journal)
    under_way = began.unlisted if began and not journal.instead_of else frozenset()
    start = _start(layer, coarser, under_way, began.start if began and journal.instead_of else None)
    source = open_mag_array(target, properties, layer, start.to_tuple())
    require_as_said(source, layer)
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
    arrays = {mag: open_to_replace(target, properties, layer, mag) for mag in anew}
    for mag, array in arrays.items():
        require_chosen(array, f"{layer_name}/{mag.to_layer_name()}", storage, coarser.chosen)
    if new := [mag for mag in mags if mag not in there]:
        storage = with_probed_codec(storage, layer.category, partial(_chunks, source, storage.chunk_shape))
        arrays |= new_arrays(layer, target / layer_name, new, storage)
    arrays = {mag: arrays[mag] for mag in mags}
    levels = build_levels(layer, arrays, sampling.kernel(layer.category), finer=start, replaces=anew)
    if coarser.within is not None:
        levels = under(levels, mags, coarser.within)
    room = Room(running.threads, min(TILE_BYTES, running.tile_bytes), fused=coarser.within is None)
    built = build_stages(_reduced(source, levels), levels, room, journal, journal.layout()) if levels else ([], [])
    triples, again = (tuple(mag.to_tuple() for mag in some) for some in (mags, anew))
    return assemble(
        MoreMags(journal, properties.voxel_size, dumped(layer), (), triples, frozenset(again)),
        built,
        running,
        name=f"downsample {target.name}/{layer_name} from mag {start}",
        settings=_settings(layer, start, levels, coarser) | {"anew": [mag_name(mag) for mag in again]},
        identity=_identity(source, levels, coarser),
    )


def _chunks(source: MagArray, chunk: tuple[int, int, int]) -> Iterator[np.ndarray[Any, Any]]:
    """Yield some chunks along the diagonal of a magnification."""
    edges = dict(zip("xyz", chunk, strict=True))
    return (source.read(box) for box in diagonal(source.box, [edges.get(axis, 1) for axis in source.axes]))


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


def _start(layer: LayerProperties, coarser: Coarser, under_way: frozenset[Mag], before: Mag | None) -> Mag:
    """Return the mag to start from: as asked for, that of the superseded run, or the coarsest that no unfinished run makes."""
    if coarser.from_mag is not None:
        return Mag(layer.mag(coarser.from_mag.to_tuple()).mag)
    there = [Mag(mag.mag) for mag in layer.finest_first]
    if before in there:
        return before
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
        halo = kernels.halo(level.mode, level.factor)
        met = with_halo(met, [-(-h // f) for h, f in zip(halo, level.factor, strict=True)])  # those that see it beside them
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


def _identity(source: MagArray, levels: list[Level], coarser: Coarser) -> str | Inputs:
    """Return what is read of the source, which is little where only a box is made anew."""
    if not levels:
        return ""
    if coarser.within is None:
        return Inputs.of_array(source.handle)
    channel = tuple(a if axis == "c" else 0 for axis, a in zip(source.axes, source.box.start, strict=True))
    first = levels[0]
    seen = with_halo(first.box.refined(first.factor), kernels.halo(first.mode, first.factor))
    fine = mirrored_range(seen.shifted(channel), source.box)
    return Inputs.of_array(source.handle, fine.intersect(source.handle.spec.grid.box))


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
