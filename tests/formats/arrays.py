"""Arrays of small chunks, at places that nobody used before."""

from __future__ import annotations

import itertools
import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import tensorstore
import zarr
from hypothesis import strategies as st

from wkdask.formats import ArraySpec, Zarr3, Zarr3Array, parse_codec
from wkdask.formats.shard import checksum
from wkdask.formats.zarr3_document import DTYPES
from wkdask.geometry.grid import Box
from wkdask.storage import Location

CODECS = ("none", "zstd:-3", "zstd:5", "zstd:19", "gzip:0", "gzip:9", "blosc-lz4:5", "blosc-zstd:1")
KINDS = ("local", "memory")
Array = np.ndarray[Any, Any]


def fresh_place(kind: str, folder: Path) -> Location:
    """Return the place of a mag in a dataset of its own."""
    root = tempfile.mkdtemp(dir=folder) if kind == "local" else f"memory://{uuid4().hex}"
    return Location(root) / "color" / "1"


def make(place: Location, codec: str = "zstd:1", dtype: str = "uint8", *, sharded: bool = True, edge: int = 32) -> Zarr3Array:
    """Create an array of one channel with chunks of 8³ and units of 16³ (or 8³)."""
    unit = 16 if sharded else 8
    spec = ArraySpec((1, *[edge] * 3), dtype, tuple("cxyz"), (1, 8, 8, 8), (1, *[unit] * 3), parse_codec(codec))
    return Zarr3().create(place, spec)


def noise(box: Box, dtype: str, seed: int = 0) -> Array:
    """Return voxels of which every bit is random; floats have NaNs of all kinds, both zeros, both infinities."""
    item = np.dtype(dtype).itemsize
    raw = np.random.default_rng(seed).integers(0, 256, box.size * item, dtype="uint8")
    found = raw.view(dtype).reshape(box.shape)
    if found.dtype.kind == "f" and found.size:
        for at, value in zip(range(0, found.size, max(1, found.size // 6)), (-0.0, np.nan, np.inf, 0.0, -np.inf), strict=False):
            found.flat[at] = value
    return found


def bits(array: Array) -> Array:
    """Return the bits of voxels, so that -0.0 differs from 0 and NaN equals itself."""
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")


@st.composite
def specs(draw: st.DrawFn) -> ArraySpec:
    """Draw any array of a few thousand voxels."""
    axes = draw(st.sampled_from(["cxyz", "czyx", "xyz", "xy", "ctxyz"]))
    shape, chunk, unit = [], [], []
    for axis in axes:
        edge = draw(st.sampled_from([1, 3])) if axis == "c" else draw(st.integers(1, 3 if axis == "t" else 17))
        small = edge if axis == "c" else draw(st.sampled_from([1, 2, 4, 8]) if axis != "t" else st.just(1))
        shape.append(edge)
        chunk.append(small)
        unit.append(small * (1 if axis == "c" else draw(st.sampled_from([1, 2, 4]))))
    if draw(st.integers(0, 2)) == 0:
        unit = chunk
    dtype, codec = draw(st.sampled_from(sorted(DTYPES))), draw(st.sampled_from(CODECS))
    return ArraySpec(tuple(shape), dtype, tuple(axes), tuple(chunk), tuple(unit), parse_codec(codec))


@st.composite
def boxes_in(draw: st.DrawFn, box: Box, least: int = 1) -> Box:
    """Draw a box within another."""
    start = tuple(draw(st.integers(a, b - least)) for a, b in zip(box.start, box.stop, strict=True))
    return Box(start, tuple(draw(st.integers(a + least, b)) for a, b in zip(start, box.stop, strict=True)))


def by_zarr(folder: str) -> Array:
    """Read a local array by zarr-python."""
    found = zarr.open_array(folder, mode="r")
    return np.asarray(found[...])


def by_tensorstore(folder: str) -> Array:
    """Read a local array by tensorstore."""
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": folder + "/"}}
    return np.asarray(tensorstore.open(spec, open=True).result().read().result())


def downloaded(array: Zarr3Array, folder: Path) -> str:
    """Return a local folder with the array's files."""
    if array.location.is_local:
        return array.location.url
    target = Location(tempfile.mkdtemp(dir=folder))
    (target / "zarr.json").write_bytes((array.location / "zarr.json").read_bytes())
    for index in array.written_units():
        place = array.unit_location(index)
        (target / place.url.removeprefix(array.location.url + "/")).write_bytes(place.read_bytes())
    return target.url


def stored_index(data: bytes, chunks: int) -> tuple[Array, bytes]:
    """Take a shard apart by the specification alone: (offset, bytes) of each chunk, and what lies before the index."""
    tail = data[len(data) - 16 * chunks - 4 :]
    assert struct.unpack("<I", tail[-4:])[0] == checksum(tail[:-4])
    return np.frombuffer(tail[:-4], "<u8").reshape(chunks, 2).copy(), data[: len(data) - len(tail)]


def with_index(body: bytes, index: Array) -> bytes:
    """Put a shard together again, with a checksum that is right."""
    raw = index.astype("<u8").tobytes()
    return body + raw + struct.pack("<I", checksum(raw))


def z_order(cell: Sequence[int]) -> int:
    """Return a cell's place on the Z-order curve, bit by bit."""
    return sum(((n >> bit) & 1) << (bit * len(cell) + axis) for axis, n in enumerate(cell) for bit in range(16))


def whole(array: Zarr3Array) -> Array:
    """Read all of an array."""
    return array.read(array.spec.grid.box)


def filled_chunks(spec: ArraySpec, dense: Array) -> set[tuple[int, ...]]:
    """Return the chunks that hold any bit that is set."""
    chunks = spec.grid.chunks()
    cells = map(chunks.cell, range(len(chunks)))
    return {cell for cell in cells if bits(dense[chunks.box_at(cell).slices]).any()}


def unit_of(spec: ArraySpec, cell: Sequence[int]) -> tuple[int, ...]:
    """Return the unit that a chunk lies in."""
    return tuple(i // n for i, n in zip(cell, spec.grid.chunks_per_unit, strict=True))


def all_cells(box: Box) -> list[tuple[int, ...]]:
    """Return all coordinates of a box."""
    return list(itertools.product(*map(range, box.start, box.stop)))
