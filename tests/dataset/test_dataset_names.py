"""Names of the reference API: all there, spelled out; older ones warn; those of servers say that they are not built."""

from __future__ import annotations

import inspect
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

import wkdask as wk
from wkdask.dataset import deprecations
from wkdask.errors import ConflictingArgumentsError, ServerNotSupportedError

# Names, and their parameters in the order of the founding page; those after "*" by name alone.
FOUNDING = {
    "__init__": "dataset_path voxel_size name exist_ok * voxel_size_with_unit scale read_only",
    "add_copy_layer": "foreign_layer new_layer_name chunk_shape chunks_per_shard data_format compress executor * shard_shape "
    "exists_ok with_attachments",
    "add_fs_copy_layer": "foreign_layer new_layer_name",
    "add_layer": "layer_name category dtype_per_layer dtype_per_channel num_channels data_format bounding_box",
    "add_layer_as_copy": "foreign_layer new_layer_name * chunk_shape shard_shape chunks_per_shard data_format compress "
    "exists_ok executor with_attachments",
    "add_layer_for_existing_files": "layer_name category * num_channels dtype dtype_per_channel data_format bounding_box",
    "add_layer_from_images": "images layer_name category data_format mag chunk_shape chunks_per_shard compress * topleft "
    "swap_xy flip_x flip_y flip_z dtype use_bioformats channel timepoint czi_channel batch_size allow_multiple_layers "
    "max_layers truncate_rgba_to_rgb executor chunk_size",
    "add_layer_like": "other_layer layer_name",
    "announce_manual_upload": "dataset_name organization initial_team_ids folder_id token",
    "calculate_bounding_box": "",
    "compress": "executor",
    "copy_dataset": "new_dataset_path voxel_size chunk_shape chunks_per_shard data_format compress args executor * "
    "voxel_size_with_unit chunk_size block_len file_len shard_shape exists_ok layers_to_ignore",
    "create": "dataset_path voxel_size name * scale",
    "delete_layer": "layer_name",
    "download": "dataset_name_or_url organization_id sharing_token webknossos_url bbox layers mags path exist_ok",
    "downsample": "sampling_mode coarsest_mag executor * interpolation_mode compress",
    "from_images": "input_path output_path voxel_size name * map_filepath_to_layer_name z_slices_sort_key voxel_size_with_unit "
    "layer_name layer_category data_format chunk_shape chunks_per_shard compress swap_xy flip_x flip_y flip_z use_bioformats "
    "max_layers batch_size executor",
    "fs_copy_dataset": "new_dataset_path * exists_ok layers_to_ignore",
    "get_color_layer": "",
    "get_color_layers": "",
    "get_layer": "layer_name",
    "get_or_add_layer": "layer_name category dtype_per_layer dtype_per_channel num_channels data_format bounding_box * dtype",
    "get_or_create": "dataset_path voxel_size name",
    "get_remote_datasets": "organization_id tags * name folder_id",
    "get_segmentation_layer": "layer_name",
    "get_segmentation_layers": "",
    "open": "dataset_path read_only",
    "open_remote": "dataset_name_or_url organization_id sharing_token webknossos_url * dataset_id annotation_id access_mode "
    "read_only use_zarr_streaming",
    "publish_to_preliminary_dataset": "dataset_id * path_prefix transfer_mode",
    "shallow_copy_dataset": "new_dataset_path name make_relative layers_to_ignore",
    "trigger_dataset_import": "directory_name organization token",
    "trigger_reload_in_datastore": "dataset_name organization token * dataset_name_or_url organization_id webknossos_url "
    "dataset_id datastore_url",
    "upload": "new_dataset_name layers_to_link jobs * initial_team_ids folder require_unique_name transfer_mode "
    "common_storage_path_prefix folder_id",
    "write_layer": "layer_name category data * data_format downsample chunk_shape shard_shape axes absolute_offset mag",
}
PROPERTIES = ["layers", "name", "path", "read_only", "resolved_path", "scale", "voxel_size", "voxel_size_with_unit"]

SERVER = {
    "open_remote": ("brain",),
    "download": ("brain",),
    "get_remote_datasets": (),
    "trigger_reload_in_datastore": ("brain", "lab"),
    "announce_manual_upload": ("brain", "lab", ["team"], "folder"),
    "publish_to_preliminary_dataset": ("59e9",),
    "trigger_dataset_import": ("brain", "lab"),
    "upload": (),
}
REMOTE = {  # of a remote dataset alone, or otherwise than of others
    "add_layer_as_copy": "foreign_layer new_layer_name * data_format exists_ok transfer_mode common_storage_path_prefix "
    "overwrite_pending with_attachments",
    "delete": "",
    "download": "* sharing_token bounding_box bbox layers mags data_format path exist_ok",
    "download_mesh": "segment_id output_dir * layer_name mesh_file_name datastore_url lod mapping_name mapping_type mag "
    "seed_position token sharing_token",
    "downsample": "sampling_mode coarsest_mag executor * interpolation_mode compress transfer_mode common_storage_path_prefix "
    "overwrite_pending",
    "from_images": "input_path voxel_size name * map_filepath_to_layer_name z_slices_sort_key voxel_size_with_unit layer_name "
    "layer_category data_format chunk_shape shard_shape chunks_per_shard compress swap_xy flip_x flip_y flip_z max_layers "
    "batch_size executor url token folder",
    "generate_url": "position",
    "reopen": "* access_mode",
    "with_access_mode": "access_mode",
}
SERVER_PROPERTIES = {  # writable, deletable
    "access_mode": (False, False),
    "allowed_teams": (True, False),
    "annotation_id": (False, False),
    "created": (False, False),
    "dataset_id": (False, False),
    "description": (True, True),
    "display_name": (True, True),
    "folder": (True, False),
    "is_public": (True, False),
    "metadata": (True, False),
    "tags": (True, False),
    "sharing_token": (False, False),
    "url": (False, False),
    "used_storage_bytes": (False, False),
    "zarr_streaming_path": (False, False),
}


@pytest.mark.parametrize(
    ("kind", "name", "signature"),
    [("Dataset", *row) for row in FOUNDING.items()] + [("RemoteDataset", *row) for row in REMOTE.items()],
)
def test_signatures_are_those_of_the_reference(kind, name, signature):
    verb = getattr(getattr(wk, kind), name)
    found = [p for p in inspect.signature(verb).parameters.values() if p.name != "self"]
    first, _, rest = signature.partition("*")
    by_place = [p.name for p in found if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert by_place[: len(first.split())] == first.split()
    assert {*first.split(), *rest.split()} <= {p.name for p in found}
    assert not [p for p in found if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    assert (inspect.getdoc(verb) or "").strip()


@pytest.mark.parametrize("name", PROPERTIES)
def test_properties_are_those_of_the_reference(name):
    assert isinstance(inspect.getattr_static(wk.Dataset, name), property)


# ------------------------------------------------------------------------------------------------- older spellings


@pytest.fixture
def brain(dataset):
    dataset.write_layer("em", "color", np.arange(32**3, dtype="uint32").reshape(32, 32, 32), shard_shape=32, downsample=False)
    return dataset


def unit_of(layer):
    spec = layer.get_mag(1).spec
    return spec.chunk[1:], spec.unit[1:]


# verb, older spelling, the same in the new one, the parameter that the warning names
OLDER = [
    ("copy_dataset", {"chunk_size": 16, "shard_shape": 32}, {"chunk_shape": 16, "shard_shape": 32}, "chunk_shape"),
    ("copy_dataset", {"block_len": 16, "shard_shape": 32}, {"chunk_shape": 16, "shard_shape": 32}, "chunk_shape"),
    ("copy_dataset", {"chunk_shape": 16, "file_len": 4}, {"chunk_shape": 16, "shard_shape": 64}, "shard_shape"),
    ("copy_dataset", {"chunk_shape": 16, "chunks_per_shard": 4}, {"chunk_shape": 16, "shard_shape": 64}, "shard_shape"),
    ("copy_dataset", {"args": object()}, {}, "executor"),
    ("add_layer_as_copy", {"chunk_shape": 16, "chunks_per_shard": 2}, {"chunk_shape": 16, "shard_shape": 32}, "shard_shape"),
    ("write_layer", {"chunk_shape": 16, "chunks_per_shard": 2}, {"chunk_shape": 16, "shard_shape": 32}, "shard_shape"),
]


@pytest.mark.parametrize(("verb", "older", "newer", "named"), OLDER)
def test_older_parameters_do_what_the_newer_do(brain, tmp_path, recwarn, verb, older, newer, named):
    def called(n, options):
        if verb == "copy_dataset":
            return brain.copy_dataset(tmp_path / f"copy{n}", **options).get_layer("em")
        if verb == "write_layer":
            return brain.write_layer(f"em{n}", "color", np.ones((8, 8, 8), "uint8"), **options)
        return brain.add_layer_as_copy(brain.get_layer("em"), f"em{n}", **options)

    expected = unit_of(called(1, newer))
    assert not [w for w in recwarn if w.category is DeprecationWarning]
    with pytest.warns(DeprecationWarning, match=f"Give {named}") as caught:
        assert unit_of(called(2, older)) == expected
    assert [w.filename for w in caught] == [__file__]
    [old] = [name for name in older if name in deprecations.PARAMETERS]
    assert str(caught[0].message).startswith(f"{old} is deprecated.")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "both",
    [{"chunk_shape": 16, "chunk_size": 16}, {"chunk_size": 16, "block_len": 16}, {"chunks_per_shard": 2, "file_len": 2}],
)
def test_a_parameter_is_not_given_twice(brain, tmp_path, both):
    with pytest.raises(ConflictingArgumentsError, match=" and ".join(both)):
        brain.copy_dataset(tmp_path / "copy", **both)
    assert not (tmp_path / "copy").exists()


def test_older_names_of_copies(brain, tmp_path):
    em = brain.get_layer("em")
    expected = em.content_hash()
    with pytest.warns(DeprecationWarning, match="Use Dataset.add_layer_as_copy") as caught:
        copies = [
            brain.add_copy_layer(em, "a", 16, None, "wkw", False, shard_shape=64),
            brain.add_fs_copy_layer(tmp_path / "ds" / "em", "b"),
        ]
    with pytest.warns(DeprecationWarning, match=r"Use Dataset\.copy_dataset") as more:
        copies.append(brain.fs_copy_dataset(tmp_path / "copy", layers_to_ignore=["a"]).get_layer("em"))
    assert [w.filename for w in (*caught, *more)] == [__file__] * 3
    assert [copy.content_hash() for copy in copies] == [expected] * 3
    assert (copies[0].data_format, *unit_of(copies[0]), copies[0].get_mag(1).spec.codec) == ("wkw", (16,) * 3, (64,) * 3, None)
    with pytest.warns(DeprecationWarning, match="add_layer_as_copy"):
        assert brain.add_copy_layer(em, "a", exists_ok=True).data_format == "wkw"
    assert list(wk.Dataset.open(tmp_path / "copy").layers) == ["em", "b"]


def test_the_table_names_what_there_is():
    given = {name for verb in FOUNDING for name in inspect.signature(getattr(wk.Dataset, verb)).parameters}
    given |= set(inspect.signature(wk.RemoteDataset.explore_and_add_remote).parameters)
    assert given >= {new.partition(",")[0] for new in deprecations.PARAMETERS.values()}
    for old, new in deprecations.NAMES.items():
        for text in (old, new):
            kind, _, name = text.partition("(")[0].partition(".")
            assert not name or hasattr(getattr(wk, kind), name)


def test_the_page_of_datasets_is_true(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text()
    names = {}
    for code in re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        exec(code, names)
    table = page.partition("| older | now |")[2].partition("## ")[0]
    first_column = [old for row in table.splitlines() if row for old in re.findall(r"`(.*?)`", row.split("|")[1])]
    told = {re.sub(r"^Dataset\.|\(\)$", "", old) for old in first_column}
    known = {re.sub(r"^Dataset\.|\(\)$", "", old) for old in deprecations.NAMES} | set(deprecations.PARAMETERS)
    assert len(told) > 10
    assert told <= known


# --------------------------------------------------------------------------------------------------------- servers


@pytest.mark.parametrize("name", SERVER)
def test_what_needs_a_server_says_so(dataset, name):
    with pytest.raises(ServerNotSupportedError, match=f"Dataset.{name} needs a WEBKNOSSOS server") as refused:
        getattr(dataset, name)(*SERVER[name])
    assert isinstance(refused.value, NotImplementedError)
    assert str(pickle.loads(pickle.dumps(refused.value))) == str(refused.value)


def test_remote_datasets_are_datasets_that_can_not_be_opened():
    assert issubclass(wk.RemoteDataset, wk.Dataset)
    for call in (
        lambda: wk.RemoteDataset("brain"),
        lambda: wk.RemoteDataset.open("brain", dataset_id=None),
        lambda: wk.RemoteDataset.list("lab", ["tag"], name="brain", folder="f"),
        lambda: wk.RemoteDataset.explore_and_add_remote("https://host/brain", "brain", folder="f"),
        lambda: wk.RemoteDataset.open_remote("brain"),
    ):
        with pytest.raises(ServerNotSupportedError, match="not talk to yet"):
            call()
    with (
        pytest.raises(ServerNotSupportedError),
        pytest.warns(DeprecationWarning, match="folder_path is deprecated. Give folder") as caught,
    ):
        wk.RemoteDataset.explore_and_add_remote("https://host/brain", "brain", "folder")
    assert caught[0].filename == __file__


@pytest.mark.parametrize("name", REMOTE)
def test_what_remote_datasets_alone_can_do(name):
    remote = wk.RemoteDataset.__new__(wk.RemoteDataset)
    required = [p for p in inspect.signature(getattr(remote, name)).parameters.values() if p.default is p.empty]
    with pytest.raises(ServerNotSupportedError, match=f"RemoteDataset.{name} needs a WEBKNOSSOS server"):
        getattr(remote, name)(**{p.name: "x" for p in required})


@pytest.mark.parametrize("name", SERVER_PROPERTIES)
def test_properties_of_remote_datasets(name):
    remote = wk.RemoteDataset.__new__(wk.RemoteDataset)
    writable, deletable = SERVER_PROPERTIES[name]
    with pytest.raises(ServerNotSupportedError, match=f"RemoteDataset.{name} "):
        getattr(remote, name)
    with pytest.raises(ServerNotSupportedError if writable else AttributeError):
        setattr(remote, name, "x")
    with pytest.raises(ServerNotSupportedError if deletable else AttributeError):
        delattr(remote, name)
    assert inspect.getattr_static(wk.RemoteDataset, name).__doc__
