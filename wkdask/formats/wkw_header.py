"""The 16 bytes that begin ``header.wkw`` and every data file of a WKW array.

Specification: https://github.com/scalableminds/webknossos-wrap#file-format (``WKW``, version 1)

====== ==== ==================================================================================
Offset Size Content
====== ==== ==================================================================================
0      3    ``WKW``
3      1    version, 1
4      1    low nibble: log2 of a block's edge in voxels; high: log2 of a file's edge in blocks
5      1    block type: 1 raw, 2 LZ4, 3 LZ4HC
6      1    voxel type
7      1    bytes of a voxel, all channels together
8      8    where the first block begins; 0 in ``header.wkw``
====== ==== ==================================================================================
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

import numpy as np

from wkdask.errors import DamagedError, InputError
from wkdask.formats.spec import ArraySpec, Codec
from wkdask.geometry.grid import Index

LAYOUT = struct.Struct("<3s5BQ")
SIZE = LAYOUT.size
DTYPES = ("uint8", "uint16", "uint32", "uint64", "float32", "float64", "int8", "int16", "int32", "int64")
"""By voxel type, from 1 up."""
CODECS = (None, Codec("lz4"), Codec("lz4hc", 9))
"""By block type, from 1 up."""
MAX_BLOCK_BYTES = 0x7E000000
"""More than that LZ4 does not compress; and a block is read or decoded as one."""
MAX_TABLE_BLOCKS = 1 << 24
"""Blocks of a compressed file, whose jump table is held in memory."""
MAX_EDGE = 1 << 32
"""Positions of voxels are unsigned numbers of 32 bits."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a header says.

    Parameters
    ----------
    block, blocks
        A block's edge in voxels, and a file's edge in blocks.
    dtype, channels
        Of the voxels.
    kind
        Block type: 1 raw, 2 LZ4, 3 LZ4HC.
    offset
        Where in the file the first block begins; 0 in ``header.wkw``.

    Examples
    --------
    >>> header = Header(32, 32, "uint8", 3, 1)
    >>> header.pack().hex()
    '574b5701550101030000000000000000'
    """

    block: int
    blocks: int
    dtype: str
    channels: int
    kind: int
    offset: int = 0

    @property
    def itemsize(self) -> int:
        """Bytes of a voxel, all channels together."""
        return int(np.dtype(self.dtype).itemsize) * self.channels

    @property
    def block_bytes(self) -> int:
        """Bytes of a decoded block."""
        return self.block**3 * self.itemsize

    @property
    def block_count(self) -> int:
        """Blocks of a file."""
        return self.blocks**3

    @property
    def compressed(self) -> bool:
        """Whether blocks are compressed, and a jump table says where they end."""
        return self.kind != 1

    @property
    def data_start(self) -> int:
        """Where the first block of a data file begins, after header and jump table."""
        return SIZE + 8 * self.block_count if self.compressed else SIZE

    def in_file(self) -> Header:
        """Return the header of data files."""
        return replace(self, offset=self.data_start)

    def pack(self) -> bytes:
        """Return the 16 bytes."""
        edges = (self.block.bit_length() - 1) | (self.blocks.bit_length() - 1) << 4
        return LAYOUT.pack(b"WKW", 1, edges, self.kind, DTYPES.index(self.dtype) + 1, self.itemsize, self.offset)

    @classmethod
    def parse(cls, data: bytes, where: object) -> Header:
        """Read the 16 bytes that a file begins with.

        Raises
        ------
        DamagedError
            Naming the file, what was found and what was expected.
        """
        if len(data) < SIZE:
            raise DamagedError(f"{where} is cut off: it has {len(data)} bytes, a WKW header has {SIZE}. Write it again.")
        magic, version, edges, kind, voxel, itemsize, offset = LAYOUT.unpack(data[:SIZE])
        if magic != b"WKW" or version != 1:
            raise DamagedError(f"{where} begins with {magic!r} and version {version}, expected b'WKW' and 1. Restore the file.")
        if not 1 <= kind <= len(CODECS):
            raise DamagedError(f"{where} has block type {kind}, expected 1, 2 or 3. Restore the file.")
        if not 1 <= voxel <= len(DTYPES):
            raise DamagedError(f"{where} has voxel type {voxel}, expected 1 to {len(DTYPES)}. Restore the file.")
        dtype = DTYPES[voxel - 1]
        channels, rest = divmod(itemsize, np.dtype(dtype).itemsize)
        if rest or not channels:
            raise DamagedError(
                f"{where} has voxels of {itemsize} bytes, expected a multiple of those of {dtype}. Restore the file."
            )
        header = cls(1 << (edges & 15), 1 << (edges >> 4), dtype, channels, kind, offset)
        problem = header.problem()
        if problem:
            raise DamagedError(f"{where} has {problem}. Restore the file, or write the array in smaller blocks.")
        return header

    def problem(self) -> str:
        """Return what makes such files unusable for us, or nothing."""
        if self.block_bytes > MAX_BLOCK_BYTES:
            return f"blocks of {self.block}³ voxels of {self.itemsize} bytes, expected at most {MAX_BLOCK_BYTES} bytes"
        if self.compressed and self.block_count > MAX_TABLE_BLOCKS:
            return f"{self.block_count} compressed blocks in a file, expected at most {MAX_TABLE_BLOCKS}"
        return ""

    def require_like(self, other: Header, where: object) -> None:
        """Refuse a data file whose header does not fit the array's, but for the block type, which each file has of its own.

        Raises
        ------
        DamagedError
            Naming the file, what was found and what was expected.
        """
        if not self.is_like(other):
            found, wanted = (replace(header, kind=1, offset=0) for header in (self, other))
            raise DamagedError(f"{where} holds {found}, but {wanted} was expected by header.wkw. Restore the file.")

    def is_like(self, other: Header) -> bool:
        """Whether headers differ in the block type alone, which each file has of its own."""
        return replace(self, kind=1, offset=0) == replace(other, kind=1, offset=0)

    def __str__(self) -> str:
        return f"{self.channels} x {self.dtype} in {self.blocks}³ blocks of {self.block}³"

    def spec(self, shape: Index) -> ArraySpec:
        """Return the spec of an array of such files."""
        chunk, unit = self.block, self.block * self.blocks
        chunks = (self.channels, chunk, chunk, chunk)
        return ArraySpec(shape, self.dtype, tuple("cxyz"), chunks, (self.channels, unit, unit, unit), CODECS[self.kind - 1])

    @classmethod
    def of(cls, spec: ArraySpec) -> Header:
        """Return the header of an array.

        Raises
        ------
        InputError
            Where WKW can not store it.
        """
        if len(spec.axes) != 4 or spec.axes[0] != "c":
            raise InputError(f"WKW stores the axes c, x, y, z, not {', '.join(spec.axes)}. Use zarr3 for others.")
        if spec.dtype not in DTYPES:
            raise InputError(f"{spec.dtype} voxels can not be stored in WKW; use one of {', '.join(DTYPES)}.")
        if any(spec.offset) or spec.fill:
            raise InputError(
                f"WKW arrays begin at the dataset's origin, and are 0 where nothing is stored; asked for was an offset of "
                f"{spec.offset} and a fill of {spec.fill}. Use zarr3 for another fill, and an offset of 0."
            )
        codecs = ["none", *(codec.name for codec in CODECS if codec)]
        name = spec.codec.name if spec.codec else "none"
        if name not in codecs:
            raise InputError(f"WKW has no codec {name}; use one of {', '.join(codecs)}.")
        channels, chunk, unit = spec.chunk[0], spec.chunk[1], spec.unit[1]
        if not channels == spec.unit[0] == spec.shape[0] or not 1 <= channels * spec.itemsize <= 255:
            raise InputError(
                f"{spec.shape[0]} channels of {spec.dtype} in chunks of {channels} can not be stored in WKW, "
                "which keeps all channels in one chunk, at most 255 bytes a voxel. Split the layer."
            )
        for edges, least in ((spec.chunk[1:], 1), (spec.unit[1:], chunk)):
            edge = edges[0]
            if len(set(edges)) > 1 or edge & (edge - 1) or not least <= edge <= least << 15:
                raise InputError(
                    f"Chunks of {spec.chunk[1:]} in files of {spec.unit[1:]} can not be stored in WKW: both must "
                    "be cubes, of powers of two up to 32768 chunks and voxels. Choose others."
                )
        if max(spec.shape[1:]) > MAX_EDGE:
            raise InputError(
                f"An array of {spec.shape[1:]} voxels is too large for WKW, whose positions end at {MAX_EDGE}. Use zarr3."
            )
        header = cls(chunk, unit // chunk, spec.dtype, channels, codecs.index(name) + 1)
        if problem := header.problem():
            raise InputError(f"WKW can not have {problem}. Choose smaller chunks or files.")
        return header
