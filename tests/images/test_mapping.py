"""Which files become one layer, and what it is called."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from wkdask.errors import InputError
from wkdask.images import ConversionLayerMapping as Mapping
from wkdask.images import Selection, find_layers
from wkdask.images.mapping import distinct, group_files, layer_name
from wkdask.images.sources import ImageFiles
from wkdask.metadata import validate_layer_name

PLANE = np.zeros((5, 6), "uint8")
VOLUME = np.zeros((3, 5, 6), "uint8")

# Names of files -> how many planes they have; the root is called "inp".
TREES: dict[str, dict[str, int]] = {
    "nested": {"second/c1.tif": 1, "top/other/b1.tif": 1, "top/sub/a1.tif": 1, "top/sub/a2.tif": 1},
    "with files in the root": {"r1.tif": 1, "r2.tif": 1, "top/sub/a1.tif": 1},
    "deep": {"c.tif": 3, "top/a.tif": 3, "top/b.tif": 3},
    "some deep": {"top/a.tif": 3, "top/b1.tif": 1, "top/b2.tif": 1},
    "folders of one name": {"x/raw/a1.tif": 1, "y/raw/a2.tif": 1},
    "odd names": {"_u/q..tif": 1, "a b/\u00e4(1).x.tif": 1},
}
SINGLE, EVERY = Mapping.INSPECT_SINGLE_FILE, Mapping.INSPECT_EVERY_FILE
FILE, ONE = Mapping.ENFORCE_LAYER_PER_FILE, Mapping.ENFORCE_SINGLE_LAYER
FOLDER, TOP = Mapping.ENFORCE_LAYER_PER_FOLDER, Mapping.ENFORCE_LAYER_PER_TOPLEVEL_FOLDER
EXPECTED: dict[str, dict[Mapping, dict[str, int]]] = {
    "nested": {
        SINGLE: {"second": 1, "other": 1, "sub": 2},
        EVERY: {"second": 1, "top_other": 1, "top_sub": 2},
        FILE: {"second_c1.tif": 1, "top_other_b1.tif": 1, "top_sub_a1.tif": 1, "top_sub_a2.tif": 1},
        ONE: {"inp": 4},
        FOLDER: {"second": 1, "top_other": 1, "top_sub": 2},
        TOP: {"second": 1, "top": 3},
    },
    "with files in the root": {
        SINGLE: {"inp": 2, "sub": 1},
        EVERY: {"inp": 2, "top_sub": 1},
        FILE: {"r1.tif": 1, "r2.tif": 1, "top_sub_a1.tif": 1},
        ONE: {"inp": 3},
        FOLDER: {"inp": 2, "top_sub": 1},
        TOP: {"inp": 2, "top": 1},
    },
    "deep": {
        SINGLE: {"c.tif": 3, "top_a.tif": 3, "top_b.tif": 3},
        EVERY: {"c.tif": 3, "top_a.tif": 3, "top_b.tif": 3},
        FILE: {"c.tif": 3, "top_a.tif": 3, "top_b.tif": 3},
        ONE: {"inp": 9},
        FOLDER: {"inp": 3, "top": 6},
        TOP: {"inp": 3, "top": 6},
    },
    "some deep": {
        SINGLE: {"top_a.tif": 3, "top_b1.tif": 1, "top_b2.tif": 1},
        EVERY: {"top_a.tif": 3, "top": 2},
        FILE: {"top_a.tif": 3, "top_b1.tif": 1, "top_b2.tif": 1},
        ONE: {"inp": 5},
        FOLDER: {"top": 5},
        TOP: {"top": 5},
    },
    "folders of one name": {
        SINGLE: {"x_raw": 1, "y_raw": 1},
        EVERY: {"x_raw": 1, "y_raw": 1},
        FILE: {"x_raw_a1.tif": 1, "y_raw_a2.tif": 1},
        ONE: {"inp": 2},
        FOLDER: {"x_raw": 1, "y_raw": 1},
        TOP: {"x": 1, "y": 1},
    },
    "odd names": {
        SINGLE: {"_u": 1, "ab": 1},
        EVERY: {"_u": 1, "ab": 1},
        FILE: {"_u_q..tif": 1, "ab_1.x.tif": 1},
        ONE: {"inp": 2},
        FOLDER: {"_u": 1, "ab": 1},
        TOP: {"_u": 1, "ab": 1},
    },
}


def make(folder: Path, tree: dict[str, int]) -> Path:
    for name, planes in tree.items():
        path = folder / "inp" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, VOLUME if planes > 1 else PLANE, photometric="minisblack")
    return folder / "inp"


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("mapping", Mapping)
def test_every_mapping(tmp_path: Path, tree: str, mapping: Mapping) -> None:
    layers = find_layers(make(tmp_path, TREES[tree]), Selection(mapping=mapping, missing="close"))
    assert {layer.name: layer.stack.shape[0] for layer in layers} == EXPECTED[tree][mapping]
    assert sum(len(layer.stack.files) for layer in layers) == len(TREES[tree])


ASK = """
import json, sys, tempfile
from pathlib import Path
from cluster_tools import get_executor
from webknossos import Dataset

found = {}
for mapping in Dataset.ConversionLayerMapping:
    with tempfile.TemporaryDirectory() as target, get_executor("sequential") as executor:
        dataset = Dataset.from_images(
            sys.argv[1], Path(target) / "out", voxel_size=(1, 1, 1), map_filepath_to_layer_name=mapping,
            executor=executor, chunk_shape=(32, 32, 1), chunks_per_shard=(1, 1, 1), compress=False,
        )
        found[mapping.name] = {name: int(layer.bounding_box.size.z) for name, layer in dataset.layers.items()}
Path(sys.argv[2]).write_text(json.dumps(found))
"""


@pytest.mark.slow
def test_names_are_those_of_the_reference(tmp_path: Path, webknossos_python: Path) -> None:
    """Left out is where the reference means another thing.

    It reads volumes in one layer as channels or fails, drops the / from the names of deep files, and mixes folders of one
    name in different places.
    """
    folder = make(tmp_path, {"a b/sub/s(1).tif": 1, "a b/sub/s(2).tif": 1, "r1.tif": 1})
    command = [webknossos_python, "-c", ASK, folder, tmp_path / "found.json"]
    subprocess.run(command, check=True, capture_output=True, timeout=110, cwd=tmp_path)
    found: dict[str, dict[str, int]] = json.loads((tmp_path / "found.json").read_text())
    assert len(found) == len(Mapping)
    for mapping, expected in found.items():
        layers = find_layers(folder, Selection(mapping=Mapping[mapping]))
        assert {layer.name: layer.stack.shape[0] for layer in layers} == expected, mapping


def test_a_function_names_layers(tmp_path: Path) -> None:
    folder = make(tmp_path, TREES["nested"])
    asked: list[str] = []

    def name(path: str) -> str:
        asked.append(path)
        return PurePosixPath(path).stem[0] + " !"

    layers = find_layers(folder, Selection(mapping=name))
    assert [(layer.name, layer.stack.files) for layer in layers] == [
        ("c", ("second/c1.tif",)),
        ("b", ("top/other/b1.tif",)),
        ("a", ("top/sub/a1.tif", "top/sub/a2.tif")),
    ]
    assert set(asked) == set(TREES["nested"])
    with pytest.raises(InputError, match=r"returned 3 for 'second/c1\.tif'"):
        find_layers(folder, Selection(mapping=lambda path: 3))  # type: ignore[arg-type,return-value]


def test_a_function_whose_names_become_alike(tmp_path: Path) -> None:
    layers = find_layers(make(tmp_path, TREES["nested"]), Selection(mapping=lambda path: "x" + "!" * ("a" in path)))
    assert [(layer.name, len(layer.stack.files)) for layer in layers] == [("x", 2), ("x_2", 2)]


def test_layer_names_given(tmp_path: Path) -> None:
    folder = make(tmp_path, TREES["nested"])
    prefixed = find_layers(folder, Selection(layer_name="em"))
    assert [layer.name for layer in prefixed] == ["em_second", "em_other", "em_sub"]
    for selection in (Selection(layer_name="em", merge=True), Selection(layer_name="em", mapping=ONE)):
        assert [layer.name for layer in find_layers(folder, selection)] == ["em"]
    with pytest.raises(InputError, match="is not a layer name"):
        Selection(layer_name="my layer")


def test_a_folder_of_the_name_of_the_source(tmp_path: Path) -> None:
    layers = find_layers(make(tmp_path, {"inp/a.tif": 1, "b.tif": 1}))
    assert {layer.name: layer.stack.files for layer in layers} == {"inp": ("b.tif",), "inp_2": ("inp/a.tif",)}


def test_long_names_stay_usable() -> None:
    files = ImageFiles("/x", tuple(f"{'d' * 250}/{letter * 250}.tif" for letter in "ab"), "label")
    chosen = Selection(layer_name="p" * 250, mapping=FILE)
    names = [group.name for group in group_files(files, chosen, lambda path: False)]
    assert len(set(map(validate_layer_name, names))) == 2


@pytest.mark.parametrize("mapping", [*Mapping, None])
def test_one_file_is_named_after_itself(tmp_path: Path, mapping: Any) -> None:
    [layer] = find_layers(make(tmp_path, {"my em.tif": 1}) / "my em.tif", Selection(mapping=mapping))
    assert layer.name == ("myem.tif" if mapping is FILE else "myem")
    assert layer.stack.shape == (1, 5, 6)


def test_merging_disregards_mappings(tmp_path: Path) -> None:
    folder = make(tmp_path, TREES["deep"])
    for mapping in (*Mapping, lambda path: path):
        [layer] = find_layers(folder, Selection(mapping=mapping, merge=True))
        assert (layer.name, layer.stack.shape) == ("inp", (9, 5, 6))


def test_channels_and_layers_of_one_name(tmp_path: Path) -> None:
    folder = make(tmp_path, {"a__channel1/x.tif": 1})
    tifffile.imwrite(folder / "a.tif", VOLUME[:2], photometric="minisblack", metadata={"axes": "CYX"}, ome=True)
    layers = find_layers(folder, Selection(mapping=lambda path: path.partition("/")[0].removesuffix(".tif")))
    assert [layer.name for layer in layers] == ["a__channel0", "a__channel1", "a__channel1_2"]


def test_too_many_layers_are_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "inp").mkdir()
    for number in range(21):
        (tmp_path / "inp" / f"{number}.tif").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"become 21 layers; 20 at most.*max_layers"):
        find_layers(tmp_path / "inp", Selection(mapping=FILE))
    with pytest.raises(InputError, match="become 3 layers; 2 at most"):
        find_layers(make(tmp_path / "more", TREES["nested"]), Selection(max_layers=2))
    assert len(find_layers(tmp_path / "more" / "inp", Selection(max_layers=3))) == 3


def test_too_many_channels_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((7, 5, 6), "uint8"), photometric="minisblack", metadata={"axes": "CYX"})
    with pytest.raises(InputError, match="become 7 layers; 6 at most"):
        find_layers(tmp_path / "a.tif", Selection(max_layers=6))


@given(
    st.lists(st.text("ab./_ !", min_size=1).filter(lambda path: path.strip("/")), min_size=1, unique=True),
    st.sampled_from(Mapping),
)
def test_names_are_usable_and_distinct(paths: list[str], mapping: Mapping) -> None:
    groups = group_files(ImageFiles("/x", tuple(paths), "label"), Selection(mapping=mapping), lambda path: "a" in path)
    assert sorted(path for group in groups for path in group.files) == sorted(paths)
    names = [group.name for group in groups]
    assert len(set(names)) == len(names)
    for name in names:
        assert validate_layer_name(name) == name


@given(st.lists(st.sampled_from(["a", "a_2", "a_2_2", "b"])))
def test_distinct_names(names: list[str]) -> None:
    found = distinct(names)
    assert len(found) == len(names) == len(set(found))
    assert all(new == old or new.startswith(old + "_") for new, old in zip(found, names, strict=True))
    assert set(names) <= set(found)


@given(st.text())
def test_any_text_gives_a_layer_name(text: str) -> None:
    assert validate_layer_name(layer_name(text))
