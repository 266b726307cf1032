"""Drawings of grids: a box in its units, and a unit in its chunks, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence

from wkdask.geometry.grid import Box
from wkdask.plan.html import Markup, escape, row

EDGE, THINNEST = 120, 10
"""Pixels of the longest edge, and of the shortest."""

GAP = 3
"""Pixels between two lines; where they would be closer, none is drawn."""

DEPTH = 0.5
"""How far one pixel along z goes to the right and up."""


def draw_grid(box: Box, unit: Sequence[int], chunk: Sequence[int], voxel_size: Sequence[float]) -> Markup:
    """Return a box cut into units and, where these are shards, a shard cut into chunks, both to physical proportions.

    Parameters
    ----------
    box
        Along x, y, z, in voxels of the array, counted from the dataset's origin.
    unit, chunk
        Voxels along x, y, z.
    voxel_size
        Edges of a voxel of the array along x, y, z, in any unit.

    Examples
    --------
    >>> "2 x 1 x 1 chunks" in draw_grid(Box((0, 0, 0), (64, 32, 32)), (32, 32, 32), (32, 32, 32), (4, 4, 35))
    True
    """
    if not box.size:
        return Markup()
    units = _times(box.coarsened(unit).shape)
    if tuple(unit) == tuple(chunk):
        return _draw_cuboid(box, unit, voxel_size, f"{units} chunks")
    shard = Box((0, 0, 0), tuple(unit))
    return row(
        _draw_cuboid(box, unit, voxel_size, f"{units} shards"),
        _draw_cuboid(shard, chunk, voxel_size, f"{_times(shard.coarsened(chunk).shape)} chunks in a shard"),
    )


def _times(numbers: Sequence[int]) -> str:
    return " x ".join(map(str, numbers))


def _draw_cuboid(box: Box, step: Sequence[int], voxel_size: Sequence[float], caption: str) -> Markup:
    """Return a box with lines where pieces meet; z goes to the back."""
    extent = [n * s for n, s in zip(box.shape, voxel_size, strict=True)]
    longest = max(extent)
    if not 0 < longest < math.inf:
        return Markup()
    w, h, d = (max(THINNEST, EDGE * e / longest) for e in extent)
    back = d * DEPTH
    ends = zip(box.start, box.stop, step, (w, h, back), strict=True)
    cuts = [_cuts(start, stop, size, pixels) for start, stop, size, pixels in ends]
    lines = [f"M{x * w:.1f} {h + back:.1f}v{-h:.1f}l{back:.1f} {-back:.1f}" for x in cuts[0]]
    lines += [f"M0 {y * h + back:.1f}h{w:.1f}l{back:.1f} {-back:.1f}" for y in cuts[1]]
    lines += [f"M{z * back:.1f} {back - z * back:.1f}h{w:.1f}v{h:.1f}" for z in cuts[2]]
    outline = (
        f"M0 {back:.1f}h{w:.1f}v{h:.1f}h{-w:.1f}zl{back:.1f} {-back:.1f}h{w:.1f}v{h:.1f}l{-back:.1f} {back:.1f}"
        f"M{w:.1f} {back:.1f}l{back:.1f} {-back:.1f}"
    )
    labels = _labels(box, (w, h, back))
    return Markup(
        f'<div><svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(caption)}" width="{w + back + 70:.0f}" '
        f'height="{h + back + 24:.0f}" viewBox="-4 -4 {w + back + 70:.0f} {h + back + 24:.0f}" '
        f'style="color:inherit;overflow:visible" stroke="currentColor" fill="none">'
        f'<path d="{"".join(lines)}" stroke-width="1" stroke-opacity="0.35" />'
        f'<path d="{outline}" stroke-width="1.5" fill="rgba(70,130,220,0.18)" />{labels}</svg>'
        f'<div style="opacity:0.65">{escape(caption)}</div></div>'
    )


def _labels(box: Box, size: tuple[float, float, float]) -> str:
    """Return voxels along each edge: x below, y to the right of the back, z at the lower right."""
    w, h, back = size
    at = ((w / 2, h + back + 14, "middle"), (w + back + 5, h / 2 + 4, "start"), (w + back / 2 + 7, h + back / 2 + 9, "start"))
    return "".join(
        f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" font-size="11" stroke="none" fill="currentColor">{n}</text>'
        for (x, y, anchor), n in zip(at, box.shape, strict=True)
    )


def _cuts(start: int, stop: int, size: int, pixels: float) -> list[float]:
    """Return where multiples of a size lie within an interval, as shares of it; nothing where they lie too dense."""
    if pixels * size < GAP * (stop - start):
        return []
    return [(i * size - start) / (stop - start) for i in range(start // size + 1, -(-stop // size))]
