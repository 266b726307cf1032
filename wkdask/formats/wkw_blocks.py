"""Decoding blocks of WKW from one address to another: into memory that is used again, and no further than is wanted.

The package ``lz4`` decodes whole blocks into new bytes. The C library that it is made of decodes into given memory, and stops
where it is told to; it is called directly where it can be found and is new enough, else the package does the work.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache, partial

from lz4 import block as lz4_block

from wkdask.errors import DamagedError
from wkdask.formats.codecs import decode as decode_whole
from wkdask.formats.wkw_header import CODECS, Header

SINCE = 10904
"""The LZ4 release that is called directly, at least: 1.9.4. Some before it stop in the wrong place."""

Decode = Callable[[int, int, int, int, int], None]
"""Given address and size of a stored block, an address with room for a whole one, and the first and the last of its bytes that
are wanted (half-open): puts at least those to where they lie in a block."""


def block_decoder(header: Header) -> Decode:
    """Return the function that decodes a file's blocks.

    It raises `DamagedError` where a block does not hold what is wanted of it, or, if all of it is wanted, anything else. It
    never writes behind the room of a whole block, nor reads behind the stored one.
    """
    size = header.block_bytes
    if not header.compressed:
        return _copy
    found = _library()
    if found is None:
        return partial(_decode_and_copy, header)
    whole, first_bytes = found

    def decode_lz4(source: int, stored: int, target: int, _: int, stop: int) -> None:
        done = whole(source, target, stored, size) if stop == size else first_bytes(source, target, stored, stop, size)
        if done < stop:
            raise DamagedError(f"LZ4 data does not decode to {size} bytes")

    return decode_lz4


def _copy(source: int, stored: int, target: int, start: int, stop: int) -> None:
    if stored < stop:
        raise DamagedError(f"{stored} bytes do not hold byte {stop}")
    ctypes.memmove(target + start, source + start, stop - start)


def _decode_and_copy(header: Header, source: int, stored: int, target: int, start: int, stop: int) -> None:
    data = memoryview((ctypes.c_char * stored).from_address(source)).cast("B")
    out = bytes(decode_whole(CODECS[header.kind - 1], data, header.block_bytes))
    ctypes.memmove(target + start, out[start:stop], stop - start)


@cache
def _library() -> tuple[Callable[..., int], Callable[..., int]] | None:
    """Return ``LZ4_decompress_safe`` and ``LZ4_decompress_safe_partial`` of what the package was made of; None without."""
    try:
        found = ctypes.CDLL(lz4_block._block.__file__)
        whole, first_bytes = found.LZ4_decompress_safe, found.LZ4_decompress_safe_partial
        if found.LZ4_versionNumber() < SINCE:
            return None
    except (OSError, AttributeError):
        return None
    whole.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int)
    first_bytes.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_int)
    return whole, first_bytes
