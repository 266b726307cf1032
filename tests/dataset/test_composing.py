"""View configurations and transformations in the JSON; datasets composed of others; BigWarp's landmarks."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wkdask as wk
from wkdask.errors import DatasetExistsError, InputError, LayerNameError, NotLocalError
from wkdask.metadata import FILE_NAME
from wkdask.storage import Location

Affine = wk.AffineCoordinateTransformation


def document(dataset):
    return json.loads((dataset._store.location / FILE_NAME).read_bytes())


def change(dataset, edit):
    place = dataset._store.location / FILE_NAME
    found = json.loads(place.read_bytes())
    edit(found)
    place.write_bytes(json.dumps(found).encode())


@pytest.fixture
def em(dataset, layer, mag):
    return layer


# ------------------------------------------------------------------------------------------ view configurations

DATASET = {
    "four_bit": True, "interpolation": False, "render_missing_data_black": True, "loading_strategy": "BEST_QUALITY_FIRST",
    "segmentation_pattern_opacity": 40, "zoom": 0.5, "position": (1, 2, 3), "rotation": (0, 90, 0),
    "layers": {"em": {"alpha": 7}}, "color_layer_order": ("em",), "blend_mode": "Additive",
    "natively_rendered_layer_name": "em",
}  # fmt: skip
LAYER = {
    "color": (255, 0, 1), "alpha": 20, "intensity_range": (3, 250), "min": 0, "max": 255, "is_disabled": True,
    "is_inverted": False, "is_in_edit_mode": True, "mapping": {"name": "a", "type": "HDF5"},
}  # fmt: skip


@pytest.mark.parametrize(("which", "values"), [("dataset", DATASET), ("layer", LAYER)])
def test_every_setting_is_kept(dataset, em, which, values) -> None:
    thing, kind = (dataset, wk.DatasetViewConfiguration) if which == "dataset" else (em, wk.LayerViewConfiguration)
    assert thing.default_view_configuration is None
    given = kind(**values)
    thing.default_view_configuration = given
    again = wk.Dataset.open(dataset.path)
    found = (again if which == "dataset" else again.get_layer("em")).default_view_configuration
    assert found == given == pickle.loads(pickle.dumps(found)) == copy.deepcopy(found)
    raw = document(dataset) if which == "dataset" else document(dataset)["dataLayers"][0]
    assert len(raw["defaultViewConfiguration"]) == len(values) == len(kind.model_fields)
    thing.default_view_configuration = None
    assert thing.default_view_configuration is None
    raw = document(dataset) if which == "dataset" else document(dataset)["dataLayers"][0]
    assert "defaultViewConfiguration" not in raw
    with pytest.raises(InputError, match="no view configuration"):
        thing.default_view_configuration = values


def test_view_configurations_can_not_be_changed(dataset) -> None:
    dataset.default_view_configuration = wk.DatasetViewConfiguration(**DATASET)
    found = dataset.default_view_configuration
    with pytest.raises(Exception, match="frozen"):
        found.zoom = 3
    with pytest.raises(TypeError, match="updated"):
        found.layers["em"] = wk.LayerViewConfiguration()
    for verb in (found.layers.clear, found.layers.popitem, lambda: found.layers.update(a=1), lambda: found.layers.pop("em")):
        with pytest.raises(TypeError, match="updated"):
            verb()
    assert found.updated(zoom=3).zoom == 3 and found.zoom == 0.5
    assert dataset.default_view_configuration == found


@given(st.dictionaries(st.text(min_size=1, max_size=3).map("x".__add__), st.integers() | st.booleans(), max_size=3))
def test_unknown_settings_survive_updates(tmp_path_factory, others) -> None:
    dataset = wk.Dataset(tmp_path_factory.mktemp("view") / "ds", (4, 4, 35))
    layer = dataset.add_layer("em", "color")

    def edit(raw):
        raw["defaultViewConfiguration"] = {"zoom": 1, "layers": {"em": {**others}}, **others}
        raw["dataLayers"][0] |= {"defaultViewConfiguration": {"alpha": 1, **others}, "adminViewConfiguration": {**others}}

    change(dataset, edit)
    dataset.default_view_configuration = dataset.default_view_configuration.updated(zoom=2)
    layer.default_view_configuration = layer.default_view_configuration.updated(alpha=2)
    raw = document(dataset)
    assert raw["defaultViewConfiguration"] == {"zoom": 2, "layers": {"em": others}, **others}
    assert raw["dataLayers"][0]["defaultViewConfiguration"] == {"alpha": 2, **others}
    assert raw["dataLayers"][0]["adminViewConfiguration"] == others


# ---------------------------------------------------------------------------------------------- transformations


def test_transformations_of_a_layer(dataset, em) -> None:
    assert em.coordinate_transformations == ()
    moved, half = Affine.from_translation((1, 2, 3)), Affine.from_scale(0.5)
    corners = [(0, 0, 0), (8, 0, 0), (0, 8, 0), (0, 0, 8), (8, 8, 8)]
    bent = wk.ThinPlateSplineCoordinateTransformation(corners, corners[::-1])
    ways = {(moved,): moved, (moved, half): [moved, half], (moved.then(half), bent): moved.then(half, bent)}
    for expected, value in ways.items():
        em.coordinate_transformations = value
        assert wk.Dataset.open(dataset.path).get_layer("em").coordinate_transformations == expected
    change(dataset, lambda raw: raw["dataLayers"][0]["coordinateTransformations"].append({"type": "warp", "power": 9}))
    em.coordinate_transformations = (*em.coordinate_transformations, moved)
    raw = document(dataset)["dataLayers"][0]["coordinateTransformations"]
    assert [one["type"] for one in raw] == ["affine", "thin_plate_spline", "warp", "affine"] and raw[2]["power"] == 9
    for nothing in ((), None):
        em.coordinate_transformations = nothing
        assert "coordinateTransformations" not in document(dataset)["dataLayers"][0]
    with pytest.raises(InputError, match="no coordinate transformation"):
        em.coordinate_transformations = [np.eye(4)]


# --------------------------------------------------------------------------------------------------- composing


def test_layers_come_by_every_way_with_their_voxels(em, voxels, tmp_path) -> None:
    other = wk.Dataset(tmp_path / "other", (8, 8, 35)).add_layer("em", "color", bounding_box=em.bounding_box)
    other.add_mag(1, chunk_shape=16, shard_shape=32).write(255 - voxels)
    own = Affine.from_translation((0, 0, 9))
    other.coordinate_transformations = own
    moved = Affine.from_rotation("z", 90)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file() and ".wkdask" not in p.parts}
    made = wk.compose(
        tmp_path / "both",
        {
            "here": em,
            "copied": wk.Component(other, way="copy"),
            "linked": wk.Component(other, moved, way="link"),
            "seen": wk.Component(str(tmp_path / "other" / "em"), [moved, own]),
        },
        name="two",
    )
    again = wk.Dataset.open(tmp_path / "both")
    assert (again.name, tuple(again.voxel_size)) == ("two", (4, 4, 35)) and list(made.layers) == list(again.layers)
    for name, expected in (("here", voxels), ("copied", 255 - voxels), ("linked", 255 - voxels), ("seen", 255 - voxels)):
        assert np.array_equal(again.get_layer(name).get_mag(1).read()[0], expected)
    found = {name: layer.coordinate_transformations for name, layer in again.layers.items()}
    twice = Affine.from_scale((2, 2, 1))  # voxels of 8 nm are two of 4 nm
    assert found == {"here": (), "copied": (own, twice), "linked": (own, moved), "seen": (own, moved, own)}
    assert (tmp_path / "both/linked").is_symlink() and (tmp_path / "both/copied/1").is_dir()
    assert not (tmp_path / "both/seen").exists() and not (tmp_path / "both/here").exists()
    assert {p: p.read_bytes() for p in before} == before


def test_lists_keep_names_and_choose_the_first_voxel_size(em, tmp_path) -> None:
    made = wk.compose(tmp_path / "one", [em])
    assert list(made.layers) == ["em"] and tuple(made.voxel_size) == (4, 4, 35)
    fine = wk.compose(tmp_path / "fine", [em], voxel_size=(2, 4, 35))
    assert fine.get_layer("em").coordinate_transformations == (Affine.from_scale((2, 1, 1)),)


def test_what_can_not_be_composed_makes_nothing(em, tmp_path) -> None:
    for layers, said in (([], "no layers"), ([em, em], "Two layers"), ([wk.Component(em, way="move")], "'move'")):
        with pytest.raises(InputError, match=said):
            wk.compose(tmp_path / "new", layers)
    with pytest.raises(InputError, match="no coordinate transformation"):
        wk.compose(tmp_path / "new", [wk.Component(em, "affine")])
    with pytest.raises(FileNotFoundError):
        wk.compose(tmp_path / "new", [str(tmp_path / "absent" / "em")])
    with pytest.raises(LayerNameError):
        wk.compose(tmp_path / "new", {"em": em, "a/b": em})
    far = wk.Dataset("memory://not-to-be-linked", (4, 4, 35)).add_layer("far", "color")
    with pytest.raises(NotLocalError):
        wk.compose(tmp_path / "new", {"em": em, "far": wk.Component(far, way="link")})
    assert not (tmp_path / "new").exists()
    with pytest.raises(NotLocalError):
        wk.compose("memory://links", [wk.Component(em, way="link")])
    assert not Location("memory://links").is_folder()
    with pytest.raises(DatasetExistsError):
        wk.compose(em._store.location, [em])


# ----------------------------------------------------------------------------------------------------- BigWarp

coordinate = st.floats(-1e4, 1e4, allow_nan=False)
points = st.tuples(coordinate, coordinate, coordinate)


@given(st.lists(st.tuples(points, points, st.booleans()), max_size=8), st.booleans())
def test_landmarks_are_those_of_the_file(tmp_path_factory, rows, quoted) -> None:
    place = tmp_path_factory.mktemp("landmarks") / "a.csv"
    mark = '"' if quoted else ""
    lines = [
        ",".join(f"{mark}{v}{mark}" for v in (f"Pt-{n}", str(active).lower(), *moving, *fixed))
        for n, (moving, fixed, active) in enumerate(rows)
    ]
    place.write_text("\n".join(lines) + "\n")
    active = [(moving, fixed) for moving, fixed, active in rows if active]
    assert wk.read_bigwarp_landmarks(place) == active
    scaled = wk.read_bigwarp_landmarks(place, (2, 4, 8), (1, 0.5, 0.25))
    for (m, f), (moving, fixed) in zip(scaled, active, strict=True):
        assert np.allclose(m, np.array(moving) / (2, 4, 8)) and np.allclose(f, np.array(fixed) / (1, 0.5, 0.25))


def test_landmarks_become_transformations(tmp_path) -> None:
    true = Affine.from_rotation("y", 30).translate((5, 6, 7))
    source = np.random.default_rng(0).uniform(0, 50, (9, 3))
    rows = zip(source, true.apply(source), strict=True)
    (tmp_path / "a.csv").write_text("\n".join(f"p,true,{','.join(map(str, (*a, *b)))}" for a, b in rows))
    pairs = wk.read_bigwarp_landmarks(tmp_path / "a.csv")
    assert np.allclose(Affine.from_pairs(pairs).matrix, true.matrix)
    assert np.allclose(wk.ThinPlateSplineCoordinateTransformation.from_pairs(pairs).apply(source), true.apply(source))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("p,true,1,2,3,4", "line 1 has 6 values"),
        ("p,true,1,2,3,4,5,6\np,maybe,1,2,3,4,5,6", "line 2"),
        ("p,true,1,2,3,4,5,Infinity", "expected 6 numbers"),
        ("p,true,1,2,3,4,5,x", "expected 6 numbers"),
        ('p,"true', "no CSV"),
        (b"\xff\xfe\x00", "no CSV"),
    ],
)
def test_bad_landmark_files_are_named(tmp_path, text, said) -> None:
    (tmp_path / "a.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=said):
        wk.read_bigwarp_landmarks(tmp_path / "a.csv")


def test_sizes_are_looked_at_before_reading(tmp_path) -> None:
    with open(tmp_path / "a.csv", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(InputError, match="bytes"):
        wk.read_bigwarp_landmarks(tmp_path / "a.csv")
    for size in ((0, 1, 1), (1, 1), ("a", 1, 1), (float("inf"), 1, 1)):
        with pytest.raises(InputError, match="voxel size"):
            wk.read_bigwarp_landmarks(tmp_path / "a.csv", size)
