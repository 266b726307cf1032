"""A hook that sees each change that storage makes, right after it happened.

Tests use it to count writes, and to kill a process after its k-th rename; nothing in the package depends on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Observer = Callable[[str, str], None]

_observers: list[Observer] = []


def notify(event: str, url: str) -> None:
    """Tell all observers: ``publish``, ``append``, ``commit`` or ``delete``, and the URL that it happened to."""
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
