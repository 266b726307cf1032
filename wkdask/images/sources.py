"""Finding image files: in folders, zip files, by patterns, or as lists, on disks and on stores."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import takewhile
from pathlib import Path
from urllib.parse import unquote

from wkdask.errors import InputError, StorageError, UnsupportedImageFormatError
from wkdask.images.byte_source import zip_members
from wkdask.images.numbering import natural_order
from wkdask.images.picture import EXTENSIONS, extension_of
from wkdask.images.places import FilePath, name_of, refuse_query, settled, shown
from wkdask.storage import Location
from wkdask.storage.explained import explained
from wkdask.storage.zip_files import archive_at, zip_place

JUNK = ("thumbs.db", "desktop.ini", "__macosx")
LONGEST_PATH = 4096
"""Characters of a path, which is more than file systems allow; members of zip files may have more."""
MOST_LINKS = 10_000
"""Folders reached through links; more are taken for links that lead in circles."""


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """Image files below one folder.

    Attributes
    ----------
    folder
        Absolute path; a zip file's path with ``!`` for its members; or a place on a store.
    names
        Paths in `folder`, with / between folders, in natural order, or in the order of a list.
    label
        What all of them together may be called.
    alone
        Whether the source was this one file.
    listed
        Whether the source was a list, whose order counts.
    """

    folder: FilePath
    names: tuple[str, ...]
    label: str
    alone: bool = False
    listed: bool = False


def image_files(source: str | Path | Sequence[str | Path]) -> ImageFiles:
    """Find the image files that a source names; nothing of them is read.

    Parameters
    ----------
    source
        A file; a folder or a zip file, with all that lies below; a pattern with ``*``, ``?``, ``[...]`` or ``**``; or a list
        of files, which stay in its order. All may be URLs, of which web servers list no folders. Hidden files
        and folders, and what operating systems leave behind, are passed over, as are files of other kinds beside images.
        Links are followed.

    Raises
    ------
    InputError
        If there is nothing at the path, or nothing matches.
    UnsupportedImageFormatError
        If there are files, but none with an extension of readable images.
    StorageError
        If a file or folder may not be read, or a link leads nowhere.

    Examples
    --------
    >>> found = image_files("em/slice_?.tif")
    >>> found.label, len(found.names), found.names[-1]
    ('em', 10, 'slice_9.tif')
    """
    source = settled(source)
    if isinstance(source, Location):
        return _on_store(source)
    if not isinstance(source, str | os.PathLike):
        if any(isinstance(path, Location) for path in source):
            return replace(_from_urls(source), listed=True)
        return replace(_from_list([os.path.abspath(path) for path in source]), listed=True)
    source = os.fspath(source)
    path = os.path.abspath(source)
    with explained(Location.of(Path(path)), "read"):
        exists = _exists(path)
    if not exists:
        if not any(letter in source for letter in "*?["):
            raise InputError(f"There is nothing at '{source}'. Give an image file, or a folder of image files.")
        return _from_pattern(source)
    if os.path.isdir(path):
        return _checked(path, list(_walk(path, lambda _: True)), os.path.basename(path))
    if extension_of(path) == "zip":
        with explained(Location.of(Path(path)), "read"):
            return _in_archive(path + "!", (name for name, _, _ in zip_members(path)))
    return _from_list([path])


def _in_archive(folder: FilePath, names: Iterable[str]) -> ImageFiles:
    shown = [name for name in names if not any(map(_is_junk, name.removeprefix("./").split("/")))]
    return _checked(folder, shown, Path(name_of(folder)).stem)


def _exists(path: str) -> bool:
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _from_list(paths: list[str]) -> ImageFiles:
    if not paths:
        raise InputError("The list of images is empty. Name at least one file.")
    for path in paths:
        with explained(Location.of(Path(path)), "read"):
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise InputError(f"'{path}' is no file; image files were expected. Give a folder alone, not in a list.")
        _require_readable(path)
    _refuse_twice(paths)
    folder = os.path.commonpath([os.path.dirname(path) for path in paths])
    names = [os.path.relpath(path, folder).replace(os.sep, "/") for path in paths]
    alone = len(paths) == 1
    return ImageFiles(folder, tuple(names), Path(paths[0]).stem if alone else os.path.basename(folder), alone)


def _on_store(place: Location) -> ImageFiles:
    """Find what a URL names; only where nothing has it as its name, it is taken for a pattern."""
    if not place.lists and "*" in place.url:
        raise InputError(f"{place} is a pattern, and web servers list nothing. Give the URLs of image files.")
    if extension_of(str(place)) in EXTENSIONS and (not _has_wildcard(place.url) or place.is_file()):
        return _from_urls([place])
    if extension_of(str(place)) == "zip":
        refuse_query(place)
        with explained(place, "read"):
            return _in_archive(top := zip_place(place), archive_at(top).members())
    if not place.lists:
        raise InputError(
            f"{place} is no volume in Zarr, N5 or precomputed, and web servers list no folders of images. Give the URL of an "
            "image file, or a list of them."
        )
    if below := _names_below(place):
        return _checked(place, below, place.name)
    folder, wanted = place, list[str]()
    while _has_wildcard(folder.url) and folder.parent != folder:
        folder, wanted = folder.parent, [folder.name, *wanted]
    below = _names_below(folder) if wanted else []
    if not below:
        raise InputError(f"There is nothing at {folder}. Give an image file, or a folder of image files.")
    names = [name for name in below if _matches(name.split("/"), wanted)]
    if not names:
        raise InputError(f"No file matches {place}. Check the pattern; ** stands for folders at any depth.")
    return _checked(folder, names, folder.name)


def _names_below(folder: Location) -> list[str]:
    return sorted(name for name, _ in folder.files_below() if not any(map(_is_junk, name.split("/"))))


def _has_wildcard(url: str) -> bool:
    return not url.startswith("http") and any(letter in url for letter in "*?[")  # ? begins the query of web servers


def _from_urls(sources: Iterable[str | os.PathLike[str] | Location]) -> ImageFiles:
    places = [Location.of(source) for source in sources]
    for place in places:
        if place.is_local or (place.options, place.url.split("/")[:3]) != (places[0].options, places[0].url.split("/")[:3]):
            raise InputError(
                f"{place} and {places[0]} lie on different stores; the images of one list must lie on one. Copy them there."
            )
        refuse_query(place)
        _require_readable(str(place))
    _refuse_twice([place.url for place in places])
    paths = [place.url.split("/") for place in places]
    shared = [
        same[0] for same in takewhile(lambda parts: len(set(parts)) == 1, zip(*(path[:-1] for path in paths), strict=False))
    ]
    folder = Location("/".join(shared), places[0].options)
    names = tuple("/".join(path[len(shared) :]) for path in paths)
    alone = len(names) == 1
    return ImageFiles(folder, names, Path(_named(places[0])).stem if alone else folder.name, alone)


def _named(place: Location) -> str:
    """Return the path of a place as people read it: in URLs of web servers some letters stand in code."""
    return str(place) if place.lists else unquote(str(place))


def _require_readable(path: str) -> None:
    if extension_of(path) not in EXTENSIONS:
        raise UnsupportedImageFormatError(
            f"'{path}' has the extension '{Path(path).suffix}'; readable are {', '.join(EXTENSIONS)}. Convert it to TIFF first."
        )


def _refuse_twice(paths: list[str]) -> None:
    if len(set(paths)) < len(paths):
        [(twice, _)] = Counter(paths).most_common(1)
        raise InputError(f"'{twice}' stands twice in the list of images; each can be one slice only. Name it once.")


def _from_pattern(source: str) -> ImageFiles:
    parts = [part for part in source.replace(os.sep, "/").split("/") if part not in ("", ".")]
    first = next(index for index, part in enumerate(parts) if any(letter in part for letter in "*?["))
    folder = os.path.abspath(os.path.join(os.sep if source.startswith(os.sep) else "", *parts[:first]))
    wanted = [part for index, part in enumerate(parts[first:]) if part != "**" or parts[first:][index - 1] != "**" or not index]

    def enters(name: str) -> bool:
        at = name.split("/")
        depth = len(at) - 1
        return "**" in wanted[: depth + 1] or (depth + 1 < len(wanted) and fnmatchcase(at[-1], wanted[depth]))

    if not os.path.isdir(folder):
        raise InputError(f"There is no folder '{folder}' to look for '{source}' in. Check the path.")
    names = [name for name in _walk(folder, enters) if _matches(name.split("/"), wanted)]
    if not names:
        raise InputError(f"No file matches '{source}'. Check the pattern; ** stands for folders at any depth.")
    return _checked(folder, names, os.path.basename(folder))


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path matches a pattern whose ``**`` stands for any number of folders."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return bool(parts) if len(pattern) == 1 else any(_matches(parts[at:], pattern[1:]) for at in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _is_junk(name: str) -> bool:
    return name.startswith(".") or name.lower() in JUNK


def _walk(top: str, enters: Callable[[str], bool]) -> Iterator[str]:
    """Yield the paths of all files below a folder; what leads back to a folder above it is not followed again."""
    links = 0
    pending: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while pending:
        folder, above = pending.pop()
        here = os.path.join(top, folder)
        with explained(Location.of(Path(here)), "read"):
            key = os.stat(here)
            if (key.st_dev, key.st_ino) in above:
                continue
            with os.scandir(here) as scanned:
                entries = sorted((entry for entry in scanned if not _is_junk(entry.name)), key=lambda entry: entry.name)
        for entry in entries:
            name = folder + entry.name
            kind = _kind(entry)
            if kind == "folder":
                links += entry.is_symlink()
                if links > MOST_LINKS:
                    raise InputError(f"More than {MOST_LINKS} links to folders lie below '{top}'. Give a folder without them.")
                if enters(name):
                    pending.append((name + "/", above | {(key.st_dev, key.st_ino)}))
            elif kind == "file":
                yield name


def _kind(entry: os.DirEntry[str]) -> str:
    """Return "folder", "file" or "other"; a lost link that is named like an image is an error, since a slice would be lost."""
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
    except OSError as error:
        if error.errno != errno.ELOOP:
            with explained(Location.of(Path(entry.path)), "read"):
                raise
    if entry.is_symlink() and extension_of(entry.name) in EXTENSIONS and not os.path.exists(entry.path):
        raise StorageError(f"'{entry.path}' is a link that leads nowhere; an image was expected. Remove it, or mend the link.")
    return "other"


def _checked(folder: FilePath, names: list[str], label: str) -> ImageFiles:
    for name in names:
        if len(name) > LONGEST_PATH:
            raise InputError(
                f"A path in '{shown(folder)}' has {len(name)} characters, {LONGEST_PATH} at most were expected: "
                f"'{name[:40]}...'. Rename that file."
            )
    readable = natural_order([name for name in names if extension_of(name) in EXTENSIONS])
    if not readable:
        _refuse_nothing_readable(shown(folder), names)
    return ImageFiles(folder, tuple(readable), label)


def _refuse_nothing_readable(folder: str, files: list[str]) -> None:
    if not files and os.path.isdir(folder):
        with os.scandir(folder) as entries:
            folders = sorted(entry.name for entry in entries if entry.is_dir() and not _is_junk(entry.name))
        if folders:
            some = _enumerated(folders)
            raise UnsupportedImageFormatError(
                f"The folder '{folder}' has no files, only the folders {some}; images were expected. Give another folder."
            )
    if not files:
        raise UnsupportedImageFormatError(f"'{folder}' is empty. Give a folder of image files ({', '.join(EXTENSIONS)}).")
    kinds = Counter(extension_of(name) or "no extension" for name in files)
    found = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5))
    raise UnsupportedImageFormatError(
        f"'{folder}' has no readable images but {len(files)} other files ({found}); readable are {', '.join(EXTENSIONS)}. "
        "Convert them to TIFF first."
    )


def _enumerated(names: Iterable[str], most: int = 5) -> str:
    names = list(names)
    return ", ".join(f"'{name}'" for name in names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
