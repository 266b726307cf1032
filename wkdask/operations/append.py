"""Adding sections to a layer that is there: the units at its end, and above them in each magnification, in one plan."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from wkdask._version import __version__
from wkdask.arrays.mag_array import read_filled
from wkdask.arrays.opening import layer_ends, open_mag_array, read_properties
from wkdask.errors import InputError, ReadOnlyError
from wkdask.formats import ArrayHandle, find_format
from wkdask.geometry import BoundingBox, Mag
from wkdask.geometry.grid import Box, Index
from wkdask.metadata import LayerProperties, Properties, load_json
from wkdask.operations.choices import Running, Sampling
from wkdask.operations.convert import room_for, source_name, stack_identity, stack_settings
from wkdask.operations.downsample import under
from wkdask.operations.existing import open_to_replace, resolved
from wkdask.operations.level import Level, path_below
from wkdask.operations.pyramid import build_stages, chosen_tiles, with_kernels
from wkdask.operations.source import FromImages
from wkdask.operations.target import CommitLevel, MoreMags, dumped
from wkdask.operations.tiles import Array, WriteTiles
from wkdask.plan import Journal, Plan
from wkdask.storage import Location


@dataclass(frozen=True, slots=True)
class Behind:
    """A source of tiles: an array up to a plane, images from there on.

    Parameters
    ----------
    array
        The array as it is.
    images
        What comes behind it.
    """

    array: ArrayHandle
    images: FromImages

    def read(self, box: Box) -> Array:
        """Return a box of the layer that is to be, in stored axes."""
        at = self.images.origin[2]
        if box.start[-1] >= at:
            return self.images.read(box)
        old = Box(box.start, (*box.stop[:-1], min(box.stop[-1], at)))
        block = read_filled(self.array, old, keep=False)
        if box.stop[-1] <= at:
            return block
        whole: Array = np.empty(box.shape, block.dtype, order="F")
        whole[..., : block.shape[-1]] = block
        whole[..., block.shape[-1] :] = self.images.read(Box((*box.start[:-1], at), box.stop))
        return whole

    def bytes_read(self, box: Box) -> int:
        """Return the bytes of voxels of a box."""
        return self.images.bytes_read(box)

    def bytes_beside(self, box: Box) -> int:
        """Return what reading images takes, and the copy of the box that they are put into."""
        itemsize = max(self.array.spec.itemsize, np.dtype(self.images.stack.dtype).itemsize)
        return self.images.bytes_beside(box) + box.size * itemsize

    @property
    def growth(self) -> str:
        """As images are read."""
        return self.images.growth

    def needs(self, box: Box) -> Iterable[tuple[int, int]]:  # noqa: ARG002
        """Return nothing: both are there."""
        return ()

    def describe(self, tile: Index) -> str:
        """Return what is read."""
        return f"the layer's last units and {self.images.describe(tile)}"


@dataclass(frozen=True)
class GrowingLayer(MoreMags):
    """A layer whose arrays grow before the first task, and whose box grows when all magnifications are complete."""

    grown: bytes = b""

    def clear(self) -> None:
        """Undo what the superseded run has added behind the layer's end, in the units that its receipts speak of.

        In the finest magnification its sections become zero, so that all else in their units stays. Units of coarser ones,
        which hold nothing that was not made of finer ones, are deleted. A unit that a kill hit between its publication and
        its receipt stays, beyond all boxes.
        """
        until = (_under_way(self.journal) or (0, 0))[1]
        paths = {record.path for receipt in self.journal.read() for record in receipt.files}
        for level, mag in zip(self.levels, self.mags, strict=True):
            array, end = level.array, layer_ends(self.properties, mag)["z"][1]
            prefix = path_below(self.journal.target, array.location) + "/"
            found = {array.unit_of(path.removeprefix(prefix)) for path in paths if path.startswith(prefix)}
            for index in filter(None, found):
                if level.keeps:
                    _erase(level, index, end, -(-until // mag[2]))
                elif array.spec.grid.unit_box(index).start[-1] >= end:
                    array.unit_location(index).delete()

    def create(self) -> None:
        """Give the arrays their new shapes; the box, which says what is read, stays."""
        form = find_format(str(self.properties.data_format))
        for level in self.levels:
            end = [b for axis, b in zip(level.array.spec.axes, level.array.spec.shape, strict=True) if axis in "xyz"]
            form.open(level.array.location, end).resize(level.array.spec.shape)

    def _with_level(self, old: bytes | None, number: int, low: float | None, high: float | None) -> bytes:
        document = self._present(old)
        if number < len(self.levels) - 1:
            return document
        properties = Properties.from_json(document, str(self.document))
        layer = properties.layer(self.journal.key)
        box = layer.bounding_box  # in which others may have written meanwhile, so that it has grown
        end = LayerProperties.from_dict(load_json(self.grown, "layer"), "layer").bounding_box.bottom_right[2]
        depth = max(end, box.bottom_right[2]) - box.top_left[2]
        layer = layer.with_bounding_box((box.top_left, (*box.size[:2], depth)))
        return properties.with_layer(_extended(layer, low, high)).to_json()


def _erase(level: Level, index: Index, start: int, stop: int) -> None:
    """Make voxels of a unit zero: those of the layer's width and height, from one plane to another; no memory is taken."""
    array, whole = level.array, level.domain or level.box
    box = Box((*whole.start[:-1], start), (*whole.stop[:-1], stop)).intersect(array.spec.grid.unit_box(index))
    box = box.intersect(array.spec.grid.box)
    if box.size:
        array.write(box, np.broadcast_to(np.zeros((), array.spec.dtype), box.shape))


def _extended(layer: LayerProperties, low: float | None, high: float | None) -> LayerProperties:
    """Return the layer with what the new voxels told: a wider contrast window, or a larger segment id."""
    if low is None or high is None:
        return layer
    if layer.category == "segmentation":
        known = layer.largest_segment_id
        return layer if known is None else layer.updated(largest_segment_id=max(known, int(high)))
    view = layer.default_view_configuration
    if view is None or view.min is None or view.max is None:
        return layer
    return layer.with_view_configuration(min=min(view.min, float(low)), max=max(view.max, float(high)))


def plan_append(
    target: Location,
    layer_name: str,
    images: FromImages,
    *,
    sampling: Sampling = Sampling(),
    running: Running = Running(),
    overwrite: bool = False,
) -> Plan:
    """Plan the addition of sections behind the last one of a layer. Nothing is written.

    Only the units that hold the layer's end, or lie behind it, are written, in each magnification that there is; the layer's
    box grows when all are complete.

    Parameters
    ----------
    target, layer_name
        The layer.
    images
        The sections, of the layer's finest magnification, oriented and valued as the layer's own; with that they are as wide
        and high as the layer. Where they begin follows from the layer.
    sampling
        By which kernel coarser magnifications are made.
    running
        Threads and memory.
    overwrite
        Whether this may take the place of a run that adds other sections and was stopped.

    Raises
    ------
    InputError
        Where the sections do not fit the layer; the message says how.
    ReadOnlyError
        Where a magnification lies outside the dataset.
    """
    journal = Journal(target, layer_name, running.scratch)
    plan = _plan(journal, images, sampling, running)
    unfinished, under_way = journal.document() or {}, _under_way(journal)
    if not overwrite or under_way is None or unfinished.get("fingerprint") == plan.fingerprint:
        return plan
    if read_properties(target).layer(layer_name).bounding_box.bottom_right[2] == under_way[1]:
        return plan  # its sections are in the layer already, so that it is to be finished
    return _plan(replace(journal, instead_of=str(unfinished.get("fingerprint"))), images, sampling, running)


def _under_way(journal: Journal) -> tuple[int, int] | None:
    """Return from where to where, along z, an unfinished run adds sections; None where there is no such run."""
    settings = (journal.document() or {}).get("settings")
    if not isinstance(settings, dict):
        return None
    start, stop = settings.get("from_z"), settings.get("to_z")
    return (start, stop) if type(start) is int and type(stop) is int and start < stop else None


def _plan(journal: Journal, images: FromImages, sampling: Sampling, running: Running) -> Plan:
    target, stack = journal.target, images.stack
    properties = read_properties(target)
    layer = properties.layer(journal.key)
    mags = sorted((Mag(mag.mag) for mag in layer.mags), key=lambda mag: mag.sort_key) or [Mag(layer.mag((1, 1, 1)).mag)]
    under_way = None if journal.instead_of else _under_way(journal)
    layer, grown, changed = _growth(layer, stack.shape[0], mags[0], under_way and under_way[0])
    arrays = [_own_array(target, properties, layer, mag) for mag in mags]
    _check_fit(layer, images, arrays[0].spec.dtype, mags[0])
    levels = under(_levels(grown, arrays, mags, sampling.kernel(layer.category)), mags, changed)
    start = layer_ends(layer, mags[0].to_tuple())
    images = replace(images, origin=(start["x"][0], start["y"][0], start["z"][1]))
    room = replace(room_for(images, levels[0], running), fused=False)
    stages, last = build_stages(Behind(arrays[0], images), levels, room, journal, journal.layout())
    written = tuple(level for s in stages if isinstance(s.operation, WriteTiles) for level in s.operation.levels)
    triples = tuple(mag.to_tuple() for mag in mags)
    setup = GrowingLayer(journal, properties.voxel_size, dumped(layer), written, triples, frozenset(triples), dumped(grown))
    return Plan(
        name=f"append {source_name(stack)} to {target.name}/{journal.key}",
        journal=journal,
        settings=_settings(layer, images, levels) | {"to_z": grown.bounding_box.bottom_right[2]},
        identity=stack_identity(stack),
        stages=tuple(stages),
        milestones=tuple(CommitLevel(setup, number, stage) for number, stage in enumerate(last)),
        setup=setup,
        workers=running.threads,
        layout=chosen_tiles(stages),
        command=running.command,
        notes=stack.notes,
    )


def _growth(
    layer: LayerProperties, sections: int, mag: Mag, began: int | None
) -> tuple[LayerProperties, LayerProperties, BoundingBox]:
    """Return the layer as it was before any run began to append these sections, as it will be, and the new box."""
    x, y, z = layer.bounding_box.top_left
    width, height, depth = layer.bounding_box.size
    if began is not None and z <= began <= z + depth:
        depth = began - z
    if (z + depth) % mag.z:
        raise InputError(
            f"Layer '{layer.name}' ends at {z + depth} along z, inside of a voxel of its finest mag {mag}. "
            "Give its box a multiple of the mag first."
        )
    new = sections * mag.z
    before = layer.with_bounding_box(((x, y, z), (width, height, depth)))
    after = layer.with_bounding_box(((x, y, z), (width, height, depth + new)))
    return before, after, BoundingBox((x, y, z + depth), (width, height, new))


def _own_array(target: Location, properties: Properties, layer: LayerProperties, mag: Mag) -> ArrayHandle:
    """Return the array of a magnification, after checking that its units may be written, and hold nothing but this layer."""
    opened = open_mag_array(target, properties, layer, mag.to_tuple())
    array, axes = opened.handle, opened.handle.spec.axes
    if not resolved(array.location).startswith(f"{resolved(target)}/"):
        raise ReadOnlyError(
            f"Mag {mag} of layer '{layer.name}' lies outside the dataset, at {array.location}, so nothing is added to it from "
            "here. Append to the dataset that it belongs to."
        )
    if axes not in (tuple("cxyz"), tuple("tcxyz")):
        raise InputError(
            f"Mag {mag} of layer '{layer.name}' has the axes {', '.join(axes)}; sections are added to c, x, y, z and to "
            "t, c, x, y, z. Convert all sections into a new layer."
        )
    c = axes.index("c")
    shown, stored = opened.box.shape[c], array.spec.shape[c]
    if shown != stored or any(opened.box.start[: c + 1]):
        raise InputError(
            f"Mag {mag} of layer '{layer.name}' shows {shown} of the {stored} channels of its array, or not its first time "
            "points. Convert all sections into a new layer."
        )
    return open_to_replace(target, properties, layer, mag)


def _check_fit(layer: LayerProperties, images: FromImages, dtype: str, mag: Mag) -> None:
    ends = layer_ends(layer, mag.to_tuple())
    stack, values = images.stack, images.values
    wanted = {
        "width and height": tuple(ends[axis][1] - ends[axis][0] for axis in "xy"),
        "dtype": dtype,
        "channels": layer.num_channels,
        "time points": ends.get("t", (0, 1))[1] - ends.get("t", (0, 1))[0],
    }
    found = {
        "width and height": images.orientation.extent(stack.shape)[:2],
        "dtype": values.target if values else stack.dtype,
        "channels": stack.channels,
        "time points": stack.times,
    }
    for what, value in wanted.items():
        if found[what] != value:
            raise InputError(
                f"The sections have {what} {found[what]}, layer '{layer.name}' has {value} in its finest mag {mag}. "
                "Give sections that fit the layer."
            )


def _levels(layer: LayerProperties, arrays: list[ArrayHandle], mags: list[Mag], kernel: str) -> list[Level]:
    """Return the magnifications of a layer that has grown, with arrays of the shape that they will have."""
    levels = []
    for array, mag, finer in zip(arrays, mags, [mags[0], *mags], strict=False):
        spec, ends = array.spec, layer_ends(layer, mag.to_tuple())
        if any(m % f for m, f in zip(mag.to_tuple(), finer.to_tuple(), strict=True)):
            raise InputError(f"Mag {mag} of layer '{layer.name}' can not be made of mag {finer}. Delete one of them first.")
        pairs = [ends.get(axis, (0, n)) for axis, n in zip(spec.axes, spec.shape, strict=True)]
        shape = tuple(max(n, -(-b // u) * u) for n, u, (_, b) in zip(spec.shape, spec.unit, pairs, strict=True))
        larger: ArrayHandle = replace(array, spec=replace(spec, shape=shape))  # type: ignore[type-var]
        factors = dict(zip("xyz", (m // f for m, f in zip(mag.to_tuple(), finer.to_tuple(), strict=True)), strict=True))
        box = Box(tuple(a for a, _ in pairs), tuple(b for _, b in pairs))
        factor = tuple(factors.get(axis, 1) for axis in spec.axes)
        levels.append(Level(f"{layer.name}/{mag.to_layer_name()}", larger, box, factor, kernel, replaces=True))
    levels[0] = replace(levels[0], keeps=True)
    return with_kernels(levels, kernel, [0, *(level.box.size for level in levels[:-1])])


def _settings(layer: LayerProperties, images: FromImages, levels: list[Level]) -> dict[str, Any]:
    """Return all that decides the bytes that are written."""
    box = layer.bounding_box
    return {
        "layer": [layer.name, layer.category, layer.dtype, box.top_left, box.size],
        "from_z": box.bottom_right[2],
        **stack_settings(images.stack),
        "orientation": [*images.orientation.flip, images.orientation.swap_xy],
        "values": repr(images.values) if images.values else "as they are",
        "mags": [level.name.rpartition("/")[2] for level in levels],
        "kernel": levels[0].mode,
        "wkdask": __version__,
    }
