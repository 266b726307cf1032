"""Laying out a pyramid: which magnifications are written from one reading of the source, in tiles of which shape."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

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

    def covering(self, box: Box) -> Iterator[tuple[int, int]]:
        """Yield (stage, number) of the tasks that write the units which a box of the array meets."""
        return ((self.stage, number) for number in self.tiles.covering(box.refined(self.scale)))


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
        fine = read_mirrored(partial(read_filled, self.array, keep=False), box.refined(self.factor).shifted(at), self.box)
        return kernels.reduce(fine, self.factor, self.mode, axes=self.array.spec.axes, large=self.large)

    def bytes_read(self, box: Box) -> int:
        """Return the bytes of voxels that are read for a box."""
        return box.refined(self.factor).size * self.array.spec.itemsize

    def needs(self, box: Box) -> Iterable[tuple[int, int]]:
        """Return the tasks that write what is read."""
        return self.made.covering(mirrored_range(box.refined(self.factor), self.box)) if self.made else ()

    def bytes_beside(self, box: Box) -> int:
        """Return the memory of a second copy of what is read, where the ends are mirrored."""
        odd = any(a % f or b % f for a, b, f in zip(self.box.start, self.box.stop, self.factor, strict=True))
        return self.bytes_read(box) if odd else 0

    @property
    def growth(self) -> str:
        """Tiles may grow along all axes of space."""
        return "xyz"

    def describe(self, tile: Index) -> str:  # noqa: ARG002
        """Return what is read."""
        return f"{self.mode} of mag {self.array.location.name}"


def mirrored(start: int, stop: int, low: int, high: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Return, for each position, the one inside [low, high) that stands for it when the edges are mirrors.

    The voxel at the edge is its own mirror image, as in numpy's ``symmetric`` padding.

    Examples
    --------
    >>> mirrored(-2, 6, 0, 4).tolist()
    [1, 0, 0, 1, 2, 3, 3, 2]
    """
    at = (np.arange(start, stop) - low) % (2 * (high - low))
    return low + np.minimum(at, 2 * (high - low) - 1 - at)


def mirrored_range(box: Box, domain: Box) -> Box:
    """Return the part of a domain that stands for a box when the domain's edges are mirrors."""
    ends = []
    for a, b, low, high in zip(box.start, box.stop, domain.start, domain.stop, strict=True):
        if low <= a and b <= high:
            ends.append((a, b))
        else:
            at = mirrored(a, b, low, high)
            ends.append((int(at.min()), int(at.max()) + 1))
    return Box(tuple(a for a, _ in ends), tuple(b for _, b in ends))


def read_mirrored(read: Callable[[Box], Array], box: Box, domain: Box) -> Array:
    """Read a box whose voxels outside a domain are mirrored; Fortran-ordered."""
    inside = mirrored_range(box, domain)
    block = read(inside)
    for axis, (a, b) in enumerate(zip(box.start, box.stop, strict=True)):
        at = mirrored(a, b, domain.start[axis], domain.stop[axis]) - inside.start[axis]
        if len(at) != block.shape[axis] or not np.array_equal(at, np.arange(len(at))):
            block = np.take(block.transpose(), at, axis=block.ndim - 1 - axis).transpose()
    return block


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
        if max(level.factor) > 2 or not room.fused:  # mirroring at the end would reach beyond the tile
            break
        steps.append(tuple(math.lcm(o, c * s) for o, c, s in zip(steps[-1], level.array.spec.chunk, level.scale, strict=True)))
    voxel_bytes = levels[0].array.spec.itemsize * source_factor
    best: tuple[float, Chosen] | None = None
    for count, step in enumerate(steps, 1):
        tile = _grown(over, voxel_bytes, step, growth, room)
        fits = math.prod(map(min, tile, over.shape)) * voxel_bytes <= room.tile_bytes
        if count > 1 and not (fits and len(Tiling(over, tile)) >= min(room.workers * TASKS_PER_WORKER, _most(over, steps[0]))):
            break
        joined = sum(level.box.size for level in levels[:count] if not level.within(level.scale, tile, over).direct)
        cost = COPY_COST * joined + READ_COST * (levels[count - 1].box.size if count < len(levels) else 0)
        if best is None or cost < best[0]:
            best = cost, (tile, count)
    return best[1] if best else (steps[0], 1)


def _most(over: Box, step: Index) -> int:
    """Return how many tiles there are when they are as small as they may be."""
    return len(Tiling(over, step))


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


def build_levels(
    layer: LayerProperties,
    place: Location,
    mags: Sequence[Mag],
    finer: Mag | None,
    storage: Storage,
    kernel: str,
) -> list[Level]:
    """Return the magnifications that are to be written, in the order of the mags.

    Parameters
    ----------
    layer
        Whose box, dtype and axes they have.
    place
        The layer's folder.
    mags
        Finest first, each a multiple of the one before.
    finer
        The mag that the first is made of; None where images make it.
    storage, kernel
        How voxels lie on disk, and how they are reduced.
    """
    if math.prod(layer.bounding_box.size) >= 1 << 62:
        raise InputError(
            f"Layer '{layer.name}' has a box of {layer.bounding_box.size} voxels, more than can be counted. Correct it."
        )
    form, levels = find_format(storage.data_format), list[Level]()
    for mag, before in zip(mags, [finer or mags[0], *mags], strict=False):
        ends = layer_ends(layer, mag.to_tuple())
        axes = layer.axes()
        spec = storage.spec({axis: ends[axis][1] for axis in axes}, layer.dtype, first=finer is None and not levels)
        factors = dict(zip("xyz", (m // b for m, b in zip(mag.to_tuple(), before.to_tuple(), strict=True)), strict=True))
        box = Box(tuple(ends[axis][0] for axis in axes), tuple(ends[axis][1] for axis in axes))
        factor = tuple(factors.get(axis, 1) for axis in axes)
        levels.append(Level(f"{layer.name}/{mag_name(mag)}", form.at(place / mag_name(mag), spec), box, factor, kernel))
    return with_kernels(levels, kernel, [level.box.size * math.prod(level.factor) for level in levels])


def with_kernels(levels: list[Level], kernel: str, sources: Sequence[int]) -> list[Level]:
    """Return levels that know whether compiled kernels pay, for so many voxels that each is made of."""
    work = [(n * level.array.spec.itemsize, math.prod(level.factor)) for n, level in zip(sources, levels, strict=True)]
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
