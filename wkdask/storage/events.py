"""Each change that storage makes, told right after it happened, and counted.

Tests use it to count writes, and to kill a process after its k-th rename. The package itself only asks whether this process has
changed anything since.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Observer = Callable[[str, str], None]

_observers: list[Observer] = []
_numbers = itertools.count(1)
_last = [0]


def last_change() -> int:
    """Return the number of the last change that this process has made."""
    return _last[0]


def notify(event: str, url: str) -> None:
    """Tell all observers: ``publish``, ``append``, ``commit`` or ``delete``, and the URL that it happened to."""
    _last[0] = next(_numbers)
    for observer in _observers:
        observer(event, url)


@contextmanager
def observe(observer: Observer) -> Iterator[None]:
    """Call ``observer(event, url)`` after each change while the ``with`` block runs.

    Examples
    --------
    >>> from wkdask.storage import Location
    >>> seen = []
    >>> with observe(lambda event, url: seen.append(event)):
    ...     Location("memory://events/a.txt").write_bytes(b"x")
    >>> seen
    ['publish']
    """
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)
