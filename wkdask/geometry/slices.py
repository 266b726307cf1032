"""Boxes as parts of arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wkdask.errors import GeometryError
from wkdask.geometry.vec import XYZ, VecInt

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Slices:
    """What a box with named axes says of arrays."""

    __slots__ = ()

    if TYPE_CHECKING:
        topleft: VecInt
        size: VecInt
        axes: tuple[str, ...]

        @property
        def bottomright(self) -> VecInt:
            """The first voxel beyond the box."""

    def to_slices(self) -> tuple[slice, ...]:
        """Return a slice for each axis."""
        return tuple(slice(a, b) for a, b in zip(self.topleft, self.bottomright, strict=True))

    def slice_array(self, array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """Return the part of an array, whose axes are the box's and which starts at 0, that the box covers."""
        return array[self.to_slices()]

    def to_slices_xyz(self) -> tuple[slice, ...]:
        """Return a slice for each axis, of others than x, y and z the first voxel; `GeometryError` where these have several."""
        self._require_flat()
        slices = zip(self.axes, self.to_slices(), strict=True)
        return tuple(along if axis in XYZ else slice(0, 1) for axis, along in slices)

    def xyz_array_to_bbox_shape(self, data: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return an array of axes x, y, z with the axes of the box, whose others must have one voxel."""
        self._require_flat()
        order = [XYZ.index(axis) for axis in self.axes if axis in XYZ]
        shape = tuple(data.shape[XYZ.index(axis)] if axis in XYZ else 1 for axis in self.axes)
        return data.transpose(order).reshape(shape)

    def _require_flat(self) -> None:
        if any(n != 1 for axis, n in zip(self.axes, self.size, strict=True) if axis not in XYZ):
            raise GeometryError(f"{self} has several voxels along other axes than x, y and z. Choose one of them first.")
