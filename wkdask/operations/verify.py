"""Verifying a dataset: whether every unit can be read, and whether documents and files say the same."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from wkdask.arrays.opening import read_properties
from wkdask.clusters import open_pool
from wkdask.errors import (
    InputError,
    InterruptedRunError,
    MagNotFoundError,
    MetadataError,
    PlanRefusedError,
    StorageError,
    UnitsFailedError,
    WkdaskError,
)
from wkdask.formats import find_format
from wkdask.geometry import Mag
from wkdask.geometry.grid import Index
from wkdask.metadata import FILE_NAME, LayerProperties, MagProperties, Properties, mag_name
from wkdask.operations.verify_documents import (
    Facts,
    OpenedMag,
    compared,
    contradictions,
    missing_attachments,
    open_mag,
    read_receipts,
)
from wkdask.operations.verify_folders import ArrayFolder, damaged_groups, leftovers, list_array
from wkdask.operations.verify_report import CheckedMag, Fault, Verification
from wkdask.operations.verify_units import COPIES, Checked, CheckUnits
from wkdask.plan import Journal, Plan, Pool, Receipt, Report, Stage, default_limit, unfinished_jobs
from wkdask.plan.counting import Progress
from wkdask.storage import WORK_FOLDER, Location
from wkdask.storage.lease import current_owner

PIECE_BYTES = 64 << 20
LEAST_PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Selected:
    """What is to be verified.

    Parameters
    ----------
    layers, mags
        Names of layers, and magnifications; empty means all. A layer that lacks a magnification is left out for that one.
    digests
        Whether units are only compared with size, digest and checksum that were recorded when a run ended, not decoded.
    """

    layers: tuple[str, ...] = ()
    mags: tuple[Mag, ...] = ()
    digests: bool = False


def verify(
    target: Location,
    selected: Selected = Selected(),
    *,
    pool: Pool | None = None,
    memory_limit: int | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Check a dataset, all of it or some layers and magnifications. Nothing is written to it.

    Parameters
    ----------
    target
        The dataset.
    selected
        What of it, and how.
    pool
        Where units are checked; default: a thread for each core.
    memory_limit
        Bytes that may be taken; default: 0.6 of what there is.
    progress
        Called after each unit; see `wkdask.plan.drive.run`.

    Raises
    ------
    DatasetNotFoundError, LayerNotFoundError, MagNotFoundError
        Where what is to be verified is not listed.
    PlanRefusedError
        Where the chunks of an array do not fit into the memory.

    Examples
    --------
    >>> verify(Location("brain"), Selected(mags=(Mag(1),))).checked[0].units
    1
    """
    begin = time.perf_counter()
    pool = pool or open_pool("threads")
    try:
        properties = read_properties(target)
    except MetadataError as error:
        return Verification(str(target), faults=(Fault("document", str(target / FILE_NAME), str(error)),))
    survey = _survey(target, properties, selected)
    limit = memory_limit or default_limit()
    room = max(LEAST_PIECE_BYTES, min(PIECE_BYTES, limit // (2 * COPIES * pool.slots)))
    stages = tuple(
        Stage(f"verify {found.opened.layer}/{found.opened.mag}", found.check(room, selected.digests)) for found in survey.mags
    )
    if stages:
        _run(target, stages, survey, pool, memory_limit, progress)
    return replace(survey.report(target, stages, selected.digests), seconds=time.perf_counter() - begin)


@dataclass
class _FoundMag:
    """A magnification that could be opened, and what is known of it."""

    opened: OpenedMag
    folder: ArrayFolder
    faults: list[Fault] = field(default_factory=list)
    recorded: dict[str, Facts] | None = None
    bad: dict[int, Fault] = field(default_factory=dict)
    inspected: dict[Index, Facts] = field(default_factory=dict)
    stored: int = 0
    decoded: int = 0

    def check(self, piece_bytes: int, digests: bool) -> CheckUnits:
        """Return what checks its units; where nothing was recorded, none of them is asked for its digest."""
        array, rows = self.opened.array, self.folder.rows(len(self.opened.array.spec.shape))
        content = any(facts[2] is not None for facts in (self.recorded or {}).values())
        return CheckUnits(array, rows[:0] if digests and self.recorded is None else rows, piece_bytes, digests, content)

    def take(self, operation: CheckUnits, receipt: Receipt) -> None:
        """Note what became of a unit."""
        index = operation.index(receipt.number)
        if receipt.state != "done":
            self.bad[receipt.number] = self._fault("unchecked", receipt.error, index)
        elif isinstance(receipt, Checked):
            self.stored += receipt.stored
            self.decoded += receipt.decoded
            if receipt.fault:
                self.bad[receipt.number] = self._fault(*receipt.fault, index)
        for record in receipt.files:
            self.inspected[index] = (record.size, record.digest, record.content)

    def _fault(self, kind: str, reason: str, index: Index) -> Fault:
        opened, path = self.opened, self.opened.unit_path(index)
        return Fault(kind, path, reason.removeprefix(f"{path} "), opened.layer, opened.mag, opened.box(index))

    def all_faults(self) -> list[Fault]:
        """Return what is wrong: documents and folders, then units in their order, then what differs from its receipt."""
        named = [replace(fault, layer=self.opened.layer, mag=self.opened.mag) for fault in self.folder.faults]
        found = [*self.faults, *named, *(self.bad[number] for number in sorted(self.bad))]
        if self.recorded is not None and self.folder.listed:  # else nothing is known of what is there
            found += compared(self.opened, self.recorded, self.inspected, self.folder.units)
        return found


@dataclass
class _Survey:
    """What was found before any unit was looked at."""

    mags: list[_FoundMag] = field(default_factory=list)
    order: list[_FoundMag | Fault] = field(default_factory=list)
    notes: list[Fault] = field(default_factory=list)

    def add(self, fault: Fault) -> None:
        """Add a finding: what could not be checked, and what will go on, is no damage."""
        if fault.kind in ("unchecked", "unfinished"):
            self.notes.append(fault)
        else:
            self.order.append(fault)

    def report(self, target: Location, stages: tuple[Stage, ...], digests: bool) -> Verification:
        """Return all that was found, in the order of the dataset's JSON."""
        faults: list[Fault] = []
        checked = []
        counts = dict(zip(map(id, self.mags), stages, strict=True))
        for found in self.order:
            if isinstance(found, Fault):
                faults.append(found)
                continue
            here = found.all_faults()
            operation, opened = counts[id(found)].operation, found.opened
            checked.append(CheckedMag(opened.layer, opened.mag, operation.count, found.stored, found.decoded, len(here)))
            faults += here
        return Verification(str(target), tuple(checked), tuple(faults), tuple(self.notes), digests)


def _survey(target: Location, properties: Properties, selected: Selected) -> _Survey:
    """Look at documents and folders: all that is no unit."""
    survey = _Survey()
    unfinished = _unfinished(target, survey)
    _add_leftovers(target, properties, unfinished, survey)
    wanted = {mag.to_tuple() for mag in selected.mags}
    names = selected.layers or properties.layer_names
    layers = [properties.layer(name) for name in dict.fromkeys(names)]
    for triple in sorted(wanted - {mag.mag for layer in layers for mag in layer.mags}):
        there = ", ".join(f"{layer.name}/{mag.name}" for layer in layers for mag in layer.mags) or "none"
        raise MagNotFoundError(f"{target} has no magnification {mag_name(triple)}; it has {there}. Choose one of those.")
    for fault in () if wanted else damaged_groups(target):
        survey.add(fault)
    for layer in layers:
        for mag in layer.mags:
            if not wanted or mag.mag in wanted:
                _add_mag(target, properties, layer, mag, survey, layer.name in unfinished, selected.digests)
        if not wanted:
            for fault in (*missing_attachments(target, layer), *_groups_of(target, layer)):
                survey.add(fault)
    return survey


def _groups_of(target: Location, layer: LayerProperties) -> Iterator[Fault]:
    """Yield the damaged documents of a layer's group; none where no path can have its name, which opening its array tells."""
    try:
        folder = target / layer.name
    except InputError:
        return
    yield from damaged_groups(folder)


def _unfinished(target: Location, survey: _Survey) -> frozenset[str]:
    """Return the layers with a run that is under way or was left."""
    try:
        jobs = unfinished_jobs(target)
        owner = current_owner(target / WORK_FOLDER / "run.json")
    except StorageError as error:
        survey.add(Fault("unchecked", str(target / WORK_FOLDER), str(error)))
        return frozenset()
    at_work = f", under way by {owner}" if owner and owner.alive else ""
    for key, document in sorted(jobs.items()):
        command = str(document.get("command") or "")
        remedy = f"Run {command} to go on" if command else "Run the same again to go on"
        said = f"an unfinished run: {document.get('name') or key}{at_work}. {remedy}."
        survey.add(Fault("unfinished", str(Journal(target, key).folder), said, key))
    return frozenset(jobs)


def _add_leftovers(target: Location, properties: Properties, unfinished: frozenset[str], survey: _Survey) -> None:
    try:
        for fault in leftovers(target, properties.layer_names, unfinished):
            survey.add(fault)
    except WkdaskError as error:  # a name that no folder can have, or a folder that may not be listed
        survey.add(Fault("unchecked", str(target), str(error)))


def _add_mag(
    target: Location,
    properties: Properties,
    layer: LayerProperties,
    mag: MagProperties,
    survey: _Survey,
    busy: bool,
    digests: bool,
) -> None:
    opened = open_mag(target, properties, layer, mag)
    if isinstance(opened, Fault):
        survey.add(opened)
        return
    folder = list_array(opened.array, busy, find_format(str(layer.data_format)).documents)
    found = _FoundMag(opened, folder, list(contradictions(layer, mag, opened)))
    about = Fault("unchecked", str(opened.array.location), "", layer.name, mag.name)
    if digests:
        try:
            found.recorded = read_receipts(target, layer.name, mag.name)
        except (MetadataError, StorageError) as error:
            kind = "document" if isinstance(error, MetadataError) else "unreadable"
            found.faults.append(replace(about, kind=kind, reason=str(error)))
        else:
            if found.recorded is None:
                survey.add(replace(about, reason="nothing was recorded of its units. Verify it without digests."))
    survey.notes += [replace(note, layer=layer.name, mag=mag.name) for note in folder.notes]
    survey.mags.append(found)
    survey.order.append(found)


@dataclass(frozen=True, slots=True)
class _Unkept(Journal):
    """The journal of a run that leaves nothing."""

    def write(self, receipts: Iterable[Receipt]) -> None:
        """Write nothing, wherever the worker is."""


@dataclass(frozen=True)
class _NoTarget:
    """What must be there before the first task: nothing; see `wkdask.plan.Setup`."""

    restart_by = ""

    def check(self) -> None:
        """Accept everything."""

    clear = create = check

    def sweep(self, keep: frozenset[str]) -> None:
        """Delete nothing."""

    def finish(self, journal: Iterable[Receipt]) -> None:
        """Leave nothing."""


def _run(
    target: Location,
    stages: tuple[Stage, ...],
    survey: _Survey,
    pool: Pool,
    memory_limit: int | None,
    progress: Progress | None,
) -> None:
    """Check all units, as the tasks of a plan whose lease lies in a folder of its own, not in the dataset."""
    if pool.processes > 1 and any(found.opened.array.location.url.startswith("memory://") for found in survey.mags):
        raise PlanRefusedError(f"{target} is the memory of this process, which others can not read. Use threads.")

    def tell(plan: Plan, report: Report, receipt: Receipt | None) -> None:
        if receipt is not None:
            operation = stages[receipt.stage].operation
            survey.mags[receipt.stage].take(operation, receipt)  # type: ignore[arg-type]
        if progress is not None:
            progress(plan, report, receipt)

    with tempfile.TemporaryDirectory(prefix="wkdask-") as folder:
        journal = _Unkept(Location(folder), "verify")
        plan = Plan(f"verify {target.name}", journal, {}, folder, stages, (), _NoTarget(), pool.slots)
        try:
            plan.run(pool=pool, memory_limit=memory_limit, progress=tell)
        except UnitsFailedError:
            return  # which ones, the receipts have told
        except InterruptedRunError:
            raise InterruptedRunError(
                "Stopped; not all was checked. Run the same again to check it from the beginning."
            ) from None
