"""Members of zip files as if they were files: where they lie, and what is in them.

Specification: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
"""

from __future__ import annotations

import os
import struct
import threading
import zipfile
import zlib
from collections import OrderedDict
from dataclasses import dataclass

from wkdask.errors import CorruptImageError, StorageError, UnsupportedImageDataError, UnsupportedImageFormatError

SEPARATOR = "!/"
LOCAL_HEADER = struct.Struct("<4sHHHHHIIIHH")
ENCRYPTED = 0x1 | 0x40
LARGEST_RATIO = 1040
"""Deflate can not do better than 1032; what claims more is damaged, or made to fill the memory."""
LARGEST_MEMBER = 1 << 30
KEPT_BYTES = 64 << 20
"""Unpacked members that are remembered; the last one is, whatever its size."""
KEPT_DIRECTORIES = 8
PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Member:
    """An entry of the directory of a zip file."""

    name: str
    size: int
    packed: int
    method: int
    offset: int
    checksum: int
    flags: int

    @property
    def stored(self) -> bool:
        """Whether its bytes lie in the archive as they are."""
        return self.method == zipfile.ZIP_STORED

    def data_start(self, archive: str, descriptor: int, length: int) -> int:
        """Return where the data begins, after a header of its own.

        Raises
        ------
        CorruptImageError
            If there is no such header, or the data reaches beyond the end of the archive.
        """
        head = os.pread(descriptor, LOCAL_HEADER.size, self.offset)
        fields = LOCAL_HEADER.unpack(head) if len(head) == LOCAL_HEADER.size else (b"",)
        if fields[0] != b"PK\x03\x04" or fields[3] != self.method:
            raise CorruptImageError(f"'{archive}' is damaged: '{self.name}' does not lie at byte {self.offset}. Pack it anew.")
        start = self.offset + LOCAL_HEADER.size + int(fields[9]) + int(fields[10])
        if start + self.packed > length:
            raise CorruptImageError(
                f"'{archive}' is truncated: '{self.name}' should reach to byte {start + self.packed}, but the file has "
                f"{length} bytes. Pack it anew."
            )
        return start


def split_member(path: str) -> tuple[str, str] | None:
    """Return archive and member of a spelled path, or None where it is a plain file.

    Examples
    --------
    >>> split_member("em/a.zip!/slices/1.tif"), split_member("em/a.zip"), split_member("wow!/a.tif")
    (('em/a.zip', 'slices/1.tif'), None, None)
    """
    at = path.lower().find(".zip" + SEPARATOR)
    return None if at < 0 else (path[: at + 4], path[at + 4 + len(SEPARATOR) :])


def zip_members(path: str) -> list[tuple[str, int, int]]:
    """List the files in a zip file.

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
        If it is no zip file, or damaged, or has members whose names lead out of it.
    """
    try:
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            members = _members(path, file.fileno(), found)
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"'{path}' can not be read: {error}. Allow reading it, or leave it out.") from error
    return [(member.name, member.size, found.st_mtime_ns) for member in members.values()]


def member_of(archive: str, descriptor: int, found: os.stat_result, name: str) -> Member:
    """Return the entry of a member that can be read.

    Parameters
    ----------
    archive
        The path, for messages.
    descriptor, found
        The open archive and its status.
    name
        Of the member.

    Raises
    ------
    FileNotFoundError
        If there is no such member.
    UnsupportedImageFormatError
        If it is encrypted, or compressed by something else than deflate.
    CorruptImageError
        If its sizes are impossible.
    UnsupportedImageDataError
        If it is too large to be unpacked into memory.
    """
    member = _members(archive, descriptor, found).get(name)
    if member is None:
        raise FileNotFoundError(f"the archive '{archive}' has no member '{name}'")
    if member.flags & ENCRYPTED:
        raise UnsupportedImageFormatError(f"'{name}' in '{archive}' is encrypted. Unpack the archive, and give the folder.")
    if member.method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UnsupportedImageFormatError(
            f"'{name}' in '{archive}' is compressed by method {member.method}; stored or deflate was expected. Unpack the "
            "archive, and give the folder."
        )
    impossible = member.size != member.packed if member.stored else member.size > LARGEST_RATIO * member.packed
    if impossible:
        raise CorruptImageError(
            f"'{name}' in '{archive}' declares {member.size} bytes, of which {member.packed} are packed; it is damaged. "
            "Pack it anew."
        )
    if not member.stored and member.size > LARGEST_MEMBER:
        raise UnsupportedImageDataError(
            f"'{name}' in '{archive}' has {member.size} bytes, more than the {LARGEST_MEMBER} that are unpacked into memory. "
            "Unpack the archive, and give the folder."
        )
    return member


def unpacked(archive: str, descriptor: int, found: os.stat_result, member: Member) -> bytes:
    """Return the bytes of a deflated member; the last few are remembered.

    Raises
    ------
    CorruptImageError
        If they are damaged, or of another length than declared.
    """
    key = archive, found.st_size, found.st_mtime_ns, member
    with _lock:
        data = _unpacked.get(key)
        if data is not None:
            _unpacked.move_to_end(key)
            return data
    start = member.data_start(archive, descriptor, found.st_size)
    try:
        data = _inflated(descriptor, start, member)
    except (ValueError, zlib.error) as error:
        raise CorruptImageError(
            f"'{member.name}' in '{archive}' can not be unpacked: {str(error)[:300]}. Pack it anew."
        ) from error
    with _lock:
        _unpacked[key] = data
        while len(_unpacked) > 1 and sum(map(len, _unpacked.values())) > KEPT_BYTES:
            _unpacked.popitem(last=False)
    return data


_unpacked: OrderedDict[tuple[str, int, int, Member], bytes] = OrderedDict()
_directories: OrderedDict[tuple[str, int, int], dict[str, Member]] = OrderedDict()
_lock = threading.Lock()


def _inflated(descriptor: int, start: int, member: Member) -> bytes:
    stream = zlib.decompressobj(-15)
    pieces, length, checksum = [], 0, 0
    for at in range(0, member.packed, PIECE):
        data = os.pread(descriptor, min(PIECE, member.packed - at), start + at)
        piece = stream.decompress(data, member.size - length + 1)
        length, checksum = length + len(piece), zlib.crc32(piece, checksum)
        pieces.append(piece)
        if length > member.size:
            raise ValueError(f"it has more than the {member.size} bytes that are declared")
    if length != member.size or not stream.eof:
        raise ValueError(f"it ends after {length} of {member.size} bytes")
    if checksum != member.checksum:
        raise ValueError(f"its checksum is {checksum:08x}, expected {member.checksum:08x}")
    return b"".join(pieces)


def _members(archive: str, descriptor: int, found: os.stat_result) -> dict[str, Member]:
    """Return the directory of an archive, read once for all its members."""
    key = archive, found.st_size, found.st_mtime_ns
    with _lock:
        members = _directories.get(key)
        if members is None:
            members = _directories[key] = _read_directory(archive, descriptor)
            while len(_directories) > KEPT_DIRECTORIES:
                _directories.popitem(last=False)
        return members


def _read_directory(archive: str, descriptor: int) -> dict[str, Member]:
    members: dict[str, Member] = {}
    try:
        with os.fdopen(os.dup(descriptor), "rb") as file, zipfile.ZipFile(file) as opened:
            for info in opened.infolist():
                if not info.filename:
                    raise CorruptImageError(f"'{archive}' has a member without a name. Pack it anew.")
                if info.is_dir():
                    continue
                _refuse_name(archive, info.filename, members)
                members[info.filename] = Member(
                    name=info.filename,
                    size=info.file_size,
                    packed=info.compress_size,
                    method=info.compress_type,
                    offset=info.header_offset,
                    checksum=info.CRC,
                    flags=info.flag_bits,
                )
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error) as error:
        if isinstance(error, CorruptImageError):
            raise
        raise CorruptImageError(f"'{archive}' can not be read as a zip file: {str(error)[:300]}. Pack it anew.") from error
    return members


def _refuse_name(archive: str, name: str, members: dict[str, Member]) -> None:
    parts = name.replace("\\", "/").split("/")
    if name in members:
        raise CorruptImageError(f"'{archive}' has two members with the name '{name}'. Pack it anew, each name once.")
    if ".." in parts or parts[0] == "" or parts[0][1:2] == ":":
        raise CorruptImageError(f"'{archive}' has the member '{name}', whose name leads out of it. Pack it anew.")
