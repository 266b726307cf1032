"""`--probe`, `--dry-run` and what commands say of cost: measured, told, and nothing written to the target."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import tifffile


@pytest.fixture
def slices(tmp_path):
    folder = tmp_path / "slices"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for z in range(20):
        tifffile.imwrite(folder / f"{z:02}.tif", rng.integers(0, 4, (40, 50), dtype=np.uint8))
    return folder


def test_a_dry_run_with_a_probe_measures_and_writes_nothing(convert, slices, tmp_path):
    told = convert(slices, tmp_path / "ds", "--dry-run", "--probe", "2")
    assert told.code == 0
    assert "measured" in told.out and "files" in told.out and "requests" in told.out
    document = json.loads(convert(slices, tmp_path / "ds", "--dry-run", "--probe", "2", "--json").out)
    assert 0.2 < document["compression"] < 0.6  # two bits of noise in eight
    assert document["stages"][0]["tasks_measured"]
    assert document["file_bytes"] < document["bytes_out"]
    assert {path.name for path in tmp_path.iterdir()} == {"slices"}
    rough = json.loads(convert(slices, tmp_path / "ds", "--dry-run", "--json").out)
    assert rough["compression"] is None and rough["file_bytes"] == rough["bytes_out"]
    assert sum(stage["tasks_measured"] for stage in rough["stages"]) == 0


def test_a_run_tells_what_was_predicted(convert, slices, tmp_path):
    loud = convert(slices, tmp_path / "loud", "-v", "--probe", "1")
    assert loud.code == 0 and "predicted and actual: seconds" in loud.out
    assert "on disk" in loud.err  # what the probe found, before the run
    assert "predicted and actual" not in convert(slices, tmp_path / "ds").out
    report = json.loads(convert(slices, tmp_path / "third", "--json", "--probe", "3").out)
    assert report["predicted_seconds"] >= 0
    assert report["predicted_bytes_out"] == pytest.approx(report["bytes_out"], rel=0.5)


def test_what_does_not_fit_on_the_disk_ends_with_code_3(convert, slices, tmp_path, monkeypatch):
    from wkdask.plan import disk

    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1 << 40, 0, 1000))
    for more in ((), ("--dry-run",)):
        refused = convert(slices, tmp_path / "ds", "--no-compress", *more)
        assert refused.code == 3
        assert "1.0 kB" in refused.err and "--compress" in refused.err
        assert not (tmp_path / "ds").exists()
    fits = convert(slices, tmp_path / "ds")
    assert fits.code == 0 and "are free" in fits.err


def test_a_dry_run_that_replaces_a_dataset_counts_on_its_room(convert, slices, tmp_path, monkeypatch):
    from wkdask.plan import disk

    assert convert(slices, tmp_path / "ds").code == 0
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1 << 40, 0, 1000))
    replaced = convert(slices, tmp_path / "ds", "--layer-name", "other", "--no-compress", "--overwrite-existing", "--dry-run")
    assert replaced.code == 0 and "are free" in replaced.out
    assert convert(slices, tmp_path / "ds", "--layer-name", "other", "--no-compress", "--dry-run").code == 3
