"""Receipts as lines, and when tasks of a batch are written into the journal."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.plan.toys import Pairs, Toys, toy_plan
from wkdask.errors import InterruptedRunError
from wkdask.plan import Batch, FileRecord, Receipt
from wkdask.plan import execute as executing
from wkdask.plan.execute import begin, execute
from wkdask.storage import observe

COUNTS = st.integers(0, 2**62)
EXTREMES = st.none() | st.integers(-(2**63), 2**64) | st.floats(allow_nan=False)
FILES = st.builds(FileRecord, st.text(st.characters(exclude_categories=["Cs"])), COUNTS, COUNTS, COUNTS, st.none() | COUNTS)
SECONDS = st.integers(0, 10**9).map(lambda n: n / 10**4)


@given(COUNTS, COUNTS, st.lists(FILES, max_size=3).map(tuple), SECONDS, COUNTS, COUNTS, EXTREMES, EXTREMES, st.floats(1, 1e10))
def test_a_line_says_all(stage, number, files, seconds, read, written, low, high, at):
    receipt = Receipt(stage, number, "done", files, seconds, read, written, low, high, at=at)
    line = receipt.to_line()
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    found = Receipt.of_line(line)
    assert found == receipt and found.at == at
    assert set(json.loads(line)) == {"stage", "number", "files", "seconds", "in", "out", "low", "high", "at"}


def written_by(plan, batch):
    """Return how many tasks the journal had after each writing of it."""
    seen = []

    def note(event, url):
        if event == "append" and "/journal/" in url:
            seen.append(len(list(plan.journal.read())))

    with observe(note):
        try:
            execute(plan, batch)
        except InterruptedRunError:
            seen.append("interrupted")
    return seen


@pytest.mark.parametrize(("bound", "expected"), [(1e9, [6]), (-1.0, [1, 2, 3, 4, 5, 6])])
def test_quick_tasks_are_written_together(tmp_path, monkeypatch, bound, expected):
    monkeypatch.setattr(executing, "JOURNAL_SECONDS", bound)
    plan = toy_plan(tmp_path / "ds", kind=Pairs)
    begin(plan)
    found = written_by(plan, Batch(0, range(6)))
    assert [count for count in found if count] == expected


def test_what_is_done_before_a_stop_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(executing, "JOURNAL_SECONDS", 1e9)
    plan, real = toy_plan(tmp_path / "ds", kind=Pairs), Toys.run
    begin(plan)

    def stopped(self, stage, number):
        if number == 4:
            raise InterruptedRunError("Stopped.")
        return real(self, stage, number)

    monkeypatch.setattr(Toys, "run", stopped)
    assert written_by(plan, Batch(0, range(6))) == [4, "interrupted"]
