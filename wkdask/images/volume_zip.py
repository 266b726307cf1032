"""Arrays in zip files, read in place by tensorstore: ``.ozx`` is a zip file of an OME-Zarr.

Specification: https://ngff.openmicroscopy.org/rfc/9/
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from wkdask.errors import CorruptImageError, InputError, WkdaskError
from wkdask.formats import ArrayHandle, ArraySpec, find_format
from wkdask.geometry.grid import Box
from wkdask.images.zip_archive import member_of, zip_members
from wkdask.storage import Location, Options

PROTOCOL = "zip://"
DRIVERS = ("zarr", "zarr3")


def archive(path: str) -> Location:
    """Return the top folder in a zip file, as it is now."""
    found = os.stat(path)
    return Location(PROTOCOL, Options({"fo": path, "stamp": f"{found.st_size} {found.st_mtime_ns}"}))


def archive_path(place: Location) -> str | None:
    """Return the zip file that a place lies in, or None."""
    return str(place.options["fo"]) if place.url.startswith(PROTOCOL) else None


@contextmanager
def naming_archive(place: Location) -> Iterator[None]:
    """Let errors say which zip file a place lies in, and turn those of damaged members into ours; of others, do nothing."""
    path = archive_path(place)
    try:
        yield
    except WkdaskError as error:
        if path is None or path in str(error):
            raise
        raise type(error)(f"In '{path}': {error}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeDecodeError) as error:
        if path is None:
            raise
        raise CorruptImageError(f"'{path}' is damaged: {str(error)[:300]}. Pack it anew.") from error


def require_readable(path: str) -> None:
    """Refuse an archive that has a member which can not be read, or claims to be larger than deflate can make it.

    What a member's own header says is looked at, too: other readers take its word for how it is compressed.

    Raises
    ------
    CorruptImageError, UnsupportedImageFormatError, UnsupportedImageDataError
        As `wkdask.images.zip_archive.member_of` finds it.
    """
    with open(path, "rb") as file:
        found = os.fstat(file.fileno())
        for name, _, _ in zip_members(path):
            member_of(path, file.fileno(), found, name).data_start(path, file.fileno(), found.st_size)


@dataclass(frozen=True, slots=True)
class ZippedArray:
    """An array in a zip file; what reading needs of `wkdask.formats.spec.ArrayHandle`."""

    handle: ArrayHandle
    data_format: str

    @property
    def location(self) -> Location:
        """The folder in the archive."""
        return self.handle.location

    @property
    def spec(self) -> ArraySpec:
        """What the array is."""
        return self.handle.spec

    def read(self, box: Box, *, keep: bool = True) -> np.ndarray[Any, Any]:  # noqa: ARG002
        """Read a box that lies within the array, in stored axes, Fortran-ordered."""
        from wkdask.formats.tensorstore_reader import explained_reading

        with naming_archive(self.location), explained_reading(self.location):
            return np.asarray(_opened(self.location, self.data_format)[box.slices].read(order="F").result())


@lru_cache(maxsize=64)
def _opened(place: Location, driver: str) -> Any:
    import tensorstore

    inside = place.url.removeprefix(PROTOCOL).strip("/")
    base = {"driver": "file", "path": archive_path(place)}
    store = {"driver": "zip", "base": base, "path": f"{inside}/" if inside else ""}
    return tensorstore.open({"driver": driver, "kvstore": store}, open=True, read=True, write=False).result()


def open_zipped(place: Location, data_format: str) -> ZippedArray:
    """Open an array in a zip file."""
    if data_format not in DRIVERS:
        raise InputError(f"{place} is {data_format}; of zip files, Zarr is read. Unpack the archive, and give the folder.")
    return ZippedArray(find_format(data_format).open(place), data_format)
