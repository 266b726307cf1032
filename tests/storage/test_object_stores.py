"""What holds of object stores: no change is lost, nothing is half there, faults pass or are named, secrets stay secret."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import traceback
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import dask
import fsspec.asyn
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.services.faulty import Fault, Proxy, faulty
from tests.services.google import Google
from tests.services.recording import recording
from tests.services.stores import BUCKET, READER, READER_SECRET, Store
from wkdask.errors import StorageError
from wkdask.storage import (
    Location,
    Stat,
    conditional,
    copy_file,
    observe,
    retries,
    taken_retries,
    update_document,
    uploads,
)
from wkdask.storage.conditional import StoreWarning
from wkdask.storage.faults import IgnoresRangeError
from wkdask.storage.ranges import PIECE_BYTES, ask
from wkdask.storage.remote import RemoteFiles
from wkdask.storage.uploads import LEAST_PART, Piece, is_note, parts_of

MB = 1 << 20


@pytest.fixture(scope="module")
def big() -> bytes:
    return os.urandom(34 * MB)


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


def test_the_least_part_is_what_stores_take() -> None:
    assert LEAST_PART == 5 * MB


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


@pytest.mark.parametrize("kind", ["s3", "gcs"])
def test_a_store_copies_what_was_seen_or_nothing(kind: str, request: pytest.FixtureRequest) -> None:
    store = request.getfixturevalue(kind)
    with faulty(store.endpoint) as proxy:
        place = replace(store, endpoint=proxy.endpoint).place
        for size in (10, LEAST_PART * 3):
            (place / "a").write_bytes(b"1" * size)
            seen = (place / "a").stat()
            proxy.seen.clear()
            copied = copy_file(place / "a", place / "b", seen=seen)
            assert len(proxy.seen) == 1 and (copied.size, copied.stamp) == (size, (place / "b").stat().stamp)
            assert (place / "b").read_bytes() == b"1" * size
            (place / "a").write_bytes(b"2" * size)
            (place / "b").delete()
            with pytest.raises(StorageError, match=r"/a was changed or deleted while it was copied. Stop its"):
                copy_file(place / "a", place / "b", seen=seen)
            (place / "a").delete()
            with pytest.raises(StorageError, match=r"/a was changed or deleted while it was copied. Stop its"):
                copy_file(place / "a", place / "b", seen=seen)
            assert not (place / "b").is_file()


@pytest.mark.parametrize(("kind", "body"), [("s3", b"<CopyObjectResult/>"), ("gcs", b"{}")])
def test_a_copy_that_is_not_told_to_be_done_is_none(kind: str, body: bytes, request: pytest.FixtureRequest) -> None:
    with recording(body=body, path="") as (here, _), dask.config.set({"wkdask.storage.retry-seconds": 0}):
        place = replace(request.getfixturevalue(kind), endpoint=here).place
        with pytest.raises(StorageError, match="did not answer properly"):
            copy_file(place / "a", place / "b", seen=Stat(10, 0, '"1"'))


def test_what_was_seen_counts_between_stores(s3: Store) -> None:
    other = Location(f"memory://{s3.folder}/a")
    for source, target in ((s3.place / "a", other), (other, s3.place / "a")):
        source.write_bytes(b"1" * 10)
        seen = source.stat()
        source.write_bytes(b"2" * 20)
        with pytest.raises(StorageError, match="was changed while it was copied"):
            copy_file(source, target, seen=seen)


def test_what_a_customers_key_encrypts_is_copied_with_it(s3: Store, big: bytes) -> None:
    """Whole; SeaweedFS can not copy parts of what is encrypted so."""
    key = {"SSECustomerKey": "0123456789abcdef" * 2, "SSECustomerAlgorithm": "AES256"}
    place = Location.of(s3.url, {**s3.options, "s3_additional_kwargs": key})
    for data in (b"small", big):
        (place / "a").write_bytes(data)
        copy_file(place / "a", place / "b")
        assert (place / "b").read_bytes() == data
        with pytest.raises(StorageError, match="must provide the customer key"):
            (s3.place / "b").read_bytes()


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
    monkeypatch.setattr(retries, "LONGEST_PAUSE", 0.05)
    with dask.config.set({"wkdask.storage.retry-seconds": 3}):  # long enough for some, however busy the machine is
        proxy.faults = [Fault(status=503)]
        before = len(proxy.seen)
        with pytest.raises(StorageError):
            (place / "a").read_bytes()
        assert len(proxy.seen) > before + 2
        time.sleep(0.1)  # what was left of the limit
        monkeypatch.setattr(retries, "FORGOTTEN_SECONDS", 0.0)  # as if it had been long ago
        before = len(proxy.seen)
        with pytest.raises(StorageError):
            (place / "a").read_bytes()
        assert len(proxy.seen) > before + 2


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
