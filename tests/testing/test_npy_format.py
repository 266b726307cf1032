"""A format of another package passes the suite, is found by its entry point, and holds layers like any other."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

import wkdask as wk
from tests.testing import npy_format
from wkdask.errors import InputError
from wkdask.formats import find_format
from wkdask.images import find_images
from wkdask.metadata import VoxelSize
from wkdask.operations import Into, Sampling, Storage, plan_convert
from wkdask.testing import FormatConformance

METADATA = "Metadata-Version: 2.1\nName: wkdask-npy\nVersion: 1.0\n"
ENTRY_POINTS = "[wkdask.formats]\nnpy = wkdask_npy_format:NpyFormat\n"


class TestNpyFormat(FormatConformance):
    format = npy_format.NpyFormat()
    finds_damage = frozenset({"none", "gzip"})


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install the format as a distribution of its own, by a folder as `pip` leaves it."""
    site = tmp_path / "site-packages"
    (site / "wkdask_npy-1.0.dist-info").mkdir(parents=True)
    (site / "wkdask_npy-1.0.dist-info/METADATA").write_text(METADATA)
    (site / "wkdask_npy-1.0.dist-info/entry_points.txt").write_text(ENTRY_POINTS)
    shutil.copy(npy_format.__file__, site / "wkdask_npy_format.py")
    monkeypatch.syspath_prepend(str(site))
    yield
    monkeypatch.delitem(__import__("sys").modules, "wkdask_npy_format", raising=False)


def test_it_is_found_by_its_entry_point(installed: None) -> None:
    found = find_format("npy")
    assert type(found).__module__ == "wkdask_npy_format" and found.codecs == ("none", "gzip")
    with pytest.raises(wk.WkdaskError, match=r"no format 'npz' here; there are .*npy.*wkw.*zarr3"):
        find_format("npz")


def test_one_that_can_not_be_loaded(installed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "wkdask_npy_format", raising=False)
    (tmp_path / "site-packages/wkdask_npy_format.py").write_text("import nomodule")
    with pytest.raises(InputError, match=r"'npy' is installed, but can not be loaded: ModuleNotFoundError: .*nomodule"):
        find_format("npy")


def test_its_layers_are_converted_and_downsampled(installed: None, tmp_path: Path) -> None:
    planes = np.random.default_rng(0).integers(1, 255, (10, 20, 30)).astype("uint8")
    (tmp_path / "em").mkdir()
    for z, plane in enumerate(planes):
        tifffile.imwrite(tmp_path / f"em/{z}.tif", plane)
    for name in ("npy", "zarr3"):
        storage = Storage(chunk=(8, 8, 8), shard=(16, 16, 16), data_format=name)
        options = {"into": Into("em", "color"), "sampling": Sampling(coarsest=wk.Mag(4)), "storage": storage}
        plan_convert(find_images(tmp_path / "em"), tmp_path / name, VoxelSize((4, 4, 4)), **options).run()
    layers = [wk.Dataset.open(tmp_path / name).get_layer("em") for name in ("npy", "zarr3")]
    assert wk.Dataset.open(tmp_path / "npy").verify().ok
    assert [str(mag) for mag in layers[0].mags] == [str(mag) for mag in layers[1].mags] == ["1", "2", "4"]
    for mag in layers[1].mags:
        np.testing.assert_array_equal(*(layer.get_mag(mag).read() for layer in layers), err_msg=str(mag))
    np.testing.assert_array_equal(layers[0].get_mag(1).read()[0], planes.transpose())
    assert (tmp_path / "npy/em/1/0-0-0-0.npy").is_file() and not list((tmp_path / "npy").rglob("zarr.json"))
