"""TIFF and BigTIFF: tifffile knows how pages are encoded, the rest is read by our own positioned reads.

Specifications: https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf and
https://www.awaresystems.be/imaging/tiff/bigtiff.html
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from wkdask.errors import CorruptImageError, ImageConversionError, UnsupportedImageDataError
from wkdask.images.byte_source import read_bytes
from wkdask.images.picture import Form, reason_of
from wkdask.images.tiff_axes import Planes, imagej_planes, lsm_planes, ome_planes, plain_planes, shaped_planes
from wkdask.images.tiff_directory import (
    COMPRESSION,
    DESCRIPTION,
    HEIGHT,
    LSM_TAG,
    NEW_SUBFILE_TYPE,
    WIDTH,
    Directory,
    read_directories,
)
from wkdask.images.tiff_form import colour_of, form_of, layout_of, notes_of
from wkdask.images.tiff_layout import JPEG, TiffLayout, read_page
from wkdask.images.tiff_ome import OmeImage, read_ome
from wkdask.images.tiff_places import places_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tifffile import TiffFile, TiffPage

    from wkdask.images.byte_source import ByteSource

STK_TAG = 33629
OTHER_LAYOUTS: dict[str, Any] = {"is_lsm": False, "is_scanimage": False, "is_ndpi": False}
"""Kinds whose pages tifffile would follow on opening, before anything is checked."""


@dataclass(frozen=True, slots=True)
class TiffPicture:
    """A parsed TIFF file; ``offsets`` and ``counts`` are the places of its segments as arrays (page, segment).

    ``held`` is the memory that an unpacked member of a zip file takes.
    """

    path: str
    form: Form
    layout: TiffLayout
    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]
    dims: tuple[tuple[str, int], ...] = ()
    colour: str = "grey"
    voxel_size: tuple[float, float, float] | None = None
    channel_colors: tuple[tuple[int, int, int] | None, ...] = ()
    channel_names: tuple[str, ...] = ()
    jpeg_tables: bytes | None = None
    notes: tuple[str, ...] = ()
    held: int = 0

    @property
    def pages(self) -> int:
        """How many planes the file holds."""
        return len(self.offsets)

    @property
    def row_step(self) -> int:
        """Rows that are decoded together."""
        return self.layout.row_step

    @property
    def column_step(self) -> int:
        """Columns that are decoded together."""
        return min(self.layout.segment[1], self.form.width)

    @property
    def decoded_bytes(self) -> int:
        """Memory that decoding one plane takes at once where its rows can not be decoded alone."""
        layout = self.layout
        if layout.raw or layout.streamed or layout.segment[0] < self.form.height:
            return self.held
        return self.held + layout.segment_bytes + int(self.counts.max())

    def read(self, source: ByteSource, page: int, rows: tuple[int, int], columns: tuple[int, int], out: NDArray[Any]) -> None:
        """Fill ``out[y, x, c]`` with a window of a page."""
        if out.size == 0:
            return
        try:
            read_page(self, source, page, (rows, columns), out)
        except OSError:
            raise
        except Exception as error:
            raise CorruptImageError(
                f"Page {page} of '{self.path}' can not be decoded: {reason_of(error)}. Write the file anew, or leave it out."
            ) from error


def parse_tiff(path: str, source: ByteSource) -> TiffPicture:
    """Learn where the pages of a TIFF file lie; no image data is read.

    Parameters
    ----------
    path
        The file, for messages.
    source
        Its bytes.

    Returns
    -------
    TiffPicture
        All pages have the same form.

    Raises
    ------
    CorruptImageError
        If it is no TIFF, ends before its data, or claims an impossible size.
    UnsupportedImageDataError
        If its axes, channels or dtype have no place in a layer.
    UnsupportedImageFormatError
        If its compression needs a library that is not installed.
    """
    if source.size == 0:
        raise CorruptImageError(f"'{path}' is empty, 0 bytes long; a TIFF was expected. Write the file anew, or leave it out.")
    try:
        return _describe(path, source, read_directories(source))
    except (ImageConversionError, OSError):
        raise
    except Exception as error:
        raise CorruptImageError(
            f"'{path}' can not be read as TIFF: {reason_of(error)}. Write the file anew, or leave it out."
        ) from error


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Say in errors about axes which file has them, and what helps."""
    try:
        yield
    except UnsupportedImageDataError as error:
        raise UnsupportedImageDataError(
            f"'{path}' can not be read: {error}. Save it anew as a TIFF of planes (TZCYX) in one file."
        ) from error


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What the tags of the first page say, apart from the places of its data."""

    form: Form
    layout: TiffLayout
    planes: Planes
    colour: str
    jpeg_tables: bytes | None
    notes: tuple[str, ...]


def _describe(path: str, source: ByteSource, directories: list[Directory]) -> TiffPicture:
    text = directories[0].value(source, DESCRIPTION).rstrip(b"\0 \r\n").decode("utf-8", "replace")
    with _named(path):
        image = read_ome(text, len(directories)) if text.endswith("OME>") else None
    base, same, notes = _pages_alike(source, directories, image)
    said = _meaning(path, source, directories, (base, same, image))
    pages = [base] if said.planes.pages is None else said.planes.pages.tolist()
    offsets, counts = places_of(path, source, [directories[index] for index in pages], said.planes, said.layout)
    sparse = bool((counts == 0).any())
    return TiffPicture(
        path,
        said.form,
        replace(said.layout, sparse=True) if sparse else said.layout,
        offsets,
        counts,
        dims=said.planes.dims,
        colour=said.colour,
        voxel_size=said.planes.voxel_size,
        channel_colors=said.planes.channel_colors,
        channel_names=said.planes.channel_names,
        jpeg_tables=said.jpeg_tables,
        notes=(*said.notes, *notes, *said.planes.notes),
        held=source.held,
    )


Pages = tuple[int, "NDArray[np.int64]", OmeImage | None]
"""The first page of the image, all its pages, and what OME-XML says of them."""
MOST_MEANINGS = 64
_meanings: dict[tuple[object, ...], _Meaning] = {}


def _meaning(path: str, source: ByteSource, directories: list[Directory], pages: Pages) -> _Meaning:
    """Return what the tags say; those of single pages that are alike, as in the slices of a stack, are looked at once."""
    first = directories[0]
    key = None
    if (
        len(directories) == 1
        and pages[2] is None
        and first.number(source, COMPRESSION) not in JPEG
        and min(_size(source, first))
    ):
        key = first.fingerprint(source)  # a JPEG picture, and a page without a size, are described by their data too
    known = _meanings.get(key) if key else None
    if known is None:
        known = _understood(path, source, directories, pages)
        if key:
            if len(_meanings) >= MOST_MEANINGS:
                _meanings.clear()
            _meanings[key] = known
    return known


def _understood(path: str, source: ByteSource, directories: list[Directory], pages: Pages) -> _Meaning:
    import tifffile

    base, same, image = pages
    with source.file() as handle, tifffile.TiffFile(handle, name=os.path.basename(path), **OTHER_LAYOUTS) as file:
        page = _page(file, source, directories, base)
        form = form_of(path, page)
        with _named(path):
            planes = _planes(source, directories, (page, form), same, image)
        layout = layout_of(path, page, form, file.byteorder)
        return _Meaning(form, layout, planes, colour_of(page), page.jpegtables, notes_of(page))


def _page(file: TiffFile, source: ByteSource, directories: list[Directory], index: int) -> TiffPage:
    """Return tifffile's description of a page; it leaves out tags that are damaged, so that they are looked at before."""
    import tifffile

    directories[index].layout(source)
    if index == 0:
        return file.pages.first
    file.filehandle.seek(directories[index].offset)
    return tifffile.TiffPage(file, index=index)


def _pages_alike(
    source: ByteSource, directories: list[Directory], image: OmeImage | None
) -> tuple[int, NDArray[np.int64], tuple[str, ...]]:
    """Return the index of the first page of the image, those of all its pages, and what is left out."""
    if image is not None:
        return int(image.pages[0]), image.pages, ()
    full = [index for index, one in enumerate(directories) if not one.number(source, NEW_SUBFILE_TYPE) & 1]
    full = full or list(range(len(directories)))
    base = directories[full[0]]
    size = _size(source, base)
    alike = [index for index in full if _same_size(source, directories[index], base, size)]
    notes = []
    if len(full) < len(directories):
        notes.append(f"{len(directories) - len(full)} thumbnails or smaller copies in the file are left out")
    if len(alike) < len(full):
        other = min(set(full).difference(alike))
        rows, columns = _size(source, directories[other])
        if alike[-1] > other:
            raise ValueError(f"page {other} has another shape, {columns} x {rows} voxels instead of {size[1]} x {size[0]}")
        notes.append(
            f"the file holds several images; {len(alike)} pages of {size[1]} x {size[0]} voxels are read, "
            f"{len(full) - len(alike)} other pages from {columns} x {rows} voxels on are left out"
        )
    return full[0], np.array(alike, dtype=np.int64), tuple(notes)


def _size(source: ByteSource, directory: Directory) -> tuple[int, int]:
    return directory.number(source, HEIGHT), directory.number(source, WIDTH)


def _same_size(source: ByteSource, one: Directory, base: Directory, size: tuple[int, int]) -> bool:
    same = all(one.entries.get(code) == base.entries.get(code) for code in (WIDTH, HEIGHT))
    return same or _size(source, one) == size


def _planes(
    source: ByteSource,
    directories: list[Directory],
    first: tuple[TiffPage, Form],
    same: NDArray[np.int64],
    image: OmeImage | None,
) -> Planes:
    """Name the axes around the planes, by the metadata of the program that wrote the file."""
    page, form = first
    if image is not None:
        return ome_planes(image, form, [_size(source, one) for one in directories])
    planar = form.channels > 1 and page.planarconfig == 2
    if LSM_TAG in page.tags:
        if source.size >= 2**32:
            raise UnsupportedImageDataError(f"it is an LSM file of {source.size} bytes, whose places do not fit into 32 bit")
        return lsm_planes(_lsm_info(source, page), directories[0].words.order, form, same)
    if page.is_shaped and page.shaped_description:
        return shaped_planes(page.shaped_description, form, planar, same)
    if page.imagej_description:
        ratios = [page.tags.valueof(code) for code in (282, 283)]
        x, y = (one[0] / one[1] if isinstance(one, tuple) and len(one) == 2 and one[1] else 0.0 for one in ratios)
        return imagej_planes(page.imagej_description, form.channels, same, (x, y))
    stk = page.tags.get(STK_TAG)
    if stk is not None and stk.count > 1:
        raise UnsupportedImageDataError(f"it is a MetaMorph stack of {stk.count} planes in one page")
    return plain_planes(same)


def _lsm_info(source: ByteSource, page: TiffPage) -> bytes:
    tag = page.tags[LSM_TAG]
    return bytes(read_bytes(source, tag.valueoffset, min(tag.count, 512)))
