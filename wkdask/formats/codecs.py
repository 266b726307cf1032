"""Compressors of chunks, by the names that Zarr and WKW give them.

Specifications: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/index.html (``gzip``),
https://github.com/zarr-developers/zarr-extensions/tree/main/codecs/zstd (``zstd``),
https://zarr-specs.readthedocs.io/en/latest/v3/codecs/blosc/index.html (``blosc-…``, its inner compressor behind the dash), and
https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md (``lz4`` and ``lz4hc``, which decode alike).
"""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from lz4.block import LZ4BlockError, compress, decompress

from wkdask.errors import DamagedError, InputError
from wkdask.formats.spec import Codec

BLOSC = ("lz4", "lz4hc", "zstd", "zlib", "blosclz")
"""The compressors within Blosc."""

SHUFFLES = ("noshuffle", "shuffle", "bitshuffle")
"""What Blosc does to bytes before it compresses them, in the order of its own numbers."""

LEVELS = {"zstd": (-7, 22, 5), "gzip": (0, 9, 5), "lz4hc": (3, 12, 9)} | {f"blosc-{name}": (0, 9, 5) for name in BLOSC}
"""Lowest, highest and usual level of each compressor that has levels."""

NAMES = ("zstd", "gzip", "lz4", "lz4hc", *(f"blosc-{name}" for name in BLOSC), "compressed_segmentation", "png")
"""Those that any format writes; the last two are encodings of Neuroglancer, which encode whole chunks, not bytes."""

BLOSC_HEADER = struct.Struct("<4BIII")
"""Versions, flags, size of an element; then the bytes that it decodes to, of an inner block, and of all of it."""

_per_thread = threading.local()


def parse_codec(text: str) -> Codec | None:
    """Read ``NAME[:LEVEL]``; ``none`` stands for no compression.

    Examples
    --------
    >>> parse_codec("zstd:1"), parse_codec("lz4hc"), parse_codec("lz4"), parse_codec("none")
    (Codec(name='zstd', level=1), Codec(name='lz4hc', level=9), Codec(name='lz4', level=None), None)
    >>> str(parse_codec("blosc-zstd:3"))
    'blosc-zstd:3'
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


def encoder(codec: Codec | None, itemsize: int = 1) -> Callable[[memoryview], bytes | memoryview]:
    """Return the function that compresses a chunk of voxels of ``itemsize`` bytes, for one thread.

    It lets go of the interpreter lock while it works.
    """
    if codec is None:
        return lambda data: data
    level = LEVELS.get(codec.name, (0, 0, 0))[2] if codec.level is None else codec.level
    if codec.name == "gzip":
        return lambda data: zlib.compress(data, level, 31)
    if codec.name.startswith("blosc-"):
        return blosc_encoder(codec.name.removeprefix("blosc-"), level, usual_shuffle(itemsize), itemsize)
    if codec.name in ("lz4", "lz4hc"):
        return _lz4_encoder(codec.name, level)
    return zstd_encoder(level)


def zstd_encoder(level: int, *, checksum: bool = True) -> Callable[[memoryview], bytes]:
    """Return the function that compresses to a zstd frame; each thread has its own."""
    kept: dict[tuple[int, bool], Callable[[memoryview], bytes]] = _per_thread.__dict__.setdefault("encoders", {})
    if (level, checksum) not in kept:
        import zstandard

        kept[level, checksum] = zstandard.ZstdCompressor(level=level, write_checksum=checksum).compress
    return kept[level, checksum]


def usual_shuffle(itemsize: int) -> int:
    """Return what Blosc does before it compresses voxels: sort the bits of single bytes, or the bytes of longer voxels."""
    return SHUFFLES.index("shuffle" if itemsize > 1 else "bitshuffle")


def blosc_encoder(name: str, level: int, shuffle: int, itemsize: int, block: int = 0) -> Callable[[memoryview], bytes]:
    """Return the function that compresses by Blosc and its inner compressor; ``block`` bytes at once, 0 for its own choice."""
    from numcodecs import blosc

    settings = {"cname": name.encode(), "clevel": level, "shuffle": shuffle, "blocksize": block, "typesize": itemsize}
    return partial(blosc.compress, **settings)


def decode(codec: Codec | None, data: bytes | memoryview, size: int) -> bytes | memoryview:
    """Return the ``size`` bytes that a compressed chunk stands for; never more memory than that.

    Raises
    ------
    DamagedError
        Where the data does not decode, fails its checksum, or has another size.
    """
    return decoder(codec, size)(data)


def decode_up_to(codec: Codec, data: bytes | memoryview, most: int) -> bytes | memoryview:
    """Return what compressed data stands for, where only a bound of its size is known; see `decode`."""
    return _DECODERS[codec.name](data, most)


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
    if inflater.unused_data:
        raise DamagedError(f"{len(inflater.unused_data)} bytes lie behind its gzip data")
    return out


def _decode_zstd(data: bytes | memoryview, size: int) -> bytes:
    import zstandard

    try:
        declared = zstandard.frame_content_size(data)
        if declared > size:
            raise DamagedError(f"zstd data declares {declared} bytes instead of {size}")
        kept = _per_thread.__dict__.setdefault("zstd", None) or zstandard.ZstdDecompressor()
        _per_thread.zstd = kept
        return bytes(kept.decompress(data, max_output_size=size, allow_extra_data=False)) if declared else b""
    except zstandard.ZstdError as error:
        raise DamagedError(f"zstd data does not decode: {error}") from error


def decode_frames(data: Sequence[bytes | memoryview], size: int) -> Sequence[Any]:
    """Return what frames of zstd stand for, ``size`` bytes each, as buffers.

    Raises
    ------
    DamagedError
        Where one does not decode to so many.
    """
    import zstandard

    if "multi_decompress_to_buffer" not in zstandard.backend_features:
        return [decode(Codec("zstd"), one, size) for one in data]
    sizes = np.full(len(data), size, np.uint64).tobytes()
    try:
        found: Any = zstandard.ZstdDecompressor().multi_decompress_to_buffer(list(data), decompressed_sizes=sizes)
    except (zstandard.ZstdError, ValueError) as error:  # the latter where one has no bytes
        raise DamagedError(f"zstd data does not decode: {error}") from error
    return list(found)


def _decode_blosc(data: bytes | memoryview, size: int) -> bytes:
    from numcodecs import blosc

    if len(data) < BLOSC_HEADER.size:
        raise DamagedError(f"Blosc data is cut off: {len(data)} bytes hold no header")
    *_, declared, _, stored = BLOSC_HEADER.unpack_from(data)
    if declared > size:
        raise DamagedError(f"Blosc data declares {declared} bytes instead of {size}")
    if stored != len(data):
        raise DamagedError(f"Blosc data of {len(data)} bytes declares {stored}")
    try:
        return bytes(blosc.decompress(data))
    except (RuntimeError, ValueError) as error:
        raise DamagedError(f"Blosc data does not decode: {error}") from error


_DECODERS: dict[str, Callable[[bytes | memoryview, int], bytes | memoryview]] = {
    "gzip": _decode_gzip,
    "lz4": _decode_lz4,
    "lz4hc": _decode_lz4,
    "zstd": _decode_zstd,
    **dict.fromkeys((f"blosc-{name}" for name in BLOSC), _decode_blosc),
}
