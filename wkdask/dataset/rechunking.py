"""What layers and magnifications offer to store their voxels in another way, in their place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from wkdask.clusters.executors import running_on
from wkdask.dataset.copying import Compress, Format, PathLike, Shape, StorageOptions, wishes_of
from wkdask.dataset.store import DatasetStore
from wkdask.geometry import Mag, MagLike
from wkdask.operations import Running
from wkdask.operations.compressing import is_needed, plan_rechunk
from wkdask.operations.copying_shape import Wishes
from wkdask.plan import Plan
from wkdask.storage import Location

if TYPE_CHECKING:
    from wkdask.dataset.layer import Layer
    from wkdask.dataset.mag_view import MagView


class RechunkVerbs:
    """The verbs of a layer that rewrite its magnifications; a part of `wkdask.Layer`."""

    _store: DatasetStore
    _name: str

    def plan_rechunk(self, wishes: Wishes, mags: Iterable[MagLike] = (), *, running: Running = Running()) -> Plan:
        """Plan what `rechunk` and `compress` do, for some magnifications or all; nothing is written.

        Where there is nothing to do, the layer may lie in another dataset.
        """
        self._store.require_writable()
        return plan_rechunk(self._store.location, self._name, wishes, tuple(map(Mag, mags)), running=running)

    def rechunk(
        self,
        chunk_shape: Shape = None,
        shard_shape: Shape = None,
        compress: Compress = None,
        *,
        chunks_per_shard: Shape = None,
        data_format: Format = None,
        mags: Iterable[MagLike] = (),
        executor: Any = None,
    ) -> None:
        """Store the layer's magnifications in other chunks, shards, compression or format, in their place.

        What is new is written beside the old, and takes its place at once when all of it is complete. Stopped or killed at
        any moment, the same call goes on where it was. Those who read the old files meanwhile must open the layer again.

        Parameters
        ----------
        chunk_shape, shard_shape, chunks_per_shard, compress, data_format
            As in `Dataset.add_layer_as_copy`.
        mags
            Which; default: all.
        executor
            As of `View.for_each_chunk`.

        Raises
        ------
        ReadOnlyError
            Where a magnification lies outside the dataset.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> layer = Dataset.open("brain").get_layer("color")
        >>> layer.rechunk(chunk_shape=16, shard_shape=64)
        >>> layer.get_mag(1).spec.unit
        (1, 64, 64, 64)
        """
        with running_on(executor):
            self._rewrite(wishes_of(data_format, chunk_shape, shard_shape, chunks_per_shard, compress), mags)

    def compress(self, mags: Iterable[MagLike] = (), executor: Any = None) -> None:
        """Compress magnifications (default: all) that are not compressed, in their place; see `rechunk`."""
        with running_on(executor):
            self._rewrite(wishes_of(None, None, None, None, True), mags)

    def _rewrite(self, wishes: Wishes, mags: Iterable[MagLike]) -> None:
        plan = self.plan_rechunk(wishes, mags)
        if is_needed(plan):
            plan.run()


class RechunkMagVerbs:
    """The verbs of a magnification that rewrite it; a part of `wkdask.MagView`."""

    if TYPE_CHECKING:  # of the class that this is a part of

        @property
        def layer(self) -> Layer:
            """The layer that it belongs to."""

        @property
        def mag(self) -> Mag:
            """The magnification."""

    def rechunk(
        self,
        chunk_shape: Shape = None,
        shard_shape: Shape = None,
        compress: Compress = None,
        target_path: PathLike | None = None,
        executor: Any = None,
        *,
        chunks_per_shard: Shape = None,
        storage_options: StorageOptions = None,
    ) -> None:
        """Store it in other chunks, shards or compression: in its place, or as part of another dataset.

        Parameters
        ----------
        chunk_shape, shard_shape, chunks_per_shard, compress
            As in `Layer.rechunk`.
        target_path
            A dataset that gets the magnification instead, in a layer of the same name; both are made where they are not there.
        executor
            As of `View.for_each_chunk`.
        storage_options
            Of that dataset where it is a URL, as in `Dataset`.

        Raises
        ------
        ReadOnlyError
            Where it would be changed in its place, but the dataset is for reading only or does not hold it itself.
        MagExistsError
            Where the other dataset has it already.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> mag = Dataset.open("brain").get_layer("color").get_mag(1)
        >>> mag.rechunk(chunk_shape=16, shard_shape=64)
        >>> mag.info.chunk_shape, mag.info.chunks_per_shard
        (Vec3Int(16, 16, 16), Vec3Int(4, 4, 4))
        >>> mag.rechunk(compress=False, target_path="memory://raw")
        >>> Dataset.open("memory://raw").get_layer("color").get_mag(1).info.compression_mode
        False
        """
        if target_path is not None:
            place, wishes = Location.of(target_path, storage_options), (chunk_shape, shard_shape, chunks_per_shard, compress)
            self._copy_to(place, *wishes, executor)
            return
        self.layer.rechunk(
            chunk_shape, shard_shape, compress, chunks_per_shard=chunks_per_shard, mags=(self.mag,), executor=executor
        )

    def compress(
        self, target_path: PathLike | None = None, executor: Any = None, *, storage_options: StorageOptions = None
    ) -> None:
        """Compress it, where it is not compressed: in its place, or as part of another dataset; see `rechunk`."""
        if target_path is not None:
            self._copy_to(Location.of(target_path, storage_options), None, None, None, True, executor)
            return
        self.layer.compress((self.mag,), executor)

    def _copy_to(
        self, place: Location, chunk: Shape, shard: Shape, per_shard: Shape, compress: Compress, executor: Any
    ) -> None:
        """Add it to a dataset, where that and its layer are made if they are not there."""
        from wkdask.dataset.dataset import Dataset

        layer, name = self.layer, self.layer.name
        wishes_of(None, chunk, shard, per_shard, compress)  # says what is wrong before anything is made
        dataset = Dataset(place, exist_ok=True, voxel_size_with_unit=layer._store.properties.voxel_size)
        if name not in dataset.layers:
            dataset.add_layer_like(layer, name)
        dataset.get_layer(name).add_mag_as_copy(
            cast("MagView", self),
            chunk_shape=chunk,
            shard_shape=shard,
            chunks_per_shard=per_shard,
            compress=compress,
            executor=executor,
        )
