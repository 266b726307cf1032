"""The documents of a Neuroglancer precomputed volume: reading ``info`` with nothing taken on trust, and building it.

Specification: https://github.com/google/neuroglancer/blob/master/src/datasource/precomputed/volume.md

An ``info`` lies beside the folders of its scales. A scale that we make has a document of its own too, ``scale.json`` in its
folder, in the same form: by it the scale can be opened before ``info`` lists it.
"""

from __future__ import annotations

import json
import math
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from wkdask.errors import MetadataError
from wkdask.formats.precomputed_shard import Sharding
from wkdask.formats.spec import ArraySpec, Codec
from wkdask.geometry.grid import Index

DTYPES = frozenset(f"{kind}{bits}" for kind in ("uint", "int") for bits in (8, 16, 32)) | {"uint64", "float32"}
ENCODINGS = ("raw", "compressed_segmentation", "png", "jpeg")
AXES = ("c", "x", "y", "z")
BLOCK = (8, 8, 8)
MAX_CHUNK_BYTES = 1 << 31
LONGEST_KEY = 1024
"""Letters of the key of a scale, which is a path below the volume."""
FARTHEST = 1 << 60
"""Voxels from the origin, along each axis."""
LARGEST_BLOCK = (1 << 31) - 1
"""Edge of a block of ``compressed_segmentation``; tensorstore knows none that are larger."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Scale:
    """How a scale lies on disk, beside what its `ArraySpec` says.

    Parameters
    ----------
    key
        Its folder as seen from the volume, without dots.
    block
        Voxels of a block of ``compressed_segmentation``, along x, y, z.
    sharding
        How chunks lie in shards; None where each is a file.
    copies
        Of the voxels, in chunks of other shapes.
    """

    key: str
    block: tuple[int, int, int] = BLOCK
    sharding: Sharding | None = None
    copies: int = 1


def parse_info(data: bytes, where: str) -> Json:
    """Return an ``info`` of which it is known that its scales are a list of objects with keys.

    Raises
    ------
    MetadataError
        Naming the document, what was found, and what was expected.
    """
    try:
        document: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MetadataError(f"{where} is no JSON: {str(error)[:200]}. Restore the file.") from None
    kind = document.get("@type", "neuroglancer_multiscale_volume") if isinstance(document, dict) else type(document).__name__
    if kind != "neuroglancer_multiscale_volume":
        raise MetadataError(
            f"{where} is no info of a Neuroglancer volume: its type is {str(kind)[:80]!r}, expected "
            "'neuroglancer_multiscale_volume'. Restore it, or give the folder of a volume."
        )
    scales = document.get("scales")
    if not isinstance(scales, list) or not all(isinstance(s, dict) and isinstance(s.get("key"), str) for s in scales):
        raise MetadataError(f"{where}: scales is {str(scales)[:80]}, expected a list of objects with keys. Restore the file.")
    if long := [scale["key"] for scale in scales if len(scale["key"]) > LONGEST_KEY]:
        raise MetadataError(
            f"{where}: the key {long[0][:80]!r}… has {len(long[0])} letters, expected a path of {LONGEST_KEY} at most. "
            "Restore the file."
        )
    return dict(document)


def entry_of(document: Json, key: str) -> Json | None:
    """Return what an ``info`` says of the scale in a folder, as seen from the volume; None where it lists none.

    Keys that lead out of the volume are those of no folder in it.

    Examples
    --------
    >>> entry_of({"scales": [{"key": "../1"}, {"key": "./a/../1"}]}, "1")
    {'key': './a/../1'}
    """
    return next((scale for scale in document["scales"] if normal_key(scale) == key), None)


def normal_key(scale: Json) -> str:
    """Return a scale's folder as seen from the volume, without dots where it lies in it."""
    return posixpath.normpath(str(scale["key"]))


def parse_scale(document: Json, entry: Json, where: str) -> tuple[ArraySpec, Scale]:
    """Return what an ``info`` says of one of its scales, after checking each thing that we rely on.

    Raises
    ------
    MetadataError
        Naming the document, what was found, and what was expected.
    """
    try:
        return _parse(document, entry)
    except MetadataError as error:
        said = f"{where}, scale {entry['key'][:80]!r}: {error}"
        raise MetadataError(f"{said} Restore the file, or write the volume again.") from None


def _parse(document: Json, entry: Json) -> tuple[ArraySpec, Scale]:
    dtype = _one_of("data_type", str(document.get("data_type")).lower(), sorted(DTYPES))
    channels = _numbers("num_channels", [document.get("num_channels")], 1, count=1)
    size = _numbers("size", entry.get("size"), 0)
    offset = _numbers("voxel_offset", entry.get("voxel_offset", [0, 0, 0]), -FARTHEST)
    shapes = entry.get("chunk_sizes")
    if not isinstance(shapes, list) or not shapes:
        raise MetadataError(f"chunk_sizes is {str(shapes)[:80]}, expected a list of shapes.")
    chunk = channels + _numbers("chunk_sizes", shapes[0], 1)
    if math.prod(chunk) * np.dtype(dtype).itemsize > MAX_CHUNK_BYTES:
        raise MetadataError(f"a chunk of {chunk} {dtype} is above {MAX_CHUNK_BYTES} bytes.")
    encoding = _one_of("encoding", entry.get("encoding"), ENCODINGS)
    _require_encodable(encoding, dtype, channels[0])
    name = "compressed_segmentation_block_size"
    block = _numbers(name, entry.get(name, [*BLOCK]), 1, most=LARGEST_BLOCK)
    sharding = None if entry.get("sharding") is None else Sharding.parse(entry["sharding"])
    codec = None if encoding == "raw" else Codec(encoding)
    spec = ArraySpec(channels + size, dtype, AXES, chunk, chunk, codec, (0, *offset))
    return spec, Scale(normal_key(entry), (block[0], block[1], block[2]), sharding, len(shapes))


def encodable(encoding: str, dtype: str, channels: int) -> bool:
    """Whether an encoding can hold such voxels.

    Examples
    --------
    >>> encodable("png", "uint16", 1), encodable("compressed_segmentation", "uint16", 1)
    (True, False)
    """
    if encoding == "compressed_segmentation":
        return dtype in ("uint32", "uint64")
    if encoding == "png":
        return dtype in ("uint8", "uint16") and channels <= 4
    return encoding == "raw" or (dtype == "uint8" and channels in (1, 3))


def _require_encodable(encoding: str, dtype: str, channels: int) -> None:
    if not encodable(encoding, dtype, channels):
        raise MetadataError(f"the encoding {encoding} can not hold {channels} x {dtype}.")


def _one_of(what: str, value: object, known: Iterable[str]) -> str:
    if not isinstance(value, str) or value not in known:
        raise MetadataError(f"{what} is {str(value)[:80]!r}, expected one of {', '.join(known)}.")
    return value


def _numbers(what: str, value: object, least: int, *, count: int = 3, most: int = FARTHEST) -> Index:
    good = isinstance(value, list) and len(value) == count and all(type(n) is int and least <= n <= most for n in value)
    if not isinstance(value, list) or not good:
        raise MetadataError(f"{what} is {str(value)[:80]}, expected {count} whole numbers from {least} to {most}.")
    return tuple(value)


def build_entry(spec: ArraySpec, scale: Scale) -> Json:
    """Return what an ``info`` is to say of a scale, its resolution aside."""
    encoding = spec.codec.name if spec.codec else "raw"
    block = {"compressed_segmentation_block_size": [*scale.block]} if encoding == "compressed_segmentation" else {}
    return {
        "key": scale.key,
        "size": [*spec.shape[1:]],
        "voxel_offset": [*spec.offset[1:]],
        "chunk_sizes": [[*spec.chunk[1:]]],
        "encoding": encoding,
        **block,
    }


def build_info(spec: ArraySpec, scales: list[Json]) -> Json:
    """Return an ``info`` of some scales of an array's dtype and channels."""
    head = {"@type": "neuroglancer_multiscale_volume", "data_type": spec.dtype, "num_channels": spec.shape[0]}
    return {**head, "scales": scales}


def to_bytes(document: Json) -> bytes:
    """Return a document as it lies on disk."""
    return json.dumps(document, indent=2).encode()
