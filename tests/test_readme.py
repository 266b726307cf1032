"""README and first steps do what they say: their ```python and ```bash blocks run, in order, on a small stack.

Blocks that need the network, the Makefile or a reader's own files are ```shell or ```text.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import wkdask as wk

HOME = Path(__file__).parents[1]
PAGES = ("README.md", "docs/first-steps.md")
SIZE = (72, 64, 24)


def blocks(page: str) -> list[tuple[str, str]]:
    """Return (language, code) of the blocks that run."""
    return re.findall(r"^```(python|bash)\n(.*?)^```$", (HOME / page).read_text(), re.MULTILINE | re.DOTALL)


def loaded(name: str) -> ModuleType:
    """Import a script of the demo."""
    spec = importlib.util.spec_from_file_location(name, HOME / "demo" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def after_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder as `make demo` leaves it, only smaller."""
    folder = tmp_path_factory.mktemp("readme")
    images, dataset = folder / "demo-output/images", folder / "demo-output/dataset"
    loaded("tissue").write_stacks(SIZE, images / "raw", images / "segmentation.tif")
    options: dict[str, Any] = {"voxel_size": (8, 8, 30), "downsample": True, "coarsest_mag": 8}
    wk.Dataset.from_images(images / "raw", dataset, layer_name="em", **options)
    wk.Dataset.from_images(images / "segmentation.tif", dataset, layer_category="segmentation", **options)
    return folder


def run_bash(code: str, folder: Path) -> None:
    """Run commands; `wkdask` is this interpreter's."""
    programs = folder / ".programs"
    programs.mkdir(exist_ok=True)
    (programs / "wkdask").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m wkdask "$@"\n')
    (programs / "wkdask").chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(HOME)}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("page", PAGES)
def test_blocks_run(page: str, after_demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = blocks(page)
    assert {language for language, _ in found} == {"python", "bash"}
    text = "".join(code for _, code in found)
    if 'engine="wkdask"' in text and "wkdask" not in entry_points(group="xarray.backends").names:
        pytest.skip("wkdask is not installed, so xarray does not know it: pip install --editable .")
    if ".plot" in text:
        pytest.importorskip("matplotlib").use("Agg")
    monkeypatch.chdir(after_demo)
    names: dict[str, Any] = {"__name__": "readme"}
    for language, code in found:
        if language == "bash":
            run_bash(code, after_demo)
        else:
            exec(compile(code, page, "exec"), names)


@pytest.mark.parametrize("page", [*PAGES, "docs/json-output.md"])
def test_links_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", (HOME / page).read_text())
    missing = [link for link in links if not (HOME / page).parent.joinpath(link).exists()]
    assert [link for link in missing if not link.startswith("api/")] == []  # those are made by `make docs`


def keys(document: Any) -> set[str]:
    """Return all keys of a JSON document, at any depth."""
    if isinstance(document, list):
        return set().union(*map(keys, document))
    if isinstance(document, dict):
        return set(document).union(*map(keys, document.values()))
    return set()


def test_all_keys_of_json_documents_are_described(
    after_demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from wkdask.cli.app import run

    text = (HOME / "docs/json-output.md").read_text()
    convert = ["convert", str(after_demo / "demo-output/images/raw"), str(tmp_path / "ds"), "--voxel-size", "8,8,30"]
    commands = [
        [*convert, "--dry-run"],
        convert,
        ["info", str(after_demo / "demo-output/dataset")],
        ["info", str(tmp_path / "no")],
    ]
    codes = []
    for command in commands:
        monkeypatch.setattr(sys, "argv", ["wkdask", *command, "--json"])
        codes.append(run())
        document = json.loads(capsys.readouterr().out)
        if "settings" in document:
            document["settings"]["layer"] = None  # as in the dataset's own JSON
        assert {key for key in keys(document) if not re.search(rf"[`.]{key}\b|\"{key}\"", text)} == set()
    assert codes == [0, 0, 0, 1]


def test_readme_names_all_exit_codes() -> None:
    from wkdask import errors

    codes = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "exit_code")}
    table = {int(code) for code in re.findall(r"^\| (\d+) \|", (HOME / "README.md").read_text(), re.MULTILINE)}
    assert table == codes | {0}


def test_readme_names_all_strategies_kernels_and_formats() -> None:
    from wkdask.cli.convert import FORMATS
    from wkdask.clusters import STRATEGIES
    from wkdask.operations.convert import KERNELS

    text = (HOME / "README.md").read_text()
    assert [name for name in (*STRATEGIES, *KERNELS) if f"`{name}`" not in text] == []
    assert FORMATS == ("zarr3",)  # when this changes, so must the README
