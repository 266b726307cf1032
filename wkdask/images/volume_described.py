"""What arrays that are no OME-NGFF images say of themselves: Zarr by names of axes, N5 and precomputed by their own ways."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

from wkdask.errors import MetadataError, UnsupportedImageDataError
from wkdask.images.volume_ome import Described, known_axes
from wkdask.images.volume_tree import N5, PRECOMPUTED, Node

USUAL = {2: "yx", 3: "zyx", 4: "czyx", 5: "tczyx"}
"""What the axes of an array are that says nothing of them; of N5, whose first axis lies closest together, backwards."""


def usual_axes(rank: int, data_format: str, where: str) -> tuple[str, ...]:
    """Return what the axes of a bare array are.

    Examples
    --------
    >>> usual_axes(3, "zarr3", ""), usual_axes(4, "n5", "")
    (('z', 'y', 'x'), ('x', 'y', 'z', 'c'))
    """
    if rank not in USUAL:
        raise UnsupportedImageDataError(f"{where} has {rank} axes, expected were 2 to 5. Choose a part of it first.")
    return tuple(USUAL[rank])[:: -1 if data_format == N5 else 1]


def described(node: Node, rank: int, above: dict[str, Any]) -> Described:
    """Return what is known of a bare array; ``above`` are the attributes of the N5 group of a pyramid that it is in."""
    where = str(node.place)
    if node.data_format == PRECOMPUTED:
        _, finest = finest_scale(node)
        edges = (1.0, *_numbers(finest.get("resolution"), 3))
        start = (0.0, *_numbers(finest.get("voxel_offset", (0, 0, 0)), 3))
        units = (None, "nm", "nm", "nm")
        sound = len(edges) == len(start) == 4
        place = tuple(a * e for a, e in zip(start, edges, strict=True)) if sound else ()
        return Described(("c", "x", "y", "z"), edges if sound else (), units, place)
    names = node.document.get("dimension_names") or node.attributes.get("_ARRAY_DIMENSIONS")
    if node.data_format == N5:
        return _n5(node, rank, above, where)
    if isinstance(names, list) and len(names) == rank and all(isinstance(name, str) and name for name in names):
        return Described(known_axes(names, where))
    return Described(usual_axes(rank, node.data_format, where))


def _n5(node: Node, rank: int, above: dict[str, Any], where: str) -> Described:
    """Return axes, in the order of ``dimensions``, and the size of voxels; the array's own words come first.

    A ``transform`` tells all by the names of axes: https://open.janelia.org writes those.
    """
    told = {**above, **node.attributes}
    names = told.get("axes")
    axes = known_axes(names, where) if isinstance(names, list) and len(names) == rank else usual_axes(rank, N5, where)
    if (placed := _transformed(node.attributes.get("transform"), axes)) is not None:
        return placed
    edges, units = told.get("resolution"), told.get("units") or told.get("unit")
    if isinstance(pixel := told.get("pixelResolution"), dict):
        edges, units = pixel.get("dimensions"), pixel.get("unit")
    elif isinstance(pixel, list):
        edges = pixel
    scale = _numbers(edges, rank)
    space = [index for index, axis in enumerate(axes) if axis in "xyz"]
    if not scale and len(spatial := _numbers(edges, len(space))) == len(space):
        by_axis = dict(zip(space, spatial, strict=True))
        scale = tuple(by_axis.get(index, 1.0) for index in range(rank))
    if isinstance(units, list) and len(units) == len(space) < rank:
        named = dict(zip(space, units, strict=True))
        units = [named.get(index) for index in range(rank)]
    factors = own_factors(node.attributes)
    if len(factors) == len(scale):  # a resolution is that of the voxels that are not downsampled
        scale = tuple(edge * factor for edge, factor in zip(scale, factors, strict=True))
    many = list(units) if isinstance(units, list) and len(units) == rank else [units] * rank
    return Described(axes, scale, tuple(unit if isinstance(unit, str) else None for unit in many))


def _transformed(told: Any, axes: tuple[str, ...]) -> Described | None:
    """Return what a ``transform`` says of axes, which it names in an order of its own; None where it is not of them."""
    names = told.get("axes") if isinstance(told, dict) else None
    if not isinstance(names, list) or sorted(map(str, names)) != sorted(axes):
        return None
    order, units = [names.index(axis) for axis in axes], told.get("units")
    scale, place = _numbers(told.get("scale"), len(axes)), _numbers(told.get("translate"), len(axes))
    if not scale:
        return None
    many = units if isinstance(units, list) and len(units) == len(axes) else [units] * len(axes)
    by_axis = tuple(unit if isinstance(unit := many[index], str) else None for index in order)
    return Described(
        axes, tuple(scale[index] for index in order), by_axis, tuple(place[index] for index in order) if place else ()
    )


def own_factors(attributes: dict[str, Any]) -> tuple[float, ...]:
    """Return by how much an array of N5 is downsampled along its axes; () where it does not say."""
    told = attributes.get("downsamplingFactors")
    return _numbers(told, len(told)) if isinstance(told, list) else ()


def finest_scale(node: Node) -> tuple[str, dict[str, Any]]:
    """Return key and description of the finest scale of a precomputed volume.

    Raises
    ------
    MetadataError
        Where there is none.
    """
    listed = node.document.get("scales")
    scales = listed if isinstance(listed, list) else []
    good = [scale for scale in scales if isinstance(scale, dict) and isinstance(scale.get("key"), str)]
    if not good or len(good) < len(scales):
        raise MetadataError(f"{node.place / 'info'} lists no scales, or such without a key. Restore the file.")
    finest = min(good, key=lambda scale: math.prod(_numbers(scale.get("resolution"), 3)) or math.inf)
    return finest["key"], finest


def _numbers(value: Any, count: int) -> tuple[float, ...]:
    """Return finite numbers, or () where they are not so many, or something else."""
    listed = isinstance(value, Sequence) and not isinstance(value, str) and len(value) == count
    if not listed or not all(type(n) in (int, float) and abs(n) <= sys.float_info.max for n in value):
        return ()
    return tuple(map(float, value))
