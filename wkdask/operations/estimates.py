"""What the tasks of operations are going to cost: files and requests by arithmetic, seconds by rough rates."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from wkdask.formats import Codec
from wkdask.geometry.grid import Box, Index
from wkdask.images.store_source import MOST_BYTES
from wkdask.operations.level import Level, path_below
from wkdask.plan import Cost, Journal
from wkdask.plan.estimate import ROUND_TRIP
from wkdask.storage import Location
from wkdask.storage.address import S3
from wkdask.storage.copying import share_store
from wkdask.storage.zip_files import archive_of

if TYPE_CHECKING:
    from wkdask.images import ImageStack
    from wkdask.operations.copying_tasks import CopyUnits
    from wkdask.operations.spool import SpoolPages
    from wkdask.operations.tiles import JoinUnits, Source, WriteTiles

MB = 1e6

# Bytes of voxels that one core handles in a second, on a machine of 2023; each measured by the script that is named. They are
# rough: another machine, other voxels and busy disks change them by a factor of three. `Plan.probe` measures.

ENCODE = {
    "zstd:5": 60 * MB,  # benchmarks/roofline.py convert-em --codec zstd:5, step encode; so too the others
    "zstd:1": 250 * MB,
    "gzip:5": 30 * MB,
    "blosc-lz4:5": 600 * MB,
    "lz4hc": 45 * MB,  # benchmarks/roofline.py convert-em-wkw
}
ENCODE_OTHERS = 100 * MB

DECODE = 300 * MB  # benchmarks/roofline.py downsample-em, step decode

REDUCE = {
    "mode": 2000 * MB,  # benchmarks/roofline.py convert-labels, step kernel
    "median": 1500 * MB,  # benchmarks/roofline.py convert-em, step kernel
    "bicubic": 50 * MB,  # benchmarks/kernels.py
}
REDUCE_OTHERS = 1000 * MB

ORDER = 250 * MB
"""Voxels from where they are decoded to chunks: benchmarks/roofline.py convert-em, steps reorder and write."""

COPY = 2000 * MB
"""Files as they are, and joining parts: benchmarks/copies.py."""

OPEN = 1e-3
"""Seconds for opening a file, or making one under its name: benchmarks/reads.py."""

# Requests of a store for what is one file elsewhere, by how `storage.remote` and `formats` go about it.

PUBLISHED = 1  # sent
TOLD = 1  # asked for its time, where the answer does not tell a tag
JOINED = 1  # whether a part's unit was joined already
JOINED_PART = 2  # its index, its chunks
EMPTIED = 1  # the parts of a unit, deleted by their names
READ = 2  # the index of a unit, and a range
CHECKED = 1  # what tells of a change of a source's file, at the end
SENT = 32 * MB  # of a large file in each request


def cost_of_tiles(operation: WriteTiles) -> Cost:
    """Return what the tasks of `WriteTiles` cost."""
    levels, tile, read = operation.levels, operation.tile, operation.bytes_in
    files = sum(_pieces(level.box, _own_tile(level, tile), level.array.spec.unit) for level in levels)
    opened, asked = _read(operation.source, levels[0].box, tile)
    seconds = read / (DECODE if _is_stored(operation.source) else ORDER)
    seconds += read / REDUCE.get(levels[0].mode, REDUCE_OTHERS) if _is_reducing(operation.source) else 0.0
    for finer, level in itertools.pairwise(levels):
        seconds += _bytes(finer) / REDUCE.get(level.mode, REDUCE_OTHERS)
    seconds += sum(_bytes(level) / ORDER + _seconds_encoding(level) for level in levels)
    plain = [level for level in levels if level.array.spec.codec is None and not level.replaces]
    at_once = max((_bytes(level) // len(level.units) for level in plain if level.direct and level.units), default=0)
    asked += sum(_published(level, _own_tile(level, tile)) for level in levels)
    return _cost(files, opened, asked, seconds, sum(map(_bytes, plain)), at_once, written=levels[0].array.location.is_local)


def _cost(
    files: int, opened: int, asked: int, seconds: float, least: int = 0, scratch: int = 0, *, written: bool = True
) -> Cost:
    """Return the cost of files that are written, and of others that are opened, on disks, and of requests to stores.

    ``written`` tells whether the files are written to a disk.
    """
    on_disk = (files if written else 0) + opened
    return Cost(files, asked or on_disk, seconds + OPEN * on_disk, ROUND_TRIP * asked, least, scratch)


def _published(level: Level, tile: Index) -> int:
    """Return the requests of what tiles leave of a level on a store: units, or parts of them."""
    if level.array.location.is_local:
        return 0
    files = _pieces(level.box, tile, level.array.spec.unit)
    return files * (_published_by(level.array.location) + (0 if level.direct else JOINED))


def _published_by(place: Location) -> int:
    """Return the requests that publish an object at a place."""
    return PUBLISHED if place.url.partition("://")[0] in S3 else PUBLISHED + TOLD


def cost_of_joins(operation: JoinUnits) -> Cost:
    """Return what the tasks of `JoinUnits` cost."""
    level = operation.level
    parts = _pieces(level.box, _own_tile(level, operation.tiles.shape), level.array.spec.unit)
    here = level.array.location.is_local
    asked = 0 if here else parts * JOINED_PART + operation.count * (_published_by(level.array.location) + EMPTIED)
    return _cost(operation.count, parts if here else 0, asked, _bytes(level) / COPY, written=here)


def cost_of_copies(operation: CopyUnits) -> Cost:
    """Return what the tasks of `CopyUnits` and `CopyChunks` cost."""
    from wkdask.operations.copying_tasks import fetches_whole

    level = operation.level
    files, chunk = len(level.units), operation.source.spec.unit
    opened = _pieces(level.box, level.array.spec.unit, chunk)
    large = int(_bytes(level) // SENT)
    sent, read = not level.array.location.is_local, not operation.source.location.is_local
    shared = sent and read and share_store(operation.source.location, level.array.location)
    looked = (
        1 + READ + (shared and getattr(operation.source, "inspects_ends", False))
    )  # at both ends, and again before the copy
    for_one = 1 if fetches_whole(operation.source, shared=shared) else looked
    published = PUBLISHED if shared else _published_by(level.array.location)
    asked = sent * files * published + read * opened * for_one + (0 if shared else (sent + read) * large)
    return _cost(files, 0 if read else opened, asked, _bytes(level) / COPY, written=not sent)


def cost_of_spool(operation: SpoolPages) -> Cost:
    """Return what the tasks of `SpoolPages` cost."""
    pages, stack = operation.count, operation.stack
    bands = pages * -(-stack.shape[1] // operation.rows)
    asked = pages * (_asked_of_page(stack) + CHECKED) if _on_store(stack.folder) else 0
    spooled = operation.plane_bytes if pages else 0
    return _cost(pages, bands, asked, operation.bytes_in / ORDER, 0, spooled)


def _bytes(level: Level) -> int:
    return level.box.size * level.array.spec.itemsize


def _seconds_encoding(level: Level) -> float:
    codec: Codec | None = level.array.spec.codec
    return 0.0 if codec is None else _bytes(level) / ENCODE.get(str(codec), ENCODE_OTHERS)


def _own_tile(level: Level, tile: Index) -> Index:
    """Return the shape of a tile in voxels of a level."""
    return tuple(max(1, t // s) for t, s in zip(tile, level.scale or (1,) * len(tile), strict=True))


def _pieces(box: Box, *grids: Index) -> int:
    """Return into how many pieces grids that begin at 0 cut a box.

    Examples
    --------
    >>> _pieces(Box((0, 0), (12, 4)), (4, 4), (6, 4)), _pieces(Box((1,), (3,)), (2,))
    (4, 2)
    """
    if not box.size:
        return 0
    return math.prod(1 + _cuts(a, b, steps) for a, b, *steps in zip(box.start, box.stop, *grids, strict=True))


def _cuts(start: int, stop: int, steps: Iterable[int]) -> int:
    """Return how many positions between both ends are multiples of one of up to two steps."""
    first, *more = steps
    found = (stop - 1) // first - start // first
    for second in more:
        both = math.lcm(first, second)
        found += (stop - 1) // second - start // second - ((stop - 1) // both - start // both)
    return found


def _is_stored(source: Source) -> bool:
    """Whether a source decodes an array's chunks."""
    return hasattr(source, "array")


def _on_store(place: object) -> bool:
    """Whether something lies on a store, or in a zip file there."""
    return isinstance(place, Location) and not (archive_of(place) or place).is_local


def _asked_of_page(stack: ImageStack) -> int:
    """Return the requests that a page of images on a store is read by."""
    height, width, samples = stack.form.height, stack.form.width, stack.form.channels
    return max(1, -(-height * width * samples * np.dtype(stack.form.dtype).itemsize // MOST_BYTES))


def _read(source: Source, box: Box, tile: Index) -> tuple[int, int]:
    """Return how many files, or units, on disks tasks open to read tiles over a box, and how many requests they make to stores.

    Those that tell whether a source was changed count, too, except of arrays of datasets, which are few.
    """
    from wkdask.operations.source import FromImages
    from wkdask.operations.volume_source import FromVolume

    opened = _opened(source, box, tile)
    stack: Any = getattr(source, "stack", None)
    if isinstance(source, FromImages) and not isinstance(source, FromVolume):
        asked = opened * _asked_of_page(stack) + CHECKED * len(stack.files) if _on_store(getattr(stack, "folder", None)) else 0
        return (0 if asked else opened), asked
    array: Any = getattr(stack or source, "array", None)
    if array is None or not _on_store(array.location):
        return opened, 0
    checked = CHECKED * stack.checked if stack else 0
    indexes = _opened(source, box, box.stop) if array.spec.unit != array.spec.chunk else 0  # which are remembered
    return 0, checked + opened + indexes


def _is_reducing(source: Source) -> bool:
    from wkdask.operations.pyramid import Reduced

    return isinstance(source, Reduced)


def _opened(source: Source, box: Box, tile: Index) -> int:
    """Return how many files, or units, tasks open to read tiles over a box; of sources that do not say, one for each."""
    from wkdask.operations.copying_tasks import FromArray
    from wkdask.operations.permuted import Permuted
    from wkdask.operations.pyramid import Reduced
    from wkdask.operations.source import FromImages
    from wkdask.operations.volume_source import FromVolume

    if isinstance(source, Permuted):
        own = [(0, 1, 1) if i is None else (box.start[i], box.stop[i], tile[i]) for i in source.order]
        start, stop, shape = zip(*own, strict=True)
        return _opened(source.source, Box(start, stop), shape)
    if isinstance(source, Reduced):
        fine = tuple(t * f for t, f in zip(tile, source.factor, strict=True))
        return _pieces(box.refined(source.factor), fine, source.array.spec.unit)
    if isinstance(source, FromArray):
        unit = dict(zip(source.array.spec.axes, source.array.spec.unit, strict=True))
        return _pieces(box, tile, tuple(unit.get(axis, 1) for axis in source.axes))
    if isinstance(source, FromVolume):
        unit = dict(zip(source.stack.axes, source.stack.array.spec.unit, strict=True))
        axes = ("tcyxz" if source.orientation.swap_xy else "tcxyz")[-len(tile) :]
        return _pieces(box, tile, tuple(unit.get(axis, 1) for axis in axes))
    if isinstance(source, FromImages):
        pages = tuple(1 if axis in (len(tile) - 1, len(tile) - 5) else n for axis, n in enumerate(tile))
        return _pieces(box, pages)
    return _pieces(box, tile)


def moved_level(level: Level, old: Journal, new: Journal) -> Level:
    """Return a level whose files lie below another dataset."""
    place = new.target / path_below(old.target, level.array.location)
    return replace(level, array=replace(cast("Any", level.array), location=place))
