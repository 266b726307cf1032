"""What users choose: how voxels lie on disk, which magnifications are made, what a run may use."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from wkdask.errors import InputError, UnfitError
from wkdask.formats import ArraySpec, Codec, find_format
from wkdask.geometry import Mag
from wkdask.metadata.ome import is_conventional
from wkdask.operations.mag_list import SamplingModes
from wkdask.plan import default_limit
from wkdask.plan.memory import used_bytes

Shape = tuple[int, int, int]

IMAGE_SHARD: Shape = (4096, 4096, 32)
MAG_SHARD: Shape = (1024, 1024, 1024)
MOST_VOXELS = 1 << 27
"""Of a chunk, which is encoded and decoded as a whole in memory, also where the layer is smaller."""
MOST_CHUNKS = 1 << 24
"""Of a shard, whose index is held in memory: 16 bytes for each."""
IMPORTS_BYTES = 96 << 20
"""What a process takes for libraries that a plan's first task loads."""
KERNELS = {name: name for name in ("median", "mode", "mean", "max", "min", "nearest", "bicubic")} | {"bilinear": "mean"}


@dataclass(frozen=True, slots=True)
class Storage:
    """How a layer's voxels are to lie on disk.

    Parameters
    ----------
    chunk, shard
        Shapes along x, y, z; ``chunk`` None: as is usual for the format, 32^3 or 64^3. ``shard`` None: for Zarr 3
        4096 x 4096 x 32 for images and for layers of at most 32 slices, else 1024^3; for WKW 1024^3; formats without shards
        have chunks alone.
    codec
        Compressor of the chunks; None leaves them as they are, "usual" is what the reference uses.
    data_format
        Name of a format, as `wkdask.formats.find_format` takes it.
    axis_order
        Order in which c, x, y and z are stored; further axes come first. Other programs that read OME-NGFF expect "czyx",
        and arrays that end where the layer does, which they then do.
    """

    chunk: Shape | None = None
    shard: Shape | None = None
    codec: Codec | Literal["usual"] | None = "usual"
    data_format: str = "zarr3"
    axis_order: str = "cxyz"

    @property
    def chunk_shape(self) -> Shape:
        """Shape of chunks: what was chosen, or what is usual for the format."""
        return self.chunk or find_format(self.data_format).usual_chunk

    @property
    def compressor(self) -> Codec | None:
        """The codec, after checking that the format can write it."""
        known = find_format(self.data_format)
        if self.codec == "usual":
            return known.usual_codec
        name = self.codec.name if isinstance(self.codec, Codec) else "none"
        if name not in known.codecs:
            raise InputError(
                f"The format {self.data_format} has no codec {name!r}; it has {', '.join(known.codecs)}. Use one of those."
            )
        return self.codec

    def shapes(self, size: Sequence[int], *, first: bool, depth: int) -> tuple[Shape, Shape]:
        """Return chunk and shard of a magnification of this size; flat layers get flat ones, where pieces need not be cubes.

        What counts for that is the depth of the layer's box in mag-1 voxels, as for the reference.
        """
        form = find_format(self.data_format)
        chunk, cubic = self.chunk_shape, form.cubic
        usual = IMAGE_SHARD if (first or depth <= IMAGE_SHARD[2]) and not cubic else MAG_SHARD
        usual = usual if form.sharded else chunk
        shard = self.shard or (max(usual[0], chunk[0]), max(usual[1], chunk[1]), max(usual[2], chunk[2]))
        if size[2] == 1 and first and self.shard is None and chunk == form.usual_chunk and not cubic:
            chunk, shard = (*chunk[:2], 1), (*shard[:2], 1)
        for what, shape in (("chunk", chunk), ("shard", shard)):
            if any(n < 1 or n & (n - 1) for n in shape):
                raise InputError(f"The {what} shape {shape} has an edge that is no power of two. Use such as 32,32,32.")
            if cubic and len(set(shape)) > 1:
                raise UnfitError(
                    f"The {what} shape {shape} is no cube, but {self.data_format} has cubes only. Use such as {max(shape)}."
                )
        if any(s % c for s, c in zip(shard, chunk, strict=True)):
            raise InputError(f"The shard shape {shard} is no multiple of the chunk shape {chunk}. Make each edge a multiple.")
        if shard != chunk and not form.sharded:
            raise UnfitError(
                f"The shard shape {shard} is not the chunk shape {chunk}, but {self.data_format} has no shards. Leave it out."
            )
        voxels, chunks = math.prod(chunk), math.prod(shard) // math.prod(chunk)
        if voxels > MOST_VOXELS:
            raise InputError(
                f"A chunk of {chunk} has {voxels} voxels, more than {MOST_VOXELS}. Make it smaller, such as 32,32,32."
            )
        if chunks > MOST_CHUNKS:
            raise InputError(
                f"A shard of {shard} has {chunks} chunks, more than {MOST_CHUNKS}. Use smaller shards, or larger chunks."
            )
        return chunk, shard

    def spec(self, ends: Mapping[str, int], dtype: str, *, first: bool, depth: int) -> ArraySpec:
        """Return the array that reaches to the given ends.

        Parameters
        ----------
        ends
            Stored axes in stored order, with the voxels of this magnification from the dataset's origin to the layer's end.
        dtype
            Of one channel.
        first
            Whether these are the images themselves, not a coarser magnification of them.
        depth
            Of the layer's box, in mag-1 voxels.
        """
        chunk, shard = self.shapes([ends[axis] for axis in "xyz"], first=first, depth=depth)
        pieces = [dict(zip("xyz", shape, strict=True)) | {"c": ends.get("c", 1)} for shape in (chunk, shard)]
        chunks, units = (tuple(piece.get(axis, 1) for axis in ends) for piece in pieces)
        spec = ArraySpec(tuple(ends.values()), dtype, tuple(ends), chunks, units, self.compressor)
        return replace(spec, shape=stored_shape(self.data_format, spec, ends))


def stored_shape(data_format: str, spec: ArraySpec, ends: Mapping[str, int]) -> tuple[int, ...]:
    """Return the shape of an array of which a layer needs the voxels up to the given ends.

    It ends there where its format, or other readers of its order of axes, want it so; else with whole units.

    Parameters
    ----------
    data_format
        Name of the format.
    spec
        The array; along axes without an end it stays as it is.
    ends
        Voxels from the dataset's origin to the end, by axis.

    Examples
    --------
    >>> spec = ArraySpec((3, 8, 8, 8), "uint8", tuple("cxyz"), (3, 8, 8, 8), (3, 8, 8, 8))
    >>> [stored_shape(name, spec, {"x": 20, "y": 8, "z": 9}) for name in ("zarr3", "n5")]
    [(3, 24, 8, 16), (3, 20, 8, 9)]
    """
    exact = find_format(data_format).exact or is_conventional(spec.axes)
    pieces = [1 if exact or axis not in "xyz" else u for axis, u in zip(spec.axes, spec.unit, strict=True)]
    reach = (ends.get(axis, n) for axis, n in zip(spec.axes, spec.shape, strict=True))
    return tuple(-(-n // piece) * piece for n, piece in zip(reach, pieces, strict=True))


@dataclass(frozen=True, slots=True)
class Sampling:
    """How coarser magnifications are made: which, and by what kernel ("default": median for colour, mode for segmentation)."""

    downsample: bool = True
    coarsest: Mag | None = None
    mode: SamplingModes = SamplingModes.ANISOTROPIC
    interpolation: str = "default"

    def kernel(self, category: str) -> str:
        """Return the kernel of a layer's category."""
        mode = self.interpolation.lower()
        if mode == "default":
            return "median" if category == "color" else "mode"
        if mode not in KERNELS:
            known = ", ".join(("default", *KERNELS))
            raise InputError(
                f"There is no interpolation mode {self.interpolation!r} here; there are {known}. Use one of those."
            )
        return KERNELS[mode]


@dataclass(frozen=True, slots=True)
class Running:
    """What a plan may use: threads of one process, bytes of memory, and the command to show to those who find it unfinished.

    ``restart`` gives up an unfinished conversion into the same layer.
    """

    workers: int = 0
    memory_limit: int = 0
    command: str = ""
    batch_size: int = 0
    scratch: str = ""
    restart: bool = False

    def __post_init__(self) -> None:
        for what, number in (("jobs", self.workers), ("memory limit", self.memory_limit), ("batch size", self.batch_size)):
            if number < 0:
                raise InputError(f"The {what} {number} is less than 0. Give a number from 1 on, or none for the default.")

    @property
    def threads(self) -> int:
        """Tasks that run at once."""
        return self.workers or os.cpu_count() or 1

    @property
    def tile_bytes(self) -> int:
        """Voxels that one task may hold: a share of what is left of the limit for each thread."""
        limit = self.memory_limit or default_limit()
        return max(1 << 20, (limit - min(used_bytes() + IMPORTS_BYTES, limit // 2)) // self.threads * 2 // 5)


def codec_settings(codec: Codec | None) -> dict[str, str]:
    """Return what decides the bytes of compressed chunks: codec, level, and the version of its library."""
    found = {"codec": str(codec or "none")}
    if codec is not None and codec.name == "zstd":
        import zstandard

        found["zstd"] = ".".join(map(str, zstandard.ZSTD_VERSION))
    elif codec is not None and codec.name.startswith("lz4"):
        import lz4

        found["lz4"] = str(lz4.library_version_string())
    return found
