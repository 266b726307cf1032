"""Pages made from the package itself, so that they say what it does: public names, and the commands' options."""

from __future__ import annotations

import importlib
import shutil
from enum import Enum
from pathlib import Path
from types import FunctionType
from typing import Any

import wkdask

ROOMS = {
    "dataset": ("Datasets", "Opening, making and reading datasets, layers and magnifications."),
    "plan": ("Plans", "What is going to be done, and what was done."),
    "operations": ("Operations", "How voxels are made from others."),
    "geometry": ("Geometry", "Vectors, boxes and magnifications, in voxels."),
    "metadata": ("Metadata", "What a dataset's JSON document says."),
    "errors": ("Errors", "Every error derives from `WkdaskError`."),
}


def write_pages(folder: Path) -> None:
    """Write all pages anew."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "commands").mkdir(parents=True)
    write_api(folder)
    write_commands(folder / "commands")


def write_api(folder: Path) -> None:
    """Write a page for each room of the package that has public names, and their index."""
    homes: dict[str, list[str]] = {}
    for name, room in wkdask._HOMES.items():
        homes.setdefault(room, []).append(name)
    index = ["# API reference", "", "All names are imported from `wkdask`.", ""]
    pages = []
    for room in sorted(homes, key=lambda r: (r not in ROOMS, list(ROOMS).index(r) if r in ROOMS else 0, r)):
        title, text = ROOMS.get(room, (room.capitalize(), ""))
        pages.append(room)
        index += [f"**[{title}]({room}.rst)**: {text}", "", ", ".join(f"`{name}`" for name in homes[room]), ""]
        (folder / f"{room}.rst").write_text(room_page(room, title, text, homes[room]))
    index += ["```{toctree}", ":hidden:", "", *pages, "```", ""]
    (folder / "index.md").write_text("\n".join(index))


def room_page(room: str, title: str, text: str, names: list[str]) -> str:
    """Return the page of one room."""
    lines = [title, "=" * len(title), "", text.replace("`", "``"), ""]
    if room == "errors":
        return "\n".join([*lines, ".. automodule:: wkdask.errors", "   :members:", "   :show-inheritance:", ""])
    for name in names:
        value = getattr(wkdask, name)
        kind = "autoclass" if isinstance(value, type) else "autofunction" if isinstance(value, FunctionType) else "autodata"
        lines += [
            name,
            "-" * len(name),
            "",
            f".. {kind}:: wkdask.{name}",
            *(["   :members:"] if kind == "autoclass" else []),
            "",
        ]
    return "\n".join(lines)


def write_commands(folder: Path) -> None:
    """Write, for each command, what it does and its options; docs/command-line.md includes the files' list."""
    import typer

    app = typer.main.get_command(importlib.import_module("wkdask.cli.app").app)
    commands: dict[str, Any] = getattr(app, "commands", {})
    text = []
    for name, command in sorted(commands.items()):
        text += [f"## wkdask {name}", "", (command.help or "").strip(), ""]
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        options = [p for p in command.params if p.param_type_name == "option" and not p.hidden and p.name != "help"]
        usage = " ".join(str(a.name).upper() for a in arguments)
        text += ["```text", f"wkdask {name} {usage} [OPTIONS]", "```", ""]
        text += [f"`{str(a.name).upper()}`\n: {a.help}\n" for a in arguments]
        text += [option_text(option) for option in options]
    (folder / "all.md").write_text("\n".join(text) + "\n")


def option_text(option: Any) -> str:
    """Return an option as an item of a definition list."""
    value = f" {option.metavar}" if option.metavar else ""
    names = ", ".join(f"`{spelling}{value}`" for spelling in (*option.opts, *option.secondary_opts))
    default = getattr(option.default, "value", option.default)
    facts = ["Required."] if option.required else []
    facts += [f"One of {', '.join(f'`{choice}`' for choice in choices(option))}."] if choices(option) else []
    if isinstance(default, bool):
        facts += [f"Default: `{option.opts[0] if default else option.secondary_opts[0]}`."] if option.secondary_opts else []
    elif isinstance(default, str | int | float) and not option.required:
        facts.append(f"Default: `{default}`.")
    return f"{names}\n: {' '.join([option.help or '', *facts]).strip()}\n"


def choices(option: Any) -> list[str]:
    """Return the words that an option takes, where it takes no others."""
    of_typer = getattr(getattr(option, "type_descriptor", None), "annotation", None)
    if isinstance(of_typer, type) and issubclass(of_typer, Enum):
        return [str(member.value) for member in of_typer]
    return [str(getattr(c, "value", c)) for c in getattr(getattr(option, "type", None), "choices", ())]
