"""A web server on this machine, for tests: nginx before a folder; with ranges, without, with a password, busy, out of order."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.services.ports import free_ports
from tests.services.stores import answers, program, running, wait_for

USER, PASSWORD = "lab", "pa-ssw0rd"

CONFIGURATION = """
worker_processes 1; pid nginx.pid; error_log error.log warn; daemon off; master_process off;
events {{ worker_connections 256; }}
http {{
  access_log access.log; default_type application/octet-stream;
  client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;
  limit_req_zone $binary_remote_addr zone=busy:1m rate=20r/s;
  server {{
    listen 127.0.0.1:{port};
    root data;
    location / {{ autoindex on; }}
    location /silent/ {{ alias data/; }}
    location /norange/ {{ alias data/; max_ranges 0; }}
    location /private/ {{ alias data/; auth_basic "lab"; auth_basic_user_file people; }}
    location /busy/ {{ alias data/; limit_req zone=busy; limit_req_status 429; }}
    location /broken/ {{ return 503; }}
  }}
}}
"""


@dataclass(frozen=True)
class Web:
    """The server's URL, and the folder that it serves."""

    url: str
    folder: Path


@contextmanager
def nginx(folder: Path) -> Iterator[Web]:
    """Run nginx."""
    command = program("nginx", "nginx, by the system's package nginx-light")
    [port] = free_ports(1)
    (folder / "data").mkdir()
    (folder / "data" / "ready").write_bytes(b"1")
    folder.chmod(0o755)
    hashed = subprocess.run(["openssl", "passwd", "-apr1", PASSWORD], stdout=subprocess.PIPE, text=True, check=True).stdout
    (folder / "people").write_text(f"{USER}:{hashed}")
    (folder / "nginx.conf").write_text(CONFIGURATION.format(port=port))
    log = folder / "log"
    with running([command, "-p", f"{folder}/", "-e", "error.log", "-c", f"{folder}/nginx.conf"], log, cwd=folder) as process:
        wait_for(process, lambda: answers(port, "/ready") == 200, log)
        yield Web(f"http://127.0.0.1:{port}", folder / "data")


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """nginx."""
    pytest.importorskip("aiohttp", reason="needs aiohttp: pip install wkdask[http]")
    with nginx(tmp_path_factory.mktemp("web")) as server:
        yield server
