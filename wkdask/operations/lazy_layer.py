"""Lazy layers: what a layer would be after it was cut, mirrored, turned, moved or cast; to look at, and to store."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from wkdask.arrays import MagArray
from wkdask.errors import InputError, ReadOnlyError
from wkdask.geometry import BoundingBox, Mag, MagLike, Vec3Int, Vec3IntLike
from wkdask.geometry.grid import Box
from wkdask.metadata import LayerProperties, VoxelSize, validate_layer_name
from wkdask.operations.choices import Running, Sampling, Storage
from wkdask.operations.derived import Derived, in_storage, plan_derived, usual_mags
from wkdask.operations.inputs import Inputs
from wkdask.operations.views import SPACE, FromView, Move, MovedArray
from wkdask.plan import Plan
from wkdask.storage import Location, is_place

if TYPE_CHECKING:
    import dask.array
    import xarray

Mags = Literal["keep"] | bool


class OpenDataset(Protocol):
    """What is asked of a dataset that layers are stored in."""

    @property
    def location(self) -> Location:
        """Its folder or URL, and how to get there."""
        ...

    @property
    def read_only(self) -> bool:
        """Whether every change is refused."""
        ...


@dataclass(frozen=True, slots=True)
class LazyLayer:
    """A layer seen in another place. Every operation returns another one; nothing is read or written by it.

    Boxes and positions are in mag-1 voxels of the place in which the layer is seen, half-open. Get one from `Layer.lazy`.

    Parameters
    ----------
    layer
        The layer in its own place.
    arrays
        Its magnifications, finest first.
    voxel_size
        Edges of a mag-1 voxel as it is seen.
    moves
        Where the voxels along x, y and z come from, in mag-1 voxels.
    bounding_box
        What there is to see.
    dtype
        What the voxels are.
    """

    layer: LayerProperties
    arrays: tuple[MagArray, ...]
    voxel_size: VoxelSize
    moves: tuple[Move, Move, Move]
    bounding_box: BoundingBox
    dtype: str

    @classmethod
    def of(cls, layer: LayerProperties, arrays: Sequence[MagArray], voxel_size: VoxelSize) -> LazyLayer:
        """Return a layer as it is.

        Raises
        ------
        InputError
            Where it has no magnification.
        """
        if not arrays:
            raise InputError(f"Layer '{layer.name}' has no magnification, so there is nothing to see. Add one first.")
        box = BoundingBox(layer.bounding_box.top_left, layer.bounding_box.size)
        return cls(layer, tuple(arrays), voxel_size, (Move("x"), Move("y"), Move("z")), box, arrays[0].handle.spec.dtype)

    def crop(self, box: BoundingBox) -> LazyLayer:
        """Return what lies in a box, which must meet the bounding box.

        Examples
        --------
        >>> from wkdask import BoundingBox, Dataset
        >>> layer = Dataset.open("brain").get_layer("color").lazy()
        >>> layer.crop(BoundingBox((10, 0, 5), (1000, 8, 8))).bounding_box
        BoundingBox(topleft=(10, 0, 5), size=(54, 8, 8))
        """
        met = self.bounding_box.intersected_with(box, dont_assert=True)
        if met.is_empty():
            raise InputError(
                f"The box {box} has no voxel in common with {self.bounding_box} of layer '{self.layer.name}'. Give one that "
                "meets it, in mag-1 voxels."
            )
        return replace(self, bounding_box=met)

    def flip(self, axis: str) -> LazyLayer:
        """Return the layer mirrored along ``x``, ``y`` or ``z`` within its bounding box.

        Raises
        ------
        InputError
            Where voxels of the finest magnification would not lie on its grid.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> layer = Dataset.open("brain").get_layer("color").lazy()
        >>> bool((layer.flip("x").read()[:, ::-1] == layer.read()).all())
        True
        """
        at = _index(axis)
        moves = list(self.moves)
        moves[at] = moves[at].flipped(self.bounding_box.topleft[at], self.bounding_box.bottomright[at])
        return self._moved(moves, f"flipped along {axis}")

    def swap(self, first: str, second: str) -> LazyLayer:
        """Return the layer with two of its axes exchanged: positions, voxels, magnifications and the edges of a voxel.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> layer = Dataset.open("brain").get_layer("color").lazy().swap("x", "y")
        >>> layer.bounding_box
        BoundingBox(topleft=(0, 0, 0), size=(48, 64, 20))
        """
        order = list(range(3))
        a, b = _index(first), _index(second)
        order[a], order[b] = order[b], order[a]
        box, edges = self.bounding_box, self.voxel_size.factor
        x, y, z = (self.moves[i] for i in order)
        return replace(
            self,
            moves=(x, y, z),
            bounding_box=BoundingBox([box.topleft[i] for i in order], [box.size[i] for i in order]),
            voxel_size=VoxelSize((edges[order[0]], edges[order[1]], edges[order[2]]), self.voxel_size.unit),
        )

    def translate(self, by: Vec3IntLike) -> LazyLayer:
        """Return the layer moved, in mag-1 voxels.

        Raises
        ------
        InputError
            Where voxels of the finest magnification would not lie on its grid.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> Dataset.open("brain").get_layer("color").lazy().translate((5, 0, 100)).bounding_box.topleft
        Vec3Int(5, 0, 100)
        """
        offset = Vec3Int(by)
        moves = [move.translated(int(n)) for move, n in zip(self.moves, offset, strict=True)]
        moved = replace(self, bounding_box=self.bounding_box.offset(offset))
        return moved._moved(moves, f"moved by {offset.to_tuple()}")

    def cast(self, dtype: Any) -> LazyLayer:
        """Return the layer in another dtype; reading raises `InputError` where a voxel's value is none of it."""
        LayerProperties.new("cast", self.layer.category, dtype, self.layer.num_channels, "zarr3", ((0, 0, 0), (1, 1, 1)))
        return replace(self, dtype=np.dtype(dtype).name)

    def _moved(self, moves: Sequence[Move], how: str) -> LazyLayer:
        x, y, z = moves
        moved = replace(self, moves=(x, y, z))
        finest = moved.mag_of(self.arrays[0])
        if any(move.shift % m for move, m in zip(moves, finest.to_tuple(), strict=True)):
            raise InputError(
                f"Layer '{self.layer.name}' can not be {how}: voxels of its finest mag {finest} would lie between those of "
                "that mag's grid. Crop it to multiples of the mag first, or move it by such."
            )
        return moved

    def mag_of(self, array: MagArray) -> Mag:
        """Return the magnification of one of the arrays, as it is seen."""
        return Mag([array.mag[_index(move.axis)] for move in self.moves])

    @property
    def mags(self) -> dict[Mag, MovedArray]:
        """The magnifications that can be seen, finest first.

        Beside the finest, these are the ones whose voxels lie on their grid, none of them cut by an end of the bounding box
        that is no end of the layer.
        """
        finest = self.arrays[0]
        return {self.mag_of(array): self._array(array) for array in self.arrays if array is finest or self._is_whole(array)}

    def _is_whole(self, array: MagArray) -> bool:
        own, box = self.layer.bounding_box, self.bounding_box
        for at, move in enumerate(self.moves):
            source = _index(move.axis)
            mag, ends = array.mag[source], (own.top_left[source], own.bottom_right[source])
            shown = move.source(box.topleft[at], box.bottomright[at])
            if move.shift % mag or any(end % mag and end not in ends for end in shown):
                return False
        return True

    def _array(self, array: MagArray) -> MovedArray:
        """Return one of the arrays as it is seen."""
        mag, box = self.mag_of(array).to_tuple(), self.bounding_box
        seen = {move.axis: (at, axis, move) for at, (axis, move) in enumerate(zip(SPACE, self.moves, strict=True))}
        names, moves, start, stop = [], [], [], []
        for axis, first, end in zip(array.axes, array.box.start, array.box.stop, strict=True):
            origin = first if axis == "c" else 0  # channels count from the layer's first one
            at, name, move = seen.get(axis, (-1, axis, Move(axis, origin)))
            names.append(name)
            moves.append(move if at < 0 else replace(move, shift=move.shift // mag[at]))
            start.append(first - origin if at < 0 else int(box.topleft[at]) // mag[at])
            stop.append(end - origin if at < 0 else -(-int(box.bottomright[at]) // mag[at]))
        cast = "" if self.dtype == array.handle.spec.dtype else self.dtype
        where = Box(tuple(start), tuple(stop))
        size, unit = self.voxel_size.factor, str(self.voxel_size.unit)
        return MovedArray(array.handle, mag, where, size, unit, array.name, tuple(names), tuple(moves), cast)

    def at(self, mag: MagLike | None = None) -> MovedArray:
        """Return a magnification, default the finest, as an array to read, or to see with dask or xarray."""
        found = self.mags
        wanted = next(iter(found)) if mag is None else Mag(mag)
        if wanted not in found:
            raise InputError(
                f"Mag {wanted} can not be seen; {', '.join(map(str, found))} can. Choose one of these, or move and crop the "
                "layer by multiples of the mag."
            )
        return found[wanted]

    def read(self, box: BoundingBox | None = None, mag: MagLike | None = None) -> np.ndarray[Any, Any]:
        """Read voxels as (further axes, c, x, y, z); what lies outside the bounding box is 0.

        Parameters
        ----------
        box
            In mag-1 voxels; default: the bounding box, rounded outwards to whole voxels.
        mag
            Which magnification; default: the finest.
        """
        array = self.at(mag)
        where = array.box if box is None else _in_voxels(array, box)
        further = [axis for axis in array.axes if axis not in ("c", *SPACE)]
        return FromView(array, (*further, "c", *SPACE)).arranged(array.voxels(where, keep=True))

    def to_dask(self, mag: MagLike | None = None, chunks: Any = "auto") -> dask.array.Array:
        """Return a magnification as a lazy dask array, in the order of axes that it is stored in: that of ``at(mag).axes``."""
        return self.at(mag).to_dask(chunks)

    def to_xarray(self, mag: MagLike | None = None, *, squeeze: bool = False) -> xarray.DataArray:
        """Return a magnification as a lazy labelled array (further axes, c, x, y, z); see `MagView.to_xarray`."""
        return self.at(mag).to_xarray(squeeze=squeeze, canonical=True)

    def properties(self, name: str, storage: Storage) -> LayerProperties:
        """Return the layer that this one becomes when it is stored, without magnifications."""
        old, box = self.layer, self.bounding_box
        if min(box.topleft) < 0:
            raise InputError(
                f"The layer would begin at {box.topleft.to_tuple()}; it can not begin below 0. Translate it first."
            )
        axes = [(axis.name, axis.bounds, number) for number, axis in enumerate(old.additional_axes or ())]
        form, place = storage.data_format, (box.topleft, box.size)
        name = validate_layer_name(name)
        new = LayerProperties.new(name, old.category, self.dtype, old.num_channels, form, place, axes)
        kept = {name: getattr(old, name) for name in KEPT}
        if all(
            (move.axis, move.shift, move.backwards) == (axis, 0, False) for axis, move in zip(SPACE, self.moves, strict=True)
        ):
            kept["coordinate_transformations"] = old.coordinate_transformations  # of the places where its voxels still are
        new = new.updated(**{key: value for key, value in kept.items() if value is not None})
        return in_storage(new, storage)

    def plan_store(
        self,
        target: OpenDataset | str | os.PathLike[str] | Location,
        name: str,
        downsample: Mags = True,
        *,
        storage: Storage | None = None,
        sampling: Sampling = Sampling(),
        running: Running = Running(),
    ) -> Plan:
        """Plan what `store` does; nothing is written until ``plan.run()`` or ``plan.compute()``."""
        place = location_of(target)
        storage = storage or Storage(data_format=str(self.layer.data_format))
        layer, found = self.properties(name, storage), self.mags
        finest = next(iter(found))
        if downsample == "keep":
            mags = sorted(map(self.mag_of, self.arrays), key=lambda mag: mag.sort_key)
        else:
            mags = usual_mags(layer, finest, self.voxel_size, replace(sampling, downsample=bool(downsample)))
            found = {finest: found[finest]}
        sources = {mag: FromView(array, layer.axes()) for mag, array in found.items()}
        share = 2 + max(-(-source.bytes_beside(_ONE) // source.array.dtype.itemsize) for source in sources.values())
        derived = Derived(
            f"store {self.layer.name} as {place.name}/{name}",
            layer,
            self.voxel_size,
            tuple(mags),
            sources,
            {"view": self.settings(), "kept": [str(mag) for mag in found]},
            self.inputs(),
            share,
        )
        return plan_derived(derived, place, storage=storage, sampling=sampling, running=running)

    def store(
        self,
        target: OpenDataset | str | os.PathLike[str] | Location,
        name: str,
        downsample: Mags = True,
        *,
        storage: Storage | None = None,
        sampling: Sampling = Sampling(),
    ) -> None:
        """Store what is seen as a new layer. Stopped or killed at any moment, the same call goes on where it was.

        It gets the view configuration; coordinate transformations too, unless it was flipped, swapped or translated.

        Parameters
        ----------
        target
            The dataset, or where a new one is to be made. It has the voxel size that is seen.
        name
            Of the layer.
        downsample
            True: the finest magnification is stored, and coarser ones are made of it, those of a new layer. False: the finest
            one alone. ``"keep"``: all that the layer has, those that can be seen as they are, others made of the one before.
        storage
            How voxels lie on disk; default: in the format that the layer has.
        sampling
            By which mode and kernel coarser magnifications are made, and up to which.

        Raises
        ------
        LayerExistsError
            Where the dataset has such a layer.
        InputError
            Where the layer can not be stored like this.

        Examples
        --------
        >>> from wkdask import BoundingBox, Dataset
        >>> dataset = Dataset.open("brain")
        >>> layer = dataset.get_layer("color").lazy().crop(BoundingBox((8, 0, 0), (32, 32, 8))).translate((-8, 0, 0))
        >>> layer.store(dataset, "corner", downsample="keep")
        >>> dataset.get_layer("corner").bounding_box.topleft
        Vec3Int(0, 0, 0)
        """
        self.plan_store(target, name, downsample, storage=storage, sampling=sampling).run()

    def settings(self) -> dict[str, Any]:
        """Return all that decides what is seen, beside the stored voxels."""
        moves = [[move.axis, move.shift, move.backwards] for move in self.moves]
        return {"moves": moves, "box": list(self.bounding_box.to_tuple6()), "dtype": self.dtype}

    def inputs(self) -> Inputs:
        """Return the units that are read, to notice a change of them."""
        return reduce(add, (Inputs.of_array(array.handle) for array in self.arrays))


_ONE = Box((0,), (1,))
KEPT = ("default_view_configuration", "admin_view_configuration", "largest_segment_id")
"""What the JSON says of a layer that holds of it wherever it is seen."""


def location_of(target: OpenDataset | str | os.PathLike[str] | Location) -> Location:
    """Return where a dataset lies; refuse one that was opened for reading only."""
    if is_place(target):
        return Location.of(target)
    if target.read_only:
        raise ReadOnlyError(f"{target.location} was opened read-only. Open it without read_only to change it.")
    return target.location


def _in_voxels(array: MovedArray, box: BoundingBox) -> Box:
    """Return a mag-1 box in voxels of an array, all of its other axes included."""
    start, stop = list(array.box.start), list(array.box.stop)
    for axis, m, a, b in zip(SPACE, array.mag, box.topleft, box.bottomright, strict=True):
        if a % m or b % m:
            raise InputError(f"The box {box} has no whole voxels of mag {Mag(array.mag)} along {axis}. Use multiples of {m}.")
        at = array.axes.index(axis)
        start[at], stop[at] = int(a) // m, int(b) // m
    return Box(tuple(start), tuple(stop))


def _index(axis: str) -> int:
    if axis not in SPACE:
        raise InputError(f"There is no axis {axis!r} of space; there are x, y and z. Use one of those.")
    return SPACE.index(axis)
