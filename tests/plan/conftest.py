"""What tests of plans share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of 40 slices of noise."""
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for z in range(40):
        tifffile.imwrite(folder / f"{z:03}.tif", rng.integers(0, 16, (70, 90), dtype=np.uint8))
    return folder
