"""Formats: how arrays lie on disk. Others are found by their names in the entry point group ``wkdask.formats``."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points

from wkdask.errors import InputError, MetadataError
from wkdask.formats.codecs import parse_codec
from wkdask.formats.n5 import N5, N5Array
from wkdask.formats.precomputed import Precomputed
from wkdask.formats.spec import ArrayHandle, ArraySpec, Codec, Format, UnitWriter, Written
from wkdask.formats.wkw import Wkw, WkwArray
from wkdask.formats.wkw_reader import close_files
from wkdask.formats.zarr2 import Zarr2, Zarr2Array
from wkdask.formats.zarr3 import Zarr3, Zarr3Array
from wkdask.storage import Location

__all__ = [
    "N5",
    "ArrayHandle",
    "ArraySpec",
    "Codec",
    "Format",
    "N5Array",
    "UnitWriter",
    "Wkw",
    "WkwArray",
    "Written",
    "Zarr2",
    "Zarr2Array",
    "Zarr3",
    "Zarr3Array",
    "close_files",
    "find_format",
    "open_array",
    "parse_codec",
]

FORMATS: dict[str, Format] = {
    "zarr3": Zarr3(),
    "wkw": Wkw(),
    "zarr": Zarr2(),
    "n5": N5(),
    "neuroglancerPrecomputed": Precomputed(),
}
"""Those that are part of the package."""


def find_format(name: str) -> Format:
    """Return the format of a name, as ``dataFormat`` in the dataset's JSON has it.

    Raises
    ------
    InputError
        Where no such format is installed, and the message names those that are; or where its package can not be loaded.

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
        raise InputError(f"There is no format {name[:80]!r} here; there are {known}. Use one of those.")
    try:
        other: Format = found[name].load()()
    except Exception as error:
        said = f"{type(error).__name__}: {str(error)[:200]}"
        raise InputError(f"The format {name[:80]!r} is installed, but can not be loaded: {said}. Mend its package.") from error
    return other


def open_array(location: Location, data_format: str, end: Sequence[int] | None = None) -> ArrayHandle:
    """Open the array at a place.

    ``end`` are the voxels (x, y, z) from the dataset's origin to the end of the layer's box, for formats that store no shape.

    Raises
    ------
    MetadataError
        Where no such format is installed.
    """
    try:
        form = find_format(data_format)
    except InputError as error:
        raise MetadataError(f"The format of {location} is not known. {error}") from error
    return form.open(location, end)
