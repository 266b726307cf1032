"""Compressors of chunks, by the names that Zarr and WKW give them.

Specifications: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/index.html (``gzip``),
https://github.com/zarr-developers/zarr-extensions/tree/main/codecs/zstd (``zstd``), and
https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md (``lz4`` and ``lz4hc``, which decode alike).
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable
from functools import partial

from lz4.block import LZ4BlockError, compress, decompress

from wkdask.errors import DamagedError, InputError
from wkdask.formats.spec import Codec

LEVELS = {"zstd": (-7, 22, 5), "gzip": (0, 9, 5), "lz4hc": (3, 12, 9)}
"""Lowest, highest and usual level of each compressor that has levels."""

NAMES = ("zstd", "gzip", "lz4", "lz4hc")

_per_thread = threading.local()


def parse_codec(text: str) -> Codec | None:
    """Read ``NAME[:LEVEL]``; ``none`` stands for no compression.

    Examples
    --------
    >>> parse_codec("zstd:1"), parse_codec("lz4hc"), parse_codec("lz4"), parse_codec("none")
    (Codec(name='zstd', level=1), Codec(name='lz4hc', level=9), Codec(name='lz4', level=None), None)
    """
    name, _, level = text.strip().lower().partition(":")
    if name == "none" and not level:
        return None
    if name not in NAMES:
        raise InputError(f"There is no codec {text!r}; there are none, {', '.join(NAMES)}. Write it as NAME or NAME:LEVEL.")
    if name not in LEVELS:
        if level:
            raise InputError(f"Codec {name} has no levels, but {text!r} gives one. Write it as {name}.")
        return Codec(name)
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
    level = LEVELS.get(codec.name, (0, 0, 0))[2] if codec.level is None else codec.level
    if codec.name == "gzip":
        return lambda data: zlib.compress(data, level, 31)
    if codec.name in ("lz4", "lz4hc"):
        return _lz4_encoder(codec.name, level)
    kept: dict[Codec, Callable[[memoryview], bytes]] = _per_thread.__dict__.setdefault("encoders", {})
    if codec not in kept:
        import zstandard

        kept[codec] = zstandard.ZstdCompressor(level=level, write_checksum=True).compress
    return kept[codec]


def decode(codec: Codec | None, data: bytes | memoryview, size: int) -> bytes | memoryview:
    """Return the ``size`` bytes that a compressed chunk stands for; never more memory than that.

    Raises
    ------
    DamagedError
        Where the data does not decode, fails its checksum, or has another size.
    """
    return decoder(codec, size)(data)


def decoder(codec: Codec | None, size: int) -> Callable[[bytes | memoryview], bytes | memoryview]:
    """Return the function that does what `decode` does, for many chunks."""
    inner = _DECODERS[codec.name] if codec else _same

    def sized(data: bytes | memoryview) -> bytes | memoryview:
        out = inner(data, size)
        if len(out) != size:
            raise DamagedError(f"a chunk decodes to {len(out)} bytes instead of {size}")
        return out

    return sized


def _same(data: bytes | memoryview, size: int) -> bytes | memoryview:  # noqa: ARG001
    return data


def _lz4_encoder(name: str, level: int) -> Callable[[memoryview], bytes]:
    if name == "lz4":
        return partial(compress, store_size=False)
    return partial(compress, mode="high_compression", compression=level, store_size=False)


def _decode_lz4(data: bytes | memoryview, size: int) -> bytes:
    try:
        out: bytes = decompress(data, uncompressed_size=size)
    except LZ4BlockError as error:
        raise DamagedError(f"LZ4 data does not decode to {size} bytes: {error}") from error
    return out


def _decode_gzip(data: bytes | memoryview, size: int) -> bytes:
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


def _decode_zstd(data: bytes | memoryview, size: int) -> bytes:
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


_DECODERS: dict[str, Callable[[bytes | memoryview, int], bytes | memoryview]] = {
    "gzip": _decode_gzip,
    "lz4": _decode_lz4,
    "lz4hc": _decode_lz4,
    "zstd": _decode_zstd,
}
