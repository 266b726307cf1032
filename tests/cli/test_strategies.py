"""Where tasks run: by name, by alias, on a scheduler that is there already, and on one that is not."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

import wkdask as wk
from wkdask.clusters import open_pool
from wkdask.clusters.dask_pool import DaskPool
from wkdask.clusters.pools import Sequential
from wkdask.clusters.processes import ProcessPool
from wkdask.errors import InputError
from wkdask.plan import ThreadPool


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("threads", ThreadPool),
        ("processes", ProcessPool),
        ("multiprocessing", ProcessPool),
        ("sequential", Sequential),
        ("sync", Sequential),
        ("local", DaskPool),
    ],
)
def test_names(name, kind):
    pool = open_pool(name, 3)
    assert type(pool) is kind
    assert pool.slots == (1 if kind is Sequential else 3)
    assert open_pool(name).slots == (1 if kind is Sequential else len(os.sched_getaffinity(0)))


@pytest.mark.parametrize("name", ["kubernetes"])
def test_what_comes_later(name):
    with pytest.raises(InputError, match=f"The strategy {name} is not available yet. Use one of threads, "):
        open_pool(name)


@pytest.mark.parametrize("name", ["", "cloud", "Threads", "dask"])
def test_nonsense(name):
    with pytest.raises(
        InputError, match=r"There is no strategy .* Use one of threads, processes, sequential, leases, local, slurm, "
    ):
        open_pool(name)


@pytest.mark.parametrize("alias", ["multiprocessing", "sync"])
def test_aliases_convert(convert, slices, tmp_path, alias):
    source, volume = slices()
    assert convert(source, tmp_path / "ds", "--distribution-strategy", alias, "--jobs", "2").code == 0
    np.testing.assert_array_equal(wk.Dataset.open(tmp_path / "ds").get_layer("em").get_mag(1).read()[0], volume)


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    """A scheduler with one worker, as programs of dask's own, on the loopback interface."""
    place = tmp_path_factory.mktemp("scheduler") / "address.json"
    words = [sys.executable, "-m", "dask"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    options = ["--scheduler-file", str(place), "--no-dashboard"]
    first = subprocess.Popen([*words, "scheduler", "--host", "127.0.0.1", "--port", "0", *options], **quiet)
    second = subprocess.Popen([*words, "worker", "--host", "127.0.0.1", "--nthreads", "2", "--no-nanny", *options], **quiet)
    try:
        from distributed import Client

        deadline = time.monotonic() + 60
        while not place.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        with Client(scheduler_file=str(place), set_as_default=False) as client:
            client.wait_for_workers(1, timeout=60)
            yield client.scheduler.address
    finally:
        for child in (second, first):
            child.terminate()
            child.wait(timeout=20)


def test_a_scheduler_that_is_there(convert, slices, tmp_path, scheduler):
    source, volume = slices()
    for target in ("a", "b"):
        done = convert(source, tmp_path / target, "--distribution-strategy", scheduler)
        assert done.code == 0, done.err
        np.testing.assert_array_equal(wk.Dataset.open(tmp_path / target).get_layer("em").get_mag(1).read()[0], volume)


def test_ctrl_c_leaves_a_scheduler_of_others_alone(convert, slices, tmp_path, scheduler):
    source, volume = slices("large", (200, 200, 64))
    words = ["convert", str(source), str(tmp_path / "ds"), "--voxel-size", "4,4,35", "--layer-name", "em", "--codec", "zstd:19"]
    words += ["--chunk-shape", "16", "--shard-shape", "32", "--progress", "none", "--distribution-strategy", scheduler]
    hear = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}  # where these tests run in the background
    child = subprocess.Popen([sys.executable, "-m", "wkdask", *words], stderr=subprocess.PIPE, text=True, **hear)
    while not list((tmp_path / "ds").glob(".wkdask/jobs/em/journal/*")) and child.poll() is None:
        time.sleep(0.01)
    begun = time.monotonic()
    child.send_signal(signal.SIGINT)
    said = child.communicate(timeout=30)[1]
    assert (child.returncode, time.monotonic() - begun < 12) == (130, True), said
    done = convert(source, tmp_path / "ds", "--codec", "zstd:19", "--distribution-strategy", scheduler)
    assert done.code == 0, done.err
    np.testing.assert_array_equal(wk.Dataset.open(tmp_path / "ds").get_layer("em").get_mag(1).read()[0], volume)


def test_nobody_listens(convert, slices, tmp_path):
    source, _ = slices(size=(8, 8, 2))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    begun = time.monotonic()
    done = convert(source, tmp_path / "ds", "--distribution-strategy", address)
    assert time.monotonic() - begun < 15  # dask itself waits for 30
    assert done.code == 2
    assert all(word in done.err for word in ("No Dask scheduler answers at", address, "Check the address."))
    assert not (tmp_path / "ds").exists()


def test_a_worker_that_dies_costs_what_it_was_doing(slices, tmp_path):
    from wkdask.images import find_images
    from wkdask.operations import Into, Running, Storage, plan_convert

    source, volume = slices("large", (200, 200, 64))
    options = {"into": Into("em"), "storage": Storage((16, 16, 16), (32, 32, 32)), "running": Running(2)}
    plan = plan_convert(find_images(source), tmp_path / "ds", wk.VoxelSize((4, 4, 35)), **options)
    pool = open_pool("local", 2)
    killed = []

    def kill(plan, report, receipt):
        if report.done == 3 and not killed:
            killed.extend(pool.launcher.pids)
            for pid in killed:
                psutil.Process(pid).kill()

    report = plan.run(pool=pool, progress=kill)
    assert killed
    assert (report.failed, report.done) == (0, plan.tasks)
    np.testing.assert_array_equal(wk.Dataset.open(tmp_path / "ds").get_layer("em").get_mag(1).read()[0], volume)
