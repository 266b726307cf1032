"""What a dataset offers to take in images."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from wkdask.clusters.executors import running_on
from wkdask.dataset.arguments import VoxelSizeLike
from wkdask.dataset.deprecations import one_of, warn_parameters
from wkdask.dataset.import_options import found_of, limit_of, plans_of
from wkdask.dataset.store import DatasetStore
from wkdask.errors import InputError
from wkdask.formats import Codec
from wkdask.geometry import MagLike, Vec3IntLike
from wkdask.images import ConversionLayerMapping, FoundLayer
from wkdask.images.frames import Indexed
from wkdask.metadata import DataFormat, VoxelSize
from wkdask.operations import (
    SamplingModes,
    run_plans,
)
from wkdask.plan import Plan
from wkdask.storage import Location

if TYPE_CHECKING:
    from wkdask.dataset.layer import Layer

PathLike = str | os.PathLike[str]
Images = PathLike | Sequence[Any] | Indexed
LayerMapping = ConversionLayerMapping | Callable[[Path], str]
_NOT_OF_FROM_IMAGES = {"self", "images", "category", "czi_channel", "chunk_size"}


class ImportVerbs:
    """The verbs of a dataset that take in images; a part of `wkdask.Dataset`."""

    ConversionLayerMapping = ConversionLayerMapping
    _store: DatasetStore

    if TYPE_CHECKING:  # of the class that this is a part of

        @classmethod
        def open(
            cls, dataset_path: PathLike | Location, read_only: bool = False, *, storage_options: Mapping[str, Any] | None = None
        ) -> Self:
            """Open an existing dataset."""

        def get_layer(self, layer_name: str) -> Layer:
            """Return a layer."""

    @classmethod
    def from_images(
        cls,
        input_path: Images,
        output_path: PathLike | Location,
        voxel_size: VoxelSizeLike | None = None,
        name: str | None = None,
        *,
        map_filepath_to_layer_name: LayerMapping = ConversionLayerMapping.INSPECT_SINGLE_FILE,
        z_slices_sort_key: Callable[[Path], Any] | None = None,
        voxel_size_with_unit: VoxelSize | None = None,
        layer_name: str | None = None,
        layer_category: str | None = None,
        data_format: str | DataFormat = DataFormat.Zarr3,
        chunk_shape: Vec3IntLike | int | None = None,
        chunks_per_shard: Vec3IntLike | int | None = None,
        shard_shape: Vec3IntLike | int | None = None,
        compress: bool | Codec = True,
        axis_order: str = "cxyz",
        topleft: Vec3IntLike | None = None,
        mag: MagLike = 1,
        swap_xy: bool = False,
        flip_x: bool = False,
        flip_y: bool = False,
        flip_z: bool = False,
        use_bioformats: bool | None = None,
        max_layers: int = 20,
        batch_size: int | None = None,
        missing: str | None = None,
        z_from_name: str | None = None,
        dtype: Any = None,
        rescale: str | tuple[float, float] | None = None,
        invert: bool = False,
        channel: int | None = None,
        timepoint: int | None = None,
        allow_multiple_layers: bool = True,
        truncate_rgba_to_rgb: bool = True,
        axes: str | None = None,
        scale: int | None = None,
        downsample: bool = False,
        coarsest_mag: MagLike | None = None,
        sampling_mode: SamplingModes | str = SamplingModes.ANISOTROPIC,
        interpolation_mode: str = "default",
        jobs: int | None = None,
        memory_limit: int | str | None = None,
        restart: bool = False,
        executor: object = None,
        storage_options: Mapping[str, Any] | None = None,
        input_storage_options: Mapping[str, Any] | None = None,
    ) -> Self:
        """Convert images into the layers of a new or existing dataset.

        Stopped or killed at any moment, the same call goes on where it was.

        Parameters
        ----------
        input_path
            A file, a folder, a zip of images, a pattern such as ``em/*.tif``, or a list of files. An image's columns become x,
            its rows y, files or pages z. Or an array, or frames in memory; see `add_layer_from_images`.
        output_path
            The dataset; further layers are added to an existing one.
        voxel_size, voxel_size_with_unit
            Edges of a mag-1 voxel along x, y, z: in nanometer, or with their unit. Default: that of the existing dataset, or
            what the images' metadata say.
        name
            Of a new dataset; default: the folder's name.
        map_filepath_to_layer_name
            Which files become one layer: a `ConversionLayerMapping`, or a function from path to layer name.
        z_slices_sort_key, z_from_name
            Order of a layer's files: a sort key, or a regular expression whose one group is the slice's number; default:
            natural order of the names.
        layer_name
            Of the layer; with several layers, what comes before each name.
        layer_category
            ``color`` or ``segmentation``; None: segmentation for 64-bit integers, and for 32-bit ones or paths with
            "segmentation" or "labels" in them where the voxels look like labels; else colour.
        data_format
            ``zarr3``, ``wkw``, ``zarr``, ``n5`` or ``neuroglancerPrecomputed``.
        chunk_shape, shard_shape, chunks_per_shard
            Along x, y, z, powers of two; default 32^3, and 4096 x 4096 x 32 (Zarr 3) or 1024^3 (WKW).
        compress
            Whether chunks are compressed, or by which codec; default zstd level 5, or LZ4HC in WKW.
        axis_order
            Order in which axes are stored. With "czyx" Zarr arrays are as other programs expect them of OME-NGFF: they end
            where the layer does, and the metadata tell centres, colours and contrast.
        topleft
            Where the first voxel lies, in mag-1 voxels; default: 0, and of volumes what their metadata say.
        mag
            The magnification that the images are.
        swap_xy, flip_x, flip_y, flip_z
            Whether rows become x; after that, which axes of the result are mirrored.
        use_bioformats
            Refused where True: readers are built in.
        max_layers
            More layers than these are an error.
        batch_size
            Slices that one task reads; default: a chunk's depth.
        missing
            What a gap in the numbering becomes: ``zeros``, ``repeat`` or ``close``; None or ``error`` refuses it.
        dtype, rescale, invert
            Another dtype; which values become its least and greatest: ``(MIN, MAX)``, ``"percentiles"``,
            ``"percentiles:LOW,HIGH"`` or ``"per-slice"``; whether light becomes dark.
        channel, timepoint, allow_multiple_layers, truncate_rgba_to_rgb
            Which channel or time point alone; whether channels may become layers; whether alpha is left out.
        axes, scale
            What the axes of a volume are, in stored order, such as ``"zyx"``; default: what its metadata say. Which level of an
            OME-Zarr image becomes the layer; 0 is the finest.
        downsample, coarsest_mag, sampling_mode, interpolation_mode
            Whether, how far and how a pyramid is made, in the same run.
        jobs, memory_limit
            Threads; default: the number of cores. Bytes, or such as ``"4GB"``; default: 0.6 of what there is.
        restart
            Whether an unfinished conversion into the same layer is given up: what it made of the layer is deleted.
        executor
            As of `View.for_each_chunk`.
        storage_options
            Of ``output_path`` where it is a URL: credentials and endpoint, for fsspec. Never shown.
        input_storage_options
            Of ``input_path`` where it is a URL; default: those of the output where both are of the same kind, such as S3.

        Returns
        -------
        Dataset
            Opened, with the new layers.

        Raises
        ------
        ImageConversionError
            Where the images can not be layers; nothing was written.
        DatasetExistsError, LayerExistsError
            Where the target holds something else, or the layer.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> dataset = Dataset.from_images("em/", "memory://from_images", (4, 4, 35), layer_name="color", downsample=True)
        >>> [str(mag) for mag in dataset.get_layer("color").mags]
        ['1', '2-2-1', '4-4-1']
        """
        return cls._imported({name: value for name, value in locals().items() if name != "cls"})

    @classmethod
    def _imported(cls, options: dict[str, Any]) -> Self:
        """Convert images by the parameters of `from_images`, which called this."""
        warn_parameters(stacklevel=4, chunks_per_shard=options["chunks_per_shard"])
        _run(options, found_of(options))
        return cls.open(options["output_path"], storage_options=options["storage_options"])

    @classmethod
    def plans_from_images(cls, *args: Any, **options: Any) -> list[Plan]:
        """Return what `from_images` would run, one plan for each layer; parameters as there. Nothing is written.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> [plan] = Dataset.plans_from_images("em/", "memory://plans", (4, 4, 35))
        >>> [milestone.name for milestone in plan.milestones]
        ['em/1']
        """
        bound = inspect.signature(cls.from_images).bind(*args, **options)
        bound.apply_defaults()
        return plans_of(bound.arguments, found_of(bound.arguments))

    @classmethod
    def plan_from_images(cls, *args: Any, **options: Any) -> Plan:
        """Return what `from_images` would run where that is one layer; parameters as there. Nothing is written."""
        plans = cls.plans_from_images(*args, **options)
        if len(plans) != 1:
            names = ", ".join(plan.journal.key for plan in plans)
            raise InputError(f"The images become {len(plans)} layers ({names}), expected one. Use plans_from_images.")
        return plans[0]

    def add_layer_from_images(
        self,
        images: Images,
        layer_name: str,
        category: str | None = "color",
        data_format: str | DataFormat = DataFormat.Zarr3,
        mag: MagLike = 1,
        chunk_shape: Vec3IntLike | int | None = None,
        chunks_per_shard: Vec3IntLike | int | None = None,
        compress: bool | Codec = True,
        *,
        shard_shape: Vec3IntLike | int | None = None,
        axis_order: str = "cxyz",
        topleft: Vec3IntLike | None = None,
        swap_xy: bool = False,
        flip_x: bool = False,
        flip_y: bool = False,
        flip_z: bool = False,
        dtype: Any = None,
        use_bioformats: bool | None = None,
        channel: int | None = None,
        timepoint: int | None = None,
        czi_channel: int | None = None,
        batch_size: int | None = None,
        allow_multiple_layers: bool = False,
        max_layers: int = 20,
        truncate_rgba_to_rgb: bool = True,
        z_slices_sort_key: Callable[[Path], Any] | None = None,
        missing: str | None = None,
        z_from_name: str | None = None,
        rescale: str | tuple[float, float] | None = None,
        invert: bool = False,
        axes: str | None = None,
        scale: int | None = None,
        downsample: bool = False,
        coarsest_mag: MagLike | None = None,
        sampling_mode: SamplingModes | str = SamplingModes.ANISOTROPIC,
        interpolation_mode: str = "default",
        jobs: int | None = None,
        memory_limit: int | str | None = None,
        restart: bool = False,
        executor: object = None,
        chunk_size: Vec3IntLike | int | None = None,
        input_storage_options: Mapping[str, Any] | None = None,
    ) -> Layer:
        """Convert images into a layer of this dataset, or into several where their channels can not be one.

        Parameters
        ----------
        images
            A file, a folder, a zip of images, a pattern, or a list of files: all of them become one layer. Or an array of z, y,
            x and channels (or as `axes` say), or whatever has a length and gives frames of rows, columns and channels by their
            numbers, such as a list of arrays or a reader of films. These are read tile by tile, frames by one thread at a time.
            As nothing tells one from another, a run of them that was stopped is not gone on with: begin anew with `restart`.
        layer_name
            Of the layer; of several, what comes before ``__channel0`` and so on.
        category
            ``color`` or ``segmentation``; None: as in `from_images`.
        data_format, mag, chunk_shape, shard_shape, compress, axis_order, topleft, swap_xy, flip_x, flip_y, flip_z
            As in `from_images`.
        dtype, use_bioformats, channel, timepoint, batch_size, max_layers, truncate_rgba_to_rgb, z_slices_sort_key, missing
            As in `from_images`.
        z_from_name, rescale, invert, axes, downsample, coarsest_mag, sampling_mode, interpolation_mode
            As in `from_images`.
        scale
            Which level of an OME-Zarr image becomes the layer: 0, the default, is the finest.
        jobs, memory_limit, restart, executor
            As in `from_images`.
        input_storage_options
            Of ``images`` where they are a URL; default: those of the dataset where both are of the same kind, such as S3.
        allow_multiple_layers
            Whether channels may become layers; else `channel` must be given.
        czi_channel
            Refused: CZI files can not be read here.
        chunk_size, chunks_per_shard
            Older names of `chunk_shape` and, in chunks, of `shard_shape`.

        Returns
        -------
        Layer
            The first one.

        Raises
        ------
        ImageConversionError
            Where the images can not be such a layer; nothing was written.
        LayerExistsError
            Where there is one of this name.

        Examples
        --------
        >>> import numpy as np
        >>> from wkdask import Dataset
        >>> dataset = Dataset("memory://add_layer_from_images", voxel_size=(4, 4, 35))
        >>> dataset.add_layer_from_images("em/", "color", topleft=(64, 0, 0)).bounding_box.topleft
        Vec3Int(64, 0, 0)
        >>> frames = [np.full((8, 9), z, "uint8") for z in range(4)]
        >>> dataset.add_layer_from_images(frames, "film").get_mag(1).read()[0, 8, 7].tolist()
        [0, 1, 2, 3]
        """
        options = {name: value for name, value in locals().items() if name not in _NOT_OF_FROM_IMAGES}
        warn_parameters(chunks_per_shard=chunks_per_shard, chunk_size=chunk_size)
        options["chunk_shape"] = one_of(chunk_shape=chunk_shape, chunk_size=chunk_size)
        return self._layer_from_images(images, czi_channel, layer_category=category, **options)

    def _layer_from_images(self, images: Any, czi_channel: int | None, **options: Any) -> Layer:
        self._store.require_writable()
        if czi_channel is not None:
            raise InputError("czi_channel is for CZI files, which can not be read here. Convert them to OME-TIFF first.")
        bound = inspect.signature(type(self).from_images).bind(images, self._store.location, **options)
        bound.apply_defaults()
        layers = found_of(bound.arguments, merge=True)
        _run(bound.arguments, layers)
        return self.get_layer(layers[0].name)


def _run(options: Mapping[str, Any], layers: Sequence[FoundLayer]) -> None:
    """Run the plans of an import, from the parameters of `ImportVerbs.from_images` by name."""
    with running_on(options["executor"]):
        run_plans(plans_of(options, layers), memory_limit=limit_of(options))
