"""What a plan reads: noticed where it changes before what was made of it is listed.

Sizes and times of files are compared as the plan was made with those when a magnification is to be committed. What is changed
and gets its old size and time back is not noticed; nor are, among the chunks of a volume of images, those that are not sampled.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from wkdask.errors import InputChangedError, StorageError
from wkdask.formats import ArrayHandle
from wkdask.formats.stored import stored_units
from wkdask.geometry.grid import Box, Index
from wkdask.images import Stack


@dataclass(frozen=True, slots=True)
class Input:
    """Images, or an array: what is read, and what its files looked like when the plan was made.

    Parameters
    ----------
    source
        What is read.
    box
        Which part of an array, in its voxels; None: all of it.
    files
        How many there were.
    digest
        Of names, sizes and times.
    """

    source: Stack | ArrayHandle
    box: Box | None
    files: int
    digest: str

    @classmethod
    def of(cls, source: Stack | ArrayHandle, box: Box | None = None) -> Input:
        """Return a source as it is now."""
        files, digest = 0, hashlib.sha256()
        for row in _rows(source, box):
            digest.update(repr(row).encode())
            files += 1
        return cls(source, box, files, digest.hexdigest())

    def check(self) -> None:
        """Refuse what has changed."""
        try:
            now = Input.of(self.source, self.box)
        except StorageError as error:
            if not isinstance(self.source, Stack):  # a unit that is gone is none that can not be read
                raise
            raise InputChangedError(f"The input changed while it was read: {error}") from error
        if now.digest != self.digest:
            gone = f"; there are {now.files} files and there were {self.files}" if now.files != self.files else ""
            raise InputChangedError(
                f"The input changed while it was read; the file that was written last is {self._latest()}{gone}. Nothing that "
                "was made of it since is listed. Begin anew when nobody writes it any more."
            )

    def _latest(self) -> str:
        name, _, _ = max(_rows(self.source, self.box), key=lambda row: row[2], default=("gone", 0, 0))
        if isinstance(name, str):
            return name
        array: ArrayHandle = self.source  # type: ignore[assignment]
        return str(array.unit_location(name))


@dataclass(frozen=True, slots=True)
class Inputs:
    """All that a plan reads.

    Examples
    --------
    >>> from wkdask import Dataset
    >>> array = Dataset.open("brain").get_layer("color").get_mag(1).array.handle
    >>> both = Inputs.of_array(array) + Inputs.of_array(array)
    >>> both.check()
    >>> len(both.digest)
    129
    """

    inputs: tuple[Input, ...]

    @classmethod
    def of_stack(cls, stack: Stack) -> Inputs:
        """Return images as they are now."""
        return cls((Input.of(stack),))

    @classmethod
    def of_array(cls, array: ArrayHandle, box: Box | None = None) -> Inputs:
        """Return an array's units as they are now."""
        return cls((Input.of(array, box),))

    def __add__(self, other: Inputs) -> Inputs:
        return Inputs(self.inputs + other.inputs)

    @property
    def digest(self) -> str:
        """Of all names, sizes and times."""
        return "-".join(each.digest for each in self.inputs)

    def check(self) -> None:
        """Refuse what has changed.

        Raises
        ------
        InputChangedError
            Naming the file that was written last, or that is gone.
        """
        for each in self.inputs:
            each.check()


def _rows(source: Stack | ArrayHandle, box: Box | None) -> Iterator[tuple[str | Index, int, int]]:
    """Yield name, size and time (or what else tells of a change) of each file; of arrays the index of each stored unit."""
    if isinstance(source, Stack):
        yield from source.identity()
        return
    for index, stat in stored_units(source, box):
        yield index, stat.size, stat.mtime_ns or zlib.crc32(stat.tag.encode())
