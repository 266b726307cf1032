"""--overwrite-existing deletes a dataset or our own unfinished one, and nothing else, wherever links lead."""

from __future__ import annotations

import os
import shutil
import socket
import time

import pytest

import wkdask as wk
from wkdask.plan.execute import lease
from wkdask.storage import Lease, Location, observe


@pytest.fixture
def again(convert, slices, tmp_path):
    """Convert another stack over what is at the target."""
    source, _ = slices("other", (8, 8, 2))

    def called(target):
        return convert(source, target, "--overwrite-existing", "--layer-name", "new")

    return called


def all_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(done, *words):
    assert done.code in (1, 2)
    assert all(word in done.err for word in words)
    return True


def test_a_folder_of_others_is_kept(again, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("three years")
    assert refused(again(tmp_path / "mine"), "mine", "thesis.txt", "is kept")
    assert refused(again(tmp_path / "mine" / "thesis.txt"), "is a file")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "three years"


def test_a_json_that_is_no_datasets_is_kept(again, tmp_path):
    (tmp_path / "mine").mkdir()
    for content in ("{}", "", '{"version": 1', "[1, 2]"):
        (tmp_path / "mine" / "datasource-properties.json").write_text(content)
        assert refused(again(tmp_path / "mine"), "datasource-properties.json", "is kept")
        assert (tmp_path / "mine" / "datasource-properties.json").read_text() == content


def stopped(convert, source, target):
    def stop(event, url):
        if event == "publish" and "/c/0/" in url:
            raise KeyboardInterrupt

    with observe(stop):
        assert convert(source, target, "--distribution-strategy", "sequential").code == 130


def test_our_own_unfinished_one_is_deleted(again, convert, slices, tmp_path):
    stopped(convert, slices()[0], tmp_path / "ds")
    assert not (tmp_path / "ds" / "datasource-properties.json").exists()
    assert again(tmp_path / "ds").code == 0
    assert list(wk.Dataset.open(tmp_path / "ds").layers) == ["new"]
    assert not (tmp_path / "ds" / "em").exists()


def test_what_others_put_beside_our_unfinished_one_is_kept(again, convert, slices, tmp_path):
    stopped(convert, slices()[0], tmp_path / "ds")
    (tmp_path / "ds" / "thesis.txt").write_text("three years")
    before = all_of(tmp_path / "ds")
    assert refused(again(tmp_path / "ds"), "thesis.txt", "is kept")
    assert all_of(tmp_path / "ds") == before


def test_links_in_a_dataset_are_not_followed(again, convert, slices, tmp_path):
    source, _ = slices()
    convert(source, tmp_path / "ds")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "thesis.txt").write_text("three years")
    (tmp_path / "ds" / "notes").symlink_to(outside)
    (tmp_path / "ds" / "em" / "8-8-2").symlink_to(outside)
    (tmp_path / "ds" / "one.txt").symlink_to(outside / "thesis.txt")
    before = all_of(outside) | all_of(source)
    assert again(tmp_path / "ds").code == 0
    assert all_of(outside) | all_of(source) == before
    assert not (tmp_path / "ds" / "notes").exists()
    assert list(wk.Dataset.open(tmp_path / "ds").layers) == ["new"]


def test_a_link_to_a_dataset_is_kept_and_what_it_leads_to(again, convert, slices, tmp_path):
    convert(slices()[0], tmp_path / "ds")
    (tmp_path / "link").symlink_to(tmp_path / "ds")
    before = all_of(tmp_path / "ds")
    assert refused(again(tmp_path / "link"), "link", str(tmp_path / "ds"))
    assert (tmp_path / "link").is_symlink()
    assert all_of(tmp_path / "ds") == before
    assert again(tmp_path / "ds").code == 0


def test_nothing_there_is_nothing_to_delete(again, tmp_path):
    assert again(tmp_path / "new").code == 0
    shutil.rmtree(tmp_path / "new")
    (tmp_path / "new").mkdir()
    assert again(tmp_path / "new").code == 0


def test_not_while_another_run_works_on_it(again, convert, slices, tmp_path):
    convert(slices()[0], tmp_path / "ds")
    before = all_of(tmp_path / "ds")
    with Lease(Location(str(tmp_path / "ds" / ".wkdask" / "run.json")), "a test"):
        done = again(tmp_path / "ds")
    assert done.code == 6
    assert all(word in done.err for word in (socket.gethostname(), str(os.getpid()), "a test"))
    assert {p: b for p, b in all_of(tmp_path / "ds").items() if p.name != "run.json"} == before


def test_a_second_run_is_told_who_holds_the_first(convert, slices, tmp_path):
    source, _ = slices()
    stopped(convert, source, tmp_path / "ds")
    from wkdask.images import find_images
    from wkdask.operations import plan_convert

    plan = plan_convert(find_images(source), tmp_path / "ds", wk.VoxelSize((4, 4, 35)))
    with lease(plan):
        start = time.monotonic()
        done = convert(source, tmp_path / "ds", "--json")
    assert done.code == 6
    assert '"exit_code": 6' in done.out
    assert all(word in done.err for word in (socket.gethostname(), f"process {os.getpid()}", "Wait for it to end"))
    assert time.monotonic() - start < 15
    assert convert(source, tmp_path / "ds").code == 0
