"""What an array is, and what a format must offer, free of any format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from wkdask.geometry.grid import Box, Grid, Index
from wkdask.metadata import LayerProperties, VoxelSize
from wkdask.storage import Location


@dataclass(frozen=True, slots=True)
class Codec:
    """A compressor and its level, as ``zstd:5`` names it; ``None`` for compressors that have no levels.

    Examples
    --------
    >>> str(Codec("zstd", 5)), str(Codec("lz4"))
    ('zstd:5', 'lz4')
    """

    name: str
    level: int | None = None

    def __str__(self) -> str:
        return self.name if self.level is None else f"{self.name}:{self.level}"


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """All that creating an array needs: one number for each stored axis, in stored order.

    Parameters
    ----------
    shape
        Voxels, from the array's first to its end.
    dtype
        Of one channel, in numpy's short spelling without byte order, such as ``uint8``.
    axes
        Names in stored order, such as ``("c", "x", "y", "z")``.
    chunk, unit
        Voxels of the smallest readable piece, and of the piece that one file holds.
    codec
        How chunks are compressed; ``None`` leaves them as they are.
    offset
        Where the array's first voxel lies, counted from the dataset's origin in voxels of the array; by default there. Grid,
        handles and writers count from the first voxel; `box` and all above the formats count from the origin.
    fill
        The value of voxels that are not stored.
    """

    shape: Index
    dtype: str
    axes: tuple[str, ...]
    chunk: Index
    unit: Index
    codec: Codec | None = None
    offset: Index = ()
    fill: float = 0
    grid: Grid = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "offset", self.offset or (0,) * len(self.shape))
        object.__setattr__(self, "grid", Grid(self.shape, self.chunk, self.unit))

    @property
    def box(self) -> Box:
        """All voxels of the array, counted from the dataset's origin."""
        return self.grid.box.shifted(self.offset)

    @property
    def end(self) -> tuple[int, int, int]:
        """Where the array ends along x, y, z, counted from the dataset's origin.

        Examples
        --------
        >>> ArraySpec((1, 16, 32, 64), "uint8", tuple("czyx"), (1, 8, 8, 8), (1, 8, 8, 8)).end
        (64, 32, 16)
        """
        ends = dict(zip(self.axes, self.box.stop, strict=True))
        return ends["x"], ends["y"], ends["z"]

    @property
    def itemsize(self) -> int:
        """Bytes of one voxel of one channel."""
        return int(np.dtype(self.dtype).itemsize)


@dataclass(frozen=True, slots=True)
class Written:
    """What is known of a file that holds a unit or a part of one.

    ``size`` is 0 where nothing was stored because all voxels are zero; ``stamp`` is `Stat.stamp`, ``digest`` the checksum
    of its index.
    """

    size: int
    stamp: int
    digest: int
    chunks: int


class UnitWriter(Protocol):
    """Writes one unit, or one part of it: all of it, or nothing, when the ``with`` block ends."""

    @property
    def written(self) -> Written:
        """What was published, once the ``with`` block has ended."""
        ...

    def put(self, region: Box, block: np.ndarray[Any, Any]) -> None:
        """Encode and append chunks: the voxels of a region of the array, in stored axes.

        A region may begin and end inside of chunks; what it lacks of them is zero. No chunk is put twice.
        """
        ...

    def put_encoded(self, chunk: Sequence[int], data: bytes | memoryview) -> None:
        """Append a chunk, by its coordinate in the array, as it lies on disk."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None: ...


class ArrayHandle(Protocol):
    """An open array: knows its spec, reads and writes any box, gives writers of single units; frozen, pickles small."""

    @property
    def location(self) -> Location:
        """The folder that the array lies in."""
        ...

    @property
    def spec(self) -> ArraySpec:
        """What the array is."""
        ...

    @property
    def scratch(self) -> Location:
        """Where unfinished files of single writes lie: the dataset's own work folder."""
        ...

    def with_axes(self, axes: tuple[str, ...]) -> Self:
        """Return the array with other names for its axes."""
        ...

    def read(self, box: Box, *, keep: bool = True) -> np.ndarray[Any, Any]:
        """Read a box that lies within the array, in stored axes.

        It comes in the memory order that decoding yields: Fortran's, or C's where the array is stored so. Callers that promise
        one of them to users must see to it themselves.

        ``keep`` says that its chunks may soon be wanted again, so that some memory is well spent on them.
        """
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

    def part(self, index: Sequence[int], place: Location, scratch: Location | None = None) -> UnitWriter:
        """Return the writer of a part of a unit, any whole chunks of it, into a file of its own."""
        ...

    def join(self, index: Sequence[int], parts: Sequence[Location], scratch: Location | None = None) -> Written:
        """Make a unit of its parts, none of which is decoded."""
        ...

    def inspect(self, index: Sequence[int]) -> Written | None:
        """Return what a unit's file says of itself; None where there is none."""
        ...

    def unit_location(self, index: Sequence[int]) -> Location:
        """Return the file of a unit."""
        ...

    def unit_of(self, path: str) -> Index | None:
        """Return the unit that a path below the array's location is the file of; None where it is of none."""
        ...

    def written_units(self) -> Iterator[Index]:
        """Yield the grid coordinates of the units that are stored."""
        ...


class Format(Protocol):
    """A way for arrays to lie on disk: finds, opens and creates them."""

    @property
    def name(self) -> str:
        """As ``dataFormat`` in the dataset's JSON has it."""
        ...

    @property
    def codecs(self) -> tuple[str, ...]:
        """Names of the compressors that it can write, as `parse_codec` reads them."""
        ...

    @property
    def usual_codec(self) -> Codec:
        """The compressor of arrays for which none is asked for."""
        ...

    @property
    def usual_chunk(self) -> tuple[int, int, int]:
        """Shape of chunks along x, y, z where none is asked for."""
        ...

    @property
    def cubic(self) -> bool:
        """Whether chunks and units must be cubes."""
        ...

    @property
    def sharded(self) -> bool:
        """Whether a unit may hold several chunks."""
        ...

    @property
    def exact(self) -> bool:
        """Whether new arrays end where the layer does, their last chunks cut off there; else they end with a whole unit."""
        ...

    @property
    def further_axes(self) -> bool:
        """Whether arrays may have axes beside c, x, y and z."""
        ...

    @property
    def documents(self) -> frozenset[str]:
        """Names of the files that `create` and `write_groups` leave in folders of arrays, layers and datasets."""
        ...

    def detect(self, location: Location) -> bool:
        """Whether an array of this format lies here."""
        ...

    def open(self, location: Location, end: Sequence[int] | None = None) -> ArrayHandle:
        """Open an array.

        ``end`` are the voxels (x, y, z) from the dataset's origin to the end of the layer's box, for formats that store no
        shape; where it is None, such an array ends with its last file.
        """
        ...

    def at(self, location: Location, spec: ArraySpec) -> ArrayHandle:
        """Return the handle of an array that is not there yet; nothing is written, but the spec is checked."""
        ...

    def create(self, location: Location, spec: ArraySpec) -> ArrayHandle:
        """Create an array without any unit, where there is none yet."""
        ...

    def write_groups(self, dataset: Location, layer: LayerProperties, voxel_size: VoxelSize) -> None:
        """Write the documents beside a layer's arrays by which other readers find its magnifications.

        Called before the first magnification is made, and whenever their list or the layer's box has changed. What others
        wrote into these documents stays. Files that arrays have left under names of an earlier size may be deleted now.
        """
        ...
