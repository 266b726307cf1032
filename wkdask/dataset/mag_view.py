"""One magnification of a layer: reading and writing voxels, and lazy views of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from wkdask.arrays import MagArray
from wkdask.errors import InputError
from wkdask.formats import ArraySpec
from wkdask.geometry import BoundingBox, Mag, NDBoundingBox, Vec3Float, Vec3Int, Vec3IntLike
from wkdask.geometry.grid import Box
from wkdask.metadata import LayerProperties
from wkdask.plan import format_bytes

if TYPE_CHECKING:
    import dask.array
    import xarray

    from wkdask.dataset.layer import Layer


class MagView:
    """One magnification of a layer.

    Positions and sizes are in mag-1 voxels, x, y, z, unless a parameter says otherwise. Get one from `Layer.get_mag`.

    Examples
    --------
    >>> from wkdask import Dataset
    >>> mag = Dataset.open("brain").get_layer("color").get_mag("2-2-1")
    >>> mag.read(absolute_offset=(0, 0, 0), size=(32, 32, 8)).shape
    (1, 16, 16, 8)
    """

    def __init__(self, layer: Layer, mag: Mag) -> None:
        self._layer, self._mag = layer, mag
        self._opened: tuple[LayerProperties, MagArray] | None = None

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
        """The array behind it, opened on first use, and again when the dataset's JSON has changed."""
        properties = self._layer.properties
        if self._opened is None or not (self._opened[0] is properties or self._opened[0] == properties):
            self._opened = properties, self._layer.open_array(self._mag)
        return self._opened[1]

    def require_writable(self) -> None:
        """Raise `ReadOnlyError` where the dataset was opened for reading only, or the voxels are not its own."""
        self._layer.require_writable()
        self._layer.require_own(self.array.handle.location, self.name)

    @property
    def bounding_box(self) -> BoundingBox | NDBoundingBox:
        """The layer's box, rounded outwards to whole voxels of this mag; in mag-1 voxels."""
        return self._layer.bounding_box.align_with_mag(self._mag, ceil=True)

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

    def read(
        self,
        size: Vec3IntLike | None = None,
        *,
        offset: Vec3IntLike | None = None,
        relative_offset: Vec3IntLike | None = None,
        absolute_offset: Vec3IntLike | None = None,
        relative_bounding_box: BoundingBox | None = None,
        absolute_bounding_box: BoundingBox | None = None,
    ) -> np.ndarray[Any, Any]:
        """Read a box of voxels.

        Parameters
        ----------
        size
            In mag-1 voxels; with ``offset``, or alone, in voxels of this mag.
        offset
            In voxels of this mag, from the dataset's origin; together with ``size``.
        relative_offset, absolute_offset
            In mag-1 voxels, from the layer's box or from the dataset's origin; ``size`` defaults to what is left of the box.
        relative_bounding_box, absolute_bounding_box
            The same as one box.

        Returns
        -------
        numpy.ndarray
            In stored axes, usually (c, x, y, z), Fortran-ordered. What lies outside the stored voxels is 0.

        Raises
        ------
        InputError
            Where the box does not consist of whole voxels of this mag, or positions contradict each other.
        DamagedError
            Where a file is damaged.
        """
        boxes = [relative_bounding_box, absolute_bounding_box]
        offsets = [offset, relative_offset, absolute_offset]
        if sum(x is not None for x in boxes + offsets) > 1 or (size is not None and any(b is not None for b in boxes)):
            raise InputError("Several positions were given to read. Give one offset with a size, or one bounding box.")
        if offset is not None or (size is not None and relative_offset is None and absolute_offset is None):
            return self._read(self._in_this_mag(offset, size))
        return self._read(self._absolute(size, relative_offset, absolute_offset, relative_bounding_box, absolute_bounding_box))

    def _in_this_mag(self, offset: Vec3IntLike | None, size: Vec3IntLike | None) -> BoundingBox:
        """Return the mag-1 box of an offset and a size that count voxels of this mag."""
        mag, whole = self._mag.to_vec3_int(), self._spatial_box()
        start = Vec3Int(whole.topleft) if offset is None else Vec3Int(offset) * mag
        extent = Vec3Int(whole.bottomright) - start if size is None else Vec3Int(size) * mag
        return BoundingBox(start, extent)

    def _spatial_box(self) -> BoundingBox:
        box = self.bounding_box
        if isinstance(box, BoundingBox):
            return box
        at = {axis: i for i, axis in enumerate(box.axes)}
        return BoundingBox(*([corner[at[a]] for a in "xyz"] for corner in (box.topleft, box.size)))

    def _absolute(
        self,
        size: Vec3IntLike | None,
        relative: Vec3IntLike | None,
        absolute: Vec3IntLike | None,
        relative_box: BoundingBox | None,
        absolute_box: BoundingBox | None,
    ) -> BoundingBox:
        """Return the mag-1 box of any of the ways to name one."""
        if absolute_box is not None:
            return absolute_box
        if absolute is not None and size is not None:
            return BoundingBox(Vec3Int(absolute), Vec3Int(size))
        whole = self._spatial_box()
        if relative_box is not None:
            return relative_box.offset(whole.topleft)
        start = Vec3Int(absolute) if absolute is not None else Vec3Int(whole.topleft) + Vec3Int(relative or (0, 0, 0))
        return BoundingBox(start, Vec3Int(size) if size is not None else Vec3Int(whole.bottomright) - start)

    def _stored(self, box: BoundingBox) -> Box:
        """Return a mag-1 box in voxels of the stored array, all of its other axes included."""
        array = self.array
        start, stop = list(array.box.start), list(array.box.stop)
        for axis, a, b, m in zip("xyz", box.topleft, box.bottomright, self._mag.to_tuple(), strict=True):
            if a % m or b % m:
                raise InputError(
                    f"The box from {tuple(box.topleft)} to {tuple(box.bottomright)} has no whole voxels of mag {self.name} "
                    f"along {axis}. Use multiples of {m}, or align it: box.align_with_mag(mag, ceil=True)."
                )
            i = array.axes.index(axis)
            start[i], stop[i] = a // m, b // m
        return Box(tuple(start), tuple(stop))

    def _read(self, box: BoundingBox) -> np.ndarray[Any, Any]:
        return self.array.read(self._stored(box))

    def write(
        self,
        data: np.ndarray[Any, Any],
        *,
        allow_resize: bool = False,
        allow_unaligned: bool = False,  # noqa: ARG002 - any box is merged safely
        offset: Vec3IntLike | None = None,
        relative_offset: Vec3IntLike | None = None,
        absolute_offset: Vec3IntLike | None = None,
        relative_bounding_box: BoundingBox | None = None,
        absolute_bounding_box: BoundingBox | None = None,
    ) -> None:
        """Write a box of voxels; neighbours that lie in the same chunks or shards are kept.

        Parameters
        ----------
        data
            (x, y, z), or all stored axes, usually (c, x, y, z); of the layer's dtype.
        allow_resize
            Whether the layer's box may grow; else voxels outside of it are refused.
        allow_unaligned
            Accepted for scripts that give it; boxes need no alignment here.
        offset
            In voxels of this mag, from the dataset's origin.
        relative_offset, absolute_offset
            In mag-1 voxels, from the layer's box or from the dataset's origin. Without any position: at the layer's box.
        relative_bounding_box, absolute_bounding_box
            The same as one box, whose size must be that of the data.

        Raises
        ------
        InputError
            Where shape, dtype or position do not fit.
        """
        self.require_writable()
        positions = [offset, relative_offset, absolute_offset, relative_bounding_box, absolute_bounding_box]
        if sum(position is not None for position in positions) > 1:
            raise InputError("Several positions were given to write. Give one offset, or one bounding box.")
        block = self._checked(data)
        mag = self._mag.to_vec3_int()
        size = Vec3Int([block.shape[self.array.axes.index(a)] for a in "xyz"]) * mag
        start = Vec3Int(offset) * mag if offset is not None else absolute_offset
        box = self._absolute(size, relative_offset, start, relative_bounding_box, absolute_bounding_box)
        if Vec3Int(box.size) != size:
            raise InputError(f"The data covers {tuple(size)} mag-1 voxels, the box {tuple(box.size)}. Make them equal.")
        if not self._spatial_box().contains_bbox(box):
            if not allow_resize or min(box.topleft) < 0:
                raise InputError(
                    f"The data covers {tuple(box.topleft)} to {tuple(box.bottomright)}, beyond the layer's box "
                    f"{self._layer.bounding_box}. Pass allow_resize=True to let it grow; it can not start below 0."
                )
            self._layer.extend_bounding_box(box)
        self.array.handle.write(self._stored(box), block)

    def _checked(self, data: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        data = np.asarray(data)
        if data.dtype != self.array.dtype:
            raise InputError(f"The data is {data.dtype}, the layer {self.array.dtype}. Convert it with data.astype first.")
        axes = self.array.axes
        if data.ndim == 3 and len(axes) > 3 and all(self.array.box.shape[i] == 1 for i, a in enumerate(axes) if a not in "xyz"):
            data = data[tuple(slice(None) if axis in "xyz" else None for axis in axes)]
        if data.ndim != len(axes) or any(
            n != w for n, w, a in zip(data.shape, self.array.box.shape, axes, strict=True) if a not in "xyz"
        ):
            raise InputError(
                f"The data has shape {data.shape}; expected the axes {axes}, or x, y, z of one channel. Reshape it."
            )
        return data

    def to_dask(self, chunks: Any = "auto") -> dask.array.Array:
        """Return all voxels of the box as a lazy dask array in stored axes, its blocks whole chunks of the disk.

        Parameters
        ----------
        chunks
            ``"auto"``: near dask's ``array.chunk-size``, dividing the units; else as dask takes it.
        """
        return self.array.to_dask(chunks)

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
        return self.array.to_xarray(squeeze=squeeze, canonical=canonical)

    def bytes_on_disk(self) -> int:
        """Return the size of the stored units."""
        handle = self.array.handle
        stats = (handle.unit_location(index).stat() for index in handle.written_units())
        return sum(stat.size for stat in stats if stat)

    def _repr_html_(self) -> str:
        from wkdask.dataset.html import mag_view_html

        return mag_view_html(self)

    def __repr__(self) -> str:
        spec = self.spec
        shape = " x ".join(str(n) for n in self.array.box.shape)
        codec = str(spec.codec or "uncompressed")
        return (
            f"<MagView {self._layer.name}/{self.name}: {shape} ({', '.join(spec.axes)}) {spec.dtype}, "
            f"{format_bytes(self.array.box.size * spec.itemsize)} of voxels; chunks {spec.chunk}, shards {spec.unit}, {codec}>"
        )
