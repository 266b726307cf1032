"""Layers that are compressed or stored in other chunks, in their place: the same voxels, all at once, or nothing."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wkdask as wk
from tests.conftest import examples
from tests.operations.copies import BOX, check, make, noise
from wkdask.errors import InputChangedError, InputError, PlanRefusedError, ReadOnlyError
from wkdask.formats import FORMATS, find_format
from wkdask.metadata import FILE_NAME
from wkdask.operations import Running
from wkdask.operations.compressing import is_needed, plan_rechunk
from wkdask.operations.copying_shape import Wishes
from wkdask.storage import Location


def names(folder):
    """All folders of magnifications, and whether a job was left."""
    return sorted(path.name for path in (folder / "em").iterdir() if path.is_dir()), (
        folder / ".wkdask/jobs/em/plan.json"
    ).exists()


def layer_of(folder):
    return wk.Dataset.open(folder).get_layer("em")


def document(folder):
    return json.loads((folder / FILE_NAME).read_text())


@settings(max_examples=examples(10))
@given(
    box=st.tuples(st.tuples(*[st.integers(0, 9)] * 3), st.tuples(*[st.integers(1, 30)] * 3)),
    forms=st.tuples(st.sampled_from(sorted(FORMATS)), st.one_of(st.none(), st.sampled_from(sorted(FORMATS)))),
    chunks=st.lists(st.tuples(st.sampled_from([4, 8, 16]), st.sampled_from([1, 2, 4])), min_size=1, max_size=2),
    compress=st.sampled_from([None, True, False]),
    tile_bytes=st.sampled_from([1 << 10, 1 << 12, 1 << 26]),
)
def test_voxels_stay_whatever_the_chunks(box, forms, chunks, compress, tile_bytes):
    old, new = forms
    with tempfile.TemporaryDirectory() as folder, mock.patch("wkdask.operations.copying_stages.TILE_BYTES", tile_bytes):
        wanted = make(Path(folder), box, old, dtype="uint16")
        for chunk, shards in chunks:
            per_shard = shards if find_format(new or old).sharded else None
            layer_of(Path(folder)).rechunk(chunk, None, compress, chunks_per_shard=per_shard, data_format=new)
            spec = check(Path(folder), wanted).get_mag(1).spec
            assert spec.chunk[1:] == (chunk,) * 3
            assert per_shard is None or spec.unit[1:] == (chunk * shards,) * 3
        found, unfinished = names(Path(folder))
        assert len(found) == 2 and not unfinished
        assert layer_of(Path(folder)).verify().ok


@pytest.mark.parametrize("form", ["zarr3", "wkw", "zarr", "n5"])
def test_compress_changes_nothing_but_the_codec(tmp_path, form):
    wanted = make(tmp_path, BOX, form, compress=False)
    before, spec = document(tmp_path), layer_of(tmp_path).get_mag(1).spec
    before["dataLayers"][0] |= {"odd": {"deep": [1]}}
    before["dataLayers"][0]["mags"][1]["odd"] = "kept"
    (tmp_path / FILE_NAME).write_text(json.dumps(before))
    wk.Dataset.open(tmp_path).compress()
    new = check(tmp_path, wanted).get_mag(1).spec
    assert (new.chunk, new.unit, new.dtype, new.axes, new.shape) == (spec.chunk, spec.unit, spec.dtype, spec.axes, spec.shape)
    assert spec.codec is None and new.codec == find_format(form).usual_codec
    after = document(tmp_path)
    paths = [mag["path"].removeprefix("./em/") for mag in after["dataLayers"][0]["mags"]]
    assert paths == ["1.2", "2-2-1.2"] and names(tmp_path) == (sorted(paths), False)
    for said in (before, after):
        for mag in said["dataLayers"][0]["mags"]:
            mag.pop("path")
    assert after == before


def test_what_is_compressed_stays_as_it_is(tmp_path):
    make(tmp_path, BOX)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    wk.Dataset.open(tmp_path).compress()
    assert not is_needed(plan_rechunk(Location(tmp_path), "em"))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_one_mag_of_some(tmp_path):
    wanted = make(tmp_path, BOX, "wkw", compress=False)
    layer_of(tmp_path).get_mag("2-2-1").compress()
    layer = check(tmp_path, wanted)
    assert layer.get_mag(1).spec.codec is None and layer.get_mag("2-2-1").spec.codec is not None
    with pytest.raises(InputError, match="Give all of them, or no format"):
        layer.rechunk(data_format="zarr3", mags=(1,))


def moved(folder, path):
    """Put mag 1 beside the dataset, and list it by a path."""
    os.rename(folder / "ds/em/1", folder / "elsewhere")
    said = document(folder / "ds")
    said["dataLayers"][0]["mags"][0]["path"] = path
    (folder / "ds" / FILE_NAME).write_text(json.dumps(said))


@pytest.mark.parametrize("how", ["absolute", "link"])
def test_what_lies_elsewhere_is_refused(tmp_path, how):
    wanted = make(tmp_path / "ds", BOX, compress=False)
    moved(tmp_path, str(tmp_path / "elsewhere") if how == "absolute" else "./em/1")
    if how == "link":
        (tmp_path / "ds/em/1").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ReadOnlyError, match="outside"):
        wk.Dataset.open(tmp_path / "ds").compress()
    assert (tmp_path / "elsewhere/zarr.json").exists()
    check(tmp_path / "ds", wanted)
    layer_of(tmp_path / "ds").get_mag("2-2-1").compress()  # the dataset's own
    check(tmp_path / "ds", wanted)


def test_read_only_is_refused(tmp_path):
    make(tmp_path, BOX, compress=False)
    with pytest.raises(ReadOnlyError):
        wk.Dataset.open(tmp_path, read_only=True).compress()


def test_voxels_that_are_written_meanwhile_are_not_lost(tmp_path):
    wanted = make(tmp_path, BOX, compress=False)
    plan = plan_rechunk(Location(tmp_path), "em")
    view = layer_of(tmp_path).get_mag(1).array
    later = noise(view.box.shape, "uint8", 9)

    def tell(*_):
        if view.read(view.box).tobytes() != later.tobytes():
            view.handle.write(view.box, later)

    with pytest.raises(InputChangedError, match=r"written last is .*em"):
        plan.run(progress=tell)
    check(tmp_path, wanted | {"1": later})
    plan_rechunk(Location(tmp_path), "em", running=Running(restart=True)).run()
    assert check(tmp_path, wanted | {"1": later}).get_mag(1).spec.codec is not None


def test_a_plan_for_another_box_is_refused(tmp_path):
    make(tmp_path, BOX, compress=False)
    plan = plan_rechunk(Location(tmp_path), "em")
    wider = wk.BoundingBox((0, 0, 0), (40, 40, 40))
    layer_of(tmp_path).extend_bounding_box(wider)
    with pytest.raises(PlanRefusedError, match="Make the plan anew"):
        plan.run()
    assert names(tmp_path) == (["1", "2-2-1"], False)


def test_restart_gives_up_what_is_unfinished(tmp_path):
    class Stop(BaseException):
        pass

    def tell(*_):
        raise Stop

    wanted = make(tmp_path, BOX, compress=False)
    with pytest.raises(Stop):
        plan_rechunk(Location(tmp_path), "em", Wishes(chunk=(4, 4, 4), shard=(8, 8, 8))).run(progress=tell)
    check(tmp_path, wanted)
    with pytest.raises(PlanRefusedError, match="--restart"):
        plan_rechunk(Location(tmp_path), "em").run()
    plan_rechunk(Location(tmp_path), "em", running=Running(restart=True)).run()
    assert check(tmp_path, wanted).get_mag(1).spec.chunk[1:] == (8, 8, 8)
    assert len(names(tmp_path)[0]) == 2


@pytest.mark.oracle("webknossos")
@pytest.mark.parametrize("target", ["zarr3", "wkw", "zarr"])
def test_webknossos_reads_copies(tmp_path, webknossos_python, target):
    wanted = make(tmp_path / "a", BOX, "wkw")
    wk.Dataset.open(tmp_path / "a").copy_dataset(tmp_path / "b", data_format=target)
    wk.Dataset.open(tmp_path / "b").get_layer("em").rechunk(chunk_shape=16, **({} if target == "zarr" else {"shard_shape": 32}))
    for mag, volume in wanted.items():
        np.save(tmp_path / f"{mag}.npy", volume)
    code = (
        "import sys, numpy as np, webknossos as wk; ds = wk.Dataset.open(sys.argv[1] + '/b'); layer = ds.get_layer('em')\n"
        "for mag in layer.mags.values():\n"
        "    assert np.array_equal(mag.read(), np.load(f'{sys.argv[1]}/{mag.name}.npy')), mag.name\n"
        "print(len(layer.mags))"
    )
    done = subprocess.run([webknossos_python, "-c", code, str(tmp_path)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip().endswith("2")
