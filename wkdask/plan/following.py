"""Reading a journal that others are writing: each time, what is new."""

from __future__ import annotations

from collections.abc import Iterator

from wkdask.errors import StorageError
from wkdask.plan.journal import Journal
from wkdask.plan.receipt import Receipt
from wkdask.storage import Location

PIECE_BYTES = 4 << 20
"""What is read of a file at once; longer lines are not ours."""


class NewLines:
    """A reader of a folder of line files that remembers how far it is in each.

    Parameters
    ----------
    folder
        Where each writer has a file ``*.jsonl``, or on a store many.
    """

    def __init__(self, folder: Location) -> None:
        self._folder = folder
        self._read: dict[str, int] = {}

    def __iter__(self) -> Iterator[bytes]:
        """Yield the lines that were not yielded before; one that is being written waits for the next time."""
        for name in self._folder.names():
            if name.endswith(".jsonl"):
                try:
                    yield from self._new_in(name)
                except StorageError:  # deleted since it was listed: the job is complete
                    return

    def _new_in(self, name: str) -> Iterator[bytes]:
        place, start = self._folder / name, self._read.get(name, 0)
        if start and not place.is_local:  # objects do not grow
            return
        while data := place.read_bytes(start, start + PIECE_BYTES):
            whole = data.rfind(b"\n") + 1
            if not whole and len(data) < PIECE_BYTES:
                return
            start += whole or len(data)
            self._read[name] = start
            yield from data[:whole].splitlines()
            if len(data) < PIECE_BYTES:
                return


class Follower:
    """A reader of a journal that remembers how far it is.

    Parameters
    ----------
    journal
        Of the job.
    """

    def __init__(self, journal: Journal) -> None:
        self._lines = NewLines(journal.folder / "journal")

    def new(self) -> Iterator[Receipt]:
        """Yield the receipts that were written since the last call."""
        return filter(None, map(Receipt.of_line, self._lines))
