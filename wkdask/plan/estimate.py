"""What a plan is going to cost, stage by stage: from rough rates, or from a probe that has measured some tasks."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wkdask.plan.memory import PROCESS_BYTES, loaded_bytes
from wkdask.plan.stage import Stage

if TYPE_CHECKING:
    from wkdask.plan.plan import Plan


JOURNALLED = 2
"""Requests of a batch's lines in a journal on a store: an object is sent, and read at the end."""
RUN = 40
"""Requests of a run on a store, beside its tasks': its lease, its plan, documents, and cleaning up."""
LISTED = 10
"""Requests of a milestone on a store: its array's documents, the dataset's JSON."""
ROUND_TRIP = 0.03
"""Seconds of a request to a store."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What all tasks of an operation cost, as its optional property ``cost`` says before any has run.

    Parameters
    ----------
    files
        Files that they write, those that others use up included.
    requests
        Files that they open, to read or to write; where any of them are in a store, the requests to it.
    seconds
        Of one processor, roughly.
    waiting
        Seconds for which one task after the other would wait for answers of stores.
    least_bytes, least_scratch
        Bytes on disk that they take for certain, to stay in the target and at once on scratch: of voxels that nothing
        compresses.
    """

    files: int = 0
    requests: int = 0
    seconds: float = 0.0
    waiting: float = 0.0
    least_bytes: int = 0
    least_scratch: int = 0


@dataclass(frozen=True, slots=True)
class Measured:
    """What a probe found of a stage: how many tasks it did, seconds that all would take, and file bytes for a voxel's byte."""

    tasks: int
    seconds: float
    ratio: float | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """What `Plan.probe` measured, by stage, and why other stages were not measured."""

    stages: Mapping[int, Measured] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def ratio(self) -> float | None:
        """File bytes for each byte of voxels, over all stages that were measured; None where none wrote voxels."""
        found = [measured.ratio for measured in self.stages.values() if measured.ratio is not None]
        return sum(found) / len(found) if found else None


@dataclass(frozen=True, slots=True)
class StageEstimate:
    """What one stage is going to cost; ``seconds`` are wall-clock time on the given workers.

    ``worker_bytes`` is the memory of a process that does as many of its tasks at once as it has threads, with what the process
    has taken before; ``worker_scratch`` are bytes on disk that those tasks are writing.
    """

    batches: int
    files: int
    requests: int
    seconds: float
    file_bytes: int
    measured: int = 0
    worker_bytes: int = 0
    worker_scratch: int = 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a plan is going to cost: each stage as if it had all workers for itself, one after the other."""

    stages: tuple[StageEstimate, ...]
    around: int = 0
    """Requests to a store beside those of stages."""

    @property
    def seconds(self) -> float:
        """Wall-clock time of all stages, and around them."""
        return self.around * ROUND_TRIP + sum(stage.seconds for stage in self.stages)

    @property
    def file_bytes(self) -> int:
        """Bytes on disk that stay; where no probe has measured how voxels are compressed, what they take uncompressed."""
        return sum(stage.file_bytes for stage in self.stages)

    @property
    def files(self) -> int:
        """Files of all stages."""
        return sum(stage.files for stage in self.stages)

    @property
    def requests(self) -> int:
        """Requests of all stages, and around them."""
        return self.around + sum(stage.requests for stage in self.stages)

    @property
    def worker_bytes(self) -> int:
        """Memory of one worker, at most: a process, whose threads may all be busy with the hungriest stage."""
        return max((stage.worker_bytes for stage in self.stages), default=0)

    @property
    def worker_scratch(self) -> int:
        """Bytes on disk that one worker is writing before it publishes them, at most."""
        return max((stage.worker_scratch for stage in self.stages), default=0)


def cost_of(stage: Stage) -> Cost:
    """Return what a stage's operation says of its cost: nothing, where it says nothing."""
    found: Cost = getattr(stage.operation, "cost", None) or Cost()
    return found


def estimate(plan: Plan, probe: Probe | None = None, workers: int | None = None, processes: int = 1) -> Estimate:
    """Return what a plan is going to cost.

    Parameters
    ----------
    plan
        Of which nothing is run, and whose tasks are not listed: it takes as long for a thousand tasks as for a million.
    probe
        What was measured. Stages that it could not measure are taken to be as much slower or faster than the rough rates as
        those that it did.
    workers
        Tasks at once; default: what the plan was laid out for.
    processes
        This one, and those that share the tasks evenly where it is not the only one.
    """
    probe, workers = probe or Probe(), workers or plan.workers
    costs = [cost_of(stage) for stage in plan.stages]
    rough = sum(costs[index].seconds for index in probe.stages)
    measured = sum(found.seconds for found in probe.stages.values())
    scale = measured / rough if rough and measured else 1.0
    threads = math.ceil(workers / max(1, processes - 1))
    computing = min(workers, os.cpu_count() or 1) if processes == 1 else workers  # more threads than cores only wait at once
    before = loaded_bytes() if processes == 1 else PROCESS_BYTES
    asking = any(cost.waiting for cost in costs)
    stages = []
    for index, (stage, cost) in enumerate(zip(plan.stages, costs, strict=True)):
        found = probe.stages.get(index)
        seconds = found.seconds if found else scale * cost.seconds
        own = found.ratio if found else None
        ratio = next((r for r in (own, probe.ratio) if r is not None), 1.0)
        stages.append(
            StageEstimate(
                batches=math.ceil(stage.count / plan.batch_size),
                files=cost.files,
                requests=(0 if plan.target.is_local else JOURNALLED * math.ceil(stage.count / plan.batch_size))
                + (cost.requests if cost.waiting or not asking else 0),
                seconds=seconds / max(1, min(computing, stage.count)) + cost.waiting / max(1, min(workers, stage.count)),
                file_bytes=round(stage.operation.bytes_out * ratio),
                measured=found.tasks if found else 0,
                worker_bytes=before + min(threads, stage.count) * stage.operation.bytes_needed,
                worker_scratch=min(threads, stage.count) * stage.operation.scratch_needed,
            )
        )
    return Estimate(tuple(stages), 0 if plan.target.is_local else RUN + LISTED * len(plan.milestones))
