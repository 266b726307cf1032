import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import examples
from wkdask.errors import ConflictError
from wkdask.metadata import merge

LAYER: dict[str, Any] = {
    "name": "color",
    "category": "color",
    "boundingBox": {"topLeft": [0, 0, 0], "width": 128, "height": 128, "depth": 64},
    "mags": [{"mag": [1, 1, 1], "path": "./color/1"}],
    "numChannels": 1,
}
MINIMAL: dict[str, Any] = {"scale": {"factor": [1, 1, 1]}, "dataLayers": [LAYER], "version": 1}

values = st.none() | st.booleans() | st.integers() | st.floats(-1, 1) | st.lists(st.text(max_size=2), max_size=2)


def minimal(**layer: Any) -> dict[str, Any]:
    """Return the minimal document, its layer with other keys."""
    return copy.deepcopy({**MINIMAL, "dataLayers": [{**LAYER, **layer}]})


# An edit replaces or takes away what lies at a place; places of two sides are disjoint.
PLACES = ["top", "view", "layer a", "layer b", "layer n", "layer m", "mag 1", "mag 2", "mag 4", "box", "in view"]


def base() -> dict[str, Any]:
    document = minimal(name="a", defaultViewConfiguration={"alpha": 1})
    document["dataLayers"].append({"name": "b", "mags": []})
    document["dataLayers"][0]["mags"].append({"mag": 2, "path": "./a/2"})
    return document


def edited(document: dict[str, Any], place: str, value: Any) -> None:
    layers = document["dataLayers"]
    a = layers[0]
    if place == "top":
        document["new"] = value
    elif place == "view":
        document["defaultViewConfiguration"] = {"zoom": value}
    elif place == "layer a":
        a["elementClass"] = value
    elif place == "layer b":
        layers[:] = [layer for layer in layers if layer["name"] != "b"]
    elif place.startswith("layer"):
        layers.append({"name": place[-1], "value": value})
    elif place in ("mag 1", "mag 2"):
        next(mag for mag in a["mags"] if mag["mag"] in (int(place[-1]), [1, 1, 1]))["path"] = value
    elif place == "mag 4":
        a["mags"].append({"mag": [4, 4, 4], "value": value})
    elif place == "box":
        a["boundingBox"] = {**a["boundingBox"], "width": 999}
    else:
        a["defaultViewConfiguration"]["color"] = value


def sorted_layers(document: dict[str, Any]) -> str:
    document = {**document, "dataLayers": sorted(document["dataLayers"], key=lambda layer: layer["name"])}
    return json.dumps(document, sort_keys=True)


@given(st.permutations(PLACES), st.integers(0, len(PLACES)), values)
@settings(max_examples=examples(60), deadline=None)
def test_disjoint_edits_commute(places: list[str], cut: int, value: Any) -> None:
    theirs, ours, both = base(), base(), base()
    for place in places[:cut]:
        edited(theirs, place, value)
    for place in places[cut:]:
        edited(ours, place, value)
    for place in PLACES:
        edited(both, place, value)
    one, other = merge(base(), theirs, ours), merge(base(), ours, theirs)
    assert sorted_layers(one) == sorted_layers(other) == sorted_layers(both)


@given(st.permutations(PLACES), st.integers(0, 4), values)
@settings(max_examples=examples(20), deadline=None)
def test_one_side_alone_is_taken_as_it_is(places: list[str], cut: int, value: Any) -> None:
    ours = base()
    for place in places[:cut]:
        edited(ours, place, value)
    text = json.dumps(ours)
    assert json.dumps(merge(base(), base(), ours)) == text
    assert json.dumps(merge(base(), ours, base())) == text
    assert json.dumps(merge(base(), ours, copy.deepcopy(ours))) == text


@pytest.mark.parametrize(
    ("theirs", "ours", "place"),
    [
        ({"category": "x"}, {"category": "y"}, r"dataLayers\['color'\]\.category"),
        ({"mags": [{"mag": [1, 1, 1], "path": "a"}]}, {"mags": [{"mag": 1, "path": "b"}]}, r"mags\[1\]"),
        ({"mags": []}, {"mags": [{"mag": [1, 1, 1], "path": "b"}]}, r"dataLayers\['color'\]\.mags\[1\]"),
        (
            {"boundingBox": {"topLeft": [0, 0, 0], "width": 1, "height": 128, "depth": 64}},
            {"boundingBox": {"topLeft": [0, 0, 0], "width": 128, "height": 1, "depth": 64}},
            r"boundingBox",
        ),
        ({"numChannels": 1.0}, {"numChannels": True}, r"numChannels"),
    ],
)
def test_conflicts(theirs: dict[str, Any], ours: dict[str, Any], place: str) -> None:
    with pytest.raises(ConflictError, match=place):
        merge(MINIMAL, minimal(**theirs), minimal(**ours))


def test_one_removes_what_the_other_changes() -> None:
    with pytest.raises(ConflictError, match=r"dataLayers\['color'\] was changed by another writer to nothing"):
        merge(MINIMAL, {**MINIMAL, "dataLayers": []}, minimal(category="segmentation"))


def test_both_add_the_same() -> None:
    both = {**MINIMAL, "dataLayers": [*MINIMAL["dataLayers"], {"name": "n"}]}
    assert merge(MINIMAL, both, copy.deepcopy(both)) == both


def test_mags_of_both_sides_are_sorted() -> None:
    first = {"mag": [1, 1, 1]}
    base, theirs, ours = (minimal(mags=[first, *more]) for more in ([], [{"mag": [4, 4, 4]}], [{"mag": [2, 2, 2]}]))
    merged = merge(base, theirs, ours)["dataLayers"][0]["mags"]
    assert merged == [first, {"mag": [2, 2, 2]}, {"mag": [4, 4, 4]}]


def test_order_of_layers_that_one_side_changed() -> None:
    a, b = {"name": "a"}, {"name": "b"}
    base, theirs = {"dataLayers": [a, b]}, {"dataLayers": [a, b | {"x": 1}]}
    assert merge(base, theirs, {"dataLayers": [b, a]}) == {"dataLayers": [b | {"x": 1}, a]}


def test_lists_without_identity_are_one_value() -> None:
    with pytest.raises(ConflictError, match="mags"):
        merge({"mags": [1]}, {"mags": [2]}, {"mags": [3]})
    with pytest.raises(ConflictError, match="other"):
        merge({"other": [1]}, {"other": [1, 2]}, {"other": [1, 3]})
