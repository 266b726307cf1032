"""TIFF and BigTIFF: parsed by tifffile, read by our own positioned reads.

Specifications: https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf and
https://www.awaresystems.be/imaging/tiff/bigtiff.html
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from wkdask.errors import CorruptImageError, UnsupportedImageDataError, UnsupportedImageFormatError
from wkdask.images.picture import LARGEST_RATIO, Form
from wkdask.images.tiff_directory import refuse_lost_pages, refuse_uneven_pages
from wkdask.images.tiff_layout import TiffLayout, read_page, shared_layout

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tifffile import TiffFile, TiffPage, TiffPageSeries

    from wkdask.images.byte_source import ByteSource

DTYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64")
PLANE_AXES = {"YX": 1, "YXS": 3, "SYX": 3}
STACK_LETTERS = "ZQI"  # z, unknown, and a sequence of images
MINISWHITE, MINISBLACK, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6
NOTES = {
    MINISWHITE: "white is zero in these files; values are taken as they are",
    PALETTE: "these files have a colour palette; its indices are taken as values",
}


@dataclass(frozen=True, slots=True)
class TiffPicture:
    """A parsed TIFF file; ``offsets`` and ``counts`` are the places of its segments as arrays (page, segment)."""

    path: str
    form: Form
    layout: TiffLayout
    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]
    jpeg_tables: bytes | None = None
    notes: tuple[str, ...] = ()

    @property
    def pages(self) -> int:
        """How many planes the file holds."""
        return len(self.offsets)

    @property
    def dims(self) -> tuple[tuple[str, int], ...]:
        """Axes outside of the plane."""
        return (("z", self.pages),) if self.pages > 1 else ()

    @property
    def row_step(self) -> int:
        """Rows that are decoded together."""
        return self.layout.row_step

    @property
    def column_step(self) -> int:
        """Columns that are decoded together."""
        return self.layout.segment[1] if self.layout.tiled else self.form.width

    @property
    def colour(self) -> str:
        """What the samples of a plane are."""
        return "rgb" if self.form.channels == 3 else "grey"

    @property
    def voxel_size(self) -> tuple[float, float, float] | None:
        """Edges (x, y, z) of a voxel in nanometer."""
        return None

    @property
    def channel_colors(self) -> tuple[tuple[int, int, int], ...]:
        """Red, green and blue of each channel."""
        return ()

    @property
    def channel_names(self) -> tuple[str, ...]:
        """A name for each channel."""
        return ()

    @property
    def decoded_bytes(self) -> int:
        """Memory that decoding one plane takes at once where its rows can not be decoded alone."""
        form = self.form
        alone = self.row_step < form.height or self.layout.raw
        return 0 if alone else form.height * form.width * form.channels * np.dtype(form.dtype).itemsize

    def read(self, source: ByteSource, page: int, rows: tuple[int, int], columns: tuple[int, int], out: NDArray[Any]) -> None:
        """Fill ``out[y, x, c]`` with a window of a page."""
        try:
            if columns == (0, self.form.width):
                read_page(self, source, page, rows, out)
                return
            whole = np.empty((rows[1] - rows[0], self.form.width, self.form.channels), self.form.dtype)
            read_page(self, source, page, rows, whole)
            out[...] = whole[:, columns[0] : columns[1]]
        except (OSError, MemoryError):
            raise
        except Exception as error:
            raise CorruptImageError(
                f"Page {page} of '{self.path}' can not be decoded: {_reason(error)}. Write the file anew, or leave it out."
            ) from error


def parse_tiff(path: str, size: int) -> TiffPicture:
    """Learn where the pages of a TIFF file lie; no image data is read.

    Parameters
    ----------
    path
        The file.
    size
        Its length in bytes.

    Returns
    -------
    TiffPicture
        All pages have the same form.

    Raises
    ------
    CorruptImageError
        If it is no TIFF, ends before its data, or claims an impossible size.
    UnsupportedImageDataError
        If its axes, channels or dtype have no place in a stack.
    UnsupportedImageFormatError
        If its compression needs a library that is not installed.
    """
    import tifffile

    if size == 0:
        raise CorruptImageError(f"'{path}' is empty, 0 bytes long; a TIFF was expected. Write the file anew, or leave it out.")
    try:
        with tifffile.TiffFile(path) as file:
            if len(file.series) == 0:
                raise ValueError("it has no pages")
            return _describe(path, size, file)
    except (CorruptImageError, UnsupportedImageDataError, UnsupportedImageFormatError):
        raise
    except (OSError, MemoryError):
        raise
    except Exception as error:
        raise CorruptImageError(
            f"'{path}' can not be read as TIFF: {_reason(error)}. Write the file anew, or leave it out."
        ) from error


def _reason(error: Exception) -> str:
    if str(error) == "incompatible keyframe":  # tifffile's words
        return "its pages have different sizes or numbers of strips"
    return f"{error}".rstrip(".") or type(error).__name__


def _describe(path: str, size: int, file: TiffFile) -> TiffPicture:
    series, page = file.series[0], file.series[0].keyframe
    refuse_lost_pages(path, size, file)
    _refuse_other_axes(path, file, series)
    form = _form(path, page)
    planes = _planes(series)
    layout = _layout(path, page, form, file.byteorder)
    _refuse_impossible_size(path, size, page.nbytes * planes, layout)
    offsets, counts = _places(file, series, page, planes)
    _refuse_truncated(path, size, offsets, counts)
    tables = page.jpegtables
    notes = tuple(note for number, note in NOTES.items() if page.photometric == number)
    picture = TiffPicture(path, form, layout, offsets, counts, tables, notes)
    layout.check(picture)
    return picture


def _refuse_other_axes(path: str, file: TiffFile, series: TiffPageSeries) -> None:
    if len(file.series) > 1:
        shapes = " and ".join(f"{one.axes} {one.shape}" for one in file.series[:2])
        raise UnsupportedImageDataError(
            f"'{path}' holds {len(file.series)} different images ({shapes}); one image or one z-stack was expected. "
            "Save them as separate files."
        )
    plane = series.keyframe.axes
    stack = series.axes.removesuffix(plane)
    if plane not in PLANE_AXES or len(stack) > 1 or stack not in STACK_LETTERS or not series.axes.endswith(plane):
        raise UnsupportedImageDataError(
            f"'{path}' has the axes {series.axes} of shape {series.shape}; only z-stacks of 1 or 3 channels "
            "(YX, YXS, ZYX, ZYXS) can be read for now. Save the planes as one z-stack per channel or time."
        )


def _form(path: str, page: TiffPage) -> Form:
    samples = page.samplesperpixel
    if samples not in (1, 3) or (samples == 3) != ("S" in page.axes):
        raise UnsupportedImageDataError(
            f"'{path}' has {samples} channels a pixel; only z-stacks of 1 or 3 channels can be read for now. "
            "Save it without an alpha channel, or one file per channel."
        )
    if page.photometric not in (MINISWHITE, MINISBLACK, RGB, PALETTE, YCBCR) or (page.photometric == YCBCR and samples != 3):
        raise UnsupportedImageDataError(
            f"'{path}' has the colour model {getattr(page.photometric, 'name', page.photometric)}; grey or RGB was expected. "
            "Save it as grey or RGB."
        )
    name = page.dtype.name if page.dtype is not None else "an unknown type"
    if name not in DTYPES or page.bitspersample != np.dtype(name).itemsize * 8:
        raise UnsupportedImageDataError(
            f"'{path}' has voxels of {page.bitspersample} bit ({name}); expected one of {', '.join(DTYPES)}. Convert it first."
        )
    if samples == 3 and name not in ("uint8", "uint16"):
        raise UnsupportedImageDataError(
            f"'{path}' has 3 channels of {name}; 3 channels must be uint8 or uint16. Save one file per channel."
        )
    return Form(page.imagelength, page.imagewidth, samples, name)


def _layout(path: str, page: TiffPage, form: Form, byteorder: str) -> TiffLayout:
    tiled = page.is_tiled
    native = "<" if sys.byteorder == "little" else ">"
    raw = page.compression == 1 and page.predictor == 1 and page.fillorder == 1 and not page.is_subsampled
    if not raw:
        _refuse_missing_codec(path, page)
    layout = TiffLayout(
        form=form,
        planar=form.channels > 1 and page.planarconfig == 2,
        segment=(page.tilelength, page.tilewidth) if tiled else (min(page.rowsperstrip, form.height), form.width),
        tiled=tiled,
        compression=int(page.compression),
        raw=raw,
        plain_deflate=page.compression in (8, 32946) and page.predictor == 1 and page.fillorder == 1,
        swapped=byteorder != native and np.dtype(form.dtype).itemsize > 1,
    )
    return layout if raw else shared_layout(layout, page)


def _refuse_missing_codec(path: str, page: TiffPage) -> None:
    if _has_codec(int(page.compression), int(page.predictor)):
        return
    name = getattr(page.compression, "name", str(page.compression))
    predictor = f" with predictor {page.predictor}" if page.predictor != 1 else ""
    raise UnsupportedImageFormatError(
        f"'{path}' is compressed by {name}{predictor}, for which no decoder is installed. "
        'Run pip install "wkdask[images]", or save the file uncompressed or with deflate.'
    )


@cache
def _has_codec(compression: int, predictor: int) -> bool:
    import tifffile

    try:
        if predictor != 1:
            tifffile.TIFF.UNPREDICTORS[predictor]
        if compression != 1:
            tifffile.TIFF.DECOMPRESSORS[compression](b"")
    except (KeyError, ImportError):
        return False
    except Exception:  # noqa: BLE001  nothing can not be decoded, but the decoder is there
        return True
    return True


def _planes(series: TiffPageSeries) -> int:
    return int(np.prod(series.shape[: series.axes.index(series.keyframe.axes)], dtype=object))


def _places(file: TiffFile, series: TiffPageSeries, page: TiffPage, planes: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return offsets and byte counts of all segments, as arrays (page, segment)."""
    if series.dataoffset is not None and planes > 1:  # one run of bytes, perhaps with a single directory (ImageJ)
        starts = series.dataoffset + np.arange(planes, dtype=np.int64) * page.nbytes
        counts = np.asarray(page.databytecounts, dtype=np.int64)
        if counts.sum() != page.nbytes:  # some writers give the whole run to the one strip
            counts = np.array([page.nbytes], dtype=np.int64)
        within = np.concatenate([[0], np.cumsum(counts)[:-1]])
        return starts[:, None] + within, np.broadcast_to(counts, (planes, len(counts)))
    pages = [one for one in series.pages if one is not None] if planes > 1 else [page]
    if len(pages) != planes or len(file.pages) != planes or any(one.parent is not file for one in pages):
        raise ValueError(f"it declares {planes} planes but has {len(file.pages)} pages")
    refuse_uneven_pages(file, page, pages)
    offsets = np.array([one.dataoffsets for one in pages], dtype=np.int64)
    counts = np.array([one.databytecounts for one in pages], dtype=np.int64)
    return offsets, counts


def _refuse_impossible_size(path: str, size: int, declared: int, layout: TiffLayout) -> None:
    if declared > size * (1 if layout.raw else LARGEST_RATIO):
        raise CorruptImageError(
            f"'{path}' declares {declared} bytes of image data but is {size} bytes long; it is truncated or damaged. "
            "Write the file anew, or leave it out."
        )


def _refuse_truncated(path: str, size: int, offsets: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
    if offsets.shape != counts.shape or offsets.size == 0:
        raise ValueError(f"it has {offsets.size} offsets for {counts.size} pieces of data")
    ends = offsets + counts
    if int(ends.max()) > size or int(offsets.min()) < 0 or int(counts.min()) < 0:
        page = int(np.argmax(ends.max(axis=1)))
        raise CorruptImageError(
            f"'{path}' is truncated: the data of page {page} should reach to byte {int(ends.max())}, but the file has "
            f"{size} bytes. Write the file anew, or leave it out."
        )
