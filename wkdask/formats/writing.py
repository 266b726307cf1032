"""Writing units and parts of units, for formats whose units are shards of encoded chunks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from wkdask.errors import InputError
from wkdask.formats.codecs import encoder
from wkdask.formats.ranged import chunk_view, read_chunk
from wkdask.formats.shard import MISSING, ChunkFile, morton_order
from wkdask.formats.spec import ArraySpec, Written
from wkdask.geometry.grid import Box, Index
from wkdask.storage import Location
from wkdask.storage.document import exclusively
from wkdask.storage.location import explained

if TYPE_CHECKING:
    from wkdask.formats.zarr3 import Zarr3Array


class UnitFile:
    """The writer of one unit, or of a part of one; see `wkdask.formats.spec.UnitWriter`.

    After the ``with`` block `written` says what was published. Chunks that are zero throughout are not stored; a unit without
    any chunk leaves no file, and removes the one that was there.
    """

    def __init__(self, spec: ArraySpec, index: Index, place: Location, scratch: Location | None, *, part: bool) -> None:
        self._spec, self._index, self._place, self._scratch, self._part = spec, index, place, scratch, part
        self._per_unit = spec.grid.chunks_per_unit
        self._stack = ExitStack()
        self.written = Written(0, 0, 0, 0)

    def __enter__(self) -> UnitFile:
        self._encode = encoder(self._spec.codec)
        out = self._stack.enter_context(self._place.writer(self._scratch))
        self._file = ChunkFile(out, math.prod(self._spec.grid.chunks_per_unit))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._stack:
            if kind is not None:
                return
            if self._part:
                self.written = self._file.publish_part()
            elif self._spec.chunk == self._spec.unit:
                self.written = self._file.publish_chunk()
            else:
                self.written = self._file.publish_shard()
        if not self.written.size and self._place.is_file():
            self._place.delete()

    def put(self, region: Box, block: np.ndarray[Any, Any]) -> None:
        """Encode and append whole chunks.

        Parameters
        ----------
        region
            Voxels of the array. Chunks that it does not fill are filled up with 0, so it must be all that is written of them.
        block
            Its voxels, in stored axes.
        """
        chunk = self._spec.chunk
        require_fit(block, region, self._spec.dtype)
        stored = block.transpose()
        buffer = np.zeros(chunk[::-1], self._spec.dtype)
        flat = buffer.reshape(-1).view(np.uint8)
        with explained(self._place, "written"):
            for cell in in_morton_order(region.coarsened(chunk)):
                start = [i * c - a for i, c, a in zip(cell, chunk, region.start, strict=True)][::-1]
                piece = stored[tuple([slice(max(0, a), a + n) for a, n in zip(start, buffer.shape, strict=True)])]
                if piece.shape == buffer.shape:
                    np.copyto(buffer, piece)
                else:
                    buffer[...] = 0
                    buffer[tuple([slice(max(0, -a), max(0, -a) + n) for a, n in zip(start, piece.shape, strict=True)])] = piece
                if _any(flat):
                    self._file.append(self.number(cell), self._encode(flat.data))

    def put_encoded(self, chunk: Sequence[int], data: bytes | memoryview) -> None:
        """Append a chunk, by its coordinate in the array, as it lies on disk."""
        with explained(self._place, "written"):
            self._file.append(self.number(chunk), data)

    def number(self, cell: Sequence[int]) -> int:
        """Return a chunk's number in its unit, by its coordinate in the array."""
        number = 0
        for i, n, u in zip(cell, self._per_unit, self._index, strict=True):
            if i // n != u:
                raise InputError(f"Chunk {tuple(cell)} is not of unit {self._index}. Give each unit its own chunks.")
            number = number * n + i % n
        return number


def require_fit(block: np.ndarray[Any, Any], box: Box, dtype: str) -> None:
    """Refuse a block that has another shape or dtype than what it is written to."""
    if block.shape != box.shape or block.dtype != dtype:
        raise InputError(f"A block of {block.shape} {block.dtype} is not one of {box.shape} {dtype}. Cut or cast it.")


def _any(flat: np.ndarray[Any, np.dtype[np.uint8]]) -> bool:
    """Whether any bit is set; -0.0 counts as a value."""
    return bool(flat[0]) or bool((flat.view(np.uint64) if flat.size % 8 == 0 else flat).any())


def merge_unit(array: Zarr3Array, index: Index, box: Box, block: np.ndarray[Any, Any]) -> None:
    """Write the voxels of a box that lie in one unit, and keep all others of the unit.

    Writers of one unit take turns, as far as the store allows, so that neighbours lose nothing.
    """
    grid = array.spec.grid
    place = array.unit_location(index)
    chunks = grid.chunks(grid.unit_box(index).intersect(grid.box))
    with exclusively(array.scratch, place.url):
        entries = array.entries(index)
        with array.unit(index, array.scratch) as out:
            for cell in in_morton_order(chunks.cells):
                region = grid.chunks().box_at(cell)
                hit = region.intersect(box)
                row = None if entries is None else entries[out.number(cell)]
                stored = row is not None and row[0] != MISSING
                if not hit.size and not stored:
                    continue
                at = (int(row[0]), int(row[1])) if stored and row is not None else (0, 0)
                if not hit.size:
                    out.put_encoded(cell, place.read_bytes(at[0], sum(at)))
                    continue
                voxels = np.zeros(region.shape, array.spec.dtype, order="F")
                if stored and hit != region:
                    whole = chunk_view(array.spec, read_chunk(array.spec, place, cell, *at))
                    voxels[...] = whole[tuple(map(slice, region.shape))]
                voxels[hit.relative_to(region.start).slices] = block[hit.relative_to(box.start).slices]
                out.put(region, voxels)


def in_morton_order(cells: Box) -> list[Index]:
    """Return all coordinates of a box of cells, along the Z-order curve."""
    found = list(itertools.product(*map(range, cells.start, cells.stop)))
    return [found[i] for i in morton_order(found)]
