"""Jobs of a real Slurm: the same voxels as on threads, whatever happens to workers; clear words where it can not be."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import dask
import distributed
import pytest

import wkdask as wk
from tests.clusters.conftest import PATIENCE, encrypted, stopped_by, wait_until
from wkdask.clusters import open_pool
from wkdask.errors import InputError, PlanError
from wkdask.images import find_images
from wkdask.operations import Into, Running, Storage, plan_convert
from wkdask.plan import Journal
from wkdask.storage import Location

RESOURCES = "mem=700M,time=00:30:00"


def plan_of(folder: Path, target: Path):
    options = {"into": Into("em"), "storage": Storage((16, 16, 16), (32, 32, 32)), "running": Running(2)}
    return plan_convert(find_images(folder), target, wk.VoxelSize((4, 4, 35)), **options)


def files(target: Path) -> dict[str, bytes]:
    found = (path for path in target.rglob("*") if path.is_file() and ".wkdask" not in path.parts)
    return {str(path.relative_to(target)): path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def by_threads(stack, tmp_path_factory):
    target = tmp_path_factory.mktemp("threads") / "ds"
    plan_of(stack[0], target).run(pool=open_pool("threads", 2))
    return files(target)


def run_with(act, stack, target, strategy="slurm", resources=RESOURCES):
    """Run on Slurm, and act once, when some tasks are done; return the report."""
    plan = plan_of(stack[0], target)
    acted = []

    def tell(plan, report, receipt):
        if report.done >= 5 and not acted:
            acted.append(act())

    pool = open_pool(strategy, 2, None, resources)
    report = plan.run(pool=pool, progress=tell)
    assert acted
    assert (report.failed, report.done) == (0, plan.tasks)
    return report


def cancel_a_job(slurm):
    slurm.call("scancel", slurm.jobs("RUNNING")[0])


def kill_a_worker(slurm):
    slurm.workers()[0].kill()


def set_a_node_down(slurm):
    node = slurm.call("squeue", "--noheader", "--states=RUNNING", "--format=%N").split()[0]
    slurm.call("scontrol", "update", f"nodename={node}", "state=down", "reason=test")


@pytest.mark.parametrize("fault", [cancel_a_job, kill_a_worker, set_a_node_down])
def test_workers_that_are_lost(fault, slurm, stack, by_threads, tmp_path):
    run_with(lambda: fault(slurm), stack, tmp_path / "ds")
    assert files(tmp_path / "ds") == by_threads


def test_several_workers_in_a_job(slurm, stack, by_threads, tmp_path):
    jobs = []
    run_with(lambda: jobs.append((slurm.jobs(), len(slurm.workers()))), stack, tmp_path / "ds", "slurm+batching")
    assert (len(jobs[0][0]), files(tmp_path / "ds") == by_threads) == (1, True)


def test_lost_jobs_are_replaced(slurm, caplog):
    """Also those that Slurm kills for their memory, of which nobody is told."""
    with wk.cluster("slurm", jobs=1, job_resources="mem=500M,time=00:30:00") as client:
        client.wait_for_workers(1, timeout=PATIENCE)
        first = slurm.jobs()
        done = client.submit(too_much_once, str(slurm.logs / "once")).result(timeout=PATIENCE)
    assert (done, len(first)) == ("done", 1)
    assert any(f"job {first[0]} (" in record.message and "is over" in record.message for record in caplog.records)


def too_much_once(mark: str) -> str:
    """Take more memory than the job has, in a process that dask does not watch, until we are killed; the next time do not."""
    if not Path(mark).exists():
        Path(mark).touch()
        words = "import time; taken = bytearray(b'1') * (700 << 20); time.sleep(600)"
        subprocess.run([sys.executable, "-c", words], check=True)
    return "done"


@pytest.mark.soak
def test_the_end_of_the_walltime(slurm):
    """Workers end themselves before, and others take their place."""
    seen = set()
    with wk.cluster("slurm", jobs=1, job_resources="mem=500M,time=00:01:00") as client:

        def two_jobs() -> bool:
            seen.add(client.submit(os.getenv, "SLURM_JOB_ID", pure=False).result(timeout=PATIENCE))
            return len(seen) == 2

        wait_until(two_jobs)
    assert "TIMEOUT" not in slurm.call("squeue", "--noheader", "--states=all", "--format=%T")


def convert(stack, target, resources=RESOURCES):
    words = ["convert", stack[0], target, "--voxel-size", "4,4,35", "--layer-name", "em", "--chunk-shape", "16"]
    words += ["--shard-shape", "32", "--progress", "none", "--distribution-strategy", "slurm", "--job-resources", resources]
    return words


def test_the_client_is_killed(slurm, stack, by_threads, tmp_path, cli):
    """With it the scheduler is gone; workers end by themselves, and the run goes on elsewhere."""
    target = tmp_path / "ds"
    ended = stopped_by(signal.SIGKILL, *convert(stack, target))
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    slurm.wait_until_empty()
    done = len({(receipt.stage, receipt.number) for receipt in Journal(Location(str(target)), "em").read()})
    again = cli("resume", target, "--distribution-strategy", "threads", "--json")
    assert again.code == 0, again.err
    assert json.loads(again.out)["kept"] == done
    mine = {name: data for name, data in files(target).items() if "/c/" in name}
    assert mine == {name: data for name, data in by_threads.items() if "/c/" in name}


def test_ctrl_c_leaves_no_job(slurm, stack, tmp_path):
    ended = stopped_by(signal.SIGINT, *convert(stack, tmp_path / "ds"))
    assert (ended.returncode, "Traceback" in ended.stderr) == (130, False), ended.stderr
    assert set(slurm.jobs()) == set(slurm.jobs("COMPLETING"))


def test_ctrl_c_while_jobs_wait(slurm, stack, tmp_path):
    words = [sys.executable, "-m", "wkdask", *map(str, convert(stack, tmp_path / "ds", f"{RESOURCES},begin=now+1hour"))]
    hear = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}  # where these tests run in the background
    child = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, **hear)
    wait_until(slurm.jobs, child)
    child.send_signal(signal.SIGINT)
    said = child.communicate(timeout=PATIENCE)[1]
    assert (child.returncode, "Traceback" in said) == (130, False), said
    assert set(slurm.jobs()) == set(slurm.jobs("COMPLETING"))


MOMENTS = {
    "a job is there whose number we have not heard": ("wkdask.clusters.slurm_commands", "submit"),
    "the cluster is there, and nobody has it yet": ("wkdask.clusters.slurm.Slurm", "start"),
    "the client is told of whom to hear": ("distributed.Client", "subscribe_topic"),
}
"""Of a Ctrl-C: at the end of a function."""


@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_between_a_start_and_the_block_that_ends_it(moment, slurm, stack, tmp_path):
    owner, name = MOMENTS[moment]
    script = (
        "import os, pkgutil, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"owner = pkgutil.resolve_name({owner!r})\n"
        f"real = owner.{name}\n"
        f"owner.{name} = lambda *given: (real(*given), os.kill(os.getpid(), signal.SIGINT))[0]\n"
        "from wkdask.cli import main; main()"
    )
    words = [sys.executable, "-c", script, *map(str, convert(stack, tmp_path / "ds", f"{RESOURCES},begin=now+1hour"))]
    ended = subprocess.run(words, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (ended.returncode, "Traceback" in ended.stderr) == (130, False), ended.stderr
    assert set(slurm.jobs()) == set(slurm.jobs("COMPLETING"))


def test_ctrl_c_at_the_end_of_a_start_leaves_no_job_of_scripts(slurm):
    """Where no command line ends the process."""
    script = (
        "import os, signal, wkdask as wk\n"
        "from wkdask.clusters.slurm import Slurm\n"
        "real = Slurm.start\n"
        "Slurm.start = lambda self: (real(self), os.kill(os.getpid(), signal.SIGINT))\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"with wk.cluster('slurm', jobs=2, job_resources='{RESOURCES},begin=now+1hour'): pass"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert "KeyboardInterrupt" in ended.stderr, ended.stderr
    assert set(slurm.jobs()) == set(slurm.jobs("COMPLETING"))


def test_jobs_that_wait_say_why(slurm, caplog):
    with wk.cluster("slurm", jobs=2, job_resources=f"{RESOURCES},begin=now+1hour", poll_interval="0.1s"):
        wait_until(lambda: "BeginTime" in caplog.text)
    assert "2 of 2 jobs wait in the queue of Slurm: BeginTime" in caplog.text
    assert caplog.text.count("jobs wait in the queue") == 1


def test_jobs_come_and_go_with_the_work(slurm):
    resources = "mem=500M,time=00:30:00"
    with wk.cluster("slurm", jobs=2, job_resources=resources, adaptive=True) as client:
        for _ in range(2):
            client.wait_for_workers(1, timeout=PATIENCE)
            go = distributed.Event()
            waiting = [client.submit(go.wait, pure=False) for _ in range(4)]
            wait_until(lambda: len(client.scheduler_info(n_workers=-1)["workers"]) == 2)
            go.set()
            assert client.gather(waiting) == [True] * 4
            wait_until(lambda: len(slurm.jobs("PENDING", "RUNNING")) == 1)
            go.clear()


def test_nothing_is_done_twice(slurm, stack, by_threads, tmp_path):
    """Each task has one line in the journal, which workers write."""
    target = tmp_path / "ds"
    plan = plan_of(stack[0], target)
    lines = []

    def tell(plan, report, receipt):
        if report.done == plan.tasks:
            lines.extend((receipt.stage, receipt.number) for receipt in Journal(Location(str(target)), "em").read())

    plan.run(pool=open_pool("slurm", 2, None, RESOURCES), progress=tell)
    assert sorted(lines) == [(stage, number) for stage in range(len(plan.stages)) for number in range(plan.stages[stage].count)]


def test_options_of_sbatch_are_passed_on(slurm):
    number = slurm.call("sbatch", "--parsable", "--begin=now+1hour", "--output=/dev/null", "--wrap=true").strip()
    try:
        with wk.cluster("slurm", jobs=1, job_resources={"mem": "100M", "dependency": f"afterok:{number}", "comment": "hello"}):
            shown = slurm.call("scontrol", "show", "job", slurm.jobs()[-1])
    finally:
        slurm.call("scancel", number)
    assert f"Dependency=afterok:{number}" in shown
    assert "Comment=hello" in shown
    assert "MinMemoryNode=100M" in shown or "mem=100M" in shown


REFUSED = {
    "mem=900G": "Memory specification can not be satisfied",
    "mem=700M,partition=nowhere": "invalid partition specified: nowhere",
    "mem=700M,no-such-option=1": "unrecognized option",
}


@pytest.mark.parametrize("resources", REFUSED)
def test_what_slurm_refuses_in_its_words(resources, slurm, stack, tmp_path):
    pool = open_pool("slurm", 2, None, resources)
    plan = plan_of(stack[0], tmp_path / "ds")
    with pytest.raises(InputError, match=REFUSED[resources]):
        plan.run(pool=pool)
    assert not list((tmp_path / "ds").rglob("zarr.json"))


def test_jobs_that_can_never_run(slurm, stack, tmp_path):
    pool = open_pool("slurm", 1, None, "mem=700M,time=20:00:00")
    with pytest.raises(PlanError, match=r"Slurm runs none of our jobs: job \d+ \(PENDING, Partition"):
        plan_of(stack[0], tmp_path / "ds").run(pool=pool)


def test_jobs_that_end_at_once(slurm, stack, tmp_path):
    import dask

    with dask.config.set({"jobqueue.slurm.python": "/no/such/python"}):
        pool = open_pool("slurm", 1, None, RESOURCES)
        with pytest.raises(PlanError, match=r"none of our jobs: job \d+ .*No such file or directory") as caught:
            plan_of(stack[0], tmp_path / "ds").run(pool=pool)
    ends = re.findall(r"job \d+ \((?:FAILED|COMPLETING), NonZeroExitCode", caught.value.args[0])
    assert len(ends) == 3


def test_results_that_will_never_come(slurm):
    with pytest.raises(PlanError, match="Slurm runs none of our jobs"):
        with wk.cluster("slurm", jobs=1, job_resources="mem=700M,time=20:00:00") as client:
            client.submit(sum, [1]).result(timeout=PATIENCE)


def test_logs_that_can_not_be_written(slurm):
    with pytest.raises(InputError, match="Jobs can not write their logs to /proc/none: "):
        with wk.cluster("slurm", jobs=1, job_resources=RESOURCES, log_directory="/proc/none"):
            pass


def test_no_slurm(slurm, monkeypatch, tmp_path):
    with monkeypatch.context() as here:
        here.setenv("PATH", str(tmp_path))
        with pytest.raises(InputError, match="There is no Slurm here: the program sbatch was not found"):
            with wk.cluster("slurm", jobs=1, job_resources=RESOURCES):
                pass


def test_doctor(slurm, cli, tmp_path):
    found = cli(
        "cluster", "doctor", "--distribution-strategy", "slurm", "--job-resources", RESOURCES, "--folder", tmp_path, "--json"
    )
    assert found.code == 0, found.out
    document = json.loads(found.out)
    assert document["ok"] and "#SBATCH --mem=700M" in document["job_script"]
    words = {finding["what"].partition(" tcp://")[0]: finding["words"] for finding in document["findings"]}
    assert words["workers"].startswith("2 of 2 were there")
    assert "same versions, sees" in words["worker"]
    wrong = cli("cluster", "doctor", "--distribution-strategy", "slurm", "--job-resources", "mem=1G,partition=nowhere")
    assert wrong.code == 1
    assert "WRONG cluster: Slurm refused sbatch" in wrong.out
    assert not list(tmp_path.glob(".wkdask-doctor*"))


def test_encryption(slurm, tmp_path):
    """Workers and scheduler talk TLS; who has no certificate is not let in."""
    keys = distributed.Security.temporary()
    files = {"ca": keys.tls_ca_file, "cert": keys.tls_scheduler_cert, "key": keys.tls_scheduler_key}
    for name, text in files.items():
        (tmp_path / f"{name}.pem").write_text(text)
    resources = "mem=500M,time=00:30:00"
    with dask.config.set(encrypted(tmp_path)), wk.cluster("slurm", jobs=1, job_resources=resources) as client:
        assert client.submit(sum, [1, 2]).result(timeout=PATIENCE) == 3
        addresses = [client.scheduler.address, *client.scheduler_info(n_workers=-1)["workers"]]
        assert all(address.startswith("tls://") for address in addresses) and len(addresses) == 2
        plain = addresses[0].replace("tls://", "tcp://")
        with (
            pytest.raises(OSError, match=r"Timed out|reset by peer|closed"),
            distributed.Client(plain, security=distributed.Security(require_encryption=False), timeout=3),
        ):
            pass
