"""Doing several things that need nothing of each other: at once on stores, where each waits for an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from wkdask.storage.location import Location

AT_ONCE = 32


def together(place: Location, calls: Iterable[Callable[[], object]]) -> list[Any]:
    """Call functions, each of which works on files at a place or below, and return what they return, in order.

    On disks one is called after the other. On stores all are, by threads, before the first error is raised.

    Examples
    --------
    >>> folder = Location("memory://together")
    >>> together(folder, [lambda n=n: (folder / n).write_bytes(b"1") for n in "ab"])
    [None, None]
    >>> folder.names()
    ['a', 'b']
    """
    calls = list(calls)
    if place.is_local or len(calls) < 2:
        return [call() for call in calls]
    with ThreadPoolExecutor(min(AT_ONCE, len(calls)), "wkdask-together") as threads:
        return [done.result() for done in [threads.submit(call) for call in calls]]
