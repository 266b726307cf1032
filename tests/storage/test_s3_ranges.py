"""Plain requests for ranges: made where they suffice, signed as the client does it, and the client's own where they do not."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import dask
import pytest

from tests.services.faulty import Fault, faulty
from tests.services.stores import KEY, SECRET, Store
from wkdask.errors import StorageError
from wkdask.storage import Location, ranges, retries, s3_ranges, taken_retries

pytest.importorskip("s3fs", reason="needs s3fs: pip install wkdask[s3]")


@pytest.fixture
def client_alone(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths that the client itself was asked for."""
    asked: list[str] = []
    by_client = ranges._ask_s3

    async def ask(fs: Any, path: str, start: int, stop: int) -> Any:
        asked.append(path)
        return await by_client(fs, path, start, stop)

    monkeypatch.setattr(ranges, "_ask_s3", ask)
    return asked


def known(place: Location) -> Location:
    """Return a place whose bucket its client has asked for something."""
    (place.parent / "first").write_bytes(b"1")
    (place.parent / "first").read_range(0, 1)
    return place


@pytest.mark.parametrize("name", ["a", "b c+d%20?x=1&y#z~é", "deep/er/a[1]*", "a//b"])
def test_any_name_is_read_and_most_by_plain_requests(s3: Store, client_alone: list[str], name: str) -> None:
    known(s3.place / "a")
    client_alone.clear()
    place = s3.place / name
    s3.client().put_object(Bucket="bench", Key=f"{s3.folder}/{name}", Body=b"0123456789")
    whole, some, last = place.read_range(0, 99), place.read_range(3, 5), place.read_range(-4)
    assert whole and some and last and (whole.data, some.data, last.data) == (b"0123456789", b"34", b"6789")
    assert whole.size == some.size == 10 and whole.version == some.version == last.version
    assert bool(client_alone) == (name == "a//b")


def test_what_is_not_there_and_what_is_empty(s3: Store, client_alone: list[str]) -> None:
    (s3.place / "empty").write_bytes(b"")
    known(s3.place / "a")
    client_alone.clear()
    assert (s3.place / "none").read_range(0, 9) is None and client_alone == []
    found = (s3.place / "empty").read_range(0, 9)
    assert found and (found.data, found.size) == (b"", 0)


def test_other_clients_are_asked_themselves(s3: Store, client_alone: list[str]) -> None:
    (s3.place / "a").write_bytes(b"0123456789")
    for more in ({"config_kwargs": {"s3": {"addressing_style": "path"}}}, {"requester_pays": True}):
        found = Location.of(f"{s3.url}/a", s3.options | more).read_range(2, 4)
        assert found and found.data == b"23"
    assert len(client_alone) == 2


def test_credentials_are_asked_for_again(s3: Store, client_alone: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the environment, too, which end some time."""
    monkeypatch.setattr(s3_ranges, "CREDENTIAL_SECONDS", 0.0)
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    (s3.place / "a").write_bytes(b"0123456789")
    place = Location.of(f"{s3.url}/a", {"client_kwargs": {"region_name": "eu-west-1"}})
    for _ in range(4):
        found = place.read_range(2, 4)
        assert found and found.data == b"23"
    assert len(client_alone) == 1  # the first time


@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 429}, {"reset": True}, {"truncate": True}], ids=str)
def test_what_may_pass_is_tried_again_by_us(
    s3: Store, client_alone: list[str], monkeypatch: pytest.MonkeyPatch, fault: dict[str, Any]
) -> None:
    monkeypatch.setattr(retries, "FIRST_PAUSE", 0.001)
    (s3.place / "a").write_bytes(b"0123456789")
    with faulty(s3.endpoint) as proxy:
        place = replace(s3, endpoint=proxy.endpoint).place / "a"
        place.read_range(0, 1)
        client_alone.clear()
        taken_retries()
        proxy.faults[:] = [Fault("GET", "/a$", times=2, **fault)]
        found = place.read_range(2, 4)
        assert found and found.data == b"23"
        assert proxy.fired == taken_retries() == 2 and client_alone == []


class Answers(BaseHTTPRequestHandler):
    """Answers as it is told, and keeps what it was asked."""

    status, headers_back, body = 200, {}, b""
    seen: ClassVar[list[dict[str, str]]] = []

    def do_GET(self) -> None:
        type(self).seen.append({"path": self.path, **dict(self.headers.items())})
        self.send_response(self.status)
        for name, value in {"Content-Length": str(len(self.body)), **self.headers_back}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def answering(status: int, body: bytes = b"", **headers: str) -> Iterator[tuple[str, list[dict[str, str]]]]:
    kind = type("Told", (Answers,), {"status": status, "body": body, "headers_back": headers, "seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", kind.seen
    finally:
        server.shutdown()
        server.server_close()


def plain(endpoint: str) -> s3_ranges.PlainRequests:
    """Return what asks for ranges at an endpoint, whose client was asked for one before."""
    place = Location.of("s3://bucket/a", {"key": KEY, "secret": SECRET, "endpoint_url": endpoint})
    found: s3_ranges.PlainRequests = place.files()[0].fs.plain_requests  # type: ignore[attr-defined]
    assert found.get("bucket", "a", "bytes=0-1", 2) is None
    with suppress(StorageError):
        place.read_range(0, 2)
    assert not found.off
    return found


def test_nothing_is_sent_elsewhere() -> None:
    """The store may lead to another host: the client decides what becomes of that."""
    with answering(206, b"stolen") as (there, seen), answering(307, Location=f"{there}/a") as (here, asked):
        requests = plain(here)
        seen.clear(), asked.clear()
        assert requests.get("bucket", "a", "bytes=0-5", 6) is None and requests.off
        assert len(asked) == 1 and seen == []


def test_the_address_holds_no_credentials(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with answering(206, b"01", **{"Content-Range": "bytes 0-1/2"}) as (endpoint, seen):
        requests = plain(endpoint)
        seen.clear()
        assert requests.get("bucket", "a", "bytes=0-1", 2) is not None
    [request] = seen
    assert request["path"] == "/bucket/a" and "AWS4-HMAC-SHA256" in request["Authorization"]
    assert SECRET not in caplog.text and "Authorization" not in "".join(
        record.getMessage() for record in caplog.records if record.name.startswith("urllib3")
    )


@pytest.mark.parametrize(("status", "off"), [(200, False), (416, False), (403, True), (400, True), (301, True)])
def test_of_other_answers_the_client_is_asked(status: int, off: bool) -> None:
    with answering(status, b"<Error><Code>Other</Code></Error>") as (endpoint, _):
        requests = plain(endpoint)
        assert requests.get("bucket", "a", "bytes=0-1", 2) is None and requests.off == off


def test_no_more_than_one_byte_too_many_is_read() -> None:
    with answering(206, bytes(1000), **{"Content-Range": "bytes 0-999/1000"}) as (endpoint, _):
        answer = plain(endpoint).get("bucket", "a", "bytes=0-9", 10)
        assert answer and len(answer[0]) == 11


def test_where_nothing_answers_the_client_says_so() -> None:
    place = Location.of("s3://bucket/a", {"key": KEY, "secret": SECRET, "endpoint_url": "http://127.0.0.1:9"})
    with pytest.raises(StorageError, match=r"nothing answers at 127.0.0.1:9"):
        place.read_range(0, 9)


def test_proxies_of_the_address_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(206, b"01", **{"Content-Range": "bytes 0-1/2"}) as (endpoint, _), answering(502) as (proxy, asked):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        monkeypatch.setenv("NO_PROXY", "amazonaws.com")
        place = Location.of("s3://bucket/a", {"key": KEY, "secret": SECRET, "endpoint_url": endpoint})
        for _ in range(2):
            with dask.config.set({"wkdask.storage.retry-seconds": 0}), suppress(StorageError):
                place.read_range(0, 2)
        assert place.files()[0].fs.plain_requests.off  # type: ignore[attr-defined]


@pytest.mark.parametrize("token", ["SECRETSESSION\n", "SECRET\r\nX-Other: 1"])
def test_what_no_header_can_have_is_not_shown(s3: Store, token: str) -> None:
    place = Location.of(f"{s3.url}/a", s3.options | {"token": token})
    for _ in range(2):
        with dask.config.set({"wkdask.storage.retry-seconds": 0}), pytest.raises(StorageError) as caught:
            place.read_range(0, 9)
        assert "SECRET" not in str(caught.value)
