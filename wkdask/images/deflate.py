"""Zlib streams: whole by the fastest decoder that is installed, or only as far as they are wanted."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

from wkdask.images.byte_source import ByteSource, read_bytes

PIECE = 65536
"""Bytes of a stream that are read and decoded at once."""


def inflate(data: bytearray, out: memoryview) -> None:
    """Decompress a zlib stream into a buffer that it must fill.

    Parameters
    ----------
    data
        The stream.
    out
        Writable bytes; what the stream holds beyond them is not looked at.

    Raises
    ------
    ValueError
        If the stream is damaged or too short.

    Examples
    --------
    >>> out = bytearray(4)
    >>> inflate(bytearray(zlib.compress(b"wxyz")), memoryview(out)); out
    bytearray(b'wxyz')
    """
    if _libdeflate is not None:
        try:
            if len(_libdeflate(data, out=out)) == len(out):
                return
        except Exception:  # noqa: BLE001  more data than needed, or damage: zlib knows the difference
            pass
    try:
        stream = zlib.decompressobj()
        raw = stream.decompress(data, len(out) + 1)  # one more, so that the checksum at the end is looked at
    except zlib.error as error:
        raise ValueError(f"bad deflate data ({error})") from error
    if len(raw) < len(out) or (len(raw) == len(out) and not stream.eof):
        raise ValueError(f"a piece of {len(out)} bytes ends too early, after {len(raw)} bytes")
    out[:] = raw[: len(out)]


def inflate_part(source: ByteSource, place: tuple[int, int], skip: int, out: memoryview) -> None:
    """Decompress a part of a zlib stream, holding little more than that part in memory.

    The stream is decoded from its beginning, and no further than to the end of the part, so that its checksum is not
    looked at.

    Parameters
    ----------
    source
        The file.
    place
        Offset and length of the stream in bytes.
    skip
        Decoded bytes before the part.
    out
        Writable bytes, which the part must fill.

    Raises
    ------
    ValueError
        If the stream is damaged or too short.
    """
    offset, count = place
    stream, done, ahead = zlib.decompressobj(), 0, 0
    rest: bytes | bytearray = b""
    while done < len(out):
        if not rest and ahead < count:
            rest = read_bytes(source, offset + ahead, min(PIECE, count - ahead))
            ahead += len(rest)
        try:
            raw = stream.decompress(rest, min(16 * PIECE, skip) if skip else min(16 * PIECE, len(out) - done))
        except zlib.error as error:
            raise ValueError(f"bad deflate data ({error})") from error
        if not raw and (stream.eof or (not stream.unconsumed_tail and ahead == count)):
            raise ValueError(f"a piece of {len(out)} bytes ends too early, after {done} bytes")
        rest = stream.unconsumed_tail
        if skip:
            skip -= len(raw)
        else:
            out[done : done + len(raw)] = raw
            done += len(raw)


def _find_libdeflate() -> Callable[..., Any] | None:
    """Return the decoder of the optional library, four times as fast as Python's zlib."""
    try:
        from imagecodecs import deflate_decode
    except ImportError:
        return None
    decoder: Callable[..., Any] = deflate_decode
    return decoder


_libdeflate = _find_libdeflate()
