"""Which file of a sharded Neuroglancer volume holds a chunk.

Specification: https://github.com/google/neuroglancer/blob/master/src/datasource/precomputed/sharded.md
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wkdask.errors import MetadataError

MASK = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Sharding:
    """How chunks lie in shards, each of which holds minishards."""

    preshift_bits: int
    minishard_bits: int
    shard_bits: int
    hash: str
    minishard_index_encoding: str = "raw"
    data_encoding: str = "raw"

    @classmethod
    def parse(cls, found: object) -> Sharding:
        """Return what the ``sharding`` of a scale says.

        Raises
        ------
        MetadataError
            Where it is not what the specification says.
        """
        if not isinstance(found, dict) or found.get("@type") != "neuroglancer_uint64_sharded_v1":
            raise MetadataError(f"sharding is {str(found)[:80]}, expected an object of type 'neuroglancer_uint64_sharded_v1'.")
        preshift, minishard, shard = (_bits(found, name) for name in ("preshift_bits", "minishard_bits", "shard_bits"))
        if minishard > 32 or minishard + shard > 64:
            raise MetadataError(f"minishard_bits {minishard} and shard_bits {shard} are more than 32, or 64 together.")
        name = _text(found, "hash", ("identity", "murmurhash3_x86_128"))
        index, data = (_text(found, f"{what}_encoding", ("raw", "gzip"), "raw") for what in ("minishard_index", "data"))
        return cls(preshift, minishard, shard, name, index, data)

    def to_json(self) -> dict[str, Any]:
        """Return it as a scale has it."""
        return {"@type": "neuroglancer_uint64_sharded_v1"} | {name: getattr(self, name) for name in self.__slots__}

    def file_name(self, chunk: Sequence[int], counts: Sequence[int]) -> str:
        """Return the file that holds a chunk, by its coordinate along x, y, z; ``counts`` are the chunks along these.

        Examples
        --------
        >>> Sharding(0, 0, 2, "identity").file_name((1, 0, 0), (2, 2, 2))
        '1.shard'
        """
        shard = (self._hashed(morton_code(chunk, counts)) >> self.minishard_bits) & ((1 << self.shard_bits) - 1)
        return f"{shard:0{-(-self.shard_bits // 4)}x}.shard"

    def minishard_of(self, chunk: Sequence[int], counts: Sequence[int]) -> tuple[int, int]:
        """Return the number of a chunk, and that of the minishard in its shard that holds it.

        Examples
        --------
        >>> Sharding(0, 1, 2, "identity").minishard_of((1, 1, 0), (2, 2, 2))
        (3, 1)
        """
        number = morton_code(chunk, counts)
        return number, self._hashed(number) & ((1 << self.minishard_bits) - 1)

    def _hashed(self, number: int) -> int:
        number >>= self.preshift_bits
        return murmur_hash(number) if self.hash == "murmurhash3_x86_128" else number


def _bits(found: dict[str, Any], name: str) -> int:
    value = found.get(name)
    if type(value) is not int or not 0 <= value <= 64:
        raise MetadataError(f"{name} is {str(value)[:80]}, expected a whole number from 0 to 64.")
    return value


def _text(found: dict[str, Any], name: str, known: tuple[str, ...], usual: str = "") -> str:
    value = found.get(name, usual)
    if value not in known:
        raise MetadataError(f"{name} is {str(value)[:80]!r}, expected one of {', '.join(known)}.")
    return str(value)


def morton_code(cell: Sequence[int], counts: Sequence[int]) -> int:
    """Return the compressed Morton code of a cell: bits that no cell of the grid has are left out.

    Examples
    --------
    >>> morton_code((1, 1, 2), (2, 2, 4)), morton_code((3, 0, 1), (4, 1, 2))
    (11, 7)
    """
    code = at = 0
    for bit in range(max((n - 1).bit_length() for n in counts)):
        for i, n in zip(cell, counts, strict=True):
            if 1 << bit < n:
                code |= ((i >> bit) & 1) << at
                at += 1
    return code


def murmur_hash(number: int) -> int:
    """Return the lower 8 bytes of MurmurHash3_x86_128 of 8 bytes, with seed 0.

    Algorithm: https://github.com/aappleby/smhasher/blob/master/src/MurmurHash3.cpp, in the public domain.
    """
    low = _rotated((number & MASK) * 0x239B961B, 15) * 0xAB0E9789 & MASK
    high = _rotated((number >> 32 & MASK) * 0xAB0E9789, 16) * 0x38B34AE5 & MASK
    words = _mixed([low ^ 8, high ^ 8, 8, 8])
    words = _mixed([_final(word) for word in words])
    return words[0] | words[1] << 32


def _rotated(word: int, by: int) -> int:
    word &= MASK
    return (word << by | word >> (32 - by)) & MASK


def _mixed(words: list[int]) -> list[int]:
    first = sum(words) & MASK
    return [first, *((word + first) & MASK for word in words[1:])]


def _final(word: int) -> int:
    word = (word ^ word >> 16) * 0x85EBCA6B & MASK
    word = (word ^ word >> 13) * 0xC2B2AE35 & MASK
    return word ^ word >> 16
