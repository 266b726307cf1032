"""Options, profiles and fixtures of all tests.

`WKDASK_REQUIRE_ALL=1` is for continuous integration: whatever would be skipped there is a failure. Soak tests are
deselected unless asked for, which is not a skip.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NoReturn

import hypothesis
import pytest

REQUIRE_ALL = os.environ.get("WKDASK_REQUIRE_ALL") == "1"
SKIPS = pytest.StashKey[list[str]]()
NOBODY = 65534
CTRL_C = signal.getsignal(signal.SIGINT)

hypothesis.settings.register_profile("dev", max_examples=8, deadline=None)
hypothesis.settings.register_profile("ci", max_examples=30, deadline=None, derandomize=True)  # says the same each time
hypothesis.settings.register_profile("search", max_examples=200, deadline=None, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if REQUIRE_ALL else "dev"))


def examples(count: int) -> int:
    """Return how many examples a test tries that needs more, or fewer, than others: all where everything is required."""
    return count if REQUIRE_ALL else max(5, count // 3)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-soak", action="store_true", help="run the tests marked soak, which take minutes, too")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SKIPS] = []
    config.pluginmanager.register(SkipCounter(config), "wkdask-skip-counter")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--run-soak"):
        return
    soak = [item for item in items if item.get_closest_marker("soak")]
    if soak:
        config.hook.pytest_deselected(items=soak)
        items[:] = [item for item in items if not item.get_closest_marker("soak")]


def why(report: pytest.TestReport) -> str:
    """Return the line that a failure ends with, and where."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return f"{crash.path}:{crash.lineno}: {crash.message[:1000]}" if crash else str(report.longrepr)[-1000:]


class SkipCounter:
    """Notes what is skipped; where everything is required, one skip fails the run. Tells of failures when they happen."""

    def __init__(self, config: pytest.Config) -> None:
        self.skips, self.config = config.stash[SKIPS], config
        self.in_charge = not hasattr(config, "workerinput")  # not a process of pytest-xdist

    @property
    def terminal(self) -> Any:
        return self.config.pluginmanager.getplugin("terminalreporter")

    def note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self.skips.append(f"{report.nodeid}: {reason.removeprefix('Skipped: ')}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.note(report)
        if report.failed and self.in_charge and self.terminal:
            self.terminal.write_line(f"\n{report.nodeid} failed ({report.when}): {why(report)}", red=True)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.note(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if REQUIRE_ALL and self.in_charge and self.skips and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if REQUIRE_ALL and self.skips:
            terminalreporter.section("skipped, but WKDASK_REQUIRE_ALL=1", red=True)
            terminalreporter.write_line("\n".join(sorted(set(self.skips))))


@pytest.fixture(autouse=True)
def ctrl_c_as_before() -> Iterator[None]:
    """What hears Ctrl-C is always the same: with a command's own handler these processes would end in the middle."""
    yield
    after = signal.signal(signal.SIGINT, CTRL_C)
    assert after is CTRL_C


def absent(what: str) -> NoReturn:
    """End a test that can not run here: skipped, or failed where everything is required."""
    if REQUIRE_ALL:
        pytest.fail(what)
    pytest.skip(what)


def oracle_python(name: str, what: str) -> Path:
    """Return the Python of the environment of an oracle."""
    folder = os.environ.get(f"WKDASK_ORACLE_{name.upper().replace('-', '')}")
    home = Path(os.environ["HOME"]) / ".cache/wkdask-oracles" if os.environ.get("HOME") else None
    places = [Path(folder)] if folder else [p / name for p in (home, Path(__file__).parents[1] / ".oracles") if p]
    for place in places:
        if (place / "bin/python").exists():
            return place / "bin/python"
    absent(f"needs {what}: make oracles")


@pytest.fixture(scope="module", autouse=True)
def _memory_is_emptied() -> Iterator[None]:
    """What tests write under memory:// would otherwise stay until the process ends."""
    yield
    memory = sys.modules.get("fsspec.implementations.memory")
    if memory:
        memory.MemoryFileSystem.store.clear()
        memory.MemoryFileSystem.pseudo_dirs[:] = [""]


@pytest.fixture(scope="session")
def webknossos_python() -> Path:
    """The Python of the environment that holds the `webknossos` library, the oracle for files and command line."""
    return oracle_python("webknossos", "the webknossos library")


@pytest.fixture(scope="session")
def ome_python() -> Path:
    """The Python of the environment that holds other programs' readers of OME-NGFF."""
    return oracle_python("ome", "ome-zarr, ngff-zarr and ome-zarr-models")


@pytest.fixture(scope="session")
def cloudvolume_python() -> Path:
    """The Python of the environment that holds `cloud-volume`, which reads and writes Neuroglancer volumes."""
    return oracle_python("cloud-volume", "cloud-volume")


@pytest.fixture(scope="session")
def fixtures_folder() -> Path:
    """A folder of small real datasets and images, which is not part of the project."""
    folder = os.environ.get("WKDASK_FIXTURES")
    if not folder:
        absent("needs the environment variable WKDASK_FIXTURES: a folder of sample datasets")
    if not Path(folder).is_dir():
        absent(f"WKDASK_FIXTURES names no folder: {folder}")
    return Path(folder)


@pytest.fixture
def unprivileged() -> Callable[[], AbstractContextManager[None]]:
    """Give a context in which root has no more rights to files than anyone else; others have none to lose."""

    @contextlib.contextmanager
    def as_nobody() -> Iterator[None]:
        if os.name != "posix" or os.geteuid() != 0:
            yield
            return
        importlib.import_module("importlib.readers")  # of an interpreter that others may not read
        os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(0)

    return as_nobody
