"""One picture of a dataset: a column for each magnification, raw voxels above, their segmentation in colours below."""

from __future__ import annotations

import colorsys
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from PIL import Image, ImageDraw, ImageFont

Array = np.ndarray[Any, Any]

WIDTH = 1600
LEFT, RIGHT, GAP, TOP, HEAD, FOOT = 36, 16, 4, 64, 72, 16
PAPER, INK, FAINT, BAR = (17, 19, 23), (236, 238, 241), (150, 157, 168), (255, 255, 255)
STRENGTH = 0.42
"""How much of a voxel's colour is its segment's."""


def colours(labels: Array) -> Array:
    """Return a colour (red, green, blue from 0 to 255) for each label; labels that are near in number differ much."""
    found, at = np.unique(labels, return_inverse=True)
    numbers = found.tolist()
    table = [colorsys.hsv_to_rgb(n * 0.6180339887 % 1, 0.55 + 0.4 * (n * 0.7548776662 % 1), 1.0) for n in numbers]
    return (np.array(table, np.float32) * 255)[at.reshape(labels.shape)]


def overlaid(grey: Array, labels: Array) -> Array:
    """Return an image of both: what has no segment stays grey."""
    base = np.repeat(grey[..., None], 3, axis=-1).astype(np.float32)
    share = np.where(labels > 0, STRENGTH, 0)[..., None]
    lit = colours(labels) * (0.35 + base / 255 * 0.75)
    return np.clip(base * (1 - share) + lit * share, 0, 255).astype(np.uint8)


def draw(raw: xr.DataTree, segmentation: xr.DataTree, title: str, path: Path) -> None:
    """Write the contact sheet.

    Parameters
    ----------
    raw, segmentation
        Layers: trees with a node for each magnification, in it one variable (c, x, y, z) with coordinates in nanometers.
    title
        Stands above.
    path
        A PNG file.
    """
    mags = list(raw.children)
    width = (WIDTH - LEFT - RIGHT - GAP * (len(mags) - 1)) // len(mags)
    extent = _extent(_variable(raw[mags[0]]))
    height = max(1, min(2 * width, round(width * extent["y"] / extent["x"])))
    sheet = Image.new("RGB", (WIDTH, TOP + HEAD + 2 * height + GAP + FOOT), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((LEFT, TOP / 2 + 4), title, INK, ImageFont.load_default(28), anchor="lm")
    depth = extent["z"] / 2
    for column, mag in enumerate(mags):
        grey, labels = (_variable(layer[mag]) for layer in (raw, segmentation))
        left = LEFT + column * (width + GAP)
        _head(pen, left, TOP, mag, grey)
        planes = [layer.isel(c=0).sel(z=depth, method="nearest").transpose("y", "x").values for layer in (grey, labels)]
        for row, image in enumerate((planes[0], overlaid(*planes))):
            sheet.paste(_fitted(image, width, height), (left, TOP + HEAD + row * (height + GAP)))
    for row, text in enumerate(("raw", "raw and segmentation")):
        _sideways(sheet, text, TOP + HEAD + row * (height + GAP) + height // 2)
    _scale_bar(pen, LEFT + 14, TOP + HEAD + height - 14, width / extent["x"], extent["x"])
    sheet.save(path, optimize=True)


def _variable(node: xr.DataTree) -> xr.DataArray:
    (name,) = node.data_vars
    return node[str(name)]


def spacing(array: xr.DataArray, axis: str) -> float:
    """Return the distance of two voxels along an axis."""
    return float(array.attrs["voxel_size"]["xyz".index(axis)] * array.attrs["mag"]["xyz".index(axis)])


def _extent(array: xr.DataArray) -> dict[str, float]:
    return {axis: array.sizes[axis] * spacing(array, axis) for axis in "xyz"}


def _head(pen: ImageDraw.ImageDraw, left: int, top: int, mag: str, array: xr.DataArray) -> None:
    shape = " x ".join(str(array.sizes[axis]) for axis in "xyz")
    edges = " x ".join(f"{spacing(array, axis):g}" for axis in "xyz")
    pen.text((left, top + 6), f"mag {mag}", INK, ImageFont.load_default(22))
    pen.text((left, top + 36), f"{shape} voxels of {edges} nm", FAINT, ImageFont.load_default(17))


def _fitted(image: Array, width: int, height: int) -> Image.Image:
    """Return an image at its size on the sheet: voxels stay squares where they are enlarged."""
    way = Image.Resampling.BOX if image.shape[1] > width else Image.Resampling.NEAREST
    return Image.fromarray(image).convert("RGB").resize((width, height), way)


def _sideways(sheet: Image.Image, text: str, middle: int) -> None:
    font = ImageFont.load_default(18)
    size = (round(font.getlength(text)) + 4, 26)
    strip = Image.new("RGB", size, PAPER)
    ImageDraw.Draw(strip).text((size[0] / 2, 13), text, FAINT, font, anchor="mm")
    strip = strip.rotate(90, expand=True)
    sheet.paste(strip, (5, middle - strip.height // 2))


def _scale_bar(pen: ImageDraw.ImageDraw, left: int, bottom: int, pixels_per_nm: float, extent: float) -> None:
    length = max((nm for e in range(8) for nm in (10**e, 2 * 10**e, 5 * 10**e) if nm <= extent / 4), default=1)
    text = f"{length / 1000:g} µm" if length >= 1000 else f"{length} nm"
    pen.rectangle((left - 1, bottom - 6, left + length * pixels_per_nm + 1, bottom + 1), (0, 0, 0))
    pen.rectangle((left, bottom - 5, left + length * pixels_per_nm, bottom), BAR)
    pen.text((left, bottom - 10), text, BAR, ImageFont.load_default(17), anchor="ls", stroke_width=2, stroke_fill=(0, 0, 0))
