"""The chain of page descriptions in a TIFF file: whole, and all pages encoded alike.

For speed tifffile takes the first pages of a long file for all of them, and the pages before a broken link for the
whole file; both would end in wrong voxels without a word.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wkdask.errors import CorruptImageError

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffFrame, TiffPage

LAYOUT_TAGS = frozenset([256, 257, 258, 259, 262, 266, 277, 278, 284, 317, 322, 323, 338, 339, 347, 530])
"""Size, bits, compression, colours, bit order, samples, strips, planes, predictor, tiles, alpha, format, JPEG."""


def refuse_lost_pages(path: str, size: int, file: TiffFile) -> None:
    """Raise CorruptImageError where the chain of pages leads out of the file.

    Parameters
    ----------
    path, size
        For the message.
    file
        Opened by tifffile.
    """
    place = file.pages.next_page_offset
    if place is None:
        return
    file.filehandle.seek(place)
    link = file.filehandle.read(file.tiff.offsetsize)
    if link != bytes(file.tiff.offsetsize):
        raise CorruptImageError(
            f"'{path}' is truncated: the description of page {len(file.pages)} is missing, the file has {size} bytes. "
            "Write the file anew, or leave it out."
        )


def refuse_uneven_pages(file: TiffFile, first: TiffPage, pages: Sequence[TiffPage | TiffFrame]) -> None:
    """Raise ValueError where a page is encoded in another way than the first.

    Parameters
    ----------
    file
        Opened by tifffile.
    first
        The page that stands for all.
    pages
        All pages of the stack.
    """
    expected = _layout_tags(file, first.offset)
    for index, page in enumerate(pages):
        if page.offset == first.offset or _layout_tags(file, page.offset) == expected:
            continue  # the same to the byte, which needs no parsing
        other = file.pages.get(index, aspage=True)
        if other.hash != first.hash or other.jpegtables != first.jpegtables:
            raise ValueError(f"page {index} has another shape, type or compression than the first")


def _layout_tags(file: TiffFile, offset: int) -> list[bytes]:
    """Return the raw tags that decide how the bytes of a page are decoded."""
    tiff, handle = file.tiff, file.filehandle
    handle.seek(offset)
    (count,) = struct.unpack(tiff.tagnoformat, handle.read(tiff.tagnosize))
    tags = handle.read(count * tiff.tagsize)
    starts = range(0, len(tags), tiff.tagsize)
    code = struct.Struct(tiff.tagformat1[:2])
    return [tags[start : start + tiff.tagsize] for start in starts if code.unpack_from(tags, start)[0] in LAYOUT_TAGS]
