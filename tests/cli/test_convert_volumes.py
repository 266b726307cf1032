"""``convert-raw`` and ``convert-zarr``: plans as those of ``convert``; and the options for servers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import zarr

import wkdask as wk
from wkdask.plan import Journal
from wkdask.storage import Location, observe

SMALL = ("--voxel-size", "4,4,35", "--chunk-shape", "8", "--shard-shape", "16", "--progress", "none", "--jobs", "1")
VOLUME = np.random.default_rng(7).integers(1, 250, (40, 30, 20)).astype("uint8")


@pytest.fixture(params=["convert-raw", "convert-zarr"])
def words(request, tmp_path):
    """A command that converts the volume; the target is to follow."""
    if request.param == "convert-raw":
        (tmp_path / "em.raw").write_bytes(VOLUME.tobytes("F"))
        return ("convert-raw", tmp_path / "em.raw", "--shape", "40,30,20", *SMALL)
    array = zarr.create_array(str(tmp_path / "em.zarr"), shape=VOLUME.shape, chunks=(16, 9, 20), dtype="uint8")
    array[:] = VOLUME
    return ("convert-zarr", tmp_path / "em.zarr", *SMALL)


def voxels(place, name="color", mag=1):
    return wk.Dataset.open(place).get_layer(name).get_mag(mag).read()[0]


def test_options_do_what_they_say(cli, words, tmp_path):
    assert cli(*words, tmp_path / "ds").code == 0
    np.testing.assert_array_equal(voxels(tmp_path / "ds"), VOLUME)
    assert [str(mag) for mag in wk.Dataset.open(tmp_path / "ds").get_layer("color").mags] == ["1", "2-2-1", "4-4-1"]
    for flip, option in ((VOLUME[:, ::-1, ::-1], "2,3"), (VOLUME[::-1], "x")):
        assert cli(*words, tmp_path / option, "--flip-axes", option, "--layer-name", "em", "--no-downsample").code == 0
        np.testing.assert_array_equal(voxels(tmp_path / option, "em"), flip)
    labels = "--is-segmentation-layer" if words[0] == "convert-zarr" else "--category=segmentation"
    assert cli(*words, tmp_path / "ds", "--layer-name", "seg", labels, "--max-mag", "2", "--data-format", "wkw").code == 0
    layer = wk.Dataset.open(tmp_path / "ds").get_layer("seg")
    assert (layer.category, layer.largest_segment_id, str(layer.data_format)) == ("segmentation", 249, "wkw")
    assert cli(*words, tmp_path / "ds").code == 1
    assert cli(*words, tmp_path / "ds", "--overwrite-existing", "--name", "new").code == 0
    assert (wk.Dataset.open(tmp_path / "ds").name, list(wk.Dataset.open(tmp_path / "ds").layers)) == ("new", ["color"])
    assert cli(*words, tmp_path / "no", "--flip-axes", "0").code == 2


def test_plans_are_told_probed_and_resumed(cli, words, tmp_path):
    told = json.loads(cli(*words, tmp_path / "ds", "--dry-run", "--json", "--probe", "1").out)
    assert (told["command"], (tmp_path / "ds").exists()) == (f"{words[0]} --dry-run", False)
    seen = []

    def stop(event, url):
        seen.append(url)
        if event == "append" and sum(".jsonl" in line for line in seen) > 2:
            raise KeyboardInterrupt

    with observe(stop):
        assert cli(*words, tmp_path / "ds", "--overwrite-existing").code == 130
    # another task may have ended meanwhile, and one is told twice where writing it was stopped
    finished = len({(receipt.stage, receipt.number) for receipt in Journal(Location(tmp_path / "ds"), "color").read()})
    done = cli("resume", tmp_path / "ds", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["kept"] == finished >= 3
    np.testing.assert_array_equal(voxels(tmp_path / "ds"), VOLUME)


def test_raw_values_in_another_dtype_and_order(cli, tmp_path):
    wide = (VOLUME.astype("uint16") * 4).astype(">u2")
    (tmp_path / "em.raw").write_bytes(b"header" + wide.tobytes("C"))
    words = ("convert-raw", tmp_path / "em.raw", "--shape", "40,30,20", *SMALL, "--order", "C", "--source-dtype", ">u2")
    refused = cli(*words, tmp_path / "ds", "--header", "6")
    assert (refused.code, "Give --rescale" in refused.err) == (2, True)
    assert cli(*words, tmp_path / "ds", "--header", "6", "--rescale-min-max", "100,355", "--no-downsample").code == 0
    np.testing.assert_array_equal(voxels(tmp_path / "ds"), np.clip(wide.astype(int) - 100, 0, 255))


def test_arrays_of_other_axes_and_groups(cli, tmp_path):
    group = zarr.open_group(tmp_path / "two.zarr", mode="w")
    for name in ("a", "b"):
        group.create_array(name, shape=(2, *VOLUME.shape), chunks=(1, 8, 8, 8), dtype="uint8")[:] = np.stack([VOLUME, VOLUME])
    refused = cli("convert-zarr", tmp_path / "two.zarr", tmp_path / "ds", *SMALL)
    assert (refused.code, "4 axes, but 3 are named: x, y, z" in refused.err) == (1, True)
    assert cli("convert-zarr", tmp_path / "two.zarr", tmp_path / "ds", *SMALL, "--axes", "cxyz").code == 0
    names = list(wk.Dataset.open(tmp_path / "ds").layers)
    assert [name.startswith(("color_a", "color_b")) for name in names] == [True] * 4
    np.testing.assert_array_equal(voxels(tmp_path / "ds", names[0]), VOLUME)


@pytest.mark.parametrize(
    "words",
    [
        ("convert", "images", "--upload"),
        ("convert", "images", "--upload", "--token", "me", "--folder", "mine", "--webknossos-url", "https://lab"),
        ("downsample", "https://webknossos.org/datasets/lab/em-5f"),
        ("upsample", "https://lab/links/af3", "--from-mag", "2", "--access-mode", "direct_path"),
    ],
)
def test_what_needs_a_server_says_so(cli, words):
    done = cli(*words)
    assert (done.code, done.out) == (1, "")
    assert "needs a WEBKNOSSOS server, which wkdask does not talk to yet" in done.err


def test_options_for_servers_change_nothing_and_are_not_kept(cli, slices, tmp_path, monkeypatch):
    monkeypatch.setenv("WK_TOKEN", "environs")
    source, volume = slices()
    words = ("--no-upload", "--token", "s3cret", "--transfer-mode", "move+symlink", "--folder", "mine")
    commands = []

    def look(event, url):
        commands.extend(path.read_text() for path in (tmp_path / "ds").rglob("plan.json"))

    with observe(look):
        assert cli("convert", source, tmp_path / "ds", "--layer-name", "em", *SMALL, *words, "--no-downsample").code == 0
        assert cli("downsample", tmp_path / "ds", "--token=s3cret", "--progress", "none").code == 0
    np.testing.assert_array_equal(voxels(tmp_path / "ds", "em"), volume)
    kept = {json.loads(text)["command"] for text in commands}
    assert {command.split()[1] for command in kept} == {"convert", "downsample"}
    assert not any("s3cret" in text or "environs" in text for text in commands)
    assert cli("convert", source, tmp_path / "no", *SMALL, "--transfer-mode", "ftp").code == 2


@pytest.mark.parametrize("strategy", ["slurm", "slurm+batching"])
def test_jobs_without_resources_are_refused(cli, words, tmp_path, strategy):
    done = cli(*words, tmp_path / "ds", "--distribution-strategy", strategy)
    assert (done.code, "Give --job-resources" in done.err) == (2, True)
    assert not (tmp_path / "ds").exists()
    assert not Journal(Location(tmp_path / "ds"), "color").folder.is_folder()
