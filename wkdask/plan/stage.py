"""The parts of a plan: operations, stages, batches, milestones."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from wkdask.errors import InterruptedRunError
from wkdask.plan.receipt import FileRecord, Receipt

stopping = threading.Event()
"""Set when the user wants all runs in this process to stop; tasks look at it every few megabytes."""


class Mark(Protocol):
    """What says that one run is over: a `threading.Event`, or what other processes see, too."""

    def is_set(self) -> bool:
        """Whether it is."""
        ...


_over: ContextVar[Mark | None] = ContextVar("over", default=None)


@contextmanager
def until(over: Mark) -> Iterator[None]:
    """Let what runs in the block stop, too, when a mark is set, which is one run's; others in this process go on."""
    token = _over.set(over)
    try:
        yield
    finally:
        _over.reset(token)


def stop_if_asked() -> None:
    """Raise `InterruptedRunError` when the user wants the run to stop."""
    over = _over.get()
    if stopping.is_set() or (over is not None and over.is_set()):
        raise InterruptedRunError("Stopped. Run the same again to go on.")


class Operation(Protocol):
    """What the tasks of one stage do: a frozen value that knows nothing of schedulers."""

    @property
    def count(self) -> int:
        """How many tasks there are; their numbers begin at 0."""
        ...

    @property
    def bytes_needed(self) -> int:
        """Memory that one running task takes, at most."""
        ...

    @property
    def bytes_in(self) -> int:
        """Bytes of voxels that all tasks read."""
        ...

    @property
    def bytes_out(self) -> int:
        """Bytes of voxels that all tasks write, before compression."""
        ...

    @property
    def scratch_needed(self) -> int:
        """Bytes on disk, at most, that one running task writes before they are published."""
        ...

    @property
    def parts_bytes(self) -> int:
        """Bytes on disk, at most, of parts that all tasks leave for others to join."""
        ...

    def run(self, stage: int, number: int) -> Receipt:
        """Do one task."""
        ...

    def dependencies(self, number: int) -> Iterable[tuple[int, int]]:
        """Return (stage, number) of the tasks whose files this one reads."""
        ...

    def consumes(self, number: int) -> Iterable[str]:
        """Return the paths, below the dataset, of the files that this task makes superfluous."""
        ...

    def retire(self, number: int) -> None:
        """Delete those files; called when the task's receipt is in the journal."""
        ...

    def is_intact(self, record: FileRecord) -> bool:
        """Whether a file that a task published is still what the receipt says."""
        ...

    def describe(self) -> str:
        """Return what the tasks do, for ``print(plan)``."""
        ...


@dataclass(frozen=True, slots=True)
class Stage:
    """One operation of a plan; ``name`` is what progress, dashboards and logs call its tasks."""

    name: str
    operation: Operation

    @property
    def count(self) -> int:
        """Number of tasks."""
        return self.operation.count


@dataclass(frozen=True, slots=True)
class Batch:
    """Tasks of one stage that travel together."""

    stage: int
    numbers: Sequence[int]


class Milestone(Protocol):
    """Something that is committed when all tasks of a stage, and the milestones before it, are done."""

    @property
    def name(self) -> str:
        """What it makes visible, such as ``color/2-2-1``."""
        ...

    @property
    def stage(self) -> int:
        """The stage that must be complete."""
        ...

    def commit(self, low: float | None, high: float | None) -> None:
        """Make it visible; ``low`` and ``high`` are the extremes of the voxels."""
        ...

    def check(self) -> None:
        """Raise `InputChangedError` where what it is made of has changed since the plan was made."""
        ...


class Setup(Protocol):
    """What must be there before the first task."""

    @property
    def restart_by(self) -> str:
        """How users give up an unfinished run of the same kind: flag and parameter."""
        ...

    def check(self) -> None:
        """Raise where the target is not as the plan needs it; write nothing."""
        ...

    def clear(self) -> None:
        """Delete what a run that this one supersedes has left unlisted."""
        ...

    def create(self) -> None:
        """Make what is missing; a second call changes nothing."""
        ...

    def sweep(self, keep: frozenset[str]) -> None:
        """Delete files of an interrupted run, below the dataset, that are not in ``keep``."""
        ...

    def finish(self, journal: Iterable[Receipt]) -> None:
        """Condense the receipts of a complete run into what stays with the dataset."""
        ...
