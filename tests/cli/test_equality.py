"""`check-equality`, `hash` and `diff` on the command line: exit codes, text, JSON, pools."""

from __future__ import annotations

import json

import pytest
import tifffile


@pytest.fixture
def datasets(convert, slices, tmp_path):
    """The same voxels twice: in Zarr 3, and in WKW with other files."""
    source, _ = slices()
    assert convert(source, tmp_path / "a").code == 0
    assert convert(source, tmp_path / "b", "--data-format", "wkw", "--shard-shape", "64").code == 0
    return tmp_path / "a", tmp_path / "b"


def test_equal(cli, datasets, files):
    before = [files(place) for place in datasets]
    done = cli("check-equality", *datasets)
    assert done.code == 0
    assert " are equal: " in done.out
    assert "100 %" in done.err
    assert cli("check-equality", *datasets, "--quiet") == (0, "", "")
    assert cli("hash", datasets[0], "-q").out == cli("hash", datasets[1], "-q").out
    assert cli("diff", *datasets, "--progress", "none").code == 0
    assert [files(place) for place in datasets] == before


@pytest.mark.parametrize("strategy", ["sequential", "processes"])
def test_different(cli, datasets, convert, tmp_path, strategy):
    second = datasets[1]
    path = tmp_path / "slices/slice_012.tif"
    plane = tifffile.imread(path)
    was, plane[7, 33] = int(plane[7, 33]), 250
    tifffile.imwrite(path, plane)
    assert convert(tmp_path / "slices", tmp_path / "c").code == 0
    pool = "--jobs", 2, "--distribution-strategy", strategy, "--progress", "none"

    done = cli("check-equality", second, tmp_path / "c", "--mag", 1, *pool)
    assert (done.code, done.err) == (1, "")
    assert f"em/1: voxel (33, 7, 12) (c=0; in mag 1 (33, 7, 12)) is {was} and 250" in done.out
    found = json.loads(cli("check-equality", second, tmp_path / "c", "--all", "--json", *pool).out)
    assert found["command"] == "check-equality" and not found["equal"]
    assert found["differences"][0]["voxel"] == [33, 7, 12]
    assert found["differences"][0]["source"] == str(was)
    assert found["cells"] >= 1 <= found["voxels"]

    done = cli("diff", second, tmp_path / "c", "--mag", 1, "--json", *pool)
    (cell,) = json.loads(done.out)["differences"]
    assert (done.code, cell["start"], cell["stop"]) == (1, [32, 0, 0], [64, 32, 32])


def test_saved(cli, datasets, tmp_path):
    done = cli("hash", datasets[0], "--save", tmp_path / "tree", "--json", "--progress", "none")
    assert done.code == 0
    assert json.loads(done.out)["hash"] == cli("hash", datasets[1], "-q").out.strip()
    assert cli("diff", tmp_path / "tree", datasets[1], "--quiet") == (0, "", "")
    assert cli("diff", tmp_path / "tree", tmp_path / "tree").out.endswith(" do not differ\n")
    assert cli("diff", tmp_path / "tree", datasets[1], "--mag", 1, "--quiet").code == 0
    assert cli("hash", datasets[0], "--save", datasets[0] / "tree").code == 1
    (tmp_path / "tree").write_bytes((tmp_path / "tree").read_bytes()[:-40])
    assert cli("diff", tmp_path / "tree", datasets[1]).code == 5
    (tmp_path / "tree").write_bytes(b"else")
    assert cli("diff", tmp_path / "tree", datasets[1]).code == 2


def test_content_only(cli, datasets):
    whole, content = (cli("hash", datasets[0], "-q", *more).out for more in ((), ("--content-only",)))
    assert len(whole) == len(content) == 33
    assert whole != content


def test_usage_and_damage(cli, datasets, tmp_path):
    first, second = datasets
    assert cli("check-equality", first).code == 2
    assert cli("check-equality", first, second, "--mag", "three").code == 2
    assert cli("hash", first, "--layer", "none").code == 1
    assert cli("diff", first, tmp_path / "none").code == 1
    assert cli("hash", first, "--memory-limit", "1kB").code == 3
    unit = first / "em/1/c/0/0/1/0"
    unit.write_bytes(unit.read_bytes()[:-1])
    for words in (("check-equality", first, second), ("hash", first), ("diff", second, first)):
        done = cli(*words, "--progress", "none")
        assert done.code == 5
        assert str(unit) in done.err
