"""How much memory there is, and how much a process takes."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

from wkdask.errors import InputError

SHARE = 0.6
"""What a run takes of the machine's, or the container's, memory unless told otherwise."""

PROCESS_BYTES = 96 << 20
"""What a process takes with all libraries that a task may need, before it does one: 84 MB were measured, numba the last."""

RELEASE_SECONDS = 0.02
"""Less work than this leaves little memory to be released."""

_worked = 0.0

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def parse_bytes(text: str | int | float) -> int:
    """Read an amount of memory.

    Examples
    --------
    >>> parse_bytes("1.5GB"), parse_bytes("2GiB"), parse_bytes(1000)
    (1500000000, 2147483648, 1000)
    """
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([kmgt]i?)?b?\s*", str(text).lower())
    if not found or float(found[1]) <= 0:
        raise InputError(f"{text!r} is no amount of memory. Write it like 4GB or 512MiB.")
    return int(float(found[1]) * UNITS[found[2] or ""])


def available_bytes() -> int:
    """Return the memory of the machine, or of the control group that this process runs in, whichever is less."""
    import psutil

    limits = [int(psutil.virtual_memory().total)]
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limits.append(int(Path(name).read_text()))
        except (OSError, ValueError):
            continue
    return min(limits)


def default_limit() -> int:
    """Return what a run may take where no limit was given."""
    return int(SHARE * available_bytes())


def used_bytes() -> int:
    """Return the anonymous and shared memory of this process."""
    try:
        with open("/proc/self/status", "rb", buffering=0) as file:  # in one reading, as each batch asks
            return sum(int(n) * 1024 for n in re.findall(rb"(?:RssAnon|RssShmem):\s+(\d+) kB", file.read()))
    except OSError:
        import psutil

        return int(psutil.Process().memory_info().rss)


def loaded_bytes() -> int:
    """Return the memory of this process as it will be with all libraries loaded that a task may need."""
    return max(used_bytes(), PROCESS_BYTES)


def release_unused(seconds: float) -> None:
    """Give memory that was freed back to the system, where the C library would keep it, as glibc does for each thread.

    It takes about a millisecond; without it, threads that decode large chunks hold several times what is in use. So it is done
    after each `RELEASE_SECONDS` of work.

    Parameters
    ----------
    seconds
        How long a thread of this process has worked since it called last.
    """
    global _worked  # noqa: PLW0603 - of all threads; one that is lost between two of them does no harm
    _worked += seconds
    if _worked >= RELEASE_SECONDS and (trim := _trim()):
        _worked = 0.0
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    try:
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library, or another system
        return None
    return found
