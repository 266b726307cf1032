"""Each test runs in a process of its own: what the loader decides is decided once."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

NOBODY = 65534

REDUCE = """
import warnings
warnings.simplefilter("always")
import numpy as np
from wkdask import kernels
from wkdask.kernels import loader
BLOCK = np.arange(64, dtype=np.uint8).reshape(1, 4, 4, 4)
def run():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = kernels.reduce(BLOCK, (1, 2, 2, 2), "max", large=True)
        kernels.reduce(BLOCK, (1, 2, 2, 2), "max", large=True)
    assert found.ravel().tolist() == [21, 23, 29, 31, 53, 55, 61, 63], found
    print(loader._State.compiled is not None, len(caught), *[w.message for w in caught])
"""

# All that numba and the standard library need is imported before the process becomes somebody who may not even read them.
BECOME_NOBODY = f"""
import os, tempfile
import numba
numba.njit(lambda x: x + 1)(1)
loader_modules = __import__("wkdask.kernels.compiled")
os.setgroups([]), os.setgid({NOBODY}), os.setuid({NOBODY})
"""


def run(code: str, **env: str | Path | None) -> str:
    keep = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "HOME", "TMPDIR")}
    given = {"NUMBA_OPT": "0"} | {k: str(v) for k, v in env.items() if v is not None}  # what is compiled is not looked at
    done = subprocess.run([sys.executable, "-c", code], env={**keep, **given}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def indexes(folder: Path) -> list[Path]:
    return list(folder.rglob("*.nbi"))


def test_what_is_compiled_is_kept(tmp_path: Path) -> None:
    cache = tmp_path / "cache" / "wkdask" / "numba"
    code = REDUCE + "run()"
    assert run(code, XDG_CACHE_HOME=tmp_path / "cache", TMPDIR=tmp_path) == "True 0"
    assert indexes(cache) and cache.stat().st_mode & 0o777 == 0o700
    stats = "run(); from wkdask.kernels import compiled; print(sum(compiled._dispatchers['max'].stats.cache_hits.values()))"
    assert run(REDUCE + stats, XDG_CACHE_HOME=tmp_path / "cache", TMPDIR=tmp_path) == "True 0\n1"


def test_the_users_folder_is_respected(tmp_path: Path) -> None:
    assert run(REDUCE + "run()", NUMBA_CACHE_DIR=tmp_path / "mine", HOME=tmp_path) == "True 0"
    assert indexes(tmp_path / "mine") and not (tmp_path / ".cache").exists()


def test_numbas_own_setting_is_left_alone(tmp_path: Path) -> None:
    assert run(REDUCE + "run(); import numba; print(repr(numba.config.CACHE_DIR))", HOME=tmp_path).endswith("''")


def test_without_a_home_the_folder_for_temporary_files_serves(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert run(REDUCE + "run()", XDG_CACHE_HOME=tmp_path / "file", TMPDIR=tmp_path) == "True 0"
    assert indexes(tmp_path / f"wkdask-numba-{os.getuid()}")


@pytest.mark.parametrize("hostile", ["link", "open", "file"])
def test_a_folder_that_others_prepared_is_not_used(tmp_path: Path, hostile: str) -> None:
    (tmp_path / "file").touch()
    trap, elsewhere = tmp_path / f"wkdask-numba-{os.getuid()}", tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    if hostile == "link":
        trap.symlink_to(elsewhere)
    elif hostile == "file":
        trap.touch()
    else:
        trap.mkdir()
        trap.chmod(0o777)
    said = run(REDUCE + "run()", XDG_CACHE_HOME=tmp_path / "file", TMPDIR=tmp_path)
    assert said.startswith("True 1 There is no safe folder")
    assert not indexes(tmp_path)


@pytest.mark.root
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user")
def test_somebody_elses_folder_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    trap = tmp_path / f"wkdask-numba-{os.getuid()}"
    trap.mkdir(mode=0o700)
    os.chown(trap, NOBODY, NOBODY)
    assert run(REDUCE + "run()", XDG_CACHE_HOME=tmp_path / "file", TMPDIR=tmp_path).startswith("True 1 There is no safe")


@pytest.mark.root
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("writable", [True, False])
def test_a_user_without_home(writable: bool) -> None:
    with tempfile.TemporaryDirectory() as opened:  # pytest's own folders are closed to others
        os.chmod(opened, 0o711)
        place = Path(opened) / "temporary"
        place.mkdir()
        place.chmod(0o1777 if writable else 0o555)
        code = BECOME_NOBODY + f"tempfile.tempdir = {str(place)!r}\n" + REDUCE + "run()"
        said = run(code, HOME=None)
        kept = indexes(place / f"wkdask-numba-{NOBODY}")
    assert said == "True 0" if writable else said.startswith("True 1 There is no safe folder")
    assert bool(kept) == writable


def test_without_numba_numpy_serves() -> None:
    said = run("import sys; sys.modules['numba'] = None\n" + REDUCE + "run()")
    assert said.startswith("False 1 numba can not be used")


def test_numba_is_loaded_where_the_caller_wants_it() -> None:
    code = REDUCE + (
        "import sys\n"
        "kernels.reduce(BLOCK, (1, 2, 2, 2), 'max', large=False)\n"
        "print('numba' in sys.modules)\n"
        "kernels.reduce(BLOCK, (1, 2, 2, 2), 'max', large=True)\n"
        "print('numba' in sys.modules)"
    )
    assert run(code, HOME=os.environ.get("HOME")) == "False\nTrue"


def test_a_process_that_reduces_much_turns_to_numba() -> None:
    code = REDUCE + (
        "import sys\n"
        "loader.LARGE_BYTES = 100\n"
        "for _ in range(2):\n"
        "    kernels.reduce(BLOCK, (1, 2, 2, 2), 'max')\n"
        "    print('numba' in sys.modules)"
    )
    assert run(code, HOME=os.environ.get("HOME")) == "False\nTrue"


def test_threads_compile_once(tmp_path: Path) -> None:
    code = REDUCE + (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(8) as pool:\n"
        "    found = list(pool.map(lambda _: kernels.reduce(BLOCK, (1, 2, 2, 2), 'max', large=True).sum(), range(64)))\n"
        "from wkdask.kernels import compiled\n"
        "print(len(set(map(int, found))), len(compiled._dispatchers['max'].signatures))"
    )
    assert run(code, HOME=tmp_path) == "1 1"
