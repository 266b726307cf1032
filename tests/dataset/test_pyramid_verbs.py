"""The pyramid's verbs of layers and datasets: the spellings that scripts use, and what they mean."""

from __future__ import annotations

import inspect
import json
import subprocess

import numpy as np
import pytest

import wkdask as wk
from wkdask.errors import InputError, MagNotFoundError, ReadOnlyError
from wkdask.geometry import NDBoundingBox
from wkdask.operations import SamplingModes

SMALL = {"chunk_shape": 8, "shard_shape": 16}
VERBS = {
    "downsample": {
        *("from_mag", "coarsest_mag", "interpolation_mode", "compress", "sampling_mode", "align_with_other_layers"),
        *("buffer_shape", "chunk_shape", "shard_shape", "force_sampling_scheme", "allow_overwrite", "only_setup_mags"),
        *("from_mag_view", "executor"),
    },
    "downsample_mag": {
        *("from_mag", "target_mag", "interpolation_mode", "compress", "buffer_shape", "chunk_shape", "shard_shape"),
        *("allow_overwrite", "only_setup_mag", "from_mag_view", "executor"),
    },
    "downsample_mag_list": {
        *("from_mag", "target_mags", "interpolation_mode", "compress", "buffer_shape", "chunk_shape", "shard_shape"),
        *("allow_overwrite", "only_setup_mags", "executor"),
    },
    "redownsample": {"interpolation_mode", "compress", "buffer_shape", "chunk_shape", "shard_shape", "executor"},
}
WHOLE = {"sampling_mode", "coarsest_mag", "interpolation_mode", "compress", "executor"}
SIGNATURES = """
import inspect, json, webknossos as wk
names = {name: list(inspect.signature(getattr(wk.Layer, name)).parameters)[1:] for name in VERBS}
print("found:" + json.dumps([names, list(inspect.signature(wk.Dataset.downsample).parameters)[1:]]))
"""


def taken(function):
    return set(inspect.signature(function).parameters) - {"self"}


def test_the_reference_s_parameters_are_taken():
    for name, parameters in VERBS.items():
        assert parameters <= taken(getattr(wk.Layer, name)), name
    assert taken(wk.Dataset.downsample) == WHOLE


@pytest.mark.oracle("webknossos")
def test_the_reference_has_no_others(webknossos_python):
    program = SIGNATURES.replace("VERBS", repr(list(VERBS)))
    done = subprocess.run([webknossos_python, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    found, whole = json.loads(done.stdout.rpartition("found:")[2])
    assert {name: set(parameters) for name, parameters in found.items()} == VERBS
    assert set(whole) == WHOLE


def read(layer, mag):
    array = layer.get_mag(mag).array
    return array.read(array.box)


@pytest.fixture
def finest(dataset, voxels):
    """A layer of one magnification."""
    layer = dataset.add_layer("cells", "segmentation", bounding_box=wk.BoundingBox((8, 4, 2), voxels.shape))
    layer.add_mag(1, **SMALL).write(voxels)
    return layer


def test_spellings_do_what_they_say(finest):
    ignored = {"executor": "sync", "buffer_shape": (64, 64, 64)}
    finest.downsample(coarsest_mag=2, sampling_mode="isotropic", chunk_shape=8, chunks_per_shard=4, **ignored)
    assert finest.get_mag(2).spec.unit == (1, 32, 32, 32)
    finest.downsample(coarsest_mag=4, sampling_mode="isotropic", force_sampling_scheme=True, **SMALL)
    finest.downsample_mag(1, "4-4-2", chunk_shape=8, chunks_per_shard=(1, 2, 4), **ignored)
    assert finest.get_mag("4-4-2").spec.unit == (1, 8, 16, 32) and finest.get_mag("4-4-2").spec.chunk == (1, 8, 8, 8)
    finest.downsample_mag(1, 8, chunk_shape=16, shard_shape=64, **ignored)
    assert finest.get_mag(8).spec.unit == (1, 64, 64, 64) and finest.get_mag(8).spec.chunk == (1, 16, 16, 16)
    finest.downsample_mag_list(8, [32, 16], chunk_shape=8, chunks_per_shard=2, **ignored)
    assert [finest.get_mag(mag).spec.unit[1] for mag in (16, 32)] == [16, 16]
    with pytest.raises(InputError, match=r"chunks_per_shard and shard_shape were given"):
        finest.downsample_mag(1, 64, shard_shape=16, chunks_per_shard=2)


def test_redownsample_takes_what_scripts_give(layer, mag, voxels):
    layer.redownsample("median", True, executor=None, buffer_shape=64, chunk_shape=16, shard_shape=32)
    found = read(layer, "2-2-1")
    assert found.any()
    layer.redownsample()
    np.testing.assert_array_equal(read(layer, "2-2-1"), found)


@pytest.mark.parametrize("mode", ["MAX", "Max", "max"])
def test_interpolation_modes_in_any_case(finest, voxels, mode):
    finest.downsample_mag(1, 2, mode)
    np.testing.assert_array_equal(read(finest, 2)[0], voxels.reshape(20, 2, 12, 2, 10, 2).max((1, 3, 5)))
    finest.redownsample(mode)
    finest.update_pyramid(finest.bounding_box, mode)
    np.testing.assert_array_equal(read(finest, 2)[0], voxels.reshape(20, 2, 12, 2, 10, 2).max((1, 3, 5)))


def test_a_view_says_where_to_start(finest, layer, tmp_path):
    finest.downsample_mag(1, 2, "max")
    view = finest.get_mag(2)
    finest.get_mag(1).write(np.zeros((40, 24, 20), "uint8"))  # so that what is made of mag 2 tells
    finest.downsample(from_mag_view=view, coarsest_mag=4, sampling_mode="isotropic")
    finest.downsample_mag(2, 8, from_mag_view=view)
    finest.downsample_mag_list(None, [16], from_mag_view=wk.Dataset.open(tmp_path / "ds").get_layer("cells").get_mag(2))
    assert all(read(finest, mag).any() for mag in (4, 8, 16))
    with pytest.raises(InputError, match="from_mag is 1, but from_mag_view is mag 2"):
        finest.downsample_mag(1, 32, from_mag_view=view)
    with pytest.raises(InputError, match=r"a magnification of layer 'em' of .*, not of layer 'cells'"):
        finest.downsample_mag(1, 32, from_mag_view=layer.get_mag(1))
    other = wk.Dataset(tmp_path / "other", (4, 4, 35)).add_layer("cells", "color")
    with pytest.raises(InputError, match=r"of layer 'cells' of .*other, not of layer 'cells' of .*ds"):
        finest.downsample(from_mag_view=other.add_mag(1))


def test_all_layers_at_once(dataset, finest, layer, mag):
    empty = dataset.add_layer("empty", "color")
    dataset.downsample("isotropic", 8, interpolation_mode="MIN", compress=False, executor=None)
    assert [str(m) for m in finest.mags] == ["1", "2-2-1", "4-4-2", "8-8-4"]  # as the mag that the other has
    assert [str(m) for m in layer.mags] == ["1", "2-2-1", "4-4-2", "8-8-4"]
    assert not empty.mags
    assert finest.get_mag("8-8-4").spec.codec is None
    whole = read(finest, 1)[0].reshape(5, 8, 3, 8, 20)
    assert read(finest, "8-8-4")[0].min() == whole.min()
    plain = wk.Dataset.open(dataset.path)
    plain.downsample()  # of larger images there would be more
    assert [str(m) for m in finest.mags] == ["1", "2-2-1", "4-4-2", "8-8-4"]
    with pytest.raises(ReadOnlyError):
        wk.Dataset.open(dataset.path, read_only=True).downsample()
    with pytest.raises(MagNotFoundError):
        empty.downsample()
    with pytest.raises(InputError, match="sampling mode"):
        dataset.downsample("round")
    dataset.downsample(SamplingModes.CONSTANT_Z, wk.Mag(16))
    assert str(list(layer.mags)[-1]) == "16-16-4"


def test_all_layers_but_links(finest, tmp_path):
    """A link in front of them keeps no layer from its magnifications."""
    other = wk.Dataset(tmp_path / "linking", (4, 4, 35))
    other.add_symlink_layer(finest, new_layer_name="link")
    own = other.add_layer_as_copy(finest, "own")
    with pytest.raises(ReadOnlyError, match="link"):
        other.downsample(coarsest_mag=4)
    assert len(own.mags) > 1 and [str(m) for m in finest.mags] == ["1"]


BOX = (10, 6, 2), (5, 4, 3)


@pytest.mark.parametrize(
    "box",
    [
        wk.BoundingBox(*BOX),
        BOX,
        [list(BOX[0]), list(BOX[1])],
        (*BOX[0], *BOX[1]),
        np.array([*BOX[0], *BOX[1]]),
        "10,6,2,5,4,3",
        {"topLeft": BOX[0], "width": 5, "height": 4, "depth": 3},
        NDBoundingBox((3, 2, 10, 6), (1, 3, 5, 4), ("t", "z", "x", "y"), (0, 3, 1, 2)),
    ],
    ids=lambda box: type(box).__name__,
)
def test_boxes_in_any_spelling(layer, mag, voxels, box):
    layer.redownsample("max")
    before = read(layer, "2-2-1")
    mag.write(np.full(BOX[1], 255, "uint8"), absolute_offset=BOX[0])
    layer.update_pyramid(box, "max")
    found = read(layer, "2-2-1")
    assert (found != before).any()
    layer.redownsample("max")
    np.testing.assert_array_equal(read(layer, "2-2-1"), found)


@pytest.mark.parametrize(
    "box", [None, 7, (), (1, 2), ((0, 0), (1, 1)), (1, 2, 3, 4, 5), "x", "{}", {}, object(), ((0, 0, 0), None)]
)
def test_what_is_no_box(layer, mag, box):
    with pytest.raises(InputError):
        layer.update_pyramid(box)


def test_an_older_spelling_of_shards_tells_the_new_one(finest):
    shards = {"chunk_shape": 8, "chunks_per_shard": 2, "only_setup_mag": True}
    verbs = [
        lambda: finest.downsample_mag(1, 2, **shards),
        lambda: finest.downsample_mag_list(2, [4], chunk_shape=8, chunks_per_shard=2, only_setup_mags=True),
        lambda: finest.downsample(coarsest_mag=8, sampling_mode="isotropic", chunk_shape=8, chunks_per_shard=2),
    ]
    for verb in verbs:
        with pytest.warns(DeprecationWarning, match="shard_shape, which is in voxels") as told:
            verb()
        assert [warning.filename for warning in told if warning.category is DeprecationWarning] == [__file__]


def test_errors_of_mags_are_of_both_kinds(finest):
    finest.downsample_mag(1, 2, **SMALL)
    for kind in (KeyError, IndexError):
        with pytest.raises(kind, match=r"^Layer 'cells' has no magnification 16"):
            finest.downsample(from_mag=16)
    for kind in (ValueError, IndexError):
        with pytest.raises(kind, match="has a magnification 2 already"):
            finest.downsample_mag(1, 2)


def test_copies_are_called_as_scripts_say(dataset, finest, caplog):
    other = dataset.add_layer_like(finest, "other")
    with caplog.at_level("DEBUG", "wkdask"):
        other.add_mag_as_copy(finest.get_mag(1), progress_desc="moving cells")
    assert "moving cells" in caplog.text
    with pytest.warns(DeprecationWarning, match="add_mag_as_copy"):
        assert other.add_copy_mag(finest.get_mag(1), exists_ok=True).mag == 1
    third = dataset.add_layer_like(finest, "third")
    with pytest.warns(DeprecationWarning, match="add_mag_as_copy"):
        assert third.add_copy_mag(finest.get_mag(1), chunk_shape=8, shard_shape=32).spec.unit == (1, 32, 32, 32)
