"""Layers that plans make or extend: arrays before the first task, the JSON's list when a magnification is complete."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from wkdask.arrays.opening import read_properties
from wkdask.errors import (
    DatasetExistsError,
    DatasetNotFoundError,
    InputError,
    LayerExistsError,
    MagExistsError,
    PlanRefusedError,
    WkdaskError,
)
from wkdask.formats import ArrayHandle, find_format
from wkdask.metadata import (
    FILE_NAME,
    LayerProperties,
    MagProperties,
    Properties,
    VoxelSize,
    dump_json,
    load_json,
    mag_name,
)
from wkdask.operations.existing import UnfinishedMags, places, require_own_folder, resolved, with_own_mags
from wkdask.operations.inputs import Inputs
from wkdask.operations.level import Level, path_below
from wkdask.plan import FileRecord, Journal, Receipt
from wkdask.storage import WORK_FOLDER, Location, refuses_conflicts, together, update_document, update_soon


@dataclass(frozen=True)
class LayerTarget(ABC):
    """What a plan writes: magnifications of one layer; see `wkdask.plan.Setup`.

    Parameters
    ----------
    journal
        Of the run; its key is the layer's name.
    voxel_size
        Of the dataset.
    layer
        The layer as JSON: a new one without magnifications, or an existing one as the plan found it.
    levels
        The magnifications.
    mags
        Their factors, in the same order.
    """

    journal: Journal
    voxel_size: VoxelSize
    layer: bytes
    levels: tuple[Level, ...]
    mags: tuple[tuple[int, int, int], ...]

    @property
    def document(self) -> Location:
        """The dataset's JSON."""
        return self.journal.target / FILE_NAME

    @property
    def properties(self) -> LayerProperties:
        """The layer as the plan sees it."""
        return LayerProperties.from_dict(load_json(self.layer, "layer"), "layer")

    @property
    def new_levels(self) -> tuple[Level, ...]:
        """The levels that no reader knows before they are complete."""
        return self.levels

    @property
    def restart_by(self) -> str:
        """How users give up an unfinished run of the same kind."""
        return "--overwrite-existing, in Python allow_overwrite=True"

    @abstractmethod
    def check(self) -> None:
        """Refuse a target that is not as the plan needs it."""

    def clear(self) -> None:
        """Delete the arrays that nothing lists, as they may be of other shapes."""
        for level in self.new_levels:
            level.array.location.delete()

    def create(self) -> None:
        """Make the groups and the empty arrays; nothing lists them yet."""
        form, target = find_format(self.properties.data_format), self.journal.target

        def make(array: ArrayHandle) -> None:
            if not form.detect(array.location):
                form.create(array.location, array.spec)

        groups = partial(form.write_groups, target, self.properties.without_mags(), self.voxel_size)
        known = partial(refuses_conflicts, target / WORK_FOLDER)  # found out now, since changes of the JSON will ask for it
        together(target, [groups, *(partial(make, level.array) for level in self.levels), known])

    def sweep(self, keep: frozenset[str]) -> None:
        """Delete units, parts and unfinished files that no receipt speaks for."""
        self.journal.scratch.delete()
        for level in self.new_levels:
            for index in list(level.array.written_units()):
                unit = level.array.unit_location(index)
                if path_below(self.journal.target, unit) not in keep:
                    unit.delete()
        for mag in self.journal.parts.names():
            for unit_name in (self.journal.parts / mag).names():
                folder = self.journal.parts / mag / unit_name
                for part in folder.names():
                    if path_below(self.journal.target, folder / part) not in keep:
                        (folder / part).delete()

    def finish(self, journal: Iterable[Receipt]) -> None:
        """Leave a list of units with size and digest for each magnification, and OME-NGFF metadata for other readers."""
        units = {level.name: self._units_before(level) for level in self.levels}
        prefixes = {path_below(self.journal.target, level.array.location) + "/": level.name for level in self.levels}
        for receipt in journal:
            for record in receipt.files:
                for prefix, name in prefixes.items():
                    if record.path.startswith(prefix):
                        units[name][record.path.removeprefix(prefix)] = _facts(record)
        said, job = together(self.journal.target, (self.document.read_bytes, self.journal.document))
        properties = Properties.from_json(said, str(self.document))
        layer = properties.layer(self.journal.key)
        own = with_own_mags(self.journal.target, properties, layer)
        made_by = (job or {}).get("fingerprint")

        def write(level: Level) -> None:  # some units of before may have had other names
            found = {path: said for path, said in units[level.name].items() if level.array.unit_of(path) is not None}
            document = {"version": 1, "plan": made_by, "units": found}
            self._receipts(level.name).write_bytes(json.dumps(document, indent=1).encode(), self.journal.scratch)

        groups = partial(find_format(layer.data_format).write_groups, self.journal.target, own, properties.voxel_size)
        together(self.journal.target, [*(partial(write, level) for level in self.levels), groups])

    def _receipts(self, level: str) -> Location:
        return self.journal.target / WORK_FOLDER / "receipts" / f"{level}.json"

    def _units_before(self, level: Level) -> dict[str, Any]:  # noqa: ARG002
        """Return what is known of units that the plan does not write."""
        return {}

    def commit(self, level: int, low: float | None, high: float | None) -> None:
        """List a magnification in the JSON."""
        update_soon(self.document, lambda old: self._with_level(old, level, low, high))

    def _with_level(self, old: bytes | None, number: int, low: float | None, high: float | None) -> bytes:
        properties, layer = self._listed(old, low, high)
        mag = mag_properties(self.journal.target, self.levels[number].array, self.mags[number], str(layer.data_format))
        return properties.with_layer(layer.with_mag(mag)).to_json()

    @abstractmethod
    def _listed(self, old: bytes | None, low: float | None, high: float | None) -> tuple[Properties, LayerProperties]:
        """Return dataset and layer as the document has them, or as they are to be."""


@dataclass(frozen=True)
class NewLayer(LayerTarget):
    """A new layer in a dataset that exists or is to be made, with `dataset_name` where it is to be made."""

    dataset_name: str = ""

    @property
    def restart_by(self) -> str:
        """How users give up an unfinished conversion."""
        return "--restart, in Python restart=True"

    def clear(self) -> None:
        """Delete what the superseded run has made of the layer: first what lists it."""
        name = self.journal.key
        if self.document.is_file():
            update_document(self.document, lambda old: _without(old, name, str(self.document)))
        (self.journal.target / name).delete()

    def check(self) -> None:
        """Refuse a target that is something else, holds the layer already, or has other voxels."""
        target, name = self.journal.target, self.journal.key
        asked: tuple[Callable[[], Any], ...]
        asked = target.is_file, self.document.read_if_there, target.names, (target / name).names, self.journal.document
        if not target.is_local:  # all at once; else only what is wanted
            asked = tuple(partial(_itself, answer) for answer in together(target, asked))
        is_file, document, beside, inside, job = asked
        if is_file():
            raise DatasetExistsError(f"{target} is a file. Give a folder that does not exist yet.")
        said = document()
        if said is None:
            others = [n for n in beside() if n != WORK_FOLDER]
            if others and not (target / WORK_FOLDER / "jobs").is_folder():
                raise DatasetExistsError(
                    f"{target} exists and is no dataset: it holds {', '.join(others[:3])}. Give a folder that is empty or new."
                )
        else:
            self._check_document(Properties.from_json(said, str(self.document)), _makes_new(job()))
        if job() is None and inside():
            raise DatasetExistsError(
                f"{target / name} exists, but is no layer of the dataset. Delete that folder, or choose another --layer-name."
            )

    def _check_document(self, found: Properties, is_begun: bool) -> None:
        """Refuse what the dataset's JSON says, unless an unfinished run that makes the layer has listed it."""
        target, name = self.journal.target, self.journal.key
        if name in found.layer_names and not is_begun:
            raise LayerExistsError(
                f"Layer '{name}' in {target} exists; --overwrite-existing deletes the whole dataset and begins anew. "
                "Another --layer-name adds a layer."
            )
        if found.voxel_size != self.voxel_size:
            raise InputError(
                f"{target} has voxels of {found.voxel_size}, not {self.voxel_size}. "
                "Layers of one dataset share their voxel size."
            )

    def _listed(self, old: bytes | None, low: float | None, high: float | None) -> tuple[Properties, LayerProperties]:
        if old is None:
            properties = Properties.new(self.dataset_name, self.voxel_size)
        else:
            properties = Properties.from_json(old, str(self.document))
        name = self.journal.key
        return properties, properties.layer(name) if name in properties.layer_names else _measured(self.properties, low, high)


@dataclass(frozen=True)
class MoreMags(LayerTarget):
    """Further magnifications of a layer that is there; those of `anew` are there too, and their units are replaced."""

    anew: frozenset[tuple[int, int, int]] = frozenset()

    @property
    def new_levels(self) -> tuple[Level, ...]:
        """The levels that no reader knows before they are complete."""
        return tuple(level for level, mag in zip(self.levels, self.mags, strict=True) if mag not in self.anew)

    def check(self) -> None:
        """Refuse where the layer is gone, or has one of the new magnifications already."""
        target, name = self.journal.target, self.journal.key
        layer = read_properties(target).layer(name)
        require_own_folder(target, name)
        if self.journal.document() is not None and not self.journal.superseding:
            return
        self._require_box(layer)
        there, ours = {mag.mag for mag in layer.mags}, self._superseded
        for mag, level in zip(self.mags, self.levels, strict=True):
            if mag in there and mag not in self.anew:
                raise MagExistsError(
                    f"Layer '{name}' in {target} has a magnification {mag_name(mag)} already. "
                    "To make it anew, pass allow_overwrite=True, or --overwrite-existing on the command line."
                )
            if mag not in there and mag not in ours and not self._is_free(level.array):
                raise DatasetExistsError(
                    f"{level.array.location} exists, but is no magnification of layer '{name}'. Delete that folder first."
                )

    def _require_box(self, layer: LayerProperties) -> None:
        """Refuse where the layer's box is another one since the plan was made, as its tasks are those of that box."""
        planned, found = self.properties.bounding_box, layer.bounding_box
        if found != planned:
            raise PlanRefusedError(
                f"Layer '{layer.name}' in {self.journal.target} has the box {found.top_left}, {found.size}; when this plan was "
                f"made, it was {planned.top_left}, {planned.size}. Make the plan anew."
            )

    def clear(self) -> None:
        """Delete what the superseded run has made of magnifications that nothing lists."""
        target = self.journal.target
        in_use = {place for _, place in places(target, read_properties(target))}
        for mag in self._superseded:
            folder = target / self.journal.key / mag_name(mag)
            if resolved(folder) not in in_use:
                folder.delete()

    def _is_free(self, array: ArrayHandle) -> bool:
        """Whether a place holds nothing, or just what setting up this very array left there when it was killed."""
        names, form = set(array.location.names()), find_format(str(self.properties.data_format))
        if not names <= form.documents:
            return False
        if not form.detect(array.location):  # nor would it be made where a document of its own were
            return True
        try:
            return form.open(array.location, array.spec.end).with_axes(array.spec.axes).spec == array.spec
        except WkdaskError:
            return False

    @property
    def _superseded(self) -> frozenset[tuple[int, int, int]]:
        """The magnifications that the superseded run was to make, those aside that were there before it."""
        found = UnfinishedMags.of(self.journal) if self.journal.superseding else None
        return frozenset(mag.to_tuple() for mag in found.unlisted) if found else frozenset()

    def _units_before(self, level: Level) -> dict[str, Any]:
        place = self._receipts(level.name)
        if level in self.new_levels or not place.is_file():
            return {}
        try:
            return dict(json.loads(place.read_bytes())["units"])
        except (ValueError, KeyError, TypeError):
            return {}

    def _listed(self, old: bytes | None, low: float | None, high: float | None) -> tuple[Properties, LayerProperties]:  # noqa: ARG002
        document = self._present(old)
        properties = Properties.from_json(document, str(self.document))
        return properties, properties.layer(self.journal.key)

    def _present(self, old: bytes | None) -> bytes:
        """Return the dataset's JSON, which an extension of a layer never makes."""
        if old is None:
            raise DatasetNotFoundError(
                f"{self.document} is gone, so {self.journal.key} can not get its magnifications. Put it back, and run the same "
                "again."
            )
        return old

    def _with_level(self, old: bytes | None, number: int, low: float | None, high: float | None) -> bytes:
        if self.mags[number] in self.anew:
            return self._present(old)
        return super()._with_level(old, number, low, high)


def _itself(answer: Any) -> Any:
    return answer


def _makes_new(job: dict[str, Any] | None) -> bool:
    """Whether an unfinished run is one that makes its layer, so that what is listed of that is its own."""
    settings = (job or {}).get("settings")
    return isinstance(settings, dict) and settings.get("new") is True


def _facts(record: FileRecord) -> dict[str, Any]:
    """Return what is kept of a unit's file."""
    facts: dict[str, Any] = {"bytes": record.size, "digest": f"{record.digest:08x}"}
    return facts if record.content is None else facts | {"crc32c": f"{record.content:08x}"}


def _without(old: bytes | None, layer: str, where: str) -> bytes:
    properties = Properties.from_json(old or b"", where)
    return (properties.without_layer(layer) if layer in properties.layer_names else properties).to_json()


def _measured(layer: LayerProperties, low: float | None, high: float | None) -> LayerProperties:
    """Return the layer with what the voxels told: contrast window, or largest segment id."""
    if high is None or low is None:
        return layer
    if layer.category == "segmentation":
        return layer.updated(largest_segment_id=int(high))
    return layer.with_view_configuration(min=float(low), max=float(high))


@dataclass(frozen=True, slots=True)
class CommitLevel:
    """Lists one magnification when it is complete, and ``made_of`` is still what it was; see `wkdask.plan.Milestone`."""

    target: LayerTarget
    level: int
    stage: int
    made_of: Inputs | None = None

    @property
    def name(self) -> str:
        """Layer and mag."""
        return self.target.levels[self.level].name

    def commit(self, low: float | None, high: float | None) -> None:
        """Make it visible."""
        self.check()
        self.target.commit(self.level, low, high)

    def check(self) -> None:
        """Refuse where an input has changed."""
        if self.made_of is not None:
            self.made_of.check()


def mag_properties(target: Location, array: ArrayHandle, mag: tuple[int, int, int], data_format: str) -> MagProperties:
    """Return what a dataset's JSON says of a magnification whose array lies in the dataset."""
    order = {axis: i for i, axis in enumerate(array.spec.axes) if axis in "cxyz"}
    cube = array.spec.unit[order["x"]] if find_format(data_format).cubic else None
    return MagProperties.new(mag, path=f"./{path_below(target, array.location)}", axis_order=order, cube_length=cube)


def dumped(layer: LayerProperties) -> bytes:
    """Return a layer as JSON."""
    return dump_json(layer.to_dict())
