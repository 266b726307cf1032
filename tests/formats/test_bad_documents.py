"""`zarr.json`: what we write is what WEBKNOSSOS writes; whatever else lies there ends in one sentence that names it."""

from __future__ import annotations

import copy
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import examples
from tests.formats.arrays import KINDS, fresh_place, make, whole
from wkdask.errors import DatasetExistsError, DatasetNotFoundError, InputError, MetadataError, WkdaskError
from wkdask.formats import ArraySpec, Codec, Zarr3, find_format, open_array, parse_codec
from wkdask.formats.zarr3_document import build_document, own_layout, parse_document
from wkdask.geometry.grid import Box

SPEC = ArraySpec((3, 64, 128, 32), "uint16", tuple("cxyz"), (3, 32, 32, 32), (3, 64, 64, 32), Codec("zstd", 5))
CRC = {"name": "crc32c"}
LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
INNER = [
    {"name": "transpose", "configuration": {"order": [3, 2, 1, 0]}},
    LITTLE,
    {"name": "zstd", "configuration": {"level": 5, "checksum": True}},
]
SHARD = {"chunk_shape": [3, 32, 32, 32], "codecs": INNER, "index_codecs": [LITTLE, CRC]}
DOCUMENT: dict[str, Any] = {
    "zarr_format": 3,
    "node_type": "array",
    "shape": [3, 64, 128, 32],
    "data_type": "uint16",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [3, 64, 64, 32]}},
    "chunk_key_encoding": {"name": "default"},
    "fill_value": 0,
    "codecs": [{"name": "sharding_indexed", "configuration": SHARD}],
    "dimension_names": ["c", "x", "y", "z"],
    "attributes": {},
}


def changed(*path: str | int, to: object) -> dict[str, Any]:
    """Return the document with one member replaced."""
    found = copy.deepcopy(DOCUMENT)
    at: Any = found
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = to
    return found


def without(*path: str | int) -> dict[str, Any]:
    """Return the document with one member left out."""
    found = copy.deepcopy(DOCUMENT)
    at: Any = found
    for key in path[:-1]:
        at = at[key]
    del at[path[-1]]
    return found


def paths(node: Any, head: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the paths to all members of a document."""
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [found for key, below in inner for found in [(*head, key), *paths(below, (*head, key))]]


SHARDED = ("codecs", 0, "configuration")


def test_the_document_of_a_sharded_array() -> None:
    assert json.loads(build_document(SPEC)) == DOCUMENT
    spec, layout = parse_document(build_document(SPEC), "x")
    assert spec == SPEC and layout == own_layout(SPEC) and layout.index


def test_the_document_without_shards_or_compressor() -> None:
    spec = ArraySpec((1, 32, 32, 32), "uint8", tuple("cxyz"), (1, 32, 32, 32), (1, 32, 32, 32), None)
    document = json.loads(build_document(spec))
    assert document["codecs"] == [{"name": "transpose", "configuration": {"order": [3, 2, 1, 0]}}, {"name": "bytes"}]
    assert document["chunk_grid"]["configuration"]["chunk_shape"] == [1, 32, 32, 32]
    assert parse_document(build_document(spec), "x")[0] == spec


def test_the_document_of_floats_and_gzip() -> None:
    spec = ArraySpec((8, 8), "float32", ("x", "y"), (4, 4), (8, 8), Codec("gzip", 3))
    document = json.loads(build_document(spec))
    assert document["codecs"][0]["configuration"]["codecs"][2] == {"name": "gzip", "configuration": {"level": 3}}
    assert document["fill_value"] == 0.0 and document["data_type"] == "float32"
    assert parse_document(build_document(spec), "x")[0] == spec


@pytest.mark.parametrize(
    ("document", "word"),
    [
        (changed("zarr_format", to=2), "zarr_format is '2'"),
        (changed("zarr_format", to="x" * 10**6), "zarr_format"),
        (changed("node_type", to="group"), "group"),
        (changed("data_type", to="complex64"), "complex64"),
        (changed("data_type", to="float16"), "float16"),
        (changed("data_type", to={"name": ["uint8"]}), "data_type|unhashable"),
        (changed("shape", to=[1, 2.5, 3, 4]), "shape"),
        (changed("shape", to=[1, -2, 3, 4]), "shape"),
        (changed("shape", to=[1, True, 3, 4]), "shape"),
        (changed("shape", to=[1, 10**30, 3, 4]), "shape"),
        (changed("shape", to=[]), "shape"),
        (changed("shape", to="1234"), "shape"),
        (changed("shape", to=[1, 2, 3]), "axes"),
        (changed("shape", to=[1] * 33), "shape has 33 axes, expected 32 at most"),
        (changed("codecs", to=[LITTLE, *[CRC] * 10**5]), "there are 100001 codecs one after the other, expected 32 at most"),
        (changed(*SHARDED, "codecs", to=[*INNER, *[CRC] * 40]), "codecs one after the other"),
        (changed("chunk_grid", "name", to="rectilinear"), "rectilinear"),
        (changed("chunk_grid", "configuration", "chunk_shape", to=[3, 64, 64, 0]), "chunk_shape"),
        (changed("chunk_grid", "configuration", "chunk_shape", to=[3, 64, 64, 33]), "does not divide"),
        (changed(*SHARDED, "chunk_shape", to=[3, 48, 32, 32]), "does not divide"),
        (changed("chunk_grid", "configuration", "chunk_shape", to=[3, 64, 64]), "number of axes"),
        (changed("codecs", to=[]), "no Zarr 3 array document"),
        (changed("codecs", to=[{"name": "x" * 10**6}]), "the codec 'x{80}' is not known"),
        (changed("codecs", to=None), "no Zarr 3 array document"),
        (changed("codecs", to=[{"name": "bytes"}] * 2 + [3]), "no Zarr 3 array document"),
        (changed(*SHARDED, "codecs", 2, "configuration", "level", to=23), "level of zstd is 23"),
        (changed(*SHARDED, "codecs", 2, "configuration", "level", to="5"), "level of zstd"),
        (changed(*SHARDED, "codecs", 2, "configuration", "level", to=10**40), "level of zstd"),
        (changed(*SHARDED, "codecs", 2, "configuration", "level", to=float("inf")), "level of zstd"),
        (changed(*SHARDED, "codecs", 2, to={"name": "gzip", "configuration": {"level": 10}}), "level of gzip"),
        (changed("chunk_key_encoding", "name", to="suffix"), "suffix"),
        (changed("chunk_key_encoding", "configuration", to={"separator": "../"}), r"'\.\./'"),
        (changed(*SHARDED, "index_codecs", 0, to={"name": "bytes"}), "endian of bytes is 'None'"),
        (changed("fill_value", to="NaN"), "fill_value is 'NaN'"),
        (changed("dimension_names", to=["x", "y"]), "dimension_names"),
        (changed("dimension_names", to="cxyz"), "dimension_names"),
        (changed("dimension_names", to={"c": 1, "x": 1, "y": 1, "z": 1}), "dimension_names"),
        *[
            (without(*path), str(path[-1]))
            for path in [
                *[(key,) for key in ("zarr_format", "node_type", "shape", "data_type", "chunk_grid", "codecs")],
                *[("chunk_grid", "configuration"), ("chunk_key_encoding",)],
                *[(*SHARDED, "chunk_shape"), (*SHARDED, "index_codecs")],
            ]
        ],
    ],
)
def test_documents_that_are_refused(document: dict[str, Any], word: str) -> None:
    with pytest.raises(MetadataError, match=word) as caught:
        parse_document(json.dumps(document).encode(), "/ds/color/1/zarr.json")
    assert str(caught.value).startswith("/ds/color/1/zarr.json") and len(str(caught.value)) < 600


@pytest.mark.parametrize("nested", ["[", '{"a":', "[[],"])
@pytest.mark.parametrize("data", [b"", b"\xff\xfe\x00", b"{", b"[]", b"3", b"null", b'"x"', b"NaN", b"9" * 10_000, b"[" * 200])
def test_what_is_no_document_at_all(data: bytes, nested: str) -> None:
    for bad in (data, nested.encode() * 100_000, (nested * 900).encode() + data):
        with pytest.raises(MetadataError, match=r"^zarr\.json"):
            parse_document(bad, "zarr.json")


@pytest.mark.parametrize(
    "document",
    [
        changed(*SHARDED, "index_codecs", 0, "configuration", "endian", to="big"),
        changed(*SHARDED, "index_codecs", to=[LITTLE]),
        changed(*SHARDED, "index_location", to="start"),
        changed(*SHARDED, "codecs", 0, "configuration", "order", to=[0, 1, 2, 3]),
        changed(*SHARDED, "codecs", 1, "configuration", "endian", to="big"),
        changed(*SHARDED, "codecs", to=INNER[1:]),
        changed(*SHARDED, "codecs", to=[*INNER, CRC]),
        changed("codecs", to=[*DOCUMENT["codecs"], CRC]),
        changed("fill_value", to=1),
    ],
)
def test_layouts_that_are_not_ours_are_known_as_such(document: dict[str, Any]) -> None:
    spec, layout = parse_document(json.dumps(document).encode(), "x")
    assert (spec, layout) != (SPEC, own_layout(SPEC))


def test_names_of_axes_may_be_missing() -> None:
    for names in (None, [None] * 4, ["c", None, "y", "z"]):
        spec, layout = parse_document(json.dumps(changed("dimension_names", to=names)).encode(), "x")
        assert spec.axes == tuple("cxyz") and layout.by_tensorstore == (names is not None)  # which refuses null
    assert parse_document(json.dumps(without("dimension_names")).encode(), "x")[0].axes == tuple("cxyz")


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5)
    | st.sampled_from(["zstd", "bytes", "transpose", "sharding_indexed", "uint8", "/", "default", "v2", 2**31, 2**61, 1e300]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["name", "configuration", "level"]), inner),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=examples(300))
@given(data=st.data())
def test_any_change_of_a_document_is_read_or_refused(data: st.DataObject, folder: Path) -> None:
    """Both engines too: whatever the document claims, reading a voxel gives one or an error of ours, and stays small."""
    path = data.draw(st.sampled_from(paths(DOCUMENT)))
    document = changed(*path, to=data.draw(anything)) if data.draw(st.integers(0, 4)) else without(*path)
    raw = json.dumps(document).encode()
    try:
        spec, _ = parse_document(raw, "/ds/zarr.json")
        said = "/ds/zarr.json"
    except MetadataError as error:
        spec, said = None, str(error)
    assert said.startswith("/ds/zarr.json") and len(said) < 1000
    if spec is None or 0 in spec.shape:
        return
    for kind in KINDS:
        place = fresh_place(kind, folder)
        (place / "zarr.json").write_bytes(raw)
        array = open_array(place, "zarr3")
        assert array.spec == spec
        (array.unit_location((0,) * len(spec.shape))).write_bytes(b"x" * 100)
        voxel = Box((0,) * len(spec.shape), (1,) * len(spec.shape))
        try:
            said = f"{place}: {array.read(voxel).size}"
        except WkdaskError as error:
            said = str(error)
        assert str(place) in said


@pytest.mark.parametrize("kind", KINDS)
def test_huge_claims_cost_nothing(kind: str, folder: Path) -> None:
    place = fresh_place(kind, folder)
    edge = 2**61
    document = changed("shape", to=[3, edge, edge, edge])
    document["chunk_grid"]["configuration"]["chunk_shape"] = [3, edge, edge, edge]
    (place / "zarr.json").write_bytes(json.dumps(document).encode())
    array = open_array(place, "zarr3")
    array.unit_location((0, 0, 0, 0)).write_bytes(b"x" * 1000)
    tracemalloc.start()
    for act in (lambda: array.read(Box((0, 0, 0, 0), (1, 1, 1, 1))), lambda: array.inspect((0, 0, 0, 0))):
        with pytest.raises(WkdaskError, match=str(place)):
            act()
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()
    big = changed(*SHARDED, "chunk_shape", to=[3, 2**20, 2**20, 2**20])
    big["chunk_grid"]["configuration"]["chunk_shape"] = [3, 2**20, 2**20, 2**20]
    with pytest.raises(MetadataError, match="a chunk of"):
        parse_document(json.dumps(big).encode(), "x")


@pytest.mark.parametrize("kind", KINDS)
def test_places_without_an_array(kind: str, folder: Path) -> None:
    place = fresh_place(kind, folder)
    assert not Zarr3().detect(place)
    with pytest.raises(DatasetNotFoundError, match=r"zarr\.json is missing"):
        open_array(place, "zarr3")
    array = make(place)
    assert Zarr3().detect(place)
    with pytest.raises(DatasetExistsError, match="exists already"):
        Zarr3().create(place, array.spec)
    assert not whole(array).any()


@pytest.mark.parametrize("dtype", ["bool", "float16", "complex64", "<u2", "U5"])
def test_voxels_that_have_no_place(dtype: str, folder: Path) -> None:
    place = fresh_place("local", folder)
    with pytest.raises(InputError, match="uint8"):
        Zarr3().create(place, ArraySpec((8,), dtype, ("x",), (8,), (8,)))
    assert not Zarr3().detect(place)


def test_formats_by_name() -> None:
    assert isinstance(find_format("zarr3"), Zarr3)
    with pytest.raises(InputError, match="zarr3"):
        find_format("nosuch")


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        ("zstd", Codec("zstd", 5)),
        ("zstd:-7", Codec("zstd", -7)),
        (" GZIP:0 ", Codec("gzip", 0)),
        ("gzip", Codec("gzip", 5)),
        ("lz4", Codec("lz4")),
        ("LZ4HC", Codec("lz4hc", 9)),
        ("lz4hc:12", Codec("lz4hc", 12)),
        ("none", None),
    ],
)
def test_names_of_codecs(text: str, codec: Codec | None) -> None:
    assert parse_codec(text) == codec
    if codec:
        assert parse_codec(str(codec)) == codec


@pytest.mark.parametrize(
    "text",
    [
        "",
        "zstd:23",
        "zstd:x",
        "zstd:1.5",
        "gzip:-1",
        "gzip:10",
        "lz4:1",
        "lz4hc:2",
        "lz4hc:13",
        "lz5",
        "none:1",
        "zstd:-8",
        ":5",
    ],
)
def test_codecs_that_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"NAME|Write it as"):
        parse_codec(text)


def test_numbers_of_a_document_are_plain(folder: Path) -> None:
    place = fresh_place("local", folder)
    array = make(place, dtype="float64")
    assert all(type(n) is int for n in (*array.spec.shape, *open_array(place, "zarr3").spec.chunk))
    assert np.dtype(open_array(place, "zarr3").spec.dtype) == np.float64
