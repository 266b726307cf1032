"""Neuroglancer's precomputed volumes: a folder for each scale, a file for each chunk, and one ``info`` for all scales.

Specification: https://github.com/google/neuroglancer/blob/master/src/datasource/precomputed/volume.md

A magnification is a scale, a unit is a chunk with all its channels; axes are (c, x, y, z). A scale may begin anywhere. The
names of chunks tell their voxels from the volume's origin, cut off where the scale ends, so that arrays have the layer's
true size. What has no file is 0. We write what has no shards and begins at the origin, and only what keeps each voxel; the
others are read, shards and files that were compressed once more too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from wkdask.errors import ConflictError, DatasetExistsError, InputError
from wkdask.formats.precomputed_chunks import chunk_name, packed_place, packing, read_local, require_unit, unpacked
from wkdask.formats.precomputed_info import AXES, DTYPES, Scale, encodable
from wkdask.formats.precomputed_ranged import read_box, read_unit
from wkdask.formats.precomputed_volume import (
    INFO,
    OWN,
    find_scale,
    is_scale,
    read_info,
    scratch_of,
    set_size,
    unlist,
    write_own,
    write_volume,
)
from wkdask.formats.precomputed_writer import ChunkFile
from wkdask.formats.shard import NOTHING, PartFile, SingleChunk, checksum, read_part
from wkdask.formats.spec import ArraySpec, Codec, Written
from wkdask.formats.writing import require_fit
from wkdask.geometry.grid import Box, Index
from wkdask.metadata import LayerProperties, VoxelSize
from wkdask.storage import Location
from wkdask.storage.document import exclusively

CHUNK = re.compile("_".join([r"(-?[0-9]{1,19})-(-?[0-9]{1,19})"] * 3), re.ASCII)
AUTO = Codec("auto")
"""What is usual: ``compressed_segmentation`` where the dtype is one of identifiers, uint32 or uint64; else none."""
MOST_LISTED = 1 << 26
"""Chunks of a sharded array of which it is asked, one by one, which shard they are in. A document may claim any number."""


class Precomputed:
    """The format: finds, opens and creates arrays."""

    name = "neuroglancerPrecomputed"
    codecs = ("none", "compressed_segmentation", "png")
    usual_codec = AUTO
    usual_chunk = (64, 64, 64)
    cubic, sharded, exact, further_axes = False, False, True, False
    documents = frozenset({OWN, INFO})

    def detect(self, location: Location) -> bool:
        """Whether a scale lies here, listed by its volume or not yet."""
        return is_scale(location)

    def open(self, location: Location, end: Sequence[int] | None = None) -> PrecomputedArray:  # noqa: ARG002 - info has the size
        """Open a scale by its folder.

        Raises
        ------
        DatasetNotFoundError
            Where no document describes it.
        MetadataError
            Where its document is not that of a volume that we can read.
        """
        return PrecomputedArray(location, *find_scale(location))

    def at(self, location: Location, spec: ArraySpec) -> PrecomputedArray:
        """Return the handle of an array that is not there yet; nothing is written.

        Raises
        ------
        InputError
            Where such volumes can not store such voxels, or those beside it are of another dtype or number of channels.
        """
        channels = spec.shape[0]
        if spec.dtype not in DTYPES:
            raise InputError(
                f"{spec.dtype} voxels can not be stored in a Neuroglancer volume; use one of {', '.join(sorted(DTYPES))}."
            )
        if spec.axes != AXES or spec.unit != spec.chunk or spec.chunk[0] != channels or any(spec.offset) or spec.fill:
            raise InputError(
                f"A Neuroglancer volume is written with the axes {AXES}, all channels in a chunk, no shards, no offset, and 0 "
                f"where nothing is stored; asked for was {spec}. Use another format."
            )
        if spec.codec == AUTO:
            spec = replace(spec, codec=Codec("compressed_segmentation") if spec.dtype in ("uint32", "uint64") else None)
        codec = spec.codec.name if spec.codec else "none"
        if codec not in self.codecs or (codec != "none" and not encodable(codec, spec.dtype, channels)):
            raise InputError(
                f"A Neuroglancer volume does not hold {channels} x {spec.dtype} with the codec {codec}. Use none for any, "
                "compressed_segmentation for uint32 and uint64, png for up to 4 channels of uint8 or uint16."
            )
        info = read_info(location.parent)
        if info and (info.get("data_type"), info.get("num_channels")) != (spec.dtype, channels):
            raise InputError(
                f"{location.parent} is a volume of {str(info.get('num_channels'))[:20]} x {str(info.get('data_type'))[:20]}, "
                f"so no scale of it can be of {channels} x {spec.dtype}. Use another layer."
            )
        return PrecomputedArray(location, spec, Scale(location.name))

    def create(self, location: Location, spec: ArraySpec) -> PrecomputedArray:
        """Create an array without any chunk; ``info`` does not list it before `write_groups` does.

        Raises
        ------
        DatasetExistsError
            Where something lies here already.
        """
        array = self.at(location, spec)
        if self.detect(location):
            raise DatasetExistsError(f"{location} exists already. Choose another place, or delete it first.")
        unlist(array.volume, array.scale.key)  # one that was deleted
        write_own(location, array.spec, array.scale, array.scratch)
        return array

    def write_groups(self, dataset: Location, layer: LayerProperties, voxel_size: VoxelSize) -> None:
        """List the magnifications in the layer's folder in its ``info``, and delete chunks that have names of earlier sizes."""
        for key in write_volume(dataset, layer, voxel_size):
            scale = dataset / layer.name / key
            with exclusively(scratch_of(dataset / layer.name), size_lock(scale)):
                self.open(scale).delete_outdated()


def size_lock(location: Location) -> str:
    """Return what those who change the size of a scale, or write to its end, take turns by."""
    return f"{location.url} size"


@dataclass(frozen=True, slots=True)
class PrecomputedArray:
    """An open array; see `wkdask.formats.spec.ArrayHandle`."""

    location: Location
    spec: ArraySpec
    scale: Scale

    @property
    def volume(self) -> Location:
        """The folder that ``info`` lies in."""
        volume = self.location
        for _ in self.scale.key.split("/"):
            volume = volume.parent
        return volume

    @property
    def scratch(self) -> Location:
        """Where unfinished files of single writes lie: the dataset's own work folder."""
        return scratch_of(self.volume)

    def with_axes(self, axes: tuple[str, ...]) -> PrecomputedArray:  # noqa: ARG002
        """Return the array as it is: the format, not the dataset, says which axis is which."""
        return self

    def unit_location(self, index: Sequence[int]) -> Location:
        """Return the file of a unit; of a sharded array the shard that holds it and others."""
        if self.scale.sharding:
            counts = self.spec.grid.chunks().cells.shape
            return self.location / self.scale.sharding.file_name(index[1:], counts[1:])
        return packed_place(self.location / chunk_name(self.region(index).shifted(self.spec.offset)))

    def region(self, index: Sequence[int]) -> Box:
        """Return the voxels of a unit, cut off where the array ends."""
        return self.spec.grid.unit_box(index).intersect(self.spec.grid.box)

    def read(self, box: Box, *, keep: bool = True) -> np.ndarray[Any, Any]:
        """Read a box that lies within the array, in stored axes, Fortran-ordered.

        ``keep`` says that its chunks may soon be wanted again, so that some memory is well spent on them.
        """
        plain = self.location.is_local and "\\" not in self.location.url  # which tensorstore takes for a slash on some systems
        if plain and self._for_tensorstore(box):
            return read_local(self.volume, self.location, self.spec, self.scale, box, keep=keep)
        return read_box(self, box, keep=keep)

    def _for_tensorstore(self, box: Box) -> bool:
        """Whether no file of a box is compressed once more; DamagedError where one has not the size of its voxels."""
        if self.scale.sharding and self.scale.sharding.data_encoding == "gzip":  # which tensorstore decodes without a bound
            return False
        for index in self.spec.grid.units(box).cells_of():
            place, shape = self.unit_location(index), self.region(index).shape
            if packing(place):
                return False
            require_unit(self.spec, self.scale, place, index, shape)
        return True

    def _read_unit(self, index: Sequence[int]) -> np.ndarray[Any, Any] | None:
        """Return the voxels of a unit, cut off where the array ends; None where it is not stored."""
        return read_unit(self.spec, self.scale, (self.unit_location(index), tuple(index), self.region(index).shape))

    def _require_ours(self) -> None:
        """Refuse to write where others would not find what we write, or voxels would not be kept."""
        codec = self.spec.codec.name if self.spec.codec else "none"
        reasons = [
            *(["it is sharded"] if self.scale.sharding else []),
            *([f"it begins at {self.spec.offset[1:]}, not at the origin"] if any(self.spec.offset) else []),
            *(["it has chunks of several shapes"] if self.scale.copies > 1 else []),
            *([f"{codec} does not keep each voxel"] if codec not in Precomputed.codecs else []),
        ]
        if reasons:
            raise InputError(
                f"{self.location} can only be read: {', and '.join(reasons)}. Convert it, and write to the new one."
            )

    def write(self, box: Box, block: np.ndarray[Any, Any]) -> None:
        """Write any box; chunks that it only touches are merged.

        Writers of one unit take turns, as far as the store allows, so that neighbours lose nothing.

        Raises
        ------
        ConflictError
            Where the array was resized since it was opened, so that its last chunks have other names.
        """
        self._require_ours()
        require_fit(block, box, self.spec.dtype)
        for index in self.spec.grid.units(box).cells_of():
            with ExitStack() as stack:
                if self.region(index) != self.spec.grid.unit_box(index):
                    stack.enter_context(exclusively(self.scratch, size_lock(self.location)))
                    self._require_current()
                stack.enter_context(exclusively(self.scratch, self.unit_location(index).url))
                self._merge(index, box, block)

    def _require_current(self) -> None:
        now = find_scale(self.location)[0].shape
        if now != self.spec.shape:
            raise ConflictError(f"{self.location} was resized from {self.spec.shape} to {now}. Open it again.")

    def _merge(self, index: Index, box: Box, block: np.ndarray[Any, Any]) -> None:
        region = self.region(index)
        hit = region.intersect(box)
        voxels = block[hit.relative_to(box.start).slices]
        if hit != region:
            found = self._read_unit(index)
            whole = np.zeros(region.shape, self.spec.dtype) if found is None else found.copy()
            whole[hit.relative_to(region.start).slices] = voxels
            voxels = whole
        with self.unit(index, self.scratch) as out:
            out.put(region, voxels)

    def resize(self, shape: Index) -> None:
        """Make the array larger; its last chunks, whose names say where it ends, are written anew.

        Handles that were opened before go on reading what was there, and must be opened again to write to its end.

        Raises
        ------
        InputError
            Where the array would be smaller, as voxels could be lost, or is one that is only read.
        """
        if len(shape) != len(self.spec.shape) or shape[0] != self.spec.shape[0]:
            raise InputError(
                f"{self.location} has the shape {self.spec.shape}, which can not become {shape}. Keep its channels."
            )
        with exclusively(self.scratch, size_lock(self.location)):
            now = Precomputed().open(self.location)
            if any(new < old for new, old in zip(shape, now.spec.shape, strict=True)):
                raise InputError(f"{self.location} has the shape {now.spec.shape}; it can not shrink to {shape}. Convert it.")
            if shape != now.spec.shape:
                now._require_ours()
                now._grow(replace(now, spec=replace(now.spec, shape=tuple(shape))))

    def _grow(self, grown: PrecomputedArray) -> None:
        """Write the last chunks under their new names, then the documents.

        The files of the old names stay until `write_groups` is called, or the array grows again, for those who opened it
        before.
        """
        self.delete_outdated()
        stored = frozenset(self.location.names())
        for index in self._cut_off():
            if self.unit_location(index).name in stored and self.region(index) != grown.region(index):
                region, found = grown.region(index), self._read_unit(index)
                voxels = np.zeros(region.shape, self.spec.dtype)
                if found is not None:
                    voxels[tuple(map(slice, found.shape))] = found
                with grown.unit(index, self.scratch) as out:
                    out.put(region, voxels)
        set_size(self.volume, self.location, self.scale.key, [*grown.spec.shape[1:]])

    def delete_outdated(self) -> None:
        """Delete the chunks that the array had under other names when it was smaller, or that a killed run has left."""
        if self.scale.sharding:
            return
        for name in self.location.names():
            if CHUNK.fullmatch(name) and self.unit_of(name) is None:
                (self.location / name).delete()

    def _cut_off(self) -> Iterator[Index]:
        """Yield the units that the array's end cuts off."""
        units = self.spec.grid.units()
        for axis, (n, u) in enumerate(zip(self.spec.shape, self.spec.unit, strict=True)):
            if n % u:
                last = Box(tuple((n // u * u) if i == axis else 0 for i in range(len(self.spec.shape))), self.spec.shape)
                yield from units.cells_of(last)

    def unit(self, index: Sequence[int], scratch: Location | None = None) -> ChunkFile:
        """Return the writer of a whole unit; its bytes lie in ``scratch`` until they are complete."""
        self._require_ours()
        return ChunkFile(self.spec, self.scale, index, self._own_location(index), scratch)

    def _own_location(self, index: Sequence[int]) -> Location:
        """Return the file of a unit that we may write."""
        place = self.unit_location(index)
        if packing(place):
            raise InputError(
                f"{place} is a chunk compressed once more, which is only read. Convert the volume, and write there."
            )
        return place

    def part(self, index: Sequence[int], place: Location, scratch: Location | None = None) -> ChunkFile:
        """Return the writer of a part of a unit, which is all of it, into a file of its own."""
        self._require_ours()
        return ChunkFile(self.spec, self.scale, index, place, scratch, PartFile)

    def join(self, index: Sequence[int], parts: Sequence[Location], scratch: Location | None = None) -> Written:
        """Make a unit of its parts, of which one at most holds its chunk."""
        place, written = self._own_location(index), NOTHING
        for part in parts:
            entries, _ = read_part(part)
            for _, offset, size in entries.tolist():
                with place.writer(scratch) as out:
                    file = SingleChunk(out)
                    file.append(0, part.read_bytes(offset, offset + size))
                    written = file.publish()
        if not written.size and place.is_file():
            place.delete()
        return written

    def inspect(self, index: Sequence[int]) -> Written | None:
        """Return what a unit's file says of itself; None where there is none."""
        place = self.unit_location(index)
        stat = place.stat()
        return Written(stat.size, stat.stamp, checksum(place.read_bytes()), 1) if stat else None

    @property
    def has_whole_files(self) -> bool:
        """Whether a unit's file is one chunk, and nothing is looked up in it."""
        return not self.scale.sharding

    def whole_file(self, index: Sequence[int], data: bytes) -> tuple[bytes, int]:
        """Return all bytes of a unit's file, decompressed if a store keeps it so, and the digest of these."""
        data = unpacked(self.spec, self.unit_location(index), data, self.region(index).shape)
        return data, checksum(data)

    def unit_of(self, path: str) -> Index | None:
        """Return the unit that a path below the array is the file of; None where it is of none, or of several.

        Examples
        --------
        >>> spec = ArraySpec((1, 100, 64, 64), "uint8", tuple("cxyz"), (1, 64, 64, 64), (1, 64, 64, 64))
        >>> array = Precomputed().at(Location("memory://precomputed-unit-of/color/1"), spec)
        >>> array.unit_of("64-100_0-64_0-64"), array.unit_of("64-128_0-64_0-64"), array.unit_of("scale.json")
        ((0, 1, 0, 0), None, None)
        """
        found = CHUNK.fullmatch(path.removesuffix(packing(path)))
        if found is None or self.scale.sharding:
            return None
        starts = zip(map(int, found.groups()[::2]), self.spec.offset[1:], self.spec.unit[1:], strict=True)
        index = (0, *((a - offset) // edge for a, offset, edge in starts))
        inside = all(i >= 0 and i * u < n for i, u, n in zip(index, self.spec.unit, self.spec.shape, strict=True))
        return index if inside and self.unit_location(index).name == path else None

    def written_units(self) -> Iterator[Index]:
        """Yield the grid coordinates of the units that are stored; of a sharded array, of those whose shard is stored.

        Raises
        ------
        InputError
            Where a sharded array has more chunks than can be gone through.
        """
        names = self.location.names()
        if not self.scale.sharding:
            yield from filter(None, map(self.unit_of, names))
            return
        stored, units = frozenset(name for name in names if name.endswith(".shard")), self.spec.grid.units()
        if stored and units.cells.size > MOST_LISTED:
            raise InputError(
                f"{self.location} has {units.cells.size} chunks in shards, of which {MOST_LISTED} at most can be listed. "
                "Convert a part of it."
            )
        yield from (c for c in map(units.cell, range(len(units) if stored else 0)) if self.unit_location(c).name in stored)
