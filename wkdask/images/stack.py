"""A file or folder of images as one stack of planes: found, checked, and read by rows."""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wkdask.errors import CorruptImageError, InputError, StorageError, UnsupportedImageDataError, UnsupportedImageFormatError
from wkdask.images.byte_source import opened
from wkdask.images.numbering import (
    MISSING,
    Packed,
    natural_order,
    packed_names,
    packed_plan,
    place_slices,
    unpacked_names,
    unpacked_plan,
)
from wkdask.images.picture import EXTENSIONS, Form, Picture, extension_of, parsed
from wkdask.storage import Location
from wkdask.storage.location import explained

if TYPE_CHECKING:
    from numpy.typing import NDArray

PROBED_BEFORE_THREADS = 8
SLOW_PROBE_SECONDS = 0.002
JUNK = ("thumbs.db", "desktop.ini", ".ds_store")


@dataclass(frozen=True)
class ImageStack:
    """Planes of one shape, dtype and number of channels, one behind the other; array order is (z, y, x, c).

    A stack is a value: names and numbers, without open files. It pickles, and is read from several threads at once.

    Attributes
    ----------
    folder
        Where the files lie.
    files
        File names, in the order of z.
    plan
        For each z the index of its file (of its page, where `files` has one name and that holds several pages), or -1
        for a plane of zeros.
    form
        Height, width, channels and dtype of each plane.
    row_steps
        The numbers of rows that the files decode together.
    multipage
        Whether `plan` counts pages.
    missing
        How gaps in the numbering are filled: "zeros", "repeat", "ignore" or None.
    notes
        What a user should know: gaps that were filled, palettes that were ignored.

    Examples
    --------
    >>> stack = find_images("em/", missing="zeros")
    >>> stack.read(0, 16, 0, 48).shape
    (16, 48, 64, 1)
    """

    folder: str
    files: tuple[str, ...]
    plan: tuple[int, ...] | range
    form: Form
    row_steps: tuple[int, ...]
    multipage: bool = False
    missing: str | None = None
    notes: tuple[str, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle names and plan as runs: a few hundred bytes for most stacks of any length."""
        rest = tuple(getattr(self, field.name) for field in fields(self)[3:])
        return _unpickled, (self.folder, packed_names(self.files), packed_plan(self.plan), rest)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Extent (z, y, x) in voxels."""
        return len(self.plan), self.form.height, self.form.width

    @property
    def channels(self) -> int:
        """1, or 3 for RGB."""
        return self.form.channels

    @property
    def dtype(self) -> str:
        """Numpy's name of the voxel type, in native byte order."""
        return self.form.dtype

    @property
    def bytes(self) -> int:
        """Size of all voxels, decoded."""
        import numpy as np

        z, y, x = self.shape
        return z * y * x * self.channels * np.dtype(self.dtype).itemsize

    @property
    def rows_alone(self) -> bool:
        """Whether some rows of a page can be read without decoding all of it."""
        return all(step < self.form.height for step in self.row_steps) or self.form.height == 1

    @property
    def row_step(self) -> int:
        """Rows that are decoded together; bands aligned to it cost nothing extra."""
        return min(math.lcm(*self.row_steps), self.form.height)

    def decodes(self, band_rows: int) -> float:
        """Say how often the bytes of a page are decoded when it is read in bands.

        Parameters
        ----------
        band_rows
            Rows of a band; the first band begins at row 0.

        Returns
        -------
        float
            1.0 where bands are aligned to strips or tiles, up to the number of bands.

        Examples
        --------
        >>> stack = ImageStack(".", ("a.tif",), range(9), Form(100, 10, 1, "uint8"), (64,), multipage=True)
        >>> stack.decodes(64), stack.decodes(32), stack.decodes(100)
        (1.0, 2.0, 1.0)
        """
        height = self.form.height
        most = 1.0
        for step in self.row_steps:
            touched = sum(-(-min(y + band_rows, height) // step) - y // step for y in range(0, height, max(1, band_rows)))
            if step > 1:
                most = max(most, touched / -(-height // step))
        return most

    def identity(self) -> list[tuple[str, int, int]]:
        """Return (name, size, mtime in ns) of each file as it is now, to notice a change of the input."""
        stats = ((name, os.stat(os.path.join(self.folder, name))) for name in self.files)
        return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]

    def read(self, z0: int, z1: int, y0: int, y1: int, *, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Read the rows ``y0 <= y < y1`` of the planes ``z0 <= z < z1``.

        Parameters
        ----------
        z0, z1, y0, y1
            In voxels of the stack, from 0; nothing may lie outside.
        out
            Where to put the voxels: C-ordered, of the shape and dtype below. Filling one buffer again and again is faster
            than new memory for every read.

        Returns
        -------
        numpy.ndarray
            C-ordered, native byte order, shape (z1 - z0, y1 - y0, width, channels).

        Raises
        ------
        InputError
            If the range leaves the stack.
        CorruptImageError
            If a file's data can not be decoded, or the file was changed since the stack was found.
        StorageError
            If a file is gone, or the disk fails.
        """
        import numpy as np

        depth, height, width = self.shape
        if not (0 <= z0 <= z1 <= depth and 0 <= y0 <= y1 <= height):
            raise InputError(f"z {z0} to {z1}, y {y0} to {y1} leaves the image stack of {depth} planes of {height} rows.")
        shape = (z1 - z0, y1 - y0, width, self.channels)
        out = np.empty(shape, self.dtype) if out is None else out
        if out.shape != shape or out.dtype != self.dtype or not out.flags.c_contiguous or not out.flags.writeable:
            raise InputError(
                f"out is {out.dtype} {out.shape}; a writable C-ordered array {self.dtype} {shape} was expected. Give one."
            )
        if out.size == 0:
            return out
        for file, planes in self._by_file(z0, z1):
            if file < 0:
                out[planes[0][0]] = 0
            else:
                self._read_file(self.files[file], planes, (y0, y1), out)
        return out

    def _by_file(self, z0: int, z1: int) -> Iterator[tuple[int, list[tuple[int, int]]]]:
        """Yield (index of the file or -1, pairs of plane in the result and page in the file)."""
        if self.multipage:
            yield 0, [(z - z0, self.plan[z]) for z in range(z0, z1)]
            return
        for z in range(z0, z1):
            yield self.plan[z], [(z - z0, 0)]

    def _read_file(self, name: str, planes: list[tuple[int, int]], rows: tuple[int, int], out: NDArray[Any]) -> None:
        path = os.path.join(self.folder, name)
        try:
            with opened(path) as descriptor:
                picture = parsed(path, os.fstat(descriptor))
                if picture.form != self.form or (picture.pages != len(self.plan) if self.multipage else picture.pages != 1):
                    raise CorruptImageError(
                        f"'{path}' was changed: it has {picture.pages} pages of {picture.form}, expected {self.form}. "
                        "Look for the images anew."
                    )
                for index, page in planes:
                    picture.read(descriptor, page, rows, out[index])
        except OSError as error:
            raise StorageError(f"'{path}' can not be read: {error}. Put the file back, then run again.") from error


def find_images(source: str | Path, missing: str | None = None) -> ImageStack:
    """Find the images at a path, check all of them, and say how they stack.

    Parameters
    ----------
    source
        One file, or a folder whose files are single planes of one kind. A TIFF of several pages alone is a stack.
    missing
        How to fill gaps in the numbering of the files: "zeros", "repeat" (the slice before), "ignore" (no gap is left);
        None makes a gap an error.

    Returns
    -------
    ImageStack
        In natural order of the names.

    Raises
    ------
    InputError
        If there is nothing at the path, or the numbering has gaps or doubles.
    StorageError
        If the path may not be read.
    UnsupportedImageFormatError
        If no file has a readable extension, kinds are mixed, or a codec is not installed.
    UnsupportedImageDataError
        If slices differ in shape, channels or dtype, or have axes that do not fit.
    CorruptImageError
        If a file is truncated or not what its name says.

    Examples
    --------
    >>> import tempfile, numpy, tifffile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for z in range(3):
    ...         tifffile.imwrite(f"{folder}/slice_{z}.tif", numpy.full((4, 5), z, "uint8"))
    ...     stack = find_images(folder)
    ...     stack.shape, stack.dtype, stack.read(1, 3, 0, 4)[:, 0, 0, 0].tolist()
    ((3, 4, 5), 'uint8', [1, 2])
    """
    if missing is not None and missing not in MISSING:
        raise InputError(f"missing is {missing!r}; expected one of {', '.join(MISSING)}, or None.")
    path = Path(source)
    with explained(Location.of(path), "read"):
        if not path.exists():
            raise InputError(f"There is nothing at '{source}'. Give an image file, or a folder of image files.")
        names = _readable_names(path) if path.is_dir() else []
    return _from_folder(path, names, missing) if names else _from_file(path, missing)


def _from_folder(path: Path, names: list[str], missing: str | None) -> ImageStack:
    if len(names) == 1:
        return _from_file(path / names[0], missing)
    plan, notes = place_slices(names, missing)
    pictures = _parsed_all(os.path.abspath(path), names)
    _refuse_differences(path, names, pictures)
    return ImageStack(
        folder=os.path.abspath(path),
        files=tuple(names),
        plan=plan,
        form=pictures[0].form,
        row_steps=tuple(sorted({picture.row_step for picture in pictures})),
        missing=missing,
        notes=notes + _notes(pictures),
    )


def _unpickled(folder: str, names: Packed, plan: bytes | range, rest: tuple[Any, ...]) -> ImageStack:
    return ImageStack(folder, unpacked_names(names), unpacked_plan(plan), *rest)


def _parsed_all(folder: str, names: list[str]) -> list[Picture]:
    """Parse all files: by one thread where the disk answers at once (the work is Python's), else by several."""
    paths = [os.path.join(folder, name) for name in names]
    parsed(paths[0])  # imports the reader
    begin = time.perf_counter()
    for path in paths[:PROBED_BEFORE_THREADS]:
        parsed(path)
    seconds = (time.perf_counter() - begin) / PROBED_BEFORE_THREADS
    if seconds < SLOW_PROBE_SECONDS:
        return [parsed(path) for path in paths]
    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(parsed, paths))


def _from_file(path: Path, missing: str | None) -> ImageStack:
    if extension_of(path.name) not in EXTENSIONS:
        raise UnsupportedImageFormatError(
            f"'{path}' has the extension '{path.suffix}'; readable are {', '.join(EXTENSIONS)}. Convert it to TIFF first."
        )
    path = Path(os.path.abspath(path))
    picture = parsed(str(path))
    return ImageStack(
        folder=str(path.parent),
        files=(path.name,),
        plan=range(picture.pages),
        form=picture.form,
        row_steps=(picture.row_step,),
        multipage=picture.pages > 1,
        missing=missing,
        notes=picture.notes,
    )


def _notes(pictures: list[Picture]) -> tuple[str, ...]:
    return tuple(sorted({note for picture in pictures for note in picture.notes}))


def _readable_names(folder: Path) -> list[str]:
    """Return the image files directly in a folder, in natural order, all of one kind."""
    entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".") and entry.name.lower() not in JUNK]
    files = [entry.name for entry in entries if entry.is_file()]
    folders = sorted(entry.name for entry in entries if entry.is_dir())
    names = [name for name in files if extension_of(name) in EXTENSIONS]
    if not names:
        _refuse_nothing_readable(folder, files, folders)
    kinds = Counter("tif" if extension_of(name).startswith("tif") else extension_of(name) for name in names)
    kinds["jpg"] += kinds.pop("jpeg", 0)
    kinds = +kinds
    if len(kinds) > 1:
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        raise UnsupportedImageFormatError(
            f"The folder '{folder}' mixes kinds of images: {counts}; one was expected. Put each kind into a folder of its own."
        )
    return natural_order(names)


def _refuse_nothing_readable(folder: Path, files: list[str], folders: list[str]) -> None:
    if not files and not folders:
        raise UnsupportedImageFormatError(
            f"The folder '{folder}' is empty. Give a folder of image files ({', '.join(EXTENSIONS)})."
        )
    if not files:
        some = ", ".join(f"'{name}'" for name in folders[:5]) + (f" and {len(folders) - 5} more" if len(folders) > 5 else "")
        raise UnsupportedImageFormatError(
            f"The folder '{folder}' has no files, only the folders {some}; images were expected. Give one of those folders."
        )
    kinds = Counter(extension_of(name) or "no extension" for name in files)
    found = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5))
    raise UnsupportedImageFormatError(
        f"The folder '{folder}' has no readable images but {len(files)} other files ({found}); readable are "
        f"{', '.join(EXTENSIONS)}. Convert them to TIFF first."
    )


def _refuse_differences(folder: Path, names: list[str], pictures: list[Picture]) -> None:
    first = pictures[0]
    for name, picture in zip(names, pictures, strict=True):
        if picture.pages != 1:
            raise UnsupportedImageDataError(
                f"'{folder / name}' has {picture.pages} pages, but lies in a folder of {len(names)} images; single planes were "
                "expected. Convert files of several pages one at a time."
            )
        if picture.form != first.form:
            raise UnsupportedImageDataError(
                f"Slices differ: '{folder / names[0]}' has {first.form}, '{folder / name}' has {picture.form}; all slices must "
                "be alike. Remove or convert those that differ."
            )
