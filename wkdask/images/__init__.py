"""Readers of foreign images: what a lab calls a stack becomes layers that are read by windows; chunked volumes too.

    >>> from wkdask.images import find_images, find_layers
    >>> stack = find_images("em/")
    >>> block = stack.read(0, 16, 0, 48)
    >>> [layer.name for layer in find_layers("em/*.tif")]
    ['em']

Importing this package loads neither tifffile nor pillow; the first file of a kind does.
"""

from __future__ import annotations

from wkdask.images.find import find_images, find_layers
from wkdask.images.found import FoundLayer, Stack
from wkdask.images.selection import ConversionLayerMapping, Selection
from wkdask.images.stack import ImageStack
from wkdask.images.volume import Volume
from wkdask.images.volume_raw import find_raw

__all__ = [
    "ConversionLayerMapping",
    "FoundLayer",
    "ImageStack",
    "Selection",
    "Stack",
    "Volume",
    "find_images",
    "find_layers",
    "find_raw",
]
