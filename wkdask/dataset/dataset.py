"""Datasets: the front door of the package."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from wkdask.dataset.adding import AddVerbs
from wkdask.dataset.arguments import VoxelSizeLike, voxel_size_of
from wkdask.dataset.choosing import ChooseVerbs
from wkdask.dataset.deprecations import one_of, warn_name, warn_parameters
from wkdask.dataset.hashing import DatasetHashVerbs
from wkdask.dataset.importing import ImportVerbs, PathLike
from wkdask.dataset.layer import Layer, SegmentationLayer
from wkdask.dataset.layer_references import LayerReferenceVerbs
from wkdask.dataset.merging import MergeVerbs
from wkdask.dataset.server_names import ServerVerbs
from wkdask.dataset.shallow import ShallowCopyVerbs
from wkdask.dataset.showing import DatasetShowing
from wkdask.dataset.store import DatasetStore
from wkdask.errors import (
    DatasetExistsError,
    DatasetMismatchError,
    DatasetNotFoundError,
    MetadataError,
    NotAFolderError,
    ReadOnlyError,
    StorageError,
    VoxelSizeMissingError,
)
from wkdask.formats import Codec
from wkdask.geometry import BoundingBox, MagLike, Vec3Float
from wkdask.metadata import Properties, VoxelSize
from wkdask.operations import SamplingModes
from wkdask.operations.existing import resolved
from wkdask.storage import WORK_FOLDER, Location

if TYPE_CHECKING:
    from wkdask.operations.verify_report import Verification


class Dataset(
    ChooseVerbs,
    AddVerbs,
    ImportVerbs,
    ShallowCopyVerbs,
    LayerReferenceVerbs,
    MergeVerbs,
    DatasetHashVerbs,
    DatasetShowing,
    ServerVerbs,
):
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
        Whether a dataset may be there already; it must have the same voxel size, and the same name where one is given. It is
        opened too where this is left out, which is deprecated.
    voxel_size_with_unit
        Instead of ``voxel_size``, in any unit.
    scale
        Older name of ``voxel_size``.
    read_only
        Open without the right to change anything.
    storage_options
        Of a URL, for fsspec: such as ``key``, ``secret``, ``endpoint_url``, or ``anon=True``. Never shown, and not kept in the
        dataset. Default: what the environment says.

    Raises
    ------
    DatasetExistsError
        Where something is there already; `NotAFolderError` where it is a file.
    DatasetMismatchError
        Where the dataset that is there has other voxels or another name.
    DatasetNotFoundError
        Where nothing is there and nothing is to be made; `VoxelSizeMissingError` where just the voxel size lacks.
    InputError
        Where the voxel size lacks beside ``exist_ok=True``, is none, or is given in two ways.

    Examples
    --------
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
        exist_ok: bool | Literal["unset"] = "unset",
        *,
        voxel_size_with_unit: VoxelSize | None = None,
        scale: VoxelSizeLike | None = None,
        read_only: bool = False,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        warn_parameters(scale=scale)
        self._store = DatasetStore(Location.of(dataset_path, storage_options), read_only=read_only)
        size = voxel_size_of(one_of(voxel_size=voxel_size, scale=scale), voxel_size_with_unit)
        if self._make(size, name, exist_ok is True):
            return
        if exist_ok == "unset":
            told = f"{self._store.location} is a dataset already, and was opened. Use Dataset.open, or pass exist_ok=True."
            warnings.warn(told, DeprecationWarning, stacklevel=2)
        elif not exist_ok:
            raise DatasetExistsError(f"{self._store.location} is a dataset already. Pass exist_ok=True, or use Dataset.open.")
        self._require_like(size, name)

    def _make(self, size: VoxelSize | None, name: str | None, exist_ok: bool) -> bool:
        """Write the JSON of a new dataset; return False where there is one."""
        location = self._store.location
        if size is None and exist_ok:
            raise VoxelSizeMissingError(
                f"exist_ok=True was given for {location} without a voxel size, which a new dataset needs. Give voxel_size, or "
                "use Dataset.open for one that is there."
            )
        if self._store.document.is_file():
            return False
        if self._store.read_only:
            raise DatasetNotFoundError(f"{location} is no dataset, and none is made read-only. Check the path.")
        if location.is_file():
            raise NotAFolderError(f"{location} is a file, expected a folder that is a dataset, empty or new. Give another.")
        if size is None:
            self._refuse_unmeasured()
        elif [n for n in location.names() if n != WORK_FOLDER]:
            raise DatasetExistsError(f"{location} exists and is no dataset. Give a folder that is empty or new.")
        else:
            return self._store.document.create(Properties.new(name or location.name, size).to_json())
        return False

    def _refuse_unmeasured(self) -> None:
        """Say that there is no dataset, and that none can be made without the size of its voxels."""
        try:
            self._store.properties  # noqa: B018 - which tells of unfinished runs
        except DatasetNotFoundError as error:
            raise VoxelSizeMissingError(f"{error} To make a new dataset there, give its voxel_size.") from None

    def _require_like(self, size: VoxelSize | None, name: str | None) -> None:
        found = self._store.properties
        if size is not None and found.voxel_size != size:
            raise DatasetMismatchError(
                f"{self._store.location} has voxels of {found.voxel_size}, not {size}. Correct one of them."
            )
        if name is not None and found.name != name:
            raise DatasetMismatchError(f"{self._store.location} is named '{found.name}', not '{name}'. Correct one of them.")

    @classmethod
    def open(
        cls, dataset_path: PathLike | Location, read_only: bool = False, *, storage_options: Mapping[str, Any] | None = None
    ) -> Dataset:
        """Open an existing dataset; ``storage_options`` are credentials and endpoint of its URL, see `Dataset`.

        Raises
        ------
        DatasetNotFoundError
            Where there is none.
        MetadataError
            Where its JSON is not sound; the message names the place and what is wrong.
        """
        dataset = cls.__new__(cls)
        dataset._store = DatasetStore(Location.of(dataset_path, storage_options), read_only=read_only)
        dataset._store.properties  # noqa: B018 - parsed now, so that errors come here
        return dataset

    @classmethod
    def create(
        cls,
        dataset_path: PathLike | Location,
        voxel_size: VoxelSizeLike | None = None,
        name: str | None = None,
        *,
        scale: VoxelSizeLike | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> Dataset:
        """Make a new dataset: an older way to call the class itself."""
        warn_name("Dataset.create")
        size = one_of(voxel_size=voxel_size, scale=scale)
        return cls(dataset_path, size, name, exist_ok=False, storage_options=storage_options)

    @classmethod
    def get_or_create(
        cls,
        dataset_path: PathLike | Location,
        voxel_size: VoxelSizeLike | None = None,
        name: str | None = None,
        *,
        scale: VoxelSizeLike | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> Dataset:
        """Open a dataset, or make it: an older way to call the class itself with ``exist_ok=True``."""
        warn_name("Dataset.get_or_create")
        size = one_of(voxel_size=voxel_size, scale=scale)
        return cls(dataset_path, size, name, exist_ok=True, storage_options=storage_options)

    @property
    def path(self) -> str:
        """The folder or URL."""
        return str(self._store.location)

    @property
    def location(self) -> Location:
        """The folder or URL, with the options that it was opened with: what calls take instead of both."""
        return self._store.location

    @property
    def resolved_path(self) -> str:
        """The folder when all links are followed, or the URL."""
        return str(Location(resolved(self._store.location)))

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
    def scale(self) -> Vec3Float:
        """Older name of `voxel_size`."""
        warn_name("Dataset.scale")
        return self.voxel_size

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
        layer = self._store.find(lambda properties: properties.layer(layer_name))
        return (SegmentationLayer if layer.category == "segmentation" else Layer)(self._store, layer_name)

    def calculate_bounding_box(self) -> BoundingBox:
        """Return the box around all layers along x, y and z, in mag-1 voxels."""
        box = BoundingBox((0, 0, 0), (0, 0, 0))
        for layer in self.layers.values():
            box = box.extended_by(BoundingBox.from_ndbbox(layer.bounding_box))
        return box

    def downsample(
        self,
        sampling_mode: SamplingModes | str = SamplingModes.ANISOTROPIC,
        coarsest_mag: MagLike | None = None,
        executor: Any = None,
        *,
        interpolation_mode: str = "default",
        compress: bool | Codec = True,
    ) -> None:
        """Make the coarser magnifications of all layers, each from the coarsest that it has; layers without any are left out.

        Stopped or killed at any moment, the same call goes on where it was.

        Parameters
        ----------
        sampling_mode, coarsest_mag, interpolation_mode, compress
            As in `Layer.downsample`.
        executor
            As of `View.for_each_chunk`.

        Raises
        ------
        ReadOnlyError
            Where a layer that needs coarser magnifications is a link; the other layers have got theirs.

        Examples
        --------
        >>> dataset = Dataset.from_images("em/", "memory://downsample", (4, 4, 35), layer_name="color")
        >>> dataset.downsample(coarsest_mag=4)
        >>> [str(mag) for mag in dataset.get_layer("color").mags]
        ['1', '2-2-1', '4-4-1']
        """
        self._store.require_writable()
        refused: list[ReadOnlyError] = []
        for layer in self.layers.values():
            if layer.mags:
                try:
                    layer.downsample(None, coarsest_mag, interpolation_mode, compress, sampling_mode, executor=executor)
                except ReadOnlyError as error:  # the layers behind a link have to get theirs all the same
                    refused.append(error)
        if refused:
            raise refused[0]

    def verify(
        self,
        *,
        digests: bool = False,
        jobs: int | None = None,
        distribution_strategy: str = "threads",
        memory_limit: str | int | None = None,
    ) -> Verification:
        """Check that every unit can be read, and that documents and files agree. Nothing is written.

        Parameters
        ----------
        digests
            Whether units are only compared with the sizes and digests that were recorded when they were made; none is decoded.
        jobs, distribution_strategy, memory_limit
            Tasks at once, where they run, and bytes that they may take, as on the command line.

        Returns
        -------
        Verification
            With ``ok``, ``faults`` and ``notes``; damage is told there, never raised.

        Examples
        --------
        >>> report = Dataset.open("brain").verify()
        >>> report.ok, report.faults
        (True, ())
        """
        from wkdask.dataset.verifying import verified
        from wkdask.operations.verify import Selected

        return verified(self._store.location, Selected((), (), digests), jobs, distribution_strategy, memory_limit)

    def __eq__(self, other: object) -> bool:
        """Two are equal that are open at the same place with the same rights; voxels are compared by `content_hash`."""
        if not isinstance(other, Dataset):
            return NotImplemented
        mine, others = self._store, other._store
        return (mine.location, mine.read_only) == (others.location, others.read_only)

    def __hash__(self) -> int:
        """Hash place and rights."""
        return hash((self._store.location, self._store.read_only))

    def _repr_html_(self) -> str:
        from wkdask.dataset.html import dataset_html

        return dataset_html(self)

    def __repr__(self) -> str:
        try:
            properties = self._store.properties
        except (StorageError, MetadataError) as error:  # which must not hide what is being told
            return f"<Dataset at {self.path}, which can not be read: {error}>"
        lines = [f"<Dataset '{properties.name}' at {self.path}, voxels of {properties.voxel_size}"]
        lines += [f"  {layer!r}" for layer in self.layers.values()]
        return "\n".join(lines) + ">"
