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


class DeflateStream:
    """A zlib stream of a file, decoded from its beginning as far as it is wanted, in the memory of what is wanted.

    Parameters
    ----------
    source
        The file.
    offset, size
        Of the stream, in bytes.

    Examples
    --------
    >>> from wkdask.images.byte_source import MemorySource
    >>> data, out = zlib.compress(b"abcdefgh"), bytearray(3)
    >>> stream = DeflateStream(MemorySource(data, 0), 0, len(data))
    >>> stream.skip(2); stream.read_into(memoryview(out)); out
    bytearray(b'cde')
    """

    def __init__(self, source: ByteSource, offset: int, size: int) -> None:
        self._source, self._place, self._end = source, offset, offset + size
        self._stream = zlib.decompressobj()
        self._rest: bytes | bytearray = b""

    def skip(self, size: int) -> None:
        """Pass over decoded bytes; ValueError if the stream is damaged or too short."""
        while size:
            size -= len(self._piece(size))

    def read_into(self, out: memoryview) -> None:
        """Fill a buffer with the next decoded bytes; ValueError if the stream is damaged or too short."""
        done = 0
        while done < len(out):
            raw = self._piece(len(out) - done)
            out[done : done + len(raw)] = raw
            done += len(raw)

    def finish(self) -> None:
        """Raise ValueError if the checksum is wrong or missing; where more bytes follow, it is not looked at."""
        if not self._decoded(1) and not self._stream.eof:
            raise ValueError("bad deflate data (its checksum is missing)")

    def _piece(self, most: int) -> bytes:
        raw = self._decoded(min(most, 16 * PIECE))
        if not raw:
            raise ValueError("a deflate stream ends too early")
        return raw

    def _decoded(self, most: int) -> bytes:
        """Return some decoded bytes; none at the end."""
        raw = b""
        while not raw and not self._stream.eof and (self._rest or self._place < self._end):
            if not self._rest:
                self._rest = read_bytes(self._source, self._place, min(PIECE, self._end - self._place))
                self._place += len(self._rest)
            try:
                raw = self._stream.decompress(self._rest, most)
            except zlib.error as error:
                raise ValueError(f"bad deflate data ({error})") from error
            self._rest = self._stream.unconsumed_tail
        return raw


def _find_libdeflate() -> Callable[..., Any] | None:
    """Return the decoder of the optional library, four times as fast as Python's zlib."""
    try:
        from imagecodecs import deflate_decode
    except ImportError:
        return None
    decoder: Callable[..., Any] = deflate_decode
    return decoder


_libdeflate = _find_libdeflate()
