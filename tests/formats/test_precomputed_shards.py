"""Shards of Neuroglancer volumes: the same voxels on disks and stores, and no memory for what an index or a chunk claims."""

from __future__ import annotations

import gzip
import json
import struct
import tracemalloc
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
from hypothesis import given
from hypothesis import strategies as st

from tests.formats.arrays import KINDS, fresh_place, noise
from tests.formats.test_precomputed_damaged import GOOD, NAME, SHARDING, volume_of
from wkdask.errors import DamagedError
from wkdask.formats import open_array
from wkdask.formats import precomputed_minishard as minishard
from wkdask.formats.kept import INDEXES
from wkdask.formats.precomputed import PrecomputedArray
from wkdask.geometry.grid import Box
from wkdask.storage import Location

FIRST = Box((0, 0, 0, 0), (1, 8, 8, 8))
ONE_SHARD = SHARDING | {"minishard_bits": 0, "shard_bits": 0}
WAYS = [{"minishard_index_encoding": a, "data_encoding": b} for a, b in product(("raw", "gzip"), repeat=2)]


def sharded_array(kind: str, folder: Path, sharding: dict[str, Any], encoding: str, dtype: str = "uint32") -> PrecomputedArray:
    """Return an array in shards that tensorstore has filled with noise."""
    scale = {**GOOD["scales"][0], "sharding": sharding, "encoding": encoding}
    if encoding == "compressed_segmentation":
        scale["compressed_segmentation_block_size"] = [8, 8, 8]
    place = volume_of(GOOD | {"data_type": dtype, "scales": [scale]}, "local", folder)
    spec = {"driver": "neuroglancer_precomputed", "kvstore": {"driver": "file", "path": place.parent.url + "/"}}
    store = tensorstore.open(spec, open=True).result()
    store.write(noise(Box((0, 0, 0, 0), (1, 20, 17, 9)), dtype).transpose(1, 2, 3, 0)).result()
    if kind != "local":
        other = fresh_place(kind, folder)
        for path in Path(place.parent.url).rglob("*"):
            if path.is_file():
                (other.parent / str(path.relative_to(place.parent.url))).write_bytes(path.read_bytes())
        place = other
    array = open_array(place, NAME)
    assert isinstance(array, PrecomputedArray)
    return array


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("encoding", ["raw", "compressed_segmentation"])
@given(way=st.sampled_from(WAYS), bits=st.tuples(*[st.integers(0, 3)] * 3), data=st.data())
def test_shards_are_the_same_voxels_anywhere(
    kind: str, encoding: str, way: dict[str, str], bits: tuple[int, ...], data: st.DataObject, folder: Path
) -> None:
    sharding = SHARDING | way | dict(zip(("preshift_bits", "minishard_bits", "shard_bits"), bits, strict=True))
    sharding["hash"] = data.draw(st.sampled_from(["identity", "murmurhash3_x86_128"]))
    array = sharded_array(kind, folder, sharding, encoding)
    voxels = noise(array.spec.grid.box, "uint32")
    for box in (array.spec.grid.box, Box((0, 3, 9, 1), (1, 19, 12, 9))):
        np.testing.assert_array_equal(array.read(box), voxels[box.slices])


def test_an_index_of_a_volume_of_before_is_read_anew(folder: Path) -> None:
    INDEXES.clear()
    array = sharded_array("memory", folder, ONE_SHARD, "raw")
    voxels, place = array.read(array.spec.grid.box), array.unit_location((0, 0, 0, 0))
    found = INDEXES.get((place, 0))
    assert found
    index, version = found
    INDEXES.put((place, 0), index + np.array([[0], [0], [1 << 20]], np.uint64), f"before {version}", 1)
    np.testing.assert_array_equal(array.read(array.spec.grid.box), voxels)


def shard(index: bytes, data: bytes, way: dict[str, str]) -> bytes:
    """Return a shard of one minishard with an index."""
    index = gzip.compress(index) if way["minishard_index_encoding"] == "gzip" else index
    return struct.pack("<QQ", len(data), len(data) + len(index)) + data + index


def entry(size: int) -> bytes:
    """Return the index of a minishard whose one chunk is the first, and lies first."""
    return np.array([0, 0, size], "<u8").tobytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(way.values()))
@pytest.mark.parametrize("encoding", ["raw", "compressed_segmentation"])
def test_no_memory_for_what_a_shard_claims(
    kind: str, way: dict[str, str], encoding: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(minishard, "MAX_INDEX_BYTES", 1 << 20)
    array = sharded_array(kind, folder, ONE_SHARD | way, encoding)
    assert array.read(FIRST).any()
    place = array.unit_location((0, 0, 0, 0))
    packed = way["data_encoding"] == "gzip"
    large = gzip.compress(bytes(8 << 20)) if packed else bytes(1 << 20)
    small = gzip.compress(bytes(7)) if packed else bytes(7)
    bad = {
        "chunk": shard(entry(len(large)), large, way),
        "short chunk": shard(entry(len(small)), small, way),
        "beyond": shard(entry(1 << 40), b"", way),
        "wraps": shard(np.array([0, 0, 2**64 - 1, 0, 2**64 - 1, 5], "<u8").tobytes(), b"", way),
        "index": shard(bytes(24 << 18), b"", way),
        "no multiple": shard(entry(0) + b"x", b"", way),
        "index beyond": struct.pack("<QQ", 0, 1 << 50),
        "backwards": struct.pack("<QQ", 8, 0) + bytes(64),
        "cut off": bytes(15),
    }
    for what, data in bad.items():
        place.write_bytes(data)
        tracemalloc.start()
        with pytest.raises(DamagedError, match=rf"{place.name} is damaged: "):
            pytest.fail(f"{what}: {array.read(FIRST).shape}")
        assert tracemalloc.get_traced_memory()[1] < 5 << 20, what
        tracemalloc.stop()


@pytest.mark.parametrize("kind", KINDS)
@given(way=st.sampled_from(WAYS), data=st.data())
def test_damaged_shards_are_named(kind: str, way: dict[str, str], data: st.DataObject, folder: Path) -> None:
    array = sharded_array(kind, folder, ONE_SHARD | way, "compressed_segmentation")
    place: Location = array.unit_location((0, 0, 0, 0))
    bad = bytearray(place.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        bad[data.draw(st.integers(0, len(bad) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    del bad[data.draw(st.integers(1, len(bad))) :]
    place.write_bytes(bytes(bad))
    try:
        assert array.read(array.spec.grid.box).shape == array.spec.shape
    except DamagedError as error:
        assert str(place) in str(error)  # noqa: PT017 - there may be none


def test_chunks_that_have_no_number_are_not_stored(folder: Path) -> None:
    """Where a volume claims more chunks than the format can number, those beyond are not in any index."""
    array = sharded_array("memory", folder, ONE_SHARD | {"data_encoding": "gzip"}, "raw")
    document = json.loads((array.volume / "info").read_bytes())
    document["scales"][0]["size"] = [2**60, 2**60, 16]
    (array.volume / "info").write_bytes(json.dumps(document).encode())
    larger = open_array(array.location, NAME)
    np.testing.assert_array_equal(larger.read(FIRST), array.read(FIRST))
    far = Box((0, 2**60 - 1, 2**60 - 1, 0), (1, 2**60, 2**60, 1))
    assert not larger.read(far).any()
