"""The verbs, by one body, wherever datasets lie: they make what they make on a local disk, voxel for voxel."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

import wkdask as wk
from tests.cli.conftest import arguments, cli, slices  # noqa: F401 - fixtures
from tests.services.faulty import Fault, faulty
from wkdask.errors import UnitsFailedError
from wkdask.formats import FORMATS, ArraySpec
from wkdask.geometry.grid import Box
from wkdask.operations.copying import plan_copy_dataset
from wkdask.operations.copying_tasks import CopyUnits
from wkdask.storage import Location, Options, observe, retries, storage_options

HOMES = ["local", "memory", "s3", "gcs"]


@dataclass(frozen=True)
class Home:
    """Where datasets lie, and how to get there."""

    url: str
    options: dict[str, Any]

    def words(self) -> list[str]:
        """The options, as they are typed."""
        return [word for key, value in self.options.items() for word in ("--storage-options", f"{key}={value}")]

    def open(self, name: str) -> wk.Dataset:
        with storage_options(self.options):
            return wk.Dataset.open(f"{self.url}/{name}")

    def files(self) -> dict[str, bytes]:
        """All that lies here but journals and receipts, which hold times."""
        place = Location.of(self.url, self.options)
        paths = (path for path, _ in place.files_below() if "/.wkdask/" not in f"/{path}")
        return {path: (place / path).read_bytes() for path in paths}


@pytest.fixture(params=HOMES)
def home(request, tmp_path) -> Home:
    if request.param == "local":
        return Home(str(tmp_path / "home"), {})
    if request.param == "memory":
        return Home(f"memory://{uuid4().hex}", {})
    store = request.getfixturevalue(request.param)
    return Home(store.url, store.options)


@pytest.fixture
def source(slices):  # noqa: F811
    return slices(size=(36, 40, 12))


@pytest.fixture
def run(cli):  # noqa: F811
    """Run a command, which has to succeed."""

    def done(home, *words, code=0):
        ended = cli(*words, *home.words())
        assert ended.code == code, ended
        return ended.out

    return done


def convert(run, home, folder, name="ds", *options):
    run(home, *arguments(folder, f"{home.url}/{name}", *options))


def same(a: wk.Dataset, b: wk.Dataset, mags=None) -> bool:
    one, other = a.get_layer("em").mags, b.get_layer("em").mags
    assert mags or one.keys() == other.keys()
    return all(np.array_equal(one[mag].read(), other[mag].read()) for mag in mags or one)


def test_verbs(home, source, run, tmp_path):
    folder, voxels = source
    here = Home(str(tmp_path / "here"), {})
    convert(run, here, folder, "ds", "--max-mag", "4")
    whole = here.open("ds")
    convert(run, home, folder, "ds", "--max-mag", "1")
    assert np.array_equal(home.open("ds").get_layer("em").get_mag(1).read()[0], voxels)

    run(home, "downsample", f"{home.url}/ds", "--max-mag", "4")
    assert same(home.open("ds"), whole)
    run(home, "verify", f"{home.url}/ds", "--digests")
    run(home, "check-equality", f"{home.url}/ds", f"{here.url}/ds")
    hashes = [run(at, "hash", f"{at.url}/ds", "--content-only").split()[::2] for at in (home, here)]
    assert hashes[0] == hashes[1] and len(hashes[0]) > 4

    run(home, "copy-dataset", f"{home.url}/ds", f"{here.url}/back")
    run(home, "copy-dataset", f"{here.url}/back", f"{home.url}/there")
    run(home, "copy-dataset", f"{home.url}/there", f"{home.url}/again", "--data-format", "wkw", "--chunk-shape", "8")
    assert all(same(copy, whole) for copy in (here.open("back"), home.open("there"), home.open("again")))

    run(home, "rechunk", f"{home.url}/there", "--chunk-shape", "8", "--shard-shape", "32", "--codec", "zstd:1")
    run(home, "compress", f"{home.url}/again", "--codec", "lz4")
    assert same(home.open("there"), whole) and same(home.open("again"), whole)
    assert home.open("there").get_layer("em").get_mag(1).array.handle.spec.chunk[1:] == (8, 8, 8)

    ds = home.open("again")
    run(home, "check-equality", f"{home.url}/again", f"{home.url}/there")
    ds.get_layer("em").delete_mag(1)
    coarse = next(iter(home.open("again").get_layer("em").mags))
    run(home, "upsample", f"{home.url}/again", "--from-mag", str(coarse), "--finest-mag", "1")
    assert home.open("again").get_layer("em").get_mag(1).read().shape[1:] == voxels.shape
    assert same(home.open("again"), whole, [coarse])
    run(home, "check-equality", f"{home.url}/again", f"{home.url}/there", code=1)


@pytest.mark.parametrize("data_format", list(FORMATS))
def test_formats(home, data_format, source, run, tmp_path):
    folder, voxels = source
    form = FORMATS[data_format]
    shape = ("--shard-shape", "32" if form.sharded else "16")
    convert(run, home, folder, "ds", "--data-format", data_format, "--max-mag", "1", *shape)
    found = home.open("ds").get_layer("em").get_mag(1)
    assert np.array_equal(found.read()[0], voxels)
    assert np.array_equal(found.to_dask()[0, 3:30, 5:7, 1:].compute(), voxels[3:30, 5:7, 1:])
    found.write(np.full((1, 3, 3, 3), 7, "uint8"), absolute_offset=(1, 2, 3))
    voxels = voxels.copy()
    voxels[1:4, 2:5, 3:6] = 7
    assert np.array_equal(home.open("ds").get_layer("em").get_mag(1).read()[0], voxels)


@pytest.mark.parametrize("data_format", list(FORMATS))
def test_arrays_are_replaced_by_others_of_another_shape(data_format):
    place, form = Location(f"memory://{uuid4().hex}/1"), FORMATS[data_format]
    for edge, shard in ((4, 8), (4, 16), (8, 16), (2, 8)):
        place.delete()
        unit = shard if form.sharded else edge
        spec = ArraySpec(
            (1, 14, 14, 14), "uint8", ("c", "x", "y", "z"), (1, edge, edge, edge), (1, unit, unit, unit), form.usual_codec
        )
        array = form.create(place, spec)
        voxels = np.random.default_rng(unit + edge).integers(1, 99, spec.shape).astype("uint8")
        array.write(array.spec.grid.box, voxels)
        assert np.array_equal(form.open(place).read(Box((0,) * 4, spec.shape)), voxels)


def test_stopped_and_resumed(home, source, run, cli, tmp_path):  # noqa: F811
    here = Home(str(tmp_path / "here"), {})
    convert(run, here, source[0])
    seen = []

    def stop(event, url):
        seen.append(url)
        if sum(".jsonl" in url for url in seen) >= 3:
            raise KeyboardInterrupt

    with observe(stop):
        ended = cli(*arguments(source[0], f"{home.url}/ds", "--jobs", "1"), *home.words())
        assert ended.code == 130, ended
    run(home, "resume", f"{home.url}/ds")
    assert same(home.open("ds"), here.open("ds"))
    assert run(home, "clean", f"{home.url}/ds", "--yes") == "Nothing to clean.\n"
    assert {name for name in home.files() if name.startswith("ds/em")} == {n for n in here.files() if n.startswith("ds/em")}


# ---------------------------------------------------------------------------------------------------- faults


@pytest.fixture(params=["s3", "gcs"])
def behind(request, monkeypatch) -> Iterator[tuple[Home, Any]]:
    """A store behind a proxy that can fail."""
    monkeypatch.setattr(retries, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(retries, "LONGEST_PAUSE", 0.01)
    store = request.getfixturevalue(request.param)
    with faulty(store.endpoint) as proxy:
        moved = replace(store, endpoint=proxy.endpoint)
        yield Home(moved.url, moved.options), proxy


def test_random_faults_change_no_voxel(behind, source, run, tmp_path):
    home, proxy = behind
    here = Home(str(tmp_path / "here"), {})
    convert(run, here, source[0])
    proxy.faults = [Fault(status=503, probability=0.05), Fault(reset=True, probability=0.05)]
    proxy.faults.append(Fault("GET", truncate=True, probability=0.05))
    convert(run, home, source[0], "ds", "--max-mag", "1")
    run(home, "downsample", f"{home.url}/ds")
    run(home, "verify", f"{home.url}/ds", "--digests")
    assert proxy.fired > 5
    proxy.faults = []
    assert same(home.open("ds"), here.open("ds"))


def test_a_flipped_bit_is_an_error_where_there_are_checksums(behind, source, run):
    home, proxy = behind
    convert(run, home, source[0], "ds", "--max-mag", "1")
    mag = home.open("ds").get_layer("em").get_mag(1)
    proxy.faults = [Fault("GET", "/em/1/c/|em%2F1%2Fc", flip=True)]
    with pytest.raises((UnitsFailedError, wk.errors.WkdaskError), match=r"checksum|damaged|crc32c"):
        mag.read()
    assert proxy.fired


def test_secrets_are_in_nothing_that_runs_leave(s3, source, run, cli, capsys):  # noqa: F811
    home, secret = Home(s3.url, s3.options), s3.options["secret"]
    out = []

    def stop(event, url):
        if ".jsonl" in url:
            raise KeyboardInterrupt

    with observe(stop):
        ended = cli(*arguments(source[0], f"{home.url}/ds", "--jobs", "1", "--verbose"), *home.words())
    out += [ended.out, ended.err, cli("status", f"{home.url}/ds", "--json", *home.words()).out]
    place = Location.of(home.url, home.options)
    assert any(path.endswith("plan.json") for path, _ in place.files_below())
    out += [str((place / path).read_bytes()) for path, _ in place.files_below()]
    out.append(str(cli("resume", f"{home.url}/ds", "--json", *home.words())))
    lazy = home.open("ds").get_layer("em").get_mag(1).to_dask()
    out += [repr(lazy.dask), repr(dict(lazy.dask)), lazy.name, repr(home.open("ds")), home.open("ds")._repr_html_()]
    out += [str((place / path).read_bytes()) for path, _ in place.files_below()]
    wrong = Home(s3.url, {**s3.options, "key": "nobody"})
    out.append(str(cli("info", f"{home.url}/ds", "--json", *wrong.words())))
    assert "nobody" not in out[-1] and "access key" in out[-1]
    assert not [text for text in out if secret in text]
    assert secret not in repr(Options(s3.options))


@pytest.mark.parametrize("kind", ["s3", "gcs"])
@pytest.mark.parametrize(
    ("form", "chunk", "packed"), [("neuroglancerPrecomputed", 8, True), ("zarr", 8, False), ("zarr", 128, False)]
)
def test_what_a_store_has_copied_is_what_the_receipt_says(kind: str, form: str, chunk: int, packed: bool, request: Any) -> None:
    place, box = request.getfixturevalue(kind).place, wk.BoundingBox((0, 0, 0), (chunk, chunk, chunk))
    layer = wk.Dataset(place / "a", (1, 1, 1)).add_layer("em", "color", data_format=form, bounding_box=box)
    array = layer.add_mag(1, chunk_shape=chunk, compress=False).array.handle
    array.write(array.spec.grid.box, np.random.default_rng(0).integers(1, 255, (1, *box.size)).astype("uint8"))
    file = array.unit_location((0, 0, 0, 0))
    if packed:  # as the content of which a store says that it is encoded
        file.write_bytes(gzip.compress(file.read_bytes()))
    (plan,) = plan_copy_dataset(place / "a", place / "b")
    plan.run()
    (copying,) = (stage.operation for stage in plan.stages if isinstance(stage.operation, CopyUnits))
    (record,) = copying.run(0, 0).files
    assert copying.is_intact(record)
    copy = wk.Dataset.open(place / "b").get_layer("em").get_mag(1)
    assert copy.content_hash() == layer.get_mag(1).content_hash()


def test_a_chunk_that_changes_behind_its_digest_is_not_copied(s3, monkeypatch) -> None:
    """One so large that only its ends are read."""
    layer = wk.Dataset(s3.place / "a", (1, 1, 1)).add_layer(
        "em", "color", data_format="zarr", bounding_box=wk.BoundingBox((0, 0, 0), (128, 128, 128))
    )
    array = layer.add_mag(1, chunk_shape=128, compress=False).array.handle
    array.write(array.spec.grid.box, np.ones((1, 128, 128, 128), "uint8"))
    inspect, file = type(array).inspect, array.unit_location((0, 0, 0, 0))

    def changed(self: Any, index: Any) -> Any:
        found = inspect(self, index)
        file.write_bytes(os.urandom(1 << 21))
        return found

    (plan,) = plan_copy_dataset(s3.place / "a", s3.place / "b")
    monkeypatch.setattr(type(array), "inspect", changed)
    with pytest.raises(wk.errors.WkdaskError, match="changed"):
        plan.run()
    assert not [path for path, _ in (s3.place / "b" / "em").files_below() if path.endswith("0")]
