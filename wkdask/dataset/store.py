"""The document of an open dataset: read when it changed, replaced by functions of itself."""

from __future__ import annotations

from collections.abc import Callable

from wkdask.errors import DatasetNotFoundError, ReadOnlyError
from wkdask.metadata import FILE_NAME, Properties
from wkdask.plan import unfinished_jobs
from wkdask.storage import Location, Stat, update_document


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
        self._seen: tuple[Stat, Properties] | None = None

    @property
    def document(self) -> Location:
        """The JSON."""
        return self.location / FILE_NAME

    @property
    def properties(self) -> Properties:
        """What the JSON says; parsed again only when the file changed.

        Raises
        ------
        DatasetNotFoundError
            Where there is none.
        """
        stat = self.document.stat()
        if stat is None:
            if unfinished_jobs(self.location):
                raise DatasetNotFoundError(
                    f"{self.location} holds an unfinished conversion, no complete magnification yet. "
                    "Run the conversion again; it goes on."
                )
            raise DatasetNotFoundError(f"{self.location} is no dataset: {FILE_NAME} is missing. Check the path.")
        if self._seen is None or self._seen[0] != stat or not stat.mtime_ns:
            self._seen = stat, Properties.from_json(self.document.read_bytes(), str(self.document))
        return self._seen[1]

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
