"""Trees of chunked volumes: which folders and members of zip files are arrays and groups, and what their documents say.

Specifications: https://zarr-specs.readthedocs.io (Zarr 2 and 3), https://github.com/saalfeldlab/n5, and
https://github.com/google/neuroglancer/tree/master/src/datasource/precomputed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wkdask.errors import InputError, MetadataError, UnsupportedImageFormatError, WkdaskError
from wkdask.images.numbering import natural_order
from wkdask.images.picture import EXTENSIONS, extension_of
from wkdask.images.places import refuse_query, settled
from wkdask.storage import Location
from wkdask.storage.explained import explained
from wkdask.storage.faults import is_forbidden, may_pass
from wkdask.storage.zip_files import archive_at, zip_place

LARGEST_DOCUMENT = 16 << 20
MOST_NODES = 10_000
"""Folders that are looked at below a group."""
DEEPEST = 16
ZARR3, ZARR, N5, PRECOMPUTED = "zarr3", "zarr", "n5", "neuroglancerPrecomputed"
DOCUMENTS = ("zarr.json", ".zarray", ".zgroup", "attributes.json", "info")
ARCHIVES = ("ozx", "zip")


@dataclass(frozen=True, slots=True)
class Node:
    """An array or a group.

    Attributes
    ----------
    place
        Its folder.
    path
        The same, from the source on; "" for the source itself.
    data_format
        Name of the format, as `wkdask.formats.find_format` takes it.
    is_array
        Whether it is an array; of precomputed volumes, all scales together are one.
    attributes
        What users and conventions say of it; never trusted.
    document
        The array's own document.
    documents
        Names of the documents that were read.
    """

    place: Location
    path: str
    data_format: str
    is_array: bool
    attributes: dict[str, Any]
    document: dict[str, Any]
    documents: tuple[str, ...] = ()

    @property
    def ome(self) -> dict[str, Any]:
        """What OME-NGFF says: since 0.5 one level lower."""
        lower = self.attributes.get("ome")
        return lower if isinstance(lower, dict) else self.attributes

    def child(self, path: str) -> Node | None:
        """Return what lies at a path below, which documents told, and may not lead out; None where there is neither."""
        parts = path.split("/")
        if any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts):
            raise MetadataError(f"{self.place} names the path {path[:80]!r}, expected one below it. Correct its metadata.")
        return node_at(self.place / path, f"{self.path}/{path}".lstrip("/"), self.data_format)

    def children(self) -> Iterator[Node]:
        """Yield the arrays and groups directly below, in natural order."""
        names = [name for name in self.place.names() if not name.startswith(".") and name not in DOCUMENTS]
        for name in natural_order(names):
            found = self.child(name) if "\\" not in name and (self.place / name).is_folder() else None
            if found is not None:
                yield found


def tree_at(source: object) -> Node | None:
    """Return the array or group that a source is; None where it is something else, such as a folder of images.

    Parameters
    ----------
    source
        A folder with one of the documents of Zarr, N5 or precomputed volumes; such a document; or an ``.ozx`` or ``.zip``
        file with Zarr in it, at its top or in the one folder that is there. Of stores, such a folder by its URL.

    Raises
    ------
    MetadataError
        Where its document is damaged.
    CorruptImageError, UnsupportedImageFormatError
        Where an archive is damaged, encrypted, or not what it claims.

    Examples
    --------
    >>> import tempfile, zarr
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     array = zarr.create_array(f"{folder}/a.zarr", shape=(4, 5, 6), dtype="uint8")
    ...     tree_at(f"{folder}/a.zarr").data_format, tree_at(folder)
    ('zarr3', None)
    """
    source = settled(source)
    if isinstance(source, Location):
        return _remote(source)
    if not isinstance(source, str | os.PathLike):
        return None
    path = os.path.abspath(source)
    with explained(Location.of(Path(path)), "read"):
        if os.path.basename(path) in DOCUMENTS and os.path.isfile(path):
            path = os.path.dirname(path)
        if os.path.isdir(path):
            return node_at(Location(path), "", N5 if _is_n5(path) else "")
        if extension_of(path) not in ARCHIVES or not os.path.isfile(path):
            return None
        return _archived(Location(path))


def _remote(place: Location) -> Node | None:
    """Return the array or group at a URL; None where it is something else."""
    place = place.parent if place.name in DOCUMENTS else place
    if extension_of(str(place)) in ARCHIVES:
        with explained(place, "read"):
            return _archived(place)
    if extension_of(str(place)) in EXTENSIONS:
        return None
    return node_at(place, "", N5 if extension_of(place.name) == "n5" and place.lists else "")


def _is_n5(path: str) -> bool:
    """Whether a folder without a document is a group of N5."""
    return extension_of(path) == "n5" or os.path.isfile(os.path.join(path, "s0", "attributes.json"))


def _archived(archive: Location) -> Node | None:
    """Return the root of the Zarr in an archive, after looking at all of its members."""
    refuse_query(archive)
    place = zip_place(archive)
    names = list(archive_at(place).members())
    tops = {name.partition("/")[0] for name in names}
    top = f"{next(iter(tops))}/" if len(tops) == 1 and not {"zarr.json", ".zarray"} & tops else ""
    if not {f"{top}zarr.json", f"{top}.zgroup", f"{top}.zarray"} & set(names):
        if extension_of(archive.name) == "ozx":
            raise UnsupportedImageFormatError(
                f"'{archive}' holds no OME-Zarr: zarr.json is missing among its {len(names)} members. Pack it anew."
            )
        return None
    archive_at(place).require_readable()
    return node_at(place / top.rstrip("/") if top else place, "")


def node_at(place: Location, path: str, within: str = "") -> Node | None:
    """Return the array or group at a place; below N5, folders without a document are groups.

    Of what is not there, many web servers, and stores that may not be listed, say that it is forbidden, or send a page. So
    what they answer instead of a document is an error only where they send none at all.
    """
    puzzling: list[WkdaskError] = []
    found = _node_at(place, path, within, puzzling)
    if found is None and puzzling:
        raise puzzling[0]
    return found


def _node_at(place: Location, path: str, within: str, puzzling: list[WkdaskError]) -> Node | None:
    def look(name: str, read: Callable[[Location], dict[str, Any] | None] = _json) -> dict[str, Any] | None:
        try:
            return read(place / name)
        except WkdaskError as error:
            if place.is_local or may_pass(error) or (place.lists and not is_forbidden(error)):
                raise
            puzzling.append(error)
            return None

    if (found := look("zarr.json")) is not None:
        attributes = _table(found.get("attributes"))
        return Node(place, path, ZARR3, found.get("node_type") == "array", attributes, found, ("zarr.json",))
    for name in (".zarray", ".zgroup"):
        if (found := look(name)) is not None:
            attributes = look(".zattrs") or {}
            return Node(place, path, ZARR, name == ".zarray", attributes, found, (name, ".zattrs"))
    if (found := look("attributes.json")) is not None:
        return Node(place, path, N5, "dimensions" in found and "dataType" in found, found, found, ("attributes.json",))
    if (found := look("info", _precomputed)) is not None:
        return Node(place, path, PRECOMPUTED, True, {}, found, ("info",))
    return Node(place, path, N5, False, {}, {}) if within == N5 and place.is_folder() else None


def _precomputed(place: Location) -> dict[str, Any] | None:
    """Return the document of a precomputed volume; None where "info" is something else, as many files are called that."""
    found = place.read_range(0, LARGEST_DOCUMENT)
    if found is None or found.size > LARGEST_DOCUMENT or b'"scales"' not in found.data:
        return None
    return _parsed(place, found.data)


def _json(place: Location) -> dict[str, Any] | None:
    """Return a document; None where there is none."""
    found = place.read_range(0, LARGEST_DOCUMENT)
    if found is None:
        return None
    if found.size > LARGEST_DOCUMENT:
        raise MetadataError(f"{place} has {found.size} bytes, at most {LARGEST_DOCUMENT} were expected. Check what it is.")
    return _parsed(place, found.data)


def _parsed(place: Location, data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MetadataError(f"{place} is no JSON: {str(error)[:200]}. Restore the file.") from None
    if not isinstance(found, dict):
        raise MetadataError(f"{place} holds {type(found).__name__}, expected a JSON object. Restore the file.")
    return found


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def walk(root: Node, images: Any) -> Iterator[Node]:
    """Yield, from a group down, the nodes that ``images`` says yes to, and the arrays; what lies below those is passed over.

    Raises
    ------
    InputError
        Where there are too many groups, or they lie too deep.
    """
    pending, seen = [(root, 0)], 0
    while pending:
        node, depth = pending.pop()
        seen += 1
        if seen > MOST_NODES or depth > DEEPEST:
            raise InputError(
                f"'{root.place}' has more than {MOST_NODES} groups, or groups deeper than {DEEPEST}. Give a group further down."
            )
        if node.is_array or images(node):
            yield node
        else:
            pending += [(child, depth + 1) for child in reversed(list(node.children()))]
