"""README and first steps do what they say: their ```python and ```bash blocks run, in order, on a small stack.

Blocks that need the network, the Makefile or a reader's own files are ```shell or ```text.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import wkdask as wk

HOME = Path(__file__).parents[1]
PAGES = ("README.md", "docs/first-steps.md", "docs/images.md", "docs/coming-from-webknossos.md", "docs/executors.md")
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


OTHERS = (
    "docs/formats.md",
    "docs/interop.md",
    "docs/verifying.md",
    "docs/equality.md",
    "docs/json-output.md",
    "docs/command-line.md",
    "docs/concepts.md",
    "docs/index.md",
    "notebooks/README.md",
)


@pytest.mark.parametrize("page", [*PAGES, *OTHERS])
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
        [*convert[:3], "--layer-name", "wkw", "--data-format", "wkw", "--shard-shape", "32", "--dry-run"],
        ["downsample", str(tmp_path / "ds"), "--max-mag", "8", "--dry-run", "--probe", "1"],
        ["downsample", str(tmp_path / "ds"), "--max-mag", "8"],
        ["downsample", str(tmp_path / "ds"), "--max-mag", "8"],
        ["info", str(after_demo / "demo-output/dataset")],
        ["info", str(tmp_path / "no")],
        ["copy-dataset", str(tmp_path / "ds"), str(tmp_path / "copy"), "--data-format", "zarr", "--dry-run"],
        ["copy-dataset", str(tmp_path / "ds"), str(tmp_path / "copy"), "--data-format", "zarr"],
        ["rechunk", str(tmp_path / "copy"), "--chunk-shape", "16", "--dry-run"],
        ["rechunk", str(tmp_path / "copy"), "--chunk-shape", "16"],
        ["compress", str(tmp_path / "copy")],
        ["hash", str(tmp_path / "copy")],
        ["check-equality", str(tmp_path / "ds"), str(tmp_path / "copy")],
        ["diff", str(tmp_path / "ds"), str(tmp_path / "other")],
        ["check-equality", str(tmp_path / "ds"), str(tmp_path / "other")],
        ["verify", str(tmp_path / "other")],
        ["resume", str(tmp_path / "ds")],
    ]
    codes = []
    for command in commands:
        if str(tmp_path / "other") in command and not (tmp_path / "other").exists():
            changed = wk.Dataset.open(shutil.copytree(tmp_path / "copy", tmp_path / "other")).get_layer("raw").get_mag(1)
            changed.write(changed.read(absolute_offset=(0, 0, 0), size=(1, 1, 1)) ^ 1, absolute_offset=(0, 0, 0))
        monkeypatch.setattr(sys, "argv", ["wkdask", *command, "--json"])
        codes.append(run())
        document = json.loads(capsys.readouterr().out)
        if "settings" in document:
            document["settings"]["layer"] = None  # as in the dataset's own JSON
        assert {key for key in keys(document) if not re.search(rf"[`.]{key}\b|\"{key}\"", text)} == set()
    assert codes == [0, 0, 0, 0, 0, 0, 0, 1, *[0] * 7, 1, 1, 0, 0]


def test_readme_names_all_exit_codes() -> None:
    from wkdask import errors

    codes = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "exit_code")}
    table = {int(code) for code in re.findall(r"^\| (\d+) \|", (HOME / "README.md").read_text(), re.MULTILINE)}
    assert table == codes | {0}


def test_readme_names_all_strategies_kernels_formats_and_commands() -> None:
    from wkdask.clusters import STRATEGIES
    from wkdask.formats import FORMATS
    from wkdask.operations.choices import KERNELS

    text = (HOME / "README.md").read_text()
    codecs = [codec for form in FORMATS.values() for codec in form.codecs]
    assert [name for name in (*STRATEGIES, *KERNELS, *FORMATS, *codecs, *commands()) if f"`{name}`" not in text] == []


def documented(command: str) -> dict[str, str]:
    """Return the options in the tables of a command's section, each with the defaults that its row says."""
    text = (HOME / "docs/command-line.md").read_text()
    [section] = re.findall(rf"^## wkdask {command}\n(.*?)(?=^## )", text, re.MULTILINE | re.DOTALL)
    rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| `")]
    named = [(name, row[-1].rstrip("| ")) for row in rows for name in re.findall(r"`(--?[a-z-]+)[^`]*`", row[0])]
    assert len(named) == len(dict(named)), "an option stands in two rows"
    return dict(named)


def commands() -> dict[str, Any]:
    import typer

    from wkdask.cli.app import app

    found = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    groups = {name: command.commands for name, command in found.items() if hasattr(command, "commands")}
    plain = {name: command for name, command in found.items() if name not in groups}
    return plain | {f"{name} {inner}": command for name, those in groups.items() for inner, command in those.items()}


@pytest.mark.parametrize("name", sorted(commands()))
def test_tables_of_the_command_line_name_every_option(name: str) -> None:
    options = [p for p in commands()[name].params if p.param_type_name == "option"]
    spelled = {spelling for option in options for spelling in (*option.opts, *option.secondary_opts)}
    assert set(documented(name)) == spelled - {"--help", "-h"}


@pytest.mark.parametrize("name", sorted(commands()))
def test_tables_of_the_command_line_say_the_defaults(name: str) -> None:
    told = documented(name)
    for option in commands()[name].params:
        usual = getattr(option.default, "value", option.default)
        if isinstance(usual, bool):
            usual = option.opts[0] if usual else "".join(option.secondary_opts)
        if option.param_type_name == "option" and usual:
            assert f"`{usual}`" in told[option.opts[0]], option.opts


def test_tables_of_the_command_line_name_all_choices() -> None:
    from enum import Enum
    from typing import get_args, get_type_hints

    from wkdask.cli.app import app

    text = (HOME / "docs/command-line.md").read_text()
    hints = [hint for command in app.registered_commands for hint in get_type_hints(command.callback).values()]
    kinds = {kind for hint in hints for kind in (hint, *get_args(hint)) if isinstance(kind, type) and issubclass(kind, Enum)}
    choices = {choice.value for kind in kinds for choice in kind}
    assert len(choices) >= 15
    assert [choice for choice in choices if f"`{choice}`" not in text] == []
