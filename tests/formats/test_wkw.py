"""WKW arrays against numpy: any box, any block type, any order of blocks, and files that are damaged."""

from __future__ import annotations

import io
import os
import pickle
import random
import struct
import types
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from tests.formats.arrays import KINDS, bits, boxes_in, fresh_place, noise
from wkdask.errors import DamagedError, DatasetExistsError, DatasetNotFoundError, InputError
from wkdask.formats import ArraySpec, Wkw, WkwArray, find_format, open_array, parse_codec, wkw_reader, wkw_writer
from wkdask.formats.wkw_header import DTYPES, Header
from wkdask.geometry.grid import Box, Tiling
from wkdask.storage import Location, observe

UNIT = (0, 0, 0, 0)
CODECS = ("none", "lz4", "lz4hc:3")


def make(
    place: Location,
    codec: str = "lz4",
    dtype: str = "uint8",
    *,
    channels: int = 1,
    block: int = 4,
    blocks: int = 4,
    edge: int = 0,
) -> WkwArray:
    """Create an array of blocks of 4³ and files of 16³, as large as two files along each axis."""
    unit = block * blocks
    chunk, file = (channels, *[block] * 3), (channels, *[unit] * 3)
    shape = (channels, *[edge or 2 * unit] * 3)
    return Wkw().create(place, ArraySpec(shape, dtype, tuple("cxyz"), chunk, file, parse_codec(codec)))


def write_unit(array: WkwArray, voxels: np.ndarray[Any, Any], index: tuple[int, ...] = UNIT) -> None:
    with array.unit(index, array.scratch) as out:
        out.put(array.spec.grid.unit_box(index), voxels)


def sparse(box: Box, dtype: str, block: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Noise of which half the blocks are zero."""
    voxels = noise(box, dtype, seed)
    draw = random.Random(seed)
    for x in range(0, box.shape[1], block):
        for z in range(0, box.shape[3], block):
            if draw.random() < 0.5:
                voxels[:, x : x + block, :, z : z + block] = 0
    return voxels


@st.composite
def specs(draw: st.DrawFn) -> ArraySpec:
    """Draw any array of a few ten thousand voxels."""
    dtype, channels = draw(st.sampled_from(DTYPES)), draw(st.integers(1, 4))
    block = 1 << draw(st.integers(0, 3))
    unit = block << draw(st.integers(0, 2 if block == 8 else 3))
    shape = [draw(st.integers(1, 2 * unit + 1)) for _ in range(3)]
    codec = parse_codec(draw(st.sampled_from(CODECS)))
    return ArraySpec((channels, *shape), dtype, tuple("cxyz"), (channels, *[block] * 3), (channels, *[unit] * 3), codec)


@pytest.mark.parametrize("kind", KINDS)
@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(data=st.data(), spec=specs())
def test_any_boxes_written_are_read(kind: str, data: st.DataObject, spec: ArraySpec, tmp_path: Path) -> None:
    array = Wkw().create(fresh_place(kind, tmp_path), spec)
    wanted = np.zeros(spec.shape, spec.dtype)
    for seed in range(3):
        box = data.draw(boxes_in(spec.grid.box))
        block = noise(box, spec.dtype, seed) if data.draw(st.integers(0, 3)) else np.zeros(box.shape, spec.dtype)
        array.write(box, block)
        wanted[box.slices] = block
    np.testing.assert_array_equal(bits(array.read(spec.grid.box)), bits(wanted))
    box = data.draw(boxes_in(spec.grid.box))
    found = open_array(array.location, "wkw", spec.shape[1:]).read(box)
    np.testing.assert_array_equal(bits(found), bits(wanted[box.slices]))
    assert found.flags.f_contiguous and found.dtype == spec.dtype


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float64"])
def test_a_join_is_the_directly_written_file(kind: str, codec: str, dtype: str, tmp_path: Path) -> None:
    direct, other, joined = (make(fresh_place(kind, tmp_path), codec, dtype, channels=2) for _ in range(3))
    box = direct.spec.grid.unit_box(UNIT)
    voxels = sparse(box, dtype, 4)
    write_unit(direct, voxels)
    boxes = [Box((0, x, y, z), (2, x + 8, y + 16, z + 4)) for z in range(0, 16, 4) for y in (0,) for x in (0, 8)]
    random.Random(1).shuffle(boxes)
    with other.unit(UNIT, other.scratch) as out:
        for region in boxes:
            out.put(region, voxels[region.slices])
    places = []
    for n, region in enumerate(boxes):
        places.append(joined.location.parent / "parts" / f"{n}.part")
        with joined.part(UNIT, places[-1], joined.scratch) as part:
            part.put(region, voxels[region.slices])
    written = joined.join(UNIT, places, joined.scratch)
    files = [array.unit_location(UNIT).read_bytes() for array in (direct, other, joined)]
    assert files[0] == files[1] == files[2]
    assert written == joined.inspect(UNIT)
    assert out.written == other.inspect(UNIT)
    assert len({array.inspect(UNIT).digest for array in (direct, other, joined)}) == 1  # type: ignore[union-attr]
    np.testing.assert_array_equal(bits(joined.read(box)), bits(voxels))


@pytest.mark.parametrize("codec", CODECS)
def test_small_pieces_and_spools_change_nothing(codec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make(fresh_place("local", tmp_path), codec)
    voxels = sparse(whole.spec.grid.unit_box(UNIT), "uint8", 4)
    write_unit(whole, voxels)
    monkeypatch.setattr(wkw_writer, "PIECE_BYTES", 150)
    monkeypatch.setattr(wkw_writer, "SPOOL_BYTES", 1000)
    monkeypatch.setattr(wkw_reader, "PIECE_BYTES", 200)
    monkeypatch.setattr(wkw_reader, "SHARE_BYTES", {False: 500, True: 500})
    monkeypatch.setattr(wkw_reader, "THREADS", 3)
    pieces = make(fresh_place("local", tmp_path), codec)
    write_unit(pieces, voxels)
    assert pieces.unit_location(UNIT).read_bytes() == whole.unit_location(UNIT).read_bytes()
    box = Box((0, 1, 2, 3), (1, 15, 14, 13))
    np.testing.assert_array_equal(pieces.read(box), voxels[box.slices])
    monkeypatch.setattr(wkw_reader, "PIECE_BYTES", 63)  # less than a block
    np.testing.assert_array_equal(pieces.read(box), voxels[box.slices])


@pytest.mark.parametrize("kind", KINDS)
def test_a_unit_put_whole_is_the_same_file(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = make(fresh_place(kind, tmp_path), edge=29)  # its last files are not full
    for index in (UNIT, (0, 1, 0, 1)):
        box = array.spec.grid.unit_box(index).intersect(array.spec.grid.box)
        voxels, place, tiles = sparse(box, "uint8", 4), array.unit_location(index), Tiling(box, array.spec.chunk)
        with array.unit(index) as out:
            for cell in [tiles.box(n) for n in reversed(range(len(tiles)))]:
                out.put(cell, voxels[cell.relative_to(box.start).slices])
        collected, said = place.read_bytes(), out.written
        np.testing.assert_array_equal(array.read(box), voxels)
        with monkeypatch.context() as patch:
            no_bytes = types.SimpleNamespace(SpooledTemporaryFile=lambda *given, **named: io.StringIO())
            patch.setattr(wkw_writer, "tempfile", no_bytes)
            with array.unit(index) as out:
                out.put(box, voxels)
        assert place.read_bytes() == collected
        assert (out.written.size, out.written.digest, out.written.chunks) == (said.size, said.digest, said.chunks)
        with pytest.raises(InputError, match="comes after block"), array.unit(index) as out:
            out.put(box, voxels)
            out.put(box, voxels)
        assert place.read_bytes() == collected
        with array.unit(index) as out:  # with a chunk that was put before
            out.put(cell, voxels[cell.relative_to(box.start).slices])
            out.put(box, voxels)
        assert place.read_bytes() == collected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("codec", CODECS)
def test_units_of_zeros_leave_no_file(kind: str, codec: str, tmp_path: Path) -> None:
    array = make(fresh_place(kind, tmp_path), codec)
    box = array.spec.grid.unit_box(UNIT)
    write_unit(array, np.ones(box.shape, "uint8"))
    write_unit(array, np.zeros(box.shape, "uint8"))
    assert array.inspect(UNIT) is None and list(array.written_units()) == []
    part = array.location.parent / "part"
    with array.part(UNIT, part) as out:
        out.put(box, np.zeros(box.shape, "uint8"))
    assert array.join(UNIT, [part]).size == 0 and array.inspect(UNIT) is None
    array.write(box, np.zeros(box.shape, "uint8"))
    assert array.inspect(UNIT) is None
    assert not array.read(box).any()


def test_zero_blocks_of_raw_files_take_no_room(tmp_path: Path) -> None:
    array = make(fresh_place("local", tmp_path), "none", "uint64", block=16, blocks=8)
    corner = Box((0, 112, 112, 112), (1, 128, 128, 128))
    with array.unit(UNIT) as out:
        out.put(corner, np.ones(corner.shape, "uint64"))
    stat = os.stat(array.unit_location(UNIT).url)
    assert stat.st_size == 16 + 128**3 * 8
    assert stat.st_blocks * 512 < 8 * 16**3 * 8
    assert array.read(array.spec.grid.box).sum() == 16**3
    first = Box((0, 0, 0, 0), (1, 16, 16, 16))
    with array.unit(UNIT) as out:
        out.put(first, np.ones(first.shape, "uint64"))
    assert os.stat(array.unit_location(UNIT).url).st_size == stat.st_size


def test_raw_files_change_in_place_and_compressed_ones_copy(tmp_path: Path) -> None:
    for codec, stays in (("none", True), ("lz4", False)):
        array = make(fresh_place("local", tmp_path), codec)
        voxels = noise(array.spec.grid.unit_box(UNIT), "uint8")
        write_unit(array, voxels)
        before = os.stat(array.unit_location(UNIT).url).st_ino
        box = Box((0, 3, 3, 3), (1, 5, 5, 5))
        array.write(box, np.full(box.shape, 7, "uint8"))
        voxels[box.slices] = 7
        with open(array.unit_location(UNIT).url, "rb") as held:
            assert (os.fstat(held.fileno()).st_ino == before) == stays
        np.testing.assert_array_equal(array.read(array.spec.grid.unit_box(UNIT)), voxels)


def test_untouched_blocks_are_not_decoded(tmp_path: Path) -> None:
    array = make(fresh_place("local", tmp_path), "lz4")
    with array.unit(UNIT) as out:
        out.put_encoded((0, 3, 3, 3), b"no lz4")
    box = Box((0, 0, 0, 0), (1, 4, 4, 4))
    array.write(box, np.ones(box.shape, "uint8"))
    assert b"no lz4" in array.unit_location(UNIT).read_bytes()
    with pytest.raises(DamagedError, match=r"x0\.wkw is damaged: in block 63"):
        array.read(array.spec.grid.unit_box(UNIT))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("listed", "stored"), [("none", "lz4"), ("lz4", "none"), ("lz4hc:3", "lz4")])
def test_each_file_has_a_block_type_of_its_own(kind: str, listed: str, stored: str, tmp_path: Path) -> None:
    array, other = make(fresh_place(kind, tmp_path), listed), make(fresh_place(kind, tmp_path), stored)
    box = array.spec.grid.unit_box(UNIT)
    voxels = noise(box, "uint8")
    write_unit(other, voxels)
    array.unit_location(UNIT).write_bytes(other.unit_location(UNIT).read_bytes())
    np.testing.assert_array_equal(array.read(box), voxels)
    part = Box((0, 2, 5, 1), (1, 9, 7, 16))
    array.write(part, np.full(part.shape, 9, "uint8"))
    voxels[part.slices] = 9
    np.testing.assert_array_equal(array.read(box), voxels)


def damaged_files(codec: str, good: bytes) -> dict[str, bytes]:
    """Return files that contradict themselves, by what is wrong with them."""
    end = 16 + (8 * 64 if codec != "none" else 0)
    found = {f"cut at {n}": good[:n] for n in (0, 1, 15, 16, 17, end - 1, end, end + 1, len(good) // 2, len(good) - 1)}
    for at, value, what in (
        (0, b"X", "magic"),
        (3, b"\2", "version"),
        (4, b"\x33", "edges"),
        (5, b"\4", "kind"),
        (6, b"\2", "dtype"),
    ):
        found[what] = good[:at] + value + good[at + 1 :]
    for value in (0, 7, 11):  # 7 is int8, as large as uint8
        found[f"dtype {value}"] = good[:6] + bytes([value]) + good[7:]
    found["itemsize"] = good[:7] + b"\2" + good[8:]
    found["offset"] = good[:8] + struct.pack("<Q", 2**63) + good[16:]
    found["offset in header"] = good[:8] + struct.pack("<Q", 15) + good[16:]
    if codec != "none":
        table = list(struct.unpack("<64Q", good[16:528]))
        for name, n, value in (
            ("not ascending", 5, table[5] + 10**6),
            ("descending", 5, table[3]),
            ("beyond", 63, len(good) + 1),
            ("huge", 63, 2**64 - 1),
            ("huge within", 9, 2**63 + 5),
            ("before data", 0, 3),
            ("block too long", 0, table[40]),
        ):
            changed = [*table[:n], value, *table[n + 1 :]]
            if name == "block too long":
                changed = [max(t, table[40]) for t in table]
            found[name] = good[:16] + struct.pack("<64Q", *changed) + good[528:]
        found["block that decodes shorter"] = good[: table[0]] + b"\0" * (table[1] - table[0]) + good[table[1] :]
        found["noise"] = good[: table[7]] + b"\xff" * (len(good) - table[7])
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("codec", ["none", "lz4"])
def test_damaged_files_are_named(kind: str, codec: str, tmp_path: Path) -> None:
    array = make(fresh_place(kind, tmp_path), codec)
    place, box = array.unit_location(UNIT), array.spec.grid.unit_box(UNIT)
    write_unit(array, noise(box, "uint8"))
    good = place.read_bytes()
    for what, data in damaged_files(codec, good).items():
        if data == good:
            continue
        place.write_bytes(data)
        with pytest.raises(DamagedError, match=r"x0\.wkw "):
            array.read(box)
            pytest.fail(what)
    place.write_bytes(good)
    np.testing.assert_array_equal(array.read(box), noise(box, "uint8"))


@pytest.mark.parametrize(("entry", "said"), [(bytes(8), "does not ascend"), (None, "expected at most")])
def test_jump_tables_are_checked_as_a_whole(entry: bytes | None, said: str, tmp_path: Path) -> None:
    array = make(fresh_place("local", tmp_path))
    write_unit(array, noise(array.spec.grid.unit_box(UNIT), "uint8"))
    place = array.unit_location(UNIT)
    good = place.read_bytes()
    place.write_bytes(good[:40] + (good[48:56] if entry is None else entry) + good[48:])
    with pytest.raises(DamagedError, match=said):
        array.inspect(UNIT)


def test_damaged_parts_are_refused(tmp_path: Path) -> None:
    raw, lz4 = make(fresh_place("local", tmp_path), "none"), make(fresh_place("local", tmp_path), "lz4")
    box, part = raw.spec.grid.unit_box(UNIT), raw.location.parent / "part"
    with lz4.part(UNIT, part) as out:
        out.put(box, np.ones(box.shape, "uint8"))
    with pytest.raises(DamagedError, match="part is no part of a file of"):
        raw.join(UNIT, [part])
    assert raw.inspect(UNIT) is None
    small = make(fresh_place("local", tmp_path), "lz4", blocks=2)
    with pytest.raises(DamagedError, match="part is no part"):
        small.join(UNIT, [part])
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(DamagedError, match="part is no whole part"):
        lz4.join(UNIT, [part])


@pytest.mark.parametrize("codec", CODECS)
def test_an_exception_inside_leaves_everything_as_it_was(codec: str, tmp_path: Path) -> None:
    array = make(fresh_place("local", tmp_path), codec)
    box = array.spec.grid.unit_box(UNIT)
    write_unit(array, np.ones(box.shape, "uint8"))
    before, seen = array.unit_location(UNIT).read_bytes(), list[str]()
    with observe(lambda event, url: seen.append(url)), pytest.raises(KeyError), array.unit(UNIT, array.scratch) as out:
        out.put(box, noise(box, "uint8"))
        raise KeyError
    assert not seen and array.scratch.names() == [] and array.unit_location(UNIT).read_bytes() == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dtype": "complex64"}, "complex64 voxels"),
        ({"axes": tuple("xyzc")}, "axes c, x, y, z"),
        ({"chunk": (1, 6, 6, 6), "unit": (1, 12, 12, 12)}, "powers of two"),
        ({"unit": (1, 8, 8, 16)}, "powers of two"),
        ({"chunk": (1, 4, 4, 8)}, "powers of two"),
        ({"unit": (1, *[4 << 16] * 3)}, "powers of two"),
        ({"unit": (1, *[4 << 9] * 3)}, "compressed blocks"),
        ({"chunk": (1, *[2048] * 3), "unit": (1, *[2048] * 3)}, "at most 2113929216 bytes"),
        ({"shape": (2, 9, 9, 9)}, "channels"),
        ({"shape": (40, 9, 9, 9), "chunk": (40, 4, 4, 4), "unit": (40, 8, 8, 8), "dtype": "uint64"}, "255 bytes"),
        ({"codec": parse_codec("zstd")}, "no codec zstd"),
        ({"shape": (1, 9, 9, 2**32 + 1)}, "positions"),
    ],
)
def test_what_wkw_can_not_store_is_refused(change: dict[str, Any], said: str) -> None:
    plain = {"shape": (1, 9, 9, 9), "dtype": "uint8", "axes": tuple("cxyz"), "chunk": (1, 4, 4, 4), "unit": (1, 8, 8, 8)}
    with pytest.raises(InputError, match=said):
        Wkw().at(Location("memory://no"), ArraySpec(**({"codec": parse_codec("lz4")} | plain | change)))


def test_headers_say_what_they_were_given() -> None:
    for dtype in DTYPES:
        for block, blocks, kind in ((1, 1, 1), (32, 32, 3), (256, 2, 1), (8, 32768, 1), (1, 128, 2)):
            header = Header(block, blocks, dtype, 2, kind)
            assert Header.parse(header.pack(), "here") == header
            assert Header.of(header.spec((2, 5, 5, 5))) == header
    assert Header(8, 4, "uint8", 3, 1).pack() == bytes.fromhex("574b5701230101030000000000000000")


@pytest.mark.parametrize("kind", KINDS)
def test_opening_and_units(kind: str, tmp_path: Path) -> None:
    place = fresh_place(kind, tmp_path)
    with pytest.raises(DatasetNotFoundError, match=r"header\.wkw"):
        open_array(place, "wkw")
    array = make(place, "lz4")
    assert Wkw().detect(place) and not Wkw().detect(place.parent)
    with pytest.raises(DatasetExistsError):
        make(place)
    assert open_array(place, "wkw").spec.shape == (1, 0, 0, 0)
    box = Box((0, 17, 0, 40), (1, 18, 1, 41))
    Wkw().open(place, (64, 64, 64)).write(box, np.ones(box.shape, "uint8"))
    assert list(array.written_units()) == [(0, 1, 0, 2)]
    assert array.unit_of("z2/y0/x1.wkw") == (0, 1, 0, 2)
    assert array.unit_location((0, 1, 0, 2)).url == place.url + "/z2/y0/x1.wkw"
    assert open_array(place, "wkw").spec.shape == (1, 32, 16, 48)
    assert open_array(place, "wkw", (1, 17, 0)).spec.shape == (1, 16, 32, 0)
    for name in ("x1.wkw", "z2/y0/x01.wkw", "z2/y0/x1.wkw2", "z-1/y0/x1.wkw", "z²/y0/x1.wkw", "c/0/0/0/0"):
        assert array.unit_of(name) is None
    pickled = pickle.dumps(array)
    assert pickle.loads(pickled) == array and len(pickled) < 500
    assert array.with_axes(tuple("cyxz")).spec.axes == tuple("cyxz")
    array.resize((1, 5, 5, 5))
    with pytest.raises(InputError):
        array.resize((5, 5, 5))
    (place / "header.wkw").write_bytes(b"WKW")
    with pytest.raises(DamagedError, match=r"header\.wkw is cut off"):
        open_array(place, "wkw")


def test_both_formats_say_what_they_offer() -> None:
    assert [find_format(name).name for name in ("zarr3", "wkw")] == ["zarr3", "wkw"]
    for name in ("zarr3", "wkw"):
        offered = find_format(name)
        assert offered.usual_codec.name in offered.codecs
        assert all(codec is None or codec.name in offered.codecs for codec in map(parse_codec, offered.codecs))


@pytest.mark.parametrize("width", [64, 72, 70, 33])  # rows of 32 bytes may be gathered by an index, or lie at odd places
@pytest.mark.parametrize("start", [0, 32])
def test_rows_of_regions_of_any_width(width: int, start: int, tmp_path: Path) -> None:
    spec = ArraySpec((1, 128, 64, 64), "uint8", tuple("cxyz"), (1, 32, 32, 32), (1, 128, 128, 128), None)
    array = Wkw().create(Location(str(tmp_path / "color" / "1")), spec)
    region = Box((0, start, 0, 0), (1, start + width, 64, 64))
    wide = np.asfortranarray(noise(Box((0, 0, 0, 0), (1, width + 7, 64, 64)), "uint8", 1))
    whole = np.asfortranarray(noise(region, "uint8", 2))
    for voxels in (whole, wide[:, 3 : 3 + width], np.ascontiguousarray(whole)):
        with array.unit((0, 0, 0, 0)) as out:
            out.put(region, voxels)
        np.testing.assert_array_equal(array.read(region), voxels)


def test_arrays_that_would_be_larger_than_positions_go_are_refused_by_name(folder: Path) -> None:
    place = fresh_place("local", folder)
    Wkw().create(place, ArraySpec((1, 64, 64, 64), "uint8", tuple("cxyz"), (1, 32, 32, 32), (1, 64, 64, 64)))
    assert Wkw().open(place, (1, 1, 1 << 32)).spec.shape == (1, 64, 64, 1 << 32)
    with pytest.raises(InputError, match=f"^{place} would end at voxel {(1 << 32) + 64}"):
        Wkw().open(place, (1, 1, (1 << 32) + 1))
    (place / "z0/y0/x67108864.wkw").write_bytes(b"")
    with pytest.raises(InputError, match=f"^{place} would end at voxel {(1 << 32) + 64}"):
        Wkw().open(place)
