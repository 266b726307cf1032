"""Storing an array that is computed: into a new layer, or into a magnification of one that is there, in one plan."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dask.base import tokenize

from wkdask._version import __version__
from wkdask.arrays.opening import read_properties
from wkdask.errors import InputError, PlanRefusedError
from wkdask.geometry.grid import Index
from wkdask.metadata import FILE_NAME, validate_layer_name
from wkdask.operations.assembly import assemble
from wkdask.operations.choices import Running, Sampling, Storage, codec_settings
from wkdask.operations.existing import UnfinishedMags
from wkdask.operations.pyramid import TILE_BYTES, Made, Reduced, Room, build_stages
from wkdask.operations.store_blocks import GivenBlocks, WriteBlocks, require_small
from wkdask.operations.store_input import Given
from wkdask.operations.store_layout import Laying, Layout, Place
from wkdask.operations.store_plan import StorePlan
from wkdask.operations.tiles import JoinUnits
from wkdask.plan import Journal, Stage, default_limit
from wkdask.storage import Location

BLOCK_SHARE = 3
"""A block may take one part in so many of a worker thread's memory: beside it are what it is made of, and its encoding."""


NEW = "store new"


def plan_store(
    given: Given,
    target: Location,
    place: Place,
    *,
    storage: Storage = Storage(),
    sampling: Sampling = Sampling(downsample=False),
    running: Running = Running(),
) -> StorePlan:
    """Plan to compute an array and store it, with its pyramid on request. Nothing is written or computed.

    Each block of the array is written by one task, fused with the one that makes it; blocks that do not begin and end where
    chunks do are put together anew, see `wkdask.operations.store_blocks.align`.

    Parameters
    ----------
    given
        The array.
    target
        The dataset; made where it does not exist and a new layer is wanted.
    place
        Layer, magnification and offset.
    storage, sampling
        How voxels lie on disk, and which coarser magnifications are made.
    running
        Threads and memory.

    Raises
    ------
    InputError
        Where the array does not fit the layer.
    MagExistsError, LayerExistsError
        Where there is something already.
    PlanRefusedError
        Where blocks are too large for memory, or another kind of run is to be finished first.

    Notes
    -----
    A run that was stopped goes on where the array's name is the same, which dask makes of all that the array is computed from.
    Where it is another, an unfinished one is given up, and the plan's notes say so. Files that the array is computed from are
    not known here, so whether they change meanwhile is not noticed, as it is by `plan_map`.
    """
    journal = Journal(target, validate_layer_name(place.layer), running.scratch)
    begun_new = str((journal.document() or {}).get("name", "")).startswith(NEW)
    if place.category and place.overwrite and not begun_new and _has_layer(target, place.layer):
        place = replace(place, category=None)
    build = _Building(given, place, storage, sampling, running)
    plan, unfinished = build.plan(journal), journal.document()
    if unfinished is None or unfinished.get("fingerprint") == plan.fingerprint or unfinished.get("name") != plan.name:
        plan.setup.check()
        return plan  # of another name: refused when it begins
    _require_all_anew(UnfinishedMags.of(journal), unfinished, plan)
    plan = build.plan(replace(journal, instead_of=str(unfinished.get("fingerprint") or "")))
    plan.setup.check()
    note = "an earlier run was stopped that stores another array, or this one differently; it is given up"
    return replace(plan, notes=(*plan.notes, note))


def _has_layer(target: Location, layer: str) -> bool:
    return (target / FILE_NAME).is_file() and layer in read_properties(target).layer_names


def _require_all_anew(began: UnfinishedMags | None, unfinished: Mapping[str, Any], plan: StorePlan) -> None:
    """Refuse to give up a run that has replaced some units, unless this plan replaces them all."""
    names = {str(mag.to_layer_name()) for mag in began.anew} if began else set()
    inside = (unfinished.get("settings") or {}).get("box") == [list(ends) for ends in plan.settings["box"]]
    if names and not (inside and names <= set(plan.settings["anew"])):
        raise PlanRefusedError(
            f"An earlier run that puts new voxels into mags {', '.join(sorted(names))} of layer '{plan.journal.key}' was "
            "stopped, and this one would leave some of them half done. Run that again, or store an array over the same box."
        )


@dataclass(frozen=True, slots=True)
class _Building:
    """What a plan is built of; see `plan_store`."""

    given: Given
    place: Place
    storage: Storage
    sampling: Sampling
    running: Running

    def plan(self, journal: Journal) -> StorePlan:
        """Return the plan that goes on where the journal stands, or begins anew instead of it."""
        properties = read_properties(journal.target) if (journal.target / FILE_NAME).is_file() else None
        layout = Laying(self.given, self.place, self.storage, self.sampling).into(journal, properties)
        first, blocks = layout.levels[0], layout.blocks
        array, spec = layout.array, first.array.spec
        if any(spec.offset) and layout.anew:
            raise InputError(
                f"The array of {first.name} begins at {spec.offset}; only such that begin at 0 get computed voxels. Write "
                "it with MagView.write, or make another layer."
            )
        require_small(blocks, spec, block_bytes(self.running), self.given.order(spec.axes))
        made = assemble(
            layout.target,
            self._stages(layout, journal),
            self.running,
            name=f"{NEW if self.place.category else 'store into'} layer {journal.target.name}/{journal.key}",
            settings=_settings(layout, array.name),
            identity=tokenize(array.name, str(array.dtype), blocks.cuts),
            notes=layout.notes,
        )
        inherited = {name: getattr(made, name) for name in made.__dataclass_fields__ if name != "fingerprint"}
        return StorePlan(**inherited, array=array)

    def _stages(self, layout: Layout, journal: Journal) -> tuple[list[Stage], list[int]]:
        """Return the stages, and for each level the one that completes it."""
        ones = (1,) * len(layout.blocks.shape)
        first = replace(layout.levels[0], scale=ones, direct=layout.blocks.divide(layout.levels[0].array.spec.unit))
        source = GivenBlocks(first.array.spec.dtype)
        write = WriteBlocks(source, (first,), layout.blocks.shape, journal, extremes=True, blocks=layout.blocks)
        stages = [Stage(f"write {first.name.rpartition('/')[2]}", write)]
        made = Made(0, layout.blocks, ones)
        if not first.direct:
            stages.append(Stage(f"join {first.name.rpartition('/')[2]}", JoinUnits(first, layout.blocks, 0, journal)))
            made = Made(1, first.units, ones)
        own = [len(stages) - 1]
        if not layout.levels[1:]:
            return stages, own
        coarse = layout.levels[1]
        reduced = Reduced(first.array, first.domain or first.box, coarse.factor, coarse.mode, made, coarse.large)
        room = Room(self.running.threads, min(TILE_BYTES, self.running.tile_bytes), fused=not layout.cut)
        stages, last = build_stages(reduced, layout.levels[1:], room, journal, journal.layout()[1:], stages)
        return stages, own + last


def _settings(layout: Layout, array: str) -> dict[str, Any]:
    """Return all that decides the bytes that are written."""
    levels, layer = layout.levels, layout.target.properties
    box: tuple[Index, Index] = layout.blocks.over.start, layout.blocks.over.stop
    return {
        "layer": [layer.name, layer.category, layer.dtype, layer.bounding_box.top_left, layer.bounding_box.size],
        "array": array,
        "box": box,
        "from": levels[0].name.rpartition("/")[2],
        "mags": [level.name.rpartition("/")[2] for level in levels],
        "anew": list(layout.anew),
        "chunks": [level.array.spec.chunk for level in levels],
        "shards": [level.array.spec.unit for level in levels],
        "kernel": levels[0].mode,
        "wkdask": __version__,
        **codec_settings(levels[0].array.spec.codec),
    }


def block_bytes(running: Running) -> int:
    """Return the bytes that a block may have: a share of the memory of a thread, here or on the cluster in use."""
    limits = [(running.memory_limit or default_limit()) // running.threads]
    if "distributed" in sys.modules and not running.memory_limit:
        from distributed import default_client

        try:
            workers = default_client().scheduler_info(n_workers=-1)["workers"].values()
        except ValueError:
            workers = ()
        limits = [w["memory_limit"] // max(1, w["nthreads"]) for w in workers if w["memory_limit"]] or limits
    return min(limits) // BLOCK_SHARE
