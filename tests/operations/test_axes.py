"""Every verb on every format with every order of axes that it can hold: one test body for all."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import tifffile

import wkdask as wk
from wkdask.arrays.opening import open_mag_array, read_properties
from wkdask.formats import FORMATS
from wkdask.geometry.grid import Box
from wkdask.metadata import LayerProperties, MagProperties, Properties, VoxelSize
from wkdask.operations import Storage
from wkdask.operations.pyramid import new_arrays
from wkdask.storage import Location

SIZE = {"t": 3, "q": 2, "c": 3, "x": 19, "y": 14, "z": 9}
AXES = ("xyz", "cxyz", "zyxc", "czyx", "tcxyz", "tczyx", "ctzyx", "cxyzt", "qcxyz", "qtcxyz", "zyx")
CASES = [
    pytest.param(name, axes, id=f"{name}-{axes}")
    for name, axes in product(FORMATS, AXES)
    if (FORMATS[name].further_axes or set(axes) <= set("cxyz"))
    and (name not in ("wkw", "neuroglancerPrecomputed") or axes == "cxyz")
]


def layer_of(axes: str, data_format: str) -> LayerProperties:
    """Return a layer without magnifications whose arrays have these axes."""
    further = [(axis, (0, SIZE[axis]), axes.index(axis)) for axis in axes if axis not in "cxyz"]
    size = tuple(SIZE[axis] for axis in "xyz")
    channels = SIZE["c"] if "c" in axes else 1
    layer = LayerProperties.new("em", "color", "uint8", channels, data_format, ((0, 0, 0), size), further)
    if "c" not in axes:
        order = {axis: axes.index(axis) for axis in "xyz"}
        return layer.model_copy(update={"bounding_box": layer.bounding_box.model_copy(update={"axisOrder": order})})
    return layer.with_axis_order(axes)


@pytest.fixture
def made(tmp_path: Path, request: pytest.FixtureRequest):
    """A dataset with one magnification of random voxels, and these voxels in stored axes."""
    data_format, axes = request.param
    place = Location.of(tmp_path / "ds")
    layer = layer_of(axes, data_format)
    assert "".join(layer.axes()) == axes
    storage = Storage(chunk=(8, 8, 8), shard=(16, 16, 16) if FORMATS[data_format].sharded else None, data_format=data_format)
    ((_, array),) = new_arrays(layer, place / "em", [wk.Mag(1)], storage).items()
    FORMATS[data_format].create(array.location, array.spec)
    voxels = np.random.default_rng(len(axes)).integers(1, 200, [SIZE[a] for a in axes], "uint8")
    array.write(Box((0,) * len(axes), voxels.shape), voxels)
    order = {axis: axes.index(axis) for axis in axes if axis in "cxyz"}
    cube = array.spec.unit[1] if data_format == "wkw" else None
    listed = layer.with_mag(MagProperties.new(1, path="./em/1", axis_order=order, cube_length=cube))
    document = Properties.new("ds", VoxelSize((4.0, 4.0, 8.0))).with_layer(listed)
    (place / "datasource-properties.json").write_bytes(document.to_json())
    return wk.Dataset.open(tmp_path / "ds"), axes, voxels


def stored(dataset: wk.Dataset, mag: object) -> np.ndarray:
    """Return the whole box of a magnification in stored axes, opened anew."""
    place = Location.of(dataset.path)
    properties = read_properties(place)
    array = open_mag_array(place, properties, properties.layer("em"), wk.Mag(mag).to_tuple())
    return array.read(array.box)


def reduced(voxels: np.ndarray, axes: str, factor: dict[str, int]) -> np.ndarray:
    """Return the medians of windows, mirrored at the end."""
    pads = [(0, -n % factor.get(a, 1)) for a, n in zip(axes, voxels.shape, strict=True)]
    whole = np.pad(voxels, pads, mode="symmetric")
    split = [m for a, n in zip(axes, whole.shape, strict=True) for m in (n // factor.get(a, 1), factor.get(a, 1))]
    windows = whole.reshape(split)
    return np.median(windows, axis=tuple(range(1, 2 * len(axes), 2))).astype(voxels.dtype)


def expected_pyramid(voxels: np.ndarray, axes: str) -> dict[str, np.ndarray]:
    second = reduced(voxels, axes, {"x": 2, "y": 2})
    return {"1": voxels, "2-2-1": second, "4-4-2": reduced(second, axes, {"x": 2, "y": 2, "z": 2})}


def assert_pyramid(dataset: wk.Dataset, voxels: np.ndarray, axes: str) -> None:
    for mag, expected in expected_pyramid(voxels, axes).items():
        np.testing.assert_array_equal(stored(dataset, mag), expected, err_msg=mag)


every_case = pytest.mark.parametrize("made", [pytest.param(case.values, id=case.id) for case in CASES], indirect=True)


@every_case
def test_every_verb(made, tmp_path):
    dataset, axes, voxels = made
    layer = dataset.get_layer("em")
    np.testing.assert_array_equal(stored(dataset, 1), voxels)

    layer.downsample(coarsest_mag=4)
    assert_pyramid(dataset, voxels, axes)

    changed = tuple(slice(3, 8) if a in "xyz" else slice(None) for a in axes)
    voxels = voxels.copy()
    voxels[changed] = 250
    start, stop = zip(*(s.indices(SIZE[a])[:2] for s, a in zip(changed, axes, strict=True)), strict=True)
    layer.get_mag(1).array.handle.write(Box(start, stop), voxels[changed])
    layer.update_pyramid(wk.BoundingBox((3, 3, 3), (5, 5, 5)))
    assert_pyramid(dataset, voxels, axes)

    voxels = appended(layer, axes, voxels, tmp_path) if "q" not in axes else voxels
    assert_pyramid(dataset, voxels, axes)
    lazy = layer.get_mag(1).to_dask().compute()
    np.testing.assert_array_equal(lazy, voxels)
    report = dataset.verify()
    assert report.ok, report.faults


def appended(layer: wk.Layer, axes: str, voxels: np.ndarray, tmp_path: Path) -> np.ndarray:
    """Add four sections to a layer, and return all its voxels."""
    shape = [4 if a == "z" else SIZE[a] for a in axes]
    new = np.random.default_rng(1).integers(1, 200, shape, "uint8")
    tzcyx = np.asarray(in_order(new, axes, "tzcyx"))
    file = tmp_path / "more.tif"
    tifffile.imwrite(file, tzcyx, imagej=True, metadata={"axes": "TZCYX"})
    layer.append_images(file)
    return np.concatenate([voxels, new], axis=axes.index("z"))


def in_order(block: np.ndarray, axes: str, wanted: str) -> np.ndarray:
    """Return a block with other axes; new ones have one position."""
    for axis in wanted:
        if axis not in axes:
            block, axes = block[None], axis + axes
    return block.transpose([axes.index(axis) for axis in wanted])


@pytest.mark.parametrize("order", ["zyxc", "xyzc", "czyx", "zcyx"])
@pytest.mark.parametrize("data_format", ["zarr3", "zarr", "n5"])
def test_conversion_into_any_order(tmp_path, data_format, order):
    voxels = np.random.default_rng(0).integers(1, 200, (3, 9, 3, 14, 19), "uint8")  # t, z, c, y, x
    tifffile.imwrite(tmp_path / "film.tif", voxels, imagej=True, metadata={"axes": "TZCYX"})
    dataset = wk.Dataset.from_images(
        tmp_path / "film.tif",
        tmp_path / "ds",
        (4, 4, 8),
        layer_name="em",
        data_format=data_format,
        axis_order=order,
        chunk_shape=8,
        downsample=True,
        coarsest_mag=4,
        allow_multiple_layers=False,
    )
    axes = "t" + order
    assert "".join(dataset.get_layer("em").properties.axes()) == axes
    assert_pyramid(dataset, in_order(voxels, "tzcyx", axes), axes)
