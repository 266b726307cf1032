"""Three-way merge of documents, for commits that found another one's commit in the way.

Works on parsed JSON, so that keys which no model knows take part as all others do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from wkdask.errors import ConflictError, InputError
from wkdask.metadata.mag import mag_name, mag_order, mag_triple

_ABSENT: Any = type("Absent", (), {"__repr__": lambda _: "nothing"})()

_WHOLE = frozenset({"boundingBox", "scale", "axisOrder", "largestSegmentId"})
"""Objects whose members have no meaning alone: they are one value."""


def _name(entry: Any) -> str:
    return f"{entry['name']!r}"


def _mag(entry: Any) -> str:
    return mag_name(entry["mag"] if "mag" in entry else entry["resolution"])


_IDENTITY: dict[str, Callable[[Any], str]] = {
    "dataLayers": _name,
    "mags": _mag,
    "wkwResolutions": _mag,
    "meshes": _name,
    "agglomerates": _name,
    "connectomes": _name,
}
"""Lists whose entries are known by something that they hold."""


def merge(base: Mapping[str, Any], theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document with the edits of both sides.

    Layers are told apart by name, magnifications by mag, everything else by key. Where documents may be of an older form,
    pass all three through `modernised` first.

    Parameters
    ----------
    base
        What both sides started from.
    theirs
        What is there now; its order of keys and layers leads.
    ours
        What should be written.

    Raises
    ------
    ConflictError
        Both sides changed the same thing in different ways; the message names its place.

    Examples
    --------
    >>> merge({"a": 1}, {"a": 1, "b": 2}, {"a": 3})
    {'a': 3, 'b': 2}
    """
    merged: dict[str, Any] = _merged("", "", dict(base), dict(theirs), dict(ours))
    return merged


def _merged(path: str, key: str, base: Any, theirs: Any, ours: Any) -> Any:
    if _same(theirs, ours) or _same(base, ours):
        return theirs
    if _same(base, theirs):
        return ours
    before = {} if base is _ABSENT and isinstance(ours, dict) else [] if base is _ABSENT else base
    sides = (before, theirs, ours)
    if all(isinstance(side, dict) for side in sides) and key not in _WHOLE:
        return _merged_objects(path, *sides)
    named = [_by_identity(key, side) for side in sides]
    if None not in named:
        return _merged_lists(path, key, *named)
    raise ConflictError(
        f"{path or 'The document'} was changed by another writer to {_shown(theirs)} and here to {_shown(ours)}; "
        f"it was {_shown(base)}. Open the dataset again and repeat the call."
    )


def _merged_objects(path: str, base: Any, theirs: Any, ours: Any) -> dict[str, Any]:
    merged = {}
    for key in {**theirs, **ours, **base}:
        place = f"{path}.{key}" if path else str(key)
        value = _merged(place, str(key), *(side.get(key, _ABSENT) for side in (base, theirs, ours)))
        if value is not _ABSENT:
            merged[key] = value
    return merged


def _merged_lists(path: str, key: str, base: Any, theirs: Any, ours: Any) -> list[Any]:
    leading, other = (ours, theirs) if list(theirs) == list(base) else (theirs, ours)
    merged = []
    for identity in {**leading, **other, **base}:
        entry = _merged(f"{path}[{identity}]", "", *(side.get(identity, _ABSENT) for side in (base, theirs, ours)))
        if entry is not _ABSENT:
            merged.append(entry)
    if key == "mags" and not (set(base) == set(theirs) == set(ours)):
        merged.sort(key=lambda entry: mag_order(mag_triple(entry["mag"])))
    return merged


def _by_identity(key: str, value: Any) -> dict[str, Any] | None:
    """Return the entries of a list by what they are known by; None where they are not."""
    if key not in _IDENTITY or not isinstance(value, list):
        return None
    try:
        entries = {_IDENTITY[key](entry): entry for entry in value}
    except (KeyError, TypeError, InputError):
        return None
    return entries if len(entries) == len(value) else None


def _same(a: Any, b: Any) -> bool:
    """Whether two values are the same JSON; 0, 0.0 and false are not."""
    if a is b:
        return True
    if a is _ABSENT or b is _ABSENT or type(a) is not type(b):
        return False
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


def _shown(value: Any) -> str:
    text = repr(value) if value is _ABSENT else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
