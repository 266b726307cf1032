"""Ctrl-C: the process ends at once with code 130, leaves no process behind, and the same command goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

import wkdask as wk
from wkdask.plan import Journal
from wkdask.storage import Location

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")

SECONDS = 12.0
"""One, and what a busy machine takes; a task that does not listen sleeps for 30."""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A stack that takes some seconds: level 19."""
    import tifffile

    folder = tmp_path_factory.mktemp("interrupt") / "slices"
    folder.mkdir()
    rng = np.random.default_rng(0)
    volume = rng.integers(0, 255, (384, 256, 64), "uint8") & rng.integers(0, 255, (384, 256, 64), "uint8")
    for z in range(volume.shape[2]):
        tifffile.imwrite(folder / f"{z}.tif", volume[..., z].T)
    return folder, volume


def command(source, target, strategy):
    words = ["convert", str(source), str(target), "--voxel-size", "4,4,35", "--layer-name", "em", "--progress", "plain", "-v"]
    words += ["--chunk-shape", "32", "--shard-shape", "64", "--codec", "zstd:19", "--jobs", "2", "--no-downsample"]
    return [sys.executable, "-m", "wkdask", *words, "--distribution-strategy", strategy]


def hear():
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(*words):
    """Start a program in a group of its own, as a shell does, even where these tests run in the background."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(words, **pipes, text=True, start_new_session=True, preexec_fn=hear)  # noqa: PLW1509 - one thread here


def family(child):
    process = psutil.Process(child.pid)
    return [process, *process.children(recursive=True)]


def end(child, group=True):
    """Interrupt as Ctrl-C does, which the whole group hears, or one process; return stderr and the seconds that it took."""
    there = family(child)
    begun = time.monotonic()
    (os.killpg if group else os.kill)(child.pid, signal.SIGINT)
    child.wait(timeout=30)
    seconds = time.monotonic() - begun
    _, alive = psutil.wait_procs(there, timeout=SECONDS)
    names = [" ".join(process.cmdline()) for process in alive if process.is_running()]
    for process in alive:
        process.kill()
    said = child.communicate()[1]
    assert not names
    return said, seconds


def until(condition, child, seconds=40.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def finished(target):
    return len({(receipt.stage, receipt.number) for receipt in Journal(Location.of(target), "em").read()})


WHO_HEARS = [("threads", True), ("processes", True), ("processes", False), ("local", True), ("local", False)]


@pytest.mark.parametrize(("strategy", "group"), [("sequential", True), *WHO_HEARS])
def test_in_the_middle(source, tmp_path, strategy, group):
    folder, volume = source
    child = start(*command(folder, tmp_path / "ds", strategy))
    until(lambda: finished(tmp_path / "ds") >= 2, child)
    said, seconds = end(child, group)
    assert child.returncode == 130, said
    assert seconds < SECONDS
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith("error: Stopped")
    assert "Run the same again to go on." in said
    done = finished(tmp_path / "ds")
    assert not (tmp_path / "ds" / "datasource-properties.json").exists()
    words = command(folder, tmp_path / "ds", "threads")
    words[words.index("plain")] = "none"
    again = subprocess.run([*words, "--json"], capture_output=True, text=True, check=True)
    assert json.loads(again.stdout)["kept"] == done
    np.testing.assert_array_equal(wk.Dataset.open(tmp_path / "ds").get_layer("em").get_mag(1).read()[0], volume)


@pytest.mark.parametrize(("strategy", "seconds"), [("local", 0.1), ("local", 1.2), ("local", 2.0), ("processes", 0.9)])
def test_at_any_time(source, tmp_path, strategy, seconds):
    child = start(*command(source[0], tmp_path / "ds", strategy))
    until(lambda: os.path.realpath(f"/proc/{child.pid}/exe") == os.path.realpath(sys.executable), child)
    time.sleep(seconds)
    said, took = end(child)
    assert took < SECONDS
    if child.returncode == -signal.SIGINT or said.startswith("Could not import runpy module"):
        assert seconds < 0.2  # Python itself was starting
    else:
        assert (child.returncode, said.splitlines()[-1].startswith("error: Stopped")) == (130, True), said
        assert "Traceback" not in said


def test_tasks_that_do_not_listen(tmp_path, slices):
    """Where a library does not come back, such as one that reads a dead network drive, the process ends all the same."""
    script = (
        "import sys, time; from wkdask.images import ImageStack\n"
        f"def read(*_, **__): open({str(tmp_path / 'reads')!r}, 'w'); time.sleep(30)\n"
        "ImageStack.read = read\n"
        "from wkdask.cli import main; main()"
    )
    child = start(sys.executable, "-c", script, *command(slices()[0], tmp_path / "ds", "threads")[3:])
    until((tmp_path / "reads").exists, child)
    said, seconds = end(child)
    assert (child.returncode, said.splitlines()[-1]) == (130, "error: Stopped. Run the same again to go on.")
    assert seconds < SECONDS


def test_who_ignores_ctrl_c_stays_so(tmp_path, slices):
    """As under nohup."""
    words = command(slices()[0], tmp_path / "ds", "threads")
    script = f"import os, signal; signal.signal(signal.SIGINT, signal.SIG_IGN); os.execv({words[0]!r}, {words!r})"
    child = start(sys.executable, "-c", script)
    for _ in range(100):
        if child.poll() is not None:
            break
        time.sleep(0.02)
        os.killpg(child.pid, signal.SIGINT) if child.poll() is None and (tmp_path / "ds").exists() else None
    said = child.communicate(timeout=30)[1]
    assert child.returncode == 0, said


def test_while_libraries_load():
    """Inside a class body Python turns an interruption into an error of another kind."""
    script = (
        "import os, signal, sys\n"
        "class Named:\n"
        "    def __set_name__(self, owner, name): os.kill(os.getpid(), signal.SIGINT)\n"
        "class Finder:\n"
        "    def find_spec(name, *_): type('Owner', (), {'named': Named()}) if name == 'typer' else None\n"
        "sys.meta_path.insert(0, Finder)\n"
        "from wkdask.cli import main; main()"
    )
    child = start(sys.executable, "-c", script, "info", ".")
    said = child.communicate(timeout=30)[1]
    assert (child.returncode, said) == (130, "error: Stopped. Run the same again to go on.\n")


def test_during_garbage_collection():
    """An exception in a callback of the collector is printed and forgotten; Ctrl-C is not."""
    script = (
        "import gc, os, signal, time\n"
        "from wkdask.cli import stopping\n"
        "signal.signal(signal.SIGINT, stopping._stop)\n"
        "sent = []\n"
        "def told(phase, info):\n"
        "    sent or sent.append(os.kill(os.getpid(), signal.SIGINT))\n"
        "    time.sleep(0.001)\n"
        "gc.callbacks.append(told)\n"
        "try:\n"
        "    gc.collect()\n"
        "    time.sleep(30)\n"
        "except KeyboardInterrupt:\n"
        "    os._exit(3)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=25).returncode == 3
