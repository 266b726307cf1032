"""What cut-outs on stores keep for the next ones: what that saves, and that nothing else comes of it."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import uuid4

import dask
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import examples
from tests.formats.arrays import boxes_in, noise
from tests.formats.served import Served
from wkdask.errors import ConflictError, DamagedError
from wkdask.formats import ArraySpec, find_format, open_array, parse_codec
from wkdask.formats.fetching import Piece, fetch
from wkdask.formats.kept import INDEXES, KEPT, KeptRanges
from wkdask.geometry.grid import Box
from wkdask.storage import Location

KINDS = {
    "zarr3": ("zarr3", "zstd:1"),
    "zarr3, gzip": ("zarr3", "gzip:1"),
    "wkw": ("wkw", "lz4"),
}
SHAPE = (1, 64, 64, 32)
WHOLE = Box((0,) * 4, SHAPE)
FIRST, NEXT = Box((0, 0, 0, 0), (1, 16, 32, 32)), Box((0, 8, 4, 0), (1, 16, 30, 20))
"""Boxes of one shard, of which one lies in the other."""
SIZE = 300
CONTENT = {version: bytes(np.random.default_rng(n).integers(0, 256, SIZE, "uint8")) for n, version in enumerate("ab")}


@settings(max_examples=examples(200))
@given(st.data())
def test_only_what_was_put_is_found(data: st.DataObject) -> None:
    """Whatever was put and dropped before: the right bytes, or nothing; never more than may be kept; the last at least."""
    kept, most = KeptRanges(), data.draw(st.integers(1, 2 * SIZE), "most")
    places = [Location(f"memory://kept/{name}") for name in "xy"]
    for _ in range(data.draw(st.integers(1, 12))):
        place, version = data.draw(st.sampled_from(places)), data.draw(st.sampled_from("ab"))
        start = data.draw(st.integers(0, SIZE - 1))
        stop = data.draw(st.integers(start + 1, SIZE))
        content = CONTENT[version]
        if data.draw(st.booleans()):
            kept.put(place, version, start, content[start:stop], most)
            assert 0 <= kept.size <= most
            if stop - start <= most:
                [found] = kept.find(place, version, [(start, stop)])
                assert found is not None and bytes(found) == content[start:stop]
        for found in kept.find(place, version, [(start, stop)]):
            assert found is None or bytes(found) == content[start:stop]
    kept.clear()
    assert kept.size == 0 and kept.find(places[0], "a", [(0, 1)]) == [None]


def test_nothing_is_kept_without_a_version() -> None:
    kept = KeptRanges()
    for version in ("", "Sun, 22 Nov 2026 15:40:00 GMT"):
        kept.put(Location("memory://kept/x"), version, 0, b"voxels", 100)
    assert kept.size == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_processes_wait_for_no_lock_of_a_thread_that_stayed_behind() -> None:
    with KEPT._lock, INDEXES._lock:
        child = os.fork()
        if not child:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(10)
            KEPT.put(Location("memory://kept/x"), "a", 0, b"voxels", 100)
            os._exit(0 if INDEXES.get("x") is None and KEPT.size == 6 else 1)
    assert os.waitpid(child, 0)[1] == 0


# -------------------------------------------------------------------------------------------------------- arrays


pytestmark = pytest.mark.usefixtures("fresh")


def forget() -> None:
    INDEXES.clear()
    KEPT.clear()


def written(folder: Path, kind: str, seed: int = 0, path: str = "") -> str:
    """Write an array of two shards along each of x and y below a folder; return its path there."""
    name, codec = KINDS[kind]
    path = path or f"{uuid4().hex}/color/1"
    spec = ArraySpec(SHAPE, "uint8", tuple("cxyz"), (1, 8, 8, 8), (1, 32, 32, 32), parse_codec(codec))
    form, place = find_format(name), Location(str(folder / path))
    array = form.at(place, spec) if place.is_folder() else form.create(place, spec)
    array.write(WHOLE, noise(WHOLE, "uint8", seed))
    return path


def opened(server: Served, path: str, kind: str) -> Any:
    return open_array(Location(f"{server.url}/{path}"), KINDS[kind][0], (64, 64, 32))


def asked(server: Served) -> Counter[str]:
    found = Counter(method for method, *_ in server.seen)
    server.forget()
    return found


def files(folder: Path, path: str) -> list[Path]:
    return sorted([*(folder / path).rglob("c/*/*/*/*"), *(folder / path).rglob("x*.wkw")])


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_fetched_is_not_fetched_again(folder: Path, server: Served, kind: str) -> None:
    """But the store tells that the file is still the same, by an answer without a body."""
    array, voxels = opened(server, written(folder, kind), kind), noise(WHOLE, "uint8")
    array.read(FIRST)
    asked(server)
    np.testing.assert_array_equal(array.read(NEXT), voxels[NEXT.slices])
    assert asked(server) == {"HEAD": 1}
    further = Box((0, 8, 4, 0), (1, 30, 30, 20))  # some of it is kept, the answer to the rest tells of the file
    np.testing.assert_array_equal(array.read(further), voxels[further.slices])
    assert asked(server).keys() == {"GET"}
    np.testing.assert_array_equal(array.read(NEXT, keep=False), voxels[NEXT.slices])
    assert asked(server) == {"GET": 1}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("keep", "kept"), [(False, "64MiB"), (True, "0 B")])
def test_nothing_is_kept_where_it_is_not_wanted(folder: Path, server: Served, kind: str, keep: bool, kept: str) -> None:
    array = opened(server, written(folder, kind), kind)
    with dask.config.set({"wkdask.ranges.kept": kept}):
        for _ in range(2):
            array.read(FIRST, keep=keep)
    assert KEPT.size == 0


@pytest.mark.parametrize("kind", KINDS)
def test_large_boxes_drive_nothing_out(folder: Path, server: Served, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wkdask.formats.tensorstore_reader.KEPT_BYTES", 4 * FIRST.size)
    array = opened(server, written(folder, kind), kind)
    array.read(WHOLE)
    assert KEPT.size == 0
    array.read(FIRST)
    assert KEPT.size > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_was_replaced_is_read_anew(folder: Path, server: Served, kind: str) -> None:
    path = written(folder, kind)
    array = opened(server, path, kind)
    array.read(WHOLE)
    for seed in (1, 2):
        written(folder, kind, seed, path)
        for box in (NEXT, WHOLE):
            np.testing.assert_array_equal(array.read(box), noise(WHOLE, "uint8", seed)[box.slices])


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_gone_is_not_remembered(folder: Path, server: Served, kind: str) -> None:
    path = written(folder, kind)
    array = opened(server, path, kind)
    array.read(WHOLE)
    for file in files(folder, path):
        file.unlink()
    assert not array.read(NEXT).any()


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_that_came_damaged_are_fetched_again(folder: Path, server: Served, kind: str) -> None:
    array, voxels = opened(server, written(folder, kind), kind), noise(WHOLE, "uint8")
    array.read(FIRST)
    asked(server)
    for key, data in KEPT._ranges.items():
        KEPT._ranges[key] = bytes(len(data))
    np.testing.assert_array_equal(array.read(NEXT), voxels[NEXT.slices])
    assert asked(server)["GET"]


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_told_each_time(folder: Path, server: Served, kind: str) -> None:
    path = written(folder, kind)
    array = opened(server, path, kind)
    file, whole = files(folder, path)[0], Box((0, 0, 0, 0), (1, 32, 32, 32))
    sound = file.read_bytes()
    middle = len(sound) // 2
    file.write_bytes(sound[:middle] + bytes(300) + sound[middle + 300 :])
    for _ in range(3):
        with pytest.raises(DamagedError, match="is damaged: in"):
            array.read(whole)
    file.write_bytes(sound)
    np.testing.assert_array_equal(array.read(whole), noise(WHOLE, "uint8")[whole.slices])


def test_pieces_of_each_file_are_unpacked_in_its_own_way(folder: Path, server: Served) -> None:
    """Also those that are kept, which are handed over together; the last of a file is what its length is told by."""
    got: list[tuple[str, list[bytes]]] = []
    pieces = []
    for name in "ab":
        (folder / name).write_bytes(name.encode() * 20)
        place = Location(f"{server.url}/{name}")
        found = place.read_range(0, 1)
        assert found is not None

        def unpack(data: Any, name: str = name) -> Any:
            got.append((name, [bytes(each) for each in data]))
            return data

        pieces += [Piece(place, found.version, at, at + 4, lambda _: None, unpack, 3) for at in range(0, 20, 4)]
    for _ in range(2):
        got.clear()
        fetch(pieces, keep=True)
        assert sorted(got) == [(name, [name.encode() * 4] * n) for name in "ab" for n in (2, 3)]


def test_a_file_that_never_stays_the_same_is_a_conflict(folder: Path, server: Served) -> None:
    path = written(folder, "zarr3")
    array = opened(server, path, "zarr3")
    server.version = lambda _: f'"{uuid4().hex}"'
    with pytest.raises(ConflictError, match="was replaced 3 times"):
        array.read(FIRST)


@pytest.mark.parametrize("tags", [str, lambda _: ""], ids=["versions", "none"])
@settings(max_examples=examples(15))
@given(boxes=st.lists(boxes_in(WHOLE), min_size=2, max_size=6), kept=st.sampled_from([1, 2000, 20_000, 1 << 20]))
def test_any_boxes_one_after_the_other(folder: Path, server: Served, tags: Any, boxes: list[Box], kept: int) -> None:
    """On servers that tell versions, and on such as do not; with room for much or little."""
    forget()
    voxels, path = noise(WHOLE, "uint8"), "always/color/1"
    if not (folder / path).exists():
        written(folder, "zarr3", path=path)
    server.version = tags
    array = opened(server, path, "zarr3")
    with dask.config.set({"wkdask.ranges.kept": kept, "wkdask.ranges.near": 500}):
        for box in boxes:
            np.testing.assert_array_equal(array.read(box), voxels[box.slices])
            assert KEPT.size <= kept
