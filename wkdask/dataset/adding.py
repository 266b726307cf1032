"""What a dataset offers to add layers, and to delete them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from wkdask.dataset.deprecations import warn_parameters
from wkdask.dataset.existing_files import layer_of_files
from wkdask.dataset.new_layer import channel_dtype, checked_category, new_layer, require_dtype, with_segments
from wkdask.dataset.store import DatasetStore
from wkdask.errors import InputError, LayerExistsError, LayerMismatchError
from wkdask.formats import Codec
from wkdask.geometry import MagLike, NDBoundingBox, Vec3IntLike
from wkdask.metadata import DataFormat, LayerProperties, Properties, validate_layer_name
from wkdask.operations.deleting import delete_layer_files

if TYPE_CHECKING:
    from wkdask.dataset.layer import Layer

Shape = Vec3IntLike | int | None


class AddVerbs:
    """The verbs of a dataset that add layers, and delete them; a part of `wkdask.Dataset`."""

    _store: DatasetStore

    if TYPE_CHECKING:  # of the class that this is a part of

        def get_layer(self, layer_name: str) -> Layer:
            """Return a layer."""

    def add_layer(
        self,
        layer_name: str,
        category: str,
        dtype_per_layer: Any = None,
        dtype_per_channel: Any = None,
        num_channels: int | None = None,
        data_format: str | DataFormat = DataFormat.Zarr3,
        bounding_box: NDBoundingBox | None = None,
        *,
        dtype: Any = None,
        largest_segment_id: int | None = None,
        mappings: Iterable[str] | None = None,
    ) -> Layer:
        """Add a layer without magnifications.

        Parameters
        ----------
        layer_name
            Letters, digits and ``_ $ @ - .``.
        category
            ``color`` or ``segmentation``.
        dtype
            Of one channel; default uint8. Colour has 8 to 32 bit integers or float32, segmentations 8 to 64 bit integers.
        num_channels
            Default 1.
        data_format
            How voxels are stored.
        bounding_box
            In mag-1 voxels; default empty.
        largest_segment_id, mappings
            Of a segmentation: the largest id in use, and names of mappings.
        dtype_per_channel, dtype_per_layer
            Older names of `dtype`; the second is the dtype of one channel times their number, such as ``uint24``.

        Raises
        ------
        LayerExistsError
            Where there is a layer of this name.
        LayerNameError, UnknownCategoryError, ConflictingArgumentsError, InputError
            Where a value is not allowed, or no such format is installed.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> Dataset("memory://add_layer", (4, 4, 35)).add_layer("cells", "segmentation", dtype="uint32").dtype
        dtype('uint32')
        """
        warn_parameters(dtype_per_layer=dtype_per_layer, dtype_per_channel=dtype_per_channel)
        self._store.require_writable()
        chosen = channel_dtype(dtype, dtype_per_channel, dtype_per_layer, num_channels)
        new = new_layer(layer_name, category, chosen or "uint8", num_channels, data_format, bounding_box)
        new = with_segments(new, largest_segment_id, mappings)
        return self._added(new)

    def _added(self, new: LayerProperties) -> Layer:
        """List a layer that nobody else has listed."""

        def added(old: Properties) -> Properties:
            if new.name in old.layer_names:
                raise LayerExistsError(f"{self._store.location} has a layer '{new.name}' already. Choose another name.")
            return old.with_layer(new)

        self._store.update(added)
        return self.get_layer(new.name)

    def get_or_add_layer(
        self,
        layer_name: str,
        category: str,
        dtype_per_layer: Any = None,
        dtype_per_channel: Any = None,
        num_channels: int | None = None,
        data_format: str | DataFormat = DataFormat.Zarr3,
        bounding_box: NDBoundingBox | None = None,
        *,
        dtype: Any = None,
        largest_segment_id: int | None = None,
        mappings: Iterable[str] | None = None,
    ) -> Layer:
        """Return a layer, which is added where there is none of this name.

        Parameters
        ----------
        layer_name, category, dtype, num_channels, dtype_per_layer, dtype_per_channel
            As in `add_layer`. A layer that is there must have this category, and the dtype and channels where they are given.
        data_format, bounding_box, largest_segment_id, mappings
            As in `add_layer`, of a new layer; one that is there keeps its own.

        Raises
        ------
        LayerMismatchError
            Where the layer that is there is another one.
        ConflictingArgumentsError
            Where the dtype is given in two ways.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> dataset = Dataset("memory://get_or_add_layer", (4, 4, 35))
        >>> dataset.get_or_add_layer("em", "color").name, dataset.get_or_add_layer("em", "color").name
        ('em', 'em')
        """
        warn_parameters(dtype_per_layer=dtype_per_layer, dtype_per_channel=dtype_per_channel)
        chosen = channel_dtype(dtype, dtype_per_channel, dtype_per_layer, num_channels)
        asked = {"category": category, "num_channels": num_channels, "dtype": chosen}
        if layer_name not in self._store.properties.layer_names:
            self._store.require_writable()
            new = new_layer(layer_name, category, chosen or "uint8", num_channels, data_format, bounding_box)
            try:
                return self._added(with_segments(new, largest_segment_id, mappings))
            except LayerExistsError:
                pass  # another process was quicker
        found = self._store.properties.layer(layer_name)
        for what, wanted in asked.items():
            if wanted is not None and wanted != getattr(found, what):
                raise LayerMismatchError(
                    f"Layer '{layer_name}' of {self._store.location} has the {what} {getattr(found, what)}, not {wanted}. "
                    "Correct one of them, or choose another name."
                )
        return self.get_layer(layer_name)

    def add_layer_like(self, other_layer: Layer, layer_name: str) -> Layer:
        """Add a layer with all that another one's JSON says, but no magnifications and no attachments.

        Parameters
        ----------
        other_layer
            Of any dataset.
        layer_name
            Of the new one.

        Raises
        ------
        LayerExistsError
            Where there is a layer of this name.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> brain = Dataset.open("brain")
        >>> brain.add_layer_like(brain.get_layer("color"), "denoised").bounding_box
        BoundingBox(topleft=(0, 0, 0), size=(64, 48, 20))
        """
        self._store.require_writable()
        old = other_layer.properties
        new = old.without_mags().updated(name=validate_layer_name(layer_name), attachments=None)
        axes = old.axes()
        return self._added(new.with_axis_order(axes) if sorted(axes) == sorted(new.axes()) else new)

    def add_layer_for_existing_files(
        self,
        layer_name: str,
        category: str,
        *,
        num_channels: int | None = None,
        dtype: Any = None,
        dtype_per_channel: Any = None,
        data_format: str | DataFormat | None = None,
        bounding_box: NDBoundingBox | None = None,
        largest_segment_id: int | None = None,
        mappings: Iterable[str] | None = None,
    ) -> Layer:
        """Add a layer of the arrays that lie in its folder already: each sub-folder that is named like a magnification.

        Parameters
        ----------
        layer_name
            Of the folder in the dataset, and of the layer.
        category
            ``color`` or ``segmentation``.
        num_channels, dtype, data_format
            Default: as the arrays are.
        bounding_box
            In mag-1 voxels. Default: that of the finest array, or where arrays tell no shape, of the files that it has. As
            those may be larger than what is in them, this may be larger than the voxels.
        largest_segment_id, mappings
            As in `add_layer`.
        dtype_per_channel
            Older name of `dtype`.

        Raises
        ------
        LayerMismatchError
            Where there is a layer of this name.
        LayerFilesNotFoundError
            Where the folder is missing, or has no magnifications.

        Examples
        --------
        >>> import shutil
        >>> from wkdask import Dataset
        >>> moved = shutil.copytree("brain/color", "brain/again")
        >>> layer = Dataset.open("brain").add_layer_for_existing_files("again", "color")
        >>> [str(mag) for mag in layer.mags]
        ['1', '2-2-1', '4-4-1']
        """
        warn_parameters(dtype_per_channel=dtype_per_channel)
        self._store.require_writable()
        if layer_name in self._store.properties.layer_names:
            raise LayerMismatchError(f"{self._store.location} has a layer '{layer_name}' already. Open it with get_layer.")
        found = layer_of_files(self._store.location, layer_name, None if data_format is None else str(data_format))
        chosen = channel_dtype(dtype, dtype_per_channel, None, num_channels)
        new = found.layer(checked_category(category), chosen, num_channels, bounding_box)
        layer = self._added(with_segments(new, largest_segment_id, mappings))
        layer._write_groups()
        return layer

    def write_layer(
        self,
        layer_name: str,
        category: str,
        data: np.ndarray[Any, Any],
        *,
        data_format: str | DataFormat = DataFormat.Zarr3,
        downsample: bool = True,
        chunk_shape: Shape = None,
        shard_shape: Shape = None,
        chunks_per_shard: Shape = None,
        compress: bool | Codec = True,
        axes: str | Sequence[str] | None = None,
        absolute_offset: Vec3IntLike | None = None,
        mag: MagLike = 1,
    ) -> Layer:
        """Store an array as a new layer, with its pyramid.

        Parameters
        ----------
        layer_name, category
            As in `add_layer`.
        data
            A numpy or dask array.
        data_format, chunk_shape, shard_shape, compress
            As in `add_layer` and `Layer.add_mag`.
        chunks_per_shard
            The older way to give `shard_shape`.
        downsample
            Whether the coarser magnifications are made.
        axes
            Of the array; default (x, y, z), or (c, x, y, z) where there are four.
        absolute_offset
            Where its first voxel lies, in mag-1 voxels; default 0.
        mag
            The magnification that it is.

        Returns
        -------
        Layer
            A segmentation knows its largest segment id.

        Raises
        ------
        LayerExistsError
            Where there is a layer of this name.
        InputError
            Where the array can not be such a layer.

        Examples
        --------
        >>> import numpy as np
        >>> from wkdask import Dataset
        >>> dataset = Dataset("memory://write_layer", (4, 4, 4))
        >>> layer = dataset.write_layer("cells", "segmentation", np.full((300, 200, 100), 7, "uint32"))
        >>> [str(mag) for mag in layer.mags], layer.largest_segment_id
        (['1', '2', '4'], 7)
        """
        from wkdask.dataset.storing import store

        warn_parameters(chunks_per_shard=chunks_per_shard)
        self._store.require_writable()
        require_dtype(checked_category(category), channel_dtype(data.dtype, None, None, None))
        if axes is None and data.ndim not in (3, 4):
            raise InputError(f"The array has {data.ndim} axes, expected 3 or 4. Name them, such as axes='tcxyz'.")
        storage: dict[str, Any] = {"chunk_shape": chunk_shape, "shard_shape": shard_shape, "chunks_per_shard": chunks_per_shard}
        store(
            data,
            self._store.location,
            layer_name,
            category=category,
            mag=mag,
            downsample=downsample,
            axes=axes or "cxyz"[-data.ndim :],
            absolute_offset=absolute_offset,
            data_format=data_format,
            compress=compress,
            **{name: shape for name, shape in storage.items() if shape is not None},
        )
        return self.get_layer(layer_name)

    def delete_layer(self, layer_name: str) -> None:
        """Delete a layer: first what the JSON says of it, then its files.

        Nothing outside of the dataset is deleted: of a layer that is a link, or whose magnifications are references, only the
        link or the reference goes. Magnifications and attachments of other layers of the dataset stay that lie among them.

        Raises
        ------
        LayerNotFoundError
            Where there is none of this name.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> brain = Dataset.open("brain")
        >>> brain.delete_layer("color")
        >>> list(brain.layers)
        []
        """
        self._store.require_writable()
        self._store.update(lambda old: old.without_layer(layer_name))
        delete_layer_files(self._store.location, layer_name, self._store.properties)
