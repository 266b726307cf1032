"""Voxel coordinates: selection against numpy, alignment and concatenation by arithmetic, and no memory for 10^9 of them."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from xarray.indexes import PandasIndex

from wkdask.arrays.coarsen import coarsen
from wkdask.arrays.voxel_centres import VoxelCentres
from wkdask.arrays.voxel_index import VoxelIndex
from wkdask.errors import InputError

SPACINGS = st.sampled_from((1.0, 11.24, 22.48, 0.1, 25.0, 1 / 3))
BOUNDS = st.one_of(st.none(), st.floats(-50, 3000), st.integers(-50, 300))


def line(start: int, size: int, spacing: float) -> xr.DataArray:
    """Return an array whose values are absolute indices."""
    coords = xr.Coordinates.from_xindex(VoxelIndex.over("x", start, size, spacing))
    return xr.DataArray(np.arange(start, start + size), dims="x", coords=coords)


@settings(deadline=None)
@given(st.integers(-5, 50), st.integers(0, 30), SPACINGS, BOUNDS, BOUNDS, st.booleans())
def test_slices_are_half_open(start: int, size: int, spacing: float, low: object, high: object, backwards: bool) -> None:
    array = line(start, size, spacing)[:: -1 if backwards else 1]
    values = array.x.values
    chosen = np.ones(size, bool)
    chosen &= True if low is None else values >= low
    chosen &= True if high is None else values < high
    found = array.sel(x=slice(low, high))
    np.testing.assert_array_equal(found.values, array.values[chosen])
    np.testing.assert_array_equal(found.x.values, values[chosen])
    assert isinstance(found.xindexes["x"], VoxelIndex)


@settings(deadline=None)
@given(st.integers(0, 50), st.integers(1, 30), SPACINGS, st.data())
def test_borders_on_the_very_centre(start: int, size: int, spacing: float, data: st.DataObject) -> None:
    array = line(start, size, spacing)
    at = data.draw(st.integers(0, size - 1))
    value = float(array.x[at])
    assert array.sel(x=slice(None, value)).size == at
    assert array.sel(x=slice(value, None)).size == size - at
    assert array.sel(x=slice(value, value)).size == 0
    assert int(array.sel(x=value)) == start + at


@settings(deadline=None)
@given(st.integers(0, 20), st.integers(1, 20), SPACINGS, st.lists(st.floats(-100, 2000), min_size=1, max_size=5))
def test_nearest(start: int, size: int, spacing: float, labels: list[float]) -> None:
    array = line(start, size, spacing)
    found = array.sel(x=labels, method="nearest")
    distance = np.abs(np.asarray(labels)[:, None] - array.x.values[None])
    np.testing.assert_allclose(np.abs(found.x.values - labels), distance.min(axis=1), rtol=1e-9, atol=1e-9)


def test_scalars() -> None:
    array = line(10, 5, 4.0)
    assert int(array.sel(x=46)) == 11
    assert float(array.sel(x=46).x) == 46
    assert int(array.sel(x=47, method="nearest", tolerance=1.5)) == 11
    with pytest.raises(KeyError, match=r"at 47; the nearest is 46\. Select that, or use method='nearest'"):
        array.sel(x=47)
    with pytest.raises(KeyError, match="allow a larger tolerance"):
        array.sel(x=1000, method="nearest", tolerance=3)
    with pytest.raises(KeyError, match="no voxel along"):
        array[:0].sel(x=1)
    with pytest.raises(KeyError):
        array.sel(x=float("nan"), method="nearest", tolerance=1)
    for wrong in ({"x": slice("a", None)}, {"x": slice(0, 9, -1)}, {"x": "a"}):
        with pytest.raises(InputError):
            array.sel(wrong)
    for options in ({"method": "ffill"}, {"tolerance": 3}):
        with pytest.raises(InputError):
            array.sel(x=46, **options)


def test_labels_of_other_kinds() -> None:
    array = line(0, 100, 2.0)
    points = xr.DataArray([3.0, 9.0], dims="p", coords={"p": ["a", "b"]})
    found = array.sel(x=points)
    assert found.dims == ("p",)
    assert found.sel(p="b") == 4
    assert array.sel(x=xr.Variable(("q",), [1.1, 199.5]), method="nearest").values.tolist() == [0, 99]
    assert array.sel(x=slice(np.float32(0), xr.DataArray(6))).size == 3
    assert array.sel(x=slice(0, 20, 4)).values.tolist() == [0, 4, 8]
    assert array.sel(x=slice(-np.inf, np.inf)).size == 100


@settings(deadline=None)
@given(st.integers(0, 20), st.integers(1, 20), st.data())
def test_isel(start: int, size: int, data: st.DataObject) -> None:
    array = line(start, size, 11.24)
    part = data.draw(st.slices(size))
    np.testing.assert_array_equal(array.isel(x=part).x.values, ((np.arange(start, start + size) + 0.5) * 11.24)[part])
    assert isinstance(array.isel(x=part).xindexes["x"], VoxelIndex)
    many = data.draw(st.lists(st.integers(-size, size - 1), max_size=5))
    np.testing.assert_array_equal(array.isel(x=many).x.values, array.x.values[many])
    mask = np.arange(size) % 3 == 0
    np.testing.assert_array_equal(array.isel(x=mask).x.values, array.x.values[mask])
    assert "x" not in array.isel(x=0).dims
    assert isinstance(array.isel(x=[0]).xindexes["x"], PandasIndex)


@settings(deadline=None)
@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_join(a: int, n: int, b: int, m: int) -> None:
    one, two = line(a, n, 11.24), line(b, m, 11.24)
    shared = sorted(set(range(a, a + n)) & set(range(b, b + m)))
    assert (one + two).values.tolist() == [2 * i for i in shared]
    if n and m:
        left, _ = xr.align(one, two, join="outer", fill_value=-1)
        assert left.x.size == max(a + n, b + m) - min(a, b)
        assert left.values.tolist() == [i if a <= i < a + n else -1 for i in range(min(a, b), max(a + n, b + m))]
    if (a, n) != (b, m) and n + m:
        with pytest.raises(xr.AlignmentError):
            xr.align(one, two, join="exact")


def test_different_grids_do_not_join() -> None:
    with pytest.raises(InputError, match="different grids"):
        line(0, 8, 11.24) + line(0, 8, 22.48)
    with pytest.raises(InputError, match="different grids"):
        line(0, 8, 2.0)[::2] + line(0, 8, 2.0)[1::2]


def test_grids_of_mags_meet_after_coarsening() -> None:
    fine = coarsen(line(0, 12, 11.24 / 3), {"x": 3}).mean()
    assert (fine + line(1, 3, 11.24)).sizes["x"] == 3
    assert fine.xindexes["x"].equals(line(0, 4, 11.24).xindexes["x"])
    assert not fine.xindexes["x"].equals(line(1, 4, 11.24).xindexes["x"])


def test_concat() -> None:
    array = line(3, 20, 11.24)
    whole = xr.concat([array[:7], array[7:8], array[8:]], "x")
    assert isinstance(whole.xindexes["x"], VoxelIndex)
    xr.testing.assert_identical(whole, array)
    gap = xr.concat([array[:7], array[9:]], "x")
    np.testing.assert_array_equal(gap.x.values, np.delete(array.x.values, [7, 8]))
    strided = xr.concat([array[:8:2], array[8::2]], "x")
    assert strided.xindexes["x"].equals(array[::2].xindexes["x"])


@settings(deadline=None)
@given(
    st.integers(0, 9),
    st.integers(1, 20),
    st.integers(1, 4),
    st.sampled_from(("trim", "exact", "pad")),
    st.sampled_from(("left", "right")),
)
def test_coarsen_is_as_xarray_does_it(start: int, size: int, window: int, boundary: str, side: str) -> None:
    size = size * window if boundary in ("exact", "pad") else size
    array = line(start, size, 11.24)
    expected = array.drop_vars("x").assign_coords(x=array.x.values).coarsen(x=window, boundary=boundary, side=side).mean()
    found = coarsen(array, {"x": window}, boundary=boundary, side=side).mean()
    np.testing.assert_allclose(found.x.values, expected.x.values)
    np.testing.assert_array_equal(found.values, expected.values)
    assert isinstance(found.xindexes["x"], VoxelIndex)


def test_coarsen_refuses_what_does_not_divide() -> None:
    with pytest.raises(InputError, match="can not be coarsened by 3"):
        coarsen(line(0, 8, 1.0), {"x": 3})
    assert coarsen(line(0, 8, 1.0), {"x": 3}, boundary="pad").max().x.values.tolist() == [1.5, 4.5, 7.5]
    assert coarsen(line(0, 8, 1.0), {"x": 4}, coord_func="min").max().x.values.tolist() == [0.5, 4.5]


def test_the_rest_of_an_index() -> None:
    array = line(2, 10, 2.0)
    renamed = array.rename(x="width")
    assert isinstance(renamed.xindexes["width"], VoxelIndex)
    assert renamed.sel(width=slice(0, 7)).size == 1
    again = pickle.loads(pickle.dumps(array))
    xr.testing.assert_identical(again, array)
    assert len(pickle.dumps(array.xindexes["x"])) < 600
    assert "10 voxels, 5 to 23, step 2" in repr(array)
    assert array.copy(deep=True).xindexes["x"].equals(array.xindexes["x"])
    assert not array.xindexes["x"].equals(line(3, 10, 2.0).xindexes["x"])
    assert array.to_series().index.tolist() == array.x.values.tolist()
    assert array.reindex_like(line(0, 4, 2.0), fill_value=-1).values.tolist() == [-1, -1, 2, 3]
    assert VoxelCentres.of_voxels(0, 0, 1.0).values().size == 0
