"""What the readers of single files have in common, and the process-wide memory of parsed files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from wkdask.errors import StorageError
from wkdask.images.byte_source import ByteSource, opened, status
from wkdask.images.places import FilePath
from wkdask.storage import Location

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TIFF_EXTENSIONS = ("tif", "tiff", "lsm")
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
    """One parsed file: planes of one form, in the order of the axes that lie around them.

    A picture is a value without open files: it is read through any source that `opened` gives for its path, by several
    threads at once.
    """

    @property
    def form(self) -> Form:
        """Shape, channels (the samples that lie together in a plane) and dtype of each plane."""

    @property
    def dims(self) -> tuple[tuple[str, int], ...]:
        """Axes outside of the plane: names out of "t", "c", "z" and extents > 1, the slowest first; () for one plane."""

    @property
    def pages(self) -> int:
        """How many planes the file holds: the product of `dims`."""

    @property
    def row_step(self) -> int:
        """Rows that are decoded together: 1 where bytes are read as they lie, else those of a strip, tile or plane."""

    @property
    def column_step(self) -> int:
        """Columns that are decoded together: those of a tile, or the width."""

    @property
    def colour(self) -> str:
        """What the samples of a plane are: "grey", "rgb", "rgba", or "samples" of no known meaning."""

    @property
    def voxel_size(self) -> tuple[float, float, float] | None:
        """Edges (x, y, z) of a voxel in nanometer, where the file says all that is needed to know them."""

    @property
    def channel_colors(self) -> tuple[tuple[int, int, int] | None, ...]:
        """Red, green and blue (0 to 255) of each channel, None where the file does not say it; or ()."""

    @property
    def channel_names(self) -> tuple[str, ...]:
        """A name for each channel, or ()."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know about the values."""

    @property
    def decoded_bytes(self) -> int:
        """Memory that decoding one plane takes at once where its rows can not be decoded alone; 0 where they can.

        A compressed member of a zip file takes the memory of all its bytes besides.
        """

    def read(
        self, source: ByteSource, page: int, rows: tuple[int, int], columns: tuple[int, int], out: NDArray[np.generic]
    ) -> None:
        """Fill ``out[y, x, c]`` with a window of a plane.

        Parameters
        ----------
        source
            The file, from `opened`.
        page
            Which plane, from 0.
        rows, columns
            First one and the one after the last, in voxels of the plane.
        out
            C-ordered, native byte order, shape (rows, columns, channels) of the window.

        Raises
        ------
        CorruptImageError
            If the data can not be decoded.
        """


_parsed: dict[FilePath, tuple[int, int, Picture]] = {}
"""Path -> size, mtime and description: what probing has learned, reading need not learn again."""


def extension_of(name: str) -> str:
    """Return the extension in lower case, without the dot.

    Examples
    --------
    >>> extension_of("a/Slice.TIF")
    'tif'
    """
    return os.path.splitext(name)[1].lower().removeprefix(".")


def parsed(path: FilePath, source: ByteSource | None = None) -> Picture:
    """Return the description of a file, parsed at most once in this process while the file does not change.

    Parameters
    ----------
    path
        The file, on a disk or a store, or a member of a zip file (`byte_source.opened` tells how to spell it).
    source
        The file, where the caller has opened it already.

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
        if source is None and isinstance(path, Location):  # whose first bytes come with its status
            with opened(path) as file:
                return parsed(path, file)
        now = source.status() if source else status(path)
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"'{path}' can not be read: {error}. Put the file back, then run again.") from error
    stamp = now.st_size, now.st_mtime_ns
    remembered = _parsed.get(path)
    if remembered is not None and remembered[:2] == stamp:
        return remembered[2]
    try:
        picture = _parse(path, source) if source else _parse_closed(path)
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"'{path}' can not be read: {error}. Allow reading it, or leave it out.") from error
    _parsed[path] = (*stamp, picture)
    return picture


def forget_parsed() -> None:
    """Drop what this process remembers of files, for tests and measurements."""
    _parsed.clear()


def _parse_closed(path: FilePath) -> Picture:
    with opened(path) as source:
        return _parse(path, source)


def _parse(path: FilePath, source: ByteSource) -> Picture:
    name = str(path)
    if extension_of(name) in TIFF_EXTENSIONS:
        from wkdask.images.tiff import parse_tiff

        return parse_tiff(name, source)
    from wkdask.images.pillow import parse_with_pillow

    return parse_with_pillow(name, source)


def reason_of(error: Exception) -> str:
    """Return why a picture can not be decoded, for a message.

    Examples
    --------
    >>> reason_of(ValueError("no strips.")), reason_of(EOFError())
    ('no strips', 'EOFError')
    """
    if isinstance(error, MemoryError):
        return "it asks for more memory than there is"
    return f"{error}".rstrip(".") or type(error).__name__
