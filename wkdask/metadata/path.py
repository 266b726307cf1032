"""Paths in documents: what kind they are, and where relative ones lead.

Five forms occur: relative to the dataset's folder and in it (``./color/1``), relative but elsewhere (``../other/color/1``),
absolute, a URL, and S3 with the endpoint's host (``s3://host/bucket/key``). Only those in the dataset are resolved here;
whether to follow others is the caller's policy.
"""

from __future__ import annotations

import re
from enum import StrEnum
from urllib.parse import unquote

from wkdask.errors import LayerNameError, MetadataError

LONGEST_NAME = 255
"""Characters of a folder's name, on all usual file systems."""

_LAYER_NAME = re.compile(r"[A-Za-z0-9_$@\-]+[A-Za-z0-9_$@\-.]*")


class PathKind(StrEnum):
    """Where a path in a document starts."""

    RELATIVE = "relative"
    OUTSIDE = "outside"
    ABSOLUTE = "absolute"
    URL = "url"
    S3 = "s3"


def classify_path(path: str) -> PathKind:
    r"""Return the kind of a path, by its form alone.

    Examples
    --------
    >>> [str(classify_path(p)) for p in ("./color/1", "/data/ds/color/1", "https://host/ds/color/1", "s3://host/bucket/key")]
    ['relative', 'absolute', 'url', 's3']
    >>> classify_path(r"C:\data\color").value, classify_path("./color/../../other/color/1").value
    ('absolute', 'outside')
    """
    if re.match(r"[sS]3://", path):
        return PathKind.S3
    if re.match(r"[A-Za-z][A-Za-z0-9+.\-]+:", path) or "://" in path or "::" in path:
        return PathKind.URL
    if path.startswith(("/", "\\\\")) or re.match(r"[A-Za-z]:", path):
        return PathKind.ABSOLUTE
    return PathKind.OUTSIDE if _leaves(path) else PathKind.RELATIVE


def _leaves(path: str) -> bool:
    """Whether a path climbs above the folder that it starts from."""
    depth = 0
    for part in path.split("/"):
        depth += {"": 0, ".": 0, "..": -1}.get(part, 1)
        if depth < 0:
            return True
    return False


def resolve_relative(path: str) -> str:
    """Return a relative path without dots, as seen from the dataset's folder.

    Raises
    ------
    MetadataError
        It is not relative, leaves the dataset, is the dataset itself, or has characters that no such path has.

    Examples
    --------
    >>> resolve_relative("./color/./1")
    'color/1'
    """
    if classify_path(path) is not PathKind.RELATIVE:
        raise MetadataError(f"The path {path!r} does not lie in the dataset. Open it where it lies.")
    for reading in (unquote(path), path):
        if "\0" in reading or "\\" in reading:
            raise MetadataError(f"The path {path!r} has a NUL or a backslash. Separate folders by '/'.")
        parts: list[str] = []
        for part in reading.split("/"):
            if part == ".." and not parts:
                raise MetadataError(f"The path {path!r} leaves the dataset. Use an absolute path or a URL for data elsewhere.")
            if part == "..":
                parts.pop()
            elif part not in ("", "."):
                parts.append(part)
        if not parts:
            raise MetadataError(f"The path {path!r} is the dataset itself. Give a folder in it.")
    return "/".join(parts)


def validate_layer_name(name: object) -> str:
    """Return the name when a layer may have it.

    Raises
    ------
    LayerNameError
        The name is empty, too long for a folder, starts with a dot, or has a character that is not allowed.

    Examples
    --------
    >>> validate_layer_name("seg_v2.1")
    'seg_v2.1'
    """
    rule = "Use letters, digits and _ $ @ - . (no dot at the start)."
    if not isinstance(name, str) or not name:
        raise LayerNameError(f"{name!r} is not a layer name: it is empty or no text. {rule}")
    if len(name) > LONGEST_NAME:
        raise LayerNameError(
            f"{name[:20] + '...'!r} is not a layer name: it has {len(name)} characters, {LONGEST_NAME} at most fit. {rule}"
        )
    if name.startswith("."):
        raise LayerNameError(f"{name!r} is not a layer name: it starts with a dot. {rule}")
    if not _LAYER_NAME.fullmatch(name):
        wrong = sorted({letter for letter in name if not re.fullmatch(r"[A-Za-z0-9_$@\-.]", letter)})
        raise LayerNameError(f"{name!r} is not a layer name: it has {', '.join(map(repr, wrong))}. {rule}")
    return name
