"""Copies, and layers that are stored anew, killed at any change: nobody sees other voxels, and the next run ends the work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.operations.copies import make

HERE = Path(__file__).parent
CASES = ["files", "tiles", "compress", "rechunk"]


def killed(folder, case, *few):
    """Run the driver; return how often it killed."""
    make(folder / "source", ((0, 0, 0), (24, 20, 16)), "wkw" if case == "compress" else "zarr3", compress=case != "compress")
    driver = [sys.executable, str(HERE / "copying_kill_driver.py"), str(folder / "source"), str(folder / "runs"), case, *few]
    done = subprocess.run(driver, check=False, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    return int(done.stdout)


@pytest.mark.parametrize("case", CASES)
def test_kill_beside_each_commit(tmp_path, case):
    assert killed(tmp_path, case, "few") >= 6


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", CASES)
def test_kill_after_every_change(tmp_path, case):
    assert killed(tmp_path, case) > 20
