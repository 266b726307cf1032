"""What views tell of their files, and what merges, compresses and rechunks them."""

from __future__ import annotations

import itertools
import json
import pickle
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wkdask as wk
from wkdask.errors import BoxError, DtypeError, InputError, MagExistsError, PlanError, ReadOnlyError, ShapeError
from wkdask.formats import FORMATS, find_format
from wkdask.storage import Location

SIZE = (70, 40, 36)


def new_mag(place, name="em", form="zarr3", dtype="uint8", channels=1, mag=1, chunk=16, shard=32, **options):
    dataset = wk.Dataset(place, (1, 1, 1), exist_ok=True)
    box = wk.BoundingBox((0, 0, 0), SIZE)
    layer = dataset.add_layer(name, "segmentation", dtype=dtype, num_channels=channels, data_format=form, bounding_box=box)
    return layer.add_mag(mag, chunk_shape=chunk, shard_shape=shard if find_format(form).sharded else chunk, **options)


@pytest.mark.parametrize("form", FORMATS)
def test_info_says_how_it_is_stored(tmp_path, form):
    mag = new_mag(tmp_path / "ds", form=form, dtype="uint16", compress=form != "zarr")
    info = mag.info
    shard = 32 if find_format(form).sharded else 16
    assert (str(info.data_format), info.voxel_type, info.num_channels) == (form, "uint16", 1)
    assert (info.chunk_shape, info.shard_shape, info.chunks_per_shard) == ((16,) * 3, (shard,) * 3, (shard // 16,) * 3)
    assert info.compression_mode == (form not in ("zarr", "neuroglancerPrecomputed")) and info.compression_mode == (
        mag.spec.codec is not None
    )
    sizes = dict(zip(info.bounding_box.axes, info.bounding_box.size, strict=True))
    assert set(sizes) >= set("xyz") and all(sizes[a] >= n for a, n in zip("xyz", SIZE, strict=True))
    assert bool(info.codecs) == (info.chunk_key_encoding is not None) == (form == "zarr3")
    assert pickle.loads(pickle.dumps(info)) == info
    if form == "zarr3":
        document = json.loads((tmp_path / "ds/em/1/zarr.json").read_bytes())
        assert list(info.codecs) == document["codecs"][0]["configuration"]["codecs"]
        assert info.chunk_key_encoding == document["chunk_key_encoding"]
        assert not new_mag(tmp_path / "raw", compress=False, shard=16).info.compression_mode


def test_names_of_a_view(tmp_path):
    mag = new_mag(tmp_path / "ds", mag="2-2-1")
    view = mag.get_view(relative_offset=(4, 4, 4), size=(8, 8, 8))
    for one in (mag, view):
        assert (one.name, one.mag, one.num_channels, one.get_dtype(), one.data_format) == (
            "2-2-1",
            wk.Mag("2-2-1"),
            1,
            "uint8",
            "zarr3",
        )
        assert Path(str(one.path)) == tmp_path / "ds/em/2-2-1" and not one.is_foreign and not one.read_only
        assert one.layer.name == "em"
    assert view.normalized_bounding_box == wk.NDBoundingBox((0, 4, 4, 4), (1, 8, 8, 8), ("c", "x", "y", "z"), (0, 1, 2, 3))
    assert mag.normalized_bounding_box.size == (1, *SIZE)


@given(st.lists(st.tuples(*[st.integers(0, n - 1) for n in SIZE]), max_size=6), st.sampled_from(["zarr3", "wkw", "n5"]))
def test_boxes_on_disk_are_those_that_were_written(tmp_path_factory, points, form):
    mag = new_mag(tmp_path_factory.mktemp("disk") / "ds", form=form)
    for point in points:
        mag.write(np.ones((1, 1, 1), "uint8"), absolute_offset=point)
    edge = mag.info.shard_shape.x
    wanted = sorted({tuple(n // edge * edge for n in point) for point in points})
    found = list(mag.get_bounding_boxes_on_disk())
    assert [tuple(box.topleft) for box in found] == wanted
    assert all(box.bottomright == tuple(np.minimum(np.add(w, edge), SIZE)) for box, w in zip(found, wanted, strict=True))
    assert [view.bounding_box for view in mag.get_views_on_disk()] == found
    assert not any(view.read_only for view in mag.get_views_on_disk())
    assert all(view.read_only and view.read().any() for view in mag.get_views_on_disk(read_only=True))
    part = mag.get_view(absolute_offset=(10, 10, 10), size=(10, 10, 10))
    inside = [box for box in found if box.topleft.x < 20 and box.bottomright.x > 10 and max(box.topleft) < 20]
    inside = [box for box in inside if min(box.bottomright) > 10]
    assert [box.volume() for box in part.get_bounding_boxes_on_disk()] == [
        box.intersected_with(part.bounding_box).volume() for box in inside
    ]


@pytest.mark.parametrize("form", FORMATS)
def test_the_zarr_array_has_the_voxels(tmp_path, form):
    mag = new_mag(tmp_path / "ds", form=form)
    voxels = np.random.default_rng(0).integers(0, 255, SIZE).astype("uint8")
    mag.write(voxels)
    if form in ("wkw", "neuroglancerPrecomputed"):
        with pytest.raises(ValueError, match="tensorstore does not open"):
            mag.get_zarr_array()
        return
    array = mag.get_zarr_array()
    found = array[tuple(slice(0, dict(zip("xyz", SIZE, strict=True)).get(a, 1)) for a in mag.spec.axes)].read().result()
    np.testing.assert_array_equal(np.asarray(found).reshape(mag.read().shape), mag.read())
    closed = wk.Dataset.open(tmp_path / "ds", read_only=True).get_layer("em").get_mag(1).get_zarr_array()
    assert array.writable and not closed.writable


# ------------------------------------------------------------------------------------------------------------- merging


@given(st.data(), st.sampled_from(["zarr3", "wkw", "zarr"]), st.sampled_from([16, 32]))
def test_merging_takes_what_is_stored_zeros_too(tmp_path_factory, data, form, shard):
    place = tmp_path_factory.mktemp("merge")
    below = new_mag(place / "ds", "below", form)
    above = new_mag(place / "ds", "above", form, shard=shard if form == "zarr3" else 16)
    voxels = np.random.default_rng(0).integers(1, 255, SIZE).astype("uint8")
    below.write(voxels)
    expected = voxels.copy()
    laid = np.zeros(SIZE, "uint8")
    for point in data.draw(st.lists(st.tuples(*[st.integers(0, n - 4) for n in SIZE]), max_size=4)):
        above.write(np.full((3, 3, 3), 7, "uint8"), absolute_offset=point)
        laid[tuple(slice(p, p + 3) for p in point)] = 7
    for corner in itertools.product(*(range(0, n, 16) for n in SIZE)):
        chunk = tuple(slice(c, c + 16) for c in corner)
        if laid[chunk].any():
            expected[chunk] = laid[chunk]
    below.merge_with_view(above, data.draw(st.sampled_from([None, "sync"])))
    np.testing.assert_array_equal(below.read()[0], expected)


def test_merging_by_pieces_and_growing(tmp_path, monkeypatch):
    monkeypatch.setattr("wkdask.dataset.overlaying.PIECE_BYTES", 16**3)
    below, above = new_mag(tmp_path / "ds", "below"), new_mag(tmp_path / "other", "above", chunk=16, shard=16)
    above.layer.bounding_box = wk.BoundingBox((0, 0, 0), (100, 40, 36))
    voxels = np.random.default_rng(0).integers(1, 255, (100, 40, 36)).astype("uint8")
    above.write(voxels)
    below.merge_with_view(above)
    np.testing.assert_array_equal(below.read()[0], voxels)
    whole = wk.BoundingBox((0, 0, 0), (32, 32, 32))
    above.write(voxels + np.uint8(1))
    below.merge_chunk((above, whole, [wk.BoundingBox((0, 0, 0), (16, 16, 16)), wk.BoundingBox((16, 16, 16), (16, 16, 16))]))
    changed = np.argwhere(below.read()[0] != voxels)
    assert {tuple(c) for c in (changed // 16).tolist()} == {(0, 0, 0), (1, 1, 1)} and len(changed) == 2 * 16**3


def test_what_can_not_be_merged(tmp_path):
    below = new_mag(tmp_path / "ds", "below")
    for name, options, kind in [
        ("type", {"dtype": "uint16"}, DtypeError),
        ("channels", {"channels": 2}, ShapeError),
        ("mag", {"mag": 2}, InputError),
    ]:
        with pytest.raises(kind, match="can not be merged"):
            below.merge_with_view(new_mag(tmp_path / "ds", name, **options))


# ------------------------------------------------------------------------------------------------- stored in another way


@pytest.mark.parametrize("executor", [None, "sync"])
def test_stored_anew_in_place_and_elsewhere(tmp_path, executor):
    mag = new_mag(tmp_path / "ds", compress=False)
    voxels = np.random.default_rng(0).integers(0, 3, SIZE).astype("uint8")
    mag.write(voxels)
    mag.rechunk(chunk_shape=8, shard_shape=16, target_path=tmp_path / "re", executor=executor)
    mag.compress(target_path=tmp_path / "small", executor=executor)
    assert not mag.info.compression_mode and mag.info.chunk_shape == (16, 16, 16)
    other, small = (wk.Dataset.open(tmp_path / name).get_layer("em").get_mag(1) for name in ("re", "small"))
    assert other.info.chunk_shape == (8, 8, 8) and other.info.shard_shape == (16, 16, 16) and not other.info.compression_mode
    assert small.info.compression_mode and small.layer.category == "segmentation"
    with pytest.raises(MagExistsError):
        mag.compress(target_path=tmp_path / "small")
    mag.compress(executor=executor)
    assert mag.info.compression_mode
    mag.rechunk(chunk_shape=8, shard_shape=64, compress=False, executor=executor)
    assert mag.info.shard_shape == (64, 64, 64) and not mag.info.compression_mode
    for one in (mag, other, small):
        np.testing.assert_array_equal(one.read()[0], voxels)


# ------------------------------------------------------------------------------------------------------------ small writes


def stored_chunks(mag):
    """The encoded bytes of each chunk of each shard, as the shards' indexes tell them."""
    handle, found = mag.array.handle, {}
    for unit in handle.written_units():
        data = Path(handle.unit_location(unit).url).read_bytes()
        entries = handle.entries(unit).tolist()
        found |= {(unit, n): data[a : a + size] for n, (a, size) in enumerate(entries) if a != 2**64 - 1}
    return found


def test_a_small_write_encodes_no_chunk_but_its_own(tmp_path):
    """The document asks for another level than chunks were made with: what is encoded anew has other bytes."""
    mag = new_mag(tmp_path / "ds", chunk=16, shard=64)
    mag.write(np.random.default_rng(0).integers(0, 6, SIZE).astype("uint8"))
    before = stored_chunks(mag)
    place = tmp_path / "ds/em/1/zarr.json"
    changed = place.read_text().replace('"level": 5', '"level": 1')
    assert changed != place.read_text()
    place.write_text(changed)
    mag = wk.Dataset.open(tmp_path / "ds").get_layer("em").get_mag(1)
    mag.write(np.full((2, 2, 2), 9, "uint8"), absolute_offset=(15, 3, 3))
    after = stored_chunks(mag)
    assert {key for key in before if after[key] != before[key]} == {((0, 0, 0, 0), 0), ((0, 0, 0, 0), 16)}
    mag.write(mag.read())
    assert all(data != before[key] for key, data in stored_chunks(mag).items())


# --------------------------------------------------------------------------------------------------------------- read-only

READERS = {
    "bytes_on_disk", "chunk", "content_hash", "content_is_equal", "for_each_chunk", "for_zipped_chunks",
    "get_bounding_boxes_on_disk", "get_buffered_slice_reader", "get_dtype", "get_view", "get_views_on_disk", "get_zarr_array",
    "map_chunk", "read", "read_cxyz", "read_xyz", "require_writable", "statistics", "to_dask", "to_xarray", "verify",
}  # fmt: skip
PIECE = np.ones((4, 4, 4), "uint8")
MUTATORS = {
    "compress": lambda view, _: view.compress(),
    "get_buffered_slice_writer": lambda view, _: view.get_buffered_slice_writer(allow_unaligned=True),
    "merge_chunk": lambda view, other: view.merge_chunk((other, other.bounding_box, [other.bounding_box])),
    "merge_with_view": lambda view, other: view.merge_with_view(other),
    "rechunk": lambda view, _: view.rechunk(chunk_shape=8),
    "write": lambda view, _: view.write(PIECE),
    "write_cxyz": lambda view, _: view.write_cxyz(PIECE),
}


def files(place):
    return {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}


def test_every_verb_reads_or_writes():
    public = {name for name in dir(wk.MagView) if not name.startswith("_") and callable(getattr(wk.MagView, name))}
    drawing = {name for name in public if name.startswith(("plot", "show", "thumbnail"))}
    assert public - drawing == READERS | set(MUTATORS)


@pytest.mark.parametrize("verb", MUTATORS)
def test_what_is_read_only_is_not_changed(tmp_path, verb):
    mag = new_mag(tmp_path / "ds")
    mag.write(np.ones(SIZE, "uint8"))
    other = new_mag(tmp_path / "other")
    other.write(np.full((20, 20, 20), 2, "uint8"), absolute_offset=(0, 0, 0))
    closed = wk.Dataset.open(tmp_path / "ds", read_only=True).get_layer("em").get_mag(1)
    before = files(tmp_path / "ds")
    views = [closed]
    if hasattr(wk.View, verb):
        views += [mag.get_view(read_only=True), closed.get_view(relative_offset=(1, 1, 1), size=(8, 8, 8))]
    for view in views:
        with pytest.raises(RuntimeError, match="read-only") as error:
            MUTATORS[verb](view, other)
        assert isinstance(error.value, ReadOnlyError)
    with pytest.raises(PlanError, match="read-only") as error:
        closed.for_each_chunk(lambda chunk: chunk[0].write(chunk[0].read()))
    assert isinstance(error.value.__cause__, ReadOnlyError)
    assert files(tmp_path / "ds") == before


def test_everything_pickles(tmp_path):
    mag = new_mag(tmp_path / "ds")
    mag.write(np.ones(SIZE, "uint8"))
    view = mag.get_view(relative_offset=(1, 1, 1), size=(8, 8, 8), read_only=True)
    for one in (mag, view):
        one.read()
        again = pickle.loads(pickle.dumps(one))
        np.testing.assert_array_equal(again.read(), one.read())
        assert type(again) is type(one) and again.read_only == one.read_only and len(pickle.dumps(one)) < 1000
    assert pickle.loads(pickle.dumps(mag.layer)).name == "em"
    error = pickle.loads(pickle.dumps(BoxError("no")))
    assert isinstance(error, ValueError) and isinstance(error, AssertionError)


# ------------------------------------------------------------------------------------------------------------------ oracle

REFERENCE = """
import json, sys
import numpy as np
import webknossos as wk
from cluster_tools import get_executor
place = sys.argv[1]
mags = [wk.Dataset.open(place).get_layer(n).get_mag(1) for n in ("below", "above")]
info = mags[0].info
print(json.dumps({
    "format": str(info.data_format.value), "dtype": str(info.voxel_type), "chunk": list(info.chunk_shape),
    "shard": list(info.shard_shape), "compressed": bool(info.compression_mode), "box": list(info.bounding_box.size),
    "codecs": list(info.codecs), "names": info.chunk_key_encoding,
    "boxes": sorted(list(b.topleft_xyz) for b in mags[1].get_bounding_boxes_on_disk()),
}))
with get_executor("sequential") as executor:
    mags[0].merge_with_view(mags[1], executor)
np.save(place + ".npy", mags[0].read_cxyz())
"""


@pytest.mark.slow
def test_the_reference_says_and_merges_the_same(tmp_path, webknossos_python):
    below, above = new_mag(tmp_path / "ds", "below"), new_mag(tmp_path / "ds", "above", shard=16)
    below.write(np.random.default_rng(0).integers(1, 255, SIZE).astype("uint8"))
    above.write(np.full((20, 3, 3), 7, "uint8"), absolute_offset=(30, 12, 3))
    info, voxels = below.info, below.read()
    boxes = [list(box.topleft) for box in above.get_bounding_boxes_on_disk()]
    script = [webknossos_python, "-c", REFERENCE, tmp_path / "ds"]
    done = subprocess.run(script, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[0]) == {
        "format": str(info.data_format), "dtype": str(info.voxel_type), "chunk": list(info.chunk_shape),
        "shard": list(info.shard_shape), "compressed": info.compression_mode, "box": list(info.bounding_box.size),
        "codecs": list(info.codecs), "names": json.loads(json.dumps(info.chunk_key_encoding)),
        "boxes": boxes,
    }  # fmt: skip
    theirs = below.read()
    below.write(voxels)
    below.merge_with_view(above)
    np.testing.assert_array_equal(below.read(), theirs)
    np.testing.assert_array_equal(np.load(tmp_path / "ds.npy"), theirs)
    assert Location(str(tmp_path / "ds")).is_folder()
