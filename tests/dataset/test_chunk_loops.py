"""Views, and loops over their chunks, against numpy."""

from __future__ import annotations

import itertools
import pickle
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import dask
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wkdask as wk
from wkdask.errors import InputError, PlanError, ReadOnlyError
from wkdask.formats import FORMATS


def corner(view):
    return view.bounding_box.topleft.to_tuple()


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A layer of odd place and size, in mag 1 and 2-2-1, and its voxels."""
    layer = wk.Dataset(tmp_path_factory.mktemp("loops") / "ds", (1, 1, 1)).add_layer(
        "em", "color", bounding_box=wk.BoundingBox((8, 4, 2), (74, 40, 37))
    )
    voxels = np.random.default_rng(0).integers(1, 255, (74, 40, 37)).astype("uint8")
    layer.add_mag(1, chunk_shape=8, shard_shape=16).write(voxels)
    layer.add_mag("2-2-1", chunk_shape=8, shard_shape=16).write(voxels[::2, ::2])
    return layer, voxels


# ---------------------------------------------------------------------------------------------------------------- views


@st.composite
def boxes(draw, size=(74, 40, 37)):
    start = [draw(st.integers(0, n // 2 - 1)) * 2 for n in size]
    return start, [draw(st.integers(1, (n - a) // 2)) * 2 for n, a in zip(size, start, strict=True)]


@given(boxes(), st.data(), st.sampled_from([1, "2-2-1"]))
def test_views_of_views_read_what_numpy_cuts(scene, box, data, mag):
    layer, voxels = scene
    start, size = box
    view = layer.get_mag(mag).get_view(relative_offset=start, size=size)
    inner_start, inner_size = data.draw(boxes([max(n, 2) for n in size]))
    inner_size = [min(n, whole - a) for n, whole, a in zip(inner_size, size, inner_start, strict=True)]
    inner = view.get_view(relative_offset=inner_start, size=inner_size)
    expected = voxels
    for a, n in ((start, size), (inner_start, inner_size)):
        expected = expected[tuple(slice(x, x + m) for x, m in zip(a, n, strict=True))]
    expected = expected[:: inner.mag.x, :: inner.mag.y, :: inner.mag.z]
    np.testing.assert_array_equal(inner.read()[0], expected)
    np.testing.assert_array_equal(inner.to_dask().compute(scheduler="sync")[0], expected)
    assert inner.bounding_box == wk.BoundingBox(np.add((8, 4, 2), start) + inner_start, inner_size)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(inner)).read()[0], expected)


def test_size_alone_counts_voxels_of_the_mag(scene):
    view = scene[0].get_mag("2-2-1").get_view(size=(4, 4, 4))
    assert view.bounding_box == wk.BoundingBox((8, 4, 2), (8, 8, 4))
    assert view.get_view().bounding_box == view.bounding_box
    assert view.name == "2-2-1" and view.layer is scene[0]


def test_views_write_within_themselves(mag, voxels):
    view = mag.get_view(absolute_offset=(10, 6, 4), size=(8, 8, 8))
    view.write(np.full((8, 8, 8), 255, "uint8"))
    view.write(np.full((2, 2, 2), 254, "uint8"), relative_offset=(6, 6, 6))
    voxels[2:10, 2:10, 2:10] = 255
    voxels[8:10, 8:10, 8:10] = 254
    with pytest.raises(InputError, match="beyond the view's box"):
        view.write(np.ones((8, 8, 9), "uint8"))
    with pytest.raises(InputError, match="beyond the view's box"):
        view.write(np.ones((1, 1, 1), "uint8"), absolute_offset=(9, 6, 4))
    np.testing.assert_array_equal(mag.read()[0], voxels)


def test_what_views_refuse(layer, mag):
    with pytest.raises(InputError, match="is beyond"):
        mag.get_view(absolute_offset=(0, 0, 0), size=(9, 9, 9))
    beyond = mag.get_view(absolute_offset=(0, 0, 0), size=(9, 9, 9), read_only=True)
    assert beyond.read_only and not beyond.read()[0, :8].any() and beyond.read()[0, 8:, 4:, 2:].all()
    assert beyond.get_view(size=(2, 2, 2)).read_only
    with pytest.raises(ReadOnlyError, match="read-only"):
        beyond.get_view(read_only=False)
    with pytest.raises(ReadOnlyError, match="read-only"):
        mag.get_view(read_only=True).write(np.ones((2, 2, 2), "uint8"))
    with pytest.raises(InputError, match="whole voxels"):
        layer.get_mag("2-2-1").get_view(absolute_offset=(9, 4, 2), size=(2, 2, 2))
    for wrong in [
        {"relative_offset": (0, 0, 0), "absolute_offset": (8, 4, 2)},
        {"size": (1, 1, 1), "absolute_bounding_box": wk.BoundingBox((8, 4, 2), (1, 1, 1))},
    ]:
        with pytest.raises(InputError, match="Several positions"):
            mag.get_view(**wrong)


# --------------------------------------------------------------------------------------------------------------- chunks


@given(st.tuples(*[st.sampled_from([1, 2, 3])] * 3), st.booleans())
def test_chunks_tile_the_view_in_order(scene, factors, aligned):
    layer, voxels = scene
    shape = [8 * f for f in factors]
    chunks = list(layer.get_mag(1).chunk(shape, (8, 8, 8) if aligned else None, read_only=True))
    corners = [corner(chunk) for chunk in chunks]
    assert corners == sorted(set(corners))
    met = np.zeros_like(voxels)
    for chunk in chunks:
        start = np.subtract(corner(chunk), (8, 4, 2))
        inside = tuple(slice(a, a + n) for a, n in zip(start, chunk.bounding_box.size, strict=True))
        met[inside] += 1
        np.testing.assert_array_equal(chunk.read()[0], voxels[inside])
        assert chunk.read_only and all(n <= s for n, s in zip(chunk.bounding_box.size, shape, strict=True))
    assert (met == 1).all()
    firsts = [8, 0, 0] if aligned else [8, 4, 2]
    assert all((a - f) % s == 0 or a in (8, 4, 2) for c in corners for a, f, s in zip(c, firsts, shape, strict=True))
    assert corners == [corner(v) for v in layer.get_mag(1).chunk(shape, (8, 8, 8) if aligned else None)]


EXECUTORS = [None, "threads", "sync", "sequential", "future", "threadpool"]


class Backwards:
    """An executor that runs the last call first."""

    def __init__(self):
        self.calls = []

    def submit(self, function, *arguments):
        self.calls.append((function, arguments))
        return self

    def result(self):
        if self.calls:
            self.results = [function(*arguments) for function, arguments in reversed(self.calls)]
            self.calls = []
        return self.results.pop()


@pytest.mark.parametrize("kind", EXECUTORS)
def test_results_come_in_the_order_of_chunks(scene, kind):
    layer, voxels = scene
    executor = {"future": Backwards(), "threadpool": ThreadPoolExecutor(3)}.get(kind, kind)
    found = layer.get_mag(1).map_chunk(lambda view: (corner(view), int(view.read().sum())), (16, 16, 16), executor)
    edges = [sorted({a, *range(-(-a // 16) * 16, a + n, 16)}) for a, n in zip((8, 4, 2), voxels.shape, strict=True)]
    expected = []
    for c in itertools.product(*edges):
        inside = tuple(slice(a - o, a // 16 * 16 + 16 - o) for a, o in zip(c, (8, 4, 2), strict=True))
        expected.append((c, int(voxels[inside].sum())))
    assert found == expected


def test_executors_get_whole_batches(tmp_path):
    layer = wk.Dataset(tmp_path / "ds", (1, 1, 1)).add_layer("em", "color", bounding_box=wk.BoundingBox((0, 0, 0), (800, 8, 8)))
    view = layer.add_mag(1, chunk_shape=8, shard_shape=8).get_view(read_only=True)
    executor = Backwards()
    assert view.map_chunk(lambda chunk: chunk.bounding_box.topleft.x, (8, 8, 8), executor) == list(range(0, 800, 8))
    assert len(executor.results) == 0
    counting = Counting()
    view.map_chunk(corner, (8, 8, 8), counting)
    assert counting.submitted == 64


class Counting:
    submitted = 0

    def submit(self, function, *arguments):
        self.submitted += 1
        future = Future()
        future.set_result(function(*arguments))
        return future


def test_the_ambient_scheduler_is_taken(scene):
    seen = []

    def get(graph, keys, **options):
        seen.extend(keys)
        return dask.get(graph, keys, **options)

    with dask.config.set(scheduler=get):
        scene[0].get_mag(1).map_chunk(corner, progress_desc="My loop")
    assert seen and all("My loop" in str(key) for key in np.ravel(seen))


@pytest.mark.parametrize("form", FORMATS)
def test_neighbours_lose_nothing(tmp_path, form):
    """Chunks of half a file, written at once, each through a view of its own."""
    layer = wk.Dataset(tmp_path / "ds", (1, 1, 1)).add_layer(
        "em", "color", "uint16", data_format=form, bounding_box=wk.BoundingBox((0, 0, 0), (64, 32, 32))
    )
    mag = layer.add_mag(1, chunk_shape=16, shard_shape=32 if wk.formats.find_format(form).sharded else 16)
    voxels = np.random.default_rng(0).integers(1, 1 << 16, (64, 32, 32)).astype("uint16")
    mag.write(np.ones_like(voxels))

    def write(argument):
        view, _ = argument
        a = view.bounding_box.topleft
        whole = tuple(slice(s, s + n) for s, n in zip(a, view.bounding_box.size, strict=True))
        for piece in view.chunk((8, 32, 32)):
            b = piece.bounding_box.topleft
            piece.write(voxels[b.x : b.x + 8, whole[1], whole[2]])

    pieces = list(mag.chunk((24, 24, 24)))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, [(view, 0) for view in pieces]))
    np.testing.assert_array_equal(mag.read()[0], voxels)
    mag.write(np.ones_like(voxels))
    mag.for_each_chunk(write)
    np.testing.assert_array_equal(mag.read()[0], voxels)
    assert mag.content_is_equal(mag.get_view())


class OddError(Exception):
    """Does not pickle."""

    def __init__(self, one, two):
        super().__init__("odd")
        self.lock = threading.Lock()


@pytest.mark.parametrize("kind", [None, "sync", "threadpool"])
def test_errors_say_where_and_why(scene, kind):
    calls = []

    def fails(argument):
        view, number = argument
        calls.append(number)
        if number == 5:
            raise KeyError("no such thing")

    executor = ThreadPoolExecutor(1) if kind == "threadpool" else kind
    with pytest.raises(
        PlanError, match=r"fails failed for chunk 5, <View em/1: \(8, 16, 32\).*KeyError: 'no such thing'"
    ) as error:
        scene[0].get_mag(1).for_each_chunk(fails, (16, 16, 16), executor)
    assert isinstance(error.value.__cause__, KeyError) and error.value.__cause__.__traceback__
    assert 5 in calls


def test_errors_that_do_not_pickle_still_travel():
    from wkdask.clusters.batches import CallFailedError

    found = pickle.loads(pickle.dumps(CallFailedError("chunk 3", OddError(1, 2))))
    assert (found.where, str(found.error)) == ("chunk 3", "OddError: odd")
    found = pickle.loads(pickle.dumps(CallFailedError("chunk 3", KeyError("x"))))
    assert isinstance(found.error, KeyError)


@pytest.mark.parametrize(
    ("shape", "read_only", "said"),
    [
        ((8, 16, 16), False, "shards"),
        ((24, 16, 16), False, "shards"),
        ((4, 8, 8), True, "chunks"),
        ((0, 8, 8), True, "multiple"),
    ],
)
def test_shapes_that_do_not_fit(scene, shape, read_only, said):
    view = scene[0].get_mag(1).get_view(read_only=read_only)
    with pytest.raises(ValueError, match=said):
        view.map_chunk(corner, shape)
    with pytest.raises(ValueError, match="multiple"):
        scene[0].get_mag("2-2-1").map_chunk(corner, (16, 16, 16))
    assert scene[0].get_mag("2-2-1").map_chunk(corner, (32, 32, 16), "sync")


def test_what_is_no_executor(scene):
    for wrong in ("slurmy", 3, object()):
        with pytest.raises(InputError, match=r"scheduler|submit"):
            scene[0].get_mag(1).map_chunk(corner, executor=wrong)


def test_zipped_chunks(scene, tmp_path):
    layer, voxels = scene
    target = wk.Dataset(tmp_path / "other", (1, 1, 1)).add_layer("em", "color", bounding_box=layer.bounding_box)
    coarse = target.add_mag("2-2-1", chunk_shape=8, shard_shape=16)
    seen = []

    def copy(argument):
        source, to, number = argument
        assert source.read_only and not to.read_only and source.bounding_box == to.bounding_box
        seen.append(number)
        to.write(source.read()[:, ::2, ::2])

    layer.get_mag(1).for_zipped_chunks(copy, coarse)
    assert sorted(seen) == list(range(len(seen))) and len(seen) > 10
    np.testing.assert_array_equal(coarse.read()[0], voxels[::2, ::2])
    assert coarse.content_is_equal(layer.get_mag("2-2-1"))
    with pytest.raises(InputError, match="cut both alike"):
        layer.get_mag(1).for_zipped_chunks(copy, coarse, (16, 16, 16), (32, 32, 16))


def test_equality_sees_every_difference(layer, mag, voxels):
    other = wk.Dataset.open(layer._store.location)
    same = other.get_layer("em").get_mag(1)
    assert mag.content_is_equal(same) and mag.content_is_equal(mag.get_view(read_only=True), "sync", (16, 16, 16))
    assert not mag.content_is_equal(layer.get_mag("2-2-1"))
    left, right = (mag.get_view(relative_offset=(x, 0, 0), size=(16, 24, 20)) for x in (0, 16))
    right.write(left.read())
    assert left.content_is_equal(right)
    right.write(right.read()[:, -1:, -1:, -1:] + np.uint8(1), relative_offset=(15, 23, 19))
    assert not left.content_is_equal(right)


def test_nan_equals_nan(dataset):
    mag = dataset.add_layer("f", "color", dtype="float32", bounding_box=wk.BoundingBox((0, 0, 0), (8, 8, 8))).add_mag(1)
    mag.write(np.full((8, 8, 8), np.nan, "float32"))
    assert mag.content_is_equal(mag)


SCRIPT = """
import sys
import wkdask as wk
mag = wk.Dataset.open(sys.argv[1]).get_layer("em").get_mag(1)
def total(view):
    return int(view.read().sum())
print(sum(mag.map_chunk(total)), "once")
"""


def test_scripts_need_no_guard(mag, voxels, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py", tmp_path / "ds"], capture_output=True, text=True, check=False, timeout=100
    )
    assert done.stdout == f"{voxels.sum()} once\n", done.stderr
