"""Reading bytes at a place of a file or a member of a zip file, from several threads and without a shared position."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Protocol

Buffer = bytearray | memoryview


class FileStatus(Protocol):
    """What tells one state of a file from another; `os.stat_result` is one."""

    @property
    def st_size(self) -> int:
        """Length in bytes."""

    @property
    def st_mtime_ns(self) -> int:
        """When the file (for a member: its archive) was last changed."""


@dataclass(frozen=True, slots=True)
class ByteSource:
    """Bytes that can be read at any place: a run of bytes of an open file.

    Attributes
    ----------
    descriptor
        Of the file.
    size
        Bytes of the run.
    stamp
        Time of the last change, in ns.
    start
        Where the run begins.
    """

    descriptor: int
    size: int
    stamp: int
    start: int = 0

    def status(self) -> FileStatus:
        """Return size and time of change, as `status` does for a path."""
        return self

    @property
    def st_size(self) -> int:
        """Length in bytes."""
        return self.size

    @property
    def st_mtime_ns(self) -> int:
        """Time of the last change."""
        return self.stamp

    def file(self) -> BinaryIO:
        """Return a seekable file of these bytes, for libraries; whoever asks for it closes it."""
        return os.fdopen(os.dup(self.descriptor), "rb")

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Read at most as many bytes as the buffer holds; 0 at the end."""
        return _read_some(self.descriptor, buffer, offset)


def status(path: str) -> FileStatus:
    """Return size and time of change of what `opened` would open.

    Raises
    ------
    OSError
        If there is no such file.
    """
    return os.stat(path)


@contextmanager
def opened(path: str) -> Iterator[ByteSource]:
    """Open a file for reading; the source belongs to the caller's block alone.

    Parameters
    ----------
    path
        The file.

    Yields
    ------
    ByteSource
        Closed at the end of the block.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = folder + "/a"
    ...     _ = pathlib.Path(path).write_bytes(b"abcdef")
    ...     with opened(path) as source:
    ...         read_bytes(source, 2, 3)
    bytearray(b'cde')
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        stat = os.fstat(descriptor)
        yield ByteSource(descriptor, stat.st_size, stat.st_mtime_ns)
    finally:
        os.close(descriptor)


def read_into(source: ByteSource, buffer: Buffer, offset: int) -> None:
    """Fill a buffer from a place of an open file.

    Parameters
    ----------
    source
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
        got = source.read_into(view[done:], offset + done)
        if got == 0:
            raise EOFError(f"the file ends at byte {offset + done}, {len(view) - done} bytes too early")
        done += got


def read_bytes(source: ByteSource, offset: int, size: int) -> bytearray:
    """Return `size` bytes from a place of an open file; EOFError if it ends before."""
    buffer = bytearray(size)
    read_into(source, buffer, offset)
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
