"""``wkdask copy-dataset``, ``compress`` and ``rechunk``: what they write, what they refuse, and what they do when repeated."""

from __future__ import annotations

import json

import pytest

import wkdask as wk
from tests.operations.copies import BOX, check, make

QUIET = ("--progress", "none", "--jobs", "1")


@pytest.fixture
def made(tmp_path):
    """An uncompressed dataset of two magnifications in WKW, and its voxels."""
    return tmp_path / "ds", make(tmp_path / "ds", BOX, "wkw", compress=False)


def spec(folder, mag=1):
    return wk.Dataset.open(folder).get_layer("em").get_mag(mag).spec


def test_compress(cli, made):
    folder, wanted = made
    assert cli("compress", folder, "--dry-run", *QUIET).code == 0 and spec(folder).codec is None
    assert cli("compress", folder, "--mag", "2-2-1", *QUIET).code == 0
    assert spec(folder).codec is None and spec(folder, "2-2-1").codec is not None
    assert cli("compress", folder, *QUIET).code == 0 and spec(folder).codec is not None
    check(folder, wanted)
    before = sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))
    assert cli("compress", folder, *QUIET).code == 0
    assert sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*")) == before
    assert cli("compress", folder, "--layer-name", "none", *QUIET).code != 0


def test_rechunk(cli, made):
    folder, wanted = made
    options = ("--chunk-shape", "16", "--shard-shape", "32", "--data-format", "zarr3", "--codec", "gzip:1", *QUIET)
    for _ in range(2):
        done = cli("rechunk", folder, *options)
        assert done.code == 0, done.err
    found = check(folder, wanted).get_mag(1).spec
    assert (found.chunk, found.unit, str(found.codec)) == ((1, 16, 16, 16), (1, 32, 32, 32), "gzip:1")
    done = cli("rechunk", folder, "--codec", "zstd", "--no-compress", *QUIET)
    assert done.code != 0 and "Give one of them" in done.err


def test_copy_dataset(cli, made, tmp_path):
    folder, wanted = made
    done = cli("copy-dataset", folder, tmp_path / "copy", "--data-format", "zarr", "--compress", "--name", "new", *QUIET)
    assert done.code == 0, done.err
    check(tmp_path / "copy", wanted)
    found = spec(tmp_path / "copy")
    assert (found.chunk, found.codec) == (spec(folder).chunk, wk.formats.find_format("zarr").usual_codec)
    assert json.loads((tmp_path / "copy/datasource-properties.json").read_text())["id"]["name"] == "new"
    done = cli("copy-dataset", folder, tmp_path / "other", "--layer-name", "none", *QUIET)
    assert done.code != 0 and not (tmp_path / "other").exists()


def test_a_dataset_that_is_there(cli, made, tmp_path):
    folder, wanted = made
    make(tmp_path / "there", BOX, "wkw", mags=("2-2-1",))
    kept = spec(tmp_path / "there", "2-2-1")
    done = cli("copy-dataset", folder, tmp_path / "there", *QUIET)
    assert done.code != 0 and "is a dataset already" in done.err and "--exists-ok" in done.err
    assert cli("copy-dataset", folder, tmp_path / "there", "--exists-ok", *QUIET).code == 0
    assert spec(tmp_path / "there", "2-2-1") == kept and kept.codec is not None
    assert wk.Dataset.open(tmp_path / "there").get_layer("em").get_mag(1).spec.codec is None
    view = wk.Dataset.open(tmp_path / "there").get_layer("em").get_mag(1).array
    assert (view.read(view.box) == wanted["1"]).all()
