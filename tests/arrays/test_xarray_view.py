"""Labelled views: the bounding box in place, in the dataset's unit, without reading or storing anything."""

from __future__ import annotations

import pickle
import tracemalloc
from collections.abc import Callable
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr

from tests.arrays.memory_handle import huge_array, memory_array
from wkdask.arrays.coarsen import coarsen
from wkdask.arrays.voxel_index import VoxelIndex
from wkdask.arrays.xarray_view import pyramid_to_datatree
from wkdask.geometry.grid import Box

LONG = 10**9


@pytest.fixture
def computes_nothing() -> Any:
    def refuse(dsk: object, keys: object, **kwargs: object) -> None:
        raise AssertionError("Something was computed.")

    with dask.config.set(scheduler=refuse):
        yield


def test_values_dims_and_coordinates() -> None:
    array = memory_array(
        (2, 20, 8, 8, 8), "tcxyz", Box((1, 3, 2, 0, 0), (2, 4, 7, 8, 8)), mag=(2, 2, 1), voxel_size=(4.0, 4.0, 35.0)
    )
    view = array.to_xarray()
    assert view.dims == ("t", "c", "x", "y", "z")
    assert view.name == "color"
    assert view.attrs == {"voxel_size": [4.0, 4.0, 35.0], "voxel_size_unit": "nanometer", "mag": [2, 2, 1], "name": "color/1"}
    np.testing.assert_array_equal(view.values, array.read(array.box))
    assert view.t.values.tolist() == [1]
    assert "c" not in view.coords
    assert view.x.values.tolist() == [20.0, 28.0, 36.0, 44.0, 52.0]
    assert view.z.values[0] == 17.5
    assert view.x.attrs == {"units": "nanometer"}
    assert view.isel(x=slice(2)).x.attrs == {"units": "nanometer"}


def test_squeeze_and_canonical() -> None:
    array = memory_array((1, 3, 4, 5, 6, 1), "cszyxt")
    assert array.to_xarray(canonical=True).dims == ("s", "t", "c", "x", "y", "z")
    small = array.to_xarray(squeeze=True, canonical=True)
    assert small.dims == ("s", "x", "y", "z")
    np.testing.assert_array_equal(small.values, array.read(array.box)[0, ..., 0].transpose(0, 3, 2, 1))
    assert memory_array((1, 1, 5, 6)).to_xarray(squeeze=True).dims == ("x", "y", "z")


@pytest.mark.usefixtures("computes_nothing")
@pytest.mark.parametrize(
    "work",
    [
        lambda view: view.sel(x=slice(1e9, 2e9), z=slice(0, None)),
        lambda view: view.isel(x=slice(5, None, 3)),
        lambda view: view.sel(x=3e9, method="nearest"),
        lambda view: view.coarsen(x=2).mean(),
        lambda view: view.coarsen(x=2).mean().sel(x=slice(0, 1e9)).coarsen({"x": 3}, boundary="trim").max(),
        lambda view: coarsen(view.astype("float32").to_dataset(name="a"), {"x": 2}).mean(),
        lambda view: view.transpose("z", "x", "y", "c"),
        lambda view: (view + view).astype("float32"),
        lambda view: pickle.loads(pickle.dumps(view)),
        lambda view: pyramid_to_datatree({"1": huge_array(((1, LONG, 2, 2)), chunk=64, unit=2**26)}, "color"),
        repr,
        lambda view: view._repr_html_(),
    ],
)
def test_long_axes_cost_nothing(work: Callable[[xr.DataArray], object]) -> None:
    array = huge_array((1, LONG, 2, 2), chunk=64, unit=2**26)
    work(array.to_xarray())
    tracemalloc.start()
    work(array.to_xarray())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6


def test_coarsened_coordinates_and_values() -> None:
    view = memory_array((1, 8, 8, 8), voxel_size=(4.0, 4.0, 35.0)).to_xarray()
    small = view.coarsen(x=2, y=2).mean()
    assert small.x.values.tolist() == [4.0, 12.0, 20.0, 28.0]
    assert small.x.attrs == {"units": "nanometer"}
    assert isinstance(small.xindexes["x"], VoxelIndex)
    np.testing.assert_array_equal(small.values, view.values.reshape(1, 4, 2, 4, 2, 8).mean(axis=(2, 4)))
    half = memory_array((1, 4, 4, 8), mag=(2, 2, 1), voxel_size=(4.0, 4.0, 35.0)).to_xarray()
    assert (small + half).shape == (1, 4, 4, 8)


def test_tree() -> None:
    mags = {"1": memory_array((1, 8, 8, 8)), "2-2-1": memory_array((1, 4, 4, 8), mag=(2, 2, 1))}
    tree = pyramid_to_datatree(mags, "color")
    assert list(tree.children) == ["1", "2-2-1"]
    assert not tree.coords
    assert tree["2-2-1/color"].shape == (1, 4, 4, 8)
    assert list(tree["1"].data_vars) == ["color"]
    assert tree["1"].sel(x=slice(0, 2))["color"].shape == (1, 2, 8, 8)
