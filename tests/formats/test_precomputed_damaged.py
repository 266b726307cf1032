"""Documents and chunks of Neuroglancer volumes that lie: an error names the file and says why, and no memory is lost."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from tests.formats.arrays import KINDS, fresh_place, noise
from tests.formats.test_precomputed import listed, make, spec_of
from wkdask.errors import DamagedError, DatasetNotFoundError, InputError, MetadataError, WkdaskError
from wkdask.formats import Codec, open_array
from wkdask.formats.precomputed import Precomputed, PrecomputedArray
from wkdask.formats.precomputed_info import FARTHEST
from wkdask.geometry.grid import Box
from wkdask.storage import Location

NAME = "neuroglancerPrecomputed"
FIRST = Box((0, 0, 0, 0), (1, 8, 8, 8))
GOOD: dict[str, Any] = {
    "@type": "neuroglancer_multiscale_volume",
    "type": "image",
    "data_type": "uint8",
    "num_channels": 1,
    "scales": [
        {
            "key": "1",
            "size": [20, 17, 9],
            "voxel_offset": [0, 0, 0],
            "resolution": [4, 4, 40],
            "chunk_sizes": [[8, 8, 8]],
            "encoding": "raw",
        }
    ],
}
SHARDING = {
    "@type": "neuroglancer_uint64_sharded_v1",
    "preshift_bits": 1,
    "minishard_bits": 1,
    "shard_bits": 1,
    "hash": "identity",
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def volume_of(document: object, kind: str, folder: Path) -> Location:
    """Return the folder of scale 1 of a volume whose ``info`` is a document."""
    place = fresh_place(kind, folder)
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    (place.parent / "info").write_bytes(data)
    return place


def changed(where: str, value: object) -> dict[str, Any]:
    """Return a good ``info`` with another value for one of its keys, or one of its scale's."""
    document: dict[str, Any] = json.loads(json.dumps(GOOD))
    (document if where in ("@type", "data_type", "num_channels", "scales") else document["scales"][0])[where] = value
    return document


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        ("@type", "neuroglancer_skeletons", "neuroglancer_skeletons"),
        ("data_type", "float64", "data_type"),
        ("data_type", ["uint8"], "data_type"),
        ("num_channels", 0, "num_channels"),
        ("num_channels", True, "num_channels"),
        ("num_channels", 2**40, "above"),
        ("scales", None, "scales"),
        ("scales", [{"size": [1, 1, 1]}], "scales"),
        ("size", [20, 17], "size"),
        ("size", [20, 17, -1], "size"),
        ("size", [20, 17, 9.0], "size"),
        ("size", [20, 17, FARTHEST + 1], "size"),
        ("voxel_offset", [0, 0, -FARTHEST - 1], "voxel_offset"),
        ("chunk_sizes", [], "chunk_sizes"),
        ("chunk_sizes", [[8, 8, 0]], "chunk_sizes"),
        ("chunk_sizes", [[2048, 2048, 2048]], "above"),
        ("encoding", "fpzip", "fpzip"),
        ("encoding", "compressed_segmentation", "can not hold"),
        ("compressed_segmentation_block_size", [8, 8, 0], "block_size"),
        ("compressed_segmentation_block_size", [8, 8, 1 << 31], "block_size"),
        ("sharding", {**SHARDING, "@type": "x"}, "sharding"),
        ("sharding", {**SHARDING, "shard_bits": 65}, "shard_bits"),
        ("sharding", {**SHARDING, "minishard_bits": 33}, "minishard_bits"),
        ("sharding", {**SHARDING, "hash": "md5"}, "hash"),
        ("sharding", {**SHARDING, "data_encoding": "zstd"}, "data_encoding"),
    ],
)
def test_documents_that_say_what_can_not_be(where: str, value: object, said: str, folder: Path) -> None:
    place = volume_of(changed(where, value), "local", folder)
    with pytest.raises(MetadataError, match=said) as caught:
        open_array(place, NAME)
    assert str(caught.value).startswith(str(place.parent / "info"))
    assert not Precomputed().detect(place)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'"info"'])
def test_documents_that_are_none(data: bytes, folder: Path) -> None:
    place = volume_of(data, "local", folder)
    with pytest.raises(MetadataError, match="info"):
        open_array(place, NAME)
    with pytest.raises(MetadataError, match="info"):
        Precomputed().create(place, spec_of())


def test_folders_that_no_volume_lists(folder: Path) -> None:
    for key in ("../1", "/1", "1/..", "2", "..", "x/../../color/1"):
        place = volume_of(changed("key", key), "local", folder)
        place.make_folder()
        with pytest.raises(DatasetNotFoundError, match="no info"):
            open_array(place, NAME)


@given(where=st.sampled_from([*GOOD, *GOOD["scales"][0], "sharding", "compressed_segmentation_block_size"]), value=JSON)
@example(where="size", value=[FARTHEST, FARTHEST, FARTHEST])
@example(where="voxel_offset", value=[-FARTHEST, FARTHEST, 1])
def test_any_value_anywhere(where: str, value: object, folder: Path) -> None:
    """It opens, or an error says why not; what opens, reads."""
    place = volume_of(changed(where, value), "local", folder)
    (place / "0-8_0-8_0-8").write_bytes(bytes(512))
    with refusal_names(place.parent):
        array = open_array(place, NAME)
        box = Box((0,) * 4, tuple(min(n, 3) for n in array.spec.shape))
        assert not array.read(box).any()
        assert isinstance(array, PrecomputedArray)
        listed(array)
        assert open_array(place, NAME) == array


@contextmanager
def refusal_names(place: Location) -> Iterator[None]:
    """Take an error of ours, if there is one, that names a place; no other error."""
    said = f"{place}"
    with suppress(WkdaskError):
        try:
            yield
        except WkdaskError as error:
            said = str(error)
            raise
    assert str(place) in said and len(said) < 1000


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("codec", ["none", "png", "compressed_segmentation", "jpeg"])
@given(data=st.data())
def test_chunks_that_are_cut_off_or_flipped(kind: str, codec: str, folder: Path, data: st.DataObject) -> None:
    dtype = "uint32" if codec == "compressed_segmentation" else "uint8"
    array, encoded = with_chunk(kind, folder, codec, dtype)
    bad = bytearray(encoded)
    for _ in range(data.draw(st.integers(0, 3))):
        bad[data.draw(st.integers(0, len(bad) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    del bad[data.draw(st.integers(0, len(bad))) :]
    place = array.unit_location((0, 0, 0, 0))
    place.write_bytes(bytes(bad))
    with refusal_names(place):
        assert array.read(FIRST).shape == FIRST.shape  # most encodings have no checksum
    if codec == "none" and len(bad) != len(encoded):
        with pytest.raises(DamagedError):
            array.read(FIRST)


def with_chunk(kind: str, folder: Path, codec: str, dtype: str) -> tuple[PrecomputedArray, bytes]:
    """Return an array of one chunk of noise, and that chunk's file."""
    place = fresh_place(kind, folder)
    if codec == "jpeg":  # which we do not write
        document = changed("encoding", "jpeg")
        (place.parent / "info").write_bytes(json.dumps(document).encode())
        file = io.BytesIO()
        Image.fromarray(noise(Box((0, 0), (64, 8)), "uint8")).save(file, "jpeg")
        (place / "0-8_0-8_0-8").write_bytes(file.getvalue())
    else:
        array = make(place, spec_of(dtype=dtype, codec=codec))
        array.write(FIRST, noise(FIRST, dtype))
    array = Precomputed().open(place)
    assert array.read(FIRST).any()
    return array, array.unit_location((0, 0, 0, 0)).read_bytes()


def png_header(width: int, height: int) -> bytes:
    """Return the beginning of a picture of any size."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_of_other_sizes(kind: str, folder: Path) -> None:
    array, encoded = with_chunk(kind, folder, "png", "uint8")
    for width, height in ((8, 63), (8, 65), (1 << 16, 1 << 15), (0, 0)):
        array.unit_location((0, 0, 0, 0)).write_bytes(png_header(width, height) + encoded[33:])
        with pytest.raises(DamagedError, match="0-8_0-8_0-8"):
            array.read(FIRST)


@pytest.mark.parametrize("codec", ["none", "compressed_segmentation"])
def test_no_memory_for_what_a_small_file_claims(codec: str, folder: Path) -> None:
    array = make(fresh_place("memory", folder), spec_of((512, 512, 512), "uint32", codec, edge=512))
    array.unit_location((0, 0, 0, 0)).write_bytes(bytes(1000))
    tracemalloc.start()
    with pytest.raises(DamagedError, match="1000 bytes are not"):
        array.read(FIRST)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_files_that_are_too_large_are_not_read(folder: Path) -> None:
    array, _ = with_chunk("memory", folder, "png", "uint8")
    array.unit_location((0, 0, 0, 0)).write_bytes(bytes(1 << 17))
    with pytest.raises(DamagedError, match="131072 bytes are too many"):
        array.read(FIRST)


def test_what_is_only_read(folder: Path) -> None:
    one = np.ones((1, 1, 1, 1), "uint8")
    for where, value, said in [
        ("voxel_offset", [0, 0, 8], "begins at"),
        ("sharding", SHARDING, "sharded"),
        ("encoding", "jpeg", "does not keep each voxel"),
        ("chunk_sizes", [[8, 8, 8], [64, 64, 1]], "several shapes"),
    ]:
        array = open_array(volume_of(changed(where, value), "local", folder), NAME)
        assert isinstance(array, PrecomputedArray)
        before = array.location.names()
        for attempt in (
            lambda a: a.write(Box((0, 0, 0, 0), (1, 1, 1, 1)), one),
            lambda a: a.unit((0, 0, 0, 0)),
            lambda a: a.part((0, 0, 0, 0), a.location / "x"),
            lambda a: a.resize((1, 21, 17, 9)),
        ):
            with pytest.raises(InputError, match=f"can only be read.*{said}"):
                attempt(array)
        assert array.location.names() == before and Precomputed().open(array.location) == array


def test_shards_of_more_chunks_than_can_be_listed(folder: Path) -> None:
    document = changed("size", [2**60, 2**60, 16])
    document["scales"][0]["sharding"] = {**SHARDING, "shard_bits": 0}
    array = Precomputed().open(volume_of(document, "local", folder))
    assert list(array.written_units()) == []
    array.unit_location((0, 0, 0, 0)).write_bytes(b"")
    with pytest.raises(InputError, match=f"^{array.location} has {2**57 * 2**57 * 2} chunks"):
        next(array.written_units())


def test_names_of_data_types_are_read_in_any_case(folder: Path) -> None:
    document = changed("data_type", "UINT8")
    del document["@type"], document["scales"][0]["voxel_offset"]
    found = open_array(volume_of(document, "local", folder), NAME).spec
    assert found.dtype == "uint8" and found.codec != Codec("png") and not any(found.offset)
