"""Zip files as stores: their members as files, by ranges of the archive, wherever that lies.

The URL of a member is ``zip://``, the archive's path or URL, ``!/`` and the member's name. Size and version of the archive are
among the options: a location is of one state of it, and reading another one is an error.
"""

from __future__ import annotations

import errno
import os
import zlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from typing import Any, NoReturn

from wkdask.errors import CorruptImageError, InputError
from wkdask.storage.location import Location, Stat
from wkdask.storage.options import Options
from wkdask.storage.ranges import Range
from wkdask.storage.zip_archive import LOCAL_HEADER, SEPARATOR, Archive, Member, split_member

PROTOCOL = "zip://"
EXTRA_BYTES = 256
"""What is read at first of a member beyond its name, which comes again in front of the data with notes of any length."""
ARCHIVES = 8
LAST = "\U0010ffff"


def zip_place(archive: Location) -> Location:
    """Return the top folder in a zip file, as the file is now.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    StorageError
        If the store refuses, or does not send ranges.

    Examples
    --------
    >>> import io, zipfile
    >>> with zipfile.ZipFile(file := io.BytesIO(), "w") as packed:
    ...     packed.writestr("a/b", b"hello")
    >>> Location("memory://zip-place/a.zip").write_bytes(file.getvalue())
    >>> top = zip_place(Location("memory://zip-place/a.zip"))
    >>> top.names(), (top / "a" / "b").read_bytes(), top / "a" / "b"
    (['a'], b'hello', memory://zip-place/a.zip!/a/b)
    """
    found = archive.read_range(-1)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(archive))
    options = Options({"of": archive.options, "size": found.size, "version": found.version})
    return Location(f"{PROTOCOL}{archive.url}{SEPARATOR}", options)


def archive_at(place: Location) -> Archive:
    """Return the archive that a place, of `zip_place` or below, lies in.

    Examples
    --------
    >>> import tempfile, zipfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with zipfile.ZipFile(f"{folder}/a.zip", "w") as file:
    ...         file.writestr("b", b"hello")
    ...     archive_at(zip_place(Location(f"{folder}/a.zip"))).members()["b"].size
    5
    """
    return zip_files(place.url, place.options)[0].archive


def archive_of(place: Location) -> Location | None:
    """Return the zip file that a place lies in, or None."""
    if not place.url.startswith(PROTOCOL):
        return None
    return Location(_split(place.url)[0], place.options["of"])


def _split(url: str) -> tuple[str, str]:
    """Return archive and member of a URL; of the top folder, the member is empty."""
    found = split_member(f"{url.removeprefix(PROTOCOL)}/")
    if found is None:
        raise InputError("A URL with zip:// names no archive. Give the path or the URL of the zip file itself.")
    return found[0], found[1].rstrip("/")


def zip_files(url: str, options: Options) -> tuple[ZipFiles, str]:
    """Return what reads a zip file, and the member's name, for `Location.files`.

    Raises
    ------
    InputError
        Where the location was not made by `zip_place`.
    """
    archive, name = _split(url)
    if not {"of", "size", "version"} <= set(options):
        raise InputError("A URL with zip:// can not be opened as it is. Give the path or the URL of the zip file itself.")
    return _opened(Location(archive, options["of"]), options["size"], options["version"]), name


class ZipFiles:
    """Members of one state of a zip file; see `wkdask.storage.location.Location`.

    Parameters
    ----------
    place
        The archive.
    size, version
        Of the state that is read.
    """

    def __init__(self, place: Location, size: int, version: str) -> None:
        self._ranges, self.version = _Ranges(place, size, version), version
        self.archive = Archive(str(place), self._ranges, (place.url if place.is_local else place, size, version))
        self._starts: dict[str, int] = {}

    @cached_property
    def _names(self) -> list[str]:
        return sorted(self.archive.members())

    def read(self, path: str, start: int, stop: int | None) -> bytes:
        """Return a range of a member."""
        return b"" if stop == 0 else self.read_range(path, start, stop or 0).data

    def read_range(self, path: str, start: int, stop: int) -> Range:
        """Return a range, and what it is of."""
        member = self.archive.member(path)
        first = max(0, member.size + start) if start < 0 else start
        last = min(stop or member.size, member.size)
        version = f"{self.version} {member.offset}"
        if first >= last:
            return Range(b"", member.size, version)
        if not member.stored:
            return Range(self.archive.unpacked(member)[first:last], member.size, version)
        data = self._stored(member, first, last)
        if last - first == member.size and zlib.crc32(data) != member.checksum:
            raise CorruptImageError(f"'{path}' in '{self.archive.name}' is damaged: its checksum is wrong. Pack it anew.")
        return Range(data, member.size, version)

    def _stored(self, member: Member, first: int, last: int) -> bytes:
        """Return bytes of a member that lies in the archive as it is; its header comes with them by one request."""
        start = self._starts.get(member.name)
        if start is not None:
            return self._ranges.read(start + first, start + last)
        ahead = LOCAL_HEADER.size + len(member.label) + EXTRA_BYTES
        head = self._ranges.read(member.offset, member.offset + ahead + (last if first == 0 else 0))
        start = self._starts[member.name] = self.archive.parse_header(member, head)
        data = head[start - member.offset + first :][: last - first]
        return data if len(data) == last - first else self._ranges.read(start + first, start + last)

    def unpacked(self, path: str) -> bytes | None:
        """Return the bytes of a member that is compressed; None where it lies in the archive as it is."""
        member = self.archive.member(path)
        return None if member.stored else self.archive.unpacked(member)

    def stat(self, path: str) -> Stat | None:
        """Return size and version of a member, or None."""
        member = self.archive.members().get(path)
        return None if member is None else Stat(member.size, 0, f"{self.version} {member.offset}")

    def is_folder(self, path: str) -> bool:
        """Whether members lie below a path."""
        prefix = f"{path}/" if path else ""
        at = bisect_left(self._names, prefix)
        return at < len(self._names) and self._names[at].startswith(prefix)

    def names(self, path: str) -> list[str]:
        """Return the names in a folder."""
        prefix, found = f"{path}/" if path else "", list[str]()
        at = bisect_left(self._names, prefix)
        while at < len(self._names) and self._names[at].startswith(prefix):
            name, inside, _ = self._names[at].removeprefix(prefix).partition("/")
            if name and (not found or found[-1] != name):
                found.append(name)
            at = max(at + 1, bisect_left(self._names, f"{prefix}{name}/{LAST}") if inside else 0)
        return sorted(set(found))

    def below(self, path: str) -> Iterator[tuple[str, int]]:
        """Yield path and bytes of each member below a folder."""
        prefix, members = f"{path}/" if path else "", self.archive.members()
        for name in self._names[bisect_left(self._names, prefix) :]:
            if not name.startswith(prefix):
                break
            yield name.removeprefix(prefix), members[name].size

    def make_folder(self, path: str) -> None:
        """Refuse to write."""
        _refuse_writing(path)

    def delete(self, path: str) -> None:
        """Refuse to write."""
        _refuse_writing(path)

    def delete_files(self, path: str, names: Sequence[str], *, folder: bool = False) -> None:  # noqa: ARG002
        """Refuse to write."""
        _refuse_writing(path)

    def append(self, path: str, data: bytes) -> None:  # noqa: ARG002
        """Refuse to write."""
        _refuse_writing(path)

    def create(self, path: str, data: bytes) -> bool:  # noqa: ARG002
        """Refuse to write."""
        _refuse_writing(path)

    def writer(self, path: str, temporary: str) -> Any:  # noqa: ARG002
        """Refuse to write."""
        _refuse_writing(path)


def _refuse_writing(path: str) -> NoReturn:
    raise OSError(errno.EROFS, "members of zip files are only read", path)


_opened = lru_cache(maxsize=ARCHIVES)(ZipFiles)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_opened.cache_clear)


class _Ranges:
    """One state of a file, read by a request for each range."""

    def __init__(self, place: Location, size: int, version: str) -> None:
        self.place, self.size, self.version = place, size, version

    def read(self, start: int, stop: int) -> bytes:
        """Return a range; fewer bytes where the file ends before, and none beyond."""
        if not 0 <= start < self.size:
            return b""
        found = self.place.read_range(start, min(stop, self.size))
        if found is None or (found.size, found.version) != (self.size, self.version):
            raise CorruptImageError(f"'{self.place}' was changed while it was read. Run the same again.")
        return found.data

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Read as many bytes as the buffer holds; fewer at the end."""
        data = self.read(offset, offset + len(buffer))
        buffer[: len(data)] = data
        return len(data)
