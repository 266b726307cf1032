"""Pages that can only be decoded whole, and are too large to be: decoded to scratch, once if possible, and read from there."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from wkdask.errors import StorageError
from wkdask.formats import Written
from wkdask.geometry.grid import Box, Index, Tiling
from wkdask.images import ImageStack
from wkdask.operations.source import FromImages
from wkdask.operations.tiles import Array, WriteTiles
from wkdask.plan import Cost, FileRecord, Journal, Receipt, Stage, stop_if_asked
from wkdask.storage import Location

WRITE_AND_READ = 0.5
"""What writing and reading a page costs, as a share of decoding it."""


@dataclass(frozen=True, slots=True)
class SpooledStack:
    """A stack of images whose planes lie raw in a folder; it is read as the stack itself is.

    Parameters
    ----------
    stack
        The images.
    folder
        Where ``SpoolPages`` leaves the planes.
    """

    stack: ImageStack
    folder: Location

    decoded_bytes = 0
    rows_alone = columns_alone = True
    row_step = column_step = 1

    def __getattr__(self, name: str) -> Any:
        """Be the stack in all else."""
        return getattr(object.__getattribute__(self, "stack"), name)

    def decodes(self, band_rows: int) -> float:  # noqa: ARG002
        """Return 1: decoding is behind us."""
        return 1.0

    def plane(self, number: int) -> Location:
        """Return the file of a plane; time is slower than z."""
        return self.folder / f"{number}.raw"

    def read(self, z0: int, z1: int, y0: int, y1: int, x0: int = 0, x1: int | None = None, *, t: int = 0) -> Array:
        """Return rows and columns of planes, as `ImageStack.read` does."""
        depth, _, width = self.stack.shape
        dtype = np.dtype(self.stack.dtype)
        row = width * self.stack.channels
        out = np.empty((z1 - z0, y1 - y0, (width if x1 is None else x1) - x0, self.stack.channels), dtype)
        for z in range(z0, z1):
            place = self.plane(t * depth + z)
            try:
                rows = np.fromfile(place.local_path, dtype, row * (y1 - y0), offset=y0 * row * dtype.itemsize)
            except OSError as error:
                raise StorageError(f"{place} can not be read: {error}. Run the same command again.") from error
            if rows.size != row * (y1 - y0):
                raise StorageError(f"{place} ends too early. Run the same command again; it will be made anew.")
            out[z - z0] = rows.reshape(y1 - y0, width, self.stack.channels)[:, x0:x1]
        return out


@dataclass(frozen=True, slots=True)
class FromSpool(FromImages):
    """The source of tiles that reads spooled planes."""

    is_there = False

    def needs(self, box: Box) -> Iterable[tuple[int, int]]:
        """Return the tasks of the first stage that decode the planes of a box."""
        return ((stage, number) for stage, run in self.needs_of((box,)) for number in run)

    def needs_of(self, boxes: Iterable[Box]) -> Iterable[tuple[int, range]]:
        """Return the same for several boxes, as runs of adjacent tasks."""
        depth = self.stack.shape[0]
        for box in boxes:
            z0, z1 = self._in_stack(box)[2]
            for t in range(box.start[0], box.stop[0]) if len(box.start) == 5 else range(1):
                yield 0, range(t * depth + z0, t * depth + z1)

    def describe(self, tile: Index) -> str:  # noqa: ARG002
        """Return what is read."""
        return "spooled pages,"


@dataclass(frozen=True, slots=True)
class SpoolPages:
    """Each task decodes one plane and writes its voxels as they are.

    Parameters
    ----------
    spooled
        The images, and where their planes lie.
    rows
        How many of a plane's are decoded and written at once: all, or as many as there is memory for.
    scratch
        Where a plane lies until it is whole: what a run that was killed has left there, the next one deletes.
    """

    spooled: SpooledStack
    rows: int
    scratch: Location

    @property
    def stack(self) -> ImageStack:
        """The images."""
        return self.spooled.stack

    @property
    def count(self) -> int:
        """Number of planes."""
        return self.stack.shape[0] * self.stack.times

    @property
    def plane_bytes(self) -> int:
        """Bytes of a plane's voxels."""
        return self.stack.bytes // max(1, self.count)

    @property
    def bytes_needed(self) -> int:
        """Memory of one task: some rows, and what decoding the plane takes."""
        return self.rows * row_bytes(self.stack) + self.stack.decoded_bytes + (8 << 20)

    @property
    def bytes_in(self) -> int:
        """Bytes of all voxels."""
        return self.stack.bytes

    @property
    def bytes_out(self) -> int:
        """Nothing that stays."""
        return 0

    @property
    def scratch_needed(self) -> int:
        """Bytes of a plane."""
        return self.plane_bytes

    @property
    def parts_bytes(self) -> int:
        """Bytes of all planes: those of a run of slices go when it is written, but nothing says when that is."""
        return self.stack.bytes

    @property
    def cost(self) -> Cost:
        """What all tasks cost."""
        from wkdask.operations.estimates import cost_of_spool

        return cost_of_spool(self)

    def moved(self, journal: Journal) -> SpoolPages:
        """Return the same tasks, writing to the spool of another journal."""
        return SpoolPages(SpooledStack(self.stack, journal.spool), self.rows, journal.scratch)

    def dependencies(self, number: int) -> Iterable[tuple[int, int]]:  # noqa: ARG002
        """Return nothing: images are there."""
        return ()

    def consumes(self, number: int) -> Iterable[str]:  # noqa: ARG002
        """Return nothing."""
        return ()

    def run(self, stage: int, number: int) -> Receipt:
        """Decode and write."""
        start = time.perf_counter()
        depth, height, _ = self.stack.shape
        t, z = divmod(number, depth)
        with self.spooled.plane(number).writer(self.scratch) as out:
            for y in range(0, height, self.rows):
                stop_if_asked()
                out.write(self.stack.read(z, z + 1, y, min(y + self.rows, height), t=t).reshape(-1).view(np.uint8).data)
            stat = out.publish()
        record = FileRecord.of(spool_path(number), Written(stat.size, stat.stamp, 0, 1))
        return Receipt(stage, number, "done", (record,), time.perf_counter() - start, self.plane_bytes)

    def retire(self, number: int) -> None:
        """Nothing is superfluous."""

    def is_intact(self, record: FileRecord) -> bool:
        """Whether a plane still has the size and time that it was written with."""
        stat = (self.spooled.folder / record.path.rpartition("/")[2]).stat()
        return stat is not None and (stat.size, stat.stamp) == (record.size, record.stamp)

    def describe(self) -> str:
        """Return what is done, and why."""
        times = -(-self.stack.shape[1] // self.rows)
        return f"{self.count} pages decoded {'once' if times == 1 else f'{times} times'} to {self.spooled.folder}"


@dataclass(frozen=True, slots=True)
class DropPages:
    """Each task deletes the planes that one run of slices needed, when all of its tiles are written.

    Parameters
    ----------
    write
        The stage's operation that reads the planes.
    stage
        Its number.
    """

    write: WriteTiles
    stage: int

    bytes_needed = bytes_in = bytes_out = scratch_needed = parts_bytes = 0

    @property
    def source(self) -> FromSpool:
        """What reads the planes."""
        source: FromSpool = self.write.source  # type: ignore[assignment]
        return source

    @property
    def runs(self) -> Tiling:
        """Runs of slices: tiles over whole planes."""
        tiles = self.write.tiles
        whole = [max(t, b) if axis in "cxy" else t for axis, t, b in zip(self._axes, tiles.shape, tiles.over.stop, strict=True)]
        return Tiling(tiles.over, tuple(whole))

    @property
    def _axes(self) -> tuple[str, ...]:
        return self.write.levels[0].array.spec.axes

    @property
    def count(self) -> int:
        """Number of runs."""
        return len(self.runs)

    def dependencies(self, number: int) -> Iterable[tuple[int, int]]:
        """Return the tiles of a run."""
        return ((self.stage, tile) for tile in self.write.tiles.covering(self.runs.box(number)))

    def _planes(self, number: int) -> Iterator[int]:
        return (plane for _, plane in self.source.needs(self.runs.box(number)))

    def consumes(self, number: int) -> Iterable[str]:
        """Return the planes."""
        return map(spool_path, self._planes(number))

    def run(self, stage: int, number: int) -> Receipt:
        """Do nothing: what is to be done, `retire` does."""
        return Receipt(stage, number, "done")

    def retire(self, number: int) -> None:
        """Delete the planes."""
        spooled: SpooledStack = self.source.stack  # type: ignore[assignment]
        for plane in self._planes(number):
            spooled.plane(plane).delete()

    def is_intact(self, record: FileRecord) -> bool:  # noqa: ARG002
        """Nothing is published."""
        return True

    def describe(self) -> str:
        """Return what is done."""
        return "pages that are written are deleted"


def spool_path(number: int) -> str:
    """Return what receipts call a spooled plane."""
    return f"spool/{number}.raw"


def row_bytes(stack: ImageStack) -> int:
    """Return the bytes of one row of a plane's voxels."""
    return stack.shape[2] * stack.channels * np.dtype(stack.dtype).itemsize


def rows_at_once(stack: ImageStack, bytes_of_thread: int) -> int:
    """Return how many rows of a plane a task has memory for beside what decoding takes, in bands of like heights; 0: none."""
    height = stack.shape[1]
    most = min(height, (bytes_of_thread - stack.decoded_bytes) // row_bytes(stack))
    return -(-height // -(-height // most)) if most > 0 else 0


def spooled(source: FromImages, journal: Journal, bytes_of_thread: int) -> tuple[FromSpool, Stage]:
    """Return a source that reads planes from the job's spool, and the stage that writes them there."""
    stack = SpooledStack(source.stack, journal.spool)
    rows = max(1, rows_at_once(source.stack, bytes_of_thread))
    stage = Stage("decode pages", SpoolPages(stack, rows, journal.scratch))
    return FromSpool(stack, source.orientation, source.origin, source.values), stage  # type: ignore[arg-type]


def worth_spooling(stack: ImageStack, band_rows: int, bytes_of_thread: int, journal: Journal) -> bool:
    """Return whether decoding pages to scratch costs less than decoding them for each band of a tile.

    Scratch takes higher bands than tiles do, as it holds one plane at once: mostly whole pages. A run that is taken up goes on
    as it began, whatever memory there is now: its receipts tell stages by their numbers.
    """
    began = _began_with_spool(journal)
    if began is not None:
        return began
    rows = rows_at_once(stack, bytes_of_thread)
    return rows > 0 and _decodes(stack, band_rows) - _decodes(stack, rows) > WRITE_AND_READ and journal.spool.is_local


def _decodes(stack: ImageStack, band_rows: int) -> float:
    """Return how much of a page is decoded, for bands of so many rows; streams, half of a page for each but the first."""
    times = stack.decodes(band_rows)
    return times if stack.decoded_bytes else (times + 1) / 2


def _began_with_spool(journal: Journal) -> bool | None:
    """Return whether the run that is under way spools its pages; None where none is, or it has done nothing yet."""
    if journal.document() is None:
        return None
    paths = [record.path for receipt in journal.read() for record in receipt.files]
    return any(path.startswith("spool/") and path.endswith(".raw") for path in paths) if paths else None


def with_drop(stages: list[Stage]) -> list[Stage]:
    """Return stages, the last of which deletes the pages that the first has left for the second."""
    write = stages[1].operation
    return [*stages, Stage("drop pages", DropPages(write, 1))] if isinstance(write, WriteTiles) else stages
