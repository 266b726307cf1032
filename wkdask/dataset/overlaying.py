"""Laying one magnification over another one in place, as an annotation over what was annotated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from wkdask.dataset.chunk_loops import ChunkVerbs, Loop
from wkdask.dataset.voxels import Voxels
from wkdask.errors import DtypeError, InputError, ShapeError
from wkdask.geometry import BoundingBox, NDBoundingBox
from wkdask.operations.presence import stored_voxels

PIECE_BYTES = 64 << 20
"""Voxels that a task lays over others at once; the file is written once for each."""


class OverlayVerbs(ChunkVerbs):
    """The verbs of a magnification that take over voxels of another one; a part of `wkdask.MagView`."""

    def merge_with_view(self, other: Voxels, executor: Any = None) -> None:
        """Take over all that another magnification stores: its chunks, zeros in them too, replace the voxels here.

        Where the other stores no chunk, voxels stay. So a volume annotation is laid over its segmentation, and what was erased
        in it becomes 0.

        Parameters
        ----------
        other
            Of the same mag, dtype, channels; of any layer or dataset. The layer's box grows to hold its box.
        executor
            As of `View.for_each_chunk`.

        Raises
        ------
        InputError
            Where the two do not fit each other.
        ReadOnlyError
            Where this one may not be written.

        Examples
        --------
        >>> import numpy as np
        >>> from wkdask import BoundingBox, Dataset
        >>> dataset, box = Dataset("memory://overlay", (4, 4, 35)), BoundingBox((0, 0, 0), (64, 32, 32))
        >>> for name in ("below", "above"):
        ...     mag = dataset.add_layer(name, "segmentation", bounding_box=box).add_mag(1, chunk_shape=32, shard_shape=32)
        >>> below, above = (dataset.get_layer(name).get_mag(1) for name in ("below", "above"))
        >>> below.write(np.full((64, 32, 32), 1, "uint8"))
        >>> above.write(np.full((4, 32, 32), 2, "uint8"))
        >>> below.merge_with_view(above)
        >>> below.read()[0, :, 0, 0].tolist()[::16]
        [2, 0, 1, 1]
        """
        self.require_writable()
        self._require_alike(other)
        if not self._spatial_box().contains_bbox(other._spatial_box()):
            self._layer.extend_bounding_box(other._spatial_box())
        loop = Loop(_Overlay(other), (self._chunks(None, False),), numbered=False)
        for _ in loop.run(executor, "merge"):
            pass

    def merge_chunk(self, args: tuple[Voxels, NDBoundingBox, Sequence[NDBoundingBox]]) -> None:
        """Take over some boxes of another magnification, all of their voxels: what `merge_with_view` does for a file.

        Parameters
        ----------
        args
            The other magnification, the box of a file of this one, and the boxes within that, in mag-1 voxels.
        """
        other, within, boxes = args
        self.require_writable()
        self._require_alike(other)
        for box in boxes:
            part = BoundingBox.from_ndbbox(box).intersected_with(BoundingBox.from_ndbbox(within), dont_assert=True)
            part = part.intersected_with(self._spatial_box(), dont_assert=True)
            if not part.is_empty():
                self._view_at(part, False).write(other.read(absolute_bounding_box=part))

    def _require_alike(self, other: Voxels) -> None:
        mine, others = self.array, other.array
        what = f"{other.layer.name}/{other.name} can not be merged into {self._layer.name}/{self.name}"
        if self._mag != other.mag:
            raise InputError(f"{what}: their magnifications differ. Take the same mag of both.")
        if mine.dtype != others.dtype:
            raise DtypeError(f"{what}: it is {others.dtype}, not {mine.dtype}. Cast it with Layer.lazy first.")
        if mine.axes != others.axes or self.num_channels != other.num_channels:
            raise ShapeError(
                f"{what}: it has {other.num_channels} channels and the axes {others.axes}, not {self.num_channels} and "
                f"{mine.axes}. Store it in the same way first."
            )


@dataclass(frozen=True, slots=True)
class _Overlay:
    """Lays the chunks that another magnification stores over a view, some megabytes at a time."""

    over: Voxels

    def __call__(self, chunk: Any) -> None:
        above = self.over.array.handle
        for piece in _pieces(chunk):
            box = piece._spatial_box().intersected_with(self.over._spatial_box(), dont_assert=True)
            if box.is_empty():
                continue
            counts = stored_voxels(above, self.over._stored(box))
            if not counts.any():
                continue
            target = chunk._within(box, False)
            voxels = self.over.read(absolute_bounding_box=box)
            if not counts.all():
                voxels = np.where(counts, voxels, target.read())
            target.write(voxels)


def _pieces(view: Any) -> Iterable[Any]:
    """Cut a view to pieces of whole chunks of the disk that are small enough."""
    spec = view.spec
    size = dict(zip(spec.axes, spec.unit, strict=True))
    chunk = dict(zip(spec.axes, spec.chunk, strict=True))
    for axis in "zyx":
        while prod(size.values()) * spec.itemsize > PIECE_BYTES and size[axis] % (2 * chunk[axis]) == 0:
            size[axis] //= 2
    shape = tuple(size[axis] * m for axis, m in zip("xyz", view.mag, strict=True))
    found: Iterator[Any] = view.chunk(shape, shape)
    return found
