"""Which units of an array are there: as its store lists them, or by asking for each that the grid has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain, islice
from operator import itemgetter

from wkdask.errors import InputError, NotListedError
from wkdask.formats.fetching import concurrently
from wkdask.formats.spec import ArrayHandle
from wkdask.geometry.grid import Box, Index
from wkdask.storage import Stat
from wkdask.storage.explained import LISTED, explained

ASKED_AT_ONCE = 1024
MOST_ASKED = 1 << 22
"""Units that are asked for one by one: more would take days."""


def stored_units(array: ArrayHandle, box: Box | None = None) -> Iterator[tuple[Index, Stat]]:
    """Yield the units that are stored, sorted, and what their store says of them; one that lists nothing is asked.

    Parameters
    ----------
    array
        Whose.
    box
        Only those that meet it, in the array's voxels; they are asked for one by one.

    Raises
    ------
    InputError
        Where there are too many to be asked for one by one.

    Examples
    --------
    >>> from wkdask import Dataset
    >>> array = Dataset.open("brain").get_layer("color").get_mag(1).array.handle
    >>> [(index, stat.size > 0) for index, stat in stored_units(array)]
    [((0, 0, 0, 0), True)]
    """
    if box is None and (told := _told(array)) is not None:
        yield from sorted(told, key=itemgetter(0))
        return
    listed = _listed(array) if box is None else None
    if listed is not None:
        indexes: Iterator[Index] = iter(sorted(listed))
    else:
        units = array.spec.grid.units(box)
        if units.cells.size > MOST_ASKED:
            raise InputError(
                f"{array.location} may have {units.cells.size} units, at most {MOST_ASKED} are asked for one by one. Use a "
                "box, larger shards, or a store that lists what it has."
            )
        indexes = units.cells_of(box)
    while some := list(islice(indexes, ASKED_AT_ONCE)):
        yield from _stats(array, some)


def stored_indexes(array: ArrayHandle) -> Iterator[Index]:
    """Yield the units that are stored, in any order; see `stored_units`."""
    listed = _listed(array)
    return (index for index, _ in stored_units(array, array.spec.grid.box)) if listed is None else listed


def _listed(array: ArrayHandle) -> Iterator[Index] | None:
    """Return the units that the store lists, or None where it does not."""
    if not array.location.lists:
        return None
    found = array.written_units()
    try:
        first = list(islice(found, 1))
    except NotListedError:
        return None
    return chain(first, found)


def _told(array: ArrayHandle) -> list[tuple[Index, Stat]] | None:
    """Return the units that a store lists, with what it says of each; None where it does not, or where units share files."""
    if array.location.is_local or not array.location.lists:
        return None
    files, path = array.location.files()
    stats = getattr(files, "stats_below", lambda _: None)(path)
    try:
        with explained(array.location, LISTED):
            named = [(index, stat) for name, stat in stats or () if (index := array.unit_of(name)) is not None]
    except NotListedError:
        return None
    return named or None


def _stats(array: ArrayHandle, indexes: Iterable[Index]) -> Iterator[tuple[Index, Stat]]:
    found: dict[Index, Stat | None] = dict.fromkeys(indexes)

    def ask(index: Index) -> None:
        found[index] = array.unit_location(index).stat()

    if array.location.is_local:
        for index in found:
            ask(index)
    else:
        concurrently((1, partial(ask, index)) for index in found)
    yield from ((index, stat) for index, stat in found.items() if stat is not None)
