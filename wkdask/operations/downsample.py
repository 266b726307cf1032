"""Making coarser magnifications of a layer that is there, or mending those under a box that changed: one plan."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

from wkdask._version import __version__
from wkdask.arrays import MagArray
from wkdask.arrays.opening import open_mag_array, read_properties
from wkdask.errors import InputError, MagExistsError
from wkdask.formats import ArrayHandle
from wkdask.geometry import BoundingBox, Mag
from wkdask.geometry.grid import Box
from wkdask.metadata import LayerProperties, Properties, mag_name
from wkdask.operations.choices import Running, Sampling, Storage, codec_settings
from wkdask.operations.level import Level
from wkdask.operations.mag_list import calculate_mags_to_downsample, default_coarsest_mag, sampling_mode_for
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
    properties = read_properties(target)
    layer = properties.layer(layer_name)
    journal = Journal(target, layer_name, running.scratch)
    under_way = frozenset(mags_under_way(journal))
    start = _start(layer, coarser, under_way)
    source = open_mag_array(target, properties, layer, start.to_tuple())
    mags = _mags(layer, start, properties, coarser, sampling)
    there = {Mag(mag.mag) for mag in layer.mags} - under_way
    anew = [mag for mag in mags if mag in there]
    if anew and not coarser.overwrite:
        raise MagExistsError(
            f"Layer '{layer_name}' has a magnification {anew[0]} already. Pass allow_overwrite=True to make it anew."
        )
    storage = storage or Storage(data_format=str(layer.data_format))
    kernel = sampling.kernel(layer.category)
    levels = build_levels(layer, target / layer_name, mags, start, storage, kernel)
    handles = {mag: open_mag_array(target, properties, layer, mag.to_tuple()).handle for mag in anew}
    levels = [
        replace(level, array=handles.get(mag, level.array), replaces=mag in handles)
        for level, mag in zip(levels, mags, strict=True)
    ]
    if coarser.within is not None:
        levels = under(levels, mags, coarser.within)
    chosen = journal.layout()
    room = Room(running.threads, min(TILE_BYTES, running.tile_bytes), fused=coarser.within is None)
    stages, last = build_stages(_reduced(source, levels), levels, room, journal, chosen) if levels else ([], [])
    written = tuple(level for s in stages if isinstance(s.operation, WriteTiles) for level in s.operation.levels)
    triples = tuple(mag.to_tuple() for mag in mags)
    again = frozenset(mag.to_tuple() for mag in anew)
    setup = MoreMags(journal, properties.voxel_size, dumped(layer), written, triples, again)
    return Plan(
        name=f"downsample {target.name}/{layer_name} from mag {start}",
        journal=journal,
        settings=_settings(layer, start, levels, coarser),
        identity=array_identity(source.handle),
        stages=tuple(stages),
        milestones=tuple(CommitLevel(setup, number, stage) for number, stage in enumerate(last)),
        setup=setup,
        workers=running.threads,
        layout=chosen_tiles(stages),
        command=running.command,
    )


def mags_under_way(journal: Journal) -> list[Mag]:
    """Return the mags that an unfinished run of this layer makes; some may be listed already."""
    settings = (journal.document() or {}).get("settings") or {}
    return [Mag(name) for name in settings.get("mags", ())]


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
        if sampling.coarsest is not None and coarsest != start:
            raise InputError(f"Mag {coarsest} is not coarser than mag {start} of layer '{layer.name}'. Choose a coarser one.")
        return []
    mode = sampling_mode_for(size, sampling.mode)
    coarsest = Mag([max(a, b) for a, b in zip(coarsest.to_tuple(), start.to_tuple(), strict=True)])
    return calculate_mags_to_downsample(start, coarsest, properties.voxel_size.to_nanometer(), mode, coarser.aligned)


def _chain(start: Mag, wanted: tuple[Mag, ...]) -> list[Mag]:
    """Return mags sorted, after checking that each can be made of the one before."""
    mags = sorted(set(wanted), key=lambda mag: mag.sort_key)
    for fine, coarse in zip([start, *mags], mags, strict=False):
        if fine == coarse or any(c % f for c, f in zip(coarse.to_tuple(), fine.to_tuple(), strict=True)):
            raise InputError(
                f"Mag {coarse} can not be made of mag {fine}: it is no multiple of it. Choose another list of mags."
            )
    return mags


def under(levels: list[Level], mags: list[Mag], box: BoundingBox) -> list[Level]:
    """Return levels cut to the units that a box meets; their whole boxes stay what mirrors at the ends."""
    cut = []
    for level, mag in zip(levels, mags, strict=True):
        spec = level.array.spec
        ends = {a: (t // m, -(-b // m)) for a, t, b, m in zip("xyz", box.topleft, box.bottomright, mag.to_tuple(), strict=True)}
        pairs = [ends.get(axis, (a, b)) for axis, a, b in zip(spec.axes, level.box.start, level.box.stop, strict=True)]
        met = Box(tuple(a for a, _ in pairs), tuple(b for _, b in pairs)).intersect(level.box)
        if not met.size:
            raise InputError(f"The box {box} lies outside of the layer. Give one that meets its bounding box.")
        units = met.coarsened(spec.unit).refined(spec.unit)
        cut.append(replace(level, box=units.intersect(level.box), domain=level.box))
    return cut


def _reduced(source: MagArray, levels: list[Level]) -> Reduced:
    first = levels[0]
    return Reduced(source.handle, source.box, first.factor, first.mode, None, first.large)


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
    with lease(plan):
        plan.setup.create()
        for milestone in plan.milestones:
            milestone.commit(None, None)
