"""Decompressing chunks of other writers, never into more bytes than a chunk has; what Zarr 2 and N5 have in common.

A compressed file may stand for a thousand times its size, or say that it does. Each function here stops at a limit that the
caller knows from the array's document, before memory is taken.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import zstandard
from lz4.block import LZ4BlockError, decompress

from wkdask.errors import DamagedError
from wkdask.formats.spec import Codec

Data = bytes | memoryview

LZMA_MEMORY = 1 << 29
"""What decoding xz data may take beside its output: eight times what the highest preset needs."""

_REFUSALS = (
    EOFError,
    LZ4BlockError,
    MemoryError,
    OSError,
    RuntimeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    zlib.error,
    zstandard.ZstdError,
)

BLOSC_NAMES = ("lz4", "lz4hc", "blosclz", "zlib", "zstd", "snappy")


def unpack(kind: str, data: Data, limit: int) -> Data:
    """Return what compressed data stands for.

    Parameters
    ----------
    kind
        As numcodecs names it: ``blosc``, ``bz2``, ``gzip``, ``lz4``, ``lzma``, ``zlib`` or ``zstd``.
    data
        All of one chunk.
    limit
        Bytes that it may decode to.

    Raises
    ------
    DamagedError
        Where it does not decode, is cut off, or is more; the message names no file.

    Examples
    --------
    >>> unpack("zlib", zlib.compress(b"voxels"), 6)
    b'voxels'
    >>> unpack("zlib", zlib.compress(b"voxels"), 5)
    Traceback (most recent call last):
    wkdask.errors.DamagedError: zlib data decodes to more than 5 bytes
    """
    try:
        return _UNPACK[kind](data, limit)
    except DamagedError:
        raise
    except _REFUSALS as error:
        raise DamagedError(f"{kind} data does not decode: {str(error)[:200]}") from error


def _stream(kind: str, decoder: Any, data: Data, limit: int) -> bytes:
    """Run a decoder of the standard library, which stops at a number of bytes when told to."""
    out: bytes = decoder.decompress(data, limit + 1)
    if len(out) > limit:
        raise DamagedError(f"{kind} data decodes to more than {limit} bytes")
    if not decoder.eof:  # a checksum comes last, so that what is cut off was not checked
        raise DamagedError(f"{kind} data is cut off")
    return out


def _blosc(data: Data, limit: int) -> bytes:
    import numcodecs.blosc

    size, _, stored = struct.unpack_from("<III", data, 4)
    if size > limit or stored != len(data):
        raise DamagedError(
            f"blosc data of {len(data)} bytes declares {stored}, and {size} decoded, of which {limit} are allowed"
        )
    return bytes(numcodecs.blosc.decompress(bytes(data)))


def _zstd(data: Data, limit: int) -> bytes:
    declared = zstandard.frame_content_size(data)
    if declared > limit:
        raise DamagedError(f"zstd data declares {declared} bytes where {limit} are allowed")
    return zstandard.ZstdDecompressor().decompress(data, max_output_size=limit) if declared else b""


def _lz4(data: Data, limit: int) -> bytes:
    (size,) = struct.unpack_from("<I", data)
    if size > limit:
        raise DamagedError(f"lz4 data declares {size} bytes where {limit} are allowed")
    out: bytes = decompress(data[4:], uncompressed_size=size)
    return out


_UNPACK: dict[str, Callable[[Data, int], Data]] = {
    "blosc": _blosc,
    "bz2": lambda data, limit: _stream("bz2", bz2.BZ2Decompressor(), data, limit),
    "gzip": lambda data, limit: _stream("gzip", zlib.decompressobj(31), data, limit),
    "lz4": _lz4,
    "lzma": lambda data, limit: _stream("lzma", lzma.LZMADecompressor(memlimit=LZMA_MEMORY), data, limit),
    "zlib": lambda data, limit: _stream("zlib", zlib.decompressobj(15), data, limit),
    "zstd": _zstd,
}

COMPRESSORS = frozenset(_UNPACK)
"""What `unpack` knows."""


def blosc_settings(codec: Codec, itemsize: int) -> dict[str, Any]:
    """Return the settings of blosc that a codec such as ``blosc-zstd:3`` names; bits are shuffled where voxels have one byte.

    Examples
    --------
    >>> blosc_settings(Codec("blosc-zstd", 3), 2)
    {'cname': 'zstd', 'clevel': 3, 'shuffle': 1, 'blocksize': 0}
    """
    name = codec.name.partition("-")[2] or "lz4"
    level = 5 if codec.level is None else codec.level
    return {"cname": name, "clevel": level, "shuffle": 2 if itemsize == 1 else 1, "blocksize": 0}


def pack_blosc(voxels: np.ndarray[Any, Any], settings: dict[str, Any]) -> bytes:
    """Return voxels as blosc data; those of one dimension, as they shall lie."""
    import numcodecs

    chosen = {key: settings[key] for key in ("cname", "clevel", "shuffle", "blocksize")}
    return bytes(numcodecs.Blosc(**chosen).encode(voxels))
