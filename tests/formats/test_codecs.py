"""Compressors: what they encode others decode and the other way round; whatever is damaged is an error, and takes no memory."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numcodecs import blosc

from tests.conftest import examples
from tests.formats.arrays import KINDS, fresh_place, noise, whole
from wkdask.errors import DamagedError, InputError
from wkdask.formats import ArraySpec, Codec, Zarr3, open_array, parse_codec
from wkdask.formats.codecs import BLOSC, BLOSC_HEADER, SHUFFLES, blosc_encoder, decode, encoder
from wkdask.formats.zarr3_codecs import Chain, Crc32c, Gzip, Zstd
from wkdask.geometry.grid import Box

ALL = ["none", "zstd:1", "gzip:1", *(f"blosc-{name}:5" for name in BLOSC)]
CHUNK = 512


@pytest.mark.parametrize("name", BLOSC)
@given(data=st.binary(min_size=1, max_size=3000), level=st.integers(0, 9), itemsize=st.sampled_from([1, 2, 4, 8]))
def test_blosc_decodes_what_it_encodes(name: str, data: bytes, level: int, itemsize: int) -> None:
    codec = Codec(f"blosc-{name}", level)
    packed = bytes(encoder(codec, itemsize)(memoryview(data)))
    assert decode(codec, packed, len(data)) == data == blosc.decompress(packed)
    assert packed[3] == itemsize
    for size in (len(data) - 1, len(data) + 1):
        with pytest.raises(DamagedError):
            decode(codec, packed, size)


@pytest.mark.parametrize("shuffle", SHUFFLES)
def test_shuffles_are_those_of_blosc(shuffle: str) -> None:
    data = np.arange(4096, dtype="<u4").tobytes()
    packed = blosc_encoder("lz4", 5, SHUFFLES.index(shuffle), 4)(memoryview(data))
    assert packed[2] & 0b101 == {"noshuffle": 0, "shuffle": 1, "bitshuffle": 4}[shuffle]
    assert blosc.decompress(packed) == data


@pytest.mark.parametrize(("text", "codec"), [("blosc-lz4", Codec("blosc-lz4", 5)), ("BLOSC-zstd:0", Codec("blosc-zstd", 0))])
def test_names_of_blosc(text: str, codec: Codec) -> None:
    assert parse_codec(text) == codec == parse_codec(str(codec))


@pytest.mark.parametrize("text", ["blosc", "blosc:5", "blosc-snappy", "blosc-lz4:10", "blosc-lz4:-1", "blosc-zstd:x"])
def test_blosc_that_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_codec(text)


@settings(max_examples=examples(100))
@given(data=st.data(), name=st.sampled_from(BLOSC))
def test_damaged_blosc_is_an_error_or_as_long_as_it_was(data: st.DataObject, name: str) -> None:
    """Blosc has no checksum: what decodes may be other voxels, but never more or fewer."""
    codec, content = Codec(f"blosc-{name}", 5), bytes(range(200)) * 3
    packed = bytearray(encoder(codec)(memoryview(content)))
    for _ in range(data.draw(st.integers(1, 3))):
        packed[data.draw(st.integers(0, len(packed) - 1) | st.integers(0, 15))] ^= 1 << data.draw(st.integers(0, 7))
    cut = bytes(packed[: data.draw(st.just(len(packed)) | st.integers(0, len(packed)))])
    try:
        found, said = decode(codec, cut, len(content)), ""
    except DamagedError as error:
        found, said = content, str(error)
    assert len(found) == len(content) and len(said) < 300


@pytest.mark.parametrize("declared", [CHUNK + 1, 2**31 - 1, 2**32 - 1])
def test_blosc_that_declares_more_takes_no_memory(declared: int) -> None:
    packed = blosc.compress(bytes(64 << 20), b"zstd", 5, 1)
    bombs = [packed, BLOSC_HEADER.pack(2, 1, 1, 1, declared, 64, 16), b""]
    for bomb in bombs:
        tracemalloc.start()
        with pytest.raises(DamagedError):
            decode(Codec("blosc-zstd", 5), bomb, CHUNK)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
        tracemalloc.stop()


packers = st.lists(st.sampled_from([Zstd(1, True), Zstd(1, False), Gzip(1), Crc32c()]), max_size=4)


@given(
    packers=packers,
    kind=st.sampled_from(["|u1", "<u2", ">u2", ">f8", "|b1"]),
    turn=st.permutations([0, 1, 2]),
    seed=st.integers(0, 9),
)
def test_chains_decode_what_they_encode(packers: list[Any], kind: str, turn: list[int], seed: int) -> None:
    chain, chunk, dtype = Chain(tuple(turn), kind, tuple(packers)), (3, 4, 5), kind[1:].replace("b1", "u1")
    block = (
        noise(Box((0, 0, 0), chunk), dtype, seed) % (2 if kind == "|b1" else 251)
        if dtype != "f8"
        else np.arange(60.0).reshape(chunk)
    )
    rows = np.ascontiguousarray(block.transpose(turn)).reshape(-1).view("u1")
    data = bytes(chain.encoder()(rows.data))
    np.testing.assert_array_equal(chain.decode(data, chunk), block)
    for bad in (data[:-1], b"", data + b"\0") if packers and packers[-1] == Crc32c() else (b"",):
        with pytest.raises(DamagedError):
            chain.decode(bad, chunk)


@pytest.mark.parametrize("bit", range(0, 8 * 516, 97))
def test_a_checksum_finds_any_bit(bit: int) -> None:
    chain = Chain((0,), "|u1", (Crc32c(),))
    data = bytearray(chain.encoder()(memoryview(bytes(range(256)) * 2)))
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DamagedError, match="checksum is wrong"):
        chain.decode(bytes(data), (512,))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sharded", [True, False])
def test_a_bomb_of_blosc_in_an_array(kind: str, sharded: bool, folder: Path) -> None:
    """Both readers refuse it by its header."""
    unit = (1, 16, 16, 16) if sharded else (1, 8, 8, 8)
    spec = ArraySpec((1, 16, 16, 16), "uint8", tuple("cxyz"), (1, 8, 8, 8), unit, parse_codec("blosc-zstd:1"))
    array = Zarr3().create(fresh_place(kind, folder), spec)
    with array.unit((0, 0, 0, 0)) as out:
        out.put_encoded((0, 0, 0, 0), blosc.compress(bytes(1 << 20), b"zstd", 5, 1))
    with pytest.raises(DamagedError, match=r"c/0/0/0/0 is damaged.*declares 1048576 bytes"):
        whole(array)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", [("start", True), ("start", False), ("end", False)])
@settings(max_examples=examples(15))
@given(data=st.data())
def test_any_index_is_read_or_refused(kind: str, form: tuple[str, bool], folder: Path, data: st.DataObject) -> None:
    """Entries that overlap are not wrong; those that point elsewhere are errors that name the file."""
    spec = ArraySpec((1, 16, 8, 8), "uint8", tuple("cxyz"), (1, 8, 8, 8), (1, 16, 8, 8), parse_codec("zstd:1"))
    array = Zarr3().create(fresh_place(kind, folder), spec)
    document = json.loads((array.location / "zarr.json").read_bytes())
    shard = document["codecs"][0]["configuration"]
    where, checked = form
    shard["index_location"] = where
    shard["index_codecs"] = shard["index_codecs"][: 1 + checked]
    (array.location / "zarr.json").write_bytes(json.dumps(document).encode())
    array = open_array(array.location, "zarr3")
    block = noise(spec.grid.box, "uint8")
    array.write(spec.grid.box, block)
    place = array.unit_location((0, 0, 0, 0))
    raw = bytearray(place.read_bytes())
    first = 0 if where == "start" else len(raw) - 32
    for _ in range(data.draw(st.integers(1, 2))):
        at = first + 8 * data.draw(st.integers(0, 3))
        number = data.draw(st.integers(0, 2**64 - 1) | st.integers(0, len(raw)) | st.just(2**64 - 1))
        raw[at : at + 8] = number.to_bytes(8, "little")
    place.write_bytes(bytes(raw[: data.draw(st.just(len(raw)) | st.integers(0, len(raw)))]))
    try:
        found = whole(array)
        said = str(place)
    except DamagedError as error:
        found, said = block, str(error)
    assert str(place) in said
    halves = [block[:, :8], block[:, 8:], np.zeros_like(block[:, :8])]
    for half in (found[:, :8], found[:, 8:]):
        assert any((half == known).all() for known in halves)
