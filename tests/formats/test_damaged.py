"""Damaged files: an error that names the file, never wrong voxels, never memory that a file merely claims to need.

Local arrays are read by tensorstore, those on stores by our own reader: both must keep this.
"""

from __future__ import annotations

import os
import pickle
import resource
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import examples
from tests.formats.arrays import KINDS, fresh_place, make, noise, stored_index, whole, with_index
from wkdask.errors import DamagedError, StorageError
from wkdask.formats import Codec, Zarr3Array
from wkdask.formats.codecs import decode, encoder
from wkdask.geometry.grid import Box
from wkdask.storage import Location

UNIT = (0, 0, 0, 0)
BOX = Box((0, 0, 0, 0), (1, 16, 16, 16))
CHUNK = 512
"""Bytes of a chunk."""


def written(kind: str, folder: Path, codec: str = "zstd:1", *, sharded: bool = True) -> tuple[Zarr3Array, bytes]:
    """Return an array with one unit of noise, and that unit's file."""
    array = make(fresh_place(kind, folder), codec, sharded=sharded, edge=16)
    box = array.spec.grid.unit_box(UNIT)
    array.write(box, noise(box, "uint8"))
    return array, array.unit_location(UNIT).read_bytes()


def refused(array: Zarr3Array, data: bytes, box: Box = BOX) -> None:
    """Assert that reading fails after a unit's file was replaced, and names the file."""
    place = array.unit_location(UNIT)
    place.write_bytes(data)
    with pytest.raises(DamagedError) as caught:
        array.read(box)
    assert str(caught.value).startswith(f"{place} is ") and len(str(caught.value)) < 1000
    assert "Write it again" in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("codec", ["zstd:1", "gzip:1", "none"])
def test_cut_off_anywhere(kind: str, codec: str, folder: Path) -> None:
    array, data = written(kind, folder, codec)
    index, body = stored_index(data, 8)
    ends = {int(offset + size) for offset, size in index.tolist()}
    points = {0, 1, *ends, *(end - 1 for end in ends), *(len(body) + 16 * n for n in range(9)), len(data) - 1, len(data) - 3}
    for cut in sorted(points - {len(data)}):
        refused(array, data[:cut])
        with pytest.raises(DamagedError, match="c/0/0/0/0"):
            array.inspect(UNIT)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("codec", ["zstd:1", "gzip:1", "none"])
def test_one_chunk_cut_off_or_with_more_behind(kind: str, codec: str, folder: Path) -> None:
    """The index is sound, but says of a chunk that it ends elsewhere."""
    array, data = written(kind, folder, codec)
    index, body = stored_index(data, 8)
    first = Box((0, 0, 0, 0), (1, 8, 8, 8))
    for size in (0, 1, 10, int(index[0, 1]) - 8, int(index[0, 1]) - 1):
        short = index.copy()
        short[0, 1] = size
        refused(array, with_index(body, short), first)
    array.unit_location(UNIT).write_bytes(data)
    np.testing.assert_array_equal(array.read(BOX), noise(BOX, "uint8"))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=examples(60))
@given(at=st.integers(0, 10**6), bit=st.integers(0, 7), indexed=st.booleans())
def test_any_flipped_bit_is_found(kind: str, folder: Path, at: int, bit: int, indexed: bool) -> None:
    """Every bit of a shard of checksummed zstd frames counts, but for the few that say nothing: then voxels are right."""
    array, data = written(kind, folder)
    body = len(data) - 16 * 8 - 4
    at = body + at % (len(data) - body) if indexed else at % body
    flipped = data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
    array.unit_location(UNIT).write_bytes(flipped)
    try:
        found, said = array.read(BOX), ""
    except DamagedError as error:
        found, said = None, str(error)
    assert "c/0/0/0/0 is damaged" in said or not (indexed or said)
    if found is not None:
        np.testing.assert_array_equal(found, noise(BOX, "uint8"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("codec", ["zstd:1", "gzip:1", "none"])
@pytest.mark.parametrize(
    "entry",
    [(2**40, 10), (0, 2**40), (0, 2**63), (2**63, 2**63), (2**64 - 2, 4), (0, 2**64 - 1), (0, 0), (0, 1), (-1, 1), (-132, 132)],
)
def test_entries_that_can_not_be(kind: str, codec: str, entry: tuple[int, int], folder: Path) -> None:
    array, data = written(kind, folder, codec)
    index, body = stored_index(data, 8)
    index[0] = [entry[0] % 2**64 if entry[0] > -1 else len(data) + entry[0] + (entry[1] == 1), entry[1]]
    before = peak_memory()
    tracemalloc.start()
    refused(array, with_index(body, index), Box((0, 0, 0, 0), (1, 8, 8, 8)))
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()
    assert peak_memory() - before < 64 << 20
    if sum(entry) > len(data):
        with pytest.raises(DamagedError, match="points beyond"):
            array.inspect(UNIT)


def peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def zstd_frame(declared: int) -> bytes:
    """Return a frame that claims a size, and holds one empty block."""
    return b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", declared) + b"\x01\x00\x00"


def bomb(name: str) -> bytes:
    """Return little data that decodes to a lot of zeros."""
    big = bytes(64 << 20)
    if name == "gzip":
        return zlib.compress(big, 9, 31)
    return zstandard.ZstdCompressor(write_checksum=True, write_content_size=name == "zstd declared").compress(big)


BOMBS: list[tuple[str, str, Callable[[], bytes]]] = [
    *[("zstd:1", f"declares {n}", lambda n=n: zstd_frame(n)) for n in (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2**30, 2**40, 2**63)],
    ("zstd:1", "declared bomb", lambda: bomb("zstd declared")),
    ("zstd:1", "undeclared bomb", lambda: bomb("zstd")),
    ("gzip:1", "bomb", lambda: bomb("gzip")),
    ("gzip:1", "one byte more", lambda: zlib.compress(bytes(CHUNK + 1), 9, 31)),
    ("gzip:1", "one byte less", lambda: zlib.compress(bytes(CHUNK - 1), 9, 31)),
    ("gzip:1", "no checksum", lambda: zlib.compress(bytes(CHUNK), 9, 31)[:-8]),
    ("gzip:1", "half a checksum", lambda: zlib.compress(bytes(CHUNK), 9, 31)[:-5]),
    ("gzip:1", "wrong checksum", lambda: zlib.compress(bytes(CHUNK), 9, 31)[:-8] + bytes(8)),
    ("gzip:1", "zlib instead", lambda: zlib.compress(bytes(CHUNK))),
    ("none", "one byte more", lambda: bytes(CHUNK + 1)),
    ("none", "one byte less", lambda: bytes(CHUNK - 1)),
    ("none", "empty", lambda: b""),
    ("zstd:1", "empty", lambda: b""),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sharded", [True, False])
@pytest.mark.parametrize(("codec", "what", "data"), BOMBS, ids=[f"{codec} {what}" for codec, what, _ in BOMBS])
def test_chunks_that_lie_about_their_size(
    kind: str, sharded: bool, codec: str, what: str, data: Callable[[], bytes], folder: Path
) -> None:
    array = make(fresh_place(kind, folder), codec, sharded=sharded, edge=16)
    chunk = data()
    body = chunk
    if sharded:
        index = np.full((8, 2), 2**64 - 1, "u8")
        index[0] = [0, len(chunk)]
        body = with_index(chunk, index)
    before = peak_memory()
    tracemalloc.start()
    refused(array, body)
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()
    assert peak_memory() - before < 32 << 20


@pytest.mark.parametrize(("codec", "name"), [("gzip", "gzip"), ("zstd", "zstd"), ("zstd", "zstd declared")])
def test_decoding_a_bomb_stops_at_the_size_of_a_chunk(codec: str, name: str) -> None:
    data = bomb(name)
    tracemalloc.start()
    with pytest.raises(DamagedError):
        decode(Codec(codec, 1), data, CHUNK)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_a_chunk_as_large_as_a_disk_is_not_fetched(folder: Path) -> None:
    array, _ = written("memory", folder, sharded=False)
    place = array.unit_location(UNIT)
    place.write_bytes(bytes(32 << 20))
    tracemalloc.start()
    with pytest.raises(DamagedError, match="too many"):
        array.read(BOX)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@given(st.binary(max_size=300), st.sampled_from(["zstd:1", "gzip:1", "none"]))
def test_decoding_anything_gives_the_size_or_damage(data: bytes, codec: str) -> None:
    name, _, level = codec.partition(":")
    chosen = Codec(name, int(level)) if level else None
    with pytest.raises(DamagedError):
        decode(chosen, data, 301)
    packed = bytes(encoder(chosen)(memoryview(data)))
    if data:
        assert decode(chosen, packed, len(data)) == data
        for size in (len(data) - 1, len(data) + 1):
            with pytest.raises(DamagedError):
                decode(chosen, packed, max(1, size) if size != len(data) - 1 or size > 0 else 2)


@given(st.binary(min_size=1, max_size=300), st.sampled_from(["zstd", "gzip"]), st.data())
def test_decoding_cut_data_is_damage(content: bytes, name: str, data: st.DataObject) -> None:
    codec = Codec(name, 1)
    packed = bytes(encoder(codec)(memoryview(content)))
    with pytest.raises(DamagedError):
        decode(codec, packed[: data.draw(st.integers(0, len(packed) - 1))], len(content))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sharded", [True, False])
def test_missing_files_are_zeros(kind: str, sharded: bool, folder: Path) -> None:
    array, _ = written(kind, folder, sharded=sharded)
    array.unit_location(UNIT).delete()
    assert not whole(array).any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_unit_is_not_merged_into(kind: str, folder: Path) -> None:
    array, data = written(kind, folder)
    one = Box((0, 3, 3, 3), (1, 4, 4, 4))
    for bad in (data[:-1], data[:20] + b"\0\0\0" + data[23:]):
        array.unit_location(UNIT).write_bytes(bad)
        with pytest.raises(DamagedError, match="c/0/0/0/0 is"):
            array.write(one, np.ones((1, 1, 1, 1), "uint8"))
        assert array.unit_location(UNIT).read_bytes() == bad


def test_files_with_odd_names_are_named_right(tmp_path: Path) -> None:
    for odd in ("a b", "ä中", 'qu"ote', "back\\slash", "c/1/c/2", "per%20cent", "#?"):
        array, data = written("local", tmp_path)
        place = Location(str(tmp_path / odd / "ds/color/1"))
        place.parent.make_folder()
        os.rename(array.location.url, place.url)
        moved = Zarr3Array(place, array.spec, array.layout)
        np.testing.assert_array_equal(moved.read(BOX), noise(BOX, "uint8"))
        refused(moved, data[:-1])


def test_a_document_that_went_bad_after_opening(folder: Path) -> None:
    array, _ = written("local", folder)
    for content in (b"", b"{}", b"["):
        (array.location / "zarr.json").write_bytes(content)
        with pytest.raises(DamagedError, match=r"zarr\.json"):
            array.read(BOX)
    (array.location / "zarr.json").delete()
    with pytest.raises(DamagedError, match=r"zarr\.json"):
        array.read(BOX)


@pytest.mark.parametrize("sharded", [True, False])
@pytest.mark.parametrize("what", ["c/0/0/0/0", "zarr.json"])
def test_files_that_may_not_be_read(
    sharded: bool, what: str, open_folder: Path, unprivileged: Callable[[], AbstractContextManager[None]]
) -> None:
    array = make(Location(str(open_folder / "ds/color/1")), sharded=sharded, edge=16)
    array.write(BOX, noise(BOX, "uint8"))
    os.chmod(Path(array.location.url, what), 0)
    with unprivileged(), pytest.raises(StorageError, match=f"{what} can not be read") as caught:
        array.read(BOX)
    assert "Check its owner and mode" in str(caught.value)
    with unprivileged(), pytest.raises(StorageError, match="can not be read"):
        Location(str(Path(array.location.url, what))).read_bytes()


def test_damage_in_a_process_with_little_memory(tmp_path: Path) -> None:
    """tensorstore's own allocations count as well: the address space is limited to a little more than it starts with."""
    array, data = written("local", tmp_path)
    index, body = stored_index(data, 8)
    index[0] = [len(body), len(zstd_frame(2**31))]
    array.unit_location(UNIT).write_bytes(with_index(body + zstd_frame(2**31), index))
    code = """
import pickle, sys
array = pickle.load(sys.stdin.buffer)
try:
    array.read(array.spec.grid.unit_box((0, 0, 0, 0)).shifted((0, 0, 0, 0)))
except Exception as error:
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
    print(type(error).__name__, int(peak) >> 10)
"""
    said = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(array), capture_output=True, check=True
    ).stdout.split()
    assert said[0] == b"DamagedError" and int(said[1]) < 600
