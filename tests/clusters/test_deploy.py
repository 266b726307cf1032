"""The scripts of deploy/slurm, and the lines of docs/clusters.md, on a real Slurm."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import wkdask as wk
from tests.clusters.conftest import HOME, PATIENCE, stopped_by, wait_until

SCRIPTS = HOME / "deploy/slurm"


@pytest.fixture
def shell(slurm, tmp_path, stack, monkeypatch):
    """A folder with images and the commands that scripts call; run lines of a shell there."""
    (tmp_path / "bin").mkdir()
    for name, module in {"wkdask": "-m wkdask", "python": ""}.items():
        (tmp_path / "bin" / name).write_text(f'#!/bin/sh\nexec {sys.executable} {module} "$@"\n')
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "slices").symlink_to(stack[0])
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")

    def run(text: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * PATIENCE,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture
def submit(shell, slurm, tmp_path):
    """Submit a script and wait for its end; ``sbatch --wait`` looks at its job after 2, 10, 42 seconds only."""

    def submitted(words: str) -> None:
        job = shell(f"sbatch --parsable {words}").split(";")[0].strip()

        def states() -> set[str]:
            """Of the job, or of each of an array."""
            return {*slurm.call("squeue", "--noheader", "--states=all", f"--job={job}", "--format=%T").split()}

        wait_until(lambda: not states() & {"PENDING", "CONFIGURING", "RUNNING", "COMPLETING"})
        assert states() == {"COMPLETED"}, [path.read_text() for path in tmp_path.glob("out*.txt")]

    return submitted


def require_voxels(target: Path, volume: np.ndarray) -> None:
    layer = wk.Dataset.open(target).get_layer("em")
    np.testing.assert_array_equal(layer.get_mag(1).read()[0], volume)
    assert len(layer.mags) > 1


SMALL = "--layer-name em --chunk-shape 16 --shard-shape 32 --progress none"
CONVERT = f"convert slices brain --voxel-size 4,4,35 {SMALL}"


def documented(script: str) -> str:
    """Return the line of the documentation that submits a script, with the script's place."""
    (line,) = re.findall(rf"^sbatch (.*{script}.*)$", (HOME / "docs/clusters.md").read_text(), re.MULTILINE)
    return line.replace(script, str(SCRIPTS / script))


def test_one_allocation(submit, stack, tmp_path):
    options = "--output=out.txt --mem-per-cpu=600M --ntasks=3"
    submit(f"{options} {documented('one-allocation.sbatch')} {SMALL}")
    require_voxels(tmp_path / "brain", stack[1])
    assert not list(tmp_path.glob(".wkdask-scheduler-*"))


def test_an_array(submit, stack, tmp_path):
    """The plan is begun here and stopped; the tasks of the array do the rest."""
    words = [*CONVERT.split(), "--distribution-strategy", "leases", "--jobs", "1"]
    ended = stopped_by(signal.SIGKILL, *words, cwd=tmp_path)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    words = documented("array.sbatch").replace("0-9", "0-1").replace("/shared/", "")
    submit(f"--output=out-%a.txt --mem=600M {words}")
    require_voxels(tmp_path / "brain", stack[1])


def test_lines_of_the_documentation(shell, stack, tmp_path):
    """But for installing, which these tests have behind them."""
    text = (HOME / "docs/clusters.md").read_text()
    blocks = re.findall(r"^```shell\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [block for block in blocks if "wkdask convert" in block and "sbatch" not in block]
    assert lines
    shell("\n".join(lines).replace('pip install "wkdask[slurm]"\n', ""))
    require_voxels(tmp_path / "brain", stack[1])
