"""Magnifications that are there: where they lie, whose they are, and whether they can be made anew."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from wkdask.arrays import MagArray
from wkdask.arrays.opening import open_mag_array
from wkdask.errors import InputError, MetadataError, ReadOnlyError
from wkdask.formats import ArrayHandle
from wkdask.geometry import Mag
from wkdask.metadata import LayerProperties, PathKind, Properties
from wkdask.operations.choices import Storage
from wkdask.plan import Journal
from wkdask.storage import Location


@dataclass(frozen=True, slots=True)
class UnfinishedMags:
    """What an unfinished run makes of a layer: of which mag, which (some may be listed already), and which of them anew."""

    start: Mag
    mags: frozenset[Mag]
    anew: frozenset[Mag]

    @classmethod
    def of(cls, journal: Journal) -> UnfinishedMags | None:
        """Return what a job's settings say; None where no such job is under way, or they are not sound."""
        settings = (journal.document() or {}).get("settings")
        if not isinstance(settings, dict) or "from" not in settings:
            return None
        lists = [settings.get(key) for key in ("mags", "anew")]
        if not all(isinstance(found, list) for found in lists):
            return None
        try:
            mags, anew = (frozenset(Mag(str(name)) for name in found or ()) for found in lists)
            return cls(Mag(str(settings["from"])), mags, anew)
        except InputError:
            return None

    @property
    def unlisted(self) -> frozenset[Mag]:
        """Mags that no reader knew before the run began."""
        return self.mags - self.anew


def resolved(place: Location) -> str:
    """Return where a place lies when all links are followed, with slashes."""
    return os.path.realpath(place.url).replace(os.sep, "/") if place.is_local else place.url


def places(target: Location, properties: Properties) -> Iterator[tuple[str, str]]:
    """Yield, for each magnification of each layer, its name such as ``color/2`` and where it may lie, links followed."""
    for layer in properties.data_layers:
        for mag in layer.mags:
            name = f"{layer.name}/{mag.name}"
            if mag.path is not None and mag.path_kind is not PathKind.RELATIVE:
                yield name, resolved(Location.of(mag.path))
                continue
            with suppress(MetadataError):  # a mag that can not be opened is in nobody's use
                for path in mag.candidates(layer.name):
                    yield name, resolved(target / path)


def open_to_replace(target: Location, properties: Properties, layer: LayerProperties, mag: Mag) -> ArrayHandle:
    """Open the array of a magnification that is to be made anew.

    Raises
    ------
    ReadOnlyError
        Where it lies outside the dataset, links followed.
    InputError
        Where its units can not be written, or hold more than this magnification.
    """
    opened = open_mag_array(target, properties, layer, mag.to_tuple())
    handle, own = opened.handle, f"{layer.name}/{mag.to_layer_name()}"
    place = resolved(handle.location)
    if not place.startswith(f"{resolved(target)}/"):
        raise ReadOnlyError(
            f"Mag {mag} of layer '{layer.name}' lies outside the dataset, at {place}, so it is not made anew from here. "
            "Open the dataset that it belongs to, or make other mags."
        )
    channels = dict(zip(handle.spec.axes, handle.spec.shape, strict=True)).get("c", 1)
    if channels != layer.num_channels:
        raise InputError(
            f"Mag {mag} of layer '{layer.name}' is {layer.num_channels} of the {channels} channels of {handle.location}, so it "
            "is not made anew: the others would be lost. Make other mags."
        )
    for name, other in places(target, properties):
        if name != own and other == place:
            raise InputError(
                f"Mag {mag} of layer '{layer.name}' lies where {name} does, at {place}, so it is not made anew: the voxels of "
                "that one would be lost. Give each a place of its own in the dataset's JSON, or make other mags."
            )
    require_dtype(opened, layer)
    handle.unit((0,) * len(handle.spec.shape))  # refuses arrays that can only be read
    return handle


def require_dtype(array: MagArray, layer: LayerProperties) -> None:
    """Raise `InputError` where an array's voxels are not of the dtype that the dataset's JSON says."""
    if array.handle.spec.dtype != layer.dtype:
        raise InputError(
            f"The array of {array.name} has {array.handle.spec.dtype} voxels, but layer '{layer.name}' is {layer.dtype} by the "
            "dataset's JSON, so other magnifications would not fit both. Correct elementClass in the JSON first."
        )


def require_chosen(array: ArrayHandle, name: str, storage: Storage, chosen: frozenset[str]) -> None:
    """Raise `InputError` where an array does not lie on disk as the user chose.

    Parameters
    ----------
    array, name
        The array, and its layer and mag.
    storage
        What the user chose.
    chosen
        Which parts of that were chosen at all: ``chunk``, ``shard``, ``codec``.
    """
    spec = array.spec
    at = [spec.axes.index(axis) for axis in "xyz"]
    has = {"chunk": tuple(spec.chunk[i] for i in at), "shard": tuple(spec.unit[i] for i in at), "codec": spec.codec}
    wanted = {"chunk": storage.chunk, "shard": storage.shard, "codec": storage.compressor}
    for what in sorted(chosen):
        if has[what] != wanted[what]:
            raise InputError(
                f"{name} has the {what} {has[what] or 'none'}, not {wanted[what] or 'none'}, and keeps it when it is made "
                "anew. Leave that option out."
            )
