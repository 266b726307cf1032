"""Small datasets that are copied or stored anew, and what they must hold."""

from __future__ import annotations

import numpy as np

import wkdask as wk
from wkdask.formats import FORMATS
from wkdask.metadata import LayerProperties

BOX = ((3, 5, 1), (33, 26, 20))
SHAPES = {name: {"chunk_shape": 8, **({"shard_shape": 16} if form.sharded else {})} for name, form in FORMATS.items()}


def noise(shape, dtype, seed=0):
    found = np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)
    found[..., : shape[-1] // 2, :] = 0  # so that some units are not stored
    return found


def make(folder, box, form="zarr3", *, dtype="uint8", channels=1, mags=("1", "2-2-1"), times=0, category="color", **options):
    """A dataset with a layer "em"; return its voxels by mag."""
    dataset = wk.Dataset(folder, (4, 4, 35))
    axes = [("t", (0, times), 0)] if times else []
    layer = LayerProperties.new("em", category, dtype, channels, form, box, axes)
    layer = layer.with_view_configuration(alpha=20, color=(1, 2, 3))
    dataset._store.update(lambda old: old.with_layer(layer))
    found = {}
    for mag in mags:
        array = dataset.get_layer("em").add_mag(mag, **{**SHAPES[form], **options}).array
        found[mag] = noise(array.box.shape, dtype, len(found))
        array.handle.write(array.box, found[mag])
    return found


def check(target, wanted, name="em"):
    layer = wk.Dataset.open(target).get_layer(name)
    assert [str(mag) for mag in layer.mags] == list(wanted)
    for mag, volume in wanted.items():
        array = layer.get_mag(mag).array
        np.testing.assert_array_equal(array.read(array.box), volume, err_msg=mag)
    return layer
