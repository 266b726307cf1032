"""`info` on datasets that are finished, partly finished, begun, broken, or none at all."""

from __future__ import annotations

import json
import shlex

import pytest

import wkdask as wk
from wkdask.storage import observe


def interrupted(convert, source, target, after):
    """Convert until so many files are published, then stop as Ctrl-C does."""
    count = 0

    def stop(event, url):
        nonlocal count
        count += event == "publish" and "/c/0/" in url
        if count >= after:
            raise KeyboardInterrupt

    with observe(stop):
        done = convert(source, target, "--distribution-strategy", "sequential")
    assert done.code == 130
    return done


def test_finished(cli, convert, slices, tmp_path):
    source, volume = slices()
    convert(source, tmp_path / "ds", "--category", "segmentation")
    done = cli("info", tmp_path / "ds")
    assert (done.code, done.err) == (0, "")
    for word in (
        "ds",
        "4 x 4 x 35 nanometer",
        "em: segmentation, 1 x uint8, zarr3",
        "(0, 0, 0) + (40, 50, 20)",
        "2-2-1",
        "zstd:5",
    ):
        assert word in done.out
    assert "largest segment id 199" in done.out
    assert "(1, 16, 16, 16)" in done.out
    assert "unfinished" not in done.out
    found = json.loads(cli("info", tmp_path / "ds", "--json").out)
    assert (found["wkdask"], found["command"], found["name"], found["unfinished"]) == (1, "info", "ds", [])
    assert found["voxel_size"] == {"factor": [4, 4, 35], "unit": "nanometer"}
    (layer,) = found["layers"]
    mags = layer.pop("mags")
    assert layer == {
        "name": "em",
        "category": "segmentation",
        "dtype": "uint8",
        "num_channels": 1,
        "data_format": "zarr3",
        "bounding_box": {"topleft": [0, 0, 0], "size": [40, 50, 20]},
        "largest_segment_id": 199,
    }
    assert [mag["mag"] for mag in mags] == ["1", "2-2-1", "4-4-1"]
    units = [p for p in (tmp_path / "ds/em/2-2-1/c").rglob("*") if p.is_file()]
    assert mags[1] == {
        "mag": "2-2-1",
        "axes": ["c", "x", "y", "z"],
        "shape": [1, 20, 25, 20],
        "chunk_shape": [1, 16, 16, 16],
        "shard_shape": [1, 32, 32, 32],
        "codec": "zstd:5",
        "bytes": 20 * 25 * 20,
        "bytes_on_disk": sum(p.stat().st_size for p in units),
    }


def test_info_writes_nothing(cli, convert, slices, tmp_path):
    convert(slices()[0], tmp_path / "ds")
    with observe(lambda *event: pytest.fail(f"{event}")):
        assert cli("info", tmp_path / "ds").code == 0


def test_unfinished_and_how_to_go_on(cli, convert, slices, tmp_path, files):
    source, _ = slices()
    interrupted(convert, source, tmp_path / "ds", 1)
    done = cli("info", tmp_path / "ds")
    assert done.code == 0
    (run,) = json.loads(cli("info", tmp_path / "ds", "--json").out)["unfinished"]
    assert run["layer"] == "em"
    assert 0 <= run["units_done"] < run["units"]
    assert f"em: unfinished, {run['units_done']} of {run['units']} units; run {run['command']} to go on" in done.out
    name, *words = shlex.split(run["command"])
    assert name == "wkdask"
    assert cli(*words).code == 0
    assert json.loads(cli("info", tmp_path / "ds", "--json").out)["unfinished"] == []
    convert(source, tmp_path / "whole", "--name", "ds", "--distribution-strategy", "sequential")
    assert files(tmp_path / "ds") == files(tmp_path / "whole")


def test_a_second_layer_that_is_unfinished(cli, convert, slices, tmp_path):
    source, _ = slices()
    convert(source, tmp_path / "ds")
    interrupted(lambda *words: convert(*words, "--layer-name", "second"), source, tmp_path / "ds", 1)
    found = json.loads(cli("info", tmp_path / "ds", "--json").out)
    assert [layer["name"] for layer in found["layers"]] == ["em"]
    assert [run["layer"] for run in found["unfinished"]] == ["second"]
    text = cli("info", tmp_path / "ds").out
    assert "em: color" in text
    assert "second: unfinished" in text


def test_no_dataset(cli, tmp_path):
    (tmp_path / "empty").mkdir()
    for place in ("empty", "none"):
        done = cli("info", tmp_path / place, "--json")
        assert (done.code, json.loads(done.out)["error"]["type"]) == (1, "DatasetNotFoundError")
        assert str(tmp_path / place) in done.err
    assert list(tmp_path.iterdir()) == [tmp_path / "empty"]


def test_arrays_that_are_gone(cli, convert, slices, tmp_path):
    convert(slices()[0], tmp_path / "ds")
    (tmp_path / "ds/em/2-2-1/zarr.json").unlink()
    done = cli("info", tmp_path / "ds")
    assert done.code == 1
    assert "ds/em/2-2-1" in done.err


def test_datasets_that_python_made(cli, tmp_path):
    dataset = wk.Dataset(tmp_path / "ds", (1, 2, 3))
    assert cli("info", tmp_path / "ds").code == 0
    dataset.add_layer("seg", "segmentation", dtype="uint64")
    text = cli("info", tmp_path / "ds").out
    assert "seg: segmentation, 1 x uint64" in text
    assert "largest segment id not known" in text
    assert json.loads(cli("info", tmp_path / "ds", "--json").out)["layers"][0]["largest_segment_id"] is None
