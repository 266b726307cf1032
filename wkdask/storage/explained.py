"""Errors of systems and stores turned into ones that name the place and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from wkdask.errors import NotListedError, StorageError, WkdaskError
from wkdask.storage.address import Address
from wkdask.storage.faults import explain, forget_headers, is_fault, is_forbidden

if TYPE_CHECKING:
    from wkdask.storage.location import Location

CHANGING = frozenset({"written", "created", "deleted"})
LISTED = "listed"
"""What was to be done where a store may do anything else but not this."""


@contextmanager
def explained(location: Location, verb: str) -> Iterator[None]:
    """Turn the system's errors into ones that name the place and what to do; nothing is sent to a web server to be kept."""
    if verb in CHANGING and not location.lists:
        raise StorageError(f"{location} can not be {verb}: web servers are read only. Give a folder, or a URL of S3 or GCS.")
    try:
        yield
    except WkdaskError:
        raise
    except Exception as error:
        if not is_fault(error):
            raise
        raise (_of_disk if location.is_local else _of_store)(error, location, verb) from error


def _of_disk(error: Exception, location: Location, verb: str) -> StorageError:
    if isinstance(error, FileNotFoundError | IsADirectoryError):
        return StorageError(f"{location} can not be {verb}: there is no such file. Check the path.")
    if isinstance(error, PermissionError):
        return StorageError(f"{location} can not be {verb}: permission denied. Check its owner and mode.")
    said = getattr(error, "strerror", None) or str(error)
    remedy = "Free some space and run the same again" if "space" in said.lower() or "quota" in said.lower() else "Check it"
    return StorageError(f"{location} can not be {verb}: {said}. {remedy}.")


def _of_store(error: Exception, location: Location, verb: str) -> StorageError:
    forget_headers(error)
    if isinstance(error, FileNotFoundError | IsADirectoryError):
        return StorageError(f"{location} can not be {verb}: there is no such file. Check the path.")
    what, remedy = explain(error, Address.of(location.url, location.options).store or str(location))
    kind = NotListedError if verb == LISTED and is_forbidden(error) else StorageError
    if kind is NotListedError and not location.lists:
        remedy = "Web servers need not show their folders. Use the store behind it, or a copy"
    return kind(location.options.conceal(f"{location} can not be {verb}: {what}. {remedy}."))
