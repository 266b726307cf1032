"""Bad input gets a clear error that names what was found and what to do, and nothing is lost."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tifffile

import wkdask as wk
from wkdask.errors import DamagedError, DatasetError, DatasetExistsError, InputError, MetadataError, StorageError, WkdaskError
from wkdask.images import find_images
from wkdask.operations import Into, Running, Sampling, Storage, plan_convert
from wkdask.plan import ThreadPool
from wkdask.storage import observe

SIZE = wk.VoxelSize((4, 4, 35))
SMALL = Storage((16, 16, 16), (32, 32, 32))

needs_root = pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can mount")


def stack(folder, size=(40, 50, 20), seed=0, **options):
    """Make a stack of slices; return its (x, y, z) voxels."""
    folder.mkdir(parents=True)
    volume = np.random.default_rng(seed).integers(1, 200, size).astype("uint8")
    for z in range(size[2]):
        tifffile.imwrite(folder / f"slice_{z:03}.tif", volume[..., z].T, **options)
    return volume


def plan(source, target, **options):
    usual = {"into": Into("em", dataset="ds"), "storage": SMALL, "running": Running(2), **options}
    return plan_convert(find_images(source), target, SIZE, **usual)


def voxels(target, layer="em", mag=1):
    return wk.Dataset.open(target).get_layer(layer).get_mag(mag).read()[0]


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check_words(error, *words):
    """Check that a message names these, and says in a second sentence what to do."""
    said = str(error)
    assert all(word in said for word in words), said
    assert len(re.split(r"(?<=[.?])\s+(?=[A-Z\"'/])", said.strip())) >= 2, said


@pytest.fixture
def source(tmp_path):
    stack(tmp_path / "slices")
    return tmp_path / "slices"


# ------------------------------------------------------------------------------------------------------- images


def test_a_source_that_is_missing_or_empty(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "notes.txt").write_text("no picture")
    for name in ("missing", "empty", "texts"):
        with pytest.raises(InputError) as error:
            plan(tmp_path / name, tmp_path / "ds").run()
        check_words(error.value, str(tmp_path / name))
    assert not (tmp_path / "ds").exists()


def truncate(path):
    path.write_bytes(path.read_bytes()[:100])


def empty(path):
    path.write_bytes(b"")


def foreign(path):
    path.write_text("this is no picture, whatever its name says")


def wider(path):
    tifffile.imwrite(path, np.zeros((50, 41), "uint8"))


def deeper(path):
    tifffile.imwrite(path, np.zeros((50, 40), "uint16"))


def coloured(path):
    tifffile.imwrite(path, np.zeros((50, 40, 3), "uint8"), photometric="rgb")


def many(path):
    tifffile.imwrite(path, np.zeros((3, 50, 40), "uint8"), photometric="minisblack")


def folder(path):
    path.unlink()
    path.mkdir()


def dangling(path):
    path.unlink()
    path.symlink_to(path.with_name("gone.tif"))


@pytest.mark.parametrize("spoil", [truncate, empty, foreign, wider, deeper, coloured, many, folder, dangling])
def test_one_wrong_slice_in_the_middle(source, tmp_path, spoil):
    spoil(source / "slice_011.tif")
    with pytest.raises(WkdaskError) as error:
        plan(source, tmp_path / "ds").run()
    check_words(error.value, "11" if spoil in (folder, dangling) else "slice_011.tif")
    assert not list((tmp_path / "ds").rglob("datasource-properties.json"))


def test_a_slice_that_changes_while_it_is_read(source, tmp_path):
    """The run fails; it never takes voxels of two pictures for one."""
    planned = plan(source, tmp_path / "ds")
    tifffile.imwrite(source / "slice_011.tif", np.zeros((60, 50), "uint8"))
    with pytest.raises(WkdaskError) as error:
        planned.run()
    check_words(error.value, "slice_011.tif")
    assert not (tmp_path / "ds" / "datasource-properties.json").exists()


# ------------------------------------------------------------------------------------------------------- targets


def test_targets_that_are_not_ours(source, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("mine")
    for target in ("file", "folder", "file/below"):
        with pytest.raises((DatasetError, StorageError)) as error:
            plan(source, tmp_path / target).run()
        check_words(error.value, str(tmp_path / target))
    assert (tmp_path / "file").read_text() == "mine"
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["thesis.txt"]


def test_a_folder_that_is_no_layer_is_not_written_into(source, tmp_path):
    """Such as that of a layer that somebody took out of the JSON."""
    volume = stack(tmp_path / "b", seed=1)
    plan(source, tmp_path / "ds").run()
    place = tmp_path / "ds" / "datasource-properties.json"
    document = json.loads(place.read_bytes())
    whole, document["dataLayers"] = document["dataLayers"], []
    place.write_text(json.dumps(document))
    before = contents(tmp_path / "ds" / "em")
    with pytest.raises(DatasetExistsError) as error:
        plan(tmp_path / "b", tmp_path / "ds", storage=Storage((8, 8, 8), (16, 16, 16))).run()
    check_words(error.value, str(tmp_path / "ds" / "em"), "--layer-name")
    assert contents(tmp_path / "ds" / "em") == before
    plan(tmp_path / "b", tmp_path / "ds", into=Into("b")).run()
    np.testing.assert_array_equal(voxels(tmp_path / "ds", "b"), volume)
    assert whole


def test_what_a_failed_attempt_left_counts_when_the_next_succeeds(source, tmp_path):
    """A task that failed in its middle, passed at the second attempt, and was done when the run was killed."""
    volume = np.stack([tifffile.imread(path).T for path in sorted(source.iterdir())], axis=-1)
    units = []

    def fail_once(event, url):
        if event == "publish" and "/c/0/" in url:
            units.append(url)
            if len(units) == 2:
                raise StorageError("A cable was loose. Fasten it.")

    class Killed(BaseException):
        pass

    def kill(plan, report, receipt):
        if report.done == plan.tasks:
            raise Killed

    options = {"storage": Storage((16, 16, 16), (16, 16, 16)), "sampling": Sampling(downsample=False), "running": Running(1)}
    with observe(fail_once), pytest.raises(Killed):
        plan(source, tmp_path / "ds", **options).run(progress=kill, pool=ThreadPool(1))
    report = plan(source, tmp_path / "ds", **options).run()
    assert report.done == 0
    np.testing.assert_array_equal(voxels(tmp_path / "ds"), volume)
    listed = json.loads((tmp_path / "ds" / ".wkdask" / "receipts" / "em" / "1.json").read_bytes())["units"]
    there = {str(p.relative_to(tmp_path / "ds/em/1")) for p in (tmp_path / "ds/em/1/c").rglob("*") if p.is_file()}
    assert set(listed) == there


# ------------------------------------------------------------------------------------------------------- documents


@pytest.fixture
def finished(source, tmp_path):
    plan(source, tmp_path / "ds").run()
    return tmp_path / "ds"


def change(target, *path, value):
    place = target / "datasource-properties.json"
    document = json.loads(place.read_bytes())
    inner = document
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    place.write_text(json.dumps(document))


WRONG = [
    (("version",), 99, "version"),
    (("dataLayers",), "none", "dataLayers"),
    (("dataLayers", 0, "name"), 7, "dataLayers[0].name"),
    (("dataLayers", 0, "mags"), {"1": 1}, "dataLayers[0].mags"),
    (("dataLayers", 0, "mags", 0, "mag"), "fine", "mags[0].mag"),
    (("dataLayers", 0, "boundingBox", "width"), -4, "boundingBox.width"),
    (("dataLayers", 0, "boundingBox", "width"), 1.5, "boundingBox.width"),
    (("dataLayers", 0, "elementClass"), "colour", "colour"),
    (("dataLayers", 0, "dataFormat"), 7, "dataFormat"),
    (("dataLayers", 0, "category"), None, "category"),
    (("scale", "factor"), [0, 1, 1], "scale"),
    (("scale", "unit"), "furlong", "scale.unit"),
]


@pytest.mark.parametrize(("path", "value", "named"), WRONG)
def test_documents_with_wrong_values(finished, path, value, named):
    change(finished, *path, value=value)
    before = contents(finished)
    with pytest.raises(MetadataError) as error:
        wk.Dataset.open(finished)
    check_words(error.value, str(finished / "datasource-properties.json"), named)
    assert contents(finished) == before


def test_documents_that_are_cut_off(finished, source):
    place = finished / "datasource-properties.json"
    whole = place.read_bytes()
    for end in range(0, len(whole) - 1, 40):
        place.write_bytes(whole[:end])
        for verb in (lambda: wk.Dataset.open(finished), lambda: plan(source, finished, into=Into("b")).run()):
            with pytest.raises(MetadataError) as error:
                verb()
            check_words(error.value, str(place))
        assert place.read_bytes() == whole[:end]
    assert not (finished / "b").exists()


@pytest.mark.parametrize("path", ["../ds/../secret/1", "./em/../../secret/1"])
def test_paths_that_leave_the_dataset_are_only_read(finished, tmp_path, path):
    before = wk.Dataset.open(finished).get_layer("em").get_mag(1).read()
    (tmp_path / "secret").mkdir()
    shutil.move(finished / "em" / "1", tmp_path / "secret" / "1")
    content = contents(tmp_path / "secret")
    change(finished, "dataLayers", 0, "mags", 0, "path", value=path)
    layer = wk.Dataset.open(finished).get_layer("em")
    assert (layer.get_mag(1).read() == before).all()
    assert layer.is_mag_view_foreign(1)
    for verb in (
        lambda: layer.get_mag(1).write(before),
        lambda: layer.get_mag(1).rechunk(chunk_shape=8),
        lambda: layer.upsample(from_mag=wk.Mag("2-2-1"), finest_mag=wk.Mag(1)),
    ):
        with pytest.raises(WkdaskError):
            verb()
    layer.delete_mag(1)
    layer.dataset.delete_layer("em")
    assert contents(tmp_path / "secret") == content


@pytest.mark.parametrize("path", ["%2e%2e/secret/1", "em\\..\\..\\secret", "./", "em/1/../.."])
def test_paths_that_lead_nowhere(finished, path):
    change(finished, "dataLayers", 0, "mags", 0, "path", value=path)
    layer = wk.Dataset.open(finished).get_layer("em")
    for verb in (lambda: layer.get_mag(1).read(), lambda: layer.get_mag(1).write(np.zeros((40, 50, 20), "uint8"))):
        with pytest.raises(MetadataError) as error:
            verb()
        check_words(error.value, str(finished), "em", path.replace("\\", "\\\\"))
    assert wk.Dataset.open(finished).get_layer("em").get_mag("2-2-1").read().any()


def test_layer_names_that_leave_the_dataset(finished):
    change(finished, "dataLayers", 0, "name", value="../em")
    change(finished, "dataLayers", 0, "mags", 0, "path", value=None)
    with pytest.raises(WkdaskError) as error:
        wk.Dataset.open(finished).get_layer("../em").get_mag(1).read()
    check_words(error.value, "../em")


@pytest.mark.parametrize("place", ["/etc", "/proc/self", "/none/such"])
def test_absolute_paths_to_what_is_no_array(finished, place):
    change(finished, "dataLayers", 0, "mags", 0, "path", value=place)
    with pytest.raises(DatasetError) as error:
        wk.Dataset.open(finished).get_layer("em").get_mag(1).read()
    check_words(error.value, place)


# ------------------------------------------------------------------------------------------------------- shards


def flip(data, at):
    data[at] ^= 0xFF


@pytest.mark.parametrize("where", ["middle", "index", "cut", "short", "huge"])
def test_a_damaged_shard_is_named_and_never_read_as_voxels(finished, where):
    unit = finished / "em/1/c/0/0/0/0"
    data = bytearray(unit.read_bytes())
    entries = 2 * 2 * 2 * 16 + 4
    if where == "middle":
        flip(data, 100)
    elif where == "index":
        flip(data, len(data) - entries + 3)
    elif where == "huge":
        import google_crc32c

        data[-entries + 8 : -entries + 16] = (2**62).to_bytes(8, "little")
        data[-4:] = google_crc32c.value(bytes(data[-entries:-4])).to_bytes(4, "little")
    unit.write_bytes({"cut": data[: len(data) // 2], "short": data[:5]}.get(where, data))
    mag = wk.Dataset.open(finished).get_layer("em").get_mag(1)
    with pytest.raises(DamagedError) as error:
        mag.read()
    check_words(error.value, str(unit))
    before = unit.read_bytes()
    with pytest.raises(DamagedError) as error:
        mag.write(np.zeros((3, 3, 3), "uint8"), absolute_offset=(1, 1, 1))
    check_words(error.value, str(unit))
    assert unit.read_bytes() == before
    assert mag.read(absolute_offset=(32, 0, 0), size=(8, 32, 20)).any()  # the other shards


# ------------------------------------------------------------------------------------------------------- disks


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 8 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(place)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.root
@needs_root
@pytest.mark.parametrize("strategy", ["threads", "processes"])
def test_a_disk_that_is_full_in_the_middle(small_disk, tmp_path, strategy):
    volume = stack(tmp_path / "slices", (256, 200, 96))
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(6 << 20))
    words = [
        "convert",
        tmp_path / "slices",
        small_disk / "ds",
        "--voxel-size",
        "4,4,35",
        "--layer-name",
        "em",
        "--progress",
        "none",
    ]
    words += [
        "--chunk-shape",
        "16",
        "--shard-shape",
        "32",
        "--max-mag",
        "2",
        "--jobs",
        "2",
        "--distribution-strategy",
        strategy,
    ]
    command = [sys.executable, "-m", "wkdask", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode in (1, 4), done.stderr
    assert "No space left on device" in done.stderr
    assert "Free some space" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr) < 4000
    place = small_disk / "ds" / "datasource-properties.json"
    for mag in json.loads(place.read_bytes())["dataLayers"][0]["mags"] if place.exists() else ():
        assert voxels(small_disk / "ds", mag="-".join(map(str, mag["mag"]))).all()
    ballast.unlink()
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kept"] > 0
    np.testing.assert_array_equal(voxels(small_disk / "ds"), volume)
    plan(tmp_path / "slices", tmp_path / "whole", sampling=Sampling(coarsest=wk.Mag(2))).run()
    np.testing.assert_array_equal(voxels(small_disk / "ds", mag="2-2-1"), voxels(tmp_path / "whole", mag="2-2-1"))
    assert not list((small_disk / "ds").rglob("*.tmp"))
