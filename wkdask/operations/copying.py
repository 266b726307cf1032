"""Copying magnifications and layers, in the same or another format: one plan a layer.

Each magnification is copied the cheapest way that there is: files as they are, where a unit's file would be the same; encoded
chunks into other shards, where just the shards differ; else boxes of voxels, read and encoded again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from wkdask.arrays import MagArray
from wkdask.arrays.opening import open_mag_array, read_properties
from wkdask.errors import DatasetExistsError, InputError, MagExistsError
from wkdask.geometry import Mag
from wkdask.metadata import FILE_NAME, LayerProperties, Properties, dump_json, mag_name, validate_layer_name
from wkdask.operations.choices import Running
from wkdask.operations.copying_shape import Wishes, new_array
from wkdask.operations.copying_stages import Rewriting, array_settings, rewriting_stages
from wkdask.operations.copying_target import (
    CommitRest,
    CopiedLayer,
    CopiedMags,
    made_by,
    moved_attachments,
    under_way,
)
from wkdask.operations.copying_tasks import CopyUnits
from wkdask.operations.copying_trees import CopyTrees
from wkdask.operations.existing import require_as_said, resolved
from wkdask.operations.inputs import Inputs
from wkdask.operations.level import Level
from wkdask.operations.pyramid import chosen_tiles
from wkdask.operations.target import CommitLevel, LayerTarget, dumped
from wkdask.plan import Journal, Plan, Stage
from wkdask.storage import Location, together


@dataclass(frozen=True, slots=True)
class Origin:
    """A layer that is copied.

    Parameters
    ----------
    dataset, layer
        Where it lies, and its name there.
    attachments
        Whether those are copied too.
    """

    dataset: Location
    layer: str
    attachments: bool = True

    def arrays(self, mags: Sequence[Mag]) -> dict[Mag, MagArray]:
        """Open magnifications."""
        properties = read_properties(self.dataset)
        layer = properties.layer(self.layer)
        found = {mag: open_mag_array(self.dataset, properties, layer, mag.to_tuple()) for mag in mags}
        for array in found.values():
            require_as_said(array, layer)
        return found


def plan_copy_layer(
    origin: Origin,
    target: Location,
    name: str | None = None,
    wishes: Wishes = Wishes(),
    *,
    running: Running = Running(),
    exists_ok: bool = False,
    dataset: Properties | None = None,
) -> Plan:
    """Plan the copy of a layer with all its magnifications into a dataset. Nothing is written.

    Parameters
    ----------
    origin
        The layer.
    target
        The dataset; made, as `dataset` says, where there is none.
    name
        Of the copy; default: as it is.
    wishes
        What is to be stored in another way.
    running
        Threads and memory; with ``restart`` an unfinished copy is given up.
    exists_ok
        Whether a layer that is there just gets the magnifications that it lacks.
    dataset
        What the JSON of a new dataset says, without layers; default: what the source's says.

    Returns
    -------
    Plan
        Without any task where this very copy has been made, or there is nothing to add.

    Raises
    ------
    LayerExistsError
        When it runs, where the layer is there and is not this copy.
    InputError
        Where the format can not hold the layer, or not as asked for.
    """
    source = read_properties(origin.dataset)
    name = validate_layer_name(name or origin.layer)
    _require_another_place(origin, target, name)
    journal = journal_of(target, name, running)
    there = _there(target, name)
    plan = _new_layer(origin, source, journal, wishes, running, dataset)
    if there is None or under_way(journal).get("new"):
        return plan
    if made_by(target, there) == {plan.fingerprint} or not (there.mags or source.layer(origin.layer).mags):
        return replace(plan, stages=(), milestones=())
    if not exists_ok:
        return plan  # which is refused when it is checked
    had = {Mag(mag.mag) for mag in there.mags} - {Mag(mag) for mag in under_way(journal).get("mags", ())}
    mags = [Mag(mag.mag) for mag in source.layer(origin.layer).finest_first if Mag(mag.mag) not in had]
    return _more_mags(origin, journal, {mag: mag for mag in mags}, wishes, running)


def plan_copy_dataset(
    source: Location,
    target: Location,
    wishes: Wishes = Wishes(),
    *,
    layers: Sequence[str] | None = None,
    dataset: Properties | None = None,
    exists_ok: bool = False,
    running: Running = Running(),
) -> list[Plan]:
    """Plan the copy of a dataset: a plan for each layer that is not copied yet. Nothing is written.

    Parameters
    ----------
    source, target
        The dataset, and where the copy is to lie.
    wishes
        What is to be stored in another way.
    layers
        Which; default: all.
    dataset
        What the JSON of the copy says, without layers; default: what the source's says, with the folder's name.
    exists_ok
        Whether the target may be there: layers and magnifications that it has stay as they are.
    running
        Threads and memory.

    Raises
    ------
    DatasetExistsError
        Where the target is there, and neither a copy of these layers nor one that was begun.
    """
    properties = read_properties(source)
    dataset = dataset or properties.with_name(target.name)
    names = [properties.layer(name).name for name in dict.fromkeys(properties.layer_names if layers is None else layers)]
    found = {
        name: plan_copy_layer(Origin(source, name), target, None, wishes, running=running, exists_ok=exists_ok, dataset=dataset)
        for name in names
    }
    left = [plan for plan in found.values() if plan.stages]
    if exists_ok:
        return left
    is_there, *jobs = together(target, [(target / FILE_NAME).is_file, *(plan.journal.document for plan in left)])
    if is_there and len(left) == len(found) and all(job is None for job in jobs):
        raise DatasetExistsError(
            f"{target} is a dataset already. Give a new folder, or pass exists_ok=True (--exists-ok) to copy what it lacks."
        )
    return left


def create_dataset(target: Location, like: Properties) -> None:
    """Write the JSON of a dataset without layers, where there is none."""
    (target / FILE_NAME).create(like.model_copy(update={"data_layers": ()}).to_json())


def plan_copy_mag(
    origin: Origin,
    mag: Mag,
    target: Location,
    layer_name: str,
    to: Mag | None = None,
    wishes: Wishes = Wishes(),
    *,
    running: Running = Running(),
) -> Plan:
    """Plan the copy of one magnification into a layer that is there. Nothing is written.

    Parameters
    ----------
    origin, mag
        The layer that has it, and which it is.
    target, layer_name
        The dataset and its layer.
    to
        The magnification that its voxels are to be; default: the same.
    wishes
        What is to be stored in another way. The format is the layer's.
    running
        Threads and memory.

    Raises
    ------
    MagExistsError
        Where the layer has it already.
    InputError
        Where dtype or channels are not those of the layer.
    """
    journal = journal_of(target, layer_name, running)
    layer, to = read_properties(target).layer(layer_name), to or mag
    if to.to_tuple() in {found.mag for found in layer.mags} and mag_name(to.to_tuple()) not in under_way(journal).get(
        "mags", ()
    ):
        raise MagExistsError(f"Layer '{layer_name}' in {target} has a magnification {to} already. Delete it first.")
    return _more_mags(origin, journal, {to: mag}, wishes, running)


def journal_of(target: Location, name: str, running: Running) -> Journal:
    """Return the journal of a layer's job; with ``restart`` one that gives up what is unfinished."""
    journal = Journal(target, name, running.scratch)
    if running.restart and (unfinished := journal.document()) is not None:
        journal = replace(journal, instead_of=str(unfinished.get("fingerprint")))
    return journal


def _there(target: Location, name: str) -> LayerProperties | None:
    if not (target / FILE_NAME).is_file():
        return None
    properties = read_properties(target)
    return properties.layer(name) if name in properties.layer_names else None


def _require_another_place(origin: Origin, target: Location, name: str) -> None:
    if resolved(origin.dataset) == resolved(target) and origin.layer == name:
        raise InputError(f"Layer '{name}' of {target} can not be copied onto itself. Give another name, or another dataset.")


def _new_layer(
    origin: Origin,
    source: Properties,
    journal: Journal,
    wishes: Wishes,
    running: Running,
    dataset: Properties | None,
) -> Plan:
    """Return the plan that makes a layer."""
    old, name = source.layer(origin.layer), journal.key
    said, trees = moved_attachments(origin.dataset, old, name) if origin.attachments else (None, ())
    form = wishes.data_format or str(old.data_format)
    layer = old.without_mags().updated(name=name, data_format=form, attachments=said)
    mags = [Mag(mag.mag) for mag in old.finest_first]
    sources = origin.arrays(mags)
    arrays = {
        mag: new_array(sources[mag], str(old.data_format), layer, journal.target / name / mag_name(mag.to_tuple()), wishes)
        for mag in mags
    }
    if arrays and len(axes := next(iter(arrays.values())).spec.axes) == len(layer.axes()):
        layer = layer.with_axis_order(axes)
    empty = dataset or source
    empty = empty.model_copy(update={"data_layers": ()})
    target = CopiedLayer(
        journal,
        empty.voxel_size,
        dumped(layer),
        (),
        tuple(mag.to_tuple() for mag in mags),
        copied=tuple(dump_json(mag.to_dict()) for mag in old.finest_first),
        dataset=empty.to_json(),
    )
    before = [Stage("copy attachments", CopyTrees(trees, journal))] if trees or not mags else []
    plan = _assembled(target, Rewriting(sources, arrays, str(old.data_format)), running, before, _named(origin, journal))
    rest = (CommitRest(target, 0),) if before else ()
    return replace(plan, milestones=(*plan.milestones, *rest))


def _more_mags(origin: Origin, journal: Journal, mags: Mapping[Mag, Mag], wishes: Wishes, running: Running) -> Plan:
    """Return the plan that adds magnifications, each a copy of one of the origin's, to a layer that is there."""
    properties, source = read_properties(journal.target), read_properties(origin.dataset).layer(origin.layer)
    layer = properties.layer(journal.key)
    for what in ("dtype", "num_channels"):
        if getattr(source, what) != getattr(layer, what):
            raise InputError(
                f"Layer '{origin.layer}' of {origin.dataset} has the {what} {getattr(source, what)}, layer '{layer.name}' has "
                f"{getattr(layer, what)}. Copy it to a layer of its own."
            )
    if wishes.data_format not in (None, str(layer.data_format)):
        raise InputError(
            f"Layer '{layer.name}' is {layer.data_format}, and so are all its magnifications; {wishes.data_format} was asked "
            "for. Leave out the format, or copy to a layer of its own."
        )
    opened = origin.arrays(list(mags.values()))
    sources = {mag: replace(opened[old], mag=mag.to_tuple()) for mag, old in mags.items()}
    place = journal.target / layer.name
    arrays = {
        mag: new_array(array, str(source.data_format), layer, place / mag_name(mag.to_tuple()), wishes)
        for mag, array in sources.items()
    }
    target = CopiedMags(
        journal,
        properties.voxel_size,
        dumped(layer),
        (),
        tuple(mag.to_tuple() for mag in mags),
        copied=tuple(dump_json(source.mag(old.to_tuple()).to_dict()) for old in mags.values()),
    )
    return _assembled(target, Rewriting(sources, arrays, str(source.data_format)), running, [], _named(origin, journal))


def _named(origin: Origin, journal: Journal) -> str:
    return f"copy {origin.dataset.name}/{origin.layer} to {journal.target.name}/{journal.key}"


def _assembled(target: LayerTarget, rewriting: Rewriting, running: Running, before: list[Stage], name: str) -> Plan:
    """Return the plan that writes magnifications and lists each when it is complete."""
    layer = target.properties
    stages, last, levels = rewriting_stages(layer, rewriting, target.journal, running, before)
    setup = replace(target, levels=levels)
    inputs = [Inputs.of_array(source.handle) for source in rewriting.sources.values()]
    return Plan(
        name=name,
        journal=target.journal,
        settings=_settings(target, levels, stages),
        identity="-".join(read.digest for read in inputs),
        stages=tuple(stages),
        milestones=tuple(CommitLevel(setup, n, stage, inputs[n]) for n, stage in enumerate(last)),
        setup=setup,
        workers=running.threads,
        asked=bool(running.workers),
        layout=chosen_tiles(stages),
        command=running.command,
    )


def _settings(target: LayerTarget, levels: Sequence[Level], stages: Sequence[Stage]) -> dict[str, Any]:
    """Return all that decides the bytes that are written."""
    return {
        "job": "copy",
        "new": isinstance(target, CopiedLayer),
        "layer": target.properties.to_dict() if isinstance(target, CopiedLayer) else target.journal.key,
        "voxel_size": str(target.voxel_size),
        "mags": [mag_name(mag) for mag in target.mags],
        "ways": [s.operation.describe().partition(" ")[0] for s in stages if isinstance(s.operation, CopyUnits)],
        **array_settings(target.properties, levels),
    }
