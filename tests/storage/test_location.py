"""Places: how they are spelled, joined and shown, and what a file there does."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wkdask.errors import DatasetNotFoundError, InputError, StorageError
from wkdask.storage import Location, local, observe
from wkdask.storage.address import Address
from wkdask.storage.location import explained
from wkdask.storage.options import Options

names = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=12).filter(
    lambda name: name not in (".", "..") and len(name.encode()) < 100
)


@pytest.fixture(params=["local", "memory", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    if request.param == "s3":
        return request.getfixturevalue("s3").place  # type: ignore[no-any-return]
    return Location(str(tmp_path)) if request.param == "local" else Location(f"memory://{uuid4().hex}")


@pytest.mark.parametrize(
    ("spelling", "url"),
    [
        ("/lab/ds/", "/lab/ds"),
        ("/lab//x/../ds", "/lab/ds"),
        ("/", "/"),
        ("file:///lab/ds", "/lab/ds"),
        ("file://localhost/lab/ds", "/lab/ds"),
        ("file:///lab/a#1?b", "/lab/a#1?b"),
        ("/odd/name://x", "/odd/name:/x"),
        ("memory://lab/ds/", "memory://lab/ds"),
        ("memory://", "memory://"),
        ("memory:///", "memory://"),
        ("s3://bucket", "s3://bucket"),
    ],
)
def test_spellings(spelling: str, url: str) -> None:
    place = Location(spelling)
    assert place.url == url
    assert place.is_local == url.startswith("/")
    assert Location.of(place) is place
    assert Location(place.url) == place
    assert hash(Location(place.url)) == hash(place)


def test_relative_paths_and_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Location("ds").local_path == tmp_path / "ds"
    assert Location("~/ds").local_path == tmp_path / "home/ds"
    assert Location.of(Path("ds")).local_path == tmp_path / "ds"


@pytest.mark.parametrize("spelling", ["", "a\0b"])
def test_no_path_at_all(spelling: str) -> None:
    with pytest.raises(InputError):
        Location(spelling)


@given(st.sampled_from(["/", "/lab", "memory://lab", "s3://bucket/lab"]), names)
def test_joining_and_taking_apart(start: str, name: str) -> None:
    joined = Location(start) / name
    assert joined.name == name
    assert joined.parent == Location(start)


@pytest.mark.parametrize("root", ["/", "memory://a", "s3://bucket"])
def test_nothing_lies_above_the_root(root: str) -> None:
    assert Location(root).parent == Location(root)
    assert (Location(root) / "x").parent.parent == Location(root)


def test_joining_to_a_bare_protocol() -> None:
    assert Location("memory://") / "lab" == Location("memory://lab")
    assert str(Location("memory://")) == "memory://"


def test_credentials_and_options_are_never_shown() -> None:
    place = Location("https://me:s3cret@host/x?sig=s3cret", (("key", "s3cret"), ("client_kwargs", {"token": "s3cret"})))
    for below in (place, place.parent, Location("https://me:s3cret@host/x", place.options) / "y"):
        for shown in (str(below), repr(below), f"{below}", f"{[below]}"):
            assert "s3cret" not in shown and "host" in shown
    with pytest.raises(StorageError) as caught, explained(place, "read"):
        raise PermissionError(13, "Permission denied")
    assert "s3cret" not in str(caught.value)


def test_options_may_hold_what_has_no_hash() -> None:
    options = {"client_kwargs": {"endpoint_url": "http://x"}, "extra": [1, 2]}
    place = Location.of("s3://bucket/a", options)
    assert {place: 1}[Location.of("s3://bucket/a", dict(reversed(options.items())))] == 1
    assert place != Location("s3://bucket/a")
    assert (place / "b").options == place.options
    assert pickle.loads(pickle.dumps(place)) == place
    wrapped = Location.of(f"dir://{uuid4().hex}", {"fs": None, "target_protocol": "memory", "path": "/x", "target_options": {}})
    wrapped.write_bytes(b"1")
    assert wrapped.read_bytes() == b"1"


def test_an_unknown_protocol_is_named() -> None:
    with pytest.raises(InputError, match="nosuch://"):
        Location("nosuch://a/b").read_bytes()


def test_a_place_on_a_store_has_no_local_path() -> None:
    with pytest.raises(StorageError, match="memory://a"):
        _ = Location("memory://a").local_path


def test_reading_ranges(folder: Location) -> None:
    place = folder / "deep" / "a.bin"
    assert not place.is_file() and place.stat() is None
    place.write_bytes(b"0123456789")
    assert place.is_file() and not place.is_folder() and (folder / "deep").is_folder() and not (folder / "deep").is_file()
    assert place.read_bytes() == b"0123456789"
    assert place.read_bytes(3, 5) == b"34"
    assert place.read_bytes(8) == b"89"
    assert place.read_bytes(8, 100) == b"89"
    assert place.read_bytes(5, 5) == b""
    stat = place.stat()
    assert stat and stat.size == 10 and stat.mtime_ns > 0


def test_names_and_deleting(folder: Location) -> None:
    assert folder.names() == [] or folder.is_local
    for name in ("b", "a", "c/d", "c/e"):
        (folder / name).write_bytes(b"1")
    assert folder.names() == ["a", "b", "c"]
    assert (folder / "none").names() == []
    (folder / "c").delete()
    (folder / "c").delete()
    assert folder.names() == ["a", "b"]
    (folder / "a").delete()
    assert folder.names() == ["b"]


@pytest.mark.parametrize("fault", [OSError(errno.ENOTEMPTY, "Directory not empty"), FileNotFoundError(errno.ENOENT, "gone")])
def test_a_folder_goes_in_which_others_still_write_or_delete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: OSError
) -> None:
    """As workers do that do not know yet that their run is over."""
    folder = Location(tmp_path / "jobs")
    (folder / "a" / "b").write_bytes(b"1")
    rmtree, faults = shutil.rmtree, [fault, fault]

    def remove(path: str) -> None:
        if faults:
            raise faults.pop()
        rmtree(path)

    monkeypatch.setattr(shutil, "rmtree", remove)
    folder.delete()
    assert not (tmp_path / "jobs").exists() and not faults

    monkeypatch.setattr(local, "DELETED_SECONDS", 0.0)
    (folder / "a" / "b").write_bytes(b"1")
    faults += [fault] * 100
    with pytest.raises(StorageError):
        folder.delete()


def test_appending(folder: Location) -> None:
    place = folder / "log"
    place.append(b"1\n")
    place.append(b"2\n")
    assert place.read_bytes() == b"1\n2\n"


def test_create_only_what_is_not_there(folder: Location) -> None:
    place = folder / "new" / "a"
    assert place.create(b"1")
    assert not place.create(b"2")
    assert place.read_bytes() == b"1"
    assert place.parent.names() == ["a"]


def test_a_writer_that_does_not_publish_leaves_nothing(folder: Location) -> None:
    place = folder / "sub" / "a"
    place.write_bytes(b"old")
    with place.writer() as out:
        out.write(b"new")
    assert place.read_bytes() == b"old"
    with pytest.raises(KeyError), place.writer() as out:
        out.write(b"new")
        raise KeyError
    assert place.read_bytes() == b"old"
    assert place.parent.names() == ["a"]


def test_writers_copy_ranges_of_other_files(folder: Location) -> None:
    (folder / "source").write_bytes(bytes(range(256)))
    with (folder / "a").writer() as out:
        out.write(b"<")
        out.copy(folder / "source", 10, 20)
        out.write(memoryview(b"|"))
        out.copy(folder / "source", 250, 256)
        out.copy(folder / "source", 3, 3)
        out.write(b">")
        stat = out.publish()
    expected = b"<" + bytes(range(10, 20)) + b"|" + bytes(range(250, 256)) + b">"
    assert (folder / "a").read_bytes() == expected
    found = (folder / "a").stat()
    assert found and (stat.size, stat.stamp) == (found.size, found.stamp) == (len(expected), stat.stamp)


def test_copying_more_than_there_is(folder: Location) -> None:
    (folder / "source").write_bytes(b"12345")
    with pytest.raises(StorageError, match="source"), (folder / "a").writer() as out:
        out.copy(folder / "source", 0, 6)
        out.publish()
    assert not (folder / "a").is_file()


def test_a_missing_file_is_an_error_that_names_it(folder: Location) -> None:
    with pytest.raises(StorageError, match=r"nothing.*no such file"):
        (folder / "nothing").read_bytes()


def test_our_own_errors_are_not_renamed_inside_a_writer(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError), Location(str(tmp_path / "a")).writer():
        raise DatasetNotFoundError("there is none")


def test_observers_see_each_change_and_only_while_they_look(folder: Location) -> None:
    seen: list[tuple[str, str]] = []
    with observe(lambda event, url: seen.append((event, url.rpartition("/")[2]))):
        (folder / "a").write_bytes(b"1")
        (folder / "b").append(b"1")
        (folder / "a").delete()
        (folder / "b").read_bytes()
        with (folder / "c").writer() as out:
            out.write(b"not published")
    (folder / "a").write_bytes(b"1")
    assert seen == [("publish", "a"), ("append", "b"), ("delete", "a")]


def test_links_are_removed_not_followed(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").write_text("1")
    os.symlink(tmp_path / "kept", tmp_path / "link")
    (tmp_path / "folder").mkdir()
    os.symlink(tmp_path / "kept", tmp_path / "folder/link")
    Location(str(tmp_path / "link")).delete()
    Location(str(tmp_path / "folder")).delete()
    assert os.listdir(tmp_path) == ["kept"] and (tmp_path / "kept/file").exists()


def test_files_that_may_not_be_read_or_written(
    open_folder: Path, unprivileged: Callable[[], AbstractContextManager[None]]
) -> None:
    (open_folder / "a").write_text("1")
    os.chmod(open_folder / "a", 0)
    os.chmod(open_folder, 0o555)
    place = Location(str(open_folder / "a"))
    with unprivileged():
        for act in (place.read_bytes, lambda: place.append(b"1"), lambda: place.write_bytes(b"1"), place.delete):
            with pytest.raises(StorageError, match=r"/a can not be .*permission denied"):
                act()
        with pytest.raises(StorageError, match="permission denied"):
            (place.parent / "b" / "c").make_folder()


def test_relative_paths_stay_in_their_store(tmp_path: Path) -> None:
    (tmp_path / "deep" / "ds").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "ds")
    assert Location.of(tmp_path / "link").linked("../other/1").url == f"{tmp_path}/deep/other/1"
    place = Location("s3://bucket/ds", Options({"key": "k"}))
    assert place.linked("../other/../em/1") == Location("s3://bucket/em/1", Options({"key": "k"}))
    for path in ("../../other/ds", "../../x/../bucket"):
        with pytest.raises(InputError, match="leads out of s3://bucket"):
            place.linked(path)


def test_links_lead_to_the_store_that_they_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """To Amazon's, whatever endpoint the environment names; to that of a dataset's own URL, with its credentials."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")
    found = Location.of("/data/ds").linked("s3://s3.amazonaws.com/bench/em/1")
    assert Address.of(found.url, found.options).store == "s3.amazonaws.com"
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    given = Location.of("s3://127.0.0.1:9000/bench/ds", {"key": "k", "secret": "s"})
    found = given.linked("s3://127.0.0.1:9000/bench/other/em/1")
    assert (found.url, found.options["key"]) == ("s3://bench/other/em/1", "k") and "anon" not in found.options
    assert Address.of(found.url, found.options).store == "127.0.0.1:9000"


@pytest.mark.parametrize("endpoint", ["127.0.0.1:9000", "http://", "https://me:s3cret@host:9000", "ftp://host"])
def test_endpoints_that_are_none(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    with pytest.raises(InputError, match="endpoint_url of S3 is no URL of a server") as caught:
        Address.of("s3://bucket/ds", Options({"endpoint_url": endpoint}))
    assert "s3cret" not in str(caught.value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(InputError, match="is no URL of a server"):
        Address.of("s3://bucket/ds", Options())


def test_urls_of_s3_hold_no_credentials() -> None:
    with pytest.raises(InputError, match="holds no user and password") as caught:
        Location("s3://me:s3cret@127.0.0.1:9000/bucket/ds").read_bytes()
    assert "s3cret" not in str(caught.value)
