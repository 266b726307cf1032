"""Finding the scales of Neuroglancer volumes by their documents, and listing those of a layer in its ``info``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace

from wkdask.errors import DatasetNotFoundError, WkdaskError
from wkdask.formats.precomputed_info import (
    Json,
    Scale,
    build_entry,
    build_info,
    entry_of,
    normal_key,
    parse_info,
    parse_scale,
    to_bytes,
)
from wkdask.formats.spec import ArraySpec
from wkdask.metadata import LayerProperties, MagProperties, PathKind, VoxelSize
from wkdask.storage import WORK_FOLDER, Location, update_document

INFO = "info"
OWN = "scale.json"
DEEPEST_KEY = 3
"""Folders of a key, such as 2 of ``images/8_8_40``, up to which the volume of a scale's folder is looked for."""
HEAD = frozenset({"@type", "type", "data_type", "num_channels", "scales"})


def scratch_of(volume: Location) -> Location:
    """Return where locks and unfinished files of a volume lie that is a layer of a dataset."""
    return volume.parent / WORK_FOLDER / "tmp"


def find_scale(location: Location) -> tuple[ArraySpec, Scale]:
    """Return the scale that lies in a folder: what the volume's ``info`` says of it, or else its own document.

    Raises
    ------
    DatasetNotFoundError
        Where neither is there.
    MetadataError
        Where the document is not sound.
    """
    for volume, key in _volumes(location):
        place = volume / INFO
        document = read_info(volume)
        entry = document and entry_of(document, key)
        if document and entry:
            return parse_scale(document, entry, str(place))
        own = read_own(location) if volume == location.parent else None
        if own:
            spec, scale = parse_scale(own, own["scales"][0], str(location / OWN))
            return spec, replace(scale, key=location.name)
    raise DatasetNotFoundError(
        f"{location} is no scale of a Neuroglancer volume: no {INFO} of the folders above lists it. Check the path."
    )


def is_scale(location: Location) -> bool:
    """Whether a scale's folder is there that a document describes."""
    try:
        return location.is_folder() and bool(find_scale(location))
    except WkdaskError:
        return False


def _volumes(location: Location) -> Iterator[tuple[Location, str]]:
    """Yield the folders that may be the volume of a scale's folder, and the scale's key in each."""
    volume, key = location, ""
    for _ in range(DEEPEST_KEY):
        key = f"{volume.name}/{key}" if key else volume.name
        volume = volume.parent
        yield volume, key


def read_own(location: Location) -> Json | None:
    """Return the document that a scale of ours has in its own folder; None where there is none."""
    found = _document(location / OWN)
    return found if found and found["scales"] else None


def write_own(location: Location, spec: ArraySpec, scale: Scale, scratch: Location) -> None:
    """Write the document that a scale has in its own folder."""
    (location / OWN).write_bytes(to_bytes(build_info(spec, [build_entry(spec, scale)])), scratch)


def read_info(volume: Location) -> Json | None:
    """Return a volume's ``info``; None where there is none."""
    return _document(volume / INFO)


def _document(place: Location) -> Json | None:
    data = place.read_if_there()
    return None if data is None else parse_info(data, str(place))


def unlist(volume: Location, key: str) -> None:
    """Take a scale out of a volume's ``info``."""

    def changed(old: bytes | None) -> bytes | None:
        document = parse_info(old, str(volume / INFO)) if old else None
        if document is None or entry_of(document, key) is None:
            return None
        return to_bytes({**document, "scales": [scale for scale in document["scales"] if normal_key(scale) != key]})

    update_document(volume / INFO, changed, scratch_of(volume))


def set_size(volume: Location, location: Location, key: str, size: list[int]) -> None:
    """Change the size of a scale in each document that describes it."""
    for place, wanted in ((location / OWN, None), (volume / INFO, key)):

        def changed(old: bytes | None, place: Location = place, wanted: str | None = wanted) -> bytes | None:
            document = parse_info(old, str(place)) if old else None
            if document is None:
                return None
            for scale in document["scales"]:
                if wanted in (None, normal_key(scale)):
                    scale["size"] = size
            return to_bytes(document)

        update_document(place, changed, scratch_of(volume))


def write_volume(dataset: Location, layer: LayerProperties, voxel_size: VoxelSize) -> list[str]:
    """List a layer's magnifications that lie in its own folder in the layer's ``info``, finest first; return the keys of ours.

    What others wrote there stays. Scales that are no magnifications stay as long as their folders are there. An ``info``
    without any scale would be none that others can read, so none is left, unless others have written into it.
    """
    volume = dataset / layer.name

    def changed(old: bytes | None) -> bytes | None:
        document = parse_info(old, str(volume / INFO)) if old else None
        listed = _listed(volume, document, layer, voxel_size)
        if document is None and not listed:
            return None
        head = document or next(iter(listed.values()))[0]
        others = [s for s in (document or {"scales": []})["scales"] if normal_key(s) not in listed and _is_there(volume, s)]
        scales = sorted([*(entry for _, entry in listed.values()), *others], key=_voxel_volume)
        kind = "segmentation" if layer.category == "segmentation" else "image"
        return to_bytes({"@type": "neuroglancer_multiscale_volume", "type": kind} | head | {"type": kind, "scales": scales})

    found = update_document(volume / INFO, changed, scratch_of(volume))
    if found is not None and not json.loads(found)["scales"] and json.loads(found).keys() <= HEAD:
        (volume / INFO).delete()
    return [key for _, key in _places(layer) if (volume / key / OWN).is_file()]


def _places(layer: LayerProperties) -> Iterator[tuple[MagProperties, str]]:
    """Yield the magnifications that may lie in the layer's folder, each with the keys that it may have there."""
    for mag in layer.mags:
        if mag.path_kind in (None, PathKind.RELATIVE):
            paths = ((path, path.removeprefix(f"{layer.name}/")) for path in mag.candidates(layer.name))
            yield from ((mag, key) for path, key in paths if key != path)


def _listed(
    volume: Location, document: Json | None, layer: LayerProperties, voxel_size: VoxelSize
) -> dict[str, tuple[Json, Json]]:
    """Return, for the key of each magnification in the volume, a document that describes it, and what it is to say."""
    found: dict[str, tuple[Json, Json]] = {}
    for mag, key in _places(layer):
        resolution = [edge * factor for edge, factor in zip(voxel_size.to_nanometer(), mag.mag, strict=True)]
        entry = entry_of(document, key) if document else None
        own = read_own(volume / key)
        if own:
            found[key] = (own, {**own["scales"][0], **(entry or {}), "key": key, "resolution": resolution})
        elif document and entry:
            found[key] = (document, entry)
    return found


def _is_there(volume: Location, scale: Json) -> bool:
    key = normal_key(scale)
    return key.startswith(("..", "/")) or (volume / key).is_folder()


def _voxel_volume(scale: Json) -> float:
    """Return the volume of a scale's voxel, by which scales are sorted; the largest where it is not said."""
    edges = scale.get("resolution")
    good = isinstance(edges, list) and all(isinstance(n, int | float) for n in edges)
    return math.prod(edges) if isinstance(edges, list) and good else math.inf
