"""Chains of Zarr 3 codecs: how a chunk's voxels become bytes, and bytes voxels again.

Specification: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/index.html

A chain is array to array (``transpose``), then array to bytes (``bytes``), then bytes to bytes (compressors and checksums).
Chains of other codecs are read by libraries that know them, and not written.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Protocol

import numpy as np

from wkdask.errors import DamagedError, MetadataError
from wkdask.formats.codecs import (
    BLOSC,
    SHUFFLES,
    blosc_encoder,
    decode_frames,
    decode_up_to,
    encoder,
    usual_shuffle,
    zstd_encoder,
)
from wkdask.formats.shard import ShardIndex, checksum
from wkdask.formats.spec import ArraySpec, Codec
from wkdask.geometry.grid import Index

Encode = Callable[[Any], bytes | memoryview]
CRC = {"name": "crc32c"}


class UnknownCodecError(Exception):
    """A chain has a codec, or an option of one, that is not ours to decode; its argument says which."""


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


# ------------------------------------------------------------------------------------------------- documents


def own_chain(spec: ArraySpec) -> Chain:
    """Return the chain that we write: in C order where x is the last axis, as OME-NGFF has it, else in Fortran order."""
    count = len(spec.shape)
    order = tuple(range(count)) if spec.axes[-1] == "x" else tuple(range(count))[::-1]
    packers: tuple[Packer, ...] = ()
    if spec.codec:
        name, level = spec.codec.name, 5 if spec.codec.level is None else spec.codec.level
        kind, _, inner = name.partition("-")
        blosc = Blosc(inner, level, SHUFFLES[usual_shuffle(spec.itemsize)], spec.itemsize, 0)
        packer: dict[str, Packer] = {"zstd": Zstd(level, True), "gzip": Gzip(level), "blosc": blosc}
        packers = (packer[kind],)
    return Chain(order, np.dtype(spec.dtype).newbyteorder("<").str, packers)


def chain_document(chain: Chain) -> list[dict[str, Any]]:
    """Return the codecs of a chain as ``zarr.json`` has them."""
    turned = list(chain.order) != sorted(chain.order)
    transpose = [{"name": "transpose", "configuration": {"order": list(chain.order)}}] if turned else []
    return [*transpose, bytes_document(chain.dtype), *map(_packer_document, chain.packers)]


def bytes_document(dtype: str) -> dict[str, Any]:
    """Return the codec from voxels, of a dtype with byte order, to bytes."""
    endian = {"<": "little", ">": "big"}.get(dtype[0])
    return {"name": "bytes", "configuration": {"endian": endian}} if endian else {"name": "bytes"}


def _packer_document(packer: Packer) -> dict[str, Any]:
    match packer:
        case Zstd(level, checked):
            return {"name": "zstd", "configuration": {"level": level, "checksum": checked}}
        case Gzip(level):
            return {"name": "gzip", "configuration": {"level": level}}
        case Blosc(name, level, shuffle, itemsize, block):
            options = {"cname": name, "clevel": level, "shuffle": shuffle, "typesize": itemsize, "blocksize": block}
            return {"name": "blosc", "configuration": options}
    return CRC


def parse_chain(codecs: list[Any], axes: int, data_type: str) -> Chain:
    """Return the chain that a document describes.

    Raises
    ------
    UnknownCodecError
        Where it has a codec that is not ours to decode.
    MetadataError
        Where an option of one that we know is not what it can be.
    """
    order, kind = tuple(range(axes)), None
    packers: list[Packer] = []
    for codec in codecs:
        name, options = parse_codec_object(codec)
        if kind is None and name == "transpose":
            order = tuple([order[axis] for axis in parse_order(options, axes)])
        elif kind is None and name == "bytes":
            kind = _bytes_dtype(options, data_type)
        elif kind is None or name not in PACKERS:
            raise UnknownCodecError(name)
        else:
            packers.append(PACKERS[name](options))
    if kind is None:
        raise MetadataError("codecs have none named 'bytes', expected one that makes bytes of voxels.")
    return Chain(order, kind, tuple(packers))


def parse_index(codecs: list[Any], location: str) -> ShardIndex:
    """Return how the index of a shard lies in its file; errors are those of `parse_chain`."""
    chain = parse_chain(codecs, 2, "uint64")
    if chain.order != (0, 1) or chain.packers not in ((), (Crc32c(),)):
        raise UnknownCodecError("sharding_indexed with such index_codecs")
    if location not in ("start", "end"):
        raise MetadataError(f"index_location is {str(location)[:80]!r}, expected 'start' or 'end'.")
    return ShardIndex(location == "start", bool(chain.packers), chain.dtype[0])


def parse_codec_object(codec: Any) -> tuple[str, dict[str, Any]]:
    """Return the name and the options of a codec; a name alone stands for one without options."""
    if isinstance(codec, str):
        return codec, {}
    name, options = codec["name"], codec.get("configuration") or {}
    if not isinstance(name, str) or not isinstance(options, dict):
        raise MetadataError(f"a codec is {str(codec)[:80]}, expected an object with a name and a configuration.")
    return name[:80], options


def _known(name: str, options: dict[str, Any], *known: str) -> None:
    for key in options:
        if key not in known:
            raise UnknownCodecError(f"{name} with the option {key[:80]!r}")


def _number(name: str, options: dict[str, Any], key: str, usual: int | None, span: tuple[int, int]) -> int:
    value = options.get(key, usual)
    if type(value) is not int or not span[0] <= value <= span[1]:
        what = "level" if key.endswith("level") else key
        raise MetadataError(f"the {what} of {name} is {str(value)[:80]}, expected a whole number from {span[0]} to {span[1]}.")
    return value


def parse_order(options: dict[str, Any], axes: int) -> Index:
    """Return the order of a transpose; ``C`` and ``F`` are what drafts of the specification had."""
    _known("transpose", options, "order")
    order = options.get("order")
    if order in ("C", "F"):
        return tuple(range(axes))[:: 1 if order == "C" else -1]
    if not isinstance(order, list) or not all(type(axis) is int for axis in order) or sorted(order) != list(range(axes)):
        raise MetadataError(f"the order of transpose is {str(order)[:80]}, expected each of {axes} axes once.")
    return tuple(order)


def _bytes_dtype(options: dict[str, Any], data_type: str) -> str:
    _known("bytes", options, "endian")
    dtype, endian = np.dtype(data_type), options.get("endian")
    if endian not in ("little", "big") and (endian is not None or dtype.itemsize > 1):
        raise MetadataError(f"the endian of bytes is {str(endian)[:80]!r}, expected 'little' or 'big'.")
    return dtype.newbyteorder(">" if endian == "big" else "<").str


def _zstd(options: dict[str, Any]) -> Packer:
    _known("zstd", options, "level", "checksum")
    return Zstd(_number("zstd", options, "level", 0, (-131072, 22)), bool(options.get("checksum", False)))


def _gzip(options: dict[str, Any]) -> Packer:
    _known("gzip", options, "level")
    return Gzip(_number("gzip", options, "level", 5, (0, 9)))


def _blosc(options: dict[str, Any]) -> Packer:
    _known("blosc", options, "cname", "clevel", "shuffle", "typesize", "blocksize")
    name, shuffle = options.get("cname"), options.get("shuffle", "noshuffle")
    if name not in BLOSC:
        raise UnknownCodecError(f"blosc with {str(name)[:80]}")
    if shuffle not in SHUFFLES:
        raise MetadataError(f"the shuffle of blosc is {str(shuffle)[:80]!r}, expected one of {', '.join(SHUFFLES)}.")
    level = _number("blosc", options, "clevel", 5, (0, 9))
    itemsize, block = (_number("blosc", options, *of) for of in (("typesize", 1, (1, 255)), ("blocksize", 0, (0, 2**31 - 1))))
    return Blosc(name, level, shuffle, itemsize, block)


def _crc32c(options: dict[str, Any]) -> Packer:
    _known("crc32c", options)
    return Crc32c()


PACKERS: dict[str, Callable[[dict[str, Any]], Packer]] = {"zstd": _zstd, "gzip": _gzip, "blosc": _blosc, "crc32c": _crc32c}
