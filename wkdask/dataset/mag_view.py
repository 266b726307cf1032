"""One magnification of a layer: reading and writing voxels, and lazy views of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from wkdask.dataset.hashing import MagHashVerbs
from wkdask.dataset.overlaying import OverlayVerbs
from wkdask.dataset.positions import Position
from wkdask.dataset.rechunking import RechunkMagVerbs
from wkdask.dataset.view import View
from wkdask.errors import BoxError
from wkdask.formats.stored import stored_units
from wkdask.geometry import Mag, NDBoundingBox, Vec3IntLike
from wkdask.plan import format_bytes

if TYPE_CHECKING:
    from wkdask.dataset.layer import Layer
    from wkdask.operations.verify_report import Verification


class MagView(RechunkMagVerbs, MagHashVerbs, OverlayVerbs, View):
    """One magnification of a layer.

    Positions and sizes are in mag-1 voxels, x, y, z, unless a parameter says otherwise. Get one from `Layer.get_mag`.

    Examples
    --------
    >>> from wkdask import Dataset
    >>> mag = Dataset.open("brain").get_layer("color").get_mag("2-2-1")
    >>> mag.read(absolute_offset=(0, 0, 0), size=(32, 32, 8)).shape
    (1, 16, 16, 8)
    """

    def __init__(self, layer: Layer, mag: Mag) -> None:
        super().__init__(layer, mag)

    def write(
        self,
        data: np.ndarray[Any, Any],
        *,
        allow_resize: bool = False,
        allow_unaligned: bool = False,  # noqa: ARG002 - any box is merged safely
        offset: Vec3IntLike | None = None,
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
        allow_resize
            Whether the layer's box may grow; else voxels outside of it are refused.
        allow_unaligned
            Accepted for scripts that give it; boxes need no alignment here.
        offset
            Deprecated: in voxels of this mag, from the dataset's origin. As ever with it, the layer's box grows.
        relative_offset, absolute_offset
            In mag-1 voxels, from the layer's box or from the dataset's origin. Without any position: at the layer's box.
        relative_bounding_box, absolute_bounding_box
            The same as one box, whose size must be that of the data.

        Raises
        ------
        BoxError
            Where the box cuts voxels of this mag, or voxels lie outside of the layer's box, which may not grow.
        ShapeError, DtypeError
            Where the data has not the axes and channels, or not the dtype, of the layer.
        ReadOnlyError
            Where the dataset is for reading only, or the magnification is not its own.
        """
        position = Position(offset, relative_offset, absolute_offset, relative_bounding_box, absolute_bounding_box)
        position.warn_of_old("write")
        self._write(data, allow_resize or offset is not None, position)

    def write_cxyz(
        self,
        data: np.ndarray[Any, Any],
        *,
        allow_resize: bool = False,
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
        self._write(self._from_cxyz(data, position), allow_resize, position)

    def _outgrown(self, box: NDBoundingBox, grow: bool) -> None:
        if not grow or min(box.topleft) < 0:
            raise BoxError(
                f"The data covers {tuple(box.topleft)} to {tuple(box.bottomright)}, beyond the layer's box "
                f"{self._layer.bounding_box}. Pass allow_resize=True to let it grow; it can not start below 0."
            )
        self._layer.extend_bounding_box(box)

    def verify(
        self,
        *,
        digests: bool = False,
        jobs: int | None = None,
        distribution_strategy: str = "threads",
        memory_limit: str | int | None = None,
    ) -> Verification:
        """Check that every unit of the magnification can be read, and that documents and files agree; see `Dataset.verify`."""
        from wkdask.dataset.verifying import verified
        from wkdask.operations.verify import Selected

        selected = Selected((self._layer.name,), (self._mag,), digests)
        return verified(self._layer._store.location, selected, jobs, distribution_strategy, memory_limit)

    def bytes_on_disk(self) -> int:
        """Return the size of the stored units."""
        return sum(stat.size for _, stat in stored_units(self.array.handle))

    def _repr_html_(self) -> str:
        from wkdask.dataset.html import mag_view_html

        return mag_view_html(self)

    def __repr__(self) -> str:
        spec = self.spec
        shape = " x ".join(str(n) for n in self.array.box.shape)
        codec = str(spec.codec or "uncompressed")
        return (
            f"<MagView {self._layer.name}/{self.name}: {shape} ({', '.join(spec.axes)}) {spec.dtype}, "
            f"{format_bytes(self.array.box.size * spec.itemsize)} of voxels; chunks {spec.chunk}, shards {spec.unit}, {codec}>"
        )
