"""Bytes of an image file on a store, by few requests: ranges that grow while they follow each other."""

from __future__ import annotations

import errno
import io
import os
import threading
from typing import BinaryIO, cast

from wkdask.errors import CorruptImageError
from wkdask.images.byte_source import ByteSource, MemorySource
from wkdask.storage import Location
from wkdask.storage.byte_run import Run, Status
from wkdask.storage.location import Stat
from wkdask.storage.ranges import Range
from wkdask.storage.zip_files import ZipFiles

FIRST_BYTES = 256 << 10
"""What is read at first, and wherever reading goes on elsewhere: takes about as long as a request for one byte."""
MOST_BYTES = 8 << 20
"""What is read at once, at most; it stays in memory until another range is wanted."""
GROWTH = 4


def status_on_store(place: Location) -> Status:
    """Return size, and what changes with the file in place of its time, as `StoreSource.status` does; a byte is read for it.

    Raises
    ------
    FileNotFoundError
        If there is no such file.

    Examples
    --------
    >>> place = Location("memory://status-on-store/a")
    >>> place.write_bytes(b"abcdef")
    >>> status_on_store(place).st_size, status_on_store(place) == StoreSource(place).status()
    (6, True)
    """
    files, name = place.files()
    if isinstance(files, ZipFiles) and (member := files.stat(name)) is not None:
        return Status(member.size, member.stamp)
    found = _range(place, 1)
    return _status(found.size, found.version)


def store_source(place: Location, ahead: int = 0) -> ByteSource:
    """Open a file on a store, or in a zip file there; a member that is compressed is unpacked into memory.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    StorageError
        If the store refuses, or does not send ranges.
    ImageConversionError
        If the zip file is damaged, encrypted, or compressed in a way that can not be read.
    """
    files, name = place.files()
    if isinstance(files, ZipFiles) and (data := files.unpacked(name)) is not None:
        return MemorySource(data, status_on_store(place).st_mtime_ns)
    return StoreSource(place, ahead)


def _range(place: Location, stop: int) -> Range:
    found = place.read_range(0, stop)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(place))
    return found


def _status(size: int, version: str) -> Status:
    return Status(size, Stat(size, 0, version).stamp)


class StoreSource:
    """A file on a store; see `wkdask.images.byte_source.ByteSource`.

    Parameters
    ----------
    place
        The file. Its first bytes are read at once.
    ahead
        How many, at least.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    StorageError
        If the store refuses, or does not send ranges.

    Examples
    --------
    >>> place = Location("memory://store-source/a")
    >>> place.write_bytes(b"abcdef")
    >>> source, buffer = StoreSource(place), bytearray(3)
    >>> source.size, source.read_into(memoryview(buffer), 2), bytes(buffer)
    (6, 3, b'cde')
    """

    def __init__(self, place: Location, ahead: int = 0) -> None:
        found = _range(place, FIRST_BYTES + min(ahead, MOST_BYTES - FIRST_BYTES))
        self.place, self.size = place, found.size
        self._version, self._start, self._data, self._window = found.version, 0, found.data, FIRST_BYTES
        self._lock = threading.Lock()

    @property
    def held(self) -> int:
        """What is read at once stays in memory."""
        return min(self.size, MOST_BYTES)

    def status(self) -> Status:
        """Return size, and what changes with the file in place of its time."""
        return _status(self.size, self._version)

    def file(self) -> BinaryIO:
        """Return a seekable file of these bytes."""
        return cast(BinaryIO, io.BufferedReader(Run(self)))

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Copy at most as many bytes as the buffer holds; 0 at the end."""
        if offset >= self.size or not len(buffer):
            return 0
        with self._lock:
            if not 0 <= offset - self._start < len(self._data):
                self._fetch(offset, len(buffer))
            piece = memoryview(self._data)[offset - self._start :][: len(buffer)]
            buffer[: len(piece)] = piece
            return len(piece)

    def _fetch(self, offset: int, wanted: int) -> None:
        follows = 0 <= offset - self._start - len(self._data) < FIRST_BYTES
        self._window = min(self._window * GROWTH, MOST_BYTES) if follows else FIRST_BYTES
        found = self.place.read_range(offset, min(self.size, offset + min(MOST_BYTES, max(wanted, self._window))))
        if found is None or (found.size, found.version) != (self.size, self._version) or not found.data:
            raise CorruptImageError(f"'{self.place}' was changed while it was read. Look for the images anew.")
        self._start, self._data = offset, found.data
