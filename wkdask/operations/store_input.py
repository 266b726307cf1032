"""Arrays that users give, as dask arrays in a layer's axes whose first voxel has a place."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np

from wkdask.arrays.voxel_index import VoxelIndex
from wkdask.errors import InputError
from wkdask.geometry.grid import Index
from wkdask.metadata import LengthUnit, VoxelSize, dtype_name

if TYPE_CHECKING:
    import xarray

SPACE = ("x", "y", "z")
USUAL_AXES: dict[int, tuple[str, ...]] = {2: ("x", "y"), 3: SPACE, 4: ("c", *SPACE)}
TOLERANCE = 0.01
"""Of a voxel, by which a coordinate may lie beside the voxel's centre."""
MOST_COORDINATES = 1 << 24
"""Of an axis, which are compared one by one; of longer ones the first, the last and the middle."""


@dataclass(frozen=True, slots=True)
class Given:
    """An array that a user gave.

    Parameters
    ----------
    array
        As it was given, but lazy.
    axes
        Names of its axes; None: as is usual for their number.
    labels
        The labelled array that it was, for its coordinates.
    """

    array: da.Array
    axes: tuple[str, ...] | None = None
    labels: xarray.DataArray | None = None

    @classmethod
    def of(cls, data: Any, axes: Sequence[str] | None = None) -> Given:
        """Take a dask array, an `xarray.DataArray`, or whatever has shape, dtype and voxels as numpy's arrays do.

        Raises
        ------
        InputError
            Where this is no array, or one that can not be stored: of unknown shape, of voxels that no layer holds, empty.

        Examples
        --------
        >>> Given.of(np.zeros((4, 4, 2), "uint8")).array.shape
        (4, 4, 2)
        """
        labels = None
        if "xarray" in sys.modules:
            import xarray

            if isinstance(data, xarray.Dataset):
                raise InputError(f"A Dataset of the variables {list(data)} was given, expected one array. Choose one of them.")
            labels = data if isinstance(data, xarray.DataArray) else None
        if labels is not None:
            if axes is not None and len(axes) != len(labels.dims):
                raise InputError(f"There are axes {tuple(axes)} for the dimensions {labels.dims}. Leave them out.")
            axes, data = axes or tuple(map(str, labels.dims)), labels.data
        if not all(hasattr(data, name) for name in ("shape", "dtype", "ndim")):
            raise InputError(f"A {type(data).__name__} was given, expected a dask, xarray or numpy array. Convert it first.")
        _require_storable(data)
        array = data if isinstance(data, da.Array) else da.from_array(data)
        return cls(array, None if axes is None else tuple(axes), labels)

    def named(self, stored: Sequence[str] | None = None) -> Given:
        """Return it with its axes' names, those of a layer's stored axes where it has as many.

        Raises
        ------
        InputError
            Where the names do not fit the array, or x and y are missing.
        """
        ndim = self.array.ndim
        axes = self.axes or (tuple(stored) if stored and len(stored) == ndim else USUAL_AXES.get(ndim))
        if axes is None:
            raise InputError(f"The array has {ndim} axes, whose names are not known. Give them, such as axes='tcxyz'.")
        if len(axes) != ndim or len(set(axes)) != ndim or not {"x", "y"} <= set(axes):
            raise InputError(
                f"The axes {axes} do not fit an array of the shape {self.array.shape}. Give one name for each, all different, "
                "x and y among them."
            )
        return replace(self, axes=axes)

    def size(self, axis: str) -> int:
        """Return the voxels along an axis; 1 along one that it does not have."""
        return int(self.array.shape[self._named.index(axis)]) if axis in self._named else 1

    @property
    def voxel_size(self) -> VoxelSize | None:
        """What labelled arrays that come from a dataset say of its voxels; None for all others."""
        attributes = self.labels.attrs if self.labels is not None else {}
        if "voxel_size" not in attributes:
            return None
        return VoxelSize.parse(attributes["voxel_size"], str(attributes.get("voxel_size_unit", LengthUnit.NANOMETER)))

    @property
    def _named(self) -> tuple[str, ...]:
        return self.axes or ()

    @property
    def further_axes(self) -> tuple[str, ...]:
        """Its axes beside c, x, y and z."""
        return tuple(axis for axis in self._named if axis not in ("c", *SPACE))

    def in_order(self, stored: Sequence[str]) -> da.Array:
        """Return the array in a layer's axes; those that it does not have get one voxel."""
        unknown = [axis for axis in self._named if axis not in stored]
        if unknown:
            raise InputError(f"The array has the axes {unknown}, the layer has {tuple(stored)}. Choose one index along each.")
        array: da.Array = da.transpose(self.array, [self._named.index(axis) for axis in stored if axis in self._named])
        whole: da.Array = array[tuple(slice(None) if axis in self._named else None for axis in stored)]
        return whole

    def order(self, stored: Sequence[str]) -> Index:
        """Return, for each of its own axes, the place among the stored ones."""
        return tuple(stored.index(axis) for axis in self._named)

    def starts(self, mag: Sequence[int], voxel_size: VoxelSize) -> dict[str, int]:
        """Return where its coordinates say that it begins: along x, y, z in voxels of the mag, else as they are.

        Axes without coordinates are left out.

        Raises
        ------
        InputError
            Where coordinates are not the centres of neighbouring voxels of the mag.
        """
        spacing = dict(zip(SPACE, (m * f for m, f in zip(mag, voxel_size.factor, strict=True)), strict=True))
        found = {}
        for axis, dim in zip(self._named, self.labels.dims if self.labels is not None else (), strict=False):
            if self.labels is not None and dim in self.labels.coords and axis != "c":
                coordinate = self.labels.coords[dim]
                if axis in spacing:
                    unit = LengthUnit.parse(str(coordinate.attrs.get("units", voxel_size.unit)))
                    in_unit = spacing[axis] * LengthUnit(voxel_size.unit).in_nanometer / unit.in_nanometer
                    lazy = isinstance(self.labels.xindexes.get(dim), VoxelIndex)
                    found[axis] = _first_voxel(coordinate, in_unit, 0.5, axis, lazy=lazy)
                else:
                    found[axis] = _first_voxel(coordinate, 1.0, 0.0, axis)
        return found


def _require_storable(array: Any) -> None:
    """Refuse what no layer can hold, or whose shape nobody knows."""
    if any(math.isnan(n) for n in array.shape):
        raise InputError(
            f"The array's shape {array.shape} is not known before it is computed. Find it out: array.compute_chunk_sizes()."
        )
    if array.dtype.kind == "b":
        raise InputError("The array is bool, which no layer can hold. Convert it: array.astype('uint8').")
    if array.dtype.kind not in "iuf" or array.dtype.itemsize > 8:
        raise InputError(
            f"The array is {array.dtype}; a layer holds integers and float32 or float64. Make numbers of it, such as "
            "abs(array).astype('float32')."
        )
    try:
        dtype_name(array.dtype.newbyteorder("="))
    except InputError:
        raise InputError(f"The array is {array.dtype}, which no layer can hold. Convert it: array.astype('float32').") from None
    if isinstance(getattr(array, "_meta", array), np.ma.MaskedArray):
        raise InputError("The array is masked, which no layer can hold. Fill it first: da.ma.filled(array, 0).")
    if not math.prod(array.shape):
        raise InputError(f"The array has the shape {array.shape}, so no voxels. Give one with voxels.")


def _first_voxel(coordinate: Any, spacing: float, centre: float, axis: str, *, lazy: bool = False) -> int:
    """Return the index of the voxel that a coordinate begins with.

    Parameters
    ----------
    coordinate
        One-dimensional, in some unit.
    spacing
        Distance of voxels in that unit.
    centre
        Where the coordinate of a voxel lies in it, in voxels.
    axis
        For the message.
    lazy
        Whether it is arithmetic, of which all is known by its ends.
    """
    size = int(coordinate.size)
    every = not lazy and size <= MOST_COORDINATES
    at = np.arange(size) if every else np.unique([0, size // 2, size - 1])
    try:
        found = np.asarray(coordinate.values if every else coordinate[at].values, "float64") / spacing - centre
    except (TypeError, ValueError):
        raise InputError(f"The coordinates of {axis} are {coordinate.dtype}. {_REMEDY.format(axis=axis)}") from None
    first = round(float(found[0])) if np.isfinite(found[0]) else 0
    if not np.all(np.abs(found - first - at) <= TOLERANCE):  # written so that NaN is refused
        said = np.asarray(coordinate[: min(3, size)].values).tolist()
        raise InputError(
            f"The coordinates of {axis} begin with {said}, but the voxels' centres lie {spacing:g} apart at multiples of that"
            f"{' and a half' if centre else ''}. {_REMEDY.format(axis=axis)}"
        )
    return first


_REMEDY = "Put the array on the layer's grid, or leave them out, array.drop_vars('{axis}'), and give absolute_offset."


def native(array: da.Array) -> da.Array:
    """Return an array in this machine's byte order."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
