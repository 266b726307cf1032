"""What sources of bytes have in common: a size, reading at any place, their state, and a file over any of them."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Status:
    """Size and time of change of what has no `os.stat_result`: a member of a zip file, an object on a store."""

    st_size: int
    st_mtime_ns: int


class Readable(Protocol):
    """What is read from any place."""

    @property
    def size(self) -> int:
        """How many bytes there are."""

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Read at most as many bytes as the buffer holds; 0 at the end."""


class Run(io.RawIOBase):
    """The bytes of a source as a seekable file.

    Parameters
    ----------
    source
        Is not closed with it.
    """

    def __init__(self, source: Readable) -> None:
        self.source, self.place = source, 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place; return it."""
        self.place = max(0, offset + (0, self.place, self.source.size)[whence])
        return self.place

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read some bytes from here on; 0 at the end."""
        got = self.source.read_into(memoryview(buffer).cast("B"), self.place)
        self.place += got
        return got
