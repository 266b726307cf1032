"""Zarr 2 arrays of ours, of zarr-python and of tensorstore read alike by all, whatever their layout."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any
from uuid import uuid4

import numcodecs
import numpy as np
import pytest
import tensorstore
import zarr
from hypothesis import given
from hypothesis import strategies as st

from tests.formats.arrays import Array, bits, boxes_in, noise
from wkdask.errors import MetadataError
from wkdask.formats import ArraySpec, Zarr2, Zarr2Array, parse_codec
from wkdask.formats.chunk_document import DTYPES
from wkdask.geometry.grid import Box
from wkdask.storage import Location

COMPRESSORS: dict[str, Any] = {
    "none": None,
    "blosc-lz4": numcodecs.Blosc("lz4", 5, numcodecs.Blosc.SHUFFLE),
    "blosc-zstd": numcodecs.Blosc("zstd", 1, numcodecs.Blosc.BITSHUFFLE),
    "zstd": numcodecs.Zstd(3),
    "zstd with checksum": numcodecs.Zstd(3, checksum=True),
    "lz4": numcodecs.LZ4(),
    "gzip": numcodecs.GZip(1),
    "zlib": numcodecs.Zlib(1),
    "bz2": numcodecs.BZ2(1),
    "lzma": numcodecs.LZMA(preset=0),
}
BY_TENSORSTORE = ("none", "blosc-lz4", "blosc-zstd", "zstd", "gzip")
FILTERS: dict[str, list[Any]] = {
    "delta": [numcodecs.Delta("<u2")],
    "delta to wider": [numcodecs.Delta("<u2", "<u8")],
    "shuffle": [numcodecs.Shuffle(2)],
    "fixedscaleoffset": [numcodecs.FixedScaleOffset(offset=0, scale=1, dtype="<u2", astype="<u4")],
    "astype": [numcodecs.AsType("<u8", "<u2")],
    "two": [numcodecs.Delta("<u2"), numcodecs.Shuffle(2)],
    "compressor as filter": [numcodecs.Zlib(1)],
    "checksum": [numcodecs.CRC32()],
}


def elsewhere(folder: Path | str) -> Location:
    """Return a copy of a local array in a store that is not local, so that tensorstore has no part in reading it."""
    place = Location(f"memory://{uuid4().hex}/layer/1")
    for file in Path(folder).rglob("*"):
        if file.is_file():
            (place / file.relative_to(folder).as_posix()).write_bytes(file.read_bytes())
    return place


def require_read(folder: Path, dense: Array) -> Zarr2Array:
    """Read an array at both kinds of places, and return the local handle."""
    array = Zarr2().open(Location(str(folder)))
    for handle in (array, Zarr2().open(elsewhere(folder))):
        for box in (handle.spec.grid.box, Box((1,) * dense.ndim, tuple(n - 1 for n in dense.shape))):
            found = handle.read(box)
            assert found.dtype == handle.spec.dtype and found.flags.f_contiguous
            np.testing.assert_array_equal(bits(found), bits(dense[box.slices]))
    return array


def foreign(folder: Path, dense: Array, **settings: Any) -> Array:
    """Write an array by zarr-python, all but one corner of its chunks."""
    array = zarr.create_array(
        str(folder),
        shape=dense.shape,
        dtype=dense.dtype,
        zarr_format=2,
        **{"chunks": (3, 4, 5), "compressors": None} | settings,
    )
    array[3:] = dense[3:]
    return np.asarray(array[...])


def by_tensorstore(folder: Path | str) -> Array:
    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": f"{folder}/"}}
    return np.asarray(tensorstore.open(spec, open=True).result().read().result())


CODECS = [codec for codec in Zarr2.codecs if "-" not in codec or codec in ("blosc-zstd", "blosc-lz4")]
TABLE = [(dtype, "cxyz", codec) for dtype in sorted(DTYPES) for codec in CODECS]
TABLE += [("uint16", axes, CODECS[n % len(CODECS)]) for n, axes in enumerate(("zyx", "tcxyz", "xy", "czyx", "ctzyx", "x"))]


@pytest.mark.parametrize(("dtype", "axes", "codec"), TABLE)
def test_others_read_ours(dtype: str, axes: str, codec: str, tmp_path: Path) -> None:
    shape = tuple({"c": 3, "t": 2}.get(axis, 11) for axis in axes)
    chunk = tuple({"c": 3, "t": 1}.get(axis, 4) for axis in axes)
    place = Location(str(tmp_path / "ds/layer/1"))
    array = Zarr2().create(place, ArraySpec(shape, dtype, tuple(axes), chunk, chunk, parse_codec(codec)))
    box = Box(tuple(min(5, n - 1) for n in shape), shape)
    dense = np.zeros(shape, dtype)
    dense[box.slices] = noise(box, dtype)
    array.write(box, dense[box.slices])
    np.testing.assert_array_equal(bits(np.asarray(zarr.open_array(place.url, mode="r")[...])), bits(dense))
    np.testing.assert_array_equal(bits(by_tensorstore(place.url)), bits(dense))
    assert Zarr2().open(place) == array
    require_read(Path(place.url), dense)


@pytest.mark.parametrize("name", COMPRESSORS)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("separator", [".", "/"])
def test_each_compressor_of_others(name: str, order: str, separator: str, tmp_path: Path) -> None:
    dense = noise(Box((0, 0, 0), (7, 9, 11)), "uint16")
    encoding = {"name": "v2", "separator": separator}
    settings = {"order": order, "compressors": COMPRESSORS[name], "chunk_key_encoding": encoding, "fill_value": 7}
    found = foreign(tmp_path / "a", dense, **settings)
    array = require_read(tmp_path / "a", found)
    assert array.for_tensorstore == (name in BY_TENSORSTORE) and array.layout.order == order and array.spec.fill == 7
    box = Box((2, 2, 2), (6, 7, 8))  # into chunks that are there, and one that is not
    array.write(box, found[box.slices] // 2)
    found[box.slices] //= 2
    np.testing.assert_array_equal(np.asarray(zarr.open_array(str(tmp_path / "a"), mode="r")[...]), found)
    require_read(tmp_path / "a", found)


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("compressor", ["none", "zstd", "blosc-lz4", "lzma"])
def test_filters_of_others(name: str, compressor: str, tmp_path: Path) -> None:
    dense = noise(Box((0, 0, 0), (6, 8, 10)), "uint16")
    found = foreign(tmp_path / "a", dense, filters=FILTERS[name], compressors=COMPRESSORS[compressor])
    array = require_read(tmp_path / "a", found)
    box = Box((1, 2, 2), (6, 7, 8))
    array.write(box, found[box.slices] // 2)
    found[box.slices] //= 2
    np.testing.assert_array_equal(np.asarray(zarr.open_array(str(tmp_path / "a"), mode="r")[...]), found)
    require_read(tmp_path / "a", found)


@pytest.mark.parametrize("dtype", [">u2", ">i4", ">i8", ">f4", ">f8", "<f4", "|i1", "|b1"])
def test_dtypes_of_others(dtype: str, tmp_path: Path) -> None:
    kind = np.dtype(dtype)
    plain = noise(Box((0, 0, 0), (6, 8, 10)), kind.newbyteorder("=").name if kind.kind != "b" else "uint8")
    dense = (plain > 100) if kind.kind == "b" else plain.astype(dtype)
    found = foreign(tmp_path / "a", dense, compressors=COMPRESSORS["zlib"])
    expected = found.astype("uint8") if kind.kind == "b" else found.astype(kind.newbyteorder("="))
    array = require_read(tmp_path / "a", expected)
    array.write(Box((0, 0, 0), (1, 1, 1)), np.ones((1, 1, 1), array.spec.dtype))
    expected[0, 0, 0] = 1
    again = np.asarray(zarr.open_array(str(tmp_path / "a"), mode="r")[...])
    np.testing.assert_array_equal(bits(again.astype(array.spec.dtype)), bits(expected))


def test_packed_bits(tmp_path: Path) -> None:
    dense = noise(Box((0, 0, 0), (6, 8, 10)), "uint8") > 100
    found = foreign(tmp_path / "a", dense, filters=[numcodecs.PackBits()])
    require_read(tmp_path / "a", found.astype("uint8"))


@pytest.mark.parametrize(
    ("dtype", "fill", "expected"),
    [
        ("<u2", None, 0),
        ("<u8", 2**64 - 1, 2**64 - 1),
        ("<i2", -3, -3),
        ("<i2", 4.0, 4),
        ("<f4", "NaN", np.nan),
        ("<f8", "-Infinity", -np.inf),
        ("<f8", 1.5, 1.5),
        ("|b1", True, 1),
    ],
)
def test_fill_values(dtype: str, fill: Any, expected: float, tmp_path: Path) -> None:
    document = {"zarr_format": 2, "shape": [5, 6], "chunks": [4, 4], "dtype": dtype, "order": "C", "fill_value": fill}
    (tmp_path / ".zarray").write_text(json.dumps({**document, "filters": None, "compressor": None}))
    for place in (Location(str(tmp_path)), elsewhere(tmp_path)):
        array = Zarr2().open(place)
        assert (array.read(array.spec.grid.box) == np.array(expected, array.spec.dtype)).all() or np.isnan(expected)
        assert np.isnan(array.read(array.spec.grid.box)).all() == bool(np.isnan(expected))
        other = np.full((2, 2), 1, array.spec.dtype)
        array.write(Box((1, 1), (3, 3)), other)
        found = array.read(array.spec.grid.box)
        assert (found[1:3, 1:3] == 1).all()
        np.testing.assert_array_equal(found[0], np.full(6, expected, array.spec.dtype))
        array.write(array.spec.grid.box, np.full((5, 6), expected, array.spec.dtype))
        assert list(array.written_units()) == []


def test_null_or_bad_settings_name_what_is_wrong(tmp_path: Path) -> None:
    good = {"zarr_format": 2, "shape": [5, 6], "chunks": [4, 4], "dtype": "<u2", "order": "C", "fill_value": 0}
    good |= {"filters": None, "compressor": None}
    for change, said in (
        ({"zarr_format": "2"}, "zarr_format"),
        ({"filters": [{"id": "pickle"}]}, "'pickle'"),
        ({"filters": [{"id": "vlen-utf8"}]}, "'vlen-utf8'"),
        ({"compressor": {"id": "json2"}}, "'json2'"),
        ({"filters": [{"id": "shuffle", "elementsize": 0}]}, "elementsize"),
        ({"filters": [{"id": "delta", "dtype": "|O"}]}, "|O"),
        ({"dtype": "|O"}, "|O"),
        ({"dtype": "<f2"}, "<f2"),
        ({"dtype": "<c8"}, "<c8"),
        ({"dtype": [["a", "<u2"]]}, "dtype"),
        ({"chunks": [2**20, 2**20]}, "bytes"),
        ({"chunks": [4]}, "axes"),
        ({"chunks": [0, 4]}, "chunks"),
        ({"shape": []}, "shape"),
        ({"order": "X"}, "'X'"),
        ({"dimension_separator": "-"}, "'-'"),
        ({"fill_value": 70000}, "70000"),
        ({"fill_value": "NaN"}, "NaN"),
        ({"compressor": {"id": "blosc", "cname": "rar"}}, "rar"),
        ({"compressor": {"id": "lzma", "format": 3}}, "lzma"),
    ):
        (tmp_path / ".zarray").write_text(json.dumps(good | change))
        with pytest.raises(MetadataError) as raised:
            Zarr2().open(Location(str(tmp_path)))
        assert said in str(raised.value) and str(tmp_path / ".zarray") in str(raised.value), change
    (tmp_path / ".zarray").write_text(json.dumps(good))
    Zarr2().open(Location(str(tmp_path)))


@given(data=st.data())
def test_tensorstore_and_we_share_an_array(data: st.DataObject) -> None:
    folder = tempfile.mkdtemp()
    order = data.draw(st.sampled_from("CF"))
    metadata = {"shape": [9, 7, 5], "chunks": data.draw(st.sampled_from([[4, 4, 4], [9, 7, 5], [3, 5, 2]])), "dtype": ">i2"}
    metadata |= {"order": order, "compressor": data.draw(st.sampled_from([None, {"id": "zlib", "level": 1}])), "fill_value": -1}
    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": f"{folder}/layer/1/"}, "metadata": metadata}
    theirs = tensorstore.open(spec, create=True).result()
    ours = Zarr2().open(Location(folder) / "layer" / "1")
    dense = np.full((9, 7, 5), -1, "int16")
    for seed in range(4):
        box = data.draw(boxes_in(ours.spec.grid.box))
        dense[box.slices] = noise(box, "int16", seed)
        if data.draw(st.booleans()):
            ours.write(box, dense[box.slices])
        else:
            theirs[box.slices] = dense[box.slices]
        np.testing.assert_array_equal(ours.read(ours.spec.grid.box), dense)
        np.testing.assert_array_equal(theirs.read().result(), dense)
    shutil.rmtree(folder)


def test_real_arrays(fixtures_folder: Path) -> None:
    folder = fixtures_folder / "simple_zarr_dataset/color/1-1-1"
    expected = by_tensorstore(folder)
    assert expected.shape == (3, 24, 24, 24) and expected.any()
    require_read(folder, expected)
