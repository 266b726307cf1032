"""N5 arrays, each block a file of its own.

Specification: https://github.com/saalfeldlab/n5#file-system-specification

Axes are in stored order, the first fastest, as N5 has them. A block that reaches beyond the array's end is cut off there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from wkdask.errors import DatasetExistsError, DatasetNotFoundError, InputError, MetadataError
from wkdask.formats.chunk_document import BLOSC, check_new, open_document, whole_numbers
from wkdask.formats.chunk_file import Array, ChunkArray, check_blosc
from wkdask.formats.codecs import LEVELS
from wkdask.formats.n5_block import decode_block, encode_block, header_bytes
from wkdask.formats.n5_document import Layout, build_document, layout_of, parse
from wkdask.formats.n5_group import write_groups
from wkdask.formats.spec import ArraySpec, Codec
from wkdask.geometry.grid import Box, Index
from wkdask.metadata import LayerProperties, VoxelSize
from wkdask.storage import Location

__all__ = ["DOCUMENT", "N5", "N5Array"]

DOCUMENT = "attributes.json"
LARGEST_BLOCK = 32 << 20
"""Bytes of the blocks that tensorstore reads: it makes room for a whole one, however little of it a file has."""


class N5:
    """The format: finds, opens and creates arrays."""

    name = "n5"
    codecs: tuple[str, ...] = ("none", "gzip", "zstd", "lz4", *BLOSC)
    usual_codec = Codec("gzip", 5)  # which all readers of N5 know
    usual_chunk = (64, 64, 64)
    cubic, sharded, exact, further_axes = False, False, True, True
    documents = frozenset({DOCUMENT})

    def detect(self, location: Location) -> bool:
        """Whether an N5 array lies here; groups have the same document, but no dimensions."""
        try:
            return bool(open_document(location / DOCUMENT, lambda document: "dimensions" in document))
        except MetadataError:
            return True  # what is wrong with it, opening tells

    def open(self, location: Location, end: Sequence[int] | None = None) -> N5Array:  # noqa: ARG002 - the document has the shape
        """Open an array by its ``attributes.json``.

        Raises
        ------
        DatasetNotFoundError
            Where there is none.
        MetadataError
            Where the document is not that of an array that we can read.
        """
        found = open_document(location / DOCUMENT, lambda document: parse(document) if "dimensions" in document else None)
        if found is None:
            raise DatasetNotFoundError(f"{location} holds no N5 array: {DOCUMENT} with dimensions is missing. Check the path.")
        return N5Array(location, *found)

    def at(self, location: Location, spec: ArraySpec) -> N5Array:
        """Return the handle of an array that is not there yet; nothing is written.

        Raises
        ------
        InputError
            Where N5 can not store such an array, or we do not write the codec.
        """
        check_new(spec, "N5", self.codecs)
        if spec.fill != 0:
            raise InputError(f"Voxels that N5 does not store are 0, not {spec.fill}. Use a fill of 0.")
        codec = spec.codec
        if codec and codec.level is None and codec.name != "lz4":
            codec = Codec(codec.name, LEVELS.get(codec.name, (0, 9, 5))[2])
        return N5Array(location, replace(spec, codec=codec), layout_of(codec, spec.itemsize))

    def create(self, location: Location, spec: ArraySpec) -> N5Array:
        """Create an array without any unit.

        Raises
        ------
        DatasetExistsError
            Where something lies here already.
        """
        array = self.at(location, spec)
        if (location / DOCUMENT).is_file():
            raise DatasetExistsError(f"{location} exists already. Choose another place, or delete it first.")
        (location / DOCUMENT).write_bytes(build_document(array.spec, array.layout), array.scratch)
        return array

    def write_groups(self, dataset: Location, layer: LayerProperties, voxel_size: VoxelSize) -> None:
        """Write the attributes of dataset and layer, and of the magnifications in the layer's folder."""
        write_groups(dataset, layer, voxel_size)


@dataclass(frozen=True, slots=True)
class N5Array(ChunkArray):
    """An open array; see `wkdask.formats.spec.ArrayHandle`.

    Examples
    --------
    >>> spec = ArraySpec((1, 40, 40, 40), "uint16", tuple("cxyz"), (1, 32, 32, 32), (1, 32, 32, 32))
    >>> import numpy as np
    >>> array = N5().create(Location("memory://n5/color/1"), spec)
    >>> array.write(Box((0, 30, 0, 0), (1, 40, 1, 1)), np.ones((1, 10, 1, 1), "uint16"))
    >>> list(array.written_units()), int(array.read(spec.grid.box).sum())
    ([(0, 0, 0, 0), (0, 1, 0, 0)], 10)
    >>> array.unit_location((0, 1, 0, 0)).stat().size - header_bytes(4) == 1 * 8 * 32 * 32 * 2  # cut off at the array's end
    True
    """

    layout: Layout = field(default_factory=Layout)

    document: ClassVar[str] = DOCUMENT
    driver: ClassVar[str] = "n5"

    @property
    def for_tensorstore(self) -> bool:
        """Whether tensorstore knows the compression, and takes no more memory than we do.

        It knows all but lz4; at damaged xz data it ends the process.
        """
        return self.layout.kind not in ("lz4", "xz") and math.prod(self.spec.chunk) * self.spec.itemsize <= LARGEST_BLOCK

    def extent(self, index: Sequence[int]) -> Box:
        """Return the voxels that the file of a unit holds: those of the chunk that are in the array."""
        return self.spec.grid.unit_box(index).intersect(self.spec.grid.box)

    def check_read(self, box: Box) -> None:
        """Raise DamagedError where a block in blosc says that it is larger than the array's are."""
        if self.layout.kind == "blosc":
            check_blosc(self, box, header_bytes(len(self.spec.shape)))

    def decode(self, data: bytes) -> Array:
        """Return the voxels of a whole chunk, as its file's bytes have them."""
        return decode_block(data, self.spec, self.layout)

    def encode(self, voxels: Array) -> bytes:
        """Return the bytes of a chunk's file."""
        return encode_block(voxels, self.spec, self.layout)

    def resized(self, document: dict[str, Any], shape: Index) -> dict[str, Any]:
        """Return the array's document with another shape."""
        parse(document)
        return {**document, "dimensions": list(whole_numbers("dimensions", list(shape), least=0))}
