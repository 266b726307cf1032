"""Whether a plan fits on the disk: refused where it certainly does not, a note where it may not."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from wkdask.errors import PlanRefusedError
from wkdask.plan.estimate import Probe, cost_of, estimate
from wkdask.plan.receipt import format_bytes
from wkdask.storage import Location

if TYPE_CHECKING:
    from wkdask.plan.plan import Plan


def free_bytes(place: Location) -> int | None:
    """Return what is free where a file or folder is or would be; None where that is not known, as of object stores."""
    if not place.is_local:
        return None
    path = place.local_path.absolute()
    for folder in (path, *path.parents):
        try:
            return shutil.disk_usage(folder).free
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return None


def check_disk(plan: Plan) -> None:
    """Raise `PlanRefusedError` where what a plan writes takes more than is free, however well all else is compressed.

    A run that is under way has taken some of the space already, so nothing is certain then.
    """
    free, aside = free_bytes(plan.target), free_bytes(plan.journal.scratch)
    if (free is None and aside is None) or plan.journal.document() is not None:
        return
    costs = [cost_of(stage) for stage in plan.stages]
    target, scratch = sum(cost.least_bytes for cost in costs), max((cost.least_scratch for cost in costs), default=0)
    if free is not None and target > free:
        raise PlanRefusedError(
            f"{plan.name} writes {format_bytes(target)} of uncompressed voxels to {plan.target}, where {format_bytes(free)} "
            "are free. Let them be compressed (--compress, in Python compress=True), or make room for "
            f"{format_bytes(target - free)}."
        )
    if aside is not None and scratch > aside:
        raise PlanRefusedError(
            f"{plan.name} needs {format_bytes(scratch)} for what one task writes to {plan.journal.scratch}, where "
            f"{format_bytes(aside)} are free. Give a folder on a larger disk (--scratch, in Python scratch=), or make room for "
            f"{format_bytes(scratch - aside)}."
        )


def disk_notes(plan: Plan, probe: Probe | None = None) -> tuple[str, ...]:
    """Return what users should know where a plan may take more than is free, if compression helps less than is hoped."""
    free, wanted = free_bytes(plan.target), estimate(plan, probe).file_bytes
    if free is None or wanted <= free:
        return ()
    known = "as a probe of some tasks tells" if probe and probe.ratio is not None else "if nothing is gained by compression"
    return (f"about {format_bytes(wanted)} are written, {known}, but only {format_bytes(free)} are free at {plan.target}",)
