"""``wkdask work``: joins what is under way or was left, in as many processes as there are; else says why not."""

from __future__ import annotations

import json
import subprocess
import sys
import threading

import numpy as np
import pytest
import tifffile

import wkdask as wk
from wkdask.plan import Journal
from wkdask.plan import claims as claims_module
from wkdask.storage import Location, observe

SMALL = ("--chunk-shape", "8", "--shard-shape", "16", "--progress", "none", "--jobs", "1")


@pytest.fixture
def convert(tmp_path, cli, monkeypatch):
    """Convert, up to so many tasks or to the end, in the folder where the images lie; the current folder is another after."""
    home = tmp_path / "home"
    (home / "images").mkdir(parents=True)
    (home / "elsewhere").mkdir()
    for z in range(40):
        tifffile.imwrite(home / "images" / f"{z:02}.tif", np.random.default_rng(z).integers(0, 99, (40, 30)).astype("uint8"))

    def run(target, *options, tasks=None):
        lines = []

        def stop(event, url):
            lines.append(url)
            if tasks and event == "append" and sum(".jsonl" in line for line in lines) >= tasks:
                raise KeyboardInterrupt

        monkeypatch.chdir(home)
        with observe(stop):
            code = cli("convert", "images", target, "--voxel-size", "4,4,4", "--layer-name", "em", *SMALL, *options).code
        assert code == (130 if tasks else 0)
        monkeypatch.chdir(home / "elsewhere")
        return home / target

    return run


def voxels(place):
    return [mag.read() for mag in wk.Dataset.open(place).get_layer("em").mags.values()]


def same(a, b):
    pairs = list(zip(voxels(a), voxels(b), strict=True))
    return len(pairs) > 2 and all(np.array_equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("before", [(), ("--distribution-strategy", "leases")])
@pytest.mark.parametrize("then", ["work", "resume"])
def test_goes_on_with_what_was_left(cli, convert, before, then):
    whole, left = convert("whole"), convert("ds", *before, tasks=3)
    kept = {(receipt.stage, receipt.number) for receipt in Journal(Location(left), "em").read()}  # another may have ended, too
    done = cli(then, "../ds", "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert (report["command"], report["kept"]) == ("convert", len(kept)) and len(kept) >= 3
    assert same(left, whole)
    again = cli(then, left)
    assert (again.code, again.out) == (0, "Nothing to do.\n")
    assert json.loads(cli("work", left, "--json").out)["layers"] == []
    assert cli("verify", left, "--digests").code == 0


def test_several_at_once(convert):
    whole, left = convert("whole"), convert("ds", tasks=2)
    words = [sys.executable, "-m", "wkdask", "work", str(left), "--jobs", "2", "--json", "--progress", "none"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    children = [subprocess.Popen(words, **pipes) for _ in range(2)]
    ended = [(*child.communicate(timeout=60), child.returncode) for child in children]
    assert [code for _, _, code in ended] == [0, 0], ended
    assert same(left, whole)
    assert not list((left / ".wkdask" / "jobs").glob("*"))


def test_a_worker_joins_a_run_that_is_under_way(cli, convert, monkeypatch):
    """The first is held in its third task until the second, which finds the rest, has done all else."""
    monkeypatch.setattr(claims_module, "TRUST_SECONDS", 0.0)
    whole, joined, seen, released = convert("whole"), [], [], threading.Event()

    def join(event, url):
        if event == "append" and ".jsonl" in url and not joined and len(seen) == 2:
            joined.append(None)
            target = url.partition("/.wkdask")[0]
            out = subprocess.Popen(
                [sys.executable, "-m", "wkdask", "work", target, "--json", "--jobs", "1", "--progress", "none"],
                stdout=subprocess.PIPE,
                text=True,
            )
            joined[0] = out
            folder = Journal(Location(target), "em").folder.local_path / "journal"
            while len(list(folder.glob("*.jsonl"))) < 2 and out.poll() is None:
                released.wait(0.01)
        seen.append(url) if event == "append" and ".jsonl" in url else None

    with observe(join):
        target = convert("ds", "--distribution-strategy", "leases")
    out, _ = joined[0].communicate(timeout=60)
    assert joined[0].returncode == 0 and json.loads(out)["done"] >= 1
    assert same(target, whole)


def test_nothing_there(cli, tmp_path):
    done = cli("work", tmp_path / "none")
    assert done.code == 1 and "does not exist" in done.err
    (tmp_path / "some").mkdir()
    assert (cli("work", tmp_path / "some").out, cli("work", tmp_path / "some").code) == ("Nothing to do.\n", 0)


def test_waits_with_a_bound(cli, tmp_path, monkeypatch):
    monkeypatch.setattr("wkdask.cli.work.LOOK_SECONDS", 0.001)
    done = cli("work", tmp_path, "--wait", "0.01")
    assert (done.code, done.out) == (0, "Nothing to do.\n")
    assert "nothing to do yet; waiting for 0.01 s at most" in done.err


def test_waits_until_there_is_work(cli, convert, monkeypatch):
    left = convert("ds", tasks=3)
    aside = left.parent / "aside"
    left.rename(aside)
    monkeypatch.setattr("wkdask.cli.work.time.sleep", lambda _: aside.rename(left))
    assert cli("work", left, "--wait", "60").code == 0
    assert same(left, convert("whole"))


def edit(place, **changes):
    job = Journal(Location(place), "em").folder.local_path / "plan.json"
    job.write_text(json.dumps(json.loads(job.read_text()) | changes))


@pytest.mark.parametrize(
    ("command", "said"),
    [("", "was begun in Python. Run Dataset.from_images"), ("rm -rf /", "which is no command of wkdask")],
)
def test_refused(cli, convert, command, said):
    left = convert("ds", tasks=3)
    edit(left, command=command)
    before = sorted(str(path) for path in left.rglob("*"))
    done = cli("work", left)
    assert done.code == 2 and said in done.err
    assert sorted(str(path) for path in left.rglob("*")) == before


def test_only_the_layers_that_are_named(cli, convert):
    left = convert("ds", tasks=3)
    assert cli("work", left, "--layer-name", "other").out == "Nothing to do.\n"
    assert Journal(Location(left), "em").document() is not None
