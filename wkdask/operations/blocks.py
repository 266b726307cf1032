"""Going once through a mag array, by blocks of whole chunks; what is not stored is not read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, TypeVar

import numpy as np

from wkdask.arrays import MagArray
from wkdask.clusters.batches import ranges
from wkdask.geometry.grid import Box, Grid, Tiling

BLOCK_BYTES = 16 << 20
"""Voxels of a block, at most, where a chunk is not larger."""

FAN_IN = 8
"""Results that one task brings together."""

Part = TypeVar("Part")
Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Blocks:
    """The blocks of an array's box.

    Parameters
    ----------
    array
        What is read.
    shape
        Of a block, for each stored axis; default: whole chunks that divide the unit, of `BLOCK_BYTES` at most.
    """

    array: MagArray
    shape: tuple[int, ...] = ()
    tiles: Tiling = field(init=False, repr=False)

    def __post_init__(self) -> None:
        from wkdask.arrays.dask_view import auto_chunk

        spec = self.array.handle.spec
        shape = self.shape or auto_chunk(Grid(self.array.shape, spec.chunk, spec.unit), spec.itemsize, BLOCK_BYTES)
        object.__setattr__(self, "tiles", Tiling(self.array.box.relative_to(spec.offset), shape))

    def __len__(self) -> int:
        return len(self.tiles)

    def box(self, number: int) -> Box:
        """Return a block's voxels, counted from the dataset's origin."""
        return self.tiles.box(number).shifted(self.array.handle.spec.offset)

    def read(self, number: int) -> Array | None:
        """Return a block; None where none of it is stored, so that all of it is `background`."""
        return self.array.read(self.box(number)) if self._is_stored(number) else None

    @property
    def background(self) -> Any:
        """The value of voxels that are not stored."""
        return self.array.dtype.type(self.array.handle.spec.fill)

    def _is_stored(self, number: int) -> bool:
        handle, box = self.array.handle, self.tiles.box(number)
        grid = handle.spec.grid
        if box.intersect(grid.box) != box:
            return True  # beyond the array voxels are 0, whatever the fill is
        return any(handle.unit_location(cell).is_file() for cell in grid.units(box).cells_of())


@dataclass(frozen=True, slots=True)
class Pass:
    """What is made of a range of blocks: all that a worker must unpickle.

    Parameters
    ----------
    blocks
        Of which array.
    measure
        Called with the blocks and a number; returns a part of the result.
    merge
        Makes one part of two.
    """

    blocks: Blocks
    measure: Callable[..., Any]
    merge: Callable[[Any, Any], Any]

    def __call__(self, numbers: Iterable[int], *more: Any) -> Any:
        """Return the part that a range of blocks makes; ``more`` is given to ``measure``."""
        return reduce(self.merge, (self.measure(self.blocks, number, *more) for number in numbers))

    def merged(self, parts: Sequence[Any]) -> Any:
        """Return the part that several make."""
        return reduce(self.merge, parts)

    def lazily(self, name: str, *more: Any) -> Any:
        """Return the result of all blocks as a `dask.delayed.Delayed`, a tree of tasks; there is one block at least."""
        import dask

        measure, merge = (dask.delayed(f, pure=False, traverse=False) for f in (self, self.merged))
        level = [measure(numbers, *more, dask_key_name=_key(name)) for numbers in ranges(len(self.blocks))]
        while len(level) > 1:
            groups = [level[i : i + FAN_IN] for i in range(0, len(level), FAN_IN)]
            level = [merge(group, dask_key_name=_key(f"merge-{name}")) for group in groups]
        return level[0]


def _key(name: str) -> str:
    import uuid

    return f"{name}-{uuid.uuid4().hex}"
