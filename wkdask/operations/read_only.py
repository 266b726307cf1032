"""Running tasks that only read: as a plan that leaves nothing in the dataset, and stops at the first damage."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from wkdask.errors import DamagedError, InterruptedRunError, PlanRefusedError
from wkdask.plan import FileRecord, Journal, Plan, Pool, Receipt, Report, Stage
from wkdask.plan.counting import Progress
from wkdask.storage import Location


@dataclass(frozen=True, slots=True)
class Seen(Receipt):
    """What became of a task that read: the damage that it met, if any."""

    damage: str = ""


class EnoughError(Exception):
    """Raised by who takes receipts when there is no need to read on."""


class Reading:
    """What all operations have in common that write nothing; see `wkdask.plan.Operation`."""

    __slots__ = ()

    bytes_out = scratch_needed = parts_bytes = 0

    def dependencies(self, number: int) -> Iterable[tuple[int, int]]:  # noqa: ARG002
        """Return nothing: each task stands for itself."""
        return ()

    def consumes(self, number: int) -> Iterable[str]:  # noqa: ARG002
        """Return nothing."""
        return ()

    def retire(self, number: int) -> None:
        """Do nothing."""

    def is_intact(self, record: FileRecord) -> bool:  # noqa: ARG002
        """Return False: what was read once does not count the next time."""
        return False


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


@dataclass(frozen=True)
class Run:
    """Where tasks run, what they may take, and who is told.

    Parameters
    ----------
    pool
        Where.
    memory_limit
        Bytes; None: 0.6 of what there is.
    progress
        See `wkdask.plan.drive.run`.
    """

    pool: Pool
    memory_limit: int | None = None
    progress: Progress | None = None


def read_through(
    name: str, places: Sequence[Location], stages: tuple[Stage, ...], take: Callable[[Receipt], None], run: Run
) -> None:
    """Run stages of tasks that only read, and hand their receipts over as they come.

    Parameters
    ----------
    name
        What is done, for people.
    places
        The datasets.
    stages
        Of operations that are `Reading`, whose receipts are `Seen`.
    take
        Gets each receipt; it may raise `EnoughError`.
    run
        Where, and with how much.

    Raises
    ------
    DamagedError
        At the first damage that is met.
    UnitsFailedError
        Where something could not be read.
    InterruptedRunError
        When the user stopped it.
    """
    if not sum(stage.count for stage in stages):
        return
    if run.pool.processes > 1 and any(place.url.startswith("memory://") for place in places):
        raise PlanRefusedError(f"{places[0]} is the memory of this process, which others can not read. Use threads.")

    def tell(plan: Plan, report: Report, receipt: Receipt | None) -> None:
        if isinstance(receipt, Seen):
            if receipt.damage:
                raise DamagedError(receipt.damage)
            take(receipt)
        if run.progress is not None:
            run.progress(plan, report, receipt)

    with tempfile.TemporaryDirectory(prefix="wkdask-") as folder:
        journal = _Unkept(Location(folder), "reading")
        plan = Plan(name, journal, {}, folder, stages, (), _NoTarget(), run.pool.slots)
        try:
            plan.run(pool=run.pool, memory_limit=run.memory_limit, progress=tell)
        except EnoughError:
            return
        except InterruptedRunError:
            raise InterruptedRunError("Stopped; not all was read. Run the same again from the beginning.") from None
