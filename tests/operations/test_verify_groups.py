"""Verifying finds damaged documents of the groups by which other readers find arrays, and bytes that no reader looks at."""

from __future__ import annotations

import json
from pathlib import Path

import numcodecs
import numpy as np
import pytest

import wkdask as wk
from wkdask.formats import open_array, parse_codec
from wkdask.operations.verify import verify
from wkdask.storage import Location


@pytest.mark.parametrize(
    ("data_format", "name"), [("zarr3", "zarr.json"), ("zarr", ".zgroup"), ("zarr", ".zattrs"), ("n5", "attributes.json")]
)
def test_damaged_documents_of_groups_are_named(data_format: str, name: str, tmp_path: Path) -> None:
    box = wk.BoundingBox((0, 0, 0), (32, 32, 32))
    layer = wk.Dataset(str(tmp_path / "a"), voxel_size=(4, 4, 40)).add_layer(
        "em", "color", dtype="uint8", data_format=data_format, bounding_box=box
    )
    layer.add_mag(1, chunk_shape=32).write(np.ones((1, 32, 32, 32), "uint8"), absolute_offset=(0, 0, 0))
    place, documents = Location(str(tmp_path / "a")), [tmp_path / "a" / "em" / name]
    documents += [tmp_path / "a" / name] if (tmp_path / "a" / name).is_file() else []
    documents += [tmp_path / "a" / "em" / "1" / name] if name == ".zattrs" else []
    assert len(documents) == 2
    assert not verify(place).faults
    for document in documents:
        require_named(place, document)


def require_named(place: Location, document: Path) -> None:
    """Check that each kind of damage to a document is found, and nothing else."""
    sound = document.read_bytes() if document.is_file() else b"{}"
    for bad in (sound[:-1], b"", b"[]", b"\xff" + sound, b"[" * 100_000):
        document.write_bytes(bad)
        [fault] = verify(place).faults
        assert (fault.kind, fault.path) == ("document", str(document))
    document.write_bytes(sound)
    assert not verify(place).faults


CODECS = [
    ("zarr", "gzip:1"),
    ("zarr", "zstd:1"),
    ("n5", "gzip:1"),
    ("n5", "zstd:1"),
    ("n5", "lz4"),
    ("wkw", "none"),
    ("wkw", "lz4"),
]


@pytest.mark.parametrize(("data_format", "codec"), CODECS)
def test_bytes_behind_a_unit_are_named(data_format: str, codec: str, tmp_path: Path) -> None:
    box = wk.BoundingBox((0, 0, 0), (32, 32, 32))
    layer = wk.Dataset(str(tmp_path / "a"), voxel_size=(4, 4, 40)).add_layer(
        "em", "color", dtype="uint8", data_format=data_format, bounding_box=box
    )
    mag = layer.add_mag(1, chunk_shape=32, compress=parse_codec(codec) or False)
    mag.write(np.random.default_rng(0).integers(0, 9, (1, 32, 32, 32)).astype("uint8"), absolute_offset=(0, 0, 0))
    place = Location(str(tmp_path / "a"))
    assert not verify(place).faults
    array = open_array(place / "em/1", data_format, (32, 32, 32))
    [unit] = array.written_units()
    file = Path(array.unit_location(unit).url)
    with file.open("ab") as out:
        out.write(b"x")
    [fault] = verify(place).faults
    assert (fault.kind, fault.path) == ("damaged", str(file)) and "behind its data" in fault.reason


OTHERS = {"lzma": "xz", "bz2": "bzip2", "zlib": "gzip", "lz4": None}
"""What numcodecs calls compressors that we do not write, and what N5 does; its lz4 is another one."""


@pytest.mark.parametrize(
    ("data_format", "codec"), [*(("zarr", codec) for codec in OTHERS), *(("n5", codec) for codec in OTHERS if OTHERS[codec])]
)
def test_bytes_behind_units_of_other_writers_are_named(data_format: str, codec: str, tmp_path: Path) -> None:
    box = wk.BoundingBox((0, 0, 0), (32, 32, 32))
    layer = wk.Dataset(str(tmp_path / "a"), voxel_size=(4, 4, 40)).add_layer(
        "em", "color", dtype="uint8", data_format=data_format, bounding_box=box
    )
    layer.add_mag(1, chunk_shape=32, compress=False).write(np.ones((1, 32, 32, 32), "uint8"), absolute_offset=(0, 0, 0))
    place, folder = Location(str(tmp_path / "a")), tmp_path / "a/em/1"
    array = open_array(place / "em/1", data_format, (32, 32, 32))
    [unit] = array.written_units()
    file, document = Path(array.unit_location(unit).url), folder / ("attributes.json" if data_format == "n5" else ".zarray")
    head = 4 + 4 * 4 if data_format == "n5" else 0
    said = {"type": OTHERS[codec], "useZlib": True} if data_format == "n5" else {"id": codec}
    name = "compression" if data_format == "n5" else "compressor"
    document.write_text(json.dumps(json.loads(document.read_text()) | {name: said}))
    data = file.read_bytes()
    packed = data[:head] + numcodecs.get_codec({"id": codec}).encode(data[head:])
    file.write_bytes(packed)
    np.testing.assert_array_equal(wk.Dataset.open(place).get_layer("em").get_mag(1).read(), 1)
    assert [fault.kind for fault in verify(place).faults] == []
    file.write_bytes(packed + b"x")
    [fault] = verify(place).faults
    assert (fault.kind, fault.path) == ("damaged", str(file))
