"""Attachments: what the JSON lists, what is copied, and that nothing else is touched."""

from __future__ import annotations

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wkdask as wk
from wkdask.dataset import attachments
from wkdask.errors import (
    DatasetExistsError,
    InputError,
    LockedError,
    MetadataError,
    ReadOnlyError,
    SegmentIdError,
    ServerNotSupportedError,
    StorageError,
)
from wkdask.metadata import FILE_NAME

LISTS = (wk.MeshAttachment, wk.AgglomerateAttachment, wk.ConnectomeAttachment)
SINGLES = (wk.SegmentIndexAttachment, wk.SegmentStatisticsAttachment, wk.CumsumAttachment)
ALLOWED = {
    wk.MeshAttachment: {"zarr3", "hdf5", "neuroglancerPrecomputed"},
    wk.AgglomerateAttachment: {"zarr3", "hdf5"},
    wk.ConnectomeAttachment: {"zarr3", "hdf5"},
    wk.SegmentIndexAttachment: {"zarr3", "hdf5"},
    wk.SegmentStatisticsAttachment: {"zarr3"},
    wk.CumsumAttachment: {"zarr3", "json"},
}


def make(folder, name="ds"):
    return wk.Dataset(folder / name, (4, 4, 35)).add_layer("cells", "segmentation", dtype="uint32")


@pytest.fixture
def cells(tmp_path):
    return make(tmp_path)


@pytest.fixture
def tree(tmp_path):
    """Files as an attachment in Zarr 3 has them."""
    for name in ("zarr.json", "data/c/0", "data/zarr.json"):
        place = tmp_path / "tree" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(name.encode() * 5)
    return tmp_path / "tree"


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def said(layer):
    found = json.loads((layer._store.location / FILE_NAME).read_bytes())
    return found["dataLayers"][0].get("attachments")


def mesh(path, name="m", data_format="zarr3"):
    return wk.MeshAttachment.from_path_and_name(path, name, data_format=data_format)


def test_each_kind_is_listed_by_its_own_key(cells, tree) -> None:
    assert cells.attachments.is_empty and said(cells) is None
    for kind in (*LISTS, *SINGLES):
        cells.attachments.add_attachment_as_ref(kind.from_path_and_name(tree, "a", data_format="zarr3"))
    entry = {"name": "a", "path": str(tree), "dataFormat": "zarr3"}
    assert said(cells) == {
        **{key: [entry] for key in ("meshes", "agglomerates", "connectomes")},
        **dict.fromkeys(("segmentIndex", "segmentStatistics", "cumsum"), entry),
    }
    found = cells.attachments
    assert [type(one) for one in found] == [*LISTS, *SINGLES]
    by_name = [*found.meshes, *found.agglomerates, *found.connectomes]
    assert [*by_name, found.segment_index, found.segment_statistics, found.cumsum] == list(found)
    assert not found.is_empty
    for one in list(found):
        assert pickle.loads(pickle.dumps(one)) == one
        found.delete_attachment(one)
    assert found.is_empty and said(cells) is None and files(tree)


@pytest.mark.parametrize("kind", [*LISTS, *SINGLES])
@pytest.mark.parametrize("form", ["zarr3", "hdf5", "json", "neuroglancerPrecomputed", "n5"])
def test_formats_of_each_kind(kind, form) -> None:
    if form in ALLOWED[kind]:
        assert kind.from_path_and_name("/a", "a", data_format=form).data_format == wk.AttachmentDataFormat(form)
    else:
        with pytest.raises(ValueError, match="can not be stored as"):
            kind.from_path_and_name("/a", "a", data_format=form)


@pytest.mark.parametrize("name", ["", ".a", "a/b", "..", "a b", "ä", 3])
def test_names_are_those_of_layers(cells, name, tree) -> None:
    with pytest.raises(InputError):
        mesh(tree, name)
    if name:
        with pytest.raises(InputError):
            cells.attachments.add_attachment_as_ref(mesh(tree), new_name=name)
        with pytest.raises(InputError):
            cells.attachments.add_attachment_as_copy(mesh(tree), new_name=name)


def test_paths_are_relative_in_the_dataset_and_absolute_elsewhere(cells, tmp_path, monkeypatch) -> None:
    inside = tmp_path / "ds" / "cells" / "meshes" / "m"
    refer = cells.attachments.add_attachment_as_ref
    assert refer(mesh(inside, "in")).properties.path == "./cells/meshes/m"
    assert refer(mesh(tmp_path / "out", "out")).properties.path == str(tmp_path / "out")
    assert refer(mesh("https://host/a/m", "url")).properties.path == "https://host/a/m"
    given = wk.MeshAttachment.from_path_and_name("cells/x", "rel", data_format="hdf5", dataset_path=tmp_path / "ds")
    assert refer(given).properties.path == "./cells/x"
    monkeypatch.chdir(tmp_path)
    assert refer(mesh("here", "here")).path == str(tmp_path / "here")
    assert [one.path for one in cells.attachments.meshes] == [
        str(inside), str(tmp_path / "out"), "https://host/a/m", str(tmp_path / "ds/cells/x"), str(tmp_path / "here"),
    ]  # fmt: skip
    beside = wk.MeshAttachment.from_path_and_name("../x", "x", data_format="hdf5", dataset_path=tmp_path / "ds")
    monkeypatch.chdir(tmp_path / "ds")
    here = mesh("../x", "y")
    monkeypatch.chdir("/")
    for given in (beside, here):
        assert (given.path, refer(given).properties.path) == (str(tmp_path / "x"), str(tmp_path / "x"))
    with pytest.raises(MetadataError, match="leaves"):
        wk.MeshAttachment.from_path_and_name("%2e%2e/x", "x", data_format="hdf5", dataset_path=tmp_path / "ds")


@pytest.mark.parametrize("kind", [*LISTS, *SINGLES])
def test_copies_are_the_same_bytes_in_the_layers_folder(cells, tree, kind, tmp_path) -> None:
    before = files(tree)
    made = cells.attachments.add_attachment_as_copy(kind.from_path_and_name(tree, "a", data_format="zarr3"))
    place = tmp_path / "ds" / "cells" / kind.container_name / "a"
    assert made.path == str(place) and made.properties.path == f"./cells/{kind.container_name}/a"
    assert files(place) == files(tree) == before
    assert list(cells.attachments) == [made]
    assert isinstance(made, wk.Attachment)
    assert made.type_name in kind.container_name or made.type_name + "s" == kind.container_name
    assert not list((tmp_path / "ds" / ".wkdask").rglob("attachment-*"))


def test_a_single_file_keeps_its_ending_and_may_get_another_name(cells, tmp_path) -> None:
    (tmp_path / "a.hdf5").write_bytes(b"x" * 9)
    made = cells.attachments.add_attachment_as_copy(mesh(tmp_path / "a.hdf5", "a", "hdf5"), new_name="b")
    assert (made.name, made.properties.path) == ("b", "./cells/meshes/b.hdf5")
    assert (tmp_path / "ds/cells/meshes/b.hdf5").read_bytes() == b"x" * 9


def test_a_copy_from_another_dataset_knows_where_that_lies(tmp_path, tree) -> None:
    one, other = make(tmp_path, "one"), make(tmp_path, "other")
    one.attachments.add_attachment_as_copy(mesh(tree))
    copy = other.attachments.add_attachment_as_copy(one.attachments.meshes[0])
    assert copy.path == str(tmp_path / "other/cells/meshes/m") and files(tmp_path / "other/cells/meshes/m") == files(tree)
    seen = other.attachments.add_attachment_as_ref(one.attachments.meshes[0], new_name="seen")
    assert seen.properties.path == str(tmp_path / "one/cells/meshes/m")


def test_names_occur_once_and_single_ones_are_replaced(cells, tree) -> None:
    found = cells.attachments
    found.add_attachment_as_ref(mesh(tree))
    for verb in (found.add_attachment_as_ref, found.add_attachment_as_copy):
        with pytest.raises(ValueError, match="a mesh 'm' already"):
            verb(mesh(tree))
    found.add_attachment_as_ref(wk.ConnectomeAttachment.from_path_and_name(tree, "m", data_format="zarr3"))
    for name in ("a", "b"):
        found.add_attachment_as_ref(wk.SegmentIndexAttachment.from_path_and_name(tree, name, data_format="zarr3"))
    assert found.segment_index.name == "b"


def test_renaming_changes_the_name_alone(cells, tree) -> None:
    found = cells.attachments
    for name in ("a", "b", "c"):
        found.add_attachment_as_ref(mesh(tree, name))
    new = found.rename_attachment(found.meshes[1], new_name="z")
    assert [one.name for one in found.meshes] == ["a", "z", "c"] and new == found.meshes[1] and new.path == str(tree)
    index = found.add_attachment_as_ref(wk.SegmentIndexAttachment.from_path_and_name(tree, "i", data_format="zarr3"))
    assert found.rename_attachment(index, new_name="j").name == found.segment_index.name == "j"
    assert found.rename_attachment(new, new_name="z") == new
    with pytest.raises(ValueError, match="already"):
        found.rename_attachment(new, new_name="a")
    with pytest.raises(ValueError, match="no mesh 'gone'; it has 'a', 'z', 'c'"):
        found.rename_attachment(mesh(tree, "gone"), new_name="x")
    with pytest.raises(InputError):
        found.rename_attachment(new, new_name="../x")


def test_deleting_takes_that_one_off_the_list(cells, tree) -> None:
    found = cells.attachments
    for name in ("a", "b", "c"):
        found.add_attachment_as_copy(mesh(tree, name))
    found.delete_attachment(found.meshes[1])
    assert [one.name for one in found.meshes] == ["a", "c"] == [one["name"] for one in said(cells)["meshes"]]
    with pytest.raises(ValueError, match="no mesh 'b'"):
        found.delete_attachment(mesh(tree, "b"))
    with pytest.raises(ValueError, match="no segment index 'a'"):
        found.delete_attachment(wk.SegmentIndexAttachment.from_path_and_name(tree, "a", data_format="zarr3"))


names = st.text(min_size=1, max_size=4).map("x-".__add__)
others = st.dictionaries(names, st.none() | st.integers() | st.lists(st.text(max_size=2), max_size=2), max_size=3)


@given(others, others, others)
def test_unknown_keys_survive_every_verb(tmp_path_factory, on_layer, on_all, on_one) -> None:
    folder = tmp_path_factory.mktemp("keys")
    cells = make(folder)
    document = folder / "ds" / FILE_NAME
    raw = json.loads(document.read_text())
    entry = {"name": "a", "path": "/a", "dataFormat": "zarr9", **on_one}
    raw["dataLayers"][0] |= {"attachments": {"meshes": [entry], "newKind": [1], **on_all}, **on_layer}
    document.write_text(json.dumps(raw))
    found = cells.attachments
    found.rename_attachment(found.meshes[0], new_name="b")
    found.add_attachment_as_ref(found.meshes[0], new_name="c")
    found.add_attachment_as_ref(mesh("/d", "d"))
    found.delete_attachment(found.meshes[-1])
    layer = json.loads(document.read_text())["dataLayers"][0]
    meshes = [{**entry, "name": "b"}, {**entry, "name": "c"}]
    assert layer["attachments"] == {"meshes": meshes, "newKind": [1], **on_all}
    assert {key: layer[key] for key in on_layer} == on_layer
    for one in found.meshes:
        found.delete_attachment(one)
    assert said(cells) == {"newKind": [1], **on_all}


def test_what_older_programs_left_is_listed_once(cells, tmp_path) -> None:
    for name in ("meshes/b", "meshes/a", "agglomerates/c", "connectomes/d", "segmentIndex/e", "meshes/.x", "meshes/a b"):
        place = tmp_path / "ds/cells" / f"{name}.hdf5"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"x")
    (tmp_path / "ds/cells/agglomerates/cumsum.json").write_text("{}")
    (tmp_path / "ds/cells/meshes/note.txt").write_text("x")
    for _ in range(2):
        with pytest.warns(UserWarning, match="not listed"):
            cells.attachments.detect_legacy_attachments()
        assert said(cells) == {
            "meshes": [{"name": n, "path": f"./cells/meshes/{n}.hdf5", "dataFormat": "hdf5"} for n in "ab"],
            "agglomerates": [{"name": "c", "path": "./cells/agglomerates/c.hdf5", "dataFormat": "hdf5"}],
            "connectomes": [{"name": "d", "path": "./cells/connectomes/d.hdf5", "dataFormat": "hdf5"}],
            "segmentIndex": {"name": "e", "path": "./cells/segmentIndex/e.hdf5", "dataFormat": "hdf5"},
            "cumsum": {"name": "cumsum", "path": "./cells/agglomerates/cumsum.json", "dataFormat": "json"},
        }


# ------------------------------------------------------------------------------------- what must not happen


def test_copies_never_leave_the_dataset(cells, tree, tmp_path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "ds/cells").mkdir(exist_ok=True)
    (tmp_path / "ds/cells/meshes").symlink_to(outside)
    with pytest.raises(ReadOnlyError, match="link"):
        cells.attachments.add_attachment_as_copy(mesh(tree))
    (tmp_path / "ds/cells/meshes").unlink()
    (tmp_path / "ds/cells").rmdir()
    (tmp_path / "ds/cells").symlink_to(outside)
    with pytest.raises(ReadOnlyError, match="link"):
        cells.attachments.add_attachment_as_copy(mesh(tree))
    assert not list(outside.iterdir()) and said(cells) is None


def test_what_lies_at_a_copys_place_stays(cells, tree, tmp_path) -> None:
    place = tmp_path / "ds/cells/meshes/m"
    place.mkdir(parents=True)
    (place / "mine").write_text("mine")
    with pytest.raises(DatasetExistsError, match="already"):
        cells.attachments.add_attachment_as_copy(mesh(tree))
    assert files(place) == {"mine": b"mine"} and said(cells) is None


def test_a_copy_that_fails_leaves_nothing(cells, tree, tmp_path) -> None:
    (tree / "zzz").symlink_to(tmp_path)
    with pytest.raises(InputError, match="link"):
        cells.attachments.add_attachment_as_copy(mesh(tree))
    assert not (tmp_path / "ds/cells/meshes/m").exists() and said(cells) is None
    with pytest.raises(StorageError, match="nothing"):
        cells.attachments.add_attachment_as_copy(mesh(tmp_path / "absent"))
    with pytest.raises(InputError, match="holds the place"):
        cells.attachments.add_attachment_as_copy(mesh(tmp_path / "ds"))
    assert not (tmp_path / "ds/cells/meshes/m").exists() and said(cells) is None


def test_read_only_datasets_refuse_every_change(cells, tree, tmp_path) -> None:
    cells.attachments.add_attachment_as_ref(mesh(tree))
    before = files(tmp_path / "ds")
    layer = wk.Dataset.open(tmp_path / "ds", read_only=True).get_layer("cells")
    found = layer.attachments
    graph = wk.AgglomerateGraph()
    changes = [
        lambda: found.add_attachment_as_ref(mesh(tree, "n")),
        lambda: found.add_attachment_as_copy(mesh(tree, "n")),
        lambda: found.rename_attachment(mesh(tree), new_name="n"),
        lambda: found.delete_attachment(mesh(tree)),
        found.detect_legacy_attachments,
        lambda: wk.AgglomerateAttachment.create_and_add_to(layer, "n", graph),
        lambda: setattr(layer, "mappings", ["a"]),
        lambda: setattr(layer, "largest_segment_id", 3),
        lambda: setattr(layer, "default_view_configuration", wk.LayerViewConfiguration()),
        lambda: setattr(layer, "coordinate_transformations", ()),
    ]
    for change in changes:
        with pytest.raises(RuntimeError, match="read-only"):
            change()
    assert files(tmp_path / "ds") == before


def test_threads_lose_nothing(tmp_path, tree) -> None:
    make(tmp_path)

    def add(number):
        layer = wk.Dataset.open(tmp_path / "ds").get_layer("cells")
        layer.attachments.add_attachment_as_copy(mesh(tree, f"m{number}"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(16)))
    found = wk.Dataset.open(tmp_path / "ds").get_layer("cells").attachments
    assert sorted(one.name for one in found) == sorted(f"m{n}" for n in range(16))


def test_two_copies_to_one_place_leave_one_of_them_whole(cells, tree, monkeypatch) -> None:
    """The one that comes later is refused, and deletes nothing; that the other one was first is what files tell."""
    copy, later = attachments.copy_file, []

    def copied(*arguments):
        if not later:
            later.append(wk.Dataset.open(cells.dataset.path).get_layer("cells"))
            with pytest.raises(LockedError, match="copying the mesh 'm'"):
                later[0].attachments.add_attachment_as_copy(mesh(tree))
            with pytest.raises(LockedError, match="copying the mesh"), pytest.warns(DeprecationWarning, match="symlink"):
                later[0].attachments.add_symlink_attachments(mesh(tree))
        return copy(*arguments)

    monkeypatch.setattr(attachments, "copy_file", copied)
    made = cells.attachments.add_attachment_as_copy(mesh(tree))
    assert files(Path(made.path)) == files(tree) and [m.name for m in cells.attachments] == ["m"]


def test_what_is_listed_by_another_name_is_not_listed_again(cells, tmp_path) -> None:
    place = tmp_path / "ds/cells/meshes/a.hdf5"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"x")
    cells.attachments.add_attachment_as_ref(mesh(place, "coarse", "hdf5"))
    cells.attachments.detect_legacy_attachments()
    assert [m.name for m in cells.attachments] == ["coarse"]


# ------------------------------------------------------------------------------------------- older spellings


def test_older_spellings_do_the_same_and_warn(cells, tree, tmp_path, monkeypatch) -> None:
    found = cells.attachments
    verbs = {
        "add_mesh": "meshes", "add_agglomerate": "agglomerates", "add_connectome": "connectomes",
        "set_segment_index": "segment_index", "set_cumsum": "cumsum",
    }  # fmt: skip
    for verb, member in verbs.items():
        with pytest.warns(DeprecationWarning, match=f"{verb} is deprecated. Use") as caught:
            made = getattr(found, verb)("cells/x", name="a", data_format="zarr3")
        assert caught[0].filename == __file__
        assert made in (getattr(found, member), *list(found)) and made.properties.path == "./cells/x"
    with pytest.warns(DeprecationWarning, match="add_attachments"):
        [one] = found.add_attachments(mesh(tree, "ref"))
    with pytest.raises(ServerNotSupportedError, match="Uploading MeshAttachment"):
        found.upload_attachment(one, transfer_mode="copy", common_storage_prefix="x")
    monkeypatch.chdir(tmp_path)
    with pytest.warns(DeprecationWarning, match="add_copy_attachments"):
        [two] = found.add_copy_attachments(mesh("tree", "copy"))
    for relative in (False, True):
        with pytest.warns(DeprecationWarning, match="add_symlink_attachments"):
            [link] = found.add_symlink_attachments(mesh(tree, f"link{relative}"), make_relative=relative)
        place = tmp_path / f"ds/cells/meshes/link{relative}"
        assert place.is_symlink() and place.readlink().is_absolute() != relative and files(place) == files(tree)
        assert link.properties.path == f"./cells/meshes/link{relative}"
    assert one.path == str(tree) and files(tmp_path / "ds/cells/meshes/copy") == files(tree)
    assert found.meshes[1:3] == (one, two)


# ----------------------------------------------------------------------------------------- largest id, mappings


@pytest.mark.parametrize("value", [0, 5, 5.0, 2**53, 2**64 - 1, None])
def test_largest_ids(cells, value) -> None:
    cells.largest_segment_id = value
    assert cells.largest_segment_id == value and not isinstance(cells.largest_segment_id, float)


@pytest.mark.parametrize("value", [5.5, -1, "5", True, float("nan"), float("inf")])
def test_what_is_no_segment_id(cells, value) -> None:
    with pytest.raises(SegmentIdError, match="no segment id") as error:
        cells.largest_segment_id = value
    assert isinstance(error.value, AssertionError | ValueError)


def test_mappings(cells) -> None:
    assert cells.mappings == []
    cells.mappings = ("a", "b")
    cells.mappings.append("not kept")
    assert cells.mappings == ["a", "b"] == wk.Dataset.open(cells._store.location).get_layer("cells").mappings
    cells.mappings = []
    assert "mappings" not in cells.properties.to_dict()
    with pytest.raises(InputError, match="list"):
        cells.mappings = "ab"


@pytest.mark.parametrize("kind", [*LISTS, *SINGLES])
def test_copies_of_layers_have_their_attachments_where_copies_of_attachments_are(cells, tree, tmp_path, kind) -> None:
    cells.attachments.add_attachment_as_ref(kind.from_path_and_name(tree, "tree", data_format="zarr3"))
    copy = wk.Dataset(tmp_path / "copy", (4, 4, 35)).add_layer_as_copy(cells)
    [one] = copy.attachments
    assert one.properties.path == f"./cells/{kind.path_below_layer('tree', 'zarr3')}"
    assert files(Path(one.path)) == files(tree)


@pytest.mark.parametrize("make", ["shallow_copy_dataset", "add_layer_as_ref"])
def test_who_shows_an_attachment_knows_how_to_get_to_it(tmp_path, make) -> None:
    source = wk.Dataset(tmp_path / "source", (4, 4, 35))
    attachments_ = source.add_layer("cells", "segmentation").attachments
    secret = {"key": "me", "secret": "s3cret"}
    mesh = wk.MeshAttachment.from_path_and_name("s3://lab/coarse", "coarse", data_format="zarr3", storage_options=secret)
    there = attachments_.add_attachment_as_ref(mesh).location
    if make == "shallow_copy_dataset":
        other = source.shallow_copy_dataset(tmp_path / "other")
    else:
        other = wk.Dataset(tmp_path / "other", (4, 4, 35))
        other.add_layer_as_ref(source.get_layer("cells"))
    [found] = other.get_segmentation_layer("cells").attachments.meshes
    assert (found.location, dict(found.location.options)) == (there, dict(there.options))
    assert dict(found.location.options)["secret"] == "s3cret"
    assert "s3cret" not in (tmp_path / "other" / FILE_NAME).read_text()
