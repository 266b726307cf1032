"""Chains of Zarr 3 codecs: how a chunk's voxels become bytes, and bytes voxels again.

Specification: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/index.html

A chain is array to array (``transpose``), then array to bytes (``bytes``), then bytes to bytes (compressors and checksums).
Chains of other codecs are read by libraries that know them, and not written. `zarr3_codecs_document` has them as JSON.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Protocol

import numpy as np

from wkdask.errors import DamagedError
from wkdask.formats.codecs import SHUFFLES, blosc_encoder, decode_frames, decode_up_to, encoder, zstd_encoder
from wkdask.formats.shard import checksum
from wkdask.formats.spec import Codec
from wkdask.geometry.grid import Index

Encode = Callable[[Any], bytes | memoryview]


class Packer(Protocol):
    """A codec from bytes to bytes."""

    @property
    def codec(self) -> Codec | None:
        """What it is as a compressor; None where it is none."""
        ...

    def encoder(self) -> Encode:
        """Return the function that encodes, for one thread."""
        ...

    def decode(self, data: bytes | memoryview, most: int) -> bytes | memoryview:
        """Return what was encoded, which is ``most`` bytes at most; no more memory is taken."""
        ...


@dataclass(frozen=True, slots=True)
class Zstd:
    """The codec ``zstd``."""

    level: int
    checksum: bool

    @property
    def codec(self) -> Codec:
        """What it is as a compressor."""
        return Codec("zstd", self.level)

    def encoder(self) -> Encode:
        """Return the function that encodes."""
        return zstd_encoder(self.level, checksum=self.checksum)

    def decode(self, data: bytes | memoryview, most: int) -> bytes | memoryview:
        """Return what was encoded."""
        return decode_up_to(self.codec, data, most)


@dataclass(frozen=True, slots=True)
class Gzip:
    """The codec ``gzip``."""

    level: int

    @property
    def codec(self) -> Codec:
        """What it is as a compressor."""
        return Codec("gzip", self.level)

    def encoder(self) -> Encode:
        """Return the function that encodes."""
        return encoder(self.codec)

    def decode(self, data: bytes | memoryview, most: int) -> bytes | memoryview:
        """Return what was encoded."""
        return decode_up_to(self.codec, data, most)


@dataclass(frozen=True, slots=True)
class Blosc:
    """The codec ``blosc``."""

    name: str
    level: int
    shuffle: str
    itemsize: int
    block: int

    @property
    def codec(self) -> Codec:
        """What it is as a compressor."""
        return Codec(f"blosc-{self.name}", self.level)

    def encoder(self) -> Encode:
        """Return the function that encodes."""
        return blosc_encoder(self.name, self.level, SHUFFLES.index(self.shuffle), self.itemsize, self.block)

    def decode(self, data: bytes | memoryview, most: int) -> bytes | memoryview:
        """Return what was encoded."""
        return decode_up_to(self.codec, data, most)


@dataclass(frozen=True, slots=True)
class Crc32c:
    """The codec ``crc32c``: a checksum behind the bytes."""

    codec: Codec | None = None

    def encoder(self) -> Encode:
        """Return the function that encodes."""
        return lambda data: b"".join((data, struct.pack("<I", checksum(data))))

    def decode(self, data: bytes | memoryview, most: int) -> bytes | memoryview:  # noqa: ARG002 - it only becomes less
        """Return what was encoded, if the checksum is right."""
        body = memoryview(data)[:-4]
        if len(data) < 4 or struct.unpack("<I", data[-4:])[0] != checksum(body):
            raise DamagedError("its checksum is wrong")
        return body


@dataclass(frozen=True, slots=True)
class Chain:
    """All codecs of a chunk.

    Parameters
    ----------
    order
        The array's axes as they lie in the bytes, the slowest first.
    dtype
        Of voxels in the bytes, in numpy's spelling with byte order, such as ``<u2``; ``|b1`` is read and written as uint8.
    packers
        From bytes to bytes, in the order of encoding.
    """

    order: Index
    dtype: str
    packers: tuple[Packer, ...] = ()

    @property
    def codec(self) -> Codec | None:
        """The first compressor."""
        return next((packer.codec for packer in self.packers if packer.codec), None)

    @property
    def blosc(self) -> bool:
        """Whether chunks begin with a header of Blosc."""
        outer = [packer for packer in self.packers if not isinstance(packer, Crc32c)]
        return bool(outer) and isinstance(outer[-1], Blosc)

    @property
    def by_frames(self) -> bool:
        """Whether chunks are frames of zstd, many small ones of which are decoded in half the time of one after the other."""
        return len(self.packers) == 1 and isinstance(self.packers[0], Zstd)

    @property
    def hidden_blosc(self) -> bool:
        """Whether headers of Blosc, which say how much memory to take, are themselves compressed."""
        return sum(isinstance(packer, Blosc) for packer in self.packers) > self.blosc

    def encoder(self, mask: np.ndarray[Any, Any] | None = None) -> Encode:
        """Return the function that encodes the bytes of a chunk's voxels, little endian, in the order of the chain.

        ``mask`` is one unsigned number as wide as a voxel, whose bits are flipped first.
        """
        steps: list[Encode] = [packer.encoder() for packer in self.packers]
        width = np.dtype(self.dtype).itemsize
        swapped = self.dtype.startswith(">")
        if mask is not None or swapped:
            steps.insert(0, partial(_flipped, mask=mask, kind=f"u{width}", swapped=swapped))
        if len(steps) == 1:
            return steps[0]
        return partial(_in_turn, steps)

    def decode(self, data: bytes | memoryview, chunk: Index) -> np.ndarray[Any, Any]:
        """Return the voxels of a chunk, in stored axes.

        Raises
        ------
        DamagedError
            Where the data does not decode, fails a checksum, or has another size.
        """
        size = math.prod(chunk) * np.dtype(self.dtype).itemsize
        for left in range(len(self.packers) - 1, -1, -1):
            data = self.packers[left].decode(data, worst_case(size) if left else size)
        if len(data) != size:
            raise DamagedError(f"a chunk decodes to {len(data)} bytes instead of {size}")
        return self._voxels(data, chunk)

    def decode_all(self, data: Sequence[bytes | memoryview], chunk: Index) -> list[np.ndarray[Any, Any]]:
        """Return the voxels of several chunks of which `by_frames` is true; what lies behind a chunk's frame is passed over.

        Raises
        ------
        DamagedError
            Where one of them does not decode, or has another size; it does not tell which.
        """
        unpacked = decode_frames(data, math.prod(chunk) * np.dtype(self.dtype).itemsize)
        return [self._voxels(one, chunk) for one in unpacked]

    def _voxels(self, data: Any, chunk: Index) -> np.ndarray[Any, Any]:
        kind, shape, axes = _as_stored(self.order, self.dtype, chunk)
        array: np.ndarray[Any, Any] = np.frombuffer(data, kind)
        if self.dtype == "|b1":
            array = (array != 0).view("u1")
        return array.reshape(shape).transpose(axes)


@lru_cache(maxsize=64)
def _as_stored(order: Index, dtype: str, chunk: Index) -> tuple[np.dtype[Any], Index, Index]:
    """Return dtype and shape of a chunk as it is stored, and the order of its axes in which they are the array's."""
    kind = np.dtype("u1" if dtype == "|b1" else dtype)
    shape = tuple(chunk[axis] for axis in order)
    return kind, shape, tuple(np.argsort(order).tolist())


def worst_case(size: int) -> int:
    """Return a bound of what any codec makes of noise of ``size`` bytes."""
    return 2 * size + 4096


def _in_turn(steps: list[Encode], data: bytes | memoryview) -> bytes | memoryview:
    for step in steps:
        data = step(data)
    return data


def _flipped(data: memoryview, *, mask: np.ndarray[Any, Any] | None, kind: str, swapped: bool) -> memoryview:
    voxels = np.frombuffer(data, kind)
    if mask is not None:
        voxels = voxels ^ mask
    return (voxels.byteswap() if swapped else voxels).view("u1").data
