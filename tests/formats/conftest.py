"""Folders for arrays."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.storage.conftest import open_folder, small_disk

__all__ = ["open_folder", "small_disk"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for all arrays of a test module; Hypothesis draws many for one test."""
    return tmp_path_factory.mktemp("arrays")
