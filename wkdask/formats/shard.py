"""Files of encoded chunks: shards, parts of shards, and joining parts without decoding.

A *shard* is what the Zarr 3 codec ``sharding_indexed`` says: encoded chunks, and behind or before them an index of
(offset, size) for each chunk in C order, mostly with its CRC-32C
(https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html).

A *part* is ours and never outlives a run: encoded chunks of one shard, then (chunk number, offset, size) of each, then how
many, a CRC-32C, and a magic word. A join copies the bytes of the parts one after the other and writes the shard's index.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import google_crc32c
import numpy as np

from wkdask.errors import DamagedError
from wkdask.formats.spec import Written
from wkdask.storage import Location, Writer

MISSING = np.uint64(2**64 - 1)
TAIL = struct.Struct("<QI8s")
PART_ENDS = TAIL.size + 4096 * 24
"""Bytes of a part that are read first: its tail, and the index of 4096 chunks."""
MAGIC = b"wkd-part"
NOTHING = Written(0, 0, 0, 0)
"""Of a unit that has no file because all its voxels are zero."""

Entries = np.ndarray[tuple[int, int], np.dtype[np.uint64]]
"""Rows of (chunk number in C order, offset, bytes)."""


def checksum(data: bytes | memoryview) -> int:
    """Return the CRC-32C of some bytes."""
    return int(google_crc32c.value(bytes(data)))


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """How the index of a shard lies in its file: as we write it by default, otherwise as others may.

    Parameters
    ----------
    first
        Whether it lies before the chunks, instead of behind them.
    checked
        Whether its CRC-32C follows it.
    order
        Of the bytes of its numbers: ``<`` little, ``>`` big endian.
    """

    first: bool = False
    checked: bool = True
    order: str = "<"

    def size(self, chunks: int) -> int:
        """Return the bytes of the index of a shard of ``chunks`` chunks."""
        return chunks * 16 + 4 * self.checked

    def span(self, chunks: int, size: int) -> tuple[int, int]:
        """Return where the index begins and ends in a file of ``size`` bytes; both lie within the file."""
        length = min(size, self.size(chunks))
        return (0, length) if self.first else (size - length, size)

    def build(self, entries: Entries, chunks: int) -> bytes:
        """Return the index of a shard of ``chunks`` chunks, of which the entries are stored."""
        index = np.full((chunks, 2), MISSING, f"{self.order}u8")
        index[entries[:, 0].astype(np.intp)] = entries[:, 1:]
        data = index.tobytes()
        return data + struct.pack("<I", checksum(data)) if self.checked else data

    def parse(self, data: bytes, chunks: int, size: int, name: object) -> np.ndarray[tuple[int, int], np.dtype[np.uint64]]:
        """Return the (offset, bytes) of each chunk of a shard of ``size`` bytes, whose index is ``data``.

        Raises
        ------
        DamagedError
            Where the index is not whole, its checksum is wrong, or an entry points beyond the file.
        """
        if len(data) != self.size(chunks):
            raise DamagedError(f"{name} is cut off: {size} bytes do not hold the index of its {chunks} chunks. Write it again.")
        if self.checked and checksum(data[:-4]) != struct.unpack("<I", data[-4:])[0]:
            raise DamagedError(f"{name} is damaged: the checksum of its index is wrong. Write it again.")
        index = np.frombuffer(data[: chunks * 16], f"{self.order}u8").astype(np.uint64, copy=False).reshape(chunks, 2)
        present = index[:, 0] != MISSING
        offsets, sizes = index[present, 0], index[present, 1]
        if np.any(offsets > size) or np.any(sizes > size - offsets):
            raise DamagedError(f"{name} is damaged: its index points beyond its {size} bytes. Write it again.")
        return index

    def digest(self, data: bytes) -> int:
        """Return the CRC-32C of an index: the one that it ends with, where there is one."""
        return int(struct.unpack("<I", data[-4:])[0]) if self.checked else checksum(data)


class ChunkFile:
    """Encoded chunks, appended in any order to a file that appears whole; what kind of file it is, subclasses say."""

    def __init__(self, out: Writer) -> None:
        self._out = out
        self._rows: list[tuple[int, int, int]] = []
        self._at = 0

    def append(self, chunk: int, data: bytes | memoryview) -> None:
        """Add a chunk by its number in the unit."""
        self._out.write(data)
        self._rows.append((chunk, self._at, len(data)))
        self._at += len(data)

    def close(self) -> None:
        """Do nothing: all that was put is with the writer."""

    def _entries(self) -> Entries:
        return np.array(self._rows, "<u8").reshape(-1, 3)


class ShardFile(ChunkFile):
    """A shard of ``chunks`` chunks."""

    def __init__(self, out: Writer, chunks: int, index: ShardIndex) -> None:
        super().__init__(out)
        self._chunks, self._index = chunks, index
        if index.first:
            self._at = index.size(chunks)
            out.seek(self._at)

    def append_part(self, part: Location) -> None:
        """Add all chunks of a part, copied as they are."""
        entries, end = read_part(part)
        self._out.copy(part, 0, end)
        self._rows += [(chunk, self._at + offset, size) for chunk, offset, size in entries.tolist()]
        self._at += end

    def publish(self) -> Written:
        """Write the index and publish; publish nothing where no chunk was added."""
        if not self._rows:
            return NOTHING
        index = self._index.build(self._entries(), self._chunks)
        if self._index.first:
            self._out.seek(0)
        self._out.write(index)
        stat = self._out.publish()
        return Written(stat.size, stat.stamp, self._index.digest(index), len(self._rows))


class SingleChunk(ChunkFile):
    """The only chunk of a unit, as a file of its own, for arrays without shards."""

    _digest = 0

    def append(self, chunk: int, data: bytes | memoryview) -> None:
        """Add the chunk."""
        super().append(chunk, data)
        self._digest = checksum(data)

    def publish(self) -> Written:
        """Publish the chunk; nothing where there is none."""
        if not self._rows:
            return NOTHING
        stat = self._out.publish()
        return Written(stat.size, stat.stamp, self._digest, 1)


class PartFile(ChunkFile):
    """A part of a unit."""

    def publish(self) -> Written:
        """Write the part's index and publish, also where no chunk was added."""
        index = self._entries().tobytes()
        crc = checksum(index)
        self._out.write(index + TAIL.pack(len(self._rows), crc, MAGIC))
        stat = self._out.publish()
        return Written(stat.size, stat.stamp, crc, len(self._rows))


def read_part(part: Location) -> tuple[Entries, int]:
    """Return a part's entries and where its chunks end.

    Raises
    ------
    DamagedError
        Where the file is no whole part.
    """
    found = part.read_range(-PART_ENDS)
    if found and len(found.data) >= TAIL.size:
        count, crc, magic = TAIL.unpack(found.data[-TAIL.size :])
        end = found.size - TAIL.size - count * 24
        if magic == MAGIC and end >= 0:
            index = found.data[-TAIL.size - count * 24 : -TAIL.size]
            if len(index) < count * 24:
                index = part.read_bytes(end, found.size - TAIL.size)
            if checksum(index) == crc:
                return np.frombuffer(index, "<u8").reshape(-1, 3), end
    raise DamagedError(f"{part} is no whole part. Run the same command again; it will be made anew.")


def morton_order(cells: Sequence[tuple[int, ...]]) -> list[int]:
    """Return the positions of grid cells sorted along the Z-order curve, the last axis slowest.

    Examples
    --------
    >>> morton_order([(1, 1), (0, 1), (1, 0), (0, 0)])
    [3, 2, 1, 0]
    """
    at = np.array(cells, np.uint64)
    if len(at) < 2:
        return list(range(len(at)))
    keys = np.zeros(len(at), np.uint64)
    axes = at.shape[1]
    for bit in range(min(64 // axes, int(at.max()).bit_length())):
        for axis in range(axes):
            keys |= ((at[:, axis] >> np.uint64(bit)) & np.uint64(1)) << np.uint64(bit * axes + axis)
    return [int(i) for i in np.argsort(keys, kind="stable")]
