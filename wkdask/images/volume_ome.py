"""What OME-NGFF metadata say of an image: axes, voxel size, place, channels.

Specification: https://ngff.openmicroscopy.org/0.5/ (and 0.1 to 0.4, whose attributes lie one level higher).
"""

from __future__ import annotations

import math
import re
import sys
from dataclasses import dataclass, replace
from typing import Any

from wkdask.errors import InputError, MetadataError, UnsupportedImageDataError, WkdaskError
from wkdask.images.physical import nanometer

Color = tuple[int, int, int]
KINDS = {"channel": "c", "time": "t"}
WORDS = {"channel": "c", "channels": "c", "time": "t"}
OLD_AXES = ("t", "c", "z", "y", "x")
WHOLE = 1e-3
"""How far from a whole number of voxels a translation may be, in voxels."""


@dataclass(frozen=True, slots=True)
class Channel:
    """How a channel is shown: its name, its colour (0 to 255), and the values that become dark and light."""

    label: str = ""
    color: Color | None = None
    window: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Described:
    """What metadata say of an array.

    Attributes
    ----------
    axes
        What its axes are, in stored order.
    scale
        Edges of a voxel along the stored axes, in `units`; () where they are not told.
    units
        A unit of length for each axis, or None.
    translation
        Where the first voxel's centre lies, along the stored axes, in `units`; () where that is not told.
    channels
        How they are shown, or ().
    """

    axes: tuple[str, ...]
    scale: tuple[float, ...] = ()
    units: tuple[str | None, ...] = ()
    translation: tuple[float, ...] = ()
    channels: tuple[Channel, ...] = ()

    def reversed(self) -> Described:
        """Return what is known of the same array with its axes in the opposite order.

        Examples
        --------
        >>> Described(("z", "y", "x"), (40.0, 4.0, 4.0)).reversed()
        Described(axes=('x', 'y', 'z'), scale=(4.0, 4.0, 40.0), units=(), translation=(), channels=())
        """
        return replace(
            self, axes=self.axes[::-1], scale=self.scale[::-1], units=self.units[::-1], translation=self.translation[::-1]
        )

    @property
    def voxel_size(self) -> tuple[float, float, float] | None:
        """Edges (x, y, z) in nanometer, where all that is needed is told; a missing z is as long as x."""
        edges = {
            axis: nanometer(edge, unit) for axis, edge, unit in zip(self.axes, self.scale, self.units, strict=False) if edge > 0
        }
        x, y = edges.get("x"), edges.get("y")
        z = edges.get("z") if "z" in self.axes else x
        return None if x is None or y is None or z is None else (x, y, z)

    @property
    def offset(self) -> tuple[tuple[int, int, int] | None, str]:
        """Where the first voxel lies, in voxels along x, y, z, and a note where the translation can not be kept."""
        if not any(self.translation) or not self.scale:
            return None, ""
        moved = {a: t / s for a, t, s in zip(self.axes, self.translation, self.scale, strict=True) if s and a in "xyz"}
        exact = [moved.get(axis, 0.0) for axis in "xyz"]
        whole = [round(n) if math.isfinite(n) and abs(n) < 2**62 else -1 for n in exact]
        if any(abs(n - w) > WHOLE or w < 0 for n, w in zip(exact, whole, strict=True)):
            said = ", ".join(f"{n:g}" for n in exact)
            return None, f"the translation of {said} voxels is no whole number from 0 on, so that the layer begins at 0"
        return (whole[0], whole[1], whole[2]), ""


def chosen_dataset(ome: dict[str, Any], where: str, scale: int = 0) -> tuple[str, Described]:
    """Return path and description of a level of an image: the finest, or that on so many finer ones.

    Raises
    ------
    InputError
        Where there is no such level.
    MetadataError
        Where the metadata do not say what OME-NGFF demands.
    UnsupportedImageDataError
        Where an axis has no place in a layer.
    """
    try:
        multiscale = ome["multiscales"][0]
        datasets = multiscale["datasets"]
        paths = [str(dataset["path"]) for dataset in datasets]
        axes, units = _axes(multiscale.get("axes"), where)
        last = _transformed(multiscale.get("coordinateTransformations"), len(axes), where)
        levels = [_transformed(dataset.get("coordinateTransformations"), len(axes), where) for dataset in datasets]
        channels = _channels(ome.get("omero"))
        space = [index for index, axis in enumerate(axes) if axis in "xyz"]
        sizes = [math.prod(scale[index] for index in space) if scale else 1.0 for scale, _ in levels]
        order = sorted(range(len(sizes)), key=sizes.__getitem__)
        if not order:
            raise ValueError("no datasets")
    except WkdaskError:
        raise
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, OverflowError) as error:
        said = repr(error)[:200]
        raise MetadataError(
            f"{where} has no multiscales as OME-NGFF demands: {said}. Correct them, or give one of its arrays."
        ) from None
    if not 0 <= scale < len(order):
        raise InputError(f"scale is {scale}, but {where} has the levels 0 (the finest) to {len(order) - 1}. Give one of them.")
    edges, translation = levels[order[scale]]
    if last[0]:
        edges = tuple(a * b for a, b in zip(edges or (1.0,) * len(axes), last[0], strict=True))
        translation = tuple(a * b for a, b in zip(translation, last[0], strict=True)) if translation else ()
    if any(last[1]):
        translation = tuple(a + b for a, b in zip(translation or (0.0,) * len(axes), last[1], strict=True))
    return paths[order[scale]], Described(axes, edges, units, translation, channels)


def known_axes(names: list[Any], where: str, kinds: list[Any] | None = None) -> tuple[str, ...]:
    """Return t, c, z, y or x for each name of an axis.

    Raises
    ------
    UnsupportedImageDataError
        Where a name is something else, comes twice, or x or y is missing.

    Examples
    --------
    >>> known_axes(["Time", "channel", "Y", "x"], "a.zarr")
    ('t', 'c', 'y', 'x')
    """
    found = []
    for index, name in enumerate(names):
        lower = str(name).lower()
        found.append(KINDS.get(str(kinds[index]) if kinds else "", WORDS.get(lower, lower)))
    if any(axis not in OLD_AXES for axis in found) or len(set(found)) < len(found) or not {"x", "y"} <= set(found):
        said = ", ".join(str(name)[:20] for name in names[:8])
        raise UnsupportedImageDataError(
            f"{where} has the axes {said}; expected were x, y and what there is of z, c and t, each once. Say which they are "
            "in stored order, such as --axes zyx, in Python axes='zyx'."
        )
    return tuple(found)


def _axes(axes: Any, where: str) -> tuple[tuple[str, ...], tuple[str | None, ...]]:
    if axes is None:  # before 0.3
        return OLD_AXES, (None,) * 5
    named = [axis if isinstance(axis, dict) else {"name": axis} for axis in axes]
    names = known_axes([axis["name"] for axis in named], where, [axis.get("type") for axis in named])
    return names, tuple(unit if isinstance(unit := axis.get("unit"), str) else None for axis in named)


def _transformed(steps: Any, rank: int, where: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the scale and the translation of a list of transformations, each () where there is none."""
    scale: tuple[float, ...] = ()
    translation: tuple[float, ...] = ()
    for step in steps or []:
        kind = step["type"]
        if kind == "identity":
            continue
        if kind not in ("scale", "translation") or kind not in step:
            raise UnsupportedImageDataError(
                f"{where} is placed by a transformation of type {str(kind)[:40]!r}; expected were numbers of a scale and a "
                "translation. Convert it first."
            )
        numbers = tuple(float(number) for number in step[kind])
        good = len(numbers) == rank and all(math.isfinite(n) and (n > 0 or kind == "translation") for n in numbers)
        if not good:
            raise MetadataError(
                f"{where} has the {kind} {str(step[kind])[:80]}, expected {rank} finite numbers"
                f"{' above 0' if kind == 'scale' else ''}. Correct its metadata."
            )
        if kind == "scale":
            scale = numbers
        else:
            translation = numbers
    return scale, translation


def _channels(omero: Any) -> tuple[Channel, ...]:
    """Return how channels are shown; what is not as it should be is left out, as no voxel depends on it."""
    listed = omero.get("channels") if isinstance(omero, dict) else None
    return tuple(map(_channel, listed)) if isinstance(listed, list) else ()


def _channel(told: Any) -> Channel:
    told = told if isinstance(told, dict) else {}
    label, color = told.get("label"), str(told.get("color", "")).removeprefix("#")
    hexadecimal = re.fullmatch(r"[0-9a-fA-F]{6}", color) is not None
    rgb = (int(color[:2], 16), int(color[2:4], 16), int(color[4:], 16)) if hexadecimal else None
    window = told.get("window")
    start, end = (window.get("start"), window.get("end")) if isinstance(window, dict) else (None, None)
    good = (
        isinstance(start, int | float)
        and isinstance(end, int | float)
        and -sys.float_info.max <= start < end <= sys.float_info.max
    )
    return Channel(label if isinstance(label, str) else "", rgb, (start, end) if good else None)  # type: ignore[arg-type]
