"""The tasks that copy magnifications: files as they are, encoded chunks in other shards, boxes of voxels."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

from wkdask.arrays.mag_array import read_filled
from wkdask.errors import ConflictError
from wkdask.formats import ArrayHandle, Zarr3Array, find_format
from wkdask.formats.shard import MISSING
from wkdask.formats.writing import in_morton_order
from wkdask.formats.zarr3_writer import chunk_number
from wkdask.geometry.grid import Box, Index
from wkdask.operations.level import Level, path_below
from wkdask.operations.tiles import Array
from wkdask.plan import Cost, FileRecord, Journal, Receipt, stop_if_asked
from wkdask.storage import Location, Stat, copy_file
from wkdask.storage.copying import share_store

UNIT_TASKS = 1024
"""Tasks that copy the files of a magnification, at most, as far as each then copies no more than that many."""
STORE_TASKS = 128
"""The same where a store is asked: what became of each task is an object there."""
WHOLE_BYTES = 16 << 20
"""Of a file on a store that is copied by one request."""
INSIDE_BYTES = 1 << 20
"""Of a chunk that is fetched for its digest where the store copies it, although the ends would do."""
MOST_CHUNKS = 1 << 18
"""Chunks of a unit whose coordinates are listed in memory."""


def same_files(source: ArrayHandle, target: ArrayHandle, data_format: str) -> bool:
    """Whether the file of a unit of one array would do as the same unit of another one, byte by byte."""
    a, b = source.spec, target.spec
    cut = find_format(data_format).exact and a.shape != b.shape  # files end where the array does
    alike = (a.dtype, a.axes, a.chunk, a.unit, a.codec, a.offset) == (b.dtype, b.axes, b.chunk, b.unit, b.codec, b.offset)
    return alike and not cut and _same_fill(source, target) and _same_layout(source, target)


def fetches_whole(source: ArrayHandle, *, shared: bool = False) -> bool:
    """Whether an array lies on a store, in files that one request may fetch whole, as they are what they hold.

    Where source and target share a store, which copies by itself, large ones are not whose digest is that of their ends.
    """
    large = Box((0,) * len(source.spec.unit), source.spec.unit).size * source.spec.itemsize > INSIDE_BYTES
    few = shared and large and getattr(source, "inspects_ends", False)
    return not source.location.is_local and getattr(source, "has_whole_files", False) and not few


def _same_fill(source: ArrayHandle, target: ArrayHandle) -> bool:
    return repr(source.spec.fill + 0) == repr(target.spec.fill + 0)  # NaN is NaN


def _same_layout(source: ArrayHandle, target: ArrayHandle) -> bool:
    """Whether two handles agree in all but place and spec."""
    return bool(type(source) is type(target) and replace(source, location=target.location, spec=target.spec) == target)  # type: ignore[type-var]


def same_chunks(source: ArrayHandle, target: ArrayHandle) -> bool:
    """Whether encoded chunks of one array would do as those of another one, whose units are others."""
    if not (isinstance(source, Zarr3Array) and isinstance(target, Zarr3Array)):
        return False
    a, b = source.spec, target.spec
    alike = (a.dtype, a.axes, a.chunk, a.codec) == (b.dtype, b.axes, b.chunk, b.codec) and not any((*a.offset, *b.offset))
    few = all(_chunks(array) <= MOST_CHUNKS for array in (source, target))
    chain = source.layout.chain
    return alike and few and chain is not None and chain == target.layout.chain and _same_fill(source, target)


def _chunks(array: ArrayHandle) -> int:
    return Box((0,) * len(array.spec.shape), array.spec.grid.chunks_per_unit).size


@dataclass(frozen=True, slots=True)
class FromArray:
    """A source of tiles: the voxels of a magnification that is there, in whichever order of axes.

    Parameters
    ----------
    array
        Where they lie.
    axes
        Those that are asked for, in their order. An axis ``c`` that only one of both has is one channel.
    channel
        The first of the layer's channels in the array.
    """

    array: ArrayHandle
    axes: tuple[str, ...]
    channel: int = 0

    is_there = True
    """No task of a plan writes what is read."""

    def _own(self, box: Box) -> Box:
        """Return a box along the array's axes."""
        ends = {axis: (a, b) for axis, a, b in zip(self.axes, box.start, box.stop, strict=True)}
        first, last = ends.get("c", (0, 1))
        ends["c"] = first + self.channel, last + self.channel
        own = [ends[axis] for axis in self.array.spec.axes]
        return Box(tuple(a for a, _ in own), tuple(b for _, b in own))

    def read(self, box: Box) -> Array:
        """Return a box in the axes that are asked for: a view of what is read, where they are others than the array's."""
        block = read_filled(self.array, self._own(box), keep=False)
        own = self.array.spec.axes
        if own == self.axes:
            return block
        there = [axis for axis in self.axes if axis in own]
        gone = [i for i, axis in enumerate(own) if axis not in self.axes]
        block = block.transpose([*(own.index(axis) for axis in there), *gone])
        return block.reshape(box.shape)

    def bytes_read(self, box: Box) -> int:
        """Return the bytes of voxels of a box."""
        return box.size * self.array.spec.itemsize

    def bytes_beside(self, box: Box) -> int:
        """Return what decoding chunks takes: as much again where their order in memory is another one."""
        return 0 if self.array.spec.axes == self.axes else self.bytes_read(box)

    @property
    def growth(self) -> str:
        """Tiles may grow along all axes of space."""
        return "xyz"

    def needs(self, box: Box) -> Iterable[tuple[int, int]]:  # noqa: ARG002
        """Return nothing: the voxels are there."""
        return ()

    def describe(self, tile: Index) -> str:  # noqa: ARG002
        """Return what is read."""
        return f"mag {self.array.location.name}"


@dataclass(frozen=True, slots=True)
class CopyUnits:
    """Each task copies the files of some units; what they hold beyond the level's box comes along.

    Parameters
    ----------
    source
        The array whose files are copied.
    level
        What is written.
    journal
        Knows where unfinished files lie.
    """

    source: ArrayHandle
    level: Level
    journal: Journal

    @property
    def _run(self) -> int:
        """How many units a task copies."""
        most = UNIT_TASKS if self.source.location.is_local and self.level.array.location.is_local else STORE_TASKS
        return min(UNIT_TASKS, -(-len(self.level.units) // most)) or 1

    @property
    def count(self) -> int:
        """Number of tasks."""
        return -(-len(self.level.units) // self._run)

    @property
    def _fetches_whole(self) -> bool:
        return fetches_whole(self.source, shared=share_store(self.source.location, self.level.array.location))

    @property
    def bytes_needed(self) -> int:
        """Memory of one task: what a file's index takes, or a piece of a file."""
        spec = self.source.spec
        whole = min(WHOLE_BYTES, 2 * Box((0,) * len(spec.unit), spec.unit).size * spec.itemsize)
        return (20 << 20) + 64 * _chunks(self.source) + (3 * whole if self._fetches_whole else 0)

    @property
    def bytes_in(self) -> int:
        """Bytes of voxels that are copied."""
        return self.level.box.size * self.level.array.spec.itemsize

    @property
    def bytes_out(self) -> int:
        """The same."""
        return self.bytes_in

    @property
    def scratch_needed(self) -> int:
        """Bytes of a unit."""
        spec = self.level.array.spec
        return Box((0,) * len(spec.unit), spec.unit).size * spec.itemsize + 16 * _chunks(self.source)

    @property
    def parts_bytes(self) -> int:
        """No parts are left."""
        return 0

    @property
    def cost(self) -> Cost:
        """What all tasks cost."""
        from wkdask.operations.estimates import cost_of_copies

        return cost_of_copies(self)

    def moved(self, journal: Journal) -> Self:
        """Return the same tasks, writing to the dataset of another journal."""
        from wkdask.operations.estimates import moved_level

        return replace(self, level=moved_level(self.level, self.journal, journal), journal=journal)

    def _units(self, number: int) -> Iterator[Index]:
        units = self.level.units
        return (units.cell(n) for n in range(number * self._run, min((number + 1) * self._run, len(units))))

    def dependencies(self, number: int) -> Iterable[tuple[int, int]]:  # noqa: ARG002
        """Return nothing: the files are there."""
        return ()

    def consumes(self, number: int) -> Iterable[str]:  # noqa: ARG002
        """Return nothing: the source stays."""
        return ()

    def run(self, stage: int, number: int) -> Receipt:
        """Copy and publish."""
        start = time.perf_counter()
        files = tuple(self._copied(index) for index in self._units(number))
        boxes = (self.level.array.spec.grid.unit_box(index).intersect(self.level.box) for index in self._units(number))
        read = sum(box.size for box in boxes) * self.level.array.spec.itemsize
        return Receipt(stage, number, "done", files, time.perf_counter() - start, read, sum(f.size for f in files))

    def _copied(self, index: Index) -> FileRecord:
        stop_if_asked()
        place, target = self.source.unit_location(index), self.level.array.unit_location(index)
        shared = share_store(place, target)
        if fetches_whole(self.source, shared=shared):
            answer = place.read_range(0, WHOLE_BYTES)
            if answer is None:
                return self._absent(target)
            if answer.size == len(answer.data):  # else it is a large one, which is copied piece by piece
                data, digest = self.source.whole_file(index, answer.data)  # type: ignore[attr-defined]
                if not shared:
                    return self._published(target, data, digest)
                if data is answer.data and answer.version:  # else the store keeps it compressed, or does not say what it is
                    return self._copied_as_seen(place, target, Stat(answer.size, 0, answer.version), digest)
        found = self.source.inspect(index)  # DamagedError where it is none
        if found is None:
            return self._absent(target)
        seen = place.stat() if shared else None
        same = seen is None or seen.stamp == found.stamp
        record = self._copied_as_seen(place, target, seen, found.digest) if same else None
        if record is None or record.size != found.size:
            raise ConflictError(f"{place} was changed while it was copied. Stop its writers, and run the same again.")
        return record

    def _copied_as_seen(self, place: Location, target: Location, seen: Stat | None, digest: int) -> FileRecord:
        return self._recorded(target, copy_file(place, target, self.journal.scratch, stop_if_asked, seen), digest)

    def _published(self, target: Location, data: bytes, digest: int) -> FileRecord:
        with target.writer(self.journal.scratch) as out:
            out.write(data)
            return self._recorded(target, out.publish(), digest)

    def _recorded(self, target: Location, stat: Stat, digest: int) -> FileRecord:
        return FileRecord(path_below(self.journal.target, target), stat.size, stat.stamp, digest)

    def _absent(self, target: Location) -> FileRecord:
        if target.is_file():
            target.delete()
        return self._recorded(target, Stat(0, 0), 0)

    def retire(self, number: int) -> None:
        """Nothing is superfluous."""

    def is_intact(self, record: FileRecord) -> bool:
        """Whether a file that a task left is still what the receipt says."""
        return self.level.made(self.journal, record, joined=True) and self.level.is_intact(self.journal, record)

    def describe(self) -> str:
        """Return what is copied."""
        return f"files of mag {self.source.location.name} as they are, {self._run} units a task, to {self.level.name}"


@dataclass(frozen=True, slots=True)
class CopyChunks(CopyUnits):
    """Each task makes some units of encoded chunks, none of which is decoded; the source is in other shards."""

    def _copied(self, index: Index) -> FileRecord:
        array, scratch = self.level.array, self.journal.scratch
        grid = array.spec.grid
        chunks = grid.chunks(grid.unit_box(index).intersect(self.level.box))
        known: dict[Index, Any] = {}
        writer = array.unit(index, scratch)
        with writer as out:
            for n, cell in enumerate(in_morton_order(chunks.cells)):
                if not n % 256:
                    stop_if_asked()
                data = self._encoded(cell, known)
                if data is not None:
                    out.put_encoded(cell, data)
        return FileRecord.of(path_below(self.journal.target, array.unit_location(index)), writer.written)

    def _encoded(self, cell: Index, known: dict[Index, Any]) -> bytes | None:
        """Return a chunk of the source as it lies on disk; None where it is not stored."""
        source, per_unit = self.source, self.source.spec.grid.chunks_per_unit
        unit = tuple(i // n for i, n in zip(cell, per_unit, strict=True))
        if unit not in known:
            if len(known) >= 64:
                known.clear()
            known[unit] = source.entries(unit) if isinstance(source, Zarr3Array) else None
        if known[unit] is None:
            return None
        offset, size = known[unit][chunk_number([i % n for i, n in zip(cell, per_unit, strict=True)], per_unit)].tolist()
        return None if offset == int(MISSING) else source.unit_location(unit).read_bytes(offset, offset + size)

    @property
    def bytes_needed(self) -> int:
        """Memory of one task: indexes of 64 units, coordinates of a unit's chunks, and a chunk."""
        spec = self.source.spec
        chunk = Box((0,) * len(spec.chunk), spec.chunk).size * spec.itemsize
        return (8 << 20) + 1024 * _chunks(self.source) + 512 * _chunks(self.level.array) + 2 * chunk

    def describe(self) -> str:
        """Return what is copied."""
        return f"encoded chunks of mag {self.source.location.name} to {self.level.name}"
