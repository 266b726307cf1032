"""Which magnification has the voxels of a physical size."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wkdask.errors import InputError
from wkdask.geometry import Mag, Vec3Float
from wkdask.metadata import LengthUnit

ResolutionLike = float | str | Sequence[float]

_NUMBER = r"[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?"
_TEXT = re.compile(rf"\s*({_NUMBER}(?:\s*[,x×]\s*{_NUMBER}){{0,2}})\s*([^\W\d_]*)\s*")

MAX_TEXT = 200

ROUNDING = 1 + 1e-9
"""Edges that differ by less are equal: 0.1 µm and 100 nm."""


def parse_resolution(resolution: ResolutionLike) -> Vec3Float:
    """Return the edges of a voxel in nanometer, along x, y, z.

    Parameters
    ----------
    resolution
        A number for all three axes, or three, in nanometer; or text with a unit.

    Raises
    ------
    InputError
        Where this is no such thing.

    Examples
    --------
    >>> parse_resolution("0.1 µm"), parse_resolution("4 x 4 x 35 nm")
    (Vec3Float(100.0, 100.0, 100.0), Vec3Float(4.0, 4.0, 35.0))
    """
    try:
        edges = _from_text(resolution) if isinstance(resolution, str) else _from_numbers(resolution)
    except InputError:  # which is a ValueError, and says that there is no such unit
        raise
    except (TypeError, ValueError, OverflowError):
        edges = []
    if len(edges) != 3 or not all(math.isfinite(edge) and edge > 0 for edge in edges):
        shown = repr(resolution)
        raise InputError(
            f"{shown if len(shown) <= 80 else shown[:79] + '…'} is no resolution: it must be one positive number or three. "
            'Give nanometer, such as 32 or (4, 4, 35), or text with a unit, such as "0.1 µm".'
        )
    return Vec3Float(*edges)


def _from_text(text: str) -> list[float]:
    found = _TEXT.fullmatch(text) if len(text) < MAX_TEXT else None
    if found is None:
        return []
    unit = LengthUnit.parse(found[2]) if found[2] else LengthUnit.NANOMETER
    edges = [float(number) * unit.in_nanometer for number in re.split("[,x×]", found[1])]
    return edges * 3 if len(edges) == 1 else edges


def _from_numbers(resolution: Any) -> list[float]:
    if isinstance(resolution, Sequence) or np.ndim(resolution):
        return [float(edge) for edge in resolution]
    return [] if isinstance(resolution, bool) else [float(resolution)] * 3


def choose_mag(edges: Mapping[Mag, Vec3Float], wanted: Vec3Float) -> Mag:
    """Return the coarsest magnification whose voxels are small enough.

    Small enough is, along each axis, what was asked for, or what the layer has at best. Where no magnification is small enough
    along all axes, which takes one that is finest along x and another along z, it is the one with the smallest voxels.

    Parameters
    ----------
    edges
        Of the voxels of each magnification.
    wanted
        In the same unit.

    Examples
    --------
    >>> edges = {Mag(m): Vec3Float(*(n * e for n, e in zip(Mag(m), (4, 4, 35)))) for m in (1, "4-4-1", "8-8-1", "16-16-2")}
    >>> [str(choose_mag(edges, Vec3Float(w, w, w))) for w in (1, 4, 31, 32, 1000)]
    ['1', '1', '4-4-1', '8-8-1', '16-16-2']
    """
    best = [min(edge[axis] for edge in edges.values()) for axis in range(3)]
    limits = [max(w, b) * ROUNDING for w, b in zip(wanted, best, strict=True)]
    fine = [mag for mag, edge in edges.items() if all(e <= limit for e, limit in zip(edge, limits, strict=True))]
    return max(fine, key=_coarseness) if fine else min(edges, key=_coarseness)


def _coarseness(mag: Mag) -> tuple[int, tuple[int, ...]]:
    """Return mag-1 voxels in one voxel; among equals `Mag.sort_key` decides."""
    return mag.to_vec3_int().prod(), mag.sort_key
