"""Thumbnails: the middle section of a magnification, as a small PNG."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from wkdask.arrays import MagArray
from wkdask.errors import InputError
from wkdask.geometry.grid import Box
from wkdask.metadata import LayerProperties

if TYPE_CHECKING:
    from PIL.Image import Image

EDGES = (256, 128, 64)
"""Edges of the section that is read, in voxels: the first whose chunks are few enough."""

MAX_BYTES = 16 << 20
"""Decoded chunks and shard indexes that reading a thumbnail may take."""

MAX_FILES = 100

Array = np.ndarray[Any, Any]


def draw_thumbnail(array: MagArray, layer: LayerProperties, edge: int = EDGES[0]) -> bytes:
    """Return the middle of an array's middle section as a PNG, x to the right and y downwards.

    Colour layers are windowed by their view configuration or else by the least and the greatest voxel of the section, three
    channels of uint8 are red, green and blue; each segment has a colour of its own, and 0 is black.

    Parameters
    ----------
    array
        A local one.
    layer
        What the JSON says of it.
    edge
        Pixels of the longer edge, at most.

    Raises
    ------
    InputError
        Where even a small section needs many files, or is in chunks that are too large, or has no voxels.
    """
    from PIL.Image import Resampling

    box = _section(array)
    is_segmentation = layer.category == "segmentation"
    image = _draw_section(_oriented(array, box), layer)
    image.thumbnail((edge, edge), Resampling.NEAREST if is_segmentation else Resampling.BOX)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def _section(array: MagArray) -> Box:
    """Return what to read: at most three channels, one z, the start of all further axes."""
    grid = array.handle.spec.grid
    for edge in EDGES:
        spans = [_span(axis, a, b, edge) for axis, a, b in zip(array.axes, array.box.start, array.box.stop, strict=True)]
        box = Box(tuple(a for a, _ in spans), tuple(b for _, b in spans))
        chunks, units = grid.chunks(box.intersect(grid.box)).cells.size, grid.units(box.intersect(grid.box)).cells.size
        index = units * math.prod(grid.chunks_per_unit) * 16
        voxels = chunks * math.prod(grid.chunk) * array.dtype.itemsize
        if box.size and index + voxels <= MAX_BYTES and units <= MAX_FILES:
            _require_files(array, box)
            return box
    raise InputError(f"A section of {array.name} has no voxels, or needs more than {MAX_BYTES} bytes. Read a smaller box.")


def _span(axis: str, start: int, stop: int, edge: int) -> tuple[int, int]:
    if axis == "c":
        return start, min(stop, start + 3)
    if axis not in ("x", "y", "z"):
        return start, min(stop, start + 1)
    width = min(1 if axis == "z" else edge, stop - start)
    first = start + (stop - start - width + (axis == "z")) // 2
    return first, first + width


def _require_files(array: MagArray, box: Box) -> None:
    """Raise where a unit is a pipe or a device, which might never end; the size of those is 0."""
    units = array.handle.spec.grid.units(box.intersect(array.handle.spec.grid.box))
    for number in range(units.cells.size):
        place = array.handle.unit_location(units.cell(number))
        stat = place.stat()
        if stat is not None and not stat.size:
            raise InputError(f"{place} is empty or no file. Write it again.")


def _oriented(array: MagArray, box: Box) -> Array:
    """Return the voxels of a section as (y, x, channel)."""
    section = array.read(box)
    wanted = [array.axes.index(axis) for axis in ("y", "x", "c") if axis in array.axes]
    rest = [i for i in range(section.ndim) if i not in wanted]  # of length 1 each
    plane = section.transpose(*wanted, *rest)
    return plane.reshape(*plane.shape[:2], -1)


def _draw_section(section: Array, layer: LayerProperties) -> Image:
    from PIL.Image import fromarray

    if layer.category == "segmentation":
        return fromarray(color_segments(section[..., 0]))
    is_rgb = section.shape[2] == layer.num_channels == 3 and section.dtype == np.uint8
    return fromarray(_windowed(section if is_rgb else section[..., :1], layer, is_rgb))


def color_segments(ids: Array) -> Array:
    """Return a colour for each segment, always the same for the same id, and black for 0.

    Parameters
    ----------
    ids
        Whole numbers, of any shape.

    Returns
    -------
    numpy.ndarray
        uint8, with red, green and blue along a further axis.

    Examples
    --------
    >>> color_segments(np.array([0, 7, 7])).shape, color_segments(np.array([0])).tolist()
    ((3, 3), [[0, 0, 0]])
    """
    mixed = ids.astype(np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # splitmix64: neighbouring ids differ much
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    channels = [64 + (mixed >> np.uint64(shift)) % np.uint64(192) for shift in (0, 16, 32)]
    return np.where(ids[..., None] == 0, 0, np.stack(channels, axis=-1)).astype(np.uint8)


def _windowed(section: Array, layer: LayerProperties, is_rgb: bool) -> Array:
    """Return grey, tinted or RGB voxels as uint8; what is not finite is black."""
    views = [view for view in (layer.admin_view_configuration, layer.default_view_configuration) if view]

    def chosen(name: str) -> Any:
        return next((value for view in views if (value := getattr(view, name)) is not None), None)

    low, high = chosen("intensity_range") or ((0, 255) if is_rgb else _extremes(section))
    with np.errstate(all="ignore"):
        share = (section.astype(np.float64) - float(low)) / (float(high) - float(low))
        share = np.clip(np.nan_to_num(share, nan=0.0), 0, 1)
    if chosen("is_inverted"):
        share = 1 - share
    color = chosen("color")
    if color and not is_rgb:
        share = share * (np.clip([float(c) for c in color], 0, 255) / 255)
    pixels: Array = np.rint(share * 255).astype(np.uint8)
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


def _extremes(section: Array) -> tuple[float, float]:
    finite = section[np.isfinite(section)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    return (low, high) if low < high else (min(low, 0.0), max(high, 0.0) or 1.0)
