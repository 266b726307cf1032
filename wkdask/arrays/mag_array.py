"""One magnification of a layer as an array that knows its place: `read` is what every reader of voxels comes down to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from wkdask.errors import InputError
from wkdask.formats.spec import ArrayHandle
from wkdask.geometry.grid import Box, Index

if TYPE_CHECKING:
    import dask.array
    import xarray

    from wkdask.arrays.dask_view import Chunks

SPACE = ("x", "y", "z")


@dataclass(frozen=True, slots=True)
class MagArray:
    """An open array that knows its magnification, bounding box and voxel size.

    Nothing is read until `read`, or until a view is computed. It pickles to a few hundred bytes and its handle.

    Parameters
    ----------
    handle
        The open array; its spec says where it lies.
    mag
        Voxels of mag 1 in a voxel of this array, along x, y, z.
    box
        The bounding box in voxels of this mag, one interval for each stored axis. The array may be larger, since it is made
        of whole units.
    voxel_size
        Edges of a voxel of mag 1 along x, y, z, in `unit`.
    unit
        Name of the unit of length, such as ``nanometer``.
    name
        Layer and mag, such as ``color/2-2-1``.
    """

    handle: ArrayHandle
    mag: tuple[int, int, int]
    box: Box
    voxel_size: tuple[float, float, float] = (1.0, 1.0, 1.0)
    unit: str = "nanometer"
    name: str = ""

    def __post_init__(self) -> None:
        axes = self.handle.spec.axes
        if not len(axes) == len(self.box.start) == len(self.box.stop):
            raise InputError(
                f"The array {self.name!r} has the axes {axes}, but its box {self.box} has {len(self.box.start)}. "
                "Give the box one interval for each stored axis."
            )

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the stored axes, in stored order."""
        return self.handle.spec.axes

    @property
    def shape(self) -> Index:
        """Voxels of the bounding box, along each stored axis."""
        return self.box.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The voxels' type."""
        return np.dtype(self.handle.spec.dtype)

    @property
    def spacing(self) -> tuple[float | None, ...]:
        """Distance of neighbouring voxel centres along each stored axis, in `unit`; None where the axis is not x, y or z."""
        of = {axis: m * s for axis, m, s in zip(SPACE, self.mag, self.voxel_size, strict=True)}
        return tuple(of.get(axis) for axis in self.axes)

    def read(self, box: Box) -> np.ndarray[Any, Any]:
        """Read any box of voxels of this mag, in stored axes; what lies outside the array is zero.

        Parameters
        ----------
        box
            One interval for each stored axis, counted from the dataset's origin. It may be negative or end beyond the array.

        Returns
        -------
        numpy.ndarray
            Of the box's shape. Where the whole box lies within the array it is the handle's own result, not a copy, in the
            memory order that decoding yields: Fortran's, or C's where the array is stored so.

        Examples
        --------
        >>> from wkdask.formats import ArraySpec, Zarr3
        >>> from wkdask.storage import Location
        >>> spec = ArraySpec((1, 64, 64, 32), "uint8", ("c", "x", "y", "z"), (1, 16, 16, 16), (1, 32, 32, 32))
        >>> handle = Zarr3().create(Location("memory://mag-array/color/1"), spec)
        >>> array = MagArray(handle, (1, 1, 1), Box((0, 0, 0, 0), (1, 50, 50, 20)))
        >>> array.read(Box((0, -1, 0, 0), (1, 2, 1, 1))).ravel().tolist()
        [0, 0, 0]
        """
        return read_filled(self.handle, box)

    def to_dask(self, chunks: Chunks = "auto") -> dask.array.Array:
        """Return the bounding box as a lazy dask array whose blocks are whole chunks of the disk; see `to_dask`."""
        from wkdask.arrays.dask_view import to_dask

        return to_dask(self, chunks)

    def to_xarray(self, *, squeeze: bool = False, canonical: bool = False) -> xarray.DataArray:
        """Return the bounding box as a lazy labelled array, in `unit`; see `wkdask.arrays.xarray_view.to_xarray`."""
        from wkdask.arrays.xarray_view import to_xarray

        return to_xarray(self, squeeze=squeeze, canonical=canonical)


def read_filled(handle: ArrayHandle, box: Box, *, keep: bool = True) -> np.ndarray[Any, Any]:
    """Read a box, counted from the dataset's origin; what lies outside of the array is zero.

    ``keep`` is what `ArrayHandle.read` takes it for.
    """
    spec = handle.spec
    inside = box.intersect(spec.box)
    if inside == box and box.size:
        return handle.read(box.relative_to(spec.offset), keep=keep)
    result = np.zeros(box.shape, spec.dtype, order="F")
    if inside.size:
        result[inside.relative_to(box.start).slices] = handle.read(inside.relative_to(spec.offset), keep=keep)
    return result
