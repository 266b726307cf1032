"""An array handle over a numpy array, and strategies that make them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wkdask.arrays.mag_array import MagArray
from wkdask.formats.spec import ArraySpec, UnitWriter
from wkdask.geometry.grid import Box, Index


@dataclass(frozen=True)
class MemoryHandle:
    """Reads a numpy array."""

    data: np.ndarray[Any, Any]
    spec: ArraySpec

    def read(self, box: Box, *, keep: bool = True) -> np.ndarray[Any, Any]:
        """Read a box that must lie within the array."""
        if box.intersect(self.spec.grid.box) != box or not box.size:
            raise IndexError(f"{box} does not lie within {self.spec.shape}.")
        return np.asfortranarray(self.data[box.slices])

    def unit(self, index: Sequence[int]) -> UnitWriter:
        """Refuse."""
        raise NotImplementedError

    def written_units(self) -> Iterator[Index]:
        """Yield all units."""
        units = self.spec.grid.units()
        return (units.cell(i) for i in range(len(units)))


@dataclass(frozen=True)
class HugeHandle:
    """An array of any size, whose voxels are the last axis' index modulo 251."""

    spec: ArraySpec

    def read(self, box: Box, *, keep: bool = True) -> np.ndarray[Any, Any]:
        """Make up a box."""
        row = (np.arange(box.start[-1], box.stop[-1]) % 251).astype(self.spec.dtype)
        return np.asfortranarray(np.broadcast_to(row, box.shape))

    def unit(self, index: Sequence[int]) -> UnitWriter:
        """Refuse."""
        raise NotImplementedError

    def written_units(self) -> Iterator[Index]:
        """Yield nothing."""
        return iter(())


def memory_array(
    shape: Index,
    axes: str = "cxyz",
    box: Box | None = None,
    *,
    chunk: Index | None = None,
    unit: Index | None = None,
    **kwargs: Any,
) -> MagArray:
    """Return a mag array of ascending numbers."""
    chunk = chunk or tuple(4 if a in "xyz" else 1 for a in axes)
    unit = unit or tuple(16 if a in "xyz" else 1 for a in axes)
    data = (np.arange(np.prod(shape), dtype="uint32") + 1).reshape(shape)
    spec = ArraySpec(shape, "uint32", tuple(axes), chunk, unit)
    kwargs = {"mag": (1, 1, 1), "name": "color/1"} | kwargs
    return MagArray(MemoryHandle(data, spec), box=box or spec.grid.box, **kwargs)


def huge_array(shape: Index, axes: str = "cxyz", chunk: int = 32, unit: int = 1024) -> MagArray:
    """Return a mag array of any size that takes no memory."""
    edges = [tuple(n if a in "xyz" else 1 for a in axes) for n in (chunk, unit)]
    spec = ArraySpec(shape, "uint8", tuple(axes), edges[0], edges[1])
    return MagArray(HugeHandle(spec), (2, 2, 1), spec.grid.box, (11.24, 11.24, 25.0), "nanometer", "color/2-2-1")
