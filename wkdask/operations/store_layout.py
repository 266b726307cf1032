"""Laying out where an array that is computed goes: which magnifications of which layer, and its blocks among their chunks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from wkdask.arrays.opening import layer_ends, read_properties
from wkdask.errors import InputError, LayerExistsError, MagExistsError
from wkdask.formats import ArrayHandle
from wkdask.geometry import BoundingBox, Mag
from wkdask.metadata import LayerProperties, Properties, VoxelSize, mag_name
from wkdask.operations.choices import Sampling, Storage
from wkdask.operations.convert import COLOR_DTYPES, SEGMENTATION_DTYPES
from wkdask.operations.downsample import under
from wkdask.operations.existing import UnfinishedMags, open_to_replace, require_chosen
from wkdask.operations.level import Level
from wkdask.operations.mag_list import calculate_mags_to_downsample, default_coarsest_mag, sampling_mode_for
from wkdask.operations.pyramid import build_levels, new_arrays
from wkdask.operations.store_blocks import Blocks, align
from wkdask.operations.store_input import SPACE, Given, native
from wkdask.operations.store_target import IntoLayer
from wkdask.operations.target import LayerTarget, NewLayer, dumped
from wkdask.plan import Journal

Triple = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Place:
    """Where an array is stored.

    Parameters
    ----------
    layer
        Name of the layer.
    mag
        The magnification that the array is.
    offset
        Where its first voxel lies, in mag-1 voxels; default: as its coordinates say, else where the layer begins.
    category
        Of a new layer; None: the layer is there.
    voxel_size
        Of a new dataset.
    overwrite
        Whether magnifications that are there get new voxels.
    chosen
        What of the storage the user chose, of ``chunk``, ``shard`` and ``codec``: existing mags must have it.
    """

    layer: str
    mag: Mag = Mag(1)
    offset: Triple | None = None
    category: str | None = None
    voxel_size: VoxelSize | None = None
    overwrite: bool = False
    chosen: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Layout:
    """Target, array in stored axes with blocks of whole chunks, and the levels that are written."""

    target: LayerTarget
    array: Any
    blocks: Blocks
    levels: tuple[Level, ...]
    cut: bool
    anew: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Laying:
    """What a layout is made of; see `wkdask.operations.store.plan_store`."""

    given: Given
    place: Place
    storage: Storage
    sampling: Sampling

    def into(self, journal: Journal, properties: Properties | None) -> Layout:
        """Return the layout in a new layer, or one that is there, of a dataset that may be new too."""
        return self._new(journal, properties) if self.place.category else self._existing(journal, properties)

    def _new(self, journal: Journal, properties: Properties | None) -> Layout:
        """Lay out a new layer, in a dataset that may be new too."""
        place, size = self.place, properties.voxel_size if properties else self.place.voxel_size
        if size is None:
            raise InputError(f"{journal.target} is no dataset yet, so the size of its voxels is not known. Give voxel_size.")
        if properties and place.layer in properties.layer_names and journal.document() is None:
            raise LayerExistsError(
                f"{journal.target} has a layer '{place.layer}' already. Choose another name, or pass allow_overwrite=True to "
                "put the voxels into it."
            )
        given = self.given.named()
        starts = self._starts(given, size, (0, 0, 0))
        category = str(place.category)
        allowed = COLOR_DTYPES if category == "color" else SEGMENTATION_DTYPES
        if str(given.array.dtype.newbyteorder("=")) not in allowed:
            raise InputError(
                f"The array is {given.array.dtype}; a {category} layer holds {', '.join(allowed)}. Convert it, such as "
                f"array.astype('{'float32' if category == 'color' else 'uint32'}')."
            )
        box = self._box(given, starts)
        axes = [(a, (starts.get(a, 0), starts.get(a, 0) + given.size(a)), i) for i, a in enumerate(given.further_axes)]
        dtype, channels = str(given.array.dtype.newbyteorder("=")), given.size("c")
        if category == "segmentation" and channels > 1:
            raise InputError(f"The array has {channels} channels, a segmentation has one. Use the category color.")
        layer = LayerProperties.new(
            journal.key, category, dtype, channels, self.storage.data_format, (box.topleft, box.size), axes
        )
        mags = [place.mag, *coarser_mags(layer, place.mag, size, self.sampling)]
        arrays = new_arrays(layer, journal.target / layer.name, mags, self.storage, place.mag)
        name = "" if properties else journal.target.name
        target = NewLayer(journal, size, dumped(layer), (), tuple(m.to_tuple() for m in mags), name)
        return self._laid_out(target, given, starts, arrays)

    def _existing(self, journal: Journal, properties: Properties | None) -> Layout:
        """Lay out magnifications of a layer that is there."""
        properties = properties or read_properties(journal.target)
        layer, place = properties.layer(journal.key), self.place
        began = UnfinishedMags.of(journal)
        under_way = began.unlisted if began and not journal.instead_of else frozenset()
        there = {Mag(found.mag) for found in layer.mags} - under_way
        given = self._fitting(layer)
        mag = place.mag.to_tuple()
        corner = tuple(t // m for t, m in zip(layer.bounding_box.top_left, mag, strict=True))
        starts = self._starts(given, properties.voxel_size, corner) | _bounds(layer, given)
        grown = self._grown(layer, given, starts, may_grow=not there)
        mags = [place.mag, *coarser_mags(grown, place.mag, properties.voxel_size, self.sampling)]
        anew = [m for m in mags if m in there]
        if anew and not place.overwrite:
            raise MagExistsError(
                f"Layer '{layer.name}' has a magnification {anew[0]} already. To put these voxels into it, pass "
                "allow_overwrite=True."
            )
        arrays = {m: open_to_replace(journal.target, properties, layer, m) for m in anew}
        for m, array in arrays.items():
            require_chosen(array, f"{layer.name}/{m.to_layer_name()}", self.storage, place.chosen)
        new = [m for m in mags if m not in there]
        arrays |= new_arrays(grown, journal.target / layer.name, new, self.storage, place.mag)
        arrays = {m: arrays[m] for m in mags}
        triples = tuple(m.to_tuple() for m in mags)
        before = layer.bounding_box.top_left, layer.bounding_box.size
        target = IntoLayer(
            journal, properties.voxel_size, dumped(grown), (), triples, frozenset(m.to_tuple() for m in anew), before, not there
        )
        stale = [m for m in sorted(there, key=lambda m: m.sort_key) if m not in mags and m > place.mag]
        layout = self._laid_out(target, given, starts, arrays, anew)
        if place.mag not in anew or not stale:
            return layout
        names = ", ".join(map(str, stale))
        return replace(layout, notes=(f"mags {names} still show the voxels that were there; downsample=True makes them anew",))

    def _fitting(self, layer: LayerProperties) -> Given:
        """Return the array with names for its axes, after checking that the layer can hold it."""
        given = self.given.named(layer.axes())
        if given.array.dtype.newbyteorder("=") != layer.dtype:
            raise InputError(
                f"The array is {given.array.dtype}, layer '{layer.name}' is {layer.dtype}. Convert it: "
                f"array.astype('{layer.dtype}')."
            )
        if given.size("c") != layer.num_channels:
            raise InputError(
                f"The array has {given.size('c')} channels, layer '{layer.name}' has {layer.num_channels}. Give all of them, "
                "along an axis c."
            )
        return given

    def _starts(self, given: Given, voxel_size: VoxelSize, usual: tuple[int, ...]) -> dict[str, int]:
        """Return where the array's first voxel lies along its axes: x, y, z in voxels of the mag."""
        offset, mag = self.place.offset, self.place.mag.to_tuple()
        if offset is None:
            starts = dict(zip(SPACE, usual, strict=True)) | given.starts(mag, voxel_size)
        elif any(o % m for o, m in zip(offset, mag, strict=True)):
            raise InputError(f"The offset {offset} is in the middle of a voxel of mag {self.place.mag}. Give multiples.")
        else:
            starts = dict(zip(SPACE, (o // m for o, m in zip(offset, mag, strict=True)), strict=True))
        if any(start < 0 for start in starts.values()):
            raise InputError(
                f"The array begins at {starts} (voxels of mag {self.place.mag}), layers begin at 0. Cut off the rest."
            )
        return starts

    def _box(self, given: Given, starts: Mapping[str, int]) -> BoundingBox:
        """Return what the array covers, in mag-1 voxels."""
        mag = self.place.mag.to_tuple()
        corner = [starts[axis] * m for axis, m in zip(SPACE, mag, strict=True)]
        return BoundingBox(corner, [given.size(axis) * m for axis, m in zip(SPACE, mag, strict=True)])

    def _grown(self, layer: LayerProperties, given: Given, starts: Mapping[str, int], *, may_grow: bool) -> LayerProperties:
        """Return the layer with a box that holds the array, which only one without magnifications may get."""
        ends, box = layer_ends(layer, self.place.mag.to_tuple()), self._box(given, starts)
        held = all(ends[a][0] <= starts[a] and starts[a] + given.size(a) <= ends[a][1] for a in SPACE)
        if held and all(layer.bounding_box.size):
            return layer
        whole = BoundingBox(layer.bounding_box.top_left, layer.bounding_box.size)
        if not may_grow:
            raise InputError(
                f"The array covers {tuple(box.topleft)} to {tuple(box.bottomright)} in mag-1 voxels, beyond the box of layer "
                f"'{layer.name}', {tuple(whole.topleft)} to {tuple(whole.bottomright)}. Enlarge that first: "
                "layer.extend_bounding_box."
            )
        union = whole.extended_by(box)
        return layer.with_bounding_box((union.topleft, union.size))

    def _laid_out(
        self,
        target: LayerTarget,
        given: Given,
        starts: Mapping[str, int],
        arrays: Mapping[Mag, ArrayHandle],
        anew: Collection[Mag] = (),
    ) -> Layout:
        """Return the levels, and the array's blocks in the first of them."""
        layer = target.properties
        levels = build_levels(layer, arrays, self.sampling.kernel(layer.category), replaces=anew)
        first, spec = levels[0], levels[0].array.spec
        ordered = native(given.in_order(layer.axes()))
        start = tuple(starts.get(axis, 0) for axis in layer.axes())
        array, blocks = align(ordered, start, spec.chunk)
        mags, cut = list(arrays), bool(first.replaces and blocks.over != first.box)
        coarser = levels[1:]
        if cut and coarser:
            reached = under(coarser, mags[1:], self._box(given, starts))
            coarser = [part if mag in anew else full for part, full, mag in zip(reached, coarser, mags[1:], strict=True)]
        first = replace(first, box=blocks.over, domain=first.box, keeps=first.replaces)
        return Layout(target, array, blocks, (first, *coarser), cut, tuple(mag_name(mag.to_tuple()) for mag in anew))


def coarser_mags(layer: LayerProperties, first: Mag, voxel_size: VoxelSize, sampling: Sampling) -> list[Mag]:
    """Return the magnifications that are made of the first one, finest first."""
    size = layer.bounding_box.size
    coarsest = sampling.coarsest or default_coarsest_mag(size)
    if not sampling.downsample or (sampling.coarsest is None and not coarsest > first):
        return []
    mode = sampling_mode_for(size, sampling.mode)
    coarsest = Mag([max(a, b) for a, b in zip(coarsest.to_tuple(), first.to_tuple(), strict=True)])
    return calculate_mags_to_downsample(first, coarsest, voxel_size.to_nanometer(), mode)


def _bounds(layer: LayerProperties, given: Given) -> dict[str, int]:
    """Return where the layer's further axes begin, which an array must cover as a whole."""
    bounds = {axis.name: axis.bounds for axis in layer.additional_axes or ()}
    for axis, (first, end) in bounds.items():
        if given.size(axis) != end - first:
            raise InputError(
                f"The array has {given.size(axis)} voxels along {axis}, layer '{layer.name}' has {end - first}. Give them all."
            )
    return {axis: first for axis, (first, _) in bounds.items()}
