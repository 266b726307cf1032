"""An existing layer that gets a magnification of voxels that were computed, and grows to hold the first one."""

from __future__ import annotations

from dataclasses import dataclass

from wkdask.errors import PlanRefusedError
from wkdask.metadata import LayerProperties, Properties
from wkdask.operations.target import MoreMags


@dataclass(frozen=True)
class IntoLayer(MoreMags):
    """Magnifications of a layer that is there, whose box may grow when the first of them is listed.

    Parameters
    ----------
    before
        The layer's box as the plan found it: corner and size.
    first
        Whether no reader knows a magnification of the layer yet.
    """

    before: tuple[tuple[int, int, int], tuple[int, int, int]] = ((0, 0, 0), (0, 0, 0))
    first: bool = False

    def _require_box(self, layer: LayerProperties) -> None:
        """Refuse where the layer's box is neither what it was nor what it is to be."""
        found = layer.bounding_box
        if (found.top_left, found.size) != self.before:
            super()._require_box(layer)

    def _listed(self, old: bytes | None, low: float | None, high: float | None) -> tuple[Properties, LayerProperties]:
        """Return the layer with its new box, and what its voxels told: contrast window, or largest segment id."""
        properties, layer = super()._listed(old, low, high)
        planned = self.properties.bounding_box
        if (planned.top_left, planned.size) != self.before:
            if not layer.mags:
                layer = layer.with_bounding_box((planned.top_left, planned.size))
            elif layer.bounding_box != planned:
                raise PlanRefusedError(
                    f"Layer '{layer.name}' in {self.journal.target} got the box {layer.bounding_box.top_left}, "
                    f"{layer.bounding_box.size} while another was stored: {planned.top_left}, {planned.size}. Delete it."
                )
        return properties, self._told(layer, low, high)

    def _told(self, layer: LayerProperties, low: float | None, high: float | None) -> LayerProperties:
        if low is None or high is None:
            return layer
        if layer.category == "segmentation":
            known = layer.largest_segment_id
            return layer.updated(largest_segment_id=max(int(high), known or 0)) if self.first or known is not None else layer
        return layer.with_view_configuration(min=float(low), max=float(high)) if self.first else layer

    def _with_level(self, old: bytes | None, number: int, low: float | None, high: float | None) -> bytes:
        if self.mags[number] in self.anew:
            properties, layer = self._listed(old, low, high)
            return properties.with_layer(layer).to_json()
        return super()._with_level(old, number, low, high)
