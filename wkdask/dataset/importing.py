"""What a dataset offers to take in images."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from wkdask.dataset.arguments import VoxelSizeLike, codec_of, rescale_of, shape_of, shard_of, voxel_size_of
from wkdask.dataset.store import DatasetStore
from wkdask.errors import InputError
from wkdask.formats import Codec
from wkdask.geometry import Mag, MagLike, Vec3IntLike
from wkdask.images import ConversionLayerMapping, FoundLayer, Selection, find_layers
from wkdask.images.picture import EXTENSIONS
from wkdask.metadata import DataFormat, VoxelSize, dtype_name
from wkdask.operations import (
    Orientation,
    Running,
    Sampling,
    SamplingModes,
    Storage,
    Treatment,
    plan_imports,
    run_plans,
)
from wkdask.plan import Plan, parse_bytes
from wkdask.storage import Location

if TYPE_CHECKING:
    from wkdask.dataset.layer import Layer

PathLike = str | os.PathLike[str]
LayerMapping = ConversionLayerMapping | Callable[[Path], str]


class ImportVerbs:
    """The verbs of a dataset that take in images; a part of `wkdask.Dataset`."""

    ConversionLayerMapping = ConversionLayerMapping
    _store: DatasetStore

    @classmethod
    def open(cls, dataset_path: PathLike | Location, read_only: bool = False) -> Self:
        """Open an existing dataset."""
        raise NotImplementedError

    def get_layer(self, layer_name: str) -> Layer:
        """Return a layer."""
        raise NotImplementedError

    @classmethod
    def from_images(
        cls,
        input_path: PathLike | Sequence[PathLike],
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
        topleft: Vec3IntLike = (0, 0, 0),
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
        downsample: bool = False,
        coarsest_mag: MagLike | None = None,
        sampling_mode: SamplingModes | str = SamplingModes.ANISOTROPIC,
        interpolation_mode: str = "default",
        jobs: int | None = None,
        memory_limit: int | str | None = None,
        restart: bool = False,
        executor: object = None,
    ) -> Self:
        """Convert images into the layers of a new or existing dataset.

        Stopped or killed at any moment, the same call goes on where it was.

        Parameters
        ----------
        input_path
            A file, a folder, a zip of images, a pattern such as ``em/*.tif``, or a list of files. An image's columns become x,
            its rows y, files or pages z.
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
            ``zarr3`` or ``wkw``.
        chunk_shape, shard_shape, chunks_per_shard
            Along x, y, z, powers of two; default 32^3, and 4096 x 4096 x 32 (Zarr 3) or 1024^3 (WKW).
        compress
            Whether chunks are compressed, or by which codec; default zstd level 5, or LZ4HC in WKW.
        topleft
            Where the first voxel lies, in mag-1 voxels.
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
        downsample, coarsest_mag, sampling_mode, interpolation_mode
            Whether, how far and how a pyramid is made, in the same run.
        jobs, memory_limit
            Threads; default: the number of cores. Bytes, or such as ``"4GB"``; default: 0.6 of what there is.
        restart
            Whether an unfinished conversion into the same layer is given up: what it made of the layer is deleted.
        executor
            Accepted for scripts that give it.

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
        options = locals()
        del options["cls"]
        run_plans(_plans(options, _found(options)), memory_limit=_limit(options))
        return cls.open(output_path)

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
        return _plans(bound.arguments, _found(bound.arguments))

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
        images: PathLike | Sequence[PathLike],
        layer_name: str,
        category: str | None = "color",
        data_format: str | DataFormat = DataFormat.Zarr3,
        mag: MagLike = 1,
        chunk_shape: Vec3IntLike | int | None = None,
        chunks_per_shard: Vec3IntLike | int | None = None,
        compress: bool | Codec = True,
        *,
        allow_multiple_layers: bool = False,
        czi_channel: int | None = None,
        chunk_size: Vec3IntLike | int | None = None,
        **options: Any,
    ) -> Layer:
        """Convert images into a layer of this dataset, or into several where their channels can not be one.

        Parameters
        ----------
        images
            A file, a folder, a zip of images, a pattern, or a list of files: all of them become one layer.
        layer_name
            Of the layer; of several, what comes before ``__channel0`` and so on.
        category
            ``color`` or ``segmentation``; None: as in `from_images`.
        data_format, mag, chunk_shape, chunks_per_shard, compress
            As in `from_images`.
        allow_multiple_layers
            Whether channels may become layers; else `channel` must be given.
        czi_channel
            Refused: CZI files can not be read here.
        chunk_size
            Older name of `chunk_shape`.
        **options
            All others of `from_images`, such as ``topleft``, ``dtype``, ``channel``, ``timepoint``, ``flip_x``.

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
        >>> from wkdask import Dataset
        >>> dataset = Dataset("memory://add_layer_from_images", voxel_size=(4, 4, 35))
        >>> dataset.add_layer_from_images("em/", "color", topleft=(64, 0, 0)).bounding_box.topleft
        Vec3Int(64, 0, 0)
        """
        self._store.require_writable()
        if czi_channel is not None:
            raise InputError("czi_channel is for CZI files, which can not be read here. Convert them to OME-TIFF first.")
        given = {
            "layer_name": layer_name,
            "layer_category": category,
            "data_format": data_format,
            "mag": mag,
            "chunk_shape": chunk_shape if chunk_size is None else chunk_size,
            "chunks_per_shard": chunks_per_shard,
            "compress": compress,
            "allow_multiple_layers": allow_multiple_layers,
        }
        bound = inspect.signature(type(self).from_images).bind(images, self._store.location, **given, **options)
        bound.apply_defaults()
        layers = _found(bound.arguments, merge=True)
        run_plans(_plans(bound.arguments, layers), memory_limit=_limit(bound.arguments))
        return self.get_layer(layers[0].name)


def _limit(options: Mapping[str, Any]) -> int | None:
    """Return the bytes that an import may take, or None for the default."""
    given = options["memory_limit"]
    return None if given is None else parse_bytes(given)


def _found(options: Mapping[str, Any], *, merge: bool = False) -> list[FoundLayer]:
    """Return the layers that images become, from the parameters of `ImportVerbs.from_images` by name."""
    o = options
    if o["use_bioformats"]:
        raise InputError(
            f"use_bioformats=True was given, but readers are built in here, for {', '.join(EXTENSIONS)}. "
            "Leave it out, or convert other files to OME-TIFF with bioformats2raw or Fiji first."
        )
    selection = Selection(
        missing=o["missing"],
        sort_key=_of_path(o["z_slices_sort_key"]),
        z_from_name=o["z_from_name"],
        mapping=_of_path(o["map_filepath_to_layer_name"]),
        channel=o["channel"],
        timepoint=o["timepoint"],
        truncate_rgba_to_rgb=o["truncate_rgba_to_rgb"],
        allow_multiple_layers=o["allow_multiple_layers"],
        max_layers=o["max_layers"],
        layer_name=o["layer_name"],
        merge=merge,
    )
    return find_layers(o["input_path"], selection)


def _plans(options: Mapping[str, Any], layers: Sequence[FoundLayer]) -> list[Plan]:
    """Return the plans of an import, from the parameters of `ImportVerbs.from_images` by name."""
    o = options
    treatment = Treatment(
        category=o["layer_category"],
        dataset=o["name"],
        orientation=Orientation((o["flip_x"], o["flip_y"], o["flip_z"]), o["swap_xy"]),
        topleft=shape_of(o["topleft"]) or (0, 0, 0),
        mag=Mag(o["mag"]),
        dtype=None if o["dtype"] is None else dtype_name(o["dtype"]),
        rescale=rescale_of(o["rescale"]),
        invert=o["invert"],
    )
    chunk = shape_of(o["chunk_shape"]) or (32, 32, 32)
    shard = shard_of(chunk, o["chunks_per_shard"], o["shard_shape"])
    coarsest = None if o["coarsest_mag"] is None else Mag(o["coarsest_mag"])
    return plan_imports(
        layers,
        Location.of(o["output_path"]),
        voxel_size_of(o["voxel_size"], o["voxel_size_with_unit"]),
        treatment,
        storage=Storage(chunk, shard, codec_of(o["compress"]), str(o["data_format"])),
        sampling=Sampling(o["downsample"], coarsest, SamplingModes.parse(o["sampling_mode"]), o["interpolation_mode"]),
        running=Running(o["jobs"] or 0, _limit(o) or 0, batch_size=o["batch_size"] or 0, restart=o["restart"]),
    )


def _of_path(function: Any) -> Any:
    """Return a user's function of a path as one of its text; what is no function is left for others to refuse."""
    return (lambda text: function(Path(text))) if callable(function) else function
