"""The tasks that write magnifications: tiles of a source, and joins of the parts that they leave."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from wkdask import kernels
from wkdask.arrays.mag_array import read_filled
from wkdask.geometry.grid import Box, Index, Tiling
from wkdask.operations.level import Level, path_below
from wkdask.plan import Cost, FileRecord, Journal, Receipt, stop_if_asked
from wkdask.plan.receipt import USED_UP

PUT_CHUNKS = 8
"""Chunks along each axis that are encoded between two looks at whether the user wants to stop."""

Array = np.ndarray[Any, Any]


class Source(Protocol):
    """Where the voxels of a stage's first level come from."""

    def read(self, box: Box) -> Array:
        """Return a box of the first level, Fortran-ordered in stored axes."""
        ...

    def bytes_read(self, box: Box) -> int:
        """Return the bytes of voxels that reading a box decodes."""
        ...

    def bytes_beside(self, box: Box) -> int:
        """Return the memory that reading a box takes beside its voxels."""
        ...

    @property
    def growth(self) -> str:
        """The axes along which larger boxes are read for less, the best first."""
        ...

    def needs(self, box: Box) -> Iterable[tuple[int, int]]:
        """Return (stage, number) of the tasks that write what reading a box needs."""
        ...

    def describe(self, tile: Index) -> str:
        """Return what is read in tiles of a shape, and how often, in a few words."""
        ...


@dataclass(frozen=True, slots=True)
class WriteTiles:
    """Each task reads one tile of the source and writes it, and all coarser levels that it is enough for.

    Parameters
    ----------
    source
        Gives the voxels of the first level.
    levels
        What is written from one reading, finest first.
    tile
        Shape of a tile, in voxels of the first level.
    journal
        Knows where parts lie.
    extremes
        Whether the receipts tell the least and the greatest voxel.
    """

    source: Source
    levels: tuple[Level, ...]
    tile: Index
    journal: Journal
    extremes: bool = False

    @property
    def tiles(self) -> Tiling:
        """The tiles over the first level's box."""
        return _tiling(self.levels[0].box, self.tile)

    @property
    def count(self) -> int:
        """Number of tiles."""
        return len(self.tiles)

    def _bytes(self, box: Box) -> int:
        return box.size * self.levels[0].array.spec.itemsize

    @property
    def bytes_needed(self) -> int:
        """Memory of one task: what it reads, the tile, the next coarser one, and what the kernel and the encoder take."""
        tile = Box((0,) * len(self.tile), tuple(map(min, self.tile, self.levels[0].box.shape)))
        read = self.source.bytes_read(tile)
        whole = self._bytes(tile)
        reduced = whole // 2 if len(self.levels) > 1 else 0
        kept = max((_small_bytes(level) for level in self.levels if level.keeps), default=0)
        return (read if read != whole else 0) + whole + reduced + kept + self.source.bytes_beside(tile) + (8 << 20)

    @property
    def bytes_in(self) -> int:
        """Bytes of voxels read by all tasks."""
        return self.source.bytes_read(self.levels[0].box)

    @property
    def bytes_out(self) -> int:
        """Bytes of voxels of all levels."""
        return sum(level.box.size * level.array.spec.itemsize for level in self.levels)

    @property
    def scratch_needed(self) -> int:
        """Bytes of a tile: no file of a task is larger than its voxels."""
        return self._bytes(Box((0,) * len(self.tile), tuple(map(min, self.tile, self.levels[0].box.shape))))

    @property
    def parts_bytes(self) -> int:
        """Bytes of the levels that are written in parts."""
        return sum(level.box.size * level.array.spec.itemsize for level in self.levels if not level.direct)

    @property
    def cost(self) -> Cost:
        """What all tasks cost."""
        from wkdask.operations.estimates import cost_of_tiles

        return cost_of_tiles(self)

    def moved(self, journal: Journal) -> WriteTiles | None:
        """Return the same tasks, writing to the dataset of another journal."""
        from wkdask.operations.estimates import moved_level

        return replace(self, levels=tuple(moved_level(level, self.journal, journal) for level in self.levels), journal=journal)

    def dependencies(self, number: int) -> Iterable[tuple[int, int]]:
        """Return the tasks that write what the source reads."""
        return self.source.needs(self.tiles.box(number))

    def dependencies_of(self, numbers: range) -> Iterable[tuple[int, range]]:
        """Return the same of adjacent tiles, as runs of tasks."""
        if getattr(self.source, "is_there", False):
            return ()
        together = getattr(self.source, "needs_of", None)
        boxes = self.tiles.boxes(numbers)
        if together is None:
            return ((stage, range(need, need + 1)) for box in boxes for stage, need in self.source.needs(box))
        found: Iterable[tuple[int, range]] = together(boxes)
        return found

    def consumes(self, number: int) -> Iterable[str]:  # noqa: ARG002
        """Return nothing: tiles make, they do not use up."""
        return ()

    def run(self, stage: int, number: int) -> Receipt:
        """Read, write, reduce, write, and so on."""
        start = time.perf_counter()
        stop_if_asked()
        box = self.tiles.box(number)
        block = self.source.read(box)
        low, high = _extremes(block) if self.extremes else (None, None)
        files: list[FileRecord] = []
        region = box
        for level in self.levels:
            if level is not self.levels[0]:
                block = _reduced(block, region, level)
                region = level.region(box)
            files += self._write(level, region, block, number)
        seconds = time.perf_counter() - start
        out = sum(max(0, record.size) for record in files if not record.path.endswith(".part"))  # joins count those
        return Receipt(stage, number, "done", tuple(files), seconds, self.source.bytes_read(box), out, low, high)

    def _write(self, level: Level, region: Box, block: Array, number: int) -> Iterator[FileRecord]:
        """Publish the units, or parts of units, that a block makes; anew what an attempt that failed has left."""
        for index, piece in level.pieces(region):
            unit = level.array.unit_location(index)
            place = unit if level.direct else level.part(self.journal, index, number)
            if not (level.direct or level.replaces) and unit.is_file():  # joined already, of the same parts
                yield FileRecord(path_below(self.journal.target, place), USED_UP, 0, 0)
                continue
            scratch = self.journal.scratch
            writer = level.array.unit(index, scratch) if level.direct else level.array.part(index, place, scratch)
            voxels = block[piece.relative_to(region.start).slices]
            with writer as out:
                for small, content in _with_kept(level, index, piece, voxels) if level.keeps else _cut(level, piece, voxels):
                    out.put(small, content)
            yield FileRecord.of(path_below(self.journal.target, place), writer.written)

    def retire(self, number: int) -> None:
        """Nothing is superfluous."""

    def is_intact(self, record: FileRecord) -> bool:
        """Whether a file that a task left is still what the receipt says."""
        made = (level for level in self.levels if level.made(self.journal, record, joined=level.direct))
        return any(level.is_intact(self.journal, record) for level in made)

    def describe(self) -> str:
        """Return what is read and written."""
        shape = " x ".join(str(min(t, s)) for t, s in zip(self.tile, self.levels[0].box.shape, strict=True))
        names = ", ".join(level.name + ("" if level.direct else " in parts") for level in self.levels)
        return f"tiles of {shape} from {self.source.describe(self.tile)} to {names}"


@lru_cache(64)
def _tiling(box: Box, tile: Index) -> Tiling:
    """Return the tiles over a box; remembered, as each batch asks for them."""
    return Tiling(box, tile)


def _small(region: Box, chunk: Index) -> Iterator[Box]:
    """Yield a region in pieces of a few chunks, in Z-order, until the user wants to stop."""
    from wkdask.formats.writing import in_morton_order

    pieces = Tiling(region, tuple(c * PUT_CHUNKS for c in chunk))
    for cell in in_morton_order(pieces.cells):
        stop_if_asked()
        yield pieces.box_at(cell)


def _small_bytes(level: Level) -> int:
    """Return the bytes of the largest piece that `_small` makes of a unit."""
    spec = level.array.spec
    return math.prod(min(c * PUT_CHUNKS, u) for c, u in zip(spec.chunk, spec.unit, strict=True)) * spec.itemsize


def _cut(level: Level, piece: Box, voxels: Array) -> Iterator[tuple[Box, Array]]:
    """Yield a piece of a unit in small ones, with their voxels."""
    for small in _small(piece, level.array.spec.chunk):
        yield small, voxels[small.relative_to(piece.start).slices]


def _with_kept(level: Level, index: Index, piece: Box, voxels: Array) -> Iterator[tuple[Box, Array]]:
    """Yield a piece of a unit in small ones, and what the unit that is there holds beside it beyond the level's box."""
    there = level.array.unit_location(index).is_file()
    for small, content in _cut(level, piece, voxels):
        whole = level.whole_chunks(small)
        if not there or whole == small:
            yield small, content
        else:
            merged = read_filled(level.array, whole, keep=False)
            merged[small.relative_to(whole.start).slices] = content
            yield whole, merged
    for box in level.beyond(index, piece) if there else ():
        for small in _small(box, level.array.spec.chunk):
            yield small, read_filled(level.array, small, keep=False)


def _extremes(block: Array) -> tuple[float | None, float | None]:
    """Return the least and the greatest finite voxel; integers stay exact."""
    if not block.size:
        return None, None
    if block.dtype.kind == "f":
        finite = block[np.isfinite(block)]
        return (float(finite.min()), float(finite.max())) if finite.size else (None, None)
    return int(block.min()), int(block.max())


def _reduced(block: Array, region: Box, level: Level) -> Array:
    """Reduce a block to the next level; at odd ends of the box the last voxels stand for their missing neighbours.

    Tiles end on multiples of the factor, so only the box's own ends are odd; and with factors of 2, mirroring there is the
    same as repeating the last voxel.
    """
    grown = region.coarsened(level.factor).refined(level.factor)
    if grown != region:
        ends = zip(region.start, region.stop, grown.start, grown.stop, strict=True)
        block = _padded(block, [(a - lower, upper - b) for a, b, lower, upper in ends])
    return kernels.reduce(block, level.factor, level.mode, axes=level.array.spec.axes, large=level.large)


def _padded(block: Array, ends: list[tuple[int, int]]) -> Array:
    """Repeat the voxels at the ends; Fortran order stays."""
    return np.pad(block.transpose(), ends[::-1], mode="edge").transpose()


@dataclass(frozen=True, slots=True)
class JoinUnits:
    """Each task makes one unit of its parts, without decoding them, and deletes the parts.

    Parameters
    ----------
    level
        Whose units.
    tiles
        The tiles that left the parts, over the first level of their stage.
    stage
        Number of the stage that wrote them.
    journal
        Knows where they lie.
    """

    level: Level
    tiles: Tiling
    stage: int
    journal: Journal

    @property
    def count(self) -> int:
        """Number of units."""
        return len(self.level.units)

    @property
    def bytes_needed(self) -> int:
        """Memory of one task: the index, and a piece of what is copied."""
        return (32 << 20) + 64 * math.prod(self.level.array.spec.grid.chunks_per_unit)

    @property
    def bytes_in(self) -> int:
        """No voxels are read."""
        return 0

    @property
    def bytes_out(self) -> int:
        """No voxels that were not counted already."""
        return 0

    @property
    def scratch_needed(self) -> int:
        """Bytes of a unit."""
        spec = self.level.array.spec
        return math.prod(map(min, spec.unit, self.level.box.shape)) * spec.itemsize + 16 * math.prod(spec.grid.chunks_per_unit)

    @property
    def parts_bytes(self) -> int:
        """No parts are left."""
        return 0

    @property
    def cost(self) -> Cost:
        """What all tasks cost."""
        from wkdask.operations.estimates import cost_of_joins

        return cost_of_joins(self)

    def _tiles(self, number: int) -> Iterator[int]:
        unit = self.level.array.spec.grid.unit_box(self.level.units.cell(number)).intersect(self.level.box)
        return self.tiles.covering(unit.refined(self.level.scale))

    def dependencies(self, number: int) -> Iterable[tuple[int, int]]:
        """Return the tiles that meet the unit."""
        return ((self.stage, tile) for tile in self._tiles(number))

    def dependencies_of(self, numbers: range) -> Iterable[tuple[int, range]]:
        """Return the tiles that meet adjacent units, as runs."""
        for units in self.level.units.boxes(numbers):
            for run in self.tiles.runs(units.refined(self.level.scale)):
                yield self.stage, run

    def consumes(self, number: int) -> Iterable[str]:
        """Return the parts."""
        index = self.level.units.cell(number)
        for tile in self._tiles(number):
            yield path_below(self.journal.target, self.level.part(self.journal, index, tile))

    def run(self, stage: int, number: int) -> Receipt:
        """Join and publish."""
        start = time.perf_counter()
        stop_if_asked()
        index = self.level.units.cell(number)
        parts = [self.level.part(self.journal, index, tile) for tile in self._tiles(number)]
        written = self.level.array.join(index, parts, self.journal.scratch)
        path = path_below(self.journal.target, self.level.array.unit_location(index))
        files = (FileRecord.of(path, written),)
        return Receipt(stage, number, "done", files, time.perf_counter() - start, 0, written.size)

    def retire(self, number: int) -> None:
        """Delete the parts."""
        index = self.level.units.cell(number)
        parts = [self.level.part(self.journal, index, tile) for tile in self._tiles(number)]
        parts[0].parent.delete_files([part.name for part in parts], folder=True)

    def is_intact(self, record: FileRecord) -> bool:
        """Whether a unit is still what the receipt says; what is recorded of other files, such as parts, is not of a join."""
        return self.level.made(self.journal, record, joined=True) and self.level.is_intact(self.journal, record)

    def describe(self) -> str:
        """Return what is joined."""
        return f"parts of {self.level.name} to units of {' x '.join(map(str, self.level.array.spec.unit))}"
