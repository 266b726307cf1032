"""How datasets and layers are shown, and where layers lie among the others of a dataset; all of it is in the JSON alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from wkdask.dataset.store import DatasetStore
from wkdask.errors import InputError
from wkdask.metadata import DatasetViewConfiguration, LayerProperties, LayerViewConfiguration
from wkdask.metadata.chain import CoordinateTransformation, SingleTransformation
from wkdask.metadata.transformation import parse_transformations


class DatasetShowing:
    """The part of `wkdask.Dataset` that says how it is shown."""

    _store: DatasetStore

    @property
    def default_view_configuration(self) -> DatasetViewConfiguration | None:
        """How the dataset is shown at first sight: an immutable value; setting one, or None, saves.

        Keys of the one before that are not known here go with it, unless the new one is made by ``updated``.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> from wkdask.metadata import DatasetViewConfiguration
        >>> brain = Dataset.open("brain")
        >>> brain.default_view_configuration = DatasetViewConfiguration(position=(24, 24, 10), zoom=0.5)
        >>> brain.default_view_configuration = brain.default_view_configuration.updated(zoom=2)
        >>> Dataset.open("brain").default_view_configuration.to_dict()
        {'zoom': 2, 'position': [24, 24, 10]}
        """
        return self._store.properties.default_view_configuration

    @default_view_configuration.setter
    def default_view_configuration(self, value: DatasetViewConfiguration | None) -> None:
        _require(value, DatasetViewConfiguration)
        self._store.update(lambda old: old.updated(default_view_configuration=value))


class LayerShowing:
    """The part of `wkdask.Layer` that says how it is shown, and where."""

    _store: DatasetStore
    _name: str

    @property
    def default_view_configuration(self) -> LayerViewConfiguration | None:
        """How the layer is shown at first sight: an immutable value; setting one, or None, saves.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> from wkdask.metadata import LayerViewConfiguration
        >>> layer = Dataset.open("brain").get_layer("color")
        >>> layer.default_view_configuration = LayerViewConfiguration(color=(255, 0, 0), intensity_range=(10, 200))
        >>> layer.default_view_configuration.color
        (255, 0, 0)
        """
        return self._store.properties.layer(self._name).default_view_configuration

    @default_view_configuration.setter
    def default_view_configuration(self, value: LayerViewConfiguration | None) -> None:
        _require(value, LayerViewConfiguration)
        self._change(lambda old: old.updated(default_view_configuration=value))

    @property
    def coordinate_transformations(self) -> tuple[SingleTransformation, ...]:
        """What leads from the layer's voxels to the dataset's, applied first to last; setting saves.

        It can be set to one transformation, a chain, several, or to none by ``()`` or None. No voxel is moved by it: viewers
        apply it.

        Raises
        ------
        MetadataError
            Where the JSON has one that is not what its type says.

        Examples
        --------
        >>> from wkdask import AffineCoordinateTransformation, Dataset
        >>> layer = Dataset.open("brain").get_layer("color")
        >>> layer.coordinate_transformations = AffineCoordinateTransformation.from_translation((100, 0, 0))
        >>> [found.apply([(0, 0, 0)]).tolist() for found in layer.coordinate_transformations]
        [[[100.0, 0.0, 0.0]]]
        """
        layer = self._store.properties.layer(self._name)
        return parse_transformations(layer.coordinate_transformations, f"{self._store.document}, layer '{self._name}'")

    @coordinate_transformations.setter
    def coordinate_transformations(self, value: CoordinateTransformation | Sequence[CoordinateTransformation] | None) -> None:
        raw = [step.to_dict() for step in steps_of(value)]
        self._change(lambda old: old.updated(coordinate_transformations=raw or None))

    def _change(self, change: Callable[[LayerProperties], LayerProperties]) -> None:
        self._store.update(lambda old: old.with_layer(change(old.layer(self._name))))


def steps_of(value: CoordinateTransformation | Sequence[CoordinateTransformation] | None) -> list[SingleTransformation]:
    """Return transformations, given in any of the ways that setting them takes, one by one.

    Raises
    ------
    InputError
        One of them is something else.
    """
    if value is None:
        return []
    parts: list[Any] = [value] if isinstance(value, CoordinateTransformation) else list(value)
    for part in parts:
        if not isinstance(part, CoordinateTransformation):
            kinds = "AffineCoordinateTransformation or ThinPlateSplineCoordinateTransformation"
            raise InputError(f"A {type(part).__name__} is no coordinate transformation. Give an {kinds}.")
    return [step for part in parts for step in part.steps]


def _require(value: object, kind: type) -> None:
    if value is not None and not isinstance(value, kind):
        raise InputError(f"A {type(value).__name__} is no view configuration. Give a {kind.__name__}, or None.")
