"""What a dataset offers to show layers of others, which stay where they are: by reference, or by a link."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wkdask.arrays.opening import read_properties
from wkdask.dataset.copying import PathLike, StorageOptions, origin_of
from wkdask.dataset.deprecations import warn_name
from wkdask.dataset.references import link_to, reference_path, require_local
from wkdask.dataset.renaming import located
from wkdask.dataset.store import DatasetStore
from wkdask.errors import LayerExistsError, UnfitError
from wkdask.metadata import LayerProperties, Properties, validate_layer_name
from wkdask.operations.copying import Origin
from wkdask.operations.existing import resolved
from wkdask.storage import Location

if TYPE_CHECKING:
    from wkdask.dataset.layer import Layer


class LayerReferenceVerbs:
    """The verbs of a dataset that show layers of others; a part of `wkdask.Dataset`."""

    _store: DatasetStore

    if TYPE_CHECKING:  # of the class that this is a part of

        def get_layer(self, layer_name: str) -> Layer:
            """Return a layer."""

    def add_layer_as_ref(
        self, foreign_layer: PathLike | Layer, new_layer_name: str | None = None, *, storage_options: StorageOptions = None
    ) -> Layer:
        """Add a layer of another dataset, which stays where it is: the JSON gets paths or URLs of its parts.

        Its magnifications are only read from here; further ones can be added, and lie in this dataset.

        Parameters
        ----------
        foreign_layer
            The layer, or its folder.
        new_layer_name
            Default: its name.
        storage_options
            Of the layer where it is a URL, as in `Dataset`. They hold as long as this dataset is open: no document keeps them.

        Raises
        ------
        LayerExistsError
            Where there is a layer of this name.
        UnfitError
            Where it is a layer of this dataset.
        ReadOnlyError
            Where the dataset was opened for reading only.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> dataset = Dataset("memory://composed", (4, 4, 35))
        >>> layer = dataset.add_layer_as_ref(Dataset.open("brain").get_layer("color"), "em")
        >>> layer.is_foreign, [str(mag) for mag in layer.mags]
        (True, ['1', '2-2-1', '4-4-1'])
        """
        origin, name = self._foreign(foreign_layer, new_layer_name, storage_options)
        source = read_properties(origin.dataset).layer(origin.layer)

        def placed(place: Location) -> str:
            self._store.know(place)
            return reference_path(self._store.location, place)

        self._add(name, located(source, origin.dataset, placed))
        return self.get_layer(name)

    def add_remote_layer(
        self, foreign_layer: PathLike | Layer, new_layer_name: str | None = None, *, storage_options: StorageOptions = None
    ) -> Layer:
        """Add a layer of another dataset, which stays where it is: the older name of `add_layer_as_ref`."""
        warn_name("Dataset.add_remote_layer")
        return self.add_layer_as_ref(foreign_layer, new_layer_name, storage_options=storage_options)

    def add_symlink_layer(
        self, foreign_layer: PathLike | Layer, make_relative: bool = False, new_layer_name: str | None = None
    ) -> Layer:
        """Add a layer of another dataset by a link to its folder; both datasets are local. The layer is read-only.

        Parameters
        ----------
        foreign_layer
            The layer, or its folder.
        make_relative
            Whether the link is a relative one, so that both datasets can be moved together.
        new_layer_name
            Default: its name.

        Raises
        ------
        LayerExistsError
            Where there is a layer of this name.
        NotLocalError
            Where one of both datasets is not local.
        UnfitError
            Where both are the same.
        InputError
            Where something else has the link's name.
        ReadOnlyError
            Where the dataset was opened for reading only.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> layer = Dataset("linked", (4, 4, 35)).add_symlink_layer("brain/color", make_relative=True, new_layer_name="em")
        >>> layer.read_only, layer.get_mag(1).read().shape == Dataset.open("brain").get_layer("color").get_mag(1).read().shape
        (True, True)
        """
        origin, name = self._foreign(foreign_layer, new_layer_name)
        target, folder = self._store.location, origin.dataset / origin.layer
        require_local(folder, target)  # before it is looked for
        source = read_properties(origin.dataset).layer(origin.layer)

        def placed(place: Location) -> str:
            inside = place.url.removeprefix(f"{folder.url}/")
            return place.documented if inside == place.url else f"./{name}/{inside}"

        link_to(folder, target / name, relative=make_relative)
        try:
            self._add(name, located(source, origin.dataset, placed))
        except BaseException:
            (target / name).delete()
            raise
        return self.get_layer(name)

    def _foreign(self, layer: PathLike | Layer, name: str | None, storage_options: StorageOptions = None) -> tuple[Origin, str]:
        """Return a layer of another dataset, and the name that it gets here, where it may have that."""
        self._store.require_writable()
        origin = origin_of(layer, storage_options)
        if resolved(origin.dataset) == resolved(self._store.location):
            raise UnfitError(
                f"Layer '{origin.layer}' belongs to {origin.dataset} itself. Copy it, or give one of another dataset."
            )
        chosen = validate_layer_name(name or origin.layer)
        self._require_new(self._store.properties, chosen)
        return origin, chosen

    def _require_new(self, properties: Properties, name: str) -> None:
        if name in properties.layer_names:
            raise LayerExistsError(f"{self._store.location} has a layer '{name}' already. Choose another name.")

    def _add(self, name: str, layer: LayerProperties) -> None:
        renamed = LayerProperties.from_dict({**layer.to_dict(), "name": name}, "layer")

        def added(old: Properties) -> Properties:
            self._require_new(old, name)
            return old.with_layer(renamed)

        self._store.update(added)
