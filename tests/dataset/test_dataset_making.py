"""Making and opening datasets: what the constructor allows, refuses and warns of."""

from __future__ import annotations

import json
import warnings
from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wkdask as wk
from wkdask.errors import (
    DatasetExistsError,
    DatasetMismatchError,
    DatasetNotFoundError,
    InputError,
    LayerNotFoundError,
    NotAFolderError,
    NotSegmentationError,
    ReadOnlyError,
    VoxelSizeMissingError,
)

SIZE = (4, 4, 35)
MICRO = wk.VoxelSize((0.004, 0.004, 0.035), wk.LengthUnit.MICROMETER)

# what lies at the place, what is given, what is raised: None where it opens or makes a dataset
RULES = [
    ("nothing", {"voxel_size": SIZE}, None),
    ("empty", {"voxel_size": SIZE, "exist_ok": False}, None),
    ("nothing", {"voxel_size": SIZE, "exist_ok": True}, None),
    ("nothing", {"voxel_size_with_unit": MICRO}, None),
    ("nothing", {}, (VoxelSizeMissingError, ValueError, FileNotFoundError)),
    ("nothing", {"exist_ok": False}, (VoxelSizeMissingError, ValueError)),
    ("nothing", {"exist_ok": True}, (VoxelSizeMissingError, ValueError)),
    ("nothing", {"read_only": True}, (DatasetNotFoundError, FileNotFoundError)),
    ("nothing", {"read_only": True, "voxel_size": SIZE, "exist_ok": True}, (DatasetNotFoundError, FileNotFoundError)),
    ("nothing", {"voxel_size": SIZE, "voxel_size_with_unit": MICRO}, (InputError, ValueError)),
    ("nothing", {"voxel_size": (1, 1)}, (InputError, ValueError)),
    ("full", {"voxel_size": SIZE}, (DatasetExistsError, RuntimeError)),
    ("full", {"voxel_size": SIZE, "exist_ok": True}, (DatasetExistsError, RuntimeError)),
    ("file", {"voxel_size": SIZE}, (NotAFolderError, NotADirectoryError)),
    ("file", {"voxel_size": SIZE, "exist_ok": True}, (NotAFolderError, NotADirectoryError)),
    ("file", {}, (NotAFolderError, NotADirectoryError)),
    ("dataset", {"exist_ok": False}, (DatasetExistsError, RuntimeError)),
    ("dataset", {"exist_ok": False, "voxel_size": SIZE}, (DatasetExistsError, RuntimeError)),
    ("dataset", {"exist_ok": True, "voxel_size": SIZE}, None),
    ("dataset", {"exist_ok": True, "voxel_size": SIZE, "name": "ds"}, None),
    ("dataset", {"exist_ok": True, "voxel_size": SIZE, "read_only": True}, None),
    ("dataset", {"exist_ok": True}, (VoxelSizeMissingError, ValueError)),
    ("dataset", {"exist_ok": True, "voxel_size": (4, 4, 34)}, (DatasetMismatchError, RuntimeError, AssertionError)),
    ("dataset", {"exist_ok": True, "voxel_size": SIZE, "name": "x"}, (DatasetMismatchError, RuntimeError, AssertionError)),
]


def found_at(place, what):
    """Put something at a place."""
    if what == "file":
        place.write_text("mine")
    elif what != "nothing":
        place.mkdir()
    if what == "full":
        (place / "thesis.txt").write_text("mine")
    elif what == "dataset":
        place.rmdir()
        wk.Dataset(place, SIZE)


@pytest.mark.parametrize(("there", "options", "kinds"), RULES)
def test_the_rules_of_the_constructor(tmp_path, there, options, kinds):
    place = tmp_path / "ds"
    found_at(place, there)
    before = sorted(p.name for p in tmp_path.rglob("*"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if kinds is None:
            made = wk.Dataset(place, **options)
            assert made.name == "ds"
            assert made.voxel_size == pytest.approx(SIZE)
            assert made.read_only == options.get("read_only", False)
            return
        for kind in kinds:
            with pytest.raises(kind, match=str(place) if kind is kinds[0] and kind is not InputError else None):
                wk.Dataset(place, **options)
    assert sorted(p.name for p in tmp_path.rglob("*")) == before


def test_opening_without_saying_so_is_deprecated(tmp_path, dataset):
    place = tmp_path / "ds"
    for options in ({}, {"voxel_size": SIZE}, {"name": "ds"}):
        with pytest.warns(DeprecationWarning, match=r"Dataset\.open, or pass exist_ok=True") as caught:
            assert wk.Dataset(place, **options) == dataset
        assert caught[0].filename == __file__
    opened = pytest.warns(DeprecationWarning, match="was opened")
    with opened, pytest.raises(DatasetMismatchError, match="voxels of 4 x 4 x 35 nanometer, not 1"):
        wk.Dataset(place, (1, 1, 1))


def test_older_ways_to_make_a_dataset(tmp_path):
    place = tmp_path / "ds"
    with pytest.warns(DeprecationWarning, match=r"Dataset\.create is deprecated") as caught:
        made = wk.Dataset.create(place, scale=(4, 4, 35), name="brain")
    assert caught[0].filename == __file__
    with pytest.warns(DeprecationWarning, match="voxel_size") as caught:
        assert made.scale == (4, 4, 35) == made.voxel_size
    assert caught[0].filename == __file__
    assert made.name == "brain"
    with pytest.warns(DeprecationWarning, match="create"), pytest.raises(RuntimeError):
        wk.Dataset.create(place, (4, 4, 35))
    with pytest.warns(DeprecationWarning, match="get_or_create is deprecated"):
        assert wk.Dataset.get_or_create(place, (4, 4, 35)) == made
    with pytest.warns(DeprecationWarning, match="create"), pytest.raises(AssertionError):
        wk.Dataset.get_or_create(place, (4, 4, 35), "other")
    with pytest.warns(DeprecationWarning, match="scale is deprecated. Give voxel_size") as caught:
        assert wk.Dataset(tmp_path / "other", scale=(1, 2, 3)).voxel_size == (1, 2, 3)
    assert caught[0].filename == __file__
    with pytest.warns(DeprecationWarning, match="scale"), pytest.raises(InputError, match="Both voxel_size and scale"):
        wk.Dataset(tmp_path / "third", (1, 1, 1), scale=(1, 2, 3))


def test_equality_is_place_and_rights(tmp_path, dataset):
    place = tmp_path / "ds"
    (tmp_path / "link").symlink_to(place)
    assert wk.Dataset.open(place) == dataset == wk.Dataset.open(f"{place}/")
    assert wk.Dataset.open(place, read_only=True) != dataset
    assert wk.Dataset.open(tmp_path / "link") != dataset
    assert wk.Dataset(tmp_path / "other", SIZE) != dataset
    assert dataset != str(place)
    assert len({dataset, wk.Dataset.open(place), wk.Dataset.open(place, read_only=True)}) == 2
    assert wk.Dataset.open(tmp_path / "link").resolved_path == dataset.resolved_path == str(place)
    assert wk.Dataset.open(tmp_path / "link").path == str(tmp_path / "link")
    assert wk.Dataset("memory://resolved", SIZE, exist_ok=True).resolved_path == wk.Dataset.open("memory://resolved").path


@given(categories=st.lists(st.sampled_from(["color", "segmentation"]), max_size=4))
def test_layers_by_category(tmp_path_factory, categories):
    dataset = wk.Dataset(tmp_path_factory.mktemp("categories") / "ds", SIZE)
    for n, category in enumerate(categories):
        dataset.add_layer(f"l{n}", category)
    for category, many, one, kind in [
        ("color", dataset.get_color_layers, dataset.get_color_layer, RuntimeError),
        ("segmentation", dataset.get_segmentation_layers, dataset.get_segmentation_layer, IndexError),
    ]:
        names = [f"l{n}" for n, found in enumerate(categories) if found == category]
        assert [layer.name for layer in many()] == names
        alone = nullcontext() if len(names) == 1 else pytest.raises(kind, match=f"{len(names)} {category} layers")
        with alone, pytest.warns(DeprecationWarning, match=category) as caught:
            assert [one().name] == names
        assert caught[0].filename == __file__
    for n, category in enumerate(categories):
        if category == "segmentation":
            assert dataset.get_segmentation_layer(f"l{n}").name == f"l{n}"
        else:
            with pytest.raises(NotSegmentationError) as refused:
                dataset.get_segmentation_layer(f"l{n}")
            assert isinstance(refused.value, TypeError)
    with pytest.raises(LayerNotFoundError):
        dataset.get_segmentation_layer("none")


def test_names_of_read_only_datasets_stay(tmp_path, dataset):
    with pytest.raises(ReadOnlyError):
        wk.Dataset.open(tmp_path / "ds", read_only=True).name = "x"
    assert json.loads((tmp_path / "ds" / "datasource-properties.json").read_bytes())["id"]["name"] == "ds"
