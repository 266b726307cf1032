"""What the voxels of a TIFF page are, and whether they can be decoded here."""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from wkdask.errors import UnsupportedImageDataError, UnsupportedImageFormatError
from wkdask.images.picture import Form
from wkdask.images.tiff_layout import JPEG, TiffLayout, shared_layout

if TYPE_CHECKING:
    from tifffile import TiffPage

DTYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64")
WIDENED = {"bool": "uint8", "float16": "float32"}
MINISWHITE, MINISBLACK, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6
ALPHA = (1, 2)
WEBP = 50001
FAX = (2, 3, 4)
NOTES = {
    MINISWHITE: "white is zero in these files; values are taken as they are",
    PALETTE: "these files have a colour palette; its indices are taken as values",
}
LARGEST_TILE = 1 << 26
"""Bytes of a tile that is larger than its page; real ones are smaller."""


def form_of(path: str, page: TiffPage) -> Form:
    """Return shape, channels and dtype of a page as they are read; refuse what has no place in a layer.

    Raises
    ------
    UnsupportedImageDataError
        If its colours are neither grey nor RGB, or its voxels of no kind that a layer has.
    """
    samples, photometric = page.samplesperpixel, page.photometric
    fits = photometric in (MINISWHITE, MINISBLACK, RGB) or (photometric == PALETTE and samples == 1)
    if photometric == YCBCR:  # decoders of colour pictures turn it into RGB, nothing else does
        fits = samples == 3 and page.compression in (*JPEG, WEBP) and page.planarconfig == 1
    if not fits or samples < 1:
        raise UnsupportedImageDataError(
            f"'{path}' has {samples} samples of the colour model {getattr(photometric, 'name', photometric)}; grey or RGB was "
            "expected. Save it as grey or RGB."
        )
    if page.imagedepth != 1 or page.tiledepth != 1:
        raise UnsupportedImageDataError(
            f"'{path}' has pages of {page.imagedepth} planes (axes {page.axes}); pages of one plane were expected. "
            "Save each plane as a page."
        )
    name = page.dtype.name if page.dtype is not None else "an unknown type"
    dtype = WIDENED.get(name, name)
    if dtype not in DTYPES or not isinstance(page.bitspersample, int):
        raise UnsupportedImageDataError(
            f"'{path}' has voxels of {page.bitspersample} bit ({name}); expected one of {', '.join(DTYPES)}. Convert it first."
        )
    return Form(page.imagelength, page.imagewidth, samples, dtype)


def colour_of(page: TiffPage) -> str:
    """Return what the samples of a page are: "grey", "rgb", "rgba" or "samples"."""
    samples = page.samplesperpixel
    if samples == 1:
        return "grey"
    if page.is_lsm or page.photometric not in (RGB, YCBCR) or samples < 3:
        return "samples"  # Zeiss calls three fluorescent channels RGB
    alpha = tuple(page.extrasamples)[:1]
    return "rgb" if samples == 3 else "rgba" if samples == 4 and alpha and alpha[0] in ALPHA else "samples"


def notes_of(page: TiffPage) -> tuple[str, ...]:
    """Return what a user should know about the values of a page."""
    notes = [note for number, note in NOTES.items() if page.photometric == number]
    name = page.dtype.name if page.dtype is not None else ""
    if page.bitspersample == 1:
        notes.append("voxels of 1 bit are taken as the values 0 and 1")
    elif name in WIDENED:
        notes.append(f"voxels of {name} become {WIDENED[name]}")
    elif not _whole_bytes(page):
        notes.append(f"voxels of {page.bitspersample} bit become {name}, their values unchanged")
    return tuple(notes)


def _whole_bytes(page: TiffPage) -> bool:
    return page.dtype is not None and page.bitspersample == page.dtype.itemsize * 8 and page.dtype.name not in WIDENED


def layout_of(path: str, page: TiffPage, form: Form, byteorder: str) -> TiffLayout:
    """Return how the bytes of a page lie in strips and tiles, with its decoder.

    Raises
    ------
    UnsupportedImageFormatError
        If its compression needs a library that is not installed.
    ValueError
        If its strips or tiles have impossible sizes.
    """
    tiled = page.is_tiled
    native = "<" if sys.byteorder == "little" else ">"
    straight = page.predictor == 1 and page.fillorder == 1 and _whole_bytes(page)
    raw = page.compression == 1 and straight and not page.is_subsampled
    if not raw:
        _refuse_missing_codec(path, page)
    segment = (page.tilelength, page.tilewidth) if tiled else (min(page.rowsperstrip, form.height), form.width)
    if min(segment) < 1:
        raise ValueError(f"its strips or tiles have {segment[1]} columns and {segment[0]} rows")
    layout = TiffLayout(
        form=form,
        planar=form.channels > 1 and page.planarconfig == 2,
        segment=segment,
        tiled=tiled,
        compression=int(page.compression),
        raw=raw,
        plain_deflate=page.compression in (8, 32946) and straight,
        swapped=byteorder != native and np.dtype(form.dtype).itemsize > 1,
        fill=page.nodata or 0,
    )
    if tiled and layout.segment_bytes > max(LARGEST_TILE, 4 * form.height * layout.form.width * form.channels * 8):
        raise ValueError(f"its tiles of {segment[1]} x {segment[0]} voxels are far larger than its pages")
    return layout if raw else shared_layout(layout, page)


def _refuse_missing_codec(path: str, page: TiffPage) -> None:
    packed = not _whole_bytes(page) and page.bitspersample not in (1, 16)
    if _has_codec(int(page.compression), int(page.predictor), packed):
        return
    name = getattr(page.compression, "name", str(page.compression))
    predictor = f" with predictor {page.predictor}" if page.predictor != 1 else ""
    bits = f" in voxels of {page.bitspersample} bit" if packed else ""
    raise UnsupportedImageFormatError(
        f"'{path}' is compressed by {name}{predictor}{bits}, for which no decoder is installed. "
        'Run pip install "wkdask[images]", or save the file uncompressed or with deflate.'
    )


@cache
def _has_codec(compression: int, predictor: int, packed: bool) -> bool:
    import tifffile

    try:
        if packed or compression in FAX:
            import imagecodecs  # noqa: F401
        if predictor != 1:
            tifffile.TIFF.UNPREDICTORS[predictor]
        if compression not in (1, *FAX):
            tifffile.TIFF.DECOMPRESSORS[compression](b"")
    except (KeyError, ImportError):
        return False
    except Exception:  # noqa: BLE001  nothing can not be decoded, but the decoder is there
        return True
    return True
