"""What the pages of a TIFF file are: the axes around the plane, in the words of the program that wrote it.

ImageJ: https://imagej.net/ij/developer/source/ij/io/TiffEncoder.java.html; LSM: the tag CZ_LSMINFO; tifffile: a JSON
text with shape and axes. All of them are only believed where they agree with the pages that are there.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wkdask.errors import UnsupportedImageDataError
from wkdask.images.physical import nanometer
from wkdask.images.picture import Form
from wkdask.images.tiff_ome import OmeImage

NAMES = {"T": "t", "C": "c", "S": "c", "Z": "z"}
IMAGEJ_ORDERS = {"czt": "TZC", "ctz": "ZTC", "zct": "TCZ", "ztc": "CTZ", "tcz": "ZCT", "tzc": "CZT"}  # ours: slowest first
IMAGEJ_EXTENTS = {"T": "frames", "Z": "slices", "C": "channels"}
LSM_STACKS = (0, 3, 6)  # scans along x and y, perhaps in z and time
LSM_MAGICS = (0x00400494C, 0x00300494C)
MOST_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Planes:
    """The planes of a file.

    Attributes
    ----------
    dims
        Axes around the plane, named "t", "c" or "z", the slowest first.
    pages
        The index of the page of each plane; None where all planes lie one behind the other from the data of the first
        page on, which alone has a description.
    """

    dims: tuple[tuple[str, int], ...]
    pages: NDArray[np.int64] | None
    voxel_size: tuple[float, float, float] | None = None
    channel_colors: tuple[tuple[int, int, int] | None, ...] = ()
    channel_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many planes there are."""
        return math.prod(extent for _, extent in self.dims)


def plain_planes(pages: NDArray[np.int64]) -> Planes:
    """Return pages of which nothing is known, as a z-stack."""
    return Planes((("z", len(pages)),) if len(pages) > 1 else (), pages)


def named_dims(axes: str, extents: tuple[int, ...]) -> tuple[tuple[tuple[str, int], ...], tuple[str, ...]]:
    """Give the axes around a plane the names t, c and z.

    Parameters
    ----------
    axes
        A letter for each axis, as tifffile has them, the slowest first.
    extents
        Of the axes; those of extent 1 do not count.

    Returns
    -------
    dims, notes
        Letters without a meaning of their own are z; those next to each other become one z.

    Raises
    ------
    UnsupportedImageDataError
        If letters that stand for the same axis do not lie side by side.

    Examples
    --------
    >>> named_dims("TQC", (2, 5, 1))[0]
    (('t', 2), ('z', 5))
    >>> named_dims("RZC", (2, 5, 3))
    ((('z', 10), ('c', 3)), ('the axes R (2) and Z (5) are taken as one z axis of 10 planes',))
    """
    dims: list[tuple[str, int]] = []
    merged: list[list[str]] = []
    for letter, extent in zip(axes, extents, strict=True):
        if extent == 1:
            continue
        name, text = NAMES.get(letter, "z"), f"{letter} ({extent})"
        if dims and dims[-1][0] == name:
            dims[-1] = name, dims[-1][1] * extent
            merged[-1].append(text)
        elif any(name == known for known, _ in dims):
            shape = " x ".join(map(str, extents))
            raise UnsupportedImageDataError(f"its axes {axes} ({shape}) have several {name} axes that do not lie side by side")
        else:
            dims.append((name, extent))
            merged.append([text])
    notes = tuple(
        f"the axes {' and '.join(texts)} are taken as one {name} axis of {extent} planes"
        for texts, (name, extent) in zip(merged, dims, strict=True)
        if len(texts) > 1
    )
    return tuple(dims), notes


def shaped_planes(text: str, form: Form, planar: bool, pages: NDArray[np.int64]) -> Planes:
    """Understand the JSON text that tifffile writes.

    Parameters
    ----------
    text
        The description of the first page: ``{"shape": [2, 480, 640], "axes": "CYX"}``.
    form
        Of the first page.
    planar
        Whether the samples of the first page lie in planes of their own.
    pages
        All pages that look like the first.

    Raises
    ------
    UnsupportedImageDataError
        If the axes have no place around a plane.
    ValueError
        If the text is damaged, or there are less pages than it tells of.
    """
    shape, axes = _shape_and_axes(text)
    plane: tuple[tuple[str, int], ...] = (("Y", form.height), ("X", form.width))
    if form.channels > 1:
        plane = (("SC", form.channels), *plane) if planar else (*plane, ("SC", form.channels))
    elif shape[-3:] == (form.height, form.width, 1) and axes[-1:] in ("", "S"):
        axes, shape = axes[:-1], shape[:-1]
    outer = len(shape) - len(plane)
    if outer < 0 or shape[outer:] != tuple(extent for _, extent in plane):
        return _unused(text, plain_planes(pages))
    axes = axes or "Q" * outer + "".join(letters[0] for letters, _ in plane)
    if any(letter not in letters for letter, (letters, _) in zip(axes[outer:], plane, strict=True)):
        raise UnsupportedImageDataError(
            f"its axes are {axes} of shape {shape}; planes of rows (Y) and columns (X) were expected at their end"
        )
    dims, notes = named_dims(axes[:outer], shape[:outer])
    count = math.prod(extent for _, extent in dims)
    if count == 1 < len(pages):
        note = f"the {len(pages)} pages were written as images of their own and are taken as one z axis"
        return replace(plain_planes(pages), notes=(note,))
    if count < len(pages):
        notes += (f"the file holds several images; its first {count} pages are read, {len(pages) - count} pages are left out",)
    return Planes(dims, _pages_or_run(count, pages), notes=notes)


def _shape_and_axes(text: str) -> tuple[tuple[int, ...], str]:
    """Return shape and letters, "" where there are none."""
    if text.startswith("shape="):  # as tifffile wrote it long ago
        text = f'{{"shape": [{text[7:-1]}]}}'
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its description begins like JSON but is damaged ({error})") from error
    shape = found.get("shape") if isinstance(found, dict) else None
    if not isinstance(shape, list) or not all(type(one) is int and 0 < one < 10**MOST_DIGITS for one in shape):
        raise ValueError(f"its description has the shape {shape!r:.80}, a list of numbers was expected")
    axes = found.get("axes")
    return tuple(shape), axes.upper() if isinstance(axes, str) and len(axes) == len(shape) else ""


def _pages_or_run(count: int, pages: NDArray[np.int64]) -> NDArray[np.int64] | None:
    if count <= len(pages):
        return pages[:count]
    if len(pages) == 1:
        return None
    raise ValueError(f"it declares {count} planes but has {len(pages)} pages")


def _unused(text: str, planes: Planes) -> Planes:
    note = f"the description ({' '.join(text.split())[:60]}) does not fit the pages and is not used"
    return replace(planes, notes=(*planes.notes, note))


def imagej_planes(text: str, samples: int, pages: NDArray[np.int64], pixels: tuple[float, float]) -> Planes:
    """Understand the description that ImageJ writes.

    Parameters
    ----------
    text
        Lines of ``name=value``.
    samples
        Channels of a plane.
    pages
        All pages that look like the first.
    pixels
        Pixels for each unit along x and y, 0.0 where unknown.
    """
    found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    extents = {letter: _extent(found.get(name)) for letter, name in IMAGEJ_EXTENTS.items()}
    if extents["C"] == samples and math.prod(extents.values()) > max(1, len(pages)):
        extents["C"] = 1  # samples that were declared as channels
    if math.prod(extents.values()) == 1:
        extents["Z"] = max(_extent(found.get("images")), len(pages))
    axes = IMAGEJ_ORDERS.get(found.get("order", "").strip().lower(), "TZC")
    unit = found.get("unit", "")
    x, y, z = (nanometer(value, unit) for value in (*(1 / one if one > 0 else None for one in pixels), found.get("spacing")))
    size = None if x is None or y is None or z is None else (x, y, z)
    dims, notes = named_dims(axes, tuple(extents[letter] for letter in axes))
    count = math.prod(extent for _, extent in dims)
    if len(pages) > 1 and count != len(pages):
        return replace(_unused(text, plain_planes(pages)), voxel_size=size)
    return Planes(dims, _pages_or_run(count, pages), size, notes=notes)


def _extent(text: str | None) -> int:
    text = (text or "1").strip()
    if not (text.isascii() and text.isdigit() and len(text) < MOST_DIGITS and int(text) > 0):
        raise ValueError(f"its ImageJ description has an axis of {text!r} planes, a number was expected")
    return int(text)


def lsm_planes(info: bytes, order: str, form: Form, pages: NDArray[np.int64]) -> Planes:
    """Understand the tag in which a Zeiss LSM file tells its axes.

    Parameters
    ----------
    info
        The value of the tag.
    order
        "<" or ">": the byte order of the file.
    form
        Of a page, whose samples are the channels.
    pages
        All pages but the thumbnails.

    Raises
    ------
    ValueError
        If the axes are those of lines or points in time, or do not fit the pages.
    """
    if len(info) < 90 or struct.unpack_from(order + "I", info)[0] not in LSM_MAGICS:
        raise ValueError("its LSM tag is damaged")
    x, y, z, channels, times = struct.unpack_from(order + "5i", info, 8)
    sizes = struct.unpack_from(order + "3d", info, 40)
    (scan,) = struct.unpack_from(order + "H", info, 88)
    if scan not in LSM_STACKS or (x, y) != (form.width, form.height) or form.channels not in (1, channels):
        raise UnsupportedImageDataError(f"its LSM scan is of type {scan} and {x} x {y} voxels; planes of {form} were expected")
    extents = (times, z, channels if form.channels == 1 else 1)
    if min(extents) < 1 or math.prod(extents) != len(pages):
        raise ValueError(f"its LSM tag tells of (t, z, c) = ({times}, {z}, {channels}), but it has {len(pages)} pages")
    lengths = [nanometer(size, "m") for size in sizes]
    known = lengths[0], lengths[1], lengths[2]
    size = None if known[0] is None or known[1] is None or known[2] is None else (known[0], known[1], known[2])
    dims, notes = named_dims("TZC", extents)
    return Planes(dims, pages, size, notes=notes)


def ome_planes(image: OmeImage, form: Form, sizes: list[tuple[int, int]]) -> Planes:
    """Return the planes that an OME-XML text tells of.

    Parameters
    ----------
    image
        The text, understood.
    form
        Of the first plane.
    sizes
        Rows and columns of each page in the file.

    Raises
    ------
    ValueError
        If it does not fit the pages.
    """
    wrong = [page for page in image.pages.tolist() if sizes[page] != image.size]
    if wrong:
        raise ValueError(
            f"its OME-XML describes planes of {image.size[1]} x {image.size[0]} voxels, but page {wrong[0]} has "
            f"{sizes[wrong[0]][1]} x {sizes[wrong[0]][0]}"
        )
    if image.samples != form.channels:
        raise ValueError(f"its OME-XML tells of {image.samples} samples a voxel, but page {image.pages[0]} has {form.channels}")
    dims, notes = named_dims("".join(letter for letter, _ in image.axes), tuple(extent for _, extent in image.axes))
    if image.others:
        others = ", ".join(f"'{name}'" for name in image.others[:5]) + (" and more" if len(image.others) > 5 else "")
        notes += (f"the file holds {len(image.others) + 1} images; only the first is read, not {others}",)
    colors, names = (image.channel_colors, image.channel_names) if image.samples == 1 else ((), ())
    return Planes(dims, image.pages, image.voxel_size, colors, names, notes)
