"""Images are found wherever they lie: in folders, zip files, by patterns, in lists; in one order everywhere."""

from __future__ import annotations

import fnmatch
import glob
import os
import pickle
import random
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from wkdask.errors import InputError, StorageError, UnsupportedImageDataError, UnsupportedImageFormatError, WkdaskError
from wkdask.images import ConversionLayerMapping, FoundLayer, ImageStack, Selection, find, find_images, find_layers, sources
from wkdask.images.picture import Form, forget_parsed
from wkdask.images.sources import image_files
from wkdask.images.stack import Decoding

NAMES = ["em/s_1.tif", "em/s_2.tif", "em/s_10.tif", "em/old/x.png", "labels/s1.TIFF", "top.tif"]


@pytest.fixture(autouse=True)
def nothing_known() -> None:
    forget_parsed()


def write(path: Path, value: int = 0, shape: tuple[int, ...] = (5, 6)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    plane = np.full(shape, value, "uint8")
    if path.suffix == ".png":
        Image.fromarray(plane).save(path)
    else:
        tifffile.imwrite(path, plane, photometric="minisblack")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of images in folders, with what lies around in them."""
    for value, name in enumerate(NAMES):
        write(tmp_path / "in" / name, value)
    for name in (".git/a.tif", "em/._s_1.tif", "em/Thumbs.db", "em/readme.txt", "__MACOSX/em/s_1.tif"):
        write(tmp_path / "in" / name)
    (tmp_path / "in" / "empty").mkdir()
    return tmp_path / "in"


def values(stack: ImageStack) -> list[int]:
    result: list[int] = stack.read(0, stack.shape[0], 0, 1)[:, 0, 0, 0].tolist()
    return result


def test_a_folder_and_all_below(folder: Path) -> None:
    found = image_files(folder)
    assert found.names == ("em/old/x.png", "em/s_1.tif", "em/s_2.tif", "em/s_10.tif", "labels/s1.TIFF", "top.tif")
    assert (found.folder, found.label, found.alone, found.listed) == (str(folder), "in", False, False)
    layers = find_layers(folder, Selection(missing="close"))
    assert [(layer.name, values(layer.stack)) for layer in layers] == [
        ("old", [3]),
        ("em", [0, 1, 2]),
        ("labels", [4]),
        ("in", [5]),
    ]
    assert [layer.category for layer in layers] == [None, None, "segmentation", None]


def test_the_order_does_not_depend_on_the_file_system(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, scandir = image_files(folder), os.scandir

    class Shuffled:
        def __init__(self, path: str) -> None:
            with scandir(path) as entries:
                self.entries = list(entries)
            random.Random(len(path)).shuffle(self.entries)

        def __enter__(self) -> Iterator[Any]:
            return iter(self.entries[::-1])

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(sources.os, "scandir", Shuffled)
    assert image_files(folder) == expected


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_file_is_a_folder(folder: Path, tmp_path: Path, compression: int) -> None:
    archive = tmp_path / "In.ZIP"
    with zipfile.ZipFile(archive, "w", compression) as file:
        for path in sorted(folder.rglob("*"), reverse=True):
            file.write(path, path.relative_to(folder))
    assert image_files(archive).names == image_files(folder).names
    chosen = Selection(missing="close")
    layers, expected = find_layers(archive, chosen), find_layers(folder, chosen)
    assert [(layer.name.lower(), values(layer.stack)) for layer in layers] == [
        (layer.name, values(layer.stack)) for layer in expected
    ]
    assert [layer.category for layer in layers] == [layer.category for layer in expected]
    stack = pickle.loads(pickle.dumps(layers[1].stack))
    assert [(name, size) for name, size, _ in stack.identity()] == [
        (name, os.path.getsize(folder / name)) for name in ("em/s_1.tif", "em/s_2.tif", "em/s_10.tif")
    ]
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as file:
        file.writestr("a.txt", "x")
    with pytest.raises(UnsupportedImageFormatError, match=r"none\.zip' has no readable images but 1 other files \(1 txt\)"):
        find_layers(tmp_path / "none.zip")


def test_members_of_a_zip_file_that_begin_with_a_dot(folder: Path, tmp_path: Path) -> None:
    """As some programs pack a folder from within."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                file.writestr(f"./{path.relative_to(folder).as_posix()}", path.read_bytes())
    assert sorted(name.removeprefix("./") for name in image_files(tmp_path / "a.zip").names) == sorted(
        image_files(folder).names
    )


def test_names_of_a_zip_file_that_no_file_system_has(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for end in "13":
            file.writestr("9" * 4500 + end + ".tif", b"")
    with pytest.raises(InputError, match=r"has 4505 characters, 4096 at most.*'9999"):
        find_layers(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as file:
        for end in "13":
            file.writestr("9" * 4000 + end + ".tif", b"")
    with pytest.raises(InputError, match="leave gaps"):
        find_images(tmp_path / "b.zip")


@pytest.mark.parametrize(
    "pattern",
    ["em/*.tif", "em/s_?.tif", "*/*.tif", "**/*.tif", "**", "em/**", "**/old/*", "e*/**/*.png", "**/*", "[el]*/s*", "*",
     "./em/*", "*//./*.tif", "em/s_[12].tif", "**/**/x.png"],
)  # fmt: skip
@pytest.mark.parametrize("absolute", [True, False])
def test_patterns_find_what_glob_finds(folder: Path, pattern: str, absolute: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    pattern = f"{folder}/{pattern}" if absolute else pattern
    found = image_files(pattern)
    expected = {os.path.abspath(path) for path in glob.glob(pattern, recursive=True) if os.path.isfile(path)}
    expected = {path for path in expected if path.endswith((".tif", ".TIFF", ".png")) and "__MACOSX" not in path}
    assert {os.path.join(found.folder, name) for name in found.names} == expected


def test_patterns_name_layers(folder: Path) -> None:
    [layer] = find_layers(f"{folder}/em/*.tif", Selection(missing="close"))
    assert (layer.name, values(layer.stack)) == ("em", [0, 1, 2])
    assert find_images(f"{folder}/em/s_?.tif").files == ("s_1.tif", "s_2.tif")
    for pattern, words in [("em/*.gif", "No file matches"), ("nowhere/*.tif", "no folder"), ("em/*.txt", "no readable images")]:
        with pytest.raises(WkdaskError, match=words):
            find_layers(f"{folder}/{pattern}")


def test_a_name_with_brackets_is_no_pattern(tmp_path: Path) -> None:
    write(tmp_path / "em[1]" / "a*.tif", 7)
    write(tmp_path / "em1" / "a.tif", 9)
    assert values(find_images(tmp_path / "em[1]")) == [7]
    assert values(find_images(tmp_path / "em[1]" / "a*.tif")) == [7]


@given(
    st.lists(st.sampled_from(["**", "*", "a", "b?", "[ab]"]), min_size=1, max_size=4),
    st.lists(st.sampled_from("abc"), min_size=1, max_size=4),
)
def test_matching_is_what_a_regular_expression_says(pattern: list[str], parts: list[str]) -> None:
    assert sources._matches(parts, pattern) == matched_by_choice(parts, pattern)


def matched_by_choice(parts: list[str], pattern: list[str]) -> bool:
    """Try every number of folders that each ** may stand for."""
    if "**" not in pattern:
        return len(parts) == len(pattern) and all(map(fnmatch.fnmatchcase, parts, pattern))
    at = pattern.index("**")
    fewest = 1 if at == len(pattern) - 1 else 0
    fills = [pattern[:at] + ["*"] * n + pattern[at + 1 :] for n in range(fewest, len(parts) + 1)]
    return any(matched_by_choice(parts, fill) for fill in fills)


def test_lists_of_files(folder: Path) -> None:
    paths: list[str | Path] = [folder / "em/s_2.tif", str(folder / "em/s_1.tif")]
    [layer] = find_layers(paths)
    assert (layer.name, values(layer.stack)) == ("em", [1, 0])
    assert layer.stack.notes == ("the slices stand in the order of the list, which is not that of their names",)
    stack = find_images([folder / "top.tif", folder / "labels/s1.TIFF"])
    assert (stack.folder, values(stack)) == (str(folder), [5, 4])
    assert [layer.name for layer in find_layers([folder / "top.tif"])] == ["top"]
    with pytest.raises(InputError, match="3, 4, 5, 6, 7 and 2 more are missing"):
        find_layers([folder / "em" / name for name in ("s_1.tif", "s_2.tif", "s_10.tif")])
    for wrong, words in [
        ([], "list of images is empty"),
        ([folder / "em"], "is no file"),
        ([folder / "em/readme.txt"], "'.txt'; readable are tif"),
        ([folder / "top.tif", str(folder / "em/../top.tif")], "stands twice"),
        ([folder / "none.tif"], "no such file"),
    ]:
        with pytest.raises(WkdaskError, match=words):
            find_layers(wrong)


def test_relative_sources_keep_their_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder / "labels")
    [layer] = find_layers(".")
    assert (layer.name, layer.category) == ("labels", "segmentation")
    assert layer.stack.folder == str(folder / "labels")


def test_paths_say_what_is_a_segmentation(tmp_path: Path) -> None:
    for name in ("Segmentation_v2/a.tif", "em/labels.tif", "em/raw.tif", "other/1.tif"):
        write(tmp_path / "x" / name)
    chosen = Selection(mapping=ConversionLayerMapping.ENFORCE_LAYER_PER_FILE)
    found = {layer.name: layer.category for layer in find_layers(tmp_path / "x", chosen)}
    assert found == {
        "em_labels.tif": "segmentation",
        "em_raw.tif": None,
        "other_1.tif": None,
        "Segmentation_v2_a.tif": "segmentation",
    }
    [merged] = find_layers(tmp_path / "x", Selection(merge=True))
    assert merged.category is None
    shutil.move(tmp_path / "x", tmp_path / "my_labels")
    [merged] = find_layers(tmp_path / "my_labels", Selection(merge=True))
    assert merged.category == "segmentation"


# ------------------------------------------------------------------------------------------------------ links, rights


def test_links_that_lead_in_circles(folder: Path) -> None:
    expected = image_files(folder).names
    (folder / "em" / "up").symlink_to("..", target_is_directory=True)
    (folder / "em" / "self").symlink_to("self")
    (folder / "labels" / "here").symlink_to(".", target_is_directory=True)
    found = image_files(folder).names
    assert set(found) == set(expected)
    assert image_files(f"{folder}/**/*.tif").names == tuple(name for name in expected if name.endswith("tif"))


def test_links_are_followed(folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "a1.tif", 8)
    (folder / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (folder / "empty" / "b.tif").symlink_to(tmp_path / "elsewhere" / "a1.tif")
    assert {"linked/a1.tif", "empty/b.tif"} <= set(image_files(folder).names)


def test_links_that_multiply_are_refused(tmp_path: Path) -> None:
    for depth in range(14):
        (tmp_path / f"d{depth}").mkdir()
        for link in "ab":
            (tmp_path / f"d{depth}" / link).symlink_to(tmp_path / f"d{depth + 1}", target_is_directory=True)
    (tmp_path / "d14").mkdir()
    with pytest.raises(InputError, match="More than 10000 links to folders"):
        image_files(tmp_path / "d0")


def test_links_to_nothing_lose_no_slice_silently(folder: Path) -> None:
    (folder / "em" / "notes.txt.lnk").symlink_to("nowhere")
    image_files(folder)
    (folder / "em" / "s_11.tif").symlink_to("nowhere")
    with pytest.raises(StorageError, match=r"s_11\.tif' is a link that leads nowhere"):
        image_files(folder)


def test_folders_that_may_not_be_read(unprivileged: Callable[[], AbstractContextManager[None]]) -> None:
    with tempfile.TemporaryDirectory() as top:  # one that others may enter, unlike tmp_path
        Path(top).chmod(0o755)
        write(Path(top) / "in" / "a.tif")
        write(Path(top) / "in" / "secret" / "b.tif")
        write(Path(top) / "in" / "open" / "c.tif")
        (Path(top) / "in" / "secret").chmod(0)
        with unprivileged():
            for source in (f"{top}/in", f"{top}/in/**/*.tif"):
                with pytest.raises(StorageError, match=r"in/secret.* can not be read: permission denied"):
                    find_layers(source)
            assert image_files(f"{top}/in/*.tif").names == ("a.tif",)
            assert image_files(f"{top}/in/o*/*.tif").names == ("open/c.tif",)  # folders that can not match stay closed
        (Path(top) / "in" / "secret").chmod(0o755)


# ------------------------------------------------------------------------------------------------------ order and gaps


@pytest.mark.parametrize(
    ("missing", "expected"),
    [("zeros", [7, 0, 0, 9]), ("repeat", [7, 7, 7, 9]), ("close", [7, 9]), ("ignore", [7, 9]), (None, None), ("error", None)],
)
@pytest.mark.parametrize("by_pattern", [True, False])
def test_gaps(tmp_path: Path, missing: str | None, expected: list[int] | None, by_pattern: bool) -> None:
    write(tmp_path / "slice_0411.tif", 7)
    write(tmp_path / "slice_0414.tif", 9)
    chosen = Selection(missing=missing, z_from_name=r"_(\d+)" if by_pattern else None)
    if expected is None:
        with pytest.raises(InputError, match=r"leave gaps: 412, 413 are missing.*--missing zeros or repeat; or close"):
            find_layers(tmp_path, chosen)
        return
    [layer] = find_layers(tmp_path, chosen)
    assert values(layer.stack) == expected
    assert layer.stack.missing == ("close" if missing == "ignore" else missing)
    assert "412, 413" in layer.stack.notes[0]


def test_gaps_between_volumes_are_as_deep_as_the_volume_before(tmp_path: Path) -> None:
    write(tmp_path / "v1.tif", 1, (2, 5, 6))
    write(tmp_path / "v3.tif", 3, (3, 5, 6))
    write(tmp_path / "v4.tif", 4, (1, 5, 6))
    for missing, expected in [
        ("zeros", [1, 1, 0, 0, 3, 3, 3, 4]),
        ("repeat", [1] * 4 + [3] * 3 + [4]),
        ("close", [1, 1, 3, 3, 3, 4]),
    ]:
        [layer] = find_layers(tmp_path, Selection(missing=missing, merge=True))
        assert values(layer.stack) == expected


def test_numbers_from_names_decide_order(tmp_path: Path) -> None:
    for name, value in [("b_z3_x9.tif", 3), ("a_z1_x5.tif", 1), ("c_z02_x1.tif", 2)]:
        write(tmp_path / "sub" / name, value)
    assert values(find_layers(tmp_path, Selection(z_from_name=r"z(\d+)"))[0].stack) == [1, 2, 3]
    for name, value in [("z-2/a1.tif", 5), ("z+1/a.tif", 7), ("z-1/a.tif", 6)]:
        write(tmp_path / "other" / name, value)
    [layer] = find_layers(tmp_path / "other", Selection(z_from_name=r"z([+-]\d+)/", missing="zeros", merge=True))
    assert values(layer.stack) == [5, 6, 0, 7]


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("z(", "can not be read"),
        ("z", "has 0 groups"),
        (r"(z)(\d)", "has 2 groups"),
        (r"q(\d+)", r"does not match 'z1\.tif' and 2 more"),
        (r"z([12])", r"does not match 'z3\.tif';"),
        ("(z)", "finds 'z' in"),
        (r"z()\d?", r"finds '' in 'z1\.tif'"),
        (r"z|(\d)", r"finds None in 'z1\.tif'"),
        (r"\.(?:t)()if", "finds '' in"),
    ],
)
def test_patterns_of_numbers_that_do_not_fit(tmp_path: Path, pattern: str, words: str) -> None:
    for name in ("z1.tif", "z2.tif", "z3.tif"):
        write(tmp_path / name)
    with pytest.raises(InputError, match=words):
        find_layers(tmp_path, Selection(z_from_name=pattern))


def test_double_numbers_are_refused(tmp_path: Path) -> None:
    for name in ("a_z1.tif", "b_z1.tif"):
        write(tmp_path / name)
    with pytest.raises(InputError, match=r"a_z1\.tif' and 'b_z1\.tif' have the same number 1"):
        find_layers(tmp_path, Selection(z_from_name=r"z(\d+)", missing="zeros"))


def test_sort_keys(tmp_path: Path) -> None:
    for number in (1, 2, 4):
        write(tmp_path / "x" / f"s{number}.tif", number)
    asked: list[str] = []

    def backwards(path: str) -> int:
        asked.append(path)
        return -int(path[-5])

    [layer] = find_layers(tmp_path, Selection(sort_key=backwards))
    assert values(layer.stack) == [4, 2, 1]
    assert set(asked) == {"x/s1.tif", "x/s2.tif", "x/s4.tif"}
    with pytest.raises(InputError, match="3 is missing"):
        find_layers(tmp_path, Selection(sort_key=lambda path: path))
    mixed: dict[str, object] = {"x/s1.tif": 1, "x/s2.tif": "b", "x/s4.tif": None}
    with pytest.raises(InputError, match="sort key's results can not be compared"):
        find_layers(tmp_path, Selection(sort_key=mixed.__getitem__))
    with pytest.raises(InputError, match="Give one of them"):
        Selection(sort_key=backwards, z_from_name=r"(\d)")


@pytest.mark.parametrize("wrong", [{"missing": "nan"}, {"mapping": "every"}])
def test_selections_that_mean_nothing(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="expected one of"):
        Selection(**wrong)


# ------------------------------------------------------------------------------------------------------ one layer


def test_mixed_kinds_in_one_layer_only(folder: Path) -> None:
    assert len(find_layers(folder, Selection(missing="close"))) == 4
    with pytest.raises(UnsupportedImageFormatError, match="of mixed kinds: 1 png, 5 tif"):
        find_layers(folder, Selection(missing="close", merge=True))


def test_files_that_differ(tmp_path: Path) -> None:
    write(tmp_path / "a1.tif")
    write(tmp_path / "a2.tif", 0, (6, 5))
    with pytest.raises(UnsupportedImageDataError, match=r"a1\.tif' has 6 x 5 voxels.*a2\.tif' has 5 x 6 voxels.*must be alike"):
        find_layers(tmp_path)
    chosen = Selection(mapping=ConversionLayerMapping.ENFORCE_LAYER_PER_FILE)
    assert [layer.stack.shape for layer in find_layers(tmp_path, chosen)] == [(1, 5, 6), (1, 6, 5)]


def test_files_are_parsed_once_and_only_where_needed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed, asked = find.parsed, []

    def counting(path: str) -> Any:
        asked.append(path)
        return parsed(path)

    monkeypatch.setattr(find, "parsed", counting)
    with pytest.raises(InputError, match="at most"):
        find_layers(folder, Selection(max_layers=3))
    assert asked == [str(folder / "em/old/x.png")]


def test_an_identity_changes_with_a_file(folder: Path) -> None:
    stack = find_images(folder / "em" / "s_1.tif")
    before = stack.identity()
    assert before == stack.identity()
    os.utime(folder / "em" / "s_1.tif", ns=(1, 1))
    after = stack.identity()
    assert after != before and after == [("s_1.tif", before[0][1], 1)]
    (folder / "em" / "s_1.tif").unlink()
    with pytest.raises(StorageError, match=r"s_1\.tif' can not be read"):
        stack.identity()


@pytest.mark.parametrize(
    "names",
    [
        [f"slice_{z:06}.tif" for z in range(100_000)],
        [f"s{z}.tif" for z in range(100_000) if z % 20_000],
        [f"part{z // 1000}/s{z:06}.tif" for z in range(100_000)],
        [f"part{z // 1000:03}/s{z % 1000}.tif" for z in range(100_000)],
    ],
    ids=["numbered", "with gaps", "in folders", "in folders anew"],
)
def test_stacks_pickle_small(names: list[str]) -> None:
    pages = Decoding((8,), (100,))
    stack = ImageStack("/data", tuple(names), range(len(names)), (1,), Form(100, 100, 1, "uint8"), (), pages)
    pickled = pickle.dumps(FoundLayer("em", stack))
    assert len(pickled) < 700
    assert pickle.loads(pickled).stack == stack


def test_volumes_pickle_small() -> None:
    names = tuple(f"v{z}.tif" for z in range(10_000))
    depths = tuple(1 + (z % 3 == 0) for z in range(10_000))
    stack = ImageStack("/d", names, range(10_000), depths, Form(9, 9, 1, "uint8"), (("z", 0),), Decoding((8,), (9,)))
    assert stack.shape[0] == sum(depths)
    assert len(pickle.dumps(stack)) < 1000
    assert pickle.loads(pickle.dumps(stack)) == stack
