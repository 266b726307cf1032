"""Formats: how arrays lie on disk. A format is found by its name in the entry point group ``wkdask.formats``."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from wkdask.errors import InputError
from wkdask.formats.codecs import parse_codec
from wkdask.formats.spec import ArrayHandle, ArraySpec, Codec, UnitWriter, Written
from wkdask.formats.zarr3 import Zarr3, Zarr3Array
from wkdask.storage import Location

__all__ = [
    "ArrayHandle",
    "ArraySpec",
    "Codec",
    "UnitWriter",
    "Written",
    "Zarr3",
    "Zarr3Array",
    "find_format",
    "open_array",
    "parse_codec",
]


def find_format(name: str) -> Any:
    """Return the format of a name, as ``dataFormat`` in the dataset's JSON has it.

    Raises
    ------
    InputError
        Where no such format is installed; the message names those that are.
    """
    if name == Zarr3.name:
        return Zarr3()
    found = {point.name: point for point in entry_points(group="wkdask.formats")}
    if name not in found:
        known = ", ".join(sorted({*found, Zarr3.name}))
        raise InputError(f"There is no format {name!r} here; there are {known}. Use one of those.")
    return found[name].load()()


def open_array(location: Location, data_format: str) -> Zarr3Array:
    """Open the array at a place."""
    array: Zarr3Array = find_format(data_format).open(location)
    return array
