"""Pieces of files on stores, fetched by few requests: near ones by the same one, several requests at once.

What takes time there is the way: a request takes as long as some hundred kilobytes. So what lies between two pieces is fetched
with them where it is less than that, and, as long as there are more requests than one for each file and two more, the
smallest gaps too, up to a share of what is wanted. Sizes can be set in dask's configuration, see `Limits`.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np

from wkdask.errors import ConflictError, DamagedError, InputError
from wkdask.geometry.grid import Box, Index
from wkdask.storage import Location

T = TypeVar("T")
Array = np.ndarray[Any, Any]

ATTEMPTS = 3
"""Times that a box is read whose files are replaced meanwhile."""
MOST_PIECES = 1 << 16
"""Pieces that one reader is about to fetch: chunks may be as small as a voxel."""
KEPT_INDEXES = 64
KEPT_INDEX_BYTES = 1 << 20
"""Indexes that a process keeps, and the largest of them."""
THREADS = 16
"""Requests at once, of a process."""
SMALL_BYTES = 64 << 10
"""Stored bytes of pieces that are taken one after the other, by whoever wants them: threads of their own would take longer, as
they wait for each other's interpreter lock some dozen microseconds apart. Requests go on meanwhile."""
Rest = Callable[[], None] | None
"""What is left to be done with an answer, by whoever wants it."""
Request = Callable[[], Rest]


class ChangedError(Exception):
    """A file is another one than that whose index was read; its argument is the place."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How requests are made, as dask's configuration says below ``wkdask.ranges``.

    Parameters
    ----------
    near
        Bytes between two pieces that are fetched rather than skipped.
    most
        Bytes of a request, unless one piece has more.
    held
        Bytes that the requests of one reader which are under way have together.
    waste
        How many times the bytes that are wanted may be fetched, to save requests.
    """

    near: int = 256 << 10
    most: int = 16 << 20
    held: int = 64 << 20
    waste: float = 2.5

    @classmethod
    def configured(cls) -> Limits:
        """Return what the configuration says, by default the values above.

        Raises
        ------
        InputError
            Where it says no amount of bytes, or no number.

        Examples
        --------
        >>> import dask
        >>> with dask.config.set({"wkdask.ranges.near": "1 MiB"}):
        ...     Limits.configured().near
        1048576
        """
        import dask
        from dask.utils import parse_bytes

        def said(name: str, parse: Callable[[str], float], wanted: str) -> Any:
            given = dask.config.get(f"wkdask.ranges.{name}", getattr(cls(), name))
            try:
                return parse(str(given))
            except (ValueError, OverflowError):
                raise InputError(f"wkdask.ranges.{name} is {given!r} in dask's configuration, expected {wanted}.") from None

        sizes = {name: max(1, said(name, parse_bytes, "bytes, such as 1MiB")) for name in ("near", "most", "held")}
        return cls(**sizes, waste=said("waste", float, "a number"))


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes of a file, and what is done with them.

    Parameters
    ----------
    place, version
        The file, and which of its versions; none if that is empty.
    start, stop
        Where the bytes lie.
    take
        Called with them, in any thread; not one after the other with those of other pieces.
    """

    place: Location
    version: str
    start: int
    stop: int
    take: Callable[[memoryview], None]


def fetch(pieces: Sequence[Piece]) -> None:
    """Fetch pieces of files, and hand each to its `take`.

    Raises
    ------
    ChangedError
        Where a file is gone, or another version.
    DamagedError
        Where a file ends before a piece does; it is named.
    """
    limits = Limits.configured()
    ordered = sorted(pieces, key=lambda piece: (piece.place.url, piece.start))
    runs = merge([piece.place.url for piece in ordered], [(piece.start, piece.stop) for piece in ordered], limits)
    concurrently([_request(ordered[run]) for run in runs], limits)


def merge(files: Sequence[str], spans: Sequence[tuple[int, int]], limits: Limits) -> list[slice]:
    """Return which spans are fetched by the same request.

    Parameters
    ----------
    files, spans
        Of each piece its file, and where it begins and ends there; those of a file stand together, by ascending begin.
    limits
        See `Limits`.

    Examples
    --------
    >>> merge(["a"] * 4 + ["b"], [(0, 10), (15, 20), (50, 60), (900, 990), (0, 9)], Limits(near=8, waste=1.5))
    [slice(0, 2, None), slice(2, 3, None), slice(3, 4, None), slice(4, 5, None)]
    >>> merge(["a"] * 4 + ["b"], [(0, 10), (15, 20), (50, 60), (900, 990), (0, 9)], Limits(near=8, waste=1.0, most=12))[:2]
    [slice(0, 1, None), slice(1, 2, None)]
    """
    if not spans:
        return []
    breaks, wanted = _gaps(files, spans)
    apart = {at: gap for at, gap in breaks.items() if gap is None or gap > limits.near}
    fetched = wanted + sum(gap for at, gap in breaks.items() if gap is not None and at not in apart)
    least = len(set(files)) + 2
    for at, gap in sorted(((at, gap) for at, gap in apart.items() if gap is not None), key=lambda found: found[1]):
        if len(apart) + 1 <= least or fetched + gap > limits.waste * wanted:
            break
        fetched += gap
        del apart[at]
    return list(_limited(spans, [0, *sorted(apart), len(spans)], limits.most))


def _gaps(files: Sequence[str], spans: Sequence[tuple[int, int]]) -> tuple[dict[int, int | None], int]:
    """Return the bytes between each span and the one before, None where that is of another file; and those of all spans."""
    found: dict[int, int | None] = {}
    reach, wanted = spans[0][1], spans[0][1] - spans[0][0]
    for at in range(1, len(spans)):
        start, stop = spans[at]
        if files[at] != files[at - 1]:
            found[at], reach = None, start
        elif start > reach:
            found[at], reach = start - reach, start
        wanted += max(0, stop - reach)
        reach = max(reach, stop)
    return found, wanted


def _limited(spans: Sequence[tuple[int, int]], breaks: Sequence[int], most: int) -> Iterable[slice]:
    for first, last in pairwise(breaks):
        begin = first
        for at in range(first + 1, last):
            if spans[at][1] - spans[begin][0] > most:
                yield slice(begin, at)
                begin = at
        yield slice(begin, last)


def _request(pieces: Sequence[Piece]) -> tuple[int, Request]:
    """Return the bytes of a request for pieces of one file, and what makes it."""
    place, start, stop = pieces[0].place, pieces[0].start, max(piece.stop for piece in pieces)
    small = sum(piece.stop - piece.start for piece in pieces) < SMALL_BYTES * len(pieces)

    def request() -> Callable[[], None] | None:
        found = place.read_range(start, stop) if stop > start else None
        if stop > start and (found is None or any((piece.version or found.version) != found.version for piece in pieces)):
            raise ChangedError(place)  # pieces may come of indexes that were read at different times
        if found and len(found.data) < stop - start:
            raise DamagedError(f"{place} is cut off: it has {found.size} bytes, and ends before byte {stop}. Write it again.")
        data = memoryview(found.data if found else b"")

        def take() -> None:
            for piece in pieces:
                piece.take(data[piece.start - start : piece.stop - start])

        if small:
            return take
        take()
        return None

    return stop - start, request


def concurrently(requests: Iterable[tuple[int, Request]], limits: Limits | None = None) -> None:
    """Make requests, several at once, as far as the bytes that they hold allow; the first error ends it.

    No request may make others by this function, since they might wait for each other.
    """
    limits, requests = limits or Limits.configured(), list(requests)
    if len(requests) == 1:
        _finish(requests[0][1]())
        return
    under_way: dict[Future[Rest], int] = {}
    try:
        for size, request in requests:
            while under_way and sum(under_way.values()) + size > limits.held:
                _finish_some(under_way)
            under_way[_pool().submit(request)] = size
        while under_way:
            _finish_some(under_way)
    finally:
        for future in under_way:
            future.cancel()
        wait(under_way)  # they write into the caller's array


def _finish_some(under_way: dict[Future[Rest], int]) -> None:
    done, _ = wait(under_way, return_when=FIRST_COMPLETED)
    for future in done:
        del under_way[future]
    for future in done:
        _finish(future.result())


def _finish(rest: Rest) -> None:
    if rest:
        rest()


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, "wkdask-ranges")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # its threads stayed behind


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


INDEXES = Indexes()
"""Those of this process."""


def in_parts(box: Box, chunk: Index) -> list[Box]:
    """Return parts of a box, cut between chunks, of so many chunks at most as there may be pieces at once.

    Examples
    --------
    >>> [part.shape for part in in_parts(Box((3, 0), (1003, 300)), (1, 4))]
    [(500, 300), (500, 300)]
    """
    if not box.size:
        return []
    cells = box.coarsened(chunk)
    if cells.size <= MOST_PIECES:
        return [box]
    axis = max(range(len(chunk)), key=cells.shape.__getitem__)
    middle = (cells.start[axis] + cells.stop[axis]) // 2 * chunk[axis]
    low = Box(box.start, (*box.stop[:axis], middle, *box.stop[axis + 1 :]))
    high = Box((*box.start[:axis], middle, *box.start[axis + 1 :]), box.stop)
    return [*in_parts(low, chunk), *in_parts(high, chunk)]


def steadily(read: Callable[[], T]) -> T:
    """Read what may be replaced meanwhile; then it is read again.

    Raises
    ------
    ConflictError
        Where it was replaced each time.
    """
    for _ in range(ATTEMPTS):
        try:
            return read()
        except ChangedError as error:
            place = error.args[0]
            INDEXES.clear()  # whoever replaced one file has hardly done so alone
    raise ConflictError(f"{place} was replaced {ATTEMPTS} times while it was read. Read it again when its writers are done.")


def read_parts(read: Callable[[Box, Array], None], box: Box, chunk: Index, out: Array) -> Array:
    """Fill an array that has a box's shape by parts of the box, each read anew where it is replaced meanwhile; return it."""
    for part in in_parts(box, chunk):
        steadily(partial(read, part, out[part.relative_to(box.start).slices]))
    return out


def fetch_whole(places: Iterable[tuple[Location, int, Callable[[bytes], None]]]) -> None:
    """Fetch whole files, as far as they are there.

    Parameters
    ----------
    places
        Of each file its place, the bytes that it may have, and what is called with its bytes, in any thread.

    Raises
    ------
    DamagedError
        Where a file has more bytes; the file is named.
    """

    def request(place: Location, most: int, take: Callable[[bytes], None]) -> None:
        found = place.read_range(0, most)
        if found is None:
            return
        if found.size > most:
            raise DamagedError(
                f"{place} is damaged: {found.size} bytes are too many for a chunk. Write it again, or restore it."
            )
        take(found.data)

    concurrently((most, partial(request, place, most, take)) for place, most, take in places)
