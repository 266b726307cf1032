"""Checksums of whole files, by which receipts tell a single bit that was flipped."""

from __future__ import annotations

from dataclasses import replace

import google_crc32c

from wkdask.errors import StorageError
from wkdask.plan.receipt import FileRecord
from wkdask.storage import Location

PIECE_BYTES = 4 << 20


def content_checksum(place: Location) -> int:
    """Return the CRC-32C of a file, read in pieces, each by one request to a store.

    Raises
    ------
    OSError
        Where it can not be read.
    """
    found = 0
    if not place.is_local:
        stat = place.stat()
        if stat is None:
            raise StorageError(f"{place} can not be read: there is no such file. Check the path.")
        for start in range(0, stat.size, PIECE_BYTES):
            found = google_crc32c.extend(found, place.read_bytes(start, start + PIECE_BYTES))
        return int(found)
    with open(place.local_path, "rb", buffering=0) as file:
        while piece := file.read(PIECE_BYTES):
            found = google_crc32c.extend(found, piece)
    return int(found)


def with_content(target: Location, record: FileRecord) -> FileRecord:
    """Return the record of a file that was published just now with the checksum of its content.

    The file is still in memory, so that it is not read from the disk. Records of files that do not lie in the dataset, such as
    spooled pages, and of those on stores, which would have to be fetched, stay as they are.
    """
    if record.size <= 0 or not target.is_local:
        return record
    try:
        return replace(record, content=content_checksum(target / record.path))
    except FileNotFoundError:
        return record


def has_content(target: Location, record: FileRecord) -> bool:
    """Whether a file still has the content that was recorded; one of which none was recorded counts as such."""
    return record.content is None or with_content(target, replace(record, content=None)).content == record.content
