"""Turns of threads of one process, by name."""

from __future__ import annotations

import threading
from weakref import WeakValueDictionary


class Turns:
    """Locks by name; each is there as long as somebody holds it or waits for it, however many names there are in all.

    Examples
    --------
    >>> turns = Turns()
    >>> with turns.of("color/1/c/0/0/0"):
    ...     len(turns)
    1
    >>> len(turns), turns.of("a") is turns.of("a")
    (0, True)
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._locks)

    def of(self, name: str) -> threading.Lock:
        """Return the lock of a name: the same one for all who have it now."""
        with self._guard:
            return self._locks.setdefault(name, threading.Lock())
