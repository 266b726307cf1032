"""The window: each batch once, never before what it needs, what is freed first, what failed takes its dependents along."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from wkdask.geometry.grid import Box, Tiling
from wkdask.plan import Batch, Journal, Plan, Stage
from wkdask.plan import plan as plans
from wkdask.plan import window as windows
from wkdask.plan.window import Done, Window, batch_needs
from wkdask.storage import Location


class Tasks:
    """Tasks that wait for those in a table."""

    def __init__(self, needs):
        self.needs = needs
        self.count = len(needs)

    def dependencies(self, number):
        return self.needs[number]


def plan_of(tables):
    stages = tuple(Stage(str(i), Tasks(table)) for i, table in enumerate(tables))
    return Plan("test", Journal(Location("memory://window"), "color"), {}, "", stages, (), None)


@st.composite
def tables(draw):
    """Up to four stages, whose tasks need tasks of earlier stages."""
    found = []
    for stage in range(draw(st.integers(1, 4))):
        earlier = [(s, n) for s in range(stage) for n in range(len(found[s]))]
        needs = st.lists(st.sampled_from(earlier), max_size=4, unique=True) if earlier else st.just([])
        found.append(draw(st.lists(needs, min_size=1, max_size=12)))
    return found


def lost_by(tables, failed, done):
    """The tasks that can not run when some fail, but for those that are done: the plain way."""
    lost = set()
    for stage, table in enumerate(tables):
        for number, needs in enumerate(table):
            if (stage, number) not in done and any(need in failed or need in lost for need in needs):
                lost.add((stage, number))
    return lost


@given(tables(), st.data())
def test_every_task_runs_once_after_what_it_needs_or_is_lost(tables, data):
    everything = [(s, n) for s, table in enumerate(tables) for n in range(len(table))]
    done = set(data.draw(st.lists(st.sampled_from(everything), unique=True)))
    failing = set(data.draw(st.lists(st.sampled_from(everything), unique=True, max_size=3))) - done
    batches, frontier = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 4))
    before = plans.MAX_BATCHES, windows.FRONTIER
    plans.MAX_BATCHES, windows.FRONTIER = batches, frontier
    try:
        plan = plan_of(tables)
        known = Done(map(len, tables), {s: {n for t, n in done if t == s} for s in range(len(tables))})
        window, ran, running, skipped, bad = Window(plan, known), [], [], set(), set()
        while True:
            batch = window.take()
            if batch is not None:
                running.append(batch)
                ran += [(batch.stage, n) for n in batch.numbers]
                needs = {need for n in batch.numbers for need in tables[batch.stage][n]}
                assert all(known.has(*need) for need in needs)
            if not running:
                break
            if batch is None or data.draw(st.booleans()):
                one = running.pop(data.draw(st.integers(0, len(running) - 1)))
                failed = {(one.stage, n) for n in one.numbers} & failing
                bad |= failed
                for n in one.numbers:
                    if (one.stage, n) not in failed:
                        known.add(one.stage, n)
                window.finished(window.key(one), bool(failed))
        while window.lost:
            one = window.lost.popleft()
            skipped |= {(one.stage, n) for n in one.numbers}
    finally:
        plans.MAX_BATCHES, windows.FRONTIER = before
    assert len(ran) == len(set(ran))
    assert set(ran) | skipped | done == set(everything) and not set(ran) & skipped
    size = 1 if len(everything) <= batches else -(-len(everything) // batches)
    if size == 1:
        assert skipped == lost_by(tables, bad, done)
    if not bad:
        assert not skipped and all(count == 0 for count in known.left)


def test_what_is_freed_comes_first():
    plan = plan_of([[[]] * 6, [[(0, 0), (0, 1)], [(0, 2)], [(0, 3)]], [[(1, 0), (1, 1)]]])
    done = Done([6, 3, 1], {})
    window, order = Window(plan, done), []
    while batch := window.take():
        order.append(window.key(batch))
        for number in batch.numbers:
            done.add(batch.stage, number)
        window.finished(window.key(batch))
    assert order == [(0, 0), (0, 1), (1, 0), (0, 2), (1, 1), (2, 0), (0, 3), (1, 2), (0, 4), (0, 5)]


def test_what_is_put_back_comes_last():
    window = Window(plan_of([[[]] * 3]), Done([3], {}))
    first = window.take()
    window.put_back(Batch(0, (0,)))
    assert [window.take().numbers[0] for _ in range(3)] == [1, 2, first.numbers[0]]
    assert window.take() is None


def test_a_stage_far_behind_is_not_known():
    class Asked(Tasks):
        asked = 0

        def dependencies(self, number):
            Asked.asked += 1
            return self.needs[number]

    count = 5 * windows.FRONTIER
    later = Asked([[(0, n)] for n in range(count)])
    stages = (Stage("a", Tasks([[]] * count)), Stage("b", later))
    plan = Plan("test", Journal(Location("memory://window"), "color"), {}, "", stages, (), None)
    window = Window(plan, Done([count, count], {}))
    window.take()
    assert Asked.asked == windows.FRONTIER


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 12), st.integers(1, 5)), min_size=1, max_size=4),
    st.data(),
)
def test_adjacent_tiles_as_boxes_and_runs(axes, data):
    over = Box(tuple(a for a, _, _ in axes), tuple(a + n for a, n, _ in axes))
    tiles = Tiling(over, tuple(t for _, _, t in axes))
    first = data.draw(st.integers(0, len(tiles)))
    numbers = range(first, data.draw(st.integers(first, len(tiles))))
    boxes = list(tiles.boxes(numbers))
    counted, wanted = np.zeros(over.stop, int), np.zeros(over.stop, int)
    for box in boxes:
        counted[box.slices] += 1
    for number in numbers:
        wanted[tiles.box(number).slices] += 1
    np.testing.assert_array_equal(counted, wanted)
    assert len(boxes) <= 2 * len(axes)
    low = tuple(data.draw(st.integers(0, 20)) for _ in axes)
    box = Box(low, tuple(a + data.draw(st.integers(0, 9)) for a in low))
    runs = list(tiles.runs(box))
    assert [n for run in runs for n in run] == list(tiles.covering(box))


def test_needs_together_are_the_needs_of_each():
    class Both(Tasks):
        def dependencies_of(self, numbers):
            for number in numbers:
                for stage, need in self.needs[number]:
                    yield stage, range(need, need + 1)

    table = [[(0, n), (0, n + 1)] for n in range(9)]
    stages = (Stage("a", Tasks([[]] * 10)), Stage("b", Both(table)), Stage("c", Tasks(table)))
    plan = Plan("test", Journal(Location("memory://window"), "color"), {}, "", stages, (), None)
    assert (
        set(batch_needs(plan, Batch(1, range(2, 5)), 1))
        == set(batch_needs(plan, Batch(2, range(2, 5)), 1))
        == {(0, n) for n in range(2, 6)}
    )


def test_what_was_freed_last_comes_first():
    window = Window(plan_of([[[]] * 3, [[(0, 0)], [(0, 1)]]]), Done([3, 2], {}))
    first, second = window.take(), window.take()
    window.finished(window.key(first))
    window.finished(window.key(second))
    assert [window.key(window.take()) for _ in range(3)] == [(1, 1), (1, 0), (0, 2)]
