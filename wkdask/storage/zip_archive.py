"""Members of zip files: where they lie, and what is in them.

Specification: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
"""

from __future__ import annotations

import io
import os
import re
import struct
import threading
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import BinaryIO, cast

from wkdask.errors import CorruptImageError, UnsupportedImageDataError, UnsupportedImageFormatError
from wkdask.storage.byte_run import Readable, Run

SEPARATOR = "!/"
ARCHIVED = re.compile(r"\.(?:zip|ozx)!/", re.IGNORECASE | re.ASCII)
LOCAL_HEADER = struct.Struct("<4sHHHHHIIIHH")
ENCRYPTED = 0x1 | 0x40
UTF8 = 0x800
LARGEST_RATIO = 1040
"""Deflate can not do better than 1032; what claims more is damaged, or made to fill the memory."""
LARGEST_MEMBER = 1 << 30
KEPT_BYTES = 64 << 20
"""Unpacked members that are remembered; the last one is, whatever its size."""
KEPT_DIRECTORIES = 8
PIECE = 1 << 20
DIRECTORY_BYTES = 256 << 10
"""What is read at once where the directory is looked for: its end lies at the end of the file, with a comment behind it."""


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

    @property
    def label(self) -> bytes:
        """Its name as it lies in the archive."""
        return self.name.encode("utf-8" if self.flags & UTF8 else "cp437")


def split_member(path: str) -> tuple[str, str] | None:
    """Return archive and member of a spelled path or URL, or None where it is a plain file.

    Examples
    --------
    >>> split_member("em/a.zip!/slices/1.tif"), split_member("em/a.zip"), split_member("wow!/a.tif")
    (('em/a.zip', 'slices/1.tif'), None, None)
    """
    found = ARCHIVED.search(path)
    return (path[: found.end() - len(SEPARATOR)], path[found.end() :]) if found else None


@dataclass(frozen=True, slots=True)
class Archive:
    """A zip file that can be read.

    Attributes
    ----------
    name
        What messages call it.
    source
        Its bytes.
    key
        Tells this state of this file from all others: its directory, and some of what was unpacked, are remembered by it.
    """

    name: str
    source: Readable
    key: Hashable

    def members(self) -> Mapping[str, Member]:
        """Return what it holds, in the order of its directory, which is read once for all members.

        Raises
        ------
        CorruptImageError
            If it is no zip file, or damaged, or has members whose names lead out of it.
        """
        with _lock:
            members = _directories.get(self.key)
            if members is None:
                members = _directories[self.key] = _read_directory(self)
                while len(_directories) > KEPT_DIRECTORIES:
                    _directories.popitem(last=False)
            return members

    def member(self, name: str) -> Member:
        """Return the entry of a member that can be read.

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
        member = self.members().get(name)
        if member is None:
            raise FileNotFoundError(f"the archive '{self.name}' has no member '{name}'")
        if member.flags & ENCRYPTED:
            raise UnsupportedImageFormatError(
                f"'{name}' in '{self.name}' is encrypted. Unpack the archive, and give the folder."
            )
        if member.method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UnsupportedImageFormatError(
                f"'{name}' in '{self.name}' is compressed by method {member.method}; stored or deflate was expected. Unpack "
                "the archive, and give the folder."
            )
        impossible = member.size != member.packed if member.stored else member.size > LARGEST_RATIO * member.packed
        if impossible:
            raise CorruptImageError(
                f"'{name}' in '{self.name}' declares {member.size} bytes, of which {member.packed} are packed; it is damaged. "
                "Pack it anew."
            )
        if not member.stored and member.size > LARGEST_MEMBER:
            raise UnsupportedImageDataError(
                f"'{name}' in '{self.name}' has {member.size} bytes, more than the {LARGEST_MEMBER} that are unpacked into "
                "memory. Unpack the archive, and give the folder."
            )
        return member

    def data_start(self, member: Member) -> int:
        """Return where a member's data begins, after a header of its own; errors are those of `parse_header`."""
        return self.parse_header(member, _read(self.source, member.offset, LOCAL_HEADER.size + len(member.label)))

    def parse_header(self, member: Member, head: bytes) -> int:
        """Return where a member's data begins, from the bytes where its header should lie.

        Raises
        ------
        CorruptImageError
            If there is no such header, or the data reaches beyond the end of the archive.
        """
        fields = LOCAL_HEADER.unpack_from(head) if len(head) >= LOCAL_HEADER.size else (b"",)
        name = head[LOCAL_HEADER.size :][: int(fields[9])] if len(fields) > 1 else b""
        if fields[0] != b"PK\x03\x04" or fields[3] != member.method or name != member.label:
            raise CorruptImageError(
                f"'{self.name}' is damaged: '{member.name}' does not lie at byte {member.offset}. Pack it anew."
            )
        start = member.offset + LOCAL_HEADER.size + int(fields[9]) + int(fields[10])
        if start + member.packed > self.source.size:
            raise CorruptImageError(
                f"'{self.name}' is truncated: '{member.name}' should reach to byte {start + member.packed}, but the file has "
                f"{self.source.size} bytes. Pack it anew."
            )
        return start

    def unpacked(self, member: Member) -> bytes:
        """Return the bytes of a deflated member; the last few are remembered.

        Raises
        ------
        CorruptImageError
            If they are damaged, or of another length than declared.
        """
        key = self.key, member
        with _lock:
            data = _unpacked.get(key)
            if data is not None:
                _unpacked.move_to_end(key)
                return data
        start = self.data_start(member)
        try:
            data = _inflated(self.source, start, member)
        except (ValueError, zlib.error) as error:
            raise CorruptImageError(
                f"'{member.name}' in '{self.name}' can not be unpacked: {str(error)[:300]}. Pack it anew."
            ) from error
        with _lock:
            _unpacked[key] = data
            while len(_unpacked) > 1 and sum(map(len, _unpacked.values())) > KEPT_BYTES:
                _unpacked.popitem(last=False)
        return data

    def require_readable(self) -> None:
        """Refuse an archive that has a member which can not be read, or claims to be larger than deflate can make it.

        Raises
        ------
        CorruptImageError, UnsupportedImageFormatError, UnsupportedImageDataError
            As `member` finds it.
        """
        for name in self.members():
            self.member(name)


_unpacked: OrderedDict[tuple[Hashable, Member], bytes] = OrderedDict()
_directories: OrderedDict[Hashable, Mapping[str, Member]] = OrderedDict()
_lock = threading.Lock()


if hasattr(os, "register_at_fork"):  # while no thread holds it, which would not be there to let it go
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def _read(source: Readable, offset: int, size: int) -> bytes:
    """Return some bytes; fewer at the end, and none elsewhere."""
    buffer, done = memoryview(bytearray(size if 0 <= offset < source.size else 0)), 0
    size = len(buffer)
    while done < size:
        got = source.read_into(buffer[done:], offset + done)
        if not got:
            break
        done += got
    return bytes(buffer[:done])


def _inflated(source: Readable, start: int, member: Member) -> bytes:
    stream = zlib.decompressobj(-15)
    pieces, length, checksum = [], 0, 0
    for at in range(0, member.packed, PIECE):
        data = _read(source, start + at, min(PIECE, member.packed - at))
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


def _read_directory(archive: Archive) -> dict[str, Member]:
    members: dict[str, Member] = {}
    try:
        file = cast(BinaryIO, io.BufferedReader(Run(archive.source), DIRECTORY_BYTES))
        with file, zipfile.ZipFile(file) as opened:
            for info in opened.infolist():
                if not info.filename:
                    raise CorruptImageError(f"'{archive.name}' has a member without a name. Pack it anew.")
                if info.is_dir():
                    continue
                _refuse_name(archive.name, info.filename, members)
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
        raise CorruptImageError(f"'{archive.name}' can not be read as a zip file: {str(error)[:300]}. Pack it anew.") from error
    return members


def _refuse_name(archive: str, name: str, members: Mapping[str, Member]) -> None:
    parts = name.replace("\\", "/").split("/")
    if name in members:
        raise CorruptImageError(f"'{archive}' has two members with the name '{name}'. Pack it anew, each name once.")
    if ".." in parts or parts[0] == "" or parts[0][1:2] == ":":
        raise CorruptImageError(f"'{archive}' has the member '{name}', whose name leads out of it. Pack it anew.")
