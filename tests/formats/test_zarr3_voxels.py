"""What is written is read again, by us and by others; what others write is read by us."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from tests.formats.arrays import (
    KINDS,
    bits,
    boxes_in,
    by_tensorstore,
    by_zarr,
    downloaded,
    filled_chunks,
    fresh_place,
    make,
    noise,
    specs,
    unit_of,
    whole,
)
from wkdask.errors import DamagedError, InputError
from wkdask.formats import Zarr3, Zarr3Array, open_array
from wkdask.formats.shard import MISSING
from wkdask.formats.zarr3_document import DTYPES
from wkdask.geometry.grid import Box
from wkdask.storage import Location


def stored_chunks(array: Zarr3Array) -> set[tuple[int, ...]]:
    """Return the chunks that the indexes of all units name."""
    found = set()
    for unit in array.written_units():
        entries = array.entries(unit)
        assert entries is not None
        per_unit = array.spec.grid.chunks_per_unit
        for at in np.flatnonzero(entries[:, 0] != MISSING):
            inner = np.unravel_index(at, per_unit)
            found.add(tuple(int(u * n + i) for u, n, i in zip(unit, per_unit, inner, strict=True)))
    return found


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_any_writes_equal_a_dense_model(kind: str, folder: Path, data: st.DataObject) -> None:
    spec = data.draw(specs())
    array = Zarr3().create(fresh_place(kind, folder), spec)
    dense = np.zeros(spec.shape, spec.dtype)
    for seed in range(data.draw(st.integers(1, 4))):
        box = data.draw(boxes_in(spec.grid.box))
        block = noise(box, spec.dtype, seed) if data.draw(st.integers(0, 3)) else np.zeros(box.shape, spec.dtype)
        array.write(box, block if data.draw(st.booleans()) else np.asfortranarray(block))
        dense[box.slices] = block
    for _ in range(3):
        box = data.draw(boxes_in(spec.grid.box))
        found = array.read(box)
        assert found.dtype == spec.dtype and (found.flags.c_contiguous if spec.axes[-1] == "x" else found.flags.f_contiguous)
        np.testing.assert_array_equal(bits(found), bits(dense[box.slices]))
    expected = filled_chunks(spec, dense)
    assert stored_chunks(array) == expected
    assert set(array.written_units()) == {unit_of(spec, cell) for cell in expected}
    local = downloaded(array, folder)
    np.testing.assert_array_equal(bits(by_zarr(local)), bits(dense))
    np.testing.assert_array_equal(bits(by_tensorstore(local)), bits(dense))
    again = open_array(array.location, "zarr3")
    assert again == array and again.spec.codec == spec.codec
    np.testing.assert_array_equal(bits(whole(again)), bits(dense))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sharded", [True, False])
@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_each_dtype(kind: str, sharded: bool, dtype: str, folder: Path) -> None:
    for codec in ("none", "zstd:5", "gzip:1"):
        array = make(fresh_place(kind, folder), codec, dtype, sharded=sharded, edge=16)
        block = noise(array.spec.grid.box, dtype)
        array.write(array.spec.grid.box, block)
        np.testing.assert_array_equal(bits(whole(array)), bits(block))
        local = downloaded(array, folder)
        for others in (by_zarr(local), by_tensorstore(local)):
            assert others.dtype == dtype
            np.testing.assert_array_equal(bits(others), bits(block))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_chunk_of_negative_zeros_is_stored(kind: str, dtype: str, folder: Path) -> None:
    array = make(fresh_place(kind, folder), dtype=dtype)
    box = Box((0, 8, 8, 8), (1, 16, 16, 16))
    array.write(box, np.full(box.shape, -0.0, dtype))
    assert stored_chunks(array) == {(0, 1, 1, 1)}
    assert np.signbit(array.read(box)).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sharded", [True, False])
def test_zeros_are_not_stored_and_remove_what_was(kind: str, sharded: bool, folder: Path) -> None:
    array = make(fresh_place(kind, folder), sharded=sharded)
    every = array.spec.grid.box
    array.write(every, np.zeros(every.shape, "uint8"))
    assert list(array.written_units()) == []
    array.write(every, np.ones(every.shape, "uint8"))
    count = len(list(array.written_units()))
    assert count == (8 if sharded else 64)
    chunk = Box((0, 0, 0, 0), (1, 8, 8, 8))
    array.write(chunk, np.zeros(chunk.shape, "uint8"))
    assert (0, 0, 0, 0) not in stored_chunks(array) and len(stored_chunks(array)) == 63
    unit = Box((0, 0, 0, 0), (1, 16, 16, 16))
    array.write(unit, np.zeros(unit.shape, "uint8"))
    assert not array.unit_location((0, 0, 0, 0)).is_file()
    assert len(list(array.written_units())) == (7 if sharded else 56)
    assert whole(array).sum() == every.size - unit.size


@pytest.mark.parametrize("sharded", [True, False])
def test_writing_never_trusts_an_index_read_before(sharded: bool, folder: Path) -> None:
    """Two files of one size may have one time too: a clock's tick can be longer than a write."""
    array = make(fresh_place("local", folder), "none", edge=16, sharded=sharded)
    boxes = [Box((0, 0, 0, z), (1, 8, 8, z + 8)) for z in (0, 8)]
    for first, second in (boxes, boxes[::-1]):
        block = np.zeros(array.spec.shape, "uint8")
        block[first.slices] = 5
        array.write(array.spec.grid.box, block)
        for unit in array.written_units():
            os.utime(array.unit_location(unit).url, ns=(10**18, 10**18))
        array.inspect((0, 0, 0, 0))
        array.write(Box((0, 8, 0, 0), (1, 9, 1, 1)), np.ones((1, 1, 1, 1), "uint8"))
        assert (array.read(first) == 5).all() and not array.read(second).any()


@pytest.mark.parametrize("kind", KINDS)
def test_voxels_beyond_the_end_are_zeros_once_the_array_grows(kind: str, folder: Path) -> None:
    array = make(fresh_place(kind, folder), edge=12)
    with array.unit((0, 0, 0, 0)) as out:
        out.put(array.spec.grid.box, np.ones(array.spec.shape, "uint8"))
    array.resize((1, 16, 16, 16))
    found = whole(open_array(array.location, "zarr3"))
    assert found[:, :12, :12, :12].all() and found.sum() == 12**3


@pytest.mark.parametrize(
    ("block", "wrong"),
    [
        (np.zeros((1, 4, 4, 5), "uint8"), "shape"),
        (np.zeros((1, 4, 4, 1), "uint8"), "shape"),
        (np.zeros((4, 4, 4), "uint8"), "axes"),
        (np.zeros((1, 4, 4, 4), "float32"), "dtype"),
        (np.zeros((1, 4, 4, 4), ">u2"), "dtype"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(block: np.ndarray[Any, Any], wrong: str, folder: Path) -> None:
    array = make(fresh_place("local", folder))
    box = Box((0, 0, 0, 0), (1, 4, 4, 4))
    with pytest.raises(InputError, match="uint8"):
        array.write(box, block)
    with pytest.raises(InputError, match="uint8"), array.unit((0, 0, 0, 0)) as out:
        out.put(box, block)
    assert list(array.written_units()) == []


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        ({"name": "default"}, "c/0/1/2/3"),
        ({"name": "default", "configuration": {"separator": "."}}, "c.0.1.2.3"),
        ({"name": "v2"}, "0.1.2.3"),
        ({"name": "v2", "configuration": {"separator": "/"}}, "0/1/2/3"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_names_of_chunks(encoding: dict[str, Any], name: str, kind: str, folder: Path) -> None:
    array = make(fresh_place(kind, folder), sharded=False)
    document = array.location / "zarr.json"
    document.write_bytes(json.dumps({**json.loads(document.read_bytes()), "chunk_key_encoding": encoding}).encode())
    array = open_array(array.location, "zarr3")
    box = Box((0, 8, 16, 24), (1, 16, 24, 32))
    array.write(box, np.full(box.shape, 5, "uint8"))
    assert Location(f"{array.location.url}/{name}").is_file()
    assert list(array.written_units()) == [(0, 1, 2, 3)]
    assert (whole(array) != 0).sum() == box.size
    np.testing.assert_array_equal(by_tensorstore(array.location.url), whole(array)) if kind == "local" else None


@pytest.mark.parametrize("outer", ["gzip", "zstd"])
def test_no_memory_for_what_blosc_claims_within_another_compressor(outer: str, folder: Path) -> None:
    place = fresh_place("local", folder)
    settings = {"cname": "zstd", "clevel": 5, "shuffle": "noshuffle", "typesize": 1, "blocksize": 0}
    codecs = [{"name": "bytes"}, {"name": "blosc", "configuration": settings}, {"name": outer, "configuration": {"level": 1}}]
    codecs[-1]["configuration"] |= {"checksum": False} if outer == "zstd" else {}
    zarr.create_array(place.url, shape=(8, 8), chunks=(8, 8), dtype="uint8", fill_value=0, overwrite=True)
    document = {**json.loads((place / "zarr.json").read_bytes()), "codecs": codecs}
    (place / "zarr.json").write_bytes(json.dumps(document).encode())
    zarr.open_array(place.url)[...] = np.arange(64, dtype="uint8").reshape(8, 8)
    found = Zarr3().open(place)
    np.testing.assert_array_equal(found.read(found.spec.grid.box), np.arange(64).reshape(8, 8))
    bomb = numcodecs.Blosc("zstd", 5).encode(np.zeros(4 << 20, "uint8"))
    packed = numcodecs.get_codec({"id": outer, "level": 1}).encode(bomb)
    (place / "c/0/0").write_bytes(packed)
    with pytest.raises(DamagedError, match=r"c/0/0 is damaged.* Blosc data declares 4194304 bytes instead of 64"):
        found.read(found.spec.grid.box)  # that is said before any memory is taken
