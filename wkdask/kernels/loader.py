"""Which kernels run: numpy for small jobs, numba for large ones, and where numba keeps what it compiled.

What numba caches is code that the next process runs, so its folder must be ours alone: ``NUMBA_CACHE_DIR`` where the user set
it, else ``wkdask/numba`` in ``$XDG_CACHE_HOME`` or ``~/.cache``, else a folder of this user below the one for temporary files.
Where none of these can be used, kernels are compiled anew in each process.
"""

from __future__ import annotations

import os
import stat
import tempfile
import threading
import warnings
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

LARGE_BYTES = 256 << 20
"""A process whose callers do not say which kernels they want turns to numba when it has reduced this much."""

COMPILE_SECONDS = 2.0
"""Processor seconds of numpy kernels from which on loading, and once compiling, numba's pays."""

NUMPY_RATES = {
    ("median", 2): 1.0e9,
    ("median", 4): 1.0e9,
    ("median", 8): 0.8e9,
    ("mode", 2): 2.0e9,
    ("mode", 4): 0.4e9,
    ("mode", 8): 0.25e9,
    ("mean", 2): 1.3e9,
    ("mean", 4): 1.3e9,
    ("mean", 8): 1.3e9,
    ("max", 2): 1.5e9,
    ("max", 4): 1.5e9,
    ("max", 8): 1.5e9,
    ("min", 2): 1.5e9,
    ("min", 4): 1.5e9,
    ("min", 8): 1.5e9,
}
"""Bytes a second that numpy reduces on one core, by mode and voxels of a window; others are near `SLOW_RATE`.

Those of uint8, which is the slowest; `benchmarks/kernels.py` prints those of all.
"""

SLOW_RATE = 0.1e9


class _State:
    """What this process has decided."""

    lock = threading.Lock()
    seen = 0
    loaded = False
    compiled: ModuleType | None = None


def worth_compiling(mode: str, work: Iterable[tuple[int, int]]) -> bool:
    """Whether compiled kernels are worth what loading them takes.

    Parameters
    ----------
    mode
        One of `wkdask.kernels.MODES`.
    work
        Bytes to reduce, and voxels of a window, of each level of a pyramid.

    Examples
    --------
    >>> worth_compiling("median", [(1 << 30, 8)]), worth_compiling("median", [(1 << 32, 8)])
    (False, True)
    """
    return sum(size / NUMPY_RATES.get((mode, window), SLOW_RATE) for size, window in work) > COMPILE_SECONDS


def compiled_for(block_bytes: int, large: bool | None = None) -> ModuleType | None:
    """Return the module of compiled kernels, where this block should use it and numba works.

    Parameters
    ----------
    block_bytes
        Size of the block.
    large
        The caller's own choice; by default numba from what this process has reduced `LARGE_BYTES` on.
    """
    if large is None:
        _State.seen += block_bytes
        large = _State.seen >= LARGE_BYTES
    if not large:
        return None
    if not _State.loaded:
        with _State.lock:
            if not _State.loaded:
                _State.compiled = _load()
                _State.loaded = True
    return _State.compiled


def _load() -> ModuleType | None:
    try:
        from wkdask.kernels import compiled

        compiled.build(cache_folder())
    except Exception as error:  # noqa: BLE001 - no llvmlite, another numpy, no memory: numba fails in many ways
        warnings.warn(
            f"numba can not be used, so pyramids are made by numpy, some ten times slower: {type(error).__name__}: {error}. "
            "Install a numba that fits this numpy.",
            stacklevel=2,
        )
        return None
    return compiled


def cache_folder() -> str | None:
    """Return the folder for what numba compiles; `None`, with a warning, where no safe one can be had."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        return chosen
    for folder in _candidates():
        if _is_ours(folder):
            return str(folder)
    warnings.warn(
        "There is no safe folder for compiled kernels, so each process compiles them anew, which takes seconds. "
        "Set NUMBA_CACHE_DIR to a folder that only you can write.",
        stacklevel=2,
    )
    return None


def _candidates() -> list[Path]:
    found = []
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    if os.path.isabs(home):
        found.append(Path(home) / "wkdask" / "numba")
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    return [*found, Path(tempfile.gettempdir()) / f"wkdask-numba-{user}"]


def _is_ours(folder: Path) -> bool:
    """Make a folder, and tell whether it is a real one, belongs to this user, and nobody else can write it."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode):
            return False
        if hasattr(os, "getuid") and (found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077):
            return False
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
