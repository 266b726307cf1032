"""`verify` on the command line: exit codes, text, JSON, pools."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def dataset(convert, slices, tmp_path):
    source, _ = slices()
    assert convert(source, tmp_path / "ds").code == 0
    return tmp_path / "ds"


def damage(dataset):
    """Cut a unit off, and return it."""
    unit = dataset / "em/1/c/0/0/1/0"
    unit.write_bytes(unit.read_bytes()[:-1])
    return unit


def test_sound(cli, dataset):
    done = cli("verify", dataset)
    assert done.code == 0
    assert ": sound. " in done.out
    assert "decoded" in done.out
    assert "100 %" in done.err
    assert cli("verify", dataset, "--quiet")[:2] == (0, "")
    assert cli("verify", dataset, "--digests", "--progress", "none")[0::2] == (0, "")


@pytest.mark.parametrize("strategy", ["sequential", "threads", "processes"])
def test_damaged(cli, dataset, strategy):
    unit = damage(dataset)
    done = cli("verify", dataset, "--jobs", 2, "--distribution-strategy", strategy, "--progress", "none")
    assert (done.code, done.err) == (5, "")
    assert f"damaged: {unit} (em/1, voxels (0, 32, 0) + (32, 32, 32)): is " in done.out
    assert ": 1 fault. " in done.out
    quiet = cli("verify", dataset, "--quiet")
    assert (quiet.code, quiet.err) == (5, "")
    assert str(unit) in quiet.out


def test_digests(cli, dataset):
    unit = damage(dataset)
    (dataset / "em/1/c/0/1/1/0").unlink()
    done = cli("verify", dataset, "--digests", "--json")
    found = json.loads(done.out)
    assert done.code == 5
    assert {(fault["kind"], fault["path"]) for fault in found["faults"]} == {
        ("damaged", str(unit)),
        ("vanished", str(dataset / "em/1/c/0/1/1/0")),
    }


def test_json(cli, dataset):
    unit = damage(dataset)
    done = cli("verify", dataset, "--json", "--progress", "none")
    found = json.loads(done.out)
    assert done.code == 5
    assert (found["wkdask"], found["command"], found["ok"], found["notes"]) == (1, "verify", False, [])
    (fault,) = found["faults"]
    assert (fault["kind"], fault["path"], fault["layer"], fault["mag"]) == ("damaged", str(unit), "em", "1")
    assert fault["box"] == {"topleft": [0, 32, 0], "size": [32, 32, 32]}
    assert [mag["faults"] for mag in found["checked"]] == [1] + [0] * (len(found["checked"]) - 1)
    assert found["units"] == sum(mag["units"] for mag in found["checked"])


def test_selection_and_usage(cli, dataset, tmp_path):
    damage(dataset)
    assert cli("verify", dataset, "--mag", "2-2-1").code == 0
    assert cli("verify", dataset, "--layer", "em", "--mag", "1").code == 5
    assert cli("verify", dataset, "--layer-name", "em").code == 5
    assert cli("verify", dataset, "--layer", "nothing").code == 1
    assert cli("verify", dataset, "--mag", "three").code == 2
    assert cli("verify", dataset, "--colour").code == 2
    assert cli("verify", tmp_path / "nothing").code == 1
    assert cli("verify", dataset, "--memory-limit", "1kB").code == 3


def test_strict_counts_notes(cli, dataset):
    job = dataset / ".wkdask/jobs/em"
    job.mkdir(parents=True)
    (job / "plan.json").write_text(json.dumps({"name": "more", "command": "wkdask more"}))
    done = cli("verify", dataset, "--progress", "none")
    assert done.code == 0
    assert "note: unfinished" in done.out
    assert cli("verify", dataset, "--strict", "--progress", "none").code == 5
