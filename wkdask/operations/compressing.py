"""Storing magnifications of a layer in another way, in their place: compressed, in other chunks or shards, in another format.

What is new is written beside the old, in folders that nothing lists. When all of it is complete, one change of the dataset's
JSON lists the new folders instead of the old, and the old ones are deleted. Killed before that change, a run leaves the old
magnifications and goes on; killed behind it, it leaves the new ones, and what is superfluous is deleted by the next run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from wkdask.arrays import MagArray
from wkdask.arrays.opening import open_mag_array, read_properties
from wkdask.errors import InputError, MetadataError, PlanRefusedError
from wkdask.formats import ArrayHandle, find_format
from wkdask.geometry import Mag
from wkdask.metadata import LayerProperties, Properties, mag_name, resolve_relative
from wkdask.operations.choices import Running
from wkdask.operations.copying import journal_of
from wkdask.operations.copying_shape import Wishes, new_array
from wkdask.operations.copying_stages import Rewriting, array_settings, rewriting_stages
from wkdask.operations.copying_target import RESTART, copied_mag
from wkdask.operations.existing import attachment_places, open_to_replace, places, resolved
from wkdask.operations.inputs import Input, Inputs
from wkdask.operations.level import Level, path_below
from wkdask.operations.pyramid import chosen_tiles
from wkdask.operations.target import LayerTarget, dumped
from wkdask.plan import Journal, Plan, Receipt
from wkdask.storage import WORK_FOLDER, Location, update_document

JOB = "rechunk"


@dataclass(frozen=True)
class Rewritten(LayerTarget):
    """Magnifications that take the place of others; see `wkdask.plan.Setup`. The layer is as it will be, with the old paths.

    Parameters
    ----------
    made_of
        The magnifications that are there, as the plan found them.
    """

    made_of: Inputs

    @property
    def restart_by(self) -> str:
        """How users give up an unfinished run."""
        return RESTART

    def check(self) -> None:
        """Refuse where the layer is another one than the plan was made for."""
        found = read_properties(self.journal.target).layer(self.journal.key)
        if _voxels(found) != _voxels(self.properties):
            raise PlanRefusedError(
                f"Layer '{found.name}' in {self.journal.target} got another box, dtype or magnifications since this plan was "
                "made. Make the plan anew."
            )

    def clear(self) -> None:
        """Bring a run that is superseded to its end if it listed what it wrote; else delete that."""
        earlier = unfinished(self.journal)
        if is_swapped(self.journal):
            levels = tuple(_listed_levels(self.journal, earlier["new"]))
            replace(self, levels=levels).finish(self.journal.read())
        else:
            _delete_unlisted(self.journal)

    def create(self) -> None:
        """Make the empty arrays; nothing lists them yet."""
        form = find_format(str(self.properties.data_format))
        for level in self.levels:
            if not form.detect(level.array.location):
                form.create(level.array.location, level.array.spec)

    def finish(self, journal: Iterable[Receipt]) -> None:
        """Condense the receipts, and delete the magnifications that are no longer listed."""
        super().finish(journal)
        _delete_unlisted(self.journal)

    def _listed(self, old: bytes | None, low: float | None, high: float | None) -> tuple[Properties, LayerProperties]:  # noqa: ARG002
        properties = Properties.from_json(old or b"", str(self.document))
        return properties, properties.layer(self.journal.key)

    def swap(self) -> None:
        """List the new magnifications instead of the old, all at once.

        Raises
        ------
        InputChangedError
            Where an old one was written since the plan was made: the new one would lack that.
        """
        update_document(self.document, self._swapped)

    def _swapped(self, old: bytes | None) -> bytes:
        properties, layer = self._listed(old, None, None)
        target, form = self.journal.target, str(self.properties.data_format)
        new = [
            copied_mag(target, level.array, mag, form, layer.mag(mag))
            for mag, level in zip(self.mags, self.levels, strict=True)
        ]
        if all(layer.mag(mag.mag).path == mag.path for mag in new):
            return old or b""
        self.made_of.check()
        for mag in new:
            layer = layer.with_mag(mag)
        return properties.with_layer(layer.updated(data_format=form)).to_json()


def _voxels(layer: LayerProperties) -> tuple[Any, ...]:
    """Return what a plan relies on."""
    return layer.bounding_box, layer.element_class, layer.additional_axes, [mag.to_dict() for mag in layer.mags]


@dataclass(frozen=True, slots=True)
class CommitSwap:
    """Waits for a magnification; behind the last, all take the places of the old; see `wkdask.plan.Milestone`."""

    target: Rewritten
    number: int
    stage: int

    @property
    def name(self) -> str:
        """Layer and mag."""
        return self.target.levels[self.number].name

    def commit(self, low: float | None, high: float | None) -> None:  # noqa: ARG002
        """Swap, when this is the last."""
        if self.number == len(self.target.levels) - 1:
            self.target.swap()

    def check(self) -> None:
        """Refuse where what is to be replaced has changed."""
        self.target.made_of.check()


def plan_rechunk(
    target: Location,
    layer_name: str,
    wishes: Wishes = Wishes(codec="compressed"),
    mags: Sequence[Mag] = (),
    *,
    running: Running = Running(),
) -> Plan:
    """Plan to store magnifications of a layer in another way, in their place. Nothing is written.

    Voxels stay as they are in the layer's box; what lies beyond it is not kept.

    Parameters
    ----------
    target, layer_name
        The dataset and its layer.
    wishes
        How they are to be stored; default: compressed.
    mags
        Which; default: all. With another format it must be all.
    running
        Threads and memory; with ``restart`` an unfinished run is given up.

    Returns
    -------
    Plan
        Without any stage where all are stored so; see `is_needed`.

    Raises
    ------
    ReadOnlyError
        Where a magnification that would be changed lies outside the dataset, or is a link that leads there.
    InputError
        Where the format can not hold the layer, or not as asked for.
    """
    journal = journal_of(target, layer_name, running)
    if is_swapped(journal):
        journal = replace(journal, instead_of=str((journal.document() or {}).get("fingerprint")))
    properties = read_properties(target)
    old = properties.layer(layer_name)
    wanted = [Mag(old.mag(mag.to_tuple()).mag) for mag in mags] or [Mag(mag.mag) for mag in old.finest_first]
    layer = old.updated(data_format=wishes.data_format) if wishes.data_format else old
    if layer.data_format != old.data_format and len(set(wanted)) < len(old.mags):
        raise InputError(f"All magnifications of a layer have one format, {old.data_format}. Give all of them, or no format.")
    rewriting = _rewriting(target, properties, layer, dict.fromkeys(wanted), wishes, journal)
    stages, last, levels = rewriting_stages(layer, rewriting, journal, running)
    made_of = Inputs(tuple(Input.of(source.handle) for source in rewriting.sources.values()))
    setup = Rewritten(
        journal,
        properties.voxel_size,
        dumped(layer),
        levels,
        tuple(mag.to_tuple() for mag in rewriting.arrays),
        made_of=made_of,
    )
    return Plan(
        name=f"rechunk {target.name}/{layer_name}",
        journal=journal,
        settings=_settings(target, layer, rewriting, levels),
        identity=made_of.digest,
        stages=tuple(stages),
        milestones=tuple(CommitSwap(setup, number, stage) for number, stage in enumerate(last)),
        setup=setup,
        workers=running.threads,
        asked=bool(running.workers),
        layout=chosen_tiles(stages),
        command=running.command,
    )


def is_needed(plan: Plan) -> bool:
    """Whether a plan has anything to do: tasks, or the end of a run that was killed."""
    return bool(plan.stages) or plan.journal.superseding


def _rewriting(
    target: Location,
    properties: Properties,
    layer: LayerProperties,
    mags: Iterable[Mag],
    wishes: Wishes,
    journal: Journal,
) -> Rewriting:
    """Return the magnifications that are not stored as wished, and what they are to become."""
    old = properties.layer(layer.name)
    sources, arrays = dict[Mag, MagArray](), dict[Mag, ArrayHandle]()
    for mag in mags:
        source = open_mag_array(target, properties, old, mag.to_tuple())
        place = _free_place(target, properties, layer.name, mag, journal)
        array = new_array(source, str(old.data_format), layer, place, wishes)
        if layer.data_format != old.data_format or _stored(array) != _stored(source.handle):
            open_to_replace(target, properties, old, mag)  # refuses what is not the dataset's own
            sources[mag], arrays[mag] = source, array
    return Rewriting(sources, arrays, str(old.data_format))


def _stored(array: ArrayHandle) -> tuple[Any, ...]:
    return array.spec.chunk, array.spec.unit, array.spec.codec, array.spec.axes


def _free_place(target: Location, properties: Properties, layer: str, mag: Mag, journal: Journal) -> Location:
    """Return the first folder, of the mag's name or that and a number, that nobody uses but the run that is under way."""
    used = {place for _, place in places(target, properties)}
    earlier = [] if journal.instead_of else unfinished(journal).get("new", [])
    number = 1
    while True:
        path = f"{layer}/{mag.to_layer_name()}" + (f".{number}" if number > 1 else "")
        place = target / path
        if resolved(place) not in used and (path in earlier or not place.names()):
            return place
        number += 1


def _settings(target: Location, layer: LayerProperties, rewriting: Rewriting, levels: Sequence[Level]) -> dict[str, Any]:
    """Return all that decides the bytes that are written."""
    box = layer.bounding_box
    return {
        "job": JOB,
        "layer": [layer.name, layer.category, layer.dtype, box.top_left, box.size],
        "mags": [mag_name(mag.to_tuple()) for mag in rewriting.arrays],
        "old": [path_below(target, source.handle.location) for source in rewriting.sources.values()],
        "new": [path_below(target, array.location) for array in rewriting.arrays.values()],
        **array_settings(layer, levels),
    }


def unfinished(journal: Journal) -> dict[str, Any]:
    """Return the settings of a run of this kind that is under way; nothing where there is none, or they are not sound."""
    settings = (journal.document() or {}).get("settings")
    if not isinstance(settings, dict) or settings.get("job") != JOB:
        return {}
    paths = [settings.get("old"), settings.get("new")]
    sound = all(isinstance(found, list) and all(isinstance(path, str) for path in found) for found in paths)
    return settings if sound else {}


def is_swapped(journal: Journal) -> bool:
    """Whether a run of this kind is unfinished, but has listed all that it wrote."""
    found = unfinished(journal)
    if not found:
        return False
    layer = read_properties(journal.target).layer(journal.key)
    return {f"./{path}" for path in found["new"]} <= {mag.path for mag in layer.mags}


def _listed_levels(journal: Journal, paths: Sequence[str]) -> Iterable[Level]:
    """Yield the magnifications at some paths, so far as to tell their names and arrays."""
    properties = read_properties(journal.target)
    layer = properties.layer(journal.key)
    for mag in layer.mags:
        if mag.path in {f"./{path}" for path in paths}:
            array = open_mag_array(journal.target, properties, layer, mag.mag)
            yield Level(array.name, array.handle, array.box, (1,) * len(array.axes), "nearest")


def _delete_unlisted(journal: Journal) -> None:
    """Delete the folders that a run read or wrote and that nothing in the dataset uses."""
    target, settings = journal.target, unfinished(journal)
    properties = read_properties(target)
    kept = {*attachment_places(target, properties), *(place for _, place in places(target, properties))}
    kept.add(resolved(target / WORK_FOLDER))
    for path in (*settings.get("old", ()), *settings.get("new", ())):
        try:
            place = target / resolve_relative(path)
        except MetadataError:
            continue
        found = resolved(place)
        ours = found.startswith(f"{resolved(target)}/")
        if ours and not any(f"{one}/".startswith(f"{found}/") or f"{found}/".startswith(f"{one}/") for one in kept):
            place.delete()
