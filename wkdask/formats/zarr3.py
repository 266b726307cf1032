"""Zarr 3 arrays: sharded or not, in the layout that WEBKNOSSOS writes.

Specification: https://zarr-specs.readthedocs.io/en/latest/v3/core/index.html

A unit is a shard, or a chunk where the array has no shards. Local arrays are read by tensorstore, whatever their codecs;
arrays on stores by ranged reads of our own, in the layout that we write: transpose to Fortran order, little endian, one
compressor, the index at the end.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from wkdask.errors import DatasetExistsError, DatasetNotFoundError, InputError, MetadataError
from wkdask.formats.ranged import read_box, shard_entries
from wkdask.formats.shard import MISSING, ChunkFile, checksum, stored_checksum
from wkdask.formats.spec import ArraySpec, Codec, Written
from wkdask.formats.writing import UnitFile, merge_unit, require_fit
from wkdask.geometry.grid import Box, Index
from wkdask.storage import WORK_FOLDER, Location, update_document

DOCUMENT = "zarr.json"
DTYPES = frozenset(f"{kind}{bits}" for kind in ("uint", "int") for bits in (8, 16, 32, 64)) | {"float32", "float64"}
MAX_CHUNK_BYTES = 1 << 31


class Zarr3:
    """The format: finds, opens and creates arrays."""

    name = "zarr3"

    def detect(self, location: Location) -> bool:
        """Whether a Zarr 3 array lies here."""
        return (location / DOCUMENT).is_file()

    def open(self, location: Location) -> Zarr3Array:
        """Open an array by its ``zarr.json``.

        Raises
        ------
        DatasetNotFoundError
            Where there is none.
        MetadataError
            Where the document is not that of an array that we can read.
        """
        document = location / DOCUMENT
        if not document.is_file():
            raise DatasetNotFoundError(f"{location} holds no Zarr 3 array: {DOCUMENT} is missing. Check the path.")
        spec, layout = parse_document(document.read_bytes(), str(document))
        return Zarr3Array(location, spec, layout)

    def create(self, location: Location, spec: ArraySpec) -> Zarr3Array:
        """Create an array without any unit, in WEBKNOSSOS's layout.

        Raises
        ------
        DatasetExistsError
            Where something lies here already.
        """
        if spec.dtype not in DTYPES:
            raise InputError(f"{spec.dtype} voxels can not be stored in Zarr 3; use one of {', '.join(sorted(DTYPES))}.")
        if (location / DOCUMENT).is_file():
            raise DatasetExistsError(f"{location} exists already. Choose another place, or delete it first.")
        layout = Layout(sharded=spec.chunk != spec.unit)
        (location / DOCUMENT).write_bytes(build_document(spec), location.parent.parent / WORK_FOLDER / "tmp")
        return Zarr3Array(location, spec, layout)


@dataclass(frozen=True, slots=True)
class Layout:
    """How an array's chunks lie in its files, as far as we know it.

    ``ours`` is false where codecs, index or axes differ from what we write: then tensorstore alone reads the array.
    """

    sharded: bool = True
    ours: bool = True
    prefix: str = "c/"
    separator: str = "/"


@dataclass(frozen=True, slots=True)
class Zarr3Array:
    """An open array; see `wkdask.formats.spec.ArrayHandle`."""

    location: Location
    spec: ArraySpec
    layout: Layout = Layout()

    def with_axes(self, axes: tuple[str, ...]) -> Zarr3Array:
        """Return the array with other names for its axes."""
        return replace(self, spec=replace(self.spec, axes=axes))

    def unit_location(self, index: Sequence[int]) -> Location:
        """Return the file of a unit."""
        return self.location / (self.layout.prefix + self.layout.separator.join(map(str, index)))

    def read(self, box: Box, *, keep: bool = True) -> np.ndarray[Any, Any]:
        """Read a box that lies within the array, in stored axes, Fortran-ordered.

        ``keep`` says that its chunks may soon be wanted again, so that some memory is well spent on them.
        """
        if self.location.is_local and (os.sep == "\\" or "\\" not in self.location.url):  # which tensorstore takes for a slash
            from wkdask.formats.tensorstore_reader import read_local

            return read_local(self.location, "zarr3", box, self.spec, keep=keep)
        self._require_ours("read from this kind of store")
        return read_box(self, box)

    def _require_ours(self, verb: str) -> None:
        if not self.layout.ours:
            raise InputError(
                f"{self.location} can not be {verb}: its codecs, index or axis order are not those that wkdask writes. "
                "Copy it to a local folder to read it, or convert it."
            )

    def entries(self, index: Sequence[int], *, known: bool = False) -> np.ndarray[Any, Any] | None:
        """Return (offset, bytes) of each chunk of a unit, in C order; None where the unit is not stored.

        See `wkdask.formats.ranged.shard_entries`.
        """
        chunks = math.prod(self.spec.grid.chunks_per_unit)
        return shard_entries(self.unit_location(index), chunks, self.layout.sharded, known=known)

    def unit(self, index: Sequence[int], scratch: Location | None = None) -> UnitFile:
        """Return the writer of a whole unit; its bytes lie in ``scratch`` until they are complete."""
        self._require_ours("written")
        return UnitFile(self.spec, tuple(index), self.unit_location(index), scratch, part=False)

    def part(self, index: Sequence[int], place: Location, scratch: Location | None = None) -> UnitFile:
        """Return the writer of a part of a unit, into a file of its own."""
        self._require_ours("written")
        return UnitFile(self.spec, tuple(index), place, scratch, part=True)

    def join(self, index: Sequence[int], parts: Sequence[Location], scratch: Location | None = None) -> Written:
        """Make a unit of its parts, none of which is decoded."""
        with self.unit_location(index).writer(scratch) as out:
            file = ChunkFile(out, math.prod(self.spec.grid.chunks_per_unit))
            for part in parts:
                file.append_part(part)
            return file.publish_shard()

    def write(self, box: Box, block: np.ndarray[Any, Any]) -> None:
        """Write any box; chunks that it only touches are merged, those that it does not touch are copied encoded."""
        self._require_ours("written")
        require_fit(block, box, self.spec.dtype)
        for number in (units := self.spec.grid.units(box)).covering(box):
            merge_unit(self, units.cell(number), box, block)

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
        entries = self.entries(index) if stat else None
        if stat is None or entries is None:
            return None
        if not self.layout.sharded:
            return Written(stat.size, stat.mtime_ns, checksum(place.read_bytes()), 1)
        stored = int((entries[:, 0] != MISSING).sum())
        return Written(stat.size, stat.mtime_ns, stored_checksum(place.read_bytes(stat.size - 4)), stored)

    def written_units(self) -> Iterator[Index]:
        """Yield the grid coordinates of the units that are stored."""
        axes = len(self.spec.shape)

        def is_number(name: str) -> bool:
            return name.isascii() and name.isdecimal() and name == str(int(name))

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
            for name in self.location.names():
                numbers = name.removeprefix(self.layout.prefix).split(self.layout.separator)
                if name.startswith(self.layout.prefix) and len(numbers) == axes and all(map(is_number, numbers)):
                    yield tuple(map(int, numbers))

    @property
    def scratch(self) -> Location:
        """Where unfinished files of single writes lie: the dataset's own work folder."""
        return self.location.parent.parent / WORK_FOLDER / "tmp"


def _compressor(codec: Codec | None) -> list[dict[str, Any]]:
    if codec is None:
        return []
    if codec.name == "zstd":
        return [{"name": "zstd", "configuration": {"level": codec.level, "checksum": True}}]
    return [{"name": codec.name, "configuration": {"level": codec.level}}]


def build_document(spec: ArraySpec) -> bytes:
    """Return the ``zarr.json`` of an array in WEBKNOSSOS's layout."""
    little: dict[str, Any] = {"name": "bytes", "configuration": {"endian": "little"}}
    order = list(range(len(spec.shape)))[::-1]
    inner = [
        {"name": "transpose", "configuration": {"order": order}},
        little if spec.itemsize > 1 else {"name": "bytes"},
        *_compressor(spec.codec),
    ]
    if spec.chunk != spec.unit:
        shard = {"chunk_shape": spec.chunk, "codecs": inner, "index_codecs": [little, {"name": "crc32c"}]}
        inner = [{"name": "sharding_indexed", "configuration": shard}]
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": spec.shape,
        "data_type": spec.dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": spec.unit}},
        "chunk_key_encoding": {"name": "default"},
        "fill_value": 0.0 if spec.dtype.startswith("float") else 0,
        "codecs": inner,
        "dimension_names": spec.axes,
        "attributes": {},
    }
    return json.dumps(document, indent=4).encode()


def parse_document(data: bytes, where: str) -> tuple[ArraySpec, Layout]:
    """Return what a ``zarr.json`` says, after checking each thing that we rely on.

    Raises
    ------
    MetadataError
        Naming the document, what was found, and what was expected.
    """
    try:
        document = json.loads(data)
        return _parse(document)
    except MetadataError as error:
        raise MetadataError(f"{where}: {error} Restore the file, or write the array again.") from None
    except (ValueError, RecursionError) as error:
        raise MetadataError(f"{where} is no JSON: {str(error)[:200]}. Restore the file.") from None
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        said = repr(error)[:200]
        raise MetadataError(f"{where} is no Zarr 3 array document: {said} is missing or of a wrong type. Restore it.") from None


def _parse(document: dict[str, Any]) -> tuple[ArraySpec, Layout]:
    for key, wanted in (("zarr_format", 3), ("node_type", "array")):
        if document[key] != wanted:
            raise MetadataError(f"{key} is {str(document[key])[:80]!r}, expected {wanted!r}.")
    if document["data_type"] not in DTYPES:
        raise MetadataError(f"data_type is {str(document['data_type'])[:80]!r}, expected one of {', '.join(sorted(DTYPES))}.")
    shape = _numbers("shape", document["shape"], least=0)
    grid = document["chunk_grid"]
    if grid["name"] != "regular":
        raise MetadataError(f"chunk_grid is {str(grid['name'])[:80]!r}, expected 'regular'.")
    unit = _numbers("chunk_shape", grid["configuration"]["chunk_shape"])
    codecs = document["codecs"]
    sharded = codecs[0]["name"] == "sharding_indexed"
    shard = codecs[0]["configuration"] if sharded else {}
    inner = shard["codecs"] if sharded else codecs
    chunk = _numbers("inner chunk_shape", shard["chunk_shape"]) if sharded else unit
    if not len(shape) == len(unit) == len(chunk):
        raise MetadataError(f"shape {shape}, chunk_shape {unit} and inner chunk_shape {chunk} differ in their number of axes.")
    if any(u % c for u, c in zip(unit, chunk, strict=True)):
        raise MetadataError(f"the inner chunk_shape {chunk} does not divide the shard's {unit}.")
    if math.prod(chunk) * np.dtype(document["data_type"]).itemsize > MAX_CHUNK_BYTES:
        raise MetadataError(f"a chunk of {chunk} {document['data_type']} is above {MAX_CHUNK_BYTES} bytes.")
    codec, ours = _known_codecs(inner, len(shape), np.dtype(document["data_type"]).itemsize)
    ours = ours and (not sharded or (len(codecs) == 1 and _known_index(shard))) and not document.get("fill_value")
    axes = _axes(document.get("dimension_names"), len(shape))
    return ArraySpec(shape, document["data_type"], axes, chunk, unit, codec), _layout(document, sharded, ours)


def _numbers(what: str, value: object, least: int = 1) -> Index:
    if not isinstance(value, list) or not all(type(n) is int and least <= n < 2**62 for n in value) or not value:
        raise MetadataError(f"{what} is {str(value)[:80]}, expected a list of whole numbers from {least} up.")
    return tuple(value)


def _layout(document: dict[str, Any], sharded: bool, ours: bool) -> Layout:
    encoding = document["chunk_key_encoding"]
    kind, options = encoding["name"], encoding.get("configuration") or {}
    if kind not in ("default", "v2"):
        raise MetadataError(f"chunk_key_encoding is {str(kind)[:80]!r}, expected 'default' or 'v2'.")
    separator = options.get("separator", "/" if kind == "default" else ".")
    if separator not in ("/", "."):
        raise MetadataError(f"the separator of chunk keys is {str(separator)[:80]!r}, expected '/' or '.'.")
    return Layout(sharded, ours, f"c{separator}" if kind == "default" else "", separator)


def _axes(names: object, count: int) -> tuple[str, ...]:
    if names is not None and not (isinstance(names, list) and len(names) == count):
        raise MetadataError(f"dimension_names is {str(names)[:80]}, expected a list of {count} names.")
    if names and all(isinstance(name, str) for name in names):
        return tuple(names)
    return {2: ("x", "y"), 3: ("x", "y", "z"), 4: ("c", "x", "y", "z")}.get(count) or tuple(f"dim{i}" for i in range(count))


def _known_index(shard: dict[str, Any]) -> bool:
    codecs = [codec["name"] for codec in shard["index_codecs"]]
    options = shard["index_codecs"][0].get("configuration") or {}
    little = codecs == ["bytes", "crc32c"] and options.get("endian") == "little"
    return little and shard.get("index_location", "end") == "end"


def _level(codec: str, level: object) -> int:
    least, most = {"zstd": (-131072, 22)}.get(codec, (0, 9))
    if type(level) is not int or not least <= level <= most:
        raise MetadataError(f"the level of {codec} is {str(level)[:80]}, expected a whole number from {least} to {most}.")
    return level


def _known_codecs(codecs: list[dict[str, Any]], axes: int, itemsize: int) -> tuple[Codec | None, bool]:
    """Return the compressor, and whether the chain is one that we write."""
    names = [codec["name"] for codec in codecs]
    options = [codec.get("configuration") or {} for codec in codecs]
    used = ((n, o.get("clevel" if n == "blosc" else "level", 0)) for n, o in zip(names, options, strict=True))
    compressor = next((Codec(name, _level(name, level)) for name, level in used if name in ("zstd", "gzip", "blosc")), None)
    ours = (
        names[:2] == ["transpose", "bytes"]
        and (names[2:] in ([], ["zstd"], ["gzip"]))
        and options[0].get("order") == list(range(axes))[::-1]
        and (itemsize == 1 or options[1].get("endian") == "little")
    )
    return compressor, ours
