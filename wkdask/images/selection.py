"""What callers choose about images: which of them, in which order, and as which layers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from wkdask.errors import InputError
from wkdask.images.numbering import MISSING


class ConversionLayerMapping(Enum):
    """How the images of a folder become layers, told by their paths relative to that folder.

    A file is *deep* where it holds several planes along z or several time points. Folders stand for the files that lie in
    them directly; those of the source itself are named after the source.
    """

    ENFORCE_LAYER_PER_FILE = "enforce_layer_per_file"
    """Each file is a layer, named by its path with _ for /."""
    ENFORCE_SINGLE_LAYER = "enforce_single_layer"
    """All files are one layer, named after the source."""
    ENFORCE_LAYER_PER_FOLDER = "enforce_layer_per_folder"
    """Each folder is a layer, named by its path with _ for /."""
    ENFORCE_LAYER_PER_TOPLEVEL_FOLDER = "enforce_layer_per_toplevel_folder"
    """Each folder directly in the source is a layer, with all that lies below it."""
    INSPECT_EVERY_FILE = "inspect_every_file"
    """Each deep file is a layer; the others are layers by their folders' paths."""
    INSPECT_SINGLE_FILE = "inspect_single_file"
    """The first file decides: where it is deep each file is a layer, else each folder, named without those above it."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which images are taken, in which order, and which layers they become.

    Attributes
    ----------
    missing
        What a gap in the numbering becomes: None or "error" refuses it; "zeros" fills it; "repeat" fills it with the slice
        before; "close" lets the slices after it follow without a gap ("ignore" is its older name). A missing file of several
        planes counts as many as the file before it.
    sort_key
        Gives the order of a layer's files from their paths relative to the source, with / between folders. Default: natural
        order, and that of a list. With a key or a list, gaps are looked for only where the numbers ascend in that order.
    z_from_name
        A regular expression with one group: the number of the slice in a file's name, or in its path where the name does not
        match. It alone decides order and gaps; the least number is z 0.
    mapping
        Which files become one layer: a `ConversionLayerMapping`, or a function from a file's path relative to the source to
        the layer's name. Default: INSPECT_SINGLE_FILE.
    channel
        Take this channel only. Channels are counted from 0, through the samples of a plane and then through the planes.
    timepoint
        Take this time point only.
    truncate_rgba_to_rgb
        Leave alpha out; False makes each of the four a layer of its own.
    allow_multiple_layers
        Let the channels of one file become several layers; False makes that an error.
    max_layers
        More layers than these are an error.
    layer_name
        The layer's name; where files become several layers, what stands before each name, with _ between.
    merge
        All files become one layer, whatever `mapping` says.
    axes
        What the axes of a chunked volume are, in stored order: letters of t, c, z, y, x, such as "zyx" or "c,z,y,x". Default:
        what its metadata say, else (c, z,) y, x.
    scale
        Which level of an OME-Zarr image: 0 is the finest.

    Raises
    ------
    InputError
        If a value is not one of the above, or the name is none for a layer.

    Examples
    --------
    >>> Selection(missing="ignore").filling, Selection(missing="error").filling
    ('close', None)
    """

    missing: str | None = None
    sort_key: Callable[[str], Any] | None = None
    z_from_name: str | None = None
    mapping: ConversionLayerMapping | Callable[[str], str] | None = None
    channel: int | None = None
    timepoint: int | None = None
    truncate_rgba_to_rgb: bool = True
    allow_multiple_layers: bool = True
    max_layers: int = 20
    layer_name: str | None = None
    merge: bool = False
    axes: str | None = None
    scale: int = 0

    def __post_init__(self) -> None:
        if self.missing is not None and self.missing not in MISSING:
            raise InputError(f"missing is {self.missing!r}; expected one of {', '.join(MISSING)}, or None. Use one of those.")
        if self.sort_key is not None and self.z_from_name is not None:
            raise InputError("Both sort_key and z_from_name were given; each decides the order alone. Give one of them.")
        if self.mapping is not None and not isinstance(self.mapping, ConversionLayerMapping) and not callable(self.mapping):
            known = ", ".join(mapping.name for mapping in ConversionLayerMapping)
            raise InputError(f"mapping is {self.mapping!r}; expected one of {known}, or a function. Use one of those.")
        if self.z_from_name is not None:
            _refuse_pattern(self.z_from_name)
        if self.axes is not None:
            object.__setattr__(self, "axes", _letters(self.axes))
        if self.layer_name is not None:
            from wkdask.metadata import validate_layer_name

            validate_layer_name(self.layer_name)

    @property
    def filling(self) -> str | None:
        """What fills gaps: "zeros", "repeat", "close", or None where they are errors."""
        return {"error": None, "ignore": "close"}.get(self.missing or "error", self.missing)


def _letters(axes: str) -> str:
    letters = str(axes).replace(",", "").replace(" ", "").lower()
    if set(letters) - set("tczyx") or len(set(letters)) < len(letters) or not {"x", "y"} <= set(letters):
        raise InputError(f"axes is {axes!r}; expected letters of t, c, z, y, x, each once, with y and x. Write such as zyx.")
    return letters


def _refuse_pattern(pattern: str) -> None:
    example = r"Use a regular expression with one group for the number, such as 'slice_(\d+)'."
    try:
        groups = re.compile(pattern).groups
    except (re.error, RecursionError, OverflowError) as error:
        raise InputError(f"The pattern {pattern!r} for slice numbers can not be read: {error}. {example}") from error
    if groups != 1:
        raise InputError(f"The pattern {pattern!r} for slice numbers has {groups} groups; one was expected. {example}")
