"""Decoding blocks of WKW in place, against the lz4 package, with and without the C library's own functions."""

from __future__ import annotations

import contextlib
import types
from typing import Any

import hypothesis
import lz4.block
import numpy as np
import pytest
from hypothesis import strategies as st

from wkdask.errors import DamagedError
from wkdask.formats import wkw_blocks
from wkdask.formats.wkw_file import DataFile
from wkdask.formats.wkw_header import Header
from wkdask.formats.wkw_reader import Source
from wkdask.geometry.grid import Box
from wkdask.storage import Location, Stat

SIZE = 8**3
GUARD = 64
HEADERS = {"none": Header(8, 2, "uint8", 1, 1), "lz4": Header(8, 2, "uint8", 1, 2)}


@pytest.fixture(params=["library", "package"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "package":
        monkeypatch.setattr(wkw_blocks, "_library", lambda: None)
    elif wkw_blocks._library() is None:
        pytest.skip("the lz4 package is linked with a library that can not be called: `pip install --force-reinstall lz4`")


def decoded(codec: str, stored: bytes, start: int, stop: int) -> bytes:
    """Return the wanted bytes; what lies before the block's room, and behind what is wanted, must stay as it was."""
    source, room = np.frombuffer(stored + b"\xff", np.uint8), np.full(SIZE + 2 * GUARD, 0xA5, np.uint8)
    decode = wkw_blocks.block_decoder(HEADERS[codec])
    try:
        decode(source.ctypes.data, len(stored), room.ctypes.data + GUARD, start, stop)
    finally:
        assert set(room[:GUARD].tolist()) == set(room[GUARD + stop :].tolist()) == {0xA5}
    return room[GUARD + start : GUARD + stop].tobytes()


@st.composite
def contents(draw: st.DrawFn) -> bytes:
    """Draw the bytes of a block, from runs to noise."""
    pieces = draw(st.lists(st.tuples(st.binary(min_size=1, max_size=40), st.integers(1, 60)), min_size=1, max_size=12))
    made = b"".join(piece * times for piece, times in pieces)
    return (made * (SIZE // len(made) + 1))[:SIZE]


RANGES = st.tuples(st.integers(0, SIZE - 1), st.integers(1, SIZE)).map(lambda ab: (min(ab[0], ab[1] - 1), ab[1]))
FIXTURES = hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])


def encoded(codec: str, content: bytes) -> bytes:
    return content if codec == "none" else lz4.block.compress(content, store_size=False)


@pytest.mark.parametrize("codec", HEADERS)
@FIXTURES
@hypothesis.given(content=contents(), span=RANGES)
@hypothesis.example(content=bytes(range(256)) * 2, span=(0, SIZE))
@hypothesis.example(content=bytes(range(256)) * 2, span=(3, 500))
def test_any_bytes_of_a_block(codec: str, way: None, content: bytes, span: tuple[int, int]) -> None:
    assert decoded(codec, encoded(codec, content), *span) == content[slice(*span)]


@pytest.mark.parametrize("codec", HEADERS)
@FIXTURES
@hypothesis.given(data=st.data(), content=contents(), span=RANGES)
def test_blocks_that_were_cut_or_changed(
    codec: str, way: None, data: st.DataObject, content: bytes, span: tuple[int, int]
) -> None:
    stored = bytearray(encoded(codec, content))
    del stored[data.draw(st.integers(0, len(stored))) :]
    for _ in range(data.draw(st.integers(0, 3)) if stored else 0):
        stored[data.draw(st.integers(0, len(stored) - 1))] = data.draw(st.integers(0, 255))
    try:
        whole = bytes(stored) if codec == "none" else lz4.block.decompress(bytes(stored), uncompressed_size=SIZE)
    except lz4.block.LZ4BlockError:
        whole = b""
    if len(whole) == SIZE:  # still a block
        assert decoded(codec, bytes(stored), *span) == whole[slice(*span)]
        return
    with pytest.raises(DamagedError):
        decoded(codec, bytes(stored), 0, SIZE)
    with contextlib.suppress(DamagedError):  # or its first bytes are there
        decoded(codec, bytes(stored), *span)


@pytest.mark.parametrize(("codec", "stored"), [("none", bytes(SIZE - 1)), ("lz4", b""), ("lz4", b"\x10a")])
def test_blocks_that_are_too_short(codec: str, stored: bytes, way: None) -> None:
    with pytest.raises(DamagedError, match=r"do not hold byte|does not decode to 512 bytes|decodes to 1 bytes"):
        decoded(codec, stored, 0, SIZE)
    if len(stored) < 9:
        with pytest.raises(DamagedError):
            decoded(codec, stored, 0, 9)


def test_first_bytes_are_there_though_the_rest_is_damaged() -> None:
    if wkw_blocks._library() is None:
        pytest.skip("the lz4 package is linked with a library that can not be called: `pip install --force-reinstall lz4`")
    content = bytes(range(256)) * 2
    stored = encoded("lz4", content)
    assert decoded("lz4", stored[:-1], 0, 100) == content[:100]


def library(monkeypatch: pytest.MonkeyPatch, **there: Any) -> object:
    """Return what is found of a package whose compiled module is like that."""
    monkeypatch.setattr(wkw_blocks, "lz4_block", types.SimpleNamespace(_block=types.SimpleNamespace(**there)))
    return wkw_blocks._library.__wrapped__()


def test_libraries_that_can_not_be_called(monkeypatch: pytest.MonkeyPatch) -> None:
    assert library(monkeypatch) is None
    assert library(monkeypatch, __file__="/no/such/file") is None
    monkeypatch.setattr(wkw_blocks.ctypes, "CDLL", lambda path: types.SimpleNamespace(LZ4_decompress_safe=print))
    assert library(monkeypatch, __file__="a") is None


@pytest.mark.parametrize(("release", "called"), [(10903, False), (10904, True), (11000, True)])
def test_old_libraries_are_not_called(release: int, called: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    functions = types.SimpleNamespace(
        LZ4_versionNumber=lambda: release,
        LZ4_decompress_safe=types.SimpleNamespace(),
        LZ4_decompress_safe_partial=types.SimpleNamespace(),
    )
    monkeypatch.setattr(wkw_blocks.ctypes, "CDLL", lambda path: functions)
    assert (library(monkeypatch, __file__="a") is not None) == called


@pytest.mark.parametrize("mapped", [True, False])
def test_content_that_ends_before_a_block(mapped: bool) -> None:
    content = np.zeros(16 + 8 * SIZE - 1, np.uint8)
    file = DataFile(Location("/a/x0.wkw"), Stat(len(content) + 1, 1), HEADERS["none"].in_file(), None)
    source = Source(file, content if mapped else lambda start, stop: content[start:stop].tobytes())
    list(source.encoded(Box((0, 0, 0), (1, 2, 2))))
    with pytest.raises(DamagedError, match=r"x0\.wkw is cut off: it ends before byte 4112"):
        source.encoded(Box((1, 1, 1), (2, 2, 2)))
