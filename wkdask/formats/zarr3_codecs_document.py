"""Chains of Zarr 3 codecs as ``zarr.json`` has them, and the chain that we write.

Specification: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/index.html
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from wkdask.errors import MetadataError
from wkdask.formats.codecs import BLOSC, SHUFFLES, usual_shuffle
from wkdask.formats.shard import ShardIndex
from wkdask.formats.spec import ArraySpec
from wkdask.formats.zarr3_codecs import Blosc, Chain, Crc32c, Gzip, Packer, Zstd
from wkdask.geometry.grid import Index

CRC = {"name": "crc32c"}


class UnknownCodecError(Exception):
    """A chain has a codec, or an option of one, that is not ours to decode; its argument says which."""


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
