"""The tasks that copy attachments, as they are."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from wkdask.errors import InputError
from wkdask.operations.existing import resolved
from wkdask.operations.level import path_below
from wkdask.plan import FileRecord, Journal, Receipt, stop_if_asked
from wkdask.storage import Location, copy_file


@dataclass(frozen=True, slots=True)
class CopyTrees:
    """Each task copies an attachment, a file or folder that is not looked into.

    Parameters
    ----------
    trees
        From where, and the path below the dataset to where.
    journal
        Knows the dataset, and where unfinished files lie.
    """

    trees: tuple[tuple[Location, str], ...]
    journal: Journal

    bytes_needed = 32 << 20
    bytes_in = bytes_out = scratch_needed = parts_bytes = 0  # no voxels

    @property
    def count(self) -> int:
        """Number of attachments."""
        return len(self.trees)

    def dependencies(self, number: int) -> Iterable[tuple[int, int]]:  # noqa: ARG002
        """Return nothing: the files are there."""
        return ()

    def consumes(self, number: int) -> Iterable[str]:  # noqa: ARG002
        """Return nothing: the source stays."""
        return ()

    def run(self, stage: int, number: int) -> Receipt:
        """Copy all files."""
        start = time.perf_counter()
        source, path = self.trees[number]
        records = []
        for below in files_below(source):
            stop_if_asked()
            place = self.journal.target / (f"{path}/{below}" if below else path)
            stat = copy_file(source / below if below else source, place, self.journal.scratch, stop_if_asked)
            records.append(FileRecord(path_below(self.journal.target, place), stat.size, stat.stamp, 0))
        return Receipt(
            stage, number, "done", tuple(records), time.perf_counter() - start, 0, sum(record.size for record in records)
        )

    def retire(self, number: int) -> None:
        """Nothing is superfluous."""

    def is_intact(self, record: FileRecord) -> bool:
        """Whether a file still has the size and the time that were recorded."""
        stat = (self.journal.target / record.path).stat()
        return stat is not None and (stat.size, stat.stamp) == (record.size, record.stamp)

    def describe(self) -> str:
        """Return what is copied."""
        return f"{len(self.trees)} attachments as they are"


def files_below(place: Location) -> Iterator[str]:
    """Yield the paths of all files below a folder, sorted; of a file, the empty path.

    Raises
    ------
    InputError
        Where a link lies below it: what that leads to may be anything, or the folder itself.
    """
    if place.is_file():
        yield ""
        return
    stack, root = [""], resolved(place)
    while stack:
        path = stack.pop()
        here = place / path if path else place
        if resolved(here) != (f"{root}/{path}" if path else root):
            raise InputError(f"{here} is a link, so the attachment {place} is not copied. Put the files themselves there.")
        if path and not here.is_folder():
            yield path
        else:
            stack += [f"{path}/{name}" if path else name for name in reversed(here.names())]
