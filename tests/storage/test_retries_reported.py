"""Retries wait as long as the store asks for; those of all processes are counted in the report of a run."""

from __future__ import annotations

import time
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import numpy as np
import pytest
import tifffile

import wkdask as wk
from wkdask.operations.copying import plan_copy_dataset
from wkdask.plan.receipt import Receipt, Report
from wkdask.storage import Location, retries


class Busy(OSError):
    """As clients of web servers have it."""

    status = 503

    def __init__(self, said: str) -> None:
        self.headers = {"Retry-After": said}


NOW = 1.7e9


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("2", 2), (formatdate(NOW + 3), 3), ("86400", retries.LONGEST_PAUSE), (formatdate(NOW - 9), 0), ("soon", 0), ("-1", 0)],
)
def test_a_store_says_how_long_to_wait(said, seconds, monkeypatch):
    """In seconds, or until when; it does not keep us longer than we would wait by ourselves."""
    monkeypatch.setattr(retries, "FIRST_PAUSE", 0.001)
    slept, answers = [], [Busy(said)]
    clock = SimpleNamespace(time=lambda: NOW, sleep=slept.append, monotonic=time.monotonic)  # of this module alone
    monkeypatch.setattr(retries, "time", clock)

    def call() -> int:
        if answers:
            raise answers.pop()
        return 7

    assert retries.persistently(call, "https://busy.invalid/a") == 7
    assert slept == [pytest.approx(seconds, abs=0.001)]


def test_the_report_adds_up_retries() -> None:
    report = Report("convert")
    for each in (2, 0, 35):
        report.add(Receipt(0, 0, worker="a", retries=each, requests=100))
    assert report.retries == 37 and "300 requests; 37 retries" in str(report)
    assert not {"retries", "requests"} & set(str(Report("convert")).split())


@pytest.mark.parametrize("shard", [64, 32, 16])
def test_requests_are_predicted_and_reported(shard, tmp_path):
    """On a memory store, which is asked as others are."""
    here, name = wk.Dataset(tmp_path / "ds", (4, 4, 4)), f"memory://{uuid4().hex}"
    layer = here.add_layer("em", "color", bounding_box=wk.BoundingBox((0, 0, 0), (128, 128, 64)))
    layer.add_mag(1, chunk_shape=16, shard_shape=shard).write(np.random.default_rng(0).integers(1, 9, (128, 128, 64), "uint8"))
    tifffile.imwrite(tmp_path / "em.tif", layer.get_mag(1).read()[0].T)
    plans = wk.Dataset.plans_from_images(tmp_path / "em.tif", f"{name}/ds", (4, 4, 4), chunk_shape=16, shard_shape=shard)
    to = plan_copy_dataset(here.location, Location(f"{name}/to"))
    for plan in (*plans, *to):
        report = plan.run()
        assert report.predicted_requests == plan.describe()["requests"]
        assert 0.6 < report.requests / report.predicted_requests < 1.5, (plan, report)
    (there := Location(f"{name}/em.zarr")).make_folder()
    volume = layer.get_mag(1).path
    for path in filter(Path.is_file, Path(volume).rglob("*")):
        (there / path.relative_to(volume).as_posix()).write_bytes(path.read_bytes())
    for z in range(64):
        tifffile.imwrite(tmp_path / "z.tif", np.full((128, 128), z, "uint8"))
        (Location(f"{name}/slices") / f"{z}.tif").write_bytes((tmp_path / "z.tif").read_bytes())
    for source in (there.url, f"{name}/slices"):
        for target in (f"{name}/from-{len(source)}", tmp_path / f"from-{len(source)}"):
            for plan in wk.Dataset.plans_from_images(source, target, (4, 4, 4), chunk_shape=16, shard_shape=shard):
                report = plan.run()
                assert 0.6 < report.requests / report.predicted_requests < 1.5, (plan, report)
