"""Planes of image files, one behind the other: a value that is read by windows."""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

from wkdask.errors import CorruptImageError, InputError, StorageError
from wkdask.images.byte_source import ByteSource, opened, status
from wkdask.images.numbering import (
    Packed,
    packed_names,
    packed_numbers,
    packed_plan,
    unpacked_names,
    unpacked_numbers,
    unpacked_plan,
)
from wkdask.images.picture import Form, Picture, parsed
from wkdask.images.places import FilePath, each, in_archive, joined, name_of, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

Window = tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Part:
    """Which channels and time points of its files a stack shows.

    Attributes
    ----------
    first_channel, channels
        Channels are counted through the samples of a plane, then through the planes.
    first_time, times
        Time points.
    """

    first_channel: int = 0
    channels: int = 1
    first_time: int = 0
    times: int = 1


def shown_times(path: FilePath, times: int, timepoint: int | None) -> Part:
    """Return the part that shows the chosen time point, or all of them; an InputError where there is no such one."""
    if timepoint is None:
        return Part(times=times)
    if not 0 <= timepoint < times:
        raise InputError(f"'{path}' has no time point {timepoint}; it has {times}, counted from 0. Choose one of those.")
    return Part(first_time=timepoint)


@dataclass(frozen=True, slots=True)
class Decoding:
    """What is decoded together: the distinct numbers of rows and of columns of the files, and memory for one plane."""

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    plane_bytes: int = 0


@dataclass(frozen=True)
class ImageStack:
    """Planes of one shape, dtype and number of channels, one behind the other; array order is (z, y, x, c).

    A stack is a value: names and numbers, without open files. It pickles, and is read from several threads at once.

    Attributes
    ----------
    folder
        Where the files lie: a path, a zip file's path with ``!`` where they are its members, or a place on a store.
    files
        Paths in `folder`, in the order of z.
    plan
        Which files follow each other along z, by their index, or -1 for a file that is missing and stands as zeros.
    depths
        How many planes along z each file has; one number where all have the same.
    form
        Height, width, samples and dtype of each plane in the files.
    dims
        Names and extents of the axes around the planes, in the order of the files' pages; 0 stands for z, whose extent is
        each file's depth.
    decoding
        What is decoded together.
    part
        Which channels and time points of the files are shown.
    missing
        How gaps in the numbering are filled: "zeros", "repeat", "close" or None.
    notes
        What a user should know: gaps that were filled, palettes that were ignored.

    Examples
    --------
    >>> from wkdask.images import find_images
    >>> stack = find_images("em/", missing="zeros")
    >>> stack.read(0, 16, 0, 48).shape
    (16, 48, 64, 1)
    """

    folder: FilePath
    files: tuple[str, ...]
    plan: tuple[int, ...] | range
    depths: tuple[int, ...]
    form: Form
    dims: tuple[tuple[str, int], ...]
    decoding: Decoding
    part: Part = Part()
    missing: str | None = None
    notes: tuple[str, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle names and plan as runs: a few hundred bytes for most stacks of any length."""
        rest = tuple(getattr(self, field.name) for field in fields(self)[4:])
        return _unpickled, (self.folder, packed_names(self.files), packed_plan(self.plan), packed_numbers(self.depths), rest)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Extent (z, y, x) in voxels."""
        return self._starts[-1], self.form.height, self.form.width

    @property
    def times(self) -> int:
        """Time points; 1 where the images have no axis of time."""
        return self.part.times

    @property
    def channels(self) -> int:
        """Channels of a voxel: 1, or 3 for red, green and blue."""
        return self.part.channels

    @property
    def dtype(self) -> str:
        """Numpy's name of the voxel type, in native byte order."""
        return self.form.dtype

    @property
    def colour(self) -> str:
        """What the channels are: "rgb" where there are three, else "grey"."""
        return "rgb" if self.channels == 3 else "grey"

    @property
    def bytes(self) -> int:
        """Size of all voxels of all time points, decoded."""
        import numpy as np

        return math.prod(self.shape) * self.times * self.channels * np.dtype(self.dtype).itemsize

    @property
    def multipage(self) -> bool:
        """Whether the stack is one file of several planes."""
        return len(self.files) == 1 and self.shape[0] > 1

    @property
    def decoded_bytes(self) -> int:
        """Memory that decoding takes besides the result, where the rows of a plane can not be decoded alone; else 0."""
        return self.decoding.plane_bytes

    @property
    def rows_alone(self) -> bool:
        """Whether some rows of a plane can be read without decoding all of it."""
        return all(step < self.form.height for step in self.decoding.rows) or self.form.height == 1

    @property
    def columns_alone(self) -> bool:
        """Whether some columns can be read without decoding whole rows: the planes are tiled."""
        return all(step < self.form.width for step in self.decoding.columns)

    @property
    def depth_step(self) -> int:
        """Planes that are decoded together: each alone."""
        return 1

    @property
    def row_step(self) -> int:
        """Rows that are decoded together; bands aligned to it cost nothing extra."""
        return min(math.lcm(*self.decoding.rows), self.form.height)

    @property
    def column_step(self) -> int:
        """Columns that are decoded together."""
        return min(math.lcm(*self.decoding.columns), self.form.width)

    def decodes(self, band_rows: int) -> float:
        """Say how often the bytes of a page are decoded when it is read in bands.

        Parameters
        ----------
        band_rows
            Rows of a band; the first band begins at row 0.

        Returns
        -------
        float
            1.0 where bands are aligned to strips or tiles, up to the number of bands.

        Examples
        --------
        >>> pages = Decoding(rows=(64,), columns=(10,))
        >>> stack = ImageStack(".", ("a.tif",), range(1), (9,), Form(100, 10, 1, "uint8"), (("z", 0),), pages)
        >>> stack.decodes(64), stack.decodes(32), stack.decodes(100)
        (1.0, 2.0, 1.0)
        """
        height = self.form.height
        most = 1.0
        for step in self.decoding.rows:
            touched = sum(-(-min(y + band_rows, height) // step) - y // step for y in range(0, height, max(1, band_rows)))
            if step > 1:
                most = max(most, touched / -(-height // step))
        return most

    def identity(self) -> list[tuple[str, int, int]]:
        """Return (name, size, mtime in ns) of each file as it is now, to notice a change of the input.

        Raises
        ------
        StorageError
            If a file is gone.
        """
        return each(self.folder, self._row, self.files)

    def _row(self, name: str) -> tuple[str, int, int]:
        path = joined(self.folder, name)
        try:
            now = status(path)
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            raise StorageError(f"'{path}' can not be read: {error}. Put the file back, then run again.") from error
        return name, now.st_size, now.st_mtime_ns

    def read(self, z0: int, z1: int, y0: int, y1: int, *x: int, t: int = 0, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Read the rows ``y0 <= y < y1`` and columns ``x0 <= x < x1`` of the planes ``z0 <= z < z1``.

        Only these rows and columns are decoded, as far as the files allow, and no page twice.

        Parameters
        ----------
        z0, z1, y0, y1
            In voxels of the stack, from 0; nothing may lie outside.
        *x
            x0 and x1, likewise; without them all columns.
        t
            Which time point.
        out
            Where to put the voxels: C-ordered, of the shape and dtype below. Filling one buffer again and again is faster
            than new memory for every read.

        Returns
        -------
        numpy.ndarray
            C-ordered, native byte order, shape (z1 - z0, y1 - y0, x1 - x0, channels).

        Raises
        ------
        InputError
            If the range leaves the stack.
        CorruptImageError
            If a file's data can not be decoded, or the file was changed since the stack was found.
        StorageError
            If a file is gone, or the disk fails.
        """
        import numpy as np

        x0, x1 = self._columns(x)
        depth, height, width = self.shape
        inside = 0 <= z0 <= z1 <= depth and 0 <= y0 <= y1 <= height and 0 <= x0 <= x1 <= width and 0 <= t < self.times
        if not inside:
            raise InputError(
                f"z {z0} to {z1}, y {y0} to {y1}, x {x0} to {x1}, t {t} leaves the image stack of {depth} planes of {height} "
                f"rows and {width} columns at {self.times} time points. Ask for less."
            )
        shape = (z1 - z0, y1 - y0, x1 - x0, self.channels)
        out = np.empty(shape, self.dtype) if out is None else out
        if out.shape != shape or out.dtype != self.dtype or not out.flags.c_contiguous or not out.flags.writeable:
            raise InputError(
                f"out is {out.dtype} {out.shape}; a writable C-ordered array {self.dtype} {shape} was expected. Give one."
            )
        if out.size:
            for file, planes in self._by_file(z0, z1):
                if file < 0:
                    out[planes[0]] = 0
                else:
                    self._read_file(file, planes, self.part.first_time + t, ((y0, y1), (x0, x1)), out)
        return out

    def _columns(self, x: tuple[int, ...]) -> tuple[int, int]:
        if len(x) not in (0, 2):
            raise InputError(f"read was given {len(x)} limits along x; x0 and x1 were expected, or none. Give both.")
        return (x[0], x[1]) if x else (0, self.form.width)

    @cached_property
    def order_digest(self) -> str:
        """A digest of which files follow each other along z, and how deep they are."""
        plan, depths = packed_plan(self.plan), packed_plan(self.depths)
        return hashlib.sha256(repr((plan, depths)).encode()).hexdigest()[:16]

    @property
    def paths(self) -> Iterator[str]:
        """Paths of the files; for members of a zip file, that of the file."""
        if in_archive(self.folder):
            return iter([shown(self.folder)])
        return (str(joined(self.folder, name)) for name in self.files)

    @property
    def label(self) -> str:
        """What people call it: its file, or its folder."""
        return self.files[0] if len(self.files) == 1 else name_of(self.folder)

    def stamp(self, z: int) -> tuple[str, int, int, int]:
        """Return path, size and time of the file that a slice is in, and which of its planes it is; "" for a missing one."""
        place = bisect_right(self._starts, z) - 1
        file = self.plan[place]
        if file < 0:
            return "", 0, 0, 0
        path = joined(self.folder, self.files[file])
        found = status(path)
        return str(path), found.st_size, found.st_mtime_ns, z - self._starts[place]

    @cached_property
    def _starts(self) -> Sequence[int]:
        """The z at which each file of the plan begins, and the z at which the last one ends."""
        if len(self.depths) == 1:
            return range(0, len(self.plan) * self.depths[0] + 1, self.depths[0])
        starts, depth = [0], 0
        for file in self.plan:
            depth = self._depth(file) if file >= 0 else depth
            starts.append(starts[-1] + depth)
        return starts

    def _depth(self, file: int) -> int:
        return self.depths[file if len(self.depths) > 1 else 0]

    def _by_file(self, z0: int, z1: int) -> Iterator[tuple[int, dict[int, list[int]]]]:
        """Yield (index of a file, or -1; z in the file -> planes of the result that show it), each file once."""
        starts = self._starts
        place, before, planes = bisect_right(starts, z0) - 1, -2, dict[int, list[int]]()
        for z in range(z0, z1):
            if z >= starts[place + 1]:
                place += 1
            file = self.plan[place]
            if file != before and planes:
                yield before, planes
                planes = {}
            before = file
            planes.setdefault(z - starts[place] if file >= 0 else 0, []).append(z - z0)
        if planes:
            yield before, planes

    def _read_file(self, file: int, planes: dict[int, list[int]], t: int, window: Window, out: NDArray[Any]) -> None:
        path = joined(self.folder, self.files[file])
        try:
            with opened(path, ahead=0 if window[0][0] else out[0].nbytes * (1 + max(planes))) as source:
                picture = parsed(path, source)
                self._refuse_changed(path, picture, self._depth(file))
                for z, (first, *copies) in planes.items():
                    self._read_plane(picture, source, (t, z), window, out[first])
                    for copy in copies:
                        out[copy] = out[first]
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            raise StorageError(f"'{path}' can not be read: {error}. Put the file back, then run again.") from error

    def _refuse_changed(self, path: FilePath, picture: Picture, depth: int) -> None:
        dims = tuple((name, extent or depth) for name, extent in self.dims if (extent or depth) > 1)
        if picture.form != self.form or picture.dims != dims:
            expected = math.prod(extent for _, extent in dims)
            raise CorruptImageError(
                f"'{path}' was changed: it has {picture.pages} pages of {picture.form}, expected {expected} of {self.form}. "
                "Look for the images anew."
            )

    def _read_plane(self, picture: Picture, source: ByteSource, at: tuple[int, int], window: Window, out: NDArray[Any]) -> None:
        """Fill ``out[y, x, c]`` with the channels of the part, out of as many pages as hold them."""
        import numpy as np

        samples, first, end = self.form.channels, self.part.first_channel, self.part.first_channel + self.channels
        for c in range(first // samples, -(-end // samples)):
            place = {"t": at[0], "z": at[1], "c": c}
            page = 0
            for name, extent in picture.dims:
                page = page * extent + place[name]
            if (first, end) == (c * samples, (c + 1) * samples):
                picture.read(source, page, *window, out)
                return
            whole = np.empty((*out.shape[:2], samples), out.dtype)
            picture.read(source, page, *window, whole)
            start, stop = max(first, c * samples), min(end, (c + 1) * samples)
            out[..., start - first : stop - first] = whole[..., start - c * samples : stop - c * samples]


def _unpickled(folder: FilePath, names: Packed, plan: bytes | range, depths: bytes, rest: tuple[Any, ...]) -> ImageStack:
    return ImageStack(folder, unpacked_names(names), unpacked_plan(plan), unpacked_numbers(depths), *rest)
