"""``xarray.open_dataset(path, engine="wkdask")``: datasets of WEBKNOSSOS as xarray's, each magnification read lazily."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core import indexing

from wkdask.arrays.dask_view import plan_blocks
from wkdask.arrays.mag_array import MagArray
from wkdask.arrays.opening import open_mag_array, open_mag_arrays, read_properties
from wkdask.arrays.xarray_view import attributes, coordinates
from wkdask.errors import LayerNotFoundError, MagNotFoundError, WkdaskError
from wkdask.geometry.grid import Box
from wkdask.metadata import FILE_NAME, LayerProperties, Properties
from wkdask.storage import Location, is_place


class LazyMag(BackendArray):
    """The bounding box of a mag array as xarray's backends want it: an index is read when it is asked for."""

    def __init__(self, array: MagArray) -> None:
        self.array = array
        self.shape = array.shape
        self.dtype = array.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray[Any, Any]:
        found: np.ndarray[Any, Any] = indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, self._read
        )
        return found

    def _read(self, key: tuple[int | slice, ...]) -> np.ndarray[Any, Any]:
        ranges = [
            range(n)[k] if isinstance(k, slice) else range(n)[k : k + 1 or n] for k, n in zip(key, self.shape, strict=True)
        ]
        box = Box(tuple(min(r, default=0) for r in ranges), tuple(max(r, default=-1) + 1 for r in ranges))
        block = self.array.read(box.shifted(self.array.box.start))
        return block[tuple(slice(None, None, k.step) if isinstance(k, slice) else 0 for k in key)]


class WkdaskBackend(BackendEntrypoint):
    """Opens one magnification as a dataset, or all layers and magnifications as a tree.

    Examples
    --------
    >>> import xarray as xr
    >>> dict(xr.open_dataset("brain", engine=WkdaskBackend, layer="color", mag="2-2-1", chunks={}).sizes)
    {'c': 1, 'x': 32, 'y': 24, 'z': 20}
    >>> xr.open_datatree("brain", engine=WkdaskBackend)["color/2-2-1/color"].shape
    (1, 32, 24, 20)
    """

    description = "WEBKNOSSOS datasets: folders with a datasource-properties.json"
    supports_groups = True
    open_dataset_parameters: ClassVar[tuple[str, ...]] = (
        "filename_or_obj",
        "drop_variables",
        "layer",
        "mag",
        "storage_options",
    )

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Whether this is a folder or URL with the JSON of a dataset."""
        if not is_place(filename_or_obj):
            return False
        try:
            return (_location(filename_or_obj) / FILE_NAME).is_file()
        except (WkdaskError, OSError, ValueError, ImportError):
            return False

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        layer: str | None = None,
        mag: Any = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> xr.Dataset:
        """Open one magnification.

        Parameters
        ----------
        filename_or_obj
            Path or URL of a dataset's folder, or of its JSON.
        drop_variables
            Names that are left out.
        layer
            By default the only one.
        mag
            In any spelling; by default the finest.
        storage_options
            For fsspec: credentials, endpoints.

        Raises
        ------
        LayerNotFoundError, MagNotFoundError
            There is no such thing, or several layers and none was named.
        """
        location = _location(filename_or_obj, storage_options)
        properties = read_properties(location)
        found = _layer(properties, layer)
        wanted = _finest(found) if mag is None else found.mag(mag).mag
        return _dataset(open_mag_array(location, properties, found, wanted), found.name, drop_variables)

    def open_groups_as_dict(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> dict[str, xr.Dataset]:
        """Open all magnifications of all layers: ``/``, ``/color``, ``/color/1`` and so on."""
        groups = {"/": xr.Dataset()}
        for layer, mags in open_mag_arrays(_location(filename_or_obj, storage_options)).items():
            groups[f"/{layer}"] = xr.Dataset()
            groups |= {f"/{layer}/{mag}": _dataset(array, layer, drop_variables) for mag, array in mags.items()}
        return groups

    def open_datatree(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> xr.DataTree:
        """Open a dataset as a tree: a node for each layer, in it one for each magnification."""
        groups = self.open_groups_as_dict(filename_or_obj, drop_variables=drop_variables, storage_options=storage_options)
        return xr.DataTree.from_dict(groups)


def _location(place: Any, options: Mapping[str, Any] | None = None) -> Location:
    location = Location.of(place, options)
    return location.parent if location.name == FILE_NAME else location


def _layer(properties: Properties, name: str | None) -> LayerProperties:
    if name is not None:
        return properties.layer(name)
    if len(properties.data_layers) != 1:
        there = ", ".join(map(repr, properties.layer_names)) or "none"
        raise LayerNotFoundError(f"The dataset has the layers {there}; one is opened at a time. Name it: layer='…'.")
    return properties.data_layers[0]


def _finest(layer: LayerProperties) -> tuple[int, int, int]:
    if not layer.mags:
        raise MagNotFoundError(f"Layer {layer.name!r} has no magnification. Add one, or open another layer.")
    return min((mag.mag for mag in layer.mags), key=lambda mag: (max(mag), mag))


def _dataset(array: MagArray, name: str, drop: str | Iterable[str] | None) -> xr.Dataset:
    chunks = dict(zip(array.axes, plan_blocks(array).chunks(), strict=True))
    lazy = indexing.LazilyIndexedArray(LazyMag(array))
    variable = xr.Variable(array.axes, lazy, attributes(array), {"preferred_chunks": chunks})
    dataset = xr.Dataset({name: variable}, coordinates(array))
    dropped = {drop} if isinstance(drop, str) else set(drop or ())
    return dataset.drop_vars(dropped & set(dataset.variables))
