"""Where the dataset's JSON and an array disagree, the array is right, and a warning names both."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wkdask as wk
from wkdask.arrays.opening import open_mag_arrays
from wkdask.errors import InputError
from wkdask.formats import FORMATS
from wkdask.metadata import MetadataWarning
from wkdask.storage import Location

SIZE = (32, 32, 32)


def dataset(folder: Path, data_format: str, channels: int, change: dict[str, Any]) -> tuple[Location, np.ndarray]:
    """Return a dataset of one array, whose layer's JSON was changed, and the voxels."""
    place = folder / data_format
    layer = wk.Dataset(str(place), voxel_size=(4, 4, 40)).add_layer(
        "em",
        "color",
        dtype="uint8",
        num_channels=channels,
        data_format=data_format,
        bounding_box=wk.BoundingBox((0, 0, 0), SIZE),
    )
    voxels = np.random.default_rng(0).integers(1, 250, (channels, *SIZE)).astype("uint8")
    layer.add_mag(1, chunk_shape=32).write(voxels, absolute_offset=(0, 0, 0))
    document = place / "datasource-properties.json"
    found = json.loads(document.read_text())
    found["dataLayers"][0].update(change)
    document.write_text(json.dumps(found))
    return Location(str(place)), voxels


@pytest.mark.parametrize("data_format", sorted(FORMATS))
def test_more_channels_than_the_array_has(data_format: str, tmp_path: Path) -> None:
    place, voxels = dataset(tmp_path, data_format, 1, {"numChannels": 3, "elementClass": "uint24"})
    with pytest.warns(MetadataWarning, match=r"'em' has 3 channels by the dataset's JSON, but the array of mag 1 has 1"):
        array = open_mag_arrays(place)["em"]["1"]
    found = array.read(array.box)
    np.testing.assert_array_equal(found[:1], voxels)
    assert found.shape[0] == 3 and not found[1:].any()


@pytest.mark.parametrize("data_format", sorted(FORMATS))
def test_fewer_channels_than_the_array_has(data_format: str, tmp_path: Path) -> None:
    """None is lost without a word: all are read, and verbs that write others of the layer refuse."""
    place, voxels = dataset(tmp_path, data_format, 3, {"numChannels": 1, "elementClass": "uint8"})
    with pytest.warns(MetadataWarning, match=r"'em' has 1 channels by the dataset's JSON, but the array of mag 1 has 3; all"):
        array = open_mag_arrays(place)["em"]["1"]
    np.testing.assert_array_equal(array.read(array.box), voxels)
    for verb in ("downsample", "copy_dataset"):
        opened = wk.Dataset.open(place.url)
        with pytest.warns(MetadataWarning), pytest.raises(InputError, match=r"has 3 channels, but layer 'em' has 1 by"):
            opened.downsample() if verb == "downsample" else opened.copy_dataset(tmp_path / "copy")
    assert [fault.kind for fault in wk.Dataset.open(place.url).verify().faults] == ["contradiction"]
    document = tmp_path.joinpath(place.url, "datasource-properties.json")
    found = json.loads(document.read_text())
    found["dataLayers"][0]["mags"][0]["channelIndex"] = 1
    document.write_text(json.dumps(found))
    array = open_mag_arrays(place)["em"]["1"]
    np.testing.assert_array_equal(array.read(array.box), voxels[1:2])
    assert wk.Dataset.open(place.url).verify().ok


def test_other_axes_than_an_array_has_that_knows_its_own(tmp_path: Path) -> None:
    place, voxels = dataset(tmp_path, "neuroglancerPrecomputed", 1, {})
    document = tmp_path.joinpath(place.url, "datasource-properties.json")
    found = json.loads(document.read_text())
    found["dataLayers"][0]["mags"][0]["axisOrder"] = {"c": 0, "z": 1, "y": 2, "x": 3}
    document.write_text(json.dumps(found))
    said = r"'em' has the axes \('c', 'z', 'y', 'x'\) by the dataset's JSON, but \('c', 'x', 'y', 'z'\) in the array of mag 1"
    with pytest.warns(MetadataWarning, match=said):
        array = open_mag_arrays(place)["em"]["1"]
    np.testing.assert_array_equal(array.read(array.box), voxels)


@pytest.mark.parametrize("data_format", sorted(FORMATS))
def test_another_dtype_than_the_array_has(data_format: str, tmp_path: Path) -> None:
    place, voxels = dataset(tmp_path, data_format, 1, {"elementClass": "uint16"})
    with pytest.warns(MetadataWarning, match="'em' is uint16 by the dataset's JSON, but uint8 in the array of mag 1"):
        array = open_mag_arrays(place)["em"]["1"]
    np.testing.assert_array_equal(array.read(array.box), voxels)
    assert array.dtype == "uint8"


@pytest.mark.parametrize("data_format", sorted(FORMATS))
def test_no_warning_where_they_agree(data_format: str, tmp_path: Path) -> None:
    place, voxels = dataset(tmp_path, data_format, 3, {})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        array = open_mag_arrays(place)["em"]["1"]
    np.testing.assert_array_equal(array.read(array.box), voxels)
