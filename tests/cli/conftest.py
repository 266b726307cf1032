"""The command line in this process, and as processes of its own; small stacks of images."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tifffile

LIVING = """
import signal, sys
from wkdask.cli import main
from wkdask.storage import observe

def look(event, url):
    if event in ("append", "publish") and ".jsonl" in url:  # on disk, and on stores
        print("begun", flush=True)
        sys.stdin.read()

signal.signal(signal.SIGINT, signal.default_int_handler)  # where these tests run in the background
sys.argv[0] = "wkdask"
with observe(look):
    sys.exit(main())
"""


class Ended(NamedTuple):
    """What a command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


def arguments(source: object, target: object, *options: object) -> list[str]:
    """The arguments of a conversion, with small chunks and shards unless told otherwise."""
    usual = {"--voxel-size": "4,4,35", "--layer-name": "em", "--chunk-shape": "16", "--shard-shape": "32", "--progress": "none"}
    given = [str(option) for option in options]
    if "--chunks-per-shard" in given:
        del usual["--shard-shape"]
    return ["convert", str(source), str(target), *(w for k, v in usual.items() if k not in given for w in (k, v)), *given]


@contextmanager
def living(*words: str) -> Iterator[subprocess.Popen[str]]:
    """A command in a process of its own, which hangs after its first task until its input ends."""
    program = [sys.executable, "-c", LIVING, *words, "--distribution-strategy", "threads"]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout
            assert running.stdout.readline() == "begun\n"
            yield running
        finally:
            running.kill()


@pytest.fixture
def cli(monkeypatch, capsys) -> Callable[..., Ended]:
    """Run a command in this process."""
    from wkdask.cli.app import run

    def called(*words: object) -> Ended:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["wkdask", *map(str, words)])
        code = run()
        return Ended(code, *capsys.readouterr())

    return called


@pytest.fixture
def convert(cli) -> Callable[..., Ended]:
    """Run a conversion in this process."""
    return lambda source, target, *options: cli(*arguments(source, target, *options))


@pytest.fixture
def program() -> Callable[..., Ended]:
    """Run a command in a process of its own."""

    def called(*words: object, **options: object) -> Ended:
        command = [sys.executable, "-m", "wkdask", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)
        return Ended(done.returncode, done.stdout, done.stderr)

    return called


@pytest.fixture
def slices(tmp_path) -> Callable[..., tuple[Path, np.ndarray]]:
    """Make a stack; return its folder and its (x, y, z) voxels."""

    def made(name: str = "slices", size: tuple[int, int, int] = (40, 50, 20), dtype: str = "uint8", **options: object):
        rng = np.random.default_rng(len(name))
        volume = rng.integers(1, 200, size).astype(dtype)
        (tmp_path / name).mkdir()
        for z in range(size[2]):
            tifffile.imwrite(tmp_path / name / f"slice_{z:03}.tif", volume[:, :, z].T, **options)
        return tmp_path / name, volume

    return made


@pytest.fixture
def files() -> Callable[[Path], dict[str, bytes]]:
    """All that a dataset holds, but for our own work folder, in which times stand."""

    def found(target: Path) -> dict[str, bytes]:
        paths = (path for path in Path(target).rglob("*") if path.is_file() and ".wkdask" not in path.parts)
        return {str(path.relative_to(target)): path.read_bytes() for path in paths}

    return found
