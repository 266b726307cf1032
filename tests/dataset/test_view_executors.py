"""``executor=`` of the verbs that run plans: what it may be, and that it is what runs them."""

from __future__ import annotations

import inspect
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import dask
import numpy as np
import pytest

import wkdask as wk
from tests.plan.toys import toy_plan
from wkdask.clusters.executors import SubmitPool, pool_maker, running_on
from wkdask.errors import InputError, InterruptedRunError, PlanRefusedError
from wkdask.plan import Batch, ThreadPool
from wkdask.plan.drive import usual_pool
from wkdask.plan.execute import execute
from wkdask.plan.stage import until

WAIT = 60
"""Seconds for what takes one, where the machine is busy."""

BOX = wk.BoundingBox((0, 0, 0), (64, 32, 32))


@pytest.fixture
def layer(tmp_path):
    layer = wk.Dataset(tmp_path / "ds", (1, 1, 1)).add_layer("em", "color", bounding_box=BOX)
    mag = layer.add_mag(1, chunk_shape=8, shard_shape=16, compress=False)
    mag.write(np.random.default_rng(0).integers(1, 255, tuple(BOX.size)).astype("uint8"))
    return layer


class Plain:
    """The least that an executor can be: futures that only have a result, made when that is asked for."""

    def __init__(self):
        self.submitted, self.threads = 0, set()

    def submit(self, function, *arguments):
        self.submitted += 1
        plain = self

        class Later:
            def result(self):
                plain.threads.add(threading.current_thread().name)
                return function(*arguments)

        return Later()


VERBS = {
    "Layer.downsample": lambda ds, e: ds.get_layer("em").downsample(coarsest_mag=2, executor=e),
    "Layer.downsample_mag": lambda ds, e: ds.get_layer("em").downsample_mag(1, 2, executor=e),
    "Layer.downsample_mag_list": lambda ds, e: ds.get_layer("em").downsample_mag_list(1, [2], executor=e),
    "Layer.compress": lambda ds, e: ds.get_layer("em").compress(executor=e),
    "Layer.rechunk": lambda ds, e: ds.get_layer("em").rechunk(shard_shape=32, executor=e),
    "Layer.add_mag_as_copy": lambda ds, e: ds.add_layer("to", "color").add_mag_as_copy(mag_of(ds), executor=e),
    "Layer.add_copy_mag": lambda ds, e: ds.add_layer("to", "color").add_copy_mag(mag_of(ds), executor=e),
    "MagView.compress": lambda ds, e: mag_of(ds).compress(executor=e),
    "MagView.rechunk": lambda ds, e: mag_of(ds).rechunk(shard_shape=32, executor=e),
    "Dataset.compress": lambda ds, e: ds.compress(e),
    "Dataset.downsample": lambda ds, e: ds.downsample(coarsest_mag=2, executor=e),
    "Dataset.copy_dataset": lambda ds, e: ds.copy_dataset(f"{ds.path}-copy", executor=e),
    "Dataset.add_layer_as_copy": lambda ds, e: ds.add_layer_as_copy(ds.get_layer("em"), "copy", executor=e),
    "Dataset.add_copy_layer": lambda ds, e: ds.add_copy_layer(ds.get_layer("em"), "copy", executor=e),
    "Dataset.from_images": lambda ds, e: wk.Dataset.from_images(image(ds), f"{ds.path}-new", (1, 1, 1), executor=e),
    "Dataset.add_layer_from_images": lambda ds, e: ds.add_layer_from_images(image(ds), "new", executor=e),
    "MagView.merge_with_view": lambda ds, e: mag_of(ds).merge_with_view(mag_of(ds), e),
    "MagView.content_is_equal": lambda ds, e: mag_of(ds).content_is_equal(mag_of(ds), e),
    "MagView.map_chunk": lambda ds, e: mag_of(ds).map_chunk(lambda view: 1, executor=e),
    "MagView.for_each_chunk": lambda ds, e: mag_of(ds).for_each_chunk(lambda chunk: None, executor=e),
    "MagView.for_zipped_chunks": lambda ds, e: mag_of(ds).for_zipped_chunks(lambda chunk: None, mag_of(ds), executor=e),
    "Layer.redownsample": lambda ds, e: (ds.get_layer("em").downsample_mag(1, 2), ds.get_layer("em").redownsample(executor=e)),
    "Layer.upsample": lambda ds, e: coarse(ds).upsample(2, executor=e),
    "SegmentationLayer.refresh_largest_segment_id": lambda ds, e: cells(ds).refresh_largest_segment_id(executor=e),
    "SegmentationLayer.segment_sizes": lambda ds, e: cells(ds).segment_sizes(executor=e),
    "SegmentationLayer.segment_boxes": lambda ds, e: cells(ds).segment_boxes(executor=e),
}


def mag_of(dataset):
    return dataset.get_layer("em").get_mag(1)


def image(dataset):
    import tifffile

    place = f"{dataset.path}-image.tif"
    tifffile.imwrite(place, np.ones((5, 16, 16), "uint8"), photometric="minisblack")
    return place


def coarse(dataset):
    layer = dataset.add_layer("coarse", "color", bounding_box=BOX)
    layer.add_mag(2, chunk_shape=8, shard_shape=16).write(np.ones((32, 16, 16), "uint8"))
    return layer


def cells(dataset):
    layer = dataset.add_layer("cells", "segmentation", bounding_box=BOX)
    layer.add_mag(1, chunk_shape=8, shard_shape=16).write(np.ones(tuple(BOX.size), "uint8"))
    return layer


def test_the_table_has_every_verb_that_takes_one():
    found = set()
    for kind in (wk.MagView, wk.SegmentationLayer, wk.Dataset):
        for name in dir(kind):
            verb = getattr(kind, name)
            if not name.startswith("_") and callable(verb) and "executor" in inspect.signature(verb).parameters:
                found.add(name)
    assert found | {"add_layer_from_images"} == {name.partition(".")[2] for name in VERBS}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_runs_on_its_executor(layer, verb):
    dataset, executor = wk.Dataset.open(layer._store.location), Plain()
    VERBS[verb](dataset, executor)
    assert 0 < executor.submitted <= 66


def test_batches_are_whole_and_results_the_same(layer, monkeypatch):
    executor = Plain()
    layer.downsample_mag(1, "1-2-1", chunk_shape=4, shard_shape=4, executor=executor)
    tasks, executor.submitted = executor.submitted, 0
    monkeypatch.setattr(SubmitPool, "most_batches", 2)
    layer.downsample_mag(1, "2-1-1", chunk_shape=4, shard_shape=4, executor=executor)
    assert tasks == 8 and executor.submitted == 2
    voxels = layer.get_mag("2-1-1").read()
    layer.downsample_mag(1, "2-1-1", executor="sync", allow_overwrite=True)
    np.testing.assert_array_equal(layer.get_mag("2-1-1").read(), voxels)


def test_an_inner_verb_takes_what_the_outer_has(layer):
    executor = Plain()
    with running_on(executor):
        layer.downsample(coarsest_mag=2)
    assert executor.submitted and usual_pool.get() is None
    with running_on(executor), running_on("sync"):
        submitted = executor.submitted
        layer.compress()
    assert executor.submitted == submitted


class Failing(Plain):
    """Refuses the third call, as a cluster that is full."""

    def submit(self, function, *arguments):
        if self.submitted == 3:
            raise RuntimeError("the cluster is full")
        return super().submit(function, *arguments)


def test_what_fails_is_told_and_goes_on_elsewhere(layer):
    with pytest.raises(RuntimeError, match="full"):
        layer.downsample_mag(1, 2, chunk_shape=4, shard_shape=4, executor=Failing())
    assert len(layer.mags) == 1
    layer.downsample_mag(1, 2, chunk_shape=4, shard_shape=4, executor=ThreadPoolExecutor(2))
    assert layer.get_mag(2).read().all()


def test_the_scheduler_of_the_moment(layer):
    assert isinstance(pool_maker(None)(layer.plan_downsample()), ThreadPool)
    for name, kind in (("sync", "Sequential"), ("threads", "ThreadPool"), ("processes", "ProcessPool")):
        with dask.config.set(scheduler=name):
            assert type(pool_maker(None)(layer.plan_downsample())).__name__ == kind
        assert type(pool_maker(name)(layer.plan_downsample())).__name__ == kind
    calls = []

    def get(graph, keys, **options):
        calls.append(keys)
        return dask.get(graph, keys, **options)

    with dask.config.set(scheduler=get):
        layer.downsample_mag(1, 2)
    assert calls and len(layer.mags) == 2
    with dask.config.set(scheduler=ThreadPoolExecutor(2)):
        layer.downsample_mag(1, 4)
    assert len(layer.mags) == 3
    for wrong in ("slurmy", 3, "distributed"):
        with pytest.raises(InputError, match=r"scheduler|submit|Client"):
            layer.downsample_mag(1, 8, executor=wrong)


def test_other_memory_is_not_written():
    layer = wk.Dataset("memory://executors", (1, 1, 1)).add_layer(
        "em", "color", bounding_box=wk.BoundingBox((0, 0, 0), (64,) * 3)
    )
    layer.add_mag(1, chunk_shape=32, shard_shape=32).write(np.ones((64,) * 3, "uint8"))
    with pytest.raises(PlanRefusedError, match="memory of this process"):
        layer.downsample_mag(1, 2, executor=Plain())
    layer.downsample_mag(1, 2, executor=ThreadPoolExecutor(1))
    assert layer.get_mag(2).read().all()


def test_pools_know_their_width():
    assert (SubmitPool(ThreadPoolExecutor(3)).slots, SubmitPool(ThreadPoolExecutor(3)).processes) == (3, 1)
    assert SubmitPool(Plain()).slots == 64


# ------------------------------------------------------------------------------------------------------ other processes


class Submits:
    """An executor that offers no more than submit, whose futures offer no more than result; its calls run in a thread."""

    def __init__(self, threads):
        self._threads = threads

    def submit(self, function, *arguments):
        future = self._threads.submit(function, *arguments)
        return type("Future", (), {"result": lambda _: future.result(WAIT)})()


@pytest.fixture(scope="module", params=["client", "processes", "submits"])
def elsewhere(request):
    if request.param == "client":
        from distributed import Client, LocalCluster

        with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster, Client(cluster) as client:
            yield client
    elif request.param == "submits":
        with ThreadPoolExecutor(2) as threads:
            yield Submits(threads)
    else:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            yield pool


def test_verbs_run_elsewhere(layer, tmp_path, elsewhere):
    """What a user calls most, with functions that a script would define: lambdas, which do not pickle."""
    mag, voxels = layer.get_mag(1), layer.get_mag(1).read()[0]
    found = mag.map_chunk(lambda chunk: (os.getpid(), int(chunk.read().sum())), (32, 32, 32), executor=elsewhere)
    assert [total for _, total in found] == [int(voxels[x : x + 32].sum()) for x in (0, 32)]
    assert ({pid for pid, _ in found} == {os.getpid()}) == isinstance(elsewhere, Submits)
    mag.for_each_chunk(lambda chunk: chunk[0].write(255 - chunk[0].read()[0]), (32, 32, 32), executor=elsewhere)
    np.testing.assert_array_equal(mag.read()[0], 255 - voxels)
    layer.downsample(coarsest_mag=2, sampling_mode="isotropic", executor=elsewhere)
    layer.compress(executor=elsewhere)
    assert all(one.info.compression_mode for one in layer.mags.values())
    np.testing.assert_array_equal(mag.read()[0], 255 - voxels)
    made = wk.Dataset.from_images(image(layer.dataset), tmp_path / "new", (1, 1, 1), executor=elsewhere)
    assert next(iter(made.layers.values())).get_mag(1).read().shape == (1, 16, 16, 5)


def test_tasks_elsewhere_hear_that_their_run_is_over(tmp_path, elsewhere):
    """A task that would go on for long ends early, and so does its batch; the next run has the executor for itself."""
    (tmp_path / "hold-0-0").touch()
    plan = toy_plan(tmp_path / "toys")
    pool = pool_maker(elsewhere)(plan)
    with pytest.raises(ZeroDivisionError), pool:
        (future,) = pool.start(plan, [Batch(0, (0, 1))])
        deadline = time.monotonic() + WAIT
        while not (tmp_path / "held-0-0").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        raise ZeroDivisionError
    if isinstance(pool, SubmitPool):
        with pytest.raises(InterruptedRunError):
            future.result()
        assert not list((tmp_path / "toys").rglob("over-*"))
    assert elsewhere.submit(abs, -1).result() == 1  # of one thread: it is free
    assert not (tmp_path / "toys" / "toys").exists()
    (tmp_path / "hold-0-0").unlink()
    assert plan.run(pool=pool_maker(elsewhere)(plan)).done == 17


def test_no_task_of_a_batch_begins_when_its_run_is_over(tmp_path):
    over = threading.Event()
    over.set()
    with until(over), pytest.raises(InterruptedRunError):
        execute(toy_plan(tmp_path), Batch(0, (0, 1)))
    assert not (tmp_path / "toys").exists()


# ------------------------------------------------------------------------------------------------------------- scripts

SCRIPT = """
import os, sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
import wkdask as wk

print("begins")
layer = wk.Dataset.open(sys.argv[1]).get_layer("em")

def largest(view):
    return os.getpid(), int(view.read().max())

if sys.argv[2] == "processes":
    pool = ProcessPoolExecutor(2, get_context("spawn"))
    layer.downsample_mag(1, 2, executor=pool)
    layer.downsample_mag(1, 4, executor="processes")
    found = layer.get_mag(1).map_chunk(largest, (32, 32, 32), "processes")
    assert max(n for _, n in layer.get_mag(1).map_chunk(largest, (32, 32, 32), pool)) == 254
else:
    with wk.cluster("local", jobs=2) as client:
        layer.downsample_mag(1, 2, executor=client)
        found = layer.get_mag(1).map_chunk(largest, (32, 32, 32))
        layer.compress()
print(max(n for _, n in found), os.getpid() in {pid for pid, _ in found}, layer.get_mag(2).read().shape)
"""


@pytest.mark.parametrize("where", ["processes", "local"])
def test_scripts_need_no_guard(layer, tmp_path, where):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, tmp_path / "script.py", tmp_path / "ds", where]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["begins", "254 False (1, 32, 16, 16)"], done.stderr
