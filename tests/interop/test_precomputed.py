"""Neuroglancer volumes that others write are read by us, and ours by others: tensorstore and cloud-volume."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
from hypothesis import given
from hypothesis import strategies as st

from tests.formats.arrays import bits, boxes_in, filled_chunks, fresh_place, noise
from tests.formats.test_precomputed import listed, make, spec_of
from wkdask.arrays.mag_array import read_filled
from wkdask.errors import InputError
from wkdask.formats import open_array
from wkdask.formats.precomputed import PrecomputedArray
from wkdask.formats.precomputed_info import DTYPES, encodable
from wkdask.geometry.grid import Box
from wkdask.storage import Location

NAME = "neuroglancerPrecomputed"
SHARDINGS = st.fixed_dictionaries(
    {
        "@type": st.just("neuroglancer_uint64_sharded_v1"),
        "preshift_bits": st.integers(0, 3),
        "minishard_bits": st.integers(0, 3),
        "shard_bits": st.integers(0, 6),
        "hash": st.sampled_from(["identity", "murmurhash3_x86_128"]),
        "minishard_index_encoding": st.sampled_from(["raw", "gzip"]),
        "data_encoding": st.sampled_from(["raw", "gzip"]),
    }
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for all volumes of this module."""
    return tmp_path_factory.mktemp("volumes")


@st.composite
def foreign(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a scale of any kind that tensorstore can write, as its specification."""
    dtype, channels = draw(st.sampled_from(sorted(DTYPES))), draw(st.sampled_from([1, 2, 3]))
    encodings = [e for e in ("raw", "compressed_segmentation", "png", "jpeg") if encodable(e, dtype, channels)]
    encoding = draw(st.sampled_from(encodings))
    scale: dict[str, Any] = {
        "key": draw(st.sampled_from(["1", "8_8_40", "images/8_8_40"])),
        "size": [draw(st.integers(1, 19)) for _ in "xyz"],
        "voxel_offset": [draw(st.integers(-30, 30)) for _ in "xyz"] if draw(st.booleans()) else [0, 0, 0],
        "resolution": [4, 4, 40.5],
        "chunk_size": [draw(st.sampled_from([3, 4, 8, 64])) for _ in "xyz"],
        "encoding": encoding,
    }
    if encoding == "compressed_segmentation":
        scale["compressed_segmentation_block_size"] = [draw(st.sampled_from([1, 3, 8])) for _ in "xyz"]
    if draw(st.booleans()):
        scale["sharding"] = draw(SHARDINGS)
    return {"multiscale_metadata": {"type": "image", "data_type": dtype, "num_channels": channels}, "scale_metadata": scale}


def written(volume: Location, found: dict[str, Any], seed: int = 0) -> np.ndarray[Any, Any]:
    """Write a volume of noise by tensorstore; return what it reads of it, in the axes (c, x, y, z)."""
    spec = {"driver": "neuroglancer_precomputed", "kvstore": {"driver": "file", "path": volume.url + "/"}, **found}
    store = tensorstore.open(spec, create=True).result()
    box = Box((0,) * 4, store.shape)
    store.write(noise(box, found["multiscale_metadata"]["data_type"], seed)).result()
    result: np.ndarray[Any, Any] = np.asarray(store.read().result()).transpose(3, 0, 1, 2)
    return result


@given(data=st.data())
def test_reading_what_tensorstore_writes(folder: Path, data: st.DataObject) -> None:
    found = data.draw(foreign())
    scale = found["scale_metadata"]
    volume = fresh_place("local", folder).parent
    expected = written(volume, found)
    spelling = data.draw(st.sampled_from(["", "./", "a/../"]))
    document = json.loads((volume / "info").read_bytes())
    document["scales"] = [{"key": "../elsewhere/1"}, {**document["scales"][0], "key": spelling + scale["key"]}]
    (volume / "info").write_bytes(json.dumps(document).encode())
    array = open_array(volume / scale["key"], NAME)
    assert array.spec.shape == expected.shape and array.spec.offset == (0, *scale["voxel_offset"])
    box = data.draw(boxes_in(array.spec.grid.box))
    np.testing.assert_array_equal(bits(array.read(box)), bits(expected[box.slices]))
    larger = Box((0, *(o - 7 for o in scale["voxel_offset"])), tuple(b + 3 for b in array.spec.box.stop))
    wanted = np.zeros(larger.shape, expected.dtype)
    wanted[array.spec.box.relative_to(larger.start).slices] = expected
    np.testing.assert_array_equal(bits(read_filled(array, larger)), bits(wanted))
    for index in array.written_units():  # of a sharded volume too, the file that it lies in
        assert array.unit_location(index).is_file()
    filled = filled_chunks(array.spec, (expected != 0).astype("uint8"))  # tensorstore stores no chunk of -0.0
    assert filled <= set(array.written_units())
    if "sharding" in scale or any(scale["voxel_offset"]) or scale["encoding"] == "jpeg":
        with pytest.raises(InputError, match="can only be read"):
            array.write(box, array.read(box))
    else:
        array.write(box, np.zeros(box.shape, expected.dtype))
        expected[box.slices] = 0
        np.testing.assert_array_equal(bits(array.read(array.spec.grid.box)), bits(expected))


@pytest.mark.parametrize("name", ["identity", "murmurhash3_x86_128"])
def test_shards_are_known_by_their_chunks(name: str, folder: Path) -> None:
    """Of so many shards that each chunk has one of its own."""
    sharding = {
        "@type": "neuroglancer_uint64_sharded_v1",
        "preshift_bits": 0,
        "minishard_bits": 1,
        "shard_bits": 14,
        "hash": name,
    }
    scale = {"key": "1", "size": [17, 9, 13], "resolution": [1, 1, 1], "chunk_size": [4, 4, 4], "encoding": "raw"}
    found = {
        "multiscale_metadata": {"type": "image", "data_type": "uint8", "num_channels": 1},
        "scale_metadata": {**scale, "sharding": sharding},
    }
    volume = fresh_place("local", folder).parent
    written(volume, found)
    array = open_array(volume / "1", NAME)
    units = array.spec.grid.units()
    names = [array.unit_location(units.cell(number)).name for number in range(len(units))]
    assert set(names) == set((volume / "1").names()) and len(set(names)) > 25


@given(data=st.data())
def test_reading_the_same_from_stores(folder: Path, data: st.DataObject) -> None:
    """By a reader of our own."""
    found = data.draw(foreign())
    found["scale_metadata"]["key"] = "1"
    volume = fresh_place("local", folder).parent
    expected = written(volume, found)
    remote = fresh_place("memory", folder).parent
    for name in ["info", *(f"1/{name}" for name in (volume / "1").names())]:
        (remote / name).write_bytes((volume / name).read_bytes())
    array = open_array(remote / "1", NAME)
    box = data.draw(boxes_in(array.spec.grid.box))
    np.testing.assert_array_equal(bits(array.read(box)), bits(expected[box.slices]))
    (remote / "1").delete()
    assert not array.read(box).any()


def test_a_read_that_begins_before_the_volume_places_its_voxels_behind_the_start(folder: Path) -> None:
    scale = {"key": "1", "size": [8, 8, 8], "voxel_offset": [10, 0, 0], "resolution": [1, 1, 1], "chunk_size": [8, 8, 8]}
    found = {
        "multiscale_metadata": {"type": "image", "data_type": "uint8", "num_channels": 1},
        "scale_metadata": {**scale, "encoding": "raw"},
    }
    volume = fresh_place("local", folder).parent
    expected = written(volume, found)
    voxels = read_filled(open_array(volume / "1", NAME), Box((0, 0, 0, 0), (1, 20, 8, 8)))
    assert not voxels[:, :10].any() and not voxels[:, 18:].any()
    np.testing.assert_array_equal(voxels[:, 10:18], expected)


def test_a_sample_dataset(fixtures_folder: Path) -> None:
    volume = fixtures_folder / "simple_ng_dataset" / "color"
    array = open_array(Location(str(volume / "1")), NAME)
    spec = {"driver": "neuroglancer_precomputed", "kvstore": {"driver": "file", "path": f"{volume}/"}}
    expected = np.asarray(tensorstore.open(spec, open=True).result().read().result()).transpose(3, 0, 1, 2)
    np.testing.assert_array_equal(array.read(array.spec.grid.box), expected)
    assert expected.shape == (3, 24, 24, 24) and expected.any()


READ = """
import sys, numpy
from cloudvolume import CloudVolume
for volume in sys.argv[1:]:
    found = CloudVolume("precomputed://file://" + volume, progress=False, fill_missing=True)
    numpy.save(volume + "/read.npy", numpy.asarray(found[:, :, :]))
"""


@pytest.mark.oracle("cloud-volume")
def test_cloud_volume_reads_what_we_write(folder: Path, cloudvolume_python: Path) -> None:
    kinds = [
        ("uint8", "none", 3),
        ("int16", "none", 1),
        ("float32", "none", 1),
        ("uint8", "png", 1),  # of 16 bits, cloud-volume 12 reads none
        ("uint32", "compressed_segmentation", 1),
        ("uint64", "compressed_segmentation", 1),
    ]
    arrays: list[tuple[PrecomputedArray, np.ndarray[Any, Any]]] = []
    for dtype, codec, channels in kinds:
        array = make(fresh_place("local", folder), spec_of((21, 18, 10), dtype, codec, channels=channels))
        block = noise(array.spec.grid.box, dtype) if dtype != "float32" else np.ones(array.spec.shape, dtype)
        block[:, :8, :8, :8] = 0  # a chunk that has no file
        array.write(array.spec.grid.box, block)
        listed(array, category="segmentation" if dtype in ("uint32", "uint64") else "color")
        arrays.append((array, block))
    command = [cloudvolume_python, "-c", READ, *(array.volume.url for array, _ in arrays)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for array, block in arrays:
        found = np.load(f"{array.volume.url}/read.npy").transpose(3, 0, 1, 2)
        assert found.dtype == block.dtype, json.loads((array.volume / "info").read_bytes())
        np.testing.assert_array_equal(found, block)
