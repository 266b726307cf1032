"""Writing and reading a view slice by slice, with some slices in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from wkdask.dataset.voxels import Voxels
from wkdask.errors import InputError
from wkdask.geometry import BoundingBox, NDBoundingBox, Vec3Int, Vec3IntLike

if TYPE_CHECKING:
    from wkdask.dataset.view import View

Array = np.ndarray[Any, Any]


def axis_of(dimension: str | int) -> str:
    """Return the axis that slices lie across, which may be given by its number.

    Examples
    --------
    >>> axis_of(2), axis_of("x")
    ('z', 'x')
    """
    named = {0: "x", 1: "y", 2: "z", "x": "x", "y": "y", "z": "z"}
    if isinstance(dimension, bool) or dimension not in named:
        raise InputError(f"There are no slices along {dimension!r}. Use x, y or z.")
    return named[dimension]


class SlicesOf:
    """How the slices of a view lie in its voxels: axes beside x, y, z first, then the plane's two, and the slices' own last.

    Parameters
    ----------
    view
        Of which.
    axis
        The axis that slices lie across.
    """

    def __init__(self, view: View, axis: str) -> None:
        array = view.array
        self.view, self.axis = view, axis
        others = [a for a in array.axes if a not in "xyz"]
        self.plane = [a for a in "xyz" if a != axis]
        self._order = [*others, *self.plane, axis]
        self._axes = array.axes
        self.others = tuple(array.box.shape[array.axes.index(a)] for a in others)
        mag = view.mag.to_vec3_int()
        box = view._spatial_box()
        self.start = dict(zip("xyz", box.topleft // mag, strict=True))
        self.size = dict(zip("xyz", box.size // mag, strict=True))
        self.stop = {a: self.start[a] + self.size[a] for a in "xyz"}

    def depth(self, *, unit: bool) -> int:
        """Return the slices of a shard, or of a chunk of the disk."""
        spec = self.view.spec
        return (spec.unit if unit else spec.chunk)[self._axes.index(self.axis)]

    def write(self, first: int, block: Array) -> None:
        """Write slices from a position on, in voxels of the mag."""
        stored = block.transpose([self._order.index(a) for a in self._axes])
        corner = Vec3Int(self.start[a] if a != self.axis else first for a in "xyz") * self.view.mag.to_vec3_int()
        self.view.write(stored, absolute_offset=corner)

    def read(self, first: int, end: int) -> Array:
        """Read slices between two positions, in voxels of the mag."""
        mag = self.view.mag.to_vec3_int()
        corner = Vec3Int(self.start[a] if a != self.axis else first for a in "xyz")
        size = Vec3Int(self.size[a] if a != self.axis else end - first for a in "xyz")
        stored = self.view.read(absolute_offset=corner * mag, size=size * mag)
        return stored.transpose([self._axes.index(a) for a in self._order])


class BufferedSliceWriter:
    """Takes slices one after another and writes them some at a time; see `View.get_buffered_slice_writer`.

    What was sent is written when the ``with`` block ends, by an error too.

    Parameters
    ----------
    whole
        The view that it is for.
    region
        What of it is written.
    axis
        The axis that slices lie across.
    buffer_size
        Slices at a time; default those of a shard.
    allow_unaligned
        Whether slices may begin, or buffers end, within a shard.
    """

    def __init__(self, whole: Voxels, region: View, axis: str, buffer_size: int | None, allow_unaligned: bool) -> None:
        region.require_writable()
        self._whole, self._axis, self._allow_unaligned = whole, axis, allow_unaligned
        self._room = buffer_size if buffer_size is not None else SlicesOf(region, axis).depth(unit=True)
        if self._room < 1:
            raise InputError(f"A buffer of {self._room} slices holds none. Give 1 or more.")
        self._buffer: Array | None = None
        self._begin(region)

    def _begin(self, region: View) -> None:
        self._slices = SlicesOf(region, self._axis)
        self._first, self._filled, self._plane = self._slices.start[self._axis], 0, (0, 0)
        depth = self._slices.depth(unit=True)
        if not self._allow_unaligned and (self._first % depth or self._room % depth):
            raise InputError(
                f"Slices from {self._axis} = {self._first} on, {self._room} at a time, do not fit the shards, "
                f"which have {depth}: some would be written twice. Use multiples of that, or pass allow_unaligned=True."
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._flush()
        self._buffer = None

    def reset_offset(self, relative_offset: Vec3IntLike | None = None, absolute_offset: Vec3IntLike | None = None) -> None:
        """Write what was sent, and go on elsewhere: in mag-1 voxels, from the view's box or from the dataset's origin."""
        self._flush()
        self._begin(self._whole.get_view(relative_offset=relative_offset, absolute_offset=absolute_offset))

    def send(self, plane: Array) -> None:
        """Take the next slice.

        Parameters
        ----------
        plane
            The two of x, y, z that it has, or all axes but the one across, such as (c, x, y); of the layer's dtype. It may
            be smaller than the box: within the buffer, what it lacks of the largest slice becomes 0.

        Raises
        ------
        InputError
            Where its shape or dtype does not fit, or no slice is left in the box.
        """
        plane = self._checked(np.asarray(plane))
        buffer = self._buffer_for((plane.shape[-2], plane.shape[-1]))
        place = buffer[..., self._filled]
        width, height = plane.shape[-2:]
        place[..., :width, :height] = plane
        place[..., width:, :] = 0
        place[..., :width, height:] = 0
        self._filled += 1
        self._plane = max(self._plane[0], width), max(self._plane[1], height)
        if (self._first + self._filled) % self._room == 0:
            self._flush()

    def _checked(self, plane: Array) -> Array:
        slices = self._slices
        dtype = slices.view.get_dtype()
        if plane.dtype != dtype:
            raise InputError(f"The slice is {plane.dtype}, the layer {dtype}. Convert it with astype first.")
        if plane.ndim == 2 and set(slices.others) <= {1}:
            plane = plane[(None,) * len(slices.others)]
        most = tuple(slices.size[a] for a in slices.plane)
        fits = plane.ndim == len(slices.others) + 2 and plane.shape[:-2] == slices.others
        if not fits or not all(0 < n <= m for n, m in zip(plane.shape[-2:], most, strict=True)):
            raise InputError(
                f"The slice has shape {plane.shape}; expected {' x '.join(slices.plane)} of at most {most}, "
                f"behind the other axes {slices.others}. Cut it, or choose a larger box."
            )
        if self._first + self._filled >= slices.stop[self._axis]:
            raise InputError(
                f"The box has {slices.size[self._axis]} slices along {self._axis}, and all were sent. Send no more."
            )
        return plane

    def _buffer_for(self, plane: tuple[int, int]) -> Array:
        """Return the buffer, large enough for a plane."""
        slices = self._slices
        wanted = tuple(map(max, self._plane, plane))
        if self._buffer is None or any(n > m for n, m in zip(wanted, self._buffer.shape[-3:-1], strict=True)):
            room = min(self._room, slices.size[self._axis])
            grown = np.zeros((*slices.others, *wanted, room), slices.view.get_dtype(), order="F")
            if self._buffer is not None:
                width, height = self._plane
                grown[..., :width, :height, : self._filled] = self._buffer[..., :width, :height, : self._filled]
            self._buffer = grown
        return self._buffer

    def _flush(self) -> None:
        """Write what is in the buffer; where that fails, it is not tried again."""
        if self._buffer is None or not self._filled:
            return
        count, self._filled = self._filled, 0
        width, height = self._plane
        self._plane = 0, 0
        self._slices.write(self._first, self._buffer[..., :width, :height, :count])
        self._first += count


class BufferedSliceReader:
    """Gives slices one after another, read some at a time; see `View.get_buffered_slice_reader`.

    Parameters
    ----------
    region
        What is read.
    axis
        The axis that slices lie across.
    buffer_size
        Slices at a time; default those of a chunk of the disk.
    """

    def __init__(self, region: View, axis: str, buffer_size: int | None) -> None:
        self._slices = SlicesOf(region, axis)
        self._room = buffer_size if buffer_size is not None else self._slices.depth(unit=False)
        if self._room < 1:
            raise InputError(f"A buffer of {self._room} slices holds none. Give 1 or more.")

    def __enter__(self) -> Iterator[Array]:
        return iter(self)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None

    def __iter__(self) -> Iterator[Array]:
        first, stop = (ends[self._slices.axis] for ends in (self._slices.start, self._slices.stop))
        while first < stop:
            end = min(stop, (first // self._room + 1) * self._room)
            block = self._slices.read(first, end)
            for i in range(end - first):
                yield block[..., i]
            first = end


class SliceVerbs(Voxels):
    """The verbs of a view that go through it slice by slice; a part of `wkdask.View`."""

    def get_buffered_slice_writer(
        self,
        buffer_size: int | None = None,
        dimension: str | int = "z",
        *,
        relative_offset: Vec3IntLike | None = None,
        absolute_offset: Vec3IntLike | None = None,
        relative_bounding_box: NDBoundingBox | None = None,
        absolute_bounding_box: NDBoundingBox | None = None,
        allow_unaligned: bool = False,
        use_logging: bool = False,  # noqa: ARG002 - accepted for scripts that give it
    ) -> BufferedSliceWriter:
        """Return a writer that takes slices one after another.

        Parameters
        ----------
        buffer_size
            Slices in memory at a time, of the size of the largest; default those of a shard. Buffers end on multiples of it.
        dimension
            The axis that slices lie across: x, y or z, or its number.
        relative_offset, absolute_offset, relative_bounding_box, absolute_bounding_box
            Where the first slice begins, in mag-1 voxels: one of these. Default: this view's box.
        allow_unaligned
            Whether slices may begin, or buffers end, within a shard. No voxels are lost then, but shards are written again.
        use_logging
            Accepted for scripts that give it.

        Raises
        ------
        InputError
            Where position, dimension or buffer do not fit.
        ReadOnlyError
            Where the view is for reading only.

        Examples
        --------
        >>> import numpy as np
        >>> from wkdask import Dataset
        >>> mag = Dataset.open("brain").get_layer("color").get_mag(1)
        >>> with mag.get_buffered_slice_writer() as writer:
        ...     for z in range(3):
        ...         writer.send(np.full((64, 48), z, "uint8"))
        >>> mag.read()[0, 5, 5, :5].tolist()
        [0, 1, 2, 13, 14]
        """
        target = self.get_view(
            relative_offset=relative_offset,
            absolute_offset=absolute_offset,
            relative_bounding_box=relative_bounding_box,
            absolute_bounding_box=absolute_bounding_box,
        )
        return BufferedSliceWriter(self, target, axis_of(dimension), buffer_size, allow_unaligned)

    def get_buffered_slice_reader(
        self,
        buffer_size: int | None = None,
        dimension: str | int = "z",
        *,
        relative_bounding_box: BoundingBox | None = None,
        absolute_bounding_box: BoundingBox | None = None,
        use_logging: bool = False,  # noqa: ARG002 - accepted for scripts that give it
    ) -> BufferedSliceReader:
        """Return a reader that gives slices one after another, as (c, x, y) for z.

        Parameters
        ----------
        buffer_size
            Slices in memory at a time; default those of a chunk of the disk. Buffers end on multiples of it.
        dimension
            The axis that slices lie across: x, y or z, or its number.
        relative_bounding_box, absolute_bounding_box
            What is read, in mag-1 voxels; default: this view's box.
        use_logging
            Accepted for scripts that give it.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> mag = Dataset.open("brain").get_layer("color").get_mag(1)
        >>> with mag.get_buffered_slice_reader(dimension="x") as slices:
        ...     print([int(plane.max()) for plane in slices][:4])
        [66, 67, 68, 69]
        """
        region = self.get_view(
            relative_bounding_box=relative_bounding_box, absolute_bounding_box=absolute_bounding_box, read_only=True
        )
        return BufferedSliceReader(region, axis_of(dimension), buffer_size)
