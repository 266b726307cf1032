"""Raw binary files as volumes: voxels one after the other, of a shape and type that only the user knows."""

from __future__ import annotations

import itertools
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wkdask.errors import CorruptImageError, InputError
from wkdask.formats import ArraySpec
from wkdask.geometry import Vec3Int, Vec3IntLike
from wkdask.geometry.grid import Box, Index
from wkdask.images.found import FoundLayer
from wkdask.images.mapping import layer_name
from wkdask.images.volume import Volume
from wkdask.storage import Location
from wkdask.storage.explained import explained

ORDERS = {"F": ("z", "y", "x"), "C": ("x", "y", "z")}
"""Axes from the slowest to the fastest: in Fortran's order, x is the fastest."""
LARGE = np.dtype("float64").itemsize
PAGE_BYTES = 4096
"""What file systems read at least, so that it is worth reading together."""


@dataclass(frozen=True, slots=True)
class RawFile:
    """Voxels in a file without any description; read by runs, so that nothing is held but what was asked for.

    Parameters
    ----------
    location
        The file.
    spec
        What the user says it is; axes from the slowest to the fastest.
    stored
        The dtype with its order of bytes, such as ``>u2``.
    header
        Bytes before the first voxel.
    """

    location: Location
    spec: ArraySpec
    stored: str
    header: int = 0

    def unit_location(self, index: Index) -> Location:  # noqa: ARG002
        """Return the file, as all lies in it."""
        return self.location

    def read(self, box: Box, *, keep: bool = True) -> np.ndarray[Any, Any]:  # noqa: ARG002
        """Read a box, counted from the first voxel, C-ordered in stored axes.

        Raises
        ------
        StorageError
            The file can not be read.
        CorruptImageError
            It ends before the box does.
        """
        out = np.empty(box.shape, self.stored)
        if not out.size:
            return out.astype(self.spec.dtype)
        axis = self._first_whole(box)
        lines = out.reshape(-1, math.prod(box.shape[axis:]))
        steps = [math.prod(self.spec.shape[i + 1 :]) * out.itemsize for i in range(axis + 1)]
        start = self.header + box.start[axis] * steps[axis]
        heads = itertools.product(*map(range, box.start[:axis], box.stop[:axis]))
        with explained(self.location, "read"), open(self.location.local_path, "rb", buffering=0) as file:
            for line, head in zip(lines, heads, strict=True):
                file.seek(start + sum(i * step for i, step in zip(head, steps, strict=False)))
                self._fill(file, line.view(np.uint8).data)
        return out.astype(self.spec.dtype, copy=False)

    def _first_whole(self, box: Box) -> int:
        """Return the axis from which on a box is one run of bytes for each place along the axes before it."""
        axis = len(box.shape) - 1
        while axis and box.shape[axis] == self.spec.shape[axis]:
            axis -= 1
        return axis

    def _fill(self, file: Any, view: memoryview) -> None:
        while view:
            count = file.readinto(view)
            if not count:
                raise CorruptImageError(f"'{self.location}' ends {len(view)} bytes too early. Was it cut off meanwhile?")
            view = view[count:]


def find_raw(
    path: str | os.PathLike[str], shape: Vec3IntLike, dtype: str, order: str = "F", *, header: int = 0, name: str | None = None
) -> FoundLayer:
    """Return the layer that a raw file becomes.

    Parameters
    ----------
    path
        The file.
    shape
        Voxels along x, y, z.
    dtype
        Of a voxel, such as ``uint8``, or with an order of bytes ``>u2``.
    order
        ``F`` where x is the fastest axis in the file, ``C`` where it is z.
    header
        Bytes before the first voxel.
    name
        Of the layer; default: that of the file.

    Raises
    ------
    InputError
        There is no such file, or it is smaller than the shape says, or dtype, order or header are none.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".raw") as file:
    ...     np.arange(24, dtype="uint16").reshape(4, 3, 2).tofile(file.name)
    ...     stack = find_raw(file.name, (2, 3, 4), "uint16", name="em").stack
    ...     stack.shape, stack.read(3, 4, 0, 3)[0, :, :, 0].tolist()
    ((4, 3, 2), [[18, 19], [20, 21], [22, 23]])
    """
    extent, stored = Vec3Int(shape), _stored_dtype(dtype)
    if order not in ORDERS:
        raise InputError(f"The order is {order!r}; expected F, where x is the fastest axis, or C. Give one of them.")
    if not extent.is_positive(strictly_positive=True) or header < 0:
        raise InputError(f"The shape is {extent.to_tuple()} after {header} bytes; expected voxels along all axes. Give others.")
    if "://" in str(path) and not (place := Location.of(str(path))).is_local:
        raise InputError(f"{place} is a URL, and files of raw voxels are read from disks only. Copy it to one first.")
    file = Path(place.url) if "://" in str(path) else Path(path)
    note = _check_size(file, header + extent.prod() * stored.itemsize, f"{extent.to_tuple()} of {stored.name}")
    axes = ORDERS[order]
    lengths = tuple(dict(zip("xyz", extent, strict=True))[axis] for axis in axes)
    chunk = (1, 1, min(lengths[-1], max(1, PAGE_BYTES // stored.itemsize)))
    unit = tuple(-(-n // c) * c for n, c in zip(lengths, chunk, strict=True))
    place = Location.of(file.absolute())
    array = RawFile(place, ArraySpec(lengths, stored.name, axes, chunk, unit), stored.str, header)
    return FoundLayer(name or layer_name(file.stem), Volume(array, axes, file.name, (place,), notes=note))


def _stored_dtype(text: str) -> np.dtype[Any]:
    try:
        found = np.dtype(text)
    except (TypeError, ValueError, SyntaxError):
        found = np.dtype("O")
    if found.kind not in "uif" or found.itemsize > LARGE or found.shape:
        raise InputError(
            f"{text!r} is no dtype of voxels. Use such as uint8, or >u2 for 16 bits whose first byte is the greatest."
        )
    return found


def _check_size(file: Path, needed: int, said: str) -> tuple[str, ...]:
    """Return what to say of a file that holds more than is read."""
    if not file.is_file():
        raise InputError(f"'{file}' is no file. Give one of raw voxels.")
    found = file.stat().st_size
    if found < needed:
        raise InputError(f"'{file}' has {found} bytes, but {said} are {needed}. Check shape and dtype.")
    return () if found == needed else (f"'{file}' has {found - needed} bytes more than are read: is the shape right?",)
