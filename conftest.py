"""The folder in which the examples of docstrings run: ``em/`` is a stack of images, ``brain`` a dataset made of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def examples_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the stack and the dataset, once."""
    import numpy as np
    import tifffile

    from wkdask import Dataset

    folder = tmp_path_factory.mktemp("examples")
    (folder / "em").mkdir()
    ramp = np.add.outer(np.arange(48), np.arange(64)).astype(np.uint8)
    for z in range(20):
        tifffile.imwrite(folder / "em" / f"slice_{z}.tif", ramp + np.uint8(z))
    Dataset.from_images(folder / "em", folder / "brain", (4, 4, 35), layer_name="color", downsample=True)
    return folder


@pytest.fixture(autouse=True)
def _where_examples_run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each docstring a copy of its own, as examples change the dataset."""
    if isinstance(request.node, pytest.DoctestItem):
        own = request.getfixturevalue("tmp_path")
        shutil.copytree(request.getfixturevalue("examples_folder"), own, dirs_exist_ok=True)
        monkeypatch.chdir(own)
