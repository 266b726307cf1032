"""Which receipts of an earlier run a task may believe."""

from __future__ import annotations

import pickle
from dataclasses import astuple, replace

import numpy as np
import pytest

from wkdask.formats import ArraySpec, find_format
from wkdask.geometry.grid import Box
from wkdask.operations.level import Level
from wkdask.operations.pyramid import Room, build_stages
from wkdask.operations.read_only import Seen
from wkdask.operations.tiles import JoinUnits, WriteTiles
from wkdask.plan import FileRecord, Journal, Receipt
from wkdask.storage import Location


class Noise:
    """A source of voxels of which few are zero, but for the last of x."""

    growth = "xyz"

    def read(self, box):
        found = np.asfortranarray(np.random.default_rng(0).integers(1, 200, box.shape).astype("uint8"))
        found[:, max(0, 32 - box.start[1]) :] = 0
        return found

    def bytes_read(self, box):
        return box.size

    def bytes_beside(self, box):
        return 0

    def needs(self, box):
        return ()

    def describe(self, tile):
        return "noise"


def stages_over(folder, data_format, tile_bytes):
    """Two levels over 48 x 24 x 24 voxels, in units of 16; small tiles leave parts of the second."""
    journal = Journal(Location(str(folder)), "color")
    levels = []
    for number, (box, factor) in enumerate([((48, 24, 24), 1), ((24, 12, 12), 2)]):
        spec = ArraySpec((1, 48, 32, 32), "uint8", tuple("cxyz"), (1, 8, 8, 8), (1, 16, 16, 16))
        array = find_format(data_format).create(journal.target / "color" / str(number + 1), spec)
        steps = (1, factor, factor, factor)
        levels.append(Level(f"color/{number + 1}", array, Box((0, 0, 0, 0), (1, *box)), steps, "max"))
    return build_stages(Noise(), levels, Room(1, tile_bytes), journal)[0]


@pytest.fixture(params=["zarr3", "wkw"])
def stages(request, tmp_path):
    """Stages that wrote tiles of one chunk and joined them; parts are still there."""
    found = stages_over(tmp_path, request.param, 8**3)
    assert [type(stage.operation) for stage in found] == [WriteTiles, JoinUnits, WriteTiles, JoinUnits]
    return found


def records_of(stages):
    """Do all tasks; return the records of each stage's files."""
    return [
        [record for number in range(stage.count) for record in stage.operation.run(at, number).files]
        for at, stage in enumerate(stages)
    ]


def test_tasks_believe_receipts_of_their_own_stage_alone(stages):
    records = records_of(stages)
    assert any(record.size == 0 for record in records[1])
    for stage, own in zip(stages, records, strict=True):
        for other in records:
            expected = other is own
            assert all(stage.operation.is_intact(record) is expected for record in other)
            assert not any(stage.operation.is_intact(replace(record, path=f"elsewhere/{record.path}")) for record in other)


def test_a_join_is_not_done_because_a_file_is_missing(stages):
    join = stages[1].operation
    names = ["color/2/c/0/0/0/0", "color/10/c/0/0/0/0", "other", "", ".wkdask/jobs/color/parts/1/0.0.0.0/0.part"]
    assert not any(join.is_intact(FileRecord(name, 0, 0, 0)) for name in names)
    assert not any(stages[0].operation.is_intact(FileRecord(name, 0, 0, 0)) for name in names[:-1])


def test_a_receipt_travels_whole():
    files = (FileRecord("a/b", 2, 3, 4, 5), FileRecord("a/c", 0, 0, 0))
    receipt = Receipt(1, 2, "failed", files, 3.5, 4, 5, 6.5, 7.5, "why", True, True, "who", 8, 9, 10, 11.5)
    assert astuple(pickle.loads(pickle.dumps(receipt))) == astuple(receipt)
    seen = Seen(*astuple(receipt)[:3], files, *astuple(receipt)[4:], damage="torn")
    assert pickle.loads(pickle.dumps(seen)) == seen
    assert len({str(value) for value in astuple(receipt)}) == len(astuple(receipt)) - 1  # but for the two that are True
