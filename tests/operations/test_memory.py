"""What a process takes stays a few tiles, however large the shard."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

MEMORY = Path(__file__).parents[2] / "benchmarks" / "memory.py"


def measured(case: str, *arguments: object) -> dict[str, float]:
    command = [sys.executable, MEMORY, case, "--json", "--threads", 2, *arguments]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (found,) = json.loads(done.stdout)
    return found


def test_a_gibibyte_is_written_in_a_few_tiles(tmp_path: Path):
    found = measured("shard", "--edge", 512, "--work", tmp_path)
    assert found["parts"] > 1 and found["files"] == 1
    assert found["measured"] <= 256 << 20  # of 1 GiB of voxels
    assert 0.6 <= found["ratio"] <= 1.2


@pytest.mark.soak
def test_a_shard_of_eight_gibibytes_takes_one_and_a_half(tmp_path: Path):
    found = measured("shard", "--edge", 1024, "--work", tmp_path)
    assert found["parts"] > 1 and found["files"] == 1
    assert found["measured"] <= 1.5 * (1 << 30)
    assert 0.6 <= found["ratio"] <= 1.2


@pytest.mark.soak
@pytest.mark.parametrize("case", ["em", "labels"])
def test_a_conversion_takes_what_its_plan_says(tmp_path: Path, case: str):
    found = measured(case, "--size", "2048,2048,64", "--work", tmp_path)
    assert found["ratio"] <= 1.2
