"""Converting a stack of images into a layer with its pyramid: one plan."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from wkdask import kernels
from wkdask._version import __version__
from wkdask.errors import InputError
from wkdask.formats import ArraySpec, Codec, Zarr3Array
from wkdask.formats.zarr3 import Layout
from wkdask.geometry import Mag
from wkdask.geometry.grid import Box, Index
from wkdask.images import ImageStack
from wkdask.metadata import LayerProperties, VoxelSize, mag_name, validate_layer_name
from wkdask.operations.level import Level
from wkdask.operations.mag_list import SamplingModes, calculate_mags_to_downsample, default_coarsest_mag
from wkdask.operations.pyramid import TILE_BYTES, Room, build_stages, chosen_tiles
from wkdask.operations.target import CommitLevel, NewLayer, dumped
from wkdask.operations.tiles import Array, WriteTiles
from wkdask.plan import Journal, Plan, default_limit
from wkdask.plan.memory import used_bytes
from wkdask.storage import Location

AXES = ("c", "x", "y", "z")
COLOR_DTYPES = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float32")
SEGMENTATION_DTYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")
IMAGE_SHARD = (4096, 4096, 32)
MAG_SHARD = (1024, 1024, 1024)
CHUNK = (32, 32, 32)
IMPORTS_BYTES = 96 << 20
"""What a process takes for libraries that a plan's first task loads."""
ZSTD_5 = Codec("zstd", 5)
KERNELS = {"median": "median", "mode": "mode", "max": "max", "min": "min", "nearest": "nearest", "bilinear": "mean"}


@dataclass(frozen=True, slots=True)
class FromImages:
    """A source of tiles: a stack of images, whose (z, y, x, c) is seen as (c, x, y, z)."""

    stack: ImageStack

    def read(self, box: Box) -> Array:
        """Return a box of the stack."""
        _, x, y, z = box.slices
        rows = self.stack.read(z.start, z.stop, y.start, y.stop)
        return rows[:, :, x].transpose()

    def bytes_read(self, box: Box) -> int:
        """Return the bytes of voxels of a box."""
        return box.size * int(np.dtype(self.stack.dtype).itemsize)

    def needs(self, box: Box) -> Iterable[tuple[int, int]]:  # noqa: ARG002
        """Return nothing: images are there."""
        return ()

    def describe(self, tile: Index) -> str:
        """Return what is read, and how often each page is decoded."""
        pages, times = self.stack.shape[0], self.stack.decodes(tile[2])
        return f"{pages} page{'s' if pages != 1 else ''}, each decoded {'once' if times <= 1 else f'{times:.3g} times'},"


@dataclass(frozen=True, slots=True)
class Storage:
    """How a layer's voxels are to lie on disk.

    Parameters
    ----------
    chunk, shard
        Shapes along x, y, z; ``shard`` None: 4096 x 4096 x 32 for the images, 1024^3 for the coarser magnifications.
    codec
        Compressor of the chunks.
    """

    chunk: tuple[int, int, int] = CHUNK
    shard: tuple[int, int, int] | None = None
    codec: Codec | None = ZSTD_5

    def shapes(self, size: Sequence[int], *, first: bool) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """Return chunk and shard of a magnification of this size; flat layers get flat ones."""
        chunk = self.chunk
        usual = IMAGE_SHARD if first or size[2] <= IMAGE_SHARD[2] else MAG_SHARD
        shard = self.shard or (max(usual[0], chunk[0]), max(usual[1], chunk[1]), max(usual[2], chunk[2]))
        if size[2] == 1 and first and self.shard is None and chunk == CHUNK:
            chunk, shard = (*chunk[:2], 1), (*shard[:2], 1)
        for what, shape in (("chunk", chunk), ("shard", shard)):
            if any(n < 1 or n & (n - 1) for n in shape):
                raise InputError(f"The {what} shape {shape} has an edge that is no power of two. Use such as 32,32,32.")
        if any(s % c for s, c in zip(shard, chunk, strict=True)):
            raise InputError(f"The shard shape {shard} is no multiple of the chunk shape {chunk}. Make each edge a multiple.")
        return chunk, shard


@dataclass(frozen=True, slots=True)
class Sampling:
    """How coarser magnifications are made: which, and by what kernel ("default": median for colour, mode for segmentation)."""

    downsample: bool = True
    coarsest: Mag | None = None
    mode: SamplingModes = SamplingModes.ANISOTROPIC
    interpolation: str = "default"


@dataclass(frozen=True, slots=True)
class Running:
    """What a plan may use: threads of one process, bytes of memory, and the command to show to those who find it unfinished."""

    workers: int = 0
    memory_limit: int = 0
    command: str = ""
    batch_size: int = 0
    scratch: str = ""

    @property
    def threads(self) -> int:
        """Tasks that run at once."""
        return self.workers or os.cpu_count() or 1

    @property
    def tile_bytes(self) -> int:
        """Voxels that one task may hold: a share of what is left of the limit for each thread."""
        limit = self.memory_limit or default_limit()
        return max(1 << 20, (limit - min(used_bytes() + IMPORTS_BYTES, limit // 2)) // self.threads * 2 // 5)


@dataclass(frozen=True, slots=True)
class Into:
    """What images become.

    Parameters
    ----------
    layer
        Name of the layer; default: that of the images' folder or file.
    category
        ``color`` or ``segmentation``.
    dataset
        Name of a new dataset; default: that of its folder.
    """

    layer: str | None = None
    category: str = "color"
    dataset: str | None = None


def plan_convert(
    stack: ImageStack,
    target: str | os.PathLike[str] | Location,
    voxel_size: VoxelSize,
    *,
    into: Into = Into(),
    storage: Storage = Storage(),
    sampling: Sampling = Sampling(),
    running: Running = Running(),
) -> Plan:
    """Plan the conversion of a stack of images into a new layer with its pyramid. Nothing is written.

    Parameters
    ----------
    stack
        The images, from `wkdask.images.find_images`.
    target
        The dataset; made where it does not exist.
    voxel_size
        Of a mag-1 voxel.
    into
        Layer, category and dataset.
    storage, sampling
        How voxels lie on disk, and which magnifications are made.
    running
        Threads and memory.

    Returns
    -------
    Plan
        Whose first stage reads each image once, unless pages are larger than memory.
    """
    name = validate_layer_name(_layer_name(stack) if into.layer is None else into.layer)
    place = Location.of(target)
    journal = Journal(place, name, running.scratch)
    layer = _layer(stack, name, into.category)
    levels, mags = _levels(stack, layer, place / name, voxel_size, storage, sampling)
    chosen = [(tuple(row[:-1]), row[-1]) for row in (journal.document() or {}).get("layout", ())]
    stages, last = build_stages(FromImages(stack), levels, _room(stack, levels[0], running), journal, chosen)
    written = [level for s in stages if isinstance(s.operation, WriteTiles) for level in s.operation.levels]
    setup = NewLayer(journal, into.dataset or place.name, voxel_size, dumped(layer), tuple(written), tuple(mags))
    return Plan(
        name=f"convert {_source_name(stack)} to {place.name}/{name}",
        journal=journal,
        settings=_settings(stack, layer, voxel_size, storage, levels),
        identity=_identity(stack),
        stages=tuple(stages),
        milestones=tuple(CommitLevel(setup, number, stage) for number, stage in enumerate(last)),
        setup=setup,
        workers=running.threads,
        layout=chosen_tiles(stages),
        command=running.command,
        notes=stack.notes,
    )


def _source_name(stack: ImageStack) -> str:
    return stack.files[0] if stack.multipage else Path(stack.folder).name


def _layer_name(stack: ImageStack) -> str:
    """Return a layer name made of the file's or folder's name, without what layer names must not have."""
    stem = Path(stack.files[0]).stem if len(stack.files) == 1 else Path(stack.folder).resolve().name
    kept = "".join(c for c in stem if c.isascii() and (c.isalnum() or c in "_$@-.")).lstrip(".")
    return kept or "color"


def _layer(stack: ImageStack, name: str, category: str) -> LayerProperties:
    """Return the layer that a stack becomes, without magnifications."""
    if category not in ("color", "segmentation"):
        raise InputError(f"There is no category {category!r}. Use color or segmentation.")
    allowed = COLOR_DTYPES if category == "color" else SEGMENTATION_DTYPES
    if stack.dtype not in allowed:
        raise InputError(f"The images are {stack.dtype}; a {category} layer holds {', '.join(allowed)}. Convert them first.")
    if category == "segmentation" and stack.channels > 1:
        raise InputError(f"The images have {stack.channels} channels; a segmentation has one. Use --category color.")
    z, y, x = stack.shape
    return LayerProperties.new(name, category, stack.dtype, stack.channels, "zarr3", ((0, 0, 0), (x, y, z)))


def _levels(
    stack: ImageStack, layer: LayerProperties, place: Location, voxel_size: VoxelSize, storage: Storage, sampling: Sampling
) -> tuple[list[Level], list[tuple[int, int, int]]]:
    """Return the magnifications, finest first, and their factors."""
    z, y, x = stack.shape
    mags = [Mag(1)]
    if sampling.downsample:
        mode = SamplingModes.CONSTANT_Z if z == 1 else sampling.mode
        coarsest = sampling.coarsest or default_coarsest_mag((x, y, z))
        mags += calculate_mags_to_downsample(Mag(1), coarsest, voxel_size.to_nanometer(), mode)
    kernel = _kernel(sampling.interpolation, layer.category)
    levels: list[Level] = []
    for mag, finer in zip(mags, [Mag(1), *mags], strict=False):
        size = tuple(-(-n // m) for n, m in zip((x, y, z), mag.to_tuple(), strict=True))
        chunk, shard = storage.shapes(size, first=not levels)
        shape = tuple(-(-n // s) * s for n, s in zip(size, shard, strict=True))
        channels = (stack.channels,)
        spec = ArraySpec(channels + shape, stack.dtype, AXES, channels + chunk, channels + shard, storage.codec)
        array = Zarr3Array(place / mag_name(mag), spec, Layout(sharded=chunk != shard))
        factor = (1, *(m // f for m, f in zip(mag.to_tuple(), finer.to_tuple(), strict=True)))
        box = Box((0,) * 4, channels + size)
        levels.append(Level(f"{layer.name}/{mag_name(mag)}", array, box, factor, kernel))
    bytes_of = [level.box.size * level.array.spec.itemsize for level in levels]
    work = [(size, math.prod(level.factor)) for size, level in zip(bytes_of, levels[1:], strict=False)]
    large = kernels.worth_compiling(kernel, work)
    return [replace(level, large=large) for level in levels], [mag.to_tuple() for mag in mags]


def _kernel(interpolation: str, category: str) -> str:
    if interpolation == "default":
        return "median" if category == "color" else "mode"
    if interpolation not in KERNELS:
        known = ", ".join(("default", *KERNELS))
        raise InputError(f"There is no interpolation mode {interpolation!r} here; there are {known}. Use one of those.")
    return KERNELS[interpolation]


def _room(stack: ImageStack, first: Level, running: Running) -> Room:
    """Return what tasks may use: tiles of whole pages where pages can not be read in bands for less."""
    chunk = first.array.spec.chunk
    depth = max(chunk[3], running.batch_size)
    if depth % chunk[3]:
        raise InputError(
            f"The batch size {running.batch_size} is no multiple of the chunk's {chunk[3]} slices. "
            f"Give one, such as {2 * chunk[3]}."
        )
    z, height, width = stack.shape
    most = running.tile_bytes
    row = stack.bytes // max(1, z * height) * min(depth, z)
    whole = -(-width // chunk[1]) * chunk[1]
    rows = chunk[2]
    if not stack.rows_alone:  # a page is decoded as often as there are bands, so bands are as high as memory allows
        rows = max(rows, min(-(-height // rows) * rows, 1 << max(1, most // row).bit_length() - 1))
        tile_bytes = most if rows < height else max(min(TILE_BYTES, most), rows * row)
        return Room(running.threads, tile_bytes, (chunk[0], whole, rows, depth))
    wide = row * rows > most
    return Room(running.threads, min(TILE_BYTES, most), (chunk[0], chunk[1] if wide else whole, rows, depth))


def _settings(
    stack: ImageStack, layer: LayerProperties, voxel_size: VoxelSize, storage: Storage, levels: Sequence[Level]
) -> dict[str, Any]:
    """Return all that decides the bytes that are written."""
    import zstandard

    return {
        "layer": layer.to_dict(),
        "voxel_size": str(voxel_size),
        "missing": stack.missing or "refused",
        "codec": str(storage.codec or "none"),
        "mags": [level.name.rpartition("/")[2] for level in levels],
        "chunks": [level.array.spec.chunk for level in levels],
        "shards": [level.array.spec.unit for level in levels],
        "kernel": levels[0].mode,
        "wkdask": __version__,
        "zstd": ".".join(map(str, zstandard.ZSTD_VERSION)),
    }


def _identity(stack: ImageStack) -> str:
    """Return a digest of the names, sizes and times of the images."""
    digest = hashlib.sha256()
    for row in stack.identity():
        digest.update(repr(row).encode())
    return digest.hexdigest()
