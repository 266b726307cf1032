"""What lies at one place is one magnification's own: no other one, and no handle of another program, changes it."""

from __future__ import annotations

import contextlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

import wkdask as wk
from wkdask.clusters import executors
from wkdask.clusters.executors import SubmitPool
from wkdask.dataset import resizing
from wkdask.dataset.references import reference_path
from wkdask.dataset.renaming import located
from wkdask.errors import ConflictError, InterruptedRunError, MagExistsError, MetadataError, ReadOnlyError, StorageError
from wkdask.metadata import LayerProperties, MagProperties
from wkdask.operations.copying_target import moved_attachments
from wkdask.plan import ThreadPool, pool
from wkdask.plan.execute import execute
from wkdask.plan.stage import stop_if_asked
from wkdask.storage import Location, lease
from wkdask.storage.address import Address
from wkdask.storage.options import storage_options

BOX = wk.BoundingBox((0, 0, 0), (40, 24, 20))


def made(place, name: str = "em"):
    layer = wk.Dataset(place, (4, 4, 35)).add_layer(name, "color", bounding_box=BOX)
    layer.add_mag(1, chunk_shape=16, shard_shape=16).write(np.full(BOX.size, 7, "uint8"))
    return layer


def whole(layer) -> bool:
    return bool((layer.get_mag(1).read(absolute_bounding_box=BOX) == 7).all())


@pytest.fixture(params=["local", "memory"])
def place(request, tmp_path):
    return tmp_path / "ds" if request.param == "local" else f"memory://{tmp_path.name}"


def test_a_magnification_that_is_also_listed_as_another_one_keeps_its_voxels(place):
    layer = made(place)
    twice = layer.add_mag_as_ref(layer.get_mag(1), mag=2)
    assert layer.bounding_box.size == (80, 48, 40)
    assert layer.is_mag_view_foreign(twice) and twice.is_foreign
    assert not layer.is_mag_view_foreign(1) and not layer.get_mag(1).is_foreign and not layer.is_foreign
    layer.bounding_box = BOX
    assert whole(layer)
    with pytest.raises(ReadOnlyError, match="another magnification"):
        twice.write(np.zeros((2, 2, 2), "uint8"))
    assert whole(layer)
    layer.delete_mag(2)
    assert whole(layer)


def test_an_array_that_two_layers_list_in_no_layers_folder_is_nobodys_to_write(place):
    layer = made(place)
    dataset = layer.dataset
    mag = layer.properties.mags[0]
    for name in ("a", "b"):
        dataset.add_layer_like(layer, name)
        dataset._store.update(lambda old, name=name: old.with_layer(old.layer(name).with_mag(mag)))
    dataset._store.update(lambda old: old.without_layer("em"))
    dataset.get_layer("a").bounding_box = wk.BoundingBox((0, 0, 0), (16, 16, 16))
    with pytest.raises(ReadOnlyError):
        dataset.get_layer("a").get_mag(1).write(np.zeros((2, 2, 2), "uint8"))
    assert whole(dataset.get_layer("b"))


@pytest.mark.parametrize("way", ["link", "reference", "same dataset"])
def test_handles_of_tensorstore_write_nothing_that_lies_elsewhere(way, tmp_path):
    source = made(tmp_path / "there")
    here = source.dataset if way == "same dataset" else wk.Dataset(tmp_path / "here", (4, 4, 35))
    layer = here.add_layer("view", "color")
    mag = (layer.add_symlink_mag if way == "link" else layer.add_mag_as_ref)(source.get_mag(1))
    assert mag.is_foreign
    array = mag.get_zarr_array()
    assert array.readable and not array.writable
    assert source.get_mag(1).get_zarr_array().writable


@pytest.fixture
def store_of_the_lab(monkeypatch):
    """No request is made: a store whose host only options or documents tell, and no environment that names one."""
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "S3_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    return Location("s3://bucket/ds", {"endpoint_url": "https://store.lab.org", "key": "me", "secret": "s3cret"})


def seg(path: str) -> LayerProperties:
    layer = LayerProperties.new("seg", "segmentation", "uint8", 1, "zarr3", ((0, 0, 0), (8, 8, 8)))
    mesh = {"name": "m", "path": path.replace("seg/1", "seg/meshes/m"), "dataFormat": "zarr3"}
    return LayerProperties.from_dict(
        {**layer.with_mag(MagProperties.new(1, path=path)).to_dict(), "attachments": {"meshes": [mesh]}}, ""
    )


@pytest.mark.parametrize("path", ["./seg/1", "s3://store.lab.org/bucket/ds/seg/1"])
def test_references_to_a_store_say_its_host_and_no_credentials(path, store_of_the_lab):
    found = located(seg(path), store_of_the_lab, lambda place: reference_path(Location("/lab/other"), place)).to_dict()
    assert found["mags"][0]["path"] == "s3://store.lab.org/bucket/ds/seg/1"
    assert found["attachments"]["meshes"][0]["path"] == "s3://store.lab.org/bucket/ds/seg/meshes/m"
    assert "s3cret" not in str(found)


@pytest.mark.usefixtures("store_of_the_lab")
@pytest.mark.parametrize("where", [Location("/lab/other"), Location("s3://elsewhere/ds")])
@pytest.mark.parametrize(
    ("url", "options", "said"),
    [
        ("s3://bucket/ds", {}, "s3://s3.amazonaws.com/bucket/ds"),
        ("s3://my.bucket/ds", {}, "s3://s3.amazonaws.com/my.bucket/ds"),
        ("s3://localhost:9000/bucket/ds", {}, "s3://localhost:9000/bucket/ds"),
        ("s3://bucket/ds", {"profile": "lab"}, "s3://s3.amazonaws.com/bucket/ds"),  # of which no file here says an endpoint
        ("s3://bucket/ds", {"endpoint_url": "http://store"}, "s3://bucket/ds"),
        ("gs://bucket/ds", {}, "gs://bucket/ds"),
        ("https://me:secret@host/ds", {}, "https://host/ds"),
    ],
)
def test_what_a_document_says_of_a_place_leads_there(where, url, options, said):
    place = Location(url, options)
    assert place.documented == said
    if "host" not in url and not options:
        found = where.linked(said)
        assert Address.of(found.url, found.options).url == Address.of(url, place.options).url
        assert Address.of(found.url, found.options).store == Address.of(url, place.options).store


def test_attachments_that_a_document_lists_elsewhere_get_no_credentials_of_the_user():
    with storage_options({"username": "me", "password": "s3cret"}):
        source = Location.of("https://lab/ds")
        _, trees = moved_attachments(source, seg("https://elsewhere/ds/seg/1"), "seg")
        layer = SimpleNamespace(properties=seg("https://elsewhere/ds/seg/1"), _store=SimpleNamespace(location=source))
        listed = wk.Attachments(layer).meshes[0].location
        _, near = moved_attachments(source, seg("https://lab/other/seg/1"), "seg")
    assert "password" not in trees[0][0].options and "password" not in listed.options
    assert near[0][0].options["password"] == "s3cret"


def test_renaming_follows_absolute_paths_by_whatever_link_the_dataset_was_reached(tmp_path):
    layer = made(tmp_path / "ds")
    dataset = layer.dataset
    dataset.add_layer_like(layer, "same")
    mag = layer.properties.mags[0].updated(path=str(tmp_path / "ds" / "em" / "1"))
    dataset._store.update(lambda old: old.with_layer(old.layer("same").with_mag(mag)))
    os.symlink(tmp_path / "ds", tmp_path / "link")
    wk.Dataset.open(tmp_path / "link").get_layer("em").name = "renamed"
    assert whole(dataset.get_layer("same")) and whole(dataset.get_layer("renamed"))


def test_two_processes_that_extend_a_box_on_a_store_wait_for_each_other(monkeypatch, tmp_path):
    """Locks of this process are taken away, so that its threads are to each other what processes are."""
    url = f"memory://{tmp_path.name}-extended"
    layer = wk.Dataset(url, (4, 4, 35)).add_layer("em", "color")
    layer.add_mag(1, chunk_shape=16, shard_shape=16)
    monkeypatch.setattr(resizing, "exclusively", lambda *_: contextlib.nullcontext())
    met, begun, resize = threading.Event(), [], resizing._resize_array

    def other() -> None:
        try:
            wk.Dataset.open(url).get_layer("em").extend_bounding_box(wk.BoundingBox((0, 0, 0), (200, 10, 10)))
        finally:
            met.set()

    def resized(*arguments, **named) -> None:
        if not begun:
            begun.append(thread := threading.Thread(target=other))
            thread.start()
            assert met.wait(60)
        resize(*arguments, **named)

    def pause(_: float) -> None:
        met.set()

    monkeypatch.setattr(resizing, "_resize_array", resized)
    monkeypatch.setattr(lease.time, "sleep", pause)
    layer.extend_bounding_box(wk.BoundingBox((0, 0, 0), (10, 100, 10)))
    begun[0].join(60)
    assert layer.bounding_box.size == (200, 100, 10)
    assert all(n >= m for n, m in zip(layer.get_mag(1).spec.shape[1:], (200, 100, 10), strict=True))


def test_a_box_that_another_program_listed_meanwhile_is_not_taken_back(monkeypatch, tmp_path):
    layer = made(tmp_path / "ds")
    resize, theirs = resizing._resize_array, wk.BoundingBox((0, 0, 0), (200, 10, 10))

    def resized(*arguments, **named) -> None:
        layer._store.update(lambda old: old.with_layer(old.layer("em").with_bounding_box(theirs)))
        resize(*arguments, **named)

    monkeypatch.setattr(resizing, "_resize_array", resized)
    layer.extend_bounding_box(wk.BoundingBox((0, 0, 0), (10, 100, 10)))
    assert layer.bounding_box.size == (200, 100, 10)


@pytest.mark.parametrize("error", [MagExistsError, ConflictError])
def test_a_magnification_that_could_not_be_listed_leaves_no_link_and_takes_none(error, tmp_path, monkeypatch):
    source = made(tmp_path / "there")
    dataset = wk.Dataset(tmp_path / "here", (4, 4, 35))
    linked, other = dataset.add_layer("linked", "color"), dataset.add_layer("other", "color")
    linked.add_symlink_mag(source.get_mag(1))

    def fails(*_):
        raise error("somebody else was quicker.")

    monkeypatch.setattr(wk.Layer, "_list", fails)
    for way in (other.add_mag_as_ref, other.add_symlink_mag):
        with pytest.raises(error):
            way(linked.get_mag(1))
    assert not os.path.lexists(tmp_path / "here" / "other" / "1")
    assert whole(linked)


def test_a_link_stays_that_was_listed_before_something_failed(tmp_path, monkeypatch):
    source = made(tmp_path / "there")
    layer = wk.Dataset(tmp_path / "here", (4, 4, 35)).add_layer("em", "color")

    def fails(*_):
        raise StorageError("the disk is full.")

    with monkeypatch.context() as patch, pytest.raises(StorageError):
        patch.setattr(wk.Layer, "_write_groups", fails)
        layer.add_symlink_mag(source.get_mag(1))
    assert whole(layer)


@pytest.mark.parametrize("kind", ["threads", "executor"])
def test_a_run_that_is_stopped_stops_no_other_one(kind, tmp_path, monkeypatch):
    """One run is in the midst of a task when another one in this process ends by an error."""
    layer = made(tmp_path / "ds")
    module, begun, go_on = (pool if kind == "threads" else executors), threading.Event(), threading.Event()

    def waits(plan, batch):
        begun.set()
        assert go_on.wait(60)
        stop_if_asked()
        return execute(plan, batch)

    monkeypatch.setattr(module, "execute", waits)
    with ThreadPoolExecutor(1) as caller, ThreadPoolExecutor(1) as mine, ThreadPoolExecutor(1) as theirs:
        pools = [ThreadPool(1), ThreadPool(1)] if kind == "threads" else [SubmitPool(mine), SubmitPool(theirs)]
        running = caller.submit(lambda: layer.plan_downsample().run(pool=pools[0]))
        assert begun.wait(60)
        with contextlib.suppress(ValueError), pools[1] as other:
            (task,) = other.start(None, [None])
            shutdown, left = go_on.set, threading.Thread(target=lambda: (other._over.wait(60), shutdown()))
            left.start()
            raise ValueError
        assert isinstance(task.exception(60) if not task.cancelled() else InterruptedRunError("x"), InterruptedRunError)
        assert running.result(60).failed == 0
        left.join()


def test_a_document_larger_than_any_is_not_read(tmp_path):
    made(tmp_path / "ds")
    os.truncate(tmp_path / "ds" / "datasource-properties.json", (256 << 20) + 1)
    with pytest.raises(MetadataError, match="expected at most"):
        wk.Dataset.open(tmp_path / "ds")
