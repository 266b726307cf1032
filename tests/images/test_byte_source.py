"""Files, and members of zip files, are the bytes that they hold, by whichever way they are read."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import examples
from wkdask.errors import CorruptImageError, StorageError, UnsupportedImageDataError, UnsupportedImageFormatError
from wkdask.images import byte_source
from wkdask.images.byte_source import FileSource, opened, read_bytes, read_into, status, zip_members
from wkdask.storage import zip_archive

KINDS = ["plain", "stored", "deflated"]
NAME = "folder/a.bin"


@pytest.fixture(autouse=True)
def nothing_known() -> None:
    zip_archive._unpacked.clear()
    zip_archive._directories.clear()


def write(folder: Path, kind: str, data: bytes, name: str = NAME) -> str:
    """Write a file or the second member of an archive, and return its path."""
    if kind == "plain":
        (folder / "a.bin").write_bytes(data)
        return str(folder / "a.bin")
    path = folder / f"{kind}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if kind == "deflated" else zipfile.ZIP_STORED) as archive:
        archive.writestr("before", b"something else")
        archive.writestr(name, data)
        archive.writestr("behind", b"something more")
    return f"{path}!/{name}"


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(KINDS),
    data=st.binary(max_size=300) | st.binary(max_size=30).map(lambda one: one * 2000),
    steps=st.lists(st.tuples(st.sampled_from("rsceti"), st.integers(-90_000, 90_000)), max_size=12),
)
def test_a_source_is_the_bytes_of_its_file(tmp_path: Path, kind: str, data: bytes, steps: list[tuple[str, int]]) -> None:
    path = write(tmp_path, kind, data)
    zip_archive._directories.clear()  # archives of one size, written within one tick of the clock
    zip_archive._unpacked.clear()
    with opened(path) as source, source.file() as file:
        same = io.BytesIO(data)
        assert source.size == len(data) == source.status().st_size == status(path).st_size
        assert source.held == (len(data) if kind == "deflated" else 0)
        assert source.status().st_mtime_ns == status(path).st_mtime_ns == os.stat(path.partition("!")[0]).st_mtime_ns
        for what, number in steps:
            if what == "r":
                assert file.read(max(-1, number)) == same.read(max(-1, number))
            elif what == "t":
                assert file.tell() == same.tell()
            elif what == "i":
                buffer = bytearray(abs(number) % 500)
                got = source.read_into(memoryview(buffer), abs(number))
                assert bytes(buffer[:got]) == data[abs(number) : abs(number) + len(buffer)]
            else:
                at = number + {"s": 0, "c": same.tell(), "e": len(data)}[what]
                if at >= 0:
                    assert file.seek(number, "sce".index(what)) == same.seek(at) == file.tell()


@pytest.mark.parametrize("kind", KINDS)
def test_more_than_there_is_can_not_be_read(tmp_path: Path, kind: str) -> None:
    data = bytes(range(200))
    with opened(write(tmp_path, kind, data)) as source:
        assert read_bytes(source, 0, 200) == data and read_bytes(source, 200, 0) == b""
        with pytest.raises(EOFError, match="ends at byte 200, 1 bytes too early"):
            read_bytes(source, 100, 101)
        buffer = bytearray(30)
        with pytest.raises(EOFError, match="ends at byte 200, 20 bytes too early"):
            read_into(source, buffer, 190)
        assert buffer[:10] == data[190:]
        with pytest.raises(EOFError):
            read_bytes(source, 0, 2**62)  # no room is made for it


@pytest.mark.parametrize("missing", [("preadv",), ("preadv", "pread")], ids=len)
@pytest.mark.parametrize("kind", ["plain", "deflated"])
def test_systems_without_positioned_reads(tmp_path: Path, kind: str, missing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = np.random.default_rng(0).bytes(5000)
    path = write(tmp_path, kind, data)
    if kind == "deflated" and "pread" in missing:
        status(path)
        with opened(path):
            pass  # unpacked with them
    for name in missing:
        monkeypatch.delattr(os, name, raising=False)
    with opened(path) as source:
        assert read_bytes(source, 17, 4000) == data[17:4017] and read_bytes(source, 3, 9) == data[3:12]


def test_short_reads_are_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = np.random.default_rng(0).bytes(500)
    some = byte_source._read_some
    monkeypatch.setattr(byte_source, "_read_some", lambda one, view, offset: some(one, view[:7], offset))
    for kind in ("plain", "stored"):
        with opened(write(tmp_path, kind, data)) as source:
            assert read_bytes(source, 11, 400) == data[11:411]
            with source.file() as file:
                assert file.read() == data


def test_a_run_of_a_file_that_begins_where_the_file_does(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abcdefgh")
    with open(tmp_path / "a", "rb") as file:
        file.seek(5)  # nobody's position counts
        for start, size in ((0, 8), (0, 3), (2, 6), (2, 3)):
            with FileSource(file.fileno(), size, 0, start).file() as run:
                assert run.read() == b"abcdefgh"[start : start + size]


@pytest.mark.parametrize("kind", KINDS)
def test_no_descriptor_stays_open(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind, bytes(999))
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    for _ in range(3):
        with opened(path) as source, source.file() as file:
            file.read(5)
        status(path)
        for wrong in (f"{tmp_path}", f"{path}!/nothing"):
            with pytest.raises((OSError, CorruptImageError)), opened(wrong):
                pass
    assert (len(os.listdir("/proc/self/fd")) if before else 0) == before


# --------------------------------------------------------------------------------------------------------- zip files


def changed(path: Path, place: int, form: str, value: int, *, local: bool = False) -> None:
    """Change a number in the directory's entry of the only member, or in the header before its data."""
    content = bytearray(path.read_bytes())
    struct.pack_into(form, content, content.index(b"PK\3\4" if local else b"PK\1\2") + place, value)
    path.write_bytes(content)


def archive_of(path: Path, data: bytes, method: int = zipfile.ZIP_DEFLATED) -> int:
    """Write an archive of one member; return its packed size."""
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a", data)
        return archive.infolist()[0].compress_size


@pytest.mark.parametrize("flag", [0x1, 0x40])
def test_encrypted_members(tmp_path: Path, flag: int) -> None:
    archive_of(tmp_path / "a.zip", b"x")
    changed(tmp_path / "a.zip", 8, "<H", flag)
    with pytest.raises(UnsupportedImageFormatError, match=r"'a' in '.*a\.zip' is encrypted"), opened(f"{tmp_path}/a.zip!/a"):
        pass


@pytest.mark.parametrize("method", [1, 9, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, 93])
def test_methods_of_packing(tmp_path: Path, method: int) -> None:
    archive_of(tmp_path / "a.zip", b"x")
    changed(tmp_path / "a.zip", 10, "<H", method)
    with pytest.raises(UnsupportedImageFormatError, match=f"method {method};"), opened(f"{tmp_path}/a.zip!/a"):
        pass


def test_sizes_that_can_not_be(tmp_path: Path) -> None:
    packed = archive_of(tmp_path / "a.zip", bytes(10**6))
    most = zip_archive.LARGEST_RATIO * packed
    for size, word in [(most, "ends after 1000000 of"), (most + 1, f"declares {most + 1} bytes, of which {packed}")]:
        changed(tmp_path / "a.zip", 24, "<I", size)
        with pytest.raises(CorruptImageError, match=word), opened(f"{tmp_path}/a.zip!/a"):
            pass
    archive_of(tmp_path / "b.zip", bytes(100), zipfile.ZIP_STORED)
    for size in (99, 101):
        changed(tmp_path / "b.zip", 24, "<I", size)
        with pytest.raises(CorruptImageError, match=f"declares {size} bytes"), opened(f"{tmp_path}/b.zip!/a"):
            pass


def test_the_largest_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_archive, "LARGEST_MEMBER", 1000)
    for size, method in ((1000, zipfile.ZIP_DEFLATED), (1001, zipfile.ZIP_STORED)):
        archive_of(tmp_path / "a.zip", bytes(size), method)
        with opened(f"{tmp_path}/a.zip!/a") as source:
            assert source.size == size
    archive_of(tmp_path / "a.zip", bytes(1001))
    with pytest.raises(UnsupportedImageDataError, match="1001 bytes, more than the 1000"), opened(f"{tmp_path}/a.zip!/a"):
        pass


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_data_that_reaches_to_the_end_of_the_file(tmp_path: Path, method: int) -> None:
    path = tmp_path / "a.zip"
    packed = archive_of(path, b"0123456789" * 9, method)
    length = path.stat().st_size
    behind = length - 30 - 1 - packed
    changed(path, 28, "<H", behind, local=True)  # extra bytes between header and data, up to the end
    with open(path, "rb") as file:
        archive = zip_archive.Archive(str(path), FileSource(file.fileno(), length, 0), "whole")
        member = archive.member("a")
        assert archive.data_start(member) == length - packed
        for offset in (length - 29, length, 2**40, 2**64 - 1, -1):
            with pytest.raises(CorruptImageError, match=f"'a' does not lie at byte {offset}"):
                archive.data_start(replace(member, offset=offset))
        shorter = replace(archive, source=FileSource(file.fileno(), length - 1, 0))
        with pytest.raises(CorruptImageError, match=f"should reach to byte {length}, but the file has {length - 1} bytes"):
            shorter.data_start(member)
    changed(path, 28, "<H", behind + 1, local=True)
    with pytest.raises(CorruptImageError, match=f"is truncated: 'a' should reach to byte {length + 1}"):
        opened(f"{path}!/a").__enter__()


@pytest.mark.parametrize(("place", "form"), [(0, "<I"), (8, "<H")])
def test_members_without_a_header(tmp_path: Path, place: int, form: str) -> None:
    archive_of(tmp_path / "a.zip", b"x")
    changed(tmp_path / "a.zip", place, form, 7, local=True)
    with pytest.raises(CorruptImageError, match="'a' does not lie at byte 0"), opened(f"{tmp_path}/a.zip!/a"):
        pass


def test_damaged_members(tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes(3 << 20)
    packed = archive_of(tmp_path / "a.zip", data)
    with opened(f"{tmp_path}/a.zip!/a") as source:  # longer than what is unpacked at once
        assert source.size == len(data) and read_bytes(source, 0, len(data)) == data
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[31 + packed // 2] ^= 0xFF
    (tmp_path / "b.zip").write_bytes(content)
    with pytest.raises(CorruptImageError, match=r"'a' in '.*b\.zip' can not be unpacked"), opened(f"{tmp_path}/b.zip!/a"):
        pass
    changed(tmp_path / "a.zip", 20, "<I", packed - 2)
    os.utime(tmp_path / "a.zip", ns=(1, 1))
    with pytest.raises(CorruptImageError, match="it ends after"), opened(f"{tmp_path}/a.zip!/a"):
        pass
    changed(tmp_path / "a.zip", 20, "<I", packed)
    changed(tmp_path / "a.zip", 16, "<I", 7)
    zip_archive._directories.clear()
    zip_archive._unpacked.clear()
    with pytest.raises(CorruptImageError, match=r"its checksum is .*, expected 00000007"), opened(f"{tmp_path}/a.zip!/a"):
        pass


@pytest.fixture
def unpackings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of members that are unpacked, one for each time."""
    names: list[str] = []
    inflated = zip_archive._inflated
    monkeypatch.setattr(
        zip_archive, "_inflated", lambda one, start, member: (names.append(member.name), inflated(one, start, member))[1]
    )
    return names


def test_members_are_remembered_up_to_a_limit(tmp_path: Path, unpackings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_archive, "KEPT_BYTES", 2000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, size in {"a": 1000, "b": 1000, "c": 1, "large": 5000}.items():
            archive.writestr(name, bytes(size))

    def ask(names: str | list[str]) -> str:
        unpackings.clear()
        for name in names:
            with opened(f"{tmp_path}/a.zip!/{name}"):
                pass
        return "".join(unpackings)

    assert ask("abab") == "ab"  # just within the limit
    assert ask("ac") == "c"  # b was asked for longer ago than a
    assert ask("acb") == "b"
    assert ask(["large", "large"]) == "large"  # the last one, whatever its size
    assert ask("a") == "a"


def test_directories_are_remembered_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    directory = zip_archive._read_directory
    monkeypatch.setattr(zip_archive, "_read_directory", lambda one: (read.append(Path(one.name).stem), directory(one))[1])
    monkeypatch.setattr(zip_archive, "KEPT_DIRECTORIES", 2)
    for name in "abc":
        archive_of(tmp_path / f"{name}.zip", b"x")
    for name in "aabbabcbca":
        assert [member[:2] for member in zip_members(f"{tmp_path}/{name}.zip")] == [("a", 1)]
    assert read == ["a", "b", "c", "a"]
    os.utime(tmp_path / "a.zip", ns=(1, 1))
    assert zip_members(f"{tmp_path}/a.zip") == [("a", 1, 1)]
    assert read == ["a", "b", "c", "a", "a"]


@pytest.mark.parametrize(
    ("name", "fits"),
    [("a..b", True), ("a/..b/c", True), ("..", False), ("a/..", False), ("a\\..\\b", False), ("/a", False), ("c:a", False),
     ("ab:c", True), ("a/c:b", True), (".a", True)],
)  # fmt: skip
def test_names_of_members(tmp_path: Path, name: str, fits: bool) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, b"x")
    if fits:
        assert zip_members(f"{tmp_path}/a.zip")[0][0] == name
        with opened(f"{tmp_path}/a.zip!/{name}") as source:
            assert read_bytes(source, 0, 1) == b"x"
        return
    with pytest.raises(CorruptImageError, match="whose name leads out of it"):
        zip_members(f"{tmp_path}/a.zip")


def test_archives_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"nothing")
    with pytest.raises(CorruptImageError, match=r"a\.zip' can not be read as a zip file"):
        zip_members(f"{tmp_path}/a.zip")
    (tmp_path / "b.zip").mkdir()
    for name in ("b.zip", "c.zip"):
        with pytest.raises(StorageError, match=rf"{name}' can not be read"):
            zip_members(f"{tmp_path}/{name}")
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.mkdir("folder")
    assert zip_members(f"{tmp_path}/d.zip") == []


def test_many_threads_unpack_the_same(tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes(100_000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in "abcd":
            archive.writestr(name, data + name.encode())

    def last(name: str) -> bytes:
        with opened(f"{tmp_path}/a.zip!/{name}") as source:
            return bytes(read_bytes(source, 99_999, 2))

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(last, "abcd" * 20)) == [data[-1:] + name.encode() for name in "abcd" * 20]
