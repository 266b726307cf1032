"""Every error: the builtins that it is, that it survives pickling, and what calls of the reference API raise."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import wkdask as wk
from wkdask import errors

# The builtins of each class, beside those of the classes that it derives from: what scripts for the reference catch.
BUILTINS = {
    "WkdaskError": {Exception},
    "InputError": {ValueError},
    "ConflictingArgumentsError": {ValueError, AttributeError},
    "LayerNameError": {ValueError, AssertionError},
    "UnknownCategoryError": {ValueError, RuntimeError},
    "UnfitError": {ValueError, AssertionError},
    "NotSegmentationError": {ValueError, TypeError},
    "UnsupportedFormatError": {ValueError, NotImplementedError},
    "SegmentIdError": {ValueError, AssertionError},
    "BoxError": {ValueError, AssertionError},
    "ShapeError": {ValueError, AssertionError},
    "DtypeError": {ValueError, TypeError},
    "GeometryError": {ValueError, AssertionError},
    "GeometryKeyError": {ValueError, AssertionError, KeyError},
    "ImageConversionError": {ValueError},
    "UnsupportedImageFormatError": {ValueError},
    "UnsupportedImageDataError": {ValueError},
    "CorruptImageError": {ValueError},
    "DatasetError": {RuntimeError},
    "DatasetNotFoundError": {RuntimeError, FileNotFoundError},
    "VoxelSizeMissingError": {RuntimeError, FileNotFoundError, ValueError},
    "LayerFilesNotFoundError": {RuntimeError, FileNotFoundError, AssertionError},
    "DatasetExistsError": {RuntimeError, FileExistsError},
    "DatasetMismatchError": {RuntimeError, FileExistsError, AssertionError},
    "NotAFolderError": {RuntimeError, FileExistsError, NotADirectoryError},
    "NotLocalError": {RuntimeError, AssertionError},
    "LayerNotFoundError": {RuntimeError, IndexError},
    "LayerExistsError": {RuntimeError, IndexError},
    "LayerMismatchError": {RuntimeError, IndexError, AssertionError},
    "MagNotFoundError": {RuntimeError, IndexError, KeyError},
    "MagExistsError": {RuntimeError, IndexError, ValueError},
    "MetadataError": {ValueError},
    "StorageError": {OSError},
    "NotListedError": {OSError},
    "ReadOnlyError": {OSError, RuntimeError},
    "ConflictError": {OSError},
    "DamagedError": {ValueError},
    "ServerNotSupportedError": {NotImplementedError},
    "PlanError": {RuntimeError},
    "PlanRefusedError": {RuntimeError},
    "UnitsFailedError": {RuntimeError},
    "InputChangedError": {RuntimeError},
    "LockedError": {RuntimeError},
    "InterruptedRunError": {RuntimeError},
}
CLASSES = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.WkdaskError)}


def test_the_table_has_all_classes():
    assert set(BUILTINS) == set(CLASSES)


@pytest.mark.parametrize("name", BUILTINS)
def test_builtins(name):
    found = {kind for kind in CLASSES[name].__mro__ if kind.__module__ == "builtins"}
    implied = {parent for kind in BUILTINS[name] for parent in kind.__mro__} | set(Exception.__mro__)
    assert found == implied


@pytest.mark.parametrize("name", BUILTINS)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_errors_survive_pickling(name, protocol):
    error = CLASSES[name]("Found 3, expected 4. Give 4.")
    error.add_note("seen at task 7")
    for again in (pickle.loads(pickle.dumps(error, protocol)), copy.copy(error)):
        assert (type(again), str(again), again.args) == (CLASSES[name], str(error), error.args)
        assert (again.exit_code, again.__notes__) == (error.exit_code, ["seen at task 7"])
    assert str(error) == "Found 3, expected 4. Give 4."


# --------------------------------------------------------------------------------------------------------- of calls


@pytest.fixture
def ds(tmp_path):
    dataset = wk.Dataset(tmp_path / "ds", (4, 4, 35))
    box = wk.BoundingBox((0, 0, 0), (16, 16, 16))
    dataset.add_layer("em", "color", bounding_box=box).add_mag(1, chunk_shape=8, shard_shape=16)
    dataset.add_layer("cells", "segmentation", dtype="uint32", bounding_box=box)
    (tmp_path / "file").write_text("mine")
    return dataset


def em(ds):
    return ds.get_layer("em")


def mag(ds):
    return em(ds).get_mag(1)


def read_only(ds):
    return wk.Dataset.open(ds.path, read_only=True)


PIECE = np.ones((4, 4, 4), "uint8")
# what a call raises: what the founding page says of it, and what later versions of the reference raise
CALLS = {
    "make what is there": (lambda ds: wk.Dataset(ds.path, (4, 4, 35), exist_ok=False), {RuntimeError}),
    "a file": (lambda ds: wk.Dataset(f"{ds.path}/../file", (1, 1, 1)), {NotADirectoryError}),
    "no voxel size": (lambda ds: wk.Dataset(f"{ds.path}/../new", exist_ok=True), {ValueError}),
    "two voxel sizes": (
        lambda ds: wk.Dataset(f"{ds.path}/../new", (1, 1, 1), voxel_size_with_unit=wk.VoxelSize((1, 1, 1))),
        {ValueError},
    ),
    "other voxels": (lambda ds: wk.Dataset(ds.path, (4, 4, 4), exist_ok=True), {RuntimeError, AssertionError}),
    "other name": (lambda ds: wk.Dataset(ds.path, (4, 4, 35), name="x", exist_ok=True), {RuntimeError, AssertionError}),
    "open nothing": (lambda ds: wk.Dataset.open(f"{ds.path}/../new"), {FileNotFoundError}),
    "nothing, read-only": (lambda ds: wk.Dataset(f"{ds.path}/../new", (1, 1, 1), read_only=True), {FileNotFoundError}),
    "change what is read-only": (lambda ds: read_only(ds).delete_layer("em"), {RuntimeError}),
    "write to what is read-only": (lambda ds: mag(read_only(ds)).write(PIECE), {RuntimeError}),
    "no such layer": (lambda ds: ds.get_layer("x"), {IndexError}),
    "no color layer": (lambda ds: [ds.add_layer_like(em(ds), "b"), ds.get_color_layer()], {RuntimeError, IndexError}),
    "no only segmentation": (lambda ds: [ds.delete_layer("cells"), ds.get_segmentation_layer()], {IndexError}),
    "no segmentation": (lambda ds: ds.get_segmentation_layer("em"), {TypeError}),
    "add what is there": (lambda ds: ds.add_layer("em", "color"), {IndexError}),
    "a category": (lambda ds: ds.add_layer("x", "colour"), {RuntimeError}),
    "a name": (lambda ds: ds.add_layer("a/b", "color"), {ValueError, AssertionError}),
    "two dtypes": (
        lambda ds: ds.add_layer("x", "color", dtype_per_layer="uint8", dtype_per_channel="uint8"),
        {AttributeError, ValueError},
    ),
    "a dtype of color": (lambda ds: ds.add_layer("x", "color", dtype="float64"), {ValueError}),
    "a dtype of ids": (lambda ds: ds.add_layer("x", "segmentation", dtype="float32"), {ValueError}),
    "another one is there": (lambda ds: ds.get_or_add_layer("em", "segmentation"), {AssertionError}),
    "no files": (lambda ds: ds.add_layer_for_existing_files("x", "color"), {FileNotFoundError, AssertionError}),
    "files of a layer": (lambda ds: ds.add_layer_for_existing_files("em", "color"), {AssertionError}),
    "delete nothing": (lambda ds: ds.delete_layer("x"), {IndexError}),
    "link to itself": (lambda ds: ds.add_layer_as_ref(em(ds), "x"), {AssertionError}),
    "link on a store": (
        lambda ds: wk.Dataset("memory://errors", (4, 4, 35), exist_ok=True).add_symlink_layer(em(ds)),
        {AssertionError},
    ),
    "no such mag": (lambda ds: em(ds).get_mag(8), {IndexError}),
    "add a mag twice": (lambda ds: em(ds).add_mag(1), {IndexError}),
    "delete no mag": (lambda ds: em(ds).delete_mag(8), {IndexError}),
    "chunks that are no powers of two": (lambda ds: em(ds).add_mag(2, chunk_shape=24), {ValueError}),
    "a box below 0": (lambda ds: setattr(em(ds), "bounding_box", wk.BoundingBox((-1, 0, 0), (4, 4, 4))), {AssertionError}),
    "an id": (lambda ds: setattr(ds.get_layer("cells"), "largest_segment_id", 1.5), {AssertionError}),
    "a name that is taken": (lambda ds: setattr(em(ds), "name", "cells"), {ValueError}),
    "no segmentation to cast": (lambda ds: em(ds).as_segmentation_layer(), {TypeError}),
    "read below 0": (lambda ds: mag(ds).read(absolute_offset=(-1, 0, 0), size=(4, 4, 4)), {AssertionError}),
    "read nothing": (lambda ds: mag(ds).read(absolute_offset=(0, 0, 0), size=(0, 4, 4)), {AssertionError}),
    "write beyond": (lambda ds: mag(ds).write(PIECE, absolute_offset=(14, 0, 0)), {ValueError}),
    "write channels": (lambda ds: mag(ds).write(np.ones((2, 4, 4, 4), "uint8")), {AssertionError}),
    "write another shape": (
        lambda ds: mag(ds).write(PIECE, absolute_bounding_box=wk.BoundingBox((0, 0, 0), (5, 4, 4))),
        {ValueError},
    ),
    "write floats": (lambda ds: mag(ds).write(PIECE.astype("float32")), {TypeError}),
    "a view beyond": (lambda ds: mag(ds).get_view(absolute_offset=(14, 0, 0), size=(4, 4, 4)), {AssertionError}),
    "downsample into itself": (lambda ds: em(ds).downsample_mag(1, 1), {ValueError}),
    "downsample nothing": (lambda ds: em(ds).downsample(from_mag=8, coarsest_mag=16), {KeyError}),
    "a server": (lambda ds: wk.Dataset.open_remote("x"), {NotImplementedError}),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", CALLS)
def test_calls_raise_what_scripts_catch(ds, what):
    call, builtins = CALLS[what]
    with pytest.raises(wk.WkdaskError) as raised:
        call(ds)
    for builtin in builtins:
        assert isinstance(raised.value, builtin), (type(raised.value), builtin)
    assert len(str(raised.value)) > 20
