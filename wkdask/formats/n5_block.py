"""Blocks of N5: a header, and the voxels in big endian and Fortran order, compressed.

Specification: https://github.com/saalfeldlab/n5#file-system-specification. The header has the mode (0 by default; 1 where a
count of elements follows the sizes), the number of axes, and the block's own size along each: where the array ended inside the
block when it was written, less than the array's.
"""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import numpy as np

from wkdask.errors import DamagedError, InputError
from wkdask.formats.chunk_codecs import pack_blosc, unpack
from wkdask.formats.codecs import encoder
from wkdask.formats.n5_document import KINDS, Layout
from wkdask.formats.n5_lz4 import pack_lz4, unpack_lz4
from wkdask.formats.spec import ArraySpec
from wkdask.geometry.grid import Index

Array = np.ndarray[Any, Any]


def header_bytes(axes: int) -> int:
    """Return the length of the header of a block of mode 0."""
    return 4 + 4 * axes


def decode_block(data: bytes, spec: ArraySpec, layout: Layout) -> Array:
    """Return the voxels of a block in stored axes: those of a chunk, or of its first corner where it has fewer.

    It is not filled up: what the array's document says of chunks may be far more than any file has.

    Raises
    ------
    DamagedError
        Where the header is not one of the array's blocks, or the voxels do not decode; the message names no file.
    """
    shape, start = parse_header(data, spec)
    if 0 in shape:
        return np.zeros(shape, spec.dtype, order="F")
    dtype = np.dtype(spec.dtype).newbyteorder(">")
    size = math.prod(shape) * dtype.itemsize
    found = _unpacked(memoryview(data)[start:], layout, size)
    if len(found) != size:
        raise DamagedError(f"its block of {shape} decodes to {len(found)} bytes instead of {size}")
    return np.frombuffer(found, dtype).reshape(shape, order="F").astype(spec.dtype, copy=False)


def parse_header(data: bytes, spec: ArraySpec) -> tuple[Index, int]:
    """Return the block's own size, and where its voxels begin."""
    axes = len(spec.chunk)
    start = header_bytes(axes)
    if len(data) < start:
        raise DamagedError(f"{len(data)} bytes do not hold the header of a block")
    mode, count = struct.unpack_from(">HH", data)
    if mode not in (0, 1) or count != axes:
        raise DamagedError(f"its header has the mode {mode} and {count} axes, expected the mode 0 or 1 and {axes}")
    shape = struct.unpack_from(f">{axes}I", data, 4)
    if any(n > most for n, most in zip(shape, spec.chunk, strict=True)):
        raise DamagedError(f"its header says that it has {shape} voxels, the array's blocks have {spec.chunk}")
    if mode == 0:
        return shape, start
    if len(data) < start + 4:
        raise DamagedError(f"{len(data)} bytes do not hold the header of a block")
    (elements,) = struct.unpack_from(">I", data, start)
    if elements != math.prod(shape):
        raise DamagedError(f"its header says that it has {elements} elements, but {shape} voxels")
    return shape, start + 4


def _unpacked(data: memoryview, layout: Layout, size: int) -> bytes | memoryview:
    kind = KINDS[layout.kind]
    if kind is None:
        return data
    if kind == "lz4":
        return unpack_lz4(data, size)
    if kind == "gzip" and json.loads(layout.settings).get("useZlib"):
        kind = "zlib"
    return unpack(kind, data, size)


def encode_block(voxels: Array, spec: ArraySpec, layout: Layout) -> bytes:
    """Return the file of a block, given its voxels in stored axes: as many as it has.

    Raises
    ------
    InputError
        Where we do not write the array's compression.
    """
    flat = voxels.ravel(order="F").astype(np.dtype(spec.dtype).newbyteorder(">"), copy=False)
    return struct.pack(f">HH{voxels.ndim}I", 0, voxels.ndim, *voxels.shape) + _packed(flat, spec, layout)


def _packed(flat: Array, spec: ArraySpec, layout: Layout) -> bytes:
    data, settings = flat.view(np.uint8).data, json.loads(layout.settings)
    if layout.kind == "raw":
        return bytes(data)
    if layout.kind == "lz4":
        return pack_lz4(data)
    if layout.kind == "blosc":
        return pack_blosc(flat, {"shuffle": 0, "blocksize": 0, "clevel": 6, "cname": "blosclz"} | settings)
    if layout.kind == "zstd" or (layout.kind == "gzip" and not settings.get("useZlib")):
        return bytes(encoder(spec.codec)(data))
    import numcodecs

    made: dict[str, Any] = {
        "gzip": lambda: numcodecs.Zlib(settings.get("level", -1)),
        "bzip2": lambda: numcodecs.BZ2(settings.get("blockSize", 9)),
        "xz": lambda: numcodecs.LZMA(preset=settings.get("preset", 6)),
    }
    try:
        return bytes(made[layout.kind]().encode(data))
    except (TypeError, ValueError, OSError) as error:
        raise InputError(
            f"The compression {layout.settings[:160]} can not be written: {error}. Copy it to a new array."
        ) from error
