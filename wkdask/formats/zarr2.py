"""Zarr 2 arrays, each chunk a file of its own.

Specification: https://zarr-specs.readthedocs.io/en/latest/v2/v2.0.html

New arrays are as WEBKNOSSOS makes them: Fortran order, files named ``c/x/y/z``, zstd. Arrays of others are read and written in
their own order, byte order, filters and compressor, as far as numcodecs knows them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from wkdask.errors import DatasetExistsError, DatasetNotFoundError
from wkdask.formats.chunk_document import BLOSC, DTYPES, MAX_DOCUMENT_BYTES, check_new, open_document, whole_numbers
from wkdask.formats.chunk_file import Array, ChunkArray, check_blosc, check_gzip
from wkdask.formats.codecs import LEVELS
from wkdask.formats.spec import ArraySpec, Codec
from wkdask.formats.zarr2_chunk import decode_chunk, encode_chunk
from wkdask.formats.zarr2_document import Layout, build_document, compressor_of, parse
from wkdask.formats.zarr_group import image_attributes
from wkdask.geometry.grid import Box, Index
from wkdask.metadata import LayerProperties, VoxelSize
from wkdask.storage import WORK_FOLDER, Location, update_document

__all__ = ["ATTRIBUTES", "DOCUMENT", "DTYPES", "Zarr2", "Zarr2Array"]

DOCUMENT = ".zarray"
GROUP = ".zgroup"
ATTRIBUTES = ".zattrs"
DIMENSIONS = "_ARRAY_DIMENSIONS"
"""Where xarray keeps the names of an array's axes: https://docs.xarray.dev/en/stable/internals/zarr-encoding-spec.html"""


class Zarr2:
    """The format: finds, opens and creates arrays."""

    name = "zarr"
    codecs: tuple[str, ...] = ("none", "zstd", "gzip", *BLOSC)
    usual_codec = Codec("zstd", 5)
    usual_chunk = (32, 32, 32)
    cubic, sharded, exact, further_axes = False, False, False, True
    documents = frozenset({DOCUMENT, GROUP, ATTRIBUTES})

    def detect(self, location: Location) -> bool:
        """Whether a Zarr 2 array lies here."""
        return (location / DOCUMENT).is_file()

    def open(self, location: Location, end: Sequence[int] | None = None) -> Zarr2Array:  # noqa: ARG002 - .zarray has the shape
        """Open an array by its ``.zarray``.

        Raises
        ------
        DatasetNotFoundError
            Where there is none.
        MetadataError
            Where the document is not that of an array that we can read.
        """
        names = _attributes(location / ATTRIBUTES).get(DIMENSIONS)
        found = open_document(location / DOCUMENT, lambda document: parse(document, names))
        if found is None:
            raise DatasetNotFoundError(f"{location} holds no Zarr 2 array: {DOCUMENT} is missing. Check the path.")
        return Zarr2Array(location, *found)

    def at(self, location: Location, spec: ArraySpec) -> Zarr2Array:
        """Return the handle of an array that is not there yet, in WEBKNOSSOS's layout; nothing is written.

        Raises
        ------
        InputError
            Where Zarr 2 can not store such an array, or we do not write the codec.
        """
        check_new(spec, "Zarr 2", self.codecs)
        codec = spec.codec
        if codec and codec.level is None:
            codec = Codec(codec.name, LEVELS.get(codec.name, (0, 9, 5))[2])
        dtype = np.dtype(spec.dtype).newbyteorder("<").str
        return Zarr2Array(
            location, replace(spec, codec=codec), Layout(dtype=dtype, compressor=compressor_of(codec, spec.itemsize))
        )

    def create(self, location: Location, spec: ArraySpec) -> Zarr2Array:
        """Create an array without any unit, in WEBKNOSSOS's layout.

        Raises
        ------
        DatasetExistsError
            Where something lies here already.
        """
        array = self.at(location, spec)
        if self.detect(location):
            raise DatasetExistsError(f"{location} exists already. Choose another place, or delete it first.")
        _add_attributes(location / ATTRIBUTES, {DIMENSIONS: list(spec.axes)}, array.scratch)
        (location / DOCUMENT).write_bytes(build_document(array.spec, array.layout), array.scratch)
        return array

    def write_groups(self, dataset: Location, layer: LayerProperties, voxel_size: VoxelSize) -> None:
        """Write the groups of dataset and layer, with OME-NGFF metadata of the magnifications in the layer's folder."""
        scratch = dataset / WORK_FOLDER / "tmp"
        for folder in (dataset, dataset / layer.name):
            if not (folder / GROUP).is_file():
                (folder / GROUP).write_bytes(json.dumps({"zarr_format": 2}, indent=4).encode(), scratch)
        _add_attributes(dataset / layer.name / ATTRIBUTES, image_attributes(layer, voxel_size, "0.4"), scratch)


@dataclass(frozen=True, slots=True)
class Zarr2Array(ChunkArray):
    """An open array; see `wkdask.formats.spec.ArrayHandle`.

    Examples
    --------
    >>> spec = ArraySpec((1, 64, 64, 64), "uint8", tuple("cxyz"), (1, 32, 32, 32), (1, 32, 32, 32))
    >>> array = Zarr2().create(Location("memory://zarr2/color/1"), spec)
    >>> array.write(Box((0, 30, 0, 0), (1, 34, 1, 1)), np.ones((1, 4, 1, 1), "uint8"))
    >>> list(array.written_units()), array.read(Box((0, 29, 0, 0), (1, 32, 1, 1))).ravel().tolist()
    ([(0, 0, 0, 0), (0, 1, 0, 0)], [0, 1, 1])
    >>> array.unit_of("0/1/0/0"), array.unit_of("0.1.0.0"), array.unit_of(".zarray")
    ((0, 1, 0, 0), None, None)
    """

    layout: Layout = field(default_factory=Layout)

    document: ClassVar[str] = DOCUMENT
    driver: ClassVar[str] = "zarr"

    @property
    def separator(self) -> str:
        """What stands between the numbers of a chunk's file."""
        return self.layout.separator

    @property
    def for_tensorstore(self) -> bool:
        """Whether tensorstore knows the layout: no filters, no booleans, and its own compressors without further settings.

        Of zlib and bz2 it takes data whose checksum is cut off, as if it were right.
        """
        settings = json.loads(self.layout.compressor) if self.layout.compressor else {"id": None}
        known = settings["id"] in (None, "blosc", "zstd", "gzip") and "checksum" not in settings
        return known and not self.layout.filters and self.layout.dtype != "|b1"

    @property
    def most_bytes(self) -> int:
        """Bytes that the file of a chunk can have; filters may make it eight times as large before it is compressed."""
        plain = super(Zarr2Array, self).most_bytes
        return 8 * plain if self.layout.filters else plain

    def check_read(self, box: Box) -> None:
        """Raise DamagedError where a chunk in blosc says that it is larger than the array's are, or one in gzip is cut off."""
        kind = json.loads(self.layout.compressor)["id"] if self.layout.compressor else ""
        if kind == "blosc":
            check_blosc(self, box, 0)
        elif kind == "gzip":
            check_gzip(self, box)

    def decode(self, data: bytes) -> Array:
        """Return the voxels of a whole chunk, as its file's bytes have them."""
        return decode_chunk(data, self.spec, self.layout)

    def encode(self, voxels: Array) -> bytes | memoryview:
        """Return the bytes of a chunk's file."""
        return encode_chunk(voxels, self.spec, self.layout)

    def resized(self, document: dict[str, Any], shape: Index) -> dict[str, Any]:
        """Return the array's document with another shape."""
        parse(document)
        return {**document, "shape": list(whole_numbers("shape", list(shape), least=0))}


def _attributes(place: Location) -> dict[str, Any]:
    """Return what a ``.zattrs`` says; nothing where it is none."""
    found = place.read_range(0, MAX_DOCUMENT_BYTES)
    return _object(found.data) if found and found.size <= MAX_DOCUMENT_BYTES else {}


def _object(data: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _add_attributes(place: Location, attributes: dict[str, Any], locks: Location) -> None:
    """Write attributes into a ``.zattrs``; others stay, and so does the file where nothing changes."""

    def added(old: bytes | None) -> bytes | None:
        found = _object(old)
        return None if {**found, **attributes} == found else json.dumps({**found, **attributes}, indent=4).encode()

    update_document(place, added, locks)
