"""N5 arrays of ours and of tensorstore read alike by both, and what tensorstore does not know is read by us."""

from __future__ import annotations

import gzip
import json
import math
import shutil
import struct
import tempfile
import zlib
from pathlib import Path
from typing import Any

import lz4.block
import lz4.frame
import numpy as np
import pytest
import tensorstore
from hypothesis import given
from hypothesis import strategies as st

from tests.formats.arrays import Array, bits, boxes_in, noise
from tests.interop.test_zarr2 import elsewhere
from wkdask.errors import DamagedError, MetadataError
from wkdask.formats import N5, ArraySpec, N5Array, parse_codec
from wkdask.formats.chunk_document import DTYPES
from wkdask.formats.n5_lz4 import BLOCK_BYTES, _compiled, pack_lz4, unpack_lz4
from wkdask.geometry.grid import Box
from wkdask.metadata import LayerProperties, MagProperties, VoxelSize
from wkdask.storage import Location

COMPRESSIONS: list[dict[str, Any]] = [
    {"type": "raw"},
    {"type": "gzip", "level": 1},
    {"type": "gzip", "level": -1, "useZlib": True},
    {"type": "bzip2", "blockSize": 1},
    {"type": "xz", "preset": 0},
    {"type": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1},
    {"type": "blosc", "cname": "zstd", "clevel": 1, "shuffle": 2},
    {"type": "zstd", "level": 1},
]


def opened(folder: Path | str) -> Any:
    return tensorstore.open({"driver": "n5", "kvstore": {"driver": "file", "path": f"{folder}/"}}, open=True).result()


def by_tensorstore(folder: Path | str) -> Array:
    return np.asarray(opened(folder).read().result())


def require_read(folder: Path | str, dense: Array) -> N5Array:
    """Read an array at both kinds of places, and return the local handle."""
    array = N5().open(Location(str(folder)))
    for handle in (array, N5().open(elsewhere(folder))):
        found = handle.read(handle.spec.grid.box)
        assert found.dtype == handle.spec.dtype and found.flags.f_contiguous
        np.testing.assert_array_equal(bits(found), bits(dense))
    return array


def block(shape: tuple[int, ...], payload: bytes, mode: int = 0, elements: int | None = None) -> bytes:
    """Return the file of a block, by the specification alone."""
    count = [] if mode == 0 else [math.prod(shape) if elements is None else elements]
    return struct.pack(f">HH{len(shape)}I", mode, len(shape), *shape) + b"".join(struct.pack(">I", n) for n in count) + payload


def made(folder: Path, shape: list[int], chunk: list[int], compression: dict[str, Any] | None, dtype: str = "uint16") -> None:
    document: dict[str, Any] = {"dimensions": shape, "blockSize": chunk, "dataType": dtype}
    folder.mkdir(exist_ok=True)
    (folder / "attributes.json").write_text(json.dumps(document | ({"compression": compression} if compression else {})))


CODECS = [codec for codec in N5.codecs if "-" not in codec or codec in ("blosc-zstd", "blosc-lz4")]
TABLE = [(dtype, "cxyz", codec) for dtype in sorted(DTYPES) for codec in CODECS]
TABLE += [("uint16", axes, CODECS[n % len(CODECS)]) for n, axes in enumerate(("zyx", "tcxyz", "xy", "czyx", "ctzyx", "x"))]


@pytest.mark.parametrize(("dtype", "axes", "codec"), TABLE)
def test_others_read_ours(dtype: str, axes: str, codec: str, tmp_path: Path) -> None:
    shape = tuple({"c": 3, "t": 2}.get(axis, 11) for axis in axes)
    chunk = tuple({"c": 3, "t": 1}.get(axis, 4) for axis in axes)
    place = Location(str(tmp_path / "ds/layer/1"))
    array = N5().create(place, ArraySpec(shape, dtype, tuple(axes), chunk, chunk, parse_codec(codec)))
    box = Box(tuple(min(5, n - 1) for n in shape), shape)
    dense = np.zeros(shape, dtype)
    dense[box.slices] = noise(box, dtype)
    array.write(box, dense[box.slices])
    assert N5().open(place) == array
    require_read(place.url, dense)
    if codec != "lz4":
        np.testing.assert_array_equal(bits(by_tensorstore(place.url)), bits(dense))
        assert tuple(opened(place.url).domain.labels) == tuple(axes)


@given(data=st.data())
def test_tensorstore_and_we_share_an_array(data: st.DataObject) -> None:
    folder, dtype = tempfile.mkdtemp(), data.draw(st.sampled_from(["uint8", "int16", "float32", "uint64"]))
    metadata = {
        "dimensions": [9, 7, 5],
        "blockSize": data.draw(st.sampled_from([[4, 4, 4], [9, 7, 5], [3, 5, 2], [16, 16, 16]])),
    }
    metadata |= {"dataType": dtype, "compression": data.draw(st.sampled_from(COMPRESSIONS))}
    spec = {"driver": "n5", "kvstore": {"driver": "file", "path": f"{folder}/layer/1/"}, "metadata": metadata}
    theirs = tensorstore.open(spec, create=True).result()
    ours = N5().open(Location(folder) / "layer" / "1")
    assert ours.spec.axes == ("x", "y", "z")
    dense = np.zeros((9, 7, 5), dtype)
    for seed in range(4):
        box = data.draw(boxes_in(ours.spec.grid.box))
        dense[box.slices] = noise(box, dtype, seed)
        if data.draw(st.booleans()):
            ours.write(box, dense[box.slices])
        else:
            theirs[box.slices] = dense[box.slices]
        np.testing.assert_array_equal(bits(theirs.read().result()), bits(dense))
        require_read(f"{folder}/layer/1", dense)
    shutil.rmtree(folder)


@pytest.mark.parametrize("compression", COMPRESSIONS, ids=lambda c: "-".join(map(str, c.values())))
def test_each_compression_of_tensorstore(compression: dict[str, Any], tmp_path: Path) -> None:
    metadata = {"dimensions": [9, 7], "blockSize": [4, 4], "dataType": "uint16", "compression": compression}
    spec = {"driver": "n5", "kvstore": {"driver": "file", "path": f"{tmp_path}/ds/layer/1/"}, "metadata": metadata}
    dense = noise(Box((0, 0), (9, 7)), "uint16")
    dense[4:8, :4] = 0  # a block that is not stored
    tensorstore.open(spec, create=True).result()[...] = dense
    array, box = require_read(tmp_path / "ds/layer/1", dense), Box((2, 2), (9, 6))
    array.write(box, dense[box.slices] // 2)
    dense[box.slices] //= 2
    np.testing.assert_array_equal(by_tensorstore(array.location.url), dense)


@pytest.mark.parametrize("mode", [0, 1])
@pytest.mark.parametrize("kind", ["raw", "gzip", "zlib", "lz4", "old"])
def test_blocks_by_the_specification(mode: int, kind: str, tmp_path: Path) -> None:
    dense = noise(Box((0, 0), (6, 5)), "uint16")
    compression = {"raw": {"type": "raw"}, "lz4": {"type": "lz4", "blockSize": 65536}, "old": None}.get(
        kind, {"type": "gzip", "useZlib": kind == "zlib"}
    )
    made(tmp_path / "a", [6, 5], [4, 4], compression)
    if kind == "old":
        document = json.loads((tmp_path / "a/attributes.json").read_text())
        (tmp_path / "a/attributes.json").write_text(json.dumps(document | {"compressionType": "gzip"}))
    packed = {"gzip": gzip.compress, "old": gzip.compress, "zlib": zlib.compress, "lz4": pack_lz4}.get(kind, bytes)
    for i, j in ((0, 0), (1, 0), (1, 1)):
        piece = dense[4 * i : 4 * i + 4, 4 * j : 4 * j + 4]
        (tmp_path / f"a/{i}").mkdir(exist_ok=True)
        (tmp_path / f"a/{i}/{j}").write_bytes(block(piece.shape, packed(piece.astype(">u2").tobytes(order="F")), mode))
    (tmp_path / "a/0/1").write_bytes(block((0, 1), b""))
    dense[:4, 4:] = 0
    require_read(tmp_path / "a", dense)


def test_headers_that_are_not_sound_are_refused(tmp_path: Path) -> None:
    made(tmp_path / "a", [8, 8], [4, 4], {"type": "raw"})
    (tmp_path / "a/0").mkdir()
    good = bytes(32)
    for data, said in (
        (b"", "header"),
        (block((4, 4), good)[:9], "header"),
        (block((4, 5), bytes(40)), r"\(4, 5\)"),
        (block((2**32 - 1, 2**32 - 1), good), "4294967295"),
        (block((4, 4, 1), good), "3 axes"),
        (block((4, 4), good, mode=2), "mode 2"),
        (block((4, 4), good, mode=1, elements=17), "17 elements"),
        (block((4, 4), good[:-1]), "31 bytes instead of 32"),
        (block((4, 4), good + b"x"), "33 bytes instead of 32"),
        (block((4, 4), bytes(1 << 20)), "too many"),
    ):
        (tmp_path / "a/0/0").write_bytes(data)
        for place in (Location(str(tmp_path / "a")), elsewhere(tmp_path / "a")):
            with pytest.raises(DamagedError, match=said) as raised:
                N5().open(place).read(Box((0, 0), (4, 4)))
            assert "0/0 is damaged" in str(raised.value)


@given(first=st.integers(1, 9), second=st.integers(1, 20), third=st.integers(1, 20))
def test_border_blocks_follow_the_array(first: int, second: int, third: int) -> None:
    folder = tempfile.mkdtemp()
    place, dense = Location(folder) / "layer" / "1", np.zeros((20, 20), "uint16")
    array = N5().create(place, ArraySpec((first, 9), "uint16", ("x", "y"), (8, 8), (8, 8), parse_codec("zstd:1")))
    for seed, size in enumerate((first, second, third)):
        N5().open(place).resize((size, 9))
        array, box = N5().open(place), Box((0, 0), (size, 9))
        np.testing.assert_array_equal(array.read(box), dense[box.slices])  # also of blocks cut off by another end
        np.testing.assert_array_equal(by_tensorstore(place.url), dense[box.slices])
        one = Box((size - 1, 3), (size, 9))
        array.write(one, noise(one, "uint16", seed))
        dense[one.slices] = noise(one, "uint16", seed)
        dense[size : -(-size // 8) * 8] = 0  # cut off when its block was written again
        last = (size - 1) // 8
        head = struct.unpack(">HHII", array.unit_location((last, 0)).read_bytes(0, 12))
        assert head == (0, 2, size - 8 * last, 8)
    shutil.rmtree(folder)


def test_xxh32_is_that_of_lz4_frames() -> None:
    for size in (0, 1, 3, 4, 7, 15, 16, 17, 31, 64, 1000, 65536):
        data = noise(Box((0,), (size,)), "uint8", size)
        if size:
            framed = lz4.frame.compress(data.tobytes(), content_checksum=True)
            assert _compiled()(data, 0) == struct.unpack("<I", framed[-4:])[0]
    assert _compiled()(np.zeros(0, "uint8"), 2654435761) == 0x36B78AE7  # of the reference's own test


def test_lz4_streams_are_those_of_lz4_java() -> None:
    data = (b"voxels" * 30000)[: 2 * BLOCK_BYTES + 7] + noise(Box((0,), (100,)), "uint8").tobytes()
    at, out, packed = 0, b"", pack_lz4(data)
    while True:
        magic, token, length, size, said = struct.unpack_from("<8sBIII", packed, at)
        assert magic == b"LZ4Block" and token & 0x0F == 6
        at += 21
        if not size:
            break
        body = packed[at : at + length]
        piece = lz4.block.decompress(body, uncompressed_size=size) if token & 0xF0 == 0x20 else body
        assert said == _compiled()(np.frombuffer(piece, "uint8"), 0x9747B28C) & 0x0FFFFFFF
        out, at = out + piece, at + length
    assert out == data and at == len(packed) and (token, length, said) == (0x16, 0, 0)
    assert unpack_lz4(packed, len(data)) == data
    for limit, wrong in ((len(data) - 1, packed), (len(data), packed[:-1]), (len(data), packed[:60] + b"?" + packed[61:])):
        with pytest.raises(DamagedError):
            unpack_lz4(wrong, limit)


def test_bad_documents_name_what_is_wrong(tmp_path: Path) -> None:
    good: dict[str, Any] = {"dimensions": [5, 6], "blockSize": [4, 4], "dataType": "uint8", "compression": {"type": "raw"}}
    for change, said in (
        ({"dataType": "object"}, "'object'"),
        ({"compression": {"type": "jpeg"}}, "'jpeg'"),
        ({"blockSize": [2**20, 2**20]}, "bytes"),
        ({"blockSize": [4]}, "axes"),
        ({"dimensions": [-1, 6]}, "dimensions"),
        ({"compression": {"type": "gzip", "level": "9"}}, "level"),
        ({"compression": {"type": "blosc", "cname": "rar"}}, "rar"),
        ({"compression": 3}, "wrong type"),
    ):
        (tmp_path / "attributes.json").write_text(json.dumps(good | change))
        with pytest.raises(MetadataError) as raised:
            N5().open(Location(str(tmp_path)))
        assert said in str(raised.value) and str(tmp_path / "attributes.json") in str(raised.value), change


def test_groups_say_where_and_how_large(tmp_path: Path) -> None:
    layer = LayerProperties.new("em", "color", "uint8", 1, "n5", ((0, 0, 0), (16, 16, 8)))
    root = Location(str(tmp_path))
    for mag, name in (((2, 2, 1), "2-2-1"), ((1, 1, 1), "1")):
        N5().create(root / "em" / name, ArraySpec((1, 16, 16, 8), "uint8", tuple("cxyz"), (1, 8, 8, 8), (1, 8, 8, 8)))
        layer = layer.with_mag(MagProperties.new(mag, path=f"./em/{name}", axis_order=dict(zip("cxyz", range(4), strict=True))))
    (tmp_path / "attributes.json").write_text('{"n5": "4.0.0", "mine": 1}')
    (tmp_path / "em/attributes.json").write_text('{"mine": 2}')
    before = N5().open(root / "em" / "1")
    for _ in range(2):
        N5().write_groups(root, layer, VoxelSize((4, 4, 35)))
    assert json.loads((tmp_path / "attributes.json").read_text()) == {"n5": "4.0.0", "mine": 1}
    found = json.loads((tmp_path / "em/attributes.json").read_text())
    assert found["mine"] == 2 and found["downsamplingFactors"] == found["scales"] == [[1, 1, 1, 1], [1, 2, 2, 1]]
    assert found["pixelResolution"] == {"dimensions": [1, 4, 4, 35], "unit": "nm"}
    coarse = json.loads((tmp_path / "em/2-2-1/attributes.json").read_text())
    assert coarse["downsamplingFactors"] == [1, 2, 2, 1] and coarse["resolution"] == [1, 4, 4, 35]
    assert N5().open(root / "em" / "1") == before and not N5().detect(root / "em")
    theirs = opened(tmp_path / "em/2-2-1")
    assert [unit.multiplier for unit in theirs.dimension_units] == [1, 4, 4, 35]
    assert tuple(theirs.domain.labels) == tuple("cxyz")


def test_real_arrays(fixtures_folder: Path) -> None:
    folder = fixtures_folder / "simple_n5_dataset/color/1"
    expected = by_tensorstore(folder)
    assert expected.shape == (3, 24, 24, 24) and expected.dtype == "uint32" and expected.any()
    require_read(folder, expected)
