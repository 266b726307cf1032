"""Chunked volumes as a source of tiles, which are made of whole chunks of the source where they can be."""

from __future__ import annotations

import itertools
import math
import os
from dataclasses import dataclass

import numpy as np

from wkdask.geometry.grid import Box, Index
from wkdask.images import Stack, Volume
from wkdask.operations.source import FromImages, Orientation, said_times
from wkdask.operations.values import ValueMap

Triple = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class FromVolume(FromImages):
    """A source of tiles: a volume, read as images are, but in boxes of its chunks instead of whole rows."""

    stack: Volume  # type: ignore[assignment]

    def bytes_beside(self, box: Box) -> int:
        """Memory for the chunks that are being decoded, and for the box in the order that it is stored in."""
        before = np.dtype(self.stack.dtype).itemsize
        x, y, z = box.shape[-3:]
        rows, columns = (x, y) if self.orientation.swap_xy else (y, x)
        chunks = math.prod(-(-n // c) + 1 for n, c in zip((z, rows, columns), self.stack.chunk, strict=True))
        decoded = min(chunks, os.cpu_count() or 1) * self.stack.chunk_bytes * 2  # and encoded
        # zero-argument super() does not work in classes with slots before Python 3.14
        return FromImages.bytes_beside(self, box) + decoded + box.size * before

    @property
    def growth(self) -> str:
        """Chunks lie anywhere, so tiles may grow along all axes."""
        return "yxz" if self.orientation.swap_xy else "xyz"

    def describe(self, tile: Index) -> str:
        """Return what is read, and how often each chunk is decoded."""
        chunk, begin, extent = self._grid()
        times = math.prod(_decodes(*along) for along in zip(chunk, tile[-3:], begin, extent, strict=True))
        return f"chunks of {' x '.join(map(str, chunk))}, each decoded {said_times(times)},"

    def least_tile(self, chunk: Triple, most: int) -> Triple:
        """Return the tile along x, y, z that is read best: whole chunks of the layer, and where there is room of the volume.

        Parameters
        ----------
        chunk
            Of the layer.
        most
            Bytes that a tile may take. Where whole chunks of both take more, chunks of the volume are decoded several times.
        """
        chunks, begin, extent = self._grid()
        voxel = self.stack.channels * np.dtype(self.stack.dtype).itemsize
        sizes = [{t, -(-c // t) * t, math.lcm(c, t), -(-n // t) * t} for t, c, n in zip(chunk, chunks, extent, strict=True)]

        def cost(tile: tuple[int, ...]) -> tuple[bool, float, int]:
            held = math.prod(map(min, tile, extent)) * voxel
            times = math.prod(_decodes(*along) for along in zip(chunks, tile, begin, extent, strict=True))
            return held > most, held if held > most else times, held

        x, y, z = min(itertools.product(*map(sorted, sizes)), key=cost)
        return x, y, z

    def _grid(self) -> tuple[Triple, Triple, Triple]:
        """Return, along x, y, z of the layer: the volume's chunks, where one of them begins, and the volume's extent."""
        chunk, extent = self.orientation.extent(self.stack.chunk), self.orientation.extent(self.stack.shape)
        begin = tuple(o + flip * n for o, n, flip in zip(self.origin, extent, self.orientation.flip, strict=True))
        return chunk, (begin[0], begin[1], begin[2]), extent


def source_of(
    stack: Stack, orientation: Orientation = Orientation(), origin: Triple = (0, 0, 0), values: ValueMap | None = None
) -> FromImages:
    """Return the source of tiles of images, or of a volume; parameters as of `FromImages`."""
    if isinstance(stack, Volume):
        return FromVolume(stack, orientation, origin, values)
    return FromImages(stack, orientation, origin, values)


def _decodes(chunk: int, tile: int, begin: int, extent: int) -> float:
    """Return how often chunks along an axis are decoded, on average over a long one.

    Parameters
    ----------
    chunk, tile
        Voxels of a chunk of the source, and of a tile; tiles begin at 0.
    begin
        Where a chunk begins.
    extent
        Voxels of the source.

    Examples
    --------
    >>> _decodes(64, 64, 0, 999), _decodes(64, 32, 0, 999), _decodes(32, 64, 10, 999), _decodes(32, 64, 0, 60)
    (1.0, 2.0, 1.5, 1.0)
    """
    step = math.gcd(chunk, tile)
    inside = not begin % step
    return 1.0 if inside and tile >= extent else 1 + (chunk - (step if inside else 0)) / tile
