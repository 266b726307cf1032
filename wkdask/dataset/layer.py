"""Layers: what a dataset's volumes are, and their magnifications."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from wkdask.arrays import MagArray
from wkdask.arrays.opening import layer_ends, open_mag_array
from wkdask.dataset.arguments import storage_of
from wkdask.dataset.mag_view import MagView
from wkdask.dataset.pyramid import PyramidVerbs
from wkdask.dataset.resolution import ROUNDING, ResolutionLike, choose_mag, parse_resolution
from wkdask.dataset.store import DatasetStore
from wkdask.errors import InputError, MagExistsError, ReadOnlyError
from wkdask.formats import Codec, find_format
from wkdask.geometry import BoundingBox, Mag, MagLike, Vec3Float, Vec3IntLike
from wkdask.metadata import DataFormat, LayerProperties, MagProperties, Properties
from wkdask.storage import WORK_FOLDER, Location
from wkdask.storage.document import exclusively

if TYPE_CHECKING:
    import xarray


class Layer(PyramidVerbs):
    """A volume of a dataset, stored in one or several magnifications. Get one from `Dataset.get_layer`."""

    def __init__(self, store: DatasetStore, name: str) -> None:
        self._store, self._name = store, name

    @property
    def properties(self) -> LayerProperties:
        """What the dataset's JSON says of the layer."""
        return self._store.properties.layer(self._name)

    @property
    def name(self) -> str:
        """The layer's name, and its folder's."""
        return self._name

    @property
    def category(self) -> str:
        """``color`` or ``segmentation``."""
        return self.properties.category

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of one channel."""
        return np.dtype(self.properties.dtype)

    @property
    def num_channels(self) -> int:
        """Channels of a voxel."""
        return self.properties.num_channels

    @property
    def data_format(self) -> DataFormat:
        """How its voxels are stored."""
        return self.properties.data_format

    @property
    def voxel_size(self) -> Vec3Float:
        """Edges of a mag-1 voxel along x, y, z in nanometer."""
        return Vec3Float(*self._store.properties.voxel_size.to_nanometer())

    @property
    def is_local(self) -> bool:
        """Whether the dataset lies on a local disk."""
        return self._store.location.is_local

    @property
    def read_only(self) -> bool:
        """Whether every change is refused."""
        return self._store.read_only

    def require_writable(self) -> None:
        """Raise `ReadOnlyError` where the dataset was opened for reading only."""
        self._store.require_writable()

    def require_own(self, place: Location, mag: str) -> None:
        """Raise `ReadOnlyError` where a magnification's voxels lie outside the dataset."""
        if not place.url.startswith(f"{self._store.location.url}/"):
            raise ReadOnlyError(
                f"Mag {mag} of layer '{self._name}' lies outside the dataset, at {place}, so it is only read from here. "
                "Open the dataset that it belongs to."
            )

    @property
    def bounding_box(self) -> BoundingBox:
        """The box of the layer, in mag-1 voxels; setting it resizes the arrays of all its mags."""
        box = self.properties.bounding_box
        return BoundingBox(box.top_left, box.size)

    @bounding_box.setter
    def bounding_box(self, box: BoundingBox) -> None:
        with self._resizing():
            self._resize(box)

    def extend_bounding_box(self, box: BoundingBox) -> None:
        """Let the layer's box grow so that it contains another one; what others make of it meanwhile is kept."""
        with self._resizing():
            if not self.bounding_box.contains_bbox(box):
                self._resize(self.bounding_box.extended_by(box))

    def _resizing(self) -> AbstractContextManager[None]:
        """Let those who resize the layer take turns, as its box and its arrays are several documents."""
        self.require_writable()
        return exclusively(self._store.location / WORK_FOLDER, f"{self._store.location.url}/{self._name} box")

    def _resize(self, box: BoundingBox) -> None:
        properties = self.properties.with_bounding_box((box.topleft, box.size))  # says what no layer can have
        for mag in self.mags.values():
            mag.require_writable()
            spec = mag.spec
            ends = (-(-b // m) for b, m in zip(properties.bounding_box.bottom_right, mag.mag.to_tuple(), strict=True))
            end = dict(zip("xyz", ends, strict=True))
            shape = tuple(
                -(-max(end.get(a, n), n) // u) * u if a in end else n
                for a, n, u in zip(spec.axes, spec.shape, spec.unit, strict=True)
            )
            mag.array.handle.resize(shape)
        self._store.update(lambda old: old.with_layer(old.layer(self._name).with_bounding_box((box.topleft, box.size))))

    @property
    def mags(self) -> Mapping[Mag, MagView]:
        """Its magnifications, finest first."""
        found = sorted((Mag(m.mag) for m in self.properties.mags), key=lambda mag: mag.sort_key)
        return MappingProxyType({mag: MagView(self, mag) for mag in found})

    def get_mag(self, mag: MagLike) -> MagView:
        """Return a magnification, given in any spelling: 1, "2-2-1", (2, 2, 1).

        Raises
        ------
        MagNotFoundError
            Where the layer does not have it; the message says which it has.
        """
        self.properties.mag(Mag(mag).to_tuple())
        return MagView(self, Mag(mag))

    def get_finest_mag(self) -> MagView:
        """Return the finest magnification."""
        mags = self.mags
        return mags[next(iter(mags))] if mags else self.get_mag(1)

    def at(self, resolution: ResolutionLike) -> MagView:
        """Return the magnification for work at a physical resolution: the coarsest one whose voxels are small enough.

        Small enough means that no edge is longer than asked for. An axis along which the layer's best voxels are longer does
        not count, as no magnification could do better: voxels of 4 x 4 x 35 nm are good for 32 nm along x and y. The coarsest
        magnification is the one of fewest voxels. Where all edges of the layer's best voxels are longer than asked for, the
        finest magnification is returned, with a warning.

        Parameters
        ----------
        resolution
            Nanometer, whatever the dataset's unit: a number for all three axes, or three for x, y, z. Or text with a unit:
            ``"32 nm"``, ``"0.1 µm"``, ``"8 x 8 x 35 nm"``.

        Raises
        ------
        InputError
            Where this is no resolution.
        MagNotFoundError
            Where the layer has no magnifications.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> layer = Dataset.open("brain").get_layer("color")  # 1, 2-2-1 and 4-4-1 of voxels of 4 x 4 x 35 nm
        >>> layer.at(8).voxel_size
        Vec3Float(8.0, 8.0, 35.0)
        >>> [layer.at(r).name for r in (15.9, "0.1 µm", (100, 4, 100))]
        ['2-2-1', '4-4-1', '1']
        """
        wanted = parse_resolution(resolution)
        self.get_finest_mag()  # says where there is none
        edges = {mag: view.voxel_size for mag, view in self.mags.items()}
        chosen = choose_mag(edges, wanted)
        if all(edge > asked * ROUNDING for edge, asked in zip(edges[chosen], wanted, strict=True)):
            warnings.warn(
                f"Layer '{self._name}' has no voxels as small as {wanted.to_tuple()} nm; "
                f"this is its finest mag {chosen}, of {edges[chosen].to_tuple()} nm.",
                stacklevel=2,
            )
        return self.get_mag(chosen)

    def open_array(self, mag: Mag) -> MagArray:
        """Open the array of a magnification."""
        return open_mag_array(self._store.location, self._store.properties, self.properties, mag.to_tuple())

    def add_mag(
        self,
        mag: MagLike,
        *,
        chunk_shape: Vec3IntLike | int | None = None,
        shard_shape: Vec3IntLike | int | None = None,
        compress: bool | Codec = True,
    ) -> MagView:
        """Add an empty magnification.

        Parameters
        ----------
        mag
            Which.
        chunk_shape, shard_shape
            In voxels of that mag, powers of two; default 32^3, and 1024^3 or, for flat layers, 4096 x 4096 x 32.
        compress
            Whether chunks are compressed, or by which codec; default zstd, level 5.

        Raises
        ------
        MagExistsError
            Where the layer has it already.
        """
        self.require_writable()
        mag, layer = Mag(mag), self.properties
        if any(m.mag == mag.to_tuple() for m in layer.mags):
            raise MagExistsError(f"Layer '{self._name}' has a magnification {mag} already. Use get_mag to open it.")
        storage = storage_of(layer.data_format, chunk_shape, shard_shape, compress)
        ends, axes = layer_ends(layer, mag.to_tuple()), layer.axes()
        spec = storage.spec({axis: ends[axis][1] for axis in axes}, layer.dtype, first=False)
        place = self._store.location / self._name / mag.to_layer_name()
        find_format(str(layer.data_format)).create(place, spec)
        order = {axis: i for i, axis in enumerate(axes) if axis in "cxyz"}
        cube = spec.unit[order["x"]] if layer.data_format == DataFormat.WKW else None
        path = f"./{self._name}/{mag.to_layer_name()}"
        new = MagProperties.new(mag.to_tuple(), path=path, axis_order=order, cube_length=cube)

        def listed(old: Properties) -> Properties:
            return old.with_layer(old.layer(self._name).with_mag(new))

        self._store.update(listed)
        return MagView(self, mag)

    def to_xarray(self) -> xarray.DataTree:
        """Return all magnifications as a tree of lazy labelled arrays; its children are named "1", "2-2-1" and so on."""
        from wkdask.arrays.xarray_view import pyramid_to_datatree

        return pyramid_to_datatree({mag.name: mag.array for mag in self.mags.values()}, self._name)

    def _repr_html_(self) -> str:
        from wkdask.dataset.html import layer_html

        return layer_html(self)

    def __repr__(self) -> str:
        layer, box = self.properties, self.bounding_box
        mags = ", ".join(str(mag) for mag in self.mags) or "none"
        return (
            f"<{type(self).__name__} '{self._name}': {layer.category}, {layer.num_channels} x {layer.dtype}, "
            f"{layer.data_format}, box {tuple(box.topleft)} + {tuple(box.size)}, mags {mags}>"
        )


class SegmentationLayer(Layer):
    """A layer whose voxels are segment ids; 0 is background."""

    @property
    def largest_segment_id(self) -> int | None:
        """The largest id in use; None where it is not known."""
        return self.properties.largest_segment_id

    @largest_segment_id.setter
    def largest_segment_id(self, value: int | None) -> None:
        if value is not None and (isinstance(value, bool) or not hasattr(value, "__index__") or value < 0):
            raise InputError(f"{value!r} is no segment id. Give a whole number from 0 on, or None where it is not known.")
        new = None if value is None else int(value)
        self._store.update(lambda old: old.with_layer(old.layer(self._name).updated(largest_segment_id=new)))
