"""What a process keeps for a while of files on stores: indexes that it read, and ranges as they came.

Neighbouring cut-outs share chunks, and what was fetched between the chunks of one is often wanted by the next: slices that are
looked at one after the other lie in the same chunks. Nothing here is used unless the file is still the one that it came from.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from wkdask.storage import Location

KEPT_INDEXES = 64
KEPT_INDEX_BYTES = 1 << 20
"""Indexes that a process keeps, and the largest of them."""


class Indexes:
    """Indexes of files that were read, each with the version of its file. Whoever uses one must learn that it is still that."""

    def __init__(self) -> None:
        self._found: OrderedDict[Hashable, tuple[Any, str]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> tuple[Any, str] | None:
        """Return an index, by its file and what else tells it from others, and the version of the file."""
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
            return self._found.get(key)

    def put(self, key: Hashable, index: Any, version: str, size: int) -> None:
        """Keep an index of some bytes, unless that is many, or nothing could tell that it is outdated."""
        if version and size <= KEPT_INDEX_BYTES:
            with self._lock:
                self._found[key] = index, version
                self._found.move_to_end(key)
                if len(self._found) > KEPT_INDEXES:
                    self._found.popitem(last=False)

    def forget(self, key: Hashable) -> None:
        """Drop an index."""
        with self._lock:
            self._found.pop(key, None)

    def clear(self) -> None:
        """Drop all."""
        with self._lock:
            self._found.clear()


@dataclass(slots=True)
class _File:
    """What is kept of a file: its version, and where ranges begin."""

    version: str
    starts: list[int] = field(default_factory=list)


class KeptRanges:
    """Ranges of files, the ones used last, up to a number of bytes.

    Examples
    --------
    >>> kept, place = KeptRanges(), Location("memory://a")
    >>> kept.put(place, "v1", 100, b"voxels", most=1000)
    >>> [found and bytes(found) for found in kept.find(place, "v1", [(100, 103), (103, 106), (103, 107)])]
    [b'vox', b'els', None]
    >>> kept.find(place, "v2", [(100, 103)]), kept.size
    ([None], 6)
    """

    def __init__(self) -> None:
        self.size = 0
        self._files: dict[Location, _File] = {}
        self._ranges: OrderedDict[tuple[Location, int], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, place: Location, version: str, spans: Sequence[tuple[int, int]]) -> list[memoryview | None]:
        """Return spans of a version of a file; None for each that is not kept."""
        with self._lock:
            file = self._files.get(place)
            if file is None or file.version != version:
                return [None] * len(spans)
            return [self._found(place, file, *span) for span in spans]

    def _found(self, place: Location, file: _File, start: int, stop: int) -> memoryview | None:
        at = bisect_right(file.starts, start) - 1
        if at < 0:
            return None
        first = file.starts[at]
        data = self._ranges[place, first]
        if stop > first + len(data):
            return None
        self._ranges.move_to_end((place, first))
        return memoryview(data)[start - first : stop - first]

    def put(self, place: Location, version: str, start: int, data: bytes, most: int) -> None:
        """Keep a range, unless nothing could tell that it is outdated; of all together, at most ``most`` bytes stay.

        A time of whole seconds, as web servers tell it that have no tags, is the same for two changes within one.
        """
        if not version or version.endswith(" GMT") or not data or len(data) > most:
            return
        with self._lock:
            file = self._files.get(place)
            if file is None or file.version != version:
                self._forget(place)
                file = self._files[place] = _File(version)
            elif self._found(place, file, start, start + len(data)) is not None:
                return
            inner = file.starts[bisect_left(file.starts, start) : bisect_left(file.starts, start + len(data))]
            for first in inner:
                if first + len(self._ranges[place, first]) <= start + len(data):
                    self._drop(place, first)
            self._files[place] = file  # which the last range took with it
            insort(file.starts, start)
            self._ranges[place, start] = data
            self.size += len(data)
            while self.size > most:
                self._drop(*next(iter(self._ranges)))

    def clear(self) -> None:
        """Drop all."""
        with self._lock:
            self._files.clear()
            self._ranges.clear()
            self.size = 0

    def _forget(self, place: Location) -> None:
        for first in list(self._files[place].starts) if place in self._files else ():
            self._drop(place, first)

    def _drop(self, place: Location, first: int) -> None:
        self.size -= len(self._ranges.pop((place, first)))
        starts = self._files[place].starts
        starts.remove(first)
        if not starts:
            del self._files[place]


INDEXES = Indexes()
KEPT = KeptRanges()
"""Those of this process."""


def _renew() -> None:
    for kept in (INDEXES, KEPT):
        kept.__init__()  # type: ignore[misc]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)  # a thread that stayed behind may hold a lock, or be half through
