"""A proxy before a store that does what networks and busy stores do: it refuses, hangs up, cuts off, and flips a bit.

The Host header is passed on, so that signatures stay valid.
"""

from __future__ import annotations

import http.client
import random
import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

ERROR = '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{}</Code><Message>injected</Message></Error>'
CODES = {
    401: "Unauthorized",
    403: "AccessDenied",
    404: "NoSuchKey",
    412: "PreconditionFailed",
    429: "TooManyRequests",
    500: "InternalError",
}
HOP = {"connection", "keep-alive", "transfer-encoding", "expect", "te", "upgrade"}


@dataclass
class Fault:
    """What becomes of requests that match: answered by ``status``, reset, ``truncate``d, ``flip``ped, or done but ``lost``.

    A request is done, and its answer lost, with ``lost``; so many times at most; with a probability.
    """

    method: str = "."
    path: str = "."
    status: int = 0
    code: str = ""
    reset: bool = False
    truncate: bool = False
    flip: bool = False
    lost: bool = False
    times: int = 1 << 30
    probability: float = 1.0


@dataclass
class Proxy:
    """Where the proxy listens, what it does, and what it saw: method and path of each request, and copies inside S3."""

    endpoint: str
    faults: list[Fault] = field(default_factory=list)
    seen: list[tuple[str, str]] = field(default_factory=list)
    copies: int = 0
    fired: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    dice: random.Random = field(default_factory=lambda: random.Random(7))

    def pick(self, method: str, path: str) -> Fault:
        """Return what is to be done with a request."""
        with self.lock:
            self.seen.append((method, path))
            for fault in self.faults:
                matches = re.search(fault.method, method) and re.search(fault.path, path)
                if matches and fault.times > 0 and self.dice.random() < fault.probability:
                    fault.times -= 1
                    self.fired += 1
                    return fault
        return Fault()


@contextmanager
def faulty(endpoint: str) -> Iterator[Proxy]:  # noqa: C901 - a handler of requests is a class
    """Run a proxy before a store."""
    upstream = urlsplit(endpoint)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            proxy.copies += "x-amz-copy-source" in self.headers
            fault = proxy.pick(self.command, self.path)
            if fault.reset:
                self.hang_up()
            elif fault.status:
                text = ERROR.format(fault.code or CODES.get(fault.status, "SlowDown")).encode()
                self.answer(fault.status, [("Content-Type", "application/xml")], text)
            else:
                self.pass_on(body, fault)

        def pass_on(self, body: bytes, fault: Fault) -> None:
            connection = http.client.HTTPConnection(str(upstream.hostname), upstream.port, timeout=60)
            headers = {k: v for k, v in self.headers.items() if k.lower() not in HOP}
            connection.request(self.command, self.path, body or None, headers)
            answer = connection.getresponse()
            data = answer.read()
            connection.close()
            if fault.lost:
                self.hang_up()
                return
            if fault.flip and data:
                data = data[:-1] + bytes([data[-1] ^ 1])
            headers_back = [(k, v) for k, v in answer.getheaders() if k.lower() not in HOP]
            self.answer(answer.status, headers_back, data, cut=fault.truncate)

        def answer(self, status: int, headers: list[tuple[str, str]], data: bytes, cut: bool = False) -> None:
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() != "content-length" or self.command == "HEAD":
                    self.send_header(name, value)
            if self.command != "HEAD" or not any(name.lower() == "content-length" for name, _ in headers):
                self.send_header("Content-Length", str(len(data) if self.command != "HEAD" else 0))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data[: len(data) // 2] if cut else data)
            if cut:
                self.wfile.flush()
                self.hang_up()

        def hang_up(self) -> None:
            with suppress(OSError):
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
            self.close_connection = True

        def handle(self) -> None:
            with suppress(OSError, ValueError):
                super().handle()

        def finish(self) -> None:
            with suppress(OSError, ValueError):
                super().finish()

        def log_message(self, *args: object) -> None:
            pass

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    proxy = Proxy(f"http://127.0.0.1:{server.server_address[1]}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
