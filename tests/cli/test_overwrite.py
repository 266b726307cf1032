"""--overwrite-existing deletes a dataset only when what replaces it is known to be possible."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

import wkdask as wk
from wkdask.cli.app import run


def slices(folder: Path, value: int = 1) -> Path:
    folder.mkdir(parents=True)
    for z in range(2):
        tifffile.imwrite(folder / f"{z}.tif", np.full((8, 8), value, "uint8"))
    return folder


@pytest.fixture
def convert(monkeypatch):
    def called(*arguments: object) -> int:
        options = ["--voxel-size", "1,1,1", "--layer-name", "em", "--progress", "none", "--overwrite-existing"]
        monkeypatch.setattr(sys, "argv", ["wkdask", "convert", *map(str, arguments), *options])
        return run()

    return called


@pytest.fixture
def dataset(tmp_path):
    wk.Dataset.from_images(slices(tmp_path / "before"), tmp_path / "ds", (1, 1, 1), layer_name="old")
    return tmp_path / "ds"


@pytest.mark.parametrize(
    ("source", "options", "code"),
    [("nowhere", (), 2), ("slices", ("--memory-limit", "1MB"), 3), ("slices", ("--chunk-shape", "30"), 2)],
)
def test_nothing_is_deleted_for_a_plan_that_is_refused(convert, dataset, tmp_path, source, options, code):
    slices(tmp_path / "slices")
    assert convert(tmp_path / source, dataset, *options) == code
    assert list(wk.Dataset.open(dataset).layers) == ["old"]


def test_images_in_the_dataset_are_not_deleted(convert, dataset):
    source = slices(dataset / "images")
    assert convert(source, dataset) == 2
    assert len(list(source.iterdir())) == 2


def test_a_dry_run_deletes_nothing(convert, dataset, tmp_path, capsys):
    assert convert(slices(tmp_path / "slices"), dataset, "--dry-run") == 0
    assert "em" in capsys.readouterr().out
    assert list(wk.Dataset.open(dataset).layers) == ["old"]


def test_a_dataset_is_replaced(convert, dataset, tmp_path):
    assert convert(slices(tmp_path / "slices", 7), dataset) == 0
    assert list(wk.Dataset.open(dataset).layers) == ["em"]
    assert (wk.Dataset.open(dataset).get_layer("em").get_mag(1).read() == 7).all()
