"""Folders with special rights and sizes, and a store behind a proxy."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.services.faulty import Proxy, faulty
from tests.services.google import gcs, gcs_server  # noqa: F401 - fixtures
from tests.services.stores import Store, s3, s3_server  # noqa: F401 - fixtures
from wkdask.storage import Location, retries


@pytest.fixture
def proxy(s3: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:  # noqa: F811
    monkeypatch.setattr(retries, "FIRST_PAUSE", 0.001)
    with faulty(s3.endpoint) as running:
        yield running


@pytest.fixture
def place(s3: Store, proxy: Proxy) -> Location:  # noqa: F811
    """The test's folder, behind the proxy."""
    return replace(s3, endpoint=proxy.endpoint).place


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user of the machine can reach, and that belongs to nobody where we are root."""
    folder = Path(tempfile.mkdtemp())
    if os.geteuid() == 0:
        os.chown(folder, 65534, 65534)
    os.chmod(folder, 0o777)
    yield folder
    os.chmod(folder, 0o777)
    shutil.rmtree(folder)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than ``tmp_path``."""
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system here")
    folder = Path(tempfile.mkdtemp(dir=shared))
    yield folder
    shutil.rmtree(folder)
