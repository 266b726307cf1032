"""Pieces of files on stores, fetched by few requests, several at once, and read again where files are replaced meanwhile.

Sizes can be set in dask's configuration, see `wkdask.formats.merging.Limits`.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import groupby
from typing import Any, TypeVar

import numpy as np

from wkdask.errors import ConflictError, DamagedError
from wkdask.formats.kept import INDEXES, KEPT
from wkdask.formats.merging import Limits, merge
from wkdask.geometry.grid import Box, Index
from wkdask.storage import Location

T = TypeVar("T")
Array = np.ndarray[Any, Any]

ATTEMPTS = 3
"""Times that a box is read whose files are replaced meanwhile."""
MOST_PIECES = 1 << 16
"""Pieces that one reader is about to fetch: chunks may be as small as a voxel."""
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
class Piece:
    """Some bytes of a file, and what is done with them.

    Parameters
    ----------
    place, version
        The file, and which of its versions; none if that is empty.
    start, stop
        Where the bytes lie.
    take
        Called with them, or with what ``unpack`` makes of them, in any thread; not one after the other with those of other
        pieces.
    unpack
        Called with the bytes of several pieces of the file, in any thread: many small ones are decoded faster together. It is
        the same for all pieces of a file.
    together
        How many those are, at most.
    """

    place: Location
    version: str
    start: int
    stop: int
    take: Callable[[Any], None]
    unpack: Callable[[Sequence[memoryview]], Sequence[Any]] = list
    together: int = 1


def fetch(pieces: Sequence[Piece], *, keep: bool = False) -> None:
    """Fetch pieces of files, and hand each to its `take`.

    With ``keep``, what was fetched is kept, and what was kept is not fetched again; but each file is asked for something, which
    tells that it is still the same.

    Raises
    ------
    ChangedError
        Where a file is gone, or another version.
    DamagedError
        Where a file ends before a piece does; it is named.
    """
    limits = Limits.configured()
    ordered = sorted(pieces, key=lambda piece: (piece.place.url, piece.start))
    keep = keep and limits.kept > 0 and not any(piece.place.is_local for piece in ordered[:1])
    kept, missing = _kept(ordered) if keep else ({}, ordered)
    runs = merge([piece.place.url for piece in missing], [(piece.start, piece.stop) for piece in missing], limits)
    requests = [_request(missing[run], limits.kept if keep else 0) for run in runs]
    asked = {piece.place for piece in missing}
    requests += [(1, partial(_require_same, found[-1][0])) for place, found in kept.items() if place not in asked]
    concurrently(requests, limits, partial(_take_kept, kept) if kept else None)


Kept = dict[Location, list[tuple[Piece, memoryview]]]
"""Of each file the pieces that are kept, with their bytes."""


def _kept(ordered: Sequence[Piece]) -> tuple[Kept, list[Piece]]:
    """Return pieces that are kept, and the others."""
    kept: Kept = defaultdict(list)
    missing: list[Piece] = []
    for (place, version), group in groupby(ordered, key=lambda piece: (piece.place, piece.version)):
        pieces = list(group)
        for piece, data in zip(pieces, KEPT.find(place, version, [(p.start, p.stop) for p in pieces]), strict=True):
            kept[place].append((piece, data)) if data is not None else missing.append(piece)
    return kept, missing


def _take_kept(kept: Kept) -> None:
    """Hand over pieces that are kept; where that fails, they came damaged, and are fetched anew."""
    for place, found in kept.items():
        try:
            _take([piece for piece, _ in found], [data for _, data in found])
        except DamagedError:
            raise ChangedError(place) from None


def _take(pieces: Sequence[Piece], data: Sequence[memoryview]) -> None:
    """Hand over pieces of one file."""
    for group in _groups(pieces):
        for piece, each in zip(pieces[group], pieces[group][0].unpack(data[group]), strict=True):
            piece.take(each)


def _groups(pieces: Sequence[Piece]) -> list[slice]:
    """Return which pieces are decoded together."""
    most = pieces[0].together if pieces else 1
    return [slice(at, at + most) for at in range(0, len(pieces), most)]


def _require_same(piece: Piece) -> None:
    """Raise ChangedError where a file is another than that of which a piece, its last, is kept; most stores tell by a stat."""
    stat = piece.place.stat()
    size, version = (stat.size, stat.tag) if stat else (0, "")
    if stat and version != piece.version and (answer := piece.place.read_range(0, 1)):
        size, version = answer.size, answer.version
    if version != piece.version:
        raise ChangedError(piece.place)
    if size < piece.stop:
        raise _cut_off(piece.place, size, piece.stop)


def _cut_off(place: Location, size: int, stop: int) -> DamagedError:
    return DamagedError(f"{place} is cut off: it has {size} bytes, and ends before byte {stop}. Write it again.")


def _request(pieces: Sequence[Piece], kept: int = 0) -> tuple[int, Request]:
    """Return the bytes of a request for pieces of one file, and what makes it; ``kept`` bytes of all files may be kept."""
    place, start, stop = pieces[0].place, pieces[0].start, max(piece.stop for piece in pieces)
    groups = _groups(pieces)
    small = sum(piece.stop - piece.start for piece in pieces) < SMALL_BYTES * len(pieces)

    def request() -> Callable[[], None] | None:
        found = place.read_range(start, stop) if stop > start else None
        if stop > start and (found is None or any((piece.version or found.version) != found.version for piece in pieces)):
            raise ChangedError(place)  # pieces may come of indexes that were read at different times
        if found and len(found.data) < stop - start:
            raise _cut_off(place, found.size, stop)
        if found and kept:
            KEPT.put(place, found.version, start, found.data, kept)
        whole = memoryview(found.data if found else b"")
        data = [whole[piece.start - start : piece.stop - start] for piece in pieces]
        first = pieces[0].unpack(data[groups[0]])  # here, as several threads can decode

        def take() -> None:
            for piece, each in zip(pieces, first, strict=False):
                piece.take(each)
            _take(pieces[len(first) :], data[len(first) :])

        if small:
            return take
        take()
        return None

    return stop - start, request


def concurrently(requests: Iterable[tuple[int, Request]], limits: Limits | None = None, meanwhile: Rest = None) -> None:
    """Make requests, several at once, as far as the bytes that they hold allow; the first error ends it.

    No request may make others by this function, since they might wait for each other. What can be done ``meanwhile`` is done
    while they are under way.
    """
    limits, requests = limits or Limits.configured(), list(requests)
    if len(requests) == 1 and not meanwhile:
        _finish(requests[0][1]())
        return
    under_way: dict[Future[Rest], int] = {}
    try:
        for size, request in requests:
            while under_way and sum(under_way.values()) + size > limits.held:
                _finish_some(under_way)
            under_way[_pool().submit(request)] = size
        _finish(meanwhile)
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
            KEPT.clear()
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
