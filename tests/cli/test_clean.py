"""``wkdask clean``: deletes what interrupted runs left, says it before, and touches nothing else."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import arguments
from wkdask.errors import LockedError
from wkdask.operations.cleaning import delete_leftovers, find_leftovers
from wkdask.plan import Batch, Journal
from wkdask.plan.execute import execute
from wkdask.storage import Lease, Location, observe

FORMATS = ["zarr3", "wkw", "zarr", "n5", "neuroglancerPrecomputed"]


def stopped(cli, source, target, data_format="zarr3", *more):
    """Stop a conversion as soon as its first magnification is listed; units of the others are there already."""

    def stop(event, url):
        if event == "commit" and url.endswith("datasource-properties.json"):
            raise KeyboardInterrupt

    shards = () if data_format in ("zarr3", "wkw") else ("--shard-shape", "16")
    with observe(stop):
        assert cli(*arguments(source, target, "--jobs", "1", "--data-format", data_format, *shards, *more)).code == 130


@pytest.fixture
def source(slices):
    return slices()[0]


@pytest.fixture
def target(tmp_path):
    return tmp_path / "ds"


def all_files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def leave_temporary(folder):
    """A file that a writer left when it was killed."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    place = folder / f".unit.{ended.pid:x}-0123456789ab.tmp"
    place.write_bytes(b"half")
    return place


@pytest.mark.parametrize("data_format", FORMATS)
def test_what_is_complete_stays_and_the_rest_goes(cli, source, target, data_format):
    stopped(cli, source, target, data_format)
    complete = {name: data for name, data in all_files(target).items() if name.startswith("em/1/")}
    temporary = leave_temporary(target / "em")
    found = json.loads(cli("clean", target, "--dry-run", "--json").out)
    before = all_files(target)
    rows = {row["path"]: row for row in found["leftovers"]}
    assert (found["command"], found["deleted"]) == ("clean", False) and str(temporary) in rows
    job = target / ".wkdask" / "jobs" / "em"
    assert rows[str(job)]["bytes"] == sum(path.stat().st_size for path in job.rglob("*") if path.is_file())
    assert all_files(target) == before
    text = cli("clean", target, "--yes")
    assert text.code == 0 and all(path in text.out for path in rows)
    left = all_files(target)
    assert {name: data for name, data in left.items() if name.startswith("em/1/")} == complete
    assert not [path for path in rows if Path(path).exists()]
    assert set(left) <= set(before)
    assert not [name for name in left if name.startswith(("em/2-2-1/", "em/4-4-1/", ".wkdask/jobs")) or name.endswith(".tmp")]
    verified = json.loads(cli("verify", target, "--json").out)
    assert verified["faults"] == [] and not [note for note in verified["notes"] if note["kind"] in ("unfinished", "leftover")]
    assert cli("clean", target, "--yes").out == "Nothing to clean.\n"
    assert cli("downsample", target).code == 0


def test_it_asks(cli, source, target, monkeypatch):
    stopped(cli, source, target)
    before = all_files(target)
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert cli("clean", target).code == 0
    assert cli("clean", target, "--json").code == 2
    assert all_files(target) == before
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert cli("clean", target).code == 0
    assert not (target / "em/2-2-1").exists()


def test_files_of_others_and_what_is_behind_links_stay(cli, source, target, tmp_path):
    stopped(cli, source, target)
    (target / "em/2-2-1/thesis.txt").write_text("mine")
    (target / "notes.tmp").write_text("mine")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("mine")
    (target / "em/4-4-1").rename(tmp_path / "array")
    (target / "em/4-4-1").symlink_to(tmp_path / "array")
    (target / ".wkdask/jobs/em/tmp").mkdir(exist_ok=True)
    (target / ".wkdask/jobs/em/tmp/link").symlink_to(outside)
    (target / ".wkdask/jobs/other").symlink_to(outside)
    mine = outside, tmp_path / "array"
    before = [all_files(folder) for folder in mine]
    done = cli("clean", target, "--yes")
    assert done.code == 0 and "holds what is not ours" in done.out and "it is behind a link" in done.out
    assert [all_files(folder) for folder in mine] == before
    assert (target / "em/2-2-1/thesis.txt").exists() and (target / "notes.tmp").exists()
    assert not (target / ".wkdask/jobs/em").exists() and (target / ".wkdask/jobs/other").is_symlink()


def test_what_a_living_process_writes_stays(cli, source, target):
    stopped(cli, source, target)
    place = target / "em" / f".unit.{os.getpid():x}-0123456789ab.tmp"
    place.write_bytes(b"half")
    done = cli("clean", target, "--yes")
    assert f"process {os.getpid()} lives" in done.out and place.exists()


def test_workers_that_share_a_job_are_not_disturbed(cli, source, target):
    stopped(cli, source, target)
    before = all_files(target)
    with Lease(Location(target) / ".wkdask/jobs/em/workers/one.json", "convert"):
        refused = cli("clean", target, "--yes")
        assert refused.code == 6 and f"process {os.getpid()}" in refused.err
    assert all_files(target) == before


def test_they_keep_a_dataset_from_being_overwritten(cli, source, target):
    """Between two batches, workers of the lease loop do not hold the dataset's own lease."""
    stopped(cli, source, target)
    before = all_files(target)
    with Lease(Location(target) / ".wkdask/jobs/em/workers/one.json", "convert"):
        refused = cli(*arguments(source, target), "--overwrite-existing")
        assert refused.code == 6 and f"process {os.getpid()}" in refused.err
    assert all_files(target) == before


def test_what_was_completed_while_the_user_thought_stays(cli, source, target):
    stopped(cli, source, target)
    found = find_leftovers(Location(target))
    assert cli("resume", target).code == 0
    before = all_files(target)
    delete_leftovers(Location(target), found)
    assert all_files(target) == before
    with Lease(Location(target) / ".wkdask/jobs/em/workers/one.json", "convert"), pytest.raises(LockedError):
        delete_leftovers(Location(target), found)


def test_a_work_folder_that_is_a_link_is_refused(cli, source, target, tmp_path):
    stopped(cli, source, target)
    (target / ".wkdask").rename(tmp_path / "work")
    (target / ".wkdask").symlink_to(tmp_path / "work")
    before = all_files(tmp_path)
    assert cli("clean", target, "--yes").code == 2
    assert all_files(tmp_path) == before


@pytest.mark.parametrize("path", ["../outside", "/outside", "em/..", "em/1", "other/2", "em/2-2-1/../../../outside", "em/x", 7])
def test_plans_from_elsewhere_delete_nothing_outside_nor_what_is_listed(cli, source, target, tmp_path, path):
    stopped(cli, source, target)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "zarr.json").write_text("{}")
    (target / "other" / "2").mkdir(parents=True)
    (target / "other" / "2" / "zarr.json").write_text("{}")
    plan = target / ".wkdask/jobs/em/plan.json"
    document = json.loads(plan.read_text())
    document["milestones"] = [{"name": path, "stage": 0}]
    document["settings"] |= {"mags": [path], "new": [path], "old": [path]}
    document["scratch"] = str(tmp_path / "outside")
    plan.write_text(json.dumps(document))
    kept = {name: data for name, data in all_files(tmp_path).items() if not name.startswith("ds/.wkdask/")}
    assert cli("clean", target, "--yes").code == 0
    assert {name: data for name, data in all_files(tmp_path).items() if not name.startswith("ds/.wkdask/")} == kept


def test_scratch_elsewhere_is_cleaned_too(cli, source, target, tmp_path):
    stopped(cli, source, target, "zarr3", "--scratch", tmp_path / "scratch")
    scratch = Journal(Location(target), "em", str(tmp_path / "scratch")).scratch.local_path
    scratch.mkdir(parents=True, exist_ok=True)
    (scratch / "half").write_bytes(b"1")
    (tmp_path / "scratch" / "mine").write_bytes(b"2")
    assert cli("clean", target, "--yes").code == 0
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == ["mine"]


def test_a_new_dataset_that_is_given_up_can_be_begun_anew(cli, source, target):
    def stop(event, url):
        if event == "append":
            raise KeyboardInterrupt

    with observe(stop):
        assert cli(*arguments(source, target, "--jobs", "1")).code == 130
    assert cli("clean", target, "--yes").code == 0
    assert not (target / "em").exists()
    assert cli(*arguments(source, target, "--chunk-shape", "8")).code == 0


def test_a_worker_that_was_cut_off_and_goes_on_writing_breaks_nothing(cli, source, target, files):
    """It writes units that are complete, listed and recorded since: with the same bytes, so all stays as it is."""
    import wkdask as wk

    options = {"layer_name": "em", "voxel_size": (4, 4, 35), "chunk_shape": 16, "shard_shape": 32}
    [plan] = wk.Dataset.plans_from_images(source, target, **options)
    plan.run()
    complete = files(target)
    for stage, number in [(0, 0), (0, plan.stages[0].count - 1), (len(plan.stages) - 1, 0)]:
        execute(plan, Batch(stage, (number,)))
        assert files(target) == complete
    assert cli("clean", target, "--yes").code == 0
    assert files(target) == complete
    verified = json.loads(cli("verify", target, "--json").out)
    assert verified["faults"] == verified["notes"] == []
