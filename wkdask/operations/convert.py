"""Converting a stack of images into a layer with its pyramid: one plan."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from wkdask._version import __version__
from wkdask.errors import InputError
from wkdask.formats import find_format
from wkdask.geometry import Mag
from wkdask.images import Stack, Volume
from wkdask.metadata import LayerProperties, VoxelSize, validate_layer_name
from wkdask.operations.assembly import assemble
from wkdask.operations.choices import Running, Sampling, Storage, codec_settings
from wkdask.operations.inputs import Inputs
from wkdask.operations.level import Level
from wkdask.operations.mag_list import calculate_mags_to_downsample, default_coarsest_mag, sampling_mode_for
from wkdask.operations.permuted import in_order
from wkdask.operations.pyramid import TILE_BYTES, Room, build_levels, build_stages, new_arrays
from wkdask.operations.source import FromImages, Orientation
from wkdask.operations.spool import spooled, with_drop, worth_spooling
from wkdask.operations.target import NewLayer, dumped
from wkdask.operations.values import ValueMap
from wkdask.operations.volume_source import FromVolume, source_of
from wkdask.plan import Journal, Plan, Stage
from wkdask.storage import Location

COLOR_DTYPES = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float32")
SEGMENTATION_DTYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")


@dataclass(frozen=True, slots=True)
class Into:
    """What images become.

    Parameters
    ----------
    layer
        Name of the layer; default: that of the images' folder or file.
    category
        ``color`` or ``segmentation``.
    dataset
        Name of a new dataset; default: that of its folder.
    orientation
        How images lie in the layer.
    topleft
        Where the first voxel lies, in mag-1 voxels.
    mag
        The magnification that the images are.
    values
        What becomes of their values; None: they stay.
    color
        Red, green, blue in which the layer is shown.
    window
        The values that are shown dark and light.
    """

    layer: str | None = None
    category: str = "color"
    dataset: str | None = None
    orientation: Orientation = Orientation()
    topleft: tuple[int, int, int] = (0, 0, 0)
    mag: Mag = Mag(1)
    values: ValueMap | None = None
    color: tuple[int, int, int] | None = None
    window: tuple[float, float] | None = None


def plan_convert(
    stack: Stack,
    target: str | os.PathLike[str] | Location,
    voxel_size: VoxelSize,
    *,
    into: Into = Into(),
    storage: Storage = Storage(),
    sampling: Sampling = Sampling(),
    running: Running = Running(),
) -> Plan:
    """Plan the conversion of a stack of images into a new layer with its pyramid. Nothing is written.

    Parameters
    ----------
    stack
        The images, or the volume, from `wkdask.images.find_images`.
    target
        The dataset; made where it does not exist.
    voxel_size
        Of a mag-1 voxel.
    into
        Layer, category, dataset, orientation, place and values.
    storage, sampling
        How voxels lie on disk, and which magnifications are made.
    running
        Threads and memory.

    Returns
    -------
    Plan
        Whose first stage reads each image once, unless pages are larger than memory.
    """
    name = validate_layer_name(_layer_name(stack) if into.layer is None else into.layer)
    place = Location.of(target)
    journal = Journal(place, name, running.scratch)
    if running.restart and (unfinished := journal.document()) is not None:
        journal = replace(journal, instead_of=str(unfinished.get("fingerprint")))
    layer = _layer(stack, name, into, storage)
    mags = _mags(layer, into.mag, voxel_size, sampling)
    kernel = sampling.kernel(layer.category)
    levels = build_levels(layer, new_arrays(layer, place / name, mags, storage, into.mag), kernel)
    origin = (into.topleft[0] // into.mag.x, into.topleft[1] // into.mag.y, into.topleft[2] // into.mag.z)
    source, room, before = _read_well(source_of(stack, into.orientation, origin, into.values), levels[0], running, journal)
    seen = in_order(source, ("t", *"cxyz") if stack.times > 1 else "cxyz", layer.axes())
    stages, last = build_stages(seen, levels, room, journal, journal.layout(), before)
    stages = with_drop(stages) if before else stages
    triples = tuple(mag.to_tuple() for mag in mags)
    return assemble(
        NewLayer(journal, voxel_size, dumped(layer), (), triples, into.dataset or place.name),
        (stages, last),
        running,
        name=f"convert {stack.label} to {place.name}/{name}",
        settings=_settings(stack, layer, voxel_size, into, levels),
        identity=Inputs.of_stack(stack),
        notes=stack.notes,
    )


def _layer_name(stack: Stack) -> str:
    """Return a layer name made of the file's or folder's name, without what layer names must not have."""
    stem = stack.label
    if not isinstance(stack, Volume) and len(stack.files) == 1:
        stem = Path(stem).stem
    kept = "".join(c for c in stem if c.isascii() and (c.isalnum() or c in "_$@-.")).lstrip(".")
    return kept or "color"


def _layer(stack: Stack, name: str, into: Into, storage: Storage) -> LayerProperties:
    """Return the layer that a stack becomes, without magnifications."""
    category, dtype = into.category, into.values.target if into.values else stack.dtype
    if category not in ("color", "segmentation"):
        raise InputError(f"There is no category {category!r}. Use color or segmentation.")
    allowed = COLOR_DTYPES if category == "color" else SEGMENTATION_DTYPES
    if dtype not in allowed:
        raise InputError(
            f"The layer's voxels would be {dtype}; a {category} layer holds {', '.join(allowed)}. Give such a dtype (--dtype)."
        )
    if category == "segmentation" and stack.channels > 1:
        raise InputError(f"The images have {stack.channels} channels; a segmentation has one. Use the category color.")
    if stack.times > 1 and not find_format(storage.data_format).further_axes:
        raise InputError(
            f"The images have {stack.times} time points, which the format {storage.data_format} can not store. Use the format "
            "zarr3, or choose one time point (timepoint, or --timepoint)."
        )
    mag = into.mag.to_tuple()
    if any(t % m or t < 0 for t, m in zip(into.topleft, mag, strict=True)):
        raise InputError(f"The images can not begin at {into.topleft} in mag {into.mag}. Give multiples of the mag, from 0 on.")
    size = tuple(n * m for n, m in zip(into.orientation.extent(stack.shape), mag, strict=True))
    times = [("t", (0, stack.times), 0)] if stack.times > 1 else []
    layer = LayerProperties.new(name, category, dtype, stack.channels, storage.data_format, (into.topleft, size), times)
    if storage.axis_order != "cxyz":
        layer = layer.with_axis_order((*(axis for axis, *_ in times), *storage.axis_order))
    layer = layer.with_view_configuration(color=into.color) if into.color else layer
    return layer.with_view_configuration(intensity_range=into.window) if into.window else layer


def _mags(layer: LayerProperties, first: Mag, voxel_size: VoxelSize, sampling: Sampling) -> list[Mag]:
    """Return the magnifications, finest first."""
    if not sampling.downsample:
        return [first]
    size = layer.bounding_box.size
    coarsest = sampling.coarsest or default_coarsest_mag(size)
    if sampling.coarsest is None and not coarsest > first:
        return [first]
    mode = sampling_mode_for(size, sampling.mode)
    return [first, *calculate_mags_to_downsample(first, coarsest, voxel_size.to_nanometer(), mode)]


def _read_well(
    source: FromImages, first: Level, running: Running, journal: Journal
) -> tuple[FromImages, Room, tuple[Stage, ...]]:
    """Return a source that reads pages for as little as it can, what its tasks may use, and the stage that it needs before."""
    room = room_for(source, first, running)
    down = first.array.spec.axes.index("x" if source.orientation.swap_xy else "y")
    share = running.tile_bytes * 5 // 2
    if (
        isinstance(source, FromVolume)
        or source.stack.rows_alone
        or not worth_spooling(source.stack, room.least[down], share, journal)
    ):
        return source, room, ()
    from_spool, stage = spooled(source, journal, share)
    return from_spool, room_for(from_spool, first, running), (stage,)


def room_for(source: FromImages, first: Level, running: Running) -> Room:
    """Return what tasks may use: tiles of whole pages where pages can not be read in bands for less."""
    stack, spec = source.stack, first.array.spec
    chunk = dict(zip(spec.axes, spec.chunk, strict=True))
    depth = max(chunk["z"], running.batch_size)
    if depth % chunk["z"]:
        raise InputError(
            f"The batch size {running.batch_size} is no multiple of the chunk's {chunk['z']} slices. "
            f"Give one, such as {2 * chunk['z']}."
        )
    if isinstance(source, FromVolume):
        most = running.tile_bytes // 2  # a box is there twice while its axes are put in order
        least = dict(zip("xyz", source.least_tile((chunk["x"], chunk["y"], depth), most), strict=True))
        return Room(running.threads, min(TILE_BYTES, most), tuple(least.get(axis, chunk[axis]) for axis in spec.axes))
    z, height, width = stack.shape
    across, down = ("y", "x") if source.orientation.swap_xy else ("x", "y")  # image columns, image rows
    most = max(1 << 20, running.tile_bytes - stack.decoded_bytes)
    row = width * stack.channels * np.dtype(stack.dtype).itemsize * min(depth, z)
    whole = -(-width // chunk[across]) * chunk[across]
    rows = chunk[down]
    least = {"c": chunk.get("c", 1), "t": 1, "z": depth, across: whole, down: rows}
    tile_bytes = min(TILE_BYTES, most)
    if not stack.rows_alone:  # a page is decoded as often as there are bands, so bands are as high as memory allows
        rows = max(rows, min(-(-height // rows) * rows, 1 << max(1, most // row).bit_length() - 1))
        least[down] = rows
        tile_bytes = most if rows < height else max(tile_bytes, rows * row)
    elif row * rows > most:
        least[across] = chunk[across]
    return Room(running.threads, tile_bytes, tuple(least[axis] for axis in spec.axes))


def _settings(stack: Stack, layer: LayerProperties, voxel_size: VoxelSize, into: Into, levels: list[Level]) -> dict[str, Any]:
    """Return all that decides the bytes that are written."""
    return {
        "layer": layer.to_dict(),
        "voxel_size": str(voxel_size),
        **stack_settings(stack),
        "orientation": [*into.orientation.flip, into.orientation.swap_xy],
        "values": repr(into.values) if into.values else "as they are",
        "mags": [level.name.rpartition("/")[2] for level in levels],
        "chunks": [level.array.spec.chunk for level in levels],
        "shards": [level.array.spec.unit for level in levels],
        "kernel": levels[0].mode,
        "wkdask": __version__,
        **codec_settings(levels[0].array.spec.codec),
    }


def stack_settings(stack: Stack) -> dict[str, Any]:
    """Return what a stack shows of its files, and where gaps lie: what names, sizes and times do not tell."""
    part = stack.part
    return {
        "missing": stack.missing or "refused",
        "channels": [part.first_channel, part.first_channel + part.channels],
        "times": [part.first_time, part.first_time + part.times],
        "slices": stack.order_digest,
    }
