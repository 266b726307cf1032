"""Formats: how arrays lie on disk. Others are found by their names in the entry point group ``wkdask.formats``."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points

from wkdask.errors import InputError
from wkdask.formats.codecs import parse_codec
from wkdask.formats.spec import ArrayHandle, ArraySpec, Codec, Format, UnitWriter, Written
from wkdask.formats.wkw import Wkw, WkwArray
from wkdask.formats.zarr3 import Zarr3, Zarr3Array
from wkdask.storage import Location

__all__ = [
    "ArrayHandle",
    "ArraySpec",
    "Codec",
    "Format",
    "UnitWriter",
    "Wkw",
    "WkwArray",
    "Written",
    "Zarr3",
    "Zarr3Array",
    "find_format",
    "open_array",
    "parse_codec",
]

FORMATS: dict[str, Format] = {"zarr3": Zarr3(), "wkw": Wkw()}
"""Those that are part of the package."""


def find_format(name: str) -> Format:
    """Return the format of a name, as ``dataFormat`` in the dataset's JSON has it.

    Raises
    ------
    InputError
        Where no such format is installed; the message names those that are.

    Examples
    --------
    >>> find_format("wkw").codecs
    ('none', 'lz4', 'lz4hc')
    """
    if name in FORMATS:
        return FORMATS[name]
    found = {point.name: point for point in entry_points(group="wkdask.formats")}
    if name not in found:
        known = ", ".join(sorted({*found, *FORMATS}))
        raise InputError(f"There is no format {name!r} here; there are {known}. Use one of those.")
    other: Format = found[name].load()()
    return other


def open_array(location: Location, data_format: str, end: Sequence[int] | None = None) -> ArrayHandle:
    """Open the array at a place.

    ``end`` are the voxels (x, y, z) from the dataset's origin to the end of the layer's box, for formats that store no shape.
    """
    return find_format(data_format).open(location, end)
