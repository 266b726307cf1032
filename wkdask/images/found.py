"""What looking for layers finds."""

from __future__ import annotations

from dataclasses import dataclass

from wkdask.images.stack import ImageStack
from wkdask.images.volume import Volume

Stack = ImageStack | Volume
"""Images, or a chunked volume: both are read by boxes of planes."""


@dataclass(frozen=True, slots=True)
class FoundLayer:
    """Images or a volume that become one layer.

    Attributes
    ----------
    name
        Usable as a layer's name, and no other found layer has it.
    stack
        The images, or the volume.
    category
        "segmentation" where the source's name and the paths of all files in it say "segmentation" or "labels"; else None.
    color
        Red, green and blue (0 to 255) for a layer that is one channel of several: what the file says, else red, green, blue,
        then hues a golden angle apart. Else None.
    voxel_size
        Edges (x, y, z) of a voxel in nanometer, where the files say so.
    declared
        "segmentation" where the metadata say that these are labels, so that no voxel need be looked at; else None.
    offset
        Where the first voxel lies, in voxels of the source along x, y, z, where the metadata say so.
    window
        The values that are to be shown dark and light, where the metadata say so.
    """

    name: str
    stack: Stack
    category: str | None = None
    color: tuple[int, int, int] | None = None
    voxel_size: tuple[float, float, float] | None = None
    declared: str | None = None
    offset: tuple[int, int, int] | None = None
    window: tuple[float, float] | None = None
