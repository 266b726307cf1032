"""What a dataset offers to get layers of a category."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

from wkdask.dataset.deprecations import warn_name
from wkdask.errors import LayerNotFoundError, NotSegmentationError

if TYPE_CHECKING:
    from wkdask.dataset.layer import Layer, SegmentationLayer

Chosen = TypeVar("Chosen", bound="Layer")


class ChooseVerbs:
    """The verbs of a dataset that choose layers; a part of `wkdask.Dataset`."""

    if TYPE_CHECKING:  # of the class that this is a part of

        @property
        def layers(self) -> Mapping[str, Layer]:
            """The layers by name."""

        def get_layer(self, layer_name: str) -> Layer:
            """Return a layer."""

    def get_color_layers(self) -> list[Layer]:
        """Return the color layers, in their order.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> [layer.name for layer in Dataset.open("brain").get_color_layers()]
        ['color']
        """
        return [layer for layer in self.layers.values() if layer.category == "color"]

    def get_segmentation_layers(self) -> list[SegmentationLayer]:
        """Return the segmentation layers, in their order.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> Dataset.open("brain").get_segmentation_layers()
        []
        """
        from wkdask.dataset.layer import SegmentationLayer

        return [layer for layer in self.layers.values() if isinstance(layer, SegmentationLayer)]

    def get_color_layer(self) -> Layer:
        """Return the only color layer: older than `get_color_layers`.

        Raises
        ------
        LayerNotFoundError
            Where there is none, or several.
        """
        warn_name("Dataset.get_color_layer")
        return _only(self.get_color_layers(), "color")

    def get_segmentation_layer(self, layer_name: str | None = None) -> SegmentationLayer:
        """Return a layer that is a segmentation.

        Parameters
        ----------
        layer_name
            Which. Default, which is deprecated: the only one.

        Raises
        ------
        LayerNotFoundError
            Where there is none of this name; without a name, where there is none, or several.
        NotSegmentationError
            Where the layer is no segmentation.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> Dataset.open("brain").get_segmentation_layer("color")
        Traceback (most recent call last):
        ...
        wkdask.errors.NotSegmentationError: Layer 'color' is a color layer, expected a segmentation. Open it with get_layer.
        """
        from wkdask.dataset.layer import SegmentationLayer

        if layer_name is None:
            warn_name("Dataset.get_segmentation_layer()")
            return _only(self.get_segmentation_layers(), "segmentation")
        layer = self.get_layer(layer_name)
        if not isinstance(layer, SegmentationLayer):
            raise NotSegmentationError(
                f"Layer '{layer_name}' is a {layer.category} layer, expected a segmentation. Open it with get_layer."
            )
        return layer


def _only(layers: list[Chosen], category: str) -> Chosen:
    if len(layers) != 1:
        names = ", ".join(layer.name for layer in layers) or "none"
        raise LayerNotFoundError(f"There are {len(layers)} {category} layers ({names}), expected one. Name it: get_layer.")
    return layers[0]
