"""What datasets and layers offer to store what was computed: dask arrays, labelled arrays, functions of blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from wkdask.dataset.arguments import VoxelSizeLike, shape_of, voxel_size_of
from wkdask.dataset.store import DatasetStore
from wkdask.dataset.storing_options import (
    Storing,
    StoringInto,
    chosen_in,
    require_known,
    running_from,
    sampling_from,
    storage_from,
)
from wkdask.geometry import Mag, MagLike, Vec3Int, Vec3IntLike
from wkdask.metadata import DataFormat, VoxelSize, dtype_name
from wkdask.plan import Plan
from wkdask.storage import Location

if TYPE_CHECKING:
    import os

    from wkdask.dataset.dataset import Dataset
    from wkdask.dataset.layer import Layer
    from wkdask.dataset.mag_view import MagView
    from wkdask.operations.store_map import BlockMap
    from wkdask.operations.store_plan import StorePlan


Function = Callable[[np.ndarray[Any, Any]], Any]


class StoringVerbs:
    """The verbs of a layer that store what was computed; a part of `wkdask.Layer`."""

    _store: DatasetStore
    _name: str

    if TYPE_CHECKING:  # of the class that this is a part of

        def get_mag(self, mag: MagLike) -> MagView:
            """Return a magnification."""

        def require_writable(self) -> None:
            """Refuse where nothing may be changed."""

    def plan_write_dask(
        self,
        array: Any,
        mag: MagLike = 1,
        *,
        absolute_offset: Vec3IntLike | None = None,
        axes: str | Sequence[str] | None = None,
        downsample: bool = False,
        allow_overwrite: bool = False,
        **options: Unpack[Storing],
    ) -> StorePlan:
        """Plan what `write_dask` does; nothing is computed or written until ``plan.compute()`` or ``client.compute(plan)``.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> dataset = Dataset.open("brain")
        >>> inverted = 255 - dataset.get_layer("color").get_mag(1).to_dask()
        >>> plan = dataset.add_layer("inverted", "color").plan_write_dask(inverted)
        >>> plan.tasks, len(plan.__dask_keys__())
        (1, 1)
        """
        from wkdask.operations.store import plan_store
        from wkdask.operations.store_input import Given
        from wkdask.operations.store_layout import Place

        self.require_writable()
        require_known(options, Storing)
        storage = storage_from(self._store.properties.layer(self._name).data_format, options)
        offset = None if absolute_offset is None else Vec3Int(absolute_offset).to_tuple()
        chosen = chosen_in(options, storage)
        place = Place(self._name, Mag(mag), offset, overwrite=allow_overwrite, chosen=chosen)
        given = Given.of(array, axes)
        sampling, running = sampling_from(downsample, options), running_from(options)
        return plan_store(given, self._store.location, place, storage=storage, sampling=sampling, running=running)

    def write_dask(
        self,
        array: Any,
        mag: MagLike = 1,
        *,
        absolute_offset: Vec3IntLike | None = None,
        axes: str | Sequence[str] | None = None,
        downsample: bool = False,
        allow_overwrite: bool = False,
        compute: bool = True,
        **options: Unpack[Storing],
    ) -> Any:
        """Compute an array and store it as a magnification of the layer.

        It is computed on dask's ambient scheduler: threads, or the cluster of a `distributed.Client`. Each block is written
        by the task that makes it, so voxels do not travel. Blocks may be of any shapes: where they do not begin and end with
        the chunks on disk, their borders are moved there, by half a chunk at most. The magnification is listed when it is
        complete; stopped or killed, the same call goes on where it was.

        Parameters
        ----------
        array
            A dask array, an `xarray.DataArray`, or a numpy array, of the layer's dtype.
        mag
            The magnification that it is.
        absolute_offset
            Where its first voxel lies, in mag-1 voxels. Default: as the coordinates of a labelled array say, which must be
            centres of the layer's voxels; else where the layer's box begins. A layer without magnifications gets a box that
            holds the array.
        axes
            Names of the array's axes, such as ``"zyx"``. Default: those of a labelled array; as the layer has them, where it
            has as many; else x, y, z.
        downsample
            Whether the coarser magnifications are made in the same run; with ``allow_overwrite`` those that are there, too.
        allow_overwrite
            Whether to put the voxels into a magnification that is there; all others of it stay.
        compute
            Whether to do it now.
        **options
            See `Storing`.

        Returns
        -------
        MagView or StorePlan
            The magnification; where ``compute`` is False the plan, as `plan_write_dask` does.

        Raises
        ------
        InputError
            Where shape, dtype, axes or coordinates do not fit the layer.
        MagExistsError
            Where the magnification is there.
        PlanRefusedError
            Where blocks are too large for memory; the message has the call that makes smaller ones.

        Examples
        --------
        The difference of two layers, whatever their chunks:

        >>> from wkdask import Dataset
        >>> dataset = Dataset.open("brain")
        >>> color = dataset.get_layer("color").get_mag(1).to_dask()
        >>> smooth = dataset.add_layer("smooth", "color").write_dask(color // 2, downsample=True).to_dask()
        >>> dataset.add_layer("difference", "color").write_dask(color - smooth).array.shape
        (1, 64, 48, 20)
        """
        plan = self.plan_write_dask(
            array,
            mag,
            absolute_offset=absolute_offset,
            axes=axes,
            downsample=downsample,
            allow_overwrite=allow_overwrite,
            **options,
        )
        if not compute:
            return plan
        plan.compute()
        return self.get_mag(mag)

    def plan_map_blocks(self, mapping: BlockMap, *, downsample: bool = False, **options: Unpack[Storing]) -> Plan:
        """Plan what `map_blocks` does, for any magnification, and with all that decides how voxels lie on disk.

        Parameters
        ----------
        mapping
            Function, name of the new layer, halo; the layer that is read is this one.
        downsample
            Whether the coarser magnifications are made, too.
        **options
            See `Storing`.
        """
        from wkdask.operations.store_map import plan_map

        self._store.require_writable()
        require_known(options, Storing)
        storage = storage_from(self._store.properties.layer(self._name).data_format, options)
        sampling, running = sampling_from(downsample, options), running_from(options)
        mapping = replace(mapping, layer=self._name)
        return plan_map(self._store.location, mapping, storage=storage, sampling=sampling, running=running)

    def map_blocks(
        self,
        f: Function,
        *,
        name: str | None = None,
        dtype: Any = None,
        depth: int | Mapping[str, int] = 0,
        mag: MagLike | None = None,
        downsample: bool = False,
        category: str | None = None,
        **kwargs: Any,
    ) -> Layer:
        """Apply a function to the layer's voxels, block by block, and store what it returns as a new layer.

        Each task reads a block and its halo from the disk, and writes what becomes of it; blocks are whole chunks, as large
        as memory allows. Beyond the layer's box the halo is mirrored, the voxel at the edge being its own mirror image. The
        result does not depend on the blocks where the function looks no farther than ``depth``. Stopped or killed, the same
        call goes on where it was.

        Parameters
        ----------
        f
            Takes an array in the layer's stored axes, usually (c, x, y, z), and returns one of the same shape, the halo too,
            which is cut off. It is tried on one small block first.
        name
            Of the new layer; default: this one's and the function's.
        dtype
            Of the new layer, which all that it returns must fit into; default: as it is for that small block, uint8 for bool.
        depth
            Voxels of the halo: a number for x, y and z, or such as ``{"z": 2}``.
        mag
            The magnification that is read and made; default: the finest.
        downsample
            Whether the coarser magnifications are made in the same run.
        category
            Of the new layer; default: that of this one.
        **kwargs
            Given to the function. ``chunks`` is not: it is the shape of blocks along x, y, z, multiples of the chunks on disk.

        Raises
        ------
        InputError
            Where the function returns another shape; the message has both.
        LayerExistsError
            Where there is a layer of this name.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> layer = Dataset.open("brain").get_layer("color")
        >>> layer.map_blocks(lambda block: block > 30, name="bright", category="segmentation").largest_segment_id
        1
        >>> import numpy as np
        >>> def edges(block, axis):
        ...     return np.abs(np.gradient(block.astype("float32"), axis=axis))
        >>> layer.map_blocks(edges, depth={"z": 1}, axis=3).dtype
        dtype('float32')
        """
        from wkdask.dataset.layer import Layer, SegmentationLayer
        from wkdask.operations.store_map import BlockMap, name_of

        chunks = shape_of(kwargs.pop("chunks", None))
        mapping = BlockMap(
            partial(f, **kwargs) if kwargs else f,
            f"{self._name}_{name_of(f)}" if name is None else name,
            mag=None if mag is None else Mag(mag),
            depth=depth,
            dtype=None if dtype is None else dtype_name(np.dtype(dtype)),
            chunks=chunks,
            category=category,
        )
        self.plan_map_blocks(mapping, downsample=downsample).run()
        kind = SegmentationLayer if self._store.properties.layer(mapping.name).category == "segmentation" else Layer
        return kind(self._store, mapping.name)


def store(
    array: Any,
    dataset: Dataset | Location | str | os.PathLike[str],
    layer_name: str,
    *,
    category: str = "color",
    voxel_size: VoxelSizeLike | VoxelSize | None = None,
    mag: MagLike = 1,
    downsample: bool = False,
    **options: Unpack[StoringInto],
) -> Any:
    """Compute an array and store it as a new layer of a dataset, which is made where it does not exist.

    Parameters
    ----------
    array
        A dask array, an `xarray.DataArray`, or a numpy array; see `Layer.write_dask` for how it is computed and written.
    dataset
        A dataset, or its folder or URL.
    layer_name
        Of the new layer.
    category
        ``color`` or ``segmentation``.
    voxel_size
        Edges of a mag-1 voxel, of a new dataset: in nanometer, or with their unit. Default: what a labelled array that came
        from a dataset says.
    mag
        The magnification that the array is.
    downsample
        Whether the coarser magnifications are made in the same run.
    **options
        See `Storing`, and: ``data_format`` (``zarr3``), ``absolute_offset`` (where the first voxel lies, in mag-1 voxels;
        default: as coordinates say, else 0), ``axes`` (such as ``"zyx"``), ``allow_overwrite`` (whether another magnification
        or its voxels may go into a layer that is there), ``compute`` (whether to do it now), ``storage_options`` (of
        the dataset where it is a URL, as in `Dataset`).

    Returns
    -------
    Layer or StorePlan
        The layer; where ``compute`` is False the plan.

    Raises
    ------
    InputError
        Where shape, dtype, axes or coordinates can not be those of a layer.
    LayerExistsError
        Where there is a layer of this name.

    Examples
    --------
    >>> import dask.array as da
    >>> import wkdask as wk
    >>> noise = da.random.default_rng(0).integers(0, 255, (100, 80, 30), dtype="uint8", chunks=(33, 80, 7))
    >>> layer = wk.store(noise, "memory://stored", "noise", voxel_size=(8, 8, 30), downsample=True)
    >>> [str(mag) for mag in layer.mags], bool((layer.get_mag(1).read()[0] == noise.compute()).all())
    (['1', '2-2-1', '4-4-1'], True)
    """
    from wkdask.dataset.dataset import Dataset as Opened
    from wkdask.operations.store import plan_store
    from wkdask.operations.store_input import Given
    from wkdask.operations.store_layout import Place

    require_known(options, StoringInto)
    given = Given.of(array, options.get("axes"))
    if isinstance(dataset, Opened):
        dataset._store.require_writable()
    location = dataset._store.location if isinstance(dataset, Opened) else Location.of(dataset, options.get("storage_options"))
    size = voxel_size if isinstance(voxel_size, VoxelSize) else voxel_size_of(voxel_size, None)
    offset = options.get("absolute_offset")
    place = Place(
        layer_name,
        Mag(mag),
        None if offset is None else Vec3Int(offset).to_tuple(),
        category,
        size or given.voxel_size,
        options.get("allow_overwrite", False),
    )
    plan = plan_store(
        given,
        location,
        place,
        storage=storage_from(options.get("data_format", DataFormat.Zarr3), options),
        sampling=sampling_from(downsample, options),
        running=running_from(options),
    )
    if not options.get("compute", True):
        return plan
    plan.compute()
    return Opened.open(location).get_layer(layer_name)
