"""A format as another package would write it: every unit is one ``.npy`` file, and a JSON document beside them says the rest.

It is as simple as a format can be: units are held in memory as a whole. The class of its arrays can be replaced, for tests of
the suite that it passes.
"""

from __future__ import annotations

import io
import json
import math
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import numpy as np

from wkdask.errors import DamagedError, DatasetExistsError, DatasetNotFoundError, InputError, MetadataError
from wkdask.formats import ArraySpec, Codec, Written, parse_codec
from wkdask.formats.codecs import decode, encoder
from wkdask.geometry.grid import Box, Index
from wkdask.metadata import LayerProperties, VoxelSize
from wkdask.storage import WORK_FOLDER, Location, update_document
from wkdask.storage.document import exclusively

DOCUMENT = "npy.json"
DTYPES = frozenset({"uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64"})
MOST_BYTES = 1 << 27
NUMBER = r"(?:0|[1-9][0-9]{0,17})"
NOTHING = Written(0, 0, 0, 0)
Array = np.ndarray[Any, Any]


def prefix(spec: ArraySpec) -> bytes:
    """Return what a unit's file begins with: the header of a ``.npy`` file, which says dtype, order and shape."""
    out = io.BytesIO()
    header = {"descr": np.dtype(spec.dtype).newbyteorder("<").str, "fortran_order": True, "shape": spec.unit}
    np.lib.format.write_array_header_1_0(out, header)
    return out.getvalue()


class UnitWriter:
    """Collects chunks; a whole unit is written as an array, a part as its chunks by name."""

    def __init__(self, array: NpyArray, index: Sequence[int], place: Location, scratch: Location | None, *, part: bool) -> None:
        self.array, self.index, self.place, self.scratch, self.part = array, tuple(index), place, scratch, part
        self.chunks: dict[Index, Array] = {}
        self.written = NOTHING

    def put(self, region: Box, block: Array) -> None:
        spec = self.array.spec
        if block.shape != region.shape or block.dtype != spec.dtype:
            raise InputError(f"The block is {block.shape} {block.dtype}, expected {region.shape} {spec.dtype}. Cut or cast it.")
        tiles = spec.grid.chunks(region)
        for cell in map(tiles.cell, range(len(tiles))):
            box, whole = tiles.box_at(cell), spec.grid.chunks().box_at(cell)
            self.chunks[cell] = np.zeros(whole.shape, spec.dtype)
            self.chunks[cell][box.relative_to(whole.start).slices] = block[box.relative_to(region.start).slices]

    def put_encoded(self, chunk: Sequence[int], data: bytes | memoryview) -> None:
        raise InputError("A .npy file has no encoded chunks. Decode them, and put their voxels.")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.publish()

    def publish(self) -> None:
        if self.part:
            out = io.BytesIO()
            np.savez(out, **{".".join(map(str, cell)): block for cell, block in self.chunks.items()})
            self.place.write_bytes(out.getvalue(), self.scratch)
            self.written = Written(len(out.getvalue()), 0, zlib.crc32(out.getvalue()), len(self.chunks))
        else:
            self.written = self.array.store(self.index, self.chunks, self.scratch)


@dataclass(frozen=True)
class NpyArray:
    """An open array; see `wkdask.formats.ArrayHandle`."""

    location: Location
    spec: ArraySpec

    @property
    def scratch(self) -> Location:
        return self.location.parent.parent / WORK_FOLDER / "tmp"

    def with_axes(self, axes: tuple[str, ...]) -> Self:
        return replace(self, spec=replace(self.spec, axes=axes))

    def unit_location(self, index: Sequence[int]) -> Location:
        return self.location / ("-".join(map(str, index)) + ".npy")

    def unit_of(self, path: str) -> Index | None:
        found = re.fullmatch(rf"{NUMBER}(?:-{NUMBER}){{{len(self.spec.shape) - 1}}}\.npy", path, re.ASCII)
        return tuple(map(int, path.removesuffix(".npy").split("-"))) if found else None

    def written_units(self) -> Iterator[Index]:
        yield from filter(None, map(self.unit_of, self.location.names()))

    def load(self, index: Sequence[int]) -> Array | None:
        """Return the voxels of a whole unit; None where it is not stored."""
        place, start = self.unit_location(index), prefix(self.spec)
        stat = place.stat()
        if stat is None:
            return None
        size = len(start) + math.prod(self.spec.unit) * self.spec.itemsize
        try:
            if stat.size > 2 * size + 100:
                raise DamagedError(f"it has {stat.size} bytes")
            data = place.read_bytes()
            if zlib.crc32(data[:-4]).to_bytes(4, "little") != data[-4:]:
                raise DamagedError("its checksum is not that of its bytes")
            content = decode(self.spec.codec, data[:-4], size)
            if bytes(content[: len(start)]) != start:
                raise DamagedError("it begins otherwise")
        except DamagedError as error:
            raise DamagedError(f"{place} is no unit of {self.spec.unit} {self.spec.dtype}: {error}. Write it again.") from None
        voxels = np.frombuffer(content, np.dtype(self.spec.dtype).newbyteorder("<"), offset=len(start))
        return voxels.astype(self.spec.dtype).reshape(self.spec.unit, order="F")

    def store(self, index: Sequence[int], chunks: dict[Index, Array], scratch: Location | None) -> Written:
        """Write a unit of some of its chunks; the others have the fill value."""
        spec, place = self.spec, self.unit_location(index)
        voxels, whole = np.full(spec.unit, spec.fill, spec.dtype, order="F"), spec.grid.unit_box(index)
        for cell, block in chunks.items():
            box = spec.grid.chunks().box_at(cell).relative_to(whole.start)
            voxels[box.slices] = block
        if not (voxels.view(f"u{spec.itemsize}") != np.full(1, spec.fill, spec.dtype).view(f"u{spec.itemsize}")).any():
            if place.is_file():
                place.delete()
            return NOTHING
        content = prefix(spec) + voxels.astype(np.dtype(spec.dtype).newbyteorder("<")).tobytes(order="F")
        packed = bytes(encoder(spec.codec)(memoryview(content)))
        place.write_bytes(packed + zlib.crc32(packed).to_bytes(4, "little"), scratch)
        return self.inspect(index) or NOTHING

    def read(self, box: Box, *, keep: bool = True) -> Array:
        found = np.full(box.shape, self.spec.fill, self.spec.dtype, order="F")
        for number in (units := self.spec.grid.units(box)).covering(box):
            index = units.cell(number)
            voxels = self.load(index)
            if voxels is not None:
                whole = self.spec.grid.unit_box(index)
                hit = whole.intersect(box)
                found[hit.relative_to(box.start).slices] = voxels[hit.relative_to(whole.start).slices]
        return found

    def write(self, box: Box, block: Array) -> None:
        if block.shape != box.shape or block.dtype != self.spec.dtype:
            raise InputError(
                f"The block is {block.shape} {block.dtype}, expected {box.shape} {self.spec.dtype}. Cut or cast it."
            )
        for number in (units := self.spec.grid.units(box)).covering(box):
            index = units.cell(number)
            whole = self.spec.grid.unit_box(index).intersect(self.spec.grid.box)
            hit = whole.intersect(box)
            with exclusively(self.scratch, self.unit_location(index).url):
                voxels = self.read(whole)
                voxels[hit.relative_to(whole.start).slices] = block[hit.relative_to(box.start).slices]
                with self.unit(index, self.scratch) as out:
                    out.put(whole, voxels)

    def resize(self, shape: Index) -> None:
        if len(shape) != len(self.spec.shape):
            raise InputError(f"{self.location} has {len(self.spec.shape)} axes, {tuple(shape)} has not. Give one number each.")

        def resized(old: bytes | None) -> bytes:
            return json.dumps({**json.loads(old or b"{}"), "shape": shape}).encode()

        update_document(self.location / DOCUMENT, resized, self.scratch)

    def unit(self, index: Sequence[int], scratch: Location | None = None) -> UnitWriter:
        return UnitWriter(self, index, self.unit_location(index), scratch, part=False)

    def part(self, index: Sequence[int], place: Location, scratch: Location | None = None) -> UnitWriter:
        return UnitWriter(self, index, place, scratch, part=True)

    def join(self, index: Sequence[int], parts: Sequence[Location], scratch: Location | None = None) -> Written:
        chunks: dict[Index, Array] = {}
        for part in parts:
            with np.load(io.BytesIO(part.read_bytes())) as found:
                chunks |= {tuple(map(int, name.split("."))): found[name] for name in found.files}
        return self.store(index, chunks, scratch)

    def inspect(self, index: Sequence[int]) -> Written | None:
        stat = self.unit_location(index).stat()
        if stat is None:
            return None
        digest = int.from_bytes(self.unit_location(index).read_bytes(max(0, stat.size - 4)), "little")
        return Written(stat.size, stat.stamp, digest, math.prod(self.spec.grid.chunks_per_unit))


class NpyFormat:
    """The format: finds, opens and creates arrays."""

    name = "npy"
    codecs = ("none", "gzip")
    usual_codec = Codec("gzip", 1)
    usual_chunk = (32, 32, 32)
    cubic, sharded, exact, further_axes = False, True, False, True
    documents = frozenset({DOCUMENT})
    arrays: type[NpyArray] = NpyArray

    def detect(self, location: Location) -> bool:
        return (location / DOCUMENT).is_file()

    def open(self, location: Location, end: Sequence[int] | None = None) -> NpyArray:
        if not self.detect(location):
            raise DatasetNotFoundError(f"{location} holds no array of .npy files: {DOCUMENT} is missing. Check the path.")
        return self.arrays(location, self.parse((location / DOCUMENT).read_bytes(), location / DOCUMENT))

    def parse(self, data: bytes, where: Location) -> ArraySpec:
        try:
            said = json.loads(data)
            numbers = {key: tuple(said[key]) for key in ("shape", "chunk", "unit", "offset")}
            good = all(type(n) is int and 0 <= n < 2**60 for found in numbers.values() for n in found) and numbers["shape"]
            if not good or said["dtype"] not in DTYPES or not all(isinstance(axis, str) for axis in said["axes"]):
                raise ValueError("a number, the dtype or the axes are none")
            if len({*map(len, numbers.values()), len(said["axes"])}) > 1 or math.prod(numbers["unit"]) > MOST_BYTES // 8:
                raise ValueError("the numbers of axes differ, or units are too large")
            codec, fill = parse_codec(said["codec"]), np.array(said["fill"], said["dtype"]).item()
            if codec and codec.name not in self.codecs:
                raise ValueError(f"the codec {codec} is not one of {self.codecs}")
            return ArraySpec(dtype=said["dtype"], axes=tuple(said["axes"]), codec=codec, fill=fill, **numbers)
        except (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise MetadataError(f"{where} says no array: {str(error)[:200]}. Restore it, or write the array again.") from None

    def at(self, location: Location, spec: ArraySpec) -> NpyArray:
        if spec.dtype not in DTYPES or (spec.codec and spec.codec.name not in self.codecs):
            raise InputError(f"{spec.dtype} voxels with codec {spec.codec} can not be stored. Use a number and {self.codecs}.")
        if math.prod(spec.unit) > MOST_BYTES // 8:
            raise InputError(f"Units of {spec.unit} are more than {MOST_BYTES // 8} voxels. Use smaller ones.")
        return self.arrays(location, spec)

    def create(self, location: Location, spec: ArraySpec) -> NpyArray:
        array = self.at(location, spec)
        document = {name: getattr(spec, name) for name in ("shape", "dtype", "axes", "chunk", "unit", "offset", "fill")}
        if self.detect(location):
            raise DatasetExistsError(f"{location} exists already. Choose another place, or delete it first.")
        text = json.dumps({**document, "codec": str(spec.codec or "none")})
        (location / DOCUMENT).write_bytes(text.encode(), array.scratch)
        return array

    def write_groups(self, dataset: Location, layer: LayerProperties, voxel_size: VoxelSize) -> None:
        """Write nothing: nobody else reads such arrays."""
