"""What documents say, compared with what is there: magnifications, arrays, attachments, receipts."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from wkdask.arrays import MagArray
from wkdask.arrays.opening import channels_of, has_unsaid_channels, open_mag_array
from wkdask.errors import DatasetNotFoundError, InputError, MetadataError, NotListedError, WkdaskError
from wkdask.formats import ArrayHandle, find_format
from wkdask.geometry.grid import Index
from wkdask.metadata import LayerProperties, MagProperties, MetadataWarning, PathKind, Properties
from wkdask.metadata.path import classify_path
from wkdask.operations.existing import attachment_place, attachments_of
from wkdask.operations.verify_report import Fault, Triple
from wkdask.storage import WORK_FOLDER, Location

MAX_RECEIPTS_BYTES = 1 << 30
Facts = tuple[int, int, int | None]
"""Of a unit's file: bytes, the checksum of its index, and that of its whole content where it is known."""

REMOTE = (PathKind.URL, PathKind.S3)


@dataclass(frozen=True, slots=True)
class OpenedMag:
    """A magnification whose array is open: as the JSON has it, and as it lies on disk, with all units that are there."""

    layer: str
    mag: str
    seen: MagArray
    array: ArrayHandle

    def box(self, index: Index) -> tuple[Triple, Triple]:
        """Return first voxel and size of a unit, in mag-1 voxels."""
        unit = self.array.spec.grid.unit_box(index).shifted(self.array.spec.offset)
        starts, edges = (dict(zip(self.seen.axes, ends, strict=True)) for ends in (unit.start, unit.shape))
        x, y, z = (starts.get(axis, 0) * m for axis, m in zip("xyz", self.seen.mag, strict=True))
        width, height, depth = (edges.get(axis, 1) * m for axis, m in zip("xyz", self.seen.mag, strict=True))
        return (x, y, z), (width, height, depth)

    def unit_path(self, index: Index) -> str:
        """Return the file of a unit."""
        return str(self.array.unit_location(index))


def open_mag(dataset: Location, properties: Properties, layer: LayerProperties, mag: MagProperties) -> OpenedMag | Fault:
    """Open the array of a magnification, or say why it can not be opened."""
    about = Fault("document", _said(dataset, mag.path or f"{layer.name}/{mag.name}"), "", layer.name, mag.name)
    remote = mag.path_kind in REMOTE
    try:
        form = find_format(str(layer.data_format))
    except WkdaskError as error:
        return replace(about, reason=str(error))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MetadataWarning)  # it is told as a fault
            seen = open_mag_array(dataset, properties, layer, mag.mag)
        place = seen.handle.location
        if place.is_local and not place.is_folder():  # in formats whose documents lie elsewhere
            return replace(
                about, kind="missing", reason="there is no such folder. Restore it, or make the magnification again."
            )
        with suppress(NotListedError):  # in formats whose documents do not tell where an array ends
            return OpenedMag(layer.name, mag.name, seen, form.open(place))
        return OpenedMag(layer.name, mag.name, seen, seen.handle)
    except DatasetNotFoundError as error:
        return replace(about, kind="unchecked" if remote else "missing", reason=str(error))
    except MetadataError as error:
        return replace(about, path=_document_named(str(error), about.path, form.documents), reason=str(error))
    except Exception as error:  # noqa: BLE001 - whatever a library says of one magnification, the others go on
        kind, reason = _kind(error, remote), str(error) or type(error).__name__
        path = _document_named(reason, about.path, form.documents) if kind == "document" else about.path
        return replace(about, kind=kind, path=path, reason=reason)


def _document_named(reason: str, path: str, names: Iterable[str]) -> str:
    """Return the document in a folder, or beside it, that an error is about; else the folder."""
    places = [f"{folder}/{name}" for folder in (path, path.rpartition("/")[0]) for name in names]
    return next((place for place in places if place in reason), path)


def _said(dataset: Location, path: str) -> str:
    """Return what messages call a path of the JSON, without passwords."""
    try:
        inside = classify_path(path) is PathKind.RELATIVE
        return f"{dataset}/{path.removeprefix('./')}" if inside else str(dataset.linked(path))
    except InputError:
        return repr(path)


def _kind(error: Exception, remote: bool) -> str:
    if isinstance(error, OSError):
        return "unchecked" if remote else "unreadable"
    return "document"


def contradictions(layer: LayerProperties, mag: MagProperties, opened: OpenedMag) -> Iterator[Fault]:
    """Yield what the dataset's JSON says otherwise than the array."""
    spec, box = opened.seen.handle.spec, opened.seen.box
    about = Fault("contradiction", str(opened.array.location), "", layer.name, mag.name)
    if spec.dtype != layer.dtype:
        yield replace(
            about, reason=f"its voxels are {spec.dtype}, by the dataset's JSON {layer.dtype}. Correct elementClass there."
        )
    if has_unsaid_channels(opened.seen.handle, layer, mag):
        reason = f"it has {channels_of(opened.seen.handle)} channels, by the dataset's JSON {layer.num_channels}"
        yield replace(about, reason=f"{reason}. Correct numChannels there, or say by channelIndex which are the layer's.")
    outside = [
        f"{axis} from {a} to {b}, by the dataset's JSON from {c} to {d}"
        for axis, a, b, c, d in zip(spec.axes, spec.box.start, spec.box.stop, box.start, box.stop, strict=True)
        if c < d and not a <= c <= d <= b
    ]
    if outside:
        reason = f"it does not cover the layer's box: it has {'; '.join(outside)}."
        yield replace(about, reason=f"{reason} Correct boundingBox, numChannels or axisOrder there, or write the array again.")
    edge = dict(zip(spec.axes, spec.unit, strict=True)).get("x")
    if mag.cube_length is not None and find_format(str(layer.data_format)).cubic and mag.cube_length != edge:
        yield replace(about, reason=f"its files have edges of {edge} voxels, cubeLength is {mag.cube_length}. Correct that.")


def missing_attachments(dataset: Location, layer: LayerProperties) -> Iterator[Fault]:
    """Yield the attachments whose paths lead nowhere."""
    for attachment in attachments_of(layer):
        remote = attachment.path_kind in REMOTE
        try:
            place = attachment_place(dataset, attachment)
            if place.is_file() or place.is_folder():
                continue
            kind, reason = "missing", f"the attachment '{attachment.name}' is not there. Restore it, or take it from the JSON."
        except MetadataError as error:
            kind, reason = "document", str(error)
        except Exception as error:  # noqa: BLE001 - stores fail in any way
            kind, reason = _kind(error, remote), str(error) or type(error).__name__
        yield Fault("unchecked" if remote else kind, attachment.path, reason, layer.name)


def read_receipts(dataset: Location, layer: str, mag: str) -> dict[str, Facts] | None:
    """Return what was recorded of a magnification's units, by path below the array; None where nothing was.

    Raises
    ------
    MetadataError
        Where the document is not sound.
    """
    place = dataset / WORK_FOLDER / "receipts" / f"{layer}/{mag}.json"
    stat = place.stat()
    if stat is None:
        return None
    try:
        if not 0 < stat.size <= MAX_RECEIPTS_BYTES:
            raise ValueError(f"it has {stat.size} bytes")
        units: dict[str, Any] = json.loads(place.read_bytes())["units"]
        found = {str(path): _facts(unit) for path, unit in units.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MetadataError(
            f"{place} is no list of units: {type(error).__name__}: {str(error)[:200]}. Delete it: it is not needed."
        ) from None
    return found


def _facts(unit: dict[str, Any]) -> Facts:
    content = unit.get("crc32c")
    return _whole(unit["bytes"]), int(unit["digest"], 16), None if content is None else int(content, 16)


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{str(value)[:80]} is no number of bytes")
    return value


def compared(
    opened: OpenedMag, recorded: Mapping[str, Facts], found: Mapping[Index, Facts], there: Iterable[Index]
) -> Iterator[Fault]:
    """Yield the units that changed, vanished or appeared since they were recorded.

    Parameters
    ----------
    opened
        The magnification.
    recorded
        What is known of each unit, by path below the array; 0 bytes where there was no file, as all voxels were zero.
    found
        The same of each unit that could be inspected.
    there
        All units that are stored.
    """
    expected = {index: facts for path, facts in recorded.items() if (index := opened.array.unit_of(path)) is not None}
    stored = set(there)
    for index in sorted({*expected, *stored}):
        before, now = expected.get(index, (0, 0, None)), found.get(index)
        about = Fault("changed", opened.unit_path(index), "", opened.layer, opened.mag, opened.box(index))
        if index not in stored:
            if before[0]:
                yield replace(about, kind="vanished", reason=f"it is gone; it had {before[0]} bytes. Restore it.")
        elif not before[0]:
            yield replace(about, kind="appeared", reason="it was not there when the magnification was recorded.")
        elif now is None:
            continue
        elif now[:2] != before[:2]:
            yield replace(
                about,
                reason=f"it has {now[0]} bytes and the digest {now[1]:08x}, when it was recorded {before[0]} and "
                f"{before[1]:08x}. Restore it, or write it again.",
            )
        elif before[2] is not None and now[2] != before[2]:
            yield replace(
                about,
                reason=f"its bytes have the checksum {now[2] or 0:08x}, when it was recorded {before[2]:08x}. Restore it, or "
                "write it again.",
            )
