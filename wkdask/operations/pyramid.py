"""Laying out a pyramid: which magnifications are written from one reading of the source, in tiles of which shape."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from wkdask import kernels
from wkdask.arrays.mag_array import read_filled
from wkdask.arrays.opening import layer_ends
from wkdask.errors import InputError
from wkdask.formats import ArrayHandle, find_format
from wkdask.geometry import Mag
from wkdask.geometry.grid import Box, Index, Tiling
from wkdask.metadata import LayerProperties, mag_name
from wkdask.operations.choices import Storage
from wkdask.operations.level import Level
from wkdask.operations.mirroring import mirrored_range, read_mirrored, with_halo
from wkdask.operations.tiles import Array, JoinUnits, Source, WriteTiles
from wkdask.plan import Journal, Stage
from wkdask.storage import Location

TILE_BYTES = 64 << 20
"""Voxels that one task holds, where memory allows more: beyond this, larger tiles gain nothing."""

TASKS_PER_WORKER = 4


@dataclass(frozen=True, slots=True)
class Made:
    """Which tasks write the voxels of an array."""

    stage: int
    tiles: Tiling
    scale: Index

    def runs(self, box: Box) -> Iterator[tuple[int, range]]:
        """Yield stage and adjacent numbers of the tasks that write the units which a box of the array meets."""
        return ((self.stage, run) for run in self.tiles.runs(box.refined(self.scale)))


@dataclass(frozen=True, slots=True)
class Reduced:
    """A source: a finer magnification, reduced by a factor; beyond its box the voxels are mirrored.

    Parameters
    ----------
    array, box
        The finer array, and its bounding box in its own voxels.
    factor, mode
        How many of its voxels make one, and how.
    made
        Which tasks of the same plan write it.
    large
        See `Level`.
    channel
        The first of the layer's channels, where the finer array holds others too.
    """

    array: ArrayHandle
    box: Box
    factor: Index
    mode: str
    made: Made | None = None
    large: bool | None = None
    channel: int = 0

    def read(self, box: Box) -> Array:
        """Return a box of the coarser level."""
        at = tuple(self.channel if axis == "c" else 0 for axis in self.array.spec.axes)
        fine = read_mirrored(partial(read_filled, self.array, keep=False), self._seen(box).shifted(at), self.box)
        return kernels.reduce(fine, self.factor, self.mode, axes=self.array.spec.axes, large=self.large)

    def _seen(self, box: Box) -> Box:
        """Return the finer voxels that a box is made of, for some modes more than its windows."""
        fine, halo = box.refined(self.factor), kernels.halo(self.mode, self.factor)
        return with_halo(fine, halo) if any(halo) else fine

    def bytes_read(self, box: Box) -> int:
        """Return the bytes of voxels in the windows of a box."""
        return box.refined(self.factor).size * self.array.spec.itemsize

    def needs(self, box: Box) -> Iterable[tuple[int, int]]:
        """Return the tasks that write what is read."""
        return ((stage, number) for stage, run in self.needs_of((box,)) for number in run)

    def needs_of(self, boxes: Iterable[Box]) -> Iterable[tuple[int, range]]:
        """Return the same for several boxes, as runs of adjacent tasks."""
        made = self.made
        return (run for box in boxes for run in made.runs(mirrored_range(self._seen(box), self.box))) if made else ()

    def bytes_beside(self, box: Box) -> int:
        """Return the memory of a halo, and of a second copy of what is read, where the ends are mirrored."""
        seen = self._seen(box).size * self.array.spec.itemsize
        halo = seen - self.bytes_read(box)
        odd = any(a % f or b % f for a, b, f in zip(self.box.start, self.box.stop, self.factor, strict=True))
        return halo + (seen if odd or halo else 0)

    @property
    def growth(self) -> str:
        """Tiles may grow along all axes of space."""
        return "xyz"

    def describe(self, tile: Index) -> str:  # noqa: ARG002
        """Return what is read."""
        return f"{self.mode} of mag {self.array.location.name}"


@dataclass(frozen=True, slots=True)
class Room:
    """What a plan may use.

    Parameters
    ----------
    workers
        Tasks that run at once in one process.
    tile_bytes
        Voxels that one task may hold.
    least
        The smallest tile that the source reads well, such as the rows of a page that are decoded together.
    fused
        Whether tiles of one level may make coarser levels too; they may not where levels are cut to boxes of their own.
    """

    workers: int
    tile_bytes: int = TILE_BYTES
    least: Index = ()
    fused: bool = True


Chosen = tuple[Index, int]
"""Shape of the tiles of a stage, and how many levels it writes."""

Growth = Sequence[int]
"""Axes along which tiles grow, the first one to its end before the next."""

COPY_COST, READ_COST = 1, 5
"""What it costs, byte for byte, to join parts and to read a level again: measured as 2 GB/s and 0.4 GB/s on one core."""


def choose_tile(levels: Sequence[Level], source_factor: int, growth: Growth, room: Room) -> Chosen:
    """Return the shape of tiles, and how many levels one reading of the source serves.

    Parameters
    ----------
    levels
        All that are still to be written, finest first, each with its scale.
    source_factor
        Voxels of the source that make one of the first level.
    growth
        Axes along which tiles grow; along all others they stay as small as they may be.
    room
        Threads, and bytes of a tile.

    Notes
    -----
    More levels from one reading save decoding, but need larger tiles, which may no longer match the units, so that parts
    must be joined. The cheapest choice is taken that leaves some four tasks for each thread and fits into the bytes.
    """
    over = levels[0].box
    steps = [tuple(map(max, levels[0].array.spec.chunk, room.least or levels[0].array.spec.chunk))]
    for level in levels[1:]:
        if max(level.factor) > 2 or any(kernels.halo(level.mode, level.factor)) or not room.fused:
            break  # it would see voxels beyond the tile
        steps.append(tuple(math.lcm(o, c * s) for o, c, s in zip(steps[-1], level.array.spec.chunk, level.scale, strict=True)))
    voxel_bytes = levels[0].array.spec.itemsize * source_factor
    best: tuple[float, Chosen] | None = None
    for count, step in enumerate(steps, 1):
        tile = _grown(over, voxel_bytes, step, growth, room)
        fits = math.prod(map(min, tile, over.shape)) * voxel_bytes <= room.tile_bytes
        most = len(Tiling(over, steps[0]))
        if count > 1 and not (fits and len(Tiling(over, tile)) >= min(room.workers * TASKS_PER_WORKER, most)):
            break
        joined = sum(level.box.size for level in levels[:count] if not level.within(level.scale, tile, over).direct)
        cost = COPY_COST * joined + READ_COST * (levels[count - 1].box.size if count < len(levels) else 0)
        if best is None or cost < best[0]:
            best = cost, (tile, count)
    return best[1] if best else (steps[0], 1)


def _grown(box: Box, voxel_bytes: int, step: Index, growth: Growth, room: Room) -> Index:
    """Grow a tile from its smallest shape as far as bytes and the number of tasks allow."""
    tile = list(step)
    for axis in growth:
        whole = -(-box.stop[axis] // step[axis]) * step[axis]
        for wanted in _sizes(step[axis], whole):
            trial = tuple(wanted if i == axis else n for i, n in enumerate(tile))
            size = math.prod(map(min, trial, box.shape)) * voxel_bytes
            enough = len(Tiling(box, trial)) >= room.workers * TASKS_PER_WORKER
            if size <= room.tile_bytes and (enough or axis == growth[0]):
                tile[axis] = wanted
                break
    return tuple(tile)


def _sizes(step: int, whole: int) -> Iterator[int]:
    """Yield sizes from the whole axis down to one step: first all of it, then powers of two of the step."""
    yield whole
    size = 1 << max(0, (whole // step - 1).bit_length() - 1)
    while size:
        yield size * step
        size //= 2


def build_stages(
    source: Source,
    levels: Sequence[Level],
    room: Room,
    journal: Journal,
    chosen: Sequence[Chosen] = (),
    before: Sequence[Stage] = (),
) -> tuple[list[Stage], list[int]]:
    """Return the stages that write all levels, and for each level the stage that completes it.

    The first stage reads the source; where its tiles are too small for further levels, the next stage reads the last level
    that was written. Levels whose units are met by several tiles are followed by a stage that joins the parts.

    Parameters
    ----------
    source
        Gives the first level.
    levels
        All of them, finest first.
    room
        What tasks may use.
    journal
        Knows where parts lie.
    chosen
        The tiles of each stage, where a run that began with them is to go on.
    before
        Stages that make what the source reads.
    """
    stages = list(before)
    last: list[int] = []
    left, kept = list(levels), list(chosen)
    while left:
        stage = len(stages)
        write = _stage(source, left, room, journal, kept.pop(0) if kept else None)
        stages.append(Stage(f"write {' '.join(level.name.rpartition('/')[2] for level in write.levels)}", write))
        made = Made(stage, write.tiles, write.levels[-1].scale)
        for level in write.levels:
            last.append(stage)
            if not level.direct:
                last[-1] = len(stages)
                stages.append(Stage(f"join {level.name.rpartition('/')[2]}", JoinUnits(level, write.tiles, stage, journal)))
                made = Made(len(stages) - 1, level.units, (1,) * len(level.scale))
        left = left[len(write.levels) :]
        if left:
            fine, coarse = write.levels[-1], left[0]
            if fine.direct:
                made = Made(stage, write.tiles, fine.scale)
            source = Reduced(fine.array, fine.domain or fine.box, coarse.factor, coarse.mode, made, coarse.large)
            room = Room(room.workers, min(room.tile_bytes, TILE_BYTES), fused=room.fused)
    return stages, last


def new_arrays(
    layer: LayerProperties, place: Location, mags: Sequence[Mag], storage: Storage, images: Mag | None = None
) -> dict[Mag, ArrayHandle]:
    """Return the arrays that magnifications of a layer are to have; nothing is written.

    Parameters
    ----------
    layer
        Whose box, dtype and axes they have.
    place
        The layer's folder.
    mags
        The magnifications.
    storage
        How voxels lie on disk.
    images
        The magnification that images make, if any.
    """
    arrays = {}
    for mag in mags:
        ends = layer_ends(layer, mag.to_tuple())
        sizes = {axis: ends[axis][1] for axis in layer.axes()}
        spec = storage.spec(sizes, layer.dtype, first=mag == images, depth=layer.bounding_box.depth)
        arrays[mag] = find_format(storage.data_format).at(place / mag_name(mag), spec)
    return arrays


def build_levels(
    layer: LayerProperties,
    arrays: Mapping[Mag, ArrayHandle],
    kernel: str,
    *,
    finer: Mag | None = None,
    replaces: Collection[Mag] = (),
) -> list[Level]:
    """Return the magnifications that are to be written, in the order of their arrays.

    Parameters
    ----------
    layer
        Whose box they have.
    arrays
        That of each, finest first, each mag a multiple of the one before.
    kernel
        How they are reduced.
    finer
        The mag that the first is made of; None where images make it.
    replaces
        Those that are there, so that their units are replaced.
    """
    if math.prod(layer.bounding_box.size) >= 1 << 62:
        raise InputError(
            f"Layer '{layer.name}' has a box of {layer.bounding_box.size} voxels, more than can be counted. Correct it."
        )
    levels, before = list[Level](), finer
    for mag, array in arrays.items():
        ends, multiples = layer_ends(layer, mag.to_tuple()), mag // (before or mag)
        pairs = [ends.get(axis, (0, n)) for axis, n in zip(array.spec.axes, array.spec.shape, strict=True)]
        box = Box(tuple(a for a, _ in pairs), tuple(b for _, b in pairs))
        factors = dict(zip("xyz", multiples.to_tuple(), strict=True))
        factor = tuple(factors.get(axis, 1) for axis in array.spec.axes)
        levels.append(Level(f"{layer.name}/{mag_name(mag)}", array, box, factor, kernel, replaces=mag in replaces))
        before = mag
    work = [(level.box.size * math.prod(level.factor) * level.array.spec.itemsize, math.prod(level.factor)) for level in levels]
    large = kernels.worth_compiling(kernel, [one for one in work if one[1] > 1])
    return [replace(level, large=large) for level in levels]


def chosen_tiles(stages: Iterable[Stage]) -> list[list[object]]:
    """Return the tiles that stages were built with, as JSON, so that a later run can go on with them."""
    return [[*s.operation.tile, len(s.operation.levels)] for s in stages if isinstance(s.operation, WriteTiles)]


def _stage(source: Source, levels: Sequence[Level], room: Room, journal: Journal, chosen: Chosen | None) -> WriteTiles:
    first = levels[0]
    scale: Index = (1,) * len(first.factor)
    scaled = [replace(first, scale=scale)]
    for level in levels[1:]:
        scale = tuple(s * f for s, f in zip(scale, level.factor, strict=True))
        scaled.append(replace(level, scale=scale))
    reduced = isinstance(source, Reduced)
    growth = [first.array.spec.axes.index(axis) for axis in source.growth]
    finer = math.prod(source.factor) if isinstance(source, Reduced) else 1
    tile, count = chosen if chosen and _is_possible(chosen, scaled) else choose_tile(scaled, finer, growth, room)
    own = tuple(level.within(level.scale, tile, first.box) for level in scaled[:count])
    return WriteTiles(source, own, tile, journal, extremes=not reduced)


def _is_possible(chosen: Chosen, levels: Sequence[Level]) -> bool:
    """Whether tiles that a journal remembers can be those of a stage: whole chunks of each level that it writes."""
    tile, count = chosen
    if not 1 <= count <= len(levels) or len(tile) != len(levels[0].box.start):
        return False
    steps = ([c * s for c, s in zip(level.array.spec.chunk, level.scale, strict=True)] for level in levels[:count])
    return all(not t % s for step in steps for t, s in zip(tile, step, strict=True))
