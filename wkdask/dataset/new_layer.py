"""What a new layer may be: category, dtype, channels, segments, in all spellings."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

from wkdask.dataset.deprecations import one_of
from wkdask.errors import InputError, UnknownCategoryError
from wkdask.formats import find_format
from wkdask.geometry import BoundingBox, NDBoundingBox
from wkdask.metadata import DataFormat, LayerProperties
from wkdask.metadata.element_class import dtype_name, from_element_class

COLOR_DTYPES = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float32")
SEGMENTATION_DTYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")


def checked_category(category: str) -> str:
    """Return a category that there is.

    Examples
    --------
    >>> checked_category("color")
    'color'
    """
    if category not in ("color", "segmentation"):
        raise UnknownCategoryError(f"The category is {category!r}, expected color or segmentation. Give one of these.")
    return str(category)


def channel_dtype(dtype: Any, per_channel: Any, per_layer: Any, num_channels: int | None) -> str | None:
    """Return the dtype of one channel, which may be given in three ways; None where it is in none.

    Examples
    --------
    >>> channel_dtype(np.uint16, None, None, 1), channel_dtype(None, None, "uint24", 3)
    ('uint16', 'uint8')
    """
    chosen = one_of(dtype=dtype, dtype_per_channel=per_channel, dtype_per_layer=per_layer)
    if chosen is None:
        return None
    if per_layer is not None and (num_channels or 1) > 1:
        whole = per_layer if isinstance(per_layer, str) else np.dtype(per_layer).name
        name, _, doubt = from_element_class(whole, num_channels)
        if doubt:
            raise InputError(f"dtype_per_layer {whole} is no {num_channels} channels of any dtype. Give dtype, of one channel.")
        return name
    try:
        return dtype_name(np.dtype(chosen))
    except TypeError:
        return dtype_name(chosen)


def require_dtype(category: str, dtype: str | None) -> None:
    """Raise `InputError` where WEBKNOSSOS has no layers of a category with this dtype."""
    allowed = COLOR_DTYPES if category == "color" else SEGMENTATION_DTYPES
    if dtype not in allowed:
        raise InputError(f"A {category} layer can not be {dtype}; expected {', '.join(allowed)}. Give one of these.")


def new_layer(
    name: str,
    category: str,
    dtype: str,
    num_channels: int | None,
    data_format: str | DataFormat,
    bounding_box: NDBoundingBox | None,
) -> LayerProperties:
    """Return a layer without magnifications; what WEBKNOSSOS can not show is warned of."""
    find_format(str(data_format))
    require_dtype(checked_category(category), dtype)
    channels = 1 if num_channels is None else num_channels
    box = BoundingBox((0, 0, 0), (0, 0, 0)) if bounding_box is None else bounding_box
    layer = LayerProperties.new(name, category, dtype, channels, str(data_format), box)
    if channels > 1 and (channels, dtype) != (3, "uint8"):
        warnings.warn(
            f"Layer '{name}' has {channels} channels of {dtype}; WEBKNOSSOS shows one channel, or three of uint8.", stacklevel=3
        )
    return layer


def with_segments(layer: LayerProperties, largest: int | None, mappings: Iterable[str] | None) -> LayerProperties:
    """Return a layer with what is known of its segments."""
    given: dict[str, Any] = {"largest_segment_id": largest, "mappings": None if mappings is None else tuple(mappings)}
    given = {name: value for name, value in given.items() if value is not None}
    if given and layer.category != "segmentation":
        raise InputError(f"Layer '{layer.name}' is {layer.category}, but {', '.join(given)} is of segmentations. Leave it out.")
    return layer.updated(**given) if given else layer
