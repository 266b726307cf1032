"""Several processes share one plan through its folder: each task once; who dies is replaced; what fails is told to all."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.plan.toys import toy_plan
from wkdask.errors import LockedError, PlanRefusedError, UnitsFailedError
from wkdask.plan import Journal, LeasePool, Receipt, ThreadPool
from wkdask.plan import claims as claims_module
from wkdask.plan.claims import Claims, living_workers_of
from wkdask.plan.following import Follower
from wkdask.storage import Lease, Location
from wkdask.storage.lease import VOID_SECONDS, current_owner

HOME = Path(__file__).parents[2]
PROGRAM = "import sys; sys.path.insert(0, sys.argv.pop(1)); from tests.plan.toys import main; "
PROGRAM += "main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])"
DEADLINE = 60


def begin(target, width=12, threads=1, *driver):
    words = [sys.executable, "-c", PROGRAM, str(HOME), str(target), str(width), str(threads), *driver]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(child):
    out, said = child.communicate(timeout=DEADLINE)
    return child.returncode, json.loads(out) if out.strip() else {}, said


def until(true):
    """Wait for others, who are sure to come."""
    deadline = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < deadline, "nobody came"
        time.sleep(0.005)


def written(target):
    return Counter(Path(f"{target}-published").read_text().split())


def check_whole(target, width):
    whole = {f"0-{n}" for n in range(width)} | {f"1-{n}" for n in range(width // 3)} | {"2-0"}
    assert {path.name for path in (target / "toys").iterdir()} == whole | {"listed-0", "listed-2", "all"}
    assert (target / "toys" / "all").read_text().split() == sorted(whole)
    assert not list((target / ".wkdask" / "jobs").glob("*/*"))
    assert (target / "toys" / "listed-2").read_text() == f"0 {width - 1}"


def test_nothing_is_written_twice(tmp_path):
    target, width = tmp_path / "ds", 150
    (tmp_path / "hold-0-0").touch()
    children = [begin(target, width, threads) for threads in (1, 2, 3)]
    until(lambda: len(living_workers_of(Location(str(target)))) == 3)
    (tmp_path / "hold-0-0").unlink()
    ended = [end(child) for child in children]
    assert [code for code, _, _ in ended] == [0, 0, 0], ended
    check_whole(target, width)
    assert set(written(target).values()) == {1}
    assert sum(report["done"] for _, report, _ in ended) <= width + width // 3 + 1
    assert any(report["done"] + report["kept"] == width + width // 3 + 1 for _, report, _ in ended)


def test_one_that_is_killed_is_replaced(tmp_path):
    target = tmp_path / "ds"
    for sign in ("hold-0-0", "hold-0-1"):
        (tmp_path / sign).touch()
    doomed = begin(target)
    until((tmp_path / "held-0-0").exists)
    other = begin(target)
    until((tmp_path / "held-0-1").exists)
    doomed.send_signal(signal.SIGKILL)
    doomed.wait(DEADLINE)
    for sign in ("hold-0-0", "hold-0-1"):
        (tmp_path / sign).unlink()
    code, report, said = end(other)
    assert (code, report.get("done")) == (0, 17), said
    check_whole(target, 12)
    assert set(written(target).values()) == {1}
    doomed.communicate()


def test_one_that_kills_itself_in_a_task_is_replaced(tmp_path):
    (tmp_path / "die-0-5").touch()
    first = begin(tmp_path / "ds")
    assert end(first)[0] == -signal.SIGKILL
    report = toy_plan(tmp_path / "ds").run(pool=LeasePool(2))
    assert (report.done, report.kept) == (11, 6)
    check_whole(tmp_path / "ds", 12)


def test_a_failure_is_told_to_the_others(tmp_path):
    target = tmp_path / "ds"
    (tmp_path / "fail-0-0").touch()
    (tmp_path / "hold-0-1").touch()
    first = begin(target)
    until((tmp_path / "held-0-1").exists)

    def let_go(plan, report, receipt):
        if report.failed:
            (tmp_path / "hold-0-1").unlink(missing_ok=True)

    with pytest.raises(UnitsFailedError, match="toy 0-0 always fails"):
        toy_plan(target).run(pool=LeasePool(1), progress=let_go)
    code, _, said = end(first)
    assert code == 4 and "toy 0-0 always fails" in said and "Run the same again" in said
    assert not (target / "toys" / "1-0").exists() and (target / "toys" / "1-1").exists()
    (tmp_path / "fail-0-0").unlink()
    assert toy_plan(target).run(pool=LeasePool(1)).done == 3
    check_whole(target, 12)


@pytest.fixture
def held(tmp_path):
    """A worker of another process that is in the middle of a task."""
    (tmp_path / "hold-0-0").touch()
    child = begin(tmp_path / "ds")
    until((tmp_path / "held-0-0").exists)
    yield child
    (tmp_path / "hold-0-0").unlink(missing_ok=True)
    assert end(child)[0] == 0
    check_whole(tmp_path / "ds", 12)


def test_ordinary_runs_are_refused_meanwhile(tmp_path, held):
    for drive in (lambda plan: plan.run(pool=ThreadPool(1)), lambda plan: plan.compute(scheduler="sync")):
        with pytest.raises(LockedError, match=rf"in use by process {held.pid} on .*, since .*toys"):
            drive(toy_plan(tmp_path / "ds"))
        with pytest.raises(LockedError, match=str(held.pid)):
            drive(toy_plan(tmp_path / "ds", key="other"))


def test_other_plans_are_refused_meanwhile(tmp_path, held):
    with pytest.raises(PlanRefusedError, match="which is another one: toys"):
        toy_plan(tmp_path / "ds", name="others").run(pool=LeasePool(1))
    with pytest.raises(PlanRefusedError, match="width was 12, now 15"):
        toy_plan(tmp_path / "ds", 15).run(pool=LeasePool(1))
    again = toy_plan(tmp_path / "ds", 15)
    journal = replace(again.journal, instead_of=toy_plan(tmp_path / "ds").fingerprint)
    with pytest.raises(LockedError, match=f"process {held.pid} on .* can not be given up"):
        replace(again, journal=journal).run(pool=LeasePool(1))


def test_who_only_joins_begins_nothing(tmp_path):
    report = toy_plan(tmp_path / "ds").run(pool=LeasePool(1, begins=False))
    assert (report.done, report.kept) == (0, 17) and not (tmp_path / "ds" / "toys").exists()


def test_stores_serve_too_unless_they_ignore_conditions(monkeypatch):
    assert toy_plan("memory://leases/ds").run(pool=LeasePool(1)).done == 17
    monkeypatch.setattr("wkdask.plan.leases.refuses_conflicts", lambda target: False)
    with pytest.raises(PlanRefusedError, match="it ignores conditions"):
        toy_plan("memory://leases/other").run(pool=LeasePool(1))


# -------------------------------------------------------------------------------------------------- claims


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.setattr(claims_module, "TRUST_SECONDS", 0.0)
    return Journal(Location(str(tmp_path / "ds")), "toys")


def worker_of(claims):
    return claims._workers / f"{claims._name}.json"


def change(claims, **what):
    place = worker_of(claims)
    place.write_bytes(json.dumps(asdict(current_owner(place)) | what).encode())


def test_a_batch_has_one_owner(job):
    one, other = Claims(job, "one"), Claims(job, "other")
    one.enter(), other.enter()
    assert one.take((0, 3)) and not other.take((0, 3))
    other.look()
    assert not other.is_free((0, 3)) and other.is_free((0, 4))
    one.release((0, 3))
    other.look()
    assert other.is_free((0, 3)) and other.take((0, 3))
    other.leave(), one.leave()
    assert living_workers_of(job.target) == []


@pytest.mark.parametrize(
    ("what", "free"),
    [
        ({"host": "elsewhere"}, False),
        ({"host": "elsewhere", "renewed": VOID_SECONDS + 1}, True),
        ({"host": "elsewhere", "renewed": VOID_SECONDS / 2}, False),
        ({"started": 1.0}, True),
        ({"pid": 2**22 + 1}, True),
    ],
)
def test_whose_owner_is_gone_is_free_to_one(job, what, free):
    gone, one, other = Claims(job, "gone"), Claims(job, "one"), Claims(job, "other")
    for claims in (gone, one, other):
        claims.enter()
    assert gone.take((1, 2))
    if "renewed" in what:
        what = what | {"renewed": time.time() - what["renewed"]}
    change(gone, **what)
    one.look(), other.look()
    assert [one.is_free((1, 2)), other.is_free((1, 2))] == [free, free]
    if free:
        assert [one.take((1, 2)), other.take((1, 2))] == [True, False]
        other.look()
        assert not other.is_free((1, 2))
    for claims in (gone, one, other):
        claims.leave()


def test_nonsense_in_the_folder_of_claims_stops_nobody(job):
    claims = Claims(job, "one")
    claims.enter()
    folder = job.folder / "claims"
    for name, data in {"0-0-0.json": b"\xff", "0-1-0.json": b'{"worker": "../../run"}', "x": b"", "0-2.json": b"[]"}.items():
        (folder / name).write_bytes(data)
    for name, data in {"9-0.json": b"{", "0-7.json": b"[[1]]", "../x": b""}.items():
        (job.folder / "failed" / name).write_bytes(data)
    claims.look()
    assert all(claims.is_free((0, n)) and claims.take((0, n)) for n in range(3))
    assert dict(claims.failures()) == {(9, 0): [], (0, 7): []}
    claims.leave()


def test_an_owner_of_another_kind_is_gone(job):
    with Lease(job.folder / "workers" / "one.json", "x"):
        assert len(living_workers_of(job.target)) == 1
        (job.folder / "workers" / "two.json").write_bytes(b"{}")
        assert len(living_workers_of(job.target)) == 1
    assert living_workers_of(job.target) == []


def test_a_journal_is_followed(job):
    follower = Follower(job)
    assert list(follower.new()) == []
    receipts = [Receipt(0, n, "done") for n in range(5)]
    job.write(receipts[:2])
    assert list(follower.new()) == receipts[:2] and list(follower.new()) == []
    other = job.folder / "journal" / "other-1.jsonl"
    line = receipts[2].to_line()
    other.append(line[:9])
    job.write(receipts[3:4])
    assert list(follower.new()) == receipts[3:4]
    other.append(line[9:])
    assert list(follower.new()) == receipts[2:3]
    other.append(b'{"torn')
    other.append(b"\n" + receipts[4].to_line())
    assert list(follower.new()) == receipts[4:]
    job.folder.delete()
    assert list(follower.new()) == []


def test_what_no_longer_stands_is_forgotten(job):
    job.write(Receipt(0, n, "done") for n in range(5))
    job.keep({0: frozenset({1, 3})})
    assert [r.number for r in job.read()] == [1, 3]
    job.keep({0: frozenset({1, 3})})
    job.write([Receipt(0, 4, "done")])
    assert sorted(r.number for r in job.read()) == [1, 3, 4]
