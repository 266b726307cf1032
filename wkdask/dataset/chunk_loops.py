"""Going through a view by chunks, on any scheduler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from wkdask.clusters.batches import CallFailedError, call_or_tell, in_order
from wkdask.dataset.arguments import shape_of
from wkdask.dataset.voxels import Voxels
from wkdask.errors import InputError, PlanError
from wkdask.geometry import BoundingBox, Vec3IntLike
from wkdask.geometry.grid import Box, Tiling

if TYPE_CHECKING:
    from wkdask.dataset.view import View

Result = TypeVar("Result")
Shape = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Chunks:
    """The chunks of a view, known by arithmetic: however many there are, it takes no room.

    Parameters
    ----------
    view
        What is cut.
    tiles
        Their boxes in mag-1 voxels, from the anchor.
    anchor
        Where the first chunk would begin, were it whole; in mag-1 voxels.
    read_only
        Whether the chunks are.
    """

    view: Voxels
    tiles: Tiling
    anchor: Shape
    read_only: bool

    @classmethod
    def of(cls, view: Voxels, shape: Shape, alignment: Shape | None, read_only: bool) -> Chunks:
        """Cut a view; chunks begin at its corner, or at the multiple of the alignment that lies before."""
        box = view._spatial_box()
        start = box.topleft.to_tuple()
        anchor = start if alignment is None else tuple(a // n * n for a, n in zip(start, alignment, strict=True))
        whole = Box(start, box.bottomright.to_tuple())
        return cls(view, Tiling(whole.relative_to(anchor), shape), cast("Shape", anchor), read_only)

    def __len__(self) -> int:
        return len(self.tiles)

    @property
    def counts(self) -> tuple[int, ...]:
        """Chunks along x, y and z."""
        return self.tiles.cells.shape if len(self) else (0, 0, 0)

    def __getitem__(self, number: int) -> View:
        box = self.tiles.box(number).shifted(self.anchor)
        return self.view._within(BoundingBox(box.start, box.shape), self.read_only)


@dataclass(frozen=True, slots=True)
class Loop:
    """Calls a function for a range of chunks: all that a worker must unpickle.

    Parameters
    ----------
    function
        Of the user.
    chunks
        What it is called with; several, where it takes a chunk of each.
    numbered
        Whether it is called with a tuple of the chunks and their number, instead of the chunk alone.
    """

    function: Callable[[Any], Any]
    chunks: tuple[Chunks, ...]
    numbered: bool

    def __call__(self, numbers: range) -> list[Any]:
        """Return what the function returns for each number."""
        for chunks in self.chunks:
            _ = chunks.view.array  # opened once, for all chunks
        found = []
        for number in numbers:
            views = tuple(chunks[number] for chunks in self.chunks)
            argument = (*views, number) if self.numbered else views[0]
            found.append(call_or_tell(self.function, argument, f"chunk {number}, {views[0]!r}"))
        return found

    def run(self, executor: Any, name: str | None) -> Iterator[Any]:
        """Yield the results, in the order of the chunks."""
        try:
            for found in in_order(self, len(self.chunks[0]), executor, name or "chunks"):
                yield from found
        except CallFailedError as error:
            raise PlanError(
                f"{getattr(self.function, '__name__', self.function)} failed for {error.where}: "
                f"{type(error.error).__name__}: {error.error}. Mend it, then run the loop again."
            ) from error.error


class ChunkVerbs(Voxels):
    """The verbs of a view that go through it by chunks; a part of `wkdask.View`."""

    def chunk(
        self,
        chunk_shape: Vec3IntLike | int | None = None,
        chunk_border_alignments: Vec3IntLike | int | None = None,
        read_only: bool = False,
    ) -> Iterator[View]:
        """Yield views that tile this one, x slowest.

        Parameters
        ----------
        chunk_shape
            In mag-1 voxels, whole voxels of this mag; default: a shard, or for reading only a chunk of the disk.
        chunk_border_alignments
            In mag-1 voxels: the first chunk begins at the multiple of it that lies before the view. Default: chunks begin
            at the view's corner.
        read_only
            Whether the chunks are for reading only.

        Raises
        ------
        InputError
            Where the shape is not one of whole voxels, or not a multiple of the alignments.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> mag = Dataset.open("brain").get_layer("color").get_mag(1)
        >>> [chunk.bounding_box.topleft.x for chunk in mag.chunk((32, 64, 32), read_only=True)]
        [0, 32]
        """
        read_only = read_only or self._read_only
        shape = shape_of(chunk_shape) or self._piece(read_only)
        alignment = shape_of(chunk_border_alignments)
        for n, m, a in zip(shape, self._mag.to_tuple(), alignment or self._mag.to_tuple(), strict=True):
            if n < 1 or n % m or a < 1 or a % m or (alignment and n % a):
                raise InputError(
                    f"Chunks of {shape}, aligned to {alignment or 'the view'}, are not possible in mag {self.name}. Give "
                    f"multiples of the mag, and a shape that is a multiple of the alignments."
                )
        chunks = Chunks.of(self, shape, alignment, read_only)
        return (chunks[number] for number in range(len(chunks)))

    def for_each_chunk(
        self,
        func_per_chunk: Callable[[tuple[View, int]], Any],
        chunk_shape: Vec3IntLike | int | None = None,
        executor: Any = None,
        *,
        progress_desc: str | None = None,
    ) -> None:
        """Call a function with each chunk and its number; chunks lie on multiples of their shape.

        Each chunk may be written: neighbours that share a file wait for each other, and lose nothing.

        Parameters
        ----------
        func_per_chunk
            Called with ``(view, number)``.
        chunk_shape
            In mag-1 voxels, a multiple of mag times shard, or of mag times chunk where this view is read-only; default
            just that.
        executor
            None: dask's scheduler of the moment, which is threads of this process unless a client was made or another one
            set. A `distributed.Client`; the name of a scheduler of dask; or anything with ``submit``, which gets batches.
        progress_desc
            What dashboards call the tasks.

        Raises
        ------
        InputError
            Where the shape or the executor does not fit.
        PlanError
            Where the function fails, with the chunk's box, and with the function's own error as cause. Chunks that did not
            begin are left out.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> mag = Dataset.open("brain").get_layer("color").get_mag(1)
        >>> def invert(chunk):
        ...     view, number = chunk
        ...     view.write(255 - view.read())
        >>> mag.for_each_chunk(invert)
        """
        loop = Loop(func_per_chunk, (self._chunks(shape_of(chunk_shape), self._read_only),), numbered=True)
        for _ in loop.run(executor, progress_desc):
            pass

    def map_chunk(
        self,
        func_per_chunk: Callable[[View], Result],
        chunk_shape: Vec3IntLike | int | None = None,
        executor: Any = None,
        *,
        progress_desc: str | None = None,
    ) -> list[Result]:
        """Call a function with each chunk, and return its results in the order of the chunks, x slowest.

        Parameters
        ----------
        func_per_chunk
            Called with a view.
        chunk_shape, executor, progress_desc
            As in `for_each_chunk`.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> mag = Dataset.open("brain").get_layer("color").get_mag(1).get_view(read_only=True)
        >>> mag.map_chunk(lambda chunk: int(chunk.read().max()), (32, 32, 32))
        [81, 97, 113, 129]
        """
        loop = Loop(func_per_chunk, (self._chunks(shape_of(chunk_shape), self._read_only),), numbered=False)
        return list(loop.run(executor, progress_desc))

    def for_zipped_chunks(
        self,
        func_per_chunk: Callable[[tuple[View, View, int]], Any],
        target_view: View,
        source_chunk_shape: Vec3IntLike | int | None = None,
        target_chunk_shape: Vec3IntLike | int | None = None,
        executor: Any = None,
        *,
        progress_desc: str | None = None,
    ) -> None:
        """Call a function with each chunk of this view, for reading, and the chunk of another view that belongs to it.

        Parameters
        ----------
        func_per_chunk
            Called with ``(source, target, number)``.
        target_view
            The other view; it may be of another mag, layer or dataset.
        source_chunk_shape
            In mag-1 voxels, a multiple of this mag times its chunk; default: as the target's.
        target_chunk_shape
            In mag-1 voxels, a multiple of the target's mag times its shard; default just that.
        executor, progress_desc
            As in `for_each_chunk`.

        Raises
        ------
        InputError
            Where the two are not cut into the same number of chunks along each axis.
        """
        target_shape = shape_of(target_chunk_shape)
        target = target_view._chunks(target_shape, target_view._read_only)
        source = self._chunks(shape_of(source_chunk_shape) or target.tiles.shape, True)  # type: ignore[arg-type]
        if source.counts != target.counts:
            raise InputError(
                f"The source {self.bounding_box} has {source.counts} chunks of {source.tiles.shape}, the target "
                f"{target_view.bounding_box} has {target.counts} of {target.tiles.shape}. Give shapes that cut both alike."
            )
        for _ in Loop(func_per_chunk, (source, target), numbered=True).run(executor, progress_desc):
            pass

    def content_is_equal(
        self,
        other: View,
        executor: Any = None,
        chunk_shape: Vec3IntLike | int | None = None,
        *,
        progress_desc: str | None = None,
    ) -> bool:
        """Tell whether two views have the same voxels: shape, dtype and values, wherever they lie. NaN equals NaN.

        Parameters
        ----------
        other
            The other view.
        executor, progress_desc
            As in `for_each_chunk`.
        chunk_shape
            In mag-1 voxels: what is compared at once, a multiple of mag times chunk; default a shard.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> mag = Dataset.open("brain").get_layer("color").get_mag(1)
        >>> mag.content_is_equal(mag), mag.content_is_equal(mag.get_view(relative_offset=(0, 0, 0), size=(8, 8, 8)))
        (True, False)
        """
        mine, others = (view.boxed_array for view in (self, other))
        if (mine.axes, mine.shape, mine.dtype) != (others.axes, others.shape, others.dtype):
            return False
        shape = shape_of(chunk_shape) or self._piece(False)
        chunks = self._chunks(shape, True)
        loop = Loop(_Compare(other, self._spatial_box()), (chunks,), numbered=False)
        try:
            return all(loop.run(executor, progress_desc or "compare"))
        except PlanError as error:
            if isinstance(error.__cause__, _DiffersError):
                return False
            raise

    def _piece(self, read_only: bool) -> Shape:
        """Return what a chunk of a loop must be a multiple of: mag times shard, or where nothing is written times chunk."""
        spec = self.spec
        edges = dict(zip(spec.axes, spec.chunk if read_only else spec.unit, strict=True))
        x, y, z = (edges[axis] * m for axis, m in zip("xyz", self._mag, strict=True))
        return x, y, z

    def _chunks(self, shape: Shape | None, read_only: bool) -> Chunks:
        """Cut the view for a loop: chunks of whole shards or chunks of the disk, on multiples of their shape."""
        piece = self._piece(read_only)
        shape = shape or self._piece(False)
        if any(n < 1 or n % p for n, p in zip(shape, piece, strict=True)):
            what = "chunks, as nothing is written" if read_only else "shards, so that no two chunks write one file"
            raise InputError(
                f"The chunk shape {shape} is no multiple of {piece}, which are the {what}, in mag-1 voxels. Give a multiple."
            )
        return Chunks.of(self, shape, shape, read_only)


class _DiffersError(Exception):
    """Ends a comparison early."""


@dataclass(frozen=True, slots=True)
class _Compare:
    """Compares a chunk of one view with the voxels of another that lie where it lies in its own view."""

    other: Voxels
    within: BoundingBox

    def __call__(self, chunk: View) -> bool:
        mag, other = chunk.mag.to_vec3_int(), self.other._mag.to_vec3_int()
        box = chunk._spatial_box()
        start = (box.topleft - self.within.topleft) // mag * other + self.other._spatial_box().topleft
        voxels = self.other.read(absolute_offset=start, size=box.size // mag * other)
        if not np.array_equal(chunk.read(), voxels, equal_nan=voxels.dtype.kind == "f"):
            raise _DiffersError
        return True
