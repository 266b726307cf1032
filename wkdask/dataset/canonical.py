"""Reading and writing a view in the order c, x, y, z, however its axes are stored."""

from __future__ import annotations

from typing import Any

import numpy as np

from wkdask.dataset.deprecations import warn_name
from wkdask.dataset.positions import Position
from wkdask.dataset.voxels import Voxels
from wkdask.errors import ShapeError
from wkdask.geometry import NDBoundingBox, Vec3IntLike

CXYZ = ("c", "x", "y", "z")


class CanonicalVerbs(Voxels):
    """The verbs of a view that know only one order of axes; a part of `wkdask.View`."""

    def read_cxyz(
        self,
        size: Vec3IntLike | None = None,
        *,
        relative_offset: Vec3IntLike | None = None,
        absolute_offset: Vec3IntLike | None = None,
        relative_bounding_box: NDBoundingBox | None = None,
        absolute_bounding_box: NDBoundingBox | None = None,
    ) -> np.ndarray[Any, Any]:
        """Read a box of voxels as (c, x, y, z), however they are stored; parameters as of `read`.

        Raises
        ------
        ShapeError
            Where the box has several voxels along another axis, such as several time points.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> Dataset.open("brain").get_layer("color").get_mag(1).read_cxyz(absolute_offset=(0, 0, 0), size=(16, 8, 4)).shape
        (1, 16, 8, 4)
        """
        position = Position(None, relative_offset, absolute_offset, relative_bounding_box, absolute_bounding_box)
        position.warn_of_old("read_cxyz", size)
        box = self._box_at(position, size)
        self._require_canonical(box)
        axes, voxels = self.array.axes, self._read(box)
        kept = voxels[tuple(slice(None) if axis in CXYZ else 0 for axis in axes)]
        order = [axis for axis in axes if axis in CXYZ]
        if "c" not in order:
            order, kept = ["c", *order], kept[None]
        return np.asfortranarray(kept.transpose([order.index(axis) for axis in CXYZ]))

    def read_xyz(
        self,
        *,
        relative_bounding_box: NDBoundingBox | None = None,
        absolute_bounding_box: NDBoundingBox | None = None,
    ) -> np.ndarray[Any, Any]:
        """Read a box of voxels as (c, x, y, z): the older name of `read_cxyz`, deprecated."""
        warn_name("View.read_xyz")
        return self.read_cxyz(relative_bounding_box=relative_bounding_box, absolute_bounding_box=absolute_bounding_box)

    def _require_canonical(self, box: NDBoundingBox) -> None:
        stored = self._stored(box)
        for axis, n in zip(self.array.axes, stored.shape, strict=True):
            if axis not in CXYZ and n != 1:
                raise ShapeError(
                    f"The box has {n} voxels along {axis}, but c, x, y, z has room for one. Give a box that says which."
                )

    def _from_cxyz(self, data: np.ndarray[Any, Any], position: Position) -> np.ndarray[Any, Any]:
        """Return an array in c, x, y, z, or x, y, z of one channel, in stored axes."""
        data = np.asarray(data)
        if data.ndim == 3:
            data = data[None]
        if data.ndim != 4:
            raise ShapeError(f"The data has shape {data.shape}; expected c, x, y, z, or x, y, z of one channel. Reshape it.")
        self._require_canonical(self._spatial_box() if position.given_box is None else self._box_at(position))
        axes = self.array.axes
        if "c" not in axes:
            if len(data) != 1:
                raise ShapeError(f"The data has {len(data)} channels, the layer 1. Give one.")
            data = data[0]
        order = [axis for axis in CXYZ if axis in axes]
        stored = data.transpose([order.index(axis) for axis in axes if axis in CXYZ])
        return stored[tuple(slice(None) if axis in CXYZ else None for axis in axes)]
