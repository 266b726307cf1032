"""Datasets: the front door of the package."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from wkdask.dataset.arguments import VoxelSizeLike, voxel_size_of
from wkdask.dataset.importing import ImportVerbs, PathLike
from wkdask.dataset.layer import Layer, SegmentationLayer
from wkdask.dataset.store import DatasetStore
from wkdask.errors import DatasetExistsError, InputError, LayerExistsError
from wkdask.formats import Codec
from wkdask.geometry import BoundingBox, MagLike, Vec3Float
from wkdask.metadata import DataFormat, LayerProperties, Properties, VoxelSize
from wkdask.operations import SamplingModes
from wkdask.storage import WORK_FOLDER, Location


class Dataset(ImportVerbs):
    """A WEBKNOSSOS dataset: layers of one volume, described by ``datasource-properties.json``.

    Parameters
    ----------
    dataset_path
        A folder or URL. With a voxel size a new dataset is made there; with ``exist_ok`` an existing one is opened.
    voxel_size
        Edges of a mag-1 voxel along x, y, z in nanometer.
    name
        Default: the folder's name.
    exist_ok
        Whether a dataset may be there already; it must have the same voxel size.
    voxel_size_with_unit
        Instead of ``voxel_size``, in any unit.
    read_only
        Open without the right to change anything.

    Raises
    ------
    DatasetExistsError
        Where something is there already.
    DatasetNotFoundError
        Where nothing is there and no voxel size was given.

    Examples
    --------
    >>> import numpy as np
    >>> import numpy as np
    >>> ds = Dataset("memory://example", voxel_size=(4, 4, 35))
    >>> layer = ds.add_layer("color", "color", bounding_box=BoundingBox((0, 0, 0), (64, 64, 32)))
    >>> mag = layer.add_mag(1)
    >>> mag.write(np.ones((64, 64, 32), "uint8"))
    >>> int(Dataset.open("memory://example").get_layer("color").get_mag(1).read().sum())
    131072
    """

    def __init__(
        self,
        dataset_path: PathLike | Location,
        voxel_size: VoxelSizeLike | None = None,
        name: str | None = None,
        exist_ok: bool = False,
        *,
        voxel_size_with_unit: VoxelSize | None = None,
        read_only: bool = False,
    ) -> None:
        self._store = DatasetStore(Location.of(dataset_path), read_only=read_only)
        size = voxel_size_of(voxel_size, voxel_size_with_unit)
        if self._store.document.is_file():
            self._open_existing(size, name, exist_ok or (size is None))
        elif size is None or read_only:
            self._store.properties  # noqa: B018 - says that there is none
        elif not self._create(size, name):
            self._open_existing(size, name, exist_ok)

    def _open_existing(self, size: VoxelSize | None, name: str | None, exist_ok: bool) -> None:
        if not exist_ok:
            raise DatasetExistsError(f"{self._store.location} is a dataset already. Pass exist_ok=True, or use Dataset.open.")
        found = self._store.properties
        if size is not None and found.voxel_size != size:
            raise DatasetExistsError(
                f"{self._store.location} has voxels of {found.voxel_size}, not {size}. Correct one of them."
            )
        if name is not None and found.name != name:
            raise DatasetExistsError(f"{self._store.location} is named '{found.name}', not '{name}'. Correct one of them.")

    def _create(self, size: VoxelSize, name: str | None) -> bool:
        """Write the JSON; return False where another process was quicker."""
        location = self._store.location
        if location.is_file() or [n for n in location.names() if n != WORK_FOLDER]:
            raise DatasetExistsError(f"{location} exists and is no dataset. Give a folder that is empty or new.")
        return self._store.document.create(Properties.new(name or location.name, size).to_json())

    @classmethod
    def open(cls, dataset_path: PathLike | Location, read_only: bool = False) -> Dataset:
        """Open an existing dataset.

        Raises
        ------
        DatasetNotFoundError
            Where there is none.
        MetadataError
            Where its JSON is not sound; the message names the place and what is wrong.
        """
        dataset = cls.__new__(cls)
        dataset._store = DatasetStore(Location.of(dataset_path), read_only=read_only)
        dataset._store.properties  # noqa: B018 - parsed now, so that errors come here
        return dataset

    @property
    def path(self) -> str:
        """The folder or URL."""
        return str(self._store.location)

    @property
    def properties(self) -> Properties:
        """What the JSON says now."""
        return self._store.properties

    @property
    def name(self) -> str:
        """The dataset's name; setting it saves."""
        return self._store.properties.name

    @name.setter
    def name(self, value: str) -> None:
        self._store.update(lambda old: old.with_name(value))

    @property
    def read_only(self) -> bool:
        """Whether every change is refused."""
        return self._store.read_only

    @property
    def voxel_size(self) -> Vec3Float:
        """Edges of a mag-1 voxel along x, y, z in nanometer."""
        return Vec3Float(*self._store.properties.voxel_size.to_nanometer())

    @property
    def voxel_size_with_unit(self) -> VoxelSize:
        """Edges of a mag-1 voxel in the unit that the dataset has."""
        return self._store.properties.voxel_size

    @property
    def layers(self) -> Mapping[str, Layer]:
        """The layers by name, in their order."""
        return MappingProxyType({name: self.get_layer(name) for name in self._store.properties.layer_names})

    def get_layer(self, layer_name: str) -> Layer:
        """Return a layer.

        Raises
        ------
        LayerNotFoundError
            Where there is none of this name; the message says which there are.
        """
        layer = self._store.properties.layer(layer_name)
        return (SegmentationLayer if layer.category == "segmentation" else Layer)(self._store, layer_name)

    def calculate_bounding_box(self) -> BoundingBox:
        """Return the box around all layers, in mag-1 voxels."""
        box = BoundingBox((0, 0, 0), (0, 0, 0))
        for layer in self.layers.values():
            box = box.extended_by(layer.bounding_box)
        return box

    def add_layer(
        self,
        layer_name: str,
        category: str,
        dtype_per_channel: Any = None,
        num_channels: int | None = None,
        data_format: str | DataFormat = DataFormat.Zarr3,
        bounding_box: BoundingBox | None = None,
        *,
        dtype: Any = None,
    ) -> Layer:
        """Add a layer without magnifications.

        Parameters
        ----------
        layer_name
            Letters, digits and ``_ $ @ - .``.
        category
            ``color`` or ``segmentation``.
        dtype_per_channel, dtype
            Of one channel, by either name; default uint8.
        num_channels
            Default 1.
        data_format
            How voxels are stored.
        bounding_box
            In mag-1 voxels; default empty.

        Raises
        ------
        LayerExistsError
            Where there is a layer of this name.
        """
        self._store.require_writable()
        if dtype is not None and dtype_per_channel is not None:
            raise InputError("Both dtype and dtype_per_channel were given. Give one of them.")
        box = bounding_box or BoundingBox((0, 0, 0), (0, 0, 0))
        chosen = dtype if dtype is not None else dtype_per_channel if dtype_per_channel is not None else "uint8"
        channels = 1 if num_channels is None else num_channels
        new = LayerProperties.new(layer_name, category, chosen, channels, str(data_format), (box.topleft, box.size))

        def added(old: Properties) -> Properties:
            if layer_name in old.layer_names:
                raise LayerExistsError(f"{self.path} has a layer '{layer_name}' already. Choose another name.")
            return old.with_layer(new)

        self._store.update(added)
        return self.get_layer(layer_name)

    def downsample(
        self,
        sampling_mode: SamplingModes | str = SamplingModes.ANISOTROPIC,
        coarsest_mag: MagLike | None = None,
        *,
        interpolation_mode: str = "default",
        compress: bool | Codec = True,
        executor: Any = None,
    ) -> None:
        """Make the coarser magnifications of all layers, each from the coarsest that it has; layers without any are left out.

        Stopped or killed at any moment, the same call goes on where it was.

        Parameters
        ----------
        sampling_mode, coarsest_mag, interpolation_mode, compress
            As in `Layer.downsample`.
        executor
            Accepted for scripts that give it.

        Examples
        --------
        >>> dataset = Dataset.from_images("em/", "memory://downsample", (4, 4, 35), layer_name="color")
        >>> dataset.downsample(coarsest_mag=4)
        >>> [str(mag) for mag in dataset.get_layer("color").mags]
        ['1', '2-2-1', '4-4-1']
        """
        del executor
        self._store.require_writable()
        for layer in self.layers.values():
            if layer.mags:
                layer.downsample(None, coarsest_mag, interpolation_mode, compress, sampling_mode)

    def _repr_html_(self) -> str:
        from wkdask.dataset.html import dataset_html

        return dataset_html(self)

    def __repr__(self) -> str:
        properties = self._store.properties
        lines = [f"<Dataset '{properties.name}' at {self.path}, voxels of {properties.voxel_size}"]
        lines += [f"  {layer!r}" for layer in self.layers.values()]
        return "\n".join(lines) + ">"
