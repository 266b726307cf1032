"""``elementClass`` and what it stands for: a dtype and a number of channels.

The class describes one *voxel*, not one channel: the kind of number, then bits times channels. So it is ambiguous without the
number of channels (``uint16`` may be two channels of uint8), and exists only at the border to the JSON document.
"""

from __future__ import annotations

import re

from wkdask.errors import InputError

_BITS = {"uint": (8, 16, 32, 64), "int": (8, 16, 32, 64), "float": (32, 64)}
_NAMED = {"float": ("float", 32), "double": ("float", 64)}
_WRITTEN = {"float32": "float", "float64": "double"}


class MetadataWarning(UserWarning):
    """A document says something doubtful; it was understood in the way that the message tells."""


def to_element_class(dtype: object, num_channels: int) -> str:
    """Return the class of a voxel with so many channels of a dtype.

    Parameters
    ----------
    dtype
        Name of a dtype, or a numpy dtype or scalar type: 8 to 64 bit integers, float32, float64.
    num_channels
        At least 1.

    Raises
    ------
    InputError
        No layer can hold this dtype, or this number of channels.

    Examples
    --------
    >>> to_element_class("uint8", 3), to_element_class("float32", 1), to_element_class("uint16", 2)
    ('uint24', 'float', 'uint32')
    """
    kind, bits = _parts(dtype_name(dtype))
    if type(num_channels) is bool or not hasattr(num_channels, "__index__") or num_channels < 1:
        raise InputError(f"A layer can not have {num_channels!r} channels. Give a whole number from 1 on.")
    element_class = f"{kind}{bits * num_channels}"
    return _WRITTEN.get(element_class, element_class)


def dtype_name(dtype: object) -> str:
    """Return the name of a dtype that a layer can hold.

    Raises
    ------
    InputError
        It is no dtype, or one that no layer can hold.

    Examples
    --------
    >>> dtype_name("uint8")
    'uint8'
    """
    name = dtype if isinstance(dtype, str) else getattr(dtype, "name", None) or getattr(dtype, "__name__", None)
    if isinstance(name, str) and _is_dtype(name):
        return name
    allowed = ", ".join(f"{kind}{bits}" for kind, sizes in _BITS.items() for bits in sizes)
    raise InputError(f"{dtype!r} is not a dtype that a layer can hold. Use one of {allowed}.")


def from_element_class(element_class: str, num_channels: int | None) -> tuple[str, int, str | None]:
    """Return dtype name, channels and a doubt, if there is one.

    Where bits over channels is no size that exists, the class is taken as the dtype of one channel: a common slip of other
    programs. ``uint24`` always is three channels of uint8, and similar classes follow the same rule.

    Parameters
    ----------
    element_class
        As it stands in the document.
    num_channels
        As it stands in the document, or None where it says nothing.

    Raises
    ------
    InputError
        The class can not be understood.

    Examples
    --------
    >>> from_element_class("uint24", 3)
    ('uint8', 3, None)
    >>> from_element_class("uint16", 2)
    ('uint8', 2, None)
    >>> from_element_class("uint8", 3)
    ('uint8', 3, "elementClass 'uint8' does not fit 3 channels; it is taken as the dtype of each channel")
    """
    kind, bits = _parts(element_class)
    channels = 1 if num_channels is None else num_channels
    if channels >= 1 and bits % channels == 0 and bits // channels in _BITS[kind]:
        return f"{kind}{bits // channels}", channels, None
    if channels >= 1 and bits in _BITS[kind]:
        what = f"elementClass {element_class!r} does not fit {channels} channels; it is taken as the dtype of each channel"
        return f"{kind}{bits}", channels, what
    if channels == 1 and bits % 3 == 0 and bits // 3 in _BITS[kind]:
        doubt = None if num_channels is None else f"elementClass {element_class!r} does not fit 1 channel; it is taken as 3"
        return f"{kind}{bits // 3}", 3, doubt
    raise InputError(
        f"elementClass {element_class!r} with {channels} channels is no dtype. "
        "It must be uint, int or float and the bits of one voxel: bits of a channel (8, 16, 32 or 64) times channels."
    )


def _parts(element_class: str) -> tuple[str, int]:
    if element_class in _NAMED:
        return _NAMED[element_class]
    match = re.fullmatch(r"(uint|int|float)([1-9][0-9]{0,5})", element_class)
    if match is None:
        raise InputError(f"{element_class!r} is no elementClass. Examples are uint8, uint24, int16, float and double.")
    return match[1], int(match[2])


def _is_dtype(name: str) -> bool:
    match = re.fullmatch(r"(uint|int|float)([0-9]{1,3})", name)
    return match is not None and int(match[2]) in _BITS[match[1]]
