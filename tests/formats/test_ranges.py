"""Arrays on stores: what is read, by how many requests, and what becomes of failures."""

from __future__ import annotations

import itertools
import json
import math
import threading
from pathlib import Path
from typing import Any
from uuid import uuid4

import dask
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wkdask as wk
from tests.conftest import examples
from tests.formats.arrays import boxes_in, noise
from tests.formats.served import Handler, Served
from wkdask.errors import ConflictError, DamagedError, InputError, StorageError
from wkdask.formats import ArraySpec, find_format, open_array, parse_codec
from wkdask.formats.fetching import ChangedError, Piece, fetch
from wkdask.formats.kept import INDEXES
from wkdask.formats.merging import Limits, merge
from wkdask.geometry.grid import Box
from wkdask.storage import Location

Array = np.ndarray[Any, Any]

KINDS = {
    "zarr3, shards": ("zarr3", "zstd:1", 8, 16),
    "zarr3, raw shards": ("zarr3", "none", 8, 16),
    "zarr3, files": ("zarr3", "gzip:1", 8, 8),
    "wkw": ("wkw", "lz4", 8, 16),
    "wkw, raw": ("wkw", "none", 8, 16),
    "zarr": ("zarr", "zstd:1", 8, 8),
    "n5": ("n5", "gzip:1", 8, 8),
    "precomputed": ("neuroglancerPrecomputed", "none", 8, 8),
}
SHARDED = [kind for kind in KINDS if "shards" in kind or kind.startswith("wkw")]


pytestmark = pytest.mark.usefixtures("fresh")


def write(folder: Path, kind: str, edge: int = 32, *, sparse: bool = True, seed: int = 0) -> tuple[str, Array]:
    """Write an array below a folder; return the path there, and its voxels."""
    name, codec, chunk, unit = KINDS[kind]
    shape = (1, edge, edge, edge)
    spec = ArraySpec(shape, "uint16", tuple("cxyz"), (1, *[chunk] * 3), (1, *[unit] * 3), parse_codec(codec))
    path = f"{uuid4().hex}/color/1"
    voxels = noise(Box((0,) * 4, shape), "uint16", seed).copy(order="F")
    if sparse:
        voxels[:, :unit] = 0  # no files, or blocks of zeros
        voxels[:, unit : unit + chunk, :chunk] = 0
    find_format(name).create(Location(str(folder / path)), spec).write(Box((0,) * 4, shape), voxels)
    return path, voxels


def opened(place: Location, kind: str) -> Any:
    return open_array(place, KINDS[kind][0], (32, 32, 32))


# ------------------------------------------------------------------------------------------------------ voxels


@pytest.fixture(scope="module", params=KINDS)
def stored(request: pytest.FixtureRequest, folder: Path) -> tuple[str, str, Array]:
    path, voxels = write(folder, request.param)
    return request.param, path, voxels


@settings(max_examples=examples(8))
@given(
    box=boxes_in(Box((0,) * 4, (1, 32, 32, 32))),
    near=st.sampled_from([1, 3000, 1 << 20]),
    most=st.sampled_from([1, 5000, 1 << 20]),
)
def test_any_box_is_read(stored: tuple[str, str, Array], server: Served, box: Box, near: int, most: int) -> None:
    kind, path, voxels = stored
    with dask.config.set({"wkdask.ranges.near": near, "wkdask.ranges.most": most, "wkdask.ranges.held": 2 * most}):
        found = opened(Location(f"{server.url}/{path}"), kind).read(box)
    np.testing.assert_array_equal(found, voxels[box.slices])


def test_nothing_is_listed(stored: tuple[str, str, Array], server: Served) -> None:
    kind, path, voxels = stored
    np.testing.assert_array_equal(opened(Location(f"{server.url}/{path}"), kind).read(Box((0,) * 4, (1, 32, 32, 32))), voxels)
    assert {method for method, *_ in server.seen} <= {"GET", "HEAD"}
    assert not [asked for _, asked, _ in server.seen if asked.endswith("/") or asked in (path, path.rpartition("/")[0])]


def test_many_small_chunks_are_read_in_parts(folder: Path, server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wkdask.formats.fetching.MOST_PIECES", 5)
    for kind in SHARDED:
        path, voxels = write(folder, kind)
        box = Box((0, 3, 1, 2), (1, 32, 31, 30))
        np.testing.assert_array_equal(opened(Location(f"{server.url}/{path}"), kind).read(box), voxels[box.slices])


# ---------------------------------------------------------------------------------------------------- requests


@pytest.mark.parametrize(("unit", "edge"), [((128, 128, 128), 16), ((512, 512, 4), 16)], ids=["cubes", "planes"])
def test_requests_of_cut_outs(folder: Path, server: Served, unit: tuple[int, int, int], edge: int) -> None:
    """Shards of as many chunks as 1024 x 1024 x 1024 and 4096 x 4096 x 32 voxels have, each of 64 bytes instead of 23000."""
    shape = (1, unit[0], unit[1], 16 if unit[2] == 4 else 128)
    spec = ArraySpec(shape, "uint8", tuple("cxyz"), (1, 4, 4, 4), (1, *unit))
    path = f"{uuid4().hex}/color/1"
    voxels = noise(Box((0,) * 4, shape), "uint8")
    local: Any = find_format("zarr3").create(Location(str(folder / path)), spec)
    for index, region in ((tiles.cell(n), tiles.box(n)) for tiles in [spec.grid.units()] for n in range(len(tiles))):
        with local.unit(index, local.scratch) as out:
            out.put(region, voxels[region.slices])
    array: Any = open_array(Location(f"{server.url}/{path}"), "zarr3")
    index_bytes = math.prod(spec.grid.chunks_per_unit) * 16 + 4
    draw = np.random.default_rng(1)
    with dask.config.set({"wkdask.ranges.near": 256 * 1024 * 64 // 23000}):
        for _ in range(8):
            start = draw.integers(0, [n - edge + 1 for n in shape[1:]]) // edge * edge
            box = Box((0, *start.tolist()), (1, *(start + edge).tolist()))
            units = len(list(spec.grid.units(box).covering(box)))
            for cold in (True, False):
                if cold:
                    INDEXES.clear()
                server.forget()
                np.testing.assert_array_equal(array.read(box), voxels[box.slices])
                assert server.requests <= (2 * units + 2 if cold else units)
                assert server.sent - (units * index_bytes if cold else 0) <= 2.5 * box.size


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 300), st.integers(1, 30)), min_size=1, max_size=30),
    st.integers(1, 60),
    st.integers(1, 400),
    st.sampled_from([1.0, 2.5]),
)
def test_near_spans_are_fetched_together(found: list[tuple[str, int, int]], near: int, most: int, waste: float) -> None:
    found.sort()
    files, spans = [file for file, *_ in found], [(start, start + size) for _, start, size in found]
    runs = merge(files, spans, Limits(near=near, most=most, waste=waste))
    assert [n for run in runs for n in range(run.start, run.stop)] == list(range(len(spans)))
    assert all(len({*files[run]}) == 1 for run in runs)
    reach = [max(stop for _, stop in spans[run]) for run in runs]
    assert all(spans[run.start][0] + max(most, 30) >= end for run, end in zip(runs, reach, strict=True))
    for run, after in itertools.pairwise(runs):
        if files[run.start] == files[after.start] and spans[after.start][0] - max(e for _, e in spans[run]) <= near:
            assert (
                max(e for _, e in spans[after]) - spans[run.start][0] > most
                or spans[after.start][1] - spans[run.start][0] > most
            )


def covered(spans: list[tuple[int, int]]) -> int:
    return len({byte for span in spans for byte in range(*span)})


@given(st.lists(st.integers(1, 400), min_size=1, max_size=12), st.floats(1, 6))
def test_gaps_are_closed_while_that_is_worth_it(gaps: list[int], waste: float) -> None:
    """Against the definition: the smallest gaps, one by one, down to three requests, up to a share of what is wanted."""
    spans, at = [(0, 10)], 10
    for gap in gaps:
        spans.append((at + gap, at + gap + 10))
        at += gap + 10
    runs = merge(["a"] * len(spans), spans, Limits(near=1, waste=waste))
    fetched = sum(spans[run.stop - 1][1] - spans[run.start][0] for run in runs)
    open_gaps = sorted(gap for gap in gaps if gap > 1)
    left, total = len(open_gaps) + 1, 10 * len(spans) + gaps.count(1)
    for gap in open_gaps:
        if left <= 3 or total + gap > waste * 10 * len(spans):
            break
        left, total = left - 1, total + gap
    assert (len(runs), fetched) == (left, total)


@pytest.mark.parametrize("name", ["near", "most", "held", "waste"])
@pytest.mark.parametrize("given", ["much", None, [1], "inf MB"])
def test_limits_that_are_no_numbers_are_named(name: str, given: object) -> None:
    with dask.config.set({f"wkdask.ranges.{name}": given}):
        with pytest.raises(InputError, match=rf"wkdask.ranges.{name} is .* in dask's configuration"):
            Limits.configured()


@pytest.mark.parametrize("stale", range(3))
def test_pieces_fetched_together_are_all_of_the_version_that_is_there(stale: int) -> None:
    place = Location(f"memory://{uuid4().hex}/shard")
    place.write_bytes(b"abcdef")
    found = place.read_range(0, 6)
    assert found
    taken: list[bytes] = []

    def piece(number: int, version: str) -> Piece:
        return Piece(place, version, 2 * number, 2 * number + 2, lambda data: taken.append(bytes(data)))

    fetch([piece(number, found.version) for number in range(3)])
    assert taken == [b"ab", b"cd", b"ef"]
    with pytest.raises(ChangedError):
        fetch([piece(number, "of before" if number == stale else found.version) for number in range(3)])


@pytest.mark.parametrize(("size", "here"), [(1 << 10, True), (1 << 17, False)])
def test_small_pieces_are_taken_by_the_one_who_wants_them(size: int, here: bool) -> None:
    """Threads would only wait for each other."""
    places = [Location(f"memory://{uuid4().hex}/{name}") for name in "ab"]
    threads: list[threading.Thread] = []
    pieces = []

    def take(data: memoryview) -> None:
        assert len(data) == size
        threads.append(threading.current_thread())

    for place in places:
        place.write_bytes(bytes(2 * size))
        pieces += [Piece(place, "", start, start + size, take) for start in (0, size)]
    fetch(pieces)
    assert [thread is threading.current_thread() for thread in threads] == [here] * 4


@settings(max_examples=examples(25))
@given(st.data(), st.sampled_from([(1024, 1024, 1024), (4096, 4096, 32)]), st.integers(1, 160))
def test_cut_outs_anywhere_take_as_few_requests_as_their_bytes_allow(
    data: st.DataObject, shard: tuple[int, int, int], edge: int
) -> None:
    """Chunks of 32 x 32 x 32 in Morton order: while there are more than the floor, no gap is left that the bytes pay for."""
    start = [data.draw(st.integers(0, 2 * 1024 - edge)) for _ in shard]
    cells = Box(tuple(start), tuple(a + edge for a in start)).coarsened((32,) * 3)
    at = np.stack(np.meshgrid(*map(range, cells.start, cells.stop), indexing="ij"), axis=-1).reshape(-1, 3)
    unit, inside = np.divmod(at, np.array(shard) // 32)
    axes = [axis for axis in range(3) if shard[axis] > 32]
    number = sum((inside[:, axis] >> bit & 1) << len(axes) * bit + n for bit in range(7) for n, axis in enumerate(axes))
    size = data.draw(st.sampled_from([9_000, 23_000, 32_768]))
    found = sorted(zip(map(str, unit.tolist()), (number * size).tolist(), strict=True))
    files, spans = [file for file, _ in found], [(first, first + size) for _, first in found]
    limits = Limits()
    runs = merge(files, spans, limits)
    fetched = sum(spans[run.stop - 1][1] - spans[run.start][0] for run in runs)
    wanted = len(spans) * size
    near = sum(b[0] - a[1] for run in runs for a, b in itertools.pairwise(spans[run]) if b[0] - a[1] <= limits.near)
    assert fetched <= max(limits.waste * wanted, wanted + near)
    largest = max(spans[run.stop - 1][1] - spans[run.start][0] for run in runs)
    pairs = [(a, b) for a, b in itertools.pairwise(runs) if files[a.start] == files[b.start]]
    gaps = [spans[b.start][0] - spans[a.stop - 1][1] for a, b in pairs]
    if len(runs) > len(set(files)) + 2 and largest < limits.most // 2:
        assert fetched + min(gaps) > limits.waste * wanted


# ------------------------------------------------------------------------------------------- changes and faults


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("store", ["http", "memory"])
def test_what_was_replaced_is_read_anew(folder: Path, server: Served, kind: str, store: str) -> None:
    path, _ = write(folder, kind)
    local = opened(Location(str(folder / path)), kind)
    place = Location(f"{server.url}/{path}") if store == "http" else Location(f"memory://{path}")
    writer = local if store == "http" else find_format(KINDS[kind][0]).create(place, local.spec)
    array, box = opened(place, kind), Box((0,) * 4, (1, 32, 32, 32))
    array.read(box)
    for seed in (1, 2):
        voxels = noise(box, "uint16", seed).copy(order="F")  # of other sizes, also where nothing was stored
        voxels[:, 16:, :, ::2] = seed
        writer.write(box, voxels)
        np.testing.assert_array_equal(array.read(box), voxels)


def test_an_array_may_take_the_place_of_one_with_larger_chunks() -> None:
    place, box = Location(f"memory://{uuid4().hex}/color/1"), Box((0,) * 4, (1, 64, 64, 64))
    for dtype in ("uint64", "uint8"):
        spec = ArraySpec(box.shape, dtype, tuple("cxyz"), (1, 32, 32, 32), (1, 64, 64, 64), parse_codec("none"))
        place.delete()
        array, voxels = find_format("zarr3").create(place, spec), noise(box, dtype, 1)
        array.write(box, voxels)
        np.testing.assert_array_equal(opened(place, "zarr3, shards").read(box), voxels)


@pytest.mark.parametrize("kind", SHARDED)
def test_what_is_replaced_again_and_again_is_an_error(folder: Path, server: Served, kind: str) -> None:
    path, _ = write(folder, kind)
    array = opened(Location(f"{server.url}/{path}"), kind)
    array.read(Box((0,) * 4, (1, 32, 32, 32)))

    server.version = lambda _: f'"{uuid4().hex}"'
    with pytest.raises(ConflictError, match="was replaced 3 times"):
        array.read(Box((0,) * 4, (1, 32, 32, 32)))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "raw" not in kind and kind not in ("precomputed", "wkw")])
def test_a_flipped_bit_is_an_error(folder: Path, server: Served, kind: str) -> None:
    path, _ = write(folder, kind, sparse=False)
    array = opened(Location(f"{server.url}/{path}"), kind)
    array.read(Box((0,) * 4, (1, 8, 8, 8)))

    def flip(handler: Handler, body: bytes) -> bool:
        changed = bytearray(body)
        changed[len(body) // 2] ^= 16
        handler.send_response(206 if handler.told else 200)
        handler.send_header("Content-Length", str(len(body)))
        handler.send_header("Content-Range", handler.told)
        handler.end_headers()
        handler.wfile.write(changed)
        return True

    INDEXES.clear()
    server.fault = flip
    with pytest.raises(DamagedError, match=path):
        array.read(Box((0,) * 4, (1, 8, 8, 8)))


def test_a_file_that_is_cut_off_is_an_error(folder: Path, server: Served) -> None:
    path, _ = write(folder, "wkw, raw", sparse=False)
    array = opened(Location(f"{server.url}/{path}"), "wkw, raw")
    place = folder / path / "z0/y0/x0.wkw"
    INDEXES.clear()
    place.write_bytes(place.read_bytes()[:-1])
    with pytest.raises(DamagedError, match=r"x0\.wkw is cut off"):
        array.read(Box((0,) * 4, (1, 16, 16, 16)))


@pytest.mark.parametrize("kind", SHARDED)
def test_a_file_that_becomes_shorter_is_an_error(folder: Path, server: Served, kind: str) -> None:
    path, _ = write(folder, kind, sparse=False)
    array, box = opened(Location(f"{server.url}/{path}"), kind), Box((0,) * 4, (1, 16, 16, 16))
    server.version = lambda _: '"same"'  # so that only its length tells
    array.read(box)
    [place] = [folder / found for found in {found for *_, found, _ in server.seen} if found.endswith(("c/0/0/0/0", "x0.wkw"))][
        :1
    ]
    place.write_bytes(place.read_bytes()[: place.stat().st_size // 2])
    with pytest.raises(DamagedError, match=r"is cut off: it has [0-9]+ bytes, and ends before byte"):
        array.read(box)


@pytest.mark.parametrize("kind", ["zarr3, shards", "zarr3, raw shards"])
def test_a_chunk_that_is_stored_since(folder: Path, server: Served, kind: str) -> None:
    """Where nothing was wanted of a shard, no answer tells that it was replaced."""
    path, voxels = write(folder, kind)
    array, box = opened(Location(f"{server.url}/{path}"), kind), Box((0, 16, 0, 0), (1, 24, 8, 8))
    assert not array.read(box).any()
    written = noise(box, "uint16", 3)
    opened(Location(str(folder / path)), kind).write(box, written)
    np.testing.assert_array_equal(array.read(box), written)


@pytest.mark.parametrize("kind", KINDS)
def test_servers_without_ranges(folder: Path, server: Served, kind: str) -> None:
    path, voxels = write(folder, kind)
    array, box = opened(Location(f"{server.url}/{path}"), kind), Box((0,) * 4, (1, 32, 32, 32))
    server.ranges = False
    if kind in SHARDED:
        with pytest.raises(StorageError, match="range"):
            array.read(box)
    else:
        np.testing.assert_array_equal(array.read(box), voxels)


# ---------------------------------------------------------------------------------------------------- datasets


def test_a_dataset_on_a_web_server(folder: Path, server: Served) -> None:
    voxels = np.random.default_rng(0).integers(0, 255, (64, 64, 64)).astype("uint8")
    local = wk.Dataset(str(folder / "brain"), voxel_size=(4, 4, 35))
    for name in ("zarr3", "wkw"):
        layer = local.add_layer(name, "color", data_format=name, bounding_box=wk.BoundingBox((0, 0, 0), (64, 64, 64)))
        layer.add_mag(1).write(voxels)
    remote = wk.Dataset.open(f"{server.url}/brain")
    for name in ("zarr3", "wkw"):
        found = remote.get_layer(name).get_mag(1).read(absolute_offset=(5, 6, 7), size=(20, 30, 40))
        np.testing.assert_array_equal(found[0], voxels[5:25, 6:36, 7:47])
    assert not [asked for _, asked, _ in server.seen if not (folder / asked).is_file()]


def test_layers_on_several_stores(folder: Path, server: Served) -> None:
    voxels = np.random.default_rng(0).integers(0, 255, (64, 64, 64)).astype("uint8")
    there = wk.Dataset(str(folder / "there"), voxel_size=(4, 4, 35))
    there.add_layer("color", "color", bounding_box=wk.BoundingBox((0, 0, 0), (64, 64, 64))).add_mag(1).write(voxels)
    found = there.properties
    document = json.loads(found.to_json())
    document["dataLayers"][0]["mags"][0]["path"] = f"{server.url}/there/color/1"
    (folder / "here").mkdir()
    (folder / "here" / "datasource-properties.json").write_text(json.dumps(document))
    np.testing.assert_array_equal(wk.Dataset.open(str(folder / "here")).get_layer("color").get_mag(1).read()[0], voxels)
    assert server.requests
