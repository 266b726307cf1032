"""Older forms of ``datasource-properties.json``, brought to the present one.

Only what has an older form is touched; whatever is not as expected stays as it is, for the models to complain about.
"""

from __future__ import annotations

from typing import Any

from wkdask.errors import InputError
from wkdask.metadata.element_class import from_element_class
from wkdask.metadata.mag import mag_triple
from wkdask.metadata.units import LengthUnit


def modernised(document: Any) -> Any:
    """Return the present form of a parsed document; the argument stays unchanged.

    Examples
    --------
    >>> modernised({"scale": [4, 4, 35], "dataLayers": []})
    {'id': {'name': '', 'team': ''}, 'scale': {'factor': [4, 4, 35], 'unit': 'nanometer'}, 'dataLayers': [], 'version': 1}
    """
    if not isinstance(document, dict):
        return document
    new = dict(document) if "id" in document else {"id": {"name": "", "team": ""}, **document}
    new.setdefault("version", 1)
    scale = new.get("scale")
    if isinstance(scale, list):
        new["scale"] = {"factor": scale, "unit": "nanometer"}
    elif isinstance(scale, dict):
        new["scale"] = {**scale, "unit": _unit(scale.get("unit", "nanometer"))}
    if isinstance(new.get("dataLayers"), list):
        new["dataLayers"] = [_layer(layer) for layer in new["dataLayers"]]
    return new


def _unit(unit: Any) -> Any:
    try:
        return LengthUnit.parse(unit).value
    except InputError:
        return unit


def _layer(layer: Any) -> Any:
    if not isinstance(layer, dict):
        return layer
    new: dict[str, Any] = {}
    for key, value in layer.items():
        if key == "wkwResolutions" and isinstance(value, list):
            new["mags"] = [_wkw_resolution(entry) for entry in value]
        elif key != "mags":
            new[key] = value
        elif not isinstance(layer.get("wkwResolutions"), list):
            new[key] = [_mag(entry) for entry in value] if isinstance(value, list) else value
    new.setdefault("numChannels", None)
    if new["numChannels"] in (None, 1) and isinstance(new.get("elementClass"), str):
        new["numChannels"] = _channels(new["elementClass"], new["numChannels"])
    elif new["numChannels"] is None:
        new["numChannels"] = 1
    return new


def _channels(element_class: str, num_channels: Any) -> Any:
    try:
        return from_element_class(element_class, num_channels)[1]
    except InputError:
        return 1


def _wkw_resolution(entry: Any) -> Any:
    if not isinstance(entry, dict) or "resolution" not in entry:
        return entry
    return _mag({"mag" if key == "resolution" else key: value for key, value in entry.items()})


def _mag(entry: Any) -> Any:
    if not isinstance(entry, dict) or isinstance(entry.get("mag"), list):
        return entry
    try:
        return {**entry, "mag": list(mag_triple(entry.get("mag")))}
    except InputError:
        return entry
