"""The house rules that no other tool holds: sizes, imports, errors, public names, packaging, texts."""

from __future__ import annotations

import ast
import builtins
import importlib
import pickle
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import wkdask
from wkdask import errors

HOME = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((HOME / "pyproject.toml").read_text())
MODULES = sorted((HOME / "wkdask").rglob("*.py"))
HEAVY = {"dask", "distributed", "numba", "numpy", "tensorstore", "xarray", "zarr"}

MODULE_LINES = 400
FUNCTION_LINES = 50
PARAMETERS = 7
PUBLIC_METHODS = 20

# The reference API fixes these signatures of the front door, and how much its classes offer.
REFERENCE_SIGNATURES = {
    "__init__",
    "add_copy_layer",
    "add_copy_mag",
    "add_layer",
    "add_layer_as_copy",
    "add_layer_for_existing_files",
    "add_layer_from_images",
    "add_mag_as_copy",
    "announce_manual_upload",
    "copy_dataset",
    "download",
    "download_mesh",
    "downsample",
    "downsample_mag",
    "downsample_mag_list",
    "from_images",
    "get_buffered_slice_writer",
    "get_or_add_layer",
    "open",
    "open_remote",
    "plan_from_images",
    "redownsample",
    "trigger_reload_in_datastore",
    "upload",
    "upsample",
    "write",
    "write_cxyz",
    "write_layer",
}
REFERENCE_CLASSES = {"BoundingBox", "Dataset", "Layer", "MagView", "NDBoundingBox", "RemoteDataset", "VecInt", "View"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def trees() -> Iterator[tuple[str, ast.Module]]:
    for path in MODULES:
        yield str(path.relative_to(HOME)), ast.parse(path.read_text())


def functions() -> Iterator[tuple[str, str, Function]]:
    for name, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, Function):
                yield name, f"{name}:{node.lineno} {node.name}", node


def is_command(module: str, function: Function) -> bool:
    """Whether a function's parameters are the options of a command, one line or more for each."""
    a = function.args
    given = [*(p.annotation for p in a.args + a.kwonlyargs), *a.defaults, *a.kw_defaults]
    return module.startswith("wkdask/cli/") and any(node and "typer." in ast.unparse(node) for node in given)


def lines(function: Function, *, body_only: bool) -> int:
    has_docstring = ast.get_docstring(function) is not None
    body = function.body[1:] if has_docstring else function.body
    start = body[0].lineno if body_only and body else function.lineno
    docstring = function.body[0]
    inside = (docstring.end_lineno or 0) - docstring.lineno + 1 if has_docstring and not body_only else 0
    return (function.end_lineno or 0) - start + 1 - inside


# ------------------------------------------------------------------------------------------------------ sizes


def test_modules_are_short() -> None:
    assert not [f"{p.relative_to(HOME)}: {n}" for p in MODULES if (n := len(p.read_text().splitlines())) > MODULE_LINES]


def test_functions_are_short() -> None:
    sizes = {where: lines(f, body_only=is_command(module, f)) for module, where, f in functions()}
    assert not {where: n for where, n in sizes.items() if n > FUNCTION_LINES}


def test_functions_take_few_parameters() -> None:
    too_many = {}
    for module, where, function in functions():
        a = function.args
        names = [p.arg for p in (*a.posonlyargs, *a.args, *a.kwonlyargs) if p.arg not in {"self", "cls"}]
        front_door = module.startswith(("wkdask/dataset", "wkdask/server")) and function.name in REFERENCE_SIGNATURES
        if len(names) > PARAMETERS and not front_door and not is_command(module, function):
            too_many[where] = len(names)
    assert not too_many


def test_classes_offer_few_methods() -> None:
    too_many = {}
    for name, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name not in REFERENCE_CLASSES:
                verbs = [f for f in node.body if isinstance(f, Function) and not f.name.startswith("_")]
                verbs = [
                    f
                    for f in verbs
                    if not any("property" in ast.unparse(d) or ".setter" in ast.unparse(d) for d in f.decorator_list)
                ]
                if len(verbs) > PUBLIC_METHODS:
                    too_many[f"{name} {node.name}"] = len(verbs)
    assert not too_many


def test_shipped_code_does_not_assert() -> None:
    assert not [f"{name}:{node.lineno}" for name, tree in trees() for node in ast.walk(tree) if isinstance(node, ast.Assert)]


def test_names_of_modules_say_what_they_hold() -> None:
    assert not [str(p) for p in MODULES if p.stem in {"base", "common", "handler", "helpers", "manager", "misc", "utils"}]


def test_every_room_has_a_floor() -> None:
    floors = PYPROJECT["tool"]["importlinter"]["contracts"][0]["layers"]
    known = {room.strip(" ()").removeprefix("wkdask.") for floor in floors for room in floor.split("|")}
    rooms = {p.relative_to(HOME / "wkdask").parts[0].removesuffix(".py") for p in MODULES}
    assert rooms - known <= {"__init__", "__main__", "_version"}


# ---------------------------------------------------------------------------------------------------- imports


def loaded_by(code: str) -> set[str]:
    """Return the top packages that a fresh interpreter holds after running some code."""
    end = "\nprint('loaded:', *sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}{end}"], cwd=HOME, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("loaded:")[2].split())


def command_line(*arguments: str) -> str:
    return f"""
sys.argv = ["wkdask", *{arguments!r}]
from wkdask.cli import main
try:
    main()
except SystemExit as end:
    if end.code:
        raise
"""


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert not loaded_by("import wkdask") & (HEAVY | {"pydantic", "rich", "typer"})


def test_help_loads_nothing_heavy() -> None:
    assert not loaded_by(command_line("--help")) & HEAVY


def test_version_loads_no_command_line_library() -> None:
    assert not loaded_by(command_line("--version")) & (HEAVY | {"click", "pydantic", "rich", "typer"})


# ----------------------------------------------------------------------------------------------------- errors

ERRORS = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}


def drawn_tree() -> Iterator[tuple[str, str | None, str | None]]:
    """Yield each error of the module's docstring with its parent and the builtins in brackets."""
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        drawn = re.fullmatch(r" {4}([│├└─ ]*)(\w+Error(?:, \w+Error)*)(?: \((\w+(?:, \w+)*)\))?(?:  .*)?", line)
        if drawn:
            depth = len(drawn[1]) // 4
            names = drawn[2].split(", ")
            for name in names:
                yield name, above[depth - 1] if depth else None, drawn[3]
            above[depth:] = [names[-1]]


def test_the_drawn_tree_is_complete() -> None:
    drawn = [name for name, _, _ in drawn_tree()]
    assert len(drawn) == len(set(drawn))
    assert set(drawn) == set(ERRORS)


@pytest.mark.parametrize(("name", "parent", "builtin"), [pytest.param(*row, id=row[0]) for row in drawn_tree()])
def test_errors_derive_as_drawn(name: str, parent: str | None, builtin: str | None) -> None:
    bases = [
        ERRORS[parent] if parent else Exception,
        *(getattr(builtins, name) for name in (builtin or "").split(", ") if name),
    ]
    assert list(ERRORS[name].__bases__) == bases


@pytest.mark.parametrize("name", sorted(ERRORS))
def test_errors_survive_pickling(name: str) -> None:
    importlib.import_module("distributed")  # changes how exceptions are pickled, for the whole process
    error = ERRORS[name]("Found 1. Use 2.")
    error.add_note("in unit 3")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is ERRORS[name]
    assert str(again) == "Found 1. Use 2."
    assert again.__notes__ == ["in unit 3"]
    assert isinstance(ERRORS[name](), errors.WkdaskError)  # nothing is required
    assert isinstance(again.exit_code, int) and again.exit_code


# ----------------------------------------------------------------------------------------------- public names


def test_public_names_are_sorted_and_there() -> None:
    assert wkdask.__all__ == sorted(wkdask.__all__)
    assert [name for name in wkdask.__all__ if not hasattr(wkdask, name)] == []
    assert set(wkdask.__all__) <= set(dir(wkdask))


def test_unknown_names_are_attribute_errors() -> None:
    assert not hasattr(wkdask, "no_such_name")


# -------------------------------------------------------------------------------------------------- packaging


def entry_points() -> Iterator[str]:
    project = PYPROJECT["project"]
    for group in (project["scripts"], *project["entry-points"].values()):
        yield from group.values()


@pytest.mark.parametrize("target", list(entry_points()))
def test_entry_points_lead_somewhere(target: str) -> None:
    module, _, attribute = target.partition(":")
    assert callable(getattr(importlib.import_module(module), attribute))


def requirements(*extras: str) -> dict[str, str]:
    project = PYPROJECT["project"]
    given = [*project["dependencies"], *(r for extra in extras for r in project["optional-dependencies"][extra])]
    return {r.name: str(r.specifier) for r in map(Requirement, given)}


def test_conda_environment_says_what_pyproject_says() -> None:
    conda_names = {"dask": "dask-core"}  # where conda-forge's name is not PyPI's
    wanted = {
        conda_names.get(name, name): floor for name, floor in requirements("s3", "gcs", "http", "slurm", "images").items()
    }
    wanted["python"] = PYPROJECT["project"]["requires-python"]
    environment = yaml.safe_load((HOME / "environment.yml").read_text())
    listed = dict(entry.partition(" ")[::2] for entry in environment["dependencies"])
    assert listed.pop("pip") == ""
    assert listed == wanted


def test_extras_are_in_all() -> None:
    extras = PYPROJECT["project"]["optional-dependencies"]
    [everything] = map(Requirement, extras["all"])
    assert everything.extras == set(extras) - {"all", "dev"}


def test_lock_covers_the_requirements() -> None:
    locked = set(re.findall(r"^([a-z0-9-]+)==", (HOME / "requirements-dev.lock").read_text(), re.MULTILINE))
    extras = [extra for extra in PYPROJECT["project"]["optional-dependencies"] if extra != "all"]
    assert set(requirements(*extras)) <= locked


def test_decisions_are_numbered_once() -> None:
    numbers = sorted(int(p.name[:4]) for p in (HOME / "docs/decisions").glob("[0-9]*.md"))
    assert numbers == list(range(1, len(numbers) + 1))


# ------------------------------------------------------------------------------------------------------ texts


def texts() -> Iterator[tuple[str, str]]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=HOME, capture_output=True, check=False).stdout.decode()
    here = [HOME / name for name in listing.split("\0") if name] or [
        *HOME.glob("*.*"),
        *(p for room in ("wkdask", "tests", "docs") for p in (HOME / room).rglob("*.*")),
    ]
    for path in here:
        if path.is_file() and path != Path(__file__):
            try:
                yield str(path.relative_to(HOME)), path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue  # a picture


def test_texts_name_no_machine() -> None:
    """Neither folders of the machine that a text was written on, nor where its packages came from."""
    machine = re.compile(r"(?<![\w.~-])/(?:work|root)/|\bpypi\.org|pythonhosted\.org|npmjs\.org|deb\.debian\.org|agent session")
    found = [(name, hit[0]) for name, text in texts() for hit in machine.finditer(text)]
    assert not found
