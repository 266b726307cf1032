"""Options of the verbs that store what was computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from wkdask.dataset.arguments import storage_of
from wkdask.errors import InputError
from wkdask.formats import Codec
from wkdask.geometry import Mag, MagLike, Vec3IntLike
from wkdask.metadata import DataFormat
from wkdask.operations import Running, Sampling, SamplingModes, Storage
from wkdask.plan import parse_bytes

Shape = Vec3IntLike | int | None


class Storing(TypedDict, total=False):
    """Options of all verbs that store what was computed.

    ``chunk_shape``, ``shard_shape``, ``chunks_per_shard`` and ``compress`` are those of `Layer.add_mag`; ``coarsest_mag``,
    ``sampling_mode`` and ``interpolation_mode`` those of `Layer.downsample`. ``jobs`` and ``memory_limit`` say how many tasks
    run at once, and in how much memory; by default as many as there are cores, in 0.6 of what there is.
    """

    chunk_shape: Shape
    shard_shape: Shape
    chunks_per_shard: Shape
    compress: bool | Codec
    coarsest_mag: MagLike | None
    sampling_mode: SamplingModes | str
    interpolation_mode: str
    jobs: int | None
    memory_limit: int | str | None


class StoringInto(Storing, total=False):
    """Options of `wkdask.store` beside those of `Storing`."""

    data_format: str | DataFormat
    absolute_offset: Vec3IntLike | None
    axes: str | Sequence[str] | None
    allow_overwrite: bool
    compute: bool
    storage_options: Mapping[str, Any] | None


def storage_from(data_format: str | DataFormat, options: Storing) -> Storage:
    """Return how arrays are stored."""
    chunk, shard = options.get("chunk_shape"), options.get("shard_shape")
    per_shard = options.get("chunks_per_shard")
    return storage_of(data_format, chunk, shard, options.get("compress", True), chunks_per_shard=per_shard)


def sampling_from(downsample: bool, options: Storing) -> Sampling:
    """Return which coarser magnifications are made, and how."""
    coarsest = options.get("coarsest_mag")
    mode = SamplingModes.parse(options.get("sampling_mode", SamplingModes.ANISOTROPIC))
    interpolation = options.get("interpolation_mode", "default")
    return Sampling(downsample, None if coarsest is None else Mag(coarsest), mode, interpolation)


def running_from(options: Storing) -> Running:
    """Return how many tasks run at once, in how much memory."""
    limit = options.get("memory_limit")
    return Running(options.get("jobs") or 0, parse_bytes(limit) if limit else 0)


def require_known(options: Mapping[str, Any], kind: type) -> None:
    """Refuse options that there are not."""
    unknown = sorted(set(options) - set(kind.__annotations__))
    if unknown:
        raise InputError(f"There is no option {', '.join(unknown)}. There are {', '.join(kind.__annotations__)}.")


def chosen_in(options: Storing, storage: Storage) -> frozenset[str]:
    """Return what of chunk, shard and codec the caller chose."""
    given = {"chunk": options.get("chunk_shape") is not None, "shard": storage.shard is not None}
    given["codec"] = options.get("compress", True) is not True
    return frozenset(what for what, was_given in given.items() if was_given)
