"""Members of zip files are files, wherever the archive lies: read by few ranges, never written, and never of another state."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import examples
from wkdask.errors import CorruptImageError, InputError, StorageError
from wkdask.storage import Location, Options
from wkdask.storage.zip_archive import split_member
from wkdask.storage.zip_files import EXTRA_BYTES, archive_of, zip_place

METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]
PART = st.text("ab.-!\U0010ffff", min_size=1, max_size=3).filter(lambda part: part not in (".", ".."))
TREES = st.dictionaries(st.lists(PART, min_size=1, max_size=3).map(tuple), st.binary(max_size=40), max_size=12)


def packed(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    with zipfile.ZipFile(file := io.BytesIO(), "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def place_of(content: bytes) -> Location:
    place = Location(f"memory://{uuid4().hex}/a.zip")
    place.write_bytes(content)
    return place


def is_tree(names: set[str]) -> bool:
    """Whether none of the files is a folder of others."""
    return not any(other.startswith(f"{name}/") for name in names for other in names)


@settings(max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=TREES, method=st.sampled_from(METHODS), local=st.booleans(), at=st.integers(-50, 50), size=st.integers(1, 60))
def test_an_archive_is_the_folder_that_was_packed(tmp_path: Path, tree, method, local, at, size) -> None:
    members = {"/".join(path): data for path, data in tree.items() if "".join(path)[1:2] != ":"}
    members = {name: data for name, data in members.items() if is_tree({name, *members})}
    folder = Location(f"memory://{uuid4().hex}/folder")
    for name, data in members.items():
        (folder / name).write_bytes(data)
    archive = Location(str(tmp_path / f"{uuid4().hex}.zip")) if local else Location(f"{folder.parent.url}/a.zip")
    archive.write_bytes(packed(members, method))
    top = zip_place(archive)
    assert archive_of(top / "x" / "y") == archive and archive_of(archive) is None
    assert sorted(top.files_below()) == sorted((name, len(data)) for name, data in members.items())
    for inner in {"", "none", *("/".join(name.split("/")[:depth]) for name in members for depth in (1, 2, 3))}:
        one, other = (top / inner, folder / inner) if inner else (top, folder)
        assert one.names() == other.names() and one.is_file() == other.is_file()
        assert (inner == "") or one.is_folder() == other.is_folder()
    for name, data in members.items():
        assert (top / name).read_bytes() == data and (top / name).stat().size == len(data)
        found, other = ((one / name).read_range(at, 0 if at < 0 else at + size) for one in (top, folder))
        assert (found.data, found.size) == (other.data, other.size)
    assert (top / "none").read_range(0, 5) is None and (top / "none").read_if_there() is None and (top / "none").stat() is None


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The ranges of archives that are read."""
    ranges: list[tuple[int, int]] = []
    read_range = Location.read_range

    def noted(self: Location, start: int, stop: int = 0) -> object:
        if not self.url.startswith("zip://"):
            ranges.append((start, stop))
        return read_range(self, start, stop)

    monkeypatch.setattr(Location, "read_range", noted)
    return ranges


def test_few_requests(asked: list[tuple[int, int]]) -> None:
    data = {f"{n}.tif": np.random.default_rng(n).bytes(10_000) for n in range(500)}
    top = zip_place(place_of(packed(data)))
    assert len(top.names()) == 500 and len(asked) <= 5  # size and version, the end twice, the directory
    del asked[:]
    for name in ("3.tif", "77.tif"):
        assert (top / name).read_bytes() == data[name]
    assert len(asked) == 2 and sum(stop - start for start, stop in asked) < 2 * (10_000 + EXTRA_BYTES + 50)
    del asked[:]
    assert (top / "3.tif").read_bytes(5000, 6000) == data["3.tif"][5000:6000]
    assert [stop - start for start, stop in asked] == [1000]
    del asked[:]
    again = pickle.loads(pickle.dumps(top))
    assert (again / "9.tif").read_range(9990, 20_000).data == data["9.tif"][9990:]
    assert len(asked) == 2  # header, range


def test_an_archive_that_was_replaced() -> None:
    archive = place_of(packed({"a": b"old one"}))
    top = zip_place(archive)
    assert (top / "a").read_bytes() == b"old one"
    archive.write_bytes(packed({"a": b"another"}))
    with pytest.raises(CorruptImageError, match=r"a\.zip' was changed while it was read. Run the same again"):
        (top / "a").read_bytes()
    assert (zip_place(archive) / "a").read_bytes() == b"another"


@pytest.mark.parametrize("method", METHODS)
def test_a_flipped_bit_is_never_data(method: int) -> None:
    data = np.random.default_rng(0).bytes(200)
    sound = packed({"a": data}, method)
    for at in range(30, 30 + 200, 7):
        broken = bytearray(sound)
        broken[at] ^= 4
        with pytest.raises(CorruptImageError, match=r"checksum is|can not be unpacked|does not lie"):
            (zip_place(place_of(bytes(broken))) / "a").read_bytes()


@pytest.mark.parametrize("offset", [2**64 - 1, 2**63, 10**6])
def test_members_that_should_lie_anywhere(offset: int) -> None:
    """The directory may say any 64 bit of where a member lies."""
    content = packed({"a": b"hello"})
    at = content.index(b"PK\x01\x02")
    more = b"\x01\x00\x08\x00" + offset.to_bytes(8, "little")
    entry = bytearray(content[at : content.index(b"PK\x05\x06")])
    entry[30:32], entry[42:46] = len(more).to_bytes(2, "little"), b"\xff" * 4
    end = bytearray(content[content.index(b"PK\x05\x06") :])
    end[12:16] = (len(entry) + len(more)).to_bytes(4, "little")
    place = place_of(content[:at] + bytes(entry) + more + bytes(end))
    with pytest.raises(CorruptImageError, match=f"'a' does not lie at byte {offset}|can not be read as a zip file"):
        (zip_place(place) / "a").read_bytes()


def writes(top: Location) -> Iterator[object]:
    yield lambda: (top / "a").write_bytes(b"1")
    yield lambda: (top / "a").append(b"1")
    yield lambda: (top / "b").create(b"1")
    yield (top / "b").make_folder
    yield (top / "a").delete
    yield lambda: top.delete_files(["a"])


def test_members_are_not_written() -> None:
    archive = place_of(before := packed({"a": b"hello"}))
    for write in writes(zip_place(archive)):
        with pytest.raises(StorageError, match=r"a\.zip.* can not be .*members of zip files are only read"):
            write()  # type: ignore[operator]
    assert archive.read_bytes() == before


def test_names_of_other_letters() -> None:
    place = Location(f"memory://{uuid4().hex}/\u0130stanbul/A.ZIP")
    place.write_bytes(packed({"./\u0130.tif": b"hello"}))
    assert (zip_place(place) / "./\u0130.tif").read_bytes() == b"hello"
    assert split_member("/data/\u0130/a.zip!/x.tif") == ("/data/\u0130/a.zip", "x.tif")


def test_urls_that_were_not_made_here() -> None:
    with pytest.raises(InputError, match=r"names no archive\. Give the path or the URL of the zip file itself"):
        Location("zip://a/b").read_bytes()
    with pytest.raises(InputError, match=r"can not be opened as it is\. Give the path or the URL"):
        Location("zip:///data/a.zip!/b").read_bytes()


def test_no_secret_is_shown() -> None:
    archive = Location("https://me:s3cret@lab/a.zip")
    top = Location(f"zip://{archive.url}!/b", Options({"of": archive.options, "size": 3, "version": "1"}))
    assert str(top) == repr(top) == "https://lab/a.zip!/b" and str(top.parent) == "https://lab/a.zip"
    assert b"s3cret" not in pickle.dumps(top) and archive_of(top) == archive
    assert top.options.conceal("it said s3cret") == "it said ***"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that forks processes")
def test_a_forked_process_reads_on() -> None:
    top = zip_place(place_of(packed({"a": b"hello", "b": b"you"})))
    assert (top / "a").read_bytes() == b"hello"
    child = os.fork()
    if not child:
        os._exit(0 if (top / "b").read_bytes() == b"you" else 1)
    assert os.waitpid(child, 0)[1] == 0
