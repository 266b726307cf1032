"""What plans say of their cost: counted as by listing, refused where the disk is too small, measured by probes."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wkdask.errors import InputError, PlanRefusedError
from wkdask.formats import Codec
from wkdask.geometry.grid import Box, Tiling
from wkdask.images import find_images
from wkdask.metadata import VoxelSize
from wkdask.operations import Coarser, Into, Running, Sampling, Storage, plan_convert, plan_downsample
from wkdask.operations.estimates import _pieces
from wkdask.operations.tiles import WriteTiles
from wkdask.plan import Probe, disk, estimate
from wkdask.plan.estimate import Measured
from wkdask.plan.memory import PROCESS_BYTES
from wkdask.storage import Location, observe

SIZE = VoxelSize((8.0, 8.0, 8.0))
CHUNK = (16, 16, 16)


def planned(images, target, *, data_format="zarr3", shard=(32, 32, 32), codec="usual", tile_bytes=0, scratch=""):
    shard = shard if data_format in ("zarr3", "wkw") else CHUNK
    storage = Storage(CHUNK, shard, codec, data_format)
    running = Running(2, tile_bytes, scratch=scratch)
    return plan_convert(find_images(images), target, SIZE, into=Into("color"), storage=storage, running=running)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@given(st.data())
def test_pieces_are_counted_as_listed(data: st.DataObject) -> None:
    axes = data.draw(st.integers(1, 3))
    start = data.draw(st.lists(st.integers(0, 20), min_size=axes, max_size=axes))
    box = Box(tuple(start), tuple(a + data.draw(st.integers(0, 20)) for a in start))
    tile, unit = (tuple(data.draw(st.lists(st.integers(1, 9), min_size=axes, max_size=axes))) for _ in range(2))
    voxels = itertools.product(*map(range, box.start, box.stop))
    listed = {tuple((v // t, v // u) for v, t, u in zip(voxel, tile, unit, strict=True)) for voxel in voxels}
    assert _pieces(box, tile, unit) == len(listed)
    assert _pieces(box, tile) == len(Tiling(box, tile))


@pytest.mark.parametrize("data_format", ["zarr3", "wkw", "zarr", "n5", "neuroglancerPrecomputed"])
def test_files_are_counted_as_written(images: Path, tmp_path: Path, data_format: str) -> None:
    plan = planned(images, tmp_path / "ds", data_format=data_format)
    costs = estimate(plan)
    published: list[str] = []
    folders = [
        level.array.location.url for s in plan.stages if isinstance(s.operation, WriteTiles) for level in s.operation.levels
    ]
    with observe(lambda event, url: published.append(url) if event == "publish" else None):
        plan.run()
    units = [url for url in published if url.endswith(".part") or any(url.startswith(f"{place}/") for place in folders)]
    documents = ("zarr.json", ".zarray", ".zattrs", "attributes.json", "header.wkw", "info", ".zgroup", ".json")
    assert costs.files == sum(not url.endswith(documents) for url in units)
    assert costs.requests >= costs.files + 40  # each image is opened once at least


def test_estimates_grow_with_work_and_shrink_with_workers(images: Path, tmp_path: Path) -> None:
    plan = planned(images, tmp_path / "ds")
    slow, fast = estimate(plan, workers=1), estimate(plan, workers=4)
    assert slow.seconds > fast.seconds > 0
    assert all(fewer.seconds >= more.seconds for fewer, more in zip(slow.stages, fast.stages, strict=True))
    assert slow.file_bytes == plan.bytes_out
    spread = estimate(plan, workers=6, processes=4)  # three workers of two threads
    for stage, cost in zip(plan.stages, spread.stages, strict=True):
        assert cost.worker_bytes == PROCESS_BYTES + min(2, stage.count) * stage.operation.bytes_needed
        assert cost.worker_scratch == min(2, stage.count) * stage.operation.scratch_needed
    assert spread.worker_bytes == PROCESS_BYTES + 2 * plan.bytes_needed
    alone = estimate(plan, workers=6)
    assert alone.worker_bytes >= 6 * plan.bytes_needed and alone.worker_scratch == 3 * spread.worker_scratch
    flat = estimate(planned(images, tmp_path / "ds", codec=None), workers=1)
    assert flat.seconds < slow.seconds  # nothing is compressed


def test_a_probe_scales_the_stages_that_it_did_not_measure(images: Path, tmp_path: Path) -> None:
    plan = planned(images, tmp_path / "ds", tile_bytes=60_000)
    rough = estimate(plan, workers=1)
    assert len(rough.stages) > 1
    probe = Probe({0: Measured(2, 3 * plan.stages[0].operation.cost.seconds, 0.25)})
    found = estimate(plan, probe, workers=1)
    for before, after in zip(rough.stages, found.stages, strict=True):
        assert after.seconds == pytest.approx(3 * before.seconds)
    assert found.file_bytes == pytest.approx(plan.bytes_out / 4, abs=len(plan.stages))
    assert [stage.measured for stage in found.stages] == [2] + [0] * (len(plan.stages) - 1)


@pytest.mark.parametrize("data_format", ["zarr3", "wkw", "zarr", "n5", "neuroglancerPrecomputed"])
def test_a_probe_leaves_the_target_as_it_is_and_knows_the_compression(images: Path, tmp_path: Path, data_format: str) -> None:
    scratch = tmp_path / "scratch"
    before = files_of(tmp_path)
    plan = planned(images, tmp_path / "ds", data_format=data_format, scratch=str(scratch))
    probe = plan.probe(1000)  # all tasks
    assert files_of(tmp_path) == before
    assert not (tmp_path / "ds").exists()
    assert list(scratch.iterdir()) == []
    first = plan.stages[0]
    assert probe.stages[0].tasks == first.count
    assert probe.stages[0].seconds > 0
    plan.run()
    made = [level.array.location for level in first.operation.levels]
    kept = sum(p.stat().st_size for place in made for p in place.local_path.rglob("*") if p.is_file() and p.suffix != ".json")
    if all(level.direct for level in first.operation.levels):
        assert probe.ratio == pytest.approx(kept / first.operation.bytes_out, rel=0.02)
    if plan.stages[0].operation.levels[0].array.spec.codec in (Codec("zstd", 5), Codec("gzip", 5)):
        assert 0.3 < probe.ratio < 0.9  # four bits of noise in eight


def test_a_probe_measures_what_is_downsampled_and_says_what_it_can_not(images: Path, tmp_path: Path) -> None:
    plan = planned(images, tmp_path / "ds", tile_bytes=60_000)
    probe = plan.probe(2)
    assert [note.partition(" was")[0] for note in probe.notes] == [
        stage.name for stage in plan.stages[1:] if stage.operation.bytes_in
    ]
    assert any("reads what earlier stages write" in note for note in probe.notes)
    flat = Storage(CHUNK, (32, 32, 32))
    plan_convert(find_images(images), tmp_path / "flat", SIZE, storage=flat, sampling=Sampling(False), into=Into("color")).run()
    before = files_of(tmp_path / "flat")
    coarser = plan_downsample(
        Location(str(tmp_path / "flat")), "color", Coarser(), storage=flat, sampling=Sampling(), running=Running(2)
    )
    probe = coarser.probe(3)
    assert files_of(tmp_path / "flat") == before
    assert 0 in probe.stages
    assert coarser.describe(probe)["stages"][0]["tasks_measured"] == probe.stages[0].tasks


def test_a_probe_of_nothing_is_refused(images: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="0 tasks"):
        planned(images, tmp_path / "ds").probe(0)


def set_free(monkeypatch: pytest.MonkeyPatch, free: dict[str, int]) -> None:
    def usage(path):
        if not Path(path).exists():
            raise FileNotFoundError(path)
        found = next((size for name, size in free.items() if name in str(path)), 1 << 60)
        return shutil._ntuple_diskusage(1 << 60, 0, found)

    monkeypatch.setattr(disk.shutil, "disk_usage", usage)


def test_uncompressed_voxels_that_do_not_fit_are_refused_by_every_driver(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "small").mkdir()
    plan = planned(images, tmp_path / "small" / "ds", codec=None)
    set_free(monkeypatch, {"small": plan.bytes_out - 1})
    before = files_of(tmp_path)
    from wkdask.plan import LeasePool

    for attempt in (plan.run, plan.compute, lambda: plan.run(pool=LeasePool(1))):
        with pytest.raises(PlanRefusedError, match="compress=True") as refused:
            attempt()
        assert refused.value.exit_code == 3
        left = {name: data for name, data in files_of(tmp_path).items() if not name.endswith((".json", ".lock"))}
        assert left == {name: data for name, data in before.items() if not name.endswith((".json", ".lock"))}
    set_free(monkeypatch, {"small": plan.bytes_out})
    assert plan.run().done == plan.tasks


def test_compressed_voxels_are_only_a_note(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "small").mkdir()
    plan = planned(images, tmp_path / "small" / "ds")
    set_free(monkeypatch, {"small": plan.bytes_out - 1})
    disk.check_disk(plan)
    assert any("are free" in note for note in plan.describe()["notes"])
    assert "are free" in str(plan)
    assert not disk.disk_notes(plan, Probe({0: Measured(1, 1.0, 0.5)}))


def test_scratch_too_small_for_one_file_is_refused(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(images, tmp_path / "ds", codec=None, shard=CHUNK, scratch=str(tmp_path / "tiny"))
    monkeypatch.setattr(disk, "free_bytes", lambda place: 100 if "tiny" in place.url else 1 << 60)
    with pytest.raises(PlanRefusedError, match="--scratch"):
        disk.check_disk(plan)


def test_a_run_under_way_is_not_refused(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(images, tmp_path / "ds", codec=None)
    plan.journal.begin(plan.document(), "")
    set_free(monkeypatch, {tmp_path.name: 0})
    disk.check_disk(plan)


def test_reports_say_what_was_predicted(images: Path, tmp_path: Path) -> None:
    from wkdask.plan.explain import compared

    plan = planned(images, tmp_path / "ds")
    report = plan.run()
    assert report.predicted_bytes_out == plan.bytes_out > report.bytes_out > 0
    costs = estimate(plan)
    assert report.predicted_seconds == costs.seconds > 0
    assert (report.predicted_files, report.predicted_requests) == (costs.files, costs.requests)
    assert report.files == costs.files > 0
    assert 0 < report.worker_bytes == max(report.workers.values()) <= report.predicted_worker_bytes
    said = compared(dataclasses.replace(report, peak_bytes=3_000_000, workers={"a": 2_000_000, "b": 1_000_000}))
    assert "and 6.0 MB, memory of a worker" in said
    said = compared(report)
    assert "seconds" in said and "memory of a worker" in said and f"files {costs.files} and {costs.files}" in said


def test_one_task_of_a_probe_stands_for_smaller_ones_at_the_ends(images: Path, tmp_path: Path) -> None:
    plan = planned(images, tmp_path / "ds", tile_bytes=20_000)
    assert plan.probe(1).ratio == pytest.approx(plan.probe(1000).ratio, rel=0.1)
