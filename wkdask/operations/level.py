"""Levels: the magnifications that a plan writes, and where the files of each lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from wkdask.errors import DamagedError
from wkdask.formats import ArrayHandle
from wkdask.formats.shard import read_part
from wkdask.geometry.grid import Box, Grid, Index, Tiling
from wkdask.plan import FileRecord, Journal
from wkdask.storage import Location


@dataclass(frozen=True, slots=True)
class Level:
    """One magnification that is being written.

    Parameters
    ----------
    name
        Layer and mag, such as ``color/2-2-1``.
    array
        Its array.
    box
        Its bounding box, in its own voxels, for each stored axis.
    factor
        How many voxels of the level before, along each stored axis, make one of this; all 1 for the first.
    scale
        The same, from the first level of the stage that writes it.
    mode
        How they are reduced.
    large
        Whether there is enough to reduce for compiled kernels to pay; None: as the process finds out.
    direct
        Whether each unit is written whole by one task; else in parts, which are joined.
    domain
        Where only a part is written: the whole bounding box.
    replaces
        Whether units are there before the plan begins, so that one that is there need not be of the plan.
    keeps
        Whether such units keep what they hold beyond the box. Levels that are made of finer ones need not.
    """

    name: str
    array: ArrayHandle
    box: Box
    factor: Index
    mode: str
    large: bool | None = None
    scale: Index = ()
    direct: bool = True
    domain: Box | None = None
    replaces: bool = False
    keeps: bool = False

    def within(self, scale: Index, tile: Index, over: Box) -> Level:
        """Return the level as a stage with such tiles over ``over`` writes it."""
        own = tuple(t // s for t, s in zip(tile, scale, strict=True))
        unit = self.array.spec.unit
        cells = zip(own, unit, tile, over.start, over.stop, strict=True)
        direct = all(o % u == 0 or (start // t == (stop - 1) // t) for o, u, t, start, stop in cells)
        return replace(self, scale=scale, direct=direct)

    @property
    def units(self) -> Tiling:
        """The units that the box meets."""
        return _units(self.array.spec.grid, self.box)

    def region(self, tile: Box) -> Box:
        """Return the voxels of this level that a tile of the stage's first level makes."""
        return tile.coarsened(self.scale).intersect(self.box)

    def pieces(self, region: Box) -> Iterator[tuple[Index, Box]]:
        """Yield each unit that a region meets, with the region's voxels in it."""
        for index in self.array.spec.grid.units(region).cells_of():
            yield index, region.intersect(self.array.spec.grid.unit_box(index))

    def whole_chunks(self, region: Box) -> Box:
        """Return a region grown to whole chunks of the array."""
        chunk, grid = self.array.spec.chunk, self.array.spec.grid
        return region.coarsened(chunk).refined(chunk).intersect(grid.box)

    def beyond(self, index: Index, piece: Box) -> Iterator[Box]:
        """Yield, in boxes of whole chunks, what lies beside a piece of a unit and beyond the level's box.

        For pieces that cover what the box and the unit have in common, those boxes cover what else the unit has.
        """
        unit = self.array.spec.grid.unit_box(index).intersect(self.array.spec.grid.box)
        start = tuple(u if a == low else a for u, a, low in zip(unit.start, piece.start, self.box.start, strict=True))
        stop = tuple(u if b == high else b for u, b, high in zip(unit.stop, piece.stop, self.box.stop, strict=True))
        inner = self.whole_chunks(piece)
        for axis, (a, b) in enumerate(zip(inner.start, inner.stop, strict=True)):
            for first, last in ((start[axis], a), (b, stop[axis])):
                if first < last:
                    head, tail = (*inner.start[:axis], first), (*inner.stop[:axis], last)
                    yield Box((*head, *start[axis + 1 :]), (*tail, *stop[axis + 1 :]))

    def part(self, journal: Journal, index: Sequence[int], tile: int) -> Location:
        """Return where a task leaves its part of a unit."""
        return journal.parts / self.name.rpartition("/")[2] / ".".join(map(str, index)) / f"{tile}.part"

    def made(self, journal: Journal, record: FileRecord, *, joined: bool) -> bool:
        """Whether a record is of a unit of this level, or where not ``joined``, of a part of one."""
        parts = journal.parts / self.name.rpartition("/")[2]
        return record.path.startswith(path_below(journal.target, self.array.location if joined else parts) + "/")

    def is_intact(self, journal: Journal, record: FileRecord) -> bool:
        """Whether a unit's or part's file still has the size, the time and the index that were recorded."""
        place = journal.target / record.path
        stat = place.stat()
        if stat is None or not record.size:
            return stat is None and not record.size
        if stat.size != record.size or (stat.stamp and stat.stamp != record.stamp):
            return False
        try:
            if record.path.endswith(".part"):
                read_part(place)
                return True
            index = self.array.unit_of(record.path.removeprefix(path_below(journal.target, self.array.location) + "/"))
            found = self.array.inspect(index) if index else None
        except DamagedError:
            return False
        return found is not None and found.digest == record.digest


@lru_cache(256)
def _units(grid: Grid, box: Box) -> Tiling:
    """Return the units that a box meets; remembered, as each batch asks for them."""
    return grid.units(box)


def path_below(folder: Location, place: Location) -> str:
    """Return a place's path as seen from a folder that it lies in."""
    return place.url.removeprefix(folder.url).lstrip("/")
