"""What parameters of the front door mean: all the spellings that the reference API allows, as the values used below."""

from __future__ import annotations

from typing import Literal

from wkdask.errors import InputError
from wkdask.formats import Codec
from wkdask.geometry import Vec3Int, Vec3IntLike
from wkdask.metadata import DataFormat, LengthUnit, VoxelSize
from wkdask.operations import Storage, parse_rescale
from wkdask.operations.values import Rescale

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


def shard_of(chunk: Shape, chunks_per_shard: Vec3IntLike | int | None, shard_shape: Vec3IntLike | int | None) -> Shape | None:
    """Return the shard that was given in either way, or None.

    Examples
    --------
    >>> shard_of((32, 32, 32), 4, None)
    (128, 128, 128)
    """
    if chunks_per_shard is None:
        return shape_of(shard_shape)
    if shard_shape is not None:
        raise InputError("Both chunks_per_shard and shard_shape were given. Give one of them.")
    x, y, z = shape_of(chunks_per_shard) or (1, 1, 1)
    return (chunk[0] * x, chunk[1] * y, chunk[2] * z)


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
) -> Storage:
    """Return how voxels are to lie on disk.

    Examples
    --------
    >>> storage_of("wkw", compress=False).compressor is None
    True
    """
    return Storage(shape_of(chunk_shape) or (32, 32, 32), shape_of(shard_shape), codec_of(compress), str(data_format))


def voxel_size_of(nanometer: VoxelSizeLike | None, with_unit: VoxelSize | None) -> VoxelSize | None:
    """Return the voxel size that was given in either way, or None.

    Examples
    --------
    >>> voxel_size_of((4, 4, 35), None)
    VoxelSize(factor=(4.0, 4.0, 35.0), unit=<LengthUnit.NANOMETER: 'nanometer'>)
    """
    if nanometer is not None and with_unit is not None:
        raise InputError("Both voxel_size and voxel_size_with_unit were given. Give one of them.")
    if nanometer is None:
        return with_unit
    if isinstance(nanometer, str):
        return VoxelSize.parse(nanometer)
    try:
        return VoxelSize(tuple(nanometer), LengthUnit.NANOMETER)  # type: ignore[arg-type]
    except TypeError:
        raise InputError(f"The voxel size {nanometer!r} is not three numbers. Give (x, y, z) in nanometer.") from None
