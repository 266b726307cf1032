"""Arrays and sequences of frames in memory as sources: seen as a volume, and read by boxes."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from wkdask.errors import InputError, UnsupportedImageDataError
from wkdask.formats import ArraySpec
from wkdask.geometry.grid import Box
from wkdask.images.found import FoundLayer
from wkdask.images.selection import Selection
from wkdask.images.stack import shown_times
from wkdask.images.volume import Volume
from wkdask.images.volume_find import divided
from wkdask.images.volume_ome import Described, known_axes
from wkdask.storage import Location, is_place

PLANES = {2: "yx", 3: "zyx", 4: "zyxc"}
"""What the axes of an array, or of frames one behind the other, are unless the user says so."""
EDGE = 64
"""Of what is read together of arrays, of which any part can be had."""

_one_at_a_time = threading.Lock()
"""Readers of films and microscopes that hand out frames are not made for several threads."""


class Indexed(Protocol):
    """An array, or frames one behind the other."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: Any, /) -> Any: ...


@dataclass(frozen=True, slots=True, eq=False)
class InMemory:
    """Voxels that are had by indexing; what reading needs of `wkdask.formats.spec.ArrayHandle`.

    Attributes
    ----------
    data
        An array, or frames one behind the other.
    spec
        What it is.
    sliced
        Whether any part of it can be had at once; else frames are taken one by one.
    """

    data: Any
    spec: ArraySpec
    sliced: bool

    @property
    def location(self) -> Location:
        """A name: it lies nowhere."""
        return Location("memory://")

    def read(self, box: Box, *, keep: bool = True) -> np.ndarray[Any, Any]:  # noqa: ARG002
        """Read a box, in stored axes.

        Raises
        ------
        UnsupportedImageDataError
            Where the voxels are of another shape or dtype than the first frame, or the array, told.
        """
        if self.sliced:
            return self._checked(self.data[box.slices], box.shape, "The array")
        block = np.empty(box.shape, self.spec.dtype)
        for at, number in enumerate(range(box.start[0], box.stop[0])):
            with _one_at_a_time:
                frame = np.asarray(self.data[number])
            block[at] = self._checked(frame, self.spec.shape[1:], f"Frame {number}")[box.slices[1:]]
        return block

    def _checked(self, found: Any, shape: tuple[int, ...], what: str) -> np.ndarray[Any, Any]:
        voxels = np.asarray(found)
        if voxels.shape != shape or voxels.dtype.newbyteorder("=") != np.dtype(self.spec.dtype):
            raise UnsupportedImageDataError(
                f"{what} gave {voxels.dtype} voxels of the shape {voxels.shape}, expected {self.spec.dtype} of {shape}. Give "
                "frames that are alike."
            )
        return voxels.astype(self.spec.dtype, copy=False)


@dataclass(frozen=True)
class Frames(Volume):
    """A volume in memory. It is told from others by a mark that it gets when it is made, as nothing else tells a change."""

    mark: str = field(default_factory=lambda: secrets.token_hex(8))

    def identity(self) -> list[tuple[str, int, int]]:
        """Return the mark: another program, or another call, does not have it."""
        return [(self.mark, 0, 0)]

    def stamp(self, z: int) -> tuple[str, int, int, int]:
        """Return what tells one slice from another, of this volume or of others."""
        return self.mark, 0, 0, z

    @property
    def paths(self) -> Iterator[str]:
        """Nothing: no file is read."""
        return iter(())


def in_memory(source: Any) -> bool:
    """Whether images are given themselves, by an array or by frames one behind the other, not by their paths.

    Examples
    --------
    >>> in_memory("em/"), in_memory(["a.tif", "b.tif"]), in_memory(np.zeros((3, 4, 5))), in_memory([np.zeros((4, 5))])
    (False, False, True, True)
    """
    if is_place(source) or isinstance(source, Mapping) or not hasattr(source, "__getitem__"):
        return False
    if _is_array(source):
        return True
    return hasattr(source, "__len__") and len(source) > 0 and not is_place(source[0])


def _is_array(source: Any) -> bool:
    return all(hasattr(source, name) for name in ("__array__", "shape", "dtype"))


def find_frames(source: Any, selection: Selection) -> list[FoundLayer]:
    """Return the layers that an array, or frames one behind the other, become; of which only the first is looked at.

    Parameters
    ----------
    source
        Whatever has a length, and gives frames (rows, columns) or (rows, columns, channels) by their number; or an array that
        gives any part of itself, such as one of numpy or Zarr.
    selection
        Its axes, channels, time point and names count.

    Raises
    ------
    InputError, UnsupportedImageDataError
        Where it has other axes, no voxels, or channels that do not fit.
    """
    if selection.scale:
        raise InputError(f"scale is {selection.scale}, but arrays and frames have one level alone. Leave it out.")
    array = _opened(source)
    shape, what = array.spec.shape, "The array" if array.sliced else "The sequence of frames"
    letters = selection.axes or PLANES.get(len(shape))
    if letters is None or len(letters) != len(shape) or not all(shape):
        raise UnsupportedImageDataError(
            f"{what} has the shape {shape}, and its axes are {letters or 'not told'}. Give voxels along rows and columns, "
            "behind planes or not, before channels or not; or say what the axes are, in order, such as axes='tzyx'."
        )
    axes = known_axes(list(letters), what)
    extent = dict(zip(axes, shape, strict=True))
    volume = Frames(
        array, axes, "array" if array.sliced else "frames", (), shown_times(what, extent.get("t", 1), selection.timepoint)
    )
    found = FoundLayer(selection.layer_name or volume.label, volume)
    return divided(found, what, extent.get("c", 1), Described(axes), selection)


def _opened(source: Any) -> InMemory:
    """Return what is known of voxels in memory: of frames, by the first one."""
    if _is_array(source):
        shape, dtype = tuple(map(int, source.shape)), np.dtype(source.dtype)
        chunk = tuple(min(EDGE, max(1, n)) for n in shape)
    else:
        first = np.asarray(source[0])
        shape, dtype = (len(source), *first.shape), first.dtype
        chunk = (1, *(max(1, n) for n in first.shape))
    return InMemory(source, ArraySpec(shape, dtype.name, tuple(map(str, range(len(shape)))), chunk, chunk), _is_array(source))
