"""A place that bytes can be read from and written to: a local path, or a URL that fsspec knows."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from wkdask.errors import InputError, StorageError, WkdaskError
from wkdask.storage.events import notify

WORK_FOLDER = ".wkdask"
"""The folder inside a dataset that holds journals, parts and leases; no reader needs it."""


@dataclass(frozen=True, slots=True)
class Stat:
    """Bytes and time of last change of a file; ``mtime_ns`` is 0 where the store does not tell."""

    size: int
    mtime_ns: int


class Writer(Protocol):
    """Collects bytes aside; `publish` makes them visible at the target, all at once; else they are dropped."""

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        ...

    def copy(self, source: Location, start: int, stop: int) -> None:
        """Append a range of another file, without passing it through Python where the system can."""
        ...

    def seek(self, position: int) -> None:
        """Go on at a byte counted from the start; what is skipped is 0, and takes no room where files can have holes."""
        ...

    def publish(self) -> Stat:
        """Replace the target by what was written."""
        ...


class _Files(Protocol):
    """What a kind of store must be able to do; paths are as `Location.path` gives them."""

    def read(self, path: str, start: int, stop: int | None) -> bytes: ...
    def stat(self, path: str) -> Stat | None: ...
    def is_folder(self, path: str) -> bool: ...
    def names(self, path: str) -> list[str]: ...
    def make_folder(self, path: str) -> None: ...
    def delete(self, path: str) -> None: ...
    def append(self, path: str, data: bytes) -> None: ...
    def create(self, path: str, data: bytes) -> bool: ...
    def writer(self, path: str, temporary: str) -> Any: ...


@dataclass(frozen=True, slots=True)
class Location:
    """A file or folder, anywhere.

    Parameters
    ----------
    url
        A local path (made absolute), ``file://…``, or any URL with a protocol that fsspec knows.
    options
        Passed to fsspec's file system: credentials, endpoints. Never shown.

    Examples
    --------
    >>> place = Location("memory://lab/ds")
    >>> (place / "color" / "1").url
    'memory://lab/ds/color/1'
    >>> (place / "a.txt").write_bytes(b"hello")
    >>> (place / "a.txt").read_bytes()
    b'hello'
    """

    url: str
    options: tuple[tuple[str, Any], ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        url = os.fspath(self.url)
        if "\0" in url or not url:
            raise InputError(f"{url!r} is no path. Give a path or a URL.")
        if url.startswith("file://"):
            url = "/" + url.removeprefix("file://").removeprefix("localhost").lstrip("/")
        protocol, mark, path = url.partition("://")
        url = protocol + mark + path.rstrip("/") if mark and "/" not in protocol else os.path.abspath(os.path.expanduser(url))
        object.__setattr__(self, "url", url)

    def __hash__(self) -> int:
        return hash((self.url, repr(self.options)))  # options may hold dicts

    @classmethod
    def of(cls, place: str | os.PathLike[str] | Location, options: Mapping[str, Any] | None = None) -> Location:
        """Return the location that a user named in any of the usual spellings."""
        return place if isinstance(place, Location) else cls(os.fspath(place), tuple(sorted((options or {}).items())))

    def __truediv__(self, name: str) -> Location:
        return Location(f"{self.url}{'' if self.url.endswith('/') else '/'}{name}", self.options)

    def __str__(self) -> str:
        if self.is_local:
            return self.url
        protocol, _, path = self.url.partition("://")
        parts = urlsplit(f"//{path}")
        return f"{protocol}:" + (parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl() or "//")

    __repr__ = __str__

    @property
    def is_local(self) -> bool:
        """Whether this is a path of the local file system."""
        return "://" not in self.url

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.url.rstrip("/").rpartition("/")[2]

    @property
    def parent(self) -> Location:
        """The folder that this lies in."""
        head, _, _ = self.url.rpartition("/")
        return self if head.endswith(":/") or self.url.endswith("://") else Location(head or "/", self.options)

    @property
    def local_path(self) -> Path:
        """The local path; an error where there is none."""
        if not self.is_local:
            raise StorageError(f"{self} is not a local path. Use a local folder here.")
        return Path(self.url)

    def files(self) -> tuple[_Files, str]:
        """Return what does the work for this kind of store, and the path as that knows it."""
        if self.is_local:
            from wkdask.storage.local import LocalFiles

            return LocalFiles(), self.url
        from wkdask.storage.remote import remote_files

        return remote_files(self.url, self.options)

    def read_bytes(self, start: int = 0, stop: int | None = None) -> bytes:
        """Return the bytes from ``start`` up to ``stop`` (default: all); fewer where the file ends before."""
        files, path = self.files()
        with explained(self, "read"):
            return files.read(path, start, stop)

    def write_bytes(self, data: bytes, scratch: Location | None = None) -> None:
        """Replace the file's content at once: a reader sees the old bytes or the new ones."""
        with self.writer(scratch) as out:
            out.write(data)
            out.publish()

    def append(self, data: bytes) -> None:
        """Add bytes to the end, in one system call; meant for files with one writer."""
        files, path = self.files()
        with explained(self, "written"):
            files.append(path, data)
        notify("append", self.url)

    def create(self, data: bytes) -> bool:
        """Write a file that must not exist yet; return whether it was ours to make."""
        files, path = self.files()
        with explained(self, "written"):
            return files.create(path, data)

    def stat(self) -> Stat | None:
        """Return size and time of a file, or None where there is none."""
        files, path = self.files()
        with explained(self, "read"):
            return files.stat(path)

    def is_file(self) -> bool:
        """Whether a file is there."""
        return self.stat() is not None

    def is_folder(self) -> bool:
        """Whether a folder is there (on object stores: whether anything lies below)."""
        files, path = self.files()
        with explained(self, "read"):
            return files.is_folder(path)

    def names(self) -> list[str]:
        """Return the names in a folder, sorted; an empty list where there is no folder."""
        files, path = self.files()
        with explained(self, "listed"):
            return sorted(files.names(path))

    def make_folder(self) -> Location:
        """Create the folder and its parents where they are missing; return it."""
        files, path = self.files()
        with explained(self, "created"):
            files.make_folder(path)
        return self

    def delete(self) -> None:
        """Remove the file, or the folder with all that lies below; links are removed, never followed."""
        files, path = self.files()
        with explained(self, "deleted"):
            files.delete(path)
        notify("delete", self.url)

    @contextmanager
    def writer(self, scratch: Location | None = None) -> Iterator[Writer]:
        """Give a writer of this file, whose bytes lie in ``scratch`` (default: beside the file) until published."""
        files, path = self.files()
        token = f"{os.getpid():x}-{secrets.token_hex(6)}"
        where = scratch.files()[1] if scratch else path.rpartition("/")[0]
        with explained(self, "written"), files.writer(path, f"{where}/.{self.name}.{token}.tmp") as out:
            yield out


@contextmanager
def explained(location: Location, verb: str) -> Iterator[None]:
    """Turn the system's errors into ones that name the place and what to do."""
    try:
        yield
    except WkdaskError:
        raise
    except (FileNotFoundError, IsADirectoryError) as error:
        raise StorageError(f"{location} can not be {verb}: there is no such file. Check the path.") from error
    except PermissionError as error:
        raise StorageError(f"{location} can not be {verb}: permission denied. Check its owner and mode.") from error
    except OSError as error:
        said = error.strerror or str(error)
        remedy = "Free some space and run the same again" if "space" in said.lower() or "quota" in said.lower() else "Check it"
        raise StorageError(f"{location} can not be {verb}: {said}. {remedy}.") from error
