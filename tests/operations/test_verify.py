"""Verifying: every kind of damage is found and named, all of it; what is sound has no fault; nothing is written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import examples
from wkdask import BoundingBox, Dataset, Mag
from wkdask.clusters import open_pool
from wkdask.errors import DatasetNotFoundError, InputError, LayerNotFoundError, MagNotFoundError, PlanRefusedError
from wkdask.formats import FORMATS, ArrayHandle
from wkdask.metadata import MetadataWarning
from wkdask.operations.verify import Selected, verify
from wkdask.operations.verify_folders import DOCUMENTS
from wkdask.operations.verify_report import KINDS, Fault, Verification
from wkdask.storage import Location, observe

EDGE = 64
BOX = BoundingBox((0, 0, 0), (EDGE, EDGE, EDGE))
JSON = "datasource-properties.json"
Found = list[tuple[str, str]]


def shapes(name: str) -> dict[str, Any]:
    """Return chunks and shards that give a layer of 64³ eight units."""
    return {"chunk_shape": 16, "shard_shape": 32} if FORMATS[name].sharded else {"chunk_shape": 32}


def make(folder: Path, name: str) -> Path:
    """Make a dataset of noise in mags 1 and 2, the second one by a plan, which leaves receipts."""
    place = folder / name
    layer = Dataset(place, (4, 4, 4)).add_layer("color", "color", dtype="uint8", data_format=name, bounding_box=BOX)
    voxels = np.random.default_rng(0).integers(1, 9, (EDGE, EDGE, EDGE), dtype="uint8")
    layer.add_mag(1, **shapes(name)).write(voxels)
    layer.downsample(coarsest_mag=2, **{"chunk_shape": 16, "shard_shape": 16} if FORMATS[name].sharded else {"chunk_shape": 16})
    return place


@pytest.fixture(scope="module", params=sorted(FORMATS))
def sound(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound dataset of a format; tests damage copies."""
    return make(tmp_path_factory.mktemp("sound"), request.param)


@pytest.fixture
def dataset(sound: Path, tmp_path: Path) -> Path:
    """A copy of the sound dataset."""
    return Path(shutil.copytree(sound, tmp_path / "dataset"))


def units(dataset: Path, mag: int = 1) -> list[tuple[tuple[int, ...], Path]]:
    """Return grid coordinates and files of a mag's units."""
    handle = handle_of(dataset, mag)
    return [(index, Path(handle.unit_location(index).url)) for index in sorted(handle.written_units())]


def handle_of(dataset: Path, mag: int = 1) -> ArrayHandle:
    return Dataset.open(dataset).get_layer("color").get_mag(mag).array.handle


def check(dataset: Path, **selected: Any) -> Verification:
    return verify(Location(str(dataset)), Selected(**selected), pool=open_pool("sequential"))


def found(report: Verification) -> Found:
    return [(fault.kind, fault.path) for fault in report.faults]


def edit(dataset: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the layer in the dataset's JSON."""
    document = json.loads((dataset / JSON).read_text())
    change(document["dataLayers"][0])
    (dataset / JSON).write_text(json.dumps(document))


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Return mode and time of all that lies in a folder."""
    return {str(path): (path.lstat().st_mode, path.lstat().st_mtime_ns) for path in [folder, *folder.rglob("*")]}


def test_sound(sound: Path) -> None:
    """Nothing is found, nothing is written, every unit counts."""
    before, events = snapshot(sound), []
    with observe(lambda event, url: events.append(url)):
        reports = [check(sound), check(sound, digests=True)]
    assert snapshot(sound) == before
    assert not [url for url in events if url.startswith(str(sound))]
    for report, first in zip(reports, (8, 0), strict=True):
        assert report.ok
        assert report.faults == ()
        counts = [(mag.layer, mag.mag, mag.units, mag.faults) for mag in report.checked]
        assert counts == [("color", "1", first, 0), ("color", "2", 8, 0)]
    assert reports[0].notes == ()
    assert reports[0].bytes == EDGE**3 + (EDGE // 2) ** 3
    assert reports[0].bytes_on_disk == sum(file.stat().st_size for mag in (1, 2) for _, file in units(sound, mag))
    assert [(note.kind, note.mag) for note in reports[1].notes] == [("unchecked", "1")]  # no plan made it


def test_of_sparse_shards_only_what_is_stored_is_decoded(tmp_path: Path) -> None:
    """A corner of a shard costs a corner, and is still checked."""
    box = BoundingBox((0, 0, 0), (1024, 1024, 1024))
    layer = Dataset(tmp_path / "a", voxel_size=(1, 1, 1)).add_layer("color", "color", dtype="uint8", bounding_box=box)
    layer.add_mag(1).write(np.ones((40, 40, 40), np.uint8), absolute_offset=(480, 320, 960))
    report = check(tmp_path / "a")
    assert (report.ok, report.bytes) == (True, 64**3)
    [(_, unit)] = units(tmp_path / "a")
    data = unit.read_bytes()
    unit.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    assert [fault.kind for fault in check(tmp_path / "a").faults] == ["damaged"]


def test_all_bad_units_are_named(dataset: Path) -> None:
    """Emptied, cut off at any place, replaced by others' bytes: each file, with its voxels, in order, whatever the pool."""
    files = units(dataset)
    data = [file.read_bytes() for _, file in files]
    files[0][1].write_bytes(b"")
    files[2][1].write_bytes(data[2][:1])
    files[3][1].write_bytes(data[3][: len(data[3]) // 2])
    files[5][1].write_bytes(data[5][:-1])
    spec = handle_of(dataset).spec
    bad = [0, 2, 3, 5] + ([7] if spec.codec else [])  # else any bytes are voxels
    if spec.codec:
        files[7][1].write_bytes(b"\xff" * len(data[7]))
    report = check(dataset)
    assert found(report) == [("damaged", str(files[i][1])) for i in bad]
    for fault, i in zip(report.faults, bad, strict=True):
        corner = dict(zip(spec.axes, spec.grid.unit_box(files[i][0]).start, strict=True))
        assert fault.box == (tuple(corner[axis] for axis in "xyz"), (32, 32, 32))
        assert (fault.layer, fault.mag) == ("color", "1")
        assert fault.reason
        assert not fault.reason.startswith(fault.path)
    assert [mag.faults for mag in report.checked] == [len(bad), 0]
    threads = verify(Location(str(dataset)), pool=open_pool("threads", 4))
    assert (threads.faults, threads.checked) == (report.faults, report.checked)


def test_boxes_are_in_voxels_of_mag_1(dataset: Path) -> None:
    index, file = units(dataset, 2)[-1]
    file.write_bytes(b"")
    (fault,) = check(dataset).faults
    axes = handle_of(dataset, 2).spec.axes
    corner = dict(zip(axes, index, strict=True))
    assert fault.box == (tuple(corner[axis] * 32 for axis in "xyz"), (32, 32, 32))


@settings(max_examples=examples(25))
@given(at=st.integers(0, 10**9), bit=st.integers(0, 7), number=st.integers(0, 7))
def test_flipped_bits(tmp_path_factory: pytest.TempPathFactory, at: int, bit: int, number: int) -> None:
    """Of a shard of checksummed frames: found, or, where a bit says nothing, the voxels are right; never in another unit."""
    place = flippable(tmp_path_factory)
    index, file = units(place)[number]
    data = file.read_bytes()
    at %= len(data)
    file.write_bytes(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])
    try:
        report = check(place, mags=(Mag(1),))
        if report.ok:
            box = handle_of(place).spec.grid.unit_box(index)
            expected = np.random.default_rng(0).integers(1, 9, (EDGE, EDGE, EDGE), dtype="uint8")
            np.testing.assert_array_equal(handle_of(place).read(box)[0], expected[box.slices[1:]])
        else:
            assert found(report) == [("damaged", str(file))]
    finally:
        file.write_bytes(data)


_flippable: list[Path] = []


def flippable(factory: pytest.TempPathFactory) -> Path:
    """Return one dataset for all examples of a test."""
    if not _flippable:
        _flippable.append(make(factory.mktemp("flips"), "zarr3"))
    return _flippable[0]


def test_only_digests_tell_what_was_exchanged(dataset: Path) -> None:
    """Units that decode, but are not those that were written: changed, vanished, appeared since."""
    (_, first), (_, second), (_, third), *_ = units(dataset, 2)
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)
    third.unlink()
    assert check(dataset).ok
    expected = sorted([("changed", str(first)), ("changed", str(second)), ("vanished", str(third))], key=lambda f: f[1])
    report = check(dataset, digests=True)
    assert sorted(found(report), key=lambda f: f[1]) == expected
    assert all(fault.box for fault in report.faults)
    receipts = dataset / ".wkdask/receipts/color/2.json"
    document = json.loads(receipts.read_text())
    for path in [path for path in document["units"] if str(second).endswith(f"/{path}")]:
        document["units"][path] = {"bytes": 0, "digest": "00000000"}
    receipts.write_text(json.dumps(document))
    assert ("appeared", str(second)) in found(check(dataset, digests=True))


def test_digests_tell_each_flipped_bit(dataset: Path) -> None:
    """Also where nothing in the file would: in raw chunks, with size and time as they were."""
    rng = np.random.default_rng(1)
    for _, unit in units(dataset, 2):
        whole = unit.read_bytes()
        for bit in (0, 8 * len(whole) - 1, *rng.integers(0, 8 * len(whole), 3)):
            flipped = bytearray(whole)
            flipped[bit // 8] ^= 1 << bit % 8
            unit.write_bytes(flipped)
            report = check(dataset, digests=True)
            assert [(fault.path, fault.kind in ("changed", "damaged")) for fault in report.faults] == [(str(unit), True)]
        unit.write_bytes(whole)
    assert check(dataset, digests=True).ok


def test_receipts_without_checksums_are_believed(dataset: Path) -> None:
    receipts = dataset / ".wkdask/receipts/color/2.json"
    document = json.loads(receipts.read_text())
    assert all(len(facts.pop("crc32c")) == 8 for facts in document["units"].values())
    receipts.write_text(json.dumps(document))
    assert check(dataset, digests=True).ok


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"units": 5}', '{"units": {"a": {"bytes": -1, "digest": "0"}}}', "[" * 5000]
)
def test_bad_receipts(tmp_path: Path, content: str) -> None:
    place = make(tmp_path, "zarr3")
    (place / ".wkdask/receipts/color/2.json").write_text(content)
    report = check(place, digests=True)
    assert [fault.kind for fault in report.faults] == ["document"]
    assert "2.json is no list of units" in report.faults[0].reason
    assert check(place).ok  # only digests need it


def test_foreign_and_left_files(dataset: Path) -> None:
    array = Path(handle_of(dataset).location.url)
    token = "1f-0123456789ab.tmp"
    folder = units(dataset)[0][1].parent
    (array / "notes.txt").write_text("x")
    (folder / "copy of 0").write_text("x")
    (folder / f".0.{token}").write_text("x")
    (array / "deep/er").mkdir(parents=True)
    (array / "deep/er/x").write_text("x")
    (array / "loop").symlink_to(array)
    (array / "dangling").symlink_to(array / "nowhere")
    (array / ".DS_Store").write_text("x")
    (dataset / f".{JSON}.{token}").write_text("x")
    (dataset / "color" / f".zarr.json.{token}").write_text("x")
    (dataset / ".wkdask/tmp").mkdir(exist_ok=True)
    (dataset / f".wkdask/tmp/0.{token}").write_text("x")
    (dataset / ".wkdask/jobs/color/parts/1").mkdir(parents=True)
    report = check(dataset)
    assert sorted(found(report)) == sorted(
        [
            ("foreign", str(array / "notes.txt")),
            ("foreign", str(folder / "copy of 0")),
            ("foreign", str(array / "deep/er/x")),
            ("foreign", str(array / "loop")),
            ("foreign", str(array / "dangling")),
            ("leftover", str(folder / f".0.{token}")),
            ("leftover", str(dataset / f".{JSON}.{token}")),
            ("leftover", str(dataset / "color" / f".zarr.json.{token}")),
            ("leftover", str(dataset / f".wkdask/tmp/0.{token}")),
            ("leftover", str(dataset / ".wkdask/jobs/color")),
        ]
    )
    assert [note.path for note in report.notes] == [str(array / ".DS_Store")]


def test_unfinished_runs_are_notes(dataset: Path) -> None:
    """What they have left is theirs, and no fault."""
    job = dataset / ".wkdask/jobs/color"
    (job / "parts/1").mkdir(parents=True)
    (job / "plan.json").write_text(json.dumps({"name": "convert em", "command": "wkdask convert em brain"}))
    file = units(dataset)[0][1]
    (file.parent / ".0.1f-0123456789ab.tmp").write_text("x")
    report = check(dataset)
    assert report.ok
    assert [note.kind for note in report.notes] == ["unfinished", "unchecked"]
    assert "wkdask convert em brain" in report.notes[0].reason
    assert "note: unfinished" in str(report)


def _lie(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda layer: layer.update(changes)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_lie(elementClass="uint16"), "uint8, by the dataset's JSON uint16"),
        (_lie(elementClass="uint24", numChannels=3), "c from 0 to 1, by the dataset's JSON from 0 to 3"),
    ],
)
def test_json_and_arrays_disagree(dataset: Path, change: Callable[[dict[str, Any]], object], said: str) -> None:
    edit(dataset, change)
    report = check(dataset)
    assert {(fault.kind, fault.mag) for fault in report.faults} == {("contradiction", "1"), ("contradiction", "2")}
    assert all(said in fault.reason for fault in report.faults)
    assert report.units == 16  # which are checked all the same


def test_layer_larger_than_its_array(dataset: Path, sound: Path) -> None:
    edit(dataset, lambda layer: layer["boundingBox"].update(width=1000))
    report = check(dataset)
    if FORMATS[sound.name].cubic:  # no shape is stored
        assert report.ok
    else:
        assert [fault.kind for fault in report.faults] == ["contradiction"] * 2
        assert "x from 0 to 64, by the dataset's JSON from 0 to 1000" in report.faults[0].reason


def test_wrong_cube_length(tmp_path: Path) -> None:
    place = make(tmp_path, "wkw")
    edit(place, lambda layer: layer["mags"][0].update(cubeLength=1024))
    (fault,) = check(place).faults
    assert (fault.kind, fault.mag) == ("contradiction", "1")
    assert "cubeLength is 1024" in fault.reason


def test_missing_mags_and_documents(dataset: Path, tmp_path: Path) -> None:
    shutil.rmtree(dataset / "color/1")
    report = check(dataset)
    assert [(fault.kind, fault.mag) for fault in report.faults] == [("missing", "1")]
    assert report.faults[0].path == str(dataset / "color/1")
    assert [mag.mag for mag in report.checked] == ["2"]
    (dataset / "color/1").symlink_to(tmp_path / "nowhere")
    assert [(fault.kind, fault.mag) for fault in check(dataset).faults] == [("missing", "1")]
    edit(dataset, lambda layer: layer["mags"][0].update(path=str(tmp_path / "else")))
    assert found(check(dataset)) == [("missing", str(tmp_path / "else"))]
    edit(dataset, lambda layer: layer["mags"][0].update(path="../../else"))
    assert [fault.kind for fault in check(dataset).faults] == ["missing"]
    edit(dataset, lambda layer: layer["mags"][0].update(path="memory://nobody/knows"))
    report = check(dataset)
    assert report.ok
    assert [(note.kind, note.path) for note in report.notes] == [("unchecked", str(Location("memory://nobody/knows")))]


def test_mags_elsewhere_are_checked(dataset: Path, tmp_path: Path) -> None:
    """By a link or an absolute path."""
    shutil.move(dataset / "color/1", tmp_path / "elsewhere")
    (dataset / "color/1").symlink_to(tmp_path / "elsewhere")
    file = units(dataset)[3][1]
    assert check(dataset).units == 16
    file.write_bytes(b"")
    assert found(check(dataset)) == [("damaged", str(file))]
    (dataset / "color/1").unlink()
    edit(dataset, lambda layer: layer["mags"][0].update(path=str(tmp_path / "elsewhere")))
    assert [fault.kind for fault in check(dataset).faults] == ["damaged"]


def test_bad_document_of_a_mag(dataset: Path) -> None:
    """Of a magnification, or of all at once, as formats have it."""
    folder = Path(handle_of(dataset).location.url)
    document = next(
        path for path in (*folder.iterdir(), folder.parent / "info") if path.name in DOCUMENTS - {"scale.json", ".zattrs"}
    )
    document.write_bytes(b"{")
    report = check(dataset)
    assert {(fault.kind, fault.path) for fault in report.faults} == {("document", str(document))}
    assert [fault.mag for fault in report.faults] == (["1"] if document.parent == folder else ["1", "2"])


def test_bad_document_of_the_dataset(dataset: Path, tmp_path: Path) -> None:
    (dataset / JSON).write_text("{")
    assert found(check(dataset)) == [("document", str(dataset / JSON))]
    with pytest.raises(DatasetNotFoundError):
        check(tmp_path / "nothing")


def test_attachments(dataset: Path) -> None:
    (dataset / "color/meshes").mkdir()
    entry = {"name": "m", "path": "./color/meshes", "dataFormat": "hdf5"}
    edit(dataset, lambda layer: layer.update(attachments={"meshes": [entry, {**entry, "path": "./color/gone"}]}))
    assert found(check(dataset)) == [("missing", "./color/gone")]
    edit(dataset, lambda layer: layer.update(attachments={"segmentIndex": {**entry, "path": "../out"}}))
    assert [fault.kind for fault in check(dataset).faults] == ["missing"]


@pytest.mark.root
def test_what_others_may_not_read(dataset: Path, unprivileged: Callable[[], AbstractContextManager[None]]) -> None:
    for folder in (dataset, *dataset.parents):
        if os.access(folder, os.W_OK) and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    (_, file), *_ = units(dataset)
    file.chmod(0)
    folder = Path(handle_of(dataset, 2).location.url)
    with unprivileged():
        assert found(check(dataset)) == [("unreadable", str(file))]
    file.chmod(0o644)
    folder.chmod(0)
    with unprivileged():
        assert found(check(dataset)) == [("unreadable", str(folder))]
    folder.chmod(0o755)


def test_pipes_and_folders_in_place_of_units(dataset: Path) -> None:
    """Nothing hangs."""
    (_, pipe), (_, folder), (_, link), *_ = units(dataset)
    for file in (pipe, folder, link):
        file.unlink()
    os.mkfifo(pipe)
    folder.mkdir()
    link.symlink_to("/dev/zero")
    assert sorted(found(check(dataset))) == sorted(("damaged", str(path)) for path in (pipe, folder, link))


def test_chunk_that_would_fill_the_memory(tmp_path: Path) -> None:
    layer = Dataset(tmp_path / "d", (4, 4, 4)).add_layer("color", "color", dtype="uint8", bounding_box=BOX)
    layer.add_mag(1, chunk_shape=32, shard_shape=32).write(np.ones((EDGE,) * 3, "uint8"))
    file = units(tmp_path / "d")[0][1]
    with file.open("ab") as out:
        out.truncate(1 << 42)
    (fault,) = check(tmp_path / "d").faults
    assert (fault.kind, fault.path) == ("damaged", str(file))
    assert f"{1 << 42} bytes" in fault.reason


def test_units_beyond_the_end_are_noted(tmp_path: Path) -> None:
    place = make(tmp_path, "zarr3")
    file = units(place)[0][1]
    for name in ("9", "99999999999999999999999999"):
        shutil.copy(file, file.parent / name)
    report = check(place)
    assert report.ok
    assert [note.reason[:42] for note in report.notes] == ["2 units lie beyond the array's end, where "]


def test_names_that_no_path_can_have(tmp_path: Path) -> None:
    place = make(tmp_path, "zarr3")
    edit(place, lambda layer: layer["mags"][0].update(path="/a\0b"))
    assert [(fault.kind, fault.mag) for fault in check(place).faults] == [("document", "1")]
    edit(place, lambda layer: layer.update(name="a\0b"))
    report = check(place)
    assert {fault.kind for fault in report.faults} == {"document"}
    assert [note.kind for note in report.notes] == ["unchecked"]


def test_files_of_several_units(tmp_path: Path) -> None:
    """Sharded precomputed, of which only the array knows which units lie in which file."""
    place = tmp_path / "ds"
    layer = Dataset(place, (4, 4, 4)).add_layer(
        "color", "color", "uint8", data_format="neuroglancerPrecomputed", bounding_box=BOX
    )
    layer.add_mag(1, chunk_shape=32)
    sharding = {"@type": "neuroglancer_uint64_sharded_v1", "preshift_bits": 9, "hash": "identity", "minishard_bits": 0}
    sharding |= {"shard_bits": 0, "minishard_index_encoding": "raw", "data_encoding": "raw"}
    shutil.rmtree(place / "color")
    scale = {"key": "1", "size": [EDGE] * 3, "resolution": [4, 4, 4], "chunk_size": [32] * 3, "encoding": "raw"}
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": f"{place}/color/"},
        "multiscale_metadata": {"type": "image", "data_type": "uint8", "num_channels": 1},
        "scale_metadata": {**scale, "sharding": sharding},
    }
    store = tensorstore.open(spec, create=True).result()
    store.write(np.random.default_rng(0).integers(1, 9, store.shape, dtype="uint8")).result()
    report = check(place)
    assert report.ok, str(report)
    assert report.units == 8
    (place / "color/1/junk").write_text("x")
    assert found(check(place)) == [("foreign", str(place / "color/1/junk"))]


def test_selection(dataset: Path) -> None:
    for mag in (1, 2):
        units(dataset, mag)[0][1].write_bytes(b"")
    assert [fault.mag for fault in check(dataset, mags=(Mag(2),)).faults] == ["2"]
    assert [fault.mag for fault in check(dataset, layers=("color",)).faults] == ["1", "2"]
    with pytest.raises(LayerNotFoundError):
        check(dataset, layers=("colour",))
    with pytest.raises(MagNotFoundError, match="has no magnification 8; it has color/1, color/2"):
        check(dataset, mags=(Mag(2), Mag(8)))


def test_verbs(dataset: Path) -> None:
    units(dataset, 2)[0][1].write_bytes(b"")
    opened = Dataset.open(dataset, read_only=True)
    layer = opened.get_layer("color")
    assert [len(x.verify(jobs=1).faults) for x in (opened, layer, layer.get_mag(1), layer.get_mag(2))] == [1, 1, 0, 1]
    assert [len(x.verify(digests=True).faults) for x in (opened, layer, layer.get_mag(1), layer.get_mag(2))] == [1, 1, 0, 1]
    with pytest.raises(PlanRefusedError):
        opened.verify(memory_limit=1000)
    with pytest.raises(InputError):
        opened.verify(distribution_strategy="carrier pigeon")


@pytest.mark.parametrize("name", ["wkw", "zarr3"])
def test_pieces_are_as_small_as_the_memory(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a unit of eight chunks no more is read at once than fits, and all of it."""
    dataset = make(tmp_path, name)
    handle = handle_of(dataset)
    monkeypatch.setattr("wkdask.operations.verify.PIECE_BYTES", 2 * 16**3)
    monkeypatch.setattr("wkdask.operations.verify.LEAST_PIECE_BYTES", 1)
    seen: list[Any] = []
    read = type(handle).read
    monkeypatch.setattr(type(handle), "read", lambda self, box, **options: (seen.append(box), read(self, box, **options))[1])
    assert check(dataset, mags=(Mag(1),)).ok
    assert {box.size for box in seen} == {2 * 16**3}
    assert sum(box.size for box in seen) == EDGE**3


def test_memory_of_this_process(tmp_path: Path) -> None:
    place = Location("memory://verify/ds")
    layer = Dataset(place, (4, 4, 4)).add_layer("color", "color", dtype="uint8", bounding_box=BOX)
    layer.add_mag(1, **shapes("zarr3")).write(np.ones((EDGE,) * 3, "uint8"))
    assert verify(place, pool=open_pool("sequential")).units == 8
    with pytest.raises(PlanRefusedError, match="memory of this process"):
        verify(place, pool=open_pool("processes", 1))


def test_report() -> None:
    assert all(KINDS.values())
    faults = tuple(Fault("damaged", f"<{i}>", "is cut off", "color", "1", ((0, 0, 0), (1, 1, 1))) for i in range(200))
    report = Verification("brain", faults=faults)
    assert str(report).count("damaged: <") == 200
    html = report._repr_html_()
    assert "&lt;5&gt;" in html
    assert "and 100 more" in html
    document = json.loads(json.dumps(report.to_dict()))
    assert document["faults"][0]["box"] == {"topleft": [0, 0, 0], "size": [1, 1, 1]}
    assert document["ok"] is False


def test_other_programs_datasets(fixtures_folder: Path) -> None:
    """No false alarms: the JSON of one says uint8 of an array of uint32."""
    documents = sorted(fixtures_folder.rglob(JSON))
    assert documents
    for document in documents:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MetadataWarning)
            report = verify(Location(str(document.parent)))
        expected = [("contradiction", "color", "1")] if document.parent.name == "simple_n5_dataset" else []
        assert [(fault.kind, fault.layer, fault.mag) for fault in report.faults] == expected, str(report)


WRITE = """
import sys, numpy as np, webknossos as wk
from cluster_tools import get_executor
for name in sys.argv[2:]:
    ds = wk.Dataset(f"{sys.argv[1]}/{name}", voxel_size=(4, 4, 4))
    layer = ds.add_layer("color", "color", dtype="uint16", num_channels=1, data_format=name,
                         bounding_box=wk.BoundingBox((5, 6, 7), (70, 40, 40)))
    shard = (64, 64, 64) if name != "zarr" else (32, 32, 32)
    mag = layer.add_mag(1, chunk_shape=(32, 32, 32), shard_shape=shard, compress=True)
    voxels = np.random.default_rng(0).integers(0, 9, (70, 40, 40), dtype="uint16")
    mag.write(voxels, absolute_offset=(5, 6, 7), allow_unaligned=True)
    with get_executor("sequential") as here:
        layer.downsample(coarsest_mag=wk.Mag(2), executor=here, shard_shape=shard)
"""


@pytest.mark.oracle("webknossos")
@pytest.mark.slow
def test_datasets_of_the_reference(webknossos_python: Path, tmp_path: Path) -> None:
    """Neither false alarms, nor blindness."""
    names = sorted({"wkw", "zarr", "zarr3"} & set(FORMATS))
    done = subprocess.run([webknossos_python, "-c", WRITE, tmp_path, *names], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in names:
        place = tmp_path / name
        report = check(place)
        assert report.ok, str(report)
        assert [mag.mag for mag in report.checked] == ["1", "2"]
        assert all(mag.units for mag in report.checked)
        file = units(place)[0][1]
        file.write_bytes(file.read_bytes()[:-1])
        assert found(check(place)) == [("damaged", str(file))]
