"""Small image files of many kinds, each with the voxels that were written."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from wkdask.images.byte_source import opened
from wkdask.images.picture import Picture, parsed

Dims = tuple[tuple[str, int], ...]

DTYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64")

LAYOUTS: dict[str, dict[str, Any]] = {
    "one strip": {},
    "strips": {"rowsperstrip": 7},
    "tiles": {"tile": (16, 32)},
    "wide tile": {"tile": (64, 64)},
    "bigtiff": {"bigtiff": True, "rowsperstrip": 5},
    "big endian": {"byteorder": ">", "rowsperstrip": 6},
}

COMPRESSIONS: dict[str, dict[str, Any]] = {
    "raw": {},
    "zlib": {"compression": "zlib"},
    "zlib predictor": {"compression": "zlib", "predictor": True},
    "lzw": {"compression": "lzw"},
    "lzw predictor": {"compression": "lzw", "predictor": True},
    "zstd": {"compression": "zstd"},
    "packbits": {"compression": "packbits"},
    "lzma": {"compression": "lzma"},
    "jpegxl": {"compression": "jpegxl", "compressionargs": {"lossless": True, "level": None}},
    "jpeg2000": {"compression": "jpeg2000", "compressionargs": {"reversible": True}},
    "png": {"compression": "png"},
}


def voxels(*shape: int, dtype: str = "uint16") -> NDArray[Any]:
    """Asymmetric content: no flip, transposition or shift of it equals itself."""
    random = np.random.default_rng(7)
    values = np.arange(math.prod(shape)).reshape(shape) % 89 + random.integers(0, 30, shape)
    return values.astype(dtype)


@dataclass(frozen=True)
class Axes:
    """A file of some axes: how it is written, and what a reader should say of it."""

    axes: str
    shape: tuple[int, ...]
    dims: Dims
    colour: str = "grey"
    options: dict[str, Any] = field(default_factory=dict)

    def write(self, path: Path, data: NDArray[Any], **more: Any) -> None:
        options: dict[str, Any] = {"photometric": "minisblack", "metadata": {"axes": self.axes}} | self.options | more
        tifffile.imwrite(path, data, **options)

    def planes(self, data: NDArray[Any]) -> NDArray[Any]:
        """Return the data as (*dims, y, x, c)."""
        axes = self.axes
        samples = "S" in axes and self.colour != "grey"
        if not samples:
            data, axes = data[..., None], axes + "."
        elif axes.endswith("SYX"):
            data, axes = np.moveaxis(data, -3, -1), axes.replace("SYX", "YXS")
        return data.reshape(*(extent for _, extent in self.dims), *data.shape[-3:])


SHAPED = [
    Axes("YX", (37, 41), ()),
    Axes("ZYX", (3, 37, 41), (("z", 3),)),
    Axes("CYX", (2, 37, 41), (("c", 2),)),
    Axes("CYX", (3, 37, 41), (("c", 3),)),
    Axes("CYX", (4, 37, 41), (("c", 4),)),
    Axes("TYX", (5, 37, 41), (("t", 5),)),
    Axes("TZYX", (2, 3, 37, 41), (("t", 2), ("z", 3))),
    Axes("ZCYX", (3, 2, 37, 41), (("z", 3), ("c", 2))),
    Axes("CZYX", (2, 3, 37, 41), (("c", 2), ("z", 3))),
    Axes("TZCYX", (2, 3, 4, 37, 41), (("t", 2), ("z", 3), ("c", 4))),
    Axes("TCZYX", (2, 3, 4, 37, 41), (("t", 2), ("c", 3), ("z", 4))),
    Axes("TZCYX", (1, 3, 1, 37, 41), (("z", 3),)),
    Axes("QYX", (3, 37, 41), (("z", 3),)),
    Axes("IYX", (3, 37, 41), (("z", 3),)),
    Axes("RYX", (3, 37, 41), (("z", 3),)),
    Axes("TQCYX", (2, 3, 2, 37, 41), (("t", 2), ("z", 3), ("c", 2))),
    Axes("QZYX", (2, 3, 37, 41), (("z", 6),)),
    Axes("RHLYX", (2, 3, 2, 37, 41), (("z", 12),)),
    Axes("YXS", (37, 41, 3), (), "rgb", {"photometric": "rgb"}),
    Axes("YXS", (37, 41, 4), (), "rgba", {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    Axes("YXS", (37, 41, 4), (), "samples", {"photometric": "rgb", "extrasamples": ["unspecified"]}),
    Axes("YXS", (37, 41, 2), (), "samples", {"planarconfig": "contig"}),
    Axes("YXS", (37, 41, 5), (), "samples", {"planarconfig": "contig"}),
    Axes("ZYXS", (3, 37, 41, 3), (("z", 3),), "rgb", {"photometric": "rgb"}),
    Axes("TZYXS", (2, 3, 37, 41, 3), (("t", 2), ("z", 3)), "rgb", {"photometric": "rgb"}),
    Axes("SYX", (3, 37, 41), (), "rgb", {"photometric": "rgb", "planarconfig": "separate"}),
    Axes("SYX", (2, 37, 41), (), "samples", {"planarconfig": "separate"}),
    Axes("ZSYX", (2, 3, 37, 41), (("z", 2),), "rgb", {"photometric": "rgb", "planarconfig": "separate"}),
    Axes("SYX", (3, 37, 41), (("c", 3),)),
]

IMAGEJ = [
    Axes(one.axes, one.shape, one.dims, one.colour, {"imagej": True, "metadata": {"axes": one.axes}} | one.options)
    for one in [
        Axes("YX", (37, 41), ()),
        Axes("ZYX", (3, 37, 41), (("z", 3),)),
        Axes("CYX", (2, 37, 41), (("c", 2),)),
        Axes("TYX", (3, 37, 41), (("t", 3),)),
        Axes("ZCYX", (3, 2, 37, 41), (("z", 3), ("c", 2))),
        Axes("TZYX", (2, 3, 37, 41), (("t", 2), ("z", 3))),
        Axes("TZCYX", (2, 3, 4, 37, 41), (("t", 2), ("z", 3), ("c", 4))),
        Axes("ZYXS", (3, 37, 41, 3), (("z", 3),), "rgb", {"photometric": "rgb"}),
    ]
]

OME = [
    Axes(one.axes, one.shape, one.dims, one.colour, {"ome": True, "metadata": {"axes": one.axes}} | one.options)
    for one in [
        Axes("YX", (37, 41), ()),
        Axes("ZYX", (3, 37, 41), (("z", 3),)),
        Axes("CYX", (2, 37, 41), (("c", 2),)),
        Axes("TCYX", (2, 3, 37, 41), (("t", 2), ("c", 3))),
        Axes("CZYX", (2, 3, 37, 41), (("c", 2), ("z", 3))),
        Axes("ZCYX", (2, 3, 37, 41), (("z", 2), ("c", 3))),
        Axes("TZCYX", (2, 3, 4, 37, 41), (("t", 2), ("z", 3), ("c", 4))),
        Axes("TCZYX", (2, 3, 4, 37, 41), (("t", 2), ("c", 3), ("z", 4))),
        Axes("ZYXS", (3, 37, 41, 3), (("z", 3),), "rgb", {"photometric": "rgb"}),
        Axes("SYX", (3, 37, 41), (), "rgb", {"photometric": "rgb", "planarconfig": "separate"}),
    ]
]


def window_of(picture: Picture, path: Path | str, page: int, rows: tuple[int, int], columns: tuple[int, int]) -> NDArray[Any]:
    """Read a window of a plane into memory that was not zero before."""
    shape = (rows[1] - rows[0], columns[1] - columns[0], picture.form.channels)
    out = np.full(shape, 113, picture.form.dtype)
    with opened(str(path)) as source:
        picture.read(source, page, rows, columns, out)
    return out


def read_whole(path: Path | str) -> NDArray[Any]:
    """Return all planes of a file as (*dims, y, x, c)."""
    picture = parsed(str(path))
    form = picture.form
    planes = [window_of(picture, path, page, (0, form.height), (0, form.width)) for page in range(picture.pages)]
    return np.stack(planes).reshape(*(extent for _, extent in picture.dims), form.height, form.width, form.channels)


def small_files(folder: Path) -> Iterator[Path]:
    """Write a small valid file of each kind that has a structure of its own."""
    plane = voxels(12, 17, dtype="uint8")
    stack, colour = voxels(3, 12, 17), voxels(12, 17, 3, dtype="uint8")
    grey: dict[str, Any] = {"photometric": "minisblack"}
    kinds: dict[str, tuple[NDArray[Any], dict[str, Any]]] = {
        "plain": (plane, grey),
        "stack": (stack, grey),
        "strips": (stack, grey | {"rowsperstrip": 5, "metadata": None}),
        "zlib": (stack, grey | {"compression": "zlib"}),
        "lzw": (stack, grey | {"compression": "lzw", "predictor": True, "rowsperstrip": 4}),
        "zstd": (plane, grey | {"compression": "zstd", "metadata": None}),
        "jpeg": (colour, {"photometric": "ycbcr", "compression": "jpeg", "metadata": None}),
        "planar": (np.moveaxis(colour, 2, 0), {"photometric": "rgb", "planarconfig": "separate"}),
        "tiles": (stack, grey | {"tile": (16, 16), "compression": "zlib"}),
        "bigtiff": (stack, grey | {"bigtiff": True}),
        "bigendian": (stack, grey | {"byteorder": ">", "compression": "packbits"}),
        "imagej": (stack, {"imagej": True, "metadata": {"axes": "ZYX", "spacing": 2.0, "unit": "um"}}),
        "bits": (plane > 50, grey),
    }
    for name, (data, options) in kinds.items():
        tifffile.imwrite(folder / f"{name}.tif", data, **options)
        yield folder / f"{name}.tif"
    tifffile.imwrite(folder / "ome.ome.tif", stack, ome=True, metadata={"axes": "CYX", "PhysicalSizeX": 4.0})
    yield folder / "ome.ome.tif"
    for name in ("grey.png", "grey.bmp", "grey.gif", "grey.jpg"):
        Image.fromarray(plane).save(folder / name)
        yield folder / name
    Image.fromarray(colour).save(folder / "colour.png")
    yield folder / "colour.png"
    frames = [Image.fromarray(plane + value) for value in range(3)]
    frames[0].save(folder / "film.gif", save_all=True, append_images=frames[1:])
    yield folder / "film.gif"


def windows(
    random: np.random.Generator, height: int, width: int, count: int
) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield windows of all sizes, the whole plane among them."""
    yield (0, height), (0, width)
    for _ in itertools.repeat(None, count):
        y0, y1 = sorted(random.integers(0, height + 1, 2).tolist())
        x0, x1 = sorted(random.integers(0, width + 1, 2).tolist())
        yield (y0, y1), (x0, x1)
