"""Composing: a new dataset of layers of several others, each at its place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from wkdask.dataset.arguments import VoxelSizeLike, voxel_size_of
from wkdask.dataset.copying import PathLike, StorageOptions, origin_of
from wkdask.dataset.dataset import Dataset
from wkdask.dataset.layer import Layer
from wkdask.dataset.references import require_local
from wkdask.dataset.showing import steps_of
from wkdask.errors import InputError
from wkdask.metadata import AffineCoordinateTransformation, CoordinateTransformation, Properties, VoxelSize, validate_layer_name
from wkdask.operations.copying import plan_copy_layer
from wkdask.storage import Location

Way = Literal["reference", "copy", "link"]
WAYS: tuple[Way, ...] = ("reference", "copy", "link")


@dataclass(frozen=True, slots=True)
class Component:
    """A layer of a composed dataset, and how it gets there.

    Parameters
    ----------
    layer
        A layer, or its folder.
    transformation
        What leads from voxels of the layer's dataset to those of the new one. None: the layers' voxel sizes decide, so that
        they lie on each other at the same nanometers.
    way
        ``"reference"``: its data stay where they are, by their paths or URLs; ``"copy"``; ``"link"``: a symbolic link to its
        folder.
    storage_options
        Of the layer where it is a URL, as in `Dataset`.
    """

    layer: Layer | PathLike
    transformation: CoordinateTransformation | Sequence[CoordinateTransformation] | None = None
    way: Way = "reference"
    storage_options: StorageOptions = field(default=None, repr=False)


def compose(
    dataset_path: PathLike | Location,
    layers: Mapping[str, Layer | Component] | Iterable[Layer | Component],
    voxel_size: VoxelSizeLike | None = None,
    name: str | None = None,
    *,
    voxel_size_with_unit: VoxelSize | None = None,
    storage_options: StorageOptions = None,
) -> Dataset:
    """Make a dataset of layers of several others.

    Transformations that a layer has already come first; then what its component says. Data are neither resampled nor changed.

    Parameters
    ----------
    dataset_path
        A folder or URL that is new.
    layers
        The layers by the names that they get, or a list, in which each keeps its own. A layer alone is a reference to it.
    voxel_size, voxel_size_with_unit
        Of the new dataset, in nanometer or any unit; default: that of the first layer's.
    name
        Default: the folder's name.
    storage_options
        Of the new dataset where it is a URL, as in `Dataset`; of layers, their components have some.

    Raises
    ------
    InputError
        There is no layer, or two have one name, or one that no layer may have; nothing is made.
    NotLocalError
        A link is asked for where one of both datasets is not local; nothing is made.
    DatasetExistsError
        Something is there already.

    Examples
    --------
    >>> import wkdask as wk
    >>> em = wk.Dataset.open("brain").get_layer("color")
    >>> moved = wk.AffineCoordinateTransformation.from_translation((100, 0, 0))
    >>> both = wk.compose("both", {"em": em, "beside": wk.Component(em, moved, "copy")})
    >>> list(both.layers), both.get_layer("em").is_foreign, both.get_layer("beside").is_foreign
    (['em', 'beside'], True, False)
    >>> both.get_layer("beside").coordinate_transformations == (moved,)
    True
    """
    parts = _named(layers)
    foreign = {title: _opened(part) for title, part in parts.items()}
    target = Location.of(dataset_path, storage_options)
    for title, part in parts.items():
        if part.way == "link":
            require_local(foreign[title][0]._store.location, target)
    size = voxel_size_of(voxel_size, voxel_size_with_unit) or next(iter(foreign.values()))[1].voxel_size
    scales = {title: _scale(found, size) for title, (_, found) in foreign.items()}
    dataset = Dataset(target, name=name, exist_ok=False, voxel_size_with_unit=size)
    for title, part in parts.items():
        layer, _ = foreign[title]
        _add(dataset, title, part, layer)
        further = scales[title] if part.transformation is None else steps_of(part.transformation)
        if further:
            added = dataset.get_layer(title)
            added.coordinate_transformations = (*added.coordinate_transformations, *further)
    return dataset


def _named(layers: Mapping[str, Layer | Component] | Iterable[Layer | Component]) -> dict[str, Component]:
    """Return the components by the names of their layers."""
    pairs: list[tuple[str | None, Layer | Component]] = (
        list(layers.items()) if isinstance(layers, Mapping) else [(None, one) for one in layers]
    )
    found: dict[str, Component] = {}
    for title, one in pairs:
        part = one if isinstance(one, Component) else Component(one)
        if part.way not in WAYS:
            raise InputError(f"A layer can not be added as {part.way!r}. Use one of {', '.join(WAYS)}.")
        steps_of(part.transformation)
        chosen = validate_layer_name(origin_of(part.layer).layer if title is None else title)
        if chosen in found:
            raise InputError(f"Two layers are to be named '{chosen}'. Give them as a dict, by names of their own.")
        found[chosen] = part
    if not found:
        raise InputError("There are no layers, so there is nothing to compose. Give one at least.")
    return found


def _opened(part: Component) -> tuple[Layer, Properties]:
    """Return a component's layer, and what the JSON of its dataset says."""
    origin = origin_of(part.layer, part.storage_options)
    dataset = Dataset.open(origin.dataset, read_only=True)
    return dataset.get_layer(origin.layer), dataset.properties


def _scale(source: Properties, size: VoxelSize) -> list[AffineCoordinateTransformation]:
    """Return what leads from the voxels of a dataset to those of another size; nothing where they are the same."""
    if source.voxel_size == size:
        return []
    edges = zip(source.voxel_size.to_nanometer(), size.to_nanometer(), strict=True)
    return [AffineCoordinateTransformation.from_scale([theirs / ours for theirs, ours in edges])]


def _add(dataset: Dataset, title: str, part: Component, layer: Layer) -> None:
    if part.way == "reference":
        dataset.add_layer_as_ref(layer, title)
    elif part.way == "link":
        dataset.add_symlink_layer(layer, new_layer_name=title)
    else:
        plan = plan_copy_layer(origin_of(layer), dataset._store.location, title, dataset=dataset.properties)
        if plan.stages:
            plan.run()
