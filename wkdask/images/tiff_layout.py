"""How the bytes of a TIFF page lie in strips and tiles, and the reading of some of its rows."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from wkdask.images.byte_source import ByteSource, read_bytes, read_into
from wkdask.images.picture import Form

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tifffile import TiffPage

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


def read_page(picture: TiffPicture, source: ByteSource, page: int, rows: tuple[int, int], out: NDArray[Any]) -> None:
    """Fill ``out[y, x, c]`` with the rows ``rows[0] <= y < rows[1]`` of a page.

    Parameters
    ----------
    picture
        The parsed file.
    source
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
        _read_encoded(picture, source, page, rows, out)
        return
    if layout.tiled or layout.planar:
        _read_raw_pieces(picture, source, page, rows, out)
    else:
        _read_raw_strips(picture, source, page, rows, out)
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


def _bytes_of(array: NDArray[Any]) -> memoryview:
    """Return the bytes of a C-ordered array, writable."""
    view: memoryview = array.reshape(-1).view(np.uint8).data
    return view


def _pieces(layout: TiffLayout, rows: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    """Yield (segment, channel or 0, its first row, its first column) of all segments that meet the rows."""
    (down, across), (height, width) = layout.grid, layout.segment
    for channel in range(layout.form.channels if layout.planar else 1):
        for row in range(rows[0] // height, -(-rows[1] // height)):
            for column in range(across):
                yield (channel * down + row) * across + column, channel, row * height, column * width


def _read_raw_pieces(picture: TiffPicture, source: ByteSource, page: int, rows: tuple[int, int], out: NDArray[Any]) -> None:
    layout = picture.layout
    for segment, channel, y, x in _pieces(layout, rows):
        first, last = max(rows[0], y), min(rows[1], y + layout.segment[0], layout.form.height)
        offset = int(picture.offsets[page, segment]) + (first - y) * layout.row_bytes
        data = read_bytes(source, offset, (last - first) * layout.row_bytes)
        block = np.frombuffer(data, out.dtype).reshape(last - first, layout.segment[1], layout.samples)
        _place(layout, block, (first - rows[0], x, channel), out)


def _place(layout: TiffLayout, block: NDArray[Any], at: tuple[int, int, int], out: NDArray[Any]) -> None:
    y, x, channel = at
    target = out[y : y + len(block), x : x + layout.segment[1]]
    if layout.planar:
        target[..., channel] = block[:, : target.shape[1], 0]
    else:
        target[...] = block[:, : target.shape[1]]


def _read_encoded(picture: TiffPicture, source: ByteSource, page: int, rows: tuple[int, int], out: NDArray[Any]) -> None:
    layout = picture.layout
    whole_rows = layout.plain_deflate and not layout.tiled and not layout.planar
    for segment, channel, y, x in _pieces(layout, rows):
        height = min(layout.segment[0], layout.form.height - y)
        first, last = max(rows[0], y), min(rows[1], y + height)
        count = int(picture.counts[page, segment])
        data = read_bytes(source, int(picture.offsets[page, segment]), count) if count else None
        if whole_rows and data is not None and last - first == height:
            target = out[first - rows[0] : last - rows[0]]
            inflate(data, _bytes_of(target))
            if layout.swapped:
                target.byteswap(inplace=True)
            continue
        block = _decoded(picture, data, segment, height)
        _place(layout, block[first - y : last - y], (first - rows[0], x, channel), out)


def _decoded(picture: TiffPicture, data: bytearray | None, segment: int, rows: int) -> NDArray[Any]:
    """Return the voxels of one segment as an array (rows, columns, channels), perhaps in foreign byte order."""
    layout = picture.layout
    held = layout.segment[0] if layout.tiled else rows
    dtype = np.dtype(layout.form.dtype)
    if data is None:  # a segment that was never written
        return np.zeros((held, layout.segment[1], layout.samples), dtype)
    if layout.plain_deflate:
        raw = bytearray(held * layout.row_bytes)
        inflate(data, memoryview(raw))
        block = np.frombuffer(raw, dtype.newbyteorder("S") if layout.swapped else dtype)
        return block.reshape(held, layout.segment[1], layout.samples)
    if layout.decode is None:
        raise ValueError("it has no decoder")
    result: NDArray[Any] = layout.decode(bytes(data), segment, jpegtables=picture.jpeg_tables)[0][0]
    return result


def inflate(data: bytearray, out: memoryview) -> None:
    """Decompress a zlib stream into a buffer that it must fill.

    Parameters
    ----------
    data
        The stream.
    out
        Writable bytes; what the stream holds beyond them is not looked at.

    Raises
    ------
    ValueError
        If the stream is damaged or too short.

    Examples
    --------
    >>> out = bytearray(4)
    >>> inflate(bytearray(zlib.compress(b"wxyz")), memoryview(out)); out
    bytearray(b'wxyz')
    """
    if _libdeflate is not None:
        try:
            if len(_libdeflate(data, out=out)) == len(out):
                return
        except Exception:  # noqa: BLE001  more data than needed, or damage: zlib knows the difference
            pass
    try:
        stream = zlib.decompressobj()
        raw = stream.decompress(data, len(out) + 1)  # one more, so that the checksum at the end is looked at
    except zlib.error as error:
        raise ValueError(f"bad deflate data ({error})") from error
    if len(raw) < len(out) or (len(raw) == len(out) and not stream.eof):
        raise ValueError(f"a piece of {len(out)} bytes ends too early, after {len(raw)} bytes")
    out[:] = raw[: len(out)]


def _find_libdeflate() -> Callable[..., Any] | None:
    """Return the decoder of the optional library, four times as fast as Python's zlib."""
    try:
        from imagecodecs import deflate_decode
    except ImportError:
        return None
    decoder: Callable[..., Any] = deflate_decode
    return decoder


_libdeflate = _find_libdeflate()
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
    jpeg = layout.compression in (6, 7, 34892, 33007)
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
    )
    known = _shared.get(key)
    if known is None:
        known = _shared[key] = replace(layout, decode=page.decode)
    return known
