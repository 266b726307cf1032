"""Mapping a function over a layer's blocks into a new layer: each task reads a block and its halo, and writes the result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from dask.base import normalize_token, tokenize

from wkdask._version import __version__
from wkdask.arrays import MagArray
from wkdask.arrays.mag_array import read_filled
from wkdask.arrays.opening import open_mag_array, read_properties
from wkdask.errors import InputError
from wkdask.geometry import Mag
from wkdask.geometry.grid import Box, Index
from wkdask.metadata import LayerProperties, dtype_name, validate_layer_name
from wkdask.operations.assembly import assemble
from wkdask.operations.choices import Running, Sampling, Storage, codec_settings
from wkdask.operations.convert import COLOR_DTYPES, SEGMENTATION_DTYPES
from wkdask.operations.inputs import Inputs
from wkdask.operations.level import Level
from wkdask.operations.mirroring import read_mirrored
from wkdask.operations.permuted import in_order
from wkdask.operations.pyramid import TILE_BYTES, Chosen, Room, build_levels, build_stages, new_arrays
from wkdask.operations.store_layout import coarser_mags
from wkdask.operations.target import NewLayer, dumped
from wkdask.operations.tiles import Array
from wkdask.plan import Journal, Plan
from wkdask.storage import Location

PROBE = 8
"""Edge of the block, without its halo, on which a function is tried."""
MOST_DEPTH = 4096
COPIES = 4
"""Blocks with halo that a task may hold: what is read, what the function makes of it, and what it needs meanwhile."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """A source: a function of blocks of an array, which it sees with a halo; beyond the array's box the voxels are mirrored.

    Parameters
    ----------
    function
        Takes a block in the array's axes, and returns one of the same shape.
    array
        What it is given.
    depth
        Voxels of the halo along each axis.
    dtype
        Of the voxels, which all that it returns must fit into.
    """

    function: Callable[[Array], Array]
    array: MagArray
    depth: Index
    dtype: str

    def _grown(self, box: Box) -> Box:
        start = tuple(a - d for a, d in zip(box.start, self.depth, strict=True))
        return Box(start, tuple(b + d for b, d in zip(box.stop, self.depth, strict=True)))

    def read(self, box: Box) -> Array:
        """Return what the function makes of a box, without its halo."""
        channel = tuple(self.array.box.start[i] if axis == "c" else 0 for i, axis in enumerate(self.array.axes))
        wanted = self._grown(box.shifted(channel))
        block = read_mirrored(partial(read_filled, self.array.handle, keep=False), wanted, self.array.box)
        made = applied(self.function, block, self.dtype)
        inner = tuple(slice(d, d + n) for d, n in zip(self.depth, box.shape, strict=True))
        return np.asfortranarray(made[inner], self.dtype)

    def bytes_read(self, box: Box) -> int:
        """Return the bytes of a box with its halo."""
        return self._grown(box).size * self.array.handle.spec.itemsize

    def bytes_beside(self, box: Box) -> int:
        """Return the memory of the function's result, and of as much that it takes meanwhile."""
        return (COPIES - 1) * self._grown(box).size * max(int(np.dtype(self.dtype).itemsize), self.array.handle.spec.itemsize)

    def needs(self, box: Box) -> Iterable[tuple[int, int]]:  # noqa: ARG002
        """Return nothing: the array is there."""
        return ()

    @property
    def growth(self) -> str:
        """Tiles may grow along all axes of space."""
        return "xyz"

    def describe(self, tile: Index) -> str:  # noqa: ARG002
        """Return what is done, and what the halo costs."""
        halo = f" with a halo of {' x '.join(map(str, self.depth))}" if any(self.depth) else ""
        return f"{name_of(self.function)} of {self.array.name}{halo}"


def applied(function: Callable[[Array], Array], block: Array, dtype: str | None) -> Array:
    """Return what a function makes of a block, after checking that it has the block's shape, and values of a dtype."""
    made = np.asarray(function(block))
    if made.shape != block.shape:
        raise InputError(
            f"{name_of(function)} made a block of the shape {made.shape} of one of the shape {block.shape}. Let it return as "
            "many voxels as it gets, its halo too, which is cut off afterwards."
        )
    kinds = made.dtype.kind + np.dtype(dtype).kind
    if dtype is not None and kinds != "ff" and not np.can_cast(made.dtype, dtype, "safe"):
        raise InputError(
            f"{name_of(function)} returned {made.dtype}, which {dtype} can not hold. Let it return that, or give another dtype."
        )
    return made


def name_of(function: Callable[..., Any]) -> str:
    """Return what people call a function.

    Examples
    --------
    >>> name_of(partial(np.clip, a_min=3))
    'clip'
    """
    inner = function.func if isinstance(function, partial) else function
    return str(getattr(inner, "__name__", type(inner).__name__))


@dataclass(frozen=True, slots=True)
class BlockMap:
    """What is mapped, and what becomes of it.

    Parameters
    ----------
    function
        As in `Mapped`.
    name
        Of the new layer.
    layer
        The layer that is read.
    mag
        The magnification; default: the finest.
    depth
        Voxels of halo: one number for x, y and z, or one for each of some axes.
    dtype
        Of the result, which must fit into it; default: as the function returns it, uint8 for bool.
    chunks
        Shape of blocks along x, y, z, multiples of chunks; default: as memory allows.
    category
        Of the new layer; default: as the old one.
    """

    function: Callable[[Array], Array]
    name: str
    layer: str = ""
    mag: Mag | None = None
    depth: int | Mapping[str, int] = 0
    dtype: str | None = None
    chunks: tuple[int, int, int] | None = None
    category: str | None = None


def plan_map(
    target: Location,
    mapping: BlockMap,
    *,
    storage: Storage | None = None,
    sampling: Sampling = Sampling(downsample=False),
    running: Running = Running(),
) -> Plan:
    """Plan a function over a layer's blocks, into a new layer of the same dataset. Nothing is written.

    The function is tried on one small block in the middle of the layer.

    Parameters
    ----------
    target
        The dataset.
    mapping
        Function, layers, halo.
    storage
        How voxels lie on disk; default: in the format of the layer that is read.
    sampling
        Which coarser magnifications are made.
    running
        Threads and memory.

    Raises
    ------
    InputError
        Where the function does not return a block of the shape that it got, or one of a dtype that no layer holds.
    """
    journal = Journal(target, validate_layer_name(mapping.name), running.scratch)
    plan, unfinished = _plan(journal, mapping, storage, sampling, running), journal.document() or {}
    began = unfinished.get("settings")
    if isinstance(began, dict) and "function" in began and unfinished.get("fingerprint") != plan.fingerprint:
        instead = replace(journal, instead_of=str(unfinished.get("fingerprint") or ""))
        note = "an earlier run was stopped that maps another function, or this one differently; it is given up"
        plan = replace(_plan(instead, mapping, storage, sampling, running), notes=(note,))
    plan.setup.check()
    return plan


def _plan(journal: Journal, mapping: BlockMap, storage: Storage | None, sampling: Sampling, running: Running) -> Plan:
    """Return the plan that goes on where the journal stands, or begins anew instead of it."""
    target = journal.target
    properties = read_properties(target)
    old = properties.layer(mapping.layer)
    mag = mapping.mag or Mag(old.finest_first[0].mag if old.mags else 1)
    array = open_mag_array(target, properties, old, mag.to_tuple())
    depth = _depth(array, mapping.depth)
    dtype = _probed(mapping, array, depth)
    source = Mapped(mapping.function, array, depth, dtype)
    layer = _layer(old, mapping, dtype, storage)
    mags = [mag, *coarser_mags(layer, mag, properties.voxel_size, sampling)]
    storage = storage or Storage(data_format=str(old.data_format))
    arrays = new_arrays(layer, target / layer.name, mags, storage, mag)
    levels = build_levels(layer, arrays, sampling.kernel(layer.category))
    room = Room(running.threads, min(TILE_BYTES, running.tile_bytes) // COPIES)
    chosen = journal.layout() or _blocks(levels[0], mapping.chunks)
    return assemble(
        NewLayer(journal, properties.voxel_size, dumped(layer), (), tuple(m.to_tuple() for m in mags)),
        build_stages(in_order(source, array.axes, layer.axes()), levels, room, journal, chosen),
        running,
        name=f"map {name_of(mapping.function)} over {target.name}/{old.name} to {layer.name}",
        settings=_settings(mapping, layer, levels, depth),
        identity=Inputs.of_array(array.handle),
    )


def _layer(old: LayerProperties, mapping: BlockMap, dtype: str, storage: Storage | None) -> LayerProperties:
    """Return the new layer: the old one's box and axes, in their usual order."""
    category = mapping.category or old.category
    allowed = COLOR_DTYPES if category == "color" else SEGMENTATION_DTYPES
    if dtype not in allowed:
        raise InputError(
            f"{name_of(mapping.function)} returns {dtype}; a {category} layer holds {', '.join(allowed)}. Give such a "
            "dtype, or another category."
        )
    data_format = storage.data_format if storage else str(old.data_format)
    box = old.bounding_box.top_left, old.bounding_box.size
    further = [(axis.name, axis.bounds, i) for i, axis in enumerate(old.additional_axes or ())]
    return LayerProperties.new(mapping.name, category, dtype, old.num_channels, data_format, box, further)


def _depth(array: MagArray, depth: int | Mapping[str, int]) -> Index:
    """Return the halo along each axis; one number is for x, y and z, where there is more than one voxel."""
    wide = dict(zip(array.axes, array.shape, strict=True))
    found = {a: depth for a in "xyz" if wide[a] > 1} if isinstance(depth, int) else dict(depth)
    for axis, voxels in found.items():
        if axis not in wide:
            raise InputError(f"The depth names the axis {axis!r}, the layer has {array.axes}. Name some of those.")
        if not 0 <= voxels <= MOST_DEPTH:
            raise InputError(f"The depth along {axis} is {voxels!r}, expected 0 to {MOST_DEPTH} voxels. Use a smaller halo.")
    return tuple(found.get(axis, 0) for axis in array.axes)


def _probed(mapping: BlockMap, array: MagArray, depth: Index) -> str:
    """Return the dtype of the new layer, after trying the function on a small block in the middle, and its halo."""
    start, stop = [], []
    for axis, a, b, d in zip(array.axes, array.box.start, array.box.stop, depth, strict=True):
        middle = (a + b) // 2
        few = axis in "xyz"
        start.append(max(a, middle - PROBE // 2) - d if few else a - d)
        stop.append(min(b, middle + PROBE // 2) + d if few else b + d)
    box = Box(tuple(start), tuple(stop))
    block = read_mirrored(partial(read_filled, array.handle, keep=False), box, array.box)
    made = applied(mapping.function, block, mapping.dtype).dtype
    return mapping.dtype or ("uint8" if made.kind == "b" else dtype_name(made))


def _blocks(first: Level, chunks: tuple[int, int, int] | None) -> tuple[Chosen, ...]:
    """Return the tiles of the first stage, where the user chose them."""
    if chunks is None:
        return ()
    spec = first.array.spec
    wanted = dict(zip("xyz", chunks, strict=True))
    if any(n < 1 or n % c for n, c in ((wanted[a], spec.chunk[spec.axes.index(a)]) for a in "xyz")):
        raise InputError(f"Blocks of {chunks} are not made of whole chunks of {spec.chunk} {spec.axes}. Give multiples.")
    return ((tuple(wanted.get(axis, c) for axis, c in zip(spec.axes, spec.chunk, strict=True)), 1),)


def _settings(mapping: BlockMap, layer: LayerProperties, levels: list[Level], depth: Index) -> dict[str, Any]:
    """Return all that decides the bytes that are written."""
    return {
        "layer": layer.to_dict(),
        "function": name_of(mapping.function),
        "token": tokenize(normalize_token(mapping.function)),
        "depth": depth,
        "blocks": mapping.chunks,
        "mags": [level.name.rpartition("/")[2] for level in levels],
        "chunks": [level.array.spec.chunk for level in levels],
        "shards": [level.array.spec.unit for level in levels],
        "kernel": levels[0].mode,
        "wkdask": __version__,
        **codec_settings(levels[0].array.spec.codec),
    }
