"""``wkdask downsample``: choices of layers and magnifications, what it says, exit codes, going on."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

import wkdask as wk
from wkdask.storage import Lease, Location, observe

SMALL = ("--chunk-shape", "8", "--shard-shape", "16", "--progress", "none")
BOX = wk.BoundingBox((3, 5, 1), (41, 30, 21))


@pytest.fixture
def dataset(tmp_path):
    """Two layers of one magnification each."""
    made = wk.Dataset(tmp_path / "ds", (4, 4, 35))
    for seed, (name, category) in enumerate([("em", "color"), ("cells", "segmentation")]):
        layer = made.add_layer(name, category, bounding_box=BOX)
        voxels = np.random.default_rng(seed).integers(0, 9, BOX.size.to_tuple()).astype("uint8")
        layer.add_mag(1, chunk_shape=8, shard_shape=16).write(voxels)
    return tmp_path / "ds"


@pytest.fixture
def downsample(cli, dataset):
    return lambda *options: cli("downsample", dataset, *SMALL, *options)


def mags(dataset, layer):
    return [str(mag) for mag in wk.Dataset.open(dataset).get_layer(layer).mags]


def read(dataset, layer, mag):
    array = wk.Dataset.open(dataset).get_layer(layer).get_mag(mag).array
    return array.read(array.box)


def test_all_layers(downsample, dataset):
    done = downsample("--max-mag", "4")
    assert (done.code, done.err) == (0, "")
    assert "downsample ds/em from mag 1" in done.out and "downsample ds/cells from mag 1" in done.out
    for layer in ("em", "cells"):
        assert mags(dataset, layer) == ["1", "2-2-1", "4-4-1"]
        assert wk.Dataset.open(dataset).get_layer(layer).get_mag("2-2-1").spec.unit == (1, 16, 16, 16)
    by_hand = wk.Dataset.open(dataset).get_layer("cells")
    found = read(dataset, "cells", "4-4-1")
    by_hand.redownsample("mode")
    np.testing.assert_array_equal(read(dataset, "cells", "4-4-1"), found)


def test_nothing_to_do(downsample, dataset, files):
    downsample("--coarsest-mag", "4")
    before = files(dataset)
    for options in (("--max-mag", "4"), ("--max-mag", "2"), ("--max-mag", "4", "--dry-run"), ()):
        done = downsample(*options)
        assert (done.code, done.out, done.err) == (0, "Nothing to do.\n", "")
    assert json.loads(downsample("--max-mag", "4", "--json").out) == {"wkdask": 1, "command": "downsample", "layers": []}
    assert files(dataset) == before


def test_layers_are_chosen_once_each(downsample, dataset):
    assert downsample("--layer-name", "em", "--layer-name", "em", "--max-mag", "2").code == 0
    assert (mags(dataset, "em"), mags(dataset, "cells")) == (["1", "2-2-1"], ["1"])
    both = downsample("--layer-name", "cells", "--layer-name", "em", "--max-mag", "4", "--json")
    found = json.loads(both.out)["layers"]
    assert [layer["milestones"] for layer in found] == [["cells/2-2-1", "cells/4-4-1"], ["em/4-4-1"]]
    assert all(layer["failed"] == 0 and layer["done"] for layer in found)


def test_the_mags_of_other_layers(downsample, dataset):
    wk.Dataset.open(dataset).get_layer("em").downsample_mag(1, 2)
    assert downsample("--layer-name", "cells", "--max-mag", "2", "--dry-run", "--json").out.count('"2"') == 1
    assert downsample("--layer-name", "cells", "--max-mag", "2", "--no-align").code == 0
    assert mags(dataset, "cells") == ["1", "2-2-1"]


def test_layers_that_are_planned_together_agree(downsample, dataset):
    wk.Dataset.open(dataset).get_layer("cells").downsample_mag(1, 2)
    assert downsample("--max-mag", "8").code == 0
    assert mags(dataset, "em") == ["1", "2", "4-4-2", "8-8-2"]
    assert mags(dataset, "cells") == ["1", "2", "4-4-2", "8-8-2"]


def test_a_dry_run_writes_nothing(downsample, dataset, files):
    before = files(dataset)
    done = downsample("--max-mag", "4", "--dry-run")
    assert done.code == 0 and "tasks" in done.out and "em/2-2-1" in done.out
    found = json.loads(downsample("--max-mag", "4", "--dry-run", "--json", "--layer-name", "em").out)
    assert (found["command"], found["settings"]["mags"]) == ("downsample --dry-run", ["2-2-1", "4-4-1"])
    assert files(dataset) == before and not (dataset / ".wkdask/jobs").exists()


def test_options_reach_the_plan(downsample, dataset):
    options = ("--sampling-mode", "isotropic", "--interpolation-mode", "max", "--no-compress", "--chunks-per-shard", "4")
    done = downsample(
        "--layer-name", "em", "--max-mag", "2", *options[:5], "--from-mag", "1", "--memory-limit", "1GB", "--jobs", "1"
    )
    assert done.code == 0, done.err
    mag = wk.Dataset.open(dataset).get_layer("em").get_mag(2)
    assert (mag.spec.codec, mag.spec.chunk, mag.spec.unit) == (None, (1, 8, 8, 8), (1, 16, 16, 16))
    finest = np.pad(read(dataset, "em", 1), [(0, 0), (1, 0), (1, 1), (1, 0)], mode="edge")
    windows = finest.reshape(1, 21, 2, 16, 2, 11, 2)
    np.testing.assert_array_equal(read(dataset, "em", 2), windows.max(axis=(2, 4, 6)))
    both = downsample("--max-mag", "4", *options[-2:])
    assert both.code == 2 and "--chunks-per-shard and --shard-shape" in both.err


def test_processes_make_the_same(downsample, dataset, files):
    em = ("--layer-name", "em", "--max-mag", "4", "--jobs", "2")
    downsample(*em)
    before = files(dataset)
    wk.Dataset.open(dataset).get_layer("em").get_mag("2-2-1").array.handle.unit_location((0, 0, 0, 0)).write_bytes(b"")
    done = downsample(*em, "--distribution-strategy", "processes", "--overwrite-existing", "--from-mag", "1")
    assert done.code == 0, done.err
    assert files(dataset) == before


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--layer-name", "nope"), 1, "no layer 'nope'; the dataset has 'em', 'cells'"),
        (("--from-mag", "8"), 1, "no magnification 8; it has 1"),
        (("--from-mag", "3"), 2, "powers of two"),
        (("--max-mag", "x"), 2, "'x' is no magnification"),
        (("--max-mag", "4-4"), 2, "is no magnification"),
        (("--sampling-mode", "x"), 2, "no sampling mode 'x'"),
        (("--interpolation-mode", "cubic"), 2, "no interpolation mode 'cubic'"),
        (("--codec", "lz4"), 2, "zarr3 has no codec 'lz4'"),
        (("--chunk-shape", "12"), 2, "no power of two"),
        (("--memory-limit", "1MB"), 3, "the limit is 1.0 MB. Use --memory-limit"),
        (("--distribution-strategy", "cloud"), 2, "no strategy 'cloud'"),
    ],
)
def test_what_is_refused(downsample, dataset, files, options, code, words):
    before = files(dataset)
    done = downsample(*options)
    assert done.code == code and words in done.err, done.err
    assert done.err.startswith("error: ") and "Traceback" not in done.err
    assert files(dataset) == before


def test_no_dataset(cli, tmp_path):
    done = cli("downsample", tmp_path / "nowhere", "--json")
    assert (done.code, json.loads(done.out)["error"]["type"]) == (1, "DatasetNotFoundError")
    assert cli("downsample").code == 2


def test_an_existing_mag_names_the_flag(downsample, dataset):
    downsample("--max-mag", "2")
    done = downsample("--from-mag", "1", "--max-mag", "4", "--layer-name", "em")
    assert done.code == 1 and "has a magnification 2-2-1 already" in done.err and "--overwrite-existing" in done.err
    assert downsample("--from-mag", "1", "--max-mag", "4", "--overwrite-existing").code == 0
    assert mags(dataset, "em") == ["1", "2-2-1", "4-4-1"]


@pytest.mark.parametrize("command", ["downsample", "convert"])
def test_a_second_run_is_locked_out(cli, convert, dataset, slices, command):
    with Lease(Location(dataset) / ".wkdask/run.json", "downsample ds/em from mag 1"):
        done = cli("downsample", dataset) if command == "downsample" else convert(slices()[0], dataset, "--layer-name", "more")
    assert done.code == 6 and f"is in use by process {os.getpid()} on" in done.err
    assert "(downsample ds/em from mag 1)" in done.err
    assert mags(dataset, "em") == ["1"]


def test_going_on_after_tasks_that_failed(downsample, dataset):
    unit = dataset / "em/1/c/0/1/1/0"
    whole, stat = unit.read_bytes(), unit.stat()
    unit.write_bytes(whole[:100] + bytes(100) + whole[200:])
    os.utime(unit, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    options = ("--layer-name", "em", "--max-mag", "4", "--sampling-mode", "isotropic", "--jobs", "2")
    failed = downsample(*options)
    assert failed.code == 4 and str(unit) in failed.err and "again" in failed.err, failed.err
    assert mags(dataset, "em") == ["1"]
    unit.write_bytes(whole)
    changed = downsample(*options)
    assert changed.code == 3 and "its input files changed" in changed.err and "--overwrite-existing" in changed.err
    os.utime(unit, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other = downsample(*options[:2], "--max-mag", "2", "--sampling-mode", "isotropic")
    assert other.code == 3 and "mags was ['2', '4'], now ['2']" in other.err
    done = downsample(*options, "--json")
    assert done.code == 0 and json.loads(done.out)["kept"] > 0
    assert mags(dataset, "em") == ["1", "2", "4"]


def test_starting_anew_instead_of_going_on(downsample, convert, dataset, slices):
    unit = dataset / "em/1/c/0/1/1/0"
    whole = unit.read_bytes()
    unit.write_bytes(whole[:100] + bytes(100) + whole[200:])
    options = ("--layer-name", "em", "--max-mag", "4", "--sampling-mode", "isotropic")
    assert downsample(*options).code == 4
    refused = convert(slices(size=(8, 8, 2))[0], dataset, "--layer-name", "em")
    assert refused.code == 1 and "Layer 'em' in " in refused.err and " exists" in refused.err
    unit.write_bytes(whole)
    assert downsample(*options).code == 3
    assert downsample(*options, "--overwrite-existing").code == 0
    assert downsample(*options).out == "Nothing to do.\n"
    found = read(dataset, "em", 4)
    wk.Dataset.open(dataset).get_layer("em").redownsample()
    np.testing.assert_array_equal(read(dataset, "em", 4), found)


def test_layers_without_mags_are_left_out(downsample, dataset):
    wk.Dataset.open(dataset).add_layer("empty", "color", bounding_box=BOX)
    done = downsample("--max-mag", "4")
    assert done.code == 0 and done.err == "note: layer 'empty' has no magnification to start from, so it is left out\n"
    assert mags(dataset, "em") == mags(dataset, "cells") == ["1", "2-2-1", "4-4-1"] and not mags(dataset, "empty")
    assert downsample("--max-mag", "8", "--quiet") == (0, "", "")
    found = json.loads(downsample("--max-mag", "16", "--json").out)
    assert [layer["milestones"] for layer in found["layers"]] == [["em/16-16-2"], ["cells/16-16-2"]]
    named = downsample("--layer-name", "empty", "--layer-name", "em")
    assert named.code == 1 and "no magnification 1" in named.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--chunk-shape", "32"), "em/2-2-1 has the chunk (8, 8, 8), not (32, 32, 32)"),
        (("--shard-shape", "32"), "has the shard (16, 16, 16), not (32, 32, 32)"),
        (("--chunk-shape", "8", "--chunks-per-shard", "1"), "has the shard (16, 16, 16), not (8, 8, 8)"),
        (("--no-compress",), "has the codec zstd:5, not none"),
        (("--codec", "gzip:1"), "has the codec zstd:5, not gzip:1"),
    ],
)
def test_what_is_typed_is_not_ignored(cli, downsample, dataset, files, options, words):
    downsample("--max-mag", "2")
    before = files(dataset)
    again = ("downsample", dataset, "--from-mag", "1", "--max-mag", "2", "--overwrite-existing", "--progress", "none")
    done = cli(*again, *options)
    assert done.code == 2 and words in done.err and "Leave that option out" in done.err
    assert files(dataset) == before
    assert cli(*again).code == 0  # defaults are nobody's wish
    assert cli(*again, "--compress", "--codec", "zstd:5", *SMALL).code == 0
    assert files(dataset) == before


def test_starting_anew_where_mags_were_listed(downsample, dataset):
    class Stop(BaseException):
        pass

    def stop(event, url):
        if event == "commit":
            raise Stop

    options = ("--layer-name", "em", "--max-mag", "8", "--sampling-mode", "isotropic")
    with observe(stop), pytest.raises(Stop):
        downsample(*options)
    assert mags(dataset, "em") == ["1", "2"]
    layer = wk.Dataset.open(dataset).get_layer("em")
    layer.get_mag(1).write(np.full(BOX.size.to_tuple(), 77, "uint8"))
    assert downsample(*options).code == 3
    assert downsample(*options, "--overwrite-existing").code == 0
    assert mags(dataset, "em") == ["1", "2", "4", "8"]
    assert all((read(dataset, "em", mag) == 77).all() for mag in (2, 4, 8))


def test_read_only_folders(downsample, dataset, unprivileged):
    os.chmod(dataset, 0o555)
    try:
        with unprivileged():
            done = downsample("--max-mag", "4")
    finally:
        os.chmod(dataset, 0o755)
    assert done.code == 1 and done.err.startswith("error: ") and "Traceback" not in done.err
    assert str(dataset) in done.err
