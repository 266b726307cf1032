import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import examples
from wkdask.errors import InputError, LayerExistsError, LayerNotFoundError, MagNotFoundError, MetadataError
from wkdask.geometry import BoundingBox, NDBoundingBox
from wkdask.metadata import (
    DatasetViewConfiguration,
    LayerProperties,
    LayerViewConfiguration,
    LengthUnit,
    MagProperties,
    MetadataWarning,
    Properties,
    VoxelSize,
)

MINIMAL: dict[str, Any] = {
    "id": {"name": "ds", "team": ""},
    "scale": {"factor": [11.24, 11.24, 28.0], "unit": "nanometer"},
    "dataLayers": [
        {
            "name": "color",
            "category": "color",
            "boundingBox": {"topLeft": [0, 0, 0], "width": 128, "height": 128, "depth": 64},
            "elementClass": "uint8",
            "dataFormat": "zarr3",
            "mags": [{"mag": [1, 1, 1], "path": "./color/1", "axisOrder": {"c": 0, "x": 1, "y": 2, "z": 3}}],
            "numChannels": 1,
        }
    ],
    "version": 1,
}


def minimal(**layer: Any) -> dict[str, Any]:
    """Return the minimal document, its layer with other keys."""
    document = copy.deepcopy(MINIMAL)
    document["dataLayers"][0].update(layer)
    return document


numbers = st.integers(-(10**6), 10**6) | st.floats(-1e6, 1e6) | st.sampled_from([0, 0.0, 1, 1.0, -0.0])
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)
odd_keys = st.sampled_from(
    ["num_channels", "_stood", "_envelope", "model_fields", "copy", "__class__", "self", "data_layers", "bounding_box", "é", ""]
)
unknown = st.dictionaries(odd_keys | st.text(max_size=4).map("?".__add__), values, max_size=2)
whole = st.integers(0, 2**40)


def triple(of: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """Return lists of three."""
    return st.lists(of, min_size=3, max_size=3)


@st.composite
def objects(
    draw: st.DrawFn,
    required: dict[str, st.SearchStrategy[Any]],
    optional: dict[str, st.SearchStrategy[Any]] | None = None,
) -> dict[str, Any]:
    """Draw an object of some keys and unknown ones, in any order."""
    drawn = draw(st.fixed_dictionaries(required, optional=optional or {})) | draw(unknown)
    return {key: drawn[key] for key in draw(st.permutations(list(drawn)))}


layer_views = objects(
    {},
    {
        "color": triple(numbers),
        "alpha": numbers,
        "intensityRange": st.lists(numbers, min_size=2, max_size=2),
        "min": numbers | st.none(),
        "isDisabled": st.booleans(),
        "mapping": st.just({"name": "m", "type": "HDF5"}),
    },
)
dataset_views = objects(
    {},
    {
        "fourBit": st.booleans(),
        "zoom": numbers,
        "position": triple(numbers),
        "layers": st.dictionaries(st.text(max_size=3), layer_views, max_size=1),
        "loadingStrategy": st.none() | st.just("BEST_QUALITY_FIRST"),
    },
)
attachment = objects({"name": st.just("a"), "path": st.just("./l/meshes/a"), "dataFormat": st.just("zarr3")})
attachments = objects({}, {"meshes": st.lists(attachment, max_size=1), "segmentIndex": attachment | st.none()})
mag = objects(
    {"mag": st.just([1, 1, 1])},
    {"path": st.just("./l/1"), "axisOrder": st.just({"c": 0, "x": 1, "y": 2, "z": 3}), "channelIndex": st.just(0)},
)
big = st.integers(2**53, 2**64 - 1).map(lambda value: {"customJsonEncoding": "bigint", "value": str(value)})
layer = objects(
    {
        "name": st.just("l"),
        "category": st.sampled_from(["color", "segmentation"]),
        "boundingBox": objects({"topLeft": triple(whole), "width": whole, "height": whole, "depth": whole}),
        "elementClass": st.just("uint24"),
        "dataFormat": st.sampled_from(["wkw", "zarr", "zarr3", "n5", "neuroglancerPrecomputed"]),
        "mags": st.lists(mag, max_size=1),
        "numChannels": st.just(3),
    },
    {
        "additionalAxes": st.lists(objects({"name": st.just("t"), "bounds": st.just([0, 7]), "index": st.just(1)}), max_size=1),
        "coordinateTransformations": st.lists(objects({"type": st.text(max_size=3)}), max_size=1),
        "defaultViewConfiguration": layer_views,
        "adminViewConfiguration": layer_views,
        "largestSegmentId": st.none() | whole | big | st.just({"customJsonEncoding": "bigint", "value": "5", "more": 1}),
        "mappings": st.lists(st.text(max_size=3), max_size=1),
        "attachments": attachments,
    },
)
documents = objects(
    {
        "id": objects({"name": st.text(max_size=5), "team": st.just("")}),
        "scale": objects({"factor": triple(st.sampled_from([1, 1.0, 11.24])), "unit": st.just("nanometer")}),
        "dataLayers": st.lists(layer, max_size=1),
        "version": st.just(1),
    },
    {"defaultViewConfiguration": dataset_views, "adminViewConfiguration": dataset_views},
)


UNIT_BOX = ((0, 0, 0), (8, 8, 8))


def load(document: Any) -> Properties:
    return Properties.from_json(json.dumps(document).encode(), "f.json")


def color(**values: Any) -> LayerProperties:
    return load(minimal(**values)).layer("color")


def new_layer(name: str = "color") -> LayerProperties:
    return LayerProperties.new(name, "color", "uint8", 1, "zarr3", UNIT_BOX)


@given(documents)
@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_an_unchanged_document_comes_back_equal(document: dict[str, Any]) -> None:
    written = Properties.from_json(json.dumps(document).encode(), "f.json").to_json()
    assert json.dumps(json.loads(written), sort_keys=True) == json.dumps(document, sort_keys=True)
    assert Properties.from_json(written, "f.json").to_json() == written


@given(documents)
@settings(max_examples=examples(20), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_unknown_keys_survive_changes(document: dict[str, Any]) -> None:
    before = load(document)
    changed = before.with_voxel_size(VoxelSize((1, 2, 3))).with_view_configuration(zoom=2)
    for layer in before.data_layers:
        with_mag = layer.with_mag(MagProperties.new(2)).with_view_configuration(alpha=1).with_bounding_box(UNIT_BOX)
        changed = changed.with_layer(with_mag.updated(category="color", mappings=None))
    after = changed.to_dict()
    for key in set(document) - {"scale", "defaultViewConfiguration", "dataLayers"}:
        assert after[key] == document[key]
    for old, new in zip(document["dataLayers"], after["dataLayers"], strict=True):
        touched = {"mags", "defaultViewConfiguration", "boundingBox", "category", "mappings"}
        assert {k: v for k, v in new.items() if k not in touched} == {k: v for k, v in old.items() if k not in touched}
        assert {**old.get("defaultViewConfiguration", {}), "alpha": 1} == new["defaultViewConfiguration"]
        assert new["boundingBox"].items() >= {k: v for k, v in old["boundingBox"].items() if k[:1] in "?_"}.items()


def test_known_keys_have_one_order_and_unknown_ones_stay_behind_their_neighbour() -> None:
    document = {"first": 0, "version": 1, "after version": 1, "dataLayers": [], "scale": MINIMAL["scale"], "id": MINIMAL["id"]}
    assert list(load(document).to_dict()) == ["first", "id", "scale", "dataLayers", "version", "after version"]


def test_the_text_is_utf8_with_four_spaces() -> None:
    text = load({**MINIMAL, "note": "Größe"}).to_json().decode()
    assert '\n    "note": "Größe"' in text
    assert json.loads(text) == {**MINIMAL, "note": "Größe"}


def test_half_a_surrogate_pair_survives() -> None:
    assert json.loads(load({**MINIMAL, "note": "\ud800"}).to_json())["note"] == "\ud800"


def test_fixtures(fixtures_folder: Path) -> None:
    files = sorted(fixtures_folder.glob("*/datasource-properties.json"))
    assert files
    for file in files:
        properties = Properties.from_json(file.read_bytes(), str(file))
        assert Properties.from_json(properties.to_json(), "again") == properties
        assert properties.layer("color").dtype == "uint8"


@pytest.mark.parametrize("cut", [0, 1, 50, len(json.dumps(MINIMAL)) - 1])
def test_truncated_json(cut: int) -> None:
    with pytest.raises(MetadataError, match=r"f\.json is not JSON"):
        Properties.from_json(json.dumps(MINIMAL).encode()[:cut], "f.json")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff{}", "UTF-8"),
        (b"[" * 100_000, "nested more than 100"),
        (b"[" * 500 + b"]" * 500, "nested more than 100"),
        (b'{"scale": ' + b"1" * 5000 + b"}", "number"),
        (b'{"scale": NaN}', "NaN"),
        (b'{"scale": 1e999}', "too large"),
        (b"[]", "top level is a list of 0, expected an object"),
        (b"null", "top level is null"),
        (b'{"version": 2}', "version 2, this wkdask reads 1"),
        (b'{"version": true}', "version true, this wkdask reads 1"),
        (b'{"scale": [1, 1, 1]}', "no key 'dataLayers'"),
    ],
)
def test_no_such_document(data: bytes, message: str) -> None:
    with pytest.raises(MetadataError, match=message) as caught:
        Properties.from_json(data, "f.json")
    assert "f.json" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_deep_dictionaries_are_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(50_000):
        deep = {"a": deep}
    with pytest.raises(MetadataError, match="nested"):
        Properties.from_dict({**MINIMAL, "deep": deep})


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"boundingBox": {"topLeft": [0, 0, 0], "width": "9", "height": 1, "depth": 1}}, r"boundingBox\.width is '9'"),
        ({"boundingBox": {"topLeft": [0, 0], "width": 9, "height": 1, "depth": 1}}, r"topLeft is too short: it has no item 2"),
        ({"boundingBox": {"topLeft": [0, 0, 0], "width": -1, "height": 1, "depth": 1}}, r"width is -1"),
        ({"boundingBox": {"topLeft": [0, 0, 10**30], "width": 1, "height": 1, "depth": 1}}, r"topLeft\[2\] is 1000"),
        ({"boundingBox": {"topLeft": [0, 0, 0], "width": 1, "height": 1}}, r"boundingBox has no key 'depth'"),
        ({"category": "colour"}, r"category is 'colour', expected 'color' or 'segmentation'"),
        ({"dataFormat": 3}, r"dataFormat is 3, expected the name of a format"),
        ({"mags": {}}, r"mags is an object"),
        ({"mags": [{"mag": [1, 1]}]}, r"dataLayers\[0\]\.mags\[0\]\.mag"),
        ({"mags": [{"mag": [3, 3, 1]}]}, r"mags\[0\]\.mag is a list of 3, expected three powers of two"),
        ({"mags": [{"mag": 1}, {"mag": "1-1-1"}]}, r"mag 1 is listed twice"),
        ({"mags": [{}]}, r"mags\[0\] has no key 'mag'"),
        ({"elementClass": "text"}, r"'text' is no elementClass"),
        ({"elementClass": 8}, r"elementClass is 8"),
        ({"numChannels": True}, r"numChannels is true"),
        ({"numChannels": 0}, r"numChannels is 0"),
        ({"largestSegmentId": "7"}, r"largestSegmentId is '7'"),
        ({"largestSegmentId": {"customJsonEncoding": "bigint", "value": "x"}}, r"largestSegmentId"),
        ({"defaultViewConfiguration": {"color": "red"}}, r"defaultViewConfiguration\.color is 'red'"),
        ({"defaultViewConfiguration": {"alpha": True}}, r"alpha is true, expected a number"),
        ({"attachments": {"meshes": [{"name": "a"}]}}, r"attachments\.meshes\[0\] has no key 'path'"),
    ],
)
def test_wrong_layers(layer: dict[str, Any], message: str) -> None:
    with pytest.raises(MetadataError, match=message):
        load(minimal(**layer))


@pytest.mark.parametrize("factor", [[1, 1], [0, 1, 1], [1, -1, 1], [10**400, 1, 1], ["1", 1, 1], "4,4,35", [True, 1, 1], None])
def test_wrong_scales(factor: Any) -> None:
    with pytest.raises(MetadataError, match="scale"):
        load({**MINIMAL, "scale": {"factor": factor, "unit": "nanometer"}})


def test_unknown_unit() -> None:
    with pytest.raises(MetadataError, match=r"scale\.unit is 'cubit'"):
        load({**MINIMAL, "scale": {"factor": [1, 1, 1], "unit": "cubit"}})


def test_layers_of_one_name() -> None:
    with pytest.raises(MetadataError, match="two layers are named 'color'"):
        load({**MINIMAL, "dataLayers": MINIMAL["dataLayers"] * 2})


def test_legacy_document() -> None:
    layer = {
        "name": "a",
        "category": "color",
        "boundingBox": {"topLeft": [0, 0, 0], "width": 1, "height": 1, "depth": 1},
        "wkwResolutions": [{"resolution": 1, "cubeLength": 1024, "x": 1}, {"resolution": [2, 2, 1], "cubeLength": 512}],
        "mags": [{"mag": 16}],
        "elementClass": "uint24",
        "dataFormat": "wkw",
    }
    properties = load({"scale": [4, 4.0, 35], "dataLayers": [layer]})
    after = properties.to_dict()
    assert after["scale"] == {"factor": [4, 4.0, 35], "unit": "nanometer"}
    assert (after["version"], after["id"]) == (1, {"name": "", "team": ""})
    assert after["dataLayers"][0]["mags"] == [
        {"mag": [1, 1, 1], "cubeLength": 1024, "x": 1},
        {"mag": [2, 2, 1], "cubeLength": 512},
    ]
    assert "wkwResolutions" not in after["dataLayers"][0]
    assert (properties.layer("a").dtype, after["dataLayers"][0]["numChannels"]) == ("uint8", 3)
    assert properties.layer("a").mag("1").candidates("a") == ("a/1", "a/1-1-1")


def test_units_are_written_in_full() -> None:
    assert load({**MINIMAL, "scale": {"factor": [1, 1, 1], "unit": "µm"}}).to_dict()["scale"]["unit"] == "micrometer"


def test_axis_order_left_in_the_box_is_kept_and_used() -> None:
    box = {"topLeft": [0, 0, 0], "width": 1, "height": 1, "depth": 1, "axisOrder": {"c": 0, "x": 3, "y": 2, "z": 1}}
    layer = color(boundingBox=box, mags=[])
    assert layer.to_dict()["boundingBox"] == box
    assert layer.axes() == ("c", "z", "y", "x")


def test_doubtful_element_class_warns() -> None:
    with pytest.warns(MetadataWarning, match=r"f\.json: dataLayers\[0\] \('color'\): elementClass 'uint8'"):
        properties = load(minimal(numChannels=3))
    assert (properties.layer("color").dtype, properties.layer("color").num_channels) == ("uint8", 3)
    with pytest.warns(MetadataWarning):
        assert load(minimal(elementClass="uint24")).layer("color").num_channels == 3


@pytest.mark.parametrize("value", [0, 5, 2**53 - 1, 2**53, 2**63, 2**64 - 1])
def test_largest_segment_id(value: int) -> None:
    written = color(largestSegmentId=value).to_dict()["largestSegmentId"]
    assert written == (value if value < 2**53 else {"customJsonEncoding": "bigint", "value": str(value)})
    layer = color(largestSegmentId=written)
    assert layer.largest_segment_id == value
    assert layer.updated(largest_segment_id=7).to_dict()["largestSegmentId"] == 7
    assert "largestSegmentId" not in layer.updated(largest_segment_id=None).to_dict()


def test_axes() -> None:
    order = {"c": 0, "x": 4, "y": 3, "z": 2}
    mags = [{"mag": [1, 1, 1], "axisOrder": order}, {"mag": [2, 2, 2], "axisOrder": order}]
    extra = [{"name": "t", "bounds": [0, 7], "index": 1}]
    layer = color(mags=mags, additionalAxes=extra)
    assert layer.axes() == ("c", "t", "z", "y", "x")
    assert layer.box() == NDBoundingBox((0, 0, 0, 0), (7, 64, 128, 128), ("t", "z", "y", "x"), (1, 2, 3, 4))
    assert color(mags=[{"mag": 1, "axisOrder": {"x": 1, "y": 2, "z": 3}}]).axes() == ("c", "x", "y", "z")
    assert color(mags=[{"mag": 1, "axisOrder": {"x": 0, "y": 1, "z": 2}}]).axes() == ("x", "y", "z")
    assert color(mags=[{"mag": 1}]).axes(("x", "y")) == ("x", "y")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mags": [{"mag": 1, "axisOrder": {"x": 1, "y": 1, "z": 3}}]}, "each once"),
        ({"mags": [{"mag": 1, "axisOrder": {"x": 1}}, {"mag": 2, "axisOrder": {"x": 2}}]}, "must be the same"),
        ({"mags": [{"mag": 1}], "additionalAxes": [{"name": "t", "bounds": [0, 1], "index": 0}]}, "no axisOrder"),
        ({"mags": [], "additionalAxes": [{"name": "t", "bounds": [0, 1], "index": 9}]}, "each once"),
    ],
)
def test_axes_that_can_not_be(values: dict[str, Any], message: str) -> None:
    with pytest.raises(MetadataError, match=message):
        color(**values).axes()


def test_new_layers() -> None:
    box = NDBoundingBox((0, 1, 2, 3), (7, 8, 8, 8), ("t", "x", "y", "z"), (0, 2, 3, 4))
    layer = LayerProperties.new("a", "segmentation", "uint64", 1, "zarr3", box)
    assert (layer.dtype, layer.num_channels, layer.box()) == ("uint64", 1, box)
    assert layer.with_bounding_box(box.with_bounds("t", 0, 9)).additional_axes[0].bounds == (0, 9)
    plain = LayerProperties.new("a", "color", "uint8", 3, "wkw", BoundingBox((0, 0, 0), (8, 8, 8)))
    assert plain.to_dict()["elementClass"] == "uint24"
    written = plain.with_mag(MagProperties.new(1, cube_length=1024, axis_order={"c": 0}, path="./a/1")).to_dict()["mags"][0]
    assert list(written) == ["mag", "path", "cubeLength", "axisOrder"]
    assert plain.box() == BoundingBox((0, 0, 0), (8, 8, 8))


@pytest.mark.parametrize(
    "arguments",
    [
        (".a", "color", "uint8", 1, "zarr3", UNIT_BOX),
        ("a", "colour", "uint8", 1, "zarr3", UNIT_BOX),
        ("a", "color", "float16", 1, "zarr3", UNIT_BOX),
        ("a", "color", "uint8", 0, "zarr3", UNIT_BOX),
        ("a", "color", "uint8", 1.5, "zarr3", UNIT_BOX),
        ("a", "color", "uint8", 1, "", UNIT_BOX),
        ("a", "color", "uint8", 1, "zarr3", BoundingBox((-1, 0, 0), (8, 8, 8))),
        ("a", "color", "uint8", 1, "zarr3", ((0, 0, 0.5), (8, 8, 8))),
        ("a", "color", "uint8", 1, "zarr3", 7),
        ("a", "color", "uint8", 1, "zarr3", UNIT_BOX, [("t", 7)]),
    ],
)
def test_new_layers_that_can_not_be(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(InputError):
        LayerProperties.new(*arguments)


def test_layers_are_added_replaced_and_taken_away() -> None:
    properties = Properties.new("ds", VoxelSize((4, 4, 35.5), LengthUnit.NANOMETER))
    both = properties.with_layer(new_layer("a")).with_layer(new_layer("b"))
    assert properties.layer_names == ()
    assert both.layer_names == ("a", "b")
    assert both.with_layer(new_layer("a").updated(category="segmentation")).layer_names == ("a", "b")
    assert both.without_layer("a").layer_names == ("b",)
    assert both.with_name("other").name == "other"
    with pytest.raises(LayerNotFoundError, match="no layer 'c'; the dataset has 'a', 'b'"):
        both.layer("c")
    with pytest.raises(InputError, match="starts with a dot"):
        both.with_layer(new_layer().updated(name=".hidden"))
    assert not issubclass(LayerNotFoundError, LayerExistsError)


def test_mags_are_sorted_and_replaced() -> None:
    layer = new_layer()
    for mag in ("4-4-1", 2, 4, "2-2-1", 1, "4-4-2"):
        layer = layer.with_mag(MagProperties.new(mag))
    assert [mag.name for mag in layer.mags] == ["1", "2-2-1", "2", "4-4-1", "4-4-2", "4"]
    assert layer.with_mag(MagProperties.new(2, path="./x")).mag("2-2-2").path == "./x"
    assert "2" not in [mag.name for mag in layer.without_mag(2).mags]
    with pytest.raises(MagNotFoundError, match="no magnification 8; it has 1, 2-2-1, 2"):
        layer.mag(8)


def test_views() -> None:
    layer = new_layer().with_view_configuration(color=(255, 0, 0), is_disabled=False)
    assert layer.to_dict()["defaultViewConfiguration"] == {"color": [255, 0, 0], "isDisabled": False}
    assert layer.with_view_configuration(color=None).to_dict()["defaultViewConfiguration"] == {"isDisabled": False}
    with pytest.raises(InputError, match="color is 'red'"):
        LayerViewConfiguration(color="red")
    with pytest.raises(InputError, match="no attribute 'colour'"):
        layer.with_view_configuration(colour=(1, 2, 3))
    assert DatasetViewConfiguration(four_bit=True, zoom=0.5).to_dict() == {"fourBit": True, "zoom": 0.5}


def test_nan_is_not_written() -> None:
    broken = new_layer().model_copy(update={"coordinate_transformations": [float("nan")]})
    with pytest.raises(MetadataError, match="can not be written as JSON"):
        Properties.new("ds", VoxelSize((1, 1, 1))).with_layer(broken).to_json()


def test_values_are_frozen_equal_hashable_and_pickle() -> None:
    properties = load(MINIMAL)
    again = pickle.loads(pickle.dumps(properties))
    assert again == properties
    assert again.to_json() == properties.to_json()
    assert len({properties, load(MINIMAL)}) == 1
    assert properties != load(minimal(category="segmentation"))
    with pytest.raises(ValueError, match="frozen"):
        properties.version = 2


def test_the_given_dictionary_is_neither_changed_nor_shared() -> None:
    document = minimal(coordinateTransformations=[{"type": "new"}], wkwResolutions=[{"resolution": 1}])
    text = json.dumps(document)
    properties = Properties.from_dict(document)
    assert json.dumps(document) == text
    document["dataLayers"][0]["coordinateTransformations"][0]["type"] = "changed"
    assert properties.to_dict()["dataLayers"][0]["coordinateTransformations"] == [{"type": "new"}]


def test_importing_does_not_load_numpy() -> None:
    code = "import sys, wkdask.metadata; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
