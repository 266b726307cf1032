"""Plans: what would be done, as arithmetic; nothing is written until one runs."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wkdask.errors import PlanRefusedError
from wkdask.plan.journal import Journal
from wkdask.plan.memory import default_limit, used_bytes
from wkdask.plan.receipt import Report, format_bytes
from wkdask.plan.stage import Batch, Milestone, Setup, Stage
from wkdask.storage import Location

MAX_BATCHES = 20_000
MAX_TASKS = 50_000_000
"""More would take hours to be laid out."""


@dataclass(frozen=True)
class Plan:
    """Stages of tasks over files that nobody else writes, and what to commit when they are done.

    A plan is a dask collection with one key: ``plan.compute()``, ``client.compute(plan)`` and ``plan.persist()`` run it on any
    scheduler, commit exactly once, and return a `Report`. ``plan.run()`` runs it here, with retries and progress.

    Parameters
    ----------
    name
        What the plan does, for people.
    journal
        Where its progress is kept.
    settings
        All that decides the result, as JSON; shown where a resumed run differs.
    identity
        A digest of the inputs.
    stages, milestones, setup
        What to do, see `wkdask.plan.stage`.
    workers
        How many threads the plan was laid out for.
    layout
        Choices that do not change the result but which tasks there are; a run that goes on must repeat them.
    command
        What to type to go on.
    notes
        What the user should know, such as missing slices.
    """

    name: str
    journal: Journal
    settings: Mapping[str, Any]
    identity: str
    stages: tuple[Stage, ...]
    milestones: tuple[Milestone, ...]
    setup: Setup
    workers: int = 1
    layout: Any = ()
    command: str = ""
    notes: tuple[str, ...] = ()
    fingerprint: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        text = json.dumps([self.name, self.settings, self.identity], sort_keys=True, default=str)
        object.__setattr__(self, "fingerprint", hashlib.sha256(text.encode()).hexdigest()[:32])

    @property
    def target(self) -> Location:
        """The dataset that the plan writes."""
        return self.journal.target

    @property
    def tasks(self) -> int:
        """Tasks of all stages."""
        return sum(stage.count for stage in self.stages)

    @property
    def bytes_needed(self) -> int:
        """Memory of the hungriest task."""
        return max((stage.operation.bytes_needed for stage in self.stages), default=0)

    @property
    def bytes_in(self) -> int:
        """Bytes of voxels that all stages read."""
        return sum(stage.operation.bytes_in for stage in self.stages)

    @property
    def bytes_out(self) -> int:
        """Bytes of voxels that all stages write, before compression."""
        return sum(stage.operation.bytes_out for stage in self.stages)

    @property
    def scratch_needed(self) -> int:
        """Bytes on disk, at most, beside the result: parts that wait to be joined, and what the workers are writing."""
        writing = max((stage.operation.scratch_needed for stage in self.stages), default=0)
        return self.workers * writing + sum(stage.operation.parts_bytes for stage in self.stages)

    def predicted_bytes(self, tasks: int | None = None, processes: int = 1) -> int:
        """Return the memory of so many tasks at once, with what this process has taken already.

        Further processes load the same libraries, so each is taken to need as much as this one has now.
        """
        return processes * used_bytes() + (tasks or self.workers) * self.bytes_needed

    def check_memory(self, limit: int | None = None, tasks: int | None = None, processes: int = 1) -> None:
        """Raise `PlanRefusedError` where the tasks do not fit into the memory that they may take."""
        if self.tasks > MAX_TASKS:
            raise PlanRefusedError(
                f"{self.name} has {self.tasks} tasks, at most {MAX_TASKS} can be run in one plan. Use larger shards."
            )
        limit, tasks = limit or default_limit(), tasks or self.workers
        predicted = self.predicted_bytes(tasks, processes)
        if predicted > limit:
            fewer = max(0, (limit - processes * used_bytes()) // max(1, self.bytes_needed))
            remedy = f"--jobs {fewer}" if fewer else f"--memory-limit {math.ceil(predicted / 1e6)}MB"
            raise PlanRefusedError(
                f"{tasks} tasks at once need {format_bytes(predicted)}, {format_bytes(self.bytes_needed)} each, "
                f"but the limit is {format_bytes(limit)}. Use {remedy}, or smaller chunks."
            )

    @property
    def batch_size(self) -> int:
        """Tasks that travel together, so that there are at most some 20,000 batches."""
        return max(1, math.ceil(self.tasks / MAX_BATCHES))

    def batches(self, done: Mapping[int, frozenset[int]] | None = None) -> Iterator[Batch]:
        """Yield the tasks that are still to be done, at most some 20,000 batches for the whole plan."""
        size = self.batch_size
        for index, stage in enumerate(self.stages):
            finished = (done or {}).get(index, frozenset())
            for start in range(0, stage.count, size):
                numbers: Sequence[int] = range(start, min(start + size, stage.count))
                if finished:
                    numbers = tuple(n for n in numbers if n not in finished)
                if numbers:
                    yield Batch(index, numbers)

    def document(self) -> dict[str, Any]:
        """Return the plan as its journal keeps it."""
        return {
            "fingerprint": self.fingerprint,
            "name": self.name,
            "command": self.command,
            "settings": dict(self.settings),
            "layout": self.layout,
            "tasks": [stage.count for stage in self.stages],
        }

    def describe(self) -> dict[str, Any]:
        """Return the plan as JSON: stages, tasks, bytes, memory."""
        return {
            "name": self.name,
            "target": str(self.target),
            "settings": dict(self.settings),
            "stages": [
                {
                    "name": stage.name,
                    "tasks": stage.count,
                    "bytes_in": stage.operation.bytes_in,
                    "bytes_out": stage.operation.bytes_out,
                    "bytes_needed": stage.operation.bytes_needed,
                    "scratch_needed": stage.operation.scratch_needed,
                    "what": stage.operation.describe(),
                }
                for stage in self.stages
            ],
            "milestones": [milestone.name for milestone in self.milestones],
            "tasks": self.tasks,
            "batches": min(self.tasks, MAX_BATCHES),
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "workers": self.workers,
            "bytes_needed_per_task": self.bytes_needed,
            "peak_bytes": self.predicted_bytes(),
            "scratch_bytes": self.scratch_needed,
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        lines = [self.name]
        for stage in self.stages:
            operation = stage.operation
            lines.append(
                f"  {stage.name}: {stage.count} tasks, {format_bytes(operation.bytes_in)} of voxels in, "
                f"{format_bytes(operation.bytes_out)} out, {format_bytes(operation.bytes_needed)} of memory each; "
                f"{operation.describe()}"
            )
        lines.append(f"  commits {', '.join(m.name for m in self.milestones)}")
        lines.append(
            f"  {self.tasks} tasks in {min(self.tasks, MAX_BATCHES)} batches on {self.workers} threads, "
            f"peak memory {format_bytes(self.predicted_bytes())}, scratch at most {format_bytes(self.scratch_needed)}"
        )
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])

    def __repr__(self) -> str:
        return f"<Plan: {self.name}, {self.tasks} tasks, {format_bytes(self.bytes_in)} of voxels>"

    def _repr_html_(self) -> str:
        from wkdask.plan.html import plan_html

        return plan_html(self)

    def run(self, **options: Any) -> Report:
        """Run the plan here; see `wkdask.plan.drive.run` for pools, limits and progress."""
        from wkdask.plan.drive import run

        return run(self, **options)

    def compute(self, **options: Any) -> Report:
        """Run the plan on dask's ambient scheduler; ``options`` go to `dask.compute`."""
        import dask

        (report,) = dask.compute(self, **options)
        return report  # type: ignore[no-any-return]

    def persist(self, **options: Any) -> Any:
        """Start the plan on dask's ambient scheduler and return a collection of its report."""
        import dask

        (started,) = dask.persist(self, **options)
        return started

    def visualize(self, *args: Any, **options: Any) -> Any:
        """Draw the graph of batches; see `dask.visualize`."""
        import dask

        return dask.visualize(self, *args, **options)

    def __dask_graph__(self) -> dict[Hashable, Any]:
        from wkdask.plan.graph import build_graph

        return build_graph(self)

    def __dask_keys__(self) -> list[str]:
        return [f"commit-{self.fingerprint}"]

    __dask_optimize__ = None  # the graph is what it should be

    def __dask_tokenize__(self) -> str:
        return self.fingerprint

    def __dask_postcompute__(self) -> tuple[Any, tuple[()]]:
        return _first, ()

    def __dask_postpersist__(self) -> tuple[Any, tuple[str]]:
        from wkdask.plan.graph import Started

        return Started.rebuild, (self.__dask_keys__()[0],)

    @staticmethod
    def __dask_scheduler__(*args: Any, **options: Any) -> Any:
        from dask.threaded import get

        return get(*args, **options)


def _first(results: list[Report]) -> Report:
    return results[0]
