"""A source whose voxels lie in another order of axes than those of the array that is written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from wkdask.geometry.grid import Box, Index
from wkdask.operations.tiles import Array, Source


@dataclass(frozen=True, slots=True)
class Permuted:
    """A source seen with its axes in another order.

    Parameters
    ----------
    source
        Knows the axes in its own order.
    order
        For each axis of the source, its place among the axes that are asked for; None for one that is not, of which the
        first position is taken.
    """

    source: Source
    order: tuple[int | None, ...]

    def _own(self, box: Box) -> Box:
        ends = [(0, 1) if i is None else (box.start[i], box.stop[i]) for i in self.order]
        return Box(tuple(a for a, _ in ends), tuple(b for _, b in ends))

    def read(self, box: Box) -> Array:
        """Return a box in stored axes: a view of what the source gives."""
        block = self.source.read(self._own(box))
        block = block[tuple(0 if i is None else slice(None) for i in self.order)]
        kept = [i for i in self.order if i is not None]
        return block.transpose([kept.index(i) for i in range(len(kept))])

    def bytes_read(self, box: Box) -> int:
        """Return the bytes of voxels that reading a box decodes."""
        return self.source.bytes_read(self._own(box))

    def bytes_beside(self, box: Box) -> int:
        """Return the memory that reading a box takes beside its voxels."""
        return self.source.bytes_beside(self._own(box))

    @property
    def growth(self) -> str:
        """As the source says."""
        return self.source.growth

    @property
    def is_there(self) -> bool:
        """Whether no task of a plan writes what is read."""
        return getattr(self.source, "is_there", False)

    def needs(self, box: Box) -> Iterable[tuple[int, int]]:
        """Return what the source needs."""
        return self.source.needs(self._own(box))

    def describe(self, tile: Index) -> str:
        """Return what is read."""
        return self.source.describe(tuple(1 if i is None else tile[i] for i in self.order))


def in_order(source: Source, own: Sequence[str], wanted: Sequence[str]) -> Source:
    """Return a source with axes in the wanted order: itself where that is its own.

    Examples
    --------
    >>> in_order(None, "cxyz", "czyx").order, in_order(None, "cxyz", "zyx").order
    ((0, 3, 2, 1), (None, 2, 1, 0))
    """
    if tuple(own) == tuple(wanted):
        return source
    return Permuted(source, tuple(wanted.index(axis) if axis in wanted else None for axis in own))
