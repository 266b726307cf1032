"""Arrays whose unit is one chunk in a file of its own: all that Zarr 2 and N5 do alike.

A format adds the document, the names of the files, and how a chunk's voxels become bytes. Local arrays are read by tensorstore
where it knows the format's every detail; all others chunk by chunk, each file no further than a chunk of the array can need.
"""

from __future__ import annotations

import json
import math
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np

from wkdask.errors import DamagedError, InputError
from wkdask.formats.chunk_document import parsed
from wkdask.formats.fetching import fetch_whole
from wkdask.formats.shard import NOTHING, PartFile, checksum, read_part
from wkdask.formats.spec import ArraySpec, Written
from wkdask.formats.tensorstore_reader import explained_reading, is_kept, keeping
from wkdask.formats.writing import merge_unit, require_fit
from wkdask.geometry.grid import Box, Index
from wkdask.storage import WORK_FOLDER, Location, Stat, update_document
from wkdask.storage.document import exclusively

Array = np.ndarray[Any, Any]

EDGE_BYTES = 128 << 10
"""A file's digest is of so many bytes at its beginning and as many at its end: of all where it is not longer than both."""

_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class ChunkArray(ABC):
    """An open array of chunks in files of their own; see `wkdask.formats.spec.ArrayHandle`."""

    location: Location
    spec: ArraySpec

    document: ClassVar[str]
    """Name of the file that says what the array is."""
    driver: ClassVar[str]
    """What tensorstore calls the format."""

    @property
    def separator(self) -> str:
        """What stands between the numbers of a chunk's file: ``/`` or ``.``."""
        return "/"

    @property
    def for_tensorstore(self) -> bool:
        """Whether tensorstore knows all that the document says."""
        return True

    @property
    def most_bytes(self) -> int:
        """Bytes that the file of a chunk can have: more than any compressor makes of noise."""
        return 2 * math.prod(self.spec.chunk) * self.spec.itemsize + 65536

    @abstractmethod
    def decode(self, data: bytes) -> Array:
        """Return the voxels of a chunk, in stored axes, as its file's bytes have them; DamagedError where they do not.

        A file may have but the first corner of its chunk; the rest is 0.
        """

    @abstractmethod
    def encode(self, voxels: Array) -> bytes | memoryview:
        """Return the bytes of a chunk's file, given the voxels of `extent`."""

    @abstractmethod
    def resized(self, document: dict[str, Any], shape: Index) -> dict[str, Any]:
        """Return the array's document with another shape."""

    @abstractmethod
    def check_read(self, box: Box) -> None:
        """Raise DamagedError where reading a box by tensorstore might take memory without limit."""

    def extent(self, index: Sequence[int]) -> Box:
        """Return the voxels that the file of a unit holds."""
        return self.spec.grid.unit_box(index)

    @property
    def scratch(self) -> Location:
        """Where unfinished files of single writes lie: the dataset's own work folder."""
        return self.location.parent.parent / WORK_FOLDER / "tmp"

    def with_axes(self, axes: tuple[str, ...]) -> Self:
        """Return the array with other names for its axes."""
        return replace(self, spec=replace(self.spec, axes=axes))

    def unit_location(self, index: Sequence[int]) -> Location:
        """Return the file of a unit."""
        return self.location / self.separator.join(map(str, index))

    def unit_of(self, path: str) -> Index | None:
        """Return the unit that a path below the array is the file of; None where it is of none."""
        numbers = path.split(self.separator)
        fits = len(numbers) == len(self.spec.shape) and all(map(_NUMBER.fullmatch, numbers))
        return tuple(map(int, numbers)) if fits else None

    def written_units(self) -> Iterator[Index]:
        """Yield the grid coordinates of the units that are stored."""
        axes = len(self.spec.shape)

        def walk(folder: Location, head: Index) -> Iterator[Index]:
            for name in sorted(filter(_NUMBER.fullmatch, folder.names()), key=int):
                found = (*head, int(name))
                if len(found) == axes:
                    yield found
                else:
                    yield from walk(folder / name, found)

        if self.separator == "/":
            yield from walk(self.location, ())
        else:
            yield from sorted(filter(None, map(self.unit_of, self.location.names())))

    def read(self, box: Box, *, keep: bool = True) -> Array:
        """Read a box that lies within the array, in stored axes, Fortran-ordered.

        ``keep`` says that its chunks may soon be wanted again, so that some memory is well spent on them.

        Raises
        ------
        DamagedError
            Where the file of a chunk does not decode, or holds more than a chunk; the file is named.
        """
        plain = os.sep == "\\" or "\\" not in self.location.url  # which tensorstore takes for a slash
        if box.size and plain and self.location.is_local and self.for_tensorstore:
            try:
                self.check_read(box)
                return self._read_fast(box, keep=keep)
            except DamagedError:  # the reader below tells exactly what is wrong, and knows rare kinds of chunks
                pass
        out = np.full(box.shape, self.spec.fill, self.spec.dtype, order="F")
        fetch_whole(
            (self.unit_location(index), self.most_bytes, partial(self._place, index, box, out))
            for index in self.spec.grid.units(box).cells_of()
        )
        return out

    def _place(self, index: Index, box: Box, out: Array, data: bytes) -> None:
        """Decode a chunk, and put what a box has of it into an array."""
        voxels = self._decoded(self.unit_location(index), data)
        start = self.spec.grid.unit_box(index).start
        hit = Box(start, tuple(a + n for a, n in zip(start, voxels.shape, strict=True))).intersect(box)
        out[hit.relative_to(box.start).slices] = voxels[hit.relative_to(start).slices]

    def _read_fast(self, box: Box, *, keep: bool) -> Array:
        keep = keep and is_kept(box, self.spec)
        with explained_reading(self.location):
            store = _opened(self.location, self.driver, (self.location / self.document).stat(), keep)
            return np.asarray(store[box.slices].read(order="F").result())

    def decoded(self, index: Sequence[int]) -> Array | None:
        """Return the voxels of a chunk, in stored axes, as `decode` does; None where it is not stored."""
        found: list[Array] = []
        place = self.unit_location(index)
        fetch_whole([(place, self.most_bytes, lambda data: found.append(self._decoded(place, data)))])
        return found[0] if found else None

    def _decoded(self, place: Location, data: bytes) -> Array:
        try:
            return self.decode(data)
        except DamagedError as error:
            raise DamagedError(f"{place} is damaged: {error}. Write it again, or restore it.") from None

    def write(self, box: Box, block: Array) -> None:
        """Write any box; voxels beside it are kept.

        Writers of one unit take turns, as far as the store allows, so that neighbours lose nothing.
        """
        require_fit(block, box, self.spec.dtype)
        for index in self.spec.grid.units(box).cells_of():
            with exclusively(self.scratch, self.unit_location(index).url):
                merge_unit(self, index, box, block, _Stored(self, index))

    def unit(self, index: Sequence[int], scratch: Location | None = None) -> ChunkWriter:
        """Return the writer of a whole unit; its bytes lie in ``scratch`` until they are complete."""
        return ChunkWriter(self, index, self.unit_location(index), scratch)

    def part(self, index: Sequence[int], place: Location, scratch: Location | None = None) -> ChunkWriter:
        """Return the writer of a part of a unit, into a file of its own: of its one chunk, or of nothing."""
        return ChunkWriter(self, index, place, scratch, part=True)

    def join(self, index: Sequence[int], parts: Sequence[Location], scratch: Location | None = None) -> Written:
        """Make a unit of its parts, none of which is decoded; one at most holds the unit's chunk."""
        found = [(part, entries[0].tolist()) for part in parts for entries, _ in [read_part(part)] if len(entries)]
        if len(found) > 1:
            raise InputError(f"{len(found)} parts hold the one chunk of unit {tuple(index)}. Write it to one part only.")
        with self.unit(index, scratch) as out:
            for part, (_, offset, size) in found:
                out.put_encoded(index, part.read_bytes(offset, offset + size))
        return out.written

    def inspect(self, index: Sequence[int]) -> Written | None:
        """Return what a unit's file says of itself; None where there is none.

        The digest is the CRC-32C of the first and the last 128 KiB: of all bytes where there are not more.
        """
        place = self.unit_location(index)
        stat = place.stat()
        if stat is None:
            return None
        if stat.size <= 2 * EDGE_BYTES:
            data = place.read_bytes()
        else:
            data = place.read_bytes(0, EDGE_BYTES) + place.read_bytes(stat.size - EDGE_BYTES, stat.size)
        return Written(stat.size, stat.stamp, digest(data), 1)

    @property
    def has_whole_files(self) -> bool:
        """Whether a unit's file is one chunk, and nothing is looked up in it."""
        return True

    @property
    def inspects_ends(self) -> bool:
        """Whether `inspect` reads no more of a file than its ends."""
        return True

    def whole_file(self, index: Sequence[int], data: bytes) -> tuple[bytes, int]:  # noqa: ARG002
        """Return all bytes of a unit's file, and the digest that `inspect` finds, given these bytes as a store has them."""
        return data, digest(data if len(data) <= 2 * EDGE_BYTES else data[:EDGE_BYTES] + data[-EDGE_BYTES:])

    def resize(self, shape: Index) -> None:
        """Give the array another shape; chunks stay where they are."""
        document = self.location / self.document

        def changed(old: bytes | None) -> bytes:
            if len(shape) != len(self.spec.shape):
                raise InputError(f"{self.location} has {len(self.spec.shape)} axes, {shape} has not. Give one number each.")
            found = parsed(old or b"", str(document), lambda found: self.resized(found, tuple(shape)))
            return json.dumps(found, indent=4).encode()

        if tuple(shape) != self.spec.shape:
            update_document(document, changed, self.scratch)


@lru_cache(maxsize=256)
def _opened(location: Location, driver: str, changed: Stat | None, keep: bool) -> Any:  # noqa: ARG001 - changed: open it anew
    import tensorstore

    spec = {"driver": driver, "kvstore": {"driver": "file", "path": location.url + "/"}}
    context = keeping() if keep else None
    return tensorstore.open(spec, open=True, read=True, write=False, context=context).result()


@dataclass(frozen=True, slots=True)
class _Stored:
    """See `wkdask.formats.writing.StoredUnit`."""

    array: ChunkArray
    index: Index

    def cells(self) -> Iterable[Index]:
        return (self.index,)

    def encoded(self, cell: Index) -> bytes | None:
        return self.array.unit_location(cell).read_if_there()

    def decoded(self, cell: Index) -> Array:
        found, spec = self.array.decoded(cell), self.array.spec
        if found is not None and found.shape == spec.chunk:
            return found
        whole = np.full(spec.chunk, spec.fill, spec.dtype)
        if found is not None:
            whole[tuple(map(slice, found.shape))] = found
        return whole


class ChunkWriter:
    """The writer of one unit, or of a part of one; see `wkdask.formats.spec.UnitWriter`.

    A chunk that is the fill value throughout is not stored; a unit without its chunk leaves no file, and removes the one that
    was there.
    """

    def __init__(
        self, array: ChunkArray, index: Sequence[int], place: Location, scratch: Location | None, *, part: bool = False
    ) -> None:
        self._array, self._index, self._place, self._scratch, self._part = array, tuple(index), place, scratch, part
        self._data: bytes | memoryview | None = None
        self.written = NOTHING

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            return
        if self._part:
            self._publish_part()
        elif self._data is not None:
            with self._place.writer(self._scratch) as out:
                out.write(self._data)
                stat = out.publish()
            self.written = Written(stat.size, stat.stamp, digest(self._data), 1)
        elif self._place.is_file():
            self._place.delete()

    def _publish_part(self) -> None:
        with self._place.writer(self._scratch) as out:
            file = PartFile(out)
            if self._data is not None:
                file.append(0, self._data)
            self.written = file.publish()

    def put(self, region: Box, block: Array) -> None:
        """Encode the chunk.

        Parameters
        ----------
        region
            Voxels of the array, all in this unit. What it lacks of the chunk is filled up, so it must be all that is written.
        block
            Its voxels, in stored axes.
        """
        spec = self._array.spec
        require_fit(block, region, spec.dtype)
        if not region.size:
            return
        whole = self._array.extent(self._index)
        if region.intersect(whole) != region:
            raise InputError(f"Voxels {region} are not all of unit {self._index}, which is {whole}. Give each unit its own.")
        voxels = block
        if region != whole:
            voxels = np.full(whole.shape, spec.fill, spec.dtype, order="F")
            voxels[region.relative_to(whole.start).slices] = block
        self._data = None if _is_throughout(voxels, spec.fill) else self._array.encode(voxels)

    def put_encoded(self, chunk: Sequence[int], data: bytes | memoryview) -> None:
        """Take the chunk as it lies on disk."""
        if tuple(chunk) != self._index:
            raise InputError(f"Chunk {tuple(chunk)} is not of unit {self._index}. Give each unit its own chunk.")
        self._data = data


def check_blosc(array: ChunkArray, box: Box, head: int) -> None:
    """Raise DamagedError where a chunk in blosc, which follows ``head`` bytes, says that it is larger than the array's are.

    Of all compressors this is the one whose word tensorstore takes.
    """
    most = math.prod(array.spec.chunk) * array.spec.itemsize
    for index in array.spec.grid.units(box).cells_of():
        place = array.unit_location(index)
        try:
            with open(place.url, "rb") as file:
                said = file.read(head + 8)[head + 4 :]
        except OSError:  # no such chunk; what else it may be, the read tells
            continue
        if int.from_bytes(said, "little") > most:
            raise DamagedError(f"{place} is damaged: it declares more than the {most} bytes of a chunk. Write it again.")


def check_gzip(array: ChunkArray, box: Box) -> None:
    """Raise DamagedError where a chunk in gzip does not end with the bytes of a chunk, as whole ones do behind their checksum.

    tensorstore takes what is cut off there, so that the checksum is not looked at.
    """
    size = math.prod(array.spec.chunk) * array.spec.itemsize
    for index in array.spec.grid.units(box).cells_of():
        place = array.unit_location(index)
        try:
            with open(place.url, "rb", buffering=0) as file:
                file.seek(-4, os.SEEK_END)
                said = int.from_bytes(file.read(4), "little")
        except OSError:  # no such chunk, or one that is too short; the read tells
            continue
        if said != size % 2**32:
            raise DamagedError(f"{place} is damaged: gzip data is cut off. Write it again.")


def digest(data: bytes | memoryview) -> int:
    """Return the checksum of what a file begins and ends with; see `ChunkArray.inspect`."""
    return checksum(data if len(data) <= 2 * EDGE_BYTES else bytes(data[:EDGE_BYTES]) + bytes(data[-EDGE_BYTES:]))


def _is_throughout(voxels: Array, value: float) -> bool:
    """Whether every voxel is a value, bit by bit: -0.0 is not 0."""
    bits = f"u{voxels.dtype.itemsize}"
    one = np.array(value, voxels.dtype).view(bits)
    found = voxels.view(bits)
    return bool(found.flat[0] == one and (found == one).all())
