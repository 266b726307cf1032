"""Bytes behind what a unit's file holds: readers pass over them, but no writer leaves them there."""

from __future__ import annotations

import bz2
import json
import lzma
import zlib
from collections.abc import Callable, Sequence

import zstandard

from wkdask.formats.chunk_codecs import LZMA_MEMORY
from wkdask.formats.n5 import N5Array
from wkdask.formats.n5_block import header_bytes, parse_header
from wkdask.formats.n5_document import KINDS
from wkdask.formats.n5_lz4 import stream_bytes
from wkdask.formats.spec import ArrayHandle
from wkdask.formats.wkw import WkwArray
from wkdask.formats.zarr2 import Zarr2Array

STREAMS: dict[str | None, Callable[[], zlib._Decompress | bz2.BZ2Decompressor | lzma.LZMADecompressor]] = {
    "gzip": lambda: zlib.decompressobj(47),  # or zlib, as N5 may have it
    "zlib": lambda: zlib.decompressobj(47),
    "bz2": bz2.BZ2Decompressor,
    "lzma": lambda: lzma.LZMADecompressor(memlimit=LZMA_MEMORY),
}


def has_trailing(array: ArrayHandle, index: Sequence[int]) -> bool:
    """Whether bytes lie behind a unit, which decodes; False where readers refuse them, or they are not looked for."""
    if isinstance(array, WkwArray):
        file = array.file(index)
        if file is None:
            return False
        raw = file.header.offset + file.header.block_count * file.header.block_bytes
        return file.stat.size > (raw if file.ends is None else int(file.ends[-1]))
    if isinstance(array, N5Array):
        head = array.unit_location(index).read_bytes(0, header_bytes(len(array.spec.shape)) + 4)
        return _trails(array, index, KINDS[array.layout.kind], parse_header(head, array.spec)[1])
    if isinstance(array, Zarr2Array) and array.layout.compressor:
        return _trails(array, index, json.loads(array.layout.compressor)["id"], 0)
    return False


def _trails(array: N5Array | Zarr2Array, index: Sequence[int], kind: str | None, start: int) -> bool:
    most = array.most_bytes
    data = array.unit_location(index).read_bytes(start, most)
    if kind == "zstd":
        return _more_than_a_frame(data, most)
    if kind == "lz4" and isinstance(array, N5Array):
        return stream_bytes(data) < len(data)
    if kind not in STREAMS:  # whose decoders refuse it
        return False
    decoder = STREAMS[kind]()
    decoder.decompress(data, most)
    return bool(decoder.unused_data)


def _more_than_a_frame(data: bytes, most: int) -> bool:
    try:
        zstandard.ZstdDecompressor().decompress(data, max_output_size=most, allow_extra_data=False)
    except zstandard.ZstdError:
        return True  # as it decodes otherwise
    return False
