"""Reading whole numbers in any spelling."""

from __future__ import annotations

import operator
from typing import Any

from wkdask.errors import GeometryError


def to_whole(value: Any) -> int:
    """Return a number as int, where it is whole.

    Raises
    ------
    GeometryError
        For anything else: fractions, booleans, text.

    Examples
    --------
    >>> to_whole(3.0)
    3
    """
    if type(value) is int:
        return value
    if isinstance(value, bool):
        raise GeometryError(f"{value!r} is no whole number. Give an int.")
    try:
        return operator.index(value)
    except TypeError:
        pass
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if hasattr(value, "tolist") and not isinstance(value.tolist(), (list, type(value))):
        return to_whole(value.tolist())
    raise GeometryError(f"{value!r} is no whole number. Give an int.")


def to_wholes(values: Any) -> tuple[int, ...]:
    """Return a sequence, array or comma separated text of whole numbers as ints.

    Raises
    ------
    GeometryError
        Where there are no numbers, or fractions.

    Examples
    --------
    >>> to_wholes("(1, 2, 3, 4)")
    (1, 2, 3, 4)
    """
    if isinstance(values, str):
        try:
            return tuple(int(part) for part in values.strip().strip("()[]").split(","))
        except ValueError:
            raise GeometryError(f"{values!r} is no list of whole numbers. Write it like '1,2,3'.") from None
    if hasattr(values, "tolist"):
        values = values.tolist()
    try:
        return tuple(map(to_whole, values))
    except TypeError:
        raise GeometryError(f"{values!r} is no sequence of whole numbers. Give as many ints as there are axes.") from None
