"""A web server of a folder that counts what it is asked for, and fails as it is told; on the loopback, in a thread."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Fault = Callable[["Handler", bytes], bool]
"""Given a request and the body that would be sent, whether it was answered otherwise."""


@dataclass
class Served:
    """A folder that is served, and what was asked for: method, path below it, and bytes sent."""

    url: str
    seen: list[tuple[str, str, int]] = field(default_factory=list)
    fault: Fault | None = None
    ranges: bool = True
    version: Callable[[str], str] = str

    @property
    def requests(self) -> int:
        """Requests since `forget`."""
        return len(self.seen)

    @property
    def sent(self) -> int:
        """Bytes of bodies since `forget`."""
        return sum(count for *_, count in self.seen)

    def forget(self) -> None:
        """Begin to count anew."""
        self.seen.clear()


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD of files; folders are not there, as on most servers."""

    protocol_version = "HTTP/1.1"
    folder: Path
    served: Served
    told: str

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        """Answer without a body."""
        self.do_GET()

    def do_GET(self) -> None:
        """Answer with a file or a range of it."""
        path = self.folder / self.path.lstrip("/")
        if not path.is_file():
            self.answer(404, b"", "")
            return
        data, said = path.read_bytes(), self.headers.get("Range")
        found = re.fullmatch(r"bytes=(\d*)-(\d*)", said or "") if self.served.ranges else None
        version = f'"{path.stat().st_mtime_ns}-{len(data)}"'
        if found is None:
            self.answer(200, data, version)
            return
        first, last = (int(n) if n else None for n in found.groups())
        start = max(0, len(data) - (last or 0)) if first is None else first
        stop = len(data) if first is None or last is None else min(last + 1, len(data))
        if start >= len(data):
            self.answer(416, b"", version, f"bytes */{len(data)}")
        else:
            self.answer(206, data[start:stop], version, f"bytes {start}-{stop - 1}/{len(data)}")

    def answer(self, status: int, body: bytes, version: str, content_range: str = "") -> None:
        """Send an answer, or what the fault makes of it."""
        self.told = content_range  # for faults, whose answers say it, too
        self.served.seen.append((self.command, self.path.lstrip("/"), len(body) * (self.command == "GET")))
        if self.served.fault and self.served.fault(self, body):
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (("ETag", self.served.version(version)), ("Content-Range", content_range)):
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """Serve a folder while the block runs."""
    handler = type("FolderHandler", (Handler,), {"folder": folder})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    handler.served = Served(f"http://127.0.0.1:{server.server_port}")  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield handler.served  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
