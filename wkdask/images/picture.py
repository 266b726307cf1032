"""What the readers of single files have in common, and the process-wide memory of parsed files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Protocol

from wkdask.errors import StorageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TIFF_EXTENSIONS = ("tif", "tiff")
PILLOW_EXTENSIONS = ("png", "jpg", "jpeg", "bmp", "gif")
EXTENSIONS = TIFF_EXTENSIONS + PILLOW_EXTENSIONS

LARGEST_RATIO = 4096
"""A compressed file that claims to hold more than this times its own size is taken for damaged."""


@dataclass(frozen=True, slots=True)
class Form:
    """What all slices of a stack must have in common.

    Examples
    --------
    >>> print(Form(480, 640, 3, "uint8"))
    640 x 480 voxels, 3 channels, uint8
    """

    height: int
    width: int
    channels: int
    dtype: str

    def __str__(self) -> str:
        """Say it the way an error message does."""
        channels = "1 channel" if self.channels == 1 else f"{self.channels} channels"
        return f"{self.width} x {self.height} voxels, {channels}, {self.dtype}"


class Picture(Protocol):
    """One parsed file: `pages` planes of one form.

    ``row_step`` is the number of rows that are decoded together: 1 where bytes are read as they lie, the height of a
    strip or tile, or the height of the page.
    """

    @property
    def form(self) -> Form:
        """Shape, channels and dtype of each page."""

    @property
    def pages(self) -> int:
        """How many planes the file holds."""

    @property
    def row_step(self) -> int:
        """Rows that are decoded together."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know about the values."""

    def read(self, descriptor: int, page: int, rows: tuple[int, int], out: NDArray[np.generic]) -> None:
        """Fill ``out[y, x, c]`` with the rows ``rows[0] <= y < rows[1]`` of a page."""


_parsed: dict[str, tuple[int, int, Picture]] = {}
"""Path -> size, mtime and description: what probing has learned, reading need not learn again."""


def extension_of(name: str) -> str:
    """Return the extension in lower case, without the dot.

    Examples
    --------
    >>> extension_of("a/Slice.TIF")
    'tif'
    """
    return PurePath(name).suffix.lower().removeprefix(".")


def parsed(path: str, stat: os.stat_result | None = None) -> Picture:
    """Return the description of a file, parsed at most once in this process while the file does not change.

    Parameters
    ----------
    path
        The file.
    stat
        Its status, where the caller knows it already.

    Returns
    -------
    Picture
        Safe to use from several threads.

    Raises
    ------
    CorruptImageError, UnsupportedImageFormatError, UnsupportedImageDataError
        As the reader of that kind of file finds it.
    StorageError
        If the file is gone, or the disk fails.
    """
    try:
        stat = stat or os.stat(path)
    except OSError as error:
        raise StorageError(f"'{path}' can not be read: {error}. Put the file back, then run again.") from error
    known = _parsed.get(path)
    if known is not None and known[:2] == (stat.st_size, stat.st_mtime_ns):
        return known[2]
    try:
        picture = _parse(path, stat.st_size)
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"'{path}' can not be read: {error}. Allow reading it, or leave it out.") from error
    _parsed[path] = (stat.st_size, stat.st_mtime_ns, picture)
    return picture


def forget_parsed() -> None:
    """Drop what this process remembers of files, for tests and measurements."""
    _parsed.clear()


def _parse(path: str, size: int) -> Picture:
    if extension_of(path) in TIFF_EXTENSIONS:
        from wkdask.images.tiff import parse_tiff

        return parse_tiff(path, size)
    from wkdask.images.pillow import parse_with_pillow

    return parse_with_pillow(path, size)
