"""How WEBKNOSSOS shows a dataset and its layers at first sight."""

from __future__ import annotations

from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import AfterValidator, StrictBool, StrictStr

from wkdask.metadata.document import Document, Number

T = TypeVar("T")


class FrozenDict(dict[str, Any]):
    """A dict that can not be changed, so that values which hold one are immutable.

    Examples
    --------
    >>> FrozenDict(name="a")["name"] = "b"
    Traceback (most recent call last):
    TypeError: A view configuration can not be changed. Make another one by its method updated(...), and set that.
    """

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("A view configuration can not be changed. Make another one by its method updated(...), and set that.")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type[FrozenDict], tuple[dict[str, Any]]]:
        return type(self), (dict(self),)


FrozenObject = Annotated[dict[str, T], AfterValidator(FrozenDict)]


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
    mapping: FrozenObject[Any] | None = None


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
    layers: FrozenObject[LayerViewConfiguration] | None = None
    color_layer_order: tuple[StrictStr, ...] | None = None
    blend_mode: StrictStr | None = None
    natively_rendered_layer_name: StrictStr | None = None
