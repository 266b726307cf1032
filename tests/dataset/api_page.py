"""The founding API of `Dataset`: every name with its parameters and defaults, and a call of each that shows what it does.

``SIGNATURES`` is what the page says. ``ROWS`` has a call for each parameter: with the others as in ``USUAL`` something is seen,
with this one given too something else is.
"""

from __future__ import annotations

import shutil
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile

import wkdask as wk
from wkdask.metadata import VoxelSize

Mapping = wk.ConversionLayerMapping

IMAGES = (
    "chunk_shape=None, chunks_per_shard=None, compress={compressed}, *, topleft=None, swap_xy=False, flip_x=False, "
    "flip_y=False, flip_z=False, dtype=None, use_bioformats=None, channel=None, timepoint=None, czi_channel=None, "
    "batch_size=None, allow_multiple_layers=False, max_layers=20, truncate_rgba_to_rgb=True, executor=None, chunk_size=None"
)
SERVER = "dataset_name_or_url, organization_id=None, sharing_token=None, webknossos_url=None"

# Where defaults are others than those of the page, it is on purpose: "unset" is its _UNSET; new datasets are compressed Zarr 3;
# `topleft` None is 0, or what volumes say of their place; sort keys of None sort naturally.
SIGNATURES = {
    "__init__": "dataset_path, voxel_size=None, name=None, exist_ok='unset', *, voxel_size_with_unit=None, scale=None, "
    "read_only=False",
    "add_copy_layer": "foreign_layer, new_layer_name=None, chunk_shape=None, chunks_per_shard=None, data_format=None, "
    "compress=None, executor=None",
    "add_fs_copy_layer": "foreign_layer, new_layer_name=None",
    "add_layer": "layer_name, category, dtype_per_layer=None, dtype_per_channel=None, num_channels=None, data_format='zarr3', "
    "bounding_box=None, *, largest_segment_id=None, mappings=None",
    "add_layer_for_existing_files": "layer_name, category, *, num_channels=None, dtype_per_channel=None, data_format=None, "
    "bounding_box=None, largest_segment_id=None, mappings=None",
    "add_layer_from_images": "images, layer_name, category='color', data_format='zarr3', mag=1, "
    + IMAGES.format(compressed=True),
    "add_layer_like": "other_layer, layer_name",
    "add_remote_layer": "foreign_layer, new_layer_name=None",
    "add_symlink_layer": "foreign_layer, make_relative=False, new_layer_name=None",
    "announce_manual_upload": "dataset_name, organization, initial_team_ids, folder_id, token=None",
    "calculate_bounding_box": "",
    "compress": "executor=None",
    "copy_dataset": "new_dataset_path, voxel_size=None, chunk_shape=None, chunks_per_shard=None, data_format=None, "
    "compress=None, args=None, executor=None, *, voxel_size_with_unit=None, chunk_size=None, block_len=None, file_len=None",
    "create": "dataset_path, voxel_size=None, name=None",
    "delete_layer": "layer_name",
    "download": f"{SERVER}, bbox=None, layers=None, mags=None, path=None, exist_ok=False",
    "downsample": "sampling_mode='anisotropic', coarsest_mag=None, executor=None",
    "from_images": "input_path, output_path, voxel_size=None, name=None, *, map_filepath_to_layer_name='inspect_single_file', "
    "z_slices_sort_key=None, voxel_size_with_unit=None, layer_name=None, layer_category=None, data_format='zarr3', "
    "chunk_shape=None, chunks_per_shard=None, compress=True, swap_xy=False, flip_x=False, flip_y=False, flip_z=False, "
    "use_bioformats=None, max_layers=20, batch_size=None, executor=None",
    "get_color_layer": "",
    "get_color_layers": "",
    "get_layer": "layer_name",
    "get_or_add_layer": "layer_name, category, dtype_per_layer=None, dtype_per_channel=None, num_channels=None, "
    "data_format='zarr3', *, largest_segment_id=None, mappings=None",
    "get_or_create": "dataset_path, voxel_size=None, name=None",
    "get_remote_datasets": "organization_id=None, tags=None",
    "get_segmentation_layer": "",
    "get_segmentation_layers": "",
    "open": "dataset_path",
    "open_remote": SERVER,
    "shallow_copy_dataset": "new_dataset_path, name=None, make_relative=False, layers_to_ignore=None",
    "trigger_reload_in_datastore": "dataset_name, organization, token=None",
    "upload": "new_dataset_name=None, layers_to_link=None, jobs=None",
}

PROPERTIES = {  # whether they can be set
    "default_view_configuration": True,
    "layers": False,
    "name": True,
    "path": False,
    "read_only": False,
    "scale": False,
    "voxel_size": False,
    "voxel_size_with_unit": False,
}
REMOTE = {  # of RemoteDataset: whether they can be set, and deleted
    "allowed_teams": (True, False),
    "default_view_configuration": (True, False),
    "description": (True, True),
    "display_name": (True, True),
    "folder": (True, False),
    "is_public": (True, False),
    "layers": (False, False),
    "metadata": (True, False),
    "name": (True, False),
    "path": (False, False),
    "read_only": (False, False),
    "sharing_token": (False, False),
    "tags": (True, False),
    "url": (False, False),
    "voxel_size": (False, False),
    "voxel_size_with_unit": (False, False),
}
EXPLORE = "dataset_uri, dataset_name, folder_path=None"
MAPPINGS = (
    "ENFORCE_LAYER_PER_FILE ENFORCE_LAYER_PER_FOLDER ENFORCE_LAYER_PER_TOPLEVEL_FOLDER ENFORCE_SINGLE_LAYER INSPECT_EVERY_FILE "
    "INSPECT_SINGLE_FILE"
)


@dataclass
class Lab:
    """A folder with datasets and images, and an executor that counts what it is given."""

    folder: Path
    submitted: list[Any] = field(default_factory=list)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Do it when its result is asked for, as the least of executors."""
        self.submitted.append(function)
        return type("Later", (), {"result": staticmethod(lambda: function(*arguments))})

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def dataset(self, name: str = "brain") -> wk.Dataset:
        """Return one that is there."""
        return wk.Dataset.open(self.folder / name)


BOX = wk.BoundingBox((0, 0, 0), (40, 32, 16))


def furnish(folder: Path) -> None:
    """Make what calls need: two datasets, and images of several kinds."""
    rng = np.random.default_rng(11)
    small = {"chunk_shape": 8, "shard_shape": 64, "downsample": False}
    voxels = rng.integers(1, 200, tuple(BOX.size))
    brain = wk.Dataset(folder / "brain", (4, 4, 35))
    brain.write_layer("em", "color", voxels.astype("uint8"), compress=False, **small)
    brain.write_layer("cells", "segmentation", voxels.astype("uint32"), **small)
    other = wk.Dataset(folder / "other", (4, 4, 35))
    other.write_layer("near", "color", voxels.astype("uint8") + 1, **small)
    other.write_layer("far", "color", voxels.astype("uint8") + 2, **small)
    wk.Dataset(folder / "empty", (4, 4, 35))
    for name in ("found", "lost"):
        shutil.copytree(folder / "brain/em/1", folder / "brain" / name / "1")
    for name in ("stack", "dots"):
        (folder / name).mkdir()
        for z in range(9):
            tifffile.imwrite(folder / name / f"s{z:02}.tif", rng.integers(1, 200, (21, 34)).astype("uint8"))
    (folder / "tree/a").mkdir(parents=True)
    for place in ("tree/a/1.tif", "tree/2.tif"):
        tifffile.imwrite(folder / place, rng.integers(1, 200, (9, 7)).astype("uint8"))
    hyper = rng.integers(1, 200, (2, 3, 2, 8, 9)).astype("uint16")
    tifffile.imwrite(folder / "hyper.tif", hyper, imagej=True, metadata={"axes": "TZCYX"})
    tifffile.imwrite(folder / "channels.tif", hyper[0], imagej=True, metadata={"axes": "ZCYX"})
    rgba = rng.integers(1, 200, (8, 9, 4)).astype("uint8")
    tifffile.imwrite(folder / "rgba.tif", rgba, photometric="rgb", extrasamples=["unassalpha"])


class Row(NamedTuple):
    """A call with and without one parameter; both have ``beside``. What is seen is ``expected`` with it, and not without."""

    verb: str
    parameter: str
    value: Callable[[Lab], Any]
    look: Callable[[Lab, Any], Any]
    expected: Any
    beside: Callable[[Lab], dict[str, Any]] = lambda lab: {}


def first_voxels(_: Lab, layer: wk.Layer) -> int:
    """Return the sum of a layer's finest voxels, each by its place."""
    voxels = layer.get_finest_mag().read()
    return int((voxels.ravel() * np.arange(1, voxels.size + 1)).sum())


def submitted(lab: Lab, _: Any) -> bool:
    """Return whether the executor got something to do."""
    return bool(lab.submitted)


def shape(_: Lab, layer: wk.Layer) -> tuple[Any, Any]:
    """Return the chunk's and the unit's shape."""
    info = layer.get_finest_mag().info
    return info.chunk_shape.to_tuple(), info.shard_shape.to_tuple()


def of(name: str) -> Callable[[Lab, Any], Any]:
    """Return a look at an attribute, as text."""
    return lambda lab, found: str(getattr(found, name))


def constant(value: Any) -> Callable[[Lab], Any]:
    """Return a value that needs no folder."""
    return lambda lab: value


def other(name: str = "near") -> Callable[[Lab], Any]:
    """Return a layer of the other dataset."""
    return lambda lab: lab.dataset("other").get_layer(name)


def compression(_: Lab, layer: wk.Layer) -> bool:
    """Return whether its chunks are compressed."""
    return bool(layer.get_finest_mag().info.compression_mode)


def _of_em(look: Callable[[Lab, Any], Any]) -> Callable[[Lab, Any], Any]:
    """Return a look at the first layer of a dataset."""
    return lambda lab, dataset: look(lab, next(iter(dataset.layers.values())))


# What a call has beside the parameter that it is about.
USUAL: dict[str, Callable[[Lab], dict[str, Any]]] = {
    "__init__": lambda lab: {"dataset_path": lab / "new", "voxel_size": (1, 2, 3)},
    "add_copy_layer": lambda lab: {"foreign_layer": other()(lab)},
    "add_fs_copy_layer": lambda lab: {"foreign_layer": other()(lab)},
    "add_layer": constant({"layer_name": "new", "category": "segmentation"}),
    "add_layer_for_existing_files": constant({"layer_name": "found", "category": "segmentation"}),
    "add_layer_from_images": lambda lab: {"images": lab / "stack", "layer_name": "new"},
    "add_layer_like": lambda lab: {"other_layer": lab.dataset().get_layer("em"), "layer_name": "new"},
    "add_remote_layer": lambda lab: {"foreign_layer": other()(lab)},
    "add_symlink_layer": lambda lab: {"foreign_layer": other()(lab)},
    "copy_dataset": lambda lab: {"new_dataset_path": lab / "copy"},
    "create": lambda lab: {"dataset_path": lab / "new", "voxel_size": (1, 2, 3)},
    "delete_layer": constant({"layer_name": "em"}),
    "from_images": lambda lab: {"input_path": lab / "stack", "output_path": lab / "new", "voxel_size": (1, 2, 3)},
    "get_layer": constant({"layer_name": "em"}),
    "get_or_add_layer": constant({"layer_name": "new", "category": "segmentation"}),
    "get_or_create": lambda lab: {"dataset_path": lab / "new", "voxel_size": (1, 2, 3)},
    "open": lambda lab: {"dataset_path": lab / "brain"},
    "shallow_copy_dataset": lambda lab: {"new_dataset_path": lab / "view"},
}

SMALL = constant({"chunk_shape": 8, "chunks_per_shard": 4})
RAISES = "refused"
UM = VoxelSize((1.0, 1.0, 2.0), wk.LengthUnit.MICROMETER)


def _size_of(verb: str, *, first: str = "dataset_path") -> list[Row]:
    """Return rows of verbs that open or make a dataset."""
    return [
        Row(verb, first, lambda lab: lab / "else", lambda lab, ds: Path(ds.path).name, "else"),
        Row(verb, "voxel_size", constant((2, 2, 9)), of("voxel_size"), str(wk.Vec3Float(2, 2, 9))),
        Row(verb, "name", constant("mine"), of("name"), "mine"),
    ]


def _copies(verb: str) -> list[Row]:
    """Return rows of verbs that take a layer of another dataset."""
    return [
        Row(verb, "foreign_layer", lambda lab: lab / "other/far", of("name"), "far"),
        Row(verb, "new_layer_name", constant("em2"), of("name"), "em2"),
    ]


def _adds(verb: str) -> list[Row]:
    """Return rows of verbs that add a layer without magnifications."""
    three = constant({"category": "color", "num_channels": 3})
    return [
        Row(verb, "layer_name", constant("b"), of("name"), "b"),
        Row(verb, "category", constant("color"), of("category"), "color"),
        Row(verb, "dtype_per_layer", constant("uint16"), of("dtype"), "uint16"),
        Row(verb, "dtype_per_layer", constant("uint48"), of("dtype"), "uint16", three),
        Row(verb, "dtype_per_channel", constant("int32"), of("dtype"), "int32"),
        Row(verb, "num_channels", constant(3), of("num_channels"), "3", constant({"category": "color"})),
        Row(verb, "data_format", constant("wkw"), of("data_format"), "wkw"),
        Row(verb, "largest_segment_id", constant(2**60), of("largest_segment_id"), str(2**60)),
        Row(verb, "mappings", constant(["m"]), lambda lab, layer: list(layer.mappings or ()), ["m"]),
    ]


def _shapes(verb: str, look: Callable[[Callable[[Lab, Any], Any]], Any], *names: str) -> list[Row]:
    """Return rows of the shapes of chunks and shards."""
    rows = {
        "chunk_shape": (16, {"chunks_per_shard": 2}, ((16, 16, 16), (32, 32, 32))),
        "chunk_size": (16, {"chunks_per_shard": 2}, ((16, 16, 16), (32, 32, 32))),
        "block_len": (16, {"chunks_per_shard": 2}, ((16, 16, 16), (32, 32, 32))),
        "chunks_per_shard": (4, {"chunk_shape": 8}, ((8, 8, 8), (32, 32, 32))),
        "file_len": (4, {"chunk_shape": 8}, ((8, 8, 8), (32, 32, 32))),
    }
    return [Row(verb, name, constant(rows[name][0]), look(shape), rows[name][2], constant(rows[name][1])) for name in names]


def _layer(look: Callable[[Lab, Any], Any]) -> Callable[[Lab, Any], Any]:
    return look


def turned(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Lab, Any], bool]:
    """Return a look at whether the first layer's voxels are those of the stack after a change of (x, y, z)."""

    def look(lab: Lab, found: Any) -> bool:
        layer = found if isinstance(found, wk.Layer) else next(iter(found.layers.values()))
        stack = np.stack([tifffile.imread(path) for path in sorted((lab / "stack").iterdir())]).transpose(2, 1, 0)
        return np.array_equal(layer.get_finest_mag().read()[0], change(stack))

    return look


def _images(verb: str, look: Callable[[Callable[[Lab, Any], Any]], Any]) -> list[Row]:
    """Return rows of what both verbs that take images have."""
    return [
        Row(verb, "data_format", constant("wkw"), look(of("data_format")), "wkw", SMALL),
        *_shapes(verb, look, "chunk_shape", "chunks_per_shard"),
        Row(verb, "compress", constant(value=False), look(compression), expected=False),
        Row(verb, "swap_xy", constant(value=True), turned(lambda v: v.transpose(1, 0, 2)), expected=True),
        Row(verb, "flip_x", constant(value=True), turned(lambda v: v[::-1]), expected=True),
        Row(verb, "flip_y", constant(value=True), turned(lambda v: v[:, ::-1]), expected=True),
        Row(verb, "flip_z", constant(value=True), turned(lambda v: v[:, :, ::-1]), expected=True),
        Row(verb, "use_bioformats", constant(value=True), lambda lab, _: None, RAISES),
        Row(verb, "batch_size", constant(16), lambda lab, _: len(lab.submitted), 5, _sliced),
        Row(verb, "executor", lambda lab: lab, submitted, expected=True),
    ]


def _sliced(lab: Lab) -> dict[str, Any]:
    return {"chunk_shape": 8, "chunks_per_shard": (8, 8, 1), "executor": lab}


def _there(lab: Lab) -> dict[str, Any]:
    return {"dataset_path": lab / "brain", "voxel_size": (4, 4, 35)}


ROWS: list[Row] = [
    *_size_of("__init__"),
    Row("__init__", "exist_ok", constant(value=False), of("name"), RAISES, _there),
    Row("__init__", "exist_ok", constant(value=True), of("name"), RAISES, lambda lab: {**_there(lab), "voxel_size": None}),
    Row("__init__", "voxel_size_with_unit", constant(UM), of("voxel_size_with_unit"), str(UM), constant({"voxel_size": None})),
    Row("__init__", "scale", constant((5, 5, 5)), of("voxel_size"), str(wk.Vec3Float(5, 5, 5)), constant({"voxel_size": None})),
    Row("__init__", "read_only", constant(value=True), of("read_only"), "True", lambda lab: {**_there(lab), "exist_ok": True}),
    *_size_of("create"),
    *_size_of("get_or_create"),
    Row("open", "dataset_path", lambda lab: lab / "other", of("name"), "other"),
    *_copies("add_copy_layer"),
    *_shapes("add_copy_layer", _layer, "chunk_shape", "chunks_per_shard"),
    Row("add_copy_layer", "data_format", constant("wkw"), of("data_format"), "wkw"),
    Row("add_copy_layer", "compress", constant(value=False), compression, expected=False),
    Row("add_copy_layer", "executor", lambda lab: lab, submitted, expected=True),
    *_copies("add_fs_copy_layer"),
    *_copies("add_remote_layer"),
    *_copies("add_symlink_layer"),
    Row(
        "add_symlink_layer",
        "make_relative",
        constant(value=True),
        lambda lab, layer: str((lab / "brain" / layer.name).readlink()),
        "../other/near",
    ),
    *_adds("add_layer"),
    Row("add_layer", "bounding_box", constant(BOX), of("bounding_box"), str(BOX)),
    *_adds("get_or_add_layer"),
    Row("add_layer_for_existing_files", "layer_name", constant("lost"), of("name"), "lost"),
    Row("add_layer_for_existing_files", "category", constant("color"), of("category"), "color"),
    Row("add_layer_for_existing_files", "num_channels", constant(3), of("num_channels"), "3"),
    Row("add_layer_for_existing_files", "dtype_per_channel", constant("uint16"), of("dtype"), "uint16"),
    Row("add_layer_for_existing_files", "data_format", constant("wkw"), lambda lab, _: None, RAISES),
    Row(
        "add_layer_for_existing_files",
        "bounding_box",
        constant(wk.BoundingBox((0, 0, 0), (8, 8, 8))),
        lambda lab, layer: layer.bounding_box.size.to_tuple(),
        (8, 8, 8),
    ),
    Row("add_layer_for_existing_files", "largest_segment_id", constant(9), of("largest_segment_id"), "9"),
    Row(
        "add_layer_for_existing_files",
        "mappings",
        constant(["m"]),
        lambda lab, layer: list(layer.mappings or ()),
        ["m"],
    ),
    Row(
        "add_layer_like",
        "other_layer",
        lambda lab: lab.dataset().get_layer("cells"),
        of("category"),
        "segmentation",
    ),
    Row("add_layer_like", "layer_name", constant("b"), of("name"), "b"),
    Row("compress", "executor", lambda lab: lab, submitted, expected=True),
    Row("copy_dataset", "new_dataset_path", lambda lab: lab / "c", lambda lab, ds: Path(ds.path).name, "c"),
    Row("copy_dataset", "voxel_size", constant((1, 1, 2)), of("voxel_size"), str(wk.Vec3Float(1, 1, 2))),
    Row("copy_dataset", "voxel_size_with_unit", constant(UM), of("voxel_size_with_unit"), str(UM)),
    *_shapes("copy_dataset", _of_em, "chunk_shape", "chunks_per_shard", "chunk_size", "block_len", "file_len"),
    Row("copy_dataset", "data_format", constant("wkw"), _of_em(of("data_format")), "wkw"),
    Row("copy_dataset", "compress", constant(value=True), _of_em(compression), expected=True),
    Row("copy_dataset", "args", constant(Namespace(distribution_strategy="none")), lambda lab, _: None, RAISES),
    Row("copy_dataset", "executor", lambda lab: lab, submitted, expected=True),
    Row("delete_layer", "layer_name", constant("cells"), lambda lab, _: list(lab.dataset().layers), ["em"]),
    Row(
        "downsample",
        "sampling_mode",
        constant("isotropic"),
        lambda lab, _: list(map(str, lab.dataset().get_layer("em").mags)),
        ["1", "2", "4"],
        constant({"coarsest_mag": 4}),
    ),
    Row(
        "downsample",
        "coarsest_mag",
        constant(2),
        lambda lab, _: list(map(str, lab.dataset().get_layer("em").mags)),
        ["1", "2-2-1"],
    ),
    Row("downsample", "executor", lambda lab: lab, submitted, expected=True, beside=constant({"coarsest_mag": 2})),
    Row("get_layer", "layer_name", constant("cells"), of("name"), "cells"),
    Row(
        "shallow_copy_dataset",
        "new_dataset_path",
        lambda lab: lab / "v",
        lambda lab, ds: Path(ds.path).name,
        "v",
    ),
    Row("shallow_copy_dataset", "name", constant("mine"), of("name"), "mine"),
    Row(
        "shallow_copy_dataset",
        "make_relative",
        constant(value=True),
        lambda lab, _: (lab / "view/em").is_symlink() and str((lab / "view/em").readlink()),
        "../brain/em",
    ),
    Row("shallow_copy_dataset", "layers_to_ignore", constant(["em"]), lambda lab, ds: list(ds.layers), ["cells"]),
    *_images("add_layer_from_images", _layer),
    Row("add_layer_from_images", "images", lambda lab: lab / "dots", turned(lambda v: v), expected=False),
    Row("add_layer_from_images", "layer_name", constant("b"), of("name"), "b"),
    Row("add_layer_from_images", "category", constant("segmentation"), of("category"), "segmentation"),
    Row(
        "add_layer_from_images",
        "mag",
        constant("2-2-1"),
        lambda lab, layer: layer.bounding_box.size.to_tuple(),
        (68, 42, 9),
    ),
    Row(
        "add_layer_from_images",
        "topleft",
        constant((8, 16, 24)),
        lambda lab, layer: layer.bounding_box.topleft.to_tuple(),
        (8, 16, 24),
    ),
    Row("add_layer_from_images", "dtype", constant("uint16"), of("dtype"), "uint16"),
    Row(
        "add_layer_from_images",
        "channel",
        constant(1),
        lambda lab, layer: np.array_equal(layer.get_mag(1).read()[0].T, tifffile.imread(lab / "channels.tif")[:, 1]),
        expected=True,
        beside=lambda lab: {"images": lab / "channels.tif"},
    ),
    Row(
        "add_layer_from_images",
        "timepoint",
        constant(1),
        lambda lab, layer: np.array_equal(layer.get_mag(1).read()[0].T, tifffile.imread(lab / "hyper.tif")[1, :, 0]),
        expected=True,
        beside=lambda lab: {"images": lab / "hyper.tif", "channel": 0},
    ),
    Row("add_layer_from_images", "czi_channel", constant(1), lambda lab, _: None, RAISES),
    Row(
        "add_layer_from_images",
        "allow_multiple_layers",
        constant(value=True),
        lambda lab, _: len(lab.dataset().layers),
        4,
        lambda lab: {"images": lab / "channels.tif"},
    ),
    Row(
        "add_layer_from_images",
        "max_layers",
        constant(1),
        lambda lab, _: None,
        RAISES,
        lambda lab: {"images": lab / "channels.tif", "allow_multiple_layers": True},
    ),
    Row(
        "add_layer_from_images",
        "truncate_rgba_to_rgb",
        constant(value=False),
        lambda lab, _: len(lab.dataset().layers),
        6,
        lambda lab: {"images": lab / "rgba.tif", "allow_multiple_layers": True},
    ),
    *_shapes("add_layer_from_images", _layer, "chunk_size"),
    *_images("from_images", _of_em),
    Row("from_images", "input_path", lambda lab: lab / "dots", turned(lambda v: v), expected=False),
    Row("from_images", "output_path", lambda lab: lab / "else", lambda lab, ds: Path(ds.path).name, "else"),
    Row("from_images", "voxel_size", constant((2, 2, 9)), of("voxel_size"), str(wk.Vec3Float(2, 2, 9))),
    Row("from_images", "name", constant("mine"), of("name"), "mine"),
    Row(
        "from_images",
        "map_filepath_to_layer_name",
        constant(Mapping.ENFORCE_LAYER_PER_FILE),
        lambda lab, ds: len(ds.layers),
        9,
    ),
    Row(
        "from_images",
        "map_filepath_to_layer_name",
        constant(lambda path: f"at{int(path.stem[1:]) // 5}"),
        lambda lab, ds: sorted(ds.layers),
        ["at0", "at1"],
    ),
    Row(
        "from_images",
        "z_slices_sort_key",
        constant(lambda path: -int(path.stem[1:])),
        turned(lambda v: v[:, :, ::-1]),
        expected=True,
    ),
    Row(
        "from_images", "voxel_size_with_unit", constant(UM), of("voxel_size_with_unit"), str(UM), constant({"voxel_size": None})
    ),
    Row("from_images", "layer_name", constant("b"), lambda lab, ds: list(ds.layers), ["b"]),
    Row("from_images", "layer_category", constant("segmentation"), _of_em(of("category")), "segmentation"),
    Row(
        "from_images",
        "max_layers",
        constant(1),
        lambda lab, _: None,
        RAISES,
        lambda lab: {"input_path": lab / "tree", "map_filepath_to_layer_name": Mapping.ENFORCE_LAYER_PER_FILE},
    ),
]
