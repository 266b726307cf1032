"""Zarr 3 arrays: sharded or not, in the layout that WEBKNOSSOS writes.

Specification: https://zarr-specs.readthedocs.io/en/latest/v3/core/index.html

A unit is a shard, or a chunk where the array has no shards. Local arrays are read by tensorstore, arrays on stores by ranged
reads of our own, codecs that neither knows by zarr-python. Arrays of other layouts than ours are written too, in theirs, if we
have all of their codecs.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from wkdask.errors import DatasetExistsError, DatasetNotFoundError, InputError
from wkdask.formats.chunk_document import read_document
from wkdask.formats.codecs import BLOSC
from wkdask.formats.ranged import has_strange_bytes, read_box, read_chunk, read_units, require_sizes, shard_entries
from wkdask.formats.shard import MISSING, PartFile, ShardFile, ShardIndex, SingleChunk, checksum
from wkdask.formats.spec import ArraySpec, Codec, Written
from wkdask.formats.writing import merge_unit, require_fit
from wkdask.formats.zarr3_codecs import Chain
from wkdask.formats.zarr3_document import DTYPES, Layout, build_document, own_layout, parse_document
from wkdask.formats.zarr3_writer import ChainedUnit, chunk_number, fill_bits
from wkdask.formats.zarr_group import image_attributes, write_group
from wkdask.geometry.grid import Box, Index
from wkdask.metadata import LayerProperties, VoxelSize
from wkdask.storage import WORK_FOLDER, Location, together, update_document
from wkdask.storage.document import exclusively
from wkdask.storage.location import Writer

__all__ = ["DOCUMENT", "DTYPES", "Layout", "Zarr3", "Zarr3Array"]

DOCUMENT = "zarr.json"


class Zarr3:
    """The format: finds, opens and creates arrays."""

    name = "zarr3"
    codecs = ("none", "zstd", "gzip", *(f"blosc-{name}" for name in BLOSC))
    usual_codec = Codec("zstd", 5)
    usual_chunk = (32, 32, 32)
    cubic, sharded, exact, further_axes = False, True, False, True
    documents = frozenset({DOCUMENT})

    def detect(self, location: Location) -> bool:
        """Whether a Zarr 3 array lies here."""
        return (location / DOCUMENT).is_file()

    def open(self, location: Location, end: Sequence[int] | None = None) -> Zarr3Array:  # noqa: ARG002 - zarr.json has the shape
        """Open an array by its ``zarr.json``.

        Raises
        ------
        DatasetNotFoundError
            Where there is none.
        MetadataError
            Where the document is not that of an array that we can read.
        """
        document = location / DOCUMENT
        data = read_document(document)
        if data is None:
            raise DatasetNotFoundError(f"{location} holds no Zarr 3 array: {DOCUMENT} is missing. Check the path.")
        spec, layout = parse_document(data, str(document))
        return Zarr3Array(location, spec, layout)

    def at(self, location: Location, spec: ArraySpec) -> Zarr3Array:
        """Return the handle of an array that is not there yet, in WEBKNOSSOS's layout; nothing is written.

        Raises
        ------
        InputError
            Where Zarr 3 can not store such voxels, or we do not write the codec.
        """
        if spec.dtype not in DTYPES:
            raise InputError(f"{spec.dtype} voxels can not be stored in Zarr 3; use one of {', '.join(sorted(DTYPES))}.")
        if spec.codec and spec.codec.name not in self.codecs:
            raise InputError(f"Zarr 3 has no codec {spec.codec.name}; use one of {', '.join(self.codecs)}.")
        if any(spec.offset):
            raise InputError(f"An array in Zarr 3 begins at the dataset's origin, not at {spec.offset}. Leave out the offset.")
        return Zarr3Array(location, spec, own_layout(spec))

    def create(self, location: Location, spec: ArraySpec) -> Zarr3Array:
        """Create an array without any unit, in WEBKNOSSOS's layout.

        Raises
        ------
        DatasetExistsError
            Where something lies here already.
        """
        array = self.at(location, spec)
        if (location / DOCUMENT).is_file():
            raise DatasetExistsError(f"{location} exists already. Choose another place, or delete it first.")
        (location / DOCUMENT).write_bytes(build_document(spec), array.scratch)
        return array

    def write_groups(self, dataset: Location, layer: LayerProperties, voxel_size: VoxelSize) -> None:
        """Write the groups of dataset and layer, with OME-NGFF metadata of the magnifications in the layer's folder."""
        scratch = dataset / WORK_FOLDER / "tmp"
        image = image_attributes(layer, voxel_size, "0.5")
        groups = {dataset: {}, dataset / layer.name: image}
        together(dataset, [partial(write_group, place / DOCUMENT, said, scratch) for place, said in groups.items()])


@dataclass(frozen=True, slots=True)
class Zarr3Array:
    """An open array; see `wkdask.formats.spec.ArrayHandle`."""

    location: Location
    spec: ArraySpec
    layout: Layout

    def with_axes(self, axes: tuple[str, ...]) -> Zarr3Array:
        """Return the array with other names for its axes."""
        return replace(self, spec=replace(self.spec, axes=axes))

    def unit_location(self, index: Sequence[int]) -> Location:
        """Return the file of a unit."""
        return self.location / (self.layout.prefix + self.layout.separator.join(map(str, index)))

    def read(self, box: Box, *, keep: bool = True) -> np.ndarray[Any, Any]:
        """Read a box that lies within the array, in stored axes, and in memory in the order that it has on disk.

        ``keep`` says that its chunks may soon be wanted again, so that some memory is well spent on them.
        """
        plain = os.sep == "\\" or "\\" not in self.location.url  # which tensorstore takes for a slash
        local = plain and self.location.is_local and self.layout.by_tensorstore
        if local and not (self.layout.chain and has_strange_bytes(self, box)):
            from wkdask.formats.tensorstore_reader import read_local

            if self.layout.chain and self.layout.chain.blosc:
                require_sizes(self, box)
            return read_local(self.location, "zarr3", box, self.spec, keep=keep, order=self.layout.memory_order)
        return read_box(self, box, keep=keep) if self.layout.chain else read_units(self, box)

    def chain(self, verb: str) -> Chain:
        """Return how chunks are encoded.

        Raises
        ------
        InputError
            Where that is not ours to do.
        """
        if not self.layout.chain:
            raise InputError(
                f"{self.location} can not be {verb}: its codecs include {self.layout.foreign}, which wkdask only reads. "
                "Convert it to an array with other codecs."
            )
        return self.layout.chain

    def entries(self, index: Sequence[int], *, known: bool = False) -> np.ndarray[Any, Any] | None:
        """Return (offset, bytes) of each chunk of a unit, in C order; None where the unit is not stored.

        See `wkdask.formats.ranged.shard_entries`.
        """
        chunks = math.prod(self.spec.grid.chunks_per_unit)
        return shard_entries(self.unit_location(index), chunks, self.layout.index, known=known)

    def unit(self, index: Sequence[int], scratch: Location | None = None) -> ChainedUnit:
        """Return the writer of a whole unit; its bytes lie in ``scratch`` until they are complete."""
        chain = self.chain("written")
        file = self._shard_file if self.layout.index else SingleChunk
        return ChainedUnit(self.spec, chain, index, self.unit_location(index), scratch, file)

    def part(self, index: Sequence[int], place: Location, scratch: Location | None = None) -> ChainedUnit:
        """Return the writer of a part of a unit, into a file of its own."""
        return ChainedUnit(self.spec, self.chain("written"), index, place, scratch, PartFile)

    def _shard_file(self, out: Writer) -> ShardFile:
        return ShardFile(out, math.prod(self.spec.grid.chunks_per_unit), self.layout.index or ShardIndex())

    def join(self, index: Sequence[int], parts: Sequence[Location], scratch: Location | None = None) -> Written:
        """Make a unit of its parts, none of which is decoded."""
        place = self.unit_location(index)
        with place.writer(scratch) as out:
            file = self._shard_file(out)
            for part in parts:
                file.append_part(part)
            written = file.publish()
        if not written.size and place.is_file():
            place.delete()
        return written

    def write(self, box: Box, block: np.ndarray[Any, Any]) -> None:
        """Write any box; chunks that it only touches are merged, those that it does not touch are copied encoded.

        Writers of one unit take turns, as far as the store allows, so that neighbours lose nothing.
        """
        self.chain("written")
        require_fit(block, box, self.spec.dtype)
        for index in self.spec.grid.units(box).cells_of():
            with exclusively(self.scratch, self.unit_location(index).url):
                merge_unit(self, index, box, block, _Stored(self, index, self.entries(index)))

    def resize(self, shape: Index) -> None:
        """Give the array another shape; chunks stay where they are."""
        document = self.location / DOCUMENT

        def resized(old: bytes | None) -> bytes:
            found, _ = parse_document(old or b"", str(document))
            if len(found.shape) != len(shape):
                raise InputError(f"{self.location} has {len(found.shape)} axes, {tuple(shape)} has not. Give one number each.")
            return json.dumps({**json.loads(old or b""), "shape": list(shape)}, indent=4).encode()

        if tuple(shape) != self.spec.shape:
            update_document(document, resized, self.scratch)

    def inspect(self, index: Sequence[int]) -> Written | None:
        """Return what a unit's file says of itself; None where there is none.

        Raises
        ------
        DamagedError
            Where its index is not sound.
        """
        place = self.unit_location(index)
        stat = place.stat()
        if stat is None:
            return None
        if not (index_form := self.layout.index):
            return Written(stat.size, stat.stamp, checksum(place.read_bytes()), 1)
        chunks = math.prod(self.spec.grid.chunks_per_unit)
        data = place.read_bytes(*index_form.span(chunks, stat.size))
        entries = index_form.parse(data, chunks, stat.size, place)
        return Written(stat.size, stat.stamp, index_form.digest(data), int((entries[:, 0] != MISSING).sum()))

    @property
    def has_whole_files(self) -> bool:
        """Whether a unit's file is one chunk, and nothing is looked up in it."""
        return not self.layout.index

    def whole_file(self, index: Sequence[int], data: bytes) -> tuple[bytes, int]:  # noqa: ARG002
        """Return all bytes of a unit's file, and the digest that `inspect` finds, given these bytes as a store has them."""
        return data, checksum(data)

    def unit_of(self, path: str) -> Index | None:
        """Return the unit that a path below the array is the file of; None where it is of none.

        Examples
        --------
        >>> spec = ArraySpec((1, 64, 64, 64), "uint8", tuple("cxyz"), (1, 32, 32, 32), (1, 64, 64, 64))
        >>> array = Zarr3().at(Location("memory://unit-of/color/1"), spec)
        >>> array.unit_of("c/0/1/2/3"), array.unit_of("zarr.json")
        ((0, 1, 2, 3), None)
        """
        numbers = path.removeprefix(self.layout.prefix).split(self.layout.separator)
        fits = path.startswith(self.layout.prefix) and len(numbers) == len(self.spec.shape) and all(map(is_number, numbers))
        return tuple(map(int, numbers)) if fits else None

    def written_units(self) -> Iterator[Index]:
        """Yield the grid coordinates of the units that are stored."""
        axes = len(self.spec.shape)

        def walk(folder: Location, head: Index) -> Iterator[Index]:
            for name in sorted(filter(is_number, folder.names()), key=int):
                found = (*head, int(name))
                if len(found) == axes:
                    yield found
                else:
                    yield from walk(folder / name, found)

        if self.layout.separator == "/":
            yield from walk(self.location / "c" if self.layout.prefix else self.location, ())
        else:
            yield from filter(None, map(self.unit_of, self.location.names()))

    @property
    def scratch(self) -> Location:
        """Where unfinished files of single writes lie: the dataset's own work folder."""
        return self.location.parent.parent / WORK_FOLDER / "tmp"


@dataclass(frozen=True, slots=True)
class _Stored:
    """See `wkdask.formats.writing.StoredUnit`."""

    array: Zarr3Array
    index: Index
    entries: np.ndarray[Any, Any] | None

    def _span(self, cell: Index) -> tuple[int, int] | None:
        if self.entries is None:
            return None
        per_unit = self.array.spec.grid.chunks_per_unit
        inside = [i % n for i, n in zip(cell, per_unit, strict=True)]
        offset, length = map(int, self.entries[chunk_number(inside, per_unit)])
        return None if offset == int(MISSING) else (offset, length)

    def cells(self) -> Iterable[Index]:
        if self.entries is None:
            return ()
        per_unit = self.array.spec.grid.chunks_per_unit
        there = np.unravel_index(np.flatnonzero(self.entries[:, 0] != MISSING), per_unit)
        first = [i * n for i, n in zip(self.index, per_unit, strict=True)]
        return map(tuple, (np.stack(there, axis=1) + first).tolist())

    def encoded(self, cell: Index) -> bytes | None:
        at = self._span(cell)
        return self.array.unit_location(self.index).read_bytes(at[0], sum(at)) if at else None

    def decoded(self, cell: Index) -> np.ndarray[Any, Any] | None:
        at, place, spec = self._span(cell), self.array.unit_location(self.index), self.array.spec
        if at:
            return read_chunk(spec, self.array.chain("written"), place, cell, at)
        return None if fill_bits(spec) is None else np.full(spec.chunk, spec.fill, spec.dtype)


def is_number(name: str) -> bool:
    """Whether a name is a whole number in its only spelling."""
    return name.isascii() and name.isdecimal() and name == str(int(name))
