"""Where a chunk lies in the shard of a Neuroglancer volume, with no more memory taken than an index can need.

Specification: https://github.com/google/neuroglancer/blob/master/src/datasource/precomputed/sharded.md
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from wkdask.errors import DamagedError
from wkdask.formats.chunk_codecs import unpack
from wkdask.formats.precomputed_shard import Sharding
from wkdask.storage import Location, Stat

ENTRY_BYTES = 24
MAX_INDEX_BYTES = 1 << 26
"""Of a minishard's index: that of 2.8 million chunks."""


def chunk_span(place: Location, sharding: Sharding, chunk: Sequence[int], counts: Sequence[int]) -> tuple[int, int] | None:
    """Return where the bytes of a chunk begin and end in its shard's file; None where it is not stored.

    Parameters
    ----------
    place, sharding
        The file of the shard, and how it is made.
    chunk, counts
        The chunk's coordinate, and the chunks of the array, along x, y, z.

    Raises
    ------
    DamagedError
        Where an index is not sound; the message names no file.
    """
    stat = place.stat()
    if stat is None:
        return None
    number, minishard = sharding.minishard_of(chunk, counts)
    index = (_known if stat.mtime_ns else _minishard)(place, stat, sharding, minishard)
    return None if index is None else span_in(index, number)


def _minishard(place: Location, stat: Stat, sharding: Sharding, minishard: int) -> np.ndarray[Any, Any] | None:
    """Return (numbers, begins, ends) of a minishard's chunks; None where it has none."""
    data = place.read_bytes(16 * minishard, 16 * minishard + 16)
    span = index_span(data, sharding, minishard, stat.size)
    return parse_index(place.read_bytes(*span), sharding, minishard, stat.size) if span else None


def index_span(entry: bytes, sharding: Sharding, minishard: int, size: int) -> tuple[int, int] | None:
    """Return where a minishard's index begins and ends in a file of a size, by its 16 bytes there; None where it has none.

    Raises
    ------
    DamagedError
        Where it would lie beyond the file, or take too much memory.
    """
    head = 16 << sharding.minishard_bits
    if size < head:
        raise DamagedError(f"{size} bytes do not hold the index of {head}")
    start, end = map(int, np.frombuffer(entry, "<u8"))
    if start == end:
        return None
    if start > end or end > size - head:
        raise DamagedError(f"the index of minishard {minishard} lies from {start} to {end}, beyond the file")
    if end - start > MAX_INDEX_BYTES:
        raise DamagedError(f"the index of minishard {minishard} has {end - start} bytes, above {MAX_INDEX_BYTES}")
    return head + start, head + end


def parse_index(data: bytes | memoryview, sharding: Sharding, minishard: int, size: int) -> np.ndarray[Any, Any]:
    """Return (numbers, begins, ends) of a minishard's chunks, by its index in a file of a size.

    Raises
    ------
    DamagedError
        Where it is not sound.
    """
    if sharding.minishard_index_encoding == "gzip":
        data = unpack("gzip", data, MAX_INDEX_BYTES)
    if len(data) % ENTRY_BYTES:
        raise DamagedError(f"the index of minishard {minishard} has {len(data)} bytes, no multiple of {ENTRY_BYTES}")
    numbers, gaps, sizes = np.frombuffer(data, "<u8").reshape(3, -1).astype(np.uint64)
    ends = np.cumsum(gaps + sizes, dtype=np.uint64) + np.uint64(16 << sharding.minishard_bits)
    begins = ends - sizes
    if np.any(begins > size) or np.any(sizes > size - begins):
        raise DamagedError(f"the index of minishard {minishard} points beyond the {size} bytes of the file")
    return np.stack([np.cumsum(numbers, dtype=np.uint64), begins, ends])


def span_in(index: np.ndarray[Any, Any], number: int) -> tuple[int, int] | None:
    """Return where a chunk begins and ends, by the index of its minishard; None where it is not stored."""
    if number >> 64:  # a chunk that the format has no number for
        return None
    at = np.flatnonzero(index[0] == np.uint64(number))
    return (int(index[1, at[0]]), int(index[2, at[0]])) if at.size else None


_known = lru_cache(maxsize=64)(_minishard)
