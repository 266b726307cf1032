"""Readers of foreign images: a file or folder becomes one stack of planes that is read by rows.

    >>> from wkdask.images import find_images
    >>> stack = find_images("em/")
    >>> block = stack.read(0, 16, 0, 48)

Importing this package loads neither tifffile nor pillow; the first file of a kind does.
"""

from __future__ import annotations

from wkdask.images.stack import ImageStack, find_images

__all__ = ["ImageStack", "find_images"]
