"""What notebooks show of datasets, layers and magnifications.

All of it is quick and can not fail: boxes and sizes are arithmetic on the dataset's JSON, at most a few documents of arrays are
read, files are never listed, and thumbnails are single small reads from local disks.
"""

from __future__ import annotations

import base64
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from wkdask.arrays import MagArray
from wkdask.dataset.grid_drawing import draw_grid
from wkdask.dataset.thumbnail import draw_thumbnail
from wkdask.formats import ArraySpec
from wkdask.geometry import Mag, Vec3Float
from wkdask.geometry.grid import Box, Index
from wkdask.metadata import LayerProperties, LengthUnit, MagProperties, PathKind, VoxelSize
from wkdask.plan import format_bytes
from wkdask.plan.html import Markup, escape, facts, join, never_raising, panel, row, table

if TYPE_CHECKING:
    from wkdask.dataset.dataset import Dataset
    from wkdask.dataset.layer import Layer
    from wkdask.dataset.mag_view import MagView

MAX_LAYERS, MAX_MAGS, MAX_THUMBNAILS = 100, 40, 12

LARGE, SMALL = 256, 64
"""Pixels of the longer edge of a thumbnail."""

ENOUGH = 128
"""Voxels that the longer edge of a thumbnail should have, so that something can be seen."""


def dataset_html(dataset: Dataset) -> str:
    """Return what a notebook shows of a dataset: its layers, and small thumbnails of the first of them."""
    return never_raising("Dataset", lambda: _dataset(dataset))


def layer_html(layer: Layer) -> str:
    """Return what a notebook shows of a layer: its magnifications, the grid of the finest, and a thumbnail."""
    return never_raising(type(layer).__name__, lambda: _layer(layer))


def mag_view_html(view: MagView) -> str:
    """Return what a notebook shows of a magnification: its facts, grid and a thumbnail."""
    return never_raising("MagView", lambda: _mag_view(view))


def format_length(nanometer: float) -> str:
    """Return a length for people.

    Examples
    --------
    >>> format_length(4), format_length(160_000), format_length(0.5)
    ('4 nm', '160 µm', '0.5 nm')
    """
    steps = ((1e9, "m"), (1e6, "mm"), (1e3, "µm"))
    factor, unit = next(((factor, unit) for factor, unit in steps if nanometer >= factor), (1.0, "nm"))
    return f"{nanometer / factor:.4g} {unit}"


def _dataset(dataset: Dataset) -> Markup:
    properties = dataset.properties
    layers = properties.data_layers
    rows = []
    for number, layer in enumerate(layers[:MAX_LAYERS]):
        image = ""
        if number < MAX_THUMBNAILS:
            with suppress(Exception):  # a picture is a bonus
                image = _thumbnail(dataset.get_layer(layer.name), layer, SMALL)
        sizes = [_bytes(layer, mag) for mag in layer.mags]
        start, size = layer.bounding_box.top_left, _times(layer.bounding_box.size)
        mags = ", ".join(mag.name for mag in layer.finest_first) or "none"
        dtype = f"{layer.dtype}{f' x {layer.num_channels}' if layer.num_channels > 1 else ''}"
        rows.append(
            (image, Markup(f"<b>{escape(layer.name)}</b>"), layer.category, dtype, start, size, mags, format_bytes(sum(sizes)))
        )
    more = len(layers) - MAX_LAYERS
    pairs = [
        ("path", dataset.path),
        ("voxel size", _voxel_size(properties.voxel_size)),
        ("layers", f"{len(layers)}"),
        ("read only", "yes" if dataset.read_only else ""),
    ]
    header = ["", "layer", "category", "voxels", "from", "size", "mags", "bytes of voxels"]
    shown = table(header, rows) if rows else ""
    return panel("Dataset", properties.name, facts(pairs), shown, f"… and {more} more layers" if more > 0 else "")


def _layer(layer: Layer) -> Markup:
    properties = layer.properties
    voxel_size = layer.voxel_size
    mags = properties.finest_first
    rows = []
    for mag in mags[:MAX_MAGS]:
        edges = " x ".join(f"{edge:g}" for edge in _edges(mag, voxel_size))
        array = _array(layer, mag)
        if isinstance(array, MagArray):
            spec = array.handle.spec
            stored: tuple[object, ...] = (_xyz(spec, spec.chunk), _shard(spec), spec.codec or "uncompressed")
        else:
            stored = ("", "", array)
        rows.append((mag.name, _times(_box(properties, mag).shape), edges, *stored, format_bytes(_bytes(properties, mag))))
    header = ["mag", "shape", "voxel in nm", "chunk", "shard", "codec", "bytes of voxels"]
    more = len(mags) - MAX_MAGS
    pictures: list[object] = []
    if mags:
        with suppress(Exception):  # a picture is a bonus
            pictures.append(_grid(layer, properties, mags[0]))
        with suppress(Exception):
            pictures.append(_thumbnail(layer, properties, LARGE))
    return panel(
        type(layer).__name__,
        properties.name,
        row(facts(_layer_facts(properties, voxel_size)), *pictures),
        table(header, rows) if rows else "no magnifications",
        f"… and {more} more magnifications" if more > 0 else "",
    )


def _layer_facts(layer: LayerProperties, voxel_size: Vec3Float) -> list[tuple[str, object]]:
    box = layer.bounding_box
    extent = " x ".join(format_length(n * edge) for n, edge in zip(box.size, voxel_size, strict=True))
    return [
        ("category", layer.category),
        ("dtype", layer.dtype),
        ("channels", layer.num_channels),
        ("format", layer.data_format),
        ("box", f"from {box.top_left}, {_times(box.size)} mag-1 voxels"),
        ("extent", extent),
        ("further axes", ", ".join(f"{axis.name} {axis.bounds}" for axis in layer.additional_axes or ())),
        ("largest segment id", layer.largest_segment_id),
    ]


def _mag_view(view: MagView) -> Markup:
    layer, properties = view.layer, view.layer.properties
    mag = properties.mag(view.mag.to_tuple())
    spec = view.spec
    pairs = [
        ("shape", f"{_times(view.array.shape)} ({', '.join(map(str, spec.axes))})"),
        ("dtype", spec.dtype),
        ("voxel", " x ".join(map(format_length, _edges(mag, layer.voxel_size)))),
        ("chunk", _xyz(spec, spec.chunk)),
        ("shard", _shard(spec)),
        ("codec", spec.codec or "uncompressed"),
        ("bytes of voxels", format_bytes(_bytes(properties, mag))),
    ]
    pictures: list[object] = []
    with suppress(Exception):  # a picture is a bonus
        pictures.append(_draw(view.array, properties, mag, layer.voxel_size))
    with suppress(Exception):
        pictures.append(_image(view.array, properties, LARGE))
    return panel("MagView", f"{properties.name}/{mag.name}", row(facts(pairs), *pictures))


def _array(layer: Layer, mag: MagProperties) -> MagArray | Markup:
    """Return the array of a magnification, or in words why there is none."""
    if mag.path_kind in (PathKind.URL, PathKind.S3):  # of some other host, which need not answer
        return join("at ", mag.path)
    try:
        return layer.open_array(Mag(mag.mag))
    except Exception as error:  # noqa: BLE001 - the other magnifications are shown all the same
        return escape(error)


def _thumbnail(layer: Layer, properties: LayerProperties, edge: int) -> Markup:
    """Return a picture of the coarsest magnification in which something can be seen, where that is on a local disk."""
    if not (layer.is_local and properties.mags):
        return Markup()
    coarsest_first = properties.finest_first[::-1]
    large = (mag for mag in coarsest_first if max(_box(properties, mag).shape[:2]) >= ENOUGH)
    array = _array(layer, next(large, coarsest_first[-1]))
    return _image(array, properties, edge) if isinstance(array, MagArray) else Markup()


def _image(array: MagArray, layer: LayerProperties, edge: int) -> Markup:
    if not array.handle.location.is_local:
        return Markup()
    data = base64.b64encode(draw_thumbnail(array, layer, edge)).decode()
    style = f"image-rendering:pixelated;max-width:{edge}px;max-height:{edge}px;margin:0"
    return Markup(f'<img alt="middle section of {escape(array.name)}" style="{style}" src="data:image/png;base64,{data}" />')


def _grid(layer: Layer, properties: LayerProperties, mag: MagProperties) -> Markup:
    array = _array(layer, mag)
    return _draw(array, properties, mag, layer.voxel_size) if isinstance(array, MagArray) else Markup()


def _draw(array: MagArray, layer: LayerProperties, mag: MagProperties, voxel_size: Vec3Float) -> Markup:
    spec = array.handle.spec
    unit, chunk = ([_along(spec, shape, axis) for axis in "xyz"] for shape in (spec.unit, spec.chunk))
    return draw_grid(_box(layer, mag), unit, chunk, _edges(mag, voxel_size))


def _box(layer: LayerProperties, mag: MagProperties) -> Box:
    """Return the layer's box in voxels of a magnification, along x, y, z."""
    return Box(tuple(layer.bounding_box.top_left), tuple(layer.bounding_box.bottom_right)).coarsened(mag.mag)


def _bytes(layer: LayerProperties, mag: MagProperties) -> int:
    further = math.prod(max(0, axis.bounds[1] - axis.bounds[0]) for axis in layer.additional_axes or ())
    return _box(layer, mag).size * layer.num_channels * further * np.dtype(layer.dtype).itemsize


def _edges(mag: MagProperties, voxel_size: Vec3Float) -> Vec3Float:
    return Vec3Float(*(n * edge for n, edge in zip(mag.mag, voxel_size, strict=True)))


def _along(spec: ArraySpec, shape: Index, axis: str) -> int:
    return shape[spec.axes.index(axis)] if axis in spec.axes else 1


def _xyz(spec: ArraySpec, shape: Index) -> str:
    return _times([_along(spec, shape, axis) for axis in "xyz"])


def _shard(spec: ArraySpec) -> str:
    return "none" if spec.unit == spec.chunk else _xyz(spec, spec.unit)


def _times(numbers: Any) -> str:
    return " x ".join(map(str, numbers))


def _voxel_size(size: VoxelSize) -> str:
    edges = " x ".join(f"{edge:g}" for edge in size.to_nanometer())
    return str(size) if size.unit == LengthUnit.NANOMETER else f"{size}, {edges} nm"
