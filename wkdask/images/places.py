"""Where image files lie: on disks as paths, which zip files continue, on stores as locations, which bring their credentials."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from wkdask.errors import InputError
from wkdask.storage import Location, is_place, together
from wkdask.storage.zip_files import archive_of

FilePath = str | Location
"""A file or folder: a path, that of a member of a zip file (see `byte_source.opened`), or a place on a store."""

T = TypeVar("T")


def each(folder: FilePath, call: Callable[[str], T], names: Sequence[str]) -> list[T]:
    """Call for the name of each file of a folder; on stores, where each call waits for an answer, by many threads.

    Examples
    --------
    >>> each("/em", str.upper, ["a", "b"])
    ['A', 'B']
    """
    calls = [partial(call, name) for name in names]
    return together(folder, calls) if isinstance(folder, Location) else [call() for call in calls]


def joined(folder: FilePath, name: str) -> FilePath:
    """Return where a file of a folder lies.

    Examples
    --------
    >>> joined("/em/a.zip!", "1.tif"), joined(Location("memory://em"), "a/1.tif").url
    ('/em/a.zip!/1.tif', 'memory://em/a/1.tif')
    """
    return folder / name if isinstance(folder, Location) else os.path.join(folder, name)


def in_archive(folder: FilePath) -> bool:
    """Whether a folder is a zip file.

    Examples
    --------
    >>> in_archive("/em/a.zip!"), in_archive("/em"), in_archive(Location("memory://em"))
    (True, False, False)
    """
    return archive_of(folder) is not None if isinstance(folder, Location) else folder.endswith("!")


def shown(folder: FilePath) -> str:
    """Return a folder, or a zip file, as messages name it.

    Examples
    --------
    >>> shown("/em/a.zip!"), shown(Location("memory://em"))
    ('/em/a.zip', 'memory://em')
    """
    return str(folder).removesuffix("!")


def name_of(folder: FilePath) -> str:
    """Return a folder's or a zip file's own name.

    Examples
    --------
    >>> name_of("/data/em"), name_of(Location("memory://data/em"))
    ('em', 'em')
    """
    return os.path.basename(shown(folder))


def refuse_query(place: Location) -> None:
    """Raise `InputError` for URLs of web servers with a query, which often is a secret."""
    if "?" in place.url and not place.lists:
        raise InputError(
            f"The URL of {place} has a query, which logs and names of layers would show. Give it without, and credentials "
            "as storage options; or copy the file to a disk."
        )


def settled(source: Any) -> Any:
    """Return a source as it was given, but places on stores as locations, with the options for them, and other URLs as paths.

    Examples
    --------
    >>> settled("em/1.tif"), settled("file:///data/em"), settled(["em/1.tif", "s3://bucket/em"])
    ('em/1.tif', '/data/em', ['em/1.tif', s3://bucket/em])
    """
    if isinstance(source, list | tuple):
        return [settled(one) for one in source] if source and is_place(source[0]) else source
    if not is_place(source) or (isinstance(source, str | os.PathLike) and "://" not in os.fspath(source)):
        return source
    place = Location.of(source)
    return place.url if place.is_local else place
