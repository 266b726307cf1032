"""Which files of a dataset's folders are units, which belong there, and which do not."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from wkdask.errors import InputError, NotListedError, StorageError
from wkdask.formats import ArrayHandle
from wkdask.formats.stored import stored_units
from wkdask.geometry.grid import Index
from wkdask.operations.verify_report import Fault
from wkdask.plan import Journal
from wkdask.plan.plan import MAX_TASKS
from wkdask.storage import WORK_FOLDER, Location

DOCUMENTS = frozenset(
    {"zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata", "attributes.json", "header.wkw"}
    | {"info", "scale.json", "provenance"}
)
"""Names of documents of any format."""

GROUPS = ("zarr.json", ".zgroup", ".zattrs", "attributes.json")
"""Names of documents of folders that arrays, or folders of arrays, lie in."""

ATTRIBUTES = (".zattrs",)
"""Names of documents of an array's folder that opening it does not read."""

OF_SYSTEMS = re.compile(r"\.DS_Store|\._.+|\.nfs[0-9a-f]+|Thumbs\.db|desktop\.ini|\.directory")
"""What file managers and network file systems leave anywhere."""

TEMPORARY = re.compile(r".+\.[0-9a-f]+-[0-9a-f]{12}\.tmp")
"""Files that a writer deletes when it ends, unless it was killed."""

DEEPEST = 12
"""Folders below an array's; no format goes so deep."""


@dataclass
class ArrayFolder:
    """What was found in an array's folder."""

    units: list[Index] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    notes: list[Fault] = field(default_factory=list)
    listed: bool = False
    beyond: int = 0

    def rows(self, axes: int) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        """Return the units, sorted, as rows of coordinates."""
        return np.array(sorted(self.units), np.int64).reshape(-1, axes)


def list_array(array: ArrayHandle, busy: bool = False, documents: frozenset[str] = frozenset()) -> ArrayFolder:
    """List an array's folder: units within the array, and all that is none.

    Parameters
    ----------
    array
        The array.
    busy
        Whether a run may be at work there, so that temporary files are in use.
    documents
        Names of the documents of its format, where that is not one of ours.
    """
    found = ArrayFolder()
    try:
        _walk(array, "", found, busy, documents | DOCUMENTS)
    except NotListedError:
        found = ArrayFolder()
    if not found.listed and not found.faults and not array.location.is_local:
        _take_asked(array, found)
    if found.listed:
        found.faults += damaged_groups(array.location, ATTRIBUTES)
    foreign = any(fault.kind == "foreign" for fault in found.faults)
    if foreign and not found.units and len(array.spec.grid.units()) <= MAX_TASKS:
        _take_shared_files(array, found)
    if found.beyond:
        reason = f"{found.beyond} units lie beyond the array's end, where no reader looks. Delete them, or extend the layer."
        found.notes.append(Fault("unchecked", array.location.url, reason))
    return found


def _take_asked(array: ArrayHandle, found: ArrayFolder) -> None:
    """Find the units of an array by asking for each, where its folder is not listed."""
    reason = "its folder can not be listed, so each unit was asked for, and what else lies there is not known."
    try:
        found.units = [index for index, _ in stored_units(array, array.spec.grid.box)]
        found.listed = True
    except (InputError, StorageError) as error:  # of more than can be asked for, or where what is not there is forbidden
        reason = f"its folder can not be listed, so its units were not checked: {error}"
    found.notes.append(Fault("unchecked", str(array.location), reason))


def _take_shared_files(array: ArrayHandle, found: ArrayFolder) -> None:
    """Find the units of arrays whose files hold several of them, as only the array knows which."""
    found.units = list(array.written_units())
    files = {str(array.unit_location(index)) for index in found.units}
    found.faults = [fault for fault in found.faults if fault.path not in files]


def _walk(array: ArrayHandle, below: str, found: ArrayFolder, busy: bool, documents: frozenset[str], depth: int = 0) -> None:
    """Sort what lies in a folder below an array's; links to folders are named, never followed, as they may go in circles."""
    folder = array.location / below if below else array.location
    try:
        names = folder.names()
    except NotListedError:
        raise
    except StorageError as error:
        found.faults.append(Fault("unreadable", str(folder), str(error)))
        return
    found.listed = found.listed or bool(names)
    for name in names:
        path, place = below + name, folder / name
        if (index := array.unit_of(path)) is not None:
            _sort_unit(array, index, found)
        elif not below and name in documents:
            continue
        elif place.is_folder():
            if depth < DEEPEST and not (place.is_local and os.path.islink(place.url)):
                _walk(array, f"{path}/", found, busy, documents, depth + 1)
            else:
                reason = "a link to a folder, or one too deep, is no part of an array, so what is behind it was not checked."
                found.faults.append(Fault("foreign", str(place), f"{reason} Move its files here, or delete it."))
        elif place.is_local or place.is_file():  # some stores list what was a folder once
            _sort_file(place, found, busy)


def _sort_unit(array: ArrayHandle, index: Index, found: ArrayFolder) -> None:
    spec = array.spec
    if all(0 <= i * u < n for i, u, n in zip(index, spec.unit, spec.shape, strict=True)):
        found.units.append(index)
    else:
        found.beyond += 1


def _sort_file(place: Location, found: ArrayFolder, busy: bool) -> None:
    finding = stray(place, busy) or Fault("foreign", str(place), "it is no unit of the array. Move it elsewhere.")
    (found.notes if finding.kind == "unchecked" else found.faults).append(finding)


def stray(place: Location, busy: bool = False) -> Fault | None:
    """Return what a file is that has no place in a dataset, by its name; None where it is another one."""
    if TEMPORARY.fullmatch(place.name):
        if busy:
            return Fault("unchecked", str(place), "a temporary file, perhaps of the run that is unfinished.")
        return Fault("leftover", str(place), "a temporary file that a killed writer left. Delete it.")
    if OF_SYSTEMS.fullmatch(place.name):
        return Fault("unchecked", str(place), "the file of a file manager or file system, no part of the dataset.")
    return None


def damaged_groups(folder: Location, names: tuple[str, ...] = GROUPS) -> Iterator[Fault]:
    """Yield the documents of a group of arrays that are no JSON objects, so that other readers find none of the arrays."""
    for place in (folder / name for name in names):
        try:
            if place.is_file() and not isinstance(json.loads(place.read_bytes()), dict):
                raise ValueError("it holds no JSON object")
        except (ValueError, RecursionError) as error:
            yield Fault(
                "document", str(place), f"it is no document of a group or array: {str(error)[:200]}. Restore it, or delete it."
            )
        except StorageError as error:
            yield Fault("unreadable", str(place), str(error))


def leftovers(dataset: Location, layers: tuple[str, ...], unfinished: frozenset[str]) -> Iterator[Fault]:
    """Yield temporary files and jobs' folders, outside of arrays, that no run uses.

    Parameters
    ----------
    dataset, layers
        Its folder, and the names of its layers.
    unfinished
        Layers with a run that is unfinished; what it has left, it will use or delete.
    """
    work = dataset / WORK_FOLDER
    folders = {dataset: layers, work: layers, work / "tmp": layers} | {dataset / layer: (layer,) for layer in layers}
    for folder, users in folders.items():
        busy = not unfinished.isdisjoint(users)
        places = (folder / name for name in folder.names() if TEMPORARY.fullmatch(name))
        yield from filter(None, (stray(place) for place in places if not busy))
    for key in (work / "jobs").names():
        if key not in unfinished:
            job = Journal(dataset, key).folder
            yield Fault("leftover", str(job), "parts and receipts of a run that has ended. Delete the folder.")
