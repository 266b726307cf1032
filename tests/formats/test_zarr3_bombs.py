"""No chunk of a Zarr 3 array makes us take more memory than it has voxels for, wherever compressors lie in its codecs."""

from __future__ import annotations

import json
import tracemalloc
from functools import lru_cache
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from tests.formats.arrays import KINDS, fresh_place
from wkdask.errors import DamagedError, MetadataError
from wkdask.formats import Zarr3, Zarr3Array
from wkdask.formats.shard import ShardIndex
from wkdask.geometry.grid import Box
from wkdask.storage import Location

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:zarr", "ignore::UserWarning:numcodecs")
SHAPE = (8, 8)
VOXELS = np.arange(64, dtype="uint16").reshape(SHAPE)
WHOLE = Box((0, 0), SHAPE)
LARGE = bytes(8 << 20)
BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
INDEX = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
TURN = {"name": "transpose", "configuration": {"order": [1, 0]}}
DELTA = {"name": "numcodecs.delta", "configuration": {"dtype": "<u2"}}
SETTINGS = {"cname": "zstd", "clevel": 5, "shuffle": "noshuffle", "typesize": 2, "blocksize": 0}
COMPRESSORS: dict[str, tuple[dict[str, Any], Any]] = {
    "blosc": ({"name": "blosc", "configuration": SETTINGS}, numcodecs.Blosc("zstd", 5)),
    "gzip": ({"name": "gzip", "configuration": {"level": 1}}, numcodecs.GZip(1)),
    "zstd": ({"name": "zstd", "configuration": {"level": 1, "checksum": False}}, numcodecs.Zstd(1)),
    "numcodecs.blosc": ({"name": "numcodecs.blosc", "configuration": {"cname": "lz4"}}, numcodecs.Blosc("lz4", 5)),
    "numcodecs.bz2": ({"name": "numcodecs.bz2", "configuration": {"level": 1}}, numcodecs.BZ2(1)),
    "numcodecs.gzip": ({"name": "numcodecs.gzip", "configuration": {"level": 1}}, numcodecs.GZip(1)),
    "numcodecs.lz4": ({"name": "numcodecs.lz4", "configuration": {"acceleration": 1}}, numcodecs.LZ4()),
    "numcodecs.lzma": ({"name": "numcodecs.lzma", "configuration": {"preset": 0}}, numcodecs.LZMA(preset=0)),
    "numcodecs.zlib": ({"name": "numcodecs.zlib", "configuration": {"level": 1}}, numcodecs.Zlib(1)),
    "numcodecs.zstd": ({"name": "numcodecs.zstd", "configuration": {"level": 1}}, numcodecs.Zstd(1)),
}


def sharded(chunk: list[int], codecs: list[Any], location: str = "end") -> dict[str, Any]:
    """Return a codec of shards."""
    options = {"chunk_shape": chunk, "codecs": codecs, "index_codecs": INDEX, "index_location": location}
    return {"name": "sharding_indexed", "configuration": options}


PLACES: dict[str, Any] = {
    "within shards within shards": lambda codec: [sharded([8, 4], [sharded([2, 4], [BYTES, codec])])],
    "within transposed shards": lambda codec: [TURN, sharded([4, 8], [BYTES, codec])],
    "within shards of transposed shards": lambda codec: [TURN, sharded([4, 8], [TURN, sharded([4, 4], [TURN, BYTES, codec])])],
    "within packed shards": lambda codec: [sharded([8, 4], [BYTES, codec]), COMPRESSORS["gzip"][0]],
    "around shards": lambda codec: [sharded([8, 4], [BYTES]), codec],
    "around shards within shards": lambda codec: [sharded([8, 4], [sharded([2, 4], [BYTES], "start"), codec])],
    "behind a filter": lambda codec: [DELTA, BYTES, codec],
    "behind a filter within shards": lambda codec: [sharded([8, 4], [DELTA, BYTES, codec])],
}


def array_of(kind: str, folder: Path, codecs: list[Any]) -> Zarr3Array:
    """Return an array with some codecs; by zarr-python with voxels."""
    local = fresh_place("local", folder)
    made = zarr.create_array(local.url, shape=SHAPE, chunks=SHAPE, dtype="uint16", fill_value=0, overwrite=True)
    del made
    document = {**json.loads((local / "zarr.json").read_bytes()), "codecs": codecs}
    (local / "zarr.json").write_bytes(json.dumps(document).encode())
    zarr.open_array(local.url)[...] = VOXELS
    place = local if kind == "local" else fresh_place(kind, folder)
    for name in ("zarr.json", "c/0/0"):
        (place / name).write_bytes((local / name).read_bytes())
    return Zarr3().open(place)


def shard(data: bytes, chunks: int) -> bytes:
    """Return a shard whose first chunk has some bytes, all others missing."""
    return data + ShardIndex().build(np.array([[0, 0, len(data)]], "u8"), chunks)


@lru_cache
def compressed(name: str) -> bytes:
    """Return very many zeros in few bytes."""
    return bytes(COMPRESSORS[name][1].encode(LARGE))


def bomb(where: str, name: str) -> bytes:
    """Return a file in which a compressor stands for far more than its chunk."""
    data = compressed(name)
    return {
        "within shards within shards": lambda: shard(shard(data, 4), 2),
        "within transposed shards": lambda: shard(data, 2),
        "within shards of transposed shards": lambda: shard(shard(data, 2), 2),
        "within packed shards": lambda: bytes(numcodecs.GZip(1).encode(shard(data, 2))),
        "around shards within shards": lambda: shard(data, 2),
        "behind a filter within shards": lambda: shard(data, 2),
    }.get(where, lambda: data)()


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("name", COMPRESSORS)
def test_no_memory_for_what_a_compressor_claims(where: str, name: str, folder: Path) -> None:
    for kind in KINDS:
        array = array_of(kind, folder, PLACES[where](COMPRESSORS[name][0]))
        np.testing.assert_array_equal(array.read(WHOLE), VOXELS)
        part = Box((1, 3), (5, 7))
        np.testing.assert_array_equal(array.read(part), VOXELS[part.slices])
        (array.location / "c/0/0").write_bytes(bomb(where, name))
        tracemalloc.start()
        with pytest.raises(DamagedError, match=r"c/0/0"):
            array.read(WHOLE)
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
        tracemalloc.stop()


def test_blosc_is_not_left_to_others(folder: Path) -> None:
    """tensorstore takes what Blosc declares, where no tool for Python sees it."""
    for where, make in PLACES.items():
        array = array_of("local", folder, make(COMPRESSORS["blosc"][0])) if "filter" not in where else None
        assert array is None or not array.layout.by_tensorstore


def test_what_has_no_bound_is_refused(folder: Path) -> None:
    hidden = [BYTES, COMPRESSORS["gzip"][0], {"name": "numcodecs.packbits"}]
    (place := fresh_place("local", folder) / "x").make_folder()
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": SHAPE,
        "data_type": "uint16",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": SHAPE}},
        "chunk_key_encoding": {"name": "default"},
        "fill_value": 0,
    }
    for shape, codecs, said in (
        (SHAPE, hidden, "gzip lies between .*packbits, so that what it decodes to has no bound"),
        ((1 << 20, 1 << 20), [sharded([64, 64], [BYTES]), COMPRESSORS["gzip"][0]], "compressed as a whole"),
        (SHAPE, [sharded([8, 4], [sharded([5, 4], [BYTES])])], r"\[5, 4\] does not divide"),
        (SHAPE, [sharded([8, 4], [sharded([0, 4], [BYTES])])], "from 1 up"),
    ):
        grid = {"name": "regular", "configuration": {"chunk_shape": shape}}
        (place / "zarr.json").write_bytes(json.dumps(document | {"codecs": codecs, "chunk_grid": grid}).encode())
        with pytest.raises(MetadataError, match=said):
            Zarr3().open(place)


@given(data=st.data())
def test_damaged_shards_within_shards_are_named(folder: Path, data: st.DataObject) -> None:
    array = array_of("memory", folder, PLACES["within shards of transposed shards"](COMPRESSORS["zstd"][0]))
    place = Location(f"{array.location}/c/0/0")
    bad = bytearray(place.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        bad[data.draw(st.integers(0, len(bad) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    del bad[data.draw(st.integers(1, len(bad))) :]
    place.write_bytes(bytes(bad))
    try:
        assert array.read(WHOLE).shape == SHAPE
    except DamagedError as error:
        assert str(place) in str(error)  # noqa: PT017 - there may be none
