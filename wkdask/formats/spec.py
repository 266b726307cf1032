"""What an array is, and what a format must offer, free of any format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from wkdask.geometry.grid import Box, Grid, Index
from wkdask.storage import Location


@dataclass(frozen=True, slots=True)
class Codec:
    """A compressor and its level, as ``zstd:5`` names it.

    Examples
    --------
    >>> str(Codec("zstd", 5))
    'zstd:5'
    """

    name: str
    level: int

    def __str__(self) -> str:
        return f"{self.name}:{self.level}"


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """All that creating an array needs: one number for each stored axis, in stored order.

    Parameters
    ----------
    shape
        Voxels, from the dataset's origin to the array's end.
    dtype
        Of one channel, in numpy's short spelling without byte order, such as ``uint8``.
    axes
        Names in stored order, such as ``("c", "x", "y", "z")``.
    chunk, unit
        Voxels of the smallest readable piece, and of the piece that one file holds.
    codec
        How chunks are compressed; ``None`` leaves them as they are.
    """

    shape: Index
    dtype: str
    axes: tuple[str, ...]
    chunk: Index
    unit: Index
    codec: Codec | None = None
    grid: Grid = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "grid", Grid(self.shape, self.chunk, self.unit))

    @property
    def itemsize(self) -> int:
        """Bytes of one voxel of one channel."""
        return int(np.dtype(self.dtype).itemsize)


@dataclass(frozen=True, slots=True)
class Written:
    """What is known of a file that holds a unit or a part of one.

    ``size`` is 0 where nothing was stored because all voxels are zero; ``digest`` is the checksum of its index.
    """

    size: int
    mtime_ns: int
    digest: int
    chunks: int


class UnitWriter(Protocol):
    """Writes one unit, or one part of it: all of it, or nothing, when the ``with`` block ends."""

    def put(self, region: Box, block: np.ndarray[Any, Any]) -> None:
        """Encode and append whole chunks: the voxels of a region of the array, in stored axes."""
        ...

    def put_encoded(self, chunk: Sequence[int], data: bytes) -> None:
        """Append a chunk, by its coordinate in the array, as it lies on disk."""
        ...

    def __enter__(self) -> UnitWriter: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None: ...


class ArrayHandle(Protocol):
    """An open array: knows its spec, reads any region, gives writers of single units; pickles small."""

    @property
    def spec(self) -> ArraySpec:
        """What the array is."""
        ...

    def read(self, box: Box) -> np.ndarray[Any, Any]:
        """Read a box that lies within the array: a Fortran-ordered array in stored axes."""
        ...

    def write(self, box: Box, block: np.ndarray[Any, Any]) -> None:
        """Write any box that lies within the array; voxels beside it are kept."""
        ...

    def resize(self, shape: Index) -> None:
        """Give the array another shape; chunks stay where they are."""
        ...

    def unit(self, index: Sequence[int], scratch: Location | None = None) -> UnitWriter:
        """Return the writer of the unit at a grid coordinate; its bytes lie in ``scratch`` until they are complete."""
        ...

    def unit_location(self, index: Sequence[int]) -> Location:
        """Return the file of a unit."""
        ...

    def written_units(self) -> Iterator[Index]:
        """Yield the grid coordinates of the units that are stored."""
        ...
