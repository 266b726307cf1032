"""A server that gives all requests the same answer, and notes them; on the loopback, in a thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@contextmanager
def recording(
    location: str = "", *, status: int = 302, body: bytes = b"abc", path: str = "/a"
) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Give the URL of a path and the headers of the requests so far; where a location is given, it is what they are led to."""
    seen: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            seen.append(dict(self.headers.items()))
            sent = b"" if location else body
            self.send_response(status if location else 200)
            self.send_header("Content-Length", str(len(sent)))
            if location:
                self.send_header("Location", location)
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else sent)

        do_PUT = do_HEAD = do_POST = do_GET  # noqa: N815

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}{path}", seen
    finally:
        server.shutdown()
        server.server_close()
