"""Files of any store that fsspec knows; objects appear when their upload is complete."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from wkdask.errors import InputError
from wkdask.storage.events import notify
from wkdask.storage.location import Location, Stat

SPOOL_BYTES = 32 << 20
"""What a writer keeps in memory before it goes to scratch on disk."""


@lru_cache(maxsize=64)
def _file_system(root: Location) -> Any:
    import fsspec

    protocol = root.url.removesuffix("://")
    try:
        return fsspec.filesystem(protocol, **dict(root.options))
    except (ValueError, ImportError) as error:
        raise InputError(f"URLs with {protocol}:// can not be opened: {error}. Install its fsspec package.") from error


def remote_files(url: str, options: tuple[tuple[str, Any], ...]) -> tuple[RemoteFiles, str]:
    """Return the store of a URL, and the path as the store spells it."""
    protocol = url.partition("://")[0]
    fs = _file_system(Location(f"{protocol}://", options))
    return RemoteFiles(fs, protocol), str(fs._strip_protocol(url))


class RemoteFiles:
    """See `wkdask.storage.location.Location`."""

    def __init__(self, fs: Any, protocol: str) -> None:
        self._fs, self._protocol = fs, protocol

    def read(self, path: str, start: int, stop: int | None) -> bytes:
        """Return a range of an object."""
        if start == 0 and stop is None:
            return bytes(self._fs.cat_file(path))
        return bytes(self._fs.cat_file(path, start=start, end=stop))

    def stat(self, path: str) -> Stat | None:
        """Return size and time, or None."""
        try:
            info = self._fs.info(path)
        except FileNotFoundError:
            return None
        if info["type"] == "directory":
            return None
        changed = info.get("created") or info.get("LastModified") or info.get("mtime")
        stamp = int(changed.timestamp() * 1e9) if hasattr(changed, "timestamp") else 0
        return Stat(int(info["size"]), stamp)

    def is_folder(self, path: str) -> bool:
        """Whether anything lies below."""
        return bool(self._fs.isdir(path))

    def names(self, path: str) -> list[str]:
        """Return the names below a path."""
        try:
            return [entry.rstrip("/").rpartition("/")[2] for entry in self._fs.ls(path, detail=False)]
        except FileNotFoundError:
            return []

    def make_folder(self, path: str) -> None:
        """Create a folder where the store knows folders."""
        self._fs.makedirs(path, exist_ok=True)

    def delete(self, path: str) -> None:
        """Remove an object, or all below a path."""
        if self._fs.exists(path):
            self._fs.rm(path, recursive=True)

    def append(self, path: str, data: bytes) -> None:
        """Replace the object by one with the bytes added; objects do not grow."""
        old = self.read(path, 0, None) if self._fs.exists(path) else b""
        self._fs.pipe_file(path, old + data)

    def create(self, path: str, data: bytes) -> bool:
        """Write an object that must not exist."""
        if self._fs.exists(path):
            return False
        self._fs.pipe_file(path, data)
        return True

    @contextmanager
    def writer(self, path: str, temporary: str) -> Iterator[RemoteWriter]:  # noqa: ARG002
        """Give a writer that spools, and uploads at once when published."""
        with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as spool:
            yield RemoteWriter(self._fs, f"{self._protocol}://{path.lstrip('/')}", path, spool)


class RemoteWriter:
    """See `wkdask.storage.location.Writer`."""

    def __init__(self, fs: Any, url: str, path: str, spool: tempfile.SpooledTemporaryFile[bytes]) -> None:
        self._fs, self._url, self._path, self._spool = fs, url, path, spool

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        self._spool.write(data)

    def seek(self, position: int) -> None:
        """Go on at a byte; what is skipped is 0."""
        if position > SPOOL_BYTES:
            self._spool.rollover()  # before a buffer in memory would be filled with zeros
        if position > self._spool.seek(0, io.SEEK_END):
            self._spool.seek(position - 1)
            self._spool.write(b"\0")  # of buffers in memory, truncate makes none longer
        self._spool.seek(position)

    def copy(self, source: Location, start: int, stop: int) -> None:
        """Append a range of another object."""
        while start < stop:
            piece = source.read_bytes(start, min(stop, start + SPOOL_BYTES))
            if not piece:
                raise OSError(f"{source} ends before byte {stop}")
            self._spool.write(piece)
            start += len(piece)

    def publish(self, *, sync: bool = False) -> Stat:  # noqa: ARG002
        """Upload in one go; the object is there when all of it is."""
        size = self._spool.seek(0, io.SEEK_END)
        self._spool.seek(0)
        if size <= SPOOL_BYTES:
            self._fs.pipe_file(self._path, self._spool.read())
        else:
            with self._fs.open(self._path, "wb") as out:
                while piece := self._spool.read(SPOOL_BYTES):
                    out.write(piece)
        notify("publish", self._url)
        found = RemoteFiles(self._fs, "").stat(self._path)
        return found or Stat(size, 0)
