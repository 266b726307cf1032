"""Layers laid over another one: voxel by voxel the upper where it counts, else the lower; as one plan."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Literal

import numpy as np

from wkdask.errors import InputError
from wkdask.geometry import Mag
from wkdask.geometry.grid import Box, Index
from wkdask.operations.choices import Running, Sampling, Storage
from wkdask.operations.derived import Derived, plan_derived, usual_mags
from wkdask.operations.lazy_layer import LazyLayer
from wkdask.operations.tiles import Array
from wkdask.operations.views import FromView
from wkdask.plan import Plan
from wkdask.storage import Location

Mask = LazyLayer | Literal["stored"] | None


@dataclass(frozen=True, slots=True)
class Over:
    """One layer that is laid over what is below it.

    Parameters
    ----------
    layer
        Its voxels.
    mask
        Where they count: where this layer is not 0; where the voxel's chunk is stored, be it 0 ("stored"); or where the voxels
        themselves are not 0 (None). Of several channels one is enough. Nowhere outside the layer's own box.
    """

    layer: LazyLayer
    mask: Mask = None


@dataclass(frozen=True, slots=True)
class Above:
    """An `Over`, opened: what is read of it and of its mask."""

    voxels: FromView
    mask: FromView | None
    stored: bool

    def lay(self, below: Array, at: Box) -> None:
        """Put what counts over the voxels of a box."""
        array = self.voxels.array
        own = self.voxels.own(at).intersect(array.box)
        if not own.size:
            return
        of = dict(zip(array.axes, zip(own.start, own.stop, strict=True), strict=True))
        pairs = [of.get(axis, pair) for axis, *pair in zip(self.voxels.wanted, at.start, at.stop, strict=True)]
        inside = Box(tuple(a for a, _ in pairs), tuple(b for _, b in pairs))
        voxels = self.voxels.read(inside)
        part = below[inside.relative_to(at.start).slices]
        np.copyto(part, voxels, where=self._counts(voxels, inside))

    def _counts(self, voxels: Array, box: Box) -> Array:
        there: Array
        if self.stored:
            there = self.voxels.arranged(self.voxels.array.stored(self.voxels.own(box)))
        elif self.mask is None:
            there = np.not_equal(voxels, 0)
        else:
            array = self.mask.array
            ends = (0, array.shape[array.axes.index("c")] if "c" in array.axes else 1)
            pairs = zip(self.voxels.wanted, box.start, box.stop, strict=True)
            wide = [ends if axis == "c" else (a, b) for axis, a, b in pairs]
            there = self.mask.read(Box(tuple(a for a, _ in wide), tuple(b for _, b in wide)))
            there = np.not_equal(there, 0)
        counts: Array = np.any(there, axis=self.voxels.wanted.index("c"), keepdims=True)
        return counts

    def bytes_read(self, box: Box) -> int:
        """Return the bytes of voxels that are decoded for a box."""
        return self.voxels.bytes_read(box) + (self.mask.bytes_read(box) if self.mask else 0)

    def bytes_beside(self, box: Box) -> int:
        """Return the memory of the voxels, and of the mask as it is read and as yes or no."""
        mask = self.mask.bytes_read(box) + self.mask.bytes_beside(box) if self.mask else 0
        voxels = box.size * self.voxels.array.dtype.itemsize + self.voxels.bytes_beside(box)
        return voxels + mask + 2 * box.size


@dataclass(frozen=True, slots=True)
class Merged:
    """A source of tiles: a layer, and others that are laid over it, one after the other."""

    below: FromView
    above: tuple[Above, ...]

    def read(self, box: Box) -> Array:
        """Return a box, Fortran-ordered in the axes of the array that is written."""
        merged = np.require(self.below.read(box), requirements="W")
        for layer in self.above:
            layer.lay(merged, box)
        return merged

    def bytes_read(self, box: Box) -> int:
        """Return the bytes of voxels of all layers."""
        return self.below.bytes_read(box) + sum(layer.bytes_read(box) for layer in self.above)

    def bytes_beside(self, box: Box) -> int:
        """Return the memory of the hungriest layer, as they are read one after the other."""
        return max([self.below.bytes_beside(box), *(layer.bytes_beside(box) for layer in self.above)])

    @property
    def growth(self) -> str:
        """Tiles may grow along all axes of space."""
        return "xyz"

    def needs(self, box: Box) -> Iterable[tuple[int, int]]:  # noqa: ARG002
        """Return nothing: the layers are there."""
        return ()

    def describe(self, tile: Index) -> str:  # noqa: ARG002
        """Return what is read."""
        return " over ".join(view.array.name for view in (*(above.voxels for above in self.above[::-1]), self.below))


def plan_merge(
    target: Location,
    name: str,
    layers: Sequence[Over],
    under: LazyLayer,
    *,
    storage: Storage | None = None,
    sampling: Sampling = Sampling(),
    running: Running = Running(),
) -> Plan:
    """Plan a new layer of layers that lie over each other. Nothing is written.

    The finest magnification is made of theirs, which must be the same one; coarser ones are made of it. Its box is the one
    around all of theirs.

    Parameters
    ----------
    target
        The dataset; made where it does not exist.
    name
        Of the new layer.
    layers
        What lies over `under`, the uppermost first.
    under
        The lowest; its category and view configuration are those of the new layer.
    storage
        How voxels lie on disk; default: in the format of `under`.
    sampling, running
        Which magnifications are made and how; threads and memory.

    Raises
    ------
    InputError
        Where the layers do not fit each other.
    LayerExistsError
        Where the dataset has such a layer; when the plan begins.
    """
    masks = [over.mask for over in layers if isinstance(over.mask, LazyLayer)]
    for over in layers:
        _require_fit(over.layer, under, is_mask=False)
    for mask in masks:
        _require_fit(mask, under, is_mask=True)
    whole = reduce(lambda box, over: box.extended_by(over.layer.bounding_box), layers, under.bounding_box)
    storage = storage or Storage(data_format=str(under.layer.data_format))
    new = replace(under, bounding_box=whole).properties(name, storage)
    finest = next(iter(under.mags))
    source = Merged(FromView(under.at(), new.axes()), tuple(_opened(over, new.axes()) for over in reversed(layers)))
    one = Box((0,), (1,))
    share = 2 + -(-(source.bytes_read(one) + source.bytes_beside(one)) // source.below.array.dtype.itemsize)
    seen = [under, *(over.layer for over in layers), *masks]
    kinds = ["mask" if isinstance(over.mask, LazyLayer) else over.mask or "not 0" for over in layers]
    derived = Derived(
        f"merge {', '.join(over.layer.layer.name for over in layers)} over {under.layer.name} as {target.name}/{name}",
        new,
        under.voxel_size,
        tuple(usual_mags(new, finest, under.voxel_size, sampling)),
        {finest: source},
        {"views": [layer.settings() for layer in seen], "masks": kinds},
        reduce(add, (layer.inputs() for layer in seen)),
        share,
    )
    return plan_derived(derived, target, storage=storage, sampling=sampling, running=running)


def _opened(over: Over, axes: tuple[str, ...]) -> Above:
    mask = FromView(over.mask.at(), axes) if isinstance(over.mask, LazyLayer) else None
    return Above(FromView(over.layer.at(), axes), mask, over.mask == "stored")


def _require_fit(layer: LazyLayer, under: LazyLayer, *, is_mask: bool) -> None:
    """Raise `InputError` where a layer can not be laid over another one, or not say where one counts."""
    mine, below = layer.layer, under.layer
    facts: list[tuple[str, object, object]] = [
        ("mag", Mag(layer.at().mag), Mag(under.at().mag)),
        ("voxel size", layer.voxel_size, under.voxel_size),
    ]
    if not is_mask:
        facts += [("dtype", layer.dtype, under.dtype), ("channels", mine.num_channels, below.num_channels)]
    if mine.additional_axes or not is_mask:
        bounds = [{axis.name: axis.bounds for axis in found.additional_axes or ()} for found in (mine, below)]
        facts += [("further axes", bounds[0], bounds[1])]
    for what, found, expected in facts:
        if found != expected:
            raise InputError(
                f"Layer '{mine.name}' has the {what} {found}, but '{below.name}', over which it is to lie, has {expected}. "
                "Make them the same first, such as with lazy().cast() or upsample()."
            )
