"""Chunks of Neuroglancer volumes whose files were compressed once more, as cloud-volume does by default: no voxel is lost."""

from __future__ import annotations

import gzip
import json
import subprocess
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.formats.arrays import KINDS, bits, fresh_place, noise
from tests.formats.test_precomputed import make, spec_of, specs, whole
from wkdask.errors import DamagedError, InputError
from wkdask.formats import open_array
from wkdask.formats.precomputed import PrecomputedArray
from wkdask.geometry.grid import Box
from wkdask.operations.verify_folders import list_array
from wkdask.storage import Location

NAME = "neuroglancerPrecomputed"
FIRST = Box((0, 0, 0, 0), (1, 8, 8, 8))


def pack(place: Location, suffix: str = ".gz") -> Location:
    """Compress a chunk's file once more."""
    data = place.read_bytes()
    place.delete()
    packed = place.parent / f"{place.name}{suffix}"
    packed.write_bytes(gzip.compress(data))
    return packed


def packed_array(folder: Path, codec: str = "none", dtype: str = "uint32") -> tuple[PrecomputedArray, Location]:
    """Return an array with one packed chunk, and its file."""
    array = make(fresh_place("local", folder), spec_of(dtype=dtype, codec=codec))
    array.write(FIRST, noise(FIRST, dtype))
    return array, pack(array.unit_location((0, 0, 0, 0)))


@given(data=st.data())
def test_packed_files_are_the_same_voxels(folder: Path, data: st.DataObject) -> None:
    array = make(fresh_place("local", folder), data.draw(specs()))
    block = noise(array.spec.grid.box, array.spec.dtype)
    array.write(array.spec.grid.box, block)
    units = list(array.written_units())
    chosen = data.draw(st.sets(st.sampled_from(units), min_size=1))
    for index in chosen:
        pack(array.unit_location(index))
    np.testing.assert_array_equal(bits(whole(array)), bits(block))
    assert sorted(array.written_units()) == sorted(units)
    listed = list_array(array)
    assert sorted(listed.units) == sorted(units) and not listed.faults


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("codec", ["none", "compressed_segmentation"])
def test_the_encoding_of_the_content_that_a_store_leaves(kind: str, codec: str, folder: Path) -> None:
    array = make(fresh_place(kind, folder), spec_of(dtype="uint32", codec=codec))
    array.write(FIRST, noise(FIRST, "uint32"))
    pack(array.unit_location((0, 0, 0, 0)), "")
    if kind == "local":
        with pytest.raises(DamagedError, match="0-8_0-8_0-8"):
            array.read(FIRST)
    else:
        np.testing.assert_array_equal(array.read(FIRST), noise(FIRST, "uint32"))


def test_raw_voxels_that_begin_like_gzip(folder: Path) -> None:
    array = make(fresh_place("memory", folder))
    block = noise(FIRST, "uint8")
    block[0, :2, 0, 0] = 0x1F, 0x8B
    array.write(FIRST, block)
    np.testing.assert_array_equal(array.read(FIRST), block)


def test_packed_files_are_not_written_over(folder: Path) -> None:
    array, packed = packed_array(folder)
    before = array.location.names()
    for attempt in (
        lambda: array.write(Box((0, 1, 1, 1), (1, 2, 2, 2)), np.ones((1, 1, 1, 1), "uint32")),
        lambda: array.unit((0, 0, 0, 0)),
        lambda: array.join((0, 0, 0, 0), ()),
    ):
        with pytest.raises(InputError, match="compressed once more"):
            attempt()
    assert array.location.names() == before
    beside = Box((0, 8, 0, 0), (1, 16, 8, 8))
    array.write(beside, noise(beside, "uint32"))
    np.testing.assert_array_equal(array.read(FIRST), noise(FIRST, "uint32"))


@pytest.mark.parametrize("codec", ["none", "compressed_segmentation"])
def test_damaged_and_bursting_files_are_named(codec: str, folder: Path) -> None:
    array, packed = packed_array(folder, codec)
    sound = packed.read_bytes()
    for data in (b"", sound[:-9], sound[:-8] + bytes(8), gzip.compress(bytes(1 << 24))):
        packed.write_bytes(data)
        tracemalloc.start()
        with pytest.raises(DamagedError, match=r"0-8_0-8_0-8\.gz is damaged"):
            array.read(FIRST)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
        tracemalloc.stop()


def test_what_is_not_unpacked_is_said(folder: Path) -> None:
    array, packed = packed_array(folder)
    (array.location / "0-8_0-8_0-8.br").write_bytes(packed.read_bytes())
    packed.delete()
    with pytest.raises(InputError, match=r"\.br is compressed with Brotli"):
        array.read(FIRST)


WRITE = """
import sys, numpy
from cloudvolume import CloudVolume
usual = [("raw", "uint16", None), ("compressed_segmentation", "uint32", None), ("png", "uint8", None)]
for encoding, dtype, how in (*usual, *(("raw", "uint16", how) for how in ("bz2", "lzma", "zstd", False))):
    info = CloudVolume.create_new_info(1, "image", dtype, encoding, (8, 8, 40), (-3, 5, 0), (20, 15, 10), chunk_size=(8, 8, 8))
    name = encoding if how is None else f"{encoding}-{how}"
    volume = CloudVolume(f"file://{sys.argv[1]}/{name}", info=info, progress=False, compress=how)
    volume.commit_info()
    volume[:, :, :] = (numpy.arange(3000).reshape(20, 15, 10) % 251 + 1).astype(dtype)
"""


@pytest.mark.oracle("cloud-volume")
def test_what_cloud_volume_writes(folder: Path, cloudvolume_python: Path) -> None:
    done = subprocess.run([cloudvolume_python, "-c", WRITE, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for name in ("raw", "compressed_segmentation", "png", "raw-bz2", "raw-lzma", "raw-zstd", "raw-False"):
        volume = folder / name
        key = json.loads((volume / "info").read_bytes())["scales"][0]["key"]
        array = open_array(Location(str(volume / key)), NAME)
        found = array.read(array.spec.grid.box)
        assert array.spec.offset == (0, -3, 5, 0)
        np.testing.assert_array_equal(found[0], np.arange(3000).reshape(20, 15, 10) % 251 + 1)
        assert len(list(array.written_units())) == array.spec.grid.units().cells.size
