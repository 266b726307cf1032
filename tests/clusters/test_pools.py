"""What pools know of their machines, and what runs make of it."""

from __future__ import annotations

import pytest

from tests.clusters.test_slurm import files, plan_of
from wkdask.errors import PlanRefusedError
from wkdask.plan import ThreadPool, memory


class Elsewhere(ThreadPool):
    """Threads that say how much memory there is, as if they were on other machines."""

    def __init__(self, memory_limit: int | None) -> None:
        super().__init__(2)
        self.memory_limit = memory_limit


def test_the_memory_of_a_pool_is_the_limit(stack, tmp_path, monkeypatch):
    plan = plan_of(stack[0], tmp_path / "ds")
    needed = plan.predicted_bytes(2)
    with pytest.raises(PlanRefusedError, match=r"but the limit is 1\.0 MB"):
        plan.run(pool=Elsewhere(10**6))
    with pytest.raises(PlanRefusedError, match=r"but the limit is 2\.0 MB"):
        plan.run(pool=Elsewhere(100 * needed), memory_limit=2 * 10**6)
    assert not files(tmp_path / "ds")
    monkeypatch.setattr(memory, "available_bytes", lambda: 10**6)  # of this machine, which is not asked
    assert plan.run(pool=Elsewhere(100 * needed)).done == plan.tasks


def test_a_limit_that_was_given_counts_what_the_run_takes(stack, tmp_path, monkeypatch):
    """What a notebook holds is not the run's, and no worker loads it; of the machine's memory it is taken."""
    plan = plan_of(stack[0], tmp_path / "ds")
    for module in ("plan", "memory"):
        monkeypatch.setattr(f"wkdask.plan.{module}.used_bytes", lambda: 50 * 10**15)
    least = 3 * memory.PROCESS_BYTES + 2 * plan.bytes_needed
    plan.check_memory(least, tasks=2, processes=3)
    with pytest.raises(PlanRefusedError, match=r"Use --jobs 1,"):
        plan.check_memory(least - 1, tasks=2, processes=3)
    with pytest.raises(PlanRefusedError, match="at once need"):
        plan.check_memory(tasks=2)
