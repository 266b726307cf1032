"""What parameters of the front door mean: all the spellings that the reference API allows, as the values used below."""

from __future__ import annotations

from typing import Any, Literal

from wkdask.errors import InputError
from wkdask.formats import Codec, find_format
from wkdask.geometry import Vec3Int, Vec3IntLike
from wkdask.metadata import DataFormat, LengthUnit, VoxelSize
from wkdask.operations import Storage, parse_rescale
from wkdask.operations.values import Rescale

_OLDER_STRATEGIES = {"multiprocessing": "processes", "sequential": "sync"}

VoxelSizeLike = tuple[float, float, float]
Shape = tuple[int, int, int]


def shape_of(shape: Vec3IntLike | int | None) -> Shape | None:
    """Return a shape along x, y, z; one number stands for a cube.

    Examples
    --------
    >>> shape_of(32), shape_of((64, 64, 32)), shape_of(None)
    ((32, 32, 32), (64, 64, 32), None)
    """
    if shape is None:
        return None
    x, y, z = (shape,) * 3 if isinstance(shape, int) else Vec3Int(shape)
    return (int(x), int(y), int(z))


def codec_of(compress: bool | Codec) -> Codec | Literal["usual"] | None:
    """Return the codec that ``compress`` stands for: True is the reference's own, False none.

    Examples
    --------
    >>> codec_of(True), codec_of(False), codec_of(Codec("zstd", 1))
    ('usual', None, Codec(name='zstd', level=1))
    """
    if isinstance(compress, Codec):
        return compress
    if compress not in (True, False):
        raise InputError(
            f"compress is {compress!r}; expected True, False or a codec. Give such as wkdask.formats.parse_codec('zstd:3')."
        )
    return "usual" if compress else None


def rescale_of(rescale: str | tuple[float, float] | None) -> Rescale | None:
    """Return how values are rescaled, from a text as on the command line, or the two ends of a window.

    Examples
    --------
    >>> rescale_of((0, 4095))
    Rescale(method='window', low=0.0, high=4095.0)
    """
    if rescale is None or isinstance(rescale, str):
        return parse_rescale(rescale) if rescale else None
    return parse_rescale(",".join(map(str, rescale)))


def storage_of(
    data_format: str | DataFormat,
    chunk_shape: Vec3IntLike | int | None = None,
    shard_shape: Vec3IntLike | int | None = None,
    compress: bool | Codec = True,
    *,
    chunks_per_shard: Vec3IntLike | int | None = None,
) -> Storage:
    """Return how voxels are to lie on disk.

    Examples
    --------
    >>> storage_of("wkw", compress=False).compressor is None
    True
    >>> storage_of("zarr3", chunks_per_shard=4).shard
    (128, 128, 128)
    """
    chunk, shard, per_shard = (shape_of(shape) for shape in (chunk_shape, shard_shape, chunks_per_shard))
    if per_shard and shard:
        raise InputError("Both chunks_per_shard and shard_shape were given. Give one of them.")
    if per_shard:
        cx, cy, cz = chunk or find_format(str(data_format)).usual_chunk
        shard = (cx * per_shard[0], cy * per_shard[1], cz * per_shard[2])
    return Storage(chunk, shard, codec_of(compress), str(data_format))


def voxel_size_of(nanometer: VoxelSizeLike | None, with_unit: VoxelSize | None) -> VoxelSize | None:
    """Return the voxel size that was given in either way, or None.

    Examples
    --------
    >>> voxel_size_of((4, 4, 35), None)
    VoxelSize(factor=Vec3Float(4.0, 4.0, 35.0), unit=<LengthUnit.NANOMETER: 'nanometer'>)
    """
    if nanometer is not None and with_unit is not None:
        raise InputError("Both voxel_size and voxel_size_with_unit were given. Give one of them.")
    if nanometer is None:
        return with_unit
    if isinstance(nanometer, str):
        return VoxelSize.parse(nanometer)
    try:
        return VoxelSize(tuple(nanometer), LengthUnit.NANOMETER)
    except TypeError:
        raise InputError(f"The voxel size {nanometer!r} is not three numbers. Give (x, y, z) in nanometer.") from None


def executor_of(args: Any) -> str | None:
    """Return the executor that ``distribution_strategy`` stands for in the parsed options of an older command line, or None.

    Examples
    --------
    >>> from argparse import Namespace
    >>> executor_of(Namespace(distribution_strategy="multiprocessing")), executor_of(None)
    ('processes', None)
    """
    strategy = getattr(args, "distribution_strategy", None)
    if strategy is not None and strategy not in _OLDER_STRATEGIES:
        known = ", ".join(_OLDER_STRATEGIES)
        raise InputError(
            f"args.distribution_strategy is {str(strategy)[:40]!r}, expected one of {known}. Give executor instead."
        )
    return None if strategy is None else _OLDER_STRATEGIES[strategy]
