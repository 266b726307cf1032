"""The chain of page descriptions in a TIFF file, read whole and without trust before any library follows it.

Libraries take the pages before a broken link for the whole file, the first pages of a long file for all of them, leave
out descriptions that lie beyond the end, and run in circles where the chain does. All of that ends in wrong voxels
without a word, or never.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wkdask.images.byte_source import ByteSource, read_bytes

WIDTH, HEIGHT, DESCRIPTION, NEW_SUBFILE_TYPE = 256, 257, 270, 254
LAYOUT_TAGS = frozenset([256, 257, 258, 259, 262, 266, 277, 278, 284, 317, 322, 323, 338, 339, 347, 530, 32997, 32998])
"""Size, bits, compression, colours, bit order, samples, strips, planes, predictor, tiles, alpha, format, JPEG, depth."""
PLACE_TAGS = frozenset([273, 279, 324, 325])
LSM_TAG, COMPRESSION, DATE_TIME = 34412, 259, 306
NEEDED_TAGS = LAYOUT_TAGS | PLACE_TAGS | {DESCRIPTION, NEW_SUBFILE_TYPE, LSM_TAG}
TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
INTEGERS = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}
MOST_TAGS = 4096
MOST_FINGERPRINT = 4096
"""Bytes of values; descriptions of more are seldom alike in several files."""
FIRST_READ = 512
"""Bytes read at once for a directory, which hold those of most files."""

Entry = tuple[int, int, bytes]
"""Type, count, and the value or its place."""


@dataclass(frozen=True, slots=True)
class Words:
    """Sizes and byte order of the numbers in a file."""

    order: str
    big: bool

    @property
    def entry(self) -> struct.Struct:
        """Code, type, count and value of a tag."""
        return struct.Struct(self.order + ("HHQ8s" if self.big else "HHI4s"))

    @property
    def count(self) -> struct.Struct:
        """The number of tags in front of a directory."""
        return struct.Struct(self.order + ("Q" if self.big else "H"))

    @property
    def place(self) -> struct.Struct:
        """A place in the file."""
        return struct.Struct(self.order + ("Q" if self.big else "I"))


@dataclass(frozen=True, slots=True)
class Directory:
    """The description of one page: its place in the file, the tags that wkdask itself looks at, and the bytes of all tags."""

    offset: int
    words: Words
    entries: dict[int, Entry]
    tags: bytes

    def value(self, source: ByteSource, code: int) -> bytes:
        """Return the bytes of a tag's value, b"" where there is no such tag.

        Raises
        ------
        ValueError
            If the value reaches beyond the end of the file, or its type is unknown.
        """
        return self._value(source, code, self.entries.get(code, (1, 0, b"")))

    def _value(self, source: ByteSource, code: int, entry: Entry) -> bytes:
        kind, count, inline = entry
        if kind not in TYPE_SIZES:
            raise ValueError(f"tag {code} of the page at byte {self.offset} has the unknown type {kind}")
        size = count * TYPE_SIZES[kind]
        if size <= len(inline):
            return inline[:size]
        (place,) = self.words.place.unpack(inline)
        if place + size > source.size:
            raise ValueError(
                f"it is truncated: the value of tag {code} should reach to byte {place + size}, but the file has "
                f"{source.size} bytes"
            )
        return bytes(read_bytes(source, place, size))

    def numbers(self, source: ByteSource, code: int) -> NDArray[np.int64]:
        """Return the whole numbers of a tag; ValueError if it holds others."""
        raw, kind = self.value(source, code), self.entries.get(code, (1, 0, b""))[0]
        if kind not in INTEGERS:
            raise ValueError(f"tag {code} has values of type {kind}, whole numbers were expected")
        values = np.frombuffer(raw, np.dtype(self.words.order + INTEGERS[kind]))
        if kind in (16, 18) and values.size and int(values.max()) > 2**62:
            raise ValueError(f"tag {code} has the value {int(values.max())}")
        return values.astype(np.int64)

    def number(self, source: ByteSource, code: int, default: int = 0) -> int:
        """Return the first whole number of a tag, or the default where there is no such tag."""
        values = self.numbers(source, code)
        return int(values[0]) if len(values) else default

    def layout(self, source: ByteSource) -> list[tuple[int, int, bytes]]:
        """Return all that decides how the bytes of a page are decoded, to be compared."""
        return [(code, entry[0], self.value(source, code)) for code, entry in self.entries.items() if code in LAYOUT_TAGS]

    def fingerprint(self, source: ByteSource) -> tuple[object, ...] | None:
        """Return all that is said of a page but when it was written and where its data lies; None if not all can be told.

        That is where tags are damaged that nobody may need, or are very long.
        """
        said: list[tuple[int, Entry]] = []
        left = MOST_FINGERPRINT
        for code, kind, count, inline in self.words.entry.iter_unpack(self.tags):
            if code == DATE_TIME:
                continue
            value = b""
            if code not in PLACE_TAGS:
                left -= count * TYPE_SIZES.get(kind, MOST_FINGERPRINT + 1)
                if left < 0:
                    return None
                try:
                    value = self._value(source, code, (kind, count, inline))
                except ValueError:
                    return None
            said.append((code, (kind, count, value)))
        return self.words, *said


def read_directories(source: ByteSource) -> list[Directory]:
    """Follow the chain of pages of a TIFF or BigTIFF file to its end.

    Parameters
    ----------
    source
        The file.

    Returns
    -------
    list of Directory
        At least one.

    Raises
    ------
    ValueError
        If it is no TIFF, or its chain leads out of the file, or back into itself, or through bytes of other pages.
    """
    words, offset = _header(source)
    directories: list[Directory] = []
    seen: set[int] = set()
    total = 0
    while offset:
        if offset in seen:
            raise ValueError(f"its chain of pages is a loop: page {len(directories)} lies at byte {offset} like one before")
        seen.add(offset)
        directory, following, length = _read_directory(source, words, offset, len(directories))
        total += length
        if total > source.size:
            raise ValueError(f"the descriptions of its {len(directories)} pages lie one over the other")
        directories.append(directory)
        offset = following
    if not directories:
        raise ValueError("it has no pages")
    return directories


def _header(source: ByteSource) -> tuple[Words, int]:
    head = bytes(read_bytes(source, 0, min(16, source.size)))
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    version = struct.unpack(order + "H", head[2:4])[0] if order and len(head) >= 8 else 0
    if order is None or version not in (42, 43) or (version == 43 and len(head) < 16):
        raise ValueError(f"it begins with {head[:8]!r}, which is not the beginning of a TIFF")
    words = Words(order, version == 43)
    if words.big and head[4:8] != struct.pack(order + "HH", 8, 0):
        raise ValueError(f"it begins with {head[:8]!r}, which is not the beginning of a BigTIFF")
    return words, int(words.place.unpack_from(head, 8 if words.big else 4)[0])


def _read_directory(source: ByteSource, words: Words, offset: int, page: int) -> tuple[Directory, int, int]:
    """Return a directory, the place of the next one, and the number of its bytes."""
    counter, entry = words.count, words.entry
    data = _at_most(source, offset, FIRST_READ)
    if len(data) < counter.size:
        raise ValueError(_missing(page, source.size))
    (tags,) = counter.unpack_from(data)
    if tags > MOST_TAGS or tags == 0:
        raise ValueError(f"the description of page {page} at byte {offset} has {tags} tags")
    end = counter.size + tags * entry.size
    length = end + words.place.size
    if length > len(data):
        data = _at_most(source, offset, length)
    if len(data) < length:
        raise ValueError(_missing(page, source.size))
    entries: dict[int, Entry] = {}
    described = bytes(memoryview(data)[counter.size : end])
    for code, kind, count, inline in entry.iter_unpack(described):
        if code in NEEDED_TAGS and code not in entries:
            entries[code] = kind, count, inline
    return Directory(offset, words, entries, described), int(words.place.unpack_from(data, end)[0]), length


def _missing(page: int, size: int) -> str:
    return f"it is truncated: the description of page {page} is missing, the file has {size} bytes"


def _at_most(source: ByteSource, offset: int, size: int) -> bytearray:
    return read_bytes(source, offset, min(size, source.size - offset)) if offset < source.size else bytearray()
