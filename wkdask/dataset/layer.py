"""Layers: what a dataset's volumes are, and their magnifications."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from wkdask.arrays import MagArray
from wkdask.arrays.opening import open_mag_array, place_of
from wkdask.dataset.adding_mags import AddMagVerbs
from wkdask.dataset.appending import AppendVerbs
from wkdask.dataset.copying import CopyLayerVerbs
from wkdask.dataset.hashing import LayerHashVerbs
from wkdask.dataset.lazy import LazyVerbs
from wkdask.dataset.mag_view import MagView
from wkdask.dataset.older_names import OlderLayerNames
from wkdask.dataset.pyramid import PyramidVerbs
from wkdask.dataset.rechunking import RechunkVerbs
from wkdask.dataset.references import ReferenceVerbs
from wkdask.dataset.renaming import rename_layer
from wkdask.dataset.resizing import BoxVerbs
from wkdask.dataset.resolution import ROUNDING, ResolutionLike, choose_mag, parse_resolution
from wkdask.dataset.segmentation import SegmentationParts
from wkdask.dataset.showing import LayerShowing
from wkdask.dataset.statistics import SegmentVerbs
from wkdask.dataset.store import DatasetStore
from wkdask.dataset.storing import StoringVerbs
from wkdask.dataset.upsampling import UpsampleVerbs
from wkdask.errors import NotSegmentationError, ReadOnlyError
from wkdask.formats import find_format
from wkdask.geometry import Mag, MagLike, Vec3Float
from wkdask.metadata import DataFormat, LayerProperties, MagProperties
from wkdask.operations.existing import is_linked, is_own, require_own_folder, resolved, with_own_mags
from wkdask.storage import Location

if TYPE_CHECKING:
    import xarray

    from wkdask.dataset.dataset import Dataset
    from wkdask.operations.verify_report import Verification


class Layer(
    BoxVerbs,
    AddMagVerbs,
    OlderLayerNames,
    ReferenceVerbs,
    PyramidVerbs,
    AppendVerbs,
    UpsampleVerbs,
    StoringVerbs,
    CopyLayerVerbs,
    RechunkVerbs,
    LazyVerbs,
    LayerHashVerbs,
    LayerShowing,
):
    """A volume of a dataset, stored in one or several magnifications. Get one from `Dataset.get_layer`."""

    def __init__(self, store: DatasetStore, name: str) -> None:
        self._store, self._name = store, name
        self._unlisted: MagProperties | None = None

    @property
    def properties(self) -> LayerProperties:
        """What the dataset's JSON says of the layer."""
        found = self._store.properties.layer(self._name)
        return found if self._unlisted is None else found.with_mag(self._unlisted)

    @property
    def name(self) -> str:
        """The layer's name, and its folder's; setting it moves the folder, and changes all paths in the dataset's JSON.

        Killed in the middle, the layer is readable all the same; setting the same name again ends the work. References from
        other datasets are not changed.

        Raises
        ------
        InputError
            Where no layer may have this name, or another one, or something else in the dataset's folder, has it.
        DatasetError
            Where the dataset is not local.
        ReadOnlyError
            Where nothing may be changed.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> dataset = Dataset.open("brain")
        >>> dataset.get_layer("color").name = "em"
        >>> dataset.properties.layer("em").mags[0].path
        './em/1'
        """
        return self._name

    @name.setter
    def name(self, value: str) -> None:
        self.require_writable()
        rename_layer(self._store, self._name, value)
        self._name = value
        self._write_groups()

    @property
    def dataset(self) -> Dataset:
        """The dataset that it belongs to."""
        from wkdask.dataset.dataset import Dataset

        found = Dataset.__new__(Dataset)
        found._store = self._store
        return found

    @property
    def path(self) -> str:
        """Its folder or URL."""
        return str(self._store.location / self._name)

    @property
    def resolved_path(self) -> str:
        """Its folder after all links were followed, or its URL."""
        return resolved(self._store.location / self._name)

    @property
    def is_foreign(self) -> bool:
        """Whether it shows another dataset's data: its folder is a link, or all of its magnifications lie elsewhere."""
        mags = self.mags.values()
        return is_linked(self._store.location, self._name) or (bool(mags) and all(map(self.is_mag_view_foreign, mags)))

    def is_mag_view_foreign(self, mag: MagView | MagLike) -> bool:
        """Return whether a magnification belongs to another layer or dataset, to which a reference or a link leads."""
        wanted = mag.mag if isinstance(mag, MagView) else Mag(mag)
        place = place_of(self._store.location, self._name, self.properties.mag(wanted.to_tuple()))
        return not self._owns(place, wanted.to_layer_name())

    def _owns(self, place: Location, mag: str) -> bool:
        return is_own(self._store.location, self._store.properties, self._name, mag, place)

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
    def data_format(self) -> DataFormat | str:
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
        """Whether the layer is only read: its dataset was opened for reading only, or its folder is a link.

        Of a layer whose folder is a link, all is refused that would change what the link leads to, its magnifications, its box
        or its name. What this dataset alone says of it may be set: view configuration, coordinate transformations, largest
        segment id, mappings, and references to attachments. Of a dataset that was opened for reading only, that is refused,
        too.
        """
        return self._store.read_only or is_linked(self._store.location, self._name)

    def require_writable(self) -> None:
        """Raise `ReadOnlyError` where the dataset was opened for reading only, or the layer's folder is a link."""
        self._store.require_writable()
        require_own_folder(self._store.location, self._name)

    def require_own(self, place: Location, mag: str) -> None:
        """Raise `ReadOnlyError` where a magnification's voxels are not the layer's own."""
        if not self._owns(place, mag):
            raise ReadOnlyError(
                f"Mag {mag} of layer '{self._name}' lies outside the dataset, or in another magnification, at {place}, so it "
                "is only read from here. Open the dataset, layer and magnification that it belongs to."
            )

    @property
    def mags(self) -> Mapping[Mag, MagView]:
        """Its magnifications, finest first."""
        found = [Mag(mag.mag) for mag in self.properties.finest_first]
        return MappingProxyType({mag: MagView(self, mag) for mag in found})

    def get_mag(self, mag: MagLike) -> MagView:
        """Return a magnification, given in any spelling: 1, "2-2-1", (2, 2, 1).

        Raises
        ------
        MagNotFoundError
            Where the layer does not have it; the message says which it has.
        """
        wanted = Mag(mag)
        if self._unlisted is None or self._unlisted.mag != wanted.to_tuple():
            self._store.find(lambda properties: properties.layer(self._name).mag(wanted.to_tuple()))
        return MagView(self, wanted)

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

    def _write_groups(self) -> None:
        """Tell other readers of the magnifications that there are, in the documents of the format beside them."""
        target, properties = self._store.location, self._store.properties
        own = with_own_mags(target, properties, properties.layer(self._name))
        find_format(str(self.data_format)).write_groups(target, own, properties.voxel_size)

    def as_segmentation_layer(self) -> SegmentationLayer:
        """Return this very layer, which is a segmentation.

        Raises
        ------
        NotSegmentationError
            Where it is none.
        """
        if isinstance(self, SegmentationLayer):
            return self
        raise NotSegmentationError(f"Layer '{self._name}' is {self.category}, not a segmentation. Use it as it is.")

    def to_xarray(self) -> xarray.DataTree:
        """Return all magnifications as a tree of lazy labelled arrays; its children are named "1", "2-2-1" and so on."""
        from wkdask.arrays.xarray_view import pyramid_to_datatree

        return pyramid_to_datatree({mag.name: mag.array for mag in self.mags.values()}, self._name)

    def verify(
        self,
        *,
        digests: bool = False,
        jobs: int | None = None,
        distribution_strategy: str = "threads",
        memory_limit: str | int | None = None,
    ) -> Verification:
        """Check that every unit of the layer can be read, and that documents and files agree; see `Dataset.verify`."""
        from wkdask.dataset.verifying import verified
        from wkdask.operations.verify import Selected

        selected = Selected((self._name,), (), digests)
        return verified(self._store.location, selected, jobs, distribution_strategy, memory_limit)

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


class SegmentationLayer(SegmentVerbs, SegmentationParts, Layer):
    """A layer whose voxels are segment ids; 0 is background."""
