"""WKW arrays: cubic files of cubic blocks, the format of webknossos-wrap.

Specification: https://github.com/scalableminds/webknossos-wrap

Axes are (c, x, y, z); a unit is a data file, a chunk is a block, and all channels lie in one chunk. No shape is stored. What
has no file, or was never written of a raw file, is 0. Each data file may be raw or compressed on its own account.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np

from wkdask.errors import DatasetExistsError, DatasetNotFoundError, InputError
from wkdask.formats.shard import PartFile
from wkdask.formats.spec import ArraySpec, Codec, Written
from wkdask.formats.wkw_file import DataFile, block_number, open_file
from wkdask.formats.wkw_header import MAX_EDGE, SIZE, Header
from wkdask.formats.wkw_merge import merge_file
from wkdask.formats.wkw_ranged import read_ranged
from wkdask.formats.wkw_reader import read_box
from wkdask.formats.wkw_writer import CompressedFile, RawFile, part_source, write_blocks
from wkdask.formats.writing import UnitFile, require_fit
from wkdask.geometry.grid import Box, Index
from wkdask.metadata import LayerProperties, VoxelSize
from wkdask.storage import WORK_FOLDER, Location
from wkdask.storage.document import exclusively

HEADER = "header.wkw"
UNIT = re.compile(r"z(0|[1-9][0-9]{0,9})/y(0|[1-9][0-9]{0,9})/x(0|[1-9][0-9]{0,9})\.wkw", re.ASCII)


class Wkw:
    """The format: finds, opens and creates arrays."""

    name = "wkw"
    codecs = ("none", "lz4", "lz4hc")
    usual_codec = Codec("lz4hc", 9)
    usual_chunk = (32, 32, 32)
    cubic, sharded, exact, further_axes = True, True, False, False
    documents = frozenset({HEADER})

    def detect(self, location: Location) -> bool:
        """Whether a WKW array lies here."""
        return (location / HEADER).is_file()

    def open(self, location: Location, end: Sequence[int] | None = None) -> WkwArray:
        """Open an array by its ``header.wkw``.

        Parameters
        ----------
        location
            The folder of a magnification.
        end
            Voxels (x, y, z) from the dataset's origin to the end of the layer's box; the array ends with the file that holds
            the last of them. None: with the last file that is there.

        Raises
        ------
        DatasetNotFoundError
            Where there is none.
        DamagedError
            Where the header is not sound.
        InputError
            Where the array would be larger than WKW can be.
        """
        document = location / HEADER
        found = document.read_range(0, SIZE)
        if found is None:
            raise DatasetNotFoundError(f"{location} holds no WKW array: {HEADER} is missing. Check the path.")
        header = Header.parse(found.data, document)
        edge = header.block * header.blocks
        empty = WkwArray(location, header.spec((header.channels, edge, edge, edge)))
        units = [0, 0, 0]
        if end is not None:
            units = [-(-n // edge) for n in end]
        else:
            for index in empty.written_units():
                units = [max(n, i + 1) for n, i in zip(units, index[1:], strict=True)]
        if max(units) * edge > MAX_EDGE:
            raise InputError(
                f"{location} would end at voxel {max(units) * edge}, as its layer's box or the names of its files have it, but "
                f"positions of WKW end at {MAX_EDGE}. Correct the box, or the names."
            )
        return WkwArray(location, header.spec((header.channels, *(n * edge for n in units))))

    def at(self, location: Location, spec: ArraySpec) -> WkwArray:
        """Return the handle of an array that is not there yet; nothing is written.

        Raises
        ------
        InputError
            Where WKW can not store such an array.
        """
        Header.of(spec)
        return WkwArray(location, spec)

    def create(self, location: Location, spec: ArraySpec) -> WkwArray:
        """Create an array without any unit.

        Raises
        ------
        InputError
            Where WKW can not store such an array.
        DatasetExistsError
            Where something lies here already.
        """
        array = self.at(location, spec)
        if (location / HEADER).is_file():
            raise DatasetExistsError(f"{location} exists already. Choose another place, or delete it first.")
        (location / HEADER).write_bytes(array.header.pack(), array.scratch)
        return array

    def write_groups(self, dataset: Location, layer: LayerProperties, voxel_size: VoxelSize) -> None:
        """Write nothing: WKW has no documents but headers."""


@dataclass(frozen=True, slots=True)
class WkwArray:
    """An open array; see `wkdask.formats.spec.ArrayHandle`."""

    location: Location
    spec: ArraySpec

    @property
    def header(self) -> Header:
        """What ``header.wkw`` says."""
        return _header_of(self.spec)

    @property
    def scratch(self) -> Location:
        """Where unfinished files of single writes lie: the dataset's own work folder."""
        return self.location.parent.parent / WORK_FOLDER / "tmp"

    def with_axes(self, axes: tuple[str, ...]) -> WkwArray:
        """Return the array with other names for its axes."""
        return replace(self, spec=replace(self.spec, axes=axes))

    def file(self, index: Sequence[int], *, known: bool = False) -> DataFile | None:
        """Return a unit's file as it is now; None where there is none. See `wkdask.formats.wkw_file.open_file`."""
        return open_file(self.unit_location(index), self.header, known=known)

    def read(self, box: Box, *, keep: bool = True) -> np.ndarray[Any, Any]:
        """Read a box that lies within the array, in stored axes, Fortran-ordered.

        ``keep`` says that its blocks may soon be wanted again; of local files they decode as fast as they are kept.
        """
        return read_box(self, box) if self.location.is_local else read_ranged(self, box, keep=keep)

    def write(self, box: Box, block: np.ndarray[Any, Any]) -> None:
        """Write any box.

        Raw local files are changed in place, in just the blocks that the box meets, so that a reader may see some of them new
        and others old. Other files are replaced: untouched blocks are copied as they are. Writers of one unit take turns, as
        far as the store allows, so that neighbours lose nothing.
        """
        require_fit(block, box, self.spec.dtype)
        for index in self.spec.grid.units(box).cells_of():
            hit = self.spec.grid.unit_box(index).intersect(box)
            with exclusively(self.scratch, self.unit_location(index).url):
                merge_file(self, index, hit, block[hit.relative_to(box.start).slices])

    def resize(self, shape: Index) -> None:
        """Do nothing but check the number of axes: WKW stores no shape."""
        if len(shape) != len(self.spec.shape):
            raise InputError(f"{self.location} has {len(self.spec.shape)} axes, {tuple(shape)} has not. Give one number each.")

    def unit(self, index: Sequence[int], scratch: Location | None = None) -> UnitFile:
        """Return the writer of a whole unit; its bytes lie in ``scratch`` until they are complete."""
        header = self.header
        chunks = partial(CompressedFile, scratch=scratch) if header.compressed else RawFile
        return UnitFile(self.spec, index, self.unit_location(index), scratch, partial(chunks, header=header), block_number)

    def part(self, index: Sequence[int], place: Location, scratch: Location | None = None) -> UnitFile:
        """Return the writer of a part of a unit, any whole chunks of it, into a file of its own."""
        return UnitFile(self.spec, index, place, scratch, PartFile, block_number)

    def join(self, index: Sequence[int], parts: Sequence[Location], scratch: Location | None = None) -> Written:
        """Make a unit of its parts, none of which is decoded."""
        place, header = self.unit_location(index), self.header
        sources = [part_source(part, header) for part in parts]
        with place.writer(scratch) as out:
            written = write_blocks(out, header, sources)
        if not written.size and place.is_file():
            place.delete()
        return written

    def inspect(self, index: Sequence[int]) -> Written | None:
        """Return what a unit's file says of itself; None where there is none.

        The digest is that of header and jump table; of a raw file, which is changed in place, that of its header alone, so
        that only size and time tell whether it was written since.

        Raises
        ------
        DamagedError
            Where header or jump table are not sound.
        """
        file = self.file(index)
        return file.inspect() if file else None

    def unit_location(self, index: Sequence[int]) -> Location:
        """Return the file of a unit."""
        _, x, y, z = index
        return self.location / f"z{z}/y{y}/x{x}.wkw"

    def unit_of(self, path: str) -> Index | None:
        """Return the unit that a path below the array is the file of; None where it is of none.

        Examples
        --------
        >>> spec = ArraySpec((1, 64, 64, 64), "uint8", tuple("cxyz"), (1, 32, 32, 32), (1, 64, 64, 64))
        >>> array = Wkw().at(Location("memory://wkw-unit-of/color/1"), spec)
        >>> array.unit_of("z2/y1/x0.wkw"), array.unit_of("z2/y01/x0.wkw"), array.unit_of("header.wkw")
        ((0, 0, 1, 2), None, None)
        """
        found = UNIT.fullmatch(path)
        return (0, *map(int, found.groups()[::-1])) if found else None

    def written_units(self) -> Iterator[Index]:
        """Yield the grid coordinates of the units that are stored."""
        for z in self.location.names():
            if UNIT.fullmatch(f"{z}/y0/x0.wkw"):
                for y in (self.location / z).names():
                    if UNIT.fullmatch(f"{z}/{y}/x0.wkw"):
                        names = (self.location / z / y).names()
                        yield from filter(None, (self.unit_of(f"{z}/{y}/{x}") for x in names))


@lru_cache(maxsize=256)
def _header_of(spec: ArraySpec) -> Header:
    return Header.of(replace(spec, axes=tuple("cxyz")))
