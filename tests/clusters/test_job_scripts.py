"""What jobs ask for, and the scripts that say so, as text: of Slurm, and of the systems that no test runs."""

from __future__ import annotations

import json
import pickle
from datetime import timedelta

import dask
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.clusters.conftest import encrypted
from wkdask.clusters import slurm_commands
from wkdask.clusters.interrupts import LAST
from wkdask.clusters.job_keeper import JobKeeper
from wkdask.clusters.job_resources import parse_job_resources, slurm_bytes, slurm_seconds
from wkdask.clusters.job_script import job_script, request_of
from wkdask.clusters.launch import launcher_of
from wkdask.clusters.launcher import Started
from wkdask.clusters.settings import Choice, section
from wkdask.clusters.slurm_commands import Job
from wkdask.errors import InputError, StorageError

NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,10}", fullmatch=True)
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=',"'), max_size=10)


@given(st.dictionaries(NAMES, VALUES, max_size=5))
def test_text_and_json_say_the_same(resources):
    text = ",".join(f"{name}={value}" for name, value in resources.items())
    assert (
        parse_job_resources(text) == parse_job_resources(json.dumps(resources)) == parse_job_resources(resources) == resources
    )


@pytest.mark.parametrize(
    "bad", ["mem=1G\n#SBATCH --wrap=x", "Mem=1", "=1", {"a b": 1}, {"comment": "a\nb"}, "{", '{"a": }', '{"a": "é"}']
)
def test_what_has_no_place_in_a_script(bad):
    with pytest.raises(InputError) as caught:
        parse_job_resources(bad)
    assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args


@given(st.integers(1, 30 * 86400 - 1))
def test_times(seconds):
    days, rest = divmod(seconds, 86400)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    assert slurm_seconds(f"{days}-{clock}") == seconds
    assert (
        slurm_seconds(f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}")
        == timedelta(seconds=seconds).total_seconds()
    )
    assert slurm_seconds(f"{seconds // 60 + 1}") == (seconds // 60 + 1) * 60


@given(st.integers(1, 10**6), st.sampled_from("KMGT"))
def test_memory(number, unit):
    assert slurm_bytes(f"{number}{unit}") == number * 1024 ** ("KMGT".index(unit) + 1)


@pytest.mark.parametrize("bad", ["", "0", "-1G", "1P", "nan", "1e9", "9" * 30])
def test_no_memory(bad):
    with pytest.raises(InputError, match="is no amount of memory"):
        slurm_bytes(bad)


@pytest.mark.parametrize("bad", ["", "0", "1:2:3:4", "x", "1-", "-5", "UNLIMITED"])
def test_no_time(bad):
    with pytest.raises(InputError, match="time"):
        slurm_seconds(bad)


def script_of(resources, tmp_path, system="slurm", **settings):
    return job_script(
        request_of("wkdask-test", {"log-directory": str(tmp_path), **settings}, resources, system=system), "tcp://me:1"
    )


def test_a_script_of_slurm(tmp_path):
    script = script_of("mem=3G,cpus-per-task=8,time=1-00:00:00,partition=long,account=em,qos=high,exclusive", tmp_path)
    header = [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH")]
    assert {"-p long", "-A em", "--qos=high", "--exclusive", "--cpus-per-task=8", "--mem=3072M", "-t 24:00:00", "-n 1"} <= {
        *header
    }
    command = script.splitlines()[-1] or script.splitlines()[-2]
    assert "tcp://me:1 --name $SLURM_JOB_ID-$SLURM_PROCID --nthreads 4 --memory-limit 1.50GiB --nworkers 2" in command
    assert "--lifetime 85800s --lifetime-stagger 300s" in command
    assert "SPILL=False" in script


def test_a_script_of_several_workers(tmp_path):
    script = script_of("mem=3G,cpus-per-task=2,ntasks=5", tmp_path)
    assert "--ntasks=5" in script
    assert "--mem-per-cpu=1536M" in script
    assert "--mem=" not in script and "-n 1\n" not in script
    assert "\nsrun --kill-on-bad-exit=0 bash -c 'exec " in script


SCRIPTS = {
    "pbs": ["#PBS -q long", "ncpus=2", "walltime=01:00:00"],
    "sge": ["#$ -q long", "h_rt=01:00:00"],
    "lsf": ["#BSUB -q long", "#BSUB -n 2", "#BSUB -W 01:00"],
}


@pytest.mark.parametrize(("system", "words"), SCRIPTS.items())
def test_scripts_of_other_systems(system, words, tmp_path):
    script = script_of("mem=4G,cpus-per-task=2,time=01:00:00,partition=long", tmp_path, system)
    assert all(word in script for word in words), script
    assert "distributed.cli.dask_worker tcp://me:1" in script
    assert "--lifetime 3000s" in script
    with pytest.raises(InputError, match=f"qos are options of sbatch, which {system} does not know"):
        script_of("mem=4G,qos=high", tmp_path, system)


def test_settings_of_jobqueue_are_respected(tmp_path):
    usual = {"queue": "night", "account": "em", "memory": "2GB", "cores": 3, "job-script-prologue": ["module load python"]}
    with dask.config.set({f"jobqueue.slurm.{name}": value for name, value in usual.items()}):
        script = script_of(None, tmp_path)
    assert all(word in script for word in ("-p night", "-A em", "--cpus-per-task=3", "--mem=1908M", "module load python"))


def test_nobody_says_how_much_memory(tmp_path):
    with pytest.raises(InputError, match=r"Nobody says how much memory a job of slurm takes. Give --job-resources mem=10G"):
        script_of("time=01:00:00", tmp_path)


def test_batching_needs_to_be_told_how_many_workers():
    def made(jobs, resources, strategy="slurm+batching"):
        found = launcher_of(Choice(strategy, jobs, resources))
        return found.jobs, found.request.workers

    assert made(3, "mem=1G") == (1, 3)
    assert made(None, "mem=1G,ntasks=2") == (1, 2)
    assert made(5, "mem=1G,ntasks=2") == (3, 2)
    assert made(None, "mem=1G", "slurm") == (2, 1)
    with pytest.raises(InputError, match=r"nobody says how many\. Give --jobs N .* ntasks=M"):
        made(None, "mem=1G")
    with pytest.raises(InputError, match="Nobody says how much memory"):
        made(None, None)
    with dask.config.set({"wkdask.slurm.job-resources": "mem=1G,ntasks=2"}):
        assert made(None, None) == (1, 2)


def test_a_profile():
    profile = {"strategy": "slurm+batching", "jobs": 6, "job-resources": {"mem": "2G", "ntasks": 3, "cpus-per-task": 4}}
    with dask.config.set({"wkdask.profiles": {"big": profile, "bad": {"stratgy": "slurm"}}}):
        found = launcher_of(Choice("big"))
        assert (found.jobs, found.slots, found.processes) == (2, 24, 7)
        assert found.memory_limit == int(6 * 2 * 2**30 * 0.9)
        assert launcher_of(Choice("big", 3)).jobs == 1
        with pytest.raises(InputError, match="The profile 'bad' in dask's configuration is"):
            launcher_of(Choice("bad"))


def test_unknown_settings():
    with pytest.raises(InputError, match=r"There is no setting 'thread' for local. Use one of threads-per-process"):
        section("local", {"thread": 3})


class Queue:
    """Slurm's programs, in memory."""

    def __init__(self, monkeypatch):
        self.jobs: dict[str, Job] = {}
        self.workers: set[str] = set()
        self.reasons: list[str] = []
        self.cancelled = self.submitted = 0
        monkeypatch.setattr(slurm_commands, "submit", self.submit)
        monkeypatch.setattr(slurm_commands, "jobs_of", lambda name: dict(self.jobs))
        monkeypatch.setattr(slurm_commands, "cancel", self.cancel)
        monkeypatch.setattr(slurm_commands, "cancel_job", lambda number: self.become(number, "CANCELLED"))
        self.wanted, self.idle = 2, set()
        self.keeper = JobKeeper("us", "script", lambda: self.wanted, lambda: self.workers, self.reasons.append)
        self.keeper.retire = lambda many: {*sorted(self.idle)[:many]}

    def submit(self, script):
        self.submitted += 1
        number = str(self.submitted)
        self.jobs[number] = Job(number, "PENDING", "Resources", "")
        return number

    def cancel(self, name):
        self.cancelled += 1

    def become(self, number, state, reason="None"):
        self.jobs[number] = Job(number, state, reason, "node1")

    def begin(self):
        self.keeper._over.set()  # no thread: the tests look by themselves
        self.keeper.start()
        self.keeper.stop()
        self.keeper._over.clear()


@pytest.fixture
def queue(monkeypatch):
    made = Queue(monkeypatch)
    made.begin()
    return made


def test_a_job_that_ends_is_replaced(queue):
    queue.workers = {"1", "2"}
    queue.become("1", "RUNNING")
    queue.become("2", "CANCELLED")
    queue.keeper.look()
    assert (queue.keeper.alive, len(queue.jobs), queue.reasons) == ({"1", "3"}, 3, [])
    del queue.jobs["1"]  # so long ago that Slurm has forgotten it
    queue.keeper.look()
    assert queue.keeper.alive == {"3", "4"}


@pytest.mark.parametrize("submitted", [0, 1])
@pytest.mark.parametrize("wrong", [InputError, StorageError, KeyboardInterrupt])
def test_a_start_that_fails_leaves_no_job(monkeypatch, wrong, submitted):
    """A job may be there although its number was not heard. What went wrong first is told."""
    queue = Queue(monkeypatch)
    launcher = launcher_of(Choice("slurm", 2, "mem=1G"))
    late = iter([{}, {"9": Job("9", "PENDING", "", "")}, {}])  # it is there only at the second look

    def submit(script):
        if queue.submitted == submitted:
            raise wrong("first")
        return queue.submit(script)

    monkeypatch.setattr(slurm_commands, "submit", submit)
    monkeypatch.setattr(slurm_commands, "jobs_of", lambda name: next(late))
    with pytest.raises(wrong, match="first"), Started(launcher):
        raise AssertionError
    assert queue.cancelled >= 3 and next(late, None) is None and not LAST


def test_what_went_wrong_is_told_where_jobs_can_not_be_cancelled(monkeypatch):
    queue = Queue(monkeypatch)

    def fail(name):
        queue.cancel(name)
        raise StorageError("second")

    monkeypatch.setattr(slurm_commands, "cancel", fail)
    with pytest.raises(StorageError, match="second"), Started(launcher_of(Choice("slurm", 2, "mem=1G"))):
        pass
    monkeypatch.setattr(slurm_commands, "submit", fail)
    with pytest.raises(StorageError, match="second"), Started(launcher_of(Choice("slurm", 2, "mem=1G"))):
        raise AssertionError
    assert not LAST


def test_failures_count_only_in_a_row(queue):
    queue.become("1", "FAILED")
    queue.become("2", "FAILED")
    queue.keeper.look()
    queue.workers = {"3"}
    queue.keeper.look()
    for _ in range(2):
        queue.become(max(queue.keeper.alive), "FAILED")
        queue.keeper.look()
    assert queue.reasons == []
    queue.become(max(queue.keeper.alive), "NODE_FAIL")
    queue.keeper.look()
    assert len(queue.reasons) == queue.cancelled == 1
    assert "NODE_FAIL, on node1" in queue.reasons[0]


def test_waiting_that_never_ends(queue):
    queue.become("2", "PENDING", "DependencyNeverSatisfied")
    queue.keeper.look()
    assert queue.cancelled == 1
    assert "job 2 (PENDING, DependencyNeverSatisfied" in queue.reasons[0]


def test_workers_that_were_there_are_no_failures(queue):
    for _ in range(5):
        queue.workers = set(queue.keeper.alive)
        queue.keeper.look()
        for number in queue.workers:
            queue.become(number, "TIMEOUT")
        queue.workers = set()
        queue.keeper.look()
    assert (queue.reasons, queue.submitted) == ([], 12)


def test_jobs_without_work_are_ended_and_come_back(queue, caplog):
    queue.workers = queue.idle = {"1", "2"}
    queue.become("1", "RUNNING")
    queue.become("2", "RUNNING")
    for queue.wanted in (1, 1, 2, 1, 1):  # never for long
        queue.keeper.look()
        assert queue.keeper.alive - queue.keeper._retired == {"1", "2"}
    queue.keeper.look()
    assert queue.keeper.alive - queue.keeper._retired == {"2"}
    queue.wanted = 2  # before the first has ended
    queue.keeper.look()
    assert queue.keeper.alive - queue.keeper._retired == {"2", "3"}
    queue.become("1", "COMPLETED")
    queue.keeper.look()
    assert (queue.keeper.alive, queue.submitted, queue.reasons) == ({"2", "3"}, 3, [])
    assert "is over" not in caplog.text  # that is for jobs that were lost


def test_jobs_that_wait_are_ended_first(queue):
    queue.workers = queue.idle = {"1"}
    queue.become("1", "RUNNING")
    queue.wanted = 1
    for _ in range(10):
        queue.keeper.look()
    assert queue.keeper.alive == {"1"}
    assert queue.reasons == []  # those that we have ended are no failures


def test_busy_jobs_stay(queue):
    queue.workers, queue.wanted = {"1", "2"}, 1
    for number in ("1", "2"):
        queue.become(number, "RUNNING")
    for _ in range(10):
        queue.keeper.look()
    assert queue.keeper.alive == {"1", "2"}


def test_workers_are_told_their_certificates(tmp_path):
    for name in ("ca", "cert", "key"):
        (tmp_path / f"{name}.pem").touch()
    request = request_of("wkdask-test", {"log-directory": str(tmp_path)}, "mem=1G")
    with dask.config.set(encrypted(tmp_path)):
        line = job_script(request, "tls://me:1").rstrip().splitlines()[-1]
        assert "tls://me:1" in line
        for option, name in (("ca-file", "ca"), ("cert", "cert"), ("key", "key")):
            assert f"--tls-{option} {tmp_path / name}.pem" in line
        assert "--tls" not in job_script(request, "tcp://me:1")
        (tmp_path / "key.pem").unlink()
        with pytest.raises(InputError, match=r"tls\.scheduler\.key there is no file"):
            job_script(request, "tls://me:1")
    assert "--tls" not in job_script(request, "tls://me:1")
