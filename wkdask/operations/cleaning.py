"""What interrupted runs left in a dataset, and deleting it: only what has names of ours, and nothing that is behind a link."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from wkdask.arrays.opening import open_mag_array, read_properties
from wkdask.errors import InputError, LockedError, WkdaskError
from wkdask.formats import FORMATS, ArrayHandle
from wkdask.geometry import Mag
from wkdask.metadata import FILE_NAME, Properties
from wkdask.operations.existing import places, resolved
from wkdask.operations.verify_folders import DOCUMENTS, TEMPORARY, leftovers, list_array
from wkdask.plan import Journal, unfinished_jobs
from wkdask.plan.claims import living_workers_of
from wkdask.storage import WORK_FOLDER, Lease, Location
from wkdask.storage.lease import current_owner


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something that a run left: where it is, its bytes on disk, and what it is; with ``kept``, why it is not deleted."""

    place: Location
    bytes: int
    what: str
    kept: str = ""


def require_nobody(target: Location) -> None:
    """Raise `LockedError` where a run is at work in a dataset."""
    owner = current_owner(target / WORK_FOLDER / "run.json")
    living = [*living_workers_of(target), *([owner] if owner and owner.alive else [])]
    if living:
        raise LockedError(f"{target} is in use by {living[0]}. Wait for it to end, or stop it with wkdask cancel.")


def find_leftovers(target: Location) -> tuple[Leftover, ...]:
    """Return what interrupted runs left in a dataset; what is unfinished is given up with it.

    Parameters
    ----------
    target
        A dataset.

    Raises
    ------
    InputError
        Where what we keep our work in is a link.
    LockedError
        Where a run is at work.
    """
    work = target / WORK_FOLDER
    if any(_is_link(place) for place in (work, work / "jobs", work / "run.json")):
        raise InputError(f"{work} is a link, or holds links where it should not, so nothing is deleted. Look at it first.")
    require_nobody(target)
    return _found(target)


def _found(target: Location) -> tuple[Leftover, ...]:
    work = target / WORK_FOLDER
    properties = read_properties(target) if (target / FILE_NAME).is_file() else None
    found = [*_arrays(target, properties), *_jobs(target), *_temporary(target, properties)]
    if (work / "run.json").is_file():
        found.append(Leftover(work / "run.json", _bytes(work / "run.json"), "the lock of a process that is gone"))
    return tuple({one.place.url: one for one in found}.values())


def delete_leftovers(target: Location, found: Iterable[Leftover]) -> None:
    """Delete what was found, as far as it is still left over, while no run may begin.

    Arrays go first, so that a job is known until nothing else is left of it.

    Raises
    ------
    LockedError
        Where a run began meanwhile.
    """
    lock = target / WORK_FOLDER / "run.json"
    with Lease(lock, "clean"):
        living = living_workers_of(target)
        if living:
            raise LockedError(f"{target} is in use by {living[0]}. Wait for it to end, or stop it with wkdask cancel.")
        still = {one.place.url for one in _found(target) if not one.kept}
        for one in found:
            if one.place.url in still and one.place != lock:  # which is ours now, and goes at the end
                one.place.delete()


def _arrays(target: Location, properties: Properties | None) -> Iterator[Leftover]:
    """Yield the arrays that unfinished jobs made and that no JSON lists, and folders of layers that are empty then."""
    used = {place for _, place in places(target, properties)} if properties else set()
    listed = set(properties.layer_names) if properties else set()
    for key, document in sorted(unfinished_jobs(target).items()):
        gone: set[str] = set()
        for path in sorted(_made(key, document)):
            place = target / path
            if resolved(place) in used or not place.is_folder():
                continue
            kept = _why_kept(target, place)
            gone |= set() if kept else {place.name}
            yield Leftover(place, _bytes(place), "an array that is not complete, so that no reader knows it", kept)
        layer = target / key
        plain = key not in listed and layer.is_folder() and not _is_link(layer)
        if plain and set(layer.names()) <= gone | DOCUMENTS:
            yield Leftover(layer, sum(_bytes(layer / name) for name in layer.names() if name not in gone), "an empty layer")


def _made(key: str, document: dict[str, Any]) -> set[str]:
    """Return where the arrays lie that a job makes, as far as its plan says so in sound words: ``LAYER/MAG``."""
    settings = document.get("settings")
    settings = settings if isinstance(settings, dict) else {}
    rows = [row.get("name") for row in _list(document.get("milestones")) if isinstance(row, dict)]
    names = [*rows, *(f"{key}/{mag}" for mag in _list(settings.get("mags"))), *_list(settings.get("new"))]
    names += _list(settings.get("old"))
    anew = {f"{key}/{mag}" for mag in _list(settings.get("anew"))}
    return {name for name in names if isinstance(name, str) and name not in anew and _is_array_of(key, name)}


def _list(found: object) -> list[Any]:
    return found if isinstance(found, list) else []


def _is_array_of(key: str, path: str) -> bool:
    """Whether a path is that of a magnification of a layer: its name, with a number behind it where that was taken."""
    layer, _, name = path.rpartition("/")
    found = re.fullmatch(r"(\d+(?:-\d+-\d+)?)(?:\.\d+)?", name)
    if layer != key or not found:
        return False
    try:
        return Mag(found[1]).to_layer_name() == found[1]
    except WkdaskError:
        return False


def _why_kept(target: Location, place: Location) -> str:
    """Return why an array's folder is not deleted; nothing where all in it is ours."""
    if resolved(place) != f"{resolved(target)}/{place.parent.name}/{place.name}":
        return "it is behind a link"
    handle = _opened(place)
    if handle is not None:
        foreign = [fault.path for fault in list_array(handle).faults if fault.kind != "leftover"]
    else:
        foreign = [str(place / path) for path, _ in place.files_below() if not _is_ours(path.rpartition("/")[2])]
    return f"it holds what is not ours: {foreign[0]}" if foreign else ""


def _is_ours(name: str) -> bool:
    return name in DOCUMENTS or TEMPORARY.fullmatch(name) is not None


def _opened(place: Location) -> ArrayHandle | None:
    for form in FORMATS.values():
        with suppress(WkdaskError):
            if form.detect(place):
                return form.open(place)
    return None


def _jobs(target: Location) -> Iterator[Leftover]:
    """Yield all that jobs keep: in the dataset, and where the user wanted what is being written."""
    unfinished = unfinished_jobs(target)
    for key in (target / WORK_FOLDER / "jobs").names():
        document = unfinished.get(key)
        folder = Journal(target, key).folder
        kept = "it is a link" if _is_link(folder) else ""
        what = "parts and receipts of a run that has ended"
        if document is not None:
            what = f"what an unfinished run needs to go on: {document.get('name') or 'of no name'}"
            yield from _elsewhere(target, key, document.get("scratch"))
        yield Leftover(folder, _bytes(folder), what, kept)


def _elsewhere(target: Location, key: str, scratch: object) -> Iterator[Leftover]:
    if not isinstance(scratch, str) or not os.path.isabs(scratch):
        return
    journal = Journal(target, key, scratch)
    for place, what in ((journal.scratch, "files that were being written"), (journal.spool, "decoded pages")):
        if place.is_folder() and not _is_link(place):
            yield Leftover(place, _bytes(place), what)


def _temporary(target: Location, properties: Properties | None) -> Iterator[Leftover]:
    """Yield temporary files of writers that are gone."""
    for path in _temporary_paths(target, properties):
        place = target / path.removeprefix(f"{target}/")
        pid = re.search(r"\.([0-9a-f]+)-[0-9a-f]{12}\.tmp$", place.name)
        if pid:
            kept = f"process {int(pid[1], 16)} lives" if _lives(int(pid[1], 16)) else ""
            yield Leftover(place, _bytes(place), "a temporary file", kept)


def _temporary_paths(target: Location, properties: Properties | None) -> Iterator[str]:
    layers = properties.layer_names if properties else ()
    with suppress(WkdaskError):  # a name that no folder can have
        yield from (fault.path for fault in leftovers(target, layers, frozenset()) if fault.path.endswith(".tmp"))
    for layer in properties.data_layers if properties else ():
        for mag in layer.mags:
            with suppress(WkdaskError):  # what can not be opened, verify tells
                array = open_mag_array(target, properties, layer, mag.mag).handle  # type: ignore[arg-type]
                if resolved(array.location).startswith(f"{resolved(target)}/"):
                    yield from (fault.path for fault in list_array(array).faults if fault.kind == "leftover")


def _lives(pid: int) -> bool:
    import psutil

    return bool(psutil.pid_exists(pid))


def _is_link(place: Location) -> bool:
    return place.is_local and os.path.islink(place.url)


def _bytes(place: Location) -> int:
    """Return the bytes of a file, or of all files below a folder; links are not followed."""
    stat = place.stat()
    return stat.size if stat else sum(size for _, size in place.files_below())
