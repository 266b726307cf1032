"""What holds of object stores: no change is lost, nothing is half there, faults pass or are named, secrets stay secret."""

from __future__ import annotations

import io
import json
import logging
import os
import pickle
import subprocess
import sys
import time
import traceback
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import dask
import fsspec.asyn
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wkdask as wk
from tests.services.faulty import Fault, Proxy, faulty
from tests.services.google import Google
from tests.services.stores import BUCKET, READER, READER_SECRET, SECRET, Store
from wkdask.errors import InputError, NotListedError, StorageError, UnitsFailedError
from wkdask.storage import (
    Location,
    Options,
    conditional,
    copy_file,
    lease,
    observe,
    parse_options,
    remote,
    retries,
    taken_retries,
    update_document,
    uploads,
)
from wkdask.storage.address import Address
from wkdask.storage.conditional import StoreWarning
from wkdask.storage.faults import IgnoresRangeError
from wkdask.storage.lease import Lease, current_owner
from wkdask.storage.ranges import PIECE_BYTES, ask
from wkdask.storage.remote import RemoteFiles
from wkdask.storage.uploads import LEAST_PART, Piece, is_note, parts_of

MB = 1 << 20


@pytest.fixture(scope="module")
def big() -> bytes:
    return os.urandom(34 * MB)


@pytest.fixture
def proxy(s3: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    monkeypatch.setattr(retries, "FIRST_PAUSE", 0.001)
    with faulty(s3.endpoint) as running:
        yield running


@pytest.fixture
def place(s3: Store, proxy: Proxy) -> Location:
    """The test's folder, behind the proxy."""
    return replace(s3, endpoint=proxy.endpoint).place


# ---------------------------------------------------------------------------------------------------- documents


def test_threads_lose_no_change(s3: Store) -> None:
    document = s3.place / "doc"

    def add(_: int) -> None:
        for _ in range(3):
            update_document(document, lambda old: b"%d" % (int(old or b"0") + 1))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(4)))
    assert document.read_bytes() == b"12"
    assert s3.keys() == {"doc"}


def test_a_write_whose_answer_is_lost_counts_once(place: Location, proxy: Proxy) -> None:
    document = place / "doc"
    update_document(document, lambda old: b"0")
    proxy.faults = [Fault("PUT", "/doc$", lost=True, times=1)]
    assert update_document(document, lambda old: (old or b"") + b"+") == b"0+"
    assert document.read_bytes() == b"0+" and proxy.fired == 1
    proxy.faults = [Fault("PUT", "/new$", lost=True, times=1)]
    assert (place / "new").create(b"mine")
    assert not (place / "new").create(b"mine") and (place / "new").read_bytes() == b"mine"


@pytest.mark.parametrize("known", [False, True], ids=["none is kept", "If-None-Match alone is kept"])
def test_stores_that_ignore_conditions_are_named_and_guarded(
    place: Location, s3: Store, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:

    def put(fs: Any, protocol: str, path: str, data: bytes, said: Any) -> str:
        bucket, key, _ = fs.split_path(path)
        condition = {"IfNoneMatch": "*"} if known and not said[0] else {}
        fs.call_s3("put_object", Bucket=bucket, Key=key, Body=data, **condition)
        return ""

    monkeypatch.setattr(conditional, "_put", put)
    with pytest.warns(StoreWarning, match=f"s3://{BUCKET} ignores conditions"):
        update_document(place / "doc", lambda old: b"0")

    def add(_: int) -> None:
        update_document(place / "doc", lambda old: b"%d" % (int(old or b"0") + 1))

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(add, range(3)))
    assert (place / "doc").read_bytes() == b"3"
    assert s3.keys() == {"doc"}


# ---------------------------------------------------------------------------------------------------- uploads


@given(st.data())
def test_parts_tile_the_object(data: st.DataObject) -> None:
    least, sent = 5, 10
    pieces, at = [], 0
    for gap, size, start in data.draw(
        st.lists(st.tuples(st.integers(0, 30), st.integers(1, 60), st.integers(0, 9)), max_size=5)
    ):
        pieces.append(Piece(at + gap, size, "a", start))
        at += gap + size
    size = at + data.draw(st.integers(0, 20))
    parts = list(parts_of(size, pieces, least, sent))
    assert [p.start for p in parts] == [0, *(p.stop for p in parts)][: len(parts)]
    assert (parts[-1].stop if parts else 0) == size
    assert all(p.stop - p.start >= least for p in parts[:-1])
    for part in parts:
        if part.piece:
            assert part.piece in pieces and part.piece.at <= part.start and part.stop <= part.piece.stop
        else:
            assert part.stop - part.start <= sent + least
    sent_bytes = sum(p.stop - p.start for p in parts if not p.piece)
    assert sent_bytes <= size - sum(max(0, p.size - 2 * least) for p in pieces)


def test_joins_are_made_inside_the_store(place: Location, proxy: Proxy, big: bytes, s3: Store) -> None:
    (place / "a").write_bytes(big)
    proxy.seen.clear()
    assert copy_file(place / "a", place / "b").size == len(big)
    with (place / "c").writer() as out:
        out.write(b"head")
        out.copy(place / "a", 7, 20 * MB)
        out.write(b"middle")
        out.copy(place / "b", 3, 16 * MB)
        stat = out.publish()
    expected = b"head" + big[7 : 20 * MB] + b"middle" + big[3 : 16 * MB]
    assert (place / "b").read_bytes() == big and (place / "c").read_bytes() == expected and stat.size == len(expected)
    gets = [path for method, path in proxy.seen if method == "GET" and path.endswith("/a")]
    assert len(gets) == 1  # the few bytes that fill a part up
    assert s3.keys() == {"a", "b", "c"} and not s3.uploads()


def test_an_upload_that_fails_is_aborted_but_not_what_others_send_to_the_same_key(
    place: Location, proxy: Proxy, big: bytes, s3: Store
) -> None:
    target = {"Bucket": BUCKET, "Key": f"{s3.folder}/a"}
    others = s3.client().create_multipart_upload(**target)["UploadId"]
    proxy.faults = [Fault("PUT", "partNumber=2", status=403)]
    with pytest.raises(StorageError, match="permission denied"):
        (place / "a").write_bytes(big)
    assert s3.keys() == set() and s3.uploads() == [f"{s3.folder}/a"]
    s3.client().abort_multipart_upload(**target, UploadId=others)
    assert not s3.uploads()


def test_an_upload_whose_answer_is_lost_counts_and_an_old_object_never_does(
    place: Location, proxy: Proxy, big: bytes, s3: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.faults = [Fault("POST", "uploadId=", lost=True, times=1)]
    (place / "a").write_bytes(big)
    assert (place / "a").read_bytes() == big and proxy.fired == 1
    complete = uploads.RemoteWriter._complete

    def after_others_aborted(self: Any, target: dict[str, Any], *rest: Any) -> None:
        s3.client().abort_multipart_upload(**target)
        complete(self, target, *rest)

    monkeypatch.setattr(uploads.RemoteWriter, "_complete", after_others_aborted)
    with pytest.raises(StorageError):
        (place / "a").write_bytes(bytes(len(big)))
    assert (place / "a").read_bytes() == big


def test_uploads_of_killed_processes_go_with_their_notes(s3: Store) -> None:
    code = f"""
import os, sys
from wkdask.storage import Location, uploads
place = Location.of({s3.url!r}, {s3.options!r})
def end(*args): os._exit(9)
uploads.RemoteWriter._complete = end
(place / "color" / "1").write_bytes(bytes(33 << 20), place / ".wkdask" / "jobs" / "color" / "tmp")
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    [key] = s3.uploads()
    assert key.endswith("color/1") and all(is_note(name) for name in s3.keys())  # noqa: SIM118 - no dict
    foreign = s3.client().create_multipart_upload(Bucket=BUCKET, Key=f"{s3.folder}/color/10")["UploadId"]
    (s3.place / ".wkdask").delete()
    assert s3.keys() == set() and s3.uploads() == [f"{s3.folder}/color/10"]
    s3.client().abort_multipart_upload(Bucket=BUCKET, Key=f"{s3.folder}/color/10", UploadId=foreign)


@pytest.mark.parametrize("said", [b"", b"{", b"[]", b'{"upload": 3}', b'{"upload": "bench/other/key"}', b"\xff"])
def test_notes_of_others_abort_nothing_elsewhere(s3: Store, said: bytes) -> None:
    other = s3.client().create_multipart_upload(Bucket=BUCKET, Key="other/key")["UploadId"]
    note = s3.place / ".wkdask" / ".x.3f-00112233aabb.tmp"
    note.write_bytes(said)
    (s3.place / ".wkdask").delete()
    found = s3.client().list_multipart_uploads(Bucket=BUCKET, Prefix="other/key")["Uploads"]
    assert other in [one["UploadId"] for one in found]
    s3.client().abort_multipart_upload(Bucket=BUCKET, Key="other/key", UploadId=other)


def test_deleting_takes_what_lies_below_and_nothing_beside(s3: Store) -> None:
    for name in ("a/b", "a/c/d", "ab", "a.txt"):
        (s3.place / name).write_bytes(b"1")
    (s3.place / "a").delete()
    assert s3.keys() == {"ab", "a.txt"} and s3.place.names() == ["a.txt", "ab"]


def test_deleting_goes_on_behind_short_pages_and_finds_what_came_meanwhile(s3: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores may list fewer keys than they are asked for; others may still write."""
    for number in range(12):
        (s3.place / "a" / f"{number % 3}" / f"{number}").write_bytes(b"1")
    files = s3.place.files()[0]
    call, late = files.fs.call_s3, ["late"]  # type: ignore[attr-defined]

    def short(name: str, **wanted: Any) -> Any:
        found = call(name, **(wanted | {"MaxKeys": 5} if name == "list_objects_v2" and "Delimiter" not in wanted else wanted))
        if name == "list_objects_v2" and not found.get("IsTruncated") and late:
            (s3.place / "a" / "2" / late.pop()).write_bytes(b"1")
        return found

    monkeypatch.setattr(files.fs, "call_s3", short)  # type: ignore[attr-defined]
    (s3.place / "a").delete()
    assert s3.keys() == set() and not late


def test_deleting_ends_where_the_store_keeps_what_it_is_told_to_delete() -> None:
    asked: list[str] = []

    class Keeps:
        def split_path(self, path: str) -> tuple[str, str, None]:
            bucket, _, key = path.partition("/")
            return bucket, key, None

        def call_s3(self, name: str, **_: Any) -> dict[str, Any]:
            asked.append(name)
            assert len(asked) < 10
            kept = {"Key": "ds/color/", "Code": "AccessDenied"}
            return {"Errors": [kept]} if name == "delete_objects" else {"Contents": [kept]}

    with pytest.raises(PermissionError, match="ds/color/ is still there"):
        RemoteFiles(Keeps(), "s3").delete("bucket/ds")


class Whole:
    """A client of a store that sends whole objects, whatever is asked for."""

    def __init__(self, protocol: str, held: bytes, content_range: str | None = None) -> None:
        self.protocol, self.held, self.content_range, self.read = protocol, held, content_range, 0
        self.loop = fsspec.asyn.get_loop()

    def split_path(self, path: str) -> tuple[str, str, None]:
        return "bucket", path, None

    def url(self, path: str) -> str:
        return path

    async def iter_chunks(self, size: int) -> AsyncIterator[bytes]:
        for start in range(0, len(self.held), size):
            self.read += 1
            yield self.held[start : start + size]

    def close(self) -> None:
        pass

    async def _call_s3(self, *_: Any, **__: Any) -> dict[str, Any]:
        return {"Body": self, "ETag": "1", "ContentRange": self.content_range}

    async def _call(self, *_: Any, **__: Any) -> tuple[dict[str, str], bytes]:
        return {"Content-Range": self.content_range} if self.content_range else {}, self.held


@pytest.mark.parametrize("protocol", ["s3", "gcs"])
def test_what_is_no_range_is_never_taken_for_one(protocol: str) -> None:
    whole = Whole(protocol, b"0123456789")
    assert ask(whole, "a", 0, 10).data == ask(whole, "a", 0, 99).data == ask(whole, "a", -99, 0).data == whole.held
    for start, stop in ((0, 9), (1, 5), (1, 10), (1, 99), (-9, 0)):
        with pytest.raises(IgnoresRangeError):
            ask(whole, "a", start, stop)


@pytest.mark.parametrize("protocol", ["s3", "gcs"])
def test_another_range_than_asked_for_is_never_taken_for_it(protocol: str) -> None:
    def client(said: str) -> Whole:
        return Whole(protocol, b"0123", said)

    assert ask(client("bytes 2-5/10"), "a", 2, 6).size == ask(client("bytes 6-9/10"), "a", -4, 0).size == 10
    for said, start, stop in (("3-6/10", 2, 6), ("2-5/10", -4, 0), ("2-3/10", 2, 6)):
        with pytest.raises(StorageError, match=f"a: from byte {max(2, 10 + start) if start < 0 else start} on was asked for"):
            ask(client(f"bytes {said}"), "a", start, stop)
    with pytest.raises(StorageError, match=r"a: the server does not tell its size \(bytes 2-5/\*\)"):
        ask(client("bytes 2-5/*"), "a", 2, 6)


def test_no_more_of_an_object_is_taken_than_tells_that_it_is_no_range() -> None:
    whole = Whole("s3", bytes(10 * PIECE_BYTES))
    with pytest.raises(IgnoresRangeError):
        ask(whole, "a", 0, 10)
    assert whole.read == 1


# ---------------------------------------------------------------------------------------------------- faults


FAULTS = [{"status": 503}, {"status": 500}, {"status": 429}, {"reset": True}, {"truncate": True, "method": "GET"}]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_faults_that_pass_are_tried_again_and_counted(fault: dict[str, object], place: Location, proxy: Proxy) -> None:
    (place / "a").write_bytes(b"0123456789")
    taken_retries()
    events: list[str] = []
    for act in (
        lambda: (place / "a").read_bytes(2, 5),
        (place / "a").read_bytes,
        lambda: (place / "b").write_bytes(b"1"),
    ):
        proxy.faults = [Fault(**{"times": 2, **fault})]  # type: ignore[arg-type]
        with observe(lambda event, url: events.append(event)):
            assert act() in (b"234", b"0123456789", None)
    assert proxy.fired >= events.count("retry") > 0  # of resets, the client below repeats some
    assert taken_retries() == events.count("retry")
    assert taken_retries() == 0


def test_random_faults_change_nothing(place: Location, proxy: Proxy, big: bytes) -> None:
    proxy.faults = [
        Fault(status=503, probability=0.1),
        Fault(reset=True, probability=0.1),
        Fault("GET", truncate=True, probability=0.1),
    ]
    for number in range(8):
        (place / f"{number}").write_bytes(big[: number * 1000])
    (place / "big").write_bytes(big)
    assert [len((place / f"{n}").read_bytes()) for n in range(8)] == [n * 1000 for n in range(8)]
    assert (place / "big").read_bytes() == big and proxy.fired > 3


def test_a_constant_fault_ends_in_an_error_within_the_limit(place: Location, proxy: Proxy) -> None:
    assert not (place / "b").is_file()  # the client is made now
    proxy.faults = [Fault(status=503)]
    with dask.config.set({"wkdask.storage.retry-seconds": 1}):
        with pytest.raises(StorageError, match=r"127.0.0.1:\d+ did not answer"):
            (place / "a").read_bytes()
    assert len(proxy.seen) > 3


def test_the_limit_is_that_of_a_store_not_of_each_request(place: Location, proxy: Proxy, monkeypatch: Any) -> None:
    assert not (place / "b").is_file()
    with dask.config.set({"wkdask.storage.retry-seconds": 0.5}):
        proxy.faults = [Fault(status=503)]
        with pytest.raises(StorageError):
            (place / "a").read_bytes()
        for name in "bcd":  # whoever asks now has waited already
            before = len(proxy.seen)
            with pytest.raises(StorageError):
                (place / name).read_bytes()
            assert len(proxy.seen) <= before + 2  # what the client below asks at once for one reading
        proxy.faults = []
        assert (place / "a").stat() is None  # the store answers again
        proxy.faults = [Fault(status=503)]
        before = len(proxy.seen)
        with pytest.raises(StorageError):
            (place / "a").read_bytes()
        assert len(proxy.seen) > before + 4
        monkeypatch.setattr(retries, "FORGOTTEN_SECONDS", 0.0)  # as if it had been long ago
        before = len(proxy.seen)
        with pytest.raises(StorageError):
            (place / "a").read_bytes()
        assert len(proxy.seen) > before + 4


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_no_is_not_asked_again(status: int, place: Location, proxy: Proxy) -> None:
    proxy.faults = [Fault(status=status)]
    with pytest.raises(StorageError):
        (place / "a").read_bytes()
    assert len(proxy.seen) == 1


def test_only_what_the_store_says_is_missing_is_missing(place: Location, proxy: Proxy) -> None:
    assert (place / "a").stat() is None
    for fault in (Fault(status=403), Fault(status=500), Fault(reset=True)):
        proxy.faults = [fault]
        with dask.config.set({"wkdask.storage.retry-seconds": 0}), pytest.raises(StorageError):
            (place / "a").stat()
    proxy.faults = []
    with pytest.raises(StorageError, match="no such bucket"):
        Location(f"s3://missing-{BUCKET}/a", place.options).stat()


CASES = {
    "wrong secret": ({"secret": "no-s3cret"}, "the secret key is wrong"),
    "unknown key": ({"key": "nobody"}, "does not know the access key"),
    "wrong endpoint": ({"endpoint_url": "http://127.0.0.1:1"}, "nothing answers at 127.0.0.1:1"),
    "no such host": ({"endpoint_url": "http://no.such.host.invalid"}, "the host no.such.host.invalid is not known"),
    "anonymous": ({"anon": True}, "permission denied"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_named_and_the_secret_is_not(case: str, s3: Store) -> None:
    change, said = CASES[case]
    place = Location.of(s3.url, {**s3.options, **change}) / "a"
    for act in (place.read_bytes, place.stat, lambda: place.write_bytes(b"1"), place.parent.names):
        with pytest.raises(StorageError, match=said) as caught:
            act()
        assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_tls_and_rights_and_expired_tokens(s3: Store, place: Location, proxy: Proxy) -> None:
    with pytest.raises(StorageError, match="no secure connection"):
        Location.of(s3.url, {**s3.options, "endpoint_url": s3.endpoint.replace("http", "https")}).names()
    (s3.place / "a").write_bytes(b"1")
    reader = Location.of(s3.url, {**s3.options, "key": READER, "secret": READER_SECRET})
    assert (reader / "a").read_bytes() == b"1"
    with pytest.raises(StorageError, match=r"b can not be written: permission denied by 127.0.0.1"):
        (reader / "b").write_bytes(b"1")
    for status in (400, 403):
        proxy.faults = [Fault(status=status, code="ExpiredToken")]
        with pytest.raises(StorageError, match=r"session token has expired") as caught:
            (place / "a").read_bytes()
        assert proxy.endpoint.removeprefix("http://") in str(caught.value)


GOOGLE_CASES = {
    "wrong endpoint": ("http://127.0.0.1:1", "nothing answers at 127.0.0.1:1"),
    "no such host": ("http://no.such.host.invalid", "the host no.such.host.invalid is not known"),
    "no TLS": ("https://{host}", "no secure connection to {host}"),
    "no bucket": ("http://{host}", "{host} says that there is no such bucket"),
    "expired token": ("http://{proxy}", r"{proxy} .*\(401\)"),
    "no right": ("http://{proxy}", "permission denied by {proxy}"),
}


@pytest.mark.parametrize("case", GOOGLE_CASES)
def test_what_is_wrong_of_googles_store_is_named(case: str, gcs: Google) -> None:
    endpoint, said = GOOGLE_CASES[case]
    with faulty(gcs.endpoint) as proxy:
        proxy.faults = [Fault(status=401 if case == "expired token" else 403)]
        names = {"host": gcs.endpoint.removeprefix("http://"), "proxy": proxy.endpoint.removeprefix("http://")}
        options = {**gcs.options, "endpoint_url": endpoint.format(**names)}
        url = f"gs://no-{BUCKET}" if case == "no bucket" else gcs.url
        place = Location.of(f"{url}/a", options)
        for act in (place.read_bytes, lambda: place.write_bytes(b"1")):
            with pytest.raises(StorageError, match=said.format(**names)) as caught:
                act()
            assert len(str(caught.value).splitlines()) == 1 and len(proxy.seen) < 4


# ---------------------------------------------------------------------------------------------------- credentials


def test_secrets_are_in_no_text_and_no_pickle(s3: Store) -> None:
    out, handler = io.StringIO(), logging.StreamHandler()
    handler.setStream(out)
    logging.getLogger().addHandler(handler)
    try:
        place = s3.place / "a"
        place.write_bytes(b"1")
        graph = dask.delayed(place.read_bytes)()
        texts = [
            repr(place),
            str(place),
            repr(place.options),
            str(pickle.dumps(place)),
            repr(graph.dask),
            repr(dict(graph.dask)),
        ]
        assert graph.compute(scheduler="sync") == b"1"
    finally:
        logging.getLogger().removeHandler(handler)
    assert SECRET not in "".join(texts) + out.getvalue()
    again = pickle.loads(pickle.dumps(place))
    assert again == place and again.read_bytes() == b"1"
    assert dask.base.tokenize(place) == dask.base.tokenize(again)


@given(
    st.dictionaries(st.sampled_from(["key", "secret", "headers", "token"]), st.text(st.characters(codec="ascii"), min_size=8))
)
def test_options_survive_pickling_and_are_struck_out(given: dict[str, str]) -> None:
    options = Options(given)
    data = pickle.dumps(options)
    assert pickle.loads(data) == options and dict(options) == given
    text = options.conceal(" ".join(given.values()))
    assert not [value for value in given.values() if value in text and value not in "*** *** *** ***"]


def test_the_environment_serves_other_processes(s3: Store) -> None:
    (s3.place / "a").write_bytes(b"1")
    code = f"from wkdask.storage import Location; print(Location.of('{s3.url}/a').read_bytes())"
    for name in ("AWS_ENDPOINT_URL", "S3_ENDPOINT_URL"):
        environment = {**os.environ, **s3.environment}
        environment[name] = environment.pop("AWS_ENDPOINT_URL")
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
        assert done.stdout == "b'1'\n", done.stderr


def test_urls_with_the_endpoint_in_them(s3: Store) -> None:
    (s3.place / "a").write_bytes(b"1")
    host = s3.endpoint.removeprefix("http://")
    assert Location.of(f"s3://{host}/{BUCKET}/{s3.folder}/a", s3.options).read_bytes() == b"1"
    with pytest.raises(InputError, match="another endpoint"):
        Location.of(f"s3://localhost:1/{BUCKET}/a", s3.options).read_bytes()


@pytest.mark.parametrize(
    ("url", "kept", "endpoint"),
    [
        ("s3://lab.org:9000/b/k", True, "https://lab.org:9000"),
        ("s3://bucket/k", True, "https://lab.org:9000"),
        ("s3://elsewhere.org/b/k", False, "https://elsewhere.org"),
        ("s3://s3.amazonaws.com/b/k", False, None),
        ("https://lab.org:9000/b/k", False, None),
        ("gs://bucket/k", False, None),
    ],
)
def test_credentials_go_to_their_own_host_only(
    url: str, kept: bool, endpoint: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "S3_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    base = Location.of("s3://bucket/ds", {"key": "k", "secret": "s", "endpoint_url": "https://lab.org:9000"})
    found = base.linked(url)
    assert ("secret" in found.options) == kept
    assert Address.of(found.url, found.options).options.get("endpoint_url") == endpoint


@pytest.mark.parametrize(
    ("host", "trusted"),
    [
        ("s3.amazonaws.com", True),
        ("s3.eu-west-1.amazonaws.com", True),
        ("s3-us-west-2.amazonaws.com", True),
        ("s3.dualstack.eu-west-1.amazonaws.com", True),
        ("s3-fips.dualstack.us-east-1.amazonaws.com", True),
        ("ec2-203-0-113-25.compute-1.amazonaws.com", False),
        ("s3-mine-1234.us-east-1.elb.amazonaws.com", False),
        ("abc.execute-api.us-east-1.amazonaws.com", False),
        ("s3.amazonaws.com.elsewhere.org", False),
    ],
)
def test_machines_of_customers_of_amazon_get_no_credentials(host: str, trusted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "S3_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    given = Location.of("s3://bucket/ds", {"key": "k", "secret": "s"}).linked(f"s3://{host}/b/k")
    assert ("secret" in given.options) == trusted
    found = Location.of("https://lab.org/ds").linked(f"s3://{host}/b/k")  # else the environment's are taken
    assert found.options.get("anon", False) == (not trusted)


def test_users_of_web_servers_are_options() -> None:
    place = Location("https://me:pa%2Fss@host/ds")
    assert place.url == "https://host/ds" and dict(place.options) == {"username": "me", "password": "pa/ss"}


def test_words_of_options() -> None:
    assert dict(parse_options(["key=a=b", "client_kwargs.verify=false", 'headers={"a": "b"}'])) == {
        "key": "a=b",
        "client_kwargs": {"verify": False},
        "headers": {"a": "b"},
    }
    for wrong in (["s3cret"], ["=s3cret"], ["a={s3cret"], ["a=s3cret", "a.b=1"]):
        with pytest.raises(InputError) as caught:
            parse_options(wrong)
        assert "s3cret" not in str(caught.value)


def test_s3fs_is_imported_for_s3_only() -> None:
    code = "import sys, wkdask; from wkdask.storage import Location; Location('memory://a/b').write_bytes(b'1'); "
    code += "print(json.dumps([n for n in ('s3fs', 'aiobotocore', 'gcsfs', 'aiohttp') if n in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", f"import json; {code}"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_the_least_part_is_what_stores_take() -> None:
    assert LEAST_PART == 5 * MB


# ---------------------------------------------------------------------------------- what testers with proxies found


@pytest.fixture
def google_behind(gcs: Google) -> Iterator[tuple[Location, Proxy]]:
    with faulty(gcs.endpoint) as running:
        yield replace(gcs, endpoint=running.endpoint).place, running


def test_an_earlier_answer_is_no_answer_to_what_is_asked_then(place: Location, proxy: Proxy) -> None:
    """Whose is it, and is the bucket there, are asked while a 412 or 404 is handled."""
    (place / "a").write_bytes(b"1")
    proxy.faults = [Fault("HEAD", reset=True, times=2)]
    assert not (place / "a").create(b"2")
    retries_of_buckets = [Fault("HEAD", rf"/{BUCKET}$", reset=True, times=2)]
    remote._buckets.clear()
    proxy.faults = retries_of_buckets
    assert not (place / "missing").is_file()
    assert proxy.fired == 4


@pytest.mark.parametrize("fault", [Fault(reset=True, times=3), Fault(status=503, times=2)], ids=["reset", "503"])
def test_a_folder_is_never_denied_by_a_broken_connection(
    google_behind: tuple[Location, Proxy], fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "FIRST_PAUSE", 0.001)
    place, proxy = google_behind
    (place / "a" / "b").write_bytes(b"1")
    proxy.faults = [replace(fault)]
    assert (place / "a").is_folder() and proxy.fired
    assert not (place / "b").is_folder()
    for status, kind in ((403, NotListedError), (401, StorageError)):
        proxy.faults = [Fault(status=status)]
        with pytest.raises(kind):
            (place / "a").is_folder()


def test_deleting_beside_writers_is_no_error(gcs: Google, s3: Store) -> None:
    for place in (gcs.place, s3.place):

        def flap(number: int, place: Location = place) -> None:
            for turn in range(12):
                (place / "x" / "y").write_bytes(b"%d" % turn) if number else (place / "x").delete_files(["y"])
                if not number:
                    (place / "x" / "y").delete()

        with ThreadPoolExecutor(3) as pool:
            list(pool.map(flap, range(3)))
        (place / "x").delete()
        assert not (place / "x").is_folder()


def test_a_lease_given_up_twice_leaves_that_of_the_next(place: Location, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Lease(place / "run.json", "first"), Lease(place / "run.json", "second")
    first.__enter__()
    taken: list[Lease] = []
    once = proxy.pick

    def pick(method: str, path: str) -> Fault:
        fault = once(method, path)
        if fault.lost:

            def take() -> None:
                time.sleep(0.3)  # the request is done by then
                taken.append(second.__enter__())

            Thread(target=take).start()
        return fault

    proxy.pick = pick  # type: ignore[method-assign]
    proxy.faults = [Fault("POST", "delete", lost=True, times=1)]
    monkeypatch.setattr(lease, "FIRST_PAUSE", 1.0)
    first.__exit__(None, None, None)
    assert taken and (owner := current_owner(place / "run.json")) and owner.work == "second"
    second.__exit__(None, None, None)


def test_tasks_that_failed_are_told_where_the_lease_can_not_be_given_up(place: Location, proxy: Proxy) -> None:
    dataset = wk.Dataset(place / "ds", (4, 4, 35))
    layer = dataset.add_layer("em", "color", dtype="uint8")
    layer.add_mag(1).write(np.ones((64, 64, 64), "uint8"), allow_resize=True)
    plan = layer.plan_downsample()
    once = proxy.pick

    def pick(method: str, path: str) -> Fault:
        if method == "GET" and "/em/1/c/0" in path.partition("?")[0]:  # the first voxels that are read; from then on all fails
            proxy.faults = [Fault(status=403, code="ExpiredToken")]
        return once(method, path)

    proxy.pick = pick  # type: ignore[method-assign]
    with pytest.raises(UnitsFailedError, match="session token has expired"):
        plan.run()
    proxy.pick, proxy.faults = once, []  # type: ignore[method-assign]
    layer.plan_downsample().run()
    assert len(wk.Dataset.open(place / "ds").get_layer("em").mags) > 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_nothing_follows_where_a_store_leads_elsewhere(status: int) -> None:
    seen: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            here = self.server.server_address[1]
            if here == there.server_address[1]:
                seen.append(dict(self.headers.items()))
            self.send_response(404 if here == there.server_address[1] else status)
            self.send_header("Location", f"http://127.0.0.1:{there.server_address[1]}{self.path}")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_PUT = do_HEAD = do_POST = do_GET  # noqa: N815

        def log_message(self, *args: object) -> None:
            pass

    here, there = (ThreadingHTTPServer(("127.0.0.1", 0), Handler) for _ in range(2))
    for server in (here, there):
        Thread(target=server.serve_forever, daemon=True).start()
    options = {
        "key": "AK",
        "secret": "SK",
        "token": "session-token",
        "endpoint_url": f"http://127.0.0.1:{here.server_address[1]}",
    }
    customer = {"s3_additional_kwargs": {"SSECustomerKey": "0" * 32, "SSECustomerAlgorithm": "AES256"}}
    try:
        for more in ({}, customer):
            place = Location.of("s3://bench/a", {**options, **more})
            for act in (place.read_bytes, place.stat, lambda place=place: place.write_bytes(b"1"), place.names):
                with pytest.raises(StorageError, match="leads to another place"):
                    act()
    finally:
        for server in (here, there):
            server.shutdown()
            server.server_close()
    assert not seen


def test_an_answer_that_comes_from_elsewhere_is_none(s3: Store) -> None:
    """Of a page that lets nobody pass, for instance."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(200)
            self.send_header("Content-Length", "6")
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else b"<html>")

        do_PUT = do_HEAD = do_POST = do_GET  # noqa: N815

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    place = Location.of("s3://bench/a", {**s3.options, "endpoint_url": f"http://127.0.0.1:{server.server_address[1]}"})
    try:
        with dask.config.set({"wkdask.storage.retry-seconds": 0}):
            for act in (place.stat, lambda: place.write_bytes(b"1"), lambda: place.create(b"1")):
                with pytest.raises(StorageError):
                    act()
    finally:
        server.shutdown()
        server.server_close()


def test_a_missing_file_of_certificates_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nonexistent.pem")
    place = Location.of("s3://bench/a", {"key": "k", "secret": "s", "endpoint_url": "https://127.0.0.1:9"})
    with pytest.raises(StorageError, match="a file of this machine is not there"):
        place.read_bytes()


def test_datasets_out_of_reach_have_a_repr(s3: Store, place: Location, proxy: Proxy) -> None:
    dataset = wk.Dataset(place / "ds", (4, 4, 35))
    proxy.faults = [Fault(status=403)]
    time.sleep(1.1)  # what the JSON said within the last second is not asked for again
    assert "which can not be read" in repr(dataset)


@pytest.mark.parametrize("kind", ["s3", "gcs"])
def test_a_change_whose_answer_is_lost_is_made_once_though_others_follow(kind: str, request: pytest.FixtureRequest) -> None:
    store = request.getfixturevalue(kind)
    with faulty(store.endpoint) as proxy:
        mine, other = replace(store, endpoint=proxy.endpoint).place / "doc", store.place / "doc"
        update_document(mine, lambda _: b"0")
        once = proxy.pick

        def pick(method: str, path: str) -> Fault:
            fault = once(method, path)
            if not fault.lost and proxy.fired and not written:  # ours is done; before it is sent again, another one writes
                written.append(path)
                for number in range(3):
                    update_document(other, lambda old, number=number: (old or b"") + b"%d" % number)
            return fault

        written: list[str] = []
        changes: list[bytes] = []

        def change(old: bytes | None) -> bytes:
            changes.append(old or b"")
            return (old or b"") + b"m"

        proxy.pick = pick  # type: ignore[method-assign]
        proxy.faults = [Fault("PUT|POST", r"doc|/o\?", lost=True, times=1)]
        update_document(mine, change)
        assert proxy.fired and written
        assert changes == [b"0"] and (store.place / "doc").read_bytes() == b"0m012"
