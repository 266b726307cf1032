"""Chains of Zarr 3 codecs that are only read: shards in any place of a chain, and codecs that numcodecs or zarr-python have.

Specification: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/index.html

Compressors are undone here, each into no more bytes than the array's document calls for; zarr-python, which stops at no number
of bytes, is only given the codecs before them.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from wkdask.errors import DamagedError, MetadataError, UnfitError
from wkdask.formats.chunk_codecs import COMPRESSORS, unpack
from wkdask.formats.shard import MISSING, ShardIndex
from wkdask.formats.spec import Codec
from wkdask.formats.zarr3_codecs import Chain, Encode, Packer, worst_case
from wkdask.formats.zarr3_codecs_document import (
    PACKERS,
    UnknownCodecError,
    parse_chain,
    parse_codec_object,
    parse_index,
    parse_order,
)
from wkdask.formats.zarr3_writer import chunk_number
from wkdask.geometry.grid import Box, Grid, Index
from wkdask.storage import Location

MAX_WHOLE_BYTES = 1 << 31
"""Of what was compressed as a whole, and must be decoded as one."""
NUMCODECS = "numcodecs."
SAME_SIZE = frozenset(("adler32", "crc32", "crc32c", "fletcher32", "jenkins_lookup3", "shuffle"))
"""Codecs of numcodecs from bytes to bytes that make hardly more of less."""
ENTRY_BYTES = 256
"""Of an index, and of what compressors may add, for each chunk of a shard."""


@dataclass(frozen=True, slots=True)
class Numcodec:
    """A codec of numcodecs from bytes to bytes; see `wkdask.formats.zarr3_codecs.Packer`."""

    kind: str
    options: str = "{}"

    @property
    def codec(self) -> Codec | None:
        """What it is as a compressor: none that we write."""
        return None

    def encoder(self) -> Encode:
        """Refuse: it is only read.

        Raises
        ------
        UnfitError
            Always.
        """
        raise UnfitError(f"Zarr 3 arrays with the codec {NUMCODECS}{self.kind} can be read, not written. Copy the array first.")

    def decode(self, data: bytes | memoryview, most: int) -> bytes | memoryview:
        """Return what was encoded."""
        if self.kind in COMPRESSORS:
            return unpack(self.kind, data, most)
        import numcodecs

        try:
            found = numcodecs.get_codec({"id": self.kind, **json.loads(self.options)}).decode(bytes(data))
            return memoryview(found).cast("B")
        except (ValueError, TypeError, RuntimeError) as error:
            raise DamagedError(f"{self.kind} data does not decode: {str(error)[:200]}") from error


@dataclass(frozen=True, slots=True)
class Source:
    """Bytes of a file, or those that a part of it was decoded to."""

    place: Location
    start: int
    stop: int
    data: bytes | memoryview | None = None

    def read(self, start: int, stop: int) -> bytes | memoryview:
        """Return some of the bytes, counted from the first of these."""
        start, stop = self.start + start, min(self.start + stop, self.stop)
        return self.place.read_bytes(start, stop) if self.data is None else memoryview(self.data)[start:stop]

    def within(self, offset: int, length: int) -> Source:
        """Return a part."""
        return replace(self, start=self.start + offset, stop=self.start + offset + length)

    @property
    def size(self) -> int:
        """Bytes."""
        return self.stop - self.start

    def unpacked(self, packers: tuple[Packer, ...], most: int) -> Source:
        """Return what compressed bytes stand for, which may be ``most`` bytes."""
        if self.size > worst_case(most):
            raise DamagedError(f"{self.size} bytes are too many for the {most} of a chunk")
        data = self.read(0, self.size)
        for left in range(len(packers) - 1, -1, -1):
            data = packers[left].decode(data, worst_case(most) if left else most)
        return Source(self.place, 0, len(data), data)


@dataclass(frozen=True, slots=True)
class Plain:
    """A chunk without shards whose codecs before the compressors are ours."""

    chain: Chain

    def read(self, source: Source, shape: Index, box: Box, fill: float) -> np.ndarray[Any, Any]:  # noqa: ARG002
        """Return a box of the voxels of a chunk of a shape."""
        size = math.prod(shape) * np.dtype(self.chain.dtype).itemsize
        data = source.unpacked(self.chain.packers, size).data
        return replace(self.chain, packers=()).decode(data or b"", shape)[box.slices]


@dataclass(frozen=True, slots=True)
class General:
    """A chunk whose codecs before the compressors are those of zarr-python."""

    codecs: str
    data_type: str
    packers: tuple[Packer, ...]

    def read(self, source: Source, shape: Index, box: Box, fill: float) -> np.ndarray[Any, Any]:  # noqa: ARG002
        """Return a box of the voxels of a chunk of a shape."""
        from wkdask.formats.zarr3_general import decode_general

        size = math.prod(shape) * 8  # a filter may have made wider voxels
        data = source.unpacked(self.packers, worst_case(size)).data
        return decode_general(json.loads(self.codecs), self.data_type, bytes(data or b""), shape)[box.slices]


@dataclass(frozen=True, slots=True)
class Shards:
    """Chunks in a shard, which may itself be a transposed chunk, compressed, or a chunk of another shard."""

    order: Index
    data_type: str
    chunk: Index
    index: ShardIndex
    inner: Plain | General | Shards
    packers: tuple[Packer, ...]

    def read(self, source: Source, shape: Index, box: Box, fill: float) -> np.ndarray[Any, Any]:
        """Return a box of the voxels of a shard of a shape; chunks that it lacks have the fill value."""
        if self.packers:
            source = source.unpacked(self.packers, self.most(shape))
        shape, box = _turned(shape, self.order), Box(_turned(box.start, self.order), _turned(box.stop, self.order))
        grid = Grid(shape, self.chunk, shape)
        per_unit = grid.chunks_per_unit
        chunks = math.prod(per_unit)
        start, stop = self.index.span(chunks, source.size)
        entries = self.index.parse(bytes(source.read(start, stop)), chunks, source.size, "its shard")
        out = np.full(box.shape, fill, "u1" if self.data_type == "bool" else self.data_type)
        tiles = grid.chunks(box)
        for cell in tiles.cells_of(box):
            offset, length = map(int, entries[chunk_number(cell, per_unit)])
            if offset != int(MISSING):
                hit = tiles.box_at(cell)
                origin = tuple(i * c for i, c in zip(cell, self.chunk, strict=True))
                voxels = self.inner.read(source.within(offset, length), self.chunk, hit.relative_to(origin), fill)
                out[hit.relative_to(box.start).slices] = voxels
        return out.transpose(np.argsort(self.order))

    def most(self, shape: Index) -> int:
        """Return a bound of the bytes of a shard of a shape."""
        shape = _turned(shape, self.order)
        chunks = math.prod(n // c for n, c in zip(shape, self.chunk, strict=True))
        within = self.inner.most(self.chunk) if isinstance(self.inner, Shards) else 0
        own = 2 * math.prod(self.chunk) * np.dtype(self.data_type).itemsize
        return chunks * (max(own, within) + ENTRY_BYTES)


Reader = Plain | General | Shards


def parse_reader(codecs: list[Any], shape: Index, data_type: str) -> Reader:
    """Return what reads chunks of a shape.

    Raises
    ------
    MetadataError
        Where the codecs are not ones that are read within bounds.
    """
    try:
        return _parse(codecs, shape, data_type)
    except UnknownCodecError as error:
        raise MetadataError(f"the codecs include {error}, which is not known here.") from None


def _parse(codecs: list[Any], shape: Index, data_type: str) -> Reader:
    found = [parse_codec_object(codec) for codec in codecs]
    packers: list[Packer] = []
    while found and (packer := _packer(*found[-1])):
        packers.insert(0, packer)
        found.pop()
    if not found:
        raise MetadataError("codecs have none named 'bytes', expected one that makes bytes of voxels.")
    *before, (name, options) = found
    turns = all(kind == "transpose" for kind, _ in before)
    if name == "sharding_indexed" and turns:
        return _shards([turn for _, turn in before], options, shape, data_type, tuple(packers))
    if name == "bytes" and turns:
        return Plain(replace(parse_chain(codecs[: len(found)], len(shape), data_type), packers=tuple(packers)))
    for kind, _ in found:
        if kind in PACKERS or kind == "sharding_indexed" or kind.removeprefix(NUMCODECS) in COMPRESSORS:
            others = ", ".join(other for other, _ in found if other != kind)
            raise MetadataError(f"{kind} lies between {others}, so that what it decodes to has no bound.")
    return General(json.dumps(codecs[: len(found)]), data_type, tuple(packers))


def _packer(name: str, options: dict[str, Any]) -> Packer | None:
    """Return what a codec from bytes to bytes is; None where it is another."""
    if name == "blosc" and options.get("cname") == "snappy":
        return Numcodec("blosc")
    if name in PACKERS:
        return PACKERS[name](options)
    kind = name.removeprefix(NUMCODECS)
    if kind != name and kind in COMPRESSORS | SAME_SIZE:
        return Numcodec(kind, json.dumps({key: value for key, value in options.items() if key != "id"}))
    return None


def _shards(
    turns: list[dict[str, Any]], options: dict[str, Any], shape: Index, data_type: str, packers: tuple[Packer, ...]
) -> Shards:
    order = tuple(range(len(shape)))
    for turn in turns:
        order = _turned(order, parse_order(turn, len(shape)))
    inside, chunk = _turned(shape, order), options["chunk_shape"]
    if not isinstance(chunk, list) or len(chunk) != len(shape) or not all(type(n) is int and n > 0 for n in chunk):
        raise MetadataError(f"an inner chunk_shape is {str(chunk)[:80]}, expected {len(shape)} whole numbers from 1 up.")
    if any(n % c for n, c in zip(inside, chunk, strict=True)):
        raise MetadataError(f"the inner chunk_shape {chunk} does not divide the shard's {inside}.")
    index = parse_index(options["index_codecs"], options.get("index_location", "end"))
    found = Shards(order, data_type, tuple(chunk), index, parse_reader(options["codecs"], tuple(chunk), data_type), packers)
    if packers and found.most(shape) > MAX_WHOLE_BYTES:
        raise MetadataError(f"a shard of {shape} {data_type} that is compressed as a whole is above {MAX_WHOLE_BYTES} bytes.")
    return found


def _turned(numbers: Index, order: Index) -> Index:
    return tuple(numbers[axis] for axis in order)
