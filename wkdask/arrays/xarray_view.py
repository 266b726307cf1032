"""Mag arrays as lazy labelled arrays, and a layer's pyramid as a tree of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import xarray as xr
from xarray.indexes import PandasIndex

from wkdask.arrays.coarsen import VoxelArray
from wkdask.arrays.mag_array import SPACE, MagArray
from wkdask.arrays.voxel_index import VoxelIndex


def to_xarray(array: MagArray, *, squeeze: bool = False, canonical: bool = False) -> xr.DataArray:
    """Return the bounding box of a mag array as a lazy DataArray.

    x, y and z are the voxels' centres in the dataset's unit, further axes their absolute indices; channels have no
    coordinate. Its attributes are ``voxel_size`` (of mag 1), ``unit``, ``mag`` and ``name``.

    Parameters
    ----------
    array
        What to read; see `to_dask` for its blocks.
    squeeze
        Whether to leave out axes of length 1 other than x, y, z.
    canonical
        Whether to put the axes in the order further axes, c, x, y, z; else they stay as stored.

    Examples
    --------
    >>> from wkdask.formats import ArraySpec, Zarr3
    >>> from wkdask.geometry.grid import Box
    >>> from wkdask.storage import Location
    >>> spec = ArraySpec((1, 64, 64, 32), "uint8", ("c", "x", "y", "z"), (1, 16, 16, 16), (1, 32, 32, 32))
    >>> handle = Zarr3().create(Location("memory://xarray-view/color/1"), spec)
    >>> array = MagArray(handle, (1, 1, 1), Box((0, 10, 0, 0), (1, 50, 50, 20)), (4.0, 4.0, 35.0))
    >>> dict(to_xarray(array, squeeze=True).sel(x=slice(None, 80)).sizes)
    {'x': 10, 'y': 50, 'z': 20}
    """
    name = array.name.partition("/")[0] or None
    view: xr.DataArray = VoxelArray(array.to_dask(), coordinates(array), array.axes, name, attributes(array))
    if squeeze:
        view = view.squeeze([a for a, n in view.sizes.items() if n == 1 and a not in SPACE], drop=True)
    if canonical:
        last = [axis for axis in ("c", *SPACE) if axis in view.dims]
        view = view.transpose(*(axis for axis in view.dims if axis not in last), *last)
    return view


def attributes(array: MagArray) -> dict[str, Any]:
    """Return what is said of a mag array beside its coordinates."""
    return {"voxel_size": list(array.voxel_size), "voxel_size_unit": array.unit, "mag": list(array.mag), "name": array.name}


def coordinates(array: MagArray) -> xr.Coordinates:
    """Return the coordinates of the bounding box, which take no memory."""
    variables: dict[Any, Any] = {}
    indexes: dict[Any, Any] = {}
    for axis, start, size, spacing in zip(array.axes, array.box.start, array.shape, array.spacing, strict=True):
        if spacing is not None:
            indexes[axis] = VoxelIndex.over(axis, start, size, spacing)
        elif axis != "c":
            indexes[axis] = PandasIndex(pd.RangeIndex(start, start + size, name=axis), axis, np.dtype("int64"))
        else:
            continue
        made = indexes[axis].create_variables()
        if spacing is not None:
            made[axis].attrs["units"] = array.unit
        variables.update(made)
    return xr.Coordinates(variables, indexes=indexes)


def pyramid_to_datatree(arrays: Mapping[str, MagArray], name: str) -> xr.DataTree:
    """Return a layer's magnifications as a tree: a child for each, named as its mag, with one variable named as the layer.

    Parameters
    ----------
    arrays
        By name of the mag, such as ``"1"`` or ``"2-2-1"``.
    name
        Of the layer.

    Examples
    --------
    >>> from wkdask.formats import ArraySpec, Zarr3
    >>> from wkdask.geometry.grid import Box
    >>> from wkdask.storage import Location
    >>> spec = ArraySpec((1, 64, 64, 32), "uint8", ("c", "x", "y", "z"), (1, 16, 16, 16), (1, 32, 32, 32))
    >>> handle = Zarr3().create(Location("memory://pyramid/color/1"), spec)
    >>> fine = MagArray(handle, (1, 1, 1), Box((0, 0, 0, 0), (1, 50, 50, 20)))
    >>> pyramid_to_datatree({"1": fine}, "color")["1/color"].shape
    (1, 50, 50, 20)
    """
    leaves = {f"/{mag}": xr.Dataset({name: to_xarray(array)}) for mag, array in arrays.items()}
    return xr.DataTree.from_dict(leaves, name=name)
