"""Where the strips and tiles of all pages of a TIFF file lie."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wkdask.errors import CorruptImageError
from wkdask.images.byte_source import ByteSource
from wkdask.images.picture import LARGEST_RATIO
from wkdask.images.tiff_axes import Planes
from wkdask.images.tiff_directory import INTEGERS, LAYOUT_TAGS, LSM_TAG, Directory
from wkdask.images.tiff_layout import TiffLayout

STRIPS, STRIP_COUNTS, TILES, TILE_COUNTS = 273, 279, 324, 325
Places = tuple[NDArray[np.int64], NDArray[np.int64]]


def places_of(path: str, source: ByteSource, directories: list[Directory], planes: Planes, layout: TiffLayout) -> Places:
    """Return offsets and byte counts of all segments, as arrays (page, segment).

    Parameters
    ----------
    path
        For messages.
    source
        The file.
    directories
        Those of the planes, in their order; the first stands for all.
    planes
        Where these have no pages of their own, the bytes of all planes follow each other.
    layout
        Of each page.

    Raises
    ------
    CorruptImageError
        If data should lie beyond the end of the file, or more is declared than it can hold.
    ValueError
        If a page is encoded in another way than the first, or numbers of segments contradict each other.
    """
    first = directories[0]
    _refuse_uneven_pages(source, directories)
    code = TILES if TILES in first.entries else STRIPS
    _refuse_impossible_size(path, source.size, planes.count, layout)
    offsets = _table(source, directories, code)[:, : layout.segments]
    _refuse_other_number("places", offsets, layout)
    code = TILE_COUNTS if TILE_COUNTS in first.entries else STRIP_COUNTS
    if code in first.entries:
        counts = _table(source, directories, code)[:, : layout.segments]
    elif layout.raw:
        counts = np.broadcast_to(layout.needed, (len(directories), layout.segments))
    else:
        raise ValueError("the byte counts of its strips or tiles are missing")
    _refuse_other_number("byte counts", counts, layout)
    if planes.pages is None:
        offsets, counts = _run(source, planes.count, layout, offsets[0], counts[0])
    elif LSM_TAG in first.entries and not layout.raw:
        counts = _counts_between(source, offsets)
    _refuse_truncated(path, source.size, offsets, counts)
    _refuse_small_segments(path, offsets, counts, layout)
    return offsets, counts


def _table(source: ByteSource, directories: list[Directory], code: int) -> NDArray[np.int64]:
    """Return the whole numbers of one tag of all pages, as many for each."""
    kinds = {directory.entries.get(code, (0, 0, b""))[:2] for directory in directories}
    if len(kinds) > 1 or not kinds <= {(kind, count) for kind, count in kinds if kind in INTEGERS and count}:
        rows = [directory.numbers(source, code) for directory in directories]
        if len({len(row) for row in rows}) > 1 or len(rows[0]) == 0:
            raise ValueError("its pages have different numbers of strips or tiles, or none")
        return np.stack(rows)
    ((kind, count),) = kinds
    raw = b"".join([directory.value(source, code) for directory in directories])
    values = np.frombuffer(raw, np.dtype(directories[0].words.order + INTEGERS[kind]))
    if values.dtype.itemsize == 8 and int(values.max()) > 2**62:
        raise ValueError(f"tag {code} has the value {int(values.max())}")
    return values.astype(np.int64).reshape(len(directories), count)


def _refuse_other_number(what: str, table: NDArray[np.int64], layout: TiffLayout) -> None:
    if table.shape[1] != layout.segments:
        raise ValueError(f"it has {table.shape[1]} {what} of strips or tiles a page, {layout.segments} were expected")


def _refuse_uneven_pages(source: ByteSource, directories: list[Directory]) -> None:
    """Raise ValueError where a page is encoded in another way than the first."""
    if len(directories) == 1:
        return
    first = directories[0]
    entries = _layout_entries(first)
    values = first.layout(source)
    for index, directory in enumerate(directories):
        if _layout_entries(directory) != entries and directory.layout(source) != values:
            raise ValueError(f"page {index} has another shape, type or compression than the first")


def _layout_entries(directory: Directory) -> dict[int, object]:
    return {code: entry for code, entry in directory.entries.items() if code in LAYOUT_TAGS}


def _run(source: ByteSource, planes: int, layout: TiffLayout, offsets: NDArray[np.int64], counts: NDArray[np.int64]) -> Places:
    """Return the places of planes that follow each other without descriptions, as ImageJ and tifffile write them."""
    needed = layout.needed
    within = np.concatenate([[0], np.cumsum(needed)[:-1]])
    if not layout.raw or (offsets - offsets[0] != within).any():
        raise ValueError(f"it declares {planes} planes but has 1 page")
    length = int(needed.sum())
    if int(offsets[0]) + planes * length > source.size:
        raise ValueError(
            f"it is truncated: its {planes} planes should reach to byte {int(offsets[0]) + planes * length}, but the file has "
            f"{source.size} bytes"
        )
    del counts  # some writers give the whole run to the only strip
    starts = int(offsets[0]) + np.arange(planes, dtype=np.int64) * length
    return starts[:, None] + within, np.broadcast_to(needed, (planes, len(needed)))


def _counts_between(source: ByteSource, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the distance of each place from the next one: compressed LSM files count decoded bytes."""
    ordered = np.unique(np.append(offsets.ravel(), source.size))
    following = ordered[np.minimum(np.searchsorted(ordered, offsets, side="right"), len(ordered) - 1)]
    return following - offsets


def _refuse_impossible_size(path: str, size: int, planes: int, layout: TiffLayout) -> None:
    declared = planes * layout.page_bytes
    if declared > size * LARGEST_RATIO:
        raise CorruptImageError(
            f"'{path}' declares {declared} bytes of image data but is {size} bytes long; it is truncated or damaged. "
            "Write the file anew, or leave it out."
        )


def _refuse_truncated(path: str, size: int, offsets: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
    ends = offsets + counts
    if int(ends.max()) > size:
        page = int(np.argmax(ends.max(axis=1)))
        raise CorruptImageError(
            f"'{path}' is truncated: the data of page {page} should reach to byte {int(ends.max())}, but the file has "
            f"{size} bytes. Write the file anew, or leave it out."
        )


def _refuse_small_segments(path: str, offsets: NDArray[np.int64], counts: NDArray[np.int64], layout: TiffLayout) -> None:
    """Refuse strips and tiles that can not hold their rows; those without any place were never written."""
    empty = counts == 0
    if (offsets[empty] != 0).any():
        raise ValueError("some of its strips or tiles have 0 bytes")
    if layout.raw and ((counts < layout.needed) & ~empty).any():
        raise CorruptImageError(
            f"'{path}' has strips or tiles with fewer bytes than their rows need, {int(counts[~empty].min())} instead of "
            f"{int(layout.needed.min())}. Write the file anew, or leave it out."
        )
