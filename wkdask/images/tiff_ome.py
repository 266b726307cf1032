"""OME-XML: which page of a TIFF file is which plane, how large voxels are, and what channels are called.

Specification: https://docs.openmicroscopy.org/ome-model/latest/ome-tiff/specification.html
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from wkdask.errors import UnsupportedImageDataError
from wkdask.images.physical import nanometer

ORDERS = ("XYZCT", "XYZTC", "XYCTZ", "XYCZT", "XYTCZ", "XYTZC")


@dataclass(frozen=True, slots=True)
class OmeImage:
    """The first image of an OME-XML text.

    Attributes
    ----------
    axes
        Letters and extents around the plane, the slowest first, those of extent 1 included.
    pages
        For each plane, in the order of the axes, the index of its page in the file.
    size
        Rows and columns of a plane.
    samples
        Channels that lie together in one plane.
    others
        Names of the images that follow.
    """

    axes: tuple[tuple[str, int], ...]
    pages: NDArray[np.int64]
    size: tuple[int, int]
    samples: int
    voxel_size: tuple[float, float, float] | None
    channel_colors: tuple[tuple[int, int, int] | None, ...]
    channel_names: tuple[str, ...]
    others: tuple[str, ...]


def read_ome(text: str, pages: int) -> OmeImage:
    """Understand the OME-XML text of a TIFF file.

    Parameters
    ----------
    text
        The description of the first page.
    pages
        How many pages the file holds.

    Returns
    -------
    OmeImage
        Of the first image that has pixels.

    Raises
    ------
    ValueError
        If it is no OME-XML, or its planes are missing.
    UnsupportedImageDataError
        If its planes or the text itself lie in other files.
    """
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("its OME-XML declares entities, which could be of any size")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"its OME-XML is damaged ({error})") from error
    binary = next(_children(root, "BinaryOnly"), None)
    if binary is not None:
        raise UnsupportedImageDataError(f"its OME-XML lies in another file, '{binary.get('MetadataFile', '?')}'")
    images = [(image, pixels) for image in _children(root, "Image") for pixels in islice(_children(image, "Pixels"), 1)]
    if not images:
        raise ValueError("its OME-XML describes no image")
    pixels = images[0][1]
    channels = list(_children(pixels, "Channel"))
    samples = _samples(channels)
    axes = _axes(pixels, samples)
    return OmeImage(
        axes=axes,
        pages=_planes(pixels, axes, pages, root.get("UUID")),
        size=(_integer(pixels, "SizeY"), _integer(pixels, "SizeX")),
        samples=samples,
        voxel_size=_voxel_size(pixels),
        channel_colors=_colors(channels),
        channel_names=_names(channels),
        others=tuple(image.get("Name") or image.get("ID") or "?" for image, _ in images[1:]),
    )


def _children(element: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    return (child for child in element if child.tag.rpartition("}")[2] == name)


def _integer(element: ElementTree.Element, name: str, default: int | None = None) -> int:
    text = element.get(name)
    if text is None:
        if default is not None:
            return default
        text = ""
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise ValueError(f"its OME-XML has {name}={text!r}, a whole number was expected")
    return int(text)


def _samples(channels: list[ElementTree.Element]) -> int:
    counts = {_integer(channel, "SamplesPerPixel", 1) for channel in channels} or {1}
    if len(counts) > 1 or 0 in counts:
        some = " and ".join(map(str, sorted(counts)))
        raise ValueError(f"the channels in its OME-XML have {some} samples; one kind was expected")
    return counts.pop()


def _axes(pixels: ElementTree.Element, samples: int) -> tuple[tuple[str, int], ...]:
    order = pixels.get("DimensionOrder", "")
    if order not in ORDERS:
        raise ValueError(f"its OME-XML has DimensionOrder={order!r}, one of {', '.join(ORDERS)} was expected")
    sizes = {letter: _integer(pixels, "Size" + letter) for letter in "TCZ"}
    if 0 in sizes.values() or sizes["C"] % samples:
        raise ValueError(f"its OME-XML has impossible sizes: {sizes}, {samples} samples a channel")
    sizes["C"] //= samples
    return tuple((letter, sizes[letter]) for letter in order[:1:-1])


def _planes(pixels: ElementTree.Element, axes: tuple[tuple[str, int], ...], pages: int, own: str | None) -> NDArray[np.int64]:
    extents = [extent for _, extent in axes]
    count = math.prod(extents)
    blocks = list(_children(pixels, "TiffData"))
    _refuse_other_files(blocks, own)
    if count > pages:
        raise ValueError(f"its OME-XML declares {count} planes, but the file has {pages} pages")
    planes = np.full(count, -1, dtype=np.int64)
    for block in blocks:
        first = [_integer(block, "First" + letter, 0) for letter, _ in axes]
        if any(index >= extent for index, extent in zip(first, extents, strict=True)):
            raise ValueError(f"its OME-XML places a page at {dict(zip('TCZ', first, strict=True))}, outside of {dict(axes)}")
        begin = int(np.ravel_multi_index(first, extents))
        page = _integer(block, "IFD", 0)
        length = _integer(block, "PlaneCount", 1 if "IFD" in block.attrib else count - begin)
        if begin + length > count or page + length > pages:
            raise ValueError(f"its OME-XML places pages {page} to {page + length} of {pages} at planes {begin} of {count}")
        planes[begin : begin + length] = np.arange(page, page + length)
    if not blocks:
        planes = np.arange(count)
    if planes.min() < 0:
        raise ValueError(f"its OME-XML has no page for {int((planes < 0).sum())} of {count} planes")
    return planes


def _refuse_other_files(blocks: list[ElementTree.Element], own: str | None) -> None:
    """Raise UnsupportedImageDataError where pages lie in several files; a single one is this file, perhaps renamed."""
    found = {(one.text or "").strip(): one.get("FileName", "") for block in blocks for one in _children(block, "UUID")}
    if len(found) > 1 or (len(found) == 1 and own is not None and own.strip() not in found):
        names = sorted({name for name in found.values() if name})
        some = ", ".join(f"'{name}'" for name in names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        raise UnsupportedImageDataError(f"its planes lie in several files ({some or 'without names'})")


def _voxel_size(pixels: ElementTree.Element) -> tuple[float, float, float] | None:
    sizes = [nanometer(pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "µm")) for axis in "XYZ"]
    x, y, z = sizes
    return None if x is None or y is None or z is None else (x, y, z)


def _colors(channels: list[ElementTree.Element]) -> tuple[tuple[int, int, int] | None, ...]:
    """Return the colours, None of channels that have none; OME packs them as signed RGBA of 32 bit."""
    colors: list[tuple[int, int, int] | None] = []
    for channel in channels:
        try:
            packed = int(channel.get("Color", "")) & 0xFFFFFFFF
        except ValueError:
            colors.append(None)
        else:
            colors.append((packed >> 24, packed >> 16 & 255, packed >> 8 & 255))
    return tuple(colors)


def _names(channels: list[ElementTree.Element]) -> tuple[str, ...]:
    names = tuple(channel.get("Name", "").strip() for channel in channels)
    return names if any(names) else ()
