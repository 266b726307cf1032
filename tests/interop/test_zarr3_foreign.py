"""Zarr 3 arrays that zarr-python and tensorstore write are read and written by us; what we write, both read."""

from __future__ import annotations

import json
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
import zarr

from tests.formats.arrays import bits, by_tensorstore, by_zarr, downloaded, fresh_place, noise, whole
from wkdask.errors import DamagedError, InputError, MetadataError
from wkdask.formats import ArraySpec, Zarr3, Zarr3Array, open_array, parse_codec
from wkdask.geometry.grid import Box
from wkdask.storage import Location

SHAPE, CHUNK, UNIT = (2, 8, 9, 7), (1, 3, 4, 5), (2, 6, 4, 10)
DTYPES = ("bool", "uint8", "uint16", "int32", "uint64", "float32", "float64", "int8")
FILLS: dict[str, Any] = {
    "bool": True, "uint8": 7, "uint16": 0, "int32": -5, "uint64": 2**64 - 1,
    "float32": "NaN", "float64": "-Infinity", "int8": 0,
}  # fmt: skip
CRC = {"name": "crc32c"}
PACKERS: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "zstd": [{"name": "zstd", "configuration": {"level": 3, "checksum": False}}],
    "zstd crc": [{"name": "zstd", "configuration": {"level": 3, "checksum": True}}, CRC],
    "gzip": [{"name": "gzip", "configuration": {"level": 3}}],
    "crc": [CRC],
    "crc gzip": [CRC, {"name": "gzip", "configuration": {"level": 1}}],
    "gzip zstd": [{"name": name, "configuration": options} for name, options in (
        ("gzip", {"level": 1}), ("zstd", {"level": 1, "checksum": True}))],
    **{
        f"blosc {name} {shuffle}": [
            {"name": "blosc", "configuration": {
                "cname": name, "clevel": 5, "shuffle": shuffle, "typesize": 2, "blocksize": 0}}
        ]
        for name in ("blosclz", "lz4", "lz4hc", "zlib", "zstd")
        for shuffle in ("noshuffle", "shuffle", "bitshuffle")
    },
}  # fmt: skip
ORDERS: dict[str, list[Any]] = {
    "C": [],
    "F": [[3, 2, 1, 0]],
    "turned": [[1, 3, 0, 2]],
    "twice": [[1, 3, 0, 2], [2, 0, 1, 3]],
}
KEYS: list[dict[str, Any]] = [
    {"name": name, "configuration": {"separator": mark}} for name in ("default", "v2") for mark in "/."
]
INDEXES = ["none", "end crc little", "start crc little", "end plain little", "start plain big", "end crc big"]
CASES = [
    pytest.param(packers, dtype, order, keys, index, id=f"{packers}-{dtype}-{order}-{keys['name']}-{index}")
    for packers, dtype, order, keys, index in zip(
        [name for name in PACKERS for _ in range(1 if "blosc" in name else 2)],
        cycle(DTYPES),
        cycle([*ORDERS, "C", "F", "turned"]),
        cycle([*KEYS, *KEYS, KEYS[0]]),
        cycle([*INDEXES, *INDEXES[1:]]),
        strict=False,
    )
]
"""Lengths of the cycles have no common factors, so that all kinds of pairs come up."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("arrays")


def bytes_codec(dtype: str, endian: str = "little") -> dict[str, Any]:
    return {"name": "bytes", "configuration": {"endian": endian}} if np.dtype(dtype).itemsize > 1 else {"name": "bytes"}


def document(
    packers: list[dict[str, Any]], dtype: str, order: str = "C", keys: dict[str, Any] = KEYS[0], index: str = "none"
) -> dict[str, Any]:
    """Return a `zarr.json`; voxels are big endian where the shards' index is."""
    transposes = [{"name": "transpose", "configuration": {"order": turn}} for turn in ORDERS[order]]
    codecs = [*transposes, bytes_codec(dtype, "big" if "big" in index else "little"), *packers]
    if index != "none":
        where, check, endian = index.split()
        form = [{"name": "bytes", "configuration": {"endian": endian}}, *([CRC] if check == "crc" else [])]
        shard = {"chunk_shape": CHUNK, "codecs": codecs, "index_codecs": form, "index_location": where}
        codecs = [{"name": "sharding_indexed", "configuration": shard}]
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": SHAPE,
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": CHUNK if index == "none" else UNIT}},
        "chunk_key_encoding": keys,
        "fill_value": FILLS[dtype],
        "codecs": codecs,
        "attributes": {},
        "dimension_names": list("cxyz"),
    }


def voxels(dtype: str, seed: int = 0) -> np.ndarray[Any, Any]:
    """Return noise with some chunks at the fill value."""
    found = noise(Box((0,) * 4, SHAPE), "uint8" if dtype == "bool" else dtype, seed)
    if dtype == "bool":
        found = found % 2
    fill = float(FILLS[dtype]) if isinstance(FILLS[dtype], str) else FILLS[dtype]
    found[:, :3, :8] = fill
    return found


def written(by: str, made: dict[str, Any], block: np.ndarray[Any, Any], folder: Path) -> Location:
    """Write an array with another library; return its place."""
    place = fresh_place("local", folder)
    (place / "zarr.json").write_bytes(json.dumps(made).encode())
    stored = block.astype(made["data_type"])
    if by == "zarr":
        zarr.open_array(place.url, mode="r+")[...] = stored
    else:
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": place.url + "/"}}
        tensorstore.open(spec, open=True).result().write(stored).result()
    return place


def in_memory(place: Location, folder: Path) -> Location:
    """Return a copy of a local folder in memory."""
    target = fresh_place("memory", folder)
    for path in Path(place.url).rglob("*"):
        if path.is_file():
            (target / str(path.relative_to(place.url))).write_bytes(path.read_bytes())
    return target


def same(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> None:
    np.testing.assert_array_equal(bits(found.view("u1") if found.dtype == bool else found), bits(expected))


@pytest.mark.parametrize(("packers", "dtype", "order", "keys", "index"), CASES)
@pytest.mark.filterwarnings("ignore::UserWarning:zarr")
def test_a_foreign_array_is_read_and_written(
    packers: str, dtype: str, order: str, keys: dict[str, Any], index: str, folder: Path
) -> None:
    block = voxels(dtype)
    box, region = Box((1, 1, 5, 2), (2, 7, 9, 6)), Box((0, 4, 3, 1), (2, 8, 8, 7))
    piece = voxels(dtype, 1)[region.slices]
    place = written(
        "zarr" if len(packers) % 2 else "tensorstore", document(PACKERS[packers], dtype, order, keys, index), block, folder
    )
    for at in (place, in_memory(place, folder)):
        array = open_array(at, "zarr3")
        assert isinstance(array, Zarr3Array) and array.layout.chain
        assert (array.spec.chunk, array.spec.unit) == (CHUNK, CHUNK if index == "none" else UNIT)
        assert array.spec.dtype == ("uint8" if dtype == "bool" else dtype)
        same(whole(array), block)
        same(array.read(box), block[box.slices])
        array.write(region, piece)
        changed = block.copy()
        changed[region.slices] = piece
        same(whole(open_array(at, "zarr3")), changed)
        local = downloaded(array, folder)
        same(by_zarr(local), changed)
        same(by_tensorstore(local), changed)
        assert all(array.inspect(unit) for unit in array.written_units())
        empty = np.full(SHAPE, array.spec.fill, array.spec.dtype)
        array.write(array.spec.grid.box, empty)
        assert not list(array.written_units())
        same(whole(array), empty)
        if not np.any(bits(empty)):
            continue
        array.write(array.spec.grid.box, np.zeros(SHAPE, array.spec.dtype))
        assert list(array.written_units())
        assert not bits(by_zarr(downloaded(array, folder)).view(array.spec.dtype)).any()


INDEX = [bytes_codec("uint64"), CRC]


def sharding(chunk: list[int], codecs: list[dict[str, Any]]) -> dict[str, Any]:
    return {"name": "sharding_indexed", "configuration": {"chunk_shape": chunk, "codecs": codecs, "index_codecs": INDEX}}


INNER = sharding([2, 2, 2, 2], [bytes_codec("uint16"), *PACKERS["zstd"]])
GENERAL: dict[str, list[dict[str, Any]]] = {
    "nested": [sharding([2, 4, 4, 10], [INNER])],
    "transposed shards": [{"name": "transpose", "configuration": {"order": [1, 0, 2, 3]}}, INNER],
    "packed shards": [sharding([2, 4, 4, 10], [bytes_codec("uint16")]), *PACKERS["gzip"]],
    "numcodecs.zlib": [bytes_codec("uint16"), {"name": "numcodecs.zlib", "configuration": {"level": 1}}],
    "numcodecs.delta": [{"name": "numcodecs.delta", "configuration": {"dtype": "<u2"}}, bytes_codec("uint16")],
}


@pytest.mark.parametrize("name", GENERAL)
@pytest.mark.filterwarnings("ignore::UserWarning:zarr")
def test_what_only_others_decode_is_read_and_not_written(name: str, folder: Path) -> None:
    made = document([], "uint16") | {"codecs": GENERAL[name]}
    made["chunk_grid"] = {"name": "regular", "configuration": {"chunk_shape": [2, 8, 4, 10]}}
    block = voxels("uint16")
    place = written("zarr", made, block, folder)
    box = Box((1, 1, 2, 0), (2, 8, 7, 6))
    for at in (place, in_memory(place, folder)):
        array = open_array(at, "zarr3")
        same(whole(array), block)
        same(array.read(box), block[box.slices])
        with pytest.raises(InputError, match="can not be written: its codecs include") as caught:
            array.write(array.spec.grid.box, block)
        assert (name if "." in name else "shard") in str(caught.value)


def test_orders_as_drafts_of_the_specification_spelled_them(folder: Path) -> None:
    for order, turn in (("F", [3, 2, 1, 0]), ("C", [0, 1, 2, 3])):
        made = document(PACKERS["blosc lz4 shuffle"], "uint8", "F", KEYS[1])
        made["codecs"][0]["configuration"]["order"] = turn
        block = voxels("uint8")
        place = written("zarr", made, block, folder)
        made["codecs"][0]["configuration"]["order"] = order
        (place / "zarr.json").write_bytes(json.dumps(made).encode())
        for at in (place, in_memory(place, folder)):
            array = open_array(at, "zarr3")
            same(whole(array), block)
            array.write(array.spec.grid.box, block[::-1])
            same(whole(array), block[::-1])


@pytest.mark.parametrize("keys", ["default", "v2", {"name": "v2"}])
@pytest.mark.parametrize("data_type", ["uint16", {"name": "uint16"}, {"name": "uint16", "configuration": {}}])
@pytest.mark.parametrize("names", [list("cxyz"), [None] * 4, ["c", None, None, None]])
def test_short_and_long_spellings(keys: Any, data_type: Any, names: list[str | None], folder: Path) -> None:
    block = voxels("uint16")
    made = document(PACKERS["zstd"], "uint16", "F", {"name": keys} if isinstance(keys, str) else keys, INDEXES[1])
    place = written("tensorstore", made, block, folder)
    spelled = made | {"chunk_key_encoding": keys, "data_type": data_type, "dimension_names": names}
    (place / "zarr.json").write_bytes(json.dumps(spelled).encode())
    for at in (place, in_memory(place, folder)):
        array = open_array(at, "zarr3")
        same(whole(array), block)
        array.write(array.spec.grid.box, block[::-1])
        same(whole(open_array(at, "zarr3")), block[::-1])
        array.resize((2, 8, 9, 8))
        assert open_array(at, "zarr3").spec.shape == (2, 8, 9, 8)


OURS = ["none", "zstd:1", "gzip:9", "blosc-lz4:5", "blosc-lz4hc:9", "blosc-zstd:3", "blosc-zlib:1", "blosc-blosclz:0"]


@pytest.mark.parametrize("codec", OURS)
@pytest.mark.parametrize("axes", ["cxyz", "tczyx", "yx"])
@pytest.mark.parametrize("kind", ["local", "memory"])
def test_what_we_write_is_read_by_others(codec: str, axes: str, kind: str, folder: Path) -> None:
    count = len(axes)
    shape = (*(2,) * count, 5, 9, 7)[-count:]
    for dtype, units in (("uint8", 1), ("uint16", 2), ("float64", 2)):
        chunk = (*(1,) * count, 3, 4, 5)[-count:]
        spec = ArraySpec(shape, dtype, tuple(axes), chunk, tuple(units * n for n in chunk), parse_codec(codec), fill=3)
        array = Zarr3().create(fresh_place(kind, folder), spec)
        block = noise(spec.grid.box, dtype)
        array.write(spec.grid.box, block)
        same(whole(array), block)
        assert open_array(array.location, "zarr3") == array
        local = downloaded(array, folder)
        for others in (by_zarr(local), by_tensorstore(local)):
            assert others.dtype == dtype
            same(others, block)
        inner = json.loads((array.location / "zarr.json").read_bytes())["codecs"]
        inner = inner[0]["configuration"]["codecs"] if units > 1 else inner
        assert [c["name"] for c in inner][:1] == (["bytes"] if axes[-1] == "x" else ["transpose"])
        if codec.startswith("blosc"):
            assert inner[-1]["configuration"]["shuffle"] == ("bitshuffle" if dtype == "uint8" else "shuffle")


@pytest.mark.parametrize("fill", [0.0, -0.0, 1.5, float("nan"), float("inf"), float("-inf")])
def test_values_of_missing_voxels(fill: float, folder: Path) -> None:
    spec = ArraySpec((4, 4), "float32", ("x", "y"), (2, 2), (4, 4), fill=fill)
    array = Zarr3().create(fresh_place("local", folder), spec)
    expected = np.full((4, 4), fill, "float32")
    for found in (whole(array), by_zarr(array.location.url), by_tensorstore(array.location.url)):
        same(np.asarray(found), expected)
    same(whole(open_array(in_memory(array.location, folder), "zarr3")), expected)


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_bool_takes_no_other_numbers(kind: str, folder: Path) -> None:
    place = fresh_place(kind, folder)
    (place / "zarr.json").write_bytes(json.dumps(document([], "bool")).encode())
    array = open_array(place, "zarr3")
    with pytest.raises(InputError, match="up to 2"):
        array.write(array.spec.grid.box, np.full(SHAPE, 2, "uint8"))


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_any_byte_but_zero_is_true(kind: str, folder: Path) -> None:
    """Or damage: tensorstore refuses it."""
    place = fresh_place(kind, folder)
    (place / "zarr.json").write_bytes(json.dumps(document([], "bool")).encode())
    array = open_array(place, "zarr3")
    array.unit_location((0, 0, 0, 0)).write_bytes(bytes([0, 1, 7, 255] * 15))
    try:
        found = array.read(Box((0, 0, 0, 0), CHUNK)).ravel()
    except DamagedError:
        found = np.array([0, 1, 1, 1] * 15)
    np.testing.assert_array_equal(found, [0, 1, 1, 1] * 15)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"codecs": [bytes_codec("uint16"), {"name": "nosuch"}]}, "'nosuch' is not known.*Install"),
        ({"codecs": [bytes_codec("uint16"), {"name": "numcodecs.pickle"}]}, "pickle"),
        ({"codecs": [{"name": "vlen-utf8"}], "data_type": "string"}, "data_type is 'string'"),
        ({"codecs": [{"name": "vlen-bytes"}], "data_type": "variable_length_bytes"}, "data_type"),
        ({"storage_transformers": [{"name": "moving"}]}, "storage_transformers.*moving"),
        ({"a": {"name": "a"}}, "extension 'a'"),
        ({"a": {"must_understand": True}}, "extension 'a'"),
        ({"data_type": {"name": "uint16", "configuration": {"unit": "s"}}}, "data_type is.*unit"),
        ({"chunk_key_encoding": "fanout"}, "chunk_key_encoding is 'fanout'"),
        ({"dimension_names": ["c", "x", "y", "x"]}, "dimension_names.*a name of its own"),
        ({"shape": [], "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": []}}}, "single value without axes"),
        ({"fill_value": 2**16}, "fill_value"),
        ({"fill_value": "NaN"}, "fill_value"),
        ({"fill_value": 0.5}, "fill_value"),
        ({"fill_value": True}, "fill_value"),
        ({"fill_value": 1.0, "data_type": "bool", "codecs": [{"name": "bytes"}]}, "fill_value"),
        ({"fill_value": 1e300, "data_type": "float32"}, "fill_value"),
        ({"fill_value": "0x12", "data_type": "float32"}, "fill_value"),
    ],
)  # fmt: skip
def test_what_is_refused_by_name(change: dict[str, Any], word: str, folder: Path) -> None:
    place = fresh_place("local", folder)
    (place / "zarr.json").write_bytes(json.dumps(document([], "uint16") | change).encode())
    with pytest.raises(MetadataError, match=word) as caught:
        open_array(place, "zarr3")
    assert str(place) in str(caught.value)


def test_what_need_not_be_understood_is_left_alone(folder: Path) -> None:
    made = document([], "uint16") | {"a": {"must_understand": False}, "storage_transformers": []}
    block = voxels("uint16")
    place = written("tensorstore", made, block, folder)
    same(whole(open_array(place, "zarr3")), block)
