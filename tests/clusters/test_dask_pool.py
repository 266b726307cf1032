"""Batches on a Dask cluster: many short ones travel together, and what one of them meets is no other's business."""

from __future__ import annotations

import pytest
from distributed import Client, LocalCluster

from tests.plan.toys import toy_plan
from wkdask.clusters.connected import Connected
from wkdask.clusters.dask_pool import MOST_AHEAD, DaskPool
from wkdask.plan import Batch


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster:
        yield cluster


@pytest.fixture
def pool(cluster):
    with DaskPool(Connected(cluster.scheduler_address)) as pool:
        yield pool


def test_a_plan_of_short_tasks(cluster, tmp_path, monkeypatch):
    asked = []
    gather = Client.gather
    monkeypatch.setattr(Client, "gather", lambda self, some, **more: asked.append(len(some)) or gather(self, some, **more))
    report = toy_plan(tmp_path / "ds", width=400).run(pool=DaskPool(Connected(cluster.scheduler_address)))
    assert report.failed == 0 and sum(asked) == report.done and max(asked) > 1


def test_short_batches_wait_in_greater_numbers(pool):
    assert pool.room == 2 * pool.slots == 4
    pool._rate = 100.0
    assert pool.room == 25
    pool._rate = 1e9
    assert pool.room == MOST_AHEAD * 2


def test_the_rate_follows_what_ends(pool, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("wkdask.clusters.dask_pool.time.monotonic", lambda: now[0])
    pool._noted = now[0]
    for _ in range(60):
        now[0] += 0.1
        pool._note_rate(20)
    assert pool._rate == pytest.approx(200, rel=0.01)
    now[0] += 10
    pool._note_rate(1)
    assert pool._rate == pytest.approx(0.1, abs=0.05)


class Torn:
    """Numbers of tasks that end in an error."""

    def __getitem__(self, index):
        if index:
            raise TypeError("torn")
        return 0


def test_one_that_fails_takes_no_other_along(pool, tmp_path):
    plan = toy_plan(tmp_path / "ds")
    good, bad = pool.start(plan, [Batch(0, range(2)), Batch(0, Torn())])
    found = pool.results([wait(bad), wait(good)])
    assert isinstance(found[0], TypeError)
    assert [receipt.state for receipt in found[1]] == ["done", "done"]


def wait(future):
    future.exception(timeout=20)
    return future


def test_one_that_is_lost_is_asked_for_alone(pool, tmp_path, monkeypatch):
    def fails(self, futures):
        raise OSError("lost")

    futures = [wait(future) for future in pool.start(toy_plan(tmp_path / "ds"), [Batch(0, range(2)), Batch(0, range(2, 3))])]
    monkeypatch.setattr(Client, "gather", fails)
    assert [[receipt.number for receipt in found] for found in pool.results(futures)] == [[0, 1], [2]]


def test_what_is_tried_again_is_another_task(pool, tmp_path):
    batch, plan = Batch(0, range(2)), toy_plan(tmp_path / "ds")
    (first,), (second,) = pool.start(plan, [batch]), pool.start(plan, [batch])
    assert first.key != second.key
    assert {future.key.partition("-")[0] for future in (first, second)} == {plan.stages[0].name.partition("-")[0]}
