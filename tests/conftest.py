"""Options, profiles and fixtures of all tests.

`WKDASK_REQUIRE_ALL=1` is for continuous integration: whatever would be skipped there is a failure. Soak tests are
deselected unless asked for, which is not a skip.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NoReturn

import hypothesis
import pytest

REQUIRE_ALL = os.environ.get("WKDASK_REQUIRE_ALL") == "1"
SKIPS = pytest.StashKey[list[str]]()
NOBODY = 65534

hypothesis.settings.register_profile("dev", max_examples=20, deadline=None)
hypothesis.settings.register_profile("ci", max_examples=60, deadline=None, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if REQUIRE_ALL else "dev"))


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


class SkipCounter:
    """Notes what is skipped; where everything is required, one skip fails the run."""

    def __init__(self, config: pytest.Config) -> None:
        self.skips = config.stash[SKIPS]
        self.in_charge = not hasattr(config, "workerinput")  # not a process of pytest-xdist

    def note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self.skips.append(f"{report.nodeid}: {reason.removeprefix('Skipped: ')}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.note(report)

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


def absent(what: str) -> NoReturn:
    """End a test that can not run here: skipped, or failed where everything is required."""
    if REQUIRE_ALL:
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="session")
def webknossos_python() -> Path:
    """The Python of the environment that holds the `webknossos` library, the oracle for files and command line."""
    folder = os.environ.get("WKDASK_ORACLE_WEBKNOSSOS")
    home = Path(os.environ["HOME"]) / ".cache/wkdask-oracles" if os.environ.get("HOME") else None
    places = [Path(folder)] if folder else [p / "webknossos" for p in (home, Path(__file__).parents[1] / ".oracles") if p]
    for place in places:
        if (place / "bin/python").exists():
            return place / "bin/python"
    absent("needs the webknossos library: make oracles")


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
        os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(0)

    return as_nobody
