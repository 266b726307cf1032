"""What a plan knows without doing anything: sizes, batches, dependencies, and that files have one writer each."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wkdask.formats import ArraySpec, Zarr3
from wkdask.geometry.grid import Box
from wkdask.operations.level import Level
from wkdask.operations.mirroring import mirrored, read_mirrored
from wkdask.operations.pyramid import Room, build_stages, chosen_tiles
from wkdask.operations.tiles import JoinUnits, WriteTiles
from wkdask.plan import Journal, Plan
from wkdask.plan.plan import MAX_BATCHES
from wkdask.storage import Location

JOURNAL = Journal(Location("memory://arithmetic"), "color")


class Nothing:
    """A source that costs nothing to describe, and a byte beside each voxel to read."""

    def __init__(self, growth="xyz"):
        self.growth = growth

    def bytes_read(self, box):
        return box.size

    def bytes_beside(self, box):
        return box.size

    def needs(self, box):
        return ()

    def describe(self, tile):
        return "nothing"


def levels_of(start, shape, factors, chunk=(1, 8, 8, 8), unit=(1, 32, 32, 32)):
    """A pyramid of levels over a box that may begin anywhere."""
    levels, box = [], Box((0, *start), (1, *(a + n for a, n in zip(start, shape, strict=True))))
    for number, factor in enumerate([(1, 1, 1), *factors]):
        box = box.coarsened((1, *factor))
        size = tuple(-(-n // u) * u for n, u in zip(box.stop, unit, strict=True))
        spec = ArraySpec(size, "uint8", ("c", "x", "y", "z"), chunk, unit)
        array = Zarr3().at(JOURNAL.target / "color" / str(number), spec)
        levels.append(Level(f"color/{number}", array, box, (1, *factor), "max"))
    return levels


def plan_of(stages):
    return Plan("test", JOURNAL, {}, "", tuple(stages), (), None)


small = st.tuples(*[st.integers(0, 20)] * 3)
shapes = st.tuples(*[st.integers(1, 150)] * 3)
factor_lists = st.lists(st.sampled_from([(2, 2, 1), (2, 2, 2), (1, 1, 2), (2, 1, 1), (4, 4, 2), (1, 1, 4)]), max_size=5)


leasts = st.just(()) | st.tuples(st.just(1), *[st.sampled_from([8, 16, 24, 40, 48])] * 3)


rooms = st.builds(Room, st.integers(1, 8), st.sampled_from([1 << 9, 1 << 13, 1 << 18, 1 << 26]), leasts)


@given(small, shapes, factor_lists, rooms, st.sampled_from(["xy", "yx", "xyz"]))
def test_chunks_of_all_levels_are_written_exactly_once(start, shape, factors, room, growth):
    levels = levels_of(start, shape, factors)
    stages, last = build_stages(Nothing(growth), levels, room, JOURNAL)
    assert len(last) == len(levels)
    writers = [stage.operation for stage in stages if isinstance(stage.operation, WriteTiles)]
    assert [level.name for w in writers for level in w.levels] == [level.name for level in levels]
    for writer in writers:
        for level in writer.levels:
            covered = np.zeros(level.box.shape, np.uint8)
            files = []
            for number in range(writer.count):
                region = level.region(writer.tiles.box(number))
                covered[region.relative_to(level.box.start).slices] += 1
                chunk = level.array.spec.chunk
                assert all(
                    (a % c == 0 or a == low) and (b % c == 0 or b == high)
                    for a, b, c, low, high in zip(
                        region.start, region.stop, chunk, level.box.start, level.box.stop, strict=True
                    )
                )
                for index, _ in level.pieces(region):
                    place = level.array.unit_location(index) if level.direct else level.part(JOURNAL, index, number)
                    files.append(place.url)
            assert (covered == 1).all()
            assert len(files) == len(set(files))


@given(small, shapes, factor_lists, st.sampled_from([1 << 9, 1 << 13, 1 << 18]))
def test_joins_take_all_parts_and_wait_for_them(start, shape, factors, tile_bytes):
    stages, _ = build_stages(Nothing(), levels_of(start, shape, factors), Room(2, tile_bytes), JOURNAL)
    for stage in stages:
        if not isinstance(stage.operation, JoinUnits):
            continue
        join = stage.operation
        writer = stages[join.stage].operation
        made = {}
        for number in range(writer.count):
            for index, _ in join.level.pieces(join.level.region(writer.tiles.box(number))):
                made.setdefault(index, set()).add(number)
        for number in range(join.count):
            index = join.level.units.cell(number)
            assert {tile for _, tile in join.dependencies(number)} == made.pop(index)
            assert len(list(join.consumes(number))) == len(list(join.dependencies(number)))
        assert not made


@given(small, shapes, factor_lists, st.sampled_from([1 << 9, 1 << 13, 1 << 18]))
def test_later_stages_wait_for_the_units_that_they_read(start, shape, factors, tile_bytes):
    stages, last = build_stages(Nothing(), levels_of(start, shape, factors), Room(2, tile_bytes), JOURNAL)
    for at, stage in enumerate(stages):
        if not isinstance(stage.operation, WriteTiles) or at == 0:
            continue
        source = stage.operation.source
        finer = next(i for i, s in enumerate(stages) if source.array == _finest_written(s))
        complete = stages[last[[lv.array for s in stages for lv in _levels(s)].index(source.array)]].operation
        assert finer < at
        for number in range(stage.count):
            box = stage.operation.tiles.box(number).refined(source.factor).intersect(source.box)
            needed = {index for index, _ in _level_of(stages, source.array).pieces(box)}
            waits = set(stage.operation.dependencies(number))
            assert waits
            if isinstance(complete, JoinUnits):
                assert needed <= {complete.level.units.cell(n) for _, n in waits}


def _levels(stage):
    return stage.operation.levels if isinstance(stage.operation, WriteTiles) else ()


def _finest_written(stage):
    return stage.operation.levels[-1].array if isinstance(stage.operation, WriteTiles) else None


def _level_of(stages, array):
    return next(level for stage in stages for level in _levels(stage) if level.array == array)


def test_a_layout_can_be_repeated():
    levels = levels_of((3, 0, 5), (100, 90, 80), [(2, 2, 1), (2, 2, 2)])
    stages, _ = build_stages(Nothing(), levels, Room(2, 1 << 14), JOURNAL)
    chosen = [(tuple(row[:-1]), row[-1]) for row in chosen_tiles(stages)]
    again, _ = build_stages(Nothing(), levels, Room(13, 1 << 26), JOURNAL, chosen)
    assert [s.operation for s in again if isinstance(s.operation, JoinUnits)] == [
        s.operation for s in stages if isinstance(s.operation, JoinUnits)
    ]
    assert chosen_tiles(again) == chosen_tiles(stages)


def test_a_huge_plan_is_described_by_arithmetic():
    levels = levels_of((0, 0, 0), (500_000, 500_000, 30_000), [(2, 2, 1)] * 8, (1, 32, 32, 32), (1, 32, 32, 32))
    tracemalloc.start()
    stages, _ = build_stages(Nothing(), levels, Room(2, 1 << 20), JOURNAL)
    plan = plan_of(stages)
    text, document = str(plan), plan.describe()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert plan.tasks > 10**8
    assert document["tasks"] == plan.tasks and str(plan.tasks) in text
    assert peak < 10 << 20


@given(st.integers(1, 10**6), st.integers(1, 100))
def test_batches_hold_each_task_once(count, stages):
    class Tasks:
        def __init__(self, n):
            self.count = n

    from wkdask.plan import Stage

    plan = plan_of([Stage(str(n), Tasks(count // stages + n % 3)) for n in range(stages)])
    batches = list(plan.batches())
    assert len(batches) <= MAX_BATCHES + stages
    for a, b in pairwise(batches):
        assert (a.stage, a.numbers[-1] + 1) == (b.stage, b.numbers[0]) or (a.stage < b.stage and b.numbers[0] == 0)
    assert sum(len(batch.numbers) for batch in batches) == plan.tasks
    done = {0: frozenset(range(0, plan.stages[0].count, 2))}
    assert sum(len(b.numbers) for b in plan.batches(done)) == plan.tasks - len(done[0])


@given(st.integers(-30, 60), st.integers(1, 20), st.integers(0, 10), st.integers(1, 25))
def test_mirroring_is_numpys_symmetric_padding(start, length, low, size):
    stop, high = start + length, low + size
    before, after = max(0, low - start), max(0, stop - high)
    padded = np.pad(np.arange(low, high), (before, after), mode="symmetric")
    wanted = padded[start - (low - before) :][:length]
    np.testing.assert_array_equal(mirrored(start, stop, low, high), wanted)


@pytest.mark.parametrize("box", [Box((0, -2, 1), (1, 9, 4)), Box((0, 2, 0), (1, 5, 9)), Box((0, 0, 0), (1, 7, 5))])
def test_reading_beyond_a_domain_mirrors(box):
    voxels = np.asfortranarray(np.arange(35).reshape(1, 7, 5))
    domain = Box((0, 1, 0), (1, 7, 5))
    found = read_mirrored(lambda inner: voxels[inner.slices], box, domain)
    rows = mirrored(box.start[1], box.stop[1], 1, 7)
    columns = mirrored(box.start[2], box.stop[2], 0, 5)
    np.testing.assert_array_equal(found, voxels[:, rows][:, :, columns])
    assert found.flags.f_contiguous


@given(small, shapes, factor_lists, st.sampled_from([1 << 9, 1 << 13, 1 << 18]), st.data())
def test_adjacent_tasks_need_together_what_each_needs(start, shape, factors, tile_bytes, data):
    stages, _ = build_stages(Nothing(), levels_of(start, shape, factors), Room(2, tile_bytes), JOURNAL)
    operation = data.draw(st.sampled_from(stages)).operation
    first = data.draw(st.integers(0, operation.count - 1))
    numbers = range(first, data.draw(st.integers(first + 1, min(operation.count, first + 60))))
    each = {need for number in numbers for need in operation.dependencies(number)}
    assert {(stage, n) for stage, run in operation.dependencies_of(numbers) for n in run} == each
