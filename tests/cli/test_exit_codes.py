"""Exit codes, and what a failed command says: one line that says what was found and what to do, never a traceback."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import tifffile

import wkdask as wk

USAGE = [
    ("--nonsense",),
    ("--jobs", "0"),
    ("--jobs", "many"),
    ("--category", "mask"),
    ("--progress", "loud"),
    ("--missing", "guess"),
    ("--batch-size", "0"),
]
VALUES = [
    ("--voxel-size", "0,1,2"),
    ("--voxel-size", "nan,1,1"),
    ("--voxel-size", "inf,1,1"),
    ("--voxel-size", "-1,1,1"),
    ("--voxel-size", "1,1"),
    ("--voxel-size", "a,b,c"),
    ("--voxel-size", ""),
    ("--unit", "furlong"),
    ("--codec", "foo"),
    ("--codec", "zstd:99"),
    ("--codec", "gzip:x"),
    ("--data-format", "n5"),
    ("--chunk-shape", "a"),
    ("--chunk-shape", "16,16"),
    ("--chunk-shape", "30"),
    ("--chunk-shape", "0"),
    ("--chunk-shape", "-16"),
    ("--chunk-shape", "16.5"),
    ("--shard-shape", "8"),
    ("--shard-shape", "48"),
    ("--max-mag", "3"),
    ("--max-mag", "x"),
    ("--sampling-mode", "x"),
    ("--interpolation-mode", "cubic"),
    ("--batch-size", "17"),
    ("--memory-limit", "lots"),
    ("--memory-limit", "0"),
    ("--layer-name", "../x"),
    ("--layer-name", "a/b"),
    ("--layer-name", ".hidden"),
    ("--layer-name", ""),
    ("--layer-name", "x" * 300),
    ("--layer-name", "a b"),
    ("--distribution-strategy", "slurm"),
    ("--distribution-strategy", "clouds"),
    ("--distribution-strategy", "tcp://"),
]


def checked(done, code):
    """Check that a message has an end, a remedy, and nothing of Python's."""
    assert done.code == code, done.err
    assert "Traceback" not in done.err
    assert done.err.startswith("error: ")
    said = done.err.removeprefix("error: ").strip()
    sentences = re.split(r"(?<=[.?])\s+(?=[A-Z])", said)
    assert len(sentences) >= 2, said
    assert said.endswith((".", ")")), said
    return said


@pytest.mark.parametrize("options", USAGE, ids=" ".join)
def test_usage(convert, slices, tmp_path, options):
    source, _ = slices(size=(8, 8, 2))
    done = convert(source, tmp_path / "ds", *options)
    assert done.code == 2
    assert options[0] in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "ds").exists()


@pytest.mark.parametrize("options", VALUES, ids=" ".join)
def test_values(convert, slices, tmp_path, options):
    source, _ = slices(size=(8, 8, 2))
    said = checked(convert(source, tmp_path / "ds", *options), 2)
    assert len(said) < 800
    assert not (tmp_path / "ds").exists()


def test_errors_as_json(convert, slices, tmp_path):
    source, _ = slices(size=(8, 8, 2))
    done = convert(source, tmp_path / "ds", "--codec", "foo", "--json")
    assert json.loads(done.out) == {
        "wkdask": 1,
        "error": {"type": "InputError", "message": done.err.removeprefix("error: ").strip(), "exit_code": 2},
    }


def test_a_memory_limit_that_is_too_small(convert, slices, tmp_path):
    source, _ = slices()
    said = checked(convert(source, tmp_path / "ds", "--memory-limit", "1MB"), 3)
    assert "the limit is 1.0 MB" in said
    remedy = re.search(r"--memory-limit (\S+MB)", said)
    assert not (tmp_path / "ds").exists()
    assert convert(source, tmp_path / "ds", "--memory-limit", remedy[1].replace("MB", "0MB"), "--jobs", "1").code == 0


def corrupt(path):
    """Damage compressed data in the middle of a file; its size, header and directory stay as they were."""
    with tifffile.TiffFile(path) as tiff:
        start, size = tiff.pages[0].dataoffsets[0], tiff.pages[0].databytecounts[0]
    data = bytearray(path.read_bytes())
    data[start + size // 2 : start + size // 2 + 40] = b"\0" * 40
    path.write_bytes(data)


def test_a_task_that_fails(convert, slices, tmp_path):
    source, volume = slices(size=(40, 50, 64), compression="zlib", predictor=True)
    whole = (source / "slice_040.tif").read_bytes()
    corrupt(source / "slice_040.tif")
    done = convert(source, tmp_path / "ds")
    said = checked(done, 4)
    assert "slice_040.tif" in said
    failed, finished = int(re.match(r"(\d+) tasks? failed", said)[1]), int(re.search(r"(\d+) (?:are|is) done", said)[1])
    assert failed >= 1
    assert finished >= 3  # all the other tiles
    assert not (tmp_path / "ds" / "datasource-properties.json").exists()
    again = convert(source, tmp_path / "ds")
    assert again.code == 4
    assert f" {finished} are done" in again.err  # nothing was lost
    (source / "slice_040.tif").write_bytes(whole)
    other = convert(source, tmp_path / "ds")
    assert "input files changed" in checked(other, 3)
    assert convert(source, tmp_path / "ds", "--overwrite-existing").code == 0
    np.testing.assert_array_equal(wk.Dataset.open(tmp_path / "ds").get_layer("em").get_mag(1).read()[0], volume)


def test_other_settings_on_resume(convert, slices, tmp_path):
    source, _ = slices(size=(40, 50, 64), compression="zlib", predictor=True)
    corrupt(source / "slice_040.tif")
    assert convert(source, tmp_path / "ds").code == 4
    for options, words in [
        (("--codec", "zstd:1"), "codec was 'zstd:5', now 'zstd:1'"),
        (("--voxel-size", "1,1,1"), "voxel_size was"),
        (("--chunk-shape", "8"), "chunks was"),
        (("--category", "segmentation"), "layer was"),
    ]:
        said = checked(convert(source, tmp_path / "ds", *options), 3)
        assert words in said
        assert "--restart" in said


def test_a_damaged_dataset(cli, convert, slices, tmp_path):
    convert(slices()[0], tmp_path / "ds")
    place = tmp_path / "ds" / "datasource-properties.json"
    place.write_bytes(place.read_bytes()[:100])
    for done in (cli("info", tmp_path / "ds"), convert(slices("b")[0], tmp_path / "ds", "--layer-name", "b")):
        assert str(place) in checked(done, 1)


def test_ctrl_c_before_the_run(convert, slices, tmp_path, monkeypatch):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("wkdask.images.find_layers", stop)
    done = convert(slices()[0], tmp_path / "ds", "--json")
    assert checked(done, 130) == "Stopped. Run the same again to go on."
    assert json.loads(done.out)["error"] == {
        "type": "InterruptedRunError",
        "message": "Stopped. Run the same again to go on.",
        "exit_code": 130,
    }
    assert not (tmp_path / "ds").exists()
