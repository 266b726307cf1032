"""Reading bytes at a place of a file, from several threads and without a shared position."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

Buffer = bytearray | memoryview


@contextmanager
def opened(path: str) -> Iterator[int]:
    """Open a file for reading; the descriptor belongs to the caller's block alone.

    Parameters
    ----------
    path
        The file.

    Yields
    ------
    int
        A descriptor that is closed at the end of the block.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = folder + "/a"
    ...     _ = pathlib.Path(path).write_bytes(b"abcdef")
    ...     with opened(path) as file:
    ...         read_bytes(file, 2, 3)
    bytearray(b'cde')
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read_into(descriptor: int, buffer: Buffer, offset: int) -> None:
    """Fill a buffer from a place of an open file.

    Parameters
    ----------
    descriptor
        From `opened`.
    buffer
        Writable and contiguous, one byte an item.
    offset
        Of the first byte in the file.

    Raises
    ------
    EOFError
        If the file ends before the buffer is full.
    """
    view = memoryview(buffer)
    done = 0
    while done < len(view):
        got = _read_some(descriptor, view[done:], offset + done)
        if got == 0:
            raise EOFError(f"the file ends at byte {offset + done}, {len(view) - done} bytes too early")
        done += got


def read_bytes(descriptor: int, offset: int, size: int) -> bytearray:
    """Return `size` bytes from a place of an open file; EOFError if it ends before."""
    buffer = bytearray(size)
    read_into(descriptor, buffer, offset)
    return buffer


def _read_some(descriptor: int, view: memoryview, offset: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [view], offset)
    if hasattr(os, "pread"):
        piece = os.pread(descriptor, len(view), offset)
    else:
        os.lseek(descriptor, offset, os.SEEK_SET)  # the descriptor is ours alone
        piece = os.read(descriptor, len(view))
    view[: len(piece)] = piece
    return len(piece)
