"""What datasets, layers and magnifications offer to be told apart by their voxels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wkdask.dataset.store import DatasetStore
from wkdask.geometry import Mag

if TYPE_CHECKING:
    from wkdask.dataset.layer import Layer
    from wkdask.operations.content_hash import Chosen
    from wkdask.operations.content_tree import ContentTree


class DatasetHashVerbs:
    """The verb of a dataset that hashes its voxels; a part of `wkdask.Dataset`."""

    _store: DatasetStore

    def content_hash(
        self,
        *,
        content_only: bool = False,
        jobs: int | None = None,
        distribution_strategy: str = "threads",
        memory_limit: str | int | None = None,
    ) -> str:
        """Return a hash of all voxels that is the same however they are stored: 32 hexadecimal digits. Nothing is written.

        It covers the layers' names, boxes, dtypes and magnifications, and the size of a voxel.

        Parameters
        ----------
        content_only
            Whether names of layers and the size of a voxel do not count.
        jobs, distribution_strategy, memory_limit
            Tasks at once, where they run, and bytes that they may take, as on the command line.

        Raises
        ------
        DamagedError
            At the first file that does not decode.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> dataset = Dataset.open("brain")
        >>> dataset.content_hash() == Dataset.open("brain").content_hash()
        True
        """
        from wkdask.operations.content_hash import ALL

        tree = _tree(self._store, ALL, jobs, distribution_strategy, memory_limit)
        return tree.content if content_only else tree.hash


class LayerHashVerbs:
    """The verb of a layer that hashes its voxels; a part of `wkdask.Layer`."""

    _store: DatasetStore
    _name: str

    def content_hash(
        self,
        *,
        jobs: int | None = None,
        distribution_strategy: str = "threads",
        memory_limit: str | int | None = None,
    ) -> str:
        """Return a hash of the layer's voxels, box and magnifications, but not of its name; see `Dataset.content_hash`."""
        from wkdask.operations.content_hash import Chosen

        tree = _tree(self._store, Chosen((self._name,)), jobs, distribution_strategy, memory_limit)
        return tree.layers[0].hash


class MagHashVerbs:
    """The verb of a magnification that hashes its voxels; a part of `wkdask.MagView`."""

    _layer: Layer
    _mag: Mag

    def content_hash(
        self,
        *,
        jobs: int | None = None,
        distribution_strategy: str = "threads",
        memory_limit: str | int | None = None,
    ) -> str:
        """Return a hash of the magnification's voxels, dtype and box; see `Dataset.content_hash`."""
        from wkdask.operations.content_hash import Chosen

        chosen = Chosen((self._layer.name,), (self._mag,))
        tree = _tree(self._layer._store, chosen, jobs, distribution_strategy, memory_limit)
        return tree.layers[0].mags[0].hash


def _tree(store: DatasetStore, chosen: Chosen, jobs: int | None, strategy: str, memory_limit: str | int | None) -> ContentTree:
    from wkdask.clusters import open_pool
    from wkdask.operations.content_hash import content_tree
    from wkdask.operations.read_only import Run
    from wkdask.plan import parse_bytes

    limit = parse_bytes(memory_limit) if memory_limit is not None else None
    return content_tree(store.location, chosen, Run(open_pool(strategy, jobs, limit), limit))
