"""Datasets: the front door of the package."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from wkdask.dataset.layer import Layer, SegmentationLayer, _shape
from wkdask.dataset.store import DatasetStore
from wkdask.errors import DatasetExistsError, InputError, LayerExistsError
from wkdask.formats import Codec
from wkdask.geometry import BoundingBox, Mag, MagLike, Vec3Float, Vec3IntLike
from wkdask.images import find_images
from wkdask.metadata import DataFormat, LayerProperties, LengthUnit, Properties, VoxelSize
from wkdask.operations import Into, Running, Sampling, SamplingModes, Storage, plan_convert
from wkdask.plan import Plan
from wkdask.storage import WORK_FOLDER, Location

PathLike = str | os.PathLike[str]
VoxelSizeLike = tuple[float, float, float]


class Dataset:
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
        size = _voxel_size(voxel_size, voxel_size_with_unit)
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

    @classmethod
    def plan_from_images(
        cls,
        input_path: PathLike,
        output_path: PathLike,
        voxel_size: VoxelSizeLike | None = None,
        name: str | None = None,
        *,
        voxel_size_with_unit: VoxelSize | None = None,
        layer_name: str | None = None,
        layer_category: str | None = None,
        data_format: str | DataFormat = DataFormat.Zarr3,
        chunk_shape: Vec3IntLike | int | None = None,
        shard_shape: Vec3IntLike | int | None = None,
        compress: bool | Codec = True,
        batch_size: int | None = None,
        missing: str | None = None,
        downsample: bool = False,
        coarsest_mag: MagLike | None = None,
        sampling_mode: SamplingModes | str = SamplingModes.ANISOTROPIC,
        interpolation_mode: str = "default",
        jobs: int | None = None,
        memory_limit: int | None = None,
    ) -> Plan:
        """Plan what `from_images` does; nothing is written until ``plan.run()`` or ``plan.compute()``."""
        size = _voxel_size(voxel_size, voxel_size_with_unit)
        if size is None:
            raise InputError("No voxel size was given. Give voxel_size=(x, y, z) in nanometer.")
        if str(data_format) != "zarr3":
            raise InputError(f"The format {data_format!s} is not available yet. Use zarr3.")
        codec = compress if isinstance(compress, Codec) else Codec("zstd", 5) if compress else None
        return plan_convert(
            find_images(os.fspath(input_path), missing),
            output_path,
            size,
            into=Into(layer_name, layer_category or "color", name),
            storage=Storage(_shape(chunk_shape) or (32, 32, 32), _shape(shard_shape), codec),
            sampling=Sampling(
                downsample,
                None if coarsest_mag is None else Mag(coarsest_mag),
                SamplingModes.parse(sampling_mode),
                interpolation_mode,
            ),
            running=Running(jobs or 0, memory_limit or 0, batch_size=batch_size or 0),
        )

    @classmethod
    def from_images(
        cls,
        input_path: PathLike,
        output_path: PathLike,
        voxel_size: VoxelSizeLike | None = None,
        name: str | None = None,
        *,
        voxel_size_with_unit: VoxelSize | None = None,
        layer_name: str | None = None,
        layer_category: str | None = None,
        data_format: str | DataFormat = DataFormat.Zarr3,
        chunk_shape: Vec3IntLike | int | None = None,
        shard_shape: Vec3IntLike | int | None = None,
        compress: bool | Codec = True,
        batch_size: int | None = None,
        missing: str | None = None,
        downsample: bool = False,
        coarsest_mag: MagLike | None = None,
        sampling_mode: SamplingModes | str = SamplingModes.ANISOTROPIC,
        interpolation_mode: str = "default",
        jobs: int | None = None,
        memory_limit: int | None = None,
    ) -> Dataset:
        """Convert a stack of images into a layer of a new or existing dataset.

        Parameters
        ----------
        input_path
            A folder of slices in natural order, or one multi-page file.
        output_path
            The dataset; a further layer is added to an existing one.
        voxel_size, voxel_size_with_unit
            Edges of a mag-1 voxel along x, y, z: in nanometer, or with their unit. Give one of them.
        name
            Of a new dataset; default: the folder's name.
        layer_name, layer_category
            Default: the source's name, ``color``.
        data_format
            ``zarr3``.
        chunk_shape, shard_shape
            Along x, y, z, powers of two; default 32^3 and 4096 x 4096 x 32.
        compress
            Whether chunks are compressed, or by which codec; default zstd, level 5.
        batch_size
            Slices that one task reads; default: a chunk's depth.
        missing
            What stands for slices that the numbering leaves out: ``zeros`` or ``repeat``; None refuses such stacks.
        downsample, coarsest_mag, sampling_mode, interpolation_mode
            Whether, how far and how a pyramid is made, in the same run.
        jobs, memory_limit
            Threads; default: the number of cores. Bytes; default: 0.6 of what there is.

        Returns
        -------
        Dataset
            Opened, with the new layer.

        Raises
        ------
        ImageConversionError
            Where the images can not be a layer; nothing was written.
        DatasetExistsError, LayerExistsError
            Where the target holds something else, or the layer.

        Examples
        --------
        >>> dataset = Dataset.from_images("em/", "memory://from_images", (4, 4, 35), layer_name="color", downsample=True)
        >>> [str(mag) for mag in dataset.get_layer("color").mags]
        ['1', '2-2-1', '4-4-1']
        """
        options = locals()
        del options["cls"]
        cls.plan_from_images(**options).run(memory_limit=memory_limit)
        return cls.open(output_path)

    def _repr_html_(self) -> str:
        from wkdask.dataset.html import dataset_html

        return dataset_html(self)

    def __repr__(self) -> str:
        properties = self._store.properties
        lines = [f"<Dataset '{properties.name}' at {self.path}, voxels of {properties.voxel_size}"]
        lines += [f"  {layer!r}" for layer in self.layers.values()]
        return "\n".join(lines) + ">"


def _voxel_size(nanometer: VoxelSizeLike | None, with_unit: VoxelSize | None) -> VoxelSize | None:
    if nanometer is not None and with_unit is not None:
        raise InputError("Both voxel_size and voxel_size_with_unit were given. Give one of them.")
    if nanometer is None:
        return with_unit
    try:
        return VoxelSize(tuple(nanometer), LengthUnit.NANOMETER)  # type: ignore[arg-type]
    except TypeError:
        raise InputError(f"The voxel size {nanometer!r} is not three numbers. Give (x, y, z) in nanometer.") from None
