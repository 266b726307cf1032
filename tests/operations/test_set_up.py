"""A run that ends at any change while it sets up, in any format, goes on, and what it left can be overwritten."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from wkdask.errors import DatasetExistsError
from wkdask.formats import FORMATS
from wkdask.geometry import Mag
from wkdask.images import find_images
from wkdask.metadata import FILE_NAME, VoxelSize
from wkdask.operations import Coarser, Into, Running, Sampling, Storage, check_overwritable, plan_convert, plan_downsample
from wkdask.plan import Plan, ThreadPool, unfinished_jobs
from wkdask.storage import WORK_FOLDER, Location, observe

CHANGES = ("publish", "append", "commit", "delete")


class Stopped(BaseException):
    """Ends a run in the middle, as a kill would, but in this process."""


def files(target: Path) -> dict[str, bytes]:
    found = (path for path in target.rglob("*") if path.is_file() and WORK_FOLDER not in path.parts)
    return {str(path.relative_to(target)): path.read_bytes() for path in found}


def stops(plan: Plan, after: int) -> bool:
    """Run a plan until so many changes were made; return whether it came so far."""
    left = after

    def stop(event: str, url: str) -> None:
        nonlocal left
        left -= event in CHANGES
        if not left:
            raise Stopped

    try:
        with observe(stop):
            plan.run(pool=ThreadPool(1))
    except Stopped:
        return True
    return False


@pytest.fixture
def plans(make_stack, tmp_path):
    source, _ = make_stack((9, 9, 3))

    def convert(target: Path, name: str) -> Plan:
        options = {"sampling": Sampling(downsample=False), "running": Running(1)}
        storage = Storage(chunk=(8, 8, 8), shard=(16, 16, 16) if FORMATS[name].sharded else None, data_format=name)
        return plan_convert(
            find_images(source), target, VoxelSize((4, 4, 4)), into=Into("em", "color", "ds"), storage=storage, **options
        )

    return convert


@pytest.mark.parametrize("name", FORMATS)
def test_downsampling(plans, tmp_path, name):
    plans(tmp_path / "before", name).run()

    def plan(target: Path) -> Plan:
        return plan_downsample(Location(str(target)), "em", Coarser(Mag(1), (Mag(2),)), running=Running(1))

    shutil.copytree(tmp_path / "before", tmp_path / "whole/ds")
    plan(tmp_path / "whole/ds").run()
    for after in range(1, 100):
        target = tmp_path / f"{after}/ds"
        shutil.copytree(tmp_path / "before", target)
        stopped = stops(plan(target), after)
        if unfinished_jobs(Location(str(target))) or '"./em/2"' not in (target / FILE_NAME).read_text():
            plan(target).run()
        assert files(target) == files(tmp_path / "whole/ds"), after
        if not stopped:
            break
    assert not stopped and after > 5


@pytest.mark.parametrize("name", FORMATS)
def test_conversion(plans, tmp_path, name):
    plans(tmp_path / "whole/ds", name).run()
    for after in range(1, 100):
        target = tmp_path / f"{after}/ds"
        stopped = stops(plans(target, name), after)
        check_overwritable(Location(str(target)))
        if not (target / FILE_NAME).exists() or unfinished_jobs(Location(str(target))):
            plans(target, name).run()
        assert files(target) == files(tmp_path / "whole/ds"), after
        if not stopped:
            break
    assert not stopped and after > 5


@pytest.mark.parametrize("names", [("notes.txt",), ("info", "0-64_0-64_0-64"), (".zgroup", "results")])
def test_what_is_no_dataset_is_kept(tmp_path, names):
    for name in names:
        (tmp_path / name).write_text("{}")
    with pytest.raises(DatasetExistsError, match="is no dataset but holds"):
        check_overwritable(Location(str(tmp_path)))
