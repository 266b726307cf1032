"""Pages made from the package itself, so that they say what it does: its public names."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import FunctionType

import wkdask

ROOMS = {
    "dataset": ("Datasets", "Opening, making and reading datasets, layers and magnifications."),
    "plan": ("Plans", "What is going to be done, and what was done."),
    "operations": ("Operations", "How voxels are made from others."),
    "geometry": ("Geometry", "Vectors, boxes and magnifications, in voxels."),
    "metadata": ("Metadata", "What a dataset's JSON document says."),
    "errors": ("Errors", "Every error derives from `WkdaskError`."),
}
INHERITED = ["   :inherited-members:", "   :exclude-members: ConversionLayerMapping"]  # which has a page of its own


def write_pages(folder: Path) -> None:
    """Write all pages anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_api(folder)


def write_api(folder: Path) -> None:
    """Write a page for each room of the package that has public names, and their index."""
    homes: dict[str, list[str]] = {}
    for name, room in wkdask._HOMES.items():
        homes.setdefault(room.partition(".")[0], []).append(name)
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
            *(INHERITED if isinstance(value, type) and has_parts(value) else []),
            "",
        ]
    return "\n".join(lines)


def has_parts(kind: type) -> bool:
    """Return whether a class is put together of others that have no public name, whose verbs are its own."""
    public = {getattr(wkdask, name) for name in wkdask._HOMES if isinstance(getattr(wkdask, name), type)}
    return any(base.__module__.startswith("wkdask.dataset") and base not in public for base in kind.__bases__)
