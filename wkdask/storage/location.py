"""A place that bytes can be read from and written to: a local path, or a URL that fsspec knows."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from wkdask.errors import InputError, StorageError
from wkdask.storage.address import HTTP, beside, documented, kind_of, linked, require_host, split_user
from wkdask.storage.events import notify
from wkdask.storage.explained import LISTED, explained
from wkdask.storage.options import Options, usual_options
from wkdask.storage.ranges import Range

if TYPE_CHECKING:
    from typing_extensions import TypeIs

WORK_FOLDER = ".wkdask"
"""The folder inside a dataset that holds journals, parts and leases; no reader needs it."""


@dataclass(frozen=True, slots=True)
class Stat:
    """Bytes and time of last change of a file; ``mtime_ns`` is 0 where the store does not tell.

    ``tag`` is what a store changes whenever the object changes, such as its ETag; empty on disks.
    """

    size: int
    mtime_ns: int
    tag: str = ""

    @property
    def stamp(self) -> int:
        """What changes with the file, for receipts: its tag as a negative number, else its time.

        Examples
        --------
        >>> Stat(5, 1_700_000_000).stamp, Stat(5, 0, "a").stamp == Stat(5, 1_700_000_000, "a").stamp < 0
        (1700000000, True)
        """
        if not self.tag:
            return self.mtime_ns
        return -1 - int.from_bytes(hashlib.sha256(self.tag.encode()).digest()[:6], "big")


def is_place(given: object) -> TypeIs[str | os.PathLike[str] | Location]:
    """Whether something says where something lies: a path, a URL, a location, or a ``UPath`` of universal_pathlib.

    Examples
    --------
    >>> [is_place(given) for given in ("/em", Path("em"), Location("s3://lab/em"), 5, ["/em"])]
    [True, True, True, False, False]
    """
    return isinstance(given, str | os.PathLike | Location) or _is_upath(given)


def _is_upath(given: Any) -> bool:
    """Whether this is a path that brings options, and is not local, where it is an ``os.PathLike``."""
    if isinstance(given, str | os.PathLike):
        return False
    return isinstance(getattr(given, "storage_options", None), Mapping) and isinstance(getattr(given, "protocol", None), str)


class Writer(Protocol):
    """Collects bytes aside; `publish` makes them visible at the target, all at once; else they are dropped."""

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        ...

    def copy(self, source: Location, start: int, stop: int, seen: Stat | None = None) -> None:
        """Append a range of another file, which is what was seen, without passing it through Python where the system can."""
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
    def read_range(self, path: str, start: int, stop: int) -> Range: ...
    def stat(self, path: str) -> Stat | None: ...
    def is_folder(self, path: str) -> bool: ...
    def names(self, path: str) -> list[str]: ...
    def below(self, path: str) -> Iterator[tuple[str, int]]: ...
    def make_folder(self, path: str) -> None: ...
    def delete(self, path: str) -> None: ...
    def delete_files(self, path: str, names: Sequence[str], *, folder: bool = False) -> None: ...
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
        Passed to fsspec's file system: credentials, endpoints. Never shown. User and password in the URL of a web server
        become options, too.

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
    options: Options = field(default_factory=Options, repr=False)

    def __post_init__(self) -> None:
        url = os.fspath(self.url)
        if "\0" in url or not url:
            raise InputError(f"{url!r} is no path. Give a path or a URL.")
        if url[:7].lower() == "file://":
            url = "/" + url[7:].removeprefix("localhost").lstrip("/")
        protocol, mark, path = url.partition("://")
        remote = mark and "/" not in protocol
        url = protocol.lower() + mark + path.rstrip("/") if remote else os.path.abspath(os.path.expanduser(url))
        url, user = split_user(url)
        if remote:
            require_host(url)
        object.__setattr__(self, "url", url)
        if user or not isinstance(self.options, Options):  # else as it is: a location is made for each name below another
            object.__setattr__(self, "options", Options({**dict(self.options), **user}))

    @classmethod
    def of(cls, place: Any, options: Mapping[str, Any] | None = None) -> Location:
        """Return the location that a user named in any of the usual spellings, such as a ``UPath`` of universal_pathlib."""
        if isinstance(place, Location):
            return place if options is None else cls(place.url, Options(options))
        if _is_upath(place):
            own = Options({**place.storage_options, **(options or {})})
            return cls.of(str(place), own or None)
        found = cls(os.fspath(place), Options(options or {}))
        if options is not None or found.is_local:
            return found
        usual = usual_options().of_url(found.url, kind_of(found.url))
        return cls(found.url, Options({**usual, **found.options}, usual.links))

    def linked(self, url: str) -> Location:
        """Return the location that a document at this one names, whose host gets the credentials of its own only.

        Raises `InputError` where a relative path climbs above the store.

        Examples
        --------
        >>> ds = Location.of("https://lab/ds", {"username": "me", "password": "secret"})
        >>> ds.linked("https://lab/other").options, ds.linked("https://elsewhere/x").options
        (<2 options of a store>, <1 options of a store>)
        >>> ds.linked("../other/em").url
        'https://lab/other/em'
        """
        if "://" in url:
            return Location(*linked(self.url, self.options, url))
        if not self.is_local and not os.path.isabs(url):
            return Location(beside(self.url, url), self.options)
        return Location(os.path.join(os.path.realpath(self.url), url))  # from where this lies, not from a link to it

    def knowing(self, other: Location) -> Location:
        """Return this place, from where links to the store of another one are opened with that one's options.

        Examples
        --------
        >>> lab = Location.of("https://lab/ds", {"username": "me", "password": "secret"})
        >>> Location("/data/ds").knowing(lab).linked("https://lab/ds/em/1").options
        <2 options of a store>
        """
        if other.is_local or not other.options:
            return self
        return Location(self.url, self.options.knowing("/".join(other.documented.split("/")[:3]), other.options))

    @property
    def documented(self) -> str:
        """The path or URL by which a document names this place: what `linked` takes; it holds no credentials."""
        return self.url if self.is_local else documented(self.url, self.options)

    def __truediv__(self, name: str) -> Location:
        return Location(f"{self.url}{'' if self.url.endswith('/') else '/'}{name}", self.options)

    def __str__(self) -> str:
        if self.is_local:
            return self.url
        protocol, _, path = self.url.partition("://")
        if protocol == "zip":
            archive, mark, name = f"{path}/".partition("!/")
            return f"{Location(archive) if archive else self.url}{mark}{name}".rstrip("/").removesuffix("!")
        host, slash, rest = path.partition("/")
        shown = rest.partition("?")[0] if protocol in HTTP else rest  # which may be a signature
        return f"{protocol}://{host.rpartition('@')[2]}{slash}{shown}"

    __repr__ = __str__

    @property
    def is_local(self) -> bool:
        """Whether this is a path of the local file system."""
        return "://" not in self.url

    @property
    def lists(self) -> bool:
        """Whether folders can be listed: web servers have none."""
        return self.url.partition("://")[0] not in HTTP or self.is_local

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
        if self.url.startswith("zip://"):
            from wkdask.storage.zip_files import zip_files

            return zip_files(self.url, self.options)
        from wkdask.storage.remote import remote_files

        return remote_files(self.url, self.options)

    def read_bytes(self, start: int = 0, stop: int | None = None) -> bytes:
        """Return the bytes from ``start`` up to ``stop`` (default: all); fewer where the file ends before."""
        files, path = self.files()
        with explained(self, "read"):
            return files.read(path, start, stop)

    def read_if_there(self) -> bytes | None:
        """Return all bytes, or None where there is no file: one request, which asking first would double.

        Examples
        --------
        >>> Location("memory://read-if-there/a").read_if_there() is None
        True
        """
        try:
            return self.read_bytes()
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError | IsADirectoryError):
                return None
            raise

    def read_range(self, start: int, stop: int = 0) -> Range | None:
        """Return some bytes, and size and version of the file that they are of, by one request; None where there is no file.

        Parameters
        ----------
        start, stop
            From one byte up to another; a negative start alone stands for the last bytes.

        Examples
        --------
        >>> place = Location("memory://read-range/a")
        >>> place.write_bytes(b"hello")
        >>> place.read_range(-2).data, place.read_range(1, 100).data, place.read_range(0, 1).size
        (b'lo', b'ello', 5)
        """
        files, path = self.files()
        try:
            with explained(self, "read"):
                return files.read_range(path, start, stop)
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError | IsADirectoryError):
                return None
            raise

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
        with explained(self, LISTED):
            return files.is_folder(path)

    def names(self) -> list[str]:
        """Return the names in a folder, sorted; an empty list where there is no folder."""
        files, path = self.files()
        with explained(self, LISTED):
            return sorted(files.names(path))

    def files_below(self) -> Iterator[tuple[str, int]]:
        """Yield path, from here, and bytes of each file below a folder, in no order; links are not followed.

        Examples
        --------
        >>> Location("memory://below/a/b").write_bytes(b"hello")
        >>> list(Location("memory://below").files_below())
        [('a/b', 5)]
        """
        files, path = self.files()
        with explained(self, LISTED):
            yield from files.below(path)

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

    def delete_files(self, names: Sequence[str], *, folder: bool = False) -> None:
        """Remove files of this folder, which need not be there; with ``folder``, that too if it is empty then. None is listed.

        Examples
        --------
        >>> folder = Location("memory://delete-files")
        >>> (folder / "a").write_bytes(b"hello")
        >>> folder.delete_files(["a", "b"])
        >>> folder.names()
        []
        """
        files, path = self.files()
        with explained(self, "deleted"):
            files.delete_files(path, names, folder=folder)
        for name in names:
            notify("delete", (self / name).url)

    @contextmanager
    def writer(self, scratch: Location | None = None) -> Iterator[Writer]:
        """Give a writer of this file, whose bytes lie in ``scratch`` (default: beside the file) until published."""
        files, path = self.files()
        token = f"{os.getpid():x}-{secrets.token_hex(6)}"
        aside = scratch if scratch and scratch.is_local == self.is_local else self.parent
        where = aside.files()[1]
        with explained(self, "written"), files.writer(path, f"{where}/.{self.name}.{token}.tmp") as out:
            yield out
