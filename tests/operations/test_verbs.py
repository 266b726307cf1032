"""Faults in the middle of every verb that writes: kills, damaged files, inputs that change, full disks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import NOBODY
from tests.operations.verb_driver import check_listed, files, listed, replace, truncate
from tests.operations.verbs import VERBS
from wkdask.errors import InputChangedError, StorageError, UnitsFailedError

DRIVER = Path(__file__).parent / "verb_driver.py"
GROUPS = [list(VERBS)[n::6] for n in range(6)]
TELLING = [verb for verb in VERBS.values() if verb.name != "write-dask"]  # in time for a fault to come after a task
KNOWN_INPUTS = [verb for verb in VERBS.values() if verb.reads]


def begun(folder, verb):
    """Return a folder with what a verb begins with."""
    folder.mkdir(parents=True)
    verb.begin(folder)
    return folder


@pytest.mark.parametrize(
    ("kills", "damages"), [(2, 2), pytest.param(0, 5, marks=[pytest.mark.soak, pytest.mark.timeout(0)])], ids=["some", "every"]
)
@pytest.mark.timeout(300)
@pytest.mark.parametrize("names", GROUPS, ids=lambda names: names[0])
def test_killed_or_damaged_verbs_end_as_if_nothing_had_been(tmp_path, names, kills, damages):
    for name in names:
        begun(tmp_path / name / "begin", VERBS[name])
    environment = {**os.environ, "WKDASK_KILLS": str(kills or ""), "WKDASK_DAMAGES": str(damages)}
    command = [sys.executable, str(DRIVER), str(tmp_path), *names]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.keys() == set(names)
    assert all(killed >= (kills or 10) and damaged == damages for killed, damaged in found.values()), found


@pytest.mark.parametrize("verb", KNOWN_INPUTS, ids=lambda verb: verb.name)
@pytest.mark.parametrize(("change", "after"), [(truncate, 0), (replace, 1)], ids=["cut off", "replaced"])
def test_nothing_is_listed_that_was_made_of_a_changed_input(tmp_path, verb, change, after):
    folder = begun(tmp_path / "it", verb)
    file, before, calls = verb.source(folder), listed(folder), []

    def tell(plan, report, receipt):
        if len(calls) == after:
            change(file)
        calls.append(receipt)

    plan = verb.plan(folder)
    with pytest.raises(InputChangedError, match=file.name):
        plan.run(progress=tell)
    place = folder / "ds" / "datasource-properties.json"
    if before and change is replace:
        assert listed(folder).keys() == before.keys()
    elif not before:
        assert not place.exists() or not listed(folder)


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """A file system of 4 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    folder = tmp_path_factory.mktemp("small") / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill(disk, left):
    """Fill a disk but for some pages; return the file that does."""
    filler = disk / "filler"
    room = os.statvfs(disk)
    filler.write_bytes(bytes(max(0, room.f_bavail - left) * room.f_bsize))
    return filler


def open_files(folder):
    """Return the files in a folder that this process has open, or mapped."""
    links = (Path(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd"))
    mapped = Path("/proc/self/maps").read_text().splitlines()
    return [name for name in (*(os.readlink(link) for link in links if link.is_symlink()), *mapped) if str(folder) in name]


@pytest.mark.parametrize("left", [0, 2])
@pytest.mark.parametrize("verb", VERBS.values(), ids=lambda verb: verb.name)
def test_a_full_disk_is_told_and_the_run_goes_on_when_there_is_room(tmp_path, disk, verb, left):
    whole = begun(tmp_path / "whole", verb)
    folder = Path(shutil.copytree(whole, disk / "it"))
    before, filler = listed(folder), None
    try:
        verb.plan(whole).run()
        plan = verb.plan(folder)
        filler = fill(disk, left)
        with pytest.raises((StorageError, UnitsFailedError), match=r"No space left|room|full"):
            plan.run()
        check_listed(listed(folder), before, listed(whole))
        filler.unlink()
        verb.plan(folder).run()
        assert not open_files(folder)
        assert files(folder) == files(whole)
    finally:
        if filler is not None:
            filler.unlink(missing_ok=True)
        shutil.rmtree(folder)


@pytest.fixture
def open_folder():
    """A folder that every user of the machine can reach."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    allow(folder, 0o777)
    shutil.rmtree(folder)


def allow(folder, mode):
    """Give all folders in a folder a mode."""
    for path, _, _ in os.walk(folder):
        os.chmod(path, mode)


def give_away(folder):
    """Let a folder and all in it be nobody's."""
    for path, _, names in os.walk(folder):
        for name in (".", *names):
            os.chown(Path(path, name), NOBODY, NOBODY)


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("verb", TELLING, ids=lambda verb: verb.name)
def test_permission_that_is_lost_is_told_and_the_run_goes_on_when_it_is_back(open_folder, unprivileged, verb, after):
    whole, calls = begun(open_folder / "whole", verb), []
    folder = Path(shutil.copytree(whole, open_folder / "it"))
    before = listed(folder)
    verb.plan(whole).run()  # which imports all: others may not read our Python
    if os.geteuid() == 0:
        give_away(folder)

    def tell(plan, report, receipt):
        if len(calls) == after:
            allow(folder / "ds", 0o555)
        calls.append(receipt)

    with unprivileged():
        with pytest.raises((StorageError, UnitsFailedError), match=r"(?i)permission denied"):
            verb.plan(folder).run(progress=tell)
        check_listed(listed(folder), before, listed(whole))
        allow(folder, 0o755)
        verb.plan(folder).run()
    assert files(folder) == files(whole)


def test_the_table_holds_verbs_whose_voxels_are_not_all_alike(tmp_path):
    for verb in (VERBS["convert-zarr3"], VERBS["map-blocks"]):
        folder = begun(tmp_path / verb.name, verb)
        verb.plan(folder).run()
        assert all(len(np.unique(voxels)) > 50 for _, voxels in listed(folder).values())
