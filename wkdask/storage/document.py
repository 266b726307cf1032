"""Documents that several processes change: read, change, compare, swap."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from functools import partial

from wkdask.errors import ConflictError
from wkdask.storage.address import GCS, S3
from wkdask.storage.conditional import keeps_conditions, put_if, remember_words
from wkdask.storage.events import notify
from wkdask.storage.explained import explained
from wkdask.storage.lease import alone
from wkdask.storage.local import exclusive
from wkdask.storage.location import WORK_FOLDER, Location
from wkdask.storage.remote import RemoteFiles
from wkdask.storage.turns import Turns

ATTEMPTS = 20
PAUSE = 0.05
MOST_BYTES = 256 << 20
"""Of a document that is read by one request."""

REMEMBERED, REMEMBERED_BYTES = 16, 1 << 20

Change = Callable[[bytes | None], bytes | None]

_waiting: ContextVar[dict[Location, list[Change]] | None] = ContextVar("waiting", default=None)
_turns = Turns()
_remembering = threading.Lock()
_remembered: dict[Location, tuple[bytes, str]] = {}
"""Documents on stores as this process wrote them, and their tags: most are changed again by the same, who need not read them.

The store refuses the change where they are others by now.
"""


@contextmanager
def exclusively(folder: Location, what: str) -> Iterator[None]:
    """Let writers of one thing take turns: threads of this process, and processes where the folder is local.

    ``what`` is the URL of the thing, or such a one below the dataset.
    """
    with _turns.of(what):
        if folder.is_local:
            below = os.path.relpath(what, folder.url)  # the same, by whatever links the dataset was reached
            name = hashlib.sha256(below.encode()).hexdigest()[:16]
            folder.make_folder()
            with ExitStack() as stack:
                with explained(folder, "written"):
                    stack.enter_context(exclusive(f"{folder.url}/{name}.lock"))
                yield
        else:
            yield


def turns_of(document: Location, folder: Location) -> str:
    """Return what writers of a document take turns for: its name in the folder of locks, where their unfinished files lie.

    So writers of other documents of that name, such as the ``zarr.json`` of two magnifications, wait too: each deletes what it
    finds unfinished under the name.
    """
    return f"{folder.url}/{document.name}"


def _delete_unfinished(folder: Location, name: str) -> None:
    """Delete what writers of a document left that were killed; the one who holds the lock is the only one who is not."""
    for found in folder.names():
        if found.startswith(f".{name}.") and found.endswith(".tmp"):
            (folder / found).delete()


def update_document(document: Location, change: Change, locks: Location | None = None) -> bytes | None:
    """Replace a document by a function of its present content, so that no other writer's change is lost.

    Parameters
    ----------
    document
        The file; it need not exist.
    change
        Gets the present bytes (None where there is no file) and returns the new ones; returning None, or the same, leaves
        the file as it is. It may be called several times.
    locks
        A folder for the lock file and for what is being written; default: the work folder beside the document.

    Returns
    -------
    The bytes that are there afterwards.

    Raises
    ------
    ConflictError
        When others change the document faster than we can.

    Examples
    --------
    >>> place = Location("memory://doc/a.json")
    >>> update_document(place, lambda old: (old or b"") + b"1")
    b'1'
    """
    folder = locks or document.parent / WORK_FOLDER
    changed = _changed_on_disk if document.is_local else _changed_in_store
    for attempt in range(ATTEMPTS):
        done, found = changed(document, change, folder)
        if done:
            return found
        if not document.is_local:
            time.sleep(random.uniform(0, PAUSE * attempt))
    raise ConflictError(f"{document} was changed by others {ATTEMPTS} times in a row. Stop the other writers and try again.")


@contextmanager
def changes_at_once() -> Iterator[None]:
    """Let what `update_soon` is to change in stores wait for the end of the block: each document is written once then."""
    waiting: dict[Location, list[Change]] = {}
    token = _waiting.set(waiting)
    try:
        yield
    finally:
        _waiting.reset(token)
        for document, changes in waiting.items():
            update_document(document, partial(_all_changed, changes))


def update_soon(document: Location, change: Change) -> None:
    """Replace a document by a function of its present content, now or at the end of the block of `changes_at_once`.

    Examples
    --------
    >>> place = Location("memory://soon/a.json")
    >>> with changes_at_once():
    ...     update_soon(place, lambda old: b"1")
    ...     update_soon(place, lambda old: old + b"2")
    ...     place.is_file()
    False
    >>> place.read_bytes()
    b'12'
    """
    waiting = None if document.is_local else _waiting.get()
    if waiting is None:
        update_document(document, change)
    else:
        waiting.setdefault(document, []).append(change)


def _all_changed(changes: Sequence[Change], old: bytes | None) -> bytes | None:
    for change in changes:
        new = change(old)
        old = old if new is None else new
    return old


def _changed_on_disk(document: Location, change: Change, folder: Location) -> tuple[bool, bytes | None]:
    """Change a document once, under a lock; return whether nobody else did meanwhile, and what is there then."""
    with exclusively(folder, turns_of(document, folder)):
        old = document.read_if_there()
        new = change(old)
        if new is None or new == old:
            return True, old
        _delete_unfinished(folder, document.name)
        with document.writer(folder) as out:
            out.write(new)
            if document.read_if_there() != old:
                return False, old
            out.publish(sync=True)  # type: ignore[call-arg]
        notify("commit", document.url)
        return True, new


def _changed_in_store(document: Location, change: Change, folder: Location) -> tuple[bool, bytes | None]:
    """Do the same by a write that the store refuses where the object is another one by now."""
    with _guard(folder, document) as unguarded:
        with _remembering:
            remembered = _remembered.pop(document, None) if unguarded else None
        old, tag = remembered or _read(document)
        try:
            new = change(old)
        except Exception:
            if remembered:  # of which it may be, as others may have changed it
                return False, old
            raise
        if new is None or new == old:
            return not remembered, old
        swapped = _swap(document, new, tag)
        if swapped is None:
            return False, old
        if swapped and len(new) <= REMEMBERED_BYTES:
            with _remembering:
                _remembered[document] = new, swapped
                while len(_remembered) > REMEMBERED:
                    del _remembered[next(iter(_remembered))]
        notify("commit", document.url)
        return True, new


def _read(document: Location) -> tuple[bytes | None, str]:
    """Return what a document in a store holds, and its tag: of one answer, where that tells both."""
    files, path = document.files()
    if _remote(files).protocol in S3 | GCS:
        found = document.read_range(0, MOST_BYTES)
        if found is None:
            return None, ""
        if found.version and found.size == len(found.data):
            remember_words(_remote(files), path, found.version, found.words)
            return found.data, found.version
    stat = document.stat()  # before it is read, so that what was read is not older
    return (document.read_bytes(), stat.tag) if stat else (None, "")


def _swap(document: Location, data: bytes, tag: str) -> str | None:
    files, path = document.files()
    with explained(document, "written"):
        return put_if(_remote(files), path, data, tag)


def refuses_conflicts(folder: Location) -> bool:
    """Whether of several processes that create the same file in a folder, one alone does; stores may be tried, by an object.

    Examples
    --------
    >>> refuses_conflicts(Location("memory://refuses/ds"))
    True
    """
    if folder.is_local:
        return True
    files, path = folder.files()
    with explained(folder, "written"):
        return keeps_conditions(_remote(files), path)


def _guard(folder: Location, document: Location) -> AbstractContextManager[object]:
    """Return what keeps others away from a document; true itself where nothing has to, as the store looks at conditions."""
    if refuses_conflicts(folder):
        return nullcontext(True)
    name = hashlib.sha256(document.name.encode()).hexdigest()[:16]
    return alone(folder / f"{name}.turns", f"changing {document.name}")


def _remote(files: object) -> RemoteFiles:
    if not isinstance(files, RemoteFiles):
        raise TypeError(f"a document of a store has {type(files).__name__}")
    return files
