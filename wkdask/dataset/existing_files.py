"""Layers made of the arrays that a folder holds already."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from wkdask.errors import InputError, LayerFilesNotFoundError
from wkdask.formats import FORMATS, ArrayHandle, Format, find_format
from wkdask.geometry import BoundingBox, Mag, NDBoundingBox
from wkdask.metadata import DataFormat, LayerProperties, validate_layer_name
from wkdask.operations.target import mag_properties
from wkdask.storage import Location


@dataclass(frozen=True, slots=True)
class FoundArrays:
    """The magnifications that lie in a folder of a dataset.

    Parameters
    ----------
    dataset, name
        The dataset, and the folder.
    data_format
        Of all of them.
    arrays
        By mag, finest first.
    """

    dataset: Location
    name: str
    data_format: str
    arrays: dict[Mag, ArrayHandle]

    def layer(
        self, category: str, dtype: str | None, num_channels: int | None, bounding_box: NDBoundingBox | None
    ) -> LayerProperties:
        """Return the layer that they are; None stands for what they are themselves."""
        spec = next(iter(self.arrays.values())).spec
        sizes = dict(zip(spec.axes, spec.shape, strict=True))
        further = [(a, (0, n), i) for i, (a, n) in enumerate(zip(spec.axes, spec.shape, strict=True)) if a not in "cxyz"]
        channels = sizes.get("c", 1) if num_channels is None else num_channels
        box = self.box() if bounding_box is None else bounding_box
        given: Any = (box.topleft_xyz, box.size_xyz) if further and isinstance(box, BoundingBox) else box
        layer = LayerProperties.new(self.name, category, dtype or spec.dtype, channels, self.data_format, given, further)
        for mag, array in self.arrays.items():
            layer = layer.with_mag(mag_properties(self.dataset, array, mag.to_tuple(), self.data_format))
        return layer

    def box(self) -> BoundingBox:
        """Return the box of the finest array that has voxels, in mag-1 voxels."""
        boxes = (_box(array, self.data_format).from_mag_to_mag1(mag) for mag, array in self.arrays.items())
        return next((box for box in boxes if not box.is_empty()), BoundingBox((0, 0, 0), (0, 0, 0)))


def layer_of_files(dataset: Location, name: str, data_format: str | None) -> FoundArrays:
    """Look for the magnifications in a folder of a dataset.

    Raises
    ------
    LayerFilesNotFoundError
        Where there is no such folder, or none in it.
    InputError
        Where they are of several formats, or one is there twice.
    """
    folder = dataset / validate_layer_name(name)
    if not folder.is_folder():
        raise LayerFilesNotFoundError(f"{folder} is no folder, so there are no files of a layer '{name}'. Check the name.")
    forms = [find_format(data_format)] if data_format else list(FORMATS.values())
    found: dict[Mag, tuple[Format, Location]] = {}
    for mag, place in _mags(folder):
        form = next((form for form in forms if form.detect(place)), None)
        if form is None:
            continue
        if mag in found:
            raise InputError(f"{found[mag][1]} and {place} both hold mag {mag}. Move one of them away.")
        found[mag] = form, place
    if not found:
        kinds = " or ".join(form.name for form in forms)
        raise LayerFilesNotFoundError(
            f"{folder} has no folders named like magnifications (1, 2-2-1) that hold {kinds} arrays. Check the name."
        )
    names = sorted({form.name for form, _ in found.values()})
    if len(names) > 1:
        raise InputError(f"{folder} holds arrays of {', '.join(names)}; a layer has one format. Give data_format.")
    finest_first = sorted(found, key=lambda mag: (max(mag), *mag))
    return FoundArrays(dataset, name, names[0], {mag: found[mag][0].open(found[mag][1]) for mag in finest_first})


def _mags(folder: Location) -> Iterator[tuple[Mag, Location]]:
    """Yield the folders that are named like magnifications."""
    for name in folder.names():
        try:
            mag = Mag(name)
        except (ValueError, AssertionError):
            continue
        yield mag, folder / name


def _box(array: ArrayHandle, data_format: str) -> BoundingBox:
    """Return the box of an array along x, y, z; of WKW, which stores no shape, that of its files."""
    spec = array.spec
    at = [spec.axes.index(axis) for axis in "xyz"]
    boxes = [spec.box]
    if data_format == DataFormat.WKW:
        boxes = [spec.grid.unit_box(index).shifted(spec.offset) for index in array.written_units()]
    if not boxes:
        return BoundingBox((0, 0, 0), (0, 0, 0))
    start = [min(box.start[i] for box in boxes) for i in at]
    stop = [max(box.stop[i] for box in boxes) for i in at]
    return BoundingBox(tuple(start), tuple(b - a for a, b in zip(start, stop, strict=True)))
