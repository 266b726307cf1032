"""A real Slurm of two nodes on this machine; after each test no job may be left."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile

from tests.cli.conftest import Ended
from tests.conftest import absent
from tests.services.ports import free_ports

HOME = Path(__file__).parents[2]
SERVICES = HOME / "tests/services"
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch")

PATIENCE = 150.0
"""Seconds that anything may take where the machine is busy; each wait ends as soon as it can."""

ENOUGH = 3
"""Failures after which the tests that need Slurm are not tried any more: where it does not work, each would wait for long."""
FAILED: set[str] = set()

TRIES = 4
"""Starts of Slurm, each at other ports: others may take them between our look and its start."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """No test here is ended for being slow before its own waits have said what they wait for."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(3 * PATIENCE))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed and report.nodeid.startswith("tests/clusters/"):
        FAILED.add(report.nodeid)


def wait_until(condition: Callable[[], object], child: subprocess.Popen | None = None) -> None:
    """Wait for something to become true, while a process is there."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert child is None or child.poll() is None, f"ended with {child.returncode}"
        assert time.monotonic() < deadline
        time.sleep(0.05)


class SlurmOfTests:
    """What tests ask of it."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs

    def call(self, *words: object) -> str:
        return subprocess.run([*map(str, words)], capture_output=True, text=True, check=True, timeout=PATIENCE).stdout

    def jobs(self, *states: str) -> list[str]:
        chosen = [f"--states={','.join(states)}"] if states else []
        return self.call("squeue", "--noheader", "--format=%A", *chosen).split()

    def workers(self) -> list[psutil.Process]:
        """Worker processes, not the nannies that watch over them."""
        found = []
        for process in psutil.process_iter(["cmdline", "environ"]):
            words, home = process.info["cmdline"] or [], (process.info["environ"] or {}).get("SLURM_CONF")
            if home == os.environ["SLURM_CONF"] and any("spawn_main" in word for word in words):
                found.append(process)
        return found

    def bring_nodes_back(self) -> None:
        """Nodes come back by themselves, too, and then are not asked to."""

        def back() -> bool:
            if "down" not in self.call("sinfo", "-h", "-N", "-o", "%t"):
                return True
            subprocess.run(["scontrol", "update", "nodename=node[1-2]", "state=resume"], capture_output=True, check=False)
            return False

        wait_until(back)

    def wait_until_empty(self) -> None:
        wait_until(lambda: not self.jobs())


def own(folder: Path, stack: ExitStack) -> None:
    """Hold a lock in a folder while this process lives; the lock is there before anybody can see its file."""
    held = stack.enter_context((folder / ".owner").open("w"))
    fcntl.flock(held, fcntl.LOCK_EX)
    (folder / ".owner").rename(folder / "owner")


def end(folder: Path) -> None:
    """Stop the daemons of a folder, and delete it."""
    settings = {**os.environ, "WKDASK_SLURM_DIR": str(folder)}
    command = [SERVICES / "slurm-down", "--purge"]
    subprocess.run(command, env=settings, capture_output=True, check=False, timeout=PATIENCE)
    shutil.rmtree(folder, ignore_errors=True)


def end_those_left() -> None:
    """End what test processes that were killed have left; what belongs to living ones stays."""
    for owner in Path(tempfile.gettempdir()).glob("wkdask-slurm-*/owner"):
        with suppress(OSError), owner.open() as file:  # locked, somebody else's, or just gone
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            end(owner.parent)


def begin(folder: Path) -> str:
    """Start the daemons; return what is wrong."""
    ports = {"WKDASK_SLURM_PORT": str(free_ports(3)[0]), "WKDASK_SLURM_WAIT": str(int(PATIENCE / TRIES))}
    settings = {**os.environ, "WKDASK_SLURM_DIR": str(folder), **ports}
    command = [SERVICES / "slurm-up", "2"]
    done = subprocess.run(command, env=settings, capture_output=True, text=True, check=False, timeout=PATIENCE)
    return done.stderr if done.returncode else ""


@pytest.fixture(scope="session")
def slurm_daemons() -> Iterator[Path]:
    """Start a Slurm of this test process alone."""
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    if missing:
        absent(f"needs {', '.join(missing)}: run tests/services/install as root")
    end_those_left()
    with ExitStack() as stack:
        for _ in range(TRIES):
            folder = Path(tempfile.mkdtemp(prefix="wkdask-slurm-"))
            stack.callback(end, folder)
            own(folder, stack)
            if not (wrong := begin(folder)):
                break
            end(folder)
        assert not wrong, wrong
        yield folder


@pytest.fixture
def slurm(slurm_daemons: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmOfTests]:
    """Make Slurm's programs, and wkdask in jobs, use the Slurm of the tests; look often; nothing may be left."""
    if len(FAILED) >= ENOUGH:
        pytest.fail(f"{len(FAILED)} tests beside this one failed before: it was not tried")
    (tmp_path / "logs").mkdir()
    monkeypatch.setenv("SLURM_CONF", str(slurm_daemons / "slurm.conf"))
    monkeypatch.setenv("PYTHONPATH", str(HOME))
    for name, value in {"POLL_INTERVAL": "0.3s", "LOG_DIRECTORY": str(tmp_path / "logs"), "DEATH_TIMEOUT": "90s"}.items():
        monkeypatch.setenv(f"DASK_WKDASK__SLURM__{name}", value)
    import dask

    there = SlurmOfTests(tmp_path / "logs")
    ours = {"poll-interval": "0.3s", "log-directory": str(tmp_path / "logs"), "death-timeout": "90s"}
    with dask.config.set({f"wkdask.slurm.{name}": value for name, value in ours.items()}):
        yield there
    there.bring_nodes_back()
    left = [job for job in there.jobs() if job not in there.jobs("COMPLETING")]
    for number in left:
        subprocess.run(["scancel", number], check=False)
    there.wait_until_empty()
    assert not left


@pytest.fixture
def cli(monkeypatch, capsys):
    """Run a command in this process; return exit code, standard output and standard error."""
    from wkdask.cli.app import run

    def called(*words: object):
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["wkdask", *map(str, words)])
        code = run()
        return Ended(code, *capsys.readouterr())

    return called


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """Slices that make some 150 units of 32^3 voxels, and their (x, y, z) voxels."""
    folder = tmp_path_factory.mktemp("stack")
    volume = np.random.default_rng(3).integers(1, 200, (160, 160, 64)).astype("uint8")
    for z in range(volume.shape[2]):
        tifffile.imwrite(folder / f"{z:03}.tif", volume[:, :, z].T)
    return folder, volume


def encrypted(folder: Path) -> dict[str, object]:
    """Return what a configuration says that demands TLS, by files ca.pem, cert.pem and key.pem of a folder."""
    tls = "distributed.comm.tls"
    files = {f"{tls}.{role}.{what}": f"{what}.pem" for role in ("scheduler", "worker", "client") for what in ("cert", "key")}
    places = {name: str(folder / file) for name, file in (files | {f"{tls}.ca-file": "ca.pem"}).items()}
    return {"distributed.comm.require-encryption": True, **places}


STOPPED = """
import os, signal, sys
from wkdask.cli.app import run
from wkdask.plan import counting

signal.signal(signal.SIGINT, signal.default_int_handler)  # where these tests run in the background
done = []

def stop(plan, receipt):
    done.append(receipt)
    if len(done) == 4:
        os.kill(os.getpid(), int(os.environ["SIGNAL"]))

counting.log_unit = stop
sys.argv[0] = "wkdask"  # what the job says that it was begun by
sys.exit(run())
"""


def stopped_by(signal_number: int, *words: object, cwd: Path | None = None) -> subprocess.CompletedProcess:
    """Run a command that sends itself a signal when four of its tasks are done."""
    settings = {**os.environ, "SIGNAL": str(int(signal_number)), "PYTHONPATH": str(HOME)}
    command = [sys.executable, "-c", STOPPED, *map(str, words)]
    return subprocess.run(command, env=settings, cwd=cwd, capture_output=True, text=True, check=False, timeout=PATIENCE)
