"""Data files of WKW: where their blocks lie.

A raw file holds all its blocks, each at its place along the Z-order curve. A compressed one begins with a jump table: where
each block ends, in that order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from wkdask.errors import DamagedError
from wkdask.formats.shard import checksum
from wkdask.formats.spec import Written
from wkdask.formats.wkw_header import SIZE, Header
from wkdask.geometry.grid import Box
from wkdask.storage import Location, Stat

KEPT_TABLE_BYTES = 1 << 20
"""Larger jump tables are not kept."""

Numbers = np.ndarray[tuple[int], np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class DataFile:
    """A data file that is there.

    Parameters
    ----------
    place, stat
        Where it lies, and its size and time.
    header
        Its own.
    ends
        Where the first block begins, then where each block ends, for compressed files; in files of raw blocks that is known.
    """

    place: Location
    stat: Stat
    header: Header
    ends: Numbers | None

    def start(self, number: int) -> int:
        """Return where a block begins, by its number along the Z-order curve; for the number of blocks, where the last ends."""
        return self.header.offset + number * self.header.block_bytes if self.ends is None else int(self.ends[number])

    def starts(self, numbers: Numbers) -> Numbers:
        """Return where each of some blocks begins; see `start`."""
        return self.header.offset + numbers * self.header.block_bytes if self.ends is None else self.ends[numbers]

    def inspect(self) -> Written:
        """Return what the file says of itself; see `digest`."""
        return Written(self.stat.size, self.stat.stamp, digest(self.header, self.ends), self.header.block_count)


def digest(header: Header, ends: Numbers | None) -> int:
    """Return the CRC-32C of a file's header and jump table; of raw files, which have none, of the header alone."""
    return checksum(header.pack() + (b"" if ends is None else ends[1:].astype("<u8").tobytes()))


def open_file(place: Location, array: Header, *, known: bool = False) -> DataFile | None:
    """Read header and jump table of a data file, and check them; None where there is no file.

    Where ``known``, those read before will do as long as the file's size and time are the same. That is for readers: a file
    that is written twice within one tick of the clock may keep both.

    Raises
    ------
    DamagedError
        Where the file contradicts itself, or the array's header.
    """
    stat = place.stat()
    if stat is None:
        return None
    small = 8 * array.block_count <= KEPT_TABLE_BYTES
    return _known_file(place, array, stat) if known and small and stat.mtime_ns else _open_file(place, array, stat)


def open_ranged(place: Location, array: Header) -> tuple[DataFile, str] | None:
    """Do what `open_file` does by one request; return the file's version too."""
    answer = place.read_range(0, array.data_start)
    return (_parse_file(place, array, Stat(answer.size, 0), answer.data), answer.version) if answer else None


def _open_file(place: Location, array: Header, stat: Stat) -> DataFile:
    return _parse_file(place, array, stat, place.read_bytes(0, min(stat.size, array.data_start)))


def _parse_file(place: Location, array: Header, stat: Stat, data: bytes) -> DataFile:
    header = Header.parse(data, place)
    header.require_like(array, place)
    if header.offset < header.data_start:
        said = f"its blocks begin at byte {header.offset}, expected {header.data_start}"
        raise DamagedError(f"{place} is damaged: {said}. Write it again.")
    if not header.compressed:
        size = header.offset + header.block_count * header.block_bytes
        if stat.size < size:
            raise DamagedError(f"{place} is cut off: it has {stat.size} bytes, expected {size}. Write it again.")
        return DataFile(place, stat, header, None)
    if stat.size < header.data_start:
        said = f"{stat.size} bytes do not hold the jump table of its {header.block_count} blocks"
        raise DamagedError(f"{place} is cut off: {said}. Write it again.")
    if len(data) < header.data_start:
        data = place.read_bytes(0, header.data_start)
    return DataFile(place, stat, header, _parse_table(data, header, stat.size, place))


_known_file = lru_cache(maxsize=64)(_open_file)


def _parse_table(data: bytes, header: Header, size: int, place: Location) -> Numbers:
    table = np.frombuffer(data, "<u8", header.block_count, SIZE)
    if table[-1] > size or header.offset > size:
        end = max(int(table[-1]), header.offset)
        raise DamagedError(f"{place} is damaged: its jump table leads to byte {end} of {size}. Write it again.")
    ends = np.empty(header.block_count + 1, np.int64)
    ends[0] = header.offset
    ends[1:] = table  # numbers of 2^63 and more become negative
    lengths = np.diff(ends)
    if lengths.min() < 0:
        raise DamagedError(
            f"{place} is damaged: its jump table does not ascend at block {int(lengths.argmin())}. Write it again."
        )
    longest = header.block_bytes + header.block_bytes // 255 + 16  # what LZ4 makes of noise
    if lengths.max() > longest:
        said = f"block {int(lengths.argmax())} has {int(lengths.max())} bytes, expected at most {longest}"
        raise DamagedError(f"{place} is damaged: {said}. Write it again.")
    ends.flags.writeable = False
    return ends


def spread(numbers: Sequence[int] | range) -> Numbers:
    """Return numbers of up to 21 bits with two zero bits after each bit.

    Examples
    --------
    >>> spread([0, 1, 2, 3, 4]).tolist()
    [0, 1, 8, 9, 64]
    """
    at = np.array(numbers, np.int64)
    for shift, mask in ((32, 0x1F00000000FFFF), (16, 0x1F0000FF0000FF), (8, 0x100F00F00F00F00F), (4, 0x10C30C30C30C30C3)):
        at = (at | at << shift) & mask
    return (at | at << 2) & 0x1249249249249249


_SPREAD = spread(range(1 << 15))
_NUMBERS: list[int] = _SPREAD.tolist()


def block_number(inside: Sequence[int]) -> int:
    """Return a block's number along the Z-order curve, by its coordinate (c, x, y, z) in the file, x fastest.

    Examples
    --------
    >>> block_number((0, 1, 0, 0)), block_number((0, 0, 0, 1)), block_number((0, 2, 0, 0))
    (1, 4, 8)
    """
    _, x, y, z = inside
    return _NUMBERS[x] | _NUMBERS[y] << 1 | _NUMBERS[z] << 2


def numbers_of(cells: Box) -> Numbers:
    """Return the numbers of a file's blocks in a box of (x, y, z) coordinates, in C order of (z, y, x).

    Examples
    --------
    >>> numbers_of(Box((1, 0, 0), (3, 2, 1))).tolist()
    [1, 8, 3, 10]
    """
    x, y, z = (_SPREAD[a:b] for a, b in zip(cells.start, cells.stop, strict=True))
    return (z[:, None, None] << 2 | y[:, None] << 1 | x).reshape(-1)


def in_curve_order(cells: Box) -> tuple[Numbers, Numbers]:
    """Return the numbers of a file's blocks in a box of (x, y, z) coordinates, ascending, and which block of the box each is.

    Blocks of the box are counted in C order of (z, y, x).

    Examples
    --------
    >>> [found.tolist() for found in in_curve_order(Box((1, 0, 0), (3, 2, 1)))]
    [[1, 3, 8, 10], [0, 2, 1, 3]]
    """
    numbers = numbers_of(cells)
    order = numbers.argsort()
    return numbers[order], order
