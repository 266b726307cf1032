"""Plans: what would be done, as arithmetic; nothing is written until one runs."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wkdask.errors import PlanRefusedError
from wkdask.plan.estimate import Probe
from wkdask.plan.journal import Journal
from wkdask.plan.memory import PROCESS_BYTES, default_limit, loaded_bytes, used_bytes
from wkdask.plan.receipt import Receipt, Report, format_bytes
from wkdask.plan.stage import Batch, Milestone, Setup, Stage
from wkdask.storage import Location

LOG = logging.getLogger("wkdask")

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
    asked
        Whether the user chose that number; else writing to a store takes more threads, which wait.
    layout
        Choices that do not change the result but which tasks there are; a run that goes on must repeat them.
    command
        What to type to go on.
    notes
        What the user should know, such as missing slices.
    most_batches
        Batches that its tasks travel in, at most (but for one more of each stage); 0: some 20,000.
    """

    name: str
    journal: Journal
    settings: Mapping[str, Any]
    identity: str
    stages: tuple[Stage, ...]
    milestones: tuple[Milestone, ...]
    setup: Setup
    workers: int = 1
    asked: bool = False
    layout: Any = ()
    command: str = ""
    notes: tuple[str, ...] = ()
    most_batches: int = 0
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
        """Return the memory of so many tasks at once, with what this process and others take besides, all libraries loaded."""
        return loaded_bytes() + (processes - 1) * PROCESS_BYTES + (tasks or self.workers) * self.bytes_needed

    def check_memory(self, limit: int | None = None, tasks: int | None = None, processes: int = 1) -> None:
        """Raise `PlanRefusedError` where the tasks do not fit into the memory that they may take.

        A limit that was given is one of the run: what this process holds for other reasons, such as arrays of a notebook, does
        not count. The default is a share of the machine, in which it does.
        """
        if self.tasks > MAX_TASKS:
            raise PlanRefusedError(
                f"{self.name} has {self.tasks} tasks, at most {MAX_TASKS} can be run in one plan. Use larger shards."
            )
        tasks = tasks or self.workers
        predicted, limit = self._predicted(limit, tasks, processes)
        if predicted > limit:
            others = predicted - tasks * self.bytes_needed
            fewer = max(0, (limit - others) // max(1, self.bytes_needed))
            remedy = f"--jobs {fewer}" if fewer else f"--memory-limit {math.ceil(predicted / 1e6)}MB"
            raise PlanRefusedError(
                f"{tasks} tasks at once need {format_bytes(predicted)}, {format_bytes(self.bytes_needed)} each, "
                f"but the limit is {format_bytes(limit)}. Use {remedy}, or smaller chunks."
            )

    def fits(self, limit: int | None, tasks: int) -> bool:
        """Whether so many tasks at once fit into the memory that they may take."""
        predicted, limit = self._predicted(limit, tasks, 1)
        return predicted <= limit

    def _predicted(self, limit: int | None, tasks: int, processes: int) -> tuple[int, int]:
        """Return the bytes that count, and the limit that they count for."""
        held = max(0, used_bytes() - PROCESS_BYTES) if limit else 0
        return self.predicted_bytes(tasks, processes) - held, limit or default_limit()

    @property
    def batch_size(self) -> int:
        """Tasks that travel together, so that there are at most some 20,000 batches, or `most_batches`."""
        return max(1, math.ceil(self.tasks / (self.most_batches or MAX_BATCHES)))

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
            "folder": os.getcwd() if self.command else "",
            "settings": dict(self.settings),
            "layout": self.layout,
            "tasks": [stage.count for stage in self.stages],
            "stages": [{"name": stage.name, "bytes_in": stage.operation.bytes_in} for stage in self.stages],
            "milestones": [{"name": milestone.name, "stage": milestone.stage} for milestone in self.milestones],
        }

    def describe(self, probe: Probe | None = None, processes: int = 1) -> dict[str, Any]:
        """Return the plan as JSON: stages, tasks, bytes, memory, files, and seconds, with what a probe has measured.

        Parameters
        ----------
        probe
            What `probe` returned.
        processes
            This one, and those that share the tasks where it is not the only one, as pools count theirs.
        """
        from wkdask.plan.explain import describe

        return describe(self, probe, processes)

    def __str__(self) -> str:
        from wkdask.plan.explain import explain

        return explain(self)

    def probe(self, tasks: int = 4) -> Probe:
        """Do some tasks of each stage that reads what is there, to a folder that is discarded, and measure them.

        Nothing is written to the target. What is written meanwhile lies in the folder for scratch, else where the system has
        its temporary files, and takes as much as one task writes.

        Parameters
        ----------
        tasks
            Of each stage, spread over it; the first is done once more before, as it loads libraries.

        Returns
        -------
        Probe
            For `describe` and `run`; seconds and compression, and why other stages could not be measured.
        """
        from wkdask.plan.probe import run_probe

        return run_probe(self, tasks)

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


def log_unit(plan: Plan, receipt: Receipt) -> None:
    """Write a line about a task to the log, at debug level."""
    if LOG.isEnabledFor(logging.DEBUG):
        name = plan.stages[receipt.stage].name
        words = name, receipt.number, receipt.state, receipt.seconds, receipt.bytes_in, receipt.bytes_out
        LOG.debug("%s %d: %s in %.3f s, %d bytes of voxels read, %d bytes written", *words)


def _first(results: list[Report]) -> Report:
    return results[0]
