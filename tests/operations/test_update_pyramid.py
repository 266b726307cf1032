"""After a change, the pyramid is mended under a box: as if all of it had been made anew, for the units that the box reaches."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wkdask as wk
from tests.conftest import examples
from wkdask.errors import InputError, PlanRefusedError
from wkdask.operations import Coarser, Running, Sampling
from wkdask.plan import ThreadPool
from wkdask.storage import observe

SIZE = (75, 50, 39)


def make(folder, topleft, size, *, mags, channels=1, data_format="zarr3", shard=8, seed=0, mode="default"):
    """A layer of noise with a pyramid, in chunks and shards so small that a box seldom meets all of them."""
    dataset = wk.Dataset(folder, (4, 4, 35))
    box = wk.BoundingBox(topleft, size)
    layer = dataset.add_layer("em", "color", num_channels=channels, data_format=data_format, bounding_box=box)
    finest = layer.add_mag(1, chunk_shape=8, shard_shape=16)
    finest.write(np.random.default_rng(seed).integers(0, 255, (channels, *size)).astype("uint8"))
    coarser = Coarser(mags=tuple(map(wk.Mag, mags)))
    layer.plan_downsample(coarser, Sampling(interpolation=mode), chunk_shape=8, shard_shape=shard).run()
    return layer


def voxels(layer):
    found = {}
    for mag, view in layer.mags.items():
        array = layer.get_mag(mag).array
        found[str(mag)] = array.read(array.box)
        assert array.box == view.array.box
    return found


def written(layer, call):
    """The units, by mag, that a call publishes or deletes."""
    seen = []
    with observe(lambda event, url: seen.append(url)):
        call()
    root = str(layer._store.location.url) + "/em/"
    return {url.removeprefix(root) for url in seen if url.startswith(root) and not url.endswith(".json")}


@settings(max_examples=examples(30))
@given(
    topleft=st.tuples(*[st.integers(0, 9)] * 3),
    size=st.tuples(st.integers(1, 75), st.integers(1, 40), st.integers(1, 20)),
    mags=st.sampled_from([("2", "4"), ("2-2-1", "4-4-1", "8-8-2"), ("4", "16"), ("8-8-1",), ("2", "16")]),
    corner=st.tuples(st.integers(-5, 80), st.integers(-5, 45), st.integers(-5, 25)),
    extent=st.tuples(*[st.integers(1, 30)] * 3),
    kind=st.sampled_from([("zarr3", 1), ("zarr3", 3), ("wkw", 1)]),
    mode=st.sampled_from(["median", "max", "nearest"]),
    tile_bytes=st.sampled_from([1, 1 << 26]),
)
def test_the_same_as_all_anew(topleft, size, mags, corner, extent, kind, mode, tile_bytes):
    whole, box = wk.BoundingBox(topleft, size), wk.BoundingBox(corner, extent)
    met = whole.intersected_with(box, dont_assert=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch("wkdask.operations.downsample.TILE_BYTES", tile_bytes),
    ):
        layer = make(Path(folder) / "ds", topleft, size, mags=mags, channels=kind[1], data_format=kind[0], mode=mode)
        if met.is_empty():
            with pytest.raises(InputError, match="has no voxel in common with the layer's box"):
                layer.update_pyramid(box, mode)
            return
        changed = np.random.default_rng(1).integers(0, 255, (kind[1], *met.size)).astype("uint8")
        layer.get_mag(1).write(changed, absolute_offset=met.topleft)
        layer.update_pyramid(box, mode)
        found = voxels(layer)
        layer.redownsample(mode)
        np.testing.assert_equal(found, voxels(layer))


def test_changes_are_seen_in_the_mirror(tmp_path):
    """With a factor of 8, voxels in mirrored ends stand for some that lie in other units."""
    size = (66, 66, 20)
    layer = make(tmp_path / "ds", (0, 0, 0), size, mags=("8-8-1", "16-16-1"), shard=8, mode="max")
    for at in ((63, 3, 0), (3, 63, 0)):
        layer.get_mag(1).write(np.full((1, 1, 1, 1), 255, "uint8"), absolute_offset=at)
        layer.update_pyramid(wk.BoundingBox(at, (1, 1, 1)), "max")
        found = voxels(layer)
        layer.redownsample("max")
        np.testing.assert_equal(found, voxels(layer))


@pytest.mark.parametrize("data_format", ["zarr3", "wkw"])
def test_only_units_under_the_box_are_written(tmp_path, data_format):
    layer = make(tmp_path / "ds", (3, 5, 1), SIZE, mags=("2", "4"), data_format=data_format)
    files = [path for path in (tmp_path / "ds/em").rglob("*") if path.is_file() and "zarr.json" not in path.name]
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in files}
    box = wk.BoundingBox((30, 20, 10), (3, 14, 7))
    seen = written(layer, lambda: layer.update_pyramid(box))
    wanted = set()
    for mag in (2, 4):
        array = layer.get_mag(mag).array.handle
        at = {
            a: range(t // mag // 8, (-(-b // mag) - 1) // 8 + 1)
            for a, t, b in zip("xyz", box.topleft, box.bottomright, strict=True)
        }
        wanted |= {path for x in at["x"] for y in at["y"] for z in at["z"] if (path := array.unit_location((0, x, y, z)).url)}
    assert {str(tmp_path / "ds/em" / path) for path in seen} == wanted
    assert 8 <= len(wanted) < len(before) / 3
    for path, state in before.items():
        if str(path) not in wanted:
            assert (path.stat().st_mtime_ns, path.stat().st_ino) == state


def test_a_box_partly_outside_is_cut(tmp_path):
    layer = make(tmp_path / "ds", (3, 5, 1), SIZE, mags=("2", "4"))
    inside = written(layer, lambda: layer.update_pyramid(wk.BoundingBox((3, 5, 1), (4, 4, 4))))
    outside = written(layer, lambda: layer.update_pyramid(wk.BoundingBox((-50, -50, -50), (57, 59, 55))))
    assert inside == outside and len(inside) == 2
    everything = written(layer, lambda: layer.update_pyramid(wk.BoundingBox((-9, -9, -9), (999, 999, 999))))
    assert everything == written(layer, layer.redownsample)


@pytest.mark.parametrize(
    "box", [((0, 0, 0), (3, 99, 99)), ((78, 5, 1), (9, 9, 9)), ((9, 9, 9), (0, 4, 4)), ((-9, -9, -9), (5, 5, 5))]
)
def test_a_box_outside_is_refused(tmp_path, box):
    layer = make(tmp_path / "ds", (3, 5, 1), SIZE, mags=("2", "16"))
    with pytest.raises(InputError, match=r"has no voxel in common with the layer's box .*in mag-1 voxels") as raised:
        layer.update_pyramid(wk.BoundingBox(*box))
    assert str(wk.BoundingBox((3, 5, 1), SIZE)) in str(raised.value)


def test_the_list_of_units_is_kept(tmp_path):
    layer = make(tmp_path / "ds", (3, 5, 1), SIZE, mags=("2", "4"))
    place = tmp_path / "ds/.wkdask/receipts/em/2.json"
    before = json.loads(place.read_bytes())["units"]
    layer.get_mag(1).write(np.zeros((1, 20, 20, 20), "uint8"), absolute_offset=(30, 20, 10))
    layer.update_pyramid(wk.BoundingBox((30, 20, 10), (20, 20, 20)))
    after = json.loads(place.read_bytes())["units"]
    assert set(before) == set(after)
    differing = {name for name in after if after[name] != before[name]}
    assert 0 < len(differing) < len(after) / 2
    sizes = {
        path.relative_to(tmp_path / "ds/em/2").as_posix(): path.stat().st_size
        for path in (tmp_path / "ds/em/2").rglob("0/*/*/*")
    }
    assert {name: found["bytes"] for name, found in after.items()} == {
        name: size for name, size in sizes.items() if name in after
    }


def test_without_coarser_mags_there_is_nothing_to_do(tmp_path):
    layer = wk.Dataset(tmp_path / "ds", (1, 1, 1)).add_layer("em", "color", bounding_box=wk.BoundingBox((0, 0, 0), (9, 9, 9)))
    layer.add_mag(1)
    assert written(layer, lambda: layer.update_pyramid(layer.bounding_box)) == set()


def test_a_stopped_update_is_not_forgotten(tmp_path):
    class Stop(BaseException):
        pass

    def tell(plan, report, receipt):
        if report.done:
            raise Stop

    layer = make(tmp_path / "ds", (3, 5, 1), SIZE, mags=("2", "4"))
    layer.get_mag(1).write(np.zeros((1, 40, 40, 20), "uint8"), absolute_offset=(3, 5, 1))
    first, second = wk.BoundingBox((3, 5, 1), (40, 40, 20)), wk.BoundingBox((60, 5, 1), (9, 9, 9))
    coarser = Coarser(wk.Mag(1), (wk.Mag(2), wk.Mag(4)), (), True, first)
    with pytest.raises(Stop):
        layer.plan_downsample(coarser, running=Running(1)).run(progress=tell, pool=ThreadPool(1))
    with pytest.raises(PlanRefusedError, match=r"makes mags 2, 4 of layer 'em' was stopped.*Run that again, or .*redownsample"):
        layer.update_pyramid(second)
    layer.update_pyramid(first)  # goes on
    found = voxels(layer)
    layer.update_pyramid(second)
    layer.redownsample()
    np.testing.assert_equal(found, voxels(layer))
