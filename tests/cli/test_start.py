"""Starting: what is answered without loading much, help, version, completion, pipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import wkdask as wk

HEAVY = {"dask", "distributed", "numba", "numpy", "tensorstore", "tifffile", "xarray", "zarr", "fsspec", "psutil"}


def loaded(*words):
    """The packages that a command loads, and what it prints."""
    script = (
        f"import sys; sys.argv = ['wkdask', *{words!r}]\n"
        "from wkdask.cli import main\n"
        "try: main()\n"
        "finally: sys.stderr.write(chr(10).join({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stderr.split()), done.stdout


def test_version():
    packages, text = loaded("--version")
    assert text == f"wkdask {wk.__version__}\n"
    assert not packages & {*HEAVY, "typer", "pydantic", "rich"}
    assert loaded("-V")[1] == text


@pytest.mark.parametrize("words", [("--help",), ("-h",), ("convert", "--help"), ("info", "-h")])
def test_help(words):
    packages, text = loaded(*words)
    assert "Usage: wkdask" in text
    assert "130 interrupted" in text.replace("\n", " ").replace("  ", " ")
    assert not packages & HEAVY


def test_help_names_every_command_and_option():
    assert all(word in loaded("--help")[1] for word in ("convert", "info", "--version", "--install-completion"))
    text = loaded("convert", "--help")[1]
    for option in (
        "--voxel-size",
        "--unit",
        "--codec",
        "--dry-run",
        "--json",
        "--jobs",
        "--memory-limit",
        "--scratch",
        "--missing",
    ):
        assert option in text


def test_as_a_module_and_as_a_program(program):
    assert program("--version").out == f"wkdask {wk.__version__}\n"
    done = program("convert")
    assert done.code == 2
    assert "python" not in done.err
    assert program().code == 2


@pytest.mark.parametrize(
    ("shell", "said"), [("bash", "complete -o"), ("zsh", "#compdef wkdask"), ("fish", "complete --command")]
)
def test_completion(program, shell, said):
    named = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}  # else it is the shell that runs the tests
    done = program("--show-completion", shell, env=named)
    assert (done.code, done.err) == (0, "")
    assert said in done.out
    assert "_WKDASK_COMPLETE" in done.out
    assert "python" not in done.out


def test_options_are_completed():
    words = {"_WKDASK_COMPLETE": "complete_bash", "COMP_WORDS": "wkdask convert --vox", "COMP_CWORD": "2"}
    command = [sys.executable, "-m", "wkdask"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **words})
    assert "--voxel-size" in done.stdout


def test_whoever_reads_may_stop_reading(tmp_path):
    dataset = wk.Dataset(tmp_path / "ds", (1, 1, 1))
    for number in range(40):
        dataset.add_layer(f"layer-{number}", "color")
    command = [sys.executable, "-m", "wkdask", "info", str(tmp_path / "ds")]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    child.stdout.close()
    assert "Traceback" not in child.communicate(timeout=30)[1]
    assert child.returncode == 1


def test_errors_of_usage_as_json(cli):
    done = cli("convert", "a", "b", "--jobs", "0", "--json")
    assert done.code == 2
    found = json.loads(done.out)
    assert (found["wkdask"], found["error"]["type"], found["error"]["exit_code"]) == (1, "UsageError", 2)
    assert "--jobs" in found["error"]["message"]
    assert "Traceback" not in done.err
