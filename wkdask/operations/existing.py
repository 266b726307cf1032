"""Magnifications that are there: where they lie, whose they are, and whether they can be made anew."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from wkdask.arrays import MagArray
from wkdask.arrays.opening import open_mag_array, place_of
from wkdask.errors import InputError, MetadataError, ReadOnlyError
from wkdask.formats import ArrayHandle, find_format
from wkdask.geometry import Mag
from wkdask.metadata import AttachmentProperties, LayerProperties, PathKind, Properties
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
    """Yield, for each magnification of each layer, its name such as ``color/2`` and where it lies, links followed."""
    for layer in properties.data_layers:
        for mag in layer.mags:
            with suppress(MetadataError):  # a mag that can not be opened is in nobody's use
                yield f"{layer.name}/{mag.name}", resolved(place_of(target, layer.name, mag))


def attachments_of(layer: LayerProperties) -> Iterator[AttachmentProperties]:
    """Yield all attachments of a layer."""
    found = layer.attachments
    if found is not None:
        yield from (*found.meshes, *found.agglomerates, *found.connectomes)
        yield from filter(None, (found.segment_index, found.segment_statistics, found.cumsum))


def attachment_place(target: Location, attachment: AttachmentProperties) -> Location:
    """Return where an attachment lies that a dataset's JSON lists.

    Raises
    ------
    InputError
        Where its path can lead nowhere.
    """
    relative = attachment.path_kind is PathKind.RELATIVE
    return target / attachment.relative_path() if relative else target.linked(attachment.path)


def attachment_places(target: Location, properties: Properties) -> Iterator[str]:
    """Yield where each attachment of each layer lies, links followed."""
    for layer in properties.data_layers:
        for one in attachments_of(layer):
            with suppress(MetadataError, InputError):  # one that can not be found is in nobody's use
                yield resolved(attachment_place(target, one))


def is_own(target: Location, properties: Properties, layer: str, mag: str, place: Location) -> bool:
    """Whether a place is a magnification's own: in the dataset's folder, reached by no link, and nobody else's.

    It is another's where it is in another layer's folder, or where several magnifications lie there and this is not the one
    that the folder is named after. All that is not its own is only read.

    Examples
    --------
    >>> from wkdask.metadata import VoxelSize
    >>> dataset, found = Location("memory://is-own"), Properties.new("a", VoxelSize((1, 1, 1)))
    >>> [is_own(dataset, found, "em", "1", place) for place in (dataset / "em/1", dataset)]
    [True, False]
    """
    root = resolved(target)
    for base in (target.url, root):
        if place.url.startswith(f"{base}/"):
            path, here = place.url.removeprefix(f"{base}/"), resolved(place)
            folder, others = path.partition("/")[0], {name for name in properties.layer_names if name != layer}
            if here != f"{root}/{path}" or ".." in path.split("/") or folder in others:
                return False
            own = f"{layer}/{mag}"
            return path == own or not any(other == here for name, other in places(target, properties) if name != own)
    return False


def is_linked(target: Location, layer: str) -> bool:
    """Whether a layer's folder is a link, so that what lies in it belongs to another dataset."""
    return target.is_local and os.path.islink((target / layer).url)


def require_own_folder(target: Location, layer: str) -> None:
    """Raise `ReadOnlyError` where a layer's folder is a link."""
    if is_linked(target, layer):
        raise ReadOnlyError(
            f"The folder of layer '{layer}' in {target} is a link to {resolved(target / layer)}, so the layer is only read "
            "from here. Open the dataset that it belongs to, or copy the layer."
        )


def with_own_mags(target: Location, properties: Properties, layer: LayerProperties) -> LayerProperties:
    """Return a layer with those magnifications alone that are its own; what describes the others is not written from here."""
    own = []
    for mag in layer.mags:
        with suppress(MetadataError):  # of a path that leads nowhere
            if is_own(target, properties, layer.name, mag.name, place_of(target, layer.name, mag)):
                own.append(mag)
    return layer if len(own) == len(layer.mags) else layer.model_copy(update={"mags": tuple(own)})


def open_to_replace(target: Location, properties: Properties, layer: LayerProperties, mag: Mag) -> ArrayHandle:
    """Open the array of a magnification whose units are to be replaced: made anew, or with more in them.

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
            f"Mag {mag} of layer '{layer.name}' lies outside the dataset, at {place}, so it is not written from here. "
            "Open the dataset that it belongs to."
        )
    channels = dict(zip(handle.spec.axes, handle.spec.shape, strict=True)).get("c", 1)
    if channels != layer.num_channels:
        raise InputError(
            f"Mag {mag} of layer '{layer.name}' is {layer.num_channels} of the {channels} channels of {handle.location}, so it "
            "is not written: the others would be lost. Make another layer."
        )
    for name, other in places(target, properties):
        if name != own and other == place:
            raise InputError(
                f"Mag {mag} of layer '{layer.name}' lies where {name} does, at {place}, so it is not written: the voxels of "
                "that one would be lost. Give each a place of its own in the dataset's JSON."
            )
    require_as_said(opened, layer)
    handle.unit((0,) * len(handle.spec.shape))  # refuses arrays that can only be read
    return handle


def require_as_said(array: MagArray, layer: LayerProperties) -> None:
    """Raise `InputError` where an array's voxels are not of the dtype, or not of the channels, that the dataset's JSON says."""
    if array.handle.spec.dtype != layer.dtype:
        raise InputError(
            f"The array of {array.name} has {array.handle.spec.dtype} voxels, but layer '{layer.name}' is {layer.dtype} by the "
            "dataset's JSON, so other magnifications would not fit both. Correct elementClass in the JSON first."
        )
    sizes = dict(zip(array.handle.spec.axes, array.box.shape, strict=True))
    if sizes.get("c", 1) > layer.num_channels:
        raise InputError(
            f"The array of {array.name} has {sizes['c']} channels, but layer '{layer.name}' has {layer.num_channels} by the "
            "dataset's JSON, so some would be lost. Correct numChannels in the JSON first, or say by channelIndex which it has."
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
    if "codec" in chosen:  # of which the format may make another, such as the one that is usual for the dtype
        form = find_format(storage.data_format)
        wanted["codec"] = form.at(array.location, replace(spec, codec=storage.compressor)).spec.codec
    for what in sorted(chosen):
        if has[what] != wanted[what]:
            raise InputError(
                f"{name} has the {what} {has[what] or 'none'}, not {wanted[what] or 'none'}, and keeps it when it is made "
                "anew. Leave that option out."
            )
