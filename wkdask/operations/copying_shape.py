"""How the voxels of a copy lie on disk: as in the source, but for what is asked for or its format can not have."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from wkdask.arrays import MagArray
from wkdask.arrays.opening import layer_ends
from wkdask.errors import InputError
from wkdask.formats import ArrayHandle, ArraySpec, Codec, Format, find_format
from wkdask.metadata import LayerProperties
from wkdask.operations.choices import Shape, Storage
from wkdask.operations.probe import diagonal, with_probed_codec
from wkdask.storage import Location

PLAIN = tuple("cxyz")
USUAL_PER_SHARD = 32
"""Chunks of a shard along each axis, where the source has none."""
Wish = Codec | Literal["keep", "compressed"] | None
Compressor = Codec | Literal["usual"] | None


@dataclass(frozen=True, slots=True)
class Wishes:
    """What of the storage is asked for; all else is as in the source.

    Parameters
    ----------
    data_format
        Name of a format; None: the source's.
    chunk, shard
        Shapes along x, y, z; None: the source's, as far as the format can have them.
    chunks_per_shard
        Instead of `shard`.
    codec
        A compressor; None: none; "keep": the source's, or where the format does not have it, its usual one; "compressed": the
        same, but for sources that are not compressed the usual one.
    """

    data_format: str | None = None
    chunk: Shape | None = None
    shard: Shape | None = None
    chunks_per_shard: Shape | None = None
    codec: Wish = "keep"

    def __post_init__(self) -> None:
        if self.shard and self.chunks_per_shard:
            raise InputError("Both chunks_per_shard and shard_shape were given. Give one of them.")


def new_array(source: MagArray, old: str, layer: LayerProperties, place: Location, wishes: Wishes) -> ArrayHandle:
    """Return the array that a copy of a magnification is to have; nothing is written.

    Parameters
    ----------
    source
        The magnification.
    old
        Name of its format.
    layer
        The layer that the copy is of, in its own format.
    place
        Where the copy is to lie.
    wishes
        What is asked for.

    Raises
    ------
    InputError
        Where the format can not hold such voxels, or not as asked for.
    """
    form, spec = find_format(str(layer.data_format)), source.handle.spec
    axes = _axes(form, layer, spec.axes)
    ends = layer_ends(layer, source.mag)
    sizes = {axis: ends[axis][1] for axis in axes}
    codec = _codec(form, source.handle, wishes.codec)
    asked = wishes.chunk or wishes.shard or wishes.chunks_per_shard
    if old == form.name and not asked and axes == spec.axes:
        alike = [partial(_alike, form, spec, sizes, found) for found in _resolved(form, codec, source, layer)]
        return _first_accepted(form, place, alike)
    storages = _storages(form, find_format(old), spec, wishes)
    specs = list[Callable[[], ArraySpec]]()
    for found in _resolved(form, codec, source, layer):
        stored = partial(_spec, sizes, layer, first=min(source.mag) == 1)
        specs += [partial(stored, replace(storage, codec=found)) for storage in storages]
    return _first_accepted(form, place, specs)


def _axes(form: Format, layer: LayerProperties, axes: Sequence[str]) -> tuple[str, ...]:
    """Return the stored axes of a copy: the source's, where the format can have them."""
    if form.further_axes:
        return tuple(axes)
    if layer.additional_axes:
        names = ", ".join(axis.name for axis in layer.additional_axes)
        raise InputError(
            f"Layer '{layer.name}' has the axis {names} beside c, x, y and z, which the format {form.name} can not store. Use "
            "zarr3, zarr or n5."
        )
    return PLAIN


def _codec(form: Format, array: ArrayHandle, wish: Wish) -> Compressor:
    """Return the compressor of a copy, "usual" where that is left to the format."""
    if wish not in ("keep", "compressed"):
        return wish  # type: ignore[return-value]
    codec = array.spec.codec
    if codec is None:
        unknown = getattr(getattr(array, "layout", None), "foreign", "")
        return "usual" if unknown or wish == "compressed" else None
    return codec if codec.name in form.codecs else "usual"


def _resolved(form: Format, codec: Compressor, source: MagArray, layer: LayerProperties) -> Iterator[Compressor]:
    """Yield the compressor, and the usual one in case the format does not have that with its settings."""
    if codec != "usual":
        yield codec
    if codec is not None:
        yield _usual(form, source, layer)


def _usual(form: Format, source: MagArray, layer: LayerProperties) -> Compressor:
    """Return the format's usual compressor, or a quicker one for labels that it makes as small."""
    edges = dict(zip("xyz", form.usual_chunk, strict=True))

    def chunks() -> Iterator[np.ndarray[Any, Any]]:
        return (source.read(box) for box in diagonal(source.box, [edges.get(axis, 1) for axis in source.axes]))

    return with_probed_codec(Storage(data_format=form.name), layer.category, chunks).codec


def _alike(form: Format, spec: ArraySpec, sizes: dict[str, int], codec: Compressor) -> ArraySpec:
    """Return the spec of an array like another one; where that begins elsewhere or has other channels, one to the box's end."""
    found = form.usual_codec if codec == "usual" else codec
    at = spec.axes.index("c") if "c" in spec.axes else None
    if not any(spec.offset) and (at is None or spec.shape[at] == sizes["c"]):
        return replace(spec, codec=found)
    chunk, unit = list(spec.chunk), list(spec.unit)
    if at is not None:
        chunk[at] = unit[at] = min(chunk[at], sizes["c"])
    return ArraySpec(
        tuple(sizes[a] for a in spec.axes), spec.dtype, spec.axes, tuple(chunk), tuple(unit), found, fill=spec.fill
    )


def _storages(form: Format, old: Format, spec: ArraySpec, wishes: Wishes) -> list[Storage]:
    """Return ways to store a copy, that nearest to the source first; the format may refuse all but the last."""
    at = [spec.axes.index(axis) for axis in "xyz"]
    chunk, unit = (tuple(shape[i] for i in at) for shape in (spec.chunk, spec.unit))
    per_shard = wishes.chunks_per_shard
    found = []
    for like in (wishes.chunk or chunk, wishes.chunk):
        shard = wishes.shard
        if per_shard:
            one = like or form.usual_chunk
            shard = (one[0] * per_shard[0], one[1] * per_shard[1], one[2] * per_shard[2])
        if shard is None and form.sharded and like:
            usual = unit if old.sharded and unit != chunk else tuple(n * USUAL_PER_SHARD for n in like)
            found.append(Storage(like, usual, None, form.name))  # type: ignore[arg-type]
        found.append(Storage(like, shard, None, form.name))  # type: ignore[arg-type]
    return found


def _spec(sizes: dict[str, int], layer: LayerProperties, storage: Storage, *, first: bool) -> ArraySpec:
    return storage.spec(sizes, layer.dtype, first=first, depth=layer.bounding_box.depth)


def _first_accepted(form: Format, place: Location, specs: Sequence[Callable[[], ArraySpec]]) -> ArrayHandle:
    """Return the first array that the format accepts; what it says of the last one is raised."""
    for build in specs[:-1]:
        try:
            return form.at(place, build())
        except InputError:
            continue
    return form.at(place, specs[-1]())
