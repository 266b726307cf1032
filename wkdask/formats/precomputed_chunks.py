"""Chunks of Neuroglancer volumes, encoded and decoded; and boxes of local volumes, all of which tensorstore does.

On disk a chunk has x fastest, then y, z, and the channel slowest; its voxels here have the axes (c, x, y, z).

Many tools compress whole files once more. On stores that is the encoding of the content, under the chunk's own name; on disks
the name has a suffix: `CloudVolume <https://github.com/seung-lab/cloud-volume>`_ writes ``0-64_0-64_0-64.gz`` by default.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np

from wkdask.errors import DamagedError, InputError
from wkdask.formats.chunk_codecs import unpack
from wkdask.formats.precomputed_info import Scale, build_entry
from wkdask.formats.precomputed_minishard import chunk_span
from wkdask.formats.spec import ArraySpec
from wkdask.formats.tensorstore_reader import explained_reading, is_kept, keeping
from wkdask.geometry.grid import Box, Index
from wkdask.storage import Location

Array = np.ndarray[Any, Any]

HEADER_BYTES = 1 << 16
"""More than any encoding adds to a chunk that it can not make smaller."""
PACKINGS = {".gz": "gzip", ".zstd": "zstd", ".br": "brotli", ".bz2": "bz2", ".xz": "lzma"}
"""Suffixes of files that were compressed once more."""
GZIP = b"\x1f\x8b"
SEGMENTATION_BYTES = 4 << 24
"""Up to which each place in a chunk of ``compressed_segmentation`` can be told, by 24 bits that count 4 bytes each."""


def _tensorstore_spec(spec: ArraySpec, scale: Scale, kvstore: dict[str, str]) -> dict[str, Any]:
    entry = {**build_entry(spec, scale), "resolution": [1, 1, 1]}
    entry["chunk_size"] = entry.pop("chunk_sizes")[0]
    if scale.sharding:
        entry["sharding"] = scale.sharding.to_json()
    volume = {"type": "image", "data_type": spec.dtype, "num_channels": spec.shape[0]}
    return {
        "driver": "neuroglancer_precomputed",
        "kvstore": kvstore,
        "multiscale_metadata": volume,
        "scale_metadata": entry,
    }


@lru_cache(maxsize=256)
def _open_local(volume: Location, spec: ArraySpec, scale: Scale, keep: bool) -> Any:
    import tensorstore

    found = _tensorstore_spec(spec, scale, {"driver": "file", "path": volume.url + "/"})
    store = tensorstore.open(found, open=True, assume_metadata=True, context=keeping() if keep else None).result()
    return store[tensorstore.d["channel", "x", "y", "z"].transpose[:]]


def read_local(volume: Location, location: Location, spec: ArraySpec, scale: Scale, box: Box, *, keep: bool) -> Array:
    """Read a box that lies within a local array, Fortran-ordered, whatever its encoding and sharding.

    Parameters
    ----------
    volume, location
        The volume, and the scale's folder in it.
    spec, scale
        What the scale is.
    box
        Counted from the array's first voxel.
    keep
        Whether decoded chunks may be kept for a while.

    Raises
    ------
    DamagedError
        Where a file does not decode; the file is named.
    StorageError
        Where the system does not let us read a file.
    """
    if not box.size:
        return np.zeros(box.shape, spec.dtype, order="F")
    with explained_reading(location):
        store = _open_local(volume, spec, scale, keep and is_kept(box, spec))
        return np.asarray(store[box.shifted(spec.offset).slices].read(order="F").result())


def encode(spec: ArraySpec, scale: Scale, voxels: Array) -> bytes:
    """Return the bytes of a chunk, given its voxels in the axes (c, x, y, z), not all of them zero.

    Raises
    ------
    InputError
        Where the encoding can not hold them.
    """
    if spec.codec is None:
        return np.ascontiguousarray(voxels.transpose(0, 3, 2, 1), np.dtype(spec.dtype).newbyteorder("<")).tobytes()
    store, name = _single(spec, scale, voxels.shape)
    store.write(voxels.transpose(1, 2, 3, 0)).result()
    data = bytes(store.kvstore.read(name).result().value)
    if spec.codec.name == "compressed_segmentation" and len(data) > SEGMENTATION_BYTES:  # which tensorstore writes, garbled
        raise InputError(
            f"A chunk of {voxels.shape} {spec.dtype} takes {len(data)} bytes as {spec.codec}, more than the "
            f"{SEGMENTATION_BYTES} that it can have. Use smaller chunks, or the codec none."
        )
    return data


def decode(spec: ArraySpec, scale: Scale, data: bytes, shape: Index) -> Array:
    """Return the voxels of a chunk of a shape, in the axes (c, x, y, z).

    Raises
    ------
    DamagedError
        Where the data is not such a chunk.
    """
    if spec.codec is None:
        dtype = np.dtype(spec.dtype).newbyteorder("<")
        if len(data) != math.prod(shape) * dtype.itemsize:
            raise DamagedError(f"{len(data)} bytes are not those of {shape} {spec.dtype}")
        c, x, y, z = shape
        return np.frombuffer(data, dtype).reshape(c, z, y, x).transpose(0, 3, 2, 1)
    require_size(spec, scale, len(data), shape)
    store, name = _single(spec, scale, shape)
    store.kvstore.write(name, data).result()
    try:
        return np.asarray(store.read().result()).transpose(3, 0, 1, 2)
    except (ValueError, RuntimeError) as error:
        raise DamagedError(str(error)[:300]) from None


def packing(place: Location | str) -> str:
    """Return the suffix of a file that was compressed once more; none where it was not.

    Examples
    --------
    >>> packing("0-64_0-64_0-64.gz"), packing("0-64_0-64_0-64")
    ('.gz', '')
    """
    name = place if isinstance(place, str) else place.name
    return next((suffix for suffix in PACKINGS if name.endswith(suffix)), "")


def packed_place(place: Location) -> Location:
    """Return where a chunk lies on a disk: in its file, or where there is none in one that was compressed once more."""
    if not place.is_local or os.path.exists(place.url):
        return place
    return next((place.parent / f"{place.name}{s}" for s in PACKINGS if os.path.exists(f"{place.url}{s}")), place)


def require_unit(spec: ArraySpec, scale: Scale, place: Location, index: Sequence[int], shape: Index) -> None:
    """Raise DamagedError where a chunk's bytes, in its file or a shard, can not be those of its voxels; the file is named."""
    with naming(place, index if scale.sharding else ()):
        if scale.sharding:
            span = _span(spec, scale, place, index, shape)
            size = span[1] - span[0] if span else None
        else:
            stat = place.stat() if _is_segmentation(spec) else None
            size = stat.size if stat else None
        if size is not None:
            require_size(spec, scale, size, shape)


def decode_file(spec: ArraySpec, scale: Scale, place: Location, data: bytes, shape: Index) -> Array:
    """Return the voxels of a chunk of a shape, in the axes (c, x, y, z), by all bytes of its file; see `decode`.

    Raises
    ------
    InputError
        Where it is compressed in a way that is not read.
    """
    if packing(place) == ".br":
        raise InputError(f"{place} is compressed with Brotli, which is not read. Decompress the files of the volume first.")
    return decode(spec, scale, unpacked(spec, place, data, shape), shape)


def decode_sharded(spec: ArraySpec, scale: Scale, place: Location, data: memoryview, shape: Index) -> Array:  # noqa: ARG001
    """Return the voxels of a chunk of a shape, in the axes (c, x, y, z), by its bytes in a shard; see `decode`."""
    packed = scale.sharding is not None and scale.sharding.data_encoding == "gzip"
    return decode(spec, scale, bytes(unpack("gzip", data, most_bytes(spec, shape)) if packed else data), shape)


def require_length(spec: ArraySpec, length: int, shape: Index) -> None:
    """Refuse more bytes than those of a chunk of a shape can be, before they are read."""
    if length > most_bytes(spec, shape):
        raise DamagedError(f"{length} bytes are too many for the voxels of {shape} {spec.dtype}")


def _span(spec: ArraySpec, scale: Scale, place: Location, index: Sequence[int], shape: Index) -> tuple[int, int] | None:
    """Return where a chunk's bytes lie in its shard; None where it is not stored."""
    counts = spec.grid.chunks().cells.shape[1:]
    span = chunk_span(place, scale.sharding, index[1:], counts) if scale.sharding else None
    if span:
        require_length(spec, span[1] - span[0], shape)
    return span


@contextmanager
def naming(place: Location, index: Sequence[int]) -> Iterator[None]:
    """Name the file, and the chunk in a shard, in errors about their bytes."""
    try:
        yield
    except DamagedError as error:
        within = f"in chunk {tuple(index[1:])}, " if index else ""
        raise DamagedError(f"{place} is damaged: {within}{error}. Write it again, or restore it.") from None


def most_bytes(spec: ArraySpec, shape: Index) -> int:
    """Return a bound of the bytes of a chunk of a shape."""
    return 2 * math.prod(shape) * spec.itemsize + HEADER_BYTES


def unpacked(spec: ArraySpec, place: Location, data: bytes, shape: Index) -> bytes:
    """Return a chunk's file, decompressed where all of it was compressed; as many bytes as plain voxels take were not."""
    kind = PACKINGS.get(packing(place), "")
    plain = math.prod(shape) * spec.itemsize if spec.codec is None else -1
    if not kind and data.startswith(GZIP) and len(data) != plain:  # the encoding of the content, which stores may not undo
        kind = "gzip"
    return bytes(unpack(kind, data, most_bytes(spec, shape))) if kind else data


def require_size(spec: ArraySpec, scale: Scale, size: int, shape: Index) -> None:
    """Raise DamagedError where a chunk's bytes are too few for its voxels, before any memory is taken for these."""
    blocks = [-(-n // edge) for n, edge in zip(shape[1:], scale.block, strict=True)]
    least = shape[0] * (4 + 8 * math.prod(blocks))
    if _is_segmentation(spec) and size < least:
        raise DamagedError(f"{size} bytes are not the {least} at least of {shape} {spec.dtype}")


def _is_segmentation(spec: ArraySpec) -> bool:
    return bool(spec.codec and spec.codec.name == "compressed_segmentation")


def _single(spec: ArraySpec, scale: Scale, shape: Index) -> tuple[Any, str]:
    """Return a volume in memory whose only chunk has a shape, and the name of that chunk."""
    import tensorstore

    alone = ArraySpec(shape, spec.dtype, spec.axes, shape, shape, spec.codec)
    found = _tensorstore_spec(alone, Scale("1", scale.block), {"driver": "memory"})
    store = tensorstore.open(found, open=True, assume_metadata=True).result()
    return store, f"1/{chunk_name(Box((0,) * 4, shape))}"


def chunk_name(box: Box) -> str:
    """Return the name of a chunk's file, given its voxels counted from the volume's origin, in the axes (c, x, y, z).

    Examples
    --------
    >>> chunk_name(Box((0, 0, -64, 0), (1, 64, 0, 24)))
    '0-64_-64-0_0-24'
    """
    return "_".join(f"{a}-{b}" for a, b in zip(box.start[1:], box.stop[1:], strict=True))
