"""Ctrl-C: only the process that the user started hears it; it tells its workers to stop."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

LAST: dict[str, Callable[[], object]] = {}
"""What is still to be done, by a name of each, where this process ends in the middle."""


@contextmanager
def held_back() -> Iterator[None]:
    """Hold SIGINT back from this thread while the block runs, and for good from all processes and threads that begin in it.

    A Ctrl-C that comes meanwhile is delivered afterwards.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # now, as its start would let SIGINT in again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
