"""What a dataset offers to make another one of the same files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from wkdask.arrays.opening import place_of
from wkdask.dataset.copying import CopyVerbs, StorageOptions, opened, origin_of
from wkdask.dataset.deprecations import warn_name
from wkdask.dataset.references import link_to
from wkdask.dataset.renaming import located
from wkdask.errors import DatasetExistsError, NotLocalError
from wkdask.metadata import FILE_NAME, LayerProperties, validate_layer_name
from wkdask.operations.copying_shape import Wishes
from wkdask.operations.existing import attachment_place, attachments_of
from wkdask.storage import Location

if TYPE_CHECKING:
    from wkdask.dataset.dataset import Dataset
    from wkdask.dataset.layer import Layer

PathLike = str | os.PathLike[str]


class ShallowCopyVerbs(CopyVerbs):
    """The verbs of a dataset that copy files as they are, or none; a part of `wkdask.Dataset`."""

    def shallow_copy_dataset(
        self,
        new_dataset_path: PathLike | Location,
        name: str | None = None,
        make_relative: bool = False,
        layers_to_ignore: Iterable[str] | None = None,
        *,
        storage_options: StorageOptions = None,
    ) -> Dataset:
        """Make a dataset of the same files, with a JSON of its own.

        No voxel is copied, and none can be changed or deleted through the new dataset; layers and magnifications that are
        added to it are its own.

        Parameters
        ----------
        new_dataset_path
            A folder or URL that is new.
        name
            Of the new dataset; default: the folder's name.
        make_relative
            Whether each layer becomes a relative symbolic link to its folder, so that both datasets may be moved together;
            else the JSON refers to the files by absolute paths or URLs.
        layers_to_ignore
            Layers that are left out.
        storage_options
            Of the new dataset where it is a URL, as in `Dataset`.

        Raises
        ------
        DatasetExistsError
            Where something is there already.
        NotLocalError
            Where links are asked for and one of the datasets is not in a local folder.
        LayerNotFoundError
            Where a layer to ignore is not there.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> view = Dataset.open("brain").shallow_copy_dataset("view-of-brain")
        >>> view.get_layer("color").get_mag(1).read().shape
        (1, 64, 48, 20)
        """
        source, target = self._store.location, Location.of(new_dataset_path, storage_options)
        if make_relative and not (source.is_local and target.is_local):
            raise NotLocalError(f"{source} or {target} is no local folder, so there can be no links. Leave out make_relative.")
        if target.is_file() or target.names():
            raise DatasetExistsError(f"{target} exists already. Give a folder that is empty or new.")
        old = self._store.properties
        ignored = {old.layer(ignored).name for ignored in layers_to_ignore or ()}
        layers = [layer for layer in old.data_layers if layer.name not in ignored]
        new = [_shown(source, layer, linked=make_relative) for layer in layers]
        for layer in layers if make_relative else []:
            folder = source / validate_layer_name(layer.name)
            if folder.is_folder():
                link_to(folder, target / layer.name, relative=True)
        like = old.with_name(name or target.name)
        if not (target / FILE_NAME).create(like.model_copy(update={"data_layers": tuple(new)}).to_json()):
            raise DatasetExistsError(f"{target} has just become a dataset. Give another folder.")
        return opened(_knowing_parts(target, source, layers))

    def fs_copy_dataset(
        self,
        new_dataset_path: PathLike | Location,
        *,
        exists_ok: bool = False,
        layers_to_ignore: Iterable[str] | None = None,
        storage_options: StorageOptions = None,
    ) -> Dataset:
        """Copy the dataset file by file: an older name of `copy_dataset`, which does so where nothing is to change."""
        warn_name("Dataset.fs_copy_dataset")
        return self.copy_dataset(
            new_dataset_path, exists_ok=exists_ok, layers_to_ignore=layers_to_ignore, storage_options=storage_options
        )

    def add_fs_copy_layer(
        self, foreign_layer: PathLike | Layer, new_layer_name: str | None = None, *, storage_options: StorageOptions = None
    ) -> Layer:
        """Copy a layer file by file: an older name of `add_layer_as_copy`, which does so where nothing is to change."""
        warn_name("Dataset.add_fs_copy_layer")
        return self._copied_layer(origin_of(foreign_layer, storage_options), new_layer_name, Wishes())


def _shown(source: Location, layer: LayerProperties, *, linked: bool) -> LayerProperties:
    """Return a layer as another dataset lists it, which may have a link to the layer's folder."""
    inside = f"{source.url}/{layer.name}/"

    def placed(place: Location) -> str:
        return f"./{place.url.removeprefix(f'{source.url}/')}" if linked and place.url.startswith(inside) else place.documented

    return located(layer, source, placed)


def _knowing_parts(target: Location, source: Location, layers: Iterable[LayerProperties]) -> Location:
    """Return the place of a dataset that knows how to get to all parts of layers of another one."""
    for layer in layers:
        for mag in layer.mags:
            target = target.knowing(place_of(source, layer.name, mag))
        for attachment in attachments_of(layer):
            target = target.knowing(attachment_place(source, attachment))
    return target
