"""Broken and hostile files end in an error that names them, in little time and memory, and never in wrong voxels."""

from __future__ import annotations

import io
import json
import os
import re
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.conftest import examples
from tests.images.image_files import read_whole, small_files, voxels, window_of
from wkdask.errors import CorruptImageError, StorageError, WkdaskError
from wkdask.images.byte_source import opened, read_bytes, status, zip_members
from wkdask.images.picture import forget_parsed, parsed
from wkdask.storage import zip_archive

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are set as Linux does: run on Linux")

PLANE = voxels(20, 30)
LONG, SHORT, ASCII = 4, 3, 2
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = (
    (256, LONG, 30),
    (257, LONG, 20),
    (258, SHORT, 16),
    (259, SHORT, 1),
    (262, SHORT, 1),
)
PLAIN = [WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC]
POINT = [(256, LONG, 1), (257, LONG, 1), (258, SHORT, 8), COMPRESSION, PHOTOMETRIC, (278, LONG, 1)]
Tag = tuple[int, int, Any]


def tiff(tags: list[Tag], data: bytes = PLANE.tobytes(), *, link: int | None = None, count: int | None = None) -> bytes:
    """Return a classic TIFF; later tags replace earlier ones, and bytes for values lie behind the directory.

    A value of type tuple is (count, value or offset) as it stands in the tag.
    """
    given = {273: (273, LONG, None), 278: (278, LONG, 20), 279: (279, LONG, len(data))} | {tag[0]: tag for tag in tags}
    start = 8 + 2 + 12 * len(given) + 4
    extra, entries = b"", b""
    for code, kind, value in (given[code] for code in sorted(given)):
        number, inline = (1, value) if not isinstance(value, tuple) else value
        if isinstance(value, bytes):
            number, inline = len(value), start + len(extra)
            extra += value
        if code == 273 and value is None:
            entries += struct.pack("<HHI", code, kind, 1) + b"HERE"
        else:
            entries += struct.pack("<HHII", code, kind, number, inline & 0xFFFFFFFF)
    entries = entries.replace(b"HERE", struct.pack("<I", start + len(extra)))
    head = b"II*\0" + struct.pack("<IH", 8, len(given) if count is None else count)
    return head + entries + struct.pack("<I", link or 0) + extra + data


def ome(sizes: str, more: str = "", head: str = "") -> bytes:
    pixels = f'<Pixels DimensionOrder="XYZCT" {sizes} SizeX="30" SizeY="20">{more}</Pixels>'
    return f'{head}<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image>{pixels}</Image></OME>'.encode()


def described(text: bytes) -> bytes:
    return tiff([*PLAIN, (270, ASCII, text + b"\0")])


ONE = 'SizeZ="1" SizeC="1" SizeT="1"'
BOMB = "<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;&a;'>]>"

HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty.tif": (b"", "empty, 0 bytes"),
    "empty.png": (b"", "can not be read"),
    "text.tif": (b"once upon a time", "not the beginning of a TIFF"),
    "text.png": (b"once upon a time", "can not be read as an image"),
    "text.gif": (b"GIF89a is what it calls itself", "can not be read|damaged"),
    "header.tif": (b"II*\0\x08\0\0", "not the beginning"),
    "version.tif": (b"II\x07\0\x08\0\0\0", "not the beginning"),
    "bigheader.tif": (b"II+\0\x04\0\0\0" + bytes(8), "BigTIFF"),
    "nopages.tif": (b"II*\0" + bytes(4) + bytes(99), "no pages"),
    "far.tif": (b"II*\0\xff\xff\xff\x7f" + bytes(99), "page 0 is missing"),
    "loop_to_itself.tif": (tiff(PLAIN, link=8), "loop"),
    "link_beyond.tif": (tiff(PLAIN, link=10**9), "page 1 is missing"),
    "link_into_data.tif": (tiff(PLAIN, link=200), "tags|missing|over the other"),
    "no_tags.tif": (tiff(PLAIN, count=0), "0 tags"),
    "many_tags.tif": (tiff(PLAIN, count=65535), "65535 tags"),
    "some_more_tags.tif": (tiff(PLAIN, count=4000), "page 0 is missing"),
    "subifd_loop.tif": (tiff([*PLAIN, (330, LONG, 8)]), ""),
    "subifd_beyond.tif": (tiff([*PLAIN, (330, LONG, 2**31)]), ""),
    "wide.tif": (tiff([*PLAIN, (256, LONG, 2**31 - 1)]), "declares"),
    "high.tif": (tiff([*PLAIN, (257, LONG, 2**31 - 1), (278, LONG, 2**31 - 1)]), "declares"),
    "no_width.tif": (tiff([*PLAIN, (256, LONG, 0)]), "can not be read|columns"),
    "no_height.tif": (tiff([*PLAIN, (257, LONG, 0)]), "can not be read|rows"),
    "no_strip_rows.tif": (tiff([*PLAIN, (278, LONG, 0)]), "rows"),
    "samples.tif": (tiff([*PLAIN, (277, SHORT, 65535)]), "declares|bytes"),
    "no_samples.tif": (tiff([*PLAIN, (277, SHORT, 0)]), "0 samples"),
    "strip_beyond.tif": (tiff([*PLAIN, (273, LONG, 10**9)]), "truncated"),
    "strip_too_small.tif": (tiff([*PLAIN, (279, LONG, 1199)]), "fewer bytes"),
    "strip_too_large.tif": (tiff([*PLAIN, (279, LONG, 2**32 - 1)]), "truncated"),
    "strip_of_nothing.tif": (tiff([*PLAIN, (279, LONG, 0)]), "0 bytes"),
    "many_strips.tif": (tiff([*PLAIN, (273, LONG, (2**31, 8))]), "truncated|beyond"),
    "many_counts.tif": (tiff([*PLAIN, (279, LONG, (2**32 - 1, 8))]), "truncated"),
    "few_strips.tif": (tiff([*PLAIN, (278, LONG, 2)]), "10 were expected"),
    "strips_as_text.tif": (tiff([*PLAIN, (273, ASCII, 8)]), "whole numbers"),
    "unknown_type.tif": (tiff([*PLAIN, (259, 99, 1)]), "unknown type 99"),
    "unknown_bits.tif": (tiff([*PLAIN, (258, SHORT, 999)]), "999 bit"),
    "huge_tiles.tif": (
        tiff([*PLAIN, (259, SHORT, 8), (322, LONG, 2**20), (323, LONG, 2**20), (324, LONG, 8), (325, LONG, 99)]),
        "far larger",
    ),
    "flat_tiles.tif": (tiff([*PLAIN, (322, LONG, 0), (323, LONG, 16), (324, LONG, 8), (325, LONG, 99)]), "columns|can not"),
    "deep.tif": (tiff([*PLAIN, (32997, LONG, 10**6)]), "pages of 1000000 planes"),
    "description_beyond.tif": (tiff([*PLAIN, (270, ASCII, (2**31, 8))]), "truncated: the value of tag 270"),
    "shape.tif": (described(b'{"shape": [1000000000, 20, 30], "axes": "CYX"}'), "declares"),
    "shape_of_huge.tif": (described(b'{"shape": [' + b"9" * 5000 + b", 20, 30]}"), "damaged|shape"),
    "shape_of_nulls.tif": (described(b'{"shape": [null, 20, 30]}'), "list of numbers"),
    "shape_of_points.tif": (
        tiff([*POINT, (270, ASCII, b'{"shape": [800000000, 1, 1]}\0')], bytes(200_000)),
        "its 800000000 planes should reach",
    ),
    "shape_compressed.tif": (
        tiff([*PLAIN, (259, SHORT, 8), (270, ASCII, b'{"shape": [2, 20, 30]}\0')], zlib.compress(PLANE.tobytes())),
        "declares 2 planes but has 1 page",
    ),
    "shape_nested.tif": (described(b'{"shape": ' + b"[" * 10**5), "damaged"),
    "imagej.tif": (described(b"ImageJ=1.53\nimages=99999999\nslices=99999999\n"), "declares|truncated"),
    "imagej_short.tif": (described(b"ImageJ=1.53\nimages=2\nslices=2\n"), "declares|truncated"),
    "imagej_text.tif": (described(b"ImageJ=1.53\nslices=-7\n"), "'-7' planes"),
    "ome_huge.tif": (described(ome('SizeZ="99999999" SizeC="99999" SizeT="9999"')), "declares"),
    "ome_digits.tif": (described(ome(f'SizeZ="{"9" * 10**4}" SizeC="1" SizeT="1"')), "whole number"),
    "ome_negative.tif": (described(ome('SizeZ="-1" SizeC="-1" SizeT="1"')), "whole number"),
    "ome_cut.tif": (described(ome(ONE)[:-20] + b"OME>"), "OME-XML is damaged"),
    "ome_bomb.tif": (described(ome(ONE, "<X>&b;</X>", BOMB)), "entities"),
    "ome_order.tif": (described(ome(ONE).replace(b"XYZCT", b"XZYCT")), "DimensionOrder"),
    "ome_elsewhere.tif": (described(ome(ONE, '<TiffData IFD="7"/>')), "places pages 7"),
    "ome_nowhere.tif": (described(ome(ONE, '<TiffData IFD="0" PlaneCount="0"/>')), "no page for 1 of 1"),
    "ome_others.tif": (
        described(ome(ONE, "".join(f'<TiffData><UUID FileName="{n}.tif">{n}</UUID></TiffData>' for n in "ab"))),
        "several files .'a.tif', 'b.tif'",
    ),
    "ome_companion.tif": (
        described(b'<OME><BinaryOnly MetadataFile="a.companion.ome"/></OME>'),
        "another file, 'a.companion.ome'",
    ),
    "ome_samples.tif": (
        described(ome('SizeZ="1" SizeC="3" SizeT="1"', '<Channel SamplesPerPixel="3"/>')),
        "tells of 3 samples a voxel, but page 0 has 1",
    ),
    "ome_size.tif": (described(ome(ONE).replace(b'SizeX="30"', b'SizeX="31"')), "describes planes of 31 x 20"),
    "deflate_short.tif": (tiff([*PLAIN, (259, SHORT, 8)], zlib.compress(bytes(1199))), "too early"),
    "deflate_of_noise.tif": (tiff([*PLAIN, (259, SHORT, 8)], bytes(range(256))), "bad deflate"),
    "lzw_of_noise.tif": (tiff([*PLAIN, (259, SHORT, 5)], bytes(range(256))), "can not be decoded"),
    "jpeg_of_noise.tif": (tiff([*PLAIN, (258, SHORT, 8), (259, SHORT, 7)], bytes(999)), "no JPEG"),
    "chunk.png": (b"\x89PNG\r\n\x1a\n" + struct.pack(">I4s", 2**31 - 1, b"IHDR") + bytes(20), "can not be read"),
}


def jpeg_bomb() -> bytes:
    """Return a TIFF of a small page whose JPEG stream declares a huge one."""
    file = io.BytesIO()
    Image.new("L", (32, 32)).save(file, "JPEG")
    stream = bytearray(file.getvalue())
    at = stream.index(b"\xff\xc0")
    stream[at + 5 : at + 9] = struct.pack(">HH", 65000, 65000)
    return tiff([*PLAIN, (258, SHORT, 8), (259, SHORT, 7)], bytes(stream))


def png_bomb(edge: int) -> bytes:
    head = struct.pack(">IIBBBBB", edge, edge, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(10**6))), (b"IEND", b"")]
    parts = [struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def overlapping_directories() -> bytes:
    """Return a chain whose directories lie one over the other, many for few bytes."""
    size = 40_000
    content = bytearray(struct.pack("<HHIHHI", 0x4949, 42, 8, 0, 0, 0) + bytes(size))
    for place in range(8, size - 12_100, 6):  # 1000 tags each, all of them zeros but the links
        struct.pack_into("<H", content, place, 1000)
        struct.pack_into("<I", content, place + 2 + 12_000, place + 6)
    return bytes(content)


def zip_of(data: bytes, **entry: int) -> bytes:
    """Return a zip file of one member, whose directory says of it what is given."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.tif", data)
    content = bytearray(file.getvalue())
    at = content.rindex(b"PK\x01\x02")
    places = {
        "flags": (8, "<H"),
        "method": (10, "<H"),
        "crc": (16, "<I"),
        "packed": (20, "<I"),
        "size": (24, "<I"),
        "at": (42, "<I"),
    }
    for name, value in entry.items():
        offset, form = places[name]
        struct.pack_into(form, content, at + offset, value)
    return bytes(content)


def zips() -> dict[str, tuple[bytes, str]]:
    data = tiff(PLAIN)
    good = zip_of(data)
    names = {}
    for name, member in (("up", "../a.tif"), ("root", "/etc/a.tif"), ("drive", "C:\\a.tif"), ("inner_up", "x/../../a.tif")):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(member, data)
        names[f"zip_{name}.zip"] = (file.getvalue(), "leads out of it")
    return names | {
        "zip_text.zip": (b"once upon a time", "can not be read as a zip file"),
        "zip_cut.zip": (good[:-30], "can not be read as a zip file"),
        "zip_larger.zip": (zip_of(data, size=len(data) + 1), "ends after"),
        "zip_smaller.zip": (zip_of(data, size=len(data) - 1), "more than the"),
        "zip_ratio.zip": (zip_of(data, size=2**31), "declares 2147483648 bytes"),
        "zip_bomb.zip": (zip_of(bytes(5 * 10**7), size=10**6), "more than the 1000000"),
        "zip_checksum.zip": (zip_of(data, crc=7), "checksum"),
        "zip_encrypted.zip": (zip_of(data, flags=1), "encrypted"),
        "zip_method.zip": (zip_of(data, method=14), "method 14"),
        "zip_place.zip": (zip_of(data, at=7), "does not lie at byte|Bad|damaged"),
        "zip_long.zip": (zip_of(data, packed=10**9, size=10**9), "truncated|can not be read"),
        "zip_stored.zip": (zip_of(data, method=0), "declares|does not lie"),
    }


def test_hostile_files_are_refused_within_limits(tmp_path: Path) -> None:
    files = HOSTILE | zips()
    files["jpeg_bomb.tif"] = (jpeg_bomb(), "65000 x 65000")
    files["bomb.png"] = (png_bomb(60_000), "declares")
    files["small_bomb.png"] = (png_bomb(13_000), "declares")
    files["overlapping.tif"] = (overlapping_directories(), "one over the other")
    for name, (content, _) in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.tif").mkdir()
    os.mkfifo(tmp_path / "pipe.tif")
    results, peak = run(tmp_path)
    assert set(results) == {*files, "folder.tif", "pipe.tif"}
    patterns = {name: pattern for name, (_, pattern) in files.items()}
    patterns |= {"folder.tif": "irectory", "pipe.tif": "no regular file"}
    readable = {name for name, pattern in patterns.items() if not pattern}
    assert {name for name, result in results.items() if "error" not in result} == readable
    wrong = [
        result
        for name, result in results.items()
        if (
            name not in readable
            and (name not in (said := result["message"]) or not re.search(patterns[name], said.replace(name, "")))
        )
        or result.get("error", "").startswith("leaked")
    ]
    assert not wrong
    assert max(result["seconds"] for result in results.values()) < 10
    assert peak < 500 << 20


def run(folder: Path) -> tuple[dict[str, dict[str, Any]], int]:
    command = [sys.executable, "-m", "tests.images.read_files", str(folder)]
    home = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-500:]
    *lines, peak = [json.loads(line) for line in done.stdout.splitlines()]
    return {line["name"]: line for line in lines}, peak["peak"]


# ------------------------------------------------------------------------------------------------- small valid files


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[bytes, Any]]:
    folder = tmp_path_factory.mktemp("valid")
    return {path.name: (path.read_bytes(), read_whole(path)) for path in small_files(folder)}


def read_or_refused(path: Path, content: bytes) -> Any:
    path.write_bytes(content)
    forget_parsed()
    try:
        result = read_whole(path)
    except WkdaskError as error:
        return None if path.name in str(error) else pytest.fail(f"the file is not named: {error}")
    picture = parsed(str(path))
    form = picture.form
    assert result.shape == (*(extent for _, extent in picture.dims), form.height, form.width, form.channels)
    assert result.dtype == form.dtype
    return result


def test_truncated_anywhere_a_file_is_refused_or_read_whole(tmp_path: Path, valid: dict[str, tuple[bytes, Any]]) -> None:
    """The step is odd, so that the ends of all structures are met from both sides in some file."""
    for name, (content, expected) in valid.items():
        ends = range(max(0, len(content) - 12), len(content))
        for size in (*range(0, 24), *range(24, len(content), 47), *ends):
            result = read_or_refused(tmp_path / name, content[:size])
            assert result is None or np.array_equal(result, expected), (name, size)


@settings(max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_changed_bytes_never_break_a_reader(tmp_path: Path, valid: dict[str, tuple[bytes, Any]], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(valid)))
    content = bytearray(valid[name][0])
    places = st.one_of(st.integers(0, 63), st.integers(0, len(content) - 1))
    for place in data.draw(st.lists(places, min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    read_or_refused(tmp_path / name, bytes(content))


# --------------------------------------------------------------------------------------------------------- zip files


def test_members_of_a_zip_file_read_like_files(tmp_path: Path, valid: dict[str, tuple[bytes, Any]]) -> None:
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = tmp_path / f"{method}.zip"
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.mkdir("folder")
            for name, (content, _) in valid.items():
                archive.writestr(f"folder/{name}", content)
        stamp = path.stat().st_mtime_ns
        assert zip_members(str(path)) == [(f"folder/{name}", len(content), stamp) for name, (content, _) in valid.items()]
        for name, (content, expected) in valid.items():
            member = f"{path}!/folder/{name}"
            assert (status(member).st_size, status(member).st_mtime_ns) == (len(content), stamp)
            assert np.array_equal(read_whole(member), expected)
            with opened(member) as source:
                assert source.size == len(content) and source.held == (len(content) if method else 0)
                assert read_bytes(source, 3, 9) == content[3:12]
                with source.file() as file:
                    assert file.read() == content
                with pytest.raises(EOFError):
                    read_bytes(source, len(content) - 3, 4)


def test_a_member_is_unpacked_once_for_many_bands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, data = tmp_path / "a.zip", voxels(40, 30)
    file = io.BytesIO()
    tifffile.imwrite(file, data, rowsperstrip=4)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.tif", file.getvalue())
    times: list[int] = []
    inflated: Callable[..., bytes] = zip_archive._inflated
    monkeypatch.setattr(zip_archive, "_inflated", lambda *one: (times.append(1), inflated(*one))[1])
    picture = parsed(f"{path}!/a.tif")
    for y in range(40):
        assert np.array_equal(window_of(picture, f"{path}!/a.tif", 0, (y, y + 1), (0, 30))[0, :, 0], data[y])
    assert len(times) == 1
    assert picture.decoded_bytes >= len(file.getvalue())


def test_a_changed_archive_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    for value in (7, 9):
        path.write_bytes(zip_of(tiff(PLAIN, np.full((20, 30), value, "uint16").tobytes())))
        os.utime(path, ns=(value, value))
        assert (read_whole(f"{path}!/a.tif") == value).all()


def test_members_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zip_of(tiff(PLAIN)))
    with pytest.raises(StorageError, match=r"no member 'b\.tif'"):
        parsed(f"{tmp_path}/a.zip!/b.tif")
    with pytest.raises(StorageError, match=r"b\.zip"):
        parsed(f"{tmp_path}/b.zip!/a.tif")
    with pytest.raises(StorageError, match=r"b\.zip"):
        zip_members(f"{tmp_path}/b.zip")
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.tif", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.tif", b"2")
    with pytest.raises(CorruptImageError, match="two members"):
        zip_members(f"{tmp_path}/two.zip")
