"""A plan in words and as JSON, with what it is going to cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wkdask.plan.disk import disk_notes
from wkdask.plan.estimate import Estimate, Probe, StageEstimate, estimate
from wkdask.plan.journal import writer_name
from wkdask.plan.receipt import Report, format_bytes, format_seconds
from wkdask.plan.stage import Stage

if TYPE_CHECKING:
    from wkdask.plan.plan import Plan


def describe(plan: Plan, probe: Probe | None = None, processes: int = 1) -> dict[str, Any]:
    """Return a plan as JSON: stages, tasks, bytes, memory, and what it is going to cost on so many processes."""
    costs = estimate(plan, probe, processes=processes)
    return {
        "name": plan.name,
        "target": str(plan.target),
        "settings": dict(plan.settings),
        "stages": [_stage_json(stage, cost) for stage, cost in zip(plan.stages, costs.stages, strict=True)],
        "milestones": [milestone.name for milestone in plan.milestones],
        "tasks": plan.tasks,
        "batches": sum(cost.batches for cost in costs.stages),
        "bytes_in": plan.bytes_in,
        "bytes_out": plan.bytes_out,
        "file_bytes": costs.file_bytes,
        "files": costs.files,
        "requests": costs.requests,
        "seconds_estimated": round(costs.seconds, 2),
        "compression": probe and probe.ratio,
        "workers": plan.workers,
        "bytes_needed_per_task": plan.bytes_needed,
        "peak_bytes": plan.predicted_bytes(processes=processes),
        "scratch_bytes": plan.scratch_needed,
        "worker_bytes": costs.worker_bytes,
        "worker_scratch": costs.worker_scratch,
        "notes": [*notes_of(plan, probe)],
    }


def _stage_json(stage: Stage, cost: StageEstimate) -> dict[str, Any]:
    return {
        "name": stage.name,
        "tasks": stage.count,
        "batches": cost.batches,
        "bytes_in": stage.operation.bytes_in,
        "bytes_out": stage.operation.bytes_out,
        "file_bytes": cost.file_bytes,
        "files": cost.files,
        "requests": cost.requests,
        "bytes_needed": stage.operation.bytes_needed,
        "scratch_needed": stage.operation.scratch_needed,
        "worker_bytes": cost.worker_bytes,
        "worker_scratch": cost.worker_scratch,
        "seconds_estimated": round(cost.seconds, 2),
        "tasks_measured": cost.measured,
        "what": stage.operation.describe(),
    }


def explain(plan: Plan, probe: Probe | None = None, processes: int = 1) -> str:
    """Return a plan in words, for so many processes."""
    costs = estimate(plan, probe, processes=processes)
    lines = [plan.name]
    for stage, cost in zip(plan.stages, costs.stages, strict=True):
        operation = stage.operation
        lines.append(
            f"  {stage.name}: {stage.count} tasks in {cost.batches} batches, {format_bytes(operation.bytes_in)} of voxels in, "
            f"{format_bytes(operation.bytes_out)} out, {cost.files} files, {cost.requests} requests, "
            f"{format_bytes(operation.bytes_needed)} of memory and {format_bytes(operation.scratch_needed)} of scratch each "
            f"({format_bytes(cost.worker_bytes)} and {format_bytes(cost.worker_scratch)} a worker), "
            f"{_about(cost)}; {operation.describe()}"
        )
    lines += [f"  commits {', '.join(m.name for m in plan.milestones)}", *_sums(plan, costs, probe, processes)]
    return "\n".join([*lines, *(f"  note: {note}" for note in notes_of(plan, probe))])


def _about(cost: StageEstimate) -> str:
    if cost.measured:
        return f"{format_seconds(cost.seconds)} by {cost.measured} tasks that were measured"
    return f"about {format_seconds(cost.seconds)}"


def _sums(plan: Plan, costs: Estimate, probe: Probe | None, processes: int) -> list[str]:
    ratio = probe and probe.ratio
    written = (
        f"{format_bytes(costs.file_bytes)} on disk, {ratio:.2f} of the voxels' bytes"
        if ratio
        else (f"at most {format_bytes(costs.file_bytes)} on disk, before compression")
    )
    return [
        f"  {plan.tasks} tasks in {sum(cost.batches for cost in costs.stages)} batches on {plan.workers} threads, "
        f"peak memory {format_bytes(plan.predicted_bytes(processes=processes))}, "
        f"scratch at most {format_bytes(plan.scratch_needed)}",
        f"  {max(1, processes - 1)} workers, peak memory of each {format_bytes(costs.worker_bytes)}, "
        f"scratch that each is writing {format_bytes(costs.worker_scratch)}",
        f"  {'measured' if probe and probe.stages else 'roughly'} {format_seconds(costs.seconds)}, {costs.files} files, "
        f"{costs.requests} requests, {written}",
    ]


def notes_of(plan: Plan, probe: Probe | None) -> tuple[str, ...]:
    """Return what users should know of a plan."""
    return (*plan.notes, *(probe.notes if probe else ()), *disk_notes(plan, probe))


def _seen_bytes(report: Report) -> int:
    """Return what this process, and all others that did tasks, were seen to take, as if each at the same time."""
    seen = dict(report.workers)
    seen[writer_name()] = max(report.peak_bytes, seen.get(writer_name(), 0))
    return sum(seen.values())


def compared(report: Report) -> str:
    """Return what was predicted of a run against what it took, in words."""
    pairs = [
        ("seconds", format_seconds(report.predicted_seconds), format_seconds(report.seconds)),
        ("memory", format_bytes(report.predicted_bytes), format_bytes(_seen_bytes(report))),
        ("memory of a worker", format_bytes(report.predicted_worker_bytes), format_bytes(report.worker_bytes)),
        ("written", format_bytes(report.predicted_bytes_out), format_bytes(report.bytes_out)),
        ("files", report.predicted_files, report.files),
    ]
    words = [f"{name} {before} and {after}" for name, before, after in pairs]
    if report.requests:
        words.append(f"requests {report.predicted_requests} and {report.requests}, of which {report.retries} were repeated")
    return "predicted and actual: " + ", ".join(words)
