"""Giving a layer another name: its folder moves, and all that the JSON says of it follows.

The JSON is replaced first, with the new name and the old places; then the folder is moved; then the JSON gets the new places.
Links from one place of the dataset to another follow. Killed at any moment, the layer is readable, by its new name once the
JSON has it. Giving it the same name again ends the work.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from wkdask.arrays.opening import place_of
from wkdask.dataset.store import DatasetStore
from wkdask.errors import DatasetError, InputError, MetadataError, PlanRefusedError
from wkdask.metadata import LayerProperties, MagProperties, PathKind, Properties, classify_path, resolve_relative
from wkdask.metadata.path import validate_layer_name
from wkdask.operations.existing import resolved
from wkdask.plan import unfinished_jobs
from wkdask.storage import WORK_FOLDER, Location
from wkdask.storage.document import exclusively
from wkdask.storage.events import notify
from wkdask.storage.explained import explained


def rename_layer(store: DatasetStore, old: str, new: str) -> None:
    """Rename a layer, or end a renaming that was killed.

    Raises
    ------
    InputError
        Where no layer may have the new name, or another one, or something else in the dataset's folder, has it.
    DatasetError
        Where the dataset is not local.
    PlanRefusedError
        Where a run for the layer is unfinished.
    ReadOnlyError
        Where nothing may be changed.
    """
    store.require_writable()
    location = store.location
    validate_layer_name(new)
    if not location.is_local:
        raise DatasetError(f"{location} is not a local folder, so its layer '{old}' can not be renamed. Copy it to a new name.")
    with exclusively(location / WORK_FOLDER, f"{location.url}/ names"):
        properties = store.properties
        said = _folder_of(properties, properties.layer(old))
        folder = said if os.path.lexists((location / said).url) else old  # moved before it was killed
        _require_free(location, properties, old, new, folder)
        store.update(lambda found: _named(found, old, new, location))
        _move(location / folder, location / new)
        _move(location / WORK_FOLDER / "receipts" / folder, location / WORK_FOLDER / "receipts" / new)
        for link in _links(location, store.properties, said, new):
            _turn(link, location, said, new)
        store.update(lambda found: _followed(found, location, said, new))


def _require_free(location: Location, properties: Properties, old: str, new: str, folder: str) -> None:
    if new != old and new in properties.layer_names:
        raise InputError(f"{location} has a layer '{new}' already. Choose another name.")
    there = os.path.lexists((location / new).url)
    if there and (new != old or (new != folder and os.path.lexists((location / folder).url))):
        raise InputError(f"{location / new} exists, but is no layer of the dataset. Choose another name, or delete it.")
    if jobs := {old, new} & set(unfinished_jobs(location)):
        raise PlanRefusedError(f"{location} holds an unfinished run for layer '{min(jobs)}'. Run it again first, or cancel it.")


def _folder_of(properties: Properties, layer: LayerProperties) -> str:
    """Return the name of a layer's folder by its JSON: its own, unless a renaming was killed."""
    found = set()
    for mag in layer.mags:
        if mag.path is not None and mag.path_kind is PathKind.RELATIVE:
            found.add(_top(mag.path))
    found -= set(properties.layer_names) - {layer.name}
    return layer.name if layer.name in found or len(found) != 1 else found.pop()


def _top(path: str) -> str:
    try:
        return resolve_relative(path).partition("/")[0]
    except MetadataError:
        return ""


def _move(folder: Location, target: Location) -> None:
    """Move a folder, or a link, unless that was done before."""
    if folder != target and os.path.lexists(folder.url):
        with explained(target, "written"):
            os.rename(folder.url, target.url)
        notify("move", target.url)


def _links(location: Location, properties: Properties, old: str, new: str) -> Iterator[str]:
    """Yield the links by which the dataset has layers, magnifications and attachments, after a folder was moved."""
    for layer in properties.data_layers:
        paths = [f"./{layer.name}", *(f"./{layer.name}/{mag.name}" for mag in layer.mags)]
        repathed(layer, lambda path, paths=paths: paths.append(path) or path)  # type: ignore[misc]
        for path in paths:
            with suppress(MetadataError):  # of a path that leads elsewhere, or nowhere
                top, mark, rest = resolve_relative(path).partition("/")
                link = (location / f"{new if top == old else top}{mark}{rest}").url
                if os.path.islink(link):
                    yield link


def _turn(link: str, location: Location, old: str, new: str) -> None:
    """Let a link into a folder that was moved lead to where that is now; others stay."""
    aim = os.readlink(link)
    there = os.path.normpath(os.path.join(os.path.realpath(os.path.dirname(link)), aim))
    for base in (location.url, resolved(location)):
        if f"{there}/".startswith(f"{base}/{old}/"):
            turned = f"{base}/{new}{there.removeprefix(f'{base}/{old}')}"
            if not os.path.isabs(aim):
                turned = os.path.relpath(turned, os.path.realpath(os.path.dirname(link)))
            beside = f"{link}.turned"
            with suppress(FileNotFoundError):  # of a renaming that was killed
                os.unlink(beside)
            with explained(Location(link), "made"):
                os.symlink(turned, beside, target_is_directory=True)
                os.replace(beside, link)
            return


def _named(properties: Properties, old: str, new: str, location: Location) -> Properties:
    """Return the dataset with a layer of another name, whose parts are where they were."""
    if new != old and new in properties.layer_names:
        raise InputError(f"The dataset has a layer '{new}' already. Choose another name.")
    layer = properties.layer(old)
    raw = layer.model_copy(update={"mags": tuple(_placed(mag, old, location) for mag in layer.mags)}).to_dict()
    renamed = LayerProperties.from_dict({**raw, "name": new}, "layer")
    layers = tuple(renamed if found is layer else found for found in properties.data_layers)
    views = {
        key: type(view).from_dict(_renamed_view(view.to_dict(), old, new), key)
        for key in ("default_view_configuration", "admin_view_configuration")
        if (view := getattr(properties, key)) is not None
    }
    return properties.model_copy(update={"data_layers": layers, **views})


def _placed(mag: MagProperties, layer: str, location: Location) -> MagProperties:
    """Return a magnification whose place does not depend on the layer's name: where it lies, by its short or its long name."""
    return mag if mag.path is not None else mag.updated(path=f"./{layer}/{place_of(location, layer, mag).name}")


def _renamed_view(view: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    """Return a dataset's view configuration that speaks of a layer by its new name."""
    found = dict(view)
    if isinstance(shown := found.get("layers"), dict):
        found["layers"] = {new if name == old else name: said for name, said in shown.items()}
    if isinstance(order := found.get("colorLayerOrder"), list):
        found["colorLayerOrder"] = [new if name == old else name for name in order]
    if found.get("nativelyRenderedLayerName") == old:
        found["nativelyRenderedLayerName"] = new
    return found


def repathed(layer: LayerProperties, change: Callable[[str], str]) -> LayerProperties:
    """Return a layer with other paths of its magnifications and attachments; all else stays.

    Examples
    --------
    >>> layer = LayerProperties.new("seg", "segmentation", "uint8", 1, "zarr3", ((0, 0, 0), (8, 8, 8)))
    >>> layer = layer.with_mag(MagProperties.new(1, path="./a/1"))
    >>> repathed(layer, lambda path: path.replace("a", "b")).mags[0].path
    './b/1'
    """
    raw = layer.to_dict()
    raw["mags"] = [mag | ({"path": change(mag["path"])} if "path" in mag else {}) for mag in raw["mags"]]
    for kind, found in raw.get("attachments", {}).items():
        if isinstance(found, list):
            raw["attachments"][kind] = [_with_path(one, change) for one in found]
        else:
            raw["attachments"][kind] = _with_path(found, change)
    return LayerProperties.from_dict(raw, "layer")


def _with_path(attachment: Any, change: Callable[[str], str]) -> Any:
    if isinstance(attachment, dict) and isinstance(attachment.get("path"), str):
        return {**attachment, "path": change(attachment["path"])}
    return attachment


def _followed(properties: Properties, location: Location, old: str, new: str) -> Properties:
    """Return the dataset after a folder was moved, with the paths of all parts of layers that lie in it."""

    def moved(path: str) -> str:
        inside = path
        for base in (location.url, resolved(location)):  # they differ where the dataset was reached by a link
            inside = inside.removeprefix(f"{base}/{old}/")
        if inside == path and classify_path(path) is PathKind.RELATIVE and _top(path) == old:
            inside = resolve_relative(path).partition("/")[2]
        return path if inside == path else f"./{new}/{inside}"

    layers = tuple(repathed(layer, moved) for layer in properties.data_layers)
    return properties.model_copy(update={"data_layers": layers}) if old != new else properties


def located(layer: LayerProperties, dataset: Location, placed: Callable[[Location], str]) -> LayerProperties:
    """Return a layer of a dataset whose parts have the paths that are made of their places.

    Parameters
    ----------
    layer, dataset
        The layer, and its dataset.
    placed
        Returns the path of a place.
    """
    known = tuple(mag.updated(path=placed(place_of(dataset, layer.name, mag))) for mag in layer.mags)
    others = repathed(layer.without_mags(), lambda path: placed(_place(dataset, path)))
    return others.model_copy(update={"mags": known})


def _place(dataset: Location, path: str) -> Location:
    return dataset / resolve_relative(path) if classify_path(path) is PathKind.RELATIVE else dataset.linked(path)
