"""Web servers that do not tell sizes, compress what they send, know no ranges from the end, or answer with pages."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import dask
import numpy as np
import pytest

import wkdask as wk
from tests.cli.conftest import arguments, cli  # noqa: F401 - a fixture
from wkdask.errors import InputError, StorageError, UnitsFailedError
from wkdask.formats import FORMATS
from wkdask.formats.kept import KEPT
from wkdask.storage import Location, copy_file

SHAPE = (40, 50, 20)
VOXELS = np.random.default_rng(3).integers(1, 200, SHAPE).astype("uint8")


class Odd(SimpleHTTPRequestHandler):
    """Answers as a web server with ranges, but for what a test changes."""

    told = "length"
    missing = 404
    packs = False
    pack: Callable[[bytes], bytes] = staticmethod(gzip.compress)
    packing = "gzip"
    ranges = True
    suffixes = True

    def is_packed(self) -> bool:
        return self.packs and not self.path.endswith((".json", "info")) and "/." not in self.path

    def body(self) -> bytes | None:
        path = self.translate_path(self.path)
        if not os.path.isfile(path):
            return None
        data = Path(path).read_bytes()
        return self.pack(data) if self.is_packed() else data

    def answer(self) -> None:
        data, asked = self.body(), re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", "") * self.ranges)
        if data is None:
            page = b"<!DOCTYPE html><p>home"
            self.reply(self.missing, page if self.missing == 200 else b"")
        elif asked and not asked[1] and not self.suffixes:
            self.reply(416, b"")
        elif asked:
            start = int(asked[1]) if asked[1] else max(0, len(data) - int(asked[2]))
            part = data[start : int(asked[2]) + 1 if asked[1] and asked[2] else None]
            span = f"bytes {start}-{start + len(part) - 1}/{len(data)}" if part else f"bytes */{len(data)}"
            self.reply(206 if part else 416, part, {"Content-Range": span})
        else:
            self.reply(200, data)

    def reply(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        told = self.told if self.command == "HEAD" else "length"
        if told != "nothing":
            self.send_header("Content-Length", str(len(data)) if told == "length" else "0")
        for name, value in {**(headers or {}), **({"Content-Encoding": self.packing} if self.is_packed() else {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_HEAD = answer  # noqa: N815

    def log_message(self, *args: object) -> None:
        pass


Serve = Callable[..., str]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Serve a folder with a dataset of all formats; return its URL."""
    (tmp_path / "www").mkdir()
    dataset = wk.Dataset(tmp_path / "www" / "ds", (4, 4, 35))
    for form in FORMATS:
        mag = dataset.add_layer(form, "color", dtype="uint8", data_format=form).add_mag(1, chunk_shape=32)
        mag.write(VOXELS, allow_resize=True)
    servers = []

    def started(**odd: object) -> str:
        kind = type("Served", (Odd,), odd)
        server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *a: kind(*a, directory=str(tmp_path / "www")))  # type: ignore[arg-type]
        Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/ds"

    yield started
    for server in servers:
        server.shutdown()
        server.server_close()


@contextmanager
def no_patience() -> Iterator[None]:
    with dask.config.set({"wkdask.storage.retry-seconds": 0}):
        yield


@pytest.mark.parametrize("told", ["nothing", "zero"])
def test_sizes_that_are_not_told_are_asked_for(serve: Serve, cli, tmp_path: Path, told: str) -> None:  # noqa: F811
    url = serve(told=told)
    done = cli("copy-dataset", url, str(tmp_path / "copy"))
    assert done.code == 0, done
    done = cli("check-equality", str(tmp_path / "www" / "ds"), str(tmp_path / "copy"))
    assert done.code == 0, done
    KEPT.clear()
    for form in FORMATS:
        mag = wk.Dataset.open(url).get_layer(form).get_mag(1)
        for _ in range(3):  # of which the later ones ask only whether the file is the same
            found = mag.read(absolute_offset=(3, 3, 3), size=(20, 20, 10))
            assert np.array_equal(found[0], VOXELS[3:23, 3:23, 3:13])
    size = (tmp_path / "www" / "ds" / "datasource-properties.json").stat().st_size
    assert (stat := (Location(url) / "datasource-properties.json").stat()) and stat.size == size


def test_an_empty_file_is_empty(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "www" / "ds" / "empty").write_bytes(b"")
    for told in ("nothing", "zero", "length"):
        place = Location(serve(told=told)) / "empty"
        stat = place.stat()
        assert stat and stat.size == 0 and place.read_bytes() == b""


def test_volumes_whose_chunks_are_sent_compressed(serve: Serve, cli, tmp_path: Path) -> None:  # noqa: F811
    url = serve(packs=True)
    layer = wk.Dataset.open(url).get_layer("neuroglancerPrecomputed")
    assert np.array_equal(layer.get_mag(1).read()[0], VOXELS)
    done = cli("copy-dataset", url, str(tmp_path / "copy"), "--layer-name", "neuroglancerPrecomputed")
    assert done.code == 0, done
    copy = wk.Dataset.open(tmp_path / "copy")
    assert np.array_equal(copy.get_layer("neuroglancerPrecomputed").get_mag(1).read()[0], VOXELS)
    assert copy.verify().ok


def halves(data: bytes) -> bytes:
    return gzip.compress(data[: len(data) // 2]) + gzip.compress(data[len(data) // 2 :])


@pytest.mark.parametrize("told", ["length", "nothing"])
@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("form", ["zarr", "n5", "neuroglancerPrecomputed"])
def test_what_is_compressed_in_several_members_is_whole(
    serve: Serve, tmp_path: Path, form: str, ranges: bool, told: str
) -> None:
    url = serve(packs=True, pack=staticmethod(halves), ranges=ranges, told=told)
    chunk = Location(wk.Dataset.open(url).get_layer(form).get_mag(1).array.handle.unit_location((0, 0, 0, 0)).url)
    data = (tmp_path / "www" / chunk.url.partition(":")[2].partition("/ds/")[2].join(["ds/", ""])).read_bytes()
    answer, stat = chunk.read_range(0, 1 << 20), chunk.stat()
    assert answer and answer.data == data and answer.size == len(data) and stat and stat.size == len(data)
    copied = wk.Dataset(tmp_path / "copy", (4, 4, 35))
    copied.add_layer_as_copy(wk.Dataset.open(url).get_layer(form))
    assert np.array_equal(copied.get_layer(form).get_mag(1).read()[0], VOXELS) and copied.verify().ok


@pytest.mark.parametrize("told", ["length", "nothing"])
@pytest.mark.parametrize(
    ("packing", "pack"), [("br", bytes), ("gzip", lambda data: gzip.compress(data)[:-9]), ("gzip", lambda data: b"no" + data)]
)
def test_what_can_not_be_unpacked_is_an_error(serve: Serve, tmp_path: Path, packing: str, pack, told: str) -> None:
    url = serve(packs=True, pack=staticmethod(pack), packing=packing, told=told)
    place = Location(wk.Dataset.open(url).get_layer("zarr").get_mag(1).array.handle.unit_location((0, 0, 0, 0)).url)
    with no_patience():
        for act in (lambda: place.read_range(0, 1 << 20), place.stat, lambda: copy_file(place, Location(tmp_path / "file"))):
            with pytest.raises(StorageError):
                act()
        with pytest.raises((StorageError, UnitsFailedError)):
            wk.Dataset(tmp_path / "copy", (4, 4, 35)).add_layer_as_copy(wk.Dataset.open(url).get_layer("zarr"))


def test_servers_that_know_no_ranges_from_the_end(serve: Serve) -> None:
    with no_patience():
        for form in ("zarr3", "wkw"):
            assert np.array_equal(wk.Dataset.open(serve(suffixes=False)).get_layer(form).get_mag(1).read()[0], VOXELS)


@pytest.mark.parametrize(
    ("missing", "form"),
    [(403, "zarr"), (403, "n5"), (403, "neuroglancerPrecomputed"), (400, "n5"), (401, "n5"), (410, "n5"), (200, "n5")],
)
def test_volumes_are_found_whatever_is_said_of_other_documents(
    serve: Serve,
    cli,  # noqa: F811
    tmp_path: Path,
    missing: int,
    form: str,
) -> None:
    source = f"{serve(missing=missing)}/{form}" + ("" if form == "neuroglancerPrecomputed" else "/1")
    done = cli(*arguments(source, str(tmp_path / "made"), "--layer-name", "em"))
    assert done.code == 0, done
    found = wk.Dataset.open(tmp_path / "made").get_layer("em").get_mag(1)
    assert np.array_equal(
        found.read(relative_offset=(0, 0, 0), size=SHAPE)[0], VOXELS
    )  # arrays of some formats reach further than their layer


@pytest.mark.parametrize("missing", [400, 401, 403, 200, 500])
def test_what_is_not_surely_absent_is_never_zero(serve: Serve, tmp_path: Path, missing: int) -> None:
    url = serve(missing=missing)
    with no_patience():
        for form in FORMATS:
            mag = wk.Dataset.open(url).get_layer(form).get_mag(1)
            for path in (tmp_path / "www" / "ds" / form).rglob("*"):
                if path.is_file() and path.name not in (
                    "zarr.json",
                    ".zarray",
                    "attributes.json",
                    "info",
                    "header.wkw",
                    ".zattrs",
                ):
                    path.unlink()
            with pytest.raises((StorageError, ValueError)):
                mag.read()


def test_what_is_gone_is_absent(serve: Serve) -> None:
    place = Location(serve(missing=410)) / "nothing"
    assert place.read_if_there() is None and place.stat() is None and place.read_range(0, 5) is None


def test_nothing_is_sent_to_be_kept(serve: Serve, cli, tmp_path: Path) -> None:  # noqa: F811
    url = serve()
    for act in (
        lambda: wk.Dataset(f"{url}2", (4, 4, 35)),
        lambda: wk.Dataset.open(url).add_layer("more", "color"),
        lambda: (Location(url) / "a").write_bytes(b"1"),
        (Location(url) / "a").delete,
        lambda: wk.Dataset.open(tmp_path / "www" / "ds").copy_dataset(f"{url}3"),
    ):
        with pytest.raises(StorageError, match=r"web servers are read only\. Give a folder, or a URL of S3 or GCS"):
            act()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["info", "http://127.0.0.1:99999/ds"], "has no port"),
        (["info", "http://127.0.0.1:abc/ds"], "has no port"),
        (["info", "http://[::1/ds"], "has no host"),
        (["info", "dir://ds"], "do not fit dir://"),
        (
            ["convert", "http://127.0.0.1:9/em/*.tif", "ds", "--voxel-size", "4,4,4"],
            "is a pattern, and web servers list nothing",
        ),
        (
            ["convert-raw", "http://127.0.0.1:9/em.raw", "ds", "--shape", "4,4,4"],
            "files of raw voxels are read from disks only",
        ),
    ],
)
def test_urls_that_can_not_be_meant_are_one_line(cli, words: list[str], message: str) -> None:  # noqa: F811
    done = cli(*words)
    assert done.code in (1, 2) and message in done.err and "Traceback" not in done.err


def test_raw_voxels_may_be_named_by_a_url_of_a_file(cli, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "em.raw").write_bytes(VOXELS.tobytes(order="F"))
    done = cli(
        *["convert-raw", f"file://{tmp_path}/em.raw", str(tmp_path / "made"), "--shape", "40,50,20", "--voxel-size", "4,4,4"]
    )
    assert done.code == 0, done
    assert np.array_equal(wk.Dataset.open(tmp_path / "made").get_layer("color").get_mag(1).read()[0], VOXELS)


def test_names_in_urls_are_read_as_people_do(serve: Serve, tmp_path: Path) -> None:
    import tifffile

    url = serve()
    tifffile.imwrite(tmp_path / "www" / "ds" / "my file.tif", VOXELS[..., 0].T)
    dataset = wk.Dataset.from_images(f"{url}/my%20file.tif", tmp_path / "made", (4, 4, 4))
    assert [*dataset.layers] == ["myfile"]


def test_protocols_whose_host_is_in_the_url_are_asked_there() -> None:
    with no_patience(), pytest.raises((StorageError, InputError)) as caught:
        Location("ftp://127.0.0.1:9/ds/a").read_bytes()
    assert "missing 1 required positional argument" not in str(caught.value)


def test_a_whole_answer_is_counted_and_not_asked_for_again(serve: Serve) -> None:
    """Where a server tells no size, and sends all though a byte was asked for."""
    seen: list[str] = []
    whole = Odd.answer

    def answer(self: Odd) -> None:
        seen.append(self.command)
        whole(self)

    url = serve(told="nothing", ranges=False, do_GET=answer, do_HEAD=answer)
    place = Location(f"{url}/datasource-properties.json")
    found = place.stat()
    assert found and seen == ["HEAD", "GET"] and found.size == len(place.read_bytes())
