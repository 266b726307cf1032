"""The framing of LZ4 in N5: that of ``LZ4BlockOutputStream`` of lz4-java.

https://github.com/lz4/lz4-java/blob/master/src/java/net/jpountz/lz4/LZ4BlockOutputStream.java tells it: blocks of at most
64 KiB, each behind the word ``LZ4Block``, a token (method, and log2 of the largest block), both sizes and the XXH32 of what was
compressed, all little endian; then one block of size 0. Of the checksum lz4-java keeps the lower 28 bits.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from lz4.block import LZ4BlockError, compress, decompress

from wkdask.errors import DamagedError

MAGIC = b"LZ4Block"
HEADER = struct.Struct("<8sBIII")
RAW, LZ4 = 0x10, 0x20
BLOCK_BYTES = 1 << 16
SIZE_CLASS = 6
"""log2 of the largest block, less 10."""
SEED = 0x9747B28C


def pack_lz4(data: bytes | memoryview) -> bytes:
    """Return bytes as lz4-java's stream of blocks.

    Examples
    --------
    >>> unpack_lz4(pack_lz4(b"voxels" * 100), 600) == b"voxels" * 100
    True
    """
    whole, out = memoryview(data), []
    for at in range(0, len(whole), BLOCK_BYTES):
        block = whole[at : at + BLOCK_BYTES]
        packed: bytes | memoryview = compress(block, store_size=False)
        method = LZ4 if len(packed) < len(block) else RAW
        packed = packed if method == LZ4 else block
        out += [HEADER.pack(MAGIC, method | SIZE_CLASS, len(packed), len(block), _checksum(block)), packed]
    return b"".join([*out, HEADER.pack(MAGIC, RAW | SIZE_CLASS, 0, 0, 0)])


def unpack_lz4(data: bytes | memoryview, limit: int) -> bytes:
    """Return what lz4-java's stream of blocks stands for: ``limit`` bytes at most.

    Raises
    ------
    DamagedError
        Where it does not decode, fails a checksum, is cut off, or is more; the message names no file.
    """
    view, at, total, out = memoryview(data), 0, 0, list[bytes | memoryview]()
    while True:
        if at + HEADER.size > len(view):
            raise DamagedError("lz4 data is cut off")
        magic, token, packed, size, said = HEADER.unpack_from(view, at)
        at += HEADER.size
        total += size
        if magic != MAGIC or token & 0xF0 not in (RAW, LZ4) or size > 1 << 10 + (token & 0x0F) or at + packed > len(view):
            raise DamagedError("lz4 data has a block header that is not sound")
        if total > limit:
            raise DamagedError(f"lz4 data decodes to more than {limit} bytes")
        if not size:
            return b"".join(out)
        out.append(_block(view[at : at + packed], token & 0xF0, size))
        if _checksum(out[-1]) != said:
            raise DamagedError("lz4 data fails its checksum")
        at += packed


def stream_bytes(data: bytes | memoryview) -> int:
    """Return how many bytes a stream that decodes has, up to its empty block.

    Examples
    --------
    >>> packed = pack_lz4(b"voxels")
    >>> stream_bytes(packed + b"more") == len(packed)
    True
    """
    at, size = 0, 1
    while size:
        _, _, packed, size, _ = HEADER.unpack_from(data, at)
        at += HEADER.size + int(packed)
    return at


def _block(packed: memoryview, method: int, size: int) -> bytes | memoryview:
    if method == RAW:
        if len(packed) != size:
            raise DamagedError(f"an lz4 block that is not compressed has {len(packed)} bytes instead of {size}")
        return packed
    try:
        out: bytes = decompress(packed, uncompressed_size=size)
    except LZ4BlockError as error:
        raise DamagedError(f"lz4 data does not decode: {error}") from None
    if len(out) != size:
        raise DamagedError(f"an lz4 block decodes to {len(out)} bytes instead of {size}")
    return out


def _checksum(block: bytes | memoryview) -> int:
    return int(_compiled()(np.frombuffer(block, np.uint8), SEED)) & 0x0FFFFFFF


@lru_cache(maxsize=1)
def _compiled() -> Callable[[np.ndarray[Any, Any], int], int]:
    import numba

    found: Callable[[np.ndarray[Any, Any], int], int] = numba.njit(nogil=True)(_xxh32)
    return found


def _xxh32(data: Any, seed: int) -> int:  # pragma: no cover - compiled
    """Return what https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md calls XXH32, of an array of bytes."""
    p1, p2, p3, p4, p5 = 2654435761, 2246822519, 3266489917, 668265263, 374761393
    mask = 0xFFFFFFFF
    n = len(data)
    at = 0
    if n >= 16:
        a, b, c, d = (seed + p1 + p2) & mask, (seed + p2) & mask, seed & mask, (seed - p1) & mask
        while at + 16 <= n:
            for lane in range(4):
                i = at + 4 * lane
                word = int(data[i]) | int(data[i + 1]) << 8 | int(data[i + 2]) << 16 | int(data[i + 3]) << 24
                found = (a + (word * p2 & mask)) & mask
                found = ((found << 13) | (found >> 19)) & mask
                a, b, c, d = b, c, d, found * p1 & mask  # each lane in turn, so that after four all are in place again
            at += 16
        h = (((a << 1) | (a >> 31)) + ((b << 7) | (b >> 25)) + ((c << 12) | (c >> 20)) + ((d << 18) | (d >> 14))) & mask
    else:
        h = (seed + p5) & mask
    h = (h + n) & mask
    while at + 4 <= n:
        word = int(data[at]) | int(data[at + 1]) << 8 | int(data[at + 2]) << 16 | int(data[at + 3]) << 24
        h = (h + (word * p3 & mask)) & mask
        h = (((h << 17) | (h >> 15)) & mask) * p4 & mask
        at += 4
    while at < n:
        h = (h + int(data[at]) * p5) & mask
        h = (((h << 11) | (h >> 21)) & mask) * p1 & mask
        at += 1
    h = (h ^ (h >> 15)) * p2 & mask
    h = (h ^ (h >> 13)) * p3 & mask
    return h ^ (h >> 16)
