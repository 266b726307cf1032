"""Workers that can not do our tasks, and schedulers that go away: named, and nothing hangs."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

import wkdask as wk
from tests.clusters.conftest import HOME, PATIENCE, wait_until
from tests.clusters.test_slurm import plan_of
from wkdask.clusters import open_pool
from wkdask.clusters.worker_check import Expected, unfit
from wkdask.errors import InputError, PlanError
from wkdask.plan import Journal
from wkdask.storage import Location


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Start a scheduler, and workers by the words before theirs; give the address and the scheduler's process."""
    monkeypatch.setenv("PYTHONPATH", str(HOME))
    from distributed import Client

    children = []

    place = tmp_path / "address.json"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path}  # -m looks there first

    def work(*before: str, threads: int = 1):
        words = [sys.executable, "-m", "dask", "worker", "--host", "127.0.0.1", "--no-nanny", "--no-dashboard"]
        words += ["--nthreads", str(threads), "--scheduler-file", str(place)]
        children.append(subprocess.Popen([*before, *words], **quiet))
        return children[-1]

    def started(*before: str):
        words = [sys.executable, "-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
        children.append(subprocess.Popen([*words, "--scheduler-file", str(place)], **quiet))
        wait_until(place.exists, children[0])
        work(*before)
        with Client(scheduler_file=str(place), set_as_default=False, timeout=PATIENCE) as client:
            client.wait_for_workers(1, timeout=PATIENCE)
            return client.scheduler.address, children[0]

    started.work, started.children = work, children
    yield started
    for child in reversed(children):
        child.kill()
        child.wait(timeout=PATIENCE)


@pytest.fixture
def other_version(tmp_path):
    """Words before those that start a worker with another version."""
    other = tmp_path / "other"
    shutil.copytree(HOME / "wkdask", other / "wkdask", ignore=shutil.ignore_patterns("__pycache__"))
    (other / "wkdask/_version.py").write_text('__version__ = "99.9"\n')
    return "env", f"PYTHONPATH={other}"


def test_another_version(start, other_version, stack, tmp_path):
    address, _ = start(*other_version)
    with pytest.raises(InputError, match=rf"worker tcp://.* has wkdask 99.9, where {wk.__version__} is expected"):
        plan_of(stack[0], tmp_path / "ds").run(pool=open_pool(address))
    assert not list((tmp_path / "ds").rglob("c/*"))


def test_unfit_workers_that_come_later_leave(start, other_version, stack, tmp_path, caplog):
    """What they were given is done by the others, and nothing fails."""
    address, _ = start()
    plan, pool, late = plan_of(stack[0], tmp_path / "ds"), open_pool(address), []

    def tell(plan, report, receipt):
        if report.done >= 3 and not late:
            late.append(start.work(*other_version, threads=4))
            wait_until(lambda: workers(pool) == 2, late[0])
        if report.done == plan.tasks:
            wait_until(lambda: late[0].poll() is not None and "leaves the cluster" in caplog.text)

    report = plan.run(pool=pool, progress=tell)
    assert (report.failed, report.done) == (0, plan.tasks)
    assert f"has wkdask 99.9, where {wk.__version__} is expected; it leaves the cluster" in caplog.text


def test_only_unfit_workers_are_left(start, other_version, stack, tmp_path):
    address, _ = start()
    plan, pool, late = plan_of(stack[0], tmp_path / "ds"), open_pool(address), []

    def tell(plan, report, receipt):
        if report.done >= 3 and not late:
            late.append(start.work(*other_version))
            wait_until(lambda: workers(pool) == 2, late[0])
            start.children[1].kill()
            wait_until(lambda: workers(pool) == 1, late[0])

    with pytest.raises(PlanError, match=r"Only workers that can not do this have come: worker tcp://.* has wkdask 99\.9"):
        plan.run(pool=pool, progress=tell)
    assert plan_of(stack[0], tmp_path / "ds").run(pool=open_pool("threads", 2)).kept >= 3


def workers(pool):
    return len(pool.launcher.client.scheduler_info(n_workers=-1)["workers"])


def test_a_folder_that_is_not_shared(start, stack, tmp_path):
    """The worker has a file system of its own in the place of the dataset."""
    target = tmp_path / "there" / "ds"
    target.parent.mkdir()
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        from tests.conftest import absent

        absent("needs to run as root: unshare --mount")
    script = f'mount -t tmpfs none "{target.parent}" && exec "$@"'
    address, _ = start("unshare", "--mount", "sh", "-c", script, "sh")
    with pytest.raises(InputError, match=rf"worker tcp://.* does not see what this process sees in {target}"):
        plan_of(stack[0], target).run(pool=open_pool(address))
    assert not list(target.rglob("c/*"))


def test_the_scheduler_is_killed(start, stack, tmp_path):
    address, scheduler = start()
    plan = plan_of(stack[0], tmp_path / "ds")

    def tell(plan, report, receipt):
        if report.done >= 3 and scheduler.poll() is None:
            scheduler.kill()

    with pytest.raises(PlanError, match=rf"The Dask scheduler at {address} is gone. Start one, and run the same again"):
        plan.run(pool=open_pool(address), progress=tell)
    report = plan_of(stack[0], tmp_path / "ds").run(pool=open_pool("threads", 2))
    assert report.kept >= 3
    assert report.kept + report.done == plan.tasks


def test_what_is_expected():
    import dataclasses

    here = Expected.of()
    assert unfit(here) == ""
    other = dataclasses.replace(here, versions=(*here.versions, ("nothing", "1.0")))
    assert unfit(other) == "has nothing not at all, where 1.0 is expected"
    journal = Journal(Location("memory://nowhere"), "em")
    assert "does not see" in unfit(dataclasses.replace(here, journal=journal, fingerprint="a"))
