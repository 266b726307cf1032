"""What is told of a run while it runs: lines of JSON, a bar in notebooks, a line for each task in the log."""

from __future__ import annotations

import json
import logging
import sys
from types import SimpleNamespace

import pytest

import wkdask as wk
from tests.cli.conftest import arguments
from wkdask.plan.notebook import NotebookProgress, notebook_progress
from wkdask.storage import observe


@pytest.fixture
def source(slices):
    return slices()[0]


def rows_of(text):
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_lines_of_json(convert, source, tmp_path, monkeypatch):
    from wkdask.cli import output

    monkeypatch.setattr(output, "JSON_SECONDS", 0.0)
    done = convert(source, tmp_path / "ds", "--progress", "json", "--json", "--jobs", "1")
    rows, report = rows_of(done.err), json.loads(done.out)
    assert [row["event"] for row in rows] == ["begin", *["progress"] * (report["done"] - 1), "done"]
    assert [row["tasks_done"] for row in rows] == list(range(report["done"] + 1))
    assert rows[-1]["bytes_done"] == rows[-1]["bytes"] == report["bytes_in"] and rows[-1]["seconds_left"] == 0
    assert all(row["target"] == str(tmp_path / "ds") and row["tasks"] == report["done"] for row in rows)
    assert report["workers"] and all(worker["peak_bytes"] > 0 for worker in report["workers"])


def test_no_more_than_one_a_second(convert, source, tmp_path, monkeypatch):
    from wkdask.cli import output

    monkeypatch.setattr(output, "JSON_SECONDS", 1e9)
    rows = rows_of(convert(source, tmp_path / "ds", "--progress", "json").err)
    assert [row["event"] for row in rows] == ["begin", "done"]


def test_a_failed_task_is_told_with_its_error(convert, source, tmp_path):
    def break_it(event, url):
        if event == "publish" and "/1/c/" in url:
            raise ValueError("broken here")

    with observe(break_it):
        done = convert(source, tmp_path / "ds", "--progress", "json", "--jobs", "1")
    failed = [row for row in rows_of(done.err) if row["event"] == "failed"]
    assert done.code == 4 and failed and "broken here" in failed[0]["error"] and failed[-1]["tasks_failed"] == len(failed)


def test_plain_lines_are_30_seconds_apart(cli, source, tmp_path, monkeypatch):
    from wkdask.cli import output

    clock = iter(range(0, 10_000, 10))
    monkeypatch.setattr(output, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    done = cli(*arguments(source, tmp_path / "ds", "--jobs", "1", "--progress", "plain", "--json"))
    assert 2 < len(done.err.splitlines()) < json.loads(done.out)["done"]
    assert "\x1b" not in done.err


def test_a_line_for_each_task_in_the_log(convert, source, tmp_path, caplog):
    with caplog.at_level(logging.DEBUG, "wkdask"):
        report = json.loads(convert(source, tmp_path / "ds", "--json").out)
    lines = [record.getMessage() for record in caplog.records if record.name == "wkdask" and "done in" in record.getMessage()]
    assert len(lines) == report["done"] and any(line.startswith("write 1 0: done in") for line in lines)


class Shown:
    """Stands for a notebook's output."""

    def __init__(self):
        self.drawn = []

    def __call__(self, data, *, raw, display_id):
        self.drawn.append(data)
        return SimpleNamespace(update=lambda data, raw: self.drawn.append(data))


def test_a_notebook_draws_it(source, tmp_path, monkeypatch):
    from wkdask.plan import notebook

    monkeypatch.setattr(notebook, "DRAW_SECONDS", 0.0)
    shown = Shown()
    options = {"layer_name": "em", "voxel_size": (4, 4, 35), "chunk_shape": 16, "shard_shape": 32}
    [plan] = wk.Dataset.plans_from_images(source, tmp_path / "ds", **options)
    report = plan.run(progress=NotebookProgress(shown))
    assert len(shown.drawn) == report.done + 1
    assert f'<progress value="{plan.tasks}" max="{plan.tasks}">' in shown.drawn[-1]["text/html"]
    assert f"{plan.tasks} of {plan.tasks} tasks" in shown.drawn[-1]["text/plain"]


def test_only_a_kernel_is_a_notebook(monkeypatch):
    for shell, drawn in ((None, False), (SimpleNamespace(), False), (SimpleNamespace(kernel=1), True)):
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda shell=shell: shell))
        monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=print))
        assert (notebook_progress() is not None) == drawn
