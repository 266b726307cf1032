"""No file makes us take more memory than a chunk has, whatever it says."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import json
import lzma
import struct
import tempfile
import zlib
from pathlib import Path
from typing import Any
from uuid import uuid4

import numcodecs
import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from wkdask.errors import DamagedError, MetadataError, WkdaskError
from wkdask.formats import N5, ArraySpec, Codec, Zarr2
from wkdask.formats.chunk_codecs import COMPRESSORS, unpack
from wkdask.formats.chunk_document import MAX_DOCUMENT_BYTES
from wkdask.formats.chunk_file import EDGE_BYTES
from wkdask.geometry.grid import Box
from wkdask.storage import Location

LARGE = bytes(8 << 20)
BOMBS = {
    "blosc": bytes(numcodecs.Blosc("lz4", 5).encode(LARGE)),
    "bz2": bz2.compress(LARGE),
    "gzip": gzip.compress(LARGE),
    "lz4": bytes(numcodecs.LZ4().encode(LARGE)),
    "lzma": lzma.compress(LARGE, preset=0),
    "zlib": zlib.compress(LARGE),
    "zstd": zstandard.compress(LARGE),
    "zstd without size": zstandard.ZstdCompressor(write_content_size=False).compress(LARGE),
    "lz4 that lies": struct.pack("<I", 2**31 - 1) + bytes(numcodecs.LZ4().encode(LARGE))[4:],
}


@pytest.mark.parametrize("name", BOMBS)
def test_decoding_stops_at_the_limit(name: str) -> None:
    kind, data = name.split(maxsplit=1)[0], BOMBS[name]
    with pytest.raises(DamagedError):
        unpack(kind, data, len(LARGE) // 2)
    if "lies" not in name:
        assert bytes(unpack(kind, data, len(LARGE))) == LARGE
        with pytest.raises(DamagedError):
            unpack(kind, data[: len(data) // 2], len(LARGE))


@given(
    kind=st.sampled_from(sorted(COMPRESSORS)), at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.floats(0, 1)
)
def test_flipped_and_cut_data_is_refused_or_fits(kind: str, at: float, bit: int, cut: float) -> None:
    found = bytearray(BOMBS[kind])
    found[int(at * len(found))] ^= 1 << bit
    for data in (bytes(found), BOMBS[kind][: int(at * len(found))]):
        with contextlib.suppress(DamagedError):
            assert len(unpack(kind, data, len(LARGE))) <= len(LARGE)


@pytest.mark.parametrize("kind", sorted(COMPRESSORS))
@pytest.mark.parametrize("filters", [[], [{"id": "shuffle", "elementsize": 2}]])
def test_a_chunk_that_is_too_large_is_named(kind: str, filters: list[Any], tmp_path: Path) -> None:
    document = {"zarr_format": 2, "shape": [8, 8], "chunks": [4, 4], "dtype": "<u2", "order": "C", "fill_value": 0}
    (tmp_path / ".zarray").write_text(json.dumps({**document, "filters": filters, "compressor": {"id": kind}}))
    (tmp_path / "0.1").write_bytes(BOMBS[kind])
    array = Zarr2().open(Location(str(tmp_path)))
    assert not array.read(Box((4, 0), (8, 8))).any()
    with pytest.raises(DamagedError, match=r"0\.1 is damaged"):
        array.read(Box((0, 0), (4, 8)))


def test_blosc_that_lies_is_kept_from_tensorstore() -> None:
    spec = ArraySpec((8, 8), "uint16", ("x", "y"), (4, 4), (4, 4), Codec("blosc-lz4", 5))
    for form in (Zarr2(), N5()):
        with tempfile.TemporaryDirectory() as folder:
            array = form.create(Location(f"{folder}/layer/1"), spec)
            array.write(Box((0, 0), (8, 4)), np.arange(32, dtype="uint16").reshape(8, 4))
            array.check_read(spec.grid.box)
            good = array.unit_location((0, 0)).read_bytes()
            head = good[:12] if form.name == "n5" else b""
            array.unit_location((0, 0)).write_bytes(head + BOMBS["blosc"])
            array.check_read(Box((4, 0), (8, 8)))
            with pytest.raises(DamagedError, match="declares more than the 32 bytes"):
                array.check_read(spec.grid.box)


def test_a_file_longer_than_any_chunk_is_not_read(tmp_path: Path) -> None:
    spec = ArraySpec((8, 8), "uint8", ("x", "y"), (4, 4), (4, 4))
    for form in (Zarr2(), N5()):
        array = form.create(Location(str(tmp_path / form.name / "layer/1")), spec)
        array.write(Box((0, 0), (4, 4)), np.ones((4, 4), "uint8"))
        with open(array.unit_location((0, 0)).url, "r+b") as file:
            file.truncate(1 << 40)  # a file with a hole
        with pytest.raises(DamagedError, match="too many"):
            array.decoded((0, 0))
        written = array.inspect((0, 0))
        assert written is not None and written.size == 1 << 40
        with open(f"{array.location.url}/{array.document}", "r+b") as file:
            file.truncate(MAX_DOCUMENT_BYTES + 1)
        with pytest.raises(MetadataError, match="too many"):
            form.open(array.location)


def test_digests_tell_what_files_begin_and_end_with() -> None:
    edge = 1 << 20
    spec = ArraySpec((edge,), "uint8", ("x",), (edge,), (edge,))
    block = np.random.default_rng(0).integers(1, 256, edge, dtype="uint8")
    for form in (Zarr2(), N5()):
        array, seen = form.create(Location(f"memory://{uuid4().hex}/layer/1"), spec), set()
        for at in (None, 0, EDGE_BYTES - 100, edge - EDGE_BYTES, edge - 1, edge // 2):
            changed = block.copy()
            if at is not None:
                changed[at] ^= 0xFF
            with array.unit((0,)) as out:
                out.put(spec.grid.box, changed)
            assert array.inspect((0,)) == out.written
            seen.add(out.written.digest)
        assert len(seen) == 5  # the one in the middle is not seen


@given(data=st.data())
def test_any_document_opens_or_is_refused(data: st.DataObject) -> None:
    zarray: dict[str, Any] = {"zarr_format": 2, "shape": [8, 8], "chunks": [4, 4], "dtype": "<u2", "order": "C"}
    zarray |= {"fill_value": 0, "filters": [{"id": "delta", "dtype": "<u2"}], "compressor": {"id": "zlib", "level": 1}}
    n5 = {"dimensions": [8, 8], "blockSize": [4, 4], "dataType": "uint16", "compression": {"type": "gzip", "level": 1}}
    odd = st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=5)
        | st.sampled_from(["|O", "<u8", "pickle"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "type", "level", "dtype"]), inner),
        max_leaves=4,
    )
    for form, name, good in ((Zarr2(), ".zarray", zarray), (N5(), "attributes.json", n5)):
        place = Location(f"memory://{uuid4().hex}/layer/1")
        key = data.draw(st.sampled_from(sorted(good)))
        (place / name).write_bytes(json.dumps(good | {key: data.draw(odd)}).encode())
        try:
            array = form.open(place)
            array.read(array.spec.grid.box.intersect(Box((0,) * len(array.spec.shape), (3,) * len(array.spec.shape))))
            said = name
        except WkdaskError as error:
            said = str(error)
        assert name in said
