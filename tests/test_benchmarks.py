"""Each benchmark runs with a tiny size, so that none of them rots; no time is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
SIZE = ("--size", "96,64,40")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("benchmarks")


def run(script: str, *arguments: object) -> str:
    command = [sys.executable, FOLDER / script, *arguments]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_list_names_every_script():
    described = (FOLDER / "README.md").read_text()
    scripts = [path.name for path in FOLDER.glob("*.py")]
    assert scripts and [name for name in scripts if name not in described] == []


@pytest.mark.parametrize("kind", ["em", "labels"])
def test_inputs_are_the_same_every_time(tmp_path: Path, kind: str):
    folders = [Path(run("data.py", kind, *SIZE, "--work", tmp_path / name).strip()) for name in "ab"]
    files = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders]
    assert files[0] == files[1]
    assert len(files[0]) == (40 if kind == "em" else 1)


def test_roofline(work: Path):
    jobs = ("convert-em-flat", "convert-labels", "downsample-em-wkw")
    flat, labels, coarser = json.loads(run("roofline.py", *jobs, *SIZE, "--work", work, "--runs", 1, "--json"))
    for found in (flat, labels, coarser):
        assert found["sum"] == pytest.approx(sum(found["steps"].values()))
        assert found["peak"] > 0
    assert {step for step, seconds in flat["steps"].items() if seconds > 0} == {"read", "reorder", "encode", "write"}
    assert all(seconds > 0 for step, seconds in labels["steps"].items() if step != "place")
    assert all(seconds > 0 for seconds in coarser["steps"].values())
    assert labels["pyramid_by_flat"] > 0


def test_copies(work: Path):
    jobs = ("compress-wkw", "copy-zarr3-zarr3")
    compressed, files = json.loads(run("copies.py", *jobs, *SIZE, "--work", work, "--runs", 1, "--json"))
    needed = {"read", "place", "reorder", "encode", "write"}
    assert needed <= {step for step, seconds in compressed["steps"].items() if seconds > 0}
    assert {step for step, seconds in files["steps"].items() if seconds > 0} == {"write", "check"}


def test_codecs(work: Path):
    found = json.loads(run("codecs.py", *SIZE, "--work", work, "--runs", 1, "--codecs", "zstd:1,none", "--json"))
    assert found["zstd:1"]["disk"] < found["none"]["disk"]


def test_startup():
    found = json.loads(run("startup.py", "--runs", 1, "--json"))
    assert found["wkdask --help"]["resident"] > found["python -c pass"]["resident"] > 0


def test_reads(work: Path):
    found = json.loads(run("reads.py", *SIZE, "--work", work, "--runs", 1, "--cuts", 3, "--edge", 32, "--json"))
    assert len(found) == 6


def test_memory(work: Path):
    found = json.loads(run("memory.py", *SIZE, "--edge", 64, "--work", work, "--json"))
    assert [one["case"] for one in found] == ["shard", "em", "labels"]
    assert all(one["measured"] > 0 for one in found)


def test_images(tmp_path: Path):
    run("images.py", "--slices", 2, "--edge", 64)


OPTIONS = ((), ("--bandwidth", 50, "--terabytes", 1000, "--workers", "100,1000"))


@pytest.mark.parametrize("options", OPTIONS)
def test_the_documentation_holds_what_is_simulated(options: tuple[object, ...]):
    printed = run("simulate.py", "--markdown", *options)
    assert printed.count("\n") > 3
    assert printed in (FOLDER.parent / "docs/scale.md").read_text()


def test_throughput():
    words = ("--tasks", 300, "--processes", 1, "--strategies", "threads,leases", "--json")
    for row in json.loads(run("throughput.py", *words)):
        assert row["tasks a second"] > 0 and row["microseconds a task"] > 0 and 20 < row["MB"] < 1000


@pytest.mark.soak
def test_a_million_tasks_fit_into_a_gigabyte():
    rows = json.loads(run("throughput.py", "--tasks", 1_000_000, "--processes", 2, "--strategies", "local,leases", "--json"))
    assert len(rows) == 2 and all(100 < row["MB"] < 1000 for row in rows)


def test_shards_cost_what_the_documentation_says():
    assert run("shards.py") in (FOLDER.parent / "docs/cloud.md").read_text()
