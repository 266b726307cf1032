"""Local files: all at once, with the rights that the folder and the umask ask for."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.storage.racing import race
from wkdask.errors import StorageError
from wkdask.storage import Location


@pytest.fixture(params=[0o022, 0o027, 0o002, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_readers_never_see_a_half_written_file(tmp_path: Path) -> None:
    place = Location(str(tmp_path / "a"))
    contents = [bytes([n]) * 300_000 for n in range(4)]
    place.write_bytes(contents[0])
    over, seen = threading.Event(), set()

    def look() -> None:
        while not over.is_set():
            seen.add(place.read_bytes())

    with ThreadPoolExecutor(2) as pool:
        looking = [pool.submit(look) for _ in range(2)]
        for n in range(60):
            place.write_bytes(contents[n % 4])
        over.set()
        for one in looking:
            one.result()
    assert seen <= set(contents) and len(seen) > 1


def test_modes_follow_the_umask(tmp_path: Path, umask: int) -> None:
    place = Location(str(tmp_path / "folder/deeper/file"))
    place.write_bytes(b"1")
    (place.parent / "made").create(b"1")
    (place.parent / "log").append(b"1")
    for name in ("file", "made", "log"):
        assert mode(tmp_path / "folder/deeper" / name) == 0o666 & ~umask
    for folder in ("folder", "folder/deeper"):
        assert mode(tmp_path / folder) == 0o777 & ~umask


def test_replacing_keeps_to_the_umask_too(tmp_path: Path, umask: int) -> None:
    (tmp_path / "a").write_text("1")
    os.chmod(tmp_path / "a", 0o600)
    Location(str(tmp_path / "a")).write_bytes(b"2")
    assert mode(tmp_path / "a") == 0o666 & ~umask


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another group")
@pytest.mark.parametrize("bits", [0o775, 0o2775])
def test_new_files_and_folders_get_the_group_of_their_folder(tmp_path: Path, bits: int) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    os.chown(shared, -1, 4242)
    os.chmod(shared, bits)
    place = Location(str(shared / "color/1/file"))
    place.write_bytes(b"1")
    (place.parent / "made").create(b"1")
    (place.parent / "log").append(b"1")
    with (place.parent / "far").writer(Location(str(tmp_path / "scratch"))) as out:
        out.write(b"1")
        out.publish()
    for path in [shared / "color", shared / "color/1", *(shared / "color/1").iterdir()]:
        assert path.stat().st_gid == 4242, path
    if bits & stat.S_ISGID:
        assert (shared / "color/1").stat().st_mode & stat.S_ISGID


def test_one_of_eight_processes_creates(tmp_path: Path) -> None:
    said = race(tmp_path, "print([Location(str(folder / f'new/{n}')).create(me.encode()) for n in range(40)].count(True))")
    assert sum(map(int, said)) == 40
    assert sorted(os.listdir(tmp_path / "new")) == sorted(map(str, range(40)))


def test_one_of_eight_threads_creates(tmp_path: Path) -> None:
    for n in range(20):
        place = Location(str(tmp_path / str(n)))
        start = threading.Barrier(8)

        def create(me: int, place: Location = place, start: threading.Barrier = start) -> bool:
            start.wait()
            return place.create(bytes([me]) * 1000)

        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(create, range(8)))
        assert made.count(True) == 1
        assert place.read_bytes() == bytes([made.index(True)]) * 1000


def test_scratch_on_another_file_system(tmp_path: Path, other_disk: Path) -> None:
    place, scratch = Location(str(tmp_path / "ds/a")), Location(str(other_disk / "scratch"))
    (tmp_path / "source").write_bytes(b"x" * 100_000)
    for content in (b"1", b"2" * 3_000_000):
        with place.writer(scratch) as out:
            out.write(content)
            out.copy(Location(str(tmp_path / "source")), 5, 100_000)
            assert len(scratch.names()) == 1
            assert out.publish() == place.stat()
        assert place.read_bytes() == content + b"x" * 99_995
        assert place.parent.names() == ["a"]
        assert scratch.names() == []
    assert mode(tmp_path / "ds/a") == 0o666 & ~_umask()


def test_a_failed_move_between_file_systems_leaves_the_old_file(
    tmp_path: Path, other_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, scratch = Location(str(tmp_path / "ds/a")), Location(str(other_disk / "scratch"))
    place.write_bytes(b"old")

    def fails(source: str, target: str) -> None:
        Path(target).write_bytes(b"ha")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", fails)
    with pytest.raises(StorageError, match="Free some space"), place.writer(scratch) as out:
        out.write(b"new")
        out.publish()
    assert place.read_bytes() == b"old"
    assert place.parent.names() == ["a"] and scratch.names() == []


def _umask() -> int:
    now = os.umask(0)
    os.umask(now)
    return now


@pytest.mark.parametrize("works", [(False,), (True,), (False, True), (True, False, False)])
def test_copying_goes_on_where_the_system_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, works: tuple[bool, ...]
) -> None:
    """The system's own copy may fail at any call, or copy less than asked; then it goes through memory."""
    data = os.urandom(50_000)
    (tmp_path / "source").write_bytes(data)
    calls = [0]
    real = os.copy_file_range

    def unsteady(source: int, target: int, count: int, *at: int) -> int:
        calls[0] += 1
        if not works[(calls[0] - 1) % len(works)]:
            raise OSError(errno.EIO, "Input/output error")
        return real(source, target, min(count, 700), *at)

    monkeypatch.setattr("os.copy_file_range", unsteady)
    monkeypatch.setattr("wkdask.storage.local.COPY_BYTES", 1000)
    with Location(str(tmp_path / "a")).writer() as out:
        out.write(b"head")
        out.copy(Location(str(tmp_path / "source")), 11, 44_000)
        out.write(b"middle")
        out.copy(Location(str(tmp_path / "source")), 0, 5000)
        out.write(b"tail")
        out.publish()
    assert (tmp_path / "a").read_bytes() == b"head" + data[11:44_000] + b"middle" + data[:5000] + b"tail"
    assert calls[0] > 10


@pytest.mark.root
def test_a_full_disk(small_disk: Path) -> None:
    place = Location(str(small_disk / "a"))
    place.write_bytes(b"old")
    with pytest.raises(StorageError, match=r"a can not be written: .*[Ss]pace.*Free some space"):
        place.write_bytes(bytes(2 << 20))
    with pytest.raises(StorageError, match="Free some space"):
        (place.parent / "b").create(bytes(2 << 20))
    assert place.read_bytes() == b"old"
    assert place.parent.names() == ["a"]
    place.write_bytes(b"new")
    with pytest.raises(StorageError, match="Free some space"):
        (place.parent / "log").append(bytes(2 << 20))


def test_a_short_write_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr("os.write", lambda fd, data: real(fd, data[:3]))
    Location(str(tmp_path / "log")).append(b"0123456789")
    assert (tmp_path / "log").read_bytes() == b"0123456789"


def test_names_are_taken_once_where_there_are_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")  # as exFAT does

    monkeypatch.setattr(os, "link", refuse)
    place = Location(str(tmp_path / "a"))
    assert place.create(b"1") and not place.create(b"2")
    assert place.read_bytes() == b"1" and os.listdir(tmp_path) == ["a"]
