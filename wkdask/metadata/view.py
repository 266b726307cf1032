"""How WEBKNOSSOS shows a dataset and its layers at first sight."""

from __future__ import annotations

from typing import Any

from pydantic import StrictBool, StrictStr

from wkdask.metadata.document import Document, Number


class LayerViewConfiguration(Document):
    """How one layer is shown; what is None is left to the viewer.

    Examples
    --------
    >>> LayerViewConfiguration(color=(255, 0, 0), is_inverted=True).to_dict()
    {'color': [255, 0, 0], 'isInverted': True}
    """

    color: tuple[Number, Number, Number] | None = None
    alpha: Number | None = None
    intensity_range: tuple[Number, Number] | None = None
    min: Number | None = None
    max: Number | None = None
    is_disabled: StrictBool | None = None
    is_inverted: StrictBool | None = None
    is_in_edit_mode: StrictBool | None = None
    mapping: dict[str, Any] | None = None


class DatasetViewConfiguration(Document):
    """How a dataset is shown; what is None is left to the viewer.

    Examples
    --------
    >>> DatasetViewConfiguration(position=(12, 12, 12)).to_dict()
    {'position': [12, 12, 12]}
    """

    four_bit: StrictBool | None = None
    interpolation: StrictBool | None = None
    render_missing_data_black: StrictBool | None = None
    loading_strategy: StrictStr | None = None
    segmentation_pattern_opacity: Number | None = None
    zoom: Number | None = None
    position: tuple[Number, Number, Number] | None = None
    rotation: tuple[Number, Number, Number] | None = None
    layers: dict[str, LayerViewConfiguration] | None = None
    color_layer_order: tuple[StrictStr, ...] | None = None
    blend_mode: StrictStr | None = None
    natively_rendered_layer_name: StrictStr | None = None
