import json
from typing import Any

import numpy as np
import pytest

from wkdask.errors import InputError, MetadataError
from wkdask.metadata import (
    AttachmentProperties,
    LengthUnit,
    MagProperties,
    PathKind,
    VoxelSize,
    classify_path,
    dtype_name,
    from_element_class,
    ome_attributes,
    resolve_relative,
    to_element_class,
    validate_layer_name,
)

TABLE = [
    ("uint8", 1, "uint8"),
    ("uint8", 2, "uint16"),
    ("uint8", 3, "uint24"),
    ("uint8", 4, "uint32"),
    ("uint16", 1, "uint16"),
    ("uint16", 2, "uint32"),
    ("uint16", 3, "uint48"),
    ("uint16", 4, "uint64"),
    ("int8", 1, "int8"),
    ("int8", 2, "int16"),
    ("int8", 3, "int24"),
    ("int16", 2, "int32"),
    ("int16", 3, "int48"),
    ("int32", 1, "int32"),
    ("int64", 1, "int64"),
    ("uint32", 1, "uint32"),
    ("uint32", 2, "uint64"),
    ("uint32", 3, "uint96"),
    ("uint64", 1, "uint64"),
    ("uint64", 2, "uint128"),
    ("uint64", 3, "uint192"),
    ("float32", 1, "float"),
    ("float32", 2, "double"),
    ("float32", 3, "float96"),
    ("float32", 4, "float128"),
    ("float64", 1, "double"),
    ("float64", 2, "float128"),
    ("float64", 3, "float192"),
    ("float64", 4, "float256"),
]


@pytest.mark.parametrize(("dtype", "channels", "element_class"), TABLE)
def test_element_class(dtype: str, channels: int, element_class: str) -> None:
    assert to_element_class(dtype, channels) == element_class
    assert to_element_class(np.dtype(dtype), channels) == element_class
    assert from_element_class(element_class, channels) == (dtype, channels, None)


@pytest.mark.parametrize(
    ("element_class", "channels", "expected"),
    [
        ("uint8", 3, ("uint8", 3)),
        ("float", 3, ("float32", 3)),
        ("uint16", 3, ("uint16", 3)),
        ("uint24", 1, ("uint8", 3)),
    ],
)
def test_element_class_that_does_not_fit(element_class: str, channels: int, expected: tuple[str, int]) -> None:
    dtype, number, doubt = from_element_class(element_class, channels)
    assert (dtype, number) == expected
    assert doubt is not None
    assert element_class in doubt


def test_element_class_without_channels() -> None:
    assert from_element_class("uint24", None) == ("uint8", 3, None)
    assert from_element_class("uint16", None) == ("uint16", 1, None)


@pytest.mark.parametrize(
    ("element_class", "channels"), [("uint7", 1), ("bool", 1), ("uint24", 2), ("uint" + "9" * 5000, 1), ("", 1)]
)
def test_no_element_class(element_class: str, channels: int) -> None:
    with pytest.raises(InputError):
        from_element_class(element_class, channels)


@pytest.mark.parametrize("dtype", ["float16", "bool", "complex64", np.float16, 8, None, "uint8 "])
def test_no_dtype(dtype: Any) -> None:
    with pytest.raises(InputError):
        dtype_name(dtype)


def test_scalar_types_are_dtypes() -> None:
    assert dtype_name(np.uint8) == "uint8"


def test_units() -> None:
    assert len(LengthUnit) == 26
    assert LengthUnit.METER.in_nanometer == 1e9
    assert (LengthUnit.parse("Mm"), LengthUnit.parse("mm")) == (LengthUnit.MEGAMETER, LengthUnit.MILLIMETER)
    assert LengthUnit.parse("\u212b") is LengthUnit.parse("\u00c5") is LengthUnit.ANGSTROM
    assert LengthUnit.parse("pc") is LengthUnit.PARSEC
    with pytest.raises(InputError, match="cubit"):
        LengthUnit.parse("cubit")


def test_voxel_sizes() -> None:
    assert VoxelSize.parse("(4, 4.5,35)") == VoxelSize((4, 4.5, 35))
    assert VoxelSize.parse([1, 1, 1], "inch").to_nanometer() == (2.54e7,) * 3
    assert VoxelSize((1, 1, 1)) != VoxelSize((1, 1, 1), LengthUnit.METER)
    assert hash(VoxelSize((1, 1, 1))) == hash(VoxelSize((1.0, 1.0, 1.0)))
    assert VoxelSize(np.array([1, 2, 3])).factor == (1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    "factor", [(1, 1), (0, 1, 1), (float("nan"), 1, 1), (1, float("inf"), 1), (10**400, 1, 1), "123", 5, None]
)
def test_no_voxel_size(factor: Any) -> None:
    with pytest.raises(InputError, match="three finite positive numbers"):
        VoxelSize(factor)


@pytest.mark.parametrize("text", ["", "1", "1,2", "a,b,c", "1,2,-3", "nan,1,1", "1,2,3,4"])
def test_no_voxel_size_in_a_text(text: str) -> None:
    with pytest.raises(InputError):
        VoxelSize.parse(text)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("./color/1", PathKind.RELATIVE),
        ("color/1", PathKind.RELATIVE),
        ("a/../b", PathKind.RELATIVE),
        ("../a", PathKind.OUTSIDE),
        ("./a/../../a", PathKind.OUTSIDE),
        ("/data/a", PathKind.ABSOLUTE),
        ("C:\\data", PathKind.ABSOLUTE),
        ("d:/data", PathKind.ABSOLUTE),
        ("\\\\host\\share", PathKind.ABSOLUTE),
        ("https://host/a", PathKind.URL),
        ("file:///a", PathKind.URL),
        ("file:/a", PathKind.URL),
        ("simplecache::https://host/a", PathKind.URL),
        ("S3://host/bucket/a", PathKind.S3),
    ],
)
def test_kinds_of_paths(path: str, kind: PathKind) -> None:
    assert classify_path(path) is kind


def test_relative_paths() -> None:
    assert resolve_relative(".//color/./x/../1/") == "color/1"
    assert MagProperties.new(2).candidates("a") == ("a/2", "a/2-2-2")
    assert MagProperties.new("2-2-1").candidates("a") == ("a/2-2-1",)
    assert MagProperties.new(2, path="b/c").relative_path("a") == "b/c"


@pytest.mark.parametrize(
    "path",
    [
        "..",
        "../a",
        "a/../../b",
        "a/%2e%2e/%2E./b",
        "%2e%2e/a",
        "a\0b",
        "a\\..\\b",
        "",
        ".",
        "a/..",
        "/etc",
        "https://h/a",
        "a%00b",
    ],
)
def test_paths_that_are_refused(path: str) -> None:
    with pytest.raises(MetadataError):
        MagProperties.new(1, path=path).relative_path("color")
    with pytest.raises(MetadataError):
        AttachmentProperties(name="a", path=path, data_format="zarr3").relative_path()


@pytest.mark.parametrize("name", ["../a", "", ".a", "a b", "a/b", "a\n", "ä", None, "a\0"])
def test_names_that_are_refused(name: Any) -> None:
    with pytest.raises(InputError, match="is not a layer name"):
        validate_layer_name(name)
    with pytest.raises(MetadataError):
        MagProperties.new(1).relative_path(name)


@pytest.mark.parametrize("mag", [0, "2-2", "a", [1, 2], 1.5, True, [1, 1, 1, 1], None, "1-1-1-1", 3])
def test_no_mag(mag: Any) -> None:
    with pytest.raises(InputError):
        MagProperties.new(mag)


def test_ome_attributes() -> None:
    found = ome_attributes(("t", "c", "x", "y", "z", "q"), VoxelSize((0.5, 0.5, 1), LengthUnit.MICROMETER), ["2-2-1", 1])
    assert found["ome"]["version"] == "0.5"
    (multiscale,) = found["ome"]["multiscales"]
    assert multiscale["axes"] == [
        {"name": "t", "type": "time"},
        {"name": "c", "type": "channel"},
        {"name": "x", "type": "space", "unit": "nanometer"},
        {"name": "y", "type": "space", "unit": "nanometer"},
        {"name": "z", "type": "space", "unit": "nanometer"},
        {"name": "q"},
    ]
    assert multiscale["datasets"] == [
        {"path": "1", "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 500, 500, 1000, 1]}]},
        {"path": "2-2-1", "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 1000, 1000, 1000, 1]}]},
    ]
    json.dumps(found, allow_nan=False)


def test_ome_attributes_of_older_version() -> None:
    found = ome_attributes("cxyz", VoxelSize((1, 1, 1)), [(1, "1-1-1")], name="a", version="0.4")
    (multiscale,) = found["multiscales"]
    assert (multiscale["version"], multiscale["name"], multiscale["datasets"][0]["path"]) == ("0.4", "a", "1-1-1")
    with pytest.raises(InputError):
        ome_attributes("cxyz", VoxelSize((1, 1, 1)), [], version="0.9")
