"""xarray's own functions open datasets: lazily, with chunks of the disk, one magnification or all."""

from __future__ import annotations

import pickle
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from wkdask.arrays.backend import LazyMag, WkdaskBackend
from wkdask.arrays.opening import open_mag_arrays
from wkdask.arrays.voxel_index import VoxelIndex
from wkdask.errors import DatasetNotFoundError, LayerNotFoundError, MagNotFoundError
from wkdask.formats import ArraySpec, Zarr3
from wkdask.formats.writing import in_morton_order
from wkdask.metadata import FILE_NAME, LayerProperties, MagProperties, Properties, VoxelSize
from wkdask.storage import Location

START, STOP = (5, 0, 3), (70, 40, 33)


def voxels(layer: str, mag: int) -> np.ndarray:
    shape = (1, 128 // mag, 64 // mag, 64 // mag)
    return np.random.default_rng(len(layer) + mag).integers(1, 255, shape).astype("uint8")


def make(folder: Path, *layers: str) -> Path:
    root = Location(str(folder)).make_folder()
    properties = Properties.new("brain", VoxelSize((4.0, 4.0, 35.0)))
    for name in layers:
        layer = LayerProperties.new(name, "color", "uint8", 1, "zarr3", (START, tuple(np.subtract(STOP, START).tolist())))
        for mag in (1, 2):
            data = voxels(name, mag)
            spec = ArraySpec(data.shape, "uint8", ("c", "x", "y", "z"), (1, 16, 16, 16), (1, 32, 32, 32))
            array = Zarr3().create(root / name / str(mag), spec)
            for cell in in_morton_order(spec.grid.units().cells):
                box = spec.grid.unit_box(cell)
                with array.unit(cell) as unit:
                    unit.put(box, data[box.slices])
            layer = layer.with_mag(MagProperties.new(mag, path=f"./{name}/{mag}"))
        properties = properties.with_layer(layer)
    (root / FILE_NAME).write_bytes(properties.to_json())
    return folder


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make(tmp_path_factory.mktemp("one"), "color"))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make(tmp_path_factory.mktemp("two"), "color", "raw"))


def test_lazy_without_dask(one: str) -> None:
    data = voxels("color", 1)[:, 5:70, 0:40, 3:33]
    with xr.open_dataset(one, engine=WkdaskBackend) as opened:
        color = opened["color"]
        assert color.dims == ("c", "x", "y", "z")
        assert color.chunks is None
        assert isinstance(color.xindexes["x"], VoxelIndex)
        assert color.attrs["mag"] == [1, 1, 1]
        assert color.x.attrs == {"units": "nanometer"}
        np.testing.assert_array_equal(color[0, 3:50:4, ::-1, -1].values, data[0, 3:50:4, ::-1, -1])
        np.testing.assert_array_equal(color[0, [5, 1, 1], :, [2, 0]].values, data[0][[5, 1, 1]][:, :, [2, 0]])
        np.testing.assert_array_equal(color[:, 5:5].values, data[:, 5:5])
        points = color.isel(x=xr.DataArray([1, 2], dims="p"), y=xr.DataArray([3, 4], dims="p"))
        np.testing.assert_array_equal(points.isel(c=0).values, data[0, [1, 2], [3, 4]])
        np.testing.assert_array_equal(color.sel(x=slice(40, 80)).values, data[:, 5:15])
        np.testing.assert_array_equal(color.values, data)


def test_chunks_lie_on_the_disks(one: str) -> None:
    opened = xr.open_dataset(f"{one}/{FILE_NAME}", engine=WkdaskBackend, layer="color", mag="1", chunks={})
    assert opened["color"].chunks == ((1,), (27, 32, 6), (32, 8), (29, 1))
    assert isinstance(opened.xindexes["x"], VoxelIndex)
    assert "VoxelVariable" in repr(opened.x.variable)
    np.testing.assert_array_equal(opened["color"].values, voxels("color", 1)[:, 5:70, 0:40, 3:33])


def test_it_is_guessed(one: str, tmp_path: Path) -> None:
    backend = WkdaskBackend()
    assert backend.guess_can_open(one)
    assert backend.guess_can_open(Path(one))
    for other in (tmp_path, str(tmp_path / "nothing"), b"CDF", 3, "nosuchprotocol://host/path"):
        assert not backend.guess_can_open(other)
    with pytest.raises(DatasetNotFoundError):
        backend.open_dataset(tmp_path)


def test_layer_and_mag(two: str) -> None:
    with pytest.raises(LayerNotFoundError, match="'color', 'raw'"):
        xr.open_dataset(two, engine=WkdaskBackend)
    with pytest.raises(LayerNotFoundError):
        xr.open_dataset(two, engine=WkdaskBackend, layer="seg")
    with pytest.raises(MagNotFoundError):
        xr.open_dataset(two, engine=WkdaskBackend, layer="raw", mag=4)
    raw = xr.open_dataset(two, engine=WkdaskBackend, layer="raw", mag=2, drop_variables=["z", "other"])
    assert raw["raw"].shape == (1, 33, 20, 16)
    assert raw.x.values[0] == 2.5 * 8
    assert "z" not in raw.coords


def test_trees(two: str) -> None:
    tree = xr.open_datatree(two, engine=WkdaskBackend)
    assert list(tree.children) == ["color", "raw"]
    assert list(tree["raw"].children) == ["1", "2"]
    np.testing.assert_array_equal(tree["raw/2/raw"].values, voxels("raw", 2)[:, 2:35, 0:20, 1:17])
    assert not tree["raw"].coords
    assert set(xr.open_groups(two, engine=WkdaskBackend)) == {"/", "/color", "/color/1", "/color/2", "/raw", "/raw/1", "/raw/2"}


def test_pickles(one: str) -> None:
    array = open_mag_arrays(Location(one))["color"]["2"]
    assert len(pickle.dumps(array)) < 1500
    again = pickle.loads(pickle.dumps(LazyMag(array)))
    assert again.shape == (1, 33, 20, 16)
    opened = pickle.loads(pickle.dumps(xr.open_dataset(one, engine=WkdaskBackend, chunks={})))
    assert opened["color"].isel(x=0, y=0, z=0).values.tolist() == voxels("color", 1)[:, 5, 0, 3].tolist()


def test_the_entry_point_names_it() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    point = EntryPoint("wkdask", project["entry-points"]["xarray.backends"]["wkdask"], "xarray.backends")
    assert point.load() is WkdaskBackend
