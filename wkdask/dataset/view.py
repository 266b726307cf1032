"""Views: boxes of a magnification, which can be read, written, cut into chunks and gone through by slices."""

from __future__ import annotations

from typing import Any

import numpy as np

from wkdask.dataset.canonical import CanonicalVerbs
from wkdask.dataset.chunk_loops import ChunkVerbs
from wkdask.dataset.on_disk import DiskVerbs
from wkdask.dataset.positions import Position
from wkdask.dataset.slices import SliceVerbs
from wkdask.dataset.statistics import StatisticsVerbs
from wkdask.geometry import NDBoundingBox, Vec3IntLike


class View(ChunkVerbs, SliceVerbs, StatisticsVerbs, CanonicalVerbs, DiskVerbs):
    """A box of one magnification.

    Positions and sizes are in mag-1 voxels, x, y, z, unless a parameter says otherwise. Get one from `MagView.get_view`. It
    pickles to some hundred bytes, for workers elsewhere.

    Examples
    --------
    >>> from wkdask import Dataset
    >>> view = Dataset.open("brain").get_layer("color").get_mag(1).get_view(absolute_offset=(8, 8, 0), size=(16, 16, 4))
    >>> view.write(view.read() // 2)
    >>> view
    <View color/1: (8, 8, 0) to (24, 24, 4)>
    """

    def write(
        self,
        data: np.ndarray[Any, Any],
        *,
        allow_unaligned: bool = False,  # noqa: ARG002 - any box is merged safely
        relative_offset: Vec3IntLike | None = None,
        absolute_offset: Vec3IntLike | None = None,
        relative_bounding_box: NDBoundingBox | None = None,
        absolute_bounding_box: NDBoundingBox | None = None,
    ) -> None:
        """Write a box of voxels; neighbours that lie in the same chunks or shards are kept.

        Parameters
        ----------
        data
            (x, y, z), or all stored axes, usually (c, x, y, z); of the layer's dtype.
        allow_unaligned
            Accepted for scripts that give it; boxes need no alignment here.
        relative_offset, absolute_offset
            In mag-1 voxels, from the view's box or from the dataset's origin. Without any position: at the view's box.
        relative_bounding_box, absolute_bounding_box
            The same as one box, whose size must be that of the data.

        Raises
        ------
        BoxError
            Where the box cuts voxels of this mag, or voxels lie outside of the view.
        ShapeError, DtypeError
            Where the data has not the axes and channels, or not the dtype, of the layer.
        ReadOnlyError
            Where the view is for reading only.
        """
        position = Position(None, relative_offset, absolute_offset, relative_bounding_box, absolute_bounding_box)
        self._write(data, False, position)

    def write_cxyz(
        self,
        data: np.ndarray[Any, Any],
        *,
        allow_unaligned: bool = False,  # noqa: ARG002 - any box is merged safely
        relative_offset: Vec3IntLike | None = None,
        absolute_offset: Vec3IntLike | None = None,
        relative_bounding_box: NDBoundingBox | None = None,
        absolute_bounding_box: NDBoundingBox | None = None,
    ) -> None:
        """Write a box of voxels that is given as (c, x, y, z), or (x, y, z) of one channel, however the axes are stored.

        Parameters are those of `write`.

        Raises
        ------
        ShapeError
            Where the data has other axes or channels, or the view several voxels along another axis; give a box then.
        """
        position = Position(None, relative_offset, absolute_offset, relative_bounding_box, absolute_bounding_box)
        self._write(self._from_cxyz(data, position), False, position)

    def __repr__(self) -> str:
        box = self.bounding_box
        read_only = ", read-only" if self._read_only else ""
        return f"<View {self._layer.name}/{self.name}: {tuple(box.topleft)} to {tuple(box.bottomright)}{read_only}>"
