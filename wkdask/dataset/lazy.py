"""What a layer offers to be seen in another place, and stored there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wkdask.arrays.opening import open_mag_array
from wkdask.dataset.store import DatasetStore

if TYPE_CHECKING:
    from wkdask.operations.lazy_layer import LazyLayer


class LazyVerbs:
    """The verb of a layer by which it is seen in another place; a part of `wkdask.Layer`."""

    _store: DatasetStore
    _name: str

    def lazy(self) -> LazyLayer:
        """Return the layer as a value that can be cropped, flipped, swapped, translated and cast, then read or stored.

        Raises
        ------
        InputError
            Where the layer has no magnification.

        Examples
        --------
        >>> from wkdask import BoundingBox, Dataset
        >>> layer = Dataset.open("brain").get_layer("color")
        >>> part = layer.lazy().crop(BoundingBox((16, 16, 4), (32, 16, 8))).flip("z").translate((-16, -16, -4))
        >>> part.read().shape
        (1, 32, 16, 8)
        >>> part.store(Dataset.open("brain"), "part")
        """
        from wkdask.operations.lazy_layer import LazyLayer

        properties = self._store.properties
        layer = properties.layer(self._name)
        arrays = [open_mag_array(self._store.location, properties, layer, mag.mag) for mag in layer.finest_first]
        return LazyLayer.of(layer, arrays, properties.voxel_size)
