"""Units: all or nothing, in Morton order, whole or joined from parts."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.formats.arrays import (
    CODECS,
    KINDS,
    bits,
    by_zarr,
    downloaded,
    filled_chunks,
    fresh_place,
    make,
    noise,
    specs,
    stored_index,
    unit_of,
    whole,
    z_order,
)
from wkdask.errors import DamagedError, InputError, StorageError
from wkdask.formats import ArraySpec, Zarr3, Zarr3Array, open_array, parse_codec
from wkdask.formats.shard import MISSING, morton_order, read_part
from wkdask.geometry.grid import Box
from wkdask.storage import Location, observe

UNIT = (0, 0, 0, 0)
BOX = Box((0, 0, 0, 0), (1, 16, 16, 16))


def write_unit(array: Zarr3Array, block: np.ndarray, scratch: Location | None = None) -> None:
    with array.unit(UNIT, scratch) as out:
        out.put(BOX, block)


@given(st.lists(st.tuples(*[st.integers(0, 200)] * 3), max_size=50, unique=True))
def test_morton_order_is_that_of_interleaved_bits(cells: list[tuple[int, ...]]) -> None:
    assert [cells[i] for i in morton_order(cells)] == sorted(cells, key=z_order)


def test_chunks_of_a_shard_lie_in_morton_order_and_fill_it(folder: Path) -> None:
    array = make(fresh_place("local", folder), "zstd:1")
    with array.unit((0, 1, 0, 1)) as out:
        out.put(Box((0, 16, 0, 16), (1, 32, 16, 32)), noise(BOX, "uint8"))
    data = array.unit_location((0, 1, 0, 1)).read_bytes()
    index, body = stored_index(data, 8)
    cells = [tuple(map(int, np.unravel_index(n, (1, 2, 2, 2)))) for n in np.argsort(index[:, 0])]
    assert cells == sorted(cells, key=z_order)
    at = 0
    for offset, size in sorted(map(tuple, index.tolist())):
        assert offset == at
        at += size
    assert at == len(body)


def test_missing_chunks_are_marked_twice(folder: Path) -> None:
    array = make(fresh_place("local", folder), "none")
    block = np.zeros(BOX.shape, "uint8")
    block[0, 15, 0, 0] = 3
    write_unit(array, block)
    index, body = stored_index(array.unit_location(UNIT).read_bytes(), 8)
    assert index[4].tolist() == [0, 512] and len(body) == 512
    assert (np.delete(index, 4, axis=0) == MISSING).all()


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_joined_parts_equal_the_unit_written_directly(kind: str, folder: Path, data: st.DataObject) -> None:
    spec = data.draw(specs().filter(lambda spec: spec.unit != spec.chunk))
    dense = noise(spec.grid.box, spec.dtype)
    for seed in range(data.draw(st.integers(0, 3))):
        number = int(np.random.default_rng(seed).integers(len(spec.grid.chunks())))
        dense[spec.grid.chunks().box(number).slices] = 0
    direct, joined = (Zarr3().create(fresh_place(kind, folder), spec) for _ in range(2))
    index = spec.grid.units().cell(data.draw(st.integers(0, len(spec.grid.units()) - 1)))
    box = spec.grid.units().box_at(index)
    with direct.unit(index) as out:
        out.put(box, dense[box.slices])
    chunks = spec.grid.chunks(box)
    shuffled = np.random.default_rng(data.draw(st.integers(0, 99))).permutation(len(chunks))
    groups = [group.tolist() for group in np.array_split(shuffled, data.draw(st.integers(1, 4)))]
    places = [joined.location / f"part-{n}" for n in range(len(groups))]
    for place, group in zip(places, groups, strict=True):
        with joined.part(index, place) as part:
            for number in group:
                part.put(chunks.box(number), dense[chunks.box(number).slices])
        assert part.written.chunks == len(read_part(place)[0])
    written = joined.join(index, places)
    np.testing.assert_array_equal(bits(whole(joined)), bits(whole(direct)))
    assert filled_chunks(spec, whole(joined)) == {c for c in filled_chunks(spec, dense) if unit_of(spec, c) == index}
    if direct.inspect(index) is None:
        assert written.size == written.chunks == 0 and joined.inspect(index) is None
        return
    assert joined.inspect(index) == written
    assert (written.size, written.chunks) == (out.written.size, out.written.chunks)
    assert direct.inspect(index) == out.written
    np.testing.assert_array_equal(bits(by_zarr(downloaded(joined, folder))), bits(whole(direct)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("codec", CODECS)
def test_parts_in_morton_runs_give_the_same_file(kind: str, codec: str, folder: Path) -> None:
    """Written by threads, in any order; joined in the order of the curve, they are the directly written unit."""
    direct, joined = (make(fresh_place(kind, folder), codec, "uint16") for _ in range(2))
    block = noise(BOX, "uint16")
    block[:, 8:, :8, :8] = 0
    write_unit(direct, block)
    boxes = [Box((0, x, y, z), (1, x + 8, y + 8, z + 8)) for z in (0, 8) for y in (0, 8) for x in (0, 8)]
    places = [joined.location.parent / "parts" / str(n) for n in range(8)]

    def write(n: int) -> None:
        with joined.part(UNIT, places[n]) as part:
            part.put(boxes[n], block[boxes[n].slices])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, reversed(range(8))))
    written = joined.join(UNIT, places)
    assert joined.unit_location(UNIT).read_bytes() == direct.unit_location(UNIT).read_bytes()
    assert direct.inspect(UNIT).digest == written.digest


def test_a_join_decodes_nothing(folder: Path) -> None:
    array = make(fresh_place("local", folder), "zstd:1")
    part = array.location / "part"
    with array.part(UNIT, part) as out:
        out.put_encoded((0, 1, 1, 0), b"no zstd at all")
    array.join(UNIT, [part])
    assert stored_index(array.unit_location(UNIT).read_bytes(), 8)[1] == b"no zstd at all"


@pytest.mark.parametrize("kind", KINDS)
def test_torn_parts_are_refused(kind: str, folder: Path) -> None:
    array = make(fresh_place(kind, folder))
    write_unit(array, np.ones(BOX.shape, "uint8"))
    before = array.unit_location(UNIT).read_bytes()
    whole_part, torn = array.location / "whole", array.location / "torn"
    with array.part(UNIT, whole_part) as out:
        out.put(BOX, noise(BOX, "uint8"))
    data = whole_part.read_bytes()
    flipped = [data[:n] + bytes([data[n] ^ 4]) + data[n + 1 :] for n in range(len(data) - 20 - 8 * 24, len(data))]
    for damaged in [data[:n] for n in (0, 1, 19, 20, len(data) // 2, len(data) - 20, len(data) - 1)] + [data + b"x", *flipped]:
        torn.write_bytes(damaged)
        with pytest.raises(DamagedError, match="torn is no whole part"):
            array.join(UNIT, [whole_part, torn])
    with pytest.raises(DamagedError, match="gone is no whole part"):
        array.join(UNIT, [array.location / "gone"])
    assert array.unit_location(UNIT).read_bytes() == before
    assert array.unit_location(UNIT).parent.names() == ["0"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sharded", [True, False])
@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("far", [True, False])
def test_an_exception_inside_leaves_everything_as_it_was(
    kind: str, sharded: bool, there: bool, far: bool, folder: Path
) -> None:
    array = make(fresh_place(kind, folder), sharded=sharded)
    scratch = array.location.parent / "scratch" if far else None
    first = Box((0, 0, 0, 0), (1, 8, 8, 8))
    if there:
        array.write(first, np.ones(first.shape, "uint8"))
    before = array.unit_location(UNIT).read_bytes() if there else None
    seen: list[str] = []
    with observe(lambda event, url: seen.append(event)):
        with pytest.raises(KeyError), array.unit(UNIT, scratch) as out:
            out.put(first, noise(first, "uint8"))
            raise KeyError
        with pytest.raises(KeyError), array.part(UNIT, array.location / "part", scratch) as out:
            out.put(first, noise(first, "uint8"))
            raise KeyError
    assert not seen
    place = array.unit_location(UNIT)
    assert (place.read_bytes() if place.is_file() else None) == before
    assert place.parent.names() == (["0"] if there else [])
    assert not (array.location / "part").is_file()
    assert not scratch or scratch.names() == []
    assert [name for name in array.location.names() if name not in ("c", "zarr.json")] == []


def test_an_unwritten_unit_stays_until_the_block_ends(folder: Path) -> None:
    array = make(fresh_place("local", folder))
    with array.unit(UNIT) as out:
        out.put(BOX, np.ones(BOX.shape, "uint8"))
        assert not array.unit_location(UNIT).is_file()
        assert out.written.size == 0
    assert out.written == array.inspect(UNIT) and out.written.chunks == 8
    with array.unit(UNIT) as out:
        assert array.unit_location(UNIT).is_file()
    assert out.written.size == 0 and not array.unit_location(UNIT).is_file()


@pytest.mark.root
@pytest.mark.parametrize("codec", ["none", "zstd:1"])
def test_a_full_disk(codec: str, small_disk: Path) -> None:
    array = make(Location(str(small_disk / "ds/color/1")), codec, "uint64", edge=256)
    write_unit(array, np.ones(BOX.shape, "uint64"))
    before = array.unit_location(UNIT).read_bytes()
    spec = Zarr3().create(Location(str(small_disk / "ds/color/2")), array.spec)
    for other, index in ((array, UNIT), (spec, (0, 1, 1, 1))):
        with pytest.raises(StorageError, match=r"can not be written: .*[Ss]pace.*Free some space"):
            with other.unit(index) as out:
                for _ in range(80):
                    out.put(other.spec.grid.unit_box(index), noise(BOX, "uint64"))
        assert other.unit_location(index).parent.names() == (["0"] if other is array else [])
    assert array.unit_location(UNIT).read_bytes() == before
    part = array.location / "part"
    with pytest.raises(StorageError, match="Free some space"), array.part(UNIT, part) as out:
        for _ in range(80):
            out.put(BOX, noise(BOX, "uint64"))
    assert not part.is_file()
    assert array.read(BOX).sum() == BOX.size


def test_chunks_of_another_unit_are_refused(folder: Path) -> None:
    array = make(fresh_place("local", folder))
    with pytest.raises(InputError, match=r"\(0, 2, 0, 0\)"), array.unit(UNIT) as out:
        out.put_encoded((0, 2, 0, 0), b"1")
    far = Box((0, 8, 0, 0), (1, 24, 8, 8))
    with pytest.raises(InputError), array.unit(UNIT) as out:
        out.put(far, np.ones(far.shape, "uint8"))
    assert list(array.written_units()) == []


@pytest.mark.parametrize("kind", KINDS)
def test_neighbours_in_one_unit_lose_nothing(kind: str, folder: Path) -> None:
    array = make(fresh_place(kind, folder))
    boxes = [Box((0, x, y, 0), (1, x + 4, y + 4, 16)) for x in range(0, 16, 4) for y in range(0, 16, 4)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: array.write(boxes[n], np.full(boxes[n].shape, n + 1, "uint8")), range(16)))
    found = array.read(BOX)
    assert (
        [int(found[box.slices].min()) for box in boxes] == [int(found[box.slices].max()) for box in boxes] == list(range(1, 17))
    )


def test_chunks_that_are_not_touched_are_copied_as_they_are(folder: Path) -> None:
    array = make(fresh_place("local", folder), "zstd:1")
    with array.unit(UNIT) as out:
        out.put_encoded((0, 1, 1, 0), b"no zstd at all")
    box = Box((0, 0, 0, 0), (1, 8, 8, 8))
    array.write(box, np.ones(box.shape, "uint8"))
    assert b"no zstd at all" in array.unit_location(UNIT).read_bytes()
    assert array.read(box).sum() == 512
    touched = Box((0, 8, 8, 0), (1, 9, 9, 1))
    with pytest.raises(DamagedError, match="c/0/0/0/0 is damaged"):
        array.write(touched, np.ones(touched.shape, "uint8"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sharded", [True, False])
def test_inspect_says_what_was_written(kind: str, sharded: bool, folder: Path) -> None:
    array = make(fresh_place(kind, folder), sharded=sharded)
    assert array.inspect(UNIT) is None
    box = Box((0, 0, 0, 0), (1, 8, 8, 8))
    with array.unit(UNIT) as out:
        out.put(box, noise(box, "uint8"))
    assert array.inspect(UNIT) == out.written
    assert out.written.size == array.unit_location(UNIT).stat().size and out.written.chunks == 1
    with array.unit(UNIT) as again:
        again.put(box, noise(box, "uint8", 1))
    assert array.inspect(UNIT) == again.written
    assert (again.written.digest == out.written.digest) == (again.written.size == out.written.size and sharded)


def test_written_units_ignores_what_is_no_unit(folder: Path) -> None:
    array = make(fresh_place("local", folder))
    array.write(Box((0, 0, 0, 16), (1, 1, 1, 17)), np.ones((1, 1, 1, 1), "uint8"))
    beside = Path(array.unit_location(UNIT).url).parent
    for name in (".0.12-ab.tmp", "x", "²", "٣", "-1", "01", "1.5"):
        (beside / name).touch()
        (beside.parent / name).mkdir()
    assert list(array.written_units()) == [(0, 0, 0, 1)]


@pytest.mark.parametrize("kind", KINDS)
def test_resizing(kind: str, folder: Path) -> None:
    array = make(fresh_place(kind, folder))
    array.write(BOX, noise(BOX, "uint8"))
    document = (array.location / "zarr.json").read_bytes()
    array.resize(array.spec.shape)
    assert (array.location / "zarr.json").read_bytes() == document
    array.resize((1, 50, 33, 64))
    grown = open_array(array.location, "zarr3")
    assert grown.spec.shape == (1, 50, 33, 64)
    np.testing.assert_array_equal(grown.read(BOX), noise(BOX, "uint8"))
    assert not grown.read(Box((0, 16, 16, 16), (1, 50, 33, 64))).any()
    box = Box((0, 40, 20, 60), (1, 50, 33, 64))
    grown.write(box, np.ones(box.shape, "uint8"))
    assert (whole(grown)[box.slices] == 1).all()
    with pytest.raises(InputError, match="4 axes"):
        array.resize((50, 50, 50))
    (array.location / "zarr.json").delete()
    with pytest.raises(ValueError, match=r"zarr\.json"):
        array.resize((1, 8, 8, 8))


def test_handles_pickle_small_and_read_in_a_fresh_process(tmp_path: Path) -> None:
    array = make(Location(str(tmp_path / "ds/color/1")), "zstd:5", "uint16")
    array.write(BOX, noise(BOX, "uint16"))
    pickled = pickle.dumps(array)
    assert pickle.loads(pickled) == array
    assert len(pickled) < 1000
    code = "import sys, pickle; a = pickle.load(sys.stdin.buffer); print(int(a.read(a.spec.grid.box).sum(dtype='u8')))"
    said = subprocess.run([sys.executable, "-c", code], input=pickled, capture_output=True, check=True, cwd=tmp_path)
    assert int(said.stdout) == int(noise(BOX, "uint16").sum(dtype="u8"))
    assert os.listdir(tmp_path) == ["ds"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fill", [0, 7])
@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("value", [0, 5, 7])
def test_blocks_of_one_value(kind: str, folder: Path, fill: int, stored: bool, value: int) -> None:
    """Where it is that of voxels which are not stored, nothing becomes of chunks that are not; else it is a value as any."""
    place = fresh_place(kind, folder)
    spec = ArraySpec((1, 16, 16, 16), "uint8", tuple("cxyz"), (1, 8, 8, 8), (1, 16, 16, 16), parse_codec("zstd:1"), fill=fill)
    array, wanted = Zarr3().create(place, spec), np.full(spec.shape, fill, "uint8")
    if stored:
        box = Box((0, 0, 0, 0), (1, 10, 16, 16))
        wanted[box.slices] = noise(box, "uint8")
        array.write(box, wanted[box.slices].copy(order="F"))
    box = Box((0, 4, 2, 1), (1, 16, 9, 16))
    array.write(box, np.broadcast_to(np.uint8(value), box.shape))
    wanted[box.slices] = value
    np.testing.assert_array_equal(array.read(spec.grid.box), wanted)
    assert list(array.written_units()) == [(0, 0, 0, 0)] * (stored or value != fill)


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_beyond_the_end_do_not_come_back(kind: str, folder: Path) -> None:
    """Of a shard that is written to while the array is smaller, what lies beyond its end is not kept."""
    array = make(fresh_place(kind, folder), edge=16)
    array.write(array.spec.grid.box, np.ones((1, 16, 16, 16), "uint8"))
    array.resize((1, 8, 16, 16))
    smaller = open_array(array.location, "zarr3")
    smaller.write(Box((0, 0, 0, 0), (1, 4, 4, 4)), np.full((1, 4, 4, 4), 2, "uint8"))
    smaller.resize((1, 16, 16, 16))
    again = open_array(array.location, "zarr3")
    assert int(again.read(Box((0, 0, 0, 0), (1, 8, 16, 16))).sum()) == 8 * 16 * 16 + 64
    assert not again.read(Box((0, 8, 0, 0), (1, 16, 16, 16))).any()
