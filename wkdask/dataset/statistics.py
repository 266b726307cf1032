"""What views and segmentation layers tell of their voxels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wkdask.dataset.arguments import shape_of
from wkdask.dataset.store import DatasetStore
from wkdask.dataset.voxels import Voxels
from wkdask.errors import InputError
from wkdask.geometry import MagLike, Vec3IntLike

if TYPE_CHECKING:
    from wkdask.dataset.mag_view import MagView
    from wkdask.operations.segments import SegmentTable
    from wkdask.operations.statistics import VoxelStatistics


class StatisticsVerbs(Voxels):
    """The verbs of a view that measure it; a part of `wkdask.View`."""

    def statistics(self) -> VoxelStatistics:
        """Return lazy statistics of the view's voxels: extremes, mean, deviation, histograms, percentiles.

        Nothing is read before something is computed, on dask's scheduler of the moment. What is not stored is not read.

        Raises
        ------
        InputError
            Where the view has no voxels.

        Examples
        --------
        >>> import dask
        >>> from wkdask import Dataset
        >>> found = Dataset.open("brain").get_layer("color").get_mag(1).statistics()
        >>> [float(x) for x in dask.compute(found.min, found.mean, found.max)]
        [0.0, 64.5, 129.0]
        """
        from wkdask.operations.statistics import VoxelStatistics

        return VoxelStatistics(self.boxed_array)


class SegmentVerbs:
    """The verbs of a segmentation layer that look for its segments; a part of `wkdask.SegmentationLayer`."""

    _store: DatasetStore
    _name: str

    if TYPE_CHECKING:

        def get_mag(self, mag: MagLike) -> MagView: ...  # noqa: D102
        def get_finest_mag(self) -> MagView: ...  # noqa: D102

    def refresh_largest_segment_id(self, chunk_shape: Vec3IntLike | int | None = None, executor: Any = None) -> None:
        """Look for the largest segment id in the finest magnification, and note it in the dataset's JSON.

        It is None where the layer has no voxels.

        Parameters
        ----------
        chunk_shape
            In mag-1 voxels: what is read at once, a multiple of mag times chunk; default a few megabytes.
        executor
            As of `View.for_each_chunk`.

        Examples
        --------
        >>> import numpy as np
        >>> from wkdask import BoundingBox, Dataset
        >>> box = BoundingBox((0, 0, 0), (8, 8, 8))
        >>> layer = Dataset("cells", (4, 4, 35)).add_layer("cells", "segmentation", dtype="uint64", bounding_box=box)
        >>> layer.add_mag(1).write(np.full((8, 8, 8), 2**63 + 1, "uint64"))
        >>> layer.refresh_largest_segment_id()
        >>> layer.largest_segment_id - 2**63
        1
        """
        from wkdask.operations.segments import largest_id

        self._store.require_writable()
        finest = self.get_finest_mag()
        found = largest_id(finest.boxed_array, _stored_shape(finest, chunk_shape), executor)
        self._store.update(lambda old: old.with_layer(old.layer(self._name).updated(largest_segment_id=found)))

    def segment_sizes(self, mag: MagLike | None = None, executor: Any = None) -> SegmentTable:
        """Return how many voxels each segment has, and where it lies, by one look at each voxel.

        Parameters
        ----------
        mag
            Which magnification is read; default the finest. Sizes count its voxels, boxes are in mag-1 voxels.
        executor
            As of `View.for_each_chunk`.

        Returns
        -------
        SegmentTable
            By ascending id, without 0. It takes some 64 bytes for each segment.

        Examples
        --------
        >>> import numpy as np
        >>> from wkdask import BoundingBox, Dataset
        >>> box = BoundingBox((0, 0, 0), (8, 8, 8))
        >>> layer = Dataset("cells", (4, 4, 35)).add_layer("cells", "segmentation", dtype="uint64", bounding_box=box)
        >>> mag = layer.add_mag(1)
        >>> mag.write(np.full((2, 2, 1), 7, "uint64"), absolute_offset=(3, 3, 3))
        >>> found = layer.segment_sizes()
        >>> found.ids.tolist(), found.size(7), found.bounding_box(7)
        ([7], 4, BoundingBox(topleft=(3, 3, 3), size=(2, 2, 1)))
        """
        from wkdask.operations.segments import segment_table

        view = self.get_finest_mag() if mag is None else self.get_mag(mag)
        return segment_table(view.boxed_array, executor)

    def segment_boxes(self, mag: MagLike | None = None, executor: Any = None) -> SegmentTable:
        """Return where each segment lies: the same table as that of `segment_sizes`."""
        return self.segment_sizes(mag, executor)


def _stored_shape(view: MagView, shape: Vec3IntLike | int | None) -> tuple[int, ...]:
    """Return a shape in mag-1 voxels for each stored axis, in voxels of the view's mag."""
    xyz = shape_of(shape)
    if xyz is None:
        return ()
    spec = view.spec
    wanted = {a: (n, m) for a, n, m in zip("xyz", xyz, view.mag, strict=True)}
    pieces = view._piece(True)
    if any(n < 1 or n % p for n, p in zip(xyz, pieces, strict=True)):
        raise InputError(f"The chunk shape {xyz} is no multiple of {pieces}, the chunks in mag-1 voxels. Give a multiple.")
    return tuple(wanted[a][0] // wanted[a][1] if a in wanted else n for a, n in zip(spec.axes, spec.chunk, strict=True))
