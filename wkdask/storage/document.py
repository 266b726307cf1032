"""Documents that several processes change: read, change, compare, swap."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from wkdask.errors import ConflictError
from wkdask.storage.events import notify
from wkdask.storage.local import exclusive
from wkdask.storage.location import WORK_FOLDER, Location, explained

ATTEMPTS = 20

_locks: dict[str, threading.Lock] = defaultdict(threading.Lock)


@contextmanager
def exclusively(folder: Location, what: str) -> Iterator[None]:
    """Let writers of one thing take turns: threads of this process, and processes where the folder is local.

    ``what`` is the URL of the thing, or such a one below the dataset.
    """
    with _locks[what]:
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


def update_document(
    document: Location, change: Callable[[bytes | None], bytes | None], locks: Location | None = None
) -> bytes | None:
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
    for _ in range(ATTEMPTS):
        with exclusively(folder, document.url):
            old = document.read_bytes() if document.is_file() else None
            new = change(old)
            if new is None or new == old:
                return old
            with document.writer(folder) as out:
                out.write(new)
                if (document.read_bytes() if document.is_file() else None) == old:
                    if document.is_local:
                        out.publish(sync=True)  # type: ignore[call-arg]
                    else:
                        out.publish()
                    notify("commit", document.url)
                    return new
    raise ConflictError(f"{document} was changed by others {ATTEMPTS} times in a row. Stop the other writers and try again.")
