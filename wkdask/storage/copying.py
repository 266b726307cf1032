"""Copying files between stores, by the store itself or the system where they can."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from wkdask.errors import StorageError
from wkdask.storage.copied_inside import copies_inside
from wkdask.storage.location import Location, Stat

COPY_BYTES = 256 << 20
"""What is copied of a file between two calls of ``between``."""
STORE_BYTES = COPY_BYTES >> 4
"""The same of one that comes from another store: one request."""


def copy_file(
    source: Location,
    target: Location,
    scratch: Location | None = None,
    between: Callable[[], None] | None = None,
    seen: Stat | None = None,
) -> Stat:
    """Copy a file, which appears whole; the system copies, or shares the blocks, where it can, and holes stay holes.

    Parameters
    ----------
    source, target
        Files; the target is replaced.
    scratch
        Where the bytes lie until they are complete; default: beside the target.
    between
        Called now and then; what it raises ends the copy, and leaves the target as it was.
    seen
        What was seen of the source, which must be that still; default: it is looked at.

    Returns
    -------
    Stat
        Of the target.

    Raises
    ------
    StorageError
        Where the source is no file, or is changed meanwhile.

    Examples
    --------
    >>> Location("memory://copy-file/a").write_bytes(b"hello")
    >>> copy_file(Location("memory://copy-file/a"), Location("memory://copy-file/b")).size
    5
    """
    stat = seen or source.stat()
    if stat is None:
        raise StorageError(f"{source} can not be copied: there is no such file. Check the path.")
    shared = share_store(source, target)
    with target.writer(scratch) as out:
        for start, stop in _pieces(source, stat.size, shared):
            if between:
                between()
            out.seek(start)
            if source.is_local or shared:
                out.copy(source, start, stop, stat)
                continue
            data = source.read_bytes(start, stop)
            if len(data) < stop - start:
                raise StorageError(f"{source} ends before byte {stop}: it was changed meanwhile. Copy it again.")
            out.write(data)
        # else pieces of two files may be put together; not all stores compare what they copy
        again = source.stat() if source.is_local or stat.size > STORE_BYTES or (seen and not shared) else stat
        if again is None or (again.size, again.stamp) != (stat.size, stat.stamp):
            raise StorageError(f"{source} was changed while it was copied. Copy it again.")
        out.seek(stat.size)
        return out.publish()


def share_store(source: Location, target: Location) -> bool:
    """Whether a store holds both, and copies one to the other by itself."""
    if source.is_local or target.is_local:
        return False
    return copies_inside(target.files()[0], source.files()[0])


def _pieces(source: Location, size: int, whole: bool) -> Iterator[tuple[int, int]]:
    """Yield what there is of a file in pieces: of a local one without its holes."""
    ranges: Iterable[tuple[int, int]] = ((0, size),)
    step = max(size, 1) if whole else STORE_BYTES
    if source.is_local:
        from wkdask.storage.local import stored_ranges

        ranges, step = stored_ranges(source.url), COPY_BYTES
    for first, last in ranges:
        for start in range(first, min(last, size), step):
            yield start, min(start + step, last, size)
