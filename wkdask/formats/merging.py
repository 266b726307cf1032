"""Which pieces of files are fetched by the same request, and how much at once.

What takes time on the way to a store is the way: a request takes as long as some hundred kilobytes. So what lies between two
pieces is fetched with them where it is less than that, and, as long as there are more requests than one for each file and two
more, the smallest gaps too, up to a share of what is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from wkdask.errors import InputError


@dataclass(frozen=True, slots=True)
class Limits:
    """How requests are made, as dask's configuration says below ``wkdask.ranges``.

    Parameters
    ----------
    near
        Bytes between two pieces that are fetched rather than skipped.
    most
        Bytes of a request, unless one piece has more.
    held
        Bytes that the requests of one reader which are under way have together.
    waste
        How many times the bytes that are wanted may be fetched, to save requests.
    kept
        Bytes of ranges that a process keeps, as the next cut-out may want them.
    """

    near: int = 256 << 10
    most: int = 16 << 20
    held: int = 64 << 20
    waste: float = 2.5
    kept: int = 64 << 20

    @classmethod
    def configured(cls) -> Limits:
        """Return what the configuration says, by default the values above.

        Raises
        ------
        InputError
            Where it says no amount of bytes, or no number.

        Examples
        --------
        >>> import dask
        >>> with dask.config.set({"wkdask.ranges.near": "1 MiB"}):
        ...     Limits.configured().near
        1048576
        """
        import dask
        from dask.utils import parse_bytes

        def said(name: str, parse: Callable[[str], float], wanted: str) -> Any:
            given = dask.config.get(f"wkdask.ranges.{name}", getattr(cls(), name))
            try:
                return parse(str(given))
            except (ValueError, OverflowError):
                raise InputError(f"wkdask.ranges.{name} is {given!r} in dask's configuration, expected {wanted}.") from None

        sizes = {name: max(1, said(name, parse_bytes, "bytes, such as 1MiB")) for name in ("near", "most", "held")}
        kept = max(0, said("kept", parse_bytes, "bytes, such as 1MiB"))
        return cls(**sizes, waste=said("waste", float, "a number"), kept=kept)


def merge(files: Sequence[str], spans: Sequence[tuple[int, int]], limits: Limits) -> list[slice]:
    """Return which spans are fetched by the same request.

    Parameters
    ----------
    files, spans
        Of each piece its file, and where it begins and ends there; those of a file stand together, by ascending begin.
    limits
        See `Limits`.

    Examples
    --------
    >>> merge(["a"] * 4 + ["b"], [(0, 10), (15, 20), (50, 60), (900, 990), (0, 9)], Limits(near=8, waste=1.5))
    [slice(0, 2, None), slice(2, 3, None), slice(3, 4, None), slice(4, 5, None)]
    >>> merge(["a"] * 4 + ["b"], [(0, 10), (15, 20), (50, 60), (900, 990), (0, 9)], Limits(near=8, waste=1.0, most=12))[:2]
    [slice(0, 1, None), slice(1, 2, None)]
    """
    if not spans:
        return []
    breaks, wanted = _gaps(files, spans)
    apart = {at: gap for at, gap in breaks.items() if gap is None or gap > limits.near}
    fetched = wanted + sum(gap for at, gap in breaks.items() if gap is not None and at not in apart)
    least = len(set(files)) + 2
    for at, gap in sorted(((at, gap) for at, gap in apart.items() if gap is not None), key=lambda found: found[1]):
        if len(apart) + 1 <= least or fetched + gap > limits.waste * wanted:
            break
        fetched += gap
        del apart[at]
    return list(_limited(spans, [0, *sorted(apart), len(spans)], limits.most))


def _gaps(files: Sequence[str], spans: Sequence[tuple[int, int]]) -> tuple[dict[int, int | None], int]:
    """Return the bytes between each span and the one before, None where that is of another file; and those of all spans."""
    found: dict[int, int | None] = {}
    reach, wanted = spans[0][1], spans[0][1] - spans[0][0]
    for at in range(1, len(spans)):
        start, stop = spans[at]
        if files[at] != files[at - 1]:
            found[at], reach = None, start
        elif start > reach:
            found[at], reach = start - reach, start
        wanted += max(0, stop - reach)
        reach = max(reach, stop)
    return found, wanted


def _limited(spans: Sequence[tuple[int, int]], breaks: Sequence[int], most: int) -> Iterable[slice]:
    for first, last in pairwise(breaks):
        begin = first
        for at in range(first + 1, last):
            if spans[at][1] - spans[begin][0] > most:
                yield slice(begin, at)
                begin = at
        yield slice(begin, last)
