"""What datasets and layers offer to copy layers and magnifications."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from wkdask.clusters.executors import running_on
from wkdask.dataset.arguments import VoxelSizeLike, executor_of, shape_of, voxel_size_of
from wkdask.dataset.deprecations import one_of, warn_name, warn_parameters
from wkdask.dataset.references import box_under, mag_view_of, require_path
from wkdask.dataset.store import DatasetStore
from wkdask.errors import InputError
from wkdask.formats import Codec
from wkdask.geometry import Mag, MagLike, NDBoundingBox, Vec3IntLike
from wkdask.metadata import DataFormat, VoxelSize
from wkdask.operations import Running
from wkdask.operations.copying import Origin, create_dataset, plan_copy_dataset, plan_copy_layer, plan_copy_mag
from wkdask.operations.copying_shape import Wishes
from wkdask.plan import Plan
from wkdask.storage import Location, is_place

if TYPE_CHECKING:
    from wkdask.dataset.dataset import Dataset
    from wkdask.dataset.layer import Layer
    from wkdask.dataset.mag_view import MagView

PathLike = str | os.PathLike[str]
Shape = Vec3IntLike | int | None
Format = str | DataFormat | None
Compress = bool | Codec | None
StorageOptions = Mapping[str, Any] | None


def wishes_of(data_format: Format, chunk: Shape, shard: Shape, per_shard: Shape, compress: Compress) -> Wishes:
    """Return what of the storage is asked for; ``compress`` None keeps what there is.

    Examples
    --------
    >>> wishes_of(None, 32, None, 4, True)
    Wishes(data_format=None, chunk=(32, 32, 32), shard=None, chunks_per_shard=(4, 4, 4), codec='compressed')
    """
    if compress is not None and not isinstance(compress, Codec) and compress not in (True, False):
        raise InputError(f"compress is {compress!r}; expected True, False, None or a codec.")
    known: dict[Any, Any] = {None: "keep", True: "compressed", False: None}
    codec = compress if isinstance(compress, Codec) else known[compress]
    form = None if data_format is None else str(data_format)
    return Wishes(form, shape_of(chunk), shape_of(shard), shape_of(per_shard), codec)


def origin_of(layer: PathLike | Layer, storage_options: StorageOptions = None) -> Origin:
    """Return the layer that is named by its folder, whose URL may have options of its own, or is given itself."""
    require_path(layer, storage_options)
    if is_place(layer):
        place = Location.of(layer, storage_options)
        return Origin(place.parent, place.name)
    return Origin(layer._store.location, layer.name)


class CopyVerbs:
    """The verbs of a dataset that copy layers; a part of `wkdask.Dataset`."""

    _store: DatasetStore

    if TYPE_CHECKING:  # of the class that this is a part of

        def get_layer(self, layer_name: str) -> Layer:
            """Return a layer."""

    def plan_add_layer_as_copy(
        self,
        foreign_layer: PathLike | Layer,
        new_layer_name: str | None = None,
        wishes: Wishes = Wishes(),
        *,
        exists_ok: bool = False,
        running: Running = Running(),
        storage_options: StorageOptions = None,
    ) -> Plan:
        """Plan what `add_layer_as_copy` does; nothing is written until ``plan.run()`` or ``plan.compute()``.

        Parameters
        ----------
        foreign_layer, new_layer_name, exists_ok, storage_options
            As there.
        wishes
            What is to be stored in another way.
        running
            Threads and memory.
        """
        self._store.require_writable()
        origin = origin_of(foreign_layer, storage_options)
        return plan_copy_layer(origin, self._store.location, new_layer_name, wishes, running=running, exists_ok=exists_ok)

    def add_layer_as_copy(
        self,
        foreign_layer: PathLike | Layer,
        new_layer_name: str | None = None,
        chunk_shape: Shape = None,
        shard_shape: Shape = None,
        chunks_per_shard: Shape = None,
        data_format: Format = None,
        compress: Compress = None,
        *,
        exists_ok: bool = False,
        with_attachments: bool = True,
        executor: Any = None,
        storage_options: StorageOptions = None,
    ) -> Layer:
        """Copy a layer into this dataset, with all its magnifications and all that its JSON says.

        Where format, chunks, shards and compression stay, files are copied as they are. Stopped or killed at any moment, the
        same call goes on where it was.

        Parameters
        ----------
        foreign_layer
            A layer, or its folder in another dataset.
        new_layer_name
            Default: its name.
        chunk_shape, shard_shape, chunks_per_shard, data_format
            What is to be stored in another way; default: as it is, as far as the format can have it.
        compress
            True, False or a codec; None: as it is.
        exists_ok
            Whether a layer that is there just gets the magnifications that it lacks.
        with_attachments
            Whether its meshes, agglomerates and so on are copied too.
        executor
            As of `View.for_each_chunk`.
        storage_options
            Of the foreign layer where it is a URL, as in `Dataset`.

        Raises
        ------
        LayerExistsError
            Where there is a layer of this name.
        InputError
            Where the format can not hold the layer, or not as asked for.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> dataset = Dataset("memory://copies", (4, 4, 35))
        >>> copy = dataset.add_layer_as_copy(Dataset.open("brain").get_layer("color"), "em", data_format="wkw")
        >>> [str(mag) for mag in copy.mags], str(copy.data_format)
        (['1', '2-2-1', '4-4-1'], 'wkw')
        """
        warn_parameters(chunks_per_shard=chunks_per_shard)
        wishes = wishes_of(data_format, chunk_shape, shard_shape, chunks_per_shard, compress)
        origin = replace(origin_of(foreign_layer, storage_options), attachments=with_attachments)
        with running_on(executor):
            return self._copied_layer(origin, new_layer_name, wishes, exists_ok=exists_ok)

    def _copied_layer(self, origin: Origin, name: str | None, wishes: Wishes, *, exists_ok: bool = False) -> Layer:
        self._store.require_writable()
        plan = plan_copy_layer(origin, self._store.location, name, wishes, exists_ok=exists_ok)
        if plan.stages:
            plan.run()
        return self.get_layer(plan.journal.key)

    def add_copy_layer(
        self,
        foreign_layer: PathLike | Layer,
        new_layer_name: str | None = None,
        chunk_shape: Shape = None,
        chunks_per_shard: Shape = None,
        data_format: Format = None,
        compress: Compress = None,
        executor: Any = None,
        *,
        shard_shape: Shape = None,
        exists_ok: bool = False,
        with_attachments: bool = True,
        storage_options: StorageOptions = None,
    ) -> Layer:
        """Copy a layer: the older name of `add_layer_as_copy`, whose parameters it has."""
        warn_name("Dataset.add_copy_layer")
        warn_parameters(chunks_per_shard=chunks_per_shard)
        wishes = wishes_of(data_format, chunk_shape, shard_shape, chunks_per_shard, compress)
        origin = replace(origin_of(foreign_layer, storage_options), attachments=with_attachments)
        with running_on(executor):
            return self._copied_layer(origin, new_layer_name, wishes, exists_ok=exists_ok)

    def copy_dataset(
        self,
        new_dataset_path: PathLike | Location,
        voxel_size: VoxelSizeLike | None = None,
        chunk_shape: Shape = None,
        chunks_per_shard: Shape = None,
        data_format: Format = None,
        compress: Compress = None,
        args: Any = None,
        executor: Any = None,
        *,
        voxel_size_with_unit: VoxelSize | None = None,
        shard_shape: Shape = None,
        exists_ok: bool = False,
        layers_to_ignore: Iterable[str] | None = None,
        storage_options: StorageOptions = None,
        chunk_size: Shape = None,
        block_len: int | None = None,
        file_len: int | None = None,
    ) -> Dataset:
        """Copy the dataset, with all that its JSON says, and return the copy.

        Parameters
        ----------
        new_dataset_path
            A folder or URL that is new, or holds a copy that was begun.
        voxel_size, voxel_size_with_unit
            Of the copy, in nanometer or any unit; default: as it is.
        chunk_shape, shard_shape, data_format, compress
            As in `add_layer_as_copy`.
        exists_ok
            Whether there may be a dataset, which then gets the layers and magnifications that it lacks.
        layers_to_ignore
            Layers that are not copied.
        storage_options
            Of the copy where it is a URL, as in `Dataset`.
        chunk_size, block_len, chunks_per_shard, file_len
            Older spellings: the chunk's shape, its edge, and the chunks of a shard along each axis or all.
        args
            Older than `executor`: parsed options whose ``distribution_strategy`` is ``multiprocessing`` or ``sequential``.
        executor
            As of `View.for_each_chunk`.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> copy = Dataset.open("brain").copy_dataset("memory://copy-of-brain", compress=False)
        >>> list(copy.layers), copy.get_layer("color").get_mag(1).spec.codec
        (['color'], None)
        """
        warn_parameters(
            chunks_per_shard=chunks_per_shard, args=args, chunk_size=chunk_size, block_len=block_len, file_len=file_len
        )
        source, target = self._store.location, Location.of(new_dataset_path, storage_options)
        chunk = one_of(chunk_shape=chunk_shape, chunk_size=chunk_size, block_len=block_len)
        per_shard = one_of(chunks_per_shard=chunks_per_shard, file_len=file_len)
        wishes = wishes_of(data_format, chunk, shard_shape, per_shard, compress)
        properties = self._store.properties.with_name(target.name)
        size = voxel_size_of(voxel_size, voxel_size_with_unit)
        like = properties if size is None else properties.with_voxel_size(size)
        ignored = {properties.layer(name).name for name in layers_to_ignore or ()}
        names = [name for name in properties.layer_names if name not in ignored]
        with running_on(one_of(executor=executor, args=executor_of(args))):
            plans = plan_copy_dataset(source, target, wishes, layers=names, dataset=like, exists_ok=exists_ok)
            for plan in plans:
                plan.run()
        if not any(plan.milestones for plan in plans):  # which list what they copied
            create_dataset(target, like)
        return opened(target)

    def compress(self, executor: Any = None) -> None:
        """Compress all magnifications that are not compressed; see `Layer.compress`."""
        self._store.require_writable()
        for name in self._store.properties.layer_names:
            self.get_layer(name).compress(executor=executor)


def opened(target: Location) -> Dataset:
    """Open the dataset that was made."""
    from wkdask.dataset.dataset import Dataset

    return Dataset.open(target)


class CopyLayerVerbs:
    """The verbs of a layer that copy magnifications; a part of `wkdask.Layer`."""

    _store: DatasetStore
    _name: str

    if TYPE_CHECKING:  # of the class that this is a part of

        @property
        def bounding_box(self) -> NDBoundingBox:
            """The layer's box."""

        def extend_bounding_box(self, box: NDBoundingBox) -> None:
            """Let the box grow."""

        def get_mag(self, mag: MagLike) -> MagView:
            """Return a magnification."""

        def require_writable(self) -> None:
            """Refuse where nothing may be changed."""

    def plan_add_mag_as_copy(
        self, foreign_mag: MagView, mag: MagLike | None = None, wishes: Wishes = Wishes(), *, running: Running = Running()
    ) -> Plan:
        """Plan what `add_mag_as_copy` does into the layer's box as it is; nothing is written.

        Parameters
        ----------
        foreign_mag, mag
            As there.
        wishes
            What is to be stored in another way.
        running
            Threads and memory.
        """
        self._store.require_writable()
        to, target = None if mag is None else Mag(mag), self._store.location
        return plan_copy_mag(origin_of(foreign_mag.layer), foreign_mag.mag, target, self._name, to, wishes, running=running)

    def add_mag_as_copy(
        self,
        foreign_mag_view_or_path: MagView | PathLike,
        *,
        mag: MagLike | None = None,
        extend_layer_bounding_box: bool = True,
        chunk_shape: Shape = None,
        shard_shape: Shape = None,
        chunks_per_shard: Shape = None,
        compress: Compress = None,
        exists_ok: bool = False,
        executor: Any = None,
        progress_desc: str | None = None,
        storage_options: StorageOptions = None,
    ) -> MagView:
        """Copy a magnification of another layer into this one.

        Parameters
        ----------
        foreign_mag_view_or_path
            The magnification, or its folder in a dataset; its layer has the same dtype and channels.
        mag
            Which it becomes here: its voxels are not changed, only taken for larger or smaller ones, those at the ends of the
            foreign layer's box as whole ones. Default: the same.
        extend_layer_bounding_box
            Whether the layer's box grows to hold all of it; else what lies beyond the box is left out.
        chunk_shape, shard_shape, chunks_per_shard, compress
            As in `Dataset.add_layer_as_copy`.
        exists_ok
            Whether the layer may have it already, which then stays as it is.
        executor
            As of `View.for_each_chunk`.
        progress_desc
            What progress, dashboards and logs call the tasks.
        storage_options
            Of the magnification where it is a URL, as in `Dataset`.

        Raises
        ------
        MagExistsError
            Where the layer has it already.

        Examples
        --------
        >>> from wkdask import BoundingBox, Dataset
        >>> foreign = Dataset.open("brain").get_layer("color")
        >>> layer = Dataset("memory://mags", (4, 4, 35)).add_layer("em", "color")
        >>> layer.add_mag_as_copy(foreign.get_mag("2-2-1")).name, layer.bounding_box == foreign.bounding_box
        ('2-2-1', True)
        """
        warn_parameters(chunks_per_shard=chunks_per_shard)
        wishes = wishes_of(None, chunk_shape, shard_shape, chunks_per_shard, compress)
        foreign_mag = mag_view_of(foreign_mag_view_or_path, storage_options)
        to = foreign_mag.mag if mag is None else Mag(mag)
        extend = extend_layer_bounding_box
        with running_on(executor):
            return self._copied_mag(foreign_mag, to, wishes, extend=extend, exists_ok=exists_ok, title=progress_desc)

    def _copied_mag(
        self, view: MagView, to: Mag, wishes: Wishes, *, extend: bool, exists_ok: bool = False, title: str | None = None
    ) -> MagView:
        self.require_writable()
        if exists_ok and to.to_tuple() in {found.mag for found in self._store.properties.layer(self._name).mags}:
            return self.get_mag(to)
        if extend:
            self.plan_add_mag_as_copy(view, to, wishes).setup.check()  # what is refused does not let the box grow
            self.extend_bounding_box(box_under(view.layer.properties.box(), view.mag, to))
        plan = self.plan_add_mag_as_copy(view, to, wishes)
        replace(plan, stages=tuple(replace(stage, name=title or stage.name) for stage in plan.stages)).run()
        return self.get_mag(to)
