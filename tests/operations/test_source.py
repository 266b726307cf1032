"""Images as a source of tiles: any box equals numpy's view of all voxels, and is read from the least that files allow."""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import examples
from wkdask.formats import ArraySpec, Zarr3
from wkdask.geometry.grid import Box
from wkdask.images import find_images
from wkdask.images.stack import ImageStack
from wkdask.operations import Orientation, ValueMap
from wkdask.operations.append import Behind
from wkdask.operations.source import FromImages, _windows, slice_window
from wkdask.storage import Location

SHAPES = [("TZYX", (2, 3, 13, 9)), ("ZYX", (4, 13, 9)), ("ZYXS", (4, 13, 9, 3))]
INVERTED = ValueMap("uint8", "uint8", invert=True)
PER_SLICE = ValueMap("uint8", "uint8", per_slice=True)
WINDOW = ValueMap("uint8", "uint16", window=(30, 99))


@pytest.fixture(scope="module")
def stacks(tmp_path_factory):
    """Stacks of all kinds of axes, each with its voxels as (t, z, y, x, c)."""
    folder, found = tmp_path_factory.mktemp("stacks"), []
    for number, (axes, shape) in enumerate(SHAPES):
        voxels = np.random.default_rng(number).integers(1, 250, shape, dtype=np.uint8)
        path = folder / f"{number}.ome.tif"
        kind = {"photometric": "rgb"} if "S" in axes else {}
        tifffile.imwrite(path, voxels, metadata={"axes": axes}, rowsperstrip=4, **kind)
        voxels = voxels if "T" in axes else voxels[None]
        found.append((find_images(path), voxels if "S" in axes else voxels[..., None]))
    return found


def mapped(voxels, values):
    """Apply a map to (t, z, y, x, c), a whole slice at a time."""
    return voxels if values is None else np.stack([values.apply(time) for time in voxels])


def seen(voxels, orientation):
    """Return (t, z, y, x, c) as the (t, c, x, y, z) of an orientation."""
    turned = voxels.transpose(0, 4, 2, 3, 1) if orientation.swap_xy else voxels.transpose(0, 4, 3, 2, 1)
    return np.flip(turned, [axis + 2 for axis, flip in enumerate(orientation.flip) if flip])


def ranges(length):
    return st.tuples(st.integers(0, length), st.integers(0, length)).map(sorted)


@settings(max_examples=examples(60))
@given(
    data=st.data(),
    orientation=st.builds(Orientation, st.tuples(st.booleans(), st.booleans(), st.booleans()), st.booleans()),
    origin=st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)),
    values=st.sampled_from([None, INVERTED, PER_SLICE, WINDOW]),
)
def test_any_box_is_that_of_all_voxels(stacks, data, orientation, origin, values):
    stack, voxels = stacks[data.draw(st.integers(0, len(stacks) - 1))]
    whole = seen(mapped(voxels, values), orientation)
    source = pickle.loads(pickle.dumps(FromImages(stack, orientation, origin, values)))
    assert orientation.extent(stack.shape) == whole.shape[2:]
    ends = [data.draw(ranges(n).filter(lambda end: end[0] < end[1])) for n in whole.shape]
    ends[1] = (0, whole.shape[1])  # all channels lie in one chunk
    part = whole[tuple(slice(*end) for end in ends)]
    start = [a + o for (a, _), o in zip(ends, (0, 0, *origin), strict=True)]
    box = Box(tuple(start), tuple(a + n for a, n in zip(start, part.shape, strict=True)))
    if len(voxels) == 1:
        box, part = Box(box.start[1:], box.stop[1:]), part[0]
    found = source.read(box)
    assert found.dtype == part.dtype and found.flags.f_contiguous
    np.testing.assert_array_equal(found, part)
    assert source.bytes_read(box) == part.size
    assert list(source.needs(box)) == []


def test_windows_of_slices_are_read_in_bands(monkeypatch, tmp_path):
    voxels = np.random.default_rng(0).integers(0, 4000, (2, 50, 30), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", voxels, rowsperstrip=8, compression="zlib", metadata={"axes": "ZYX"})
    stack, read, heights = find_images(tmp_path / "a.tif"), ImageStack.read, []

    def counted(self, z0, z1, y0, y1, *more, **options):
        heights.append(y1 - y0)
        return read(self, z0, z1, y0, y1, *more, **options)

    monkeypatch.setattr(ImageStack, "read", counted)
    monkeypatch.setattr("wkdask.operations.source.BAND_VOXELS", 300)
    _windows.clear()
    for _ in range(2):  # the second time they are known
        assert [slice_window(stack, 0, z) for z in (0, 1)] == [(int(plane.min()), int(plane.max())) for plane in voxels]
    assert heights == [16, 16, 16, 2] * 2  # ten rows, rounded up to strips


def test_memory_beside_the_voxels(stacks, tmp_path):
    stack, _ = stacks[1]
    box = Box((0, 0, 0, 0), (1, 9, 13, 2))
    assert FromImages(stack).bytes_beside(box) == stack.decoded_bytes == 0
    for moved in (Orientation((False, True, False)), Orientation(swap_xy=True)):
        assert FromImages(stack, moved).bytes_beside(box) == box.size
    assert FromImages(stack, values=INVERTED).bytes_beside(box) == box.size
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((13, 9), "uint8"), compression="lzw", rowsperstrip=13)
    whole = find_images(tmp_path / "a.tif")
    assert FromImages(whole).bytes_beside(box) == whole.decoded_bytes > 13 * 9


def test_tiles_grow_along_rows_and_say_what_they_cost(tmp_path):
    for z in range(3):
        tifffile.imwrite(tmp_path / f"{z}.tif", np.full((64, 48), z + 1, "uint8"), compression="lzw", rowsperstrip=16)
    stack = find_images(tmp_path)
    straight, turned = FromImages(stack), FromImages(stack, Orientation(swap_xy=True))
    assert (straight.growth, turned.growth) == ("xy", "yx")
    assert straight.describe((1, 48, 16, 3)) == "3 pages, each decoded once,"
    assert straight.describe((1, 48, 8, 3)) == "3 pages, each decoded 2 times,"
    assert turned.describe((1, 8, 48, 3)) == "3 pages, each decoded 2 times,"


@settings(max_examples=examples(40))
@given(old=st.integers(1, 9), data=st.data())
def test_behind_an_array_come_images(stacks, old, data):
    stack, voxels = stacks[1]
    new = seen(voxels, Orientation())[0]
    before = np.random.default_rng(old).integers(0, 250, (1, 9, 13, old), dtype=np.uint8)
    whole = np.concatenate([before, new], axis=3)
    with tempfile.TemporaryDirectory() as place:
        spec = ArraySpec((1, 16, 16, 16), "uint8", tuple("cxyz"), (1, 8, 8, 8), (1, 16, 16, 16))
        array = Zarr3().create(Location(str(Path(place) / "1")), spec)
        full = np.full((1, 9, 13, 16), 255, "uint8")  # voxels that lie behind the layer's end are not taken
        full[..., :old] = before
        array.write(Box((0, 0, 0, 0), full.shape), full)
        source = Behind(array, FromImages(stack, Orientation(), (0, 0, old)), at=old, itemsize=1)
        ends = [data.draw(ranges(n).filter(lambda end: end[0] < end[1])) for n in whole.shape]
        box = Box(tuple(a for a, _ in ends), tuple(b for _, b in ends))
        found = source.read(box)
        np.testing.assert_array_equal(found, whole[box.slices])
        assert found.flags.f_contiguous and source.bytes_read(box) == box.size
        assert source.bytes_beside(box) == source.images.bytes_beside(box) + box.size
