"""Where things are: vectors, magnifications, boxes of voxels and grids of chunks.

This package imports nothing but the standard library; numpy only where an array is asked for.
"""

from wkdask.geometry.box import BoundingBox
from wkdask.geometry.grid import Box, Grid, Tiling
from wkdask.geometry.mag import Mag, MagLike
from wkdask.geometry.nd_box import NDBoundingBox
from wkdask.geometry.normalized_box import NormalizedBoundingBox
from wkdask.geometry.vec import Vec3Int, Vec3IntLike, VecInt, VecIntLike
from wkdask.geometry.vec3_float import Vec3Float, Vec3FloatLike

__all__ = [
    "BoundingBox",
    "Box",
    "Grid",
    "Mag",
    "MagLike",
    "NDBoundingBox",
    "NormalizedBoundingBox",
    "Tiling",
    "Vec3Float",
    "Vec3FloatLike",
    "Vec3Int",
    "Vec3IntLike",
    "VecInt",
    "VecIntLike",
]
