"""Folders for arrays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dask
import pytest

from tests.formats.served import Served, serving
from tests.storage.conftest import open_folder, small_disk
from wkdask.formats.kept import INDEXES, KEPT

__all__ = ["open_folder", "small_disk"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for all arrays of a test module; Hypothesis draws many for one test."""
    return tmp_path_factory.mktemp("arrays")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Served]:
    """A web server of that folder."""
    with serving(folder) as served:
        yield served


@pytest.fixture
def fresh(server: Served) -> Iterator[None]:
    """A server without faults, of which nothing is known, and no request to which is tried again."""
    INDEXES.clear()
    KEPT.clear()
    server.fault, server.ranges, server.version = None, True, str
    server.forget()
    with dask.config.set({"wkdask.storage.retry-seconds": 0}):
        yield
