"""Which image files become one layer, and what the layers are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from wkdask.errors import InputError
from wkdask.images.selection import ConversionLayerMapping as Mapping
from wkdask.images.selection import Selection
from wkdask.images.sources import ImageFiles

LONGEST = 200
"""Characters of a layer's name, which leaves room for what is put before and after."""


@dataclass(frozen=True, slots=True)
class LayerFiles:
    """The files of one layer, in natural order, and the layer's name."""

    name: str
    files: tuple[str, ...]


def group_files(images: ImageFiles, selection: Selection, is_deep: Callable[[str], bool]) -> list[LayerFiles]:
    """Divide image files into layers, in the order of their first files.

    Parameters
    ----------
    images
        The files.
    selection
        Its `mapping`, `merge` and `layer_name` count.
    is_deep
        Whether the file of a name has several planes along z or several time points; asked only where the mapping
        needs to know.

    Returns
    -------
    list of LayerFiles
        Names are usable and distinct. Folders of one name in different places are different layers: where
        INSPECT_SINGLE_FILE would name both alike, their whole paths name them.

    Raises
    ------
    InputError
        If a function as mapping returns no text.

    Examples
    --------
    >>> files = ImageFiles("/data", ("em/1.tif", "em/2.tif", "old/labels/1.tif"), "data")
    >>> [(layer.name, len(layer.files)) for layer in group_files(files, Selection(), lambda name: False)]
    [('em', 2), ('labels', 1)]
    """
    named = _named(images, selection, is_deep)
    groups: dict[str, list[str]] = {}
    for file in images.names:
        groups.setdefault(named(file)[0], []).append(file)
    keys = list(groups)
    wishes = [layer_name(named(files[0])[1]) for files in groups.values()]
    counts = Counter(wishes)
    wishes = [layer_name(_path_name(key) or wish) if counts[wish] > 1 else wish for key, wish in zip(keys, wishes, strict=True)]
    if selection.layer_name is not None:
        wishes = [selection.layer_name] if len(keys) == 1 else [layer_name(f"{selection.layer_name}_{wish}") for wish in wishes]
    return [LayerFiles(name, tuple(groups[key])) for name, key in zip(distinct(wishes), keys, strict=True)]


def _named(images: ImageFiles, selection: Selection, is_deep: Callable[[str], bool]) -> Callable[[str], tuple[str, str]]:
    """Return the function from a file to what its layer has in common, and what the layer may be called."""
    mapping = Mapping.INSPECT_SINGLE_FILE if selection.mapping is None else selection.mapping
    if not (isinstance(mapping, Mapping) or selection.merge):
        return lambda file: (_told(mapping, file),) * 2
    alone = images.alone and mapping is not Mapping.ENFORCE_LAYER_PER_FILE
    if selection.merge or alone or mapping is Mapping.ENFORCE_SINGLE_LAYER:
        return lambda _: ("", images.label)
    if mapping is Mapping.INSPECT_SINGLE_FILE and not is_deep(images.names[0]):
        return lambda file: (_folder(file), _folder(file).rpartition("/")[2] or images.label)
    if mapping is Mapping.ENFORCE_LAYER_PER_TOPLEVEL_FOLDER:
        return lambda file: (_top(file), _top(file) or images.label)
    if mapping is Mapping.ENFORCE_LAYER_PER_FOLDER:
        return lambda file: _by_path(_folder(file), images.label)
    if mapping is Mapping.INSPECT_EVERY_FILE:
        return lambda file: _by_path(file if is_deep(file) else _folder(file), images.label)
    return lambda file: _by_path(file, images.label)


def _told(mapping: Callable[[str], str], file: str) -> str:
    name = mapping(file)
    if not isinstance(name, str):
        raise InputError(f"The mapping returned {name!r} for '{file}'; a layer's name was expected. Let it return text.")
    return name


def _folder(file: str) -> str:
    return file.rpartition("/")[0]


def _top(file: str) -> str:
    return file.partition("/")[0] if "/" in file else ""


def _by_path(path: str, label: str) -> tuple[str, str]:
    return path, _path_name(path) or label


def _path_name(path: str) -> str:
    return path.replace("/", "_")


def layer_name(text: str) -> str:
    """Return what a layer may be called: the text without what layer names must not have.

    Examples
    --------
    >>> layer_name("..my (first) stack.tif"), layer_name("???")
    ('myfirststack.tif', 'color')
    """
    kept = "".join(c for c in text if c.isascii() and (c.isalnum() or c in "_$@-.")).lstrip(".")
    return kept[:LONGEST] or "color"


def distinct(names: Iterable[str]) -> list[str]:
    """Return names that differ, by numbers behind those that came before.

    Examples
    --------
    >>> distinct(["em", "em", "em_2", "em"])
    ['em', 'em_2', 'em_2_2', 'em_3']
    """
    taken: dict[str, None] = {}
    counts: dict[str, int] = {}
    for name in names:
        count, unique = counts.get(name, 1), name
        while unique in taken:
            count += 1
            unique = f"{name}_{count}"
        counts[name] = count
        taken[unique] = None
    return list(taken)
