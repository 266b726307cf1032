"""How the bytes of a TIFF page lie in strips and tiles, and the reading of some of its rows."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from wkdask.images.byte_source import read_bytes, read_into
from wkdask.images.picture import Form

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wkdask.images.tiff import TiffPicture


@dataclass(frozen=True, slots=True)
class TiffLayout:
    """Strips or tiles of a page, shared by all pages of a file.

    ``segment`` is (rows, columns) of a strip or tile; ``raw`` means that the bytes are voxels as they lie, perhaps
    ``swapped``; ``planar`` that each channel has segments of its own, one channel after the other.
    """

    form: Form
    planar: bool
    segment: tuple[int, int]
    tiled: bool
    compression: int
    raw: bool
    plain_deflate: bool
    swapped: bool
    decode: Callable[..., Any] | None = field(default=None, compare=False)

    @property
    def row_step(self) -> int:
        """Rows that are decoded together."""
        return 1 if self.raw else min(self.segment[0], self.form.height)

    @property
    def grid(self) -> tuple[int, int]:
        """Segments of one plane: (down, across)."""
        return -(-self.form.height // self.segment[0]), -(-self.form.width // self.segment[1])

    @property
    def samples(self) -> int:
        """Channels that lie together in a segment."""
        return 1 if self.planar else self.form.channels

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of a segment, decoded."""
        return self.segment[1] * self.samples * np.dtype(self.form.dtype).itemsize

    def check(self, picture: TiffPicture) -> None:
        """Raise ValueError if number or size of the segments contradict the form."""
        down, across = self.grid
        expected = down * across * (self.form.channels if self.planar else 1)
        if picture.offsets.shape[1] != expected:
            raise ValueError(f"it has {picture.offsets.shape[1]} strips or tiles a page, {expected} were expected")
        if not self.raw:
            return
        rows = np.full(down, self.segment[0])
        if not self.tiled:
            rows[-1] = self.form.height - (down - 1) * self.segment[0]
        needed = np.tile(np.repeat(rows, across), expected // (down * across)) * self.row_bytes
        if (picture.counts < needed).any():
            raise ValueError("its strips or tiles have fewer bytes than their rows need")


def read_page(picture: TiffPicture, descriptor: int, page: int, rows: tuple[int, int], out: NDArray[Any]) -> None:
    """Fill ``out[y, x, c]`` with the rows ``rows[0] <= y < rows[1]`` of a page.

    Parameters
    ----------
    picture
        The parsed file.
    descriptor
        The file, open for reading.
    page
        Which page.
    rows
        First row and the one after the last, in voxels of the page.
    out
        C-ordered, native byte order, shape (rows, columns, channels).
    """
    layout = picture.layout
    if not layout.raw:
        _read_encoded(picture, descriptor, page, rows, out)
        return
    if layout.tiled or layout.planar:
        _read_raw_pieces(picture, descriptor, page, rows, out)
    else:
        _read_raw_strips(picture, descriptor, page, rows, out)
    if layout.swapped:
        out.byteswap(inplace=True)


def _read_raw_strips(picture: TiffPicture, descriptor: int, page: int, rows: tuple[int, int], out: NDArray[Any]) -> None:
    """Read bytes straight into the result, neighbouring strips by one call."""
    layout, offsets = picture.layout, picture.offsets[page]
    height, row_bytes = layout.segment[0], layout.row_bytes
    target = memoryview(out.reshape(-1).view(np.uint8))
    begin = done = 0
    place = -1
    for strip in range(rows[0] // height, -(-rows[1] // height)):
        first, last = max(rows[0], strip * height), min(rows[1], (strip + 1) * height)
        offset = int(offsets[strip]) + (first - strip * height) * row_bytes
        if offset != place + (done - begin):
            if done > begin:
                read_into(descriptor, target[begin:done], place)
            begin, place = done, offset
        done += (last - first) * row_bytes
    if done > begin:
        read_into(descriptor, target[begin:done], place)


def _pieces(layout: TiffLayout, rows: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    """Yield (segment, channel or 0, its first row, its first column) of all segments that meet the rows."""
    (down, across), (height, width) = layout.grid, layout.segment
    for channel in range(layout.form.channels if layout.planar else 1):
        for row in range(rows[0] // height, -(-rows[1] // height)):
            for column in range(across):
                yield (channel * down + row) * across + column, channel, row * height, column * width


def _read_raw_pieces(picture: TiffPicture, descriptor: int, page: int, rows: tuple[int, int], out: NDArray[Any]) -> None:
    layout = picture.layout
    for segment, channel, y, x in _pieces(layout, rows):
        first, last = max(rows[0], y), min(rows[1], y + layout.segment[0], layout.form.height)
        offset = int(picture.offsets[page, segment]) + (first - y) * layout.row_bytes
        data = read_bytes(descriptor, offset, (last - first) * layout.row_bytes)
        block = np.frombuffer(data, out.dtype).reshape(last - first, layout.segment[1], layout.samples)
        _place(layout, block, (first - rows[0], x, channel), out)


def _place(layout: TiffLayout, block: NDArray[Any], at: tuple[int, int, int], out: NDArray[Any]) -> None:
    y, x, channel = at
    target = out[y : y + len(block), x : x + layout.segment[1]]
    if layout.planar:
        target[..., channel] = block[:, : target.shape[1], 0]
    else:
        target[...] = block[:, : target.shape[1]]


def _read_encoded(picture: TiffPicture, descriptor: int, page: int, rows: tuple[int, int], out: NDArray[Any]) -> None:
    layout = picture.layout
    for segment, channel, y, x in _pieces(layout, rows):
        first, last = max(rows[0], y), min(rows[1], y + layout.segment[0], layout.form.height)
        count = int(picture.counts[page, segment])
        data = read_bytes(descriptor, int(picture.offsets[page, segment]), count) if count else None
        block = _decoded(picture, data, segment, min(layout.segment[0], layout.form.height - y))
        _place(layout, block[first - y : last - y], (first - rows[0], x, channel), out)


def _decoded(picture: TiffPicture, data: bytearray | None, segment: int, rows: int) -> NDArray[Any]:
    """Return the voxels of one segment as an array (rows, columns, channels), perhaps in foreign byte order."""
    layout = picture.layout
    if layout.plain_deflate and data is not None:
        held = layout.segment[0] if layout.tiled else rows
        wanted = held * layout.row_bytes
        stream = zlib.decompressobj()
        raw = stream.decompress(data, wanted)
        if len(raw) != wanted:
            raise ValueError(f"a piece of {wanted} bytes has {len(raw)} after decompression")
        dtype = np.dtype(layout.form.dtype)
        block = np.frombuffer(raw, dtype.newbyteorder("S") if layout.swapped else dtype)
        return block.reshape(held, layout.segment[1], layout.samples)
    if layout.decode is None:
        raise ValueError("it has no decoder")
    decoded = layout.decode(None if data is None else bytes(data), segment, jpegtables=picture.jpeg_tables)[0]
    if decoded is None:  # a segment that was never written
        return np.zeros((rows, layout.segment[1], layout.samples), layout.form.dtype)
    result: NDArray[Any] = decoded[0]
    return result
