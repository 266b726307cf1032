"""Workers of other processes, and of Slurm's jobs, write to a store with the credentials that the client was given."""

from __future__ import annotations

import pickle

import pytest

from tests.clusters.test_slurm import RESOURCES, plan_of
from tests.services.stores import SECRET, s3, s3_server  # noqa: F401 - fixtures
from wkdask.clusters import open_pool
from wkdask.storage import storage_options


@pytest.mark.parametrize("strategy", ["local", "slurm"])
def test_workers_write_to_a_store(strategy, s3, stack, tmp_path, monkeypatch, request, caplog):  # noqa: F811
    slurm = request.getfixturevalue("slurm") if strategy == "slurm" else None
    for name in s3.environment:
        monkeypatch.delenv(name, raising=False)
    with storage_options(s3.options):
        plan = plan_of(stack[0], s3.place / "ds")
    texts = [str(pickle.dumps(plan)), repr(plan), str(plan.describe())]
    workers, pool = set(), open_pool(strategy, 2, None, RESOURCES if slurm else None)

    def look(plan, report, receipt):
        workers.update([receipt.worker] if receipt else [])
        if receipt and report.done == 5:
            texts.extend(str((s3.place / key).read_if_there()) for key in s3.keys("ds/.wkdask"))  # parts go meanwhile
            texts.append(str(pool.launcher.client.run_on_scheduler(held)))

    with caplog.at_level("DEBUG", "wkdask"):
        report = plan.run(pool=pool, progress=look)
    assert (report.failed, report.done) == (0, plan.tasks) and workers
    plan_of(stack[0], tmp_path / "ds").run(pool=open_pool("threads", 2))
    found = {key for key in s3.keys("ds/") if ".wkdask" not in key}
    here = (tmp_path / "ds").rglob("*")
    wanted = {f"ds/{p.relative_to(tmp_path / 'ds')}": p for p in here if p.is_file() and ".wkdask" not in p.parts}
    assert found == wanted.keys() and not s3.uploads()
    assert all((s3.place / key).read_bytes() == wanted[key].read_bytes() for key in found)
    texts += [caplog.text, *(path.read_text() for path in slurm.logs.rglob("*") if path.is_file())] if slurm else [caplog.text]
    assert len(texts) > 6 and not [text for text in texts if SECRET in text]


def held(dask_scheduler) -> list[str]:
    """Return all that a scheduler knows of its tasks."""
    return [
        f"{key}{task.run_spec!r}{task.annotations}" + str(pickle.dumps(task.run_spec))
        for key, task in dask_scheduler.tasks.items()
    ]
