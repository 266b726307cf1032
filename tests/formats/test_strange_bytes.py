"""Shards with bytes that their index does not account for: where a chunk should be, another may lie with more behind it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import examples
from tests.formats.arrays import KINDS, fresh_place, make, stored_index, with_index
from wkdask.errors import DamagedError
from wkdask.formats import Codec, Zarr3Array
from wkdask.formats.codecs import decode_frames, encoder
from wkdask.formats.kept import INDEXES, KEPT
from wkdask.geometry.grid import Box
from wkdask.storage import Location, Stat

UNIT = (0, 0, 0, 0)
BOX = Box((0, 0, 0, 0), (1, 16, 16, 16))
CODECS = ("zstd:1", "gzip:1")


def blocks() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return eight chunks, which compress to about as many bytes each: runs of one value, and another at the end."""
    found = np.repeat(np.arange(1, 17, dtype="uint8"), 16 * 16).reshape(1, 16, 16, 16)
    found[0, ::8, ::8, ::8] = np.arange(8).reshape(2, 2, 2) * 20 + 9
    return found.copy(order="F")


def written(kind: str, folder: Path, codec: str) -> tuple[Zarr3Array, bytes]:
    array = make(fresh_place(kind, folder), codec, edge=16)
    array.write(BOX, blocks())
    return array, array.unit_location(UNIT).read_bytes()


def found_in(array: Zarr3Array, data: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]] | None:
    """Return what is read after a unit's file was replaced; None where it is refused, and the file named."""
    place = array.unit_location(UNIT)
    place.write_bytes(data)
    INDEXES.clear()
    KEPT.clear()
    try:
        return array.read(BOX)
    except DamagedError as error:
        said = str(error)
    assert said.startswith(f"{place} is damaged: in chunk")
    return None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("codec", CODECS)
@settings(max_examples=examples(40))
@given(st.data())
def test_chunks_that_moved_are_no_others(kind: str, codec: str, folder: Path, data: st.DataObject) -> None:
    """A stretch of the file is put in once more, or cut out, so that all behind it lies elsewhere than the index says."""
    array, sound = written(kind, folder, codec)
    index, body = stored_index(sound, 8)
    ends = sorted({0, *(int(a + n) for a, n in index.tolist())})
    start = data.draw(st.sampled_from(ends[:-1]) | st.integers(0, len(body) - 1))
    stop = data.draw(st.sampled_from([end for end in ends if end > start]) | st.integers(start + 1, len(body)))
    at = data.draw(st.sampled_from(ends) | st.integers(0, len(body)))
    inserted = data.draw(st.booleans())
    other = body[:at] + body[start:stop] + body[at:] if inserted else body[:start] + body[stop:] + bytes(1) * (stop - start + 1)
    frames = [body[int(a) : int(a + n)] for a, n in index.tolist()]
    here = [other[int(a) : int(a + n)] for a, n in index.tolist()]
    if any(now != frame and now in frames for now, frame in zip(here, frames, strict=True)):
        return  # whole chunks of the same length changed places, which no checksum tells
    voxels = found_in(array, with_index(other, index))
    if voxels is not None:
        np.testing.assert_array_equal(voxels, blocks())
    else:
        assert here != frames


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("codec", CODECS)
def test_gaps_are_allowed(kind: str, codec: str, folder: Path) -> None:
    """As they are left by writers that put what they replace behind the rest."""
    array, sound = written(kind, folder, codec)
    index, body = stored_index(sound, 8)
    moved = index.copy()
    moved[0] = len(body) + 7, index[0, 1]
    voxels = found_in(array, with_index(body + b"strange" + body[int(index[0, 0]) : int(index[0].sum())], moved))
    np.testing.assert_array_equal(voxels, blocks())


def test_a_shard_that_is_replaced_while_it_is_looked_at(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By one of another size, right after its size was asked for: that is no damage."""
    array, _ = written("local", folder, "zstd:1")
    larger = np.random.default_rng(0).integers(0, 256, blocks().shape).astype("uint8")
    stat = Location.stat

    def replaced(place: Location) -> Stat | None:
        found = stat(place)
        monkeypatch.undo()
        array.write(BOX, larger)
        return found

    monkeypatch.setattr(Location, "stat", replaced)
    np.testing.assert_array_equal(array.read(BOX), larger)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("codec", CODECS)
def test_a_shorter_chunk_at_the_place_of_a_longer_one(kind: str, codec: str, folder: Path) -> None:
    array, sound = written(kind, folder, codec)
    index, body = stored_index(sound, 8)
    first, last = (body[int(a) : int(a + n)] for a, n in (index[0], index[7]))
    longer = index.copy()
    longer[0] = len(body), len(last) + 9
    assert found_in(array, with_index(body + last + b"123456789" + first, longer)) is None


@given(st.lists(st.binary(min_size=64, max_size=64), min_size=1, max_size=9), st.data())
def test_frames_are_decoded_together_as_alone(chunks: list[bytes], data: st.DataObject) -> None:
    frames = [bytes(encoder(Codec("zstd", 1))(memoryview(chunk))) for chunk in chunks]
    assert [bytes(chunk) for chunk in decode_frames(frames, 64)] == chunks
    bad = data.draw(st.integers(0, len(frames) - 1))
    cut = [*frames[:bad], frames[bad][:-1], *frames[bad + 1 :]]
    empty = [*frames[:bad], b"", *frames[bad + 1 :]]
    for wrong, size in ((cut, 64), (empty, 64), (frames, 63), (frames, 65)):
        with pytest.raises(DamagedError, match="zstd data does not decode"):
            decode_frames(wrong, size)
