"""Chunked volumes as sources: a value that is read by boxes, and offers what a stack of images does."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from wkdask.errors import InputError, StorageError
from wkdask.geometry.grid import Box
from wkdask.images.stack import Part
from wkdask.storage import Location, together
from wkdask.storage.zip_files import archive_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from wkdask.formats import ArraySpec

AXES = "tczyx"
SAMPLED_FILES = 256
"""Files whose sizes and times tell whether a volume was changed, beside its documents."""
SAMPLES = 64
"""Chunks that stand for all voxels of a volume where percentiles are wanted."""


class Readable(Protocol):
    """What is needed of an open array; see `wkdask.formats.spec.ArrayHandle`."""

    @property
    def location(self) -> Location:
        """The folder that it lies in."""

    @property
    def spec(self) -> ArraySpec:
        """What it is."""

    def read(self, box: Box, *, keep: bool = True) -> np.ndarray[Any, Any]:
        """Read a box, counted from the first voxel, Fortran-ordered in stored axes."""


@dataclass(frozen=True)
class Volume:
    """Voxels of an array in a file format of chunks, seen as a stack of planes; array order is (z, y, x, c).

    A volume is a value without open files: it pickles, and is read from several threads at once.

    Attributes
    ----------
    array
        The array.
    axes
        What its axes are, in stored order: names out of t, c, z, y, x, each once at most; those that are not there have one
        voxel.
    label
        What people call it.
    documents
        What describes it.
    part
        Which channels and time points are shown.
    notes
        What a user should know.

    Examples
    --------
    >>> import tempfile, zarr
    >>> from wkdask.images import find_layers
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     array = zarr.create_array(f"{folder}/em.zarr", shape=(4, 5, 6), chunks=(2, 5, 3), dtype="uint8")
    ...     array[:] = 7
    ...     volume = find_layers(f"{folder}/em.zarr")[0].stack
    ...     volume.shape, volume.chunk, int(volume.read(0, 2, 0, 5)[1, 4, 5, 0])
    ((4, 5, 6), (2, 5, 3), 7)
    """

    array: Readable
    axes: tuple[str, ...]
    label: str
    documents: tuple[Location, ...]
    part: Part = Part()  # noqa: RUF009 - frozen
    notes: tuple[str, ...] = ()

    missing = None
    multipage = False
    rows_alone = columns_alone = True
    decoded_bytes = 0

    def _along(self, numbers: tuple[int, ...]) -> Mapping[str, int]:
        return dict.fromkeys(AXES, 1) | dict(zip(self.axes, numbers, strict=True))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Extent (z, y, x) in voxels."""
        along = self._along(self.array.spec.shape)
        return along["z"], along["y"], along["x"]

    @property
    def chunk(self) -> tuple[int, int, int]:
        """Voxels (z, y, x) that are decoded together, not more than there are."""
        along = self._along(self.array.spec.chunk)
        z, y, x = self.shape
        return min(along["z"], max(1, z)), min(along["y"], max(1, y)), min(along["x"], max(1, x))

    @property
    def depth_step(self) -> int:
        """Planes that are decoded together."""
        return self.chunk[0]

    @property
    def row_step(self) -> int:
        """Rows that are decoded together."""
        return self.chunk[1]

    @property
    def times(self) -> int:
        """Time points."""
        return self.part.times

    @property
    def channels(self) -> int:
        """Channels of a voxel: 1, or 3 for red, green and blue."""
        return self.part.channels

    @property
    def dtype(self) -> str:
        """Numpy's name of the voxel type."""
        return self.array.spec.dtype

    @property
    def bytes(self) -> int:
        """Size of all voxels of all time points, decoded."""
        return math.prod(self.shape) * self.times * self.channels * self.array.spec.itemsize

    @property
    def chunk_bytes(self) -> int:
        """Memory of one decoded chunk, with all of its channels and time points."""
        return math.prod(self.array.spec.chunk) * self.array.spec.itemsize

    @property
    def order_digest(self) -> str:
        """A digest of what the axes are."""
        return ",".join(self.axes)

    @property
    def paths(self) -> Iterator[str]:
        """The folder, or the zip file."""
        archive = archive_of(self.array.location)
        yield self.array.location.url if archive is None else archive.url

    def identity(self) -> list[tuple[str, int, int]]:
        """Return (name, size, mtime in ns) of documents and of some files of chunks as they are now, to notice a change.

        All documents count, and 256 files evenly spread over the array, those that are not there too: a volume that was
        written again is noticed, a single chunk that was changed among many may not be. Of zip files it is the file itself.

        Raises
        ------
        StorageError
            If the zip file is gone.
        """
        archive = archive_of(self.array.location)
        if archive is not None:
            found = archive.stat()
            if found is None:
                raise StorageError(f"'{archive}' can not be read: it is gone. Put the file back, then run again.")
            return [(self.array.location.url, found.size, found.stamp)]
        places = (*self.documents, *self._sampled())
        return together(self.array.location, [partial(_row, place) for place in places])

    @property
    def checked(self) -> int:
        """How many files `identity` looks at."""
        if archive_of(self.array.location) is not None:
            return 1
        return len(self.documents) + min(SAMPLED_FILES, self.array.spec.grid.units().cells.size)

    def _sampled(self) -> Iterator[Location]:
        units = self.array.spec.grid.units()
        count = units.cells.size  # more, perhaps, than `len` can say
        for number in sorted({i * (count - 1) // max(1, SAMPLED_FILES - 1) for i in range(SAMPLED_FILES)}):
            if number < count:
                yield self.array.unit_location(units.cell(number))  # type: ignore[attr-defined]

    def stamp(self, z: int) -> tuple[str, int, int, int]:
        """Return what tells one slice from another, of this volume or of others."""
        rows = [_row(place) for place in self.documents] if archive_of(self.array.location) is None else self.identity()
        digest = hashlib.sha256(repr((rows, self.axes)).encode()).hexdigest()
        return f"{self.array.location} {digest}", 0, 0, z

    def read(self, z0: int, z1: int, y0: int, y1: int, *x: int, t: int = 0) -> NDArray[Any]:
        """Read the voxels ``z0 <= z < z1``, ``y0 <= y < y1``, ``x0 <= x < x1``; parameters as of `ImageStack.read`.

        Returns
        -------
        numpy.ndarray
            C-ordered, native byte order, shape (z1 - z0, y1 - y0, x1 - x0, channels).

        Raises
        ------
        InputError
            If the range leaves the volume.
        DamagedError, StorageError
            If a chunk can not be decoded, or not be read.
        """
        import numpy as np

        depth, height, width = self.shape
        x0, x1 = x or (0, width)
        if not (0 <= z0 <= z1 <= depth and 0 <= y0 <= y1 <= height and 0 <= x0 <= x1 <= width and 0 <= t < self.times):
            raise InputError(
                f"z {z0} to {z1}, y {y0} to {y1}, x {x0} to {x1}, t {t} leaves the volume of {depth} planes of {height} rows "
                f"and {width} columns at {self.times} time points. Ask for less."
            )
        first, t = self.part.first_channel, self.part.first_time + t
        ranges = {"t": (t, t + 1), "c": (first, first + self.channels), "z": (z0, z1), "y": (y0, y1), "x": (x0, x1)}
        box = Box(*(tuple(ranges[axis][end] for axis in self.axes) for end in (0, 1)))
        shape = (z1 - z0, y1 - y0, x1 - x0, self.channels)
        if 0 in shape:
            return np.zeros(shape, self.dtype)
        block = self.array.read(box, keep=False)
        order = [self.axes.index(axis) for axis in "tzyxc" if axis in self.axes]
        return np.ascontiguousarray(block.transpose(order)).reshape(shape)

    def samples(self) -> Iterator[NDArray[Any]]:
        """Yield the voxels of some chunks of all channels, evenly spread, one at a time."""
        counts = [-(-n // c) for n, c in zip(self.shape, self.chunk, strict=True)]
        edge = max(1, round(SAMPLES ** (1 / 3)))
        along = [sorted({i * (count - 1) // max(1, edge - 1) for i in range(edge)}) for count in counts]
        for cell in itertools.product(*along):
            start = [i * c for i, c in zip(cell, self.chunk, strict=True)]
            stop = [min(a + c, n) for a, c, n in zip(start, self.chunk, self.shape, strict=True)]
            (z0, y0, x0), (z1, y1, x1) = start, stop
            yield self.read(z0, z1, y0, y1, x0, x1)


def _row(place: Location) -> tuple[str, int, int]:
    stat = place.stat()
    return (place.url, stat.size, stat.mtime_ns) if stat else (place.url, -1, 0)
