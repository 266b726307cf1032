"""``wkdask status`` and ``wkdask cancel``: what other terminals see of a run, and how they end it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest

import wkdask as wk
from tests.cli.conftest import arguments, living
from wkdask.plan import Journal, Receipt, cancelling, unfinished_jobs
from wkdask.plan.standing import Watch
from wkdask.storage import Lease, Location, observe


@pytest.fixture
def source(slices):
    return slices()[0]


@pytest.fixture
def target(tmp_path):
    return tmp_path / "ds"


@pytest.fixture
def at_work(source, target):
    with living(*arguments(source, target, "--jobs", "1")) as running:
        yield running


def run_and_look(cli, words, look, at=3):
    """Run a command, and look when its journal gets its next lines."""
    lines = []

    def seen(event, url):
        if event == "append" and "/journal/" in url.replace(os.sep, "/"):
            lines.append(url)
            if len(lines) == at:
                look()

    with observe(seen):
        return cli(*words)


def test_a_run_is_seen_while_it_lives(convert, cli, source, target):
    seen = []

    def look():
        [job] = Watch(Location(target)).look()
        receipts = list(Journal(Location(target), "em").read())
        assert job.done == len({(r.stage, r.number) for r in receipts}) == 3
        assert job.bytes_done == sum(r.bytes_in for r in receipts) > 0
        assert job.alive and job.owner.pid == os.getpid() and job.owner.host == socket.gethostname()
        assert job.last == max(r.at for r in receipts) and job.begun <= job.last + 0.2
        assert job.to_come[-1] == "em/4-4-1" and sum(s.tasks for s in job.stages) == job.tasks > 3
        seen.append(job)

    done = run_and_look(cli, arguments(source, target, "--jobs", "1", "--json"), look)
    assert done.code == 0
    assert len(seen) == 1 and seen[0].bytes_in == json.loads(done.out)["bytes_in"]
    assert Watch(Location(target)).look() == ()
    assert "nothing is unfinished" in cli("status", target).out


def stop(*_):
    raise KeyboardInterrupt


def test_one_that_was_stopped(cli, source, target):
    assert run_and_look(cli, arguments(source, target, "--jobs", "1"), stop).code == 130
    found = json.loads(cli("status", target, "--json").out)
    [job] = found["jobs"]
    assert (found["command"], found["run"], job["alive"], job["owner"]) == ("status", None, False, None)
    assert 3 <= job["tasks_done"] < job["tasks"] and job["layer"] == "em" and job["seconds_left"] is None
    assert job["command"].startswith("wkdask convert")
    text = cli("status", target, "--watch").out
    assert "nobody works on it; wkdask resume goes on" in text and f"{job['tasks_done']} of {job['tasks']} tasks" in text
    assert cli("cancel", target).out == "Nothing is running.\n"
    assert json.loads(cli("cancel", target, "--json").out)["asked"] == []


def test_there_must_be_a_dataset(cli, tmp_path):
    for command in ("status", "cancel", "clean"):
        refused = cli(command, tmp_path)
        assert refused.code == 1 and "is no dataset" in refused.err


def test_a_living_process_is_named_refuses_a_second_run_and_hears_cancel(at_work, convert, cli, source, target):
    [job] = json.loads(cli("status", target, "--json").out)["jobs"]
    assert job["alive"] and job["owner"]["pid"] == at_work.pid
    assert f"at work: process {at_work.pid} on {socket.gethostname()}" in cli("status", target).out
    second = convert(source, target)
    assert second.code == 6 and f"process {at_work.pid} on {socket.gethostname()}, since 2" in second.err
    refused = cli("clean", target, "--yes")
    assert refused.code == 6 and str(at_work.pid) in refused.err
    assert json.loads(cli("cancel", target, "--layer-name", "other", "--json").out)["asked"] == []
    asked = cli("cancel", target)
    assert f"process {at_work.pid} on {socket.gethostname()} was told to stop" in asked.out
    assert at_work.wait(timeout=30) == 130
    assert "Stopped" in at_work.stderr.read()
    assert cli("resume", target, "--json").code == 0
    assert unfinished_jobs(Location(target)) == {}


def test_one_that_was_killed_holds_nobody_up(at_work, cli, target):
    at_work.kill()
    at_work.wait()
    assert f"dead: process {at_work.pid}" in cli("status", target).out
    assert cli("cancel", target).out == "Nothing is running.\n"
    assert cli("resume", target).code == 0


def test_a_run_of_another_host_is_asked_by_the_file(cli, source, target, monkeypatch):
    monkeypatch.setattr(cancelling, "CHECK_SECONDS", 0.0)
    said = []

    def look():
        place = Location(target) / ".wkdask" / "run.json"
        mine = place.read_bytes()
        elsewhere = json.loads(mine) | {"host": "elsewhere", "pid": 1}
        place.write_bytes(json.dumps(elsewhere).encode())
        said.append(
            subprocess.run([sys.executable, "-m", "wkdask", "cancel", target], capture_output=True, text=True, check=True)
        )
        place.write_bytes(mine)

    stopped = run_and_look(cli, arguments(source, target, "--jobs", "1"), look)
    assert "process 1 on elsewhere will stop when it looks" in said[0].stdout
    assert stopped.code == 130 and "Stopped after" in stopped.err
    assert cancelling.is_asked(Journal(Location(target), "em"))
    done = cli("resume", target, "--json")
    assert done.code == 0 and json.loads(done.out)["kept"] >= 3


def test_a_graph_of_dask_hears_it_too_and_frees_the_dataset(source, target, monkeypatch):
    monkeypatch.setattr(cancelling, "CHECK_SECONDS", 0.0)
    options = {"layer_name": "em", "voxel_size": (4, 4, 35), "chunk_shape": 16, "shard_shape": 32}
    [plan] = wk.Dataset.plans_from_images(source, target, **options)
    asked = []

    def ask(event, url):
        if event == "append" and not asked:
            asked.append(url)
            cancelling.ask_to_stop(plan.journal)

    with observe(ask), pytest.raises(wk.errors.InterruptedRunError, match="wkdask cancel"):
        plan.compute(scheduler="sync")
    assert plan.compute(scheduler="sync").kept >= 1
    assert wk.Dataset.open(target).get_layer("em").get_mag(1).read().any()


def test_failures_are_told_until_they_are_mended(tmp_path):
    journal = Journal(Location(tmp_path / "ds"), "em")
    document = {"fingerprint": "f", "name": "n", "command": "", "settings": {}, "layout": [], "tasks": [3, 2]}
    journal.begin(document, "")
    watch = Watch(journal.target)
    bad = [Receipt(0, n, "failed", error=f"bad {n}") for n in range(3)]
    journal.write([*bad, Receipt(1, 9, "failed", error="not of this plan"), Receipt(0, 3), Receipt(5, 0)])
    [job] = watch.look()
    assert (job.done, job.failed, job.errors) == (0, 3, ("bad 0", "bad 1", "bad 2"))
    journal.write([Receipt(0, 1), Receipt(1, 0), Receipt(0, 1)])
    [job] = watch.look()
    assert [(s.done, s.failed) for s in job.stages] == [(1, 2), (1, 0)] and job.errors == ("bad 0", "bad 2")
    [fresh] = Watch(journal.target).look()
    assert fresh == job
    journal.remove()
    assert watch.look() == ()


def test_lines_that_are_torn_or_endless_do_no_harm(tmp_path, monkeypatch):
    from wkdask.plan import following

    monkeypatch.setattr(following, "PIECE_BYTES", 512)
    journal = Journal(Location(tmp_path / "ds"), "em")
    journal.begin({"fingerprint": "f", "name": "n", "settings": {}, "layout": [], "tasks": [50]}, "")
    watch, folder = Watch(journal.target), journal.folder / "journal"
    lines = [Receipt(0, n, bytes_in=10).to_line() for n in range(50)]
    data = b"".join(lines[:20]) + b"x" * 3000 + b"\n" + b"{}\n[]\n\xff\n" + b"".join(lines[20:]) + lines[0]
    (folder / "a.jsonl").write_bytes(b"")
    for cut in range(0, len(data), 97):  # as it grows
        (folder / "a.jsonl").append(data[cut : cut + 97])
        [job] = watch.look()
        whole = data[: cut + 97].rpartition(b"\n")[0].splitlines()
        assert job.done <= len({line for line in whole if line in {one.strip() for one in lines}})
    assert job.done >= 47 and job.bytes_done == 10 * job.done


def test_the_rate_is_that_of_the_last_minute(tmp_path, monkeypatch):
    journal = Journal(Location(tmp_path / "ds"), "em")
    stages = [{"name": "write", "bytes_in": 10_000}]
    document = {"fingerprint": "f", "name": "n", "settings": {}, "layout": [], "tasks": [1000], "stages": stages}
    journal.begin(document, "")
    times = [0.0, *np.linspace(10_000, 10_100, 101)]  # long ago, then one each second
    for number, at in enumerate(times):
        monkeypatch.setattr("time.time", lambda at=at: 1e9 + at)
        journal.write([Receipt(0, number, bytes_in=20)])
    with Lease(journal.target / ".wkdask" / "run.json", "n"):
        [job] = Watch(journal.target).look()
        assert job.rate == pytest.approx(20) and job.bytes_done == 20 * 102
        assert job.seconds_left == pytest.approx((10_000 - 2040) / 20)


def test_workers_that_share_a_job_are_told(tmp_path):
    journal = Journal(Location(tmp_path / "ds"), "em")
    journal.begin({"fingerprint": "f", "name": "n", "settings": {}, "layout": [], "tasks": [9]}, "")
    owner = Lease(journal.folder / "x", "n")._owner
    dead = replace(owner, host="elsewhere", renewed=owner.renewed - 1000)
    for number, holder in enumerate([owner, dead]):
        (journal.folder / "workers" / f"{number}.json").write_bytes(json.dumps(asdict(holder)).encode())
    (journal.folder / "workers" / "torn.json").write_bytes(b"{")
    [job] = Watch(journal.target).look()
    assert [worker.pid for worker in job.workers] == [os.getpid()] and job.alive


def test_workers_that_share_a_job_hear_cancel(cli, source, target, monkeypatch):
    monkeypatch.setattr(cancelling, "CHECK_SECONDS", 0.0)
    words = arguments(source, target, "--jobs", "1", "--distribution-strategy", "leases")
    said = []
    stopped = run_and_look(cli, words, lambda: said.append(Watch(Location(target)).look()) or ask_all(target))
    assert stopped.code == 130
    assert [worker.pid for worker in said[0][0].workers] == [os.getpid()]
    assert json.loads(cli("status", target, "--json").out)["jobs"][0]["workers"] == []
    assert cli("resume", target).code == 0


def ask_all(target):
    cancelling.ask_to_stop(Journal(Location(target), "em"))


@pytest.mark.parametrize(
    "document", [b"{", b"[]", b'{"tasks": 3, "stages": 4, "begun": "x"}', b'{"tasks": [9e99, -4, 1], "begun": 1e300}']
)
def test_hostile_plans(cli, tmp_path, document):
    journal = Journal(Location(tmp_path / "ds"), "em")
    (journal.folder / "plan.json").write_bytes(document)
    journal.write([Receipt(0, 0)])
    assert cli("status", tmp_path / "ds").code == 0
    assert cli("status", tmp_path / "ds", "--json").code == 0
