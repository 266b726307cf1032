"""Image files on stores: found, read by ranges, converted; what can not be read is named."""

from __future__ import annotations

import io
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import tifffile
from PIL import Image

import wkdask as wk
from tests.cli.conftest import arguments, cli  # noqa: F401 - a fixture
from tests.images.volume_files import write_ome
from tests.services.faulty import Fault, faulty
from tests.services.web import web  # noqa: F401 - a fixture
from tests.storage.test_verbs_on_stores import Home, home  # noqa: F401 - a fixture
from wkdask.errors import CorruptImageError, InputError, StorageError, UnsupportedImageFormatError
from wkdask.images import find_images, find_layers
from wkdask.images.byte_source import MemorySource, opened, read_bytes
from wkdask.images.picture import forget_parsed
from wkdask.images.places import joined
from wkdask.images.store_source import FIRST_BYTES, MOST_BYTES, StoreSource
from wkdask.storage import Location, retries, storage_options

SIZE = (36, 40, 12)


@pytest.fixture
def voxels() -> np.ndarray:
    return np.random.default_rng(4).integers(1, 200, SIZE).astype("uint8")


def planes(folder: Path, voxels: np.ndarray, kind: str = "tif") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for z in range(voxels.shape[2]):
        if kind == "tif":
            tifffile.imwrite(folder / f"em_{z}.tif", voxels[:, :, z].T, tile=(16, 16) if z % 2 else None, compression="zlib")
        else:
            Image.fromarray(voxels[:, :, z].T).save(folder / f"em_{z}.{kind}")


def sent(folder: Path, place: Location) -> Location:
    for path in folder.rglob("*"):
        if path.is_file():
            (place / path.relative_to(folder).as_posix()).write_bytes(path.read_bytes())
    return place


def shown(stack) -> np.ndarray:
    return stack.read(0, stack.shape[0], 0, stack.shape[1])[..., 0].transpose(2, 1, 0)


@pytest.mark.parametrize("kind", ["tif", "png"])
def test_images_become_a_dataset_wherever_they_lie(home: Home, cli, voxels, kind, tmp_path):  # noqa: F811
    """Several processes read them; what opens the store is with the plan."""
    planes(tmp_path / "em", voxels, kind)
    sent(tmp_path / "em", Location.of(f"{home.url}/em", home.options))
    processes = () if home.url.startswith("memory") else ("--distribution-strategy", "multiprocessing", "--jobs", "2")
    done = cli(*arguments(f"{home.url}/em", f"{home.url}/ds", *processes), *home.words())
    assert done.code == 0, done
    assert np.array_equal(home.open("ds").get_layer("em").get_mag(1).read()[0], voxels)


@pytest.fixture
def place(tmp_path, voxels) -> Location:
    """Images in memory."""
    planes(tmp_path / "em", voxels)
    (tmp_path / "em" / ".hidden.tif").write_bytes(b"")
    (tmp_path / "em" / "notes.txt").write_bytes(b"notes")
    return sent(tmp_path / "em", Location(f"memory://{uuid4().hex}/em"))


def test_files_patterns_and_lists(place, voxels):
    assert np.array_equal(shown(find_images(place.url)), voxels)
    assert np.array_equal(shown(find_images(f"{place.parent.url}/**/em_?.tif")), voxels[:, :, :10])
    assert np.array_equal(shown(find_images(f"{place.url}/em_1?.tif")), voxels[:, :, 10:12])
    assert np.array_equal(shown(find_images(f"{place.url}/em_3.tif")), voxels[:, :, 3:4])
    named = [f"{place.url}/em_{z}.tif" for z in (5, 2)]
    assert np.array_equal(shown(find_images(named)), voxels[:, :, [5, 2]])
    assert [layer.name for layer in find_layers(place.url)] == ["em"]
    assert [layer.name for layer in find_layers(named[0])] == ["em_5"]


def test_a_stack_is_a_value(place, voxels):
    stack = find_images(place.url)
    again = pickle.loads(pickle.dumps(stack))
    assert again == stack and np.array_equal(shown(again), voxels)
    before = stack.identity()
    assert before == again.identity() and len(before) == SIZE[2]
    (place / "em_3.tif").write_bytes((place / "em_4.tif").read_bytes())
    assert [a == b for a, b in zip(before, stack.identity(), strict=True)].count(False) == 1


def test_a_stack_with_its_pyramid_by_python(place, voxels, tmp_path):
    dataset = wk.Dataset.from_images(place.url, tmp_path / "ds", (4, 4, 35), layer_name="em")
    assert np.array_equal(dataset.get_layer("em").get_mag(1).read()[0], voxels)


def test_what_tells_one_state_from_another_is_asked_for_by_a_byte_of_each(place, monkeypatch):
    stack = find_images(place.url)
    asked = []
    read_range = Location.read_range
    monkeypatch.setattr(Location, "read_range", lambda self, *at: asked.append(at) or read_range(self, *at))
    assert len(stack.identity()) == SIZE[2] and set(asked) == {(0, 1)} and len(asked) == SIZE[2]


def test_brackets_in_names_are_no_pattern(voxels, tmp_path):
    """As in names of files on disks: first what is named so, then what matches."""
    planes(tmp_path / "em", voxels)
    place = sent(tmp_path / "em", Location(f"memory://{uuid4().hex}/em[3]"))
    (place / "em[1].tif").write_bytes((place / "em_2.tif").read_bytes())
    assert np.array_equal(shown(find_images(f"{place.url}/em[1].tif")), voxels[:, :, 2:3])
    assert np.array_equal(shown(find_images(f"{place.parent.url}/em[[]3]/em_[3-5].tif")), voxels[:, :, 3:6])
    (place / "em[1].tif").delete()
    assert np.array_equal(shown(find_images(place.url)), voxels)
    volume = wk.Dataset.from_images(place.url, tmp_path / "ds", (4, 4, 35), layer_name="em", data_format="zarr3")
    at = sent(Path(volume.get_layer("em").get_mag(1).path), Location(f"memory://{uuid4().hex}/volume[3]"))
    assert np.array_equal(shown(find_layers(at.url)[0].stack)[:36, :40, :12], voxels)


def test_of_names_with_brackets_only_what_has_the_name_is_deleted(home: Home):  # noqa: F811
    """`rm` of fsspec takes them for patterns."""
    folder = Location.of(home.url, home.options) / "deleted"
    for name in ("a[3]/b", "a[3]/c[4]/d", "a3/b", "*", "b[1].tif", "b1.tif"):
        (folder / name).write_bytes(b"1")
    (folder / "a[3]").delete()
    (folder / "b[1].tif").delete()
    (folder / "*").delete()
    (folder / "b[2].tif").delete()
    assert folder.names() == ["a3", "b1.tif"] and (folder / "a3").names() == ["b"]


def test_file_urls_are_paths(voxels, tmp_path):
    planes(tmp_path / "em", voxels)
    assert np.array_equal(shown(find_images(f"file://{tmp_path}/em")), voxels)
    assert np.array_equal(shown(find_images(f"file://{tmp_path}/em/em_?.tif")), voxels[:, :, :10])
    assert np.array_equal(shown(find_images([f"file://{tmp_path}/em/em_{z}.tif" for z in (5, 2)])), voxels[:, :, [5, 2]])
    dataset = wk.Dataset.from_images(f"file://{tmp_path}/em", tmp_path / "ds", (4, 4, 35), layer_name="em")
    [found] = find_layers(f"file://{dataset.get_layer('em').get_mag(1).path}")
    assert np.array_equal(shown(found.stack)[:36, :40, :12], voxels)


def test_one_that_is_large_is_read_by_few_requests(monkeypatch):
    place = Location(f"memory://{uuid4().hex}/a")
    data = np.random.default_rng(1).bytes(FIRST_BYTES * 40 + 17)
    place.write_bytes(data)
    asked = []
    read_range = Location.read_range
    monkeypatch.setattr(Location, "read_range", lambda self, *at: asked.append(at) or read_range(self, *at))
    with opened(place) as source:
        assert source.size == len(data) and len(asked) == 1
        assert b"".join(bytes(read_bytes(source, at, min(999, len(data) - at))) for at in range(0, len(data), 999)) == data
        assert len(asked) <= 6 and all(stop - start <= MOST_BYTES for start, stop in asked)
        assert source.held <= MOST_BYTES
        with source.file() as file:
            file.seek(-5, 2)
            assert file.read() == data[-5:]
        with pytest.raises(EOFError):
            read_bytes(source, len(data) - 3, 4)


def test_one_that_changes_while_it_is_read():
    place = Location(f"memory://{uuid4().hex}/a")
    place.write_bytes(bytes(2 * FIRST_BYTES))
    source = StoreSource(place)
    place.write_bytes(bytes(3 * FIRST_BYTES))
    with pytest.raises(CorruptImageError, match=r"memory:.*/a' was changed while it was read"):
        source.read_into(memoryview(bytearray(1)), FIRST_BYTES)


@pytest.mark.parametrize(
    ("source", "error", "said"),
    [
        ("{0}/none", InputError, "There is nothing at {0}/none. Give an image file"),
        ("{0}/none.tif", StorageError, "'{0}/none.tif' can not be read: .*No such file.*Put the file back"),
        ("{0}/x_*.tif", InputError, r"No file matches {0}/x_\*.tif. Check the pattern"),
        ("{0}/a.zip", StorageError, "{0}/a.zip can not be read: there is no such file"),
        ("{0}/notes.zip", CorruptImageError, "'{0}/notes.zip' can not be read as a zip file"),
        ("{0}/a.ozx", StorageError, "{0}/a.ozx can not be read: there is no such file"),
        ("https://lab/em.zip?signature=secret", InputError, "https:.*/em.zip has a query, which logs"),
        ("{0}/notes", UnsupportedImageFormatError, "'{0}/notes' has no readable images but 1 other files \\(1 txt\\)"),
        (["{0}/em_1.tif", "{0}/em_1.tif"], InputError, "'{0}/em_1.tif' stands twice"),
        (["{0}/em_1.tif", "{0}/notes.txt"], UnsupportedImageFormatError, "has the extension '.txt'; readable are tif"),
        (["{0}/em_1.tif", "s3://other/em_2.tif"], InputError, "lie on different stores"),
        (["{0}/em_1.tif", "/tmp/em_2.tif"], InputError, "lie on different stores"),
        ("https://lab/em_1.tif?signature=secret", InputError, "https:.*/em_1.tif has a query, which logs"),
    ],
)
def test_what_can_not_be_read(place, source, error, said):
    (place / "notes" / "a.txt").write_bytes(b"notes")
    (place / "notes.zip").write_bytes(b"notes")
    filled = source.format(place.url) if isinstance(source, str) else [one.format(place.url) for one in source]
    with pytest.raises(error, match=said.format(place)) as caught:
        find_images(filled)
    assert "secret" not in str(caught.value)


def test_a_web_server_gives_files_but_lists_none(web, voxels, tmp_path):  # noqa: F811
    planes(web.folder / "images", voxels)
    named = [f"{web.url}/images/em_{z}.tif" for z in range(SIZE[2])]
    assert np.array_equal(shown(find_images(named)), voxels)
    tifffile.imwrite(web.folder / "images" / "all.tif", voxels.T)
    assert np.array_equal(shown(find_images(f"{web.url}/images/all.tif")), voxels)
    with pytest.raises(InputError, match=r"/images is no volume .* web servers list no folders of images. Give the URL"):
        find_images(f"{web.url}/images")


def zip_of(folder: Path, place: Location, method: int = zipfile.ZIP_STORED) -> Location:
    with zipfile.ZipFile(file := io.BytesIO(), "w", method) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder).as_posix())
    place.write_bytes(file.getvalue())
    return place


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_images_in_zip_files_become_a_dataset(home: Home, cli, voxels, method, tmp_path):  # noqa: F811
    planes(tmp_path / "em" / "slices", voxels)
    place = zip_of(tmp_path / "em", Location.of(f"{home.url}/em.zip", home.options), method)
    with storage_options(home.options):
        stack = find_images(place.url)
        assert list(stack.paths) == [str(place)] and stack.label == "em.zip"
        before = stack.identity()
        with opened(joined(stack.folder, "slices/em_0.tif")) as source:
            assert isinstance(source, MemorySource) == (method == zipfile.ZIP_DEFLATED)
    processes = ("--distribution-strategy", "multiprocessing", "--jobs", "2") if home.url.startswith("s3") else ()
    done = cli(*arguments(place.url, f"{home.url}/ds", *processes), *home.words())
    assert done.code == 0, done
    [layer] = home.open("ds").layers.values()
    assert layer.name == "em" and np.array_equal(layer.get_mag(1).read()[0], voxels)
    planes(tmp_path / "em" / "slices", voxels + 1)
    zip_of(tmp_path / "em", place, method)
    with storage_options(home.options):
        assert find_images(place.url).identity() != before


@pytest.mark.parametrize(("name", "top"), [("em.ozx", ""), ("em.zip", "em.zarr")])
@pytest.mark.parametrize("shard", [None, (36, 64, 64)])
def test_ome_zarr_in_zip_files_becomes_a_dataset(home: Home, cli, voxels, name, top, shard, tmp_path):  # noqa: F811
    """Shards in zip files, as the specification of .ozx advises; tensorstore's own reader of those never comes back."""
    write_ome(tmp_path / "em" / top, voxels.T, "zyx", coarser=False, chunks=(12, 32, 32), shards=shard)
    place = zip_of(tmp_path / "em", Location.of(f"{home.url}/{name}", home.options))
    done = cli(*arguments(place.url, f"{home.url}/ds"), *home.words())
    assert done.code == 0, done
    [layer] = home.open("ds").layers.values()
    assert layer.name == "em" and np.array_equal(layer.get_mag(1).read()[0], voxels)


def test_zip_files_on_web_servers_need_no_lists(web, voxels, tmp_path):  # noqa: F811
    planes(tmp_path / "em", voxels)
    zip_of(tmp_path / "em", Location(str(web.folder / "images.zip")))
    assert np.array_equal(shown(find_images(f"{web.url}/images.zip")), voxels)
    write_ome(tmp_path / "zarr", voxels.T, "zyx", coarser=False)
    zip_of(tmp_path / "zarr", Location(str(web.folder / "volume.ozx")))
    [layer] = find_layers(f"{web.url}/volume.ozx")
    assert layer.name == "volume" and np.array_equal(shown(layer.stack), voxels)


def test_faults_are_outlived(s3, voxels, tmp_path, monkeypatch):
    """Of a file that has errors, resets and answers that end too early on its way, all voxels arrive."""
    monkeypatch.setattr(retries, "FIRST_PAUSE", 0.001)
    planes(tmp_path / "em", voxels)
    sent(tmp_path / "em", s3.place / "em")
    faults = [
        Fault("GET", status=503, probability=0.05),
        Fault(reset=True, probability=0.05),
        Fault("GET", truncate=True, probability=0.05),
    ]
    forget_parsed()
    with faulty(s3.endpoint) as proxy, storage_options(replace(s3, endpoint=proxy.endpoint).options):
        proxy.faults[:] = faults
        assert np.array_equal(shown(find_images(f"{s3.url}/em")), voxels)
        assert proxy.fired > 1
