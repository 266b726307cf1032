"""Magnifications of a layer: made in every way, found, deleted, refused."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import tensorstore

import wkdask as wk
from wkdask.dataset.layer_link import LayerToLink
from wkdask.dataset.zarr3_config import Zarr3Config
from wkdask.errors import DatasetExistsError, InputError, MagExistsError, MagNotFoundError, NotSegmentationError, ReadOnlyError
from wkdask.formats import Codec

BOX = wk.BoundingBox((0, 0, 0), (64, 64, 64))
BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
TURNED = {"name": "transpose", "configuration": {"order": "F"}}
BLOSC = {"name": "blosc", "configuration": {"cname": "lz4", "clevel": 5, "shuffle": "shuffle", "typesize": 2, "blocksize": 0}}


@pytest.fixture
def empty(dataset):
    return dataset.add_layer("em", "color", dtype="uint16", bounding_box=BOX)


def files(folder) -> dict:
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and ".wkdask" not in p.parts}


def noise(shape=(64, 64, 64)):
    return np.random.default_rng(8).integers(1, 9999, shape).astype("uint16")


# ------------------------------------------------------------------------------------------------------ add_mag


@pytest.mark.parametrize(
    ("options", "chunk", "shard", "codec"),
    [
        ({}, 32, 1024, "zstd:5"),
        ({"chunks_per_shard": 4}, 32, 128, "zstd:5"),
        ({"chunk_shape": 64, "chunks_per_shard": (1, 1, 1)}, 64, 64, "zstd:5"),
        ({"shard_shape": 64, "compress": False}, 32, 64, "None"),
        ({"compress": Codec("gzip", 3)}, 32, 1024, "gzip:3"),
        ({"shard_shape": 64, "compress": Zarr3Config()}, 32, 64, "zstd:5"),
        ({"shard_shape": 64, "compress": Zarr3Config((TURNED, BYTES, BLOSC))}, 32, 64, "blosc-lz4:5"),
        (
            {"shard_shape": 32, "compress": Zarr3Config((BYTES,), {"name": "v2", "configuration": {"separator": "."}})},
            32,
            32,
            "None",
        ),
    ],
)
def test_add_mag_with_every_parameter(empty, tmp_path, options, chunk, shard, codec):
    mag = empty.add_mag(1, **options)
    assert (set(mag.spec.chunk[1:]), set(mag.spec.unit[1:])) == ({chunk}, {shard})
    assert str(mag.spec.codec) == codec
    mag.write(noise())
    np.testing.assert_array_equal(wk.Dataset.open(tmp_path / "ds").get_layer("em").get_mag(1).read()[0], noise())
    place = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(tmp_path / "ds" / "em" / "1")}}
    if not isinstance(options.get("compress"), Zarr3Config) or TURNED not in (options["compress"].codecs or ()):
        np.testing.assert_array_equal(tensorstore.open(place).result()[0, :64, :64, :64].read().result(), noise())


@pytest.mark.parametrize(
    ("depth", "unit"), [(32, (1, 4096, 4096, 32)), (33, (1, 1024, 1024, 1024)), (128, (1, 1024, 1024, 1024))]
)
def test_shards_are_flat_where_the_layer_is_however_deep_the_magnification(dataset, depth, unit):
    """The reference's rule, and that of its images in coarser magnifications."""
    layer = dataset.add_layer("flat", "color", bounding_box=wk.BoundingBox((0, 0, 0), (300, 300, depth)))
    assert [layer.add_mag(mag).spec.unit for mag in (1, "2-2-1", 4)] == [unit] * 3


def test_a_configuration_is_stored_as_it_is_given(empty, tmp_path):
    empty.add_mag(1, shard_shape=32, compress=Zarr3Config((BYTES,), {"name": "v2", "configuration": {"separator": "."}}))
    document = json.loads((tmp_path / "ds" / "em" / "1" / "zarr.json").read_bytes())
    assert document["codecs"] == [BYTES]
    assert document["chunk_key_encoding"] == {"name": "v2", "configuration": {"separator": "."}}
    empty.get_mag(1).write(noise())
    assert (tmp_path / "ds" / "em" / "1" / "0.1.0.1").is_file()


@pytest.mark.parametrize(
    "wrong",
    [
        {"chunk_shape": 30},
        {"chunk_shape": 0},
        {"shard_shape": 48},
        {"chunk_shape": 64, "shard_shape": 32},
        {"shard_shape": 64, "chunks_per_shard": 2},
        {"compress": "zstd"},
        {"compress": Zarr3Config(({"name": "gzip"},))},
        {"compress": Zarr3Config((BYTES, {"name": "nobody.knows"}))},
        {"compress": Zarr3Config((BYTES, {"name": "gzip", "configuration": {"level": 99}}))},
        {"compress": Zarr3Config((BYTES, object()))},
        {"compress": Zarr3Config(None, {"name": "odd"})},
        {"mag": 3},
    ],
)
def test_what_add_mag_refuses(empty, tmp_path, wrong):
    before = files(tmp_path)
    with pytest.raises(InputError):
        empty.add_mag(**{"mag": 1, **wrong})
    assert files(tmp_path) == before and not empty.mags


def test_formats_have_their_own_rules(dataset):
    wkw, zarr = (dataset.add_layer(form, "color", data_format=form, bounding_box=BOX) for form in ("wkw", "zarr"))
    for layer, wrong in [
        (wkw, {"chunk_shape": (32, 32, 16)}),
        (wkw, {"compress": Zarr3Config()}),
        (zarr, {"chunk_shape": 32, "shard_shape": 64}),
        (zarr, {"chunks_per_shard": 2}),
    ]:
        with pytest.raises(InputError):
            layer.add_mag(1, **wrong)
        assert not layer.mags


def test_unusual_chunks_are_told_to_the_caller(empty):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        empty.add_mag(1, chunk_shape=16)
        with empty.new_mag(2, chunk_shape=(64, 64, 32)):
            pass
        empty.get_or_add_mag(4, chunk_shape=8)
    assert [(warning.category, warning.filename) for warning in found] == [(UserWarning, __file__)] * 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        empty.add_mag(8, chunk_shape=32)
        empty.add_mag(16, chunk_shape=64)


# ------------------------------------------------------------------------------------------------------ new_mag


def test_a_new_mag_is_listed_when_it_is_complete(empty, tmp_path):
    with empty.new_mag(1, chunk_shape=32, shard_shape=64, compress=False) as mag:
        mag.write(noise())
        np.testing.assert_array_equal(mag.read()[0], noise())
        mag.write(noise((8, 8, 8)), absolute_offset=(100, 0, 0), allow_resize=True)
        assert not wk.Dataset.open(tmp_path / "ds").get_layer("em").mags
        assert not empty.mags
    assert empty.bounding_box.size == (108, 64, 64)
    for found in (mag, wk.Dataset.open(tmp_path / "ds").get_layer("em").get_mag(1)):
        np.testing.assert_array_equal(found.read(absolute_offset=(0, 0, 0), size=(64, 64, 64))[0], noise())
        np.testing.assert_array_equal(found.read(absolute_offset=(100, 0, 0), size=(8, 8, 8))[0], noise((8, 8, 8)))
    empty.delete_mag(1)
    with pytest.raises(MagNotFoundError):
        mag.read()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, MagExistsError])
def test_a_new_mag_that_fails_leaves_nothing(empty, tmp_path, error):
    before = files(tmp_path)
    with pytest.raises(error):
        with empty.new_mag(1) as mag:
            mag.write(noise())
            raise error
    assert files(tmp_path) == before
    assert not (tmp_path / "ds" / "em").exists()
    empty.add_mag(1).write(noise())
    before = files(tmp_path)
    with pytest.raises(error):
        with empty.new_mag(2) as mag:
            mag.write(noise((32, 32, 32)))
            raise error
    assert files(tmp_path) == before


def test_a_new_mag_that_fails_leaves_those_that_were_added_meanwhile(empty):
    with pytest.raises(RuntimeError):
        with empty.new_mag(2):
            empty.add_mag(1).write(noise())
            raise RuntimeError
    np.testing.assert_array_equal(empty.get_mag(1).read()[0], noise())
    assert list(empty.mags) == [wk.Mag(1)]


def test_who_is_quicker_keeps_the_magnification(empty):
    with pytest.raises(MagExistsError):
        with empty.new_mag(1, shard_shape=64) as mag:
            mag.write(noise())
            listed = mag.layer._unlisted
            empty._list(listed)  # as another process that made it at the same moment
    np.testing.assert_array_equal(empty.get_mag(1).read()[0], noise())
    with pytest.raises(MagExistsError):
        empty.new_mag(1).__enter__()
    with pytest.raises(MagExistsError):
        empty.add_mag(1)


# ------------------------------------------------------------------------------------------------- get_or_add_mag


@pytest.mark.parametrize(
    ("option", "same", "other"),
    [
        ("chunk_shape", 32, 64),
        ("shard_shape", (64, 64, 64), 128),
        ("chunks_per_shard", 2, 4),
        ("compress", True, False),
        ("compress", Zarr3Config(), Zarr3Config((BYTES, BLOSC))),
        ("compress", Zarr3Config(None, {"name": "default"}), Zarr3Config(None, "v2")),
    ],
)
def test_get_or_add_mag_wants_what_is_given(empty, option, same, other):
    first = empty.get_or_add_mag(1, chunk_shape=32, shard_shape=64)
    first.write(noise())
    for found in (empty.get_or_add_mag(1), empty.get_or_add_mag("1", **{option: same})):
        assert found.spec == first.spec
        np.testing.assert_array_equal(found.read()[0], noise())
    with pytest.raises(InputError, match="has "):
        empty.get_or_add_mag(1, **{option: other})


# --------------------------------------------------------------------------------------------------- delete_mag


@pytest.mark.parametrize("data_format", ["zarr3", "zarr", "wkw", "n5", "neuroglancerPrecomputed"])
def test_a_deleted_mag_can_be_made_again(dataset, tmp_path, data_format):
    layer = dataset.add_layer("em", "color", data_format=data_format, bounding_box=BOX)
    for mag in (1, 2):
        layer.add_mag(mag).write(noise((64 // mag,) * 3).astype("uint8"))
    layer.delete_mag("1")
    assert [str(mag) for mag in wk.Dataset.open(tmp_path / "ds").get_layer("em").mags] == ["2"]
    assert not (tmp_path / "ds" / "em" / "1").exists()
    assert dataset.verify().ok
    assert not layer.add_mag(1).read().any()
    np.testing.assert_array_equal(layer.get_mag(2).read()[0], noise((32, 32, 32)).astype("uint8"))
    layer.delete_mag(1)
    layer.delete_mag(2)
    with pytest.raises(MagNotFoundError):
        layer.delete_mag(1)
    with pytest.raises(IndexError):
        layer.get_mag(2)


def test_what_another_magnification_needs_stays(empty, tmp_path):
    empty.add_mag(1, shard_shape=64).write(noise())
    shared = empty.properties.mags[0].updated(mag=(2, 2, 2))
    empty._list(shared)
    empty.delete_mag(1)
    assert (tmp_path / "ds" / "em" / "1" / "zarr.json").is_file()
    assert empty.get_mag(2).read().any()


# ------------------------------------------------------------------------------------------------------- the rest


def test_where_a_layer_is(dataset, layer, tmp_path):
    assert layer.dataset.path == dataset.path and layer.dataset.get_layer("em").name == "em"
    assert layer.path == layer.resolved_path == str(tmp_path / "ds" / "em")
    (tmp_path / "link").symlink_to(tmp_path / "ds")
    linked = wk.Dataset.open(tmp_path / "link").get_layer("em")
    assert (linked.path, linked.resolved_path) == (str(tmp_path / "link" / "em"), str(tmp_path / "ds" / "em"))
    assert not linked.is_foreign and not linked.read_only and not linked.is_mag_view_foreign(linked.get_mag(1))
    linked.get_mag(1).write(np.ones((4, 4, 4), "uint8"))


def test_layers_that_are_segmentations(dataset, layer):
    segments = dataset.add_layer("seg", "segmentation")
    assert segments.as_segmentation_layer() is segments
    with pytest.raises(NotSegmentationError):
        layer.as_segmentation_layer()
    with pytest.raises(TypeError):
        layer.as_segmentation_layer()


def test_layers_to_link(layer):
    link = LayerToLink("id", "color", organization_id="lab")
    assert (link.dataset_id, link.layer_name, link.new_layer_name, link.organization_id) == ("id", "color", None, "lab")
    with pytest.raises(InputError, match="server"):
        LayerToLink.from_remote_layer(layer)


def test_older_names_tell_the_new_ones(dataset, layer, mag, voxels):
    other = dataset.add_layer("other", "color")
    place = mag.array.handle.location.url
    calls = [
        ("dtype", lambda: layer.dtype_per_channel == "uint8"),
        ("is_foreign", lambda: layer.is_remote_to_dataset is False),
        ("get_finest_mag", lambda: layer.get_best_mag().name == "1"),
        ("add_mag_as_copy", lambda: other.add_copy_mag(place, True, 16, None, False).spec.codec is None),
        ("add_mag_as_ref", lambda: other.add_remote_mag(layer.get_mag("2-2-1")).name == "2-2-1"),
        ("add_mag_as_copy", lambda: dataset.add_layer("third", "color").add_fs_copy_mag(mag).read().any()),
        ("add_layer_as_ref", lambda: wk.Dataset("memory://older", (1, 1, 1)).add_remote_layer(layer).is_foreign),
        ("shard_shape", lambda: other.add_mag(4, chunks_per_shard=2).spec.unit == (1, 64, 64, 64)),
        ("shard_shape", lambda: other.get_or_add_mag(4, chunks_per_shard=2).name == "4"),
        ("shard_shape", lambda: other.new_mag(8, chunks_per_shard=2).__enter__().name == "8"),
    ]
    for new, call in calls:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            assert call()
        [warning] = [w for w in found if w.category is DeprecationWarning]
        assert new in str(warning.message)
        assert warning.filename == __file__ or new == "shard_shape"
    np.testing.assert_array_equal(other.get_mag(1).read(absolute_offset=(8, 4, 2), size=voxels.shape)[0], voxels)
    assert other.bounding_box == layer.bounding_box and other.is_mag_view_foreign("2-2-1")


MUTATORS = {
    "name": lambda layer, other: setattr(layer, "name", "b"),
    "bounding_box": lambda layer, other: setattr(layer, "bounding_box", BOX),
    "extend_bounding_box": lambda layer, other: layer.extend_bounding_box(BOX),
    "add_mag": lambda layer, other: layer.add_mag(4),
    "new_mag": lambda layer, other: layer.new_mag(4).__enter__(),
    "get_or_add_mag": lambda layer, other: layer.get_or_add_mag(4),
    "delete_mag": lambda layer, other: layer.delete_mag(1),
    "add_mag_as_copy": lambda layer, other: layer.add_mag_as_copy(other, mag=4),
    "add_copy_mag": lambda layer, other: layer.add_copy_mag(other),
    "add_fs_copy_mag": lambda layer, other: layer.add_fs_copy_mag(other),
    "add_remote_mag": lambda layer, other: layer.add_remote_mag(other),
    "add_mag_as_ref": lambda layer, other: layer.add_mag_as_ref(other, mag=4),
    "add_symlink_mag": lambda layer, other: layer.add_symlink_mag(other, mag=4),
    "add_mag_from_zarrarray": lambda layer, other: layer.add_mag_from_zarrarray(4, other.array.handle.location.url),
    "downsample": lambda layer, other: layer.downsample(),
    "downsample_mag": lambda layer, other: layer.downsample_mag(1, 4),
    "downsample_mag_list": lambda layer, other: layer.downsample_mag_list(1, [4]),
    "redownsample": lambda layer, other: layer.redownsample(),
    "update_pyramid": lambda layer, other: layer.update_pyramid(BOX),
    "upsample": lambda layer, other: layer.upsample("2-2-1"),
    "compress": lambda layer, other: layer.compress(),
    "rechunk": lambda layer, other: layer.rechunk(chunk_shape=8),
    "write_dask": lambda layer, other: layer.write_dask(other.to_dask(), absolute_offset=(0, 0, 0)),
    "map_blocks": lambda layer, other: layer.map_blocks(lambda block: block),
    "append_images": lambda layer, other: layer.append_images("nothing"),
    "attachments.add_attachment_as_copy": lambda layer, other: layer.attachments.add_attachment_as_copy(MESH),
    "attachments.add_copy_attachments": lambda layer, other: layer.attachments.add_copy_attachments(MESH),
    "attachments.add_symlink_attachments": lambda layer, other: layer.attachments.add_symlink_attachments(MESH),
}
MESH, FORM = wk.MeshAttachment.from_path_and_name("/other", "m", data_format="zarr3"), {"name": "a", "data_format": "hdf5"}
ENTRIES = {
    "default_view_configuration": lambda cells: setattr(cells, "default_view_configuration", wk.LayerViewConfiguration(zoom=2)),
    "coordinate_transformations": lambda cells: setattr(
        cells, "coordinate_transformations", wk.AffineCoordinateTransformation.from_translation((1, 2, 3))
    ),
    "largest_segment_id": lambda cells: setattr(cells, "largest_segment_id", 3),
    "mappings": lambda cells: setattr(cells, "mappings", ["a"]),
    "refresh_largest_segment_id": lambda cells: cells.refresh_largest_segment_id(),
    "attachments.add_attachment_as_ref": lambda cells: cells.attachments.add_attachment_as_ref(MESH),
    "attachments.add_attachments": lambda cells: cells.attachments.add_attachments(MESH),
    "attachments.add_mesh": lambda cells: cells.attachments.add_mesh("x", **FORM),
    "attachments.add_agglomerate": lambda cells: cells.attachments.add_agglomerate("x", **FORM),
    "attachments.add_connectome": lambda cells: cells.attachments.add_connectome("x", **FORM),
    "attachments.set_segment_index": lambda cells: cells.attachments.set_segment_index("x", **FORM),
    "attachments.set_cumsum": lambda cells: cells.attachments.set_cumsum("x", name="a", data_format="json"),
    "attachments.rename_attachment": lambda cells: cells.attachments.rename_attachment(OLD, "new"),
    "attachments.delete_attachment": lambda cells: cells.attachments.delete_attachment(OLD),
    "attachments.detect_legacy_attachments": lambda cells: cells.attachments.detect_legacy_attachments(),
}
"""What only the dataset's JSON says of a layer, so that it may be said of layers whose folder is a link, too."""
OLD = wk.MeshAttachment.from_path_and_name("/other", "old", data_format="zarr3")
READERS = {
    "as_segmentation_layer", "at", "content_hash", "get_best_mag", "get_finest_mag",
    "get_mag", "is_mag_view_foreign", "lazy", "open_array",
    "require_own", "require_writable", "to_xarray", "verify", "plan_append_images", "plan_downsample", "plan_rechunk",
    "plan_add_mag_as_copy", "plan_map_blocks", "plan_upsample", "plan_write_dask", "segment_boxes", "segment_sizes",
    "attachments.claimed_place", "attachments.new_place", "attachments.upload_attachment",
}  # fmt: skip


@pytest.fixture
def linked(tmp_path):
    """A layer of segments whose folder is a link."""
    source = wk.Dataset(tmp_path / "there", (4, 4, 35)).add_layer("cells", "segmentation", dtype="uint16", bounding_box=BOX)
    source.add_mag(1, chunk_shape=32, shard_shape=64, compress=False).write(noise())  # so that there is something to compress
    source.downsample_mag(1, "2-2-1")
    (tmp_path / "there/cells/meshes").mkdir()
    (tmp_path / "there/cells/meshes/older.hdf5").write_bytes(b"1")
    layer = wk.Dataset(tmp_path / "here", (4, 4, 35)).add_symlink_layer(source)
    layer.attachments.add_attachment_as_ref(OLD)
    return layer


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("verb", MUTATORS)
def test_read_only_datasets_and_layers_that_are_links_refuse(linked, tmp_path, verb):
    other = wk.Dataset(tmp_path / "other", (4, 4, 35)).add_layer("em", "color", dtype="uint16", bounding_box=BOX).add_mag(1)
    before = files(tmp_path)
    links = [linked] if verb != "map_blocks" else []  # which makes another layer
    for layer in (*links, wk.Dataset.open(tmp_path / "there", read_only=True).get_layer("cells")):
        with pytest.raises(ReadOnlyError) as caught:
            MUTATORS[verb](layer, other)
        assert isinstance(caught.value, RuntimeError)
    assert files(tmp_path) == before


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("verb", ENTRIES)
def test_what_a_dataset_says_of_links_may_change_unless_it_is_read_only(linked, tmp_path, verb):
    document, before = tmp_path / "here/datasource-properties.json", files(tmp_path)
    with pytest.raises(ReadOnlyError):
        ENTRIES[verb](wk.Dataset.open(tmp_path / "here", read_only=True).get_layer("cells"))
    assert files(tmp_path) == before
    ENTRIES[verb](linked)
    after = files(tmp_path)
    assert after.pop(document) != before.pop(document) and after == before


def test_the_table_of_mutators_is_complete():
    def found(kind, prefix=""):
        for name in dir(kind):
            one = getattr(kind, name)
            if not name.startswith("_") and (one.fset if isinstance(one, property) else True):
                yield prefix + name

    assert {*found(wk.SegmentationLayer), *found(wk.Attachments, "attachments.")} == READERS | {*MUTATORS} | {*ENTRIES}


def test_a_folder_in_the_way_is_told(empty, tmp_path):
    (tmp_path / "ds" / "em" / "1").mkdir(parents=True)
    (tmp_path / "ds" / "em" / "1" / "zarr.json").write_text("mine")
    with pytest.raises(DatasetExistsError):
        empty.add_mag(1)
    assert (tmp_path / "ds" / "em" / "1" / "zarr.json").read_text() == "mine"
