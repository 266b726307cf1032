"""Where a verb of a view reads or writes: any one of the spellings, as a box in mag-1 voxels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields

from wkdask.errors import BoxError, InputError
from wkdask.geometry import BoundingBox, Mag, NDBoundingBox, Vec3Int, Vec3IntLike


@dataclass(frozen=True, slots=True)
class Position:
    """At most one of the ways to say where.

    Parameters
    ----------
    offset
        In voxels of the view's mag: of a magnification from the dataset's origin, of a view from its box. An old spelling.
    relative_offset, absolute_offset
        In mag-1 voxels, from the view's box or from the dataset's origin.
    relative_bounding_box, absolute_bounding_box
        The same as one box, which may have further axes.

    Raises
    ------
    InputError
        Where several are given.
    """

    offset: Vec3IntLike | None = None
    relative_offset: Vec3IntLike | None = None
    absolute_offset: Vec3IntLike | None = None
    relative_bounding_box: NDBoundingBox | None = None
    absolute_bounding_box: NDBoundingBox | None = None

    def __post_init__(self) -> None:
        given = [field.name for field in fields(self) if getattr(self, field.name) is not None]
        if len(given) > 1:
            raise InputError(f"Several positions were given: {', '.join(given)}. Give one offset, or one bounding box.")

    @property
    def given_box(self) -> NDBoundingBox | None:
        """The bounding box that was given."""
        return self.absolute_bounding_box if self.relative_bounding_box is None else self.relative_bounding_box

    @property
    def is_given(self) -> bool:
        """Whether there is any."""
        return any(getattr(self, field.name) is not None for field in fields(self))

    def warn_of_old(self, verb: str, size: Vec3IntLike | None = None) -> None:
        """Tell the caller of a verb's caller of what counts voxels of the mag, and what is there instead."""
        if self.offset is not None:
            said, new = f"{verb}(offset=...)", "absolute_offset or relative_offset, and size, all in mag-1 voxels"
        elif size is not None and not self.is_given:
            said, new = f"{verb}(size=...) without an offset", "relative_offset=(0, 0, 0) and size in mag-1 voxels"
        else:
            return
        warnings.warn(f"{said} counts voxels of the mag, and is deprecated. Use {new}.", DeprecationWarning, stacklevel=3)

    def box(self, whole: NDBoundingBox, mag: Mag, size: Vec3IntLike | None, *, from_origin: bool) -> NDBoundingBox:
        """Return the box in mag-1 voxels.

        Parameters
        ----------
        whole
            The view's box.
        mag
            The view's magnification.
        size
            As it was given; default: what is left of the view.
        from_origin
            Whether an old ``offset`` counts from the dataset's origin.

        Raises
        ------
        BoxError
            Where the box is empty, or begins below 0.

        Examples
        --------
        >>> whole = BoundingBox((8, 8, 8), (32, 32, 8))
        >>> Position(relative_offset=(4, 0, 0)).box(whole, Mag(2), (8, 8, 8), from_origin=True)
        BoundingBox(topleft=(12, 8, 8), size=(8, 8, 8))
        """
        given = self.given_box
        if given is not None:
            if size is not None:
                raise InputError("Several positions were given: a size, and a bounding box. Give the box alone.")
            relative = self.relative_bounding_box is not None
            return required(_moved(given, whole) if relative else given)
        start, end, factor = whole.topleft_xyz, whole.bottomright_xyz, mag.to_vec3_int()
        extent = None if size is None else Vec3Int(size)
        if self.offset is not None or not self.is_given:
            extent = None if extent is None else extent * factor
        if self.offset is not None:
            start = Vec3Int(self.offset) * factor + (Vec3Int(0, 0, 0) if from_origin else start)
        elif self.absolute_offset is not None:
            start = Vec3Int(self.absolute_offset)
        elif self.relative_offset is not None:
            start = start + Vec3Int(self.relative_offset)
        extent = end - start if extent is None else extent
        return sound_box(start, extent)


def spread(box: NDBoundingBox, whole: NDBoundingBox) -> NDBoundingBox:
    """Return a box with the axes of another one: along those that it does not name, it covers all that the other does.

    Examples
    --------
    >>> whole = NDBoundingBox((2, 0, 0, 0), (7, 8, 8, 8), ("t", "x", "y", "z"))
    >>> spread(BoundingBox((1, 2, 3), (4, 4, 4)), whole).topleft.to_tuple()
    (2, 1, 2, 3)
    """
    for axis, start, size in zip(box.axes, box.topleft, box.size, strict=True):
        if axis in whole.axes:
            whole = whole.with_bounds(axis, start, size)
    return whole


def required(box: NDBoundingBox) -> NDBoundingBox:
    """Return a box that is neither empty nor begins below 0, along x, y and z.

    Raises
    ------
    BoxError
        Where it is not so.
    """
    require_sound(box.topleft_xyz, box.size_xyz)
    return box


def sound_box(start: Vec3IntLike, size: Vec3IntLike) -> BoundingBox:
    """Return a box of an offset and a size; see `required`."""
    topleft, extent = Vec3Int(start), Vec3Int(size)
    require_sound(topleft, extent)
    return BoundingBox(topleft, extent)


def require_sound(start: Sequence[int], size: Sequence[int]) -> None:
    """Refuse a box that is empty or begins below 0."""
    said = f"The box at {tuple(start)} of size {tuple(size)}"
    if min(size) < 1:
        raise BoxError(f"{said} has no voxels. Give a size of 1 or more along each axis.")
    if min(start) < 0:
        raise BoxError(f"{said} begins below 0, where no voxels are. Begin at 0 or above.")


def _moved(box: NDBoundingBox, whole: NDBoundingBox) -> NDBoundingBox:
    """Return a box that counts from another one, along the axes that both have."""
    origin = dict(zip(whole.axes, whole.topleft, strict=True))
    return box.offset(tuple(origin.get(axis, 0) for axis in box.axes))
