"""The document of an open dataset: read when it changed, replaced by functions of itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from wkdask.arrays.opening import MAX_JSON_BYTES
from wkdask.errors import DatasetNotFoundError, LayerNotFoundError, MagNotFoundError, MetadataError, ReadOnlyError
from wkdask.metadata import FILE_NAME, Properties
from wkdask.plan import unfinished_jobs
from wkdask.storage import Location, Stat, update_document
from wkdask.storage.events import last_change

T = TypeVar("T")

FRESH_SECONDS = 1.0
"""So long what the JSON of a dataset in a store said is told again, unless this process has changed anything: each look is a
request, and each attribute would make one. Voxels are always those of what it says when they are read."""


class DatasetStore:
    """Where a dataset lies, and what its JSON says now.

    Parameters
    ----------
    location
        The dataset's folder.
    read_only
        Whether every change is refused.
    """

    def __init__(self, location: Location, *, read_only: bool = False) -> None:
        self.location, self.read_only = location, read_only
        self._seen: tuple[tuple[int, int], Properties] | None = None
        self._held = threading.local()
        self._looked = -FRESH_SECONDS, 0

    @property
    def document(self) -> Location:
        """The JSON."""
        return self.location / FILE_NAME

    @property
    def properties(self) -> Properties:
        """What the JSON says; parsed again only when the file changed. In a store, it is looked at once in `FRESH_SECONDS`.

        Raises
        ------
        DatasetNotFoundError
            Where there is none.
        MetadataError
            Where it is not sound, or larger than any.
        """
        held: Properties | None = getattr(self._held, "properties", None)
        if held is not None:
            return held
        if self._seen is not None and self._is_fresh():
            return self._seen[1]
        return self._now()

    def _now(self) -> Properties:
        """Return what the JSON says at this moment."""
        looked = time.monotonic(), last_change()
        found = self._look()
        self._looked = looked
        return found

    def _is_fresh(self) -> bool:
        seconds, change = self._looked
        return not self.location.is_local and time.monotonic() < seconds + FRESH_SECONDS and change == last_change()

    def look_again(self) -> None:
        """Let the next look at the JSON be one at the document itself, as others may have changed it a moment ago."""
        self._looked = -FRESH_SECONDS, 0

    def find(self, what: Callable[[Properties], T]) -> T:
        """Return what a function finds in the JSON; what was not there a moment ago is looked for again."""
        fresh = self._is_fresh()
        try:
            return what(self.properties)
        except (LayerNotFoundError, MagNotFoundError):
            if not fresh:
                raise
        return what(self._now())

    def _look(self) -> Properties:
        if self._seen is None:
            self._seen = self._read_at_once()
            if self._seen is not None:
                return self._seen[1]
        stat = self.document.stat()
        if stat is None:
            if unfinished_jobs(self.location):
                raise DatasetNotFoundError(
                    f"{self.location} holds an unfinished conversion, no complete magnification yet. "
                    "Run the conversion again; it goes on."
                )
            raise DatasetNotFoundError(f"{self.location} is no dataset: {FILE_NAME} is missing. Check the path.")
        if stat.size > MAX_JSON_BYTES:
            raise MetadataError(f"{self.document} has {stat.size} bytes, expected at most {MAX_JSON_BYTES}. Restore the file.")
        untold = not stat.mtime_ns and stat.tag in ("", f"{stat.size}-0")  # whether the store says nothing that changes with it
        if self._seen is None or self._seen[0] != (stat.size, stat.stamp) or untold:
            parsed = Properties.from_json(self.document.read_bytes(), str(self.document))
            self._seen = (stat.size, stat.stamp), parsed
        return self._seen[1]

    def _read_at_once(self) -> tuple[tuple[int, int], Properties] | None:
        """Return the JSON in a store, and what tells when it changes, of one answer; None where it must be looked at."""
        found = None if self.location.is_local else self.document.read_range(0, MAX_JSON_BYTES)
        if found is None or found.size > MAX_JSON_BYTES:
            return None
        stat = Stat(found.size, 0, found.version)
        return (stat.size, stat.stamp), Properties.from_json(found.data, str(self.document))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Take the JSON, in this thread and for the block, as it was at its beginning: on stores each look is a request."""
        with self._holding(self.properties):
            yield

    @contextmanager
    def _holding(self, properties: Properties) -> Iterator[None]:
        before = getattr(self._held, "properties", None)
        self._held.properties = properties
        try:
            yield
        finally:
            self._held.properties = before

    def read(self, read: Callable[[], T]) -> T:
        """Return what a function of what the JSON says now returns, which must change nothing.

        On stores, each look at the JSON is a request, and the function makes others. So it is called at once, with what the
        JSON said before; where that turns out to be outdated, it is called again.
        """
        holds = getattr(self._held, "properties", None) is not None
        seen = None if self.location.is_local or holds else self._seen
        if seen is None:
            with self.held():
                return read()
        looking = ThreadPoolExecutor(1, "wkdask-json")
        now = looking.submit(self._now)
        looking.shutdown(wait=False)
        try:
            with self._holding(seen[1]):
                found = read()
            if now.result() == seen[1]:
                return found
            del found
        except Exception:
            if now.result() == seen[1]:
                raise
        with self._holding(now.result()):
            return read()

    def know(self, place: Location) -> None:
        """Open what lies in the store of another place with that one's options from now on; no document keeps them."""
        self.location = self.location.knowing(place)

    def require_writable(self) -> None:
        """Raise `ReadOnlyError` where the dataset was opened for reading only."""
        if self.read_only:
            raise ReadOnlyError(f"{self.location} was opened read-only. Open it without read_only to change it.")

    def update(self, change: Callable[[Properties], Properties]) -> None:
        """Replace the JSON by a function of what it says now, so that nobody else's change is lost."""
        self.require_writable()

        def changed(old: bytes | None) -> bytes:
            if old is None:
                raise DatasetNotFoundError(f"{self.location} is no dataset any more: {FILE_NAME} is missing. Restore it.")
            return change(Properties.from_json(old, str(self.document))).to_json()

        update_document(self.document, changed)
        self._seen = None

    def __reduce__(self) -> tuple[Callable[..., DatasetStore], tuple[Location, bool]]:
        return _reopen, (self.location, self.read_only)


def _reopen(location: Location, read_only: bool) -> DatasetStore:
    return DatasetStore(location, read_only=read_only)
