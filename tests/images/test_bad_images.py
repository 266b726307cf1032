"""Whatever is wrong with the input ends in one sentence that names the file, before anything is written."""

from __future__ import annotations

import contextlib
import os
import pickle
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from wkdask.errors import (
    CorruptImageError,
    ImageConversionError,
    InputError,
    StorageError,
    UnsupportedImageDataError,
    UnsupportedImageFormatError,
)
from wkdask.images import find_images
from wkdask.images.picture import forget_parsed

PLANE = np.arange(20 * 30, dtype="uint16").reshape(20, 30)


@pytest.fixture(autouse=True)
def nothing_known() -> None:
    forget_parsed()


def refused(source: Path, error: type[Exception], *words: str, missing: str | None = None) -> None:
    with pytest.raises(error) as caught:
        find_images(source, missing)
    assert type(caught.value) is error
    for word in words:
        assert word in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def patch(path: Path, offset: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def tag(path: Path, code: int) -> tuple[int, int]:
    """Return (offset of the value of a tag of the first page, first value)."""
    with tifffile.TiffFile(path) as file:
        found = file.pages.first.tags[code]
        value = found.value[0] if isinstance(found.value, tuple) else found.value
        return found.valueoffset, int(value)


def test_places_without_images(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", InputError, "nothing at", "nowhere")
    refused(tmp_path, UnsupportedImageFormatError, "is empty")
    (tmp_path / "sub1").mkdir()
    (tmp_path / "sub2").mkdir()
    refused(tmp_path, UnsupportedImageFormatError, "'sub1', 'sub2'")
    for name in ("a.csv", "b.csv", "c", ".hidden.tif", "Thumbs.db"):
        (tmp_path / name).write_bytes(b"x")
    refused(tmp_path, UnsupportedImageFormatError, "2 csv", "1 no extension")
    refused(tmp_path / "a.csv", UnsupportedImageFormatError, "'.csv'", "tif")


def test_an_unknown_filling_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, InputError, "'nan'", "zeros, repeat", missing="nan")


def test_mixed_kinds(tmp_path: Path) -> None:
    for name in ("a1.tif", "a2.TIFF"):
        tifffile.imwrite(tmp_path / name, PLANE)
    find_images(tmp_path)
    Image.fromarray(PLANE.astype("uint8")).save(tmp_path / "a3.png")
    refused(tmp_path, UnsupportedImageFormatError, "1 png, 2 tif")


def test_gaps_and_doubles(tmp_path: Path) -> None:
    for number in (1, 2, 4):
        tifffile.imwrite(tmp_path / f"s{number}.tif", PLANE)
    refused(tmp_path, InputError, "3 is missing", "zeros")
    tifffile.imwrite(tmp_path / "s04.tif", PLANE)
    refused(tmp_path, InputError, "same number 4", missing="zeros")


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (PLANE[:, :29], "29 x 20 voxels"),
        (PLANE[:19], "30 x 19 voxels"),
        (PLANE.astype("int16"), "int16"),
        (np.stack([PLANE] * 3, 2), "3 channels"),
    ],
)
def test_slices_that_differ(tmp_path: Path, other: Any, words: str) -> None:
    for number in range(4):
        tifffile.imwrite(tmp_path / f"s{number}.tif", other if number > 1 else PLANE)
    refused(tmp_path, UnsupportedImageDataError, "s0.tif", "s2.tif", "30 x 20 voxels, 1 channel, uint16", words)


@pytest.mark.parametrize(
    ("shape", "dtype", "options", "words"),
    [
        ((20, 30, 3), "float32", {"photometric": "rgb"}, "float32"),
        ((20, 30, 4), "uint8", {"photometric": "separated"}, "SEPARATED"),
        ((20, 30), "complex64", {}, "complex64"),
        ((32, 32, 32), "uint8", {"volumetric": True, "tile": (16, 16, 16)}, "ZYX"),
    ],
)
def test_axes_channels_and_dtypes(tmp_path: Path, shape: Any, dtype: str, options: Any, words: str) -> None:
    if "photometric" not in options:
        options = options | {"photometric": "minisblack"}
    tifffile.imwrite(tmp_path / "a.tif", np.zeros(shape, dtype), **options)
    refused(tmp_path / "a.tif", UnsupportedImageDataError, "a.tif", words)


@pytest.mark.parametrize("odd", range(1, 12))
@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        ("int16", {}),
        ("uint16", {"compression": None}),
        ("uint16", {"predictor": True}),
        ("uint16", {"rowsperstrip": 10}),
        ("uint8", {}),
    ],
)
def test_one_page_among_others_is_encoded_differently(tmp_path: Path, odd: int, dtype: str, options: dict[str, Any]) -> None:
    usual: dict[str, Any] = {"compression": "zlib", "rowsperstrip": 20, "metadata": None}
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in range(12):
            writer.write(PLANE.astype(dtype) if page == odd else PLANE, **(usual | (options if page == odd else {})))
    with pytest.raises(ImageConversionError, match=r"different images|has another shape|different sizes|pages"):
        find_images(tmp_path / "a.tif")


@pytest.mark.parametrize(
    "content", [b"", b"II", b"not a tiff at all", b"II*\0", b"II*\0\xff\xff\xff\x7f", b"II*\0\x08\0\0\0\xff\xff"]
)
def test_files_that_are_no_tiff(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tif").write_bytes(content)
    refused(tmp_path / "a.tif", CorruptImageError, "a.tif")
    (tmp_path / "a.png").write_bytes(content)
    refused(tmp_path / "a.png", CorruptImageError, "a.png")


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"rowsperstrip": 3}, {"tile": (16, 16)}])
@pytest.mark.parametrize("metadata", [None, {}])
@pytest.mark.parametrize("cut", [1, 50, 1000, 5000])
def test_truncated_files_are_found_before_reading(tmp_path: Path, options: dict[str, Any], metadata: Any, cut: int) -> None:
    path = tmp_path / "a.tif"
    expected = np.random.default_rng(1).integers(0, 9999, (5, 40, 50), "uint16")
    tifffile.imwrite(path, expected, photometric="minisblack", metadata=metadata, **options)
    find_images(path)
    os.truncate(path, path.stat().st_size - cut)
    forget_parsed()
    if cut >= 200:
        refused(path, CorruptImageError, "a.tif")
        return
    with contextlib.suppress(CorruptImageError):  # only tags of the last page are gone, which tell nothing new
        assert np.array_equal(find_images(path).read(0, 5, 0, 40)[..., 0], expected)


def test_a_file_cut_anywhere_is_refused_or_read_whole(tmp_path: Path) -> None:
    path, expected = tmp_path / "a.tif", np.random.default_rng(1).integers(0, 9999, (3, 8, 9), "uint16")
    with tifffile.TiffWriter(path) as writer:
        for plane in expected:
            writer.write(plane, contiguous=False)
    content = path.read_bytes()
    for size in range(0, len(content), 7):
        path.write_bytes(content[:size])
        with pytest.raises(ImageConversionError):
            find_images(path)


def test_damaged_deflate_data(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    for place in (5, -1):  # in the middle, and in the checksum
        tifffile.imwrite(path, np.stack([PLANE] * 3), compression="zlib", photometric="minisblack")
        with tifffile.TiffFile(path) as file:
            page = file.pages[1]
            offset, count = page.dataoffsets[0], page.databytecounts[0]
        at = offset + place % count
        patch(path, at, bytes([path.read_bytes()[at] ^ 0xFF]))
        stack = find_images(path)
        assert np.array_equal(stack.read(0, 1, 0, 20)[0, ..., 0], PLANE)
        with pytest.raises(CorruptImageError, match=r"Page 1 of '.*a\.tif' can not be decoded: bad deflate"):
            stack.read(0, 3, 0, 20)


@pytest.mark.parametrize("fast", [True, False])
def test_a_stream_that_holds_too_little(tmp_path: Path, fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from wkdask.images import deflate

    if not fast:
        monkeypatch.setattr(deflate, "_libdeflate", None)
    out = bytearray(100)
    deflate.inflate(bytearray(zlib.compress(bytes(range(100)))), memoryview(out))
    assert out == bytes(range(100))
    deflate.inflate(bytearray(zlib.compress(bytes(range(200)))), memoryview(out))
    assert out == bytes(range(100))
    for bad in (zlib.compress(bytes(99)), zlib.compress(bytes(100))[:-3], b"", zlib.compress(bytes(100))[:-1] + b"!"):
        with pytest.raises(ValueError, match=r"too early|bad deflate"):
            deflate.inflate(bytearray(bad), memoryview(out))


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("code", [256, 257])
def test_hostile_sizes_allocate_nothing(tmp_path: Path, compression: Any, code: int) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PLANE, compression=compression, metadata=None)
    patch(path, tag(path, code)[0], struct.pack("<I", 2**31 - 1))
    refused(path, CorruptImageError, "a.tif")


def test_a_strip_that_lies_about_its_size(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PLANE, metadata=None)
    patch(path, tag(path, 279)[0], struct.pack("<I", 10))
    refused(path, CorruptImageError, "a.tif", "fewer bytes")


@pytest.mark.parametrize("compression", ["lzw", "zstd"])
def test_a_codec_that_is_not_installed(tmp_path: Path, compression: Any) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PLANE, compression=compression)
    tifffile.imwrite(tmp_path / "b.tif", PLANE, compression="zlib", predictor=True, rowsperstrip=6)
    tifffile.imwrite(tmp_path / "c.tif", PLANE, compression="zlib")
    code = f"""
import sys; sys.modules["imagecodecs"] = sys.modules["compression"] = None
from wkdask.images import find_images
from wkdask.errors import UnsupportedImageFormatError
try: find_images({str(path)!r})
except UnsupportedImageFormatError as error: print(error)
for name in "bc": print(find_images({str(tmp_path)!r} + "/" + name + ".tif").read(0, 1, 0, 20).sum())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    message, *sums = done.stdout.split("\n")
    assert "a.tif" in message and compression.upper() in message and 'pip install "wkdask[images]"' in message
    assert sums == [str(PLANE.sum())] * 2 + [""]


def test_an_unknown_compression(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PLANE, metadata=None)
    patch(path, tag(path, 259)[0], struct.pack("<H", 4242))
    refused(path, UnsupportedImageFormatError, "a.tif", "4242")


def test_a_tiff_with_another_name(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.png", PLANE)
    refused(tmp_path / "a.png", CorruptImageError, "a.png", "can not be read")


def test_a_picture_that_claims_too_much(tmp_path: Path) -> None:
    path = tmp_path / "a.bmp"
    Image.new("L", (20, 30)).save(path)
    patch(path, 18, struct.pack("<ii", 9000, 9000))
    refused(path, CorruptImageError, "a.bmp", "declares 81000000 bytes")


def test_a_picture_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 60), "uint8")).save(path)
    os.truncate(path, 1500)
    stack = find_images(path)
    with pytest.raises(CorruptImageError, match=r"a\.png' can not be decoded"):
        stack.read(0, 1, 0, 10)


def test_files_that_may_not_be_read(unprivileged: Callable[[], AbstractContextManager[None]]) -> None:
    with tempfile.TemporaryDirectory() as folder:  # one that others may enter, unlike tmp_path
        Path(folder).chmod(0o755)
        path = Path(folder) / "a.tif"
        tifffile.imwrite(path, PLANE)
        path.chmod(0)
        with unprivileged():
            refused(path, StorageError, "a.tif")
