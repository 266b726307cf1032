"""``wkdask resume``: goes on with what was stopped, by the command that began it, wherever that is typed; or says why not."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import tifffile

import wkdask as wk
from wkdask.plan import Journal
from wkdask.storage import Location, observe

SMALL = ("--chunk-shape", "8", "--shard-shape", "16", "--progress", "none", "--jobs", "1")


@pytest.fixture
def images(tmp_path):
    """A stack of noise, in a folder that is the current one."""
    folder = tmp_path / "home" / "images"
    folder.mkdir(parents=True)
    for z in range(40):
        tifffile.imwrite(folder / f"{z:02}.tif", np.random.default_rng(z).integers(0, 99, (40, 30)).astype("uint8"))
    return folder


@pytest.fixture
def stopped(images, cli, monkeypatch):
    """A conversion, typed with relative paths, that was stopped; the current folder is another one now."""
    home = images.parent
    monkeypatch.chdir(home)
    convert = ("convert", "images", "ds", "--voxel-size", "4,4,4", "--layer-name", "em", *SMALL)
    lines = []

    def stop(event, url):
        lines.append(url)
        if event == "append" and sum(".jsonl" in line for line in lines) > 2:
            raise KeyboardInterrupt

    with observe(stop):
        assert cli(*convert).code == 130
    assert cli(*convert[:2], "whole", *convert[3:]).code == 0
    (home / "elsewhere").mkdir()
    monkeypatch.chdir(home / "elsewhere")
    return home / "ds"


def voxels(place):
    return [mag.read() for mag in wk.Dataset.open(place).get_layer("em").mags.values()]


def same_as_whole(place):
    pairs = zip(voxels(place), voxels(place.parent / "whole"), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def job_of(place):
    return Journal(Location(place), "em").folder.local_path / "plan.json"


def finished(place):
    """Tasks that are done: three, and one more where it ended while the run was being stopped."""
    return len({(receipt.stage, receipt.number) for receipt in Journal(Location(place), "em").read()})


def edit(place, **changes):
    job_of(place).write_text(json.dumps(json.loads(job_of(place).read_text()) | changes))


def test_goes_on_from_another_folder(cli, stopped):
    before = finished(stopped)
    done = cli("resume", "../ds", "--json", "--jobs", "2")
    assert done.code == 0, done.err
    assert json.loads(done.out)["kept"] == before >= 3
    assert same_as_whole(stopped)
    again = cli("resume", stopped)
    assert (again.code, again.out) == (0, "Nothing to do.\n")
    assert json.loads(cli("resume", stopped, "--json").out)["layers"] == []


def test_what_gives_up_is_left_out(cli, stopped):
    command = json.loads(job_of(stopped).read_text())["command"]
    edit(stopped, command=f"{command} --overwrite-existing --restart")
    before = finished(stopped)
    assert json.loads(cli("resume", stopped, "--json").out)["kept"] == before >= 3
    assert same_as_whole(stopped)


def flip(place):
    """Change one bit of the first unit, with size and time as they were."""
    unit = next(path for path in sorted((place / "em/1").rglob("*")) if "/c/" in str(path) and path.is_file())
    stat, data = unit.stat(), bytearray(unit.read_bytes())
    data[len(data) // 3] ^= 4
    unit.write_bytes(data)
    os.utime(unit, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    return unit, data


def test_verify_finds_a_flipped_bit(cli, stopped):
    flip(stopped)
    assert cli("resume", stopped, "--verify").code == 0
    assert same_as_whole(stopped)
    assert cli("verify", stopped, "--digests").code == 0


def test_without_verify_the_bit_stays(cli, stopped):
    unit, data = flip(stopped)
    cli("resume", stopped)
    assert unit.read_bytes() == data
    assert cli("verify", stopped, "--digests").code == 5


def test_stopped_again(cli, stopped):
    def stop(event, url):
        if event == "append":
            raise KeyboardInterrupt

    with observe(stop):
        assert cli("resume", stopped).code == 130
    assert cli("resume", stopped).code == 0 and same_as_whole(stopped)


def test_only_the_layers_that_are_named(cli, stopped):
    assert cli("resume", stopped, "--layer-name", "other").out == "Nothing to do.\n"
    assert job_of(stopped).exists()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("", "was begun in Python. Run Dataset.from_images"),
        ("rm -rf /", "which is no command of wkdask"),
        ("wkdask verify ds", "which is no command of wkdask"),
        ("wkdask 'convert", "which is no command of wkdask"),
        ("wkdask convert images other --voxel-size 4,4,4", "which writes"),
        ("wkdask convert images whole --overwrite-existing --voxel-size 4,4,4", "which writes"),
    ],
)
def test_refused(cli, stopped, command, said):
    edit(stopped, command=command)
    before = sorted(str(path) for path in stopped.parent.rglob("*"))
    done = cli("resume", stopped)
    assert done.code == 2 and said in done.err
    assert sorted(str(path) for path in stopped.parent.rglob("*")) == before


def test_a_dataset_that_was_moved_is_refused(cli, stopped):
    stopped.rename(stopped.parent / "moved")
    done = cli("resume", stopped.parent / "moved")
    assert done.code == 2 and "Move the dataset back" in done.err
    assert cli("resume", stopped).code == 1


def test_a_folder_that_is_gone_is_refused(cli, stopped):
    edit(stopped, folder="/no/such/folder")
    done = cli("resume", stopped)
    assert done.code == 2 and "/no/such/folder, which is gone" in done.err


def test_the_exit_code_is_the_commands(cli, stopped):
    tifffile.imwrite(stopped.parent / "images" / "03.tif", np.ones((40, 30), "uint8"))
    assert cli("resume", stopped).code == 3


def test_a_run_of_python_is_named(cli, tmp_path):
    wk.Dataset(tmp_path / "ds", (4, 4, 4))
    job = {"fingerprint": "x", "name": "downsample ds/em from mag 1", "settings": {}, "layout": [], "tasks": []}
    Journal(Location(tmp_path / "ds"), "em").begin(job, "")
    done = cli("resume", tmp_path / "ds")
    assert done.code == 2 and "Layer.downsample" in done.err
