"""A box of voxels of one magnification: reading and writing them, lazy arrays of them, boxes within it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from wkdask.arrays import MagArray
from wkdask.dataset.positions import Position, sound_box, spread
from wkdask.errors import BoxError, DtypeError, InputError, ReadOnlyError, ShapeError
from wkdask.formats import ArraySpec
from wkdask.geometry import BoundingBox, Mag, NDBoundingBox, Vec3Float, Vec3Int, Vec3IntLike
from wkdask.geometry.grid import Box
from wkdask.metadata import LayerProperties
from wkdask.plan import format_bytes
from wkdask.plan.memory import available_bytes

if TYPE_CHECKING:
    import dask.array
    import xarray

    from wkdask.dataset.layer import Layer
    from wkdask.dataset.view import View


MUCH_BYTES = 1 << 30
"""Of voxels that are read at once, from which on it is asked whether the machine has so much memory."""


class Voxels:
    """What all views of a magnification have in common; see `wkdask.View` and `wkdask.MagView`.

    Parameters
    ----------
    layer, mag
        What it is a view of.
    box
        In mag-1 voxels, whole voxels of the mag; None: all of the layer, whatever its box is.
    read_only
        Whether writing through this view is refused.
    """

    def __init__(self, layer: Layer, mag: Mag, box: NDBoundingBox | None = None, *, read_only: bool = False) -> None:
        self._layer, self._mag, self._box, self._read_only = layer, mag, box, read_only
        self._opened: tuple[LayerProperties, MagArray] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": None}  # workers open arrays themselves

    @property
    def layer(self) -> Layer:
        """The layer that it belongs to."""
        return self._layer

    @property
    def mag(self) -> Mag:
        """The magnification."""
        return self._mag

    @property
    def name(self) -> str:
        """Short name of the magnification, as its folder has it."""
        return self._mag.to_layer_name()

    @property
    def array(self) -> MagArray:
        """The whole array behind it, opened on first use, and again when the dataset's JSON has changed."""
        properties = self._layer.properties
        if self._opened is None or not (self._opened[0] is properties or self._opened[0] == properties):
            self._opened = properties, self._layer.open_array(self._mag)
        return self._opened[1]

    @property
    def read_only(self) -> bool:
        """Whether writing is refused, by this view or by the dataset."""
        return self._read_only or self._layer.read_only

    def require_writable(self) -> None:
        """Raise `ReadOnlyError` where the view or the dataset is for reading only, or the voxels are not the dataset's own."""
        if self._read_only:
            raise ReadOnlyError(f"This view of {self._layer.name}/{self.name} is read-only. Take one with read_only=False.")
        self._layer.require_writable()
        self._layer.require_own(self.array.handle.location, self.name)

    @property
    def bounding_box(self) -> NDBoundingBox:
        """The view's box, in mag-1 voxels; of a whole magnification the layer's, rounded outwards to whole voxels."""
        return self._layer.bounding_box.align_with_mag(self._mag, ceil=True) if self._box is None else self._box

    @property
    def voxel_size(self) -> Vec3Float:
        """Edges of a voxel of this mag along x, y, z in nanometer."""
        return Vec3Float(*(n * edge for n, edge in zip(self._mag, self._layer.voxel_size, strict=True)))

    @property
    def spec(self) -> ArraySpec:
        """Shape, dtype, axes, chunk, unit and codec of the stored array."""
        return self.array.handle.spec

    @property
    def num_channels(self) -> int:
        """Channels of a voxel."""
        return self._layer.num_channels

    def get_dtype(self) -> np.dtype[Any]:
        """Return the dtype of one channel."""
        return self.array.dtype

    @property
    def boxed_array(self) -> MagArray:
        """The array whose box is the view's."""
        return self.array if self._box is None else replace(self.array, box=self._stored(self._box))

    def read(
        self,
        size: Vec3IntLike | None = None,
        *,
        offset: Vec3IntLike | None = None,
        relative_offset: Vec3IntLike | None = None,
        absolute_offset: Vec3IntLike | None = None,
        relative_bounding_box: NDBoundingBox | None = None,
        absolute_bounding_box: NDBoundingBox | None = None,
    ) -> np.ndarray[Any, Any]:
        """Read a box of voxels.

        Parameters
        ----------
        size
            In mag-1 voxels, together with an offset; default: what is left of the view. Alone, or with ``offset``, it counts
            voxels of this mag, which is deprecated.
        offset
            Deprecated: in voxels of this mag, of a magnification from the dataset's origin, of a view from its box.
        relative_offset, absolute_offset
            In mag-1 voxels, from the view's box or from the dataset's origin.
        relative_bounding_box, absolute_bounding_box
            The same as one box; of further axes that it has, what it says is read.

        Returns
        -------
        numpy.ndarray
            In stored axes, usually (c, x, y, z), Fortran-ordered. What lies outside the stored voxels is 0. Without any
            parameter all of the view, which may be empty.

        Raises
        ------
        BoxError
            Where the box is empty, begins below 0, or does not consist of whole voxels of this mag.
        InputError
            Where positions contradict each other.
        DamagedError
            Where a file is damaged.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> mag = Dataset.open("brain").get_layer("color").get_mag("2-2-1")
        >>> mag.read(absolute_offset=(8, 8, 2), size=(16, 16, 4)).shape
        (1, 8, 8, 4)
        """
        position = Position(offset, relative_offset, absolute_offset, relative_bounding_box, absolute_bounding_box)
        position.warn_of_old("read", size)
        return self._layer._store.read(lambda: self._read(self._box_at(position, size)))

    def _box_at(self, position: Position, size: Vec3IntLike | None = None) -> NDBoundingBox:
        """Return the mag-1 box of a position; without any it is the view's own, be it empty."""
        if size is None and not position.is_given:
            return self._spatial_box()
        try:
            if size is not None and position.absolute_offset is not None:  # the usual way, which asks the JSON nothing
                return sound_box(position.absolute_offset, size)
            return position.box(self.bounding_box, self._mag, size, from_origin=self._box is None)
        except BoxError as error:  # the box may be the layer's own, as its JSON has it
            raise BoxError(f"Layer '{self._layer.name}', mag {self.name}: {error}") from None

    def _spatial_box(self) -> BoundingBox:
        return BoundingBox.from_ndbbox(self.bounding_box)

    def _stored(self, box: NDBoundingBox) -> Box:
        """Return a mag-1 box in voxels of the stored array; of axes that it does not have, all that the view has."""
        array, factors = self.array, dict(zip("xyz", self._mag.to_tuple(), strict=True))
        start, stop = list(array.box.start), list(array.box.stop)
        for held in (self._box, box):
            for axis, a, b in zip(held.axes, held.topleft, held.bottomright, strict=True) if held is not None else ():
                m = factors.get(axis, 1)
                if axis not in array.axes:
                    raise InputError(f"The box has an axis {axis}, the layer {', '.join(array.axes)}. Leave it out of the box.")
                if a % m or b % m:
                    raise BoxError(
                        f"The box from {tuple(box.topleft)} to {tuple(box.bottomright)} has no whole voxels of mag {self.name} "
                        f"along {axis}. Use multiples of {m}, or align it: box.align_with_mag(mag, ceil=True)."
                    )
                i = array.axes.index(axis)
                start[i], stop[i] = a // m, b // m
        return Box(tuple(start), tuple(stop))

    def _read(self, box: NDBoundingBox) -> np.ndarray[Any, Any]:
        stored = self._stored(box)
        wanted = stored.size * self.array.handle.spec.itemsize
        if wanted > MUCH_BYTES and wanted > (most := available_bytes()):
            said = f"the box from {tuple(box.topleft)} to {tuple(box.bottomright)} has {format_bytes(wanted)} of voxels"
            raise InputError(
                f"Layer '{self._layer.name}', mag {self.name}: {said}, this machine {format_bytes(most)} of memory. "
                "Read smaller boxes, or use to_dask()."
            )
        return np.asfortranarray(self.array.read(stored))

    def _write(self, data: np.ndarray[Any, Any], grow: bool, position: Position) -> None:
        """Write a box that is given as to `write`."""
        self.require_writable()
        mag = self._mag.to_vec3_int()
        box = self._spatial_box() if position.given_box is None else self._box_at(position)
        block = self._checked(data, self._stored(box))
        size = Vec3Int([block.shape[self.array.axes.index(a)] for a in "xyz"]) * mag
        if position.given_box is None:
            at = position if position.is_given else Position(relative_offset=(0, 0, 0))
            box = self._box_at(at, size if at.offset is None else size // mag)
        if box.size_xyz != size:
            raise InputError(f"The data covers {tuple(size)} mag-1 voxels, the box {tuple(box.size_xyz)}. Make them equal.")
        whole = self.bounding_box
        wanted = spread(box, whole)
        if not whole.contains_bbox(wanted):
            self._outgrown(wanted, grow)
        self.array.handle.write(self._stored(box).relative_to(self.spec.offset), block)

    def _outgrown(self, box: NDBoundingBox, grow: bool) -> None:
        """Do what is to be done where voxels outside of the view are written."""
        del grow
        raise BoxError(
            f"The data covers {tuple(box.topleft)} to {tuple(box.bottomright)}, beyond the view's box {self.bounding_box}. "
            "Write less, or through a larger view."
        )

    def _checked(self, data: np.ndarray[Any, Any], own: Box) -> np.ndarray[Any, Any]:
        """Return data in stored axes; of axes other than x, y and z it must have what the box has."""
        data = np.asarray(data)
        if data.dtype != self.array.dtype:
            raise DtypeError(f"The data is {data.dtype}, the layer {self.array.dtype}. Convert it with data.astype first.")
        axes = self.array.axes
        if data.ndim == 3 and len(axes) > 3 and all(own.shape[i] == 1 for i, a in enumerate(axes) if a not in "xyz"):
            data = data[tuple(slice(None) if axis in "xyz" else None for axis in axes)]
        if data.ndim != len(axes) or any(n != w for n, w, a in zip(data.shape, own.shape, axes, strict=True) if a not in "xyz"):
            raise ShapeError(
                f"The data has shape {data.shape}; expected the axes {axes}, or x, y, z of one channel. Reshape it."
            )
        return data

    def get_view(
        self,
        size: Vec3IntLike | None = None,
        *,
        relative_offset: Vec3IntLike | None = None,
        absolute_offset: Vec3IntLike | None = None,
        relative_bounding_box: NDBoundingBox | None = None,
        absolute_bounding_box: NDBoundingBox | None = None,
        read_only: bool | None = None,
    ) -> View:
        """Return a view of a box.

        Parameters
        ----------
        size
            In mag-1 voxels; default: what is left of this view. Without an offset it counts voxels of this mag, which is
            deprecated.
        relative_offset, absolute_offset
            In mag-1 voxels, from this view's box or from the dataset's origin; default: where this view begins.
        relative_bounding_box, absolute_bounding_box
            The same as one box.
        read_only
            Whether writing is refused; default: as here. Only such a view may reach beyond this one.

        Raises
        ------
        BoxError
            Where the box is empty, begins below 0, does not consist of whole voxels of this mag, or is not within this view.
        InputError
            Where it is given twice.
        ReadOnlyError
            Where a view for writing is wanted of one for reading only.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> mag = Dataset.open("brain").get_layer("color").get_mag("2-2-1")
        >>> view = mag.get_view(absolute_offset=(16, 16, 4), size=(32, 32, 8))
        >>> view.read().shape, view.get_view(relative_offset=(8, 0, 0)).bounding_box
        ((1, 16, 16, 8), BoundingBox(topleft=(24, 16, 4), size=(24, 32, 8)))
        """
        position = Position(None, relative_offset, absolute_offset, relative_bounding_box, absolute_bounding_box)
        position.warn_of_old("get_view", size)
        return self._view_at(self._box_at(position, size), read_only)

    def _view_at(self, box: NDBoundingBox, read_only: bool | None) -> View:
        self._stored(box)  # says where it has no whole voxels
        wanted = self._read_only if read_only is None else read_only
        if self._read_only and not wanted:
            raise ReadOnlyError("This view is read-only, so no view of it can be written. Take one of the magnification.")
        whole = self.bounding_box
        if not wanted and not whole.contains_bbox(spread(box, whole)):
            raise BoxError(
                f"The view from {tuple(box.topleft)} to {tuple(box.bottomright)} is beyond {whole}. "
                "Choose a smaller one, or pass read_only=True to read beyond."
            )
        return self._within(box, wanted)

    def _within(self, box: NDBoundingBox, read_only: bool) -> View:
        """Return the view of a box that was checked."""
        from wkdask.dataset.view import View

        whole, axes = self._box, (self._opened[1] if self._opened else self.array).axes
        if whole is None and not set(axes) <= {"c", "x", "y", "z"}:
            whole = self.bounding_box
        if whole is not None and set(box.axes) < set(whole.axes) <= set(axes):  # of time points, say, those that this view has
            box = spread(box, whole)
        view = View(self._layer, self._mag, box, read_only=read_only)
        view._opened = self._opened
        return view

    def to_dask(self, chunks: Any = "auto") -> dask.array.Array:
        """Return all voxels of the box as a lazy dask array in stored axes, its blocks whole chunks of the disk.

        Parameters
        ----------
        chunks
            ``"auto"``: near dask's ``array.chunk-size``, dividing the units; else as dask takes it.
        """
        return self.boxed_array.to_dask(chunks)

    def to_xarray(self, *, squeeze: bool = False, canonical: bool = False) -> xarray.DataArray:
        """Return all voxels of the box as a lazy labelled array.

        Parameters
        ----------
        squeeze
            Whether axes of one voxel other than x, y, z are left out.
        canonical
            Whether the axes are further axes, c, x, y, z instead of their stored order.

        Returns
        -------
        xarray.DataArray
            Its coordinates are voxel centres ``(i + 0.5) * mag * voxel_size`` in the dataset's unit.
        """
        return self.boxed_array.to_xarray(squeeze=squeeze, canonical=canonical)
