"""Adding sections to a layer that is there: the units at its end, and above them in each magnification, in one plan."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from wkdask._version import __version__
from wkdask.arrays.mag_array import read_filled
from wkdask.arrays.opening import layer_ends, read_properties
from wkdask.errors import InputError
from wkdask.formats import ArrayHandle, find_format
from wkdask.geometry import BoundingBox, Mag
from wkdask.geometry.grid import Box, Index
from wkdask.metadata import LayerProperties, Properties, load_json
from wkdask.operations.assembly import assemble
from wkdask.operations.choices import Running, Sampling, stored_shape
from wkdask.operations.convert import room_for, stack_settings
from wkdask.operations.downsample import under
from wkdask.operations.existing import open_to_replace
from wkdask.operations.inputs import Inputs
from wkdask.operations.level import Level, path_below
from wkdask.operations.permuted import in_order
from wkdask.operations.pyramid import build_levels, build_stages
from wkdask.operations.source import FromImages
from wkdask.operations.target import MoreMags, dumped
from wkdask.operations.tiles import Array, Source
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
        What comes behind it, in stored axes.
    at
        The first plane of the images, along z.
    itemsize
        Bytes of a voxel of the array, or of the images as they are read, whichever are more.
    """

    array: ArrayHandle
    images: Source
    at: int
    itemsize: int

    def read(self, box: Box) -> Array:
        """Return a box of the layer that is to be, in stored axes."""
        z = self.array.spec.axes.index("z")
        old, new = _cut(box, z, self.at)
        if not old.size:
            return self.images.read(box)
        block = read_filled(self.array, old, keep=False)
        if not new.size:
            return block
        whole: Array = np.empty(box.shape, block.dtype, order="F")
        whole[old.relative_to(box.start).slices] = block
        whole[new.relative_to(box.start).slices] = self.images.read(new)
        return whole

    def bytes_read(self, box: Box) -> int:
        """Return the bytes of voxels of a box."""
        return self.images.bytes_read(box)

    def bytes_beside(self, box: Box) -> int:
        """Return what reading images takes, and the copy of the box that they are put into."""
        return self.images.bytes_beside(box) + box.size * self.itemsize

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


def _cut(box: Box, axis: int, at: int) -> tuple[Box, Box]:
    """Return the parts of a box before and from a plane on; one of them may be empty.

    Examples
    --------
    >>> _cut(Box((0, 5), (2, 9)), 1, 7)
    (Box(start=(0, 5), stop=(2, 7)), Box(start=(0, 7), stop=(2, 9)))
    """
    below, behind = list(box.stop), list(box.start)
    below[axis], behind[axis] = min(box.stop[axis], at), max(box.start[axis], at)
    return Box(box.start, tuple(below)), Box(tuple(behind), box.stop)


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
        layer, until = self.properties, (_under_way(self.journal) or (0, 0))[1]
        (x, y, z), (width, height, depth) = layer.bounding_box.top_left, layer.bounding_box.size
        reached = layer.with_bounding_box(((x, y, z), (width, height, max(depth, until - z))))
        paths = {record.path for receipt in self.journal.read() for record in receipt.files}
        for level, mag in zip(self.levels, self.mags, strict=True):
            array, end = _enlarged(level.array, reached, Mag(mag)), layer_ends(layer, mag)["z"][1]
            prefix = path_below(self.journal.target, array.location) + "/"
            found = {array.unit_of(path.removeprefix(prefix)) for path in paths if path.startswith(prefix)}
            for index in filter(None, found):
                if level.keeps:
                    _erase(replace(level, array=array), index, end, -(-until // mag[2]))
                elif array.spec.grid.unit_box(index).start[-1] >= end:
                    array.unit_location(index).delete()

    def create(self) -> None:
        """Give the arrays their new shapes; the box, which says what is read, stays."""
        form = find_format(str(self.properties.data_format))
        for level in self.levels:
            form.open(level.array.location, level.array.spec.end).resize(level.array.spec.shape)

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
    z = array.spec.axes.index("z")
    first, last = list(whole.start), list(whole.stop)
    first[z], last[z] = start, stop
    box = Box(tuple(first), tuple(last)).intersect(array.spec.grid.unit_box(index)).intersect(array.spec.grid.box)
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
    mags = [Mag(mag.mag) for mag in layer.finest_first] or [Mag(layer.mag((1, 1, 1)).mag)]
    under_way = None if journal.instead_of else _under_way(journal)
    layer, grown, changed = _growth(layer, stack.shape[0], mags[0], under_way and under_way[0])
    arrays = [_own_array(target, properties, layer, mag) for mag in mags]
    _check_fit(layer, images, mags[0])
    _check_chain(layer, mags)
    larger = {mag: _enlarged(array, grown, mag) for mag, array in zip(mags, arrays, strict=True)}
    levels = build_levels(grown, larger, sampling.kernel(layer.category), replaces=mags)
    levels = under([replace(levels[0], keeps=True), *levels[1:]], mags, changed)
    start = layer_ends(layer, mags[0].to_tuple())
    images = replace(images, origin=(start["x"][0], start["y"][0], start["z"][1]))
    room = replace(room_for(images, levels[0], running), fused=False)
    own, axes = ("t", *"cxyz") if "t" in arrays[0].spec.axes else "cxyz", arrays[0].spec.axes
    itemsize = max(arrays[0].spec.itemsize, np.dtype(stack.dtype).itemsize)
    behind = Behind(arrays[0], in_order(images, own, axes), images.origin[2], itemsize)
    built = build_stages(behind, levels, room, journal, journal.layout())
    triples = tuple(mag.to_tuple() for mag in mags)
    return assemble(
        GrowingLayer(journal, properties.voxel_size, dumped(layer), (), triples, frozenset(triples), dumped(grown)),
        built,
        running,
        name=f"append {stack.label} to {target.name}/{journal.key}",
        settings=_settings(layer, images, levels) | {"to_z": grown.bounding_box.bottom_right[2]},
        identity=Inputs.of_stack(stack),
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
    """Return the array of a magnification, after checking that its units may be written, and are added to along z alone."""
    array, found = open_to_replace(target, properties, layer, mag), layer.mag(mag.to_tuple())
    axes, ends = array.spec.axes, layer_ends(layer, found.mag, found.channel_index)
    if not set(axes) <= set("tcxyz"):
        raise InputError(
            f"Mag {mag} of layer '{layer.name}' has the axes {', '.join(axes)}; sections are added where there are none but "
            "t, c, x, y and z. Convert all sections into a new layer."
        )
    if any(ends[axis][0] for axis in axes if axis not in "xyz"):
        raise InputError(
            f"Mag {mag} of layer '{layer.name}' shows its array from another channel or time point on than the first. Convert "
            "all sections into a new layer."
        )
    return array


def _check_fit(layer: LayerProperties, images: FromImages, mag: Mag) -> None:
    ends = layer_ends(layer, mag.to_tuple())
    stack, values = images.stack, images.values
    wanted = {
        "width and height": tuple(ends[axis][1] - ends[axis][0] for axis in "xy"),
        "dtype": layer.dtype,
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


def _enlarged(array: ArrayHandle, layer: LayerProperties, mag: Mag) -> ArrayHandle:
    """Return an array with the shape that it gets when its layer has grown, along no axis smaller than it was."""
    spec, ends = array.spec, {axis: end for axis, (_, end) in layer_ends(layer, mag.to_tuple()).items()}
    shape = tuple(map(max, spec.shape, stored_shape(str(layer.data_format), spec, ends)))
    larger: ArrayHandle = replace(array, spec=replace(spec, shape=shape))  # type: ignore[type-var]
    return larger


def _check_chain(layer: LayerProperties, mags: list[Mag]) -> None:
    for finer, mag in pairwise(mags):
        if any(m % f for m, f in zip(mag.to_tuple(), finer.to_tuple(), strict=True)):
            raise InputError(f"Mag {mag} of layer '{layer.name}' can not be made of mag {finer}. Delete one of them first.")


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
