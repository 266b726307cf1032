"""Bytes at a URL: reading, publishing, leases, and documents that change by compare-and-swap."""

from wkdask.storage.copying import copy_file
from wkdask.storage.document import changes_at_once, refuses_conflicts, update_document, update_soon
from wkdask.storage.events import observe
from wkdask.storage.lease import Lease, Owner
from wkdask.storage.location import WORK_FOLDER, Location, Stat, Writer, is_place
from wkdask.storage.options import Options, parse_options, storage_options
from wkdask.storage.retries import taken_requests, taken_retries
from wkdask.storage.together import together

__all__ = [
    "WORK_FOLDER",
    "Lease",
    "Location",
    "Options",
    "Owner",
    "Stat",
    "Writer",
    "changes_at_once",
    "copy_file",
    "is_place",
    "observe",
    "parse_options",
    "refuses_conflicts",
    "storage_options",
    "taken_requests",
    "taken_retries",
    "together",
    "update_document",
    "update_soon",
]
