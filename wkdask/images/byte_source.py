"""Reading bytes at a place of a file, of a member of a zip file, or of an object on a store, without a shared position."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Protocol, cast

from wkdask.errors import StorageError
from wkdask.images.places import FilePath
from wkdask.storage import Location
from wkdask.storage.byte_run import Run, Status
from wkdask.storage.zip_archive import Archive, split_member

__all__ = [
    "Buffer",
    "ByteSource",
    "FileSource",
    "FileStatus",
    "MemorySource",
    "opened",
    "read_bytes",
    "read_into",
    "status",
    "zip_members",
]

Buffer = bytearray | memoryview


class FileStatus(Protocol):
    """What tells one state of a file from another; `os.stat_result` is one."""

    @property
    def st_size(self) -> int:
        """Length in bytes."""

    @property
    def st_mtime_ns(self) -> int:
        """When the file (for a member: its archive) was last changed."""


class ByteSource(Protocol):
    """Bytes that can be read at any place."""

    @property
    def size(self) -> int:
        """How many bytes there are."""

    @property
    def held(self) -> int:
        """Bytes of memory that the source takes by itself: those of an unpacked member."""

    def status(self) -> FileStatus:
        """Return size and time of change, as `status` does for a path."""

    def file(self) -> BinaryIO:
        """Return a seekable file of these bytes, for libraries; whoever asks for it closes it."""

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Read at most as many bytes as the buffer holds; 0 at the end."""


@dataclass(frozen=True, slots=True)
class FileSource:
    """A run of bytes of an open file.

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

    @property
    def held(self) -> int:
        """Nothing is held in memory."""
        return 0

    def status(self) -> FileStatus:
        """Return size and time of change."""
        return Status(self.size, self.stamp)

    def file(self) -> BinaryIO:
        """Return a seekable file of these bytes."""
        if self.start == 0 and self.size == os.fstat(self.descriptor).st_size:
            file = os.fdopen(os.dup(self.descriptor), "rb")
            file.seek(0)
            return file
        return cast(BinaryIO, io.BufferedReader(Run(self)))

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Read at most as many bytes as the buffer holds; 0 at the end of the run."""
        left = self.size - offset
        return _read_some(self.descriptor, buffer if left >= len(buffer) else buffer[: max(0, left)], self.start + offset)


@dataclass(frozen=True, slots=True)
class MemorySource:
    """Bytes in memory: a member of a zip file that was compressed."""

    data: bytes
    stamp: int

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return len(self.data)

    @property
    def held(self) -> int:
        """All bytes are held in memory."""
        return len(self.data)

    def status(self) -> FileStatus:
        """Return size and time of change."""
        return Status(self.size, self.stamp)

    def file(self) -> BinaryIO:
        """Return a seekable file of these bytes."""
        return io.BytesIO(self.data)

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Copy at most as many bytes as the buffer holds; 0 at the end."""
        piece = memoryview(self.data)[offset : offset + len(buffer)]
        buffer[: len(piece)] = piece
        return len(piece)


def status(path: FilePath) -> FileStatus:
    """Return size and time of change of what `opened` would open; a member has the time of its archive.

    Raises
    ------
    OSError
        If there is no such file or member.
    ImageConversionError
        If the archive is damaged.
    """
    if isinstance(path, Location):
        from wkdask.images.store_source import status_on_store

        return status_on_store(path)
    names = split_member(path)
    if names is None:
        return os.stat(path)
    with _file(names[0]) as file:
        return Status(_archive(names[0], file).member(names[1]).size, file.stamp)


@contextmanager
def opened(path: FilePath, *, ahead: int = 0) -> Iterator[ByteSource]:
    """Open a file for reading; the source belongs to the caller's block alone.

    Parameters
    ----------
    path
        The file, or a member of a zip file, spelled ``<zip file>!/<member>``. A member that is stored is read in place,
        one that is compressed is unpacked into memory. A file on a store is read by ranges.
    ahead
        How many of its first bytes are wanted, about: on a store, where they come by one request, that is worth saying.

    Yields
    ------
    ByteSource
        Closed at the end of the block.

    Raises
    ------
    OSError
        If there is no such file or member.
    ImageConversionError
        If the archive is damaged, encrypted, or compressed in a way that can not be read.

    Examples
    --------
    >>> import pathlib, tempfile, zipfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = pathlib.Path(folder, "a").write_bytes(b"abcdef")
    ...     with zipfile.ZipFile(folder + "/b.zip", "w") as archive:
    ...         archive.writestr("c/d", b"ghijkl")
    ...     with opened(folder + "/a") as file, opened(folder + "/b.zip!/c/d") as member:
    ...         read_bytes(file, 2, 3), read_bytes(member, 2, 3)
    (bytearray(b'cde'), bytearray(b'ijk'))
    """
    if isinstance(path, Location):
        from wkdask.images.store_source import store_source

        yield store_source(path, ahead)
        return
    names = split_member(path)
    with _file(path if names is None else names[0]) as file:
        yield file if names is None else _member_source(names[0], file, names[1])


def _archive(path: str, file: FileSource) -> Archive:
    return Archive(path, file, (path, file.size, f"{file.size} {file.stamp}"))  # as `zip_files` has it


def _member_source(path: str, file: FileSource, name: str) -> ByteSource:
    archive = _archive(path, file)
    member = archive.member(name)
    if member.stored:
        return FileSource(file.descriptor, member.size, file.stamp, archive.data_start(member))
    return MemorySource(archive.unpacked(member), file.stamp)


def zip_members(path: str) -> list[tuple[str, int, int]]:
    """List the files in a zip file on a disk.

    Parameters
    ----------
    path
        The archive.

    Returns
    -------
    list of (name, size, stamp)
        In the order of the archive: names as `opened` takes them behind ``!/``, bytes unpacked, and the time in ns at
        which the archive was changed.

    Raises
    ------
    StorageError
        If there is no such file, or it may not be read.
    CorruptImageError
        As `wkdask.storage.zip_archive.Archive.members`.
    """
    try:
        with _file(path) as file:
            return [(member.name, member.size, file.stamp) for member in _archive(path, file).members().values()]
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"'{path}' can not be read: {error}. Allow reading it, or leave it out.") from error


OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
"""Not waiting: a pipe would do so for ever."""


@contextmanager
def _file(path: str) -> Iterator[FileSource]:
    """Open a regular file; a device of that name might never end."""
    descriptor = os.open(path, OPEN_FLAGS)
    try:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "It is no regular file", path)
        yield FileSource(descriptor, found.st_size, found.st_mtime_ns)
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
    if offset + size > source.size:
        raise EOFError(f"the file ends at byte {source.size}, {offset + size - source.size} bytes too early")
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
