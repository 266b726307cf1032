"""Coarsening that leaves voxel coordinates arithmetic.

xarray's own ``coarsen`` averages each coordinate in memory and builds a pandas index of the result, whatever the coordinate
is made of: its last step, the constructor of DataArray or Dataset, makes default indexes for plain variables, also of axes
that are not coarsened. So the voxel coordinates are taken off before, and put back as arithmetic after.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from functools import wraps
from typing import Any

import xarray as xr

from wkdask.arrays.voxel_index import VoxelIndex


class VoxelArray(xr.DataArray):  # type: ignore[no-untyped-call]
    """A DataArray whose `coarsen` keeps voxel coordinates lazy; the same in all else."""

    __slots__ = ()

    def coarsen(
        self,
        dim: Mapping[Any, int] | None = None,
        boundary: Any = "exact",
        side: Any = "left",
        coord_func: Any = "mean",
        **window_kwargs: int,
    ) -> Any:
        """Coarsen as `xarray.DataArray.coarsen` does; see `wkdask.arrays.coarsen.coarsen`."""
        return coarsen(self, {**(dim or {}), **window_kwargs}, boundary=boundary, side=side, coord_func=coord_func)


class VoxelCoarsen:
    """What `coarsen` returns: xarray's reductions (``mean``, ``max``, ``reduce`` …), with voxel coordinates put back."""

    def __init__(self, reductions: Any, coords: xr.Coordinates, lazy: bool) -> None:
        self._reductions = reductions
        self._coords = coords
        self._lazy = lazy

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        method = getattr(self._reductions, name)
        return self._with_coords(method) if callable(method) else method

    def __dir__(self) -> list[str]:
        return dir(self._reductions)

    def __repr__(self) -> str:
        return repr(self._reductions)

    def _with_coords(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def reduced(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs).assign_coords(self._coords)
            return VoxelArray(result) if self._lazy else result

        return reduced


def coarsen(
    obj: xr.DataArray | xr.Dataset,
    windows: Mapping[Any, int],
    *,
    boundary: str | Mapping[Any, str] = "exact",
    side: str | Mapping[Any, str] = "left",
    coord_func: str | Callable[..., Any] | Mapping[Any, Any] = "mean",
) -> Any:
    """Group windows of voxels, as `xarray.DataArray.coarsen` does, and keep voxel coordinates lazy.

    Parameters
    ----------
    obj
        An array or a dataset; coordinates other than voxel coordinates are treated by xarray.
    windows
        Voxels that become one, by axis.
    boundary, side, coord_func
        As in xarray. Axes whose ``coord_func`` is not ``"mean"`` are left to xarray.

    Returns
    -------
    object
        With xarray's methods ``mean``, ``max``, ``reduce``, ``construct`` and so on.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from wkdask.arrays.voxel_index import VoxelIndex
    >>> coords = xr.Coordinates.from_xindex(VoxelIndex.over("x", start=0, size=4, spacing=10.0))
    >>> data = xr.DataArray(np.arange(4), dims="x", coords=coords)
    >>> coarsen(data, {"x": 2}).max().x.values.tolist()
    [10.0, 30.0]
    """
    lazy = {}
    for dim, index in obj.xindexes.items():
        if isinstance(index, VoxelIndex) and (dim not in windows or _of(coord_func, dim, "mean") == "mean"):
            lazy[dim] = index
    kept = dict.fromkeys(obj.coords, coord_func) if callable(coord_func) else coord_func
    plain = obj.drop_vars(list(lazy))
    if isinstance(plain, VoxelArray):
        plain = xr.DataArray(plain)
    if isinstance(kept, Mapping):
        kept = {name: kept.get(name, "mean") for name in plain.coords}
    options: Any = {"boundary": boundary, "side": side, "coord_func": kept}
    reductions = plain.coarsen(dict(windows), **options)
    variables, indexes = {}, {}
    for dim, index in lazy.items():
        indexes[dim] = index.coarsened(windows.get(dim, 1), _of(boundary, dim, "exact"), _of(side, dim, "left"))
        variables.update(indexes[dim].create_variables({dim: obj.coords[dim].variable}))
    return VoxelCoarsen(reductions, xr.Coordinates(variables, indexes=indexes), isinstance(obj, VoxelArray))


def _of(option: Any, dim: Hashable, default: str) -> Any:
    return option.get(dim, default) if isinstance(option, Mapping) else option
