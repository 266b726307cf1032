"""What is known of unfinished jobs from outside: who works on them, what is done, how fast; by their journals alone."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from wkdask.plan.claims import living_workers
from wkdask.plan.following import NewLines
from wkdask.plan.journal import Journal, unfinished_jobs
from wkdask.plan.receipt import Receipt
from wkdask.storage import WORK_FOLDER, Location, Owner
from wkdask.storage.lease import current_owner

RATE_SECONDS = 60.0
"""How far back the rate looks."""

MOST_ERRORS = 10


@dataclass(frozen=True, slots=True)
class StageStanding:
    """How far a stage is: tasks done, failed, and in all."""

    name: str
    done: int
    failed: int
    tasks: int


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a job is.

    Parameters
    ----------
    key, name, command
        The layer that it makes, what it does, and what was typed, empty where it was begun in Python.
    begun
        When, in seconds since 1970; 0 where that is not known.
    stages
        How far each is.
    bytes_done, bytes_in
        Bytes of voxels that were read, and that all tasks read; 0 where that is not known.
    rate
        Bytes of voxels read per second, over the last minute that tasks ended in.
    last
        When the last task ended.
    committed, to_come
        Magnifications that are complete, and the others.
    errors
        Of tasks that failed and are not done, the first few.
    owner
        Who works on it, dead or alive; None where nobody does.
    workers
        The living processes that share it by leases.
    """

    key: str
    name: str
    command: str
    begun: float
    stages: tuple[StageStanding, ...]
    bytes_done: int
    bytes_in: int
    rate: float
    last: float
    committed: tuple[str, ...]
    to_come: tuple[str, ...]
    errors: tuple[str, ...]
    owner: Owner | None
    workers: tuple[Owner, ...] = ()

    @property
    def alive(self) -> bool:
        """Whether somebody works on it."""
        return bool(self.workers) or (self.owner is not None and self.owner.alive)

    @property
    def done(self) -> int:
        """Tasks that are done."""
        return sum(stage.done for stage in self.stages)

    @property
    def tasks(self) -> int:
        """Tasks in all."""
        return sum(stage.tasks for stage in self.stages)

    @property
    def failed(self) -> int:
        """Tasks that failed and are not done."""
        return sum(stage.failed for stage in self.stages)

    @property
    def seconds_left(self) -> float | None:
        """Seconds until it ends, at the present rate; None where that is not known."""
        known = self.alive and self.rate and self.bytes_in
        return max(0.0, self.bytes_in - self.bytes_done) / self.rate if known else None


@dataclass
class _Counted:
    """What the journal of one run of a job told so far."""

    journal: NewLines
    failures: NewLines
    done: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    failed: dict[tuple[int, int], str] = field(default_factory=dict)
    recent: deque[tuple[float, int]] = field(default_factory=deque)
    bytes_done: int = 0
    last: float = 0.0

    def read(self, counts: list[int]) -> None:
        """Read what is new; of tasks that the plan does not have, nothing is kept."""
        for receipt in _receipts(self.journal, Receipt.of_line, counts):
            numbers = self.done[receipt.stage]
            self.failed.pop((receipt.stage, receipt.number), None)
            if receipt.number not in numbers:
                numbers.add(receipt.number)
                self.bytes_done += receipt.bytes_in
                self._note_time(receipt)
        for receipt in _receipts(self.failures, Receipt.of_failure_line, counts):
            if receipt.number not in self.done[receipt.stage]:
                self.failed[receipt.stage, receipt.number] = receipt.error

    def _note_time(self, receipt: Receipt) -> None:
        """Keep what tells the rate: the last minute."""
        self.last = max(self.last, receipt.at)
        if receipt.at > max(0.0, self.last - RATE_SECONDS):
            self.recent.append((receipt.at, receipt.bytes_in))
        while self.recent and self.recent[0][0] < self.last - RATE_SECONDS:
            self.recent.popleft()

    def rate(self) -> float:
        """Return bytes of voxels per second."""
        first = self.last - RATE_SECONDS
        within = sorted((at, size) for at, size in self.recent if at >= first)
        if not within or within[-1][0] <= within[0][0]:
            return 0.0
        return sum(size for at, size in within[1:]) / (within[-1][0] - within[0][0])


def _receipts(lines: NewLines, reader: Callable[[bytes], Receipt | None], counts: list[int]) -> Iterator[Receipt]:
    for line in lines:
        receipt = reader(line)
        if receipt and 0 <= receipt.stage < len(counts) and 0 <= receipt.number < counts[receipt.stage]:
            yield receipt


class Watch:
    """Looks at the jobs of a dataset, again and again; each look reads only what is new.

    Parameters
    ----------
    target
        The dataset.

    Examples
    --------
    >>> Watch(Location("memory://watch/ds")).look()
    ()
    """

    def __init__(self, target: Location) -> None:
        self._target = target
        self._counted: dict[tuple[str, str, float], _Counted] = {}

    @property
    def owner(self) -> Owner | None:
        """Who holds the dataset, dead or alive."""
        return current_owner(self._target / WORK_FOLDER / "run.json")

    def look(self) -> tuple[Standing, ...]:
        """Return how far each unfinished job is, by the names of their layers."""
        owner = self.owner
        return tuple(self._standing(key, document, owner) for key, document in sorted(unfinished_jobs(self._target).items()))

    def _standing(self, key: str, document: dict[str, Any], owner: Owner | None) -> Standing:
        journal = Journal(self._target, key)
        counts, begun = _counts(document), _number(document.get("begun"))
        run = key, str(document.get("fingerprint")), begun
        if run not in self._counted:
            self._counted = {known: counted for known, counted in self._counted.items() if known[0] != key}
            self._counted[run] = _Counted(NewLines(journal.folder / "journal"), NewLines(journal.folder / "failures"))
        counted = self._counted[run]
        counted.read(counts)
        rows = _rows(document, "stages", len(counts))
        failed = [sum(stage == at for stage, _ in counted.failed) for at in range(len(counts))]
        stages = tuple(
            StageStanding(str(row.get("name") or f"stage {at + 1}"), len(counted.done[at]), failed[at], count)
            for at, (row, count) in enumerate(zip(rows, counts, strict=True))
        )
        committed, to_come = _milestones(document, stages)
        name = str(document.get("name") or "")
        return Standing(
            key,
            name,
            str(document.get("command") or ""),
            begun,
            stages,
            counted.bytes_done,
            int(sum(_number(row.get("bytes_in")) for row in rows)),
            counted.rate(),
            counted.last,
            committed,
            to_come,
            tuple(dict.fromkeys(counted.failed.values()))[:MOST_ERRORS],
            owner if owner and owner.work == name else None,
            _each_once(living_workers(journal)),
        )


def _each_once(owners: Iterable[Owner]) -> tuple[Owner, ...]:
    found = {(owner.host, owner.pid): owner for owner in owners}
    return tuple(found[key] for key in sorted(found))


def _counts(document: dict[str, Any]) -> list[int]:
    tasks = document.get("tasks")
    return [max(0, count) for count in tasks if type(count) is int] if isinstance(tasks, list) else []


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and 0 <= value < 1e300 else 0.0


def _rows(document: dict[str, Any], what: str, count: int) -> list[dict[str, Any]]:
    """Return rows of a document; those of earlier versions, or not sound, are empty."""
    found = document.get(what)
    rows = [row if isinstance(row, dict) else {} for row in found] if isinstance(found, list) else []
    return (rows + [{}] * count)[:count]


def _milestones(document: dict[str, Any], stages: tuple[StageStanding, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the magnifications whose stages, and those before them, are complete, and the others."""
    found = document.get("milestones")
    rows = [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
    names = tuple(str(row.get("name")) for row in rows)
    for count, row in enumerate(rows):
        at = row.get("stage")
        if type(at) is not int or not 0 <= at < len(stages) or stages[at].done < stages[at].tasks:
            return names[:count], names[count:]
    return names, ()
