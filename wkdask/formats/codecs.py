"""Compressors of chunks, by the names that Zarr gives them.

Specifications: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/index.html (``gzip``) and
https://github.com/zarr-developers/zarr-extensions/tree/main/codecs/zstd (``zstd``).
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable

from wkdask.errors import DamagedError, InputError
from wkdask.formats.spec import Codec

LEVELS = {"zstd": (-7, 22, 5), "gzip": (0, 9, 5)}
"""Lowest, highest and usual level of each compressor."""

_per_thread = threading.local()


def parse_codec(text: str) -> Codec | None:
    """Read ``NAME[:LEVEL]``; ``none`` stands for no compression.

    Examples
    --------
    >>> parse_codec("zstd:1"), parse_codec("zstd"), parse_codec("none")
    (Codec(name='zstd', level=1), Codec(name='zstd', level=5), None)
    """
    name, _, level = text.strip().lower().partition(":")
    if name == "none" and not level:
        return None
    if name not in LEVELS:
        raise InputError(f"There is no codec {text!r}; there are none, {', '.join(LEVELS)}. Write it as NAME or NAME:LEVEL.")
    low, high, usual = LEVELS[name]
    try:
        number = int(level) if level else usual
    except ValueError:
        number = high + 1
    if not low <= number <= high:
        raise InputError(f"The level of codec {text!r} is not a number from {low} to {high}. Write it as {name}:{usual}.")
    return Codec(name, number)


def encoder(codec: Codec | None) -> Callable[[memoryview], bytes | memoryview]:
    """Return the function that compresses a chunk; it lets go of the interpreter lock while it works."""
    if codec is None:
        return lambda data: data
    if codec.name == "gzip":
        return lambda data: zlib.compress(data, codec.level, 31)
    kept: dict[Codec, Callable[[memoryview], bytes]] = _per_thread.__dict__.setdefault("encoders", {})
    if codec not in kept:
        import zstandard

        kept[codec] = zstandard.ZstdCompressor(level=codec.level, write_checksum=True).compress
    return kept[codec]


def decode(codec: Codec | None, data: bytes, size: int) -> bytes:
    """Return the ``size`` bytes that a compressed chunk stands for; never more memory than that.

    Raises
    ------
    DamagedError
        Where the data does not decode, fails its checksum, or has another size.
    """
    if codec is None:
        out = data
    elif codec.name == "gzip":
        out = _decode_gzip(data, size)
    else:
        out = _decode_zstd(data, size)
    if len(out) != size:
        raise DamagedError(f"a chunk decodes to {len(out)} bytes instead of {size}")
    return out


def _decode_gzip(data: bytes, size: int) -> bytes:
    inflater = zlib.decompressobj(31)
    try:
        out = inflater.decompress(data, size)
        if not inflater.eof and inflater.decompress(inflater.unconsumed_tail, 1):
            raise DamagedError(f"gzip data decodes to more than the {size} bytes of a chunk")
    except zlib.error as error:
        raise DamagedError(f"gzip data does not decode: {error}") from error
    if not inflater.eof:  # its checksum comes last, so that what is cut off was not checked
        raise DamagedError("gzip data is cut off")
    return out


def _decode_zstd(data: bytes, size: int) -> bytes:
    import zstandard

    try:
        declared = zstandard.frame_content_size(data)
        if declared > size:
            raise DamagedError(f"zstd data declares {declared} bytes instead of {size}")
        kept = _per_thread.__dict__.setdefault("zstd", None) or zstandard.ZstdDecompressor()
        _per_thread.zstd = kept
        return bytes(kept.decompress(data, max_output_size=size)) if declared else b""
    except zstandard.ZstdError as error:
        raise DamagedError(f"zstd data does not decode: {error}") from error
