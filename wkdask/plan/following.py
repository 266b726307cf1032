"""Reading a journal that others are writing: each time, what is new."""

from __future__ import annotations

from collections.abc import Iterator

from wkdask.errors import StorageError
from wkdask.plan.journal import Journal
from wkdask.plan.receipt import Receipt

PIECE_BYTES = 16 << 20


class Follower:
    """A reader of a journal that remembers how far it is in the file of each writer.

    Parameters
    ----------
    journal
        Of the job.
    """

    def __init__(self, journal: Journal) -> None:
        self._folder = journal.folder / "journal"
        self._read: dict[str, int] = {}

    def new(self) -> Iterator[Receipt]:
        """Yield the receipts that were written since the last call; a line that is being written waits for the next."""
        for name in self._folder.names():
            if name.endswith(".jsonl"):
                try:
                    yield from self._new_in(name)
                except StorageError:  # deleted since it was listed: the job is complete
                    return

    def _new_in(self, name: str) -> Iterator[Receipt]:
        place, start = self._folder / name, self._read.get(name, 0)
        if start and not place.is_local:  # objects do not grow
            return
        stat = place.stat()
        size = stat.size if stat else 0
        while start < size:
            data = place.read_bytes(start, min(size, start + PIECE_BYTES))
            whole = data.rfind(b"\n") + 1
            if not whole and len(data) < PIECE_BYTES:
                return
            start += whole or len(data)  # no receipt is so long
            self._read[name] = start
            yield from filter(None, map(Receipt.of_line, data[:whole].splitlines()))
