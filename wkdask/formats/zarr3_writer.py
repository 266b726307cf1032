"""Writing units of Zarr 3 arrays in whatever layout they have, if its codecs are ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar

import numpy as np

from wkdask.errors import InputError
from wkdask.formats.spec import ArraySpec
from wkdask.formats.writing import Chunks, UnitFile, require_fit
from wkdask.formats.zarr3_codecs import Chain
from wkdask.geometry.grid import Box, Index
from wkdask.storage import Location
from wkdask.storage.location import Writer

T = TypeVar("T")


class ChainedUnit(UnitFile):
    """The writer of one unit, or of a part of one; see `wkdask.formats.writing.UnitFile`.

    That one puts chunks in Fortran order, and leaves out those whose bits are all zero. So it is given the array with its axes
    in the order of the bytes, and, where voxels that are missing are not zero, with the bits of the fill value flipped.
    """

    def __init__(
        self,
        spec: ArraySpec,
        chain: Chain,
        index: Sequence[int],
        place: Location,
        scratch: Location | None,
        chunks: Callable[[Writer], Chunks],
    ) -> None:
        self._axes, self._chain, self._stored = chain.order[::-1], chain, spec
        self._mask = fill_bits(spec)
        shape, axes = self._turned(spec.shape), self._turned(spec.axes)
        turned = ArraySpec(shape, spec.dtype, axes, self._turned(spec.chunk), self._turned(spec.unit))
        per_unit = spec.grid.chunks_per_unit

        def number(inside: Sequence[int]) -> int:
            return chunk_number([i for _, i in sorted(zip(self._axes, inside, strict=True))], per_unit)

        super().__init__(turned, self._turned(tuple(index)), place, scratch, chunks, number)

    def _turned(self, along: Sequence[T]) -> tuple[T, ...]:
        """Return what belongs to the stored axes in the order of the bytes, the fastest axis first."""
        return tuple([along[axis] for axis in self._axes])

    def __enter__(self) -> Self:
        super().__enter__()
        self._encode = self._chain.encoder(self._mask)
        return self

    def put(self, region: Box, block: np.ndarray[Any, Any]) -> None:
        """Encode and append whole chunks; what a region lacks of its chunks gets the fill value."""
        require_fit(block, region, self._stored.dtype)
        if self._chain.dtype == "|b1" and block.size and block.max() > 1:
            raise InputError(f"The array of {self._place} stores bool, and voxels are up to {block.max()}. Write 0 and 1 only.")
        if self._mask is not None:
            block = (block.view(self._mask.dtype) ^ self._mask).view(block.dtype)
        turned = Box(self._turned(region.start), self._turned(region.stop))
        super().put(turned, block.transpose(self._axes))

    def put_encoded(self, chunk: Sequence[int], data: bytes | memoryview) -> None:
        """Append a chunk, by its coordinate in the array, as it lies on disk."""
        super().put_encoded(self._turned(tuple(chunk)), data)


def fill_bits(spec: ArraySpec) -> np.ndarray[Any, Any] | None:
    """Return the bits of the value of missing voxels, as one unsigned number; None where all are zero."""
    bits = np.array([spec.fill], spec.dtype).view(f"u{spec.itemsize}")
    return bits if bits.any() else None


def chunk_number(inside: Sequence[int], per_unit: Index) -> int:
    """Return a chunk's number in its unit, in C order.

    Examples
    --------
    >>> chunk_number((1, 2), (4, 8))
    10
    """
    number = 0
    for i, n in zip(inside, per_unit, strict=True):
        number = number * n + i
    return number
