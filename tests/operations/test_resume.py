"""A run that is killed at any moment goes on, redoes only what was in flight, and ends with the same files."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wkdask.clusters import open_pool
from wkdask.errors import LockedError, PlanRefusedError
from wkdask.geometry import Mag
from wkdask.images import find_images
from wkdask.metadata import VoxelSize
from wkdask.operations import Into, Running, Sampling, Storage, plan_convert
from wkdask.plan import Journal, Receipt, ThreadPool
from wkdask.plan.execute import execute, lease
from wkdask.storage import WORK_FOLDER, Location

HERE = Path(__file__).parent


def plan(source, target, **options):
    options = {"storage": Storage((16, 16, 16), (32, 32, 32)), "sampling": Sampling(coarsest=Mag(8)), **options}
    options = {"into": Into("color", "color", "ds"), "running": Running(2), **options}
    return plan_convert(find_images(source), target, VoxelSize((4, 4, 35)), **options)


def files(target):
    folders = (path for path in target.iterdir() if path.name != WORK_FOLDER)  # from which a run deletes meanwhile
    found = (path for top in folders for path in (top, *top.rglob("*")) if path.is_file())
    return {str(path.relative_to(target)): path.read_bytes() for path in found}


class Stop(BaseException):
    """Ends a run in the middle, as a kill would, but in this process."""


def stopped(source, target, after):
    """Run until so many tasks are done."""

    def tell(plan, report, receipt):
        if report.done >= after:
            raise Stop

    with pytest.raises(Stop):
        plan(source, target).run(progress=tell, pool=ThreadPool(1))


@pytest.mark.timeout(300)
def test_kill_after_changes(make_stack, tmp_path, kill):
    source, _ = make_stack((40, 50, 40))
    changes = kill(str(HERE / "kill_driver.py"), str(source), str(tmp_path / "runs"))
    assert changes > 50


def test_sigkill_at_random_times(make_stack, tmp_path):
    source, _ = make_stack((300, 300, 60))
    command = [sys.executable, "-m", "wkdask", "convert", str(source), "", "--voxel-size", "4,4,35", "--layer-name", "color"]
    command += ["--chunk-shape", "16", "--shard-shape", "64", "--progress", "none", "--name", "ds", "--jobs", "1"]
    command[5] = str(tmp_path / "whole")
    subprocess.run(command, check=True, capture_output=True)
    rng = random.Random(7)
    command[5] = str(tmp_path / "killed")
    kills = 0
    for attempt in range(40):
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if attempt < 6:
            until_it_works(child, tmp_path / "killed")
            time.sleep(rng.uniform(0, 0.1))
            child.send_signal(signal.SIGKILL)
        said = child.communicate(timeout=100)[1]
        kills += child.returncode == -signal.SIGKILL
        if child.returncode != -signal.SIGKILL:
            assert child.returncode == 0, said
            break
    assert kills
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def until_it_works(child, target):
    """Wait until a run holds its lease, so that it is past its imports; it may be over before we look."""
    while child.poll() is None:
        lease = target / WORK_FOLDER / "run.json"
        with contextlib.suppress(OSError, ValueError):
            if json.loads(lease.read_bytes())["pid"] == child.pid:
                return
        time.sleep(0.002)


def damage_truncate(unit):
    unit.write_bytes(unit.read_bytes()[:-100])


def damage_empty(unit):
    unit.write_bytes(b"")


def damage_delete(unit):
    unit.unlink()


def damage_replace(unit):
    unit.write_bytes(unit.read_bytes())  # equal bytes, but somebody wrote them later


def damage_index(unit):
    """Other bytes in the index, with size and time as they were."""
    stat = unit.stat()
    data = bytearray(unit.read_bytes())
    data[-30] ^= 1
    unit.write_bytes(bytes(data))
    os.utime(unit, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize("damage", [damage_truncate, damage_empty, damage_delete, damage_replace, damage_index])
def test_damaged_units_are_redone(make_stack, tmp_path, damage):
    source, _ = make_stack((40, 50, 40))
    plan(source, tmp_path / "whole").run()
    total = plan(source, tmp_path / "ds").tasks
    stopped(source, tmp_path / "ds", total - 3)
    units = sorted(path for path in (tmp_path / "ds").rglob("*") if path.is_file() and "/c/" in str(path))
    assert units
    damage(units[0])
    report = plan(source, tmp_path / "ds").run()
    assert report.kept < total - 3
    assert files(tmp_path / "ds") == files(tmp_path / "whole")


def test_without_damage_nothing_is_redone(make_stack, tmp_path):
    source, _ = make_stack((40, 50, 40))
    total = plan(source, tmp_path / "ds").tasks
    stopped(source, tmp_path / "ds", total - 3)
    journal = plan(source, tmp_path / "ds").journal
    finished = len({(r.stage, r.number) for r in journal.read()})
    report = plan(source, tmp_path / "ds").run()
    assert (report.kept, report.done) == (finished, total - finished)
    assert report.kept >= total - 3


def test_other_settings_are_refused(make_stack, tmp_path):
    source, _ = make_stack((40, 50, 40))
    stopped(source, tmp_path / "ds", 2)
    before = files(tmp_path / "ds")
    with pytest.raises(PlanRefusedError, match="kernel was 'median', now 'max'"):
        plan(source, tmp_path / "ds", sampling=Sampling(coarsest=Mag(8), interpolation="max")).run()
    (source / "slice_3.tif").touch()
    with pytest.raises(PlanRefusedError, match="input files changed"):
        plan(source, tmp_path / "ds").run()
    assert files(tmp_path / "ds") == before


def test_other_jobs_may_go_on(make_stack, tmp_path):
    source, _ = make_stack((40, 50, 40))
    stopped(source, tmp_path / "ds", 2)
    other = plan(source, tmp_path / "ds", running=Running(7, 10**9))
    assert other.run().kept >= 2
    plan(source, tmp_path / "whole").run()
    assert files(tmp_path / "ds") == files(tmp_path / "whole")


def test_a_plan_made_before_a_run_in_other_tiles_is_refused(make_stack, tmp_path, monkeypatch):
    source, _ = make_stack((150, 90, 40))
    one = plan(source, tmp_path / "ds")
    monkeypatch.setattr("wkdask.operations.convert.TILE_BYTES", 1 << 14)
    other = plan(source, tmp_path / "ds")
    assert one.layout != other.layout
    stopped(source, tmp_path / "ds", 2)
    with pytest.raises(PlanRefusedError, match="Make the plan anew"):
        one.run()
    assert plan(source, tmp_path / "ds").run().kept >= 2


def test_receipts_of_another_job_are_not_believed(make_stack, tmp_path):
    source, _ = make_stack((40, 50, 40))
    first = plan(source, tmp_path / "ds")
    first.journal.write(Receipt(0, number) for number in range(first.stages[0].count))
    stopped(source, tmp_path / "ds", 1)
    plan(source, tmp_path / "ds").run()
    plan(source, tmp_path / "whole").run()
    assert files(tmp_path / "ds") == files(tmp_path / "whole")


def test_a_finished_job_is_over_before_its_receipts_go(make_stack, tmp_path, monkeypatch):
    source, _ = make_stack((20, 20, 20))
    target = tmp_path / "ds"
    seen = []
    monkeypatch.setattr("wkdask.storage.location.notify", lambda event, url: event == "delete" and seen.append(url))
    mine = plan(source, target)
    mine.run()
    assert seen.index(mine.journal.folder.url + "/plan.json") < len(seen) - 1 - seen[::-1].index(mine.journal.folder.url)


def test_tasks_whose_worker_died_before_it_could_tell_are_done_again(make_stack, tmp_path):
    class Twice(ThreadPool):
        def start(self, plan, batches):
            twice = [lambda batch=batch: execute(plan, batch) and execute(plan, batch) for batch in batches]
            return [self._executor.submit(call) for call in twice]

    source, _ = make_stack((40, 50, 40))
    report = plan(source, tmp_path / "ds").run(pool=Twice(2))
    assert report.failed == 0
    plan(source, tmp_path / "whole").run()
    assert files(tmp_path / "ds") == files(tmp_path / "whole")


def test_a_torn_line_costs_no_other(tmp_path):
    journal = Journal(Location(tmp_path), "color")
    journal.write([Receipt(0, 1)])
    (name,) = (journal.folder / "journal").names()
    (journal.folder / "journal" / name).append(b'{"stage":0,"num')
    journal.write([Receipt(0, 2)])
    assert [receipt.number for receipt in journal.read()] == [1, 2]


def test_a_worker_that_is_killed_is_replaced(make_stack, tmp_path):
    source, _ = make_stack((40, 50, 40))
    pool = open_pool("processes", 1)
    killed = []

    def tell(plan, report, receipt):
        if report.done == 3 and not killed:
            killed.extend(pool._executor._processes)
            os.kill(killed[0], signal.SIGKILL)

    assert plan(source, tmp_path / "ds").run(pool=pool, progress=tell).failed == 0
    plan(source, tmp_path / "whole").run()
    assert killed and files(tmp_path / "ds") == files(tmp_path / "whole")


def test_a_second_run_is_refused_and_told_who(make_stack, tmp_path):
    source, _ = make_stack((40, 50, 40))
    mine = plan(source, tmp_path / "ds")
    with lease(mine), pytest.raises(LockedError, match=f"process {os.getpid()} on "):
        plan(source, tmp_path / "ds").run()
    mine.run()


def test_no_unfinished_mag_is_ever_listed(make_stack, tmp_path):
    source, _ = make_stack((40, 50, 40))
    plan(source, tmp_path / "whole").run()
    whole, seen = files(tmp_path / "whole"), set()

    def tell(plan, report, receipt):
        document = tmp_path / "ds" / "datasource-properties.json"
        if document.exists():
            now = files(tmp_path / "ds")
            for mag in json.loads(document.read_bytes())["dataLayers"][0]["mags"]:
                prefix = mag["path"].removeprefix("./")
                seen.add(prefix)
                assert {n: b for n, b in now.items() if n.startswith(prefix)} == {
                    n: b for n, b in whole.items() if n.startswith(prefix)
                }

    plan(source, tmp_path / "ds").run(progress=tell)
    assert seen
