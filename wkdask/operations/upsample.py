"""Finer magnifications of a layer that is there: every voxel of a coarse one fills its whole block of finer ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from wkdask._version import __version__
from wkdask.arrays.mag_array import read_filled
from wkdask.arrays.opening import open_mag_array, read_properties
from wkdask.errors import InputError, MagExistsError
from wkdask.formats import ArrayHandle
from wkdask.geometry import Mag
from wkdask.geometry.grid import Box, Index
from wkdask.metadata import LayerProperties, Properties, mag_name
from wkdask.operations.assembly import assemble
from wkdask.operations.choices import Running, Sampling, Storage, codec_settings
from wkdask.operations.existing import UnfinishedMags, open_to_replace, require_as_said, require_chosen
from wkdask.operations.inputs import Inputs
from wkdask.operations.level import Level
from wkdask.operations.mag_list import calculate_mags_to_upsample, sampling_mode_for
from wkdask.operations.probe import diagonal, with_probed_codec
from wkdask.operations.pyramid import TILE_BYTES, Room, build_levels, build_stages, new_arrays
from wkdask.operations.target import MoreMags, dumped
from wkdask.operations.tiles import Array
from wkdask.plan import Journal, Plan, Stage
from wkdask.storage import Location


@dataclass(frozen=True, slots=True)
class Finer:
    """Which magnifications are wanted.

    Parameters
    ----------
    from_mag
        What they are made of.
    finest
        The last of them.
    aligned
        Mags of other layers to agree with; see `wkdask.operations.mag_list.calculate_mags_to_downsample`.
    overwrite
        Whether those that exist are made anew.
    chosen
        What of the storage the user chose, of ``chunk``, ``shard`` and ``codec``: existing mags must have it.
    """

    from_mag: Mag
    finest: Mag = Mag(1)
    aligned: tuple[Mag, ...] = ()
    overwrite: bool = False
    chosen: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Repeated:
    """A source: a coarser magnification, each voxel of which is repeated.

    Parameters
    ----------
    array
        The coarser array.
    factor
        How often along each stored axis.
    channel
        The first of the layer's channels, where the array holds others too.
    """

    array: ArrayHandle
    factor: Index
    channel: int = 0

    def read(self, box: Box) -> Array:
        """Return a box of the finer level, Fortran-ordered: a copy for each axis, the fastest first, while there is little."""
        at = [self.channel if axis == "c" else 0 for axis in self.array.spec.axes]
        coarse = box.coarsened(self.factor)
        block = read_filled(self.array, coarse.shifted(at), keep=False).transpose()
        for axis in range(block.ndim - 1, -1, -1):
            stored = block.ndim - 1 - axis
            factor = self.factor[stored]
            if factor > 1:
                of = np.arange(box.start[stored], box.stop[stored]) // factor - coarse.start[stored]
                block = np.take(block, of, axis=axis)
        return block.transpose()

    def bytes_read(self, box: Box) -> int:
        """Return the bytes of the coarse voxels under a box."""
        return box.coarsened(self.factor).size * self.array.spec.itemsize

    def bytes_beside(self, box: Box) -> int:
        """Return the memory of the copy before the last, which is at most half of the last."""
        return box.size * self.array.spec.itemsize // 2

    @property
    def growth(self) -> str:
        """Tiles may grow along all axes of space."""
        return "xyz"

    def needs(self, box: Box) -> Iterable[tuple[int, int]]:  # noqa: ARG002
        """Return nothing: the coarse magnification is there."""
        return ()

    def describe(self, tile: Index) -> str:  # noqa: ARG002
        """Return what is read."""
        return f"repeated voxels of mag {self.array.location.name}"


def plan_upsample(
    target: Location,
    layer_name: str,
    finer: Finer,
    *,
    storage: Storage | None = None,
    sampling: Sampling = Sampling(),
    running: Running = Running(),
) -> Plan:
    """Plan finer magnifications of a layer, each made of the same coarse one. Nothing is written.

    They cover the layer's box, rounded outwards to their own voxels. Units of a magnification that is made anew keep nothing
    beyond it.

    Parameters
    ----------
    target
        The dataset.
    layer_name
        Its layer.
    finer
        Which magnifications.
    storage
        How their voxels lie on disk; default: as the reference would have them, compressed.
    sampling
        Its mode says which magnifications lie between the two.
    running
        Threads and memory.

    Returns
    -------
    Plan
        Without any task where both magnifications are the same.

    Raises
    ------
    LayerNotFoundError, MagNotFoundError
        Where there is nothing to start from.
    MagExistsError
        Where a magnification exists and is not to be made anew.
    InputError, ReadOnlyError
        Where one can not be made of the coarse one, or not anew, or not as chosen.
    """
    journal = Journal(target, layer_name, running.scratch)
    plan = _plan(journal, finer, storage, sampling, running)
    unfinished = journal.document()
    if unfinished is None or not finer.overwrite or unfinished.get("fingerprint") == plan.fingerprint:
        return plan  # which is refused when it begins, where another one is unfinished
    return _plan(replace(journal, instead_of=str(unfinished.get("fingerprint") or "")), finer, storage, sampling, running)


def _plan(journal: Journal, finer: Finer, storage: Storage | None, sampling: Sampling, running: Running) -> Plan:
    target, properties = journal.target, read_properties(journal.target)
    layer = properties.layer(journal.key)
    began = UnfinishedMags.of(journal)
    under_way = began.unlisted if began else frozenset[Mag]()
    start = Mag(layer.mag(finer.from_mag.to_tuple()).mag)
    if start in under_way:
        raise InputError(f"Mag {start} of layer '{layer.name}' is not complete: a run was stopped. Run that again first.")
    source = open_mag_array(target, properties, layer, start.to_tuple())
    require_as_said(source, layer)
    mags = _mags(layer, properties, finer, sampling)
    there = {Mag(mag.mag) for mag in layer.mags} - under_way
    anew = [mag for mag in mags if mag in there]
    if anew and not finer.overwrite:
        raise MagExistsError(
            f"Layer '{layer.name}' has a magnification {anew[0]} already. To make it anew, pass allow_overwrite=True, or "
            "--overwrite-existing on the command line."
        )
    storage = storage or Storage(data_format=str(layer.data_format))
    arrays = {mag: open_to_replace(target, properties, layer, mag) for mag in anew}
    for mag, array in arrays.items():
        require_chosen(array, f"{layer.name}/{mag.to_layer_name()}", storage, finer.chosen)
    if new := [mag for mag in mags if mag not in there]:
        edges = dict(zip("xyz", storage.chunk_shape, strict=True))
        chunk = [edges.get(axis, 1) for axis in source.axes]
        storage = with_probed_codec(storage, layer.category, partial(map, source.read, diagonal(source.box, chunk)))
        arrays |= new_arrays(layer, target / layer.name, new, storage)
    levels = [build_levels(layer, {mag: arrays[mag]}, "nearest", replaces=anew)[0] for mag in mags]
    channel = dict(zip(source.axes, source.box.start, strict=True)).get("c", 0)
    sources = [Repeated(source.handle, _factor(start, mag, source.axes), channel) for mag in mags]
    room = Room(running.threads, min(TILE_BYTES, running.tile_bytes * 2 // 3))
    triples, again = (tuple(mag.to_tuple() for mag in some) for some in (mags, anew))
    return assemble(
        MoreMags(journal, properties.voxel_size, dumped(layer), (), triples, frozenset(again)),
        _stages(sources, levels, room, journal),
        running,
        name=f"upsample {target.name}/{layer.name} from mag {start}",
        settings=_settings(layer, start, levels) | {"anew": [mag_name(mag) for mag in again]},
        identity=Inputs.of_array(source.handle) if levels else "",
    )


def _mags(layer: LayerProperties, properties: Properties, finer: Finer, sampling: Sampling) -> list[Mag]:
    """Return the mags to make, coarsest first."""
    start, finest = finer.from_mag.to_tuple(), finer.finest.to_tuple()
    if any(b > a for a, b in zip(start, finest, strict=True)):
        raise InputError(
            f"Mag {finer.finest} is coarser than mag {finer.from_mag} of layer '{layer.name}' along an axis, so it can not be "
            "made of it. Choose a finer one."
        )
    mode = sampling_mode_for(layer.bounding_box.size, sampling.mode)
    mags = calculate_mags_to_upsample(finer.from_mag, finer.finest, properties.voxel_size.to_nanometer(), mode, finer.aligned)
    for mag in mags:
        if any(b > a for a, b in zip(start, mag.to_tuple(), strict=True)):
            raise InputError(
                f"Between mags {finer.from_mag} and {finer.finest} lies mag {mag}, by other layers or the sampling mode. "
                f"It is coarser than mag {finer.from_mag} along an axis. Do not align with other layers, or choose another "
                "sampling mode."
            )
    return mags


def _factor(start: Mag, mag: Mag, axes: Sequence[str]) -> Index:
    factors = dict(zip("xyz", (start // mag).to_tuple(), strict=True))
    return tuple(factors.get(axis, 1) for axis in axes)


def _stages(
    sources: Sequence[Repeated], levels: Sequence[Level], room: Room, journal: Journal
) -> tuple[list[Stage], list[int]]:
    """Return the stages of all levels, each of which reads the coarse magnification itself."""
    stages: list[Stage] = []
    last: list[int] = []
    chosen = journal.layout()
    for number, (source, level) in enumerate(zip(sources, levels, strict=True)):
        stages, ends = build_stages(source, [level], room, journal, chosen[number : number + 1], stages)
        last += ends
    return stages, last


def _settings(layer: LayerProperties, start: Mag, levels: list[Level]) -> dict[str, Any]:
    """Return all that decides the bytes that are written."""
    box = layer.bounding_box
    return {
        "layer": [layer.name, layer.category, layer.dtype, box.top_left, box.size],
        "from": mag_name(start.to_tuple()),
        "mags": [level.name.rpartition("/")[2] for level in levels],
        "chunks": [level.array.spec.chunk for level in levels],
        "shards": [level.array.spec.unit for level in levels],
        "wkdask": __version__,
        **codec_settings(levels[0].array.spec.codec if levels else None),
    }
