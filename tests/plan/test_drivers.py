"""The three drivers over the same plans: whole runs, tasks that fail once or always, what is left done by any other driver."""

from __future__ import annotations

import signal
from collections import Counter

import pytest

from tests.plan.test_estimates import files_of, planned
from tests.plan.test_leases import begin, end, written
from tests.plan.toys import Pairs, toy_plan
from wkdask.errors import InterruptedRunError, LockedError, UnitsFailedError
from wkdask.plan import Batch, LeasePool, Plan, ThreadPool
from wkdask.plan.execute import execute
from wkdask.storage import observe

DRIVERS = {
    "window": lambda plan: plan.run(pool=ThreadPool(2)),
    "graph": lambda plan: plan.compute(scheduler="sync"),
    "leases": lambda plan: plan.run(pool=LeasePool(2)),
}


@pytest.fixture(params=DRIVERS)
def drive(request):
    return DRIVERS[request.param]


@pytest.fixture(params=[Plan, Pairs])
def kind(request):
    return request.param


def published(seen):
    """Return a storage observer that counts what is published of the toys."""

    def note(event, url):
        if event == "publish" and "/toys/" in url and "/.wkdask/" not in url:
            seen[url.rpartition("/")[2]] += 1

    return note


def names(target):
    return {path.name for path in (target / "toys").iterdir()}


WHOLE = {f"0-{n}" for n in range(12)} | {f"1-{n}" for n in range(4)} | {"2-0"}
COMMITTED = {"listed-0", "listed-2", "all"}


def check_whole(target):
    assert names(target) == WHOLE | COMMITTED
    order = (target / "toys" / "2-0").read_text().split()
    assert order == [w for n in range(4) for w in (*(f"0-{i}" for i in range(3 * n, 3 * n + 3)), f"1-{n}")] + ["2-0"]
    assert (target / "toys" / "all").read_text().split() == sorted(WHOLE)
    assert (target / "toys" / "listed-2").read_text() == "0 11"
    left = target / ".wkdask" / "jobs"
    assert not left.exists() or not list(left.rglob("*"))
    assert not (target / ".wkdask" / "run.json").exists()


def test_a_whole_run_writes_everything_once(tmp_path, drive, kind):
    seen = Counter()
    with observe(published(seen)):
        report = drive(toy_plan(tmp_path / "ds", kind=kind))
    check_whole(tmp_path / "ds")
    assert set(seen) == WHOLE | COMMITTED and set(seen.values()) == {1}
    assert (report.done, report.kept, report.failed, report.skipped) == (17, 0, 0, 0)


def test_a_task_that_fails_always(tmp_path, drive, kind):
    (tmp_path / "fail-0-4").touch()
    with pytest.raises(UnitsFailedError, match="toy 0-4 always fails") as raised:
        drive(toy_plan(tmp_path / "ds", kind=kind))
    assert raised.value.exit_code == 4
    lost = {"0-4", "1-1", "2-0"} | ({"1-0"} if kind is Pairs else set())
    assert WHOLE - names(tmp_path / "ds") == lost and not names(tmp_path / "ds") & COMMITTED
    (tmp_path / "fail-0-4").unlink()
    seen = Counter()
    with observe(published(seen)):
        report = drive(toy_plan(tmp_path / "ds", kind=kind))
    check_whole(tmp_path / "ds")
    assert set(seen) == lost | COMMITTED
    assert (report.done, report.kept) == (len(lost), 17 - len(lost))


@pytest.mark.parametrize("first", DRIVERS)
@pytest.mark.parametrize("then", DRIVERS)
def test_one_driver_goes_on_where_another_stopped(tmp_path, first, then):
    (tmp_path / "fail-0-7").touch()
    with pytest.raises(UnitsFailedError):
        DRIVERS[first](toy_plan(tmp_path / "ds"))
    (tmp_path / "fail-0-7").unlink()
    gone = tmp_path / "ds" / "toys" / "0-2"
    gone.unlink()
    assert DRIVERS[then](toy_plan(tmp_path / "ds")).done == 4
    assert gone.exists()
    check_whole(tmp_path / "ds")


@pytest.mark.parametrize("driver", ["window", "leases"])  # the graph leaves retries to its scheduler
def test_a_task_that_fails_once(tmp_path, driver, kind):
    (tmp_path / "once-0-4").touch()
    report = DRIVERS[driver](toy_plan(tmp_path / "ds", kind=kind))
    check_whole(tmp_path / "ds")
    assert (report.done, report.failed) == (17, 0)


def test_a_run_that_is_stopped_goes_on(tmp_path, drive):
    def stop(event, url):
        if event == "publish" and url.endswith("/0-3"):
            raise KeyboardInterrupt

    with observe(stop), pytest.raises((InterruptedRunError, KeyboardInterrupt)):
        drive(toy_plan(tmp_path / "ds"))
    assert not list((tmp_path / "ds").rglob("workers/*"))
    (tmp_path / "ds" / ".wkdask" / "run.json").unlink(missing_ok=True)  # of the graph, whose process still lives
    drive(toy_plan(tmp_path / "ds"))
    check_whole(tmp_path / "ds")


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_run_that_is_killed_does_again_what_was_in_flight(tmp_path, driver):
    """Nobody is kept out by the dead one; no other task is done twice."""
    (tmp_path / "die-0-7").touch()
    code, _, said = end(begin(tmp_path / "ds", 12, 2, driver))
    assert code == -signal.SIGKILL, said
    before = Counter({name: n for name, n in written(tmp_path / "ds").items() if name in WHOLE})
    seen = Counter()
    with observe(published(seen)):
        report = DRIVERS[driver](toy_plan(tmp_path / "ds"))
    check_whole(tmp_path / "ds")
    assert report.done + report.kept == 17 and report.done == sum(seen[name] for name in WHOLE)
    twice = before & seen
    assert before and set(twice) <= WHOLE and twice.total() <= 1  # the other thread's task
    assert set(before | seen) == WHOLE | COMMITTED and max(before.values()) == max(seen.values()) == 1


def test_a_worker_that_was_cut_off_goes_on_writing(tmp_path, drive, kind):
    """What it was given others do, too; it publishes and tells of it while they go on, and after all is done."""
    plan, late = toy_plan(tmp_path / "ds", kind=kind), []

    def cut_off(event, url):
        if event == "publish" and url.endswith("/1-0") and not late:
            late.append(Batch(0, (0, 1, 2)))
            execute(plan, late[0])

    with observe(cut_off):
        report = drive(plan)
    assert late and (report.done + report.kept, report.failed) == (17, 0)
    check_whole(tmp_path / "ds")
    for batch in (*late, Batch(1, (3,)), Batch(2, (0,))):
        assert {receipt.state for receipt in execute(plan, batch)} == {"done"}
    assert names(tmp_path / "ds") == WHOLE | COMMITTED
    (tmp_path / "ds" / "toys" / "0-5").unlink()
    again = drive(plan)  # what the late one has told the journal is believed by nobody
    assert (again.done, again.kept) == (17, 0)
    check_whole(tmp_path / "ds")


def test_voxels_stay_when_all_is_written_late_once_more(images, tmp_path, drive):
    """Tiles, and joins whose parts are gone, of a worker that was cut off when others did them."""
    plan = planned(images, tmp_path / "ds", tile_bytes=60_000)
    assert drive(plan).done == plan.tasks
    whole = files_of(tmp_path / "ds")
    for stage in plan.stages:
        for number in reversed(range(stage.count)):
            execute(plan, Batch(plan.stages.index(stage), (number,)))
    late = {name: data for name, data in files_of(tmp_path / "ds").items() if not name.startswith(".wkdask/jobs/")}
    assert any(stage.name.startswith("join") for stage in plan.stages) and late == whole


@pytest.mark.parametrize("driver", DRIVERS)
def test_refused_while_an_ordinary_run_has_the_dataset(tmp_path, driver):
    from wkdask.plan.execute import lease

    plan = toy_plan(tmp_path / "ds")
    with lease(plan), pytest.raises(LockedError, match=r"in use by process \d+ on .*, since .*toys"):
        DRIVERS[driver](plan)
    assert not (tmp_path / "ds" / "toys").exists()
    DRIVERS[driver](plan)
    check_whole(tmp_path / "ds")
