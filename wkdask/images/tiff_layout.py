"""How the bytes of a TIFF page lie in strips and tiles, and the reading of some of its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from wkdask.images.byte_source import ByteSource, read_bytes, read_into
from wkdask.images.deflate import DeflateStream, inflate
from wkdask.images.jpeg import refuse_other_size
from wkdask.images.picture import Form

JPEG = (6, 7, 34892, 33007)
FAX_OPTIONS = 292
LONG_ROW = 65536
"""Where more bytes of a row than these are not wanted, rows are read one by one."""
STREAMED_FROM = 16 << 20
"""Bytes of a strip that is decoded piece by piece; smaller ones are decoded at once, which is faster."""
BAND = 1 << 20
"""Bytes of whole rows that are read at once for the sake of some columns."""
MOST_ENCODED = 64 << 20
"""Bytes of a whole deflated page that are held while it is decoded; one that takes more is decoded piece by piece."""

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tifffile import TiffPage

    from wkdask.images.tiff import TiffPicture


@dataclass(frozen=True, slots=True)
class TiffLayout:
    """Strips or tiles of a page, shared by all pages of a file.

    ``segment`` is (rows, columns) of a strip or tile; ``raw`` means that the bytes are voxels as they lie, perhaps
    ``swapped``; ``planar`` that each channel has segments of its own, one channel after the other; ``sparse`` that some
    segments were never written and are ``fill``.
    """

    form: Form
    planar: bool
    segment: tuple[int, int]
    tiled: bool
    compression: int
    raw: bool
    plain_deflate: bool
    swapped: bool
    sparse: bool = False
    fill: float = 0
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

    @property
    def segment_bytes(self) -> int:
        """Bytes of a segment, decoded."""
        return self.row_bytes * self.segment[0]

    @property
    def streamed(self) -> bool:
        """Whether a page is a single strip, too large to be held, that can be decoded up to any row in little memory."""
        alone = not self.tiled and not self.planar and self.segment[0] >= self.form.height
        return alone and self.plain_deflate and self.page_bytes > STREAMED_FROM

    @property
    def segments(self) -> int:
        """How many segments a page has."""
        return self.grid[0] * self.grid[1] * (self.form.channels if self.planar else 1)

    @property
    def needed(self) -> NDArray[np.int64]:
        """Bytes that each segment of a page holds, decoded."""
        down, across = self.grid
        rows = np.full(down, self.segment[0], dtype=np.int64)
        if not self.tiled:
            rows[-1] = self.form.height - (down - 1) * self.segment[0]
        return np.tile(np.repeat(rows, across), self.segments // (down * across)) * self.row_bytes

    @property
    def page_bytes(self) -> int:
        """Bytes of a page, decoded."""
        return self.form.height * self.form.width * self.form.channels * np.dtype(self.form.dtype).itemsize


Window = tuple[tuple[int, int], tuple[int, int]]
"""Rows and columns: the first and the one after the last of each."""


def read_page(picture: TiffPicture, source: ByteSource, page: int, window: Window, out: NDArray[Any]) -> None:
    """Fill ``out[y, x, c]`` with a window of a page.

    Parameters
    ----------
    picture
        The parsed file.
    source
        The file, open for reading.
    page
        Which page.
    window
        Rows and columns, in voxels of the page.
    out
        C-ordered, native byte order, shape (rows, columns, channels).
    """
    layout = picture.layout
    if not layout.raw:
        _read_encoded(picture, source, page, window, out)
        return
    if layout.tiled or layout.planar or layout.sparse:
        _read_raw_pieces(picture, source, page, window, out)
    elif window[1] == (0, layout.form.width):
        _read_raw_strips(picture, source, page, window[0], out)
    else:
        _read_raw_columns(picture, source, page, window, out)
    if layout.swapped:
        out.byteswap(inplace=True)


def _read_raw_strips(picture: TiffPicture, source: ByteSource, page: int, rows: tuple[int, int], out: NDArray[Any]) -> None:
    """Read bytes straight into the result, neighbouring strips by one call."""
    layout, offsets = picture.layout, picture.offsets[page]
    height, row_bytes = layout.segment[0], layout.row_bytes
    target = _bytes_of(out)
    begin = done = 0
    place = -1
    for strip in range(rows[0] // height, -(-rows[1] // height)):
        first, last = max(rows[0], strip * height), min(rows[1], (strip + 1) * height)
        offset = int(offsets[strip]) + (first - strip * height) * row_bytes
        if offset != place + (done - begin):
            if done > begin:
                read_into(source, target[begin:done], place)
            begin, place = done, offset
        done += (last - first) * row_bytes
    if done > begin:
        read_into(source, target[begin:done], place)


def _read_raw_columns(picture: TiffPicture, source: ByteSource, page: int, window: Window, out: NDArray[Any]) -> None:
    """Read some columns: long rows one by one, short ones whole and several at once."""
    layout, (rows, columns) = picture.layout, window
    if layout.row_bytes - out[0].nbytes > LONG_ROW:
        skip = columns[0] * (layout.row_bytes // layout.form.width)
        for y in range(*rows):
            strip, row = divmod(y, layout.segment[0])
            place = int(picture.offsets[page, strip]) + row * layout.row_bytes + skip
            read_into(source, _bytes_of(out[y - rows[0]]), place)
        return
    step = max(1, BAND // layout.row_bytes)
    for y in range(rows[0], rows[1], step):
        last = min(y + step, rows[1])
        band = np.empty((last - y, layout.form.width, layout.form.channels), out.dtype)
        _read_raw_strips(picture, source, page, (y, last), band)
        out[y - rows[0] : last - rows[0]] = band[:, columns[0] : columns[1]]


def _bytes_of(array: NDArray[Any]) -> memoryview:
    """Return the bytes of a C-ordered array, writable."""
    view: memoryview = array.reshape(-1).view(np.uint8).data
    return view


def _pieces(layout: TiffLayout, window: Window) -> Iterator[tuple[int, int, int, int]]:
    """Yield (segment, channel or 0, its first row, its first column) of all segments that meet a window."""
    (down, across), (height, width), (rows, columns) = layout.grid, layout.segment, window
    for channel in range(layout.form.channels if layout.planar else 1):
        for row in range(rows[0] // height, -(-rows[1] // height)):
            for column in range(columns[0] // width, -(-columns[1] // width)):
                yield (channel * down + row) * across + column, channel, row * height, column * width


def _read_raw_pieces(picture: TiffPicture, source: ByteSource, page: int, window: Window, out: NDArray[Any]) -> None:
    layout, rows = picture.layout, window[0]
    for segment, channel, y, x in _pieces(layout, window):
        first, last = max(rows[0], y), min(rows[1], y + layout.segment[0], layout.form.height)
        if picture.counts[page, segment] == 0:
            block = np.full((last - first, layout.segment[1], layout.samples), layout.fill, out.dtype)
        else:
            offset = int(picture.offsets[page, segment]) + (first - y) * layout.row_bytes
            data = read_bytes(source, offset, (last - first) * layout.row_bytes)
            block = np.frombuffer(data, out.dtype).reshape(last - first, layout.segment[1], layout.samples)
        _place(layout, block, (first, x, channel), window, out)


def _place(layout: TiffLayout, block: NDArray[Any], at: tuple[int, int, int], window: Window, out: NDArray[Any]) -> None:
    """Copy what a block, whose first row lies in the window, shares with the window's columns."""
    y, x, channel = at
    rows, columns = window
    first, last = max(columns[0], x), min(columns[1], x + layout.segment[1])
    target = out[y - rows[0] : y - rows[0] + len(block), first - columns[0] : last - columns[0]]
    if layout.planar:
        target[..., channel] = block[:, first - x : last - x, 0]
    else:
        target[...] = block[:, first - x : last - x]


def _read_encoded(picture: TiffPicture, source: ByteSource, page: int, window: Window, out: NDArray[Any]) -> None:
    layout, (rows, columns) = picture.layout, window
    straight = layout.plain_deflate and not layout.tiled and not layout.planar and columns == (0, layout.form.width)
    for segment, channel, y, x in _pieces(layout, window):
        height = min(layout.segment[0], layout.form.height - y)
        first, last = max(rows[0], y), min(rows[1], y + height)
        place = int(picture.offsets[page, segment]), int(picture.counts[page, segment])
        whole = straight and last - first == height
        if layout.streamed and place[1] and not (whole and place[1] <= MOST_ENCODED):
            _read_streamed(layout, source, place, window, out)
            continue
        data = read_bytes(source, *place) if place[1] else None
        if whole and data is not None:
            target = out[first - rows[0] : last - rows[0]]
            inflate(data, _bytes_of(target))
            if layout.swapped:
                target.byteswap(inplace=True)
            continue
        block = _decoded(picture, data, segment, height)
        _place(layout, block[first - y : last - y], (first, x, channel), window, out)


def _read_streamed(layout: TiffLayout, source: ByteSource, place: tuple[int, int], window: Window, out: NDArray[Any]) -> None:
    """Decode the only strip of a page no further than to the end of the window, in the memory of the window."""
    (first, last), columns = window
    stream = DeflateStream(source, *place)
    stream.skip(first * layout.row_bytes)
    if columns == (0, layout.form.width):
        stream.read_into(_bytes_of(out))
    else:
        step = max(1, BAND // layout.row_bytes)
        for y in range(0, last - first, step):
            band = np.empty((min(step, last - first - y), layout.form.width, layout.form.channels), out.dtype)
            stream.read_into(_bytes_of(band))
            out[y : y + len(band)] = band[:, columns[0] : columns[1]]
    if last == layout.form.height:
        stream.finish()
    if layout.swapped:
        out.byteswap(inplace=True)


def _decoded(picture: TiffPicture, data: bytearray | None, segment: int, rows: int) -> NDArray[Any]:
    """Return the voxels of one segment as an array (rows, columns, channels), perhaps in foreign byte order."""
    layout = picture.layout
    held = layout.segment[0] if layout.tiled else rows
    dtype = np.dtype(layout.form.dtype)
    if data is None:  # a segment that was never written
        return np.full((held, layout.segment[1], layout.samples), layout.fill, dtype)
    if layout.plain_deflate:
        raw = bytearray(held * layout.row_bytes)
        inflate(data, memoryview(raw))
        block = np.frombuffer(raw, dtype.newbyteorder("S") if layout.swapped else dtype)
        return block.reshape(held, layout.segment[1], layout.samples)
    if layout.decode is None:
        raise ValueError("it has no decoder")
    encoded = bytes(data)
    if layout.compression in JPEG:
        refuse_other_size(encoded, held, layout.segment[1])
    result: NDArray[Any] = layout.decode(encoded, segment, jpegtables=picture.jpeg_tables)[0][0]
    return result


MOST_SHARED = 256
_shared: dict[tuple[object, ...], TiffLayout] = {}


def shared_layout(layout: TiffLayout, page: TiffPage) -> TiffLayout:
    """Return one layout for all files that are encoded alike, so that few decoders (and what they hold) live.

    Parameters
    ----------
    layout
        Without a decoder.
    page
        tifffile's description of a page.

    Returns
    -------
    TiffLayout
        With its decoder.
    """
    jpeg = layout.compression in JPEG
    key = (
        layout,
        page.parent.byteorder,
        page.sampleformat,
        page.bitspersample,
        page.predictor,
        page.fillorder,
        page.photometric,
        tuple(page.extrasamples),
        page.is_jfif if jpeg else None,
        page.subsampling if jpeg else None,
        page.tags.valueof(FAX_OPTIONS),
    )
    known = _shared.get(key)
    if known is None:
        if len(_shared) >= MOST_SHARED:
            _shared.clear()
        known = _shared[key] = replace(layout, decode=page.decode)
    return known
