"""Names of slices: their order, their numbers, and the gaps in them."""

from __future__ import annotations

import re
import zlib
from array import array
from collections.abc import Sequence
from itertools import accumulate, chain, groupby, pairwise, repeat

from wkdask.errors import InputError

MISSING = ("error", "zeros", "repeat", "close", "ignore")
_NUMBER = re.compile(r"(\d+)")
_DIGITS = re.compile("([0-9]+)")


def natural_order(names: Sequence[str]) -> list[str]:
    """Sort paths the way people count, folder by folder: slice_2 before slice_10, whatever the file system says.

    Examples
    --------
    >>> natural_order(["s10.tif", "s2.tif", "a b/s1.tif", "a/s1.tif"])
    ['a/s1.tif', 'a b/s1.tif', 's2.tif', 's10.tif']
    """
    from natsort import natsort_keygen

    key = natsort_keygen()
    return sorted(sorted(names), key=lambda name: [key(part) for part in name.split("/")])


def varying_numbers(names: Sequence[str]) -> list[int] | None:
    """Return the one number in which the names differ, or None where there is no such number.

    Parameters
    ----------
    names
        File names without folders; extensions may differ in case.

    Returns
    -------
    list of int or None
        One number a name, in the order of the names.

    Examples
    --------
    >>> varying_numbers(["a3_x_007.tif", "a3_x_009.tif"])
    [7, 9]
    >>> varying_numbers(["a.tif", "b.tif"]) is None
    True
    """
    split = [_NUMBER.split(name.rpartition(".")[0] or name) for name in names]
    texts, numbers = split[0][::2], [[int(part) for part in parts[1::2]] for parts in split]
    if len(names) < 2 or any(parts[::2] != texts for parts in split):
        return None
    columns = [column for column in zip(*numbers, strict=True) if len(set(column)) > 1]
    if len(columns) == 1:
        return list(columns[0])
    if not columns and numbers[0]:  # names differ in leading zeros only
        return [row[-1] for row in numbers]
    return None


def numbers_by_pattern(names: Sequence[str], pattern: str) -> list[int]:
    r"""Return the number of each slice, from the group of a regular expression.

    Parameters
    ----------
    names
        Paths with / between folders.
    pattern
        Has one group. It is looked for in the file's name, then in the whole path.

    Raises
    ------
    InputError
        If a name does not match, or the group is no whole number.

    Examples
    --------
    >>> numbers_by_pattern(["em/s07_of_10.tif", "em/s08_of_10.tif"], r"s(\d+)")
    [7, 8]
    """
    search = re.compile(pattern).search
    found = [search(name.rpartition("/")[2]) or search(name) for name in names]
    strangers = [name for name, match in zip(names, found, strict=True) if not match]
    if strangers:
        more = f" and {len(strangers) - 1} more" if len(strangers) > 1 else ""
        raise InputError(
            f"The pattern {pattern!r} for slice numbers does not match '{strangers[0]}'{more}; all {len(names)} names must "
            "match. Change the pattern, or leave those files out."
        )
    numbers = []
    for name, match in zip(names, found, strict=True):
        text = match[1] if match else None
        if text is None or not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
            raise InputError(
                f"The pattern {pattern!r} finds {text!r} in '{name}', which is no number of a slice. Let its group match "
                "digits only."
            )
        numbers.append(int(text))
    return numbers


def place_slices(
    names: Sequence[str], missing: str | None, numbers: Sequence[int] | None = None
) -> tuple[tuple[int, ...] | range, tuple[str, ...]]:
    """Decide which slice stands at which z.

    Parameters
    ----------
    names
        File names, in their order.
    missing
        None: a gap is an error; "zeros" and "repeat" fill it; "close": slices follow each other without gaps.
    numbers
        Of the slices, ascending; None where there are none, so that no gap can be seen.

    Returns
    -------
    plan : sequence of int
        For each z the index of the name, or -1 for zeros.
    notes : tuple of str
        What was decided.

    Raises
    ------
    InputError
        If numbers are missing or double.

    Examples
    --------
    >>> place_slices(["s1.tif", "s2.tif", "s4.tif"], "zeros", [1, 2, 4])
    ((0, 1, -1, 2), ('slice 3 is missing and stands as zeros',))
    """
    if numbers is None:
        return range(len(names)), ()
    _refuse_doubles(names, numbers)
    gap_count = numbers[-1] - numbers[0] + 1 - len(numbers)
    if gap_count == 0:
        return range(len(names)), ()
    gaps = _named_gaps(numbers, gap_count)
    if missing is None:
        raise InputError(
            f"The numbers of {len(names)} slices from '{names[0]}' to '{names[-1]}' leave gaps: {gaps} "
            f"{'are' if gap_count > 1 else 'is'} missing. Add the files, or say what stands for them: --missing zeros or "
            "repeat; or close, if the slices follow each other without gaps."
        )
    subject = f"slices {gaps} are missing" if gap_count > 1 else f"slice {gaps} is missing"
    if missing == "close":
        return range(len(names)), (f"{subject}; the slices after follow without a gap",)
    if gap_count > max(1000, 10 * len(names)):
        raise InputError(
            f"The numbers of the slices '{names[0]}' to '{names[-1]}' leave {gap_count} gaps between {len(names)} slices, "
            "too many to be filled. Number the files anew, or give --missing close."
        )
    return _filled(numbers, missing), (f"{subject} and stand{'' if gap_count > 1 else 's'} as {_filling(missing)}",)


def _filling(missing: str) -> str:
    return "zeros" if missing == "zeros" else "a copy of the slice before"


def _filled(numbers: Sequence[int], missing: str) -> tuple[int, ...]:
    plan: list[int] = []
    for index, number in enumerate(numbers):
        gap = number - numbers[index - 1] - 1 if index else 0
        plan += [-1 if missing == "zeros" else index - 1] * gap
        plan.append(index)
    return tuple(plan)


def _named_gaps(numbers: Sequence[int], count: int, most: int = 5) -> str:
    """Name the first few missing numbers and say how many more there are."""
    named: list[str] = []
    for before, after in pairwise(numbers):
        named += [str(number) for number in range(before + 1, min(after, before + 1 + most - len(named)))]
        if len(named) >= most:
            break
    return ", ".join(named) + (f" and {count - len(named)} more" if count > len(named) else "")


def _refuse_doubles(names: Sequence[str], numbers: Sequence[int]) -> None:
    for index in range(1, len(numbers)):
        if numbers[index] == numbers[index - 1]:
            raise InputError(
                f"The slices '{names[index - 1]}' and '{names[index]}' have the same number {numbers[index]}; each slice must "
                "have its own. Remove or rename one of them."
            )
        if numbers[index] < numbers[index - 1]:
            raise InputError(
                f"The slices '{names[index - 1]}' and '{names[index]}' are not in the order of their numbers. Rename them."
            )


Packed = bytes | tuple[tuple[str, ...], tuple[int, ...], tuple[bytes, ...]]


def packed_names(names: Sequence[str]) -> Packed:
    """Shorten many file names to a pattern and its numbers, so that a stack pickles small.

    Parameters
    ----------
    names
        In order.

    Returns
    -------
    tuple or bytes
        (texts around the numbers that vary, widths of these numbers or 0, the numbers as `packed_numbers` shortens them);
        compressed text where the names have no such pattern.

    Examples
    --------
    >>> texts, widths, _ = packed_names(["s1_08.tif", "s1_09.tif", "s1_10.tif", "s1_12.tif"])
    >>> texts, widths
    (('s1_', '.tif'), (2,))
    """
    split = [_DIGITS.split(name) for name in names]
    if all(len(parts) == len(split[0]) for parts in split):
        texts, widths, numbers = [""], [], []
        for index, column in enumerate(zip(*split, strict=True)):
            if len(set(column)) == 1:
                texts[-1] += column[0]
            elif index % 2:
                texts.append("")
                widths.append(len(column[0]) if len(set(map(len, column))) == 1 else 0)
                numbers.append(column)
            else:
                break
        else:
            if not any(len(number) > 18 for column in numbers for number in column):
                packed = tuple(texts), tuple(widths), tuple(packed_numbers(list(map(int, column))) for column in numbers)
                if unpacked_names(packed) == tuple(names):
                    return packed
    return zlib.compress("\0".join(names).encode("utf-8", "surrogatepass"))


def unpacked_names(packed: Packed) -> tuple[str, ...]:
    """Return what `packed_names` was given, as a tuple; one name where no number varies."""
    if isinstance(packed, bytes):
        return tuple(zlib.decompress(packed).decode("utf-8", "surrogatepass").split("\0"))
    texts, widths, numbers = packed
    pattern = "".join(
        f"{text.replace('%', '%%')}%0{width}d" if width else f"{text.replace('%', '%%')}%d"
        for text, width in zip(texts, widths, strict=False)
    )
    pattern += texts[-1].replace("%", "%%")
    rows = zip(*map(unpacked_numbers, numbers), strict=True) if numbers else [()]
    return tuple(pattern % row for row in rows)


def packed_numbers(numbers: Sequence[int]) -> bytes:
    """Shorten numbers of at most 64 bit to the compressed runs of their steps.

    Examples
    --------
    >>> unpacked_numbers(packed_numbers((0, 1, -1, 2)))
    (0, 1, -1, 2)
    """
    runs = array("q")
    for step, run in groupby(now - before for before, now in pairwise((0, *numbers))):
        runs.extend((step, sum(1 for _ in run)))
    return zlib.compress(runs.tobytes())


def unpacked_numbers(packed: bytes) -> tuple[int, ...]:
    """Return what `packed_numbers` was given."""
    runs = array("q", zlib.decompress(packed))
    steps = chain.from_iterable(repeat(step, count) for step, count in zip(runs[::2], runs[1::2], strict=True))
    return tuple(accumulate(steps))


def packed_plan(plan: tuple[int, ...] | range) -> bytes | range:
    """Shorten a plan of slices; a range is short as it is."""
    return plan if isinstance(plan, range) else packed_numbers(plan)


def unpacked_plan(packed: bytes | range) -> tuple[int, ...] | range:
    """Return what `packed_plan` was given."""
    return packed if isinstance(packed, range) else unpacked_numbers(packed)
