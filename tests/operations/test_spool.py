"""Pages that decode only whole: once to scratch, read in bands from there, and gone when their slices are written."""

from __future__ import annotations

import errno
import pickle
import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import tifffile
from PIL import Image

import wkdask as wk
from wkdask.errors import StorageError, UnitsFailedError
from wkdask.images import find_images
from wkdask.images.pillow import PillowPicture
from wkdask.metadata import VoxelSize
from wkdask.operations import Into, Orientation, Running, Sampling, Storage, ValueMap, plan_convert
from wkdask.operations.spool import SpooledStack, worth_spooling
from wkdask.plan import Journal, ThreadPool
from wkdask.plan.execute import begin, execute
from wkdask.plan.stage import Batch
from wkdask.storage import Location, observe
from wkdask.storage.local import LocalWriter

WKDASK = ".wkdask/jobs/color"


def pages(folder, volume, form="png"):
    """Write (c, x, y, z) as pages that decode only whole."""
    folder.mkdir(parents=True)
    for z in range(volume.shape[3]):
        plane = volume[..., z].transpose(2, 1, 0)
        plane = plane if plane.shape[2] == 3 else plane[..., 0]
        if form == "png":
            Image.fromarray(plane).save(folder / f"s{z:04}.png", compress_level=1)
        else:
            kind = {"photometric": "rgb"} if plane.ndim == 3 else {}
            tifffile.imwrite(folder / f"s{z:04}.tif", plane, compression=form, rowsperstrip=plane.shape[0], **kind)
    return folder


def noise(size=(60, 91, 37), channels=1, dtype="uint8", seed=0):
    return np.random.default_rng(seed).integers(0, 250, (channels, *size)).astype(dtype)


def small():
    """Let pages be too large for their small memory."""
    return mock.patch.multiple("wkdask.operations.convert", worth_spooling=lambda *_: True, TILE_BYTES=1 << 12)


def plan(source, target, **options):
    options = {"storage": Storage((8, 8, 8), (32, 32, 32)), "running": Running(2), **options}
    options = {"into": Into("color", "color", "ds"), "sampling": Sampling(coarsest=wk.Mag(4)), **options}
    return plan_convert(find_images(source), target, VoxelSize((4, 4, 35)), **options)


def voxels(folder, name="color"):
    layer = wk.Dataset.open(folder).get_layer(name)
    arrays = [layer.get_mag(mag).array for mag in layer.mags]
    return {array.name: array.read(array.box) for array in arrays}


def names(one):
    return [stage.name for stage in one.stages]


@pytest.fixture
def decoded(monkeypatch):
    """Count how often each picture is decoded."""
    counts = {}
    read = PillowPicture.read

    def counted(self, *arguments):
        name = Path(self.path).name
        counts[name] = counts.get(name, 0) + 1
        return read(self, *arguments)

    monkeypatch.setattr(PillowPicture, "read", counted)
    return counts


class Spool:
    """Follows how many planes lie in the spool, and how many did at most."""

    def __init__(self):
        self.planes, self.most, self.total = set(), 0, 0

    def __call__(self, event, url):
        if url.endswith(".raw"):
            if event == "publish":
                self.planes.add(url)
                self.total += 1
            else:
                self.planes.discard(url)
            self.most = max(self.most, len(self.planes))


@pytest.mark.parametrize("form", ["png", "lzw"])
@pytest.mark.parametrize("kind", ["grey", "rgb", "uint16", "turned", "valued"])
def test_the_layer_is_the_one_without_spool(tmp_path, form, kind):
    volume = noise(channels=3 if kind == "rgb" else 1, dtype="uint16" if kind == "uint16" else "uint8")
    source = pages(tmp_path / "in", volume, form)
    into = Into("color", "color", "ds")
    if kind == "turned":
        into = replace(into, orientation=Orientation((True, False, True), True), topleft=(3, 5, 7))
    if kind == "valued":
        into = replace(into, values=ValueMap("uint8", "uint8", per_slice=True, invert=True))
    plan(source, tmp_path / "whole", into=into).run()
    with small():
        one = plan(source, tmp_path / "ds", into=into)
        assert names(one)[0] == "decode pages" and names(one)[-1] == "drop pages"
        one.run()
    found = voxels(tmp_path / "ds")
    np.testing.assert_equal(found, voxels(tmp_path / "whole"))
    if kind == "grey":
        np.testing.assert_array_equal(found["color/1"], volume)
    for name in ("color/1/zarr.json", "datasource-properties.json"):
        assert (tmp_path / "ds" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_time_points_are_spooled_too(tmp_path):
    volume = noise((3, 9, 91, 60))[0]  # (t, z, y, x)
    tifffile.imwrite(tmp_path / "film.ome.tif", volume, metadata={"axes": "TZYX"}, compression="lzw", rowsperstrip=91)
    with small():
        one = plan(tmp_path / "film.ome.tif", tmp_path / "ds")
        assert one.stages[0].count == 27
        one.run()
    np.testing.assert_array_equal(voxels(tmp_path / "ds")["color/1"][:, 0], volume.transpose(0, 3, 2, 1))


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("workers", [1, 3])
def test_each_page_is_decoded_once_and_few_lie_in_the_spool(tmp_path, decoded, elsewhere, workers):
    source = pages(tmp_path / "in", noise((60, 91, 130)))
    scratch = tmp_path / "scratch"
    spool = Spool()
    with small(), observe(spool):
        one = plan(source, tmp_path / "ds", running=Running(workers, scratch=str(scratch) if elsewhere else ""))
        one.run()
    assert set(decoded.values()) == {1} and len(decoded) == spool.total == 130
    in_flight = 2 * workers  # tasks, of as many runs of 8 slices at most, and the run that is being decoded
    assert not spool.planes and spool.most <= 8 * (in_flight + 1) + in_flight < 130
    assert not (tmp_path / "ds" / WKDASK).exists() and not list(scratch.rglob("*.raw"))


def test_rows_are_those_of_the_images(tmp_path):
    volume = noise((60, 91, 3), 3)
    stack = find_images(pages(tmp_path / "in", volume))
    folder = Location(str(tmp_path / "spool"))
    spooled = pickle.loads(pickle.dumps(SpooledStack(stack, folder)))
    for z in range(3):
        with spooled.plane(z).writer() as out:
            out.write(stack.read(z, z + 1, 0, 91).tobytes())
            out.publish()
    for window in [(0, 3, 0, 91), (1, 2, 17, 18), (0, 3, 90, 91, 3, 60), (2, 3, 0, 40, 59, 60), (1, 1, 0, 4), (0, 1, 5, 5)]:
        np.testing.assert_array_equal(spooled.read(*window), stack.read(*window))
    assert (spooled.shape, spooled.channels, spooled.dtype) == (stack.shape, 3, "uint8")
    assert spooled.rows_alone and not stack.rows_alone and spooled.decodes(1) == 1
    spooled.plane(1).delete()
    with pytest.raises(StorageError, match=r"1\.raw can not be read: .*Run the same command again"):
        spooled.read(0, 3, 0, 91)
    Path(spooled.plane(2).local_path).write_bytes(bytes(60 * 91 * 3 - 1))
    np.testing.assert_array_equal(spooled.read(2, 3, 0, 90), np.zeros((1, 90, 60, 3)))
    with pytest.raises(StorageError, match=r"2\.raw ends too early"):
        spooled.read(2, 3, 0, 91)


def test_what_is_worth_it(tmp_path):
    stack = find_images(pages(tmp_path / "in", noise((60, 91, 2))))
    journal = Journal(Location(str(tmp_path / "ds")), "color")
    beside, both = stack.decoded_bytes, stack.decoded_bytes + 60 * 91
    assert not worth_spooling(stack, 91, 1 << 30, journal)  # decoded once in any case
    assert worth_spooling(stack, 46, both, journal)
    assert not worth_spooling(stack, 46, both - 1, journal)  # twice in any case
    assert worth_spooling(stack, 40, both - 1, journal)
    assert worth_spooling(stack, 8, beside + 9 * 60, journal)
    assert not worth_spooling(stack, 8, beside + 8 * 60, journal)
    assert not worth_spooling(stack, 1, beside + 59, journal)  # no row fits
    assert not worth_spooling(stack, 40, both, Journal(Location("memory://spool/ds"), "color"))  # readers need files
    (tmp_path / "tiff").mkdir()
    tifffile.imwrite(tmp_path / "tiff/a.tif", np.zeros((5000, 4000), "uint8"), compression="zlib", rowsperstrip=5000)
    stream = find_images(tmp_path / "tiff")
    assert stream.decoded_bytes == 0 and not stream.rows_alone
    assert not worth_spooling(stream, 2500, 1 << 30, journal)  # one and a half of a page
    assert worth_spooling(stream, 1000, 1 << 30, journal)


@pytest.mark.parametrize(("rows", "said"), [(91, "once"), (90, "2 times"), (46, "2 times"), (45, "3 times"), (1, "91 times")])
def test_pages_are_decoded_in_as_few_bands_as_fit(tmp_path, decoded, rows, said):
    volume = noise((60, 91, 2))
    source = pages(tmp_path / "in", volume)
    stack = find_images(source)
    share = stack.decoded_bytes + 60 * rows + 30
    tile_bytes = mock.PropertyMock(return_value=-(-share * 2 // 5))
    with mock.patch.object(Running, "tile_bytes", tile_bytes), small():
        one = plan(source, tmp_path / "ds")
    operation = one.stages[0].operation
    assert f"2 pages decoded {said} to" in str(one)
    assert operation.rows <= rows and operation.bytes_needed <= share + (8 << 20) + 2
    one.run()
    assert set(decoded.values()) == {-(-91 // rows)}
    np.testing.assert_array_equal(voxels(tmp_path / "ds")["color/1"], volume)


class Stop(BaseException):
    """Ends a run in the middle, as a kill would, but in this process."""


def stop(one, after):
    def tell(plan, report, receipt):
        if report.done >= after:
            raise Stop

    with pytest.raises(Stop):
        one.run(progress=tell, pool=ThreadPool(1))


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("after", [1, 20, 120])
def test_more_or_less_memory_changes_nothing(tmp_path, first, after):
    """Whether pages pay to be spooled depends on memory; a run that goes on with other memory goes on as it began."""
    volume = noise((60, 91, 37))
    source = pages(tmp_path / "in", volume)

    def planned(share):
        sized = lambda stack, rows, _, journal: worth_spooling(stack, 8, 1 << 30 if share else 1, journal)  # noqa: E731
        with mock.patch.multiple("wkdask.operations.convert", worth_spooling=sized, TILE_BYTES=1 << 12):
            return plan(source, tmp_path / "ds")

    began = planned(first)
    assert (names(began)[0] == "decode pages") is first
    stop(began, min(after, began.tasks - 3))
    journal = began.journal
    done = len({(r.stage, r.number) for r in journal.read()})
    later = planned(not first)
    assert names(later) == names(began)
    assert later.run().kept == done
    np.testing.assert_array_equal(voxels(tmp_path / "ds")["color/1"], volume)


def damaged(place, how):
    if how == "gone":
        place.unlink()
    else:
        place.write_bytes(place.read_bytes()[:-1])


@pytest.mark.parametrize("how", ["gone", "short"])
def test_only_planes_that_are_lost_are_decoded_again(tmp_path, decoded, how):
    volume = noise((60, 91, 24))
    source = pages(tmp_path / "in", volume)
    with small():
        stop(plan(source, tmp_path / "ds"), 6)
        planes = sorted((tmp_path / "ds" / WKDASK / "spool").glob("*.raw"))
        there = {f"s{int(place.stem):04}.png" for place in planes}
        assert len(there) >= 6
        damaged(planes[2], how)
        before = dict(decoded)
        plan(source, tmp_path / "ds").run()
    again = {name for name, count in decoded.items() if count > before.get(name, 0) and name in there}
    assert again == {f"s{int(planes[2].stem):04}.png"}
    np.testing.assert_array_equal(voxels(tmp_path / "ds")["color/1"], volume)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("lost", [["1"], ["2-2-1"], ["1", "2-2-1"]])
def test_units_that_are_lost_after_their_pages_are_made_of_new_pages(tmp_path, decoded, lost, workers):
    volume = noise((60, 91, 70))
    source = pages(tmp_path / "in", volume)
    with small():
        one = plan(source, tmp_path / "ds")
        drop = len(one.stages) - 1
        begin(one)
        for at, stage in enumerate(one.stages):
            for number in range(stage.count if at < drop else stage.count - 1):
                assert execute(one, Batch(at, (number,)))[0].state == "done"
        left = {int(place.stem) for place in (tmp_path / "ds" / WKDASK / "spool").glob("*.raw")}
        assert left == set(range(64, 70))
        units = [
            next(path for path in sorted((tmp_path / "ds/color" / mag / "c").rglob("*")) if path.is_file()) for mag in lost
        ]
        for unit in units:
            unit.write_bytes(b"")
        before = dict(decoded)
        again = plan(source, tmp_path / "ds", running=Running(workers))
        report = again.run()
    assert (report.failed, report.skipped) == (0, 0)
    redone = {name for name, count in decoded.items() if count > before[name]}
    needed = {f"s{z:04}.png" for z in range(32)}  # those of a unit, which are four runs of slices
    assert redone == (needed if "1" in lost else set())
    assert all(count <= 2 for count in decoded.values())
    np.testing.assert_array_equal(voxels(tmp_path / "ds")["color/1"], volume)
    plan(source, tmp_path / "whole").run()
    np.testing.assert_equal(voxels(tmp_path / "ds"), voxels(tmp_path / "whole"))
    assert not (tmp_path / "ds" / WKDASK).exists()


def test_what_a_killed_run_was_writing_is_deleted(tmp_path, monkeypatch):
    source = pages(tmp_path / "in", noise((60, 91, 24)))
    scratch, write, halves = tmp_path / "scratch", LocalWriter.write, set()

    def noted(self, data):
        halves.update({Path(self._temporary).parent} if self._path.endswith(".raw") else ())
        return write(self, data)

    monkeypatch.setattr(LocalWriter, "write", noted)
    with small():
        one = plan(source, tmp_path / "ds", running=Running(2, scratch=str(scratch)))
        stop(one, 3)
        left = Path(one.journal.scratch.make_folder().local_path) / ".5.raw.1-2.tmp"
        assert halves == {left.parent}
        left.write_bytes(b"half of a plane")
        seen = []
        tell = lambda *_: seen.append(left.exists())  # noqa: E731
        plan(source, tmp_path / "ds", running=Running(2, scratch=str(scratch))).run(progress=tell)
    assert seen and not any(seen)
    assert not [path for path in scratch.rglob("*") if path.is_file()]


def test_a_full_disk_is_said_clearly(tmp_path, monkeypatch):
    source = pages(tmp_path / "in", noise((60, 91, 24)))
    write, room = LocalWriter.write, [60 * 91 * 5]

    def full(self, data):
        if self._path.endswith(".raw"):
            room[0] -= len(data)
            if room[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, data)

    with small():
        one = plan(source, tmp_path / "ds")
        with monkeypatch.context() as patch:
            patch.setattr(LocalWriter, "write", full)
            with pytest.raises(UnitsFailedError, match=r"raw can not be written: No space left on device\. Free some"):
                one.run()
        planes = list((tmp_path / "ds" / WKDASK / "spool").iterdir())
        assert len(planes) == 5 and all(place.stat().st_size == 60 * 91 for place in planes)
        assert plan(source, tmp_path / "ds").run().kept == 5


def test_a_page_that_is_damaged_costs_its_run_of_slices_only(tmp_path, decoded):
    volume = noise((60, 91, 24))
    source = pages(tmp_path / "in", volume)
    good = (source / "s0009.png").read_bytes()
    (source / "s0009.png").write_bytes(good[: len(good) // 2])
    spool = Spool()
    with small(), observe(spool), pytest.raises(UnitsFailedError, match=r"s0009\.png"):
        plan(source, tmp_path / "ds").run()
    assert {int(Path(url).stem) for url in spool.planes} == {8, 10, 11, 12, 13, 14, 15}
    assert set(decoded.values()) == {1}


def test_the_plan_says_how_pages_are_decoded(tmp_path):
    source = pages(tmp_path / "in", noise())
    with small():
        one = plan(source, tmp_path / "ds")
    said = str(one)
    assert f"37 pages decoded once to {one.journal.spool}" in said
    assert "tiles of 1 x 60 x 8 x 8 from spooled pages, to color/1" in said
    assert "pages that are written are deleted" in said
    assert "37 pages, each decoded once, to" in str(plan(source, tmp_path / "ds"))
    assert one.scratch_needed >= 37 * 60 * 91
    assert pickle.loads(pickle.dumps(one)).fingerprint == one.fingerprint == plan(source, tmp_path / "ds").fingerprint


@pytest.mark.timeout(300)
def test_kill_after_changes(tmp_path, kill):
    source = pages(tmp_path / "in", noise((20, 17, 11)))
    changes = kill(__file__, str(source), str(tmp_path / "runs"))
    assert 40 < changes < 110


def killed_runs():
    """Be the program that `test_kill_after_changes` runs: see ``kill_driver``, whose cases this adds one to."""
    import kill_driver as driver

    sys.argv[3:] = []

    def planned(source, target):
        with small():
            storage, sampling = Storage((8, 8, 8), (16, 16, 16)), Sampling(coarsest=wk.Mag(2))
            one = plan(source, target, storage=storage, sampling=sampling)
        if names(one)[0] != "decode pages":
            raise AssertionError("pages are not spooled")
        return one

    driver.plan = planned
    driver.main(sys.argv[1], Path(sys.argv[2]))


if __name__ == "__main__":
    killed_runs()
