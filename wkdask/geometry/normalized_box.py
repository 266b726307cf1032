"""Boxes that always name an axis of channels, as arrays are stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from wkdask.errors import GeometryError
from wkdask.geometry.box import BoundingBox
from wkdask.geometry.nd_box import NDBoundingBox
from wkdask.geometry.vec import XYZ


class NormalizedBoundingBox(NDBoundingBox):
    """A box whose axes are those of a stored array, with channels; made by `NDBoundingBox.normalize_axes`.

    Where it meets a box of x, y and z alone, that one counts for all of its channels.

    Examples
    --------
    >>> box = BoundingBox((1, 2, 3), (4, 5, 6)).normalize_axes(3)
    >>> box
    NormalizedBoundingBox(topleft=(0, 1, 2, 3), size=(3, 4, 5, 6), axes=('c', 'x', 'y', 'z'), index=(0, 1, 2, 3))
    >>> box.intersected_with(BoundingBox((0, 0, 0), (2, 9, 9))).denormalize()
    BoundingBox(topleft=(1, 2, 3), size=(1, 5, 6))
    """

    __slots__ = ()

    @classmethod
    def from_wkw_dict(cls, bbox: Mapping[str, Any]) -> Self:
        """Read a box as `to_wkw_dict` writes it; without ``numChannels`` it has one."""
        box = BoundingBox.from_wkw_dict(bbox)
        order = {"c": 0, "x": 1, "y": 2, "z": 3} | dict(bbox.get("axisOrder") or {})
        bounds = {"c": (0, bbox.get("numChannels", 1))} | {axis: box.get_bounds(axis) for axis in XYZ}
        for extra in bbox.get("additionalAxes") or ():
            bounds[extra["name"]], order[extra["name"]] = extra["bounds"], extra["index"]
        axes = tuple(bounds)
        start, stop = zip(*bounds.values(), strict=True)
        return cls(start, [b - a for a, b in zip(start, stop, strict=True)], axes, [order[axis] for axis in axes])

    def to_wkw_dict(self) -> dict[str, Any]:
        """Return the box as ``datasource-properties.json`` has it, with ``numChannels`` and the order of axes."""
        entry = super().to_wkw_dict()
        order = {axis: index for axis, index in zip(self.axes, self.index, strict=True) if axis in ("c", *XYZ)}
        channels = self.get_shape("c") if "c" in self.axes else 1
        return {**entry, "numChannels": channels, "axisOrder": order}

    def denormalize(self) -> NDBoundingBox:
        """Return the box without channels, where x, y and z are all that is left; others stay as they are."""
        shown = (self.name, self.is_visible, self.color)
        if set(self.axes) - {"c"} == set(XYZ):
            return BoundingBox(self.topleft_xyz, self.size_xyz, XYZ, self.index_xyz, *shown)
        return NDBoundingBox(self.topleft, self.size, self.axes, self.index, *shown)

    def _same_axes(self, other: NDBoundingBox) -> NDBoundingBox:
        if isinstance(other, BoundingBox) and set(self.axes) - set(XYZ) == {"c"}:
            full = self.with_topleft_xyz(other.topleft_xyz).with_size_xyz(other.size_xyz)
            return super()._same_axes(full)
        return super()._same_axes(other)


def normalized(box: NDBoundingBox, num_channels: int) -> NormalizedBoundingBox:
    """Return a box with an axis of channels; see `NDBoundingBox.normalize_axes`."""
    shown = (box.name, box.is_visible, box.color)
    if "c" in box.axes:
        box = box.with_bounds("c", new_size=num_channels)
    elif set(box.axes) == set(XYZ):
        topleft, size = (0, *box.topleft_xyz), (num_channels, *box.size_xyz)
        return NormalizedBoundingBox(topleft, size, ("c", *XYZ), (0, *box.index_xyz), *shown)
    elif num_channels != 1:
        raise GeometryError(f"{box} has no axis of channels, but there are {num_channels}. Give a box with an axis 'c'.")
    return NormalizedBoundingBox(box.topleft, box.size, box.axes, box.index, *shown)
