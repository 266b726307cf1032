"""Files of the local file system; the only module with POSIX calls."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat as modes
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import BinaryIO

from wkdask.storage.events import notify
from wkdask.storage.location import Location, Stat
from wkdask.storage.ranges import Range

COPY_BYTES = 16 << 20
DELETED_AGAIN, DELETED_SECONDS = 20, 0.05
"""How often, and after which pause, deleting a folder is tried again in which something is written meanwhile."""
NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
"""What file systems without hard links say, such as exFAT."""


def _inherit_group(path: str, folder: str) -> None:
    """Give a new file or folder the group of the folder that it lies in, where we may."""
    if hasattr(os, "chown"):
        with suppress(OSError):
            group = os.stat(folder).st_gid
            if os.lstat(path).st_gid != group:
                os.chown(path, -1, group)


class LocalFiles:
    """See `wkdask.storage.location.Location`."""

    def read(self, path: str, start: int, stop: int | None) -> bytes:
        """Return a range of a file."""
        with open(path, "rb") as file:
            if start:
                file.seek(start)
            return file.read() if stop is None else file.read(max(0, stop - start))

    def read_range(self, path: str, start: int, stop: int) -> Range:
        """Return a range, and what it is of."""
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            first = max(0, found.st_size + start) if start < 0 else start
            file.seek(first)
            last = min(stop or found.st_size, found.st_size)  # Python takes memory for as much as is asked for
            return Range(file.read(max(0, last - first)), found.st_size, f"{found.st_size} {found.st_mtime_ns}")

    def stat(self, path: str) -> Stat | None:
        """Return size and time, or None."""
        try:
            found = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return None if modes.S_ISDIR(found.st_mode) else Stat(found.st_size, found.st_mtime_ns)

    def is_folder(self, path: str) -> bool:
        """Whether there is a folder."""
        return os.path.isdir(path)

    def names(self, path: str) -> list[str]:
        """Return the names in a folder."""
        try:
            return os.listdir(path)
        except FileNotFoundError:
            return []

    def below(self, path: str) -> Iterator[tuple[str, int]]:
        """Yield path and bytes of each file below a folder; links are not followed."""
        for folder, folders, names in os.walk(path):
            links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
            for name in (*names, *links):
                with suppress(FileNotFoundError):
                    place = os.path.join(folder, name)
                    yield os.path.relpath(place, path).replace(os.sep, "/"), os.lstat(place).st_size

    def make_folder(self, path: str) -> None:
        """Create a folder and its parents, with the umask's mode and the parent's group."""
        if os.path.isdir(path):
            return
        parent = os.path.dirname(path)
        self.make_folder(parent)
        with suppress(FileExistsError):
            os.mkdir(path)
            _inherit_group(path, parent)

    def delete(self, path: str) -> None:
        """Remove a file, a link, or a folder with all that lies below."""
        for attempt in range(DELETED_AGAIN, -1, -1):
            try:
                if os.path.isdir(path) and not os.path.islink(path):
                    shutil.rmtree(path)
                else:
                    os.unlink(path)
            except FileNotFoundError:
                if not os.path.lexists(path):
                    return
                if not attempt:
                    raise
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not attempt:
                    raise
            else:
                return
            time.sleep(DELETED_SECONDS)  # another process made or deleted something in it meanwhile

    def delete_files(self, path: str, names: Sequence[str], *, folder: bool = False) -> None:
        """Remove files of a folder, and where that is wanted, the folder if it is empty then."""
        for name in names:
            with suppress(FileNotFoundError):
                os.unlink(f"{path}/{name}")
        if folder:
            with suppress(OSError):  # where it is not empty
                os.rmdir(path)

    def append(self, path: str, data: bytes) -> None:
        """Append in one call."""
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            if not os.fstat(fd).st_size:
                _inherit_group(path, os.path.dirname(path))
            written = os.write(fd, data)
            while written < len(data):  # a nearly full disk writes less than asked for, then fails
                written += os.write(fd, data[written:])
        finally:
            os.close(fd)

    def create(self, path: str, data: bytes) -> bool:
        """Write a file that must not exist: made whole aside, then linked to its name."""
        with self.writer(path, f"{path}.{os.getpid():x}-{secrets.token_hex(6)}.tmp") as out:
            out.write(data)
            return out.link()

    @contextmanager
    def writer(self, path: str, temporary: str) -> Iterator[LocalWriter]:
        """Give a writer to a temporary file that is gone afterwards, unless published."""
        self.make_folder(os.path.dirname(path))
        self.make_folder(os.path.dirname(temporary))
        with open(temporary, "wb") as file:
            try:
                yield LocalWriter(file, temporary, path)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(temporary)


class LocalWriter:
    """See `wkdask.storage.location.Writer`."""

    def __init__(self, file: BinaryIO, temporary: str, path: str) -> None:
        self._file, self._temporary, self._path = file, temporary, path
        self._reach = 0  # of the file at least

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        self._file.write(data)

    def seek(self, position: int) -> None:
        """Go on at a byte; the file reaches that far at least, with a hole where nothing was written."""
        if position > self._reach:
            self._reach = max(position, self._file.seek(0, os.SEEK_END))
            self._file.truncate(self._reach)
        self._file.seek(position)

    def copy(self, source: Location, start: int, stop: int, seen: Stat | None = None) -> None:  # noqa: ARG002
        """Append a range of another file inside the kernel, or in pieces where it can not."""
        self._file.flush()
        with open(source.url, "rb") as other:
            left = stop - start
            while left > 0:
                if hasattr(os, "copy_file_range"):
                    try:
                        done = os.copy_file_range(other.fileno(), self._file.fileno(), left, stop - left)
                    except OSError:
                        done = 0
                    if done:
                        left -= done
                        continue
                other.seek(stop - left)
                piece = other.read(min(left, COPY_BYTES))
                if not piece:
                    raise OSError(f"{source} ends before byte {stop}")
                self._file.write(piece)
                self._file.flush()
                left -= len(piece)
        self._file.seek(0, os.SEEK_END)

    def _finish(self, sync: bool) -> None:
        self._file.flush()
        if sync:
            os.fsync(self._file.fileno())
        _inherit_group(self._temporary, os.path.dirname(self._path))

    def publish(self, *, sync: bool = False) -> Stat:
        """Rename the temporary file to its name; with ``sync``, after its bytes reached the disk."""
        self._finish(sync)
        try:
            os.replace(self._temporary, self._path)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self._cross()
        found = os.stat(self._path)
        notify("publish", self._path)
        return Stat(found.st_size, found.st_mtime_ns)

    def _cross(self) -> None:
        """Publish from another file system: copied beside the target first, so that it still appears all at once."""
        beside = os.path.join(os.path.dirname(self._path), os.path.basename(self._temporary))
        try:
            shutil.copyfile(self._temporary, beside)
            _inherit_group(beside, os.path.dirname(self._path))
            os.replace(beside, self._path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(beside)

    def link(self) -> bool:
        """Give the temporary file its name unless that is taken; return whether it was free."""
        self._finish(sync=False)
        try:
            os.link(self._temporary, self._path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            return self._claim()
        return True

    def _claim(self) -> bool:
        """Take the name by an empty file, and replace that: only for a moment is it not whole."""
        try:
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except FileExistsError:
            return False
        os.replace(self._temporary, self._path)
        return True


def stored_ranges(path: str) -> Iterator[tuple[int, int]]:
    """Yield, ascending, where a file has bytes and not holes: (start, stop)."""
    with open(path, "rb") as file:
        size, at = os.fstat(file.fileno()).st_size, 0
        if not hasattr(os, "SEEK_DATA"):
            yield 0, size
            return
        while at < size:
            try:
                start = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:  # a file system that does not tell
                    yield at, size
                return
            at = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            yield start, at


@contextmanager
def exclusive(path: str) -> Iterator[None]:
    """Hold an advisory lock on a file, which the system releases when the process ends."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(fd, msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


OWN_DISKS = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "overlay", "tmpfs", "zfs"})
"""File systems that no other machine changes: their files stay as they are for those who have them open."""


@lru_cache(maxsize=64)
def may_map(folder: str) -> bool:
    """Whether files in a folder may be mapped into memory.

    A mapped file that another machine replaces, or that a server loses, ends the process that looks at it (SIGBUS); a read
    would be an error. So this is only for disks of this machine, as far as Linux tells which they are.

    Examples
    --------
    >>> may_map("/no/such/folder") in (True, False)
    True
    """
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
            mounts = [line.split(" - ", 1) for line in table]
    except OSError:
        return False
    found, place = "", os.path.realpath(folder)
    kind = ""
    for left, right in mounts:
        point = left.split()[4].encode("latin-1", "surrogateescape").decode("unicode_escape", "replace")
        if len(point) >= len(found) and (place == point or place.startswith(point.rstrip("/") + "/")):
            found, kind = point, right.split()[0]
    return kind in OWN_DISKS
