"""Writing boxes into data files of WKW that may hold other voxels already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from wkdask.formats.codecs import encoder
from wkdask.formats.wkw_file import DataFile, in_curve_order
from wkdask.formats.wkw_header import Header
from wkdask.formats.wkw_reader import read_file, voxels_of
from wkdask.formats.wkw_writer import CompressedFile, Source, make_sparse
from wkdask.geometry.grid import Box, Index, Tiling
from wkdask.storage.explained import explained

if TYPE_CHECKING:
    from wkdask.formats.wkw import WkwArray

ANEW_BYTES = 16 << 20
"""Voxels that are held at once where a whole file is encoded anew."""

Array = np.ndarray[Any, Any]


def merge_file(array: WkwArray, index: Index, box: Box, block: Array) -> None:
    """Write the voxels of a box that lies in one unit, and keep all others of the unit; the caller holds its lock."""
    place, file = array.unit_location(index), array.file(index)
    if file is None and not block.view(f"u{block.dtype.itemsize}").any():  # of bits: -0.0 is a value
        return
    raw = not (file.header if file else array.header).compressed
    inside = box.relative_to(array.spec.grid.unit_box(index).start)
    if raw and place.is_local:
        if file is None:
            make_sparse(place, array.header, array.scratch)
            file = array.file(index)
        if file is not None:
            _write_in_place(file, inside, block)
    elif file is None or (file.header.compressed and array.header.compressed):
        _write_over(array, index, file, inside, block)
    else:
        _write_anew(array, index, file, box, block)


def _write_in_place(file: DataFile, box: Box, block: Array) -> None:
    """Change just the blocks of a raw file that a box meets."""
    header = file.header
    with explained(file.place, "written"), open(file.place.url, "r+b", buffering=0) as out:

        def stored(number: int) -> bytes:
            out.seek(file.start(number))
            data: bytes = out.read(header.block_bytes)
            return data

        for number, region in _blocks(header, box):
            hit = region.intersect(box)
            whole = bytes(header.block_bytes) if hit == region else stored(number)
            voxels = voxels_of(header, bytearray(whole))
            voxels[hit.relative_to(region.start).slices] = block[hit.relative_to(box.start).slices]
            out.seek(file.start(number))
            out.write(voxels.T.data)


def _write_over(array: WkwArray, index: Index, file: DataFile | None, box: Box, block: Array) -> None:
    """Replace a file by one with new blocks where a box meets them; the others are copied encoded."""
    place, header = array.unit_location(index), array.header
    before: list[Source] = []
    if file is not None and file.ends is not None:
        ends = file.ends
        rows = np.stack([np.arange(header.block_count), ends[:-1], np.diff(ends)], 1).astype("<u8")
        before = [(place.read_bytes, rows)]
    encode = encoder(array.spec.codec)
    with place.writer(array.scratch) as out, closing(CompressedFile(out, header, array.scratch)) as blocks:
        for number, region in _blocks(header, box):
            hit = region.intersect(box)
            voxels = voxels_of(header, bytearray(header.block_bytes))
            if file is not None and hit != region:
                read_file(file, region, voxels)
            voxels[hit.relative_to(region.start).slices] = block[hit.relative_to(box.start).slices]
            blocks.append(number, encode(voxels.T.data.cast("B")))
        blocks.publish(before)


def _write_anew(array: WkwArray, index: Index, file: DataFile, box: Box, block: Array) -> None:
    """Replace a file by one of the array's own block type, with a box of new voxels."""
    unit, header = array.spec.grid.unit_box(index), array.header
    edge = header.block
    while edge < header.block * header.blocks and 8 * edge**3 * header.itemsize <= ANEW_BYTES:
        edge *= 2
    with array.unit(index, array.scratch) as out:
        for number in range(len(cubes := Tiling(unit, (header.channels, edge, edge, edge)))):
            region = cubes.box(number)
            voxels = np.empty(region.shape, header.dtype, order="F")
            read_file(file, region.relative_to(unit.start), voxels)
            hit = region.intersect(box)
            if hit.size:
                voxels[hit.relative_to(region.start).slices] = block[hit.relative_to(box.start).slices]
            out.put(region, voxels)


def _blocks(header: Header, box: Box) -> Iterator[tuple[int, Box]]:
    """Yield number and voxels of each block of a file that a box meets, along the Z-order curve."""
    edge = header.block
    cells = Box(box.start[1:], box.stop[1:]).coarsened((edge,) * 3)
    numbers, order = in_curve_order(cells)
    places = np.stack(np.unravel_index(order, cells.shape[::-1])[::-1], 1) + cells.start
    for number, cell in zip(numbers.tolist(), places.tolist(), strict=True):
        start = tuple(i * edge for i in cell)
        yield number, Box((0, *start), (header.channels, *(a + edge for a in start)))
