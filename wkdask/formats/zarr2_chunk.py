"""Chunks of Zarr 2: filters and compressor by numcodecs' rules, each step bounded."""

from __future__ import annotations

import json
import math
from functools import lru_cache
from typing import Any

import numpy as np

from wkdask.errors import DamagedError, InputError
from wkdask.formats.chunk_codecs import COMPRESSORS, pack_blosc, unpack
from wkdask.formats.chunk_document import MAX_CHUNK_BYTES
from wkdask.formats.codecs import encoder
from wkdask.formats.spec import ArraySpec, Codec
from wkdask.formats.zarr2_document import Layout

Array = np.ndarray[Any, Any]


@lru_cache(maxsize=64)
def _numcodec(settings: str) -> Any:
    import numcodecs

    return numcodecs.get_codec(json.loads(settings))


def decode_chunk(data: bytes, spec: ArraySpec, layout: Layout) -> Array:
    """Return the voxels of a whole chunk in stored axes, as the array's dtype.

    Raises
    ------
    DamagedError
        Where the bytes do not decode to a chunk; the message names no file.
    """
    dtype, count = np.dtype(layout.dtype), math.prod(spec.chunk)
    size = count * dtype.itemsize
    limit = min(16 * size + 64, MAX_CHUNK_BYTES) if layout.filters else size  # filters may widen voxels, at most eightfold
    found: Any = data
    if layout.compressor:
        found = unpack(json.loads(layout.compressor)["id"], data, limit)
    for settings in reversed(layout.filters):
        found = _unfiltered(settings, found, limit)
    flat = np.frombuffer(found, np.uint8) if isinstance(found, (bytes, memoryview)) else found.reshape(-1).view(np.uint8)
    if flat.size != size:
        raise DamagedError(f"it decodes to {flat.size} bytes instead of {size}")
    stored = flat.view(np.uint8 if dtype.kind == "b" else dtype)
    return stored.reshape(spec.chunk, order=layout.order).astype(spec.dtype, copy=False)


def _unfiltered(settings: str, found: Any, limit: int) -> Any:
    name = json.loads(settings)["id"]
    if name in COMPRESSORS:
        return unpack(name, memoryview(found).cast("B"), limit)
    try:
        out = np.asarray(_numcodec(settings).decode(found))
    except Exception as error:  # noqa: BLE001 - each filter has its own ways to refuse
        raise DamagedError(f"the filter {name} does not decode it: {str(error)[:200]}") from None
    if out.nbytes > limit:
        raise DamagedError(f"the filter {name} makes {out.nbytes} bytes of it, of which {limit} are allowed")
    return np.ascontiguousarray(out)


def encode_chunk(voxels: Array, spec: ArraySpec, layout: Layout) -> bytes | memoryview:
    """Return the file of a whole chunk, given its voxels in stored axes.

    Raises
    ------
    InputError
        Where a filter does not take such voxels.
    """
    dtype = np.dtype(layout.dtype)
    flat = voxels.ravel(order=layout.order).astype(dtype, copy=False)
    if not layout.filters and _is_ours(layout, spec.codec):
        return encoder(spec.codec)(flat.view(np.uint8).data)
    found: Any = flat
    try:
        for settings in layout.filters:
            found = _numcodec(settings).encode(found)
        if layout.compressor is None:
            return bytes(np.ascontiguousarray(found).view(np.uint8).data) if isinstance(found, np.ndarray) else bytes(found)
        settings = json.loads(layout.compressor)
        if settings["id"] == "blosc" and {"cname", "clevel", "shuffle", "blocksize"} <= set(settings):
            return pack_blosc(np.ascontiguousarray(found), settings)
        return bytes(_numcodec(layout.compressor).encode(found))
    except Exception as error:
        raise InputError(
            f"The filters and compressor of this array do not encode such voxels: {str(error)[:200]}. Copy it to a plain array."
        ) from error


def _is_ours(layout: Layout, codec: Codec | None) -> bool:
    """Whether we compress as fast without numcodecs."""
    return layout.compressor is None or (codec is not None and codec.name in ("zstd", "gzip"))
