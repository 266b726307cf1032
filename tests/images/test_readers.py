"""Every kind of readable file gives the voxels that were written, in any window, and says what its axes are."""

from __future__ import annotations

import math
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import examples
from tests.images.image_files import (
    COMPRESSIONS,
    DTYPES,
    IMAGEJ,
    LAYOUTS,
    OME,
    SHAPED,
    Axes,
    read_whole,
    voxels,
    window_of,
    windows,
)
from wkdask.errors import CorruptImageError, UnsupportedImageDataError
from wkdask.images import tiff_layout
from wkdask.images.byte_source import opened
from wkdask.images.deflate import DeflateStream
from wkdask.images.picture import forget_parsed, parsed
from wkdask.images.tiff_directory import read_directories


@pytest.fixture(autouse=True)
def nothing_known() -> None:
    forget_parsed()


def named(case: Axes) -> str:
    return f"{case.axes}-{'x'.join(map(str, case.shape))}-{case.colour}"


def check(path: Path, case: Axes, data: Any, count: int = 4) -> None:
    picture, expected = parsed(str(path)), case.planes(data)
    assert (picture.dims, picture.colour) == (case.dims, case.colour)
    height, width, channels = expected.shape[-3:]
    assert (picture.form.height, picture.form.width, picture.form.channels) == (height, width, channels)
    assert picture.form.dtype == data.dtype.name
    assert picture.pages == math.prod(expected.shape[:-3])
    assert np.array_equal(read_whole(path), expected)
    random = np.random.default_rng(3)
    pages = expected.reshape(-1, height, width, channels)
    for rows, columns in windows(random, height, width, count):
        page = int(random.integers(picture.pages))
        result = window_of(picture, path, page, rows, columns)
        assert np.array_equal(result, pages[page, slice(*rows), slice(*columns)])


@pytest.mark.parametrize("case", SHAPED, ids=named)
@pytest.mark.parametrize(
    "more", [{}, {"compression": "zlib", "rowsperstrip": 6}, {"tile": (16, 16), "compression": "lzw"}], ids=str
)
def test_axes_of_tifffile(tmp_path: Path, case: Axes, more: dict[str, Any]) -> None:
    data = voxels(*case.shape, dtype="uint8")
    case.write(tmp_path / "a.tif", data, **more)
    check(tmp_path / "a.tif", case, data)


@pytest.mark.parametrize("case", IMAGEJ, ids=named)
def test_axes_of_imagej(tmp_path: Path, case: Axes) -> None:
    data = voxels(*case.shape, dtype="uint8")
    case.write(tmp_path / "a.tif", data)
    check(tmp_path / "a.tif", case, data)
    if "S" not in case.axes:
        tifffile.imwrite(tmp_path / "b.tif", data, **(case.options | {"imagej": True, "compression": "zlib"}))
        check(tmp_path / "b.tif", case, data)


@pytest.mark.parametrize("case", OME, ids=named)
@pytest.mark.parametrize("more", [{}, {"compression": "zlib", "tile": (16, 32)}, {"bigtiff": True, "byteorder": ">"}], ids=str)
def test_axes_of_ome(tmp_path: Path, case: Axes, more: dict[str, Any]) -> None:
    data = voxels(*case.shape)
    case.write(tmp_path / "a.ome.tif", data, **more)
    check(tmp_path / "a.ome.tif", case, data)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_and_compressions(tmp_path: Path, layout: str, compression: str) -> None:
    if layout == "big endian" and compression in ("png", "jpegxl", "jpeg2000"):  # encoders take native order only
        layout = "strips"
    options, case = COMPRESSIONS[compression] | LAYOUTS[layout], Axes("ZYX", (2, 37, 141), (("z", 2),))
    data = voxels(*case.shape)
    case.write(tmp_path / "a.tif", data, **options)
    check(tmp_path / "a.tif", case, data, count=12)
    picture = parsed(str(tmp_path / "a.tif"))
    tile = options.get("tile")
    assert picture.column_step == (min(tile[1], 141) if tile else 141)
    rows = tile[0] if tile else options.get("rowsperstrip", 37)
    assert picture.row_step == (1 if compression == "raw" else min(rows, 37))
    alone = compression == "raw" or rows < 37
    assert (picture.decoded_bytes == 0) == alone
    assert alone or picture.decoded_bytes >= rows * (tile[1] if tile else 141) * 2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("compression", ["raw", "zlib", "zlib predictor", "lzw predictor", "zstd"])
def test_dtypes(tmp_path: Path, dtype: str, compression: str) -> None:
    data = voxels(2, 37, 41, dtype=dtype)
    for order in "<>":
        case = Axes("ZYX", data.shape, (("z", 2),), options={"byteorder": order, "rowsperstrip": 8})
        options = COMPRESSIONS[compression]
        if "predictor" in options:
            options = options | {"predictor": 3 if dtype.startswith("float") else 2}
        case.write(tmp_path / "a.tif", data, **options)
        forget_parsed()
        check(tmp_path / "a.tif", case, data)


@pytest.mark.parametrize(("bits", "dtype"), [(1, "uint8"), (2, "uint8"), (4, "uint8"), (12, "uint16"), (7, "uint8")])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_packed_bits(tmp_path: Path, bits: int, dtype: str, compression: Any) -> None:
    imagecodecs = pytest.importorskip("imagecodecs", reason='needs imagecodecs: pip install "wkdask[images]"')
    expected = (voxels(37, 41, dtype="uint16") % 2**bits).astype(dtype)
    rows = [imagecodecs.packints_encode(row, bits) if bits > 1 else np.packbits(row).tobytes() for row in expected]
    blob = b"".join(rows)
    data = zlib.compress(blob) if compression else blob
    write_by_hand(tmp_path / "a.tif", [(256, 41), (257, 37), (258, bits), (259, 8 if compression else 1), (262, 1)], data)
    picture = parsed(str(tmp_path / "a.tif"))
    assert picture.form.dtype == dtype and f"{bits} bit" in picture.notes[0]
    assert np.array_equal(read_whole(tmp_path / "a.tif")[..., 0], expected)
    assert np.array_equal(window_of(picture, tmp_path / "a.tif", 0, (3, 30), (5, 9))[..., 0], expected[3:30, 5:9])


def write_by_hand(path: Path, tags: list[tuple[int, int]], data: bytes, *, link: int = 0, bits: str = "<") -> None:
    """Write a classic TIFF of one strip, with the data behind its only directory."""
    start = 8 + 2 + 12 * (len(tags) + 3) + 4
    tags = sorted([*tags, (273, start), (278, dict(tags)[257]), (279, len(data))])
    entries = b"".join(struct.pack(bits + "HHII", code, 4, 1, value) for code, value in tags)
    head = (b"II*\0" if bits == "<" else b"MM\0*") + struct.pack(bits + "IH", 8, len(tags))
    path.write_bytes(head + entries + struct.pack(bits + "I", link) + data)


def test_half_floats_are_widened(tmp_path: Path) -> None:
    data = (voxels(12, 31) / 8).astype("float16")
    for more in ({}, {"compression": "zlib"}, {"byteorder": ">"}, {"compression": "zlib", "predictor": 3}):
        tifffile.imwrite(tmp_path / "a.tif", data, **more)
        forget_parsed()
        assert parsed(str(tmp_path / "a.tif")).form.dtype == "float32"
        assert parsed(str(tmp_path / "a.tif")).notes == ("voxels of float16 become float32",)
        assert np.array_equal(read_whole(tmp_path / "a.tif")[..., 0], data.astype("float32"))


def test_white_is_zero_and_palettes_are_told_of(tmp_path: Path) -> None:
    data = voxels(12, 31, dtype="uint8")
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="miniswhite")
    tifffile.imwrite(tmp_path / "b.tif", data, photometric="palette", colormap=np.zeros((3, 256), "uint16"))
    for name, word in (("a", "white is zero"), ("b", "palette")):
        picture = parsed(str(tmp_path / f"{name}.tif"))
        assert word in picture.notes[0] and picture.colour == "grey"
        assert np.array_equal(read_whole(tmp_path / f"{name}.tif")[..., 0], data)


@pytest.mark.parametrize("data", [voxels(16, 16, 3, dtype="uint8"), voxels(16, 16, dtype="uint8")], ids=["colour", "grey"])
def test_jpeg(tmp_path: Path, data: Any) -> None:
    options: dict[str, Any] = {"compression": "jpeg", "photometric": "ycbcr" if data.ndim == 3 else "minisblack"}
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for _ in range(3):
            writer.write(data, metadata=None, **options)
    expected = tifffile.imread(tmp_path / "a.tif")
    assert parsed(str(tmp_path / "a.tif")).colour == ("rgb" if data.ndim == 3 else "grey")
    assert np.array_equal(read_whole(tmp_path / "a.tif").squeeze(), expected)


def test_pyramids_are_read_at_the_finest_level_only(tmp_path: Path) -> None:
    data = voxels(3, 64, 48)
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as writer:
        writer.write(data, subifds=2, tile=(16, 16), photometric="minisblack", metadata={"axes": "CYX"})
        for step in (2, 4):
            writer.write(data[:, ::step, ::step], subfiletype=1, tile=(16, 16), photometric="minisblack")
    with tifffile.TiffWriter(tmp_path / "b.tif") as writer:
        for step in (1, 2, 4):
            writer.write(data[0, ::step, ::step], subfiletype=int(step > 1), metadata=None)
    check(tmp_path / "a.ome.tif", Axes("CYX", data.shape, (("c", 3),)), data)
    check(tmp_path / "b.tif", Axes("YX", data[0].shape, ()), data[0])
    assert parsed(str(tmp_path / "b.tif")).notes == ("2 thumbnails or smaller copies in the file are left out",)


def test_an_imagej_stack_with_a_single_directory(tmp_path: Path) -> None:
    data = voxels(5, 6, 7).astype(">u2")
    tifffile.imwrite(tmp_path / "a.tif", data[:1], imagej=True, metadata={"axes": "ZYX", "slices": 5, "images": 5})
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        text, at = file.pages.first.description, file.pages.first.dataoffsets[0]
    lines = {"images=1": "images=5", "slices=1": "slices=5"}
    content = (tmp_path / "a.tif").read_bytes()[:at] + data.tobytes()
    new = "ImageJ=1.53\nimages=5\nslices=5\n".ljust(len(text))
    assert lines and len(new) == len(text)
    (tmp_path / "a.tif").write_bytes(content.replace(text.encode(), new.encode()))
    assert parsed(str(tmp_path / "a.tif")).dims == (("z", 5),)
    assert np.array_equal(read_whole(tmp_path / "a.tif")[..., 0], data)
    with (tmp_path / "a.tif").open("r+b") as opened_file:
        opened_file.truncate(len(content) - 1)
    forget_parsed()
    with pytest.raises(CorruptImageError, match=r"a\.tif.*truncated"):
        parsed(str(tmp_path / "a.tif"))


@pytest.mark.parametrize("order", ["czt", "ctz", "zct", "ztc", "tcz", "tzc"])
def test_orders_of_imagej(tmp_path: Path, order: str) -> None:
    extents = {"c": 2, "z": 3, "t": 4}
    text = f"ImageJ=1.53\nimages=24\nchannels=2\nslices=3\nframes=4\nhyperstack=true\norder={order}\n"
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in range(24):
            writer.write(voxels(5, 6) + page, description=None if page else text, metadata=None)
    dims = tuple((name, extents[name]) for name in reversed(order))  # ImageJ names the fastest axis first
    assert parsed(str(tmp_path / "a.tif")).dims == dims
    assert np.array_equal(read_whole(tmp_path / "a.tif")[..., 0, 0, 0].ravel(), voxels(5, 6)[0, 0] + np.arange(24))


def lsm_file(path: Path, data: Any, *, compressed: bool) -> None:
    """Write (t, z, c, y, x) as Zeiss does: planar channels, a thumbnail behind each plane, sizes of decoded bytes."""
    times, depth, channels, height, width = data.shape
    info = bytearray(struct.pack("<II8i3d", 0x00400494C, 512, width, height, depth, channels, times, 1, 0, 0, 2e-7, 2e-7, 1e-6))
    info += bytes(88 - len(info)) + struct.pack("<H", 6) + bytes(422)
    with tifffile.TiffWriter(path, byteorder="<") as writer:
        for index in range(times * depth):
            more: dict[str, Any] = {"extratags": [(34412, 1, len(info), bytes(info), True)]} if index == 0 else {}
            plane = data.reshape(-1, channels, height, width)[index]
            pages = {"compression": "lzw"} if compressed else {}
            writer.write(plane, photometric="rgb" if channels == 3 else "minisblack", planarconfig="separate", metadata=None,
                         **pages, **more)  # fmt: skip
            writer.write(np.zeros((3, 4, 4), "uint8"), photometric="rgb", planarconfig="separate", subfiletype=1, metadata=None)

    if compressed:  # Zeiss counts decoded bytes
        content = bytearray(path.read_bytes())
        with opened(str(path)) as source:
            for page in read_directories(source)[::2]:
                kind, count, place = page.entries[279]
                numbers = struct.pack(f"<{count}{ {3: 'H', 4: 'I'}[kind] }", *[height * width] * count)
                if len(numbers) <= 4:
                    entry = struct.pack("<HHI", 279, kind, count)
                    content = content.replace(entry + place, entry + numbers.ljust(4, b"\0"))
                else:
                    (at,) = struct.unpack("<I", place)
                    content[at : at + len(numbers)] = numbers
        path.write_bytes(content)
    if channels == 2:  # Zeiss puts these two numbers elsewhere, although there is room for them in the tag
        content = bytearray(path.read_bytes())
        entry = struct.pack("<HHI", 258, 3, 2)
        content = content.replace(entry + struct.pack("<HH", 8, 8), entry + struct.pack("<I", len(content)))
        path.write_bytes(content + struct.pack("<HH", 8, 8))


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("channels", [2, 3])
def test_lsm(tmp_path: Path, channels: int, compressed: bool) -> None:
    data = voxels(2, 3, channels, 12, 17, dtype="uint8")
    lsm_file(tmp_path / "a.lsm", data, compressed=compressed)
    picture = parsed(str(tmp_path / "a.lsm"))
    assert (picture.dims, picture.colour) == ((("t", 2), ("z", 3)), "samples")
    assert picture.voxel_size == pytest.approx((200.0, 200.0, 1000.0))
    assert np.array_equal(read_whole(tmp_path / "a.lsm"), np.moveaxis(data, 2, -1))
    assert "6 thumbnails" in picture.notes[0]
    os.truncate(tmp_path / "a.lsm", 2**32)  # takes no room on the disk
    with pytest.raises(UnsupportedImageDataError, match="LSM file of 4294967296 bytes"):
        parsed(str(tmp_path / "a.lsm"))


def test_voxel_size_and_channels_of_ome(tmp_path: Path) -> None:
    metadata: dict[str, Any] = {
        "axes": "CZYX",
        "PhysicalSizeX": 4.5,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 0.005,
        "PhysicalSizeZ": 3e-5,
        "PhysicalSizeZUnit": "mm",
        "Channel": {"Name": ["DAPI", "GFP"], "Color": [0x0000FFFF, -16776961]},
    }
    tifffile.imwrite(tmp_path / "a.ome.tif", voxels(2, 3, 12, 17), ome=True, photometric="minisblack", metadata=metadata)
    picture = parsed(str(tmp_path / "a.ome.tif"))
    assert picture.voxel_size == pytest.approx((4.5, 5.0, 30.0))
    assert picture.channel_names == ("DAPI", "GFP")
    assert picture.channel_colors == ((0, 0, 255), (255, 0, 0))
    del metadata["PhysicalSizeZ"]
    tifffile.imwrite(tmp_path / "b.ome.tif", voxels(2, 3, 12, 17), ome=True, photometric="minisblack", metadata=metadata)
    assert parsed(str(tmp_path / "b.ome.tif")).voxel_size is None


@pytest.mark.parametrize("unit", ["um", "micron", "\\u00B5m"])
def test_voxel_size_of_imagej(tmp_path: Path, unit: str) -> None:
    metadata = {"axes": "ZYX", "spacing": 0.03, "unit": unit}
    tifffile.imwrite(tmp_path / "a.tif", voxels(3, 12, 17), imagej=True, resolution=(250.0, 125.0), metadata=metadata)
    assert parsed(str(tmp_path / "a.tif")).voxel_size == pytest.approx((4.0, 8.0, 30.0))


def test_the_resolution_of_a_print_is_no_voxel_size(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", voxels(12, 17), resolution=(300.0, 300.0), resolutionunit="INCH")
    assert parsed(str(tmp_path / "a.tif")).voxel_size is None


def test_several_images_in_one_file(tmp_path: Path) -> None:
    first, second = voxels(2, 20, 30), voxels(10, 10)
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as writer:
        writer.write(first, photometric="minisblack", metadata={"axes": "CYX", "Name": "one"})
        writer.write(second, metadata={"axes": "YX", "Name": "overview"})
    with tifffile.TiffWriter(tmp_path / "b.tif") as writer:
        writer.write(first, photometric="minisblack")
        writer.write(second)
    for name, dims, word in (("a.ome.tif", (("c", 2),), "'overview'"), ("b.tif", (("z", 2),), "10 x 10")):
        picture = parsed(str(tmp_path / name))
        assert picture.dims == dims and any(word in note for note in picture.notes)
        assert np.array_equal(read_whole(tmp_path / name)[..., 0], first)


def test_a_page_of_another_size_in_between_is_no_stack(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for height in (12, 12, 11, 12):
            writer.write(voxels(height, 17), metadata=None)
    with pytest.raises(CorruptImageError, match=r"a\.tif'.*page 2 has another shape, 17 x 11 voxels instead of 17 x 12"):
        parsed(str(tmp_path / "a.tif"))


@pytest.mark.parametrize("order", ["<", ">"])
def test_some_columns_of_long_rows(tmp_path: Path, order: Any) -> None:
    data = voxels(9, 90_000)
    tifffile.imwrite(tmp_path / "a.tif", data, byteorder=order, rowsperstrip=2)
    picture = parsed(str(tmp_path / "a.tif"))
    for columns in ((0, 5), (41, 1003), (89_990, 90_000), (10, 89_000)):
        result = window_of(picture, tmp_path / "a.tif", 0, (1, 8), columns)
        assert np.array_equal(result[..., 0], data[1:8, slice(*columns)])


def test_pages_that_were_written_one_by_one_are_a_stack(tmp_path: Path) -> None:
    data = voxels(4, 12, 17)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for plane in data:
            writer.write(plane, contiguous=False)
    picture = parsed(str(tmp_path / "a.tif"))
    assert picture.dims == (("z", 4),) and "4 pages" in picture.notes[0]
    assert np.array_equal(read_whole(tmp_path / "a.tif")[..., 0], data)


def test_a_description_that_does_not_fit_is_not_used(tmp_path: Path) -> None:
    data = voxels(4, 12, 17)
    for text in ('{"shape": [4, 13, 17], "axes": "CYX"}', "ImageJ=1.53\nimages=2\nchannels=2\n"):
        with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
            for index, plane in enumerate(data):
                writer.write(plane, description=text if index == 0 else None, metadata=None)
        forget_parsed()
        picture = parsed(str(tmp_path / "a.tif"))
        assert picture.dims == (("z", 4),) and "does not fit" in picture.notes[0]
        assert np.array_equal(read_whole(tmp_path / "a.tif")[..., 0], data)


@pytest.mark.parametrize("axes", ["XYZ", "YXZ", "XZY", "ZXY"])
def test_exotic_orders_are_refused(tmp_path: Path, axes: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", voxels(5, 12, 17), photometric="minisblack", metadata={"axes": axes})
    with pytest.raises(UnsupportedImageDataError, match=rf"a\.tif'.*{axes}"):
        parsed(str(tmp_path / "a.tif"))


def test_only_the_needed_pieces_are_decoded(tmp_path: Path) -> None:
    path, data = tmp_path / "a.tif", voxels(64, 48)
    tifffile.imwrite(path, data, compression="zlib", tile=(16, 16))
    with tifffile.TiffFile(path) as file:
        place = file.pages.first.dataoffsets[3 * 2 + 1]  # rows 32 to 48, columns 16 to 32
    content = bytearray(path.read_bytes())
    content[place : place + 20] = bytes(20)
    path.write_bytes(content)
    picture = parsed(str(path))
    for rows, columns in (((0, 32), (0, 48)), ((48, 64), (0, 48)), ((0, 64), (0, 16)), ((30, 50), (32, 48))):
        assert np.array_equal(window_of(picture, path, 0, rows, columns)[..., 0], data[slice(*rows), slice(*columns)])
    for rows, columns in (((31, 33), (15, 17)), ((47, 48), (31, 32)), ((0, 64), (0, 48))):
        with pytest.raises(CorruptImageError, match=r"Page 0 of '.*a\.tif' can not be decoded"):
            window_of(picture, path, 0, rows, columns)


@pytest.fixture
def streamed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the buffers that streams fill, for pages of 1 MB and more."""
    sizes: list[int] = []
    read_into = DeflateStream.read_into
    monkeypatch.setattr(tiff_layout, "STREAMED_FROM", 1 << 20)
    monkeypatch.setattr(DeflateStream, "read_into", lambda self, out: (sizes.append(len(out)), read_into(self, out))[1])
    return sizes


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_strip_is_decoded_no_further_than_wanted(tmp_path: Path, order: Any, streamed: list[int]) -> None:
    path, data = tmp_path / "a.tif", np.random.default_rng(0).integers(0, 2**16, (2000, 300), "uint16")
    tifffile.imwrite(path, data, compression="zlib", rowsperstrip=2000, byteorder=order)
    assert parsed(str(path)).decoded_bytes == 0
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3] + bytes(len(content) - len(content) * 2 // 3))
    picture = parsed(str(path))
    for rows in ((0, 1), (3, 700), (999, 1000)):
        assert np.array_equal(window_of(picture, path, 0, rows, (7, 250))[..., 0], data[slice(*rows), 7:250])
    assert streamed == [(last - first) * 600 for first, last in ((0, 1), (3, 700), (999, 1000))]
    for rows in ((0, 2000), (0, 1999), (1990, 2000)):
        with pytest.raises(CorruptImageError, match="can not be decoded"):
            window_of(picture, path, 0, rows, (0, 300))


def test_long_strips_take_the_memory_of_what_is_wanted(
    tmp_path: Path, streamed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, data = tmp_path / "a.tif", np.random.default_rng(0).integers(0, 200, (3000, 700, 2), "uint8")
    tifffile.imwrite(path, data, compression="zlib", rowsperstrip=3000, photometric="minisblack", planarconfig="contig")
    picture = parsed(str(path))

    def check(rows: tuple[int, int], columns: tuple[int, int]) -> list[int]:
        streamed.clear()
        assert np.array_equal(window_of(picture, path, 0, rows, columns), data[slice(*rows), slice(*columns)])
        return list(streamed)

    assert check((1000, 3000), (0, 700)) == [2000 * 1400]
    assert check((0, 3000), (0, 700)) == []  # whole pages are decoded at once, which is faster
    for rows in ((0, 3000), (1000, 3000), (0, 1500)):
        sizes = check(rows, (5, 600))
        assert sum(sizes) == (rows[1] - rows[0]) * 1400 and max(sizes) <= tiff_layout.BAND
    monkeypatch.setattr(tiff_layout, "MOST_ENCODED", 1000)
    assert check((0, 3000), (0, 700)) == [data.nbytes]


@pytest.mark.parametrize("change", ["damaged", "missing", "followed by more"])
def test_checksums_of_long_strips_are_looked_at_where_they_are_reached(
    tmp_path: Path, streamed: list[int], change: str
) -> None:
    path, data = tmp_path / "a.tif", np.random.default_rng(0).integers(0, 256, (1200, 1000), "uint8")
    stream = zlib.compress(np.append(data, data[-1:], axis=0)) if change == "followed by more" else zlib.compress(data)
    if change != "followed by more":
        stream = stream[:-1] + (bytes([stream[-1] ^ 1]) if change == "damaged" else b"")
    write_by_hand(path, [(256, 1000), (257, 1200), (258, 8), (259, 8), (262, 1)], stream)
    picture = parsed(str(path))
    for rows, columns in (((5, 1199), (0, 1000)), ((0, 1199), (3, 9))):
        assert np.array_equal(window_of(picture, path, 0, rows, columns)[..., 0], data[slice(*rows), slice(*columns)])
    for rows, columns in (((5, 1200), (0, 1000)), ((0, 1200), (3, 9))):
        if change == "followed by more":  # as whole pages are read
            assert np.array_equal(window_of(picture, path, 0, rows, columns)[..., 0], data[slice(*rows), slice(*columns)])
            continue
        with pytest.raises(CorruptImageError, match=r"Page 0 of .* can not be decoded: bad deflate data"):
            window_of(picture, path, 0, rows, columns)
    assert streamed


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_random_windows_of_random_files(tmp_path: Path, data: st.DataObject) -> None:
    pages, height, width = data.draw(st.tuples(*[st.integers(1, 3), st.integers(1, 70), st.integers(1, 70)]))
    channels = data.draw(st.sampled_from([1, 2, 3, 4]))
    planar = data.draw(st.booleans())
    expected = voxels(pages, height, width, channels, dtype=data.draw(st.sampled_from(["uint8", "uint16", "float32"])))
    more: dict[str, Any] = {"compression": data.draw(st.sampled_from([None, "zlib", "lzw"]))}
    rows = st.integers(1, 80).map(lambda count: {"rowsperstrip": count})
    more |= data.draw(st.one_of(st.just({"tile": (16, 32)}), st.just({"tile": (80, 96)}), rows))
    order = data.draw(st.sampled_from(["<", ">"]))
    with tifffile.TiffWriter(tmp_path / "a.tif", byteorder=order) as writer:
        for plane in expected:
            samples = plane[..., 0] if channels == 1 else np.moveaxis(plane, 2, 0) if planar else plane
            config: Any = None if channels == 1 else "separate" if planar else "contig"
            writer.write(samples, metadata=None, photometric="minisblack", planarconfig=config, **more)
    forget_parsed()
    picture = parsed(str(tmp_path / "a.tif"))
    y0, y1 = sorted(data.draw(st.tuples(st.integers(0, height), st.integers(0, height))))
    x0, x1 = sorted(data.draw(st.tuples(st.integers(0, width), st.integers(0, width))))
    page = data.draw(st.integers(0, pages - 1))
    result = window_of(picture, tmp_path / "a.tif", page, (y0, y1), (x0, x1))
    assert np.array_equal(result, expected[page, y0:y1, x0:x1])


# -------------------------------------------------------------------------------------------------------- fixtures


@pytest.mark.parametrize("name", ["tiff", "rgb_tiff", "various_tiff_formats", "4D"])
def test_files_of_other_programs(fixtures_folder: Path, name: str) -> None:
    paths = sorted(path for path in (fixtures_folder / name).rglob("*") if path.suffix.lower() in (".tif", ".tiff"))
    assert paths
    for path in paths[:20]:
        if path.read_bytes()[:2] not in (b"II", b"MM"):  # the text of a link
            with pytest.raises(CorruptImageError, match="not the beginning of a TIFF"):
                parsed(str(path))
            continue
        expected = tifffile.imread(path)
        assert np.array_equal(read_whole(path).squeeze(), expected.squeeze()), path
