"""Landmarks that BigWarp exports, as pairs that coordinate transformations are made from."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from wkdask.errors import InputError
from wkdask.storage import Location

MAX_BYTES = 64 << 20

Point = tuple[float, float, float]


def read_bigwarp_landmarks(
    path: str | os.PathLike[str],
    moving_voxel_size: Sequence[float] = (1, 1, 1),
    fixed_voxel_size: Sequence[float] = (1, 1, 1),
    *,
    storage_options: Mapping[str, Any] | None = None,
) -> list[tuple[Point, Point]]:
    """Return the landmarks of a CSV file of BigWarp as pairs: from the moving image to the fixed one.

    Parameters
    ----------
    path
        File or URL, with a line for each landmark: name, active, and x, y, z in both images. Landmarks that are not active are
        left out.
    moving_voxel_size, fixed_voxel_size
        Edges of a voxel of each image along x, y, z, in the unit of the file; by default the file has voxels.
    storage_options
        Of a URL, as in `Dataset`.

    Returns
    -------
    Source and target of each landmark, in voxels.

    Raises
    ------
    InputError
        The file has something else; the message names the line.

    Examples
    --------
    >>> from pathlib import Path
    >>> _ = Path("landmarks.csv").write_text('"Pt-0","true","8","8","70","80","8","35"')
    >>> read_bigwarp_landmarks("landmarks.csv", moving_voxel_size=(4, 4, 35))
    [((2.0, 2.0, 2.0), (80.0, 8.0, 35.0))]
    """
    sizes = (*_voxel(moving_voxel_size), *_voxel(fixed_voxel_size))
    place = Location.of(path, storage_options)
    stat = place.stat()
    if stat is not None and stat.size > MAX_BYTES:
        raise InputError(f"{place} has {stat.size} bytes; a file of landmarks has {MAX_BYTES} at most. Give another file.")
    try:
        rows = list(csv.reader(io.StringIO(place.read_bytes().decode("utf-8-sig")), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{place} is no CSV file: {str(error)[:200]}. Export the landmarks again.") from None
    return [pair for line, row in enumerate(rows, 1) if row and (pair := _pair(row, sizes, f"{place}, line {line}"))]


def _voxel(size: Sequence[float]) -> Point:
    try:
        x, y, z = map(float, size)
    except (TypeError, ValueError):
        x = y = z = 0.0
    if not all(0 < edge < math.inf for edge in (x, y, z)):
        raise InputError(f"The voxel size {size!r} is not three numbers above 0. Give x, y, z.")
    return x, y, z


def _pair(row: Sequence[str], sizes: Sequence[float], where: str) -> tuple[Point, Point] | None:
    """Return the landmark of a line; None where it is not active."""
    active = row[1].strip().lower() if len(row) == 8 else ""
    if active not in ("true", "false"):
        raise InputError(
            f"{where} has {len(row)} values, expected name, true or false, and x, y, z in both images. Export landmarks in 3D."
        )
    if active == "false":
        return None
    try:
        x, y, z, u, v, w = (float(text) / size for text, size in zip(row[2:], sizes, strict=True))
    except ValueError:
        x = y = z = u = v = w = math.nan
    if not all(map(math.isfinite, (x, y, z, u, v, w))):
        raise InputError(f"{where} has {str(row[2:])[:100]}, expected 6 numbers. Complete the landmark, or make it inactive.")
    return (x, y, z), (u, v, w)
