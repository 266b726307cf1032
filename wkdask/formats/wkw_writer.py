"""Writing data files of WKW, whole or in place.

Blocks lie along the Z-order curve, whatever order they are put in. In raw files each has its place, and zero blocks are
holes. In compressed files they follow a jump table, so that they are collected first: in memory up to a limit, then in a
spool file. Compressed files hold every block, so that an encoded block of zeros stands for those that nobody put.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import IO, Any

import numpy as np

from wkdask.errors import DamagedError, InputError
from wkdask.formats.codecs import encoder
from wkdask.formats.shard import NOTHING, Entries, read_part
from wkdask.formats.spec import Codec, Written
from wkdask.formats.wkw_file import digest
from wkdask.formats.wkw_header import CODECS, SIZE, Header
from wkdask.storage import Location, Writer

PIECE_BYTES = 4 << 20
"""Blocks that are gathered at once."""
SPOOL_BYTES = 8 << 20
"""Encoded blocks that a writer keeps in memory."""

Read = Callable[[int, int], bytes]
Source = tuple[Read, Entries]
"""How to read some bytes, and rows of (block number, offset, bytes)."""


@lru_cache(maxsize=16)
def zero_block(codec: Codec | None, size: int) -> bytes:
    """Return an encoded block of zeros."""
    return bytes(encoder(codec)(memoryview(bytes(size))))


class RawFile:
    """The blocks of a raw data file; it is made at full size with the first of them."""

    def __init__(self, out: Writer, header: Header) -> None:
        self._out, self._header = out, header.in_file()
        self._at = 0

    def append(self, chunk: int, data: bytes | memoryview) -> None:
        """Write a block to its place."""
        self.append_run(chunk, data)

    def append_run(self, first: int, data: bytes | memoryview) -> None:
        """Write blocks that follow each other to their place."""
        header = self._header
        if not self._at:
            self._out.write(header.pack())
            self._out.seek(header.offset + header.block_count * header.block_bytes)
        position = header.offset + first * header.block_bytes
        if self._at != position:
            self._out.seek(position)
        self._out.write(data)
        self._at = position + len(data)

    def close(self) -> None:
        """Do nothing: all that was put is with the writer."""

    def publish(self) -> Written:
        """Publish the file; nothing where no block was written."""
        if not self._at:
            return NOTHING
        stat = self._out.publish()
        return Written(stat.size, stat.stamp, digest(self._header, None), self._header.block_count)


class CompressedFile:
    """The encoded blocks of a compressed data file: collected until they can be laid out, unless they come in order."""

    def __init__(self, out: Writer, header: Header, scratch: Location | None) -> None:
        folder = scratch.make_folder().url if scratch and scratch.is_local else None
        self._out, self._header = out, header
        self._spool: IO[bytes] = tempfile.SpooledTemporaryFile(SPOOL_BYTES, dir=folder)  # noqa: SIM115 - see close
        self._rows: list[tuple[int, int, int]] = []
        self._at = 0
        self._laid_out: _BlocksInOrder | None = None

    def expect_ascending(self) -> None:
        """Lay out what comes from now on as it comes, unless there were blocks before."""
        if not self._rows:
            self._laid_out = self._laid_out or _BlocksInOrder(self._out, self._header)

    def close(self) -> None:
        """Forget the blocks."""
        self._spool.close()

    def append(self, chunk: int, data: bytes | memoryview) -> None:
        """Keep an encoded block.

        Raises
        ------
        InputError
            Where blocks were expected in order, and this is not behind the last.
        """
        if self._laid_out:
            self._laid_out.append(chunk, data)
            return
        self._spool.write(data)
        self._rows.append((chunk, self._at, len(data)))
        self._at += len(data)

    def publish(self, before: Sequence[Source] = ()) -> Written:
        """Publish the file; nothing where it holds no block. Blocks of ``before`` stay where there is no newer one."""
        if self._laid_out:
            return self._laid_out.publish()
        rows = np.array(self._rows, "<u8").reshape(-1, 3)
        return write_blocks(self._out, self._header, [*before, (self._read, rows)])

    def _read(self, start: int, stop: int) -> bytes:
        self._spool.seek(start)
        return self._spool.read(stop - start)


def part_source(part: Location, header: Header) -> Source:
    """Return the blocks of a part.

    Raises
    ------
    DamagedError
        Where it is no whole part, or one of another array.
    """
    entries, end = read_part(part)
    numbers, offsets, sizes = entries.T
    sound = np.all(numbers < header.block_count) and np.all(offsets <= end) and np.all(sizes <= end - offsets)
    if not sound or (not header.compressed and np.any(sizes != header.block_bytes)):
        raise DamagedError(f"{part} is no part of a file of {header}. Run the same command again; it will be made anew.")
    return part.read_bytes, entries


def write_blocks(out: Writer, header: Header, sources: Sequence[Source]) -> Written:
    """Lay out encoded blocks as a data file and publish it; nothing where there is no block.

    Of blocks with the same number the last counts. Sources are read in pieces of some megabytes, whatever the order of their
    blocks is.
    """
    rows = _sorted([entries for _, entries in sources])
    if not len(rows):
        return NOTHING
    reads = [read for read, _ in sources]
    file = _BlocksInOrder(out, header) if header.compressed else RawFile(out, header)
    for numbers, blocks in _gathered(reads, rows):
        for number, block in zip(numbers.tolist(), blocks, strict=True):
            file.append(number, block)
    return file.publish()


class _BlocksInOrder:
    """Encoded blocks behind the room for their jump table, which is written last; those that nobody gives are zeros."""

    def __init__(self, out: Writer, header: Header) -> None:
        self._out, self._header = out, header.in_file()
        self._empty = zero_block(CODECS[header.kind - 1], header.block_bytes)
        self._lengths = np.full(header.block_count, len(self._empty), np.int64)
        self._next = 0

    def append(self, number: int, data: bytes | memoryview) -> None:
        """Write a block, by its number, and zeros before it where some are missing."""
        if number < self._next:
            raise InputError(
                f"Block {number} comes after block {self._next - 1}, expected each once and in order. Put each block once."
            )
        if not self._next:
            self._out.seek(self._header.data_start)
        if number > self._next:
            self._out.write(self._empty * (number - self._next))
        self._out.write(data)
        self._lengths[number] = len(data)
        self._next = number + 1

    def publish(self) -> Written:
        """Write what is missing at the end and the jump table, and publish; nothing where there is no block."""
        if not self._next:
            return NOTHING
        header = self._header
        self._out.write(self._empty * (header.block_count - self._next))
        ends = np.concatenate(([header.offset], header.offset + np.cumsum(self._lengths)))
        self._out.seek(0)
        self._out.write(header.pack() + ends[1:].astype("<u8").tobytes())
        stat = self._out.publish()
        return Written(stat.size, stat.stamp, digest(header, ends), header.block_count)


ROW = np.dtype([("number", "i8"), ("source", "i8"), ("offset", "i8"), ("size", "i8")])


def _sorted(entries: Sequence[Entries]) -> np.ndarray[Any, Any]:
    """Return the rows of all sources by ascending block number, of equal ones the last."""
    rows = np.empty(sum(map(len, entries)), ROW)
    rows["source"] = np.repeat(np.arange(len(entries)), list(map(len, entries)))
    for i, name in enumerate(("number", "offset", "size")):
        rows[name] = np.concatenate([e[:, i] for e in entries]) if entries else 0
    rows = rows[rows["number"].argsort(kind="stable")]
    last = np.append(np.diff(rows["number"]) > 0, np.ones(min(1, len(rows)), bool))
    kept: np.ndarray[Any, Any] = rows[last]
    return kept


def _gathered(reads: Sequence[Read], rows: np.ndarray[Any, Any]) -> Any:
    """Yield the rows in pieces: the blocks' numbers, and their bytes."""
    ends = rows["size"].cumsum()
    a = 0
    while a < len(rows):
        before = ends[a] - rows["size"][a]
        b = max(a + 1, int(np.searchsorted(ends, before + PIECE_BYTES, "right")))
        yield rows["number"][a:b], _fetched(reads, rows[a:b])
        a = b


def _fetched(reads: Sequence[Read], rows: np.ndarray[Any, Any]) -> list[memoryview]:
    """Return the bytes of some rows, read in as few calls as their places allow; at most about as much beside them is read."""
    order = np.lexsort((rows["offset"], rows["source"]))
    found = rows[order]
    starts, stops = found["offset"], found["offset"] + found["size"]
    gap = int(found["size"].mean())
    breaks = (np.diff(found["source"]) > 0) | (starts[1:] - np.maximum.accumulate(stops)[:-1] > gap)
    cuts = (np.flatnonzero(breaks) + 1).tolist()
    blocks: list[memoryview] = []
    for a, b in zip([0, *cuts], [*cuts, len(found)], strict=True):
        first, last = int(starts[a]), int(stops[a:b].max())
        data = memoryview(reads[int(found["source"][a])](first, last))
        if len(data) != last - first:
            raise DamagedError(f"A source of blocks ends before byte {last}. Run the same command again.")
        blocks += [data[s - first : e - first] for s, e in zip(starts[a:b].tolist(), stops[a:b].tolist(), strict=True)]
    back = np.empty(len(order), np.intp)
    back[order] = np.arange(len(order))
    return [blocks[i] for i in back.tolist()]


def make_sparse(place: Location, header: Header, scratch: Location) -> None:
    """Make a raw data file of zeros, all of it a hole."""
    header = header.in_file()
    with place.writer(scratch) as out:
        out.write(header.pack())
        out.seek(SIZE + header.block_count * header.block_bytes)
        out.publish()
