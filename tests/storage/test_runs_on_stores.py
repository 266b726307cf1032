"""Runs that write to a store: killed, stopped, shared, resumed, cleaned; nothing is left behind, no upload either."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import wkdask as wk
from tests.cli.conftest import arguments, cli, living, slices  # noqa: F401 - fixtures
from tests.services.google import Google
from tests.services.stores import Store
from wkdask.plan import cancelling
from wkdask.storage import observe, storage_options

DOCUMENT = "datasource-properties.json"


@pytest.fixture
def source(slices):  # noqa: F811
    return slices(size=(70, 50, 40))


@pytest.fixture
def environment(s3, monkeypatch):
    """Credentials as users give them."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)


def voxels(store: Store | Google, name: str = "ds"):
    layer = wk.Dataset.open(f"{store.url}/{name}").get_layer("em")
    return {str(mag): view.read()[0] for mag, view in layer.mags.items()}


def left_of_jobs(store: Store) -> list[str]:
    """Return uploads and objects that a complete run leaves none of."""
    return store.uploads() + [
        key for key in sorted(store.keys()) if key.endswith(".tmp") or (".wkdask/" in key and "/receipts/" not in key)
    ]


def killed(store: Store | Google, folder, *options, uploads: int):
    """Convert in a process that is killed as it completes an upload; small ones are uploads in parts here, too, on S3."""
    code = f"""
import os, signal, sys
from wkdask.cli.app import run
from wkdask.storage import remote, uploads
uploads.SPOOL_BYTES = 1 << 12 if {store.url!r}.startswith("s3") else uploads.SPOOL_BYTES
begun = []
def or_killed(act):
    def acted(self, path, *rest):
        begun.append(None) if act.__name__ == "_complete" or "/em/1/" in path else None
        if len(begun) >= {uploads}:
            os.kill(os.getpid(), signal.SIGKILL)
        return act(self, path, *rest)
    return acted
if {store.url!r}.startswith("s3"):
    uploads.RemoteWriter._complete = or_killed(uploads.RemoteWriter._complete)
else:
    remote.RemoteFiles.put = or_killed(remote.RemoteFiles.put)
sys.argv = ["wkdask", *{arguments(folder, f"{store.url}/ds", "--jobs", "2", *options)!r}]
sys.exit(run())
"""
    environment = {**os.environ, **store.environment}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == -signal.SIGKILL


def test_killed_and_resumed_on_googles_store(gcs, source, cli, monkeypatch):  # noqa: F811
    folder, expected = source
    for name, value in gcs.environment.items():
        monkeypatch.setenv(name, value)
    killed(gcs, folder, uploads=5)
    assert any(".wkdask" in key for key in gcs.keys())  # noqa: SIM118 - no dict
    done = cli("resume", f"{gcs.url}/ds", "--progress", "none")
    assert done.code == 0, done.err
    found = voxels(gcs)
    assert np.array_equal(found["1"], expected) and len(found) > 2
    assert not [key for key in sorted(gcs.keys()) if key.endswith(".tmp") or (".wkdask/" in key and "/receipts/" not in key)]


@pytest.mark.parametrize(("data_format", "uploads"), [("zarr3", 5), ("wkw", 3)])
def test_killed_amid_uploads_and_resumed(data_format, uploads, s3, source, cli, environment):  # noqa: F811
    folder, expected = source
    shard = ("--shard-shape", "32") if data_format == "zarr3" else ()
    killed(s3, folder, "--data-format", data_format, *shard, uploads=uploads)
    assert s3.uploads() and any(".wkdask" in key for key in s3.keys())  # noqa: SIM118 - no dict
    done = cli("resume", f"{s3.url}/ds", "--progress", "none")
    assert done.code == 0, done.err
    found = voxels(s3)
    assert np.array_equal(found["1"], expected) and len(found) > 2
    assert left_of_jobs(s3) == []
    assert cli("verify", f"{s3.url}/ds").code == 0
    assert cli("clean", f"{s3.url}/ds", "--yes").out == "Nothing to clean.\n"


def test_killed_and_cleaned(s3, source, cli, environment):  # noqa: F811
    killed(s3, source[0], uploads=5)
    (s3.place / "ds" / "notes.txt").write_bytes(b"mine")
    there = s3.keys()
    said = json.loads(cli("clean", f"{s3.url}/ds", "--dry-run", "--json").out)
    assert s3.keys() == there and s3.uploads() and not said["deleted"]
    size = sum(len((s3.place / key).read_bytes()) for key in there if "/jobs/em/" in key)
    [job] = [row for row in said["leftovers"] if row["path"].endswith("/jobs/em")]
    assert job["bytes"] == size > 0
    done = cli("clean", f"{s3.url}/ds", "--yes")
    assert done.code == 0 and "an array that is not complete" in done.out, done.err
    assert s3.keys("ds/notes") and s3.keys() <= {"ds/notes.txt", f"ds/{DOCUMENT}", "ds/zarr.json"}
    assert s3.uploads() == []


def test_temporary_objects_go_and_what_is_complete_stays(s3, source, cli, environment):  # noqa: F811
    assert cli(*arguments(source[0], f"{s3.url}/ds")).code == 0
    whole, ended = s3.keys(), subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    temporary = f".unit.{ended.pid:x}-0123456789ab.tmp"
    for name in ("ds", "ds/.wkdask", "ds/em", "ds/em/1", "ds/em/1/c/0"):
        (s3.place / name / temporary).write_bytes(b"half")
    said = cli("clean", f"{s3.url}/ds", "--yes")
    assert said.code == 0 and said.out.count("a temporary file") == 5, said
    assert s3.keys() == whole


def test_clean_refuses_beside_a_run(s3, source, cli, environment):  # noqa: F811
    codes = []

    def clean(event, url):
        if event == "commit" and url.endswith(DOCUMENT) and not codes:
            words = [sys.executable, "-m", "wkdask", "clean", f"{s3.url}/ds", "--yes"]
            codes.append(subprocess.run(words, capture_output=True, check=False).returncode)

    with observe(clean):
        assert cli(*arguments(source[0], f"{s3.url}/ds", "--jobs", "1")).code == 0
    assert codes == [6]
    assert np.array_equal(voxels(s3)["1"], source[1])


def test_several_work_on_what_was_left(s3, source, cli, environment):  # noqa: F811
    """By the lease strategy: one after the other creates claims, which the store gives to one alone."""
    seen = []

    def stop(event, url):
        seen.append(url)
        if sum(".jsonl" in url for url in seen) > 3:
            raise KeyboardInterrupt

    with observe(stop):
        words = arguments(source[0], f"{s3.url}/ds", "--jobs", "1", "--distribution-strategy", "leases")
        assert cli(*words).code == 130
    words = [sys.executable, "-m", "wkdask", "work", f"{s3.url}/ds", "--jobs", "2", "--json", "--progress", "none"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    children = [subprocess.Popen(words, **pipes) for _ in range(2)]
    ended = [(*child.communicate(timeout=120), child.returncode) for child in children]
    assert [code for _, _, code in ended] == [0, 0], ended
    reports = [json.loads(out) for out, _, _ in ended]
    assert all(report.get("failed", 0) == 0 for report in reports)
    assert np.array_equal(voxels(s3)["1"], source[1])
    assert left_of_jobs(s3) == []


def test_a_run_is_cancelled_from_elsewhere(s3, source, cli, environment):  # noqa: F811
    with living(*arguments(source[0], f"{s3.url}/ds", "--jobs", "1")) as running:
        [asked] = json.loads(cli("cancel", f"{s3.url}/ds", "--json").out)["asked"]
        assert (asked["layer"], [process["pid"] for process in asked["processes"]]) == ("em", [running.pid])
        assert running.wait(timeout=30) == 130
    assert "nobody works on it" in cli("status", f"{s3.url}/ds").out
    assert cli("resume", f"{s3.url}/ds", "--progress", "none").code == 0
    assert np.array_equal(voxels(s3)["1"], source[1])


def test_a_run_hears_the_object_that_asks_it_to_stop(s3, source, environment, monkeypatch):
    """As runs of other hosts, which no signal reaches."""
    monkeypatch.setattr(cancelling, "CHECK_SECONDS", 0.0)
    options = {"layer_name": "em", "voxel_size": (4, 4, 35), "chunk_shape": 16, "shard_shape": 32}
    [plan] = wk.Dataset.plans_from_images(source[0], f"{s3.url}/ds", **options)
    asked = []

    def ask(event, url):
        if event == "publish" and "/journal/" in url and not asked:
            asked.append(url)
            cancelling.ask_to_stop(plan.journal)

    with observe(ask), pytest.raises(wk.errors.InterruptedRunError, match="wkdask cancel"):
        plan.compute(scheduler="sync")
    assert plan.compute(scheduler="sync").kept >= 1
    assert np.array_equal(voxels(s3)["1"], source[1])


def test_options_of_the_command_line_serve_what_runs_again(s3, source, cli):  # noqa: F811
    given = [w for k, v in s3.options.items() for w in ("--storage-options", f"{k}={v}")]

    def stop(event, url):
        if event == "commit" and url.endswith(DOCUMENT):
            raise KeyboardInterrupt

    with observe(stop):
        assert cli(*arguments(source[0], f"{s3.url}/ds"), *given).code == 130
    journal = b"".join((s3.place / key).read_bytes() for key in sorted(s3.keys()))
    assert s3.options["secret"].encode() not in journal
    assert cli("resume", f"{s3.url}/ds", "--progress", "none", *given).code == 0
    with storage_options(s3.options):
        assert np.array_equal(voxels(s3)["1"], source[1])
