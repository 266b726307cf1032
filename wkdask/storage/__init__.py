"""Bytes at a URL: reading, publishing, leases, and documents that change by compare-and-swap."""

from wkdask.storage.document import update_document
from wkdask.storage.events import observe
from wkdask.storage.lease import Lease, Owner
from wkdask.storage.location import WORK_FOLDER, Location, Stat, Writer

__all__ = ["WORK_FOLDER", "Lease", "Location", "Owner", "Stat", "Writer", "observe", "update_document"]
