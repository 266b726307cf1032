"""Datasets that the verbs of layers, magnifications and attachments have had a hand in: both libraries see the same in them.

The same script makes them by either library; each then tells what it sees of all.
"""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

import wkdask as wk
from wkdask.errors import ReadOnlyError

# What a dataset holds, told in the same words by a program of either library.
SEEN = """
import json, sys, warnings, zlib
import numpy as np
warnings.simplefilter("ignore")
wk = __import__(sys.argv[1])
def seen(place):
    ds = wk.Dataset.open(place)
    told = {"name": ds.name, "voxel_size": list(ds.voxel_size), "zoom": ds.default_view_configuration and
            ds.default_view_configuration.zoom, "layers": {}}
    for name, layer in ds.layers.items():
        view = layer.default_view_configuration
        steps = [[type(t).__name__, np.asarray(t.matrix if hasattr(t, "matrix") else [t.source, t.target], float).tolist()]
                 for t in layer.coordinate_transformations or ()]
        attachments = [[type(a).__name__, a.name, str(a.path), str(getattr(a.data_format, "value", a.data_format))]
                       for a in getattr(layer, "attachments", ())]
        told["layers"][name] = {
            "category": str(layer.category), "dtype": str(np.dtype(layer.dtype)), "channels": layer.num_channels,
            "format": str(getattr(layer.data_format, "value", layer.data_format)),
            "box": [*layer.bounding_box.topleft, *layer.bounding_box.size],
            "largest": getattr(layer, "largest_segment_id", None),
            "view": view and [view.color and list(view.color), view.alpha],
            "steps": steps, "attachments": sorted(attachments),
            "mags": {str(m): [list(v.info.chunk_shape), list(v.info.shard_shape),
                              zlib.crc32(np.ascontiguousarray(v.read(absolute_bounding_box=v.bounding_box).T))]
                     for m, v in layer.mags.items()},
        }
    return told
print(json.dumps([seen(place) for place in sys.argv[2:]]))
"""

# In words that both libraries share; `voxels.npy` is uint8, (x, y, z).
MAKE = """
import sys, warnings
from pathlib import Path
import numpy as np
warnings.simplefilter("ignore")
wk = __import__(sys.argv[1])
if __name__ == "__main__":
    folder, voxels = Path(sys.argv[2]), np.load(sys.argv[3])
    box, small, here = wk.BoundingBox((0, 0, 0), voxels.shape), {"chunk_shape": 32, "shard_shape": 64}, {}
    if sys.argv[1] == "webknossos":  # else it starts processes anew for each verb
        import cluster_tools
        here["executor"] = cluster_tools.get_executor("sequential")
    source = wk.Dataset(folder / "source", voxel_size=(4, 4, 35))
    em = source.write_layer("em", "color", voxels, downsample=False, **small)
    cells = source.write_layer("cells", "segmentation", voxels.astype("uint32"), downsample=False, **small)
    cells.largest_segment_id = 2**60
    kinds = ((wk.MeshAttachment, "hdf5"), (wk.ConnectomeAttachment, "hdf5"), (wk.SegmentIndexAttachment, "hdf5"),
             (wk.CumsumAttachment, "json"))
    for kind, form in kinds:
        place = folder / f"outside.{form}"
        place.write_text("{}")
        form = next(f for f in wk.AttachmentDataFormat if str(getattr(f, "value", f)) == form)
        cells.attachments.add_attachment_as_ref(kind.from_path_and_name(place, "one", data_format=form))
    cells.attachments.rename_attachment(cells.attachments.meshes[0], new_name="renamed")
    cells.attachments.delete_attachment(cells.attachments.connectomes[0])
    em.downsample(coarsest_mag=wk.Mag(4), compress=True, **small, **here)
    em.default_view_configuration = wk.LayerViewConfiguration(color=(1, 2, 3), alpha=50)
    em.coordinate_transformations = [wk.AffineCoordinateTransformation.from_rotation("z", 90).translate((1, 2, 3))]

    ds = wk.Dataset(folder / "all", voxel_size=(4, 4, 35), name="before")
    ds.name = "after"
    ds.default_view_configuration = wk.DatasetViewConfiguration(zoom=0.5)
    ds.add_layer_as_copy(cells, "cells", **here)
    ds.add_layer_as_copy(em, "wkw", **small, data_format="wkw", compress=False, **here)
    ds.compress(**here)
    ds.add_layer_as_ref(em, "shown")
    ds.add_symlink_layer(em, new_layer_name="linked", make_relative=True)
    mixed = ds.add_layer("mixed", "color", dtype="uint8", bounding_box=box)
    mixed.add_mag(1, **small).write(voxels)
    mixed.add_mag_as_copy(em.get_mag("2-2-1"), mag="4-4-2", **here)
    mixed.add_mag_as_ref(em.get_mag("4-4-1") if "4-4-1" in map(str, em.mags) else em.get_mag("2-2-1"), mag="8-8-4")
    mixed.add_mag(16, **small)
    mixed.delete_mag(16)
    mixed.name = "renamed"
    bits = ds.add_layer("bits", "color", dtype="uint8", bounding_box=box)
    mag = bits.add_mag(1, chunk_shape=32, shard_shape=32)
    mag.write(voxels[:32, :32, :32], absolute_offset=(0, 0, 0), allow_unaligned=True)
    mag.write(voxels[:8, :8, :8], absolute_offset=(60, 60, 40), allow_resize=True, allow_unaligned=True)
    with mag.get_buffered_slice_writer(absolute_offset=(32, 0, 0), buffer_size=32, allow_unaligned=True) as writer:
        for z in range(32):
            writer.send(voxels[32:, :32, z])
    bits.bounding_box = wk.BoundingBox((0, 0, 0), (72, 66, 44))
    mag.rechunk(**small, **here)
    bits.downsample_mag_list(wk.Mag(1), [wk.Mag("2-2-1"), wk.Mag("4-4-2")], **small, **here)
    bits.redownsample(**small, **here)
    up = ds.add_layer("up", "segmentation", dtype="uint8", bounding_box=box)
    up.add_mag(2, **small).write(voxels[::2, ::2, ::2], absolute_offset=(0, 0, 0), allow_unaligned=True)
    up.upsample(from_mag=wk.Mag(2), finest_mag=wk.Mag(1), align_with_other_layers=False, **small, **here)
    ds.add_layer_like(em, "like")
    ds.delete_layer("like")
"""


# What is done to datasets of the reference library, which must not change what they refer to; `voxels.npy` is theirs, too.
def do_verbs(folder: Path, voxels: np.ndarray) -> None:
    ds = wk.Dataset.open(folder / "all")
    originals = {path: path.read_bytes() for path in (folder / "source").rglob("*") if path.is_file()}
    for name in ("shown", "linked"):
        with pytest.raises(ReadOnlyError):
            ds.get_layer(name).get_mag(1).write(voxels, absolute_offset=(0, 0, 0))
    for name in ("wkw", "cells", "renamed"):  # WKW, and both codecs of Zarr
        mag = ds.get_layer(name).get_mag(1)
        mag.write((255 - voxels).astype(mag.get_dtype()), absolute_offset=(0, 0, 0), allow_unaligned=True)
        assert (mag.read(absolute_offset=(0, 0, 0))[0, :64, :64, :32] == 255 - voxels).all()
    ds.get_layer("bits").redownsample()
    ds.get_layer("renamed").name = "again"
    ds.get_layer("cells").name = "ids"
    ds.get_layer("ids").attachments.rename_attachment(ds.get_layer("ids").attachments.meshes[0], new_name="mesh")
    ds.add_layer_as_copy(ds.get_layer("linked"), "copied")
    for name in ("up", "linked", "shown"):
        ds.delete_layer(name)
    ds.shallow_copy_dataset(folder / "shallow")
    ds.copy_dataset(folder / "copied")
    assert {path: path.read_bytes() for path in (folder / "source").rglob("*") if path.is_file()} == originals


def told(python: Path, code: str, *arguments: object) -> list[dict[str, Any]]:
    """Run a program of the reference library; return the datasets that it tells of."""
    command = [str(python), "-W", "ignore", "-c", code, "webknossos", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def here(code: str, *arguments: object) -> str:
    """Run the same here; return what it prints."""
    output = io.StringIO()
    with mock.patch.object(sys, "argv", ["-c", "wkdask", *map(str, arguments)]), contextlib.redirect_stdout(output):
        exec(code, {"__name__": "__main__"})
    return output.getvalue()


def compare(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert one["layers"].keys() == other["layers"].keys()
        for name in one["layers"]:
            assert one["layers"][name] == other["layers"][name]
        assert one == other


@pytest.mark.oracle("webknossos")
def test_both_libraries_see_the_same_in_datasets_of_every_verb(tmp_path, webknossos_python):
    ours, theirs, voxels = tmp_path / "ours", tmp_path / "theirs", tmp_path / "voxels.npy"
    np.save(voxels, np.random.default_rng(8).integers(1, 255, (64, 64, 32)).astype("uint8"))
    ours.mkdir(), theirs.mkdir()
    here(MAKE, ours, voxels)
    places = [folder / name for folder in (ours, theirs) for name in ("source", "all")]
    both = f"{MAKE}\n    sys.argv[2:] = {list(map(str, places))}\n{SEEN}"  # one start of the reference library takes seconds
    seen = told(webknossos_python, both, theirs, voxels)
    compare(json.loads(here(SEEN, *places)), seen)
    assert [len(dataset["layers"]) for dataset in seen] == [2, 7, 2, 7]
    do_verbs(theirs, np.load(voxels))
    places = [theirs / name for name in ("source", "all", "shallow", "copied")]
    seen = told(webknossos_python, SEEN, *places)
    compare(json.loads(here(SEEN, *places)), seen)
    assert [sorted(dataset["layers"]) for dataset in seen[1:]] == [["again", "bits", "copied", "ids", "wkw"]] * 3
